/* SPDX-License-Identifier: Apache-2.0 */
/* What the hooks of all modes share: entering and leaving the agent, and the meaning of each
 * entry's arguments. `busy` is only set while the agent itself works, not while the real
 * allocator does, so that exceptions and longjmp through the real call need no care.
 * Start: tt_hook_enter. */
#ifndef TT_AGENT_HOOK_H
#define TT_AGENT_HOOK_H

#include "agent/live.h"

/* Where malloc and free go on from their first instruction (entry_x86_64.S): to a short way of the
 * mode, or to tt_long_*, which hand over to tt_agent.entry[] like all other stubs. */
extern tt_hook_fn *tt_hook_way[TT_E_FREE + 1] TT_HIDDEN;
TT_HIDDEN tt_hook_fn tt_long_malloc, tt_long_free;

/* Leads an entry to `hook`. `way`: for malloc and free, what does the same in fewer instructions;
 * it gets the call's own arguments only. NULL: the long way. hook_exact.c */
TT_HIDDEN void tt_hook_point(uint32_t entry, tt_hook_fn *hook, tt_hook_fn *way);

/* 1: the thread's state is ours until tt_hook_leave; 0: this is a signal handler that interrupted
 * the agent, or there is no state: take no lock and touch no state. */
static inline int tt_hook_enter(struct tt_thread *t, const uint64_t *slot)
{
    if (TT_UNLIKELY(t == NULL))
        return 0;
    if (TT_UNLIKELY(t->busy != 0) && tt_thread_nested(t, (uint64_t)slot))
        return 0;
    t->busy = (uint64_t)slot;
    __asm__ volatile("" : : : "memory");
    return 1;
}

static inline void tt_hook_leave(struct tt_thread *t)
{
    __asm__ volatile("" : : : "memory");
    t->busy = 0;
}

/* For an argument that the called function does not have. */
static inline uint64_t tt_hook_none(void)
{
    uint64_t any;
    __asm__ volatile("" : "=r"(any)); /* volatile: not the same register for two */
    return any;
}

static inline uint64_t tt_hook_real(uint32_t entry, uint64_t a, uint64_t b, uint64_t c)
{
    return tt_agent.host.real[entry](a, b, c);
}

static inline struct tt_memo *tt_hook_memo(struct tt_thread *t, const uint64_t *slot)
{
    uint32_t h = (uint32_t)(*slot + 2 * (uint64_t)slot) * 0x9e3779b1u;
    struct tt_memo *m = &t->memo[h >> 27 & (TT_MEMOS - 1)];
    __asm__("" : "+r"(m)); /* or the sum is made anew for each field */
    return m;
}

/* The place of the memo of a call that acquires a unit of `kind`, not HEAP. */
static inline struct tt_memo *tt_hook_watch_memo(struct tt_thread *t, const uint64_t *slot,
                                                 uint32_t kind)
{
    uint32_t h = (uint32_t)(*slot + 2 * (uint64_t)slot + kind) * 0x9e3779b1u;
    return &t->memo[TT_MEMOS + (h >> 29 & (TT_WATCH_MEMOS - 1))];
}

/* Whether the whole stack is the one of the memo: every word that its unwinding read is compared,
 * inner to outer. Stops at the first difference, since each address is only known to be readable by
 * the words before it (see stack.c); the last word never holds. */
static inline __attribute__((always_inline)) int tt_hook_holds(const struct tt_memo *m,
                                                               const uint64_t *slot, uint64_t rbp)
{
    if (TT_UNLIKELY(m->slot != (uint64_t)slot) ||
        TT_UNLIKELY(m->generation != tt_agent.generation) || (m->need && m->rbp != rbp))
        return 0;
    const uint8_t *base = (const uint8_t *)slot;
    const uint64_t *word;
    for (const struct tt_memo_pair *p = m->pair;; p += 2) {
        uint64_t at = p[0].at, next = p[1].at;
        word = &p[0].word[0];
        if (*(const uint64_t *)(base + (uint32_t)at) != *word)
            break;
        word = &p[0].word[1];
        if (*(const uint64_t *)(base + (at >> 32)) != *word)
            break;
        word = &p[1].word[0];
        if (*(const uint64_t *)(base + (uint32_t)next) != *word)
            break;
        word = &p[1].word[1];
        if (*(const uint64_t *)(base + (next >> 32)) != *word)
            break;
    }
    return word == m->end;
}

/* The site of the call whose return address lies at `slot`; the thread is entered. */
static inline uint32_t tt_hook_site(struct tt_thread *t, const uint64_t *slot, uint64_t rbp)
{
    struct tt_memo *m = tt_hook_memo(t, slot);
    return TT_LIKELY(tt_hook_holds(m, slot, rbp)) ? m->site : tt_stack_site(t, slot, rbp, m);
}

/* What the entry is within its set of definitions (blob.h), TT_E_*. */
static inline uint32_t tt_hook_kind(uint32_t entry)
{
    return TT_LIKELY(entry < TT_E_COUNT) ? entry : entry % TT_E_COUNT;
}

/* The number of entry `kind` in the set of `entry`. */
static inline uint32_t tt_hook_beside(uint32_t entry, uint32_t kind)
{
    return TT_LIKELY(entry < TT_E_COUNT) ? kind : entry - entry % TT_E_COUNT + kind;
}

/* Requested bytes of an acquiring entry (not realloc). An overflowing calloc fails anyway. */
static inline uint64_t tt_hook_size(uint32_t entry, uint64_t a, uint64_t b, uint64_t c)
{
    switch (tt_hook_kind(entry)) {
    case TT_E_CALLOC:
        return a * b;
    case TT_E_MEMALIGN:
    case TT_E_ALIGNED_ALLOC:
        return b;
    case TT_E_POSIX_MEMALIGN:
        return c;
    default:
        return a;
    }
}

/* Calls the real acquiring entry, with the size floor of allocators that have 8-byte classes.
 * Returns the new block, 0 on failure; *result is what the caller gets. */
static inline uint64_t tt_hook_acquire(uint32_t entry, uint64_t a, uint64_t b, uint64_t c,
                                       uint64_t *result)
{
    uint64_t floor = tt_agent.host.size_floor;
    uint32_t kind = tt_hook_kind(entry);
    if (TT_UNLIKELY(floor != 0) && tt_hook_size(entry, a, b, c) < floor) {
        if (kind == TT_E_CALLOC && (a == 0 || b == 0 || a * b / a == b)) {
            a = 1;
            b = floor;
        } else if (kind == TT_E_MEMALIGN) {
            b = floor;
        } else if (kind == TT_E_ALIGNED_ALLOC) {
            b = b == 0 || a > floor ? b : floor; /* the size must stay a multiple of alignment */
        } else if (kind == TT_E_POSIX_MEMALIGN) {
            c = floor;
        } else if (kind != TT_E_CALLOC) {
            a = floor;
        }
    }
    *result = tt_hook_real(entry, a, b, c);
    if (kind == TT_E_POSIX_MEMALIGN)
        return (int)*result == 0 ? *(const uint64_t *)a : 0;
    return *result;
}

#endif
