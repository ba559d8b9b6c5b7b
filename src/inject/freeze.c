/* SPDX-License-Identifier: Apache-2.0 */
/* A frozen copy of the target: with all threads stopped one of them makes clone(2), and the child,
 * born stopped under our trace, is the copy. It shares the table of descriptors (CLONE_FILES), so
 * that a connection the target closes meanwhile is closed, and has no exit signal, so that neither
 * SIGCHLD nor an ordinary wait() of the target sees it. It never runs: should we die before it is
 * told to die with us (PTRACE_O_EXITKILL), its stack leads it straight into exit_group(2).
 * Start: tt_inject_freeze. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "base/clock.h"
#include "inject/attach.h"
#include "inject/internal.h"

#define TRIES 40

/* Where a child that nobody traces any more goes: out. `at` as for tt_remote_frame. */
static int way_out(const struct tt_target *target, const struct user_regs_struct *own, uint64_t at)
{
    struct user_regs_struct r = *own;
    r.rip = target->syscall_ret;
    r.rsp = at;
    r.orig_rax = (uint64_t)-1;
    r.rax = SYS_exit_group;
    r.rdi = TT_COPY_EXIT;
    int n = tt_remote_frame(target, at, &r, ~0ULL, NULL, 0);
    return n < 0 ? n : 0;
}

static int refused(pid_t pid, int code, struct tt_error *err)
{
    const char *why = code == -ENOMEM
                          ? "not enough memory for a copy (vm.overcommit_memory, or the cgroup's "
                            "memory.max)"
                      : code == -EAGAIN ? "no more processes are allowed (RLIMIT_NPROC, or the "
                                          "cgroup's pids.max)"
                                        : "clone(2) failed";
    return tt_error_sys(err, code, "cannot copy process %d: %s", (int)pid, why);
}

/* Makes one of the stopped threads clone itself. */
static int copy(const struct tt_target *target, const struct tt_stopped_thread *thread,
                struct tt_inject_frozen *out, struct tt_error *err)
{
    struct tt_remote remote;
    int64_t result = 0;
    int code = tt_remote_begin(&remote, target, thread, 0, err);
    if (code)
        return code;
    uint64_t at = remote.frame - 2048;
    if ((code = way_out(target, &thread->regs, at)) != 0)
        return tt_error_sys(err, code, "cannot write to the stack of process %d", (int)target->pid);
    uint64_t before = tt_clock_now();
    code = tt_remote_syscall(&remote, SYS_clone, (uint64_t[6]){CLONE_FILES, at}, &result,
                             &out->copy, err);
    out->fork_ns = tt_clock_now() - before;
    if (code == 0 && result < 0)
        code = refused(target->pid, (int)result, err);
    if (code == 0 && out->copy <= 0)
        code = tt_error_set(err, -EIO, "cannot copy process %d: the copy was not seen",
                            (int)target->pid);
    if (out->copy > 0) {
        out->copy_inside = (pid_t)result;
        if (tt_inject_await(out->copy, out->copy) < 0 ||
            ptrace(PTRACE_SETOPTIONS, out->copy, 0, PTRACE_O_EXITKILL) != 0)
            code = tt_error_set(err, -ESRCH, "the copy of process %d was killed", (int)target->pid);
    }
    struct tt_error ignored;
    int ended = tt_remote_end(&remote, code ? &ignored : err);
    return code ? code : ended;
}

/* Makes a thread wait for the copy; without that a zombie stays with the target. */
static int reap(struct tt_target *target, pid_t copy_inside, struct tt_error *err)
{
    struct tt_stopped one;
    struct tt_remote remote;
    int64_t result = 0;
    int code = tt_remote_stop(target, &one, err);
    if (code)
        return code;
    code = tt_remote_begin(&remote, target, &one.threads.data[0], 0, err);
    if (code == 0) {
        code = tt_remote_syscall(&remote, SYS_wait4,
                                 (uint64_t[6]){(uint64_t)copy_inside, 0, __WALL | WNOHANG}, &result,
                                 NULL, err);
        struct tt_error ignored;
        int ended = tt_remote_end(&remote, code ? &ignored : err);
        code = code ? code : ended;
    }
    tt_inject_resume(&one);
    if (code == 0 && result != copy_inside && result != -ECHILD)
        return tt_error_set(err, -EIO, "process %d could not reap its copy %d", (int)target->pid,
                            (int)copy_inside);
    return code;
}

int tt_inject_freeze(pid_t pid, struct tt_inject_frozen *out, struct tt_error *err)
{
    struct tt_target target;
    struct tt_stopped stopped;
    *out = (struct tt_inject_frozen){.target = pid};
    int code = tt_target_open(pid, &target, err);
    if (code)
        return code;
    for (int tries = 0;; tries++) {
        if ((code = tt_inject_stop(pid, &stopped, err)) != 0)
            goto out;
        const struct tt_stopped_thread *thread = tt_remote_choose(&target, &stopped);
        if (thread) {
            tt_vec_free(&out->threads);
            code = tt_vec_reserve(&out->threads, stopped.threads.len);
            for (size_t i = 0; code == 0 && i < stopped.threads.len; i++)
                out->threads.data[out->threads.len++] = (struct tt_inject_frozen_thread){
                    stopped.threads.data[i].tid, stopped.threads.data[i].regs};
            out->at_ns = tt_clock_now();
            code =
                code ? tt_error_set(err, code, "out of memory") : copy(&target, thread, out, err);
        }
        out->stop_ns = tt_clock_now() - stopped.since_ns;
        tt_inject_resume(&stopped);
        if (thread || tries >= TRIES)
            break;
        const struct timespec pause = {0, 1000000};
        nanosleep(&pause, NULL);
    }
    if (out->copy == 0 && code == 0)
        code = tt_error_set(err, -EAGAIN,
                            "cannot copy process %d: all its threads are in restartable sequences "
                            "or on stacks of their own making; try again",
                            (int)pid);
    if (code && out->copy > 0) {
        struct tt_error ignored;
        tt_inject_thaw(out, &ignored);
    }
    if (code)
        tt_vec_free(&out->threads);
out:
    tt_target_close(&target);
    return code;
}

int tt_inject_thaw(struct tt_inject_frozen *frozen, struct tt_error *err)
{
    siginfo_t si;
    struct tt_target target;
    int code = 0;
    pid_t copy_pid = frozen->copy;
    tt_vec_free(&frozen->threads);
    frozen->copy = 0;
    if (copy_pid <= 0)
        return 0;
    kill(copy_pid, SIGKILL);
    /* As its tracer we are told first; then it is the target's to reap. */
    while (waitid(P_PID, (id_t)copy_pid, &si, WEXITED | __WALL) != 0 && errno == EINTR)
        ;
    if (frozen->copy_inside <= 0 || kill(frozen->target, 0) != 0)
        return 0;
    code = tt_target_open(frozen->target, &target, err);
    if (code)
        return code == -ESRCH ? 0 : code;
    code = reap(&target, frozen->copy_inside, err);
    tt_target_close(&target);
    return code == -ESRCH ? 0 : code;
}

/* /proc/PID/stat: parent, state, exit signal and status of a process. */
static bool left_copy(pid_t pid, pid_t target)
{
    char path[64], text[1024], state;
    int parent, exit_signal;
    unsigned status;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = '\0';
    const char *rest = strrchr(text, ')');
    /* Fields 3, 4, 38 and 52 of proc_pid_stat(5). */
    /* NOLINTNEXTLINE(cert-err34-c): the kernel writes no number that does not fit */
    if (!rest || sscanf(rest + 1,
                        " %c %d %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
                        "%*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %d "
                        "%*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %u",
                        &state, &parent, &exit_signal, &status) != 4)
        return false;
    return state == 'Z' && parent == (int)target && exit_signal == 0 &&
           (status == SIGKILL || status == TT_COPY_EXIT << 8);
}

/* The pid in the innermost namespace. */
static pid_t inside(pid_t pid)
{
    char path[64], line[256];
    pid_t found = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "NSpid:", 6) == 0) {
            const char *last = strrchr(line, '\t');
            found = last ? (pid_t)strtol(last + 1, NULL, 10) : 0;
        }
    if (f)
        fclose(f);
    return found;
}

unsigned tt_freeze_reap_left(struct tt_target *target)
{
    tt_proc_pid_vec all = {0};
    unsigned reaped = 0;
    if (tt_proc_list(0, &all) != 0)
        return 0;
    for (size_t i = 0; i < all.len; i++) {
        struct tt_error ignored;
        pid_t in = left_copy(all.data[i], target->pid) ? inside(all.data[i]) : 0;
        if (in > 0 && reap(target, in, &ignored) == 0)
            reaped++;
    }
    tt_vec_free(&all);
    return reaped;
}
