/* SPDX-License-Identifier: Apache-2.0 */
/* Seam of region.c: places for sampled objects. Start: tt_region_take.
 *
 * How a reader outside finds them: their live entries stand in the shadow like all others, in the
 * pieces of the tape (head.regions[]) whose addresses lie in [head.region_base, + TT_REGION_BYTES);
 * size, site and tick are in the entry, the address is exact to a granule. An object has a mapping
 * of its own if exactly one live entry falls into the mapping of /proc/PID/smaps that holds it:
 * then its Referenced says whether it was touched (the agent itself touches an object only at its
 * birth and its release). */
#ifndef TT_AGENT_REGION_H
#define TT_AGENT_REGION_H

#include "agent/agent.h"
#include "agent/arch_x86_64.h"

#define TT_REGION_BASE ((uint64_t)TT_REGION_NUMBER << TT_REGION_SHIFT)
#define TT_REGION_BYTES (1ULL << TT_REGION_SHIFT)

static inline int tt_region_holds(uint64_t address)
{
    return address >> TT_REGION_SHIFT == TT_REGION_BASE >> TT_REGION_SHIFT;
}

#define TT_REGION_ALIGN (1u << 20) /* the largest alignment that is served */

/* A slot for `size` bytes at `align` (a power of two, up to
 * TT_REGION_ALIGN), 0 if there is none. *zero: it reads zero. */
TT_HIDDEN uint64_t tt_region_take(struct tt_thread *t, uint64_t size, uint64_t align, int *zero);
/* Gives a slot back that held `size` requested bytes. t NULL: from a handler inside the agent. */
TT_HIDDEN void tt_region_give(struct tt_thread *t, uint64_t at, uint64_t size);
/* Bytes reserved at TT_REGION_BASE, 0 in exact mode. */
TT_HIDDEN uint64_t tt_region_bytes(void);
/* At the end of a recording: no object comes in any more, and what none lies in is given back.
 * Waits for nobody. Returns what tt_region_held says, at least 1 when it cannot be known just now.
 */
TT_HIDDEN uint64_t tt_region_rest(void);
/* Objects in it that the real allocator cannot release: hooks must stay for them. */
TT_HIDDEN uint64_t tt_region_held(void);
/* Usable bytes of the object at `at`; 0 if none starts there that is ours (an object of an earlier
 * recording that the real allocator can release is its own). */
TT_HIDDEN uint64_t tt_region_slot(uint64_t at);

#endif
