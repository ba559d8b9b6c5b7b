/* SPDX-License-Identifier: Apache-2.0 */
/* Thread states. One belongs to a thread control block, not to a thread: glibc reuses the block of
 * an ended thread together with our word in it, so a stale word is right again for the next
 * thread. A state whose block is gone is found by reading that word back (process_vm_readv, since
 * the block may be unmapped): in use exactly if it still points to the state. Start:
 * tt_thread_make. */
#include "agent/live.h"

#define POOL_PIECE 4u /* states opened at a time */

static struct tt_thread *state(uint32_t index)
{
    return (struct tt_thread *)(tt_agent.pool + (uint64_t)index * TT_THREAD_BYTES);
}

void tt_thread_tally(struct tt_thread *t, struct tt_tape_tally *place, uint32_t site)
{
    struct tt_tape_thread *slot = t->slot;
    slot->tid = t->tid;
    __atomic_store_n(&slot->moving, slot->moving + 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (place->site) {
        struct tt_tape_site *s = &tt_agent.sites[place->site];
        __atomic_fetch_add(&s->births, place->births, __ATOMIC_RELAXED);
        __atomic_fetch_add(&s->birth_bytes, place->birth_bytes, __ATOMIC_RELAXED);
        __atomic_fetch_add(&s->death_bytes, place->death_bytes, __ATOMIC_RELAXED);
        __atomic_fetch_add(&s->early_deaths, place->early_deaths, __ATOMIC_RELAXED);
    }
    place->births = place->early_deaths = 0;
    place->birth_bytes = place->death_bytes = 0;
    place->last_size = TT_LIVE_NO_SPAN;
    place->site = site;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    __atomic_store_n(&slot->moving, slot->moving + 1, __ATOMIC_RELAXED);
}

/* Gives the state back: its counts go to the sites, its slot in the tape becomes free. */
static void reclaim(struct tt_thread *t)
{
    if (t->slot) {
        for (uint32_t i = 0; i < TT_TAPE_TALLIES; i++)
            if (t->slot->tally[i].site)
                tt_thread_tally(t, &t->slot->tally[i], 0);
        __atomic_store_n(&t->slot->tid, 0, __ATOMIC_RELEASE);
    }
    t->tcb = 0;
    t->next_free = tt_agent.pool_free;
    tt_agent.pool_free = t->index + 1;
    tt_agent.pool_used--;
}

static void sweep(void)
{
    if (tt_sandboxed)
        return;
    for (uint32_t i = 0; i < tt_agent.pool_made; i++) {
        struct tt_thread *t = state(i);
        uint64_t word = 0;
        if (t->tcb == 0)
            continue;
        int error = tt_sys_peek(t->tcb + TT_FS_THREAD, &word);
        if (error != 0 && error != -14)
            return; /* not allowed to look: keep all */
        if (error != 0 || word != (uint64_t)t)
            reclaim(t);
    }
    tt_agent.sweep_at = tt_agent.pool_used * 2 < 64 ? 64 : tt_agent.pool_used * 2;
}

/* Opens the states up to `index`. 0 or -1. */
static int open_states(uint32_t index)
{
    uint32_t open = tt_agent.pool_open, more = (index / POOL_PIECE + 1) * POOL_PIECE - open;
    if (index < open)
        return 0;
    if (tt_sys_mprotect(state(open), (size_t)more * TT_THREAD_BYTES, TT_PROT_RW) != 0)
        return -1;
    tt_agent.pool_open += more;
    return 0;
}

/* The number of a state from the free list or fresh from the pool, ~0 if there is none; thread_lock
 * held. */
static uint32_t take(void)
{
    uint32_t index = tt_agent.pool_made;
    if (tt_agent.pool_used >= tt_agent.sweep_at)
        sweep();
    if (tt_agent.pool_free) {
        index = tt_agent.pool_free - 1;
        tt_agent.pool_free = state(index)->next_free;
    } else if (index == tt_agent.pool_limit || open_states(index) != 0) {
        return ~0u;
    } else {
        tt_agent.pool_made++;
    }
    tt_agent.pool_used++;
    return index;
}

/* Of an earlier recording, or thread. Only where they are used: else this would be the first touch
 * of their page. */
static void forget_keys(struct tt_thread *t)
{
    if (tt_agent.conf.mode == TT_MODE_ADAPTIVE)
        __builtin_memset(t->key, 0, sizeof t->key);
}

static struct tt_tape_thread *slots(void)
{
    return (struct tt_tape_thread *)(tt_agent.base + TT_TAPE_OFF_THREADS);
}

/* Opens the slots up to `index`. 0 or -1. */
static int open_slots(uint32_t index)
{
    const uint32_t piece = 0x10000u / (uint32_t)sizeof(struct tt_tape_thread);
    uint32_t open = tt_agent.threads_open, more = (index / piece + 1) * piece - open;
    if (index < open)
        return 0;
    if (tt_sys_mprotect(slots() + open, more * sizeof(struct tt_tape_thread), TT_PROT_RW) != 0)
        return -1;
    tt_agent.threads_open += more;
    return 0;
}

/* The slot in the tape of the state with this number; NULL beyond the last. It is not touched yet:
 * a thread that counts nothing costs no page. thread_lock held. */
static struct tt_tape_thread *give_slot(uint32_t state_index)
{
    uint32_t index = state_index + 1; /* slot 0 is the shared one */
    if (index >= TT_TAPE_THREADS) {
        tt_agent_drop(TT_DROP_THREADS);
        return NULL;
    }
    if (open_slots(index) != 0)
        return NULL;
    if (index >= tt_agent.head->thread_count)
        __atomic_store_n(&tt_agent.head->thread_count, index + 1, __ATOMIC_RELEASE);
    return slots() + index;
}

void tt_thread_expect(uint32_t threads)
{
    uint32_t most = threads < tt_agent.pool_limit ? threads : tt_agent.pool_limit;
    if (most > 0)
        open_states(most - 1);
    if (most > 0 && most < TT_TAPE_THREADS)
        open_slots(most);
}

static void seed(struct tt_thread *t)
{
    uint64_t x = tt_agent.conf.seed + t->index * 0x9e3779b97f4a7c15ULL;
    for (int i = 0; i < 4; i++) { /* splitmix64, as the authors of xoshiro advise */
        uint64_t z = (x += 0x9e3779b97f4a7c15ULL);
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
        z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
        t->random[i] = z ^ z >> 31;
    }
    tt_agent.conf.seed += 0xda942042e4dd58b5ULL;
}

/* A state of this thread; thread_lock held, for whoever looks for states whose thread is gone. */
static struct tt_thread *make(uint32_t tid)
{
    uint32_t index = take();
    if (index == ~0u)
        return NULL;
    struct tt_thread *t = state(index);
    t->index = index;
    t->busy = 0;
    t->depth = t->site = t->inner = 0;
    t->vfork = t->owner = 0;
    for (unsigned i = 0; i < TT_RANGES; i++)
        t->range[i] = (struct tt_range){0, 0};
    forget_keys(t);
    t->never = (struct tt_check){(uint64_t)&t->never.slot, 0};
    t->early_left = TT_EARLY_SKIP;
    t->tcb = tt_arch_tcb();
    t->tid = tid;
    t->session = 0;
    seed(t);
    t->slot = give_slot(index);
    tt_place_leave(t);
    tt_arch_set_thread(t);
    return t;
}

struct tt_thread *tt_thread_make(void)
{
    /* Signals wait: a handler that allocates here would have no state to see that it is nested. */
    uint64_t all = ~0ULL, before = 0;
    int block = !tt_sandboxed;
    if (block)
        tt_sys(__NR_rt_sigprocmask, 2 /* SIG_SETMASK */, (long)&all, (long)&before, 8, 0, 0);
    uint32_t tid = tt_sandboxed ? 1 : tt_sys_gettid();
    struct tt_thread *t = NULL;
    if (tt_lock_take(&tt_agent.thread_lock, TT_LOCK_MAKER)) {
        t = make(tid);
        tt_lock_give(&tt_agent.thread_lock, TT_LOCK_MAKER);
    } else {
        tt_agent_drop(TT_DROP_THREADS);
    }
    if (block)
        tt_sys(__NR_rt_sigprocmask, 2, (long)&before, 0, 8, 0, 0);
    return t;
}

/* The threads that are not here left their stacks, control blocks with our word included: the
 * child's glibc gives them to new threads, so their states stay with them too. From the last one
 * down, so that the first slot opens all. */
void tt_thread_forked(struct tt_thread *own)
{
    tt_agent.generation++;
    tt_agent.pool_free = tt_agent.pool_used = 0;
    for (uint32_t i = tt_agent.pool_made; i-- > 0;) {
        struct tt_thread *t = state(i);
        t->slot = NULL;
        if (t->tcb == 0) {
            t->next_free = tt_agent.pool_free;
            tt_agent.pool_free = i + 1;
            continue;
        }
        tt_agent.pool_used++;
        t->busy = 0;
        t->depth = t->site = 0;
        t->vfork = t->owner = 0;
        if (t != own)
            t->inner = 0;
        t->slot = give_slot(i);
        for (unsigned k = 0; k < TT_RANGES; k++)
            tt_place_claim(t, t->range[k]);
    }
    tt_agent.sweep_at = tt_agent.pool_used * 2 < 64 ? 64 : tt_agent.pool_used * 2;
    if (own) {
        own->tid = tt_sandboxed ? 1 : tt_sys_gettid();
        seed(own);
    }
}

/* Which of `n` states still have their thread control block: one call for all, but after a fault
 * the rest is not known and asked for one by one. */
#define BATCH 64u
static uint64_t still_there(struct tt_thread *const *t, uint32_t n)
{
    uint64_t word[BATCH], there = 0;
    struct tt_sys_piece from[BATCH];
    for (uint32_t i = 0; i < n; i++) {
        word[i] = 0;
        from[i] = (struct tt_sys_piece){t[i]->tcb + TT_FS_THREAD, 8};
    }
    int all = tt_sys_gather(word, from, n);
    for (uint32_t i = 0; i < n; i++)
        if ((all || tt_sys_peek(t[i]->tcb + TT_FS_THREAD, &word[i]) == 0) &&
            word[i] == (uint64_t)t[i])
            there |= 1ULL << i;
    return there;
}

/* The countdowns are another recording's. A thread may be ending just now. */
static void begin_countdowns(struct tt_thread *const *t, uint32_t n, uint64_t there)
{
    static const uint64_t zero[BATCH];
    struct tt_sys_piece to[BATCH];
    uint32_t count = 0;
    for (uint32_t i = 0; i < n; i++)
        if (there >> i & 1)
            to[count++] = (struct tt_sys_piece){t[i]->tcb + TT_FS_LEFT, 8};
    if (tt_sys_scatter(to, zero, count))
        return;
    for (uint32_t i = 0; i < count; i++)
        tt_sys_scatter(&to[i], zero, 1);
}

/* A state goes on with its thread, or to the free list. */
static void go_on(struct tt_thread *t, int there)
{
    if (!there) {
        t->tcb = 0;
        t->next_free = tt_agent.pool_free;
        tt_agent.pool_free = t->index + 1;
        return;
    }
    tt_agent.pool_used++;
    seed(t);
    t->slot = give_slot(t->index);
}

void tt_thread_again(void)
{
    struct tt_thread *batch[BATCH];
    tt_agent.generation++;
    tt_agent.pool_free = tt_agent.pool_used = 0;
    tt_agent.sweep_at = 64;
    for (uint32_t i = 0, n = 0; i < tt_agent.pool_made; i++) {
        struct tt_thread *t = state(i);
        t->slot = NULL;
        tt_place_leave(t);
        t->busy = 0;
        t->depth = t->site = t->inner = 0;
        t->owner = 0;
        t->session = 0;
        t->early_left = TT_EARLY_SKIP;
        forget_keys(t);
        for (unsigned k = 0; k < TT_RANGES; k++) /* stacks may have come and gone */
            t->range[k] = (struct tt_range){0, 0};
        if (t->tcb == 0)
            go_on(t, 0);
        else
            batch[n++] = t;
        if (n < BATCH && i + 1 < tt_agent.pool_made)
            continue;
        uint64_t there = still_there(batch, n);
        if (tt_agent.conf.mode == TT_MODE_SAMPLED)
            begin_countdowns(batch, n, there);
        for (uint32_t k = 0; k < n; k++)
            go_on(batch[k], there >> k & 1);
        n = 0;
    }
    if (tt_agent.pool_used * 2 > tt_agent.sweep_at)
        tt_agent.sweep_at = tt_agent.pool_used * 2;
}

int tt_thread_nested(struct tt_thread *t, uint64_t sp)
{
    for (unsigned i = 0; i < TT_RANGES; i++) {
        const struct tt_range *r = &t->range[i];
        if (sp >= t->busy && t->busy >= r->lo && t->busy < r->hi && sp >= r->lo && sp < r->hi) {
            struct tt_lock *lock[] = {&tt_agent.site_lock, &tt_agent.shadow_lock,
                                      &tt_agent.row_lock, &tt_agent.region_lock,
                                      &tt_agent.map_lock};
            for (unsigned k = 0; k < sizeof lock / sizeof lock[0]; k++)
                tt_lock_give(lock[k], t->index + 1);
            t->depth = t->site = 0;
            if (t->slot && t->slot->moving % 2)
                t->slot->moving++;
            t->busy = 0;
            return 0;
        }
    }
    return 1;
}

uint64_t tt_thread_random(struct tt_thread *t)
{
    /* xoshiro256++ 1.0 (Blackman and Vigna, public domain algorithm) */
    uint64_t *s = t->random;
    uint64_t sum = s[0] + s[3];
    uint64_t result = (sum << 23 | sum >> 41) + s[0], shifted = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = s[3] << 45 | s[3] >> 19;
    return result;
}
