/* SPDX-License-Identifier: Apache-2.0 */
/* The small world of test_report_world.h: stacks by id, one session, findings by kind.
 * Start: world_begin. */
#include "test_report_world.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef TT_GOLDEN
#define TT_GOLDEN "tests/unit/report_golden"
#endif

/* ---- stacks by id ---- */

static const struct tt_symbol_frame owner_stack[] = {
    {"owner_record_new", "/srv/call/callowner", "/src/call/owner.c", 88, true, 0x1188},
    {"call_add_owner", "/srv/call/callowner", "/src/call/call.c", 142, false, 0x1188},
    {"on_set_privilege", "/srv/call/callowner", "/src/call/request.c", 310, false, 0x2310},
    {"serve", "/srv/call/callowner", "/src/call/main.c", 77, false, 0x3077},
    {"main", "/srv/call/callowner", "/src/call/main.c", 120, false, 0x3120},
    {"__libc_start_call_main", "/lib/x86_64-linux-gnu/libc.so.6", "", 0, false, 0x2724a},
    {"__libc_start_main", "/lib/x86_64-linux-gnu/libc.so.6", "", 0, false, 0x27305},
    {"_start", "/srv/call/callowner", "", 0, false, 0x1021},
};
static const struct tt_symbol_frame destroy_stack[] = {
    {"owner_record_free", "/srv/call/callowner", "/src/call/owner.c", 101, false, 0x1101},
    {"call_destroy", "/srv/call/callowner", "/src/call/call.c", 233, false, 0x1233},
    {"line_close", "/srv/call/callowner", "/src/call/line.c", 77, false, 0x1077},
    {"main", "/srv/call/callowner", "/src/call/main.c", 120, false, 0x3120},
};
static const struct tt_symbol_frame release_stack[] = {
    {"call_release", "/srv/call/callowner", "/src/call/call.c", 201, false, 0x1201},
    {"on_bye", "/srv/call/callowner", "/src/call/request.c", 402, false, 0x2402},
};
static const struct tt_symbol_frame cpp_stack[] = {
    {"operator new", "/lib/x86_64-linux-gnu/libstdc++.so.6", "", 0, false, 0xaa},
    {"std::_Rb_tree<std::string, std::pair<std::string const, lab::Order>, std::less<> "
     ">::_M_insert_",
     "/srv/lab", "/usr/include/c++/12/bits/stl_tree.h", 1800, true, 0x10},
    {"std::map<std::string, lab::Order>::operator[]", "/srv/lab",
     "/usr/include/c++/12/bits/stl_map.h", 511, true, 0x10},
    {"lab::Book<lab::Order, std::less<unsigned long long const>, lab::Pool<64ul> >::add",
     "/srv/lab", "/src/lab/book.hpp", 41, false, 0x10},
    {"lab::operator<<(lab::Stream&)", "/srv/lab", "/src/lab/io.cpp", 9, false, 0x20},
    {"", "/opt/vendor/libvendor.so.3", "", 0, false, 0x4242},
    {"vendor_dispatch", "/opt/vendor/libvendor.so.3", "", 0, false, 0x5000},
    {"std::thread::_State_impl<int>::_M_run", "/srv/lab", "", 0, false, 0x30},
    {"execute_native_thread_routine", "/lib/x86_64-linux-gnu/libstdc++.so.6", "", 0, false, 0xd4},
    {"start_thread", "/lib/x86_64-linux-gnu/libc.so.6", "", 0, false, 0x89},
};
/* What a hostile program may call its functions. */
static const struct tt_symbol_frame hostile_stack[] = {
    {"evil\033[2Jname\n    `rm`\xff", "/srv/`x`", "/src/a|b*.c", 3, false, 0x1},
    {"next", "/srv/x", "/src/n.c", 4, false, 0x2},
};

static int fake_stack(void *arg, int session, int64_t process, int64_t stack,
                      struct tt_report_stack *out)
{
    (void)arg;
    (void)session;
    (void)process;
    static const struct {
        const struct tt_symbol_frame *frames;
        size_t n;
    } stacks[] = {{owner_stack, 8},
                  {destroy_stack, 4},
                  {release_stack, 2},
                  {cpp_stack, 10},
                  {hostile_stack, 2}};
    if (stack < 1 || stack > 5)
        return -ENOENT;
    *out = (struct tt_report_stack){stacks[stack - 1].frames, stacks[stack - 1].n, stack == 5};
    return 0;
}

static const struct tt_report_process processes[] = {
    {1, 4121, "/srv/call/callowner", "5f1c2a0790ab14cc5f1c2a0790ab14cc5f1c2a07",
     "callowner -p 5070", "glibc 2.36", "glibc", 148240, 1795356120},
};
static const struct tt_report_pair labels[] = {{"owners", "4"}};
static const struct tt_report_drop drops[] = {{"births not followed: no shadow memory left", 0},
                                              {"stacks cut at 192 frames", 1234}};
static const char *const repeat[] = {
    "telltale run -o call.tt --label owners=4 -- ./callowner -p 5070",
    "telltale report call.tt --control two.tt --fixed fixed.tt"};

void world_begin(struct world *w)
{
    memset(w, 0, sizeof *w);
    w->sessions[0] = (struct tt_report_session){.name = "call.tt",
                                                .mode = "exact",
                                                .host = "lab",
                                                .kernel = "6.18.44",
                                                .machine = "x86_64",
                                                .seconds = 90,
                                                .started_wall = 1795442520,
                                                .processes = processes,
                                                .n_processes = 1,
                                                .labels = labels,
                                                .n_labels = 1,
                                                .dropped = drops,
                                                .n_dropped = 1};
    w->sessions[1] = w->sessions[0];
    w->sessions[1].name = "two.tt";
    w->sessions[1].role = TT_REPORT_CONTROL;
    w->sessions[2] = w->sessions[0];
    w->sessions[2].name = "fixed.tt";
    w->sessions[2].role = TT_REPORT_FIXED;
    w->findings.horizon = 30;
    w->findings.sites_looked_at = 3;
    w->input = (struct tt_report_input){.findings = &w->findings,
                                        .sessions = w->sessions,
                                        .n_sessions = 3,
                                        .tool_version = "0.1.0",
                                        .repeat = repeat,
                                        .n_repeat = 2,
                                        .stack = fake_stack};
}

struct tt_finding *add_finding(struct world *w, enum tt_verdict verdict)
{
    struct tt_finding finding = {.id = (int)w->findings.list.len + 1,
                                 .resource = "heap",
                                 .verdict = verdict,
                                 .process = 1,
                                 .site = 7,
                                 .stack = 1,
                                 .horizon = 30,
                                 .confidence = NAN,
                                 .rate = {.per_second = NAN, .per_second_interval = {NAN, NAN}}};
    assert_int_equal(tt_vec_push(&w->findings.list, finding), 0);
    w->findings.leak |= tt_verdict_is_leak(verdict);
    return &w->findings.list.data[w->findings.list.len - 1];
}

void world_end(struct world *w)
{
    for (size_t i = 0; i < w->findings.list.len; i++) {
        struct tt_finding *f = &w->findings.list.data[i];
        tt_vec_free(&f->evidence);
        tt_vec_free(&f->releases);
        tt_vec_free(&f->operation_releases);
        tt_vec_free(&f->controls);
        tt_vec_free(&f->series);
        tt_vec_free(&f->law.points);
        tt_vec_free(&f->holders);
    }
    for (size_t i = 0; i < w->findings.snapshots.len; i++)
        tt_vec_free(&w->findings.snapshots.data[i].holders);
    tt_vec_free(&w->findings.snapshots);
    tt_vec_free(&w->findings.attaches);
    tt_vec_free(&w->findings.list);
}

/* The call server's leak as measured: all that a judge can say. */
struct tt_finding *add_call_leak(struct world *w)
{
    struct tt_finding *f = add_finding(w, TT_VERDICT_LEAK_RETAINED);
    f->severity = 8.3e6;
    f->size_min = f->size_max = 40;
    f->unit_cost = 48;
    f->births = 4000;
    f->deaths = 2000;
    f->live = f->lost_units = 2000;
    f->lost_bytes = 80000;
    f->lost_cost = 96000;
    f->horizon_short = true;
    f->quiet_seconds = 29;
    f->confidence = 0.99997;
    f->confirmed = true;
    snprintf(f->would_change_it, sizeof f->would_change_it,
             "a recording in which these blocks are released later than 30 s after their call");
    f->rate = (struct tt_rate){.per_second = 32.8,
                               .per_second_interval = {31.4, 34.3},
                               .has_operation = true,
                               .operation = "call",
                               .operation_source = "declared",
                               .operations = 1000,
                               .per_operation = 2,
                               .bytes_per_operation = 80,
                               .per_operation_interval = {2, 2},
                               .exact = true,
                               .intervals_held = 58,
                               .intervals = 58};
    f->law.known = f->law.identifiable = true;
    f->law.r2 = 1;
    f->law.bytes = true;
    f->law.terms[0] = (struct tt_law_term){TT_LAW_HINGE, 2, 40};
    f->law.n_terms = 1;
    snprintf(f->law.covariate, sizeof f->law.covariate, "owners");
    snprintf(f->law.text, sizeof f->law.text,
             "lost bytes = 40 x (owners - 2) per call, owners > 2");
    static const double points[][4] = {{1, 0, 400, 0}, {2, 0, 400, 0}, {4, 2000, 1000, 2000}};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(tt_vec_reserve(&f->law.points, i + 1), 0);
        f->law.points.data[i].x = points[i][0];
        f->law.points.data[i].units = points[i][1];
        f->law.points.data[i].ops = points[i][2];
        f->law.points.data[i].predicted = points[i][3];
        f->law.points.len = i + 1;
    }
    f->forecast = (struct tt_forecast){.known = true,
                                       .limit_name = "cgroup memory.max",
                                       .limit = 536870912.0,
                                       .seconds = 61 * 86400.0,
                                       .interval = {55 * 86400.0, 69 * 86400.0},
                                       .per_day = 8.5e6};
    PUSH(f->evidence, (struct tt_evidence){.kind = "survival",
                                           .value = 2000,
                                           .log_e = 21.8,
                                           .text = "2,000 of 2,000 outlived 30 s and the load's "
                                                   "end"});
    PUSH(f->evidence,
         (struct tt_evidence){
             .kind = "control", .value = NAN, .log_e = NAN, .text = "two control runs were clean"});
    PUSH(f->releases, (struct tt_release_path){1, 2, 412, 1, "", 0});
    PUSH(f->releases, (struct tt_release_path){1, 3, 12, 0.93, "fixed.tt (fixed build)", 2});
    PUSH(f->operation_releases, (struct tt_release_path){1, 3, 1000, 1, "", 0});
    PUSH(f->controls, (struct tt_control){.session = 1,
                                          .label = "owners=2",
                                          .operations = 400,
                                          .expected = 800,
                                          .exercised = true,
                                          .clean = true,
                                          .text = "owners=2: 0 lost in 400 calls"});
    snprintf(f->workaround, sizeof f->workaround, "keep owners <= 2 (0 lost in 400 calls)");
    for (int i = 0; i <= 90; i++)
        PUSH(f->series, (struct tt_point){i, i <= 61 ? i * 2000.0 / 61 : 2000});
    f->fix.known = f->fix.fixed = f->fix.exercised = true;
    f->fix.exposure = 2000;
    snprintf(f->fix.build_id, sizeof f->fix.build_id, "90ab14cc");
    snprintf(f->fix.text, sizeof f->fix.text,
             "0 lost in 1,000 calls (residual below 1 %% of this rate, 95 %%)");
    return f;
}

void add_not_leak(struct world *w, enum tt_verdict verdict, const char *note, uint64_t live)
{
    struct tt_finding *f = add_finding(w, verdict);
    f->stack = 2;
    f->live = live;
    f->births = 10 * live;
    f->deaths = 9 * live;
    snprintf(f->note, sizeof f->note, "%s", note);
}

/* ---- comparing ---- */

char *read_golden(const char *name)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", TT_GOLDEN, name);
    FILE *f = fopen(path, "r");
    if (!f)
        return strdup("");
    struct tt_text text = {0};
    char buf[4096];
    size_t n;
    tt_text_add(&text, "%s", "");
    while ((n = fread(buf, 1, sizeof buf, f)) > 0)
        tt_text_add_bytes(&text, buf, n);
    fclose(f);
    return text.data;
}

/* Nothing that is not a number, no control characters but newlines, no line over 100 columns
 * (unless one long word makes it so, or a verbatim line). */
void expect_decent(const char *text)
{
    assert_null(strstr(text, "nan"));
    assert_null(strstr(text, "inf "));
    assert_null(strstr(text, "-inf"));
    assert_null(strstr(text, "-0 "));
    for (const char *p = text; *p; p++)
        assert_true((unsigned char)*p >= 0x20 || *p == '\n');
    for (const char *line = text; *line;) {
        size_t bytes = strcspn(line, "\n"), width = 0;
        for (size_t i = 0; i < bytes; i++)
            width += ((unsigned char)line[i] & 0xc0) != 0x80;
        if (strncmp(line, "    ", 4))
            assert_in_range(width, 0, 100);
        line += bytes + (line[bytes] == '\n');
    }
}

void expect_golden(const struct tt_report_input *input, const char *format, const char *name)
{
    struct tt_text out = {0};
    struct tt_error err;
    assert_int_equal(tt_report_write(format, input, &out, &err), 0);
    if (!strcmp(format, "text"))
        expect_decent(out.data);
    if (getenv("TT_GOLDEN_UPDATE")) {
        char path[600];
        snprintf(path, sizeof path, "%s/%s", TT_GOLDEN, name);
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        fputs(out.data, f);
        assert_int_equal(fclose(f), 0);
    }
    char *want = read_golden(name);
    assert_string_equal(out.data, want);
    free(want);
    tt_text_free(&out);
}

void expect_all(const struct tt_report_input *input, const char *name)
{
    static const struct {
        const char *format, *suffix;
    } forms[] = {{"text", "txt"}, {"markdown", "md"}, {"json", "json"}};
    for (size_t i = 0; i < 3; i++) {
        char file[128];
        snprintf(file, sizeof file, "%s.%s", name, forms[i].suffix);
        expect_golden(input, forms[i].format, file);
    }
}
