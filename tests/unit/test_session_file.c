/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions for the tests of the room that writes and reads them; what they hold is small enough for
 * a test to name it row by row. Start: session_write. */
#include "test_session_file.h"

#include <stdio.h>
#include <sqlite3.h>

#include "scratch.h"

int session_make(void **state)
{
    return scratch_make(state);
}

int session_remove(void **state)
{
    return scratch_remove(state);
}

char *session_path(const char *name)
{
    static char path[4][160];
    static unsigned turn;
    char *p = path[turn++ % 4];
    snprintf(p, 160, "%s/%s", scratch, name);
    return p;
}

const struct tt_session_process session_process = {.id = 1,
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

struct tt_session_writer *session_write(const char *path, int n)
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
    tt_session_put_process(w, &session_process);
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

char *session_written(const char *name, int n)
{
    char *path = session_path(name);
    assert_int_equal(tt_session_finish(session_write(path, n), true, NULL), 0);
    return path;
}

struct tt_session *session_open(const char *path)
{
    struct tt_error err = {0};
    struct tt_session *s = tt_session_open(path, &err);
    if (!s)
        fail_msg("%s", err.text);
    return s;
}

void session_sql(const char *path, const char *text)
{
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}
