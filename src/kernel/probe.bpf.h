/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Probes at functions of the program: declared handles at entry and return, operations at the
 * entry. The cookie of a probe says what it is for. Start: handle_enter, count_call. */
#ifndef TT_KERNEL_PROBE_BPF_H
#define TT_KERNEL_PROBE_BPF_H

#include "stack.bpf.h"

/* Calls of declared functions under way, by thread and the place of the return address, to the
 * argument that matters. */
struct call {
    __u64 thread, sp;
};
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 8192);
    __type(key, struct call);
    __type(value, __u64);
} calls SEC(".maps");

/* All are read where they lie: the kernel accepts no computed place in its own structure. */
static __always_inline __u64 argument(struct pt_regs *regs, __u32 n)
{
    __u64 a = regs->di, b = regs->si, c = regs->dx, d = regs->cx, e = regs->r8, f = regs->r9;
    barrier_var(a);
    barrier_var(b);
    barrier_var(c);
    barrier_var(d);
    barrier_var(e);
    barrier_var(f);
    return n == 0 ? a : n == 1 ? b : n == 2 ? c : n == 3 ? d : n == 4 ? e : f;
}

/* A value as wide as it is declared; lower halves count signed, as descriptors do. */
static __always_inline __u64 narrow(__u64 value, __u64 cookie)
{
    return cookie >> 40 & 0xff ? value : (__u64)(__s64)(__s32)value;
}

static __always_inline int through(__u64 at, __u64 cookie, __u64 *value)
{
    *value = 0;
    return (cookie >> 32 & 0xff) == 8 ? bpf_probe_read_user(value, 8, (void *)at)
                                      : bpf_probe_read_user(value, 4, (void *)at);
}

__noinline int report_call(__u64 head, __u64 value, __u64 ip, __u64 sp, __u64 bp)
{
    struct tt_kernel_event e = {
        .slot = (__u32)head,
        .what = head >> 32 & 0xff,
        .kind = head >> 40 & 0xff,
        .n = 1,
        .value = {value},
    };
    if (e.what == TT_KERNEL_ACQUIRE) {
        e.ip = ip;
        e.sp = sp;
        e.bp = bp;
        e.owner = owner_here();
        e.site = known_site(ip, sp, bp, (__u64)e.slot << 8 | e.kind);
    }
    if (!send(&e))
        __sync_fetch_and_add(&shared.lost_events, 1);
    return 0;
}

SEC("uprobe")
int handle_enter(struct pt_regs *ctx)
{
    int slot = slot_here();
    __u64 cookie = slot < 0 ? 0 : bpf_get_attach_cookie(ctx), value;
    __u32 from = cookie >> 16 & 0xff;
    if (from < TT_KERNEL_FROM_ARG0)
        return 0;
    int at = from >= TT_KERNEL_FROM_AT_ARG0;
    value = argument(ctx, at ? from - TT_KERNEL_FROM_AT_ARG0 : from - TT_KERNEL_FROM_ARG0);
    if (cookie >> 8 & 0xff) { /* what it releases is read while it is there */
        if (at && through(value, cookie, &value))
            return 0;
        value = narrow(value, cookie);
        if ((cookie >> 24 & 0xff) == TT_KERNEL_ALWAYS)
            return report_call(HEAD(slot, TT_KERNEL_RELEASE, cookie & 0xff, 0), value, 0, 0, 0);
    }
    struct call key = {bpf_get_current_pid_tgid(), ctx->sp};
    bpf_map_update_elem(&calls, &key, &value, BPF_ANY);
    return 0;
}

SEC("uretprobe")
int handle_return(struct pt_regs *ctx)
{
    int slot = slot_here();
    __u64 cookie = slot < 0 ? 0 : bpf_get_attach_cookie(ctx), value, *kept;
    if (!cookie)
        return 0;
    __u32 from = cookie >> 16 & 0xff, valid = cookie >> 24 & 0xff;
    __s64 ret = (__s64)narrow(ctx->ax, cookie);
    struct call key = {bpf_get_current_pid_tgid(), ctx->sp - 8};
    kept = bpf_map_lookup_elem(&calls, &key);
    value = kept ? *kept : 0;
    if (kept)
        bpf_map_delete_elem(&calls, &key);
    if (from != TT_KERNEL_FROM_RETURN && !kept)
        return 0; /* the call began before us */
    if ((valid == TT_KERNEL_NOT_NEGATIVE && ret < 0) || (valid == TT_KERNEL_NOT_NULL && !ret) ||
        (valid == TT_KERNEL_ZERO && (__s32)ret) ||
        (valid == TT_KERNEL_NOT_MINUS_ONE && ret == -1) ||
        (valid == TT_KERNEL_HANDLE && (!ret || ret == -1)))
        return 0;
    if (cookie >> 8 & 0xff)
        return report_call(HEAD(slot, TT_KERNEL_RELEASE, cookie & 0xff, 0),
                           from == TT_KERNEL_FROM_RETURN ? (__u64)ret : value, 0, 0, 0);
    if (from == TT_KERNEL_FROM_RETURN)
        value = (__u64)ret;
    else if (from >= TT_KERNEL_FROM_AT_ARG0 && through(value, cookie, &value))
        return 0;
    return report_call(HEAD(slot, TT_KERNEL_ACQUIRE, cookie & 0xff, 0), narrow(value, cookie),
                       ctx->ip, ctx->sp, ctx->bp);
}

/* ---- operations: a probe at the entry, which counts ---- */

SEC("uprobe")
int count_call(struct pt_regs *ctx)
{
    int slot = slot_here();
    __u32 index = slot < 0 ? 0 : (__u32)bpf_get_attach_cookie(ctx) & (TT_KERNEL_OPS - 1);
    if (slot >= 0)
        __sync_fetch_and_add(
            &shared.ops[((__u32)slot & (TT_KERNEL_SLOTS - 1)) * TT_KERNEL_OPS + index], 1);
    return 0;
}

#endif
