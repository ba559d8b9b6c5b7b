/* SPDX-License-Identifier: Apache-2.0 */
/* jemalloc 5.2 and 5.3 on x86-64 with pages of 4 KiB, as its memory shows it. All it manages hangs
 * on one radix tree (rtree.h): the root lies in the module's bss, an element of a leaf leads to the
 * extent (edata.h) of its page. Two levels of 18 bits, or three of 15 when it was built on a
 * machine with 57 bits of address. An extent is free, a large block, or a slab of regions with a
 * bitmap. Regions that a thread's cache holds look used in the bitmap (cache_bin.h).
 *   jemalloc_find.c    the tree, the layout of extents
 *   jemalloc_cache.c   the threads' caches
 *   jemalloc.c         the blocks */
#ifndef TT_HEAP_INTERNAL_JEMALLOC_H
#define TT_HEAP_INTERNAL_JEMALLOC_H

#include "heap/internal_image.h"

enum { JE_SIZES = 232, JE_GROUPS = 8, JE_PAGE_BITS = 12, JE_ARENAS = 4096 };

/* Where an extent holds what; offsets of the fields of e_bits. */
struct je_layout {
    const char *name;
    unsigned levels, bits; /* of the tree */
    uint64_t element;      /* bytes of an element in a leaf */
    uint64_t element_mask; /* of the pointer in it, below bit 48 */
    unsigned state_shift, state_bits, size_shift, free_shift;
};
static inline uint64_t je_level(const struct je_layout *l)
{
    return 1ull << l->bits;
}
struct je_extent {
    uint64_t at; /* the struct */
    uint64_t address, bytes;
    bool active, slab;
    unsigned size_index, n_free, arena;
};
struct je_heap {
    const struct tt_heap_image *image;
    const struct je_layout *layout;
    uint64_t root;   /* address */
    uint64_t bitmap; /* offset in a slab's extent; 0 unknown */
    uint64_t sizes[JE_SIZES];
    TT_VEC(uint64_t)
    cached;          /* addresses, ascending: regions and large blocks that are free, and
                        the caches' own stacks */
    unsigned caches; /* threads whose cache was found */
};

/* Finds the next tree whose root is at or above *from, which is moved behind it. 0 or -ENOENT. */
int tt_je_find(const struct tt_heap_image *image, uint64_t *from, struct je_heap *out);
/* The extent that the element leads to; false when that is none. page: what the element stands for.
 */
bool tt_je_extent(const struct je_heap *heap, uint64_t element, uint64_t page,
                  struct je_extent *out);
/* Visits the extents in ascending order, each at its first page. 0, or what visit returned. */
int tt_je_each(const struct je_heap *heap,
               int (*visit)(void *arg, const struct je_heap *heap, const struct je_extent *extent),
               void *arg);
/* jemalloc keeps its own structs, the tree's nodes among them, in base blocks (base.c): {size,
 * next, extent}, multiples of 2 MiB and aligned to that. False when none holds address. */
bool tt_je_base_block(const struct tt_heap_image *image, uint64_t address,
                      struct tt_heap_span *out);
/* Visits the addresses of the tree's nodes below the root. */
int tt_je_each_node(const struct je_heap *heap,
                    int (*visit)(void *arg, const struct je_heap *heap, uint64_t node), void *arg);
/* The extent that holds address. */
bool tt_je_extent_at(const struct je_heap *heap, uint64_t address, struct je_extent *out);

/* Fills cached and caches. 0 or -ENOMEM. */
int tt_je_caches(struct je_heap *heap);

#endif
