/* SPDX-License-Identifier: Apache-2.0 */
/* What the first half of the room shares: making an image out of mappings, whatever they were read
 * from, and the small reads that the allocators' walkers do in it. Start: tt_heap_image_classify.
 */
#ifndef TT_HEAP_INTERNAL_IMAGE_H
#define TT_HEAP_INTERNAL_IMAGE_H

#include <string.h>

#include "heap/heap.h"

/* ---- image.c ---- */

/* Reads n bytes of the process at address, before the ranges have bytes. 0 or a negative errno. */
typedef int tt_heap_read_fn(void *arg, uint64_t address, void *out, size_t n);

/* The ranges hold start, end, path, file_offset, write, exec and kind (SHARED where it is shared,
 * else ANON); gives every one its kind. Splits a module's bss off the anonymous memory behind it,
 * as the program headers say, and marks what belongs to telltale. Threads must be there already.
 * 0 or -ENOMEM. */
int tt_heap_image_classify(struct tt_heap_image *image, tt_heap_read_fn *read, void *arg);

/* The first range that ends behind address; ranges.len if none. */
size_t tt_heap_range_from(const struct tt_heap_image *image, uint64_t address);

/* ---- image_frozen.c, image_kernel.c ---- */

/* Pointers that only the kernel holds: epoll user data, timer values, robust lists are in the
 * thread's own memory. pid: the process itself. 0 or -ENOMEM; what cannot be read is left out. */
int tt_heap_kernel_roots(pid_t pid, struct tt_heap_image *image);

/* A run of pages. */
struct tt_heap_run {
    uint64_t start, end;
};
typedef TT_VEC(struct tt_heap_run) tt_heap_run_vec;
/* Appends the runs of [start, end) in which pages were ever touched (resident or swapped); others
 * read as zero. fd: /proc/PID/pagemap. Gaps below 64 KiB are filled. 0 or a negative errno. */
int tt_heap_resident(int fd, uint64_t start, uint64_t end, tt_heap_run_vec *runs);

/* ---- sieve.c ---- */

enum { TT_HEAP_STRIP = 64 << 10 }; /* bytes sifted at a time: what the nearest caches hold */
#define TT_HEAP_TAGGED UINT32_MAX
/* The words of [start, end) that may point to blocks, in their order. */
struct tt_heap_strip {
    const uint8_t *start, *end;
    const uint32_t *what; /* for tt_heap_sieve_word; TT_HEAP_TAGGED: would, without a tag */
    const uint16_t *at;   /* words from start */
    unsigned n;
};
struct tt_heap_sieve;
struct tt_heap_index;
/* Keeps words that point into private memory of no module, where all blocks lie. NULL: no memory,
 * or too much of that (32 GiB). */
struct tt_heap_sieve *tt_heap_sieve_make(const struct tt_heap_image *image);
void tt_heap_sieve_free(struct tt_heap_sieve *sieve);
/* Whether all blocks of the index lie where the sieve thinks there can be some. */
bool tt_heap_sieve_covers(const struct tt_heap_sieve *sieve, const struct tt_heap_index *index);
/* Sifts TT_HEAP_STRIP bytes, aligned to 32; what[] and at[] have room for all words. Returns how
 * many were kept. Safe in a signal handler. */
unsigned tt_heap_sift(const struct tt_heap_sieve *sieve, const void *bytes, uint32_t *what,
                      uint16_t *at);
/* The word, rounded down to a multiple of 8: blocks begin at one. */
uint64_t tt_heap_sieve_word(const struct tt_heap_sieve *sieve, uint32_t what);

/* ---- image_frozen.c, pager.c ---- */

/* Reads from /proc/PID/mem; returns how many bytes came. Safe in a signal handler. */
uint64_t tt_heap_read_process(int mem, uint64_t from, void *to, uint64_t n);

#define TT_HEAP_PAGE ((size_t)2 << 20) /* of the pager: as large as a huge page */
struct tt_heap_pager;
/* Of the memory [base, base + size), mapped privately and aligned to a TT_HEAP_PAGE as its size is,
 * parts can be added that are read from a process when they are touched first; it must not run, and
 * must exist as long. mem: its /proc/PID/mem. NULL: not possible here, read all at once. */
struct tt_heap_pager *tt_heap_pager_make(int mem, uint8_t *base, size_t size);
/* [start, end) of the process, to be seen at place; all are aligned. runs: those pages that were
 * ever touched, ascending; parts are added in ascending order too. 0 or a negative errno. */
int tt_heap_pager_add(struct tt_heap_pager *pager, uint64_t start, uint64_t end, uint8_t *place,
                      const tt_heap_run_vec *runs);
/* From now on each piece is sifted when it is read first. Before anything is read; the pager's
 * then.
 */
void tt_heap_pager_sift(struct tt_heap_pager *pager, struct tt_heap_sieve *sieve);
const struct tt_heap_sieve *tt_heap_pager_sieve(const struct tt_heap_pager *pager); /* or NULL */
/* What the sieve left of the memory around place, which is read if it was not yet. False: place is
 * not in a part that was added, or was not sifted; memory must be looked at. *out says which memory
 * that holds for. */
bool tt_heap_pager_strip(struct tt_heap_pager *pager, const uint8_t *place,
                         struct tt_heap_strip *out);
/* Nobody needs strips any more: their memory is for others now. No thread may read. */
void tt_heap_pager_sifted_enough(struct tt_heap_pager *pager);
/* Copies the n bytes that are seen at place, without making more of the memory present than the
 * pages they lie in: for a look here and there. False: not in a part that was added. */
bool tt_heap_pager_peek(struct tt_heap_pager *pager, const uint8_t *place, void *out, size_t n);
uint64_t tt_heap_pager_unread(struct tt_heap_pager *pager); /* bytes, so far; of NULL 0 */
/* The process ended or could not be read: what was seen of it is void. Of NULL false. */
bool tt_heap_pager_broken(struct tt_heap_pager *pager);
void tt_heap_pager_free(struct tt_heap_pager *pager);

/* ---- reading an image ---- */

/* Memory that lies in one piece both there and here; widens over adjacent ranges. */
struct tt_heap_view {
    uint64_t start, end;
    const uint8_t *bytes; /* of start */
};
/* The view that holds address, or false when that was not read. The agent's memory and modules'
 * constants are never part of a view. */
bool tt_heap_view_at(const struct tt_heap_image *image, uint64_t address, struct tt_heap_view *out);

static inline bool tt_heap_in_view(const struct tt_heap_view *v, uint64_t address, uint64_t n)
{
    return address >= v->start && address < v->end && v->end - address >= n;
}
/* The address must be in the view. */
static inline uint64_t tt_heap_load(const struct tt_heap_view *v, uint64_t address)
{
    uint64_t word;
    /* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): a view that holds it has bytes */
    memcpy(&word, v->bytes + (address - v->start), sizeof word);
    return word;
}
/* The word at address; false when it was not read. */
bool tt_heap_word(const struct tt_heap_image *image, uint64_t address, uint64_t *out);

/* ---- spare.c ---- */

/* Asks for huge pages where memory that was not touched yet is large. */
void tt_heap_huge(void *p, size_t size);
/* New memory in whole huge pages (size is a multiple of theirs, and so is the place), or NULL. It
 * may be more than there is memory, as long as it is not touched. */
void *tt_heap_map(size_t size);
/* Of such memory, whole huge pages that nobody uses any more: for the next arrays. */
void tt_heap_spare(void *p, size_t size);
/* Puts spare pages, with any content, under private memory of at least 64 MB that is not used yet;
 * up to which byte. And takes them away from where the content is no longer wanted. */
size_t tt_heap_lend(void *p, size_t size);
void tt_heap_take_back(void *p, size_t size);

/* ---- walk.c ---- */

/* Sorts spans and joins those that touch. */
void tt_heap_spans_settle(struct tt_heap_blocks *blocks);

#endif
