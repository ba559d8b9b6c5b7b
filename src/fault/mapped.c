/* SPDX-License-Identifier: Apache-2.0 */
/* Which mappings something points into. A pool allocator gets its memory by mmap and at stacks that
 * shift with every fault; such an arena is held by somebody. One pass over all words that can be
 * roots, and over all blocks in use: a mapping to which only dead memory points is lost, one that
 * two lost blocks point to is not seen. Start: tt_fault_mapped. */
#include <stdlib.h>
#include <string.h>

#include "fault/look.h"

static int by_start(const void *a, const void *b)
{
    const struct tt_fault_mapped *x = a, *y = b;
    return x->start < y->start ? -1 : x->start > y->start;
}

struct scan {
    const struct tt_heap_image *image;
    struct tt_fault_mapped *list;
    size_t n;
};

static struct tt_fault_mapped *holding(const struct scan *s, uint64_t value)
{
    size_t low = 0, high = s->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (s->list[mid].start <= value)
            low = mid + 1;
        else
            high = mid;
    }
    return low && value < s->list[low - 1].end ? &s->list[low - 1] : NULL;
}

/* at: where the words stand; those of a mapping do not hold that mapping. */
static void words(const struct scan *s, const uint8_t *bytes, uint64_t at, uint64_t n)
{
    for (uint64_t i = 0; i + 8 <= n; i += 8) {
        uint64_t value;
        memcpy(&value, bytes + i, sizeof value);
        if (value < s->list[0].start || value >= s->list[s->n - 1].end)
            continue;
        struct tt_fault_mapped *m = holding(s, value);
        if (m && m != holding(s, at + i))
            m->pointed = true;
    }
}

static void part(const struct scan *s, const struct tt_heap_range *r, uint64_t start, uint64_t end)
{
    start = (start + 7) & ~7ull;
    if (start < end)
        words(s, r->bytes + (start - r->start), start, end - start);
}

/* A range without what belongs to an allocator; of a stack only what is in use. */
static void range(const struct scan *s, const struct tt_heap_range *r,
                  const struct tt_heap_blocks *blocks)
{
    uint64_t start = r->start;
    if (!r->bytes || r->kind == TT_HEAP_TEXT || r->kind == TT_HEAP_OURS)
        return;
    for (size_t i = 0; i < s->image->threads.len; i++) {
        uint64_t rsp = s->image->threads.data[i].regs.rsp;
        if (rsp > start && rsp < r->end)
            start = rsp;
    }
    for (size_t i = 0; i < blocks->internal.len; i++) {
        const struct tt_heap_span *span = &blocks->internal.data[i];
        if (span->end <= start || span->start >= r->end)
            continue;
        if (span->start > start)
            part(s, r, start, span->start);
        start = span->end;
    }
    if (start < r->end)
        part(s, r, start, r->end);
}

void tt_fault_mapped(const struct tt_heap_image *image, struct tt_fault_mapped *list, size_t n)
{
    const struct scan s = {image, list, n};
    struct tt_heap_blocks blocks = {0};
    if (!n)
        return;
    qsort(list, n, sizeof *list, by_start);
    if (tt_heap_walk(image, &blocks, NULL)) {
        tt_heap_blocks_free(&blocks);
        blocks = (struct tt_heap_blocks){0};
    }
    for (size_t i = 0; i < image->threads.len; i++)
        words(&s, (const uint8_t *)&image->threads.data[i].regs, 0,
              sizeof image->threads.data[i].regs);
    for (size_t i = 0; i < image->ranges.len; i++)
        range(&s, &image->ranges.data[i], &blocks);
    for (size_t i = 0; i < blocks.list.len; i++) {
        const struct tt_heap_block *b = &blocks.list.data[i];
        const uint8_t *bytes = tt_heap_bytes(image, b->address, b->size);
        if (bytes)
            words(&s, bytes, b->address, b->size);
    }
    tt_heap_blocks_free(&blocks);
}
