/* SPDX-License-Identifier: Apache-2.0 */
/* Stopping all threads of a process, or one, by PTRACE_SEIZE and PTRACE_INTERRUPT, without ever
 * consuming an exit status that another waiter (the recorder, a shell) is entitled to. Threads
 * started while we seize are found by reading the task directory until nothing new turns up, or as
 * many threads are held as the kernel counts. Threads that rest (futex, sleep) are stopped first
 * and let go last, so that those which clients wait for stand still for a fraction of the time. The
 * controller takes a real-time priority for the short time if it may: else the threads it wakes
 * first preempt it (MECHANISMS.md 3: 28 ms against 0.6 ms with 64 threads).
 * PTRACE_O_EXITKILL is never set, so a controller that dies lets every thread go on.
 * Start: tt_inject_stop. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "inject/internal.h"

/* A thread in uninterruptible sleep (waiting for a disk, in vfork) is not waited for longer while
 * the others stand still; one that only waits for a processor is. */
#define DEEP_LIMIT_NS 20000000ULL
#define STOP_LIMIT_NS 2000000000ULL
#define STOP_TRIES 12
#define STOP_SPIN_NS 30000ULL
/* Let go all at once, 64 threads queue for two processors before those that clients wait for. */
#define RELEASE_BATCH 8u
#define RELEASE_PAUSES 16u

/* What the kernel leaves in rax of an interrupted system call (include/linux/errno.h). */
enum { ERESTARTSYS = 512, ERESTARTNOINTR = 513, ERESTARTNOHAND = 514, ERESTART_RESTARTBLOCK = 516 };

static struct tt_stopped_thread *thread_of(struct tt_stopped *s, pid_t tid)
{
    for (size_t i = 0; i < s->threads.len; i++)
        if (s->threads.data[i].tid == tid)
            return &s->threads.data[i];
    return NULL;
}

/* System calls that return EINTR after a stop even where no handler ran (signal(7), "Interruption
 * of system calls and library functions by stop signals"; sock_intr_errno for socket timeouts). */
static bool returns_eintr(uint64_t number)
{
    static const uint16_t list[] = {
        SYS_epoll_wait,   SYS_epoll_pwait,   441 /* epoll_pwait2 */,
        SYS_semop,        SYS_semtimedop,    SYS_rt_sigtimedwait,
        SYS_io_getevents, SYS_io_pgetevents, SYS_io_uring_enter,
        SYS_accept,       SYS_accept4,       SYS_connect,
        SYS_recvfrom,     SYS_recvmsg,       SYS_recvmmsg,
        SYS_sendto,       SYS_sendmsg,       SYS_sendmmsg,
        SYS_read,         SYS_readv,         SYS_write,
        SYS_writev,
    };
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++)
        if (list[i] == number)
            return true;
    return false;
}

bool tt_inject_restarts(const struct user_regs_struct *regs)
{
    int64_t rax = (int64_t)regs->rax;
    return (int64_t)regs->orig_rax >= 0 &&
           ((rax <= -ERESTARTSYS && rax >= -ERESTARTNOHAND) || rax == -ERESTART_RESTARTBLOCK);
}

/* With ERESTARTNOHAND in rax the kernel makes the call again if no handler runs, and gives EINTR if
 * one does: what the program would have seen without us. */
static int read_registers(struct tt_stopped_thread *t)
{
    struct user_regs_struct *r = &t->regs;
    if (ptrace(PTRACE_GETREGS, t->tid, 0, r) != 0)
        return -errno;
    if ((int64_t)r->rax == -EINTR && (int64_t)r->orig_rax >= 0 && returns_eintr(r->orig_rax)) {
        r->rax = (uint64_t)-ERESTARTNOHAND;
        if (ptrace(PTRACE_SETREGS, t->tid, 0, r) != 0)
            return -errno;
    }
    return 0;
}

void tt_inject_breathe(void)
{
    const struct timespec pause = {0, 20000};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
}

/* A thread that ended while we traced it stays a zombie until its tracer has waited for it. Only
 * the status of a child of our own is somebody else's to read. */
static void bury(pid_t pid, pid_t tid)
{
    bool zombie;
    siginfo_t si;
    if (tid != pid || tt_proc_parent(pid, &zombie) != getpid())
        waitid(P_PID, (id_t)tid, &si, WEXITED | WNOHANG | __WALL);
}

/* 1 and *status, 0 gone, -EAGAIN not stopped (yet). The end of a thread is only looked at, and that
 * after its stops have been asked for: mostly one call is enough. */
static int look(pid_t pid, pid_t tid, bool block, int *status)
{
    siginfo_t si = {0};
    if (!block && waitid(P_PID, (id_t)tid, &si, WSTOPPED | WNOHANG | __WALL) == 0 &&
        si.si_pid == tid) {
        *status = si.si_status;
        return 1;
    }
    if (waitid(P_PID, (id_t)tid, &si,
               WSTOPPED | WEXITED | WNOWAIT | __WALL | (block ? 0 : WNOHANG)) != 0)
        return errno == EINTR ? -EAGAIN : 0;
    if (si.si_pid != tid)
        return -EAGAIN;
    if (si.si_code != CLD_TRAPPED && si.si_code != CLD_STOPPED) {
        bury(pid, tid);
        return 0;
    }
    *status = si.si_status;
    waitid(P_PID, (id_t)tid, &si, WSTOPPED | WNOHANG | __WALL);
    return 1;
}

int tt_inject_await(pid_t pid, pid_t tid)
{
    int status, r;
    while ((r = look(pid, tid, true, &status)) == -EAGAIN)
        ;
    return r == 1 ? status : -ESRCH;
}

int tt_inject_peek(pid_t pid, pid_t tid)
{
    int status, r = look(pid, tid, false, &status);
    return r == 1 ? status : r == 0 ? -ESRCH : 0;
}

/* A sleep of 20 us takes 70 in a virtual machine. What waits for the very processor that we run on
 * is not kept from it for long. */
bool tt_inject_spins(uint64_t until)
{
    static long processors;
    if (!processors)
        processors = sysconf(_SC_NPROCESSORS_ONLN);
    return processors > 1 && tt_clock_now() < until;
}

/* 1 in an event stop, 0 gone, negative errno. A signal that was on its way is delivered first: the
 * thread stops again before the first instruction of its handler. */
#define NO_LIMIT UINT64_MAX
static int await_stop(pid_t pid, struct tt_stopped_thread *t, uint64_t deadline)
{
    uint64_t sleep = 0, since = 0, spin = tt_clock_now() + STOP_SPIN_NS;
    for (;;) {
        int status, r = look(pid, t->tid, false, &status);
        if (r == 0)
            return 0;
        if (r == 1 && status >> 8 == PTRACE_EVENT_STOP) {
            t->stopped = true;
            return 1;
        }
        if (r == 1) {
            ptrace(PTRACE_INTERRUPT, t->tid, 0, 0);
            ptrace(PTRACE_CONT, t->tid, 0, (void *)(long)(status < 0x80 ? status : 0));
            continue;
        }
        if (tt_inject_spins(spin))
            continue;
        uint64_t now = tt_clock_now();
        if (now > deadline)
            return -ETIMEDOUT;
        if (deadline != NO_LIMIT && now > deadline - STOP_LIMIT_NS + DEEP_LIMIT_NS / 2) {
            uint64_t deep = tt_target_deep_sleep(pid, t->tid);
            if (!since || deep != sleep)
                since = now;
            sleep = deep;
            if (deep && now - since > DEEP_LIMIT_NS / 2)
                return -ETIMEDOUT;
        }
        tt_inject_breathe();
    }
}

/* Stops the threads from `from` on that are not stopped, or of them only those that rest. One that
 * has ended is taken out. */
static int halt(struct tt_stopped *s, size_t from, bool resting)
{
    for (size_t i = from; i < s->threads.len; i++)
        if (!s->threads.data[i].stopped && (!resting || s->threads.data[i].rests))
            ptrace(PTRACE_INTERRUPT, s->threads.data[i].tid, 0, 0);
    uint64_t deadline = tt_clock_now() + STOP_LIMIT_NS;
    for (size_t i = from; i < s->threads.len;) {
        struct tt_stopped_thread *t = &s->threads.data[i];
        if (t->stopped || (resting && !t->rests)) {
            i++;
            continue;
        }
        int r = await_stop(s->pid, t, deadline);
        if (r < 0)
            return r;
        if (r == 0 || read_registers(t) != 0) {
            s->threads.data[i] = s->threads.data[--s->threads.len];
            continue;
        }
        i++;
    }
    return 0;
}

/* Seizes one thread, which goes on: so the time this takes is not the target's. 1 held, 0 it is
 * exiting, or a negative errno. */
static int seize(struct tt_stopped *s, pid_t tid, bool rests)
{
    /* Without TRACESYSGOOD a controller that dies while the thread stands at a system call would
     * leave it a SIGTRAP. */
    if (ptrace(PTRACE_SEIZE, tid, 0, PTRACE_O_TRACESYSGOOD) != 0) {
        int code = -errno;
        return code == -ESRCH || (code == -EPERM && tid != s->pid && s->threads.len > 0) ? 0 : code;
    }
    struct tt_stopped_thread t = {.tid = tid, .rests = rests};
    if (tt_vec_push(&s->threads, t)) {
        ptrace(PTRACE_INTERRUPT, tid, 0, 0); /* only a stopped one can be let go */
        if (await_stop(s->pid, &t, NO_LIMIT) == 1)
            ptrace(PTRACE_DETACH, tid, 0, 0);
        return -ENOMEM;
    }
    return 1;
}

/* Seizes those of `tids` that are not held yet; rests[i] says which rest (NULL: not known). Returns
 * how many were new, or a negative errno. */
static int seize_new(struct tt_stopped *s, const tt_proc_pid_vec *tids, const bool *rests)
{
    int fresh = 0;
    for (size_t i = 0; i < tids->len; i++) {
        int r = thread_of(s, tids->data[i]) ? 0 : seize(s, tids->data[i], rests && rests[i]);
        if (r < 0)
            return r;
        fresh += r;
    }
    return fresh;
}

/* Whether the process has as many threads as we hold: the kernel counts them in the number of links
 * of the task directory, which is read a hundred times faster than its entries. */
static bool all_held(const struct tt_stopped *s)
{
    char path[64];
    struct stat st;
    snprintf(path, sizeof path, "/proc/%d/task", (int)s->pid);
    return stat(path, &st) == 0 && st.st_nlink == 2 + s->threads.len;
}

static int raise_priority(int *policy, struct sched_param *param)
{
    *policy = sched_getscheduler(0);
    if (*policy < 0 || sched_getparam(0, param) != 0)
        return 0;
    struct sched_param fifo = {.sched_priority = 1};
    return sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &fifo) == 0;
}

static __thread int old_policy, raised;
static __thread struct sched_param old_param;

static void restore_priority(void)
{
    if (raised)
        sched_setscheduler(0, old_policy, &old_param);
    raised = 0;
}

/* Which threads rest now, before any is seized: one that gets a signal between seizure and stop
 * stands still. It may be wrong by then, and is but an order. NULL: all are stopped together, which
 * for few is the shortest. */
static bool *resting(pid_t pid, const tt_proc_pid_vec *tids)
{
    bool *rests = tids->len > RELEASE_BATCH ? calloc(tids->len, sizeof *rests) : NULL;
    for (size_t i = 0; rests && i < tids->len; i++)
        rests[i] = tt_target_rests(tt_target_syscall(pid, tids->data[i], NULL, NULL));
    return rests;
}

static int seize_all(struct tt_stopped *out)
{
    tt_proc_pid_vec tids = {0};
    int code = tt_proc_list(out->pid, &tids), fresh = 0;
    bool *rests = code ? NULL : resting(out->pid, &tids);
    raised = raise_priority(&old_policy, &old_param);
    for (size_t before = 0; code == 0; before = out->threads.len) {
        if ((fresh = seize_new(out, &tids, before ? NULL : rests)) <= 0)
            break;
        if (!out->since_ns)
            out->since_ns = tt_clock_now();
        if (rests && !before && (code = halt(out, 0, true)) != 0)
            break;
        if ((code = halt(out, before, false)) != 0 || all_held(out))
            break;
        tids.len = 0;
        code = tt_proc_list(out->pid, &tids);
    }
    tt_vec_free(&tids);
    free(rests);
    code = code ? code : fresh < 0 ? fresh : 0;
    return code == -ENOENT ? -ESRCH : code;
}

static int seize_one(struct tt_stopped *out, pid_t tid)
{
    raised = raise_priority(&old_policy, &old_param);
    int r = seize(out, tid, false);
    out->since_ns = tt_clock_now();
    return r < 0 ? r : halt(out, 0, false);
}

/* Stops the thread tid, or with 0 all threads. */
static int stop_once(pid_t pid, pid_t tid, struct tt_stopped *out, struct tt_error *err)
{
    *out = (struct tt_stopped){.pid = pid};
    int code = tid ? seize_one(out, tid) : seize_all(out);
    if (code == 0 && out->threads.len)
        return 0;
    tt_inject_resume(out);
    if (code == -ETIMEDOUT)
        return tt_error_set(err, code,
                            "process %d could not be stopped: a thread is in uninterruptible sleep "
                            "(a disk, or vfork); try again",
                            (int)pid);
    return tt_target_explain(pid, code ? code : -ESRCH, err);
}

/* Letting go waits for the thread that could not be stopped: then is a good moment. */
static int stop(pid_t pid, pid_t tid, struct tt_stopped *out, struct tt_error *err)
{
    int code = -ETIMEDOUT;
    for (int tries = 0; code == -ETIMEDOUT && tries < STOP_TRIES; tries++) {
        const struct timespec pause = {0, 1000000L << (tries < 6 ? tries : 6)};
        if (tries)
            nanosleep(&pause, NULL);
        code = stop_once(pid, tid, out, err);
    }
    return code;
}

int tt_inject_stop(pid_t pid, struct tt_stopped *out, struct tt_error *err)
{
    return stop(pid, 0, out, err);
}

int tt_inject_stop_one(pid_t pid, pid_t tid, struct tt_stopped *out, struct tt_error *err)
{
    return stop(pid, tid, out, err);
}

void tt_inject_let(struct tt_stopped *stopped, size_t i)
{
    struct tt_stopped_thread *t = &stopped->threads.data[i];
    if (ptrace(PTRACE_CONT, t->tid, 0, 0) == 0)
        t->stopped = false;
}

int tt_inject_stop_again(struct tt_stopped *stopped)
{
    return halt(stopped, 0, false);
}

/* Those that rest come last, and in batches while we have the priority that brings us back in time:
 * what the first have to do is not queued behind them. */
static void let_go(const struct tt_stopped *s)
{
    size_t resting = 0, done = 0;
    for (size_t i = 0; i < s->threads.len; i++) {
        const struct tt_stopped_thread *t = &s->threads.data[i];
        resting += t->stopped && t->rests;
        if (t->stopped && !t->rests)
            ptrace(PTRACE_DETACH, t->tid, 0, 0);
    }
    const size_t share = resting / RELEASE_PAUSES,
                 batch = share > RELEASE_BATCH ? share : RELEASE_BATCH;
    for (size_t i = 0; i < s->threads.len; i++) {
        const struct tt_stopped_thread *t = &s->threads.data[i];
        if (!t->stopped || !t->rests)
            continue;
        if (raised && resting > batch && done++ % batch == 0)
            tt_inject_breathe();
        ptrace(PTRACE_DETACH, t->tid, 0, 0);
    }
}

/* Only a stopped thread can be let go; one that is not yet must be waited for, however long it
 * takes.
 */
void tt_inject_resume(struct tt_stopped *stopped)
{
    let_go(stopped);
    restore_priority();
    for (size_t i = 0; i < stopped->threads.len; i++)
        if (!stopped->threads.data[i].stopped)
            ptrace(PTRACE_INTERRUPT, stopped->threads.data[i].tid, 0, 0);
    for (size_t i = 0; i < stopped->threads.len; i++) {
        struct tt_stopped_thread *t = &stopped->threads.data[i];
        if (!t->stopped && await_stop(stopped->pid, t, NO_LIMIT) == 1 && read_registers(t) == 0)
            ptrace(PTRACE_DETACH, t->tid, 0, 0);
    }
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): after a failed try it is NULL */
    tt_vec_free(&stopped->threads);
}
