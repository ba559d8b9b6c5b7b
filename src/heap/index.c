/* SPDX-License-Identifier: Apache-2.0 */
/* From any word to the block it points into, with one miss of the cache: cells of 16 bytes for each
 * 64 granules of heap, in slabs of 64 MiB that exist only where blocks lie. The cells also name the
 * range, so that a block's bytes are found without a search. Built in one pass over the blocks.
 * Start: tt_heap_index_build; the look-up is in internal.h. */
#include "heap/internal.h"

#include <string.h>

static size_t slab_cells(const struct tt_heap_index *x)
{
    return (size_t)1 << (TT_HEAP_SLAB_BITS - 6 - x->shift);
}

/* Checks the list, finds the granule, and gives a number to each slab that a block touches. */
static int survey(struct tt_heap_index *x, uint32_t *slabs)
{
    uint64_t end = 0, low_bits = 0;
    *slabs = 0;
    for (uint32_t i = 0; i < x->n; i++) {
        const struct tt_heap_block *b = &x->list[i];
        uint64_t last = b->address + b->size - 1;
        if (b->address < end || !b->size || last < b->address || last >> TT_HEAP_ADDRESS_BITS)
            return -EINVAL;
        end = last + 1;
        low_bits |= b->address;
        for (uint64_t s = b->address >> TT_HEAP_SLAB_BITS; s <= last >> TT_HEAP_SLAB_BITS; s++)
            if (!x->slab_of[s]) {
                x->slab_of[s] = ++*slabs;
                x->near[s >> 10] |= 1ull << (s >> 4 & 63);
            }
    }
    if (low_bits & 7)
        return -EINVAL;
    x->low = x->n ? x->list[0].address : 0;
    x->high = end;
    x->shift = low_bits & 15 ? 3 : 4;
    return 0;
}

static void fill(struct tt_heap_index *x)
{
    const struct tt_heap_image *image = x->image;
    size_t range = 0;
    uint64_t filled = 0; /* cells below this one are done */
    for (uint32_t i = 0; i < x->n; i++) {
        const struct tt_heap_block *b = &x->list[i];
        unsigned cell_bits = 6 + x->shift;
        uint64_t first = b->address >> cell_bits, last = (b->address + b->size - 1) >> cell_bits;
        for (uint64_t c = first > filled ? first : filled; c <= last; c++) {
            uint64_t at = c << cell_bits;
            while (range + 1 < image->ranges.len && image->ranges.data[range].end <= at)
                range++;
            struct tt_heap_cell *cell = (struct tt_heap_cell *)tt_heap_cell_of(x, at);
            cell->rank = c == first ? i : i + 1;
            cell->range = (uint32_t)range;
        }
        filled = last + 1;
        struct tt_heap_cell *cell = (struct tt_heap_cell *)tt_heap_cell_of(x, b->address);
        cell->starts |= 1ull << (b->address >> x->shift & 63);
    }
}

int tt_heap_index_build(const struct tt_heap_image *image, const struct tt_heap_blocks *blocks,
                        struct tt_heap_index *out, struct tt_error *err)
{
    *out = (struct tt_heap_index){.image = image, .list = blocks->list.data};
    if (blocks->list.len >= TT_HEAP_NONE)
        return tt_error_set(err, -E2BIG,
                            "%zu heap blocks: no more than 4,294,967,294 can be"
                            " looked at",
                            blocks->list.len);
    out->n = (uint32_t)blocks->list.len;
    out->near = calloc((size_t)1 << (TT_HEAP_ADDRESS_BITS - 36), sizeof *out->near);
    out->slab_of =
        calloc((size_t)1 << (TT_HEAP_ADDRESS_BITS - TT_HEAP_SLAB_BITS), sizeof *out->slab_of);
    out->windows = calloc(image->ranges.len + 1, sizeof *out->windows);
    int rc = -ENOMEM;
    if (!out->near || !out->slab_of || !out->windows)
        goto fail;
    for (size_t i = 0; i < image->ranges.len; i++) {
        const struct tt_heap_range *r = &image->ranges.data[i];
        out->windows[i] = (struct tt_heap_window){r->bytes, r->start, r->end};
    }
    uint32_t slabs;
    rc = survey(out, &slabs);
    if (rc) {
        tt_error_set(err, rc, "the list of heap blocks is not in order");
        goto fail;
    }
    out->cells = tt_heap_array((slabs ? slabs : 1) * slab_cells(out), sizeof *out->cells);
    if (!out->cells) {
        rc = tt_error_set(err, -ENOMEM, "no memory to index %u heap blocks", out->n);
        goto fail;
    }
    fill(out);
    return 0;
fail:
    tt_heap_index_free(out);
    return rc;
}

void tt_heap_index_free(struct tt_heap_index *index)
{
    tt_heap_array_free(index->cells);
    free(index->near);
    free(index->slab_of);
    free(index->windows);
    *index = (struct tt_heap_index){0};
}

const uint64_t *tt_heap_words(const struct tt_heap_index *index, uint32_t block, uint64_t from,
                              uint64_t *n)
{
    const struct tt_heap_block *b = &index->list[block];
    uint64_t at = b->address + from;
    *n = 0;
    if (from >= b->size)
        return NULL;
    const struct tt_heap_window *w = &index->windows[tt_heap_cell_of(index, at)->range];
    if (!w->bytes || at < w->start || at >= w->end)
        return NULL;
    uint64_t left = b->size - from, there = w->end - at;
    *n = (left < there ? left : there) / 8;
    return (const uint64_t *)(const void *)(w->bytes + (at - w->start));
}
