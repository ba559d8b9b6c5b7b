/* SPDX-License-Identifier: Apache-2.0 */
/* The client side of clusapi.h: every function marshals, makes one call and unmarshals. Start:
 * OpenCluster, transact. */
#include "../clusapi.h"
#include "../dg/assoc.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NO_MORE_ITEMS = 259 };

struct cluster_handle {
    struct dg_assoc *assoc;
    struct rpc_interface interface;
    struct rpc_context context;
    uint32_t address;
    uint16_t port;
};

struct object_handle {
    struct cluster_handle *cluster;
    struct rpc_context context;
};

struct enum_list {
    uint32_t count;
    struct {
        uint32_t type;
        char name[CLUSTER_NAME_SIZE];
    } entry[];
};

struct change_port {
    struct cluster_handle *cluster;
    struct dg_assoc *assoc;
    struct rpc_context context;
};

static _Thread_local uint32_t last_error;

uint32_t ClusterLastError(void)
{
    return last_error;
}

static void *fail(uint32_t error)
{
    last_error = error;
    return NULL;
}

static uint32_t done(uint32_t error)
{
    if (error)
        last_error = error;
    return error;
}

/* ---- one call ---- */

/* Makes the call and frees the request; out reads the answer, which is freed with answer_free. */
static uint32_t transact_on(struct dg_assoc *a, const struct rpc_interface *i, uint16_t opnum,
                            int64_t cancel_ms, struct ndr_out *in, struct dg_reply *reply,
                            struct ndr_in *out)
{
    int status = dg_call(a, i, opnum, 0, cancel_ms, in, reply);
    ndr_out_free(in);
    *out = ndr_reader(reply->data, reply->len, reply->little);
    return (uint32_t)status;
}

static uint32_t transact(struct cluster_handle *c, uint16_t opnum, struct ndr_out *in,
                         struct dg_reply *reply, struct ndr_in *out)
{
    return transact_on(c->assoc, &c->interface, opnum, -1, in, reply, out);
}

/* The end of most answers: [rpc_status,] return value. Frees the answer. */
static uint32_t get_result(const struct rpc_interface *i, struct ndr_in *out,
                           struct dg_reply *reply, bool has_rpc_status)
{
    uint32_t rpc_status = has_rpc_status && i->version >= 3 ? ndr_get32(out) : 0;
    uint32_t result = ndr_get32(out);
    bool failed = out->failed;
    dg_reply_free(reply);
    return failed ? RPC_PROTOCOL_ERROR : rpc_status ? rpc_status : result;
}

static void get_string(struct ndr_in *out, char text[CLUSTER_NAME_SIZE])
{
    *text = 0;
    if (ndr_get_pointer(out))
        ndr_get_wstring(out, text, CLUSTER_NAME_SIZE);
}

/* An operation that opens: Status, [rpc_status,] handle. */
static uint32_t open_on(struct dg_assoc *a, const struct rpc_interface *i, uint16_t opnum,
                        const char *name, bool has_rpc_status, struct rpc_context *context)
{
    struct ndr_out in = {0};
    struct ndr_in out;
    struct dg_reply reply;
    if (name)
        ndr_put_wstring(&in, name);
    uint32_t status = transact_on(a, i, opnum, -1, &in, &reply, &out);
    if (status)
        return status;
    status = ndr_get32(&out);
    if (has_rpc_status && i->version >= 3)
        ndr_get32(&out);
    *context = ndr_get_context(&out);
    if (out.failed)
        status = RPC_PROTOCOL_ERROR;
    dg_reply_free(&reply);
    if (!status)
        dg_hold_context(a, 1);
    return status;
}

static uint32_t close_on(struct dg_assoc *a, const struct rpc_interface *i, uint16_t opnum,
                         const struct rpc_context *context)
{
    struct ndr_out in = {0};
    struct ndr_in out;
    struct dg_reply reply;
    ndr_put_context(&in, context);
    uint32_t status = transact_on(a, i, opnum, -1, &in, &reply, &out);
    dg_reply_free(&reply);
    dg_hold_context(a, -1);
    return status;
}

/* ---- the cluster ---- */

static bool parse_name(const char *name, uint32_t *address, uint16_t *port)
{
    char host[64];
    struct in_addr in;
    const char *bracket = strchr(name, '[');
    size_t n = bracket ? (size_t)(bracket - name) : strlen(name);
    unsigned long number = 0;
    char *end;
    if (n >= sizeof host)
        return false;
    memcpy(host, name, n);
    host[n] = 0;
    if (bracket) {
        number = strtoul(bracket + 1, &end, 10);
        if (number == 0 || number > 65535 || strcmp(end, "]") != 0)
            return false;
    }
    if (inet_pton(AF_INET, strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, &in) != 1)
        return false;
    *address = ntohl(in.s_addr);
    *port = (uint16_t)number;
    return true;
}

static unsigned setting(const char *name, unsigned otherwise)
{
    const char *text = getenv(name);
    unsigned long value = text ? strtoul(text, NULL, 10) : 0;
    return value > 0 && value < 65536 ? (unsigned)value : otherwise;
}

/* An association to the cluster server, by way of the endpoint mapper when its port is not known.
 */
static uint32_t connect_to(struct cluster_handle *c)
{
    bool mapped = c->port == 0;
    uint16_t mapper = (uint16_t)setting("RPC_EPM_PORT", 135);
    uint32_t address = c->address;
    int status = dg_open(&c->assoc, c->address, mapped ? mapper : c->port);
    if (!status && mapped)
        status = dg_map_endpoint(c->assoc, &c->interface, &address, &c->port);
    if (!status && mapped)
        status = dg_retarget(c->assoc, address, c->port);
    c->address = address;
    return (uint32_t)status;
}

HCLUSTER OpenCluster(const char *name)
{
    struct cluster_handle *c, h = {.interface = rpc_clusapi};
    h.interface.version = setting("RPC_CLUSAPI_VERSION", 3);
    if (!name || !parse_name(name, &h.address, &h.port))
        return fail(RPC_INVALID_BINDING);
    uint32_t status = connect_to(&h);
    if (!status)
        status = open_on(h.assoc, &h.interface, 0, NULL, false, &h.context);
    c = status ? NULL : malloc(sizeof *c);
    if (!status && !c) {
        close_on(h.assoc, &h.interface, 1, &h.context);
        status = RPC_OUT_OF_MEMORY;
    }
    if (status) {
        dg_close(h.assoc);
        return fail(status);
    }
    *c = h;
    return c;
}

bool CloseCluster(HCLUSTER c)
{
    close_on(c->assoc, &c->interface, 1, &c->context);
    dg_close(c->assoc);
    free(c);
    return true;
}

uint32_t GetClusterInformation(HCLUSTER c, char name[CLUSTER_NAME_SIZE])
{
    char node[CLUSTER_NAME_SIZE];
    struct ndr_out in = {0};
    struct ndr_in out;
    struct dg_reply reply;
    uint32_t status = transact(c, 3, &in, &reply, &out);
    if (status)
        return done(status);
    get_string(&out, name);
    get_string(&out, node);
    return done(get_result(&c->interface, &out, &reply, false));
}

/* ---- lists ---- */

HCLUSENUM ClusterOpenEnum(HCLUSTER c, uint32_t types)
{
    struct ndr_out in = {0};
    struct ndr_in out;
    struct dg_reply reply;
    struct enum_list *list = NULL;
    ndr_put32(&in, types);
    uint32_t status = transact(c, 7, &in, &reply, &out);
    if (status)
        return fail(status);
    uint32_t n = ndr_get_pointer(&out) ? (ndr_get32(&out), ndr_get32(&out)) : 0;
    if (n > reply.len / 8) { /* an entry takes that much at least */
        dg_reply_free(&reply);
        return fail(RPC_PROTOCOL_ERROR);
    }
    list = calloc(1, sizeof *list + n * sizeof list->entry[0]);
    for (uint32_t i = 0; list && i < n; i++) {
        list->entry[i].type = ndr_get32(&out);
        ndr_get_pointer(&out);
    }
    for (uint32_t i = 0; list && i < n; i++)
        ndr_get_wstring(&out, list->entry[i].name, CLUSTER_NAME_SIZE);
    status = get_result(&c->interface, &out, &reply, true);
    if (list && !status) {
        list->count = n;
        return list;
    }
    free(list);
    return fail(status ? status : RPC_OUT_OF_MEMORY);
}

uint32_t ClusterGetEnumCount(HCLUSENUM list)
{
    return list->count;
}

uint32_t ClusterEnum(HCLUSENUM list, uint32_t index, uint32_t *type, char name[CLUSTER_NAME_SIZE])
{
    if (index >= list->count)
        return done(NO_MORE_ITEMS);
    *type = list->entry[index].type;
    memcpy(name, list->entry[index].name, CLUSTER_NAME_SIZE);
    return 0;
}

uint32_t ClusterCloseEnum(HCLUSENUM list)
{
    free(list);
    return 0;
}

/* ---- resources, groups, nodes ---- */

static struct object_handle *open_object(struct cluster_handle *c, uint16_t opnum, const char *name)
{
    struct object_handle *o = malloc(sizeof *o);
    uint32_t status = o ? open_on(c->assoc, &c->interface, opnum, name, true, &o->context)
                        : (uint32_t)RPC_OUT_OF_MEMORY;
    if (status) {
        free(o);
        return fail(status);
    }
    o->cluster = c;
    return o;
}

static bool close_object(struct object_handle *o, uint16_t opnum)
{
    uint32_t status = close_on(o->cluster->assoc, &o->cluster->interface, opnum, &o->context);
    free(o);
    return done(status) == 0;
}

/* A call with the handle alone; the rest of the answer is for the caller. */
static uint32_t ask_object(struct object_handle *o, uint16_t opnum, struct dg_reply *reply,
                           struct ndr_in *out)
{
    struct ndr_out in = {0};
    ndr_put_context(&in, &o->context);
    return transact(o->cluster, opnum, &in, reply, out);
}

HRESOURCE OpenClusterResource(HCLUSTER c, const char *name)
{
    return open_object(c, 8, name);
}

bool CloseClusterResource(HRESOURCE r)
{
    return close_object(r, 11);
}

int32_t GetClusterResourceState(HRESOURCE r, char node[CLUSTER_NAME_SIZE],
                                char group[CLUSTER_NAME_SIZE])
{
    struct ndr_in out;
    struct dg_reply reply;
    if (done(ask_object(r, 12, &reply, &out)))
        return -1;
    int32_t state = (int32_t)ndr_get32(&out);
    get_string(&out, node);
    get_string(&out, group);
    return done(get_result(&r->cluster->interface, &out, &reply, true)) ? -1 : state;
}

uint32_t GetClusterResourceType(HRESOURCE r, char type[CLUSTER_NAME_SIZE])
{
    struct ndr_in out;
    struct dg_reply reply;
    uint32_t status = ask_object(r, 15, &reply, &out);
    if (status)
        return done(status);
    get_string(&out, type);
    return done(get_result(&r->cluster->interface, &out, &reply, true));
}

static uint32_t command(struct object_handle *o, uint16_t opnum)
{
    struct ndr_in out;
    struct dg_reply reply;
    uint32_t status = ask_object(o, opnum, &reply, &out);
    return done(status ? status : get_result(&o->cluster->interface, &out, &reply, true));
}

uint32_t OnlineClusterResource(HRESOURCE r)
{
    return command(r, 17);
}

uint32_t OfflineClusterResource(HRESOURCE r)
{
    return command(r, 18);
}

HGROUP OpenClusterGroup(HCLUSTER c, const char *name)
{
    return open_object(c, 41, name);
}

bool CloseClusterGroup(HGROUP g)
{
    return close_object(g, 44);
}

int32_t GetClusterGroupState(HGROUP g, char node[CLUSTER_NAME_SIZE])
{
    struct ndr_in out;
    struct dg_reply reply;
    if (done(ask_object(g, 45, &reply, &out)))
        return -1;
    int32_t state = (int32_t)ndr_get32(&out);
    get_string(&out, node);
    return done(get_result(&g->cluster->interface, &out, &reply, true)) ? -1 : state;
}

uint32_t MoveClusterGroup(HGROUP g, HNODE to)
{
    struct ndr_out in = {0};
    struct ndr_in out;
    struct dg_reply reply;
    ndr_put_context(&in, &g->context);
    ndr_put_context(&in, &to->context);
    uint32_t status = transact(g->cluster, 52, &in, &reply, &out);
    return done(status ? status : get_result(&g->cluster->interface, &out, &reply, true));
}

HNODE OpenClusterNode(HCLUSTER c, const char *name)
{
    return open_object(c, 66, name);
}

bool CloseClusterNode(HNODE n)
{
    return close_object(n, 67);
}

int32_t GetClusterNodeState(HNODE n)
{
    struct ndr_in out;
    struct dg_reply reply;
    if (done(ask_object(n, 68, &reply, &out)))
        return -1;
    int32_t state = (int32_t)ndr_get32(&out);
    return done(get_result(&n->cluster->interface, &out, &reply, true)) ? -1 : state;
}

/* ---- events ---- */

HCHANGE CreateClusterNotifyPort(HCLUSTER c, uint32_t filter, uint32_t key)
{
    struct ndr_out in = {0};
    struct ndr_in out;
    struct dg_reply reply;
    struct change_port *p = calloc(1, sizeof *p);
    uint32_t status =
        p ? (uint32_t)dg_open(&p->assoc, c->address, c->port) : (uint32_t)RPC_OUT_OF_MEMORY;
    if (!status)
        status = open_on(p->assoc, &c->interface, 55, NULL, true, &p->context);
    if (!status) {
        p->cluster = c;
        ndr_put_context(&in, &p->context);
        ndr_put_context(&in, &c->context);
        ndr_put32(&in, filter);
        ndr_put32(&in, key);
        status = transact(c, 57, &in, &reply, &out);
        if (!status)
            status = get_result(&c->interface, &out, &reply, true);
    }
    if (!status)
        return p;
    if (p)
        dg_close(p->assoc);
    free(p);
    return fail(status);
}

uint32_t GetClusterNotify(HCHANGE p, uint32_t *key, uint32_t *filter, char name[CLUSTER_NAME_SIZE],
                          int64_t timeout_ms)
{
    struct ndr_out in = {0};
    struct ndr_in out;
    struct dg_reply reply;
    ndr_put_context(&in, &p->context);
    uint32_t status =
        transact_on(p->assoc, &p->cluster->interface, 65, timeout_ms, &in, &reply, &out);
    if (status)
        return done(status == RPC_CALL_CANCELLED ? (uint32_t)RPC_WAIT_TIMEOUT : status);
    *key = ndr_get32(&out);
    *filter = ndr_get32(&out);
    ndr_get32(&out); /* state sequence */
    get_string(&out, name);
    return done(get_result(&p->cluster->interface, &out, &reply, true));
}

/* As published: first whoever waits at the port is let go, then it is closed. */
bool CloseClusterNotifyPort(HCHANGE p)
{
    struct ndr_out in = {0};
    struct ndr_in out;
    struct dg_reply reply;
    ndr_put_context(&in, &p->context);
    uint32_t status = transact(p->cluster, 107, &in, &reply, &out);
    dg_reply_free(&reply);
    uint32_t closed = close_on(p->assoc, &p->cluster->interface, 56, &p->context);
    dg_close(p->assoc);
    free(p);
    return done(status ? status : closed) == 0;
}
