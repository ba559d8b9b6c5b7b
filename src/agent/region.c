/* SPDX-License-Identifier: Apache-2.0 */
/* The address region of sampled objects, 64 GiB of reserved addresses at a constant place, so that
 * free recognises a sampled object by comparing address bits. Slots are powers of two, hence
 * aligned to their size; up to 64 KiB they lie in spans of 64 KiB with a bitmap, larger ones have
 * an extent each. A slot with a hole ends in a page that cannot be touched and so is a mapping of
 * its own (what was last touched can then be read from outside); mappings are a limited resource
 * (vm.max_map_count), so beyond a budget slots are packed without holes. Where the target may be
 * left alone later (attach, glibc), each slot is laid out as a mapped block of glibc's own, holes
 * are a must, and beyond the budget nothing is sampled. All bookkeeping lies outside of the region,
 * where the program's stray writes do not reach it. Start: tt_region_take. */
#include "agent/region.h"

#define PAGE 4096u
#define SPAN_SHIFT 16
#define SPANS 65536u /* 4 GiB for slots up to a span, less where addresses are limited */
#define CLASS_MIN 6u /* 64 bytes */
#define CLASS_PAGE 12u
#define CLASS_SPAN 16u
#define CLASS_MAX 30u /* 1 GiB */
#define UNIT_SHIFT 17 /* smallest extent */
#define UNITS (uint32_t)(TT_REGION_BYTES >> UNIT_SHIFT)
#define SMALL_HOLES 2048u /* objects below a page that get a hole when they need not */
#define HOLES_MOST 8192u  /* a hole costs two mappings */
#define HOLES_FIRST 1024u
#define MAPS_USUAL 65530u
#define REGION_LEAST (64u << 20)
#define OPEN_BYTES 0x100000u /* opened at a time */
#define SLACK_MOST (16u << 20)
#define DIRTY_MOST (8u << 20) /* released extents whose pages are kept for the next one */

struct span {
    uint32_t next; /* of the spans of its class with free slots, index + 1 */
    uint16_t free;
    uint8_t class, listed;
    uint64_t used[(1u << (SPAN_SHIFT - CLASS_MIN)) / 64];
};
/* With holes there are 8 slots at most. These words of `used` say which were opened, and which hold
 * objects of an earlier recording, which are the real allocator's now. */
#define OPENED 1
#define LEFT 2

struct unit {
    uint32_t next; /* free extents of its class, index + 1 */
    uint8_t class; /* 0: no extent starts here */
    uint8_t used;  /* USED_* */
    uint8_t pages; /* PAGES_*, of a free one */
    uint8_t hole;
};
enum { USED_NOT, USED, USED_LEFT };
enum { PAGES_ZERO, PAGES_DIRTY, PAGES_CLOSED };

struct tt_region {
    struct span *span;
    struct unit *unit;
    uint64_t bytes, small; /* reserved in all; of them for spans, extents lie behind */
    uint64_t half;         /* spans with holes have the first `half` bytes of the small ones */
    uint64_t made[2];      /* spans, [1] with holes */
    uint64_t opened;       /* bytes of packed spans */
    uint64_t large_made;   /* bytes beyond r->small */
    uint32_t partial[2][CLASS_SPAN + 1];
    uint32_t extents[2][CLASS_MAX + 1];
    uint32_t chunks;        /* slots look like mapped blocks of glibc */
    uint32_t holes, budget; /* objects with a hole, and how many before mappings are counted anew */
    uint32_t budget_most;
    uint32_t maps_most; /* vm.max_map_count */
    uint64_t live;      /* objects */
    uint64_t dirty;     /* bytes of released extents not given back to the kernel */
    uint64_t slack;     /* bytes of slots beyond what was asked for */
    uint64_t
        deferred; /* objects released where the lock could not be had, linked through themselves */
};

/* A slot in use. */
struct place {
    uint64_t start, room; /* of the slot; bytes of the object that lies in it */
    uint32_t class, hole;
};

/* ---- glibc's mapped blocks ---- */

/* Before the user's address lie two words: how far the chunk starts behind the beginning of its
 * pages, and the bytes from the chunk to the end of them with the bit IS_MMAPPED (glibc malloc.c,
 * munmap_chunk and mremap_chunk; the offset within the page must be a power of two or zero). */
#define HEADER 16u
#define IS_MMAPPED 2u

static void write_header(uint64_t user, uint64_t start, uint64_t end)
{
    uint64_t *word = (uint64_t *)(user - HEADER);
    word[0] = user - HEADER - start;
    word[1] = (end - (user - HEADER)) | IS_MMAPPED;
}

/* The program releases it once more? Then glibc shall complain, and not unmap the next object. */
static void wipe_header(uint64_t user)
{
    uint64_t *word = (uint64_t *)(user - HEADER);
    word[0] = word[1] = 0;
}

static uint32_t read_maps_most(void)
{
    char text[16];
    uint32_t most = 0;
    int fd = tt_sandboxed ? -1 : tt_sys_open("/proc/sys/vm/max_map_count", TT_O_CLOEXEC, 0);
    if (fd < 0)
        return MAPS_USUAL;
    long n = tt_sys_read(fd, text, sizeof text);
    tt_sys_close(fd);
    /* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): the kernel wrote n */
    for (long i = 0; i < n && text[i] >= '0' && text[i] <= '9' && most < 100000000; i++)
        most = most * 10 + (uint32_t)(text[i] - '0');
    return most ? most : MAPS_USUAL;
}

/* ---- taking ---- */

/* The smallest class whose slots hold `size` at `align`. */
static uint32_t class_of(uint64_t size, uint64_t align)
{
    uint64_t n = size > align ? size : align;
    return n <= 1u << CLASS_MIN ? CLASS_MIN : 64u - (uint32_t)__builtin_clzl(n - 1);
}

static int open_pages(uint64_t at, uint64_t bytes)
{
    if (tt_sys_mprotect((void *)at, bytes, TT_PROT_RW) != 0)
        return -1;
    tt_agent.head->region_used += bytes;
    return 0;
}

static void list(struct tt_region *r, uint32_t index, uint32_t hole)
{
    struct span *s = &r->span[index];
    s->listed = 1; /* first: left in between (longjmp), a slot is lost, the list stays sound */
    s->next = r->partial[hole][s->class];
    r->partial[hole][s->class] = index + 1;
}

static int make_span(struct tt_region *r, uint32_t class, uint32_t hole)
{
    uint64_t index = r->made[hole];
    if (index == r->half >> SPAN_SHIFT)
        return -1;
    if (!hole && (index + 1) << SPAN_SHIFT > r->opened) {
        if (open_pages(TT_REGION_BASE + r->half + r->opened, OPEN_BYTES) != 0)
            return -1;
        r->opened += OPEN_BYTES;
    }
    r->made[hole]++;
    if (!hole)
        index += r->half >> SPAN_SHIFT;
    r->span[index].class = (uint8_t) class;
    r->span[index].free = (uint16_t)(1u << (SPAN_SHIFT - class));
    list(r, (uint32_t)index, hole);
    return 0;
}

static void unlist(struct tt_region *r, struct span *s, uint32_t hole)
{
    r->partial[hole][s->class] = s->next;
    s->listed = 0;
}

static uint64_t take_small(struct tt_region *r, uint32_t class, uint32_t hole)
{
    /* Left by longjmp behind the mark of its last slot, a full one is listed still. */
    while (r->partial[hole][class] && r->span[r->partial[hole][class] - 1].free == 0)
        unlist(r, &r->span[r->partial[hole][class] - 1], hole);
    if (r->partial[hole][class] == 0 && make_span(r, class, hole) != 0)
        return 0;
    uint32_t index = r->partial[hole][class] - 1;
    struct span *s = &r->span[index];
    uint32_t word = 0;
    while (~s->used[word] == 0)
        word++;
    uint32_t bit = (uint32_t)__builtin_ctzl(~s->used[word]);
    uint64_t at =
        TT_REGION_BASE + ((uint64_t)index << SPAN_SHIFT) + ((uint64_t)(word * 64 + bit) << class);
    if (hole && !(s->used[OPENED] >> bit & 1)) {
        if (open_pages(at, (1ULL << class) - PAGE) != 0)
            return 0;
        s->used[OPENED] |= 1ULL << bit;
    }
    s->free--; /* before the mark, and after it on release: never more than there are */
    s->used[word] |= 1ULL << bit;
    if (s->free == 0)
        unlist(r, s, hole);
    return at;
}

static uint64_t take_large(struct tt_region *r, uint32_t class, uint32_t hole, int *zero)
{
    uint32_t index = r->extents[hole][class];
    *zero = 1;
    if (index) {
        struct unit *u = &r->unit[index - 1];
        uint64_t start = TT_REGION_BASE + r->small + ((uint64_t)(index - 1) << UNIT_SHIFT);
        if (u->pages == PAGES_CLOSED && open_pages(start, (1ULL << class) - (hole ? PAGE : 0)) != 0)
            return 0;
        r->extents[hole][class] = u->next;
        u->used = USED;
        *zero = u->pages != PAGES_DIRTY;
        if (u->pages == PAGES_DIRTY)
            r->dirty -= 1ULL << class;
        return start;
    }
    uint64_t bytes = 1ULL << class, at = (r->large_made + bytes - 1) & ~(bytes - 1);
    uint64_t base = TT_REGION_BASE + r->small;
    if (at + bytes > r->bytes - r->small || open_pages(base + at, bytes - (hole ? PAGE : 0)) != 0)
        return 0;
    r->large_made = at + bytes;
    struct unit *u = &r->unit[at >> UNIT_SHIFT];
    u->class = (uint8_t) class;
    u->used = USED;
    u->hole = (uint8_t)hole;
    return base + at;
}

/* ---- finding and giving ---- */

static int in_span(const struct tt_region *r, uint64_t offset, struct place *p)
{
    uint64_t index = offset >> SPAN_SHIFT;
    const struct span *s = &r->span[index];
    p->hole = offset < r->half;
    if (s->class == 0)
        return -1;
    p->class = s->class;
    p->start = TT_REGION_BASE + (offset & ~((1ULL << s->class) - 1));
    uint64_t slot = (offset & ((1u << SPAN_SHIFT) - 1)) >> s->class;
    if (p->hole && s->used[LEFT] >> slot & 1)
        return -1;
    return s->used[slot / 64] >> slot % 64 & 1 ? 0 : -1;
}

static int in_extent(const struct tt_region *r, uint64_t offset, uint64_t lead, struct place *p)
{
    if (offset < lead || (offset - lead) & ((1u << UNIT_SHIFT) - 1))
        return -1;
    const struct unit *u = &r->unit[(offset - lead) >> UNIT_SHIFT];
    p->class = u->class;
    p->hole = u->hole;
    p->start = TT_REGION_BASE + r->small + (offset - lead);
    return u->used == USED ? 0 : -1;
}

/* The slot of the object at `user`; -1 if none of this recording starts there. */
static int find(const struct tt_region *r, uint64_t user, struct place *p)
{
    uint64_t offset = user - TT_REGION_BASE, lead = 0;
    const uint64_t *header = (const uint64_t *)(user - HEADER);
    if (offset >= r->bytes || offset % HEADER || (r->chunks && offset < HEADER))
        return -1;
    if (offset < r->small ? in_span(r, offset, p) != 0
                          : (r->chunks && (lead = header[0] + HEADER) > TT_REGION_ALIGN) ||
                                in_extent(r, offset - r->small, lead, p) != 0)
        return -1;
    uint64_t end = p->start + (1ULL << p->class) - (p->hole ? PAGE : 0);
    if (user >= end)
        return -1;
    p->room = end - user;
    if (!r->chunks)
        return user == p->start ? 0 : -1;
    lead = user - p->start;
    return lead >= HEADER && (lead & (lead - 1)) == 0 && header[0] == lead - HEADER &&
                   header[1] == ((p->room + HEADER) | IS_MMAPPED)
               ? 0
               : -1;
}

/* Ends a slot's use. */
static void give(struct tt_region *r, const struct place *p)
{
    uint64_t bytes = (1ULL << p->class) - (p->hole ? PAGE : 0);
    r->live--;
    r->holes -= p->hole;
    if (r->chunks)
        wipe_header(p->start + bytes - p->room);
    if (p->class > CLASS_SPAN) {
        uint32_t index = (uint32_t)((p->start - TT_REGION_BASE - r->small) >> UNIT_SHIFT);
        struct unit *u = &r->unit[index];
        u->pages = PAGES_DIRTY;
        if (r->dirty + (1ULL << p->class) > DIRTY_MOST &&
            tt_sys_madvise((void *)p->start, bytes, TT_MADV_DONTNEED) == 0)
            u->pages = PAGES_ZERO;
        else /* also where the program has locked its memory: madvise(2), EINVAL */
            r->dirty += 1ULL << p->class;
        u->used = USED_NOT;
        u->next = r->extents[p->hole][p->class];
        r->extents[p->hole][p->class] = index + 1;
        return;
    }
    uint64_t offset = p->start - TT_REGION_BASE;
    uint32_t index = (uint32_t)(offset >> SPAN_SHIFT);
    struct span *s = &r->span[index];
    uint64_t slot = (offset & ((1u << SPAN_SHIFT) - 1)) >> p->class;
    s->used[slot / 64] &= ~(1ULL << slot % 64);
    s->free++;
    int first = !s->listed;
    if (first)
        list(r, index, p->hole);
    if (p->hole && bytes > 2ul * PAGE)
        tt_sys_madvise((void *)p->start, bytes, TT_MADV_DONTNEED);
    else if (!first && s->class >= CLASS_PAGE && s->free == 1u << (SPAN_SHIFT - s->class) &&
             r->partial[p->hole][s->class] != index + 1)
        tt_sys_madvise((void *)(TT_REGION_BASE + ((uint64_t)index << SPAN_SHIFT)), 1u << SPAN_SHIFT,
                       TT_MADV_DONTNEED);
}

/* Objects that were released while somebody else, or a frame below a signal handler, held the lock.
 */
static void drain(struct tt_region *r)
{
    uint64_t at = __atomic_exchange_n(&r->deferred, 0, __ATOMIC_ACQUIRE);
    while (at) {
        uint64_t next = *(const uint64_t *)at;
        struct place p;
        if (find(r, at, &p) != 0)
            return; /* the program released it twice, so that the list leads back */
        give(r, &p);
        at = next;
    }
}

/* Twice as many holes may be made if the process has mappings to spare; they are counted. */
static int widen(struct tt_thread *t, struct tt_region *r)
{
    uint32_t more = r->budget;
    if (r->budget >= r->budget_most)
        return -1;
    if (more > r->budget_most - r->budget)
        more = r->budget_most - r->budget;
    if (!tt_lock_take(&tt_agent.row_lock, t->index + 1))
        return -1;
    uint32_t count = tt_maps_read(t->text) == 0 ? tt_agent.maps->count : r->maps_most;
    tt_lock_give(&tt_agent.row_lock, t->index + 1);
    if (count + 2 * more > r->maps_most - r->maps_most / 4) {
        r->budget_most = r->budget;
        return -1;
    }
    r->budget += more;
    return 0;
}

uint64_t tt_region_take(struct tt_thread *t, uint64_t size, uint64_t align, int *zero)
{
    struct tt_region *r = tt_agent.region;
    uint64_t user = 0, end;
    *zero = 0;
    if (size > 1ULL << CLASS_MAX || !tt_lock_take(&tt_agent.region_lock, t->index + 1))
        return 0;
    if (TT_UNLIKELY(r->deferred != 0))
        drain(r);
    uint64_t lead = !r->chunks ? 0 : align > HEADER ? align : HEADER;
    uint32_t hole = r->chunks || size >= PAGE || r->holes < SMALL_HOLES;
    if (hole && r->holes >= r->budget && widen(t, r) != 0)
        hole = 0;
    /* Nobody who was on the way here when the recording ended leaves an object that no hook knows.
     */
    if ((hole || !r->chunks) && tt_agent_recording()) {
        uint32_t class = class_of(lead + (size ? size : 1) + (hole ? PAGE : 0), align);
        uint64_t at = class > CLASS_MAX    ? 0
                      : class > CLASS_SPAN ? take_large(r, class, hole, zero)
                                           : take_small(r, class, hole);
        if (at) {
            user = at + lead;
            end = at + (1ULL << class) - (hole ? PAGE : 0);
            if (lead)
                write_header(user, at, end);
            r->live++;
            r->holes += hole;
            if (class <= CLASS_SPAN) {
                r->slack += end - user - size;
                if (r->slack > (uint64_t)SLACK_MOST * (tt_agent.thin_floor + 1))
                    tt_agent.thin_floor++; /* too much memory beyond what was asked for */
            }
        }
    }
    tt_lock_give(&tt_agent.region_lock, t->index + 1);
    return user;
}

uint64_t tt_region_slot(uint64_t at)
{
    struct place p;
    return find(tt_agent.region, at, &p) == 0 ? p.room : 0;
}

void tt_region_give(struct tt_thread *t, uint64_t at, uint64_t size)
{
    struct tt_region *r = tt_agent.region;
    struct place p;
    if (!t || !tt_lock_take(&tt_agent.region_lock, t->index + 1)) {
        uint64_t head = __atomic_load_n(&r->deferred, __ATOMIC_RELAXED);
        do
            *(uint64_t *)at = head;
        while (!__atomic_compare_exchange_n(&r->deferred, &head, at, 1, __ATOMIC_RELEASE,
                                            __ATOMIC_RELAXED));
        return;
    }
    if (TT_UNLIKELY(r->deferred != 0))
        drain(r);
    if (find(r, at, &p) == 0) {
        give(r, &p);
        if (p.class <= CLASS_SPAN) {
            uint64_t slack = p.room > size ? p.room - size : 0;
            r->slack -= slack < r->slack ? slack : r->slack;
            if (tt_agent.thin_floor && r->slack < (uint64_t)SLACK_MOST / 2 * tt_agent.thin_floor)
                tt_agent.thin_floor--;
        }
    }
    tt_lock_give(&tt_agent.region_lock, t->index + 1);
}

/* ---- from one recording to the next ---- */

/* Makes pages untouchable and empty, mapped or not; one mapping with their neighbours once they
 * have the same advice. */
static int close_pages(uint64_t at, uint64_t bytes, int fixed)
{
    void *got = tt_sys_mmap((void *)at, bytes, TT_PROT_NONE,
                            TT_MAP_PRIVATE | TT_MAP_ANONYMOUS | TT_MAP_NORESERVE | fixed, -1);
    if (!tt_sys_bad(got) && got != (void *)at)
        tt_sys_munmap(got, bytes);
    return got == (void *)at ? 0 : -1;
}

static void advise(const struct tt_region *r)
{
    tt_sys_madvise((void *)TT_REGION_BASE, r->made[1] << SPAN_SHIFT, TT_MADV_NOHUGEPAGE);
    tt_sys_madvise((void *)(TT_REGION_BASE + r->small), r->large_made, TT_MADV_NOHUGEPAGE);
}

static uint64_t slot_start(uint32_t index, uint32_t slot, uint32_t class)
{
    return TT_REGION_BASE + ((uint64_t)index << SPAN_SHIFT) + ((uint64_t)slot << class);
}

static uint64_t unit_start(const struct tt_region *r, uint32_t index)
{
    return TT_REGION_BASE + r->small + ((uint64_t)index << UNIT_SHIFT);
}

uint64_t tt_region_rest(void)
{
    struct tt_region *r = tt_agent.region;
    if (!r)
        return 0;
    if (!tt_lock_try(&tt_agent.region_lock, TT_LOCK_CALLER))
        return r->chunks ? 0 : r->live + 1; /* somebody may be taking one right now */
    drain(r);
    for (uint32_t i = 0; i < r->made[1]; i++) {
        struct span *s = &r->span[i];
        uint64_t idle = s->used[OPENED] & ~s->used[0];
        for (; idle; idle &= idle - 1) {
            uint32_t slot = (uint32_t)__builtin_ctzl(idle);
            if (close_pages(slot_start(i, slot, s->class), (1ULL << s->class) - PAGE,
                            TT_MAP_FIXED) == 0)
                s->used[OPENED] &= ~(1ULL << slot);
        }
    }
    for (uint32_t i = 0; i < r->large_made >> UNIT_SHIFT; i++) {
        struct unit *u = &r->unit[i];
        if (u->class == 0 || u->used != USED_NOT || u->pages == PAGES_CLOSED)
            continue;
        if (close_pages(unit_start(r, i), (1ULL << u->class) - (u->hole ? PAGE : 0),
                        TT_MAP_FIXED) != 0)
            continue;
        if (u->pages == PAGES_DIRTY)
            r->dirty -= 1ULL << u->class;
        u->pages = PAGES_CLOSED;
    }
    advise(r);
    uint64_t held = tt_region_held();
    tt_lock_give(&tt_agent.region_lock, TT_LOCK_CALLER);
    return held;
}

/* Objects that live on are the real allocator's; it unmaps them when they are released. */
static void leave(struct tt_region *r)
{
    drain(r);
    for (uint32_t i = 0; i < r->made[1]; i++)
        r->span[i].used[LEFT] |= r->span[i].used[0];
    for (uint32_t i = 0; i < r->large_made >> UNIT_SHIFT; i++)
        if (r->unit[i].used == USED)
            r->unit[i].used = USED_LEFT;
    r->holes = 0;
    r->live = r->slack = 0;
}

/* Takes back the slots whose objects the real allocator has unmapped meanwhile. */
static void recover(struct tt_region *r, char *text)
{
    struct tt_map m;
    if (tt_maps_read(text) != 0)
        return;
    for (uint32_t i = 0; i < r->made[1]; i++) {
        struct span *s = &r->span[i];
        for (uint64_t left = s->used[LEFT]; left; left &= left - 1) {
            uint32_t slot = (uint32_t)__builtin_ctzl(left);
            uint64_t at = slot_start(i, slot, s->class), bit = 1ULL << slot;
            if (tt_maps_find(at, &m, NULL) ||
                close_pages(at, (1ULL << s->class) - PAGE, TT_MAP_FIXED_NOREPLACE) != 0)
                continue;
            s->used[0] &= ~bit;
            s->used[OPENED] &= ~bit;
            s->used[LEFT] &= ~bit;
            s->free++;
            if (!s->listed)
                list(r, i, 1);
        }
    }
    for (uint32_t i = 0; i < r->large_made >> UNIT_SHIFT; i++) {
        struct unit *u = &r->unit[i];
        if (u->used != USED_LEFT || tt_maps_find(unit_start(r, i), &m, NULL) ||
            close_pages(unit_start(r, i), (1ULL << u->class) - PAGE, TT_MAP_FIXED_NOREPLACE) != 0)
            continue;
        u->used = USED_NOT;
        u->pages = PAGES_CLOSED;
        u->next = r->extents[1][u->class];
        r->extents[1][u->class] = i + 1;
    }
    advise(r);
    tt_maps_drop();
}

/* A new recording. */
static void begin(struct tt_region *r)
{
    struct tt_thread *t = tt_arch_thread();
    if (r->chunks) {
        leave(r);
        if (t)
            recover(r, t->text);
    }
    if (r->live == 0)
        r->chunks = tt_agent.attached && tt_agent.granule_shift == 5;
    r->maps_most = read_maps_most();
    r->budget_most = r->maps_most / 5;
    if (!r->chunks && r->budget_most > HOLES_MOST)
        r->budget_most = HOLES_MOST;
    r->budget = HOLES_FIRST < r->budget_most ? HOLES_FIRST : r->budget_most;
    tt_agent.thin_floor = 0;
    tt_agent.head->region_base = TT_REGION_BASE;
}

int tt_region_make(void)
{
    if (tt_agent.region) {
        begin(tt_agent.region);
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
    r->half = r->small / 2;
    tt_agent.region = r;
    begin(r);
    return 0;
}

uint64_t tt_region_bytes(void)
{
    return tt_agent.region ? tt_agent.region->bytes : 0;
}

uint64_t tt_region_held(void)
{
    const struct tt_region *r = tt_agent.region;
    return r && !r->chunks ? r->live : 0;
}
