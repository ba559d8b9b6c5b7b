/* SPDX-License-Identifier: Apache-2.0 */
/* Conservative marking: a word that could be a pointer to or into a block is one. The walk is bound
 * by misses of the cache, one for the index, one for the block's record, one for its content; each
 * word therefore waits in a short delay line behind a prefetch before every such step (Cher,
 * Hosking and Vitek 2004). Threads keep stacks of their own and give half away, the older half, as
 * soon as another has nothing to do. Start: tt_heap_mark. */
#include "heap/internal.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

enum {
    LINE = 32,    /* words and blocks in each delay line; a power of two */
    PIECE = 8192, /* words scanned before the rest can be given away */
    MOST_THREADS = 4,
};

struct piece {
    const uint64_t *words;
    uint64_t n;
};
/* A block or a part of it; `next` bytes of it lie in another range. */
typedef TT_VEC(struct piece) piece_vec;

struct pool {
    pthread_mutex_t lock;
    pthread_cond_t more;
    piece_vec pieces;
    unsigned threads, idle;
    bool done, failed;
};
struct marker {
    const struct tt_heap_index *index;
    struct tt_heap_marks *marks;
    struct pool *pool;
    piece_vec stack;
    uint64_t word[LINE]; /* near words whose cell is on its way */
    struct {
        uint64_t word;
        uint32_t block, range;
    } found[LINE];            /* blocks not yet reached whose record is on its way */
    struct piece ready[LINE]; /* content on its way */
    unsigned words, word_at, founds, found_at, readies, ready_at;
    uint64_t reached;
    bool failed;
    pthread_t thread;
};

static inline void push(struct marker *m, const uint64_t *words, uint64_t n)
{
    if (tt_vec_push(&m->stack, (struct piece){words, n}))
        m->failed = true;
}

/* Takes the block as reached, unless another thread was first, and puts its content on the stack.
 */
static inline __attribute__((always_inline)) void reach(struct marker *m, uint32_t block,
                                                        uint32_t range, uint64_t word)
{
    const struct tt_heap_block *b = &m->index->list[block];
    if (word - b->address >= b->size)
        return;
    uint64_t bit = 1ull << (block % 64), *slot = &m->marks->reached[block / 64];
    uint64_t old = m->pool->threads > 1 ? __atomic_fetch_or(slot, bit, __ATOMIC_RELAXED) : *slot;
    if (old & bit)
        return;
    if (m->pool->threads == 1)
        *slot = old | bit;
    m->reached++;
    const struct tt_heap_window *w = &m->index->windows[range];
    if (b->address >= w->start && b->address + b->size <= w->end) {
        if (w->bytes && b->size >= 8)
            push(m, (const uint64_t *)(const void *)(w->bytes + (b->address - w->start)),
                 b->size / 8);
        return;
    }
    uint64_t n = 0; /* the word lies in another range than the block's start, or it spans two */
    for (uint64_t from = 0; from < b->size; from += n ? n * 8 : 4096) {
        const uint64_t *words = tt_heap_words(m->index, block, from, &n);
        if (n)
            push(m, words, n);
    }
}

static inline __attribute__((always_inline)) void resolve_one(struct marker *m)
{
    unsigned at = m->found_at++ % LINE;
    m->founds--;
    reach(m, m->found[at].block, m->found[at].range, m->found[at].word);
}

static inline __attribute__((always_inline)) void look_up_one(struct marker *m)
{
    uint64_t word = m->word[m->word_at++ % LINE];
    m->words--;
    const struct tt_heap_cell *cell = tt_heap_cell_of(m->index, word);
    uint32_t block = tt_heap_before(m->index, cell, word);
    if (block == TT_HEAP_NONE ||
        (__atomic_load_n(&m->marks->reached[block / 64], __ATOMIC_RELAXED) >> (block % 64) & 1))
        return;
    __builtin_prefetch(&m->index->list[block]);
    if (m->founds == LINE)
        resolve_one(m);
    unsigned at = (m->found_at + m->founds++) % LINE;
    m->found[at].word = word;
    m->found[at].block = block;
    m->found[at].range = cell->range;
}

/* A word whose upper 16 bits are a tag, as dynamic languages and lock-free lists have them: it is
 * no pointer here, but what it would point to is noted. */
static void note_tagged(struct marker *m, uint64_t word)
{
    uint32_t block = tt_heap_find(m->index, word & 0xffffffffffffull);
    if (block != TT_HEAP_NONE)
        __atomic_fetch_or(&m->marks->tagged[block / 64], 1ull << (block % 64), __ATOMIC_RELAXED);
}

static inline __attribute__((always_inline)) void scan(struct marker *m, struct piece piece)
{
    if (piece.n > PIECE) {
        push(m, piece.words + PIECE, piece.n - PIECE);
        piece.n = PIECE;
    }
    const struct tt_heap_index *x = m->index;
    for (uint64_t i = 0; i < piece.n; i++) {
        uint64_t word = piece.words[i];
        if (word < 4096)
            continue;
        if (word >> TT_HEAP_ADDRESS_BITS) {
            if (tt_heap_near(x, word & 0xffffffffffffull))
                note_tagged(m, word);
            continue;
        }
        if (!tt_heap_near(x, word))
            continue;
        __builtin_prefetch(tt_heap_cell_of(x, word));
        if (m->words == LINE)
            look_up_one(m);
        m->word[(m->word_at + m->words++) % LINE] = word;
    }
}

/* Moves from the stack to the line of pieces whose content is on its way. */
static inline __attribute__((always_inline)) void make_ready(struct marker *m)
{
    while (m->readies < LINE && m->stack.len) {
        struct piece piece = m->stack.data[--m->stack.len];
        __builtin_prefetch(piece.words);
        if (piece.n > 8)
            __builtin_prefetch(piece.words + 8);
        m->ready[(m->ready_at + m->readies++) % LINE] = piece;
    }
}

/* Gives the older half of the stack away. */
static void give(struct marker *m)
{
    struct pool *pool = m->pool;
    size_t half = m->stack.len / 2;
    pthread_mutex_lock(&pool->lock);
    if (tt_vec_reserve(&pool->pieces, pool->pieces.len + half)) {
        m->failed = true;
    } else {
        memcpy(pool->pieces.data + pool->pieces.len, m->stack.data, half * sizeof(struct piece));
        pool->pieces.len += half;
        pthread_cond_broadcast(&pool->more);
        memmove(m->stack.data, m->stack.data + half, (m->stack.len - half) * sizeof(struct piece));
        m->stack.len -= half;
    }
    pthread_mutex_unlock(&pool->lock);
}

/* Waits for work; false when all is done. */
static bool take(struct marker *m)
{
    struct pool *pool = m->pool;
    pthread_mutex_lock(&pool->lock);
    pool->failed |= m->failed;
    __atomic_store_n(&pool->idle, pool->idle + 1, __ATOMIC_RELAXED);
    while (!pool->pieces.len && !pool->done) {
        if (pool->idle == pool->threads) {
            pool->done = true;
            pthread_cond_broadcast(&pool->more);
        } else {
            pthread_cond_wait(&pool->more, &pool->lock);
        }
    }
    bool any = pool->pieces.len > 0;
    if (any) {
        /* A fair part, so that those who wake later find something too. */
        size_t part = (pool->pieces.len + pool->threads - 1) / pool->threads;
        if (tt_vec_reserve(&m->stack, m->stack.len + part)) {
            m->failed = pool->failed = true;
            part = 0;
            pool->pieces.len = 0;
        }
        if (part) {
            pool->pieces.len -= part;
            memcpy(m->stack.data + m->stack.len, pool->pieces.data + pool->pieces.len,
                   part * sizeof(struct piece));
            m->stack.len += part;
        }
        __atomic_store_n(&pool->idle, pool->idle - 1, __ATOMIC_RELAXED);
    }
    pthread_mutex_unlock(&pool->lock);
    return any;
}

static inline __attribute__((always_inline)) void run(struct marker *m)
{
    while (take(m)) {
        for (;;) {
            make_ready(m);
            if (m->readies) {
                struct piece piece = m->ready[m->ready_at++ % LINE];
                m->readies--;
                scan(m, piece);
                if (m->stack.len > 8 && __atomic_load_n(&m->pool->idle, __ATOMIC_RELAXED))
                    give(m);
            } else if (m->words) {
                look_up_one(m);
            } else if (m->founds) {
                resolve_one(m);
            } else {
                break;
            }
        }
    }
}

static void *run_plain(void *arg)
{
    run(arg);
    return NULL;
}

/* The count of set bits is on the path of every pointer; as one instruction where there is one. */
#ifdef __x86_64__
__attribute__((target("popcnt"))) static void *run_popcnt(void *arg)
{
    run(arg);
    return NULL;
}
static void *(*runner(void))(void *)
{
    return __builtin_cpu_supports("popcnt") ? run_popcnt : run_plain;
}
#else
static void *(*runner(void))(void *)
{
    return run_plain;
}
#endif

static int fill_pool(struct pool *pool, const tt_heap_root_vec *roots)
{
    for (size_t i = 0; i < roots->len; i++)
        for (uint64_t at = 0; at < roots->data[i].n; at += PIECE) {
            uint64_t left = roots->data[i].n - at;
            if (tt_vec_push(&pool->pieces,
                            (struct piece){roots->data[i].words + at, left < PIECE ? left : PIECE}))
                return -ENOMEM;
        }
    return 0;
}

static void sum(struct tt_heap_marks *out)
{
    for (uint32_t i = 0; i < (out->n + 63) / 64; i++)
        out->tagged_lost += (uint64_t)__builtin_popcountll(out->tagged[i] & ~out->reached[i]);
}

int tt_heap_mark(const struct tt_heap_index *index, const tt_heap_root_vec *roots, unsigned threads,
                 struct tt_heap_marks *out)
{
    if (!threads) {
        long cores = sysconf(_SC_NPROCESSORS_ONLN);
        threads = cores < 1 ? 1 : (unsigned)cores;
    }
    if (threads > MOST_THREADS)
        threads = MOST_THREADS;
    *out = (struct tt_heap_marks){.n = index->n};
    out->reached = calloc(index->n / 64 + 1, sizeof *out->reached);
    out->tagged = calloc(index->n / 64 + 1, sizeof *out->tagged);
    struct pool pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER};
    struct marker *markers = calloc(threads, sizeof *markers);
    int rc = -ENOMEM;
    if (!out->reached || !out->tagged || !markers || fill_pool(&pool, roots))
        goto out;
    pool.threads = threads;
    for (unsigned i = 0; i < threads; i++)
        markers[i] = (struct marker){.index = index, .marks = out, .pool = &pool};
    /* A thread that cannot be had is missing from the count before anybody starts to wait. */
    pthread_mutex_lock(&pool.lock);
    unsigned started = 1;
    while (started < threads &&
           !pthread_create(&markers[started].thread, NULL, runner(), &markers[started]))
        started++;
    pool.threads = started;
    pthread_mutex_unlock(&pool.lock);
    runner()(&markers[0]);
    for (unsigned i = 1; i < started; i++)
        pthread_join(markers[i].thread, NULL);
    rc = 0;
    for (unsigned i = 0; i < started; i++) {
        out->reached_units += markers[i].reached;
        if (markers[i].failed)
            rc = -ENOMEM;
        tt_vec_free(&markers[i].stack);
    }
    sum(out);
out:
    if (rc)
        tt_heap_marks_free(out);
    tt_vec_free(&pool.pieces);
    pthread_mutex_destroy(&pool.lock);
    pthread_cond_destroy(&pool.more);
    free(markers);
    return rc;
}

void tt_heap_marks_free(struct tt_heap_marks *marks)
{
    free(marks->reached);
    free(marks->tagged);
    *marks = (struct tt_heap_marks){0};
}
