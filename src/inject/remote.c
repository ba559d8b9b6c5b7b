/* SPDX-License-Identifier: Apache-2.0 */
/* Borrowing a stopped thread of the target for system calls and calls of our code. It must survive
 * our death at any moment, so it never runs code that needs us: it enters "syscall; ret" (or a
 * function) with rsp at a signal frame as the kernel builds one, whose return address is the
 * "mov $15,%eax; syscall" of signal handlers and whose registers are the thread's own. Left alone
 * it does the call, returns into rt_sigreturn(2), and is where it was; a system call that our stop
 * interrupted is made again. As long as we live we give it its registers by ptrace instead, which
 * also keeps what the kernel knows of an interrupted sleep. Single-stepping is never used: its
 * SIGTRAP would kill a thread whose tracer is gone.
 * Frame: struct rt_sigframe of arch/x86/include/asm/sigframe.h. Start: tt_remote_begin. */
#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>

#include "agent/blob.h"
#include "base/clock.h"
#include "inject/internal.h"

#define RED_ZONE 128u
#define XSTATE_MOST 0x3000u

/* arch/x86/include/uapi/asm/{ucontext,sigcontext}.h */
#define UC_FP_XSTATE 1u
#define UC_SIGCONTEXT_SS 2u
#define UC_STRICT_RESTORE_SS 4u
#define SW_RESERVED 464u /* in the fxsave area */
#define SS_INVALID 0x10u /* a mode that sigaltstack(2) refuses: the thread keeps what it has */

struct sigframe {
    uint64_t back; /* return address of the call */
    uint64_t uc_flags, uc_link;
    uint64_t ss_sp;
    uint32_t ss_flags, ss_pad;
    uint64_t ss_size;
    uint64_t r8, r9, r10, r11, r12, r13, r14, r15, di, si, bp, bx, dx, ax, cx, sp, ip, flags;
    uint16_t cs, gs, fs, ss;
    uint64_t err, trapno, oldmask, cr2, fpstate, reserved[8];
    uint64_t mask;
    uint8_t info[128];
};

struct fpx_sw_bytes {
    uint32_t magic1, extended_size;
    uint64_t xfeatures;
    uint32_t xstate_size, padding[7];
};

/* Left blocked these would, when they are the thread's own fault, lose the program's handler. */
static uint64_t mask_of_call(void)
{
    uint64_t open = 0;
    static const int keep[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS};
    for (size_t i = 0; i < sizeof keep / sizeof keep[0]; i++)
        open |= 1ULL << (keep[i] - 1);
    return ~open;
}

int tt_remote_frame(const struct tt_target *target, uint64_t at, const struct user_regs_struct *own,
                    uint64_t mask, const void *xstate, size_t n)
{
    uint8_t bytes[TT_REMOTE_FRAME];
    struct sigframe f = {
        .back = target->sigreturn,
        .uc_flags = UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS | (n ? UC_FP_XSTATE : 0),
        .ss_flags = SS_INVALID,
        .r8 = own->r8,
        .r9 = own->r9,
        .r10 = own->r10,
        .r11 = own->r11,
        .r12 = own->r12,
        .r13 = own->r13,
        .r14 = own->r14,
        .r15 = own->r15,
        .di = own->rdi,
        .si = own->rsi,
        .bp = own->rbp,
        .bx = own->rbx,
        .dx = own->rdx,
        .ax = own->rax,
        .cx = own->rcx,
        .sp = own->rsp,
        .ip = own->rip,
        .flags = own->eflags,
        .cs = (uint16_t)own->cs,
        .ss = (uint16_t)own->ss,
        .mask = mask,
    };
    if (tt_inject_restarts(own)) { /* the same call with the same arguments */
        f.ax = own->orig_rax;
        f.ip -= 2;
    }
    uint64_t fp = (at + sizeof f + 63) & ~63ULL;
    size_t skip = (size_t)(fp - at), total = n ? skip + n + 4 : sizeof f;
    if (total > sizeof bytes)
        return -E2BIG;
    memset(bytes, 0, total);
    if (n) {
        struct fpx_sw_bytes sw = {.magic1 = FP_XSTATE_MAGIC1,
                                  .extended_size = (uint32_t)n + 4,
                                  .xstate_size = (uint32_t)n};
        const uint32_t end = FP_XSTATE_MAGIC2;
        f.fpstate = fp;
        memcpy(bytes + skip, xstate, n);
        memcpy(&sw.xfeatures, bytes + skip + SW_RESERVED, 8); /* xcr0, as ptrace puts it there */
        memcpy(bytes + skip + SW_RESERVED, &sw, sizeof sw);
        memcpy(bytes + skip + n, &end, 4);
    }
    memcpy(bytes, &f, sizeof f);
    int code = tt_target_write(target, at, bytes, total);
    return code ? code : (int)total;
}

/* ---- which thread ---- */

/* rseq(2): a thread inside a critical section that is taken elsewhere is not sent to the abort
 * handler of the section, and would go on in it when it comes back. No system call is made there.
 */
static bool in_restartable_sequence(const struct tt_target *t, const struct tt_stopped_thread *th)
{
    struct {
        uint64_t pointer;
        uint32_t size, signature, flags, pad;
    } conf = {0};
    uint64_t section;
    struct {
        uint32_t version, flags;
        uint64_t start, length, abort;
    } cs;
    if ((int64_t)th->regs.orig_rax >= 0)
        return false;
    if (ptrace(0x420f /* PTRACE_GET_RSEQ_CONFIGURATION, Linux 5.13 */, th->tid, sizeof conf,
               &conf) < 0)
        return true; /* it cannot be known */
    if (!conf.pointer)
        return false;
    if (tt_target_read(t, conf.pointer + 8, &section, 8))
        return true;
    if (!section)
        return false;
    return tt_target_read(t, section, &cs, sizeof cs) != 0 || th->regs.rip - cs.start < cs.length;
}

/* An ordinary stack: the first thread's, or one with a guard below it (pthread_create(3)). Others,
 * of coroutines and the like, may end right below rsp, in somebody's data. */
static bool on_ordinary_stack(const struct tt_target *t, uint64_t sp)
{
    const struct tt_proc_map *m = tt_proc_map_at(&t->maps, sp);
    if (!m || !m->write)
        return false;
    if (strcmp(tt_proc_map_path(&t->maps, m), "[stack]") == 0)
        return true;
    const struct tt_proc_map *below = tt_proc_map_at(&t->maps, m->start - 1);
    return !m->shared && below && !below->read && !below->write && !below->exec &&
           sp - m->start >= 2 * TT_REMOTE_FRAME + 4096;
}

bool tt_remote_suits(const struct tt_target *target, const struct tt_stopped_thread *thread)
{
    const struct user_regs_struct *r = &thread->regs;
    return r->cs == 0x33 && on_ordinary_stack(target, r->rsp) &&
           !in_restartable_sequence(target, thread);
}

#define LOOK_NS 10000ULL
#define SPIN_LOOKS 8u
#define TRIES 40
#define CANDIDATES 8

enum { COMPUTES, WAITS, RESTS };

/* Whether a thread waits in a system call: such a one stops at once, and its work is not delayed.
 */
static int waits(pid_t pid, pid_t tid)
{
    long number = tt_target_syscall(pid, tid, NULL, NULL);
    return number < 0 ? COMPUTES : tt_target_rests(number) ? RESTS : WAITS;
}

/* 1 stopped, 0 none suits, or a negative errno. */
static int stop_waiting_thread(const struct tt_target *target, struct tt_stopped *out,
                               struct tt_error *err)
{
    tt_proc_pid_vec threads = {0};
    int code = tt_proc_list(target->pid, &threads), found = 0;
    if (code)
        return tt_target_explain(target->pid, code, err);
    for (size_t k = 0, tried = 0;
         threads.len && k < 2 * threads.len && !found && tried < CANDIDATES; k++) {
        size_t i = k % threads.len;
        if (waits(target->pid, threads.data[i]) != (k < threads.len ? RESTS : WAITS))
            continue;
        tried++;
        code = tt_inject_stop_one(target->pid, threads.data[i], out, err);
        if (code && threads.data[i] != target->pid && code != -ETIMEDOUT)
            continue; /* it is exiting */
        if (code)
            found = code;
        else if (tt_remote_suits(target, &out->threads.data[0]))
            found = 1;
        else
            tt_inject_resume(out);
    }
    tt_vec_free(&threads);
    return found;
}

const struct tt_stopped_thread *tt_remote_choose(const struct tt_target *target,
                                                 const struct tt_stopped *stopped)
{
    for (int computing = 0; computing < 2; computing++)
        for (size_t i = 0; i < stopped->threads.len; i++) {
            const struct tt_stopped_thread *t = &stopped->threads.data[i];
            if ((computing || (int64_t)t->regs.orig_rax >= 0) && tt_remote_suits(target, t))
                return t;
        }
    return NULL;
}

/* Where all compute, each step of a borrowed one would wait for its turn on a processor (seconds
 * with 64 threads on two): then all stand still for the time. */
int tt_remote_stop(const struct tt_target *target, struct tt_stopped *out, struct tt_error *err)
{
    for (int round = 0; round < TRIES; round++) {
        const struct timespec pause = {0, 1000000};
        int code = stop_waiting_thread(target, out, err);
        if (code)
            return code < 0 ? code : 0;
        if ((code = tt_inject_stop(target->pid, out, err)) != 0)
            return code;
        const struct tt_stopped_thread *t = tt_remote_choose(target, out);
        if (t) {
            struct tt_stopped_thread first = out->threads.data[0];
            out->threads.data[0] = *t;
            out->threads.data[t - out->threads.data] = first;
            return 0;
        }
        tt_inject_resume(out);
        nanosleep(&pause, NULL);
    }
    return tt_error_set(err, -EAGAIN,
                        "cannot use any thread of process %d: all are in restartable sequences or "
                        "on stacks of their own making; try again",
                        (int)target->pid);
}

/* ---- one call ---- */

int tt_remote_begin(struct tt_remote *remote, const struct tt_target *target,
                    const struct tt_stopped_thread *thread, uint64_t frame_end,
                    struct tt_error *err)
{
    uint8_t xstate[XSTATE_MOST];
    struct iovec io = {xstate, sizeof xstate};
    *remote = (struct tt_remote){.target = target, .tid = thread->tid, .own = thread->regs};
    if (ptrace(PTRACE_GETREGSET, remote->tid, (void *)NT_X86_XSTATE, &io) != 0 ||
        ptrace(PTRACE_GETSIGMASK, remote->tid, 8, &remote->mask) != 0)
        return tt_target_explain(target->pid, -errno, err);
    if (io.iov_len >= sizeof xstate || io.iov_len < 576)
        return tt_error_set(err, -EOPNOTSUPP,
                            "cannot borrow a thread of process %d: its processor state has %zu "
                            "bytes",
                            (int)target->pid, io.iov_len);
    if (!frame_end)
        frame_end = thread->regs.rsp - RED_ZONE;
    remote->frame = ((frame_end - TT_REMOTE_FRAME + 64) & ~15ULL) - 8;
    int written =
        tt_remote_frame(target, remote->frame, &remote->own, remote->mask, xstate, io.iov_len);
    if (written < 0)
        return tt_error_sys(err, written, "cannot write to the memory of process %d",
                            (int)target->pid);
    long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE;
    if (target->sandboxed &&
        ptrace(PTRACE_SETOPTIONS, remote->tid, 0, options | PTRACE_O_SUSPEND_SECCOMP) == 0)
        return 0;
    if (target->sandboxed)
        return tt_error_set(err, -EOPNOTSUPP,
                            "cannot attach to process %d: it has a seccomp filter, and taking it "
                            "off for a moment needs CAP_SYS_ADMIN; run as root",
                            (int)target->pid);
    ptrace(PTRACE_SETOPTIONS, remote->tid, 0, options);
    return 0;
}

static int lost(struct tt_remote *remote, int code, struct tt_error *err)
{
    remote->moved = remote->exiting = remote->runs = false;
    return tt_target_explain(remote->target->pid, code, err);
}

/* Sends the thread to rip with these registers; until the next stop it is on its own. */
static int enter(struct tt_remote *remote, const struct user_regs_struct *regs)
{
    uint64_t mask = mask_of_call();
    if (ptrace(PTRACE_SETREGS, remote->tid, 0, regs) != 0)
        return -errno;
    /* Only now: dying in between leaves a thread that undoes its blocking itself. */
    if (!remote->moved)
        ptrace(PTRACE_SETSIGMASK, remote->tid, 8, &mask);
    remote->moved = true;
    return 0;
}

/* Runs to the next stop of the thread: the wait status, or a negative errno. Group stops are passed
 * through: they take effect again when the thread is let go. */
static int run(struct tt_remote *remote)
{
    for (;;) {
        if (ptrace(PTRACE_SYSCALL, remote->tid, 0, 0) != 0)
            return -errno;
        int status = tt_inject_await(remote->target->pid, remote->tid);
        if (status < 0 || status >> 8 != PTRACE_EVENT_STOP)
            return status;
    }
}

/* From a system-call stop into an event stop, without executing anything. */
static int settle(struct tt_remote *remote)
{
    for (;;) {
        ptrace(PTRACE_INTERRUPT, remote->tid, 0, 0);
        if (ptrace(PTRACE_CONT, remote->tid, 0, 0) != 0)
            return -errno;
        int status = tt_inject_await(remote->target->pid, remote->tid);
        if (status < 0 || status >> 8 == PTRACE_EVENT_STOP)
            return status < 0 ? status : 0;
    }
}

static struct user_regs_struct registers_for(const struct tt_remote *remote, uint64_t rip)
{
    struct user_regs_struct r = remote->own;
    r.rip = rip;
    r.rsp = remote->frame;
    r.orig_rax = (uint64_t)-1;
    r.eflags &= ~(uint64_t)0x500; /* direction and trap flags */
    return r;
}

static int fault(struct tt_remote *remote, int status, struct tt_error *err)
{
    struct tt_error ignored;
    tt_remote_end(remote, &ignored);
    return tt_error_set(err, -EFAULT,
                        "process %d: a borrowed thread got signal %d and was given back; the "
                        "process is as it was (report this)",
                        (int)remote->target->pid, status);
}

int tt_remote_syscall(struct tt_remote *remote, long number, const uint64_t args[6],
                      int64_t *result, pid_t *child, struct tt_error *err)
{
    struct user_regs_struct r = registers_for(remote, remote->target->syscall_ret);
    r.rax = (uint64_t)number;
    r.rdi = args[0];
    r.rsi = args[1];
    r.rdx = args[2];
    r.r10 = args[3];
    r.r8 = args[4];
    r.r9 = args[5];
    int code = enter(remote, &r);
    if (code)
        return lost(remote, code, err);
    for (bool inside = false;;) {
        int status = run(remote);
        if (status < 0)
            return lost(remote, status, err);
        if (status == (SIGTRAP | 0x80)) {
            inside = !inside;
            if (inside)
                continue;
            if (ptrace(PTRACE_GETREGS, remote->tid, 0, &r) != 0)
                return lost(remote, -errno, err);
            if (!tt_inject_restarts(&r)) /* else the kernel makes it again at once */
                break;
        } else if (status >> 8 == PTRACE_EVENT_CLONE || status >> 8 == PTRACE_EVENT_FORK) {
            unsigned long message = 0;
            ptrace(PTRACE_GETEVENTMSG, remote->tid, 0, &message);
            if (child)
                *child = (pid_t)message;
        } else {
            return fault(remote, status, err);
        }
    }
    remote->exiting = true;
    *result = (int64_t)r.rax;
    return 0;
}

/* Whether the thread, stopped, is still in the call: on the stack that it was sent to. */
static bool on_call(const struct tt_remote *remote)
{
    struct user_regs_struct r;
    return ptrace(PTRACE_GETREGS, remote->tid, 0, &r) == 0 &&
           remote->frame + 8 - r.rsp <= TT_BLOB_STACK;
}

/* Stops the thread, which runs. */
static int halt(struct tt_remote *remote)
{
    remote->runs = false;
    ptrace(PTRACE_INTERRUPT, remote->tid, 0, 0);
    for (;;) {
        int status = tt_inject_await(remote->target->pid, remote->tid);
        if (status < 0)
            return status;
        if (status >> 8 == PTRACE_EVENT_STOP)
            return 0;
        ptrace(PTRACE_INTERRUPT, remote->tid, 0, 0);
        if (ptrace(PTRACE_CONT, remote->tid, 0, (void *)(long)(status < 0x80 ? status : 0)) != 0)
            return -errno;
    }
}

int tt_remote_await(struct tt_remote *remote, uint64_t done, uint32_t value, struct tt_error *err)
{
    /* A start takes a tenth of a millisecond, and the processor that we would spin on may be the
     * one that a client of the process waits for. A look holds up the mappings that the thread
     * makes: not too many. */
    if (value == TT_BLOB_DONE)
        tt_inject_breathe();
    uint64_t begun = tt_clock_now();
    for (unsigned turn = 0;; turn++) {
        uint32_t is;
        uint64_t next = begun + turn * LOOK_NS;
        if (turn < SPIN_LOOKS)
            while (tt_inject_spins(next))
                ;
        else
            tt_inject_breathe();
        int code = tt_target_read(remote->target, done, &is, sizeof is);
        if (code == 0 && is == value)
            return 0;
        if (code == 0 && is == TT_BLOB_LEFT)
            return tt_error_set(err, -EAGAIN, "process %d went on before telltale got a processor",
                                (int)remote->target->pid);
        int status = code ? code : tt_inject_peek(remote->target->pid, remote->tid);
        if (status < 0)
            return lost(remote, status, err);
        if (status == 0)
            continue;
        if (status >> 8 != PTRACE_EVENT_STOP) {
            remote->runs = false;
            return fault(remote, status, err);
        }
        if (ptrace(PTRACE_CONT, remote->tid, 0, 0) != 0)
            return lost(remote, -errno, err);
    }
}

int tt_remote_call(struct tt_remote *remote, uint64_t function, uint64_t done, struct tt_error *err)
{
    struct user_regs_struct r = registers_for(remote, function);
    int code = enter(remote, &r);
    if (code == 0 && ptrace(PTRACE_CONT, remote->tid, 0, 0) != 0)
        code = -errno;
    if (code)
        return lost(remote, code, err);
    remote->runs = true;
    return tt_remote_await(remote, done, TT_BLOB_DONE, err);
}

int tt_remote_end(struct tt_remote *remote, struct tt_error *err)
{
    int code = 0;
    if (!remote->moved)
        return 0;
    if (remote->runs) {
        code = halt(remote);
        if (code == 0 && !on_call(remote)) { /* it has given itself its registers */
            remote->moved = false;
            return 0;
        }
    } else if (remote->exiting) {
        code = settle(remote);
    }
    remote->exiting = false;
    if (code)
        return lost(remote, code, err);
    /* In this order: dying in between leaves a thread that restores its registers itself. */
    if (ptrace(PTRACE_SETSIGMASK, remote->tid, 8, &remote->mask) != 0 ||
        ptrace(PTRACE_SETREGS, remote->tid, 0, &remote->own) != 0)
        return lost(remote, -errno, err);
    remote->moved = false;
    return 0;
}
