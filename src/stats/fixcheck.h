/* SPDX-License-Identifier: Apache-2.0 */
/* Is the leak of build A fixed in build B? Evidence against "B still leaks at least the share delta
 * of what A would have leaked at B's covariates" (METHODS 2.7). Exposure is mu = the losses A's law
 * predicts for B's operations, so a calmer run cannot look fixed. Always valid: look any time.
 * Start: tt_stats_fix_check. */
#ifndef TT_STATS_FIXCHECK_H
#define TT_STATS_FIXCHECK_H

#include <stdbool.h>

#include "stats/special.h"

/* ln E against H0: residual = r_B/r_A >= delta, after k losses in B under exposure mu:
 * E = 1/4 sum_a a^k exp((1-a) delta mu), a in {0, .1, .3, .6}. */
double tt_stats_fix_log_e_fixed(double k, double mu, double delta);
/* ln E the other way, against H0: residual <= delta, with alternatives residual 1/2 and 1 (delta <
 * 1/2): E = 1/2 sum_r (r/delta)^k exp(-(r - delta) mu). */
double tt_stats_fix_log_e_still(double k, double mu, double delta);

/* Exposure that suffices when nothing is lost: the smallest mu with E >= 1/alpha at k = 0. (The
 * single bet a = 0 would need ln(1/alpha)/delta; the mixture costs a fifth more.) */
double tt_stats_fix_needed(double delta, double alpha);

/* mu of `ops_b` operations of B from k_a losses in ops_a operations of A: mean rate when k_a >= 30,
 * else the lower 95 % Garwood bound, as a plug-in mean raises the error (METHODS 2.7 F2). */
double tt_stats_fix_exposure(double k_a, double ops_a, double ops_b);

enum tt_stats_fix_class {
    TT_STATS_FIX_UNDETERMINED,
    TT_STATS_FIX_FIXED,    /* residual < delta */
    TT_STATS_FIX_STILL,    /* residual > delta, evidence for one half or more */
    TT_STATS_FIX_IMPROVED, /* fewer than A, but not shown to be below delta */
};
struct tt_stats_fix {
    enum tt_stats_fix_class class;
    double log_e_fixed, log_e_still;
    double residual;                            /* k/mu */
    struct tt_stats_interval residual_interval; /* Garwood 95 % over mu */
    double
        zero_event_bound; /* residual excluded at 1 - alpha if k = 0: -ln(alpha)/mu; NaN if k > 0 */
    double log_p_improved; /* one-sided exact conditional binomial k_B | k_A + k_B */
    double needed; /* exposure still missing for "fixed" if nothing more is lost; 0 if done */
};
/* k_a losses in A under exposure mu_a (A's own predicted losses, usually k_a itself), k_b in B
 * under mu_b. Verdicts at 1 - alpha (0.05). */
void tt_stats_fix_check(double k_a, double mu_a, double k_b, double mu_b, double delta,
                        double alpha, struct tt_stats_fix *out);

#endif
