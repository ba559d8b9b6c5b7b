/* SPDX-License-Identifier: Apache-2.0 */
/* Connectionless packets; see pdu.h. Offsets are those of C706 12.5.1. */
#include "pdu.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

/* Conversation manager, its callback for context handles, endpoint mapper, cluster API. */
const struct rpc_interface rpc_conv = {
    {0x333a2276, 0, 0, {0x0d, 0x00, 0x00, 0x80, 0x9c, 0x00, 0x00, 0x00}}, 3};
const struct rpc_interface rpc_convc = {
    {0x4a967f14, 0x3000, 0, {0x0d, 0x00, 0x01, 0x28, 0x82, 0x00, 0x00, 0x00}}, 1};
const struct rpc_interface rpc_epm = {
    {0xe1af8308, 0x5d1f, 0x11c9, {0x91, 0xa4, 0x08, 0x00, 0x2b, 0x14, 0xa0, 0xfa}}, 3};
const struct rpc_interface rpc_clusapi = {
    {0xb97db8b2, 0x4c63, 0x11cf, {0xbf, 0xf6, 0x08, 0x00, 0x2b, 0xe2, 0x3f, 0x2f}}, 3};

bool rpc_uuid_equal(const struct rpc_uuid *a, const struct rpc_uuid *b)
{
    return a->low == b->low && a->mid == b->mid && a->high == b->high &&
           memcmp(a->rest, b->rest, sizeof a->rest) == 0;
}

bool rpc_uuid_is_nil(const struct rpc_uuid *a)
{
    static const struct rpc_uuid nil;
    return rpc_uuid_equal(a, &nil);
}

struct rpc_uuid rpc_uuid_new(void)
{
    uint8_t b[16] = {0};
    if (getrandom(b, sizeof b, 0) != (ssize_t)sizeof b)
        b[0] = 1; /* cannot happen for 16 bytes after boot; never nil all the same */
    b[7] = (uint8_t)((b[7] & 0x0f) | 0x40);
    b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
    return rpc_uuid_read(b, true);
}

uint16_t rpc_get16(const uint8_t *at, bool little)
{
    return (uint16_t)(little ? at[0] | at[1] << 8 : at[1] | at[0] << 8);
}

uint32_t rpc_get32(const uint8_t *at, bool little)
{
    uint32_t first = rpc_get16(at, little), second = rpc_get16(at + 2, little);
    return little ? first | second << 16 : second | first << 16;
}

void rpc_put16(uint8_t *at, uint16_t value)
{
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
}

void rpc_put32(uint8_t *at, uint32_t value)
{
    rpc_put16(at, (uint16_t)value);
    rpc_put16(at + 2, (uint16_t)(value >> 16));
}

struct rpc_uuid rpc_uuid_read(const uint8_t *at, bool little)
{
    struct rpc_uuid u = {
        rpc_get32(at, little), rpc_get16(at + 4, little), rpc_get16(at + 6, little), {0}};
    memcpy(u.rest, at + 8, sizeof u.rest);
    return u;
}

void rpc_uuid_write(const struct rpc_uuid *u, uint8_t *at)
{
    rpc_put32(at, u->low);
    rpc_put16(at + 4, u->mid);
    rpc_put16(at + 6, u->high);
    memcpy(at + 8, u->rest, sizeof u->rest);
}

bool dg_before32(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) < 0;
}

bool dg_before16(uint16_t a, uint16_t b)
{
    return (int16_t)(uint16_t)(a - b) < 0;
}

int dg_header_read(struct dg_header *h, const uint8_t *at, size_t n)
{
    if (n < DG_HEADER || (at[0] & 0x0f) != DG_VERSION)
        return -EPROTO;
    /* Integers little or big, characters ASCII, floats IEEE: nothing else is in use. */
    if ((at[4] & 0xef) != 0 || at[5] != 0)
        return -EPROTO;
    bool little = at[4] & 0x10;
    *h = (struct dg_header){
        .ptype = at[1] & 0x1f,
        .flags1 = at[2],
        .flags2 = at[3],
        .little = little,
        .serial = (uint16_t)(at[7] << 8 | at[79]),
        .object = rpc_uuid_read(at + 8, little),
        .interface = rpc_uuid_read(at + 24, little),
        .activity = rpc_uuid_read(at + 40, little),
        .boot = rpc_get32(at + 56, little),
        .version = rpc_get32(at + 60, little),
        .seq = rpc_get32(at + 64, little),
        .opnum = rpc_get16(at + 68, little),
        .ihint = rpc_get16(at + 70, little),
        .ahint = rpc_get16(at + 72, little),
        .len = rpc_get16(at + 74, little),
        .frag = rpc_get16(at + 76, little),
        .auth = at[78],
    };
    if (h->ptype >= DG_PTYPES || (h->flags2 & 0xfc) || h->len > n - DG_HEADER)
        return -EPROTO;
    return 0;
}

void dg_header_write(const struct dg_header *h, uint8_t *at)
{
    memset(at, 0, DG_HEADER);
    at[0] = DG_VERSION;
    at[1] = h->ptype;
    at[2] = h->flags1;
    at[3] = h->flags2;
    at[4] = 0x10;
    at[7] = (uint8_t)(h->serial >> 8);
    rpc_uuid_write(&h->object, at + 8);
    rpc_uuid_write(&h->interface, at + 24);
    rpc_uuid_write(&h->activity, at + 40);
    rpc_put32(at + 56, h->boot);
    rpc_put32(at + 60, h->version);
    rpc_put32(at + 64, h->seq);
    rpc_put16(at + 68, h->opnum);
    rpc_put16(at + 70, h->ihint);
    rpc_put16(at + 72, h->ahint);
    rpc_put16(at + 74, h->len);
    rpc_put16(at + 76, h->frag);
    at[78] = h->auth;
    at[79] = (uint8_t)h->serial;
}

int dg_fack_read(struct dg_fack *f, const uint8_t *at, size_t n, bool little)
{
    if (n < 16 || at[0] > 1)
        return -EPROTO;
    *f = (struct dg_fack){
        .window = rpc_get16(at + 2, little),
        .max_tsdu = rpc_get32(at + 4, little),
        .max_frag = rpc_get32(at + 8, little),
        .serial = rpc_get16(at + 12, little),
        .masks = rpc_get16(at + 14, little),
    };
    if (f->masks > (n - 16) / 4)
        return -EPROTO;
    if (f->masks > DG_FACK_MASKS)
        f->masks = DG_FACK_MASKS; /* what it says beyond is asked for again later */
    for (size_t i = 0; i < f->masks; i++)
        f->mask[i] = rpc_get32(at + 16 + 4 * i, little);
    return 0;
}

size_t dg_fack_write(const struct dg_fack *f, uint8_t *at)
{
    at[0] = 1;
    at[1] = 0;
    rpc_put16(at + 2, f->window);
    rpc_put32(at + 4, f->max_tsdu);
    rpc_put32(at + 8, f->max_frag);
    rpc_put16(at + 12, f->serial);
    rpc_put16(at + 14, f->masks);
    for (size_t i = 0; i < f->masks; i++)
        rpc_put32(at + 16 + 4 * i, f->mask[i]);
    return 16 + (size_t)4 * f->masks;
}

int dg_status_read(uint32_t *status, const uint8_t *at, size_t n, bool little)
{
    if (n < 4)
        return -EPROTO;
    *status = rpc_get32(at, little);
    return 0;
}

int dg_quit_read(uint32_t *id, bool *orphan, const uint8_t *at, size_t n, bool little)
{
    *id = 0;
    *orphan = n == 0;
    if (*orphan)
        return 0;
    if (n < 8 || rpc_get32(at, little) != 0)
        return -EPROTO;
    *id = rpc_get32(at + 4, little);
    return 0;
}

size_t dg_quit_write(uint32_t id, uint8_t *at)
{
    rpc_put32(at, 0);
    rpc_put32(at + 4, id);
    return 8;
}

int dg_quack_read(uint32_t *id, bool *accepting, const uint8_t *at, size_t n, bool little)
{
    if (n < 9 || rpc_get32(at, little) != 0)
        return -EPROTO;
    *id = rpc_get32(at + 4, little);
    *accepting = at[8];
    return 0;
}

size_t dg_quack_write(uint32_t id, bool accepting, uint8_t *at)
{
    dg_quit_write(id, at);
    at[8] = accepting;
    return 9;
}
