/* SPDX-License-Identifier: Apache-2.0 */
/* Writing a session: the life of the file, its prepared statements, and one generic put that binds
 * by a format string, so that a new table is one line in put.c. WAL with
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
                          "PRAGMA application_id = 1953778737; PRAGMA user_version = 3;"
                          "PRAGMA cache_size = -2048; PRAGMA temp_store = MEMORY;"
                          "PRAGMA synchronous = NORMAL; BEGIN;" TT_SESSION_SCHEMA_SQL
                          "COMMIT; PRAGMA journal_mode = WAL; PRAGMA journal_size_limit = 4194304;",
                          NULL, NULL, NULL);
    }
    for (int i = 0; rc == SQLITE_OK && i < TT_SESSION_SQL; i++)
        rc = sqlite3_prepare_v3(writer->db, tt_session_sql_text[i], -1, SQLITE_PREPARE_PERSISTENT,
                                &writer->statements[i], NULL);
    if (rc == SQLITE_OK)
        return writer;
    tt_error_set(err, writer->db ? tt_session_errno(writer->db) : -ENOMEM,
                 "cannot write session %s: %s", path,
                 writer->db ? sqlite3_errmsg(writer->db) : "out of memory");
    unlink_all(writer->file);
fail:
    if (writer) {
        for (int i = 0; i < TT_SESSION_SQL; i++)
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
_Static_assert(TT_SESSION_APPLICATION_ID == 1953778737 && TT_SESSION_SCHEMA == 3,
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

int64_t tt_session_ask(struct tt_session_writer *writer, const char *sql)
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
    for (int i = 0; i < TT_SESSION_SQL; i++)
        sqlite3_finalize(writer->statements[i]);
    if (finished && !writer->failed.code) {
        /* thinned rows leave free pages; then one plain file remains, without log and index. A
         * reader that looks on right now keeps it in WAL mode, which is as readable. */
        if (tt_session_ask(writer, "PRAGMA freelist_count") >
            tt_session_ask(writer, "PRAGMA page_count") / 4)
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

/* ---- statements ---- */

int tt_session_put(struct tt_session_writer *writer, enum tt_session_sql which, const char *format,
                   ...)
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
        case 'r':
            sqlite3_bind_double(statement, i, va_arg(ap, double));
            break;
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

int tt_session_run(struct tt_session_writer *writer, const char *sql)
{
    if (writer->failed.code)
        return writer->failed.code;
    return sqlite3_exec(writer->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : closed(writer);
}

int tt_session_begin(struct tt_session_writer *writer)
{
    return tt_session_run(writer, "BEGIN IMMEDIATE");
}

int tt_session_commit(struct tt_session_writer *writer)
{
    return tt_session_run(writer, "COMMIT");
}
