/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* On whose behalf a thread works: the peer of the socket that it read from last or accepted, until
 * it waits for whatever comes next. A peer is met once; who it is, the kernel's own socket tells
 * there and then, since it may be gone when anybody else asks. Start: owner_here, work_for, meet.
 */
#ifndef TT_KERNEL_OWNER_BPF_H
#define TT_KERNEL_OWNER_BPF_H

#include "image.bpf.h"

/* The owner of the running thread, 0: it works for nobody. */
static __always_inline __u32 owner_here(void)
{
    if (!READ(shared.owner_count))
        return 0;
    __u32 tid = (__u32)bpf_get_current_pid_tgid();
    __u64 w = READ(shared.working[tid & (TT_KERNEL_WORKING - 1)]);
    __u32 id = (__u32)w;
    const struct tt_kernel_owner *row = &shared.owner[id & (TT_KERNEL_OWNERS - 1)];
    if ((__u32)(w >> 32) != tid || !id || READ(row->id) != id || READ(row->end))
        return 0;
    return id;
}

static __always_inline void set_owner(__u32 id)
{
    __u32 tid = (__u32)bpf_get_current_pid_tgid();
    __u64 *at = &shared.working[tid & (TT_KERNEL_WORKING - 1)];
    if (id || (__u32)(READ(*at) >> 32) == tid)
        *(volatile __u64 *)at = (__u64)tid << 32 | id;
    struct tt_kernel_owner *row = &shared.owner[id & (TT_KERNEL_OWNERS - 1)];
    if (id)
        row->last = READ(shared.tick);
}

static __always_inline struct file *file_of(__u32 fd)
{
    struct task_struct *task = bpf_get_current_task_btf();
    struct file **files = BPF_CORE_READ(task, files, fdt, fd), *file = NULL;
    bpf_probe_read_kernel(&file, sizeof file, files + fd);
    return file;
}

#define S_IFMT 0170000
#define S_IFSOCK 0140000
#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
/* Whom a socket is connected with, as getpeername(2) and SO_PEERCRED (unix(7)) tell. */
static __always_inline void look_at_peer(struct tt_kernel_owner *row, __u32 fd)
{
    struct file *file = file_of(fd);
    if (!file || (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
        return;
    struct socket *socket = BPF_CORE_READ(file, private_data);
    struct sock *sk = BPF_CORE_READ(socket, sk);
    __u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);
    __u16 port = BPF_CORE_READ(sk, __sk_common.skc_dport);
    if (family == AF_UNIX) {
        struct pid *pid = BPF_CORE_READ(sk, sk_peer_pid);
        row->pid = pid ? (__u32)BPF_CORE_READ(pid, numbers[0].nr) : 0;
        row->uid = pid ? BPF_CORE_READ(sk, sk_peer_cred, euid.val) : 0;
        return;
    }
    if (!port || (family != AF_INET && family != AF_INET6))
        return;
    row->address[0] = family | (__u32)port << 16;
    if (family == AF_INET) {
        row->address[1] = BPF_CORE_READ(sk, __sk_common.skc_daddr);
        row->address_bytes = 16;
    } else {
        __u32 to[4];
        BPF_CORE_READ_INTO(&to, sk, __sk_common.skc_v6_daddr);
        for (int i = 0; i < 4; i++)
            row->address[2 + i] = to[i];
        row->address_bytes = 28;
    }
}

#define ROWS_TRIED 16
/* A new owner, its row empty but for what is given; 0: all rows that were tried are in use. */
__noinline __u32 new_owner(__u32 slot, __u32 fd, __u32 how)
{
    for (int i = 0; i < ROWS_TRIED; i++) {
        __u32 id = (__sync_fetch_and_add(&shared.owner_count, 1) + 1) & TT_KERNEL_OWNER_ID;
        struct tt_kernel_owner *row = &shared.owner[id & (TT_KERNEL_OWNERS - 1)];
        if (!id || (READ(row->id) && !READ(row->end) && row->how == TT_KERNEL_CONNECTION))
            continue;
        *(volatile __u32 *)&row->id = 0;
        row->fd = fd;
        row->slot = (__u16)slot;
        row->how = (__u8)how;
        row->begin = row->last = READ(shared.tick);
        row->end = row->births = row->pid = row->uid = 0;
        row->address_bytes = 0;
        for (int k = 0; k < 7; k++)
            row->address[k] = 0;
        return id;
    }
    __sync_fetch_and_add(&shared.lost_owners, 1);
    return 0;
}

/* The peer of a socket that nobody read from so far. */
__noinline __u32 meet(__u32 slot, __u32 fd)
{
    __u32 id = new_owner(slot, fd, TT_KERNEL_CONNECTION);
    struct tt_kernel_owner *row = &shared.owner[id & (TT_KERNEL_OWNERS - 1)];
    if (!id)
        return 0;
    look_at_peer(row, fd);
    *(volatile __u32 *)&row->id = id;
    return id;
}

static __always_inline void end_owner(__u32 id)
{
    struct tt_kernel_owner *row = &shared.owner[id & (TT_KERNEL_OWNERS - 1)];
    if (id && READ(row->id) == id && !READ(row->end))
        row->end = READ(shared.tick) + 1;
}

static __always_inline __u32 *word_of(__u32 slot, __u32 fd)
{
    return &shared
                .word[(slot & (TT_KERNEL_SLOTS - 1)) * TT_KERNEL_FDS + (fd & (TT_KERNEL_FDS - 1))];
}

/* The thread reads from a descriptor, which may be a socket. */
__noinline int work_for(__u32 slot, __u32 fd)
{
    if (fd >= TT_KERNEL_FDS)
        return 0;
    __u32 *word = word_of(slot, fd), w = READ(*word), id = w & TT_KERNEL_OWNER_ID;
    if (!(w & TT_KERNEL_IS_SOCKET))
        return 0;
    if (!id) {
        id = meet(slot, fd);
        if (id && __sync_val_compare_and_swap(word, w, w | id) != w) {
            end_owner(id); /* another thread has met it */
            id = READ(*word) & TT_KERNEL_OWNER_ID;
        }
    }
    set_owner(id);
    return 0;
}

/* The same for the descriptor in argument 0; most often the thread works for that peer already. */
static __always_inline int work_here(const struct here *here)
{
    __u32 fd = (__u32)here->regs->di;
    if (fd >= TT_KERNEL_FDS)
        return 0;
    __u32 w = READ(*word_of(here->slot, fd)), id = w & TT_KERNEL_OWNER_ID;
    struct tt_kernel_owner *row = &shared.owner[id & (TT_KERNEL_OWNERS - 1)];
    if (!(w & TT_KERNEL_IS_SOCKET))
        return 0;
    if (!id ||
        READ(shared.working[here->tid & (TT_KERNEL_WORKING - 1)]) != ((__u64)here->tid << 32 | id))
        return work_for(here->slot, fd);
    if (READ(row->last) != READ(shared.tick))
        row->last = READ(shared.tick);
    return 0;
}

static __always_inline __u32 set_of(__u32 slot, __u32 fd, const __u32 *address)
{
    __u64 hash = (__u64)slot << 32 | fd;
    for (int i = 0; i < 7; i++)
        hash = (hash ^ address[i]) * 0x9e3779b97f4a7c15ULL;
    return (__u32)(hash >> 40) & (TT_KERNEL_SENDERS - TT_KERNEL_SENDER_WAYS);
}

/* What the thread received came from this address. */
__noinline int work_for_sender(__u32 slot, __u32 fd, __u64 at, __u32 n)
{
    __u32 address[7] = {0}, oldest = 0, oldest_last = 0;
    if (!n)
        return 0;
    n = n < sizeof address ? n : sizeof address;
    if (bpf_probe_read_user(address, n, (void *)at))
        return 0;
    __u32 set = set_of(slot, fd, address);
    for (__u32 way = 0; way < TT_KERNEL_SENDER_WAYS; way++) {
        __u32 id = READ(shared.sender[(set + way) & (TT_KERNEL_SENDERS - 1)]);
        const struct tt_kernel_owner *row = &shared.owner[id & (TT_KERNEL_OWNERS - 1)];
        __u32 differ = !id || READ(row->id) != id || row->slot != slot || row->fd != fd;
        for (int i = 0; i < 7; i++)
            differ |= row->address[i] ^ address[i];
        if (!differ) {
            set_owner(id);
            return 0;
        }
        __u32 last = id ? row->last + 1 : 0;
        if (way == 0 || last < oldest_last) {
            oldest = way;
            oldest_last = last;
        }
    }
    __u32 id = new_owner(slot, fd, TT_KERNEL_SENDER);
    struct tt_kernel_owner *row = &shared.owner[id & (TT_KERNEL_OWNERS - 1)];
    if (!id)
        return 0;
    for (int i = 0; i < 7; i++)
        row->address[i] = address[i];
    row->address_bytes = (__u8)n;
    *(volatile __u32 *)&row->id = id;
    shared.sender[(set + oldest) & (TT_KERNEL_SENDERS - 1)] = id;
    set_owner(id);
    return 0;
}

#endif
