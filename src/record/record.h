/* SPDX-License-Identifier: Apache-2.0 */
/* The recorder: runs a command with the agent preloaded, or attaches to processes that run, turns
 * their tapes into the rows of a session, and passes a command's end on. It does not judge and does
 * not print; what is to be said while it runs goes through callbacks.
 * Start: tt_record_run, tt_record_attach. */
#ifndef TT_RECORD_RECORD_H
#define TT_RECORD_RECORD_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "resource/resource.h"
#include "session/session.h"
#include "tape/tape.h"

struct tt_record_label {
    const char *key, *value;
};

/* --operation NAME=FUNCTION: count the entries of FUNCTION. */
struct tt_record_operation {
    const char *name, *function;
};

/* A function of the target; name is copied by the recorder. */
struct tt_record_function {
    char name[160];
    uint64_t entry, size; /* run-time address; bytes of code */
    bool cplusplus;       /* its symbol is a mangled C++ name: exceptions may leave it */
};

/* Live figures for a progress line, about once a second. */
struct tt_record_progress {
    double seconds;
    unsigned processes;              /* alive and recorded */
    uint64_t births, deaths;         /* units of all processes so far */
    uint64_t live_units, live_bytes; /* followed and not released; of processes alive */
    uint64_t sites;                  /* with births */
    uint64_t dropped;                /* units that could not be followed */
    uint64_t session_bytes;
};

/* How often processes are copied to be searched for blocks that nothing points to. */
enum tt_record_snapshots {
    TT_SNAPSHOTS_AUTO = 0, /* when one can settle a question */
    TT_SNAPSHOTS_OFF = -1, /* positive: at most so many of a process */
};

struct tt_record_options {
    char *const *argv; /* run: the command, NULL-terminated, at least one */
    const pid_t *pids; /* attach: what to attach to, at least one */
    size_t n_pids;
    const char *output;     /* template: %p pid of the command or the first of pids, %h host */
    enum tt_tape_mode mode; /* 0: exact */
    uint64_t sample_mean;   /* sampled: bytes; 0: 512 KiB */
    uint32_t rate;          /* adaptive: samples a second and key; 0: 1 */
    bool no_inject;         /* from the kernel's side, with nothing inside the process */
    bool follow;            /* record forked children too, until the last one has ended */
    double duration;        /* seconds of recording; 0: until the end. Then the command goes on
                               unrecorded, and its end is still waited for */
    double horizon;         /* noted in the session; 0: none */
    int snapshots;          /* enum tt_record_snapshots or a number */
    double snapshot_every;  /* least seconds between two of a process; 0: 60 */
    double pause_budget_ms; /* a process of up to 1 GB may be stopped so long for one, larger ones
                               so long per GB; 0: 20 */
    bool no_staleness;      /* sampled, adaptive: do not look which objects are untouched */
    const struct tt_record_label *labels;
    size_t n_labels;
    const struct tt_record_operation *operations;
    size_t n_operations;
    bool no_stack_operations; /* count only the declared ones */
    uint32_t resources; /* kinds to watch besides heap blocks, bits as tt_resource_choose gives */
    const struct tt_handle *handles; /* declared ones; their kind is TT_KIND_DECLARED + index */
    size_t n_handles;
    const char *const *noted; /* other words of the command line that the session keeps, so that a
                                 report can say how to repeat the recording */
    size_t n_noted;
    const char *agent; /* path of the agent library; NULL: tt_proc_own_file finds it */
    const char *tool_version;

    void *arg; /* of the callbacks, each of which may be NULL */
    void (*progress)(void *arg, const struct tt_record_progress *progress);
    /* One line for people that cannot wait for the end: "cannot write session x.tt any more". */
    void (*say)(void *arg, const char *line);
    /* The function of that name among the modules of a process. 0, or a negative errno with err. */
    int (*resolve)(void *arg, const struct tt_session_module *modules, size_t n,
                   const char *function, struct tt_record_function *out, struct tt_error *err);
    /* The functions around return addresses (innermost first), each once, without libc, main and
     * what starts threads: at most max. Returns how many were filled. */
    size_t (*entries)(void *arg, const struct tt_session_module *modules, size_t n,
                      const uint64_t *frames, size_t n_frames, struct tt_record_function *out,
                      size_t max);
    /* Names a place in a module's data (heap.h tt_heap_name_fn); called from another thread, one
     * call at a time. */
    int (*place)(void *arg, const char *path, uint64_t file_offset, uint64_t address, char *out,
                 size_t size);
};

struct tt_record_result {
    char output[PATH_MAX]; /* the session written, template expanded; "" when none was made */
    pid_t pid;
    int status;         /* wait status of the command, see waitpid(2) */
    bool trouble;       /* the session is incomplete or absent though the command ran: exit 3 */
    pid_t went_on;      /* without follow: a forked child that still runs (use -f); else 0 */
    unsigned attached;  /* processes attached to */
    unsigned snapshots; /* taken */
    bool left;          /* a process could not be detached from: its entries lead through the
                           agent, which is quiet; left_why says why */
    char left_why[256];
    unsigned processes; /* images recorded */
    unsigned refused;   /* images in which the agent could not work */
    char refused_why[256];
};

/* Runs and records a command. Signals INT, TERM, HUP, QUIT, USR1, USR2 and WINCH sent to the caller
 * meanwhile are forwarded to the command; those that the terminal sends to the whole foreground
 * group reach it anyway and are not doubled. Once the command has ended and only followed children
 * run on, INT, TERM, HUP and QUIT end the recording instead; the children are not touched.
 * 0: the command ran to its end, see *result. Negative errno: it was not started, err says why.
 * A full disk stops the recording, not the command: result->trouble. */
int tt_record_run(const struct tt_record_options *options, struct tt_record_result *result,
                  struct tt_error *err);

/* Attaches to running processes and records them, until options->duration is over, a signal INT,
 * TERM, HUP or QUIT comes (before it detaches it takes a last snapshot; a second signal skips that)
 * or all of them have ended; then detaches. Processes that cannot be attached to are said (`say`)
 * when there are others; 0 if there was at least one. Negative errno: none, err says why, no
 * session was made. */
int tt_record_attach(const struct tt_record_options *options, struct tt_record_result *result,
                     struct tt_error *err);

/* Asks the telltale that is attached to pid, and waits for its answer: "detach", "mode exact",
 * "mode sampled" or "mode adaptive". 0 done; -ENOENT no telltale of this machine is attached to it
 * (err says so); another negative errno with the answer in err. */
int tt_record_ask(pid_t pid, const char *what, struct tt_error *err);

/* Takes out of a process what dead telltales left in it, gives back their memory and files. As
 * tt_inject_detach. */
struct tt_inject_detached;
int tt_record_detach(pid_t pid, bool force, struct tt_inject_detached *out, struct tt_error *err);

/* A session of one process and one snapshot: options->pids[0] as it is now, or (core) a core file.
 * exe: the core's program, may be NULL. */
int tt_record_snapshot(const struct tt_record_options *options, struct tt_record_result *result,
                       struct tt_error *err);
int tt_record_core(const struct tt_record_options *options, const char *core, const char *exe,
                   struct tt_record_result *result, struct tt_error *err);

/* The exit status for a wait status, after dying by the same signal if it was one, without a core
 * of our own (as strace does). */
int tt_record_exit(int status);

#endif
