/* SPDX-License-Identifier: Apache-2.0 */
/* The blob's sampler: the objects that it places in a region of its own are glibc's in every
 * respect, also after the end of the recording, and its slots and mappings are bounded. Start:
 * sampled_objects_are_glibcs_own. */
#include "test_agent_blob_host.h"

#include <malloc.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Natively, as after detach. */
static void release_as_glibc(uint64_t block, unsigned how)
{
    uint64_t more;
    switch (how % 4) {
    case 0:
        __libc_free(block, 0, 0);
        return;
    case 1: /* grow: the pages move */
        more = __libc_realloc(block, 200000, 0);
        assert_memory_equal((void *)more, "content", 8);
        memset((void *)more, 1, 200000);
        __libc_free(more, 0, 0);
        return;
    case 2: /* shrink */
        more = __libc_realloc(block, 9, 0);
        assert_memory_equal((void *)more, "content", 8);
        __libc_free(more, 0, 0);
        return;
    default: /* a little more, in place or not */
        more = __libc_realloc(block, malloc_usable_size((void *)block) + 1, 0);
        assert_memory_equal((void *)more, "content", 8);
        __libc_free(more, 0, 0);
    }
}

static void sampled_objects_are_glibcs_own(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {1,    8,     24,    100,    4000,   4064,    4065,
                                     5000, 20000, 61000, 130000, 300000, 3u << 20};
    static const uint64_t aligns[] = {16, 32, 64, 512, 2048, 4096, 8192, 65536, 1u << 20};
    uint64_t block[4][64];
    for (unsigned round = 0; round < 4; round++) {
        unsigned n = 0;
        assert_int_equal(start_with(TT_MODE_SAMPLED, 1), 0);
        drop(make(1000)); /* the thread draws its first gap */
        uint64_t before = count().births;
        for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
            block[round][n++] = make(sizes[i] + 64);
        for (unsigned i = 0; i < sizeof aligns / sizeof aligns[0]; i++) {
            block[round][n] = call(0, TT_E_MEMALIGN, aligns[i], 500, 0);
            assert_int_equal(block[round][n++] % aligns[i], 0);
        }
        uint64_t *zero = (uint64_t *)call(0, TT_E_CALLOC, 100, 8, 0);
        for (unsigned i = 0; i < 100; i++)
            assert_int_equal(zero[i], 0);
        block[round][n++] = (uint64_t)zero;
        for (unsigned i = 0; i < n; i++) {
            assert_true(in_region(block[round][i]));
            size_t usable = malloc_usable_size((void *)block[round][i]);
            assert_int_equal(usable, call(0, TT_E_USABLE_SIZE, block[round][i], 0, 0));
            memset((void *)block[round][i], 0x5a, usable);
            strcpy((char *)block[round][i], "content");
        }
        assert_int_equal(count().births, before + n);
        /* some released while followed, others of the earlier rounds meanwhile */
        for (unsigned i = 0; i < n; i += 3)
            drop(block[round][i]);
        if (round > 0) {
            for (unsigned i = 1; i < n; i += 3)
                drop(block[round - 1][i]);
        }
        struct sum sum = count();
        assert_int_equal(sum.deaths, sum.births - sum.live);
        assert_int_equal(sum.live, n - (n + 2) / 3);
        assert_int_equal(order(TT_BLOB_PASS), 0);
        assert_int_equal(blob->detached_live, 0);
        for (unsigned i = 2; i < n; i += 3)
            release_as_glibc(block[round][i], i / 3 + round);
        close(blob->call.tape_fd);
    }
    /* exact mode knows nothing of them and needs not */
    assert_int_equal(start_with(TT_MODE_EXACT, 1), 0);
    for (unsigned i = 1; i < 23; i += 3)
        drop(block[3][i]);
    expect(0, 0);
}

static void a_wrong_release_is_glibcs_to_judge(void **state)
{
    (void)state;
    assert_int_equal(start_with(TT_MODE_SAMPLED, 1), 0);
    drop(make(1000));
    uint64_t block = make(100);
    assert_true(in_region(block));
    drop(block);
    pid_t child = fork();
    if (child == 0) {
        close(2);
        drop(block); /* twice */
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
}

static void slots_are_used_again(void **state)
{
    (void)state;
    assert_int_equal(start_with(TT_MODE_SAMPLED, 1), 0);
    drop(make(1000));
    uint64_t used = 0;
    for (int i = 0; i < 20000; i++) {
        uint64_t small = make(100), large = make(90000);
        assert_true(in_region(small) && in_region(large));
        *(uint64_t *)small = *(uint64_t *)large = 1;
        drop(small);
        drop(large);
        if (i == 100)
            used = head()->region_used;
    }
    assert_int_equal(head()->region_used, used);
}

static void mappings_are_bounded(void **state)
{
    (void)state;
    enum { MANY = 20000 };
    static uint64_t block[MANY];
    unsigned sampled = 0;
    assert_int_equal(start_with(TT_MODE_SAMPLED, 1), 0);
    for (unsigned i = 0; i < MANY; i++) {
        block[i] = make(64);
        sampled += (unsigned)in_region(block[i]);
    }
    assert_in_range(sampled, 1000, 65530 / 5);
    assert_true(head()->dropped[TT_DROP_SAMPLES] > 0);
    for (unsigned i = 0; i < MANY; i++)
        drop(block[i]);
    uint64_t last = make(64);
    assert_true(in_region(last));
    drop(last);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(sampled_objects_are_glibcs_own, fresh, away),
        cmocka_unit_test_setup_teardown(a_wrong_release_is_glibcs_to_judge, fresh, away),
        cmocka_unit_test_setup_teardown(slots_are_used_again, fresh, away),
        cmocka_unit_test_setup_teardown(mappings_are_bounded, fresh, away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
