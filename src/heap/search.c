/* SPDX-License-Identifier: Apache-2.0 */
/* The whole search in order, with the time of each step. Start: tt_heap_search. */
#include "heap/internal.h"
#include "heap/internal_image.h"

#include <stdio.h>

#include "base/clock.h"

enum { MOST_GROUPS = 64, MOST_HOLDERS = 32 };

static uint64_t lap(uint64_t *since)
{
    uint64_t now = tt_clock_read(CLOCK_MONOTONIC), took = now - *since;
    *since = now;
    return took;
}

static void totals(const struct tt_heap_index *x, const struct tt_heap_blocks *blocks,
                   const struct tt_heap_marks *marks, const struct tt_heap_lost *lost,
                   struct tt_heap_result *out)
{
    snprintf(out->allocator, sizeof out->allocator, "%s", blocks->allocator);
    out->blocks = x->n;
    for (uint32_t i = 0; i < x->n; i++)
        out->bytes += x->list[i].size;
    out->lost_units = lost->list.len;
    for (size_t i = 0; i < lost->list.len; i++)
        out->lost_bytes += x->list[lost->list.data[i]].size;
    out->lost_roots = lost->roots;
    out->doubt_bytes = blocks->doubt_bytes;
    out->tagged = marks->tagged_lost;
}

/* What malloc would have made of a request (glibc, malloc.c checked_request2size), so that a
 * sampled block looks like one that was not sampled; never into the next one. */
static uint64_t usable(uint64_t requested, uint64_t room)
{
    uint64_t size = requested <= 24 ? 24 : ((requested + 23) & ~15ULL) - 8;
    return size < room ? size : room;
}

/* Adds the caller's own blocks and takes their memory out of the roots. */
static int add_extra(const struct tt_heap_image *image, const struct tt_heap_options *o,
                     struct tt_heap_blocks *blocks)
{
    size_t n = blocks->list.len, all = n + o->n_extra, at;
    if (!o->n_extra)
        return 0;
    if (tt_vec_reserve(&blocks->list, all))
        return -ENOMEM;
    struct tt_heap_block *list = blocks->list.data;
    const struct tt_heap_range *last = NULL;
    /* what an allocator's walk took for its own among them */
    uint64_t low = o->extra[0].address, high = o->extra[o->n_extra - 1].address;
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (list[i].address + list[i].size <= low || list[i].address > high)
            list[kept++] = list[i];
    n = kept;
    at = all = n + o->n_extra;
    for (size_t i = o->n_extra; i-- > 0;) { /* from the back, so that nothing is moved twice */
        const struct tt_heap_block *e = &o->extra[i];
        const struct tt_heap_range *range = tt_heap_range_at(image, e->address);
        if (range && range != last &&
            tt_vec_push(&blocks->internal, (struct tt_heap_span){range->start, range->end}))
            return -ENOMEM;
        last = range;
        while (n && list[n - 1].address > e->address)
            list[--at] = list[--n];
        uint64_t end = range ? range->end : e->address + e->size;
        if (at < all && list[at].address < end)
            end = list[at].address;
        list[--at] = (struct tt_heap_block){e->address, usable(e->size, end - e->address)};
    }
    blocks->list.len = all;
    tt_heap_spans_settle(blocks);
    return 0;
}

int tt_heap_search(const struct tt_heap_image *image, const struct tt_heap_options *options,
                   tt_heap_name_fn *name, void *name_arg, struct tt_heap_result *out,
                   struct tt_error *err)
{
    static const struct tt_heap_options defaults = {0};
    struct tt_heap_options o = options ? *options : defaults;
    if (!o.max_groups)
        o.max_groups = MOST_GROUPS;
    if (!o.max_holders)
        o.max_holders = MOST_HOLDERS;
    struct tt_heap_blocks blocks = {0};
    struct tt_heap_index index = {0};
    struct tt_heap_edges edges = {0};
    struct tt_heap_graph graph = {0};
    struct tt_heap_marks marks = {0};
    struct tt_heap_shaper shaper = {0};
    struct tt_heap_lost lost = {0};
    tt_heap_root_vec roots = {0};
    uint64_t since = tt_clock_read(CLOCK_MONOTONIC);

    *out = (struct tt_heap_result){0};
    int rc = tt_heap_walk(image, &blocks, err);
    if (rc)
        goto out;
    rc = add_extra(image, &o, &blocks);
    if (rc)
        goto out;
    out->walk_ns = lap(&since);
    rc = tt_heap_index_build(image, &blocks, &index, err);
    if (rc)
        goto out;
    rc = tt_heap_roots_collect(image, &blocks, &roots);
    if (!rc)
        rc = tt_heap_edges_find(&index, o.threads, &edges);
    if (!rc)
        rc = tt_heap_graph_roots(&index, &roots, &graph);
    if (!rc)
        rc = tt_heap_mark(&edges, &graph, o.threads, &marks);
    if (rc)
        goto out;
    out->mark_ns = lap(&since);
    rc = -ENOMEM;
    if (tt_heap_shaper_make(&index, &blocks, &shaper) ||
        tt_heap_lost_find(&edges, &marks, &shaper, o.threads, &lost) ||
        tt_heap_group(&index, &shaper, &lost, o.max_groups, name, name_arg, out))
        goto out;
    totals(&index, &blocks, &marks, &lost, out);
    if (tt_heap_attribute(&index, &marks, &shaper, &lost, &o, out))
        goto out;
    since = tt_clock_read(CLOCK_MONOTONIC);
    rc = tt_heap_retain(&edges, &graph, &roots, &shaper, &o, name, name_arg, out);
    if (rc)
        goto out;
    out->retain_ns = lap(&since);
    out->unread_bytes = image->unread_bytes + tt_heap_pager_unread(image->pager);
    if (tt_heap_pager_broken(image->pager))
        rc = tt_error_set(err, -EIO,
                          "the copy of process %d ended before it was searched: try again",
                          (int)image->pid);
out:
    if (rc == -ENOMEM)
        tt_error_set(err, rc,
                     "not enough memory to search %zu heap blocks: search on another"
                     " machine from a core file (telltale core)",
                     blocks.list.len);
    if (rc)
        tt_heap_result_free(out);
    tt_heap_lost_free(&lost);
    tt_heap_shaper_free(&shaper);
    tt_heap_marks_free(&marks);
    tt_heap_graph_free(&graph);
    tt_heap_edges_free(&edges);
    tt_vec_free(&roots);
    tt_heap_index_free(&index);
    tt_heap_blocks_free(&blocks);
    tt_heap_spare_drop();
    return rc;
}

void tt_heap_result_free(struct tt_heap_result *result)
{
    for (size_t i = 0; i < result->groups.len; i++)
        tt_vec_free(&result->groups.data[i].shares);
    for (size_t i = 0; i < result->holders.len; i++)
        tt_vec_free(&result->holders.data[i].held);
    tt_vec_free(&result->groups);
    tt_vec_free(&result->holders);
    *result = (struct tt_heap_result){0};
}
