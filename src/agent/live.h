/* SPDX-License-Identifier: Apache-2.0 */
/* The live table on the hot path: shadow entries and the per-thread tallies. An entry is stored
 * after the block is acquired and cleared before it is released; in between the allocator
 * guarantees that nobody else owns the granule, so plain loads and stores suffice. Rare parts
 * are in live.c. Start: tt_live_birth and tt_live_death. */
#ifndef TT_AGENT_LIVE_H
#define TT_AGENT_LIVE_H

#include "agent/agent.h"

/* What tt_agent.l1 holds for a piece of the address space whose shadow begins at `shadow`: where
 * that of address 0 would begin, plus 1, so that it is never 0. */
static inline uint64_t tt_live_piece(const uint8_t *shadow, uint64_t piece, uint32_t shift)
{
    return (uint64_t)shadow - (piece << (TT_TAPE_REGION_SHIFT - shift) << 3) + 1;
}

/* 1, and where the entry of the block at `address` lies; 0 if no region of the shadow covers it.
 * With a constant `shift` it is shorter. */
static inline __attribute__((always_inline)) int tt_live_at(uint64_t address, uint32_t shift,
                                                            uint64_t **at)
{
    uint64_t piece = address >> TT_TAPE_REGION_SHIFT;
    if (TT_UNLIKELY(piece >= TT_TAPE_L1))
        return 0;
    uint64_t shadow = __atomic_load_n(&tt_agent.l1[piece], __ATOMIC_ACQUIRE);
    *at = (uint64_t *)(shadow + ((address >> shift) << 3) - 1);
    return shadow != 0;
}

static inline uint64_t *tt_live_find(uint64_t address)
{
    uint64_t *at;
    return tt_live_at(address, tt_agent.granule_shift, &at) ? at : NULL;
}

/* NOLINTNEXTLINE(readability-non-const-parameter): the atomic builtin writes it */
static inline void tt_live_add(uint64_t *counter, uint64_t n)
{
    __atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

/* The sizes that a tally has seen, packed as smallest | (largest - smallest) << 16; sizes that do
 * not fit it go to the site each time. Returns the span widened to `size`. */
#define TT_LIVE_NO_SPAN 0xffffu
static inline uint32_t tt_live_span(uint32_t span, uint32_t site, uint64_t size)
{
    tt_live_sizes(site, size);
    if (size >= 0x8000)
        return span;
    uint32_t lo = span & 0xffff, hi = span == TT_LIVE_NO_SPAN ? 0 : lo + (span >> 16);
    lo = size < lo ? (uint32_t)size : lo;
    hi = size > hi ? (uint32_t)size : hi;
    return lo | (hi - lo) << 16;
}

/* The place of a site among the thread's tallies; t->slot is not NULL. Scaling a byte takes half of
 * the instructions of a remainder. */
static inline struct tt_tape_tally *tt_live_tally(const struct tt_thread *t, uint32_t site)
{
    return &t->slot->tally[(site & 0xff) * TT_TAPE_TALLIES >> 8];
}

/* Counts a birth on the thread's tally, or on the site when the thread has no slot (t->slot) or
 * is inside the agent (t == NULL). */
static inline __attribute__((always_inline)) void tt_live_count_birth(struct tt_thread *t,
                                                                      uint32_t site, uint64_t size)
{
    if (TT_LIKELY(t != NULL && t->slot != NULL && site != 0)) {
        struct tt_tape_tally *tally = tt_live_tally(t, site);
        if (TT_UNLIKELY(tally->site != site))
            tt_thread_tally(t, tally, site);
        tally->births++;
        tally->birth_bytes += size;
        if (TT_UNLIKELY(size - (tally->last_size & 0xffff) > tally->last_size >> 16))
            tally->last_size = tt_live_span(tally->last_size, site, size);
        return;
    }
    struct tt_tape_site *s = &tt_agent.sites[site];
    tt_live_add(&s->births, 1);
    tt_live_add(&s->birth_bytes, size);
    tt_live_sizes(site, size);
}

/* Follows a new block. `t` NULL: from a hook inside the agent; then no lock is taken. */
static inline __attribute__((always_inline)) void
tt_live_birth(struct tt_thread *t, uint64_t address, uint64_t size, uint32_t site)
{
    uint64_t *at = tt_live_find(address);
    if (TT_UNLIKELY(at == NULL)) {
        at = t ? tt_live_open(t, address) : NULL;
        if (at == NULL) {
            tt_agent_drop(TT_DROP_REGIONS);
            return;
        }
    }
    uint64_t entry = tt_tape_entry(site, size, tt_agent_tick());
    if (TT_UNLIKELY(size >= TT_TAPE_SIZE_BIG))
        tt_live_big_add(address, size);
    if (TT_UNLIKELY(entry == 0))
        entry = tt_tape_entry(0, 1, 0);
    tt_live_count_birth(t, site, size);
    __atomic_store_n(at, entry, __ATOMIC_RELEASE);
}

/* Early deaths are sampled for their releasing stack once in this many per thread. */
#define TT_EARLY_SKIP 4096u

/* Takes the block out of the live table and returns its entry, 0 if it was not followed. */
static inline uint64_t tt_live_take(uint64_t address)
{
    uint64_t *at = tt_live_find(address);
    if (TT_UNLIKELY(at == NULL))
        return 0;
    uint64_t entry = __atomic_load_n(at, __ATOMIC_RELAXED);
    if (TT_LIKELY(entry != 0))
        __atomic_store_n(at, 0, __ATOMIC_RELAXED);
    return entry;
}

/* Counts the death of a block with this entry. Returns the weight of the release sample that is
 * due (pass it to tt_live_release), 0 mostly. */
static inline __attribute__((always_inline)) uint32_t
tt_live_count_death(struct tt_thread *t, uint64_t entry, uint64_t size)
{
    uint32_t site = tt_tape_entry_site(entry);
    uint32_t now = tt_agent_tick() & TT_TAPE_TICK_MAX, born = tt_tape_entry_tick(entry);
    struct tt_tape_site *s = &tt_agent.sites[site];
    uint32_t age = now > born ? now - born : 0;
    if (TT_LIKELY(age < 2)) {
        if (TT_LIKELY(t != NULL && t->slot != NULL && site != 0)) {
            struct tt_tape_tally *tally = tt_live_tally(t, site);
            if (TT_LIKELY(tally->site == site)) {
                uint32_t before = tally->early_deaths;
                tally->early_deaths = before + 1;
                tally->death_bytes += size;
                if (TT_UNLIKELY(--t->early_left == 0)) {
                    t->early_left = TT_EARLY_SKIP;
                    return TT_EARLY_SKIP;
                }
                return before == 0 && s->release_skip < 8;
            }
        }
        tt_live_add(&s->early_deaths, 1);
        tt_live_add(&s->death_bytes, size);
        return 0;
    }
    __atomic_fetch_add(&s->deaths[tt_tape_bin(age)], 1, __ATOMIC_RELAXED);
    tt_live_add(&s->death_bytes, size);
    /* The first 8 releases, then one in 64, from 512 on one in 4096. */
    uint32_t n = __atomic_add_fetch(&s->release_skip, 1, __ATOMIC_RELAXED);
    if (n <= 8)
        return t != NULL;
    if (n < 512)
        return t != NULL && n % 64 == 0 ? 64 : 0;
    return t != NULL && n % 4096 == 0 ? 4096 : 0;
}

static inline uint64_t tt_live_size(uint64_t address, uint64_t entry, int forget)
{
    uint64_t size = tt_tape_entry_size(entry);
    return TT_UNLIKELY(size == TT_TAPE_SIZE_BIG) ? tt_live_big_take(address, forget) : size;
}

#endif
