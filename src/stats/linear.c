/* SPDX-License-Identifier: Apache-2.0 */
/* Cholesky on the normal equations after scaling the diagonal to 1. Start: tt_stats_normal_solve.
 */
#include <errno.h>
#include <math.h>

#include "stats/linear.h"

/* A pivot below this (diagonal 1) means a column is a combination of the others. */
#define DEPENDENT 1e-11

void tt_stats_normal_add(struct tt_stats_normal *normal, const double *x, double y, double w)
{
    for (size_t i = 0; i < normal->k; i++) {
        for (size_t j = 0; j < normal->k; j++)
            normal->xx[i][j] += w * x[i] * x[j];
        normal->xy[i] += w * x[i] * y;
    }
}

/* Solves L L' v = v in place. */
static void substitute(double factor[][TT_STATS_LINEAR_MAX], size_t k, double *v)
{
    for (size_t i = 0; i < k; i++) {
        for (size_t j = 0; j < i; j++)
            v[i] -= factor[i][j] * v[j];
        v[i] /= factor[i][i];
    }
    for (size_t i = k; i-- > 0;) {
        for (size_t j = i + 1; j < k; j++)
            v[i] -= factor[j][i] * v[j];
        v[i] /= factor[i][i];
    }
}

int tt_stats_normal_solve(const struct tt_stats_normal *normal, double *beta,
                          double *inverse_diagonal)
{
    size_t k = normal->k;
    double factor[TT_STATS_LINEAR_MAX][TT_STATS_LINEAR_MAX] = {{0}};
    double scale[TT_STATS_LINEAR_MAX], v[TT_STATS_LINEAR_MAX];
    for (size_t i = 0; i < k; i++) {
        if (!(normal->xx[i][i] > 0))
            return -EDOM;
        scale[i] = 1 / sqrt(normal->xx[i][i]);
    }
    for (size_t i = 0; i < k; i++) {
        for (size_t j = 0; j <= i; j++) {
            double sum = normal->xx[i][j] * scale[i] * scale[j];
            for (size_t l = 0; l < j; l++)
                sum -= factor[i][l] * factor[j][l];
            if (i == j && sum < DEPENDENT)
                return -EDOM;
            factor[i][j] = i == j ? sqrt(sum) : sum / factor[j][j];
        }
    }
    for (size_t i = 0; i < k; i++)
        v[i] = normal->xy[i] * scale[i];
    substitute(factor, k, v);
    for (size_t i = 0; i < k; i++)
        beta[i] = v[i] * scale[i];
    for (size_t i = 0; inverse_diagonal && i < k; i++) {
        for (size_t j = 0; j < k; j++)
            v[j] = i == j;
        substitute(factor, k, v);
        inverse_diagonal[i] = v[i] * scale[i] * scale[i];
    }
    return 0;
}
