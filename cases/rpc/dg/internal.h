/* SPDX-License-Identifier: Apache-2.0 */
/* What assoc.c (life of an association, the runtime's thread) and call.c (calls, callbacks) share.
 */
#ifndef RPC_DG_INTERNAL_H
#define RPC_DG_INTERNAL_H

#include "assoc.h"
#include "timing.h"
#include "xfer.h"

#include <pthread.h>

struct dg_assoc {
    struct dg_assoc *next; /* under the runtime's lock */
    pthread_mutex_t lock;  /* everything below; held during a call */
    int fd;
    int port; /* granted; 0 = any */
    bool dead;
    int contexts;
    uint8_t *packet; /* the one on its way in, of any size UDP has */

    struct rpc_uuid activity;
    uint32_t boot; /* the server's, once known */
    uint32_t seq;  /* of the last call */
    uint16_t serial;
    struct dg_header last; /* of the last call's request */
    int64_t ack_due;       /* when its response is acknowledged; 0 = nothing to */

    struct rpc_uuid alive_activity; /* keep-alives have an activity of their own */
    uint32_t alive_seq;
    int64_t alive_due;
};

/* What a client knows of itself: one address space, one boot time. */
struct dg_self {
    struct rpc_uuid cas;
    uint32_t boot;
};
const struct dg_self *dg_self(void);
int64_t dg_com_timeout(void);

/* Receives one packet without waiting: its body in a->packet. 1, 0 none, or negative errno.
 * Callbacks are answered here and are not returned. */
int dg_take_packet(struct dg_assoc *a, struct dg_header *h, const uint8_t **body);
void dg_send_ack(struct dg_assoc *a);
void dg_wake_runtime(void);

#endif
