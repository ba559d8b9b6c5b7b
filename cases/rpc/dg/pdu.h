/* SPDX-License-Identifier: Apache-2.0 */
/* The connectionless RPC packet (C706 chapter 12.5): the 80-byte header, the bodies that belong to
 * the protocol itself, and the numbers both ends share. Headers are read in either integer
 * representation and written little-endian; everything here is pure and works on memory.
 * Start: dg_header_read, dg_header_write. */
#ifndef RPC_DG_PDU_H
#define RPC_DG_PDU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    DG_VERSION = 4,
    DG_HEADER = 80,
    DG_PACKET = 1464, /* what every receiver must take (C706 appendix K) */
    DG_FRAG_BODY = DG_PACKET - DG_HEADER,
    DG_DATAGRAM_MAX = 65507,
    DG_FACK_MASKS = 8, /* words of selective acknowledgement we read and write */
};

enum dg_ptype {
    DG_REQUEST,
    DG_PING,
    DG_RESPONSE,
    DG_FAULT,
    DG_WORKING,
    DG_NOCALL,
    DG_REJECT,
    DG_ACK,
    DG_QUIT,
    DG_FACK,
    DG_QUACK,
    DG_PTYPES
};

/* flags1; FORWARDED never appears on the wire. */
enum {
    DG_FORWARDED = 0x01,
    DG_LASTFRAG = 0x02,
    DG_FRAG = 0x04,
    DG_NOFACK = 0x08,
    DG_MAYBE = 0x10,
    DG_IDEMPOTENT = 0x20,
    DG_BROADCAST = 0x40,
};
/* flags2 */
enum { DG_CANCEL_PENDING = 0x02 };

enum { DG_NO_HINT = 0xffff, DG_NO_FRAG = 0xffff };

/* Status codes of fault and reject packets (C706 appendix E, OSF ncastat.idl). */
enum {
    NCA_ACCESS_DENIED = 5,
    NCA_VERSION_MISMATCH = 0x1c000008,
    NCA_UNSPEC_REJECT = 0x1c000009,
    NCA_BAD_ACTID = 0x1c00000a,
    NCA_WHO_ARE_YOU_FAILED = 0x1c00000b,
    NCA_MANAGER_NOT_ENTERED = 0x1c00000c,
    NCA_FAULT_CANCEL = 0x1c00000d,
    NCA_FAULT_CONTEXT_MISMATCH = 0x1c00001a,
    NCA_FAULT_NO_MEMORY = 0x1c00001b,
    NCA_OP_RNG_ERROR = 0x1c010002,
    NCA_UNK_IF = 0x1c010003,
    NCA_WRONG_BOOT_TIME = 0x1c010006,
    NCA_YOU_CRASHED = 0x1c010009,
    NCA_PROTO_ERROR = 0x1c01000b,
    NCA_OUT_ARGS_TOO_BIG = 0x1c010013,
    NCA_SERVER_TOO_BUSY = 0x1c010014,
    NCA_UNSUPPORTED_TYPE = 0x1c010017,
};

struct rpc_uuid {
    uint32_t low;
    uint16_t mid, high;
    uint8_t rest[8];
};

struct rpc_interface {
    struct rpc_uuid uuid;
    uint32_t version; /* low half major, high half minor */
};

extern const struct rpc_interface rpc_conv, rpc_convc, rpc_epm, rpc_clusapi;

struct dg_header {
    uint8_t ptype, flags1, flags2;
    bool little; /* as received; written headers are always little-endian */
    uint16_t serial;
    struct rpc_uuid object, interface, activity;
    uint32_t boot, version, seq;
    uint16_t opnum, ihint, ahint, len, frag;
    uint8_t auth;
};

struct dg_fack {
    uint16_t window; /* KB the receiver will take */
    uint32_t max_tsdu, max_frag;
    uint16_t serial; /* of the packet that asked for this */
    uint16_t masks;
    uint32_t mask[DG_FACK_MASKS]; /* bit i: fragnum + 1 + i is missing or not (1 = received) */
};

bool rpc_uuid_equal(const struct rpc_uuid *a, const struct rpc_uuid *b);
bool rpc_uuid_is_nil(const struct rpc_uuid *a);
/* A random UUID (version 4, from getrandom). */
struct rpc_uuid rpc_uuid_new(void);
/* The 16 bytes as on the wire. */
struct rpc_uuid rpc_uuid_read(const uint8_t *at, bool little);
void rpc_uuid_write(const struct rpc_uuid *u, uint8_t *at);

uint16_t rpc_get16(const uint8_t *at, bool little);
uint32_t rpc_get32(const uint8_t *at, bool little);
void rpc_put16(uint8_t *at, uint16_t value);
void rpc_put32(uint8_t *at, uint32_t value);

/* Modular comparisons of sequence, fragment and serial numbers: a is before b. */
bool dg_before32(uint32_t a, uint32_t b);
bool dg_before16(uint16_t a, uint16_t b);

/* Reads the header of a datagram of n bytes. 0, or -EPROTO when it is none of version 4: too
 * short, unknown type, reserved bits, other character or float representation, or a body length
 * other than what came (some senders pad: more than that is taken, less is not). */
int dg_header_read(struct dg_header *h, const uint8_t *at, size_t n);
void dg_header_write(const struct dg_header *h, uint8_t *at);

/* Bodies. Readers return 0 or -EPROTO; writers return the length written (at most 64 bytes). */
int dg_fack_read(struct dg_fack *f, const uint8_t *at, size_t n, bool little);
size_t dg_fack_write(const struct dg_fack *f, uint8_t *at);
int dg_status_read(uint32_t *status, const uint8_t *at, size_t n, bool little);
/* Quit: an empty body is an orphaned call (*orphan), else a cancel with its id. */
int dg_quit_read(uint32_t *id, bool *orphan, const uint8_t *at, size_t n, bool little);
size_t dg_quit_write(uint32_t id, uint8_t *at);
int dg_quack_read(uint32_t *id, bool *accepting, const uint8_t *at, size_t n, bool little);
size_t dg_quack_write(uint32_t id, bool accepting, uint8_t *at);

#endif
