/* SPDX-License-Identifier: Apache-2.0 */
/* Articles of sessions with frozen copies, against golden files: a loss seen after attach with its
 * part from before, a core file alone, units that are kept and who keeps them. Start: main's table.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test_report_world.h"

#include <jansson.h>

static const struct tt_report_process core_process[] = {{1, 4121, "/srv/call/callowner",
                                                         "5f1c2a0790ab14cc5f1c2a0790ab14cc5f1c2a07",
                                                         "", "", "", 148240, 1795356120}};

/* The first session was attached to a process that had run for ten days. */
static void attach_world(struct world *w, double lost)
{
    world_begin(w);
    w->sessions[0].attached = true;
    w->input.n_sessions = 1;
    PUSH(w->findings.attaches,
         (struct tt_attach_fact){.process = 1,
                                 .at = 0.2,
                                 .start = 0.00103,
                                 .stop = 8.1e-5,
                                 .detached = 89.9,
                                 .detach_stop = 5.2e-5,
                                 .ran = 864000,
                                 .entries = 9,
                                 .slots = 2,
                                 .notes = "pvalloc of libc.so.6 could not be hooked: its entry is "
                                          "too short\nit is rarely used\n"});
    PUSH(w->findings.snapshots, (struct tt_snapshot_fact){.process = 1,
                                                          .at = 89.5,
                                                          .complete = true,
                                                          .taken = 3,
                                                          .allocator = "glibc 2.36",
                                                          .stop = 0.013,
                                                          .fork = 0.0126,
                                                          .scan = 0.4,
                                                          .blocks = 61204,
                                                          .bytes = 9.1e6,
                                                          .lost_units = 2000 * lost + 3100,
                                                          .lost_bytes = 96000 * lost + 150400,
                                                          .lost_roots = 2000 * lost + 3060,
                                                          .old_units = 3100,
                                                          .old_bytes = 150400,
                                                          .unknown_units = 100,
                                                          .unknown_bytes = 6400});
}

static struct tt_finding *add_group(struct world *w, enum tt_verdict verdict, double units,
                                    double bytes, uint32_t size, const char *shape)
{
    struct tt_finding *f = add_finding(w, verdict);
    f->site = f->stack = 0;
    f->has_group = true;
    f->size_min = f->size_max = size;
    f->live = (uint64_t)units;
    f->confidence = 0.99;
    f->group = (struct tt_lost_group){.fingerprint = 0xfeed, .roots = units};
    snprintf(f->group.shape, sizeof f->group.shape, "%s", shape);
    snprintf(f->group.samples, sizeof f->group.samples, "55d0c0de1000 55d0c0de2040");
    f->before.looked = f->unreachable.looked = true;
    f->before.units = f->unreachable.units = f->unreachable.of = units;
    f->before.bytes = bytes;
    return f;
}

static void test_attached(void **state)
{
    (void)state;
    struct world w;
    attach_world(&w, 1);
    struct tt_finding *f = add_call_leak(&w);
    f->verdict = TT_VERDICT_LEAK_LOST;
    f->horizon_short = false;
    f->confirmed = f->fix.known = false;
    f->controls.len = f->releases.len = 1;
    f->law.points.len = f->evidence.len = 0;
    f->workaround[0] = '\0';
    snprintf(f->would_change_it, sizeof f->would_change_it,
             "a pointer to these units that a scan of memory cannot see");
    f->unreachable.looked = f->unreachable.holds = true;
    f->unreachable.at = 89.5;
    f->unreachable.units = f->unreachable.of = 2000;
    f->before.looked = true;
    f->before.units = 3000;
    f->before.bytes = 144000;
    f->before.probability = 0.987;
    PUSH(f->evidence,
         (struct tt_evidence){.kind = "unreachable",
                              .value = 1,
                              .log_e = NAN,
                              .text = "nothing points to 2000 of 2000 followed units",
                              .figure = {{"units", 2000}, {"of", 2000}, {"probability", 0.987}}});
    add_group(&w, TT_VERDICT_LEAK_LOST, 100, 6400, 64, "64 bytes: text \"NOTIFY sip:\"")
        ->group.hung_units = 12;
    add_not_leak(&w, TT_VERDICT_WARM_UP, "", 1);
    expect_all(&w.input, "attached");
    world_end(&w);

    attach_world(&w, 0); /* lost before, not any more */
    f = add_finding(&w, TT_VERDICT_LEAK_LOST);
    f->unreachable.looked = f->unreachable.holds = true;
    f->unreachable.at = 89.5;
    f->unreachable.of = 12;
    f->live = f->births = 12;
    f->before.looked = true;
    f->before.units = 3000;
    f->before.bytes = 144000;
    f->before.probability = 0.987;
    expect_golden(&w.input, "text", "attached-past.txt");
    world_end(&w);
}

static void test_core(void **state)
{
    (void)state;
    static const char *const repeat[] = {"telltale core core.4121 -o call.tt",
                                         "telltale report call.tt"};
    struct world w;
    world_begin(&w);
    w.sessions[0].attached = true;
    w.sessions[0].mode = "";
    w.sessions[0].seconds = 0.4;
    w.sessions[0].n_labels = 0;
    w.sessions[0].processes = core_process;
    w.input.n_sessions = 1;
    w.input.repeat = repeat;
    w.findings.sites_looked_at = 0;
    PUSH(w.findings.snapshots, (struct tt_snapshot_fact){.process = 1,
                                                         .core = true,
                                                         .complete = true,
                                                         .taken = 1,
                                                         .allocator = "glibc 2.36",
                                                         .scan = 0.4,
                                                         .blocks = 61204,
                                                         .bytes = 9.1e6,
                                                         .lost_units = 3140,
                                                         .lost_bytes = 152000,
                                                         .lost_roots = 3100,
                                                         .doubt_bytes = 4096,
                                                         .groups_left_out = 3,
                                                         .old_units = 3140,
                                                         .unknown_units = 3140,
                                                         .unknown_bytes = 152000});
    PUSH(w.findings.snapshots.data[0].holders,
         (struct tt_holding){.place = "global callowner calls+0x10",
                             .path = "callowner calls+0x10 -> block 1024 +16 -> block 48",
                             .units = 40000,
                             .bytes = 7e6});
    add_group(&w, TT_VERDICT_LEAK_LOST, 3000, 144000, 48,
              "48 bytes: pointer into callowner .rodata+0x1c0; text \"sip:alice@\"");
    add_group(&w, TT_VERDICT_UNDETERMINED, 8, 640, 80, "80 bytes: zeroes");
    expect_all(&w.input, "core");
    world_end(&w);

    world_begin(&w);
    w.sessions[0].attached = true;
    w.sessions[0].mode = "";
    w.sessions[0].n_labels = 0;
    w.input.n_sessions = 1;
    w.input.n_repeat = 0;
    w.findings.sites_looked_at = 0;
    PUSH(w.findings.snapshots, (struct tt_snapshot_fact){.process = 1,
                                                         .taken = 1,
                                                         .stop = 0.013,
                                                         .fork = 0.0126,
                                                         .blocks = 61204,
                                                         .bytes = 9.1e6,
                                                         .unread_bytes = 65536});
    expect_golden(&w.input, "text", "snapshot-clean.txt");
    world_end(&w);
}

static void test_retained_with_holder(void **state)
{
    (void)state;
    struct world w;
    world_begin(&w);
    w.sessions[0].attached = true;
    w.input.n_sessions = 1;
    PUSH(w.findings.snapshots, (struct tt_snapshot_fact){.process = 1,
                                                         .at = 89.5,
                                                         .complete = true,
                                                         .taken = 1,
                                                         .stop = 0.013,
                                                         .fork = 0.0126,
                                                         .blocks = 61204,
                                                         .bytes = 9.1e6});
    struct tt_finding *f = add_call_leak(&w);
    f->confirmed = f->fix.known = false;
    f->controls.len = f->releases.len = f->operation_releases.len = 0;
    f->law.points.len = 0;
    f->workaround[0] = '\0';
    f->unreachable.looked = f->before.looked = true;
    f->unreachable.at = 89.5;
    f->unreachable.of = 2000;
    PUSH(f->holders, (struct tt_holding){.place = "global callowner calls+0x10 (struct call *[64])",
                                         .path = "callowner calls+0x10 -> block 1024 +16 -> block "
                                                 "48",
                                         .units = 1990,
                                         .bytes = 95520});
    PUSH(f->holders, (struct tt_holding){.place = "stack of thread 4125",
                                         .path = "stack of thread 4125 -> block 48",
                                         .units = 10,
                                         .bytes = 480});
    PUSH(f->evidence, (struct tt_evidence){.kind = "staleness",
                                           .value = 1,
                                           .log_e = NAN,
                                           .text = "64 of 64 sampled units that lived through the "
                                                   "last 5 epochs (150 s) were neither read nor "
                                                   "written in them",
                                           .figure = {{"objects", 64}, {"untouched", 64}}});
    expect_all(&w.input, "retained");
    world_end(&w);
}

/* No leak, and a copy that was searched says more than the horizon allows. */
static void test_healthy_copy(void **state)
{
    (void)state;
    for (int lost = 0; lost < 2; lost++) {
        struct world w;
        struct tt_text out = {0};
        attach_world(&w, 0);
        w.findings.horizon = 600;
        w.findings.snapshots.data[0].lost_units = 3 * lost;
        w.findings.snapshots.data[0].old_units = 0;
        assert_int_equal(tt_report_write("text", &w.input, &out, NULL), 0);
        expect_decent(out.data);
        for (char *p = out.data; (p = strstr(p, "\n  ")) != NULL;) /* unwrap */
            memmove(p, p + 2, strlen(p + 2) + 1), *p = ' ';
        assert_int_equal(strncmp(out.data, "callowner: no leak found, but 90 s is too short", 47),
                         0);
        assert_non_null(strstr(out.data, lost ? "nothing points to 3 of 61,204"
                                              : "all 61,204 blocks in use could be reached"));
        assert_non_null(strstr(out.data, "cannot be told: record longer"));
        tt_text_free(&out);
        world_end(&w);
    }
}

/* Keys of the contract that came with frozen copies. */
static void test_json(void **state)
{
    (void)state;
    struct world w;
    struct tt_text out = {0};
    attach_world(&w, 1);
    struct tt_finding *f = add_finding(&w, TT_VERDICT_LEAK_LOST);
    f->lost_units = 2000;
    f->lost_bytes = 80000;
    f->before.looked = true;
    f->before.units = 3000;
    f->before.bytes = 144000;
    f->before.probability = 0.987;
    PUSH(f->evidence, (struct tt_evidence){.kind = "unreachable",
                                           .value = 1,
                                           .log_e = NAN,
                                           .figure = {{"units", 2000}, {"chance", NAN}}});
    assert_int_equal(tt_report_write("json", &w.input, &out, NULL), 0);
    json_t *root = json_loads(out.data, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(root);
    json_t *finding = json_array_get(json_object_get(root, "findings"), 0);
    json_t *lost = json_object_get(finding, "lost");
    assert_int_equal(json_integer_value(json_object_get(lost, "units")), 5000);
    assert_int_equal(json_integer_value(json_object_get(lost, "since_start")), 2000);
    assert_int_equal(json_integer_value(json_object_get(lost, "before_attach")), 3000);
    assert_int_equal(json_integer_value(json_object_get(lost, "bytes")), 224000);
    json_t *before = json_object_get(lost, "before");
    assert_int_equal(json_integer_value(json_object_get(before, "units")), 3000);
    assert_true(fabs(json_real_value(json_object_get(before, "probability")) - 0.987) < 1e-9);
    json_t *evidence = json_array_get(json_object_get(finding, "evidence"), 0);
    assert_int_equal(json_integer_value(json_object_get(evidence, "units")), 2000);
    assert_true(json_is_null(json_object_get(evidence, "chance")));
    json_t *attach = json_array_get(json_object_get(root, "attaches"), 0);
    assert_int_equal(json_integer_value(json_object_get(attach, "ran_seconds")), 864000);
    json_t *copy = json_array_get(json_object_get(root, "snapshots"), 0);
    assert_string_equal(json_string_value(json_object_get(copy, "source")), "copy");
    assert_true(json_is_true(json_object_get(copy, "complete")));
    json_decref(root);
    tt_text_free(&out);
    world_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attached),
        cmocka_unit_test(test_core),
        cmocka_unit_test(test_retained_with_holder),
        cmocka_unit_test(test_healthy_copy),
        cmocka_unit_test(test_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
