/* SPDX-License-Identifier: Apache-2.0 */
/* Owners: for whom a thread works. A connection is met at accept or when somebody first reads from
 * it, a sender of datagrams when something from its address comes; from then on, until it reads
 * from another, a thread works for it, and what it acquires carries the owner's id. No system
 * calls: who the peer is, beyond an address that the program itself asked for, the recorder finds
 * out. Start: tt_owner_work. */
#include "agent/held.h"

#define ROWS_TRIED 16u
#define SENDERS 4096u
#define WAYS 4u

static uint32_t sender[SENDERS]; /* ids; a set of WAYS by hash of socket and address */

void tt_owner_begin(void)
{
    __builtin_memset(sender, 0, sizeof sender);
}

static uint32_t *fd_word(uint64_t fd)
{
    return fd < TT_TAPE_FDS ? (uint32_t *)(tt_agent.base + TT_TAPE_OFF_FDS) + fd : NULL;
}

static struct tt_tape_owner *row_of(uint32_t id)
{
    return (struct tt_tape_owner *)(tt_agent.base + TT_TAPE_OFF_OWNERS) + id % TT_TAPE_OWNERS;
}

uint32_t tt_owner_of(uint64_t fd)
{
    const uint32_t *word = fd_word(fd);
    return word ? __atomic_load_n(word, __ATOMIC_RELAXED) : 0;
}

uint32_t tt_owner_now(const struct tt_thread *t)
{
    if (!t || !t->owner)
        return 0;
    const struct tt_tape_owner *row = row_of(t->owner);
    return row->id == t->owner && row->end == 0 ? t->owner : 0;
}

void tt_owner_count(uint32_t id)
{
    __atomic_fetch_add(&row_of(id)->births, 1, __ATOMIC_RELAXED);
}

/* A row for a new owner; 0: all that were tried are in use. */
static uint32_t meet(uint64_t fd, uint32_t how, const void *address, uint32_t n)
{
    for (unsigned i = 0; i < ROWS_TRIED; i++) {
        uint32_t id = __atomic_add_fetch(&tt_agent.head->owner_count, 1, __ATOMIC_RELAXED);
        struct tt_tape_owner *row = row_of(id);
        if (id == 0 || id == TT_TAPE_FD_UNMET ||
            (row->id != 0 && row->end == 0 && row->how == TT_OWNER_CONNECTION))
            continue;
        __atomic_store_n(&row->id, 0, __ATOMIC_RELAXED);
        __atomic_thread_fence(__ATOMIC_RELEASE);
        row->fd = (uint32_t)fd;
        row->begin = row->last = tt_agent_tick();
        row->end = row->births = row->peer_pid = row->peer_uid = 0;
        row->how = (uint8_t)how;
        n = n < sizeof row->address ? n : (uint32_t)sizeof row->address;
        row->address_bytes = (uint8_t)n;
        __builtin_memset(row->address, 0, sizeof row->address);
        for (uint32_t k = 0; k < n; k++)
            row->address[k] = ((const uint8_t *)address)[k];
        __atomic_store_n(&row->id, id, __ATOMIC_RELEASE);
        return id;
    }
    tt_agent_drop(TT_DROP_OWNERS);
    return 0;
}

void tt_owner_closed(uint64_t fd)
{
    uint32_t *word = fd_word(fd);
    if (TT_LIKELY(!word || *word == 0))
        return;
    uint32_t id = __atomic_exchange_n(word, 0, __ATOMIC_RELAXED);
    if (id == 0 || id == TT_TAPE_FD_UNMET)
        return;
    struct tt_tape_owner *row = row_of(id);
    if (row->id == id && row->end == 0)
        __atomic_store_n(&row->end, tt_agent_tick() + 1, __ATOMIC_RELAXED);
}

void tt_owner_opened(uint64_t fd, int socket)
{
    uint32_t *word = fd_word(fd);
    if (!word)
        return;
    tt_owner_closed(fd);
    if (socket)
        __atomic_store_n(word, TT_TAPE_FD_UNMET, __ATOMIC_RELAXED);
}

static void work(struct tt_thread *t, uint32_t id)
{
    t->owner = id;
    if (id) {
        struct tt_tape_owner *row = row_of(id);
        uint32_t now = tt_agent_tick();
        if (row->last != now)
            row->last = now;
    }
}

void tt_owner_work(struct tt_thread *t, uint64_t fd, const void *address, uint32_t n)
{
    uint32_t *word = fd_word(fd);
    if (!word)
        return;
    uint32_t id = __atomic_load_n(word, __ATOMIC_RELAXED);
    if (id == 0 || id == TT_TAPE_FD_UNMET) {
        uint32_t made = meet(fd, TT_OWNER_CONNECTION, address, n);
        if (!made)
            return;
        /* Another thread may have met it meanwhile. */
        if (__atomic_compare_exchange_n(word, &id, made, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            id = made;
        else
            row_of(made)->end = tt_agent_tick() + 1;
    }
    work(t, id == TT_TAPE_FD_UNMET ? 0 : id);
}

void tt_owner_sender(struct tt_thread *t, uint64_t fd, const void *address, uint32_t n)
{
    const uint8_t *bytes = address;
    uint64_t hash = fd;
    if (n > sizeof((struct tt_tape_owner *)0)->address)
        n = sizeof((struct tt_tape_owner *)0)->address;
    for (uint32_t i = 0; i < n; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3ULL; /* FNV-1a */
    uint32_t *set = &sender[(size_t)(hash >> 20) % (SENDERS / WAYS) * WAYS], *oldest = set;
    for (uint32_t i = 0; i < WAYS; i++) {
        uint32_t id = __atomic_load_n(&set[i], __ATOMIC_RELAXED), same = 0;
        const struct tt_tape_owner *row = row_of(id);
        if (id && row->id == id && row->fd == fd && row->address_bytes == n)
            while (same < n && row->address[same] == bytes[same])
                same++;
        if (id && row->id == id && n && same == n) {
            work(t, id);
            return;
        }
        if (!id || (*oldest && row->last < row_of(*oldest)->last))
            oldest = &set[i];
    }
    uint32_t id = meet(fd, TT_OWNER_SENDER, address, n);
    if (!id)
        return;
    __atomic_store_n(oldest, id, __ATOMIC_RELAXED);
    work(t, id);
}
