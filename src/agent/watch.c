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

/* Numbers of the kernel's and glibc's interfaces. */
#define MAP_FIXED_FLAG 0x10
#define MREMAP_DONTUNMAP_FLAG 4
#define CLOSE_RANGE_UNSHARE_FLAG 2u
#define CLOSE_RANGE_CLOEXEC_FLAG 4u
#define WAIT_STOPS 10u         /* WUNTRACED | WCONTINUED */
#define WAIT_NOWAIT 0x1000000u /* WNOWAIT */
#define LEVEL_SOCKET 1         /* SOL_SOCKET */
#define TYPE_RIGHTS 1          /* SCM_RIGHTS */
#define FAMILY_INET 2
#define FAMILY_INET6 10
#define ATTR_C11_THREAD UINT64_MAX /* what thrd_create passes (glibc, pthreadP.h): joinable */
#define ATTR_FLAGS                                                                                 \
    8 /* pthread_attr_t: flags, bit 0 ATTR_FLAG_DETACHSTATE (glibc, internaltypes.h) */

#define PROBE_BYTES 5
#define COUNTED_ONE_BY_ONE 64u
#define STACK_WORDS 16 /* of arguments beyond the sixth, of declared functions */

_Static_assert(offsetof(struct tt_thread, vfork) == TT_THREAD_VFORK, "watch_x86_64.S knows it");

static uint32_t watching; /* 1: a recording is under way */
static uint32_t ports;    /* rows of TT_SPACE_PORT were made */

void tt_watch_begin(void)
{
    struct tt_tape_watch *rows = (struct tt_tape_watch *)(tt_agent.base + TT_TAPE_OFF_WATCHES);
    tt_held_begin();
    ports = 0;
    for (uint32_t i = 0; i < TT_TAPE_WATCHES; i++)
        if (rows[i].calls) /* the parent's */
            rows[i].calls = 0;
    tt_agent.head->watch_entry = (uint64_t)tt_watch_entry;
    tt_agent.head->probe_entry = (uint64_t)tt_watch_probe;
    __atomic_store_n(&watching, 1, __ATOMIC_RELEASE);
}

void tt_watch_stop(void)
{
    __atomic_store_n(&watching, 0, __ATOMIC_RELEASE);
}

static struct tt_tape_watch *row_of(const struct tt_watch_stub *stub)
{
    return (struct tt_tape_watch *)(tt_agent.base + TT_TAPE_OFF_WATCHES) +
           stub->index % TT_TAPE_WATCHES;
}

/* Not recording: a forked child that is not settled yet, perhaps. */
static __attribute__((noinline)) int settled(void)
{
    if (!__atomic_load_n(&watching, __ATOMIC_ACQUIRE))
        return 0;
    tt_agent_forked();
    return tt_agent_recording() && __atomic_load_n(&watching, __ATOMIC_ACQUIRE);
}

/* Whether calls count now. */
static inline __attribute__((always_inline)) int counts(void)
{
    if (TT_LIKELY(__atomic_load_n(&watching, __ATOMIC_ACQUIRE) && tt_agent_recording()))
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

/* ---- what belongs to a descriptor ---- */

static void descriptor_closed(const struct tt_where *at, uint64_t fd)
{
    tt_owner_closed(fd);
    if (TT_UNLIKELY(ports != 0))
        tt_held_release(at, TT_SPACE_PORT, fd);
}

/* A new peer: its address, if the program asked for it, is there now. The socket is its own unit.
 */
static void accepted(struct tt_thread *t, const struct tt_watch_call *c)
{
    const void *address = (const void *)c->arg[1];
    const uint32_t *bytes = (const uint32_t *)c->arg[2];
    tt_owner_work(t, (uint32_t)c->rax, address, address && bytes ? *bytes : 0);
}

static void descriptor_opened(const struct tt_where *at, const struct tt_watch_call *c,
                              const struct tt_tape_watch *w, uint64_t fd, uint32_t kind)
{
    const struct tt_unit unit = {.value = fd,
                                 .size = 1,
                                 .space = TT_SPACE_FD,
                                 .kind = (uint8_t)kind,
                                 .flags = w->flags & TT_WATCH_ONCE,
                                 .also = -1,
                                 .before = c->before};
    if (!(w->flags & TT_WATCH_ONCE) || !tt_held_find(TT_SPACE_FD, fd))
        tt_owner_opened(fd, kind == TT_KIND_SOCKET);
    if (w->what == TT_WATCH_ACCEPT && at->thread)
        accepted(at->thread, c);
    tt_held_acquire(at, &unit);
}

/* The descriptor inside the object (FILE, DIR) at `value`; -1 none. */
static int32_t descriptor_in(const struct tt_tape_watch *w, uint64_t value)
{
    return w->flags & TT_WATCH_ALSO_FD && value ? *(const int32_t *)(value + w->also) : -1;
}

/* ---- acquiring ---- */

static uint32_t kind_like(const struct tt_watch_call *c, const struct tt_tape_watch *w)
{
    if (w->flags & TT_WATCH_LIKE) {
        const struct tt_tape_held *row = tt_held_find(TT_SPACE_FD, (uint32_t)c->arg[0]);
        if (row)
            return row->kind;
    }
    return w->kind;
}

static void acquire_value(const struct tt_where *at, const struct tt_watch_call *c,
                          const struct tt_tape_watch *w, uint64_t value, uint64_t size)
{
    uint32_t kind = kind_like(c, w);
    if (w->space == TT_SPACE_FD) {
        descriptor_opened(at, c, w, value, kind);
        return;
    }
    const struct tt_unit unit = {.value = value,
                                 .size = size,
                                 .space = w->space,
                                 .kind = (uint8_t)kind,
                                 .flags = w->flags,
                                 .also = w->flags & TT_WATCH_COUNTED ? 0 : descriptor_in(w, value),
                                 .early = c->early,
                                 .before = c->before};
    tt_held_acquire(at, &unit);
    if (unit.also >= 0 && w->flags & TT_WATCH_ALSO_FD &&
        !tt_held_find(TT_SPACE_FD, (uint32_t)unit.also))
        descriptor_opened(at, c, w, (uint32_t)unit.also, TT_KIND_FD);
}

static void acquire(const struct tt_where *at, const struct tt_watch_call *c,
                    const struct tt_tape_watch *w)
{
    uint64_t value, size = 1;
    if (!tt_watch_read(c, w, w->from, &value))
        return;
    if (w->size >= TT_FROM_ARG0 && w->size < TT_FROM_ARG0 + 6)
        size = c->arg[w->size - TT_FROM_ARG0];
    else if (w->size != TT_FROM_NONE && !tt_watch_read(c, w, w->size, &size))
        size = 1;
    acquire_value(at, c, w, value, size);
    if (w->flags & TT_WATCH_PAIR) {
        const uint8_t *second = (const uint8_t *)c->arg[w->from - TT_FROM_AT_ARG0] + w->width;
        value = w->width == 8 ? *(const uint64_t *)second : *(const uint32_t *)second;
        acquire_value(at, c, w, value, size);
    }
}

struct message { /* struct msghdr */
    void *name;
    uint32_t name_bytes, pad;
    void *pieces;
    uint64_t piece_count;
    const uint8_t *control;
    uint64_t control_bytes;
    int32_t flags, pad2;
};

/* Control messages: a length of 8 bytes, level and type of 4, data, padding to 8 (cmsg(3)). */
static void passed(const struct tt_where *at, const struct tt_watch_call *c,
                   const struct tt_tape_watch *w, const struct message *m)
{
    for (uint64_t offset = 0; m->control && offset + 16 <= m->control_bytes;) {
        uint64_t length = *(const uint64_t *)(m->control + offset);
        const int32_t *what = (const int32_t *)(m->control + offset + 8);
        if (length < 16 || length > m->control_bytes - offset)
            break;
        for (uint64_t i = 0; what[0] == LEVEL_SOCKET && what[1] == TYPE_RIGHTS; i++) {
            if (16 + 4 * (i + 1) > length)
                break;
            descriptor_opened(at, c, w, (uint32_t)what[2 + i], w->kind);
        }
        offset += (length + 7) & ~7ULL;
    }
}

/* bind and connect (its address is the peer's). The port follows the family, in network order. */
static void bound(const struct tt_where *at, const struct tt_watch_call *c,
                  const struct tt_tape_watch *w)
{
    const uint8_t *address = (const uint8_t *)c->arg[1];
    if ((int32_t)c->rax != 0 || !address || (uint32_t)c->arg[2] < 4)
        return;
    uint32_t family = (uint32_t)address[0] | (uint32_t)address[1] << 8;
    if (family != FAMILY_INET && family != FAMILY_INET6)
        return;
    int32_t port = address[2] << 8 | address[3];
    const struct tt_unit unit = {.value = (uint32_t)c->arg[0],
                                 .size = 1,
                                 .space = TT_SPACE_PORT,
                                 .kind = w->kind,
                                 .flags = TT_WATCH_ONCE,
                                 .also = w->valid == TT_VALID_ALWAYS ? 0 : port,
                                 .early = tt_held_early_now(),
                                 .before = ~0U};
    __atomic_store_n(&ports, 1, __ATOMIC_RELAXED);
    tt_held_acquire(at, &unit);
}

/* ---- releasing ---- */

/* Values that others know before the acquiring call returns. */
static int known_early(uint32_t space)
{
    return space == TT_SPACE_THREAD || space == TT_SPACE_CHILD || space >= TT_SPACE_DECLARED;
}

/* Takes a unit and what belongs to it out, now. */
static void release_now(const struct tt_where *at, const struct tt_tape_watch *w, uint64_t value)
{
    int32_t fd = descriptor_in(w, value);
    if (known_early(w->space))
        tt_held_early(w->space, value);
    int held = tt_held_release(at, w->space, value);
    if (held && known_early(w->space))
        tt_held_not_early(w->space, value);
    if (!held)
        tt_agent_drop(TT_DROP_NOT_HELD);
    if (w->space == TT_SPACE_FD)
        descriptor_closed(at, value);
    if (fd >= 0) {
        tt_held_release(at, TT_SPACE_FD, (uint32_t)fd);
        descriptor_closed(at, (uint32_t)fd);
    }
}

/* 1: something is left to do after the real function. */
static int release_before(const struct tt_where *at, struct tt_watch_call *c,
                          const struct tt_tape_watch *w)
{
    uint64_t value;
    if (!tt_watch_read(c, w, w->from, &value) || (value == 0 && w->space != TT_SPACE_FD))
        return 0;
    if (w->flags & TT_WATCH_COUNTED)
        return 1;
    if (w->valid == TT_VALID_ALWAYS) {
        release_now(at, w, value);
        return 0;
    }
    if (known_early(w->space))
        tt_held_early(w->space, value);
    c->mark[0] = tt_held_mark(w->space, value);
    if (c->mark[0].row && known_early(w->space))
        tt_held_not_early(w->space, value);
    if (!c->mark[0].row)
        tt_agent_drop(TT_DROP_NOT_HELD);
    int32_t fd = descriptor_in(w, value);
    if (fd >= 0)
        c->mark[1] = tt_held_mark(TT_SPACE_FD, (uint32_t)fd);
    return c->mark[0].row || c->mark[1].row || w->space == TT_SPACE_FD;
}

static void release_after(const struct tt_where *at, struct tt_watch_call *c,
                          const struct tt_tape_watch *w)
{
    uint64_t value;
    if (!tt_watch_valid(c, w)) {
        tt_held_stay(c->mark[0]);
        tt_held_stay(c->mark[1]);
        return;
    }
    if (w->flags & TT_WATCH_COUNTED) {
        if (tt_watch_read(c, w, w->from, &value) && !tt_held_release_last(at, w->space, value))
            tt_agent_drop(TT_DROP_NOT_HELD);
        return;
    }
    if (w->space == TT_SPACE_FD && tt_watch_read(c, w, w->from, &value) && c->mark[0].row)
        descriptor_closed(at, value);
    if (c->mark[1].row)
        descriptor_closed(at, c->mark[1].row->value);
    tt_held_leave(at, c->mark[0]);
    tt_held_leave(at, c->mark[1]);
}

/* close_range and closefrom fail only for arguments that are looked at here, and where the kernel
 * has no such call: then the caller goes on with close. */
static void release_range(const struct tt_where *at, const struct tt_watch_call *c,
                          const struct tt_tape_watch *w)
{
    uint32_t first = (uint32_t)c->arg[0], last = ~0U, end = tt_held_fd_end();
    if (w->size != TT_FROM_NONE) {
        uint32_t flags = (uint32_t)c->arg[2];
        last = (uint32_t)c->arg[1];
        if (flags & ~CLOSE_RANGE_UNSHARE_FLAG)
            return;
    } else if ((int32_t)first < 0) {
        first = 0;
    }
    for (uint64_t fd = first; fd <= last && fd < end; fd++)
        if (tt_held_release(at, TT_SPACE_FD, fd))
            descriptor_closed(at, fd);
}

static void replaced(const struct tt_where *at, struct tt_watch_call *c,
                     const struct tt_tape_watch *w)
{
    if (!tt_watch_valid(c, w)) {
        tt_held_stay(c->mark[0]);
        return;
    }
    tt_held_leave(at, c->mark[0]);
    descriptor_closed(at, (uint32_t)c->arg[1]);
    acquire_value(at, c, w, (uint32_t)c->arg[1], 1);
}

/* ---- children ---- */

static uint32_t argument(const struct tt_watch_call *c, uint32_t from)
{
    return from >= TT_FROM_ARG0 && from < TT_FROM_ARG0 + 6 ? (uint32_t)c->arg[from - TT_FROM_ARG0]
                                                           : 0;
}

static void reaped(const struct tt_where *at, const struct tt_tape_watch *w, uint32_t pid)
{
    struct tt_thread *t = at->thread;
    int inner = t && t->reaped == pid; /* by wait4, within wait */
    tt_held_early(w->space, pid);
    int held = tt_held_release(at, w->space, pid);
    if (held || inner)
        tt_held_not_early(w->space, pid);
    else
        tt_agent_drop(TT_DROP_NOT_HELD);
    if (t)
        t->reaped = held || inner ? pid : 0;
}

static void waited(const struct tt_where *at, const struct tt_watch_call *c,
                   const struct tt_tape_watch *w)
{
    if ((int32_t)c->rax <= 0)
        return;
    if (argument(c, w->size) & WAIT_STOPS) {
        uint64_t status;
        /* Stopped or continued, or nobody knows: who is really gone, /proc shows. */
        if (!tt_watch_read(c, w, w->from, &status) || (status & 0xff) == 0x7f || status == 0xffff)
            return;
    }
    reaped(at, w, (uint32_t)c->rax);
}

static void waited_id(const struct tt_where *at, const struct tt_watch_call *c,
                      const struct tt_tape_watch *w)
{
    const int32_t *info = (const int32_t *)c->arg[2]; /* siginfo_t: [2] si_code, [4] si_pid */
    if ((int32_t)c->rax != 0 || !info || (uint32_t)c->arg[3] & WAIT_NOWAIT)
        return;
    if (info[4] > 0 && info[2] >= 1 && info[2] <= 3) /* CLD_EXITED, CLD_KILLED, CLD_DUMPED */
        reaped(at, w, (uint32_t)info[4]);
}

/* ---- mappings ---- */

static void remap_before(const struct tt_where *at, struct tt_watch_call *c)
{
    c->moved.space = 0;
    if (c->arg[1] == 0 || c->arg[3] & MREMAP_DONTUNMAP_FLAG) /* the old one stays */
        return;
    if (tt_mapping_move(at, c->arg[0], c->arg[1], &c->moved) != 0) {
        c->moved.space = 0;
        tt_mapping_release(at, c->arg[0], c->arg[1]);
    }
}

static void remap_after(const struct tt_where *at, const struct tt_watch_call *c,
                        const struct tt_tape_watch *w)
{
    int valid = tt_watch_valid(c, w);
    uint64_t start = valid ? c->rax : c->arg[0], size = valid ? c->arg[2] : c->arg[1];
    if (c->moved.space)
        tt_mapping_put(at, &c->moved, start, size);
    else if (valid)
        tt_mapping_acquire(at, start, size, w->kind, 1);
}

/* ---- owners ---- */

static void received(struct tt_thread *t, const struct tt_watch_call *c)
{
    const void *address = (const void *)c->arg[4];
    const uint32_t *bytes = (const uint32_t *)c->arg[5];
    if (address && bytes && *bytes)
        tt_owner_sender(t, (uint32_t)c->arg[0], address, *bytes);
    else
        tt_owner_work(t, (uint32_t)c->arg[0], NULL, 0);
}

static void received_message(const struct tt_where *at, const struct tt_watch_call *c,
                             const struct tt_tape_watch *w)
{
    const struct message *m = (const struct message *)c->arg[1];
    if (at->thread && m->name && m->name_bytes)
        tt_owner_sender(at->thread, (uint32_t)c->arg[0], m->name, m->name_bytes);
    else if (at->thread)
        tt_owner_work(at->thread, (uint32_t)c->arg[0], NULL, 0);
    passed(at, c, w, m);
}

/* ---- the two sides ---- */

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
    c->session = tt_agent.session;
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

static int64_t spawning(struct tt_watch_call *c, struct tt_thread *t)
{
    if (!t)
        return 0;
    t->vfork++;
    c->inside = 1;
    return 1;
}

static int64_t before(struct tt_watch_call *c, const struct tt_tape_watch *w, struct tt_thread *t,
                      const struct tt_where *at)
{
    switch (w->what) {
    case TT_WATCH_RELEASE:
        return release_before(at, c, w);
    case TT_WATCH_REPLACE:
        if ((uint32_t)c->arg[0] == (uint32_t)c->arg[1])
            return 0;
        c->mark[0] = tt_held_mark(TT_SPACE_FD, (uint32_t)c->arg[1]);
        return 1;
    case TT_WATCH_RANGE:
        release_range(at, c, w);
        return 0;
    case TT_WATCH_UNMAP:
        if (c->arg[0] % 4096 == 0 && c->arg[1] != 0)
            tt_mapping_release(at, c->arg[0], c->arg[1]);
        return 0;
    case TT_WATCH_REMAP:
        remap_before(at, c);
        return 1;
    case TT_WATCH_FROM:
        if (t && w->size == TT_FROM_NONE && c->arg[4] == 0) {
            tt_owner_work(t, (uint32_t)c->arg[0], NULL, 0);
            return 0;
        }
        return t != NULL;
    case TT_WATCH_IDLE:
        if (t)
            t->owner = 0;
        return 0;
    case TT_WATCH_ACQUIRE:
        return w->space != TT_SPACE_CHILD || spawning(c, t);
    case TT_WATCH_SPAWN:
        return spawning(c, t);
    default:
        return 1;
    }
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
    int64_t frame = before(c, w, t, &at);
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
    uint32_t given = argument(c, w->when);
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
        descriptor_closed(&at, (uint32_t)c->arg[0]);
        tt_hook_leave(t);
        return 0;
    }
    return any_before(c, w, t, slot, rbp);
}

static void after(struct tt_watch_call *c, const struct tt_tape_watch *w, const struct tt_where *at)
{
    switch (w->what) {
    case TT_WATCH_RELEASE:
        release_after(at, c, w);
        return;
    case TT_WATCH_REPLACE:
        replaced(at, c, w);
        return;
    case TT_WATCH_REMAP:
        remap_after(at, c, w);
        return;
    case TT_WATCH_WAIT:
        waited(at, c, w);
        return;
    case TT_WATCH_WAITID:
        waited_id(at, c, w);
        return;
    default:
        break;
    }
    if (!tt_watch_valid(c, w))
        return;
    switch (w->what) {
    case TT_WATCH_ACQUIRE:
    case TT_WATCH_ACCEPT:
    case TT_WATCH_SPAWN:
        acquire(at, c, w);
        break;
    case TT_WATCH_FORK:
        if ((int32_t)c->rax > 0)
            acquire_value(at, c, w, (uint32_t)c->rax, 1);
        break;
    case TT_WATCH_THREAD:
        if (!c->arg[1] || c->arg[1] == ATTR_C11_THREAD ||
            !(*(const uint32_t *)(c->arg[1] + ATTR_FLAGS) & 1))
            acquire(at, c, w);
        break;
    case TT_WATCH_MAP:
        tt_mapping_acquire(at, c->rax, c->arg[1], w->kind, (c->arg[3] & MAP_FIXED_FLAG) != 0);
        break;
    case TT_WATCH_BIND:
        bound(at, c, w);
        break;
    case TT_WATCH_FROM:
        if ((int64_t)c->rax < 0)
            break;
        if (w->size != TT_FROM_NONE)
            received_message(at, c, w);
        else if (at->thread)
            received(at->thread, c);
        break;
    case TT_WATCH_PASSED:
        if ((int64_t)c->rax >= 0)
            received_message(at, c, w);
        break;
    default:
        break;
    }
}

static __attribute__((noinline)) void any_after(struct tt_watch_call *c,
                                                const struct tt_tape_watch *w, struct tt_thread *t,
                                                const uint64_t *slot, uint64_t rbp)
{
    struct tt_where at = enter(t, slot, rbp);
    after(c, w, &at);
    leave(&at);
}

void tt_watch_after(struct tt_watch_call *c, const uint64_t *slot, uint64_t rbp)
{
    struct tt_thread *t = tt_arch_thread_again();
    if (TT_UNLIKELY(c->inside) && t && t->vfork)
        t->vfork--;
    if (TT_UNLIKELY(c->session != tt_agent.session) || TT_UNLIKELY(!counts()))
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
        descriptor_opened(&at, c, w, (uint32_t)c->rax, kind_like(c, w));
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
    uint64_t value;
    if (!counts())
        return;
    struct tt_tape_watch *w = row_of(c->stub);
    struct tt_thread *t = tt_thread_get();
    if (w->address == 0 || (t && t->vfork) || !tt_watch_read(c, w, w->from, &value))
        return;
    count_call(w, t, c->stub->index);
    uint64_t word = *slot;
    *slot = w->address + PROBE_BYTES;
    const struct tt_where at = enter(t, slot, rbp);
    c->early = tt_held_early_now();
    c->before = ~0U;
    if (w->what == TT_WATCH_ACQUIRE)
        acquire(&at, c, w);
    else if (w->what == TT_WATCH_OWNER && at.thread)
        tt_owner_work(at.thread, (uint32_t)value, NULL, 0);
    else if (w->what == TT_WATCH_RELEASE && w->flags & TT_WATCH_COUNTED)
        tt_held_release_last(&at, w->space, value);
    else if (w->what == TT_WATCH_RELEASE)
        release_now(&at, w, value);
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
