/* SPDX-License-Identifier: Apache-2.0 */
/* Linear probing with backward-shift deletion (no tombstones, so churn never grows the table). */
#include "handle.h"

#include <stddef.h>
#include <stdlib.h>

struct entry {
    uint32_t handle; /* 0: empty */
    enum handle_kind kind;
    void *object;
};

static struct entry *table;
static uint32_t table_cap, table_len, last_handle = 0x10000;

static uint32_t home(uint32_t handle)
{
    return (handle * 2654435761u) & (table_cap - 1); /* Knuth's multiplicative hash */
}

static uint32_t find(uint32_t handle)
{
    uint32_t i = home(handle);
    while (table[i].handle && table[i].handle != handle)
        i = (i + 1) & (table_cap - 1);
    return i;
}

static int grow(void)
{
    uint32_t old_cap = table_cap, cap = old_cap ? old_cap * 2 : 64;
    struct entry *old = table, *fresh = calloc(cap, sizeof *fresh);
    if (!fresh)
        return -1;
    table = fresh;
    table_cap = cap;
    for (uint32_t i = 0; i < old_cap; i++)
        if (old[i].handle)
            table[find(old[i].handle)] = old[i];
    free(old);
    return 0;
}

uint32_t handle_new(enum handle_kind kind, void *object)
{
    if (table_len >= table_cap / 3 * 2 && grow() < 0)
        return 0;
    do
        last_handle++;
    while (last_handle == 0 || table[find(last_handle)].handle);
    table[find(last_handle)] = (struct entry){last_handle, kind, object};
    table_len++;
    return last_handle;
}

void *handle_get(enum handle_kind kind, uint32_t handle)
{
    if (!table_cap || !handle)
        return NULL;
    const struct entry *e = &table[find(handle)];
    return e->handle && e->kind == kind ? e->object : NULL;
}

void handle_remove(uint32_t handle)
{
    if (!table_cap || !handle)
        return;
    uint32_t hole = find(handle), mask = table_cap - 1;
    if (!table[hole].handle)
        return;
    for (uint32_t i = (hole + 1) & mask; table[i].handle; i = (i + 1) & mask) {
        /* An entry may fill the hole unless its home lies cyclically in (hole, i]. */
        if (((i - home(table[i].handle)) & mask) >= ((i - hole) & mask)) {
            table[hole] = table[i];
            hole = i;
        }
    }
    table[hole] = (struct entry){0};
    table_len--;
}

void handle_free_all(void)
{
    free(table);
    table = NULL;
    table_cap = table_len = 0;
}
