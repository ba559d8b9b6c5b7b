/* SPDX-License-Identifier: Apache-2.0 */
/* File descriptors that are no sockets: files, pipes, and what the kernel gives out as one.
 * close(2) has released the descriptor also when it fails with EINTR or EIO (close(2), "Dealing
 * with error returns"), but not with EBADF, which the table of what is held knows without asking.
 * dup2 and dup3 close what the new number was before, silently. */
#include "resource/kinds.h"

static const struct tt_resource_watch rows[] = {
    {.functions = "open open64 openat openat64 creat creat64 epoll_create epoll_create1 eventfd "
                  "inotify_init inotify_init1 timerfd_create memfd_create memfd_secret pidfd_open "
                  "pidfd_getfd fanotify_init open_by_handle_at shm_open posix_openpt "
                  /* what the library itself calls: popen, opendir, freopen */
                  "__open_nocancel __open64_nocancel __openat_nocancel __openat64_nocancel",
     .what = TT_WATCH_ACQUIRE,
     .space = TT_SPACE_FD,
     .from = TT_FROM_RETURN,
     .valid = TT_VALID_NOT_NEGATIVE},
    {.functions = "signalfd", /* of an old one with new signals: the same */
     .what = TT_WATCH_ACQUIRE,
     .space = TT_SPACE_FD,
     .from = TT_FROM_RETURN,
     .valid = TT_VALID_NOT_NEGATIVE,
     .flags = TT_WATCH_ONCE},
    {.functions = "dup", /* of a socket is a socket */
     .what = TT_WATCH_ACQUIRE,
     .space = TT_SPACE_FD,
     .from = TT_FROM_RETURN,
     .valid = TT_VALID_NOT_NEGATIVE,
     .flags = TT_WATCH_LIKE},
    {.functions = "fcntl fcntl64", /* F_DUPFD, F_DUPFD_CLOEXEC */
     .what = TT_WATCH_ACQUIRE,
     .space = TT_SPACE_FD,
     .from = TT_FROM_RETURN,
     .valid = TT_VALID_NOT_NEGATIVE,
     .flags = TT_WATCH_LIKE,
     .when = TT_FROM_ARG0 + 1,
     .values = {0, 1030}},
    {.functions = "pipe pipe2",
     .what = TT_WATCH_ACQUIRE,
     .space = TT_SPACE_FD,
     .from = TT_FROM_AT_ARG0,
     .valid = TT_VALID_ZERO,
     .flags = TT_WATCH_PAIR,
     .width = 4},
    {.functions = "dup2 dup3",
     .what = TT_WATCH_REPLACE,
     .space = TT_SPACE_FD,
     .from = TT_FROM_ARG0 + 1,
     .valid = TT_VALID_NOT_NEGATIVE,
     .flags = TT_WATCH_LIKE},
    {.functions = "close __close_nocancel",
     .what = TT_WATCH_RELEASE,
     .space = TT_SPACE_FD,
     .from = TT_FROM_ARG0,
     .valid = TT_VALID_ALWAYS},
    {.functions = "close_range",
     .what = TT_WATCH_RANGE,
     .space = TT_SPACE_FD,
     .from = TT_FROM_ARG0,
     .size = TT_FROM_ARG0 + 1,
     .valid = TT_VALID_ZERO},
    {.functions = "closefrom",
     .what = TT_WATCH_RANGE,
     .space = TT_SPACE_FD,
     .from = TT_FROM_ARG0,
     .valid = TT_VALID_ALWAYS},
};

const struct tt_resource tt_resource_fd = {
    .name = "fd",
    .one = "file descriptor",
    .many = "file descriptors",
    .lost = "never closed",
    .kind = TT_KIND_FD,
    .space = TT_SPACE_FD,
    TT_ROWS(rows),
    .limits = {"RLIMIT_NOFILE"},
    .gauge = "fd",
    .descriptor = -1,
};
