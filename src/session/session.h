/* SPDX-License-Identifier: Apache-2.0 */
/* The session file (.tt): one recording in one SQLite database (schema.sql,
 * docs/session-format.md). The reader hands out typed rows in plain arrays; every number of the
 * file is range-checked on the way, so that a damaged or hostile file gives one error line and
 * never a wild value. Not thread-safe: one thread per struct tt_session. Start: tt_session_open,
 * then tt_session_processes and tt_session_sites; the recorder starts at tt_session_create
 * (session/writer.h). */
#ifndef TT_SESSION_SESSION_H
#define TT_SESSION_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/vec.h"

#define TT_SESSION_SCHEMA 3 /* user_version that this build writes; it reads 1 and 2 as well */
#define TT_SESSION_APPLICATION_ID 0x74744c31 /* "ttL1" */
#define TT_SESSION_BINS 48u                  /* half-octave bins of ages; tape.h tt_tape_bin */

struct tt_session;

/* Opens a session for reading; a session that is still being recorded is read as of now (one
 * snapshot for all calls, until the session is closed). NULL with one line in err: missing, not a
 * telltale session, written by a newer telltale, truncated or damaged. The file is never changed.
 */
struct tt_session *tt_session_open(const char *path, struct tt_error *err);
void tt_session_close(struct tt_session *session);
const char *tt_session_path(const struct tt_session *session);

/* ---- the recording as a whole ---- */

/* Strings are never NULL ("" unknown), times are ns of CLOCK_BOOTTIME unless said otherwise. */
struct tt_session_meta {
    const char *tool_version, *host, *kernel, *machine, *libc;
    const char *command;   /* JSON array of strings */
    const char *mode;      /* "exact", "sampled", "adaptive" */
    const char *outcome;   /* one line on how the recording ended, "" while it goes on */
    uint64_t started_wall; /* ns since 1970, UTC */
    uint64_t started_ns;
    uint64_t ended_ns;  /* last write while it is not finished */
    uint64_t origin_ns; /* time of tick 0 */
    uint32_t ticks_per_second;
    double horizon_s; /* 0: none was given */
    bool finished;    /* false: still recording, or the recorder was killed */
    bool has_exit;    /* of the command */
    int exit_status;  /* 0..255, or -signal */
};
/* Filled at open; valid until close. */
const struct tt_session_meta *tt_session_meta(const struct tt_session *session);
/* Any other key of table meta, or NULL. */
const char *tt_session_meta_get(struct tt_session *session, const char *key);

/* Readers: each fills *out (zero-initialise it; free with tt_vec_free) and returns 0 or a negative
 * errno with err set. Strings live until tt_session_close. Where a process is asked for, -1 means
 * all. Rows come in the order of their key. */

struct tt_session_label {
    const char *key, *value;
};
typedef TT_VEC(struct tt_session_label) tt_session_label_vec;
int tt_session_labels(struct tt_session *session, tt_session_label_vec *out, struct tt_error *err);

/* One memory image: an exec makes a new one with the same pid. */
struct tt_session_process {
    int64_t id;
    int64_t pid, parent;
    const char *exe, *build_id, *cmdline, *libc;
    uint64_t exe_size;
    int64_t exe_mtime;             /* seconds, UTC */
    uint64_t started_ns, ended_ns; /* ended_ns 0: was alive at the end of the recording */
    bool has_exit;
    int exit_status;    /* 0..255, or -signal */
    const char *state;  /* "running", "quiet", "ended", "exec", "refused" */
    const char *reason; /* of "refused" */
    const char *mode, *allocator;
    uint32_t granule; /* bytes per shadow entry */
    uint64_t sample_mean;
};
typedef TT_VEC(struct tt_session_process) tt_session_process_vec;
int tt_session_processes(struct tt_session *session, tt_session_process_vec *out,
                         struct tt_error *err);

struct tt_session_module {
    int64_t process;
    uint64_t start, end, file_offset;
    const char *path, *build_id;
    uint64_t file_size;
    int64_t mtime;
    uint64_t since_ns, until_ns; /* until_ns 0: still mapped */
};
typedef TT_VEC(struct tt_session_module) tt_session_module_vec;
int tt_session_modules(struct tt_session *session, int64_t process, tt_session_module_vec *out,
                       struct tt_error *err);

/* Return addresses of one stack, innermost first (the caller of malloc): at most
 * TT_SESSION_DEPTH. frames is owned by the caller of the reader and must be freed. */
#define TT_SESSION_DEPTH 192u
struct tt_session_stack {
    uint64_t *frames; /* malloc'd */
    size_t n;
    bool cut; /* outer frames are missing */
};
/* -ENOENT when the file has no such stack (stack 0 is "unknown" and never there). */
int tt_session_stack(struct tt_session *session, int64_t process, int64_t id,
                     struct tt_session_stack *out, struct tt_error *err);

/* ---- sites ---- */

/* Totals are those of the site's last sample. In sampled sessions those of heap sites count sampled
 * units, the others' every unit; with thin (adaptive) they stand for 2^thin times as many. */
struct tt_session_site {
    int64_t process, id;
    const char *resource; /* "heap", "fd", ... */
    int64_t stack; /* 0: unknown; id 0 also holds what the recorder did not write one by one */
    uint32_t thin;
    uint32_t size_min, size_max; /* of requested bytes; min > max: no birth seen */
    uint64_t births, birth_bytes, deaths, death_bytes;
};
typedef TT_VEC(struct tt_session_site) tt_session_site_vec;
int tt_session_sites(struct tt_session *session, int64_t process, tt_session_site_vec *out,
                     struct tt_error *err);

/* Cumulative counts of one site over time. Between two rows is what happened between them; before
 * the first row all counts were 0. No row is written while nothing changes. */
struct tt_session_sample {
    uint64_t at_ns;
    int64_t epoch;
    uint64_t births, birth_bytes, deaths, death_bytes;
};
typedef TT_VEC(struct tt_session_sample) tt_session_sample_vec;
int tt_session_series(struct tt_session *session, int64_t process, int64_t site,
                      tt_session_sample_vec *out, struct tt_error *err);

/* All moments at which samples were written, ascending. */
struct tt_session_epoch {
    int64_t id;
    uint64_t at_ns;
};
typedef TT_VEC(struct tt_session_epoch) tt_session_epoch_vec;
int tt_session_epochs(struct tt_session *session, tt_session_epoch_vec *out, struct tt_error *err);

/* Deaths by age at death, half-octave bins of ticks. */
int tt_session_deaths(struct tt_session *session, int64_t process, int64_t site,
                      uint64_t bins[TT_SESSION_BINS], struct tt_error *err);

/* Live units at the last look, by birth tick and requested size. Coarsened rows give an age that is
 * never above the true one by rounding, and a size never above the true one. */
struct tt_session_survivor {
    int64_t site;
    uint64_t size;
    uint32_t tick;
    uint64_t count;
};
typedef TT_VEC(struct tt_session_survivor) tt_session_survivor_vec;
/* site -1: all sites of the process. */
int tt_session_survivors(struct tt_session *session, int64_t process, int64_t site,
                         tt_session_survivor_vec *out, struct tt_error *err);

/* The look that found the survivors. -ENOENT: none was made (err untouched). */
struct tt_session_look {
    uint64_t at_ns;
    uint32_t tick;
    bool consistent; /* births - deaths == survivors for every site: nothing was missed */
    bool final;      /* made after the process had ended */
};
int tt_session_look(struct tt_session *session, int64_t process, struct tt_session_look *out,
                    struct tt_error *err);

/* ---- releases (sampled) ---- */

struct tt_session_release {
    int64_t site, by_stack;   /* by_stack: id for tt_session_stack, 0 unknown */
    uint64_t samples, weight; /* weight: deaths that the samples stand for */
    uint64_t last_ns;
};
typedef TT_VEC(struct tt_session_release) tt_session_release_vec;
/* site -1: all. */
int tt_session_releases(struct tt_session *session, int64_t process, int64_t site,
                        tt_session_release_vec *out, struct tt_error *err);

struct tt_session_release_age {
    int64_t site;
    uint32_t age; /* ticks */
    uint64_t samples, weight;
};
typedef TT_VEC(struct tt_session_release_age) tt_session_release_age_vec;
int tt_session_release_ages(struct tt_session *session, int64_t process, int64_t site,
                            tt_session_release_age_vec *out, struct tt_error *err);

/* ---- operations ---- */

struct tt_session_operation {
    int64_t process, id;
    const char *name, *function;
    uint64_t address;   /* 0: not counted, source says why */
    const char *source; /* "declared", "stack" (found), "[stack, ]refused: ..." */
    uint64_t since_ns;  /* counting began */
};
typedef TT_VEC(struct tt_session_operation) tt_session_operation_vec;
int tt_session_operations(struct tt_session *session, int64_t process,
                          tt_session_operation_vec *out, struct tt_error *err);

struct tt_session_count {
    uint64_t at_ns;
    int64_t epoch;
    uint64_t count; /* cumulative */
};
typedef TT_VEC(struct tt_session_count) tt_session_count_vec;
/* Like a site's series: a row only when the count changed; the first row may be 0. */
int tt_session_operation_series(struct tt_session *session, int64_t process, int64_t operation,
                                tt_session_count_vec *out, struct tt_error *err);

/* ---- the process from outside ---- */

/* Bytes; -1 not known at that epoch. */
struct tt_session_proc {
    uint64_t at_ns;
    int64_t epoch;
    int64_t rss_anon, rss_file, heap_live, heap_held, fds, threads, vm_size, cpu_ms;
};
typedef TT_VEC(struct tt_session_proc) tt_session_proc_vec;
int tt_session_procs(struct tt_session *session, int64_t process, tt_session_proc_vec *out,
                     struct tt_error *err);

struct tt_session_limit {
    int64_t process;
    const char *name; /* "RLIMIT_NOFILE", "cgroup memory.max", "MemTotal", ... */
    int64_t value;    /* -1 unlimited */
};
typedef TT_VEC(struct tt_session_limit) tt_session_limit_vec;
int tt_session_limits(struct tt_session *session, int64_t process, tt_session_limit_vec *out,
                      struct tt_error *err);

/* What was not recorded, each kind with its count; process 0 is the recorder itself. */
struct tt_session_dropped {
    int64_t process;
    const char *what; /* a plain phrase: "births not followed: no shadow memory left" */
    uint64_t count;
};
typedef TT_VEC(struct tt_session_dropped) tt_session_dropped_vec;
int tt_session_dropped(struct tt_session *session, int64_t process, tt_session_dropped_vec *out,
                       struct tt_error *err);

/* ---- symbols ---- */

/* One frame of an address; position 0 is the innermost inlined one. */
struct tt_session_symbol {
    const char *function, *module, *file;
    uint32_t line;
    bool inlined;
};
typedef TT_VEC(struct tt_session_symbol) tt_session_symbol_vec;

/* Frames recorded for an address; out->len 0 when there are none. */
int tt_session_symbols_get(struct tt_session *session, int64_t process, uint64_t address,
                           tt_session_symbol_vec *out, struct tt_error *err);

/* Adds or replaces names in a finished session file, all in one transaction: opened for this, not
 * through a struct tt_session. Each row names process, address and its frames. -EROFS and the like
 * when the file may not be written: callers may go on without. */
struct tt_session_symbol_row {
    int64_t process;
    uint64_t address;
    const struct tt_session_symbol *frames;
    size_t n;
};
int tt_session_symbols_put(const char *path, const struct tt_session_symbol_row *rows, size_t n,
                           struct tt_error *err);

#endif
