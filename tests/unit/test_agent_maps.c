/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's list of mappings while it is read anew: whoever looks into it waits for nobody and
 * always finds what is there. Built with maps.c itself, so that the test can leave a reading in the
 * middle. The list is the test's own process. Start: looked_in_while_read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <pthread.h>
#include <sys/mman.h>

#include "agent/maps.c" /* NOLINT(bugprone-suspicious-include) */

#define THREADS 3u
#define READINGS 100u
#define PAGE 4096u
#define PIECES (2u * MAPS_FIRST) /* mappings more, so that the list must grow */

struct tt_agent tt_agent;
uint32_t tt_sandboxed;
static struct tt_tape_head head = {.state = TT_STATE_RUNNING};
static uint32_t alive = 1;
static struct tt_thread thread;

const char *tt_text_find(const char *at, const char *end, char c)
{
    return at < end ? memchr(at, c, (size_t)(end - at)) : NULL;
}

static uint64_t here(void)
{
    return (uint64_t)&here;
}

static int is_elf(uint64_t header)
{
    return header && memcmp((const void *)header, "\177ELF", 4) == 0;
}

static int fresh(void **state)
{
    (void)state;
    tt_agent.alive = &alive;
    tt_agent.head = &head;
    return tt_maps_read(thread.text);
}

static void own_code(void **state)
{
    (void)state;
    struct tt_map m;
    uint64_t header, libc = (uint64_t)&memchr;
    assert_true(tt_maps_find(here(), &m, &header));
    assert_true(m.is & TT_IS_EXEC && m.is & TT_IS_READ);
    assert_true(m.lo <= here() && here() < m.hi);
    assert_true(is_elf(header));
    assert_true(tt_maps_find(libc, &m, &header));
    assert_true(is_elf(header));
    assert_true(tt_maps_find((uint64_t)&m, &m, &header)); /* the stack is no module's */
    assert_true(m.is & TT_IS_STACK);
    assert_int_equal(header, 0);
    assert_false(tt_maps_find(8, &m, NULL));
    assert_false(tt_maps_find(~0ULL, &m, NULL));
}

static void dropped(void **state)
{
    (void)state;
    struct tt_map m;
    tt_maps_drop();
    assert_false(tt_maps_find(here(), &m, NULL));
    assert_int_equal(tt_maps_read(thread.text), 0);
    assert_true(tt_maps_find(here(), &m, NULL));
}

/* A handler left the reading by longjmp: the list before it stays, and the next reading is whole.
 */
static void reading_left_midway(void **state)
{
    (void)state;
    struct tt_map m;
    struct tt_maps *before = tt_agent.maps, *torn = begin_list();
    assert_non_null(torn);
    assert_ptr_not_equal(torn, before);
    assert_int_equal(torn->turn % 2, 1);
    assert_true(tt_maps_find(here(), &m, NULL));
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(tt_maps_read(thread.text), 0);
        assert_int_equal(tt_agent.maps->turn % 2, 0);
        assert_true(tt_maps_find(here(), &m, NULL));
    }
}

/* What is seen of a list that is being written is not believed. */
static void list_in_writing(void **state)
{
    (void)state;
    struct tt_map m;
    tt_agent.maps->turn++;
    assert_false(tt_maps_find(here(), &m, NULL));
    tt_agent.maps->turn++;
    assert_true(tt_maps_find(here(), &m, NULL));
}

static void stack_of_the_first_thread(void **state)
{
    (void)state;
    struct tt_range r = tt_maps_stack(&thread, (uint64_t)&r);
    assert_true(r.lo <= (uint64_t)&r && (uint64_t)&r < r.hi);
    assert_int_equal(tt_agent.row_lock.word, 0);
    /* With the lock another's, for ever: what needs no reading is known all the same. */
    tt_agent.row_lock.word = 9;
    struct tt_range same = tt_maps_stack(&thread, (uint64_t)&r);
    assert_int_equal(same.lo, r.lo);
    assert_int_equal(same.hi, r.hi);
    tt_agent.row_lock.word = 0;
}

/* Each second page is another mapping. */
static uint8_t *make_pieces(void)
{
    uint8_t *at = mmap(NULL, (size_t)PIECES * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(at, MAP_FAILED);
    return at;
}

static void close_pieces(uint8_t *at, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++)
        if (i % 2)
            assert_int_equal(mprotect(at + (size_t)i * PAGE, PAGE, PROT_NONE), 0);
}

static void grows(void **state)
{
    (void)state;
    struct tt_map m;
    uint8_t *at = make_pieces();
    close_pieces(at, 0, PIECES);
    assert_int_equal(tt_maps_read(thread.text), 0);
    for (uint32_t i = 1; i + 1 < PIECES; i++) {
        assert_true(tt_maps_find((uint64_t)at + (uint64_t)i * PAGE, &m, NULL));
        assert_int_equal(m.is, i % 2 ? 0 : TT_IS_READ);
        assert_int_equal(m.hi - m.lo, PAGE);
    }
    munmap(at, (size_t)PIECES * PAGE);
}

static uint32_t missed, done;

static void *looks(void *arg)
{
    (void)arg;
    while (!__atomic_load_n(&done, __ATOMIC_ACQUIRE)) {
        struct tt_map m;
        uint64_t header = 0;
        if (!tt_maps_find(here(), &m, &header) || m.lo > here() || m.hi <= here() ||
            !(m.is & TT_IS_EXEC) || !is_elf(header))
            __atomic_fetch_add(&missed, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

static void looked_in_while_read(void **state)
{
    (void)state;
    pthread_t t[THREADS];
    uint8_t *at = make_pieces();
    missed = done = 0;
    for (uint32_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, looks, NULL), 0);
    for (uint32_t i = 0; i < READINGS; i++) {
        close_pieces(at, PIECES / READINGS * i, PIECES / READINGS * (i + 1));
        assert_int_equal(tt_maps_read(thread.text), 0);
    }
    __atomic_store_n(&done, 1, __ATOMIC_RELEASE);
    for (uint32_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(t[i], NULL), 0);
    assert_int_equal(missed, 0);
    munmap(at, (size_t)PIECES * PAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(own_code, fresh),
        cmocka_unit_test_setup(dropped, fresh),
        cmocka_unit_test_setup(reading_left_midway, fresh),
        cmocka_unit_test_setup(list_in_writing, fresh),
        cmocka_unit_test_setup(stack_of_the_first_thread, fresh),
        cmocka_unit_test_setup(grows, fresh),
        cmocka_unit_test_setup(looked_in_while_read, fresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
