/* SPDX-License-Identifier: Apache-2.0 */
/* Messages in packets; see xfer.h. */
#include "xfer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

int dg_transmit(struct dg_path path, struct dg_header *h, const void *body, size_t n)
{
    uint8_t packet[DG_PACKET];
    if (n > DG_FRAG_BODY)
        return -EMSGSIZE;
    h->len = (uint16_t)n;
    dg_header_write(h, packet);
    if (n)
        memcpy(packet + DG_HEADER, body, n);
    for (;;) {
        ssize_t sent = sendto(path.fd, packet, DG_HEADER + n, MSG_NOSIGNAL,
                              (const struct sockaddr *)path.to, path.to ? sizeof *path.to : 0);
        if (sent >= 0)
            return 0;
        if (errno != EINTR)
            return -errno;
    }
}

int dg_send_start(struct dg_send *s, const struct dg_header *head, const void *body, size_t len)
{
    size_t count = len <= DG_FRAG_BODY ? 1 : (len + DG_FRAG_BODY - 1) / DG_FRAG_BODY;
    if (count > DG_FRAGS_MAX)
        return -EMSGSIZE;
    uint16_t serial = s->head.serial;
    *s = (struct dg_send){
        .head = *head, .body = body, .len = len, .count = (uint16_t)count, .window = DG_WINDOW};
    s->head.serial = serial;
    return 0;
}

static int send_one(struct dg_send *s, uint16_t frag, bool want_fack, struct dg_path path)
{
    struct dg_header h = s->head;
    size_t at = (size_t)frag * DG_FRAG_BODY;
    size_t n = s->len - at < DG_FRAG_BODY ? s->len - at : DG_FRAG_BODY;
    h.frag = frag;
    if (s->count > 1)
        h.flags1 = (uint8_t)(h.flags1 | DG_FRAG | (frag + 1 == s->count ? DG_LASTFRAG : 0) |
                             (want_fack ? 0 : DG_NOFACK));
    h.serial = ++s->head.serial;
    return dg_transmit(path, &h, n ? s->body + at : NULL, n);
}

int dg_send_more(struct dg_send *s, struct dg_path path)
{
    while (s->sent < s->count && s->sent - s->acked < s->window) {
        bool last = s->sent + 1 == s->count || s->sent + 1 - s->acked == s->window;
        int err = send_one(s, s->sent, last, path);
        if (err)
            return err;
        s->sent++;
    }
    return 0;
}

int dg_send_again(struct dg_send *s, struct dg_path path)
{
    return dg_send_done(s) ? 0 : send_one(s, s->acked, true, path);
}

int dg_send_fack(struct dg_send *s, uint16_t frag, const struct dg_fack *f, struct dg_path path)
{
    uint16_t in_order = frag == DG_NO_FRAG ? 0 : (uint16_t)(frag + 1);
    if (in_order > s->sent)
        return 0; /* about something that we never sent */
    if (in_order > s->acked)
        s->acked = in_order;
    if (f) {
        /* KB to packets: a receiver that takes less than one still gets one at a time. */
        uint32_t window = (uint32_t)f->window * 1024 / DG_PACKET;
        s->window = (uint16_t)(window < 1 ? 1 : window > DG_WINDOW_MAX ? DG_WINDOW_MAX : window);
        uint16_t last = 0; /* the last one it has out of order: what is missing before it is lost */
        for (uint16_t i = 0; i < f->masks * 32; i++)
            if (f->mask[i / 32] >> (i % 32) & 1)
                last = (uint16_t)(i + 1);
        for (uint16_t i = 0; i < last; i++) {
            uint16_t missing = (uint16_t)(in_order + i);
            bool here = f->mask[i / 32] >> (i % 32) & 1;
            int err = !here && missing >= s->acked && missing < s->sent
                          ? send_one(s, missing, true, path)
                          : 0;
            if (err)
                return err;
        }
    }
    return dg_send_more(s, path);
}

bool dg_send_done(const struct dg_send *s)
{
    return s->acked == s->count;
}

int dg_receive_part(struct dg_receive *r, const struct dg_header *h, const uint8_t *body)
{
    uint16_t frag = h->flags1 & DG_FRAG ? h->frag : 0;
    bool last = !(h->flags1 & DG_FRAG) || (h->flags1 & DG_LASTFRAG);
    if (frag >= DG_FRAGS_MAX || (r->count && frag >= r->count))
        return -EMSGSIZE;
    if (frag >= r->cap) {
        uint16_t cap = (uint16_t)(frag < 16 ? 16 : (frag + 1) * 2);
        struct dg_part *grown = realloc(r->parts, cap * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        memset(grown + r->cap, 0, (size_t)(cap - r->cap) * sizeof *grown);
        r->parts = grown;
        r->cap = cap;
    }
    struct dg_part *part = &r->parts[frag];
    if (part->here)
        return 1;
    if (h->len) {
        part->data = malloc(h->len);
        if (!part->data)
            return -ENOMEM;
        memcpy(part->data, body, h->len);
    }
    part->len = h->len;
    part->here = true;
    r->bytes += h->len;
    r->little = h->little;
    if (last)
        r->count = (uint16_t)(frag + 1);
    while (r->in_order < r->cap && r->parts[r->in_order].here)
        r->in_order++;
    return 0;
}

bool dg_receive_done(const struct dg_receive *r)
{
    return r->count && r->in_order >= r->count;
}

uint8_t *dg_receive_join(struct dg_receive *r, size_t *len)
{
    uint8_t *whole = malloc(r->bytes ? r->bytes : 1);
    *len = 0;
    for (uint16_t i = 0; whole && i < r->count; i++) {
        if (r->parts[i].len)
            memcpy(whole + *len, r->parts[i].data, r->parts[i].len);
        *len += r->parts[i].len;
    }
    dg_receive_free(r);
    return whole;
}

void dg_receive_free(struct dg_receive *r)
{
    for (uint16_t i = 0; i < r->cap; i++)
        free(r->parts[i].data);
    free(r->parts);
    *r = (struct dg_receive){0};
}

int dg_receive_report(const struct dg_receive *r, struct dg_path path, struct dg_header *h,
                      uint8_t ptype, uint16_t serial)
{
    uint8_t body[64];
    struct dg_fack f = {.window = DG_WINDOW * DG_PACKET / 1024 + 1,
                        .max_tsdu = DG_MAX_TSDU,
                        .max_frag = DG_PACKET,
                        .serial = serial};
    for (uint16_t i = r->in_order; i < r->cap && i - r->in_order < DG_FACK_MASKS * 32; i++) {
        uint16_t bit = (uint16_t)(i - r->in_order);
        if (!r->parts[i].here)
            continue;
        f.mask[bit / 32] |= 1u << (bit % 32);
        f.masks = (uint16_t)(bit / 32 + 1);
    }
    h->ptype = ptype;
    h->flags1 = h->flags2 = 0;
    h->frag = r->in_order ? (uint16_t)(r->in_order - 1) : DG_NO_FRAG;
    h->serial++;
    return dg_transmit(path, h, body, dg_fack_write(&f, body));
}
