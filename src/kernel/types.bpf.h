/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The few kernel structures that the programs read, each with only the members it needs: where
 * these really lie is filled in when the object is loaded, from the running kernel's own types
 * (preserve_access_index; "CO-RE"). So nothing is generated from the machine that builds. */
#ifndef TT_KERNEL_TYPES_BPF_H
#define TT_KERNEL_TYPES_BPF_H

#include <linux/types.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct signal_struct {
    unsigned int flags;
};
struct upid {
    int nr;
};
struct pid {
    struct upid numbers[1];
};
struct cred {
    struct {
        unsigned int val;
    } euid;
};
struct in6_addr {
    __u32 word[4];
};
struct sock_common {
    __u32 skc_daddr;
    __u16 skc_dport, skc_family;
    struct in6_addr skc_v6_daddr;
};
struct sock {
    struct sock_common __sk_common;
    struct pid *sk_peer_pid;
    const struct cred *sk_peer_cred;
};
struct socket {
    struct sock *sk;
};
struct inode {
    __u16 i_mode;
};
struct file {
    void *private_data;
    struct inode *f_inode;
};
struct fdtable {
    struct file **fd;
};
struct files_struct {
    struct fdtable *fdt;
};
struct return_instance { /* a call whose return is probed */
    struct return_instance *next;
    unsigned long stack, orig_ret_vaddr;
};
struct uprobe_task {
    struct return_instance *return_instances;
};
struct task_struct {
    int pid, tgid;
    struct uprobe_task *utask;
    struct signal_struct *signal;
    struct files_struct *files;
};
struct linux_binprm {
    const char *filename;
};
struct pt_regs { /* x86-64 */
    unsigned long bp, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, sp;
};
#pragma clang attribute pop

/* Records of the tracepoints syscalls:sys_exit_*; their layout is given by
 * /sys/kernel/tracing/events/syscalls/.../format. */
struct tt_sys_exit {
    __u64 common;
    long nr;
    long ret;
};

#endif
