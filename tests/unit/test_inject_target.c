/* SPDX-License-Identifier: Apache-2.0 */
/* The target of the tests of attach and freeze. Start: tt_target_spawn. */
#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "test_inject_target.h"

static struct tt_target_report *own;
static unsigned own_work;

static uint64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void begin(void)
{
    __atomic_fetch_add(&own->started, 1, __ATOMIC_RELEASE);
}

__attribute__((noinline)) void tt_target_done(unsigned kind)
{
    __atomic_fetch_add(&own->rounds[kind], 1, __ATOMIC_RELAXED);
}

__attribute__((noinline)) void tt_target_done_end(void)
{
}

#define BLOCKS 64

static void check(const unsigned char *p, size_t n, unsigned char mark)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != mark) {
            __atomic_fetch_add(&own->wrong, 1, __ATOMIC_RELAXED);
            return;
        }
}

static void allocate(unsigned *seed, unsigned char **block, size_t *size)
{
    unsigned r = (unsigned)rand_r(seed), i = r % BLOCKS;
    size_t n = r / BLOCKS % 97 == 0 ? 200000 : 1 + r / BLOCKS % 700;
    unsigned char mark = (unsigned char)(i + 1);
    if (block[i] && r % 5 == 0) {
        unsigned char *p = realloc(block[i], n);
        if (!p)
            return;
        check(p, n < size[i] ? n : size[i], mark);
        block[i] = p;
    } else {
        if (block[i])
            check(block[i], size[i], mark);
        free(block[i]);
        if (r % 13 == 0)
            free(NULL);
        void *p = NULL;
        if (r % 7 == 0)
            p = calloc(1, n);
        else if (r % 11 == 0 && posix_memalign(&p, 64, n) != 0)
            p = NULL;
        block[i] = p ? p : malloc(n);
        if (!block[i])
            return;
    }
    if (r % 17 == 0 && (malloc_usable_size(block[i]) < n || malloc_usable_size(NULL) != 0))
        __atomic_fetch_add(&own->wrong, 1, __ATOMIC_RELAXED);
    size[i] = n;
    memset(block[i], mark, n);
}

static void *work_malloc(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg;
    unsigned char *block[BLOCKS] = {0};
    size_t size[BLOCKS] = {0};
    begin();
    while (!own->stop) {
        for (int i = 0; i < 100; i++)
            allocate(&seed, block, size);
        tt_target_done(0);
    }
    for (int i = 0; i < BLOCKS; i++)
        free(block[i]);
    return NULL;
}

typedef double v4 __attribute__((vector_size(32)));

static void *work_float(void *arg)
{
    (void)arg;
    begin();
    while (!own->stop) {
        v4 a = {1, 2, 3, 4}, b = {5, 6, 7, 8}, c = {0};
        for (int i = 0; i < 20000; i++) {
            c += a * b;
            __asm__ volatile("" : "+m"(c));
        }
        if (c[0] != 100000 || c[1] != 240000 || c[2] != 420000 || c[3] != 640000)
            __atomic_fetch_add(&own->wrong, 1, __ATOMIC_RELAXED);
        tt_target_done(1);
    }
    return NULL;
}

/* One call that waits a little. 0, or -1 with errno. */
static int wait_call(uintptr_t which, int *fds, int set)
{
    struct epoll_event event;
    struct sembuf op = {0, -1, 0};
    struct timespec some = {0, 30000000};
    sigset_t signals;
    char byte;
    ssize_t r;
    switch (which) {
    case 0:
        return epoll_wait(fds[0], &event, 1, 30) < 0 ? -1 : 0;
    case 1:
        r = semtimedop(set, &op, 1, &some);
        return r < 0 && errno != EAGAIN ? -1 : 0;
    case 2:
        sigemptyset(&signals);
        sigaddset(&signals, SIGUSR2);
        r = sigtimedwait(&signals, NULL, &some);
        return r < 0 && errno != EAGAIN ? -1 : 0;
    case 3:
        r = recv(fds[1], &byte, 1, 0);
        return r < 0 && errno != EAGAIN ? -1 : 0;
    case 4:
        return poll(NULL, 0, 30) < 0 ? -1 : 0;
    default:
        return nanosleep(&some, NULL);
    }
}
#define WAIT_CALLS 6u

static void *work_waits(void *arg)
{
    uintptr_t which = (uintptr_t)arg;
    int pair[2], fds[2] = {-1, -1}, set = -1;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    fds[0] = epoll_create1(EPOLL_CLOEXEC);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0) {
        struct timeval tv = {0, 30000};
        setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
        fds[1] = pair[0];
    }
    if (which == 1)
        set = semget(IPC_PRIVATE, 1, 0600);
    begin();
    while (!own->stop) {
        if (wait_call(which, fds, set) != 0) {
            own->eintr_call = which * 1000 + (uint64_t)errno;
            __atomic_fetch_add(&own->eintr, 1, __ATOMIC_RELAXED);
        }
        tt_target_done(2);
    }
    if (set >= 0)
        semctl(set, 0, IPC_RMID);
    return NULL;
}

static void *work_sleeps(void *arg)
{
    (void)arg;
    const struct timespec pause = {0, 200000000};
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    begin();
    while (!own->stop) {
        uint64_t start = now_ms();
        nanosleep(&pause, NULL);
        if (now_ms() - start > 30000 || now_ms() - start < 199)
            __atomic_fetch_add(&own->overslept, 1, __ATOMIC_RELAXED);
        tt_target_done(6);
    }
    return NULL;
}

static void on_timer(int n)
{
    (void)n;
    tt_target_done(3);
}

static uint64_t sigchlds, forks;
static void on_child(int n)
{
    (void)n;
    __atomic_fetch_add(&sigchlds, 1, __ATOMIC_RELAXED);
}

/* In the first thread: no SIGCHLD but those of its own children, and nobody else to wait for. */
static void work_children(void)
{
    begin();
    while (!own->stop) {
        forks++;
        pid_t child = fork();
        if (child == 0)
            _exit(3);
        int status;
        pid_t got;
        while ((got = wait(&status)) < 0 && errno == EINTR)
            ;
        if (got != child || !WIFEXITED(status) || WEXITSTATUS(status) != 3)
            __atomic_fetch_add(&own->strangers, 1, __ATOMIC_RELAXED);
        if (__atomic_load_n(&sigchlds, __ATOMIC_RELAXED) > forks)
            __atomic_fetch_add(&own->strangers, 1, __ATOMIC_RELAXED);
        if (waitpid(-1, NULL, WNOHANG) >= 0 || errno != ECHILD)
            __atomic_fetch_add(&own->strangers, 1, __ATOMIC_RELAXED);
        tt_target_done(4);
    }
}

static void *work_crowd(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg;
    unsigned char *block[BLOCKS] = {0};
    size_t size[BLOCKS] = {0};
    begin();
    while (!own->stop) {
        allocate(&seed, block, size);
        for (volatile int i = 0; i < 2000; i++)
            ;
        tt_target_done(5);
    }
    return NULL;
}

static void start(void *(*work)(void *), uintptr_t arg, unsigned *expected)
{
    pthread_t t;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 256 << 10);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&t, &attr, work, (void *)arg) != 0)
        _exit(9);
    pthread_attr_destroy(&attr);
    ++*expected;
}

static void live(void)
{
    unsigned expected = 0;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGCHLD, on_child);
    if (own_work & TT_WORK_MALLOC)
        for (uintptr_t i = 1; i <= 2; i++)
            start(work_malloc, i, &expected);
    if (own_work & TT_WORK_FLOAT)
        start(work_float, 0, &expected);
    if (own_work & TT_WORK_WAITS)
        for (uintptr_t i = 0; i < WAIT_CALLS; i++)
            start(work_waits, i, &expected);
    if (own_work & TT_WORK_SLEEPS)
        start(work_sleeps, 0, &expected);
    if (own_work & TT_WORK_CROWD)
        for (uintptr_t i = 1; i <= 60; i++)
            start(work_crowd, i, &expected);
    if (own_work & TT_WORK_SIGNALS) {
        const struct itimerval every = {{0, 200}, {0, 200}};
        struct sigaction action = {.sa_handler = on_timer, .sa_flags = SA_RESTART};
        sigaction(SIGALRM, &action, NULL);
        setitimer(ITIMER_REAL, &every, NULL);
    }
    if (own_work & TT_WORK_CHILDREN)
        work_children();
    while (!own->stop)
        usleep(1000);
    usleep(300000); /* the others see it */
    _exit(0);
}

void tt_target_await(pid_t pid, struct tt_target_report *report, uint64_t n)
{
    static const unsigned of[] = {TT_WORK_MALLOC,   TT_WORK_FLOAT, TT_WORK_WAITS, TT_WORK_SIGNALS,
                                  TT_WORK_CHILDREN, TT_WORK_CROWD, TT_WORK_SLEEPS};
    uint64_t before[7], until = now_ms() + 60000;
    for (unsigned k = 0; k < 7; k++)
        before[k] = report->rounds[k];
    for (unsigned k = 0; k < 7; k++)
        while ((own_work & of[k]) && report->rounds[k] < before[k] + n) {
            siginfo_t si = {0};
            if (now_ms() > until)
                fail_msg("process %d: work %u stands still", (int)pid, k);
            if (waitid(P_PID, (id_t)pid, &si, WEXITED | WNOHANG | WNOWAIT) == 0 && si.si_pid)
                fail_msg("process %d died: %d", (int)pid, si.si_status);
            usleep(1000);
        }
}

pid_t tt_target_spawn(unsigned work, struct tt_target_report **report)
{
    own = mmap(NULL, sizeof *own, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(own != MAP_FAILED);
    own_work = work;
    pid_t pid = fork();
    if (pid == 0)
        live();
    assert_true(pid > 0);
    *report = own;
    tt_target_await(pid, own, 1);
    return pid;
}

void tt_target_finish(pid_t pid, struct tt_target_report *report)
{
    int status;
    tt_target_await(pid, report, 2);
    report->stop = 1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(report->wrong, 0);
    if (report->eintr)
        fail_msg("%lu calls returned an error, the last one %lu", (unsigned long)report->eintr,
                 (unsigned long)report->eintr_call);
    assert_int_equal(report->strangers, 0);
    assert_int_equal(report->overslept, 0);
    munmap(report, sizeof *report);
}

bool tt_target_may_trace(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        pause();
        _exit(0);
    }
    bool may = ptrace(PTRACE_SEIZE, pid, 0, 0) == 0;
    kill(pid, SIGKILL);
    waitpid(pid, NULL, __WALL);
    return may;
}
