/* SPDX-License-Identifier: Apache-2.0 */
/* The region of sampled objects when a signal handler left the agent by longjmp in its midst: what
 * is given out afterwards must be known as an object, since any other address goes to the real
 * allocator. Built with region.c itself, so that the test can leave it in such a state. Start:
 * full_span_still_listed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "agent/region.c" /* NOLINT(bugprone-suspicious-include) */

#define OBJECTS 100u

struct tt_agent tt_agent;
uint32_t tt_sandboxed;
static struct tt_tape_head head = {.state = TT_STATE_RUNNING};
static uint32_t alive[2] = {1, 1};
static struct tt_thread thread;

/* What region.c needs of the rest of the core. */
int tt_lock_take(struct tt_lock *lock, uint32_t id)
{
    lock->word = id;
    return 1;
}

int tt_lock_try(struct tt_lock *lock, uint32_t id)
{
    return tt_lock_take(lock, id);
}

void tt_lock_give(struct tt_lock *lock, uint32_t id)
{
    (void)id;
    lock->word = 0;
}

int tt_maps_read(char *text)
{
    (void)text;
    return -1;
}

void tt_maps_drop(void)
{
}

int tt_maps_find(uint64_t address, struct tt_map *m, uint64_t *header)
{
    (void)address;
    (void)m;
    (void)header;
    return 0;
}

static uint64_t take(void)
{
    int zero;
    uint64_t at = tt_region_take(&thread, 16, 16, &zero);
    assert_int_not_equal(at, 0);
    return at;
}

static void full_span_still_listed(void **state)
{
    (void)state;
    uint64_t object[OBJECTS];
    struct tt_region *r = tt_agent.region;
    const uint32_t in_span =
        1u << (SPAN_SHIFT - (CLASS_PAGE + 1)); /* each with a page as its hole */
    for (uint32_t i = 0; i < OBJECTS; i++) {
        object[i] = take();
        assert_int_not_equal(tt_region_slot(object[i]), 0);
        for (uint32_t k = 0; k < i; k++)
            assert_true(object[k] != object[i]);
        if (i % in_span == in_span - 1) { /* left before it was taken from the list */
            uint32_t index = (uint32_t)((object[i] - TT_REGION_BASE) >> SPAN_SHIFT);
            assert_int_equal(r->span[index].free, 0);
            list(r, index, 1);
        }
    }
    for (uint32_t i = 0; i < OBJECTS; i++) {
        tt_region_give(&thread, object[i], 16);
        assert_int_equal(tt_region_slot(object[i]), 0);
    }
    assert_int_equal(r->live, 0);
}

static int make(void **state)
{
    (void)state;
    tt_agent.head = &head;
    tt_agent.alive = alive;
    return tt_region_make();
}

int main(void)
{
#ifdef __SANITIZE_ADDRESS__
    return 0; /* its own heap lies where the region would */
#endif
    const struct CMUnitTest tests[] = {cmocka_unit_test(full_span_still_listed)};
    return cmocka_run_group_tests(tests, make, NULL);
}
