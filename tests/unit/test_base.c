/* SPDX-License-Identifier: Apache-2.0 */
/* The base room: errors, vectors, maps, text. Start: main's table. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/map.h"
#include "base/text.h"
#include "base/vec.h"

static void errors_carry_cause(void **state)
{
    (void)state;
    struct tt_error err = {0};
    assert_int_equal(tt_error_sys(&err, -ENOENT, "opening %s", "x.tt"), -ENOENT);
    assert_string_equal(err.text, "opening x.tt: No such file or directory");
    assert_int_equal(tt_error_wrap(&err, "session: "), -ENOENT);
    assert_string_equal(err.text, "session: opening x.tt: No such file or directory");
    assert_int_equal(tt_error_set(NULL, -EINVAL, "nobody listens"), -EINVAL);
}

static void vectors_grow(void **state)
{
    (void)state;
    TT_VEC(int) v = {0};
    for (int i = 0; i < 1000; i++)
        assert_int_equal(tt_vec_push(&v, i), 0);
    assert_int_equal(v.len, 1000);
    assert_int_equal(v.data[999], 999);
    assert_int_equal(tt_vec_reserve(&v, SIZE_MAX / 2), -ENOMEM);
    assert_int_equal(v.data[999], 999);
    tt_vec_free(&v);
}

static void maps_find_what_was_put(void **state)
{
    (void)state;
    struct tt_map map = {0};
    assert_null(tt_map_get(&map, 0));
    for (uint64_t k = 0; k < 5000; k++)
        assert_int_equal(tt_map_put(&map, k * 0x10000, k), 0);
    assert_int_equal(tt_map_put(&map, 0, 77), 0);
    assert_int_equal(map.len, 5000);
    assert_int_equal(*tt_map_get(&map, 0), 77);
    assert_int_equal(*tt_map_get(&map, 4999 * 0x10000), 4999);
    assert_null(tt_map_get(&map, 1));
    tt_map_free(&map);
}

static void numbers_read_well(void **state)
{
    (void)state;
    char b[32];
    assert_string_equal(tt_text_count(b, 0), "0");
    assert_string_equal(tt_text_count(b, 999), "999");
    assert_string_equal(tt_text_count(b, 1234567), "1,234,567");
    assert_string_equal(tt_text_count(b, UINT64_MAX), "18,446,744,073,709,551,615");
    assert_string_equal(tt_text_size(b, 1), "1 byte");
    assert_string_equal(tt_text_size(b, 40), "40 bytes");
    assert_string_equal(tt_text_size(b, 80000), "78.1 KiB");
    assert_string_equal(tt_text_size(b, 8.1 * 1048576), "8.1 MiB");
    assert_string_equal(tt_text_duration(b, 0.35), "350 ms");
    assert_string_equal(tt_text_duration(b, 61), "61 s");
    assert_string_equal(tt_text_duration(b, 61 * 86400.0), "61 days");
}

static void templates_expand(void **state)
{
    (void)state;
    char *name = tt_text_expand("a-%p%%.tt", 42);
    assert_string_equal(name, "a-42%.tt");
    free(name);
    errno = 0;
    assert_null(tt_text_expand("a-%q", 42));
    assert_int_equal(errno, EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_carry_cause),     cmocka_unit_test(vectors_grow),
        cmocka_unit_test(maps_find_what_was_put), cmocka_unit_test(numbers_read_well),
        cmocka_unit_test(templates_expand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
