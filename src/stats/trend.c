/* SPDX-License-Identifier: Apache-2.0 */
/* The power-law (Crow-AMSAA) model of retained births on the clock of operations, from exact event
 * times (MIL-HDBK-189C section 6.2) or from counts in groups. Start: tt_stats_trend_power_law. The
 * load regression and the baselines stand in load.c. */
#include <math.h>

#include "stats/trend.h"

const char *tt_stats_trend_word(enum tt_stats_trend_class class)
{
    static const char *const word[] = {"undetermined", "saturating", "steady", "accelerating"};
    return word[class];
}

static enum tt_stats_trend_class classify(double beta, const struct tt_stats_interval *interval)
{
    if (!isfinite(beta))
        return TT_STATS_TREND_UNDETERMINED;
    if (interval->hi < 0.8)
        return TT_STATS_TREND_SATURATING;
    if (interval->lo > 1.2)
        return TT_STATS_TREND_ACCELERATING;
    bool holds_one = interval->lo <= 1 && interval->hi >= 1;
    if (interval->lo > 0.8 && (holds_one || interval->hi < 1.25))
        return TT_STATS_TREND_STEADY;
    return TT_STATS_TREND_UNDETERMINED;
}

void tt_stats_trend_power_law(const double *t, size_t k, double end, double level,
                              struct tt_stats_trend *out)
{
    double sum = 0, tail = (1 - level) / 2, df = 2 * (double)k;
    *out = (struct tt_stats_trend){
        .beta = NAN, .interval = {0, INFINITY}, .events = (double)k, .dispersion = 1};
    for (size_t i = 0; i < k; i++)
        sum += log(end / fmin(fmax(t[i], 0.5), end));
    if (k == 0 || !(sum > 0))
        return;
    /* 2 k beta / beta_hat = 2 beta sum ~ chi2 with 2k degrees of freedom */
    out->beta = (double)k / sum;
    out->interval.lo = tt_stats_chi2_quantile(tail, df) / (2 * sum);
    out->interval.hi = tt_stats_chi2_quantile(1 - tail, df) / (2 * sum);
    out->class = classify(out->beta, &out->interval);
}

/* Groups of one fit; `from` is subtracted from every edge (restart of the clock). */
struct groups {
    const double *edges, *count;
    size_t first, end; /* groups first..end-1 */
    double from;
};

/* Steps to the next group that has operations: its ends, and the count of it and of the empty ones
 * merged into it. False at the end. */
static bool next_group(const struct groups *g, size_t *i, double *lo, double *hi, double *count)
{
    *count = 0;
    while (*i < g->end) {
        size_t at = (*i)++;
        *count += g->count[at];
        *lo = g->edges[at] - g->from;
        *hi = g->edges[at + 1] - g->from;
        if (*hi > *lo)
            return true;
    }
    return false;
}

/* Log-likelihood of beta given the total: multinomial with cells proportional to hi^b - lo^b. */
static double log_likelihood(const struct groups *g, double beta)
{
    double end = g->edges[g->end] - g->from, start = g->edges[g->first] - g->from;
    double all = -expm1(beta * log(start / end)), sum = 0, lo, hi, count;
    for (size_t i = g->first; next_group(g, &i, &lo, &hi, &count);) {
        if (count > 0) {
            /* (hi/end)^b (1 - (lo/hi)^b) */
            double cell = lo > 0 ? log(-expm1(beta * log(lo / hi))) : 0;
            sum += count * (beta * log(hi / end) + cell - log(all));
        }
    }
    return sum;
}

/* Pearson chi2/df at beta; groups are pooled until 5 births are expected. */
static double dispersion(const struct groups *g, double beta, double total)
{
    double end = g->edges[g->end] - g->from, start = g->edges[g->first] - g->from;
    double all = -expm1(beta * log(start / end)), chi2 = 0, seen = 0, due = 0, lo, hi, count;
    int cells = 0;
    for (size_t i = g->first; next_group(g, &i, &lo, &hi, &count);) {
        seen += count;
        due += total * (pow(hi / end, beta) - pow(lo / end, beta)) / all;
        if (due >= 5) {
            chi2 += (seen - due) * (seen - due) / due;
            cells++;
            seen = due = 0;
        }
    }
    return cells > 2 ? fmax(1, chi2 / (cells - 2)) : 1;
}

/* Where the likelihood has fallen by `drop` on the side of `away` (0 or a large beta). */
static double likelihood_bound(const struct groups *g, double best, double away, double drop)
{
    double goal = log_likelihood(g, best) - drop, inside = best, outside = away;
    if (log_likelihood(g, away) >= goal)
        return away;
    for (int i = 0; i < 200 && fabs(outside - inside) > 1e-12 * best; i++) {
        double mid = inside + (outside - inside) / 2;
        if (log_likelihood(g, mid) >= goal)
            inside = mid;
        else
            outside = mid;
    }
    return inside;
}

static void fit_groups(const struct groups *g, double level, struct tt_stats_trend *out)
{
    const double low = 1e-4, high = 1e3, golden = 0.6180339887498949;
    double total = 0;
    size_t cells = 0;
    *out = (struct tt_stats_trend){.beta = NAN, .interval = {0, INFINITY}, .dispersion = 1};
    for (size_t i = g->first; i < g->end; i++) {
        total += g->count[i];
        cells += g->edges[i + 1] > g->edges[i];
    }
    out->events = total;
    if (cells < 2 || !(total > 0))
        return;
    /* the likelihood is unimodal in ln beta: golden section */
    double a = log(low), b = log(high);
    double c = b - golden * (b - a), d = a + golden * (b - a);
    double at_c = log_likelihood(g, exp(c)), at_d = log_likelihood(g, exp(d));
    while (b - a > 1e-9) {
        if (at_c >= at_d) {
            b = d;
            d = c;
            at_d = at_c;
            c = b - golden * (b - a);
            at_c = log_likelihood(g, exp(c));
        } else {
            a = c;
            c = d;
            at_c = at_d;
            d = a + golden * (b - a);
            at_d = log_likelihood(g, exp(d));
        }
    }
    out->beta = exp((a + b) / 2);
    out->dispersion = dispersion(g, out->beta, total);
    double drop = tt_stats_chi2_quantile(level, 1) / 2 * out->dispersion;
    out->interval.lo = likelihood_bound(g, out->beta, low, drop);
    out->interval.hi = likelihood_bound(g, out->beta, high, drop);
    out->class = classify(out->beta, &out->interval);
}

void tt_stats_trend_power_law_grouped(const double *edges, const double *count, size_t m,
                                      double level, struct tt_stats_trend *out)
{
    fit_groups(&(struct groups){edges, count, 0, m, 0}, level, out);
}

void tt_stats_trend_last_half(const double *edges, const double *count, size_t m, double level,
                              struct tt_stats_trend *out)
{
    double middle = (edges[0] + edges[m]) / 2;
    size_t first = 0;
    while (first < m && edges[first] < middle)
        first++;
    fit_groups(&(struct groups){edges, count, first, m, edges[first]}, level, out);
}
