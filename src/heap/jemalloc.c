/* SPDX-License-Identifier: Apache-2.0 */
/* Walks jemalloc's extents: an active one is a large block or a slab, whose bitmap says which
 * regions are in use; what threads' caches hold is left out. A slab whose bitmap and count do not
 * agree was in the hands of a stopped thread: it counts as doubt. Without any thread's cache
 * nothing small can be told from what is cached, and all of it is doubt. Start: tt_heap_jemalloc.
 */
#include "heap/internal_jemalloc.h"

#include <errno.h>
#include <stdio.h>

enum { CACHED_MOST = 32768 /* tcache_max by default */, LARGE_LEAST = 16384 };

struct walk {
    struct tt_heap_blocks *blocks;
    uint64_t pad; /* of large extents */
    uint64_t arenas[JE_ARENAS / 64];
    size_t cached;           /* next of heap->cached */
    struct tt_heap_span own; /* the last base block seen */
};

static bool is_cached(struct walk *w, const struct je_heap *heap, uint64_t address)
{
    while (w->cached < heap->cached.len && heap->cached.data[w->cached] < address)
        w->cached++;
    return w->cached < heap->cached.len && heap->cached.data[w->cached] == address;
}

static int put(struct walk *w, const struct je_heap *heap, uint64_t address, uint64_t size)
{
    if (is_cached(w, heap, address)) {
        w->blocks->free_bytes += size;
        return 0;
    }
    return tt_vec_push(&w->blocks->list, (struct tt_heap_block){address, size});
}

static int span(struct walk *w, uint64_t start, uint64_t end)
{
    struct tt_heap_blocks *b = w->blocks;
    if (b->internal.len && b->internal.data[b->internal.len - 1].end == start) {
        b->internal.data[b->internal.len - 1].end = end;
        return 0;
    }
    return tt_vec_push(&b->internal, (struct tt_heap_span){start, end});
}

/* Base blocks point to slabs and large blocks and hold nothing of the program's. */
static int add_base(struct walk *w, const struct je_heap *heap, uint64_t address)
{
    if (address >= w->own.start && address < w->own.end)
        return 0;
    return tt_je_base_block(heap->image, address, &w->own)
               ? tt_vec_push(&w->blocks->internal, w->own)
               : 0;
}

static int take_slab(struct walk *w, const struct je_heap *heap, const struct je_extent *e)
{
    uint64_t size = e->size_index < 64 ? heap->sizes[e->size_index] : 0;
    uint64_t regions = size ? e->bytes / size : 0, bitmap[JE_GROUPS] = {0};
    unsigned free = 0;
    if (regions == 0 || regions > JE_GROUPS * 64ull || heap->bitmap == 0)
        goto doubt;
    for (uint64_t g = 0; g * 64 < regions; g++) {
        if (!tt_heap_word(heap->image, e->at + heap->bitmap + g * 8, &bitmap[g]))
            goto doubt;
        free += (unsigned)__builtin_popcountll(bitmap[g]);
    }
    if (free != e->n_free || heap->caches == 0)
        goto doubt;
    for (uint64_t i = 0; i < regions; i++)
        if (bitmap[i / 64] >> (i % 64) & 1)
            w->blocks->free_bytes += size;
        else if (put(w, heap, e->address + i * size, size))
            return -ENOMEM;
    return span(w, e->address, e->address + e->bytes);
doubt:
    w->blocks->doubt_bytes += e->bytes;
    return 0;
}

/* What malloc_usable_size says of a large block: the extent without the page that its start may be
 * shifted by. Whole size classes, but any number of pages in 5.3.1. A small class: a sampled block
 * of jemalloc's own profiler. 0: not understood. */
static uint64_t large_size(const struct walk *w, const struct je_heap *heap,
                           const struct je_extent *e)
{
    uint64_t size = heap->sizes[e->size_index], usable = e->bytes - w->pad;
    if (size < LARGE_LEAST)
        return size;
    return e->bytes > w->pad && usable <= size && usable > heap->sizes[e->size_index - 1] ? usable
                                                                                          : 0;
}

struct pads {
    unsigned with, without;
};
static int count_pads(void *arg, const struct je_heap *heap, const struct je_extent *e)
{
    struct pads *pads = arg;
    if (e->active && !e->slab && e->size_index < JE_SIZES) {
        pads->with += e->bytes == heap->sizes[e->size_index] + 4096;
        pads->without += e->bytes == heap->sizes[e->size_index];
    }
    return pads->with + pads->without >= 4096;
}

static int take_extent(void *arg, const struct je_heap *heap, const struct je_extent *e)
{
    struct walk *w = arg;
    uint64_t base = e->address & ~4095ull;
    int rc = 0;
    if (e->active)
        w->arenas[e->arena / 64] |= 1ull << (e->arena % 64);
    if (e->active && e->slab) {
        rc = take_slab(w, heap, e);
        return rc;
    }
    if (e->active && e->size_index < JE_SIZES) {
        uint64_t size = large_size(w, heap, e);
        if (size == 0 || (heap->caches == 0 && size <= CACHED_MOST)) {
            w->blocks->doubt_bytes += e->bytes;
            return 0;
        }
        rc = put(w, heap, e->address, size);
    } else {
        w->blocks->free_bytes += e->active ? 0 : e->bytes;
    }
    return rc ? rc : span(w, base, base + e->bytes);
}

static int take_base(void *arg, const struct je_heap *heap, const struct je_extent *e)
{
    return add_base(arg, heap, e->at);
}

static int take_node(void *arg, const struct je_heap *heap, uint64_t node)
{
    return add_base(arg, heap, node);
}

static int walk_heap(struct je_heap *heap, struct tt_heap_blocks *blocks)
{
    struct walk w = {.blocks = blocks};
    struct pads pads = {0};
    int rc = tt_je_caches(heap);
    tt_je_each(heap, count_pads, &pads);
    w.pad = pads.with >= pads.without ? 4096 : 0; /* cache-oblivious, the default */
    if (rc == 0)
        rc = tt_je_each(heap, take_extent, &w);
    if (rc == 0)
        rc = tt_je_each(heap, take_base, &w);
    if (rc == 0)
        rc = tt_je_each_node(heap, take_node, &w);
    for (unsigned i = 0; i < JE_ARENAS / 64; i++)
        blocks->arenas += (unsigned)__builtin_popcountll(w.arenas[i]);
    return rc;
}

static int walk(const struct tt_heap_image *image, struct tt_heap_blocks *blocks,
                struct tt_error *err)
{
    uint64_t from = 0;
    bool found = false;
    for (;;) {
        struct je_heap heap;
        int rc = tt_je_find(image, &from, &heap);
        if (rc == -ENOENT)
            return found ? 0 : rc;
        if (!found)
            snprintf(blocks->allocator, sizeof blocks->allocator, "%s", heap.layout->name);
        found = true;
        rc = walk_heap(&heap, blocks);
        tt_vec_free(&heap.cached);
        if (rc)
            return tt_error_set(err, rc, "no memory for the list of heap blocks");
    }
}

const struct tt_heap_allocator tt_heap_jemalloc = {"jemalloc", walk};
