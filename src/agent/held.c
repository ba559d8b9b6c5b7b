/* SPDX-License-Identifier: Apache-2.0 */
/* The table of held units. Most descriptors have a row each. Any other unit lies in its own row of
 * its bucket, which is eight neighbours, or, where that was ever taken, in another of this bucket
 * or of the next ones. No row is ever marked as deleted: a free one is free for anybody, since a
 * search looks at whole buckets wherever a unit was put aside. Start: tt_held_acquire. */
#include "agent/held.h"
#include "agent/hook.h"

#define EARLY 256u

struct early {
    uint64_t value;
    uint32_t space; /* 0: none */
};
static struct early early[EARLY];
static uint32_t early_next; /* releases put there so far */

void tt_held_begin(void)
{
    __builtin_memset(early, 0, sizeof early);
    early_next = 0;
    tt_agent.fd_end = 0;
    tt_mapping_begin();
    tt_owner_begin();
}

/* Whether the row belongs to the value alone. */
static inline int alone(uint32_t space, uint64_t value)
{
    return space == TT_SPACE_FD && value < TT_TAPE_HELD_FDS;
}

static struct tt_tape_held *bucket(uint32_t space, uint64_t value, uint32_t n)
{
    return tt_held_rows() + TT_TAPE_HELD_FDS +
           (uint64_t)tt_tape_bucket(space, value, n) * TT_TAPE_BUCKET;
}

static inline struct tt_tape_held *own_row(uint32_t space, uint64_t value)
{
    return alone(space, value) ? tt_held_rows() + value
                               : bucket(space, value, 0) + tt_tape_own(space, value);
}

static uint32_t load(const struct tt_tape_held *row)
{
    return __atomic_load_n(&row->state, __ATOMIC_ACQUIRE);
}

/* Puts a row from a state to another; 0 if it is not in it any more. *state becomes the new one. */
static int turn(struct tt_tape_held *row, uint32_t *state, uint32_t to)
{
    uint32_t seen = *state, next = (seen & ~(uint32_t)TT_HELD_MASK) + TT_HELD_STAMP + to;
    *state = next;
    return __atomic_compare_exchange_n(&row->state, &seen, next, 0, __ATOMIC_ACQ_REL,
                                       __ATOMIC_RELAXED);
}

static int is(const struct tt_tape_held *row, uint32_t space, uint64_t value)
{
    return (load(row) & TT_HELD_MASK) >= TT_HELD_LIVE && row->value == value && row->space == space;
}

static __attribute__((noinline)) struct tt_tape_held *search(uint32_t space, uint64_t value)
{
    for (uint32_t n = 0; n < TT_TAPE_HELD_REACH; n++) {
        struct tt_tape_held *rows = bucket(space, value, n);
        for (uint32_t k = 0; k < TT_TAPE_BUCKET; k++)
            if (is(&rows[k], space, value))
                return &rows[k];
    }
    return NULL;
}

static inline __attribute__((always_inline)) struct tt_tape_held *find(uint32_t space,
                                                                       uint64_t value)
{
    struct tt_tape_held *own = own_row(space, value);
    if (TT_LIKELY(is(own, space, value)))
        return own;
    return TT_UNLIKELY(own->overflow) ? search(space, value) : NULL;
}

struct tt_tape_held *tt_held_find(uint32_t space, uint64_t value)
{
    return find(space, value);
}

/* Claims a free row for a value; *state is what it is busy with. NULL: none within reach. */
static __attribute__((noinline)) struct tt_tape_held *claim_aside(uint32_t space, uint64_t value,
                                                                  uint32_t *state)
{
    for (uint32_t n = 0; n < TT_TAPE_HELD_REACH; n++) {
        struct tt_tape_held *rows = bucket(space, value, n);
        for (uint32_t k = 0; k < TT_TAPE_BUCKET; k++) {
            *state = load(&rows[k]);
            if ((*state & TT_HELD_MASK) == TT_HELD_FREE && turn(&rows[k], state, TT_HELD_BUSY))
                return &rows[k];
        }
    }
    tt_agent_drop(TT_DROP_HELD);
    return NULL;
}

static struct tt_tape_held *claim(uint32_t space, uint64_t value, uint32_t *state)
{
    struct tt_tape_held *own = own_row(space, value);
    *state = load(own);
    if (alone(space, value)) /* nobody else wants it */
        return own;
    if (TT_LIKELY((*state & TT_HELD_MASK) == TT_HELD_FREE && turn(own, state, TT_HELD_BUSY)))
        return own;
    own->overflow = 1; /* before it lies elsewhere */
    return claim_aside(space, value, state);
}

/* Makes a claimed row live. */
static void publish(struct tt_tape_held *row, uint32_t *state)
{
    *state = (*state & ~(uint32_t)TT_HELD_MASK) + TT_HELD_STAMP + TT_HELD_LIVE;
    __atomic_store_n(&row->state, *state, __ATOMIC_RELEASE);
}

struct tt_tape_held *tt_held_put(const struct tt_tape_held *as)
{
    uint32_t state;
    struct tt_tape_held *row = claim(as->space, as->value, &state);
    if (!row)
        return NULL;
    row->value = as->value;
    row->owner = as->owner;
    row->entry = as->entry;
    row->size = as->size;
    row->count = as->count;
    row->tid = as->tid;
    row->also = as->also;
    row->space = as->space;
    row->kind = as->kind;
    row->flags = 0;
    publish(row, &state);
    return row;
}

/* Births and deaths without a known site are not counted: site 0 is that of heap blocks. */
static void died(const struct tt_where *at, uint64_t entry, uint64_t size)
{
    if (TT_UNLIKELY(tt_tape_entry_site(entry) == 0))
        return;
    uint32_t weight = tt_live_count_death(at->thread, entry, size);
    if (TT_UNLIKELY(weight != 0))
        tt_live_release(at->thread, entry, size, weight, at->slot, at->rbp);
}

int tt_held_take(const struct tt_where *at, struct tt_tape_held *row)
{
    uint32_t state = load(row);
    uint64_t entry = row->entry, size = row->size;
    if ((state & TT_HELD_MASK) != TT_HELD_LIVE || !turn(row, &state, TT_HELD_FREE))
        return 0;
    died(at, entry, size);
    return 1;
}

int tt_held_drop(struct tt_tape_held *row)
{
    uint32_t state = load(row);
    return (state & TT_HELD_MASK) == TT_HELD_LIVE && turn(row, &state, TT_HELD_FREE);
}

int tt_held_release(const struct tt_where *at, uint32_t space, uint64_t value)
{
    struct tt_tape_held *row = find(space, value);
    return row && tt_held_take(at, row);
}

struct tt_mark tt_held_mark(uint32_t space, uint64_t value)
{
    struct tt_mark mark = {tt_held_find(space, value), 0};
    if (!mark.row)
        return mark;
    mark.state = load(mark.row);
    if ((mark.state & TT_HELD_MASK) != TT_HELD_LIVE ||
        !turn(mark.row, &mark.state, TT_HELD_LEAVING))
        mark.row = NULL;
    return mark;
}

void tt_held_leave(const struct tt_where *at, struct tt_mark mark)
{
    if (!mark.row)
        return;
    uint64_t entry = mark.row->entry, size = mark.row->size;
    if (turn(mark.row, &mark.state, TT_HELD_FREE))
        died(at, entry, size);
}

void tt_held_stay(struct tt_mark mark)
{
    if (mark.row)
        turn(mark.row, &mark.state, TT_HELD_LIVE);
}

/* The value of a held unit has come anew: the unit is gone, in a call that has not come back yet or
 * by a way that is not watched. Nobody knows where from. */
static void gone(struct tt_tape_held *row)
{
    uint32_t state = load(row), seen = state & TT_HELD_MASK;
    uint64_t entry = row->entry, size = row->size;
    if (seen < TT_HELD_LIVE || !turn(row, &state, TT_HELD_FREE))
        return;
    if (seen == TT_HELD_LIVE)
        tt_agent_drop(TT_DROP_UNSEEN);
    if (tt_tape_entry_site(entry) != 0)
        tt_live_count_death(NULL, entry, size);
}

/* Whether the call itself has just acquired the unit through another watched function. */
static int inner(const struct tt_thread *t, const struct tt_tape_held *row, uint32_t before)
{
    return t && before != ~0U && t->acquired != before && t->acquired_row == row &&
           t->acquired_state == load(row);
}

/* The site of the call for units of a kind; the thread is entered. */
static uint32_t site(const struct tt_where *at, uint32_t kind)
{
    struct tt_thread *t = at->thread;
    if (!t) {
        tt_agent_drop(TT_DROP_NESTED);
        return 0;
    }
    struct tt_memo *m = tt_hook_watch_memo(t, at->slot, kind);
    if (TT_LIKELY(m->kind == kind && tt_hook_holds(m, at->slot, at->rbp)))
        return m->site;
    m->slot = 0;
    m->kind = kind;
    return tt_stack_site(t, at->slot, at->rbp, m);
}

struct tt_tape_held *tt_held_birth(const struct tt_where *at, const struct tt_unit *unit)
{
    struct tt_thread *t = at->thread;
    uint32_t id = site(at, unit->kind), owner = tt_owner_now(t), state;
    struct tt_tape_held *row = claim(unit->space, unit->value, &state);
    if (TT_UNLIKELY(!row))
        return NULL;
    row->value = unit->value;
    row->owner = owner;
    row->entry = tt_tape_entry(id, 0, tt_agent_tick());
    row->size = unit->size;
    row->count = 1;
    row->tid = t ? t->tid : 0;
    row->also = unit->also;
    row->space = unit->space;
    row->kind = unit->kind;
    row->flags = 0;
    publish(row, &state);
    if (TT_LIKELY(id != 0))
        tt_live_count_birth(t, id, unit->size);
    if (owner)
        tt_owner_count(owner);
    if (t) {
        t->acquired++;
        t->acquired_row = row;
        t->acquired_state = state;
    }
    return row;
}

/* Takes the unit out at once if it went while the call that made it was under way. */
static void look_early(const struct tt_unit *unit, struct tt_tape_held *row)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    uint32_t next = __atomic_load_n(&early_next, __ATOMIC_RELAXED), n = next - unit->early;
    for (uint32_t i = 0; i < n && i < EARLY; i++) {
        const struct early *e = &early[(next - 1 - i) % EARLY];
        if (__atomic_load_n(&e->space, __ATOMIC_ACQUIRE) == unit->space &&
            e->value == unit->value) {
            const struct tt_where nowhere = {NULL, NULL, 0};
            tt_held_take(&nowhere, row);
            return;
        }
    }
}

static void raise_end(uint64_t fd)
{
    uint32_t end = __atomic_load_n(&tt_agent.fd_end, __ATOMIC_RELAXED);
    while (fd >= end && fd < 0x7fffffff &&
           !__atomic_compare_exchange_n(&tt_agent.fd_end, &end, (uint32_t)fd + 1, 0,
                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ;
}

static void acquire_again(const struct tt_where *at, const struct tt_unit *unit,
                          struct tt_tape_held *first)
{
    struct tt_unit one = *unit;
    one.value = tt_tape_further(unit->value, __atomic_add_fetch(&first->also, 1, __ATOMIC_RELAXED));
    struct tt_tape_held *row = find(one.space, one.value);
    if (row)
        gone(row);
    tt_held_birth(at, &one);
}

int tt_held_release_last(const struct tt_where *at, uint32_t space, uint64_t value)
{
    struct tt_tape_held *first = find(space, value);
    if (!first)
        return 0;
    int32_t n = __atomic_load_n(&first->also, __ATOMIC_RELAXED);
    while (n > 0 && !__atomic_compare_exchange_n(&first->also, &n, n - 1, 0, __ATOMIC_RELAXED,
                                                 __ATOMIC_RELAXED))
        ;
    return n > 0 ? tt_held_release(at, space, tt_tape_further(value, n)) : tt_held_take(at, first);
}

void tt_held_acquire(const struct tt_where *at, const struct tt_unit *unit)
{
    struct tt_tape_held *row = find(unit->space, unit->value);
    if (TT_UNLIKELY(row != NULL)) {
        if (unit->flags & TT_WATCH_COUNTED) {
            acquire_again(at, unit, row);
            return;
        }
        if (unit->flags & TT_WATCH_ONCE || inner(at->thread, row, unit->before))
            return;
        gone(row);
    }
    row = tt_held_birth(at, unit);
    if (unit->space == TT_SPACE_FD)
        raise_end(unit->value);
    else if (row)
        look_early(unit, row);
}

void tt_held_early(uint32_t space, uint64_t value)
{
    struct early *e = &early[__atomic_fetch_add(&early_next, 1, __ATOMIC_RELAXED) % EARLY];
    __atomic_store_n(&e->space, 0, __ATOMIC_RELAXED);
    e->value = value;
    __atomic_store_n(&e->space, space, __ATOMIC_RELEASE);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void tt_held_not_early(uint32_t space, uint64_t value)
{
    uint32_t next = __atomic_load_n(&early_next, __ATOMIC_RELAXED);
    for (uint32_t i = 0; i < EARLY && i < next; i++) {
        struct early *e = &early[(next - 1 - i) % EARLY];
        if (e->value == value && e->space == space) {
            __atomic_store_n(&e->space, 0, __ATOMIC_RELEASE);
            return;
        }
    }
}

uint32_t tt_held_early_now(void)
{
    return __atomic_load_n(&early_next, __ATOMIC_RELAXED);
}

uint32_t tt_held_fd_end(void)
{
    return __atomic_load_n(&tt_agent.fd_end, __ATOMIC_RELAXED);
}
