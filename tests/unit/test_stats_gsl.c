/* SPDX-License-Identifier: Apache-2.0 */
/* Distribution functions and quantiles against the GNU Scientific Library, to 1e-10 relative (or
 * the absolute rounding of a probability near 1). GSL is an oracle for this test only and is not
 * linked anywhere else; the test is left out where it is missing. Start: main's table. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <gsl/gsl_cdf.h>
#include <gsl/gsl_errno.h>
#include <gsl/gsl_sf_gamma.h>

#include "stats/rng.h"
#include "stats/special.h"

/* Below this GSL flushes or loses digits itself. */
#define SMALLEST 1e-280

static void close_to(double ours, double theirs, double tolerance, const char *what, double a,
                     double b, double x)
{
    if (fabs(theirs) < SMALLEST && fabs(ours) < SMALLEST * 10)
        return;
    if (fabs(ours - theirs) <= tolerance * fabs(theirs))
        return;
    print_message("%s(%g, %g, %g): %.15g, oracle %.15g\n", what, a, b, x, ours, theirs);
    fail();
}

static void gamma_functions(void **state)
{
    (void)state;
    static const double shape[] = {0.05, 0.5, 1, 1.5, 2.5, 7, 14.9, 15, 40, 171, 1000, 30000};
    static const double factor[] = {1e-3, 0.1, 0.5, 0.9, 0.99, 1, 1.01, 1.1, 1.5, 2, 4};
    for (size_t i = 0; i < sizeof shape / sizeof *shape; i++) {
        for (size_t j = 0; j < sizeof factor / sizeof *factor; j++) {
            double a = shape[i], x = a * factor[j];
            close_to(tt_stats_gamma_p(a, x), gsl_cdf_gamma_P(x, a, 1), 1e-10, "P", a, 0, x);
            close_to(tt_stats_gamma_q(a, x), gsl_cdf_gamma_Q(x, a, 1), 1e-10, "Q", a, 0, x);
        }
    }
}

static void beta_functions(void **state)
{
    (void)state;
    static const double shape[] = {0.1, 0.5, 1, 2, 5.5, 20, 150, 2000};
    static const double at[] = {1e-6, 0.01, 0.1, 0.25, 0.5, 0.7, 0.9, 0.99};
    for (size_t i = 0; i < 8; i++) {
        for (size_t j = 0; j < 8; j++) {
            for (size_t k = 0; k < 8; k++) {
                double a = shape[i], b = shape[j], x = at[k];
                close_to(tt_stats_beta_p(a, b, x), gsl_cdf_beta_P(x, a, b), 1e-10, "I", a, b, x);
                close_to(tt_stats_beta_q(a, b, x), gsl_cdf_beta_Q(x, a, b), 1e-10, "1-I", a, b, x);
            }
        }
    }
}

static void discrete_functions(void **state)
{
    (void)state;
    static const unsigned count[] = {0, 1, 2, 5, 12, 40, 99};
    static const double mean[] = {0.01, 0.5, 3, 20, 60};
    for (size_t i = 0; i < 7; i++) {
        unsigned k = count[i];
        for (size_t j = 0; j < 5; j++) {
            close_to(tt_stats_poisson_cdf(k, mean[j]), gsl_cdf_poisson_P(k, mean[j]), 1e-10,
                     "poisson", k, 0, mean[j]);
            if (k > 0)
                close_to(exp(tt_stats_poisson_log_tail(k, mean[j])),
                         gsl_cdf_poisson_Q(k - 1, mean[j]), 1e-10, "tail", k, 0, mean[j]);
        }
        for (double p = 0.05; p < 1; p += 0.15) {
            close_to(tt_stats_binomial_cdf(k, 100, p), gsl_cdf_binomial_P(k, p, 100), 1e-10,
                     "binomial", k, 100, p);
            if (k > 0)
                close_to(exp(tt_stats_binomial_log_tail(k, 100, p)),
                         gsl_cdf_binomial_Q(k - 1, p, 100), 1e-10, "tail", k, 100, p);
        }
    }
    for (double t = -6; t <= 6; t += 0.37) {
        close_to(tt_stats_normal_cdf(t), gsl_cdf_ugaussian_P(t), 1e-10, "normal", 0, 0, t);
        for (double df = 1; df < 200; df *= 3)
            close_to(tt_stats_student_cdf(t, df), gsl_cdf_tdist_P(t, df), 1e-10, "t", df, 0, t);
    }
}

static void quantiles(void **state)
{
    (void)state;
    static const double prob[] = {1e-6, 0.01, 0.025, 0.3, 0.5, 0.8, 0.95, 0.999};
    static const double shape[] = {0.5, 1, 3.5, 25, 400};
    for (size_t i = 0; i < 8; i++) {
        double p = prob[i];
        close_to(tt_stats_normal_quantile(p), gsl_cdf_ugaussian_Pinv(p), 1e-10, "z", 0, 0, p);
        for (size_t j = 0; j < 5; j++) {
            double a = shape[j];
            close_to(tt_stats_chi2_quantile(p, 2 * a), gsl_cdf_chisq_Pinv(p, 2 * a), 1e-10, "chi2",
                     a, 0, p);
            close_to(tt_stats_gamma_quantile(p, a), gsl_cdf_gamma_Pinv(p, a, 1), 1e-10, "gamma", a,
                     0, p);
            if (p != 0.5)
                close_to(tt_stats_student_quantile(p, 2 * a), gsl_cdf_tdist_Pinv(p, 2 * a), 1e-9,
                         "t", 2 * a, 0, p);
            for (size_t k = 0; k < 5; k++) {
                double theirs = gsl_cdf_beta_Pinv(p, a, shape[k]);
                if (isfinite(theirs)) /* GSL gives up on some lopsided shapes */
                    close_to(tt_stats_beta_quantile(p, a, shape[k]), theirs, 1e-9, "beta", a,
                             shape[k], p);
            }
        }
    }
}

/* A thousand random arguments, so that no branch is met by grid points only. */
static void random_arguments(void **state)
{
    (void)state;
    struct tt_stats_rng rng;
    tt_stats_rng_seed(&rng, 11);
    for (int i = 0; i < 1000; i++) {
        double a = exp(8 * tt_stats_rng_uniform(&rng) - 2);
        double b = exp(8 * tt_stats_rng_uniform(&rng) - 2), x = tt_stats_rng_uniform(&rng);
        double g = a * exp(tt_stats_rng_normal(&rng) / sqrt(a));
        close_to(tt_stats_gamma_p(a, g), gsl_cdf_gamma_P(g, a, 1), 1e-10, "P", a, 0, g);
        close_to(tt_stats_gamma_q(a, g), gsl_cdf_gamma_Q(g, a, 1), 1e-10, "Q", a, 0, g);
        double p = gsl_cdf_beta_P(x, a, b);
        if (p > 1e-200 && p < 1 - 1e-12)
            close_to(tt_stats_beta_p(a, b, x), p, 1e-10, "I", a, b, x);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gamma_functions),    cmocka_unit_test(beta_functions),
        cmocka_unit_test(discrete_functions), cmocka_unit_test(quantiles),
        cmocka_unit_test(random_arguments),
    };
    gsl_set_error_handler_off();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
