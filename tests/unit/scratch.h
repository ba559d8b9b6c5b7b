/* SPDX-License-Identifier: Apache-2.0 */
/* A directory of a test program's own: made before its tests and removed after them, as setup and
 * teardown of a cmocka group. Start: scratch_make. */
#ifndef TT_TEST_SCRATCH_H
#define TT_TEST_SCRATCH_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char scratch[64]; /* its path, without a slash at the end */

static inline int scratch_make_in(const char *parent)
{
    snprintf(scratch, sizeof scratch, "%s/tt-test-XXXXXX", parent);
    return mkdtemp(scratch) ? 0 : -1;
}

static inline int scratch_make(void **state)
{
    (void)state;
    return scratch_make_in("/tmp");
}

/* For thousands of commits: not on a disk if that can be. */
static inline int scratch_make_fast(void **state)
{
    (void)state;
    return scratch_make_in(access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
}

static inline int scratch_remove(void **state)
{
    (void)state;
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", scratch);
    return system(command);
}

#endif
