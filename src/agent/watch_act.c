/* SPDX-License-Identifier: Apache-2.0 */
/* What each kind of watched function does to the table of held units: before and after the real
 * function, enum tt_watch_what says when. Start: tt_watch_act_before, tt_watch_act_after. */
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

static uint32_t ports; /* rows of TT_SPACE_PORT were made */

/* ---- what belongs to a descriptor ---- */

void tt_watch_closed(const struct tt_where *at, uint64_t fd)
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

void tt_watch_opened(const struct tt_where *at, const struct tt_watch_call *c,
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

uint32_t tt_watch_kind(const struct tt_watch_call *c, const struct tt_tape_watch *w)
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
    uint32_t kind = tt_watch_kind(c, w);
    if (w->space == TT_SPACE_FD) {
        tt_watch_opened(at, c, w, value, kind);
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
        tt_watch_opened(at, c, w, (uint32_t)unit.also, TT_KIND_FD);
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
            tt_watch_opened(at, c, w, (uint32_t)what[2 + i], w->kind);
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
    struct tt_tape_held *row = tt_held_find(TT_SPACE_FD, unit.value);
    __atomic_store_n(&ports, 1, __ATOMIC_RELAXED);
    if (row)
        row->flags = TT_HELD_BOUND;
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
        tt_watch_closed(at, value);
    if (fd >= 0) {
        tt_held_release(at, TT_SPACE_FD, (uint32_t)fd);
        tt_watch_closed(at, (uint32_t)fd);
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
        tt_watch_closed(at, value);
    if (c->mark[1].row)
        tt_watch_closed(at, c->mark[1].row->value);
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
            tt_watch_closed(at, fd);
}

static void replaced(const struct tt_where *at, struct tt_watch_call *c,
                     const struct tt_tape_watch *w)
{
    if (!tt_watch_valid(c, w)) {
        tt_held_stay(c->mark[0]);
        return;
    }
    tt_held_leave(at, c->mark[0]);
    tt_watch_closed(at, (uint32_t)c->arg[1]);
    acquire_value(at, c, w, (uint32_t)c->arg[1], 1);
}

/* ---- children ---- */

uint32_t tt_watch_argument(const struct tt_watch_call *c, uint32_t from)
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
    if (tt_watch_argument(c, w->size) & WAIT_STOPS) {
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

/* ---- by what it is ---- */

static int64_t spawning(struct tt_watch_call *c, struct tt_thread *t)
{
    if (!t)
        return 0;
    t->vfork++;
    c->inside = 1;
    return 1;
}

int64_t tt_watch_act_before(struct tt_watch_call *c, const struct tt_tape_watch *w,
                            struct tt_thread *t, const struct tt_where *at)
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

void tt_watch_act_after(struct tt_watch_call *c, const struct tt_tape_watch *w,
                        const struct tt_where *at)
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

void tt_watch_act_now(const struct tt_watch_call *c, const struct tt_tape_watch *w,
                      const struct tt_where *at)
{
    uint64_t value;
    if (!tt_watch_read(c, w, w->from, &value))
        return;
    if (w->what == TT_WATCH_ACQUIRE)
        acquire(at, c, w);
    else if (w->what == TT_WATCH_OWNER && at->thread)
        tt_owner_work(at->thread, (uint32_t)value, NULL, 0);
    else if (w->what == TT_WATCH_RELEASE && w->flags & TT_WATCH_COUNTED)
        tt_held_release_last(at, w->space, value);
    else if (w->what == TT_WATCH_RELEASE)
        release_now(at, w, value);
}
