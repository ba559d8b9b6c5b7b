/* SPDX-License-Identifier: Apache-2.0 */
/* The recorder: tapes read right, torn and hostile ones without harm; looks that cost no memory in
 * the tape and never overstate; sessions that stay small; commands whose ends are passed on. Tapes
 * are made by hand here; recordings with the real agent are the command-line tests'.
 * Start: main's table. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "scratch.h"
#include "test_record_fake.h"

#define HARMLESS "/lib/x86_64-linux-gnu/libm.so.6" /* in the agent's place: does nothing */

static char *in_dir(const char *name)
{
    static char path[160];
    snprintf(path, sizeof path, "%s/%s", scratch, name);
    return path;
}

/* ---- totals ---- */

static void totals_are_sums(void **state)
{
    (void)state;
    struct tt_tape_head head = fake_start(3, 2);
    struct tt_tape tape = {.fd = fake_make(&head)};
    struct tt_tape_site site = {.hash = 1, .births = 10, .birth_bytes = 400, .death_bytes = 80};
    site.early_deaths = 1;
    site.deaths[3] = 1;
    site.deaths[47] = 2;
    fake_site(tape.fd, 2, &site);
    fake_tally(tape.fd, 0, 2, &(struct tt_tape_tally){2, 5, 3, 0, 200, 120});
    fake_tally(tape.fd, 1, 2, &(struct tt_tape_tally){2, 1, 1, 0, 40, 40});
    fake_tally(tape.fd, 1, 9, &(struct tt_tape_tally){9999, 7, 7, 0, 7, 7}); /* no such site */
    assert_int_equal(tt_tape_read_totals(&tape), 0);
    assert_true(tape.settled);
    const struct tt_totals *now = &tape.sites.data[2].now;
    assert_int_equal(now->births, 16);
    assert_int_equal(now->deaths, 8);
    assert_int_equal(now->birth_bytes, 640);
    assert_int_equal(now->death_bytes, 240);
    tt_tape_read_bins(&tape, 2);
    assert_int_equal(tape.sites.data[2].bins[0], 5);
    assert_int_equal(tape.sites.data[2].bins[47], 2);

    /* caught amid a move: the tally is gone and not yet added; nothing must fall or count twice */
    fake_moving(tape.fd, 0, 1);
    fake_tally(tape.fd, 0, 2, &(struct tt_tape_tally){0});
    assert_int_equal(tt_tape_read_totals(&tape), 0);
    assert_false(tape.settled);
    assert_int_equal(tape.sites.data[2].now.births, 16);
    site.births += 5;
    site.birth_bytes += 200;
    site.early_deaths += 3;
    site.death_bytes += 120;
    fake_site(tape.fd, 2, &site);
    fake_moving(tape.fd, 0, 2);
    fake_tally(tape.fd, 0, 2, &(struct tt_tape_tally){2, 1, 0, 0, 40, 0});
    assert_int_equal(tt_tape_read_totals(&tape), 0);
    assert_true(tape.settled);
    assert_int_equal(tape.sites.data[2].now.births, 17);
    assert_int_equal(tape.sites.data[2].now.deaths, 8);
    assert_int_equal(tape.sites.data[2].now.birth_bytes, 680);
    tt_tape_free(&tape);
}

static void counters_may_wrap(void **state)
{
    (void)state;
    struct tt_tape_head head = fake_start(2, 1);
    struct tt_tape tape = {.fd = fake_make(&head)};
    struct tt_tape_site site = {.hash = 1};
    fake_site(tape.fd, 1, &site);
    uint64_t births = 0;
    for (int i = 0; i < 10; i++) { /* a tally that is never moved, and a bin, beyond 2^32 */
        births += 1u << 30;
        site.deaths[5] = (uint32_t)(births / 2);
        fake_site(tape.fd, 1, &site);
        fake_tally(tape.fd, 0, 1,
                   &(struct tt_tape_tally){1, (uint32_t)births, (uint32_t)(births / 4), 0, 0, 0});
        assert_int_equal(tt_tape_read_totals(&tape), 0);
        tt_tape_read_bins(&tape, 1);
    }
    assert_true(births > UINT32_MAX);
    assert_true(tape.sites.data[1].now.births == births);
    assert_true(tape.sites.data[1].now.deaths == births / 2 + births / 4);
    assert_true(tape.sites.data[1].bins[5] == births / 2);
    assert_true(tape.sites.data[1].bins[0] == births / 4);
    tt_tape_free(&tape);
}

/* ---- hostile tapes ---- */

static void heads_are_checked(void **state)
{
    (void)state;
    struct tt_tape_head head = fake_start(UINT32_MAX, UINT32_MAX);
    head.region_count = head.frame_count = head.big_count = UINT32_MAX;
    memset(head.exe, 'x', sizeof head.exe);
    struct tt_tape tape = {.fd = fake_make(&head)};
    assert_int_equal(tt_tape_read_head(&tape), 0);
    assert_int_equal(tape.head.site_count, TT_TAPE_SITES);
    assert_int_equal(tape.head.thread_count, TT_TAPE_THREADS);
    assert_int_equal(tape.head.region_count, TT_TAPE_REGIONS);
    assert_int_equal(tape.head.exe[sizeof head.exe - 1], '\0');
    head.granule_shift = 60;
    fake_head(tape.fd, &head);
    assert_int_equal(tt_tape_read_head(&tape), -EBADMSG);
    head = fake_start(1, 1);
    head.version = TT_TAPE_VERSION + 1;
    fake_head(tape.fd, &head);
    assert_int_equal(tt_tape_read_head(&tape), -EBADMSG);
    head.magic = 0;
    fake_head(tape.fd, &head);
    assert_int_equal(tt_tape_read_head(&tape), -EAGAIN);
    tt_tape_free(&tape);
}

static void stacks_are_bounded(void **state)
{
    (void)state;
    struct tt_tape_head head = fake_start(4, 1);
    struct tt_tape tape = {.fd = fake_make(&head)};
    uint64_t frames[TT_TAPE_DEPTH];
    fake_site(tape.fd, 1, &(struct tt_tape_site){.hash = 1, .frames = 0, .depth = 65535});
    fake_site(tape.fd, 2, &(struct tt_tape_site){.hash = 1, .frames = UINT32_MAX - 1, .depth = 9});
    fake_site(tape.fd, 3,
              &(struct tt_tape_site){.hash = 1, .frames = 7, .depth = TT_TAPE_DEPTH, .thin = 200});
    assert_int_equal(tt_tape_read_totals(&tape), 0);
    assert_int_equal(tt_tape_read_stack(&tape, &tape.sites.data[1], frames), 0);
    assert_int_equal(tt_tape_read_stack(&tape, &tape.sites.data[2], frames), 0);
    assert_int_equal(tt_tape_read_stack(&tape, &tape.sites.data[3], frames), TT_TAPE_DEPTH);
    assert_true(tape.sites.data[3].thin < 64);
    tt_tape_free(&tape);
}

/* The target cuts its tape: errors, no signal. */
static void a_cut_tape_is_an_error(void **state)
{
    (void)state;
    struct tt_tape_head head = fake_start(2000, 100);
    head.region_count = 1;
    head.regions[0] = 5;
    struct tt_tape tape = {.fd = fake_make(&head)};
    struct tt_look look = {0};
    assert_int_equal(tt_tape_read_totals(&tape), 0);
    static const uint64_t lengths[] = {TT_TAPE_OFF_SHADOW + 4096,
                                       TT_TAPE_OFF_SITES + 1000,
                                       TT_TAPE_OFF_THREADS + 5,
                                       sizeof head,
                                       100,
                                       0};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        assert_int_equal(ftruncate(tape.fd, (off_t)lengths[i]), 0);
        int code = tt_tape_read_totals(&tape);
        assert_true(i == 0 ? code == 0 : code < 0);
        tt_tape_read_ring(&tape, 0);
        tt_look_scan(&look, &tape, 8, 10);
        tt_look_free(&look);
    }
    tt_tape_free(&tape);
}

/* ---- looks ---- */

static uint64_t blocks(int fd)
{
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    return (uint64_t)st.st_blocks;
}

static const struct tt_unit *unit_of(const struct tt_look *look, uint32_t site, uint64_t size,
                                     uint32_t tick)
{
    const struct tt_unit_set *set = &look->sites.data[site];
    for (uint32_t i = 0; i < set->cap; i++)
        if (set->slots[i].count && set->slots[i].size == size && set->slots[i].tick == tick)
            return &set->slots[i];
    return NULL;
}

static void looks_find_units_and_leave_holes(void **state)
{
    (void)state;
    struct tt_tape_head head = fake_start(5, 1);
    head.region_count = 2;
    head.regions[0] = 0x7f0000000000 >> TT_TAPE_REGION_SHIFT;
    head.regions[1] = 0x550000000000 >> TT_TAPE_REGION_SHIFT;
    head.big_count = 1;
    struct tt_tape tape = {.fd = fake_make(&head)};
    uint32_t last = (1u << (TT_TAPE_REGION_SHIFT - 5)) - 1;
    fake_entry(tape.fd, 0, 0, tt_tape_entry(1, 40, 7));
    fake_entry(tape.fd, 0, 1, tt_tape_entry(1, 40, 7));
    fake_entry(tape.fd, 0, last, tt_tape_entry(4, 100, 9));
    fake_entry(tape.fd, 1, 512, tt_tape_entry(2, 5 << 20, 8));
    fake_entry(tape.fd, 1, 600, tt_tape_entry(3, 9 << 20, 8)); /* not in the table */
    fake_entry(tape.fd, 1, 700, tt_tape_entry(1000, 64, 8));   /* no such site */
    struct tt_tape_big big = {0x550000000000 + 512 * 32, 5 << 20};
    fake_put(tape.fd, TT_TAPE_OFF_BIG + 77 * sizeof big, &big, sizeof big);
    assert_int_equal(tt_tape_read_totals(&tape), 0);
    struct tt_look look = {0};
    uint64_t before = blocks(tape.fd);
    assert_int_equal(tt_look_scan(&look, &tape, 8, 10), 0);
    assert_int_equal(blocks(tape.fd), before);
    assert_int_equal(look.units, 6);
    assert_int_equal(unit_of(&look, 1, 40, 8)->count, 2);
    assert_int_equal(unit_of(&look, 4, 100, 9)->count, 1);
    assert_int_equal(unit_of(&look, 2, 5 << 20, 8)->count, 1);
    assert_int_equal(unit_of(&look, 3, TT_TAPE_SIZE_BIG, 8)->count, 1);
    assert_int_equal(look.big_lost, 1);
    assert_int_equal(unit_of(&look, 0, 64, 8)->count, 1);
    assert_int_equal(look.pieces.len, 3);
    assert_true(look.pieces.data[0] < look.pieces.data[1]);
    tt_look_free(&look);
    tt_tape_free(&tape);
}

/* More different ages and sizes than rows: none is lost, none seems older or larger, and the age
 * stays right to a few per cent. */
static void looks_coarsen_downwards(void **state)
{
    (void)state;
    struct tt_tape_head head = fake_start(2, 1);
    head.region_count = 1;
    head.regions[0] = 3;
    struct tt_tape tape = {.fd = fake_make(&head)};
    const uint32_t n = 200000, now = 300000;
    uint64_t *entries = calloc(n, sizeof *entries), bytes = 0;
    for (uint32_t i = 0; i < n; i++) {
        entries[i] = tt_tape_entry(1, 40 + i % 3, i + 1);
        bytes += 40 + i % 3;
    }
    fake_put(tape.fd, TT_TAPE_OFF_SHADOW, entries, n * sizeof *entries);
    free(entries);
    assert_int_equal(tt_tape_read_totals(&tape), 0);
    struct tt_look look = {0};
    assert_int_equal(tt_look_scan(&look, &tape, 0, now), 0);
    const struct tt_unit_set *set = &look.sites.data[1];
    assert_true(set->len <= TT_RECORD_SURVIVOR_ROWS);
    assert_int_equal(set->units, n);
    assert_int_equal(set->bytes, bytes);
    uint64_t units = 0, older[4] = {0};
    static const uint32_t ages[4] = {110000, 150000, 200000, 250000};
    for (uint32_t i = 0; i < set->cap; i++) {
        units += set->slots[i].count;
        for (int k = 0; k < 4 && set->slots[i].count; k++)
            if (now - set->slots[i].tick >= ages[k])
                older[k] += set->slots[i].count;
    }
    assert_int_equal(units, n);
    for (int k = 0; k < 4; k++) {
        uint64_t truly = now - ages[k]; /* born at 1 .. now - age */
        assert_true(older[k] <= truly);
        assert_true((double)older[k] > 0.95 * (double)truly);
    }
    tt_look_free(&look);
    tt_tape_free(&tape);
}

/* ---- releases ---- */

static void put_release(int fd, uint32_t at, uint32_t ready, uint32_t site, uint32_t by)
{
    struct tt_tape_release r = {.ready = ready, .site = site, .by = by, .age = 40, .weight = 64};
    fake_put(fd, TT_TAPE_OFF_RING + (at % TT_TAPE_RING) * sizeof r, &r, sizeof r);
}

static void releases_are_taken_in_order(void **state)
{
    (void)state;
    struct tt_tape_head head = fake_start(8, 1);
    struct tt_tape tape = {.fd = fake_make(&head)};
    head.ring_head = 4;
    fake_head(tape.fd, &head);
    put_release(tape.fd, 0, 1, 3, 5);
    put_release(tape.fd, 1, 2, 3, 5);
    put_release(tape.fd, 2, 0, 3, 5); /* not published yet */
    put_release(tape.fd, 3, 4, UINT32_MAX, 5);
    tt_tape_read_ring(&tape, 0);
    assert_int_equal(tape.ring_tail, 2);
    assert_int_equal(tape.releases.len, 1);
    assert_int_equal(tape.releases.data[0].weight, 128);
    assert_int_equal(tape.ages.data[0].age, 40);
    for (int i = 0; i < 20; i++) /* its thread was killed: passed over in the end */
        tt_tape_read_ring(&tape, 0);
    assert_int_equal(tape.ring_tail, 4);
    assert_int_equal(tape.lost_releases, 2);
    head.ring_head = 4 + TT_TAPE_RING + 1;
    fake_head(tape.fd, &head);
    tt_tape_read_ring(&tape, 0);
    assert_int_equal(tape.ring_tail, head.ring_head);
    for (uint32_t i = 0; i < 200; i++) { /* too many paths at a site: counted */
        put_release(tape.fd, head.ring_head, head.ring_head + 1, 2, i);
        head.ring_head++;
        fake_head(tape.fd, &head);
        tt_tape_read_ring(&tape, 0);
    }
    assert_int_equal(tape.sites.data[2].n_releases, TT_RECORD_RELEASES);
    assert_int_equal(tape.lost_paths, 200 - TT_RECORD_RELEASES);
    tt_tape_free(&tape);
}

/* ---- rows ---- */

/* A recorder with one image on a fake tape; its process does not exist. */
static struct tt_recorder start(const struct tt_record_options *options,
                                struct tt_record_result *result, const char *path,
                                const struct tt_tape_head *head)
{
    struct tt_error err = {0};
    struct tt_recorder rec = {.options = options,
                              .result = result,
                              .next_image = 1,
                              .dir_fd = -1,
                              .owner_fd = -1,
                              .origin_ns = 1,
                              .started_ns = 1};
    rec.writer = tt_session_create(path, &err);
    if (!rec.writer)
        fail_msg("%s", err.text);
    assert_int_equal(tt_rows_start(&rec, 0x3ffffff), 0);
    struct tt_image *image = calloc(1, sizeof *image);
    image->tape.fd = fake_make(head);
    image->pid = 0x3ffffff;
    image->pidfd = image->mem_fd = -1;
    image->alive = true;
    assert_int_equal(tt_vec_push(&rec.images, image), 0);
    assert_true(tt_image_settle(&rec, image));
    return rec;
}

static void finish(struct tt_recorder *rec, uint64_t now)
{
    tt_rows_finish(rec, now, "over");
    assert_int_equal(rec->trouble.code, 0);
    tt_image_free(rec, rec->images.data[0]);
    tt_vec_free(&rec->images);
    tt_vec_free(&rec->epochs);
}

/* A week of writes: epochs stay bounded, evenly spaced but for the newest, and every count is
 * there at the end. */
static void long_recordings_stay_small(void **state)
{
    (void)state;
    char *argv[] = {"a\"b", "c\n", NULL};
    struct tt_record_options options = {.argv = argv, .mode = TT_MODE_EXACT};
    struct tt_record_result result = {0};
    const uint32_t n_sites = 300;
    struct tt_tape_head head = fake_start(n_sites, 1);
    char *path = in_dir("week.tt");
    struct tt_recorder rec = start(&options, &result, path, &head);
    struct tt_image *image = rec.images.data[0];
    struct tt_tape_site *sites = calloc(n_sites, sizeof *sites);
    const uint64_t epochs = 3000;
    uint64_t now = 1;
    for (uint64_t e = 1; e <= epochs; e++) {
        now += TT_SECOND;
        for (uint32_t i = 1; i < n_sites; i++) {
            sites[i].hash = i;
            sites[i].births = e * i;
            sites[i].birth_bytes = e * i * 40;
            sites[i].early_deaths = e * i - (i == 7 ? e : 0);
            sites[i].death_bytes = sites[i].early_deaths * 40;
        }
        fake_put(image->tape.fd, TT_TAPE_OFF_SITES, sites, n_sites * sizeof *sites);
        image->look_due = e == 1 ? 0 : UINT64_MAX;
        tt_image_read(&rec, image, now, false);
        tt_rows_write(&rec, now, false);
        assert_true(rec.epochs.len <= TT_RECORD_EPOCHS);
        assert_true(rec.sample_rows <= TT_RECORD_SAMPLE_ROWS + n_sites);
    }
    free(sites);
    finish(&rec, now);

    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_size < 12 << 20);
    struct tt_error err = {0};
    struct tt_session *s = tt_session_open(path, &err);
    if (!s)
        fail_msg("%s", err.text);
    assert_string_equal(tt_session_meta(s)->command, "[\"a\\\"b\", \"c\\u000a\"]");
    tt_session_sample_vec series = {0};
    assert_int_equal(tt_session_series(s, 1, 7, &series, &err), 0);
    assert_true(series.len >= 24 && series.len <= TT_RECORD_EPOCHS);
    assert_int_equal(series.data[series.len - 1].births, epochs * 7);
    assert_int_equal(series.data[series.len - 1].deaths, epochs * 6);
    for (size_t i = 0; i < series.len; i++) /* each row tells the truth of its moment */
        assert_int_equal(series.data[i].births, series.data[i].at_ns / TT_SECOND * 7);
    tt_vec_free(&series);
    tt_session_close(s);
}

static void many_sites_are_summed(void **state)
{
    (void)state;
    char *argv[] = {"a", NULL};
    struct tt_record_options options = {.argv = argv, .mode = TT_MODE_EXACT};
    struct tt_record_result result = {0};
    const uint32_t n_sites = 60000;
    struct tt_tape_head head = fake_start(n_sites, 1);
    char *path = in_dir("many.tt");
    struct tt_recorder rec = start(&options, &result, path, &head);
    struct tt_image *image = rec.images.data[0];
    struct tt_tape_site *sites = calloc(n_sites, sizeof *sites);
    for (uint32_t i = 1; i < n_sites; i++) {
        sites[i].hash = i;
        sites[i].births = 10;
        sites[i].birth_bytes = 400;
        /* every tenth keeps five */
        sites[i].early_deaths = i % 10 ? 10 : 5;
        sites[i].death_bytes = 40 * sites[i].early_deaths;
    }
    fake_put(image->tape.fd, TT_TAPE_OFF_SITES, sites, n_sites * sizeof *sites);
    free(sites);
    tt_image_read(&rec, image, TT_SECOND, true);
    tt_rows_write(&rec, TT_SECOND, false);
    finish(&rec, 2 * TT_SECOND);
    struct tt_error err = {0};
    struct tt_session *s = tt_session_open(path, &err);
    assert_non_null(s);
    tt_session_site_vec rows = {0};
    assert_int_equal(tt_session_sites(s, 1, &rows, &err), 0);
    assert_true(rows.len <= TT_RECORD_SITES + 1);
    uint64_t births = 0, live = 0, keeping = 0;
    for (size_t i = 0; i < rows.len; i++) {
        births += rows.data[i].births;
        live += rows.data[i].births - rows.data[i].deaths;
        keeping += rows.data[i].id % 10 == 0 && rows.data[i].id != 0;
    }
    assert_int_equal(births, 10 * (n_sites - 1));
    assert_int_equal(live, 5 * ((n_sites - 1) / 10));
    assert_int_equal(keeping, (n_sites - 1) / 10); /* all that keep something have their own rows */
    tt_vec_free(&rows);
    tt_session_dropped_vec dropped = {0};
    assert_int_equal(tt_session_dropped(s, 1, &dropped, &err), 0);
    bool said = false;
    for (size_t i = 0; i < dropped.len; i++)
        said |= strncmp(dropped.data[i].what, "sites summed", 12) == 0;
    assert_true(said);
    tt_vec_free(&dropped);
    tt_session_close(s);
}

/* ---- running commands ---- */

static int run(char *const *argv, const char *output, struct tt_record_result *result,
               struct tt_error *err)
{
    struct tt_record_options options = {
        .argv = argv, .output = output, .agent = HARMLESS, .tool_version = "test"};
    return tt_record_run(&options, result, err);
}

static void ends_are_passed_on(void **state)
{
    (void)state;
    static const struct {
        const char *script;
        int status;
    } cases[] = {{"exit 0", 0},          {"exit 7", 7 << 8},
                 {"exit 255", 255 << 8}, {"kill -9 $$", 9},
                 {"kill -TERM $$", 15},  {"exec sh -c 'exec sh -c \"exit 9\"'", 9 << 8}};
    char *path = in_dir("run.tt");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *argv[] = {"sh", "-c", (char *)(uintptr_t)cases[i].script, NULL};
        struct tt_record_result result;
        struct tt_error err;
        if (run(argv, path, &result, &err))
            fail_msg("%s", err.text);
        assert_int_equal(result.status & 0xff7f, cases[i].status);
        assert_false(result.trouble);
        assert_string_equal(result.output, path);
        struct tt_session *s = tt_session_open(path, &err);
        if (!s)
            fail_msg("%s", err.text);
        assert_true(tt_session_meta(s)->finished && tt_session_meta(s)->has_exit);
        assert_int_equal(tt_session_meta(s)->exit_status, tt_record_status(cases[i].status));
        tt_session_close(s);
    }
}

static void commands_that_cannot_start_leave_nothing(void **state)
{
    (void)state;
    char *path = in_dir("none.tt"), script[160];
    struct tt_record_result result;
    struct tt_error err;
    char *absent[] = {"/no/such/command", NULL};
    assert_int_equal(run(absent, path, &result, &err), -ENOENT);
    assert_int_equal(access(path, F_OK), -1);
    /* passes the inspection, but its exec fails: too long an argument */
    static char huge[3 << 20];
    memset(huge, 'x', sizeof huge - 1);
    char *too_long[] = {"true", huge, NULL};
    assert_int_equal(run(too_long, path, &result, &err), -E2BIG);
    assert_non_null(strstr(err.text, "cannot run"));
    assert_int_equal(access(path, F_OK), -1);
    /* the output cannot be written: the command is not started */
    snprintf(script, sizeof script, "echo >%s/started", scratch);
    char *writes[] = {"sh", "-c", script, NULL};
    assert_true(run(writes, "/no/such/dir/s.tt", &result, &err) < 0);
    assert_int_equal(access(in_dir("started"), F_OK), -1);
    assert_true(run(writes, "%q", &result, &err) < 0);
}

/* Signals, mask and descriptors of the caller are as before. */
static void the_caller_is_left_as_it_was(void **state)
{
    (void)state;
    sigset_t before, after;
    struct rlimit files, now;
    sigprocmask(SIG_SETMASK, NULL, &before);
    getrlimit(RLIMIT_NOFILE, &files);
    int fd = dup(0);
    close(fd);
    char *argv[] = {"true", NULL};
    struct tt_record_result result;
    struct tt_error err;
    assert_int_equal(run(argv, in_dir("same.tt"), &result, &err), 0);
    sigprocmask(SIG_SETMASK, NULL, &after);
    for (int sig = 1; sig < 64; sig++)
        assert_int_equal(sigismember(&before, sig), sigismember(&after, sig));
    getrlimit(RLIMIT_NOFILE, &now);
    assert_int_equal(files.rlim_cur, now.rlim_cur);
    int again = dup(0);
    close(again);
    assert_int_equal(fd, again);
}

static void a_full_disk_does_not_stop_the_command(void **state)
{
    (void)state;
    char script[160], *path = in_dir("full.tt");
    snprintf(script, sizeof script, "ulimit -f unlimited 2>/dev/null; echo x >%s/ran; exit 4",
             scratch);
    pid_t pid = fork();
    if (pid == 0) {
        char *argv[] = {"sh", "-c", script, NULL};
        struct rlimit limit = {16 << 10, 1 << 30};
        struct tt_record_result result;
        struct tt_error err;
        setrlimit(RLIMIT_FSIZE, &limit);
        if (run(argv, path, &result, &err)) {
            fprintf(stderr, "%d %s\n", err.code, err.text);
            _exit(1);
        }
        _exit(result.trouble && WEXITSTATUS(result.status) == 4 ? 0 : 2);
    }
    int status;
    waitpid(pid, &status, 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(access(in_dir("ran"), F_OK), 0);
}

/* Every start looks for directories that dead recorders left, and must not take one that is being
 * made for such: of starts side by side one in a thousand lost its own, and recorded nothing. */
static int make_many(void)
{
    for (int i = 0; i < 400; i++) {
        struct tt_recorder rec = {0};
        struct tt_error err = {0};
        struct stat st;
        if (tt_record_dir_make(&rec, &err) != 0)
            return 1;
        if (stat(rec.dir, &st) != 0 || st.st_nlink == 0)
            return 2;
        tt_record_dir_remove(&rec);
    }
    return 0;
}

static void directories_are_not_taken_for_stale_ones(void **state)
{
    (void)state;
    pid_t child[8];
    for (size_t i = 0; i < 8; i++) {
        child[i] = fork();
        assert_true(child[i] >= 0);
        if (child[i] == 0)
            _exit(make_many());
    }
    for (size_t i = 0; i < 8; i++) {
        int status;
        assert_int_equal(waitpid(child[i], &status, 0), child[i]);
        assert_int_equal(status, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(directories_are_not_taken_for_stale_ones),
        cmocka_unit_test(totals_are_sums),
        cmocka_unit_test(counters_may_wrap),
        cmocka_unit_test(heads_are_checked),
        cmocka_unit_test(stacks_are_bounded),
        cmocka_unit_test(a_cut_tape_is_an_error),
        cmocka_unit_test(looks_find_units_and_leave_holes),
        cmocka_unit_test(looks_coarsen_downwards),
        cmocka_unit_test(releases_are_taken_in_order),
        cmocka_unit_test(long_recordings_stay_small),
        cmocka_unit_test(many_sites_are_summed),
        cmocka_unit_test(ends_are_passed_on),
        cmocka_unit_test(commands_that_cannot_start_leave_nothing),
        cmocka_unit_test(the_caller_is_left_as_it_was),
        cmocka_unit_test(a_full_disk_does_not_stop_the_command),
    };
    return cmocka_run_group_tests_name("record", tests, scratch_make_fast, scratch_remove);
}
