/* SPDX-License-Identifier: Apache-2.0 */
/* Legs: SIP dialogs over UDP with their transactions in one small state machine. Requests within a
 * dialog go to where the dialog's messages come from (symmetric signalling), so no name is ever
 * resolved. Timer names are those of RFC 3261 17; what a leg holds after its dialog is its
 * transaction remnant, freed after 64*T1. Start: leg_end_fired for the timers, tspi_answer and
 * tspi_drop for what the call layer asks. */
#include "sip_leg.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { T2_OF_T1 = 8 };

static struct leg **buckets;
static size_t bucket_count;

static void leg_end_fired(struct timer *t);

/* ---- small things ---- */

static struct sip_view view_of(const char *s)
{
    return (struct sip_view){s, strlen(s)};
}

static char *keep(struct sip_view v)
{
    return strndup(v.n ? v.p : "", v.n);
}

static uint64_t t1_times(unsigned n)
{
    return (uint64_t)config.t1_ms * n;
}

/* Tags and branches must be unique, not secret: the server listens on loopback. */
static void make_token(char *out, size_t size, const char *prefix)
{
    static uint64_t count;
    uint64_t z = config.seed + ((uint64_t)getpid() << 32) + ++count * 0x9e3779b97f4a7c15ULL;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL; /* splitmix64 */
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    snprintf(out, size, "%s%016llx", prefix, (unsigned long long)(z ^ (z >> 31)));
}

/* ---- the table of legs ---- */

static bool grow_buckets(void)
{
    size_t count = bucket_count ? bucket_count * 2 : 64;
    struct leg **fresh = calloc(count, sizeof(struct leg *));
    if (!fresh)
        return bucket_count > 0;
    for (size_t i = 0; i < bucket_count; i++) {
        for (struct leg *leg = buckets[i], *next; leg; leg = next) {
            next = leg->hash_next;
            struct leg **at = &fresh[sip_hash(view_of(leg->call_id)) & (count - 1)];
            leg->hash_next = *at;
            *at = leg;
        }
    }
    free(buckets);
    buckets = fresh;
    bucket_count = count;
    return true;
}

static struct leg **leg_bucket(struct sip_view call_id)
{
    return &buckets[sip_hash(call_id) & (bucket_count - 1)];
}

struct leg *leg_find(const struct sip_msg *m)
{
    struct leg *leg = bucket_count ? *leg_bucket(m->call_id) : NULL;
    struct sip_view theirs = m->request ? m->from_tag : m->to_tag;
    struct sip_view ours = m->request ? m->to_tag : m->from_tag;
    for (; leg; leg = leg->hash_next) {
        if (!sip_same(m->call_id, leg->call_id, strlen(leg->call_id)))
            continue;
        if (ours.n && !sip_is(ours, leg->tag))
            continue;
        if (!m->request || sip_same(theirs, leg->remote_tag, strlen(leg->remote_tag)))
            return leg;
    }
    return NULL;
}

void leg_free(struct leg *leg)
{
    timer_cancel(&leg->resend);
    timer_cancel(&leg->end);
    if (leg->call_id && bucket_count) {
        struct leg **at = leg_bucket(view_of(leg->call_id));
        while (*at && *at != leg)
            at = &(*at)->hash_next;
        if (*at) {
            *at = leg->hash_next;
            counters.legs--;
        }
    }
    char *strings[] = {leg->call_id,    leg->local,       leg->remote, leg->target, leg->routes,
                       leg->remote_tag, leg->peer_branch, leg->copied, leg->out};
    for (size_t i = 0; i < sizeof strings / sizeof strings[0]; i++)
        free(strings[i]);
    free(leg);
}

static bool leg_insert(struct leg *leg)
{
    if (counters.legs >= bucket_count && !grow_buckets())
        return false;
    struct leg **at = leg_bucket(view_of(leg->call_id));
    leg->hash_next = *at;
    *at = leg;
    counters.legs++;
    return true;
}

/* ---- retransmission and the end of a leg ---- */

static void leg_resend_fired(struct timer *t)
{
    struct leg *leg = CONTAINER_OF(t, struct leg, resend);
    sip_send(&leg->peer, leg->out, leg->out_len);
    leg->interval *= 2;
    /* Timer A doubles without limit, E and G up to T2. */
    if (leg->state != LEG_CALLING && leg->interval > T2_OF_T1 * config.t1_ms)
        leg->interval = T2_OF_T1 * config.t1_ms;
    timer_set(&leg->resend, leg->interval, leg_resend_fired);
}

/* Sends a message; repeat: and again until the answer stops it. */
static void leg_send(struct leg *leg, const struct text *t, bool repeat)
{
    timer_cancel(&leg->resend);
    char *copy = t->overflow ? NULL : malloc(t->n);
    if (!copy)
        return; /* as if the network had lost it; the end timer is running */
    memcpy(copy, t->p, t->n);
    free(leg->out);
    leg->out = copy;
    leg->out_len = t->n;
    sip_send(&leg->peer, leg->out, leg->out_len);
    leg->interval = config.t1_ms;
    if (repeat)
        timer_set(&leg->resend, leg->interval, leg_resend_fired);
}

void leg_report_end(struct leg *leg, uint32_t disconnect_mode)
{
    struct call *call = leg->call;
    if (!call)
        return;
    leg->call = NULL;
    call->leg = NULL;
    if (disconnect_mode)
        call_set_state(call, LINECALLSTATE_DISCONNECTED, disconnect_mode);
    call_set_state(call, LINECALLSTATE_IDLE, 0);
}

void leg_linger(struct leg *leg)
{
    timer_cancel(&leg->resend);
    leg->state = LEG_DONE;
    timer_set(&leg->end, t1_times(64), leg_end_fired);
}

/* ---- messages of a leg ---- */

void leg_respond(struct leg *leg, int status, bool repeat)
{
    static const char sdp[] =
        "v=0\r\no=tapisrv 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\n"
        "t=0 0\r\nm=audio 9 RTP/AVP 0\r\n"; /* port 9: there is no media */
    static struct text t;
    t.n = 0;
    t.overflow = false;
    text_add(&t, "SIP/2.0 %d %s\r\n%s", status, sip_reason(status), leg->copied);
    text_add(&t, "To: %s\r\n", leg->local);
    if (status < 300)
        text_add(&t, "Contact: <sip:%s:%d>\r\n", "127.0.0.1", config.sip_port);
    if (status == 200)
        text_add(&t, "Content-Type: application/sdp\r\nContent-Length: %zu\r\n\r\n%s",
                 sizeof sdp - 1, sdp);
    else
        text_add(&t, "Content-Length: 0\r\n\r\n");
    leg_send(leg, &t, repeat);
}

void leg_request(struct leg *leg, const char *method, bool repeat)
{
    static struct text t;
    t.n = 0;
    t.overflow = false;
    bool cancel = strcmp(method, "CANCEL") == 0, ack = strcmp(method, "ACK") == 0;
    bool invite = strcmp(method, "INVITE") == 0;
    if (cancel || (ack && leg->state != LEG_UP && leg->state != LEG_CLOSING))
        memcpy(leg->branch, leg->invite_branch, sizeof leg->branch);
    else
        make_token(leg->branch, sizeof leg->branch, "z9hG4bK");
    if (!cancel && !ack)
        leg->cseq++;
    text_add(&t, "%s %s SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:%d;branch=%s\r\n", method,
             leg->target, config.sip_port, leg->branch);
    text_add(&t, "Max-Forwards: 70\r\n%sFrom: %s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %u %s\r\n",
             invite || cancel ? "" : leg->routes, leg->local, leg->remote, leg->call_id,
             cancel || ack ? leg->invite_cseq : leg->cseq, method);
    if (invite) {
        leg->invite_cseq = leg->cseq;
        memcpy(leg->invite_branch, leg->branch, sizeof leg->invite_branch);
        text_add(&t, "Contact: <sip:127.0.0.1:%d>\r\n", config.sip_port);
    }
    text_add(&t, "Content-Length: 0\r\n\r\n");
    if (!ack)
        leg_send(leg, &t, repeat);
    else if (!t.overflow)
        sip_send(&leg->peer, t.p, t.n);
}

void leg_reject(struct leg *leg, int status, uint32_t disconnect_mode)
{
    leg->state = LEG_REJECTED;
    leg_respond(leg, status, true);
    timer_set(&leg->end, t1_times(64), leg_end_fired); /* timer H */
    leg_report_end(leg, disconnect_mode);
}

void leg_bye(struct leg *leg)
{
    leg->state = LEG_CLOSING;
    leg_request(leg, "BYE", true);
    timer_set(&leg->end, t1_times(64), leg_end_fired); /* timer F */
}

static void leg_end_fired(struct timer *t)
{
    struct leg *leg = CONTAINER_OF(t, struct leg, end);
    switch (leg->state) {
    case LEG_TRYING: /* rang too long */
        leg_reject(leg, 480, LINEDISCONNECTMODE_NOANSWER);
        break;
    case LEG_ANSWERED: /* timer H: the ACK never came (RFC 3261 13.3.1.4: then BYE) */
        leg_report_end(leg, LINEDISCONNECTMODE_UNREACHABLE);
        leg_bye(leg);
        break;
    case LEG_PROCEEDING:
        tspi_drop(leg);
        break;
    case LEG_CALLING:
    case LEG_CANCELLING:
        leg_report_end(leg, LINEDISCONNECTMODE_NOANSWER);
        leg_linger(leg);
        break;
    case LEG_CLOSING:
        leg_report_end(leg, 0);
        leg_linger(leg);
        break;
    case LEG_REJECTED:
    case LEG_UP:
    case LEG_DONE:
        leg_free(leg);
        break;
    }
}

/* ---- dialogs ---- */

static bool replace(char **field, char *value)
{
    if (!value)
        return false;
    free(*field);
    *field = value;
    return true;
}

/* Route set from Record-Route: in order for the callee, reversed for the caller (RFC 3261 12.1). */
static char *route_set(const struct sip_msg *m, bool reversed)
{
    static struct text t;
    t.n = 0;
    t.overflow = false;
    for (size_t i = 0; i < m->record_routes; i++) {
        const struct sip_view *v = &m->record_route[reversed ? m->record_routes - 1 - i : i];
        text_add(&t, "Route: %.*s\r\n", (int)v->n, v->p);
    }
    return t.overflow ? NULL : strndup(t.p, t.n);
}

struct leg *leg_new_uas(const struct sip_msg *m, const struct sockaddr_in *peer)
{
    static struct text t;
    struct leg *leg = calloc(1, sizeof *leg);
    if (!leg)
        return NULL;
    leg->state = LEG_TRYING;
    leg->peer = *peer;
    leg->invite_cseq = m->cseq;
    make_token(leg->tag, sizeof leg->tag, "");
    t.n = 0;
    t.overflow = false;
    text_copied_headers(&t, m, peer);
    for (size_t i = 0; i < m->record_routes; i++)
        text_add(&t, "Record-Route: %.*s\r\n", (int)m->record_route[i].n, m->record_route[i].p);
    leg->copied = t.overflow ? NULL : strndup(t.p, t.n);
    leg->call_id = keep(m->call_id);
    leg->remote = keep(m->from);
    leg->remote_tag = keep(m->from_tag);
    leg->peer_branch = keep(m->branch);
    leg->target = keep(sip_uri_of(m->contact.n ? m->contact : m->from));
    leg->routes = route_set(m, false);
    if (asprintf(&leg->local, "%.*s;tag=%s", (int)m->to.n, m->to.p, leg->tag) < 0)
        leg->local = NULL;
    if (leg->copied && leg->call_id && leg->remote && leg->remote_tag && leg->peer_branch &&
        leg->target && leg->routes && leg->local && leg_insert(leg))
        return leg;
    leg_free(leg);
    return NULL;
}

void leg_learn(struct leg *leg, const struct sip_msg *m)
{
    replace(&leg->remote, keep(m->to));
    replace(&leg->remote_tag, keep(m->to_tag));
    if (m->contact.n)
        replace(&leg->target, keep(sip_uri_of(m->contact)));
    replace(&leg->routes, route_set(m, true));
}

void leg_learn_refusal(struct leg *leg, const struct sip_msg *m)
{
    replace(&leg->remote, keep(m->to));
}

void leg_limit_ringing(struct leg *leg)
{
    timer_set(&leg->end, t1_times(RING_LIMIT), leg_end_fired);
}

/* ---- what the call layer asks for ---- */

int32_t tspi_accept(struct leg *leg)
{
    if (leg->uac || leg->state != LEG_TRYING)
        return LINEERR_INVALCALLSTATE;
    leg_respond(leg, 180, false);
    call_set_state(leg->call, LINECALLSTATE_ACCEPTED, 0);
    return 0;
}

int32_t tspi_answer(struct leg *leg)
{
    if (leg->uac || leg->state != LEG_TRYING)
        return LINEERR_INVALCALLSTATE;
    leg->state = LEG_ANSWERED;
    leg_respond(leg, 200, true);
    timer_set(&leg->end, t1_times(64), leg_end_fired); /* timer H */
    return 0;
}

NOINLINE void tspi_drop(struct leg *leg)
{
    switch (leg->state) {
    case LEG_TRYING:
        leg_reject(leg, 603, 0);
        break;
    case LEG_ANSWERED:
    case LEG_UP:
        leg_bye(leg);
        break;
    case LEG_CALLING: /* CANCEL must wait for a provisional response (RFC 3261 9.1) */
        leg->cancel_wanted = true;
        break;
    case LEG_PROCEEDING:
        leg->state = LEG_CANCELLING;
        leg_request(leg, "CANCEL", true);
        timer_set(&leg->end, t1_times(64), leg_end_fired);
        break;
    default: /* on its way out already */
        break;
    }
}

void tspi_close_call(struct leg *leg)
{
    leg->call->leg = NULL;
    leg->call = NULL;
    tspi_drop(leg);
}

/* Understands sip:USER@A.B.C.D[:PORT] and the same without user. */
static bool parse_dest(const char *dest, struct sockaddr_in *addr)
{
    const char *host = strchr(dest, '@');
    host = host ? host + 1 : strchr(dest, ':') + 1;
    char ip[INET_ADDRSTRLEN] = "";
    size_t n = strcspn(host, ":;>");
    if (n >= sizeof ip || strpbrk(dest, "\r\n <>"))
        return false;
    memcpy(ip, host, n);
    long port = host[n] == ':' ? strtol(host + n + 1, NULL, 10) : 5060;
    *addr = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    return port > 0 && port < 65536 && inet_pton(AF_INET, ip, &addr->sin_addr) == 1;
}

int32_t tspi_make_call(struct call *call, const char *dest)
{
    if (counters.legs >= config.max_legs)
        return LINEERR_RESOURCEUNAVAIL;
    struct leg *leg = calloc(1, sizeof *leg);
    if (!leg)
        return LINEERR_NOMEM;
    if (!parse_dest(dest, &leg->peer)) {
        free(leg);
        return LINEERR_INVALADDRESS;
    }
    leg->uac = true;
    leg->state = LEG_CALLING;
    make_token(leg->tag, sizeof leg->tag, "");
    char id[TAG_MAX];
    make_token(id, sizeof id, "");
    if (asprintf(&leg->call_id, "%s@127.0.0.1", id) < 0)
        leg->call_id = NULL;
    if (asprintf(&leg->local, "<sip:%u@127.0.0.1:%d>;tag=%s", config.first_user + call->line->id,
                 config.sip_port, leg->tag) < 0)
        leg->local = NULL;
    if (asprintf(&leg->remote, "<%s>", dest) < 0)
        leg->remote = NULL;
    leg->target = strdup(dest);
    leg->routes = strdup("");
    leg->remote_tag = strdup("");
    if (!leg->call_id || !leg->local || !leg->remote || !leg->target || !leg->routes ||
        !leg->remote_tag || !leg_insert(leg)) {
        leg_free(leg);
        return LINEERR_NOMEM;
    }
    leg->call = call;
    call->leg = leg;
    leg_request(leg, "INVITE", true);
    timer_set(&leg->end, t1_times(64), leg_end_fired); /* timer B */
    return 0;
}

void leg_free_all(void)
{
    for (size_t i = 0; i < bucket_count; i++)
        while (buckets[i])
            leg_free(buckets[i]);
    free(buckets);
    buckets = NULL;
    bucket_count = 0;
}
