/* SPDX-License-Identifier: Apache-2.0 */
/* Child processes: held until somebody waits for them; an ended child that nobody waited for is a
 * zombie and keeps its process id. vfork shares the caller's stack and is left alone: what it
 * starts is seen in /proc. With SIGCHLD ignored the kernel reaps (wait(2), "NOTES"), which the
 * recorder sees from outside. */
#include "resource/kinds.h"

static const struct tt_resource_watch rows[] = {
    {.functions = "fork",
     .what = TT_WATCH_FORK,
     .space = TT_SPACE_CHILD,
     .from = TT_FROM_RETURN,
     .valid = TT_VALID_NOT_NEGATIVE},
    {.functions = "vfork",
     .what = TT_WATCH_VFORK,
     .space = TT_SPACE_CHILD,
     .from = TT_FROM_RETURN,
     .valid = TT_VALID_NOT_NEGATIVE},
    {.functions = "posix_spawn posix_spawnp",
     .what = TT_WATCH_SPAWN,
     .space = TT_SPACE_CHILD,
     .from = TT_FROM_AT_ARG0,
     .valid = TT_VALID_ZERO,
     .width = 4},
    {.functions = "wait",
     .what = TT_WATCH_WAIT,
     .space = TT_SPACE_CHILD,
     .from = TT_FROM_AT_ARG0,
     .valid = TT_VALID_NOT_NEGATIVE,
     .width = 4},
    {.functions = "wait3",
     .what = TT_WATCH_WAIT,
     .space = TT_SPACE_CHILD,
     .from = TT_FROM_AT_ARG0,
     .size = TT_FROM_ARG0 + 1,
     .valid = TT_VALID_NOT_NEGATIVE,
     .width = 4},
    {.functions = "waitpid wait4",
     .what = TT_WATCH_WAIT,
     .space = TT_SPACE_CHILD,
     .from = TT_FROM_AT_ARG0 + 1,
     .size = TT_FROM_ARG0 + 2,
     .valid = TT_VALID_NOT_NEGATIVE,
     .width = 4},
    {.functions = "waitid",
     .what = TT_WATCH_WAITID,
     .space = TT_SPACE_CHILD,
     .from = TT_FROM_AT_ARG0 + 2,
     .valid = TT_VALID_ZERO,
     .width = 4},
};

const struct tt_resource tt_resource_child = {
    .name = "child",
    .one = "child process",
    .many = "child processes",
    .lost = "never waited for",
    .kind = TT_KIND_CHILD,
    .space = TT_SPACE_CHILD,
    TT_ROWS(rows),
    .limits = {"cgroup pids.max", "RLIMIT_NPROC", "threads-max"},
    .gauge = "child",
    .descriptor = -1,
};
