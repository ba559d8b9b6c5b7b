/* SPDX-License-Identifier: Apache-2.0 */
/* Writing a tape from outside the process: what the agent's hooks do inside it, for units that only
 * the kernel tells about. The recorder that reads it is this same process, later in the same
 * thread; so no order of stores matters. Start: tt_kernel_tape_make. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "kernel/internal.h"

#define TAPE_BYTES TT_TAPE_OFF_SHADOW /* there are no blocks */

int tt_kernel_tape_make(struct tt_kernel_tape *tape, pid_t pid, int *fd)
{
    bool zombie;
    *tape = (struct tt_kernel_tape){0};
    *fd = memfd_create("telltale-kernel", MFD_CLOEXEC);
    if (*fd < 0)
        return -errno;
    void *base = MAP_FAILED;
    if (ftruncate(*fd, (off_t)TAPE_BYTES) == 0)
        base = mmap(NULL, TAPE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, *fd, 0);
    if (base == MAP_FAILED) {
        int code = -errno;
        close(*fd);
        *fd = -1;
        return code;
    }
    tape->base = base;
    tape->head = base;
    tape->site = (struct tt_tape_site *)(tape->base + TT_TAPE_OFF_SITES);
    tape->held = (struct tt_tape_held *)(tape->base + TT_TAPE_OFF_HELD);
    pid_t parent = tt_proc_parent(pid, &zombie);
    tape->head->version = TT_TAPE_VERSION;
    tape->head->mode = TT_MODE_EXACT;
    tape->head->state = TT_STATE_RUNNING;
    tape->head->pid = (uint32_t)pid;
    tape->head->parent = parent > 0 ? (uint32_t)parent : 0;
    tape->head->granule_shift = 5;
    tape->head->start_ns = tt_clock_now();
    tape->head->site_count = 1;
    tt_proc_exe(pid, tape->head->exe, sizeof tape->head->exe);
    tape->head->magic = TT_TAPE_MAGIC;
    return 0;
}

void tt_kernel_tape_free(struct tt_kernel_tape *tape)
{
    if (tape->base)
        munmap(tape->base, TAPE_BYTES);
    tt_map_free(&tape->known);
    *tape = (struct tt_kernel_tape){0};
}

/* ---- sites ---- */

uint32_t tt_kernel_tape_site(struct tt_kernel_tape *tape, enum tt_tape_kind kind,
                             const uint64_t *frames, size_t n, bool cut)
{
    struct tt_tape_head *head = tape->head;
    if (n > TT_TAPE_DEPTH) {
        n = TT_TAPE_DEPTH;
        cut = true;
    }
    uint64_t hash = tt_map_mix(tt_map_hash(frames, n * sizeof *frames) ^ (uint64_t)kind << 1 ^ cut);
    hash += hash == 0;
    const uint64_t *known = tt_map_get(&tape->known, hash);
    if (known)
        return (uint32_t)*known;
    if (head->site_count >= TT_TAPE_SITES || n > TT_TAPE_FRAMES - head->frame_count) {
        head->dropped[head->site_count >= TT_TAPE_SITES ? TT_DROP_SITES : TT_DROP_FRAMES]++;
        return 0;
    }
    if (tt_map_put(&tape->known, hash, head->site_count))
        return 0;
    uint64_t *store = (uint64_t *)(tape->base + TT_TAPE_OFF_FRAMES);
    if (n)
        memcpy(store + head->frame_count, frames, n * sizeof *frames);
    tape->site[head->site_count] = (struct tt_tape_site){
        .hash = hash,
        .frames = head->frame_count,
        .depth = (uint16_t)n,
        .flags = cut ? TT_SITE_CUT : 0,
        .size_min = UINT32_MAX,
        .kind = (uint8_t)kind,
    };
    head->frame_count += (uint32_t)n;
    return head->site_count++;
}

void tt_kernel_tape_birth(struct tt_kernel_tape *tape, uint32_t site, uint64_t n, uint64_t size)
{
    struct tt_tape_site *s = &tape->site[site];
    uint32_t shown = size > UINT32_MAX ? UINT32_MAX : (uint32_t)size;
    s->births += n;
    s->birth_bytes += n * size;
    if (shown < s->size_min)
        s->size_min = shown;
    if (shown > s->size_max)
        s->size_max = shown;
}

void tt_kernel_tape_death(struct tt_kernel_tape *tape, uint32_t site, uint64_t n, uint64_t bytes,
                          uint32_t bin)
{
    struct tt_tape_site *s = &tape->site[site];
    if (bin == 0)
        s->early_deaths += n;
    else
        s->deaths[bin] += (uint32_t)n;
    s->death_bytes += bytes;
}

/* ---- units held ---- */

static struct tt_tape_held *bucket(const struct tt_kernel_tape *tape, uint32_t space,
                                   uint64_t value, uint32_t step)
{
    return tape->held + TT_TAPE_HELD_FDS +
           (size_t)tt_tape_bucket(space, value, step) * TT_TAPE_BUCKET;
}

struct tt_tape_held *tt_kernel_tape_find(const struct tt_kernel_tape *tape, uint32_t space,
                                         uint64_t value)
{
    for (uint32_t step = 0; step < TT_TAPE_HELD_REACH; step++) {
        struct tt_tape_held *row = bucket(tape, space, value, step);
        for (uint32_t i = 0; i < TT_TAPE_BUCKET; i++)
            if ((row[i].state & TT_HELD_MASK) == TT_HELD_LIVE && row[i].space == space &&
                row[i].value == value)
                return &row[i];
        if (!row->overflow)
            break;
    }
    return NULL;
}

static struct tt_tape_held *room(const struct tt_kernel_tape *tape, uint32_t space, uint64_t value)
{
    for (uint32_t step = 0; step < TT_TAPE_HELD_REACH; step++) {
        struct tt_tape_held *row = bucket(tape, space, value, step);
        for (uint32_t i = 0; i < TT_TAPE_BUCKET; i++)
            if ((row[i].state & TT_HELD_MASK) == TT_HELD_FREE)
                return &row[i];
        row->overflow = 1;
    }
    return NULL;
}

static void set_state(struct tt_tape_held *row, uint32_t state)
{
    row->state = ((row->state & ~(uint32_t)TT_HELD_MASK) | state) + TT_HELD_STAMP;
}

struct tt_tape_held *tt_kernel_tape_put(struct tt_kernel_tape *tape, uint32_t space, uint64_t value,
                                        uint32_t site, uint32_t tick, uint64_t size)
{
    struct tt_tape_held *row = tt_kernel_tape_find(tape, space, value);
    if (!row)
        row = room(tape, space, value);
    if (!row) {
        tape->head->dropped[TT_DROP_HELD]++;
        return NULL;
    }
    uint32_t state = row->state;
    *row = (struct tt_tape_held){
        .value = value,
        .state = state,
        .entry = tt_tape_entry(site, 0, tick),
        .size = size,
        .count = 1,
        .space = (uint8_t)space,
        .kind = tape->site[site].kind,
        .overflow = row->overflow,
        .also = -1,
    };
    set_state(row, TT_HELD_LIVE);
    return row;
}

void tt_kernel_tape_take(struct tt_tape_held *held)
{
    set_state(held, TT_HELD_FREE);
}
