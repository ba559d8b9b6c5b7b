/* SPDX-License-Identifier: Apache-2.0 */
/* The modes that follow a part of the blocks: estimates must lie within 4 standard errors of what
 * the fixture says of itself. The agent's sampler is seeded. Start: sampled_is_unbiased. */
#include "test_agent_run.h"

#include <math.h>

/* ---- sampled ---- */

#define MEAN 4096.0

/* Sum over the sites of a truth. */
static struct total sum_sites(const struct tape *tape, const struct run *run, const struct truth *t)
{
    struct total sum = {0};
    for (uint32_t i = 1; i < tape->head->site_count; i++)
        if (same_stack(tape, run, i, t)) {
            sum.births += tape->total[i].births;
            sum.live += tape->total[i].live;
            sum.estimate += tape->total[i].estimate;
            sum.variance += tape->total[i].variance;
        }
    return sum;
}

static void within(double seen, double wanted, double variance)
{
    double sigma = sqrt(variance);
    if (fabs(seen - wanted) > 4 * sigma)
        print_error("%g, expected %g, sigma %g\n", seen, wanted, sigma);
    assert_true(fabs(seen - wanted) <= 4 * sigma);
}

static void sampled_is_unbiased(void **state)
{
    struct run run;
    struct tape tape;
    (void)state;
    run_fixture(&run, "mode=sampled,mean=4096,seed=7", "counts");
    tape_of(&run, &tape, MEAN);
    struct total sum = sum_sites(&tape, &run, &run.truth[0]);
    double p = 0;
    for (int size = 1; size <= 2000; size++) /* the fixture's sizes are uniform */
        p += -expm1(-size / MEAN) / 2000;
    double n = (double)run.truth[0].births;
    within((double)sum.births, n * p, n * p * (1 - p));
    within(sum.estimate, (double)(run.truth[0].births - run.truth[0].deaths), sum.variance);
    close_tape(&tape);
}

/* Each unit of a realloc chain is taken with the probability of its own size. */
static void sampled_realloc_is_unbiased(void **state)
{
    struct run run;
    struct tape tape;
    (void)state;
    run_fixture(&run, "mode=sampled,mean=4096,seed=11", "growth");
    tape_of(&run, &tape, MEAN);
    struct total sum = sum_sites(&tape, &run, &run.truth[0]);
    double expected = 0, variance = 0;
    for (int k = 1; k < 40; k++) {
        double p = -expm1(-(k <= 20 ? k : 40 - k) * 100 / MEAN);
        expected += 10000 * p;
        variance += 10000 * p * (1 - p);
    }
    within((double)sum.births, expected, variance * 39 / 2); /* units of a chain hang together */
    close_tape(&tape);
}

static void sampled_keeps_contents_and_children(void **state)
{
    static const char *const what[] = {"family",     "resizes", "recursion", "signals", "jumps",
                                       "coroutines", "threads", "forks",     "closes"};
    static const char *const conf[] = {"mode=sampled,mean=100,seed=3", "mode=adaptive,seed=3"};
    (void)state;
    for (unsigned c = 0; c < 2; c++)
        for (unsigned i = 0; i < sizeof what / sizeof what[0]; i++) {
            struct run run;
            struct tape tape;
            run_fixture(&run, conf[c], what[i]);
            tape_of(&run, &tape, 0); /* checks its sums */
            close_tape(&tape);
        }
}

/* ---- adaptive ---- */

static void check_adaptive(const char *conf, const char *what, double chain)
{
    struct run run;
    struct tape tape;
    run_fixture(&run, conf, what);
    tape_of(&run, &tape, 0);
    assert_int_equal(tape.head->mode, TT_MODE_ADAPTIVE);
    double births = 0, births_variance = 0, live = 0, live_variance = 0;
    for (uint32_t i = 1; i < tape.head->site_count; i++)
        if (same_stack(&tape, &run, i, &run.truth[0])) {
            double w = (double)(1ULL << tape.sites[i].thin);
            births += w * (double)tape.total[i].births;
            births_variance += w * (w - 1) * (double)tape.total[i].births;
            live += w * (double)tape.total[i].live;
            live_variance += w * (w - 1) * (double)tape.total[i].live;
        }
    within(births, (double)run.truth[0].births, births_variance * chain);
    within(live, (double)(run.truth[0].births - run.truth[0].deaths), live_variance);
    close_tape(&tape);
}

static void adaptive_is_unbiased(void **state)
{
    (void)state;
    check_adaptive("mode=adaptive,rate=200,seed=5", "counts", 1);
    check_adaptive("mode=adaptive,rate=1000,seed=6", "counts", 1);
    check_adaptive("mode=adaptive,rate=200,seed=5", "growth", 39); /* taken or passed as a whole */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sampled_is_unbiased),
        cmocka_unit_test(sampled_realloc_is_unbiased),
        cmocka_unit_test(sampled_keeps_contents_and_children),
        cmocka_unit_test(adaptive_is_unbiased),
    };
    return cmocka_run_group_tests(tests, tapes_make, tapes_remove);
}
