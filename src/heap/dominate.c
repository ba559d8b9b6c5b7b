/* SPDX-License-Identifier: Apache-2.0 */
/* Immediate dominators of what can be reached: the node whose loss would free it. Pointers are
 * resolved first, in address order, on all cores and in batches behind prefetches; after that
 * nothing but flat arrays is walked. Semi-NCA needs no second numbering and is in practice linear;
 * only pointers that are not in the spanning tree cost more than one step.
 * Start: tt_heap_dominate. */
#include "heap/internal.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

enum {
    CHUNK_BITS = 15, /* blocks whose pointers are resolved at a time */
    CHUNK = 1 << CHUNK_BITS,
    BATCH = 4096, /* words resolved at a time */
    AHEAD = 16,
    MOST_THREADS = 4,
};

/* ---- pointers ---- */

/* A pointer that is not in the spanning tree, by numbers of nodes. */
struct extra {
    uint32_t from, to;
};
/* Targets of the blocks of a chunk, in order; those of block i end where those of i + 1 begin. */
struct chunk {
    TT_VEC(uint32_t) targets; /* blocks; in the end their nodes */
    TT_VEC(struct extra) extras;
    uint32_t begin[CHUNK + 1];
};
struct batch {
    uint64_t word[BATCH];
    uint32_t block[BATCH];
    uint16_t from[BATCH]; /* the block in the chunk that holds the word */
    unsigned n;
};
struct edges {
    const struct tt_heap_index *index;
    const struct tt_heap_marks *marks;
    struct chunk **chunks;
    uint32_t n, next; /* chunks; the next to be done */
    int (*work)(const struct edges *e, uint32_t number, struct batch *batch);
    const struct tt_heap_graph *graph; /* once nodes are numbered, with */
    const uint32_t *number;            /* the node of each id */
    uint32_t lasting;                  /* nodes below this number are held by lasting objects */
    bool failed;
};

/* Appends the blocks that the batch's words point to, and counts them in begin[from + 1]. */
static inline __attribute__((always_inline)) int flush(const struct tt_heap_index *x,
                                                       struct batch *b, struct chunk *c)
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

static inline __attribute__((always_inline)) int resolve(const struct edges *e, uint32_t number,
                                                         struct batch *b)
{
    const struct tt_heap_index *x = e->index;
    struct chunk *c = calloc(1, sizeof *c);
    e->chunks[number] = c;
    if (!c)
        return -ENOMEM;
    uint32_t first = number << CHUNK_BITS;
    for (uint32_t i = 0; i < CHUNK && first + i < x->n; i++) {
        if (!tt_heap_bit(e->marks->reached, first + i))
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
    for (uint32_t i = 0; i < CHUNK; i++)
        c->begin[i + 1] += c->begin[i];
    return 0;
}

static int resolve_plain(const struct edges *e, uint32_t number, struct batch *b)
{
    return resolve(e, number, b);
}
#ifdef __x86_64__
__attribute__((target("popcnt"))) static int resolve_popcnt(const struct edges *e, uint32_t number,
                                                            struct batch *b)
{
    return resolve(e, number, b);
}
#else
#define resolve_popcnt resolve_plain
#endif

/* Finds the pointers that are not in the spanning tree. What only passing objects hold does not
 * count for what lasting ones hold. */
static int sift(const struct edges *e, uint32_t number, struct batch *unused)
{
    (void)unused;
    struct chunk *c = e->chunks[number];
    uint32_t *t = c->targets.data, n = (uint32_t)c->targets.len;
    for (uint32_t k = 0; k < n; k++) {
        if (k + AHEAD < n)
            __builtin_prefetch(&e->number[t[k + AHEAD]]);
        t[k] = e->number[t[k]];
    }
    const uint32_t *parent = e->graph->parent;
    for (uint32_t i = 0; i < CHUNK; i++) {
        for (uint32_t k = c->begin[i]; k < c->begin[i + 1]; k++) {
            if (k + AHEAD < n)
                __builtin_prefetch(&parent[t[k + AHEAD]]);
            uint32_t u = e->number[(number << CHUNK_BITS) + i], v = t[k];
            if (parent[v] == u || v == u || (u >= e->lasting && v < e->lasting))
                continue;
            if (tt_vec_push(&c->extras, (struct extra){u, v}))
                return -ENOMEM;
        }
    }
    return 0;
}

static void *work(void *arg)
{
    struct edges *e = arg;
    struct batch *batch = malloc(sizeof *batch);
    if (batch)
        batch->n = 0;
    for (;;) {
        uint32_t number = __atomic_fetch_add(&e->next, 1, __ATOMIC_RELAXED);
        if (number >= e->n)
            break;
        if (!batch || e->work(e, number, batch)) {
            __atomic_store_n(&e->failed, true, __ATOMIC_RELAXED);
            break;
        }
    }
    free(batch);
    return NULL;
}

/* Does the work on all chunks. */
static int each_chunk(struct edges *e, unsigned threads,
                      int (*on)(const struct edges *e, uint32_t number, struct batch *batch))
{
    if (!threads) {
        long cores = sysconf(_SC_NPROCESSORS_ONLN);
        threads = cores < 1 ? 1 : (unsigned)cores;
    }
    if (threads > MOST_THREADS)
        threads = MOST_THREADS;
    e->work = on;
    e->next = 0;
    pthread_t id[MOST_THREADS];
    unsigned started = 1;
    while (started < threads && !pthread_create(&id[started], NULL, work, e))
        started++;
    work(e);
    for (unsigned i = 1; i < started; i++)
        pthread_join(id[i], NULL);
    return e->failed ? -ENOMEM : 0;
}

static int resolve_all(struct edges *e, unsigned threads)
{
    e->n = (e->index->n + CHUNK - 1) >> CHUNK_BITS;
    e->chunks = calloc(e->n + 2, sizeof *e->chunks);
    if (!e->chunks)
        return -ENOMEM;
    bool popcnt = false;
#ifdef __x86_64__
    popcnt = __builtin_cpu_supports("popcnt");
#endif
    return each_chunk(e, threads, popcnt ? resolve_popcnt : resolve_plain);
}

static void edges_free(struct edges *e)
{
    for (uint32_t i = 0; e->chunks && i < e->n; i++)
        if (e->chunks[i]) {
            tt_vec_free(&e->chunks[i]->targets);
            tt_vec_free(&e->chunks[i]->extras);
            free(e->chunks[i]);
        }
    free(e->chunks);
}

/* Successors of an id but the entry's. Those of words and of objects are made on the fly. */
struct successors {
    const uint32_t *list; /* NULL: the n ids from first on */
    uint32_t first, n;
};

static struct successors successors_of(const struct tt_heap_graph *g, const struct edges *e,
                                       uint32_t id)
{
    if (id < g->index->n) {
        const struct chunk *c = e->chunks[id >> CHUNK_BITS];
        uint32_t i = id & (CHUNK - 1);
        return (struct successors){c->targets.data + c->begin[i], 0, c->begin[i + 1] - c->begin[i]};
    }
    uint32_t word = id - tt_heap_first_word(g);
    if (word < g->words.len)
        return (struct successors){NULL, g->words.data[word].block, 1};
    const struct tt_heap_object *object = &g->objects.data[id - tt_heap_first_object(g)];
    return (struct successors){NULL, tt_heap_first_word(g) + object->first, object->n};
}
static inline uint32_t successor(const struct successors *s, uint32_t i)
{
    return s->list ? s->list[i] : s->first + i;
}

/* ---- walk, depth first ---- */

struct step {
    uint32_t id, parent;
};

typedef TT_VEC(struct step) step_vec;

/* A pointer waits on the stack until it is its turn; the one that gets a node numbered is in the
 * spanning tree. */
static int walk(struct tt_heap_graph *g, const struct edges *e, uint32_t *number, step_vec *stack)
{
    while (stack->len) {
        struct step s = stack->data[--stack->len];
        if (number[s.id] != TT_HEAP_NONE)
            continue;
        number[s.id] = g->n;
        g->id[g->n] = s.id;
        g->parent[g->n] = s.parent;
        struct successors to = successors_of(g, e, s.id);
        if (tt_vec_reserve(stack, stack->len + to.n))
            return -ENOMEM;
        for (uint32_t i = 0; i < to.n; i++) {
            uint32_t id = successor(&to, i);
            __builtin_prefetch(&number[id]);
            if (id < g->index->n)
                __builtin_prefetch(&e->chunks[id >> CHUNK_BITS]->begin[id & (CHUNK - 1)]);
            stack->data[stack->len++] = (struct step){id, g->n};
        }
        g->n++;
    }
    return 0;
}

/* Numbers the nodes: the entry, what lasting objects hold, then the rest. */
static int number_nodes(struct tt_heap_graph *g, struct edges *e, uint32_t *number)
{
    step_vec stack = {0};
    uint32_t first = tt_heap_first_object(g);
    int rc = 0;
    g->id[0] = first + (uint32_t)g->objects.len;
    g->parent[0] = 0;
    g->n = 1;
    for (int passing = 0; passing < 2 && !rc; passing++) {
        e->lasting = g->n; /* stays so after the second round's start */
        for (uint32_t i = 0; i < g->objects.len && !rc; i++)
            if (g->objects.data[i].passing == passing)
                rc = tt_vec_push(&stack, (struct step){first + i, 0});
        if (!rc)
            rc = walk(g, e, number, &stack);
    }
    tt_vec_free(&stack);
    return rc;
}

/* ---- dominators ---- */

/* For each node the nodes that point to it, but for the one that is its parent in the tree. */
struct predecessors {
    uint32_t *begin, *list;
};

static int find_predecessors(const struct tt_heap_graph *g, struct edges *e, unsigned threads,
                             struct predecessors *out)
{
    e->graph = g;
    if (each_chunk(e, threads, sift))
        return -ENOMEM;
    /* Root words' pointers, as extras of a chunk of their own. */
    struct chunk *roots = calloc(1, sizeof *roots);
    e->chunks[e->n] = roots;
    if (!roots)
        return -ENOMEM;
    e->n++;
    for (uint32_t w = 0; w < g->words.len; w++) {
        uint32_t u = e->number[tt_heap_first_word(g) + w], v = e->number[g->words.data[w].block];
        if (g->parent[v] != u && (u < e->lasting || v >= e->lasting) &&
            tt_vec_push(&roots->extras, (struct extra){u, v}))
            return -ENOMEM;
    }
    uint64_t all = 0;
    for (uint32_t i = 0; i < e->n; i++)
        all += e->chunks[i]->extras.len;
    if (all > UINT32_MAX)
        return -E2BIG;
    out->begin = tt_heap_array((size_t)g->n + 2, sizeof *out->begin);
    out->list = malloc((all + 1) * sizeof *out->list);
    if (!out->begin || !out->list)
        return -ENOMEM;
    for (uint32_t i = 0; i < e->n; i++)
        for (size_t k = 0; k < e->chunks[i]->extras.len; k++)
            out->begin[e->chunks[i]->extras.data[k].to + 2]++;
    for (uint32_t v = 0; v <= g->n; v++)
        out->begin[v + 1] += out->begin[v];
    for (uint32_t i = 0; i < e->n; i++)
        for (size_t k = 0; k < e->chunks[i]->extras.len; k++) {
            struct extra x = e->chunks[i]->extras.data[k];
            out->list[out->begin[x.to + 1]++] = x.from;
        }
    return 0;
}

struct forest {
    uint32_t *ancestor, *label, *semi;
    TT_VEC(uint32_t) path;
};

/* The node with the least semidominator on the way from v up to the root of its tree among the
 * nodes numbered from `linked` on; compresses the way. */
static uint32_t evaluate(struct forest *f, uint32_t v, uint32_t linked, bool *failed)
{
    if (f->ancestor[v] < linked)
        return f->label[v];
    f->path.len = 0;
    do {
        if (tt_vec_push(&f->path, v))
            *failed = true;
        v = f->ancestor[v];
    } while (f->ancestor[v] >= linked);
    uint32_t above = v;
    while (f->path.len) {
        v = f->path.data[--f->path.len];
        f->ancestor[v] = f->ancestor[above];
        if (f->semi[f->label[above]] < f->semi[f->label[v]])
            f->label[v] = f->label[above];
        above = v;
    }
    return f->label[v];
}

static int semi_nca(struct tt_heap_graph *g, const struct predecessors *p)
{
    struct forest f = {.ancestor = tt_heap_array(g->n, sizeof(uint32_t)),
                       .label = tt_heap_array(g->n, sizeof(uint32_t)),
                       .semi = tt_heap_array(g->n, sizeof(uint32_t))};
    int rc = -ENOMEM;
    bool failed = false;
    if (!f.ancestor || !f.label || !f.semi)
        goto out;
    memcpy(f.ancestor, g->parent, g->n * sizeof(uint32_t));
    memcpy(g->idom, g->parent, g->n * sizeof(uint32_t));
    for (uint32_t v = 0; v < g->n; v++)
        f.semi[v] = f.label[v] = v;
    for (uint32_t v = g->n; v-- > 1;) {
        uint32_t least = g->parent[v];
        for (uint32_t i = p->begin[v]; i < p->begin[v + 1]; i++) {
            uint32_t semi = f.semi[evaluate(&f, p->list[i], v + 1, &failed)];
            least = semi < least ? semi : least;
        }
        f.semi[v] = least;
    }
    for (uint32_t v = 1; v < g->n; v++) {
        uint32_t candidate = g->idom[v];
        while (candidate > f.semi[v])
            candidate = g->idom[candidate];
        g->idom[v] = candidate;
    }
    rc = failed ? -ENOMEM : 0;
out:
    free(f.ancestor);
    free(f.label);
    free(f.semi);
    tt_vec_free(&f.path);
    return rc;
}

int tt_heap_dominate(struct tt_heap_graph *graph, const struct tt_heap_marks *marks,
                     unsigned threads)
{
    uint64_t most = (uint64_t)graph->index->n + graph->words.len + graph->objects.len + 1;
    if (most >= TT_HEAP_NONE)
        return -E2BIG;
    uint64_t nodes = marks->reached_units + graph->words.len + graph->objects.len + 1;
    struct edges edges = {.index = graph->index, .marks = marks};
    struct predecessors predecessors = {0};
    uint32_t *number = tt_heap_array(most, sizeof *number);
    graph->n = 0;
    graph->id = tt_heap_array(nodes, sizeof *graph->id);
    graph->parent = tt_heap_array(nodes, sizeof *graph->parent);
    graph->idom = tt_heap_array(nodes, sizeof *graph->idom);
    int rc = -ENOMEM;
    if (!number || !graph->id || !graph->parent || !graph->idom)
        goto out;
    memset(number, 0xff, most * sizeof *number);
    edges.number = number;
    rc = resolve_all(&edges, threads);
    if (!rc)
        rc = number_nodes(graph, &edges, number);
    if (!rc)
        rc = find_predecessors(graph, &edges, threads, &predecessors);
    edges_free(&edges);
    free(number);
    number = NULL;
    if (!rc)
        rc = semi_nca(graph, &predecessors);
out:
    free(number);
    free(predecessors.begin);
    free(predecessors.list);
    if (rc) {
        free(graph->id);
        free(graph->parent);
        free(graph->idom);
        graph->id = graph->parent = graph->idom = NULL;
    }
    return rc;
}

void tt_heap_graph_free(struct tt_heap_graph *graph)
{
    tt_vec_free(&graph->words);
    tt_vec_free(&graph->objects);
    free(graph->id);
    free(graph->parent);
    free(graph->idom);
    *graph = (struct tt_heap_graph){0};
}
