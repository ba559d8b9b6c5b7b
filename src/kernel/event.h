/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What the eBPF programs and their loader share: one block of memory that both map (struct
 * tt_kernel_shared), and the records of the ring. Descriptors, which come and go by the hundred
 * thousand, never make a record: the kernel side keeps the table of what is open and the counts per
 * site in the shared block, and verifies the caller's stack against stacks that the loader unwound
 * before. Only a stack that was not seen yet comes as a record, raw. Everything else that a process
 * acquires is rare enough for a record each. Start: struct tt_kernel_shared, struct
 * tt_kernel_event. */
#ifndef TT_KERNEL_EVENT_H
#define TT_KERNEL_EVENT_H

#include <linux/types.h>

#define TT_KERNEL_SLOTS 256u    /* memory images followed at a time; a power of two */
#define TT_KERNEL_TARGETS 2048u /* hash of process ids, open addressed */
#define TT_KERNEL_PROBES 8u
#define TT_KERNEL_FDS 4096u          /* descriptors of an image in the table; more go to a map */
#define TT_KERNEL_FAR (1u << 18)     /* entries of that map */
#define TT_KERNEL_SITES (1u << 14)   /* sites of all images together, from 1 */
#define TT_KERNEL_BINS 48u           /* of ages, tape.h tt_tape_bin */
#define TT_KERNEL_CACHE (1u << 12)   /* stacks verified in the kernel */
#define TT_KERNEL_WAYS 4u            /* places that a stack may have there */
#define TT_KERNEL_WORDS 64u          /* words of one that must be as they were */
#define TT_KERNEL_SPAN 8192u         /* bytes above the stack pointer in which they lie */
#define TT_KERNEL_PAGES 3u           /* of stack in a raw record: more than 8 KiB */
#define TT_KERNEL_PAGES_DEEP 9u      /* once a stack was seen to need more: more than 32 KiB */
#define TT_KERNEL_RING (16u << 20)   /* bytes */
#define TT_KERNEL_WAKE (1u << 20)    /* of them in use: the loader is woken */
#define TT_KERNEL_PENDING 0xfffffu   /* site of an entry that the loader is to name */
#define TT_KERNEL_OWNERS (1u << 15)  /* peers remembered at a time, of all images */
#define TT_KERNEL_WORKING (1u << 15) /* threads whose owner is known */
#define TT_KERNEL_SENDERS 4096u      /* of datagrams, told by address; in sets of */
#define TT_KERNEL_SENDER_WAYS 4u
#define TT_KERNEL_OPS 32u /* functions of an image that are counted */

/* An entry of the table of descriptors: site:20 | tag:20 | tick:24, 0 none. The tag is the owner's
 * id, or, of a pending one, the serial of the record which holds its stack. */
#define TT_KERNEL_ENTRY(site, tag, tick)                                                           \
    ((__u64)(site) << 44 | ((__u64)(tag)&0xfffff) << 24 | ((__u64)(tick)&0xffffff))

/* A word beside it: what belongs to a descriptor. Bits, and the owner's id. */
#define TT_KERNEL_IS_SOCKET (1u << 31)
#define TT_KERNEL_HAS_PORT (1u << 30)
#define TT_KERNEL_CLOSE_OWED (1u << 29) /* it came before the close of its number was told */
#define TT_KERNEL_OLD (1u << 28)        /* was open before, and is not in the table */
#define TT_KERNEL_OWNER_ID 0xfffffu

/* Kinds of the units, as far as this side tells them apart. */
enum tt_kernel_kind {
    TT_KERNEL_FD,
    TT_KERNEL_SOCKET,
    TT_KERNEL_MQ, /* a message queue, which is a descriptor */
    TT_KERNEL_THREAD,
    TT_KERNEL_MAPPING,
    TT_KERNEL_CHILD,
    TT_KERNEL_TIMER,
    TT_KERNEL_SHM,
    TT_KERNEL_SEM,
    TT_KERNEL_MSG,
    TT_KERNEL_PORT,
    TT_KERNEL_CALLS, /* from here on by probes of functions, those of the C library first */
    TT_KERNEL_JOINED = TT_KERNEL_CALLS, /* a thread, held until it is joined or detached */
    TT_KERNEL_LIBRARY,
    TT_KERNEL_STREAM,
    TT_KERNEL_DIRECTORY,
    TT_KERNEL_NAMED, /* a POSIX semaphore that is open */
    TT_KERNEL_KINDS,
    TT_KERNEL_DECLARED = 32, /* + index of the declared handle */
    TT_KERNEL_DECLARED_END = 64,
};

/* What a probe of a function carries: kind:8 | releases:8 | from:8 | valid:8 | width:8 | wide:8,
 * with the meanings of struct tt_tape_watch, and 1 + where the object has a descriptor, 0 nowhere.
 */
#define TT_KERNEL_COOKIE(kind, releases, from, valid, width, wide, also)                           \
    ((__u64)(kind) | (__u64)(releases) << 8 | (__u64)(from) << 16 | (__u64)(valid) << 24 |         \
     (__u64)(width) << 32 | (__u64)(wide) << 40 | (__u64)(also) << 48)
enum { /* of tape.h, which this side cannot include */
       TT_KERNEL_FROM_RETURN = 1,
       TT_KERNEL_FROM_ARG0 = 2,
       TT_KERNEL_FROM_AT_ARG0 = 8,
       TT_KERNEL_ALWAYS = 0,
       TT_KERNEL_NOT_NEGATIVE,
       TT_KERNEL_NOT_NULL,
       TT_KERNEL_ZERO,
       TT_KERNEL_NOT_MINUS_ONE,
       TT_KERNEL_HANDLE,
};

enum tt_kernel_what {
    TT_KERNEL_OPEN = 1, /* descriptors in value[0..n-1], pending under serial, serial + 1 */
    TT_KERNEL_ACQUIRE,  /* value[0]; of a port its descriptor, value[1]: the port asked for */
    TT_KERNEL_RELEASE,  /* value[0]. By a function: value[1], value[2]: ns at which the call began
                           and at which this is told; value[3], of ACQUIRE: the descriptor inside,
                           ~0 none */
    TT_KERNEL_MAP,      /* [value[0], + value[1]); value[2]: may lie over others */
    TT_KERNEL_UNMAP,    /* [value[0], + value[1]) */
    TT_KERNEL_REMAP,    /* [value[2], + value[3]) became [value[0], + value[1]) */
    TT_KERNEL_BRK,      /* the heap ends at value[0] */
    TT_KERNEL_CODE,     /* an executable mapping came: modules are to be read again */
    TT_KERNEL_PROTECT,  /* [value[0], + value[1]) became executable */
    TT_KERNEL_FORK, /* value[0]: process id of the child, which has `slot`; value[1]: parent's slot
                     */
    TT_KERNEL_EXEC, /* `slot` is the new image's; value[1]: slot of the one before;
                        value[2]: a thread called it that was not the first */
};

struct tt_kernel_event {
    __u32 what, slot;
    __u32 kind; /* enum tt_kernel_kind */
    __u32 site; /* 0: not known, the stack follows */
    __u32 n, serial;
    __u32 tick, tid;
    __u64 value[4];
    __u64 ip, sp, bp, di;
    __u32 pages; /* read, from the page of sp on */
    __u32 owner; /* id, 0 none */
};

/* Behind a record with a stack: the return addresses that probes of the kernel's stand in the place
 * of, innermost first; 0: no more. Then the pages. */
struct tt_kernel_return {
    __u64 place, address;
};
#define TT_KERNEL_RETURNS 8u
struct tt_kernel_raw {
    struct tt_kernel_event event;
    struct tt_kernel_return returns[TT_KERNEL_RETURNS];
};

/* An EXEC record. */
#define TT_KERNEL_PATH 256u
struct tt_kernel_exec {
    struct tt_kernel_event event;
    char path[TT_KERNEL_PATH]; /* as given to execve */
};

/* A stack that was unwound: the words that led the way. Written by the loader under `seq` (odd
 * while it writes). */
struct tt_kernel_known {
    __u32 seq, site;
    __u64 ip, key; /* key: slot and kind */
    __u64 bp;      /* frame pointer minus stack pointer, compared if `need_bp` */
    __u32 n, span; /* words; bytes from the stack pointer to the end of the last one */
    __u32 need_bp, reserved;
    __u16 at[TT_KERNEL_WORDS]; /* distance from the stack pointer; bit 0: word is relative to it */
    __u64 word[TT_KERNEL_WORDS];
};

/* Counts of one site: units of the table of descriptors only. */
struct tt_kernel_count {
    __u32 kind, reserved;
    __u64 births;
    __u64 deaths[TT_KERNEL_BINS];
};

/* On whose behalf a thread works: the peer of a socket, or a sender of datagrams. Row id %
 * TT_KERNEL_OWNERS; ids have 20 bits. As struct tt_tape_owner, which the loader makes of it. */
enum { TT_KERNEL_CONNECTION = 1, TT_KERNEL_SENDER = 2 };
struct tt_kernel_owner {
    __u32 id; /* 0: never used; stored last */
    __u32 fd;
    __u16 slot;
    __u8 how, address_bytes;
    __u32 begin, last, end; /* end: tick + 1 */
    __u32 births;
    __u32 pid, uid;   /* of the peer, if it is of this machine; pid 0: not known */
    __u32 address[7]; /* struct sockaddr */
};

struct tt_kernel_slot {
    __u32 pid;
    __u32 high;       /* descriptors below this may be in the table */
    __u32 unknown[2]; /* sites for descriptors and sockets whose stack could not be told */
};

struct tt_kernel_shared {
    __u64 target[TT_KERNEL_TARGETS]; /* pid << 32 | slot + 1; 0 free, 1 deleted */
    __u32 tick;                      /* written by the loader */
    __u32 follow;                    /* children too */
    __u32 deep;                      /* TT_KERNEL_PAGES_DEEP for raw stacks */
    __u32 serial;
    __u64 lost_stacks; /* records for which the ring had no room: units counted at `unknown` */
    __u64 lost_events; /* the same, and the unit is not followed */
    __u64 lost_slots;  /* images for which there was no slot */
    __u64 lost_far;    /* descriptors for which the map had no room */
    __u64 foreign;     /* closed, and not in the table */
    __u64 lost_owners; /* peers for which there was no row */
    __u32 owner_count, reserved;
    struct tt_kernel_slot slot[TT_KERNEL_SLOTS];
    struct tt_kernel_count count[TT_KERNEL_SITES];
    struct tt_kernel_known known[TT_KERNEL_CACHE];
    __u64 fd[TT_KERNEL_SLOTS * TT_KERNEL_FDS];
    __u32 word[TT_KERNEL_SLOTS * TT_KERNEL_FDS];
    struct tt_kernel_owner owner[TT_KERNEL_OWNERS];
    __u64 working[TT_KERNEL_WORKING];           /* thread << 32 | owner's id */
    __u32 sender[TT_KERNEL_SENDERS];            /* ids */
    __u64 ops[TT_KERNEL_SLOTS * TT_KERNEL_OPS]; /* calls */
};

/* Where a stack is looked for among those known: the same for both sides. */
static inline __u32 tt_kernel_place(__u64 ip, __u64 sp, __u64 key)
{
    __u64 x = (ip ^ sp << 20 ^ key << 44) * 0x9e3779b97f4a7c15ULL;
    return (__u32)(x >> 40) & (TT_KERNEL_CACHE - TT_KERNEL_WAYS);
}

/* tt_tape_bin of an age in ticks, without branches: the kernel proves every way through a program.
 */
static inline __u32 tt_kernel_bin(__u32 age)
{
    __u64 v = age, log = 0;
    for (__u32 step = 16; step; step >>= 1) {
        __u64 high = (((1ULL << step) - 1 - v) >> 63) * step; /* step if v has it, else 0 */
        v >>= high;
        log += high;
    }
    if (age < 2)
        return 0;
    __u32 bin = (__u32)(2 * log - 1 + ((__u64)age * age >> (2 * log + 1) != 0));
    return bin < TT_KERNEL_BINS ? bin : TT_KERNEL_BINS - 1;
}

#endif
