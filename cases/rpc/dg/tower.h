/* SPDX-License-Identifier: Apache-2.0 */
/* Protocol towers of the endpoint mapper (C706 appendix L) for RPC over UDP: interface, transfer
 * syntax, connectionless RPC, port, address. Start: tower_write, tower_read. */
#ifndef RPC_DG_TOWER_H
#define RPC_DG_TOWER_H

#include "pdu.h"

enum { TOWER_BYTES = 75 };

struct tower {
    struct rpc_interface interface;
    uint32_t address; /* host byte order */
    uint16_t port;
};

void tower_write(const struct tower *t, uint8_t out[TOWER_BYTES]);
/* 0, or -EPROTO when it is not a tower of this kind. */
int tower_read(struct tower *t, const uint8_t *at, size_t n);

#endif
