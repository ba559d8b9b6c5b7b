/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of a session, one statement and one function per table: the reader's structs go in, so
 * that both sides mean the same. Start: tt_session_sql_text. */
#include <stdarg.h>
#include <stdio.h>

#include "session/internal.h"
#include "session/snapshot.h"

const char *const tt_session_sql_text[TT_SESSION_SQL] = {
    [TT_PUT_META] = "INSERT OR REPLACE INTO meta VALUES (?,?)",
    [TT_PUT_LABEL] = "INSERT OR REPLACE INTO label VALUES (?,?)",
    [TT_PUT_PROCESS] = "INSERT OR REPLACE INTO process (id, pid, parent, exe, build_id, exe_size,"
                       "exe_mtime, cmdline, started_ns, ended_ns, exit_status, state, reason, mode,"
                       "allocator, granule, sample_mean, libc)"
                       "VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    [TT_PUT_MODULE] = "INSERT INTO module (process, start, end, file_offset, path, build_id,"
                      "file_size, mtime, since_ns, until_ns) VALUES (?,?,?,?,?,?,?,?,?,?)",
    [TT_END_MODULE] = "UPDATE module SET until_ns = ? WHERE process = ? AND start = ?"
                      "AND since_ns = ?",
    [TT_PUT_STACK] = "INSERT OR REPLACE INTO stack (process, id, cut, frames) VALUES (?,?,?,?)",
    [TT_PUT_SITE] = "INSERT OR REPLACE INTO site (process, id, resource, stack, thin, size_min,"
                    "size_max) VALUES (?,?,?,?,?,?,?)",
    [TT_PUT_EPOCH] = "INSERT OR REPLACE INTO epoch (id, at_ns) VALUES (?,?)",
    [TT_PUT_SAMPLE] =
        "INSERT OR REPLACE INTO site_sample (process, site, epoch, births, birth_bytes,"
        "deaths, death_bytes) VALUES (?,?,?,?,?,?,?)",
    [TT_PUT_DEATH] =
        "INSERT OR REPLACE INTO site_death (process, site, bin, count) VALUES (?,?,?,?)",
    [TT_CLEAR_SURVIVORS] = "DELETE FROM survivor WHERE process = ?",
    [TT_PUT_SURVIVOR] = "INSERT OR REPLACE INTO survivor (process, site, size, tick, count)"
                        "VALUES (?,?,?,?,?)",
    [TT_PUT_LOOK] = "INSERT OR REPLACE INTO process_look (process, at_ns, tick, consistent, final)"
                    "VALUES (?,?,?,?,?)",
    [TT_PUT_RELEASE] = "INSERT OR REPLACE INTO release (process, site, by_stack, samples, weight,"
                       "last_ns) VALUES (?,?,?,?,?,?)",
    [TT_PUT_RELEASE_AGE] =
        "INSERT OR REPLACE INTO release_age (process, site, age, samples, weight)"
        "VALUES (?,?,?,?,?)",
    [TT_PUT_OPERATION] = "INSERT OR REPLACE INTO operation (process, id, name, function, address,"
                         "source, since_ns) VALUES (?,?,?,?,?,?,?)",
    [TT_PUT_COUNT] = "INSERT OR REPLACE INTO operation_sample (process, operation, epoch, count)"
                     "VALUES (?,?,?,?)",
    [TT_PUT_PROC] = "INSERT OR REPLACE INTO proc_sample (process, epoch, rss_anon, rss_file,"
                    "heap_live, heap_held, fds, threads, vm_size, cpu_ms)"
                    "VALUES (?,?,?,?,?,?,?,?,?,?)",
    [TT_PUT_LIMIT] = "INSERT OR REPLACE INTO limit_value (process, name, value) VALUES (?,?,?)",
    [TT_PUT_DROPPED] = "INSERT OR REPLACE INTO dropped (process, what, count) VALUES (?,?,?)",
    [TT_PUT_SNAPSHOT] =
        "INSERT OR REPLACE INTO snapshot (process, id, at_ns, tick, source,"
        "allocator, stop_ns, fork_ns, scan_ns, blocks, bytes, lost_units, lost_bytes,"
        "lost_roots, old_units, unknown_units, unread_bytes, doubt_bytes, tagged,"
        "groups_left_out) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    [TT_PUT_LOST_GROUP] = "INSERT OR REPLACE INTO lost_group (process, snapshot, id, fingerprint,"
                          "size_min, size_max, units, bytes, roots, hung_units, hung_bytes,"
                          "unknown_units, unknown_bytes, shape, samples)"
                          "VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    [TT_PUT_LOST_SHARE] = "INSERT OR REPLACE INTO lost_share (process, snapshot, grp, site,"
                          "known_units, known_bytes, old_units, old_bytes, probability)"
                          "VALUES (?,?,?,?,?,?,?,?,?)",
    [TT_PUT_HOLDER] = "INSERT OR REPLACE INTO holder (process, snapshot, id, place, path, site,"
                      "units, bytes) VALUES (?,?,?,?,?,?,?,?)",
    [TT_PUT_HELD] = "INSERT OR REPLACE INTO held (process, snapshot, holder, site, units, bytes)"
                    "VALUES (?,?,?,?,?,?)",
    [TT_PUT_STALE] = "INSERT OR REPLACE INTO stale (process, site, epochs, objects, untouched,"
                     "untouched_bytes, untouched_weight, seconds) VALUES (?,?,?,?,?,?,?,?)",
    [TT_CLEAR_STALE] = "DELETE FROM stale WHERE process = ?",
    [TT_PUT_ATTACH] = "INSERT OR REPLACE INTO attach (process, at_ns, start_ns, stop_ns,"
                      "detached_ns, detach_stop_ns, entries, slots, kept, notes)"
                      "VALUES (?,?,?,?,?,?,?,?,?,?)",
    [TT_PUT_PLACE] = "INSERT OR REPLACE INTO site_place (process, site, place) VALUES (?,?,?)",
    [TT_PUT_OWNER] = "INSERT OR REPLACE INTO owner (process, id, how, fd, address, pid, exe, uid,"
                     "began_ns, ended_ns) VALUES (?,?,?,?,?,?,?,?,?,?)",
    [TT_PUT_SITE_OWNER] =
        "INSERT OR REPLACE INTO site_owner (process, site, owner, units) VALUES (?,?,?,?)",
    [TT_PUT_CLOCK_SURVIVOR] = "INSERT OR REPLACE INTO clock_survivor (process, site, clock, tick,"
                              "count) VALUES (?,?,?,?,?)",
    [TT_PUT_CLOCK_DEATH] = "INSERT OR REPLACE INTO clock_death (process, site, clock, bin, count)"
                           "VALUES (?,?,?,?,?)",
    [TT_PUT_SITE_WITH] =
        "INSERT OR REPLACE INTO site_with (process, site, other, units) VALUES (?,?,?,?)",
    [TT_PUT_RESOURCE] = "INSERT OR REPLACE INTO resource_sample (process, epoch, resource, held,"
                        "counted) VALUES (?,?,?,?,?)",
    [TT_PUT_DESCRIPTOR] = "INSERT OR REPLACE INTO descriptor (process, fd, what, site, owner, tick,"
                          "state, peer) VALUES (?,?,?,?,?,?,?,?)",
    [TT_PUT_WATCH] =
        "INSERT OR REPLACE INTO watch (process, id, function, resource, address, calls,"
        "source) VALUES (?,?,?,?,?,?,?)",
    [TT_CLEAR_OWNERS] = "DELETE FROM owner WHERE process = ?",
    [TT_CLEAR_SITE_OWNERS] = "DELETE FROM site_owner WHERE process = ?",
    [TT_CLEAR_CLOCKS] = "DELETE FROM clock_survivor WHERE process = ?",
    [TT_CLEAR_SITE_WITH] = "DELETE FROM site_with WHERE process = ?",
    [TT_CLEAR_DESCRIPTORS] = "DELETE FROM descriptor WHERE process = ?",
};

int tt_session_put_meta(struct tt_session_writer *writer, const char *key, const char *value)
{
    return tt_session_put(writer, TT_PUT_META, "tt", key, value ? value : "");
}

int tt_session_put_metaf(struct tt_session_writer *writer, const char *key, const char *fmt, ...)
{
    char value[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(value, sizeof value, fmt, ap);
    va_end(ap);
    return tt_session_put_meta(writer, key, value);
}

int tt_session_put_label(struct tt_session_writer *writer, const char *key, const char *value)
{
    return tt_session_put(writer, TT_PUT_LABEL, "tt", key, value);
}

int tt_session_put_process(struct tt_session_writer *writer, const struct tt_session_process *row)
{
    return tt_session_put(writer, TT_PUT_PROCESS, "iiittwitwznttttiwt", row->id, row->pid,
                          row->parent, row->exe, row->build_id, row->exe_size, row->exe_mtime,
                          row->cmdline, row->started_ns, row->ended_ns, (int)row->has_exit,
                          (int64_t)row->exit_status, row->state, row->reason, row->mode,
                          row->allocator, (int64_t)row->granule, row->sample_mean, row->libc);
}

int tt_session_put_module(struct tt_session_writer *writer, const struct tt_session_module *row)
{
    return tt_session_put(writer, TT_PUT_MODULE, "iwwwttwiwz", row->process, row->start, row->end,
                          row->file_offset, row->path, row->build_id, row->file_size, row->mtime,
                          row->since_ns, row->until_ns);
}

int tt_session_end_module(struct tt_session_writer *writer, const struct tt_session_module *row)
{
    return tt_session_put(writer, TT_END_MODULE, "wiww", row->until_ns, row->process, row->start,
                          row->since_ns);
}

int tt_session_put_stack(struct tt_session_writer *writer, int64_t process, int64_t id, bool cut,
                         const uint64_t *frames, size_t n)
{
    return tt_session_put(writer, TT_PUT_STACK, "iiib", process, id, (int64_t)cut,
                          (const void *)frames, n * sizeof *frames);
}

int tt_session_put_site(struct tt_session_writer *writer, const struct tt_session_site *row)
{
    return tt_session_put(writer, TT_PUT_SITE, "iitiiii", row->process, row->id, row->resource,
                          row->stack, (int64_t)row->thin, (int64_t)row->size_min,
                          (int64_t)row->size_max);
}

int tt_session_put_epoch(struct tt_session_writer *writer, int64_t id, uint64_t at_ns)
{
    return tt_session_put(writer, TT_PUT_EPOCH, "iw", id, at_ns);
}

int tt_session_put_sample(struct tt_session_writer *writer, int64_t process, int64_t site,
                          const struct tt_session_sample *row)
{
    return tt_session_put(writer, TT_PUT_SAMPLE, "iiiwwww", process, site, row->epoch, row->births,
                          row->birth_bytes, row->deaths, row->death_bytes);
}

int tt_session_put_death(struct tt_session_writer *writer, int64_t process, int64_t site,
                         uint32_t bin, uint64_t count)
{
    return tt_session_put(writer, TT_PUT_DEATH, "iiiw", process, site, (int64_t)bin, count);
}

int tt_session_clear_survivors(struct tt_session_writer *writer, int64_t process)
{
    return tt_session_put(writer, TT_CLEAR_SURVIVORS, "i", process);
}

int tt_session_put_survivor(struct tt_session_writer *writer, int64_t process,
                            const struct tt_session_survivor *row)
{
    return tt_session_put(writer, TT_PUT_SURVIVOR, "iiwiw", process, row->site, row->size,
                          (int64_t)row->tick, row->count);
}

int tt_session_put_look(struct tt_session_writer *writer, int64_t process,
                        const struct tt_session_look *row)
{
    return tt_session_put(writer, TT_PUT_LOOK, "iwiii", process, row->at_ns, (int64_t)row->tick,
                          (int64_t)row->consistent, (int64_t)row->final);
}

int tt_session_put_release(struct tt_session_writer *writer, int64_t process,
                           const struct tt_session_release *row)
{
    return tt_session_put(writer, TT_PUT_RELEASE, "iiiwww", process, row->site, row->by_stack,
                          row->samples, row->weight, row->last_ns);
}

int tt_session_put_release_age(struct tt_session_writer *writer, int64_t process,
                               const struct tt_session_release_age *row)
{
    return tt_session_put(writer, TT_PUT_RELEASE_AGE, "iiiww", process, row->site,
                          (int64_t)row->age, row->samples, row->weight);
}

int tt_session_put_operation(struct tt_session_writer *writer,
                             const struct tt_session_operation *row)
{
    return tt_session_put(writer, TT_PUT_OPERATION, "iittwtw", row->process, row->id, row->name,
                          row->function, row->address, row->source, row->since_ns);
}

int tt_session_put_count(struct tt_session_writer *writer, int64_t process, int64_t operation,
                         int64_t epoch, uint64_t count)
{
    return tt_session_put(writer, TT_PUT_COUNT, "iiiw", process, operation, epoch, count);
}

int tt_session_put_proc(struct tt_session_writer *writer, int64_t process,
                        const struct tt_session_proc *row)
{
    return tt_session_put(writer, TT_PUT_PROC, "iimmmmmmmm", process, row->epoch, row->rss_anon,
                          row->rss_file, row->heap_live, row->heap_held, row->fds, row->threads,
                          row->vm_size, row->cpu_ms);
}

int tt_session_put_limit(struct tt_session_writer *writer, const struct tt_session_limit *row)
{
    return tt_session_put(writer, TT_PUT_LIMIT, "iti", row->process, row->name, row->value);
}

int tt_session_put_dropped(struct tt_session_writer *writer, const struct tt_session_dropped *row)
{
    return tt_session_put(writer, TT_PUT_DROPPED, "itw", row->process, row->what, row->count);
}

int tt_session_merge_epochs(struct tt_session_writer *writer, const int64_t *from,
                            const int64_t *to, size_t n)
{
    /* the latest of several merged epochs wins: counts are cumulative */
    tt_session_run(
        writer,
        "CREATE TEMP TABLE IF NOT EXISTS merge (source INTEGER PRIMARY KEY, target INTEGER);"
        "DELETE FROM temp.merge");
    for (size_t i = 0; i < n && !writer->failed.code; i++) {
        char sql[128];
        snprintf(sql, sizeof sql, "INSERT OR REPLACE INTO temp.merge VALUES (%lld, %lld)",
                 (long long)from[i], (long long)to[i]);
        tt_session_run(writer, sql);
    }
    return tt_session_run(
        writer,
        "INSERT OR IGNORE INTO site_sample SELECT process, site, target, births, birth_bytes,"
        "deaths, death_bytes FROM site_sample JOIN temp.merge ON source = epoch"
        " ORDER BY process, site, epoch DESC;"
        "DELETE FROM site_sample WHERE epoch IN (SELECT source FROM temp.merge);"
        "INSERT OR IGNORE INTO operation_sample SELECT process, operation, target, count"
        " FROM operation_sample JOIN temp.merge ON source = epoch"
        " ORDER BY process, operation, epoch DESC;"
        "DELETE FROM operation_sample WHERE epoch IN (SELECT source FROM temp.merge);"
        "DELETE FROM proc_sample WHERE epoch IN (SELECT source FROM temp.merge);"
        "DELETE FROM resource_sample WHERE epoch IN (SELECT source FROM temp.merge);"
        "DELETE FROM epoch WHERE id IN (SELECT source FROM temp.merge)");
}

uint64_t tt_session_sample_rows(struct tt_session_writer *writer)
{
    return writer->failed.code
               ? 0
               : (uint64_t)tt_session_ask(writer, "SELECT count(*) FROM site_sample");
}

/* ---- frozen copies (snapshot.h) ---- */

int tt_session_put_snapshot(struct tt_session_writer *writer, const struct tt_session_snapshot *row)
{
    return tt_session_put(writer, TT_PUT_SNAPSHOT, "iiwittwwwwwwwwwwwwww", row->process, row->id,
                          row->at_ns, (int64_t)row->tick, row->source, row->allocator, row->stop_ns,
                          row->fork_ns, row->scan_ns, row->blocks, row->bytes, row->lost_units,
                          row->lost_bytes, row->lost_roots, row->old_units, row->unknown_units,
                          row->unread_bytes, row->doubt_bytes, row->tagged, row->groups_left_out);
}

int tt_session_put_lost_group(struct tt_session_writer *writer,
                              const struct tt_session_lost_group *row)
{
    return tt_session_put(writer, TT_PUT_LOST_GROUP, "iiiwwwwwwwwwwtt", row->process, row->snapshot,
                          row->id, row->fingerprint, row->size_min, row->size_max, row->units,
                          row->bytes, row->roots, row->hung_units, row->hung_bytes,
                          row->unknown_units, row->unknown_bytes, row->shape, row->samples);
}

int tt_session_put_lost_share(struct tt_session_writer *writer,
                              const struct tt_session_lost_share *row)
{
    return tt_session_put(writer, TT_PUT_LOST_SHARE, "iiiiwwwwr", row->process, row->snapshot,
                          row->group, row->site, row->known_units, row->known_bytes, row->old_units,
                          row->old_bytes, row->probability);
}

int tt_session_put_holder(struct tt_session_writer *writer, const struct tt_session_holder *row)
{
    return tt_session_put(writer, TT_PUT_HOLDER, "iiittiww", row->process, row->snapshot, row->id,
                          row->place, row->path, row->site, row->units, row->bytes);
}

int tt_session_put_held(struct tt_session_writer *writer, const struct tt_session_held *row)
{
    return tt_session_put(writer, TT_PUT_HELD, "iiiiww", row->process, row->snapshot, row->holder,
                          row->site, row->units, row->bytes);
}

int tt_session_put_stale(struct tt_session_writer *writer, const struct tt_session_stale *row)
{
    return tt_session_put(writer, TT_PUT_STALE, "iiiwwwrr", row->process, row->site,
                          (int64_t)row->epochs, row->objects, row->untouched, row->untouched_bytes,
                          row->untouched_weight, row->seconds);
}

int tt_session_clear_stale(struct tt_session_writer *writer, int64_t process)
{
    return tt_session_put(writer, TT_CLEAR_STALE, "i", process);
}

int tt_session_put_attach(struct tt_session_writer *writer, const struct tt_session_attach *row)
{
    return tt_session_put(writer, TT_PUT_ATTACH, "iwwwwwiiit", row->process, row->at_ns,
                          row->start_ns, row->stop_ns, row->detached_ns, row->detach_stop_ns,
                          (int64_t)row->entries, (int64_t)row->slots, (int64_t)row->kept,
                          row->notes);
}

int tt_session_drop_snapshots(struct tt_session_writer *writer, int64_t process, int64_t keep)
{
    static const char *const tables[] = {"lost_group", "lost_share", "holder", "held"};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        char sql[256];
        snprintf(sql, sizeof sql,
                 "DELETE FROM %s WHERE process = %lld AND snapshot < %lld AND snapshot >"
                 " (SELECT min(id) FROM snapshot WHERE process = %lld)",
                 tables[i], (long long)process, (long long)keep, (long long)process);
        tt_session_run(writer, sql);
    }
    return tt_session_failed(writer, NULL);
}
