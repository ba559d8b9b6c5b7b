/* SPDX-License-Identifier: Apache-2.0 */
/* What goes over rpcssd's local socket (AF_UNIX, SOCK_SEQPACKET): one request, one reply. The
 * process is known by the connection; when that ends, all its grants return. */
#ifndef RPC_BROKER_H
#define RPC_BROKER_H

#include "dg/pdu.h"

#define RPCSS_SOCKET_DEFAULT "/tmp/rpcssd.sock"
#define RPCSS_SOCKET_ENV "RPCSS_SOCKET"

enum broker_op {
    BROKER_GRANT = 1,  /* arg: enum broker_class; reply: value = port, 0 when any will do */
    BROKER_LEDGER = 2, /* reply: one entry per process, value = ports in the list */
    BROKER_REGISTER =
        3, /* arg: UDP port of an endpoint of `interface`, while the connection lasts */
};

/* Whose endpoint it is (the Win32 policy flags of a protocol sequence). */
enum broker_class { BROKER_DEFAULT, BROKER_INTERNET, BROKER_LOCAL };

enum broker_status { BROKER_OK, BROKER_EXHAUSTED, BROKER_BAD_CONFIG, BROKER_BAD_REQUEST };

struct broker_request {
    uint32_t op, arg;
    struct rpc_interface interface;
};

struct broker_reply {
    uint32_t status, value, count;
    struct broker_entry {
        int32_t pid;
        uint32_t granted;
    } entry[64];
};

#endif
