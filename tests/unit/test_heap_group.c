/* SPDX-License-Identifier: Apache-2.0 */
/* Shapes of blocks and groups of lost ones, on made-up images. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "test_heap_fake.h"

static void test_groups(void **unused)
{
    (void)unused;
    struct tt_fake f;
    tt_fake_start(&f, 4 << 20);
    tt_fake_seed(42);
    for (int i = 0; i < 1000; i++)
        for (enum tt_fake_sort s = 0; s < SORTS; s++)
            if (s != NODE || i % 2)
                tt_fake_plant(&f, s);
    uint64_t list = 0; /* one lost list: one root */
    for (int i = 0; i < 100; i++) {
        uint64_t node = tt_fake_block(&f, 120);
        *tt_fake_word(&f, node + 16) = list;
        list = node;
    }
    for (int i = 0; i < 50; i++) { /* contents without a pattern */
        uint64_t b = tt_fake_block(&f, 248);
        for (int k = 0; k < 31; k++)
            *tt_fake_word(&f, b + 8 * (uint64_t)k) =
                tt_fake_draw(3) ? tt_fake_draw(1u << 30) << 30 | tt_fake_draw(1u << 30)
                                : tt_fake_draw(9);
    }
    tt_fake_mark(&f, 2);
    tt_fake_fold(&f);
    assert_int_equal(f.result.groups.len, SORTS + 2);
    unsigned seen = 0;
    for (size_t i = 0; i < f.result.groups.len; i++) {
        const struct tt_heap_group *g = &f.result.groups.data[i];
        if (i)
            assert_true(g->bytes <= g[-1].bytes);
        if (g->size_min == 120) {
            assert_int_equal(g->units, 100);
            assert_int_equal(g->roots, 1);
            assert_int_equal(g->hung_units, 99);
            assert_int_equal(g->sample[0], list);
            continue;
        }
        if (g->size_min == 248) {
            assert_int_equal(g->units, 50);
            continue;
        }
        assert_int_equal(g->roots, g->units);
        seen += g->units == 1000 ? 1 : g->units == 500 ? 100 : 1000;
        if (strstr(g->shape, "constants of prog+0x21c0"))
            assert_non_null(strstr(g->shape, "text \"sip:user"));
    }
    assert_int_equal(seen, 104);
    tt_fake_end(&f);
}

static void test_shape_text(void **unused)
{
    (void)unused;
    struct tt_fake f;
    tt_fake_start(&f, 1 << 20);
    tt_fake_seed(7);
    uint64_t b = tt_fake_plant(&f, CALL), target = tt_fake_block(&f, 120);
    *tt_fake_word(&f, b + 48) = target;
    tt_fake_mark(&f, 1);
    tt_fake_fold(&f);
    char text[240], tiny[24];
    uint32_t number = tt_heap_find(&f.index, b);
    tt_heap_shape_text(&f.shaper, number, tt_fake_name_it, NULL, text, sizeof text);
    assert_non_null(strstr(text, "56 bytes: +0 pointer into prog call_ops+0x0 (struct ops)"));
    assert_non_null(strstr(text, "; +24 text \"sip:user"));
    assert_non_null(strstr(text, "; +48 pointer to a block of 120"));
    tt_heap_shape_text(&f.shaper, number, NULL, NULL, tiny, sizeof tiny);
    assert_string_equal(tiny, "56 bytes");
    tt_heap_shape_text(&f.shaper, tt_heap_find(&f.index, target), NULL, NULL, text, sizeof text);
    assert_string_equal(text, "120 bytes: no pointers, no text");
    tt_fake_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_shape_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
