/* SPDX-License-Identifier: Apache-2.0 */
/* Finds jemalloc's radix tree without symbols: a word of a module's data that points to 2 MiB whose
 * first element leads to an extent that says it lies at just the address this element stands for.
 * The same address tells which word of the root it was. Which layout it is, the slabs decide: their
 * counts of free regions must agree with their bitmaps. Start: tt_je_find. */
#include "heap/internal_jemalloc.h"

#include <errno.h>

#include "base/map.h"

#define HUGE_BITS 21
enum { BASE_STEPS = 64, GUESSES_MOST = 8192 };

/* edata.h of 5.3, extent_structs.h of 5.2. */
static const struct je_layout layouts[] = {
    {"jemalloc 5.3", 2, 18, 8, 0xffffffffff80, 17, 3, 20, 28},
    {"jemalloc 5.2", 2, 18, 8, 0xfffffffffffe, 16, 2, 18, 26},
    {"jemalloc 5.3", 3, 15, 16, 0xffffffffff80, 17, 3, 20, 28},
    {"jemalloc 5.2", 3, 15, 16, 0xffffffffffc0, 16, 2, 18, 26},
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

bool tt_je_base_block(const struct tt_heap_image *image, uint64_t address, struct tt_heap_span *out)
{
    const uint64_t huge = 1ull << HUGE_BITS;
    uint64_t base = address & ~(huge - 1), size;
    for (unsigned i = 0; i < BASE_STEPS && base; i++, base -= huge) {
        if (!tt_heap_word(image, base, &size))
            return false;
        if (size >= huge && (size & (huge - 1)) == 0 && size >> 40 == 0 && base + size > address) {
            *out = (struct tt_heap_span){base, base + size};
            return true;
        }
    }
    return false;
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
        .arena = bits & (JE_ARENAS - 1),
        .n_free = (unsigned)(bits >> l->free_shift & 0x3ff),
    };
    uint64_t base = out->address & ~4095ull;
    return base <= page && out->bytes && out->bytes < 1ull << 47 && page - base < out->bytes;
}

static bool node_word(const struct je_heap *heap, uint64_t at, uint64_t *node)
{
    return tt_heap_word(heap->image, at, node) && *node && (*node & 63) == 0 && *node >> 47 == 0;
}

/* The index of an address in a level, 0 being the root. */
static uint64_t index_at(const struct je_layout *l, uint64_t address, unsigned level)
{
    return address >> (JE_PAGE_BITS + l->bits * (l->levels - 1 - level)) & (je_level(l) - 1);
}

bool tt_je_extent_at(const struct je_heap *heap, uint64_t address, struct je_extent *out)
{
    const struct je_layout *l = heap->layout;
    uint64_t node = heap->root, element;
    for (unsigned level = 0; level + 1 < l->levels; level++)
        if (!node_word(heap, node + index_at(l, address, level) * 8, &node))
            return false;
    return address >> 47 == 0 &&
           tt_heap_word(heap->image, node + index_at(l, address, l->levels - 1) * l->element,
                        &element) &&
           tt_je_extent(heap, element, address & ~4095ull, out);
}

struct visitor {
    int (*extent)(void *arg, const struct je_heap *heap, const struct je_extent *extent);
    int (*node)(void *arg, const struct je_heap *heap, uint64_t node);
    void *arg;
};

static int each_of_leaf(const struct je_heap *heap, uint64_t leaf, uint64_t address,
                        const struct visitor *visitor)
{
    const struct je_layout *l = heap->layout;
    struct tt_heap_view v;
    if (!tt_heap_view_at(heap->image, leaf, &v) ||
        !tt_heap_in_view(&v, leaf, je_level(l) * l->element))
        return 0;
    for (uint64_t i = 0; i < je_level(l); i++) {
        uint64_t element = tt_heap_load(&v, leaf + i * l->element);
        uint64_t page = address + (i << JE_PAGE_BITS);
        struct je_extent e;
        if (!element || !tt_je_extent(heap, element, page, &e) || (e.address & ~4095ull) != page)
            continue;
        int rc = visitor->extent(visitor->arg, heap, &e);
        if (rc)
            return rc;
        uint64_t pages = e.bytes >> JE_PAGE_BITS;
        i += (pages < je_level(l) - i ? pages : je_level(l) - i) - 1;
    }
    return 0;
}

static int each(const struct je_heap *heap, uint64_t node, unsigned level, uint64_t address,
                const struct visitor *visitor)
{
    const struct je_layout *l = heap->layout;
    int rc = 0;
    if (level && visitor->node)
        rc = visitor->node(visitor->arg, heap, node);
    if (level + 1 == l->levels)
        return rc || !visitor->extent ? rc : each_of_leaf(heap, node, address, visitor);
    unsigned shift = JE_PAGE_BITS + l->bits * (l->levels - 1 - level);
    for (uint64_t i = 0; i < je_level(l) && rc == 0; i++) {
        uint64_t below;
        if (node_word(heap, node + i * 8, &below))
            rc = each(heap, below, level + 1, address + (i << shift), visitor);
    }
    return rc;
}

int tt_je_each(const struct je_heap *heap,
               int (*visit)(void *arg, const struct je_heap *heap, const struct je_extent *extent),
               void *arg)
{
    return each(heap, heap->root, 0, 0, &(struct visitor){.extent = visit, .arg = arg});
}

int tt_je_each_node(const struct je_heap *heap,
                    int (*visit)(void *arg, const struct je_heap *heap, uint64_t node), void *arg)
{
    return each(heap, heap->root, 0, 0, &(struct visitor){.node = visit, .arg = arg});
}

/* ---- where a slab's bitmap lies ---- */

struct vote {
    unsigned slabs, right[16]; /* by offset / 8; of slabs with free regions */
    unsigned full, empty[16];  /* a full slab agrees with any zeroes */
};
static int count_votes(void *arg, const struct je_heap *heap, const struct je_extent *e)
{
    struct vote *vote = arg;
    if (!e->active || !e->slab || e->size_index >= 64)
        return 0;
    uint64_t regions = e->bytes / heap->sizes[e->size_index];
    if (regions == 0 || regions > 512)
        return 0;
    if (e->n_free)
        vote->slabs++;
    else
        vote->full++;
    for (unsigned k = 3; k * 8 + 64 <= 128; k++) {
        unsigned free = 0;
        for (uint64_t g = 0; g * 64 < regions; g++) {
            uint64_t word = 0;
            tt_heap_word(heap->image, e->at + k * 8ull + g * 8, &word);
            if (regions - g * 64 < 64)
                word = word >> (regions - g * 64) ? ~0ull : word;
            free += (unsigned)__builtin_popcountll(word);
        }
        if (free == e->n_free)
            ++*(e->n_free ? &vote->right[k] : &vote->empty[k]);
    }
    return vote->slabs >= 4096;
}

/* A set bit is a free region, and the extent counts them: the offset at which that agrees. A slab
 * in the hands of a stopped thread may not. */
static unsigned find_bitmap(struct je_heap *heap)
{
    struct vote vote = {0};
    tt_je_each(heap, count_votes, &vote);
    const unsigned *right = vote.slabs ? vote.right : vote.empty;
    unsigned slabs = vote.slabs ? vote.slabs : vote.full, best = 0;
    for (unsigned k = 0; k < 16; k++)
        if (right[k] > right[best])
            best = k;
    bool sure = slabs && right[best] * 8ull >= slabs * 7ull;
    heap->bitmap = sure ? best * 8 : 0;
    return sure ? right[best] : 0;
}

/* ---- the root ---- */

/* An address that the node covers: of the extent that its first element leads to. 0: it is none. */
static uint64_t covered(const struct je_heap *heap, uint64_t node, unsigned level)
{
    const struct je_layout *l = heap->layout;
    bool leaf = level + 1 == l->levels;
    uint64_t width = leaf ? l->element : 8, place;
    struct tt_heap_view v;
    if ((node & 63) || !tt_heap_view_at(heap->image, node, &v) ||
        !tt_heap_in_view(&v, node, je_level(l) * width))
        return 0;
    unsigned looked_at = 0;
    for (uint64_t i = 0; i < je_level(l) && looked_at < 4; i++) {
        uint64_t word = tt_heap_load(&v, node + i * width);
        if (!word)
            continue;
        looked_at++;
        if (!leaf) {
            place = covered(heap, word, level + 1);
            if (place && index_at(l, place, level) == i)
                return place;
            continue;
        }
        struct je_extent e;
        if (tt_heap_word(heap->image, (word & l->element_mask) + 8, &place) && place >> 47 == 0 &&
            index_at(l, place, level) <= i) {
            uint64_t page = (place >> (JE_PAGE_BITS + l->bits) << l->bits | i) << JE_PAGE_BITS;
            if (tt_je_extent(heap, word, page, &e))
                return page;
        }
    }
    return 0;
}

/* Whether the word at `at` is one of a root; then heap says of which and how it is laid out. */
static bool is_root_word(struct je_heap *heap, uint64_t at, uint64_t node)
{
    struct je_heap best = {0};
    unsigned most = 0;
    for (unsigned k = 0; k < sizeof layouts / sizeof *layouts; k++) {
        heap->layout = &layouts[k];
        uint64_t place = covered(heap, node, 1);
        if (!place || index_at(heap->layout, place, 0) * 8 > at)
            continue;
        heap->root = at - index_at(heap->layout, place, 0) * 8;
        if (!tt_heap_bytes(heap->image, heap->root, je_level(heap->layout) * 8))
            continue;
        unsigned right = find_bitmap(heap);
        if (right > most) {
            most = right;
            best = *heap;
        }
    }
    if (most)
        *heap = best;
    return most > 0;
}

/* Whether a node of a tree can lie at that address; asked once for every 2 MiB. */
static bool maybe_node(const struct tt_heap_image *image, struct tt_map *asked, uint64_t address)
{
    struct tt_heap_span block;
    const uint64_t *known = tt_map_get(asked, address >> HUGE_BITS);
    bool yes = known ? *known : tt_je_base_block(image, address, &block);
    return (known || tt_map_put(asked, address >> HUGE_BITS, yes) == 0) && yes;
}

int tt_je_find(const struct tt_heap_image *image, uint64_t *from, struct je_heap *out)
{
    struct tt_map asked = {0};
    unsigned guesses = 0;
    bool found = false;
    *out = (struct je_heap){.image = image};
    make_sizes(out);
    for (size_t i = tt_heap_range_from(image, *from); i < image->ranges.len && !found; i++) {
        const struct tt_heap_range *r = &image->ranges.data[i];
        struct tt_heap_view v;
        if (r->kind != TT_HEAP_DATA || !r->write || !r->bytes ||
            r->end - r->start < 8u << layouts[2].bits || !tt_heap_view_at(image, r->start, &v))
            continue;
        for (uint64_t at = r->start > *from ? r->start : *from; at + 8 <= r->end && !found;
             at += 8) {
            uint64_t word = tt_heap_load(&v, at);
            if (word < 1 << 20 || word >> 47 || (word & 63) || !maybe_node(image, &asked, word))
                continue;
            if (++guesses > GUESSES_MOST)
                break;
            found = is_root_word(out, at, word);
        }
    }
    tt_map_free(&asked);
    if (found)
        *from = out->root + je_level(out->layout) * 8;
    return found ? 0 : -ENOENT;
}
