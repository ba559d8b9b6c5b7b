/* SPDX-License-Identifier: Apache-2.0 */
/* Mixture e-processes in closed form and the multiple-testing rules on top. Everything is a
 * logarithm: a product of 10^5 bets overflows a double long before it stops being useful. Start:
 * tt_stats_e_rate. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "stats/evalue.h"
#include "stats/special.h"

#define RATE_BETS 14

static double log_beta_function(double a, double b)
{
    int sign;
    return lgamma_r(a, &sign) + lgamma_r(b, &sign) - lgamma_r(a + b, &sign);
}

double tt_stats_e_growth(double births, double deaths)
{
    double n = births + deaths;
    if (!(n > 0))
        return 0;
    return (n + 1) * M_LN2 + log_beta_function(births + 1, deaths + 1) +
           tt_stats_log_beta_q(births + 1, deaths + 1, 0.5);
}

double tt_stats_e_rate(double events, double bound)
{
    double bet[RATE_BETS];
    for (int j = 0; j < RATE_BETS; j++) {
        double excess = ldexp(1, j - 5);
        bet[j] = events * log1p(excess) - excess * bound;
    }
    return tt_stats_e_average(bet, RATE_BETS);
}

double tt_stats_e_average(const double *log_e, size_t n)
{
    return tt_stats_log_sum_exp(log_e, n) - log((double)n);
}

/* A site's place in the order of a step-up rule: largest key first. */
struct ranked {
    double key;
    size_t site;
};

static int by_key_descending(const void *a, const void *b)
{
    double x = ((const struct ranked *)a)->key, y = ((const struct ranked *)b)->key;
    return (x < y) - (x > y);
}

/* Rejects the largest k for which the k-th largest key reaches ln(m / (alpha k)): e-BH on
 * ln(weighted e), and BH on -ln p. */
static size_t step_up(struct ranked *ranked, size_t m, double alpha, bool *rejected)
{
    size_t k = 0;
    qsort(ranked, m, sizeof *ranked, by_key_descending);
    for (size_t i = 0; i < m; i++)
        if (ranked[i].key >= log((double)m / (alpha * (double)(i + 1))))
            k = i + 1;
    for (size_t i = 0; i < m; i++)
        rejected[ranked[i].site] = i < k;
    return k;
}

long tt_stats_e_bh(const double *log_e, const double *weight, size_t m, double alpha,
                   bool *rejected, double *log_threshold)
{
    if (log_threshold)
        *log_threshold = INFINITY;
    if (m == 0)
        return 0;
    struct ranked *ranked = calloc(m, sizeof *ranked);
    if (!ranked)
        return -ENOMEM;
    double sum = 0;
    for (size_t i = 0; i < m; i++)
        sum += weight ? weight[i] : 1;
    for (size_t i = 0; i < m; i++) {
        double share = weight && sum > 0 ? weight[i] * (double)m / sum : 1;
        ranked[i] = (struct ranked){log_e[i] + log(share), i};
        if (isnan(ranked[i].key))
            ranked[i].key = -INFINITY;
    }
    size_t k = step_up(ranked, m, alpha, rejected);
    free(ranked);
    if (k && log_threshold)
        *log_threshold = log((double)m / (alpha * (double)k));
    return (long)k;
}

long tt_stats_bh(const double *p, size_t m, double alpha, bool *rejected)
{
    if (m == 0)
        return 0;
    struct ranked *ranked = calloc(m, sizeof *ranked);
    if (!ranked)
        return -ENOMEM;
    for (size_t i = 0; i < m; i++)
        ranked[i] = (struct ranked){isnan(p[i]) ? -INFINITY : -log(p[i]), i};
    size_t k = step_up(ranked, m, alpha, rejected);
    free(ranked);
    return (long)k;
}

double tt_stats_zero_bound(double exposure, double alpha)
{
    return -log(alpha) / exposure;
}
