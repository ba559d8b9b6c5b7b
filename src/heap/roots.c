/* SPDX-License-Identifier: Apache-2.0 */
/* Where a program can hold a pointer without holding it in a block. Too many roots hide losses, too
 * few invent them, and an invented loss is the worse error: what is not understood is a root.
 * Left out for sure: the dead part of a stack (below the red zone, System V ABI 3.2.2), free heap
 * memory, constants, and stacks of ended threads in glibc's cache. Start: tt_heap_roots_collect. */
#include "heap/internal.h"

#include <string.h>

/* struct pthread of glibc on x86-64: the header's tcb, dtv and self pointers, and tid, which the
 * kernel clears at the thread's end (CLONE_CHILD_CLEARTID) and pthread_join then sets to -1. The
 * header is padded to 0x2c0 bytes and a list of 16 follows, unchanged from 2.4 on. */
enum { TCB_DTV = 8, TCB_SELF = 0x10, TCB_TID = 0x2d0, TCB_SPAN = 0x2000 };
enum { RED_ZONE = 128 };

static uint64_t word_at(const struct tt_heap_range *r, uint64_t address)
{
    uint64_t v;
    memcpy(&v, r->bytes + (address - r->start), 8);
    return v;
}

static bool is_control_block(const struct tt_heap_range *r, uint64_t address)
{
    return address >= r->start && r->end - address >= TCB_TID + 8 &&
           word_at(r, address) == address && word_at(r, address + TCB_SELF) == address;
}

/* Whether every living thread's control block looks as glibc's does; else nothing is concluded. */
static bool glibc_threads(const struct tt_heap_image *image)
{
    for (size_t i = 0; i < image->threads.len; i++) {
        uint64_t tcb = image->threads.data[i].regs.fs_base;
        const struct tt_heap_range *r = tt_heap_range_at(image, tcb);
        if (!r || !r->bytes || !is_control_block(r, tcb))
            return false;
        uint32_t tid = (uint32_t)word_at(r, tcb + TCB_TID);
        if (!tid || tid >> 22) /* PID_MAX_LIMIT; another number than ours in a pid namespace */
            return false;
    }
    return image->threads.len > 0;
}

/* The control block of an ended thread, when the mapping begins behind a hole or a guard page and
 * has one at its very end; else 0. */
static uint64_t cached_stack(const struct tt_heap_image *image, size_t number)
{
    const struct tt_heap_range *r = &image->ranges.data[number];
    if (r->kind != TT_HEAP_ANON || r->path[0])
        return 0;
    if (number) {
        const struct tt_heap_range *below = r - 1;
        if (below->end == r->start && (below->write || below->bytes))
            return 0;
    }
    uint64_t low = r->end - r->start > TCB_SPAN ? r->end - TCB_SPAN : r->start;
    for (uint64_t a = low & ~63ull; a < r->end; a += 64)
        if (is_control_block(r, a))
            return (int32_t)word_at(r, a + TCB_TID) <= 0 ? a : 0;
    return 0;
}

/* The kernel puts the main stack above everything else that can be written. */
static bool is_main_stack(const struct tt_heap_image *image, const struct tt_heap_range *r)
{
    if (strcmp(r->path, "[stack]") == 0)
        return true;
    for (const struct tt_heap_range *o = r + 1; o < image->ranges.data + image->ranges.len; o++)
        if (o->write)
            return false;
    return true;
}

/* The lowest address in use of a range that is some thread's stack as the kernel or glibc made it;
 * its start for any other memory, such as stacks that a program manages itself. */
static uint64_t used_from(const struct tt_heap_image *image, const struct tt_heap_range *r,
                          uint32_t *thread)
{
    uint64_t lowest = UINT64_MAX;
    *thread = TT_HEAP_NONE;
    for (size_t i = 0; i < image->threads.len; i++) {
        const struct user_regs_struct *regs = &image->threads.data[i].regs;
        if (regs->rsp < r->start || regs->rsp >= r->end)
            continue;
        bool own = regs->fs_base > regs->rsp && regs->fs_base < r->end;
        if (!own && !is_main_stack(image, r))
            return r->start;
        if (regs->rsp < lowest) {
            lowest = regs->rsp;
            *thread = (uint32_t)i;
        }
    }
    if (lowest == UINT64_MAX)
        return r->start;
    lowest &= ~7ull;
    return lowest - r->start > RED_ZONE ? lowest - RED_ZONE : r->start;
}

struct cursor {
    const struct tt_heap_image *image;
    const struct tt_heap_blocks *blocks;
    size_t span, block; /* the first that may still matter */
    tt_heap_root_vec *out;
    struct tt_heap_root like;
    const struct tt_heap_range *range;
};

static int put(struct cursor *c, uint64_t start, uint64_t end)
{
    start = (start + 7) & ~7ull;
    end &= ~7ull;
    if (start >= end)
        return 0;
    struct tt_heap_root root = c->like;
    root.address = start;
    root.n = (end - start) / 8;
    root.words = (const uint64_t *)(const void *)(c->range->bytes + (start - c->range->start));
    return tt_vec_push(c->out, root);
}

/* [start, end) without blocks. */
static int put_outside_blocks(struct cursor *c, uint64_t start, uint64_t end)
{
    const struct tt_heap_block *list = c->blocks->list.data;
    size_t n = c->blocks->list.len, low = c->block, high = n;
    while (low < high) { /* the first block that ends behind start */
        size_t mid = low + (high - low) / 2;
        if (list[mid].address + list[mid].size <= start)
            low = mid + 1;
        else
            high = mid;
    }
    c->block = low;
    for (; c->block < n && list[c->block].address < end; c->block++) {
        const struct tt_heap_block *b = &list[c->block];
        if (b->address > start && put(c, start, b->address))
            return -ENOMEM;
        if (b->address + b->size > start)
            start = b->address + b->size;
        if (start >= end)
            return 0;
    }
    return put(c, start, end);
}

/* [start, end) without the allocator's extents, then without blocks. */
static int put_outside_heap(struct cursor *c, uint64_t start, uint64_t end)
{
    const struct tt_heap_span *spans = c->blocks->internal.data;
    size_t n = c->blocks->internal.len;
    while (c->span < n && spans[c->span].end <= start)
        c->span++;
    for (size_t i = c->span; i < n && spans[i].start < end; i++) {
        if (spans[i].start > start && put_outside_blocks(c, start, spans[i].start))
            return -ENOMEM;
        if (spans[i].end > start)
            start = spans[i].end;
    }
    return start < end ? put_outside_blocks(c, start, end) : 0;
}

int tt_heap_roots_collect(const struct tt_heap_image *image, const struct tt_heap_blocks *blocks,
                          tt_heap_root_vec *out)
{
    static const enum tt_heap_root_kind kinds[] = {
        [TT_HEAP_DATA] = TT_HEAP_ROOT_DATA,
        [TT_HEAP_STACK] = TT_HEAP_ROOT_STACK,
        [TT_HEAP_ANON] = TT_HEAP_ROOT_MEMORY,
        [TT_HEAP_SHARED] = TT_HEAP_ROOT_SHARED,
    };
    bool glibc = glibc_threads(image);
    struct cursor c = {.image = image, .blocks = blocks, .out = out};
    for (size_t i = 0; i < image->threads.len; i++) {
        const struct user_regs_struct *regs = &image->threads.data[i].regs;
        if (tt_vec_push(out, (struct tt_heap_root){(const uint64_t *)(const void *)regs,
                                                   sizeof *regs / 8, 0, TT_HEAP_ROOT_REGISTERS,
                                                   (uint32_t)i}))
            return -ENOMEM;
    }
    for (size_t i = 0; i < image->kernel_roots.len; i++)
        if (tt_vec_push(out, (struct tt_heap_root){&image->kernel_roots.data[i].value, 1, 0,
                                                   TT_HEAP_ROOT_KERNEL, (uint32_t)i}))
            return -ENOMEM;
    for (size_t i = 0; i < image->ranges.len; i++) {
        const struct tt_heap_range *r = &image->ranges.data[i];
        if (!r->bytes || r->kind == TT_HEAP_TEXT || r->kind == TT_HEAP_OURS)
            continue;
        uint32_t thread;
        uint64_t start = used_from(image, r, &thread);
        c.range = r;
        c.like = (struct tt_heap_root){.kind = kinds[r->kind], .number = (uint32_t)i};
        uint64_t ended = thread == TT_HEAP_NONE && glibc ? cached_stack(image, i) : 0;
        if (ended) {
            /* Kept for the next thread, as is the table of its thread-local data (dtv). */
            if (put(&c, ended + TCB_DTV, ended + TCB_DTV + 8))
                return -ENOMEM;
            continue;
        }
        if (thread != TT_HEAP_NONE) {
            c.like.kind = TT_HEAP_ROOT_STACK;
            c.like.number = thread;
        } else if (r->kind == TT_HEAP_STACK) {
            c.like.kind = TT_HEAP_ROOT_MEMORY;
        }
        if (put_outside_heap(&c, start, r->end))
            return -ENOMEM;
    }
    return 0;
}
