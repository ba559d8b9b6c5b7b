/* SPDX-License-Identifier: Apache-2.0 */
/* Frozen copies as evidence, on cases made by hand: definite loss is called after half a minute and
 * with its rate; what is no loss is not, whatever a scan gets wrong; what was lost before attach
 * goes to its site or is said to have none; and staleness only ever supports. Start: main's table.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "test_judge_sim.h"

#define HORIZON 600.0

static const struct tt_evidence *evidence_of(const struct tt_finding *f, const char *kind)
{
    for (size_t i = 0; i < f->evidence.len; i++)
        if (strcmp(f->evidence.data[i].kind, kind) == 0)
            return &f->evidence.data[i];
    return NULL;
}

static double figure(const struct tt_evidence *e, const char *key)
{
    for (size_t i = 0; i < sizeof e->figure / sizeof *e->figure && e->figure[i].key; i++)
        if (strcmp(e->figure[i].key, key) == 0)
            return e->figure[i].value;
    fail_msg("no figure %s", key);
    return NAN;
}

/* Forty seconds, 20 operations a second, copies at 0.5 s and at the end. */
static void open_attached(struct sim *sim, uint64_t seed)
{
    sim_open(sim, seed, 40, 1);
    sim->c.processes.data[0].started = -864000;
    sim_load(sim, 20, sim_flat);
    sim_copy(sim, 0.5);
    sim_copy(sim, 40);
    struct tt_case_attach attach = {.t = 0, .stop = 8e-5, .entries = 9};
    assert_int_equal(tt_vec_push(&sim->c.attaches, attach), 0);
}

static void loss_is_called_before_the_horizon(void **state)
{
    (void)state;
    struct sim sim;
    struct tt_findings out;
    open_attached(&sim, 11);
    sim_operation(&sim, "call", true, 0x400500);
    for (size_t i = 0; i < sim.ops.len; i++)
        for (int k = 0; k < 2; k++)
            sim_lose(&sim, sim.ops.data[i], sim.ops.data[i] + 0.01, 40);
    for (int i = 0; i < 3000; i++)
        sim_lose(&sim, -1000 + 0.1 * i, -1, 40);
    sim_site(&sim, NULL, 0);
    for (size_t i = 0; i < sim.ops.len; i++)
        sim_unit(&sim, sim.ops.data[i], sim.ops.data[i] + 0.01, 100);
    sim_site(&sim, NULL, 0);
    sim_judge(&sim, HORIZON, &out);
    const struct tt_finding *f = sim_finding(&sim, &out, 0);
    assert_int_equal(f->verdict, TT_VERDICT_LEAK_LOST);
    assert_true(out.leak);
    assert_true(f->rate.has_operation);
    assert_string_equal(f->rate.operation, "call");
    assert_true(f->rate.exact);
    assert_true(f->rate.per_operation == 2);
    double truth = 2.0 * (double)sim.ops.len;
    assert_true((double)f->lost_units > 0.9 * truth && (double)f->lost_units <= truth);
    assert_true(f->confidence > 0.99 && f->confidence < 1);
    assert_true(f->severity > 0);
    assert_true(f->before.looked);
    assert_true(f->before.units == 3000);
    assert_true(f->before.probability == 1);
    const struct tt_evidence *e = evidence_of(f, "unreachable");
    assert_non_null(e);
    assert_true(e->value > 0.99);
    assert_true(figure(e, "units") >= truth - 2);
    assert_int_equal(sim_finding(&sim, &out, 1)->verdict, TT_VERDICT_STEADY);
    assert_int_equal(out.snapshots.len, 1);
    assert_int_equal(out.snapshots.data[0].taken, 2);
    assert_true(out.snapshots.data[0].old_units == 3000);
    assert_int_equal(out.attaches.len, 1);
    assert_true(out.attaches.data[0].ran == 864000);
    tt_findings_free(&out);
    sim_close(&sim);
}

/* What an unbelievable copy must not decide. */
static void expect_no_loss(struct sim *sim)
{
    struct tt_findings out;
    sim_judge(sim, HORIZON, &out);
    assert_int_not_equal(sim_finding(sim, &out, 0)->verdict, TT_VERDICT_LEAK_LOST);
    assert_false(out.leak);
    tt_findings_free(&out);
    sim_close(sim);
}

static void unread_memory_decides_nothing(void **state)
{
    (void)state;
    for (int tagged = 0; tagged < 2; tagged++) {
        struct sim sim;
        open_attached(&sim, 12);
        for (size_t i = 0; i < sim.ops.len; i++)
            sim_lose(&sim, sim.ops.data[i], sim.ops.data[i], 40);
        sim_site(&sim, NULL, 0);
        if (tagged)
            sim.c.snapshots.data[1].tagged = 100;
        else
            sim.c.snapshots.data[1].unread_bytes = 1 << 20;
        expect_no_loss(&sim);
    }
}

/* A queue that keeps its pointers encoded: all that is in it is called unreachable, and released.
 */
static void hidden_pointers_are_no_loss(void **state)
{
    (void)state;
    struct sim sim;
    open_attached(&sim, 13);
    sim_copy(&sim, 20);
    struct tt_case_snapshot middle = sim.c.snapshots.data[2]; /* keep them in order of time */
    sim.c.snapshots.data[2] = sim.c.snapshots.data[1];
    sim.c.snapshots.data[1] = middle;
    sim.scan = (struct sim_scan){.false_share = 1, .in_flight = 1};
    for (size_t i = 0; i < sim.ops.len; i++)
        sim_unit(&sim, sim.ops.data[i], sim.ops.data[i] + 8, 40);
    sim_site(&sim, NULL, 0);
    expect_no_loss(&sim);
}

/* Requests that the kernel alone knows: unreachable as long as they are young, then gone. */
static void objects_in_flight_are_no_loss(void **state)
{
    (void)state;
    struct sim sim;
    open_attached(&sim, 14);
    sim.scan = (struct sim_scan){.young = 1.9, .in_flight = 1};
    for (size_t i = 0; i < sim.ops.len; i++)
        sim_unit(&sim, sim.ops.data[i], sim.ops.data[i] + 1.9, 40);
    sim_site(&sim, NULL, 0);
    expect_no_loss(&sim);
}

/* A large table, of which a scan calls as much lost as scans do by mistake. */
static void false_finds_in_a_large_table_are_no_loss(void **state)
{
    (void)state;
    struct sim sim;
    open_attached(&sim, 23);
    sim.scan = (struct sim_scan){.false_share = 0.001, .in_flight = 0.001};
    for (int i = 0; i < 60000; i++)
        sim_unit(&sim, i * 20.0 / 60000, SIM_NEVER, 40);
    sim_site(&sim, NULL, 0);
    assert_true(sim.c.snapshots.data[1].lost_units > 30);
    expect_no_loss(&sim);
}

/* A busy site that loses one unit in a hundred: young ones outnumber the lost, but what survives
 * from before an earlier copy is what that copy could not reach. */
static void rare_loss_at_a_busy_site(void **state)
{
    (void)state;
    struct sim sim;
    struct tt_findings out;
    sim_open(&sim, 15, 70, 1);
    sim_load(&sim, 200, sim_flat);
    sim_copy(&sim, 0.5);
    sim_copy(&sim, 60);
    sim_copy(&sim, 70);
    for (size_t i = 0; i < sim.ops.len; i++)
        if (i % 100 == 0)
            sim_lose(&sim, sim.ops.data[i], sim.ops.data[i], 40);
        else
            sim_unit(&sim, sim.ops.data[i], sim.ops.data[i] + 0.01, 40);
    sim_site(&sim, NULL, 0);
    sim_judge(&sim, HORIZON, &out);
    assert_int_equal(sim_finding(&sim, &out, 0)->verdict, TT_VERDICT_LEAK_LOST);
    tt_findings_free(&out);
    sim_close(&sim);
}

/* A table that is kept and a loss beside it, at one site. */
static void loss_beside_a_cache(void **state)
{
    (void)state;
    struct sim sim;
    struct tt_findings out;
    open_attached(&sim, 16);
    for (int i = 0; i < 500; i++)
        sim_unit(&sim, 0.001 * i, SIM_NEVER, 40);
    size_t lost = 0;
    for (size_t i = 0; i < sim.ops.len; i += 2, lost++)
        sim_lose(&sim, sim.ops.data[i], sim.ops.data[i], 40);
    sim_site(&sim, NULL, 0);
    sim_judge(&sim, HORIZON, &out);
    const struct tt_finding *f = sim_finding(&sim, &out, 0);
    assert_int_equal(f->verdict, TT_VERDICT_LEAK_LOST);
    assert_int_equal(f->lost_units, lost);
    assert_false(f->rate.has_operation);
    assert_true(fabs(f->rate.per_second - 10) < 1.5);
    tt_findings_free(&out);
    sim_close(&sim);
}

/* Kept and reachable: retained, and who holds it. */
static void retained_names_its_holder(void **state)
{
    (void)state;
    struct sim sim;
    struct tt_findings out;
    sim_open(&sim, 17, 3600, 10);
    sim_load(&sim, 2, sim_flat);
    sim_copy(&sim, 0.5);
    sim_copy(&sim, 3600);
    for (size_t i = 0; i < sim.ops.len; i++)
        sim_unit(&sim, sim.ops.data[i], SIM_NEVER, 40);
    sim_site(&sim, NULL, 0);
    struct tt_case_holder holder = {.snapshot = 1, .id = 4, .units = 7000, .bytes = 300000};
    snprintf(holder.place, sizeof holder.place, "global server calls+0x10");
    snprintf(holder.path, sizeof holder.path, "server calls+0x10 -> block 1024 +16 -> block 48");
    assert_int_equal(tt_vec_push(&sim.c.holders, holder), 0);
    struct tt_case_held held = {1, 4, 1, 6900, 290000};
    assert_int_equal(tt_vec_push(&sim.c.helds, held), 0);
    struct tt_case_stale stale = {0, 1, 5, 64, 64, 640, 150};
    assert_int_equal(tt_vec_push(&sim.c.stales, stale), 0);
    sim_judge(&sim, HORIZON, &out);
    const struct tt_finding *f = sim_finding(&sim, &out, 0);
    assert_int_equal(f->verdict, TT_VERDICT_LEAK_RETAINED);
    assert_true(f->unreachable.looked);
    assert_true(f->unreachable.units == 0);
    assert_int_equal(f->holders.len, 1);
    assert_string_equal(f->holders.data[0].place, "global server calls+0x10");
    assert_true(f->holders.data[0].units == 6900);
    const struct tt_evidence *e = evidence_of(f, "staleness");
    assert_non_null(e);
    assert_true(e->value == 1);
    assert_true(figure(e, "lower") > 0.9);
    assert_true(f->confidence > 0.99);
    tt_findings_free(&out);
    sim_close(&sim);
}

/* Untouched objects take "warm-up" away from what still grows, and make nothing a leak. */
static void staleness_alone_is_no_verdict(void **state)
{
    (void)state;
    for (int untouched = 0; untouched < 2; untouched++) {
        struct sim sim;
        struct tt_findings out;
        sim_open(&sim, 18, 3600, 10);
        sim_load(&sim, 2, sim_flat);
        for (size_t i = 0, made = 0; i < sim.ops.len; i++)
            for (; (double)made < 6 * sqrt((double)i); made++)
                sim_unit(&sim, sim.ops.data[i], SIM_NEVER, 40);
        sim_site(&sim, NULL, 0);
        struct tt_case_stale stale = {0, 1, 5, 64, untouched ? 64 : 3, 640, 150};
        assert_int_equal(tt_vec_push(&sim.c.stales, stale), 0);
        sim_judge(&sim, HORIZON, &out);
        assert_false(out.leak);
        assert_int_equal(sim_finding(&sim, &out, 0)->verdict,
                         untouched ? TT_VERDICT_UNDETERMINED : TT_VERDICT_WARM_UP);
        tt_findings_free(&out);
        sim_close(&sim);
    }
}

static void add_group(struct sim *sim, size_t snapshot, double units, double bytes,
                      const char *shape)
{
    struct tt_case_snapshot *s = &sim->c.snapshots.data[snapshot];
    struct tt_case_group g = {.snapshot = snapshot,
                              .id = (int64_t)sim->c.groups.len + 1,
                              .fingerprint = 77 + sim->c.groups.len,
                              .size_min = 40,
                              .size_max = 40,
                              .units = units,
                              .bytes = bytes,
                              .roots = units,
                              .unknown_units = units,
                              .unknown_bytes = bytes};
    snprintf(g.shape, sizeof g.shape, "%s", shape);
    assert_int_equal(tt_vec_push(&sim->c.groups, g), 0);
    s->lost_units += units;
    s->unknown_units += units;
    s->lost_bytes += bytes;
}

/* A core file: no recording at all. */
static void groups_stand_without_sites(void **state)
{
    (void)state;
    struct sim sim;
    struct tt_findings out;
    sim_open(&sim, 19, 1, 1);
    sim.c.epochs.len = 0;
    sim_copy(&sim, 0);
    sim.c.snapshots.data[0].core = true;
    sim.c.snapshots.data[0].blocks = 50000;
    sim.c.snapshots.data[0].bytes = 2e7;
    add_group(&sim, 0, 40, 1920, "below what a scan gets wrong");
    add_group(&sim, 0, 2000, 80000, "40 bytes: pointer into server .rodata");
    add_group(&sim, 0, 4, 4e6, "1 MB each");
    sim_judge(&sim, HORIZON, &out);
    assert_true(out.leak);
    assert_int_equal(out.list.len, 3);
    assert_int_equal(out.sites_looked_at, 0);
    const struct tt_finding *f = &out.list.data[0];
    assert_true(f->has_group);
    assert_int_equal(f->verdict, TT_VERDICT_LEAK_LOST);
    assert_true(f->before.units == 4);
    assert_int_equal(out.list.data[1].verdict, TT_VERDICT_LEAK_LOST);
    assert_true(out.list.data[1].before.units == 2000);
    assert_int_equal(out.list.data[1].lost_units, 0);
    assert_true(out.list.data[1].severity == 0);
    assert_non_null(strstr(out.list.data[1].would_change_it, "telltale attach"));
    assert_int_equal(out.list.data[2].verdict, TT_VERDICT_UNDETERMINED);
    tt_findings_free(&out);
    sim_close(&sim);
}

/* Two images of one process: what the first knew to be lost is no loss from before attach. */
static void a_mode_switch_is_one_target(void **state)
{
    (void)state;
    struct sim sim;
    struct tt_findings out;
    open_attached(&sim, 20);
    for (size_t i = 0; i < sim.ops.len; i++)
        sim_lose(&sim, sim.ops.data[i], sim.ops.data[i], 40);
    sim_site(&sim, NULL, 0);
    double known = (double)sim.ops.len;
    struct tt_case_process second = sim.c.processes.data[0]; /* another row, the same program */
    memset(&second.modules, 0, sizeof second.modules);
    assert_int_equal(tt_vec_push(&second.modules, sim.c.processes.data[0].modules.data[0]), 0);
    second.id = 2;
    second.look = 60;
    assert_int_equal(tt_vec_push(&sim.c.processes, second), 0);
    struct tt_case_site again = {.process = 1, .id = 1, .stack = 1, .size_min = 40, .size_max = 40};
    snprintf(again.resource, sizeof again.resource, "heap");
    uint64_t pcs[] = {0x400010, 0x400008};
    assert_int_equal(tt_case_add_stack(&sim.c, 1, 1, pcs, 2), 0);
    for (double t = 41; t <= 60; t++) {
        struct tt_case_row row = {t, 20 * (t - 40), 800 * (t - 40), 0, 0};
        assert_int_equal(tt_vec_push(&again.rows, row), 0);
        assert_int_equal(
            tt_vec_push(&again.survivors, (struct tt_case_unit){40, (uint32_t)(8 * t - 4), 20}), 0);
        assert_int_equal(tt_vec_push(&sim.c.epochs, t), 0);
    }
    sim.c.end = 60;
    assert_int_equal(tt_vec_push(&sim.c.sites, again), 0);
    sim_copy(&sim, 60);
    sim.c.snapshots.data[2].process = 1;
    struct tt_case_share share = {2, 1, 1, 400, 16000, known + 1000, 48 * (known + 1000), 1};
    assert_int_equal(tt_vec_push(&sim.c.shares, share), 0);
    sim_judge(&sim, HORIZON, &out);
    assert_int_equal(out.list.len, 1);
    const struct tt_finding *f = &out.list.data[0];
    assert_int_equal(f->verdict, TT_VERDICT_LEAK_LOST);
    assert_true(fabs(f->before.units - 1000) < 3); /* units of the last moment before the copy */
    assert_int_equal(out.snapshots.len, 1);
    assert_int_equal(out.snapshots.data[0].taken, 3);
    tt_findings_free(&out);
    sim_close(&sim);
}

/* The repaired build, recorded as briefly: its copies show that the calls lose nothing. */
static void a_fix_is_seen_in_copies(void **state)
{
    (void)state;
    for (int fixed = 0; fixed < 2; fixed++) {
        struct sim a, b;
        struct tt_findings out;
        struct tt_error err;
        struct sim *both[] = {&a, &b};
        for (int k = 0; k < 2; k++) {
            open_attached(both[k], 21 + (uint64_t)k);
            sim_operation(both[k], "call", true, 0x400500);
            for (size_t i = 0; i < both[k]->ops.len; i++)
                if (k == 0 || !fixed)
                    sim_lose(both[k], both[k]->ops.data[i], both[k]->ops.data[i], 40);
                else
                    sim_unit(both[k], both[k]->ops.data[i], both[k]->ops.data[i] + 0.1, 40);
            sim_site(both[k], NULL, 0);
        }
        snprintf(b.c.processes.data[0].build_id, sizeof b.c.processes.data[0].build_id, "bbbb");
        const struct tt_case cases[] = {a.c, b.c};
        const struct tt_judge_session sessions[] = {{.name = "a", .role = TT_JUDGE_JUDGED},
                                                    {.name = "b", .role = TT_JUDGE_FIXED}};
        struct tt_judge_input input = {
            .sessions = sessions, .n_sessions = 2, .horizon_s = HORIZON, .name = sim_name};
        assert_int_equal(tt_judge_cases(&input, cases, &out, &err), 0);
        const struct tt_finding *f = sim_finding(&a, &out, 0);
        assert_int_equal(f->verdict, TT_VERDICT_LEAK_LOST);
        assert_true(f->fix.known && f->fix.exercised);
        assert_int_equal(f->fix.fixed, fixed);
        assert_non_null(strstr(f->fix.text, fixed ? "0 lost in" : "still leaks"));
        tt_findings_free(&out);
        sim_close(&a);
        sim_close(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loss_is_called_before_the_horizon),
        cmocka_unit_test(unread_memory_decides_nothing),
        cmocka_unit_test(hidden_pointers_are_no_loss),
        cmocka_unit_test(objects_in_flight_are_no_loss),
        cmocka_unit_test(false_finds_in_a_large_table_are_no_loss),
        cmocka_unit_test(rare_loss_at_a_busy_site),
        cmocka_unit_test(loss_beside_a_cache),
        cmocka_unit_test(retained_names_its_holder),
        cmocka_unit_test(staleness_alone_is_no_verdict),
        cmocka_unit_test(groups_stand_without_sites),
        cmocka_unit_test(a_mode_switch_is_one_target),
        cmocka_unit_test(a_fix_is_seen_in_copies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
