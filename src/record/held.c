/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the table of held units. Each reading makes the list anew and carries over, for units
 * that are the same (space, value and birth), what was learned of them before: when their second
 * clocks started, that they are ghosts. Units that went meanwhile end their clocks here. The tape's
 * births and deaths know nothing of ghosts, so their number is added to the deaths of their site
 * for as long as the tape has them. Start: tt_held_read. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "record/internal.h"

#define ROWS 1024u /* read at a time */
#define TRIES 3
#define COST_SHARE 50u
#define LEAST_NS (TT_SECOND * 3 / 4) /* readings are a second apart */

static uint64_t key_of(uint8_t space, uint64_t value)
{
    return value ^ (uint64_t)space << 56;
}

/* ---- the list ---- */

static bool same(const struct tt_held_unit *a, const struct tt_held_unit *b)
{
    return a->space == b->space && a->value == b->value && a->entry == b->entry;
}

static int take(struct tt_image *image, const struct tt_tape_held *row, const struct tt_map *before,
                const struct tt_held_unit *old)
{
    struct tt_held *held = &image->held;
    struct tt_held_unit unit = {.value = row->value,
                                .entry = row->entry,
                                .size = row->size ? row->size : 1,
                                .site = tt_tape_entry_site(row->entry),
                                .tick = tt_tape_entry_tick(row->entry),
                                .owner = row->owner,
                                .count = 1, /* of a library that was opened twice too */
                                .space = row->space,
                                .kind = row->kind,
                                .also = row->also};
    if (unit.site >= image->tape.sites.len)
        unit.site = 0; /* newer than the totals, or nonsense */
    if (unit.size >= 1ULL << 47)
        unit.size = (1ULL << 47) - 1;
    const uint64_t *at = tt_map_get(before, key_of(unit.space, unit.value));
    if (at && same(&old[*at], &unit)) {
        memcpy(unit.started, old[*at].started, sizeof unit.started);
        unit.ghost = old[*at].ghost;
        unit.missing = old[*at].missing;
        unit.inode = old[*at].inode;
    }
    return tt_vec_push(&held->units, unit);
}

static bool live(uint32_t state)
{
    uint32_t what = state & TT_HELD_MASK;
    return what == TT_HELD_LIVE || what == TT_HELD_LEAVING;
}

/* One that is being changed is looked at again in a moment. */
static bool settle(const struct tt_tape *tape, struct tt_tape_held *row, uint64_t at)
{
    for (int i = 0; i < TRIES && (row->state & TT_HELD_MASK) == TT_HELD_BUSY; i++)
        if (pread(tape->fd, row, sizeof *row, (off_t)at) != sizeof *row)
            return false;
    return live(row->state) && row->space && row->kind;
}

static int read_table(struct tt_image *image, const struct tt_map *before,
                      const struct tt_held_unit *old)
{
    static struct tt_tape_held rows[ROWS];
    const off_t start = TT_TAPE_OFF_HELD, end = start + (off_t)(TT_TAPE_HELD * sizeof *rows);
    for (off_t at = start; at < end;) {
        off_t data = lseek(image->tape.fd, at, SEEK_DATA);
        if (data < 0)
            return errno == ENXIO ? 0 : -errno;
        if (data >= end)
            return 0;
        if (data > at) /* back to the beginning of a row */
            at = start + (data - start) / (off_t)sizeof *rows * (off_t)sizeof *rows;
        size_t want = (size_t)(end - at) < sizeof rows ? (size_t)(end - at) : sizeof rows;
        ssize_t got = pread(image->tape.fd, rows, want, at);
        if (got < (ssize_t)sizeof *rows)
            return got < 0 ? -errno : 0;
        size_t n = (size_t)got / sizeof *rows;
        for (size_t i = 0; i < n; i++) {
            if (!rows[i].state || !settle(&image->tape, &rows[i], (uint64_t)at + i * sizeof *rows))
                continue;
            if (take(image, &rows[i], before, old))
                return -ENOMEM;
        }
        at += (off_t)(n * sizeof *rows);
    }
    return 0;
}

/* ---- what went ---- */

static void count_in(struct tt_map *map, uint64_t key, uint64_t n)
{
    uint64_t *at = tt_map_get(map, key);
    if (at)
        *at += n;
    else if (tt_map_put(map, key, n))
        return; /* a count is lost, nothing else */
}

void tt_held_end_clocks(struct tt_held *held, const struct tt_held_unit *unit, uint32_t now)
{
    for (unsigned clock = 0; clock < TT_CLOCKS; clock++) {
        if (!unit->started[clock])
            continue;
        uint32_t since = unit->started[clock] - 1, age = now > since ? now - since : 0;
        count_in(&held->clock_bin, (uint64_t)unit->site << 16 | clock << 8 | tt_tape_bin(age),
                 unit->count);
    }
}

/* Those of the list before that are in the new one no more. Foreign ones are the kernel's to end.
 */
static void end_gone(struct tt_held *held, const struct tt_held_unit *old, size_t n,
                     const struct tt_map *now_at, uint32_t now)
{
    for (size_t i = 0; i < n; i++) {
        const uint64_t *at = tt_map_get(now_at, key_of(old[i].space, old[i].value));
        bool there = at && *at < held->units.len && same(&held->units.data[*at], &old[i]);
        if (!there && !old[i].ghost && !old[i].foreign)
            tt_held_end_clocks(held, &old[i], now);
    }
}

/* Sums the ghosts of each site and how old they were. */
static void count_ghosts(struct tt_held *held, uint32_t now)
{
    tt_map_free(&held->ghosts);
    tt_map_free(&held->ghost_bin);
    for (size_t i = 0; i < held->units.len; i++) {
        const struct tt_held_unit *u = &held->units.data[i];
        if (!u->ghost)
            continue;
        uint32_t age = now > u->tick ? now - u->tick : 0;
        count_in(&held->ghosts, u->site, u->count);
        count_in(&held->ghost_bin, (uint64_t)u->site << 8 | tt_tape_bin(age), u->count);
    }
}

static int index_units(const struct tt_held_unit *units, size_t n, struct tt_map *out)
{
    for (size_t i = 0; i < n; i++)
        if (!units[i].foreign && tt_map_put(out, key_of(units[i].space, units[i].value), i))
            return -ENOMEM;
    return 0;
}

/* About once a second, and so that it costs at most a fiftieth of a processor. */
static void reconcile_at_leisure(struct tt_recorder *rec, struct tt_image *image, uint32_t now,
                                 uint64_t now_ns)
{
    struct tt_held *held = &image->held;
    if (held->reconciled && now_ns < held->due_ns)
        return;
    uint64_t begin = tt_clock_read(CLOCK_THREAD_CPUTIME_ID);
    tt_held_reconcile(rec, image, now);
    uint64_t cost = tt_clock_read(CLOCK_THREAD_CPUTIME_ID) - begin;
    held->spent_ns = cost;
    held->due_ns = now_ns + (cost * COST_SHARE > LEAST_NS ? cost * COST_SHARE : LEAST_NS);
}

int tt_held_read(struct tt_recorder *rec, struct tt_image *image, uint64_t now_ns, bool reconcile)
{
    struct tt_held *held = &image->held;
    struct tt_map before = {0}, after = {0};
    uint32_t now = tt_record_tick_at(rec, now_ns);
    struct tt_held_unit *old = held->units.data;
    size_t n_old = held->units.len;
    if (!image->n_watched && !image->kernel && !held->reconciled && !reconcile)
        return 0;
    held->units.data = NULL;
    held->units.len = held->units.cap = 0;
    int code = index_units(old, n_old, &before);
    if (!code)
        code = read_table(image, &before, old);
    for (size_t i = 0; !code && i < n_old; i++)
        if (old[i].foreign && tt_vec_push(&held->units, old[i]))
            code = -ENOMEM;
    if (!code)
        code = index_units(held->units.data, held->units.len, &after);
    if (code) { /* the list before stands */
        free(held->units.data);
        held->units.data = old;
        held->units.len = held->units.cap = n_old;
    } else {
        end_gone(held, old, n_old, &after, now);
        free(old);
        if (reconcile)
            reconcile_at_leisure(rec, image, now, now_ns);
        tt_held_owners(rec, image, now);
        count_ghosts(held, now);
        held->read = true;
    }
    tt_map_free(&before);
    tt_map_free(&after);
    return code;
}

void tt_held_overlay(const struct tt_held *held, uint32_t site, struct tt_totals *totals)
{
    const uint64_t *ghosts = tt_map_get(&held->ghosts, site);
    if (!ghosts)
        return;
    uint64_t left = totals->births > totals->deaths ? totals->births - totals->deaths : 0;
    uint64_t n = *ghosts < left ? *ghosts : left;
    totals->deaths += n;
    uint64_t bytes =
        totals->birth_bytes > totals->death_bytes ? totals->birth_bytes - totals->death_bytes : 0;
    totals->death_bytes += n < bytes ? n : bytes;
}

void tt_held_look(struct tt_image *image)
{
    for (size_t i = 0; i < image->held.units.len; i++) {
        const struct tt_held_unit *u = &image->held.units.data[i];
        if (!u->ghost && !u->foreign)
            tt_look_add(&image->look, u->site, u->size, u->tick, u->count);
    }
}

void tt_held_free(struct tt_held *held)
{
    tt_vec_free(&held->units);
    tt_vec_free(&held->places);
    tt_vec_free(&held->owners);
    tt_vec_free(&held->counts);
    tt_vec_free(&held->open);
    tt_vec_free(&held->sockets);
    tt_map_free(&held->owner_at);
    tt_map_free(&held->ghosts);
    tt_map_free(&held->ghost_bin);
    tt_map_free(&held->clock_bin);
}
