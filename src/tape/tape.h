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
#define TT_TAPE_VERSION 1u

/* Time: the recorder writes the tick; the agent only loads it, since rdtsc costs 9 ns
 * (MECHANISMS.md) and a load nothing. 24 bits of 1/8 s are 24 days; then ticks stay at the maximum
 * and `tick_saturated` is set. */
#define TT_TAPE_TICKS_PER_SECOND 8u
#define TT_TAPE_TICK_MAX 0xffffffu

/* Bounds. Reaching one drops data, and counts what it dropped in head.dropped[]. */
#define TT_TAPE_SITES (1u << 20)  /* sites, id 0 is "stack unknown" */
#define TT_TAPE_FRAMES (1u << 25) /* program counters of all stacks together */
#define TT_TAPE_DEPTH 192u        /* frames of one stack; outer ones beyond are cut */
#define TT_TAPE_THREADS 4096u     /* per-thread counter slots */
#define TT_TAPE_RING (1u << 14)   /* release samples between two visits of the recorder */
#define TT_TAPE_BIG (1u << 16)    /* live blocks of 1 MiB and more */
#define TT_TAPE_OPS 64u           /* counted function entries */
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
    TT_DROP_KINDS = 16,
};

/* A counted function entry (an "operation"). The recorder fills address and patches the entry with
 * the target stopped; the stub in the target adds to count. */
struct tt_tape_op {
    uint64_t address; /* 0: unused */
    uint64_t count;
};

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
    uint32_t reserved0;

    /* R: written by the recorder, own cache lines. */
    __attribute__((aligned(64))) uint32_t now_tick; /* R: ticks since recorder's origin */
    uint32_t want_quiet;                            /* R: 1 asks the agent to go quiet */
    uint64_t heartbeat_ns;                          /* R: CLOCK_BOOTTIME, refreshed with the tick */
    uint64_t tick_origin_ns; /* R: CLOCK_BOOTTIME of tick 0 (the same for all tapes of a session) */
    uint32_t tick_saturated; /* R */
    uint32_t ring_tail;      /* R: release samples consumed */

    __attribute__((aligned(64))) uint32_t site_count; /* ids given out so far, incl. 0 */
    uint32_t frame_count;                             /* program counters used so far */
    uint32_t region_count;                            /* shadow regions given out so far */
    uint32_t thread_count; /* thread slots given out so far (high-water mark) */
    uint32_t big_count;    /* big-block slots ever used */
    uint32_t ring_head;    /* release samples produced */
    uint64_t module_epoch; /* bumped when the agent saw dlclose or a changed map */
    __attribute__((aligned(64))) uint64_t dropped[TT_DROP_KINDS];
    struct tt_tape_op ops[TT_TAPE_OPS];
    uint32_t regions[TT_TAPE_REGIONS]; /* region index -> address >> TT_TAPE_REGION_SHIFT */
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
    uint32_t reserved;
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
#define TT_TAPE_TALLIES 252u
struct tt_tape_thread {
    uint32_t tid; /* 0: free */
    uint32_t moving;
    uint64_t foreign_frees;
    uint64_t reserved[14];
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
#define TT_TAPE_OFF_HASH                                                                           \
    (TT_TAPE_OFF_BIG + TT_TAPE_ALIGN_(TT_TAPE_BIG * sizeof(struct tt_tape_big)))
#define TT_TAPE_OFF_L1                                                                             \
    (TT_TAPE_OFF_HASH + ((uint64_t)TT_TAPE_HASH0 + TT_TAPE_HASH1 + TT_TAPE_HASH2) * 8)
#define TT_TAPE_OFF_THREADS (TT_TAPE_OFF_L1 + TT_TAPE_L1 * 4ULL)
#define TT_TAPE_OFF_SITES                                                                          \
    (TT_TAPE_OFF_THREADS + (uint64_t)TT_TAPE_THREADS * sizeof(struct tt_tape_thread))
#define TT_TAPE_OFF_FRAMES                                                                         \
    (TT_TAPE_OFF_SITES + (uint64_t)TT_TAPE_SITES * sizeof(struct tt_tape_site))
#define TT_TAPE_OFF_SHADOW (TT_TAPE_OFF_FRAMES + (uint64_t)TT_TAPE_FRAMES * 8)

/* Bytes of shadow per region at a given granule. */
#define TT_TAPE_REGION_BYTES(granule_shift) (8ULL << (TT_TAPE_REGION_SHIFT - (granule_shift)))
/* The L1 table holds, per address >> 26, region index + 1 (0: none). */
#define TT_TAPE_FILE_BYTES(granule_shift)                                                          \
    (TT_TAPE_OFF_SHADOW + TT_TAPE_REGIONS * TT_TAPE_REGION_BYTES(granule_shift))

_Static_assert(sizeof(struct tt_tape_site) == 256, "site record is four cache lines");
_Static_assert(sizeof(struct tt_tape_tally) == 32, "tally is half a cache line");
_Static_assert(sizeof(struct tt_tape_thread) == 128 + 32 * TT_TAPE_TALLIES, "thread slot");
_Static_assert(sizeof(struct tt_tape_release) == 32, "release sample");

/* How the recorder tells the agent what to do: environment of the target.
 * TELLTALE_TAPES  directory in which each process makes its tape: "tape.PID.N" (O_CREAT|O_EXCL)
 * TELLTALE_CONF   "mode=exact|sampled|adaptive,mean=BYTES,rate=PERSECOND,follow=0|1,root=PID,
 *                  origin=NS" : origin = CLOCK_BOOTTIME ns of tick 0; root = pid of the command;
 *                  with follow=0 only root (through exec too) records. */
#define TT_TAPE_ENV_DIR "TELLTALE_TAPES"
#define TT_TAPE_ENV_CONF "TELLTALE_CONF"

#endif
