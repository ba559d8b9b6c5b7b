/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* System calls that acquire or release anything but descriptors: a record each. What another thread
 * may have got again before a release was told, the loader sorts out (spans.c); ids of the other
 * kinds are not given out again at once. Start: map. */
#ifndef TT_KERNEL_UNIT_BPF_H
#define TT_KERNEL_UNIT_BPF_H

#include "call.bpf.h"

#define FAILED(ret) ((ret) < 0 && (ret) >= -4095)
#define PROT_EXEC 4
#define MAP_FIXED 0x10
#define SHM_REMAP 040000
EXIT(map)
{
    int slot = slot_here();
    if (slot < 0 || FAILED(ctx->ret) || inside_call())
        return 0;
    struct pt_regs *regs = regs_here();
    report(HEAD(slot, regs->dx & PROT_EXEC ? TT_KERNEL_CODE : TT_KERNEL_MAP, TT_KERNEL_MAPPING),
           (__u64)ctx->ret, regs->si, regs->r10 & MAP_FIXED, 0);
    return 0;
}

EXIT(unmap)
{
    int slot = slot_here();
    if (slot >= 0 && !ctx->ret)
        tell(HEAD(slot, TT_KERNEL_UNMAP, TT_KERNEL_MAPPING), regs_here()->di, regs_here()->si, 0,
             0);
    return 0;
}

/* Code that is written first and made executable then, as compilers at run time do. */
EXIT(protect)
{
    int slot = slot_here();
    if (slot >= 0 && !ctx->ret && (regs_here()->dx & PROT_EXEC))
        tell(HEAD(slot, TT_KERNEL_PROTECT, TT_KERNEL_MAPPING), regs_here()->di, regs_here()->si, 0,
             0);
    return 0;
}

EXIT(remap)
{
    int slot = slot_here();
    if (slot < 0 || FAILED(ctx->ret))
        return 0;
    struct pt_regs *regs = regs_here();
    report(HEAD(slot, TT_KERNEL_REMAP, TT_KERNEL_MAPPING), (__u64)ctx->ret, regs->dx, regs->di,
           regs->si);
    return 0;
}

EXIT(grow)
{
    int slot = slot_here();
    if (slot >= 0)
        report(HEAD(slot, TT_KERNEL_BRK, TT_KERNEL_MAPPING), (__u64)ctx->ret, 0, 0, 0);
    return 0;
}

EXIT(map_segment)
{
    int slot = slot_here();
    if (slot >= 0 && !FAILED(ctx->ret)) /* the length is the segment's, which the loader looks up */
        report(HEAD(slot, TT_KERNEL_MAP, TT_KERNEL_MAPPING), (__u64)ctx->ret, 0,
               regs_here()->dx & SHM_REMAP, 0);
    return 0;
}

EXIT(unmap_segment)
{
    int slot = slot_here();
    if (slot >= 0 && !ctx->ret)
        tell(HEAD(slot, TT_KERNEL_UNMAP, TT_KERNEL_MAPPING), regs_here()->di, 0, 0, 0);
    return 0;
}

#define CLONE_THREAD 0x10000
/* In the parent; the child returns 0. A thread that pthread_create starts is told by that. */
static __always_inline int cloned(int slot, __u64 flags, long ret)
{
    __u32 kind = flags & CLONE_THREAD ? TT_KERNEL_THREAD : TT_KERNEL_CHILD;
    if (kind == TT_KERNEL_THREAD && inside_call())
        return 0;
    report(HEAD(slot, TT_KERNEL_ACQUIRE, kind), (__u32)ret, 0, 0, 0);
    return 0;
}
EXIT(fork_clone)
{
    int slot = slot_here();
    return slot < 0 || ctx->ret <= 0 ? 0 : cloned(slot, regs_here()->di, ctx->ret);
}
EXIT(fork_clone3)
{
    int slot = slot_here();
    __u64 flags = 0;
    if (slot < 0 || ctx->ret <= 0 ||
        bpf_probe_read_user(&flags, sizeof flags, (void *)regs_here()->di))
        return 0;
    return cloned(slot, flags, ctx->ret);
}
EXIT(fork_plain)
{
    int slot = slot_here();
    return slot < 0 || ctx->ret <= 0 ? 0 : cloned(slot, 0, ctx->ret);
}

/* A child that was waited for and is gone, not one that was only stopped or let go on. */
EXIT(reap)
{
    int slot = slot_here();
    __u32 status;
    if (slot < 0 || ctx->ret <= 0)
        return 0;
    if (!bpf_probe_read_user(&status, sizeof status, (void *)regs_here()->si) &&
        ((status & 0xff) == 0x7f || status == 0xffff))
        return 0;
    tell(HEAD(slot, TT_KERNEL_RELEASE, TT_KERNEL_CHILD), (__u32)ctx->ret, 0, 0, 0);
    return 0;
}

#define WNOWAIT 0x01000000
#define CLD_DUMPED 3 /* CLD_EXITED, CLD_KILLED, CLD_DUMPED: 1 to 3 */
EXIT(reap_by_id)
{
    int slot = slot_here();
    __s32 info[4]; /* signo, errno, code, and after a hole pid */
    __u32 pid;
    if (slot < 0 || ctx->ret || (regs_here()->r10 & WNOWAIT))
        return 0;
    __u64 at = regs_here()->dx;
    if (bpf_probe_read_user(info, sizeof info, (void *)at) ||
        bpf_probe_read_user(&pid, sizeof pid, (void *)(at + 16)) || !pid || info[2] < 1 ||
        info[2] > CLD_DUMPED)
        return 0;
    tell(HEAD(slot, TT_KERNEL_RELEASE, TT_KERNEL_CHILD), pid, 0, 0, 0);
    return 0;
}

/* A timer's number goes through a pointer. */
EXIT(make_timer)
{
    int slot = slot_here(), id;
    if (slot >= 0 && ctx->ret == 0 && !bpf_probe_read_user(&id, sizeof id, (void *)regs_here()->dx))
        report(HEAD(slot, TT_KERNEL_ACQUIRE, TT_KERNEL_TIMER), (__u32)id, 0, 0, 0);
    return 0;
}
EXIT(drop_timer)
{
    int slot = slot_here();
    if (slot >= 0 && !ctx->ret)
        tell(HEAD(slot, TT_KERNEL_RELEASE, TT_KERNEL_TIMER), (__u32)regs_here()->di, 0, 0, 0);
    return 0;
}

/* System V: a call that may have made one; the loader knows which it has seen. */
#define IPC_CREAT 01000
#define IPC_RMID 0
#define IPC_PRIVATE 0
static __always_inline int made(long ret, __u32 kind, __u64 key, __u64 flags)
{
    int slot = slot_here();
    if (slot >= 0 && ret >= 0 && ((__u32)key == IPC_PRIVATE || (flags & IPC_CREAT)))
        report(HEAD(slot, TT_KERNEL_ACQUIRE, kind), (__u64)ret, 0, 0, 0);
    return 0;
}
EXIT(make_shm)
{
    return made(ctx->ret, TT_KERNEL_SHM, regs_here()->di, regs_here()->dx);
}
EXIT(make_sem)
{
    return made(ctx->ret, TT_KERNEL_SEM, regs_here()->di, regs_here()->dx);
}
EXIT(make_msg)
{
    return made(ctx->ret, TT_KERNEL_MSG, regs_here()->di, regs_here()->si);
}

static __always_inline int dropped(long ret, __u64 id, __u64 command, __u32 kind)
{
    int slot = slot_here();
    if (slot >= 0 && !ret && (__u32)command == IPC_RMID)
        tell(HEAD(slot, TT_KERNEL_RELEASE, kind), (__u32)id, 0, 0, 0);
    return 0;
}
EXIT(drop_shm)
{
    return dropped(ctx->ret, regs_here()->di, regs_here()->si, TT_KERNEL_SHM);
}
EXIT(drop_sem)
{
    return dropped(ctx->ret, regs_here()->di, regs_here()->dx, TT_KERNEL_SEM);
}
EXIT(drop_msg)
{
    return dropped(ctx->ret, regs_here()->di, regs_here()->si, TT_KERNEL_MSG);
}

#endif
