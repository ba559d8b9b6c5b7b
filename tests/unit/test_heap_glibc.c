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

#include "heap/internal_glibc.h"
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

/* Plain links (glibc before 2.32), where unmangling one of them happens to give the address of
 * another arena's chunk: the links are plain all the same, and the cache must be read. */
static void ambiguous_links(void **state)
{
    (void)state;
    enum { RANGE = 1 << 20, CACHE = 0x40, FIRST = 0x10000 - 16, SECOND = 0x20000 };
    const uint64_t here = 0x7f0418000000, bin_size = 64;
    const uint64_t user = here + FIRST + 16, mistaken = (here + SECOND + 16) ^ user >> 12;
    const uint64_t there = mistaken & ~(uint64_t)(RANGE - 1);
    static uint64_t ours[RANGE / 8], theirs[RANGE / 8];
    const uint16_t count = 2;
    const uint64_t bin = bin_size / 16 - 2;
    ours[(CACHE + 8) / 8] = 0x290 | 5;
    memcpy((char *)ours + CACHE + 16 + 2 * bin, &count, sizeof count);
    ours[(CACHE + 16 + 128 + 8 * bin) / 8] = user;
    ours[(FIRST + 8) / 8] = ours[(SECOND + 8) / 8] = bin_size | 5;
    ours[(FIRST + 16) / 8] = here + SECOND + 16;
    theirs[(mistaken - 16 - there + 8) / 8] = 0x1000 | 5;

    struct tt_heap_range ranges[2] = {
        {.start = there,
         .end = there + RANGE,
         .bytes = (uint8_t *)theirs,
         .write = true,
         .kind = TT_HEAP_ANON},
        {.start = here,
         .end = here + RANGE,
         .bytes = (uint8_t *)ours,
         .write = true,
         .kind = TT_HEAP_ANON},
    };
    struct glibc_piece pieces[2] = {{.start = there, .end = there + RANGE},
                                    {.start = here, .end = here + RANGE}};
    struct tt_heap_image image = {.ranges = {.data = ranges, .len = 2}, .read_bytes = 2 * RANGE};
    struct glibc_heap heap = {
        .image = &image, .pieces = {.data = pieces, .len = 2}, .budget = 1 << 20};
    assert_true(there < here);
    assert_int_equal(mistaken & 15, 0);
    assert_int_equal(tt_glibc_tcache(&heap, here + CACHE), 1);
    assert_int_equal(heap.free.len, 2);
    assert_int_equal(heap.free.data[1], here + SECOND);
    tt_vec_free(&heap.free);
}

/* A thread's cache is where the arena had room, which may be a free chunk that is 16 bytes larger.
 */
static void caches_of_all_sizes(void **state)
{
    static const uint64_t sizes[] = {0x280, 0x290, 0x2a0, 0x2b0, 0x300, 0x320, 0x330};
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        enum { RANGE = 1 << 16, CACHE = 0x40, FREED = 0x8000 };
        static uint64_t memory[RANGE / 8];
        const uint64_t here = 0x7f0418000000, user = here + FREED + 16;
        const uint64_t bins = sizes[i] < 0x300 ? 64 : 76;
        const uint16_t count = sizes[i] < 0x300 ? 1 : 6; /* how many; how many may follow */
        memset(memory, 0, sizeof memory);
        memory[(CACHE + 8) / 8] = sizes[i] | 5;
        memcpy((char *)memory + CACHE + 16, &count, sizeof count);
        memory[(CACHE + 16) / 8 + bins / 4] = user;
        memory[(FREED + 8) / 8] = 32 | 5;
        memory[(FREED + 16) / 8] = user >> 12; /* the end of the list, mangled */
        struct tt_heap_range range = {.start = here,
                                      .end = here + RANGE,
                                      .bytes = (uint8_t *)memory,
                                      .write = true,
                                      .kind = TT_HEAP_ANON};
        struct glibc_piece piece = {.start = here, .end = here + RANGE};
        struct tt_heap_image image = {.ranges = {.data = &range, .len = 1}, .read_bytes = RANGE};
        struct glibc_heap heap = {
            .image = &image, .pieces = {.data = &piece, .len = 1}, .budget = 1 << 20};
        bool known =
            sizes[i] == 0x290 || sizes[i] == 0x2a0 || (sizes[i] >= 0x300 && sizes[i] <= 0x320);
        assert_int_equal(tt_glibc_tcache(&heap, here + CACHE), known);
        assert_int_equal(heap.free.len, known);
        tt_vec_free(&heap.free);
    }
}

static void nothing(void **state)
{
    (void)state;
    struct tt_heap_image image = {0};
    struct tt_heap_blocks blocks;
    struct tt_error err = {0};
    assert_int_equal(tt_heap_walk(&image, &blocks, &err), -ENOENT);
    assert_non_null(strstr(err.text, "glibc, jemalloc"));
    assert_non_null(strstr(err.text, "attach and run")); /* either follows other allocators too */
    image.unread_bytes = 5000000;
    assert_int_equal(tt_heap_walk(&image, &blocks, &err), -ENOENT);
    assert_non_null(strstr(err.text, "5.0 MB of the process are missing"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact),           cmocka_unit_test(written_over),
        cmocka_unit_test(ambiguous_links), cmocka_unit_test(caches_of_all_sizes),
        cmocka_unit_test(nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
