/* SPDX-License-Identifier: Apache-2.0 */
/* The recorder's parts for processes that run already: the shadow of a moment, when a copy is worth
 * its pause, counting untouched epochs, and requests from one telltale to another. What needs a
 * target is in tests/e2e/attach.py. Start: main's table. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "test_record_fake.h"

/* ---- shadow ---- */

#define PIECE 0x155ULL /* of address space: << 26 */

static void the_shadow_is_of_a_moment(void **state)
{
    (void)state;
    struct tt_tape_head head = fake_start(3, 1);
    head.region_count = 2;
    head.regions[0] = (uint32_t)PIECE + 1;
    head.regions[1] = (uint32_t)PIECE;
    head.big_count = 1;
    struct tt_tape tape = {.fd = fake_make(&head)};
    uint64_t base = PIECE << TT_TAPE_REGION_SHIFT;
    fake_entry(tape.fd, 1, 0, tt_tape_entry(1, 40, 10));
    fake_entry(tape.fd, 1, 9000, tt_tape_entry(2, 100, 20)); /* in another chunk */
    fake_entry(tape.fd, 1, 9001, tt_tape_entry(2, 100, 21)); /* too young */
    fake_entry(tape.fd, 0, 5, tt_tape_entry(1, 5 << 20, 3));
    struct tt_tape_big big = {base + (1ULL << 26) + 5 * 32, 5 << 20};
    fake_put(tape.fd, TT_TAPE_OFF_BIG + 77 * sizeof big, &big, sizeof big);
    assert_int_equal(tt_tape_read_head(&tape), 0);
    struct tt_shadow shadow;
    assert_int_equal(tt_shadow_copy(&shadow, &tape, 20), 0);
    /* what happens in the tape afterwards is not seen */
    fake_entry(tape.fd, 1, 0, 0);
    struct tt_shadow_entry entry;
    assert_true(tt_shadow_at(&shadow, base, &entry));
    assert_int_equal(entry.site, 1);
    assert_int_equal(entry.size, 40);
    assert_true(tt_shadow_at(&shadow, base + 9000 * 32, &entry));
    assert_int_equal(entry.site, 2);
    assert_false(tt_shadow_at(&shadow, base + 9001 * 32, &entry));
    assert_true(tt_shadow_at(&shadow, big.address, &entry));
    assert_int_equal(entry.size, 5 << 20);
    assert_false(tt_shadow_at(&shadow, base + 32, &entry));
    assert_false(tt_shadow_at(&shadow, 0x7fffffffffffULL, &entry));
    assert_false(tt_shadow_at(&shadow, UINT64_MAX, &entry));
    tt_shadow_free(&shadow);
    assert_false(tt_shadow_at(&shadow, base, &entry));
    tt_tape_free(&tape);
}

static void collect(void *arg, uint64_t address, const struct tt_shadow_entry *entry)
{
    uint64_t *sum = arg;
    sum[0]++;
    sum[1] += entry->size;
    if (address < sum[2])
        fail_msg("not ascending");
    sum[2] = address;
}

static void a_stretch_of_the_shadow_is_walked(void **state)
{
    (void)state;
    struct tt_tape_head head = fake_start(3, 1);
    head.region_count = 2;
    head.regions[0] = (uint32_t)PIECE;
    head.regions[1] = (uint32_t)PIECE + 2; /* a gap between */
    struct tt_tape tape = {.fd = fake_make(&head)};
    uint64_t base = PIECE << TT_TAPE_REGION_SHIFT, granules = 1u << (TT_TAPE_REGION_SHIFT - 5);
    fake_entry(tape.fd, 0, 0, tt_tape_entry(1, 1, 1));
    fake_entry(tape.fd, 0, 8191, tt_tape_entry(1, 10, 1));
    fake_entry(tape.fd, 0, 8192, tt_tape_entry(1, 100, 1));
    fake_entry(tape.fd, 0, (uint32_t)granules - 1, tt_tape_entry(1, 1000, 1));
    fake_entry(tape.fd, 1, 3, tt_tape_entry(1, 10000, 1));
    assert_int_equal(tt_tape_read_head(&tape), 0);
    struct tt_shadow shadow;
    assert_int_equal(tt_shadow_copy(&shadow, &tape, 20), 0);
    uint64_t sum[3] = {0};
    tt_shadow_each(&shadow, 0, UINT64_MAX >> 17, collect, sum);
    assert_int_equal(sum[0], 5);
    assert_int_equal(sum[1], 11111);
    uint64_t part[3] = {0};
    tt_shadow_each(&shadow, base + 32, base + 8192 * 32, collect, part);
    assert_int_equal(part[0], 1);
    assert_int_equal(part[1], 10);
    tt_shadow_free(&shadow);
    tt_tape_free(&tape);
}

/* ---- when ---- */

static void copies_are_worth_their_pause(void **state)
{
    (void)state;
    struct tt_record_options o = {0};
    struct tt_copies none = {0}, one = {.taken = 1, .tried_ns = 100 * TT_SECOND};
    struct tt_snapshot_question q = {.began_ns = 99 * TT_SECOND, .now_ns = 100 * TT_SECOND};
    assert_true(tt_snapshot_wanted(&o, &none, &q)); /* what was lost before */
    q.now_ns = 99 * TT_SECOND + 1;
    assert_false(tt_snapshot_wanted(&o, &none, &q));
    q = (struct tt_snapshot_question){.began_ns = 99 * TT_SECOND, .now_ns = 159 * TT_SECOND};
    q.grown = 1000;
    assert_false(tt_snapshot_wanted(&o, &one, &q)); /* one a minute */
    q.now_ns = 160 * TT_SECOND;
    assert_true(tt_snapshot_wanted(&o, &one, &q));
    q.grown = 0;
    assert_false(tt_snapshot_wanted(&o, &one, &q)); /* nothing to settle */
    q.ending = true;
    assert_true(tt_snapshot_wanted(&o, &one, &q));
    q.now_ns = 101 * TT_SECOND;
    assert_false(tt_snapshot_wanted(&o, &one, &q)); /* the last one is as good */
    /* a week: hundreds of copies, not ten thousand */
    unsigned taken = 0;
    struct tt_copies long_run = {.tried_ns = TT_SECOND};
    q = (struct tt_snapshot_question){.grown = 1000};
    for (q.now_ns = TT_SECOND; q.now_ns < 7 * 86400 * TT_SECOND; q.now_ns += 10 * TT_SECOND)
        if (tt_snapshot_wanted(&o, &long_run, &q)) {
            taken++;
            long_run.tried_ns = q.now_ns;
        }
    assert_in_range(taken, 50, 300);
    /* off, a number, another distance */
    o.snapshots = TT_SNAPSHOTS_OFF;
    assert_false(tt_snapshot_wanted(&o, &none, &q));
    o.snapshots = 2;
    q = (struct tt_snapshot_question){.now_ns = 900 * TT_SECOND, .grown = 1000};
    assert_true(tt_snapshot_wanted(&o, &none, &q));
    assert_false(tt_snapshot_wanted(&o, &one, &q)); /* kept for the end */
    q.ending = true;
    assert_true(tt_snapshot_wanted(&o, &one, &q));
    one.taken = 2;
    assert_false(tt_snapshot_wanted(&o, &one, &q));
    o = (struct tt_record_options){.snapshot_every = 5};
    q = (struct tt_snapshot_question){
        .began_ns = 99 * TT_SECOND, .now_ns = 106 * TT_SECOND, .grown = 9};
    assert_true(tt_snapshot_wanted(&o, &one, &q));
}

static void the_budget_is_per_gigabyte(void **state)
{
    (void)state;
    struct tt_record_options o = {0};
    assert_int_equal(tt_snapshot_budget(&o, 1000), 20000000);
    assert_int_equal(tt_snapshot_budget(&o, 1000000000), 20000000);
    assert_int_equal(tt_snapshot_budget(&o, 3000000000ULL), 60000000);
    o.pause_budget_ms = 0.5;
    assert_int_equal(tt_snapshot_budget(&o, 2000000000ULL), 1000000);
}

/* A kernel that needs 20.4 ms per GB does not end the snapshots of a default budget of 20, and what
 * was longer is counted; one bad pause does not rule out all that come after it. */
static void a_pause_a_little_longer_is_said(void **state)
{
    (void)state;
    const uint64_t gb = 1000000000;
    struct tt_record_options usual = {0}, given = {.pause_budget_ms = 20};
    struct tt_copies c = {0};
    for (unsigned i = 0; i < 50; i++) {
        assert_true(tt_snapshot_fits(&usual, &c, gb));
        tt_snapshot_paused(&usual, &c, gb, 20400000);
    }
    assert_int_equal(c.over, 50);
    assert_false(tt_snapshot_fits(&given, &c, gb)); /* who says 20 gets 20 */
    c = (struct tt_copies){0};
    tt_snapshot_paused(&usual, &c, gb, 90000000);
    assert_false(tt_snapshot_fits(&usual, &c, gb));
    assert_int_equal(c.too_slow, 1);
    unsigned refused = 1;
    while (!tt_snapshot_fits(&usual, &c, gb) && refused < 10)
        refused++;
    assert_int_equal(c.too_slow, refused);
    assert_in_range(refused, 1, 3);
    c = (struct tt_copies){0};
    given.pause_budget_ms = 5;
    for (unsigned i = 0; i < 10; i++)
        assert_false(tt_snapshot_fits(&given, &c, gb));
    assert_true(tt_snapshot_fits(&given, &c, gb / 10)); /* small ones take little */
}

/* ---- staleness ---- */

static void marks_of_mappings_are_read(void **state)
{
    (void)state;
    static const char text[] = "5589-558a000 rw-p 00000000 00:00 0   [heap]\n"
                               "Size:                 12 kB\n"
                               "Referenced:           12 kB\n"
                               "VmFlags: rd wr\n"
                               "600000000000-600000001000 rw-p 00000000 00:00 0\n"
                               "Rss:                   4 kB\n"
                               "Referenced:            0 kB\n"
                               "600000002000-600000004000 rw-p 00000000 00:00 0\n"
                               "Referenced:            4 kB\n"
                               "7f0000000000-7f0000001000 rw-p 00000000 00:00 0\n"
                               "Referenced:            4 kB\n";
    FILE *f = fmemopen((void *)(uintptr_t)text, sizeof text - 1, "r");
    tt_stale_map_vec maps = {0};
    assert_int_equal(tt_stale_maps(f, 0x600000000000ULL, 0x601000000000ULL, &maps), 0);
    fclose(f);
    assert_int_equal(maps.len, 2);
    assert_int_equal(maps.data[0].referenced, 0);
    assert_int_equal(maps.data[1].start, 0x600000002000ULL);
    assert_int_equal(maps.data[1].referenced, 4096);
    tt_vec_free(&maps);
}

static void add(tt_stale_object_vec *list, uint64_t address, uint32_t born, uint32_t site,
                bool untouched)
{
    assert_int_equal(tt_vec_push(list, (struct tt_stale_object){.address = address,
                                                                .size = 40,
                                                                .site = site,
                                                                .born = born,
                                                                .untouched = untouched}),
                     0);
}

static double twice(void *arg, const struct tt_stale_object *object)
{
    (void)arg;
    (void)object;
    return 2;
}

static void only_epochs_in_a_row_count(void **state)
{
    (void)state;
    struct tt_stale stale = {0};
    for (int epoch = 0; epoch < 3; epoch++) {
        tt_stale_object_vec now = {0};
        add(&now, 0x1000, 1, 7, true);                 /* never touched */
        add(&now, 0x2000, 1, 7, epoch != 1);           /* touched in between */
        add(&now, 0x3000, epoch < 2 ? 1 : 9, 7, true); /* another block at its place */
        add(&now, 0x4000, 1, 8, false);                /* in use */
        if (epoch == 2)
            add(&now, 0x5000, 8, 7, true); /* lived through one epoch only */
        tt_stale_epoch(&stale, &now, 10 + epoch);
        assert_null(now.data);
        assert_int_equal(tt_stale_sum(&stale, twice, NULL), 0);
        assert_int_equal(stale.rows.len, epoch == 0 ? 0 : 2);
    }
    const struct tt_session_stale *row = &stale.rows.data[0];
    assert_int_equal(row->site, 7);
    assert_int_equal(row->epochs, 2);
    assert_int_equal(row->objects, 2);
    assert_int_equal(row->untouched, 1);
    assert_int_equal(row->untouched_bytes, 40);
    assert_true(row->untouched_weight == 2);
    assert_true(fabs(row->seconds - 23) < 1e-9);
    assert_int_equal(stale.rows.data[1].site, 8);
    assert_int_equal(stale.rows.data[1].objects, 1);
    assert_int_equal(stale.rows.data[1].untouched, 0);
    tt_stale_free(&stale);
}

static void long_recordings_ask_for_more_epochs(void **state)
{
    (void)state;
    struct tt_stale stale = {0};
    for (int epoch = 0; epoch < 40; epoch++) {
        tt_stale_object_vec now = {0};
        add(&now, 0x1000, 1, 7, true);
        add(&now, 0x2000, 1, 7, epoch % 5 != 0);
        tt_stale_epoch(&stale, &now, 30);
    }
    assert_int_equal(tt_stale_sum(&stale, twice, NULL), 0);
    assert_int_equal(stale.rows.data[0].epochs, TT_STALE_EPOCHS_MOST);
    assert_int_equal(stale.rows.data[0].objects, 2);
    assert_int_equal(stale.rows.data[0].untouched, 1);
    assert_true(stale.rows.data[0].seconds == 300);
    tt_stale_free(&stale);
}

/* ---- requests ---- */

static void requests_are_answered(void **state)
{
    (void)state;
    struct tt_record_options options = {0};
    struct tt_recorder rec = {.options = &options};
    struct tt_error err = {0};
    char text[64];
    const pid_t pid = 2000000000 + getpid(); /* nobody's, nor of another run of this */
    assert_int_equal(tt_record_ask(pid, "detach", &err), -ENOENT);
    assert_int_equal(tt_record_dir_make(&rec, &err), 0);
    tt_ask_offer(&rec, pid, true);
    for (int turn = 0; turn < 2; turn++) {
        pid_t child = fork();
        if (child == 0) {
            int code = tt_record_ask(pid, turn ? "detach" : "mode sampled", &err);
            _exit(turn ? code == -EAGAIN && strcmp(err.text, "not now") == 0 : code == 0);
        }
        while (!tt_ask_take(&rec, pid, text))
            ;
        assert_string_equal(text, turn ? "detach" : "mode sampled");
        assert_false(tt_ask_take(&rec, pid, text));
        tt_ask_answer(&rec, pid, turn ? "not now" : "done");
        int status;
        waitpid(child, &status, 0);
        assert_int_equal(WEXITSTATUS(status), 1);
    }
    tt_ask_offer(&rec, pid, false);
    assert_int_equal(tt_record_ask(pid, "detach", &err), -ENOENT);
    tt_record_dir_remove(&rec);
    assert_int_equal(access(rec.dir, F_OK), -1);
}

static void what_cannot_be_attached_leaves_nothing(void **state)
{
    (void)state;
    char dir[] = "/tmp/tt-attach-XXXXXX", file[64];
    assert_non_null(mkdtemp(dir));
    snprintf(file, sizeof file, "%s/s.tt", dir);
    const pid_t pid = 2000000000 + getpid();
    const struct tt_record_options options = {.pids = &pid, .n_pids = 1, .output = file};
    struct tt_record_result result;
    struct tt_error err = {0};
    assert_true(tt_record_attach(&options, &result, &err) < 0);
    assert_true(*err.text);
    assert_null(strchr(err.text, '\n'));
    assert_int_equal(access(file, F_OK), -1);
    err = (struct tt_error){0};
    assert_true(tt_record_snapshot(&options, &result, &err) < 0);
    assert_true(*err.text);
    assert_int_equal(access(file, F_OK), -1);
    err = (struct tt_error){0};
    assert_true(tt_record_core(&options, "/dev/null", NULL, &result, &err) < 0);
    assert_true(*err.text);
    assert_int_equal(access(file, F_OK), -1);
    assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_shadow_is_of_a_moment),
        cmocka_unit_test(a_stretch_of_the_shadow_is_walked),
        cmocka_unit_test(copies_are_worth_their_pause),
        cmocka_unit_test(the_budget_is_per_gigabyte),
        cmocka_unit_test(a_pause_a_little_longer_is_said),
        cmocka_unit_test(marks_of_mappings_are_read),
        cmocka_unit_test(only_epochs_in_a_row_count),
        cmocka_unit_test(long_recordings_ask_for_more_epochs),
        cmocka_unit_test(requests_are_answered),
        cmocka_unit_test(what_cannot_be_attached_leaves_nothing),
    };
    return cmocka_run_group_tests_name("record_attach", tests, NULL, NULL);
}
