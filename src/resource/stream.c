/* SPDX-License-Identifier: Apache-2.0 */
/* Streams (FILE *). Their descriptor is opened and closed inside the C library, past open and
 * close: fclose therefore also releases a descriptor that was opened by open and made a stream by
 * fdopen. In glibc it is an int at byte 112 of the object (bits/types/struct_FILE.h, _fileno), part
 * of its ABI since 2.1. */
#include "resource/kinds.h"

#define FILENO 112

static const struct tt_resource_watch rows[] = {
    {.functions = "fopen fopen64 fdopen tmpfile tmpfile64 popen",
     .what = TT_WATCH_ACQUIRE,
     .space = TT_SPACE_STREAM,
     .from = TT_FROM_RETURN,
     .valid = TT_VALID_NOT_NULL,
     .flags = TT_WATCH_WIDE | TT_WATCH_ALSO_FD,
     .also = FILENO},
    {.functions = "fmemopen open_memstream open_wmemstream", /* no descriptor: -1 there */
     .what = TT_WATCH_ACQUIRE,
     .space = TT_SPACE_STREAM,
     .from = TT_FROM_RETURN,
     .valid = TT_VALID_NOT_NULL,
     .flags = TT_WATCH_WIDE},
    {.functions = "fclose pclose",
     .what = TT_WATCH_RELEASE,
     .space = TT_SPACE_STREAM,
     .from = TT_FROM_ARG0,
     .valid = TT_VALID_ALWAYS,
     .flags = TT_WATCH_WIDE | TT_WATCH_ALSO_FD,
     .also = FILENO},
};

const struct tt_resource tt_resource_stream = {
    .name = "stream",
    .one = "stream",
    .many = "streams",
    .lost = "never closed",
    .kind = TT_KIND_STREAM,
    .space = TT_SPACE_STREAM,
    TT_ROWS(rows),
    .limits = {"RLIMIT_NOFILE"},
    .gauge = "fd",
    .descriptor = FILENO,
};
