/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets, with and without a peer, and the local ports that they take. */
#include "pairs.h"

#include <arpa/inet.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define UNIT int

static struct sockaddr_in loopback(uint16_t port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

/* Listeners of the program itself, one each for its life. */
static int tcp_listener = -1, unix_listener = -1, udp_peer = -1;
static struct sockaddr_in tcp_address, udp_address;
static struct sockaddr_un unix_address = {.sun_family = AF_UNIX};
static socklen_t unix_length = sizeof(sa_family_t);

static __attribute__((constructor)) void listen_all(void)
{
    socklen_t n = sizeof tcp_address;
    tcp_address = udp_address = loopback(0);
    tcp_listener = socket(AF_INET, SOCK_STREAM, 0);
    udp_peer = socket(AF_INET, SOCK_DGRAM, 0);
    unix_listener = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(tcp_listener, (struct sockaddr *)&tcp_address, n) || listen(tcp_listener, 16) ||
        getsockname(tcp_listener, (struct sockaddr *)&tcp_address, &n) ||
        bind(udp_peer, (struct sockaddr *)&udp_address, n) ||
        getsockname(udp_peer, (struct sockaddr *)&udp_address, &n))
        pairs_failed("listening on 127.0.0.1");
    n = sizeof unix_address; /* bound to no name: the kernel chooses an abstract one */
    if (bind(unix_listener, (struct sockaddr *)&unix_address, unix_length) ||
        listen(unix_listener, 16) ||
        getsockname(unix_listener, (struct sockaddr *)&unix_address, &n))
        pairs_failed("listening on a local socket");
    unix_length = n;
}

/* The server's end of a connection whose client has gone: TCP's CLOSE_WAIT. */
static PAIRS_OWN_FRAME int accepted_tcp(void)
{
    int client = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(client, (struct sockaddr *)&tcp_address, sizeof tcp_address))
        pairs_failed("connect");
    int server = accept(tcp_listener, NULL, NULL);
    close(client);
    return server;
}

static PAIRS_OWN_FRAME int accepted_unix(void)
{
    int client = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(client, (struct sockaddr *)&unix_address, unix_length))
        pairs_failed("connect");
    int server = accept4(unix_listener, NULL, NULL, SOCK_CLOEXEC);
    close(client);
    return server;
}

/* A client's end whose server has gone. Sockets that listen close by a reset, so that no port stays
 * in TIME_WAIT. */
static PAIRS_OWN_FRAME int connected_tcp(void)
{
    int client = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(client, (struct sockaddr *)&tcp_address, sizeof tcp_address))
        pairs_failed("connect");
    int server = accept(tcp_listener, NULL, NULL);
    struct linger reset = {1, 0};
    setsockopt(server, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(server);
    return client;
}

static PAIRS_OWN_FRAME int pair_end(void)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends))
        pairs_failed("socketpair");
    close(ends[1]);
    return ends[0];
}

static PAIRS_OWN_FRAME int bound(int type)
{
    struct sockaddr_in any = loopback(0);
    int fd = socket(AF_INET, type, 0);
    if (bind(fd, (struct sockaddr *)&any, sizeof any))
        pairs_failed("bind");
    return fd;
}

static PAIRS_OWN_FRAME int bound6(void)
{
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(AF_INET6, SOCK_DGRAM, 0);
    if (fd < 0) /* no IPv6 here */
        return bound(SOCK_DGRAM);
    if (bind(fd, (struct sockaddr *)&any, sizeof any)) {
        close(fd);
        return bound(SOCK_DGRAM);
    }
    return fd;
}

/* A port nobody asked for by name: connect takes one of the ephemeral range. */
static PAIRS_OWN_FRAME int connected_udp(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (connect(fd, (struct sockaddr *)&udp_address, sizeof udp_address))
        pairs_failed("connect");
    return fd;
}

#define RESOURCE "socket"
#define ACQUIRER socket_tcp
#define NEW_UNIT socket(AF_INET, SOCK_STREAM, 0)
#define END_UNIT(v) close(v)
#define FLOWS FLOWS_ALL
#include "flows.inc"

#define ACQUIRER socket_udp
#define NEW_UNIT socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)
#define END_UNIT(v) close(v)
#define FLOWS FLOWS_CALLS
#include "flows.inc"

#define ACQUIRER socket_unix
#define NEW_UNIT socket(AF_UNIX, SOCK_STREAM, 0)
#define END_UNIT(v) close(v)
#define FLOWS FLOWS_DATA
#include "flows.inc"

#define ACQUIRER socket_netlink
#define NEW_UNIT socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE)
#define END_UNIT(v) close(v)
#define FLOWS FLOWS_LIFE
#include "flows.inc"

#define ACQUIRER accept
#define NEW_UNIT accepted_tcp()
#define END_UNIT(v) close(v)
#define ALSO "port"
#define FLOWS FLOWS_BASIC | FLOWS_CALLS
#include "flows.inc"

#define ACQUIRER accept4
#define NEW_UNIT accepted_unix()
#define END_UNIT(v) close(v)
#define FLOWS FLOWS_LIFE | FLOWS_CONTROL
#include "flows.inc"

#define ACQUIRER connect_tcp
#define NEW_UNIT connected_tcp()
#define END_UNIT(v) close(v)
#define ALSO "port"
#define FLOWS FLOWS_DATA
#include "flows.inc"

#define ACQUIRER socketpair
#define NEW_UNIT pair_end()
#define END_UNIT(v) close(v)
#define FLOWS FLOWS_BASIC
#include "flows.inc"

/* Shutting down is not closing. */
#define ACQUIRER shutdown
#define NEW_UNIT accepted_unix()
#define BYTES 1
#define ALSO ""
BAD(only)
{
    int v = LOST;
    shutdown(v, SHUT_RDWR);
}
GOOD(only)
{
    int v = KEPT;
    shutdown(v, SHUT_RDWR);
    close(v);
}
#undef ACQUIRER
#undef NEW_UNIT
#undef BYTES
#undef ALSO
#undef RESOURCE

#define RESOURCE "port"
#define ACQUIRER bind_tcp
#define NEW_UNIT bound(SOCK_STREAM)
#define END_UNIT(v) close(v)
#define ALSO "socket"
#define FLOWS FLOWS_BASIC | FLOWS_CALLS
#include "flows.inc"

#define ACQUIRER bind_udp
#define NEW_UNIT bound(SOCK_DGRAM)
#define END_UNIT(v) close(v)
#define ALSO "socket"
#define FLOWS FLOWS_ALL
#include "flows.inc"

#define ACQUIRER bind_udp6
#define NEW_UNIT bound6()
#define END_UNIT(v) close(v)
#define ALSO "socket"
#define FLOWS FLOWS_LIFE
#include "flows.inc"

#define ACQUIRER connect_udp
#define NEW_UNIT connected_udp()
#define END_UNIT(v) close(v)
#define ALSO "socket"
#define FLOWS FLOWS_DATA
#include "flows.inc"
