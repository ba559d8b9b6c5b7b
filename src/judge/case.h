/* SPDX-License-Identifier: Apache-2.0 */
/* A case: what one session says, as plain arrays. read.c fills it from the session file, tests
 * build it by simulation, and every kind of evidence works on it alone. Times are seconds since the
 * session's origin (tick 0), ticks are 1/8 s. Counts are of followed units unless a name says
 * "weighted". Start: struct tt_case_site. */
#ifndef TT_JUDGE_CASE_H
#define TT_JUDGE_CASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/map.h"
#include "base/vec.h"
#include "stats/bins.h"

/* Cumulative totals of a site at a time; a step function between rows. */
struct tt_case_row {
    double t;
    double births, birth_bytes, deaths, death_bytes;
};

struct tt_case_unit {
    uint32_t size, tick; /* requested bytes; birth tick */
    uint64_t count;
};

struct tt_case_release {
    int64_t stack;
    uint64_t samples, weight;
};

/* Clocks that start after a unit's birth: when the peer for whom it was acquired went away; when a
 * socket's peer hung up; when a child ended that nobody waited for. */
enum tt_case_clock_kind { TT_CASE_OWNER_END, TT_CASE_CLOSE_WAIT, TT_CASE_ENDED, TT_CASE_CLOCKS };
struct tt_case_clock {
    TT_VEC(struct tt_case_unit) live; /* tick: of its start */
    uint64_t deaths[TT_STATS_BINS];   /* by age on it */
};

struct tt_case_share_of {
    size_t which; /* index into tt_case.owners + 1, 0: nobody known; or a site id */
    double units;
};

struct tt_case_site {
    size_t process; /* index into tt_case.processes */
    int64_t id, stack;
    char resource[24],
        place[96]; /* place: where units come from that nothing was seen to acquire */
    unsigned thin; /* a followed birth stands for 2^thin */
    uint32_t size_min, size_max;
    TT_VEC(struct tt_case_row) rows; /* ascending t */
    uint64_t deaths[TT_STATS_BINS];
    TT_VEC(struct tt_case_unit) survivors; /* at the process's last look */
    TT_VEC(struct tt_case_release) releases;
    TT_VEC(struct tt_stats_age) release_ages; /* exact ages of the sampled deaths */
    struct tt_case_clock clocks[TT_CASE_CLOCKS];
    TT_VEC(struct tt_case_share_of) owners; /* live units by owner */
    TT_VEC(struct tt_case_share_of) with;   /* live units that go with one of another site */
};

/* For whom units are held. */
struct tt_case_owner {
    size_t process;
    char address[64], exe[160]; /* "127.0.0.1:4711"; "" unknown */
    int64_t pid;                /* 0 unknown */
    double began, ended;        /* ended 0: has not */
};

/* What there is of a kind of resource, at the last epoch that tells. */
struct tt_case_amount {
    char resource[24];
    double held, counted; /* counted by the kernel, -1: it does not tell */
};

struct tt_case_stack {
    const uint64_t *pc; /* into tt_case.pcs; return addresses, innermost first */
    size_t n;
};

struct tt_case_count {
    double t, count;
};

struct tt_case_operation {
    size_t process;
    int64_t id;
    char name[160], function[160];
    uint64_t address;
    bool declared;
    double since;                      /* counted from here on */
    TT_VEC(struct tt_case_count) rows; /* cumulative, ascending t */
};

struct tt_case_proc_row {
    double t, rss_anon, heap_live, heap_held, fds, threads, vm_size, cpu_ms;
};

struct tt_case_module {
    uint64_t start, end, file_offset;
    char path[256], build_id[48];
};

struct tt_case_limit {
    char name[48];
    double value;
};

struct tt_case_process {
    int64_t id, pid;
    size_t target; /* the first image of the same running program: an attached process has a new
                      image each time its mode is switched */
    char exe[256], build_id[48], allocator[64];
    double sample_mean; /* of heap blocks, bytes between samples when sampled by bytes; else 0. Of a
                           site: tt_case_sample_mean */
    double started;
    bool ended; /* the process went away while it was recorded */
    double ended_at;
    double look; /* when the survivors were listed */
    TT_VEC(struct tt_case_proc_row) rows;
    TT_VEC(struct tt_case_limit) limits;
    TT_VEC(struct tt_case_amount) amounts;
    TT_VEC(struct tt_case_module) modules;
};

/* ---- frozen copies of a process, and core files ---- */

struct tt_case_snapshot {
    size_t process;
    int64_t id;
    double t; /* when the process was copied */
    uint32_t tick;
    bool core;     /* a core file, else a copy of the running process */
    bool detailed; /* its groups and holders are in the session, not only its totals */
    char allocator[64];
    double stop, fork, scan; /* seconds */
    double blocks, bytes, lost_units, lost_bytes, lost_roots, old_units, unknown_units;
    double unread_bytes, doubt_bytes, tagged, groups_left_out;
};

/* Lost blocks of one fingerprint in one snapshot (index). */
struct tt_case_group {
    size_t snapshot;
    int64_t id;
    uint64_t fingerprint, size_min, size_max;
    double units, bytes, roots, hung_units, hung_bytes, unknown_units, unknown_bytes;
    char shape[240], samples[200];
};

/* Lost blocks of a site in one snapshot: born since recording began, and before (or not followed),
 * of one group. */
struct tt_case_share {
    size_t snapshot;
    int64_t group, site;
    double known_units, known_bytes, old_units, old_bytes, probability;
};

struct tt_case_holder {
    size_t snapshot;
    int64_t id, site;
    double units, bytes;
    char place[160], path[400];
};

struct tt_case_held {
    size_t snapshot;
    int64_t holder, site;
    double units, bytes;
};

struct tt_case_stale {
    size_t process;
    int64_t site;
    uint32_t epochs;
    double objects, untouched, weight, seconds;
};

/* A process that ran before it was recorded. */
struct tt_case_attach {
    size_t process;
    double t, detached;              /* detached 0: it was not, or not cleanly */
    double start, stop, detach_stop; /* how long one thread stood still, and all of them */
    uint32_t entries, slots, kept;
    char notes[1024];
};

struct tt_case_label {
    char key[64], value[64];
};

struct tt_case {
    char name[160];   /* of the session, for people */
    double end;       /* last moment the session speaks of */
    double horizon_s; /* meta horizon_s, 0 when not given */
    bool exact;       /* every unit followed, none dropped */
    TT_VEC(struct tt_case_label) labels;
    TT_VEC(struct tt_case_process) processes;
    TT_VEC(struct tt_case_site) sites;
    TT_VEC(struct tt_case_operation) operations;
    TT_VEC(double) epochs;                     /* ascending */
    TT_VEC(struct tt_case_snapshot) snapshots; /* ascending time in each process */
    TT_VEC(struct tt_case_group) groups;
    TT_VEC(struct tt_case_share) shares;
    TT_VEC(struct tt_case_holder) holders;
    TT_VEC(struct tt_case_held) helds;
    TT_VEC(struct tt_case_stale) stales;
    TT_VEC(struct tt_case_attach) attaches;
    TT_VEC(struct tt_case_owner) owners;
    TT_VEC(struct tt_case_stack) stacks;
    struct tt_map stack_of; /* tt_case_stack_key -> index into stacks */
    TT_VEC(uint64_t *) pcs; /* owned blocks that stacks point into */
};

void tt_case_free(struct tt_case *c);

/* Key of a stack in stack_of. */
uint64_t tt_case_stack_key(size_t process, int64_t stack);

/* The frames of a stack of a process (index); NULL when the session has none. */
const struct tt_case_stack *tt_case_stack(const struct tt_case *c, size_t process, int64_t stack);

/* Copies n frames as stack `id` of a process. 0 or -ENOMEM. */
int tt_case_add_stack(struct tt_case *c, size_t process, int64_t id, const uint64_t *pcs, size_t n);

/* The executable mapping that holds a program counter, or NULL. */
const struct tt_case_module *tt_case_module(const struct tt_case *c, size_t process, uint64_t pc);

/* The site's totals at time t: the last row not after t (zeros before the first). */
struct tt_case_row tt_case_at(const struct tt_case_site *site, double t);

/* Cumulative count of an operation at time t, linear between rows; 0 before the first. */
double tt_case_operation_at(const struct tt_case_operation *op, double t);

/* The latest detailed snapshot of a target (tt_case_process.target) not after t, or NULL. */
const struct tt_case_snapshot *tt_case_snapshot_of(const struct tt_case *c, size_t target,
                                                   double t);

/* Bytes between samples at this site, 0: every unit or thinned. Only heap blocks are sampled by
 * bytes; descriptors, mappings and all other units are few and followed one by one in every mode.
 */
double tt_case_sample_mean(const struct tt_case *c, const struct tt_case_site *site);

/* Probability with which a unit of `size` bytes at this site is followed. */
double tt_case_inclusion(const struct tt_case *c, const struct tt_case_site *site, double size);

/* Labels as "owners=2 mode=fast", or the session's name when it has none. */
void tt_case_label(const struct tt_case *c, char *buf, size_t size);

/* The numeric label of that key. 0, or -ENOENT when absent or not a number. */
int tt_case_covariate(const struct tt_case *c, const char *key, double *value);

#endif
