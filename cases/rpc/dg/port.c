/* SPDX-License-Identifier: Apache-2.0 */
/* The ports of this process; see port.h. Two queues by port number and nothing else: a port that is
 * in neither of them and in no association is not known here any more.
 *
 * With RPC_DESIGN_LIMIT=1 a cooled port is not used again: then every association takes a new
 * grant, as the article's last paragraph can be read. */
#include "port.h"
#include "status.h"
#include "timing.h"
#include "../broker.h"

#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { PORTS = 65536 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    uint16_t next; /* 0 ends a queue */
    int64_t due;
} link_of[PORTS];
static struct queue {
    uint16_t first, last;
} cooling, idle;
static int broker_fd = -1;

static void push(struct queue *q, uint16_t port)
{
    link_of[port].next = 0;
    if (q->first)
        link_of[q->last].next = port;
    else
        q->first = port;
    q->last = port;
}

static uint16_t pop(struct queue *q)
{
    uint16_t port = q->first;
    if (port)
        q->first = link_of[port].next;
    return port;
}

static int broker_connect(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    const char *path = getenv(RPCSS_SOCKET_ENV);
    if (!path || strlen(path) >= sizeof addr.sun_path)
        path = RPCSS_SOCKET_DEFAULT;
    strcpy(addr.sun_path, path);
    broker_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (broker_fd >= 0 && connect(broker_fd, (struct sockaddr *)&addr, sizeof addr) < 0) {
        close(broker_fd);
        broker_fd = -1;
    }
    return broker_fd;
}

/* A grant of rpcssd: its port, 0 for any, or a negative status. */
static int ask(void)
{
    struct broker_request request = {BROKER_GRANT, BROKER_DEFAULT};
    struct broker_reply reply = {0};
    if (broker_fd < 0 && broker_connect() < 0)
        return -RPC_SERVER_UNAVAILABLE;
    if (send(broker_fd, &request, sizeof request, MSG_NOSIGNAL) != (ssize_t)sizeof request ||
        recv(broker_fd, &reply, sizeof reply, 0) < (ssize_t)offsetof(struct broker_reply, entry)) {
        close(broker_fd); /* rpcssd has ended, and with it all grants */
        broker_fd = -1;
        return -RPC_SERVER_UNAVAILABLE;
    }
    if (reply.status == BROKER_EXHAUSTED)
        return -RPC_OUT_OF_RESOURCES;
    return reply.status == BROKER_OK ? (int)reply.value : -RPC_CANT_CREATE_ENDPOINT;
}

int port_acquire(void)
{
    port_scan(dg_now());
    pthread_mutex_lock(&lock);
    int port = pop(&idle);
    if (!port)
        port = ask();
    pthread_mutex_unlock(&lock);
    return port;
}

void port_release(int port)
{
    if (port <= 0)
        return;
    pthread_mutex_lock(&lock);
    link_of[port].due = dg_now() + dg_timing()->port_recycle;
    push(&cooling, (uint16_t)port);
    pthread_mutex_unlock(&lock);
}

void port_recycle(int port)
{
    const char *limit = getenv("RPC_DESIGN_LIMIT");
    if (limit && strcmp(limit, "1") == 0)
        return;
    pthread_mutex_lock(&lock);
    push(&idle, (uint16_t)port);
    pthread_mutex_unlock(&lock);
}

int64_t port_scan(int64_t now)
{
    for (;;) {
        pthread_mutex_lock(&lock);
        int64_t due = cooling.first ? link_of[cooling.first].due : -1;
        int port = due >= 0 && due <= now ? pop(&cooling) : 0;
        pthread_mutex_unlock(&lock);
        if (!port)
            return due;
        port_recycle(port);
    }
}
