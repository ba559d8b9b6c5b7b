/* SPDX-License-Identifier: Apache-2.0 */
/* Finds jemalloc's radix tree without symbols: a word of a module's data that points to 2 MiB whose
 * first element leads to an extent that says it lies at just the address this element stands for.
 * The same address tells which word of the root it was. Start: tt_je_find. */
#include "heap/internal_jemalloc.h"

#include <errno.h>

/* edata.h of 5.3, extent_structs.h of 5.2. */
static const struct je_layout layouts[] = {
    {"jemalloc 5.3", 0xffffffffff80, 17, 3, 20, 28},
    {"jemalloc 5.2", 0xfffffffffffe, 16, 2, 18, 26},
};

/* size_classes.h with a quantum of 16 bytes: 8, 16, 32, 48, 64, then four a doubling. */
static void make_sizes(struct je_heap *heap)
{
    unsigned n = 0;
    heap->sizes[n++] = 8;
    for (uint64_t s = 16; s <= 64; s += 16)
        heap->sizes[n++] = s;
    for (uint64_t base = 64; n + 4 <= JE_SIZES && base < 1ull << 62; base *= 2)
        for (uint64_t k = 1; k <= 4; k++)
            heap->sizes[n++] = base + k * (base / 4);
}

bool tt_je_extent(const struct je_heap *heap, uint64_t element, uint64_t page,
                  struct je_extent *out)
{
    const struct je_layout *l = heap->layout;
    uint64_t at = element & l->element_mask;
    struct tt_heap_view v;
    if (at == 0 || (at & 63) || !tt_heap_view_at(heap->image, at, &v) ||
        !tt_heap_in_view(&v, at, 128))
        return false;
    uint64_t bits = tt_heap_load(&v, at);
    *out = (struct je_extent){
        .at = at,
        .address = tt_heap_load(&v, at + 8),
        .bytes = tt_heap_load(&v, at + 16) & ~4095ull,
        .active = (bits >> l->state_shift & ((1u << l->state_bits) - 1)) == 0,
        .slab = bits >> 12 & 1,
        .size_index = (unsigned)(bits >> l->size_shift & 0xff),
        .n_free = (unsigned)(bits >> l->free_shift & 0x3ff),
    };
    uint64_t base = out->address & ~4095ull;
    return base <= page && out->bytes && out->bytes < 1ull << 47 && page - base < out->bytes;
}

static bool root_word(const struct je_heap *heap, uint64_t index, uint64_t *leaf)
{
    return tt_heap_word(heap->image, heap->root + index * 8, leaf) && *leaf && (*leaf & 63) == 0;
}

bool tt_je_extent_at(const struct je_heap *heap, uint64_t address, struct je_extent *out)
{
    uint64_t leaf, element;
    return address >> 48 == 0 && root_word(heap, address >> 30, &leaf) &&
           tt_heap_word(heap->image, leaf + (address >> 12 & (JE_LEVEL - 1)) * 8, &element) &&
           tt_je_extent(heap, element, address & ~4095ull, out);
}

static int each_of_leaf(const struct je_heap *heap, uint64_t index, uint64_t leaf,
                        int (*visit)(void *, const struct je_heap *, const struct je_extent *),
                        void *arg)
{
    struct tt_heap_view v;
    if (!tt_heap_view_at(heap->image, leaf, &v) || !tt_heap_in_view(&v, leaf, JE_LEVEL * 8))
        return 0;
    for (uint64_t i = 0; i < JE_LEVEL; i++) {
        uint64_t element = tt_heap_load(&v, leaf + i * 8), page = index << 30 | i << 12;
        struct je_extent e;
        if (!element || !tt_je_extent(heap, element, page, &e) || (e.address & ~4095ull) != page)
            continue;
        int rc = visit(arg, heap, &e);
        if (rc)
            return rc;
        uint64_t pages = e.bytes >> 12;
        i += (pages < JE_LEVEL - i ? pages : JE_LEVEL - i) - 1;
    }
    return 0;
}

int tt_je_each(const struct je_heap *heap,
               int (*visit)(void *arg, const struct je_heap *heap, const struct je_extent *extent),
               void *arg)
{
    int rc = 0;
    for (uint64_t i = 0; i < JE_LEVEL && rc == 0; i++) {
        uint64_t leaf;
        if (root_word(heap, i, &leaf))
            rc = each_of_leaf(heap, i, leaf, visit, arg);
    }
    return rc;
}

/* ---- where a slab's bitmap lies ---- */

struct vote {
    unsigned slabs, right[16]; /* by offset / 8 */
};
static int count_votes(void *arg, const struct je_heap *heap, const struct je_extent *e)
{
    struct vote *vote = arg;
    if (!e->active || !e->slab || e->size_index >= 64)
        return 0;
    uint64_t regions = e->bytes / heap->sizes[e->size_index];
    if (regions == 0 || regions > 512)
        return 0;
    vote->slabs++;
    for (unsigned k = 3; k * 8 + 64 <= 128; k++) {
        unsigned free = 0;
        for (uint64_t g = 0; g * 64 < regions; g++) {
            uint64_t word = 0;
            tt_heap_word(heap->image, e->at + k * 8 + g * 8, &word);
            if (regions - g * 64 < 64)
                word = word >> (regions - g * 64) ? ~0ull : word;
            free += (unsigned)__builtin_popcountll(word);
        }
        vote->right[k] += free == e->n_free;
    }
    return vote->slabs >= 4096;
}

/* A set bit is a free region, and the extent counts them: the offset at which that agrees. A slab
 * in the hands of a stopped thread may not. */
static void find_bitmap(struct je_heap *heap)
{
    struct vote vote = {0};
    unsigned best = 0;
    tt_je_each(heap, count_votes, &vote);
    for (unsigned k = 0; k < 16; k++)
        if (vote.right[k] > vote.right[best])
            best = k;
    if (vote.right[best] * 8ull >= vote.slabs * 7ull)
        heap->bitmap = best * 8;
}

/* ---- the root ---- */

/* Whether the word at `at` is one of a root: then where the root starts. */
static bool is_root_word(struct je_heap *heap, uint64_t at, uint64_t leaf)
{
    struct tt_heap_view v;
    if ((leaf & 63) || !tt_heap_view_at(heap->image, leaf, &v) ||
        !tt_heap_in_view(&v, leaf, JE_LEVEL * 8))
        return false;
    unsigned looked_at = 0;
    for (uint64_t i = 0; i < JE_LEVEL && looked_at < 4; i++) {
        uint64_t element = tt_heap_load(&v, leaf + i * 8);
        if (!element)
            continue;
        looked_at++;
        for (unsigned k = 0; k < 2; k++) {
            uint64_t place;
            heap->layout = &layouts[k];
            if (!tt_heap_word(heap->image, (element & layouts[k].element_mask) + 8, &place) ||
                (place >> 12 & (JE_LEVEL - 1)) > i || place >> 47)
                continue;
            uint64_t index = place >> 30;
            struct je_extent e;
            if (!tt_je_extent(heap, element, index << 30 | i << 12, &e) || index * 8 > at)
                continue;
            heap->root = at - index * 8;
            return tt_heap_bytes(heap->image, heap->root, JE_LEVEL * 8) != NULL;
        }
    }
    return false;
}

int tt_je_find(const struct tt_heap_image *image, uint64_t *from, struct je_heap *out)
{
    *out = (struct je_heap){.image = image};
    make_sizes(out);
    for (size_t i = tt_heap_range_from(image, *from); i < image->ranges.len; i++) {
        const struct tt_heap_range *r = &image->ranges.data[i];
        struct tt_heap_view v;
        if (r->kind != TT_HEAP_DATA || !r->write || !r->bytes || r->end - r->start < JE_LEVEL * 8 ||
            !tt_heap_view_at(image, r->start, &v))
            continue;
        for (uint64_t at = r->start > *from ? r->start : *from; at + 8 <= r->end; at += 8) {
            uint64_t word = tt_heap_load(&v, at);
            if (word < 1 << 20 || word >> 47 || !is_root_word(out, at, word))
                continue;
            *from = out->root + JE_LEVEL * 8;
            find_bitmap(out);
            return 0;
        }
    }
    return -ENOENT;
}
