/* SPDX-License-Identifier: Apache-2.0 */
/* Units held other than heap blocks, as one image's tape says, and what /proc says against it. The
 * tape knows what went through watched functions; the kernel knows what is open. Where they
 * disagree the kernel is right, and the difference is a correction that is counted: a descriptor
 * without a row is a unit at a place of its own ("socket: open before the recording began"), a row
 * whose descriptor is gone is taken as released (a ghost: the tape's row stays until the agent
 * meets its value again). Part of struct tt_image. Start: tt_held_read. */
#ifndef TT_RECORD_HELD_H
#define TT_RECORD_HELD_H

#include "base/map.h"
#include "base/vec.h"
#include "resource/resource.h"
#include "session/resource.h"
#include "tape/tape.h"

#define TT_HELD_PLACES 256u               /* places without a stack, of one image */
#define TT_HELD_PLACE_FIRST TT_TAPE_SITES /* their site ids start here */

enum tt_held_clock { TT_CLOCK_OWNER_END, TT_CLOCK_CLOSE_WAIT, TT_CLOCK_ENDED, TT_CLOCKS };

struct tt_held_unit {
    uint64_t value, entry, size, inode;
    uint32_t site, tick, owner, count;
    uint32_t started[TT_CLOCKS];  /* tick + 1 at which a clock started, 0: has not */
    uint8_t space, kind, missing; /* missing: readings of /proc in a row that did not have it */
    bool ghost;                   /* released by a way that is not watched */
    bool foreign;                 /* not in the tape: site is a place */
    bool known;                   /* of a foreign one: seen twice, so no accident of timing */
    int32_t also;                 /* descriptor inside, -1 none */
};

/* Where units come from that nothing was seen to acquire. */
struct tt_held_place {
    char name[96];
    uint8_t kind;
    uint64_t births, deaths, wrote_births, wrote_deaths;
    int64_t wrote_epoch;
    uint64_t bins[TT_TAPE_BINS];
    bool changed;
};

struct tt_held_owner {
    struct tt_tape_owner row;
    char address[TT_SOCKET_PEER], exe[160];
    int64_t pid, uid; /* uid -1 unknown */
    bool asked, gone; /* gone: its row in the tape is another's by now */
};

/* What each kind amounts to. */
struct tt_held_count {
    char resource[24];
    uint64_t held;
    int64_t counted; /* by the kernel, -1 not told */
    bool seen;
};

struct tt_held {
    TT_VEC(struct tt_held_unit) units;
    TT_VEC(struct tt_held_place) places;
    TT_VEC(struct tt_held_owner) owners;
    struct tt_map owner_at;  /* id -> index */
    struct tt_map ghosts;    /* site -> count */
    struct tt_map ghost_bin; /* site << 8 | bin -> count */
    struct tt_map clock_bin; /* site << 16 | clock << 8 | bin -> count */
    TT_VEC(struct tt_held_count) counts;
    tt_open_vec open;
    tt_socket_vec sockets;
    uint64_t lost_places, closed_unseen, opened_unseen, open_before;
    uint64_t due_ns, spent_ns; /* not reconciled before; what that cost at the last reading */
    bool read, reconciled;
};

/* ---- watches of an image ---- */

struct tt_watched {
    char function[160], resource[24], source[160];
    uint64_t address, size, calls, wrote;
    struct tt_tape_watch row;
    int index; /* in the tape, -1: not watched */
    int tries;
    bool declared, throws, row_written;
    bool silent;    /* placed, but its row says nothing: what releases it is not watched */
    int64_t handle; /* index of the declared handle << 8 | function, -1 none */
};

#endif
