/* SPDX-License-Identifier: Apache-2.0 */
/* NDR; see ndr.h. */
#include "ndr.h"

#include <stdlib.h>
#include <string.h>

static uint8_t *extend(struct ndr_out *o, size_t n)
{
    if (o->failed)
        return NULL;
    if (o->cap - o->len < n) {
        size_t cap = o->cap ? o->cap : 128;
        while (cap - o->len < n)
            cap *= 2;
        uint8_t *grown = realloc(o->data, cap);
        if (!grown) {
            o->failed = true;
            return NULL;
        }
        o->data = grown;
        o->cap = cap;
    }
    uint8_t *at = o->data + o->len;
    o->len += n;
    return at;
}

void ndr_out_free(struct ndr_out *o)
{
    free(o->data);
    *o = (struct ndr_out){0};
}

void ndr_align(struct ndr_out *o, size_t to)
{
    size_t pad = -o->len & (to - 1);
    uint8_t *at = extend(o, pad);
    if (at)
        memset(at, 0, pad);
}

void ndr_put_bytes(struct ndr_out *o, const void *data, size_t n)
{
    uint8_t *at = extend(o, n);
    if (at && n)
        memcpy(at, data, n);
}

void ndr_put8(struct ndr_out *o, uint8_t v)
{
    ndr_put_bytes(o, &v, 1);
}

void ndr_put16(struct ndr_out *o, uint16_t v)
{
    ndr_align(o, 2);
    uint8_t *at = extend(o, 2);
    if (at)
        rpc_put16(at, v);
}

void ndr_put32(struct ndr_out *o, uint32_t v)
{
    ndr_align(o, 4);
    uint8_t *at = extend(o, 4);
    if (at)
        rpc_put32(at, v);
}

void ndr_put_uuid(struct ndr_out *o, const struct rpc_uuid *u)
{
    ndr_align(o, 4);
    uint8_t *at = extend(o, 16);
    if (at)
        rpc_uuid_write(u, at);
}

void ndr_put_context(struct ndr_out *o, const struct rpc_context *c)
{
    ndr_put32(o, 0);
    ndr_put_uuid(o, &c->uuid);
}

void ndr_put_pointer(struct ndr_out *o, bool present)
{
    ndr_put32(o, present ? 0x20000 + 4 * o->referents++ : 0);
}

void ndr_put_wstring(struct ndr_out *o, const char *text)
{
    uint32_t units = (uint32_t)strlen(text) + 1;
    ndr_put32(o, units);
    ndr_put32(o, 0);
    ndr_put32(o, units);
    for (uint32_t i = 0; i < units; i++)
        ndr_put16(o, (uint8_t)text[i]);
}

struct ndr_in ndr_reader(const uint8_t *data, size_t len, bool little)
{
    return (struct ndr_in){.data = data, .len = len, .little = little};
}

const uint8_t *ndr_get_bytes(struct ndr_in *i, size_t n)
{
    if (i->failed || n > i->len - i->at) {
        i->failed = true;
        return NULL;
    }
    i->at += n;
    return i->data + i->at - n;
}

void ndr_in_align(struct ndr_in *i, size_t to)
{
    ndr_get_bytes(i, -i->at & (to - 1));
}

uint8_t ndr_get8(struct ndr_in *i)
{
    const uint8_t *at = ndr_get_bytes(i, 1);
    return at ? *at : 0;
}

uint16_t ndr_get16(struct ndr_in *i)
{
    ndr_in_align(i, 2);
    const uint8_t *at = ndr_get_bytes(i, 2);
    return at ? rpc_get16(at, i->little) : 0;
}

uint32_t ndr_get32(struct ndr_in *i)
{
    ndr_in_align(i, 4);
    const uint8_t *at = ndr_get_bytes(i, 4);
    return at ? rpc_get32(at, i->little) : 0;
}

struct rpc_uuid ndr_get_uuid(struct ndr_in *i)
{
    ndr_in_align(i, 4);
    const uint8_t *at = ndr_get_bytes(i, 16);
    return at ? rpc_uuid_read(at, i->little) : (struct rpc_uuid){0};
}

struct rpc_context ndr_get_context(struct ndr_in *i)
{
    if (ndr_get32(i) != 0)
        i->failed = true;
    return (struct rpc_context){ndr_get_uuid(i)};
}

bool ndr_get_pointer(struct ndr_in *i)
{
    return ndr_get32(i) != 0;
}

void ndr_get_wstring(struct ndr_in *i, char *out, size_t size)
{
    uint32_t max = ndr_get32(i), offset = ndr_get32(i), units = ndr_get32(i);
    *out = 0;
    if (offset != 0 || units > max || units == 0 || units > size)
        i->failed = true;
    for (uint32_t k = 0; k < units && !i->failed; k++) {
        uint16_t unit = ndr_get16(i);
        out[k] = unit < 0x80 ? (char)unit : '?';
        if ((unit == 0) != (k + 1 == units))
            i->failed = true;
    }
    if (i->failed)
        *out = 0;
}
