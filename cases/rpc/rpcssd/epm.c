/* SPDX-License-Identifier: Apache-2.0 */
/* The endpoint mapper; see epm.h. Lookups and maps return all they have at once, so the entry
 * handle is always nil on the way back. */
#include "epm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { ENTRIES = 256, ANNOTATION = 64, NOT_REGISTERED = 0x16c9a0d6, NO_MEMORY = 0x16c9a012 };
enum { EPT_INSERT, EPT_DELETE, EPT_LOOKUP, EPT_MAP, EPT_HANDLE_FREE, EPT_OPS };

static struct entry {
    struct tower tower;
    struct rpc_uuid object;
    char annotation[ANNOTATION];
    const void *owner;
} entries[ENTRIES];
static size_t count;

int epm_add(const struct tower *t, const char *annotation, const void *owner)
{
    if (count == ENTRIES)
        return -ENOSPC;
    struct entry *e = &entries[count++];
    *e = (struct entry){.tower = *t, .owner = owner};
    snprintf(e->annotation, sizeof e->annotation, "%s", annotation);
    return 0;
}

void epm_remove_owner(const void *owner)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (entries[i].owner != owner)
            entries[kept++] = entries[i];
    count = kept;
}

static bool same_interface(const struct rpc_interface *a, const struct rpc_interface *b)
{
    return rpc_uuid_equal(&a->uuid, &b->uuid) && (uint16_t)a->version == (uint16_t)b->version;
}

/* ---- in and out ---- */

static bool get_tower(struct ndr_in *in, struct tower *t)
{
    ndr_get32(in); /* array bound */
    uint32_t len = ndr_get32(in);
    const uint8_t *at = ndr_get_bytes(in, len);
    return at && tower_read(t, at, len) == 0;
}

static void put_tower(struct ndr_out *out, const struct tower *t)
{
    uint8_t octets[TOWER_BYTES];
    tower_write(t, octets);
    ndr_put32(out, TOWER_BYTES);
    ndr_put32(out, TOWER_BYTES);
    ndr_put_bytes(out, octets, TOWER_BYTES);
    ndr_align(out, 4);
}

/* The head of a conformant varying array. */
static void put_array(struct ndr_out *out, uint32_t max, uint32_t actual)
{
    ndr_put32(out, max);
    ndr_put32(out, 0);
    ndr_put32(out, actual);
}

/* ---- operations ---- */

/* Both take a counted array of entries, whose towers follow behind it. */
static int insert_or_delete(struct dg_incoming *call, bool insert)
{
    enum { AT_ONCE = 16 };
    struct {
        struct rpc_uuid object;
        bool has_tower;
        char annotation[ANNOTATION];
    } in[AT_ONCE];
    ndr_get32(&call->in);
    uint32_t n = ndr_get32(&call->in), status = 0;
    if (n > AT_ONCE)
        return NCA_PROTO_ERROR;
    for (uint32_t i = 0; i < n; i++) {
        in[i].object = ndr_get_uuid(&call->in);
        in[i].has_tower = ndr_get_pointer(&call->in);
        ndr_get32(&call->in);
        uint32_t len = ndr_get32(&call->in);
        const uint8_t *text = ndr_get_bytes(&call->in, len);
        if (!text || len == 0 || len > ANNOTATION || text[len - 1] != 0)
            return NCA_PROTO_ERROR;
        memcpy(in[i].annotation, text, len);
    }
    for (uint32_t i = 0; i < n; i++) {
        struct tower t;
        if (!in[i].has_tower || !get_tower(&call->in, &t))
            return NCA_PROTO_ERROR;
        size_t k = 0;
        while (k < count && (entries[k].owner || entries[k].tower.port != t.port ||
                             !same_interface(&entries[k].tower.interface, &t.interface)))
            k++;
        bool there = k < count;
        if (insert && !there)
            status = epm_add(&t, in[i].annotation, NULL) ? NO_MEMORY : status;
        else if (!insert && there)
            entries[k] = entries[--count];
        else if (!insert)
            status = NOT_REGISTERED;
    }
    ndr_put32(&call->out, status);
    return 0;
}

static int insert(struct dg_incoming *call)
{
    return insert_or_delete(call, true);
}

static int delete (struct dg_incoming *call)
{
    return insert_or_delete(call, false);
}

static int lookup(struct dg_incoming *call)
{
    enum { BY_INTERFACE = 1 };
    uint32_t type = ndr_get32(&call->in), found = 0;
    struct rpc_interface wanted = {0};
    if (ndr_get_pointer(&call->in))
        ndr_get_uuid(&call->in);
    if (ndr_get_pointer(&call->in)) {
        wanted.uuid = ndr_get_uuid(&call->in);
        wanted.version = ndr_get16(&call->in);
        ndr_get16(&call->in);
    }
    ndr_get32(&call->in); /* version option: compatible, always */
    struct rpc_context handle = ndr_get_context(&call->in), none = {0};
    uint32_t max = ndr_get32(&call->in);
    if (call->in.failed || type > 3)
        return NCA_PROTO_ERROR;
    struct entry *match[ENTRIES];
    for (size_t i = 0; i < count && found < max && rpc_uuid_is_nil(&handle.uuid); i++)
        if (!(type & BY_INTERFACE) || same_interface(&entries[i].tower.interface, &wanted))
            match[found++] = &entries[i];
    ndr_put_context(&call->out, &none);
    ndr_put32(&call->out, found);
    put_array(&call->out, max, found);
    for (uint32_t i = 0; i < found; i++) {
        uint32_t len = (uint32_t)strlen(match[i]->annotation) + 1;
        ndr_put_uuid(&call->out, &match[i]->object);
        ndr_put_pointer(&call->out, true);
        ndr_put32(&call->out, 0);
        ndr_put32(&call->out, len);
        ndr_put_bytes(&call->out, match[i]->annotation, len);
        ndr_align(&call->out, 4);
    }
    for (uint32_t i = 0; i < found; i++)
        put_tower(&call->out, &match[i]->tower);
    ndr_put32(&call->out, found ? 0 : NOT_REGISTERED);
    return 0;
}

static int map(struct dg_incoming *call)
{
    struct tower wanted;
    struct rpc_context none = {0};
    struct entry *match[ENTRIES];
    uint32_t found = 0;
    if (ndr_get_pointer(&call->in))
        ndr_get_uuid(&call->in);
    if (!ndr_get_pointer(&call->in) || !get_tower(&call->in, &wanted))
        return NCA_PROTO_ERROR;
    ndr_get_context(&call->in);
    uint32_t max = ndr_get32(&call->in);
    if (call->in.failed)
        return NCA_PROTO_ERROR;
    for (size_t i = 0; i < count && found < max; i++)
        if (same_interface(&entries[i].tower.interface, &wanted.interface))
            match[found++] = &entries[i];
    ndr_put_context(&call->out, &none);
    ndr_put32(&call->out, found);
    put_array(&call->out, max, found);
    for (uint32_t i = 0; i < found; i++)
        ndr_put_pointer(&call->out, true);
    for (uint32_t i = 0; i < found; i++)
        put_tower(&call->out, &match[i]->tower);
    ndr_put32(&call->out, found ? 0 : NOT_REGISTERED);
    return 0;
}

static int handle_free(struct dg_incoming *call)
{
    struct rpc_context none = {0};
    ndr_put_context(&call->out, &none);
    ndr_put32(&call->out, 0);
    return 0;
}

static int (*const operation[EPT_OPS])(struct dg_incoming *) = {
    [EPT_INSERT] = insert, [EPT_DELETE] = delete,           [EPT_LOOKUP] = lookup,
    [EPT_MAP] = map,       [EPT_HANDLE_FREE] = handle_free,
};

static int execute(struct dg_incoming *call)
{
    /* Towers are full pointers: a number used in the request would mean what it points to there. */
    call->out.referents = 0x4000;
    return operation[call->opnum](call);
}

static bool idempotent(uint16_t opnum)
{
    return opnum == EPT_LOOKUP || opnum == EPT_MAP;
}

const struct dg_service epm_service = {
    .interface = &rpc_epm, .ops = EPT_OPS, .idempotent = idempotent, .execute = execute};
