/* SPDX-License-Identifier: Apache-2.0 */
/* Writing SIP messages; see sip_text.h. */
#include "sip_text.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void text_add(struct text *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(t->p + t->n, sizeof t->p - t->n, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof t->p - t->n)
        t->overflow = true;
    else
        t->n += (size_t)n;
}

const char *sip_reason(int status)
{
    static const struct {
        int status;
        const char *reason;
    } reasons[] = {{100, "Trying"},
                   {180, "Ringing"},
                   {200, "OK"},
                   {400, "Bad Request"},
                   {404, "Not Found"},
                   {405, "Method Not Allowed"},
                   {420, "Bad Extension"},
                   {480, "Temporarily Unavailable"},
                   {481, "Call/Transaction Does Not Exist"},
                   {486, "Busy Here"},
                   {487, "Request Terminated"},
                   {488, "Not Acceptable Here"},
                   {500, "Server Internal Error"},
                   {503, "Service Unavailable"},
                   {505, "Version Not Supported"},
                   {603, "Decline"}};
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++)
        if (reasons[i].status == status)
            return reasons[i].reason;
    return "Unknown";
}

static void add_view(struct text *t, struct sip_view v)
{
    if (v.n >= sizeof t->p - t->n) {
        t->overflow = true;
        return;
    }
    memcpy(t->p + t->n, v.p, v.n);
    t->n += v.n;
}

static void add_field(struct text *t, const char *name, struct sip_view v)
{
    text_add(t, "%s: ", name);
    add_view(t, v);
    text_add(t, "\r\n");
}

/* The topmost Via of the request with the address it really came from. */
static void add_top_via(struct text *t, struct sip_view value, const struct sockaddr_in *peer)
{
    struct sip_view top = sip_first_of(value), rport;
    struct sip_view others = {top.p + top.n, (size_t)(value.p + value.n - (top.p + top.n))};
    char ip[INET_ADDRSTRLEN] = "";
    inet_ntop(AF_INET, &peer->sin_addr, ip, sizeof ip);
    text_add(t, "Via: ");
    if (sip_param(top, "rport", &rport) && rport.n == 0) {
        /* ";rport" without a value gets one; what stands around it is kept. */
        size_t at = (size_t)(rport.p - top.p);
        add_view(t, (struct sip_view){top.p, at});
        text_add(t, "=%u;received=%s", ntohs(peer->sin_port), ip);
        add_view(t, (struct sip_view){top.p + at, top.n - at});
    } else {
        add_view(t, top);
        text_add(t, ";received=%s", ip);
    }
    add_view(t, others);
    text_add(t, "\r\n");
}

void text_copied_headers(struct text *t, const struct sip_msg *m, const struct sockaddr_in *peer)
{
    add_top_via(t, m->via[0], peer);
    for (size_t i = 1; i < m->vias; i++)
        add_field(t, "Via", m->via[i]);
    add_field(t, "From", m->from);
    add_field(t, "Call-ID", m->call_id);
    text_add(t, "CSeq: %u ", m->cseq);
    add_view(t, m->cseq_method);
    text_add(t, "\r\n");
}

void text_response(struct text *t, const struct sip_msg *m, const struct sockaddr_in *peer,
                   int status, const char *to_tag, const char *extra)
{
    text_add(t, "SIP/2.0 %d %s\r\n", status, sip_reason(status));
    text_copied_headers(t, m, peer);
    text_add(t, "To: ");
    add_view(t, m->to);
    if (!m->to_tag.n && to_tag && status != 100)
        text_add(t, ";tag=%s", to_tag);
    text_add(t, "\r\n%sContent-Length: 0\r\n\r\n", extra);
}
