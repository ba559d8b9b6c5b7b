/* SPDX-License-Identifier: Apache-2.0 */
/* Adaptive mode: which births are taken. A cheap key (return address, size class, stack depth)
 * needs no unwinding; per thread and key a geometric number of births passes between two taken
 * ones. Start: tt_adapt_passes (hot), tt_adapt_decide. */
#ifndef TT_AGENT_ADAPT_H
#define TT_AGENT_ADAPT_H

#include "agent/agent.h"

#define TT_ADAPT_EPOCH 6 /* log2 ticks after which a gap is drawn anew: 8 s */

static inline uint16_t tt_adapt_epoch(void)
{
    return (uint16_t)(tt_agent_tick() >> TT_ADAPT_EPOCH);
}

/* The key within a thread: stacks differ between threads, so the slot stands for the depth. */
static inline uint64_t tt_adapt_key(const uint64_t *slot, uint64_t size)
{
    uint64_t class = 63u - (uint32_t)__builtin_clzl(size | 1);
    return (*slot + ((uint64_t)slot << 19) + (class << 57)) * 0x9e3779b97f4a7c15ULL;
}

/* 1: this birth passes. 0: it may be taken, ask tt_adapt_decide. */
static inline int tt_adapt_passes(struct tt_thread *t, uint64_t key)
{
    struct tt_key *k = &t->key[key >> 56];
    if (TT_LIKELY(k->key == key && k->skip != 0 && k->epoch == tt_adapt_epoch())) {
        k->skip--;
        return 1;
    }
    return 0;
}

/* Decides on a birth: its thin if taken, else -1. The thread is entered. */
TT_HIDDEN int32_t tt_adapt_decide(struct tt_thread *t, const uint64_t *slot, uint64_t size);

#endif
