/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets: descriptors too, released by close like any other, but with a state and a peer of their
 * own (/proc/net), and a finding of its own when the peer has gone and the descriptor stays. */
#include "resource/kinds.h"

static const struct tt_resource_watch rows[] = {
    {.functions = "socket",
     .what = TT_WATCH_ACQUIRE,
     .space = TT_SPACE_FD,
     .from = TT_FROM_RETURN,
     .valid = TT_VALID_NOT_NEGATIVE},
    {.functions = "accept accept4",
     .what = TT_WATCH_ACCEPT,
     .space = TT_SPACE_FD,
     .from = TT_FROM_RETURN,
     .valid = TT_VALID_NOT_NEGATIVE},
    {.functions = "socketpair",
     .what = TT_WATCH_ACQUIRE,
     .space = TT_SPACE_FD,
     .from = TT_FROM_AT_ARG0 + 3,
     .valid = TT_VALID_ZERO,
     .flags = TT_WATCH_PAIR,
     .width = 4},
};

const struct tt_resource tt_resource_socket = {
    .name = "socket",
    .one = "socket",
    .many = "sockets",
    .lost = "never closed",
    .kind = TT_KIND_SOCKET,
    .space = TT_SPACE_FD,
    TT_ROWS(rows),
    .limits = {"RLIMIT_NOFILE"},
    .gauge = "fd",
    .descriptor = -1,
};
