/* SPDX-License-Identifier: Apache-2.0 */
/* On whose behalf units were acquired. The kernel side keeps rows of all images' peers, told apart
 * by ids of 20 bits; one for whom a unit lives becomes a row of its image's tape, where ids are not
 * given out twice, and is kept as it was last seen when the kernel side gives its row to another.
 * Start: tt_kernel_owner. */
#include <string.h>

#include "kernel/internal.h"

#define ROWS_TRIED 16u

_Static_assert((int)TT_KERNEL_CONNECTION == (int)TT_OWNER_CONNECTION &&
                   (int)TT_KERNEL_SENDER == (int)TT_OWNER_SENDER &&
                   sizeof((struct tt_kernel_owner *)0)->address ==
                       sizeof((struct tt_tape_owner *)0)->address,
               "the kernel side's owners are the tape's");

static struct tt_tape_owner *row_of(const struct tt_kernel_image *image, uint32_t id)
{
    return (struct tt_tape_owner *)(image->tape.base + TT_TAPE_OFF_OWNERS) + id % TT_TAPE_OWNERS;
}

/* The same, of a peer that the kernel side knows. */
static void copy(struct tt_tape_owner *row, const struct tt_kernel_owner *from)
{
    row->last = from->last;
    row->end = from->end;
    row->births = from->births;
}

static uint32_t adopt(const struct tt_kernel_image *image, const struct tt_kernel_owner *from)
{
    struct tt_tape_head *head = image->tape.head;
    for (unsigned i = 0; i < ROWS_TRIED; i++) {
        uint32_t id = ++head->owner_count;
        struct tt_tape_owner *row = row_of(image, id);
        if (id == 0 || id == TT_TAPE_FD_UNMET ||
            (row->id && row->end == 0 && row->how == TT_OWNER_CONNECTION))
            continue;
        *row = (struct tt_tape_owner){.id = id,
                                      .fd = from->fd,
                                      .begin = from->begin,
                                      .peer_pid = from->pid,
                                      .peer_uid = from->uid,
                                      .how = from->how,
                                      .address_bytes = from->address_bytes};
        memcpy(row->address, from->address, sizeof row->address);
        copy(row, from);
        return id;
    }
    head->dropped[TT_DROP_OWNERS]++;
    return 0;
}

uint32_t tt_kernel_owner(struct tt_kernel *kernel, struct tt_kernel_image *image, uint32_t id)
{
    if (!id)
        return 0;
    const struct tt_kernel_owner *row = &kernel->shared->owner[id % TT_KERNEL_OWNERS];
    struct tt_kernel_known_owner *known = &kernel->owners[id % TT_KERNEL_OWNERS];
    if (known->kernel_id == id && known->pid == image->pid)
        return known->id;
    if (row->id != id || row->slot != image->slot)
        return 0;
    *known = (struct tt_kernel_known_owner){id, adopt(image, row), image->pid};
    return known->id;
}

void tt_kernel_owners_sync(struct tt_kernel *kernel)
{
    uint32_t n = kernel->shared->owner_count;
    for (uint32_t i = 0; i < TT_KERNEL_OWNERS && i <= n; i++) {
        struct tt_kernel_known_owner *known = &kernel->owners[i];
        const struct tt_kernel_owner *row = &kernel->shared->owner[i];
        const struct tt_kernel_image *image = kernel->image[row->slot % TT_KERNEL_SLOTS];
        if (!known->kernel_id || !known->id)
            continue;
        if (image && image->pid == known->pid && row->id == known->kernel_id) {
            copy(row_of(image, known->id), row);
            continue;
        }
        for (uint32_t slot = 0; slot < TT_KERNEL_SLOTS; slot++) { /* its row was given away */
            image = kernel->image[slot];
            struct tt_tape_owner *left =
                image && image->pid == known->pid ? row_of(image, known->id) : NULL;
            if (left && left->id == known->id && !left->end && left->how == TT_OWNER_CONNECTION)
                left->end = left->last + 1;
        }
        *known = (struct tt_kernel_known_owner){0};
    }
}

void tt_kernel_owners_clear(struct tt_kernel *kernel, const struct tt_kernel_image *image)
{
    struct tt_kernel_shared *shared = kernel->shared;
    for (uint32_t i = 0; i < TT_KERNEL_OWNERS && i <= shared->owner_count; i++) {
        if (kernel->owners[i].pid == image->pid)
            kernel->owners[i] = (struct tt_kernel_known_owner){0};
        if (shared->owner[i].id && shared->owner[i].slot == image->slot && !shared->owner[i].end)
            shared->owner[i].end = shared->tick + 1;
    }
}
