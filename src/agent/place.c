/* SPDX-License-Identifier: Apache-2.0 */
/* Where the stubs that count operations (src/inject/count.c) add for a thread: in its slot of the
 * tape, as long as it runs on the stack that was seen to be its own. The places stand in a mapping
 * that a forked child finds empty, however it was made: until it has a tape of its own it counts as
 * a thread does that has no place. A place is claimed once and for one stack: threads that clone(2)
 * made with one control block for all run on different ones. Start: tt_place_claim. */
#include "agent/live.h"

_Static_assert(offsetof(struct tt_thread, place) == TT_TAPE_STATE_PLACE &&
                   TT_FS_THREAD == TT_TAPE_STATE_WORD && offsetof(struct tt_place, lo) == 0 &&
                   offsetof(struct tt_place, hi) == 8 && offsetof(struct tt_place, slot) == 16 &&
                   (TT_PLACES * (uint64_t)TT_THREAD_BYTES) >> 31 == 0,
               "the stubs of inject/count.c know these");

void tt_place_make(void)
{
    const uint64_t bytes = (TT_PLACES * sizeof(struct tt_place) + 0xfff) & ~0xfffULL;
    struct tt_place *all =
        tt_sys_mmap(NULL, bytes, TT_PROT_RW, TT_MAP_PRIVATE | TT_MAP_ANONYMOUS, -1);
    if (tt_sys_bad(all))
        return;
    if (tt_sys_madvise(all, bytes, TT_MADV_WIPEONFORK) != 0) { /* before Linux 4.14 */
        tt_sys_munmap(all, bytes);
        return;
    }
    tt_agent.places = all;
}

void tt_place_say(void)
{
    uint32_t n = tt_agent.pool_limit < TT_PLACES ? tt_agent.pool_limit : TT_PLACES;
    tt_agent.head->states = tt_agent.places ? (uint64_t)tt_agent.pool : 0;
    tt_agent.head->states_bytes = tt_agent.places ? n * TT_THREAD_BYTES : 0;
}

void tt_place_leave(struct tt_thread *t)
{
    t->place = tt_agent.places && t->index < TT_PLACES ? &tt_agent.places[t->index] : NULL;
    if (t->place)
        __atomic_store_n(&t->place->hi, 0, __ATOMIC_SEQ_CST);
}

/* Whether the range is of one thread's stack and no more: the main thread's, or the one with the
 * control block at its end. A mapping with any number of coroutines' stacks is not. */
static int is_own(const struct tt_thread *t, struct tt_range r)
{
    return r.lo < r.hi && (r.hi == t->tcb || r.hi == tt_agent.main_stack.hi);
}

void tt_place_claim(struct tt_thread *t, struct tt_range r)
{
    struct tt_place *p = t->place;
    uint64_t hi = 0;
    if (!p || !t->slot || !is_own(t, r))
        return;
    /* No stack has an end of 1: nobody counts there meanwhile. */
    if (__atomic_compare_exchange_n(&p->hi, &hi, 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
        p->slot = t->slot;
        p->lo = r.lo;
        __atomic_store_n(&p->hi, r.hi, __ATOMIC_RELEASE);
    } else if (hi == r.hi && r.lo < p->lo) {
        p->lo = r.lo; /* it grew */
    }
}
