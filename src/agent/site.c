/* SPDX-License-Identifier: Apache-2.0 */
/* Interning of stacks: hash of the stack -> site id, in the hash tables of the tape. Readers probe
 * without a lock; a new site is written under one: frames, then record, then its hash, then the
 * table slot with a release store, so that nobody, the recorder included, sees half a site.
 * Start: tt_site_of. */
#include "agent/watch.h"

#define PROBES 16u
#define SITE_PIECE (0x10000u / (uint32_t)sizeof(struct tt_tape_site))

static const uint32_t table_slots[3] = {TT_TAPE_HASH0, TT_TAPE_HASH1, TT_TAPE_HASH2};

static uint64_t *table(uint32_t i)
{
    uint64_t *first = (uint64_t *)(tt_agent.base + TT_TAPE_OFF_HASH);
    return i == 0 ? first : i == 1 ? first + TT_TAPE_HASH0 : first + TT_TAPE_HASH0 + TT_TAPE_HASH1;
}

/* Looks for `key`; *room is the first free slot of the youngest table. */
static uint32_t find(uint64_t key, uint64_t **room)
{
    *room = NULL;
    uint32_t open = __atomic_load_n(&tt_agent.hash_open, __ATOMIC_ACQUIRE);
    for (uint32_t i = 0; i < open && i < 3; i++) {
        uint64_t *slots = table(i);
        uint64_t at = key & (table_slots[i] - 1);
        for (unsigned p = 0; p < PROBES; p++, at = (at + 1) & (table_slots[i] - 1)) {
            uint64_t seen = __atomic_load_n(&slots[at], __ATOMIC_ACQUIRE);
            if (seen == 0) {
                if (!*room)
                    *room = &slots[at];
                break;
            }
            if ((seen ^ key) >> 20 == 0) {
                uint32_t id = (uint32_t)seen & (TT_TAPE_SITES - 1);
                if (tt_agent.sites[id].hash == key)
                    return id;
            }
        }
    }
    return 0;
}

static uint64_t *open_table(void)
{
    uint32_t i = tt_agent.hash_open;
    if (i >= 3 || tt_sys_mprotect(table(i), table_slots[i] * 8ULL, TT_PROT_RW) != 0)
        return NULL;
    __atomic_store_n(&tt_agent.hash_open, i + 1, __ATOMIC_RELEASE);
    return table(i);
}

static int open_site(uint32_t id)
{
    if (id >= TT_TAPE_SITES)
        return -1;
    if (id < tt_agent.sites_open)
        return 0;
    if (tt_sys_mprotect(&tt_agent.sites[tt_agent.sites_open], 0x10000, TT_PROT_RW) != 0)
        return -1;
    tt_agent.sites_open += SITE_PIECE;
    return 0;
}

static int open_frames(uint32_t upto)
{
    if (upto > TT_TAPE_FRAMES)
        return -1;
    while (upto > tt_agent.frames_open) {
        if (tt_sys_mprotect(&tt_agent.frames[tt_agent.frames_open], TT_FRAME_PIECE * 8UL,
                            TT_PROT_RW))
            return -1;
        tt_agent.frames_open += TT_FRAME_PIECE;
    }
    return 0;
}

static uint32_t add(struct tt_thread *t, uint64_t key, uint32_t thin, uint32_t flags)
{
    struct tt_tape_head *head = tt_agent.head;
    uint64_t *room;
    uint32_t id = find(key, &room);
    if (id)
        return id;
    if (!room && (!open_table() || (find(key, &room), !room)))
        return tt_agent_drop(TT_DROP_SITES), 0;
    uint32_t depth = t->depth < TT_TAPE_DEPTH ? t->depth : TT_TAPE_DEPTH;
    id = head->site_count;
    if (open_site(id) != 0)
        return tt_agent_drop(TT_DROP_SITES), 0;
    uint32_t first = head->frame_count;
    if (open_frames(first + depth) != 0)
        return tt_agent_drop(TT_DROP_FRAMES), 0;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < depth; i++) {
        const struct tt_info *f = &t->info[t->depth - 1 - i];
        if (!tt_watch_ours(f->ra)) /* not the program's */
            tt_agent.frames[first + kept++] = f->ra + f->after_signal;
    }
    depth = kept;
    __atomic_store_n(&head->frame_count, first + depth, __ATOMIC_RELEASE);
    struct tt_tape_site *s = &tt_agent.sites[id];
    if (t->root == TT_ROOT_DEEP || t->depth > TT_TAPE_DEPTH) {
        flags |= TT_SITE_CUT;
        tt_agent_drop(TT_DROP_CUT_DEPTH);
    } else if (t->root == TT_ROOT_LOST) {
        flags |= TT_SITE_CUT;
        tt_agent_drop(TT_DROP_CUT_UNWIND);
    }
    s->frames = first;
    s->depth = (uint16_t)depth;
    s->thin = (uint8_t)thin;
    s->flags = (uint8_t)flags;
    s->kind = (uint8_t)(flags >> 8);
    s->size_min = 0xffffffffu;
    s->size_max = 0;
    s->release_skip = 0;
    __atomic_store_n(&s->hash, key, __ATOMIC_RELEASE);
    __atomic_store_n(&head->site_count, id + 1, __ATOMIC_RELEASE);
    __atomic_store_n(room, (key & ~(uint64_t)(TT_TAPE_SITES - 1)) | id, __ATOMIC_RELEASE);
    return id;
}

static __attribute__((noinline)) uint32_t site_new(struct tt_thread *t, uint64_t key, uint32_t thin,
                                                   uint32_t flags)
{
    tt_agent_look();
    if (!tt_lock_take(&tt_agent.site_lock, t->index + 1))
        return tt_agent_drop(TT_DROP_SITES), 0;
    uint32_t id = add(t, key, thin, flags);
    tt_lock_give(&tt_agent.site_lock, t->index + 1);
    return id;
}

uint32_t tt_site_of(struct tt_thread *t, uint64_t hash, uint32_t thin, uint32_t flags)
{
    if (t->depth == 0)
        return 0;
    uint64_t key = hash ^ (uint64_t)(thin << 2 | flags) * 0xd6e8feb86659fd93ULL;
    key = (key ^ key >> 29) * 0xbf58476d1ce4e5b9ULL;
    key ^= key >> 32;
    if (key == 0)
        key = 1;
    uint64_t *room;
    uint32_t id = find(key, &room);
    return TT_LIKELY(id != 0) ? id : site_new(t, key, thin, flags);
}
