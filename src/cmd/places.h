/* SPDX-License-Identifier: Apache-2.0 */
/* Names of places in modules' code and data, for the heap search: the symbol, the offset in it, and
 * the type where there is debug information. Start: tt_places_name. */
#ifndef TT_CMD_PLACES_H
#define TT_CMD_PLACES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/vec.h"

struct tt_place_file;

/* Files looked into so far. Zero-initialise. One thread at a time. */
struct tt_places {
    TT_VEC(struct tt_place_file *) files;
};

/* As tt_heap_name_fn: "calls+0x10 (struct call *[1024])". 0 or -ENOENT. */
int tt_places_name(struct tt_places *places, const char *path, uint64_t file_offset, char *out,
                   size_t size);
void tt_places_free(struct tt_places *places);

#endif
