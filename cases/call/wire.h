/* SPDX-License-Identifier: Apache-2.0 */
/* What travels between libtapi and the server over the SOCK_SEQPACKET socket: requests and their
 * replies, 60 fixed bytes and then variable data, in the layout of TAPI32_MSG ([MS-TRP] 2.2.5.2);
 * and event records of 40 fixed bytes ([MS-TRP] 2.2.4.2.1). One packet is one message, so the
 * length tells an event (40) from a reply (60 and more). Function numbers 12 and 39 are
 * the published ones; the others are ours, the specification's list is not needed here. */
#ifndef CALL_WIRE_H
#define CALL_WIRE_H

#include <stdint.h>

enum tapi_func {
    TAPI_INITIALIZE = 1,
    TAPI_SHUTDOWN = 2,
    TAPI_NEGOTIATE = 3,
    TAPI_OPEN = 4,
    TAPI_CLOSE = 5,
    TAPI_SET_APP_PRIORITY = 6,
    TAPI_MAKE_CALL = 7,
    TAPI_ANSWER = 8,
    TAPI_ACCEPT = 9,
    TAPI_DROP = 10,
    TAPI_HANDOFF = 11,
    TAPI_DEALLOCATE_CALL = 12,
    TAPI_SET_CALL_PRIVILEGE = 13,
    TAPI_GET_CALL_INFO = 14,
    TAPI_GET_CALL_STATUS = 15,
    TAPI_GET_CONF_RELATED = 16,
    TAPI_GET_NEW_CALLS = 39,
    TAPI_FUNC_END = 40,
};

enum { WIRE_PARAMS = 13, WIRE_VAR_MAX = 4096 };

struct wire_request {
    int32_t func;      /* enum tapi_func; in the reply: the result */
    uint32_t reserved; /* the client's sequence number, echoed */
    uint32_t param[WIRE_PARAMS];
    /* VarData follows: strings, structures */
};

struct wire_event {
    uint32_t total_size;   /* 40 */
    uint32_t init_context; /* HLINEAPP */
    uint32_t post_proc;    /* fnPostProcessProcHandle, always 0 here */
    uint32_t device;       /* hLine or hCall */
    uint32_t msg;
    uint32_t open_context; /* dwCallbackInstance of lineOpen */
    uint32_t param[4];
};

_Static_assert(sizeof(struct wire_request) == 60, "TAPI32_MSG is 60 bytes");
_Static_assert(sizeof(struct wire_event) == 40, "an event record is 40 bytes");

struct wire_packet {
    struct wire_request head;
    char var[WIRE_VAR_MAX];
};

#define TAPISRV_SOCKET_ENV "TAPISRV_SOCKET"
#define TAPISRV_SOCKET_DEFAULT "/tmp/tapisrv.sock"
#define TAPISRV_SIP_PORT_ENV "TAPISRV_SIP_PORT"

#endif
