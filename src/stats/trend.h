/* SPDX-License-Identifier: Apache-2.0 */
/* Do retained births slow down, go on, or speed up on the clock of operations? Power law (AMSAA /
 * Crow; MIL-HDBK-189) with exact intervals (METHODS 2.3 iv); does the live count only follow the
 * load (2.3 v); and Theil-Sen and Mann-Kendall, which serve as BASELINES ONLY: on live counts they
 * raise false alarms far above their nominal level (METHODS 0.5). Start:
 * tt_stats_trend_power_law. */
#ifndef TT_STATS_TREND_H
#define TT_STATS_TREND_H

#include <stdbool.h>
#include <stddef.h>

#include "stats/special.h"

enum tt_stats_trend_class {
    TT_STATS_TREND_UNDETERMINED,
    TT_STATS_TREND_SATURATING,   /* beta upper bound < 0.8: warm-up, cache filling */
    TT_STATS_TREND_STEADY,       /* lower > 0.8, and 1 inside the interval or upper < 1.25 */
    TT_STATS_TREND_ACCELERATING, /* lower > 1.2 */
};
const char *tt_stats_trend_word(enum tt_stats_trend_class class);

struct tt_stats_trend {
    double beta; /* Lambda(n) = a n^beta; maximum likelihood; NaN without events */
    struct tt_stats_interval interval;
    double events;     /* retained births used */
    double dispersion; /* grouped data: Pearson chi2/df, at least 1; widens the interval */
    enum tt_stats_trend_class class;
};

/* Retained births at op-times t[0..k-1] (any order, each in (0, end]) of `end` operations counted
 * from attach: beta = k / sum ln(end/t), 2 k beta/beta_hat ~ chi2(2k). Clock restarts at attach and
 * at every detected load or configuration change. Times 0 are treated as half an operation. */
void tt_stats_trend_power_law(const double *t, size_t k, double end, double level,
                              struct tt_stats_trend *out);

/* The same from counts: edges[0..m] ascending op-times (edges[0] >= 0), count[i] births in
 * (edges[i], edges[i+1]]. Likelihood-ratio interval, scaled by the dispersion between groups.
 * Groups without operations are merged into the next. Counts may be weighted estimates. */
void tt_stats_trend_power_law_grouped(const double *edges, const double *count, size_t m,
                                      double level, struct tt_stats_trend *out);

/* Only the second half of the op clock, restarted at its middle: free of what happened right after
 * attach. Edges inside the half are kept, the group that straddles the middle is left out. */
void tt_stats_trend_last_half(const double *edges, const double *count, size_t m, double level,
                              struct tt_stats_trend *out);

struct tt_stats_load {
    size_t lag;       /* samples by which the units trail the gauge */
    double per_gauge; /* units per unit of the gauge (connections, threads) */
    double growth;    /* residual units per operation */
    struct tt_stats_interval growth_interval; /* two-sided at `level`, widened by (1+phi)/(1-phi) */
    double r2;                                /* of units on the gauge alone */
    double phi;     /* lag-1 autocorrelation of the residuals, in [0, 0.98] */
    bool following; /* R2 >= 0.5 and the upper end of growth_interval <= bound */
    bool enough;    /* >= 20 samples and a gauge that varies */
};
/* Regresses units[t] on gauge[t-lag] and cumulative ops[t], lag 0..max_lag chosen by least squares
 * (METHODS 2.3 v). Equally spaced samples. bound: units per operation that would not matter.
 * 0 or -EINVAL (n < 8 or max_lag >= n/2). */
int tt_stats_trend_load(const double *units, const double *gauge, const double *ops, size_t n,
                        size_t max_lag, double level, double bound, struct tt_stats_load *out);

/* Baselines. Theil-Sen: median of pairwise slopes of y over x, interval by Sen's normal
 * approximation; n <= 500 (-EINVAL beyond), -ENOMEM. */
struct tt_stats_slope {
    double slope;
    struct tt_stats_interval interval;
};
int tt_stats_trend_theil_sen(const double *x, const double *y, size_t n, double level,
                             struct tt_stats_slope *out);
/* Mann-Kendall z of y in order (continuity-corrected, ties ignored in the variance). */
double tt_stats_trend_mann_kendall(const double *y, size_t n);

#endif
