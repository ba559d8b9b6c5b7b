/* SPDX-License-Identifier: Apache-2.0 */
/* The address region of sampled objects, 64 GiB of reserved addresses at a constant place, so that
 * free recognises a sampled object by comparing address bits. Slots are powers of two, hence
 * aligned to their size. Up to 64 KiB they lie in spans of 64 KiB with a bitmap; while few
 * objects are sampled, small ones get a page each (last-touched can then be read from outside).
 * Larger ones have an extent each, whose pages go back to the kernel on release but for a few. All
 * bookkeeping lies outside of the region, where the program's stray writes do not reach it. Start:
 * tt_region_take. */
#include "agent/region.h"

#define SPAN_SHIFT 16
#define SPANS 65536u /* 4 GiB for slots up to a span, less where addresses are limited */
#define CLASS_MIN 6u /* 64 bytes */
#define CLASS_PAGE 12u
#define CLASS_SPAN 16u
#define CLASS_MAX 30u /* 1 GiB */
#define UNIT_SHIFT 17 /* smallest extent */
#define UNITS (uint32_t)(TT_REGION_BYTES >> UNIT_SHIFT)
#define PAGE_OBJECTS 2048u /* small objects that get a page of their own */
#define REGION_LEAST (256u << 20)
#define OPEN_BYTES 0x100000u /* opened at a time */
#define SLACK_MOST (16u << 20)
#define DIRTY_MOST (8u << 20) /* released extents whose pages are kept for the next one */

struct span {
    uint32_t next; /* of the spans of its class with free slots, index + 1 */
    uint16_t free;
    uint8_t class, listed;
    uint64_t used[(1u << (SPAN_SHIFT - CLASS_MIN)) / 64];
};
struct unit {
    uint32_t next; /* free extents of its class, index + 1 */
    uint8_t class; /* 0: no extent starts here */
    uint8_t used, dirty, pad;
};
struct tt_region {
    struct span *span;
    struct unit *unit;
    uint64_t bytes, small;           /* reserved in all; of them for spans, extents lie behind */
    uint64_t spans_made, spans_open; /* spans; bytes */
    uint64_t large_made, large_open; /* bytes beyond r->small */
    uint32_t partial[CLASS_SPAN + 1];
    uint32_t extents[CLASS_MAX + 1];
    uint32_t page_objects;
    uint64_t dirty;    /* bytes of released extents not given back to the kernel */
    uint64_t live;     /* objects */
    uint64_t slack;    /* bytes of slots beyond what was asked for */
    uint64_t deferred; /* slots released by handlers inside the agent, linked through themselves */
};

int tt_region_make(void)
{
    if (tt_agent.region) { /* of an earlier recording, with what still lives in it */
        tt_agent.head->region_base = TT_REGION_BASE;
        tt_agent.head->region_used = tt_agent.region->spans_open + tt_agent.region->large_open;
        return 0;
    }
    uint64_t limit = tt_sys_limit(TT_RLIMIT_AS), reserved = TT_REGION_BYTES;
    while (reserved > limit / 4)
        reserved /= 2;
    if (reserved < REGION_LEAST)
        return -TT_ENOMEM;
    void *base = tt_sys_mmap(
        (void *)TT_REGION_BASE, reserved, TT_PROT_NONE,
        TT_MAP_PRIVATE | TT_MAP_ANONYMOUS | TT_MAP_NORESERVE | TT_MAP_FIXED_NOREPLACE, -1);
    if (tt_sys_bad(base))
        return (int)(long)base;
    if (base != (void *)TT_REGION_BASE) {
        tt_sys_munmap(base, reserved);
        return -TT_EEXIST;
    }
    tt_sys_madvise(base, reserved, TT_MADV_NOHUGEPAGE);
    uint64_t bytes =
        sizeof(struct tt_region) + SPANS * sizeof(struct span) + UNITS * sizeof(struct unit);
    struct tt_region *r = tt_sys_mmap(NULL, bytes, TT_PROT_RW,
                                      TT_MAP_PRIVATE | TT_MAP_ANONYMOUS | TT_MAP_NORESERVE, -1);
    if (tt_sys_bad(r)) {
        tt_sys_munmap(base, reserved);
        return (int)(long)r;
    }
    r->span = (struct span *)(r + 1);
    r->unit = (struct unit *)(r->span + SPANS);
    r->bytes = reserved;
    r->small = (uint64_t)SPANS << SPAN_SHIFT;
    if (r->small > reserved / 4)
        r->small = reserved / 4;
    tt_agent.region = r;
    tt_agent.head->region_base = TT_REGION_BASE;
    return 0;
}

/* The smallest class whose slots hold `size` at `align`. */
static uint32_t class_of(uint64_t size, uint64_t align)
{
    uint64_t n = size > align ? size : align;
    return n <= 1u << CLASS_MIN ? CLASS_MIN : 64u - (uint32_t)__builtin_clzl(n - 1);
}

static void list(struct tt_region *r, uint32_t index)
{
    struct span *s = &r->span[index];
    s->listed = 1; /* first: left in between (longjmp), a slot is lost, the list stays sound */
    s->next = r->partial[s->class];
    r->partial[s->class] = index + 1;
}

static int make_span(struct tt_region *r, uint32_t class)
{
    uint64_t index = r->spans_made;
    if (index == r->small >> SPAN_SHIFT)
        return -1;
    if ((index + 1) << SPAN_SHIFT > r->spans_open) {
        if (tt_sys_mprotect((void *)(TT_REGION_BASE + r->spans_open), OPEN_BYTES, TT_PROT_RW) != 0)
            return -1;
        r->spans_open += OPEN_BYTES;
        tt_agent.head->region_used += OPEN_BYTES;
    }
    r->spans_made++;
    r->span[index].class = (uint8_t) class;
    r->span[index].free = (uint16_t)(1u << (SPAN_SHIFT - class));
    list(r, (uint32_t)index);
    return 0;
}

static uint64_t take_small(struct tt_region *r, uint32_t class)
{
    if (r->partial[class] == 0 && make_span(r, class) != 0)
        return 0;
    uint32_t index = r->partial[class] - 1;
    struct span *s = &r->span[index];
    uint32_t word = 0;
    while (~s->used[word] == 0)
        word++;
    uint32_t bit = (uint32_t)__builtin_ctzl(~s->used[word]);
    s->free--; /* before the mark, and after it on release: never more than there are */
    s->used[word] |= 1ULL << bit;
    if (s->free == 0) {
        r->partial[class] = s->next;
        s->listed = 0;
    }
    return TT_REGION_BASE + ((uint64_t)index << SPAN_SHIFT) +
           ((uint64_t)(word * 64 + bit) << class);
}

static uint64_t take_large(struct tt_region *r, uint32_t class, int *zero)
{
    uint32_t index = r->extents[class];
    if (index) {
        struct unit *u = &r->unit[index - 1];
        r->extents[class] = u->next;
        u->used = 1;
        *zero = !u->dirty;
        if (u->dirty)
            r->dirty -= 1ULL << class;
        return TT_REGION_BASE + r->small + ((uint64_t)(index - 1) << UNIT_SHIFT);
    }
    uint64_t bytes = 1ULL << class, at = (r->large_made + bytes - 1) & ~(bytes - 1);
    if (at + bytes > r->bytes - r->small)
        return 0;
    if (at + bytes > r->large_open) {
        if (tt_sys_mprotect((void *)(TT_REGION_BASE + r->small + r->large_open),
                            at + bytes - r->large_open, TT_PROT_RW) != 0)
            return 0;
        tt_agent.head->region_used += at + bytes - r->large_open;
        r->large_open = at + bytes;
    }
    r->large_made = at + bytes;
    struct unit *u = &r->unit[at >> UNIT_SHIFT];
    u->class = (uint8_t) class;
    u->used = 1;
    return TT_REGION_BASE + r->small + at;
}

/* Clears the slot's mark; 0 if `at` is not the start of a slot in use. */
static int give(struct tt_region *r, uint64_t at)
{
    uint64_t offset = at - TT_REGION_BASE;
    r->live--;
    if (offset >= r->small) {
        uint32_t index = (uint32_t)((offset - r->small) >> UNIT_SHIFT);
        struct unit *u = &r->unit[index];
        uint64_t bytes = 1ULL << u->class;
        u->dirty = r->dirty + bytes <= DIRTY_MOST;
        if (u->dirty)
            r->dirty += bytes;
        else
            tt_sys_madvise((void *)at, bytes, TT_MADV_DONTNEED);
        u->used = 0;
        u->next = r->extents[u->class];
        r->extents[u->class] = index + 1;
        return 1;
    }
    uint32_t index = (uint32_t)(offset >> SPAN_SHIFT);
    struct span *s = &r->span[index];
    uint64_t slot = (offset & ((1u << SPAN_SHIFT) - 1)) >> s->class;
    s->used[slot / 64] &= ~(1ULL << slot % 64);
    s->free++;
    if (!s->listed)
        list(r, index);
    else if (s->class >= CLASS_PAGE && s->free == 1u << (SPAN_SHIFT - s->class) &&
             r->partial[s->class] != index + 1)
        tt_sys_madvise((void *)(TT_REGION_BASE + ((uint64_t)index << SPAN_SHIFT)), 1u << SPAN_SHIFT,
                       TT_MADV_DONTNEED);
    return 1;
}

uint64_t tt_region_slot(uint64_t at)
{
    struct tt_region *r = tt_agent.region;
    uint64_t offset = at - TT_REGION_BASE;
    if (offset >= r->small) {
        const struct unit *u = &r->unit[(offset - r->small) >> UNIT_SHIFT];
        return u->used && (offset & ((1u << UNIT_SHIFT) - 1)) == 0 ? 1ULL << u->class : 0;
    }
    const struct span *s = &r->span[offset >> SPAN_SHIFT];
    if (s->class == 0 || (offset & ((1ULL << s->class) - 1)) != 0)
        return 0;
    uint64_t slot = (offset & ((1u << SPAN_SHIFT) - 1)) >> s->class;
    return s->used[slot / 64] >> slot % 64 & 1 ? 1ULL << s->class : 0;
}

/* Slots that a signal handler released while the agent held the lock. */
static void drain(struct tt_region *r)
{
    uint64_t at = __atomic_exchange_n(&r->deferred, 0, __ATOMIC_ACQUIRE);
    while (at) {
        uint64_t next = *(const uint64_t *)at;
        give(r, at);
        at = next;
    }
}

uint64_t tt_region_take(struct tt_thread *t, uint64_t size, uint64_t align, int *zero)
{
    struct tt_region *r = tt_agent.region;
    uint32_t class = class_of(size, align);
    if (class > CLASS_MAX || size > 1ULL << CLASS_MAX)
        return 0;
    *zero = 0;
    tt_lock_take(&tt_agent.region_lock, t->index + 1);
    if (TT_UNLIKELY(r->deferred != 0))
        drain(r);
    if (class < CLASS_PAGE && r->page_objects < PAGE_OBJECTS) {
        class = CLASS_PAGE;
        r->page_objects++;
    }
    uint64_t at = class > CLASS_SPAN ? take_large(r, class, zero) : take_small(r, class);
    if (at && class <= CLASS_SPAN) {
        r->slack += (1ULL << class) - size;
        if (r->slack > (uint64_t)SLACK_MOST * (tt_agent.thin_floor + 1))
            tt_agent.thin_floor++; /* too much memory beyond what was asked for: sample less */
    }
    r->live += at != 0;
    tt_lock_give(&tt_agent.region_lock);
    return at;
}

void tt_region_give(struct tt_thread *t, uint64_t at, uint64_t size)
{
    struct tt_region *r = tt_agent.region;
    uint64_t slot = tt_region_slot(at);
    if (!t) {
        uint64_t head = __atomic_load_n(&r->deferred, __ATOMIC_RELAXED);
        do
            *(uint64_t *)at = head;
        while (!__atomic_compare_exchange_n(&r->deferred, &head, at, 1, __ATOMIC_RELEASE,
                                            __ATOMIC_RELAXED));
        return;
    }
    tt_lock_take(&tt_agent.region_lock, t->index + 1);
    give(r, at);
    if (slot <= 1u << CLASS_SPAN) {
        r->slack -= slot - size < r->slack ? slot - size : r->slack;
        if (slot == 1u << CLASS_PAGE && size <= 1u << (CLASS_PAGE - 1) && r->page_objects)
            r->page_objects--;
        if (tt_agent.thin_floor && r->slack < (uint64_t)SLACK_MOST / 2 * tt_agent.thin_floor)
            tt_agent.thin_floor--;
    }
    tt_lock_give(&tt_agent.region_lock);
}

uint64_t tt_region_bytes(void)
{
    return tt_agent.region ? tt_agent.region->bytes : 0;
}

uint64_t tt_region_live(void)
{
    return tt_agent.region ? tt_agent.region->live : 0;
}
