/* SPDX-License-Identifier: Apache-2.0 */
/* Resources other than heap blocks against simulated truth: descriptors, sockets in CLOSE_WAIT,
 * pools that grow to their size, ports that cool down, for whom units were acquired. Seeded; each
 * truth is told with several seeds, and none may be judged otherwise. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "test_judge_sim.h"

#define SEEDS 8u
#define SECONDS 120.0
#define HORIZON 5.0

static void begin(struct sim *sim, uint64_t seed, double rate)
{
    sim_open(sim, seed, SECONDS, 1);
    sim_load(sim, rate, sim_flat);
}

static struct tt_case_site *last_site(struct sim *sim, const char *resource)
{
    struct tt_case_site *s = &sim->c.sites.data[sim->c.sites.len - 1];
    snprintf(s->resource, sizeof s->resource, "%s", resource);
    return s;
}

/* A site where each operation acquires one unit, for ever. */
static struct tt_case_site *one_each(struct sim *sim, const char *resource)
{
    for (size_t i = 0; i < sim->ops.len; i++)
        sim_unit(sim, sim->ops.data[i], SIM_NEVER, 1);
    sim_site(sim, NULL, 0);
    return last_site(sim, resource);
}

/* One site of all the units so far, judged. */
static const struct tt_finding *judged(struct sim *sim, const char *resource,
                                       struct tt_findings *out)
{
    sim_site(sim, NULL, 0);
    last_site(sim, resource);
    sim_judge(sim, HORIZON, out);
    return sim_finding(sim, out, 0);
}

static void end(struct sim *sim, struct tt_findings *out)
{
    tt_findings_free(out);
    sim_close(sim);
}

static void add_limit(struct sim *sim, const char *name, double value)
{
    struct tt_case_limit limit = {.value = value};
    snprintf(limit.name, sizeof limit.name, "%s", name);
    assert_int_equal(tt_vec_push(&sim->c.processes.data[0].limits, limit), 0);
}

static void add_amount(struct sim *sim, const char *resource, double held, double counted)
{
    struct tt_case_amount amount = {.held = held, .counted = counted};
    snprintf(amount.resource, sizeof amount.resource, "%s", resource);
    assert_int_equal(tt_vec_push(&sim->c.processes.data[0].amounts, amount), 0);
}

static void start_clock(struct tt_case_site *s, enum tt_case_clock_kind clock, double t)
{
    struct tt_case_unit unit = {1, (uint32_t)(t * TT_STATS_TICKS_PER_SECOND), 1};
    assert_int_equal(tt_vec_push(&s->clocks[clock].live, unit), 0);
}

static double uniform(struct sim *sim, double lo, double hi)
{
    return lo + (hi - lo) * tt_stats_rng_uniform(&sim->rng);
}

/* ---- descriptors ---- */

/* Half of the requests fail and keep theirs. A trend of so few may stay undecided once. */
static void leaked_descriptors_reach_their_limit(void **state)
{
    unsigned found = 0;
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct sim sim;
        struct tt_findings out;
        begin(&sim, seed, 6);
        add_limit(&sim, "RLIMIT_NOFILE", 4096);
        add_limit(&sim, "RLIMIT_AS", 1e12);
        add_amount(&sim, "fd", 400, 1000);
        for (size_t i = 0; i < sim.ops.len; i++)
            sim_unit(&sim, sim.ops.data[i],
                     uniform(&sim, 0, 1) < 0.5 ? SIM_NEVER : sim.ops.data[i] + 0.02, 1);
        const struct tt_finding *f = judged(&sim, "fd", &out);
        assert_string_equal(f->resource, "fd");
        if (f->verdict == TT_VERDICT_LEAK_RETAINED) {
            found++;
            assert_true(f->forecast.known && f->forecast.counts);
            assert_string_equal(f->forecast.limit_name, "RLIMIT_NOFILE");
            double expected = (4096 - 1000) / 3.0;
            assert_true(fabs(f->forecast.seconds - expected) < 0.35 * expected);
        } else {
            assert_int_equal(f->verdict, TT_VERDICT_UNDETERMINED);
        }
        end(&sim, &out);
    }
    assert_true(found >= SEEDS - 1);
}

/* Sampling by bytes is of heap blocks: what else is held was followed one by one. */
static void units_that_are_not_blocks_count_one_each(void **state)
{
    static const char *const kinds[] = {"fd", "mapping", "heap"};
    (void)state;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        struct sim sim;
        struct tt_findings out;
        bool heap = strcmp(kinds[k], "heap") == 0;
        begin(&sim, 1, 5);
        sim.c.processes.data[0].sample_mean = 65536;
        for (size_t i = 0; i < 100; i++)
            sim_unit(&sim, 2 + (double)i, SIM_NEVER, 4096);
        const struct tt_finding *f = judged(&sim, kinds[k], &out);
        assert_non_null(f);
        assert_true(heap ? f->live > 1000 : f->live == 100 && f->births == 100);
        assert_true(heap ? f->estimate_sd > 0 : f->estimate_sd == 0);
        end(&sim, &out);
    }
}

/* A pool of threads or connections that grows to its size and stays. */
static void pools_are_no_leaks(void **state)
{
    static const char *const kinds[] = {"thread", "socket", "child", "mapping"};
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
            struct sim sim;
            struct tt_findings out;
            begin(&sim, seed, 20);
            for (size_t i = 0; i < 40; i++)
                sim_unit(&sim, uniform(&sim, 0, 15), SIM_NEVER, 1);
            sim_site(&sim, NULL, 0);
            last_site(&sim, kinds[k]);
            for (size_t i = 0; i < sim.ops.len; i++) /* what they do */
                sim_unit(&sim, sim.ops.data[i], sim.ops.data[i] + 0.1, 100);
            sim_site(&sim, NULL, 0);
            sim_judge(&sim, HORIZON, &out);
            assert_false(out.leak);
            end(&sim, &out);
        }
}

/* Units that nothing was seen to acquire grow: no leak without a place to look at. */
static void places_are_never_leaks(void **state)
{
    struct sim sim;
    struct tt_findings out;
    (void)state;
    begin(&sim, 1, 5);
    struct tt_case_site *s = one_each(&sim, "fd");
    s->stack = 0;
    snprintf(s->place, sizeof s->place, "pipe: opened by a way that is not watched");
    sim_judge(&sim, HORIZON, &out);
    assert_false(out.leak);
    assert_int_equal(out.list.data[0].verdict, TT_VERDICT_UNDETERMINED);
    assert_string_equal(out.list.data[0].place, "pipe: opened by a way that is not watched");
    end(&sim, &out);
}

/* ---- CLOSE_WAIT ---- */

/* One socket in eight seconds whose peer goes a second later: too few for the count of survivors,
 * but the kernel says that nobody is there. */
static void sockets_without_a_peer_are_leaks(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct sim sim;
        struct tt_findings out;
        begin(&sim, seed, 5);
        for (double t = 2; t < SECONDS; t += 8)
            sim_unit(&sim, t + uniform(&sim, 0, 2), SIM_NEVER, 1);
        sim_site(&sim, NULL, 0);
        struct tt_case_site *s = last_site(&sim, "socket");
        for (double t = 3; t < SECONDS - 1; t += 8)
            start_clock(s, TT_CASE_CLOSE_WAIT, t + uniform(&sim, 0, 2));
        sim_judge(&sim, HORIZON, &out);
        const struct tt_finding *f = sim_finding(&sim, &out, 0);
        assert_string_equal(tt_verdict_word(f->verdict), "leak-retained");
        assert_string_equal(f->state.name, "CLOSE_WAIT");
        assert_true(f->state.units >= 13 && f->lost_units >= 13);
        bool said = false;
        for (size_t i = 0; i < f->evidence.len; i++)
            said |= strcmp(f->evidence.data[i].kind, "state") == 0 &&
                    strstr(f->evidence.data[i].text, "the peer has gone") != NULL;
        assert_true(said);
        end(&sim, &out);
    }
}

/* A client's pool of connections: the server hangs up on all at once, and they stay until they are
 * used again; or on each after a while, and it is replaced when used. */
static void keep_alive_pools_are_no_leaks(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct sim sim;
        struct tt_findings out;
        begin(&sim, seed, 20);
        for (size_t i = 0; i < 10; i++)
            sim_unit(&sim, uniform(&sim, 0, 3), SIM_NEVER, 1);
        sim_site(&sim, NULL, 0);
        struct tt_case_site *s = last_site(&sim, "socket");
        for (size_t i = 0; i < 10; i++)
            start_clock(s, TT_CASE_CLOSE_WAIT, 40 + uniform(&sim, 0, 3));
        for (size_t i = 0; i < 8; i++) /* each connection lives 20 s, of that 10 after hanging up */
            for (double t = uniform(&sim, 0, 20); t < SECONDS; t += 20)
                sim_unit(&sim, t, t + 20, 1);
        sim_site(&sim, NULL, 0);
        s = last_site(&sim, "socket");
        for (size_t i = 0; i < 4; i++)
            start_clock(s, TT_CASE_CLOSE_WAIT, SECONDS - uniform(&sim, 0, 10));
        s->clocks[TT_CASE_CLOSE_WAIT].deaths[tt_stats_bin_of(80)] = 40;
        sim_judge(&sim, HORIZON, &out);
        assert_false(out.leak);
        end(&sim, &out);
    }
}

static void a_port_goes_with_its_socket(void **state)
{
    struct sim sim;
    struct tt_findings out;
    (void)state;
    begin(&sim, 3, 3);
    for (size_t kind = 0; kind < 2; kind++) {
        for (size_t i = 0; i < sim.ops.len; i++)
            sim_unit(&sim, sim.ops.data[i] + 0.01 * (double)kind, SIM_NEVER, 1);
        sim_site(&sim, NULL, 0);
        struct tt_case_site *s = last_site(&sim, kind ? "port" : "socket");
        struct tt_case_share_of with = {1, (double)sim.ops.len};
        if (kind)
            assert_int_equal(tt_vec_push(&s->with, with), 0);
    }
    sim_judge(&sim, HORIZON, &out);
    assert_int_equal(out.list.len, 1);
    assert_string_equal(out.list.data[0].resource, "socket");
    bool said = false;
    for (size_t i = 0; i < out.list.data[0].evidence.len; i++)
        said |= strcmp(out.list.data[0].evidence.data[i].kind, "with") == 0 &&
                strstr(out.list.data[0].evidence.data[i].text, "local ports") != NULL;
    assert_true(said);
    end(&sim, &out);
}

/* ---- ports that cool down ---- */

/* Tickets of a pool come back `delay` after they were taken; who finds the pool empty goes without.
 */
static void cooling(struct sim *sim, double pool, double delay)
{
    TT_VEC(double) taken = {0};
    size_t back = 0;
    for (size_t i = 0; i < sim->ops.len; i++) {
        double t = sim->ops.data[i];
        while (back < taken.len && taken.data[back] + delay <= t)
            back++;
        if ((double)(taken.len - back) >= pool)
            continue;
        sim_unit(sim, t, t + delay, 1);
        assert_int_equal(tt_vec_push(&taken, t), 0);
    }
    tt_vec_free(&taken);
}

/* A pool of 100 ports that cool down for 24 s, asked for at this rate. */
static const struct tt_finding *judged_cooling(struct sim *sim, uint64_t seed, double rate,
                                               struct tt_findings *out)
{
    begin(sim, seed, rate);
    add_limit(sim, "limit of port grant", 100);
    cooling(sim, 100, 24);
    return judged(sim, "port grant", out);
}

static void a_rate_that_exhausts_is_a_capacity_limit(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct sim sim;
        struct tt_findings out;
        const struct tt_finding *f = judged_cooling(&sim, seed, 10, &out);
        assert_string_equal(tt_verdict_word(f->verdict), "capacity limit");
        assert_true(f->capacity.known && f->capacity.peak >= 99 &&
                    fabs(f->capacity.delay - 24) < 1.5);
        assert_non_null(strstr(f->note, "recovers"));
        assert_false(out.leak);
        end(&sim, &out);
    }
}

static void cooling_below_the_limit_is_delayed_release(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct sim sim;
        struct tt_findings out;
        const struct tt_finding *f = judged_cooling(&sim, seed, 1.5, &out);
        assert_string_equal(tt_verdict_word(f->verdict), "delayed release");
        end(&sim, &out);
    }
}

/* Of a resource that is rare few releases are looked at: they tell where in the bin the timer lies.
 */
static void few_exact_ages_place_a_timer(void **state)
{
    (void)state;
    struct sim sim;
    struct tt_findings out;
    begin(&sim, 3, 1.5);
    cooling(&sim, 100, 20);
    sim_site(&sim, NULL, 0);
    struct tt_case_site *s = last_site(&sim, "port grant");
    s->release_ages.len = 3;
    for (uint32_t i = 0; i < 3; i++)
        s->release_ages.data[i] = (struct tt_stats_age){159 + i, 1};
    sim_judge(&sim, HORIZON, &out);
    const struct tt_finding *f = sim_finding(&sim, &out, 0);
    assert_string_equal(tt_verdict_word(f->verdict), "delayed release");
    bool told = false;
    for (size_t i = 0; i < f->evidence.len; i++)
        if (!strcmp(f->evidence.data[i].kind, "release-age"))
            told = fabs(f->evidence.data[i].value - 20) < 0.13 &&
                   strstr(f->evidence.data[i].text, "those looked at 19.88 to 20.12 s");
    assert_true(told);
    tt_findings_free(&out);
    sim_close(&sim);
}

/* What a client was granted is given back all at once, when it goes away: no timer, and nothing
 * that a slower load would cure. */
static void a_client_that_leaves_is_no_timer(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct sim sim;
        struct tt_findings out;
        size_t n = 0;
        begin(&sim, seed, 5);
        add_limit(&sim, "limit of port grant", 100);
        for (size_t i = 0; i < sim.ops.len && n < 90; i++)
            if (sim.ops.data[i] < 0.3 * SECONDS && ++n)
                sim_unit(&sim, sim.ops.data[i], 0.7 * SECONDS, 1);
        sim_site(&sim, NULL, 0);
        last_site(&sim, "port grant");
        sim_judge(&sim, HORIZON, &out);
        const struct tt_finding *f = sim_finding(&sim, &out, 0);
        assert_string_equal(tt_verdict_word(f->verdict), "backlog");
        tt_findings_free(&out);
        sim_close(&sim);
    }
}

/* A pool that leaks until it is empty is not a matter of rate, and that nothing is lost any more
 * then does not make it one that has filled up. */
static void a_leak_that_exhausts_is_no_capacity_limit(void **state)
{
    unsigned found = 0;
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct sim sim;
        struct tt_findings out;
        begin(&sim, seed, 4);
        add_limit(&sim, "limit of port grant", 60);
        size_t n = 0;
        for (size_t i = 0; i < sim.ops.len; i++) { /* one in four is lost */
            bool lost = i % 4 == 0;
            if (n < 60)
                sim_unit(&sim, sim.ops.data[i], lost ? SIM_NEVER : sim.ops.data[i] + 0.5, 1);
            n += lost;
        }
        const struct tt_finding *f = judged(&sim, "port grant", &out);
        found += tt_verdict_is_leak(f->verdict);
        assert_true(tt_verdict_is_leak(f->verdict) || f->verdict == TT_VERDICT_UNDETERMINED);
        end(&sim, &out);
    }
    assert_true(found >= SEEDS - 2);
}

/* ---- owners ---- */

/* Processes that the kernel knows: connections of one are one client, and the one that most units
 * are for is named. */
static void processes_are_named(void **state)
{
    struct sim sim;
    struct tt_findings out;
    (void)state;
    begin(&sim, 5, 3);
    struct tt_case_site *s = one_each(&sim, "port grant");
    for (size_t i = 0; i < 4; i++) { /* the last of the connections is another process's */
        struct tt_case_owner owner = {.exe = "/usr/bin/clusclient", .pid = i < 3 ? 4711 : 4712};
        assert_int_equal(tt_vec_push(&sim.c.owners, owner), 0);
    }
    struct tt_case_share_of share = {1, 20};
    assert_int_equal(tt_vec_push(&s->owners, share), 0);
    sim_judge(&sim, HORIZON, &out);
    const struct tt_finding *f = sim_finding(&sim, &out, 0);
    assert_string_equal(f->owner.text, "only on behalf of pid 4711 (clusclient)");
    assert_true(f->owner.most.units == 0);
    tt_findings_free(&out);
    share = (struct tt_case_share_of){3, 10};
    assert_int_equal(tt_vec_push(&sim.c.sites.data[0].owners, share), 0);
    sim_judge(&sim, HORIZON, &out);
    assert_string_equal(sim_finding(&sim, &out, 0)->owner.text,
                        "only on behalf of pid 4711 (clusclient), in 2 connections");
    tt_findings_free(&out);
    share = (struct tt_case_share_of){4, 2};
    assert_int_equal(tt_vec_push(&sim.c.sites.data[0].owners, share), 0);
    sim_judge(&sim, HORIZON, &out);
    f = sim_finding(&sim, &out, 0);
    assert_true(f->owner.most.units == 30 && f->owner.most.pid == 4711);
    assert_string_equal(f->owner.text, "only on behalf of clients that run clusclient, 3 of them; "
                                       "30 for pid 4711 (clusclient)");
    tt_findings_free(&out);
    sim_close(&sim);
}

static void owners_are_told(void **state)
{
    struct sim sim;
    struct tt_findings out;
    (void)state;
    begin(&sim, 5, 3);
    struct tt_case_site *s = one_each(&sim, "port grant");
    for (size_t i = 0; i < sim.ops.len; i++) {
        struct tt_case_owner owner = {.began = sim.ops.data[i] - 0.1, .ended = sim.ops.data[i] + 1};
        snprintf(owner.address, sizeof owner.address, "10.0.0.7:%zu", 40000 + i);
        assert_int_equal(tt_vec_push(&sim.c.owners, owner), 0);
        struct tt_case_share_of share = {sim.c.owners.len, 1};
        assert_int_equal(tt_vec_push(&s->owners, share), 0);
        start_clock(s, TT_CASE_OWNER_END, owner.ended);
    }
    sim_judge(&sim, HORIZON, &out);
    const struct tt_finding *f = sim_finding(&sim, &out, 0);
    assert_true(f->owner.known && f->owner.outlives);
    assert_string_equal(f->owner.host, "10.0.0.7");
    assert_string_equal(f->owner.address, "");
    assert_non_null(strstr(f->owner.text, "only on behalf of clients from 10.0.0.7"));
    tt_findings_free(&out);
    /* another client's units among them: nothing is common */
    snprintf(sim.c.owners.data[3].address, sizeof sim.c.owners.data[3].address, "10.0.0.8:1");
    sim_judge(&sim, HORIZON, &out);
    f = sim_finding(&sim, &out, 0);
    assert_true(f->owner.known);
    assert_string_equal(f->owner.host, "");
    tt_findings_free(&out);
    /* most are nobody's: nothing is said */
    struct tt_case_share_of nobody = {0, 1000};
    assert_int_equal(tt_vec_push(&sim.c.sites.data[0].owners, nobody), 0);
    sim_judge(&sim, HORIZON, &out);
    assert_false(sim_finding(&sim, &out, 0)->owner.known);
    end(&sim, &out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leaked_descriptors_reach_their_limit),
        cmocka_unit_test(units_that_are_not_blocks_count_one_each),
        cmocka_unit_test(pools_are_no_leaks),
        cmocka_unit_test(places_are_never_leaks),
        cmocka_unit_test(sockets_without_a_peer_are_leaks),
        cmocka_unit_test(keep_alive_pools_are_no_leaks),
        cmocka_unit_test(a_port_goes_with_its_socket),
        cmocka_unit_test(a_rate_that_exhausts_is_a_capacity_limit),
        cmocka_unit_test(cooling_below_the_limit_is_delayed_release),
        cmocka_unit_test(few_exact_ages_place_a_timer),
        cmocka_unit_test(a_client_that_leaves_is_no_timer),
        cmocka_unit_test(a_leak_that_exhausts_is_no_capacity_limit),
        cmocka_unit_test(owners_are_told),
        cmocka_unit_test(processes_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
