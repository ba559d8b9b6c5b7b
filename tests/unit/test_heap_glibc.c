/* SPDX-License-Identifier: Apache-2.0 */
/* The walk of glibc's chunks on a child of the test, on one whose heap was written over, and on
 * images changed at random. Other versions, tunables and cores: tests/e2e/heap_glibc.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "test_heap_child.h"

enum { VICTIM = 4002 };

static void spoil(struct tt_child_truth *truth)
{
    tt_child_allocate(truth);
    uint64_t nonsense = 0xdeadbeefcafe0003ULL; /* the size of the chunk */
    memcpy((void *)(uintptr_t)(truth->entry[VICTIM].address - 8), &nonsense, 8);
}

static void unchanged(struct tt_child_truth *truth)
{
    tt_child_allocate(truth);
}

static void exact(void **state)
{
    (void)state;
#ifdef __SANITIZE_ADDRESS__
    skip(); /* malloc is not glibc's */
#endif
    struct tt_child_truth *truth;
    struct tt_heap_image image;
    struct tt_heap_blocks blocks;
    tt_child_image(unchanged, &truth, &image);
    assert_int_equal(tt_heap_walk(&image, &blocks, NULL), 0);
    tt_child_compare(truth, &blocks, 0, 0);
    assert_int_equal(blocks.doubt_bytes, 0);
    assert_memory_equal(blocks.allocator, "glibc", 5);
    tt_heap_blocks_free(&blocks);
    tt_child_torture(&image, 60);
    tt_heap_image_free(&image);
    munmap(truth, sizeof *truth);
}

static void written_over(void **state)
{
    (void)state;
#ifdef __SANITIZE_ADDRESS__
    skip();
#endif
    struct tt_child_truth *truth;
    struct tt_heap_image image;
    struct tt_heap_blocks blocks;
    tt_child_image(spoil, &truth, &image);
    assert_int_equal(tt_heap_walk(&image, &blocks, NULL), 0);
    /* the block itself and at most its neighbours are not listed, and that is said */
    tt_child_compare(truth, &blocks, VICTIM - 2, 5);
    assert_true(blocks.doubt_bytes >= 16);
    assert_true(blocks.doubt_bytes < 1 << 16);
    for (size_t i = 0; i < blocks.list.len; i++)
        assert_int_not_equal(blocks.list.data[i].address, truth->entry[VICTIM].address);
    tt_heap_blocks_free(&blocks);
    tt_heap_image_free(&image);
    munmap(truth, sizeof *truth);
}

static void nothing(void **state)
{
    (void)state;
    struct tt_heap_image image = {0};
    struct tt_heap_blocks blocks;
    struct tt_error err = {0};
    assert_int_equal(tt_heap_walk(&image, &blocks, &err), -ENOENT);
    assert_non_null(strstr(err.text, "glibc, jemalloc"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact),
        cmocka_unit_test(written_over),
        cmocka_unit_test(nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
