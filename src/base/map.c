/* SPDX-License-Identifier: Apache-2.0 */
/* Open addressing with linear probes, grown at 70 % load. Start: tt_map_put. */
#include "base/map.h"

#include <errno.h>
#include <stdlib.h>

uint64_t tt_map_mix(uint64_t x)
{
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdULL;
    x ^= x >> 33;
    x *= 0xc4ceb9fe1a85ec53ULL;
    return x ^ x >> 33;
}

uint64_t tt_map_hash(const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    uint64_t h = 0xcbf29ce484222325ULL;
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 0x100000001b3ULL;
    return tt_map_mix(h);
}

static struct tt_map_slot *find(struct tt_map_slot *slots, size_t cap, uint64_t key)
{
    size_t i = tt_map_mix(key) & (cap - 1);
    while (slots[i].used && slots[i].key != key)
        i = (i + 1) & (cap - 1);
    return &slots[i];
}

static int grow(struct tt_map *map)
{
    size_t cap = map->cap ? map->cap * 2 : 16;
    struct tt_map_slot *slots = calloc(cap, sizeof *slots);
    if (!slots)
        return -ENOMEM;
    for (size_t i = 0; i < map->cap; i++)
        if (map->slots[i].used)
            *find(slots, cap, map->slots[i].key) = map->slots[i];
    free(map->slots);
    map->slots = slots;
    map->cap = cap;
    return 0;
}

int tt_map_put(struct tt_map *map, uint64_t key, uint64_t value)
{
    if ((map->len + 1) * 10 > map->cap * 7 && grow(map))
        return -ENOMEM;
    struct tt_map_slot *slot = find(map->slots, map->cap, key);
    if (!slot->used)
        map->len++;
    *slot = (struct tt_map_slot){key, value, true};
    return 0;
}

uint64_t *tt_map_get(const struct tt_map *map, uint64_t key)
{
    if (!map->cap)
        return NULL;
    struct tt_map_slot *slot = find(map->slots, map->cap, key);
    return slot->used ? &slot->value : NULL;
}

void tt_map_free(struct tt_map *map)
{
    free(map->slots);
    *map = (struct tt_map){0};
}
