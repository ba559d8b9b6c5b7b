/* SPDX-License-Identifier: Apache-2.0 */
/* The session room: what is written comes back; what is not a session is refused with the right
 * words; no damaged file gives wild values; a full disk closes the writer and leaves what was
 * committed. Start: main's table. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "scratch.h"
#include "session/session.h"
#include "session/snapshot.h"
#include "session/writer.h"

static char *in_dir(const char *name)
{
    static char path[4][160];
    static unsigned turn;
    char *p = path[turn++ % 4];
    snprintf(p, 160, "%s/%s", scratch, name);
    return p;
}

static const struct tt_session_process process_row = {.id = 1,
                                                      .pid = 42,
                                                      .parent = 1,
                                                      .exe = "/bin/server",
                                                      .build_id = "aabb",
                                                      .cmdline = "server -x",
                                                      .libc = "2.36",
                                                      .exe_size = 1000,
                                                      .exe_mtime = 1700000000,
                                                      .started_ns = 100,
                                                      .has_exit = true,
                                                      .exit_status = -1,
                                                      .state = "ended",
                                                      .mode = "exact",
                                                      .allocator = "glibc",
                                                      .granule = 32};

/* One snapshot with two groups, two shares, a holder and what it holds. */
static void write_snapshot(struct tt_session_writer *w, int64_t id)
{
    uint64_t k = (uint64_t)id;
    tt_session_put_snapshot(w, &(struct tt_session_snapshot){.process = 1,
                                                             .id = id,
                                                             .at_ns = 1000 * k,
                                                             .tick = 7,
                                                             .source = "copy",
                                                             .allocator = "glibc 2.36",
                                                             .stop_ns = 300,
                                                             .fork_ns = 200,
                                                             .scan_ns = 5000,
                                                             .blocks = 100,
                                                             .bytes = 4800,
                                                             .lost_units = 10 * k,
                                                             .lost_bytes = 480 * k,
                                                             .lost_roots = 5,
                                                             .old_units = 6,
                                                             .unknown_units = 2,
                                                             .tagged = 1});
    for (int64_t group = 1; group <= 2; group++)
        tt_session_put_lost_group(
            w, &(struct tt_session_lost_group){1, id, group, UINT64_MAX, 48, 56, 7, 336, 5, 2, 96,
                                               2, 96, "48 bytes: text", "55d0 55e0"});
    tt_session_put_lost_share(w, &(struct tt_session_lost_share){1, id, 1, 2, 3, 144, 2, 96, 0.97});
    tt_session_put_lost_share(w, &(struct tt_session_lost_share){1, id, 2, 1, 1, 48, 0, 0, 1});
    tt_session_put_holder(
        w, &(struct tt_session_holder){1, id, 1, 0, "global calls", "calls -> block", 90, 4000});
    tt_session_put_held(w, &(struct tt_session_held){1, id, 1, 2, 80, 3800});
}

/* A session with one process, two sites and n epochs. */
static struct tt_session_writer *write_some(const char *path, int n)
{
    struct tt_error err = {0};
    struct tt_session_writer *w = tt_session_create(path, &err);
    if (!w)
        fail_msg("%s", err.text);
    tt_session_begin(w);
    tt_session_put_meta(w, "mode", "exact");
    tt_session_put_meta(w, "command", "[\"a\"]");
    tt_session_put_meta(w, "started_ns", "100");
    tt_session_put_meta(w, "ended_ns", "9000");
    tt_session_put_meta(w, "origin_ns", "100");
    tt_session_put_meta(w, "ticks_per_second", "8");
    tt_session_put_meta(w, "horizon_s", "2.5");
    tt_session_put_meta(w, "finished", "0");
    tt_session_put_label(w, "owners", "4");
    tt_session_put_process(w, &process_row);
    for (int64_t id = 1; id <= 2; id++) {
        uint64_t frames[3] = {0x1000, 0x2000, UINT64_MAX};
        tt_session_put_stack(w, 1, id, id == 2, frames, (size_t)id + 1);
        tt_session_put_site(w, &(struct tt_session_site){.process = 1,
                                                         .id = id,
                                                         .resource = "heap",
                                                         .stack = id,
                                                         .size_min = 40,
                                                         .size_max = UINT32_MAX});
    }
    for (int e = 1; e <= n; e++) {
        uint64_t k = (uint64_t)e;
        tt_session_put_epoch(w, e, 1000 * k);
        tt_session_put_sample(w, 1, 1,
                              &(struct tt_session_sample){.epoch = e,
                                                          .births = 10 * k,
                                                          .birth_bytes = 400 * k,
                                                          .deaths = 9 * k,
                                                          .death_bytes = 360 * k});
        tt_session_put_count(w, 1, 1, e, 5 * k);
        tt_session_put_proc(w, 1, &(struct tt_session_proc){.epoch = e, .rss_anon = 7, .fds = -1});
    }
    tt_session_put_sample(w, 1, 2, &(struct tt_session_sample){.epoch = 1, .births = 3});
    tt_session_put_operation(w, &(struct tt_session_operation){.process = 1,
                                                               .id = 1,
                                                               .name = "call",
                                                               .function = "call_new",
                                                               .address = 0x401000,
                                                               .source = "declared",
                                                               .since_ns = 200});
    tt_session_put_death(w, 1, 1, 0, 5);
    tt_session_put_death(w, 1, 1, 47, 2);
    tt_session_put_survivor(w, 1, &(struct tt_session_survivor){1, 40, 3, 8});
    tt_session_put_look(w, 1, &(struct tt_session_look){5000, 6, true, false});
    tt_session_put_release(w, 1, &(struct tt_session_release){1, 2, 6, 64, 700});
    tt_session_put_release_age(w, 1, &(struct tt_session_release_age){1, 256, 6, 64});
    tt_session_put_limit(w, &(struct tt_session_limit){1, "RLIMIT_AS", -1});
    tt_session_put_dropped(w, &(struct tt_session_dropped){1, "threads", 3});
    struct tt_session_module module = {1, 0x1000, 0x3000, 0, "/bin/server", "aabb", 10, 20, 100, 0};
    tt_session_put_module(w, &module);
    module.until_ns = 4000;
    tt_session_end_module(w, &module);
    for (int64_t id = 1; id <= 4; id++)
        write_snapshot(w, id);
    tt_session_put_stale(w, &(struct tt_session_stale){1, 2, 3, 10, 4, 160, 1e6, 90.5});
    tt_session_put_attach(
        w, &(struct tt_session_attach){1, 100, 20, 300, 8000, 250, 14, 2, 1, "a line\nanother"});
    assert_int_equal(tt_session_commit(w), 0);
    return w;
}

/* Path of a finished session with n of each. */
static char *written(const char *name, int n)
{
    char *path = in_dir(name);
    assert_int_equal(tt_session_finish(write_some(path, n), true, NULL), 0);
    return path;
}

static void rows_come_back(void **state)
{
    (void)state;
    char *path = in_dir("a.tt");
    struct tt_error err = {0};
    assert_int_equal(tt_session_finish(write_some(path, 4), true, &err), 0);
    struct stat st;
    char log[200];
    snprintf(log, sizeof log, "%s-wal", path);
    assert_int_not_equal(stat(log, &st), 0); /* one plain file is left */

    struct tt_session *s = tt_session_open(path, &err);
    if (!s)
        fail_msg("%s", err.text);
    const struct tt_session_meta *meta = tt_session_meta(s);
    assert_true(meta->finished);
    assert_string_equal(meta->mode, "exact");
    assert_string_equal(meta->outcome, "");
    assert_int_equal(meta->ended_ns, 9000);
    assert_true(meta->horizon_s > 2.4 && meta->horizon_s < 2.6);
    assert_false(meta->has_exit);

    tt_session_process_vec processes = {0};
    assert_int_equal(tt_session_processes(s, &processes, &err), 0);
    assert_int_equal(processes.len, 1);
    assert_string_equal(processes.data[0].exe, process_row.exe);
    assert_true(processes.data[0].has_exit);
    assert_int_equal(processes.data[0].exit_status, -1);
    assert_int_equal(processes.data[0].ended_ns, 0);
    assert_string_equal(processes.data[0].reason, "");
    tt_vec_free(&processes);

    tt_session_site_vec sites = {0};
    assert_int_equal(tt_session_sites(s, -1, &sites, &err), 0);
    assert_int_equal(sites.len, 2);
    assert_int_equal(sites.data[0].births, 40);
    assert_int_equal(sites.data[0].death_bytes, 1440);
    assert_int_equal(sites.data[0].size_max, UINT32_MAX);
    assert_int_equal(sites.data[1].births, 3);
    tt_vec_free(&sites);

    tt_session_sample_vec series = {0};
    assert_int_equal(tt_session_series(s, 1, 1, &series, &err), 0);
    assert_int_equal(series.len, 4);
    assert_int_equal(series.data[2].at_ns, 3000);
    tt_vec_free(&series);

    struct tt_session_stack stack;
    assert_int_equal(tt_session_stack(s, 1, 2, &stack, &err), 0);
    assert_int_equal(stack.n, 3);
    assert_true(stack.cut);
    assert_true(stack.frames[2] == UINT64_MAX);
    free(stack.frames);
    assert_int_equal(tt_session_stack(s, 1, 3, &stack, &err), -ENOENT);

    uint64_t bins[TT_SESSION_BINS];
    assert_int_equal(tt_session_deaths(s, 1, 1, bins, &err), 0);
    assert_int_equal(bins[0] * 100 + bins[47], 502);

    tt_session_survivor_vec survivors = {0};
    assert_int_equal(tt_session_survivors(s, 1, -1, &survivors, &err), 0);
    assert_int_equal(survivors.len, 1);
    assert_int_equal(survivors.data[0].count, 8);
    tt_vec_free(&survivors);
    struct tt_session_look look;
    assert_int_equal(tt_session_look(s, 1, &look, &err), 0);
    assert_true(look.consistent && !look.final);
    assert_int_equal(tt_session_look(s, 2, &look, &err), -ENOENT);

    tt_session_count_vec counts = {0};
    assert_int_equal(tt_session_operation_series(s, 1, 1, &counts, &err), 0);
    assert_int_equal(counts.data[3].count, 20);
    tt_vec_free(&counts);
    tt_session_proc_vec procs = {0};
    assert_int_equal(tt_session_procs(s, 1, &procs, &err), 0);
    assert_int_equal(procs.data[0].rss_anon, 7);
    assert_int_equal(procs.data[0].fds, -1);
    tt_vec_free(&procs);
    tt_session_limit_vec limits = {0};
    assert_int_equal(tt_session_limits(s, 1, &limits, &err), 0);
    assert_int_equal(limits.data[0].value, -1);
    tt_vec_free(&limits);
    tt_session_module_vec modules = {0};
    assert_int_equal(tt_session_modules(s, 1, &modules, &err), 0);
    assert_int_equal(modules.data[0].until_ns, 4000);
    tt_vec_free(&modules);
    tt_session_release_age_vec ages = {0};
    assert_int_equal(tt_session_release_ages(s, 1, 1, &ages, &err), 0);
    assert_int_equal(ages.data[0].age, 256);
    tt_vec_free(&ages);
    tt_session_close(s);
}

static void names_are_added_while_it_is_read(void **state)
{
    (void)state;
    char *path = written("names.tt", 1);
    struct tt_error err = {0};
    struct tt_session *reader = tt_session_open(path, &err);
    assert_non_null(reader);
    struct tt_session_symbol frames[2] = {{"inner", "/bin/server", "a.c", 7, true},
                                          {"outer", "/bin/server", "b.c", 9, false}};
    struct tt_session_symbol_row row = {1, 0x1000, frames, 2};
    assert_int_equal(tt_session_symbols_put(path, &row, 1, &err), 0);
    row.n = 1; /* replaces both */
    assert_int_equal(tt_session_symbols_put(path, &row, 1, &err), 0);
    tt_session_symbol_vec out = {0};
    assert_int_equal(tt_session_symbols_get(reader, 1, 0x1000, &out, &err), 0);
    assert_int_equal(out.len, 1);
    assert_string_equal(out.data[0].function, "inner");
    assert_true(out.data[0].inlined);
    tt_vec_free(&out);
    tt_session_close(reader);
}

static void a_recording_can_be_read(void **state)
{
    (void)state;
    char *path = in_dir("live.tt");
    struct tt_error err = {0};
    struct tt_session_writer *w = write_some(path, 3);
    struct tt_session *s = tt_session_open(path, &err);
    assert_non_null(s);
    assert_false(tt_session_meta(s)->finished);
    tt_session_begin(w); /* what comes later is not seen: one snapshot */
    tt_session_put_epoch(w, 4, 4000);
    assert_int_equal(tt_session_commit(w), 0);
    tt_session_epoch_vec epochs = {0};
    assert_int_equal(tt_session_epochs(s, &epochs, &err), 0);
    assert_int_equal(epochs.len, 3);
    tt_vec_free(&epochs);
    tt_session_close(s);
    /* nobody else may record to it, and it is not replaced */
    assert_null(tt_session_create(path, &err));
    assert_int_equal(err.code, -EBUSY);
    assert_int_equal(tt_session_finish(w, false, NULL), 0); /* as if killed */
    s = tt_session_open(path, &err);
    assert_non_null(s);
    assert_int_equal(tt_session_epochs(s, &epochs, &err), 0);
    assert_int_equal(epochs.len, 4);
    tt_vec_free(&epochs);
    tt_session_close(s);
    w = tt_session_create(path, &err); /* an old session is replaced */
    assert_non_null(w);
    tt_session_finish(w, true, NULL);
}

static void write_file(const char *path, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    fclose(f);
}

static void sql(const char *path, const char *text)
{
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static void refused(const char *path, const char *words)
{
    struct tt_error err = {0};
    struct tt_session *s = tt_session_open(path, &err);
    assert_null(s);
    if (!strstr(err.text, words))
        fail_msg("\"%s\" does not say \"%s\"", err.text, words);
    assert_null(strchr(err.text, '\n'));
}

static void refusals_say_why(void **state)
{
    (void)state;
    char *path = in_dir("bad.tt");
    struct tt_error err = {0};
    refused(in_dir("none.tt"), "No such file");
    refused(scratch, "is a directory");
    write_file(path, "", 0);
    refused(path, "is empty");
    write_file(path, "hello, this is just text\n", 25);
    refused(path, "is not a telltale session");
    assert_null(tt_session_create(path, &err)); /* nor is it overwritten */
    assert_int_equal(err.code, -EEXIST);
    unlink(path);
    sql(path, "CREATE TABLE meta (a)");
    refused(path, "is not a telltale session");
    assert_null(tt_session_create(path, &err));
    unlink(path);
    tt_session_finish(write_some(path, 1), true, NULL);
    sql(path, "PRAGMA user_version = 4");
    refused(path, "was written by a newer telltale (schema 4); this one reads up to 3");
    sql(path, "PRAGMA user_version = 3; DROP TABLE survivor");
    refused(path, "table survivor is missing");
    sql(path, "CREATE VIEW survivor AS SELECT 1");
    refused(path, "table survivor is missing");
    tt_session_finish(write_some(path, 1), true, NULL);
    sql(path, "DROP TABLE lost_group");
    refused(path, "table lost_group is missing");
    tt_session_finish(write_some(path, 200), true, NULL);
    struct stat st;
    stat(path, &st);
    assert_int_equal(truncate(path, st.st_size / 2), 0);
    refused(path, "is damaged");
}

/* Reads all tables of schema 2; 0 or the first error. */
static int read_copies(struct tt_session *s, struct tt_error *err)
{
    tt_session_snapshot_vec snapshots = {0};
    tt_session_lost_group_vec groups = {0};
    tt_session_lost_share_vec shares = {0};
    tt_session_holder_vec holders = {0};
    tt_session_held_vec helds = {0};
    tt_session_stale_vec stales = {0};
    struct tt_session_attach attach;
    int code = tt_session_snapshots(s, 1, &snapshots, err);
    code = code ? code : tt_session_lost_groups(s, 1, -1, &groups, err);
    code = code ? code : tt_session_lost_shares(s, 1, -1, &shares, err);
    code = code ? code : tt_session_holders(s, 1, -1, &holders, err);
    code = code ? code : tt_session_helds(s, 1, -1, &helds, err);
    code = code ? code : tt_session_stales(s, 1, &stales, err);
    code = code ? code : tt_session_attach(s, 1, &attach, err);
    tt_vec_free(&snapshots);
    tt_vec_free(&groups);
    tt_vec_free(&shares);
    tt_vec_free(&holders);
    tt_vec_free(&helds);
    tt_vec_free(&stales);
    return code;
}

static void copies_come_back(void **state)
{
    (void)state;
    char *path = written("copies.tt", 1);
    struct tt_error err = {0};
    struct tt_session *s = tt_session_open(path, &err);
    if (!s)
        fail_msg("%s", err.text);
    tt_session_snapshot_vec snapshots = {0};
    assert_int_equal(tt_session_snapshots(s, 1, &snapshots, &err), 0);
    assert_int_equal(snapshots.len, 4);
    assert_int_equal(snapshots.data[1].id, 2);
    assert_int_equal(snapshots.data[1].lost_bytes, 960);
    assert_string_equal(snapshots.data[1].allocator, "glibc 2.36");
    assert_int_equal(snapshots.data[1].unknown_units, 2);
    assert_int_equal(snapshots.data[1].tagged, 1);
    tt_session_lost_group_vec groups = {0};
    assert_int_equal(tt_session_lost_groups(s, 1, 2, &groups, &err), 0);
    assert_int_equal(groups.len, 2);
    assert_true(groups.data[1].fingerprint == UINT64_MAX);
    assert_int_equal(groups.data[1].hung_bytes, 96);
    assert_string_equal(groups.data[1].samples, "55d0 55e0");
    tt_session_lost_share_vec shares = {0};
    assert_int_equal(tt_session_lost_shares(s, 1, -1, &shares, &err), 0);
    assert_int_equal(shares.len, 8);
    assert_true(shares.data[0].probability == 0.97);
    assert_int_equal(shares.data[0].old_bytes, 96);
    tt_session_holder_vec holders = {0};
    assert_int_equal(tt_session_holders(s, 1, 4, &holders, &err), 0);
    assert_int_equal(holders.len, 1);
    assert_string_equal(holders.data[0].path, "calls -> block");
    tt_session_held_vec helds = {0};
    assert_int_equal(tt_session_helds(s, 1, 4, &helds, &err), 0);
    assert_int_equal(helds.len, 1);
    assert_int_equal(helds.data[0].bytes, 3800);
    tt_session_stale_vec stales = {0};
    assert_int_equal(tt_session_stales(s, -1, &stales, &err), 0);
    assert_int_equal(stales.len, 1);
    assert_true(stales.data[0].untouched_weight == 1e6 && stales.data[0].seconds == 90.5);
    struct tt_session_attach attach;
    assert_int_equal(tt_session_attach(s, 1, &attach, &err), 0);
    assert_int_equal(attach.detach_stop_ns, 250);
    assert_string_equal(attach.notes, "a line\nanother");
    assert_int_equal(tt_session_attach(s, 2, &attach, &err), -ENOENT);
    tt_vec_free(&snapshots);
    tt_vec_free(&groups);
    tt_vec_free(&shares);
    tt_vec_free(&holders);
    tt_vec_free(&helds);
    tt_vec_free(&stales);
    tt_session_close(s);
}

/* A file of the schema before: readable, and without any of this. */
static void the_schema_before_is_read(void **state)
{
    (void)state;
    char *path = written("one.tt", 2);
    struct tt_error err = {0};
    sql(path, "PRAGMA user_version = 1; DROP TABLE snapshot; DROP TABLE lost_group;"
              "DROP TABLE lost_share; DROP TABLE holder; DROP TABLE held; DROP TABLE stale;"
              "DROP TABLE attach");
    struct tt_session *s = tt_session_open(path, &err);
    if (!s)
        fail_msg("%s", err.text);
    tt_session_snapshot_vec snapshots = {0};
    tt_session_site_vec sites = {0};
    assert_int_equal(tt_session_snapshots(s, -1, &snapshots, &err), 0);
    assert_int_equal(snapshots.len, 0);
    assert_int_equal(read_copies(s, &err), -ENOENT); /* attach: none */
    assert_int_equal(tt_session_sites(s, -1, &sites, &err), 0);
    assert_int_equal(sites.len, 2);
    tt_vec_free(&sites);
    tt_session_close(s);
}

static void old_snapshots_keep_their_totals(void **state)
{
    (void)state;
    char *path = in_dir("drop.tt");
    struct tt_error err = {0};
    struct tt_session_writer *w = write_some(path, 1);
    tt_session_begin(w);
    assert_int_equal(tt_session_drop_snapshots(w, 1, 4), 0);
    tt_session_commit(w);
    tt_session_finish(w, true, NULL);
    struct tt_session *s = tt_session_open(path, &err);
    if (!s)
        fail_msg("%s", err.text);
    tt_session_snapshot_vec snapshots = {0};
    tt_session_lost_group_vec groups = {0};
    tt_session_holder_vec holders = {0};
    assert_int_equal(tt_session_snapshots(s, 1, &snapshots, &err), 0);
    assert_int_equal(snapshots.len, 4);
    assert_int_equal(tt_session_lost_groups(s, 1, -1, &groups, &err), 0);
    assert_int_equal(groups.len, 4);
    assert_int_equal(groups.data[0].snapshot, 1);
    assert_int_equal(groups.data[3].snapshot, 4);
    assert_int_equal(tt_session_holders(s, 1, -1, &holders, &err), 0);
    assert_int_equal(holders.len, 2);
    tt_vec_free(&snapshots);
    tt_vec_free(&groups);
    tt_vec_free(&holders);
    tt_session_close(s);
}

/* Each breaks one promise of a reader; reading everything must fail and say "damaged". */
static void hostile_values_are_caught(void **state)
{
    (void)state;
    static const char *const changes[] = {
        "UPDATE site_sample SET births = -births",
        "UPDATE site_sample SET deaths = births + 1",
        "UPDATE site_sample SET births = 9223372036854775807",
        "UPDATE site_sample SET births = 100 - epoch, deaths = 0, death_bytes = 0",
        "UPDATE site_sample SET births = 'many'",
        "UPDATE site_sample SET births = 1.5",
        "UPDATE epoch SET at_ns = -1",
        "UPDATE epoch SET at_ns = 10 - id",
        "UPDATE site_death SET bin = 48 WHERE bin = 47",
        "UPDATE survivor SET tick = -5",
        "UPDATE survivor SET tick = 16777216",
        "UPDATE survivor SET count = 9223372036854775807",
        "UPDATE stack SET frames = x'0102'",
        "UPDATE stack SET frames = zeroblob(1544)",
        "UPDATE stack SET frames = 'text'",
        "UPDATE site SET thin = 77",
        "UPDATE site SET stack = -1",
        "UPDATE release_age SET age = -1",
        "UPDATE module SET start = 9, end = 5",
        "UPDATE process SET granule = -1",
        "UPDATE operation_sample SET count = -1",
        "UPDATE process_look SET tick = -1",
        "UPDATE snapshot SET lost_units = blocks + 1",
        "UPDATE snapshot SET lost_bytes = -1",
        "UPDATE snapshot SET old_units = 11 WHERE id = 1",
        "UPDATE snapshot SET id = -1 WHERE id = 1",
        "UPDATE snapshot SET tick = 16777216",
        "UPDATE lost_group SET roots = units + 1",
        "UPDATE lost_group SET units = 9223372036854775807, unknown_units = 0",
        "UPDATE lost_group SET unknown_bytes = bytes + 1",
        "UPDATE lost_share SET probability = 1.5",
        "UPDATE lost_share SET probability = 'sure'",
        "UPDATE lost_share SET old_units = -1",
        "UPDATE holder SET bytes = -1",
        "UPDATE held SET units = 'all'",
        "UPDATE stale SET untouched = objects + 1",
        "UPDATE stale SET untouched_weight = 9e999",
        "UPDATE stale SET seconds = -1",
        "UPDATE attach SET stop_ns = -1",
        "UPDATE attach SET entries = 4294967296",
        "UPDATE meta SET value = 'x' WHERE key = 'started_ns'",
        "UPDATE meta SET value = '0' WHERE key = 'ticks_per_second'",
        "UPDATE meta SET value = 'nan' WHERE key = 'horizon_s'",
    };
    char *path = in_dir("hostile.tt");
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        tt_session_finish(write_some(path, 3), true, NULL);
        sql(path, changes[i]);
        struct tt_error err = {0};
        struct tt_session *s = tt_session_open(path, &err);
        int bad = s == NULL;
        if (s) {
            tt_session_site_vec sites = {0};
            tt_session_sample_vec series = {0};
            tt_session_epoch_vec epochs = {0};
            tt_session_survivor_vec survivors = {0};
            tt_session_release_age_vec ages = {0};
            tt_session_module_vec modules = {0};
            tt_session_process_vec processes = {0};
            tt_session_count_vec counts = {0};
            struct tt_session_stack stack;
            struct tt_session_look look;
            uint64_t bins[TT_SESSION_BINS];
            bad |= tt_session_sites(s, -1, &sites, &err) < 0;
            bad |= tt_session_series(s, 1, 1, &series, &err) < 0;
            bad |= tt_session_epochs(s, &epochs, &err) < 0;
            bad |= tt_session_survivors(s, 1, 1, &survivors, &err) < 0;
            bad |= tt_session_release_ages(s, 1, 1, &ages, &err) < 0;
            bad |= tt_session_modules(s, 1, &modules, &err) < 0;
            bad |= tt_session_processes(s, &processes, &err) < 0;
            bad |= tt_session_operation_series(s, 1, 1, &counts, &err) < 0;
            bad |= tt_session_stack(s, 1, 1, &stack, &err) < 0;
            bad |= tt_session_look(s, 1, &look, &err) < 0;
            bad |= tt_session_deaths(s, 1, 1, bins, &err) < 0;
            bad |= read_copies(s, &err) < 0;
            free(stack.frames);
            tt_vec_free(&sites);
            tt_vec_free(&series);
            tt_vec_free(&epochs);
            tt_vec_free(&survivors);
            tt_vec_free(&ages);
            tt_vec_free(&modules);
            tt_vec_free(&processes);
            tt_vec_free(&counts);
            tt_session_close(s);
        }
        if (!bad || !strstr(err.text, "damaged"))
            fail_msg("not caught: %s (%s)", changes[i], err.text);
    }
}

/* Two merged epochs in a row: the later one's counts must survive, at the epoch that is kept. */
static void thinning_keeps_cumulative_counts(void **state)
{
    (void)state;
    char *path = in_dir("thin.tt");
    struct tt_error err = {0};
    struct tt_session_writer *w = write_some(path, 6);
    const int64_t from[] = {1, 2, 4, 5}, to[] = {3, 3, 6, 6};
    tt_session_begin(w);
    assert_int_equal(tt_session_merge_epochs(w, from, to, 4), 0);
    assert_int_equal(tt_session_sample_rows(w), 3);
    tt_session_commit(w);
    assert_int_equal(tt_session_finish(w, true, NULL), 0);
    struct tt_session *s = tt_session_open(path, &err);
    assert_non_null(s);
    tt_session_sample_vec series = {0};
    assert_int_equal(tt_session_series(s, 1, 1, &series, &err), 0);
    assert_int_equal(series.len, 2);
    assert_int_equal(series.data[0].births, 30);
    assert_int_equal(series.data[1].births, 60);
    series.len = 0;
    assert_int_equal(tt_session_series(s, 1, 2, &series, &err), 0);
    assert_int_equal(series.len, 1); /* its only row was at epoch 1: moved, not lost */
    assert_int_equal(series.data[0].epoch, 3);
    assert_int_equal(series.data[0].births, 3);
    tt_vec_free(&series);
    tt_session_epoch_vec epochs = {0};
    assert_int_equal(tt_session_epochs(s, &epochs, &err), 0);
    assert_int_equal(epochs.len, 2);
    tt_vec_free(&epochs);
    tt_session_close(s);
}

/* A file size limit stands in for a full disk: the writer closes once and for all, and what was
 * committed before stays readable. */
static void a_full_disk_closes_the_writer(void **state)
{
    (void)state;
    char *path = in_dir("full.tt");
    pid_t pid = fork();
    if (pid == 0) {
        struct tt_error err = {0};
        signal(SIGXFSZ, SIG_IGN);
        struct rlimit limit = {400 << 10, 400 << 10};
        struct tt_session_writer *w = write_some(path, 3);
        setrlimit(RLIMIT_FSIZE, &limit);
        int code = 0;
        for (int e = 4; e < 10000 && !code; e++) {
            tt_session_begin(w);
            tt_session_put_epoch(w, e, (uint64_t)e * 1000);
            uint64_t frames[TT_SESSION_DEPTH] = {0};
            for (int64_t k = 0; k < 20; k++)
                tt_session_put_stack(w, 1, e * 20 + k, false, frames, TT_SESSION_DEPTH);
            code = tt_session_commit(w);
        }
        if (!code || tt_session_failed(w, &err) != code || tt_session_put_epoch(w, 1, 1) != code ||
            !strstr(err.text, "cannot write session"))
            _exit(1);
        _exit(tt_session_finish(w, true, &err) == code ? 0 : 2);
    }
    int status;
    waitpid(pid, &status, 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    struct tt_error err = {0};
    struct tt_session *s = tt_session_open(path, &err);
    if (!s)
        fail_msg("%s", err.text);
    assert_false(tt_session_meta(s)->finished);
    tt_session_epoch_vec epochs = {0};
    assert_int_equal(tt_session_epochs(s, &epochs, &err), 0);
    assert_true(epochs.len >= 3);
    tt_vec_free(&epochs);
    tt_session_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_come_back),
        cmocka_unit_test(names_are_added_while_it_is_read),
        cmocka_unit_test(a_recording_can_be_read),
        cmocka_unit_test(refusals_say_why),
        cmocka_unit_test(hostile_values_are_caught),
        cmocka_unit_test(copies_come_back),
        cmocka_unit_test(the_schema_before_is_read),
        cmocka_unit_test(old_snapshots_keep_their_totals),
        cmocka_unit_test(thinning_keeps_cumulative_counts),
        cmocka_unit_test(a_full_disk_closes_the_writer),
    };
    return cmocka_run_group_tests_name("session", tests, scratch_make, scratch_remove);
}
