/* SPDX-License-Identifier: Apache-2.0 */
/* The timers of the protocol, read once from the environment. RPC_TIME_SCALE multiplies all of
 * them (0.01 makes the 240 s of a port 2.4 s); RPC_PORT_RECYCLE_MS and RPC_COM_TIMEOUT_MS set two
 * of them by themselves. Start: dg_timing. */
#ifndef RPC_DG_TIMING_H
#define RPC_DG_TIMING_H

#include <stdint.h>

/* Milliseconds. */
struct dg_timing {
    int64_t ping;         /* first ping or retransmission; doubled up to ping_max */
    int64_t ping_max;     /* [MS-RPCE] 3.2.2.2.1: 1 s, 32 s */
    int64_t com_timeout;  /* no answer at all: the call has failed (OSF knob 5: 30 s) */
    int64_t ack_delay;    /* [MS-RPCE] 4.4: 2 s */
    int64_t cancel;       /* a cancel that nobody answers; then the call is orphaned */
    int64_t broadcast;    /* C706 appendix K: 5 s */
    int64_t keep_alive;   /* indy() while context handles are open: 20 s */
    int64_t rundown;      /* contexts without indy(): 120 s, */
    int64_t rundown_scan; /* looked at every 60 s */
    int64_t idle;         /* activities nobody uses: C706 300 s */
    int64_t port_recycle; /* article 814622: 240 s */
};

const struct dg_timing *dg_timing(void);
/* CLOCK_MONOTONIC. */
int64_t dg_now(void);

#endif
