/* SPDX-License-Identifier: Apache-2.0 */
/* The SIP parser; see sip_parse.h. */
#include "sip_parse.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

bool sip_same(struct sip_view a, const char *text, size_t n)
{
    return a.n == n && (n == 0 || memcmp(a.p, text, n) == 0);
}

uint64_t sip_hash(struct sip_view v)
{
    uint64_t h = 14695981039346656037ULL; /* FNV-1a */
    for (size_t i = 0; i < v.n; i++)
        h = (h ^ (unsigned char)v.p[i]) * 1099511628211ULL;
    return h;
}

bool sip_is(struct sip_view v, const char *text)
{
    return sip_same(v, text, strlen(text));
}

bool sip_is_nocase(struct sip_view v, const char *text)
{
    return v.n == strlen(text) && strncasecmp(v.p, text, v.n) == 0;
}

static bool blank(char c)
{
    return c == ' ' || c == '\t';
}

static struct sip_view trim(struct sip_view v)
{
    while (v.n && blank(v.p[0])) {
        v.p++;
        v.n--;
    }
    while (v.n && blank(v.p[v.n - 1]))
        v.n--;
    return v;
}

/* The next of `stop` outside quotes and angle brackets, or v.n. */
static size_t scan(struct sip_view v, char stop)
{
    bool quoted = false, angled = false;
    for (size_t i = 0; i < v.n; i++) {
        char c = v.p[i];
        if (quoted) {
            if (c == '\\')
                i++;
            else if (c == '"')
                quoted = false;
        } else if (c == '"') {
            quoted = true;
        } else if (c == '<') {
            angled = true;
        } else if (c == '>') {
            angled = false;
        } else if (c == stop && !angled) {
            return i;
        }
    }
    return v.n;
}

static struct sip_view after(struct sip_view v, size_t skip)
{
    return skip >= v.n ? (struct sip_view){v.p + v.n, 0}
                       : (struct sip_view){v.p + skip, v.n - skip};
}

struct sip_view sip_first_of(struct sip_view value)
{
    value.n = scan(value, ',');
    return trim(value);
}

bool sip_param(struct sip_view value, const char *name, struct sip_view *out)
{
    struct sip_view rest = after(value, scan(value, ';') + 1);
    while (rest.n) {
        size_t end = scan(rest, ';');
        struct sip_view item = trim((struct sip_view){rest.p, end});
        size_t eq = scan(item, '=');
        if (sip_is_nocase(trim((struct sip_view){item.p, eq}), name)) {
            *out = trim(after(item, eq + 1));
            return true;
        }
        rest = after(rest, end + 1);
    }
    return false;
}

struct sip_view sip_uri_of(struct sip_view value)
{
    bool quoted = false;
    for (size_t i = 0; i < value.n; i++) {
        if (value.p[i] == '"') {
            quoted = !quoted;
        } else if (value.p[i] == '<' && !quoted) {
            struct sip_view in = after(value, i + 1);
            const char *end = in.n ? memchr(in.p, '>', in.n) : NULL;
            return end ? (struct sip_view){in.p, (size_t)(end - in.p)} : in;
        }
    }
    value.n = scan(value, ';');
    return trim(value);
}

struct sip_view sip_user_of(struct sip_view uri)
{
    struct sip_view none = {uri.p, 0};
    const char *colon = uri.n ? memchr(uri.p, ':', uri.n) : NULL;
    if (!colon)
        return none;
    struct sip_view rest = after(uri, (size_t)(colon - uri.p) + 1);
    const char *at = rest.n ? memchr(rest.p, '@', rest.n) : NULL;
    return at ? (struct sip_view){rest.p, (size_t)(at - rest.p)} : none;
}

/* Takes the next line off *rest. A line ends with CR LF; a bare LF is let pass. */
static bool take_line(struct sip_view *rest, struct sip_view *line)
{
    const char *nl = rest->n ? memchr(rest->p, '\n', rest->n) : NULL;
    if (!nl)
        return false;
    *line = (struct sip_view){rest->p, (size_t)(nl - rest->p)};
    *rest = after(*rest, line->n + 1);
    if (line->n && line->p[line->n - 1] == '\r')
        line->n--;
    return true;
}

static bool number(struct sip_view v, uint64_t max, uint64_t *out)
{
    uint64_t sum = 0;
    if (v.n == 0 || v.n > 10)
        return false;
    for (size_t i = 0; i < v.n; i++) {
        if (v.p[i] < '0' || v.p[i] > '9')
            return false;
        sum = sum * 10 + (uint64_t)(v.p[i] - '0');
    }
    *out = sum;
    return sum <= max;
}

static bool is_token(struct sip_view v)
{
    for (size_t i = 0; i < v.n; i++) {
        char c = v.p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              (c && strchr("-.!%*_+`'~", c))))
            return false;
    }
    return v.n > 0;
}

static int start_line(struct sip_msg *m, struct sip_view line)
{
    const char *sp = line.n ? memchr(line.p, ' ', line.n) : NULL;
    if (!sp)
        return -EBADMSG;
    struct sip_view first = {line.p, (size_t)(sp - line.p)};
    struct sip_view rest = after(line, first.n + 1);
    if (first.n > 4 && strncasecmp(first.p, "SIP/", 4) == 0) {
        uint64_t status;
        if (!sip_is_nocase(first, "SIP/2.0") || rest.n < 3 ||
            !number((struct sip_view){rest.p, 3}, 699, &status) || status < 100)
            return -EBADMSG;
        m->version_2 = true;
        m->status = (int)status;
        return 0;
    }
    sp = rest.n ? memchr(rest.p, ' ', rest.n) : NULL;
    if (!sp || !is_token(first))
        return -EBADMSG;
    m->request = true;
    m->method = first;
    m->uri = (struct sip_view){rest.p, (size_t)(sp - rest.p)};
    struct sip_view version = after(rest, m->uri.n + 1);
    m->version_2 = sip_is_nocase(version, "SIP/2.0");
    return m->uri.n && version.n > 4 && strncasecmp(version.p, "SIP/", 4) == 0 ? 0 : -EBADMSG;
}

static bool repeat(struct sip_view *list, size_t *n, struct sip_view value)
{
    if (*n == SIP_REPEAT_MAX)
        return false;
    list[(*n)++] = value;
    return true;
}

static bool once(struct sip_view *field, struct sip_view value)
{
    if (field->n || !value.n)
        return false;
    *field = value;
    return true;
}

static bool header(struct sip_msg *m, struct sip_view name, struct sip_view value)
{
    if (sip_is_nocase(name, "Via") || sip_is_nocase(name, "v"))
        return repeat(m->via, &m->vias, value);
    if (sip_is_nocase(name, "Record-Route"))
        return repeat(m->record_route, &m->record_routes, value);
    if (sip_is_nocase(name, "From") || sip_is_nocase(name, "f"))
        return once(&m->from, value);
    if (sip_is_nocase(name, "To") || sip_is_nocase(name, "t"))
        return once(&m->to, value);
    if (sip_is_nocase(name, "Call-ID") || sip_is_nocase(name, "i"))
        return once(&m->call_id, value);
    if (sip_is_nocase(name, "Contact") || sip_is_nocase(name, "m")) {
        if (!m->contact.n)
            m->contact = sip_first_of(value);
    } else if (sip_is_nocase(name, "Require")) {
        m->require = value;
    } else if (sip_is_nocase(name, "CSeq")) {
        struct sip_view digits = {value.p, 0};
        while (digits.n < value.n && !blank(value.p[digits.n]))
            digits.n++;
        uint64_t n;
        if (m->cseq_method.n || !number(digits, UINT32_MAX, &n))
            return false;
        m->cseq = (uint32_t)n;
        m->cseq_method = trim(after(value, digits.n));
    }
    return true;
}

/* A line that begins with a blank continues the one before (RFC 3261 7.3.1). */
static void unfold(char *buf, size_t n)
{
    for (size_t i = 0; i + 1 < n; i++) {
        if (buf[i] != '\n')
            continue;
        if (buf[i + 1] == '\n' || (buf[i + 1] == '\r' && i + 2 < n && buf[i + 2] == '\n'))
            return; /* the end of the header */
        if (blank(buf[i + 1])) {
            buf[i] = ' ';
            if (i && buf[i - 1] == '\r')
                buf[i - 1] = ' ';
        }
    }
}

int sip_parse(struct sip_msg *m, char *buf, size_t n)
{
    memset(m, 0, sizeof *m);
    unfold(buf, n);
    struct sip_view rest = {buf, n}, line;
    if (!take_line(&rest, &line) || start_line(m, line) < 0)
        return -EBADMSG;
    for (int headers = 0;; headers++) {
        if (headers == SIP_HEADERS_MAX || !take_line(&rest, &line))
            return -EBADMSG;
        if (line.n == 0)
            break;
        const char *colon = memchr(line.p, ':', line.n);
        if (memchr(line.p, 0, line.n) || !colon)
            return -EBADMSG;
        struct sip_view name = trim((struct sip_view){line.p, (size_t)(colon - line.p)});
        if (!is_token(name) || !header(m, name, trim(after(line, (size_t)(colon - line.p) + 1))))
            return -EBADMSG;
    }
    m->body = rest;
    if (!m->vias || !m->from.n || !m->to.n || !m->call_id.n || !m->cseq_method.n)
        return -EBADMSG;
    sip_param(m->from, "tag", &m->from_tag);
    sip_param(m->to, "tag", &m->to_tag);
    sip_param(sip_first_of(m->via[0]), "branch", &m->branch);
    if (m->request && !sip_same(m->method, m->cseq_method.p, m->cseq_method.n))
        return -EBADMSG;
    return 0;
}
