/* SPDX-License-Identifier: Apache-2.0 */
/* Client contexts; see client.h. The order of packets on the socket is the order of happenings:
 * events posted before a request are sent before its reply, LINE_REPLY comes after the reply that
 * carries its id. So while events wait, requests are left in the socket: an application that does
 * not read is held back, not served out of order. */
#include "client.h"
#include "api.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { CHUNK_EVENTS = 63 };

struct event_chunk {
    struct event_chunk *next;
    uint32_t begin, end;
    struct wire_event event[CHUNK_EVENTS];
};

static struct watch listener = {.fd = -1};
static struct client *clients, *dirty;

static void mark_dirty(struct client *c)
{
    if (c->dirty)
        return;
    c->dirty = true;
    c->dirty_next = dirty;
    dirty = c;
}

bool client_keeps_up(const struct client *c)
{
    return c->queued < config.queue_limit;
}

void client_post(struct client *c, const struct wire_event *ev)
{
    if (c->dead)
        return;
    struct event_chunk *k = c->last;
    if (ev->msg == LINE_CALLINFO && !client_keeps_up(c)) {
        counters.events_dropped++;
        return;
    }
    if (!k || k->end == CHUNK_EVENTS) {
        if (!(k = malloc(sizeof *k))) {
            counters.events_dropped++;
            return;
        }
        k->next = NULL;
        k->begin = k->end = 0;
        if (c->last)
            c->last->next = k;
        else
            c->first = k;
        c->last = k;
    }
    k->event[k->end++] = *ev;
    c->queued++;
    mark_dirty(c);
}

static void free_queue(struct client *c)
{
    while (c->first) {
        struct event_chunk *k = c->first;
        c->first = k->next;
        free(k);
    }
    c->last = NULL;
    c->queued = 0;
    free(c->reply);
    c->reply = NULL;
}

static void lose(struct client *c)
{
    c->dead = true;
    mark_dirty(c);
}

/* 1 sent, 0 the socket is full, -1 the client is lost. */
static int send_packet(struct client *c, const void *data, size_t len)
{
    if (send(c->watch.fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
        return 1;
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS)
        return 0;
    lose(c);
    return -1;
}

/* True when nothing waits any more. Watches for room or for requests accordingly. */
static bool client_flush(struct client *c)
{
    int sent = 1;
    if (c->reply && (sent = send_packet(c, c->reply, c->reply_len)) > 0) {
        free(c->reply);
        c->reply = NULL;
    }
    while (sent > 0 && c->first) {
        struct event_chunk *k = c->first;
        while (k->begin < k->end &&
               (sent = send_packet(c, &k->event[k->begin], sizeof k->event[0])) > 0) {
            k->begin++;
            c->queued--;
        }
        if (sent <= 0)
            break;
        c->first = k->next;
        if (!c->first)
            c->last = NULL;
        free(k);
    }
    if (c->dead)
        return false;
    bool blocked = sent <= 0;
    if (blocked != c->blocked) {
        c->blocked = blocked;
        watch_change(&c->watch, blocked ? EPOLLOUT : EPOLLIN);
    }
    return !blocked;
}

static void run_down(struct client *c)
{
    while (c->apps)
        app_shutdown(c->apps);
    free_queue(c);
    watch_remove(&c->watch);
    close(c->watch.fd);
    if (c->prev)
        c->prev->next = c->next;
    else
        clients = c->next;
    if (c->next)
        c->next->prev = c->prev;
    free(c);
}

void client_flush_all(void)
{
    while (dirty) {
        struct client *c = dirty;
        dirty = c->dirty_next;
        c->dirty = false;
        if (!c->dead)
            client_flush(c);
        if (c->dead && !c->dirty)
            run_down(c);
    }
}

/* Reads one request, has it answered, sends the reply. False when there was none. */
NOINLINE static bool client_request(struct client *c)
{
    struct wire_packet in, out;
    ssize_t n = recv(c->watch.fd, &in, sizeof in, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n < (ssize_t)sizeof in.head) { /* end of file, an error, or not our protocol */
        lose(c);
        return false;
    }
    size_t var_len = 0;
    memset(&out.head, 0, sizeof out.head);
    out.head.reserved = in.head.reserved;
    struct api_call call = {c, &in, (size_t)n - sizeof in.head, &out, &var_len, 0};
    out.head.func = api_dispatch(&call);
    size_t len = sizeof out.head + var_len;
    int sent = send_packet(c, &out, len);
    if (sent == 0 && (c->reply = malloc(sizeof *c->reply))) {
        memcpy(c->reply, &out, len);
        c->reply_len = len;
        mark_dirty(c);
    } else if (sent == 0) {
        lose(c);
    }
    api_complete(&call);
    return sent > 0;
}

static void client_ready(struct watch *w, uint32_t events)
{
    struct client *c = CONTAINER_OF(w, struct client, watch);
    if (c->dead)
        return;
    if (events & (EPOLLERR | EPOLLHUP)) {
        /* Requests that a process left behind when it died are not carried out. */
        lose(c);
        return;
    }
    for (int turn = 0; turn < 16 && client_flush(c) && client_request(c); turn++)
        ;
}

static void accept_ready(struct watch *w, uint32_t events)
{
    (void)events;
    int fd = accept4(w->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    struct ucred cred;
    socklen_t len = sizeof cred;
    struct client *c = calloc(1, sizeof *c);
    if (!c || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
        goto refuse;
    c->pid = cred.pid;
    c->watch = (struct watch){fd, client_ready};
    if (watch_add(&c->watch, EPOLLIN) < 0)
        goto refuse;
    c->next = clients;
    if (clients)
        clients->prev = c;
    clients = c;
    return;
refuse:
    free(c);
    close(fd);
}

int client_listen(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    if (strlen(config.socket_path) >= sizeof addr.sun_path)
        return -ENAMETOOLONG;
    strcpy(addr.sun_path, config.socket_path);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    /* A socket file nobody listens on is left over from a server that was killed. */
    if (connect(fd, (struct sockaddr *)&addr, sizeof addr) < 0 && errno == ECONNREFUSED)
        unlink(addr.sun_path);
    close(fd);
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    listener = (struct watch){fd, accept_ready};
    if (bind(fd, (struct sockaddr *)&addr, sizeof addr) < 0 || listen(fd, 64) < 0 ||
        watch_add(&listener, EPOLLIN) < 0) {
        int err = errno;
        close(fd);
        listener.fd = -1;
        return -err;
    }
    return 0;
}

void client_free_all(void)
{
    if (listener.fd >= 0) {
        close(listener.fd);
        unlink(config.socket_path);
    }
    client_flush_all();
    dirty = NULL;
    while (clients)
        run_down(clients);
}
