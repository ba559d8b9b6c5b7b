/* SPDX-License-Identifier: Apache-2.0 */
/* The change itself and the way back. A thread inside the five bytes of an entry is put to the same
 * instruction of the copy. All change while no thread runs, so none acquires through a hook what it
 * releases past one. Start: tt_patch_apply, tt_patch_restore. */
#include <errno.h>
#include <string.h>
#include <sys/ptrace.h>

#include "inject/edit.h"
#include "inject/entry.h"
#include "inject/patch.h"

/* Signal frames that will return into the first instructions. */
static int look_for_frames(struct tt_patch *p, const struct tt_stopped *stopped, bool last)
{
    struct tt_window windows[TT_BLOB_PATCHES] = {0};
    bool hit[TT_BLOB_PATCHES];
    size_t n = p->plans.len;
    for (size_t i = 0; i < n; i++) {
        const struct tt_patch_plan *plan = &p->plans.data[i];
        uint64_t at = plan->slot ? 0 : tt_patch_definition(p, plan)->address;
        windows[i] = (struct tt_window){at ? at + 1 : 0, at ? at + TT_RELOCATE_NEED : 0};
    }
    if (!tt_stacks_look(p->target, stopped, windows, n, TT_LOOK_FRAMES, hit))
        return 0;
    for (size_t i = 0; i < n; i++) {
        const struct tt_definition *d = tt_patch_definition(p, &p->plans.data[i]);
        if (!hit[i])
            continue;
        if (!last || tt_patch_needs(d->entry))
            return -EAGAIN;
        p->plans.data[i].refused = true;
        tt_patch_record(p, &p->plans.data[i])->active = 0;
        tt_patch_note(p->out,
                      "%s of %s: a signal handler returns into its first instructions; "
                      "not followed",
                      d->name, tt_patch_object(p, d));
    }
    return 0;
}

/* Threads that stand in a window, put to the same instruction of the copy. */
static int move_threads(struct tt_patch *p, const struct tt_stopped *stopped)
{
    for (size_t k = 0; k < stopped->threads.len; k++) {
        struct user_regs_struct regs = stopped->threads.data[k].regs;
        for (size_t i = 0; i < p->plans.len; i++) {
            const struct tt_patch_plan *plan = &p->plans.data[i];
            const struct tt_blob_patch *r = tt_patch_record(p, plan);
            uint64_t in = regs.rip - r->address;
            if (plan->slot || plan->refused || in == 0 || in >= TT_RELOCATE_NEED)
                continue;
            if (plan->where[in] == TT_RELOCATE_NOWHERE)
                return -EAGAIN;
            regs.rip = r->real + plan->where[in];
            if (ptrace(PTRACE_SETREGS, stopped->threads.data[k].tid, 0, &regs) != 0)
                return -EAGAIN;
            break;
        }
    }
    return 0;
}

int tt_patch_apply(struct tt_patch *patch, const struct tt_stopped *stopped, bool last)
{
    struct tt_edit edit = {0};
    int code = look_for_frames(patch, stopped, last);
    for (size_t i = 0; code == 0 && i < patch->plans.len; i++)
        code = tt_edit_add(&edit, tt_patch_record(patch, &patch->plans.data[i])->address, 16);
    if (code == 0)
        code = tt_edit_read(&edit, patch->target);
    for (size_t i = 0; code == 0 && i < patch->plans.len; i++) {
        const struct tt_patch_plan *plan = &patch->plans.data[i];
        const struct tt_blob_patch *r = tt_patch_record(patch, plan);
        uint8_t now[16];
        code = tt_edit_get(&edit, r->address, now, r->length);
        if (code == 0 && memcmp(now, r->was, r->length) != 0)
            code = -ESTALE;
        if (code == 0 && !plan->refused) {
            tt_edit_put(&edit, r->address, r->is, r->length);
            *(plan->slot ? &patch->out->slots : &patch->out->entries) += 1;
        }
    }
    if (code == 0)
        code = move_threads(patch, stopped);
    if (code == 0 && (code = tt_edit_write(&edit, patch->target)) != 0) {
        for (size_t i = 0; i < patch->plans.len; i++) {
            const struct tt_blob_patch *r = tt_patch_record(patch, &patch->plans.data[i]);
            tt_edit_put(&edit, r->address, r->was, r->length);
        }
        tt_edit_write(&edit, patch->target);
    }
    if (code)
        patch->out->slots = patch->out->entries = 0;
    tt_edit_free(&edit);
    return code;
}

/* ---- back ---- */

/* What a program may still call with an object of the sampler. */
static bool handles_objects(uint16_t entry)
{
    return tt_find_releases(entry) || entry == TT_E_REALLOC || entry == TT_E_REALLOCARRAY ||
           entry == TT_E_USABLE_SIZE;
}

enum { GONE, RESTORED, KEPT, FOREIGN };

static bool stays(const struct tt_blob_patch *r, bool keep_releases)
{
    return keep_releases && handles_objects(r->entry);
}

static int restore_one(struct tt_edit *edit, const struct tt_blob_patch *r)
{
    uint8_t now[16];
    if (r->length > sizeof now || tt_edit_get(edit, r->address, now, r->length))
        return GONE; /* the library was unloaded, and what we wrote with it */
    if (!tt_entry_is_ours(r, now))
        return memcmp(now, r->was, r->length) == 0 ? GONE : FOREIGN;
    tt_edit_put(edit, r->address, r->was, r->length);
    return RESTORED;
}

/* A telltale that died may have recorded a jump that it did not write any more. Known by what
 * stands there, as long as that, perhaps another jump of ours, is not taken back. */
static void forget_unwritten(struct tt_edit *edit, struct tt_blob *b)
{
    uint8_t now[16];
    for (uint32_t i = 0; i < b->patch_count; i++) {
        struct tt_blob_patch *r = &b->patch[i];
        if (r->active && r->length <= sizeof now &&
            tt_edit_get(edit, r->address, now, r->length) == 0 && !tt_entry_is_ours(r, now) &&
            memcmp(now, r->was, r->length) == 0)
            r->active = 0;
    }
}

/* One that stays leads straight to its hook from now on: what comes next may be of another mode.
 * The record of it comes first, and either jump is ours. */
static int lengthen(struct tt_edit *edit, const struct tt_target *target, struct tt_load *load,
                    struct tt_blob_patch *r)
{
    uint8_t now[16];
    if (!r->before || tt_edit_get(edit, r->address, now, r->length) || !tt_entry_is_ours(r, now))
        return 0;
    tt_entry_lengthen(r);
    int code = tt_load_put(target, load, r->is, sizeof r->is);
    if (code == 0)
        tt_edit_put(edit, r->address, r->is, r->length);
    return code;
}

int tt_patch_restore(const struct tt_target *target, struct tt_load *load, bool keep_releases,
                     unsigned *restored, unsigned *kept, unsigned *foreign)
{
    struct tt_blob *b = &load->head;
    struct tt_edit edit = {0};
    unsigned counts[4] = {0};
    *restored = *kept = *foreign = 0;
    int code = 0;
    for (uint32_t i = 0; code == 0 && i < b->patch_count; i++)
        if (b->patch[i].active)
            code = tt_edit_add(&edit, b->patch[i].address, 16);
    if (code == 0)
        code = tt_edit_read(&edit, target);
    if (code == 0)
        forget_unwritten(&edit, b);
    /* Stubs may stand one before the other, and before an allocator's entry: each shows what is
     * below it. */
    for (bool more = true; code == 0 && more;) {
        more = false;
        for (uint32_t i = 0; i < b->patch_count; i++)
            if (b->patch[i].active && !stays(&b->patch[i], keep_releases) &&
                restore_one(&edit, &b->patch[i]) == RESTORED) {
                b->patch[i].active = 0;
                counts[RESTORED]++;
                more = true;
            }
    }
    for (uint32_t i = 0; code == 0 && i < b->patch_count; i++) {
        struct tt_blob_patch *r = &b->patch[i];
        if (!r->active)
            continue;
        int what = stays(r, keep_releases) ? KEPT : restore_one(&edit, r);
        if (what == KEPT)
            code = lengthen(&edit, target, load, r);
        counts[what]++;
        r->active = what == KEPT || what == FOREIGN;
    }
    if (code == 0)
        code = tt_edit_write(&edit, target);
    tt_edit_free(&edit);
    if (code)
        return code;
    *restored = counts[RESTORED];
    *kept = counts[KEPT];
    *foreign = counts[FOREIGN];
    code = tt_load_put(target, load, b->patch, sizeof b->patch[0] * b->patch_count);
    return *foreign ? -EIO : code;
}
