/* SPDX-License-Identifier: Apache-2.0 */
/* The report room on constructed findings: whole articles against golden files
 * (tests/unit/report_golden, rewritten when TT_GOLDEN_UPDATE is set), the JSON contract key by key,
 * and what must never appear in either. Start: main's table. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fault/plan.h"
#include "report/stack.h"
#include "test_report_world.h"

#include <jansson.h>

#ifndef TT_GOLDEN
#define TT_GOLDEN "tests/unit/report_golden"
#endif

/* ---- tests ---- */

static void test_leak_with_control_and_fix(void **state)
{
    (void)state;
    struct world w;
    world_begin(&w);
    add_call_leak(&w);
    add_not_leak(&w, TT_VERDICT_DELAYED_RELEASE, "32.0 s timer", 12);
    add_not_leak(&w, TT_VERDICT_WARM_UP, "", 1);
    expect_all(&w.input, "leak");
    world_end(&w);
}

static void test_frames_have_names(void **state)
{
    (void)state;
    static const struct {
        struct tt_symbol_frame frame;
        const char *name;
    } frames[] = {
        {{.function = "owner_new(int)", .module = "/bin/a"}, "owner_new(int)"},
        {{.function = "", .module = "/usr/lib/liba.so.1", .offset = 0x1f}, "liba.so.1+0x1f"},
        {{.function = "", .module = "", .offset = 0x1f}, "0x1f"},
        {{.function = "", .module = TT_FAULT_CHILD_MODULE, .offset = 1}, "in a forked child"},
    };
    for (size_t i = 0; i < sizeof frames / sizeof *frames; i++) {
        struct tt_text name = {0};
        tt_stack_name(&name, &frames[i].frame, 40);
        assert_false(name.failed);
        assert_string_equal(name.data, frames[i].name);
        tt_text_free(&name);
    }
}

static void test_healthy(void **state)
{
    (void)state;
    struct world w;
    world_begin(&w);
    w.sessions[0].dropped = NULL;
    w.sessions[0].n_dropped = 0;
    w.findings.horizon = 600;
    w.findings.sites_not_listed = 40;
    w.findings.sites_looked_at = 59;
    w.findings.process_heap.verdict = TT_VERDICT_STEADY;
    snprintf(w.findings.process_heap.text, sizeof w.findings.process_heap.text,
             "resident memory and live bytes moved together");
    add_not_leak(&w, TT_VERDICT_STEADY, "", 3);
    add_not_leak(&w, TT_VERDICT_CACHE, "full at 512 entries since 40 s", 512);
    for (int i = 0; i < 14; i++)
        add_not_leak(&w, TT_VERDICT_LOAD_FOLLOWING, "", 5);
    expect_all(&w.input, "healthy");
    world_end(&w);

    world_begin(&w);
    w.findings.sites_looked_at = 0;
    w.input.n_repeat = 0;
    expect_golden(&w.input, "text", "nothing.txt");
    world_end(&w);
}

static void test_undetermined(void **state)
{
    (void)state;
    struct world w;
    world_begin(&w);
    w.sessions[0].n_dropped = 2;
    w.sessions[0].unfinished = true;
    w.sessions[0].n_labels = 0;
    struct tt_finding *f = add_finding(&w, TT_VERDICT_UNDETERMINED);
    f->size_min = 24;
    f->size_max = 120;
    f->births = 900;
    f->live = f->lost_units = 700;
    f->deaths = 200;
    f->lost_bytes = 42000;
    f->rate.per_second = 7.8;
    f->rate.per_second_interval = (struct tt_interval){5.1, 10.9};
    f->confidence = 0.5;
    f->stack = 99; /* not recorded */
    snprintf(f->would_change_it, sizeof f->would_change_it,
             "30 minutes more under the same load, or a pause in the load");
    PUSH(f->evidence,
         (struct tt_evidence){
             .kind = "trend", .value = 0.9, .log_e = -1.2, .text = "grows, but so does the load"});
    static const char *const warnings[] = {
        "/srv/call/callowner changed since the recording: its functions are not named"};
    w.input.warnings = warnings;
    w.input.n_warnings = 1;
    expect_all(&w.input, "undetermined");
    world_end(&w);
}

static void test_sampled_fd_and_cpp_in_one_report(void **state)
{
    (void)state;
    struct world w;
    world_begin(&w);
    w.sessions[0].mode = "sampled";
    w.sessions[0].attached = true;
    struct tt_finding *f = add_finding(&w, TT_VERDICT_LEAK_LOST);
    f->stack = 4;
    f->size_min = 64;
    f->size_max = 96;
    f->births = 510000;
    f->deaths = 500000;
    f->live = 10000;
    f->lost_units = 9800;
    f->lost_bytes = 784000;
    f->estimate_sd = 420;
    f->confidence = 0.981;
    f->rate = (struct tt_rate){.per_second = 108.9,
                               .per_second_interval = {101.2, 116.6},
                               .has_operation = true,
                               .operation = "lab::Book<lab::Order>::add()",
                               .operation_source = "stack",
                               .operations = 31000,
                               .per_operation = 0.316,
                               .bytes_per_operation = 25.3,
                               .per_operation_interval = {0.29, 0.342}};
    f->forecast.per_day = 9.6e8;
    f = add_finding(&w, TT_VERDICT_LEAK_RETAINED);
    f->resource = "fd";
    f->stack = 2;
    f->births = f->live = f->lost_units = 12;
    f->rate.per_second = 12.0 / 90;
    f->rate.per_second_interval = (struct tt_interval){0.07, 0.24};
    f->forecast = (struct tt_forecast){.known = true,
                                       .limit_name = "RLIMIT_NOFILE",
                                       .limit = 1024,
                                       .seconds = 7600,
                                       .interval = {NAN, INFINITY},
                                       .per_day = 11520};
    f = add_finding(&w, TT_VERDICT_LEAK_RETAINED); /* says nothing but that it is one */
    f->rate.per_second_interval = (struct tt_interval){-INFINITY, INFINITY};
    f->severity = -0.0;
    f->lost_units = f->live = 1;
    f->stack = 5;
    for (int i = 0; i < 3; i++)
        add_finding(&w, TT_VERDICT_UNDETERMINED)->stack = 3;
    w.input.max_articles = 3;
    expect_all(&w.input, "several");
    w.input.max_articles = 1;
    expect_golden(&w.input, "text", "several-bounded.txt");
    world_end(&w);
}

static void test_whole_units_per_several_operations(void **state)
{
    (void)state;
    struct world w;
    struct tt_text out = {0};
    world_begin(&w);
    w.sessions[0].n_labels = 0;
    struct tt_finding *f = add_call_leak(&w);
    f->law.n_terms = 0; /* no law across runs to make the title from */
    f->rate.per_operation = 1.0 / 3;
    f->rate.bytes_per_operation = 40.0 / 3;
    snprintf(f->rate.operation, sizeof f->rate.operation, "query");
    assert_int_equal(tt_report_write("text", &w.input, &out, NULL), 0);
    expect_decent(out.data);
    assert_int_equal(strncmp(out.data, "callowner loses 40 bytes (1 block) per 3 queries\n", 49),
                     0);
    assert_non_null(strstr(out.data, "Every 3 queries leave 1 block behind"));
    assert_non_null(strstr(out.data, "  1 block (40 bytes requested, 48 bytes with the allocator's "
                                     "own) per 3 queries, in 58 of 58"));
    tt_text_free(&out);
    world_end(&w);
}

static void test_colour_only_when_asked(void **state)
{
    (void)state;
    struct world w;
    struct tt_text plain = {0}, colour = {0};
    world_begin(&w);
    add_call_leak(&w);
    assert_int_equal(tt_report_write("text", &w.input, &plain, NULL), 0);
    assert_null(strchr(plain.data, '\033'));
    w.input.colour = true;
    assert_int_equal(tt_report_write("text", &w.input, &colour, NULL), 0);
    assert_int_equal(strncmp(colour.data, "\033[1;31mcallowner loses", 22), 0);
    /* Without the colours it is the same text. */
    struct tt_text stripped = {0};
    for (const char *p = colour.data; *p; p++) {
        if (*p == '\033')
            p = strchr(p, 'm');
        else
            tt_text_add_bytes(&stripped, p, 1);
    }
    assert_string_equal(stripped.data, plain.data);
    tt_text_free(&stripped);
    tt_text_free(&plain);
    tt_text_free(&colour);
    world_end(&w);
}

static void test_unknown_format(void **state)
{
    (void)state;
    struct world w;
    struct tt_text out = {0};
    struct tt_error err;
    world_begin(&w);
    assert_int_equal(tt_report_write("yaml", &w.input, &out, &err), -EINVAL);
    assert_non_null(strstr(err.text, "text, markdown, json"));
    assert_null(out.data);
    world_end(&w);
}

/* The keys of the contract (DESIGN.md) with the JSON types each may have. */
static void expect_keys(json_t *object, const char *const *keys)
{
    assert_true(json_is_object(object));
    for (; *keys; keys++) {
        json_t *value = json_object_get(object, *keys + 1);
        if (!value)
            fail_msg("no key %s", *keys + 1);
        bool right = false;
        switch (**keys) {
        case 'o':
            right = json_is_object(value);
            break;
        case 'O': /* object or null */
            right = json_is_object(value) || json_is_null(value);
            break;
        case 'a':
            right = json_is_array(value);
            break;
        case 'A':
            right = json_is_array(value) || json_is_null(value);
            break;
        case 's':
            right = json_is_string(value);
            break;
        case 'S':
            right = json_is_string(value) || json_is_null(value);
            break;
        case 'n':
            right = json_is_number(value);
            break;
        case 'N':
            right = json_is_number(value) || json_is_null(value);
            break;
        case 'b':
            right = json_is_boolean(value);
            break;
        default:
            break;
        }
        if (!right)
            fail_msg("key %s is not of type %c", *keys + 1, **keys);
    }
}

static void test_json_contract(void **state)
{
    (void)state;
    struct world w;
    struct tt_text out = {0};
    world_begin(&w);
    w.sessions[0].n_dropped = 2;
    add_call_leak(&w);
    add_not_leak(&w, TT_VERDICT_STEADY, "", 3);
    assert_int_equal(tt_report_write("json", &w.input, &out, NULL), 0);
    json_error_t error;
    json_t *root = json_loads(out.data, JSON_REJECT_DUPLICATES, &error);
    assert_non_null(root);
    static const char *const root_keys[] = {"sschema",   "otool", "otarget", "osession",
                                            "afindings", "bleak", NULL};
    static const char *const target_keys[] = {"npid", "sexe", "Sbuild_id", NULL};
    static const char *const session_keys[] = {"nseconds", "smode", "odropped", NULL};
    static const char *const finding_keys[] = {
        "nid",   "sresource", "sverdict",  "nseverity", "osite",       "Oowner",           "olost",
        "orate", "Olaw",      "Oforecast", "aevidence", "Nconfidence", "Swould_change_it", NULL};
    static const char *const frame_keys[] = {"Sfunction", "Smodule",  "Sfile",
                                             "Nline",     "binlined", NULL};
    static const char *const lost_keys[] = {"nunits", "Nbytes", "Nsince_start", "Nbefore_attach",
                                            NULL};
    static const char *const rate_keys[] = {"Nper_second", "Nper_operation", "Soperation",
                                            "Ainterval", NULL};
    static const char *const law_keys[] = {"stext", "aterms", "Nr2", "bidentifiable", NULL};
    static const char *const forecast_keys[] = {"Nlimit", "Slimit_name", "Sexhausted_at",
                                                "Ainterval", NULL};
    expect_keys(root, root_keys);
    assert_string_equal(json_string_value(json_object_get(root, "schema")), "telltale.findings/1");
    expect_keys(json_object_get(root, "target"), target_keys);
    expect_keys(json_object_get(root, "session"), session_keys);
    json_t *dropped = json_object_get(json_object_get(root, "session"), "dropped");
    assert_int_equal(json_object_size(dropped), 1);
    assert_int_equal(json_integer_value(json_object_get(dropped, "stacks cut at 192 frames")),
                     1234);
    json_t *findings = json_object_get(root, "findings");
    assert_int_equal(json_array_size(findings), 2);
    for (size_t i = 0; i < 2; i++) {
        json_t *f = json_array_get(findings, i);
        expect_keys(f, finding_keys);
        json_t *frames = json_object_get(json_object_get(f, "site"), "frames");
        assert_true(json_is_array(frames));
        assert_true(json_array_size(frames) > 0);
        expect_keys(json_array_get(frames, 0), frame_keys);
        expect_keys(json_object_get(f, "lost"), lost_keys);
        expect_keys(json_object_get(f, "rate"), rate_keys);
    }
    json_t *leak = json_array_get(findings, 0);
    assert_string_equal(json_string_value(json_object_get(leak, "verdict")), "leak-retained");
    expect_keys(json_object_get(leak, "law"), law_keys);
    expect_keys(json_object_get(leak, "forecast"), forecast_keys);
    assert_int_equal(json_array_size(json_object_get(json_object_get(leak, "site"), "frames")), 8);
    json_t *lost = json_object_get(leak, "lost");
    assert_int_equal(json_integer_value(json_object_get(lost, "units")), 2000);
    assert_int_equal(json_integer_value(json_object_get(lost, "bytes")), 80000);
    assert_int_equal(json_integer_value(json_object_get(lost, "before_attach")), 0);
    json_t *rate = json_object_get(leak, "rate");
    assert_true(fabs(json_real_value(json_object_get(rate, "per_second")) - 32.8) < 1e-9);
    assert_int_equal(json_integer_value(json_object_get(rate, "per_operation")), 2);
    assert_string_equal(json_string_value(json_object_get(rate, "operation")), "call");
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(leak, "forecast"), "exhausted_at")),
        "2027-01-23T14:03:30Z");
    json_t *second = json_array_get(json_object_get(leak, "evidence"), 1);
    assert_true(json_is_null(json_object_get(second, "value")));
    assert_int_equal(json_array_size(json_object_get(leak, "series")), 91);
    json_decref(root);
    tt_text_free(&out);
    world_end(&w);
}

static void test_sites(void **state)
{
    (void)state;
    static const struct tt_report_site list[] = {
        {1, 7, "heap", 2000, 4000, 80000, 88.2, 29.4, false, "owner_record_new", "/src/owner.c", 88,
         "/srv/callowner", 40, 40, 0},
        {1, 8, "heap", 1234567, 99999999, 5e9, 0.25, 0.1, true,
         "lab::Book<lab::Order, std::less<unsigned long long const> >::add", "", 0, "/srv/lab", 16,
         4096, 0},
        {1, 9, "fd", 3, 3, 0, NAN, NAN, false, "", "", 0, "", 0, 0, 0},
        {1, 11, "fd", 1, 1, 0, NAN, NAN, false, "", "", 0, "", 0, 0, 0,
         "pipe: open before the recording began"},
        {1, 10, "mapping", 1, 1, 8192, 2, 2, false, "", "", 0, "/lib/libapr-1.so.0", 0, 0, 0x1b8e4},
    };
    static const struct tt_report_lost lost[] = {
        {1, 2000, 96000, 1990, 100, "48 bytes: text \"sip:\033\""}};
    struct tt_report_sites sites = {
        .list = list, .n = 5, .lost = lost, .n_lost = 1, .more = 12, .seconds = 90};
    struct tt_text out = {0};
    assert_int_equal(tt_report_sites("text", &sites, &out, NULL), 0);
    expect_decent(out.data);
    char *want = read_golden("sites.txt");
    if (getenv("TT_GOLDEN_UPDATE")) {
        FILE *f = fopen(TT_GOLDEN "/sites.txt", "w");
        fputs(out.data, f);
        fclose(f);
    } else {
        assert_string_equal(out.data, want);
    }
    free(want);
    tt_text_free(&out);
    assert_int_equal(tt_report_sites("json", &sites, &out, NULL), 0);
    json_t *root = json_loads(out.data, 0, NULL);
    assert_non_null(root);
    assert_string_equal(json_string_value(json_object_get(root, "schema")), "telltale.sites/1");
    json_t *rows = json_object_get(root, "sites");
    assert_int_equal(json_array_size(rows), 5);
    assert_string_equal(json_string_value(json_object_get(json_array_get(rows, 3), "place")),
                        list[3].place);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(rows, 0), "live")), 2000);
    assert_true(json_is_null(json_object_get(json_array_get(rows, 2), "oldest_seconds")));
    assert_true(json_is_null(json_object_get(json_array_get(rows, 2), "bytes")));
    json_t *group = json_array_get(json_object_get(root, "lost"), 0);
    assert_int_equal(json_integer_value(json_object_get(group, "units")), 2000);
    assert_string_equal(json_string_value(json_object_get(group, "shape")),
                        "48 bytes: text \"sip:?\"");
    json_decref(root);
    tt_text_free(&out);
    sites.n = 0;
    sites.more = 0;
    assert_int_equal(tt_report_sites("text", &sites, &out, NULL), 0);
    assert_non_null(strstr(out.data, "no sites"));
    tt_text_free(&out);
    assert_int_equal(tt_report_sites("xml", &sites, &out, NULL), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_leak_with_control_and_fix),
        cmocka_unit_test(test_healthy),
        cmocka_unit_test(test_undetermined),
        cmocka_unit_test(test_sampled_fd_and_cpp_in_one_report),
        cmocka_unit_test(test_whole_units_per_several_operations),
        cmocka_unit_test(test_colour_only_when_asked),
        cmocka_unit_test(test_unknown_format),
        cmocka_unit_test(test_json_contract),
        cmocka_unit_test(test_sites),
        cmocka_unit_test(test_frames_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
