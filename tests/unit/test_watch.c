/* SPDX-License-Identifier: Apache-2.0 */
/* Watched functions by kind, in a process that has the agent preloaded and in one that is attached
 * to: after each thing that it does, the units held in its tape must be exactly the descriptors
 * that /proc shows, births less deaths of the sites must be as many, and so on for threads,
 * children and mappings. Start: descriptors. */
#include "test_watch_world.h"

#include <string.h>

#define PAGE 4096u

static void descriptors(void **state)
{
    struct world w;
    start(&w, *state != NULL);
    for (const char *what = "fdprlfP"; *what; what++)
        do_and_check(&w, *what);
    assert_int_equal(dropped(&w, TT_DROP_NESTED), 0);
    /* A socket's duplicate is a socket. */
    assert_int_equal(find_held(&w, TT_SPACE_FD, 60)->kind, TT_KIND_SOCKET);
    assert_int_equal(find_held(&w, TT_SPACE_FD, 61)->kind, TT_KIND_FD);
    finish(&w);
}

static const struct tt_tape_watch *row_of(const struct world *w, const char *name)
{
    size_t i = 0;
    while (strcmp(functions[i].name, name) != 0)
        i++;
    return (const struct tt_tape_watch *)(const void *)(w->tape + TT_TAPE_OFF_WATCHES) +
           w->watch[i].index;
}

/* What threads count for themselves of a function's calls, at most. */
#define COUNTED_APART 128u

static void many_calls(void **state)
{
    struct world w;
    start(&w, *state != NULL);
    for (unsigned i = 1; i <= 3; i++) {
        do_and_check(&w, 'q');
        assert_int_equal(count_held(&w, TT_SPACE_FD, TT_KIND_FD), i);
        assert_int_equal(count_held(&w, TT_SPACE_FD, TT_KIND_SOCKET), 0);
        assert_in_range(row_of(&w, "open")->calls, 1201 * i - COUNTED_APART, 1201 * i);
        assert_in_range(row_of(&w, "kept_close")->calls, 600 * i - COUNTED_APART, 600 * i);
    }
    do_and_check(&w, 'Q');
    assert_int_equal(count_held(&w, TT_SPACE_FD, TT_KIND_FD), 7);
    /* Close of what is not open, and of what nobody opened: the test's own pipes stay. */
    assert_int_equal(dropped(&w, TT_DROP_NOT_HELD), 7 * 600);
    const uint32_t *peers = (const uint32_t *)(const void *)(w.tape + TT_TAPE_OFF_FDS);
    for (unsigned fd = 0; fd < FDS; fd++)
        assert_int_equal(peers[fd], 0);
    finish(&w);
}

static void streams(void **state)
{
    struct world w;
    start(&w, *state != NULL);
    do_and_check(&w, 's');
    /* One reopened, one piped to; one directory. */
    assert_int_equal(count_held(&w, TT_SPACE_STREAM, 0), 2);
    assert_int_equal(count_held(&w, TT_SPACE_DIRECTORY, 0), 1);
    assert_int_equal(count_held(&w, TT_SPACE_CHILD, 0), 1);
    finish(&w);
}

static void mappings(void **state)
{
    struct world w;
    start(&w, *state != NULL);
    size_t before = count_held(&w, TT_SPACE_MAPPING, 0);
    int64_t bytes_before, bytes;
    count_sites(&w, TT_KIND_MAPPING, &bytes_before);
    do_and_check(&w, 'm');
    assert_int_equal(count_held(&w, TT_SPACE_MAPPING, 0), before + 4);
    count_sites(&w, TT_KIND_MAPPING, &bytes);
    assert_int_equal(bytes - bytes_before, (3 + 2 + 4 + 10) * PAGE);
    size_t found[11] = {0};
    for (size_t i = 0; i < TT_TAPE_HELD; i++) {
        const struct tt_tape_held *h = held(&w, i);
        if (h && h->space == TT_SPACE_MAPPING && h->size <= 10 * PAGE)
            found[h->size / PAGE]++;
    }
    assert_true(found[2] && found[3] && found[4] && found[10]);
    finish(&w);
}

static void threads(void **state)
{
    struct world w;
    start(&w, *state != NULL);
    do_and_check(&w, 't');
    assert_int_equal(count_held(&w, TT_SPACE_THREAD, 0), 1);
    do_and_check(&w, 'R'); /* four at once */
    assert_int_equal(count_held(&w, TT_SPACE_THREAD, 0), 1);
    assert_int_equal(count_held(&w, TT_SPACE_MAPPING, 0), 0); /* stacks are libc's own */
    finish(&w);
}

static void handlers(void **state)
{
    struct world w;
    start(&w, *state != NULL);
    assert_true(say(&w, 'h'));
    check_fds(&w);
    assert_int_equal(dropped(&w, TT_DROP_UNSEEN), 0);
    finish(&w);
}

static void children(void **state)
{
    struct world w;
    start(&w, *state != NULL);
    do_and_check(&w, 'c');
    assert_int_equal(count_held(&w, TT_SPACE_CHILD, 0), 2);
    assert_int_equal(dropped(&w, TT_DROP_NOT_HELD), 0);
    finish(&w);
}

static void owners(void **state)
{
    struct world w;
    start(&w, *state != NULL);
    do_and_check(&w, 'o');
    const struct tt_tape_owner *rows =
        (const struct tt_tape_owner *)(const void *)(w.tape + TT_TAPE_OFF_OWNERS);
    uint32_t id[4];
    for (unsigned i = 0; i < 4; i++)
        id[i] = find_held(&w, TT_SPACE_FD, 200 + i)->owner;
    assert_true(id[0] && id[1] && id[0] != id[1] && !id[2] && id[3]);
    assert_int_equal(rows[id[0]].address_bytes, 16); /* the program asked for it */
    assert_int_equal(rows[id[0]].how, TT_OWNER_CONNECTION);
    assert_int_equal(rows[id[0]].end, 0);
    assert_int_equal(rows[id[0]].births, 2); /* the socket itself, and 200 */
    assert_int_not_equal(rows[id[1]].end, 0);
    assert_int_equal(rows[id[3]].how, TT_OWNER_SENDER);
    /* Listener, two clients, and one socket that datagrams came to. */
    assert_int_equal(count_held(&w, TT_SPACE_PORT, 0), 4);
    finish(&w);
}

static void cancelled_threads(void **state)
{
    struct world w;
    start(&w, *state != NULL);
    do_and_check(&w, 'C');
    assert_int_equal(count_held(&w, TT_SPACE_THREAD, 0), 0);
    finish(&w);
}

static void declared(void **state)
{
    struct world w;
    start(&w, *state != NULL);
    do_and_check(&w, 'D');
    /* 12 and 13, whose release failed; and the one with many arguments. */
    assert_int_equal(count_held(&w, TT_SPACE_DECLARED, 0), 3);
    assert_non_null(find_held(&w, TT_SPACE_DECLARED, 13));
    assert_int_equal(find_held(&w, TT_SPACE_DECLARED, 1)->size, 6);
    assert_true(say(&w, 'T')); /* in another thread: the same values come anew */
    assert_int_equal(count_held(&w, TT_SPACE_DECLARED, 0), 3);
    assert_int_equal(dropped(&w, TT_DROP_UNSEEN), 3);
    finish(&w);
}

static void libraries(void **state)
{
    struct world w;
    start(&w, *state != NULL);
    do_and_check(&w, 'L');
    /* One opened three times and closed once, each of the rest a unit of its own. */
    assert_int_equal(count_held(&w, TT_SPACE_LIBRARY, 0), 2);
    finish(&w);
}

static void probes(void **state)
{
    struct world w;
    start(&w, *state != NULL);
    do_and_check(&w, 'b');
    assert_int_equal(count_held(&w, TT_SPACE_DECLARED, 0), 2);
    assert_non_null(find_held(&w, TT_SPACE_DECLARED, 300));
    finish(&w);
}

#define BOTH(test)                                                                                 \
    {"preloaded: " #test, test, NULL, NULL, NULL},                                                 \
    {                                                                                              \
        "attached: " #test, test, NULL, NULL, "attached"                                           \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(descriptors),       BOTH(many_calls), BOTH(streams),   BOTH(mappings),
        BOTH(threads),           BOTH(handlers),   BOTH(children),  BOTH(owners),
        BOTH(cancelled_threads), BOTH(declared),   BOTH(libraries), BOTH(probes),
    };
    return cmocka_run_group_tests(tests, find_libc, NULL);
}
