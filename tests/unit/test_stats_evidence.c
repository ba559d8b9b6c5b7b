/* SPDX-License-Identifier: Apache-2.0 */
/* Known values: intervals, sampling totals, e-values and step-up rules, trends, accounting, fix
 * check. Start: main's table. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "stats/account.h"
#include "stats/evalue.h"
#include "stats/fixcheck.h"
#include "stats/linear.h"
#include "stats/rng.h"
#include "stats/sampling.h"
#include "stats/special.h"
#include "stats/trend.h"

#define NEAR(a, b, tolerance) assert_true(fabs((a) - (b)) <= (tolerance))

static void distributions_at_known_points(void **state)
{
    (void)state;
    NEAR(tt_stats_gamma_q(1, 2.5), exp(-2.5), 1e-16);
    NEAR(tt_stats_beta_p(1, 3, 0.2), 1 - 0.8 * 0.8 * 0.8, 1e-15);
    NEAR(tt_stats_normal_quantile(0.975), 1.959963984540054, 1e-14);
    NEAR(tt_stats_chi2_quantile(0.95, 1), 3.841458820694124, 1e-12);
    NEAR(tt_stats_student_quantile(0.975, 10), 2.228138851986273, 1e-12);
    assert_int_equal(tt_stats_poisson_quantile(0.5, 10), 10);
    assert_int_equal(tt_stats_poisson_quantile(0.95, 10), 15);
    assert_int_equal(tt_stats_binomial_quantile(0.5, 100, 0.3), 30);
    /* far tails stay finite: P(X >= 1000 | mean 1) is about e^-5912 */
    NEAR(tt_stats_poisson_log_tail(1000, 1), -1 - lgamma(1001), 0.01);
    assert_true(isnan(tt_stats_gamma_p(-1, 1)));
    NEAR(tt_stats_gamma_p(2, 0), 0, 0);
    NEAR(tt_stats_gamma_q(2, INFINITY), 0, 0);
    double x[] = {1000, 1000 + log(3)};
    NEAR(tt_stats_log_sum_exp(x, 2), 1000 + log(4), 1e-12);
    assert_true(isinf(tt_stats_log_sum_exp(x, 0)));
}

static void exact_intervals(void **state)
{
    (void)state;
    /* tabulated: Clopper-Pearson 5 of 20, Garwood 10 events, rule of three */
    struct tt_stats_interval i = tt_stats_clopper_pearson(5, 20, 0.95);
    NEAR(i.lo, 0.0865715, 1e-6);
    NEAR(i.hi, 0.4910459, 1e-6);
    i = tt_stats_garwood(10, 0.95);
    NEAR(i.lo, 4.795389, 1e-6);
    NEAR(i.hi, 18.390356, 1e-6);
    i = tt_stats_garwood(0, 0.95);
    NEAR(i.lo, 0, 0);
    NEAR(i.hi, -log(0.025), 1e-12);
    i = tt_stats_clopper_pearson(7, 7, 0.95);
    NEAR(i.hi, 1, 0);
    NEAR(i.lo, pow(0.025, 1.0 / 7), 1e-12);
    NEAR(tt_stats_zero_bound(100, 0.05), 0.0299573, 1e-6);
}

static void least_squares(void **state)
{
    (void)state;
    struct tt_stats_normal normal = {.k = 2};
    double beta[2], inverse[2];
    for (int i = 0; i < 5; i++)
        tt_stats_normal_add(&normal, (double[]){1, i}, 3 + 2 * i, 1);
    assert_int_equal(tt_stats_normal_solve(&normal, beta, inverse), 0);
    NEAR(beta[0], 3, 1e-12);
    NEAR(beta[1], 2, 1e-12);
    NEAR(inverse[1], 0.1, 1e-12); /* 1 / sum (i - 2)^2 */
    struct tt_stats_normal twice = {.k = 2};
    tt_stats_normal_add(&twice, (double[]){1, 2}, 1, 1);
    tt_stats_normal_add(&twice, (double[]){2, 4}, 1, 1);
    assert_int_equal(tt_stats_normal_solve(&twice, beta, NULL), -EDOM);
}

static void sampling_totals(void **state)
{
    (void)state;
    NEAR(tt_stats_p_bytes(40, 524288), 40.0 / 524288, 1e-8);
    NEAR(tt_stats_p_bytes(40, 0), 1, 0);
    NEAR(tt_stats_p_thin(3), 0.125, 0);
    struct tt_stats_ht born = {0}, died = {0};
    tt_stats_ht_add(&born, 3, 100, 0.25);
    tt_stats_ht_add(&born, 2, 10, 1);
    NEAR(born.units, 14, 1e-12);
    NEAR(born.bytes, 1220, 1e-12);
    NEAR(born.units_var, 3 * 0.75 / 0.0625, 1e-12);
    NEAR(born.bytes_var, 1e4 * 36, 1e-6);
    tt_stats_ht_add(&died, 1, 100, 0.25);
    struct tt_stats_ht change = tt_stats_ht_difference(&born, &died);
    NEAR(change.units, 10, 1e-12);
    NEAR(change.units_var, 48, 1e-12);
    tt_stats_ht_merge(&born, &died);
    NEAR(born.units, 18, 1e-12);
    NEAR(tt_stats_gap_for(1024, 600, 60), 10240, 0); /* METHODS 2.1: 10 KiB */
}

static void e_values(void **state)
{
    (void)state;
    NEAR(tt_stats_e_growth(0, 0), 0, 0);
    NEAR(tt_stats_e_growth(7, 0), log((256.0 - 1) / 8), 1e-12); /* (2^(k+1) - 1)/(k+1) */
    NEAR(tt_stats_e_growth(1, 1), log(2.0 / 3), 1e-12); /* 2 int (2p)(2(1-p)) dp over (1/2, 1] */
    assert_true(tt_stats_e_growth(0, 20) < -2);
    NEAR(tt_stats_e_rate(0, 0), 0, 1e-12);
    assert_true(tt_stats_e_rate(50, 10) > log(2e5));
    assert_true(tt_stats_e_rate(10, 10) < log(20));
    double two[] = {log(3), log(5)};
    NEAR(tt_stats_e_average(two, 2), log(4), 1e-12);
}

static void step_up_rules(void **state)
{
    (void)state;
    double log_e[] = {log(100), log(30), 0, log(41)}, threshold;
    double weight[] = {0, 2, 1, 1};
    bool hit[4];
    /* m/(alpha k) = 80, 40, 26.7, 20 */
    assert_int_equal(tt_stats_e_bh(log_e, NULL, 4, 0.05, hit, &threshold), 3);
    assert_true(hit[0] && hit[1] && !hit[2] && hit[3]);
    NEAR(threshold, log(80.0 / 3), 1e-12);
    assert_int_equal(tt_stats_e_bh(log_e, weight, 4, 0.05, hit, NULL), 2);
    assert_true(!hit[0] && hit[1] && !hit[2] && hit[3]);
    assert_int_equal(tt_stats_e_bh(log_e + 2, NULL, 1, 0.05, hit, &threshold), 0);
    assert_true(isinf(threshold));
    assert_int_equal(tt_stats_e_bh(NULL, NULL, 0, 0.05, hit, NULL), 0);
    double p[] = {0.01, 0.04, 0.03, 0.9, 0.02}; /* 0.01 0.02 0.03 0.04 against 0.01 j: all four */
    bool found[5];
    assert_int_equal(tt_stats_bh(p, 5, 0.05, found), 4);
    assert_true(found[0] && found[1] && found[2] && !found[3] && found[4]);
}

static void power_law_of_events(void **state)
{
    (void)state;
    double even[100], root[200], edges[11], count[10];
    struct tt_stats_trend t;
    for (int i = 0; i < 100; i++)
        even[i] = 10 * (i + 0.5);
    tt_stats_trend_power_law(even, 100, 1000, 0.95, &t);
    NEAR(t.beta, 1, 0.02);
    NEAR(t.interval.lo, t.beta * tt_stats_chi2_quantile(0.025, 200) / 200, 1e-12);
    assert_int_equal(t.class, TT_STATS_TREND_STEADY);
    for (int i = 0; i < 200; i++)
        root[i] = 1000 * pow((i + 0.5) / 200, 2); /* Lambda = sqrt */
    tt_stats_trend_power_law(root, 200, 1000, 0.95, &t);
    NEAR(t.beta, 0.5, 0.02);
    assert_int_equal(t.class, TT_STATS_TREND_SATURATING);
    assert_string_equal(tt_stats_trend_word(t.class), "saturating");
    for (int i = 0; i < 200; i++)
        root[i] = 1000 * sqrt((i + 0.5) / 200);
    tt_stats_trend_power_law(root, 200, 1000, 0.95, &t);
    assert_int_equal(t.class, TT_STATS_TREND_ACCELERATING);
    tt_stats_trend_power_law(root, 0, 1000, 0.95, &t);
    assert_int_equal(t.class, TT_STATS_TREND_UNDETERMINED);

    /* in groups: counts exactly as the power law says give it back */
    for (int i = 0; i <= 10; i++)
        edges[i] = 100.0 * i;
    for (int i = 0; i < 10; i++)
        count[i] = 300 * (pow(edges[i + 1] / 1000, 0.6) - pow(edges[i] / 1000, 0.6));
    tt_stats_trend_power_law_grouped(edges, count, 10, 0.95, &t);
    NEAR(t.beta, 0.6, 1e-6);
    NEAR(t.dispersion, 1, 1e-6);
    assert_int_equal(t.class, TT_STATS_TREND_SATURATING);
    /* likelihood-ratio and exact intervals agree within a few per cent at 300 events */
    NEAR(t.interval.hi, 0.6 * tt_stats_chi2_quantile(0.975, 600) / 600, 0.02);

    /* a burst right after attach, then steady: the second half tells */
    for (int i = 0; i < 10; i++)
        count[i] = i == 0 ? 2000 : 100;
    tt_stats_trend_power_law_grouped(edges, count, 10, 0.95, &t);
    assert_true(t.interval.hi < 0.8 || t.class == TT_STATS_TREND_UNDETERMINED);
    tt_stats_trend_last_half(edges, count, 10, 0.95, &t);
    NEAR(t.beta, 1, 1e-6);
    assert_int_equal(t.class, TT_STATS_TREND_STEADY);
    tt_stats_trend_last_half(edges, count, 1, 0.95, &t);
    assert_int_equal(t.class, TT_STATS_TREND_UNDETERMINED);
}

static void load_is_followed_or_not(void **state)
{
    (void)state;
    struct tt_stats_rng rng;
    double units[120], leaking[120], gauge[120], ops[120];
    struct tt_stats_load l;
    tt_stats_rng_seed(&rng, 3);
    for (int i = 0; i < 120; i++) {
        gauge[i] = 50 + 40 * sin(i / 9.0);
        ops[i] = 100.0 * i;
        units[i] = 7 + 3 * gauge[i > 2 ? i - 2 : 0] + tt_stats_rng_normal(&rng);
        leaking[i] = units[i] + 0.1 * ops[i];
    }
    assert_int_equal(tt_stats_trend_load(units, gauge, ops, 120, 5, 0.95, 0.01, &l), 0);
    assert_true(l.following && l.enough);
    assert_int_equal(l.lag, 2);
    NEAR(l.per_gauge, 3, 0.05);
    assert_int_equal(tt_stats_trend_load(leaking, gauge, ops, 120, 5, 0.95, 0.01, &l), 0);
    assert_false(l.following);
    NEAR(l.growth, 0.1, 0.005);
    for (int i = 0; i < 120; i++)
        gauge[i] = 4;
    assert_int_equal(tt_stats_trend_load(units, gauge, ops, 120, 5, 0.95, 0.01, &l), 0);
    assert_false(l.following || l.enough);
    assert_int_equal(tt_stats_trend_load(units, gauge, ops, 7, 0, 0.95, 0.01, &l), -EINVAL);
}

static void baselines(void **state)
{
    (void)state;
    double x[] = {0, 1, 2, 3, 4, 5, 6, 7}, y[] = {1, 3, 5, 7, 9, 11, 13, 99};
    struct tt_stats_slope s;
    assert_int_equal(tt_stats_trend_theil_sen(x, y, 8, 0.95, &s), 0);
    NEAR(s.slope, 2, 1e-12);
    assert_true(s.interval.lo <= 2 && s.interval.hi >= 2);
    NEAR(tt_stats_trend_mann_kendall(y, 8), 27 / sqrt(8 * 7 * 21 / 18.0), 1e-12);
    assert_int_equal(tt_stats_trend_theil_sen(x, y, 501, 0.95, &s), -EINVAL);
}

static void accounts(void **state)
{
    (void)state;
    struct tt_stats_rng rng;
    double ops[60], level[60], growing[60];
    struct tt_stats_account a;
    tt_stats_rng_seed(&rng, 5);
    for (int i = 0; i < 60; i++) {
        ops[i] = 1000.0 * i;
        level[i] = 5e6 + 2e4 * tt_stats_rng_normal(&rng);
        growing[i] = 8e6 + 100 * ops[i] + 2e4 * tt_stats_rng_normal(&rng);
    }
    assert_int_equal(tt_stats_account(ops, level, growing, 60, 10, &a), 0);
    assert_int_equal(a.class, TT_STATS_ACCOUNT_FRAGMENTATION);
    NEAR(a.held_slope, 100, 2);
    tt_stats_account(ops, growing, growing, 60, 10, &a);
    assert_int_equal(a.class, TT_STATS_ACCOUNT_GROWTH);
    tt_stats_account(ops, level, level, 60, 10, &a);
    assert_int_equal(a.class, TT_STATS_ACCOUNT_LEVEL);
    tt_stats_account(ops, level, growing, 60, 0.01, &a); /* too fine a bound for this noise */
    assert_int_equal(a.class, TT_STATS_ACCOUNT_UNDETERMINED);
    assert_int_equal(tt_stats_account(ops, level, growing, 7, 10, &a), -EINVAL);
}

static void fixes(void **state)
{
    (void)state;
    struct tt_stats_fix f;
    NEAR(tt_stats_fix_needed(0.1, 0.05), 36, 1); /* METHODS 2.7 */
    NEAR(tt_stats_fix_needed(0.01, 0.05), 362, 5);
    NEAR(tt_stats_fix_exposure(100, 100, 400), 400, 1e-9);
    assert_true(tt_stats_fix_exposure(10, 10, 100) < 60);
    tt_stats_fix_check(400, 400, 0, 400, 0.01, 0.05, &f);
    assert_int_equal(f.class, TT_STATS_FIX_FIXED);
    NEAR(f.needed, 0, 0);
    NEAR(f.zero_event_bound, -log(0.05) / 400, 1e-12);
    tt_stats_fix_check(400, 400, 0, 5, 0.01, 0.05, &f);
    assert_true(f.class != TT_STATS_FIX_FIXED);
    NEAR(f.needed, tt_stats_fix_needed(0.01, 0.05) - 5, 1e-6);
    tt_stats_fix_check(400, 400, 390, 400, 0.01, 0.05, &f);
    assert_int_equal(f.class, TT_STATS_FIX_STILL);
    assert_true(isnan(f.zero_event_bound));
    tt_stats_fix_check(400, 400, 40, 400, 0.01, 0.05, &f);
    assert_int_equal(f.class, TT_STATS_FIX_IMPROVED);
    NEAR(f.residual, 0.1, 1e-12);
    tt_stats_fix_check(400, 400, 0, 0, 0.01, 0.05, &f); /* B did nothing yet */
    assert_int_equal(f.class, TT_STATS_FIX_UNDETERMINED);
}

/* The published first outputs of xoshiro256** from state 1,2,3,4; then means and variances within 5
 * standard errors of 20,000 draws. */
static void random_numbers(void **state)
{
    (void)state;
    struct tt_stats_rng rng = {{1, 2, 3, 4}};
    assert_true(tt_stats_rng_next(&rng) == 11520);
    assert_true(tt_stats_rng_next(&rng) == 0);
    assert_true(tt_stats_rng_next(&rng) == 1509978240);
    assert_true(tt_stats_rng_next(&rng) == UINT64_C(1215971899390074240));
    static const struct {
        double mean, variance;
    } law[] = {{0.5, 1.0 / 12}, {3, 9}, {0, 1}, {0.4, 0.4}, {7, 7}, {4, 4}, {300, 300}};
    enum { LAWS = sizeof law / sizeof *law, DRAWS = 20000 };
    tt_stats_rng_seed(&rng, 12345);
    for (size_t l = 0; l < LAWS; l++) {
        double sum = 0, square = 0;
        for (int i = 0; i < DRAWS; i++) {
            double x[LAWS] = {tt_stats_rng_uniform(&rng),
                              tt_stats_rng_exponential(&rng, 3),
                              tt_stats_rng_normal(&rng),
                              tt_stats_rng_gamma(&rng, 0.4),
                              tt_stats_rng_gamma(&rng, 7),
                              (double)tt_stats_rng_poisson(&rng, 4),
                              (double)tt_stats_rng_poisson(&rng, 300)};
            sum += x[l] - law[l].mean;
            square += (x[l] - law[l].mean) * (x[l] - law[l].mean);
        }
        NEAR(sum / DRAWS, 0, 5 * sqrt(law[l].variance / DRAWS));
        /* kurtosis of these laws is at most 18: standard error of the variance below sqrt(17/n) */
        NEAR(square / DRAWS / law[l].variance, 1, 5 * sqrt(17.0 / DRAWS));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(distributions_at_known_points),
        cmocka_unit_test(exact_intervals),
        cmocka_unit_test(random_numbers),
        cmocka_unit_test(least_squares),
        cmocka_unit_test(sampling_totals),
        cmocka_unit_test(e_values),
        cmocka_unit_test(step_up_rules),
        cmocka_unit_test(power_law_of_events),
        cmocka_unit_test(load_is_followed_or_not),
        cmocka_unit_test(baselines),
        cmocka_unit_test(accounts),
        cmocka_unit_test(fixes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
