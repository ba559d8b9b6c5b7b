/* SPDX-License-Identifier: Apache-2.0 */
/* What jemalloc's threads hold in their caches. A tcache lies in its thread's static TLS: one bin a
 * size class in a row, whose stacks of pointers lie side by side in one allocation, so that each
 * bin's stack begins where the one before ends; nothing else looks like that (cache_bin.h of 5.3).
 * In 5.2 a bin has a count and a pointer behind its stack. Start: tt_je_caches. */
#include <errno.h>
#include <stdlib.h>

#include "heap/internal_jemalloc.h"

enum { TLS_MOST = 1 << 18, BIN = 24, BINS_LEAST = 20, BINS_MOST = 73, STACK_MOST = 1 << 16 };

struct bin {
    uint64_t low, high; /* of the stack: full and empty position */
    uint64_t head;      /* cached pointers: [head, high) */
};

static bool read_bin(const struct tt_heap_view *v, uint64_t at, struct bin *out)
{
    uint16_t low_bits[3]; /* low water, full, empty */
    uint64_t head = tt_heap_load(v, at);
    memcpy(low_bits, v->bytes + (at + 16 - v->start), sizeof low_bits);
    if (head < 1 << 20 || head >> 47 || (head & 7))
        return false;
    out->head = head;
    out->high = head + (uint16_t)(low_bits[2] - (uint16_t)head);
    out->low = head - (uint16_t)((uint16_t)head - low_bits[1]);
    return ((out->high | out->low) & 7) == 0 && out->high - out->low < STACK_MOST &&
           out->high > out->low && out->head <= out->high && out->head >= out->low;
}

/* How many bins in a row start here. */
static unsigned count_bins(const struct tt_heap_view *v, uint64_t at)
{
    struct bin bin, before = {0};
    unsigned n = 0;
    for (; n < BINS_MOST && tt_heap_in_view(v, at, BIN); n++, at += BIN) {
        if (!read_bin(v, at, &bin) || (n && bin.low != before.high))
            break;
        before = bin;
    }
    return n;
}

/* The start of the block that holds address. */
static uint64_t block_start(const struct je_heap *heap, uint64_t address)
{
    struct je_extent e;
    if (!tt_je_extent_at(heap, address, &e) || !e.active)
        return 0;
    uint64_t size = e.slab && e.size_index < JE_SIZES ? heap->sizes[e.size_index] : 0;
    return size ? e.address + (address - e.address) / size * size : e.address;
}

/* alive: the thread runs; else its stack of pointers may have been given back. */
static int take_cache(struct je_heap *heap, const struct tt_heap_view *v, uint64_t at, unsigned n,
                      bool alive)
{
    struct bin bin;
    for (unsigned i = 0; i < n; i++, at += BIN) {
        if (!read_bin(v, at, &bin))
            break;
        if (i == 0 && alive && tt_vec_push(&heap->cached, block_start(heap, bin.low)))
            return -ENOMEM;
        for (uint64_t slot = bin.head; slot < bin.high; slot += 8) {
            uint64_t cached;
            if (tt_heap_word(heap->image, slot, &cached) && cached &&
                tt_vec_push(&heap->cached, cached))
                return -ENOMEM;
        }
    }
    return 0;
}

/* ---- 5.2: {i32 low water, u32 cached, u64 requests, void **behind} ---- */

static bool old_bin(const struct je_heap *heap, const struct tt_heap_view *v, uint64_t at,
                    uint64_t *behind, uint32_t *n)
{
    int32_t low_water;
    memcpy(&low_water, v->bytes + (at - v->start), 4);
    memcpy(n, v->bytes + (at + 4 - v->start), 4);
    *behind = tt_heap_load(v, at + 16);
    return low_water >= -1 && low_water <= (int64_t)*n && *n <= STACK_MOST / 8 &&
           *behind >= 1 << 20 && *behind >> 47 == 0 && (*behind & 7) == 0 &&
           tt_heap_bytes(heap->image, *behind - 8, 8);
}

/* before: the end of the stack that the first one's must follow, 0 none. */
static unsigned count_old_bins(const struct je_heap *heap, const struct tt_heap_view *v,
                               uint64_t at, uint64_t before)
{
    uint64_t behind;
    uint32_t cached;
    unsigned n = 0;
    for (; n < BINS_MOST && tt_heap_in_view(v, at, BIN); n++, at += BIN) {
        if (!old_bin(heap, v, at, &behind, &cached) ||
            (before &&
             (behind <= before || behind - before > STACK_MOST || cached > (behind - before) / 8)))
            break;
        before = behind;
    }
    return n;
}

static int take_old(struct je_heap *heap, const struct tt_heap_view *v, uint64_t at, unsigned n,
                    bool alive, uint64_t *end)
{
    for (unsigned i = 0; i < n; i++, at += BIN) {
        uint64_t behind, cached;
        uint32_t count;
        if (!old_bin(heap, v, at, &behind, &count))
            return 0;
        *end = behind;
        if (i == 0 && alive && tt_vec_push(&heap->cached, block_start(heap, behind - 8)))
            return -ENOMEM;
        for (uint32_t k = 1; k <= count; k++)
            if (tt_heap_word(heap->image, behind - 8ull * k, &cached) && cached &&
                tt_vec_push(&heap->cached, cached))
                return -ENOMEM;
    }
    return 0;
}

/* ---- all threads ---- */

/* In 5.2 the bins of large blocks are a second, short row, whose stacks go on behind the first's.
 */
static int take_old_rows(struct je_heap *heap, const struct tt_heap_view *v, uint64_t at,
                         unsigned n, bool alive)
{
    enum { BETWEEN = 1024, ROW_LEAST = 3 };
    uint64_t end = 0, from = at + BIN * (uint64_t)n;
    int rc = take_old(heap, v, at, n, alive, &end);
    for (at = from; at < from + BETWEEN && rc == 0; at += 8) {
        n = count_old_bins(heap, v, at, end);
        if (n >= ROW_LEAST)
            return take_old(heap, v, at, n, false, &end);
    }
    return rc;
}

static int one_thread(struct je_heap *heap, uint64_t thread_pointer, bool alive)
{
    struct tt_heap_view v;
    thread_pointer &= ~7ull;
    if (thread_pointer < 8 || !tt_heap_view_at(heap->image, thread_pointer - 8, &v))
        return 0;
    uint64_t low = thread_pointer - v.start > TLS_MOST ? thread_pointer - TLS_MOST : v.start;
    bool old = heap->layout->state_bits == 2;
    for (uint64_t at = thread_pointer - (uint64_t)BIN * BINS_LEAST;
         at >= low && at < thread_pointer; at -= 8) {
        unsigned n = old ? count_old_bins(heap, &v, at, 0) : count_bins(&v, at);
        if (n < BINS_LEAST)
            continue;
        for (unsigned more; at - BIN >= low; n = more, at -= BIN) { /* to the first of the row */
            more = old ? count_old_bins(heap, &v, at - BIN, 0) : count_bins(&v, at - BIN);
            if (more != n + 1)
                break;
        }
        heap->caches += alive;
        return old ? take_old_rows(heap, &v, at, n, alive) : take_cache(heap, &v, at, n, alive);
    }
    return 0;
}

/* Threads that a fork left behind: their control blocks (which point to themselves at 0 and 16)
 * stand at the end of their stacks. Ended threads have emptied their caches. */
static int ended_threads(struct je_heap *heap)
{
    enum { END = 0x2000 };
    const struct tt_heap_image *image = heap->image;
    int rc = 0;
    for (size_t i = 0; i < image->ranges.len && rc == 0; i++) {
        const struct tt_heap_range *r = &image->ranges.data[i];
        if (r->kind != TT_HEAP_ANON || !r->write || !r->bytes || r->end - r->start < END)
            continue;
        for (uint64_t at = r->end - END; at + 24 <= r->end && rc == 0; at += 64) {
            uint64_t word[3];
            bool alive = false;
            memcpy(word, r->bytes + (at - r->start), sizeof word);
            for (size_t k = 0; k < image->threads.len; k++)
                alive |= image->threads.data[k].regs.fs_base == at;
            if (word[0] == at && word[2] == at && !alive)
                rc = one_thread(heap, at, false);
        }
    }
    return rc;
}

static int by_value(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

int tt_je_caches(struct je_heap *heap)
{
    int rc = 0;
    for (size_t i = 0; i < heap->image->threads.len && rc == 0; i++)
        rc = one_thread(heap, heap->image->threads.data[i].regs.fs_base, true);
    if (rc == 0)
        rc = ended_threads(heap);
    if (heap->cached.len)
        qsort(heap->cached.data, heap->cached.len, sizeof *heap->cached.data, by_value);
    return rc;
}
