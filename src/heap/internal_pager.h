/* SPDX-License-Identifier: Apache-2.0 */
/* The late reader's own: pager.c makes pieces present and takes them away again, pager_read.c reads
 * them, sifts what comes, and reads single pages. Start: struct tt_heap_pager. */
#ifndef TT_HEAP_INTERNAL_PAGER_H
#define TT_HEAP_INTERNAL_PAGER_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "heap/internal_image.h"

#define PIECE TT_HEAP_PAGE
#define STRIPS (PIECE / TT_HEAP_STRIP) /* of a piece */

enum state { AWAY, MOVING, HERE };
struct piece {
    uint64_t from; /* address in the copy; 0: not of this pager */
    uint32_t slot;
    _Atomic uint8_t loads, state;
    _Atomic bool sifted;
};
/* What the sieve left of a strip: 32 bits for each word from `first` on, then 16. */
struct sifted {
    size_t first;
    uint32_t n;
};
struct tt_heap_pager {
    int mem;                        /* /proc/PID/mem */
    uint8_t *base, *slots, *mapped; /* mapped: slots, and what is left over by alignment */
    size_t n;                       /* pieces, and places for slots */
    struct piece *pieces;
    tt_heap_run_vec runs; /* of touched pages, ascending; what lies between reads as zero */
    atomic_flag lock;     /* of used, most and the ring; never held over a system call */
    size_t used, most;    /* slots */
    uint32_t *ring;       /* of the pieces that are here and may go, oldest first */
    size_t first, len;
    _Atomic uint64_t unread;
    _Atomic bool broken, ending;
    _Atomic size_t trip, ahead;  /* the last fault at a STRIDE-th piece; what is to be read ahead */
    struct tt_heap_sieve *sieve; /* NULL: nothing is sifted */
    struct sifted *sifted;       /* by strip of the pieces */
    uint8_t *store;              /* room for all that could be left; little is touched */
    size_t store_size;
    _Atomic size_t store_used;
    uint64_t generation; /* of all pagers, for peeking */
    sem_t wanted;
    pthread_t helper;
    bool has_helper;
};

/* Makes the piece readable, unless it is. Safe in a signal handler. */
void tt_heap_pager_load(struct tt_heap_pager *p, size_t i);
/* Nothing is read ahead any more. */
void tt_heap_pager_stop_helper(struct tt_heap_pager *p);
/* Reads piece i into memory; the first time it is sifted. Safe in a signal handler. */
void tt_heap_pager_read_piece(struct tt_heap_pager *p, size_t i, uint8_t *to);

#endif
