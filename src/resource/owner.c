/* SPDX-License-Identifier: Apache-2.0 */
/* On whose behalf a thread works: the peer of the socket that it read last or accepted, until it
 * waits for whatever comes next. Entered by a jump, so that they cost next to nothing. */
#include "resource/resource.h"

const struct tt_resource_watch tt_resource_owner_watches[] = {
    {.functions = "read readv recv",
     .what = TT_WATCH_OWNER,
     .space = TT_SPACE_FD,
     .from = TT_FROM_ARG0},
    {.functions = "recvfrom", .what = TT_WATCH_FROM, .space = TT_SPACE_FD, .from = TT_FROM_ARG0},
    {.functions = "recvmsg", /* descriptors may come with it */
     .what = TT_WATCH_FROM,
     .space = TT_SPACE_FD,
     .from = TT_FROM_ARG0,
     .size = TT_FROM_AT_ARG0 + 1},
    {.functions = "epoll_wait epoll_pwait epoll_pwait2 poll ppoll select pselect",
     .what = TT_WATCH_IDLE},
};
const size_t tt_resource_owner_count =
    sizeof tt_resource_owner_watches / sizeof *tt_resource_owner_watches;
