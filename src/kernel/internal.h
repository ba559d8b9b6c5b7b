/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this room share.
 *   load.c   the object: into the kernel, and to its tracepoints
 *   follow.c records and visits: which image they belong to, and what they mean
 *   site.c   stacks of records: sites
 *   owner.c  on whose behalf units were acquired
 *   probe.c  functions: of the C library, declared handles, operations
 *   call.c   what calls of functions acquire and release
 *   fds.c    descriptors: the kernel side's table, and /proc/PID/fd
 *   spans.c  mappings as intervals
 *   tape.c   writing a tape
 *   unwind.c stacks from copies of stack memory
 *   rules.c  what leads from frame to frame: the code of a process
 *   files.c  the files with that code
 * Start: struct tt_kernel_image. */
#ifndef TT_KERNEL_INTERNAL_H
#define TT_KERNEL_INTERNAL_H

#include <stddef.h>

#include "base/map.h"
#include "base/vec.h"
#include "kernel/event.h"
#include "kernel/kernel.h"
#include "proc/proc.h"
#include "tape/tape.h"

/* ---- load.c ---- */

struct bpf_object;
struct bpf_link;
struct ring_buffer;

struct tt_kernel_load {
    struct bpf_object *object;
    TT_VEC(struct bpf_link *) links;
    struct ring_buffer *ring;
    struct tt_kernel_shared *shared; /* mapped */
    size_t shared_bytes;
    int far, slots; /* descriptors of the maps, the object's */
};
int tt_kernel_load(struct tt_kernel_load *load, int (*take)(void *arg, void *data, size_t n),
                   void *arg, struct tt_error *err);
/* Probes at n places in a file, for a process with all its threads; all of them or none. A link's
 * descriptor, the caller's, or -EINVAL: the kernel has no such probes (before Linux 6.6), or puts
 * none there. */
enum tt_kernel_probe { TT_KERNEL_AT_ENTRY, TT_KERNEL_AT_RETURN, TT_KERNEL_AT_OPERATION };
int tt_kernel_load_probe(struct tt_kernel_load *load, pid_t pid, const char *path,
                         const uint64_t *offsets, const uint64_t *cookies, size_t n,
                         enum tt_kernel_probe what);
/* Closes links, which takes the kernel some time, behind the caller's back. */
void tt_kernel_load_part(const int *links, size_t n);
void tt_kernel_unload(struct tt_kernel_load *load);
void tt_kernel_load_consume(struct tt_kernel_load *load);
int tt_kernel_load_fd(const struct tt_kernel_load *load);
/* Entries of the map of high descriptors. */
bool tt_kernel_far_next(const struct tt_kernel_load *load, uint64_t *key, bool first);
uint64_t tt_kernel_far_get(const struct tt_kernel_load *load, uint64_t key);
void tt_kernel_far_put(const struct tt_kernel_load *load, uint64_t key, uint64_t entry);
void tt_kernel_far_drop(const struct tt_kernel_load *load, uint64_t key);
/* A slot that is not in use; -1 none. And one that is again not. */
int tt_kernel_slot_take(const struct tt_kernel_load *load);
void tt_kernel_slot_give(const struct tt_kernel_load *load, uint32_t slot);

/* ---- tape.c ---- */

/* A tape that is written from outside. One writer, so nothing of it is atomic. */
struct tt_kernel_tape {
    uint8_t *base; /* mapped; NULL: none */
    struct tt_tape_head *head;
    struct tt_tape_site *site;
    struct tt_tape_held *held;
    struct tt_map known; /* hash of stack and kind to site */
};

/* Makes the tape of a process; *fd is another descriptor of it for whoever reads. */
int tt_kernel_tape_make(struct tt_kernel_tape *tape, pid_t pid, int *fd);
void tt_kernel_tape_free(struct tt_kernel_tape *tape);
/* The site of a kind and stack (innermost frame first; n 0: no stack is known). 0: no room. */
uint32_t tt_kernel_tape_site(struct tt_kernel_tape *tape, enum tt_tape_kind kind,
                             const uint64_t *frames, size_t n, bool cut);
/* Counts. births and deaths of units of one kind of size; age in ticks. */
void tt_kernel_tape_birth(struct tt_kernel_tape *tape, uint32_t site, uint64_t n, uint64_t size);
void tt_kernel_tape_death(struct tt_kernel_tape *tape, uint32_t site, uint64_t n, uint64_t bytes,
                          uint32_t bin);
/* A unit held: put replaces what has the same space and value. */
struct tt_tape_held *tt_kernel_tape_find(const struct tt_kernel_tape *tape, uint32_t space,
                                         uint64_t value);
struct tt_tape_held *tt_kernel_tape_put(struct tt_kernel_tape *tape, uint32_t space, uint64_t value,
                                        uint32_t site, uint32_t tick, uint64_t size);
void tt_kernel_tape_take(struct tt_tape_held *held);

/* ---- unwind.c, rules.c ---- */

/* The words that led through a stack, for tt_kernel_known. */
struct tt_kernel_words {
    uint32_t n;
    bool need_bp;
    bool whole; /* all that mattered is in here */
    uint16_t at[TT_KERNEL_WORDS];
    uint64_t word[TT_KERNEL_WORDS];
};
/* A thread stopped in a system call, and memory from its stack. */
struct tt_kernel_stopped {
    uint64_t ip, sp, bp, di;
    const uint8_t *copy; /* of [base, base + bytes) */
    uint64_t base;
    size_t bytes;
    const struct tt_kernel_return *returns; /* TT_KERNEL_RETURNS; NULL: none */
};
struct tt_kernel_frames {
    uint64_t
        pc[TT_TAPE_DEPTH]; /* return addresses, innermost first; pc[0] follows the system call */
    size_t n;
    bool cut;        /* outer frames are missing */
    bool short_copy; /* because the copy ended */
    bool loader;     /* it ends in the dynamic loader: the program has not begun */
    bool loads;      /* pc[0] is in the dynamic loader */
    bool wrapper;    /* pc[0] is in the C library */
};

struct tt_kernel_unwind; /* of one image */
struct tt_kernel_files;  /* of all images */
struct tt_kernel_files *tt_kernel_files_new(void);
void tt_kernel_files_free(struct tt_kernel_files *files);
struct tt_kernel_unwind *tt_kernel_unwind_new(struct tt_kernel_files *files, pid_t pid);
void tt_kernel_unwind_free(struct tt_kernel_unwind *unwind);
/* The end of the mapping at `start`, read anew; start itself when there is none. */
uint64_t tt_kernel_unwind_end(struct tt_kernel_unwind *unwind, uint64_t start);
/* Code came to the interval. */
void tt_kernel_unwind_code(struct tt_kernel_unwind *unwind, uint64_t start, uint64_t end);
/* Whatever was in the interval is gone. Whether that was code. */
bool tt_kernel_unwind_gone(struct tt_kernel_unwind *unwind, uint64_t start, uint64_t end);
void tt_kernel_unwind(struct tt_kernel_unwind *unwind, const struct tt_kernel_stopped *stopped,
                      struct tt_kernel_frames *frames, struct tt_kernel_words *words);

/* ---- spans.c ---- */

struct tt_kernel_span {
    uint64_t start, end;
    uint32_t site, tick, owner;
};
typedef TT_VEC(struct tt_kernel_span) tt_kernel_span_vec;

/* ---- fds.c ---- */

struct tt_kernel_far {
    uint32_t fd;
    bool seen;
    uint64_t entry;
};
typedef TT_VEC(struct tt_kernel_far) tt_kernel_far_vec;

/* ---- follow.c ---- */

/* A site of an image and the counts of it that the tape has. */
struct tt_kernel_link {
    uint32_t global, site;
    struct tt_kernel_count seen;
};

/* A release that was told when its unit had gone already: with the unit's place, to another, or
 * before its own acquisition was told. */
struct tt_kernel_late {
    uint64_t value, at; /* ns: the other came; the releasing call began */
    uint32_t space;
    bool owed; /* the first of these: it is to be told yet */
};
#define TT_KERNEL_LATE 256u

struct tt_kernel_image {
    pid_t pid;
    uint32_t slot;
    struct tt_kernel_tape tape;
    struct tt_kernel_unwind *unwind;
    TT_VEC(struct tt_kernel_link) links;
    struct tt_map link_at; /* tape site to index in links */
    uint64_t *fds;         /* entries of the table as the tape has them */
    tt_kernel_far_vec far; /* high descriptors that the tape has */
    struct tt_map doubt;   /* fd to the entry that /proc did not show, or 1 for the reverse */
    struct tt_map old;     /* fd open before: 1 */
    tt_kernel_span_vec spans;
    tt_kernel_span_vec owed; /* intervals whose munmap is to be told yet; tick: since when */
    TT_VEC(uint32_t) children;
    uint64_t brk;     /* end of the heap, 0 not known */
    bool heap;        /* it is the end of a span */
    uint32_t watches; /* bit: a space below 32 whose functions of the C library are watched */
    struct tt_kernel_late late[TT_KERNEL_LATE];
    uint32_t late_next;
    uint32_t unknown[2]; /* numbers of the sites without stack of descriptors and sockets */
    bool listed;         /* /proc/PID/fd was read once */
};

/* The owner of the tape that a row of the kernel side became; 0 none yet. */
struct tt_kernel_known_owner {
    uint32_t kernel_id, id;
    pid_t pid;
};

/* A probe that stands. */
struct tt_kernel_probed {
    char *path;
    uint64_t offset, cookie;
    pid_t pid;
    enum tt_kernel_probe what;
    int link; /* several probes may have the same */
};

struct tt_kernel {
    struct tt_kernel_options options;
    struct tt_kernel_load load;
    struct tt_kernel_shared *shared;
    struct tt_kernel_files *files;
    struct tt_kernel_image *image[TT_KERNEL_SLOTS]; /* by slot */
    uint32_t local[TT_KERNEL_SITES];                /* tape site of a number, 0 not in use */
    TT_VEC(uint32_t) free_sites;
    uint32_t next_site;
    uint32_t turn;                        /* of replacing known stacks */
    struct tt_kernel_known_owner *owners; /* by row */
    TT_VEC(struct tt_kernel_probed) probes;
    TT_VEC(int) parting; /* links that are not needed any more */
};

/* site.c */
/* What the tape calls a kind of the kernel side. */
bool tt_kernel_kind_known(uint32_t kind);
enum tt_tape_kind tt_kernel_kind(uint32_t kind);
uint32_t tt_kernel_space(uint32_t kind);
/* The tape site of a record, and its number there (0: none). TT_KERNEL_IGNORE: the dynamic loader's
 * own doing. */
#define TT_KERNEL_IGNORE UINT32_MAX
uint32_t tt_kernel_site(struct tt_kernel *kernel, struct tt_kernel_image *image,
                        const struct tt_kernel_event *e, uint32_t *number);
/* The stacks of a slot that were handed over and that lead through an interval are not valid any
 * more. */
void tt_kernel_forget_known(struct tt_kernel *kernel, uint32_t slot, uint64_t start, uint64_t end);
/* A number for a tape site of an image, by which the kernel side counts it; 0: none is free. */
uint32_t tt_kernel_number(struct tt_kernel *kernel, struct tt_kernel_image *image, uint32_t site,
                          enum tt_kernel_kind kind);

/* owner.c */
/* The tape's owner of an id of the kernel side; 0: none, or it is forgotten. */
uint32_t tt_kernel_owner(struct tt_kernel *kernel, struct tt_kernel_image *image, uint32_t id);
/* Brings the tapes' owners to what the kernel side says. */
void tt_kernel_owners_sync(struct tt_kernel *kernel);
/* The image is no more: its connections have ended. */
void tt_kernel_owners_clear(struct tt_kernel *kernel, const struct tt_kernel_image *image);

/* call.c */
void tt_kernel_call_acquired(struct tt_kernel *kernel, struct tt_kernel_image *image,
                             const struct tt_kernel_event *e);
void tt_kernel_call_released(struct tt_kernel_image *image, const struct tt_kernel_event *e);
/* Whether one value is acquired several times, and counted. */
bool tt_kernel_is_counted(uint32_t space);
/* A unit of whatever kind is gone. */
void tt_kernel_died(struct tt_kernel_image *image, struct tt_tape_held *held, uint32_t tick);

/* probe.c */
void tt_kernel_probes_free(struct tt_kernel *kernel);
/* The process has ended (0: all are left): its links go with the next part. */
void tt_kernel_probes_leave(struct tt_kernel *kernel, pid_t pid);
void tt_kernel_probes_part(struct tt_kernel *kernel);
/* The same at once: none of them tells anything from then on. */
void tt_kernel_probes_close(struct tt_kernel *kernel);
/* The calls that were counted, into the tape. */
void tt_kernel_ops_sync(struct tt_kernel *kernel, struct tt_kernel_image *image);

/* fds.c */
/* Names a pending entry; false: it is not there any more. */
bool tt_kernel_fds_name(struct tt_kernel *kernel, uint32_t slot, uint32_t fd, uint64_t pending,
                        uint64_t entry);
/* Compares the table with /proc/PID/fd. What was open at the first time is older; what comes later
 * by no call that is watched is held with no stack known; what went so is released. */
void tt_kernel_fds_reconcile(struct tt_kernel *kernel, struct tt_kernel_image *image);
/* Brings the tape's held descriptors to what the table says. */
void tt_kernel_fds_sync(struct tt_kernel *kernel, struct tt_kernel_image *image);
void tt_kernel_fds_clear(struct tt_kernel *kernel, uint32_t slot);

/* spans.c */
/* The end of what begins at `start`; start itself when nothing does. */
uint64_t tt_kernel_spans_end(const struct tt_kernel_image *image, uint64_t start);
/* over: it may lie over others, which are gone then. Else whatever is there was unmapped before, by
 * a call that is to be told yet, and which then takes nothing more. */
void tt_kernel_spans_add(struct tt_kernel_image *image, const struct tt_kernel_span *span,
                         bool over);
/* What ends at `from` goes on to `to`. False: nothing ends there. */
bool tt_kernel_spans_grow(struct tt_kernel_image *image, uint64_t from, uint64_t to);
void tt_kernel_spans_cut(struct tt_kernel_image *image, uint64_t start, uint64_t end,
                         uint32_t tick);
/* as: site, tick and owner of one that was not known before. */
void tt_kernel_spans_move(struct tt_kernel_image *image, const uint64_t to[2],
                          const uint64_t from[2], const struct tt_kernel_span *as);

#endif
