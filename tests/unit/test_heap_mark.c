/* SPDX-License-Identifier: Apache-2.0 */
/* The index of blocks and marking, on made-up images; random graphs are held against plain slow
 * algorithms. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "test_heap_fake.h"

static void test_small_and_split_blocks(void **unused)
{
    (void)unused;
    struct tt_fake f; /* blocks of 8 bytes side by side, as jemalloc has them */
    tt_fake_start(&f, 1 << 20);
    for (uint64_t i = 0; i < 100; i++)
        assert_int_equal(
            tt_vec_push(&f.blocks.list, (struct tt_heap_block){FAKE_HEAP + 0x1000 + i * 8, 8}), 0);
    *tt_fake_word(&f, FAKE_DATA) = FAKE_HEAP + 0x1000 + 8;
    *tt_fake_word(&f, FAKE_HEAP + 0x1008) = FAKE_HEAP + 0x1000 + 99 * 8 + 4;
    tt_fake_mark(&f, 2);
    assert_int_equal(f.index.shift, 3);
    assert_int_equal(f.marks.reached_units, 2);
    assert_true(tt_fake_reached(&f, FAKE_HEAP + 0x1000 + 99 * 8));
    assert_int_equal(tt_heap_find(&f.index, FAKE_HEAP + 0x1000 + 100 * 8), TT_HEAP_NONE);
    tt_fake_end(&f);

    tt_fake_start(
        &f, 1 << 20); /* a large block whose end lies in the next range; one that was not read */
    uint8_t *tail = calloc(1, 0x3000);
    struct tt_heap_range next = {FAKE_HEAP + (1 << 20),
                                 FAKE_HEAP + (1 << 20) + 0x3000,
                                 tail,
                                 "",
                                 0,
                                 TT_HEAP_ANON,
                                 true,
                                 false};
    size_t n = f.image.ranges.len;
    assert_int_equal(tt_vec_push(&f.image.ranges, next), 0);
    memmove(&f.image.ranges.data[5], &f.image.ranges.data[4],
            (n - 4) * sizeof *f.image.ranges.data);
    memmove(&f.memory[5], &f.memory[4], (n - 4) * sizeof *f.memory);
    f.image.ranges.data[4] = next;
    f.memory[4] = tail;
    uint64_t small = tt_fake_block(&f, 40), other = tt_fake_block(&f, 40);
    uint64_t large = FAKE_HEAP + 0x80000;
    assert_int_equal(
        tt_vec_push(&f.blocks.list, (struct tt_heap_block){large, next.end - large - 16}), 0);
    *tt_fake_word(&f, FAKE_DATA) = next.start + 100;
    *tt_fake_word(&f, next.start + 0x2000) = small;
    *tt_fake_word(&f, large + 8) = other;
    tt_fake_mark(&f, 2);
    assert_true(tt_fake_reached(&f, small));
    assert_true(tt_fake_reached(&f, other));
    tt_fake_forget_marks(&f);
    f.image.ranges.data[4].bytes = NULL;
    tt_fake_mark(&f, 2);
    assert_true(tt_fake_reached(&f, large));
    assert_true(tt_fake_reached(&f, other));
    assert_false(tt_fake_reached(&f, small));
    tt_fake_end(&f);
}

static void test_bad_lists(void **unused)
{
    (void)unused;
    struct tt_fake f;
    tt_fake_start(&f, 1 << 20);
    uint64_t a = tt_fake_block(&f, 40);
    assert_int_equal(tt_vec_push(&f.blocks.list, (struct tt_heap_block){a + 16, 40}), 0);
    assert_int_equal(tt_heap_index_build(&f.image, &f.blocks, &f.index, NULL), -EINVAL);
    f.blocks.list.data[1] = (struct tt_heap_block){1ull << 50, 40};
    assert_int_equal(tt_heap_index_build(&f.image, &f.blocks, &f.index, NULL), -EINVAL);
    f.blocks.list.len = 0; /* no blocks: nothing lost */
    tt_fake_mark(&f, 2);
    tt_fake_fold(&f);
    assert_int_equal(f.result.groups.len, 0);
    tt_fake_end(&f);
}

static void test_random_marks(void **unused)
{
    (void)unused;
    for (unsigned seed = 1; seed <= 60; seed++) {
        struct tt_fake f;
        tt_fake_seed(seed * 7919);
        tt_fake_start(&f, 1 << 20);
        size_t n = 300 + tt_fake_draw(300);
        struct tt_fake_graph g = tt_fake_random_graph(&f, n, n + tt_fake_draw(n), 3);
        bool *seen = calloc(n, 1);
        for (size_t i = 0; i < n; i++)
            if (g.rooted[i] && !seen[i])
                tt_fake_visit(&g, i, seen);
        tt_fake_mark(&f, 1 + seed % 4);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(tt_fake_reached(&f, g.address[i]), seen[i]);
        free(seen);
        tt_fake_graph_free(&g);
        tt_fake_end(&f);
    }
}

/* Every lost block must hang on a root that leads to it, and there must be as many roots as
 * components of the lost graph that no other lost component leads to. */
static void test_random_lost_roots(void **unused)
{
    (void)unused;
    for (unsigned seed = 1; seed <= 200; seed++) {
        struct tt_fake f;
        tt_fake_seed(seed * 104729);
        tt_fake_start(&f, 1 << 20);
        size_t n = 5 + tt_fake_draw(60);
        struct tt_fake_graph g = tt_fake_random_graph(&f, n, n / 2 + tt_fake_draw(n), 0);
        bool *reach = calloc(n * n, 1);
        for (size_t i = 0; i < n; i++)
            tt_fake_visit(&g, i, reach + i * n);
        size_t sources = 0;
        for (size_t i = 0; i < n; i++) {
            bool first = true, source = true;
            for (size_t k = 0; k < n; k++) {
                bool same = reach[i * n + k] && reach[k * n + i];
                first &= !(same && k < i);
                source &= !(reach[k * n + i] && !reach[i * n + k]);
            }
            sources += first && source;
        }
        tt_fake_mark(&f, 1);
        tt_fake_fold(&f);
        assert_int_equal(f.lost.list.len, n);
        assert_int_equal(f.lost.roots, sources);
        uint64_t roots = 0, hung = 0, units = 0;
        for (size_t i = 0; i < n; i++)
            assert_true(reach[f.lost.root[i] * n + i]);
        for (size_t i = 0; i < f.result.groups.len; i++) {
            roots += f.result.groups.data[i].roots;
            hung += f.result.groups.data[i].hung_units;
            units += f.result.groups.data[i].units;
            assert_int_not_equal(f.result.groups.data[i].sample[0], 0);
        }
        assert_int_equal(roots, sources);
        assert_int_equal(units, n);
        assert_int_equal(hung, n - sources);
        free(reach);
        tt_fake_graph_free(&g);
        tt_fake_end(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_and_split_blocks),
        cmocka_unit_test(test_bad_lists),
        cmocka_unit_test(test_random_marks),
        cmocka_unit_test(test_random_lost_roots),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
