/* SPDX-License-Identifier: Apache-2.0 */
/* When a target cannot be patched at once: what is tried again, and for how long. The patching
 * itself is a stand-in here (linked with --wrap); the real one is in test_inject.c. Start: main's
 * table. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "test_record_fake.h"

#define AT 0x400000ULL

static struct {
    int failures, code; /* the first calls give this code */
    int calls;
    uint64_t refused; /* of these functions the entry is refused, whatever the call says */
    uint64_t counter; /* of the last entry patched */
} world;

int __wrap_tt_inject_count(pid_t pid, struct tt_inject_pad *pads, size_t n_pads,
                           const struct tt_inject_states *states, struct tt_inject_entry *entries,
                           size_t n_entries, uint64_t *stopped_ns, struct tt_error *err);
int __wrap_tt_inject_count(pid_t pid, struct tt_inject_pad *pads, size_t n_pads,
                           const struct tt_inject_states *states, struct tt_inject_entry *entries,
                           size_t n_entries, uint64_t *stopped_ns, struct tt_error *err)
{
    (void)pid, (void)pads, (void)n_pads, (void)states, (void)stopped_ns;
    if (world.calls++ < world.failures)
        return tt_error_set(err, world.code, "not now");
    for (size_t i = 0; i < n_entries; i++) {
        entries[i].result = entries[i].function == world.refused ? -EAGAIN : 0;
        if (!entries[i].result)
            world.counter = entries[i].counter;
    }
    return 0;
}

static void declare(struct tt_image *image, const char *name, uint64_t address)
{
    struct tt_operation op = {.address = address, .size = 64, .slot = -1, .declared = true};
    snprintf(op.name, sizeof op.name, "%s", name);
    snprintf(op.source, sizeof op.source, "declared");
    assert_int_equal(tt_vec_push(&image->operations, op), 0);
}

static void open_world(struct tt_image *image)
{
    struct tt_tape_head head = fake_start(1, 1);
    memset(&world, 0, sizeof world);
    *image = (struct tt_image){.id = 1,
                               .pid = -1, /* no process has this number */
                               .alive = true,
                               .visible = true,
                               .map_base = 0x10000000,
                               .declared = true,
                               .operations_at = UINT64_MAX};
    image->tape.fd = fake_make(&head);
    assert_int_equal(tt_tape_read_head(&image->tape), 0);
    declare(image, "call", AT);
}

static void close_world(struct tt_image *image)
{
    tt_vec_free(&image->operations);
    tt_tape_free(&image->tape);
}

/* A busy machine or a slow disk may keep a thread from stopping: the operation is counted later. */
static void a_target_that_cannot_be_stopped_is_tried_again(void **state)
{
    (void)state;
    static const int codes[] = {-ETIMEDOUT, -EAGAIN};
    const struct tt_record_options options = {0};
    for (size_t c = 0; c < 2; c++) {
        struct tt_recorder rec = {.options = &options};
        struct tt_image image;
        open_world(&image);
        world.failures = 3;
        world.code = codes[c];
        for (int i = 0; i < 3; i++) {
            tt_count_visit(&rec, &image, 1);
            assert_int_equal(image.operations.data[0].slot, -1);
            assert_non_null(strstr(image.operations.data[0].source, "trying again"));
        }
        tt_count_visit(&rec, &image, 1);
        assert_int_equal(image.operations.data[0].slot, 0);
        assert_string_equal(image.operations.data[0].source, "declared");
        assert_true(image.operations.data[0].since_ns > 0);
        assert_int_equal(image.slots, 1);
        close_world(&image);
    }
}

/* Not for ever; and what cannot be otherwise the next time is not tried again. */
static void trying_ends(void **state)
{
    (void)state;
    static const int codes[] = {-ETIMEDOUT, -EPERM};
    const struct tt_record_options options = {0};
    int calls[2];
    for (size_t c = 0; c < 2; c++) {
        struct tt_recorder rec = {.options = &options};
        struct tt_image image;
        open_world(&image);
        world.failures = 1000;
        world.code = codes[c];
        for (int i = 0; i < 100; i++)
            tt_count_visit(&rec, &image, 1);
        calls[c] = world.calls;
        assert_string_equal(image.operations.data[0].source, "refused: not now");
        assert_int_equal(image.slots, 0);
        close_world(&image);
    }
    assert_in_range(calls[0], 10, 99);
    assert_int_equal(calls[1], 1);
}

/* Two that are refused time and again leave the tape's slots to the others. */
static void refused_entries_take_no_slots(void **state)
{
    (void)state;
    const struct tt_record_options options = {0};
    struct tt_recorder rec = {.options = &options};
    struct tt_image image;
    open_world(&image);
    declare(&image, "other", AT + 64);
    world.refused = AT + 64;
    for (int i = 0; i < 30; i++)
        tt_count_visit(&rec, &image, 1);
    assert_int_equal(image.operations.data[0].slot, 0);
    assert_int_equal(image.operations.data[1].slot, -1);
    assert_int_equal(image.slots, 1);
    world.refused = 0;
    tt_count_visit(&rec, &image, 1);
    assert_int_equal(image.operations.data[1].slot, 1);
    assert_true(world.counter == image.map_base + offsetof(struct tt_tape_head, ops) +
                                     sizeof(struct tt_tape_op) +
                                     offsetof(struct tt_tape_op, count));
    close_world(&image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_target_that_cannot_be_stopped_is_tried_again),
        cmocka_unit_test(trying_ends),
        cmocka_unit_test(refused_entries_take_no_slots),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
