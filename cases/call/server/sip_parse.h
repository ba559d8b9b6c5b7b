/* SPDX-License-Identifier: Apache-2.0 */
/* One SIP datagram (RFC 3261) taken apart: views into the receive buffer, nothing allocated. What
 * comes from the network is hostile: every view lies inside the datagram, counts are bounded, and
 * a message without the six mandatory header fields is refused. Start: sip_parse. */
#ifndef CALL_SIP_PARSE_H
#define CALL_SIP_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SIP_REPEAT_MAX = 16, SIP_HEADERS_MAX = 128 };

struct sip_view {
    const char *p;
    size_t n;
};

struct sip_msg {
    bool request;
    int status;                                                        /* of a response */
    struct sip_view method, uri;                                       /* of a request */
    bool version_2;                                                    /* SIP/2.0 */
    struct sip_view via[SIP_REPEAT_MAX], record_route[SIP_REPEAT_MAX]; /* whole header values */
    size_t vias, record_routes;
    struct sip_view from, to, call_id, contact, require;
    struct sip_view from_tag, to_tag; /* n == 0: none */
    struct sip_view branch;           /* of the topmost Via */
    uint32_t cseq;
    struct sip_view cseq_method;
    struct sip_view body;
};

/* Parses buf[0..n), in which folded header lines are unfolded in place. 0, or -EBADMSG for what is
 * no SIP message that could be answered. A keep-alive of only CR LF is -EBADMSG too. */
int sip_parse(struct sip_msg *m, char *buf, size_t n);

bool sip_is(struct sip_view v, const char *text); /* exactly */
bool sip_is_nocase(struct sip_view v, const char *text);
/* FNV-1a, for tables and for tags that are the same every time. */
uint64_t sip_hash(struct sip_view v);
bool sip_same(struct sip_view a, const char *text, size_t n);
/* The value of parameter `name` behind the first ';' outside <> and quotes. false: absent. */
bool sip_param(struct sip_view value, const char *name, struct sip_view *out);
/* The URI of a name-addr or addr-spec. */
struct sip_view sip_uri_of(struct sip_view value);
/* The user part of a SIP URI, empty when it has none. */
struct sip_view sip_user_of(struct sip_view uri);
/* The first element of a comma-separated header value. */
struct sip_view sip_first_of(struct sip_view value);

#endif
