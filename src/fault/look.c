/* SPDX-License-Identifier: Apache-2.0 */
/* What a run holds at its end, by acquiring stack: the units of the plan, and of the heap blocks
 * those that a search of a frozen copy cannot reach. The plan's file is read data by data, since
 * looking at its holes would fill them. Start: tt_fault_look. */
#include "fault/look.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "inject/attach.h"
#include "proc/proc.h"

#define MOST_GROUPS 65536u

struct blocks {
    const struct tt_fault_plan *plan;
    struct tt_map by_address; /* to index in units */
    TT_VEC(struct tt_fault_unit) units;
};

static uint64_t key_of(uint32_t site, uint32_t kind)
{
    return (uint64_t)site << 8 | kind;
}

/* The round's row of a site and kind, made if need be; NULL when out of memory. */
static struct tt_fault_held *row(struct tt_fault_round *round, struct tt_map *rows, uint32_t site,
                                 uint32_t kind)
{
    uint64_t *at = tt_map_get(rows, key_of(site, kind));
    if (at)
        return &round->held.data[*at];
    if (tt_map_put(rows, key_of(site, kind), round->held.len) ||
        tt_vec_push(&round->held, (struct tt_fault_held){.site = site, .kind = kind}))
        return NULL;
    return &round->held.data[round->held.len - 1];
}

/* Units of the plan, with their sites' numbers in the world. */
static int read_units(const struct tt_fault_look *look, const int64_t *numbers,
                      struct blocks *blocks)
{
    const off_t first = (off_t)(look->plan_at + offsetof(struct tt_fault_plan, unit));
    const off_t end = first + (off_t)sizeof look->plan->unit;
    const off_t size = (off_t)sizeof(struct tt_fault_unit);
    off_t next = 0; /* a unit may stand across the border of two pages */
    for (off_t at = first; at < end;) {
        off_t data = lseek(look->plan_fd, at, SEEK_DATA);
        if (data < 0 || data >= end)
            return data < 0 && errno != ENXIO ? -errno : 0;
        at = lseek(look->plan_fd, data, SEEK_HOLE);
        if (at < 0 || at > end)
            at = end;
        off_t i = (data - first) / size, to = (at - first + size - 1) / size;
        for (i = i > next ? i : next; i < to; i++) {
            struct tt_fault_unit u = look->plan->unit[i];
            if (!u.space || u.kind >= TT_FAULT_KINDS || u.site >= TT_FAULT_STACKS ||
                numbers[u.site] < 0)
                continue;
            u.site = (uint32_t)numbers[u.site];
            if (u.kind == TT_FAULT_HEAP &&
                tt_map_put(&blocks->by_address, ~u.key, blocks->units.len))
                return -ENOMEM;
            if (tt_vec_push(&blocks->units, u))
                return -ENOMEM;
        }
        next = to;
    }
    return 0;
}

static bool is_late(const struct tt_fault_plan *plan, const struct tt_fault_unit *u)
{
    return plan->fired_seen && u->order > plan->fired_order;
}

/* For the search: the number of the site, times two, plus one if the block came after the fault;
 * plus one, since 0 is none. */
static uint32_t site_of(void *arg, uint64_t address, uint64_t *requested)
{
    const struct blocks *blocks = arg;
    const uint64_t *at = tt_map_get(&blocks->by_address, address);
    if (!at)
        return 0;
    const struct tt_fault_unit *u = &blocks->units.data[*at];
    *requested = u->size;
    return 2 * u->site + is_late(blocks->plan, u) + 1;
}

static void search_mappings(const struct tt_heap_image *image, const struct blocks *blocks,
                            struct tt_fault_round *round, struct tt_map *rows)
{
    TT_VEC(struct tt_fault_mapped) list = {0};
    for (size_t i = 0; i < blocks->units.len; i++) {
        const struct tt_fault_unit *u = &blocks->units.data[i];
        if (u->kind == TT_FAULT_MAPPING &&
            tt_vec_push(&list, (struct tt_fault_mapped){~u->key, ~u->key + u->size, i, false}))
            break; /* what is not looked at counts as held */
    }
    tt_fault_mapped(image, list.data, list.len);
    for (size_t i = 0; i < list.len; i++) {
        const struct tt_fault_unit *u = &blocks->units.data[list.data[i].unit];
        struct tt_fault_held *h = row(round, rows, u->site, u->kind);
        if (h && !list.data[i].pointed) {
            h->lost_units++;
            h->lost_bytes += u->size;
            h->late += is_late(blocks->plan, u);
        }
    }
    tt_vec_free(&list);
}

/* The rows of this process begin at first. why->code is 0 when it was done. */
static int search(const struct tt_fault_look *look, struct blocks *blocks,
                  struct tt_fault_round *round, struct tt_map *rows, size_t first,
                  struct tt_error *why)
{
    struct tt_inject_frozen frozen = {0};
    struct tt_heap_image image = {0};
    struct tt_heap_result result = {0};
    TT_VEC(struct tt_heap_thread) threads = {0};
    int code = tt_inject_freeze(look->pid, &frozen, why), memory = 0;
    if (code)
        goto out;
    for (size_t i = 0; !code && i < frozen.threads.len; i++)
        code = tt_vec_push(&threads, (struct tt_heap_thread){frozen.threads.data[i].tid,
                                                             frozen.threads.data[i].regs});
    if (!code)
        code = tt_heap_image_frozen(frozen.copy, look->pid, threads.data, threads.len, &image, why);
    tt_inject_thaw(&frozen, NULL);
    if (code)
        goto out;
    const struct tt_heap_options options = {
        .site_of = site_of, .arg = blocks, .max_groups = MOST_GROUPS, .max_holders = 1};
    code = tt_heap_search(&image, &options, NULL, NULL, &result, why);
    if (code == -ENOENT && !blocks->by_address.len) /* a program that allocates nothing */
        code = 0;
    if (!code)
        search_mappings(&image, blocks, round, rows);
    tt_heap_image_free(&image);
    for (size_t g = 0; !code && g < result.groups.len; g++)
        for (size_t i = 0; !memory && i < result.groups.data[g].shares.len; i++) {
            const struct tt_heap_share *s = &result.groups.data[g].shares.data[i];
            struct tt_fault_held *h =
                s->site ? row(round, rows, (s->site - 1) / 2, TT_FAULT_HEAP) : NULL;
            if (s->site && !h)
                memory = -ENOMEM;
            if (h) {
                h->lost_units += s->known_units;
                h->late += (s->site - 1) % 2 ? s->known_units : 0;
            }
        }
    /* the search counts what a block has room for; what was asked for is known of all together */
    for (size_t i = first; !code && !memory && i < round->held.len; i++) {
        struct tt_fault_held *h = &round->held.data[i];
        if (h->units && h->kind == TT_FAULT_HEAP)
            h->lost_bytes =
                h->lost_units == h->units ? h->bytes : h->bytes / h->units * h->lost_units;
    }
out:
    why->code = code;
    tt_heap_result_free(&result);
    tt_vec_free(&threads);
    return memory;
}

/* What stands in the plan, the blocks and mappings among it found by search if that is asked for.
 */
static int count(const struct tt_fault_look *look, struct blocks *blocks,
                 struct tt_fault_round *round, struct tt_map *rows)
{
    for (size_t i = 0; i < blocks->units.len; i++) {
        const struct tt_fault_unit *u = &blocks->units.data[i];
        struct tt_fault_held *h = row(round, rows, u->site, u->kind);
        if (!h)
            return -ENOMEM;
        h->units++;
        h->bytes += u->size;
        if (look->search && (u->kind == TT_FAULT_HEAP || u->kind == TT_FAULT_MAPPING))
            continue; /* until nothing is found that points to it */
        h->lost_units++;
        h->lost_bytes += u->size;
        h->late += is_late(look->plan, u);
    }
    return 0;
}

static bool ended(pid_t pid)
{
    bool zombie = false;
    return tt_proc_parent(pid, &zombie) < 0 || zombie;
}

int tt_fault_look(const struct tt_fault_look *look, struct tt_fault_world *world,
                  struct tt_fault_round *round, struct tt_error *err)
{
    struct blocks blocks = {.plan = look->plan};
    struct tt_map rows = {0};
    struct tt_error why = {0};
    int64_t *numbers = malloc(TT_FAULT_STACKS * sizeof *numbers);
    int code = numbers ? tt_fault_world_import(world, look->plan, numbers) : -ENOMEM;
    for (uint32_t i = 0; !code && i < TT_FAULT_STACKS; i++)
        if (numbers[i] >= 0)
            code = tt_vec_push(&round->called, (struct tt_fault_called){
                                                   (uint32_t)numbers[i], look->plan->stack[i].calls,
                                                   look->plan->stack[i].after});
    size_t before = round->held.len;
    if (!code && !look->dead)
        code = read_units(look, numbers, &blocks);
    if (!code && !look->dead)
        code = count(look, &blocks, round, &rows);
    if (!code && look->search)
        code = search(look, &blocks, round, &rows, before, &why);
    if (why.code && look->child && ended(look->pid)) {
        round->held.len = before;
    } else if (why.code) {
        round->missed = true;
        snprintf(round->why, sizeof round->why, "%.255s", why.text);
    }
    for (size_t i = before; i < round->held.len; i++) {
        round->held.data[i].process = look->child ? round->children : 0;
        round->held.data[i].gave_up = look->child && look->plan->fired_here &&
                                      look->plan->state == TT_FAULT_ENDING &&
                                      look->plan->exit_status != 0;
    }
    free(numbers);
    tt_map_free(&blocks.by_address);
    tt_vec_free(&blocks.units);
    tt_map_free(&rows);
    return code ? tt_error_sys(err, code, "cannot look at the program's end") : 0;
}
