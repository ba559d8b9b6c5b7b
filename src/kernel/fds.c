/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors. The kernel side's table is the truth about which are followed; here it is copied
 * into the tape, difference by difference, and compared with /proc/PID/fd, so that it cannot drift.
 * A single disagreement proves nothing, since both move on while they are read: only what is seen
 * twice is acted upon. Start: tt_kernel_fds_sync, tt_kernel_fds_reconcile. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kernel/internal.h"

#define DOUBT_UNKNOWN 1u /* open, and not in the table */

static __u64 *place(struct tt_kernel *kernel, uint32_t slot, uint32_t fd)
{
    return &kernel->shared->fd[slot * TT_KERNEL_FDS + fd];
}

static uint64_t entry_of(struct tt_kernel *kernel, uint32_t slot, uint32_t fd)
{
    return fd < TT_KERNEL_FDS ? __atomic_load_n(place(kernel, slot, fd), __ATOMIC_RELAXED)
                              : tt_kernel_far_get(&kernel->load, (uint64_t)slot << 32 | fd);
}

/* from becomes to, if it still is from. */
static bool change(struct tt_kernel *kernel, uint32_t slot, uint32_t fd, uint64_t from, uint64_t to)
{
    __u64 expected = from;
    if (fd < TT_KERNEL_FDS)
        return __atomic_compare_exchange_n(place(kernel, slot, fd), &expected, to, false,
                                           __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    uint64_t key = (uint64_t)slot << 32 | fd;
    if (tt_kernel_far_get(&kernel->load, key) != from)
        return false;
    if (to)
        tt_kernel_far_put(&kernel->load, key, to);
    else
        tt_kernel_far_drop(&kernel->load, key);
    return true;
}

bool tt_kernel_fds_name(struct tt_kernel *kernel, uint32_t slot, uint32_t fd, uint64_t pending,
                        uint64_t entry)
{
    return change(kernel, slot, fd, pending, entry);
}

void tt_kernel_fds_clear(struct tt_kernel *kernel, uint32_t slot)
{
    uint64_t key, next;
    memset(place(kernel, slot, 0), 0, TT_KERNEL_FDS * sizeof(uint64_t));
    memset(&kernel->shared->word[(size_t)slot * TT_KERNEL_FDS], 0, TT_KERNEL_FDS * sizeof(uint32_t));
    memset(&kernel->shared->ops[(size_t)slot * TT_KERNEL_OPS], 0, TT_KERNEL_OPS * sizeof(uint64_t));
    kernel->shared->slot[slot] = (struct tt_kernel_slot){0};
    for (bool more = tt_kernel_far_next(&kernel->load, &key, true); more; key = next) {
        next = key;
        more = tt_kernel_far_next(&kernel->load, &next, false);
        if (key >> 32 == slot)
            tt_kernel_far_drop(&kernel->load, key);
    }
}

/* ---- into the tape ---- */

/* A row as the table has it; entry 0 or still pending: none. */
static void show(struct tt_kernel *kernel, struct tt_kernel_image *image, uint32_t fd,
                 uint64_t entry)
{
    uint32_t number = (uint32_t)(entry >> 44);
    uint32_t site = number < TT_KERNEL_SITES ? kernel->local[number] : 0;
    if (site) {
        struct tt_tape_held *held = tt_kernel_tape_put(&image->tape, TT_SPACE_FD, fd, site,
                                                       (uint32_t)entry & TT_TAPE_TICK_MAX, 1);
        if (held)
            held->owner =
                tt_kernel_owner(kernel, image, (uint32_t)(entry >> 24) & TT_KERNEL_OWNER_ID);
    } else {
        struct tt_tape_held *held = tt_kernel_tape_find(&image->tape, TT_SPACE_FD, fd);
        if (held)
            tt_kernel_tape_take(held);
    }
}

static void sync_far(struct tt_kernel *kernel, struct tt_kernel_image *image)
{
    tt_kernel_far_vec now = {0};
    struct tt_map at = {0};
    uint64_t key = 0;
    for (bool more = tt_kernel_far_next(&kernel->load, &key, true); more;
         more = tt_kernel_far_next(&kernel->load, &key, false)) {
        struct tt_kernel_far far = {.fd = (uint32_t)key,
                                    .entry = tt_kernel_far_get(&kernel->load, key)};
        if (key >> 32 != image->slot || !far.entry)
            continue;
        if (tt_map_put(&at, far.fd, 1) || tt_vec_push(&now, far))
            break;
        show(kernel, image, far.fd, far.entry);
    }
    for (size_t i = 0; i < image->far.len; i++)
        if (!tt_map_get(&at, image->far.data[i].fd))
            show(kernel, image, image->far.data[i].fd, 0);
    tt_map_free(&at);
    tt_vec_free(&image->far);
    image->far = now;
}

void tt_kernel_fds_sync(struct tt_kernel *kernel, struct tt_kernel_image *image)
{
    uint32_t high = kernel->shared->slot[image->slot].high;
    for (uint32_t fd = 0; fd < high && fd < TT_KERNEL_FDS; fd++) {
        uint64_t entry = entry_of(kernel, image->slot, fd);
        if (entry == image->fds[fd])
            continue;
        show(kernel, image, fd, entry);
        image->fds[fd] = entry;
    }
    if (high > TT_KERNEL_FDS)
        sync_far(kernel, image);
}

/* ---- against /proc ---- */

typedef TT_VEC(uint32_t) fd_vec;

static bool list(pid_t pid, fd_vec *out)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *dir = opendir(path);
    if (!dir)
        return false;
    bool complete = true;
    for (struct dirent *entry; complete && (entry = readdir(dir)) != NULL;)
        if (*entry->d_name >= '0' && *entry->d_name <= '9')
            complete = tt_vec_push(out, (uint32_t)strtoul(entry->d_name, NULL, 10)) == 0;
    closedir(dir);
    return complete;
}

static bool is_socket(pid_t pid, uint32_t fd)
{
    char path[64], text[32] = "";
    snprintf(path, sizeof path, "/proc/%d/fd/%u", (int)pid, fd);
    ssize_t n = readlink(path, text, sizeof text - 1);
    return n > 0 && strncmp(text, "socket:", 7) == 0;
}

/* Was open before: whoever reads from it works for its peer, if it is a socket. */
static void mark_old(struct tt_kernel *kernel, const struct tt_kernel_image *image, uint32_t fd)
{
    if (fd >= TT_KERNEL_FDS)
        return;
    __u32 none = 0, *word = &kernel->shared->word[image->slot * TT_KERNEL_FDS + fd];
    uint32_t now = TT_KERNEL_OLD | (is_socket(image->pid, fd) ? TT_KERNEL_IS_SOCKET : 0);
    __atomic_compare_exchange_n(word, &none, now, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

/* Came by no call that is watched: held from now on, at no stack. */
static void found(struct tt_kernel *kernel, struct tt_kernel_image *image, uint32_t fd)
{
    bool socket = is_socket(image->pid, fd);
    uint32_t number = image->unknown[socket];
    if (!number)
        return;
    if (socket && fd < TT_KERNEL_FDS)
        __atomic_fetch_or(&kernel->shared->word[image->slot * TT_KERNEL_FDS + fd],
                          TT_KERNEL_IS_SOCKET, __ATOMIC_RELAXED);
    struct tt_kernel_slot *slot = &kernel->shared->slot[image->slot];
    if (fd >= slot->high)
        slot->high = fd + 1;
    if (change(kernel, image->slot, fd, 0, TT_KERNEL_ENTRY(number, 0, kernel->shared->tick)))
        __atomic_fetch_add(&kernel->shared->count[number].births, 1, __ATOMIC_RELAXED);
}

/* Went by no call that is watched. */
static void missing(struct tt_kernel *kernel, struct tt_kernel_image *image, uint32_t fd,
                    uint64_t entry)
{
    uint32_t number = (uint32_t)(entry >> 44);
    if (number >= TT_KERNEL_SITES || !change(kernel, image->slot, fd, entry, 0))
        return;
    uint32_t age = (kernel->shared->tick - (uint32_t)entry) & TT_TAPE_TICK_MAX;
    __atomic_fetch_add(&kernel->shared->count[number].deaths[tt_tape_bin(age)], 1,
                       __ATOMIC_RELAXED);
    image->tape.head->dropped[TT_DROP_UNSEEN]++;
}

static void check(struct tt_kernel *kernel, struct tt_kernel_image *image, struct tt_map *doubt,
                  uint32_t fd, bool open)
{
    uint64_t entry = entry_of(kernel, image->slot, fd);
    const uint64_t *before = tt_map_get(&image->doubt, fd);
    uint64_t why = entry ? entry : DOUBT_UNKNOWN;
    if (open == (entry != 0))
        return;
    if (!before || *before != why)
        tt_map_put(doubt, fd, why);
    else if (open)
        found(kernel, image, fd);
    else
        missing(kernel, image, fd, entry);
}

void tt_kernel_fds_reconcile(struct tt_kernel *kernel, struct tt_kernel_image *image)
{
    fd_vec open = {0};
    struct tt_map is_open = {0}, old = {0}, doubt = {0};
    if (!list(image->pid, &open))
        goto end;
    for (size_t i = 0; i < open.len; i++) {
        uint32_t fd = open.data[i];
        if (tt_map_put(&is_open, fd, 1))
            goto end;
        /* closed and opened again by a call that is watched, it is followed like any other */
        if (!image->listed || tt_map_get(&image->old, fd)) {
            if (!entry_of(kernel, image->slot, fd)) {
                tt_map_put(&old, fd, 1);
                if (!image->listed)
                    mark_old(kernel, image, fd);
            }
        } else {
            check(kernel, image, &doubt, fd, true);
        }
    }
    uint32_t high = kernel->shared->slot[image->slot].high;
    for (uint32_t fd = 0; fd < high && image->listed; fd++)
        if (fd < TT_KERNEL_FDS && !tt_map_get(&is_open, fd))
            check(kernel, image, &doubt, fd, false);
    for (size_t i = 0; i < image->far.len && image->listed; i++)
        if (!tt_map_get(&is_open, image->far.data[i].fd))
            check(kernel, image, &doubt, image->far.data[i].fd, false);
    image->listed = true;
    tt_map_free(&image->old);
    tt_map_free(&image->doubt);
    image->old = old;
    image->doubt = doubt;
    old = doubt = (struct tt_map){0};
end:
    tt_map_free(&is_open);
    tt_map_free(&old);
    tt_map_free(&doubt);
    tt_vec_free(&open);
}
