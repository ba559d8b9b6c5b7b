/* SPDX-License-Identifier: Apache-2.0 */
/* What the program holds: one table in the plan for all kinds, by value, with the stack that
 * acquired each unit. Linear probing; a deletion moves later entries forward (Knuth, The Art of
 * Computer Programming 3, 6.4, algorithm R), so that no tombstones gather in a long run.
 * Start: tt_fault_acquired. */
#include "fault/preload.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SLOTS TT_FAULT_UNITS
#define MOST ((uint64_t)SLOTS / 4 * 3)

static uint32_t home(uint8_t space, uint64_t key)
{
    uint64_t h = (key ^ (uint64_t)space << 56) * 0x9e3779b97f4a7c15ULL;
    return (uint32_t)(h >> 44) % SLOTS;
}

/* The slot of the value, or the free one where it would go. */
static uint32_t find(uint8_t space, uint64_t value)
{
    const struct tt_fault_unit *u = tt_fault_plan->unit;
    uint32_t at = home(space, ~value);
    while (u[at].space && (u[at].space != space || u[at].key != ~value))
        at = (at + 1) % SLOTS;
    return at;
}

static void take_out(uint32_t at)
{
    struct tt_fault_unit *u = tt_fault_plan->unit;
    tt_fault_plan->held--;
    for (uint32_t hole = at;;) {
        u[hole].space = TT_SPACE_FREE;
        for (;;) {
            at = (at + 1) % SLOTS;
            if (!u[at].space)
                return;
            uint32_t want = home(u[at].space, u[at].key);
            /* movable when its home does not lie between the hole and itself */
            if ((at - want) % SLOTS >= (at - hole) % SLOTS)
                break;
        }
        u[hole] = u[at];
        hole = at;
    }
}

static struct tt_fault_unit *place(uint8_t space, uint64_t value)
{
    struct tt_fault_unit *u = &tt_fault_plan->unit[find(space, value)];
    if (!u->space) {
        if (tt_fault_plan->held >= MOST) {
            tt_fault_plan->dropped++;
            return NULL;
        }
        tt_fault_plan->held++;
    }
    return u;
}

void tt_fault_acquired(enum tt_fault_kind kind, enum tt_fault_space space, uint64_t value,
                       uint64_t size, uint32_t site)
{
    if (!site || !tt_fault_enter())
        return;
    struct tt_fault_unit *u = place((uint8_t)space, value);
    if (u)
        *u = (struct tt_fault_unit){.key = ~value,
                                    .size = size,
                                    .site = site,
                                    .kind = (uint8_t)kind,
                                    .space = (uint8_t)space,
                                    .count = 1,
                                    .order = ++tt_fault_plan->order};
    tt_fault_leave();
}

int tt_fault_released(enum tt_fault_space space, uint64_t value, struct tt_fault_unit *unit)
{
    if (!tt_fault_enter_within())
        return 0;
    uint32_t at = find((uint8_t)space, value);
    struct tt_fault_unit *u = &tt_fault_plan->unit[at];
    int there = u->space != TT_SPACE_FREE;
    if (there) {
        if (unit)
            *unit = *u;
        take_out(at);
    }
    tt_fault_watch_main();
    tt_fault_leave();
    return there;
}

void tt_fault_restored(const struct tt_fault_unit *unit, uint64_t value, uint64_t size)
{
    if (!tt_fault_enter())
        return;
    struct tt_fault_unit *u = place(unit->space, value);
    if (u) {
        *u = *unit;
        u->key = ~value;
        u->size = size;
    }
    tt_fault_leave();
}

void tt_fault_used(enum tt_fault_space space, uint64_t value, uint32_t site)
{
    if (!site || !tt_fault_enter())
        return;
    struct tt_fault_unit *u = &tt_fault_plan->unit[find((uint8_t)space, value)];
    int there = u->space != TT_SPACE_FREE;
    if (there)
        u->count++;
    tt_fault_leave();
    if (!there)
        tt_fault_acquired(TT_FAULT_LIBRARY, space, value, 0, site);
}

void tt_fault_unused(enum tt_fault_space space, uint64_t value)
{
    if (!tt_fault_enter_within())
        return;
    uint32_t at = find((uint8_t)space, value);
    struct tt_fault_unit *u = &tt_fault_plan->unit[at];
    if (u->space && --u->count == 0)
        take_out(at);
    tt_fault_leave();
}

/* Takes out those that `gone` says. Some are moved forward by that: each place is looked at until
 * what it holds stays; what wraps round from the front was looked at before. */
static void sweep(int (*gone)(const struct tt_fault_unit *u, const uint64_t *arg),
                  const uint64_t *arg)
{
    for (uint32_t i = 0; i < SLOTS; i++)
        while (tt_fault_plan->unit[i].space && gone(&tt_fault_plan->unit[i], arg))
            take_out(i);
}

static int in_range(const struct tt_fault_unit *u, const uint64_t *arg)
{
    return u->space == arg[0] && ~u->key >= arg[1] && ~u->key <= arg[2];
}

void tt_fault_released_range(enum tt_fault_space space, uint64_t first, uint64_t last)
{
    if (!tt_fault_enter())
        return;
    sweep(in_range, (uint64_t[]){space, first, last});
    tt_fault_leave();
}

static int not_left(const struct tt_fault_unit *u, const uint64_t *arg)
{
    (void)arg;
    return u->space != TT_SPACE_FD || syscall(SYS_fcntl, (int)~u->key, F_GETFD) < 0;
}

void tt_fault_exec(void)
{
    sweep(not_left, NULL);
}
