/* SPDX-License-Identifier: Apache-2.0 */
/* Attach and detach with a blob that only counts, on targets that notice what is wrong: what is
 * hooked, what stays hooked, and that the code is the same afterwards. Start: main's table. */
#include "test_inject_code.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "inject/inject.h"
#include "inject/internal.h"
#include "inject/load.h"
#include "test_inject_target.h"

#define MOVED (TT_E_DLCLOSE + 3) /* inject_blob.c: somebody else ran during the start */

static void entries_are_hooked_and_given_back(void **state)
{
    (void)state;
    NEEDS_PTRACE();
    struct tt_target_report *report;
    struct code before, during;
    pid_t pid = tt_target_spawn(TT_WORK_MALLOC, &report);
    read_code(pid, &before);
    struct tt_inject_attached a;
    assert_int_equal(attach(pid, &a), 0);
    assert_int_equal(a.notes.len, 0);
    assert_true(a.tape_fd >= 0 && a.entries >= 10 && !a.reused && a.slots == 0);
    read_code(pid, &during);
    assert_int_equal(differences(&before, &during), before.n);
    tt_target_await(pid, report, 3);
    assert_true(counted(&a, TT_E_MALLOC) > 100);
    assert_true(counted(&a, TT_E_FREE) > 100);
    assert_true(counted(&a, TT_E_REALLOC) > 10);
    assert_true(counted(&a, TT_E_CALLOC) > 10);
    assert_true(counted(&a, TT_E_POSIX_MEMALIGN) > 1);
    struct tt_inject_detached d;
    assert_int_equal(detach(pid, &d), 0);
    assert_true(d.found && d.restored == a.entries && d.kept == 0);
    expect_code(pid, &before);
    uint64_t end = counted(&a, TT_E_MALLOC);
    tt_target_await(pid, report, 3);
    assert_int_equal(counted(&a, TT_E_MALLOC), end);
    let_go(&a);
    assert_int_equal(detach(pid, &d), 0);
    assert_int_equal(d.restored, 0);
    tt_target_finish(pid, report);
}

static void cycles_leave_no_trace(void **state)
{
    (void)state;
    NEEDS_PTRACE();
#ifdef __SANITIZE_ADDRESS__
    skip(); /* its forks hold the memory map so long that threads, rightly, count as unstoppable */
#endif
    static const struct {
        unsigned work;
        int cycles;
    } runs[] = {
        {TT_WORK_MALLOC | TT_WORK_FLOAT, 100},
        {TT_WORK_MALLOC | TT_WORK_SIGNALS | TT_WORK_CHILDREN, 60},
        {TT_WORK_MALLOC | TT_WORK_WAITS | TT_WORK_SLEEPS, 40},
        {TT_WORK_MALLOC | TT_WORK_CROWD, 6},
    };
    for (size_t k = 0; k < sizeof runs / sizeof runs[0]; k++) {
        struct tt_target_report *report;
        struct code before;
        pid_t pid = tt_target_spawn(runs[k].work, &report);
        read_code(pid, &before);
        for (int i = 0; i < runs[k].cycles; i++) {
            struct tt_inject_attached a;
            struct tt_inject_detached d;
            assert_int_equal(attach(pid, &a), 0);
            assert_int_equal(a.reused, i > 0);
            assert_int_equal(a.notes.len, 0);
            if (i % 16 == 0)
                tt_target_await(pid, report, 1);
            assert_int_equal(detach(pid, &d), 0);
            assert_int_equal(d.restored, a.entries);
            let_go(&a);
        }
        expect_code(pid, &before);
        tt_target_finish(pid, report);
    }
}

/* A thread whose stack holds an address of the agent all the time, and one that never rests. */
struct restless {
    volatile uint64_t ticks, address, placed;
};

static void *ticks(void *arg)
{
    struct restless *r = arg;
    for (;;)
        r->ticks++;
    return NULL;
}

static void keep_address(struct restless *r)
{
    volatile uint64_t word[8];
    pthread_t t;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (pthread_create(&t, NULL, ticks, r) != 0)
        _exit(3);
    for (;;) {
        for (unsigned i = 0; i < 8; i++)
            word[i] = r->address;
        r->placed = word[7];
        usleep(1000);
    }
}

/* Such a word may be the return address of a thread that comes back into the agent in the middle of
 * its next start: then all threads stand still for that. */
static void none_comes_back_into_a_start(void **state)
{
    (void)state;
    NEEDS_PTRACE();
    struct restless *r =
        mmap(NULL, sizeof *r, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(r != MAP_FAILED);
    pid_t pid = fork();
    if (pid == 0)
        keep_address(r);
    struct tt_inject_attach_options o = options;
    for (int i = 0; i < 2; i++) {
        struct tt_inject_attached a;
        struct tt_inject_detached d;
        attach_with(pid, &o, &a);
        if (i == 1)
            assert_int_equal(counted(&a, MOVED), 0);
        assert_int_equal(detach(pid, &d), 0);
        o.conf.origin_ns = (uint64_t)&r->ticks;
        r->address = a.blob + 64;
        while (r->placed != r->address)
            sched_yield();
        let_go(&a);
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    munmap(r, sizeof *r);
}

/* With objects of the sampler left, releases stay hooked over several recordings and still lead to
 * the real functions; without, the next detach takes them out, with or without a recording before.
 */
static void releases_stay_for_live_objects(void **state)
{
    (void)state;
    NEEDS_PTRACE();
#ifdef __SANITIZE_ADDRESS__
    skip(); /* its allocator is followed, not glibc's, and that has other releases */
#endif
    struct tt_target_report *report;
    struct code before;
    pid_t pid = tt_target_spawn(TT_WORK_MALLOC | TT_WORK_SIGNALS, &report);
    read_code(pid, &before);
    unsigned entries = 0;
    static const uint32_t live[] = {5, 5, 0, 6, 0}; /* of six none is left a little later */
    for (size_t i = 0; i < sizeof live / sizeof live[0]; i++) {
        struct tt_inject_attach_options o = options;
        struct tt_inject_attached a;
        struct tt_inject_detached d;
        o.conf.rate = live[i];
        attach_with(pid, &o, &a);
        bool kept_before = i == 1 || i == 2;
        if (i == 0)
            entries = a.entries;
        assert_int_equal(a.entries, kept_before ? entries - 4 : entries);
        tt_target_await(pid, report, 8); /* whole rounds: two threads began theirs before */
        assert_true(counted(&a, TT_E_MALLOC) > 100);
        assert_true(counted(&a, TT_E_FREE) > 100);
        assert_int_equal(detach(pid, &d), 0);
        assert_int_equal(d.live, live[i]);
        assert_int_equal(d.kept, live[i] ? 4 : 0); /* free realloc reallocarray usable_size */
        assert_int_equal(d.kept + d.restored, entries);
        tt_target_await(pid, report, 2);
        if (i == 3) {
            assert_int_equal(detach(pid, &d), 0);
            assert_int_equal(d.live, 0);
            assert_int_equal(d.restored, 4);
        }
        let_go(&a);
    }
    expect_code(pid, &before);
    tt_target_finish(pid, report);
}

/* In sampled mode what only passes does not come by the blob; in exact mode after it everything
 * does, also by the entries of releases that stayed hooked in between. The stubs are made once. */
static void short_ways_serve_the_sampled_mode(void **state)
{
    (void)state;
    NEEDS_PTRACE();
#ifdef __SANITIZE_ADDRESS__
    skip(); /* its allocator is followed, not glibc's */
#endif
    static const uint32_t modes[] = {TT_MODE_SAMPLED, TT_MODE_EXACT,    TT_MODE_SAMPLED,
                                     TT_MODE_EXACT,   TT_MODE_ADAPTIVE, TT_MODE_EXACT};
    static const uint32_t live[] = {0, 0, 5, 0, 5, 0};
    struct tt_target_report *report;
    struct code before;
    uint64_t used = 0;
    pid_t pid = tt_target_spawn(TT_WORK_MALLOC | TT_WORK_SIGNALS, &report);
    read_code(pid, &before);
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        struct tt_inject_attach_options o = options;
        struct tt_inject_attached a;
        struct tt_inject_detached d;
        struct tt_target target;
        struct tt_load load;
        struct tt_error err = {0};
        o.conf.mode = modes[i];
        o.conf.rate = live[i];
        attach_with(pid, &o, &a);
        assert_int_equal(tt_target_open(pid, &target, &err), 0);
        assert_int_equal(tt_load_find(&target, "", &load), 0);
        tt_target_close(&target);
        assert_true(i == 0 || load.head.island[TT_ISLAND_NEAR_LIBC].used == used);
        used = load.head.island[TT_ISLAND_NEAR_LIBC].used;
        tt_target_await(pid, report, 8);
        /* Its countdown is never set again: each time it is asked. */
        assert_true(counted(&a, TT_E_MALLOC) > 100);
        if (modes[i] == TT_MODE_EXACT)
            assert_true(counted(&a, TT_E_FREE) > 100);
        else
            assert_int_equal(counted(&a, TT_E_FREE), 0);
        assert_int_equal(detach(pid, &d), 0);
        assert_int_equal(d.kept, live[i] ? 4 : 0);
        tt_target_await(pid, report, 2);
        let_go(&a);
    }
    expect_code(pid, &before);
    tt_target_finish(pid, report);
}

/* A telltale was killed between recording a jump over an entry that was hooked already and writing
 * it. */
static void what_was_only_recorded_is_forgotten(void **state)
{
    (void)state;
    NEEDS_PTRACE();
    struct tt_target_report *report;
    struct code before, during;
    pid_t pid = tt_target_spawn(TT_WORK_MALLOC, &report);
    read_code(pid, &before);
    struct tt_inject_attached a;
    struct tt_inject_detached d;
    struct tt_target target;
    struct tt_load load;
    struct tt_error err = {0};
    assert_int_equal(attach(pid, &a), 0);
    read_code(pid, &during);
    assert_int_equal(tt_target_open(pid, &target, &err), 0);
    assert_int_equal(tt_load_find(&target, "", &load), 0);
    struct tt_blob_patch record = {.address = during.at[0],
                                   .length = TT_RELOCATE_NEED,
                                   .entry = TT_LOAD_OPERATION,
                                   .is = {0xe9, 1, 2, 3, 4}};
    memcpy(record.was, during.bytes[0], TT_RELOCATE_NEED);
    assert_int_equal(tt_load_record(&target, &load, &record), 0);
    tt_target_close(&target);
    assert_int_equal(detach(pid, &d), 0);
    assert_int_equal(d.restored, a.entries);
    expect_code(pid, &before);
    let_go(&a);
    tt_target_finish(pid, report);
}

/* A counted operation is put back with the rest, and its pad is not written over by the next; the
 * same operation has the same place again. */
static void counted_operations_are_given_back(void **state)
{
    (void)state;
    NEEDS_PTRACE();
    struct tt_target_report *report;
    pid_t pid = tt_target_spawn(TT_WORK_MALLOC | TT_WORK_SIGNALS, &report);
    uint64_t function = (uint64_t)(uintptr_t)tt_target_done, used = 0;
    uint8_t before[16], after[16];
    struct tt_target target;
    struct tt_error err = {0};
    assert_int_equal(tt_target_open(pid, &target, &err), 0);
    assert_int_equal(tt_target_read(&target, function, before, 16), 0);
    for (int i = 0; i < 5; i++) {
        struct tt_inject_attached a;
        struct tt_inject_detached d;
        struct tt_load load;
        assert_int_equal(attach(pid, &a), 0);
        assert_int_equal(tt_proc_maps_read(pid, &target.maps), 0);
        assert_int_equal(tt_load_find(&target, "", &load), 0);
        const struct tt_blob_island *is = &load.head.island[TT_ISLAND_PAD_EXE];
        if (!is->base)
            is = &load.head.island[TT_ISLAND_PAD_LIBC];
        assert_true(is->used >= used);
        if (i > 1)
            assert_true(is->used == used);
        used = is->used;
        struct tt_inject_pad pad = {is->base + is->used, is->size - is->used, 0};
        struct tt_inject_entry e = {
            .function = function,
            .size = (uint64_t)(uintptr_t)tt_target_done_end - function,
            .counter = (uint64_t)(uintptr_t)&report->rounds[7],
            .result = -EAGAIN,
        };
        for (int tries = 0; e.result == -EAGAIN && tries < 1000; tries++)
            assert_int_equal(tt_inject_count(pid, &pad, 1, NULL, &e, 1, NULL, &err), 0);
        if (e.result)
            fail_msg("%s", e.why);
        uint64_t count = report->rounds[7];
        tt_target_await(pid, report, 2);
        assert_true(report->rounds[7] > count);
        assert_int_equal(detach(pid, &d), 0);
        assert_int_equal(d.restored, a.entries + 1);
        assert_int_equal(tt_target_read(&target, function, after, 16), 0);
        assert_memory_equal(before, after, 16);
        let_go(&a);
    }
    tt_target_close(&target);
    tt_target_finish(pid, report);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_are_hooked_and_given_back),
        cmocka_unit_test(cycles_leave_no_trace),
        cmocka_unit_test(none_comes_back_into_a_start),
        cmocka_unit_test(releases_stay_for_live_objects),
        cmocka_unit_test(short_ways_serve_the_sampled_mode),
        cmocka_unit_test(what_was_only_recorded_is_forgotten),
        cmocka_unit_test(counted_operations_are_given_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
