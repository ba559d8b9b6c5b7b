/* SPDX-License-Identifier: Apache-2.0 */
/* Immediate dominators of what can be reached: the node whose loss would free it. Pointers are
 * resolved first (edges.c); after that nothing but flat arrays is walked. Semi-NCA needs no second
 * numbering and is in practice linear; only pointers that are not in the spanning tree cost more
 * than one step. Start: tt_heap_dominate. */
#include "heap/internal.h"

#include <string.h>

enum { AHEAD = 16 };

/* A pointer that is not in the spanning tree, by numbers of nodes. */
struct extra {
    uint32_t from, to;
};
typedef TT_VEC(struct extra) extra_vec;

struct walk {
    struct tt_heap_graph *graph;
    struct tt_heap_edges edges; /* of the blocks; in the end between nodes */
    uint32_t *number;           /* the node of each id */
    uint32_t lasting;           /* nodes below this number are held by lasting objects */
    extra_vec *extras;          /* by chunk; the last one's are the root words' */
};

/* Successors of an id but the entry's. Those of words and of objects are made on the fly. */
struct successors {
    const uint32_t *list; /* NULL: the n ids from first on */
    uint32_t first, n;
};

static struct successors successors_of(const struct walk *w, uint32_t id)
{
    const struct tt_heap_graph *g = w->graph;
    struct successors s = {NULL, 0, 1};
    if (id < g->index->n) {
        s.list = tt_heap_targets(&w->edges, id, &s.n);
    } else if (id < tt_heap_first_object(g)) {
        s.first = g->words.data[id - tt_heap_first_word(g)].block;
    } else {
        const struct tt_heap_object *object = &g->objects.data[id - tt_heap_first_object(g)];
        s.first = tt_heap_first_word(g) + object->first;
        s.n = object->n;
    }
    return s;
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
static int go_down(struct walk *w, step_vec *stack)
{
    struct tt_heap_graph *g = w->graph;
    while (stack->len) {
        struct step s = stack->data[--stack->len];
        if (w->number[s.id] != TT_HEAP_NONE)
            continue;
        w->number[s.id] = g->n;
        g->id[g->n] = s.id;
        g->parent[g->n] = s.parent;
        struct successors to = successors_of(w, s.id);
        if (tt_vec_reserve(stack, stack->len + to.n))
            return -ENOMEM;
        for (uint32_t i = 0; i < to.n; i++) {
            uint32_t id = successor(&to, i);
            __builtin_prefetch(&w->number[id]);
            if (id < g->index->n)
                tt_heap_targets_soon(&w->edges, id);
            stack->data[stack->len++] = (struct step){id, g->n};
        }
        g->n++;
    }
    return 0;
}

/* Numbers the nodes: the entry, what lasting objects hold, then the rest. */
static int number_nodes(struct walk *w)
{
    struct tt_heap_graph *g = w->graph;
    step_vec stack = {0};
    uint32_t first = tt_heap_first_object(g);
    int rc = 0;
    g->id[0] = first + (uint32_t)g->objects.len;
    g->parent[0] = 0;
    g->n = 1;
    for (int passing = 0; passing < 2 && !rc; passing++) {
        w->lasting = g->n; /* stays so after the second round's start */
        for (uint32_t i = 0; i < g->objects.len && !rc; i++)
            if (g->objects.data[i].passing == passing)
                rc = tt_vec_push(&stack, (struct step){first + i, 0});
        if (!rc)
            rc = go_down(w, &stack);
    }
    tt_vec_free(&stack);
    return rc;
}

/* ---- dominators ---- */

/* Finds the pointers of a chunk's blocks that are not in the spanning tree. What only passing
 * objects hold does not count for what lasting ones hold. */
static int sift(void *arg, uint32_t chunk)
{
    struct walk *w = arg;
    struct tt_heap_chunk *c = w->edges.chunks[chunk];
    uint32_t *t = c->targets.data, n = (uint32_t)c->targets.len;
    for (uint32_t k = 0; k < n; k++) {
        if (k + AHEAD < n)
            __builtin_prefetch(&w->number[t[k + AHEAD]]);
        t[k] = w->number[t[k]];
    }
    const uint32_t *parent = w->graph->parent;
    for (uint32_t i = 0; i < TT_HEAP_CHUNK; i++) {
        for (uint32_t k = c->begin[i]; k < c->begin[i + 1]; k++) {
            if (k + AHEAD < n)
                __builtin_prefetch(&parent[t[k + AHEAD]]);
            uint32_t u = w->number[(chunk << TT_HEAP_CHUNK_BITS) + i], v = t[k];
            if (parent[v] == u || v == u || (u >= w->lasting && v < w->lasting))
                continue;
            if (tt_vec_push(&w->extras[chunk], (struct extra){u, v}))
                return -ENOMEM;
        }
    }
    return 0;
}

/* For each node the nodes that point to it, but for the one that is its parent in the tree. */
struct predecessors {
    uint32_t *begin, *list;
};

static int find_predecessors(struct walk *w, unsigned threads, struct predecessors *out)
{
    const struct tt_heap_graph *g = w->graph;
    uint32_t chunks = w->edges.n + 1;
    w->extras = calloc(chunks, sizeof *w->extras);
    if (!w->extras || tt_heap_each_chunk(&w->edges, threads, sift, w))
        return -ENOMEM;
    for (uint32_t i = 0; i < g->words.len; i++) {
        uint32_t u = w->number[tt_heap_first_word(g) + i], v = w->number[g->words.data[i].block];
        if (g->parent[v] != u && (u < w->lasting || v >= w->lasting) &&
            tt_vec_push(&w->extras[chunks - 1], (struct extra){u, v}))
            return -ENOMEM;
    }
    uint64_t all = 0;
    for (uint32_t i = 0; i < chunks; i++)
        all += w->extras[i].len;
    if (all > UINT32_MAX)
        return -E2BIG;
    out->begin = tt_heap_array((size_t)g->n + 2, sizeof *out->begin);
    out->list = malloc((all + 1) * sizeof *out->list);
    if (!out->begin || !out->list)
        return -ENOMEM;
    for (uint32_t i = 0; i < chunks; i++)
        for (size_t k = 0; k < w->extras[i].len; k++)
            out->begin[w->extras[i].data[k].to + 2]++;
    for (uint32_t v = 0; v <= g->n; v++)
        out->begin[v + 1] += out->begin[v];
    for (uint32_t i = 0; i < chunks; i++)
        for (size_t k = 0; k < w->extras[i].len; k++) {
            struct extra x = w->extras[i].data[k];
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
    struct walk w = {.graph = graph};
    struct predecessors predecessors = {0};
    w.number = tt_heap_array(most, sizeof *w.number);
    graph->n = 0;
    graph->id = tt_heap_array(nodes, sizeof *graph->id);
    graph->parent = tt_heap_array(nodes, sizeof *graph->parent);
    graph->idom = tt_heap_array(nodes, sizeof *graph->idom);
    int rc = -ENOMEM;
    if (w.number && graph->id && graph->parent && graph->idom)
        rc = tt_heap_edges_find(graph->index, marks, false, threads, &w.edges);
    if (!rc) {
        memset(w.number, 0xff, most * sizeof *w.number);
        rc = number_nodes(&w);
    }
    if (!rc)
        rc = find_predecessors(&w, threads, &predecessors);
    for (uint32_t i = 0; w.extras && i <= w.edges.n; i++)
        tt_vec_free(&w.extras[i]);
    free(w.extras);
    free(w.number);
    tt_heap_edges_free(&w.edges);
    if (!rc)
        rc = semi_nca(graph, &predecessors);
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
