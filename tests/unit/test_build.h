/* SPDX-License-Identifier: Apache-2.0 */
/* Where a test program finds what was built with it: by the path of the program itself, which lies
 * in tests/unit of the build tree. Start: build_path. */
#ifndef TT_TEST_BUILD_H
#define TT_TEST_BUILD_H

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

/* The path of something in the build tree; "" and what is asked for where there is no tree. */
static inline __attribute__((format(printf, 3, 4))) void build_path(char *out, size_t size,
                                                                    const char *format, ...)
{
    ssize_t n = readlink("/proc/self/exe", out, size - 1);
    out[n > 0 ? n : 0] = '\0';
    for (int up = 0; up < 3; up++) {
        char *slash = strrchr(out, '/');
        if (slash)
            *slash = '\0';
    }
    size_t used = strlen(out);
    va_list rest;
    va_start(rest, format);
    used += (size_t)snprintf(out + used, size - used, "/");
    vsnprintf(out + used, size - used, format, rest);
    va_end(rest);
}

#endif
