/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The memory that both sides share, and whom a program concerns: each process that is recorded has
 * a slot, and every program first asks for it; that is all it does for any other process. Start:
 * slot_here. */
#ifndef TT_KERNEL_IMAGE_BPF_H
#define TT_KERNEL_IMAGE_BPF_H

#include <linux/bpf.h>

#include "types.bpf.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "event.h"

struct tt_kernel_shared shared;

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, TT_KERNEL_RING);
} ring SEC(".maps");

/* Numbers of slots that are free; the loader puts in what it has cleared. */
struct {
    __uint(type, BPF_MAP_TYPE_QUEUE);
    __uint(max_entries, TT_KERNEL_SLOTS);
    __type(value, __u32);
} slots SEC(".maps");

/* A program for one or several tracepoints; which, says the loader's table. */
#define EXIT(name) SEC("tp") int name(struct tt_sys_exit *ctx)

#define READ(x) (*(volatile typeof(x) *)&(x))

static __always_inline int slot_of(__u32 pid)
{
    for (__u32 i = 0; i < TT_KERNEL_PROBES; i++) {
        __u64 e = READ(shared.target[(pid + i) & (TT_KERNEL_TARGETS - 1)]);
        if ((__u32)(e >> 32) == pid)
            return (int)(((__u32)e - 1) & (TT_KERNEL_SLOTS - 1));
        if (!e)
            break;
    }
    return -1;
}

static __always_inline int slot_here(void)
{
    return slot_of((__u32)(bpf_get_current_pid_tgid() >> 32));
}

static __always_inline struct pt_regs *regs_here(void)
{
    return (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());
}

/* All with one call of the kernel's less, for the most frequent programs: each is a twentieth of
 * what an open costs. False: not one of those recorded. */
struct here {
    __u32 slot, tid;
    struct pt_regs *regs;
};
static __always_inline int look_here(struct here *here)
{
    struct task_struct *task = bpf_get_current_task_btf();
    int found = slot_of((__u32)task->tgid);
    if (found < 0)
        return 0;
    here->slot = (__u32)found;
    here->tid = (__u32)task->pid;
    here->regs = (struct pt_regs *)bpf_task_pt_regs(task);
    return 1;
}

/* Gives a process a slot in place of the one it had (0: it had none). -1: there is none left. */
static __always_inline int take_slot(__u32 pid, int before)
{
    __u32 slot;
    if (bpf_map_pop_elem(&slots, &slot)) {
        __sync_fetch_and_add(&shared.lost_slots, 1);
        return -1;
    }
    for (__u32 i = 0; i < TT_KERNEL_PROBES; i++) {
        __u64 *place = &shared.target[(pid + i) & (TT_KERNEL_TARGETS - 1)];
        __u64 e = READ(*place);
        if (before >= 0 ? (__u32)(e >> 32) != pid : e > 1)
            continue;
        if (__sync_val_compare_and_swap(place, e, (__u64)pid << 32 | (slot + 1)) == e) {
            shared.slot[slot & (TT_KERNEL_SLOTS - 1)].pid = pid;
            return (int)slot;
        }
    }
    bpf_map_push_elem(&slots, &slot, 0);
    __sync_fetch_and_add(&shared.lost_slots, 1);
    return -1;
}

#endif
