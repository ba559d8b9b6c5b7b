/* SPDX-License-Identifier: Apache-2.0 */
/* The kinds: their table, what /proc says of descriptors and sockets, handles that users declare.
 */
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "resource/resource.h"

static void table_is_sound(void **state)
{
    size_t n;
    const struct tt_resource *const *all = tt_resources(&n);
    (void)state;
    assert_true(n >= 11 && n <= 32);
    for (size_t i = 0; i < n; i++) {
        assert_ptr_equal(tt_resource_named(all[i]->name), all[i]);
        assert_ptr_equal(tt_resource_of(all[i]->kind), all[i]);
        assert_true(all[i]->n_watches > 0 && *all[i]->one && *all[i]->many && *all[i]->lost);
        for (size_t k = 0; k < all[i]->n_watches; k++) {
            const struct tt_resource_watch *w = &all[i]->watches[k];
            assert_true(w->what != TT_WATCH_NONE && w->space != 0 && *w->functions);
            if (w->from >= TT_FROM_AT_ARG0)
                assert_true(w->width == 4 || w->width == 8);
            for (const char *p = w->functions; *p; p++)
                assert_true(*p == ' ' || *p == '_' || (*p >= '0' && *p <= '9') ||
                            (*p >= 'a' && *p <= 'z'));
        }
    }
    assert_null(tt_resource_named("heap"));
    assert_null(tt_resource_of(TT_KIND_DECLARED));
}

static void kinds_are_chosen(void **state)
{
    struct tt_error err = {0};
    uint32_t set = 99, all;
    (void)state;
    assert_int_equal(tt_resource_choose("all", &all, &err), 0);
    assert_int_equal(tt_resource_choose("none", &set, &err), 0);
    assert_int_equal(set, 0);
    assert_int_equal(tt_resource_choose("fd,thread", &set, &err), 0);
    assert_int_equal(set, 1u << 0 | 1u << 3);
    assert_int_equal(tt_resource_choose("-mapping", &set, &err), 0);
    assert_int_equal(set, all & ~(1u << 4));
    assert_int_equal(tt_resource_choose("fd,frog", &set, &err), -EINVAL);
    assert_non_null(strstr(err.text, "\"frog\""));
    assert_int_equal(tt_resource_choose("", &set, &err), -EINVAL);
}

static void links_are_understood(void **state)
{
    static const struct {
        const char *link, *name;
        enum tt_open_what what;
        uint64_t inode;
    } links[] = {
        {"socket:[12345]", "socket", TT_OPEN_SOCKET, 12345},
        {"pipe:[77]", "pipe", TT_OPEN_PIPE, 77},
        {"anon_inode:[eventpoll]", "eventpoll", TT_OPEN_ANON, 0},
        {"anon_inode:inotify", "inotify", TT_OPEN_ANON, 0},
        {"/memfd:x (deleted)", "memfd", TT_OPEN_ANON, 0},
        {"/dev/null", "device", TT_OPEN_DEVICE, 0},
        {"/tmp/a file", "file", TT_OPEN_FILE, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
        struct tt_open open = {0};
        tt_open_read(links[i].link, &open);
        assert_string_equal(open.name, links[i].name);
        assert_int_equal(open.what, links[i].what);
        assert_int_equal(open.inode, links[i].inode);
    }
}

static void own_descriptors_are_listed(void **state)
{
    tt_open_vec open = {0};
    tt_socket_vec sockets = {0};
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof any;
    (void)state;
    int poll = epoll_create1(EPOLL_CLOEXEC), udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(udp, (struct sockaddr *)&any, sizeof any), 0);
    assert_int_equal(getsockname(udp, (struct sockaddr *)&any, &length), 0);
    assert_int_equal(tt_open_list(getpid(), &open), 0);
    assert_int_equal(tt_socket_list(getpid(), &sockets), 0);
    unsigned found = 0;
    for (size_t i = 0; i < open.len; i++) {
        if (open.data[i].fd == poll)
            found += strcmp(open.data[i].name, "eventpoll") == 0;
        if (open.data[i].fd == udp) {
            const struct tt_socket *s = tt_socket_find(&sockets, open.data[i].inode);
            assert_non_null(s);
            assert_int_equal(s->port, ntohs(any.sin_port));
            assert_string_equal(s->protocol, "udp");
            assert_string_equal(s->peer, "");
            found++;
        }
    }
    assert_int_equal(found, 2);
    tt_vec_free(&open);
    tt_vec_free(&sockets);
    close(poll);
    close(udp);
}

static void sockets_are_parsed(void **state)
{
    static const char tcp[] = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when "
                              "retrnsmt   uid  timeout "
                              "inode\n"
                              "   0: 0100007F:1F90 0100007F:C350 08 00000000:00000001 00:00000000 "
                              "00000000  1000        0 "
                              "4242 1 0000000000000000 20 4 30 10 -1\n"
                              "   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 "
                              "00000000     0        0 "
                              "17 1 0000000000000000 100 0 0 10 0\n"
                              "   2: 0100007F:1F90 0100007F:C351 06 00000000:00000000 00:00000000 "
                              "00000000     0        0 "
                              "0 3 0000000000000000\n"
                              "nonsense\n";
    static const char tcp6[] =
        "   0: 00000000000000000000000001000000:0050 00000000000000000000000001000000:ABCD 01 "
        "00000000:00000000 00:00000000 00000000     0        0 18 1 0 20 4 0 10 -1";
    tt_socket_vec sockets = {0};
    (void)state;
    assert_int_equal(tt_socket_parse(tcp, "tcp", &sockets), 0);
    assert_int_equal(sockets.len, 2);
    assert_int_equal(sockets.data[0].inode, 4242);
    assert_string_equal(tt_socket_state(sockets.data[0].state), "CLOSE_WAIT");
    assert_int_equal(sockets.data[0].port, 8080);
    assert_string_equal(sockets.data[0].peer, "127.0.0.1:50000");
    assert_string_equal(tt_socket_state(sockets.data[1].state), "LISTEN");
    assert_string_equal(sockets.data[1].peer, "");
    assert_int_equal(tt_socket_parse(tcp6, "tcp6", &sockets), 0);
    assert_string_equal(sockets.data[2].peer, "[::1]:43981");
    assert_string_equal(tt_socket_state(99), "");
    tt_vec_free(&sockets);
}

static void put(void *arg, const char *name, int64_t value)
{
    unsigned *seen = arg;
    if (strcmp(name, "ip_local_port_range") == 0)
        *seen += value > 0 && value <= 65536;
    if (strcmp(name, "vm.max_map_count") == 0)
        *seen += value > 0;
    if (strcmp(name, "RLIMIT_SIGPENDING") == 0)
        (*seen)++;
}

static void limits_are_known(void **state)
{
    unsigned seen = 0;
    (void)state;
    tt_resource_limits(getpid(), put, &seen);
    assert_int_equal(seen, 3);
}

static void handles_are_parsed(void **state)
{
    tt_handle_vec handles = {0};
    struct tt_error err = {0};
    (void)state;
    assert_int_equal(
        tt_handle_parse("port=port_acquire:ret,port_release:arg1,limit=100", &handles, &err), 0);
    assert_int_equal(handles.len, 1);
    const struct tt_handle *h = &handles.data[0];
    assert_string_equal(h->name, "port");
    assert_true(h->limit > 99.5 && h->limit < 100.5);
    assert_int_equal(h->functions.len, 2);
    assert_string_equal(h->functions.data[0].function, "port_acquire");
    assert_int_equal(h->functions.data[0].what, TT_WATCH_ACQUIRE);
    assert_int_equal(h->functions.data[0].from, TT_FROM_RETURN);
    assert_int_equal(h->functions.data[1].what, TT_WATCH_RELEASE);
    assert_int_equal(h->functions.data[1].from, TT_FROM_ARG0);
    assert_int_equal(h->functions.data[1].valid, TT_VALID_ALWAYS);

    assert_string_equal(h->parts, "port_acquire:ret,port_release:arg1,limit=100");
    assert_int_equal(tt_handle_parse("port=libp.so!port_open:*arg2:ok=0", &handles, &err), 0);
    assert_int_equal(handles.len, 1);
    h = &handles.data[0];
    assert_string_equal(h->parts, "port_acquire:ret,port_release:arg1,limit=100,"
                                  "libp.so!port_open:*arg2:ok=0");
    assert_string_equal(h->functions.data[2].function, "port_open@libp.so");
    assert_int_equal(h->functions.data[2].from, TT_FROM_AT_ARG0 + 1);
    assert_int_equal(h->functions.data[2].what, TT_WATCH_ACQUIRE);
    assert_int_equal(h->functions.data[2].width, 4);

    assert_int_equal(
        tt_handle_parse("lock=+a::b<int, long>::lock(x, y):arg1/8:nothrow,-pop:ret:ok=nonneg",
                        &handles, &err),
        0);
    h = &handles.data[1];
    assert_string_equal(h->functions.data[0].function, "a::b<int, long>::lock(x, y)");
    assert_int_equal(h->functions.data[0].what, TT_WATCH_ACQUIRE);
    assert_int_equal(h->functions.data[0].flags, TT_WATCH_WIDE);
    assert_true(h->functions.data[0].nothrow);
    assert_int_equal(h->functions.data[1].what, TT_WATCH_RELEASE);
    assert_int_equal(h->functions.data[1].valid, TT_VALID_NOT_NEGATIVE);
    tt_handles_free(&handles);
}

static void bad_handles_are_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "port",
        "=f:ret",
        "p/q=f:ret",
        "port=",
        "port=f",
        "port=f:where",
        "port=f:arg0",
        "port=f:arg7",
        "port=:ret",
        "port=f:ret2",
        "port=f:ret:maybe",
        "port=!f:ret",
        "port=m!:ret",
        "port=f:ret,limit=x",
        "port=f:ret,limit=-1",
        "port=*f",
        "port=f:ret,,g:arg1",
        "a-name-that-is-much-too-long-for-a-name=f:ret",
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        tt_handle_vec handles = {0};
        struct tt_error err = {0};
        assert_int_equal(tt_handle_parse(bad[i], &handles, &err), -EINVAL);
        assert_true(*err.text && !strchr(err.text, '\n'));
        tt_handles_free(&handles);
    }
}

static void handles_are_read_from_a_file(void **state)
{
    char path[] = "/tmp/test-handles-XXXXXX";
    tt_handle_vec handles = {0};
    struct tt_error err = {0};
    (void)state;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_true(dprintf(fd,
                        "# pools\n  port=get:ret,put:arg1  \n\nsession=s_open:*arg1/8 # through\n"
                        "port=give_up:arg2\n") > 0);
    assert_int_equal(tt_handle_read(path, &handles, &err), 0);
    assert_int_equal(handles.len, 2);
    assert_int_equal(handles.data[0].functions.len, 3);
    assert_int_equal(handles.data[1].functions.data[0].width, 8);
    assert_string_equal(handles.data[0].parts, "get:ret,put:arg1,give_up:arg2");
    assert_true(dprintf(fd, "wrong\n") > 0);
    assert_int_equal(tt_handle_read(path, &handles, &err), -EINVAL);
    assert_non_null(strstr(err.text, ":6: "));
    assert_int_equal(tt_handle_read("/nonexistent/handles", &handles, &err), -ENOENT);
    tt_handles_free(&handles);
    close(fd);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_is_sound),
        cmocka_unit_test(kinds_are_chosen),
        cmocka_unit_test(links_are_understood),
        cmocka_unit_test(own_descriptors_are_listed),
        cmocka_unit_test(sockets_are_parsed),
        cmocka_unit_test(limits_are_known),
        cmocka_unit_test(handles_are_parsed),
        cmocka_unit_test(bad_handles_are_refused),
        cmocka_unit_test(handles_are_read_from_a_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
