/* SPDX-License-Identifier: Apache-2.0 */
/* Targets of the soak (soak.py): programs that would show any harm that attaching does them. Every
 * block is filled with a pattern of its own and checked before it is released or resized; counters
 * of work done lie in a file that the controller maps, so that a hang shows as a counter that
 * stands still. kinds: loop (threads allocate, resize and check), fork (children do too, and exit
 * with their verdict), signal (timers interrupt the threads, handlers allocate nothing but check a
 * canary, the main thread waits in epoll_wait and must never see EINTR). Ends well on SIGTERM with
 * "ok". Start: main. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SLOTS 256u
#define COUNTERS 512u

static _Atomic uint64_t *counters;
static atomic_bool over;
static atomic_uint handled;

struct slot {
    uint64_t *words;
    size_t n;
    uint64_t key;
};

static uint64_t next(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

__attribute__((noreturn)) static void wrong(const char *what)
{
    fprintf(stderr, "soaktarget: %s\n", what);
    abort();
}

static void fill(struct slot *s)
{
    for (size_t i = 0; i < s->n; i++)
        s->words[i] = s->key + i * 0x9e3779b97f4a7c15ULL;
}

static void check(const struct slot *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (s->words[i] != s->key + i * 0x9e3779b97f4a7c15ULL)
            wrong("a block holds what was not written to it");
}

/* One step on a slot: release, resize or acquire in one of several ways. */
static void step(struct slot *s, uint64_t *random)
{
    uint64_t r = next(random);
    size_t n = 1 + (r >> 8) % ((r & 0xff) == 0 ? 40000 : 60);
    if (s->words) {
        check(s, s->n);
        if (r & 1) {
            size_t keep = n < s->n ? n : s->n;
            uint64_t *moved = realloc(s->words, n * sizeof *moved);
            if (!moved)
                wrong("realloc failed");
            s->words = moved;
            check(s, keep);
            s->n = n;
            fill(s);
            return;
        }
        free(s->words);
        s->words = NULL;
        return;
    }
    s->n = n;
    s->key = r;
    void *p = NULL;
    switch (r >> 60) {
    case 0:
        s->words = calloc(n, sizeof *s->words);
        for (size_t i = 0; s->words && i < n; i++)
            if (s->words[i] != 0)
                wrong("calloc gave memory that is not zero");
        break;
    case 1:
        s->words = posix_memalign(&p, 256, n * sizeof *s->words) ? NULL : p;
        if ((uintptr_t)p % 256)
            wrong("posix_memalign gave a block that is not aligned");
        break;
    default:
        s->words = malloc(n * sizeof *s->words);
    }
    if (!s->words)
        wrong("malloc failed");
    fill(s);
}

static __attribute__((noinline)) void deep(struct slot *s, uint64_t *random, int depth)
{
    if (depth > 0)
        deep(s, random, depth - 1);
    else
        step(s, random);
    __asm__ volatile("" : : "r"(depth));
}

static void *worker(void *arg)
{
    unsigned index = (unsigned)(uintptr_t)arg;
    uint64_t random = 0x2545f4914f6cdd1dULL * (index + 1);
    struct slot slots[SLOTS] = {0};
    while (!atomic_load_explicit(&over, memory_order_relaxed)) {
        for (unsigned i = 0; i < 64; i++) {
            uint64_t r = next(&random);
            deep(&slots[r % SLOTS], &random, (int)(r >> 32 & 15));
        }
        atomic_fetch_add_explicit(&counters[index], 1, memory_order_relaxed);
    }
    for (unsigned i = 0; i < SLOTS; i++) {
        if (slots[i].words)
            check(&slots[i], slots[i].n);
        free(slots[i].words);
    }
    return NULL;
}

static void on_term(int number)
{
    (void)number;
    over = true;
}

static void on_alarm(int number)
{
    volatile uint64_t canary[16];
    (void)number;
    for (unsigned i = 0; i < 16; i++)
        canary[i] = i * 0x9e3779b97f4a7c15ULL;
    for (unsigned i = 0; i < 16; i++)
        if (canary[i] != i * 0x9e3779b97f4a7c15ULL)
            abort();
    handled++;
}

static void fork_for_ever(unsigned index)
{
    uint64_t random = 77;
    struct slot slots[SLOTS] = {0};
    while (!over) {
        for (unsigned i = 0; i < 32; i++)
            step(&slots[next(&random) % SLOTS], &random);
        pid_t pid = fork();
        if (pid < 0)
            wrong("fork failed");
        if (pid == 0) {
            for (unsigned i = 0; i < 200; i++)
                step(&slots[next(&random) % SLOTS], &random);
            for (unsigned i = 0; i < SLOTS; i++)
                if (slots[i].words)
                    check(&slots[i], slots[i].n);
            _exit(7);
        }
        int status;
        pid_t got;
        do
            got = waitpid(-1, &status, 0);
        while (got < 0 && errno == EINTR);
        if (got != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 7)
            wrong("a forked child was lost or died");
        counters[index]++;
    }
}

/* The main thread of `signal`: all signals go to the others. */
static void wait_undisturbed(unsigned index)
{
    int ep = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event;
    while (!over) {
        int n = epoll_wait(ep, &event, 1, 20);
        if (n < 0 && !over)
            wrong("epoll_wait was interrupted though no handler ran");
        counters[index]++;
    }
    close(ep);
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: soaktarget loop|fork|signal THREADS COUNTERFILE\n");
        return 2;
    }
    const char *kind = argv[1];
    unsigned threads = (unsigned)strtoul(argv[2], NULL, 10);
    int fd = open(argv[3], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || threads + 1 > COUNTERS || ftruncate(fd, COUNTERS * sizeof *counters) != 0)
        return 3;
    counters = mmap(NULL, COUNTERS * sizeof *counters, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (counters == MAP_FAILED)
        return 3;
    sigset_t alarms, end, none;
    sigemptyset(&none);
    sigemptyset(&end);
    sigaddset(&end, SIGTERM);
    sigemptyset(&alarms);
    sigaddset(&alarms, SIGALRM);
    struct sigaction term = {.sa_handler = on_term}, tick = {.sa_handler = on_alarm};
    tick.sa_flags = SA_RESTART;
    sigaction(SIGTERM, &term, NULL);
    sigaction(SIGALRM, &tick, NULL);
    /* For the main thread only: while it is about to sleep, another's handler would not wake it. */
    pthread_sigmask(SIG_BLOCK, &end, NULL);
    pthread_t thread[COUNTERS];
    for (unsigned i = 0; i < threads; i++)
        if (pthread_create(&thread[i], NULL, worker, (void *)(uintptr_t)i) != 0)
            return 3;
    if (strcmp(kind, "loop") != 0)
        pthread_sigmask(SIG_UNBLOCK, &end, NULL);
    if (strcmp(kind, "signal") == 0) {
        pthread_sigmask(SIG_BLOCK, &alarms, NULL);
        struct itimerval often = {{0, 500}, {0, 500}};
        setitimer(ITIMER_REAL, &often, NULL);
    }
    printf("ready\n");
    fflush(stdout);
    if (strcmp(kind, "fork") == 0)
        fork_for_ever(threads);
    else if (strcmp(kind, "signal") == 0)
        wait_undisturbed(threads);
    else
        while (!over)
            sigsuspend(&none);
    for (unsigned i = 0; i < threads; i++)
        pthread_join(thread[i], NULL);
    printf("ok %u signals\n", handled);
    return 0;
}
