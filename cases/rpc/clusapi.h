/* SPDX-License-Identifier: Apache-2.0 */
/* A part of the Cluster API, with its published names, over datagram RPC. Functions that return a
 * number return 0 or an error; those that return a handle return NULL and leave the error in
 * ClusterLastError, as does OpenCluster. Names are ASCII. Thread-safe per handle.
 * Start: OpenCluster. */
#ifndef RPC_CLUSAPI_H
#define RPC_CLUSAPI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct cluster_handle *HCLUSTER;
typedef struct object_handle *HRESOURCE, *HGROUP, *HNODE;
typedef struct enum_list *HCLUSENUM;
typedef struct change_port *HCHANGE;

enum {
    CLUSTER_ENUM_NODE = 1,
    CLUSTER_ENUM_RESTYPE = 2,
    CLUSTER_ENUM_RESOURCE = 4,
    CLUSTER_ENUM_GROUP = 8,
    CLUSTER_CHANGE_RESOURCE_STATE = 0x100,
    CLUSTER_CHANGE_GROUP_STATE = 0x1000,
    CLUSTER_NAME_SIZE = 80, /* room for any name */
};

/* "ADDRESS" asks the endpoint mapper there (UDP port 135, or $RPC_EPM_PORT); "ADDRESS[PORT]" does
 * not. ADDRESS is dotted or "localhost". $RPC_CLUSAPI_VERSION is 2 or 3 (3). */
HCLUSTER OpenCluster(const char *name);
bool CloseCluster(HCLUSTER cluster);
uint32_t GetClusterInformation(HCLUSTER cluster, char name[CLUSTER_NAME_SIZE]);

HCLUSENUM ClusterOpenEnum(HCLUSTER cluster, uint32_t types);
uint32_t ClusterGetEnumCount(HCLUSENUM list);
uint32_t ClusterEnum(HCLUSENUM list, uint32_t index, uint32_t *type, char name[CLUSTER_NAME_SIZE]);
uint32_t ClusterCloseEnum(HCLUSENUM list);

HRESOURCE OpenClusterResource(HCLUSTER cluster, const char *name);
bool CloseClusterResource(HRESOURCE resource);
/* 0 and the state (-1 = unknown on error, as the published function returns it). */
int32_t GetClusterResourceState(HRESOURCE resource, char node[CLUSTER_NAME_SIZE],
                                char group[CLUSTER_NAME_SIZE]);
uint32_t GetClusterResourceType(HRESOURCE resource, char type[CLUSTER_NAME_SIZE]);
uint32_t OnlineClusterResource(HRESOURCE resource);
uint32_t OfflineClusterResource(HRESOURCE resource);

HGROUP OpenClusterGroup(HCLUSTER cluster, const char *name);
bool CloseClusterGroup(HGROUP group);
int32_t GetClusterGroupState(HGROUP group, char node[CLUSTER_NAME_SIZE]);
uint32_t MoveClusterGroup(HGROUP group, HNODE node);

HNODE OpenClusterNode(HCLUSTER cluster, const char *name);
bool CloseClusterNode(HNODE node);
int32_t GetClusterNodeState(HNODE node);

/* An event port has an association, and so a local port, of its own: a wait takes long. */
HCHANGE CreateClusterNotifyPort(HCLUSTER cluster, uint32_t filter, uint32_t key);
/* Waits for the next event; 258 when none came in time. */
uint32_t GetClusterNotify(HCHANGE port, uint32_t *key, uint32_t *filter,
                          char name[CLUSTER_NAME_SIZE], int64_t timeout_ms);
bool CloseClusterNotifyPort(HCHANGE port);

/* Of the last function that failed in this thread. */
uint32_t ClusterLastError(void);

#endif
