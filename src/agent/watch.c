/* SPDX-License-Identifier: Apache-2.0 */
/* What happens before and after the real function of a watched one; what the functions do stands in
 * the rows of the tape (struct tt_tape_watch). The agent is entered for the time of its own work
 * only, so the real function may block, be cancelled, or leave by longjmp: then a unit that was
 * marked stays marked, which counts as held. errno is never touched, since the core makes no call
 * that sets it; nor are there system calls here but what a thread's first state needs (thread.c).
 *
 * A vfork child, and libc within posix_spawn, run on the parent's memory with descriptors of their
 * own: nothing that they do counts (tt_thread.vfork). A child of clone(2) with CLONE_VM that is
 * neither is taken for its parent. Start: tt_watch_before. */
#include "agent/hook.h"
#include "agent/watch.h"

#define PROBE_BYTES 5
#define COUNTED_ONE_BY_ONE 64u
#define COUNTED_AT_ONCE 128u
#define STACK_WORDS 16 /* of arguments beyond the sixth, of declared functions */

#define AT(type, field, offset) (offsetof(struct type, field) == (offset))
_Static_assert(AT(tt_thread, busy, TT_THREAD_BUSY) && AT(tt_thread, slot, TT_THREAD_SLOT) &&
                   AT(tt_thread, acquired_row, TT_THREAD_ACQUIRED_ROW) &&
                   AT(tt_thread, acquired_state, TT_THREAD_ACQUIRED_STATE) &&
                   AT(tt_thread, acquired, TT_THREAD_ACQUIRED) &&
                   AT(tt_thread, vfork, TT_THREAD_VFORK) &&
                   AT(tt_thread, owner, TT_THREAD_VFORK + 4) &&
                   AT(tt_thread, early_left, TT_THREAD_EARLY_LEFT) &&
                   AT(tt_thread, tid, TT_THREAD_TID) && AT(tt_thread, watched, TT_THREAD_WATCHED) &&
                   AT(tt_thread, memo[TT_MEMOS], TT_THREAD_WATCH_MEMO) && TT_WATCH_MEMOS == 8,
               "the assembly knows struct tt_thread");
_Static_assert(AT(tt_memo, slot, TT_MEMO_SLOT) && AT(tt_memo, rbp, TT_MEMO_RBP) &&
                   AT(tt_memo, site, TT_MEMO_SITE) && AT(tt_memo, generation, TT_MEMO_GENERATION) &&
                   AT(tt_memo, tally, TT_MEMO_TALLY) && AT(tt_memo, pair, TT_MEMO_PAIR) &&
                   AT(tt_memo, end, TT_MEMO_END) && AT(tt_memo, need, TT_MEMO_NEED) &&
                   AT(tt_memo, kind, TT_MEMO_KIND) && AT(tt_memo_pair, word, 8) &&
                   sizeof(struct tt_memo_pair) == 24,
               "the assembly knows struct tt_memo");
_Static_assert(AT(tt_agent, alive, TT_AGENT_ALIVE) && AT(tt_agent, base, TT_AGENT_BASE) &&
                   AT(tt_agent, generation, TT_AGENT_GENERATION) &&
                   AT(tt_agent, fd_end, TT_AGENT_FD_END) &&
                   AT(tt_agent, returns_lost, TT_AGENT_RETURNS_LOST),
               "the assembly knows struct tt_agent");
_Static_assert(AT(tt_tape_head, now_tick, TT_TAPE_AT_NOW) && TT_TAPE_OFF_HELD == TT_TAPE_AT_HELD &&
                   TT_TAPE_OFF_FDS == TT_TAPE_AT_FDS && TT_TAPE_HELD_FDS == TT_HELD_ROWS_OF_FDS &&
                   AT(tt_tape_held, state, TT_HELD_AT_STATE) &&
                   AT(tt_tape_held, owner, TT_HELD_AT_OWNER) &&
                   AT(tt_tape_held, entry, TT_HELD_AT_ENTRY) &&
                   AT(tt_tape_held, tid, TT_HELD_AT_TID) &&
                   AT(tt_tape_held, space, TT_HELD_AT_SPACE) &&
                   AT(tt_tape_held, kind, TT_HELD_AT_SPACE + 1) &&
                   AT(tt_tape_held, flags, TT_HELD_AT_FLAGS) && TT_SPACE_FD == 1 &&
                   TT_KIND_SOCKET == TT_SOCKET_KIND && TT_HELD_LIVE == 2 && TT_HELD_FREE == 0 &&
                   TT_HELD_STAMP == 4 && TT_HELD_MASK == 3,
               "the assembly knows struct tt_tape_held");
_Static_assert(AT(tt_tape_tally, site, TT_TALLY_SITE) &&
                   AT(tt_tape_tally, births, TT_TALLY_BIRTHS) &&
                   AT(tt_tape_tally, early_deaths, TT_TALLY_EARLY_DEATHS) &&
                   AT(tt_tape_tally, last_size, TT_TALLY_LAST_SIZE) &&
                   AT(tt_tape_tally, birth_bytes, TT_TALLY_BIRTH_BYTES) &&
                   AT(tt_tape_tally, death_bytes, TT_TALLY_DEATH_BYTES) &&
                   AT(tt_tape_thread, tally, TT_SLOT_TALLY) &&
                   TT_TAPE_TALLIES == TT_TAPE_TALLIES_ && AT(tt_watch_stub, index, TT_STUB_INDEX) &&
                   AT(tt_watch_stub, kind, TT_STUB_KIND) &&
                   AT(tt_watch_stub, flags, TT_STUB_KIND + 1),
               "the assembly knows what is in the tape");
_Static_assert(AT(tt_watch_call, tally, TT_WATCH_TALLY) && AT(tt_watch_call, site, TT_WATCH_SITE) &&
                   AT(tt_watch_call, session, TT_WATCH_SESSION) &&
                   AT(tt_watch_call, before, TT_WATCH_BEFORE),
               "the assembly knows struct tt_watch_call");

void tt_watch_begin(void)
{
    struct tt_tape_watch *rows = (struct tt_tape_watch *)(tt_agent.base + TT_TAPE_OFF_WATCHES);
    tt_held_begin();
    for (uint32_t i = 0; i < TT_TAPE_WATCHES; i++)
        if (rows[i].calls) /* the parent's */
            rows[i].calls = 0;
    tt_agent.head->watch_entry = (uint64_t)tt_watch_entry;
    tt_agent.head->probe_entry = (uint64_t)tt_watch_probe;
    tt_agent.head->open_entry = (uint64_t)tt_watch_open;
    tt_agent.head->close_entry = (uint64_t)tt_watch_close;
    tt_place_say();
    __atomic_store_n(&tt_agent.watching, tt_agent.session, __ATOMIC_RELEASE);
    __atomic_store_n(&tt_agent.alive[1], tt_agent.session, __ATOMIC_RELEASE);
}

void tt_watch_stop(void)
{
    __atomic_store_n(&tt_agent.alive[1], 0, __ATOMIC_RELEASE);
    __atomic_store_n(&tt_agent.watching, 0, __ATOMIC_RELEASE);
}

static struct tt_tape_watch *row_of(const struct tt_watch_stub *stub)
{
    return (struct tt_tape_watch *)(tt_agent.base + TT_TAPE_OFF_WATCHES) +
           stub->index % TT_TAPE_WATCHES;
}

/* Not recording: a forked child that is not settled yet, perhaps. */
static __attribute__((noinline)) int settled(void)
{
    if (!__atomic_load_n(&tt_agent.watching, __ATOMIC_ACQUIRE))
        return 0;
    tt_agent_forked();
    return tt_agent_recording() && __atomic_load_n(&tt_agent.watching, __ATOMIC_ACQUIRE);
}

/* Whether calls count now. */
static inline __attribute__((always_inline)) int counts(void)
{
    if (TT_LIKELY(__atomic_load_n(&tt_agent.watching, __ATOMIC_ACQUIRE) && tt_agent_recording()))
        return 1;
    return settled();
}

static struct tt_where enter(struct tt_thread *t, const uint64_t *slot, uint64_t rbp)
{
    return (struct tt_where){tt_hook_enter(t, slot) ? t : NULL, slot, rbp};
}

static void leave(const struct tt_where *at)
{
    if (TT_LIKELY(at->thread != NULL))
        tt_hook_leave(at->thread);
}

/* How many words of arguments the caller may have put on its stack; an even number. More are read
 * than there are, but never beyond the stack. */
static int64_t stack_words(const struct tt_thread *t, const struct tt_tape_watch *w,
                           const uint64_t *slot)
{
    if (w->space < TT_SPACE_DECLARED)
        return 0;
    for (unsigned i = 0; i < TT_RANGES; i++) {
        const struct tt_range *r = &t->range[i];
        if ((uint64_t)slot >= r->lo && (uint64_t)slot < r->hi) {
            int64_t words = (int64_t)(r->hi - (uint64_t)slot) / 8 - 1;
            return (words < STACK_WORDS ? words : STACK_WORDS) & ~1LL;
        }
    }
    return -1;
}

/* What tt_watch_after needs. */
static void await(struct tt_watch_call *c, const struct tt_tape_watch *w, const struct tt_thread *t)
{
    c->address = w->address;
    c->session = tt_agent.watching;
    if (w->space != TT_SPACE_FD)
        c->early = tt_held_early_now();
    c->before = t ? t->acquired : ~0U;
}

/* Prepares for tt_watch_after. Returns what tt_watch_before does. */
static int64_t with_frame(struct tt_watch_call *c, const struct tt_tape_watch *w,
                          struct tt_thread *t, const struct tt_where *at)
{
    int64_t words = t ? stack_words(t, w, at->slot) : w->space < TT_SPACE_DECLARED ? 0 : -1;
    if (TT_UNLIKELY(words < 0)) {
        /* The first capture of this thread's stack: to know how far it goes. */
        if (!at->thread)
            return 0;
        tt_stack_capture(t, at->slot, at->rbp);
        words = stack_words(t, w, at->slot);
        if (words < 0)
            return 0;
    }
    await(c, w, t);
    return 1 + words;
}

/* OWNER: most calls of read are not from sockets, and must cost next to nothing. */
static void work_for(uint64_t fd)
{
    if (TT_LIKELY(tt_owner_of(fd) == 0))
        return;
    struct tt_thread *t = tt_thread_get();
    if (t && !t->vfork)
        tt_owner_work(t, fd, NULL, 0);
}

/* Exactly while they are few; then many at a time, since a line that all threads write to would
 * slow them all. A thread's byte is 1 more than the calls that are not in the row yet; 0: count one
 * by one. plain_x86_64.S counts too while it is neither 0 nor COUNTED_AT_ONCE. */
static void count_call(struct tt_tape_watch *w, struct tt_thread *t, uint32_t index)
{
    if (w->calls < COUNTED_ONE_BY_ONE || !t) {
        w->calls++;
        return;
    }
    uint8_t *byte = &t->watched[index % TT_TAPE_WATCHES];
    if (*byte != 0 && *byte != COUNTED_AT_ONCE) {
        ++*byte;
        return;
    }
    __atomic_fetch_add(&w->calls, *byte ? *byte : 1, __ATOMIC_RELAXED);
    *byte = 1;
}

/* Whatever has no shorter way. */
static __attribute__((noinline)) int64_t any_before(struct tt_watch_call *c,
                                                    const struct tt_tape_watch *w,
                                                    struct tt_thread *t, const uint64_t *slot,
                                                    uint64_t rbp)
{
    struct tt_where at = enter(t, slot, rbp);
    int64_t frame = tt_watch_act_before(c, w, t, &at);
    if (frame > 0)
        frame = with_frame(c, w, t, &at);
    leave(&at);
    return frame;
}

int64_t tt_watch_before(struct tt_watch_call *c, const uint64_t *slot, uint64_t rbp)
{
    if (TT_UNLIKELY(!counts()))
        return 0;
    struct tt_tape_watch *w = row_of(c->stub);
    if (w->what == TT_WATCH_OWNER) {
        work_for((uint32_t)c->arg[0]);
        return 0;
    }
    uint32_t given = tt_watch_argument(c, w->when);
    if (TT_UNLIKELY(w->address == 0) ||
        (w->when != TT_FROM_NONE && given != w->values[0] && given != w->values[1]))
        return 0;
    struct tt_thread *t = tt_thread_get();
    if (TT_UNLIKELY(t && t->vfork) || *slot - w->own[0] < w->own[1] - w->own[0])
        return 0;
    if (w->what == TT_WATCH_VFORK)
        return -1;
    count_call(w, t, c->stub->index);
    c->mark[0].row = c->mark[1].row = NULL;
    c->inside = 0;
    if (TT_LIKELY(w->what == TT_WATCH_ACQUIRE && w->space < TT_SPACE_DECLARED &&
                  w->space != TT_SPACE_CHILD)) {
        await(c, w, t);
        return 1;
    }
    return any_before(c, w, t, slot, rbp);
}

static __attribute__((noinline)) void any_after(struct tt_watch_call *c,
                                                const struct tt_tape_watch *w, struct tt_thread *t,
                                                const uint64_t *slot, uint64_t rbp)
{
    struct tt_where at = enter(t, slot, rbp);
    tt_watch_act_after(c, w, &at);
    leave(&at);
}

void tt_watch_after(struct tt_watch_call *c, const uint64_t *slot, uint64_t rbp)
{
    struct tt_thread *t = tt_arch_thread_again();
    if (TT_UNLIKELY(c->inside) && t && t->vfork)
        t->vfork--;
    if (TT_UNLIKELY(c->session != tt_agent.watching) || TT_UNLIKELY(!counts()))
        return;
    const struct tt_tape_watch *w = row_of(c->stub);
    if (TT_UNLIKELY(w->address != c->address))
        return;
    any_after(c, w, t, slot, rbp);
}

void tt_watch_plain_after(struct tt_watch_call *c, const uint64_t *slot, uint64_t rbp)
{
    c->address = row_of(c->stub)->address; /* rows do not move within a session */
    c->inside = 0;
    tt_watch_after(c, slot, rbp);
}

/* No call led here, so there is no return address. The word that one would stand in lies in the red
 * zone of the interrupted code (System V ABI for x86-64, 3.2.2), which waits for us: while the
 * stack is captured it says where the probe is. */
void tt_watch_probed(struct tt_watch_call *c, uint64_t *slot, uint64_t rbp)
{
    if (!counts())
        return;
    struct tt_tape_watch *w = row_of(c->stub);
    struct tt_thread *t = tt_thread_get();
    if (w->address == 0 || (t && t->vfork))
        return;
    count_call(w, t, c->stub->index);
    uint64_t word = *slot;
    *slot = w->address + PROBE_BYTES;
    const struct tt_where at = enter(t, slot, rbp);
    c->early = tt_held_early_now();
    c->before = ~0U;
    tt_watch_act_now(c, w, &at);
    leave(&at);
    *slot = word;
}

void tt_watch_vforked(const struct tt_watch_stub *stub, uint64_t child, const uint64_t *slot,
                      uint64_t rbp)
{
    struct tt_thread *t = tt_arch_thread();
    if ((int32_t)child <= 0 || !t || t->vfork || !counts())
        return;
    struct tt_tape_watch *w = row_of(stub);
    const struct tt_unit unit = {.value = (uint32_t)child,
                                 .size = 1,
                                 .space = w->space,
                                 .kind = w->kind,
                                 .also = -1,
                                 .early = tt_held_early_now(),
                                 .before = ~0U};
    w->calls++;
    struct tt_where at = enter(t, slot, rbp);
    tt_held_acquire(&at, &unit);
    leave(&at);
}
