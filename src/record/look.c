/* SPDX-License-Identifier: Apache-2.0 */
/* A look at the shadow: which units live now, by site, size and birth tick. The shadow is a sparse
 * file, of which only data is read: lseek(SEEK_DATA) steps over holes, and reading a hole would
 * allocate nothing anyway, unlike touching it through a mapping.
 *
 * A site keeps at most so many rows. Beyond, its units are told apart less finely: first ages keep
 * fewer significant bits (so that young and old stay apart at any scale), then sizes do. Both are
 * cut downwards: a unit never seems older or larger than it is. Start: tt_look_scan. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "record/internal.h"

#define BUFFER (128u << 10)
#define PIECE_SHIFT 16
#define ROWS_LEAST 64u
#define AGE_LEVELS 8u /* level k keeps 8 - k bits after the leading one; 0: all */
#define SIZE_LEVELS 6u

/* Keeps the leading bit and `bits` after it. */
static uint64_t leading(uint64_t value, unsigned bits)
{
    unsigned log = value ? 63u - (unsigned)__builtin_clzll(value) : 0;
    return log <= bits ? value : value >> (log - bits) << (log - bits);
}

static uint32_t coarse_tick(const struct tt_look *look, const struct tt_unit_set *set,
                            uint32_t tick)
{
    if (!set->age_level || tick >= look->now)
        return tick;
    return look->now - (uint32_t)leading(look->now - tick, AGE_LEVELS - set->age_level);
}

static uint64_t coarse_size(const struct tt_unit_set *set, uint64_t size)
{
    return set->size_level ? leading(size, SIZE_LEVELS - set->size_level) : size;
}

static struct tt_unit *place(struct tt_unit_set *set, uint64_t size, uint32_t tick)
{
    uint32_t at = (uint32_t)tt_map_mix(size << 24 ^ tick) & (set->cap - 1);
    while (set->slots[at].count && (set->slots[at].size != size || set->slots[at].tick != tick))
        at = (at + 1) & (set->cap - 1);
    return &set->slots[at];
}

static void put(struct tt_look *look, struct tt_unit_set *set, uint64_t size, uint32_t tick,
                uint32_t count)
{
    size = coarse_size(set, size);
    tick = coarse_tick(look, set, tick);
    struct tt_unit *unit = place(set, size, tick);
    if (!unit->count) {
        *unit = (struct tt_unit){size, tick, 0};
        set->len++;
        look->rows++;
    }
    unit->count = unit->count > UINT32_MAX - count ? UINT32_MAX : unit->count + count;
}

/* Moves the rows to a table of cap slots under the set's present levels. */
static bool rebuild(struct tt_look *look, struct tt_unit_set *set, uint32_t cap)
{
    struct tt_unit *old = set->slots;
    uint32_t old_cap = set->cap;
    struct tt_unit *slots = calloc(cap, sizeof *slots);
    if (!slots)
        return false;
    look->rows -= set->len;
    set->slots = slots;
    set->cap = cap;
    set->len = 0;
    for (uint32_t i = 0; i < old_cap; i++)
        if (old[i].count)
            put(look, set, old[i].size, old[i].tick, old[i].count);
    free(old);
    return true;
}

/* One step coarser; false when there is none left or no memory. */
static bool coarsen(struct tt_look *look, struct tt_unit_set *set)
{
    if (set->age_level < AGE_LEVELS)
        set->age_level++;
    else if (set->size_level < SIZE_LEVELS)
        set->size_level++;
    else
        return false;
    return rebuild(look, set, set->cap);
}

static void shrink_to(struct tt_look *look, struct tt_unit_set *set)
{
    while (set->len > look->row_cap && coarsen(look, set))
        ;
}

static void add(struct tt_look *look, uint32_t site, uint64_t size, uint32_t tick, uint32_t count)
{
    struct tt_unit_set *set = &look->sites.data[site];
    if ((set->len + 1) * 4 > set->cap * 3 && !rebuild(look, set, set->cap ? set->cap * 2 : 8)) {
        look->failed = true;
        return;
    }
    set->units += count;
    set->bytes += size * count;
    look->units += count;
    put(look, set, size, tick, count);
    if (set->len > look->row_cap)
        shrink_to(look, set);
    while (look->rows > TT_RECORD_SURVIVORS && look->row_cap > ROWS_LEAST) {
        look->row_cap /= 2;
        for (size_t i = 0; i < look->sites.len; i++)
            shrink_to(look, &look->sites.data[i]);
    }
}

/* ---- big blocks: their sizes are in a table of their own ---- */

static int read_big(const struct tt_tape *tape, struct tt_map *sizes)
{
    static struct tt_tape_big chunk[4096];
    if (!tape->head.big_count)
        return 0;
    for (uint32_t first = 0; first < TT_TAPE_BIG; first += 4096) {
        if (pread(tape->fd, chunk, sizeof chunk,
                  (off_t)(TT_TAPE_OFF_BIG + (uint64_t)first * sizeof *chunk)) !=
            (ssize_t)sizeof chunk)
            return -EIO;
        for (size_t i = 0; i < 4096; i++)
            if (chunk[i].address > 1 && tt_map_put(sizes, chunk[i].address, chunk[i].size))
                return -ENOMEM;
    }
    return 0;
}

/* ---- the scan ---- */

struct scan {
    struct tt_look *look;
    struct tt_tape *tape;
    struct tt_map big;
    uint64_t buffer[BUFFER / 8];
};

static void note_piece(struct tt_look *look, uint64_t address)
{
    uint64_t piece = address >> PIECE_SHIFT;
    if (!look->pieces.len || look->pieces.data[look->pieces.len - 1] != piece)
        if (tt_vec_push(&look->pieces, piece))
            look->failed = true;
}

static void take(struct scan *scan, const uint64_t *entries, size_t n, uint64_t address)
{
    struct tt_look *look = scan->look;
    unsigned shift = scan->tape->head.granule_shift;
    for (size_t i = 0; i < n; i++) {
        uint64_t entry = entries[i];
        if (!entry)
            continue;
        uint32_t site = tt_tape_entry_site(entry);
        uint64_t at = address + ((uint64_t)i << shift), size = tt_tape_entry_size(entry);
        if (site >= look->sites.len)
            site = 0; /* newer than the totals, or nonsense: counted as unknown */
        if (size == TT_TAPE_SIZE_BIG) {
            const uint64_t *big = tt_map_get(&scan->big, at);
            if (big)
                size = *big & ((1ULL << 47) - 1);
            else
                look->big_lost++;
        }
        /* a unit from before the recorder first set the tape's clock has tick 0 */
        uint32_t tick = tt_tape_entry_tick(entry);
        note_piece(look, at);
        add(look, site, size, tick < look->first ? look->first : tick, 1);
    }
}

/* One region of the shadow, data by data. */
static int scan_region(struct scan *scan, uint32_t region, uint64_t base)
{
    unsigned shift = scan->tape->head.granule_shift;
    int fd = scan->tape->fd;
    uint64_t bytes = TT_TAPE_REGION_BYTES(shift);
    off_t start = (off_t)(TT_TAPE_OFF_SHADOW + region * bytes), end = start + (off_t)bytes;
    for (off_t at = start; at < end;) {
        off_t data = lseek(fd, at, SEEK_DATA);
        if (data < 0)
            return errno == ENXIO ? 0 : -errno; /* no data beyond */
        if (data >= end)
            return 0;
        off_t hole = lseek(fd, data, SEEK_HOLE);
        if (hole < 0)
            return -errno;
        if (hole > end)
            hole = end;
        for (at = data & ~(off_t)7; at < hole;) {
            size_t want = (size_t)(hole - at) < BUFFER ? (size_t)(hole - at) : BUFFER;
            ssize_t n = pread(fd, scan->buffer, want, at);
            if (n < 8)
                return n < 0 ? -errno : 0;
            n &= ~(ssize_t)7;
            take(scan, scan->buffer, (size_t)n / 8, base + ((uint64_t)(at - start) / 8 << shift));
            at += n;
            if (scan->look->failed)
                return -ENOMEM;
        }
    }
    return 0;
}

static int by_address(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

int tt_look_scan(struct tt_look *look, struct tt_tape *tape, uint32_t first_tick, uint32_t now_tick)
{
    tt_look_free(look);
    look->now = now_tick;
    look->first = first_tick;
    look->row_cap = TT_RECORD_SURVIVOR_ROWS;
    size_t n = tape->sites.len ? tape->sites.len : 1;
    look->sites.data = calloc(n, sizeof *look->sites.data);
    struct scan *scan = calloc(1, sizeof *scan);
    int code = look->sites.data && scan ? 0 : -ENOMEM;
    if (!code) {
        look->sites.len = look->sites.cap = n;
        scan->look = look;
        scan->tape = tape;
        code = read_big(tape, &scan->big);
    }
    for (uint32_t i = 0; !code && i < tape->head.region_count; i++) {
        uint32_t piece = tape->head.regions[i];
        if (piece < TT_TAPE_L1)
            code = scan_region(scan, i, (uint64_t)piece << TT_TAPE_REGION_SHIFT);
    }
    if (scan)
        tt_map_free(&scan->big);
    free(scan);
    if (!code && look->pieces.len) /* regions come in the order of their first use */
        qsort(look->pieces.data, look->pieces.len, sizeof *look->pieces.data, by_address);
    if (code)
        tt_look_free(look);
    return code;
}

void tt_look_add(struct tt_look *look, uint32_t site, uint64_t size, uint32_t tick, uint32_t count)
{
    if (site < look->sites.len)
        add(look, site, size, tick < look->first ? look->first : tick, count);
}

void tt_look_free(struct tt_look *look)
{
    for (size_t i = 0; i < look->sites.len; i++)
        free(look->sites.data[i].slots);
    /* NOLINTBEGIN(clang-analyzer-unix.Malloc): was set to NULL by the first */
    tt_vec_free(&look->sites);
    tt_vec_free(&look->pieces);
    /* NOLINTEND(clang-analyzer-unix.Malloc) */
    *look = (struct tt_look){0};
}
