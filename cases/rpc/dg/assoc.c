/* SPDX-License-Identifier: Apache-2.0 */
/* Associations and the runtime's thread; see assoc.h.
 *
 * The defect of article 814622 is in this file. An association that ends well gives its port to
 * port_release. As shipped, two failure paths close the socket and forget the port: an association
 * without memory for its packets, and one whose server did not answer. To rpcssd the port stays
 * granted to this process, and the process will never use it again. RPC_HOTFIX repairs both. */
#include "internal.h"
#include "port.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct dg_assoc *assocs;
static int wake_fd = -1, epoll_fd = -1;
static int64_t com_timeout;
static struct dg_self self;

const struct dg_self *dg_self(void)
{
    return &self;
}

int64_t dg_com_timeout(void)
{
    int64_t ms = __atomic_load_n(&com_timeout, __ATOMIC_RELAXED);
    return ms > 0 ? ms : dg_timing()->com_timeout;
}

void dg_set_com_timeout(int64_t ms)
{
    __atomic_store_n(&com_timeout, ms, __ATOMIC_RELAXED);
}

void dg_wake_runtime(void)
{
    uint64_t one = 1;
    if (write(wake_fd, &one, sizeof one) < 0)
        return; /* full: it is awake anyway */
}

static int64_t sooner(int64_t a, int64_t b)
{
    return a <= 0 ? b : b <= 0 || a < b ? a : b;
}

/* indy(cas): maybe semantics, no answer. */
static void keep_alive(struct dg_assoc *a)
{
    uint8_t body[16];
    struct dg_header h = {
        .ptype = DG_REQUEST,
        .flags1 = DG_MAYBE,
        .interface = rpc_convc.uuid,
        .version = rpc_convc.version,
        .activity = a->alive_activity,
        .boot = a->boot,
        .seq = a->alive_seq++,
        .ihint = DG_NO_HINT,
        .ahint = DG_NO_HINT,
        .serial = ++a->serial,
    };
    rpc_uuid_write(&self.cas, body);
    dg_transmit((struct dg_path){a->fd, NULL}, &h, body, sizeof body);
}

/* What an association between calls needs. When it needs something next, or 0. */
static int64_t tend(struct dg_assoc *a, int64_t now)
{
    struct dg_header h;
    const uint8_t *body;
    while (dg_take_packet(a, &h, &body) > 0)
        ; /* a late answer of a call that is over */
    if (a->ack_due && now >= a->ack_due)
        dg_send_ack(a);
    if (a->contexts > 0 && !a->dead && now >= a->alive_due) {
        keep_alive(a);
        a->alive_due = now + dg_timing()->keep_alive;
    }
    return sooner(a->ack_due, a->contexts > 0 && !a->dead ? a->alive_due : 0);
}

/* Waits with epoll: poll() would keep a socket that is closed meanwhile, and with it its port
 * bound. */
static void *runtime_thread(void *unused)
{
    (void)unused;
    for (;;) {
        struct epoll_event ready[16];
        int64_t now = dg_now(), due = port_scan(now);
        pthread_mutex_lock(&lock);
        for (struct dg_assoc *a = assocs; a; a = a->next) {
            if (pthread_mutex_trylock(&a->lock) != 0)
                continue; /* its call takes care of everything, and wakes us at its end */
            due = sooner(tend(a, now), due);
            pthread_mutex_unlock(&a->lock);
        }
        pthread_mutex_unlock(&lock);
        int64_t left = due <= 0 ? -1 : due - dg_now();
        uint64_t count;
        epoll_wait(epoll_fd, ready, 16, due > 0 && left < 0 ? 0 : (int)left);
        if (read(wake_fd, &count, sizeof count) < 0)
            continue; /* it was a packet, or time */
    }
    return NULL;
}

/* Has the runtime's thread woken when there is something to read. */
static int attend(int fd)
{
    struct epoll_event ev = {.events = EPOLLIN | EPOLLET};
    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &ev);
}

int dg_runtime_start(void)
{
    static bool started;
    pthread_t thread;
    int status = RPC_OK;
    pthread_mutex_lock(&lock);
    if (!started) {
        dg_timing();
        self = (struct dg_self){rpc_uuid_new(), (uint32_t)time(NULL)};
        wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        started = wake_fd >= 0 && epoll_fd >= 0 && attend(wake_fd) == 0 &&
                  pthread_create(&thread, NULL, runtime_thread, NULL) == 0;
        if (started)
            pthread_detach(thread);
        else
            status = RPC_OUT_OF_RESOURCES;
    }
    pthread_mutex_unlock(&lock);
    return status;
}

static struct sockaddr_in inet_address(uint32_t address, uint16_t port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(address)};
}

/* All that needs memory. */
static struct dg_assoc *assoc_new(int fd, int port)
{
    struct dg_assoc *a = calloc(1, sizeof *a);
    uint8_t *packet = malloc(DG_DATAGRAM_MAX);
    if (!a || !packet) {
        free(a);
        free(packet);
        return NULL;
    }
    a->fd = fd;
    a->port = port;
    a->packet = packet;
    pthread_mutex_init(&a->lock, NULL);
    return a;
}

int dg_open(struct dg_assoc **out, uint32_t address, uint16_t server_port)
{
    int status = dg_runtime_start();
    if (status)
        return status;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return RPC_OUT_OF_RESOURCES;
    int port = port_acquire();
    if (port < 0) {
        close(fd);
        return -port;
    }
    struct sockaddr_in here = inet_address(INADDR_ANY, (uint16_t)port);
    if (bind(fd, (struct sockaddr *)&here, sizeof here) < 0) {
        close(fd);
        port_release(port);
        return RPC_CANT_CREATE_ENDPOINT;
    }
    struct dg_assoc *a = assoc_new(fd, port);
    if (!a) {
        close(fd);
#ifdef RPC_HOTFIX
        port_release(port);
#endif
        return RPC_OUT_OF_MEMORY;
    }
    status = attend(fd) < 0 ? RPC_OUT_OF_RESOURCES : dg_retarget(a, address, server_port);
    if (status) {
        dg_close(a);
        return status;
    }
    pthread_mutex_lock(&lock);
    a->next = assocs;
    assocs = a;
    pthread_mutex_unlock(&lock);
    dg_wake_runtime();
    *out = a;
    return RPC_OK;
}

int dg_retarget(struct dg_assoc *a, uint32_t address, uint16_t port)
{
    struct sockaddr_in there = inet_address(address, port);
    pthread_mutex_lock(&a->lock);
    if (a->ack_due)
        dg_send_ack(a);
    int err = connect(a->fd, (struct sockaddr *)&there, sizeof there);
    a->activity = rpc_uuid_new();
    a->alive_activity = rpc_uuid_new();
    a->boot = 0;
    a->seq = UINT32_MAX; /* the first call is 0 */
    a->alive_seq = 0;
    pthread_mutex_unlock(&a->lock);
    return err < 0 ? RPC_SERVER_UNAVAILABLE : RPC_OK;
}

void dg_hold_context(struct dg_assoc *a, int change)
{
    pthread_mutex_lock(&a->lock);
    a->contexts += change;
    if (a->contexts == 1 && change > 0)
        a->alive_due = dg_now() + dg_timing()->keep_alive;
    pthread_mutex_unlock(&a->lock);
    dg_wake_runtime();
}

static void assoc_free(struct dg_assoc *a)
{
    close(a->fd);
    pthread_mutex_destroy(&a->lock);
    free(a->packet);
    free(a);
}

/* The end of an association whose server does not answer: there is nobody to take leave of. */
static void assoc_abandon(struct dg_assoc *a)
{
#ifdef RPC_HOTFIX
    port_release(a->port);
#endif
    assoc_free(a);
}

void dg_close(struct dg_assoc *a)
{
    if (!a)
        return;
    pthread_mutex_lock(&lock);
    for (struct dg_assoc **at = &assocs; *at; at = &(*at)->next)
        if (*at == a) {
            *at = a->next;
            break;
        }
    pthread_mutex_unlock(&lock);
    if (a->dead) {
        assoc_abandon(a);
        return;
    }
    if (a->ack_due)
        dg_send_ack(a);
    int port = a->port;
    assoc_free(a);
    port_release(port);
    dg_wake_runtime(); /* there is something that cools now */
}
