/* SPDX-License-Identifier: Apache-2.0 */
/* Small dense least squares: normal equations of at most 8 unknowns, solved by Cholesky. The
 * columns of this room's problems are few and are scaled inside, so normal equations keep enough
 * digits. Start: tt_stats_normal_solve. */
#ifndef TT_STATS_LINEAR_H
#define TT_STATS_LINEAR_H

#include <stddef.h>

#define TT_STATS_LINEAR_MAX 8

/* X'WX and X'Wy of a weighted regression of k columns; zero-initialise, set k. */
struct tt_stats_normal {
    size_t k;
    double xx[TT_STATS_LINEAR_MAX][TT_STATS_LINEAR_MAX];
    double xy[TT_STATS_LINEAR_MAX];
};

/* Adds one observation with weight w (1/variance). */
void tt_stats_normal_add(struct tt_stats_normal *normal, const double *x, double y, double w);

/* Solves for beta[k]; inverse_diagonal[k] (may be NULL) gets the diagonal of (X'WX)^-1. 0, or -EDOM
 * when the columns are linearly dependent. */
int tt_stats_normal_solve(const struct tt_stats_normal *normal, double *beta,
                          double *inverse_diagonal);

#endif
