/* SPDX-License-Identifier: Apache-2.0 */
/* Other functions than glibc's malloc behind the blob: a second allocator, an arena of the test's,
 * operator new and dlclose. Start: sets_share_a_tape. */
#include "test_agent_blob_host.h"

#include <string.h>

static uint8_t arena[1 << 20];
static size_t arena_used, arena_released;
static const void *arena_last;

static uint64_t arena_malloc(uint64_t size, uint64_t b, uint64_t c)
{
    (void)b;
    (void)c;
    uint64_t at = (uint64_t)arena + arena_used;
    arena_used += (size + 15) & ~15ULL;
    assert_true(arena_used <= sizeof arena);
    return at;
}

static uint64_t arena_free(uint64_t block, uint64_t b, uint64_t c)
{
    (void)b;
    (void)c;
    assert_false(in_region(block));
    arena_last = (const void *)block;
    arena_released++;
    return 0;
}

static uint64_t arena_realloc(uint64_t block, uint64_t size, uint64_t c)
{
    uint64_t at = arena_malloc(size, 0, c);
    if (block)
        memcpy((void *)at, (void *)block, 8);
    return at;
}

static void use_arena(void)
{
    struct tt_blob_call *c = &blob->call;
    arena_used = arena_released = 0;
    c->real[2][TT_E_MALLOC] = arena_malloc;
    c->real[2][TT_E_FREE] = arena_free;
    c->real[2][TT_E_REALLOC] = arena_realloc;
    c->host.granule_shift = 4;
    c->host.size_floor = 9;
}

static void sets_share_a_tape(void **state)
{
    (void)state;
    use_arena();
    assert_int_equal(start_with(TT_MODE_EXACT, 1), 0);
    uint64_t a = call(2, TT_E_MALLOC, 1, 0, 0), b = call(2, TT_E_MALLOC, 50, 0, 0), d = make(70);
    assert_true(a >= (uint64_t)arena && a < (uint64_t)arena + sizeof arena);
    expect(3, 0);
    b = call(2, TT_E_REALLOC, b, 60, 0);
    expect(4, 1);
    call(2, TT_E_FREE, a, 0, 0);
    assert_ptr_equal(arena_last, (const void *)a);
    call(2, TT_E_FREE, b, 0, 0);
    drop(d);
    expect(4, 4);
    assert_int_equal(arena_released, 2);
}

static void another_allocators_objects_keep_their_hooks(void **state)
{
    (void)state;
    uint64_t block[8];
    use_arena();
    assert_int_equal(start_with(TT_MODE_SAMPLED, 1), 0);
    drop(make(1000));
    for (int i = 0; i < 8; i++) {
        block[i] = call(2, TT_E_MALLOC, 100, 0, 0);
        assert_true(in_region(block[i]));
        strcpy((char *)block[i], "content");
    }
    assert_int_equal(order(TT_BLOB_PASS), 0);
    assert_int_equal(blob->detached_live, 8);
    call(2, TT_E_FREE, block[0], 0, 0);
    assert_false(in_region(call(2, TT_E_MALLOC, 100, 0, 0)));
    uint64_t moved = call(2, TT_E_REALLOC, block[1], 2000, 0);
    assert_false(in_region(moved));
    assert_string_equal((char *)moved, "content");
    assert_int_equal(order(TT_BLOB_PASS), 0);
    assert_int_equal(blob->detached_live, 6);
    assert_int_equal(arena_released, 0);
    /* recorded exactly now, and still released rightly */
    assert_int_equal(start_with(TT_MODE_EXACT, 1), 0);
    call(2, TT_E_FREE, block[2], 0, 0);
    uint64_t plain = call(2, TT_E_MALLOC, 100, 0, 0);
    call(2, TT_E_FREE, plain, 0, 0);
    expect(1, 1);
    assert_int_equal(arena_released, 1);
    /* and quiet again, with a hook's own way back to itself ruled out */
    assert_int_equal(order(TT_BLOB_PASS), 0);
    assert_int_equal(blob->detached_live, 5);
    plain = call(2, TT_E_MALLOC, 100, 0, 0);
    call(2, TT_E_FREE, plain, 0, 0);
    assert_int_equal(arena_released, 2);
    assert_int_equal(start_with(TT_MODE_SAMPLED, 1), 0);
    for (int i = 3; i < 8; i++)
        call(2, TT_E_FREE, block[i], 0, 0);
    assert_int_equal(order(TT_BLOB_PASS), 0);
    assert_int_equal(blob->detached_live, 0);
}

static unsigned threw;
static uint64_t new_throws(uint64_t size, uint64_t b, uint64_t c)
{
    (void)b;
    (void)c;
    threw += size == 77;
    return 0;
}
static uint64_t new_nothrow(uint64_t size, uint64_t b, uint64_t c)
{
    return size == 77 ? 0 : __libc_malloc(size, b, c);
}
static uint64_t closed(uint64_t handle, uint64_t b, uint64_t c)
{
    (void)b;
    (void)c;
    return handle + 1;
}

static void new_and_dlclose(void **state)
{
    (void)state;
    blob->call.real[0][TT_E_NEW] = new_throws;
    blob->call.real[0][TT_E_NEW_NOTHROW] = new_nothrow;
    blob->call.real[0][TT_E_DELETE] = __libc_free;
    blob->call.real_dlclose = closed;
    threw = 0;
    assert_int_equal(start_with(TT_MODE_EXACT, 1), 0);
    uint64_t block = call(0, TT_E_NEW, 50, 0, 0);
    assert_true(block != 0);
    call(0, TT_E_DELETE, block, 0, 0);
    expect(1, 1);
    assert_int_equal(call(0, TT_E_NEW, 77, 0, 0), 0);
    assert_int_equal(threw, 1);
    union {
        uint8_t *at;
        tt_real_fn *fn;
    } close_entry = {image + blob->entry_dlclose};
    uint64_t epoch = head()->module_epoch;
    assert_int_equal(close_entry.fn(41, 0, 0), 42);
    assert_int_equal(head()->module_epoch, epoch + 1);
    assert_int_equal(order(TT_BLOB_PASS), 0);
    assert_int_equal(close_entry.fn(41, 0, 0), 42);
    assert_int_equal(head()->module_epoch, epoch + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(sets_share_a_tape, fresh, away),
        cmocka_unit_test_setup_teardown(another_allocators_objects_keep_their_hooks, fresh, away),
        cmocka_unit_test_setup_teardown(new_and_dlclose, fresh, away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
