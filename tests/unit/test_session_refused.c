/* SPDX-License-Identifier: Apache-2.0 */
/* Files that a telltale did not write, or not this one: what is no session is refused with the
 * right words, a session of an older schema is read as one without the later tables, and no damaged
 * row gives wild values. Start: hostile_values_are_caught. */
#include "test_session_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void write_file(const char *path, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    fclose(f);
}

static void refused(const char *path, const char *words)
{
    struct tt_error err = {0};
    struct tt_session *s = tt_session_open(path, &err);
    assert_null(s);
    if (!strstr(err.text, words))
        fail_msg("\"%s\" does not say \"%s\"", err.text, words);
    assert_null(strchr(err.text, '\n'));
}

/* Reads all tables of schema 2; 0 or the first error. */
static int read_copies(struct tt_session *s, struct tt_error *err)
{
    tt_session_snapshot_vec snapshots = {0};
    tt_session_lost_group_vec groups = {0};
    tt_session_lost_share_vec shares = {0};
    tt_session_holder_vec holders = {0};
    tt_session_held_vec helds = {0};
    tt_session_stale_vec stales = {0};
    struct tt_session_attach attach;
    int code = tt_session_snapshots(s, 1, &snapshots, err);
    code = code ? code : tt_session_lost_groups(s, 1, -1, &groups, err);
    code = code ? code : tt_session_lost_shares(s, 1, -1, &shares, err);
    code = code ? code : tt_session_holders(s, 1, -1, &holders, err);
    code = code ? code : tt_session_helds(s, 1, -1, &helds, err);
    code = code ? code : tt_session_stales(s, 1, &stales, err);
    code = code ? code : tt_session_attach(s, 1, &attach, err);
    tt_vec_free(&snapshots);
    tt_vec_free(&groups);
    tt_vec_free(&shares);
    tt_vec_free(&holders);
    tt_vec_free(&helds);
    tt_vec_free(&stales);
    return code;
}

static void refusals_say_why(void **state)
{
    (void)state;
    char *path = session_path("bad.tt");
    struct tt_error err = {0};
    refused(session_path("none.tt"), "No such file");
    refused(session_path("."), "is a directory");
    write_file(path, "", 0);
    refused(path, "is empty");
    write_file(path, "hello, this is just text\n", 25);
    refused(path, "is not a telltale session");
    assert_null(tt_session_create(path, &err)); /* nor is it overwritten */
    assert_int_equal(err.code, -EEXIST);
    unlink(path);
    session_sql(path, "CREATE TABLE meta (a)");
    refused(path, "is not a telltale session");
    assert_null(tt_session_create(path, &err));
    unlink(path);
    tt_session_finish(session_write(path, 1), true, NULL);
    session_sql(path, "PRAGMA user_version = 4");
    refused(path, "was written by a newer telltale (schema 4); this one reads up to 3");
    session_sql(path, "PRAGMA user_version = 3; DROP TABLE survivor");
    refused(path, "table survivor is missing");
    session_sql(path, "CREATE VIEW survivor AS SELECT 1");
    refused(path, "table survivor is missing");
    tt_session_finish(session_write(path, 1), true, NULL);
    session_sql(path, "DROP TABLE lost_group");
    refused(path, "table lost_group is missing");
    tt_session_finish(session_write(path, 200), true, NULL);
    struct stat st;
    stat(path, &st);
    assert_int_equal(truncate(path, st.st_size / 2), 0);
    refused(path, "is damaged");
}

/* A file of the schema before: readable, and without any of this. */
static void the_schema_before_is_read(void **state)
{
    (void)state;
    char *path = session_written("one.tt", 2);
    struct tt_error err = {0};
    session_sql(path, "PRAGMA user_version = 1; DROP TABLE snapshot; DROP TABLE lost_group;"
                      "DROP TABLE lost_share; DROP TABLE holder; DROP TABLE held; DROP TABLE stale;"
                      "DROP TABLE attach");
    struct tt_session *s = session_open(path);
    tt_session_snapshot_vec snapshots = {0};
    tt_session_site_vec sites = {0};
    assert_int_equal(tt_session_snapshots(s, -1, &snapshots, &err), 0);
    assert_int_equal(snapshots.len, 0);
    assert_int_equal(read_copies(s, &err), -ENOENT); /* attach: none */
    assert_int_equal(tt_session_sites(s, -1, &sites, &err), 0);
    assert_int_equal(sites.len, 2);
    tt_vec_free(&sites);
    tt_session_close(s);
}

/* Each breaks one promise of a reader; reading everything must fail and say "damaged". */
static void hostile_values_are_caught(void **state)
{
    (void)state;
    static const char *const changes[] = {
        "UPDATE site_sample SET births = -births",
        "UPDATE site_sample SET deaths = births + 1",
        "UPDATE site_sample SET births = 9223372036854775807",
        "UPDATE site_sample SET births = 100 - epoch, deaths = 0, death_bytes = 0",
        "UPDATE site_sample SET births = 'many'",
        "UPDATE site_sample SET births = 1.5",
        "UPDATE epoch SET at_ns = -1",
        "UPDATE epoch SET at_ns = 10 - id",
        "UPDATE site_death SET bin = 48 WHERE bin = 47",
        "UPDATE survivor SET tick = -5",
        "UPDATE survivor SET tick = 16777216",
        "UPDATE survivor SET count = 9223372036854775807",
        "UPDATE stack SET frames = x'0102'",
        "UPDATE stack SET frames = zeroblob(1544)",
        "UPDATE stack SET frames = 'text'",
        "UPDATE site SET thin = 77",
        "UPDATE site SET stack = -1",
        "UPDATE release_age SET age = -1",
        "UPDATE module SET start = 9, end = 5",
        "UPDATE process SET granule = -1",
        "UPDATE operation_sample SET count = -1",
        "UPDATE process_look SET tick = -1",
        "UPDATE snapshot SET lost_units = blocks + 1",
        "UPDATE snapshot SET lost_bytes = -1",
        "UPDATE snapshot SET old_units = 11 WHERE id = 1",
        "UPDATE snapshot SET id = -1 WHERE id = 1",
        "UPDATE snapshot SET tick = 16777216",
        "UPDATE lost_group SET roots = units + 1",
        "UPDATE lost_group SET units = 9223372036854775807, unknown_units = 0",
        "UPDATE lost_group SET unknown_bytes = bytes + 1",
        "UPDATE lost_share SET probability = 1.5",
        "UPDATE lost_share SET probability = 'sure'",
        "UPDATE lost_share SET old_units = -1",
        "UPDATE holder SET bytes = -1",
        "UPDATE held SET units = 'all'",
        "UPDATE stale SET untouched = objects + 1",
        "UPDATE stale SET untouched_weight = 9e999",
        "UPDATE stale SET seconds = -1",
        "UPDATE attach SET stop_ns = -1",
        "UPDATE attach SET entries = 4294967296",
        "UPDATE meta SET value = 'x' WHERE key = 'started_ns'",
        "UPDATE meta SET value = '0' WHERE key = 'ticks_per_second'",
        "UPDATE meta SET value = 'nan' WHERE key = 'horizon_s'",
    };
    char *path = session_path("hostile.tt");
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        tt_session_finish(session_write(path, 3), true, NULL);
        session_sql(path, changes[i]);
        struct tt_error err = {0};
        struct tt_session *s = tt_session_open(path, &err);
        int bad = s == NULL;
        if (s) {
            tt_session_site_vec sites = {0};
            tt_session_sample_vec series = {0};
            tt_session_epoch_vec epochs = {0};
            tt_session_survivor_vec survivors = {0};
            tt_session_release_age_vec ages = {0};
            tt_session_module_vec modules = {0};
            tt_session_process_vec processes = {0};
            tt_session_count_vec counts = {0};
            struct tt_session_stack stack;
            struct tt_session_look look;
            uint64_t bins[TT_SESSION_BINS];
            bad |= tt_session_sites(s, -1, &sites, &err) < 0;
            bad |= tt_session_series(s, 1, 1, &series, &err) < 0;
            bad |= tt_session_epochs(s, &epochs, &err) < 0;
            bad |= tt_session_survivors(s, 1, 1, &survivors, &err) < 0;
            bad |= tt_session_release_ages(s, 1, 1, &ages, &err) < 0;
            bad |= tt_session_modules(s, 1, &modules, &err) < 0;
            bad |= tt_session_processes(s, &processes, &err) < 0;
            bad |= tt_session_operation_series(s, 1, 1, &counts, &err) < 0;
            bad |= tt_session_stack(s, 1, 1, &stack, &err) < 0;
            bad |= tt_session_look(s, 1, &look, &err) < 0;
            bad |= tt_session_deaths(s, 1, 1, bins, &err) < 0;
            bad |= read_copies(s, &err) < 0;
            free(stack.frames);
            tt_vec_free(&sites);
            tt_vec_free(&series);
            tt_vec_free(&epochs);
            tt_vec_free(&survivors);
            tt_vec_free(&ages);
            tt_vec_free(&modules);
            tt_vec_free(&processes);
            tt_vec_free(&counts);
            tt_session_close(s);
        }
        if (!bad || !strstr(err.text, "damaged"))
            fail_msg("not caught: %s (%s)", changes[i], err.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refusals_say_why),
        cmocka_unit_test(the_schema_before_is_read),
        cmocka_unit_test(hostile_values_are_caught),
    };
    return cmocka_run_group_tests_name("session_refused", tests, session_make, session_remove);
}
