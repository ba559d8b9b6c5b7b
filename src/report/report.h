/* SPDX-License-Identifier: Apache-2.0 */
/* Findings to articles. The input is plain data and one callback for stacks, so the room is tested
 * without a session; src/report/material.h fills it from one. Every format is a row of the table in
 * report.c. The JSON form is a contract: docs/findings.md. Start: tt_report_write. */
#ifndef TT_REPORT_REPORT_H
#define TT_REPORT_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/text.h"
#include "judge/finding.h"
#include "symbol/symbol.h"

/* Strings in these structures are borrowed and may be NULL or "" for unknown; numbers 0. */

struct tt_report_pair {
    const char *key, *value;
};

struct tt_report_drop {
    const char *what; /* as in the session's table dropped */
    uint64_t count;
};

/* A process of a session: what APPLIES TO names. */
struct tt_report_process {
    int64_t id; /* the session's */
    long pid;
    const char *exe, *build_id, *cmdline, *libc, *allocator;
    uint64_t exe_size;
    int64_t exe_mtime; /* seconds, UTC */
};

enum tt_report_role { TT_REPORT_JUDGED, TT_REPORT_CONTROL, TT_REPORT_FIXED };

struct tt_report_session {
    const char *name; /* file name for people */
    enum tt_report_role role;
    bool attached;    /* recording began in the middle of the process's life */
    bool unfinished;  /* the recorder was cut short */
    const char *mode; /* "exact", "adaptive", "sampled" */
    const char *host, *kernel, *machine;
    double seconds;       /* of recording */
    int64_t started_wall; /* seconds, UTC */
    double horizon;       /* asked for, 0 default */
    const struct tt_report_process *processes;
    size_t n_processes; /* the first is the one that was started */
    const struct tt_report_pair *labels;
    size_t n_labels;
    const struct tt_report_drop *dropped; /* rows with count 0 are left out */
    size_t n_dropped;
};

/* A stack, innermost frame first, inlined frames expanded. */
struct tt_report_stack {
    const struct tt_symbol_frame *frames; /* valid until the report is written */
    size_t n;
    bool cut; /* the recording ends before the outermost frame */
};

struct tt_report_input {
    const struct tt_findings *findings;
    const struct tt_report_session *sessions; /* [0] is the judged one */
    size_t n_sessions;
    const char *tool_version;
    const char *const *repeat; /* command lines that repeat the recording and the report */
    size_t n_repeat;
    const char *const *warnings; /* of the symbol room, for LOST DATA */
    size_t n_warnings;
    /* The stack of a process of sessions[session]; 0 or a negative errno (then the article says
     * that the stack is missing). */
    int (*stack)(void *arg, int session, int64_t process, int64_t stack,
                 struct tt_report_stack *out);
    void *stack_arg;
    bool colour;         /* text only */
    size_t max_articles; /* leaks written out in full; 0: 8. The others get one line each */
};

/* Appends the report in a format ("text", "markdown", "json") to *out. 0; -EINVAL for an unknown
 * format (err lists the known ones); -ENOMEM. */
int tt_report_write(const char *format, const struct tt_report_input *input, struct tt_text *out,
                    struct tt_error *err);

/* The names of the formats, in order; NULL-terminated. */
const char *const *tt_report_formats(void);

/* One site for `telltale list`. */
struct tt_report_site {
    int64_t process, site;
    const char *resource;
    uint64_t live, births;   /* units; weighted estimates where estimated is set */
    double live_bytes;       /* requested */
    double oldest, youngest; /* ages of live units in seconds; NaN when none lives */
    bool estimated;
    const char *function, *file; /* top frame that is not an allocator's; "" unknown */
    unsigned line;
    const char *module;
    uint32_t size_min, size_max;
    uint64_t offset;   /* in the module, as addr2line counts; told where no function is known */
    const char *place; /* of a site without a stack; NULL or "" unknown */
};

/* Blocks of one shape that nothing points to, by the latest snapshot of their process. */
struct tt_report_lost {
    int64_t process;
    uint64_t units, bytes, roots, unknown; /* usable bytes; unknown: units without a site */
    const char *shape;
};

struct tt_report_sites {
    const struct tt_report_site *list; /* in the order to print */
    size_t n;
    const struct tt_report_lost *lost; /* most bytes first in each process */
    size_t n_lost;
    uint64_t more;  /* sites left out by the caller's bound: counted on the last line */
    double seconds; /* of recording */
};

/* Appends the table in "text" or "json" (schema "telltale.sites/1"). As tt_report_write. */
int tt_report_sites(const char *format, const struct tt_report_sites *sites, struct tt_text *out,
                    struct tt_error *err);

/* A copy of text with control characters and invalid UTF-8 replaced; the caller frees it. */
char *tt_article_clean(const char *text);

/* The first frame of a stack that is not an allocator's or a container's, as articles choose it:
 * its index, or 0 when all are. */
size_t tt_report_top_frame(const struct tt_symbol_frame *frames, size_t n);

#endif
