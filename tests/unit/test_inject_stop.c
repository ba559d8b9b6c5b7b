/* SPDX-License-Identifier: Apache-2.0 */
/* Which threads stand still for how long (src/inject/stop.c), and who is known without a stop to be
 * outside a piece of code (stacks.c). The process has one thread that answers, as a server's, and
 * threads that pause for ever. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "inject/internal.h"
#include "test_inject_target.h"

#define RESTING 20u
#define PIECE 0x7eadbeef0000ULL /* code that nobody has */

static void *resting(void *arg)
{
    for (;;)
        pause();
    return arg;
}

/* Its stack holds an address of PIECE, as a return address would stand there. */
__attribute__((no_sanitize("address"))) static void *returning(void *arg)
{
    volatile uint64_t words[8];
    for (size_t i = 0; i < 8; i++)
        words[i] = PIECE + 16;
    for (;;)
        pause();
    return words[0] ? arg : NULL;
}

static void *computing(void *arg)
{
    for (volatile uint64_t i = 0;; i++)
        ;
    return arg;
}

/* Answers each byte with the next one. */
static void answer(int s)
{
    uint8_t c;
    while (read(s, &c, 1) == 1) {
        c++;
        if (write(s, &c, 1) != 1)
            break;
    }
    _exit(0);
}

struct server {
    pid_t pid;
    int socket;
    struct tt_target target;
};

static void ask(const struct server *s)
{
    uint8_t c = 7;
    assert_int_equal(write(s->socket, &c, 1), 1);
    assert_int_equal(read(s->socket, &c, 1), 1);
    assert_int_equal(c, 8);
}

/* Waits until all threads but `busy` are in the system call they end up in. */
static void await_rest(const struct server *s, size_t threads, size_t busy)
{
    size_t asleep = 0;
    while (asleep != threads - busy) {
        tt_proc_pid_vec tids = {0};
        assert_int_equal(tt_proc_list(s->pid, &tids), 0);
        asleep = 0;
        for (size_t i = 0; i < tids.len; i++) {
            long number = tt_target_syscall(s->pid, tids.data[i], NULL, NULL);
            asleep += tids.data[i] == s->pid ? number == SYS_read : number == SYS_pause;
        }
        tt_vec_free(&tids);
        sched_yield();
    }
}

/* `found`: one of the resting threads returns to PIECE. */
static void spawn(struct server *s, bool found, bool busy)
{
    int ends[2];
    *s = (struct server){0};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    s->pid = fork();
    assert_true(s->pid >= 0);
    if (s->pid == 0) {
        pthread_t t;
        close(ends[0]); /* else nobody sees the end of the test */
        for (unsigned i = 0; i < RESTING; i++)
            if (pthread_create(&t, NULL, found && i == RESTING / 2 ? returning : resting, NULL) !=
                0)
                _exit(3);
        if (busy && pthread_create(&t, NULL, computing, NULL) != 0)
            _exit(3);
        answer(ends[1]);
    }
    close(ends[1]);
    s->socket = ends[0];
    ask(s);
    await_rest(s, RESTING + 1 + busy, busy);
    struct tt_error err;
    assert_int_equal(tt_target_open(s->pid, &s->target, &err), 0);
}

static void end(struct server *s)
{
    int status;
    ask(s);
    tt_target_close(&s->target);
    close(s->socket);
    assert_int_equal(waitpid(s->pid, &status, 0), s->pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void those_that_rest_are_told_apart(void **state)
{
    (void)state;
    NEEDS_PTRACE();
    struct server s;
    spawn(&s, false, false);
    for (int round = 0; round < 20; round++) {
        struct tt_stopped stopped;
        struct tt_error err;
        size_t rest = 0;
        assert_int_equal(tt_inject_stop(s.pid, &stopped, &err), 0);
        assert_int_equal(stopped.threads.len, RESTING + 1);
        for (size_t i = 0; i < stopped.threads.len; i++) {
            const struct tt_stopped_thread *t = &stopped.threads.data[i];
            assert_true(t->stopped);
            if (t->rests)
                assert_int_not_equal(t->tid, s.pid); /* it reads */
            rest += t->rests;
        }
        if (round == 0) /* later ones may be on their way back into the call */
            assert_int_equal(rest, RESTING);
        tt_inject_resume(&stopped);
        ask(&s);
    }
    await_rest(&s, RESTING + 1, 0); /* none was forgotten */
    end(&s);
}

static void resting_calls(void **state)
{
    (void)state;
    assert_true(tt_target_rests(SYS_futex));
    assert_true(tt_target_rests(SYS_clock_nanosleep));
    assert_false(tt_target_rests(SYS_read));
    assert_false(tt_target_rests(SYS_epoll_wait));
    assert_false(tt_target_rests(-1));
}

static void who_sleeps_elsewhere_is_clear(void **state)
{
    (void)state;
    NEEDS_PTRACE();
    static const struct tt_window piece = {PIECE, PIECE + 4096};
    static const struct {
        bool found, busy, clear;
    } cases[] = {{false, false, true}, {true, false, false}, {false, true, false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct server s;
        spawn(&s, cases[i].found, cases[i].busy);
        assert_int_equal(tt_stacks_clear(&s.target, &piece), cases[i].clear);
        end(&s);
    }
}

static void processors_are_kept_awake_or_left(void **state)
{
    (void)state;
    int awake = tt_inject_awake();
    assert_true(awake >= -1);
    tt_inject_drowse(awake);
    tt_inject_drowse(-1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(those_that_rest_are_told_apart),
        cmocka_unit_test(resting_calls),
        cmocka_unit_test(who_sleeps_elsewhere_is_clear),
        cmocka_unit_test(processors_are_kept_awake_or_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
