/* SPDX-License-Identifier: Apache-2.0 */
/* The agent under a recorder: the clock that it is given dates deaths, it goes quiet when asked or
 * when nobody beats any more, and without a configuration it records nothing.
 * Start: ages_and_release_stacks. */
#include "test_agent_run.h"

#include <stdio.h>

static void tick_on(struct tt_tape_head *head)
{
    head->now_tick = 100;
}

static void ages_and_release_stacks(void **state)
{
    struct run run;
    struct tape tape;
    (void)state;
    run_meddling(&run, "mode=exact", "phases", tick_on);
    tape_of(&run, &tape, 0);
    uint32_t site = 1;
    while (site < tape.head->site_count && !same_stack(&tape, &run, site, &run.truth[0]))
        site++;
    assert_true(site < tape.head->site_count);
    assert_int_equal(tape.sites[site].deaths[tt_tape_bin(100)], 60);
    assert_int_equal(tape.total[site].births, 100);
    /* The first 8 releases are sampled, then one in 64: 8 + 0 of 60. */
    const struct tt_tape_release *ring = (const void *)(tape.base + TT_TAPE_OFF_RING);
    unsigned samples = 0;
    for (uint32_t i = 0; i < tape.head->ring_head; i++) {
        assert_int_equal(ring[i].ready, i + 1);
        if (ring[i].site != site)
            continue;
        samples++;
        assert_int_equal(ring[i].age, 100);
        assert_int_equal(ring[i].tick, 100);
        assert_int_equal(ring[i].size, 48);
        assert_int_equal(ring[i].weight, 1);
        assert_true(ring[i].by < tape.head->site_count);
        assert_true(tape.sites[ring[i].by].flags & TT_SITE_RELEASE);
    }
    assert_int_equal(samples, 8);
    close_tape(&tape);
}

static void ask_for_quiet(struct tt_tape_head *head)
{
    head->want_quiet = 1;
}
static void stop_the_heart(struct tt_tape_head *head)
{
    head->start_ns -= 11000000000ULL; /* nobody ever beat, and it started 11 s ago */
}

static void goes_quiet(void **state)
{
    static meanwhile_fn *const why[] = {ask_for_quiet, stop_the_heart};
    static const char *const conf[] = {"mode=exact", "mode=sampled,mean=1,seed=9", "mode=adaptive"};
    (void)state;
    for (unsigned i = 0; i < 6; i++) {
        struct run run;
        run_meddling(&run, conf[i / 2], "phases", why[i % 2]);
        char path[120];
        struct tt_tape_head head;
        snprintf(path, sizeof path, "%s/tape.%d.0", tapes, (int)run.pid);
        FILE *f = fopen(path, "r");
        assert_non_null(f);
        assert_int_equal(fread(&head, sizeof head, 1, f), 1);
        fclose(f);
        assert_int_equal(head.state, TT_STATE_QUIET);
    }
}

static void without_configuration_nothing_is_recorded(void **state)
{
    struct run run;
    (void)state;
    run_fixture(&run, "mode=nonsense", "counts");
    assert_int_equal(count_tapes(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ages_and_release_stacks),
        cmocka_unit_test(goes_quiet),
        cmocka_unit_test(without_configuration_nothing_is_recorded),
    };
    return cmocka_run_group_tests(tests, tapes_make, tapes_remove);
}
