/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the session room share: the open database, and a query whose columns are
 * range-checked, so that no reader can forget it. Start: tt_session_query. */
#ifndef TT_SESSION_INTERNAL_H
#define TT_SESSION_INTERNAL_H

#include <sqlite3.h>

#include "session/session.h"

/* Largest count or byte sum taken from a file: sums of a few still fit 64 bits. */
#define TT_SESSION_COUNT_MAX (INT64_C(1) << 60)

struct tt_session {
    sqlite3 *db;
    char *path;             /* as given */
    char *file;             /* as SQLite gets it */
    TT_VEC(char *) strings; /* freed at close */
    struct tt_session_meta meta;
};

/* A running query. Zero-cost to finish twice. */
struct tt_session_query {
    struct tt_session *session;
    sqlite3_stmt *statement;
    const char *table;
    struct tt_error *err;
    int code; /* 0 or the negative errno that ended it */
};

/* Prepares "SELECT columns FROM table [WHERE process = and site = ] ORDER BY key". key_process and
 * key_site name the columns that process and site are compared to; -1 (or NULL) leaves one out. */
struct tt_session_query tt_session_query(struct tt_session *session, const char *columns,
                                         const char *table, const char *key_process,
                                         int64_t process, const char *key_site, int64_t site,
                                         const char *order, struct tt_error *err);
/* True while there is a row. At the end the statement is closed and query->code set. */
bool tt_session_next(struct tt_session_query *query);
/* Closes the statement; returns query->code. */
int tt_session_done(struct tt_session_query *query);

/* A column that must be an integer of lo..hi (NULL reads as lo). Out of range: 0, and the query
 * ends with -EBADMSG. */
int64_t tt_session_int(struct tt_session_query *query, int column, int64_t lo, int64_t hi);
/* A count: 0..TT_SESSION_COUNT_MAX. */
uint64_t tt_session_count(struct tt_session_query *query, int column);
/* A 64-bit word stored as SQLite's signed integer: addresses. */
uint64_t tt_session_word(struct tt_session_query *query, int column);
/* A text column, copied into the session; "" for NULL. */
const char *tt_session_text(struct tt_session_query *query, int column);
/* Ends the query with -ENOMEM. */
void tt_session_no_memory(struct tt_session_query *query);
/* Ends the query with -EBADMSG: "FILE is damaged: TABLE WHAT". */
void tt_session_damaged(struct tt_session_query *query, const char *what);

/* Whether the name may be opened by SQLite as it is; else err says why. */
int tt_session_check_file(const char *path, struct tt_error *err);
/* "PATH is not a telltale session". */
int tt_session_foreign(const char *path, struct tt_error *err);
/* The name to hand to SQLite, with "./" before relative ones so that none means something else to
 * it (":memory:", "file:..."). Malloc'd; NULL when out of memory. */
char *tt_session_file_name(const char *path);
/* The negative errno that fits an SQLite result code. */
int tt_session_errno(sqlite3 *db);

#endif
