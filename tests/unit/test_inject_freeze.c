/* SPDX-License-Identifier: Apache-2.0 */
/* Stopping, borrowing a thread and freezing a copy, on targets that notice. Start: main's table. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "inject/attach.h"
#include "inject/internal.h"
#include "test_inject_target.h"

static int stop_and_go(pid_t pid)
{
    struct tt_stopped stopped;
    struct tt_error err = {0};
    int code = tt_inject_stop(pid, &stopped, &err);
    if (code == 0)
        tt_inject_resume(&stopped);
    else
        fprintf(stderr, "%s\n", err.text);
    return code;
}

static void stops_are_not_seen_as_eintr(void **state)
{
    (void)state;
    NEEDS_PTRACE();
    struct tt_target_report *report;
    pid_t pid = tt_target_spawn(TT_WORK_WAITS | TT_WORK_SLEEPS, &report);
    for (int i = 0; i < 3000; i++) {
        assert_int_equal(stop_and_go(pid), 0);
        if (i % 64 == 0) /* calls must get to their timeouts between stops */
            tt_target_await(pid, report, 1);
    }
    tt_target_finish(pid, report);
}

static void signals_get_through_stops(void **state)
{
    (void)state;
    NEEDS_PTRACE();
    struct tt_target_report *report;
    pid_t pid = tt_target_spawn(TT_WORK_MALLOC | TT_WORK_SIGNALS | TT_WORK_CHILDREN, &report);
    for (int i = 0; i < 500; i++)
        assert_int_equal(stop_and_go(pid), 0);
    tt_target_finish(pid, report);
}

/* One remote call of each kind that needs no memory of ours. */
static int borrow(pid_t pid, int64_t *result)
{
    struct tt_target target;
    struct tt_stopped one;
    struct tt_remote remote;
    struct tt_error err = {0};
    int code = tt_target_open(pid, &target, &err);
    if (code == 0 && (code = tt_remote_stop(&target, &one, &err)) == 0) {
        code = tt_remote_begin(&remote, &target, &one.threads.data[0], 0, &err);
        if (code == 0)
            code = tt_remote_syscall(&remote, SYS_getpid, (uint64_t[6]){0}, result, NULL, &err);
        if (code == 0)
            code = tt_remote_end(&remote, &err);
        tt_inject_resume(&one);
    }
    if (code)
        fprintf(stderr, "%s\n", err.text);
    tt_target_close(&target);
    return code;
}

static void a_borrowed_thread_notices_nothing(void **state)
{
    (void)state;
    NEEDS_PTRACE();
    struct tt_target_report *report;
    static const unsigned works[] = {TT_WORK_SLEEPS | TT_WORK_WAITS, TT_WORK_FLOAT,
                                     TT_WORK_MALLOC | TT_WORK_SIGNALS | TT_WORK_CHILDREN};
    for (size_t k = 0; k < sizeof works / sizeof works[0]; k++) {
        pid_t pid = tt_target_spawn(works[k], &report);
        for (int i = 0; i < 200; i++) {
            int64_t result = 0;
            assert_int_equal(borrow(pid, &result), 0);
            assert_int_equal(result, pid);
            if (i % 32 == 0)
                tt_target_await(pid, report, 1);
        }
        tt_target_finish(pid, report);
    }
}

/* The only thread computes all the time, vector registers live, or sits in one long call. */
static void a_single_thread_can_be_borrowed(void **state)
{
    (void)state;
    NEEDS_PTRACE();
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            __asm__ volatile("");
    }
    int64_t result = 0;
    assert_int_equal(borrow(pid, &result), 0);
    assert_int_equal(result, pid);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void a_copy_is_frozen_and_thawed_unseen(void **state)
{
    (void)state;
    NEEDS_PTRACE();
    struct tt_target_report *report;
    pid_t pid = tt_target_spawn(TT_WORK_MALLOC | TT_WORK_WAITS | TT_WORK_CHILDREN, &report);
    for (int i = 0; i < 60; i++) {
        struct tt_inject_frozen frozen;
        struct tt_error err = {0};
        int code = tt_inject_freeze(pid, &frozen, &err);
        if (code)
            fail_msg("%s", err.text);
        assert_true(frozen.copy > 0 && frozen.copy_inside == frozen.copy);
        assert_true(frozen.threads.len >= 9);
        /* The copy has the same memory, and it stays what it was while the target goes on. */
        char path[64];
        uint64_t word[2];
        snprintf(path, sizeof path, "/proc/%d/mem", (int)frozen.copy);
        int mem = open(path, O_RDONLY | O_CLOEXEC);
        assert_true(mem >= 0);
        off_t at = (off_t)frozen.threads.data[0].regs.rsp;
        assert_int_equal(pread(mem, &word[0], 8, at), 8);
        tt_target_await(pid, report, 1);
        assert_int_equal(pread(mem, &word[1], 8, at), 8);
        assert_int_equal(word[0], word[1]);
        close(mem);
        code = tt_inject_thaw(&frozen, &err);
        if (code)
            fail_msg("%s", err.text);
    }
    tt_target_finish(pid, report);
}

/* The controller is killed at random moments while it freezes, borrows and thaws. */
static void death_of_the_controller_harms_nobody(void **state)
{
    (void)state;
    NEEDS_PTRACE();
    struct tt_target_report *report;
    unsigned seed = 20261121;
    static const unsigned works[] = {TT_WORK_MALLOC | TT_WORK_WAITS | TT_WORK_CHILDREN,
                                     TT_WORK_FLOAT, TT_WORK_SLEEPS};
    for (size_t k = 0; k < sizeof works / sizeof works[0]; k++) {
        pid_t pid = tt_target_spawn(works[k] & ~(unsigned)TT_WORK_CHILDREN, &report);
        for (int i = 0; i < 150; i++) {
            pid_t controller = fork();
            if (controller == 0) {
                for (;;) {
                    struct tt_inject_frozen frozen;
                    struct tt_error err = {0};
                    if (i % 2) {
                        int64_t result;
                        if (borrow(pid, &result))
                            _exit(1);
                    } else if (tt_inject_freeze(pid, &frozen, &err) ||
                               tt_inject_thaw(&frozen, &err)) {
                        fprintf(stderr, "%s\n", err.text);
                        _exit(1);
                    }
                }
            }
            const struct timespec pause = {0, 1000000 + rand_r(&seed) % 5000000};
            nanosleep(&pause, NULL);
            kill(controller, SIGKILL);
            int status;
            assert_int_equal(waitpid(controller, &status, 0), controller);
            assert_true(WIFSIGNALED(status));
        }
        tt_target_await(pid, report, 2);
        /* Copies died with their controller; what is left of them can be reaped. */
        struct tt_target target;
        struct tt_error err = {0};
        assert_int_equal(tt_target_open(pid, &target, &err), 0);
        tt_freeze_reap_left(&target);
        assert_int_equal(tt_freeze_reap_left(&target), 0);
        tt_target_close(&target);
        /* Killed between the stop of a thread and our putting its call right, EINTR is seen, as
         * after SIGSTOP and SIGCONT: the one thing that cannot be undone by the dead. */
        report->eintr = report->overslept = 0; /* and a sleep may begin again */
        tt_target_finish(pid, report);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stops_are_not_seen_as_eintr),
        cmocka_unit_test(signals_get_through_stops),
        cmocka_unit_test(a_borrowed_thread_notices_nothing),
        cmocka_unit_test(a_single_thread_can_be_borrowed),
        cmocka_unit_test(a_copy_is_frozen_and_thawed_unseen),
        cmocka_unit_test(death_of_the_controller_harms_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
