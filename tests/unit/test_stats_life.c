/* SPDX-License-Identifier: Apache-2.0 */
/* Ages and lifetimes: the tape's bins, the life table, octave e-values, release timers. Start:
 * main's table. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "stats/delay.h"
#include "stats/survival.h"
#include "tape/tape.h"

#define NEAR(a, b, tolerance) assert_true(fabs((a) - (b)) <= (tolerance))

static void bins_are_the_tapes(void **state)
{
    (void)state;
    static const uint32_t start[] = {0, 2, 3, 4, 6, 8, 12, 16, 23, 32, 46, 64};
    assert_int_equal(TT_STATS_BINS, TT_TAPE_BINS);
    for (uint32_t i = 0; i < sizeof start / sizeof *start; i++)
        assert_int_equal(tt_stats_bin_start(i), start[i]);
    for (uint32_t age = 0; age < 200000; age++)
        assert_int_equal(tt_stats_bin_of(age), tt_tape_bin(age));
    for (uint32_t bin = 0; bin < TT_STATS_BINS; bin++) {
        uint32_t at = tt_stats_bin_start(bin), next = tt_stats_bin_start(bin + 1);
        assert_int_equal(tt_stats_bin_of(at), bin);
        assert_int_equal(tt_stats_bin_of(next - 1), bin);
        assert_int_equal(tt_stats_bin_of(at), tt_tape_bin(at));
        assert_int_equal(tt_stats_bin_of(next - 1), tt_tape_bin(next - 1));
    }
    assert_int_equal(tt_stats_bin_of(UINT32_MAX), TT_STATS_BINS - 1);
}

/* 10 units: 4 die in bin 3 (4..5), 2 live there; 1 dies in bin 5 (8..11), 3 live at 100. */
static void life_table_by_hand(void **state)
{
    (void)state;
    struct tt_stats_age live[] = {{100, 3}, {5, 2}};
    struct tt_stats_lifetimes lt = {.live = live, .n_live = 2, .window = 120};
    struct tt_stats_life_table table;
    lt.deaths[3] = 4;
    lt.deaths[5] = 1;
    tt_stats_survival_table(&lt, 0.95, &table);
    assert_int_equal(table.n, tt_stats_bin_of(100) + 1);
    NEAR(table.row[2].survival, 1, 0);
    NEAR(table.row[3].at_risk, 10, 0);
    NEAR(table.row[3].survival, 1 - 4.0 / 9, 1e-12); /* 2 censored count half */
    NEAR(table.row[5].at_risk, 4, 0);
    double s = (1 - 4.0 / 9) * 0.75, v = 4.0 / (9 * 5) + 1.0 / (4 * 3);
    NEAR(table.row[5].survival, s, 1e-12);
    NEAR(table.row[5].greenwood, v, 1e-12);
    double w = 1.959963984540054 * sqrt(v) / -log(s);
    NEAR(table.row[5].survival_lo, pow(s, exp(w)), 1e-12);
    NEAR(table.row[5].survival_hi, pow(s, exp(-w)), 1e-12);
    NEAR(tt_stats_survival_at(&table, 12), s, 1e-12);
    NEAR(tt_stats_survival_at(&table, 2), 1, 1e-12);
    assert_true(isnan(tt_stats_survival_at(&table, 1e6)));

    struct tt_stats_cure cure;
    tt_stats_survival_cure(&table, 1, &cure);
    NEAR(cure.upper_estimate, s, 1e-12);
    NEAR(cure.at_risk, 3, 0);
    tt_stats_survival_cure(&table, 5, &cure);
    NEAR(cure.upper_estimate, 1 - 4.0 / 9, 1e-12);
}

static void empty_sites_say_nothing(void **state)
{
    (void)state;
    struct tt_stats_lifetimes lt = {.window = 100000};
    struct tt_stats_life_table table;
    struct tt_stats_retention r;
    struct tt_stats_cure cure;
    tt_stats_survival_table(&lt, 0.95, &table);
    assert_int_equal(table.n, 0);
    assert_true(isnan(tt_stats_survival_at(&table, 0)));
    tt_stats_survival_cure(&table, 1, &cure);
    NEAR(cure.interval.lo, 0, 0);
    tt_stats_survival_octaves(&lt, &tt_stats_octave_defaults, &r);
    assert_false(r.retained);
    NEAR(r.log_e, 0, 1e-12);
    lt.window = 10; /* younger than A: no octave is open */
    tt_stats_survival_octaves(&lt, &tt_stats_octave_defaults, &r);
    assert_int_equal(r.n, 0);
    assert_false(r.retained);
}

static void octaves_by_hand(void **state)
{
    (void)state;
    struct tt_stats_octave_rule rule = tt_stats_octave_defaults;
    struct tt_stats_age live[] = {{150, 20}, {80, 7}};
    struct tt_stats_lifetimes lt = {.live = live, .n_live = 2, .window = 200};
    struct tt_stats_retention r;
    rule.a_min = 64;
    rule.slices = 0;
    lt.deaths[tt_stats_bin_of(50)] = 2;
    lt.deaths[tt_stats_bin_of(100)] = 1;
    tt_stats_survival_octaves(&lt, &rule, &r);
    assert_int_equal(r.n, 2); /* A = 64 and 128 */
    double up = log(0.98 / 0.8), down = log(0.1);
    NEAR(r.octave[0].survivors, 28, 0); /* all live, and the one that died at about 100 */
    NEAR(r.octave[0].deaths, 2, 0);
    NEAR(r.octave[0].log_e, 28 * up + 2 * down, 1e-12);
    NEAR(r.octave[1].survivors, 20, 0);
    NEAR(r.octave[1].deaths, 1, 0);
    NEAR(r.octave[1].log_e, 20 * up + down, 1e-12);
    NEAR(r.log_e, log((exp(r.octave[0].log_e) + exp(r.octave[1].log_e)) / 2), 1e-12);
    NEAR(r.oldest_seconds, 16, 0);
    NEAR(r.oldest_death_share, 1.0 / 21, 1e-12);
    assert_false(r.veto);
    assert_false(r.retained);

    live[0].count = 100;
    tt_stats_survival_octaves(&lt, &rule, &r);
    assert_true(r.retained);
    NEAR(r.beyond_seconds, 16, 0);
    NEAR(r.survivors, 100, 0);

    lt.deaths[tt_stats_bin_of(100)] = 25; /* a fifth of 125: the veto */
    tt_stats_survival_octaves(&lt, &rule, &r);
    assert_true(r.veto);
    assert_false(r.retained);
}

/* A thousand units of one instant are one piece of evidence, not a thousand. */
static void the_cap_counts_a_batch_once(void **state)
{
    (void)state;
    struct tt_stats_octave_rule rule = tt_stats_octave_defaults;
    struct tt_stats_age live[] = {{9000, 1000}};
    struct tt_stats_lifetimes lt = {.live = live, .n_live = 1, .window = 10000};
    struct tt_stats_retention r;
    tt_stats_survival_octaves(&lt, &rule, &r);
    NEAR(r.octave[0].counted_survivors, 1, 0);
    assert_false(r.retained);
    rule.slices = 0;
    tt_stats_survival_octaves(&lt, &rule, &r);
    assert_true(r.retained);

    struct tt_stats_age spread[200];
    for (uint32_t i = 0; i < 200; i++)
        spread[i] = (struct tt_stats_age){4801 + i * 26, 10};
    lt.live = spread;
    lt.n_live = 200;
    lt.deaths[tt_stats_bin_of(4000)] = 100;
    tt_stats_survival_octaves(&lt, &tt_stats_octave_defaults, &r);
    assert_in_range((int)r.octave[0].counted_survivors, 99, 100);
    NEAR(r.octave[0].counted_deaths, r.octave[0].counted_survivors * 100 / 2000, 1e-9);
    assert_true(r.retained);
}

static void timers_are_found(void **state)
{
    (void)state;
    struct tt_stats_age deaths[] = {{2, 300}, {1919, 3}, {1920, 60}, {1921, 5}, {400, 1}, {40, 2}};
    struct tt_stats_delay d;
    assert_int_equal(tt_stats_delay_find(deaths, 6, &tt_stats_delay_defaults, &d), 0);
    assert_true(d.found && d.candidate && !d.binned);
    NEAR(d.tau, 240, 0);
    NEAR(d.share, 68.0 / 71, 1e-12);
    NEAR(d.lo, 1919 / 8.0, 0);
    NEAR(d.hi, 1921 / 8.0, 0);
    assert_true(d.log_p < log(1e-9));

    struct tt_stats_age odd[] = {{250, 4}, {251, 30}, {253, 6}, {900, 2}};
    tt_stats_delay_find(odd, 4, &tt_stats_delay_defaults, &d);
    assert_true(d.found);
    assert_false(d.candidate);
    NEAR(d.tau, 31.4, 0.2);
}

static void falling_densities_are_no_timers(void **state)
{
    (void)state;
    struct tt_stats_age deaths[64];
    struct tt_stats_delay d;
    for (uint32_t i = 0; i < 64; i++) /* exponential of mean 2 ticks: nearly all in the first few */
        deaths[i] = (struct tt_stats_age){i, (uint64_t)(1e6 * exp(-(double)i / 2))};
    tt_stats_delay_find(deaths, 64, &tt_stats_delay_defaults, &d);
    assert_false(d.found);
    tt_stats_delay_find(NULL, 0, &tt_stats_delay_defaults, &d);
    assert_false(d.found);
}

static void timers_in_bins(void **state)
{
    (void)state;
    uint64_t deaths[TT_STATS_BINS] = {[0] = 5000, [5] = 3};
    struct tt_stats_delay d;
    deaths[tt_stats_bin_of(256)] = 80; /* 32 s */
    tt_stats_delay_find_binned(deaths, &tt_stats_delay_defaults, &d);
    assert_true(d.found && d.binned);
    assert_true(d.lo <= 32 && 32 < d.hi);
    deaths[tt_stats_bin_of(256) - 1] = 70; /* jitter over the bin's edge */
    tt_stats_delay_find_binned(deaths, &tt_stats_delay_defaults, &d);
    assert_true(d.found && d.lo < 32);
    for (uint32_t b = 0; b < TT_STATS_BINS; b++)
        deaths[b] = 40;
    tt_stats_delay_find_binned(deaths, &tt_stats_delay_defaults, &d);
    assert_false(d.found);
}

static void what_a_short_look_leaves_open(void **state)
{
    (void)state;
    NEAR(tt_stats_delay_prior_beyond(600, 1, 86400), 0.44, 0.005); /* METHODS 2.3 ii */
    NEAR(tt_stats_delay_prior_beyond(3600, 1, 86400), 0.28, 0.005);
    NEAR(tt_stats_delay_prior_beyond(14400, 1, 86400), 0.16, 0.005);
    NEAR(tt_stats_delay_prior_beyond(0.1, 1, 86400), 1, 0);
    NEAR(tt_stats_delay_prior_beyond(1e6, 1, 86400), 0, 0);
    NEAR(tt_stats_delay_posterior_leak(0.5, 600), 1 / 1.437, 0.001);
    NEAR(tt_stats_delay_plateau(100, 240), 24000, 0);
    assert_false(tt_stats_delay_matters(600, 300));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bins_are_the_tapes),
        cmocka_unit_test(life_table_by_hand),
        cmocka_unit_test(empty_sites_say_nothing),
        cmocka_unit_test(octaves_by_hand),
        cmocka_unit_test(the_cap_counts_a_batch_once),
        cmocka_unit_test(timers_are_found),
        cmocka_unit_test(falling_densities_are_no_timers),
        cmocka_unit_test(timers_in_bins),
        cmocka_unit_test(what_a_short_look_leaves_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
