/* SPDX-License-Identifier: Apache-2.0 */
/* Who holds what can be reached. In the tree of dominators a node's weight is what would become
 * free without it. Most weight passes down trunks: a global that holds a table that holds all
 * calls. A holder is where a trunk begins: a node that weighs clearly less than the node above it.
 * Nodes of a list or a tree of equal blocks are no holders below the first one.
 * Start: tt_heap_retain. */
#include "heap/internal.h"

#include <stdio.h>
#include <string.h>

enum {
    MOST_ASKED = 500000, /* blocks asked for their site; of more, every n-th */
    MOST_HOLDERS = 254,
    MOST_HELD = 8,     /* sites listed of a holder */
    TCB_WORDS = 0x120, /* of glibc's struct pthread, about */
    AHEAD = 16,
};
/* A child this heavy continues the trunk; a holder is at least this part of all that is held. */
static const double TRUNK = 0.9, LEAST = 0.001;
/* A block in a block that weighs less of it than this is one of a collection. */
static const double ITEM = 0.15;

/* ---- weights ---- */

struct tree {
    const struct tt_heap_graph *graph;
    const struct tt_heap_index *index;
    const tt_heap_root_vec *roots;
    const struct tt_heap_shaper *shaper;
    const struct tt_heap_options *options;
    tt_heap_name_fn *name;
    void *name_arg;
    uint64_t total;
    uint64_t *bytes; /* by node: what it dominates, itself included */
    uint32_t *heavy; /* its heaviest child, of those that weigh something; 0 none */
    uint8_t *owner;  /* holder + 1 that is nearest above or the node itself, 0 none */
};

static bool is_block(const struct tree *t, uint32_t node)
{
    return t->graph->id[node] < t->index->n;
}
static const struct tt_heap_block *block_of(const struct tree *t, uint32_t node)
{
    return &t->index->list[t->graph->id[node]];
}

static int weigh(struct tree *t)
{
    uint32_t n = t->graph->n;
    const uint32_t *idom = t->graph->idom;
    t->bytes = tt_heap_array(n, sizeof *t->bytes);
    t->heavy = tt_heap_array(n, sizeof *t->heavy);
    t->owner = tt_heap_array(n, sizeof *t->owner);
    if (!t->bytes || !t->heavy || !t->owner)
        return -ENOMEM;
    for (uint32_t v = n; v-- > 1;) { /* dominators have lower numbers */
        if (v > AHEAD && is_block(t, v - AHEAD))
            __builtin_prefetch(block_of(t, v - AHEAD));
        if (is_block(t, v))
            t->bytes[v] += block_of(t, v)->size;
        t->bytes[idom[v]] += t->bytes[v];
    }
    t->total = t->bytes[0];
    for (uint32_t v = n; v-- > 1;) {
        if ((double)t->bytes[v] < LEAST * (double)t->total)
            continue; /* most: they cost no memory here */
        uint32_t *heavy = &t->heavy[idom[v]];
        if (!*heavy || t->bytes[v] >= t->bytes[*heavy])
            *heavy = v;
    }
    return 0;
}

/* The heaviest node right below, or any where none weighs much. */
static uint32_t heaviest(const struct tree *t, uint32_t node)
{
    if (t->heavy[node])
        return t->heavy[node];
    uint32_t low = node + 1, high = t->graph->n; /* numbers of parents ascend but for a few */
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (t->graph->idom[mid] < node)
            low = mid + 1;
        else
            high = mid;
    }
    return low < t->graph->n && t->graph->idom[low] == node ? low : 0;
}

static bool is_holder(const struct tree *t, uint32_t v)
{
    uint32_t up = t->graph->idom[v];
    if ((double)t->bytes[v] < LEAST * (double)t->total || !t->bytes[v])
        return false;
    if (!up)
        return true;
    if ((double)t->bytes[v] >= TRUNK * (double)t->bytes[up])
        return false;
    if (!is_block(t, v))
        return true;
    if (t->bytes[v] == block_of(t, v)->size)
        return false; /* a block alone */
    /* One as large as its parent is the next node of the same thing. */
    return !is_block(t, up) || (block_of(t, v)->size != block_of(t, up)->size &&
                                (double)t->bytes[v] >= ITEM * (double)t->bytes[up]);
}

/* Puts the heaviest holders' nodes into top, heaviest first; returns how many. */
static size_t find_holders(const struct tree *t, uint32_t *top, size_t max)
{
    size_t n = 0;
    for (uint32_t v = 1; v < t->graph->n; v++) {
        if (n == max && t->bytes[v] <= t->bytes[top[n - 1]])
            continue;
        if (!is_holder(t, v))
            continue;
        size_t at = n < max ? n++ : n - 1;
        for (; at && t->bytes[top[at - 1]] < t->bytes[v]; at--)
            top[at] = top[at - 1];
        top[at] = v;
    }
    return n;
}

/* ---- sites ---- */

static struct tt_heap_held *held_of(struct tt_heap_holder *h, uint32_t site, size_t *at)
{
    for (*at = 0; *at < h->held.len; ++*at)
        if (h->held.data[*at].site == site)
            return &h->held.data[*at];
    return tt_vec_push(&h->held, (struct tt_heap_held){.site = site}) ? NULL : &h->held.data[*at];
}

static int by_bytes(const void *a, const void *b)
{
    const struct tt_heap_held *x = a, *y = b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    return x->site < y->site ? -1 : x->site > y->site;
}

/* Counts the blocks of each holder, nested ones included. */
static void add_units(const struct tree *t, struct tt_heap_result *result, const uint32_t *top,
                      size_t n)
{
    struct tt_heap_holder *h = result->holders.data;
    for (uint32_t v = 1; v < t->graph->n; v++)
        if (t->owner[v] && is_block(t, v))
            h[t->owner[v] - 1].units++;
    bool done[MOST_HOLDERS] = {false};
    for (size_t k = 0; k < n; k++) { /* what lies below another has a higher number */
        size_t last = n;
        for (size_t i = 0; i < n; i++)
            if (!done[i] && (last == n || top[i] > top[last]))
                last = i;
        done[last] = true;
        uint8_t above = t->owner[t->graph->idom[top[last]]];
        if (above)
            h[above - 1].units += h[last].units;
    }
}

/* Adds up the sites of the blocks below each holder. example[] is a block of the holder's first
 * site, as few steps down as there is one: nodes are numbered by their distance. */
static int add_sites(struct tree *t, struct tt_heap_result *result, const uint32_t *top, size_t n,
                     uint32_t *example)
{
    if (!t->options->site_of)
        return 0;
    uint64_t stride = t->graph->n / MOST_ASKED + 1;
    TT_VEC(uint32_t) *nearest = calloc(n + 1, sizeof *nearest);
    int rc = nearest ? 0 : -ENOMEM;
    for (uint32_t v = 1; v < t->graph->n && !rc; v++) {
        if (!t->owner[v] || !is_block(t, v) || v % stride)
            continue;
        uint64_t requested = 0;
        const struct tt_heap_block *b = block_of(t, v);
        uint32_t site = t->options->site_of(t->options->arg, b->address, &requested);
        if (!site)
            continue;
        /* The nearest holder, and those above it. */
        for (uint32_t o = t->owner[v]; o && !rc; o = t->owner[t->graph->idom[top[o - 1]]]) {
            size_t at;
            struct tt_heap_held *held = held_of(&result->holders.data[o - 1], site, &at);
            if (!held || (at == nearest[o - 1].len && tt_vec_push(&nearest[o - 1], v))) {
                rc = -ENOMEM;
                break;
            }
            held->units += stride;
            held->bytes += stride * b->size;
        }
    }
    for (size_t i = 0; i < n; i++) {
        struct tt_heap_holder *h = &result->holders.data[i];
        size_t best = 0;
        for (size_t k = 1; k < h->held.len; k++)
            if (by_bytes(&h->held.data[k], &h->held.data[best]) < 0)
                best = k;
        if (!rc && h->held.len) {
            /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): as many as held sites */
            example[i] = nearest[i].data[best];
            qsort(h->held.data, h->held.len, sizeof *h->held.data, by_bytes);
            h->held.len = h->held.len < MOST_HELD ? h->held.len : MOST_HELD;
        }
        if (nearest)
            tt_vec_free(&nearest[i]);
    }
    free(nearest);
    return rc;
}

/* ---- for people ---- */

static const char *const REGISTERS[] = {"r15",     "r14",      "r13", "r12", "rbp",    "rbx", "r11",
                                        "r10",     "r9",       "r8",  "rax", "rcx",    "rdx", "rsi",
                                        "rdi",     "orig_rax", "rip", "cs",  "eflags", "rsp", "ss",
                                        "fs_base", "gs_base",  "ds",  "es",  "fs",     "gs"};

/* Where a root word lies; as many as `n` belong together. */
static void word_text(const struct tree *t, const struct tt_heap_word *w, uint32_t n, char *out,
                      size_t size)
{
    const struct tt_heap_image *image = t->index->image;
    const struct tt_heap_root *root = &t->roots->data[w->root];
    uint64_t address = root->address + w->offset * 8;
    char place[130], several[32] = "";
    if (n > 1)
        snprintf(several, sizeof several, " and %u words behind it", n - 1);
    switch (root->kind) {
    case TT_HEAP_ROOT_REGISTERS:
        if (n > 1)
            snprintf(out, size, "registers of thread %d", image->threads.data[root->number].tid);
        else
            snprintf(out, size, "register %s of thread %d", REGISTERS[w->offset],
                     image->threads.data[root->number].tid);
        return;
    case TT_HEAP_ROOT_KERNEL:
        snprintf(out, size, "%s", image->kernel_roots.data[root->number].what);
        return;
    case TT_HEAP_ROOT_STACK: {
        const struct tt_heap_thread *thread = &image->threads.data[root->number];
        bool local = address > thread->regs.rsp && thread->regs.fs_base > thread->regs.rsp &&
                     thread->regs.fs_base < root->address + root->n * 8 &&
                     address >= tt_heap_local_data(image, &thread->regs);
        snprintf(out, size, "%s of thread %d", local ? "thread-local data" : "stack", thread->tid);
        return;
    }
    default:
        break;
    }
    if (tt_heap_place_text(t->shaper, address, t->name, t->name_arg, place, sizeof place)) {
        snprintf(out, size, "global %s%s", place, several);
        return;
    }
    for (size_t i = 0; i < image->threads.len; i++) {
        uint64_t tcb = image->threads.data[i].regs.fs_base;
        if (tcb && address + 4096 >= tcb && address < tcb + 8ull * TCB_WORDS) {
            snprintf(out, size, "thread-local data of thread %d", image->threads.data[i].tid);
            return;
        }
    }
    const struct tt_heap_range *r = &image->ranges.data[root->number];
    snprintf(out, size, "%s %s%sat 0x%llx+0x%llx%s",
             root->kind == TT_HEAP_ROOT_SHARED ? "shared memory" : "mapped memory", r->path,
             r->path[0] ? " " : "", (unsigned long long)r->start,
             (unsigned long long)(address - r->start), several);
}

/* A root word or object. A word that carries the object's whole weight stands for it. */
static const struct tt_heap_word *root_of(const struct tree *t, uint32_t node, uint32_t *n)
{
    const struct tt_heap_graph *g = t->graph;
    uint32_t id = g->id[node];
    *n = 1;
    if (id < tt_heap_first_object(g))
        return &g->words.data[id - tt_heap_first_word(g)];
    uint32_t heavy = t->heavy[node];
    if (heavy && !is_block(t, heavy) && (double)t->bytes[heavy] >= TRUNK * (double)t->bytes[node])
        return &g->words.data[g->id[heavy] - tt_heap_first_word(g)];
    *n = g->objects.data[id - tt_heap_first_object(g)].n;
    return &g->words.data[g->objects.data[id - tt_heap_first_object(g)].first];
}

struct line {
    char *out;
    size_t size, used;
    bool full;
};
__attribute__((format(printf, 2, 3))) static void add(struct line *l, const char *format, ...)
{
    char part[200];
    va_list ap;
    va_start(ap, format);
    vsnprintf(part, sizeof part, format, ap);
    va_end(ap);
    size_t n = strlen(part);
    if (l->full || l->used + n + 5 > l->size) {
        if (!l->full && l->used + 5 <= l->size)
            strcpy(l->out + l->used, " ...");
        l->full = true;
        return;
    }
    memcpy(l->out + l->used, part, n + 1);
    l->used += n;
}

/* The offset in one block of a pointer to another, or false: there are blocks in between. */
static bool offset_of(const struct tree *t, uint32_t from, uint32_t to, uint64_t *offset)
{
    uint32_t block = t->graph->id[from];
    uint64_t n = 0;
    for (uint64_t at = 0; at < t->index->list[block].size; at += n ? n * 8 : 4096) {
        const uint64_t *words = tt_heap_words(t->index, block, at, &n);
        for (uint64_t i = 0; i < n; i++)
            if (tt_heap_holds(t->index, t->graph->id[to], words[i])) {
                *offset = at + i * 8;
                return true;
            }
    }
    return false;
}

/* The dominators from the holder down to the example, equal ones in a row said once. */
static void path_text(const struct tree *t, const uint32_t *nodes, size_t n, struct line *line)
{
    size_t i = 0;
    while (i < n && !line->full) {
        size_t same = 1;
        uint64_t size = block_of(t, nodes[i])->size, offset;
        while (i + same < n && block_of(t, nodes[i + same])->size == size)
            same++;
        add(line, " -> block %llu", (unsigned long long)size);
        if (same > 1)
            add(line, " (%zu in a row)", same);
        i += same;
        if (i < n && offset_of(t, nodes[i - 1], nodes[i], &offset))
            add(line, " +%llu", (unsigned long long)offset);
        else if (i < n)
            add(line, " ..");
    }
}

static int describe(struct tree *t, uint32_t node, uint32_t example, struct tt_heap_holder *h)
{
    h->bytes = t->bytes[node];
    char root_text[sizeof h->where];
    uint32_t n, root = node;
    if (is_block(t, node)) {
        uint64_t requested = 0;
        h->root = block_of(t, node)->address;
        if (t->options->site_of)
            h->site = t->options->site_of(t->options->arg, h->root, &requested);
        snprintf(h->where, sizeof h->where, "block of %llu bytes",
                 (unsigned long long)block_of(t, node)->size);
        while (is_block(t, root)) /* one of its ways to a root */
            root = tt_heap_parent_of(t->graph, root);
    }
    const struct tt_heap_word *word = root_of(t, root, &n);
    word_text(t, word, root == node ? n : 1, root_text, sizeof root_text);
    if (root == node) {
        const struct tt_heap_root *r = &t->roots->data[word->root];
        h->root = r->address ? r->address + word->offset * 8 : 0;
        snprintf(h->where, sizeof h->where, "%s", root_text);
    }
    struct line line = {.out = h->path, .size = sizeof h->path};
    add(&line, "%s", root_text);
    if (root != node && t->graph->idom[node] == 0)
        add(&line, " and others");
    TT_VEC(uint32_t) nodes = {0};
    int rc = 0;
    if (example) {
        for (uint32_t v = example; v != t->graph->idom[node] && !rc; v = t->graph->idom[v])
            rc = is_block(t, v) ? tt_vec_push(&nodes, v) : 0;
        for (size_t i = 0, k = nodes.len; !rc && i + 1 < k; i++, k--) {
            uint32_t swap = nodes.data[i];
            nodes.data[i] = nodes.data[k - 1];
            nodes.data[k - 1] = swap;
        }
    } else {
        for (uint32_t v = node; v && !rc; v = heaviest(t, v))
            rc = is_block(t, v) ? tt_vec_push(&nodes, v) : 0;
    }
    if (!rc && nodes.len) {
        uint32_t parent = tt_heap_parent_of(t->graph, node);
        if (root != node && parent != root && is_block(t, parent))
            add(&line, " ..");
        path_text(t, nodes.data, nodes.len, &line);
    }
    tt_vec_free(&nodes);
    return rc;
}

static void tree_free(struct tree *t)
{
    tt_heap_array_free(t->bytes);
    tt_heap_array_free(t->heavy);
    tt_heap_array_free(t->owner);
}

int tt_heap_retain(struct tt_heap_edges *edges, struct tt_heap_graph *graph,
                   const tt_heap_root_vec *roots, const struct tt_heap_shaper *shaper,
                   const struct tt_heap_options *options, tt_heap_name_fn *name, void *name_arg,
                   struct tt_heap_result *result)
{
    struct tree t = {.graph = graph,
                     .index = graph->index,
                     .roots = roots,
                     .shaper = shaper,
                     .options = options,
                     .name = name,
                     .name_arg = name_arg};
    size_t max = options->max_holders < MOST_HOLDERS ? options->max_holders : MOST_HOLDERS;
    uint32_t *top = calloc(2 * max + 2, sizeof *top), *example = top ? top + max + 1 : NULL;
    int rc = top ? tt_heap_dominate(edges, graph) : -ENOMEM;
    tt_heap_edges_free(edges);
    if (!rc)
        rc = weigh(&t);
    if (rc)
        goto out;
    rc = -ENOMEM;
    size_t n = find_holders(&t, top, max);
    if (tt_vec_reserve(&result->holders, n))
        goto out;
    for (size_t i = 0; i < n; i++) {
        result->holders.data[result->holders.len++] = (struct tt_heap_holder){0};
        t.owner[top[i]] = (uint8_t)(i + 1);
    }
    for (uint32_t v = 1; v < graph->n; v++)
        if (!t.owner[v])
            t.owner[v] = t.owner[graph->idom[v]];
    add_units(&t, result, top, n);
    rc = add_sites(&t, result, top, n, example);
    for (size_t i = 0; i < n && !rc; i++)
        rc = describe(&t, top[i], example[i], &result->holders.data[i]);
out:
    tree_free(&t);
    free(top);
    return rc;
}
