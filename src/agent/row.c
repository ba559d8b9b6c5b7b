/* SPDX-License-Identifier: Apache-2.0 */
/* One process-wide table of (return address, unwind row): insert-only, so that hot paths read it
 * without a lock; a fuller one replaces it as a whole (old ones stay, readers may be in them). Rows
 * are computed without a lock too, or after an attach all threads would wait for the first. Rows of
 * unloaded code are marked stale in place. Start: tt_row_get. */
#include "agent/agent.h"

#define ROWS_FIRST 4096u
#define ROWS_MAX (1u << 20)
#define PROBES 64u

struct tt_row_slot {
    uint64_t ra;
    struct tt_row row; /* eight bytes, read and written at once */
};
struct tt_row_table {
    uint64_t mask;
    struct tt_row_slot slot[];
};

static uint64_t place(const struct tt_row_table *table, uint64_t ra)
{
    return (ra * 0x9e3779b97f4a7c15ULL) >> 32 & table->mask;
}

static int find(const struct tt_row_table *table, uint64_t ra, struct tt_row *row)
{
    uint64_t at = place(table, ra);
    for (unsigned i = 0; i < PROBES; i++, at = (at + 1) & table->mask) {
        uint64_t seen = __atomic_load_n(&table->slot[at].ra, __ATOMIC_ACQUIRE);
        if (seen == ra) {
            __atomic_load(&table->slot[at].row, row, __ATOMIC_RELAXED);
            return row->kind != TT_ROW_STALE;
        }
        if (seen == 0)
            return 0;
    }
    return 0;
}

/* 1 put, 0 the address was there, -1 there is no room. */
static int insert(struct tt_row_table *table, uint64_t ra, struct tt_row row)
{
    uint64_t at = place(table, ra);
    for (unsigned i = 0; i < PROBES; i++, at = (at + 1) & table->mask) {
        uint64_t seen = table->slot[at].ra;
        if (seen == 0 || seen == ra) {
            __atomic_store(&table->slot[at].row, &row, __ATOMIC_RELAXED);
            __atomic_store_n(&table->slot[at].ra, ra, __ATOMIC_RELEASE);
            return seen == 0;
        }
    }
    return -1;
}

static struct tt_row_table *grow(void)
{
    struct tt_row_table *old = tt_agent.rows;
    uint64_t count = old ? (old->mask + 1) * 4 : ROWS_FIRST;
    if (count > ROWS_MAX)
        return NULL;
    struct tt_row_table *table =
        tt_sys_mmap(NULL, sizeof *table + count * sizeof table->slot[0], TT_PROT_RW,
                    TT_MAP_PRIVATE | TT_MAP_ANONYMOUS | TT_MAP_NORESERVE, -1);
    if (tt_sys_bad(table))
        return NULL;
    table->mask = count - 1;
    for (uint64_t i = 0; old && i <= old->mask; i++)
        if (old->slot[i].ra && old->slot[i].row.kind != TT_ROW_STALE)
            insert(table, old->slot[i].ra, old->slot[i].row);
    __atomic_store_n(&tt_agent.rows, table, __ATOMIC_RELEASE);
    return table;
}

/* Keeps a row that was computed from what was known at `epoch`. Waits for nobody: while somebody
 * else is at the table the row is not kept, and computed again where it is needed. */
static void keep(const struct tt_thread *t, uint64_t ra, struct tt_row row, uint32_t epoch)
{
    if (!tt_lock_try(&tt_agent.row_lock, t->index + 1))
        return;
    if (tt_agent.row_epoch == epoch) {
        struct tt_row_table *table = tt_agent.rows;
        if (!table || tt_agent.row_count * 2UL > table->mask)
            table = grow();
        int added = table ? insert(table, ra, row) : -1;
        if (added > 0)
            tt_agent.row_count++;
        else if (added < 0)
            tt_agent_drop(TT_DROP_ROWS);
    }
    tt_lock_give(&tt_agent.row_lock, t->index + 1);
}

/* Whether the mapping of an address is known, after a reading if need be. Those to whom it is do
 * not wait for the others' reading. */
static int known(struct tt_thread *t, uint64_t address)
{
    struct tt_map m;
    if (tt_maps_find(address, &m, NULL))
        return 1;
    if (!tt_lock_take(&tt_agent.row_lock, t->index + 1)) {
        tt_agent_drop(TT_DROP_ROWS);
        return 0;
    }
    if (!tt_maps_find(address, &m, NULL)) /* or somebody else has read */
        tt_maps_read(t->text);
    tt_lock_give(&tt_agent.row_lock, t->index + 1);
    return tt_maps_find(address, &m, NULL);
}

/* Without a lock: many threads may do the same at once, each in microseconds. */
static __attribute__((noinline)) struct tt_row compute(struct tt_thread *t, uint64_t ra)
{
    struct tt_row row = {TT_ROW_NONE, TT_RBP_LOST, 0, 0};
    uint32_t epoch = __atomic_load_n(&tt_agent.row_epoch, __ATOMIC_ACQUIRE);
    /* An address outside of all code is a stray word; it may become code later. */
    if (!known(t, ra - 1))
        return row;
    row = tt_dwarf_row(ra - 1);
    /* A function's first byte is no return address that a call leaves: makecontext and its kin put
     * it there by hand, below the first frame of a coroutine. */
    if (row.kind == TT_ROW_NONE && tt_dwarf_row(ra).kind != TT_ROW_NONE)
        row.kind = TT_ROW_END;
    keep(t, ra, row, epoch);
    return row;
}

struct tt_row tt_row_get(struct tt_thread *t, uint64_t ra)
{
    struct tt_row row;
    const struct tt_row_table *table = __atomic_load_n(&tt_agent.rows, __ATOMIC_ACQUIRE);
    if (TT_LIKELY(table != NULL) && TT_LIKELY(find(table, ra, &row)))
        return row;
    return compute(t, ra);
}

/* A computing that began before it must not bring a row back: hence the epoch, last. */
void tt_row_forget(struct tt_thread *t)
{
    struct tt_map m;
    if (!tt_lock_take(&tt_agent.row_lock, t->index + 1))
        return;
    if (tt_maps_read(t->text) == 0 && tt_agent.rows) {
        struct tt_row_table *table = tt_agent.rows;
        struct tt_row stale = {TT_ROW_STALE, TT_RBP_LOST, 0, 0};
        for (uint64_t i = 0; i <= table->mask; i++)
            if (table->slot[i].ra && !tt_maps_find(table->slot[i].ra - 1, &m, NULL))
                __atomic_store(&table->slot[i].row, &stale, __ATOMIC_RELAXED);
    }
    tt_agent.head->module_epoch++;
    tt_agent.generation++;
    __atomic_store_n(&tt_agent.row_epoch, tt_agent.row_epoch + 1, __ATOMIC_RELEASE);
    tt_lock_give(&tt_agent.row_lock, t->index + 1);
}

void tt_row_again(void)
{
    struct tt_row_table *table = tt_agent.rows;
    if (table) { /* its pages come back empty when they are used again */
        uint64_t mask = table->mask;
        tt_sys_clear(table, sizeof *table + (mask + 1) * sizeof table->slot[0]);
        table->mask = mask;
    }
    tt_agent.row_count = 0;
    tt_agent.row_epoch++;
    tt_maps_drop();
    tt_agent.generation++;
}
