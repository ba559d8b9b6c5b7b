/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the session room share: the open database, a query whose columns are
 * range-checked, so that no reader can forget it, and the writer with its statements.
 * Start: tt_session_query, tt_session_put. */
#ifndef TT_SESSION_INTERNAL_H
#define TT_SESSION_INTERNAL_H

#include <sqlite3.h>

#include "session/session.h"
#include "session/writer.h"

/* Largest count or byte sum taken from a file: sums of a few still fit 64 bits. */
#define TT_SESSION_COUNT_MAX (INT64_C(1) << 60)
#define TT_SESSION_TICK_MAX 0xffffff
#define TT_SESSION_NS_MAX (INT64_MAX / 2)
/* Bytes of a text taken from a file; longer ones are cut. */
#define TT_SESSION_TEXT_MAX (64 << 10)

struct tt_session {
    sqlite3 *db;
    char *path;             /* as given */
    char *file;             /* as SQLite gets it */
    TT_VEC(char *) strings; /* freed at close */
    struct tt_session_meta meta;
    int64_t schema; /* of the file */
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
/* An id: 0 or more; a time; a number of 0..hi. */
int64_t tt_session_id(struct tt_session_query *query, int column);
uint64_t tt_session_ns(struct tt_session_query *query, int column);
uint32_t tt_session_number(struct tt_session_query *query, int column, uint32_t hi);
/* A finite real number of lo..hi; NULL reads as lo. */
double tt_session_real(struct tt_session_query *query, int column, double lo, double hi);
/* A 64-bit word stored as SQLite's signed integer: addresses. */
uint64_t tt_session_word(struct tt_session_query *query, int column);
/* A text column, copied into the session; "" for NULL. */
const char *tt_session_text(struct tt_session_query *query, int column);
/* Ends the query with -ENOMEM. */
void tt_session_no_memory(struct tt_session_query *query);
/* Ends the query with -EBADMSG: "FILE is damaged: TABLE WHAT". */
void tt_session_damaged(struct tt_session_query *query, const char *what);

/* For a reader that only collects: pushes the row (an expression) for each row of the query, and
 * returns from the function. */
#define TT_SESSION_EACH_ROW(query, out, ...)                                                       \
    while (tt_session_next(&(query))) {                                                            \
        if (tt_vec_push((out), __VA_ARGS__))                                                       \
            tt_session_no_memory(&(query));                                                        \
    }                                                                                              \
    return tt_session_done(&(query))

/* Whether the name may be opened by SQLite as it is; else err says why. */
int tt_session_check_file(const char *path, struct tt_error *err);
/* "PATH is not a telltale session". */
int tt_session_foreign(const char *path, struct tt_error *err);
/* The name to hand to SQLite, with "./" before relative ones so that none means something else to
 * it (":memory:", "file:..."). Malloc'd; NULL when out of memory. */
char *tt_session_file_name(const char *path);
/* The negative errno that fits an SQLite result code. */
int tt_session_errno(sqlite3 *db);

/* ---- the writer ---- */

/* One prepared statement each, see put.c. */
enum tt_session_sql {
    TT_PUT_META,
    TT_PUT_LABEL,
    TT_PUT_PROCESS,
    TT_PUT_MODULE,
    TT_END_MODULE,
    TT_PUT_STACK,
    TT_PUT_SITE,
    TT_PUT_EPOCH,
    TT_PUT_SAMPLE,
    TT_PUT_DEATH,
    TT_CLEAR_SURVIVORS,
    TT_PUT_SURVIVOR,
    TT_PUT_LOOK,
    TT_PUT_RELEASE,
    TT_PUT_RELEASE_AGE,
    TT_PUT_OPERATION,
    TT_PUT_COUNT,
    TT_PUT_PROC,
    TT_PUT_LIMIT,
    TT_PUT_DROPPED,
    TT_PUT_SNAPSHOT,
    TT_PUT_LOST_GROUP,
    TT_PUT_LOST_SHARE,
    TT_PUT_HOLDER,
    TT_PUT_HELD,
    TT_PUT_STALE,
    TT_CLEAR_STALE,
    TT_PUT_ATTACH,
    TT_PUT_PLACE,
    TT_PUT_OWNER,
    TT_PUT_SITE_OWNER,
    TT_PUT_CLOCK_SURVIVOR,
    TT_PUT_CLOCK_DEATH,
    TT_PUT_SITE_WITH,
    TT_PUT_RESOURCE,
    TT_PUT_DESCRIPTOR,
    TT_PUT_WATCH,
    TT_CLEAR_OWNERS,
    TT_CLEAR_SITE_OWNERS,
    TT_CLEAR_CLOCKS,
    TT_CLEAR_SITE_WITH,
    TT_CLEAR_DESCRIPTORS,
    TT_SESSION_SQL
};

extern const char *const tt_session_sql_text[TT_SESSION_SQL];

struct tt_session_writer {
    sqlite3 *db;
    char *path, *file;
    int lock; /* holds flock() on the file: another recorder must not replace it */
    sqlite3_stmt *statements[TT_SESSION_SQL];
    struct tt_error failed;
};

/* Runs a statement with its parameters bound by `format`: i int64_t, w uint64_t, t text or NULL, b
 * blob (pointer, size_t), r double, z a uint64_t that is NULL when 0, m an int64_t that is NULL
 * when negative, n an int (present?) and an int64_t. 0 or what closed the writer. */
int tt_session_put(struct tt_session_writer *writer, enum tt_session_sql which, const char *format,
                   ...);
/* Runs SQL without parameters. */
int tt_session_run(struct tt_session_writer *writer, const char *sql);
/* One integer that SQL gives, 0 on any error. */
int64_t tt_session_ask(struct tt_session_writer *writer, const char *sql);

#endif
