/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of schema 3: what is put comes back, a new look replaces the last one, files of schema 2
 * read as having none, and numbers out of range are refused. */
#include "test_session_file.h"

#include <string.h>

#include "session/resource.h"

static void look(struct tt_session_writer *w, uint64_t units)
{
    assert_int_equal(tt_session_clear_held(w, 1), 0);
    assert_int_equal(0, tt_session_put_owner(w, &(struct tt_session_owner){
                                                    1, 7, "connection", 12, "10.0.0.1:99", 4711,
                                                    "/usr/bin/client", 1000, 5000, 9000}));
    tt_session_put_site_owner(w, &(struct tt_session_site_owner){1, 3, 7, units});
    tt_session_put_clock_survivor(
        w, &(struct tt_session_clock_survivor){1, 3, TT_SESSION_CLOSE_WAIT, 80, units});
    tt_session_put_with(w, &(struct tt_session_with){1, 3, 4, units});
    tt_session_put_descriptor(
        w, &(struct tt_session_descriptor){1, 12, "socket", 3, 7, 64, "CLOSE_WAIT", "10.0.0.1:99"});
    tt_session_put_clock_death(
        w, &(struct tt_session_clock_death){1, 3, TT_SESSION_OWNER_END, 5, units});
}

static void write_rows(const char *path)
{
    struct tt_error err = {0};
    struct tt_session_writer *w = tt_session_create(path, &err);
    if (!w)
        fail_msg("%s", err.text);
    tt_session_begin(w);
    tt_session_put_meta(w, "ticks_per_second", "8");
    tt_session_put_epoch(w, 1, 1000);
    tt_session_put_epoch(w, 2, 2000);
    tt_session_put_place(w, &(struct tt_session_place){1, 1048577, "pipe: open before"});
    tt_session_put_resource(w, &(struct tt_session_resource){1, 1, 0, "fd", 3, 4});
    tt_session_put_resource(w, &(struct tt_session_resource){1, 2, 0, "fd", 5, -1});
    tt_session_put_watch(w,
                         &(struct tt_session_watch){1, 1, "open", "fd", 0x7f0000001000, 9, "kind"});
    look(w, 2);
    look(w, 6);
    tt_session_commit(w);
    assert_int_equal(tt_session_finish(w, true, &err), 0);
}

#define READ(reader, vec)                                                                          \
    do {                                                                                           \
        struct tt_error err = {0};                                                                 \
        if ((reader)(s, 1, &(vec), &err))                                                          \
            fail_msg("%s", err.text);                                                              \
    } while (0)

struct all {
    tt_session_place_vec places;
    tt_session_owner_vec owners;
    tt_session_site_owner_vec site_owners;
    tt_session_clock_survivor_vec survivors;
    tt_session_clock_death_vec deaths;
    tt_session_with_vec withs;
    tt_session_resource_vec resources;
    tt_session_descriptor_vec descriptors;
    tt_session_watch_vec watches;
};

static void read_all(struct tt_session *s, struct all *a)
{
    READ(tt_session_places, a->places);
    READ(tt_session_owners, a->owners);
    READ(tt_session_site_owners, a->site_owners);
    READ(tt_session_clock_survivors, a->survivors);
    READ(tt_session_clock_deaths, a->deaths);
    READ(tt_session_withs, a->withs);
    READ(tt_session_resources, a->resources);
    READ(tt_session_descriptors, a->descriptors);
    READ(tt_session_watches, a->watches);
}

static void free_all(struct all *a)
{
    tt_vec_free(&a->places);
    tt_vec_free(&a->owners);
    tt_vec_free(&a->site_owners);
    tt_vec_free(&a->survivors);
    tt_vec_free(&a->deaths);
    tt_vec_free(&a->withs);
    tt_vec_free(&a->resources);
    tt_vec_free(&a->descriptors);
    tt_vec_free(&a->watches);
}

static void rows_come_back(void **state)
{
    (void)state;
    char *path = session_path("rows.tt");
    write_rows(path);
    struct tt_session *s = session_open(path);
    struct all a = {0};
    read_all(s, &a);
    assert_int_equal(a.places.len, 1);
    assert_string_equal(a.places.data[0].place, "pipe: open before");
    assert_int_equal(a.owners.len, 1);
    assert_int_equal(a.owners.data[0].pid, 4711);
    assert_string_equal(a.owners.data[0].address, "10.0.0.1:99");
    assert_int_equal(a.owners.data[0].ended_ns, 9000);
    assert_int_equal(a.site_owners.len, 1); /* the second look's */
    assert_int_equal(a.site_owners.data[0].units, 6);
    assert_int_equal(a.survivors.len, 1);
    assert_string_equal(a.survivors.data[0].clock, "CLOSE_WAIT");
    assert_int_equal(a.deaths.len, 1);
    assert_int_equal(a.deaths.data[0].count, 6);
    assert_int_equal(a.withs.data[0].other, 4);
    assert_int_equal(a.resources.len, 2);
    assert_int_equal(a.resources.data[0].counted, 4);
    assert_int_equal(a.resources.data[0].at_ns, 1000);
    assert_int_equal(a.resources.data[1].counted, -1);
    assert_int_equal(a.descriptors.len, 1);
    assert_string_equal(a.descriptors.data[0].state, "CLOSE_WAIT");
    assert_int_equal(a.watches.data[0].address, 0x7f0000001000);
    free_all(&a);
    tt_session_close(s);
}

static void schema_2_has_none(void **state)
{
    (void)state;
    char *path = session_path("two.tt");
    write_rows(path);
    session_sql(
        path,
        "PRAGMA user_version = 2; DROP TABLE site_place; DROP TABLE owner; DROP TABLE site_owner;"
        "DROP TABLE clock_survivor; DROP TABLE clock_death; DROP TABLE site_with;"
        "DROP TABLE resource_sample; DROP TABLE descriptor; DROP TABLE watch");
    struct tt_session *s = session_open(path);
    struct all a = {0};
    read_all(s, &a);
    assert_int_equal(a.places.len + a.owners.len + a.site_owners.len + a.survivors.len +
                         a.deaths.len + a.withs.len + a.resources.len + a.descriptors.len +
                         a.watches.len,
                     0);
    free_all(&a);
    tt_session_close(s);
}

static void wild_numbers_are_refused(void **state)
{
    static const char *const wild[] = {
        "UPDATE owner SET id = 0",
        "UPDATE owner SET uid = -2",
        "UPDATE site_owner SET units = -1",
        "UPDATE clock_survivor SET tick = 1 << 30",
        "UPDATE clock_death SET bin = 48",
        "UPDATE site_with SET other = 'x'",
        "UPDATE resource_sample SET held = -1",
        "UPDATE descriptor SET fd = -1",
        "UPDATE watch SET calls = -9",
        "UPDATE site_place SET site = -1",
    };
    (void)state;
    for (size_t i = 0; i < sizeof wild / sizeof *wild; i++) {
        char *path = session_path("wild.tt");
        struct tt_error err = {0};
        write_rows(path);
        session_sql(path, wild[i]);
        struct tt_session *s = session_open(path);
        struct all a = {0};
        int refused = 0;
        refused += tt_session_places(s, 1, &a.places, &err) != 0;
        refused += tt_session_owners(s, 1, &a.owners, &err) != 0;
        refused += tt_session_site_owners(s, 1, &a.site_owners, &err) != 0;
        refused += tt_session_clock_survivors(s, 1, &a.survivors, &err) != 0;
        refused += tt_session_clock_deaths(s, 1, &a.deaths, &err) != 0;
        refused += tt_session_withs(s, 1, &a.withs, &err) != 0;
        refused += tt_session_resources(s, 1, &a.resources, &err) != 0;
        refused += tt_session_descriptors(s, 1, &a.descriptors, &err) != 0;
        refused += tt_session_watches(s, 1, &a.watches, &err) != 0;
        if (refused != 1)
            fail_msg("%s: %d refused", wild[i], refused);
        assert_non_null(strstr(err.text, "is damaged"));
        free_all(&a);
        tt_session_close(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_come_back),
        cmocka_unit_test(schema_2_has_none),
        cmocka_unit_test(wild_numbers_are_refused),
    };
    return cmocka_run_group_tests(tests, session_make, session_remove);
}
