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
#define STACK_WORDS 16 /* of arguments beyond the sixth, of declared functions */

_Static_assert(offsetof(struct tt_thread, vfork) == TT_THREAD_VFORK, "watch_x86_64.S knows it");

void tt_watch_begin(void)
{
    struct tt_tape_watch *rows = (struct tt_tape_watch *)(tt_agent.base + TT_TAPE_OFF_WATCHES);
    tt_held_begin();
    for (uint32_t i = 0; i < TT_TAPE_WATCHES; i++)
        if (rows[i].calls) /* the parent's */
            rows[i].calls = 0;
    tt_agent.head->watch_entry = (uint64_t)tt_watch_entry;
    tt_agent.head->probe_entry = (uint64_t)tt_watch_probe;
    __atomic_store_n(&tt_agent.watching, tt_agent.session, __ATOMIC_RELEASE);
}

void tt_watch_stop(void)
{
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

/* Exactly while they are few; then sixteen at a time, since a line that all threads write to would
 * slow them all. */
static void count_call(struct tt_tape_watch *w, struct tt_thread *t, uint32_t index)
{
    if (w->calls < COUNTED_ONE_BY_ONE || !t)
        w->calls++;
    else if ((++t->watched[index % TT_TAPE_WATCHES] & 15) == 0)
        __atomic_fetch_add(&w->calls, 16, __ATOMIC_RELAXED);
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

/* Like close, or like open: most of all calls that count. */
static int plain_close(const struct tt_tape_watch *w)
{
    return w->what == TT_WATCH_RELEASE && w->space == TT_SPACE_FD && w->valid == TT_VALID_ALWAYS &&
           w->from == TT_FROM_ARG0 && w->flags == 0;
}

static int plain_open(const struct tt_tape_watch *w)
{
    return w->what == TT_WATCH_ACQUIRE && w->space == TT_SPACE_FD && w->from == TT_FROM_RETURN &&
           w->valid == TT_VALID_NOT_NEGATIVE;
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
    if (TT_LIKELY(plain_close(w)) && t && t->busy == 0) {
        const struct tt_where at = {t, slot, rbp};
        t->busy = (uint64_t)slot;
        __asm__ volatile("" : : : "memory");
        if (!tt_held_release(&at, TT_SPACE_FD, (uint32_t)c->arg[0]))
            tt_agent_drop(TT_DROP_NOT_HELD);
        tt_watch_closed(&at, (uint32_t)c->arg[0]);
        tt_hook_leave(t);
        return 0;
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
    if (TT_LIKELY(plain_open(w)) && t && t->busy == 0) {
        if ((int32_t)c->rax < 0)
            return;
        const struct tt_where at = {t, slot, rbp};
        t->busy = (uint64_t)slot;
        __asm__ volatile("" : : : "memory");
        tt_watch_opened(&at, c, w, (uint32_t)c->rax, tt_watch_kind(c, w));
        tt_hook_leave(t);
        return;
    }
    any_after(c, w, t, slot, rbp);
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
