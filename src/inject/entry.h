/* SPDX-License-Identifier: Apache-2.0 */
/* The way from a function's entry to the blob, and past it. Start: tt_entry_plan. */
#ifndef TT_INJECT_ENTRY_H
#define TT_INJECT_ENTRY_H

#include "inject/patch.h"

/* Works out how the entry of `d` leads to `hook` and fills `record` and plan->where; the code that
 * does what its first instructions did is written into an island, or the one of an earlier attach
 * serves again. The entry itself is not touched. 0, or a negative errno with one phrase in *why. */
int tt_entry_plan(struct tt_patch *patch, const struct tt_definition *d, uint64_t hook,
                  struct tt_patch_plan *plan, struct tt_blob_patch *record, const char **why);
/* Whether `now`, r->length bytes, is a jump of ours: that of the record, or its short way's. */
bool tt_entry_is_ours(const struct tt_blob_patch *r, const uint8_t *now);
/* The record's jump becomes one to the hook itself: whatever comes next may be of another mode. */
void tt_entry_lengthen(struct tt_blob_patch *r);

#endif
