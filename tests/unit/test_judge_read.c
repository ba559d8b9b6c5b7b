/* SPDX-License-Identifier: Apache-2.0 */
/* A case that is written to a session file and read back is judged as before: same verdicts, same
 * counts, same rate. Start: write_session. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "session/session.h"
#include "session/snapshot.h"
#include "session/writer.h"
#include "test_judge_sim.h"

#define ORIGIN UINT64_C(5000000000)

static uint64_t ns(double t)
{
    return ORIGIN + (uint64_t)llround(t * 1e9);
}

static int64_t epoch_of(const struct tt_case *c, double t)
{
    for (size_t i = 0; i < c->epochs.len; i++)
        if (c->epochs.data[i] >= t)
            return (int64_t)i + 1;
    fail_msg("no epoch at %g", t);
    return 0;
}

static void write_site(struct tt_session_writer *w, const struct tt_case *c,
                       const struct tt_case_site *s)
{
    const struct tt_case_stack *stack = tt_case_stack(c, 0, s->stack);
    struct tt_session_site site = {.process = 1,
                                   .id = s->id,
                                   .resource = s->resource,
                                   .stack = s->stack,
                                   .thin = s->thin,
                                   .size_min = s->size_min,
                                   .size_max = s->size_max};
    assert_int_equal(tt_session_put_stack(w, 1, s->stack, false, stack->pc, stack->n), 0);
    assert_int_equal(tt_session_put_site(w, &site), 0);
    for (size_t i = 0; i < s->rows.len; i++) {
        const struct tt_case_row *row = &s->rows.data[i];
        struct tt_session_sample sample = {.epoch = epoch_of(c, row->t),
                                           .births = (uint64_t)row->births,
                                           .birth_bytes = (uint64_t)row->birth_bytes,
                                           .deaths = (uint64_t)row->deaths,
                                           .death_bytes = (uint64_t)row->death_bytes};
        assert_int_equal(tt_session_put_sample(w, 1, s->id, &sample), 0);
    }
    for (uint32_t b = 0; b < TT_STATS_BINS; b++)
        if (s->deaths[b])
            assert_int_equal(tt_session_put_death(w, 1, s->id, b, s->deaths[b]), 0);
    for (size_t i = 0; i < s->survivors.len; i++) {
        struct tt_session_survivor row = {s->id, s->survivors.data[i].size,
                                          s->survivors.data[i].tick, s->survivors.data[i].count};
        assert_int_equal(tt_session_put_survivor(w, 1, &row), 0);
    }
    uint64_t by_age[4096] = {0};
    for (size_t i = 0; i < s->release_ages.len; i++)
        by_age[s->release_ages.data[i].age] += s->release_ages.data[i].count;
    for (uint32_t age = 0; age < 4096; age++) {
        struct tt_session_release_age row = {s->id, age, by_age[age], 64 * by_age[age]};
        if (by_age[age])
            assert_int_equal(tt_session_put_release_age(w, 1, &row), 0);
    }
}

static void write_frozen(struct tt_session_writer *w, const struct tt_case *c)
{
    for (size_t i = 0; i < c->snapshots.len; i++) {
        const struct tt_case_snapshot *s = &c->snapshots.data[i];
        struct tt_session_snapshot row = {.process = 1,
                                          .id = s->id,
                                          .at_ns = ns(s->t),
                                          .tick = s->tick,
                                          .source = "copy",
                                          .allocator = "glibc 2.36",
                                          .stop_ns = 13000000,
                                          .blocks = (uint64_t)s->blocks,
                                          .bytes = (uint64_t)s->bytes,
                                          .lost_units = (uint64_t)s->lost_units,
                                          .lost_bytes = (uint64_t)s->lost_bytes,
                                          .lost_roots = (uint64_t)s->lost_roots,
                                          .old_units = (uint64_t)s->old_units,
                                          .unknown_units = (uint64_t)s->unknown_units};
        assert_int_equal(tt_session_put_snapshot(w, &row), 0);
    }
    for (size_t i = 0; i < c->shares.len; i++) {
        const struct tt_case_share *s = &c->shares.data[i];
        int64_t snapshot = c->snapshots.data[s->snapshot].id;
        uint64_t known = (uint64_t)s->known_units, old = (uint64_t)s->old_units;
        struct tt_session_lost_group group = {.process = 1,
                                              .snapshot = snapshot,
                                              .id = s->group,
                                              .fingerprint = 5,
                                              .size_min = 40,
                                              .size_max = 40,
                                              .units = known + old + 50,
                                              .bytes = 48 * (known + old + 50),
                                              .roots = known,
                                              .unknown_units = 50,
                                              .unknown_bytes = 2400,
                                              .shape = "40 bytes: zeroes",
                                              .samples = "4000"};
        struct tt_session_lost_share share = {1,       snapshot, s->group,
                                              s->site, known,    (uint64_t)s->known_bytes,
                                              old,     48 * old, s->probability};
        assert_int_equal(tt_session_put_lost_group(w, &group), 0);
        assert_int_equal(tt_session_put_lost_share(w, &share), 0);
    }
    for (size_t i = 0; i < c->helds.len; i++) {
        const struct tt_case_held *h = &c->helds.data[i];
        int64_t snapshot = c->snapshots.data[h->snapshot].id;
        struct tt_session_holder holder = {.process = 1,
                                           .snapshot = snapshot,
                                           .id = h->holder,
                                           .place = "global",
                                           .path = "global -> block",
                                           .units = 20,
                                           .bytes = 900};
        struct tt_session_held held = {1, snapshot, h->holder, h->site, 18, 800};
        assert_int_equal(tt_session_put_holder(w, &holder), 0);
        assert_int_equal(tt_session_put_held(w, &held), 0);
    }
    for (size_t i = 0; i < c->stales.len; i++) {
        struct tt_session_stale row = {1, c->stales.data[i].site, 4, 32, 30, 1200, 300, 12};
        assert_int_equal(tt_session_put_stale(w, &row), 0);
    }
    if (c->attaches.len) {
        struct tt_session_attach row = {.process = 1,
                                        .at_ns = ORIGIN,
                                        .start_ns = 1000000,
                                        .stop_ns = 80000,
                                        .entries = 9,
                                        .notes = "one line"};
        assert_int_equal(tt_session_put_attach(w, &row), 0);
    }
}

static void write_session(const struct sim *sim, const char *path)
{
    const struct tt_case *c = &sim->c;
    struct tt_error err = {0};
    struct tt_session_writer *w = tt_session_create(path, &err);
    assert_non_null(w);
    assert_int_equal(tt_session_begin(w), 0);
    assert_int_equal(tt_session_put_meta(w, "mode", "exact"), 0);
    assert_int_equal(tt_session_put_metaf(w, "origin_ns", "%llu", (unsigned long long)ORIGIN), 0);
    assert_int_equal(tt_session_put_metaf(w, "started_ns", "%llu", (unsigned long long)ORIGIN), 0);
    assert_int_equal(tt_session_put_metaf(w, "ended_ns", "%llu", (unsigned long long)ns(c->end)),
                     0);
    assert_int_equal(tt_session_put_meta(w, "ticks_per_second", "8"), 0);
    assert_int_equal(tt_session_put_meta(w, "horizon_s", "10"), 0);
    assert_int_equal(tt_session_put_label(w, "owners", "4"), 0);
    struct tt_session_process p = {.id = 1,
                                   .pid = 42,
                                   .exe = c->processes.data[0].exe,
                                   .build_id = "aaaa",
                                   .mode = "exact",
                                   .allocator = "glibc",
                                   .state = "running",
                                   .started_ns = ORIGIN};
    assert_int_equal(tt_session_put_process(w, &p), 0);
    const struct tt_case_module *m = &c->processes.data[0].modules.data[0];
    struct tt_session_module module = {
        .process = 1, .start = m->start, .end = m->end, .path = m->path, .build_id = "aaaa"};
    assert_int_equal(tt_session_put_module(w, &module), 0);
    for (size_t i = 0; i < c->epochs.len; i++)
        assert_int_equal(tt_session_put_epoch(w, (int64_t)i + 1, ns(c->epochs.data[i])), 0);
    for (size_t i = 0; i < c->sites.len; i++)
        write_site(w, c, &c->sites.data[i]);
    for (size_t i = 0; i < c->operations.len; i++) {
        const struct tt_case_operation *o = &c->operations.data[i];
        struct tt_session_operation op = {.process = 1,
                                          .id = o->id,
                                          .name = o->name,
                                          .function = o->function,
                                          .address = o->address,
                                          .source = "declared",
                                          .since_ns = ns(o->since)};
        assert_int_equal(tt_session_put_operation(w, &op), 0);
        for (size_t k = 0; k < o->rows.len; k++)
            assert_int_equal(tt_session_put_count(w, 1, o->id, epoch_of(c, o->rows.data[k].t),
                                                  (uint64_t)o->rows.data[k].count),
                             0);
    }
    struct tt_session_look look = {
        .at_ns = ns(c->end), .tick = (uint32_t)(c->end * 8), .consistent = true};
    assert_int_equal(tt_session_put_look(w, 1, &look), 0);
    write_frozen(w, c);
    assert_int_equal(tt_session_commit(w), 0);
    assert_int_equal(tt_session_finish(w, true, &err), 0);
}

/* Writes the case to a session file and judges that. */
static void read_back(const struct sim *sim, struct tt_findings *out)
{
    struct tt_error err = {0};
    char path[] = "/tmp/tt-judge-read-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    unlink(path);
    write_session(sim, path);
    struct tt_session *session = tt_session_open(path, &err);
    assert_non_null(session);
    struct tt_judge_session one = {.session = session, .name = "x.tt", .role = TT_JUDGE_JUDGED};
    struct tt_judge_input input = {.sessions = &one, .n_sessions = 1, .name = sim_name};
    if (tt_judge_sessions(&input, out, &err))
        fail_msg("%s", err.text);
    tt_session_close(session);
    unlink(path);
}

static void reads_what_was_written(void **state)
{
    (void)state;
    struct sim sim;
    struct tt_findings direct, read;
    sim_open(&sim, 11, 90, 1);
    for (double t = 0; (t += tt_stats_rng_exponential(&sim.rng, 0.06)) < 60;)
        assert_int_equal(tt_vec_push(&sim.ops, t), 0);
    sim_operation(&sim, "call", true, 0x404000);
    for (size_t i = 0; i < sim.ops.len; i++)
        for (unsigned k = 0; k < 4; k++)
            sim_unit(&sim, sim.ops.data[i], k < 2 ? SIM_NEVER : sim.ops.data[i] + 0.3, 40);
    sim_site(&sim, NULL, 0);
    for (size_t i = 0; i < sim.ops.len; i++)
        sim_unit(&sim, sim.ops.data[i], sim.ops.data[i] + 32, 120);
    sim_site(&sim, NULL, 0);
    sim_judge(&sim, 10, &direct);

    read_back(&sim, &read);
    assert_int_equal(read.list.len, 2);
    assert_true(read.leak);
    assert_true(read.horizon == 10); /* of the session */
    for (size_t i = 0; i < 2; i++) {
        const struct tt_finding *a = &direct.list.data[i], *b = &read.list.data[i];
        assert_int_equal(a->verdict, b->verdict);
        assert_int_equal(a->site, b->site);
        assert_int_equal(a->births, b->births);
        assert_int_equal(a->deaths, b->deaths);
        assert_int_equal(a->lost_units, b->lost_units);
        assert_string_equal(a->note, b->note);
        assert_string_equal(a->law.text, b->law.text);
        assert_true(a->rate.per_operation == b->rate.per_operation);
        assert_true(a->rate.operations == b->rate.operations);
        assert_int_equal(a->rate.exact, b->rate.exact);
        assert_int_equal(a->evidence.len, b->evidence.len);
    }
    assert_int_equal(read.list.data[0].lost_units, 2 * sim.ops.len);
    assert_int_equal(read.list.data[1].verdict, TT_VERDICT_DELAYED_RELEASE);

    tt_findings_free(&read);
    tt_findings_free(&direct);
    sim_close(&sim);
}

static void reads_frozen_copies(void **state)
{
    (void)state;
    struct sim sim;
    struct tt_findings read;
    sim_open(&sim, 12, 40, 1);
    sim_load(&sim, 20, sim_flat);
    sim_copy(&sim, 0.5);
    sim_copy(&sim, 40);
    struct tt_case_attach attach = {.start = 0.001};
    assert_int_equal(tt_vec_push(&sim.c.attaches, attach), 0);
    for (size_t i = 0; i < sim.ops.len; i++)
        sim_lose(&sim, sim.ops.data[i], sim.ops.data[i], 40);
    for (int i = 0; i < 300; i++)
        sim_lose(&sim, -1 - i, -1 - i, 40);
    sim_site(&sim, NULL, 0);
    /* what the writer makes of the one group of a copy */
    for (size_t i = 0; i < 2; i++) {
        struct tt_case_snapshot *s = &sim.c.snapshots.data[i];
        s->blocks += 50;
        s->bytes += 50 * 48 + 8 * s->blocks;
        s->lost_units += 50;
        s->lost_bytes = 48 * s->lost_units;
        s->old_units += 50;
        s->unknown_units = 50;
    }
    struct tt_case_held held = {1, 3, 1, 18, 800};
    struct tt_case_stale stale = {.site = 1};
    assert_int_equal(tt_vec_push(&sim.c.helds, held), 0);
    assert_int_equal(tt_vec_push(&sim.c.stales, stale), 0);
    read_back(&sim, &read);

    assert_int_equal(read.snapshots.len, 1);
    const struct tt_snapshot_fact *s = &read.snapshots.data[0];
    assert_int_equal(s->taken, 2);
    assert_true(s->complete && !s->core);
    assert_true(s->old_units == 350 && s->unknown_units == 50 && s->unknown_bytes == 2400);
    assert_string_equal(s->holders.data[0].place, "global");
    assert_int_equal(read.attaches.len, 1);
    assert_true(read.attaches.data[0].start == 0.001);
    assert_string_equal(read.attaches.data[0].notes, "one line");
    assert_int_equal(read.list.len, 2);
    const struct tt_finding *f = &read.list.data[0];
    assert_int_equal(f->verdict, TT_VERDICT_LEAK_LOST);
    assert_true(f->before.units == 300);
    assert_true(f->holders.len == 1 && f->holders.data[0].units == 18);
    assert_true(read.list.data[1].has_group);
    assert_true(read.list.data[1].before.units == 50);
    assert_int_equal(read.list.data[1].group.fingerprint, 5);
    bool stale_seen = false;
    for (size_t i = 0; i < f->evidence.len; i++)
        stale_seen |= strcmp(f->evidence.data[i].kind, "staleness") == 0;
    assert_true(stale_seen);
    tt_findings_free(&read);
    sim_close(&sim);
}

static void asks_for_a_session_to_judge(void **state)
{
    (void)state;
    struct tt_judge_input none = {0};
    struct tt_findings out;
    struct tt_error err = {0};
    assert_int_equal(tt_judge_sessions(&none, &out, &err), -EINVAL);
    assert_non_null(strstr(err.text, "the first session"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_was_written),
        cmocka_unit_test(reads_frozen_copies),
        cmocka_unit_test(asks_for_a_session_to_judge),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
