/* SPDX-License-Identifier: Apache-2.0 */
/* The cluster that clussvc manages: nodes, groups that live on a node, resources in groups, and the
 * ports at which clients wait for events. Everything is in memory; going online or offline takes
 * the pending time. Start: cluster_build. */
#ifndef CLUSSVC_CLUSTER_H
#define CLUSSVC_CLUSTER_H

#include "../dg/server.h"

enum { NAME_SIZE = 80, NODES = 2 };

/* Public values of the Cluster API. */
enum resource_state {
    RESOURCE_ONLINE = 2,
    RESOURCE_OFFLINE = 3,
    RESOURCE_ONLINE_PENDING = 129,
    RESOURCE_OFFLINE_PENDING = 130
};
enum group_state { GROUP_ONLINE = 0, GROUP_OFFLINE = 1, GROUP_PARTIAL = 3, GROUP_PENDING = 4 };
enum {
    CHANGE_RESOURCE_STATE = 0x100,
    CHANGE_GROUP_STATE = 0x1000,
    CHANGE_HANDLE_CLOSE = 0x80000000
};
enum object_type { OBJECT_NODE = 1, OBJECT_RESTYPE = 2, OBJECT_RESOURCE = 4, OBJECT_GROUP = 8 };

struct node {
    char name[NAME_SIZE];
};

struct group {
    char name[NAME_SIZE];
    struct node *owner;
};

struct resource {
    char name[NAME_SIZE];
    const char *type;
    char guid[40];
    struct group *group;
    uint32_t state;
    int64_t settles; /* when a pending state ends; 0 = it is not pending */
};

struct cluster {
    const char *name;
    struct node node[NODES];
    struct group *group;
    size_t groups;
    struct resource *resource;
    size_t resources;
    const char *const *type;
    size_t types;
    int64_t pending_ms;
    uint32_t sequence; /* of state changes */
};

extern struct cluster cluster;

/* A small cluster with the MSDTC resource and this many further resources. Negative errno. */
int cluster_build(size_t further);
void cluster_free(void);
struct node *cluster_node(const char *name);
struct group *cluster_group(const char *name);
struct resource *cluster_resource(const char *name);
uint32_t cluster_group_state(const struct group *g);
/* 0, or ERROR_IO_PENDING (997). */
uint32_t cluster_set_online(struct resource *r, bool online);
uint32_t cluster_move(struct group *g, struct node *to);

/* ---- event ports ---- */

struct notify; /* one of a client */
struct notify *notify_new(void);
void notify_free(struct notify *n);
void notify_want(struct notify *n, uint32_t filter, uint32_t key);
/* Waits with a deferred call for the next event, or answers it at once; see api.c. */
int notify_get(struct notify *n, struct dg_incoming *call);
/* Ends a wait without an event. */
void notify_unblock(struct notify *n);
void notify_forget(struct notify *n);
void notify_post(uint32_t filter, const char *name);

/* The answer of GetNotify, from api.c. */
struct event {
    uint32_t key, filter, sequence;
    char name[NAME_SIZE];
};
void api_put_event(struct dg_incoming *call, const struct event *e, uint32_t result);

extern const struct dg_service clusapi_v2, clusapi_v3;

#endif
