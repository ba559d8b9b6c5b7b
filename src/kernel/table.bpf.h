/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The table of descriptors, which the kernel side keeps alone: what is open, since when, from which
 * site and for whom; births and deaths by site. A close is seen when it has happened and may be
 * told late, when another thread has the same number again: a descriptor that comes where a live
 * one is notes that this close is owed. Start: acquired, take_fd. */
#ifndef TT_KERNEL_TABLE_BPF_H
#define TT_KERNEL_TABLE_BPF_H

#include "stack.bpf.h"

/* Descriptors beyond the table: slot << 32 | fd to entry. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, TT_KERNEL_FAR);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, __u64);
    __type(value, __u64);
} far SEC(".maps");

/* A unit that the table had is gone. A pending one is counted by the loader, which will miss it. */
static __always_inline void died(__u64 entry)
{
    __u32 site = (__u32)(entry >> 44);
    if (site == TT_KERNEL_PENDING || site >= TT_KERNEL_SITES)
        return;
    __u32 bin = tt_kernel_bin((READ(shared.tick) - (__u32)entry) & 0xffffff);
    if (bin < TT_KERNEL_BINS)
        __sync_fetch_and_add(&shared.count[site & (TT_KERNEL_SITES - 1)].deaths[bin], 1);
}

/* What belongs to a descriptor goes with it. */
__noinline int end_word(__u32 slot, __u32 fd, __u32 keep)
{
    __u32 w = __sync_lock_test_and_set(word_of(slot, fd), keep);
    end_owner(w & TT_KERNEL_OWNER_ID);
    if (w & TT_KERNEL_HAS_PORT)
        tell(HEAD(slot, TT_KERNEL_RELEASE, TT_KERNEL_PORT), fd, 0, 0, 0);
    return 0;
}

#define OVER 0x100 /* beside the kind: in the place of a live one, which is closed by it */
#define MET 0x200  /* the word is its own already */

/* A descriptor comes where one is that is not closed as far as is known: its close is to be told
 * yet, by another thread, and must not take the new one. */
static __always_inline void displace(__u32 slot, __u32 fd, __u64 entry, __u32 kind)
{
    __u32 w = READ(*word_of(slot, fd));
    int owed = !(kind & OVER) && (entry || (w & TT_KERNEL_OLD));
    end_word(slot, fd, owed ? TT_KERNEL_CLOSE_OWED : 0);
}

static __always_inline void put_fd(__u32 slot, __u32 fd, __u64 entry, __u32 kind)
{
    __u64 old = 0;
    slot &= TT_KERNEL_SLOTS - 1;
    if (fd < TT_KERNEL_FDS) {
        __u64 *at = &shared.fd[slot * TT_KERNEL_FDS + (fd & (TT_KERNEL_FDS - 1))];
        old = READ(*at);
        if (!(kind & MET) && (old || READ(*word_of(slot, fd))))
            displace(slot, fd, old, kind);
        if ((kind & 0xff) == TT_KERNEL_SOCKET)
            __sync_fetch_and_or(word_of(slot, fd), TT_KERNEL_IS_SOCKET);
        old = __sync_lock_test_and_set(at, entry);
    } else {
        __u64 key = (__u64)slot << 32 | fd, *at = bpf_map_lookup_elem(&far, &key);
        if (at)
            old = __sync_lock_test_and_set(at, entry);
        else if (bpf_map_update_elem(&far, &key, &entry, BPF_ANY))
            __sync_fetch_and_add(&shared.lost_far, 1);
    }
    if (fd >= READ(shared.slot[slot].high))
        shared.slot[slot].high = fd + 1;
    if (old)
        died(old);
}

/* A descriptor with a word is closed. Not 0: that was told late, and the number is another's by
 * now. */
__noinline int close_word(__u32 slot, __u32 fd)
{
    __u32 w = READ(*word_of(slot, fd));
    if ((w & TT_KERNEL_CLOSE_OWED) && file_of(fd)) {
        __sync_fetch_and_and(word_of(slot, fd), ~TT_KERNEL_CLOSE_OWED);
        return 1;
    }
    return end_word(slot, fd, 0);
}

static __always_inline void take_fd(__u32 slot, __u32 fd)
{
    __u64 old = 0;
    slot &= TT_KERNEL_SLOTS - 1;
    if (fd < TT_KERNEL_FDS) {
        __u64 *at = &shared.fd[slot * TT_KERNEL_FDS + (fd & (TT_KERNEL_FDS - 1))];
        if (READ(*word_of(slot, fd)) && close_word(slot, fd))
            return;
        if (READ(*at))
            old = __sync_lock_test_and_set(at, 0);
    } else {
        __u64 key = (__u64)slot << 32 | fd, *at = bpf_map_lookup_elem(&far, &key);
        if (at) {
            old = __sync_lock_test_and_set(at, 0);
            bpf_map_delete_elem(&far, &key);
        }
    }
    if (old)
        died(old);
    else
        __sync_fetch_and_add(&shared.foreign, 1);
}

/* The same as a function of its own, for all but the most frequent callers. */
__noinline int put_one(__u32 slot, __u32 fd, __u64 entry, __u32 kind)
{
    put_fd(slot, fd, entry, kind);
    return 0;
}

/* A descriptor came where the stack is not known: pending until the loader has unwound it. */
__noinline int acquired_raw(__u32 slot, __u32 kind, __u32 n, __u32 first, __u32 second)
{
    struct pt_regs *regs = regs_here();
    __u32 tick = READ(shared.tick);
    struct tt_kernel_event e = {
        .what = TT_KERNEL_OPEN,
        .slot = slot,
        .kind = kind & 0xff,
        .owner = owner_here(),
        .n = n,
        .serial = __sync_fetch_and_add(&shared.serial, 2) & 0xfffff,
        .value = {first, second},
        .ip = regs->ip,
        .sp = regs->sp,
        .bp = regs->bp,
        .di = regs->di,
    };
    put_one(slot, first, TT_KERNEL_ENTRY(TT_KERNEL_PENDING, e.serial, tick), kind);
    if (n > 1)
        put_one(slot, second, TT_KERNEL_ENTRY(TT_KERNEL_PENDING, e.serial + 1, tick), kind);
    if (e.owner)
        __sync_fetch_and_add(&shared.owner[e.owner & (TT_KERNEL_OWNERS - 1)].births, n);
    if (send(&e))
        return 0;
    __u32 site =
        READ(shared.slot[slot & (TT_KERNEL_SLOTS - 1)].unknown[e.kind == TT_KERNEL_SOCKET]);
    put_one(slot, first, TT_KERNEL_ENTRY(site, e.owner, tick), MET);
    if (n > 1)
        put_one(slot, second, TT_KERNEL_ENTRY(site, e.owner, tick), MET);
    __sync_fetch_and_add(&shared.lost_stacks, n);
    __sync_fetch_and_add(&shared.count[site & (TT_KERNEL_SITES - 1)].births, n);
    return 0;
}

/* One or two descriptors came to be by this call. kind: with OVER or MET. */
static __always_inline int acquired_at(const struct pt_regs *regs, __u32 slot, __u32 kind, __u32 n,
                                       __u32 first, __u32 second)
{
    __u32 site = known_site(regs->ip, regs->sp, regs->bp, (__u64)slot << 8 | (kind & 0xff));
    if (!site)
        return acquired_raw(slot, kind, n, first, second);
    __u32 owner = owner_here();
    __u64 entry = TT_KERNEL_ENTRY(site, owner, READ(shared.tick));
    put_fd(slot, first, entry, kind);
    if (n > 1)
        put_one(slot, second, entry, kind);
    if (owner)
        __sync_fetch_and_add(&shared.owner[owner & (TT_KERNEL_OWNERS - 1)].births, n);
    __sync_fetch_and_add(&shared.count[site & (TT_KERNEL_SITES - 1)].births, n);
    return 0;
}

/* The same as a function of its own, for all but the most frequent callers. */
__noinline int acquired(__u32 slot, __u32 kind, __u32 n, __u32 first, __u32 second)
{
    return acquired_at(regs_here(), slot, kind, n, first, second);
}

#endif
