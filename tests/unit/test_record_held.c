/* SPDX-License-Identifier: Apache-2.0 */
/* Held units: what a tape says of them, what /proc says against it, second clocks, owners, and the
 * rows that come of it. The tape is written by hand; the process that /proc tells about is this
 * one. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "scratch.h"
#include "test_record_fake.h"

#define SITES 4u

struct world {
    struct tt_record_options options;
    struct tt_record_result result;
    struct tt_recorder rec;
    struct tt_image *image;
};

static void row(const struct world *w, uint32_t place, const struct tt_tape_held *held)
{
    fake_put(w->image->tape.fd, TT_TAPE_OFF_HELD + (uint64_t)place * sizeof *held, held,
             sizeof *held);
}

static struct tt_tape_held unit(uint8_t space, uint8_t kind, uint64_t value, uint32_t site,
                                uint32_t tick)
{
    return (struct tt_tape_held){.value = value,
                                 .state = TT_HELD_LIVE,
                                 .entry = tt_tape_entry(site, 0, tick),
                                 .size = 1,
                                 .count = 1,
                                 .space = space,
                                 .kind = kind,
                                 .also = -1};
}

static void births(const struct world *w, uint32_t site, uint8_t kind, uint64_t n, uint64_t deaths)
{
    struct tt_tape_site s = {.hash = 100 + site,
                             .kind = kind,
                             .size_min = 1,
                             .size_max = 1,
                             .births = n,
                             .birth_bytes = n,
                             .death_bytes = deaths,
                             .early_deaths = deaths};
    fake_site(w->image->tape.fd, site, &s);
}

static void world_open(struct world *w)
{
    struct tt_tape_head head = fake_start(SITES, 0);
    *w = (struct world){0};
    w->rec = (struct tt_recorder){.options = &w->options,
                                  .result = &w->result,
                                  .next_image = 1,
                                  .dir_fd = -1,
                                  .origin_ns = 1000};
    w->image = tt_image_new(&w->rec, fake_make(&head), getpid(), "");
    assert_non_null(w->image);
    w->image->id = 1;
    w->image->visible = true;
    w->image->n_watched = 1;
    w->image->watches_listed = true;
}

static void world_close(struct world *w)
{
    if (w->rec.writer)
        tt_session_finish(w->rec.writer, true, NULL);
    w->rec.images.len = 0;
    tt_image_free(&w->rec, w->image);
    tt_vec_free(&w->rec.images);
    tt_vec_free(&w->rec.epochs);
    tt_libraries_free(&w->rec);
}

/* The n-th second of the recording. */
static uint64_t at(const struct world *w, unsigned seconds)
{
    return w->rec.origin_ns + seconds * TT_SECOND;
}

static void read_now(struct world *w, unsigned seconds, bool reconcile)
{
    assert_int_equal(tt_tape_read_totals(&w->image->tape), 0);
    assert_int_equal(tt_held_read(&w->rec, w->image, at(w, seconds), reconcile), 0);
}

static const struct tt_held_unit *find(const struct world *w, uint8_t space, uint64_t value)
{
    for (size_t i = 0; i < w->image->held.units.len; i++)
        if (w->image->held.units.data[i].space == space &&
            w->image->held.units.data[i].value == value)
            return &w->image->held.units.data[i];
    return NULL;
}

/* /dev/null at that number. */
static int open_again(int fd)
{
    int any = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (any != fd) {
        dup3(any, fd, O_CLOEXEC);
        close(any);
    }
    return fd;
}

/* ---- tests ---- */

static void rows_become_survivors(void **state)
{
    struct world w;
    (void)state;
    world_open(&w);
    struct tt_tape_held library = unit(TT_SPACE_LIBRARY, TT_KIND_LIBRARY, 0x7f0000000010, 2, 8);

    struct tt_tape_held mapping = unit(TT_SPACE_MAPPING, TT_KIND_MAPPING, 0x7f0000100000, 3, 16);
    mapping.size = 65536;
    row(&w, 0, &library);
    row(&w, 70000, &mapping); /* beyond a hole */
    struct tt_tape_held busy = unit(TT_SPACE_TIMER, TT_KIND_TIMER, 5, 1, 8);
    busy.state = TT_HELD_BUSY;
    row(&w, 9, &busy);
    struct tt_tape_held wild = unit(TT_SPACE_TIMER, TT_KIND_TIMER, 6, SITES + 1000, 8);
    row(&w, 10, &wild);
    births(&w, 2, TT_KIND_LIBRARY, 1, 0);
    read_now(&w, 4, false);
    assert_int_equal(w.image->held.units.len, 3);
    assert_int_equal(find(&w, TT_SPACE_TIMER, 6)->site, 0);
    assert_int_equal(w.image->tape.sites.data[2].kind, TT_KIND_LIBRARY);
    assert_int_equal(tt_look_scan(&w.image->look, &w.image->tape, 0, 32), 0);
    tt_held_look(w.image);
    assert_int_equal(w.image->look.sites.data[2].units, 1);
    assert_int_equal(w.image->look.sites.data[3].bytes, 65536);
    world_close(&w);
}

/* A descriptor that was closed past close: seen missing twice, its row counts as a death until the
 * agent counts that itself. */
static void a_row_without_a_descriptor_is_a_ghost(void **state)
{
    struct world w;
    (void)state;
    world_open(&w);
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC),
        other = open("/dev/null", O_RDONLY | O_CLOEXEC);
    struct tt_tape_held closed = unit(TT_SPACE_FD, TT_KIND_FD, (uint64_t)fd, 1, 8),
                        stays = unit(TT_SPACE_FD, TT_KIND_FD, (uint64_t)other, 1, 8);
    row(&w, 0, &closed);
    row(&w, 1, &stays);
    births(&w, 1, TT_KIND_FD, 2, 0);
    read_now(&w, 2, true);
    assert_false(find(&w, TT_SPACE_FD, (uint64_t)fd)->ghost);
    close(fd);
    read_now(&w, 3, true);
    assert_false(find(&w, TT_SPACE_FD, (uint64_t)fd)->ghost); /* may be an accident of timing */
    read_now(&w, 4, true);
    assert_true(find(&w, TT_SPACE_FD, (uint64_t)fd)->ghost);
    assert_int_equal(w.image->held.closed_unseen, 1);
    struct tt_totals totals = w.image->tape.sites.data[1].now;
    tt_held_overlay(&w.image->held, 1, &totals);
    assert_int_equal(totals.deaths, 1);
    assert_int_equal(tt_look_scan(&w.image->look, &w.image->tape, 0, 32), 0);
    tt_held_look(w.image);
    assert_int_equal(w.image->look.sites.data[1].units, 1);
    /* the agent meets the number again: the old unit is dead to it too, and another one lives */
    closed.entry = tt_tape_entry(1, 0, 40);
    assert_int_equal(open_again(fd), fd);
    row(&w, 0, &closed);
    births(&w, 1, TT_KIND_FD, 3, 1);
    read_now(&w, 6, true);
    assert_false(find(&w, TT_SPACE_FD, (uint64_t)fd)->ghost);
    totals = w.image->tape.sites.data[1].now;
    tt_held_overlay(&w.image->held, 1, &totals);
    assert_int_equal(totals.births - totals.deaths, 2);
    close(fd);
    close(other);
    world_close(&w);
}

static void descriptors_without_a_row_have_places(void **state)
{
    struct world w;
    (void)state;
    world_open(&w);
    read_now(&w, 1, true);
    struct tt_held *held = &w.image->held;
    assert_true(held->open_before >= 3); /* standard ones, the tape */
    uint64_t before = held->open_before;
    int fds[2];
    assert_int_equal(syscall(SYS_pipe2, fds, O_CLOEXEC), 0);
    read_now(&w, 2, true);
    assert_int_equal(held->opened_unseen, 0);
    read_now(&w, 3, true);
    assert_int_equal(held->opened_unseen, 2);
    assert_int_equal(held->open_before, before);
    const struct tt_held_unit *u = find(&w, TT_SPACE_FD, (uint64_t)fds[0]);
    assert_true(u->foreign && u->known && u->site >= TT_HELD_PLACE_FIRST);
    const struct tt_held_place *place = &held->places.data[u->site - TT_HELD_PLACE_FIRST];
    assert_string_equal(place->name, "pipe: opened by a way that is not watched");
    assert_int_equal(place->births, 2);
    close(fds[0]);
    read_now(&w, 5, true);
    assert_null(find(&w, TT_SPACE_FD, (uint64_t)fds[0]));
    place = &held->places.data[find(&w, TT_SPACE_FD, (uint64_t)fds[1])->site - TT_HELD_PLACE_FIRST];
    assert_int_equal(place->deaths, 1);
    close(fds[1]);
    world_close(&w);
}

/* Two ends of a TCP connection over loopback. */
static void connect_pair(int ends[2])
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof any;
    int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(server, (struct sockaddr *)&any, sizeof any), 0);
    assert_int_equal(listen(server, 1), 0);
    assert_int_equal(getsockname(server, (struct sockaddr *)&any, &n), 0);
    ends[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(ends[0], (struct sockaddr *)&any, sizeof any), 0);
    ends[1] = accept(server, NULL, NULL);
    assert_true(ends[1] >= 0);
    close(server);
}

static void a_gone_peer_starts_a_clock(void **state)
{
    struct world w;
    int ends[2];
    char byte;
    (void)state;
    world_open(&w);
    connect_pair(ends);
    struct tt_tape_held s = unit(TT_SPACE_FD, TT_KIND_SOCKET, (uint64_t)ends[1], 1, 8);
    row(&w, 0, &s);
    births(&w, 1, TT_KIND_SOCKET, 1, 0);
    read_now(&w, 2, true);
    assert_int_equal(find(&w, TT_SPACE_FD, (uint64_t)ends[1])->started[TT_CLOCK_CLOSE_WAIT], 0);
    close(ends[0]);
    assert_int_equal(recv(ends[1], &byte, 1, 0), 0); /* the end has come */
    read_now(&w, 10, true);
    assert_int_equal(find(&w, TT_SPACE_FD, (uint64_t)ends[1])->started[TT_CLOCK_CLOSE_WAIT], 81);
    read_now(&w, 20, true);
    assert_int_equal(find(&w, TT_SPACE_FD, (uint64_t)ends[1])->started[TT_CLOCK_CLOSE_WAIT], 81);
    /* closed at last: the clock ends at 20 s, 160 ticks */
    close(ends[1]);
    s.state = TT_HELD_FREE;
    row(&w, 0, &s);
    births(&w, 1, TT_KIND_SOCKET, 1, 1);
    read_now(&w, 30, true);
    uint64_t *died = tt_map_get(&w.image->held.clock_bin,
                                1ULL << 16 | TT_CLOCK_CLOSE_WAIT << 8 | tt_tape_bin(160));
    assert_non_null(died);
    assert_int_equal(*died, 1);
    world_close(&w);
}

static void owners_end(void **state)
{
    struct world w;
    (void)state;
    world_open(&w);
    struct sockaddr_in from = {
        .sin_family = AF_INET, .sin_port = htons(4711), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct tt_tape_owner owner = {.id = TT_TAPE_OWNERS + 3,
                                  .fd = 9999,
                                  .begin = 8,
                                  .last = 16,
                                  .how = TT_OWNER_CONNECTION,
                                  .address_bytes = sizeof from};
    memcpy(owner.address, &from, sizeof from);
    fake_put(w.image->tape.fd, TT_TAPE_OFF_OWNERS + 3 * sizeof owner, &owner, sizeof owner);
    struct tt_tape_held u = unit(TT_SPACE_DECLARED, TT_KIND_DECLARED, 77, 1, 10);
    u.owner = owner.id;
    row(&w, 5, &u);
    births(&w, 1, TT_KIND_DECLARED, 1, 0);
    read_now(&w, 3, false);
    assert_int_equal(w.image->held.owners.len, 1);
    assert_string_equal(w.image->held.owners.data[0].address, "127.0.0.1:4711");
    assert_int_equal(find(&w, TT_SPACE_DECLARED, 77)->started[TT_CLOCK_OWNER_END], 0);
    owner.end = 25;
    fake_put(w.image->tape.fd, TT_TAPE_OFF_OWNERS + 3 * sizeof owner, &owner, sizeof owner);
    read_now(&w, 6, false);
    assert_int_equal(find(&w, TT_SPACE_DECLARED, 77)->started[TT_CLOCK_OWNER_END], 25);
    /* its row is another's: what was known stays */
    owner.id += TT_TAPE_OWNERS;
    fake_put(w.image->tape.fd, TT_TAPE_OFF_OWNERS + 3 * sizeof owner, &owner, sizeof owner);
    read_now(&w, 7, false);
    assert_int_equal(find(&w, TT_SPACE_DECLARED, 77)->started[TT_CLOCK_OWNER_END], 25);
    u.state = TT_HELD_FREE;
    row(&w, 5, &u);
    births(&w, 1, TT_KIND_DECLARED, 1, 1);
    read_now(&w, 8, false);
    assert_int_equal(w.image->held.owners.len, 0);
    uint64_t *died = tt_map_get(&w.image->held.clock_bin,
                                1ULL << 16 | TT_CLOCK_OWNER_END << 8 | tt_tape_bin(64 - 24));
    assert_non_null(died);
    world_close(&w);
}

static void rows_are_written(void **state)
{
    struct world w;
    struct tt_error err = {0};
    char path[128];
    struct tt_handle handle = {.name = "ticket", .limit = 12};
    (void)state;
    snprintf(path, sizeof path, "%s/held.tt", scratch);
    world_open(&w);
    w.options.handles = &handle;
    w.options.n_handles = 1;
    w.rec.writer = tt_session_create(path, &err);
    assert_non_null(w.rec.writer);
    tt_session_begin(w.rec.writer);
    tt_session_put_meta(w.rec.writer, "ticks_per_second", "8");
    tt_session_commit(w.rec.writer);
    int end = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct tt_tape_held rows[] = {unit(TT_SPACE_DECLARED, TT_KIND_DECLARED, 1, 1, 8),
                                  unit(TT_SPACE_DECLARED, TT_KIND_DECLARED, 2, 1, 8),
                                  unit(TT_SPACE_FD, TT_KIND_SOCKET, (uint64_t)end, 2, 8),
                                  unit(TT_SPACE_PORT, TT_KIND_PORT, (uint64_t)end, 3, 9)};
    for (uint32_t i = 0; i < 4; i++)
        row(&w, i, &rows[i]);
    births(&w, 1, TT_KIND_DECLARED, 2, 0);
    births(&w, 2, TT_KIND_SOCKET, 1, 0);
    births(&w, 3, TT_KIND_PORT, 1, 0);
    tt_image_read(&w.rec, w.image, at(&w, 3), true);
    tt_rows_write(&w.rec, at(&w, 3), true);
    assert_int_equal(tt_session_finish(w.rec.writer, true, &err), 0);
    w.rec.writer = NULL;
    struct tt_session *s = tt_session_open(path, &err);
    if (!s)
        fail_msg("%s", err.text);
    tt_session_site_vec sites = {0};
    assert_int_equal(tt_session_sites(s, 1, &sites, &err), 0);
    unsigned seen = 0;
    for (size_t i = 0; i < sites.len; i++) {
        seen += sites.data[i].id == 1 && strcmp(sites.data[i].resource, "ticket") == 0;
        seen += sites.data[i].id == 2 && strcmp(sites.data[i].resource, "socket") == 0;
        seen += sites.data[i].id == 3 && strcmp(sites.data[i].resource, "port") == 0;
        seen += sites.data[i].id >= TT_HELD_PLACE_FIRST ? 100 : 0;
    }
    assert_true(seen >= 103 && seen % 100 == 3);
    tt_session_survivor_vec survivors = {0};
    assert_int_equal(tt_session_survivors(s, 1, 1, &survivors, &err), 0);
    assert_int_equal(survivors.len, 1);
    assert_int_equal(survivors.data[0].count, 2);
    tt_session_with_vec withs = {0};
    assert_int_equal(tt_session_withs(s, 1, &withs, &err), 0);
    assert_int_equal(withs.len, 1);
    assert_int_equal(withs.data[0].site, 3);
    assert_int_equal(withs.data[0].other, 2);
    tt_session_descriptor_vec open = {0};
    assert_int_equal(tt_session_descriptors(s, 1, &open, &err), 0);
    assert_true(open.len >= 4);
    tt_session_resource_vec counts = {0};
    assert_int_equal(tt_session_resources(s, 1, &counts, &err), 0);
    seen = 0;
    for (size_t i = 0; i < counts.len; i++) {
        seen += strcmp(counts.data[i].resource, "ticket") == 0 && counts.data[i].held == 2;
        seen += strcmp(counts.data[i].resource, "fd") == 0 &&
                counts.data[i].counted == (int64_t)open.len;
    }
    assert_int_equal(seen, 2);
    tt_session_limit_vec limits = {0};
    assert_int_equal(tt_session_limits(s, 1, &limits, &err), 0);
    seen = 0;
    for (size_t i = 0; i < limits.len; i++)
        seen += strcmp(limits.data[i].name, "limit of ticket") == 0 && limits.data[i].value == 12;
    assert_int_equal(seen, 1);
    tt_vec_free(&sites);
    tt_vec_free(&survivors);
    tt_vec_free(&withs);
    tt_vec_free(&open);
    tt_vec_free(&counts);
    tt_vec_free(&limits);
    tt_session_close(s);
    close(end);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_become_survivors),
        cmocka_unit_test(a_row_without_a_descriptor_is_a_ghost),
        cmocka_unit_test(descriptors_without_a_row_have_places),
        cmocka_unit_test(a_gone_peer_starts_a_clock),
        cmocka_unit_test(owners_end),
        cmocka_unit_test(rows_are_written),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
