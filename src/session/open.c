/* SPDX-License-Identifier: Apache-2.0 */
/* Opening a session for reading. The file may be anything: first its header is looked at, then
 * SQLite checks its structure (quick_check), then the tables must be there; nothing of its schema
 * is trusted to run. Start: tt_session_open. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "session/internal.h"

/* Structure checks of larger files would take longer than reading what is needed of them. */
#define CHECK_BYTES_MAX (256 << 20)

static const char *const tables[] = {
    "meta",
    "label",
    "process",
    "module",
    "stack",
    "site",
    "epoch",
    "site_sample",
    "site_death",
    "survivor",
    "process_look",
    "release",
    "release_age",
    "operation",
    "operation_sample",
    "proc_sample",
    "limit_value",
    "dropped",
    "symbol",
    /* since schema 2 */
    "snapshot",
    "lost_group",
    "lost_share",
    "holder",
    "held",
    "stale",
    "attach",
    /* since schema 3 */
    "site_place",
    "owner",
    "site_owner",
    "clock_survivor",
    "clock_death",
    "site_with",
    "resource_sample",
    "descriptor",
    "watch",
};
#define TABLES (sizeof tables / sizeof *tables)
#define TABLES_1 19u
#define TABLES_2 26u

int tt_session_errno(sqlite3 *db)
{
    int system = sqlite3_system_errno(db);
    switch (sqlite3_errcode(db) & 0xff) {
    case SQLITE_FULL:
        return -ENOSPC;
    case SQLITE_NOMEM:
        return -ENOMEM;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return -EBUSY;
    case SQLITE_READONLY:
        return -EROFS;
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
        return -EBADMSG;
    case SQLITE_IOERR: { /* SQLite keeps no errno of a write that a file size limit cut short */
        struct rlimit limit;
        if (sqlite3_extended_errcode(db) == SQLITE_IOERR_WRITE && !system &&
            getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
            return -EFBIG;
        return system ? -system : -EIO;
    }
    case SQLITE_CANTOPEN:
        return system ? -system : -EIO;
    default:
        return -EIO;
    }
}

char *tt_session_file_name(const char *path)
{
    char *name;
    return asprintf(&name, "%s%s", *path == '/' ? "" : "./", path) < 0 ? NULL : name;
}

int tt_session_foreign(const char *path, struct tt_error *err)
{
    return tt_error_set(err, -EBADMSG, "%s is not a telltale session", path);
}

int tt_session_check_file(const char *path, struct tt_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return tt_error_sys(err, -errno, "cannot open session %s", path);
    struct stat st;
    char head[16] = {0};
    ssize_t n = -1;
    int code = 0;
    if (fstat(fd, &st) < 0)
        code = tt_error_sys(err, -errno, "cannot open session %s", path);
    else if (S_ISDIR(st.st_mode))
        code = tt_error_set(err, -EISDIR, "%s is a directory, not a telltale session", path);
    else if (S_ISREG(st.st_mode) && (n = pread(fd, head, sizeof head, 0)) < 0)
        code = tt_error_sys(err, -errno, "cannot read session %s", path);
    else if (S_ISREG(st.st_mode) && n == 0)
        code = tt_error_set(err, -EBADMSG,
                            "%s is empty: the recorder ended before it wrote anything", path);
    else if (n != sizeof head || memcmp(head, "SQLite format 3", 16) != 0)
        code = tt_session_foreign(path, err);
    close(fd);
    return code;
}

/* ---- opening ---- */

/* One integer from a PRAGMA or SELECT; -1 when it cannot be had. */
static int64_t ask(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *statement;
    int64_t value = -1;
    if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW)
        value = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return value;
}

static int check_structure(struct tt_session *session, struct tt_error *err)
{
    struct stat st;
    if (stat(session->path, &st) == 0 && st.st_size > CHECK_BYTES_MAX)
        return 0;
    sqlite3_stmt *statement;
    int code = 0;
    if (sqlite3_prepare_v2(session->db, "PRAGMA quick_check(1)", -1, &statement, NULL) !=
            SQLITE_OK ||
        sqlite3_step(statement) != SQLITE_ROW)
        code = tt_error_set(err, -EBADMSG, "%s is damaged: %s", session->path,
                            sqlite3_errmsg(session->db));
    else {
        const char *answer = (const char *)sqlite3_column_text(statement, 0);
        if (!answer || strcmp(answer, "ok") != 0) {
            char line[200];
            snprintf(line, sizeof line, "%s", answer ? answer : "no answer");
            line[strcspn(line, "\n")] = '\0';
            code = tt_error_set(err, -EBADMSG, "%s is damaged or cut off: %s", session->path, line);
        }
    }
    sqlite3_finalize(statement);
    return code;
}

static int check_tables(struct tt_session *session, struct tt_error *err)
{
    sqlite3_stmt *statement = NULL;
    int code = 0;
    if (sqlite3_prepare_v2(session->db,
                           "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?1",
                           -1, &statement, NULL) != SQLITE_OK)
        code = tt_error_set(err, -EBADMSG, "%s is damaged: %s", session->path,
                            sqlite3_errmsg(session->db));
    size_t n = session->schema < 2 ? TABLES_1 : session->schema < 3 ? TABLES_2 : TABLES;
    for (size_t i = 0; !code && i < n; i++) {
        sqlite3_reset(statement);
        sqlite3_bind_text(statement, 1, tables[i], -1, SQLITE_STATIC);
        if (sqlite3_step(statement) != SQLITE_ROW || sqlite3_column_int64(statement, 0) != 1)
            code = tt_error_set(err, -EBADMSG, "%s is damaged: table %s is missing", session->path,
                                tables[i]);
    }
    sqlite3_finalize(statement);
    return code;
}

/* A decimal number of table meta; absent reads as lo. */
static int meta_number(struct tt_session *session, const char *key, int64_t lo, int64_t hi,
                       int64_t *value, struct tt_error *err)
{
    const char *text = tt_session_meta_get(session, key);
    *value = lo;
    if (!text)
        return 0;
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (errno || end == text || *end || number < lo || number > hi)
        return tt_error_set(err, -EBADMSG, "%s is damaged: meta %s is not a number of its range",
                            session->path, key);
    *value = number;
    return 0;
}

static int read_meta(struct tt_session *session, struct tt_error *err)
{
    struct tt_session_meta *meta = &session->meta;
    const struct {
        const char *key, **to;
    } texts[] = {
        {"tool_version", &meta->tool_version},
        {"host", &meta->host},
        {"kernel", &meta->kernel},
        {"machine", &meta->machine},
        {"libc", &meta->libc},
        {"command", &meta->command},
        {"mode", &meta->mode},
        {"outcome", &meta->outcome},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        const char *value = tt_session_meta_get(session, texts[i].key);
        *texts[i].to = value ? value : "";
    }
    int64_t wall, started, ended, origin, per_second, finished, status;
    if (meta_number(session, "started_wall", 0, INT64_MAX, &wall, err) ||
        meta_number(session, "started_ns", 0, INT64_MAX / 2, &started, err) ||
        meta_number(session, "ended_ns", 0, INT64_MAX / 2, &ended, err) ||
        meta_number(session, "origin_ns", 0, INT64_MAX / 2, &origin, err) ||
        meta_number(session, "ticks_per_second", 1, 1000000, &per_second, err) ||
        meta_number(session, "finished", 0, 1, &finished, err) ||
        meta_number(session, "exit_status", -255, 255, &status, err))
        return -EBADMSG;
    meta->started_wall = (uint64_t)wall;
    meta->started_ns = (uint64_t)started;
    meta->ended_ns = (uint64_t)ended;
    meta->origin_ns = (uint64_t)origin;
    meta->ticks_per_second = (uint32_t)per_second;
    meta->finished = finished != 0;
    meta->has_exit = tt_session_meta_get(session, "exit_status") != NULL;
    meta->exit_status = meta->has_exit ? (int)status : 0;
    const char *horizon = tt_session_meta_get(session, "horizon_s");
    meta->horizon_s = horizon ? strtod(horizon, NULL) : 0;
    if (!(meta->horizon_s >= 0 && meta->horizon_s < 1e10))
        return tt_error_set(err, -EBADMSG, "%s is damaged: meta horizon_s is out of range",
                            session->path);
    if (meta->ended_ns < meta->started_ns)
        meta->ended_ns = meta->started_ns;
    return 0;
}

/* A file URI with immutable=1: reads a WAL database whose directory we may not write, when there
 * is no log to miss. */
static int open_immutable(struct tt_session *session)
{
    struct tt_text uri = {0};
    tt_text_add(&uri, "%s-wal", session->file);
    bool has_log = uri.failed || access(uri.data, F_OK) == 0;
    tt_text_free(&uri);
    if (has_log)
        return SQLITE_CANTOPEN;
    tt_text_add(&uri, "file:");
    for (const char *p = session->file; *p; p++)
        if (strchr("%?#", *p))
            tt_text_add(&uri, "%%%02X", (unsigned)*p);
        else
            tt_text_add_bytes(&uri, p, 1);
    tt_text_add(&uri, "?immutable=1");
    sqlite3_close(session->db);
    session->db = NULL;
    int rc = uri.failed ? SQLITE_NOMEM
                        : sqlite3_open_v2(uri.data, &session->db,
                                          SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, NULL);
    tt_text_free(&uri);
    return rc == SQLITE_OK ? sqlite3_exec(session->db, "BEGIN; SELECT 1 FROM sqlite_schema LIMIT 1",
                                          NULL, NULL, NULL)
                           : rc;
}

static int open_database(struct tt_session *session, struct tt_error *err)
{
    int rc = sqlite3_open_v2(session->file, &session->db, SQLITE_OPEN_READONLY, NULL);
    if (rc == SQLITE_OK) {
        sqlite3_busy_timeout(session->db, 2000);
        sqlite3_db_config(session->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
        sqlite3_db_config(session->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
        rc = sqlite3_exec(session->db,
                          "PRAGMA cell_size_check = 1; PRAGMA query_only = 1; BEGIN;"
                          "SELECT 1 FROM sqlite_schema LIMIT 1",
                          NULL, NULL, NULL);
    }
    if ((rc & 0xff) == SQLITE_CANTOPEN || (rc & 0xff) == SQLITE_READONLY)
        rc = open_immutable(session);
    if (rc == SQLITE_OK)
        return 0;
    if (!session->db)
        return tt_error_sys(err, -ENOMEM, "cannot open session %s", session->path);
    if ((rc & 0xff) == SQLITE_NOTADB)
        return tt_session_foreign(session->path, err);
    if ((rc & 0xff) == SQLITE_CORRUPT)
        return tt_error_set(err, -EBADMSG, "%s is damaged or cut off: %s", session->path,
                            sqlite3_errmsg(session->db));
    return tt_error_set(err, tt_session_errno(session->db), "cannot read session %s: %s",
                        session->path, sqlite3_errmsg(session->db));
}

struct tt_session *tt_session_open(const char *path, struct tt_error *err)
{
    struct tt_session *session = NULL;
    if (tt_session_check_file(path, err))
        return NULL;
    session = calloc(1, sizeof *session);
    if (!session || !(session->path = strdup(path)) ||
        !(session->file = tt_session_file_name(path))) {
        tt_session_close(session);
        tt_error_sys(err, -ENOMEM, "cannot open session %s", path);
        return NULL;
    }
    if (open_database(session, err))
        goto fail;
    if (ask(session->db, "PRAGMA application_id") != TT_SESSION_APPLICATION_ID) {
        tt_session_foreign(path, err);
        goto fail;
    }
    int64_t version = ask(session->db, "PRAGMA user_version");
    if (version > TT_SESSION_SCHEMA) {
        tt_error_set(err, -ENOTSUP,
                     "%s was written by a newer telltale (schema %lld); this one reads up to %d",
                     path, (long long)version, TT_SESSION_SCHEMA);
        goto fail;
    }
    if (version < 1) {
        tt_error_set(err, -EBADMSG, "%s is damaged: it has no schema version", path);
        goto fail;
    }
    session->schema = version;
    if (check_structure(session, err) || check_tables(session, err) || read_meta(session, err))
        goto fail;
    /* nothing but names is added to a finished session: no snapshot that would keep them out */
    if (session->meta.finished)
        sqlite3_exec(session->db, "COMMIT", NULL, NULL, NULL);
    return session;
fail:
    tt_session_close(session);
    return NULL;
}

void tt_session_close(struct tt_session *session)
{
    if (!session)
        return;
    sqlite3_close(session->db);
    for (size_t i = 0; i < session->strings.len; i++)
        free(session->strings.data[i]);
    tt_vec_free(&session->strings);
    free(session->path);
    free(session->file);
    free(session);
}

const char *tt_session_path(const struct tt_session *session)
{
    return session->path;
}

const struct tt_session_meta *tt_session_meta(const struct tt_session *session)
{
    return &session->meta;
}

const char *tt_session_meta_get(struct tt_session *session, const char *key)
{
    sqlite3_stmt *statement;
    char *copy = NULL;
    if (sqlite3_prepare_v2(session->db, "SELECT value FROM meta WHERE key = ?1", -1, &statement,
                           NULL) != SQLITE_OK)
        return NULL;
    sqlite3_bind_text(statement, 1, key, -1, SQLITE_STATIC);
    if (sqlite3_step(statement) == SQLITE_ROW) {
        const char *text = (const char *)sqlite3_column_text(statement, 0);
        copy = text ? strndup(text, TT_SESSION_TEXT_MAX) : NULL;
        if (copy && tt_vec_push(&session->strings, copy)) {
            free(copy);
            copy = NULL;
        }
    }
    sqlite3_finalize(statement);
    return copy;
}
