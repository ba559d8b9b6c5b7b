/* SPDX-License-Identifier: Apache-2.0 */
/* The tape: the shared memory between the agent (writer, inside the target) and the recorder
 * (reader, outside). One sparse file per process; every part has a fixed offset and a fixed bound,
 * so that neither side needs an allocator or a lock, and a killed target loses nothing. It holds
 * live units, totals and stacks - not events. The recorder treats every byte as hostile: it never
 * follows a pointer from here and checks every index against the constants below.
 * Both sides include this header and nothing else of each other; it needs only <stdint.h>.
 * Start: struct tt_tape_head, then struct tt_tape_site and TT_TAPE_ENTRY_*. */
#ifndef TT_TAPE_TAPE_H
#define TT_TAPE_TAPE_H

#include <stdint.h>

#define TT_TAPE_MAGIC 0x3170617474746c74ULL /* "tlttapt1" */
#define TT_TAPE_VERSION 4u

/* Time: the recorder writes the tick; the agent only loads it, since rdtsc costs 9 ns
 * (MECHANISMS.md) and a load nothing. 24 bits of 1/8 s are 24 days; then ticks stay at the maximum
 * and `tick_saturated` is set. */
#define TT_TAPE_TICKS_PER_SECOND 8u
#define TT_TAPE_TICK_MAX 0xffffffu

/* Bounds. Reaching one drops data, and counts what it dropped in head.dropped[]. */
#define TT_TAPE_SITES (1u << 20)    /* sites, id 0 is "stack unknown" */
#define TT_TAPE_FRAMES (1u << 25)   /* program counters of all stacks together */
#define TT_TAPE_DEPTH 192u          /* frames of one stack; outer ones beyond are cut */
#define TT_TAPE_THREADS 4096u       /* per-thread counter slots */
#define TT_TAPE_RING (1u << 14)     /* release samples between two visits of the recorder */
#define TT_TAPE_BIG (1u << 16)      /* live blocks of 1 MiB and more */
#define TT_TAPE_OPS 64u             /* counted function entries */
#define TT_TAPE_WATCHES 256u        /* watched function entries */
#define TT_TAPE_HELD_FDS (1u << 15) /* rows of the first descriptors, see struct tt_tape_held */
#define TT_TAPE_HELD (TT_TAPE_HELD_FDS + (1u << 17)) /* units held other than heap blocks */
#define TT_TAPE_BUCKET 8u         /* neighbours in that table, see struct tt_tape_held */
#define TT_TAPE_OWNERS (1u << 16) /* owners remembered at a time */
#define TT_TAPE_FDS (1u << 20)    /* descriptors whose owner is known */
#define TT_TAPE_REGIONS 4096u     /* 64 MiB pieces of address space that hold blocks */
#define TT_TAPE_REGION_SHIFT 26   /* log2 of such a piece */
#define TT_TAPE_L1 (1u << 21)     /* 47-bit addresses >> 26 */
#define TT_TAPE_BINS 48u          /* half-octave bins of ages, see tt_tape_bin */

enum tt_tape_mode { TT_MODE_EXACT = 1, TT_MODE_SAMPLED = 2, TT_MODE_ADAPTIVE = 3 };

enum tt_tape_state {
    TT_STATE_EMPTY = 0,   /* file made, header not ready */
    TT_STATE_RUNNING = 1, /* recording */
    TT_STATE_QUIET = 2,   /* the agent went quiet: recorder gone, or asked to */
    TT_STATE_ENDED = 3,   /* exec or exit seen by the agent (a SIGKILL leaves RUNNING) */
    TT_STATE_REFUSED = 4, /* the agent cannot work here; head.reason says why */
};

/* What was dropped or not seen, each a count. The names for people stand in the recorder. */
enum tt_tape_drop {
    TT_DROP_SITES,        /* births counted on site 0 because the site table was full */
    TT_DROP_FRAMES,       /* same, frame store full */
    TT_DROP_REGIONS,      /* births not followed: no shadow region left or it could not be mapped */
    TT_DROP_BIG,          /* births >= 1 MiB not followed: big-block table full */
    TT_DROP_RING,         /* release samples lost: ring full */
    TT_DROP_THREADS,      /* threads counted through the shared slot 0: slots used up */
    TT_DROP_NESTED,       /* hook entered inside the agent (signal handler): counted on site 0 */
    TT_DROP_CUT_DEPTH,    /* stacks cut at TT_TAPE_DEPTH */
    TT_DROP_CUT_UNWIND,   /* stacks that end early: no unwind row, or CFA outside the stack */
    TT_DROP_ROWS,         /* unwind row cache full: rows recomputed */
    TT_DROP_CHILDREN,     /* forked children that could not get a tape of their own */
    TT_DROP_SAMPLES,      /* units that were not sampled because the sample region was full */
    TT_DROP_FOREIGN_FREE, /* releases of blocks born before recording or not followed */
    TT_DROP_HELD,         /* units not followed: the table of held units was full */
    TT_DROP_OWNERS,       /* owners not told apart: all rows in use */
    TT_DROP_UNSEEN,       /* held units that went by a way not watched: their value came anew */
    TT_DROP_NOT_HELD,     /* releases of values that were not held: older, or come by such a way */
    TT_DROP_KINDS = 24,
};

/* A counted function entry (an "operation"). The recorder fills address and patches the entry with
 * the target stopped; the stub in the target adds to the slot of its thread (struct
 * tt_tape_thread), or to `count` where that cannot be. The reader adds them all up. */
struct tt_tape_op {
    uint64_t address; /* 0: unused */
    uint64_t count;
};

/* How a stub finds the slot: the word of the thread control block that is the agent's is the
 * address of a thread's state, if it lies in head.states; in there, at TT_TAPE_STATE_PLACE, is the
 * address of three words: bounds of the stack pointer, and where the slot lies. */
#define TT_TAPE_STATE_WORD 0x40 /* offset from fs */
#define TT_TAPE_STATE_PLACE 56

/* ---- watches: resources other than heap blocks ---- */

/* What a unit is; names the resource in the session. */
enum tt_tape_kind {
    TT_KIND_HEAP = 0,
    TT_KIND_FD,
    TT_KIND_SOCKET,
    TT_KIND_PORT,
    TT_KIND_THREAD,
    TT_KIND_MAPPING,
    TT_KIND_CHILD,
    TT_KIND_TIMER,
    TT_KIND_IPC,
    TT_KIND_LIBRARY,
    TT_KIND_STREAM,
    TT_KIND_DIRECTORY,
    TT_KIND_DECLARED = 32, /* + index of the declared resource; the last is 255 */
};

/* The space of a value: equal values of two spaces are two units. A resource that is released by
 * the same call as another lives in the other's space (close(2) and sockets). */
enum tt_tape_space {
    TT_SPACE_FD = 1,  /* descriptors of every kind */
    TT_SPACE_PORT,    /* value: the descriptor that is bound; goes with it */
    TT_SPACE_THREAD,  /* pthread_t */
    TT_SPACE_MAPPING, /* start address; size says how far */
    TT_SPACE_CHILD,   /* pid */
    TT_SPACE_TIMER,   /* timer_t */
    TT_SPACE_SHM,     /* System V ids */
    TT_SPACE_SEM,
    TT_SPACE_MSG,
    TT_SPACE_SHM_ATTACHED,    /* address */
    TT_SPACE_NAMED_SEMAPHORE, /* address */
    TT_SPACE_LIBRARY,         /* handle */
    TT_SPACE_STREAM,          /* FILE * */
    TT_SPACE_DIRECTORY,       /* DIR * */
    TT_SPACE_DECLARED = 32,   /* + index of the declared resource */
};

/* What a watched function does. "Before" and "after" are before and after the real function. */
enum tt_watch_what {
    TT_WATCH_NONE = 0,
    TT_WATCH_ACQUIRE, /* after: the value becomes a unit of `kind`, `size` large */
    TT_WATCH_RELEASE, /* the unit with the value goes. Its row is marked before, since the value may
                         be another thread's the moment the real function returns, and taken out
                         after if the result is valid. With TT_VALID_ALWAYS it is taken out before,
                         and the real function is entered by a jump: no frame of ours. close(2) is
                         like that: on Linux the descriptor is gone whatever it returns. What
                         belongs to a descriptor (port, owner) goes with it */
    TT_WATCH_REPLACE, /* dup2, dup3: ACQUIRE of the value of argument 1, after RELEASE of what it
                         was; nothing if it equals argument 0 */
    TT_WATCH_RANGE,   /* close_range(first, last, flags): releases all in the range. With `size`
                         TT_FROM_NONE there is no last one and no flags: closefrom(first) */
    TT_WATCH_MAP,     /* mmap, mmap64: acquires the interval from the result, argument 1 long; what
                         MAP_FIXED covers is released. Space MAPPING. Of this and the next two, calls
                         by the library that defines them (`own`) do not count: malloc's, stacks */
    TT_WATCH_UNMAP,   /* munmap: releases [argument 0, + argument 1): a unit may keep its start,
                         its end, or both and so become two */
    TT_WATCH_REMAP,   /* mremap: argument 0's interval of argument 1 goes on as the result's of
                         argument 2; it keeps site and age */
    TT_WATCH_PASSED,  /* recvmsg: acquires every descriptor of SCM_RIGHTS messages in the struct
                         msghdr of argument 1; as FROM with the address there */
    TT_WATCH_BIND,    /* bind (`valid` ZERO) and connect (`valid` ALWAYS) that return 0: the
                         descriptor in argument 0 now holds a local port, if the address in argument
                         1 is of AF_INET or AF_INET6; once for a descriptor. A connect that goes on
                         (EINPROGRESS) does not count */
    TT_WATCH_THREAD,  /* pthread_create: ACQUIRE through argument 0, unless the attributes in
                         argument 1 say detached */
    TT_WATCH_FORK,    /* fork: a positive result is acquired */
    TT_WATCH_VFORK,   /* vfork: likewise; and what the child does before exec or _exit with its
                         parent's memory is not done to the table. No frame in the child's way */
    TT_WATCH_SPAWN,   /* posix_spawn, posix_spawnp: ACQUIRE; of what they do within nothing counts.
                         ACQUIRE in space CHILD is the same */
    TT_WATCH_WAIT,    /* wait, waitpid, wait3, wait4: status `from`, options `size` (NONE: 0).
                         Releases the result if the child has ended and not only stopped */
    TT_WATCH_WAITID,  /* waitid(type, id, info, options) likewise */
    TT_WATCH_OWNER, /* read, readv, recv: from now on the thread works for the peer of the socket in
                       argument 0, if it is one. No unit, no frame */
    TT_WATCH_FROM,  /* recvfrom: as OWNER; but what comes with a sender's address (in argument 4,
                       its length behind 5) is work for that sender. `size` AT_ARG1: recvmsg, as
                       PASSED */
    TT_WATCH_ACCEPT, /* accept, accept4: ACQUIRE, and the new peer (address in argument 1, length
                        through 2, if given) is the thread's owner from now on */
    TT_WATCH_IDLE,   /* epoll_wait, poll, ...: the thread works for nobody from now on. No frame */
};

/* Where a value stands. */
enum tt_watch_from {
    TT_FROM_NONE = 0,
    TT_FROM_RETURN = 1,
    TT_FROM_ARG0 = 2,    /* .. TT_FROM_ARG0 + 5 */
    TT_FROM_AT_ARG0 = 8, /* .. + 5: in memory, where the argument points; `width` bytes. Read after
                            the real function for ACQUIRE, before for RELEASE */
};

/* Which results say that the function did what it is for. */
enum tt_watch_valid {
    TT_VALID_ALWAYS = 0,
    TT_VALID_NOT_NEGATIVE,
    TT_VALID_NOT_NULL,
    TT_VALID_ZERO, /* of the lower 32 bits */
    TT_VALID_NOT_MINUS_ONE,
    TT_VALID_HANDLE, /* neither 0 nor -1 */
};

enum tt_watch_flags {
    TT_WATCH_COUNTED = 1,  /* a value that is held counts up, and down at RELEASE: dlopen. Each time
                              is a unit of its own (tt_tape_further), `also` of the first row says
                              how many further ones there are, and the last goes first */
    TT_WATCH_ONCE = 2,     /* a value that is held stays as it is: shmget of the same key */
    TT_WATCH_PAIR = 4,     /* two values side by side behind the pointer: pipe, socketpair */
    TT_WATCH_LIKE = 8,     /* the unit is of the kind of the one in argument 0, if held: dup */
    TT_WATCH_ALSO_FD = 16, /* the object at the value holds a descriptor at offset `also`: ACQUIRE
                              follows it as an fd unless it is held, RELEASE releases it too */
    TT_WATCH_WIDE = 32,    /* the result is 64 bits wide; else the lower 32 count, signed */
    TT_WATCH_PROBE = 64,   /* no function's entry but five bytes of nop (0f 1f 44 00 00) amid code:
                              ACQUIRE or RELEASE of an argument's value, or OWNER of the descriptor
                              in argument 0, there and then. Every register stays as it is */
};

/* A watched function. The recorder writes the row while the target stands still, then the stub,
 * then the jump at the entry (src/inject/watch.c). */
struct tt_tape_watch {
    uint64_t address;   /* R: of the function; 0: unused, calls go straight on */
    uint64_t real;      /* R: as in its struct tt_watch_stub */
    uint8_t what;       /* R: enum tt_watch_what */
    uint8_t space;      /* R: enum tt_tape_space */
    uint8_t kind;       /* R: enum tt_tape_kind of what it acquires */
    uint8_t from;       /* R: enum tt_watch_from of the value */
    uint8_t valid;      /* R: enum tt_watch_valid */
    uint8_t size;       /* R: enum tt_watch_from of the size of the unit; NONE: 1 */
    uint8_t flags;      /* R: enum tt_watch_flags */
    uint8_t width;      /* R: bytes of a value in or behind an argument: 4, 8, 0 as WIDE */
    uint16_t also;      /* R: see TT_WATCH_ALSO_FD */
    uint8_t when;       /* R: ARG..: only calls with one of `values` there count; NONE: all */
    uint8_t reserved0;  /* 0 */
    uint32_t values[2]; /* R: fcntl: F_DUPFD and F_DUPFD_CLOEXEC; shmctl: IPC_RMID twice */
    uint32_t reserved1;
    uint64_t calls;  /* failed ones too, OWNER's not; a few of each thread may be missing */
    uint64_t own[2]; /* R, by src/inject: see TT_WATCH_MAP; from and to, 0 0: none */
};

/* Like open, or like close: most of all calls that count. They have entries of their own. */
static inline int tt_watch_plain_open(const struct tt_tape_watch *w)
{
    return w->what == TT_WATCH_ACQUIRE && w->space == TT_SPACE_FD && w->from == TT_FROM_RETURN &&
           w->valid == TT_VALID_NOT_NEGATIVE && (w->flags & ~TT_WATCH_LIKE) == 0 &&
           w->when == TT_FROM_NONE;
}
static inline int tt_watch_plain_close(const struct tt_tape_watch *w)
{
    return w->what == TT_WATCH_RELEASE && w->space == TT_SPACE_FD && w->valid == TT_VALID_ALWAYS &&
           w->from == TT_FROM_ARG0 && w->flags == 0 && w->when == TT_FROM_NONE;
}

/* A unit held. A descriptor below TT_TAPE_HELD_FDS has the row of its number, for itself: only the
 * calls that open and close it, between which the kernel keeps order, write it. All other units
 * share the rows behind, in buckets of neighbours. Such a unit's place is its own row, tt_tape_own
 * of bucket tt_tape_bucket(space, value, 0); if that says `overflow`, perhaps any row of this
 * bucket or of the next TT_TAPE_HELD_REACH - 1 ones. A reader takes a row for sound if `state` is
 * the same before and after. */
enum {
    TT_HELD_FREE = 0,
    TT_HELD_BUSY = 1, /* being filled */
    TT_HELD_LIVE = 2,
    TT_HELD_LEAVING = 3, /* a call that releases it is under way: held still */
    TT_HELD_MASK = 3,
    TT_HELD_STAMP = 4, /* the state's upper bits count changes */
};
#define TT_TAPE_HELD_REACH 16u
struct tt_tape_held {
    uint64_t value;
    uint32_t state; /* TT_HELD_* */
    uint32_t owner; /* id of the owner for whom it was acquired, 0 none */
    uint64_t entry; /* as shadow entries: site:20 | 0:20 | tick:24. The site's kind is the unit's;
                       its births, deaths and release samples are counted as those of blocks are */
    uint64_t size;  /* 1, or bytes of a mapping, or what the watch says */
    uint32_t count; /* 1 */
    uint32_t tid;   /* thread that acquired it, as the agent knew it (0, 1: unknown) */
    int32_t also;   /* descriptor inside a stream or directory, -1 none; PORT: the port asked for */
    uint8_t space;  /* enum tt_tape_space */
    uint8_t kind;   /* enum tt_tape_kind */
    uint8_t overflow; /* some unit whose own row this is lies elsewhere, or did once */
    uint8_t flags;    /* TT_HELD_BOUND */
    uint64_t reserved[2];
};
enum { TT_HELD_BOUND = 1 /* a descriptor to which a unit of TT_SPACE_PORT belongs, or did */ };

/* The value of the n-th further unit of one counted value. */
static inline uint64_t tt_tape_further(uint64_t value, int32_t n)
{
    return value + ((uint64_t)n << 48);
}
/* Small values (ids) keep their order, so that few of them touch few pages. */
#define TT_TAPE_HELD_SMALL (1u << 15)
#define TT_TAPE_HELD_BUCKETS ((TT_TAPE_HELD - TT_TAPE_HELD_FDS) / TT_TAPE_BUCKET)
static inline uint64_t tt_tape_held_hash(uint32_t space, uint64_t value)
{
    uint64_t h = (value + space) * 0x9e3779b97f4a7c15ULL;
    return h ^ h >> 32;
}
static inline uint32_t tt_tape_own(uint32_t space, uint64_t value)
{
    uint64_t v = value < TT_TAPE_HELD_SMALL ? value : tt_tape_held_hash(space, value) >> 44;
    return (uint32_t)v % TT_TAPE_BUCKET;
}
/* The n-th bucket for a value. The later ones lie anywhere: where many values lie side by side,
 * their neighbours are full too. */
static inline uint32_t tt_tape_bucket(uint32_t space, uint64_t value, uint32_t n)
{
    uint64_t h = tt_tape_held_hash(space, value);
    if (n > 0)
        h = (h + n) * 0xbf58476d1ce4e5b9ULL >> 40;
    else if (value < TT_TAPE_HELD_SMALL)
        h = value / TT_TAPE_BUCKET + space * 0x9e5ULL;
    return (uint32_t)h % TT_TAPE_HELD_BUCKETS;
}

/* An owner: the peer of a stream socket, or a sender of datagrams. Row id % TT_TAPE_OWNERS; a row
 * is given to the next owner only when its present one has ended, or is a sender. */
enum { TT_OWNER_CONNECTION = 1, TT_OWNER_SENDER = 2 };
struct tt_tape_owner {
    uint32_t id;    /* 0: never used; stored last */
    uint32_t fd;    /* of the socket */
    uint32_t begin; /* tick at which it was accepted or first read from */
    uint32_t last;  /* tick of the latest read for it */
    uint32_t end;   /* tick + 1 at which the socket was closed, 0: has not. Of a SENDER always 0: it
                       ends with its socket, or when nothing came for long */
    uint32_t births;             /* units acquired for it; wraps */
    uint32_t peer_pid, peer_uid; /* R: by SO_PEERCRED, 0 unknown */
    uint8_t how;                 /* TT_OWNER_* */
    uint8_t address_bytes; /* of address; 0: not known here (the program did not ask for it) */
    uint8_t reserved[2];
    uint8_t address[28]; /* struct sockaddr as the kernel gave it to the program, cut */
};

/* TT_TAPE_FDS words: who the peer of a socket is. 0: not known to be a socket (R: the recorder
 * writes UNMET for sockets that are open when it attaches). */
#define TT_TAPE_FD_UNMET 0xffffffffu /* a socket, from which nobody read yet */

/* First page(s) of the tape. Fields marked R are written by the recorder, the rest by the agent. */
struct tt_tape_head {
    uint64_t magic; /* TT_TAPE_MAGIC, written last by the agent */
    uint32_t version;
    uint32_t mode;  /* enum tt_tape_mode */
    uint32_t state; /* enum tt_tape_state */
    uint32_t pid;   /* in the target's pid namespace */
    uint32_t parent;
    uint32_t granule_shift; /* log2 bytes per shadow entry: 5 for glibc, 4 otherwise */
    uint64_t start_ns;      /* CLOCK_BOOTTIME at the agent's start */
    uint64_t sample_mean;   /* sampled: mean bytes between samples; adaptive: samples/s per key */
    uint64_t region_base;   /* start of the sampled objects' address region, 0 in exact mode */
    uint64_t region_used;   /* bytes of it ever used */
    char allocator[64];     /* "glibc", or path of the object whose malloc is forwarded to */
    char reason[128];       /* TT_STATE_REFUSED: one line, cause and remedy */
    char exe[256];          /* /proc/self/exe as the agent saw it */
    uint64_t pad_base, pad_size;   /* executable pad near the program for operation stubs (private
                                      memory of the target, mapped by the agent, RW+X by the recorder
                                      through ptrace); 0: none */
    uint64_t pad2_base, pad2_size; /* the same near the shared libraries */
    uint64_t map_base;             /* where the agent mapped the tape in the target */
    uint32_t seccomp;              /* filled by nobody yet sandboxed: reserved, 0 */
    uint32_t exiting; /* 1: the process stands at its exit and waits for exit_go, not for long */
    uint64_t watch_entry; /* where stubs of watches lead, in the target; 0: not ready for them. They
                             come by a jump, r11 pushed, then at their struct tt_watch_stub */
    uint64_t probe_entry; /* the same for probes (TT_WATCH_PROBE), with the red zone skipped and
                             flags and r11 pushed */
    uint64_t open_entry;  /* as watch_entry, for rows that are tt_watch_plain_open */
    uint64_t close_entry; /* the same for tt_watch_plain_close */
    uint64_t states;      /* where the states of the threads that have places lie; 0: none has */
    uint32_t states_bytes;
    uint32_t reserved0;

    /* R: written by the recorder, own cache lines. */
    __attribute__((aligned(64))) uint32_t now_tick; /* R: ticks since recorder's origin */
    uint32_t want_quiet;                            /* R: 1 asks the agent to go quiet */
    uint64_t heartbeat_ns;                          /* R: CLOCK_BOOTTIME, refreshed with the tick */
    uint64_t tick_origin_ns; /* R: CLOCK_BOOTTIME of tick 0 (the same for all tapes of a session) */
    uint32_t tick_saturated; /* R */
    uint32_t ring_tail;      /* R: release samples consumed */
    uint32_t exit_go;        /* R: 1: nothing more is wanted of it, it may exit */

    __attribute__((aligned(64))) uint32_t site_count; /* ids given out so far, incl. 0 */
    uint32_t frame_count;                             /* program counters used so far */
    uint32_t region_count;                            /* shadow regions given out so far */
    uint32_t thread_count; /* thread slots given out so far (high-water mark) */
    uint32_t big_count;    /* big-block slots ever used */
    uint32_t ring_head;    /* release samples produced */
    uint32_t owner_count;  /* the latest owner's id */
    uint32_t reserved1;
    uint64_t module_epoch; /* bumped when the agent saw dlclose or a changed map */
    __attribute__((aligned(64))) uint64_t dropped[TT_DROP_KINDS];
    struct tt_tape_op ops[TT_TAPE_OPS];
    uint32_t regions[TT_TAPE_REGIONS]; /* region index -> address >> TT_TAPE_REGION_SHIFT */
};

/* In each stub, in the pad. What it needs to pass a call on stands here and not in the tape,
 * which is another's for a moment in a forked child. */
struct tt_watch_stub {
    uint64_t real;  /* pop %r11, then the moved first instructions, which go on in the function */
    uint16_t index; /* of the row */
    uint8_t kind, flags; /* as in the row */
    uint32_t reserved;
};

/* A site: one acquisition stack (in adaptive mode: one stack and one inclusion probability
 * 2^-thin). Totals here are completed by the thread slots; see tt_tape_thread. Counters only
 * grow; 32-bit ones wrap, the recorder adds differences. */
struct tt_tape_site {
    uint64_t hash;   /* of the stack and thin; 0 while not ready */
    uint32_t frames; /* index of the first (innermost) pc in the frame store */
    uint16_t depth;
    uint8_t thin;                /* each birth counted here stands for 2^thin births (adaptive) */
    uint8_t flags;               /* TT_SITE_* */
    uint32_t size_min, size_max; /* of requested bytes, over all births (0xffffffff..0 if none) */
    uint64_t births, birth_bytes, death_bytes;
    uint64_t early_deaths;         /* deaths in bin 0 */
    uint32_t deaths[TT_TAPE_BINS]; /* by age at death, bins 1..47 (0 unused: early_deaths) */
    uint32_t release_skip;         /* agent: deaths until the next release stack is taken */
    uint8_t kind; /* enum tt_tape_kind of the units, part of the hash; releasing stacks: HEAP */
    uint8_t reserved[3];
};
enum { TT_SITE_CUT = 1, TT_SITE_RELEASE = 2 /* a releasing stack: no births */ };

/* Counters that a thread adds to without touching shared lines; direct-mapped by site, moved to
 * the site (atomic adds) when another site needs the place. The reader adds both; `moving` is odd
 * while an entry is being moved, so a reader that sees it odd or changed reads again. */
struct tt_tape_tally {
    uint32_t site; /* 0: empty */
    uint32_t births;
    uint32_t early_deaths;
    uint32_t last_size; /* agent: skips the min/max update while sizes repeat */
    uint64_t birth_bytes, death_bytes;
};
#define TT_TAPE_TALLIES 236u
struct tt_tape_thread {
    uint32_t tid; /* 0: free */
    uint32_t moving;
    uint64_t foreign_frees;
    uint64_t reserved[14];
    uint64_t ops[TT_TAPE_OPS]; /* of head.ops, what this thread counted; never taken back */
    struct tt_tape_tally tally[TT_TAPE_TALLIES];
};

/* One sampled release: exact age and both stacks. `ready` is the ring position + 1, stored last. */
struct tt_tape_release {
    uint32_t ready;
    uint32_t site;   /* where it was born */
    uint32_t by;     /* site id with TT_SITE_RELEASE: the releasing stack (0 unknown) */
    uint32_t age;    /* ticks */
    uint32_t tick;   /* of the release */
    uint32_t weight; /* deaths this sample stands for (release_skip in force) */
    uint64_t size;
};

/* Live blocks of 1 MiB and more: their shadow entry carries size TT_TAPE_SIZE_BIG. */
struct tt_tape_big {
    uint64_t address; /* 0 free, 1 deleted */
    uint64_t size;
};

/* Shadow entry, 8 bytes, 0 = nothing followed lives here: site:20 | size:20 | tick:24.
 * Written after the block is acquired, cleared before it is released; torn-free on x86-64. */
#define TT_TAPE_SIZE_BIG 0xfffffu
static inline uint64_t tt_tape_entry(uint32_t site, uint64_t size, uint32_t tick)
{
    uint64_t s = size >= TT_TAPE_SIZE_BIG ? TT_TAPE_SIZE_BIG : size;
    return (uint64_t)site << 44 | s << 24 | (tick & TT_TAPE_TICK_MAX);
}
static inline uint32_t tt_tape_entry_site(uint64_t e)
{
    return (uint32_t)(e >> 44);
}
static inline uint32_t tt_tape_entry_size(uint64_t e)
{
    return (uint32_t)(e >> 24) & 0xfffffu;
}
static inline uint32_t tt_tape_entry_tick(uint64_t e)
{
    return (uint32_t)e & 0xffffffu;
}

/* Half-octave bin of an age in ticks: 0 for ages 0 and 1; then starts 2, 3, 4, 6, 8, 12, 16, 23,
 * 32, 46, ... = ceil(2^(k/2)). */
static inline uint32_t tt_tape_bin(uint32_t age)
{
    if (age < 2)
        return 0;
    uint32_t log = 31u - (uint32_t)__builtin_clz(age);
    /* age >= sqrt(2) * 2^log  <=>  age^2 >= 2^(2 log + 1) */
    uint32_t upper = (uint64_t)age * age >= 1ULL << (2 * log + 1);
    uint32_t bin = 2 * log - 1 + upper;
    return bin < TT_TAPE_BINS ? bin : TT_TAPE_BINS - 1;
}

/* Site-hash tables, tried in this order; slot = tag:44 | site id:20, 0 empty. */
#define TT_TAPE_HASH0 (1u << 16)
#define TT_TAPE_HASH1 (1u << 18)
#define TT_TAPE_HASH2 (1u << 21)

/* Offsets in the file. All parts start on 64 KiB. The agent maps the whole file PROT_NONE and
 * opens pieces with mprotect as it needs them: so mlockall() in the target locks only what is in
 * use, and nothing needs a descriptor that a daemon's close loop could take away. */
#define TT_TAPE_ALIGN_(x) (((uint64_t)(x) + 0xffffu) & ~(uint64_t)0xffff)
#define TT_TAPE_OFF_HEAD 0ULL
#define TT_TAPE_OFF_RING TT_TAPE_ALIGN_(sizeof(struct tt_tape_head))
#define TT_TAPE_OFF_BIG                                                                            \
    (TT_TAPE_OFF_RING + TT_TAPE_ALIGN_(TT_TAPE_RING * sizeof(struct tt_tape_release)))
#define TT_TAPE_OFF_WATCHES                                                                        \
    (TT_TAPE_OFF_BIG + TT_TAPE_ALIGN_(TT_TAPE_BIG * sizeof(struct tt_tape_big)))
#define TT_TAPE_OFF_HELD                                                                           \
    (TT_TAPE_OFF_WATCHES + TT_TAPE_ALIGN_(TT_TAPE_WATCHES * sizeof(struct tt_tape_watch)))
#define TT_TAPE_OFF_OWNERS                                                                         \
    (TT_TAPE_OFF_HELD + TT_TAPE_ALIGN_(TT_TAPE_HELD * sizeof(struct tt_tape_held)))
#define TT_TAPE_OFF_FDS                                                                            \
    (TT_TAPE_OFF_OWNERS + TT_TAPE_ALIGN_(TT_TAPE_OWNERS * sizeof(struct tt_tape_owner)))
#define TT_TAPE_OFF_HASH (TT_TAPE_OFF_FDS + TT_TAPE_FDS * 4ULL)
#define TT_TAPE_OFF_L1                                                                             \
    (TT_TAPE_OFF_HASH + ((uint64_t)TT_TAPE_HASH0 + TT_TAPE_HASH1 + TT_TAPE_HASH2) * 8)
#define TT_TAPE_OFF_THREADS (TT_TAPE_OFF_L1 + TT_TAPE_L1 * 8ULL)
#define TT_TAPE_OFF_SITES                                                                          \
    (TT_TAPE_OFF_THREADS + (uint64_t)TT_TAPE_THREADS * sizeof(struct tt_tape_thread))
#define TT_TAPE_OFF_FRAMES                                                                         \
    (TT_TAPE_OFF_SITES + (uint64_t)TT_TAPE_SITES * sizeof(struct tt_tape_site))
#define TT_TAPE_OFF_SHADOW (TT_TAPE_OFF_FRAMES + (uint64_t)TT_TAPE_FRAMES * 8)

/* Bytes of shadow per region at a given granule. */
#define TT_TAPE_REGION_BYTES(granule_shift) (8ULL << (TT_TAPE_REGION_SHIFT - (granule_shift)))
/* The L1 table is the agent's own: per address >> 26, where the shadow of that piece lies in its
 * memory (0: none). The reader goes by tt_tape_head.regions. */
#define TT_TAPE_FILE_BYTES(granule_shift)                                                          \
    (TT_TAPE_OFF_SHADOW + TT_TAPE_REGIONS * TT_TAPE_REGION_BYTES(granule_shift))

_Static_assert(sizeof(struct tt_tape_site) == 256, "site record is four cache lines");
_Static_assert(sizeof(struct tt_tape_tally) == 32, "tally is half a cache line");
_Static_assert(sizeof(struct tt_tape_thread) == 8192, "thread slot");
_Static_assert(sizeof(struct tt_tape_release) == 32, "release sample");
_Static_assert(sizeof(struct tt_tape_watch) == 64, "watch row");
_Static_assert(sizeof(struct tt_tape_held) == 64, "held unit is a cache line");
_Static_assert(sizeof(struct tt_tape_owner) == 64, "owner row");

/* How the recorder tells the agent what to do: environment of the target.
 * TELLTALE_TAPES  directory in which each process makes its tape: "tape.PID.N" (O_CREAT|O_EXCL)
 * TELLTALE_CONF   "mode=exact|sampled|adaptive,mean=BYTES,rate=PERSECOND,follow=0|1,root=PID,
 *                  origin=NS" : origin = CLOCK_BOOTTIME ns of tick 0; root = pid of the command;
 *                  with follow=0 only root (through exec too) records. */
#define TT_TAPE_ENV_DIR "TELLTALE_TAPES"
#define TT_TAPE_ENV_CONF "TELLTALE_CONF"

#endif
