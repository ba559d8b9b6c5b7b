/* SPDX-License-Identifier: Apache-2.0 */
/* The operations of the cluster API interface, version 2 and 3 ([MS-CMRP]): numbers and parameters
 * are the published ones; version 3 adds rpc_status before the return value of most. Each operation
 * reads its parameters, does its work and writes the results in order. Start: execute. */
#include "cluster.h"

#include <string.h>

enum {
    OPEN_CLUSTER = 0,
    CLOSE_CLUSTER = 1,
    GET_CLUSTER_NAME = 3,
    CREATE_ENUM = 7,
    OPEN_RESOURCE = 8,
    CLOSE_RESOURCE = 11,
    GET_RESOURCE_STATE = 12,
    GET_RESOURCE_ID = 14,
    GET_RESOURCE_TYPE = 15,
    ONLINE_RESOURCE = 17,
    OFFLINE_RESOURCE = 18,
    OPEN_GROUP = 41,
    CLOSE_GROUP = 44,
    GET_GROUP_STATE = 45,
    MOVE_GROUP_TO_NODE = 52,
    CREATE_NOTIFY = 55,
    CLOSE_NOTIFY = 56,
    ADD_NOTIFY_CLUSTER = 57,
    GET_NOTIFY = 65,
    OPEN_NODE = 66,
    CLOSE_NODE = 67,
    GET_NODE_STATE = 68,
    UNBLOCK_GET_NOTIFY = 107,
    OPERATIONS
};

enum {
    OUT_OF_MEMORY = 14,
    RESOURCE_NOT_FOUND = 5007,
    GROUP_NOT_FOUND = 5013,
    NODE_NOT_FOUND = 5042
};

static void nothing_to_run_down(void *object)
{
    (void)object;
}

static void notify_rundown(void *object)
{
    notify_free(object);
}

static const struct dg_context_type hcluster = {"HCLUSTER", nothing_to_run_down},
                                    hresource = {"HRES", nothing_to_run_down},
                                    hgroup = {"HGROUP", nothing_to_run_down},
                                    hnode = {"HNODE", nothing_to_run_down},
                                    hnotify = {"HNOTIFY", notify_rundown};

/* The end of an operation: [rpc_status,] return value. */
static int end(struct dg_incoming *c, uint32_t result)
{
    if ((uint16_t)c->version >= 3)
        ndr_put32(&c->out, 0);
    ndr_put32(&c->out, result);
    return 0;
}

/* An unique pointer with the string it points to. */
static void put_string(struct dg_incoming *c, const char *text)
{
    ndr_put_pointer(&c->out, true);
    ndr_put_wstring(&c->out, text);
    ndr_align(&c->out, 4);
}

static void *get_object(struct dg_incoming *c, const struct dg_context_type *type)
{
    struct rpc_context handle = ndr_get_context(&c->in);
    return dg_context_find(c->cas, &handle, type);
}

/* Open operations: Status, [rpc_status,] handle. */
static int put_open(struct dg_incoming *c, const struct dg_context_type *type, void *object,
                    uint32_t otherwise, bool has_rpc_status)
{
    struct rpc_context handle = {0};
    uint32_t status = otherwise;
    if (object) {
        handle = dg_context_new(c->cas, type, object);
        status = rpc_uuid_is_nil(&handle.uuid) ? OUT_OF_MEMORY : 0;
        if (status)
            type->rundown(object);
    }
    ndr_put32(&c->out, status);
    if (has_rpc_status && (uint16_t)c->version >= 3)
        ndr_put32(&c->out, 0);
    ndr_put_context(&c->out, &handle);
    return 0;
}

/* Close operations: the handle comes back nil. */
static int close_handle(struct dg_incoming *c, const struct dg_context_type *type, void **object)
{
    struct rpc_context handle = ndr_get_context(&c->in), none = {0};
    *object = dg_context_close(c->cas, &handle, type);
    if (!*object)
        return NCA_FAULT_CONTEXT_MISMATCH;
    ndr_put_context(&c->out, &none);
    ndr_put32(&c->out, 0);
    return 0;
}

static int open_cluster(struct dg_incoming *c)
{
    return put_open(c, &hcluster, &cluster, 0, false);
}

static int close_cluster(struct dg_incoming *c)
{
    void *object;
    return close_handle(c, &hcluster, &object);
}

static int get_cluster_name(struct dg_incoming *c)
{
    put_string(c, cluster.name);
    put_string(c, cluster.node[0].name);
    ndr_put32(&c->out, 0);
    return 0;
}

/* Calls visit for every object of the types asked for, in order. */
static void each_object(uint32_t types, void (*visit)(struct dg_incoming *, uint32_t, const char *),
                        struct dg_incoming *c)
{
    for (size_t i = 0; (types & OBJECT_NODE) && i < NODES; i++)
        visit(c, OBJECT_NODE, cluster.node[i].name);
    for (size_t i = 0; (types & OBJECT_RESTYPE) && i < cluster.types; i++)
        visit(c, OBJECT_RESTYPE, cluster.type[i]);
    for (size_t i = 0; (types & OBJECT_RESOURCE) && i < cluster.resources; i++)
        visit(c, OBJECT_RESOURCE, cluster.resource[i].name);
    for (size_t i = 0; (types & OBJECT_GROUP) && i < cluster.groups; i++)
        visit(c, OBJECT_GROUP, cluster.group[i].name);
}

static void put_entry(struct dg_incoming *c, uint32_t type, const char *name)
{
    (void)name;
    ndr_put32(&c->out, type);
    ndr_put_pointer(&c->out, true);
}

static void put_name(struct dg_incoming *c, uint32_t type, const char *name)
{
    (void)type;
    ndr_put_wstring(&c->out, name);
    ndr_align(&c->out, 4);
}

static int create_enum(struct dg_incoming *c)
{
    uint32_t types = ndr_get32(&c->in), known = 0;
    if (c->in.failed)
        return NCA_PROTO_ERROR;
    known += types & OBJECT_NODE ? NODES : 0;
    known += types & OBJECT_RESTYPE ? (uint32_t)cluster.types : 0;
    known += types & OBJECT_RESOURCE ? (uint32_t)cluster.resources : 0;
    known += types & OBJECT_GROUP ? (uint32_t)cluster.groups : 0;
    ndr_put_pointer(&c->out, true);
    ndr_put32(&c->out, known); /* array bound, then the member that says the same */
    ndr_put32(&c->out, known);
    each_object(types, put_entry, c);
    each_object(types, put_name, c);
    return end(c, 0);
}

static int open_resource(struct dg_incoming *c)
{
    char name[NAME_SIZE];
    ndr_get_wstring(&c->in, name, sizeof name);
    return put_open(c, &hresource, cluster_resource(name), RESOURCE_NOT_FOUND, true);
}

static int close_resource(struct dg_incoming *c)
{
    void *object;
    return close_handle(c, &hresource, &object);
}

static int get_resource_state(struct dg_incoming *c)
{
    const struct resource *r = get_object(c, &hresource);
    if (!r)
        return NCA_FAULT_CONTEXT_MISMATCH;
    ndr_put32(&c->out, r->state);
    put_string(c, r->group->owner->name);
    put_string(c, r->group->name);
    return end(c, 0);
}

static int get_resource_id(struct dg_incoming *c)
{
    const struct resource *r = get_object(c, &hresource);
    if (!r)
        return NCA_FAULT_CONTEXT_MISMATCH;
    put_string(c, r->guid);
    return end(c, 0);
}

static int get_resource_type(struct dg_incoming *c)
{
    const struct resource *r = get_object(c, &hresource);
    if (!r)
        return NCA_FAULT_CONTEXT_MISMATCH;
    put_string(c, r->type);
    return end(c, 0);
}

static int set_online(struct dg_incoming *c, bool online)
{
    struct resource *r = get_object(c, &hresource);
    return r ? end(c, cluster_set_online(r, online)) : NCA_FAULT_CONTEXT_MISMATCH;
}

static int online_resource(struct dg_incoming *c)
{
    return set_online(c, true);
}

static int offline_resource(struct dg_incoming *c)
{
    return set_online(c, false);
}

static int open_group(struct dg_incoming *c)
{
    char name[NAME_SIZE];
    ndr_get_wstring(&c->in, name, sizeof name);
    return put_open(c, &hgroup, cluster_group(name), GROUP_NOT_FOUND, true);
}

static int close_group(struct dg_incoming *c)
{
    void *object;
    return close_handle(c, &hgroup, &object);
}

static int get_group_state(struct dg_incoming *c)
{
    const struct group *g = get_object(c, &hgroup);
    if (!g)
        return NCA_FAULT_CONTEXT_MISMATCH;
    ndr_put32(&c->out, cluster_group_state(g));
    put_string(c, g->owner->name);
    return end(c, 0);
}

static int move_group_to_node(struct dg_incoming *c)
{
    struct group *g = get_object(c, &hgroup);
    struct node *to = get_object(c, &hnode);
    return g && to ? end(c, cluster_move(g, to)) : NCA_FAULT_CONTEXT_MISMATCH;
}

static int open_node(struct dg_incoming *c)
{
    char name[NAME_SIZE];
    ndr_get_wstring(&c->in, name, sizeof name);
    return put_open(c, &hnode, cluster_node(name), NODE_NOT_FOUND, true);
}

static int close_node(struct dg_incoming *c)
{
    void *object;
    return close_handle(c, &hnode, &object);
}

static int get_node_state(struct dg_incoming *c)
{
    if (!get_object(c, &hnode))
        return NCA_FAULT_CONTEXT_MISMATCH;
    ndr_put32(&c->out, 0); /* up: this process is the only node that runs */
    return end(c, 0);
}

static int create_notify(struct dg_incoming *c)
{
    return put_open(c, &hnotify, notify_new(), OUT_OF_MEMORY, true);
}

static int close_notify(struct dg_incoming *c)
{
    void *object;
    int result = close_handle(c, &hnotify, &object);
    if (object)
        notify_free(object);
    return result;
}

static int add_notify_cluster(struct dg_incoming *c)
{
    struct notify *n = get_object(c, &hnotify);
    if (!n || !get_object(c, &hcluster))
        return NCA_FAULT_CONTEXT_MISMATCH;
    uint32_t filter = ndr_get32(&c->in), key = ndr_get32(&c->in);
    notify_want(n, filter, key);
    return end(c, 0);
}

static int get_notify(struct dg_incoming *c)
{
    struct notify *n = get_object(c, &hnotify);
    return n ? notify_get(n, c) : NCA_FAULT_CONTEXT_MISMATCH;
}

void api_put_event(struct dg_incoming *c, const struct event *e, uint32_t result)
{
    ndr_put32(&c->out, e->key);
    ndr_put32(&c->out, e->filter);
    ndr_put32(&c->out, e->sequence);
    put_string(c, e->name);
    end(c, result);
}

static int unblock_get_notify(struct dg_incoming *c)
{
    struct notify *n = get_object(c, &hnotify);
    if (!n)
        return NCA_FAULT_CONTEXT_MISMATCH;
    notify_unblock(n);
    ndr_put32(&c->out, 0);
    return 0;
}

static int (*const operation[OPERATIONS])(struct dg_incoming *) = {
    [OPEN_CLUSTER] = open_cluster,
    [CLOSE_CLUSTER] = close_cluster,
    [GET_CLUSTER_NAME] = get_cluster_name,
    [CREATE_ENUM] = create_enum,
    [OPEN_RESOURCE] = open_resource,
    [CLOSE_RESOURCE] = close_resource,
    [GET_RESOURCE_STATE] = get_resource_state,
    [GET_RESOURCE_ID] = get_resource_id,
    [GET_RESOURCE_TYPE] = get_resource_type,
    [ONLINE_RESOURCE] = online_resource,
    [OFFLINE_RESOURCE] = offline_resource,
    [OPEN_GROUP] = open_group,
    [CLOSE_GROUP] = close_group,
    [GET_GROUP_STATE] = get_group_state,
    [MOVE_GROUP_TO_NODE] = move_group_to_node,
    [CREATE_NOTIFY] = create_notify,
    [CLOSE_NOTIFY] = close_notify,
    [ADD_NOTIFY_CLUSTER] = add_notify_cluster,
    [GET_NOTIFY] = get_notify,
    [OPEN_NODE] = open_node,
    [CLOSE_NODE] = close_node,
    [GET_NODE_STATE] = get_node_state,
    [UNBLOCK_GET_NOTIFY] = unblock_get_notify,
};

static int execute(struct dg_incoming *call)
{
    return operation[call->opnum] ? operation[call->opnum](call) : NCA_OP_RNG_ERROR;
}

static void forget(struct dg_incoming *call)
{
    if (call->deferred)
        notify_forget(call->deferred);
    call->deferred = NULL;
}

static const struct rpc_interface version2 = {
    {0xb97db8b2, 0x4c63, 0x11cf, {0xbf, 0xf6, 0x08, 0x00, 0x2b, 0xe2, 0x3f, 0x2f}}, 2};

const struct dg_service clusapi_v2 = {
    .interface = &version2, .ops = OPERATIONS, .execute = execute, .forget = forget};
const struct dg_service clusapi_v3 = {
    .interface = &rpc_clusapi, .ops = OPERATIONS, .execute = execute, .forget = forget};
