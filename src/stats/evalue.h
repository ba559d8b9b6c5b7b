/* SPDX-License-Identifier: Apache-2.0 */
/* Evidence that may be looked at any time and over many sites: e-processes and their
 * multiple-testing rule (METHODS 2.4, end of 2.3). All e-values are natural logarithms. Under H0 an
 * e-process exceeds 1/alpha ever with probability <= alpha (Ville). Start: tt_stats_e_rate. */
#ifndef TT_STATS_EVALUE_H
#define TT_STATS_EVALUE_H

#include <stdbool.h>
#include <stddef.h>

/* Net growth of a mature pool: `births` units matured against `deaths` of mature units; mixture
 * over p uniform on (1/2, 1] of binomial bets against p = 1/2: E = 2^(n+1) B(births+1, deaths+1) (1
 * - I_1/2(births+1, deaths+1)), n = births + deaths. Filling pools raise it too: an ALARM for
 * ranking, never a verdict. */
double tt_stats_e_growth(double births, double deaths);

/* Events faster than the tolerable `bound` expected events (rate x exposure so far):
 * E = sum_j w_j g_j^events exp(-(g_j - 1) bound), g_j = 1 + 2^(j-5), j = 0..13, equal weights. */
double tt_stats_e_rate(double events, double bound);

/* Average of e-values (again an e-value): logs in, log out. */
double tt_stats_e_average(const double *log_e, size_t n);

/* e-BH of Wang & Ramdas (2022): false discovery rate <= alpha under any dependence. log_e[i] are
 * the CURRENT values, never running maxima. weight[i] >= 0 are prior weights (NULL: all 1; scaled
 * inside so that they average 1). Writes rejected[i] and returns how many; *log_threshold (may be
 * NULL) gets the e-value a site of weight 1 had to reach, or +INFINITY when none is rejected.
 * Negative: -ENOMEM. */
long tt_stats_e_bh(const double *log_e, const double *weight, size_t m, double alpha,
                   bool *rejected, double *log_threshold);

/* Benjamini & Hochberg on p-values (offline reports; independence or positive dependence).
 * Returns the number rejected, or -ENOMEM. */
long tt_stats_bh(const double *p, size_t m, double alpha, bool *rejected);

/* No event in `exposure`: the rate is below this with confidence 1 - alpha, -ln(alpha)/exposure;
 * optional stopping costs nothing (METHODS 2.4). */
double tt_stats_zero_bound(double exposure, double alpha);

#endif
