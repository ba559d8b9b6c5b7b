/* SPDX-License-Identifier: Apache-2.0 */
/* Error rates of the e-processes under unlimited looks, of e-BH with dependent sites, of the fix
 * check, and mean and variance of the sampling totals (METHODS 2.1, 2.4, 2.7; Monte Carlo A, F, H,
 * I). Start: main's table. */
#include "sim.h"

#include "stats/evalue.h"
#include "stats/fixcheck.h"
#include "stats/sampling.h"

/* Between events the rate e-process falls, so its highest values are at events: looking at each
 * event is looking always. METHODS: 2.9 % against 51.8 % of a repeated z test. */
static void rate_alarm_under_peeking(void **state)
{
    (void)state;
    struct tt_stats_rng rng;
    int alarms = 0, naive = 0, runs = 1000;
    tt_stats_rng_seed(&rng, 1);
    for (int r = 0; r < runs; r++) {
        double t = 0;
        bool alarm = false, z = false;
        for (int n = 1; n <= 1000; n++) {
            t += tt_stats_rng_exponential(&rng, 1);
            alarm = alarm || tt_stats_e_rate(n, t) >= log(20);
            z = z || (n >= 5 && n - t > 1.645 * sqrt(t));
        }
        alarms += alarm;
        naive += z;
    }
    within("rate e-process, false alarms ever", (double)alarms / runs, 0.001,
           tolerance(0.05, runs));
    within("z test at every look (why not)", (double)naive / runs, 0.3, 1);

    double events = 0;
    for (int r = 0; r < 300; r++) {
        double t = 0;
        int n = 0;
        do {
            n++;
            t += tt_stats_rng_exponential(&rng, 0.1);
        } while (tt_stats_e_rate(n, t) < log(20));
        events += n / 300.0;
    }
    within("events to the alarm at ten times the rate", events, 2.5, 5);
}

static void growth_alarm_under_peeking(void **state)
{
    (void)state;
    struct tt_stats_rng rng;
    int alarms = 0, runs = 1000;
    tt_stats_rng_seed(&rng, 2);
    for (int r = 0; r < runs; r++) {
        int births = 0, deaths = 0;
        bool alarm = false;
        for (int n = 0; n < 400 && !alarm; n++) {
            if (tt_stats_rng_uniform(&rng) < 0.5)
                births++;
            else
                deaths++;
            alarm = tt_stats_e_growth(births, deaths) >= log(20);
        }
        alarms += alarm;
    }
    within("growth e-process, false alarms ever", (double)alarms / runs, 0.001,
           tolerance(0.05, runs));
}

/* 400 sites, 40 of them leak at 20 times the tolerable rate. Null sites come in groups that see the
 * very same count; group size 1 is independence, 360 is all in one. */
static void e_bh_with_dependent_sites(void **state)
{
    (void)state;
    static const int group[] = {1, 30, 360};
    enum { SITES = 400, LEAKS = 40, RUNS = 400 };
    struct tt_stats_rng rng;
    tt_stats_rng_seed(&rng, 3);
    for (size_t g = 0; g < 3; g++) {
        double fdr = 0, power = 0;
        for (int r = 0; r < RUNS; r++) {
            double log_e[SITES];
            bool hit[SITES];
            int wrong = 0, right = 0;
            double n = 0;
            for (int i = 0; i < SITES; i++) {
                if (i < LEAKS)
                    n = (double)tt_stats_rng_poisson(&rng, 20);
                else if ((i - LEAKS) % group[g] == 0)
                    n = (double)tt_stats_rng_poisson(&rng, 1);
                log_e[i] = tt_stats_e_rate(n, 1);
            }
            assert_true(tt_stats_e_bh(log_e, NULL, SITES, 0.05, hit, NULL) >= 0);
            for (int i = 0; i < SITES; i++) {
                wrong += hit[i] && i >= LEAKS;
                right += hit[i] && i < LEAKS;
            }
            fdr += wrong ? (double)wrong / (wrong + right) / RUNS : 0;
            power += (double)right / LEAKS / RUNS;
        }
        within("e-BH, false discovery rate", fdr, 0, tolerance(0.05, RUNS));
        within("e-BH, leaks found", power, 0.9, 1);
    }
}

/* Events of B at residual x delta; E("fixed") rises between events, so it is looked at just before
 * each event and at the end. METHODS F: 4.4 % false "fixed" at the bound itself. */
static double declared_fixed(double delta, double residual, double exposure, int runs)
{
    struct tt_stats_rng rng;
    int fixed = 0;
    tt_stats_rng_seed(&rng, 4);
    for (int r = 0; r < runs; r++) {
        double mu = 0;
        bool hit = false;
        for (int k = 0; !hit && mu < exposure; k++) {
            mu += tt_stats_rng_exponential(&rng, 1 / (residual * delta));
            hit = tt_stats_fix_log_e_fixed(k, fmin(mu, exposure), delta) >= log(20);
        }
        fixed += hit;
    }
    return (double)fixed / runs;
}

static void fix_check_under_peeking(void **state)
{
    (void)state;
    static const double delta[] = {0.1, 0.01};
    for (size_t d = 0; d < 2; d++) {
        double exposure = 100 / delta[d];
        within("declared fixed at the bound", declared_fixed(delta[d], 1, exposure, 3000), 0,
               tolerance(0.05, 3000));
        within("declared fixed at 1.2 times the bound",
               declared_fixed(delta[d], 1.2, exposure, 3000), 0, 0.05);
        within("declared fixed at 0.1 times the bound",
               declared_fixed(delta[d], 0.1, exposure, 1000), 0.99, 1);
    }
    /* the other way: residual exactly delta must not be called "still leaking" */
    struct tt_stats_rng rng;
    int still = 0, runs = 2000;
    tt_stats_rng_seed(&rng, 6);
    for (int r = 0; r < runs; r++) {
        double mu = 0;
        bool hit = false;
        for (int k = 1; k <= 200 && !hit; k++) {
            mu += tt_stats_rng_exponential(&rng, 1 / 0.1);
            hit = tt_stats_fix_log_e_still(k, mu, 0.1) >= log(20);
        }
        still += hit;
    }
    within("called still leaking at the bound", (double)still / runs, 0, tolerance(0.05, runs));
}

static void byte_sampling_totals(void **state)
{
    (void)state;
    static const struct {
        double size;
        int n;
    } load[] = {{1024, 20000}, {4096, 20000}, {65536, 2000}, {1048576, 200}};
    const double gap = 524288;
    enum { RUNS = 500 };
    struct tt_stats_rng rng;
    tt_stats_rng_seed(&rng, 7);
    for (size_t q = 0; q < 4; q++) {
        double p = tt_stats_p_bytes(load[q].size, gap), mean = 0, square = 0, claimed = 0;
        double truth = load[q].size * load[q].n;
        for (int r = 0; r < RUNS; r++) {
            /* gaps in bytes; the unit that holds the sampled byte is followed */
            struct tt_stats_ht total = {0};
            double left = tt_stats_rng_exponential(&rng, gap);
            for (int i = 0; i < load[q].n; i++) {
                if (left <= load[q].size) {
                    tt_stats_ht_add(&total, 1, load[q].size, p);
                    left = tt_stats_rng_exponential(&rng, gap);
                } else {
                    left -= load[q].size;
                }
            }
            mean += total.bytes / RUNS;
            square += total.bytes * total.bytes / RUNS;
            claimed += total.bytes_var / RUNS;
        }
        /* standard error of the mean is 1/sqrt(500) of the sd; of the sd itself about 3.2 % */
        double sd = sqrt(square - mean * mean);
        within("Horvitz-Thompson mean / truth", mean / truth, 1 - 4 * sd / truth / sqrt(RUNS),
               1 + 4 * sd / truth / sqrt(RUNS));
        within("sd / sd from the variance estimate", sd / sqrt(claimed), 0.9, 1.1);
    }
}

/* 50,000 units stay, 5,000 are born and 5,000 die between two snapshots. */
static void snapshot_difference(void **state)
{
    (void)state;
    enum { RUNS = 2000 };
    const double p = tt_stats_p_thin(6), size = 1024;
    struct tt_stats_rng rng;
    double mean = 0, square = 0, claimed = 0;
    tt_stats_rng_seed(&rng, 8);
    for (int r = 0; r < RUNS; r++) {
        struct tt_stats_ht born = {0}, died = {0};
        for (int i = 0; i < 5000; i++) {
            if (tt_stats_rng_uniform(&rng) < p)
                tt_stats_ht_add(&born, 1, size, p);
            if (tt_stats_rng_uniform(&rng) < p)
                tt_stats_ht_add(&died, 1, size, p);
        }
        struct tt_stats_ht change = tt_stats_ht_difference(&born, &died);
        mean += change.bytes / RUNS;
        square += change.bytes * change.bytes / RUNS;
        claimed += change.bytes_var / RUNS;
    }
    double sd = sqrt(square - mean * mean);
    within("mean change in sd", mean / sd, -4 / sqrt(RUNS), 4 / sqrt(RUNS));
    within("sd / sd from the variance estimate", sd / sqrt(claimed), 0.93, 1.07);
}

/* p = 2^-j chosen from the past second only, bursts of nine times the trough. */
static void adaptive_thinning_is_unbiased(void **state)
{
    (void)state;
    enum { RUNS = 300 };
    struct tt_stats_rng rng;
    double mean = 0, square = 0;
    tt_stats_rng_seed(&rng, 9);
    for (int r = 0; r < RUNS; r++) {
        struct tt_stats_ht total = {0};
        double births = 0, average = 0;
        unsigned thin = 0;
        for (int t = 0; t < 300; t++) {
            uint64_t n = tt_stats_rng_poisson(&rng, t / 60 % 2 ? 180 : 20);
            for (uint64_t i = 0; i < n; i++)
                if (tt_stats_rng_uniform(&rng) < tt_stats_p_thin(thin))
                    tt_stats_ht_add(&total, 1, 1, tt_stats_p_thin(thin));
            births += (double)n;
            average = 0.7 * average + 0.3 * (double)n;
            for (thin = 0; average * tt_stats_p_thin(thin) > 1 && thin < 20;)
                thin++;
        }
        mean += total.units / births / RUNS;
        square += total.units / births * (total.units / births) / RUNS;
    }
    double sd = sqrt(square - mean * mean);
    within("adaptive estimate / truth", mean, 1 - 4 * sd / sqrt(RUNS), 1 + 4 * sd / sqrt(RUNS));
    within("its relative sd", sd, 0.02, 0.12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rate_alarm_under_peeking),
        cmocka_unit_test(growth_alarm_under_peeking),
        cmocka_unit_test(e_bh_with_dependent_sites),
        cmocka_unit_test(fix_check_under_peeking),
        cmocka_unit_test(byte_sampling_totals),
        cmocka_unit_test(snapshot_difference),
        cmocka_unit_test(adaptive_thinning_is_unbiased),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
