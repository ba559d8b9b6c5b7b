/* SPDX-License-Identifier: Apache-2.0 */
/* Which blocks each block points to, for all that walk the graph: marking, roots of the lost,
 * dominators. Contents are read in address order, where they come by themselves, on all cores; of
 * what is read late (pager.c) they were sifted as they came, and are not read again; each pointer's
 * look-up misses the cache twice, so words are gathered and looked up in batches whose misses
 * overlap. A walk over the lists then misses far less than one over the contents. Start:
 * tt_heap_edges_find. */
#include "heap/internal.h"
#include "heap/internal_image.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

enum {
    BATCH = 2048, /* words resolved at a time */
    AHEAD = 16,
    SLAB = 1 << 20, /* targets */
    SHARES = 16,    /* of the work, for each thread; the last ones even out */
    MOST_GRAIN = 64,
};

/* ---- work on all cores ---- */

struct job {
    tt_heap_work_fn *work;
    void *arg;
    uint32_t n, next;
    uint32_t grain; /* numbers taken at a time: neighbours lie in the same memory */
    bool failed;
};
struct hand {
    struct job *job;
    unsigned number;
    pthread_t thread;
};

static void *run(void *arg)
{
    struct hand *hand = arg;
    struct job *job = hand->job;
    for (;;) {
        uint32_t number = __atomic_fetch_add(&job->next, job->grain, __ATOMIC_RELAXED);
        uint32_t end = number + job->grain;
        if (number >= job->n)
            return NULL;
        for (; number < end && number < job->n; number++) {
            if (__atomic_load_n(&job->failed, __ATOMIC_RELAXED))
                return NULL;
            if (job->work(job->arg, hand->number, number))
                __atomic_store_n(&job->failed, true, __ATOMIC_RELAXED);
        }
    }
}

int tt_heap_each(uint32_t n, unsigned threads, tt_heap_work_fn *work, void *arg)
{
    struct job job = {.work = work, .arg = arg, .n = n};
    struct hand hands[TT_HEAP_HANDS];
    if (!threads) {
        long cores = sysconf(_SC_NPROCESSORS_ONLN);
        threads = cores < 1 ? 1 : cores > TT_HEAP_HANDS ? TT_HEAP_HANDS : (unsigned)cores;
    }
    if (threads > TT_HEAP_HANDS)
        threads = TT_HEAP_HANDS;
    uint32_t grain = n / (threads * SHARES);
    job.grain = grain < 1 ? 1 : grain > MOST_GRAIN ? MOST_GRAIN : grain;
    unsigned started = 1;
    for (unsigned i = 0; i < threads; i++)
        hands[i] = (struct hand){.job = &job, .number = i};
    while (started < threads && started < n &&
           !pthread_create(&hands[started].thread, NULL, run, &hands[started]))
        started++;
    run(&hands[0]);
    for (unsigned i = 1; i < started; i++)
        pthread_join(hands[i].thread, NULL);
    return job.failed ? -ENOMEM : 0;
}

/* ---- words to blocks ---- */

static inline __attribute__((always_inline)) void
resolve(const struct tt_heap_index *x, const uint64_t *word, uint32_t *block, unsigned n)
{
    for (unsigned i = 0; i < n && i < AHEAD; i++)
        __builtin_prefetch(tt_heap_cell_of(x, word[i]));
    for (unsigned i = 0; i < n; i++) {
        if (i + AHEAD < n)
            __builtin_prefetch(tt_heap_cell_of(x, word[i + AHEAD]));
        block[i] = tt_heap_before(x, tt_heap_cell_of(x, word[i]), word[i]);
        if (block[i] != TT_HEAP_NONE)
            __builtin_prefetch(&x->list[block[i]]);
        if (i >= AHEAD && block[i - AHEAD] != TT_HEAP_NONE &&
            !tt_heap_holds(x, block[i - AHEAD], word[i - AHEAD]))
            block[i - AHEAD] = TT_HEAP_NONE;
    }
    for (unsigned i = n > AHEAD ? n - AHEAD : 0; i < n; i++)
        if (block[i] != TT_HEAP_NONE && !tt_heap_holds(x, block[i], word[i]))
            block[i] = TT_HEAP_NONE;
}

/* The count of set bits is on the path of every pointer; as one instruction where there is one. */
#ifdef __x86_64__
__attribute__((target("popcnt"))) static void
resolve_popcnt(const struct tt_heap_index *x, const uint64_t *word, uint32_t *block, unsigned n)
{
    resolve(x, word, block, n);
}
#endif

void tt_heap_resolve(const struct tt_heap_index *x, const uint64_t *word, uint32_t *block,
                     unsigned n)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("popcnt")) {
        resolve_popcnt(x, word, block, n);
        return;
    }
#endif
    resolve(x, word, block, n);
}

/* ---- blocks to blocks ---- */

/* What one thread works with. */
struct hand_edges {
    uint64_t word[BATCH];
    uint32_t block[BATCH];
    uint16_t from[BATCH]; /* the block in the chunk that holds the word */
    unsigned n;
    TT_VEC(uint32_t) targets; /* of the chunk at work */
    uint32_t *slab;           /* where finished lists go */
    size_t left;
};
struct finding {
    struct tt_heap_edges *edges;
    struct hand_edges *hands[TT_HEAP_HANDS];
    pthread_mutex_t lock;        /* of edges->slabs */
    struct tt_heap_pager *pager; /* with a sieve that has all that is wanted, or NULL */
    const struct tt_heap_sieve *sieve;
};

/* Appends the blocks that the gathered words point to, and counts them at begin[from + 1]. */
static int flush(const struct tt_heap_index *x, struct hand_edges *h, uint32_t first,
                 uint32_t *begin)
{
    tt_heap_resolve(x, h->word, h->block, h->n);
    if (h->targets.len > UINT32_MAX - 2 * BATCH ||
        tt_vec_reserve(&h->targets, h->targets.len + h->n))
        return -ENOMEM;
    uint32_t before = TT_HEAP_NONE, before_from = 0;
    for (unsigned i = 0; i < h->n; i++) {
        uint32_t t = h->block[i];
        if (t == TT_HEAP_NONE || t == first + h->from[i] ||
            (t == before && h->from[i] == before_from))
            continue; /* nothing, itself, or the same block twice in a row */
        before = t;
        before_from = h->from[i];
        h->targets.data[h->targets.len++] = t;
        begin[h->from[i] + 1]++;
    }
    h->n = 0;
    return 0;
}

static uint32_t *new_slab(struct finding *f, size_t n)
{
    uint32_t *slab = tt_heap_array(n, sizeof *slab);
    pthread_mutex_lock(&f->lock);
    if (slab && tt_vec_push(&f->edges->slabs, slab)) {
        tt_heap_array_free(slab);
        slab = NULL;
    }
    pthread_mutex_unlock(&f->lock);
    return slab;
}

/* Copies the list to where it stays. */
static uint32_t *keep(struct finding *f, struct hand_edges *h)
{
    size_t n = h->targets.len;
    uint32_t *list = h->slab;
    if (n > SLAB / 4) {
        list = new_slab(f, n);
    } else if (n >= h->left) {
        h->slab = list = new_slab(f, SLAB);
        h->left = list ? SLAB : 0;
    }
    if (!list)
        return NULL;
    if (n)
        memcpy(list, h->targets.data, n * sizeof *list);
    if (list == h->slab) {
        h->slab += n;
        h->left -= n;
    }
    return list;
}

/* A chunk being looked at. */
struct chunk {
    const struct tt_heap_index *index;
    const struct finding *finding;
    struct hand_edges *hand;
    uint32_t first, *begin;
    bool tagging;  /* in the block at hand */
    bool sifted;   /* the memory of the strip; else it must be looked at */
    unsigned next; /* in the strip */
    struct tt_heap_strip strip;
};

static inline __attribute__((always_inline)) int note(struct chunk *c, uint32_t i, uint64_t word)
{
    struct hand_edges *h = c->hand;
    h->word[h->n] = word;
    h->from[h->n++] = (uint16_t)i;
    return h->n == BATCH ? flush(c->index, h, c->first, c->begin) : 0;
}

/* Gathers those words of block first + i that may be pointers. */
static inline __attribute__((always_inline)) int look(struct chunk *c, uint32_t i,
                                                      const uint64_t *words, uint64_t n)
{
    const struct tt_heap_index *x = c->index;
    for (uint64_t k = 0; k < n; k++) {
        uint64_t word = words[k];
        if (word - x->low >= x->high - x->low) {
            c->tagging |= word >> TT_HEAP_ADDRESS_BITS && tt_heap_near(x, word & TT_HEAP_UNTAG);
            continue;
        }
        if (tt_heap_near(x, word) && note(c, i, word))
            return -ENOMEM;
    }
    return 0;
}

/* The same for [from, to) of the strip. */
static int pick(struct chunk *c, uint32_t i, const uint8_t *from, const uint8_t *to)
{
    const struct tt_heap_index *x = c->index;
    const struct tt_heap_strip *s = &c->strip;
    size_t first = (size_t)(from - s->start) / 8, end = (size_t)(to - s->start) / 8;
    while (c->next < s->n && s->at[c->next] < first)
        c->next++;
    for (; c->next < s->n && s->at[c->next] < end; c->next++) {
        uint32_t what = s->what[c->next];
        if (what == TT_HEAP_TAGGED) {
            c->tagging = true;
            continue;
        }
        uint64_t word = tt_heap_sieve_word(c->finding->sieve, what);
        if (word - x->low < x->high - x->low && tt_heap_near(x, word) && note(c, i, word))
            return -ENOMEM;
    }
    return 0;
}

/* Blocks come in ascending order, from anywhere on. */
static void enter(struct chunk *c, const uint8_t *place)
{
    c->sifted = tt_heap_pager_strip(c->finding->pager, place, &c->strip);
    size_t low = 0, high = c->sifted ? c->strip.n : 0, at = (size_t)(place - c->strip.start) / 8;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (c->strip.at[mid] < at)
            low = mid + 1;
        else
            high = mid;
    }
    c->next = (unsigned)low;
}

static inline __attribute__((always_inline)) int gather(struct chunk *c, uint32_t i,
                                                        const uint64_t *words, uint64_t n)
{
    const uint8_t *from = (const uint8_t *)words, *to = from + n * 8;
    if (!c->finding->pager)
        return look(c, i, words, n);
    while (from < to) {
        if (from < c->strip.start || from >= c->strip.end)
            enter(c, from);
        const uint8_t *until = to < c->strip.end ? to : c->strip.end;
        if (c->sifted
                ? pick(c, i, from, until)
                : look(c, i, (const uint64_t *)(const void *)from, (size_t)(until - from) / 8))
            return -ENOMEM;
        from = until;
    }
    return 0;
}

/* A block that lies in another range than the one before it, or in two. */
static int gather_all(struct chunk *c, uint32_t i)
{
    uint64_t n = 0;
    for (uint64_t from = 0; from < c->index->list[c->first + i].size; from += n ? n * 8 : 4096) {
        const uint64_t *words = tt_heap_words(c->index, c->first + i, from, &n);
        if (gather(c, i, words, n))
            return -ENOMEM;
    }
    return 0;
}

static int find_chunk(void *arg, unsigned hand, uint32_t number)
{
    struct finding *f = arg;
    struct tt_heap_edges *e = f->edges;
    const struct tt_heap_index *x = e->index;
    struct hand_edges *h = f->hands[hand];
    if (!h && !(h = f->hands[hand] = calloc(1, sizeof *h)))
        return -ENOMEM;
    uint32_t first = number << TT_HEAP_CHUNK_BITS, n = x->n - first;
    n = n < TT_HEAP_CHUNK ? n : TT_HEAP_CHUNK;
    struct chunk c = {
        .index = x, .finding = f, .hand = h, .first = first, .begin = e->begin + first + number};
    struct tt_heap_window w = {0}; /* that the block before lies in */
    h->targets.len = h->n = 0;
    for (uint32_t i = 0; i < n; i++) {
        const struct tt_heap_block *b = &x->list[first + i];
        bool same = w.bytes && b->address >= w.start && b->address + b->size <= w.end;
        const uint8_t *bytes = same ? w.bytes + (b->address - w.start) : NULL;
        c.tagging = false;
        if (same ? gather(&c, i, (const uint64_t *)(const void *)bytes, b->size / 8)
                 : gather_all(&c, i))
            return -ENOMEM;
        if (!same)
            w = x->windows[tt_heap_cell_of(x, b->address)->range];
        if (c.tagging)
            tt_heap_set_bit(e->tagging, first + i);
    }
    if (flush(x, h, first, c.begin))
        return -ENOMEM;
    for (uint32_t i = 0; i < n; i++) {
        if (!c.begin[i + 1])
            tt_heap_set_bit(e->leaf, first + i);
        c.begin[i + 1] += c.begin[i];
    }
    e->lists[number] = keep(f, h);
    return e->lists[number] ? 0 : -ENOMEM;
}

int tt_heap_edges_find(const struct tt_heap_index *index, unsigned threads,
                       struct tt_heap_edges *out)
{
    *out = (struct tt_heap_edges){
        .index = index,
        .n = (uint32_t)(((uint64_t)index->n + TT_HEAP_CHUNK - 1) >> TT_HEAP_CHUNK_BITS)};
    out->lists = calloc(out->n + 1, sizeof *out->lists);
    out->begin = tt_heap_array((size_t)index->n + out->n + 1, sizeof *out->begin);
    out->leaf = calloc(index->n / 64 + 1, sizeof *out->leaf);
    out->tagging = calloc(index->n / 64 + 1, sizeof *out->tagging);
    struct finding f = {.edges = out, .lock = PTHREAD_MUTEX_INITIALIZER};
    if (index->image->pager)
        f.sieve = tt_heap_pager_sieve(index->image->pager);
    if (f.sieve && tt_heap_sieve_covers(f.sieve, index))
        f.pager = index->image->pager;
    int rc = -ENOMEM;
    if (out->lists && out->begin && out->leaf && out->tagging)
        rc = tt_heap_each(out->n, threads, find_chunk, &f);
    for (unsigned i = 0; i < TT_HEAP_HANDS; i++)
        if (f.hands[i]) {
            tt_vec_free(&f.hands[i]->targets);
            free(f.hands[i]);
        }
    pthread_mutex_destroy(&f.lock);
    if (index->image->pager)
        tt_heap_pager_sifted_enough(index->image->pager);
    if (rc)
        tt_heap_edges_free(out);
    return rc;
}

void tt_heap_edges_free(struct tt_heap_edges *edges)
{
    for (size_t i = 0; i < edges->slabs.len; i++)
        tt_heap_array_free(edges->slabs.data[i]);
    tt_vec_free(&edges->slabs);
    free(edges->lists);
    tt_heap_array_free(edges->begin);
    free(edges->leaf);
    free(edges->tagging);
    *edges = (struct tt_heap_edges){0};
}
