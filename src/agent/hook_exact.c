/* SPDX-License-Identifier: Apache-2.0 */
/* The hooks of exact mode: every block with its full stack. An acquisition captures the stack,
 * calls the real allocator and stores the shadow entry; a release clears the entry, counts it and
 * calls the real one. realloc is a death and a birth; the entry is taken out before the call,
 * since afterwards another thread may own the old address. Start: quick and exact_acquire. */
#include "agent/hook.h"

#define GLIBC_SHIFT 5u /* its blocks are 32 bytes apart at least */

uint64_t tt_hook_wiped(uint64_t a, uint64_t b, uint64_t c, const uint64_t *slot, uint64_t rbp,
                       uint32_t entry)
{
    tt_agent_forked();
    tt_hook_fn *hook = tt_agent.entry[entry];
    if (tt_agent_recording() || __atomic_load_n(tt_agent.alive, __ATOMIC_RELAXED) == 3)
        return hook(a, b, c, slot, rbp, entry);
    return tt_hook_real(entry, a, b, c); /* settling right now, below us on this stack */
}

/* A new block, in any case. */
static __attribute__((noinline)) uint64_t follow(uint64_t block, uint64_t size,
                                                 const uint64_t *slot, uint64_t rbp)
{
    if (TT_UNLIKELY(!tt_agent_recording())) {
        tt_agent_forked();
        if (!tt_agent_recording())
            return block;
    }
    if (TT_UNLIKELY(tt_agent.conf.mode != TT_MODE_EXACT)) /* attached anew while it was made */
        return block;
    struct tt_thread *t = tt_thread_get();
    if (TT_LIKELY(tt_hook_enter(t, slot))) {
        tt_live_birth(t, block, size, tt_hook_site(t, slot, rbp));
        tt_hook_leave(t);
    } else {
        tt_agent_drop(TT_DROP_NESTED);
        tt_live_birth(NULL, block, size, 0);
    }
    return block;
}

/* Any acquisition, in any case. */
static uint64_t exact_acquire(uint64_t a, uint64_t b, uint64_t c, const uint64_t *slot,
                              uint64_t rbp, uint32_t entry)
{
    if (TT_UNLIKELY(!tt_agent_recording()))
        return tt_hook_wiped(a, b, c, slot, rbp, entry);
    uint64_t result, block = tt_hook_acquire(entry, a, b, c, &result);
    if (entry >= TT_E_MEMALIGN && block != 0) {
        /* The allocator's operator new may call its own aligned_alloc through the PLT, which is
         * hooked and followed the block already; patched entries see inner calls of every kind. */
        const uint64_t *at = tt_live_find(block);
        if (at && *at != 0)
            return result;
    }
    if (TT_LIKELY(block != 0))
        follow(block, tt_hook_size(entry, a, b, c), slot, rbp);
    return result;
}

/* A birth that found its tally taken by another site, a size not seen yet, or no shadow. */
static __attribute__((noinline)) uint64_t late_birth(struct tt_thread *t, uint64_t block,
                                                     uint64_t size, uint32_t site)
{
    tt_live_birth(t, block, size, site);
    tt_hook_leave(t);
    return block;
}

/* The common acquisition in few instructions: a stack that a memo knows, a site on its tally.
 * Whatever else is the case ends in follow or late_birth. The allocator comes first: the stack is
 * the same afterwards, and comparing it fills the time in which the allocator's cache misses are
 * waited for. `glibc` is constant: its granule is known, and it has no small classes. */
static inline __attribute__((always_inline)) uint64_t
quick(uint64_t a, uint64_t b, const uint64_t *slot, uint64_t rbp, uint32_t entry, int glibc)
{
    uint64_t block, size = tt_hook_size(entry, a, b, 0);
    if (glibc)
        block = tt_hook_real(entry, a, entry == TT_E_CALLOC ? b : tt_hook_none(), tt_hook_none());
    else
        tt_hook_acquire(entry, a, b, 0, &block);
    if (TT_UNLIKELY(block == 0))
        return 0;
    struct tt_thread *t = tt_arch_thread_again();
    if (TT_UNLIKELY(!tt_agent_recording()) || TT_UNLIKELY(t == NULL) || TT_UNLIKELY(t->busy != 0))
        return follow(block, size, slot, rbp);
    t->busy = (uint64_t)slot;
    __asm__ volatile("" : : : "memory");
    const struct tt_memo *m = tt_hook_memo(t, slot);
    if (TT_UNLIKELY(!tt_hook_holds(m, slot, rbp))) {
        tt_hook_leave(t);
        return follow(block, size, slot, rbp);
    }
    uint32_t site = m->site;
    struct tt_tape_tally *tally = m->tally;
    uint64_t *at;
    uint32_t span = tally->last_size;
    if (TT_UNLIKELY(!tt_live_at(block, glibc ? GLIBC_SHIFT : tt_agent.granule_shift, &at)) ||
        TT_UNLIKELY(tally->site != site) || TT_UNLIKELY(size - (uint16_t)span > span >> 16))
        return late_birth(t, block, size, site);
    tally->births++;
    tally->birth_bytes += size;
    /* Not 0, and not a big one: the site is known and the span ends below TT_TAPE_SIZE_BIG. */
    __atomic_store_n(at, (uint64_t)site << 44 | size << 24 | (tt_agent_tick() & TT_TAPE_TICK_MAX),
                     __ATOMIC_RELEASE);
    tt_hook_leave(t);
    return block;
}

static uint64_t exact_malloc(uint64_t a, uint64_t b, uint64_t c, const uint64_t *slot, uint64_t rbp,
                             uint32_t entry)
{
    (void)b;
    (void)c;
    (void)entry;
    return quick(a, 0, slot, rbp, TT_E_MALLOC, 0);
}

static uint64_t exact_calloc(uint64_t a, uint64_t b, uint64_t c, const uint64_t *slot, uint64_t rbp,
                             uint32_t entry)
{
    (void)c;
    (void)entry;
    return quick(a, b, slot, rbp, TT_E_CALLOC, 0);
}

static uint64_t glibc_malloc(uint64_t a, uint64_t b, uint64_t c, const uint64_t *slot, uint64_t rbp,
                             uint32_t entry)
{
    (void)b;
    (void)c;
    (void)entry;
    return quick(a, 0, slot, rbp, TT_E_MALLOC, 1);
}

static uint64_t glibc_calloc(uint64_t a, uint64_t b, uint64_t c, const uint64_t *slot, uint64_t rbp,
                             uint32_t entry)
{
    (void)c;
    (void)entry;
    return quick(a, b, slot, rbp, TT_E_CALLOC, 1);
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

/* Any release, in any case. */
static __attribute__((noinline)) uint64_t exact_release(uint64_t a, uint64_t b, uint64_t c,
                                                        const uint64_t *slot, uint64_t rbp,
                                                        uint32_t entry)
{
    if (a == 0)
        return tt_hook_real(entry, a, b, c);
    if (TT_UNLIKELY(!tt_agent_recording()))
        return tt_hook_wiped(a, b, c, slot, rbp, entry);
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

/* The common release in few instructions: an early death of a site that is on its tally, from which
 * no sample is due. It changes nothing before it knows that. */
static inline __attribute__((always_inline)) uint64_t quick_free(uint64_t a, const uint64_t *slot,
                                                                 uint64_t rbp, int glibc)
{
    /* glibc reads the block's header and that of the next one. Their misses and the shadow's can be
     * waited for together; one after the other they are most of what a cold block costs, since the
     * processor looks ahead no farther than this hook is long: so this is the first thing done. */
    if (glibc) {
        __builtin_prefetch((const void *)(a - 8), 1);
        __builtin_prefetch((const void *)(a + 56), 1);
        __builtin_prefetch((const void *)(a + 120), 1);
    }
    struct tt_thread *t = tt_arch_thread();
    if (TT_UNLIKELY(!tt_agent_recording()) || TT_UNLIKELY(t == NULL) || TT_UNLIKELY(t->busy != 0))
        return exact_release(a, 0, 0, slot, rbp, TT_E_FREE);
    uint64_t *at;
    if (TT_UNLIKELY(!tt_live_at(a, glibc ? GLIBC_SHIFT : tt_agent.granule_shift, &at)))
        return exact_release(a, 0, 0, slot, rbp, TT_E_FREE);
    t->busy = (uint64_t)slot;
    __asm__ volatile("" : : : "memory");
    uint64_t e = __atomic_load_n(at, __ATOMIC_RELAXED);
    uint32_t site = tt_tape_entry_site(e), size = tt_tape_entry_size(e);
    struct tt_tape_tally *tally = tt_live_tally(t, site);
    __asm__("" : "+r"(tally)); /* or the sum is made anew for each field */
    /* No block is at site 0, whose tally counts nothing. */
    if (TT_UNLIKELY(size == TT_TAPE_SIZE_BIG) ||
        TT_UNLIKELY(((tt_agent_tick() - (uint32_t)e) & TT_TAPE_TICK_MAX) > 1) ||
        TT_UNLIKELY(t->slot == NULL) || TT_UNLIKELY(tally->site != site) ||
        TT_UNLIKELY(tally->early_deaths == 0) || TT_UNLIKELY(--t->early_left == 0)) {
        t->early_left += t->early_left == 0;
        tt_hook_leave(t);
        return exact_release(a, 0, 0, slot, rbp, TT_E_FREE);
    }
    __atomic_store_n(at, 0, __ATOMIC_RELAXED);
    tally->early_deaths++;
    tally->death_bytes += size;
    tt_hook_leave(t);
    return tt_hook_real(TT_E_FREE, a, tt_hook_none(), tt_hook_none());
}

static uint64_t exact_free(uint64_t a, uint64_t b, uint64_t c, const uint64_t *slot, uint64_t rbp,
                           uint32_t entry)
{
    (void)b;
    (void)c;
    (void)entry;
    return quick_free(a, slot, rbp, 0);
}

static uint64_t glibc_free(uint64_t a, uint64_t b, uint64_t c, const uint64_t *slot, uint64_t rbp,
                           uint32_t entry)
{
    (void)b;
    (void)c;
    (void)entry;
    return quick_free(a, slot, rbp, 1);
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
    /* glibc's realloc calls malloc for a null pointer, whose entry may be patched. */
    uint64_t block = a != 0 ? tt_hook_real(entry, a, b, c)
                            : tt_hook_real(tt_hook_beside(entry, TT_E_MALLOC), b, 0, 0);
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
        const uint64_t *at = tt_live_find(block);
        if (block != 0 && (at == NULL || *at == 0)) /* else an inner call followed it */
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
    return exact_realloc(a, bytes, 0, slot, rbp, tt_hook_beside(entry, TT_E_REALLOC));
}

/* The stubs leave the call's own arguments where they are and add theirs in registers that a callee
 * may use freely, so that an entry may lead straight to the real function. */
tt_hook_fn *tt_hook_straight(uint32_t entry)
{
    union {
        tt_real_fn *real;
        tt_hook_fn *hook;
    } to = {tt_agent.host.real[entry]};
    return to.hook;
}

void tt_hook_point(uint32_t entry, tt_hook_fn *hook, tt_hook_fn *way)
{
    __atomic_store_n(&tt_agent.entry[entry], hook, __ATOMIC_RELEASE);
    if (entry > TT_E_FREE)
        return;
    if (!way) /* not from a table: the core has no relocations */
        way = entry == TT_E_MALLOC ? tt_long_malloc : tt_long_free;
    __atomic_store_n(&tt_hook_way[entry], way, __ATOMIC_RELEASE);
}

void tt_hook_pass(void)
{
    for (uint32_t e = 0; e < TT_E_ALL; e++)
        tt_hook_point(e, tt_hook_straight(e), tt_hook_straight(e));
}

void tt_hook_exact(void)
{
    int glibc = tt_agent.granule_shift == GLIBC_SHIFT && tt_agent.host.size_floor == 0;
    for (uint32_t e = 0; e < TT_E_DLCLOSE; e++) {
        uint32_t kind = tt_hook_kind(e);
        tt_hook_fn *hook = kind >= TT_E_DELETE || kind == TT_E_FREE || kind == TT_E_CFREE ||
                                   kind == TT_E_FREE_SIZED || kind == TT_E_FREE_ALIGNED_SIZED
                               ? exact_release
                               : exact_acquire;
        if (e == TT_E_MALLOC)
            hook = glibc ? glibc_malloc : exact_malloc;
        else if (e == TT_E_CALLOC)
            hook = glibc ? glibc_calloc : exact_calloc;
        else if (e == TT_E_FREE)
            hook = glibc ? glibc_free : exact_free;
        else if (kind == TT_E_REALLOC)
            hook = exact_realloc;
        else if (kind == TT_E_REALLOCARRAY)
            hook = exact_reallocarray;
        else if (kind == TT_E_USABLE_SIZE)
            hook = tt_hook_straight(e);
        tt_hook_point(e, hook, NULL);
    }
}
