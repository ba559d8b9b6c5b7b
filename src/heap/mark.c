/* SPDX-License-Identifier: Apache-2.0 */
/* Conservative marking: a word that could be a pointer to or into a block is one. What each block
 * points to is known by now (edges.c), so a breadth-first walk only meets flat arrays: its queue is
 * read in order, hence each list can be asked for long before it is needed (Cher, Hosking and
 * Vitek 2004), and most blocks, which point to nothing, cost no miss of the cache at all. One
 * thread does as many blocks a second as memory lets two. Noted on the way is what tells where ways
 * meet, which is all that finding dominators needs (dominate.c). Start: tt_heap_mark. */
#include "heap/internal.h"

#include <string.h>

enum { FAR = 32, NEAR = 16 }; /* places of the queue that lists are asked for in advance */

struct walk {
    const struct tt_heap_edges *edges;
    struct tt_heap_graph *graph;
    uint64_t *reached;
    const uint64_t *lasting; /* reached by lasting objects, while passing ones are followed */
};

static inline void add(struct tt_heap_graph *g, uint32_t id, uint32_t parent)
{
    g->id[g->n] = id;
    g->parent[g->n++] = parent;
}

/* Node v points to the block. */
static inline __attribute__((always_inline)) void meet(struct walk *w, uint32_t v, uint32_t block)
{
    struct tt_heap_graph *g = w->graph;
    if (!tt_heap_bit(w->reached, block)) {
        tt_heap_set_bit(w->reached, block);
        add(g, block, v);
    } else if (g->id[g->parent[v]] == block) {
        tt_heap_set_bit(g->back, v);
    } else if (!w->lasting || !tt_heap_bit(w->lasting, block)) {
        tt_heap_set_bit(g->many, block);
        tt_heap_set_bit(tt_heap_bit(w->edges->leaf, block) ? g->share : g->cross, v);
    }
}

/* From node v on, until nothing new is met. Returns the number of nodes. */
static uint32_t go(struct walk *w, uint32_t v)
{
    struct tt_heap_graph *g = w->graph;
    const struct tt_heap_edges *e = w->edges;
    uint32_t blocks = g->index->n;
    for (; v < g->n; v++) {
        uint32_t id = v + FAR < g->n ? g->id[v + FAR] : blocks;
        if (id < blocks && !tt_heap_bit(e->leaf, id))
            __builtin_prefetch(tt_heap_begin(e, id));
        id = v + NEAR < g->n ? g->id[v + NEAR] : blocks;
        if (id < blocks && !tt_heap_bit(e->leaf, id))
            __builtin_prefetch(e->lists[id >> TT_HEAP_CHUNK_BITS] + *tt_heap_begin(e, id));
        id = g->id[v];
        if (id < blocks) {
            if (tt_heap_bit(e->leaf, id))
                continue;
            uint32_t n;
            const uint32_t *targets = tt_heap_targets(e, id, &n);
            for (uint32_t i = 0; i < n; i++)
                meet(w, v, targets[i]);
        } else if (id < tt_heap_first_object(g)) {
            meet(w, v, g->words.data[id - blocks].block);
        } else {
            const struct tt_heap_object *o = &g->objects.data[id - tt_heap_first_object(g)];
            for (uint32_t i = 0; i < o->n; i++)
                add(g, blocks + o->first + i, v);
        }
    }
    return v;
}

/* The entry, what lasting objects hold, then the rest. */
static int number_nodes(struct walk *w)
{
    struct tt_heap_graph *g = w->graph;
    uint32_t first = tt_heap_first_object(g), v = 1;
    uint64_t *lasting = NULL;
    add(g, first + (uint32_t)g->objects.len, 0);
    for (int passing = 0; passing < 2; passing++) {
        for (uint32_t i = 0; i < g->objects.len; i++)
            if (g->objects.data[i].passing == passing)
                add(g, first + i, 0);
        v = go(w, v);
        if (passing)
            break;
        g->lasting = v;
        lasting = malloc((g->index->n / 64 + 1) * sizeof *lasting);
        if (!lasting)
            return -ENOMEM;
        memcpy(lasting, w->reached, (g->index->n / 64 + 1) * sizeof *lasting);
        w->lasting = lasting;
    }
    free(lasting);
    return 0;
}

/* ---- words with tags ---- */

struct tagged {
    const struct tt_heap_edges *edges;
    const uint64_t *reached;
    uint64_t *bits;
};

/* Notes what the reached blocks of a chunk would point to if their words had no tags. */
static int look_at_tags(void *arg, unsigned hand, uint32_t number)
{
    (void)hand;
    const struct tagged *t = arg;
    const struct tt_heap_index *x = t->edges->index;
    uint32_t first = number << TT_HEAP_CHUNK_BITS;
    for (uint32_t b = first; b < x->n && b - first < TT_HEAP_CHUNK; b++) {
        uint64_t n = 0;
        if (!tt_heap_bit(t->edges->tagging, b) || !tt_heap_bit(t->reached, b))
            continue;
        for (uint64_t from = 0; from < x->list[b].size; from += n ? n * 8 : 4096) {
            const uint64_t *words = tt_heap_words(x, b, from, &n);
            for (uint64_t k = 0; k < n; k++) {
                uint32_t to = words[k] >> TT_HEAP_ADDRESS_BITS
                                  ? tt_heap_find(x, words[k] & TT_HEAP_UNTAG)
                                  : TT_HEAP_NONE;
                if (to != TT_HEAP_NONE)
                    __atomic_fetch_or(&t->bits[to / 64], 1ull << (to % 64), __ATOMIC_RELAXED);
            }
        }
    }
    return 0;
}

static int count_tagged(const struct tt_heap_edges *edges, struct tt_heap_graph *graph,
                        unsigned threads, struct tt_heap_marks *out)
{
    struct tagged t = {edges, out->reached, graph->tagged};
    if (out->reached_units == out->n)
        return 0;
    if (tt_heap_each(edges->n, threads, look_at_tags, &t))
        return -ENOMEM;
    for (uint32_t i = 0; i < (out->n + 63) / 64; i++)
        out->tagged_lost += (uint64_t)__builtin_popcountll(t.bits[i] & ~out->reached[i]);
    return 0;
}

int tt_heap_mark(const struct tt_heap_edges *edges, struct tt_heap_graph *graph, unsigned threads,
                 struct tt_heap_marks *out)
{
    uint64_t n = edges->index->n, most = n + graph->words.len + graph->objects.len + 1; /* nodes */
    *out = (struct tt_heap_marks){.n = edges->index->n};
    if (most >= TT_HEAP_NONE)
        return -E2BIG;
    out->reached = calloc(n / 64 + 1, sizeof *out->reached);
    graph->many = calloc(n / 64 + 1, sizeof *graph->many);
    graph->id = tt_heap_array(most, sizeof *graph->id);
    graph->parent = tt_heap_array(most, sizeof *graph->parent);
    graph->cross = calloc(most / 64 + 1, sizeof *graph->cross);
    graph->share = calloc(most / 64 + 1, sizeof *graph->share);
    graph->back = calloc(most / 64 + 1, sizeof *graph->back);
    struct walk w = {.edges = edges, .graph = graph, .reached = out->reached};
    int rc = -ENOMEM;
    if (out->reached && graph->many && graph->id && graph->parent && graph->cross && graph->share &&
        graph->back)
        rc = number_nodes(&w);
    if (!rc) {
        out->reached_units = graph->n - 1 - graph->words.len - graph->objects.len;
        rc = count_tagged(edges, graph, threads, out);
    }
    if (rc)
        tt_heap_marks_free(out);
    return rc;
}

void tt_heap_marks_free(struct tt_heap_marks *marks)
{
    free(marks->reached);
    *marks = (struct tt_heap_marks){0};
}
