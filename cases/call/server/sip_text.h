/* SPDX-License-Identifier: Apache-2.0 */
/* Writing SIP messages into a bounded buffer. Start: text_response, text_add. */
#ifndef CALL_SIP_TEXT_H
#define CALL_SIP_TEXT_H

#include "sip_parse.h"

#include <netinet/in.h>

enum { SIP_MESSAGE_MAX = 16384 };

struct text {
    size_t n;
    bool overflow; /* something did not fit: the message must not be used */
    char p[SIP_MESSAGE_MAX];
};

__attribute__((format(printf, 2, 3))) void text_add(struct text *t, const char *fmt, ...);

/* The header fields that every response copies from its request but To: Via with received and
 * rport filled in (RFC 3261 18.2.1, RFC 3581), From, Call-ID, CSeq. */
void text_copied_headers(struct text *t, const struct sip_msg *m, const struct sockaddr_in *peer);

/* A whole response without body. to_tag is added to To when the request has none. extra: further
 * header lines with CR LF, or "". */
void text_response(struct text *t, const struct sip_msg *m, const struct sockaddr_in *peer,
                   int status, const char *to_tag, const char *extra);

const char *sip_reason(int status);

#endif
