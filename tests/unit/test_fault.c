/* SPDX-License-Identifier: Apache-2.0 */
/* The fault room: the table of calls, what counts as lost, plans full of nonsense, and the file of
 * a campaign. Runs of programs are tested in tests/e2e/inject.py. Start: main. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "fault/calls.h"
#include "fault/fault.h"

static void table_is_whole(void **state)
{
    (void)state;
    for (unsigned call = 0; call < TT_FAULT_CALL_COUNT; call++) {
        int codes[32];
        size_t usual, n = tt_fault_errors(call, codes, 32, &usual);
        assert_true(usual >= 1 && n >= usual && n < 16);
        assert_true(tt_fault_call_known(tt_fault_call_name(call)));
        assert_true(tt_fault_call_known(tt_fault_group_name(call)));
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(tt_fault_error_code(tt_fault_error_name(codes[i])), codes[i]);
            for (size_t k = 0; k < i; k++)
                assert_int_not_equal(codes[i], codes[k]);
        }
    }
    /* a word of the table that is no error would be left out silently */
    static const char *const lists[] = {
#define X(name, group, usual, others) usual, others,
        TT_FAULT_CALLS(X)
#undef X
    };
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        char words[128];
        snprintf(words, sizeof words, "%s", lists[i]);
        for (char *rest = words, *word; (word = strsep(&rest, " ")) != NULL;)
            assert_true(!*word || tt_fault_error_code(word));
    }
    assert_int_equal(tt_fault_error_code("ENOTHING"), 0);
    assert_false(tt_fault_call_known("frobnicate"));
}

/* One row of what a round holds, and the rounds of the tests below. */
static void hold(struct tt_fault_round *round, uint32_t site, uint32_t kind, uint64_t units,
                 uint64_t lost)
{
    assert_int_equal(tt_vec_push(&round->held, (struct tt_fault_held){site, kind, units, 10 * units,
                                                                      lost, 10 * lost, 0}),
                     0);
}

static void call(struct tt_fault_round *round, uint32_t site, uint32_t calls, uint32_t after)
{
    assert_int_equal(tt_vec_push(&round->called, (struct tt_fault_called){site, calls, after}), 0);
}

static struct tt_fault_round ended(void)
{
    return (struct tt_fault_round){.began = true, .ended = true, .searched = true, .fired = 1};
}

static void outcomes(void **state)
{
    (void)state;
    struct tt_fault_usual usual = {0};
    struct tt_fault_round plain = ended(), r = ended();
    call(&plain, 1, 5, 0);
    call(&plain, 2, 5, 0);
    assert_int_equal(tt_fault_usual_add(&usual, &plain, true), 0);
    assert_int_equal(tt_fault_outcome(&usual, &r, 1), TT_FAULT_WENT_ON); /* same status */
    r.status = 1 << 8;
    assert_int_equal(tt_fault_outcome(&usual, &r, 1), TT_FAULT_GAVE_UP);
    call(&r, 1, 2, 1); /* the failing stack once more: it tried again, no more */
    call(&r, 9, 1, 1); /* an error message, which does not come without the fault */
    assert_int_equal(tt_fault_outcome(&usual, &r, 1), TT_FAULT_GAVE_UP);
    call(&r, 2, 5, 3);
    assert_int_equal(tt_fault_outcome(&usual, &r, 1), TT_FAULT_WENT_ON);
    r.fired = 0;
    assert_int_equal(tt_fault_outcome(&usual, &r, 1), TT_FAULT_UNREACHED);
    struct tt_fault_round died = {.fired = 1, .status = SIGSEGV}, hung = {.fired = 1, .hung = true};
    assert_int_equal(tt_fault_outcome(&usual, &died, 1), TT_FAULT_DIED);
    assert_int_equal(tt_fault_outcome(&usual, &hung, 1), TT_FAULT_HUNG);
    struct tt_fault_round alone = ended(); /* a server that ended */
    alone.alone = true;
    assert_int_equal(tt_fault_outcome(&usual, &alone, 1), TT_FAULT_GAVE_UP);
    tt_fault_round_free(&plain);
    tt_fault_round_free(&r);
    tt_fault_usual_free(&usual);
}

static uint64_t units_of(const tt_fault_losses *losses, uint32_t site, uint32_t weight)
{
    for (size_t i = 0; i < losses->len; i++)
        if (losses->data[i].site == site && losses->data[i].weight == weight)
            return losses->data[i].units;
    return 0;
}

static void differences(void **state)
{
    (void)state;
    struct tt_fault_usual usual = {0};
    struct tt_fault_round first = ended(), second = ended(), r = ended();
    tt_fault_losses losses = {0};
    hold(&first, 1, TT_FAULT_HEAP, 7, 2);
    hold(&first, 2, TT_FAULT_FD, 1, 1);
    hold(&second, 1, TT_FAULT_HEAP, 8, 3);
    assert_int_equal(tt_fault_usual_add(&usual, &first, true), 0);
    assert_int_equal(tt_fault_usual_add(&usual, &second, false), 0);
    hold(&r, 1, TT_FAULT_HEAP, 8, 4); /* as many, but one more of them is lost */
    hold(&r, 2, TT_FAULT_FD, 3, 3);
    hold(&r, 3, TT_FAULT_HEAP, 5, 1); /* four are still held by something */
    hold(&r, 4, TT_FAULT_SOCKET, 1, 1);
    assert_int_equal(tt_fault_compare(&usual, &r, TT_FAULT_WENT_ON, 0, &losses), 0);
    assert_int_equal(units_of(&losses, 1, TT_FAULT_LOST), 1);
    assert_int_equal(units_of(&losses, 1, TT_FAULT_KEPT), 0);
    assert_int_equal(units_of(&losses, 2, TT_FAULT_LOST), 2);
    assert_int_equal(units_of(&losses, 3, TT_FAULT_LOST), 1);
    assert_int_equal(units_of(&losses, 3, TT_FAULT_KEPT), 4);
    assert_int_equal(units_of(&losses, 4, TT_FAULT_LOST), 1);

    losses.len = 0; /* it gave up and left by exit(3): the stack still holds what it holds */
    assert_int_equal(tt_fault_compare(&usual, &r, TT_FAULT_GAVE_UP, 0, &losses), 0);
    assert_int_equal(units_of(&losses, 3, TT_FAULT_LOST), 1);
    assert_int_equal(units_of(&losses, 2, TT_FAULT_LOST), 0);
    assert_int_equal(units_of(&losses, 2, TT_FAULT_LEFT), 2);

    losses.len = 0; /* it gave up and returned from main */
    r.end_main = true;
    assert_int_equal(tt_fault_compare(&usual, &r, TT_FAULT_GAVE_UP, 0, &losses), 0);
    assert_int_equal(units_of(&losses, 3, TT_FAULT_LOST), 0);
    assert_int_equal(units_of(&losses, 3, TT_FAULT_LEFT), 1);

    losses.len = 0; /* nothing is compared where the program died */
    assert_int_equal(tt_fault_compare(&usual, &r, TT_FAULT_DIED, 0, &losses), 0);
    assert_int_equal(losses.len, 0);

    r.searched = false; /* every block more counts */
    assert_int_equal(tt_fault_compare(&usual, &r, TT_FAULT_WENT_ON, 0, &losses), 0);
    assert_int_equal(units_of(&losses, 3, TT_FAULT_LOST), 5);
    tt_vec_free(&losses);
    tt_fault_round_free(&first);
    tt_fault_round_free(&second);
    tt_fault_round_free(&r);
    tt_fault_usual_free(&usual);
}

/* Units that come after the fault may only stand at another stack than usual. */
static void shifts(void **state)
{
    (void)state;
    struct tt_fault_usual usual = {0};
    struct tt_fault_round plain = ended(), r = ended();
    tt_fault_losses losses = {0};
    hold(&plain, 1, TT_FAULT_FD, 2, 2);
    hold(&plain, 2, TT_FAULT_HEAP, 4, 4);
    assert_int_equal(tt_fault_usual_add(&usual, &plain, true), 0);
    hold(&r, 3, TT_FAULT_FD, 3, 3); /* three late ones for two that are missing */
    r.held.data[0].late = 3;
    hold(&r, 4, TT_FAULT_HEAP, 1,
         1); /* was there before the fault: lost, whatever else is missing */
    hold(&r, 5, TT_FAULT_HEAP, 2, 2);
    r.held.data[2].late = 2;
    hold(&r, 6, TT_FAULT_STREAM, 1, 1); /* late, but no stream is missing */
    r.held.data[3].late = 1;
    hold(&r, 7, TT_FAULT_MAPPING, 1, 0); /* something points into it */
    assert_int_equal(tt_fault_compare(&usual, &r, TT_FAULT_WENT_ON, 0, &losses), 0);
    assert_int_equal(units_of(&losses, 3, TT_FAULT_LOST), 1);
    assert_int_equal(units_of(&losses, 3, TT_FAULT_KEPT), 2);
    assert_int_equal(units_of(&losses, 4, TT_FAULT_LOST), 1);
    assert_int_equal(units_of(&losses, 5, TT_FAULT_LOST), 0);
    assert_int_equal(units_of(&losses, 5, TT_FAULT_KEPT), 2);
    assert_int_equal(units_of(&losses, 6, TT_FAULT_LOST), 1);
    assert_int_equal(units_of(&losses, 7, TT_FAULT_LOST), 0);
    assert_int_equal(units_of(&losses, 7, TT_FAULT_KEPT), 1);
    tt_vec_free(&losses);
    tt_fault_round_free(&plain);
    tt_fault_round_free(&r);
    tt_fault_usual_free(&usual);
}

/* Rows of several processes with the same stack: each is held against the most of one process. */
static void processes(void **state)
{
    (void)state;
    struct tt_fault_usual usual = {0};
    struct tt_fault_round plain = ended(), r = ended();
    tt_fault_losses losses = {0};
    hold(&plain, 1, TT_FAULT_FD, 2, 2); /* only one worker came to open these two */
    hold(&plain, 2, TT_FAULT_SOCKET, 1, 1);
    hold(&plain, 2, TT_FAULT_SOCKET, 1, 1);
    hold(&plain, 6, TT_FAULT_STREAM, 1, 1);
    for (uint32_t i = 0; i < plain.held.len; i++)
        plain.held.data[i].process = i + 1;
    assert_int_equal(tt_fault_usual_add(&usual, &plain, true), 0);
    hold(&r, 1, TT_FAULT_FD, 2, 2); /* now both */
    hold(&r, 1, TT_FAULT_FD, 2, 2);
    hold(&r, 2, TT_FAULT_SOCKET, 1, 1); /* a worker started anew has one, as the one before had */
    hold(&r, 2, TT_FAULT_SOCKET, 2, 2);
    hold(&r, 3, TT_FAULT_FD, 1, 1); /* late: stands for none of stack 1, where both have two */
    r.held.data[4].late = 1;
    hold(&r, 4, TT_FAULT_STREAM, 1, 1); /* of a child that ended with a status not 0 */
    r.held.data[5].gave_up = true;
    hold(&r, 5, TT_FAULT_HEAP, 1, 1);
    r.held.data[6].gave_up = true;
    hold(&r, 7, TT_FAULT_STREAM, 1, 1); /* two that came elsewhere to what stack 6 gave before */
    hold(&r, 7, TT_FAULT_STREAM, 1, 1);
    hold(&r, 8, TT_FAULT_STREAM, 1, 1);    /* but not the process started: stack 6 is a child's */
    hold(&r, 9, TT_FAULT_DIRECTORY, 1, 1); /* the same twice is one loss */
    hold(&r, 9, TT_FAULT_DIRECTORY, 2, 2);
    for (uint32_t i = 0; i < r.held.len; i++)
        r.held.data[i].process = i == 9 ? 0 : i + 1;
    r.held.data[7].late = r.held.data[8].late = r.held.data[9].late = 1;
    assert_int_equal(tt_fault_compare(&usual, &r, TT_FAULT_WENT_ON, 0, &losses), 0);
    assert_int_equal(units_of(&losses, 1, TT_FAULT_LOST), 0);
    assert_int_equal(units_of(&losses, 2, TT_FAULT_LOST), 1);
    assert_int_equal(units_of(&losses, 3, TT_FAULT_LOST), 1);
    assert_int_equal(units_of(&losses, 4, TT_FAULT_LOST), 0);
    assert_int_equal(units_of(&losses, 4, TT_FAULT_LEFT), 1);
    assert_int_equal(units_of(&losses, 5, TT_FAULT_LOST), 1);
    assert_int_equal(units_of(&losses, 7, TT_FAULT_LOST), 0);
    assert_int_equal(units_of(&losses, 8, TT_FAULT_LOST), 1);
    assert_int_equal(units_of(&losses, 9, TT_FAULT_LOST), 3);

    losses.len = 0; /* a child died: the others are compared */
    r.child_signal = SIGSEGV;
    assert_int_equal(tt_fault_outcome(&usual, &r, 1), TT_FAULT_DIED);
    assert_int_equal(tt_fault_compare(&usual, &r, TT_FAULT_DIED, 0, &losses), 0);
    assert_int_equal(units_of(&losses, 2, TT_FAULT_LOST), 1);
    usual.child_signal = SIGABRT; /* children die without the fault, too */
    assert_int_equal(tt_fault_outcome(&usual, &r, 1), TT_FAULT_WENT_ON);
    tt_vec_free(&losses);
    tt_fault_round_free(&plain);
    tt_fault_round_free(&r);
    tt_fault_usual_free(&usual);
}

static void confirmed(void **state)
{
    (void)state;
    tt_fault_losses losses = {0}, again = {0};
    const struct tt_fault_loss other = {.trial = 0, .site = 9, .units = 1},
                               steady = {.trial = 1, .site = 1, .units = 3, .bytes = 30},
                               once = {.trial = 1, .site = 2, .units = 1},
                               fewer = {.trial = 1, .site = 1, .units = 2, .bytes = 20};
    assert_int_equal(tt_vec_push(&losses, other), 0);
    assert_int_equal(tt_vec_push(&losses, steady), 0);
    assert_int_equal(tt_vec_push(&losses, once), 0);
    assert_int_equal(tt_vec_push(&again, fewer), 0);
    tt_fault_confirm(&losses, 1, &again);
    assert_int_equal(losses.len, 2);
    assert_int_equal(losses.data[0].site, 9);
    assert_int_equal(losses.data[1].site, 1);
    assert_int_equal(losses.data[1].units, 2);
    assert_int_equal(losses.data[1].bytes, 20);
    tt_vec_free(&losses);
    tt_vec_free(&again);
}

static void plan_of_nonsense(void **state)
{
    (void)state;
    struct tt_fault_world world = {0};
    struct tt_fault_plan *plan = calloc(1, sizeof *plan);
    int64_t *numbers = calloc(TT_FAULT_STACKS, sizeof *numbers);
    assert_true(plan && numbers);
    plan->module_count = UINT32_MAX;
    memset(plan->module[1].path, 'x', sizeof plan->module[1].path);
    snprintf(plan->module[2].path, sizeof plan->module[2].path, "/bin/prog");
    plan->frame[0] = TT_FAULT_FRAME(2, 0x123);
    plan->frame[1] = TT_FAULT_FRAME(60000, 0x456);
    plan->stack[1] = (struct tt_fault_stack){.hash = 11, .frames = 0, .depth = 2};
    plan->stack[2] = (struct tt_fault_stack){.hash = 12, .frames = UINT32_MAX, .depth = 2};
    plan->stack[3] = (struct tt_fault_stack){.hash = 13, .frames = 0, .depth = 65535};
    plan->stack[4] = (struct tt_fault_stack){.hash = 14, .call = 65535};
    assert_int_equal(tt_fault_world_import(&world, plan, numbers), 0);
    assert_int_equal(numbers[1], 0);
    assert_true(numbers[0] < 0 && numbers[2] < 0 && numbers[3] < 0 && numbers[4] < 0);
    assert_int_equal(world.sites.len, 1);
    const struct tt_fault_site *s = &world.sites.data[0];
    assert_string_equal(world.modules.data[TT_FAULT_FRAME_MODULE(s->frames[0])].path, "/bin/prog");
    assert_int_equal(TT_FAULT_FRAME_OFFSET(s->frames[0]), 0x123);
    assert_int_equal(TT_FAULT_FRAME_MODULE(s->frames[1]), 0);
    free(numbers);
    free(plan);
    tt_fault_world_free(&world);
}

struct read_back {
    size_t n, losses;
    struct tt_fault_trial trial;
    struct tt_fault_loss loss;
};

static int read_back(void *arg, const struct tt_fault_trial *trial, const tt_fault_losses *losses)
{
    struct read_back *r = arg;
    r->n++;
    r->trial = *trial;
    r->losses = losses->len;
    if (losses->len)
        r->loss = losses->data[0];
    return 0;
}

static void file_goes_on(void **state)
{
    (void)state;
    char dir[] = "/tmp/tt-fault-XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/x.faults", dir);
    char *argv[] = {"prog", "-x", NULL}, *other[] = {"prog", "-y", NULL};
    struct tt_fault_options o = {.argv = argv, .state = path};
    struct tt_fault_world world = {0}, later = {0};
    struct tt_error err = {0};
    tt_fault_losses losses = {0};
    int64_t m = tt_fault_world_module(&world, "/bin/a b+c", 4096, 8192, 4096);
    uint64_t frames[2] = {TT_FAULT_FRAME(m, 0x1111), TT_FAULT_FRAME(0, 0)};
    int64_t malloc_at = tt_fault_world_site(&world, 0xfedcba9876543210u, TT_FC_malloc, frames, 2);
    int64_t open_at = tt_fault_world_site(&world, 5, TT_FC_open, frames, 1);
    assert_true(m == 1 && malloc_at == 0 && open_at == 1);

    struct tt_fault_file *f = tt_fault_file_open(&o, "/bin/prog", "abc", &err);
    assert_non_null(f);
    struct tt_fault_trial trial = {.site = 0,
                                   .nth = 2,
                                   .code = tt_fault_error_code("ENOMEM"),
                                   .outcome = TT_FAULT_WENT_ON,
                                   .status = 7 << 8,
                                   .seconds = 0.5};
    assert_int_equal(tt_vec_push(&losses, (struct tt_fault_loss){0, 9, 9, 9, 9, 9}), 0);
    assert_int_equal(
        tt_vec_push(&losses, (struct tt_fault_loss){0, 1, TT_FAULT_SOCKET, TT_FAULT_LEFT, 3, 0}),
        0);
    assert_int_equal(tt_fault_file_write(f, &world, &trial, &losses, 1, &err), 0);
    tt_fault_file_close(f);

    assert_null(tt_fault_file_open(&o, "/bin/prog", "abc", &err)); /* it exists */
    o.resume = true;
    assert_null(tt_fault_file_open(&o, "/bin/prog", "abd", &err)); /* another build */
    o.argv = other;
    assert_null(tt_fault_file_open(&o, "/bin/prog", "abc", &err)); /* another command */
    o.argv = argv;
    f = tt_fault_file_open(&o, "/bin/prog", "abc", &err);
    assert_non_null(f);
    struct read_back back = {0};
    assert_int_equal(tt_fault_file_read(f, &later, read_back, &back, &err), 0);
    tt_fault_file_close(f);
    assert_int_equal(back.n, 1);
    assert_int_equal(back.losses, 1);
    assert_int_equal(later.sites.data[back.trial.site].hash, 0xfedcba9876543210u);
    assert_int_equal(later.sites.data[back.trial.site].depth, 2);
    assert_string_equal(
        later.modules.data[TT_FAULT_FRAME_MODULE(later.sites.data[back.trial.site].frames[0])].path,
        "/bin/a b+c");
    assert_int_equal(back.trial.nth, 2);
    assert_int_equal(back.trial.code, trial.code);
    assert_int_equal(back.trial.outcome, TT_FAULT_WENT_ON);
    assert_int_equal(back.trial.status, 7 << 8);
    assert_int_equal(back.loss.kind, TT_FAULT_SOCKET);
    assert_int_equal(back.loss.weight, TT_FAULT_LEFT);
    assert_int_equal(back.loss.units, 3);
    assert_int_equal(later.sites.data[back.loss.site].call, TT_FC_open);
    unlink(path);
    rmdir(dir);
    tt_vec_free(&losses);
    tt_fault_world_free(&world);
    tt_fault_world_free(&later);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_is_whole),   cmocka_unit_test(outcomes),
        cmocka_unit_test(differences),      cmocka_unit_test(shifts),
        cmocka_unit_test(processes),        cmocka_unit_test(confirmed),
        cmocka_unit_test(plan_of_nonsense), cmocka_unit_test(file_goes_on),
    };
    return cmocka_run_group_tests_name("fault", tests, NULL, NULL);
}
