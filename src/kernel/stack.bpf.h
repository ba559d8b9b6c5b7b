/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Whose stack it is: a stack that was unwound before is told by the words that led the way; any
 * other is sent raw, with the record. Start: known_site, report. */
#ifndef TT_KERNEL_STACK_BPF_H
#define TT_KERNEL_STACK_BPF_H

#include "owner.bpf.h"

struct stack {
    __u8 byte[TT_KERNEL_SPAN];
};
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct stack);
} scratch SEC(".maps");

/* Where the return of a function is probed, the kernel's own address stands in its caller's place
 * on the stack. Which places these are, and what belongs there, innermost first. Functions of their
 * own, so that the kernel proves the loops once and not for every way to them. */
struct returns {
    struct tt_kernel_return at[TT_KERNEL_RETURNS];
};
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct returns);
} returns SEC(".maps");

static __always_inline int probed_returns(void)
{
    struct task_struct *task = bpf_get_current_task_btf();
    return bpf_core_field_exists(task->utask) && task->utask;
}

__noinline int find_returns(void)
{
    __u32 zero = 0;
    struct returns *found = bpf_map_lookup_elem(&returns, &zero);
    struct task_struct *task = bpf_get_current_task_btf();
    if (!found || !bpf_core_field_exists(task->utask))
        return 0;
    struct return_instance *r = BPF_CORE_READ(task, utask, return_instances);
#pragma clang loop unroll(disable)
    for (__u32 i = 0; i < TT_KERNEL_RETURNS; i++) {
        found->at[i].place = r ? BPF_CORE_READ(r, stack) : 0;
        found->at[i].address = r ? BPF_CORE_READ(r, orig_ret_vaddr) : 0;
        r = r ? BPF_CORE_READ(r, next) : r;
    }
    return 1;
}

/* Puts them back in the copy, which begins at base. */
__noinline int put_back_returns(__u64 base)
{
    __u32 zero = 0;
    struct returns *found = bpf_map_lookup_elem(&returns, &zero);
    struct stack *stack = bpf_map_lookup_elem(&scratch, &zero);
    if (!found || !stack || !find_returns())
        return 0;
#pragma clang loop unroll(disable)
    for (__u32 i = 0; i < TT_KERNEL_RETURNS; i++) {
        __u64 at = found->at[i].place - base;
        if (at <= TT_KERNEL_SPAN - 8)
            *(__u64 *)&stack->byte[at & (TT_KERNEL_SPAN - 8)] = found->at[i].address;
    }
    return 1;
}

/* Whether the words of a known stack stand in the copy of this one. */
__noinline __u32 same_words(const struct stack *stack, const struct tt_kernel_known *k, __u64 sp)
{
    if (!stack || !k)
        return 0;
    __u32 n = READ(k->n);
#pragma clang loop unroll(disable)
    for (__u32 i = 0; i < TT_KERNEL_WORDS; i++) {
        if (i >= n)
            return 1;
        __u32 at = k->at[i];
        __u64 word = *(const __u64 *)&stack->byte[at & (TT_KERNEL_SPAN - 8)];
        if (word - (sp & -(__u64)(at & 1)) != k->word[i])
            return 0;
    }
    return 1;
}

/* The site of a stack that was unwound before and is still the same; 0: not known. A function of
 * its own, so that the kernel proves the loops once and not for every way to them. */
__noinline __u32 known_site(__u64 ip, __u64 sp, __u64 bp, __u64 key)
{
    __u32 zero = 0, place = tt_kernel_place(ip, sp, key), have = 0;
    struct stack *stack = bpf_map_lookup_elem(&scratch, &zero);
    if (!stack)
        return 0;
#pragma clang loop unroll(disable)
    for (__u32 way = 0; way < TT_KERNEL_WAYS; way++) {
        struct tt_kernel_known *k = &shared.known[(place + way) & (TT_KERNEL_CACHE - 1)];
        __u32 seq = READ(k->seq), span = READ(k->span);
        if (k->ip != ip || k->key != key || (seq & 1) || (k->need_bp && bp - sp != k->bp))
            continue;
        if (span > have) {
            if (span > TT_KERNEL_SPAN || bpf_probe_read_user(stack->byte, span, (void *)sp))
                continue;
            have = span;
            if (probed_returns())
                put_back_returns(sp);
        }
        __u32 site = READ(k->site);
        if (same_words(stack, k, sp) && READ(k->seq) == seq)
            return site;
    }
    return 0;
}

static __always_inline __u64 wake(void)
{
    return bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) > TT_KERNEL_WAKE ? BPF_RB_FORCE_WAKEUP
                                                                        : BPF_RB_NO_WAKEUP;
}

static __always_inline void fill(struct tt_kernel_event *e, const struct tt_kernel_event *from)
{
    *e = *from;
    e->tick = READ(shared.tick);
    e->tid = (__u32)bpf_get_current_pid_tgid();
}

struct raw {
    struct tt_kernel_event event;
    struct returns returns;
    __u8 stack[TT_KERNEL_PAGES][4096];
};
struct raw_deep {
    struct tt_kernel_event event;
    struct returns returns;
    __u8 stack[TT_KERNEL_PAGES_DEEP][4096];
};

/* Whole pages from that of the stack pointer on: a copy beyond the stack's end fails as a whole. */
#define COPY_PAGES(raw, most)                                                                      \
    do {                                                                                           \
        __u64 page_ = (raw)->event.sp & ~4095ULL;                                                  \
        __u32 got_ = 0;                                                                            \
        for (__u32 i_ = 0; i_ < (most); i_++) {                                                    \
            if (bpf_probe_read_user((raw)->stack[i_], 4096, (void *)(page_ + i_ * 4096)))          \
                break;                                                                             \
            got_++;                                                                                \
        }                                                                                          \
        (raw)->event.pages = got_;                                                                 \
    } while (0)

static __always_inline void copy_returns(struct returns *to)
{
    __u32 zero = 0;
    struct returns *found = bpf_map_lookup_elem(&returns, &zero);
    if (found && probed_returns() && find_returns())
        *to = *found;
    else
        *to = (struct returns){0};
}

static __always_inline int send_short(const struct tt_kernel_event *from)
{
    struct tt_kernel_event *e = bpf_ringbuf_reserve(&ring, sizeof *e, 0);
    if (!e)
        return 0;
    fill(e, from);
    bpf_ringbuf_submit(e, from->what == TT_KERNEL_FORK ? BPF_RB_FORCE_WAKEUP : wake());
    return 1;
}

/* Sends a record; with the raw stack if its site is not known. False: no room. The entries of
 * descriptors are put before it can be read. */
static __always_inline int send(const struct tt_kernel_event *from)
{
    if (from->site || !from->ip)
        return send_short(from);
    if (READ(shared.deep)) {
        struct raw_deep *raw = bpf_ringbuf_reserve(&ring, sizeof *raw, 0);
        if (!raw)
            return 0;
        fill(&raw->event, from);
        copy_returns(&raw->returns);
        COPY_PAGES(raw, TT_KERNEL_PAGES_DEEP);
        bpf_ringbuf_submit(raw, 0);
    } else {
        struct raw *raw = bpf_ringbuf_reserve(&ring, sizeof *raw, 0);
        if (!raw)
            return 0;
        fill(&raw->event, from);
        copy_returns(&raw->returns);
        COPY_PAGES(raw, TT_KERNEL_PAGES);
        bpf_ringbuf_submit(raw, 0);
    }
    return 1;
}

/* A record: without the stack, and with it. Two functions, since each is proven with all that it
 * calls, in every program that calls it. */
#define HEAD(slot, what, kind) ((__u64)(__u32)(slot) | (__u64)(what) << 32 | (__u64)(kind) << 40)
#define EVENT(head, ...)                                                                           \
    {                                                                                              \
        .slot = (__u32)(head), .what = (head) >> 32 & 0xff, .kind = (head) >> 40 & 0xff, .n = 1,   \
        .value = {__VA_ARGS__},                                                                    \
    }
__noinline int tell(__u64 head, __u64 a, __u64 b, __u64 c, __u64 d)
{
    const struct tt_kernel_event e = EVENT(head, a, b, c, d);
    if (!send_short(&e))
        __sync_fetch_and_add(&shared.lost_events, 1);
    return 0;
}
__noinline int report(__u64 head, __u64 a, __u64 b, __u64 c, __u64 d)
{
    struct tt_kernel_event e = EVENT(head, a, b, c, d);
    struct pt_regs *regs = regs_here();
    e.owner = owner_here();
    e.ip = regs->ip;
    e.sp = regs->sp;
    e.bp = regs->bp;
    e.di = regs->di;
    e.site = known_site(e.ip, e.sp, e.bp, (__u64)e.slot << 8 | e.kind);
    if (!send(&e))
        __sync_fetch_and_add(&shared.lost_events, 1);
    return 0;
}

#endif
