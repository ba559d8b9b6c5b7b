/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Probes at functions: of the C library and of declared handles at entry and return, of operations
 * at the entry. The cookie of a probe says what it is for. Start: handle_enter, count_call. */
#ifndef TT_KERNEL_PROBE_BPF_H
#define TT_KERNEL_PROBE_BPF_H

#include "call.bpf.h"

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

static __noinline int report_call(struct pt_regs *ctx, __u64 head, __u64 value, __u64 since,
                                  __u64 also)
{
    struct tt_kernel_event e = EVENT(head, value, since, bpf_ktime_get_ns(), also);
    if (e.what == TT_KERNEL_ACQUIRE) {
        e.ip = ctx->ip;
        e.sp = ctx->sp;
        e.bp = ctx->bp;
        e.owner = owner_here();
        e.site = known_site(e.ip, e.sp, e.bp, (__u64)e.slot << 8 | e.kind);
    }
    if (!send(&e))
        __sync_fetch_and_add(&shared.lost_events, 1);
    return 0;
}

/* A thread that is started detached gives itself back: bit 0 of the flags in glibc's
 * pthread_attr_t. thrd_create passes -1. */
#define ATTR_FLAGS 8
static __always_inline int detached(__u64 attr)
{
    __u32 flags;
    return attr && attr != ~0ULL &&
           !bpf_probe_read_user(&flags, sizeof flags, (void *)(attr + ATTR_FLAGS)) && (flags & 1);
}

/* What the C library maps and starts for these is part of them. */
static __always_inline int is_made_inside(__u32 kind)
{
    return kind == TT_KERNEL_JOINED || kind == TT_KERNEL_NAMED;
}

SEC("uprobe")
int handle_enter(struct pt_regs *ctx)
{
    int slot = slot_here();
    __u64 cookie = slot < 0 ? 0 : bpf_get_attach_cookie(ctx);
    __u32 from = cookie >> 16 & 0xff, kind = cookie & 0xff;
    if (!cookie)
        return 0;
    struct call key = {bpf_get_current_pid_tgid(), ctx->sp};
    struct kept kept = {0, bpf_ktime_get_ns()};
    if (from >= TT_KERNEL_FROM_ARG0) {
        int at = from >= TT_KERNEL_FROM_AT_ARG0;
        kept.value = argument(ctx, at ? from - TT_KERNEL_FROM_AT_ARG0 : from - TT_KERNEL_FROM_ARG0);
        if (cookie >> 8 & 0xff) { /* what it releases is read while it is there */
            if (at && through(kept.value, cookie, &kept.value))
                return 0;
            kept.value = narrow(kept.value, cookie);
            if ((cookie >> 24 & 0xff) == TT_KERNEL_ALWAYS)
                return report_call(ctx, HEAD(slot, TT_KERNEL_RELEASE, kind), kept.value, kept.since,
                                   0);
        }
    }
    if (!(cookie >> 8 & 0xff) && is_made_inside(kind)) {
        go_inside(key.thread, 1);
        if (kind == TT_KERNEL_JOINED && detached(ctx->si))
            return 0;
    }
    bpf_map_update_elem(&calls, &key, &kept, BPF_ANY);
    return 0;
}

SEC("uretprobe")
int handle_return(struct pt_regs *ctx)
{
    int slot = slot_here();
    __u64 cookie = slot < 0 ? 0 : bpf_get_attach_cookie(ctx), value, since, also = ~0ULL;
    if (!cookie)
        return 0;
    __u32 from = cookie >> 16 & 0xff, valid = cookie >> 24 & 0xff, in = cookie >> 48 & 0xff;
    __s64 ret = (__s64)narrow(ctx->ax, cookie);
    struct call key = {bpf_get_current_pid_tgid(), ctx->sp - 8};
    if (!(cookie >> 8 & 0xff) && is_made_inside(cookie & 0xff))
        go_inside(key.thread, 0);
    struct kept *kept = bpf_map_lookup_elem(&calls, &key);
    if (!kept)
        return 0; /* it began before us, is told already, or need not be */
    value = kept->value;
    since = kept->since;
    bpf_map_delete_elem(&calls, &key);
    if ((valid == TT_KERNEL_NOT_NEGATIVE && ret < 0) || (valid == TT_KERNEL_NOT_NULL && !ret) ||
        (valid == TT_KERNEL_ZERO && (__s32)ret) ||
        (valid == TT_KERNEL_NOT_MINUS_ONE && ret == -1) ||
        (valid == TT_KERNEL_HANDLE && (!ret || ret == -1)))
        return 0;
    if (cookie >> 8 & 0xff)
        return report_call(ctx, HEAD(slot, TT_KERNEL_RELEASE, cookie & 0xff),
                           from == TT_KERNEL_FROM_RETURN ? (__u64)ret : value, since, 0);
    if (from == TT_KERNEL_FROM_RETURN)
        value = (__u64)ret;
    else if (from >= TT_KERNEL_FROM_AT_ARG0 && through(value, cookie, &value))
        return 0;
    value = narrow(value, cookie);
    __s32 fd;
    if (in && !bpf_probe_read_user(&fd, sizeof fd, (void *)(value + in - 1)))
        also = (__u64)(__s64)fd;
    return report_call(ctx, HEAD(slot, TT_KERNEL_ACQUIRE, cookie & 0xff), value, since, also);
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
