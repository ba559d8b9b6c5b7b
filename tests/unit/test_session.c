/* SPDX-License-Identifier: Apache-2.0 */
/* The session room: what is written comes back, row by row. Start: rows_come_back. */
#include "test_session_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static void rows_come_back(void **state)
{
    (void)state;
    char *path = session_path("a.tt");
    struct tt_error err = {0};
    assert_int_equal(tt_session_finish(session_write(path, 4), true, &err), 0);
    struct stat st;
    char log[200];
    snprintf(log, sizeof log, "%s-wal", path);
    assert_int_not_equal(stat(log, &st), 0); /* one plain file is left */

    struct tt_session *s = session_open(path);
    const struct tt_session_meta *meta = tt_session_meta(s);
    assert_true(meta->finished);
    assert_string_equal(meta->mode, "exact");
    assert_string_equal(meta->outcome, "");
    assert_int_equal(meta->ended_ns, 9000);
    assert_true(meta->horizon_s > 2.4 && meta->horizon_s < 2.6);
    assert_false(meta->has_exit);

    tt_session_process_vec processes = {0};
    assert_int_equal(tt_session_processes(s, &processes, &err), 0);
    assert_int_equal(processes.len, 1);
    assert_string_equal(processes.data[0].exe, session_process.exe);
    assert_true(processes.data[0].has_exit);
    assert_int_equal(processes.data[0].exit_status, -1);
    assert_int_equal(processes.data[0].ended_ns, 0);
    assert_string_equal(processes.data[0].reason, "");
    tt_vec_free(&processes);

    tt_session_site_vec sites = {0};
    assert_int_equal(tt_session_sites(s, -1, &sites, &err), 0);
    assert_int_equal(sites.len, 2);
    assert_int_equal(sites.data[0].births, 40);
    assert_int_equal(sites.data[0].death_bytes, 1440);
    assert_int_equal(sites.data[0].size_max, UINT32_MAX);
    assert_int_equal(sites.data[1].births, 3);
    tt_vec_free(&sites);

    tt_session_sample_vec series = {0};
    assert_int_equal(tt_session_series(s, 1, 1, &series, &err), 0);
    assert_int_equal(series.len, 4);
    assert_int_equal(series.data[2].at_ns, 3000);
    tt_vec_free(&series);

    struct tt_session_stack stack;
    assert_int_equal(tt_session_stack(s, 1, 2, &stack, &err), 0);
    assert_int_equal(stack.n, 3);
    assert_true(stack.cut);
    assert_true(stack.frames[2] == UINT64_MAX);
    free(stack.frames);
    assert_int_equal(tt_session_stack(s, 1, 3, &stack, &err), -ENOENT);

    uint64_t bins[TT_SESSION_BINS];
    assert_int_equal(tt_session_deaths(s, 1, 1, bins, &err), 0);
    assert_int_equal(bins[0] * 100 + bins[47], 502);

    tt_session_survivor_vec survivors = {0};
    assert_int_equal(tt_session_survivors(s, 1, -1, &survivors, &err), 0);
    assert_int_equal(survivors.len, 1);
    assert_int_equal(survivors.data[0].count, 8);
    tt_vec_free(&survivors);
    struct tt_session_look look;
    assert_int_equal(tt_session_look(s, 1, &look, &err), 0);
    assert_true(look.consistent && !look.final);
    assert_int_equal(tt_session_look(s, 2, &look, &err), -ENOENT);

    tt_session_count_vec counts = {0};
    assert_int_equal(tt_session_operation_series(s, 1, 1, &counts, &err), 0);
    assert_int_equal(counts.data[3].count, 20);
    tt_vec_free(&counts);
    tt_session_proc_vec procs = {0};
    assert_int_equal(tt_session_procs(s, 1, &procs, &err), 0);
    assert_int_equal(procs.data[0].rss_anon, 7);
    assert_int_equal(procs.data[0].fds, -1);
    tt_vec_free(&procs);
    tt_session_limit_vec limits = {0};
    assert_int_equal(tt_session_limits(s, 1, &limits, &err), 0);
    assert_int_equal(limits.data[0].value, -1);
    tt_vec_free(&limits);
    tt_session_module_vec modules = {0};
    assert_int_equal(tt_session_modules(s, 1, &modules, &err), 0);
    assert_int_equal(modules.data[0].until_ns, 4000);
    tt_vec_free(&modules);
    tt_session_release_age_vec ages = {0};
    assert_int_equal(tt_session_release_ages(s, 1, 1, &ages, &err), 0);
    assert_int_equal(ages.data[0].age, 256);
    tt_vec_free(&ages);
    tt_session_close(s);
}

static void names_are_added_while_it_is_read(void **state)
{
    (void)state;
    char *path = session_written("names.tt", 1);
    struct tt_error err = {0};
    struct tt_session *reader = tt_session_open(path, &err);
    assert_non_null(reader);
    struct tt_session_symbol frames[2] = {{"inner", "/bin/server", "a.c", 7, true},
                                          {"outer", "/bin/server", "b.c", 9, false}};
    struct tt_session_symbol_row row = {1, 0x1000, frames, 2};
    assert_int_equal(tt_session_symbols_put(path, &row, 1, &err), 0);
    row.n = 1; /* replaces both */
    assert_int_equal(tt_session_symbols_put(path, &row, 1, &err), 0);
    tt_session_symbol_vec out = {0};
    assert_int_equal(tt_session_symbols_get(reader, 1, 0x1000, &out, &err), 0);
    assert_int_equal(out.len, 1);
    assert_string_equal(out.data[0].function, "inner");
    assert_true(out.data[0].inlined);
    tt_vec_free(&out);
    tt_session_close(reader);
}

static void copies_come_back(void **state)
{
    (void)state;
    char *path = session_written("copies.tt", 1);
    struct tt_error err = {0};
    struct tt_session *s = session_open(path);
    tt_session_snapshot_vec snapshots = {0};
    assert_int_equal(tt_session_snapshots(s, 1, &snapshots, &err), 0);
    assert_int_equal(snapshots.len, 4);
    assert_int_equal(snapshots.data[1].id, 2);
    assert_int_equal(snapshots.data[1].lost_bytes, 960);
    assert_string_equal(snapshots.data[1].allocator, "glibc 2.36");
    assert_int_equal(snapshots.data[1].unknown_units, 2);
    assert_int_equal(snapshots.data[1].tagged, 1);
    tt_session_lost_group_vec groups = {0};
    assert_int_equal(tt_session_lost_groups(s, 1, 2, &groups, &err), 0);
    assert_int_equal(groups.len, 2);
    assert_true(groups.data[1].fingerprint == UINT64_MAX);
    assert_int_equal(groups.data[1].hung_bytes, 96);
    assert_string_equal(groups.data[1].samples, "55d0 55e0");
    tt_session_lost_share_vec shares = {0};
    assert_int_equal(tt_session_lost_shares(s, 1, -1, &shares, &err), 0);
    assert_int_equal(shares.len, 8);
    assert_true(shares.data[0].probability == 0.97);
    assert_int_equal(shares.data[0].old_bytes, 96);
    tt_session_holder_vec holders = {0};
    assert_int_equal(tt_session_holders(s, 1, 4, &holders, &err), 0);
    assert_int_equal(holders.len, 1);
    assert_string_equal(holders.data[0].path, "calls -> block");
    tt_session_held_vec helds = {0};
    assert_int_equal(tt_session_helds(s, 1, 4, &helds, &err), 0);
    assert_int_equal(helds.len, 1);
    assert_int_equal(helds.data[0].bytes, 3800);
    tt_session_stale_vec stales = {0};
    assert_int_equal(tt_session_stales(s, -1, &stales, &err), 0);
    assert_int_equal(stales.len, 1);
    assert_true(stales.data[0].untouched_weight == 1e6 && stales.data[0].seconds == 90.5);
    struct tt_session_attach attach;
    assert_int_equal(tt_session_attach(s, 1, &attach, &err), 0);
    assert_int_equal(attach.detach_stop_ns, 250);
    assert_string_equal(attach.notes, "a line\nanother");
    assert_int_equal(tt_session_attach(s, 2, &attach, &err), -ENOENT);
    tt_vec_free(&snapshots);
    tt_vec_free(&groups);
    tt_vec_free(&shares);
    tt_vec_free(&holders);
    tt_vec_free(&helds);
    tt_vec_free(&stales);
    tt_session_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_come_back),
        cmocka_unit_test(names_are_added_while_it_is_read),
        cmocka_unit_test(copies_come_back),
    };
    return cmocka_run_group_tests_name("session", tests, session_make, session_remove);
}
