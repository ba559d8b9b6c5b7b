/* SPDX-License-Identifier: Apache-2.0 */
/* Directory streams (DIR *). In glibc the descriptor is the first int of the object; the C library
 * opens and closes it past open and close. */
#include "resource/kinds.h"

static const struct tt_resource_watch rows[] = {
    {.functions = "opendir fdopendir",
     .what = TT_WATCH_ACQUIRE,
     .space = TT_SPACE_DIRECTORY,
     .from = TT_FROM_RETURN,
     .valid = TT_VALID_NOT_NULL,
     .flags = TT_WATCH_WIDE | TT_WATCH_ALSO_FD},
    {.functions = "closedir",
     .what = TT_WATCH_RELEASE,
     .space = TT_SPACE_DIRECTORY,
     .from = TT_FROM_ARG0,
     .valid = TT_VALID_ALWAYS,
     .flags = TT_WATCH_WIDE | TT_WATCH_ALSO_FD},
};

const struct tt_resource tt_resource_directory = {
    .name = "directory",
    .one = "directory stream",
    .many = "directory streams",
    .lost = "never closed",
    .kind = TT_KIND_DIRECTORY,
    .space = TT_SPACE_DIRECTORY,
    TT_ROWS(rows),
    .limits = {"RLIMIT_NOFILE"},
    .gauge = "fd",
    .descriptor = 0,
};
