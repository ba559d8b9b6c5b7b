/* SPDX-License-Identifier: Apache-2.0 */
/* The walk of jemalloc's extents: the test runs itself with the library preloaded. Skipped without
 * package libjemalloc2. Threads, cores, other versions: tests/e2e/heap_glibc.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "test_heap_child.h"

#define LIBRARY "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2"

static void exact(void **state)
{
    (void)state;
    struct tt_child_truth *truth;
    struct tt_heap_image image;
    struct tt_heap_blocks blocks;
#ifdef __SANITIZE_ADDRESS__
    skip(); /* malloc is not jemalloc's */
#endif
    if (access(LIBRARY, R_OK) != 0)
        skip();
    tt_child_image_preloaded(LIBRARY, &truth, &image);
    assert_int_equal(tt_heap_walk(&image, &blocks, NULL), 0);
    assert_memory_equal(blocks.allocator, "jemalloc", 8);
    tt_child_compare(truth, &blocks, 0, 0);
    assert_int_equal(blocks.doubt_bytes, 0);
    tt_heap_blocks_free(&blocks);
    tt_child_torture(&image, 40);
    tt_heap_image_free(&image);
    munmap(truth, sizeof *truth);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(exact)};
    tt_child_main(argc, argv, tt_child_allocate);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
