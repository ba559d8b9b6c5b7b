/* SPDX-License-Identifier: Apache-2.0 */
/* Writing a session: one prepared statement per table, kept for the life of the writer, and one
 * generic put that binds by a format string, so that a new table is one line here. WAL with
 * synchronous=NORMAL: a killed recorder leaves the last committed write (sqlite.org/wal.html), and
 * readers may look on meanwhile. Start: tt_session_create. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "session/internal.h"
#include "session/schema.h"
#include "session/writer.h"

enum sql {
    PUT_META,
    PUT_LABEL,
    PUT_PROCESS,
    PUT_MODULE,
    END_MODULE,
    PUT_STACK,
    PUT_SITE,
    PUT_EPOCH,
    PUT_SAMPLE,
    PUT_DEATH,
    CLEAR_SURVIVORS,
    PUT_SURVIVOR,
    PUT_LOOK,
    PUT_RELEASE,
    PUT_RELEASE_AGE,
    PUT_OPERATION,
    PUT_COUNT,
    PUT_PROC,
    PUT_LIMIT,
    PUT_DROPPED,
    SQL_COUNT
};

static const char *const sql_text[SQL_COUNT] = {
    [PUT_META] = "INSERT OR REPLACE INTO meta VALUES (?,?)",
    [PUT_LABEL] = "INSERT OR REPLACE INTO label VALUES (?,?)",
    [PUT_PROCESS] = "INSERT OR REPLACE INTO process (id, pid, parent, exe, build_id, exe_size,"
                    "exe_mtime, cmdline, started_ns, ended_ns, exit_status, state, reason, mode,"
                    "allocator, granule, sample_mean, libc)"
                    "VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    [PUT_MODULE] = "INSERT INTO module (process, start, end, file_offset, path, build_id,"
                   "file_size, mtime, since_ns, until_ns) VALUES (?,?,?,?,?,?,?,?,?,?)",
    [END_MODULE] = "UPDATE module SET until_ns = ? WHERE process = ? AND start = ?"
                   "AND since_ns = ?",
    [PUT_STACK] = "INSERT OR REPLACE INTO stack (process, id, cut, frames) VALUES (?,?,?,?)",
    [PUT_SITE] = "INSERT OR REPLACE INTO site (process, id, resource, stack, thin, size_min,"
                 "size_max) VALUES (?,?,?,?,?,?,?)",
    [PUT_EPOCH] = "INSERT OR REPLACE INTO epoch (id, at_ns) VALUES (?,?)",
    [PUT_SAMPLE] = "INSERT OR REPLACE INTO site_sample (process, site, epoch, births, birth_bytes,"
                   "deaths, death_bytes) VALUES (?,?,?,?,?,?,?)",
    [PUT_DEATH] = "INSERT OR REPLACE INTO site_death (process, site, bin, count) VALUES (?,?,?,?)",
    [CLEAR_SURVIVORS] = "DELETE FROM survivor WHERE process = ?",
    [PUT_SURVIVOR] = "INSERT OR REPLACE INTO survivor (process, site, size, tick, count)"
                     "VALUES (?,?,?,?,?)",
    [PUT_LOOK] = "INSERT OR REPLACE INTO process_look (process, at_ns, tick, consistent, final)"
                 "VALUES (?,?,?,?,?)",
    [PUT_RELEASE] = "INSERT OR REPLACE INTO release (process, site, by_stack, samples, weight,"
                    "last_ns) VALUES (?,?,?,?,?,?)",
    [PUT_RELEASE_AGE] = "INSERT OR REPLACE INTO release_age (process, site, age, samples, weight)"
                        "VALUES (?,?,?,?,?)",
    [PUT_OPERATION] = "INSERT OR REPLACE INTO operation (process, id, name, function, address,"
                      "source, since_ns) VALUES (?,?,?,?,?,?,?)",
    [PUT_COUNT] = "INSERT OR REPLACE INTO operation_sample (process, operation, epoch, count)"
                  "VALUES (?,?,?,?)",
    [PUT_PROC] = "INSERT OR REPLACE INTO proc_sample (process, epoch, rss_anon, rss_file,"
                 "heap_live, heap_held, fds, threads, vm_size, cpu_ms)"
                 "VALUES (?,?,?,?,?,?,?,?,?,?)",
    [PUT_LIMIT] = "INSERT OR REPLACE INTO limit_value (process, name, value) VALUES (?,?,?)",
    [PUT_DROPPED] = "INSERT OR REPLACE INTO dropped (process, what, count) VALUES (?,?,?)",
};

struct tt_session_writer {
    sqlite3 *db;
    char *path, *file;
    int lock; /* holds flock() on the file: another recorder must not replace it */
    sqlite3_stmt *statements[SQL_COUNT];
    struct tt_error failed;
};

/* ---- creating ---- */

/* Whether the file at path may be replaced: an empty file, or a session nobody records. */
static int may_replace(const char *path, int fd, struct tt_error *err)
{
    struct stat st;
    unsigned char head[100] = {0};
    static const unsigned char id[4] = {
        (TT_SESSION_APPLICATION_ID >> 24) & 0xff, (TT_SESSION_APPLICATION_ID >> 16) & 0xff,
        (TT_SESSION_APPLICATION_ID >> 8) & 0xff, TT_SESSION_APPLICATION_ID & 0xff};
    if (fstat(fd, &st) < 0)
        return tt_error_sys(err, -errno, "cannot write session %s", path);
    if (!S_ISREG(st.st_mode))
        return tt_error_set(err, -EEXIST, "cannot write session %s: it is not a regular file",
                            path);
    if (st.st_size > 0 &&
        (pread(fd, head, sizeof head, 0) != sizeof head ||
         memcmp(head, "SQLite format 3", 16) != 0 || memcmp(head + 68, id, 4) != 0))
        return tt_error_set(err, -EEXIST,
                            "%s exists and is not a telltale session: remove it, or choose "
                            "another name with -o",
                            path);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        return tt_error_set(err, -EBUSY,
                            "%s is being recorded by another telltale: choose another name "
                            "with -o",
                            path);
    return 0;
}

static void unlink_all(const char *file)
{
    static const char *const tails[] = {"", "-wal", "-shm", "-journal"};
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
        struct tt_text name = {0};
        tt_text_add(&name, "%s%s", file, tails[i]);
        if (!name.failed)
            unlink(name.data);
        tt_text_free(&name);
    }
}

static int make_file(struct tt_session_writer *writer, struct tt_error *err)
{
    const char *path = writer->path;
    int fd = open(writer->file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0) {
        int code = may_replace(path, fd, err);
        if (!code)
            unlink_all(writer->file);
        close(fd);
        if (code)
            return code;
    }
    /* 0600: addresses and command lines are nobody else's business */
    writer->lock = open(writer->file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (writer->lock < 0)
        return tt_error_sys(err, -errno, "cannot write session %s", path);
    flock(writer->lock, LOCK_EX | LOCK_NB);
    return 0;
}

struct tt_session_writer *tt_session_create(const char *path, struct tt_error *err)
{
    struct tt_session_writer *writer = calloc(1, sizeof *writer);
    if (!writer || (writer->lock = -1, !(writer->path = strdup(path))) ||
        !(writer->file = tt_session_file_name(path))) {
        tt_error_sys(err, -ENOMEM, "cannot write session %s", path);
        goto fail;
    }
    if (make_file(writer, err))
        goto fail;
    int rc = sqlite3_open_v2(writer->file, &writer->db, SQLITE_OPEN_READWRITE, NULL);
    if (rc == SQLITE_OK) {
        sqlite3_extended_result_codes(writer->db, 1);
        sqlite3_busy_timeout(writer->db, 2000);
        /* the schema goes in before WAL is switched on: half the disk space */
        rc = sqlite3_exec(writer->db,
                          "PRAGMA application_id = 1953778737; PRAGMA user_version = 1;"
                          "PRAGMA cache_size = -2048; PRAGMA temp_store = MEMORY;"
                          "PRAGMA synchronous = NORMAL; BEGIN;" TT_SESSION_SCHEMA_SQL
                          "COMMIT; PRAGMA journal_mode = WAL; PRAGMA journal_size_limit = 4194304;",
                          NULL, NULL, NULL);
    }
    for (int i = 0; rc == SQLITE_OK && i < SQL_COUNT; i++)
        rc = sqlite3_prepare_v3(writer->db, sql_text[i], -1, SQLITE_PREPARE_PERSISTENT,
                                &writer->statements[i], NULL);
    if (rc == SQLITE_OK)
        return writer;
    tt_error_set(err, writer->db ? tt_session_errno(writer->db) : -ENOMEM,
                 "cannot write session %s: %s", path,
                 writer->db ? sqlite3_errmsg(writer->db) : "out of memory");
    unlink_all(writer->file);
fail:
    if (writer) {
        for (int i = 0; i < SQL_COUNT; i++)
            sqlite3_finalize(writer->statements[i]);
        sqlite3_close(writer->db);
        if (writer->lock >= 0)
            close(writer->lock);
        free(writer->path);
        free(writer->file);
        free(writer);
    }
    return NULL;
}
_Static_assert(TT_SESSION_APPLICATION_ID == 1953778737 && TT_SESSION_SCHEMA == 1,
               "the PRAGMAs above say the same");

/* ---- failing and ending ---- */

static int closed(struct tt_session_writer *writer)
{
    if (!writer->failed.code) {
        int code = tt_session_errno(writer->db);
        tt_error_set(&writer->failed, code, "cannot write session %s any more: %s", writer->path,
                     code == -ENOSPC   ? "the disk is full"
                     : code == -EDQUOT ? "the disk quota is used up"
                     : code == -EFBIG  ? "the file size limit (ulimit -f) is reached"
                                       : sqlite3_errmsg(writer->db));
        if (!sqlite3_get_autocommit(writer->db))
            sqlite3_exec(writer->db, "ROLLBACK", NULL, NULL, NULL);
    }
    return writer->failed.code;
}

int tt_session_failed(const struct tt_session_writer *writer, struct tt_error *err)
{
    if (writer->failed.code && err)
        *err = writer->failed;
    return writer->failed.code;
}

uint64_t tt_session_bytes(const struct tt_session_writer *writer)
{
    uint64_t bytes = 0;
    struct stat st;
    if (stat(writer->file, &st) == 0)
        bytes += (uint64_t)st.st_size;
    struct tt_text log = {0};
    tt_text_add(&log, "%s-wal", writer->file);
    if (!log.failed && stat(log.data, &st) == 0)
        bytes += (uint64_t)st.st_size;
    tt_text_free(&log);
    return bytes;
}

static int64_t pragma(struct tt_session_writer *writer, const char *sql)
{
    sqlite3_stmt *statement;
    int64_t value = 0;
    if (sqlite3_prepare_v2(writer->db, sql, -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW)
        value = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return value;
}

int tt_session_finish(struct tt_session_writer *writer, bool finished, struct tt_error *err)
{
    if (finished && !writer->failed.code) {
        tt_session_begin(writer);
        tt_session_put_meta(writer, "finished", "1");
        tt_session_commit(writer);
    }
    for (int i = 0; i < SQL_COUNT; i++)
        sqlite3_finalize(writer->statements[i]);
    if (finished && !writer->failed.code) {
        /* thinned rows leave free pages; then one plain file remains, without log and index. A
         * reader that looks on right now keeps it in WAL mode, which is as readable. */
        if (pragma(writer, "PRAGMA freelist_count") > pragma(writer, "PRAGMA page_count") / 4)
            sqlite3_exec(writer->db, "VACUUM", NULL, NULL, NULL);
        sqlite3_busy_timeout(writer->db, 0);
        sqlite3_exec(writer->db, "PRAGMA journal_mode = DELETE", NULL, NULL, NULL);
    }
    sqlite3_close(writer->db);
    close(writer->lock); /* only now: closing drops this process's locks on the file (fcntl(2)) */
    int code = writer->failed.code;
    if (code && err)
        *err = writer->failed;
    free(writer->path);
    free(writer->file);
    free(writer);
    return code;
}

/* ---- rows ---- */

/* Runs a statement with its parameters bound by `format`: i int64_t, w uint64_t, t text or NULL,
 * b blob (pointer, size_t), z a uint64_t that is NULL when 0, m an int64_t that is NULL when
 * negative, n an int (present?) and an int64_t. */
static int put(struct tt_session_writer *writer, enum sql which, const char *format, ...)
{
    if (writer->failed.code)
        return writer->failed.code;
    sqlite3_stmt *statement = writer->statements[which];
    va_list ap;
    va_start(ap, format);
    for (int i = 1; format[i - 1]; i++) {
        switch (format[i - 1]) {
        case 'i':
            sqlite3_bind_int64(statement, i, va_arg(ap, int64_t));
            break;
        case 'w':
            sqlite3_bind_int64(statement, i, (int64_t)va_arg(ap, uint64_t));
            break;
        case 't':
            sqlite3_bind_text(statement, i, va_arg(ap, const char *), -1, SQLITE_STATIC);
            break;
        case 'b': {
            const void *bytes = va_arg(ap, const void *);
            sqlite3_bind_blob64(statement, i, bytes, va_arg(ap, size_t), SQLITE_STATIC);
            break;
        }
        case 'z': {
            uint64_t value = va_arg(ap, uint64_t);
            if (!value)
                sqlite3_bind_null(statement, i);
            else
                sqlite3_bind_int64(statement, i, (int64_t)value);
            break;
        }
        case 'n': {
            bool present = va_arg(ap, int) != 0;
            int64_t value = va_arg(ap, int64_t);
            if (!present)
                sqlite3_bind_null(statement, i);
            else
                sqlite3_bind_int64(statement, i, value);
            break;
        }
        case 'm': {
            int64_t value = va_arg(ap, int64_t);
            if (value < 0)
                sqlite3_bind_null(statement, i);
            else
                sqlite3_bind_int64(statement, i, value);
            break;
        }
        default:
            break;
        }
    }
    va_end(ap);
    sqlite3_step(statement);
    int rc = sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    return rc == SQLITE_OK ? 0 : closed(writer);
}

static int run(struct tt_session_writer *writer, const char *sql)
{
    if (writer->failed.code)
        return writer->failed.code;
    return sqlite3_exec(writer->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : closed(writer);
}

int tt_session_begin(struct tt_session_writer *writer)
{
    return run(writer, "BEGIN IMMEDIATE");
}

int tt_session_commit(struct tt_session_writer *writer)
{
    return run(writer, "COMMIT");
}

int tt_session_put_meta(struct tt_session_writer *writer, const char *key, const char *value)
{
    return put(writer, PUT_META, "tt", key, value ? value : "");
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
    return put(writer, PUT_LABEL, "tt", key, value);
}

int tt_session_put_process(struct tt_session_writer *writer, const struct tt_session_process *row)
{
    return put(writer, PUT_PROCESS, "iiittwitwznttttiwt", row->id, row->pid, row->parent, row->exe,
               row->build_id, row->exe_size, row->exe_mtime, row->cmdline, row->started_ns,
               row->ended_ns, (int)row->has_exit, (int64_t)row->exit_status, row->state,
               row->reason, row->mode, row->allocator, (int64_t)row->granule, row->sample_mean,
               row->libc);
}

int tt_session_put_module(struct tt_session_writer *writer, const struct tt_session_module *row)
{
    return put(writer, PUT_MODULE, "iwwwttwiwz", row->process, row->start, row->end,
               row->file_offset, row->path, row->build_id, row->file_size, row->mtime,
               row->since_ns, row->until_ns);
}

int tt_session_end_module(struct tt_session_writer *writer, const struct tt_session_module *row)
{
    return put(writer, END_MODULE, "wiww", row->until_ns, row->process, row->start, row->since_ns);
}

int tt_session_put_stack(struct tt_session_writer *writer, int64_t process, int64_t id, bool cut,
                         const uint64_t *frames, size_t n)
{
    return put(writer, PUT_STACK, "iiib", process, id, (int64_t)cut, (const void *)frames,
               n * sizeof *frames);
}

int tt_session_put_site(struct tt_session_writer *writer, const struct tt_session_site *row)
{
    return put(writer, PUT_SITE, "iitiiii", row->process, row->id, row->resource, row->stack,
               (int64_t)row->thin, (int64_t)row->size_min, (int64_t)row->size_max);
}

int tt_session_put_epoch(struct tt_session_writer *writer, int64_t id, uint64_t at_ns)
{
    return put(writer, PUT_EPOCH, "iw", id, at_ns);
}

int tt_session_put_sample(struct tt_session_writer *writer, int64_t process, int64_t site,
                          const struct tt_session_sample *row)
{
    return put(writer, PUT_SAMPLE, "iiiwwww", process, site, row->epoch, row->births,
               row->birth_bytes, row->deaths, row->death_bytes);
}

int tt_session_put_death(struct tt_session_writer *writer, int64_t process, int64_t site,
                         uint32_t bin, uint64_t count)
{
    return put(writer, PUT_DEATH, "iiiw", process, site, (int64_t)bin, count);
}

int tt_session_clear_survivors(struct tt_session_writer *writer, int64_t process)
{
    return put(writer, CLEAR_SURVIVORS, "i", process);
}

int tt_session_put_survivor(struct tt_session_writer *writer, int64_t process,
                            const struct tt_session_survivor *row)
{
    return put(writer, PUT_SURVIVOR, "iiwiw", process, row->site, row->size, (int64_t)row->tick,
               row->count);
}

int tt_session_put_look(struct tt_session_writer *writer, int64_t process,
                        const struct tt_session_look *row)
{
    return put(writer, PUT_LOOK, "iwiii", process, row->at_ns, (int64_t)row->tick,
               (int64_t)row->consistent, (int64_t)row->final);
}

int tt_session_put_release(struct tt_session_writer *writer, int64_t process,
                           const struct tt_session_release *row)
{
    return put(writer, PUT_RELEASE, "iiiwww", process, row->site, row->by_stack, row->samples,
               row->weight, row->last_ns);
}

int tt_session_put_release_age(struct tt_session_writer *writer, int64_t process,
                               const struct tt_session_release_age *row)
{
    return put(writer, PUT_RELEASE_AGE, "iiiww", process, row->site, (int64_t)row->age,
               row->samples, row->weight);
}

int tt_session_put_operation(struct tt_session_writer *writer,
                             const struct tt_session_operation *row)
{
    return put(writer, PUT_OPERATION, "iittwtw", row->process, row->id, row->name, row->function,
               row->address, row->source, row->since_ns);
}

int tt_session_put_count(struct tt_session_writer *writer, int64_t process, int64_t operation,
                         int64_t epoch, uint64_t count)
{
    return put(writer, PUT_COUNT, "iiiw", process, operation, epoch, count);
}

int tt_session_put_proc(struct tt_session_writer *writer, int64_t process,
                        const struct tt_session_proc *row)
{
    return put(writer, PUT_PROC, "iimmmmmmmm", process, row->epoch, row->rss_anon, row->rss_file,
               row->heap_live, row->heap_held, row->fds, row->threads, row->vm_size, row->cpu_ms);
}

int tt_session_put_limit(struct tt_session_writer *writer, const struct tt_session_limit *row)
{
    return put(writer, PUT_LIMIT, "iti", row->process, row->name, row->value);
}

int tt_session_put_dropped(struct tt_session_writer *writer, const struct tt_session_dropped *row)
{
    return put(writer, PUT_DROPPED, "itw", row->process, row->what, row->count);
}

int tt_session_merge_epochs(struct tt_session_writer *writer, const int64_t *from,
                            const int64_t *to, size_t n)
{
    /* the latest of several merged epochs wins: counts are cumulative */
    run(writer,
        "CREATE TEMP TABLE IF NOT EXISTS merge (source INTEGER PRIMARY KEY, target INTEGER);"
        "DELETE FROM temp.merge");
    for (size_t i = 0; i < n && !writer->failed.code; i++) {
        char sql[128];
        snprintf(sql, sizeof sql, "INSERT OR REPLACE INTO temp.merge VALUES (%lld, %lld)",
                 (long long)from[i], (long long)to[i]);
        run(writer, sql);
    }
    return run(
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
        "DELETE FROM epoch WHERE id IN (SELECT source FROM temp.merge)");
}

uint64_t tt_session_sample_rows(struct tt_session_writer *writer)
{
    return writer->failed.code ? 0 : (uint64_t)pragma(writer, "SELECT count(*) FROM site_sample");
}
