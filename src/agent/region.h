/* SPDX-License-Identifier: Apache-2.0 */
/* Seam of region.c: slots for sampled objects. Start: tt_region_take. */
#ifndef TT_AGENT_REGION_H
#define TT_AGENT_REGION_H

#include "agent/agent.h"

#define TT_REGION_SHIFT 36
#define TT_REGION_BASE 0x600000000000ULL
#define TT_REGION_BYTES (1ULL << TT_REGION_SHIFT)

static inline int tt_region_holds(uint64_t address)
{
    return address >> TT_REGION_SHIFT == TT_REGION_BASE >> TT_REGION_SHIFT;
}

/* A slot for `size` bytes at `align` (a power of two), 0 if there is none. *zero: it reads zero. */
TT_HIDDEN uint64_t tt_region_take(struct tt_thread *t, uint64_t size, uint64_t align, int *zero);
/* Gives a slot back that held `size` requested bytes. t NULL: from a handler inside the agent. */
TT_HIDDEN void tt_region_give(struct tt_thread *t, uint64_t at, uint64_t size);
/* Bytes reserved at TT_REGION_BASE, 0 in exact mode. */
TT_HIDDEN uint64_t tt_region_bytes(void);
/* Objects in it. */
TT_HIDDEN uint64_t tt_region_live(void);
/* Bytes of the slot in use that starts at `at`; 0 if none does. */
TT_HIDDEN uint64_t tt_region_slot(uint64_t at);

#endif
