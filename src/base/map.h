/* SPDX-License-Identifier: Apache-2.0 */
/* A hash table from 64-bit key to 64-bit value: open addressing, power-of-two size, no deletion
 * (rooms that need deletion rebuild). Key 0 is allowed. Enough for ids, addresses and hashes of
 * strings. Zero-initialise. Start: tt_map_put, tt_map_get. */
#ifndef TT_BASE_MAP_H
#define TT_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tt_map_slot {
    uint64_t key, value;
    bool used;
};

struct tt_map {
    struct tt_map_slot *slots;
    size_t len, cap;
};

/* Sets key to value, replacing an older value. 0 or -ENOMEM. */
int tt_map_put(struct tt_map *map, uint64_t key, uint64_t value);

/* The value's place, or NULL when the key is absent; valid until the next put. */
uint64_t *tt_map_get(const struct tt_map *map, uint64_t key);

void tt_map_free(struct tt_map *map);

/* 64-bit finaliser of MurmurHash3 (Appleby, public domain): a bijection with good avalanche. */
uint64_t tt_map_mix(uint64_t x);

/* FNV-1a over bytes, finished with tt_map_mix; for strings as keys. */
uint64_t tt_map_hash(const void *bytes, size_t n);

#endif
