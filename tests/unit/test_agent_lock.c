/* SPDX-License-Identifier: Apache-2.0 */
/* The lock of the agent's rare paths: it excludes, and nobody stays in it for an owner that is not
 * there any more. The agent's state is the test's own. Start: leaves_with_the_recording. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <sched.h>

#include "agent/agent.h"

#define THREADS 4u
#define ROUNDS 20000u
#define GONE 5u /* an owner that never gives */

struct tt_agent tt_agent;
static struct tt_tape_head head;
static uint32_t alive;
static struct tt_lock lock;
static uint64_t count; /* under the lock */

static int fresh(void **state)
{
    (void)state;
    alive = 1;
    head.state = TT_STATE_RUNNING;
    tt_agent.alive = &alive;
    tt_agent.head = &head;
    lock.word = 0;
    count = 0;
    return 0;
}

static void *takes(void *arg)
{
    (void)arg;
    return (void *)(uintptr_t)tt_lock_take(&lock, 7);
}

/* Starts a thread that waits for the lock. */
static pthread_t waiter(void)
{
    pthread_t t;
    lock.word = GONE;
    assert_int_equal(pthread_create(&t, NULL, takes, NULL), 0);
    while (!(__atomic_load_n(&lock.word, __ATOMIC_RELAXED) & TT_LOCK_WAIT))
        sched_yield();
    return t;
}

static int taken(pthread_t t)
{
    void *result;
    assert_int_equal(pthread_join(t, &result), 0);
    return result != NULL;
}

static void leaves_with_the_recording(void **state)
{
    (void)state;
    pthread_t t = waiter();
    __atomic_store_n(&alive, 3, __ATOMIC_RELEASE); /* detached */
    assert_false(taken(t));
    fresh(state);
    t = waiter();
    __atomic_store_n(&head.state, TT_STATE_QUIET, __ATOMIC_RELEASE); /* the recorder is gone */
    assert_false(taken(t));
}

static void leaves_an_owner_that_is_gone(void **state)
{
    (void)state;
    assert_false(taken(waiter()));
    assert_int_equal(lock.word & TT_LOCK_ID, GONE);
    assert_true(lock.word & TT_LOCK_LOST);
    assert_false(tt_lock_take(&lock, 8)); /* at once now */
    tt_lock_give(&lock, GONE);            /* it comes back after all */
    assert_true(tt_lock_take(&lock, 8));
    assert_int_equal(lock.word, 8);
}

static void follows_its_owner(void **state)
{
    (void)state;
    pthread_t t = waiter();
    tt_lock_give(&lock, GONE);
    assert_true(taken(t));
    assert_int_equal(lock.word & TT_LOCK_ID, 7);
}

static void stays_whose_it_is(void **state)
{
    (void)state;
    assert_true(tt_lock_take(&lock, 1));
    lock.word = 0; /* opened, as when a recording begins */
    assert_true(tt_lock_take(&lock, 2));
    tt_lock_give(&lock, 1);
    assert_int_equal(lock.word, 2);
    assert_false(tt_lock_try(&lock, 3));
    tt_lock_give(&lock, 2);
    assert_true(tt_lock_try(&lock, 3));
}

static void *adds(void *arg)
{
    uint32_t id = (uint32_t)(uintptr_t)arg;
    for (unsigned i = 0; i < ROUNDS; i++) {
        while (!tt_lock_take(&lock, id))
            ;
        count++;
        tt_lock_give(&lock, id);
    }
    return NULL;
}

static void excludes(void **state)
{
    (void)state;
    pthread_t t[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, adds, (void *)(i + 1)), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(count, (uint64_t)THREADS * ROUNDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(leaves_with_the_recording, fresh),
        cmocka_unit_test_setup(leaves_an_owner_that_is_gone, fresh),
        cmocka_unit_test_setup(follows_its_owner, fresh),
        cmocka_unit_test_setup(stays_whose_it_is, fresh),
        cmocka_unit_test_setup(excludes, fresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
