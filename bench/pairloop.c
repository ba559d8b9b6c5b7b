/* SPDX-License-Identifier: Apache-2.0 */
/* The loop against which hooks are measured: malloc+free pairs on a ring of live blocks of random
 * small sizes, called at a given depth of real recursion through distinct functions (build with -O2
 * and without frame pointers, so that nothing eases unwinding). Prints ns per pair, the minimum
 * over repeated slices, which noise can only raise. With --check every block is filled and
 * verified. With --halves the loop stops in the middle until a line comes, and prints the figure of
 * each half: for what is done to a process that runs already. Start: main, then pairs. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct {
    unsigned threads, depth, live, size_min, size_max, vary, slices, check, halves;
    uint64_t pairs;
} opt = {1, 20, 1000, 16, 512, 1, 10, 0, 1, 200000};

static pthread_barrier_t middle;

/* Each thread's on lines of its own: in one array, where calloc happened to put it decided whether
 * two threads shared a line, and with it up to 40 ns a pair that no hook had caused. */
struct worker {
    _Alignas(256) pthread_t thread;
    void **ring;
    uint32_t *size;
    uint64_t random;
    double best[2]; /* of each half */
    unsigned long long errors;
    int first;
};

static uint64_t next_random(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

/* Eight distinct call sites for --vary. */
#define SITE(n)                                                                                    \
    static __attribute__((noinline)) void *site##n(size_t size)                                    \
    {                                                                                              \
        void *p = malloc(size);                                                                    \
        __asm__ volatile("" : "+r"(p));                                                            \
        return p;                                                                                  \
    }
/* clang-format off */
SITE(0) SITE(1) SITE(2) SITE(3) SITE(4) SITE(5) SITE(6) SITE(7)
    /* clang-format on */

    static void *(*const sites[8])(size_t) = {site0, site1, site2, site3,
                                              site4, site5, site6, site7};

static uint8_t pattern(const void *p, uint32_t size)
{
    return (uint8_t)((uintptr_t)p >> 4 ^ size);
}

static int whole(const uint8_t *p, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++)
        if (p[i] != pattern(p, size))
            return 0;
    return 1;
}

/* The slices of one half. Inlined: not a frame more than the depth asked for. */
static inline __attribute__((always_inline)) void slices(struct worker *w, unsigned half)
{
    uint32_t span = opt.size_max - opt.size_min + 1;
    for (unsigned slice = 0; slice < opt.slices; slice++) {
        struct timespec a, b;
        clock_gettime(CLOCK_MONOTONIC, &a);
        for (uint64_t i = 0; i < opt.pairs; i++) {
            uint64_t r = next_random(&w->random);
            uint32_t at = (uint32_t)((r >> 32) * opt.live >> 32);
            uint32_t size = opt.size_min + (uint32_t)(r & 0xffff) % span;
            if (opt.check && w->ring[at] && !whole(w->ring[at], w->size[at]))
                w->errors++;
            free(w->ring[at]);
            void *p = opt.vary > 1 ? sites[(r >> 20) % opt.vary](size) : site0(size);
            if (opt.check && p)
                memset(p, pattern(p, size), size);
            w->ring[at] = p;
            w->size[at] = size;
        }
        clock_gettime(CLOCK_MONOTONIC, &b);
        double ns = (double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec);
        ns /= (double)opt.pairs;
        if (slice > 0 && (w->best[half] == 0 || ns < w->best[half]))
            w->best[half] = ns;
    }
}

/* What the slowest thread said. */
static double worst(const struct worker *w, unsigned half)
{
    double ns = w[0].best[half];
    for (unsigned i = 1; i < opt.threads; i++)
        ns = w[i].best[half] > ns ? w[i].best[half] : ns;
    return ns;
}

/* Between the halves all threads stand still; the first one, whose workers are all of them, speaks
 * with whoever started this. */
static void wait_for_line(const struct worker *w)
{
    pthread_barrier_wait(&middle);
    if (w->first) {
        printf("%.1f ns/pair\n", worst(w, 0));
        fflush(stdout);
        for (int c = getchar(); c != '\n' && c != EOF; c = getchar())
            ;
    }
    pthread_barrier_wait(&middle);
}

static __attribute__((noinline)) void pairs(struct worker *w)
{
    for (unsigned half = 0; half < opt.halves; half++) {
        if (half > 0)
            wait_for_line(w);
        slices(w, half);
    }
}

/* Depth: four functions with different frames calling each other round robin. */
static void deep0(struct worker *w, unsigned depth);
#define DEEP(n, next, bytes)                                                                       \
    static __attribute__((noinline)) void deep##n(struct worker *w, unsigned depth)                \
    {                                                                                              \
        volatile char frame[bytes];                                                                \
        frame[0] = (char)depth;                                                                    \
        if (depth <= 1)                                                                            \
            pairs(w);                                                                              \
        else                                                                                       \
            next(w, depth - 1);                                                                    \
        frame[bytes - 1] = frame[0];                                                               \
    }
DEEP(3, deep0, 24)
DEEP(2, deep3, 88)
DEEP(1, deep2, 40)
DEEP(0, deep1, 136)

static void *work(void *arg)
{
    struct worker *w = arg;
    w->ring = calloc(opt.live, sizeof *w->ring);
    w->size = calloc(opt.live, sizeof *w->size);
    if (!w->ring || !w->size)
        exit(3);
    deep0(w, opt.depth);
    for (unsigned i = 0; i < opt.live; i++)
        free(w->ring[i]);
    free(w->ring);
    free(w->size);
    return NULL;
}

static int usage(void)
{
    fputs("usage: pairloop [--threads N] [--depth N] [--live N] [--min BYTES] [--max BYTES]\n"
          "                [--vary 1..8] [--pairs N] [--slices N] [--check]\n"
          "                [--halves]\n",
          stderr);
    return 2;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--check")) {
            opt.check = 1;
            continue;
        }
        if (!strcmp(argv[i], "--halves")) {
            opt.halves = 2;
            continue;
        }
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (!value)
            return usage();
        unsigned n = (unsigned)strtoul(value, NULL, 10);
        if (!strcmp(argv[i], "--threads"))
            opt.threads = n;
        else if (!strcmp(argv[i], "--depth"))
            opt.depth = n;
        else if (!strcmp(argv[i], "--live"))
            opt.live = n;
        else if (!strcmp(argv[i], "--min"))
            opt.size_min = n;
        else if (!strcmp(argv[i], "--max"))
            opt.size_max = n;
        else if (!strcmp(argv[i], "--vary"))
            opt.vary = n;
        else if (!strcmp(argv[i], "--pairs"))
            opt.pairs = strtoull(value, NULL, 10);
        else if (!strcmp(argv[i], "--slices"))
            opt.slices = n;
        else
            return usage();
        i++;
    }
    if (!opt.threads || !opt.live || opt.size_max < opt.size_min || !opt.vary || opt.vary > 8)
        return usage();
    struct worker *w = aligned_alloc(256, opt.threads * sizeof *w);
    if (!w || pthread_barrier_init(&middle, NULL, opt.threads))
        return 3;
    memset(w, 0, opt.threads * sizeof *w);
    w[0].first = 1;
    for (unsigned i = 0; i < opt.threads; i++) {
        w[i].random = 88172645463325252ULL + i * 7919;
        if (i > 0 && pthread_create(&w[i].thread, NULL, work, &w[i]) != 0)
            return 3;
    }
    work(&w[0]);
    unsigned long long errors = w[0].errors;
    for (unsigned i = 1; i < opt.threads; i++) {
        pthread_join(w[i].thread, NULL);
        errors += w[i].errors;
    }
    printf("%.1f ns/pair\n", worst(w, opt.halves - 1));
    free(w);
    if (opt.check)
        printf("%llu damaged blocks\n", errors);
    return errors ? 1 : 0;
}
