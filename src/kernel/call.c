/* SPDX-License-Identifier: Apache-2.0 */
/* What calls of probed functions acquire and release. They are told when they return, or, where a
 * release cannot fail, when it begins; by several threads, so that what happened in one order can
 * be told in another. A thread may detach itself before pthread_create has returned: such a release
 * comes first, and is kept. A value may be another's when the call that released it returns: then
 * the release is owed, and takes nothing. When a call began says which it is. Start:
 * tt_kernel_call_acquired. */
#include "kernel/internal.h"

bool tt_kernel_is_counted(uint32_t space)
{
    return space == TT_SPACE_LIBRARY || space == TT_SPACE_NAMED_SEMAPHORE;
}

static void put_late(struct tt_kernel_image *image, const struct tt_kernel_late *late)
{
    image->late[image->late_next++ % TT_KERNEL_LATE] = *late;
}

static struct tt_kernel_late *find_late(struct tt_kernel_image *image, uint32_t space,
                                        uint64_t value, bool owed)
{
    for (uint32_t i = 0; i < TT_KERNEL_LATE; i++) {
        struct tt_kernel_late *late = &image->late[i];
        if (late->space == space && late->value == value && late->owed == owed)
            return late;
    }
    return NULL;
}

void tt_kernel_died(struct tt_kernel_image *image, struct tt_tape_held *held, uint32_t tick)
{
    uint32_t born = tt_tape_entry_tick(held->entry);
    tt_kernel_tape_death(&image->tape, tt_tape_entry_site(held->entry), 1, 1,
                         tt_tape_bin((tick - born) & TT_TAPE_TICK_MAX));
}

static struct tt_tape_held *born(struct tt_kernel *kernel, struct tt_kernel_image *image,
                                 const struct tt_kernel_event *e, uint64_t value)
{
    uint32_t number, site = tt_kernel_site(kernel, image, e, &number);
    tt_kernel_tape_birth(&image->tape, site, 1, 1);
    struct tt_tape_held *held =
        tt_kernel_tape_put(&image->tape, tt_kernel_space(e->kind), value, site, e->tick, 1);
    if (!held)
        return NULL;
    held->tid = e->tid;
    held->owner = tt_kernel_owner(kernel, image, e->owner);
    held->also = e->value[3] == UINT64_MAX ? -1 : (int32_t)e->value[3];
    held->reserved[0] = e->value[2]; /* ns */
    return held;
}

void tt_kernel_call_acquired(struct tt_kernel *kernel, struct tt_kernel_image *image,
                             const struct tt_kernel_event *e)
{
    uint32_t space = tt_kernel_space(e->kind);
    uint64_t value = e->value[0], began = e->value[1], now = e->value[2];
    struct tt_tape_held *held = tt_kernel_tape_find(&image->tape, space, value);
    bool counted = tt_kernel_is_counted(space);
    if (held && counted) {
        held->also++; /* of the first; the site of this one may need the table */
        born(kernel, image, e, tt_tape_further(value, held->also));
        return;
    }
    if (held && held->tid == e->tid && began < held->reserved[0])
        return; /* by another function within this call */
    if (held) {
        const struct tt_kernel_late owed = {value, now, space, true};
        tt_kernel_died(image, held, e->tick);
        put_late(image, &owed);
    }
    held = born(kernel, image, e, value);
    if (held && counted)
        held->also = 0;
    struct tt_kernel_late *early = held ? find_late(image, space, value, false) : NULL;
    if (!early)
        return;
    early->space = 0;
    if (early->at < began)
        return; /* of one that was there before us */
    tt_kernel_died(image, held, e->tick);
    tt_kernel_tape_take(held);
}

void tt_kernel_call_released(struct tt_kernel_image *image, const struct tt_kernel_event *e)
{
    uint32_t space = tt_kernel_space(e->kind);
    uint64_t value = e->value[0], began = e->value[1];
    struct tt_tape_held *held = tt_kernel_tape_find(&image->tape, space, value);
    struct tt_kernel_late *owed = find_late(image, space, value, true);
    if (owed) {
        owed->space = 0;
        if (began <= owed->at)
            return;
        image->tape.head->dropped[TT_DROP_UNSEEN]++; /* it never came */
    }
    if (!held) {
        const struct tt_kernel_late early = {value, began, space, false};
        image->tape.head->dropped[TT_DROP_NOT_HELD]++;
        put_late(image, &early);
        return;
    }
    if (tt_kernel_is_counted(space) && held->also > 0) {
        struct tt_tape_held *last =
            tt_kernel_tape_find(&image->tape, space, tt_tape_further(value, held->also));
        held->also--;
        held = last ? last : held;
    }
    tt_kernel_died(image, held, e->tick);
    tt_kernel_tape_take(held);
}
