/* SPDX-License-Identifier: Apache-2.0 */
/* Bringing the agent into a running process, taking it out again, and freezing a copy of the
 * process (MECHANISMS.md 3 and 4). No dlopen, no libc call, no lock of the target is involved: a
 * thread is stopped, made to do system calls and to run the blob's start on a stack of our own, and
 * goes on where it was. Everything that can be worked out is worked out before the stop.
 * All calls for one target must come from one thread (ptrace(2)).
 * Start: tt_inject_attach. */
#ifndef TT_INJECT_ATTACH_H
#define TT_INJECT_ATTACH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

#include "agent/host.h"
#include "base/error.h"
#include "base/vec.h"

struct tt_inject_attach_options {
    struct tt_conf conf; /* mode, mean, rate, follow, seed, origin_ns, dir (for forked children) */
    const char *blob;    /* path of telltale-agent.blob; NULL: tt_proc_own_file finds it */
};

/* A function that could not be hooked, or was hooked in another way, for people. */
struct tt_inject_note {
    char
        text[160]; /* "valloc of libc.so.6: its first instructions cannot be moved; not followed" */
};

struct tt_inject_attached {
    pid_t pid;
    int tape_fd;             /* the tape, open for reading and writing; owned by the caller */
    uint64_t blob;           /* address of the blob's image in the target */
    bool reused;             /* the blob was there from an earlier attach */
    unsigned entries, slots; /* function entries patched; GOT slots patched instead */
    uint64_t start_ns;       /* one thread (all, if all compute) stood still so long at most, once
                                for the memory and once for the tape */
    uint64_t stop_ns;        /* all threads stood still so long: the patches */
    TT_VEC(struct tt_inject_note) notes;
};

/* Attaches. 0, or a negative errno with one line (cause and remedy) in err and the target as it
 * was: -EPERM not allowed to trace, traced already, not dumpable; -EBUSY another telltale records
 * it; -EOPNOTSUPP static, musl, other architecture, no allocator found, seccomp; -ESRCH;
 * -ETIMEDOUT. */
int tt_inject_attach(pid_t pid, const struct tt_inject_attach_options *options,
                     struct tt_inject_attached *out, struct tt_error *err);
void tt_inject_attached_free(struct tt_inject_attached *attached);

struct tt_inject_detached {
    unsigned restored; /* places that hold their old bytes again */
    unsigned kept;     /* release functions that stay hooked: sampled objects of an allocator other
                          than glibc are still live */
    uint64_t live;     /* how many such objects */
    uint64_t stop_ns;
    bool found; /* false: there was nothing of ours in the process */
};
/* Takes out what any telltale ever put into the process, dead ones included; reaps a frozen copy
 * that was left. Works without the tt_inject_attached. force: also while another telltale records
 * it (else -EBUSY). */
int tt_inject_detach(pid_t pid, bool force, struct tt_inject_detached *out, struct tt_error *err);

/* ---- a frozen copy ---- */

struct tt_inject_frozen_thread {
    pid_t tid;
    struct user_regs_struct regs; /* at the moment of the copy */
};
struct tt_inject_frozen {
    pid_t target, copy; /* copy: a stopped child of the target with the same memory */
    pid_t copy_inside;  /* its pid in the target's pid namespace */
    uint64_t at_ns;     /* CLOCK_BOOTTIME */
    uint64_t stop_ns;   /* the target stood still so long; of it fork_ns in clone(2) */
    uint64_t fork_ns;
    TT_VEC(struct tt_inject_frozen_thread) threads; /* of the target */
};
/* Stops the target, makes it clone itself (no exit signal, so wait() and SIGCHLD in the target see
 * nothing), lets it go; the copy never runs an instruction and dies with us (PTRACE_O_EXITKILL).
 * 0 or negative errno: -ENOMEM when the kernel refuses the fork (overcommit, cgroup) and the same
 * as tt_inject_attach. */
int tt_inject_freeze(pid_t target, struct tt_inject_frozen *out, struct tt_error *err);
/* Kills the copy and makes the target reap it (a stop of one thread). Frees. */
int tt_inject_thaw(struct tt_inject_frozen *frozen, struct tt_error *err);

#endif
