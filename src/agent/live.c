/* SPDX-License-Identifier: Apache-2.0 */
/* The rare parts of the live table: opening a shadow region, the table of big blocks, extreme
 * sizes, and sampled releases. Start: tt_live_open. */
#include "agent/live.h"

#define BIG_PROBES 512u
#define EXPECT_MOST 128u /* regions */

static uint64_t region_bytes(void)
{
    return TT_TAPE_REGION_BYTES(tt_agent.granule_shift);
}

/* Gives the next region of the shadow, which is readable and writable, to a piece of the address
 * space; shadow_lock held. */
static void give_region(uint64_t piece)
{
    uint32_t region = tt_agent.head->region_count;
    tt_agent.head->regions[region] = (uint32_t)piece;
    __atomic_store_n(&tt_agent.head->region_count, region + 1, __ATOMIC_RELEASE);
    __atomic_store_n(
        &tt_agent.l1[piece],
        tt_live_piece(tt_agent.shadow + region * region_bytes(), piece, tt_agent.granule_shift),
        __ATOMIC_RELEASE);
}

uint64_t *tt_live_open(struct tt_thread *t, uint64_t address)
{
    uint64_t piece = address >> TT_TAPE_REGION_SHIFT;
    if (piece >= TT_TAPE_L1)
        return NULL;
    tt_agent_look();
    if (!tt_lock_take(&tt_agent.shadow_lock, t->index + 1))
        return NULL;
    uint32_t region = tt_agent.head->region_count;
    if (tt_agent.l1[piece] == 0 && region < tt_agent.region_limit &&
        tt_sys_mprotect(tt_agent.shadow + region * region_bytes(), region_bytes(), TT_PROT_RW) == 0)
        give_region(piece);
    tt_lock_give(&tt_agent.shadow_lock, t->index + 1);
    return tt_live_find(address);
}

/* Whether blocks may lie in mapping i. A thread's stack stands above its guard; so does the heap of
 * an arena above the rest of another one, but at a multiple of its size (glibc, HEAP_MAX_SIZE). */
static int may_hold_blocks(const struct tt_map *map, uint32_t i)
{
    const struct tt_map *m = &map[i];
    if (m->file || m->is != (TT_IS_READ | TT_IS_WRITE))
        return 0;
    return i == 0 || m[-1].hi != m->lo || m[-1].is & TT_IS_READ ||
           m->lo % (1ULL << TT_TAPE_REGION_SHIFT) == 0;
}

void tt_live_expect(void)
{
    uint32_t piece[EXPECT_MOST], count = 0;
    const struct tt_maps *list = tt_agent.maps;
    uint32_t most =
        tt_agent.region_limit / 4 < EXPECT_MOST ? tt_agent.region_limit / 4 : EXPECT_MOST;
    uint64_t next = 0;
    for (uint32_t i = 0; list && i < list->count; i++) {
        const struct tt_map *m = &list->map[i];
        if (!may_hold_blocks(list->map, i))
            continue;
        uint64_t at = m->lo >> TT_TAPE_REGION_SHIFT;
        for (at = at < next ? next : at;
             at < TT_TAPE_L1 && at <= (m->hi - 1) >> TT_TAPE_REGION_SHIFT && count < most; at++) {
            piece[count++] = (uint32_t)at;
            next = at + 1;
        }
    }
    if (tt_sys_mprotect(tt_agent.shadow, count * region_bytes(), TT_PROT_RW) != 0)
        return;
    for (uint32_t i = 0; i < count; i++)
        give_region(piece[i]);
}

static struct tt_tape_big *big_place(uint64_t address, uint32_t probe)
{
    struct tt_tape_big *big = (struct tt_tape_big *)(tt_agent.base + TT_TAPE_OFF_BIG);
    uint64_t at = (address >> 4) * 0x9e3779b97f4a7c15ULL >> 48;
    return &big[(at + probe) % TT_TAPE_BIG];
}

void tt_live_big_add(uint64_t address, uint64_t size)
{
    for (uint32_t i = 0; i < BIG_PROBES; i++) {
        struct tt_tape_big *b = big_place(address, i);
        uint64_t seen = __atomic_load_n(&b->address, __ATOMIC_RELAXED);
        if (seen > 1)
            continue;
        if (__atomic_compare_exchange_n(&b->address, &seen, address, 0, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED)) {
            __atomic_store_n(&b->size, size, __ATOMIC_RELEASE);
            if (seen == 0)
                __atomic_fetch_add(&tt_agent.head->big_count, 1, __ATOMIC_RELAXED);
            return;
        }
    }
    tt_agent_drop(TT_DROP_BIG);
}

uint64_t tt_live_big_take(uint64_t address, int forget)
{
    for (uint32_t i = 0; i < BIG_PROBES; i++) {
        struct tt_tape_big *b = big_place(address, i);
        uint64_t seen = __atomic_load_n(&b->address, __ATOMIC_RELAXED);
        if (seen == 0)
            break;
        if (seen == address) {
            uint64_t size = b->size;
            if (forget)
                __atomic_store_n(&b->address, 1, __ATOMIC_RELEASE);
            return size;
        }
    }
    return TT_TAPE_SIZE_BIG;
}

void tt_live_sizes(uint32_t site, uint64_t size)
{
    struct tt_tape_site *s = &tt_agent.sites[site];
    uint32_t v = size > 0xfffffffeu ? 0xfffffffeu : (uint32_t)size;
    uint32_t seen = __atomic_load_n(&s->size_min, __ATOMIC_RELAXED);
    while (v < seen && !__atomic_compare_exchange_n(&s->size_min, &seen, v, 1, __ATOMIC_RELAXED,
                                                    __ATOMIC_RELAXED))
        ;
    seen = __atomic_load_n(&s->size_max, __ATOMIC_RELAXED);
    while (v > seen && !__atomic_compare_exchange_n(&s->size_max, &seen, v, 1, __ATOMIC_RELAXED,
                                                    __ATOMIC_RELAXED))
        ;
}

void tt_live_release(struct tt_thread *t, uint64_t entry, uint64_t size, uint32_t weight,
                     const uint64_t *slot, uint64_t rbp)
{
    struct tt_tape_head *head = tt_agent.head;
    uint32_t born = tt_tape_entry_tick(entry), site = tt_tape_entry_site(entry);
    uint32_t now = tt_agent_tick() & TT_TAPE_TICK_MAX;
    tt_agent_look();
    if (now - born < 2 && weight == 1) /* tt_live_count_death only read this one */
        __atomic_fetch_add(&tt_agent.sites[site].release_skip, 1, __ATOMIC_RELAXED);
    uint32_t at = __atomic_load_n(&head->ring_head, __ATOMIC_RELAXED);
    do {
        if (at - __atomic_load_n(&head->ring_tail, __ATOMIC_ACQUIRE) >= TT_TAPE_RING) {
            tt_agent_drop(TT_DROP_RING);
            return;
        }
    } while (!__atomic_compare_exchange_n(&head->ring_head, &at, at + 1, 1, __ATOMIC_ACQ_REL,
                                          __ATOMIC_RELAXED));
    uint64_t hash = tt_stack_capture(t, slot, rbp);
    uint32_t by = tt_site_of(t, hash, 0, TT_SITE_RELEASE);
    struct tt_tape_release *ring = (struct tt_tape_release *)(tt_agent.base + TT_TAPE_OFF_RING);
    struct tt_tape_release *r = &ring[at % TT_TAPE_RING];
    r->site = site;
    r->by = by;
    r->age = now > born ? now - born : 0;
    r->tick = now;
    r->weight = weight;
    r->size = size;
    __atomic_store_n(&r->ready, at + 1, __ATOMIC_RELEASE);
}
