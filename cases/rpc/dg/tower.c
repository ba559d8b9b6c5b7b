/* SPDX-License-Identifier: Apache-2.0 */
/* Towers; see tower.h. Integers in floors are little-endian, port and address in network order. */
#include "tower.h"

#include <errno.h>
#include <string.h>

static const struct rpc_interface ndr_syntax = {
    {0x8a885d04, 0x1ceb, 0x11c9, {0x9f, 0xe8, 0x08, 0x00, 0x2b, 0x10, 0x48, 0x60}}, 2};

enum { FLOORS = 5, ID_UUID = 0x0d, ID_CONNECTIONLESS = 0x0a, ID_UDP = 0x08, ID_IP = 0x09 };

static uint8_t *uuid_floor(uint8_t *at, const struct rpc_interface *i)
{
    rpc_put16(at, 19);
    at[2] = ID_UUID;
    rpc_uuid_write(&i->uuid, at + 3);
    rpc_put16(at + 19, (uint16_t)i->version);
    rpc_put16(at + 21, 2);
    rpc_put16(at + 23, (uint16_t)(i->version >> 16));
    return at + 25;
}

static uint8_t *short_floor(uint8_t *at, uint8_t id, const uint8_t *value, uint16_t n)
{
    rpc_put16(at, 1);
    at[2] = id;
    rpc_put16(at + 3, n);
    memcpy(at + 5, value, n);
    return at + 5 + n;
}

void tower_write(const struct tower *t, uint8_t out[TOWER_BYTES])
{
    uint8_t minor[2] = {0, 0};
    uint8_t port[2] = {(uint8_t)(t->port >> 8), (uint8_t)t->port};
    uint8_t address[4] = {(uint8_t)(t->address >> 24), (uint8_t)(t->address >> 16),
                          (uint8_t)(t->address >> 8), (uint8_t)t->address};
    rpc_put16(out, FLOORS);
    uint8_t *at = uuid_floor(out + 2, &t->interface);
    at = uuid_floor(at, &ndr_syntax);
    at = short_floor(at, ID_CONNECTIONLESS, minor, 2);
    at = short_floor(at, ID_UDP, port, 2);
    short_floor(at, ID_IP, address, 4);
}

struct floor {
    const uint8_t *left, *right;
    uint16_t left_len, right_len;
};

/* The next floor; false when it does not fit in what is left. */
static bool next_floor(struct floor *f, const uint8_t **at, size_t *n)
{
    if (*n < 2)
        return false;
    f->left_len = rpc_get16(*at, true);
    if (f->left_len < 1 || (size_t)f->left_len + 4 > *n)
        return false;
    f->left = *at + 2;
    f->right_len = rpc_get16(f->left + f->left_len, true);
    f->right = f->left + f->left_len + 2;
    size_t whole = (size_t)f->left_len + f->right_len + 4;
    if (whole > *n)
        return false;
    *at += whole;
    *n -= whole;
    return true;
}

static bool floor_is(const struct floor *f, uint8_t id, uint16_t left_len, uint16_t right_len)
{
    return f->left[0] == id && f->left_len == left_len && f->right_len == right_len;
}

int tower_read(struct tower *t, const uint8_t *at, size_t n)
{
    struct floor f[FLOORS];
    if (n < 2 || rpc_get16(at, true) != FLOORS)
        return -EPROTO;
    at += 2;
    n -= 2;
    for (size_t i = 0; i < FLOORS; i++)
        if (!next_floor(&f[i], &at, &n))
            return -EPROTO;
    if (!floor_is(&f[0], ID_UUID, 19, 2) || !floor_is(&f[1], ID_UUID, 19, 2) ||
        !floor_is(&f[2], ID_CONNECTIONLESS, 1, 2) || !floor_is(&f[3], ID_UDP, 1, 2) ||
        !floor_is(&f[4], ID_IP, 1, 4))
        return -EPROTO;
    struct rpc_uuid syntax = rpc_uuid_read(f[1].left + 1, true);
    if (!rpc_uuid_equal(&syntax, &ndr_syntax.uuid))
        return -EPROTO;
    t->interface.uuid = rpc_uuid_read(f[0].left + 1, true);
    t->interface.version = rpc_get16(f[0].left + 17, true) | (uint32_t)rpc_get16(f[0].right, true)
                                                                 << 16;
    t->port = rpc_get16(f[3].right, false);
    t->address = rpc_get32(f[4].right, false);
    return 0;
}
