/* SPDX-License-Identifier: Apache-2.0 */
/* rpcssd: the port broker and endpoint mapper of a host. Processes connect to its local socket;
 * what they are granted or have registered ends with the connection, as it does with a process. The
 * endpoint mapper answers over datagram RPC. Start: main, request_ready. */
#include "../service.h"
#include "epm.h"
#include "ledger.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* A connected process. The watch comes first: the loop hands that back. */
struct peer {
    struct dg_watch watch;
    struct peer *next, **at;
    pid_t pid;
};

static struct peer *peers;
static uint64_t grants, refusals;

/* One process may connect more than once: its grants end with the last connection. */
static bool still_connected(pid_t pid)
{
    for (struct peer *p = peers; p; p = p->next)
        if (p->pid == pid)
            return true;
    return false;
}

static void peer_free(struct peer *p)
{
    *p->at = p->next;
    if (p->next)
        p->next->at = p->at;
    dg_server_unwatch(&p->watch);
    close(p->watch.fd);
    epm_remove_owner(p);
    if (!still_connected(p->pid))
        ledger_process_ended(p->pid);
    free(p);
}

static uint32_t serve_register(struct peer *p, const struct broker_request *request)
{
    struct tower t = {request->interface, INADDR_LOOPBACK, (uint16_t)request->arg};
    return request->arg > 0 && request->arg < 65536 && epm_add(&t, "", p) == 0 ? BROKER_OK
                                                                               : BROKER_BAD_REQUEST;
}

static void request_ready(struct dg_watch *w)
{
    struct peer *p = (struct peer *)w;
    struct broker_request request;
    struct broker_reply reply = {0};
    uint16_t port;
    ssize_t n = recv(w->fd, &request, sizeof request, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n != (ssize_t)sizeof request) {
        peer_free(p);
        return;
    }
    switch (request.op) {
    case BROKER_GRANT:
        reply.status = ledger_grant(p->pid, request.arg, &port);
        reply.value = port;
        grants += reply.status == BROKER_OK;
        refusals += reply.status == BROKER_EXHAUSTED;
        break;
    case BROKER_LEDGER:
        ledger_report(&reply);
        break;
    case BROKER_REGISTER:
        reply.status = serve_register(p, &request);
        break;
    default:
        reply.status = BROKER_BAD_REQUEST;
    }
    if (send(w->fd, &reply, sizeof reply, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        peer_free(p);
}

static void connection_ready(struct dg_watch *w)
{
    struct ucred who;
    socklen_t len = sizeof who;
    int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC);
    struct peer *p = fd >= 0 ? calloc(1, sizeof *p) : NULL;
    if (!p || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0) {
        free(p);
        if (fd >= 0)
            close(fd);
        return;
    }
    p->watch = (struct dg_watch){fd, request_ready};
    p->pid = who.pid;
    p->next = peers;
    p->at = &peers;
    if (peers)
        peers->at = &p->next;
    peers = p;
    if (dg_server_watch(&p->watch) < 0)
        peer_free(p);
}

static int listen_at(const char *path)
{
    static struct dg_watch watch = {-1, connection_ready};
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof addr.sun_path)
        return -ENAMETOOLONG;
    strcpy(addr.sun_path, path);
    watch.fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    unlink(path);
    if (watch.fd < 0 || bind(watch.fd, (struct sockaddr *)&addr, sizeof addr) < 0 ||
        listen(watch.fd, 64) < 0)
        return -errno;
    return dg_server_watch(&watch);
}

static const char usage[] =
    "usage: rpcssd [options]\n"
    "  --socket PATH                       where processes connect (/tmp/rpcssd.sock, or "
    "$RPCSS_SOCKET)\n"
    "  --epm-port PORT                     UDP port of the endpoint mapper on 127.0.0.1; 0 takes a "
    "free one (135)\n"
    "  --ports LIST                        ports that are given out: 5000-5099,5984\n"
    "  --ports-internet-available Y|N      the list is for (Y) or not for (N) Internet endpoints\n"
    "  --use-internet-ports Y|N            endpoints are Internet endpoints unless they say "
    "otherwise\n"
    "Without the last three ports are not restricted; with some of them, all must be there.\n"
    "Prints \"ready pid=... socket=... epm-port=...\" when it serves; ends on SIGTERM.\n";

static void bad_usage(void)
{
    fputs(usage, stderr);
    exit(2);
}

int main(int argc, char **argv)
{
    static const struct dg_service *const services[] = {&epm_service, NULL};
    static const struct option options[] = {{"socket", 1, NULL, 's'},
                                            {"epm-port", 1, NULL, 'e'},
                                            {"ports", 1, NULL, 'p'},
                                            {"ports-internet-available", 1, NULL, 'a'},
                                            {"use-internet-ports", 1, NULL, 'u'},
                                            {NULL, 0, NULL, 0}};
    const char *path = getenv(RPCSS_SOCKET_ENV), *ports = NULL, *available = NULL, *use = NULL;
    struct dg_server_options server = {
        .address = INADDR_LOOPBACK, .port = 135, .services = services};
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (o) {
        case 's':
            path = optarg;
            break;
        case 'e':
            server.port = (uint16_t)service_number("rpcssd", "--epm-port", optarg, 65535);
            break;
        case 'p':
            ports = optarg;
            break;
        case 'a':
            available = optarg;
            break;
        case 'u':
            use = optarg;
            break;
        default:
            bad_usage();
        }
    }
    if (optind != argc)
        bad_usage();
    if (!path)
        path = RPCSS_SOCKET_DEFAULT;
    if (!ledger_configure(ports, available, use))
        fputs("rpcssd: the port configuration is invalid: no port will be granted\n", stderr);
    int err = dg_server_open(&server);
    if (!err)
        err = service_begin();
    if (err) {
        fprintf(stderr, "rpcssd: cannot serve at UDP port %u: %s\n", server.port, strerror(-err));
        return 3;
    }
    err = listen_at(path);
    if (err) {
        fprintf(stderr, "rpcssd: cannot listen at %s: %s\n", path, strerror(-err));
        return 3;
    }
    struct tower self = {rpc_epm, INADDR_LOOPBACK, dg_server_port()};
    epm_add(&self, "endpoint mapper", &self);
    printf("ready pid=%d socket=%s epm-port=%u\n", (int)getpid(), path, dg_server_port());
    fflush(stdout);
    dg_server_run();
    fprintf(stderr, "rpcssd: %llu grants, %llu refused, %llu calls\n", (unsigned long long)grants,
            (unsigned long long)refusals, (unsigned long long)dg_server_counters.calls);
    while (peers)
        peer_free(peers);
    dg_server_close();
    unlink(path);
    return 0;
}
