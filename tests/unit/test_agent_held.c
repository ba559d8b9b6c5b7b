/* SPDX-License-Identifier: Apache-2.0 */
/* The table of held units keeps every unit as long as there is room: values that lie side by side,
 * as those of programs do, may fill three quarters of it. The tape is the test's own memory, and no
 * stacks are taken, so births go to no site. Start: dense. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <sys/mman.h>

#include "agent/held.h"

#define SHARED (TT_TAPE_HELD - TT_TAPE_HELD_FDS)
#define MAPPINGS 0x7f0000000000ULL

struct tt_agent tt_agent;
static const struct tt_where nowhere;

/* What held.c needs of the rest of the core, and does not come to here. */
int tt_thread_nested(struct tt_thread *t, uint64_t sp)
{
    (void)t;
    (void)sp;
    abort();
}

void tt_thread_tally(struct tt_thread *t, struct tt_tape_tally *place, uint32_t site)
{
    (void)t;
    (void)place;
    (void)site;
    abort();
}

uint32_t tt_stack_site(struct tt_thread *t, const uint64_t *slot, uint64_t rbp,
                       struct tt_memo *memo)
{
    (void)t;
    (void)slot;
    (void)rbp;
    (void)memo;
    abort();
}

void tt_live_sizes(uint32_t site, uint64_t size)
{
    (void)site;
    (void)size;
    abort();
}

void tt_live_release(struct tt_thread *t, uint64_t entry, uint64_t size, uint32_t weight,
                     const uint64_t *slot, uint64_t rbp)
{
    (void)t;
    (void)entry;
    (void)size;
    (void)weight;
    (void)slot;
    (void)rbp;
    abort();
}

uint32_t tt_owner_now(const struct tt_thread *t)
{
    (void)t;
    return 0;
}

void tt_owner_count(uint32_t id)
{
    (void)id;
}

void tt_owner_begin(void)
{
}

void tt_mapping_begin(void)
{
}

static int fresh(void **state)
{
    (void)state;
    if (tt_agent.base)
        munmap(tt_agent.base, TT_TAPE_OFF_OWNERS);
    void *tape = mmap(NULL, TT_TAPE_OFF_OWNERS, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (tape == MAP_FAILED)
        return -1;
    tt_agent.base = tape;
    tt_agent.head = tape;
    tt_held_begin();
    return 0;
}

/* Values first, first + step, ... */
struct run {
    uint32_t space;
    uint64_t first, step;
    uint32_t n;
};

static void acquire(const struct run *r)
{
    for (uint32_t i = 0; i < r->n; i++) {
        const struct tt_unit unit = {
            .value = r->first + i * r->step, .size = 1, .space = (uint8_t)r->space, .before = ~0U};
        tt_held_acquire(&nowhere, &unit);
    }
}

static void find(const struct run *r, int there)
{
    for (uint32_t i = 0; i < r->n; i++) {
        const struct tt_tape_held *row = tt_held_find(r->space, r->first + i * r->step);
        assert_int_equal(row != NULL, there);
        assert_true(!row || (row->value == r->first + i * r->step && row->space == r->space));
    }
}

static void release(const struct run *r)
{
    for (uint32_t i = 0; i < r->n; i++)
        assert_true(tt_held_release(&nowhere, r->space, r->first + i * r->step));
}

static void check(const struct run *runs, size_t n)
{
    for (unsigned again = 0; again < 2; again++) {
        for (size_t i = 0; i < n; i++)
            acquire(&runs[i]);
        for (size_t i = 0; i < n; i++)
            find(&runs[i], 1);
        for (size_t i = 0; i < n; i++)
            release(&runs[i]);
        for (size_t i = 0; i < n; i++)
            find(&runs[i], 0);
    }
    assert_int_equal(tt_agent.head->dropped[TT_DROP_HELD], 0);
    assert_int_equal(tt_agent.head->dropped[TT_DROP_UNSEEN], 0);
}

static void dense(void **state)
{
    (void)state;
    const struct run runs[] = {{TT_SPACE_FD, 0, 1, 20000},
                               {TT_SPACE_MAPPING, MAPPINGS, 0x1000, 20000}};
    check(runs, 2);
}

static void three_quarters_of_mappings(void **state)
{
    (void)state;
    const struct run runs[] = {{TT_SPACE_MAPPING, MAPPINGS, 0x1000, SHARED / 4 * 3}};
    check(runs, 1);
}

static void three_quarters_of_descriptors(void **state)
{
    (void)state;
    const struct run runs[] = {{TT_SPACE_FD, 0, 1, TT_TAPE_HELD_FDS + SHARED / 4 * 3}};
    check(runs, 1);
}

/* Of every kind side by side: small numbers, threads' stacks, objects on the heap. */
static void three_quarters_of_all(void **state)
{
    (void)state;
    const struct run runs[] = {{TT_SPACE_FD, 0, 1, TT_TAPE_HELD_FDS},
                               {TT_SPACE_PORT, 0, 1, 16000},
                               {TT_SPACE_CHILD, 1000, 1, 16000},
                               {TT_SPACE_SHM, 0, 32768, 8000},
                               {TT_SPACE_THREAD, MAPPINGS + 0x6c0, 0x801000, 16000},
                               {TT_SPACE_STREAM, 0x555555559000, 0x1e0, 16000},
                               {TT_SPACE_MAPPING, MAPPINGS, 0x2000, 16000},
                               {TT_SPACE_DECLARED, 1, 1, SHARED / 4 * 3 - 88000}};
    check(runs, sizeof runs / sizeof runs[0]);
}

/* The row of a descriptor is its own, whatever else is held. */
static void own_rows(void **state)
{
    (void)state;
    const struct run others[] = {{TT_SPACE_PORT, 0, 1, SHARED}}, all[] = {{TT_SPACE_FD, 0, 1, 100}};
    acquire(others);
    acquire(all);
    for (uint32_t fd = 0; fd < 100; fd++)
        assert_ptr_equal(tt_held_find(TT_SPACE_FD, fd), tt_held_rows() + fd);
}

/* A full table says what it does not follow. */
static void full(void **state)
{
    (void)state;
    const struct run all = {TT_SPACE_DECLARED, 1, 1, SHARED + 1000};
    uint32_t found = 0;
    acquire(&all);
    for (uint32_t i = 0; i < all.n; i++)
        found += tt_held_find(all.space, all.first + i) != NULL;
    assert_int_equal(found + tt_agent.head->dropped[TT_DROP_HELD], all.n);
    assert_true(found > SHARED / 100 * 95);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(dense, fresh),
        cmocka_unit_test_setup(three_quarters_of_mappings, fresh),
        cmocka_unit_test_setup(three_quarters_of_descriptors, fresh),
        cmocka_unit_test_setup(three_quarters_of_all, fresh),
        cmocka_unit_test_setup(own_rows, fresh),
        cmocka_unit_test_setup(full, fresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
