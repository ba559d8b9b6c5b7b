/* SPDX-License-Identifier: Apache-2.0 */
/* The hooks of exact mode: every block with its full stack. An acquisition captures the stack,
 * calls the real allocator and stores the shadow entry; a release clears the entry, counts it and
 * calls the real one. realloc is a death and a birth; the entry is taken out before the call,
 * since afterwards another thread may own the old address. Start: exact_malloc. */
#include "agent/hook.h"

uint64_t tt_hook_wiped(uint64_t a, uint64_t b, uint64_t c, const uint64_t *slot, uint64_t rbp,
                       uint32_t entry)
{
    tt_agent_forked();
    tt_hook_fn *hook = tt_agent.entry[entry];
    if (tt_agent_recording() || __atomic_load_n(tt_agent.alive, __ATOMIC_RELAXED) == 3)
        return hook(a, b, c, slot, rbp, entry);
    return tt_hook_real(entry, a, b, c); /* settling right now, below us on this stack */
}

/* One body for all acquisitions; inlined with a constant entry where it is hot. */
static inline __attribute__((always_inline)) uint64_t
acquire(uint64_t a, uint64_t b, uint64_t c, const uint64_t *slot, uint64_t rbp, uint32_t entry)
{
    if (TT_UNLIKELY(!tt_agent_recording()))
        return tt_hook_wiped(a, b, c, slot, rbp, entry);
    struct tt_thread *t = tt_thread_get();
    uint64_t result, size = tt_hook_size(entry, a, b, c);
    uint32_t site = 0;
    if (TT_LIKELY(tt_hook_enter(t, slot))) {
        site = tt_hook_site(t, slot, rbp);
        tt_hook_leave(t);
    } else {
        tt_agent_drop(TT_DROP_NESTED);
        t = NULL;
    }
    uint64_t block = tt_hook_acquire(entry, a, b, c, &result);
    if (entry >= TT_E_NEW && block != 0) {
        /* The allocator's operator new may call its own aligned_alloc through the PLT, which is
         * hooked and followed the block already. */
        const uint64_t *at = tt_live_find(block);
        if (at && *at != 0)
            return result;
    }
    if (TT_LIKELY(block != 0)) {
        if (TT_LIKELY(t != NULL)) {
            t->busy = (uint64_t)slot;
            __asm__ volatile("" : : : "memory");
            tt_live_birth(t, block, size, site);
            tt_hook_leave(t);
        } else {
            tt_live_birth(NULL, block, size, site);
        }
    }
    return result;
}

static uint64_t exact_malloc(uint64_t a, uint64_t b, uint64_t c, const uint64_t *slot, uint64_t rbp,
                             uint32_t entry)
{
    (void)entry;
    return acquire(a, b, c, slot, rbp, TT_E_MALLOC);
}

static uint64_t exact_acquire(uint64_t a, uint64_t b, uint64_t c, const uint64_t *slot,
                              uint64_t rbp, uint32_t entry)
{
    return acquire(a, b, c, slot, rbp, entry);
}

/* A death: counted, its releasing stack sampled. t NULL: nested. */
static inline void died(struct tt_thread *t, uint64_t entry, uint64_t size, const uint64_t *slot,
                        uint64_t rbp)
{
    uint32_t weight = tt_live_count_death(t, entry, size);
    if (TT_UNLIKELY(weight != 0))
        tt_live_release(t, entry, size, weight, slot, rbp);
}

static void foreign(struct tt_thread *t)
{
    if (t && t->inner)
        return;
    if (t && t->slot)
        t->slot->foreign_frees++;
    else
        tt_agent_drop(TT_DROP_FOREIGN_FREE);
}

static inline __attribute__((always_inline)) uint64_t
release(uint64_t a, uint64_t b, uint64_t c, const uint64_t *slot, uint64_t rbp, uint32_t entry)
{
    if (TT_UNLIKELY(a == 0))
        return tt_hook_real(entry, a, b, c);
    if (TT_UNLIKELY(!tt_agent_recording()))
        return tt_hook_wiped(a, b, c, slot, rbp, entry);
    /* The real free reads the block's header: its miss and the shadow's can be waited for together.
     */
    __builtin_prefetch((const void *)(a - 8), 1);
    struct tt_thread *t = tt_thread_get();
    int entered = tt_hook_enter(t, slot);
    if (TT_UNLIKELY(!entered))
        t = NULL;
    uint64_t e = tt_live_take(a);
    if (TT_LIKELY(e != 0))
        died(t, e, tt_live_size(a, e, 1), slot, rbp);
    else
        foreign(t);
    if (TT_LIKELY(entered))
        tt_hook_leave(t);
    if (entry < TT_E_DELETE || !entered)
        return tt_hook_real(entry, a, b, c);
    t->inner = 1;
    tt_hook_real(entry, a, b, c);
    t->inner = 0;
    return 0;
}

static uint64_t exact_free(uint64_t a, uint64_t b, uint64_t c, const uint64_t *slot, uint64_t rbp,
                           uint32_t entry)
{
    (void)entry;
    return release(a, b, c, slot, rbp, TT_E_FREE);
}

static uint64_t exact_release(uint64_t a, uint64_t b, uint64_t c, const uint64_t *slot,
                              uint64_t rbp, uint32_t entry)
{
    return release(a, b, c, slot, rbp, entry);
}

static uint64_t exact_realloc(uint64_t a, uint64_t b, uint64_t c, const uint64_t *slot,
                              uint64_t rbp, uint32_t entry)
{
    if (TT_UNLIKELY(!tt_agent_recording()))
        return tt_hook_wiped(a, b, c, slot, rbp, entry);
    struct tt_thread *t = tt_thread_get();
    uint64_t e = 0, old = 0, asked = b;
    uint32_t site = 0;
    if (TT_UNLIKELY(!tt_hook_enter(t, slot))) {
        tt_agent_drop(TT_DROP_NESTED);
        t = NULL;
    }
    if (t)
        site = tt_hook_site(t, slot, rbp);
    if (a != 0 && (e = tt_live_take(a)) != 0)
        old = tt_live_size(a, e, 1);
    if (t)
        tt_hook_leave(t);
    if (b < tt_agent.host.size_floor && (b != 0 || a == 0))
        b = tt_agent.host.size_floor;
    uint64_t block = tt_hook_real(TT_E_REALLOC, a, b, c);
    if (t)
        t->busy = (uint64_t)slot;
    __asm__ volatile("" : : : "memory");
    if (block == 0 && b != 0) { /* failed: the old block lives on */
        if (e != 0) {
            *tt_live_find(a) = e;
            if (tt_tape_entry_size(e) == TT_TAPE_SIZE_BIG)
                tt_live_big_add(a, old);
        }
    } else {
        if (e != 0)
            died(t, e, old, slot, rbp);
        else if (a != 0)
            foreign(t);
        if (block != 0)
            tt_live_birth(t, block, asked, site);
    }
    if (t)
        tt_hook_leave(t);
    return block;
}

/* glibc's reallocarray calls realloc through the PLT, which would be our hook again. */
static uint64_t exact_reallocarray(uint64_t a, uint64_t b, uint64_t c, const uint64_t *slot,
                                   uint64_t rbp, uint32_t entry)
{
    uint64_t bytes;
    if (__builtin_mul_overflow(b, c, &bytes))
        return tt_hook_real(entry, a, b, c); /* sets errno and fails */
    return exact_realloc(a, bytes, 0, slot, rbp, TT_E_REALLOC);
}

/* The stubs leave the call's own arguments where they are and add theirs in registers that a callee
 * may use freely, so that an entry may lead straight to the real function. */
static tt_hook_fn *straight(uint32_t entry)
{
    union {
        tt_real_fn *real;
        tt_hook_fn *hook;
    } to = {tt_agent.host.real[entry]};
    return to.hook;
}

void tt_hook_pass(void)
{
    for (uint32_t e = 0; e < TT_E_COUNT; e++)
        __atomic_store_n(&tt_agent.entry[e], straight(e), __ATOMIC_RELEASE);
}

void tt_hook_exact(void)
{
    for (uint32_t e = 0; e < TT_E_COUNT; e++) {
        tt_hook_fn *hook = e >= TT_E_DELETE || e == TT_E_CFREE || e == TT_E_FREE_SIZED ||
                                   e == TT_E_FREE_ALIGNED_SIZED
                               ? exact_release
                               : exact_acquire;
        if (e == TT_E_MALLOC)
            hook = exact_malloc;
        else if (e == TT_E_FREE)
            hook = exact_free;
        else if (e == TT_E_REALLOC)
            hook = exact_realloc;
        else if (e == TT_E_REALLOCARRAY)
            hook = exact_reallocarray;
        else if (e == TT_E_USABLE_SIZE)
            hook = straight(e);
        __atomic_store_n(&tt_agent.entry[e], hook, __ATOMIC_RELEASE);
    }
}
