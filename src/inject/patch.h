/* SPDX-License-Identifier: Apache-2.0 */
/* Leading functions of the target to the blob and back. Start: tt_patch_plan. */
#ifndef TT_INJECT_PATCH_H
#define TT_INJECT_PATCH_H

#include "inject/attach.h"
#include "inject/load.h"

/* One place that will be changed: a definition's entry, or (slot) a pointer to it. */
struct tt_patch_plan {
    size_t definition;
    uint32_t record; /* in tt_blob.patch */
    bool slot;
    uint8_t where[TT_RELOCATE_NEED]; /* see tt_relocate */
    bool refused;
};

struct tt_patch {
    const struct tt_target *target;
    const struct tt_found *found;
    struct tt_load *load;
    uint32_t mode; /* enum tt_tape_mode */
    TT_VEC(struct tt_patch_plan) plans;
    struct tt_inject_attached *out; /* counts and notes */
};

/* Works out how each definition is hooked and fills real[] of the call; writes islands and, ahead
 * of the act, the records. Nothing is redirected yet. -EOPNOTSUPP when malloc or free of set 0
 * cannot be hooked in any way. */
int tt_patch_plan(struct tt_patch *patch, struct tt_blob_call *call, struct tt_error *err);
/* Redirects all, with every thread stopped. 0; -EAGAIN when a thread will return into one of the
 * windows, and nothing was changed; other errno: undone. last: refuse such functions instead. */
int tt_patch_apply(struct tt_patch *patch, const struct tt_stopped *stopped, bool last);
void tt_patch_free(struct tt_patch *patch);

/* Puts the old bytes back, every thread stopped: those that are what we wrote. keep_releases:
 * allocators' releases stay. Counts into *restored and *kept; -EIO if some are no longer ours
 * (*foreign counts these, they are left alone), or another errno when memory cannot be written. */
int tt_patch_restore(const struct tt_target *target, struct tt_load *load, bool keep_releases,
                     unsigned *restored, unsigned *kept, unsigned *foreign);
/* Whether any record is in force. */
bool tt_patch_active(const struct tt_load *load);

/* What entry.c and apply.c need: a plan's definition and record; the record of a place from an
 * earlier attach that is not in force, or NULL; the name of a definition's object; and whether an
 * allocator whose `entry` is not hooked would show what is not so: a block never seen to go. */
const struct tt_definition *tt_patch_definition(const struct tt_patch *patch,
                                                const struct tt_patch_plan *plan);
struct tt_blob_patch *tt_patch_record(const struct tt_patch *patch,
                                      const struct tt_patch_plan *plan);
struct tt_blob_patch *tt_patch_old(struct tt_blob *blob, uint64_t address);
const char *tt_patch_object(const struct tt_patch *patch, const struct tt_definition *d);
bool tt_patch_needs(uint16_t entry);

void tt_patch_note(struct tt_inject_attached *out, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
