/* SPDX-License-Identifier: Apache-2.0 */
/* Network data representation (C706 chapter 14), as much as the interfaces here need: integers at
 * their natural alignment from the start of the stub data, UUIDs, context handles, strings of
 * UTF-16 units, unique pointers, conformant arrays. Written little-endian, read in either order.
 * Errors stick: a reader that ran past its end or a writer without memory says so at the end.
 * Start: ndr_put32, ndr_get32. */
#ifndef RPC_DG_NDR_H
#define RPC_DG_NDR_H

#include "pdu.h"

struct ndr_out {
    uint8_t *data;
    size_t len, cap;
    uint32_t referents;
    bool failed; /* out of memory */
};

struct ndr_in {
    const uint8_t *data;
    size_t len, at;
    bool little;
    bool failed; /* not what the interface says */
};

/* A context handle: attributes 0 and a UUID; nil = NULL handle. */
struct rpc_context {
    struct rpc_uuid uuid;
};

void ndr_out_free(struct ndr_out *o);
void ndr_align(struct ndr_out *o, size_t to);
void ndr_put_bytes(struct ndr_out *o, const void *data, size_t n);
void ndr_put8(struct ndr_out *o, uint8_t v);
void ndr_put16(struct ndr_out *o, uint16_t v);
void ndr_put32(struct ndr_out *o, uint32_t v);
void ndr_put_uuid(struct ndr_out *o, const struct rpc_uuid *u);
void ndr_put_context(struct ndr_out *o, const struct rpc_context *c);
/* The referent of a unique pointer; what it points to follows where the type says. */
void ndr_put_pointer(struct ndr_out *o, bool present);
/* A conformant varying string [string] wchar_t*: names here are ASCII. */
void ndr_put_wstring(struct ndr_out *o, const char *text);

struct ndr_in ndr_reader(const uint8_t *data, size_t len, bool little);
void ndr_in_align(struct ndr_in *i, size_t to);
const uint8_t *ndr_get_bytes(struct ndr_in *i, size_t n);
uint8_t ndr_get8(struct ndr_in *i);
uint16_t ndr_get16(struct ndr_in *i);
uint32_t ndr_get32(struct ndr_in *i);
struct rpc_uuid ndr_get_uuid(struct ndr_in *i);
struct rpc_context ndr_get_context(struct ndr_in *i);
bool ndr_get_pointer(struct ndr_in *i);
/* A string into out (size bytes with the NUL); units beyond ASCII become '?'. Longer text than
 * fits, or a string without its NUL, fails the reader. */
void ndr_get_wstring(struct ndr_in *i, char *out, size_t size);

#endif
