/* SPDX-License-Identifier: Apache-2.0 */
/* POSIX timers. Each holds a preallocated signal, which counts against RLIMIT_SIGPENDING
 * (timer_create(2), "NOTES"). */
#include "resource/kinds.h"

static const struct tt_resource_watch rows[] = {
    {.functions = "timer_create",
     .what = TT_WATCH_ACQUIRE,
     .space = TT_SPACE_TIMER,
     .from = TT_FROM_AT_ARG0 + 2,
     .valid = TT_VALID_ZERO,
     .flags = TT_WATCH_WIDE,
     .width = 8},
    {.functions = "timer_delete",
     .what = TT_WATCH_RELEASE,
     .space = TT_SPACE_TIMER,
     .from = TT_FROM_ARG0,
     .valid = TT_VALID_ZERO,
     .flags = TT_WATCH_WIDE},
};

const struct tt_resource tt_resource_timer = {
    .name = "timer",
    .one = "timer",
    .many = "timers",
    .lost = "never deleted",
    .kind = TT_KIND_TIMER,
    .space = TT_SPACE_TIMER,
    TT_ROWS(rows),
    .limits = {"RLIMIT_SIGPENDING"},
    .gauge = "timer",
    .descriptor = -1,
};
