/* SPDX-License-Identifier: Apache-2.0 */
/* The hooks of the sampled and the adaptive mode. Sampled: a birth of Z bytes is taken with
 * probability 1 - exp(-Z / mean), by a byte countdown with exponential gaps; its fast path is
 * assembly (entry_x86_64.S). Adaptive: with 2^-thin per cheap key, see adapt.c. Taken blocks live
 * in the region and are followed there; all others go straight to the real allocator.
 * Start: sample_malloc_slow, adapt_acquire. */
#include "agent/adapt.h"
#include "agent/draw.h"
#include "agent/hook.h"
#include "agent/region.h"

#define NOT_TAKEN (-1)

/* Follows a taken birth in the region; 0 if it must go to the real allocator after all. */
static uint64_t take(struct tt_thread *t, uint32_t entry, uint64_t size, uint64_t align,
                     uint32_t thin, const uint64_t *slot, uint64_t rbp)
{
    int zero;
    uint64_t hash = tt_stack_capture(t, slot, rbp);
    uint32_t site = tt_site_of(t, hash, thin, 0);
    uint64_t block = tt_region_take(t, size, align, &zero);
    if (!block) {
        tt_agent_drop(TT_DROP_SAMPLES);
        return 0;
    }
    if (tt_hook_kind(entry) == TT_E_CALLOC && !zero)
        __builtin_memset((void *)block, 0, size);
    tt_live_birth(t, block, size, site);
    return block;
}

static uint64_t align_of(uint32_t entry, uint64_t a, uint64_t b)
{
    switch (tt_hook_kind(entry)) {
    case TT_E_MEMALIGN:
    case TT_E_ALIGNED_ALLOC:
        return a;
    case TT_E_POSIX_MEMALIGN:
    case TT_E_NEW_ALIGNED:
    case TT_E_NEW_ARRAY_ALIGNED:
    case TT_E_NEW_ALIGNED_NT:
    case TT_E_NEW_ARRAY_ALIGNED_NT:
        return b;
    case TT_E_VALLOC:
    case TT_E_PVALLOC:
        return 4096;
    default:
        return 16;
    }
}

/* Whether the region may answer this call: one that the real allocator would refuse must fail. */
static int fits(uint32_t entry, uint64_t a, uint64_t b, uint64_t c, uint64_t align)
{
    uint64_t product;
    uint32_t kind = tt_hook_kind(entry);
    if (tt_hook_size(entry, a, b, c) >> 46) /* more than there are addresses */
        return 0;
    if (kind == TT_E_CALLOC && __builtin_mul_overflow(a, b, &product))
        return 0;
    return align != 0 && (align & (align - 1)) == 0 && align <= TT_REGION_ALIGN &&
           (kind != TT_E_POSIX_MEMALIGN || align >= 8);
}

/* Calls on, or hands out the block taken. */
static uint64_t answer(uint32_t entry, uint64_t a, uint64_t b, uint64_t c, uint64_t block)
{
    if (block == 0)
        return tt_hook_real(entry, a, b, c);
    if (tt_hook_kind(entry) != TT_E_POSIX_MEMALIGN)
        return block;
    *(uint64_t *)a = block;
    return 0;
}

/* The countdown went below zero: 0 when the birth is taken, else NOT_TAKEN. */
static int expired(struct tt_thread *t, uint64_t size)
{
    uint64_t gap = tt_draw_bytes(tt_thread_random(t), tt_agent.conf.mean);
    int fresh = t->session != tt_agent.session;
    t->session = tt_agent.session;
    if (fresh && gap >= size) { /* the thread's first call, which had no gap drawn yet */
        tt_arch_set_left((int64_t)(gap - size));
        return NOT_TAKEN;
    }
    if (fresh)
        gap = tt_draw_bytes(tt_thread_random(t), tt_agent.conf.mean);
    tt_arch_set_left((int64_t)gap);
    return 0;
}

/* Takes a birth that the mode chose: thread, fork and nesting are looked after here. */
static uint64_t chosen(uint64_t a, uint64_t b, uint64_t c, const uint64_t *slot, uint64_t rbp,
                       uint32_t entry)
{
    uint64_t size = tt_hook_size(entry, a, b, c), align = align_of(entry, a, b), block = 0;
    struct tt_thread *t = tt_thread_get();
    if (!tt_hook_enter(t, slot)) {
        tt_arch_set_left((int64_t)tt_agent.conf.mean);
        tt_agent_drop(TT_DROP_NESTED);
        return tt_hook_real(entry, a, b, c);
    }
    if (expired(t, size) != NOT_TAKEN && fits(entry, a, b, c, align))
        block = take(t, entry, size, align, 0, slot, rbp);
    tt_hook_leave(t);
    return answer(entry, a, b, c, block);
}

/* The size has been subtracted already. */
uint64_t tt_sample_malloc_slow(uint64_t a, uint64_t b, uint64_t c, const uint64_t *slot,
                               uint64_t rbp, uint32_t entry)
{
    if (TT_UNLIKELY(!tt_agent_recording())) {
        tt_arch_set_left(0);
        return tt_hook_wiped(a, b, c, slot, rbp, entry);
    }
    return chosen(a, b, c, slot, rbp, entry);
}

static uint64_t sample_acquire(uint64_t a, uint64_t b, uint64_t c, const uint64_t *slot,
                               uint64_t rbp, uint32_t entry)
{
    int64_t size = (int64_t)tt_hook_size(entry, a, b, c);
    int64_t left = tt_arch_left() - (size < 0 ? INT64_MAX / 2 : size);
    tt_arch_set_left(left);
    if (TT_LIKELY(left >= 0))
        return tt_hook_real(entry, a, b, c);
    return tt_sample_malloc_slow(a, b, c, slot, rbp, entry);
}

static uint64_t adapt_acquire(uint64_t a, uint64_t b, uint64_t c, const uint64_t *slot,
                              uint64_t rbp, uint32_t entry)
{
    uint64_t size = tt_hook_size(entry, a, b, c), block = 0;
    struct tt_thread *t = tt_arch_thread();
    if (TT_LIKELY(t != NULL)) {
        if (TT_LIKELY(tt_adapt_passes(t, tt_adapt_key(slot, size))))
            return tt_hook_real(entry, a, b, c);
    }
    if (TT_UNLIKELY(!tt_agent_recording()))
        return tt_hook_wiped(a, b, c, slot, rbp, entry);
    t = tt_thread_get();
    if (!tt_hook_enter(t, slot)) {
        tt_agent_drop(TT_DROP_NESTED);
        return tt_hook_real(entry, a, b, c);
    }
    uint64_t align = align_of(entry, a, b);
    int32_t thin = tt_adapt_decide(t, slot, size);
    if (thin >= 0 && fits(entry, a, b, c, align))
        block = take(t, entry, size, align, (uint32_t)thin, slot, rbp);
    tt_hook_leave(t);
    return answer(entry, a, b, c, block);
}

static uint64_t adapt_malloc(uint64_t a, uint64_t b, uint64_t c, const uint64_t *slot, uint64_t rbp,
                             uint32_t entry)
{
    struct tt_thread *t = tt_arch_thread();
    if (TT_LIKELY(t != NULL) && TT_LIKELY(tt_adapt_passes(t, tt_adapt_key(slot, a))))
        return tt_agent.host.real[TT_E_MALLOC](a, b, c);
    return adapt_acquire(a, b, c, slot, rbp, entry);
}

/* ---- release ---- */

/* The death of a followed region block, and what was asked for it. Without a recording (forked
 * child, quiet) the tape is left alone. */
static uint64_t died(struct tt_thread *t, uint64_t at, const uint64_t *slot, uint64_t rbp)
{
    uint64_t e = tt_live_take(at);
    if (e == 0)
        return 0;
    uint64_t size = tt_live_size(at, e, 1);
    uint32_t weight = tt_live_count_death(t, e, size);
    if (weight)
        tt_live_release(t, e, size, weight, slot, rbp);
    return size;
}

uint64_t tt_sample_free_slow(uint64_t a, uint64_t b, uint64_t c, const uint64_t *slot, uint64_t rbp,
                             uint32_t entry)
{
    if (!tt_region_holds(a) || tt_region_slot(a) == 0)
        return tt_hook_real(entry, a, b, c); /* not ours, or a wrong address: its own complaint */
    if (__atomic_load_n(tt_agent.alive, __ATOMIC_RELAXED) == 0)
        tt_agent_forked();
    struct tt_thread *t = tt_thread_get();
    uint64_t size = 0;
    int entered = tt_hook_enter(t, slot);
    if (tt_agent_recording() && tt_agent.head->state == TT_STATE_RUNNING)
        size = died(entered ? t : NULL, a, slot, rbp);
    tt_region_give(entered ? t : NULL, a, size);
    if (entered)
        tt_hook_leave(t);
    return 0;
}

static uint64_t usable_size(uint64_t a, uint64_t b, uint64_t c, const uint64_t *slot, uint64_t rbp,
                            uint32_t entry)
{
    (void)slot;
    (void)rbp;
    uint64_t room = tt_region_holds(a) ? tt_region_slot(a) : 0;
    return room ? room : tt_hook_real(entry, a, b, c);
}

/* ---- realloc ---- */

/* Whether a taken block of `old` bytes stays taken as one of `size` bytes. The marginal
 * probability of the new unit must be 1 - exp(-size / mean): growing keeps it; shrinking keeps it
 * if the byte that was hit, an exponential cut off at `old`, lies below `size`. */
static int stays(struct tt_thread *t, uint64_t old, uint64_t size)
{
    uint64_t mean = tt_agent.conf.mean, hit;
    if (size >= old)
        return 1;
    if (old > mean) {
        do
            hit = tt_draw_bytes(tt_thread_random(t), mean);
        while (hit >= old);
    } else {
        do {
            __extension__ unsigned __int128 v = (unsigned __int128)tt_thread_random(t) * old;
            hit = (uint64_t)(v >> 64);
        } while (tt_draw_bytes(tt_thread_random(t), mean) < hit);
    }
    return hit < size;
}

/* realloc of a taken block: a death and a birth, in place where slot and chance allow. */
static uint64_t realloc_taken(uint64_t a, uint64_t size, const uint64_t *slot, uint64_t rbp,
                              uint32_t entry)
{
    struct tt_thread *t = tt_thread_get();
    uint64_t room = tt_region_slot(a), block = 0, old = 0;
    int entered = tt_hook_enter(t, slot);
    int follow = entered && tt_agent_recording() && tt_agent.head->state == TT_STATE_RUNNING;
    uint64_t e = tt_agent_recording() ? tt_live_take(a) : 0;
    if (e)
        old = tt_live_size(a, e, 1);
    int32_t thin = 0;
    if (follow && size != 0) {
        if (tt_agent.conf.mode == TT_MODE_ADAPTIVE)
            thin = e ? tt_agent.sites[tt_tape_entry_site(e)].thin : NOT_TAKEN;
        else
            thin = e && stays(t, old, size) ? 0 : NOT_TAKEN;
    } else {
        thin = NOT_TAKEN;
    }
    int in_place = thin >= 0 && size <= room && (room <= 4096 || size * 4 >= room);
    uint32_t site = 0;
    if (thin >= 0) {
        uint64_t hash = tt_stack_capture(t, slot, rbp);
        site = tt_site_of(t, hash, (uint32_t)thin, 0);
        int zero;
        block = in_place ? a : tt_region_take(t, size, 16, &zero);
        if (!block)
            tt_agent_drop(TT_DROP_SAMPLES);
    }
    if (entered)
        tt_hook_leave(t);
    if (!block)
        block = tt_hook_real(tt_hook_beside(entry, TT_E_MALLOC), size ? size : 1, 0, 0);
    if (size == 0) { /* as glibc: released, nothing handed out */
        if (block)
            tt_hook_real(tt_hook_beside(entry, TT_E_FREE), block, 0, 0);
        block = 0;
    } else if (block == 0) { /* no memory: the old block lives on */
        if (e) {
            *tt_live_find(a) = e;
            if (tt_tape_entry_size(e) == TT_TAPE_SIZE_BIG)
                tt_live_big_add(a, old);
        }
        return 0;
    } else if (block != a) {
        __builtin_memcpy((void *)block, (const void *)a, room < size ? room : size);
    }
    entered = tt_hook_enter(t, slot);
    if (e) {
        uint32_t weight = tt_live_count_death(entered ? t : NULL, e, old);
        if (weight)
            tt_live_release(t, e, old, weight, slot, rbp);
    }
    if (block != a)
        tt_region_give(entered ? t : NULL, a, old);
    if (thin >= 0 && block && tt_region_holds(block))
        tt_live_birth(entered ? t : NULL, block, size, site);
    if (entered)
        tt_hook_leave(t);
    return block;
}

/* Moves a block that the real allocator just gave into the region. */
static uint64_t move_in(uint64_t block, uint64_t size, struct tt_thread *t, const uint64_t *slot,
                        uint64_t rbp, uint32_t entry)
{
    uint64_t at = take(t, TT_E_REALLOC, size, 16, 0, slot, rbp);
    if (!at)
        return block;
    __builtin_memcpy((void *)at, (const void *)block, size);
    tt_hook_leave(t);
    tt_hook_real(tt_hook_beside(entry, TT_E_FREE), block, 0, 0);
    tt_hook_enter(t, slot);
    return at;
}

/* realloc of a block outside of the region. Adaptive: what passed at its birth stays passed, as
 * what was taken stays taken; so a unit has the probability of its ancestor, and nothing is copied.
 * Sampled: only the bytes by which the block grew are exposed to the countdown, which makes the
 * probability of the new unit right and keeps blocks that grow in small steps in place. */
static uint64_t realloc_other(uint64_t a, uint64_t size, const uint64_t *slot, uint64_t rbp,
                              uint32_t entry)
{
    uint32_t usable = tt_hook_beside(entry, TT_E_USABLE_SIZE);
    if (tt_agent.conf.mode != TT_MODE_SAMPLED || !tt_agent.host.real[usable])
        return tt_hook_real(entry, a, size, 0);
    uint64_t before = tt_hook_real(usable, a, 0, 0);
    uint64_t block = tt_hook_real(entry, a, size, 0);
    if (block == 0 || size == 0 || tt_region_holds(block)) /* by an inner call of a patched entry */
        return block;
    uint64_t after = tt_hook_real(usable, block, 0, 0);
    if (after <= before)
        return block;
    tt_arch_set_left(tt_arch_left() - (int64_t)(after - before));
    if (TT_LIKELY(tt_arch_left() >= 0))
        return block;
    if (!tt_agent_recording())
        tt_agent_forked();
    if (!tt_agent_recording() || tt_agent.head->state != TT_STATE_RUNNING) {
        tt_arch_set_left(0);
        return block;
    }
    struct tt_thread *t = tt_thread_get();
    if (!tt_hook_enter(t, slot)) {
        tt_arch_set_left((int64_t)tt_agent.conf.mean);
        return block;
    }
    if (expired(t, after - before) != NOT_TAKEN)
        block = move_in(block, size, t, slot, rbp, entry);
    tt_hook_leave(t);
    return block;
}

static uint64_t sample_realloc(uint64_t a, uint64_t b, uint64_t c, const uint64_t *slot,
                               uint64_t rbp, uint32_t entry)
{
    if (a == 0) { /* a plain acquisition */
        entry = tt_hook_beside(entry, TT_E_MALLOC);
        return tt_agent.entry[entry](b, 0, c, slot, rbp, entry);
    }
    if (!tt_region_holds(a) || tt_region_slot(a) == 0)
        return realloc_other(a, b, slot, rbp, entry);
    if (__atomic_load_n(tt_agent.alive, __ATOMIC_RELAXED) == 0)
        tt_agent_forked();
    return realloc_taken(a, b, slot, rbp, entry);
}

static uint64_t sample_reallocarray(uint64_t a, uint64_t b, uint64_t c, const uint64_t *slot,
                                    uint64_t rbp, uint32_t entry)
{
    uint64_t bytes;
    if (__builtin_mul_overflow(b, c, &bytes))
        return tt_hook_real(entry, a, b, c);
    entry = tt_hook_beside(entry, TT_E_REALLOC);
    return tt_agent.entry[entry](a, bytes, 0, slot, rbp, entry);
}

static uint64_t pass(uint64_t a, uint64_t b, uint64_t c, const uint64_t *slot, uint64_t rbp,
                     uint32_t entry)
{
    (void)slot;
    (void)rbp;
    return tt_hook_real(entry, a, b, c);
}

static uint64_t pass_realloc(uint64_t a, uint64_t b, uint64_t c, const uint64_t *slot, uint64_t rbp,
                             uint32_t entry)
{
    if (tt_region_holds(a))
        return sample_realloc(a, b, c, slot, rbp, entry);
    return tt_hook_real(entry, a, b, c);
}

static int is_release(uint32_t kind)
{
    return kind >= TT_E_DELETE || kind == TT_E_FREE || kind == TT_E_CFREE ||
           kind == TT_E_FREE_SIZED || kind == TT_E_FREE_ALIGNED_SIZED;
}

static void point_acquisitions(tt_hook_fn *hook)
{
    for (uint32_t e = 0; e < TT_E_DLCLOSE; e++) {
        uint32_t kind = tt_hook_kind(e);
        if (kind == TT_E_MALLOC || kind == TT_E_CALLOC ||
            (kind >= TT_E_NEW && kind < TT_E_DELETE) ||
            (kind >= TT_E_MEMALIGN && kind <= TT_E_PVALLOC))
            tt_hook_point(e, hook, NULL);
    }
}

static void point_releases(void)
{
    for (uint32_t e = 0; e < TT_E_DLCLOSE; e++) {
        uint32_t kind = tt_hook_kind(e);
        if (is_release(kind))
            tt_hook_point(e, tt_sample_free_slow, tt_sample_free);
        else if (kind == TT_E_USABLE_SIZE)
            tt_hook_point(e, usable_size, NULL);
        else if (kind == TT_E_REALLOCARRAY)
            tt_hook_point(e, sample_reallocarray, NULL);
        else if (kind == TT_E_REALLOC)
            tt_hook_point(e, sample_realloc, NULL);
    }
}

void tt_hook_sample(void)
{
    /* Releases first, and for ever: sampled objects must not reach the real allocator. */
    point_releases();
    if (tt_agent.conf.mode == TT_MODE_ADAPTIVE) {
        point_acquisitions(adapt_acquire);
        tt_hook_point(TT_E_MALLOC, adapt_malloc, NULL);
    } else {
        point_acquisitions(sample_acquire);
        tt_hook_point(TT_E_MALLOC, sample_acquire, tt_sample_malloc);
    }
}

void tt_hook_sample_quiet(void)
{
    point_releases();
    point_acquisitions(pass);
    tt_hook_point(TT_E_MALLOC, pass, tt_hook_straight(TT_E_MALLOC));
    for (uint32_t e = TT_E_REALLOC; e < TT_E_DLCLOSE; e += TT_E_COUNT)
        tt_hook_point(e, pass_realloc, NULL);
}

/* ---- exact mode after a sampled one ---- */

static tt_hook_fn *beyond[TT_E_ALL]; /* what exact mode does with blocks outside of the region */

static uint64_t beside(uint64_t a, uint64_t b, uint64_t c, const uint64_t *slot, uint64_t rbp,
                       uint32_t entry)
{
    uint32_t kind = tt_hook_kind(entry);
    if (TT_LIKELY(!tt_region_holds(a)) || tt_region_slot(a) == 0)
        return beyond[entry](a, b, c, slot, rbp, entry);
    if (kind == TT_E_REALLOC)
        return sample_realloc(a, b, c, slot, rbp, entry);
    if (kind == TT_E_REALLOCARRAY)
        return sample_reallocarray(a, b, c, slot, rbp, entry);
    if (kind == TT_E_USABLE_SIZE)
        return usable_size(a, b, c, slot, rbp, entry);
    return tt_sample_free_slow(a, b, c, slot, rbp, entry);
}

void tt_hook_exact_beside(void)
{
    tt_hook_exact();
    if (tt_region_held() == 0)
        return;
    for (uint32_t e = 0; e < TT_E_DLCLOSE; e++) {
        uint32_t kind = tt_hook_kind(e);
        if (!is_release(kind) && kind != TT_E_REALLOC && kind != TT_E_REALLOCARRAY &&
            kind != TT_E_USABLE_SIZE)
            continue;
        beyond[e] = tt_agent.entry[e];
        tt_hook_point(e, beside, NULL);
    }
}
