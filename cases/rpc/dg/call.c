/* SPDX-License-Identifier: Apache-2.0 */
/* The client's call machine and its side of the conversation manager; see assoc.h. One function
 * per packet type in a table; waiting is poll() until an answer, the next ping, or the end of
 * patience. Start: dg_call. */
#include "internal.h"
#include "tower.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct call {
    struct dg_assoc *a;
    struct dg_send send;
    struct dg_receive receive;
    struct dg_reply *reply;
    int64_t wait;      /* between pings now */
    int64_t next_ping; /* or retransmission */
    int64_t heard;     /* when anything of this call came last */
    int64_t cancel_at; /* -1 = never */
    bool cancelling, over;
    int status;
};

static struct dg_path path_of(const struct dg_assoc *a)
{
    return (struct dg_path){a->fd, NULL};
}

/* ---- the conversation manager: the server asks who we are ---- */

enum { WHO_ARE_YOU, WHO_ARE_YOU2, ARE_YOU_THERE };

/* Which answer a server gets that asks about an activity, with its boot time. */
static uint32_t who_are_you(struct dg_assoc *a, const struct rpc_uuid *activity, uint32_t boot)
{
    if (!rpc_uuid_equal(activity, &a->activity))
        return NCA_BAD_ACTID;
    if (a->boot == 0)
        a->boot = boot;
    return a->boot == boot ? 0 : NCA_YOU_CRASHED;
}

/* A request to us. Only the conversation manager's, unauthenticated and in one packet, is taken;
 * anything else is dropped ([MS-RPCE] 3.2.2.5.1). */
static void serve_callback(struct dg_assoc *a, const struct dg_header *h, const uint8_t *body)
{
    uint8_t out[24];
    size_t n = 0;
    uint32_t status = 0;
    struct ndr_in in = ndr_reader(body, h->len, h->little);
    if (!rpc_uuid_equal(&h->interface, &rpc_conv.uuid) || h->version != rpc_conv.version ||
        h->auth || (h->flags1 & DG_FRAG))
        return;
    struct dg_header answer = {
        .ptype = DG_RESPONSE,
        .flags1 = DG_IDEMPOTENT,
        .interface = h->interface,
        .version = h->version,
        .activity = h->activity,
        .boot = dg_self()->boot,
        .seq = h->seq,
        .opnum = h->opnum,
        .ihint = DG_NO_HINT,
        .ahint = DG_NO_HINT,
    };
    if (h->opnum <= WHO_ARE_YOU2) {
        struct rpc_uuid activity = ndr_get_uuid(&in);
        uint32_t boot = ndr_get32(&in);
        if (in.failed)
            return;
        status = who_are_you(a, &activity, boot);
        rpc_put32(out, a->seq);
        n = 4;
        if (h->opnum == WHO_ARE_YOU2) {
            rpc_uuid_write(&dg_self()->cas, out + n);
            n += 16;
        }
    } else if (h->opnum != ARE_YOU_THERE) {
        answer.ptype = DG_REJECT;
        answer.flags1 = 0;
        status = NCA_OP_RNG_ERROR;
    }
    rpc_put32(out + n, status);
    answer.serial = ++a->serial;
    dg_transmit(path_of(a), &answer, out, n + 4);
}

int dg_take_packet(struct dg_assoc *a, struct dg_header *h, const uint8_t **body)
{
    for (;;) {
        ssize_t n = recv(a->fd, a->packet, DG_DATAGRAM_MAX, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
        if (dg_header_read(h, a->packet, (size_t)n) != 0)
            continue;
        *body = a->packet + DG_HEADER;
        if (h->ptype != DG_REQUEST)
            return 1;
        serve_callback(a, h, *body);
    }
}

/* ---- packets of the call ---- */

static int send_control(struct dg_assoc *a, uint8_t ptype, const void *body, size_t n)
{
    struct dg_header h = a->last;
    h.ptype = ptype;
    h.flags1 &= DG_IDEMPOTENT;
    h.flags2 = 0;
    h.frag = 0;
    h.boot = a->boot;
    h.serial = ++a->serial;
    return dg_transmit(path_of(a), &h, body, n);
}

void dg_send_ack(struct dg_assoc *a)
{
    a->ack_due = 0;
    send_control(a, DG_ACK, NULL, 0);
}

static void finish(struct call *c, int status)
{
    c->status = status;
    c->over = true;
}

/* The send machine counts serials too: one counter for both. A request sent again carries the boot
 * time that was known when its call began, as the packet itself is sent again. */
static int with_serial(struct call *c, int (*send)(struct dg_send *, struct dg_path))
{
    c->send.head.serial = c->a->serial;
    int err = send(&c->send, path_of(c->a));
    c->a->serial = c->send.head.serial;
    return err;
}

static int status_of(uint32_t nca, bool executed)
{
    static const struct {
        uint32_t nca;
        int status;
    } map[] = {
        {NCA_ACCESS_DENIED, RPC_ACCESS_DENIED},
        {NCA_OP_RNG_ERROR, RPC_PROCNUM_OUT_OF_RANGE},
        {NCA_UNK_IF, RPC_UNKNOWN_IF},
        {NCA_PROTO_ERROR, RPC_PROTOCOL_ERROR},
        {NCA_SERVER_TOO_BUSY, RPC_SERVER_TOO_BUSY},
        {NCA_FAULT_CANCEL, RPC_CALL_CANCELLED},
        {NCA_FAULT_CONTEXT_MISMATCH, RPC_CONTEXT_MISMATCH},
        {NCA_FAULT_NO_MEMORY, RPC_SERVER_OUT_OF_MEMORY},
    };
    for (size_t i = 0; i < sizeof map / sizeof map[0]; i++)
        if (map[i].nca == nca)
            return map[i].status;
    return executed ? RPC_CALL_FAILED : RPC_CALL_FAILED_DNE;
}

static void on_response(struct call *c, const struct dg_header *h, const uint8_t *body)
{
    int err = dg_receive_part(&c->receive, h, body);
    if (err < 0) {
        finish(c, err == -ENOMEM ? RPC_OUT_OF_MEMORY : RPC_PROTOCOL_ERROR);
        return;
    }
    c->send.acked = c->send.sent = c->send.count;
    if ((h->flags1 & DG_FRAG) && !(h->flags1 & DG_NOFACK)) {
        struct dg_header fack = c->a->last;
        fack.boot = c->a->boot;
        fack.serial = c->a->serial;
        dg_receive_report(&c->receive, path_of(c->a), &fack, DG_FACK, h->serial);
        c->a->serial = fack.serial;
    }
    if (!dg_receive_done(&c->receive))
        return;
    c->reply->little = c->receive.little;
    c->reply->data = dg_receive_join(&c->receive, &c->reply->len);
    finish(c, c->reply->data ? RPC_OK : RPC_OUT_OF_MEMORY);
    /* The server keeps its answer until it knows that we have it. */
    if (!(c->a->last.flags1 & DG_IDEMPOTENT))
        c->a->ack_due = dg_now() + dg_timing()->ack_delay;
}

static void on_refusal(struct call *c, const struct dg_header *h, const uint8_t *body)
{
    uint32_t nca = NCA_UNSPEC_REJECT;
    dg_status_read(&nca, body, h->len, h->little);
    c->reply->nca = nca;
    if (nca == NCA_WRONG_BOOT_TIME)
        c->a->boot = 0; /* it is a new server: learn it anew at the next call */
    if (h->ptype == DG_FAULT && !(c->a->last.flags1 & DG_IDEMPOTENT))
        c->a->ack_due = dg_now() + dg_timing()->ack_delay;
    finish(c, status_of(nca, h->ptype == DG_FAULT));
}

static void slow_down(struct call *c)
{
    c->wait = c->wait * 2 < dg_timing()->ping_max ? c->wait * 2 : dg_timing()->ping_max;
    c->next_ping = dg_now() + c->wait;
}

static void on_working(struct call *c, const struct dg_header *h, const uint8_t *body)
{
    (void)h, (void)body;
    c->send.acked = c->send.sent = c->send.count;
    slow_down(c);
}

static void on_fack(struct call *c, const struct dg_header *h, const uint8_t *body)
{
    struct dg_fack f;
    bool readable = dg_fack_read(&f, body, h->len, h->little) == 0;
    c->send.head.serial = c->a->serial;
    dg_send_fack(&c->send, h->frag, readable ? &f : NULL, path_of(c->a));
    c->a->serial = c->send.head.serial;
    c->wait = dg_timing()->ping;
    c->next_ping = dg_now() + c->wait;
}

/* The server knows nothing of the call, or not all of it. */
static void on_nocall(struct call *c, const struct dg_header *h, const uint8_t *body)
{
    struct dg_fack f;
    if (h->len && dg_fack_read(&f, body, h->len, h->little) == 0) {
        if (f.window == 0) {
            slow_down(c);
            return;
        }
        c->send.acked = h->frag == DG_NO_FRAG ? 0 : (uint16_t)(h->frag + 1);
        if (c->send.acked > c->send.count)
            c->send.acked = c->send.count;
    } else {
        c->send.acked = 0;
    }
    c->send.sent = c->send.acked;
    with_serial(c, dg_send_more);
}

static void on_quack(struct call *c, const struct dg_header *h, const uint8_t *body)
{
    uint32_t id;
    bool accepting;
    if (dg_quack_read(&id, &accepting, body, h->len, h->little) == 0 && accepting)
        c->cancel_at = dg_now() + dg_timing()->cancel; /* the fault is on its way */
}

static void (*const on_packet[DG_PTYPES])(struct call *, const struct dg_header *,
                                          const uint8_t *) = {
    [DG_RESPONSE] = on_response, [DG_FAULT] = on_refusal,  [DG_WORKING] = on_working,
    [DG_NOCALL] = on_nocall,     [DG_REJECT] = on_refusal, [DG_FACK] = on_fack,
    [DG_QUACK] = on_quack,
};

static void take_packets(struct call *c)
{
    struct dg_header h = {0};
    const uint8_t *body = NULL;
    int got;
    while (!c->over && (got = dg_take_packet(c->a, &h, &body)) != 0) {
        if (got < 0) {
            /* The kernel passed an ICMP message on: nobody is at that port. */
            c->a->dead = true;
            finish(c, RPC_SERVER_UNAVAILABLE);
            return;
        }
        if (!rpc_uuid_equal(&h.activity, &c->a->activity) || h.seq != c->a->seq ||
            !on_packet[h.ptype])
            continue;
        /* A reject for a wrong boot time carries the old one; any other packet the server's own. */
        if (c->a->boot == 0 && h.ptype != DG_REJECT)
            c->a->boot = h.boot;
        c->heard = dg_now();
        on_packet[h.ptype](c, &h, body);
    }
}

/* ---- time ---- */

static void cancel_or_orphan(struct call *c, int64_t now)
{
    uint8_t body[16];
    if (c->cancelling) {
        send_control(c->a, DG_QUIT, NULL, 0); /* empty: the call is an orphan */
        finish(c, RPC_CALL_CANCELLED);
        return;
    }
    c->cancelling = true;
    c->cancel_at = now + dg_timing()->cancel;
    send_control(c->a, DG_QUIT, body, dg_quit_write(c->a->seq, body));
}

static void pass_time(struct call *c)
{
    int64_t now = dg_now();
    if (c->cancel_at >= 0 && now >= c->cancel_at)
        cancel_or_orphan(c, now);
    if (c->over)
        return;
    bool broadcast = c->a->last.flags1 & DG_BROADCAST;
    if (now - c->heard >= (broadcast ? dg_timing()->broadcast : dg_com_timeout())) {
        if (!broadcast) { /* to a broadcast nobody has to answer */
            send_control(c->a, DG_QUIT, NULL, 0);
            c->a->dead = true;
        }
        finish(c, RPC_CALL_FAILED);
    } else if (now >= c->next_ping && !broadcast) {
        int err = c->send.count > 1 && !dg_send_done(&c->send)
                      ? with_serial(c, dg_send_again)
                      : send_control(c->a, DG_PING, NULL, 0);
        if (err == -ECONNREFUSED) {
            c->a->dead = true;
            finish(c, RPC_SERVER_UNAVAILABLE);
        }
        slow_down(c);
    }
}

static int64_t next_event(const struct call *c)
{
    bool broadcast = c->a->last.flags1 & DG_BROADCAST;
    int64_t at = c->heard + (broadcast ? dg_timing()->broadcast : dg_com_timeout());
    if (!broadcast && c->next_ping < at)
        at = c->next_ping;
    return c->cancel_at >= 0 && c->cancel_at < at ? c->cancel_at : at;
}

/* ---- the call ---- */

static void run_call(struct call *c)
{
    int err = with_serial(c, dg_send_more);
    if (err == -ECONNREFUSED) {
        /* That was about an earlier packet, as on retargeting: once more for this one. */
        c->send.sent = 0;
        err = with_serial(c, dg_send_more);
    }
    if (err) {
        c->a->dead = true;
        finish(c, RPC_SERVER_UNAVAILABLE);
        return;
    }
    while (!c->over) {
        int64_t left = next_event(c) - dg_now();
        struct pollfd p = {c->a->fd, POLLIN, 0};
        poll(&p, 1, left < 0 ? 0 : left > INT32_MAX ? INT32_MAX : (int)left);
        take_packets(c);
        if (!c->over)
            pass_time(c);
    }
}

int dg_call(struct dg_assoc *a, const struct rpc_interface *i, uint16_t opnum, uint8_t flags,
            int64_t cancel_ms, const struct ndr_out *in, struct dg_reply *reply)
{
    *reply = (struct dg_reply){0};
    if (in && in->failed)
        return RPC_OUT_OF_MEMORY;
    pthread_mutex_lock(&a->lock);
    int64_t now = dg_now();
    struct call c = {.a = a,
                     .reply = reply,
                     .wait = dg_timing()->ping,
                     .next_ping = now + dg_timing()->ping,
                     .heard = now,
                     .cancel_at = cancel_ms >= 0 ? now + cancel_ms : -1};
    if (a->dead) {
        c.status = RPC_SERVER_UNAVAILABLE;
        goto out;
    }
    a->seq++;
    a->ack_due = 0; /* a new call acknowledges the former one */
    a->last = (struct dg_header){
        .ptype = DG_REQUEST,
        .flags1 = flags,
        .interface = i->uuid,
        .version = i->version,
        .activity = a->activity,
        .boot = a->boot,
        .seq = a->seq,
        .opnum = opnum,
        .ihint = DG_NO_HINT,
        .ahint = DG_NO_HINT,
    };
    if (dg_send_start(&c.send, &a->last, in ? in->data : NULL, in ? in->len : 0) != 0)
        c.status = RPC_PROTOCOL_ERROR;
    else if (flags & DG_MAYBE)
        c.status = with_serial(&c, dg_send_more) ? RPC_SERVER_UNAVAILABLE : RPC_OK;
    else
        run_call(&c);
out:
    dg_receive_free(&c.receive);
    pthread_mutex_unlock(&a->lock);
    dg_wake_runtime();
    return c.status;
}

void dg_reply_free(struct dg_reply *r)
{
    free(r->data);
    *r = (struct dg_reply){0};
}

/* ept_map: one tower out, up to one in. The mapper never calls back, as the call is idempotent. */
int dg_map_endpoint(struct dg_assoc *a, const struct rpc_interface *i, uint32_t *address,
                    uint16_t *port)
{
    enum { EPT_MAP = 3 };
    struct tower tower = {*i, 0, 0};
    struct ndr_out in = {0};
    struct rpc_context none = {0};
    struct dg_reply reply;
    uint8_t octets[TOWER_BYTES];
    static const struct rpc_uuid nil;
    tower_write(&tower, octets);
    ndr_put_pointer(&in, true); /* object */
    ndr_put_uuid(&in, &nil);
    ndr_put_pointer(&in, true); /* tower: length twice, as array bound and as member */
    ndr_put32(&in, TOWER_BYTES);
    ndr_put32(&in, TOWER_BYTES);
    ndr_put_bytes(&in, octets, TOWER_BYTES);
    ndr_put_context(&in, &none);
    ndr_put32(&in, 1);
    int status = dg_call(a, &rpc_epm, EPT_MAP, DG_IDEMPOTENT, -1, &in, &reply);
    ndr_out_free(&in);
    if (status)
        return status;
    struct ndr_in out = ndr_reader(reply.data, reply.len, reply.little);
    ndr_get_context(&out);
    uint32_t count = ndr_get32(&out);
    ndr_get32(&out); /* array: max, offset, actual */
    ndr_get32(&out);
    uint32_t actual = ndr_get32(&out);
    if (count > 0 && actual > 0 && ndr_get_pointer(&out)) {
        ndr_get32(&out);
        uint32_t len = ndr_get32(&out);
        const uint8_t *at = ndr_get_bytes(&out, len);
        if (!at || tower_read(&tower, at, len) != 0)
            status = RPC_PROTOCOL_ERROR;
        *address = tower.address;
        *port = tower.port;
    } else {
        status = out.failed ? RPC_PROTOCOL_ERROR : RPC_EPT_NOT_REGISTERED;
    }
    dg_reply_free(&reply);
    return status;
}
