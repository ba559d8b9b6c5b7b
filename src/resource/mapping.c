/* SPDX-License-Identifier: Apache-2.0 */
/* Mappings that the program makes itself. Those that the C library makes for malloc, for thread
 * stacks and for libraries are made inside other functions and count there. */
#include "resource/kinds.h"

static const struct tt_resource_watch rows[] = {
    {.functions = "mmap mmap64",
     .what = TT_WATCH_MAP,
     .space = TT_SPACE_MAPPING,
     .from = TT_FROM_RETURN,
     .size = TT_FROM_ARG0 + 1,
     .valid = TT_VALID_NOT_MINUS_ONE,
     .flags = TT_WATCH_WIDE},
    {.functions = "munmap",
     .what = TT_WATCH_UNMAP,
     .space = TT_SPACE_MAPPING,
     .from = TT_FROM_ARG0,
     .size = TT_FROM_ARG0 + 1,
     .valid = TT_VALID_ZERO,
     .flags = TT_WATCH_WIDE},
    {.functions = "mremap",
     .what = TT_WATCH_REMAP,
     .space = TT_SPACE_MAPPING,
     .from = TT_FROM_ARG0,
     .size = TT_FROM_ARG0 + 2,
     .valid = TT_VALID_NOT_MINUS_ONE,
     .flags = TT_WATCH_WIDE},
};

const struct tt_resource tt_resource_mapping = {
    .name = "mapping",
    .one = "mapping",
    .many = "mappings",
    .lost = "never unmapped",
    .kind = TT_KIND_MAPPING,
    .space = TT_SPACE_MAPPING,
    .sized = true,
    TT_ROWS(rows),
    .limits = {"vm.max_map_count"},
    .gauge = "mapping",
    .descriptor = -1,
};
