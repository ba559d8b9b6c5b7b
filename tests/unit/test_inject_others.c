/* SPDX-License-Identifier: Apache-2.0 */
/* Attach among other processes: a controller that is killed at any moment, a second telltale, what
 * is refused and in which words, and processes that are built in unusual ways. Start: main's table.
 */
#include "test_inject_code.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "inject/internal.h"
#include "agent/filter.h"
#include "test_inject_target.h"

/* The controller is killed at random moments of attaching and detaching. */
static void death_while_attaching_harms_nobody(void **state)
{
    (void)state;
    NEEDS_PTRACE();
    struct tt_target_report *report;
    struct code before;
    unsigned seed = 20261121;
    pid_t pid = tt_target_spawn(TT_WORK_MALLOC | TT_WORK_FLOAT | TT_WORK_SLEEPS, &report);
    read_code(pid, &before);
    for (int i = 0; i < 200; i++) {
        pid_t controller = fork();
        if (controller == 0) {
            for (;;) {
                struct tt_inject_attached a;
                struct tt_inject_detached d;
                if (attach(pid, &a) || detach(pid, &d))
                    _exit(1);
                let_go(&a);
            }
        }
        const struct timespec pause = {0, 1000000 + rand_r(&seed) % 9000000};
        nanosleep(&pause, NULL);
        kill(controller, SIGKILL);
        int status;
        assert_int_equal(waitpid(controller, &status, 0), controller);
        if (!WIFSIGNALED(status))
            fail_msg("controller failed in round %d", i);
        if (i % 32 == 0)
            tt_target_await(pid, report, 1);
    }
    struct tt_inject_detached d;
    assert_int_equal(detach(pid, &d), 0);
    expect_code(pid, &before);
    /* A sleep whose thread was left in the middle of a call for us begins again (remote.c). */
    report->eintr = report->overslept = 0;
    tt_target_finish(pid, report);
}

static bool telltale_holds(pid_t pid)
{
    struct tt_inject_attached a;
    return attach(pid, &a) == 0;
}

static bool tracer_holds(pid_t pid)
{
    return ptrace(PTRACE_SEIZE, pid, 0, 0) == 0;
}

/* A process that has taken hold of `pid` and waits to be killed. */
static pid_t hold_by(bool (*holds)(pid_t), pid_t pid)
{
    int ready[2];
    char c;
    assert_int_equal(pipe(ready), 0);
    pid_t other = fork();
    if (other == 0) {
        if (!holds(pid))
            _exit(1);
        (void)!write(ready[1], "r", 1);
        pause();
        _exit(0);
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &c, 1), 1);
    close(ready[0]);
    return other;
}

static void one_telltale_at_a_time(void **state)
{
    (void)state;
    NEEDS_PTRACE();
    struct tt_target_report *report;
    pid_t pid = tt_target_spawn(TT_WORK_MALLOC, &report);
    pid_t other = hold_by(telltale_holds, pid);
    struct tt_inject_attached a;
    struct tt_inject_detached d;
    struct tt_error err = {0};
    assert_int_equal(tt_inject_attach(pid, &options, &a, &err), -EBUSY);
    assert_non_null(strstr(err.text, "another telltale"));
    assert_int_equal(tt_inject_detach(pid, false, &d, &err), -EBUSY);
    kill(other, SIGKILL);
    assert_int_equal(waitpid(other, NULL, 0), other);
    /* What a dead one left is taken over. */
    assert_int_equal(attach(pid, &a), 0);
    assert_true(a.reused);
    assert_int_equal(detach(pid, &d), 0);
    assert_int_equal(d.restored, a.entries);
    let_go(&a);
    tt_target_finish(pid, report);
}

static void expect_refusal(pid_t pid, int code, const char *words)
{
    struct tt_inject_attached a;
    struct tt_error err = {0};
    assert_int_equal(tt_inject_attach(pid, &options, &a, &err), code);
    if (!strstr(err.text, words))
        fail_msg("'%s' does not say '%s'", err.text, words);
    assert_null(strchr(err.text, '\n'));
}

static void what_cannot_be_attached_is_said(void **state)
{
    (void)state;
    NEEDS_PTRACE();
    expect_refusal(2, -EOPNOTSUPP, "part of the kernel");
    expect_refusal(getpid(), -EINVAL, "no such target");
    expect_refusal(0x3fffff, -ESRCH, "none of that number");

    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    siginfo_t si;
    assert_int_equal(waitid(P_PID, (id_t)pid, &si, WEXITED | WNOWAIT), 0);
    expect_refusal(pid, -ESRCH, "has ended");
    assert_int_equal(waitpid(pid, NULL, 0), pid);

    /* A peer traces it. */
    struct tt_target_report *report;
    pid = tt_target_spawn(TT_WORK_MALLOC, &report);
    pid_t peer = hold_by(tracer_holds, pid);
    expect_refusal(pid, -EPERM, "traces it");
    kill(peer, SIGKILL);
    assert_int_equal(waitpid(peer, NULL, 0), peer);

    /* A thread's number instead of the process's. */
    tt_proc_pid_vec threads = {0};
    assert_int_equal(tt_proc_list(pid, &threads), 0);
    for (size_t i = 0; i < threads.len; i++)
        if (threads.data[i] != pid)
            expect_refusal(threads.data[i], -ESRCH, "it is a thread of process");
    tt_vec_free(&threads);
    tt_target_finish(pid, report);
}

/* A child that has come as far as its first write to descriptor 100. */
static pid_t run(void (*work)(void))
{
    int ready[2];
    char c;
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(ready[0]);
        dup2(ready[1], 100);
        work();
        _exit(0);
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &c, 1), 1);
    close(ready[0]);
    return pid;
}

static void end(pid_t pid)
{
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void allocate_for_ever(void)
{
    (void)!write(100, "r", 1);
    for (;;) {
        void *volatile p = malloc(100);
        usleep(200);
        free(p);
    }
}

static void strictly(void)
{
    (void)!write(100, "r", 1);
    syscall(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0);
    for (;;)
        __asm__ volatile("");
}

static void *leaderless(void *arg)
{
    allocate_for_ever();
    return arg;
}

static void without_leader(void)
{
    pthread_t t;
    pthread_create(&t, NULL, leaderless, NULL);
    syscall(SYS_exit, 0);
}

/* Answers two system calls with an action and allows all others. */
static void filter(uint32_t first, uint32_t second, uint32_t action)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, first, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, second, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, action),
    };
    struct sock_fprog program = {sizeof code / sizeof code[0], code};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
    allocate_for_ever();
}

/* What the agent's start needs, but no allocator. */
static void filtered(void)
{
    filter(SYS_ftruncate, SYS_memfd_create, SECCOMP_RET_KILL_PROCESS);
}

static void without_mprotect(void)
{
    filter(SYS_mprotect, SYS_mprotect, SECCOMP_RET_KILL_PROCESS);
}

static void trapped(void)
{
    filter(SYS_ftruncate, SYS_madvise, SECCOMP_RET_TRAP);
}

static void denied(void)
{
    filter(SYS_mprotect, SYS_madvise, SECCOMP_RET_ERRNO | EPERM);
}

static void attach_and_detach(pid_t pid)
{
    struct tt_inject_attached a;
    struct tt_inject_detached d;
    assert_int_equal(attach(pid, &a), 0);
    assert_int_equal(detach(pid, &d), 0);
    assert_int_equal(d.restored, a.entries);
    assert_int_equal(kill(pid, 0), 0);
    let_go(&a);
    end(pid);
}

static void filters_that_would_end_it(void **state)
{
    (void)state;
    NEEDS_PTRACE();
    if (geteuid() != 0)
        return; /* taking a filter off for the start needs CAP_SYS_ADMIN */
    attach_and_detach(run(filtered));
    attach_and_detach(run(denied));
    pid_t pid = run(without_mprotect);
    expect_refusal(pid, -EOPNOTSUPP, "its seccomp filter ends it for mprotect");
    end(pid);
    pid = run(trapped);
    expect_refusal(pid, -EOPNOTSUPP, "its seccomp filter ends it for madvise");
    end(pid);
}

/* Each instruction changes the answer; see linux/filter.h for the machine. */
static void a_filter_is_run_as_the_kernel_does(void **state)
{
    (void)state;
    const struct seccomp_data data = {.nr = 7, .args = {0x1122334455667788, 40}};
    const uint32_t low = offsetof(struct seccomp_data, args);
    const struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, low),          /* 55667788 */
        BPF_STMT(BPF_ST, 3),                              /* kept in memory */
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, low + 4),      /* 11223344 */
        BPF_STMT(BPF_MISC | BPF_TAX, 0),                  /* x is it */
        BPF_STMT(BPF_LD | BPF_MEM, 3),                    /* 55667788 */
        BPF_STMT(BPF_ALU | BPF_SUB | BPF_X, 0),           /* 44444444 */
        BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 24),          /* 44 */
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x40, 1, 0), /* is set: over the next */
        BPF_STMT(BPF_RET | BPF_K, 1),                     /* */
        BPF_STMT(BPF_ALU | BPF_MUL | BPF_K, 3),           /* cc */
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, 0xcc, 0, 1),  /* it is not greater */
        BPF_STMT(BPF_RET | BPF_K, 2),                     /* */
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0xcc, 0, 1),  /* but as great */
        BPF_JUMP(BPF_JMP | BPF_JA, 1, 0, 0),              /* over one more */
        BPF_STMT(BPF_RET | BPF_K, 3),                     /* */
        BPF_STMT(BPF_ALU | BPF_DIV | BPF_K, 4),           /* 33 */
        BPF_STMT(BPF_ALU | BPF_NEG, 0),                   /* ffffffcd */
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xff00ff),    /* ff00cd */
        BPF_STMT(BPF_ALU | BPF_OR | BPF_K, 0x100),        /* ff01cd */
        BPF_STMT(BPF_ALU | BPF_XOR | BPF_K, 1),           /* ff01cc */
        BPF_STMT(BPF_ALU | BPF_LSH | BPF_K, 4),           /* ff01cc0 */
        BPF_STMT(BPF_LDX | BPF_W | BPF_LEN, 0),           /* x is 64 */
        BPF_STMT(BPF_ALU | BPF_ADD | BPF_X, 0),           /* ff01d00 */
        BPF_STMT(BPF_STX, 15),                            /* */
        BPF_STMT(BPF_LDX | BPF_MEM, 15),                  /* */
        BPF_STMT(BPF_ALU | BPF_ADD | BPF_X, 0),           /* ff01d40 */
        BPF_STMT(BPF_RET | BPF_A, 0),
    };
    size_t n = sizeof code / sizeof code[0];
    assert_int_equal(tt_filter_run(code, n, &data), 0xff01d40);
    assert_int_equal(tt_filter_run(code, n - 1, &data), SECCOMP_RET_KILL_PROCESS); /* no end */
    const struct sock_filter nothing[] = {BPF_STMT(BPF_LD | BPF_IMM, 9),
                                          BPF_STMT(BPF_ALU | BPF_DIV | BPF_X, 0),
                                          BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    assert_int_equal(tt_filter_run(nothing, 3, &data), 0); /* divided by x, 0 */
}

static void in_a_namespace(void)
{
    if (unshare(CLONE_NEWPID | CLONE_NEWNS) != 0) {
        (void)!write(100, "r", 1);
        _exit(77);
    }
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        allocate_for_ever();
    }
    waitpid(pid, NULL, 0);
}

/* Waits until a line of /proc/PID/status begins with `line`. */
static void await_status(pid_t pid, const char *line)
{
    char path[64], text[256];
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    for (bool seen = false; !seen; usleep(1000)) {
        FILE *f = fopen(path, "re");
        assert_non_null(f);
        while (!seen && fgets(text, sizeof text, f))
            seen = strncmp(text, line, strlen(line)) == 0;
        fclose(f);
    }
}

static void unusual_processes(void **state)
{
    (void)state;
    NEEDS_PTRACE();
    pid_t pid = run(without_leader);
    await_status(pid, "State:\tZ");
    expect_refusal(pid, -EOPNOTSUPP, "its first thread has ended");
    end(pid);

    pid = run(strictly);
    await_status(pid, "Seccomp:\t1");
    expect_refusal(pid, -EOPNOTSUPP, "strict seccomp");
    end(pid);

    struct tt_inject_attached a;
    struct tt_inject_detached d;
    if (geteuid() != 0)
        return;
    pid = run(in_a_namespace);
    tt_proc_pid_vec all = {0};
    pid_t inner = 0;
    bool zombie;
    assert_int_equal(tt_proc_list(0, &all), 0);
    for (size_t i = 0; i < all.len; i++)
        if (tt_proc_parent(all.data[i], &zombie) == pid)
            inner = all.data[i];
    tt_vec_free(&all);
    if (inner) { /* else namespaces are not allowed here */
        assert_int_equal(attach(inner, &a), 0);
        while (counted(&a, TT_E_MALLOC) <= 1)
            usleep(1000);
        struct tt_inject_frozen frozen;
        struct tt_error err = {0};
        assert_int_equal(tt_inject_freeze(inner, &frozen, &err), 0);
        assert_true(frozen.copy_inside != frozen.copy);
        assert_int_equal(tt_inject_thaw(&frozen, &err), 0);
        assert_int_equal(detach(inner, &d), 0);
        assert_int_equal(d.restored, a.entries);
        let_go(&a);
    }
    end(pid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(death_while_attaching_harms_nobody),
        cmocka_unit_test(one_telltale_at_a_time),
        cmocka_unit_test(what_cannot_be_attached_is_said),
        cmocka_unit_test(unusual_processes),
        cmocka_unit_test(filters_that_would_end_it),
        cmocka_unit_test(a_filter_is_run_as_the_kernel_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
