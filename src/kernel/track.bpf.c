// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The programs at the tracepoints of system calls. Each first asks whether the process is one of
 * those chosen; that is all it does for any other. What acquires is looked at when the call
 * returns, the arguments still standing in the registers that the caller left them in. What
 * releases is looked at when the call begins: once it has happened, another thread may have got the
 * same number again, and its record could come first. A close that fails had nothing to close, and
 * then the table has no entry either.
 * Start: open_fd, acquired. */
#include <linux/bpf.h>

#include "types.bpf.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "event.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct tt_kernel_shared shared;

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, TT_KERNEL_RING);
} ring SEC(".maps");

/* Descriptors beyond the table: slot << 32 | fd to entry. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, TT_KERNEL_FAR);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, __u64);
    __type(value, __u64);
} far SEC(".maps");

/* Numbers of slots that are free; the loader puts in what it has cleared. */
struct {
    __uint(type, BPF_MAP_TYPE_QUEUE);
    __uint(max_entries, TT_KERNEL_SLOTS);
    __type(value, __u32);
} slots SEC(".maps");

/* Calls of declared functions under way: thread to the argument that matters. */
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 8192);
    __type(key, __u64);
    __type(value, __u64);
} calls SEC(".maps");

struct stack {
    __u8 byte[TT_KERNEL_SPAN];
};
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct stack);
} scratch SEC(".maps");

#define READ(x) (*(volatile typeof(x) *)&(x))

/* ---- whom it concerns ---- */

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

/* ---- whose stack it is ---- */

/* Whether the words of a known stack stand in the copy of this one. A function of its own, so that
 * the kernel proves the loop once and not for every way to it. */
__noinline __u32 same_words(__u32 place, __u64 sp)
{
    __u32 zero = 0;
    const struct stack *stack = bpf_map_lookup_elem(&scratch, &zero);
    const struct tt_kernel_known *k = &shared.known[place & (TT_KERNEL_CACHE - 1)];
    __u32 n = READ(k->n);
    if (!stack)
        return 0;
#pragma clang loop unroll(disable)
    for (__u32 i = 0; i < TT_KERNEL_WORDS; i++) {
        if (i >= n)
            return 1;
        __u32 at = k->at[i];
        __u64 word = *(const __u64 *)&stack->byte[at & (TT_KERNEL_SPAN - 8)];
        if ((at & 1 ? word - sp : word) != k->word[i])
            return 0;
    }
    return 1;
}

/* The site of a stack that was unwound before and is still the same; 0: not known. */
__noinline __u32 known_site(__u64 ip, __u64 sp, __u64 bp, __u64 key)
{
    __u32 zero = 0, place = tt_kernel_place(ip, sp, key), have = 0;
    struct stack *stack = bpf_map_lookup_elem(&scratch, &zero);
    if (!stack)
        return 0;
    for (__u32 way = 0; way < TT_KERNEL_WAYS; way++) {
        struct tt_kernel_known *k = &shared.known[(place + way) & (TT_KERNEL_CACHE - 1)];
        __u32 seq = READ(k->seq), span = READ(k->span);
        if ((seq & 1) || k->ip != ip || k->key != key || (k->need_bp && bp - sp != k->bp))
            continue;
        if (span > have) {
            if (span > TT_KERNEL_SPAN || bpf_probe_read_user(stack->byte, span, (void *)sp))
                continue;
            have = span;
        }
        __u32 site = READ(k->site);
        if (same_words(place + way, sp) && READ(k->seq) == seq)
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
    __u8 stack[TT_KERNEL_PAGES][4096];
};
struct raw_deep {
    struct tt_kernel_event event;
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

/* Sends a record; with the raw stack if its site is not known. False: no room. The entries of
 * descriptors are put before it can be read. */
static __always_inline int send(struct tt_kernel_event *from)
{
    if (from->site || !from->ip) {
        struct tt_kernel_event *e = bpf_ringbuf_reserve(&ring, sizeof *e, 0);
        if (!e)
            return 0;
        fill(e, from);
        bpf_ringbuf_submit(e, from->what == TT_KERNEL_FORK ? BPF_RB_FORCE_WAKEUP : wake());
    } else if (READ(shared.deep)) {
        struct raw_deep *raw = bpf_ringbuf_reserve(&ring, sizeof *raw, 0);
        if (!raw)
            return 0;
        fill(&raw->event, from);
        COPY_PAGES(raw, TT_KERNEL_PAGES_DEEP);
        bpf_ringbuf_submit(raw, 0);
    } else {
        struct raw *raw = bpf_ringbuf_reserve(&ring, sizeof *raw, 0);
        if (!raw)
            return 0;
        fill(&raw->event, from);
        COPY_PAGES(raw, TT_KERNEL_PAGES);
        bpf_ringbuf_submit(raw, 0);
    }
    return 1;
}

/* ---- descriptors ---- */

static __always_inline __u32 bin_of(__u32 age)
{
    __u32 log = 0, v = age;
    if (age < 2)
        return 0;
    for (__u32 step = 16; step; step >>= 1)
        if (v >> step) {
            v >>= step;
            log += step;
        }
    __u32 bin = 2 * log - 1 + ((__u64)age * age >= 1ULL << (2 * log + 1));
    return bin < TT_KERNEL_BINS ? bin : TT_KERNEL_BINS - 1;
}

/* A unit that the table had is gone. A pending one is counted by the loader, which will miss it. */
static __always_inline void died(__u64 entry)
{
    __u32 site = (__u32)(entry >> 44);
    if (site == TT_KERNEL_PENDING || site >= TT_KERNEL_SITES)
        return;
    __u32 age = (READ(shared.tick) - (__u32)entry) & 0xffffff, bin = bin_of(age);
    if (bin < TT_KERNEL_BINS)
        __sync_fetch_and_add(&shared.count[site & (TT_KERNEL_SITES - 1)].deaths[bin], 1);
}

static __always_inline void put_fd(__u32 slot, __u32 fd, __u64 entry)
{
    __u64 old = 0;
    slot &= TT_KERNEL_SLOTS - 1;
    if (fd < TT_KERNEL_FDS) {
        old = __sync_lock_test_and_set(
            &shared.fd[slot * TT_KERNEL_FDS + (fd & (TT_KERNEL_FDS - 1))], entry);
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

static __always_inline void take_fd(__u32 slot, __u32 fd)
{
    __u64 old = 0;
    slot &= TT_KERNEL_SLOTS - 1;
    if (fd < TT_KERNEL_FDS) {
        __u64 *at = &shared.fd[slot * TT_KERNEL_FDS + (fd & (TT_KERNEL_FDS - 1))];
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

/* The same where the stack is not known: pending until the loader has unwound it. */
__noinline int acquired_raw(__u32 slot, __u32 kind, __u32 n, __u32 first, __u32 second)
{
    struct pt_regs *regs = regs_here();
    __u32 tick = READ(shared.tick);
    struct tt_kernel_event e = {
        .what = TT_KERNEL_OPEN,
        .slot = slot,
        .kind = kind,
        .n = n,
        .serial = __sync_fetch_and_add(&shared.serial, 2) & 0xfffff,
        .value = {first, second},
        .ip = regs->ip,
        .sp = regs->sp,
        .bp = regs->bp,
        .di = regs->di,
    };
    put_fd(slot, first, TT_KERNEL_ENTRY(TT_KERNEL_PENDING, e.serial, tick));
    if (n > 1)
        put_fd(slot, second, TT_KERNEL_ENTRY(TT_KERNEL_PENDING, e.serial + 1, tick));
    if (send(&e))
        return 0;
    __u32 site = READ(shared.slot[slot & (TT_KERNEL_SLOTS - 1)].unknown[kind == TT_KERNEL_SOCKET]);
    put_fd(slot, first, TT_KERNEL_ENTRY(site, 0, tick));
    if (n > 1)
        put_fd(slot, second, TT_KERNEL_ENTRY(site, 0, tick));
    __sync_fetch_and_add(&shared.lost_stacks, n);
    __sync_fetch_and_add(&shared.count[site & (TT_KERNEL_SITES - 1)].births, n);
    return 0;
}

/* One or two descriptors came to be by this call. */
__noinline int acquired(__u32 slot, __u32 kind, __u32 n, __u32 first, __u32 second)
{
    struct pt_regs *regs = regs_here();
    __u32 site = known_site(regs->ip, regs->sp, regs->bp, (__u64)slot << 8 | kind);
    if (!site)
        return acquired_raw(slot, kind, n, first, second);
    __u64 entry = TT_KERNEL_ENTRY(site, 0, READ(shared.tick));
    put_fd(slot, first, entry);
    if (n > 1)
        put_fd(slot, second, entry);
    __sync_fetch_and_add(&shared.count[site & (TT_KERNEL_SITES - 1)].births, n);
    return 0;
}

/* A program for one or several tracepoints; which, says the loader's table. */
#define EXIT(name) SEC("tp") int name(struct tt_sys_exit *ctx)
#define ENTER(name) SEC("tp") int name(struct tt_sys_enter *ctx)

/* Calls that return a new descriptor. */
static __always_inline int opened(long ret, __u32 kind)
{
    int slot = slot_here();
    if (slot >= 0 && ret >= 0)
        acquired((__u32)slot, kind, 1, (__u32)ret, 0);
    return 0;
}
EXIT(open_fd)
{
    return opened(ctx->ret, TT_KERNEL_FD);
}
EXIT(open_socket)
{
    return opened(ctx->ret, TT_KERNEL_SOCKET);
}
EXIT(open_queue)
{
    return opened(ctx->ret, TT_KERNEL_MQ);
}

/* Calls that store two through a pointer. */
static __always_inline int paired(int slot, __u32 kind, __u64 at)
{
    __u32 pair[2];
    if (!bpf_probe_read_user(pair, sizeof pair, (void *)at))
        acquired((__u32)slot, kind, 2, pair[0], pair[1]);
    return 0;
}
EXIT(open_pipe)
{
    int slot = slot_here();
    return slot < 0 || ctx->ret ? 0 : paired(slot, TT_KERNEL_FD, regs_here()->di);
}
EXIT(open_socketpair)
{
    int slot = slot_here();
    return slot < 0 || ctx->ret ? 0 : paired(slot, TT_KERNEL_SOCKET, regs_here()->r10);
}

/* The kind of a descriptor that is followed; else a plain one. */
static __always_inline __u32 kind_of(__u32 slot, __u32 fd)
{
    __u64 entry = 0;
    slot &= TT_KERNEL_SLOTS - 1;
    if (fd < TT_KERNEL_FDS) {
        entry = READ(shared.fd[slot * TT_KERNEL_FDS + (fd & (TT_KERNEL_FDS - 1))]);
    } else {
        __u64 key = (__u64)slot << 32 | fd, *at = bpf_map_lookup_elem(&far, &key);
        if (at)
            entry = READ(*at);
    }
    __u32 site = (__u32)(entry >> 44);
    return site < TT_KERNEL_SITES ? READ(shared.count[site & (TT_KERNEL_SITES - 1)].kind)
                                  : TT_KERNEL_FD;
}
EXIT(open_dup)
{
    int slot = slot_here();
    if (slot >= 0 && ctx->ret >= 0)
        acquired((__u32)slot, kind_of((__u32)slot, (__u32)regs_here()->di), 1, (__u32)ctx->ret, 0);
    return 0;
}

/* Onto the same number nothing happens; onto a live one, that is closed by it. */
EXIT(open_dup2)
{
    int slot = slot_here();
    if (slot >= 0 && ctx->ret >= 0 && regs_here()->di != regs_here()->si)
        acquired((__u32)slot, kind_of((__u32)slot, (__u32)regs_here()->di), 1, (__u32)ctx->ret, 0);
    return 0;
}

#define F_DUPFD 0
#define F_DUPFD_CLOEXEC 1030
EXIT(open_fcntl)
{
    int slot = slot_here();
    if (slot < 0 || ctx->ret < 0)
        return 0;
    __u64 command = regs_here()->si;
    if ((__u32)command == F_DUPFD || (__u32)command == F_DUPFD_CLOEXEC)
        acquired((__u32)slot, kind_of((__u32)slot, (__u32)regs_here()->di), 1, (__u32)ctx->ret, 0);
    return 0;
}

/* Changes an existing one when it is given (not -1). */
EXIT(open_signalfd)
{
    int slot = slot_here();
    if (slot >= 0 && ctx->ret >= 0 && (int)regs_here()->di == -1)
        acquired((__u32)slot, TT_KERNEL_FD, 1, (__u32)ctx->ret, 0);
    return 0;
}

ENTER(close_fd)
{
    int slot = slot_here();
    if (slot >= 0)
        take_fd((__u32)slot, (__u32)ctx->arg[0]);
    return 0;
}

struct range {
    __u32 slot, first;
};
static long close_one(__u32 i, void *arg)
{
    struct range *r = arg;
    take_fd(r->slot, r->first + i);
    return 0;
}

#define CLOSE_RANGE_CLOEXEC 4
ENTER(close_fds)
{
    int slot = slot_here();
    if (slot < 0 || (ctx->arg[2] & CLOSE_RANGE_CLOEXEC))
        return 0;
    struct range r = {(__u32)slot & (TT_KERNEL_SLOTS - 1), (__u32)ctx->arg[0]};
    __u32 high = READ(shared.slot[r.slot].high);
    __u32 end = (__u32)ctx->arg[1] < high ? (__u32)ctx->arg[1] + 1 : high;
    if (r.first < end)
        bpf_loop(end - r.first, close_one, &r, 0);
    return 0;
}

/* Descriptors that came in a message (cmsg(3)). The kernel leaves in msg_controllen how much it
 * wrote; a message with more parts or descriptors than are looked at here is seen in /proc. */
#define PARTS 4
#define DESCRIPTORS 16
#define SOL_SOCKET 1
#define SCM_RIGHTS 1
struct control {
    __u64 at, bytes;
};
struct part {
    __u64 bytes;
    __s32 level, type;
};
EXIT(open_passed)
{
    int slot = slot_here();
    struct control control;
    struct part part;
    if (slot < 0 || ctx->ret < 0 ||
        bpf_probe_read_user(&control, sizeof control, (void *)(regs_here()->si + 32)) ||
        !control.at)
        return 0;
    for (int i = 0; i < PARTS; i++) {
        if (control.bytes < sizeof part ||
            bpf_probe_read_user(&part, sizeof part, (void *)control.at) ||
            part.bytes < sizeof part || part.bytes > control.bytes)
            break;
        for (int k = 0; k < DESCRIPTORS; k++) {
            __u64 off = sizeof part + 4 * (__u64)k;
            __u32 fd;
            if (part.level != SOL_SOCKET || part.type != SCM_RIGHTS || off + 4 > part.bytes ||
                bpf_probe_read_user(&fd, sizeof fd, (void *)(control.at + off)))
                break;
            acquired((__u32)slot, TT_KERNEL_FD, 1, fd, 0);
        }
        __u64 step = (part.bytes + 7) & ~7ULL;
        if (step >= control.bytes)
            break;
        control.at += step;
        control.bytes -= step;
    }
    return 0;
}

/* ---- everything else: a record each ---- */

/* head: slot, what, kind, and whether the stack is wanted. */
#define HEAD(slot, what, kind, stack)                                                              \
    ((__u64)(__u32)(slot) | (__u64)(what) << 32 | (__u64)(kind) << 40 | (__u64)(stack) << 48)
__noinline int report(__u64 head, __u64 a, __u64 b, __u64 c, __u64 d)
{
    struct tt_kernel_event e = {
        .slot = (__u32)head,
        .what = head >> 32 & 0xff,
        .kind = head >> 40 & 0xff,
        .n = 1,
        .value = {a, b, c, d},
    };
    if (head >> 48) {
        struct pt_regs *regs = regs_here();
        e.ip = regs->ip;
        e.sp = regs->sp;
        e.bp = regs->bp;
        e.di = regs->di;
        e.site = known_site(e.ip, e.sp, e.bp, (__u64)e.slot << 8 | e.kind);
    }
    if (!send(&e))
        __sync_fetch_and_add(&shared.lost_events, 1);
    return 0;
}

#define FAILED(ret) ((ret) < 0 && (ret) >= -4095)
#define PROT_EXEC 4
EXIT(map)
{
    int slot = slot_here();
    if (slot < 0 || FAILED(ctx->ret))
        return 0;
    struct pt_regs *regs = regs_here();
    report(HEAD(slot, regs->dx & PROT_EXEC ? TT_KERNEL_CODE : TT_KERNEL_MAP, TT_KERNEL_MAPPING, 1),
           (__u64)ctx->ret, regs->si, 0, 0);
    return 0;
}

ENTER(unmap)
{
    int slot = slot_here();
    if (slot >= 0 && !(ctx->arg[0] & 4095) && ctx->arg[1])
        report(HEAD(slot, TT_KERNEL_UNMAP, TT_KERNEL_MAPPING, 0), ctx->arg[0], ctx->arg[1], 0, 0);
    return 0;
}

EXIT(remap)
{
    int slot = slot_here();
    if (slot < 0 || FAILED(ctx->ret))
        return 0;
    struct pt_regs *regs = regs_here();
    report(HEAD(slot, TT_KERNEL_REMAP, TT_KERNEL_MAPPING, 1), (__u64)ctx->ret, regs->dx, regs->di,
           regs->si);
    return 0;
}

EXIT(grow)
{
    int slot = slot_here();
    if (slot >= 0)
        report(HEAD(slot, TT_KERNEL_BRK, TT_KERNEL_MAPPING, 1), (__u64)ctx->ret, 0, 0, 0);
    return 0;
}

EXIT(map_segment)
{
    int slot = slot_here();
    if (slot >= 0 && !FAILED(ctx->ret)) /* the length is the segment's, which the loader looks up */
        report(HEAD(slot, TT_KERNEL_MAP, TT_KERNEL_MAPPING, 1), (__u64)ctx->ret, 0, 0, 0);
    return 0;
}

ENTER(unmap_segment)
{
    int slot = slot_here();
    if (slot >= 0)
        report(HEAD(slot, TT_KERNEL_UNMAP, TT_KERNEL_MAPPING, 0), ctx->arg[0], 0, 0, 0);
    return 0;
}

#define CLONE_THREAD 0x10000
/* In the parent; the child returns 0. */
static __always_inline int cloned(int slot, __u64 flags, long ret)
{
    __u32 kind = flags & CLONE_THREAD ? TT_KERNEL_THREAD : TT_KERNEL_CHILD;
    report(HEAD(slot, TT_KERNEL_ACQUIRE, kind, 1), (__u32)ret, 0, 0, 0);
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
    report(HEAD(slot, TT_KERNEL_RELEASE, TT_KERNEL_CHILD, 0), (__u32)ctx->ret, 0, 0, 0);
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
    report(HEAD(slot, TT_KERNEL_RELEASE, TT_KERNEL_CHILD, 0), pid, 0, 0, 0);
    return 0;
}

/* A timer's number goes through a pointer. */
EXIT(make_timer)
{
    int slot = slot_here(), id;
    if (slot >= 0 && ctx->ret == 0 && !bpf_probe_read_user(&id, sizeof id, (void *)regs_here()->dx))
        report(HEAD(slot, TT_KERNEL_ACQUIRE, TT_KERNEL_TIMER, 1), (__u32)id, 0, 0, 0);
    return 0;
}
ENTER(drop_timer)
{
    int slot = slot_here();
    if (slot >= 0)
        report(HEAD(slot, TT_KERNEL_RELEASE, TT_KERNEL_TIMER, 0), (__u32)ctx->arg[0], 0, 0, 0);
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
        report(HEAD(slot, TT_KERNEL_ACQUIRE, kind, 1), (__u64)ret, 0, 0, 0);
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

static __always_inline int dropped(__u64 id, __u64 command, __u32 kind)
{
    int slot = slot_here();
    if (slot >= 0 && (__u32)command == IPC_RMID)
        report(HEAD(slot, TT_KERNEL_RELEASE, kind, 0), (__u32)id, 0, 0, 0);
    return 0;
}
ENTER(drop_shm)
{
    return dropped(ctx->arg[0], ctx->arg[1], TT_KERNEL_SHM);
}
ENTER(drop_sem)
{
    return dropped(ctx->arg[0], ctx->arg[2], TT_KERNEL_SEM);
}
ENTER(drop_msg)
{
    return dropped(ctx->arg[0], ctx->arg[1], TT_KERNEL_MSG);
}

/* ---- declared handles: probes at the entry and the return of functions ---- */

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
    __u64 key = bpf_get_current_pid_tgid();
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
    __u64 key = bpf_get_current_pid_tgid();
    kept = bpf_map_lookup_elem(&calls, &key);
    value = kept ? *kept : 0;
    if (kept)
        bpf_map_delete_elem(&calls, &key);
    if (from != TT_KERNEL_FROM_RETURN && !kept)
        return 0; /* the call began before us, or one within it took its place */
    if ((valid == TT_KERNEL_NOT_NEGATIVE && ret < 0) || (valid == TT_KERNEL_NOT_NULL && !ret) ||
        (valid == TT_KERNEL_ZERO && (__s32)ret) || (valid == TT_KERNEL_NOT_MINUS_ONE && ret == -1))
        return 0;
    if (cookie >> 8 & 0xff)
        return report_call(HEAD(slot, TT_KERNEL_RELEASE, cookie & 0xff, 0), value, 0, 0, 0);
    if (from == TT_KERNEL_FROM_RETURN)
        value = (__u64)ret;
    else if (from >= TT_KERNEL_FROM_AT_ARG0 && through(value, cookie, &value))
        return 0;
    return report_call(HEAD(slot, TT_KERNEL_ACQUIRE, cookie & 0xff, 0), narrow(value, cookie),
                       ctx->ip, ctx->sp, ctx->bp);
}

/* ---- processes ---- */

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
        report(HEAD(slot, TT_KERNEL_FORK, 0, 0), pid, (__u32)parent, 0, 0);
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
    const struct tt_kernel_event head = {
        .what = TT_KERNEL_EXEC, .slot = (__u32)slot, .value = {pid, (__u32)before}};
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
        report(HEAD(slot, TT_KERNEL_RELEASE, TT_KERNEL_THREAD, 0), (__u32)id, 0, 0, 0);
    return 0;
}
