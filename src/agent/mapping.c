/* SPDX-License-Identifier: Apache-2.0 */
/* Mappings are intervals: munmap may take a part of one or parts of several, MAP_FIXED covers what
 * was there. So their rows are also kept in the order of their addresses, under a lock; changing a
 * mapping takes a lock of the kernel's anyway. Start: tt_mapping_acquire. */
#include "agent/held.h"

#define INDEX 65536u /* vm.max_map_count is 65530 */

static uint32_t *order; /* row numbers, by address; NULL: no memory for them, nothing is followed */
static uint32_t count;

void tt_mapping_begin(void)
{
    count = 0;
    if (order)
        return;
    void *memory = tt_sys_mmap(NULL, INDEX * sizeof *order, TT_PROT_RW,
                               TT_MAP_PRIVATE | TT_MAP_ANONYMOUS | TT_MAP_NORESERVE, -1);
    order = tt_sys_bad(memory) ? NULL : memory;
}

static struct tt_tape_held *row_at(uint32_t i)
{
    return tt_held_rows() + order[i];
}

static uint32_t number(const struct tt_tape_held *row)
{
    return (uint32_t)(row - tt_held_rows());
}

/* 1: the order is ours. A signal handler that interrupted the agent must not wait for what it
 * interrupted. */
static int lock(const struct tt_where *at)
{
    if (!order)
        return 0;
    if (at->thread && tt_lock_take(&tt_agent.map_lock, at->thread->index + 1))
        return 1;
    tt_agent_drop(TT_DROP_NESTED);
    return 0;
}

static void unlock(const struct tt_where *at)
{
    tt_lock_give(&tt_agent.map_lock, at->thread->index + 1);
}

/* The first row that starts at `start` or after it. */
static uint32_t after(uint64_t start)
{
    uint32_t lo = 0, hi = count;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (row_at(mid)->value < start)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static void remove_at(uint32_t i)
{
    if (i < --count)
        __builtin_memmove(&order[i], &order[i + 1], (count - i) * sizeof order[0]);
}

static void insert_at(uint32_t i, const struct tt_tape_held *row)
{
    if (i < count)
        __builtin_memmove(&order[i + 1], &order[i], (count - i) * sizeof order[0]);
    order[i] = number(row);
    count++;
}

static struct tt_tape_site *site_of(const struct tt_tape_held *row)
{
    return &tt_agent.sites[tt_tape_entry_site(row->entry)];
}

/* Puts the part of `row` from `start` on in a row of its own; NULL: the table is full. */
static struct tt_tape_held *tail(const struct tt_tape_held *row, uint64_t start)
{
    struct tt_tape_held as = *row;
    as.size = row->value + row->size - start;
    as.value = start;
    return tt_held_put(&as);
}

/* Cuts [a, b) out of the row at i, which overlaps it. Returns how many rows are there now. */
static uint32_t cut(const struct tt_where *at, uint32_t i, uint64_t a, uint64_t b)
{
    struct tt_tape_held *row = row_at(i), *rest = NULL;
    uint64_t start = row->value, end = start + row->size;
    if (a <= start && b >= end) {
        tt_held_take(at, row);
        remove_at(i);
        return 0;
    }
    uint64_t lo = a > start ? a : start, hi = b < end ? b : end;
    if (b < end && (start >= a || count < INDEX))
        rest = tail(row, b);
    tt_live_add(&site_of(row)->death_bytes, b < end && !rest ? end - lo : hi - lo);
    if (start < a) {
        row->size = a - start;
        if (!rest)
            return 1;
        /* Two units now, each of which will die. */
        tt_live_add(&site_of(row)->births, 1);
        insert_at(i + 1, rest);
        return 2;
    }
    if (!rest) {
        remove_at(i);
        return 0;
    }
    tt_held_drop(row);
    order[i] = number(rest);
    return 1;
}

/* Releases what lies in the interval. How many units were touched. */
static uint32_t clear(const struct tt_where *at, uint64_t start, uint64_t size)
{
    uint32_t i = after(start), touched = 0;
    if (i > 0 && row_at(i - 1)->value + row_at(i - 1)->size > start)
        i--;
    while (i < count && row_at(i)->value < start + size) {
        i += cut(at, i, start, start + size);
        touched++;
    }
    return touched;
}

static uint64_t pages(uint64_t size)
{
    return (size + 0xfff) & ~0xfffULL;
}

void tt_mapping_acquire(const struct tt_where *at, uint64_t start, uint64_t size, uint32_t kind,
                        int fixed)
{
    const struct tt_where nowhere = {NULL, NULL, 0};
    const struct tt_unit unit = {.value = start,
                                 .size = pages(size),
                                 .space = TT_SPACE_MAPPING,
                                 .kind = (uint8_t)kind,
                                 .also = -1};
    if (!lock(at))
        return;
    uint32_t touched = clear(fixed ? at : &nowhere, start, unit.size);
    if (!fixed && touched)
        tt_agent_drop(TT_DROP_UNSEEN);
    struct tt_tape_held *row = NULL;
    if (count == INDEX)
        tt_agent_drop(TT_DROP_HELD);
    else
        row = tt_held_birth(at, &unit);
    if (row)
        insert_at(after(start), row);
    unlock(at);
}

void tt_mapping_release(const struct tt_where *at, uint64_t start, uint64_t size)
{
    if (!lock(at))
        return;
    if (clear(at, start, pages(size)) == 0)
        tt_agent_drop(TT_DROP_NOT_HELD);
    unlock(at);
}

int tt_mapping_move(const struct tt_where *at, uint64_t start, uint64_t size,
                    struct tt_tape_held *out)
{
    int found = -1;
    if (!lock(at))
        return -1;
    uint32_t i = after(start);
    if (i < count && row_at(i)->value == start && row_at(i)->size == pages(size)) {
        *out = *row_at(i);
        tt_held_drop(row_at(i));
        remove_at(i);
        found = 0;
    }
    unlock(at);
    return found;
}

void tt_mapping_put(const struct tt_where *at, const struct tt_tape_held *unit, uint64_t start,
                    uint64_t size)
{
    struct tt_tape_held as = *unit;
    struct tt_tape_held *row = NULL;
    as.value = start;
    as.size = pages(size);
    if (!lock(at))
        return;
    clear(at, start, as.size);
    if (count < INDEX)
        row = tt_held_put(&as);
    if (row) {
        insert_at(after(start), row);
        if (as.size > unit->size)
            tt_live_add(&site_of(unit)->birth_bytes, as.size - unit->size);
        else
            tt_live_add(&site_of(unit)->death_bytes, unit->size - as.size);
    }
    unlock(at);
}
