/* SPDX-License-Identifier: Apache-2.0 */
/* A child that allocates, says in shared memory what it holds and what it freed, and stops; and the
 * image of it. Start: tt_child_image. */
#ifndef TT_TEST_HEAP_CHILD_H
#define TT_TEST_HEAP_CHILD_H

#include "heap/heap.h"

#define TT_CHILD_MOST 20000

struct tt_child_entry {
    uint64_t address, usable; /* usable 0: freed */
};
struct tt_child_truth {
    uint32_t n;
    uint64_t word[8]; /* what the test and the child agree on */
    struct tt_child_entry entry[TT_CHILD_MOST];
};

/* Forks; the child runs body and stops. *truth is shared with it. */
void tt_child_image(void (*body)(struct tt_child_truth *truth), struct tt_child_truth **truth,
                    struct tt_heap_image *image);
/* The same, but the program executes itself with LD_PRELOAD=library and "child FD"; see
 * tt_child_main. */
void tt_child_image_preloaded(const char *library, struct tt_child_truth **truth,
                              struct tt_heap_image *image);
/* For main of such a program: does not return when it is the child. */
void tt_child_main(int argc, char **argv, void (*body)(struct tt_child_truth *truth));

/* Blocks of many sizes, two of five freed. */
void tt_child_allocate(struct tt_child_truth *truth);
/* The blocks are ascending and disjoint; every live entry is listed with its size and no freed one;
 * entries with numbers in [skip, skip + n_skip) may be absent. */
void tt_child_compare(const struct tt_child_truth *truth, const struct tt_heap_blocks *blocks,
                      uint32_t skip, uint32_t n_skip);
/* Overwrites words of the image's memory at random and walks it, many times: only the order of the
 * list is checked. */
void tt_child_torture(struct tt_heap_image *image, unsigned rounds);

#endif
