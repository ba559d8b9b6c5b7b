/* SPDX-License-Identifier: Apache-2.0 */
/* Live units against a load gauge, and the classical trend tests kept as baselines. Declared in
 * trend.h. Start: tt_stats_trend_load. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "stats/linear.h"
#include "stats/trend.h"

/* One regression of units on 1, gauge[t - lag], and optionally ops, over t = skip..n-1. Columns are
 * centred, so the constant costs no digits. */
struct regression {
    const double *units, *gauge, *ops; /* ops may be NULL */
    size_t n, lag, skip;
    double mean_units, mean_gauge, mean_ops;
    double beta[2], inverse[2];
    double rss, tss;
};

static double residual(const struct regression *r, size_t t)
{
    double e = r->units[t] - r->mean_units - r->beta[0] * (r->gauge[t - r->lag] - r->mean_gauge);
    return r->ops ? e - r->beta[1] * (r->ops[t] - r->mean_ops) : e;
}

static int regress(struct regression *r)
{
    struct tt_stats_normal normal = {.k = r->ops ? 2 : 1};
    double m = (double)(r->n - r->skip);
    r->mean_units = r->mean_gauge = r->mean_ops = r->rss = r->tss = 0;
    for (size_t t = r->skip; t < r->n; t++) {
        r->mean_units += r->units[t] / m;
        r->mean_gauge += r->gauge[t - r->lag] / m;
        r->mean_ops += r->ops ? r->ops[t] / m : 0;
    }
    for (size_t t = r->skip; t < r->n; t++) {
        double x[2] = {r->gauge[t - r->lag] - r->mean_gauge, r->ops ? r->ops[t] - r->mean_ops : 0};
        double y = r->units[t] - r->mean_units;
        tt_stats_normal_add(&normal, x, y, 1);
        r->tss += y * y;
    }
    if (normal.xx[0][0] <= 1e-20 * m * r->mean_gauge * r->mean_gauge)
        return -EDOM; /* the gauge does not vary; what is left is rounding */
    int err = tt_stats_normal_solve(&normal, r->beta, r->inverse);
    if (err < 0)
        return err;
    for (size_t t = r->skip; t < r->n; t++)
        r->rss += residual(r, t) * residual(r, t);
    return 0;
}

int tt_stats_trend_load(const double *units, const double *gauge, const double *ops, size_t n,
                        size_t max_lag, double level, double bound, struct tt_stats_load *out)
{
    *out = (struct tt_stats_load){.growth = NAN, .growth_interval = {-INFINITY, INFINITY}};
    if (n < 8 || max_lag >= n / 2)
        return -EINVAL;
    /* all lags see the same samples, so their residual sums compare */
    struct regression best = {units, gauge, ops, n, 0, max_lag, .rss = INFINITY}, alone;
    for (size_t lag = 0; lag <= max_lag; lag++) {
        struct regression r = {units, gauge, ops, n, lag, max_lag, .rss = 0};
        if (regress(&r) == 0 && r.rss < best.rss)
            best = r;
    }
    if (!isfinite(best.rss))
        return 0; /* gauge or operations stand still, or move as one */
    alone = best;
    alone.ops = NULL;
    if (regress(&alone) == 0 && alone.tss > 0)
        out->r2 = 1 - alone.rss / alone.tss;

    double m = (double)(n - max_lag), cross = 0;
    for (size_t t = max_lag + 1; t < n; t++)
        cross += residual(&best, t) * residual(&best, t - 1);
    out->phi = best.rss > 0 ? fmin(fmax(cross / best.rss, 0), 0.98) : 0;
    /* Residuals of autocorrelation phi carry m (1-phi)/(1+phi) independent samples' worth. */
    double inflation = (1 + out->phi) / (1 - out->phi);
    double sd = sqrt(best.rss / (m - 3) * best.inverse[1] * inflation);
    double t = tt_stats_student_quantile(0.5 + level / 2, fmax(1, m / inflation - 3));
    out->lag = best.lag;
    out->per_gauge = best.beta[0];
    out->growth = best.beta[1];
    out->growth_interval = (struct tt_stats_interval){out->growth - t * sd, out->growth + t * sd};
    out->enough = m >= 20;
    out->following = out->enough && out->r2 >= 0.5 && out->growth_interval.hi <= bound;
    return 0;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int tt_stats_trend_theil_sen(const double *x, const double *y, size_t n, double level,
                             struct tt_stats_slope *out)
{
    size_t pairs = 0;
    if (n < 3 || n > 500)
        return -EINVAL;
    double *slope = calloc(n * (n - 1) / 2, sizeof *slope);
    if (!slope)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++)
        for (size_t j = i + 1; j < n; j++)
            if (x[j] != x[i])
                slope[pairs++] = (y[j] - y[i]) / (x[j] - x[i]);
    if (pairs == 0) {
        free(slope);
        return -EINVAL;
    }
    qsort(slope, pairs, sizeof *slope, ascending);
    double last = (double)(pairs - 1), dn = (double)n;
    double reach =
        tt_stats_normal_quantile(0.5 + level / 2) * sqrt(dn * (dn - 1) * (2 * dn + 5) / 18);
    out->slope = (slope[(pairs - 1) / 2] + slope[pairs / 2]) / 2;
    out->interval.lo = slope[(size_t)fmax(0, floor((last - reach) / 2))];
    out->interval.hi = slope[(size_t)fmin(last, ceil((last + reach) / 2))];
    free(slope);
    return 0;
}

double tt_stats_trend_mann_kendall(const double *y, size_t n)
{
    double s = 0, dn = (double)n, variance = dn * (dn - 1) * (2 * dn + 5) / 18;
    for (size_t i = 0; i < n; i++)
        for (size_t j = i + 1; j < n; j++)
            s += (y[j] > y[i]) - (y[j] < y[i]);
    if (s == 0 || !(variance > 0))
        return 0;
    return (s > 0 ? s - 1 : s + 1) / sqrt(variance);
}
