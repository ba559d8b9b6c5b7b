/* SPDX-License-Identifier: Apache-2.0 */
/* Where a test program finds what was built with it: the top of the build tree, told from the path
 * of the program itself, which lies in tests/unit there. Start: build_find. */
#ifndef TT_TEST_BUILD_H
#define TT_TEST_BUILD_H

#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static char build[256]; /* its path, without a slash at the end */

/* Fills `build`; 0, or -1 where it does not fit. */
static inline int build_find(void)
{
    ssize_t n = readlink("/proc/self/exe", build, sizeof build - 1);
    if (n <= 0 || (size_t)n == sizeof build - 1)
        return -1;
    build[n] = '\0';
    for (int up = 0; up < 3; up++) {
        char *slash = strrchr(build, '/');
        if (!slash)
            return -1;
        *slash = '\0';
    }
    return 0;
}

#endif
