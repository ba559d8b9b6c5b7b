/* SPDX-License-Identifier: Apache-2.0 */
/* glibc's malloc on x86-64, 2.26 to 2.43, as its memory shows it. Layouts (malloc/malloc.c and
 * arena.c of glibc): struct malloc_state is taken relative to its bins, since what lies before them
 * changed (fast bins went in 2.43) and what follows did not; struct malloc_par relative to
 * sbrk_base. Nothing here depends on a version number.
 *   glibc_find.c   arenas, their pieces of memory, malloc_par
 *   glibc_free.c   what is free without its neighbour saying so: fast bins, tcaches
 *   glibc.c        the chunks */
#ifndef TT_HEAP_INTERNAL_GLIBC_H
#define TT_HEAP_INTERNAL_GLIBC_H

#include "heap/internal_image.h"

enum {
    CHUNK_PREV_INUSE = 1,
    CHUNK_MMAPPED = 2,
    CHUNK_NON_MAIN = 4,
    CHUNK_FLAGS = 7,
    CHUNK_HEADER = 16,
    CHUNK_MIN = 32,
};
/* From the first bin (the unsorted one). */
enum {
    STATE_TOP = -0x10,
    STATE_NEXT = 0x800,
    STATE_SYSTEM_MEM = 0x818,
    STATE_MAX_SYSTEM_MEM = 0x820,
    STATE_END = 0x828,
    BINS = 127,
    FAST_BINS = 10,
};

struct glibc_arena {
    uint64_t state, bins;
    uint64_t top, system_mem; /* top 0: nothing was ever allocated from it */
    bool main, noncontiguous;
};
/* Memory that an arena got in one piece. */
struct glibc_piece {
    uint64_t start, end; /* all of it, headers included */
    uint64_t first;      /* chunk */
    uint64_t top;        /* chunk, or 0: ends in fence posts */
    bool main;
};
struct glibc_heap {
    const struct tt_heap_image *image;
    TT_VEC(struct glibc_arena) arenas; /* [0] is main_arena */
    TT_VEC(struct glibc_piece) pieces; /* ascending */
    TT_VEC(uint64_t) free;             /* chunks known to be free, ascending */
    uint64_t module;                   /* an address in the data of the libc */
    bool par;                          /* malloc_par was found: */
    int n_mmaps;
    uint64_t mmapped_mem, sbrk_base;
    uint64_t foreign; /* bytes between pieces that the program took by sbrk itself */
    uint64_t doubt_bytes;
    uint64_t budget; /* bytes that trials may still step over: hostile memory must not cost hours */
};
enum { GLIBC_PIECES_MOST = 1 << 17 };

/* Finds the main arena that has its bins at the lowest address at or above *from, and what belongs
 * to it; *from is moved behind it. 0, -ENOENT when there is no more, -ENOMEM. */
int tt_glibc_find(const struct tt_heap_image *image, uint64_t *from, struct glibc_heap *out);
void tt_glibc_free(struct glibc_heap *heap);

/* Fills heap->free from fast bins and from the tcaches that threads' TLS points to. */
int tt_glibc_collect_free(struct glibc_heap *heap);
/* Whether the chunk holds a tcache in use; then its entries are appended to heap->free (unsorted).
 * 1 yes, 0 no, -ENOMEM. */
int tt_glibc_tcache(struct glibc_heap *heap, uint64_t chunk);
/* Its size: 64 bins, which a free chunk of 16 bytes more serves too, as what is left would be too
 * small to split off (_int_malloc: a thread that starts in an arena of others); 76 since 2.42, then
 * aligned, with the same remainder. */
static inline bool tt_glibc_tcache_size(uint64_t size)
{
    return size == 0x290 || size == 0x2a0 || (size >= 0x300 && size <= 0x320);
}
/* The piece that holds address, or NULL. */
const struct glibc_piece *tt_glibc_piece_at(const struct glibc_heap *heap, uint64_t address);

/* How a walk ended. */
enum glibc_end { GLIBC_TOP, GLIBC_FENCE, GLIBC_BROKEN, GLIBC_STEPS };
/* Steps over chunks from `chunk` on without listing them, at most `steps`; stops at top (0: none).
 * *at: where it ended. */
enum glibc_end tt_glibc_try(const struct tt_heap_image *image, uint64_t chunk, uint64_t top,
                            bool main, uint64_t steps, uint64_t *at);

#endif
