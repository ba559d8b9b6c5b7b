/* SPDX-License-Identifier: Apache-2.0 */
/* Staleness: which sampled objects the program has not touched for whole epochs, told by the
 * referenced bits of the mappings that each of them has of its own. What lives through an epoch and
 * what is summed of it is pure, for tests. Start: tt_stale_visit. */
#ifndef TT_RECORD_STALE_H
#define TT_RECORD_STALE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/vec.h"
#include "session/snapshot.h"

struct tt_image;
struct tt_recorder;

/* ---- staleness of an image ---- */

/* A sampled object that has mappings of its own. */
struct tt_stale_object {
    uint64_t address, size;
    uint32_t site, born;       /* with the address: who it is */
    uint32_t lived, untouched; /* epochs in a row up to now */
};
typedef TT_VEC(struct tt_stale_object) tt_stale_object_vec;
#define TT_STALE_EPOCHS_MOST 10u
struct tt_stale {
    tt_stale_object_vec objects; /* ascending */
    uint64_t due_ns, cleared_ns;
    uint32_t cleared_tick, epochs;        /* whole epochs seen */
    double seconds[TT_STALE_EPOCHS_MOST]; /* of the latest, the last one first */
    bool armed, given_up, changed;
    tt_session_stale_vec rows;
};

/* stale.c */
void tt_stale_visit(struct tt_recorder *rec, struct tt_image *image, uint64_t now_ns);
void tt_stale_put(struct tt_recorder *rec, struct tt_image *image);
void tt_stale_free(struct tt_stale *stale);
/* A mapping that smaps tells about. */
struct tt_stale_map {
    uint64_t start, end, referenced; /* bytes */
};
typedef TT_VEC(struct tt_stale_map) tt_stale_map_vec;
/* The mappings within [start, end), from text in the format of /proc/PID/smaps. */
int tt_stale_maps(FILE *smaps, uint64_t start, uint64_t end, tt_stale_map_vec *out);
/* An epoch of so many seconds has ended: what lived through it, ascending by address, with
 * `untouched` 1 or 0 for it; `lived` is not looked at. Takes the objects. */
void tt_stale_epoch(struct tt_stale *stale, tt_stale_object_vec *now, double seconds);
/* Rows per site from the counts. weight(arg, object): the blocks that it stands for. */
int tt_stale_sum(struct tt_stale *stale,
                 double (*weight)(void *arg, const struct tt_stale_object *object), void *arg);

#endif
