/* SPDX-License-Identifier: Apache-2.0 */
/* The file of a campaign: every fault tried, what it did and what it lost, with the stacks it
 * needs, written as soon as it is known. So a campaign can be cut anywhere and goes on later, and
 * anyone can query it with the sqlite3 shell. A place in a module is "path+0xoffset"; a stack has
 * its places innermost first, one per line. Start: tt_fault_file_open. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sqlite3.h>

#include "base/text.h"
#include "fault/calls.h"
#include "fault/fault.h"

#define APPLICATION_ID 0x74744631 /* "ttF1" */
#define VERSION 1

static const char schema[] =
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE module (path TEXT PRIMARY KEY, start INTEGER, end INTEGER, file_offset INTEGER)"
    " WITHOUT ROWID;"
    "CREATE TABLE stack (hash TEXT PRIMARY KEY, call TEXT NOT NULL, frames TEXT NOT NULL)"
    " WITHOUT ROWID;"
    "CREATE TABLE trial (id INTEGER PRIMARY KEY, stack TEXT NOT NULL, nth INTEGER NOT NULL,"
    " error TEXT NOT NULL, outcome TEXT NOT NULL, status INTEGER NOT NULL, seconds REAL NOT NULL,"
    " UNIQUE (stack, nth, error));"
    "CREATE TABLE loss (trial INTEGER NOT NULL, stack TEXT NOT NULL, resource TEXT NOT NULL,"
    " weight TEXT NOT NULL, units INTEGER NOT NULL, bytes INTEGER NOT NULL);";

static const char *const outcomes[] = {
    [TT_FAULT_UNTRIED] = "untried", [TT_FAULT_UNREACHED] = "unreached",
    [TT_FAULT_WENT_ON] = "went on", [TT_FAULT_GAVE_UP] = "gave up",
    [TT_FAULT_DIED] = "died",       [TT_FAULT_HUNG] = "hung",
};
static const char *const weights[] = {
    [TT_FAULT_LOST] = "lost", [TT_FAULT_LEFT] = "left", [TT_FAULT_KEPT] = "kept"};

struct tt_fault_file {
    sqlite3 *db;
    char *path;
};

static int trouble(const struct tt_fault_file *f, struct tt_error *err)
{
    return tt_error_set(err, -EIO, "%s: %s", f->path, sqlite3_errmsg(f->db));
}

/* Runs one statement with text and integer arguments: types 't' (const char *), 'i' (int64_t), 'f'
 * (double). */
static int put(const struct tt_fault_file *f, struct tt_error *err, const char *sql,
               const char *types, ...)
{
    sqlite3_stmt *s;
    if (sqlite3_prepare_v2(f->db, sql, -1, &s, NULL) != SQLITE_OK)
        return trouble(f, err);
    va_list ap;
    va_start(ap, types);
    for (int i = 0; types[i]; i++) {
        if (types[i] == 't')
            sqlite3_bind_text(s, i + 1, va_arg(ap, const char *), -1, SQLITE_TRANSIENT);
        else if (types[i] == 'i')
            sqlite3_bind_int64(s, i + 1, va_arg(ap, int64_t));
        else
            sqlite3_bind_double(s, i + 1, va_arg(ap, double));
    }
    va_end(ap);
    int done = sqlite3_step(s);
    sqlite3_finalize(s);
    return done == SQLITE_DONE || done == SQLITE_ROW ? 0 : trouble(f, err);
}

static int run(const struct tt_fault_file *f, const char *sql, struct tt_error *err)
{
    return sqlite3_exec(f->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : trouble(f, err);
}

/* ---- opening ---- */

static void describe(const struct tt_fault_options *o, const char *exe, const char *build_id,
                     struct tt_text *command, struct tt_text *program)
{
    for (size_t i = 0; o->argv[i]; i++)
        tt_text_add(command, "%s%s", i ? "\n" : "", o->argv[i]);
    if (o->load)
        tt_text_add(command, "\n--load\n%s", o->load);
    if (o->before)
        tt_text_add(command, "\n--before\n%s", o->before);
    if (o->follow)
        tt_text_add(command, "\n--follow");
    if (o->depth)
        tt_text_add(command, "\n--depth\n%u", o->depth);
    tt_text_add(program, "%s %s", exe, build_id);
}

static int check(const struct tt_fault_file *f, const char *key, const char *value,
                 const char *what, struct tt_error *err)
{
    sqlite3_stmt *s;
    int code = 0;
    if (sqlite3_prepare_v2(f->db, "SELECT value FROM meta WHERE key = ?1", -1, &s, NULL) !=
        SQLITE_OK)
        return trouble(f, err);
    sqlite3_bind_text(s, 1, key, -1, SQLITE_STATIC);
    const char *found =
        sqlite3_step(s) == SQLITE_ROW ? (const char *)sqlite3_column_text(s, 0) : NULL;
    if (!found || !value || strcmp(found, value) != 0)
        code = tt_error_set(err, -EINVAL, "%s was made for another %s: give -o another name",
                            f->path, what);
    sqlite3_finalize(s);
    return code;
}

static int identify(const struct tt_fault_file *f, const struct tt_text *command,
                    const struct tt_text *program, struct tt_error *err)
{
    sqlite3_stmt *s;
    int64_t id = 0;
    if (sqlite3_prepare_v2(f->db, "PRAGMA application_id", -1, &s, NULL) == SQLITE_OK) {
        if (sqlite3_step(s) == SQLITE_ROW)
            id = sqlite3_column_int64(s, 0);
        sqlite3_finalize(s);
    }
    if (id != APPLICATION_ID)
        return tt_error_set(err, -EINVAL, "%s is not a file of telltale inject", f->path);
    int code = check(f, "command", command->data, "command", err);
    return code ? code : check(f, "program", program->data, "build of the program", err);
}

static int begin(const struct tt_fault_file *f, const struct tt_text *command,
                 const struct tt_text *program, struct tt_error *err)
{
    char pragma[96];
    snprintf(pragma, sizeof pragma, "PRAGMA application_id = %d; PRAGMA user_version = %d",
             APPLICATION_ID, VERSION);
    int code = run(f, pragma, err);
    if (!code)
        code = run(f, "BEGIN", err);
    if (!code)
        code = run(f, schema, err);
    if (!code)
        code = put(f, err, "INSERT INTO meta VALUES ('command', ?1), ('program', ?2)", "tt",
                   command->data, program->data);
    return code ? code : run(f, "COMMIT", err);
}

struct tt_fault_file *tt_fault_file_open(const struct tt_fault_options *o, const char *exe,
                                         const char *build_id, struct tt_error *err)
{
    struct tt_text command = {0}, program = {0};
    bool there = access(o->state, F_OK) == 0;
    if (there && !o->resume) {
        tt_error_set(err, -EEXIST, "%s exists: --resume goes on with it", o->state);
        return NULL;
    }
    struct tt_fault_file *f = calloc(1, sizeof *f);
    if (!f || !(f->path = strdup(o->state))) {
        free(f);
        tt_error_set(err, -ENOMEM, "out of memory");
        return NULL;
    }
    describe(o, exe, build_id, &command, &program);
    int code = sqlite3_open_v2(f->path, &f->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL) !=
                       SQLITE_OK
                   ? trouble(f, err)
                   : 0;
    if (!code && (command.failed || program.failed))
        code = tt_error_set(err, -ENOMEM, "out of memory");
    if (!code)
        code = there ? identify(f, &command, &program, err) : begin(f, &command, &program, err);
    tt_text_free(&command);
    tt_text_free(&program);
    if (code) {
        tt_fault_file_close(f);
        return NULL;
    }
    return f;
}

void tt_fault_file_close(struct tt_fault_file *f)
{
    sqlite3_close(f->db);
    free(f->path);
    free(f);
}

/* ---- writing ---- */

static int put_stack(const struct tt_fault_file *f, const struct tt_fault_world *w, uint32_t site,
                     struct tt_error *err)
{
    const struct tt_fault_site *s = &w->sites.data[site];
    struct tt_text frames = {0};
    char hash[24];
    int code = 0;
    for (unsigned i = 0; !code && i < s->depth; i++) {
        const struct tt_fault_place *m = &w->modules.data[TT_FAULT_FRAME_MODULE(s->frames[i])];
        tt_text_add(&frames, "%s%s+0x%" PRIx64, i ? "\n" : "", m->path,
                    (uint64_t)TT_FAULT_FRAME_OFFSET(s->frames[i]));
        if (*m->path)
            code = put(f, err, "INSERT OR IGNORE INTO module VALUES (?1, ?2, ?3, ?4)", "tiii",
                       m->path, (int64_t)m->start, (int64_t)m->end, (int64_t)m->offset);
    }
    snprintf(hash, sizeof hash, "%016" PRIx64, s->hash);
    if (!code)
        code = frames.failed
                   ? tt_error_set(err, -ENOMEM, "out of memory")
                   : put(f, err, "INSERT OR IGNORE INTO stack VALUES (?1, ?2, ?3)", "ttt", hash,
                         tt_fault_call_name(s->call), frames.data ? frames.data : "");
    tt_text_free(&frames);
    return code;
}

int tt_fault_file_write(struct tt_fault_file *f, const struct tt_fault_world *w,
                        const struct tt_fault_trial *t, const tt_fault_losses *losses, size_t first,
                        struct tt_error *err)
{
    char hash[24];
    snprintf(hash, sizeof hash, "%016" PRIx64, w->sites.data[t->site].hash);
    int code = run(f, "BEGIN", err);
    if (!code)
        code = put_stack(f, w, t->site, err);
    if (!code)
        code = put(f, err,
                   "INSERT INTO trial (stack, nth, error, outcome, status, seconds)"
                   " VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                   "tittif", hash, (int64_t)t->nth, tt_fault_error_name(t->code),
                   outcomes[t->outcome], (int64_t)t->status, t->seconds);
    int64_t id = sqlite3_last_insert_rowid(f->db);
    for (size_t i = first; !code && i < losses->len; i++) {
        const struct tt_fault_loss *l = &losses->data[i];
        code = put_stack(f, w, l->site, err);
        snprintf(hash, sizeof hash, "%016" PRIx64, w->sites.data[l->site].hash);
        if (!code)
            code = put(f, err, "INSERT INTO loss VALUES (?1, ?2, ?3, ?4, ?5, ?6)", "itttii", id,
                       hash, tt_fault_kind_name(l->kind), weights[l->weight], (int64_t)l->units,
                       (int64_t)l->bytes);
    }
    return code ? code : run(f, "COMMIT", err);
}

/* ---- reading ---- */

static const char *text(sqlite3_stmt *s, int column)
{
    const char *t = (const char *)sqlite3_column_text(s, column);
    return t ? t : "";
}

static unsigned index_of(const char *const *names, size_t n, const char *name, unsigned otherwise)
{
    for (unsigned i = 0; i < n; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    return otherwise;
}

static int read_modules(const struct tt_fault_file *f, struct tt_fault_world *w,
                        struct tt_error *err)
{
    sqlite3_stmt *s;
    int code = 0;
    if (sqlite3_prepare_v2(f->db, "SELECT path, start, end, file_offset FROM module", -1, &s,
                           NULL) != SQLITE_OK)
        return trouble(f, err);
    while (!code && sqlite3_step(s) == SQLITE_ROW)
        if (tt_fault_world_module(w, text(s, 0), (uint64_t)sqlite3_column_int64(s, 1),
                                  (uint64_t)sqlite3_column_int64(s, 2),
                                  (uint64_t)sqlite3_column_int64(s, 3)) < 0)
            code = tt_error_set(err, -ENOMEM, "out of memory");
    sqlite3_finalize(s);
    return code;
}

static unsigned call_of(const char *name)
{
    unsigned call = 0;
    while (call < TT_FAULT_CALL_COUNT && strcmp(tt_fault_call_name(call), name) != 0)
        call++;
    return call;
}

static int read_stacks(const struct tt_fault_file *f, struct tt_fault_world *w,
                       struct tt_error *err)
{
    sqlite3_stmt *s;
    int code = 0;
    if (sqlite3_prepare_v2(f->db, "SELECT hash, call, frames FROM stack", -1, &s, NULL) !=
        SQLITE_OK)
        return trouble(f, err);
    while (!code && sqlite3_step(s) == SQLITE_ROW) {
        uint64_t frames[TT_FAULT_DEPTH];
        unsigned n = 0, call = call_of(text(s, 1));
        char *copy = strdup(text(s, 2)), *rest = copy;
        for (char *line; copy && n < TT_FAULT_DEPTH && (line = strsep(&rest, "\n")) != NULL;) {
            char *plus = strrchr(line, '+');
            if (!plus)
                continue;
            *plus = '\0';
            int64_t module = tt_fault_world_module(w, line, 0, 0, 0);
            frames[n++] = TT_FAULT_FRAME(module < 0 ? 0 : module, strtoull(plus + 1, NULL, 16));
        }
        if (!copy || (call < TT_FAULT_CALL_COUNT &&
                      tt_fault_world_site(w, strtoull(text(s, 0), NULL, 16), call, frames, n) < 0))
            code = tt_error_set(err, -ENOMEM, "out of memory");
        free(copy);
    }
    sqlite3_finalize(s);
    return code;
}

static int read_losses(const struct tt_fault_file *f, const struct tt_fault_world *w, int64_t trial,
                       tt_fault_losses *losses, struct tt_error *err)
{
    sqlite3_stmt *s;
    int code = 0;
    losses->len = 0;
    if (sqlite3_prepare_v2(f->db,
                           "SELECT stack, resource, weight, units, bytes FROM loss WHERE trial = ?1"
                           " ORDER BY rowid",
                           -1, &s, NULL) != SQLITE_OK)
        return trouble(f, err);
    sqlite3_bind_int64(s, 1, trial);
    while (!code && sqlite3_step(s) == SQLITE_ROW) {
        int64_t site = tt_fault_world_find(w, strtoull(text(s, 0), NULL, 16));
        unsigned kind = 0;
        while (kind < TT_FAULT_KINDS && strcmp(tt_fault_kind_name(kind), text(s, 1)) != 0)
            kind++;
        if (site < 0 || kind == TT_FAULT_KINDS)
            continue;
        if (tt_vec_push(losses,
                        (struct tt_fault_loss){0, (uint32_t)site, kind,
                                               index_of(weights, sizeof weights / sizeof *weights,
                                                        text(s, 2), TT_FAULT_KEPT),
                                               (uint64_t)sqlite3_column_int64(s, 3),
                                               (uint64_t)sqlite3_column_int64(s, 4)}))
            code = tt_error_set(err, -ENOMEM, "out of memory");
    }
    sqlite3_finalize(s);
    return code;
}

int tt_fault_file_read(struct tt_fault_file *f, struct tt_fault_world *w,
                       int (*each)(void *arg, const struct tt_fault_trial *trial,
                                   const tt_fault_losses *losses),
                       void *arg, struct tt_error *err)
{
    sqlite3_stmt *s;
    tt_fault_losses losses = {0};
    int code = read_modules(f, w, err);
    if (!code)
        code = read_stacks(f, w, err);
    if (code)
        return code;
    if (sqlite3_prepare_v2(f->db,
                           "SELECT id, stack, nth, error, outcome, status, seconds FROM trial"
                           " ORDER BY id",
                           -1, &s, NULL) != SQLITE_OK)
        return trouble(f, err);
    while (!code && sqlite3_step(s) == SQLITE_ROW) {
        int64_t site = tt_fault_world_find(w, strtoull(text(s, 1), NULL, 16));
        int error = tt_fault_error_code(text(s, 3));
        if (site < 0 || !error)
            continue;
        struct tt_fault_trial t = {
            .site = (uint32_t)site,
            .nth = (uint32_t)sqlite3_column_int64(s, 2),
            .code = error,
            .outcome = index_of(outcomes, sizeof outcomes / sizeof *outcomes, text(s, 4),
                                TT_FAULT_UNREACHED),
            .status = sqlite3_column_int(s, 5),
            .seconds = sqlite3_column_double(s, 6),
        };
        code = read_losses(f, w, sqlite3_column_int64(s, 0), &losses, err);
        if (!code && each(arg, &t, &losses))
            code = tt_error_set(err, -ENOMEM, "out of memory");
    }
    sqlite3_finalize(s);
    tt_vec_free(&losses);
    return code;
}
