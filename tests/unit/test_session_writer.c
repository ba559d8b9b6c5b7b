/* SPDX-License-Identifier: Apache-2.0 */
/* The writer over time: it is read while it records, old snapshots and epochs give way without a
 * count being lost, and a full disk closes it and leaves what was committed. Start: main's table.
 */
#include "test_session_file.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static void a_recording_can_be_read(void **state)
{
    (void)state;
    char *path = session_path("live.tt");
    struct tt_error err = {0};
    struct tt_session_writer *w = session_write(path, 3);
    struct tt_session *s = tt_session_open(path, &err);
    assert_non_null(s);
    assert_false(tt_session_meta(s)->finished);
    tt_session_begin(w); /* what comes later is not seen: one snapshot */
    tt_session_put_epoch(w, 4, 4000);
    assert_int_equal(tt_session_commit(w), 0);
    tt_session_epoch_vec epochs = {0};
    assert_int_equal(tt_session_epochs(s, &epochs, &err), 0);
    assert_int_equal(epochs.len, 3);
    tt_vec_free(&epochs);
    tt_session_close(s);
    /* nobody else may record to it, and it is not replaced */
    assert_null(tt_session_create(path, &err));
    assert_int_equal(err.code, -EBUSY);
    assert_int_equal(tt_session_finish(w, false, NULL), 0); /* as if killed */
    s = tt_session_open(path, &err);
    assert_non_null(s);
    assert_int_equal(tt_session_epochs(s, &epochs, &err), 0);
    assert_int_equal(epochs.len, 4);
    tt_vec_free(&epochs);
    tt_session_close(s);
    w = tt_session_create(path, &err); /* an old session is replaced */
    assert_non_null(w);
    tt_session_finish(w, true, NULL);
}

static void old_snapshots_keep_their_totals(void **state)
{
    (void)state;
    char *path = session_path("drop.tt");
    struct tt_error err = {0};
    struct tt_session_writer *w = session_write(path, 1);
    tt_session_begin(w);
    assert_int_equal(tt_session_drop_snapshots(w, 1, 4), 0);
    tt_session_commit(w);
    tt_session_finish(w, true, NULL);
    struct tt_session *s = session_open(path);
    tt_session_snapshot_vec snapshots = {0};
    tt_session_lost_group_vec groups = {0};
    tt_session_holder_vec holders = {0};
    assert_int_equal(tt_session_snapshots(s, 1, &snapshots, &err), 0);
    assert_int_equal(snapshots.len, 4);
    assert_int_equal(tt_session_lost_groups(s, 1, -1, &groups, &err), 0);
    assert_int_equal(groups.len, 4);
    assert_int_equal(groups.data[0].snapshot, 1);
    assert_int_equal(groups.data[3].snapshot, 4);
    assert_int_equal(tt_session_holders(s, 1, -1, &holders, &err), 0);
    assert_int_equal(holders.len, 2);
    tt_vec_free(&snapshots);
    tt_vec_free(&groups);
    tt_vec_free(&holders);
    tt_session_close(s);
}

/* Two merged epochs in a row: the later one's counts must survive, at the epoch that is kept. */
static void thinning_keeps_cumulative_counts(void **state)
{
    (void)state;
    char *path = session_path("thin.tt");
    struct tt_error err = {0};
    struct tt_session_writer *w = session_write(path, 6);
    const int64_t from[] = {1, 2, 4, 5}, to[] = {3, 3, 6, 6};
    tt_session_begin(w);
    assert_int_equal(tt_session_merge_epochs(w, from, to, 4), 0);
    assert_int_equal(tt_session_sample_rows(w), 3);
    tt_session_commit(w);
    assert_int_equal(tt_session_finish(w, true, NULL), 0);
    struct tt_session *s = tt_session_open(path, &err);
    assert_non_null(s);
    tt_session_sample_vec series = {0};
    assert_int_equal(tt_session_series(s, 1, 1, &series, &err), 0);
    assert_int_equal(series.len, 2);
    assert_int_equal(series.data[0].births, 30);
    assert_int_equal(series.data[1].births, 60);
    series.len = 0;
    assert_int_equal(tt_session_series(s, 1, 2, &series, &err), 0);
    assert_int_equal(series.len, 1); /* its only row was at epoch 1: moved, not lost */
    assert_int_equal(series.data[0].epoch, 3);
    assert_int_equal(series.data[0].births, 3);
    tt_vec_free(&series);
    tt_session_epoch_vec epochs = {0};
    assert_int_equal(tt_session_epochs(s, &epochs, &err), 0);
    assert_int_equal(epochs.len, 2);
    tt_vec_free(&epochs);
    tt_session_close(s);
}

/* A file size limit stands in for a full disk: the writer closes once and for all, and what was
 * committed before stays readable. */
static void a_full_disk_closes_the_writer(void **state)
{
    (void)state;
    char *path = session_path("full.tt");
    pid_t pid = fork();
    if (pid == 0) {
        struct tt_error err = {0};
        signal(SIGXFSZ, SIG_IGN);
        struct rlimit limit = {400 << 10, 400 << 10};
        struct tt_session_writer *w = session_write(path, 3);
        setrlimit(RLIMIT_FSIZE, &limit);
        int code = 0;
        for (int e = 4; e < 10000 && !code; e++) {
            tt_session_begin(w);
            tt_session_put_epoch(w, e, (uint64_t)e * 1000);
            uint64_t frames[TT_SESSION_DEPTH] = {0};
            for (int64_t k = 0; k < 20; k++)
                tt_session_put_stack(w, 1, e * 20 + k, false, frames, TT_SESSION_DEPTH);
            code = tt_session_commit(w);
        }
        if (!code || tt_session_failed(w, &err) != code || tt_session_put_epoch(w, 1, 1) != code ||
            !strstr(err.text, "cannot write session"))
            _exit(1);
        _exit(tt_session_finish(w, true, &err) == code ? 0 : 2);
    }
    int status;
    waitpid(pid, &status, 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    struct tt_error err = {0};
    struct tt_session *s = session_open(path);
    assert_false(tt_session_meta(s)->finished);
    tt_session_epoch_vec epochs = {0};
    assert_int_equal(tt_session_epochs(s, &epochs, &err), 0);
    assert_true(epochs.len >= 3);
    tt_vec_free(&epochs);
    tt_session_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_recording_can_be_read),
        cmocka_unit_test(old_snapshots_keep_their_totals),
        cmocka_unit_test(thinning_keeps_cumulative_counts),
        cmocka_unit_test(a_full_disk_closes_the_writer),
    };
    return cmocka_run_group_tests_name("session_writer", tests, session_make, session_remove);
}
