/* SPDX-License-Identifier: Apache-2.0 */
/* Names kept in the session, so that it can be read where the binaries are not. They are the one
 * thing that is added after the recording, by whoever resolved them; a session on a read-only disk
 * simply stays without. Start: tt_session_symbols_put. */
#include <errno.h>
#include <stdlib.h>

#include "session/internal.h"

int tt_session_symbols_get(struct tt_session *session, int64_t process, uint64_t address,
                           tt_session_symbol_vec *out, struct tt_error *err)
{
    /* the address is bound as SQLite keeps it: a signed word; kernel-half addresses never occur */
    if (process < 0 || address > INT64_MAX)
        return 0;
    struct tt_session_query q =
        tt_session_query(session, "function, module, file, line, inlined", "symbol", "process",
                         process, "address", (int64_t)address, "position", err);
    while (tt_session_next(&q)) {
        struct tt_session_symbol row = {
            .function = tt_session_text(&q, 0),
            .module = tt_session_text(&q, 1),
            .file = tt_session_text(&q, 2),
            .line = (uint32_t)tt_session_int(&q, 3, 0, INT32_MAX),
            .inlined = tt_session_int(&q, 4, 0, 1) != 0,
        };
        if (tt_vec_push(out, row))
            tt_session_no_memory(&q);
    }
    return tt_session_done(&q);
}

static int put_rows(sqlite3 *db, const struct tt_session_symbol_row *rows, size_t n)
{
    sqlite3_stmt *clear = NULL, *put = NULL;
    int rc = sqlite3_prepare_v2(db, "DELETE FROM symbol WHERE process = ?1 AND address = ?2", -1,
                                &clear, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_prepare_v2(db, "INSERT INTO symbol VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                                -1, &put, NULL);
    for (size_t i = 0; rc == SQLITE_OK && i < n; i++) {
        sqlite3_bind_int64(clear, 1, rows[i].process);
        sqlite3_bind_int64(clear, 2, (int64_t)rows[i].address);
        sqlite3_step(clear);
        rc = sqlite3_reset(clear);
        for (size_t k = 0; rc == SQLITE_OK && k < rows[i].n; k++) {
            const struct tt_session_symbol *frame = &rows[i].frames[k];
            sqlite3_bind_int64(put, 1, rows[i].process);
            sqlite3_bind_int64(put, 2, (int64_t)rows[i].address);
            sqlite3_bind_int64(put, 3, (int64_t)k);
            sqlite3_bind_text(put, 4, frame->function, -1, SQLITE_STATIC);
            sqlite3_bind_text(put, 5, frame->module, -1, SQLITE_STATIC);
            sqlite3_bind_text(put, 6, frame->file, -1, SQLITE_STATIC);
            sqlite3_bind_int64(put, 7, frame->line);
            sqlite3_bind_int(put, 8, frame->inlined);
            sqlite3_step(put);
            rc = sqlite3_reset(put);
        }
    }
    sqlite3_finalize(clear);
    sqlite3_finalize(put);
    return rc;
}

int tt_session_symbols_put(const char *path, const struct tt_session_symbol_row *rows, size_t n,
                           struct tt_error *err)
{
    int code = tt_session_check_file(path, err);
    if (code)
        return code;
    sqlite3 *db = NULL;
    char *file = tt_session_file_name(path);
    if (!file)
        return tt_error_sys(err, -ENOMEM, "cannot write names to %s", path);
    int rc = sqlite3_open_v2(file, &db, SQLITE_OPEN_READWRITE, NULL);
    if (rc == SQLITE_OK) {
        sqlite3_busy_timeout(db, 2000);
        sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
        sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
        sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
        rc = sqlite3_exec(db, "PRAGMA cell_size_check = 1; BEGIN IMMEDIATE", NULL, NULL, NULL);
        if (rc == SQLITE_OK)
            rc = put_rows(db, rows, n);
        if (rc == SQLITE_OK)
            rc = sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
    }
    if (rc != SQLITE_OK)
        code = tt_error_set(err, db ? tt_session_errno(db) : -ENOMEM,
                            "cannot write names to %s: %s", path, sqlite3_errmsg(db));
    sqlite3_close(db); /* rolls back what was not committed */
    free(file);
    return code;
}
