/* SPDX-License-Identifier: Apache-2.0 */
/* The octave rule and the search for timers on simulated lifetimes (METHODS 2.3 i, ii; Monte Carlo
 * b): one birth a second, A_min 600 s, threshold E >= 2e5 (10^4 sites at FDR 5 %). Start: main's
 * table. */
#include "sim.h"

#include "stats/delay.h"
#include "stats/survival.h"

enum kind { EXPONENTIAL, LOGNORMAL, LOMAX, TTL, NEVER };

struct model {
    const char *name;
    enum kind kind;
    double scale; /* seconds: mean, median, scale, timer */
    double leak;  /* share that is never released */
};

static double lifetime(struct tt_stats_rng *rng, const struct model *m)
{
    if (tt_stats_rng_uniform(rng) < m->leak)
        return INFINITY;
    switch (m->kind) {
    case EXPONENTIAL:
        return tt_stats_rng_exponential(rng, m->scale);
    case LOGNORMAL:
        return m->scale * exp(2 * tt_stats_rng_normal(rng));
    case LOMAX:
        return m->scale * (pow(tt_stats_rng_uniform(rng), -2) - 1); /* shape 1/2 */
    case TTL:
        return m->scale * (1 + 0.02 * tt_stats_rng_uniform(rng));
    case NEVER:
        break;
    }
    return INFINITY;
}

#define MAX_UNITS 20000
static struct {
    double birth, life;
} unit[MAX_UNITS];
static struct tt_stats_age live[MAX_UNITS];
static size_t units;

static void births(struct tt_stats_rng *rng, const struct model *m, double rate, double window)
{
    units = 0;
    for (double t = tt_stats_rng_exponential(rng, 1 / rate); t < window && units < MAX_UNITS;
         t += tt_stats_rng_exponential(rng, 1 / rate)) {
        unit[units].birth = t;
        unit[units++].life = lifetime(rng, m);
    }
}

/* What the tape would show at time `now`. `ticks`: per simulated second. */
static struct tt_stats_lifetimes look(double now, double ticks)
{
    struct tt_stats_lifetimes lt = {.live = live, .window = (uint32_t)(now * ticks)};
    for (size_t i = 0; i < units && unit[i].birth <= now; i++) {
        if (unit[i].birth + unit[i].life <= now)
            lt.deaths[tt_stats_bin_of((uint32_t)(unit[i].life * ticks))]++;
        else
            live[lt.n_live++] = (struct tt_stats_age){(uint32_t)((now - unit[i].birth) * ticks), 1};
    }
    return lt;
}

static struct tt_stats_octave_rule many_sites(void)
{
    struct tt_stats_octave_rule rule = tt_stats_octave_defaults;
    rule.log_threshold = log(2e5);
    return rule;
}

/* Share of runs with a verdict at the end of the window; without_veto (may be NULL) the share that
 * the e-value alone would give. */
static double verdicts(const struct model *m, double window, double ticks, int runs,
                       const struct tt_stats_octave_rule *rule, double *without_veto)
{
    struct tt_stats_rng rng;
    int hits = 0, raw = 0;
    tt_stats_rng_seed(&rng, 1000 + (uint64_t)window + (uint64_t)m->kind * 77);
    for (int r = 0; r < runs; r++) {
        struct tt_stats_retention out;
        births(&rng, m, 1, window);
        struct tt_stats_lifetimes lt = look(window, ticks);
        tt_stats_survival_octaves(&lt, rule, &out);
        hits += out.retained;
        raw += out.log_e >= rule->log_threshold;
    }
    if (without_veto)
        *without_veto = (double)raw / runs;
    return (double)hits / runs;
}

static void released_units_are_no_leak(void **state)
{
    (void)state;
    static const struct model model[] = {
        {"exponential 60 s", EXPONENTIAL, 60, 0},
        {"exponential 600 s", EXPONENTIAL, 600, 0},
        {"lognormal 60 s, sigma 2", LOGNORMAL, 60, 0},
        {"Lomax 1/2, 10 s", LOMAX, 10, 0},
        {"timer 240 s", TTL, 240, 0},
    };
    static const double window[] = {900, 3600, 14400};
    struct tt_stats_octave_rule rule = many_sites();
    for (size_t i = 0; i < sizeof model / sizeof *model; i++)
        for (size_t w = 0; w < 3; w++)
            within(model[i].name, verdicts(&model[i], window[w], 8, 60, &rule, NULL), 0, 0);
    /* the rule has no scale: an A_min of 5 s against lifetimes and windows a 120th as long */
    rule.a_min = 40;
    static const struct model small[] = {{"exponential 5 s, A_min 5 s", EXPONENTIAL, 5, 0},
                                         {"lognormal 0.5 s, A_min 5 s", LOGNORMAL, 0.5, 0},
                                         {"timer 2 s, A_min 5 s", TTL, 2, 0}};
    for (size_t i = 0; i < 3; i++)
        within(small[i].name, verdicts(&small[i], 600, 8, 60, &rule, NULL), 0, 0);
}

/* A timer of 3000 s is retained beyond 600 s for as long as one has not seen it fire; then the veto
 * withdraws what the e-value alone would keep saying for ever. Long exponentials likewise. */
static void the_veto_withdraws(void **state)
{
    (void)state;
    static const struct model timer = {"timer 3000 s", TTL, 3000, 0};
    static const struct model slow = {"exponential 3600 s", EXPONENTIAL, 3600, 0};
    struct tt_stats_octave_rule rule = many_sites();
    double raw, with = verdicts(&timer, 2400, 8, 40, &rule, &raw);
    within("timer 3000 s at 40 min: retained beyond A so far", with, 1, 1);
    struct tt_stats_octave_rule uncapped = rule;
    uncapped.slices = 0;
    with = verdicts(&timer, 14400, 8, 40, &uncapped, &raw);
    within("timer 3000 s at 4 h without veto and cap", raw, 1, 1);
    within("timer 3000 s at 4 h without cap", with, 0, 0);
    with = verdicts(&timer, 14400, 8, 40, &rule, NULL);
    within("timer 3000 s at 4 h", with, 0, 0);
    within("exponential 3600 s at 15 min (provisional)", verdicts(&slow, 900, 8, 100, &rule, NULL),
           0, 0.3);
    within("exponential 3600 s at 4 h", verdicts(&slow, 14400, 8, 40, &rule, &raw), 0, 0);
}

/* Ever, over a grid of looks 10 % apart, not only at the end. */
static void looking_often_stays_safe(void **state)
{
    (void)state;
    static const struct model model[] = {{"exponential 600 s, ever", EXPONENTIAL, 600, 0},
                                         {"Lomax 1/2, ever", LOMAX, 10, 0},
                                         {"lognormal sigma 2, ever", LOGNORMAL, 60, 0}};
    struct tt_stats_octave_rule rule = many_sites();
    rule.log_threshold = log(20); /* one site, 5 % */
    struct tt_stats_rng rng;
    tt_stats_rng_seed(&rng, 5);
    for (size_t i = 0; i < 3; i++) {
        int ever = 0, runs = 60;
        for (int r = 0; r < runs; r++) {
            bool hit = false;
            births(&rng, &model[i], 1, 7200);
            for (double t = 630; t <= 7200 && !hit; t *= 1.1) {
                struct tt_stats_retention out;
                struct tt_stats_lifetimes lt = look(t, 8);
                tt_stats_survival_octaves(&lt, &rule, &out);
                hit = out.retained;
            }
            ever += hit;
        }
        within(model[i].name, (double)ever / runs, 0, tolerance(0.05, runs));
    }
}

static double found_at(const struct model *m, double rate, double window, int runs, double *missed)
{
    struct tt_stats_octave_rule rule = many_sites();
    struct tt_stats_rng rng;
    double sum = 0;
    int found = 0;
    tt_stats_rng_seed(&rng, 21);
    for (int r = 0; r < runs; r++) {
        births(&rng, m, rate, window);
        for (double t = 605; t <= window; t += 10) {
            struct tt_stats_retention out;
            struct tt_stats_lifetimes lt = look(t, 8);
            tt_stats_survival_octaves(&lt, &rule, &out);
            if (out.retained) {
                sum += t / 60;
                found++;
                break;
            }
        }
    }
    *missed = 1 - (double)found / runs;
    return found ? sum / found : INFINITY;
}

/* METHODS: 100 % leak at 11.5 min, 10 % among exponential 60 s at 33 min. */
static void leaks_are_found(void **state)
{
    (void)state;
    static const struct model all = {"all", NEVER, 0, 1}, tenth = {"tenth", EXPONENTIAL, 60, 0.1};
    static const struct model hundredth = {"hundredth", TTL, 240, 0.01};
    struct tt_stats_octave_rule rule = many_sites();
    double missed, minutes = found_at(&all, 1, 1200, 20, &missed);
    within("every unit leaks: minutes to the verdict", minutes, 10, 12.5);
    within("missed", missed, 0, 0);
    minutes = found_at(&tenth, 1, 3600, 10, &missed);
    within("10 % leak: minutes to the verdict", minutes, 15, 40);
    within("missed", missed, 0, 0);
    within("1 % leak in a 240 s timer, after 4 h", verdicts(&hundredth, 14400, 8, 30, &rule, NULL),
           0.9, 1);
}

/* Pools: every five minutes 20 units that will die together, after an exponential time of mean 1200
 * s - just inside H0. The uncapped e-value takes one pool's survival for 20 facts. */
static void pools_die_together(void **state)
{
    (void)state;
    struct tt_stats_octave_rule rule = tt_stats_octave_defaults, uncapped = rule;
    struct tt_stats_rng rng;
    int capped_hits = 0, uncapped_hits = 0, runs = 400;
    rule.log_threshold = uncapped.log_threshold = log(20);
    uncapped.slices = 0;
    tt_stats_rng_seed(&rng, 8);
    for (int r = 0; r < runs; r++) {
        struct tt_stats_retention out;
        units = 0;
        for (double t = 0; t < 3600; t += 300) {
            double life = tt_stats_rng_exponential(&rng, 1200);
            for (int i = 0; i < 20; i++) {
                unit[units].birth = t;
                unit[units++].life = life;
            }
        }
        struct tt_stats_lifetimes lt = look(650, 8);
        tt_stats_survival_octaves(&lt, &rule, &out);
        capped_hits += out.retained;
        tt_stats_survival_octaves(&lt, &uncapped, &out);
        uncapped_hits += out.retained;
    }
    within("pools, capped", (double)capped_hits / runs, 0, tolerance(0.05, runs));
    within("pools, not capped (what the cap is for)", (double)uncapped_hits / runs, 0.15, 1);
}

static void cure_fraction(void **state)
{
    (void)state;
    static const struct model fifth = {"fifth", EXPONENTIAL, 60, 0.2};
    struct tt_stats_rng rng;
    double sum = 0;
    int covered = 0, runs = 200;
    tt_stats_rng_seed(&rng, 13);
    for (int r = 0; r < runs; r++) {
        struct tt_stats_life_table table;
        struct tt_stats_cure cure;
        births(&rng, &fifth, 0.5, 1200);
        struct tt_stats_lifetimes lt = look(1200, 8);
        tt_stats_survival_table(&lt, 0.95, &table);
        tt_stats_survival_cure(&table, 5, &cure);
        sum += cure.upper_estimate;
        covered += cure.interval.lo <= 0.2 && 0.2 <= cure.interval.hi;
    }
    within("cure fraction, truth 0.2, mean", sum / runs, 0.19, 0.21);
    within("its 95 % interval covers", (double)covered / runs, 0.90, 0.99);
}

static double timers_found(const struct model *m, double noise, bool binned, int runs, double tau)
{
    struct tt_stats_rng rng;
    int found = 0;
    tt_stats_rng_seed(&rng, 17);
    for (int r = 0; r < runs; r++) {
        static const struct model brief = {"brief", EXPONENTIAL, 0.2, 0};
        struct tt_stats_age deaths[300];
        struct tt_stats_delay out;
        uint64_t bins[TT_STATS_BINS] = {0};
        for (int i = 0; i < 300; i++) {
            double life = lifetime(&rng, tt_stats_rng_uniform(&rng) < noise ? &brief : m) * 8;
            deaths[i] = (struct tt_stats_age){(uint32_t)fmin(life, 1e7), 1};
            bins[tt_stats_bin_of(deaths[i].age)]++;
        }
        if (binned)
            tt_stats_delay_find_binned(bins, &tt_stats_delay_defaults, &out);
        else
            assert_int_equal(tt_stats_delay_find(deaths, 300, &tt_stats_delay_defaults, &out), 0);
        found += out.found && (tau <= 0 || (out.lo <= tau * 1.03 && out.hi >= tau * 0.97));
    }
    return (double)found / runs;
}

static void timers_are_recovered(void **state)
{
    (void)state;
    static const struct model timer = {"t", TTL, 32, 0}, minute = {"t", TTL, 60, 0};
    static const struct model none[] = {{"exponential 0.1 s", EXPONENTIAL, 0.1, 0},
                                        {"exponential 1 s", EXPONENTIAL, 1, 0},
                                        {"exponential 60 s", EXPONENTIAL, 60, 0},
                                        {"lognormal", LOGNORMAL, 10, 0},
                                        {"Lomax", LOMAX, 10, 0}};
    within("timer 32 s", timers_found(&timer, 0, false, 200, 32), 1, 1);
    within("timer 60 s among brief units", timers_found(&minute, 0.7, false, 200, 60), 0.99, 1);
    within("timer 32 s from bins", timers_found(&timer, 0.3, true, 200, 32), 0.99, 1);
    for (size_t i = 0; i < 5; i++) {
        within(none[i].name, timers_found(&none[i], 0, false, 200, 0), 0, tolerance(0.01, 200));
        within(none[i].name, timers_found(&none[i], 0, true, 200, 0), 0, tolerance(0.01, 200));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(released_units_are_no_leak), cmocka_unit_test(the_veto_withdraws),
        cmocka_unit_test(looking_often_stays_safe),   cmocka_unit_test(leaks_are_found),
        cmocka_unit_test(pools_die_together),         cmocka_unit_test(cure_fraction),
        cmocka_unit_test(timers_are_recovered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
