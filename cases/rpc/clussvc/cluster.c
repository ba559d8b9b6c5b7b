/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes, groups, resources; see cluster.h. */
#include "cluster.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum { IO_PENDING = 997, GROUPS = 2, FIXED = 4 };

static const char *const types[] = {"IP Address", "Network Name", "Physical Disk",
                                    "Distributed Transaction Coordinator", "Generic Service"};
static const struct {
    const char *name;
    size_t type, group;
} fixed[FIXED] = {
    {"Cluster IP Address", 0, 0}, {"Cluster Name", 1, 0}, {"Disk Q:", 2, 0}, {"MSDTC", 3, 1}};

struct cluster cluster = {
    .name = "CLUSTER", .type = types, .types = sizeof types / sizeof types[0]};

static void resource_init(struct resource *r, const char *type, struct group *g)
{
    struct rpc_uuid u = rpc_uuid_new();
    r->type = type;
    r->group = g;
    r->state = RESOURCE_ONLINE;
    snprintf(r->guid, sizeof r->guid, "%08x-%04x-%04x-%02x%02x-%02x%02x%02x%02x%02x%02x", u.low,
             u.mid, u.high, u.rest[0], u.rest[1], u.rest[2], u.rest[3], u.rest[4], u.rest[5],
             u.rest[6], u.rest[7]);
}

int cluster_build(size_t further)
{
    cluster.group = calloc(GROUPS, sizeof *cluster.group);
    cluster.resource = calloc(FIXED + further, sizeof *cluster.resource);
    if (!cluster.group || !cluster.resource)
        return -ENOMEM;
    cluster.groups = GROUPS;
    cluster.resources = FIXED + further;
    for (size_t i = 0; i < NODES; i++)
        snprintf(cluster.node[i].name, NAME_SIZE, "NODE%zu", i + 1);
    snprintf(cluster.group[0].name, NAME_SIZE, "Cluster Group");
    snprintf(cluster.group[1].name, NAME_SIZE, "MSDTC Group");
    for (size_t i = 0; i < GROUPS; i++)
        cluster.group[i].owner = &cluster.node[0];
    for (size_t i = 0; i < cluster.resources; i++) {
        struct resource *r = &cluster.resource[i];
        bool is_fixed = i < FIXED;
        resource_init(r, types[is_fixed ? fixed[i].type : 4],
                      &cluster.group[is_fixed ? fixed[i].group : 0]);
        if (is_fixed)
            snprintf(r->name, NAME_SIZE, "%s", fixed[i].name);
        else
            snprintf(r->name, NAME_SIZE, "Service %zu", i - FIXED + 1);
    }
    return 0;
}

void cluster_free(void)
{
    free(cluster.group);
    free(cluster.resource);
}

struct node *cluster_node(const char *name)
{
    for (size_t i = 0; i < NODES; i++)
        if (strcasecmp(cluster.node[i].name, name) == 0)
            return &cluster.node[i];
    return NULL;
}

struct group *cluster_group(const char *name)
{
    for (size_t i = 0; i < cluster.groups; i++)
        if (strcasecmp(cluster.group[i].name, name) == 0)
            return &cluster.group[i];
    return NULL;
}

struct resource *cluster_resource(const char *name)
{
    for (size_t i = 0; i < cluster.resources; i++)
        if (strcasecmp(cluster.resource[i].name, name) == 0)
            return &cluster.resource[i];
    return NULL;
}

uint32_t cluster_group_state(const struct group *g)
{
    size_t online = 0, all = 0;
    for (size_t i = 0; i < cluster.resources; i++) {
        const struct resource *r = &cluster.resource[i];
        if (r->group != g)
            continue;
        if (r->settles)
            return GROUP_PENDING;
        all++;
        online += r->state == RESOURCE_ONLINE;
    }
    return online == all ? GROUP_ONLINE : online ? GROUP_PARTIAL : GROUP_OFFLINE;
}

static void settle(void)
{
    int64_t now = dg_now(), next = 0;
    for (size_t i = 0; i < cluster.resources; i++) {
        struct resource *r = &cluster.resource[i];
        if (r->settles && now >= r->settles) {
            r->settles = 0;
            r->state = r->state == RESOURCE_ONLINE_PENDING ? RESOURCE_ONLINE : RESOURCE_OFFLINE;
            notify_post(CHANGE_RESOURCE_STATE, r->name);
            notify_post(CHANGE_GROUP_STATE, r->group->name);
        } else if (r->settles && (!next || r->settles < next)) {
            next = r->settles;
        }
    }
    dg_server_timer(next, settle);
}

uint32_t cluster_set_online(struct resource *r, bool online)
{
    if (r->settles)
        return IO_PENDING;
    if (r->state == (online ? RESOURCE_ONLINE : RESOURCE_OFFLINE))
        return 0;
    r->state = online ? RESOURCE_ONLINE_PENDING : RESOURCE_OFFLINE_PENDING;
    r->settles = dg_now() + cluster.pending_ms;
    bool now = cluster.pending_ms == 0;
    if (!now)
        notify_post(CHANGE_RESOURCE_STATE, r->name);
    settle();
    return now ? 0 : IO_PENDING;
}

uint32_t cluster_move(struct group *g, struct node *to)
{
    g->owner = to;
    notify_post(CHANGE_GROUP_STATE, g->name);
    return 0;
}
