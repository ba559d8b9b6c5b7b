/* SPDX-License-Identifier: Apache-2.0 */
/* The table of unwind rows when several threads are at it: nobody waits for a row that another one
 * computes, and what is computed from code that is unloaded meanwhile does not come back. Mappings
 * and rows are the test's own; what happens in the middle of a computing is what `amid` says.
 * Start: forgotten_while_computed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <pthread.h>
#include <sched.h>

#include "agent/agent.h"

#define RA 0x401000u /* and further ones, each in a mapping of its own */
#define STEP 0x1000u
#define MANY 64u
#define THREADS 3u
#define LOADS 2000u
#define GONE 9u /* an owner that never gives */

struct tt_agent tt_agent;
uint32_t tt_sandboxed;
static struct tt_tape_head head;
static uint32_t alive;
static struct tt_thread thread[THREADS + 1];

static uint32_t version; /* of all modules; odd: not mapped */
static uint32_t computed, readings;
static void (*amid)(uint64_t ra);
static jmp_buf out;

/* ---- what row.c needs of the rest of the core ---- */

int tt_maps_read(char *text)
{
    (void)text;
    readings++;
    return 0;
}

void tt_maps_drop(void)
{
}

int tt_maps_find(uint64_t address, struct tt_map *m, uint64_t *header)
{
    (void)m;
    (void)header;
    return address >= RA && address < RA + (uint64_t)MANY * STEP &&
           __atomic_load_n(&version, __ATOMIC_ACQUIRE) % 2 == 0;
}

/* The row says of which version of the code it is. */
struct tt_row tt_dwarf_row(uint64_t pc)
{
    struct tt_row row = {TT_ROW_RSP, TT_RBP_SAME, 0,
                         (int32_t)__atomic_load_n(&version, __ATOMIC_ACQUIRE)};
    __atomic_fetch_add(&computed, 1, __ATOMIC_RELAXED);
    if (amid)
        amid(pc + 1);
    return row;
}

static int fresh(void **state)
{
    (void)state;
    memset(&tt_agent, 0, sizeof tt_agent);
    memset(&head, 0, sizeof head);
    alive = 1;
    head.state = TT_STATE_RUNNING;
    tt_agent.alive = &alive;
    tt_agent.head = &head;
    for (uint32_t i = 0; i <= THREADS; i++)
        thread[i].index = i;
    version = computed = readings = 0;
    amid = NULL;
    return 0;
}

/* ---- one at a time ---- */

static void kept(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < MANY; i++)
        assert_int_equal(tt_row_get(&thread[0], RA + 1 + i * STEP).kind, TT_ROW_RSP);
    assert_int_equal(computed, MANY);
    for (uint32_t i = 0; i < MANY; i++)
        assert_int_equal(tt_row_get(&thread[1], RA + 1 + i * STEP).kind, TT_ROW_RSP);
    assert_int_equal(computed, MANY);
    assert_int_equal(tt_agent.row_count, MANY);
    assert_int_equal(readings, 0);
    assert_int_equal(tt_row_get(&thread[0], 1).kind, TT_ROW_NONE); /* a stray word */
    assert_int_equal(readings, 1);
    assert_int_equal(tt_agent.row_count, MANY);
}

/* Another thread needs the same row, and another one. */
static void others_go_on(uint64_t ra)
{
    amid = NULL;
    assert_int_equal(tt_agent.row_lock.word, 0);
    assert_int_equal(tt_row_get(&thread[1], ra).kind, TT_ROW_RSP);
    assert_int_equal(tt_row_get(&thread[1], ra + STEP).kind, TT_ROW_RSP);
}

static void two_compute_the_same(void **state)
{
    (void)state;
    amid = others_go_on;
    assert_int_equal(tt_row_get(&thread[0], RA + 1).kind, TT_ROW_RSP);
    assert_int_equal(computed, 3);
    assert_int_equal(tt_agent.row_count, 2);
    assert_int_equal(tt_row_get(&thread[0], RA + 1).kind, TT_ROW_RSP);
    assert_int_equal(computed, 3);
    assert_int_equal(head.dropped[TT_DROP_ROWS], 0);
}

/* Somebody who holds the table's lock, for as long as he likes. */
static void lock_of_another(void **state)
{
    (void)state;
    tt_agent.row_lock.word = GONE;
    assert_int_equal(tt_row_get(&thread[0], RA + 1).kind, TT_ROW_RSP);
    assert_int_equal(tt_row_get(&thread[0], RA + 1).kind, TT_ROW_RSP);
    assert_int_equal(computed, 2); /* not kept, and not lost */
    assert_int_equal(tt_agent.row_lock.word, GONE);
    assert_int_equal(head.dropped[TT_DROP_ROWS], 0);
    tt_lock_give(&tt_agent.row_lock, GONE);
    tt_row_get(&thread[0], RA + 1);
    tt_row_get(&thread[0], RA + 1);
    assert_int_equal(computed, 3);
}

/* The module goes, and another one comes to its place. */
static void reload(uint64_t ra)
{
    (void)ra;
    amid = NULL;
    __atomic_store_n(&version, version + 1, __ATOMIC_RELEASE);
    tt_row_forget(&thread[1]);
    __atomic_store_n(&version, version + 1, __ATOMIC_RELEASE);
}

static void forgotten(void **state)
{
    (void)state;
    assert_int_equal(tt_row_get(&thread[0], RA + 1).cfa_off, 0);
    reload(0);
    assert_int_equal(head.module_epoch, 1);
    assert_int_equal(tt_row_get(&thread[0], RA + 1).cfa_off, 2);
    assert_int_equal(tt_agent.row_count, 1); /* in the same place */
}

static void forgotten_while_computed(void **state)
{
    (void)state;
    amid = reload;
    assert_int_equal(tt_row_get(&thread[0], RA + 1).cfa_off, 0); /* of what was there */
    assert_int_equal(tt_row_get(&thread[0], RA + 1).cfa_off, 2);
    assert_int_equal(tt_row_get(&thread[1], RA + 1).cfa_off, 2);
    assert_int_equal(computed, 2);
}

/* The same at an attach, which begins with an empty table. */
static void again(uint64_t ra)
{
    (void)ra;
    amid = NULL;
    version += 2;
    tt_row_again();
}

static void attached_again_while_computed(void **state)
{
    (void)state;
    assert_int_equal(tt_row_get(&thread[0], RA + 1 + STEP).cfa_off, 0);
    amid = again;
    assert_int_equal(tt_row_get(&thread[0], RA + 1).cfa_off, 0);
    assert_int_equal(tt_row_get(&thread[0], RA + 1).cfa_off, 2);
    assert_int_equal(tt_row_get(&thread[0], RA + 1 + STEP).cfa_off, 2);
}

static void leave(uint64_t ra)
{
    (void)ra;
    amid = NULL;
    longjmp(out, 1);
}

static void left_by_longjmp(void **state)
{
    (void)state;
    amid = leave;
    if (setjmp(out) == 0) {
        tt_row_get(&thread[0], RA + 1);
        fail();
    }
    assert_int_equal(tt_agent.row_lock.word, 0);
    assert_int_equal(tt_row_get(&thread[1], RA + 1).kind, TT_ROW_RSP);
    assert_int_equal(tt_agent.row_count, 1);
}

/* ---- all at once ---- */

static uint32_t wrong, done;

static void yield(uint64_t ra)
{
    (void)ra;
    sched_yield();
}

static void *unwinds(void *arg)
{
    for (uint32_t i = 0; !__atomic_load_n(&done, __ATOMIC_ACQUIRE); i++) {
        int32_t before = (int32_t)__atomic_load_n(&version, __ATOMIC_ACQUIRE);
        struct tt_row row = tt_row_get(arg, RA + 1 + (uint64_t)(i % MANY) * STEP);
        if (row.kind != TT_ROW_NONE && row.cfa_off < before - before % 2)
            __atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

/* Code comes and goes while threads unwind through it: no row is older than the code was when it
 * was asked for. */
static void loads_beside_unwinding(void **state)
{
    (void)state;
    pthread_t t[THREADS];
    wrong = done = 0;
    amid = yield;
    for (uint32_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, unwinds, &thread[1 + i]), 0);
    for (uint32_t i = 0; i < LOADS; i++) {
        __atomic_store_n(&version, version + 1, __ATOMIC_RELEASE);
        tt_row_forget(&thread[0]);
        __atomic_store_n(&version, version + 1, __ATOMIC_RELEASE);
        sched_yield();
    }
    __atomic_store_n(&done, 1, __ATOMIC_RELEASE);
    for (uint32_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(t[i], NULL), 0);
    assert_int_equal(wrong, 0);
    assert_int_equal(tt_agent.row_lock.word, 0);
    assert_in_range(tt_agent.row_count, 0, MANY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(kept, fresh),
        cmocka_unit_test_setup(two_compute_the_same, fresh),
        cmocka_unit_test_setup(lock_of_another, fresh),
        cmocka_unit_test_setup(forgotten, fresh),
        cmocka_unit_test_setup(forgotten_while_computed, fresh),
        cmocka_unit_test_setup(attached_again_while_computed, fresh),
        cmocka_unit_test_setup(left_by_longjmp, fresh),
        cmocka_unit_test_setup(loads_beside_unwinding, fresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
