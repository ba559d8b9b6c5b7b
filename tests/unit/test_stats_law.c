/* SPDX-License-Identifier: Apache-2.0 */
/* Laws from counts without noise: ratios of one session, hinges across runs, and when to say "not
 * identifiable". Start: main's table. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "stats/law.h"
#include "stats/rng.h"

#define NEAR(a, b, tolerance) assert_true(fabs((a) - (b)) <= (tolerance))

static void one_per_call_with_edges(void **state)
{
    (void)state;
    struct tt_stats_ratio r;
    double ops[61] = {0}, lost[61] = {0};
    for (int i = 1; i <= 60; i++) {
        ops[i] = ops[i - 1] + 37 + i % 5;
        lost[i] = ops[i] - i % 2; /* one call is under way at every other look */
    }
    assert_int_equal(tt_stats_law_ratio(ops, lost, 60, 1, 0.95, &r), 0);
    assert_true(r.exact);
    assert_int_equal(r.numerator, 1);
    assert_int_equal(r.denominator, 1);
    assert_int_equal(r.held, 60);
    assert_int_equal(r.intervals, 60);
    assert_true(r.strict < 60);
    assert_true(r.interval.hi >= r.ratio && r.interval.lo <= r.ratio);
}

static void three_in_two_calls(void **state)
{
    (void)state;
    struct tt_stats_ratio r;
    double ops[41] = {0}, lost[41] = {0};
    for (int i = 1; i <= 40; i++) {
        ops[i] = ops[i - 1] + 25;
        lost[i] = floor(ops[i] * 1.5);
    }
    assert_int_equal(tt_stats_law_ratio(ops, lost, 40, 1, 0.95, &r), 0);
    assert_true(r.exact);
    assert_int_equal(r.numerator, 3);
    assert_int_equal(r.denominator, 2);
    assert_false(r.clopper);
    assert_int_equal(tt_stats_law_ratio(ops, ops, 0, 1, 0.95, &r), -EINVAL);
    lost[3] = 0;
    assert_int_equal(tt_stats_law_ratio(ops, lost, 40, 1, 0.95, &r), -EINVAL);
}

static void random_losses_are_not_exact(void **state)
{
    (void)state;
    struct tt_stats_rng rng;
    struct tt_stats_ratio r;
    double ops[61] = {0}, lost[61] = {0};
    tt_stats_rng_seed(&rng, 9);
    for (int i = 1; i <= 60; i++) {
        ops[i] = ops[i - 1] + 40;
        lost[i] = lost[i - 1] + (double)tt_stats_rng_poisson(&rng, 40);
    }
    assert_int_equal(tt_stats_law_ratio(ops, lost, 60, 1, 0.95, &r), 0);
    assert_false(r.exact);
    assert_true(r.held < 30);
    assert_true(r.interval.lo < 1 && r.interval.hi > 1);
    /* few losses prove nothing, however well they fit */
    double few_ops[] = {0, 5, 10}, few_lost[] = {0, 5, 10};
    assert_int_equal(tt_stats_law_ratio(few_ops, few_lost, 2, 1, 0.95, &r), 0);
    assert_false(r.exact);
    assert_int_equal(r.held, 2);
    double none[] = {0, 0, 0};
    assert_int_equal(tt_stats_law_ratio(few_ops, none, 2, 1, 0.95, &r), 0);
    assert_false(r.exact);
    NEAR(r.interval.lo, 0, 0);
}

static const struct tt_stats_law_options exact_mode = {.exact = true, .slack_ops = 1};

/* One unit per call for each owner beyond two, off by up to a call at the end of each run. */
static void owners_beyond_two(void **state)
{
    (void)state;
    struct tt_stats_law_point p[8];
    struct tt_stats_law_fit fit;
    for (int i = 0; i < 8; i++) {
        double owners = i % 7, calls = 900 + 31 * i, per = fmax(0, owners - 2);
        p[i] = (struct tt_stats_law_point){owners, per * (calls - i % 2), calls};
    }
    assert_int_equal(tt_stats_law_hinge(p, 8, &exact_mode, &fit), 0);
    assert_int_equal(fit.best.n_terms, 1);
    assert_int_equal(fit.best.term[0].basis, TT_STATS_BASIS_HINGE);
    NEAR(fit.best.term[0].knot, 2, 0);
    NEAR(fit.best.term[0].coefficient, 1, 0);
    assert_true(fit.best.exact);
    assert_int_equal(fit.best.held, 8);
    assert_true(fit.identifiable);
    assert_true(fit.best.r2 > 0.999);
    NEAR(tt_stats_law_at(&fit.best, 5), 3, 0);
}

static void constant_and_hinge_together(void **state)
{
    (void)state;
    struct tt_stats_law_point p[6];
    struct tt_stats_law_fit fit;
    for (int i = 0; i < 6; i++)
        p[i] = (struct tt_stats_law_point){i, 2000 * (2 + 3 * fmax(0, i - 3)), 2000};
    assert_int_equal(tt_stats_law_hinge(p, 6, &exact_mode, &fit), 0);
    assert_int_equal(fit.best.n_terms, 2);
    assert_true(fit.best.exact);
    NEAR(fit.best.term[0].coefficient, 2, 0);
    NEAR(fit.best.term[1].knot, 3, 0);
    NEAR(fit.best.term[1].coefficient, 3, 0);
    NEAR(fit.best.r2, 1, 1e-12);
}

static void what_cannot_be_told_is_said(void **state)
{
    (void)state;
    struct tt_stats_law_fit fit;
    struct tt_stats_law_point three[] = {{1, 0, 1000}, {2, 0, 1000}, {4, 2000, 1000}};
    assert_int_equal(tt_stats_law_hinge(three, 3, &exact_mode, &fit), 0);
    assert_false(fit.identifiable);
    assert_int_equal(fit.why, TT_STATS_LAW_FEW_LEVELS);

    /* one level only beyond the knot: the slope there is anybody's guess */
    struct tt_stats_law_point side[] = {{1, 0, 1000}, {2, 0, 1000}, {3, 0, 1000}, {4, 1000, 1000}};
    assert_int_equal(tt_stats_law_hinge(side, 4, &exact_mode, &fit), 0);
    assert_int_equal(fit.why, TT_STATS_LAW_KNOT_SIDE);

    /* levels 1, 2, 6, 7: (x-2)+ is exact; nothing else is */
    struct tt_stats_law_point gap[] = {{1, 0, 900}, {2, 0, 900}, {6, 3600, 900}, {7, 4500, 900}};
    assert_int_equal(tt_stats_law_hinge(gap, 4, &exact_mode, &fit), 0);
    assert_true(fit.best.exact && fit.identifiable);

    /* too few losses to choose a knot */
    struct tt_stats_law_options sampled = {.inclusion = 0.01};
    struct tt_stats_law_point thin[] = {
        {1, 0, 100}, {2, 0, 100}, {3, 100, 100}, {4, 300, 100}, {5, 300, 100}};
    assert_int_equal(tt_stats_law_hinge(thin, 5, &sampled, &fit), 0);
    assert_false(fit.identifiable);

    struct tt_stats_law_point none[] = {{1, 0, 100}, {2, 0, 100}, {3, 0, 100}, {4, 0, 100}};
    assert_int_equal(tt_stats_law_hinge(none, 4, &exact_mode, &fit), 0);
    assert_int_equal(fit.best.n_terms, 0);
    assert_false(fit.identifiable);
    none[0].ops = 0;
    assert_int_equal(tt_stats_law_hinge(none, 4, &exact_mode, &fit), -EINVAL);
    assert_int_equal(tt_stats_law_hinge(none, 1, &exact_mode, &fit), -EINVAL);
}

static void a_constant_is_a_constant(void **state)
{
    (void)state;
    struct tt_stats_law_fit fit;
    struct tt_stats_law_point p[] = {
        {1, 1000, 1000}, {2, 999, 1000}, {3, 1000, 1000}, {4, 1001, 1001}, {6, 1000, 1000}};
    assert_int_equal(tt_stats_law_hinge(p, 5, &exact_mode, &fit), 0);
    assert_int_equal(fit.best.n_terms, 1);
    assert_int_equal(fit.best.term[0].basis, TT_STATS_BASIS_ONE);
    NEAR(fit.best.term[0].coefficient, 1, 0);
    assert_true(fit.best.exact && fit.identifiable);
    NEAR(fit.best.r2, 1, 1e-3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_per_call_with_edges),
        cmocka_unit_test(three_in_two_calls),
        cmocka_unit_test(random_losses_are_not_exact),
        cmocka_unit_test(owners_beyond_two),
        cmocka_unit_test(constant_and_hinge_together),
        cmocka_unit_test(what_cannot_be_told_is_said),
        cmocka_unit_test(a_constant_is_a_constant),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
