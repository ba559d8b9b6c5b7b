/* SPDX-License-Identifier: Apache-2.0 */
/* Handles of dlopen. The same library gives the same handle again and counts up (dlopen(3)), so
 * that as many closes are due. */
#include "resource/kinds.h"

static const struct tt_resource_watch rows[] = {
    {.functions = "dlopen dlmopen",
     .what = TT_WATCH_ACQUIRE,
     .space = TT_SPACE_LIBRARY,
     .from = TT_FROM_RETURN,
     .valid = TT_VALID_NOT_NULL,
     .flags = TT_WATCH_COUNTED | TT_WATCH_WIDE},
    {.functions = "dlclose",
     .what = TT_WATCH_RELEASE,
     .space = TT_SPACE_LIBRARY,
     .from = TT_FROM_ARG0,
     .valid = TT_VALID_ZERO,
     .flags = TT_WATCH_COUNTED | TT_WATCH_WIDE},
};

const struct tt_resource tt_resource_library = {
    .name = "library",
    .one = "library handle",
    .many = "library handles",
    .lost = "never closed",
    .kind = TT_KIND_LIBRARY,
    .space = TT_SPACE_LIBRARY,
    TT_ROWS(rows),
    .limits = {"vm.max_map_count"},
    .gauge = "library",
    .descriptor = -1,
};
