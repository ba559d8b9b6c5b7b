/* SPDX-License-Identifier: Apache-2.0 */
/* Which blocks each block points to, for those that walk the graph more than once. Resolved in
 * address order, where contents come by themselves, on all cores, in batches whose misses overlap.
 * Start: tt_heap_edges_find. */
#include "heap/internal.h"

#include <pthread.h>
#include <unistd.h>

enum {
    BATCH = 4096, /* words resolved at a time */
    AHEAD = 16,
    MOST_THREADS = 4,
};

struct batch {
    uint64_t word[BATCH];
    uint32_t block[BATCH];
    uint16_t from[BATCH]; /* the block in the chunk that holds the word */
    unsigned n;
};

/* Appends the blocks that the batch's words point to, and counts them in begin[from + 1]. */
static inline __attribute__((always_inline)) int flush(const struct tt_heap_index *x,
                                                       struct batch *b, struct tt_heap_chunk *c)
{
    for (unsigned i = 0; i < b->n && i < AHEAD; i++)
        __builtin_prefetch(tt_heap_cell_of(x, b->word[i]));
    for (unsigned i = 0; i < b->n; i++) {
        if (i + AHEAD < b->n)
            __builtin_prefetch(tt_heap_cell_of(x, b->word[i + AHEAD]));
        b->block[i] = tt_heap_before(x, tt_heap_cell_of(x, b->word[i]), b->word[i]);
    }
    if (tt_vec_reserve(&c->targets, c->targets.len + b->n))
        return -ENOMEM;
    uint32_t before = TT_HEAP_NONE;
    for (unsigned i = 0; i < b->n; i++) {
        if (i + AHEAD < b->n && b->block[i + AHEAD] != TT_HEAP_NONE)
            __builtin_prefetch(&x->list[b->block[i + AHEAD]]);
        uint32_t t = b->block[i];
        if (t == TT_HEAP_NONE || !tt_heap_holds(x, t, b->word[i]))
            continue;
        if (t == before && b->from[i] == b->from[i - 1])
            continue; /* the same block twice in a row */
        before = t;
        c->targets.data[c->targets.len++] = t;
        c->begin[b->from[i] + 1]++;
    }
    b->n = 0;
    return 0;
}

static inline __attribute__((always_inline)) int
resolve(const struct tt_heap_edges *e, uint32_t number, struct batch *b, struct tt_heap_chunk *c)
{
    const struct tt_heap_index *x = e->index;
    uint32_t first = number << TT_HEAP_CHUNK_BITS;
    for (uint32_t i = 0; i < TT_HEAP_CHUNK && first + i < x->n; i++) {
        if (tt_heap_bit(e->reached, first + i) == e->of_lost)
            continue;
        uint64_t n = 0;
        for (uint64_t from = 0; from < x->list[first + i].size; from += n ? n * 8 : 4096) {
            const uint64_t *words = tt_heap_words(x, first + i, from, &n);
            for (uint64_t k = 0; k < n; k++) {
                if (words[k] < 4096 || !tt_heap_near(x, words[k]))
                    continue;
                b->word[b->n] = words[k];
                b->from[b->n++] = (uint16_t)i;
                if (b->n == BATCH && flush(x, b, c))
                    return -ENOMEM;
            }
        }
        if (c->targets.len > UINT32_MAX - 2 * BATCH)
            return -ENOMEM;
    }
    if (flush(x, b, c))
        return -ENOMEM;
    for (uint32_t i = 0; i < TT_HEAP_CHUNK; i++)
        c->begin[i + 1] += c->begin[i];
    return 0;
}

/* One instruction per count of set bits where there is one. */
#ifdef __x86_64__
__attribute__((target("popcnt"))) static int resolve_popcnt(const struct tt_heap_edges *e,
                                                            uint32_t number, struct batch *b,
                                                            struct tt_heap_chunk *c)
{
    return resolve(e, number, b, c);
}
static bool has_popcnt(void)
{
    return __builtin_cpu_supports("popcnt");
}
#else
#define resolve_popcnt resolve
static bool has_popcnt(void)
{
    return false;
}
#endif

static int resolve_chunk(void *arg, uint32_t number)
{
    struct tt_heap_edges *e = arg;
    struct batch *b = malloc(sizeof *b);
    e->chunks[number] = calloc(1, sizeof *e->chunks[number]);
    int rc = -ENOMEM;
    if (b && e->chunks[number]) {
        b->n = 0;
        rc = has_popcnt() ? resolve_popcnt(e, number, b, e->chunks[number])
                          : resolve(e, number, b, e->chunks[number]);
    }
    free(b);
    return rc;
}

struct job {
    int (*work)(void *arg, uint32_t chunk);
    void *arg;
    uint32_t n, next;
    bool failed;
};

static void *run(void *arg)
{
    struct job *job = arg;
    for (;;) {
        uint32_t number = __atomic_fetch_add(&job->next, 1, __ATOMIC_RELAXED);
        if (number >= job->n)
            return NULL;
        if (job->work(job->arg, number)) {
            __atomic_store_n(&job->failed, true, __ATOMIC_RELAXED);
            return NULL;
        }
    }
}

int tt_heap_each_chunk(const struct tt_heap_edges *edges, unsigned threads,
                       int (*work)(void *arg, uint32_t chunk), void *arg)
{
    struct job job = {.work = work, .arg = arg, .n = edges->n};
    if (!threads) {
        long cores = sysconf(_SC_NPROCESSORS_ONLN);
        threads = cores < 1 ? 1 : (unsigned)cores;
    }
    if (threads > MOST_THREADS)
        threads = MOST_THREADS;
    pthread_t id[MOST_THREADS];
    unsigned started = 1;
    while (started < threads && !pthread_create(&id[started], NULL, run, &job))
        started++;
    run(&job);
    for (unsigned i = 1; i < started; i++)
        pthread_join(id[i], NULL);
    return job.failed ? -ENOMEM : 0;
}

int tt_heap_edges_find(const struct tt_heap_index *index, const struct tt_heap_marks *marks,
                       bool of_lost, unsigned threads, struct tt_heap_edges *out)
{
    *out = (struct tt_heap_edges){
        .index = index,
        .reached = marks->reached,
        .of_lost = of_lost,
        .n = (uint32_t)(((uint64_t)index->n + TT_HEAP_CHUNK - 1) >> TT_HEAP_CHUNK_BITS)};
    out->chunks = calloc(out->n + 1, sizeof *out->chunks);
    if (!out->chunks)
        return -ENOMEM;
    int rc = tt_heap_each_chunk(out, threads, resolve_chunk, out);
    if (rc)
        tt_heap_edges_free(out);
    return rc;
}

void tt_heap_edges_free(struct tt_heap_edges *edges)
{
    for (uint32_t i = 0; edges->chunks && i < edges->n; i++)
        if (edges->chunks[i]) {
            tt_vec_free(&edges->chunks[i]->targets);
            free(edges->chunks[i]);
        }
    free(edges->chunks);
    *edges = (struct tt_heap_edges){0};
}
