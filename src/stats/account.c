/* SPDX-License-Identifier: Apache-2.0 */
/* Slopes of live and held bytes on one clock, with an equivalence test for "level". Start:
 * tt_stats_account. */
#include <errno.h>
#include <math.h>

#include "stats/account.h"

struct slope {
    double value, sd;
};

/* Increment i of the series, freed of the mean slope. */
static double residual(const double *clock, const double *y, size_t i, double slope)
{
    return y[i + 1] - y[i] - slope * (clock[i + 1] - clock[i]);
}

/* Total increment over total clock. The variance of a sum of m dependent increments is m times
 * their long-run variance (Newey & West 1987, Bartlett weights, m^(1/3) lags). The increments of a
 * level series with noise cancel each other; the floor keeps the noise of the two end points. */
static struct slope slope_of(const double *clock, const double *y, size_t n)
{
    size_t m = n - 1, lags = (size_t)cbrt((double)m);
    double span = clock[n - 1] - clock[0], slope = (y[n - 1] - y[0]) / span;
    double variance = 0, own = 0;
    for (size_t lag = 0; lag <= lags; lag++) {
        double sum = 0;
        for (size_t i = lag; i < m; i++)
            sum += residual(clock, y, i, slope) * residual(clock, y, i - lag, slope);
        if (lag == 0)
            own = sum / (double)m;
        variance += sum * (lag ? 2 * (1 - (double)lag / (double)(lags + 1)) : 1);
    }
    return (struct slope){slope, sqrt(fmax(variance, own)) / span};
}

int tt_stats_account(const double *clock, const double *live, const double *held, size_t n,
                     double delta, struct tt_stats_account *out)
{
    *out = (struct tt_stats_account){0};
    if (n < 8 || !(clock[n - 1] > clock[0]))
        return -EINVAL;
    struct slope l = slope_of(clock, live, n), h = slope_of(clock, held, n);
    double t = tt_stats_student_quantile(0.95, (double)(n - 2));
    out->live_slope = l.value;
    out->held_slope = h.value;
    out->live_interval = (struct tt_stats_interval){l.value - t * l.sd, l.value + t * l.sd};
    out->held_interval = (struct tt_stats_interval){h.value - t * h.sd, h.value + t * h.sd};
    bool live_level = out->live_interval.lo >= -delta && out->live_interval.hi <= delta;
    if (out->live_interval.lo > delta)
        out->class = TT_STATS_ACCOUNT_GROWTH;
    else if (live_level && out->held_interval.lo > delta)
        out->class = TT_STATS_ACCOUNT_FRAGMENTATION;
    else if (live_level && out->held_interval.hi <= delta)
        out->class = TT_STATS_ACCOUNT_LEVEL;
    return 0;
}
