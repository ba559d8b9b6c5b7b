/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Processes begin, become others and end. Start: forked, executed. */
#ifndef TT_KERNEL_PROCESS_BPF_H
#define TT_KERNEL_PROCESS_BPF_H

#include "stack.bpf.h"

SEC("raw_tp/sched_process_fork")
int forked(struct bpf_raw_tracepoint_args *ctx)
{
    struct task_struct *child = (struct task_struct *)ctx->args[1];
    int parent = slot_here();
    if (parent < 0 || !READ(shared.follow))
        return 0;
    __u32 pid = (__u32)BPF_CORE_READ(child, pid), tgid = (__u32)BPF_CORE_READ(child, tgid);
    if (pid != tgid) /* a thread */
        return 0;
    int slot = take_slot(pid, -1);
    if (slot >= 0)
        tell(HEAD(slot, TT_KERNEL_FORK, 0), pid, (__u32)parent, 0, 0);
    return 0;
}

SEC("raw_tp/sched_process_exec")
int executed(struct bpf_raw_tracepoint_args *ctx)
{
    int before = slot_here();
    if (before < 0)
        return 0;
    __u32 pid = (__u32)(bpf_get_current_pid_tgid() >> 32);
    struct linux_binprm *bprm = (struct linux_binprm *)ctx->args[2];
    int slot = take_slot(pid, before);
    if (slot < 0)
        return 0;
    struct tt_kernel_exec *e = bpf_ringbuf_reserve(&ring, sizeof *e, 0);
    if (!e) {
        __sync_fetch_and_add(&shared.lost_slots, 1);
        return 0;
    }
    const struct tt_kernel_event head = {.what = TT_KERNEL_EXEC,
                                         .slot = (__u32)slot,
                                         .value = {pid, (__u32)before, (__u32)ctx->args[1] != pid}};
    fill(&e->event, &head);
    if (bpf_probe_read_kernel_str(e->path, sizeof e->path, BPF_CORE_READ(bprm, filename)) < 0)
        e->path[0] = 0;
    bpf_ringbuf_submit(e, BPF_RB_FORCE_WAKEUP); /* it may not run for long */
    return 0;
}

/* A thread that ends by itself. Those that go with their process are what it still had. */
#define SIGNAL_GROUP_EXIT 4
SEC("raw_tp/sched_process_exit")
int exited(struct bpf_raw_tracepoint_args *ctx)
{
    struct task_struct *task = (struct task_struct *)ctx->args[0];
    __u64 id = bpf_get_current_pid_tgid();
    int slot = slot_of((__u32)(id >> 32));
    if (slot >= 0 && (__u32)id != (__u32)(id >> 32) &&
        !(BPF_CORE_READ(task, signal, flags) & SIGNAL_GROUP_EXIT))
        tell(HEAD(slot, TT_KERNEL_RELEASE, TT_KERNEL_THREAD), (__u32)id, 0, 0, 0);
    return 0;
}

#endif
