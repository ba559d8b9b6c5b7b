/* SPDX-License-Identifier: Apache-2.0 */
/* Articles about resources other than heap blocks, one of each that reads differently, against
 * golden files: descriptors with a limit, sockets whose peer has gone, threads, a declared handle
 * with its owners, a capacity limit, units that nothing was seen to acquire. */
#include <stdio.h>
#include <string.h>

#include "test_report_world.h"

static struct tt_finding *leak(struct world *w, const char *resource, uint64_t births,
                               uint64_t deaths)
{
    struct tt_finding *f = add_finding(w, TT_VERDICT_LEAK_RETAINED);
    f->resource = resource;
    f->size_min = f->size_max = 1;
    f->births = births;
    f->deaths = deaths;
    f->live = f->lost_units = births - deaths;
    f->lost_bytes = (double)f->lost_units;
    f->confidence = 0.99;
    f->rate.per_second = (double)f->lost_units / 90;
    f->rate.per_second_interval =
        (struct tt_interval){0.9 * f->rate.per_second, 1.1 * f->rate.per_second};
    f->forecast.per_day = f->rate.per_second * 86400;
    return f;
}

static void limit(struct tt_finding *f, const char *name, double value, double seconds)
{
    f->forecast.known = f->forecast.counts = true;
    snprintf(f->forecast.limit_name, sizeof f->forecast.limit_name, "%s", name);
    f->forecast.limit = value;
    f->forecast.seconds = seconds;
    f->forecast.interval = (struct tt_interval){0.8 * seconds, 1.3 * seconds};
}

static void test_descriptors(void **state)
{
    (void)state;
    struct world w;
    world_begin(&w);
    struct tt_finding *f = leak(&w, "fd", 540, 180);
    f->rate.has_operation = f->rate.exact = true;
    f->rate.per_operation = 1;
    f->rate.operations = 360;
    f->rate.intervals = f->rate.intervals_held = 41;
    f->rate.per_operation_interval = (struct tt_interval){1, 1};
    f->rate.operation_source = "declared";
    snprintf(f->rate.operation, sizeof f->rate.operation, "failed request");
    limit(f, "RLIMIT_NOFILE", 4096, 900);
    expect_all(&w.input, "resource-fd");
    world_end(&w);
}

static void test_sockets(void **state)
{
    (void)state;
    struct world w;
    world_begin(&w);
    struct tt_finding *f = leak(&w, "socket", 400, 340);
    f->state = (struct tt_state_fact){.name = "CLOSE_WAIT",
                                      .words = "the peer has gone, the descriptor is still open",
                                      .now = 60,
                                      .units = 58,
                                      .of = 60,
                                      .oldest = 85};
    limit(f, "RLIMIT_NOFILE", 1024, 1440);
    PUSH(f->evidence, (struct tt_evidence){.kind = "state",
                                           .value = 58,
                                           .log_e = NAN,
                                           .text = "58 of 60 live are in CLOSE_WAIT for longer "
                                                   "than 30 s (85 s): the peer has gone, the "
                                                   "descriptor is still open"});
    PUSH(f->evidence,
         (struct tt_evidence){
             .kind = "with", .value = 60, .log_e = NAN, .text = "with them stay 60 local ports"});
    expect_all(&w.input, "resource-socket");
    world_end(&w);
}

static void test_threads(void **state)
{
    (void)state;
    struct world w;
    world_begin(&w);
    struct tt_finding *f = leak(&w, "thread", 90, 0);
    limit(f, "cgroup pids.max", 90, 0);
    PUSH(f->evidence, (struct tt_evidence){.kind = "exhausted",
                                           .value = 61,
                                           .log_e = NAN,
                                           .text = "cgroup pids.max = 90 is used up since 61 s: 90 "
                                                   "in use, 90 of them of this site"});
    expect_all(&w.input, "resource-thread");
    world_end(&w);
}

static void test_declared_handles(void **state)
{
    (void)state;
    struct world w;
    world_begin(&w);
    struct tt_finding *f = leak(&w, "port grant", 120, 20);
    f->owner = (struct tt_owner_fact){.known = true,
                                      .units = 100,
                                      .owners = 12,
                                      .outlived = 90,
                                      .outlives = true,
                                      .host = "10.0.0.7",
                                      .text = "only on behalf of clients from 10.0.0.7, in 12 "
                                              "connections"};
    limit(f, "limit of port grant", 1000, 810);
    expect_all(&w.input, "resource-declared");
    world_end(&w);
}

static void test_what_is_no_leak(void **state)
{
    (void)state;
    struct world w;
    world_begin(&w);
    struct tt_finding *f = add_finding(&w, TT_VERDICT_CAPACITY);
    f->resource = "port grant";
    f->births = 480;
    f->deaths = 380;
    f->live = 100;
    f->capacity = (struct tt_capacity_fact){.known = true,
                                            .limit_name = "limit of port grant",
                                            .limit = 100,
                                            .peak = 100,
                                            .delay = 240,
                                            .plateau = 98.5};
    snprintf(
        f->note, sizeof f->note,
        "100 of 100 (limit of port grant) in use: each comes back 240 s after it was acquired, "
        "more than 0.417 a second exhaust it; recovers in 4 min without load");
    f = add_finding(&w, TT_VERDICT_UNDETERMINED);
    f->resource = "fd";
    f->site = 1048577;
    f->stack = 0;
    f->live = 31;
    snprintf(f->place, sizeof f->place, "pipe: opened by a way that is not watched");
    snprintf(f->note, sizeof f->note, "31 units kept so far");
    f = add_finding(&w, TT_VERDICT_STEADY);
    f->resource = "library";
    f->live = 1;
    snprintf(f->note, sizeof f->note, "1 made, the last 88 s before the end");
    expect_all(&w.input, "resource-others");
    world_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_descriptors),     cmocka_unit_test(test_sockets),
        cmocka_unit_test(test_threads),         cmocka_unit_test(test_declared_handles),
        cmocka_unit_test(test_what_is_no_leak),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
