/* SPDX-License-Identifier: Apache-2.0 */
/* The server's end: one UDP endpoint, one thread, an epoll loop. Every client activity has a record
 * with its last sequence number, so that a call is executed at most once; a non-idempotent call of
 * an activity that is not known yet is held until its client has said who it is. Calls may be
 * completed later. Context handles belong to a client's address space and are run down when its
 * keep-alives stop. Start: dg_server_open, dg_server_run. */
#ifndef RPC_DG_SERVER_H
#define RPC_DG_SERVER_H

#include "ndr.h"
#include "timing.h"

#include <netinet/in.h>

/* Something with an fd in the server's loop. */
struct dg_watch {
    int fd;
    void (*ready)(struct dg_watch *w);
};

struct dg_activity; /* private: a client's thread as the server knows it */
struct dg_cas;      /* private: a client's address space, with its open contexts */

/* A call being executed. */
struct dg_incoming {
    struct dg_activity *activity;
    struct dg_cas *cas; /* NULL for calls that needed no callback */
    uint16_t opnum;
    uint32_t version;
    struct ndr_in in;
    struct ndr_out out;
    void *deferred; /* the service's own, for a call it completes later */
};

enum { DG_DEFER = -1 };

struct dg_service {
    const struct rpc_interface *interface; /* version: the major one; minor ones are not compared */
    uint16_t ops;
    /* True for operations that may run without knowing the client. */
    bool (*idempotent)(uint16_t opnum);
    /* Executes: 0 (out filled), a fault status, or DG_DEFER; then dg_complete follows. */
    int (*execute)(struct dg_incoming *call);
    /* A deferred call is not wanted any more (cancelled, orphaned or the client is gone): forget
     * call->deferred, complete nothing. */
    void (*forget)(struct dg_incoming *call);
};

struct dg_server_options {
    uint32_t address;                         /* host byte order */
    uint16_t port;                            /* 0 takes a free one */
    const struct dg_service *const *services; /* ends with NULL */
    size_t max_calls; /* held or executing at once; more are rejected as too busy; 0 = no bound */
    bool amnesia;     /* loses all state after every callback, as if it crashed and came back */
};

/* 0 or a negative errno. One server in a process. */
int dg_server_open(const struct dg_server_options *options);
uint16_t dg_server_port(void);
int dg_server_watch(struct dg_watch *w);
void dg_server_unwatch(struct dg_watch *w);
/* Calls back once, at or after `at` (dg_now); a later call replaces an earlier one, 0 cancels. */
void dg_server_timer(int64_t at, void (*expired)(void));
void dg_server_run(void);
void dg_server_stop(void);
/* Frees everything, contexts included. */
void dg_server_close(void);

/* Completes a deferred call: 0 or a fault status. */
void dg_complete(struct dg_incoming *call, uint32_t fault);

/* ---- context handles ---- */

struct dg_context_type {
    const char *name;
    void (*rundown)(void *object); /* the client is gone */
};

/* A new handle of a client for an object; nil without memory or when the call has no client. */
struct rpc_context dg_context_new(struct dg_cas *cas, const struct dg_context_type *type,
                                  void *object);
/* The object, or NULL when the handle is not this client's or of another type. */
void *dg_context_find(const struct dg_cas *cas, const struct rpc_context *c,
                      const struct dg_context_type *type);
/* The handle is no more; its object is the caller's again. NULL as above. */
void *dg_context_close(struct dg_cas *cas, const struct rpc_context *c,
                       const struct dg_context_type *type);

/* What a client address space has: for dg/server.c and dg/context.c. */
struct dg_cas *dg_cas_get(const struct rpc_uuid *uuid);
void dg_cas_alive(const struct rpc_uuid *uuid, int64_t now);
void dg_cas_use(struct dg_cas *cas, int change);
void dg_cas_scan(int64_t now);
void dg_cas_forget_all(void);

struct dg_server_counters {
    uint64_t calls, executed, duplicates, callbacks, rejects, faults, rundowns, activities,
        contexts;
};
extern struct dg_server_counters dg_server_counters;

#endif
