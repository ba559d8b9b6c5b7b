/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* System calls that make, change or close descriptors, and what sockets do besides. Acquisitions
 * and releases are looked at when the call returns, the arguments still standing in the registers
 * that the caller left them in. Start: open_fd, close_fd. */
#ifndef TT_KERNEL_DESCRIPTOR_BPF_H
#define TT_KERNEL_DESCRIPTOR_BPF_H

#include "table.bpf.h"

/* Calls that return a new descriptor. */
static __always_inline int opened(long ret, __u32 kind)
{
    struct here here;
    if (ret >= 0 && look_here(&here))
        acquired_at(here.regs, here.slot, kind, 1, (__u32)ret, 0);
    return 0;
}
EXIT(open_fd)
{
    return opened(ctx->ret, TT_KERNEL_FD);
}
EXIT(open_socket)
{
    return opened(ctx->ret, TT_KERNEL_SOCKET);
}
EXIT(open_accepted)
{
    int slot = slot_here();
    __u32 fd = (__u32)ctx->ret;
    if (slot < 0 || ctx->ret < 0)
        return 0;
    if (fd >= TT_KERNEL_FDS)
        return acquired((__u32)slot, TT_KERNEL_SOCKET, 1, fd, 0);
    displace((__u32)slot, fd,
             READ(shared.fd[((__u32)slot & (TT_KERNEL_SLOTS - 1)) * TT_KERNEL_FDS + fd]), 0);
    __sync_fetch_and_or(word_of((__u32)slot, fd), TT_KERNEL_IS_SOCKET);
    work_for((__u32)slot, fd); /* the new connection is its own owner's */
    return acquired((__u32)slot, TT_KERNEL_SOCKET | MET, 1, fd, 0);
}
EXIT(open_queue)
{
    return opened(ctx->ret, TT_KERNEL_MQ);
}

/* Calls that store two through a pointer. */
static __always_inline int paired(int slot, __u32 kind, __u64 at)
{
    __u32 pair[2];
    if (!bpf_probe_read_user(pair, sizeof pair, (void *)at))
        acquired((__u32)slot, kind, 2, pair[0], pair[1]);
    return 0;
}
EXIT(open_pipe)
{
    int slot = slot_here();
    return slot < 0 || ctx->ret ? 0 : paired(slot, TT_KERNEL_FD, regs_here()->di);
}
EXIT(open_socketpair)
{
    int slot = slot_here();
    return slot < 0 || ctx->ret ? 0 : paired(slot, TT_KERNEL_SOCKET, regs_here()->r10);
}

/* What a descriptor is a duplicate of. */
static __always_inline __u32 kind_of(__u32 slot, __u32 fd)
{
    __u64 entry = 0;
    slot &= TT_KERNEL_SLOTS - 1;
    if (fd < TT_KERNEL_FDS) {
        if (READ(*word_of(slot, fd)) & TT_KERNEL_IS_SOCKET)
            return TT_KERNEL_SOCKET;
        entry = READ(shared.fd[slot * TT_KERNEL_FDS + (fd & (TT_KERNEL_FDS - 1))]);
    } else {
        __u64 key = (__u64)slot << 32 | fd, *at = bpf_map_lookup_elem(&far, &key);
        if (at)
            entry = READ(*at);
    }
    __u32 site = (__u32)(entry >> 44);
    return site < TT_KERNEL_SITES ? READ(shared.count[site & (TT_KERNEL_SITES - 1)].kind)
                                  : TT_KERNEL_FD;
}
EXIT(open_dup)
{
    int slot = slot_here();
    if (slot >= 0 && ctx->ret >= 0)
        acquired((__u32)slot, kind_of((__u32)slot, (__u32)regs_here()->di), 1, (__u32)ctx->ret, 0);
    return 0;
}

/* Onto the same number nothing happens; onto a live one, that is closed by it. */
EXIT(open_dup2)
{
    int slot = slot_here();
    if (slot >= 0 && ctx->ret >= 0 && regs_here()->di != regs_here()->si)
        acquired((__u32)slot, kind_of((__u32)slot, (__u32)regs_here()->di) | OVER, 1,
                 (__u32)ctx->ret, 0);
    return 0;
}

#define F_DUPFD 0
#define F_DUPFD_CLOEXEC 1030
EXIT(open_fcntl)
{
    int slot = slot_here();
    if (slot < 0 || ctx->ret < 0)
        return 0;
    __u64 command = regs_here()->si;
    if ((__u32)command == F_DUPFD || (__u32)command == F_DUPFD_CLOEXEC)
        acquired((__u32)slot, kind_of((__u32)slot, (__u32)regs_here()->di), 1, (__u32)ctx->ret, 0);
    return 0;
}

/* Changes an existing one when it is given (not -1). */
EXIT(open_signalfd)
{
    int slot = slot_here();
    if (slot >= 0 && ctx->ret >= 0 && (int)regs_here()->di == -1)
        acquired((__u32)slot, TT_KERNEL_FD, 1, (__u32)ctx->ret, 0);
    return 0;
}

/* Whatever close returns, the number is free again (close(2)), unless it was none. */
#define EBADF 9
EXIT(close_fd)
{
    struct here here;
    if (ctx->ret != -EBADF && look_here(&here))
        take_fd(here.slot, (__u32)here.regs->di);
    return 0;
}

struct range {
    __u32 slot, first;
};
static long close_one(__u32 i, void *arg)
{
    struct range *r = arg;
    take_fd(r->slot, r->first + i);
    return 0;
}

#define CLOSE_RANGE_CLOEXEC 4
EXIT(close_fds)
{
    int slot = slot_here();
    if (slot < 0 || ctx->ret || (regs_here()->dx & CLOSE_RANGE_CLOEXEC))
        return 0;
    struct range r = {(__u32)slot & (TT_KERNEL_SLOTS - 1), (__u32)regs_here()->di};
    __u32 high = READ(shared.slot[r.slot].high), last = (__u32)regs_here()->si;
    __u32 end = last < high ? last + 1 : high;
    if (r.first < end)
        bpf_loop(end - r.first, close_one, &r, 0);
    return 0;
}

/* Descriptors that came in a message (cmsg(3)). The kernel leaves in msg_controllen how much it
 * wrote; a message with more parts or descriptors than are looked at here is seen in /proc. */
#define PARTS 4
#define DESCRIPTORS 16
#define SOL_SOCKET 1
#define SCM_RIGHTS 1
struct message { /* struct msghdr */
    __u64 name;
    __u32 name_bytes, hole;
    __u64 parts, n_parts;
};
struct control {
    __u64 at, bytes;
};
struct part {
    __u64 bytes;
    __s32 level, type;
};
EXIT(open_passed)
{
    int slot = slot_here();
    struct message message;
    struct control control;
    struct part part;
    if (slot < 0 || ctx->ret < 0 ||
        bpf_probe_read_user(&message, sizeof message, (void *)regs_here()->si))
        return 0;
    if (message.name && message.name_bytes)
        work_for_sender((__u32)slot, (__u32)regs_here()->di, message.name, message.name_bytes);
    else
        work_for((__u32)slot, (__u32)regs_here()->di);
    if (bpf_probe_read_user(&control, sizeof control, (void *)(regs_here()->si + 32)) ||
        !control.at)
        return 0;
    for (int i = 0; i < PARTS; i++) {
        if (control.bytes < sizeof part ||
            bpf_probe_read_user(&part, sizeof part, (void *)control.at) ||
            part.bytes < sizeof part || part.bytes > control.bytes)
            break;
        for (int k = 0; k < DESCRIPTORS; k++) {
            __u64 off = sizeof part + 4 * (__u64)k;
            __u32 fd;
            if (part.level != SOL_SOCKET || part.type != SCM_RIGHTS || off + 4 > part.bytes ||
                bpf_probe_read_user(&fd, sizeof fd, (void *)(control.at + off)))
                break;
            acquired((__u32)slot, TT_KERNEL_FD, 1, fd, 0);
        }
        __u64 step = (part.bytes + 7) & ~7ULL;
        if (step >= control.bytes)
            break;
        control.at += step;
        control.bytes -= step;
    }
    return 0;
}

/* ---- what belongs to them ---- */

/* bind and connect that return 0: the descriptor holds a local port from now on, once. */
static __always_inline int bound(long ret, int asked)
{
    int slot = slot_here();
    __u16 head[2]; /* family; port, in network order */
    if (slot < 0 || ret || regs_here()->dx < sizeof head ||
        bpf_probe_read_user(head, sizeof head, (void *)regs_here()->si) ||
        (head[0] != AF_INET && head[0] != AF_INET6))
        return 0;
    __u32 fd = (__u32)regs_here()->di;
    if (fd >= TT_KERNEL_FDS ||
        (__sync_fetch_and_or(word_of((__u32)slot, fd), TT_KERNEL_HAS_PORT) & TT_KERNEL_HAS_PORT))
        return 0;
    return report(HEAD(slot, TT_KERNEL_ACQUIRE, TT_KERNEL_PORT), fd,
                  asked ? __builtin_bswap16(head[1]) : 0, 0, 0);
}
EXIT(bind_port)
{
    return bound(ctx->ret, 1);
}
EXIT(connect_port)
{
    return bound(ctx->ret, 0);
}

/* Reading from a socket. Where the kernel has a tracepoint for that, no other read pays for it. */
EXIT(work_read)
{
    struct here here;
    return look_here(&here) ? work_here(&here) : 0;
}
#define NR_READ 0
#define NR_READV 19
SEC("raw_tp/sock_recv_length")
int work_receive(void *ctx)
{
    struct here here;
    if (!look_here(&here))
        return 0;
    __u64 nr = here.regs->orig_ax;
    return nr == NR_READ || nr == NR_READV ? work_here(&here) : 0;
}
EXIT(work_from)
{
    struct here here;
    __u32 n;
    if (!look_here(&here))
        return 0;
    struct pt_regs *regs = here.regs;
    if (!regs->r8 || !regs->r9)
        return work_here(&here);
    if (ctx->ret < 0 || bpf_probe_read_user(&n, sizeof n, (void *)regs->r9))
        return 0;
    return n ? work_for_sender(here.slot, (__u32)regs->di, regs->r8, n) : work_here(&here);
}
/* Waiting for whatever comes next. */
EXIT(idle)
{
    if (READ(shared.owner_count) && slot_here() >= 0)
        set_owner(0);
    return 0;
}

#endif
