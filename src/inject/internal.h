/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this room share. Start: inject.h, attach.h. */
#ifndef TT_INJECT_INTERNAL_H
#define TT_INJECT_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

#include "base/error.h"
#include "base/vec.h"
#include "proc/proc.h"

/* ---- stop.c ---- */

/* A thread in a PTRACE_EVENT_STOP: no signal is held back by us, and what the kernel has to restart
 * when it goes on still stands in rax and orig_rax. */
struct tt_stopped_thread {
    pid_t tid;
    bool stopped;
    bool rests; /* nobody waits for it: stopped first, let go last */
    struct user_regs_struct regs;
};
struct tt_stopped {
    pid_t pid;
    uint64_t since_ns;
    TT_VEC(struct tt_stopped_thread) threads;
};
/* Stops all threads and reads their registers. A system call that any stop makes return EINTR
 * (signal(7)) is set to be restarted. On failure none is left stopped. */
int tt_inject_stop(pid_t pid, struct tt_stopped *out, struct tt_error *err);
/* The same for one thread; the others go on. */
int tt_inject_stop_one(pid_t pid, pid_t tid, struct tt_stopped *out, struct tt_error *err);
/* Lets all threads go on and frees `stopped`. */
void tt_inject_resume(struct tt_stopped *stopped);
/* Lets thread i run while the others stand still, and stops again those that were let. A thread
 * that has ended is taken out. 0; -ETIMEDOUT when one could not be stopped: only resume is left
 * then. */
void tt_inject_let(struct tt_stopped *stopped, size_t i);
int tt_inject_stop_again(struct tt_stopped *stopped);
/* Waits until a thread that was let run a little stops again. The wait status' upper part (signal |
 * event << 8), or -ESRCH when it has ended. */
int tt_inject_await(pid_t pid, pid_t tid);
/* The same, or 0 if it has not stopped yet. */
int tt_inject_peek(pid_t pid, pid_t tid);
/* A pause between two looks: short, and a sleep, since with a real-time priority a spin would keep
 * the very thread from running that is waited for. */
void tt_inject_breathe(void);
/* Before the first such pause: whether to look again at once, which is so until that time of the
 * clock where there is another processor. */
bool tt_inject_spins(uint64_t until);
/* Whether registers say that the kernel interrupted a system call and will make it again. */
bool tt_inject_restarts(const struct user_regs_struct *regs);

/* ---- target.c ---- */

/* A process that is about to be changed: what is known before it is stopped. */
struct tt_target {
    pid_t pid;
    int mem; /* /proc/PID/mem */
    struct tt_proc_maps maps;
    uint64_t syscall_ret; /* address of "syscall; ret" in the target */
    uint64_t sigreturn;   /* of "mov $15,%rax; syscall", what signal handlers return to */
    bool sandboxed;       /* a thread has a seccomp filter */
    bool handles;         /* some signal has a handler */
};
/* Looks the process over. 0, or a negative errno with one line that names cause and remedy. */
int tt_target_open(pid_t pid, struct tt_target *out, struct tt_error *err);
void tt_target_close(struct tt_target *target);
/* Says why ptrace(2) refused with `code`. Returns code. */
int tt_target_explain(pid_t pid, int code, struct tt_error *err);
/* Not 0 while a thread sleeps so that no signal wakes it; another number for another sleep. */
uint64_t tt_target_deep_sleep(pid_t pid, pid_t tid);
/* The number of the system call that a thread waits in (proc_pid_syscall(5)), and its stack pointer
 * and instruction if asked for; -1 when it runs, or that cannot be known. */
long tt_target_syscall(pid_t pid, pid_t tid, uint64_t *sp, uint64_t *pc);
/* Whether in that system call a thread sleeps that no client of the process waits for: a server's
 * other calls are where requests arrive. */
bool tt_target_rests(long number);
/* How often it has gone to sleep. */
uint64_t tt_target_switches(pid_t pid, pid_t tid);
/* n bytes of its memory; 0 or a negative errno. Writing goes to read-only pages too. */
int tt_target_read(const struct tt_target *target, uint64_t at, void *to, size_t n);
/* Up to n - 1 bytes, ended by a 0: the string that begins there; "" for address 0. */
void tt_target_read_text(const struct tt_target *target, uint64_t at, char *to, size_t n);
int tt_target_write(const struct tt_target *target, uint64_t at, const void *from, size_t n);

/* ---- remote.c ---- */

#define TT_REMOTE_FRAME 0x4000u /* most that a signal frame takes */

/* A thread that does calls for us. Whatever happens to us meanwhile, it goes on by itself: what it
 * executes always returns to an rt_sigreturn(2) of its own registers. */
struct tt_remote {
    const struct tt_target *target;
    pid_t tid;
    struct user_regs_struct own; /* what it goes on with */
    uint64_t mask;               /* its blocked signals */
    uint64_t frame;              /* rsp for calls: the return address, then the frame */
    bool moved;                  /* its registers are not its own now */
    bool exiting;                /* it stands at a system call's exit, not in an event stop */
    bool runs;                   /* a called function */
};
/* Whether a thread may be used: it is in a system call, or certainly in no restartable sequence
 * (rseq(2)), and its stack is an ordinary one. */
bool tt_remote_suits(const struct tt_target *target, const struct tt_stopped_thread *thread);
/* One of the stopped threads that suits, rather one that waits than one that computes; or NULL. */
const struct tt_stopped_thread *tt_remote_choose(const struct tt_target *target,
                                                 const struct tt_stopped *stopped);
/* Stops a thread that suits, threads.data[0]: if one waits in a system call only that, else all.
 * -EAGAIN when none suits. */
int tt_remote_stop(const struct tt_target *target, struct tt_stopped *out, struct tt_error *err);
/* Prepares. frame_end: end of TT_REMOTE_FRAME writable bytes; 0: below the thread's red zone. */
int tt_remote_begin(struct tt_remote *remote, const struct tt_target *target,
                    const struct tt_stopped_thread *thread, uint64_t frame_end,
                    struct tt_error *err);
/* A system call: its result (negative errno too) in *result. 0, or -errno when it was not made.
 * For clone(2): *child, if not NULL, is the traced child's pid as we see it; the caller waits. */
int tt_remote_syscall(struct tt_remote *remote, long number, const uint64_t args[6],
                      int64_t *result, pid_t *child, struct tt_error *err);
/* Calls blob.enter at `function`, and waits until the word at `done` is TT_BLOB_DONE; the thread
 * then runs in its waiting loop. -EAGAIN: it waited in vain and left. */
int tt_remote_call(struct tt_remote *remote, uint64_t function, uint64_t done,
                   struct tt_error *err);
/* The same for another value of the word, in the course of the call. */
int tt_remote_await(struct tt_remote *remote, uint64_t done, uint32_t value, struct tt_error *err);
/* Gives the thread its own registers back. It stays stopped. */
int tt_remote_end(struct tt_remote *remote, struct tt_error *err);
/* Writes at `at` (8 below a multiple of 16) what a thread with rsp = at that executes a `ret`
 * restores: own, with the floating-point state if n is not 0. Returns the bytes written or a
 * negative errno. */
int tt_remote_frame(const struct tt_target *target, uint64_t at, const struct user_regs_struct *own,
                    uint64_t mask, const void *xstate, size_t n);

/* ---- freeze.c ---- */

#define TT_COPY_EXIT 0x74 /* status of a copy that was left alone */
/* Makes the target reap copies that a telltale which was killed left with it. How many. */
unsigned tt_freeze_reap_left(struct tt_target *target);

/* ---- awake.c ---- */

/* Keeps idle processors from sleeping, so that a thread which is stopped or let go is on its
 * processor at once. Returns what tt_inject_drowse takes: -1 where the kernel has or allows no such
 * thing, and all is as without. */
int tt_inject_awake(void);
void tt_inject_drowse(int awake);

/* ---- stacks.c ---- */

struct tt_window {
    uint64_t from, to; /* addresses in [from, to) */
};
enum {
    TT_LOOK_RIP = 1,    /* where threads stand */
    TT_LOOK_FRAMES = 2, /* where signal handlers will return to */
    TT_LOOK_WORDS = 4,  /* any word of the stacks: return addresses, and what looks like one */
};
/* Which windows a stopped thread stands in or will return to, as far as 64 KiB of its stack tell.
 * hit[i] says so for window i. Returns how many were hit. */
size_t tt_stacks_look(const struct tt_target *target, const struct tt_stopped *stopped,
                      const struct tt_window *windows, size_t n, unsigned where, bool *hit);

/* Whether a stopped thread stands in the window or is in a signal handler that returns there. */
bool tt_stacks_stands(const struct tt_target *target, const struct tt_stopped *stopped, size_t i,
                      const struct tt_window *window);
/* Whether, without a stop, each thread is seen to sleep at some moment with no word of the window
 * on its stack: where nothing leads to the window any more, none is in it from then on, nor will
 * return there. False when that cannot be known. */
bool tt_stacks_clear(const struct tt_target *target, const struct tt_window *window);

/* ---- relocate.c: pure functions on bytes ---- */

#define TT_RELOCATE_NEED 5u /* bytes of a jmp rel32 */
#define TT_RELOCATE_MAX 64u /* bytes that moved instructions can grow to */
#define TT_RELOCATE_NOWHERE 0xffu
/* Moves whole instructions that cover at least TT_RELOCATE_NEED bytes of `code` (n bytes, at
 * address `from`) to address `to`. out gets the moved bytes, *out_len their number, *taken how many
 * source bytes they were, where[i] (TT_RELOCATE_NEED of them; may be NULL) the place in out of the
 * instruction at code + i, or TT_RELOCATE_NOWHERE. 0; -EOPNOTSUPP when an instruction is not known
 * to be movable (why says which); -ERANGE when a displacement no longer reaches. */
int tt_relocate(const uint8_t *code, size_t n, uint64_t from, uint64_t to, uint8_t *out,
                size_t *out_len, size_t *taken, uint8_t *where, const char **why);
/* Whether a direct branch of the function goes to an address strictly inside (from, from + taken).
 * Walks the instructions; behind one it does not know every byte that looks like such a branch
 * counts, so it may say yes where there is none, never the reverse. */
int tt_relocate_is_target(const uint8_t *code, size_t n, uint64_t from, size_t taken);

#endif
