/* SPDX-License-Identifier: Apache-2.0 */
/* The client's end: an association is a socket on a port of its own, connected to one server, with
 * one activity and so one call at a time. As the server calls back (who are you?) it is a server
 * too, for which the thread that waits in a call or, between calls, one thread of the runtime
 * answers; that thread also acknowledges, keeps context handles alive and recycles ports.
 * Thread-safe. Start: dg_open, dg_call, dg_close. */
#ifndef RPC_DG_ASSOC_H
#define RPC_DG_ASSOC_H

#include "ndr.h"
#include "status.h"

#include <stdbool.h>

struct dg_assoc;

/* Call flags are DG_IDEMPOTENT, DG_MAYBE and DG_BROADCAST of pdu.h. */
struct dg_reply {
    uint8_t *data; /* malloc; dg_reply_free */
    size_t len;
    bool little;
    uint32_t nca; /* what a fault or reject said */
};

/* Opens an association to a UDP endpoint (host byte order). An RPC status. */
int dg_open(struct dg_assoc **out, uint32_t address, uint16_t port);
/* Turns it to another endpoint of the same port of ours, as after asking an endpoint mapper. */
int dg_retarget(struct dg_assoc *a, uint32_t address, uint16_t port);
/* One call. With DG_MAYBE nothing comes back. cancel_ms >= 0: cancelled after that time. An RPC
 * status; reply is filled when it is RPC_OK, and reply->nca when a fault or reject was the answer.
 */
int dg_call(struct dg_assoc *a, const struct rpc_interface *i, uint16_t opnum, uint8_t flags,
            int64_t cancel_ms, const struct ndr_out *in, struct dg_reply *reply);
/* How many context handles are open on it: while there are any it sends keep-alives. */
void dg_hold_context(struct dg_assoc *a, int change);
void dg_close(struct dg_assoc *a);

void dg_reply_free(struct dg_reply *r);
/* How long the calls of this process wait for any answer, from now on; 0 = the default. */
void dg_set_com_timeout(int64_t ms);
/* Starts the runtime's thread, which dg_open does otherwise. An RPC status. */
int dg_runtime_start(void);
/* Resolves an interface to its endpoint by asking the endpoint mapper this association is at. */
int dg_map_endpoint(struct dg_assoc *a, const struct rpc_interface *i, uint32_t *address,
                    uint16_t *port);

#endif
