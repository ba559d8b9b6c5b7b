/* SPDX-License-Identifier: Apache-2.0 */
/* The entry into the graph of blocks: the words of the roots that point to blocks, and which of
 * them lie together in one object of the program. Start: tt_heap_graph_roots. */
#include "heap/internal.h"

#include <string.h>

enum {
    GAP = 8,           /* words without a pointer that do not end a run of root words */
    TCB_WORDS = 0x120, /* of glibc's struct pthread, about */
    BATCH = 2048,
};

/* Above the thread's first frame, which start_thread's buffer for cancellation marks; struct
 * pthread points to it. */
uint64_t tt_heap_local_data(const struct tt_heap_image *image, const struct user_regs_struct *r)
{
    uint64_t highest = r->rsp;
    for (unsigned i = 0; i < TCB_WORDS; i++) {
        const uint8_t *at = tt_heap_bytes(image, r->fs_base + 8ull * i, 8);
        uint64_t v;
        if (!at)
            break;
        memcpy(&v, at, 8);
        if (v > highest && v < r->fs_base)
            highest = v;
    }
    return highest + 128; /* the rest of that frame */
}

/* Where in a thread's stack its local data begins, in words; n: not in this stack. */
static uint64_t local_from(const struct tt_heap_image *image, const struct tt_heap_root *root)
{
    const struct user_regs_struct *regs = &image->threads.data[root->number].regs;
    uint64_t end = root->address + root->n * 8;
    if (regs->fs_base < root->address || regs->fs_base >= end)
        return root->n;
    uint64_t local = tt_heap_local_data(image, regs);
    return local < root->address ? 0 : local < end ? (local - root->address) / 8 : root->n;
}

/* A root being looked at. */
struct look {
    struct tt_heap_graph *graph;
    uint32_t root;
    bool passing, any;
    uint64_t local, before; /* before: the last word that points to a block */
    unsigned n;
    uint64_t word[BATCH], at[BATCH];
    uint32_t block[BATCH];
};

static int flush(struct look *l)
{
    struct tt_heap_graph *g = l->graph;
    tt_heap_resolve(g->index, l->word, l->block, l->n);
    for (unsigned k = 0; k < l->n; k++) {
        uint64_t i = l->at[k];
        if (l->block[k] == TT_HEAP_NONE)
            continue;
        if (g->words.len >= UINT32_MAX - 2)
            return -E2BIG;
        bool same = l->passing ? (l->before >= l->local) == (i >= l->local) : i - l->before <= GAP;
        if ((!l->any || !same) &&
            tt_vec_push(&g->objects, (struct tt_heap_object){(uint32_t)g->words.len, 0,
                                                             l->passing && i < l->local}))
            return -ENOMEM;
        if (tt_vec_push(&g->words, (struct tt_heap_word){l->block[k], l->root, i}))
            return -ENOMEM;
        g->objects.data[g->objects.len - 1].n++;
        l->any = true;
        l->before = i;
    }
    l->n = 0;
    return 0;
}

/* A word whose upper 16 bits are a tag, as dynamic languages and lock-free lists have them: it is
 * no pointer here, but what it would point to is noted. */
static void note_tagged(struct tt_heap_graph *g, uint64_t word)
{
    uint32_t block = tt_heap_find(g->index, word & TT_HEAP_UNTAG);
    if (block != TT_HEAP_NONE)
        tt_heap_set_bit(g->tagged, block);
}

int tt_heap_graph_roots(const struct tt_heap_index *index, const tt_heap_root_vec *roots,
                        struct tt_heap_graph *out)
{
    *out = (struct tt_heap_graph){.index = index};
    struct look *l = calloc(1, sizeof *l);
    out->tagged = calloc(index->n / 64 + 1, sizeof *out->tagged);
    int rc = l && out->tagged ? 0 : -ENOMEM;
    for (uint32_t r = 0; r < roots->len && !rc; r++) {
        const struct tt_heap_root *root = &roots->data[r];
        bool stack = root->kind == TT_HEAP_ROOT_STACK;
        l->graph = out;
        l->root = r;
        l->passing = stack || root->kind == TT_HEAP_ROOT_REGISTERS;
        l->any = false;
        l->local = stack ? local_from(index->image, root) : root->n;
        l->before = l->n = 0;
        for (uint64_t i = 0; i < root->n && !rc; i++) {
            uint64_t word = root->words[i];
            if (word - index->low >= index->high - index->low) {
                if (word >> TT_HEAP_ADDRESS_BITS && tt_heap_near(index, word & TT_HEAP_UNTAG))
                    note_tagged(out, word);
                continue;
            }
            if (!tt_heap_near(index, word))
                continue;
            l->word[l->n] = word;
            l->at[l->n++] = i;
            if (l->n == BATCH)
                rc = flush(l);
        }
        rc = rc ? rc : flush(l);
    }
    free(l);
    if (rc)
        tt_heap_graph_free(out);
    return rc;
}

uint32_t *tt_heap_ranks(const uint64_t *bits, uint32_t n, uint32_t *total)
{
    uint32_t *ranks = malloc(((size_t)n / 64 + 1) * sizeof *ranks), sum = 0;
    for (uint32_t i = 0; ranks && i <= n / 64; i++) {
        ranks[i] = sum;
        sum += (uint32_t)__builtin_popcountll(bits[i]);
    }
    *total = sum;
    return ranks;
}

uint32_t tt_heap_parent_of(const struct tt_heap_graph *graph, uint32_t node)
{
    size_t low = 0, high = graph->parents.len;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (graph->parents.data[mid].node < node)
            low = mid + 1;
        else
            high = mid;
    }
    bool kept = low < graph->parents.len && graph->parents.data[low].node == node;
    return kept ? graph->parents.data[low].parent : graph->idom[node];
}

void tt_heap_graph_free(struct tt_heap_graph *graph)
{
    tt_vec_free(&graph->words);
    tt_vec_free(&graph->objects);
    free(graph->tagged);
    tt_heap_array_free(graph->id);
    tt_heap_array_free(graph->parent);
    free(graph->many);
    free(graph->cross);
    free(graph->share);
    free(graph->back);
    tt_heap_array_free(graph->idom);
    tt_vec_free(&graph->parents);
    *graph = (struct tt_heap_graph){0};
}
