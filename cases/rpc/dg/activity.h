/* SPDX-License-Identifier: Apache-2.0 */
/* The activities of the server's clients: a table by their number, a list of those with a due time,
 * and what is sent to them, which the activity's serial and state are part of. For dg/server.c,
 * which decides what happens. Start: dg_activity_set. */
#ifndef RPC_DG_ACTIVITY_H
#define RPC_DG_ACTIVITY_H

#include "server.h"
#include "xfer.h"

enum dg_activity_state {
    RECEIVING, /* the request is not complete */
    ASKING,    /* its client is being asked who it is */
    EXECUTING, /* deferred by the service */
    ANSWERED,  /* the answer is kept until it is acknowledged */
    DONE,      /* only the sequence number is kept */
};

struct dg_activity {
    struct dg_activity *next;       /* in its bucket */
    struct dg_activity *live, **at; /* in the list of those with a due time */
    struct rpc_uuid uuid;
    struct sockaddr_in from;
    bool verified; /* the client has said who it is */
    enum dg_activity_state state;
    struct dg_header request; /* of the current call */
    const struct dg_service *service;
    struct dg_receive receive;
    uint8_t *in_data;
    struct dg_incoming call;
    uint8_t refusal[4];
    struct dg_send answer; /* its serial counts for all that is sent on this activity */
    struct dg_cas *cas;
    int64_t due, wait, used;
    struct { /* the callback */
        struct dg_header h;
        int64_t since;
    } ask;
};

/* What is one in a process: the endpoint, its boot time, the activities with a due time, and how
 * many calls are held or executing. */
extern struct dg_server {
    int udp_fd;
    uint32_t boot;
    struct dg_activity *live;
    size_t running;
} dg_server;

struct dg_activity *dg_activity_find(const struct rpc_uuid *uuid);
/* A client's, which the request of that number is the first of; NULL: no memory. */
struct dg_activity *dg_activity_new(const struct rpc_uuid *uuid, uint32_t seq);
/* When it is looked at again; 0: not. */
void dg_activity_due(struct dg_activity *a, int64_t due);
/* Its call is in another state from now on, with nothing due. */
void dg_activity_set(struct dg_activity *a, enum dg_activity_state state);
/* Whether its call is held or executing. */
bool dg_activity_runs(const struct dg_activity *a);
/* Frees whatever belongs to the current call, which is over. */
void dg_activity_clear(struct dg_activity *a);
/* Frees those that were last used before, and do not run; INT64_MAX: all. */
void dg_activity_forget(int64_t used_before);

struct dg_path dg_answer_path(const struct sockaddr_in *to);
/* To somebody that has no activity here. */
void dg_answer_stateless(const struct dg_header *from_client, const struct sockaddr_in *to,
                         uint8_t ptype, uint32_t status, uint32_t boot_shown);
void dg_answer_control(struct dg_activity *a, uint8_t ptype, const void *body, size_t n);
/* Which parts of the request are here. */
void dg_answer_report(struct dg_activity *a, uint8_t ptype, uint16_t serial);
/* Sends the answer of a call and keeps it; a rejection or fault with that status. */
void dg_answer(struct dg_activity *a, uint8_t ptype, const uint8_t *body, size_t n);
void dg_refuse(struct dg_activity *a, uint8_t ptype, uint32_t status);

#endif
