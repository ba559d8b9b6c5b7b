/* SPDX-License-Identifier: Apache-2.0 */
/* What the second half of the room shares: an index from any word to the block it points into, the
 * places where roots lie, marks, and what a block looks like. Blocks are known by their number in
 * the ascending list, 32 bits wide. Start: tt_heap_index_build, then tt_heap_mark. */
#ifndef TT_HEAP_INTERNAL_H
#define TT_HEAP_INTERNAL_H

#include "heap/heap.h"

#include "base/map.h"

/* ---- spare.c ---- */

/* Zeroed memory for arrays that are visited at random: in huge pages where it is large, which
 * spares misses of the TLB and most page faults. NULL when there is none. */
void *tt_heap_array(size_t n, size_t width);
/* Of NULL nothing. What was large stays for the next arrays, of any search. */
void tt_heap_array_free(void *array);
/* Gives back to the system what no array uses. */
void tt_heap_spare_drop(void);

/* ---- index.c: word -> block ---- */

#define TT_HEAP_NONE UINT32_MAX
#define TT_HEAP_SLAB_BITS 26 /* one slab of cells covers 64 MiB of addresses */
#define TT_HEAP_UNTAG 0xffffffffffffull
#define TT_HEAP_ADDRESS_BITS 47 /* user addresses of x86-64 with four levels of page tables */

/* 64 granules of heap: where blocks start, how many start before, and in which range they lie. A
 * cell that no block touches is zero. The number of starts up to an address is the number of the
 * block that may hold it, however far back it starts (rank and select; Jacobson 1989). */
struct tt_heap_cell {
    uint64_t starts;
    uint32_t rank;
    uint32_t range; /* of the cell's first byte; pages are larger than cells */
};
struct tt_heap_window {
    const uint8_t *bytes; /* of the range; NULL: not read */
    uint64_t start, end;
};
struct tt_heap_index {
    const struct tt_heap_image *image;
    const struct tt_heap_block *list;
    uint32_t n;
    uint64_t low, high; /* all blocks lie in [low, high) */
    unsigned shift; /* log2 of the granule: 4, or 3 where blocks lie closer (jemalloc's 8 bytes) */
    uint64_t *near; /* a bit for each GiB of addresses in which blocks lie */
    uint32_t *slab_of; /* by address >> TT_HEAP_SLAB_BITS: slab + 1, 0 none */
    struct tt_heap_cell *cells;
    struct tt_heap_window *windows; /* by number of the range */
};

/* Builds the index over an ascending list of disjoint blocks. 0, -E2BIG (more than 2^32 - 2
 * blocks), -EINVAL (list not ascending or beyond 47 bits) or -ENOMEM. The image and the list must
 * outlive it. */
int tt_heap_index_build(const struct tt_heap_image *image, const struct tt_heap_blocks *blocks,
                        struct tt_heap_index *out, struct tt_error *err);
void tt_heap_index_free(struct tt_heap_index *index);

/* Whether the word may point to a block: cheap, few are let through in vain. */
static inline bool tt_heap_near(const struct tt_heap_index *x, uint64_t word)
{
    return !(word >> TT_HEAP_ADDRESS_BITS) && (x->near[word >> 36] >> (word >> 30 & 63) & 1) &&
           x->slab_of[word >> TT_HEAP_SLAB_BITS];
}
/* The cell of a word that is near. */
static inline const struct tt_heap_cell *tt_heap_cell_of(const struct tt_heap_index *x,
                                                         uint64_t word)
{
    uint64_t slab = x->slab_of[word >> TT_HEAP_SLAB_BITS] - 1;
    uint64_t within = word & ((1ull << TT_HEAP_SLAB_BITS) - 1);
    return &x->cells[(slab << (TT_HEAP_SLAB_BITS - 6 - x->shift)) + (within >> (6 + x->shift))];
}
/* The last block that starts at or before the word, TT_HEAP_NONE when the cell knows of none. */
static inline uint32_t tt_heap_before(const struct tt_heap_index *x,
                                      const struct tt_heap_cell *cell, uint64_t word)
{
    uint64_t upto = cell->starts & (~0ull >> (63 - (word >> x->shift & 63)));
    return cell->rank + (uint32_t)__builtin_popcountll(upto) - 1;
}
static inline bool tt_heap_holds(const struct tt_heap_index *x, uint32_t block, uint64_t word)
{
    return word - x->list[block].address < x->list[block].size;
}
/* The block that the word points to or into, TT_HEAP_NONE if none. An address right behind a block
 * belongs to what follows and is not accepted: who holds an end pointer also holds a beginning. */
static inline uint32_t tt_heap_find(const struct tt_heap_index *x, uint64_t word)
{
    if (!tt_heap_near(x, word))
        return TT_HEAP_NONE;
    uint32_t block = tt_heap_before(x, tt_heap_cell_of(x, word), word);
    return block != TT_HEAP_NONE && tt_heap_holds(x, block, word) ? block : TT_HEAP_NONE;
}
/* The words of a block that were read, from byte `from` (a multiple of 8) on: up to the end of the
 * block or of the range. Sets *n (words) and returns them; NULL when they were not read. */
const uint64_t *tt_heap_words(const struct tt_heap_index *index, uint32_t block, uint64_t from,
                              uint64_t *n);

/* ---- roots.c ---- */

enum tt_heap_root_kind {
    TT_HEAP_ROOT_DATA,
    TT_HEAP_ROOT_STACK,
    TT_HEAP_ROOT_MEMORY, /* mapped memory of no module and no allocator; thread-local data too */
    TT_HEAP_ROOT_SHARED,
    TT_HEAP_ROOT_REGISTERS,
    TT_HEAP_ROOT_KERNEL,
};
/* Words that count as used. */
struct tt_heap_root {
    const uint64_t *words;
    uint64_t n;
    uint64_t address; /* of the first; 0 for registers and kernel roots */
    enum tt_heap_root_kind kind;
    uint32_t number; /* of the range, the thread (STACK, REGISTERS) or the kernel root */
};
typedef TT_VEC(struct tt_heap_root) tt_heap_root_vec;
/* All roots. Registers of all threads; stacks from the red zone (128 bytes below the stack pointer)
 * up; every range that was read but module constants and the agent's own; without blocks and
 * without the allocator's extents. Stacks of ended threads that glibc keeps for reuse hold stale
 * pointers and are left out when they can be told for sure. 0 or -ENOMEM. */
int tt_heap_roots_collect(const struct tt_heap_image *image, const struct tt_heap_blocks *blocks,
                          tt_heap_root_vec *out);

/* ---- edges.c ---- */

/* Calls work for 0 .. n - 1, on `threads` threads (0: as many as cores, at most TT_HEAP_HANDS),
 * which are numbered from 0. 0, or -ENOMEM when a call did not return 0. */
enum { TT_HEAP_HANDS = 4 };
typedef int tt_heap_work_fn(void *arg, unsigned hand, uint32_t number);
int tt_heap_each(uint32_t n, unsigned threads, tt_heap_work_fn *work, void *arg);

/* tt_heap_find for n words that are near, with overlapping misses of the cache. */
void tt_heap_resolve(const struct tt_heap_index *index, const uint64_t *word, uint32_t *block,
                     unsigned n);

static inline bool tt_heap_bit(const uint64_t *bits, uint32_t i)
{
    return bits[i / 64] >> (i % 64) & 1;
}
static inline void tt_heap_set_bit(uint64_t *bits, uint32_t i)
{
    bits[i / 64] |= 1ull << (i % 64);
}
/* The number of set bits before each word of 64, and before any bit (Jacobson 1989): places for
 * some of many. tt_heap_ranks: for free(), NULL without memory; *total of all. */
uint32_t *tt_heap_ranks(const uint64_t *bits, uint32_t n, uint32_t *total);
static inline uint32_t tt_heap_rank(const uint64_t *bits, const uint32_t *ranks, uint32_t i)
{
    return ranks[i / 64] + (uint32_t)__builtin_popcountll(bits[i / 64] & ((1ull << (i % 64)) - 1));
}

enum { TT_HEAP_CHUNK_BITS = 12, TT_HEAP_CHUNK = 1 << TT_HEAP_CHUNK_BITS };
/* What each block points to: other blocks, in the order of its words. */
struct tt_heap_edges {
    const struct tt_heap_index *index;
    uint32_t n;       /* chunks of blocks */
    uint32_t **lists; /* of each chunk */
    uint32_t *begin;  /* where a block's part of its chunk's list begins; one more ends the chunk */
    uint64_t *leaf;   /* a bit for each block that points to no other */
    uint64_t *tagging; /* a bit for each that may hold what would point to a block without a tag */
    TT_VEC(uint32_t *) slabs; /* the lists' memory */
};
/* Needs 4 bytes a block and 4 a pointer. 0 or -ENOMEM. */
int tt_heap_edges_find(const struct tt_heap_index *index, unsigned threads,
                       struct tt_heap_edges *out);
void tt_heap_edges_free(struct tt_heap_edges *edges);
static inline const uint32_t *tt_heap_begin(const struct tt_heap_edges *e, uint32_t block)
{
    return &e->begin[(size_t)block + (block >> TT_HEAP_CHUNK_BITS)];
}
static inline const uint32_t *tt_heap_targets(const struct tt_heap_edges *e, uint32_t block,
                                              uint32_t *n)
{
    const uint32_t *begin = tt_heap_begin(e, block);
    *n = begin[1] - begin[0];
    return e->lists[block >> TT_HEAP_CHUNK_BITS] + begin[0];
}

/* ---- graph.c ---- */

/* Reached blocks, and root words above them, as a graph with one entry: node 0 leads to root
 * objects (a run of words in a module's data, a stack, the registers of a thread), these to their
 * words, these to blocks. Nodes are numbered in the order of a breadth-first walk, so that parents
 * and dominators have lower numbers and parents of neighbours are near each other. */
struct tt_heap_word {
    uint32_t block;
    uint32_t root;   /* number in the roots */
    uint64_t offset; /* words from the root's first */
};
struct tt_heap_object {
    uint32_t first, n; /* its words */
    bool passing;      /* a stack or registers: holds only what nothing lasting holds */
};
struct tt_heap_parent {
    uint32_t node, parent;
};
struct tt_heap_graph {
    const struct tt_heap_index *index;
    TT_VEC(struct tt_heap_word) words;
    TT_VEC(struct tt_heap_object) objects;
    uint64_t *tagged; /* a bit for each block that root words would point to without their tags */
    uint32_t n;       /* nodes */
    uint32_t lasting; /* nodes below this number are held by lasting objects */
    uint32_t *id;     /* of a node: block, word, object or entry, see below */
    uint32_t *parent; /* a node that points to it, on a shortest way */
    uint64_t *many;   /* a bit for each block that is pointed to more than once */
    uint64_t *cross;  /* a bit for each node that points to a block that was reached before and
                         points  on */
    uint64_t *share;  /* the same, for a block that points nowhere */
    uint64_t *back;   /* a bit for each node that points to its parent */
    /* After tt_heap_dominate: the nearest node that every way to it passes; idom[0] = 0. It takes
     * the place of parent, which is kept apart where it differs, by node. */
    uint32_t *idom;
    TT_VEC(struct tt_heap_parent) parents;
};
/* A node that points to the node, on a shortest way from the entry; after tt_heap_dominate. */
uint32_t tt_heap_parent_of(const struct tt_heap_graph *graph, uint32_t node);
/* What a node is: blocks have ids below index->n, then come words, then objects, then the entry. */
static inline uint32_t tt_heap_first_word(const struct tt_heap_graph *g)
{
    return g->index->n;
}
static inline uint32_t tt_heap_first_object(const struct tt_heap_graph *g)
{
    return g->index->n + (uint32_t)g->words.len;
}
/* Finds the words of the roots that point to blocks, and puts them together to objects. 0, -ENOMEM,
 * or -E2BIG: too many for 32 bits. */
int tt_heap_graph_roots(const struct tt_heap_index *index, const tt_heap_root_vec *roots,
                        struct tt_heap_graph *out);
/* Where a thread's local data begins in its stack. */
uint64_t tt_heap_local_data(const struct tt_heap_image *image, const struct user_regs_struct *r);
void tt_heap_graph_free(struct tt_heap_graph *graph);

/* ---- mark.c ---- */

struct tt_heap_marks {
    uint64_t *reached; /* one bit per block */
    uint32_t n;
    uint64_t reached_units;
    uint64_t tagged_lost; /* blocks not reached that some word with a tag would point to */
};
/* Marks what can be reached from the graph's root words, and fills the rest of the graph but for
 * idom. Needs 8 bytes a block and root word. 0, -ENOMEM, or -E2BIG. */
int tt_heap_mark(const struct tt_heap_edges *edges, struct tt_heap_graph *graph, unsigned threads,
                 struct tt_heap_marks *out);
void tt_heap_marks_free(struct tt_heap_marks *marks);

/* ---- shape.c ---- */

/* A block described ever more coarsely. Two blocks of one kind agree in the later levels even where
 * counters, texts or neighbours differ. A level's key contains the next level's. */
enum {
    TT_HEAP_BY_VALUE,  /* kinds, and small numbers as they are */
    TT_HEAP_BY_KIND,   /* size, and the kind of each of the first 16 words and of the last */
    TT_HEAP_BY_MODULE, /* size, and the words that point into modules */
    TT_HEAP_BY_SIZE,
    TT_HEAP_LEVELS
};
struct tt_heap_shape {
    uint64_t key[TT_HEAP_LEVELS]; /* a level that adds nothing repeats the next one's key */
};
struct tt_heap_module {
    uint64_t name; /* hash of the file's base name, 0: the range belongs to no file */
    uint64_t base; /* lowest address of the file's mappings */
};
struct tt_heap_shaper {
    const struct tt_heap_index *index;
    const struct tt_heap_blocks *blocks;
    struct tt_heap_module *modules; /* by range */
};
/* 0 or -ENOMEM. The index must outlive it. */
int tt_heap_shaper_make(const struct tt_heap_index *index, const struct tt_heap_blocks *blocks,
                        struct tt_heap_shaper *out);
void tt_heap_shaper_free(struct tt_heap_shaper *shaper);
void tt_heap_shape_of(const struct tt_heap_shaper *shaper, uint32_t block,
                      struct tt_heap_shape *out);
/* As if the block were that small; bytes at most its size. */
void tt_heap_shape_as(const struct tt_heap_shaper *shaper, uint32_t block, uint64_t bytes,
                      struct tt_heap_shape *out);
/* Describes the block in words for people, at most size - 1 bytes. */
void tt_heap_shape_text(const struct tt_heap_shaper *shaper, uint32_t block, tt_heap_name_fn *name,
                        void *name_arg, char *out, size_t size);
/* "data of tapisrv+0x4060", or with a name "tapisrv calls+0x10 (struct call *[1024])"; false when
 * the address lies in no module. */
bool tt_heap_place_text(const struct tt_heap_shaper *shaper, uint64_t address,
                        tt_heap_name_fn *name, void *name_arg, char *out, size_t size);

/* ---- group.c ---- */

/* The lost blocks, ascending; by place in this list everything below is known. */
struct tt_heap_lost {
    TT_VEC(uint32_t) list;
    uint32_t *root;              /* place of the root it hangs on (its own for a root) */
    struct tt_heap_shape *shape; /* of each */
    uint32_t *group;             /* number in the result's groups, TT_HEAP_NONE left out */
    uint64_t roots;
    /* Set by tt_heap_attribute: each one's site, 0 unknown, and the chance that it is right. */
    uint32_t *site;
    float *chance;
};
/* Finds the lost blocks, their roots and shapes. A root is a lost block that no other lost block
 * leads to; of a cycle that nothing leads to, one block. 0 or -ENOMEM. */
int tt_heap_lost_find(const struct tt_heap_edges *edges, const struct tt_heap_marks *marks,
                      const struct tt_heap_shaper *shaper, unsigned threads,
                      struct tt_heap_lost *out);
void tt_heap_lost_free(struct tt_heap_lost *lost);
/* Folds them into groups, most bytes first, at most max; fills everything of a group but shares.
 * 0 or -ENOMEM. */
int tt_heap_group(const struct tt_heap_index *index, const struct tt_heap_shaper *shaper,
                  struct tt_heap_lost *lost, size_t max, tt_heap_name_fn *name, void *name_arg,
                  struct tt_heap_result *result);

/* ---- attribute.c ---- */

/* Gives the lost blocks of the result's groups to sites: fills shares, unknown_units of groups and
 * the result's totals of known, old and unknown. 0 or -ENOMEM. */
int tt_heap_attribute(const struct tt_heap_index *index, const struct tt_heap_marks *marks,
                      const struct tt_heap_shaper *shaper, struct tt_heap_lost *lost,
                      const struct tt_heap_options *options, struct tt_heap_result *result);

/* ---- dominate.c ---- */

/* Makes graph->parent graph->idom. Pointers from what only passing objects hold to what others hold
 * do not count: stacks are full of them, and they end with the function. Needs 4 bytes a block, and
 * about 40 a block and 8 a pointer of that part of the heap in which ways meet. 0, -ENOMEM, or
 * -E2BIG: too many pointers for 32 bits. */
int tt_heap_dominate(const struct tt_heap_edges *edges, struct tt_heap_graph *graph);

/* ---- retain.c ---- */

/* Fills result->holders. The edges are of no use any more afterwards and freed on the way. 0 or
 * -ENOMEM. */
int tt_heap_retain(struct tt_heap_edges *edges, struct tt_heap_graph *graph,
                   const tt_heap_root_vec *roots, const struct tt_heap_shaper *shaper,
                   const struct tt_heap_options *options, tt_heap_name_fn *name, void *name_arg,
                   struct tt_heap_result *result);

#endif
