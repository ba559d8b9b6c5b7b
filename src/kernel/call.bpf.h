/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Calls of probed functions that are under way. What a thread does while it starts another one or
 * opens a semaphore is the C library's: the stack it maps, the clone. Start: calls, inside_call. */
#ifndef TT_KERNEL_CALL_BPF_H
#define TT_KERNEL_CALL_BPF_H

#include "stack.bpf.h"

/* By thread and the place of the return address; sp 0: the thread is in one of these. */
struct call {
    __u64 thread, sp;
};
/* The argument that matters, and when the call began (ns). */
struct kept {
    __u64 value, since;
};
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 8192);
    __type(key, struct call);
    __type(value, struct kept);
} calls SEC(".maps");

static __always_inline void go_inside(__u64 thread, int begins)
{
    struct call key = {thread, 0};
    struct kept kept = {0, 0};
    if (begins)
        bpf_map_update_elem(&calls, &key, &kept, BPF_ANY);
    else
        bpf_map_delete_elem(&calls, &key);
}

static __always_inline int inside_call(void)
{
    struct call key = {bpf_get_current_pid_tgid(), 0};
    return bpf_map_lookup_elem(&calls, &key) != NULL;
}

#endif
