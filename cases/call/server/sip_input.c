/* SPDX-License-Identifier: Apache-2.0 */
/* What comes in at the SIP port: datagrams are parsed and go by method, or as responses, to the leg
 * they belong to. Messages that need no state (OPTIONS, unknown methods, a stray BYE) are answered
 * here. Start: sip_open, sip_receive. */
#include "sip_leg.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static struct watch sip_socket = {.fd = -1};
static char receive_buf[65536];

void sip_send(const struct sockaddr_in *peer, const char *data, size_t len)
{
    /* Retransmission is there for what the kernel refuses. */
    (void)!sendto(sip_socket.fd, data, len, MSG_DONTWAIT, (const struct sockaddr *)peer,
                  sizeof *peer);
}

static void respond(const struct sip_msg *m, const struct sockaddr_in *peer, int status,
                    const char *extra)
{
    static struct text t;
    t.n = 0;
    t.overflow = false;
    char tag[TAG_MAX];
    snprintf(tag, sizeof tag, "t%016llx", (unsigned long long)sip_hash(m->call_id));
    text_response(&t, m, peer, status, tag, extra);
    if (!t.overflow)
        sip_send(peer, t.p, t.n);
}

static struct line *line_of(struct sip_view user)
{
    char text[ID_MAX];
    for (unsigned i = 0; i < config.lines; i++) {
        snprintf(text, sizeof text, "%u", config.first_user + i);
        if (sip_is(user, text))
            return &lines[i];
    }
    return NULL;
}

static void copy_id(char *out, struct sip_view v)
{
    snprintf(out, ID_MAX, "%.*s", (int)(v.n < ID_MAX ? v.n : ID_MAX - 1), v.n ? v.p : "");
}

NOINLINE static void on_invite(const struct sip_msg *m, const struct sockaddr_in *peer)
{
    struct leg *leg = leg_find(m);
    if (leg) {
        bool same = !leg->uac && m->cseq == leg->invite_cseq &&
                    sip_same(m->branch, leg->peer_branch, strlen(leg->peer_branch));
        if (same && leg->state <= LEG_REJECTED)
            sip_send(&leg->peer, leg->out, leg->out_len); /* a retransmission */
        else if (!same)
            respond(m, peer, m->to_tag.n ? 488 : 486, ""); /* no re-INVITE here */
        return;
    }
    if (m->to_tag.n) {
        respond(m, peer, 481, "");
        return;
    }
    if (m->require.n) {
        respond(m, peer, 420, "");
        return;
    }
    struct line *line = line_of(sip_user_of(m->uri));
    if (!line) {
        respond(m, peer, 404, "");
        return;
    }
    leg = counters.legs < config.max_legs ? leg_new_uas(m, peer) : NULL;
    if (!leg) {
        respond(m, peer, 503, "Retry-After: 10\r\n");
        return;
    }
    leg_respond(leg, 100, false);
    if (!leg->out) {
        leg_free(leg);
        return;
    }
    char caller[ID_MAX], called[ID_MAX];
    copy_id(caller, sip_uri_of(m->from));
    copy_id(called, m->uri);
    /* Without a session description the kind of call is unknown. */
    uint32_t media = m->body.n ? LINEMEDIAMODE_INTERACTIVEVOICE : LINEMEDIAMODE_UNKNOWN;
    leg_limit_ringing(leg);
    struct call *call = NULL;
    enum offer_result result = call_offer(line, leg, media, caller, called, &call);
    leg->call = call;
    if (result != OFFER_OK)
        leg_reject(leg, result == OFFER_NO_OWNER ? 480 : 500, 0);
}

static void on_ack(const struct sip_msg *m, const struct sockaddr_in *peer)
{
    (void)peer;
    struct leg *leg = leg_find(m);
    if (!leg || leg->uac || m->cseq != leg->invite_cseq)
        return;
    if (leg->state == LEG_ANSWERED) {
        timer_cancel(&leg->resend);
        timer_cancel(&leg->end);
        leg->state = LEG_UP;
        if (leg->call)
            call_set_state(leg->call, LINECALLSTATE_CONNECTED, 0);
    } else if (leg->state == LEG_REJECTED) {
        leg_linger(leg);
    }
}

static void on_cancel(const struct sip_msg *m, const struct sockaddr_in *peer)
{
    struct leg *leg = leg_find(m);
    if (!leg || leg->uac || m->cseq != leg->invite_cseq ||
        !sip_same(m->branch, leg->peer_branch, strlen(leg->peer_branch))) {
        respond(m, peer, 481, "");
        return;
    }
    respond(m, peer, 200, "");
    if (leg->state == LEG_TRYING)
        leg_reject(leg, 487, LINEDISCONNECTMODE_CANCELLED);
}

static void on_bye(const struct sip_msg *m, const struct sockaddr_in *peer)
{
    struct leg *leg = leg_find(m);
    if (!leg || !m->to_tag.n || leg->state == LEG_TRYING || leg->state == LEG_REJECTED) {
        respond(m, peer, 481, "");
        return;
    }
    respond(m, peer, 200, "");
    if (leg->state == LEG_DONE)
        return;
    leg_report_end(leg, leg->state == LEG_CLOSING ? 0 : LINEDISCONNECTMODE_NORMAL);
    leg_linger(leg);
}

static void on_options(const struct sip_msg *m, const struct sockaddr_in *peer)
{
    respond(m, peer, 200,
            "Allow: INVITE, ACK, CANCEL, BYE, OPTIONS\r\nAccept: application/sdp\r\n");
}

static uint32_t mode_of(int status)
{
    switch (status) {
    case 486:
    case 600:
        return LINEDISCONNECTMODE_BUSY;
    case 487:
        return LINEDISCONNECTMODE_CANCELLED;
    case 408:
    case 480:
        return LINEDISCONNECTMODE_NOANSWER;
    case 603:
        return LINEDISCONNECTMODE_REJECT;
    default:
        return LINEDISCONNECTMODE_UNREACHABLE;
    }
}

static void on_invite_response(struct leg *leg, const struct sip_msg *m)
{
    bool pending =
        leg->state == LEG_CALLING || leg->state == LEG_PROCEEDING || leg->state == LEG_CANCELLING;
    if (m->status < 200) {
        if (!pending || leg->state == LEG_CANCELLING)
            return;
        if (leg->state == LEG_CALLING) {
            timer_cancel(&leg->resend);
            leg->state = LEG_PROCEEDING;
            leg_limit_ringing(leg);
        }
        if (leg->cancel_wanted) {
            tspi_drop(leg);
        } else if (leg->call) {
            uint32_t state = m->status == 180 ? LINECALLSTATE_RINGBACK : LINECALLSTATE_PROCEEDING;
            if (leg->call->state != state && leg->call->state != LINECALLSTATE_RINGBACK)
                call_set_state(leg->call, state, 0);
        }
    } else if (m->status < 300) {
        if (pending) {
            bool unwanted = leg->state == LEG_CANCELLING || leg->cancel_wanted;
            timer_cancel(&leg->resend);
            timer_cancel(&leg->end);
            leg_learn(leg, m);
            leg->state = LEG_UP;
            leg_request(leg, "ACK", false);
            if (unwanted || !leg->call)
                leg_bye(leg); /* the 200 overtook our CANCEL */
            else
                call_set_state(leg->call, LINECALLSTATE_CONNECTED, 0);
        } else if (leg->state == LEG_UP) {
            leg_request(leg, "ACK", false); /* our ACK was lost */
        }
    } else if (pending || leg->state == LEG_DONE) {
        if (pending)
            leg_learn_refusal(leg, m);
        leg_request(leg, "ACK", false);
        if (pending) {
            leg_report_end(leg, mode_of(m->status));
            leg_linger(leg);
        }
    }
}

static void on_response(const struct sip_msg *m)
{
    struct leg *leg = leg_find(m);
    if (!leg)
        return;
    if (sip_is(m->cseq_method, "INVITE")) {
        if (leg->uac && m->cseq == leg->invite_cseq && sip_is(m->branch, leg->invite_branch))
            on_invite_response(leg, m);
    } else if (sip_is(m->cseq_method, "CANCEL")) {
        if (leg->state == LEG_CANCELLING && m->status >= 200)
            timer_cancel(&leg->resend);
    } else if (sip_is(m->cseq_method, "BYE") && leg->state == LEG_CLOSING && m->status >= 200 &&
               sip_is(m->branch, leg->branch)) {
        leg_report_end(leg, 0);
        leg_linger(leg);
    }
}

static const struct {
    const char *name;
    void (*handle)(const struct sip_msg *m, const struct sockaddr_in *peer);
} methods[] = {{"INVITE", on_invite},
               {"ACK", on_ack},
               {"CANCEL", on_cancel},
               {"BYE", on_bye},
               {"OPTIONS", on_options}};

NOINLINE static void sip_receive(size_t len, const struct sockaddr_in *peer)
{
    struct sip_msg m;
    if (sip_parse(&m, receive_buf, len) < 0) {
        counters.bad_datagrams++;
        return;
    }
    if (!m.request) {
        on_response(&m);
        return;
    }
    if (!m.version_2) {
        respond(&m, peer, 505, "");
        return;
    }
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        if (sip_is(m.method, methods[i].name)) {
            methods[i].handle(&m, peer);
            return;
        }
    }
    respond(&m, peer, 405, "Allow: INVITE, ACK, CANCEL, BYE, OPTIONS\r\n");
}

static void sip_ready(struct watch *w, uint32_t events)
{
    (void)events;
    for (int turn = 0; turn < 64; turn++) {
        struct sockaddr_in peer;
        socklen_t peer_len = sizeof peer;
        ssize_t n = recvfrom(w->fd, receive_buf, sizeof receive_buf, MSG_DONTWAIT,
                             (struct sockaddr *)&peer, &peer_len);
        if (n < 0)
            return; /* drained, or an ICMP error of an earlier datagram */
        sip_receive((size_t)n, &peer);
    }
}

int sip_open(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int size = 4 << 20;
    struct sockaddr_in sip_addr;
    socklen_t len = sizeof sip_addr;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    sip_addr = (struct sockaddr_in){.sin_family = AF_INET,
                                    .sin_port = htons((uint16_t)config.sip_port),
                                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    sip_socket = (struct watch){fd, sip_ready};
    if (bind(fd, (struct sockaddr *)&sip_addr, sizeof sip_addr) < 0 ||
        getsockname(fd, (struct sockaddr *)&sip_addr, &len) < 0 ||
        watch_add(&sip_socket, EPOLLIN) < 0) {
        int err = errno;
        close(fd);
        sip_socket.fd = -1;
        return -err;
    }
    config.sip_port = ntohs(sip_addr.sin_port);
    return 0;
}

void sip_close_all(void)
{
    leg_free_all();
    if (sip_socket.fd >= 0)
        close(sip_socket.fd);
}
