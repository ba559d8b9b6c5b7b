/* SPDX-License-Identifier: Apache-2.0 */
/* Local ports: what bind took, explicitly or from the ephemeral range. The port is free again when
 * the socket is closed, which for TCP may come later by TIME_WAIT; that is the kernel's, not the
 * program's, and is not counted. */
#include "resource/kinds.h"

static const struct tt_resource_watch rows[] = {
    {.functions = "bind",
     .what = TT_WATCH_BIND,
     .space = TT_SPACE_PORT,
     .from = TT_FROM_ARG0,
     .valid = TT_VALID_ZERO},
    {.functions = "connect",
     .what = TT_WATCH_BIND,
     .space = TT_SPACE_PORT,
     .from = TT_FROM_ARG0,
     .valid = TT_VALID_ALWAYS},
};

const struct tt_resource tt_resource_port = {
    .name = "port",
    .one = "local port",
    .many = "local ports",
    .lost = "never given back",
    .kind = TT_KIND_PORT,
    .space = TT_SPACE_PORT,
    TT_ROWS(rows),
    .limits = {"ip_local_port_range"},
    .gauge = "port",
    .descriptor = -1,
};
