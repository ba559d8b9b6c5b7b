/* SPDX-License-Identifier: Apache-2.0 */
/* The server's protocol machine; see server.h. The state of a call is that of its activity, as an
 * activity has one call at a time. One function per packet type in a table; timers are the due
 * times of the few activities on the live list and two slow scans. Start: dg_server_run. */
#include "activity.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static struct dg_server_options options;
static int epoll_fd = -1;
static bool stopping;
static int64_t timer_at, idle_scan_at, rundown_scan_at;
static void (*timer_expired)(void);

/* ---- executing ---- */

static void finish(struct dg_activity *a, uint32_t fault)
{
    if (!fault && a->call.out.failed)
        fault = NCA_FAULT_NO_MEMORY;
    if (fault)
        dg_refuse(a, DG_FAULT, fault);
    else
        dg_answer(a, DG_RESPONSE, a->call.out.data, a->call.out.len);
}

void dg_complete(struct dg_incoming *call, uint32_t fault)
{
    if (call->activity->state == EXECUTING)
        finish(call->activity, fault);
}

static void execute(struct dg_activity *a)
{
    struct dg_incoming *c = &a->call;
    c->cas = a->cas;
    c->opnum = a->request.opnum;
    c->version = a->request.version;
    dg_server_counters.executed++;
    int result = a->service->execute(c);
    if (result == DG_DEFER)
        dg_activity_set(a, EXECUTING);
    else
        finish(a, (uint32_t)result);
}

/* ---- the callback ---- */

/* who_are_you2: which address space is this activity of, and which call is it at? */
static void send_ask(struct dg_activity *a)
{
    uint8_t body[20];
    rpc_uuid_write(&a->uuid, body);
    rpc_put32(body + 16, dg_server.boot);
    a->ask.h.serial++;
    dg_transmit(dg_answer_path(&a->from), &a->ask.h, body, sizeof body);
    dg_activity_due(a, dg_now() + a->wait);
}

static void ask(struct dg_activity *a)
{
    enum { WHO_ARE_YOU2 = 1 };
    a->ask.since = dg_now();
    a->ask.h = (struct dg_header){
        .ptype = DG_REQUEST,
        .flags1 = DG_IDEMPOTENT,
        .interface = rpc_conv.uuid,
        .version = rpc_conv.version,
        .activity = rpc_uuid_new(),
        .opnum = WHO_ARE_YOU2,
        .ihint = DG_NO_HINT,
        .ahint = DG_NO_HINT,
    };
    a->wait = dg_timing()->ping;
    dg_server_counters.callbacks++;
    dg_activity_set(a, ASKING);
    send_ask(a);
}

static void crash_and_come_back(void)
{
    dg_activity_forget(INT64_MAX);
    dg_cas_forget_all();
    dg_server.boot++;
}

static void identified(struct dg_activity *a, const struct dg_header *h, const uint8_t *body)
{
    struct ndr_in in = ndr_reader(body, h->len, h->little);
    uint32_t seq = ndr_get32(&in);
    struct rpc_uuid cas = ndr_get_uuid(&in);
    uint32_t status = ndr_get32(&in);
    if (options.amnesia && !in.failed && status == 0) {
        crash_and_come_back();
        return;
    }
    if (h->ptype != DG_RESPONSE || in.failed || status || dg_before32(seq, a->request.seq)) {
        dg_refuse(a, DG_REJECT, NCA_WHO_ARE_YOU_FAILED);
        return;
    }
    if (seq != a->request.seq) { /* the client is further on: an old request came late */
        dg_activity_clear(a);
        a->request.seq = seq - 1;
        return;
    }
    if (!a->cas)
        a->cas = dg_cas_get(&cas);
    a->verified = a->cas;
    if (a->cas)
        execute(a);
    else
        dg_refuse(a, DG_REJECT, NCA_SERVER_TOO_BUSY);
}

/* An answer from a client to our callback. */
static void on_callback_answer(struct dg_activity *unused, const struct dg_header *h,
                               const uint8_t *body, const struct sockaddr_in *from)
{
    (void)unused, (void)from;
    for (struct dg_activity *a = dg_server.live; a; a = a->live)
        if (a->state == ASKING && rpc_uuid_equal(&a->ask.h.activity, &h->activity)) {
            identified(a, h, body);
            return;
        }
}

/* ---- packets of clients ---- */

static void answer_again(struct dg_activity *a)
{
    if (a->answer.count == 1)
        a->answer.acked = 0;
    dg_send_again(&a->answer, dg_answer_path(&a->from));
}

static const struct dg_service *service_of(const struct dg_header *h)
{
    for (const struct dg_service *const *s = options.services; *s; s++)
        if (rpc_uuid_equal(&(*s)->interface->uuid, &h->interface) &&
            (uint16_t)(*s)->interface->version == (uint16_t)h->version)
            return *s;
    return NULL;
}

/* A request that no activity is made for: its status, or 0. */
static uint32_t unacceptable(const struct dg_header *h, const struct dg_service *s)
{
    if (h->boot && h->boot != dg_server.boot)
        return NCA_WRONG_BOOT_TIME;
    if (!s)
        return NCA_UNK_IF;
    if (h->opnum >= s->ops)
        return NCA_OP_RNG_ERROR;
    return h->auth ? NCA_UNSPEC_REJECT : 0;
}

/* All of the request is here. */
static void on_complete(struct dg_activity *a)
{
    size_t len;
    bool little = a->receive.little;
    a->in_data = dg_receive_join(&a->receive, &len);
    dg_server_counters.calls++;
    if (!a->in_data || (options.max_calls && dg_server.running >= options.max_calls)) {
        dg_refuse(a, DG_REJECT, NCA_SERVER_TOO_BUSY);
        return;
    }
    a->call.in = ndr_reader(a->in_data, len, little);
    bool harmless = a->request.flags1 & (DG_MAYBE | DG_IDEMPOTENT | DG_BROADCAST) &&
                    a->service->idempotent && a->service->idempotent(a->request.opnum);
    if (a->verified || harmless)
        execute(a);
    else if (a->request.flags1 & (DG_MAYBE | DG_BROADCAST))
        dg_activity_clear(a); /* nobody may be asked, and it is not to be repeated */
    else
        ask(a);
}

static void on_request(struct dg_activity *a, const struct dg_header *h, const uint8_t *body,
                       const struct sockaddr_in *from)
{
    if (rpc_uuid_equal(&h->interface, &rpc_convc.uuid)) {
        if (h->opnum == 0 && h->len >= 16 && (h->boot == 0 || h->boot == dg_server.boot)) {
            struct rpc_uuid cas = rpc_uuid_read(body, h->little);
            dg_cas_alive(&cas, dg_now());
        }
        return;
    }
    const struct dg_service *s = service_of(h);
    uint32_t status = unacceptable(h, s);
    if (!status && !a && !(a = dg_activity_new(&h->activity, h->seq)))
        status = NCA_SERVER_TOO_BUSY;
    if (status) {
        if (!(h->flags1 & (DG_MAYBE | DG_BROADCAST)))
            dg_answer_stateless(h, from, DG_REJECT, status,
                                status == NCA_WRONG_BOOT_TIME ? h->boot : dg_server.boot);
        return;
    }
    a->used = dg_now();
    if (dg_before32(h->seq, a->request.seq))
        return; /* of a call that is long over */
    if (h->seq != a->request.seq) {
        dg_activity_clear(a); /* a new call acknowledges the former one */
        a->request = *h;
        a->from = *from;
        a->service = s;
        dg_activity_set(a, RECEIVING);
    } else if (a->state != RECEIVING) {
        dg_server_counters.duplicates++;
        if (a->state == ANSWERED)
            answer_again(a);
        else if (a->state != DONE)
            dg_answer_control(a, DG_WORKING, NULL, 0);
        return;
    }
    int err = dg_receive_part(&a->receive, h, body);
    if (err < 0) {
        dg_refuse(a, DG_REJECT, err == -ENOMEM ? NCA_SERVER_TOO_BUSY : NCA_PROTO_ERROR);
        return;
    }
    if ((h->flags1 & DG_FRAG) && !(h->flags1 & DG_NOFACK))
        dg_answer_report(a, DG_FACK, h->serial);
    if (dg_receive_done(&a->receive))
        on_complete(a);
}

static bool is_current(const struct dg_activity *a, const struct dg_header *h)
{
    return a && h->seq == a->request.seq;
}

static void on_ping(struct dg_activity *a, const struct dg_header *h, const uint8_t *body,
                    const struct sockaddr_in *from)
{
    (void)body;
    if (!a || dg_before32(a->request.seq, h->seq)) {
        dg_answer_stateless(h, from, DG_NOCALL, 0, dg_server.boot);
        return;
    }
    if (!is_current(a, h))
        return;
    a->used = dg_now();
    switch (a->state) {
    case RECEIVING:
        dg_answer_report(a, DG_NOCALL, h->serial);
        break;
    case ASKING:
    case EXECUTING:
        dg_answer_control(a, DG_WORKING, NULL, 0);
        break;
    case ANSWERED:
        answer_again(a);
        break;
    case DONE:
        break;
    }
}

static void on_ack(struct dg_activity *a, const struct dg_header *h, const uint8_t *body,
                   const struct sockaddr_in *from)
{
    (void)body, (void)from;
    if (is_current(a, h) && a->state == ANSWERED)
        dg_activity_clear(a);
}

static void on_fack(struct dg_activity *a, const struct dg_header *h, const uint8_t *body,
                    const struct sockaddr_in *from)
{
    struct dg_fack f;
    (void)from;
    if (!is_current(a, h) || a->state != ANSWERED || a->answer.count == 1)
        return;
    bool readable = dg_fack_read(&f, body, h->len, h->little) == 0;
    dg_send_fack(&a->answer, h->frag, readable ? &f : NULL, dg_answer_path(&a->from));
    a->wait = dg_timing()->ping;
    dg_activity_due(a, dg_send_done(&a->answer) ? 0 : dg_now() + a->wait);
}

static void on_quit(struct dg_activity *a, const struct dg_header *h, const uint8_t *body,
                    const struct sockaddr_in *from)
{
    uint32_t id;
    bool orphan;
    uint8_t out[16];
    (void)from;
    if (!is_current(a, h) || dg_quit_read(&id, &orphan, body, h->len, h->little) != 0)
        return;
    if (orphan) {
        dg_activity_clear(a);
        return;
    }
    bool accepting = a->state == EXECUTING;
    dg_answer_control(a, DG_QUACK, out, dg_quack_write(id, accepting, out));
    if (accepting) {
        if (a->service->forget)
            a->service->forget(&a->call);
        dg_refuse(a, DG_FAULT, NCA_FAULT_CANCEL);
    }
}

static void (*const on_packet[DG_PTYPES])(struct dg_activity *, const struct dg_header *,
                                          const uint8_t *, const struct sockaddr_in *) = {
    [DG_REQUEST] = on_request,
    [DG_PING] = on_ping,
    [DG_ACK] = on_ack,
    [DG_FACK] = on_fack,
    [DG_QUIT] = on_quit,
    [DG_RESPONSE] = on_callback_answer,
    [DG_FAULT] = on_callback_answer,
    [DG_REJECT] = on_callback_answer,
};

static void udp_ready(struct dg_watch *w)
{
    static uint8_t packet[DG_DATAGRAM_MAX];
    for (int budget = 64; budget > 0; budget--) {
        struct sockaddr_in from;
        socklen_t len = sizeof from;
        struct dg_header h;
        ssize_t n = recvfrom(w->fd, packet, sizeof packet, 0, (struct sockaddr *)&from, &len);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        if (n < 0 || dg_header_read(&h, packet, (size_t)n) != 0 || !on_packet[h.ptype])
            continue;
        on_packet[h.ptype](dg_activity_find(&h.activity), &h, packet + DG_HEADER, &from);
    }
}

/* ---- time ---- */

static void on_due(struct dg_activity *a, int64_t now)
{
    a->wait = a->wait * 2 < dg_timing()->ping_max ? a->wait * 2 : dg_timing()->ping_max;
    if (a->state == ASKING) {
        if (now - a->ask.since >= dg_timing()->com_timeout)
            dg_refuse(a, DG_REJECT, NCA_WHO_ARE_YOU_FAILED);
        else
            send_ask(a);
    } else if (a->wait >= dg_timing()->ping_max) {
        dg_activity_due(a, 0); /* the client asks when it still wants it */
    } else {
        dg_send_again(&a->answer, dg_answer_path(&a->from));
        dg_activity_due(a, now + a->wait);
    }
}

static void pass_time(int64_t now)
{
    for (struct dg_activity *a = dg_server.live, *next; a; a = next) {
        next = a->live;
        if (now >= a->due)
            on_due(a, now);
    }
    if (timer_at && now >= timer_at) {
        timer_at = 0;
        timer_expired();
    }
    if (now >= idle_scan_at) {
        dg_activity_forget(now - dg_timing()->idle);
        idle_scan_at = now + dg_timing()->idle / 4 + 1;
    }
    if (now >= rundown_scan_at) {
        dg_cas_scan(now);
        rundown_scan_at = now + dg_timing()->rundown_scan;
    }
}

static int time_left(void)
{
    int64_t at = idle_scan_at < rundown_scan_at ? idle_scan_at : rundown_scan_at;
    if (timer_at && timer_at < at)
        at = timer_at;
    for (struct dg_activity *a = dg_server.live; a; a = a->live)
        if (a->due < at)
            at = a->due;
    int64_t left = at - dg_now();
    return left < 0 ? 0 : left > INT32_MAX ? INT32_MAX : (int)left;
}

/* ---- the loop ---- */

static struct dg_watch udp_watch = {-1, udp_ready};

int dg_server_watch(struct dg_watch *w)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = w};
    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, w->fd, &ev) < 0 ? -errno : 0;
}

void dg_server_unwatch(struct dg_watch *w)
{
    epoll_ctl(epoll_fd, EPOLL_CTL_DEL, w->fd, NULL);
}

void dg_server_timer(int64_t at, void (*expired)(void))
{
    timer_at = at;
    timer_expired = expired;
}

int dg_server_open(const struct dg_server_options *o)
{
    struct sockaddr_in here = {
        .sin_family = AF_INET, .sin_port = htons(o->port), .sin_addr.s_addr = htonl(o->address)};
    options = *o;
    dg_server.boot = (uint32_t)time(NULL);
    idle_scan_at = dg_now() + dg_timing()->idle / 4 + 1;
    rundown_scan_at = dg_now() + dg_timing()->rundown_scan;
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    dg_server.udp_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (epoll_fd < 0 || dg_server.udp_fd < 0 ||
        bind(dg_server.udp_fd, (struct sockaddr *)&here, sizeof here) < 0)
        return -errno;
    udp_watch.fd = dg_server.udp_fd;
    return dg_server_watch(&udp_watch);
}

uint16_t dg_server_port(void)
{
    struct sockaddr_in here = {0};
    socklen_t len = sizeof here;
    getsockname(dg_server.udp_fd, (struct sockaddr *)&here, &len);
    return ntohs(here.sin_port);
}

void dg_server_run(void)
{
    while (!stopping) {
        struct epoll_event ev;
        /* One at a time: what is ready may be unwatched and freed by what came before it. */
        if (epoll_wait(epoll_fd, &ev, 1, time_left()) == 1) {
            struct dg_watch *w = ev.data.ptr;
            w->ready(w);
        }
        pass_time(dg_now());
    }
}

void dg_server_stop(void)
{
    stopping = true;
}

void dg_server_close(void)
{
    dg_activity_forget(INT64_MAX);
    dg_cas_forget_all();
    close(dg_server.udp_fd);
    close(epoll_fd);
}
