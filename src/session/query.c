/* SPDX-License-Identifier: Apache-2.0 */
/* The checked query that all row readers go through: each column comes as a number of its range or
 * the session is damaged, and the first error ends the reading and is the one that is told. Texts
 * are copied and live as long as the session. Start: tt_session_query. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "session/internal.h"

static void fail(struct tt_session_query *query)
{
    sqlite3 *db = query->session->db;
    if (query->code)
        return;
    query->code = tt_session_errno(db);
    if (query->code == -EBADMSG || (sqlite3_errcode(db) & 0xff) == SQLITE_ERROR)
        query->code = tt_error_set(query->err, -EBADMSG, "%s is damaged: %s: %s",
                                   query->session->path, query->table, sqlite3_errmsg(db));
    else
        tt_error_set(query->err, query->code, "reading %s: %s: %s", query->session->path,
                     query->table, sqlite3_errmsg(db));
}

struct tt_session_query tt_session_query(struct tt_session *session, const char *columns,
                                         const char *table, const char *key_process,
                                         int64_t process, const char *key_site, int64_t site,
                                         const char *order, struct tt_error *err)
{
    struct tt_session_query query = {.session = session, .table = table, .err = err};
    bool by_process = key_process && process >= 0, by_site = key_site && site >= 0;
    struct tt_text sql = {0};
    tt_text_add(&sql, "SELECT %s FROM %s", columns, table);
    if (by_process)
        tt_text_add(&sql, " WHERE %s = ?1", key_process);
    if (by_site)
        tt_text_add(&sql, " %s %s = ?2", by_process ? "AND" : "WHERE", key_site);
    tt_text_add(&sql, " ORDER BY %s", order);
    if (sql.failed) {
        tt_session_no_memory(&query);
    } else if (sqlite3_prepare_v2(session->db, sql.data, -1, &query.statement, NULL) != SQLITE_OK) {
        fail(&query);
    } else {
        if (by_process)
            sqlite3_bind_int64(query.statement, 1, process);
        if (by_site)
            sqlite3_bind_int64(query.statement, 2, site);
    }
    tt_text_free(&sql);
    return query;
}

bool tt_session_next(struct tt_session_query *query)
{
    if (!query->code && query->statement) {
        int rc = sqlite3_step(query->statement);
        if (rc == SQLITE_ROW)
            return true;
        if (rc != SQLITE_DONE)
            fail(query);
    }
    tt_session_done(query);
    return false;
}

int tt_session_done(struct tt_session_query *query)
{
    sqlite3_finalize(query->statement);
    query->statement = NULL;
    return query->code;
}

void tt_session_no_memory(struct tt_session_query *query)
{
    if (!query->code)
        query->code = tt_error_sys(query->err, -ENOMEM, "reading %s", query->session->path);
}

void tt_session_damaged(struct tt_session_query *query, const char *what)
{
    if (!query->code)
        query->code = tt_error_set(query->err, -EBADMSG, "%s is damaged: table %s: %s",
                                   query->session->path, query->table, what);
}

static void out_of_range(struct tt_session_query *query, int column)
{
    char what[80];
    snprintf(what, sizeof what, "%s is out of range",
             sqlite3_column_name(query->statement, column));
    tt_session_damaged(query, what);
}

int64_t tt_session_int(struct tt_session_query *query, int column, int64_t lo, int64_t hi)
{
    if (query->code)
        return 0;
    int type = sqlite3_column_type(query->statement, column);
    if (type == SQLITE_NULL)
        return lo;
    int64_t value = sqlite3_column_int64(query->statement, column);
    if (type == SQLITE_INTEGER && value >= lo && value <= hi)
        return value;
    out_of_range(query, column);
    return 0;
}

uint64_t tt_session_count(struct tt_session_query *query, int column)
{
    return (uint64_t)tt_session_int(query, column, 0, TT_SESSION_COUNT_MAX);
}

int64_t tt_session_id(struct tt_session_query *query, int column)
{
    return tt_session_int(query, column, 0, INT64_MAX);
}

uint64_t tt_session_ns(struct tt_session_query *query, int column)
{
    return (uint64_t)tt_session_int(query, column, 0, TT_SESSION_NS_MAX);
}

uint32_t tt_session_number(struct tt_session_query *query, int column, uint32_t hi)
{
    return (uint32_t)tt_session_int(query, column, 0, hi);
}

double tt_session_real(struct tt_session_query *query, int column, double lo, double hi)
{
    if (query->code)
        return lo;
    int type = sqlite3_column_type(query->statement, column);
    if (type == SQLITE_NULL) /* SQLite keeps NaN as NULL */
        return lo;
    double value = sqlite3_column_double(query->statement, column);
    if ((type == SQLITE_FLOAT || type == SQLITE_INTEGER) && value >= lo && value <= hi)
        return value;
    out_of_range(query, column);
    return lo;
}

uint64_t tt_session_word(struct tt_session_query *query, int column)
{
    return (uint64_t)sqlite3_column_int64(query->statement, column);
}

const char *tt_session_text(struct tt_session_query *query, int column)
{
    const char *text = (const char *)sqlite3_column_text(query->statement, column);
    if (!text)
        return "";
    char *copy = strndup(text, TT_SESSION_TEXT_MAX);
    if (!copy || tt_vec_push(&query->session->strings, copy)) {
        free(copy);
        tt_session_no_memory(query);
        return "";
    }
    return copy;
}
