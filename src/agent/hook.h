/* SPDX-License-Identifier: Apache-2.0 */
/* What the hooks of all modes share: entering and leaving the agent, and the meaning of each
 * entry's arguments. `busy` is only set while the agent itself works, not while the real
 * allocator does, so that exceptions and longjmp through the real call need no care.
 * Start: tt_hook_enter. */
#ifndef TT_AGENT_HOOK_H
#define TT_AGENT_HOOK_H

#include "agent/live.h"

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

static inline uint64_t tt_hook_real(uint32_t entry, uint64_t a, uint64_t b, uint64_t c)
{
    return tt_agent.host.real[entry](a, b, c);
}

static inline struct tt_memo *tt_hook_memo(struct tt_thread *t, const uint64_t *slot)
{
    uint64_t h = ((uint64_t)slot >> 3 ^ *slot << 5) * 0x9e3779b97f4a7c15ULL;
    return &t->memo[h >> 59 & (TT_MEMOS - 1)];
}

/* The site of the call whose return address lies at `slot`; the thread is entered. Inline is the
 * case of loops: the whole stack is as it was at the last capture, or as a memo has it (see
 * stack.c). */
static inline uint32_t tt_hook_site(struct tt_thread *t, const uint64_t *slot, uint64_t rbp)
{
    if (TT_LIKELY(t->site != 0)) {
        const struct tt_info *f = &t->info[t->depth - 1];
        if (f->slot == (uint64_t)slot && f->ra == *slot && (!f->need || f->rbp == rbp)) {
            const struct tt_check *c = &t->check[f->checks - 1];
            while (*(const volatile uint64_t *)c->slot == c->word)
                c--;
            if (TT_LIKELY(c == &t->never))
                return t->site;
        }
    }
    struct tt_memo *m = tt_hook_memo(t, slot);
    if (m->slot == (uint64_t)slot && m->ra == *slot && (!m->need || m->rbp == rbp) &&
        m->generation == tt_agent.generation) {
        const struct tt_check *c = &m->check[m->count];
        while (*(const volatile uint64_t *)c->slot == c->word)
            c--;
        if (TT_LIKELY(c == m->check))
            return m->site;
    }
    return tt_stack_site(t, slot, rbp, m);
}

/* Requested bytes of an acquiring entry (not realloc). An overflowing calloc fails anyway. */
static inline uint64_t tt_hook_size(uint32_t entry, uint64_t a, uint64_t b, uint64_t c)
{
    switch (entry) {
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
    if (TT_UNLIKELY(floor != 0) && tt_hook_size(entry, a, b, c) < floor) {
        if (entry == TT_E_CALLOC && (a == 0 || b == 0 || a * b / a == b)) {
            a = 1;
            b = floor;
        } else if (entry == TT_E_MEMALIGN) {
            b = floor;
        } else if (entry == TT_E_ALIGNED_ALLOC) {
            b = b == 0 || a > floor ? b : floor; /* the size must stay a multiple of alignment */
        } else if (entry == TT_E_POSIX_MEMALIGN) {
            c = floor;
        } else if (entry != TT_E_CALLOC) {
            a = floor;
        }
    }
    *result = tt_hook_real(entry, a, b, c);
    if (entry == TT_E_POSIX_MEMALIGN)
        return (int)*result == 0 ? *(const uint64_t *)a : 0;
    return *result;
}

#endif
