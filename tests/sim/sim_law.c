/* SPDX-License-Identifier: Apache-2.0 */
/* How often the true law is recovered: one unit per call for each owner beyond two, owners 0..6,
 * about 100 calls an interval, complete or sampled (METHODS 2.5; Monte Carlo E). And how often
 * chance looks like an exact ratio. Start: main's table. */
#include "sim.h"

#include "stats/law.h"

struct score {
    double right, exact, identifiable, slope_error;
};

static struct score recover(int points, double inclusion, int runs, uint64_t seed)
{
    struct tt_stats_law_options options = {
        .exact = inclusion >= 1, .slack_ops = 1, .inclusion = inclusion};
    struct tt_stats_rng rng;
    struct score score = {0};
    tt_stats_rng_seed(&rng, seed);
    for (int r = 0; r < runs; r++) {
        struct tt_stats_law_point p[128];
        struct tt_stats_law_fit fit;
        for (int i = 0; i < points; i++) {
            double owners = floor(7 * tt_stats_rng_uniform(&rng));
            double calls = 1 + (double)tt_stats_rng_poisson(&rng, 100);
            double mu = calls * fmax(0, owners - 2);
            if (inclusion < 1)
                mu = (double)tt_stats_rng_poisson(&rng, mu * inclusion) / inclusion;
            p[i] = (struct tt_stats_law_point){owners, mu, calls};
        }
        assert_int_equal(tt_stats_law_hinge(p, (size_t)points, &options, &fit), 0);
        const struct tt_stats_law_term *term = &fit.best.term[0];
        bool right =
            fit.best.n_terms == 1 && term->basis == TT_STATS_BASIS_HINGE && term->knot == 2;
        score.right += (double)right / runs;
        score.exact += (double)(right && fit.best.exact) / runs;
        score.identifiable += (double)fit.identifiable / runs;
        score.slope_error += right ? fabs(term->coefficient - 1) / runs : 0;
    }
    return score;
}

static void hinge_recovery(void **state)
{
    (void)state;
    struct score s = recover(12, 1, 300, 1);
    within("12 complete intervals: right law", s.right, 0.97,
           1); /* owners drawn may not reach 4 levels */
    within("... and coefficient exact", s.exact, 0.97, 1);
    s = recover(120, 0.01, 300, 2); /* about 170 followed losses */
    within("170 sampled losses: right law (METHODS .97)", s.right, 0.93, 1);
    within("... mean slope error", s.slope_error, 0, 0.08);
    s = recover(60, 0.01, 300, 3); /* about 86 */
    within("86 sampled losses: right law (METHODS .94)", s.right, 0.85, 1);
    s = recover(12, 0.01, 300, 4); /* about 17: too few to say so */
    within("17 sampled losses: said to be identifiable", s.identifiable, 0, 0.01);
}

static void chance_is_not_exact(void **state)
{
    (void)state;
    static const double mean[] = {0.3, 0.5, 1, 3};
    enum { RUNS = 500, M = 40 };
    struct tt_stats_rng rng;
    tt_stats_rng_seed(&rng, 5);
    for (size_t c = 0; c < 4; c++) {
        int exact = 0, covered = 0;
        for (int r = 0; r < RUNS; r++) {
            double ops[M + 1] = {0}, lost[M + 1] = {0};
            struct tt_stats_ratio ratio;
            for (int i = 1; i <= M; i++) {
                double calls = (double)tt_stats_rng_poisson(&rng, 30);
                ops[i] = ops[i - 1] + calls;
                lost[i] = lost[i - 1] + (double)tt_stats_rng_poisson(&rng, mean[c] * calls);
            }
            assert_int_equal(tt_stats_law_ratio(ops, lost, M, 1, 0.95, &ratio), 0);
            exact += ratio.exact;
            covered += ratio.interval.lo <= mean[c] && mean[c] <= ratio.interval.hi;
        }
        within("Poisson losses called exact", (double)exact / RUNS, 0, 0.002);
        within("the 95 % interval covers the mean", (double)covered / RUNS, 0.92, 1);
    }
}

/* One per call, looked at while up to two calls are under way. */
static void exact_ratios_are_found(void **state)
{
    (void)state;
    enum { RUNS = 200, M = 30 };
    struct tt_stats_rng rng;
    int found = 0;
    tt_stats_rng_seed(&rng, 6);
    for (int r = 0; r < RUNS; r++) {
        double ops[M + 1] = {0}, lost[M + 1] = {0};
        struct tt_stats_ratio ratio;
        for (int i = 1; i <= M; i++) {
            ops[i] = ops[i - 1] + 2 + (double)tt_stats_rng_poisson(&rng, 30);
            lost[i] = fmax(lost[i - 1], ops[i] - floor(3 * tt_stats_rng_uniform(&rng)));
        }
        assert_int_equal(tt_stats_law_ratio(ops, lost, M, 2, 0.95, &ratio), 0);
        found += ratio.exact && ratio.numerator == 1 && ratio.denominator == 1 && ratio.held == M;
    }
    within("one per call found", (double)found / RUNS, 1, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hinge_recovery),
        cmocka_unit_test(chance_is_not_exact),
        cmocka_unit_test(exact_ratios_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
