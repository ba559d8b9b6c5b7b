/* SPDX-License-Identifier: Apache-2.0 */
/* Stopping all threads of a process by PTRACE_SEIZE and PTRACE_INTERRUPT, without ever consuming an
 * exit status that another waiter (the recorder, a shell) is entitled to. Threads started while
 * we seize are found by reading the task directory until nothing new turns up. The controller
 * takes a real-time priority for the short time if it may: else the threads it wakes first preempt
 * it (MECHANISMS.md 3: 28 ms against 0.6 ms with 64 threads). Start: tt_inject_stop. */
#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>

#include "base/clock.h"
#include "inject/internal.h"

#define STOP_LIMIT_NS                                                                              \
    200000000ULL /* a thread in uninterruptible sleep is not waited for longer                     \
                  */

static struct tt_stopped_thread *thread_of(struct tt_stopped *s, pid_t tid)
{
    for (size_t i = 0; i < s->threads.len; i++)
        if (s->threads.data[i].tid == tid)
            return &s->threads.data[i];
    return NULL;
}

static int seize_error(pid_t pid, int code, struct tt_error *err)
{
    if (code == -EPERM)
        return tt_error_set(err, code,
                            "cannot stop process %d: ptrace is not permitted; run as root, or set "
                            "kernel.yama.ptrace_scope=0, or end the debugger that holds it",
                            (int)pid);
    return tt_error_sys(err, code, "cannot stop process %d", (int)pid);
}

/* Seizes threads not yet held. Returns how many were new, or a negative errno. */
static int seize_new(struct tt_stopped *s)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", (int)s->pid);
    DIR *dir = opendir(path);
    if (!dir)
        return errno == ENOENT ? -ESRCH : -errno;
    int fresh = 0;
    struct dirent *e;
    while ((e = readdir(dir))) {
        pid_t tid = (pid_t)strtol(e->d_name, NULL, 10);
        if (tid <= 0 || thread_of(s, tid))
            continue;
        if (ptrace(PTRACE_SEIZE, tid, 0, 0) != 0) {
            int code = -errno;
            if (code == -ESRCH || (code == -EPERM && tid != s->pid && s->threads.len > 0))
                continue; /* it is exiting */
            closedir(dir);
            return code;
        }
        struct tt_stopped_thread t = {.tid = tid};
        if (tt_vec_push(&s->threads, t)) {
            ptrace(PTRACE_DETACH, tid, 0, 0);
            closedir(dir);
            return -ENOMEM;
        }
        ptrace(PTRACE_INTERRUPT, tid, 0, 0);
        fresh++;
    }
    closedir(dir);
    return fresh;
}

/* A pause between two looks: short, and a sleep, since with a real-time priority a spin would keep
 * the very thread from running that must come to its stop. */
static void breathe(void)
{
    const struct timespec pause = {0, 20000};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
}

/* 1 stopped, 0 gone, negative errno. Asks only for stops, so that an exit status stays. */
static int await_stop(struct tt_stopped_thread *t, uint64_t deadline)
{
    for (;;) {
        siginfo_t si = {0};
        if (waitid(P_PID, (id_t)t->tid, &si, WSTOPPED | WNOHANG | __WALL) != 0)
            return errno == ECHILD ? 0 : -errno;
        if (si.si_pid == t->tid) {
            if (si.si_code == CLD_TRAPPED && (si.si_status >> 8) == 0)
                t->signal = si.si_status; /* a signal was on its way */
            t->stopped = true;
            return 1;
        }
        /* The kernel reports a tracee's stop whatever was asked for: look at the code. */
        si.si_pid = 0;
        if (waitid(P_PID, (id_t)t->tid, &si, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0 &&
            si.si_pid == t->tid && si.si_code != CLD_TRAPPED && si.si_code != CLD_STOPPED)
            return 0;
        if (tt_clock_now() > deadline)
            return -ETIMEDOUT;
        breathe();
    }
}

static int await_all(struct tt_stopped *s, size_t from)
{
    uint64_t deadline = tt_clock_now() + STOP_LIMIT_NS;
    for (size_t i = from; i < s->threads.len;) {
        struct tt_stopped_thread *t = &s->threads.data[i];
        int r = await_stop(t, deadline);
        if (r < 0)
            return r;
        if (r == 0 || ptrace(PTRACE_GETREGS, t->tid, 0, &t->regs) != 0) {
            s->threads.data[i] = s->threads.data[--s->threads.len];
            continue;
        }
        i++;
    }
    return 0;
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

int tt_inject_stop(pid_t pid, struct tt_stopped *out, struct tt_error *err)
{
    *out = (struct tt_stopped){.pid = pid, .since_ns = tt_clock_now()};
    raised = raise_priority(&old_policy, &old_param);
    for (;;) {
        size_t before = out->threads.len;
        int fresh = seize_new(out);
        int r = fresh < 0 ? fresh
                          : await_all(out, before < out->threads.len ? before : out->threads.len);
        if (r < 0) {
            tt_inject_resume(out);
            if (r == -ETIMEDOUT)
                return tt_error_set(err, r,
                                    "process %d could not be stopped: a thread is in "
                                    "uninterruptible sleep; try again",
                                    (int)pid);
            return seize_error(pid, r, err);
        }
        if (fresh == 0)
            break;
    }
    if (out->threads.len)
        return 0;
    tt_inject_resume(out);
    return tt_error_set(err, -ESRCH, "process %d has ended", (int)pid);
}

/* A thread that was told to stop and has not yet must be waited for, however long it takes: let go
 * before, it would stop later with nobody to wake it. */
void tt_inject_resume(struct tt_stopped *stopped)
{
    for (size_t i = 0; i < stopped->threads.len; i++) {
        struct tt_stopped_thread *t = &stopped->threads.data[i];
        if (t->stopped)
            ptrace(PTRACE_DETACH, t->tid, 0, (void *)(long)t->signal);
    }
    restore_priority();
    for (size_t i = 0; i < stopped->threads.len; i++) {
        struct tt_stopped_thread *t = &stopped->threads.data[i];
        if (!t->stopped && await_stop(t, UINT64_MAX) == 1)
            ptrace(PTRACE_DETACH, t->tid, 0, (void *)(long)t->signal);
    }
    tt_vec_free(&stopped->threads);
}
