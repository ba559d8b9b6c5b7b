/* SPDX-License-Identifier: Apache-2.0 */
/* What is read of a tape, all of it hostile: sums of sites, releases and stacks (tape.c), the live
 * units as a look sees them (look.c), and a copy of its shadow for a moment (shadow.c). Every
 * number comes checked against its bounds. Start: tt_tape_read_head. */
#ifndef TT_RECORD_TAPE_H
#define TT_RECORD_TAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/map.h"
#include "base/vec.h"
#include "tape/tape.h"

/* ---- a tape ---- */

/* What a site stood at, 64 bits wide. Deaths never exceed births here. */
struct tt_totals {
    uint64_t births, birth_bytes, deaths, death_bytes;
};

struct tt_site {
    struct tt_totals now;   /* as read */
    struct tt_totals wrote; /* in its last row */
    uint64_t *bins;         /* TT_TAPE_BINS, once the site is written; NULL before */
    int64_t wrote_epoch;    /* of that row; 0 none */
    uint32_t size_min, size_max, wrote_min, wrote_max;
    uint32_t frames;
    uint16_t depth;
    uint8_t thin, flags, kind;
    bool ready;  /* the record was seen complete */
    bool chosen; /* gets rows of its own */
    bool stack;  /* its stack row is written */
    bool bins_changed;
    uint64_t base_live; /* live units when the image was first read, to rank growth */
    uint64_t copy_live; /* live units at the last snapshot */
    bool operations;    /* functions on its stack are counted or were refused */
    uint32_t n_releases, n_ages;
};

struct tt_release {
    uint32_t site, by;
    uint64_t samples, weight, last_ns;
    bool changed;
};
struct tt_release_age {
    uint32_t site, age;
    uint64_t samples, weight;
    bool changed;
};

/* Counts read in one visit, before they are believed. */
struct tt_sum {
    uint32_t births, deaths;
    uint64_t birth_bytes, death_bytes;
};

/* The tape's file and what was read of it. Every field comes checked against its bounds. */
struct tt_tape {
    int fd;
    uint64_t device, inode;
    struct tt_tape_head head;
    TT_VEC(struct tt_site) sites;
    TT_VEC(struct tt_sum) sums; /* scratch */
    uint64_t ops[TT_TAPE_OPS];  /* entries of counted functions, all threads */
    uint32_t ring_tail;
    unsigned ring_stuck; /* visits that found the next release not published */
    TT_VEC(struct tt_release) releases;
    struct tt_map release_at; /* site << 32 | by -> index */
    TT_VEC(struct tt_release_age) ages;
    struct tt_map age_at; /* site << 32 | age -> index */
    uint64_t lost_releases, lost_ages, lost_paths;
    bool settled; /* the last reading saw no counter move */
};

/* 0 when magic, version and bounds are right; -EAGAIN while the agent is still filling it in;
 * -EBADMSG. Reads head. */
int tt_tape_read_head(struct tt_tape *tape);
/* Adds up site records and thread tallies into sites[].now, and what was counted into ops. 0 or a
 * negative errno. */
int tt_tape_read_totals(struct tt_tape *tape);
/* Takes what is new from the ring of sampled releases. */
void tt_tape_read_ring(struct tt_tape *tape, uint64_t origin_ns);
/* Death bins of one site, widened to 64 bits in site->bins. */
void tt_tape_read_bins(struct tt_tape *tape, uint32_t site);
/* The stack of a site: at most TT_TAPE_DEPTH frames; returns how many. */
size_t tt_tape_read_stack(struct tt_tape *tape, const struct tt_site *site,
                          uint64_t frames[TT_TAPE_DEPTH]);
/* The head's state now; TT_STATE_EMPTY when it cannot be read. */
uint32_t tt_tape_state(const struct tt_tape *tape);
/* Whether the process stands at its exit and waits for tt_tape_let_go; not for long. */
bool tt_tape_exiting(const struct tt_tape *tape);
void tt_tape_let_go(const struct tt_tape *tape);
/* Writes the fields marked R. */
void tt_tape_tick(struct tt_tape *tape, uint32_t tick, uint64_t origin_ns, bool quiet);
void tt_tape_free(struct tt_tape *tape);

/* ---- a look ---- */

struct tt_unit {
    uint64_t size;
    uint32_t tick, count; /* count 0: empty slot */
};
/* Live units of one site by size and tick: an open-addressed table. */
struct tt_unit_set {
    struct tt_unit *slots;
    uint32_t len, cap;
    uint8_t age_level, size_level; /* coarsening, see look.c */
    uint64_t units, bytes;
};
struct tt_look {
    TT_VEC(struct tt_unit_set) sites;
    uint64_t rows, units, big_lost;
    uint32_t row_cap;        /* of one site */
    uint32_t now;            /* tick ages are counted from */
    uint32_t first;          /* no unit is older: the tick at which the image began */
    TT_VEC(uint64_t) pieces; /* 64 KiB pieces of address space that hold blocks, ascending */
    bool failed;
};
/* Scans the live units of a tape. The tape's holes are not touched, so that looking does not make
 * it grow. 0 or a negative errno. Free with tt_look_free. */
int tt_look_scan(struct tt_look *look, struct tt_tape *tape, uint32_t first_tick,
                 uint32_t now_tick);
/* Adds `count` units of one birth to a scanned look. */
void tt_look_add(struct tt_look *look, uint32_t site, uint64_t size, uint32_t tick, uint32_t count);
void tt_look_free(struct tt_look *look);

/* ---- the shadow at a moment ---- */

/* All of it copied, since heap search asks for every block and from several threads. */
struct tt_shadow {
    uint64_t **chunks; /* regions * TT_SHADOW_CHUNKS; NULL: nothing lives there */
    uint32_t n_regions, shift;
    struct tt_map regions; /* address >> TT_TAPE_REGION_SHIFT -> index */
    struct tt_map big;     /* address -> size */
    uint32_t tick;         /* entries born later are not of that moment */
};
struct tt_shadow_entry {
    uint32_t site, tick;
    uint64_t size; /* requested; 0 not known */
};
/* 0 or a negative errno. Free with tt_shadow_free. */
int tt_shadow_copy(struct tt_shadow *shadow, const struct tt_tape *tape, uint32_t tick);
/* What lives at an address: false, nothing that was followed. */
bool tt_shadow_at(const struct tt_shadow *shadow, uint64_t address, struct tt_shadow_entry *out);
/* Calls take for what lives in [start, end), ascending. */
void tt_shadow_each(const struct tt_shadow *shadow, uint64_t start, uint64_t end,
                    void (*take)(void *arg, uint64_t address, const struct tt_shadow_entry *entry),
                    void *arg);
void tt_shadow_free(struct tt_shadow *shadow);

#endif
