/* SPDX-License-Identifier: Apache-2.0 */
/* The lost blocks: which of them are roots, and which belong together. A root is what the program
 * dropped; the rest hangs on it. In a graph walked in any order, the start of the last walk that
 * found something new is led to by nothing later; so a second pass over the starts in reverse order
 * meets every source component once, cycles included, and needs neither in-degrees nor the
 * components themselves. Start: tt_heap_lost_find, tt_heap_group. */
#include "heap/internal.h"

#include <stdio.h>
#include <string.h>

enum { AHEAD = 8 };

/* ---- lost blocks and their roots ---- */

/* Lost blocks by place in the list of them. */
struct finding {
    const struct tt_heap_edges *edges;
    const uint64_t *lost; /* a bit for each block */
    uint32_t *ranks;
    struct tt_heap_lost *out;
    TT_VEC(uint32_t) stack, starts;
};

/* Follows lost blocks from the start, setting root[] of those that have none. 0 or -ENOMEM. */
static int follow(struct finding *f, uint32_t start)
{
    uint32_t *root = f->out->root;
    root[start] = start;
    if (tt_vec_push(&f->stack, start))
        return -ENOMEM;
    while (f->stack.len) {
        uint32_t n, from = f->out->list.data[f->stack.data[--f->stack.len]];
        const uint32_t *targets = tt_heap_targets(f->edges, from, &n);
        if (tt_vec_reserve(&f->stack, f->stack.len + n))
            return -ENOMEM;
        for (uint32_t i = 0; i < n; i++) {
            if (!tt_heap_bit(f->lost, targets[i]))
                continue;
            uint32_t to = tt_heap_rank(f->lost, f->ranks, targets[i]);
            if (root[to] != TT_HEAP_NONE)
                continue;
            root[to] = start;
            __builtin_prefetch(tt_heap_begin(f->edges, targets[i]));
            f->stack.data[f->stack.len++] = to;
        }
    }
    return 0;
}

/* Sets root[] of every lost block. */
static int find_roots(struct finding *f)
{
    struct tt_heap_lost *lost = f->out;
    size_t size = lost->list.len * sizeof *lost->root;
    int rc = 0;
    memset(lost->root, 0xff, size);
    for (uint32_t i = 0; i < lost->list.len && !rc; i++)
        if (lost->root[i] == TT_HEAP_NONE)
            rc = tt_vec_push(&f->starts, i) ? -ENOMEM : follow(f, i);
    memset(lost->root, 0xff, size);
    for (size_t i = f->starts.len; i-- > 0 && !rc;)
        if (lost->root[f->starts.data[i]] == TT_HEAP_NONE) {
            lost->roots++;
            rc = follow(f, f->starts.data[i]);
        }
    return rc;
}

struct shaping {
    const struct tt_heap_shaper *shaper;
    struct tt_heap_lost *lost;
};

/* Shapes of the lost blocks of a chunk. */
static int shape_chunk(void *arg, unsigned hand, uint32_t chunk)
{
    (void)hand;
    const struct shaping *s = arg;
    const uint32_t *list = s->lost->list.data;
    bool late = s->shaper->index->image->pager != NULL;
    size_t low = 0, high = s->lost->list.len;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (list[mid] >> TT_HEAP_CHUNK_BITS < chunk)
            low = mid + 1;
        else
            high = mid;
    }
    for (; low < s->lost->list.len && list[low] >> TT_HEAP_CHUNK_BITS == chunk; low++) {
        uint64_t words;
        if (!late && low + AHEAD < s->lost->list.len)
            __builtin_prefetch(tt_heap_words(s->shaper->index, list[low + AHEAD], 0, &words));
        tt_heap_shape_of(s->shaper, list[low], &s->lost->shape[low]);
    }
    return 0;
}

int tt_heap_lost_find(const struct tt_heap_edges *edges, const struct tt_heap_marks *marks,
                      const struct tt_heap_shaper *shaper, unsigned threads,
                      struct tt_heap_lost *out)
{
    *out = (struct tt_heap_lost){0};
    const struct tt_heap_index *index = edges->index;
    size_t n = index->n - marks->reached_units, words = (size_t)index->n / 64 + 1;
    if (!n)
        return 0;
    uint64_t *bits = malloc(words * sizeof *bits);
    struct finding f = {.edges = edges, .lost = bits, .out = out};
    uint32_t total;
    out->root = malloc(n * sizeof *out->root);
    out->group = malloc(n * sizeof *out->group);
    out->shape = malloc(n * sizeof *out->shape);
    int rc = -ENOMEM;
    if (!bits || !out->root || !out->group || !out->shape || tt_vec_reserve(&out->list, n))
        goto out;
    for (size_t i = 0; i < words; i++)
        bits[i] = ~marks->reached[i];
    f.ranks = tt_heap_ranks(bits, index->n, &total);
    if (!f.ranks)
        goto out;
    for (uint32_t i = 0; i < index->n; i++)
        if (tt_heap_bit(bits, i))
            out->list.data[out->list.len++] = i;
    struct shaping shaping = {shaper, out};
    rc = tt_heap_each(edges->n, threads, shape_chunk, &shaping);
    if (!rc)
        rc = find_roots(&f);
out:
    tt_vec_free(&f.stack);
    tt_vec_free(&f.starts);
    free(f.ranks);
    free(bits);
    if (rc)
        tt_heap_lost_free(out);
    return rc;
}

void tt_heap_lost_free(struct tt_heap_lost *lost)
{
    tt_vec_free(&lost->list);
    free(lost->root);
    free(lost->group);
    free(lost->shape);
    free(lost->site);
    free(lost->chance);
    *lost = (struct tt_heap_lost){0};
}

/* ---- groups ---- */

/* A set of lost blocks with one key, at one of the three levels that people are told. */
struct node {
    uint64_t key;
    uint64_t units, bytes;
    uint32_t parent; /* the coarser node; its own number at the coarsest level */
    uint32_t children;
    uint32_t into; /* the node whose group it ends in */
    uint32_t level;
};
typedef TT_VEC(struct node) node_vec;

static int node_of(struct tt_map maps[TT_HEAP_LEVELS], node_vec *nodes, unsigned level,
                   const struct tt_heap_shape *shape, uint32_t *out)
{
    uint64_t *known = tt_map_get(&maps[level], shape->key[level]);
    if (known) {
        *out = (uint32_t)*known;
        return 0;
    }
    uint32_t parent = TT_HEAP_NONE, number;
    if (level != TT_HEAP_BY_SIZE) {
        if (node_of(maps, nodes, level + 1, shape, &parent))
            return -ENOMEM;
        /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): its node was pushed before */
        nodes->data[parent].children++;
    }
    number = (uint32_t)nodes->len;
    if (tt_vec_push(nodes, (struct node){.key = shape->key[level],
                                         .parent = parent == TT_HEAP_NONE ? number : parent,
                                         .into = number,
                                         .level = level}) ||
        tt_map_put(&maps[level], shape->key[level], number))
        return -ENOMEM;
    *out = number;
    return 0;
}

/* Whether the node is too small a part of its parent to be told apart from it: contents that vary
 * from block to block would else make a group of each block. Blocks that point into modules are
 * told apart unless there are very many sorts of them. */
static bool folds(const node_vec *nodes, const struct node *n)
{
    const struct node *parent = &nodes->data[n->parent];
    if (n->level == TT_HEAP_BY_KIND)
        return n->units * 20 < parent->units || (n->units == 1 && parent->children > 2) ||
               folds(nodes, parent);
    return n->level == TT_HEAP_BY_MODULE && n->units <= 2 && parent->children > 16;
}

/* Sets in which node's group each node ends. What is left over of a node goes with the only part of
 * it that is a group of its own, when there is just one; a fingerprint is as fine as it can be. */
static int fold(node_vec *nodes)
{
    uint32_t *parts = calloc(nodes->len + 1, sizeof *parts);
    if (!parts)
        return -ENOMEM;
    for (size_t i = 0; i < nodes->len; i++) {
        struct node *n = &nodes->data[i], *parent = &nodes->data[n->parent];
        if (n->level == TT_HEAP_BY_SIZE)
            continue;
        if (folds(nodes, n))
            n->into = n->parent;
        else
            parent->into = ++parts[n->parent] == 1 ? (uint32_t)i : n->parent;
    }
    for (size_t i = 0; i < nodes->len; i++) {
        uint32_t end = (uint32_t)i; /* up to a parent, then down to its only part */
        while (nodes->data[end].into != end)
            end = nodes->data[end].into;
        parts[i] = end;
    }
    for (size_t i = 0; i < nodes->len; i++)
        nodes->data[i].into = parts[i];
    free(parts);
    return 0;
}

static int by_bytes(const void *a, const void *b)
{
    const struct tt_heap_group *x = a, *y = b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    return x->fingerprint < y->fingerprint ? -1 : x->fingerprint > y->fingerprint;
}

static int make_nodes(const struct tt_heap_index *x, struct tt_heap_lost *lost, node_vec *nodes)
{
    struct tt_map maps[TT_HEAP_LEVELS] = {{0}};
    int rc = 0;
    for (size_t i = 0; i < lost->list.len && !rc; i++) {
        uint32_t number;
        rc = node_of(maps, nodes, TT_HEAP_BY_KIND, &lost->shape[i], &number);
        if (rc)
            break;
        lost->group[i] = number;
        uint64_t size = x->list[lost->list.data[i]].size;
        for (;; number = nodes->data[number].parent) {
            /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): as above */
            nodes->data[number].units++;
            nodes->data[number].bytes += size;
            if (nodes->data[number].parent == number)
                break;
        }
    }
    for (int i = 0; i < TT_HEAP_LEVELS; i++)
        tt_map_free(&maps[i]);
    return rc;
}

static void add_block(struct tt_heap_group *g, const struct tt_heap_block *b, bool root)
{
    if (!g->units || b->size < g->size_min)
        g->size_min = b->size;
    if (b->size > g->size_max)
        g->size_max = b->size;
    g->units++;
    g->bytes += b->size;
    if (!root)
        return;
    if (g->roots < sizeof g->sample / sizeof *g->sample)
        g->sample[g->roots] = b->address;
    g->roots++;
}

/* Gives each block its group's number after sorting and cutting; hung blocks to their root's. */
static void settle(const struct tt_heap_index *x, struct tt_heap_lost *lost, const uint32_t *rank,
                   struct tt_heap_result *result)
{
    for (size_t i = 0; i < lost->list.len; i++)
        lost->group[i] = rank[lost->group[i]];
    for (size_t i = 0; i < lost->list.len; i++) {
        const struct tt_heap_block *b = &x->list[lost->list.data[i]];
        uint32_t own = lost->group[i], root = lost->group[lost->root[i]];
        if (lost->root[i] != i && root != TT_HEAP_NONE) {
            result->groups.data[root].hung_units++;
            result->groups.data[root].hung_bytes += b->size;
        }
        if (own == TT_HEAP_NONE || lost->root[i] == i)
            continue;
        struct tt_heap_group *g = &result->groups.data[own];
        for (size_t k = g->roots; k < sizeof g->sample / sizeof *g->sample; k++)
            if (!g->sample[k]) {
                g->sample[k] = b->address;
                break;
            }
    }
}

int tt_heap_group(const struct tt_heap_index *index, const struct tt_heap_shaper *shaper,
                  struct tt_heap_lost *lost, size_t max, tt_heap_name_fn *name, void *name_arg,
                  struct tt_heap_result *result)
{
    node_vec nodes = {0};
    uint32_t *rank = NULL;
    TT_VEC(struct tt_heap_group) groups = {0};
    int rc = make_nodes(index, lost, &nodes);
    if (rc)
        goto out;
    rc = fold(&nodes);
    if (rc)
        goto out;
    rc = -ENOMEM;
    rank = malloc((nodes.len + 1) * sizeof *rank);
    if (!rank)
        goto out;
    /* One group per node that something ends in; its place in the unsorted list, by node. */
    memset(rank, 0xff, nodes.len * sizeof *rank);
    for (size_t i = 0; i < lost->list.len; i++) {
        uint32_t into = nodes.data[lost->group[i]].into;
        if (rank[into] == TT_HEAP_NONE) {
            rank[into] = (uint32_t)groups.len;
            if (tt_vec_push(&groups, (struct tt_heap_group){.fingerprint = nodes.data[into].key}))
                goto out;
        }
        lost->group[i] = rank[into];
        add_block(&groups.data[rank[into]], &index->list[lost->list.data[i]], lost->root[i] == i);
    }
    /* While sorting, unknown_units holds the old place. */
    for (size_t i = 0; i < groups.len; i++)
        groups.data[i].unknown_units = i;
    if (groups.len)
        qsort(groups.data, groups.len, sizeof *groups.data, by_bytes);
    size_t keep = groups.len < max ? groups.len : max;
    if (tt_vec_reserve(&result->groups, keep))
        goto out;
    result->groups_left_out = groups.len - keep;
    for (size_t i = 0; i < groups.len; i++) {
        rank[groups.data[i].unknown_units] = i < keep ? (uint32_t)i : TT_HEAP_NONE;
        groups.data[i].unknown_units = 0;
        if (i < keep)
            result->groups.data[result->groups.len++] = groups.data[i];
    }
    settle(index, lost, rank, result);
    for (size_t i = 0; i < keep; i++) {
        struct tt_heap_group *g = &result->groups.data[i];
        uint32_t block = tt_heap_find(index, g->sample[0]);
        tt_heap_shape_text(shaper, block, name, name_arg, g->shape, sizeof g->shape);
    }
    rc = 0;
out:
    tt_vec_free(&groups);
    tt_vec_free(&nodes);
    free(rank);
    return rc;
}
