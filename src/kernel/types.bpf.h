/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The few kernel structures that track.bpf.c reads, each with only the members it needs: where
 * these really lie is filled in when the object is loaded, from the running kernel's own types
 * (preserve_access_index; "CO-RE"). So nothing is generated from the machine that builds. */
#ifndef TT_KERNEL_TYPES_BPF_H
#define TT_KERNEL_TYPES_BPF_H

#include <linux/types.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct signal_struct {
    unsigned int flags;
};
struct task_struct {
    int pid, tgid;
    struct signal_struct *signal;
};
struct linux_binprm {
    const char *filename;
};
struct pt_regs { /* x86-64 */
    unsigned long bp, r10, r9, r8, ax, cx, dx, si, di, ip, sp;
};
#pragma clang attribute pop

/* Records of the tracepoints syscalls:sys_enter_* and sys_exit_*; their layout is given by
 * /sys/kernel/tracing/events/syscalls/.../format. */
struct tt_sys_enter {
    __u64 common;
    long nr;
    unsigned long arg[6];
};
struct tt_sys_exit {
    __u64 common;
    long nr;
    long ret;
};

#endif
