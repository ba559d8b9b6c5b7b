/* SPDX-License-Identifier: Apache-2.0 */
/* State and seams of the core. There is one struct tt_agent per process and one struct tt_thread
 * per thread control block, both in memory that only the agent owns. The hooks (hook_exact.c,
 * hook_sample.c) use: a thread (thread.c), its stack as a site id (stack.c, row.c, maps.c,
 * site.c), the live table (live.h, live.c) and, when sampling, the region (region.c).
 * start.c begins a recording on a tape, which tape.c makes. Start: struct tt_agent, then
 * tt_agent_start. */
#ifndef TT_AGENT_AGENT_H
#define TT_AGENT_AGENT_H

#include <stddef.h>
#include <stdint.h>

#include "agent/arch_x86_64.h"
#include "agent/host.h"
#include "agent/lock.h"
#include "agent/sys.h"
#include "tape/tape.h"

#define TT_HIDDEN __attribute__((visibility("hidden")))
#define TT_LIKELY(x) __builtin_expect(!!(x), 1)
#define TT_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* A hook: three arguments of the call, where its return address lies, the caller's rbp, and the
 * entry's number. All stubs pass these (entry_x86_64.S). */
typedef uint64_t tt_hook_fn(uint64_t a, uint64_t b, uint64_t c, const uint64_t *slot, uint64_t rbp,
                            uint32_t entry);

/* ---- per thread ---- */

/* Polynomial of the stack hash, see stack.c. */
#define TT_POLY 0x5851f42d4c957f2dULL

#define TT_CACHE 512u /* frames of the verified stack kept per thread */

/* A word that must be as it was for the cached frames to be trusted: a return address, or a saved
 * rbp that an outer step reads. */
struct tt_check {
    uint64_t slot, word;
};
struct tt_info {
    uint64_t slot, ra;    /* where the return address lies, and what it is */
    uint64_t hash;        /* polynomial hash of the return addresses from the root to here */
    uint64_t loaded;      /* where rbp of this frame was loaded from; 0: as in the inner frame */
    uint64_t rbp;         /* rbp in this frame */
    uint32_t checks;      /* of the frames from the root to here */
    uint8_t after_signal; /* ra is the interrupted instruction, not a return address */
    uint8_t uses;         /* the step outwards reads rbp */
    uint8_t need;         /* some step outwards reads rbp of this frame */
    uint8_t pad;
};
/* A frame on the way, before it is pushed into the cache. */
struct tt_step {
    uint64_t slot, ra, loaded, rbp;
    uint8_t after_signal, uses, pad[6];
};

enum tt_root { TT_ROOT_END, TT_ROOT_LOST, TT_ROOT_DEEP };

#define TT_KEYS 256u
/* Adaptive mode: births of a cheap key to let pass, and the probability they were drawn with. */
struct tt_key {
    uint64_t key;
    uint32_t skip;
    uint16_t thin, epoch;
};

#define TT_TEXT 4096u
#define TT_RANGES 4u
struct tt_range {
    uint64_t lo, hi;
};

/* Servers run the same few stacks in turn. A whole stack that was captured twice is kept with all
 * the words that its unwinding read; while they hold, so does its site (exact mode). The words
 * stand two by two, inner ones first, each with its distance from the innermost return address: so
 * one load serves two places, and the loads are what bounds the comparing. After the last one comes
 * one that never holds, so that comparing needs no count. */
#define TT_MEMOS 32u
#define TT_WATCH_MEMOS 8u /* more, for units other than heap blocks */
#define TT_MEMO_PAIRS 64u
struct tt_memo_pair {
    uint64_t at; /* distances in bytes: of word[0] in the lower half, of word[1] in the upper */
    uint64_t word[2];
};
struct tt_memo {
    uint64_t slot; /* where the innermost return address lies; 0: empty */
    uint64_t rbp;  /* in the innermost frame, compared if `need` */
    uint32_t site, generation;
    struct tt_tape_tally *tally; /* the site's place on the thread's slot; it may be another's */
    const struct tt_memo_pair *pair;
    const uint64_t *end; /* the word that never holds */
    uint64_t candidate;  /* hash of the stack that was captured last at this place */
    uint32_t need;
    uint32_t kind; /* enum tt_tape_kind of the site */
};
_Static_assert(sizeof(struct tt_memo) == 64, "a memo's head is a cache line");

struct tt_thread {
    /* One cache line has what the calls that count most need (plain_x86_64.S). */
    uint64_t busy;               /* stack pointer of the hook at work, 0 none */
    struct tt_tape_thread *slot; /* in the tape; NULL: all used, count on the sites */
    /* The latest unit that it acquired: in which row in which state, and how many so far. */
    const struct tt_tape_held *acquired_row;
    uint32_t acquired_state, acquired;
    uint32_t vfork; /* not 0: watched calls are a vfork child's, or libc's within posix_spawn */
    uint32_t owner; /* id of whom it works for */
    uint32_t early_left; /* early deaths until the next sampled release */
    uint32_t tid;
    uint32_t depth;         /* frames in the cache; check[depth - 1] is the innermost */
    uint32_t site;          /* of the whole cached stack, 0: not looked up */
    struct tt_place *place; /* NULL: none, count where all do */
    /* See count_call in watch.c. */
    _Alignas(64) uint8_t watched[TT_TAPE_WATCHES];
    uint32_t root;  /* enum tt_root: why the outermost frame is the last */
    uint32_t index; /* of this state in the pool */
    uint64_t tcb;
    struct tt_range range[TT_RANGES]; /* known readable stack memory, [0] the latest */
    uint64_t random[4];
    uint32_t inner;     /* inside the allocator's operator delete, which may call free */
    uint32_t next_free; /* pool: index + 1 of the next free state */
    uint32_t session;   /* for which the byte countdown was drawn */
    uint32_t reaped;    /* the child that it waited for last, if that was held */
    struct tt_step step[TT_TAPE_DEPTH];
    struct tt_check never;               /* does not hold: ends the comparing loops */
    struct tt_check check[2 * TT_CACHE]; /* root first; two a frame at most */
    struct tt_info info[TT_CACHE];
    _Alignas(64) struct tt_memo memo[TT_MEMOS + TT_WATCH_MEMOS];
    struct tt_memo_pair memo_pair[TT_MEMOS + TT_WATCH_MEMOS][TT_MEMO_PAIRS];
    struct tt_key key[TT_KEYS];
    char text[TT_TEXT]; /* scratch: /proc/self/maps */
};
#define TT_THREAD_BYTES 0x24000u
/* Where and on what stack a thread may count operations for itself, see place.c. */
struct tt_place {
    uint64_t lo, hi; /* stack pointers; hi 0: nowhere yet */
    struct tt_tape_thread *slot;
    uint64_t reserved;
};
#define TT_PLACES (TT_TAPE_THREADS - 1) /* as many as there are slots beside the shared one */
_Static_assert(sizeof(struct tt_thread) <= TT_THREAD_BYTES, "a thread state fits its place");

/* ---- per process ---- */

/* How a return address unwinds; packed into 8 bytes. */
enum tt_row_kind {
    TT_ROW_NONE,
    TT_ROW_RSP,
    TT_ROW_RBP,
    TT_ROW_RBP_DEREF,
    TT_ROW_SIGNAL,
    TT_ROW_END,
    TT_ROW_STALE, /* of unloaded code: compute anew */
};
enum tt_row_rbp { TT_RBP_SAME, TT_RBP_AT_CFA, TT_RBP_AT_RBP, TT_RBP_LOST };
struct tt_row {
    uint8_t kind;    /* enum tt_row_kind */
    uint8_t rbp;     /* enum tt_row_rbp */
    int16_t rbp_off; /* bytes, from the CFA or from rbp */
    int32_t cfa_off; /* bytes, from rsp or rbp */
};

/* A mapping of the process, from /proc/self/maps. */
enum tt_map_is {
    TT_IS_READ = 1,
    TT_IS_EXEC = 2,
    TT_IS_VDSO = 4,
    TT_IS_STACK = 8,
    TT_IS_WRITE = 16
};
struct tt_map {
    uint64_t lo, hi, offset, file; /* file: device and inode mixed, 0 anonymous */
    uint64_t is;                   /* enum tt_map_is */
};
struct tt_maps {
    uint32_t turn; /* odd while it is written */
    uint32_t count, room;
    struct tt_map map[];
};

struct tt_agent {
    tt_hook_fn *entry[TT_E_ALL]; /* first: the stubs know the offset. NULL: not started */
    struct tt_host host;
    struct tt_conf conf;
    /* One cache line, again. */
    _Alignas(64) uint32_t *alive; /* in a MADV_WIPEONFORK page: 1 recording; in a forked child 0,
                          then 2 while settling, then 1, or 3 for good if the child does not record.
                          The word behind it: `watching` */
    uint8_t *base;                /* the tape */
    uint32_t generation;   /* of memos: moves when code was unloaded or site ids began anew */
    uint32_t watching;     /* watches: the session that is under way, 0 none */
    uint32_t fd_end;       /* no descriptor from this number on is held */
    uint32_t returns_lost; /* a system call leaves no return address predicted, see start.c */
    uint64_t bytes;        /* from its start to its end, as mapped */
    struct tt_tape_head *head;
    uint64_t *l1; /* see tt_live_piece */
    uint8_t *shadow;
    struct tt_tape_site *sites;
    uint64_t *frames;
    uint32_t granule_shift;
    uint32_t region_limit;                          /* shadow regions that fit the mapped bytes */
    uint32_t sites_open, frames_open, threads_open; /* made readable and writable so far */
    uint32_t hash_open;                             /* hash tables opened: 1..3 */
    uint64_t window;        /* TT_POLY ^ TT_TAPE_DEPTH, for hashes of the innermost frames */
    uint64_t clock_checked; /* now_tick of the latest look at the heartbeat */
    uint64_t stale_since;   /* first look at which the heartbeat was too old; 0: it is not */

    uint32_t limited;  /* only parts of the tape are mapped: little address space */
    uint32_t attached; /* packed as a blob: the target was not started with us */
    uint32_t session;  /* starts so far */

    struct tt_lock site_lock, shadow_lock, row_lock, thread_lock, region_lock, map_lock;

    /* rows: open-addressed, insert-only; replaced by a larger table when full */
    struct tt_row_table *rows;
    uint32_t row_count;
    uint32_t row_epoch;   /* moves when rows are forgotten */
    struct tt_maps *maps; /* to look in: one of these two; NULL: neither is to be trusted */
    struct tt_maps *maps_of[2];

    /* threads */
    uint8_t *pool;
    uint32_t pool_limit, pool_made, pool_used, pool_open, sweep_at, pool_free;
    struct tt_range main_stack;
    struct tt_place *places; /* TT_PLACES; NULL: none to be had */

    struct tt_region *region; /* sampled and adaptive modes */
    struct tt_adapt *adapt;
    uint32_t thin_floor;
};

extern struct tt_agent tt_agent TT_HIDDEN;
_Static_assert(offsetof(struct tt_agent, host) == 8UL * TT_E_ALL &&
                   offsetof(struct tt_host, real) == 0,
               "entry_x86_64.S knows these offsets");

/* sandbox.c. Before the program makes a call that may install a seccomp filter. */
TT_HIDDEN void tt_sandbox_before(long call, long a, long b, long c);

/* start.c */
/* Reads the two environment values (see TT_TAPE_ENV_*) into `conf`; either may be NULL. Returns 0,
 * or -1 when recording is not asked for or a value is malformed. */
TT_HIDDEN int tt_conf_read(struct tt_conf *conf, const char *dir, const char *text);
/* Makes this process's tape and points the entries at the hooks of the mode. `refuse`: NULL, or the
 * reason for which the tape is only to state TT_STATE_REFUSED. Returns 0 or a negative errno; then
 * the entries pass through. */
TT_HIDDEN int tt_agent_start(const struct tt_host *host, const struct tt_conf *conf,
                             const char *refuse);
/* Waits, for 1 s at most, until the recorder has seen this process: then it knows the modules even
 * if the process ends at once, and declared operations are counted from the first call on. */
TT_HIDDEN void tt_agent_await(void);
/* At the process's exit: waits, for conf.last_ms at most and once, until the recorder has made its
 * last copy of the memory or wants none; for one that stands still only a second. */
TT_HIDDEN void tt_agent_exiting(void);
/* Start in a process that runs already, the first time or again (with another mode, after
 * tt_agent_detach): no other thread is inside the agent. A tape in memory, whose descriptor is *fd
 * (to be closed by whoever asked), over the place of the one before. Waits for nobody. Returns 0 or
 * a negative errno with one phrase in *why; then the entries lead where they led before. */
TT_HIDDEN int tt_agent_attach(const struct tt_host *host, const struct tt_conf *conf,
                              const uint64_t pad[2], const uint64_t pad_size[2], int *fd,
                              const char **why);
/* Ends the recording for good; threads amid hooks come to no harm. Returns the sampled objects
 * still live whose release needs a hook. */
TT_HIDDEN uint64_t tt_agent_detach(void);
/* After that: gives the tape's memory back and keeps its addresses. */
TT_HIDDEN void tt_agent_forget(void);
/* In a forked child (word wiped): gives it a tape of its own, or makes it pass through. */
TT_HIDDEN void tt_agent_forked(void);
/* Points all entries at the real allocator (sampled objects stay handled). */
TT_HIDDEN void tt_agent_pass(void);
/* Goes quiet when the recorder asked for it or its heartbeat is older than 10 s. Rare paths. */
TT_HIDDEN void tt_agent_look(void);
static inline void tt_agent_drop(uint32_t kind)
{
    __atomic_fetch_add(&tt_agent.head->dropped[kind], 1, __ATOMIC_RELAXED);
}
static inline int tt_agent_recording(void)
{
    return __atomic_load_n(tt_agent.alive, __ATOMIC_RELAXED) == 1;
}
static inline uint32_t tt_agent_tick(void)
{
    return __atomic_load_n(&tt_agent.head->now_tick, __ATOMIC_RELAXED);
}

/* tape.c */
/* Makes this process's tape, in `state` (enum tt_tape_state) for `reason` (NULL: none), in its
 * directory or, attached, in memory. `at`: the place of the one before, which it takes (in a forked
 * child, the parent's); NULL: anywhere. 0 or a negative errno. */
TT_HIDDEN int tt_tape_make(uint8_t *at, uint32_t state, const char *reason);
/* The same with a file that is there already. Where there is no room, its head says so. */
TT_HIDDEN int tt_tape_use(int fd, uint8_t *at, uint32_t state, const char *reason);
/* A file of `bytes` without a path, for a process that nobody started with a directory of tapes. A
 * descriptor or a negative errno. */
TT_HIDDEN int tt_tape_memory(uint64_t bytes);
/* Fills the head of the mapped tape. */
TT_HIDDEN void tt_tape_fill(uint32_t pid, uint32_t state, const char *reason);
extern const char tt_tape_no_room[] TT_HIDDEN;

/* thread.c */
/* The state of this thread, made on first use; NULL when none can be had. */
TT_HIDDEN struct tt_thread *tt_thread_make(void);
TT_HIDDEN void tt_thread_forked(struct tt_thread *own);
/* Opens places for so many threads ahead of their first calls. Where nobody else is. */
TT_HIDDEN void tt_thread_expect(uint32_t threads);
/* After a new tape in the same process: nothing of the old one stays in any state. A state stays
 * with its thread, which may be in the real allocator with a hook to come back to. */
TT_HIDDEN void tt_thread_again(void);
/* busy was set when a hook began: 1 if that hook is still at work (we are a signal handler), 0 if
 * its frame was left by longjmp (then all it held is given back). */
TT_HIDDEN int tt_thread_nested(struct tt_thread *t, uint64_t sp);
static inline struct tt_thread *tt_thread_get(void)
{
    struct tt_thread *t = tt_arch_thread();
    return TT_LIKELY(t != NULL) ? t : tt_thread_make();
}
TT_HIDDEN uint64_t tt_thread_random(struct tt_thread *t);
/* Moves a tally to its site and gives the place to `site`. */
TT_HIDDEN void tt_thread_tally(struct tt_thread *t, struct tt_tape_tally *place, uint32_t site);

/* place.c */
/* The places of all threads, wiped in forked children; without them all count where all do. */
TT_HIDDEN void tt_place_make(void);
/* Tells the tape where a stub finds them. */
TT_HIDDEN void tt_place_say(void);
/* The state has a new owner, or a new slot: its place is nobody's. */
TT_HIDDEN void tt_place_leave(struct tt_thread *t);
/* The thread runs within `r`. */
TT_HIDDEN void tt_place_claim(struct tt_thread *t, struct tt_range r);

/* maps.c */
/* Reads the mappings anew; with row_lock held, or where nobody else is. Scratch of TT_TEXT bytes. 0
 * or a negative errno. */
TT_HIDDEN int tt_maps_read(char *text);
/* What was read is not to be trusted any more. */
TT_HIDDEN void tt_maps_drop(void);
/* The mapping of `address` as it was read last, and the address of the ELF header of the module
 * that it is of (0: not known); `header` may be NULL. 0: there is none. Waits for nobody. */
TT_HIDDEN int tt_maps_find(uint64_t address, struct tt_map *m, uint64_t *header);
/* Bounds of readable stack memory around `sp`, which is the stack pointer or read from a frame. */
TT_HIDDEN struct tt_range tt_maps_stack(struct tt_thread *t, uint64_t sp);
/* Free address space of `bytes` within 2 GiB of `near`, below it if possible; 0 if none. Where
 * nobody else is. */
TT_HIDDEN uint64_t tt_maps_gap(uint64_t near, uint64_t bytes);

/* row.c */
/* The row for a return address, computed and kept on first sight. */
TT_HIDDEN struct tt_row tt_row_get(struct tt_thread *t, uint64_t ra);
/* After dlclose: forgets rows of code that is no longer mapped as it was. */
TT_HIDDEN void tt_row_forget(struct tt_thread *t);
/* After a time without the agent: nothing that was loaded or unloaded meanwhile was seen. */
TT_HIDDEN void tt_row_again(void);
/* dwarf.c: pure function of the module's memory. `pc` is an address inside the call instruction. */
TT_HIDDEN struct tt_row tt_dwarf_row(uint64_t pc);

/* stack.c */
/* Brings the cache to the present stack. Returns its hash; the depth is in t->depth. */
TT_HIDDEN uint64_t tt_stack_capture(struct tt_thread *t, const uint64_t *slot, uint64_t rbp);
/* Captures, looks the site of memo->kind up, and keeps the stack in `memo` when it was there
 * before.
 */
TT_HIDDEN uint32_t tt_stack_site(struct tt_thread *t, const uint64_t *slot, uint64_t rbp,
                                 struct tt_memo *memo);
/* site.c */
#define TT_FRAME_PIECE (0x80000u / 8u) /* frames opened at a time */
/* Site id of the captured stack with the given thin and flags (and the kind of its units << 8); 0
 * when the tables are full. */
TT_HIDDEN uint32_t tt_site_of(struct tt_thread *t, uint64_t hash, uint32_t thin, uint32_t flags);

/* live.c */
TT_HIDDEN uint64_t *tt_live_open(struct tt_thread *t, uint64_t address);
/* Opens the shadow of what may be heap by the list of mappings, ahead of the first blocks there.
 * Where nobody else is. */
TT_HIDDEN void tt_live_expect(void);
TT_HIDDEN void tt_live_big_add(uint64_t address, uint64_t size);
TT_HIDDEN uint64_t tt_live_big_take(uint64_t address, int forget);
TT_HIDDEN void tt_live_sizes(uint32_t site, uint64_t size);
TT_HIDDEN void tt_live_release(struct tt_thread *t, uint64_t entry, uint64_t size, uint32_t weight,
                               const uint64_t *slot, uint64_t rbp);

/* hook_exact.c */
/* A hook found the process word wiped: settles the forked child and calls anew. */
TT_HIDDEN tt_hook_fn tt_hook_wiped;
/* The real function as a hook, for a jump of the stub. */
TT_HIDDEN tt_hook_fn *tt_hook_straight(uint32_t entry);
/* hook_exact.c, hook_sample.c: fill tt_agent.entry[]. */
TT_HIDDEN void tt_hook_exact(void);
TT_HIDDEN void tt_hook_pass(void);
TT_HIDDEN void tt_hook_sample(void);
TT_HIDDEN void tt_hook_sample_quiet(void);
/* Exact mode where the region of an earlier recording still holds objects. */
TT_HIDDEN void tt_hook_exact_beside(void);
/* hook_attach.c: what is different for patched entries, laid over the hooks of the mode. */
TT_HIDDEN void tt_hook_attached(void);
/* The countdown and the address compare of sampled mode (entry_x86_64.S) and where they end. */
TT_HIDDEN tt_hook_fn tt_sample_malloc, tt_sample_free, tt_sample_malloc_slow, tt_sample_free_slow;

/* region.c, adapt.c */
/* Reserves the address region of sampled objects, the table of rates. 0 or a negative errno. */
TT_HIDDEN int tt_region_make(void);
TT_HIDDEN int tt_adapt_make(void);

/* text.c */
TT_HIDDEN char *tt_text_put(char *at, const char *end, const char *text);
TT_HIDDEN char *tt_text_number(char *at, const char *end, uint64_t value);
TT_HIDDEN const char *tt_text_find(const char *at, const char *end, char c);

#endif
