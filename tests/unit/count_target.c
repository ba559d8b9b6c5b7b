/* SPDX-License-Identifier: Apache-2.0 */
/* What test_count.c counts: a program that enters count_this() from threads that come and go, from
 * signal handlers on either stack, from forked children, from a coroutine, and from a thread of
 * clone(2) that shares another's control block, and says how often. It says where the function
 * lies, waits for a line, works, says how often, waits again. Start: main. */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "tape/tape.h"

enum { GENERATIONS = 10, THREADS = 4, EACH = 100000, CHILDREN = 12, SHARED = 1000000 };

__attribute__((noinline)) void count_this(void); /* not static: none is made of it */
void count_this(void)
{
    __asm__ volatile("nop; nop; nop; nop; nop; nop; nop; nop" : : : "memory");
}
void count_this_end(void);
void count_this_end(void)
{
}

static uint64_t calls; /* truth */
static uint64_t by_handlers;

static void enter(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        count_this();
}

/* The agent sees the stack of a thread that acquires something. */
static void be_seen(void)
{
    void *block = malloc(100);
    __asm__ volatile("" : : "r"(block) : "memory"); /* or there is neither call */
    free(block);
}

static void *work(void *arg)
{
    (void)arg;
    be_seen();
    enter(EACH);
    return NULL;
}

/* Each generation's threads have the control blocks, and the agent's states, of the one before, or
 * new ones while the stacks kept are too few. */
static void threads(void)
{
    for (int g = 0; g < GENERATIONS; g++) {
        pthread_t t[THREADS + GENERATIONS];
        int n = THREADS + g;
        for (int i = 0; i < n; i++)
            if (pthread_create(&t[i], NULL, work, NULL) != 0)
                abort();
        enter(EACH);
        for (int i = 0; i < n; i++)
            pthread_join(t[i], NULL);
        calls += (uint64_t)(n + 1) * EACH;
    }
}

static void on_signal(int number)
{
    (void)number;
    enter(3);
    __atomic_fetch_add(&by_handlers, 3, __ATOMIC_RELAXED);
}

/* A handler's calls cut the interrupted one's anywhere. */
static void signals(void)
{
    static char other[65536];
    const stack_t alternate = {.ss_sp = other, .ss_size = sizeof other};
    const int numbers[] = {SIGALRM, SIGUSR1};
    sigaltstack(&alternate, NULL);
    for (int i = 0; i < 2; i++) {
        struct sigaction a = {.sa_handler = on_signal, .sa_flags = i ? SA_ONSTACK : 0};
        sigaction(numbers[i], &a, NULL);
        struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = numbers[i]};
        const struct itimerspec often = {{0, 20000 + 3000 * i}, {0, 20000}};
        timer_t timer;
        timer_create(CLOCK_MONOTONIC, &e, &timer);
        timer_settime(timer, 0, &often, NULL);
        for (int round = 0; round < 20; round++) {
            enter(EACH);
            calls += EACH;
        }
        timer_delete(timer);
        signal(numbers[i], SIG_IGN);
    }
}

/* Those of fork(3) have tapes of their own at once; those of the bare system call count on their
 * parent's, which counts too, since they acquire nothing. */
static void children(void)
{
    for (int i = 0; i < CHILDREN; i++) {
        pid_t pid = i % 3 ? (pid_t)syscall(SYS_fork) : fork();
        if (pid < 0)
            abort();
        if (pid == 0) {
            enter(8 * EACH);
            _exit(0);
        }
    }
    for (int left = CHILDREN; left > 0; left -= waitpid(-1, NULL, WNOHANG) > 0) {
        enter(100);
        calls += 100;
    }
    calls += 8ULL * CHILDREN * EACH;
}

/* ---- threads of a forked child ---- */

static pthread_barrier_t barrier;
static uint64_t word[6];

static void *remain(void *arg)
{
    be_seen();
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return arg;
}

static void *remember(void *arg)
{
    be_seen();
    __asm__ volatile("mov %%fs:%c1, %0" : "=r"(*(uint64_t *)arg) : "i"(TT_TAPE_STATE_WORD));
    pthread_barrier_wait(&barrier); /* all live at once */
    enter(EACH);
    return arg;
}

/* Every other thread gets the stack of one that the parent has and the child has not; none of them
 * shares a state of the agent's with another. */
static int distinct(void)
{
    pthread_t t[6];
    pthread_attr_t large;
    pthread_barrier_init(&barrier, NULL, 7);
    pthread_attr_init(&large);
    pthread_attr_setstacksize(&large, 16 << 20);
    for (int i = 0; i < 6; i++)
        if (pthread_create(&t[i], i % 2 ? NULL : &large, remember, &word[i]) != 0)
            return 0;
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < 6; i++)
        pthread_join(t[i], NULL);
    for (int i = 0; i < 6; i++)
        for (int k = 0; k < i; k++)
            if (word[i] == word[k])
                return 0;
    return 1;
}

static void child_of_threads(void)
{
    pthread_t t[3];
    int status = -1;
    pthread_barrier_init(&barrier, NULL, 4);
    for (int i = 0; i < 3; i++)
        if (pthread_create(&t[i], NULL, remain, NULL) != 0)
            abort();
    pthread_barrier_wait(&barrier);
    pid_t pid = fork();
    if (pid == 0)
        _exit(!distinct());
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < 3; i++)
        pthread_join(t[i], NULL);
    if (waitpid(pid, &status, 0) != pid || status != 0)
        abort();
    calls += 6ULL * EACH;
}

/* ---- one control block for two ---- */

static volatile int ended, begun;

static int beside(void *arg)
{
    (void)arg; /* nothing of libc's: its thread-local data are the other's */
    begun = 1;
    enter(SHARED);
    ended = 1;
    return 0;
}

static void shared_block(void)
{
    const size_t bytes = 1 << 18;
    char *stack = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t mine = 0;
    if (stack == MAP_FAILED ||
        clone(beside, stack + bytes,
              CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM,
              NULL) < 0)
        abort();
    while (!begun)
        ;
    while (!ended || mine < SHARED) {
        enter(1);
        mine++;
    }
    calls += mine + SHARED;
}

/* ---- another stack ---- */

static ucontext_t outside, inside;

static void coroutine(void)
{
    be_seen();
    enter(EACH);
    swapcontext(&inside, &outside);
    enter(EACH);
}

static void coroutines(void)
{
    const size_t bytes = 1 << 16;
    getcontext(&inside);
    inside.uc_stack.ss_sp = malloc(bytes);
    inside.uc_stack.ss_size = bytes;
    inside.uc_link = &outside;
    makecontext(&inside, coroutine, 0);
    swapcontext(&outside, &inside);
    enter(EACH);
    swapcontext(&outside, &inside);
    free(inside.uc_stack.ss_sp);
    calls += 3ULL * EACH;
}

int main(void)
{
    char line[8];
    be_seen();
    printf("%lx %lx\n", (unsigned long)(uintptr_t)count_this,
           (unsigned long)((uintptr_t)count_this_end - (uintptr_t)count_this));
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin))
        return 1;
    threads();
    signals();
    children();
    child_of_threads();
    coroutines();
    shared_block();
    printf("%lu\n", (unsigned long)(calls + by_handlers));
    fflush(stdout);
    return fgets(line, sizeof line, stdin) ? 0 : 1;
}
