/* SPDX-License-Identifier: Apache-2.0 */
/* From a session file to the report's input: this test writes sessions whose modules and stacks are
 * its own, so that the names it must find are its own functions. Start: main's table. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "report/material.h"
#include "scratch.h"
#include "session/snapshot.h"
#include "session/writer.h"

/* Functions of this file that stand on the recorded stacks. */
__attribute__((noinline)) static int acquiring(int n)
{
    __asm__ volatile("" ::: "memory");
    return n + 1;
}
__attribute__((noinline)) static int serving(int n)
{
    __asm__ volatile("" ::: "memory");
    return n + 2;
}

static uint64_t inside(int (*function)(int))
{
    return (uint64_t)(uintptr_t)function + 2; /* a return address within it */
}

/* The executable mapping of this program. */
static struct tt_session_module own_module(char path[4096])
{
    struct tt_session_module module = {.path = path, .build_id = ""};
    char line[5000];
    uint64_t here = inside(acquiring);
    FILE *f = fopen("/proc/self/maps", "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        unsigned long start, end, offset;
        if (sscanf(line, "%lx-%lx %*s %lx %*s %*s %4095s", &start, &end, &offset, path) == 4 &&
            here >= start && here < end) {
            module.start = start;
            module.end = end;
            module.file_offset = offset;
            break;
        }
    }
    fclose(f);
    assert_true(module.end > here);
    return module;
}

/* One session: a server and its forked child, one leaking site of blocks, one of sockets that were
 * closed. With `gone` the program's file cannot be found any more. */
static void write_session(const char *name, bool gone, const char *mode, char path[600])
{
    struct tt_error err;
    char exe[4096];
    static const char nowhere[] = "/nowhere/server";
    struct tt_session_module module = own_module(exe);
    if (gone)
        module.path = nowhere;
    snprintf(path, 600, "%s/%s", scratch, name);
    struct tt_session_writer *w = tt_session_create(path, &err);
    assert_non_null(w);
    tt_session_begin(w);
    tt_session_put_meta(w, "command", "[\"./server\", \"-p\", \"50 70\", \"it's\"]");
    tt_session_put_meta(w, "mode", mode);
    tt_session_put_meta(w, "kernel", "6.18.44");
    tt_session_put_meta(w, "machine", "x86_64");
    tt_session_put_meta(w, "libc", "glibc 2.36");
    tt_session_put_meta(w, "started_wall", "1795442520000000000");
    tt_session_put_meta(w, "started_ns", "1000000000");
    tt_session_put_meta(w, "origin_ns", "1000000000");
    tt_session_put_meta(w, "ended_ns", "91000000000");
    tt_session_put_meta(w, "ticks_per_second", "8");
    tt_session_put_label(w, "owners", "4");
    for (int64_t id = 1; id <= 2; id++) {
        struct tt_session_process process = {.id = id,
                                             .pid = 4000 + id,
                                             .exe = "/srv/server",
                                             .build_id = "5f1c2a07",
                                             .cmdline = "./server",
                                             .state = "ended",
                                             .mode = mode,
                                             .allocator = "glibc",
                                             .exe_size = 148240,
                                             .exe_mtime = 1795356120,
                                             .sample_mean = strcmp(mode, "sampled") ? 0 : 4096};
        tt_session_put_process(w, &process);
        module.process = id;
        tt_session_put_module(w, &module);
    }
    const uint64_t frames[] = {inside(acquiring), inside(serving)};
    tt_session_put_stack(w, 1, 5, false, frames, 2);
    tt_session_put_stack(w, 2, 5, true, frames + 1, 1);
    tt_session_put_epoch(w, 1, 91000000000);
    for (int64_t id = 1; id <= 2; id++) {
        struct tt_session_site site = {.process = 1,
                                       .id = id,
                                       .resource = id == 1 ? "heap" : "socket",
                                       .stack = id == 1 ? 5 : 0,
                                       .size_min = 40,
                                       .size_max = 40};
        struct tt_session_sample sample = {.epoch = 1, .births = 100, .birth_bytes = 4000};
        sample.deaths = id == 1 ? 40 : 100;
        sample.death_bytes = sample.deaths * 40;
        tt_session_put_site(w, &site);
        tt_session_put_sample(w, 1, id, &sample);
    }
    struct tt_session_survivor old = {.site = 1, .size = 40, .tick = 80, .count = 20};
    struct tt_session_survivor young = {.site = 1, .size = 40, .tick = 640, .count = 40};
    tt_session_put_survivor(w, 1, &old);
    tt_session_put_survivor(w, 1, &young);
    struct tt_session_look look = {.at_ns = 91000000000, .tick = 720, .consistent = true};
    tt_session_put_look(w, 1, &look);
    struct tt_session_dropped first = {1, "stacks cut", 3}, second = {2, "stacks cut", 4};
    tt_session_put_dropped(w, &first);
    tt_session_put_dropped(w, &second);
    struct tt_session_operation operations[] = {
        {1, 1, "request", "serve", 0, "refused: it could not be stopped", 0},
        {2, 1, "request", "serve", 0, "refused: it could not be stopped", 0},
        {1, 2, "found", "wrapper", 0, "stack, refused: its code is shared", 0}}; /* not asked for */
    for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++)
        tt_session_put_operation(w, &operations[i]);
    tt_session_commit(w);
    assert_int_equal(tt_session_failed(w, &err), 0);
    assert_int_equal(tt_session_finish(w, true, &err), 0);
}

static struct tt_session *open_session(const char *path)
{
    struct tt_error err = {0};
    struct tt_session *session = tt_session_open(path, &err);
    if (!session)
        fail_msg("%s", err.text);
    return session;
}

static void test_names_and_input(void **state)
{
    (void)state;
    char path[600], other_path[600];
    write_session("a.tt", false, "exact", path);
    write_session("b.tt", false, "exact", other_path);
    struct tt_session *session = open_session(path), *other = open_session(other_path);
    struct tt_report_source sources[] = {{session, "a.tt", TT_REPORT_JUDGED},
                                         {other, "b.tt", TT_REPORT_FIXED}};
    struct tt_error err;
    struct tt_report_material *m = tt_report_material_open(sources, 2, NULL, &err);
    assert_non_null(m);
    const char *name = tt_report_material_name(m, 0, 1, inside(acquiring));
    assert_non_null(strstr(name, "acquiring@test_report_material.c:"));
    assert_string_equal(tt_report_material_name(m, 0, 1, 16), "");
    assert_string_equal(tt_report_material_name(m, 0, 99, inside(acquiring)), "");

    struct tt_findings findings = {.leak = true, .sites_looked_at = 2, .horizon = 30};
    struct tt_finding leak = {.id = 1,
                              .resource = "heap",
                              .verdict = TT_VERDICT_LEAK_RETAINED,
                              .process = 1,
                              .site = 1,
                              .stack = 5,
                              .births = 100,
                              .deaths = 40,
                              .live = 60,
                              .lost_units = 60,
                              .lost_bytes = 2400,
                              .horizon = 30,
                              .rate.per_second = 0.66};
    assert_int_equal(tt_vec_push(&findings.list, leak), 0);
    struct tt_report_input input;
    assert_int_equal(tt_report_material_input(m, &findings, "0.1.0", &input, &err), 0);
    assert_int_equal(input.n_sessions, 2);
    assert_int_equal(input.sessions[0].n_processes, 2);
    assert_int_equal(input.sessions[0].n_dropped, 1);
    assert_int_equal(input.sessions[0].dropped[0].count, 7);
    assert_true(input.sessions[0].seconds == 90);
    assert_int_equal(input.sessions[0].started_wall, 1795442520);
    assert_false(input.sessions[0].attached);
    assert_string_equal(input.sessions[0].processes[0].libc, "glibc 2.36");
    assert_int_equal(input.n_repeat, 3);
    assert_string_equal(input.repeat[0], "telltale run -o a.tt --operation request=serve --label "
                                         "owners=4 -- ./server -p '50 70' 'it'\\''s'");
    assert_string_equal(input.repeat[2], "telltale report a.tt --fixed b.tt");
    struct tt_text out = {0};
    assert_int_equal(tt_report_write("text", &input, &out, &err), 0);
    assert_non_null(strstr(out.data, "server loses 92.8 KiB per hour with owners=4"));
    assert_non_null(strstr(out.data, "    acquiring   test_report_material.c:"));
    assert_non_null(strstr(out.data, "    serving     test_report_material.c:"));
    assert_non_null(strstr(out.data, "stacks cut: 7"));
    const char *refused = strstr(out.data, "operation request (serve) was not counted: it could");
    assert_non_null(refused);
    assert_null(strstr(refused + 40, "was not counted"));
    tt_text_free(&out);

    /* Asking twice gives the same. */
    assert_int_equal(tt_report_material_input(m, &findings, "0.1.0", &input, &err), 0);
    assert_int_equal(input.n_repeat, 3);
    tt_vec_free(&findings.list);
    tt_report_material_close(m);
    tt_session_close(session);
    tt_session_close(other);
}

static void test_sites(void **state)
{
    (void)state;
    static const char *const modes[] = {"exact", "sampled"};
    for (size_t i = 0; i < 2; i++) {
        char path[600];
        write_session("sites.tt", false, modes[i], path);
        struct tt_session *session = open_session(path);
        struct tt_report_source source = {session, "sites.tt", TT_REPORT_JUDGED};
        struct tt_report_material *m = tt_report_material_open(&source, 1, NULL, NULL);
        struct tt_report_sites sites;
        assert_int_equal(tt_report_material_sites(m, 10, &sites, NULL), 0);
        assert_int_equal(sites.n, 2);
        struct tt_findings none = {.sites_looked_at = 2};
        struct tt_report_input input;
        assert_int_equal(tt_report_material_input(m, &none, "0.1.0", &input, NULL), 0);
        const char *sampled = strstr(input.repeat[0], " --mode sampled --mean 4096 ");
        assert_int_equal(sampled != NULL, i);
        const struct tt_report_site *top = &sites.list[0];
        /* 1 - exp(-40/4096) of the units are sampled: each stands for 102.9. */
        double weight = i ? 1 / -expm1(-40.0 / 4096) : 1;
        assert_int_equal(top->site, 1);
        assert_int_equal(top->live, llround(60 * weight));
        assert_int_equal(top->births, llround(100 * weight));
        assert_true(fabs(top->live_bytes - 2400 * weight) < 1e-6);
        assert_int_equal(top->estimated, i);
        assert_true(top->oldest == 80);
        assert_true(top->youngest == 10);
        assert_string_equal(top->function, "acquiring");
        assert_int_equal(sites.list[1].live, 0);
        assert_int_equal(sites.list[1].births, 100); /* only blocks are sampled */
        assert_false(sites.list[1].estimated);
        assert_true(isnan(sites.list[1].oldest));
        assert_int_equal(tt_report_material_sites(m, 1, &sites, NULL), 0);
        assert_int_equal(sites.n, 1);
        assert_int_equal(sites.more, 1);
        tt_report_material_close(m);
        tt_session_close(session);
    }
}

/* Names saved where the program was serve where it is not. */
static void test_saved_names(void **state)
{
    (void)state;
    char path[600];
    struct tt_error err;
    for (int saved = 0; saved < 2; saved++) {
        write_session("gone.tt", !saved, "exact", path);
        struct tt_session *session = open_session(path);
        struct tt_report_source source = {session, "gone.tt", TT_REPORT_JUDGED};
        struct tt_report_material *m = tt_report_material_open(&source, 1, NULL, NULL);
        struct tt_report_sites sites;
        if (!saved) { /* no file, no names */
            assert_string_equal(tt_report_material_name(m, 0, 1, inside(acquiring)), "");
        } else {
            assert_int_equal(tt_report_material_sites(m, 10, &sites, NULL), 0);
            if (tt_report_material_save(m, 0, &err))
                fail_msg("%s", err.text);
        }
        tt_report_material_close(m);
        tt_session_close(session);
    }
    /* The same session again, as another machine sees it: without the file. */
    char command[1300];
    snprintf(command, sizeof command,
             "sqlite3 '%s' \"UPDATE module SET path='/nowhere/server'\" 2>/dev/null", path);
    if (system(command))
        skip(); /* no sqlite3 shell */
    struct tt_session *session = open_session(path);
    struct tt_report_source source = {session, "gone.tt", TT_REPORT_JUDGED};
    struct tt_report_material *m = tt_report_material_open(&source, 1, NULL, NULL);
    const char *name = tt_report_material_name(m, 0, 1, inside(acquiring));
    assert_non_null(strstr(name, "acquiring@test_report_material.c:"));
    /* Nor is the missing program held against the article. */
    struct tt_findings none = {.leak = false};
    struct tt_report_input input;
    assert_int_equal(tt_report_material_input(m, &none, "0", &input, NULL), 0);
    for (size_t i = 0; i < input.n_warnings; i++)
        assert_null(strstr(input.warnings[i], "/nowhere/server"));
    tt_report_material_close(m);
    tt_session_close(session);
}

/* A session of a process that was found running: attached to in a mode, or looked at once. */
static const char *repeat_of(const char *mode, const char *source, const char *core, char buf[256])
{
    char path[600];
    struct tt_error err = {0};
    snprintf(path, sizeof path, "%s/found.tt", scratch);
    struct tt_session_writer *w = tt_session_create(path, &err);
    assert_non_null(w);
    tt_session_begin(w);
    tt_session_put_meta(w, "command", "");
    tt_session_put_meta(w, "mode", mode);
    tt_session_put_meta(w, "options", "[\"--handle\", \"port grant=a:ret,b:arg1\"]");
    tt_session_put_meta(w, "started_ns", "1000000000");
    tt_session_put_meta(w, "origin_ns", "1000000000");
    tt_session_put_meta(w, "ended_ns", "61000000000");
    tt_session_put_meta(w, "ticks_per_second", "8");
    if (core)
        tt_session_put_meta(w, "core", core);
    for (int64_t id = 1; id <= 3; id++) { /* its mode was switched; then it had a child */
        struct tt_session_process process = {.id = id,
                                             .pid = id < 3 ? 4001 : 4002,
                                             .parent = id < 3 ? 1 : 4001,
                                             .exe = "/srv/server",
                                             .state = "running",
                                             .mode = mode};
        tt_session_put_process(w, &process);
    }
    struct tt_session_snapshot snapshot = {
        .process = 1, .id = 1, .at_ns = 2000000000, .source = source, .blocks = 10, .bytes = 100};
    tt_session_put_snapshot(w, &snapshot);
    tt_session_commit(w);
    assert_int_equal(tt_session_finish(w, true, &err), 0);
    struct tt_session *session = open_session(path);
    struct tt_report_source from = {session, "found.tt", TT_REPORT_JUDGED};
    struct tt_report_material *m = tt_report_material_open(&from, 1, NULL, NULL);
    struct tt_findings none = {.leak = false};
    struct tt_report_input input;
    assert_int_equal(tt_report_material_input(m, &none, "0", &input, NULL), 0);
    assert_true(input.sessions[0].attached);
    snprintf(buf, 256, "%s", input.repeat[0]);
    tt_report_material_close(m);
    tt_session_close(session);
    unlink(path);
    return buf;
}

static void test_repeat_without_a_command(void **state)
{
    (void)state;
    char buf[256];
    assert_string_equal(repeat_of("exact", "copy", NULL, buf),
                        "telltale attach -p 4001 -o found.tt -d 60 --handle "
                        "'port grant=a:ret,b:arg1'");
    assert_string_equal(repeat_of("sampled", "copy", NULL, buf),
                        "telltale attach -p 4001 -o found.tt -d 60 --mode sampled --handle "
                        "'port grant=a:ret,b:arg1'");
    assert_string_equal(repeat_of("", "copy", NULL, buf), "telltale snapshot -p 4001 -o found.tt");
    assert_string_equal(repeat_of("", "core", "/var/core 1", buf),
                        "telltale core '/var/core 1' -o found.tt");
    assert_string_equal(repeat_of("", "core", NULL, buf), "telltale core CORE -o found.tt");
}

static int prepare(void **state)
{
    /* What the compiler would otherwise drop. */
    return scratch_make(state) == 0 && acquiring(0) + serving(0) == 3 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_and_input),
        cmocka_unit_test(test_sites),
        cmocka_unit_test(test_saved_names),
        cmocka_unit_test(test_repeat_without_a_command),
    };
    return cmocka_run_group_tests(tests, prepare, scratch_remove);
}
