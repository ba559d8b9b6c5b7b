/* SPDX-License-Identifier: Apache-2.0 */
/* The typed rows of a session, one reader per table. Each names its columns once, in the order in
 * which the loop below takes them; the checked query does the rest. What a reader promises beyond
 * ranges (counts that never fall, no more deaths than births) it checks here too, so that the
 * statistics need not. Start: tt_session_sites. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "session/internal.h"

static bool present(struct tt_session_query *query, int column)
{
    return sqlite3_column_type(query->statement, column) != SQLITE_NULL;
}
/* Bytes or a count, -1 for NULL. */
static int64_t maybe(struct tt_session_query *query, int column)
{
    return present(query, column) ? tt_session_int(query, column, -1, TT_SESSION_COUNT_MAX) : -1;
}

int tt_session_labels(struct tt_session *session, tt_session_label_vec *out, struct tt_error *err)
{
    struct tt_session_query q =
        tt_session_query(session, "key, value", "label", NULL, -1, NULL, -1, "key", err);
    TT_SESSION_EACH_ROW(q, out,
                        (struct tt_session_label){tt_session_text(&q, 0), tt_session_text(&q, 1)});
}

int tt_session_processes(struct tt_session *session, tt_session_process_vec *out,
                         struct tt_error *err)
{
    struct tt_session_query q = tt_session_query(
        session,
        "id, pid, parent, exe, build_id, cmdline, libc, exe_size, exe_mtime, started_ns, ended_ns,"
        "exit_status, state, reason, mode, allocator, granule, sample_mean",
        "process", NULL, -1, NULL, -1, "id", err);
    TT_SESSION_EACH_ROW(
        q, out,
        (struct tt_session_process){
            .id = tt_session_int(&q, 0, 1, INT64_MAX),
            .pid = tt_session_id(&q, 1),
            .parent = tt_session_id(&q, 2),
            .exe = tt_session_text(&q, 3),
            .build_id = tt_session_text(&q, 4),
            .cmdline = tt_session_text(&q, 5),
            .libc = tt_session_text(&q, 6),
            .exe_size = tt_session_count(&q, 7),
            .exe_mtime = tt_session_int(&q, 8, 0, INT64_MAX),
            .started_ns = tt_session_ns(&q, 9),
            .ended_ns = tt_session_ns(&q, 10),
            .has_exit = present(&q, 11),
            .exit_status = present(&q, 11) ? (int)tt_session_int(&q, 11, -255, 255) : 0,
            .state = tt_session_text(&q, 12),
            .reason = tt_session_text(&q, 13),
            .mode = tt_session_text(&q, 14),
            .allocator = tt_session_text(&q, 15),
            .granule = tt_session_number(&q, 16, 4096),
            .sample_mean = tt_session_count(&q, 17),
        });
}

int tt_session_modules(struct tt_session *session, int64_t process, tt_session_module_vec *out,
                       struct tt_error *err)
{
    struct tt_session_query q = tt_session_query(
        session,
        "process, start, end, file_offset, path, build_id, file_size, mtime, since_ns, until_ns",
        "module", "process", process, NULL, -1, "process, since_ns, start", err);
    while (tt_session_next(&q)) {
        struct tt_session_module row = {
            .process = tt_session_id(&q, 0),
            .start = tt_session_word(&q, 1),
            .end = tt_session_word(&q, 2),
            .file_offset = tt_session_word(&q, 3),
            .path = tt_session_text(&q, 4),
            .build_id = tt_session_text(&q, 5),
            .file_size = tt_session_count(&q, 6),
            .mtime = tt_session_int(&q, 7, 0, INT64_MAX),
            .since_ns = tt_session_ns(&q, 8),
            .until_ns = tt_session_ns(&q, 9),
        };
        if (row.start >= row.end)
            tt_session_damaged(&q, "a mapping ends before it starts");
        else if (tt_vec_push(out, row))
            tt_session_no_memory(&q);
    }
    return tt_session_done(&q);
}

int tt_session_stack(struct tt_session *session, int64_t process, int64_t stack,
                     struct tt_session_stack *out, struct tt_error *err)
{
    *out = (struct tt_session_stack){0};
    if (process < 0 || stack < 0)
        return -ENOENT;
    struct tt_session_query q = tt_session_query(session, "cut, frames", "stack", "process",
                                                 process, "id", stack, "id", err);
    bool found = false;
    while (!found && tt_session_next(&q)) {
        int64_t cut = tt_session_int(&q, 0, 0, 1);
        const unsigned char *bytes = sqlite3_column_blob(q.statement, 1);
        size_t n = (size_t)sqlite3_column_bytes(q.statement, 1);
        if (sqlite3_column_type(q.statement, 1) != SQLITE_BLOB || n % 8 || n == 0 ||
            n / 8 > TT_SESSION_DEPTH || !bytes) {
            tt_session_damaged(&q, "frames is not a list of addresses");
            continue;
        }
        found = true;
        out->cut = cut != 0;
        out->n = n / 8;
        out->frames = malloc(n);
        if (!out->frames)
            tt_session_no_memory(&q);
        else
            memcpy(out->frames, bytes, n); /* little-endian, as is x86-64 */
    }
    int code = tt_session_done(&q);
    if (code) {
        free(out->frames);
        *out = (struct tt_session_stack){0};
        return code;
    }
    return found ? 0 : -ENOENT;
}

int tt_session_sites(struct tt_session *session, int64_t process, tt_session_site_vec *out,
                     struct tt_error *err)
{
    struct tt_session_query q = tt_session_query(
        session,
        "s.process, s.id, s.resource, s.stack, s.thin, s.size_min, s.size_max, c.births,"
        "c.birth_bytes, c.deaths, c.death_bytes",
        "site s LEFT JOIN site_sample c ON c.process = s.process AND c.site = s.id AND c.epoch ="
        "(SELECT max(epoch) FROM site_sample m WHERE m.process = s.process AND m.site = s.id)",
        "s.process", process, NULL, -1, "s.process, s.id", err);
    q.table = "site";
    while (tt_session_next(&q)) {
        struct tt_session_site row = {
            .process = tt_session_id(&q, 0),
            .id = tt_session_id(&q, 1),
            .resource = tt_session_text(&q, 2),
            .stack = tt_session_id(&q, 3),
            .thin = tt_session_number(&q, 4, 63),
            .size_min = tt_session_number(&q, 5, UINT32_MAX),
            .size_max = tt_session_number(&q, 6, UINT32_MAX),
            .births = tt_session_count(&q, 7),
            .birth_bytes = tt_session_count(&q, 8),
            .deaths = tt_session_count(&q, 9),
            .death_bytes = tt_session_count(&q, 10),
        };
        if (row.deaths > row.births || row.death_bytes > row.birth_bytes)
            tt_session_damaged(&q, "a site has more deaths than births");
        else if (tt_vec_push(out, row))
            tt_session_no_memory(&q);
    }
    return tt_session_done(&q);
}

int tt_session_series(struct tt_session *session, int64_t process, int64_t site,
                      tt_session_sample_vec *out, struct tt_error *err)
{
    struct tt_session_query q =
        tt_session_query(session, "at_ns, epoch, births, birth_bytes, deaths, death_bytes",
                         "site_sample JOIN epoch ON epoch.id = site_sample.epoch", "process",
                         process, "site", site, "process, site, epoch", err);
    q.table = "site_sample";
    struct tt_session_sample last = {0};
    while (tt_session_next(&q)) {
        struct tt_session_sample row = {
            .at_ns = tt_session_ns(&q, 0),
            .epoch = tt_session_id(&q, 1),
            .births = tt_session_count(&q, 2),
            .birth_bytes = tt_session_count(&q, 3),
            .deaths = tt_session_count(&q, 4),
            .death_bytes = tt_session_count(&q, 5),
        };
        if (row.births < last.births || row.birth_bytes < last.birth_bytes ||
            row.deaths < last.deaths || row.death_bytes < last.death_bytes ||
            row.at_ns < last.at_ns)
            tt_session_damaged(&q, "counts or times run backwards");
        else if (row.deaths > row.births || row.death_bytes > row.birth_bytes)
            tt_session_damaged(&q, "a site has more deaths than births");
        else if (tt_vec_push(out, row))
            tt_session_no_memory(&q);
        last = row;
    }
    return tt_session_done(&q);
}

int tt_session_epochs(struct tt_session *session, tt_session_epoch_vec *out, struct tt_error *err)
{
    struct tt_session_query q =
        tt_session_query(session, "id, at_ns", "epoch", NULL, -1, NULL, -1, "id", err);
    uint64_t last = 0;
    while (tt_session_next(&q)) {
        struct tt_session_epoch row = {tt_session_id(&q, 0), tt_session_ns(&q, 1)};
        if (row.at_ns < last)
            tt_session_damaged(&q, "times run backwards");
        else if (tt_vec_push(out, row))
            tt_session_no_memory(&q);
        last = row.at_ns;
    }
    return tt_session_done(&q);
}

int tt_session_deaths(struct tt_session *session, int64_t process, int64_t site,
                      uint64_t bins[TT_SESSION_BINS], struct tt_error *err)
{
    memset(bins, 0, TT_SESSION_BINS * sizeof *bins);
    struct tt_session_query q = tt_session_query(session, "bin, count", "site_death", "process",
                                                 process, "site", site, "process, site, bin", err);
    while (tt_session_next(&q)) {
        uint32_t bin = tt_session_number(&q, 0, TT_SESSION_BINS - 1);
        bins[bin] += tt_session_count(&q, 1);
    }
    return tt_session_done(&q);
}

int tt_session_survivors(struct tt_session *session, int64_t process, int64_t site,
                         tt_session_survivor_vec *out, struct tt_error *err)
{
    struct tt_session_query q =
        tt_session_query(session, "site, size, tick, count", "survivor", "process", process, "site",
                         site, "process, site, size, tick", err);
    TT_SESSION_EACH_ROW(q, out,
                        (struct tt_session_survivor){
                            .site = tt_session_id(&q, 0),
                            .size = tt_session_count(&q, 1),
                            .tick = tt_session_number(&q, 2, TT_SESSION_TICK_MAX),
                            .count = tt_session_count(&q, 3),
                        });
}

int tt_session_look(struct tt_session *session, int64_t process, struct tt_session_look *out,
                    struct tt_error *err)
{
    if (process < 0)
        return -ENOENT;
    struct tt_session_query q =
        tt_session_query(session, "at_ns, tick, consistent, final", "process_look", "process",
                         process, NULL, -1, "process", err);
    bool found = false;
    while (tt_session_next(&q)) {
        found = true;
        out->at_ns = tt_session_ns(&q, 0);
        out->tick = tt_session_number(&q, 1, TT_SESSION_TICK_MAX);
        out->consistent = tt_session_int(&q, 2, 0, 1) != 0;
        out->final = tt_session_int(&q, 3, 0, 1) != 0;
    }
    int code = tt_session_done(&q);
    return code ? code : found ? 0 : -ENOENT;
}

int tt_session_releases(struct tt_session *session, int64_t process, int64_t site,
                        tt_session_release_vec *out, struct tt_error *err)
{
    struct tt_session_query q =
        tt_session_query(session, "site, by_stack, samples, weight, last_ns", "release", "process",
                         process, "site", site, "process, site, by_stack", err);
    TT_SESSION_EACH_ROW(q, out,
                        (struct tt_session_release){
                            .site = tt_session_id(&q, 0),
                            .by_stack = tt_session_id(&q, 1),
                            .samples = tt_session_count(&q, 2),
                            .weight = tt_session_count(&q, 3),
                            .last_ns = tt_session_ns(&q, 4),
                        });
}

int tt_session_release_ages(struct tt_session *session, int64_t process, int64_t site,
                            tt_session_release_age_vec *out, struct tt_error *err)
{
    struct tt_session_query q =
        tt_session_query(session, "site, age, samples, weight", "release_age", "process", process,
                         "site", site, "process, site, age", err);
    TT_SESSION_EACH_ROW(q, out,
                        (struct tt_session_release_age){
                            .site = tt_session_id(&q, 0),
                            .age = tt_session_number(&q, 1, TT_SESSION_TICK_MAX),
                            .samples = tt_session_count(&q, 2),
                            .weight = tt_session_count(&q, 3),
                        });
}

int tt_session_operations(struct tt_session *session, int64_t process,
                          tt_session_operation_vec *out, struct tt_error *err)
{
    struct tt_session_query q =
        tt_session_query(session, "process, id, name, function, address, source, since_ns",
                         "operation", "process", process, NULL, -1, "process, id", err);
    TT_SESSION_EACH_ROW(q, out,
                        (struct tt_session_operation){
                            .process = tt_session_id(&q, 0),
                            .id = tt_session_id(&q, 1),
                            .name = tt_session_text(&q, 2),
                            .function = tt_session_text(&q, 3),
                            .address = tt_session_word(&q, 4),
                            .source = tt_session_text(&q, 5),
                            .since_ns = tt_session_ns(&q, 6),
                        });
}

int tt_session_operation_series(struct tt_session *session, int64_t process, int64_t operation,
                                tt_session_count_vec *out, struct tt_error *err)
{
    struct tt_session_query q = tt_session_query(
        session, "at_ns, epoch, count",
        "operation_sample JOIN epoch ON epoch.id = operation_sample.epoch", "process", process,
        "operation", operation, "process, operation, epoch", err);
    q.table = "operation_sample";
    struct tt_session_count last = {0};
    while (tt_session_next(&q)) {
        struct tt_session_count row = {tt_session_ns(&q, 0), tt_session_id(&q, 1),
                                       tt_session_count(&q, 2)};
        if (row.count < last.count || row.at_ns < last.at_ns)
            tt_session_damaged(&q, "counts or times run backwards");
        else if (tt_vec_push(out, row))
            tt_session_no_memory(&q);
        last = row;
    }
    return tt_session_done(&q);
}

int tt_session_procs(struct tt_session *session, int64_t process, tt_session_proc_vec *out,
                     struct tt_error *err)
{
    struct tt_session_query q = tt_session_query(
        session,
        "at_ns, epoch, rss_anon, rss_file, heap_live, heap_held, fds, threads, vm_size, cpu_ms",
        "proc_sample JOIN epoch ON epoch.id = proc_sample.epoch", "process", process, NULL, -1,
        "process, epoch", err);
    q.table = "proc_sample";
    TT_SESSION_EACH_ROW(q, out,
                        (struct tt_session_proc){
                            .at_ns = tt_session_ns(&q, 0),
                            .epoch = tt_session_id(&q, 1),
                            .rss_anon = maybe(&q, 2),
                            .rss_file = maybe(&q, 3),
                            .heap_live = maybe(&q, 4),
                            .heap_held = maybe(&q, 5),
                            .fds = maybe(&q, 6),
                            .threads = maybe(&q, 7),
                            .vm_size = maybe(&q, 8),
                            .cpu_ms = maybe(&q, 9),
                        });
}

int tt_session_limits(struct tt_session *session, int64_t process, tt_session_limit_vec *out,
                      struct tt_error *err)
{
    struct tt_session_query q =
        tt_session_query(session, "process, name, value", "limit_value", "process", process, NULL,
                         -1, "process, name", err);
    TT_SESSION_EACH_ROW(q, out,
                        (struct tt_session_limit){
                            .process = tt_session_id(&q, 0),
                            .name = tt_session_text(&q, 1),
                            .value = tt_session_int(&q, 2, -1, INT64_MAX),
                        });
}

int tt_session_dropped(struct tt_session *session, int64_t process, tt_session_dropped_vec *out,
                       struct tt_error *err)
{
    struct tt_session_query q =
        tt_session_query(session, "process, what, count", "dropped", "process", process, NULL, -1,
                         "process, what", err);
    TT_SESSION_EACH_ROW(q, out,
                        (struct tt_session_dropped){
                            .process = tt_session_id(&q, 0),
                            .what = tt_session_text(&q, 1),
                            .count = tt_session_count(&q, 2),
                        });
}
