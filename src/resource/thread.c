/* SPDX-License-Identifier: Apache-2.0 */
/* Threads: held from their start until they are joined or detached. Until then glibc keeps the
 * stack and the descriptor of one that has ended (pthread_join(3), "a zombie thread"). Threads that
 * are started detached give themselves back. */
#include "resource/kinds.h"

static const struct tt_resource_watch rows[] = {
    {.functions = "pthread_create",
     .what = TT_WATCH_THREAD,
     .space = TT_SPACE_THREAD,
     .from = TT_FROM_AT_ARG0,
     .valid = TT_VALID_ZERO,
     .flags = TT_WATCH_WIDE,
     .width = 8},
    {.functions =
         "pthread_join pthread_tryjoin_np pthread_timedjoin_np pthread_clockjoin_np thrd_join "
         "pthread_detach thrd_detach",
     .what = TT_WATCH_RELEASE,
     .space = TT_SPACE_THREAD,
     .from = TT_FROM_ARG0,
     .valid = TT_VALID_ZERO,
     .flags = TT_WATCH_WIDE},
};

const struct tt_resource tt_resource_thread = {
    .name = "thread",
    .one = "thread",
    .many = "threads",
    .lost = "never joined",
    .kind = TT_KIND_THREAD,
    .space = TT_SPACE_THREAD,
    TT_ROWS(rows),
    .limits = {"cgroup pids.max", "RLIMIT_NPROC", "threads-max"},
    .gauge = "thread",
    .descriptor = -1,
};
