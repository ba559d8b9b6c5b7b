/* SPDX-License-Identifier: Apache-2.0 */
/* The law of a leak: how many units per operation, as a function of what (METHODS 2.5). Two tools:
 * the ratio inside one session ("one per call, held in 212 of 212 intervals") and the hinge law
 * across runs
 * ("one per call for each owner beyond two"). Start: tt_stats_law_ratio, tt_stats_law_hinge. */
#ifndef TT_STATS_LAW_H
#define TT_STATS_LAW_H

#include <stdbool.h>
#include <stddef.h>

#include "stats/special.h"

struct tt_stats_ratio {
    double ratio;                      /* lost units per operation, total over total */
    struct tt_stats_interval interval; /* of the ratio; counts shrunk by the dispersion */
    bool clopper;      /* Clopper-Pearson: lost <= ops in every interval, and >= 10 intervals that
                          would show it if that were chance; else Garwood */
    double dispersion; /* Pearson chi2/df over the intervals, >= 1 */
    bool exact;        /* lost = numerator/denominator x ops throughout */
    unsigned numerator, denominator; /* the snapped ratio (nearest tried if not exact); 0/1 none */
    size_t held, intervals;          /* intervals (with operations or losses) where it held */
    size_t strict;                   /* of these held without any edge allowance */
    double max_residual;             /* half the range of cumulative lost - c ops, units */
};

/* ops[0..m], lost[0..m]: cumulative counts at the m+1 ends of m intervals (lost: units born by then
 * that are lost). slack_ops >= 1: operations that may be in flight at an interval's end, the
 * concurrency. The bound is slack_ops c, plus 1 if the denominator is not 1; an interval holds when
 * |d lost - c d ops| <= bound. Tried: the nearest integer c, then fractions with
 * denominators 2..12. Exact needs all intervals to hold, a cumulative residual within +-bound of
 * its middle, and so many losses that a random leak of equal mean would have strayed five bounds:
 * ops v >= 25 bound^2, v = c for an integer (Poisson), else f(1-f) of the fractional part f
 * (Bernoulli). 0, or -EINVAL (m < 1, no operations, or counts that fall). */
int tt_stats_law_ratio(const double *ops, const double *lost, size_t m, double slack_ops,
                       double level, struct tt_stats_ratio *out);

/* One run, or one cell of one run. */
struct tt_stats_law_point {
    double x;     /* covariate: owners, connections, ... */
    double units; /* lost units in all */
    double ops;   /* operations in all, > 0 */
};

enum tt_stats_basis { TT_STATS_BASIS_ONE, TT_STATS_BASIS_X, TT_STATS_BASIS_HINGE };
#define TT_STATS_LAW_TERMS 3
#define TT_STATS_LAW_RIVALS 8
struct tt_stats_law_term {
    enum tt_stats_basis basis;
    double knot;        /* of a hinge: (x - knot)+ */
    double coefficient; /* units per operation (per unit of x) */
};
struct tt_stats_law {
    struct tt_stats_law_term term[TT_STATS_LAW_TERMS];
    size_t n_terms; /* 0: no losses */
    double ebic;
    double r2;   /* of units per operation, weighted by ops; 1 for a perfect constant */
    bool exact;  /* snapped coefficients predict every point within the slack */
    size_t held; /* points predicted within the slack (exact) or 3 sd (otherwise) */
};
enum tt_stats_law_why {
    TT_STATS_LAW_IDENTIFIED,
    TT_STATS_LAW_FEW_LEVELS, /* fewer than 4 distinct x */
    TT_STATS_LAW_KNOT_SIDE,  /* fewer than 2 levels on one side of a knot (x <= knot, x > knot) */
    TT_STATS_LAW_RIVALS_FIT, /* other laws within delta BIC < 6 */
    TT_STATS_LAW_FEW_UNITS,  /* not exact, and fewer than 150 losses (METHODS 2.5) */
};
struct tt_stats_law_fit {
    struct tt_stats_law best;
    bool identifiable;
    enum tt_stats_law_why why; /* the first reason that applies */
    size_t levels;
    size_t n_rivals; /* kept below, at most TT_STATS_LAW_RIVALS; best EBIC first */
    struct tt_stats_law rival[TT_STATS_LAW_RIVALS];
};

struct tt_stats_law_options {
    bool exact;       /* counts are complete (exact mode), the only error is operations in flight */
    double slack_ops; /* exact: operations in flight at the ends of a run (>= 1) */
    double inclusion; /* otherwise: p of the followed units (units are estimates followed/p) */
};

/* units = ops x f(x), f = a sum of positive multiples of at most 3 of {1, x, (x - k)+}; k the
 * observed values and, for ranges up to 24, the integers between. Every subset is fitted by
 * weighted least squares (one that needs a negative coefficient is dropped: its smaller subset
 * stands for it) and compared by the extended BIC RSS/phi + terms (ln n + 2 ln P): RSS in units of
 * the known variance (exact: slack^2; else fitted units/inclusion, two passes), phi >= 1 the
 * overdispersion the richest fit leaves, P the number of bases. To first order this is METHODS' n
 * ln(RSS/n) + ..., but it stays right for the handful of points that runs give. Rivals are laws
 * within 6 that are not the best one plus a term. Exact means: coefficients snapped to integers (or
 * a common denominator <= 12) predict every point within slack_ops max(1, f) and a Poisson leak
 * would do that with probability < 0.01. 0, or -EINVAL (n < 2, n > 1024, x < 0, ops <= 0, units <
 * 0). */
int tt_stats_law_hinge(const struct tt_stats_law_point *points, size_t n,
                       const struct tt_stats_law_options *options, struct tt_stats_law_fit *out);

/* f(x): units per operation the law predicts. */
double tt_stats_law_at(const struct tt_stats_law *law, double x);

#endif
