/* SPDX-License-Identifier: Apache-2.0 */
/* A made-up process for the search half of src/heap: byte arrays at addresses of the test's choice,
 * a list of blocks, random graphs of them, and blocks that look like a program's.
 * Start: tt_fake_start. */
#ifndef TT_TEST_HEAP_FAKE_H
#define TT_TEST_HEAP_FAKE_H

#include "heap/internal.h"

#define FAKE_TEXT 0x400000ull
#define FAKE_CONSTANTS 0x402000ull
#define FAKE_DATA 0x404000ull
#define FAKE_HEAP 0x10000000ull
#define FAKE_MAPPED 0x7f0000000000ull
#define FAKE_STACK 0x7ffd00000000ull
enum { FAKE_DATA_SIZE = 0x8000, FAKE_MAPPED_SIZE = 0x4000, FAKE_STACK_SIZE = 0x4000 };

struct tt_fake {
    struct tt_heap_image image;
    struct tt_heap_blocks blocks;
    uint8_t *memory[8]; /* of the ranges */
    uint64_t top;
    struct tt_heap_index index;
    struct tt_heap_edges edges;
    struct tt_heap_graph graph;
    struct tt_heap_marks marks;
    struct tt_heap_shaper shaper;
    struct tt_heap_lost lost;
    tt_heap_root_vec roots;
    struct tt_heap_result result;
};
struct tt_fake_graph {
    size_t n;
    uint64_t *address;
    bool *edge; /* n * n */
    bool *rooted;
};
/* What a program's place writes into its blocks. Sorts share the size of 56 usable bytes. */
enum tt_fake_sort { CALL, STRING, PAIR, NODE, OBJECT, SORTS };
struct tt_fake_births {
    const struct tt_fake *f;
    TT_VEC(uint32_t) site; /* true site by number of the block */
    TT_VEC(bool) tracked;
};

/* An empty process with a program's text, constants and data, a heap of that size, a mapping and a
 * stack. tt_fake_end frees everything. */
void tt_fake_start(struct tt_fake *f, uint64_t heap_size);
void tt_fake_end(struct tt_fake *f);
/* Ranges are added in ascending order. Returns its number. */
size_t tt_fake_add_range(struct tt_fake *f, uint64_t start, uint64_t size,
                         enum tt_heap_range_kind kind, const char *path);
uint64_t *tt_fake_word(struct tt_fake *f, uint64_t address);
/* The next block, as glibc lays them out: a header of 8 bytes between blocks. */
uint64_t tt_fake_block(struct tt_fake *f, uint64_t usable);

/* The steps of a search. tt_fake_forget_marks frees what they made. */
void tt_fake_mark(struct tt_fake *f, unsigned threads);
void tt_fake_fold(struct tt_fake *f);
void tt_fake_forget_marks(struct tt_fake *f);
bool tt_fake_reached(const struct tt_fake *f, uint64_t address);

void tt_fake_seed(uint64_t seed);
uint64_t tt_fake_draw(uint64_t below);
double tt_fake_uniform(void);

/* n blocks with pointers between them, and from so many roots; and what can be visited from one. */
struct tt_fake_graph tt_fake_random_graph(struct tt_fake *f, size_t n, size_t edges, size_t roots);
void tt_fake_graph_free(struct tt_fake_graph *g);
void tt_fake_visit(const struct tt_fake_graph *g, size_t from, bool *seen);

uint64_t tt_fake_plant(struct tt_fake *f, enum tt_fake_sort sort);
/* A tt_heap_name_fn that knows some of the program's data. */
int tt_fake_name_it(void *arg, const char *path, uint64_t offset, uint64_t address, char *out,
                    size_t size);
/* site_of of the options, with births as arg; of the block made last, its site. */
uint32_t tt_fake_site_of(void *arg, uint64_t address, uint64_t *requested);
void tt_fake_born(struct tt_fake_births *b, uint32_t site, bool tracked);
void tt_fake_births_free(struct tt_fake_births *b);

#endif
