/* SPDX-License-Identifier: Apache-2.0 */
/* Immediate dominators of what can be reached: the node whose loss would free it. Where only one
 * pointer leads to a node, its source is the dominator, and most of a heap is trees of such nodes.
 * So what is left to find out is small: the core, those nodes from which others are reached where
 * ways meet. There Semi-NCA (Georgiadis, Tarjan and Werneck 2006) works on arrays of the core
 * alone. Blocks that point nowhere but are pointed to from several sides (shared strings) are in
 * nobody's way: their dominator is the nearest common ancestor of those that point to them, looked
 * for with jump pointers (Myers 1983). A pointer back to the only node that leads here means
 * nothing (a list's second link, a tree's link to its parent). Start: tt_heap_dominate. */
#include "heap/internal.h"

#include <string.h>

enum { SPARSE = 256 };

struct work {
    const struct tt_heap_edges *edges;
    struct tt_heap_graph *graph;
    uint32_t *number;  /* by id: the node, of the core's and of shared leaves; else 0 */
    uint32_t *ranks;   /* of the core's bits: each of its nodes has a place */
    uint32_t n, *node; /* by place */
    /* Pointers between places: those of one begin at begin[place]. */
    uint32_t *begin;
    TT_VEC(uint32_t) targets;
};

static bool is_block(const struct tt_heap_graph *g, uint32_t v)
{
    return g->id[v] < g->index->n;
}

/* Several ways lead to it. */
static bool is_met(const struct tt_heap_graph *g, uint32_t v)
{
    return is_block(g, v) && tt_heap_bit(g->many, g->id[v]);
}

/* Makes graph->cross a bit for each node of the core. From the last node to the first, so that all
 * that a node leads to is known before it. */
static void find_core(struct work *w)
{
    struct tt_heap_graph *g = w->graph;
    for (uint32_t v = g->n; v-- > 1;) {
        bool met = is_met(g, v);
        if (met && tt_heap_bit(g->back, v))
            tt_heap_set_bit(g->many, g->id[g->parent[v]]);
        if (tt_heap_bit(g->cross, v) || (met && !tt_heap_bit(w->edges->leaf, g->id[v]))) {
            tt_heap_set_bit(g->cross, v);
            tt_heap_set_bit(g->cross, g->parent[v]);
        }
    }
}

/* Gives the core's nodes places, in order; the entry is the first. */
static int place_core(struct work *w)
{
    struct tt_heap_graph *g = w->graph;
    tt_heap_set_bit(g->cross, 0);
    w->ranks = tt_heap_ranks(g->cross, g->n, &w->n);
    w->number =
        tt_heap_array((size_t)tt_heap_first_object(g) + g->objects.len + 1, sizeof *w->number);
    w->node = tt_heap_array(w->n, sizeof *w->node);
    if (!w->ranks || !w->number || !w->node)
        return -ENOMEM;
    uint32_t place = 0;
    for (uint32_t v = 0; v < g->n; v++) {
        bool core = tt_heap_bit(g->cross, v);
        if (core || is_met(g, v))
            w->number[g->id[v]] = v;
        if (core)
            w->node[place++] = v;
    }
    return 0;
}

/* ---- the core's pointers ---- */

static int put(struct work *w, uint32_t v, uint32_t id)
{
    const struct tt_heap_graph *g = w->graph;
    uint32_t u = w->number[id];
    if (!u || (id < g->index->n && tt_heap_bit(w->edges->leaf, id)) ||
        (v >= g->lasting && u < g->lasting))
        return 0;
    return tt_vec_push(&w->targets, tt_heap_rank(g->cross, w->ranks, u));
}

static int put_all(struct work *w, uint32_t v)
{
    const struct tt_heap_graph *g = w->graph;
    uint32_t id = g->id[v], n, blocks = g->index->n, objects = tt_heap_first_object(g);
    int rc = 0;
    if (id < blocks) {
        const uint32_t *t = tt_heap_targets(w->edges, id, &n);
        for (uint32_t i = 0; i < n && !rc; i++)
            rc = put(w, v, t[i]);
    } else if (id < objects) {
        rc = put(w, v, g->words.data[id - blocks].block);
    } else if (v) {
        const struct tt_heap_object *o = &g->objects.data[id - objects];
        for (uint32_t i = 0; i < o->n && !rc; i++)
            rc = put(w, v, blocks + o->first + i);
    } else {
        for (uint32_t i = 0; i < g->objects.len && !rc; i++)
            rc = put(w, v, objects + i);
    }
    return rc;
}

static int connect_core(struct work *w)
{
    w->begin = tt_heap_array((size_t)w->n + 1, sizeof *w->begin);
    if (!w->begin)
        return -ENOMEM;
    for (uint32_t place = 0; place < w->n; place++) {
        if (put_all(w, w->node[place]))
            return -ENOMEM;
        if (w->targets.len >= UINT32_MAX)
            return -E2BIG;
        w->begin[place + 1] = (uint32_t)w->targets.len;
    }
    return 0;
}

/* ---- the core's dominators ---- */

/* The core in the order of a depth-first walk. */
struct tree {
    uint32_t n;
    uint32_t *number; /* by place */
    uint32_t *place, *parent, *idom;
    uint32_t *begin, *list; /* who points to each, but for its parent */
};

struct step {
    uint32_t place, parent;
};

/* A pointer waits on the stack until it is its turn; the one that gets a place numbered is in the
 * spanning tree. */
static int go_down(const struct work *w, struct tree *t)
{
    TT_VEC(struct step) stack = {0};
    memset(t->number, 0xff, w->n * sizeof *t->number);
    int rc = tt_vec_push(&stack, (struct step){0, 0});
    while (stack.len && !rc) {
        struct step s = stack.data[--stack.len];
        if (t->number[s.place] != TT_HEAP_NONE)
            continue;
        t->number[s.place] = t->n;
        t->place[t->n] = s.place;
        t->parent[t->n] = s.parent;
        uint32_t first = w->begin[s.place], end = w->begin[s.place + 1];
        rc = tt_vec_reserve(&stack, stack.len + (end - first));
        for (uint32_t i = first; i < end && !rc; i++) {
            __builtin_prefetch(&t->number[w->targets.data[i]]);
            stack.data[stack.len++] = (struct step){w->targets.data[i], t->n};
        }
        t->n++;
    }
    tt_vec_free(&stack);
    return rc;
}

static int find_predecessors(const struct work *w, struct tree *t)
{
    t->begin = tt_heap_array((size_t)t->n + 2, sizeof *t->begin);
    if (!t->begin)
        return -ENOMEM;
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t place = 0; place < w->n; place++) {
            uint32_t from = t->number[place];
            for (uint32_t i = w->begin[place]; i < w->begin[place + 1]; i++) {
                uint32_t to = t->number[w->targets.data[i]];
                if (t->parent[to] == from || to == from)
                    continue;
                if (pass)
                    t->list[t->begin[to + 1]++] = from;
                else
                    t->begin[to + 2]++;
            }
        }
        if (pass)
            return 0;
        for (uint32_t v = 0; v <= t->n; v++)
            t->begin[v + 1] += t->begin[v];
        t->list = malloc(((size_t)t->begin[t->n + 1] + 1) * sizeof *t->list);
        if (!t->list)
            return -ENOMEM;
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

static int semi_nca(const struct tree *t)
{
    struct forest f = {.ancestor = tt_heap_array(t->n, sizeof(uint32_t)),
                       .label = tt_heap_array(t->n, sizeof(uint32_t)),
                       .semi = tt_heap_array(t->n, sizeof(uint32_t))};
    int rc = -ENOMEM;
    bool failed = false;
    if (!f.ancestor || !f.label || !f.semi)
        goto out;
    memcpy(f.ancestor, t->parent, t->n * sizeof(uint32_t));
    memcpy(t->idom, t->parent, t->n * sizeof(uint32_t));
    for (uint32_t v = 0; v < t->n; v++)
        f.semi[v] = f.label[v] = v;
    for (uint32_t v = t->n; v-- > 1;) {
        uint32_t least = t->parent[v];
        for (uint32_t i = t->begin[v]; i < t->begin[v + 1]; i++) {
            uint32_t semi = f.semi[evaluate(&f, t->list[i], v + 1, &failed)];
            least = semi < least ? semi : least;
        }
        f.semi[v] = least;
    }
    for (uint32_t v = 1; v < t->n; v++) {
        uint32_t candidate = t->idom[v];
        while (candidate > f.semi[v])
            candidate = t->idom[candidate];
        t->idom[v] = candidate;
    }
    rc = failed ? -ENOMEM : 0;
out:
    tt_heap_array_free(f.ancestor);
    tt_heap_array_free(f.label);
    tt_heap_array_free(f.semi);
    tt_vec_free(&f.path);
    return rc;
}

static int set_idom(struct tt_heap_graph *g, uint32_t v, uint32_t idom)
{
    if (g->idom[v] == idom)
        return 0;
    if (tt_vec_push(&g->parents, (struct tt_heap_parent){v, g->idom[v]}))
        return -ENOMEM;
    g->idom[v] = idom;
    return 0;
}

static int dominate_core(struct work *w)
{
    struct tree t = {.number = tt_heap_array(w->n, sizeof *t.number),
                     .place = tt_heap_array(w->n, sizeof *t.place),
                     .parent = tt_heap_array(w->n, sizeof *t.parent),
                     .idom = tt_heap_array(w->n, sizeof *t.idom)};
    int rc = t.number && t.place && t.parent && t.idom ? connect_core(w) : -ENOMEM;
    if (!rc)
        rc = go_down(w, &t);
    if (!rc)
        rc = find_predecessors(w, &t);
    if (!rc)
        rc = semi_nca(&t);
    for (uint32_t place = 1; place < w->n && !rc; place++)
        rc = set_idom(w->graph, w->node[place], w->node[t.place[t.idom[t.number[place]]]]);
    tt_heap_array_free(t.number);
    tt_heap_array_free(t.place);
    tt_heap_array_free(t.parent);
    tt_heap_array_free(t.idom);
    tt_heap_array_free(t.begin);
    free(t.list);
    return rc;
}

/* ---- shared leaves ---- */

/* Ways up are mostly short. For those that are not (a list of objects that share one) there are
 * jump pointers, made once they are worth it. */
struct jumps {
    const uint32_t *idom;
    uint64_t patience;      /* steps that may still be gone one by one */
    uint32_t *depth, *jump; /* NULL: not made */
};

static int make_jumps(struct jumps *j, uint32_t n)
{
    j->depth = tt_heap_array(n, sizeof *j->depth);
    j->jump = tt_heap_array(n, sizeof *j->jump);
    if (!j->depth || !j->jump)
        return -ENOMEM;
    for (uint32_t v = 1; v < n; v++) {
        uint32_t up = j->idom[v], over = j->jump[up];
        j->depth[v] = j->depth[up] + 1;
        j->jump[v] = j->depth[up] - j->depth[over] == j->depth[over] - j->depth[j->jump[over]]
                         ? j->jump[over]
                         : up;
    }
    return 0;
}

static uint32_t jump_to_common(const struct jumps *j, uint32_t a, uint32_t b)
{
    if (j->depth[a] < j->depth[b]) {
        uint32_t t = a;
        a = b;
        b = t;
    }
    while (j->depth[a] > j->depth[b])
        a = j->depth[j->jump[a]] >= j->depth[b] ? j->jump[a] : j->idom[a];
    while (a != b) {
        bool far = j->jump[a] != j->jump[b];
        a = far ? j->jump[a] : j->idom[a];
        b = far ? j->jump[b] : j->idom[b];
    }
    return a;
}

static int nearest_common(struct jumps *j, uint32_t n, uint32_t a, uint32_t b, uint32_t *out)
{
    for (; a != b && j->patience; j->patience--) { /* dominators have lower numbers */
        if (a > b)
            a = j->idom[a];
        else
            b = j->idom[b];
    }
    *out = a;
    if (a == b)
        return 0;
    if (!j->depth && make_jumps(j, n))
        return -ENOMEM;
    *out = jump_to_common(j, a, b);
    return 0;
}

static int settle_leaf(struct work *w, struct jumps *j, uint32_t from, uint32_t leaf)
{
    struct tt_heap_graph *g = w->graph;
    uint32_t common;
    if (!leaf || !g->idom[leaf] || (from >= g->lasting && leaf < g->lasting))
        return 0;
    if (nearest_common(j, g->n, g->idom[leaf], from, &common))
        return -ENOMEM;
    if (tt_heap_bit(g->cross, leaf)) { /* its parent is kept already */
        g->idom[leaf] = common;
        return 0;
    }
    if (common != g->idom[leaf])
        tt_heap_set_bit(g->cross, leaf);
    return set_idom(g, leaf, common);
}

static int dominate_leaves(struct work *w)
{
    struct tt_heap_graph *g = w->graph;
    struct jumps j = {.idom = g->idom, .patience = 4ull * g->n};
    uint32_t blocks = g->index->n;
    int rc = 0;
    for (uint32_t v = 1; v < g->n && !rc; v++) {
        if (!tt_heap_bit(g->share, v))
            continue;
        uint32_t id = g->id[v], n = 1;
        const uint32_t *t =
            id < blocks ? tt_heap_targets(w->edges, id, &n) : &g->words.data[id - blocks].block;
        for (uint32_t i = 0; i < n && !rc; i++)
            if (tt_heap_bit(w->edges->leaf, t[i]))
                rc = settle_leaf(w, &j, v, w->number[t[i]]);
    }
    tt_heap_array_free(j.depth);
    tt_heap_array_free(j.jump);
    return rc;
}

static int by_node(const void *a, const void *b)
{
    const struct tt_heap_parent *x = a, *y = b;
    return x->node < y->node ? -1 : x->node > y->node;
}

int tt_heap_dominate(const struct tt_heap_edges *edges, struct tt_heap_graph *graph)
{
    struct work w = {.edges = edges, .graph = graph};
    find_core(&w);
    int rc = place_core(&w);
    graph->idom = graph->parent;
    if (!rc && w.n > 1)
        rc = dominate_core(&w);
    if (!rc)
        rc = dominate_leaves(&w);
    if (!rc && graph->parents.len)
        qsort(graph->parents.data, graph->parents.len, sizeof *graph->parents.data, by_node);
    graph->parent = NULL;
    free(w.ranks);
    tt_heap_array_free(w.number);
    tt_heap_array_free(w.node);
    tt_heap_array_free(w.begin);
    tt_vec_free(&w.targets);
    return rc;
}
