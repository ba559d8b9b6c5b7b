/* SPDX-License-Identifier: Apache-2.0 */
/* Rates, laws, controls and fix checks on a simulated call server: each call makes one call record,
 * one record per owner, eight message buffers and a transaction that a 32 s timer releases; owner
 * records beyond the second are lost. Start: serve. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "test_judge_sim.h"

/* Functions of the server, as entry addresses; return addresses lie a little above. */
enum {
    OWNER_RECORD_NEW = 0x401000,
    CALL_ADD_OWNER = 0x402000,
    DISPATCH = 0x403000,
    CALL_NEW = 0x404000,
    MESSAGE_NEW = 0x405000,
    TRANSACTION_NEW = 0x406000,
    CALL_RELEASE = 0x407000,
    CALL_DESTROY = 0x408000,
};
enum { OWNER_SITE, CALL_SITE, MESSAGE_SITE, TRANSACTION_SITE, TABLE_SITE };

struct service {
    unsigned owners;
    double seconds, load_seconds, calls_per_second;
    double fail_share; /* instead of owners: this share of calls loses one record */
    bool fixed;
    bool leak_calls; /* call records are lost instead */
    bool declare;
    bool count_stack; /* functions on the owner record's stack are counted */
};
static const struct service usual = {
    .owners = 4, .seconds = 90, .load_seconds = 60, .calls_per_second = 17, .declare = true};

static void site_at(struct sim *sim, uint64_t entry)
{
    uint64_t pcs[] = {entry + 8, DISPATCH + 8, 0x400008};
    sim_site(sim, pcs, 3);
}

static void serve(struct sim *sim, const struct service *s, uint64_t seed)
{
    sim_open(sim, seed, s->seconds, 1);
    for (double t = 0;
         (t += tt_stats_rng_exponential(&sim->rng, 1 / s->calls_per_second)) < s->load_seconds;)
        assert_int_equal(tt_vec_push(&sim->ops, t), 0);
    struct tt_case_label label = {"owners", ""};
    snprintf(label.value, sizeof label.value, "%u", s->owners);
    assert_int_equal(tt_vec_push(&sim->c.labels, label), 0);
    if (s->declare)
        sim_operation(sim, "call", true, CALL_NEW);

    uint64_t owner_stack[] = {OWNER_RECORD_NEW + 8, CALL_ADD_OWNER + 8, DISPATCH + 8, 0x400008};
    for (size_t i = 0; i < sim->ops.len; i++) {
        double t = sim->ops.data[i];
        bool fails = tt_stats_rng_uniform(&sim->rng) < s->fail_share;
        for (unsigned k = 0; k < s->owners; k++) {
            bool lost = !s->fixed && (s->fail_share > 0 ? fails && k == 0 : k >= 2);
            sim_unit(sim, t, lost ? SIM_NEVER : t + 0.2, 40);
        }
    }
    sim_site(sim, owner_stack, 4);
    for (size_t i = 0; i < sim->ops.len; i++)
        sim_unit(sim, sim->ops.data[i], s->leak_calls ? SIM_NEVER : sim->ops.data[i] + 0.25, 200);
    site_at(sim, CALL_NEW);
    for (size_t i = 0; i < sim->ops.len; i++)
        for (unsigned k = 0; k < 8; k++)
            sim_unit(sim, sim->ops.data[i] + 0.001 * k, sim->ops.data[i] + 0.001 * k + 0.0005, 60);
    site_at(sim, MESSAGE_NEW);
    for (size_t i = 0; i < sim->ops.len; i++)
        sim_unit(sim, sim->ops.data[i], sim->ops.data[i] + 32, 120);
    site_at(sim, TRANSACTION_NEW);
    for (int i = 0; i < 400; i++)
        sim_unit(sim, 0.01, SIM_NEVER, 64);
    sim_site(sim, NULL, 0);

    uint64_t release[] = {CALL_RELEASE + 8, DISPATCH + 8}, destroy[] = {CALL_DESTROY + 8};
    assert_int_equal(tt_case_add_stack(&sim->c, 0, 900, release, 2), 0);
    assert_int_equal(tt_case_add_stack(&sim->c, 0, 901, destroy, 1), 0);
    struct tt_case_release by_release = {900, 20, 900}, by_destroy = {901, 5, 300};
    assert_int_equal(tt_vec_push(&sim->c.sites.data[CALL_SITE].releases, by_release), 0);
    assert_int_equal(tt_vec_push(&sim->c.sites.data[CALL_SITE].releases, by_destroy), 0);
    assert_int_equal(tt_vec_push(&sim->c.sites.data[OWNER_SITE].releases, by_destroy), 0);
    if (s->fixed) {
        snprintf(sim->c.processes.data[0].build_id, 48, "bbbb");
        snprintf(sim->c.processes.data[0].modules.data[0].build_id, 48, "bbbb");
    }
    if (s->count_stack) {
        static const struct {
            uint64_t function;
            size_t per_call;
        } counted[] = {{OWNER_RECORD_NEW, 4}, {CALL_ADD_OWNER, 4}, {DISPATCH, 8}};
        size_t calls = sim->ops.len;
        for (size_t f = 0; f < 3; f++) {
            char name[32];
            sim->ops.len = 0;
            double *times = calloc(calls, sizeof *times);
            assert_non_null(times);
            for (size_t i = 0; i < calls; i++)
                times[i] = sim->ops.data[i];
            for (size_t i = 0; i < calls; i++)
                for (size_t k = 0; k < counted[f].per_call; k++)
                    assert_int_equal(tt_vec_push(&sim->ops, times[i]), 0);
            snprintf(name, sizeof name, "f%llx", (unsigned long long)counted[f].function);
            sim_operation(sim, name, false, counted[f].function);
            sim->ops.len = calls;
            memcpy(sim->ops.data, times, calls * sizeof *times);
            free(times);
        }
    }
    sim_process(sim, NULL);
}

static const struct tt_finding *leak_of(const struct sim *sim, const struct tt_findings *out)
{
    const struct tt_finding *f = sim_finding(sim, out, OWNER_SITE);
    assert_int_equal(f->verdict, TT_VERDICT_LEAK_RETAINED);
    for (size_t i = CALL_SITE; i <= TABLE_SITE; i++)
        assert_false(tt_verdict_is_leak(sim_finding(sim, out, i)->verdict));
    return f;
}

static void declared_operation_explains(void **state)
{
    (void)state;
    struct sim sim;
    struct tt_findings out;
    struct service s = usual;
    s.count_stack = true;
    serve(&sim, &s, 1);
    sim_judge(&sim, 10, &out);
    const struct tt_finding *f = leak_of(&sim, &out);
    size_t calls = sim.ops.len;
    assert_int_equal(f->lost_units, 2 * calls);
    assert_true(f->lost_bytes == 80.0 * (double)calls);
    assert_true(f->lost_cost == 96.0 * (double)calls);
    assert_true(f->unit_cost == 48);
    assert_true(f->horizon_short);
    assert_true(f->quiet_seconds > 25);
    assert_string_equal(f->rate.operation, "call");
    assert_string_equal(f->rate.operation_source, "declared");
    assert_true(f->rate.operations == (double)calls);
    assert_true(f->rate.exact && f->rate.per_operation == 2);
    assert_true(f->rate.bytes_per_operation == 80);
    assert_int_equal(f->rate.intervals_held, f->rate.intervals);
    assert_string_equal(f->law.text, "lost bytes = 80 per call");
    assert_false(f->law.identifiable);
    /* how the lost ones' calls ended, and where such blocks are released when they are */
    assert_int_equal(f->operation_site, sim.c.sites.data[CALL_SITE].id);
    assert_int_equal(f->operation_releases.data[0].stack, 900);
    assert_true(fabs(f->operation_releases.data[0].share - 0.75) < 1e-9);
    assert_int_equal(f->releases.data[0].stack, 901);
    assert_int_equal(sim_finding(&sim, &out, TRANSACTION_SITE)->verdict,
                     TT_VERDICT_DELAYED_RELEASE);
    assert_non_null(strstr(sim_finding(&sim, &out, TRANSACTION_SITE)->note, "32.0 s timer"));
    assert_int_equal(sim_finding(&sim, &out, TABLE_SITE)->verdict, TT_VERDICT_WARM_UP);
    tt_findings_free(&out);
    sim_close(&sim);
}

/* Counting the declared function began after the load had, as it does where the target could not be
 * stopped at once. The call records' site was counted from the first moment on and fits as well. */
static void declared_operation_counted_late_still_explains(void **state)
{
    (void)state;
    static const double late[] = {0.05, 0.7, 1, 3.3, 20, 45};
    for (size_t i = 0; i < sizeof late / sizeof late[0]; i++)
        for (uint64_t seed = 1; seed <= 10; seed++) {
            struct sim sim;
            struct tt_findings out;
            serve(&sim, &usual, seed);
            struct tt_case_operation *op = &sim.c.operations.data[0];
            double missed = 0;
            for (size_t k = 0; k < sim.ops.len; k++)
                missed += sim.ops.data[k] < late[i];
            op->since = late[i];
            size_t kept = 0;
            for (size_t k = 0; k < op->rows.len; k++)
                if (op->rows.data[k].t >= late[i])
                    op->rows.data[kept++] =
                        (struct tt_case_count){op->rows.data[k].t, op->rows.data[k].count - missed};
            op->rows.len = kept;
            sim_judge(&sim, 10, &out);
            const struct tt_finding *f = leak_of(&sim, &out);
            assert_string_equal(f->rate.operation_source, "declared");
            assert_string_equal(f->rate.operation, "call");
            assert_true(f->rate.exact && f->rate.per_operation == 2);
            tt_findings_free(&out);
            sim_close(&sim);
        }
}

/* Nothing declared: two per call record beats one half per owner record and a quarter per message.
 */
static void free_clock_explains(void **state)
{
    (void)state;
    struct sim sim;
    struct tt_findings out;
    struct service s = usual;
    s.declare = false;
    s.count_stack = true;
    serve(&sim, &s, 2);
    sim_judge(&sim, 10, &out);
    const struct tt_finding *f = leak_of(&sim, &out);
    assert_string_equal(f->rate.operation, "allocation at f404000 (sim.c:8)");
    assert_string_equal(f->rate.operation_source, "site");
    assert_true(f->rate.exact && f->rate.per_operation == 2);
    assert_int_equal(f->operation_site, sim.c.sites.data[CALL_SITE].id);
    tt_findings_free(&out);
    sim_close(&sim);
}

/* One call in ten loses one record: no exact ratio, an interval that holds the truth. */
static void rare_losses_have_an_interval(void **state)
{
    (void)state;
    unsigned covered = 0;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct sim sim;
        struct tt_findings out;
        struct service s = usual;
        s.fail_share = 0.1;
        serve(&sim, &s, seed);
        sim_judge(&sim, 10, &out);
        const struct tt_finding *f = leak_of(&sim, &out);
        assert_string_equal(f->rate.operation, "call");
        assert_false(f->rate.exact);
        covered +=
            f->rate.per_operation_interval.lo <= 0.1 && f->rate.per_operation_interval.hi >= 0.1;
        tt_findings_free(&out);
        sim_close(&sim);
    }
    assert_true(covered >= 34); /* 95 % of 40 is 38; fewer than 34 has probability 2 in 1000 */
}

struct family {
    struct sim sim[8];
    struct tt_case c[8];
    struct tt_judge_session session[8];
    size_t n;
};

static void add_session(struct family *f, const struct service *s, enum tt_judge_role role)
{
    serve(&f->sim[f->n], s, 100 + f->n);
    f->c[f->n] = f->sim[f->n].c; /* shallow: the sim stays the owner */
    f->session[f->n] = (struct tt_judge_session){.name = "s", .role = role};
    f->n++;
}

static void judge_family(struct family *f, struct tt_findings *out)
{
    struct tt_judge_input input = {
        .sessions = f->session, .n_sessions = f->n, .horizon_s = 10, .name = sim_name};
    struct tt_error err = {0};
    assert_int_equal(tt_judge_cases(&input, f->c, out, &err), 0);
}

static void close_family(struct family *f)
{
    for (size_t i = 0; i < f->n; i++)
        sim_close(&f->sim[i]);
}

static void law_across_sessions(void **state)
{
    (void)state;
    struct family f = {0};
    struct tt_findings out;
    struct service s = usual;
    add_session(&f, &s, TT_JUDGE_JUDGED);
    for (unsigned owners = 1; owners <= 6; owners++) {
        s.owners = owners;
        if (owners != usual.owners)
            add_session(&f, &s, TT_JUDGE_CONTROL);
    }
    judge_family(&f, &out);
    const struct tt_finding *found = leak_of(&f.sim[0], &out);
    assert_string_equal(found->law.text, "lost bytes = 40 x (owners - 2) per call, owners > 2");
    assert_string_equal(found->law.covariate, "owners");
    assert_true(found->law.identifiable);
    assert_true(found->law.r2 > 0.999);
    assert_int_equal(found->law.points.len, 6);
    assert_true(found->confirmed);
    assert_int_equal(found->controls.len, 5);
    assert_true(found->controls.data[0].clean && found->controls.data[1].clean);
    assert_false(found->controls.data[2].clean);
    char expected[64];
    snprintf(expected, sizeof expected, "owners=2: 0 lost in %s%03zu calls",
             f.sim[2].ops.len >= 1000 ? "1," : "", f.sim[2].ops.len % 1000);
    assert_non_null(strstr(found->controls.data[1].text, expected));
    assert_non_null(strstr(found->workaround, "owners=1: 0 lost"));
    tt_findings_free(&out);
    close_family(&f);
}

/* Two sessions tell that it depends on owners, not how. */
static void few_levels_do_not_identify(void **state)
{
    (void)state;
    struct family f = {0};
    struct tt_findings out;
    struct service s = usual;
    add_session(&f, &s, TT_JUDGE_JUDGED);
    s.owners = 2;
    add_session(&f, &s, TT_JUDGE_CONTROL);
    judge_family(&f, &out);
    const struct tt_finding *found = leak_of(&f.sim[0], &out);
    assert_true(found->law.known);
    assert_false(found->law.identifiable);
    assert_non_null(strstr(found->law.caveat, "2 values of owners"));
    assert_true(found->confirmed);
    tt_findings_free(&out);
    close_family(&f);
}

static void fix_is_checked(void **state)
{
    (void)state;
    static const struct {
        bool fixed;
        double load_seconds;
        const char *text;
        bool exercised;
    } runs[] = {
        {true, 60, "0 lost in", true},
        {false, 60, "no check:", true}, /* the same build again */
        {true, 0.5, "improved: 0 lost", true},
        {true, 0, "not exercised", false},
    };
    for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++) {
        struct family f = {0};
        struct tt_findings out;
        struct service s = usual;
        add_session(&f, &s, TT_JUDGE_JUDGED);
        s.fixed = runs[i].fixed;
        s.load_seconds = runs[i].load_seconds;
        add_session(&f, &s, TT_JUDGE_FIXED);
        judge_family(&f, &out);
        const struct tt_finding *found = leak_of(&f.sim[0], &out);
        assert_true(found->fix.known);
        assert_int_equal(found->fix.exercised, runs[i].exercised);
        assert_int_equal(found->fix.fixed, i == 0);
        if (strncmp(found->fix.text, runs[i].text, strlen(runs[i].text)) != 0)
            fail_msg("'%s' is not '%s'", found->fix.text, runs[i].text);
        tt_findings_free(&out);
        close_family(&f);
    }
    /* another build that still leaks */
    struct family f = {0};
    struct tt_findings out;
    struct service s = usual;
    add_session(&f, &s, TT_JUDGE_JUDGED);
    add_session(&f, &s, TT_JUDGE_FIXED);
    snprintf(f.c[1].processes.data[0].build_id, 48, "cccc");
    judge_family(&f, &out);
    const struct tt_finding *found = leak_of(&f.sim[0], &out);
    assert_false(found->fix.fixed);
    assert_int_equal(strncmp(found->fix.text, "still leaks", 11), 0);
    tt_findings_free(&out);
    close_family(&f);
    /* a build that was repaired at this site, and now loses its call records */
    f = (struct family){0};
    s = usual;
    add_session(&f, &s, TT_JUDGE_JUDGED);
    s.fixed = true;
    s.leak_calls = true;
    add_session(&f, &s, TT_JUDGE_FIXED);
    judge_family(&f, &out);
    found = leak_of(&f.sim[0], &out);
    assert_false(found->fix.fixed);
    assert_non_null(strstr(found->fix.text, "another site leaks in that build only"));
    tt_findings_free(&out);
    close_family(&f);
}

static void forecast_names_the_nearest_limit(void **state)
{
    (void)state;
    struct sim sim;
    struct tt_findings out;
    serve(&sim, &usual, 9);
    struct tt_case_limit limits[] = {
        {"RLIMIT_AS", -1}, {"cgroup memory.max", 1e7 + 48e6}, {"MemTotal", 1e12}};
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(tt_vec_push(&sim.c.processes.data[0].limits, limits[i]), 0);
    sim_judge(&sim, 10, &out);
    const struct tt_finding *f = leak_of(&sim, &out);
    assert_true(f->forecast.known);
    assert_string_equal(f->forecast.limit_name, "cgroup memory.max");
    /* 34 records of 48 bytes a second, 48 MB left */
    assert_true(fabs(f->forecast.seconds - 1e6 / 34) < 0.1 * 1e6 / 34);
    assert_true(f->forecast.interval.lo < 1e6 / 34 && f->forecast.interval.hi > 1e6 / 34);
    tt_findings_free(&out);
    sim_close(&sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(declared_operation_explains),
        cmocka_unit_test(declared_operation_counted_late_still_explains),
        cmocka_unit_test(free_clock_explains),
        cmocka_unit_test(rare_losses_have_an_interval),
        cmocka_unit_test(law_across_sessions),
        cmocka_unit_test(few_levels_do_not_identify),
        cmocka_unit_test(fix_is_checked),
        cmocka_unit_test(forecast_names_the_nearest_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
