/* SPDX-License-Identifier: Apache-2.0 */
/* Distribution functions, quantiles and exact intervals that the other files of this room stand on.
 * Regularised incomplete gamma and beta functions by series and continued fraction (Numerical
 * Recipes' form of Lentz's method), with Loader's saddle-point form of the leading factor (C.
 * Loader, "Fast and accurate computation of binomial probabilities", 2000), so that large arguments
 * lose no digits. Quantiles by bisection. Start: tt_stats_gamma_p. */
#ifndef TT_STATS_SPECIAL_H
#define TT_STATS_SPECIAL_H

#include <stddef.h>
#include <stdint.h>

struct tt_stats_interval {
    double lo, hi;
};

/* log(sum_i exp(x[i])); -INFINITY for n = 0. */
double tt_stats_log_sum_exp(const double *x, size_t n);

/* Regularised incomplete gamma functions P(a,x) = gamma(a,x)/Gamma(a) and Q = 1 - P; a > 0, x >= 0.
 * The smaller of the two is computed directly, so tails keep their relative precision. NaN outside
 * the domain. log_* give the natural logarithm and do not underflow. */
double tt_stats_gamma_p(double a, double x);
double tt_stats_gamma_q(double a, double x);
double tt_stats_log_gamma_p(double a, double x);
double tt_stats_log_gamma_q(double a, double x);

/* Regularised incomplete beta I_x(a,b); a, b > 0, 0 <= x <= 1. _q is 1 - I_x(a,b). */
double tt_stats_beta_p(double a, double b, double x);
double tt_stats_beta_q(double a, double b, double x);
double tt_stats_log_beta_p(double a, double b, double x);
double tt_stats_log_beta_q(double a, double b, double x);

/* Distribution functions P(X <= x). */
double tt_stats_normal_cdf(double z);
double tt_stats_student_cdf(double t, double df);
double tt_stats_poisson_cdf(uint64_t k, double mean);
double tt_stats_binomial_cdf(uint64_t k, uint64_t n, double p);

/* log P(X >= k), exact far into the tail; 0 for k = 0. */
double tt_stats_poisson_log_tail(uint64_t k, double mean);
double tt_stats_binomial_log_tail(uint64_t k, uint64_t n, double p);

/* Quantiles: x with P(X <= x) = p, 0 < p < 1; the discrete ones the smallest k with P(X <= k) >= p.
 * At p = 0 and 1 the ends of the support. chi2 has `df` degrees of freedom, gamma has scale 1. */
double tt_stats_normal_quantile(double p);
double tt_stats_student_quantile(double p, double df);
double tt_stats_chi2_quantile(double p, double df);
double tt_stats_gamma_quantile(double p, double shape);
double tt_stats_beta_quantile(double p, double a, double b);
uint64_t tt_stats_poisson_quantile(double p, double mean);
uint64_t tt_stats_binomial_quantile(double p, uint64_t n, double prob);

/* Exact two-sided intervals at confidence `level` (0.95): Clopper & Pearson (1934) for the
 * probability behind k of n; Garwood (1936) for the mean behind k events (divide by the exposure
 * for a rate). k and n may be fractions (counts shrunk for overdispersion); 0 <= k <= n, n > 0. */
struct tt_stats_interval tt_stats_clopper_pearson(double k, double n, double level);
struct tt_stats_interval tt_stats_garwood(double k, double level);

#endif
