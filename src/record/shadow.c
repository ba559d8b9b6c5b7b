/* SPDX-License-Identifier: Apache-2.0 */
/* The shadow as it was at a moment: a copy of its data, addressed by block. The tape itself moves
 * on while a copy of the process is searched; a block that the search finds lost stands still in
 * both, and for the others the birth tick says whether an entry is of that moment.
 * Start: tt_shadow_copy. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "record/internal.h"

#define CHUNK_BYTES (64u << 10)
#define CHUNK_ENTRIES (CHUNK_BYTES / 8)

static uint64_t region_chunks(const struct tt_shadow *shadow)
{
    return TT_TAPE_REGION_BYTES(shadow->shift) / CHUNK_BYTES;
}

/* One region, data by data. */
static int copy_region(struct tt_shadow *shadow, const struct tt_tape *tape, uint32_t region)
{
    uint64_t bytes = TT_TAPE_REGION_BYTES(shadow->shift), n = region_chunks(shadow);
    off_t start = (off_t)(TT_TAPE_OFF_SHADOW + region * bytes), end = start + (off_t)bytes;
    for (off_t at = start; at < end;) {
        off_t data = lseek(tape->fd, at, SEEK_DATA);
        if (data < 0)
            return errno == ENXIO ? 0 : -errno;
        if (data >= end)
            return 0;
        uint64_t chunk = (uint64_t)(data - start) / CHUNK_BYTES;
        uint64_t *to = malloc(CHUNK_BYTES);
        if (!to)
            return -ENOMEM;
        off_t from = start + (off_t)(chunk * CHUNK_BYTES);
        ssize_t got = pread(tape->fd, to, CHUNK_BYTES, from);
        if (got < 0) {
            free(to);
            return -errno;
        }
        memset((char *)to + got, 0, CHUNK_BYTES - (size_t)got);
        free(shadow->chunks[region * n + chunk]);
        shadow->chunks[region * n + chunk] = to;
        at = from + CHUNK_BYTES;
    }
    return 0;
}

static int copy_big(struct tt_shadow *shadow, const struct tt_tape *tape)
{
    if (!tape->head.big_count)
        return 0;
    const size_t n = TT_TAPE_BIG;
    struct tt_tape_big *big = malloc(n * sizeof *big);
    if (!big)
        return -ENOMEM;
    int code = pread(tape->fd, big, n * sizeof *big, TT_TAPE_OFF_BIG) == (ssize_t)(n * sizeof *big)
                   ? 0
                   : -EIO;
    for (size_t i = 0; !code && i < n; i++)
        if (big[i].address > 1)
            code = tt_map_put(&shadow->big, big[i].address, big[i].size & ((1ULL << 47) - 1));
    free(big);
    return code;
}

int tt_shadow_copy(struct tt_shadow *shadow, const struct tt_tape *tape, uint32_t tick)
{
    *shadow = (struct tt_shadow){
        .n_regions = tape->head.region_count, .shift = tape->head.granule_shift, .tick = tick};
    uint64_t n = shadow->n_regions * region_chunks(shadow);
    shadow->chunks = calloc(n ? n : 1, sizeof *shadow->chunks);
    int code = shadow->chunks ? copy_big(shadow, tape) : -ENOMEM;
    for (uint32_t i = 0; !code && i < shadow->n_regions; i++)
        if (tape->head.regions[i] < TT_TAPE_L1 &&
            !tt_map_get(&shadow->regions, tape->head.regions[i])) {
            code = tt_map_put(&shadow->regions, tape->head.regions[i], i);
            if (!code)
                code = copy_region(shadow, tape, i);
        }
    if (code)
        tt_shadow_free(shadow);
    return code;
}

/* An entry, 0 for none. */
static uint64_t entry_at(const struct tt_shadow *shadow, uint64_t address)
{
    const uint64_t *region = tt_map_get(&shadow->regions, address >> TT_TAPE_REGION_SHIFT);
    if (!region)
        return 0;
    uint64_t granule = (address & ((1ULL << TT_TAPE_REGION_SHIFT) - 1)) >> shadow->shift;
    const uint64_t *chunk =
        shadow->chunks[*region * region_chunks(shadow) + granule / CHUNK_ENTRIES];
    return chunk ? chunk[granule % CHUNK_ENTRIES] : 0;
}

static bool decode(const struct tt_shadow *shadow, uint64_t address, uint64_t entry,
                   struct tt_shadow_entry *out)
{
    if (!entry || tt_tape_entry_tick(entry) > shadow->tick)
        return false;
    *out = (struct tt_shadow_entry){tt_tape_entry_site(entry), tt_tape_entry_tick(entry),
                                    tt_tape_entry_size(entry)};
    if (out->size == TT_TAPE_SIZE_BIG) {
        const uint64_t *big = tt_map_get(&shadow->big, address);
        out->size = big ? *big : 0;
    }
    return true;
}

bool tt_shadow_at(const struct tt_shadow *shadow, uint64_t address, struct tt_shadow_entry *out)
{
    return shadow->chunks && decode(shadow, address, entry_at(shadow, address), out);
}

void tt_shadow_each(const struct tt_shadow *shadow, uint64_t start, uint64_t end,
                    void (*take)(void *arg, uint64_t address, const struct tt_shadow_entry *entry),
                    void *arg)
{
    const uint64_t step = 1ULL << shadow->shift, piece = 1ULL << TT_TAPE_REGION_SHIFT;
    struct tt_shadow_entry out;
    if (!shadow->chunks)
        return;
    for (uint64_t at = start & ~(step - 1); at < end;) {
        const uint64_t *region = tt_map_get(&shadow->regions, at >> TT_TAPE_REGION_SHIFT);
        if (!region) {
            at = (at | (piece - 1)) + 1;
            continue;
        }
        uint64_t granule = (at & (piece - 1)) >> shadow->shift;
        const uint64_t *chunk =
            shadow->chunks[*region * region_chunks(shadow) + granule / CHUNK_ENTRIES];
        uint64_t left = CHUNK_ENTRIES - granule % CHUNK_ENTRIES;
        for (uint64_t i = 0; i < left && at < end; i++, at += step)
            if (chunk && decode(shadow, at, chunk[granule % CHUNK_ENTRIES + i], &out))
                take(arg, at, &out);
    }
}

void tt_shadow_free(struct tt_shadow *shadow)
{
    uint64_t n = shadow->chunks ? shadow->n_regions * region_chunks(shadow) : 0;
    for (uint64_t i = 0; i < n; i++)
        free(shadow->chunks[i]);
    free(shadow->chunks);
    tt_map_free(&shadow->regions);
    tt_map_free(&shadow->big);
    *shadow = (struct tt_shadow){0};
}
