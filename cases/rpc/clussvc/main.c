/* SPDX-License-Identifier: Apache-2.0 */
/* clussvc: the cluster API server. Registers its endpoint with rpcssd and serves until SIGTERM.
 * Start: main. */
#include "../broker.h"
#include "../service.h"
#include "cluster.h"

#include <errno.h>
#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Stays connected: the registration lasts as long. */
static int register_endpoint(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    const char *path = getenv(RPCSS_SOCKET_ENV);
    struct broker_request request = {BROKER_REGISTER, dg_server_port(), rpc_clusapi};
    struct broker_reply reply;
    snprintf(addr.sun_path, sizeof addr.sun_path, "%s", path ? path : RPCSS_SOCKET_DEFAULT);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    for (uint32_t version = 2; version <= 3; version++) {
        request.interface.version = version;
        if (fd < 0 || (version == 2 && connect(fd, (struct sockaddr *)&addr, sizeof addr) < 0) ||
            send(fd, &request, sizeof request, MSG_NOSIGNAL) < 0 ||
            recv(fd, &reply, sizeof reply, 0) < 0)
            return -errno;
        if (reply.status != BROKER_OK)
            return -EPERM;
    }
    return 0;
}

static const char usage[] =
    "usage: clussvc [options]\n"
    "  --port PORT         UDP port on 127.0.0.1; 0 takes a free one (0)\n"
    "  --resources N       resources beyond the four of the cluster itself (0)\n"
    "  --pending MS        how long a resource is pending on its way online or offline (0)\n"
    "  --max-calls N       calls at once; more are rejected (no bound)\n"
    "  --no-register       do not tell rpcssd's endpoint mapper\n"
    "  --amnesia           lose all state once a client has said who it is, as by a crash\n"
    "Prints \"ready pid=... port=...\" when it serves; ends on SIGTERM.\n";

static void bad_usage(void)
{
    fputs(usage, stderr);
    exit(2);
}

int main(int argc, char **argv)
{
    static const struct dg_service *const services[] = {&clusapi_v2, &clusapi_v3, NULL};
    static const struct option options[] = {
        {"port", 1, NULL, 'p'},      {"resources", 1, NULL, 'r'},   {"pending", 1, NULL, 'w'},
        {"max-calls", 1, NULL, 'm'}, {"no-register", 0, NULL, 'n'}, {"amnesia", 0, NULL, 'a'},
        {NULL, 0, NULL, 0}};
    struct dg_server_options server = {.address = INADDR_LOOPBACK, .services = services};
    size_t further = 0;
    bool registered = true;
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (o) {
        case 'p':
            server.port = (uint16_t)service_number("clussvc", "--port", optarg, 65535);
            break;
        case 'r':
            further = service_number("clussvc", "--resources", optarg, 100000);
            break;
        case 'w':
            cluster.pending_ms = (int64_t)service_number("clussvc", "--pending", optarg, 3600000);
            break;
        case 'm':
            server.max_calls = service_number("clussvc", "--max-calls", optarg, 1000000);
            break;
        case 'n':
            registered = false;
            break;
        case 'a':
            server.amnesia = true;
            break;
        default:
            bad_usage();
        }
    }
    if (optind != argc)
        bad_usage();
    int err = cluster_build(further);
    if (!err)
        err = dg_server_open(&server);
    if (!err)
        err = service_begin();
    if (err) {
        fprintf(stderr, "clussvc: cannot serve at UDP port %u: %s\n", server.port, strerror(-err));
        return 3;
    }
    if (registered && (err = register_endpoint()) != 0) {
        fprintf(stderr,
                "clussvc: rpcssd does not take our endpoint: %s; start rpcssd first, or use "
                "--no-register\n",
                strerror(-err));
        return 3;
    }
    printf("ready pid=%d port=%u\n", (int)getpid(), dg_server_port());
    fflush(stdout);
    dg_server_run();
    struct dg_server_counters n = dg_server_counters;
    fprintf(stderr,
            "clussvc: calls=%llu executed=%llu duplicates=%llu callbacks=%llu rejects=%llu "
            "faults=%llu rundowns=%llu activities=%llu contexts=%llu\n",
            (unsigned long long)n.calls, (unsigned long long)n.executed,
            (unsigned long long)n.duplicates, (unsigned long long)n.callbacks,
            (unsigned long long)n.rejects, (unsigned long long)n.faults,
            (unsigned long long)n.rundowns, (unsigned long long)n.activities,
            (unsigned long long)n.contexts);
    dg_server_close();
    cluster_free();
    return 0;
}
