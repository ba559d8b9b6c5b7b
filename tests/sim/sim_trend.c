/* SPDX-License-Identifier: Apache-2.0 */
/* Coverage, size and power of the power-law trend, and how often load-following and accounting are
 * right, against the baselines' false alarms (METHODS 2.3 iv-vi; Monte Carlo D). Start: main's
 * table. */
#include "sim.h"

#include "stats/account.h"
#include "stats/trend.h"

/* k events of a power law on [0, 1000]. */
static void power_law(struct tt_stats_rng *rng, double beta, int k, double *t)
{
    for (int i = 0; i < k; i++)
        t[i] = 1e6 * pow(tt_stats_rng_uniform(rng), 1 / beta);
}

static void intervals_cover(void **state)
{
    (void)state;
    static const double beta[] = {0.5, 1, 1.5};
    enum { RUNS = 500, K = 60, CELLS = 30 };
    struct tt_stats_rng rng;
    tt_stats_rng_seed(&rng, 1);
    for (size_t b = 0; b < 3; b++) {
        int exact = 0, grouped = 0;
        for (int r = 0; r < RUNS; r++) {
            double t[K], edges[CELLS + 1], count[CELLS] = {0};
            struct tt_stats_trend trend;
            power_law(&rng, beta[b], K, t);
            tt_stats_trend_power_law(t, K, 1e6, 0.95, &trend);
            exact += trend.interval.lo <= beta[b] && beta[b] <= trend.interval.hi;
            for (int i = 0; i <= CELLS; i++)
                edges[i] = 1e6 * i / CELLS;
            for (int i = 0; i < K; i++)
                count[(int)(t[i] * CELLS / 1e6)]++;
            tt_stats_trend_power_law_grouped(edges, count, CELLS, 0.95, &trend);
            grouped += trend.interval.lo <= beta[b] && beta[b] <= trend.interval.hi;
        }
        within("exact 95 % interval covers", (double)exact / RUNS, 0.92, 0.98);
        within("grouped 95 % interval covers", (double)grouped / RUNS, 0.92, 0.995);
    }
}

/* Share of runs in which the upper end of a 90 % interval lies below 1: the one-sided 5 % test. */
static double slowing(double beta, int k)
{
    enum { RUNS = 1000 };
    struct tt_stats_rng rng;
    int hits = 0;
    tt_stats_rng_seed(&rng, 2);
    for (int r = 0; r < RUNS; r++) {
        double t[400];
        struct tt_stats_trend trend;
        power_law(&rng, beta, k, t);
        tt_stats_trend_power_law(t, (size_t)k, 1e6, 0.9, &trend);
        hits += trend.interval.hi < 1;
    }
    return (double)hits / RUNS;
}

static void size_and_power(void **state)
{
    (void)state;
    within("size at 20 events", slowing(1, 20), 0.03, tolerance(0.05, 1000));
    within("size at 200 events", slowing(1, 200), 0.03, tolerance(0.05, 1000));
    within("power, beta 0.5, 20 events (METHODS .93)", slowing(0.5, 20), 0.90, 0.96);
    within("power, beta 0.7, 50 events (METHODS .83)", slowing(0.7, 50), 0.79, 0.87);
}

static void classes_are_right(void **state)
{
    (void)state;
    static const double beta[] = {0.5, 1, 1.6};
    enum { RUNS = 500, K = 400 };
    struct tt_stats_rng rng;
    tt_stats_rng_seed(&rng, 3);
    for (size_t b = 0; b < 3; b++) {
        int class[4] = {0};
        for (int r = 0; r < RUNS; r++) {
            double t[K];
            struct tt_stats_trend trend;
            power_law(&rng, beta[b], K, t);
            tt_stats_trend_power_law(t, K, 1e6, 0.95, &trend);
            class[trend.class]++;
        }
        within("right class", (double)class[TT_STATS_TREND_SATURATING + b] / RUNS, 0.93, 1);
        within("a wrong class (undetermined is not wrong)",
               1 - (double)(class[TT_STATS_TREND_SATURATING + b] + class[0]) / RUNS, 0, 0.01);
    }
}

/* A live count in equilibrium under a load that wanders: no leak. Truth: births proportional to the
 * gauge, life short against the sampling. */
static void load_following(void **state)
{
    (void)state;
    enum { RUNS = 200, N = 120 };
    struct tt_stats_rng rng;
    int followed = 0, leak_called = 0, kendall = 0;
    tt_stats_rng_seed(&rng, 4);
    for (int r = 0; r < RUNS; r++) {
        double units[N], leaking[N], gauge[N], ops[N], at = 0, done = 0;
        struct tt_stats_load load;
        for (int i = 0; i < N; i++) {
            at = 0.95 * at + tt_stats_rng_normal(&rng);
            gauge[i] = fmax(0, 60 + 10 * at + 10.0 * i / N);
            done += 20 * gauge[i];
            ops[i] = done;
            units[i] = (double)tt_stats_rng_poisson(&rng, 3 * gauge[i]);
            leaking[i] = units[i] + (double)tt_stats_rng_poisson(&rng, 0.01 * done);
        }
        assert_int_equal(tt_stats_trend_load(units, gauge, ops, N, 3, 0.95, 0.002, &load), 0);
        followed += load.following;
        kendall += tt_stats_trend_mann_kendall(units, N) > 1.645;
        tt_stats_trend_load(leaking, gauge, ops, N, 3, 0.95, 0.002, &load);
        leak_called += load.following;
    }
    within("load followed", (double)followed / RUNS, 0.9, 1);
    within("a leak of 0.01 per operation called load", (double)leak_called / RUNS, 0, 0.01);
    within("Mann-Kendall on the same counts (why not)", (double)kendall / RUNS, 0.3, 1);
}

static void accounting(void **state)
{
    (void)state;
    enum { RUNS = 300, N = 60 };
    struct tt_stats_rng rng;
    int right = 0, wrong = 0;
    tt_stats_rng_seed(&rng, 5);
    for (int r = 0; r < RUNS; r++) {
        double clock[N], live[N], held[N], wander = 0;
        struct tt_stats_account account;
        for (int i = 0; i < N; i++) {
            clock[i] = 1000.0 * i;
            wander = 0.6 * wander + 1e4 * tt_stats_rng_normal(&rng);
            live[i] = 5e6 + wander;
            held[i] = live[i] + 3e6 + 20 * clock[i] + 1e4 * tt_stats_rng_normal(&rng);
        }
        assert_int_equal(tt_stats_account(clock, live, held, N, 5, &account), 0);
        right += account.class == TT_STATS_ACCOUNT_FRAGMENTATION;
        for (int i = 0; i < N; i++)
            live[i] += 20 * clock[i]; /* now the program itself grows */
        tt_stats_account(clock, live, held, N, 5, &account);
        wrong += account.class == TT_STATS_ACCOUNT_FRAGMENTATION;
    }
    within("fragmentation named", (double)right / RUNS, 0.95, 1);
    within("growth called fragmentation", (double)wrong / RUNS, 0, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(intervals_cover),   cmocka_unit_test(size_and_power),
        cmocka_unit_test(classes_are_right), cmocka_unit_test(load_following),
        cmocka_unit_test(accounting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
