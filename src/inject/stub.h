/* SPDX-License-Identifier: Apache-2.0 */
/* A stub before a function: in a pad, first what the stub is for (`head` bytes, which its maker
 * fills), then the function's moved first instructions and the jump back; the function's entry
 * becomes a jump to it. Counted operations (count.c) and watches (watch.c) are made of these.
 * Start: tt_stub_plan. */
#ifndef TT_INJECT_STUB_H
#define TT_INJECT_STUB_H

#include "inject/inject.h"
#include "inject/internal.h"
#include "inject/load.h"

#define TT_STUB_HEAD_MOST 80u
#define TT_STUB_BACK 5u

struct tt_stub {
    uint64_t function;
    uint64_t at; /* address of the stub */
    uint8_t code[TT_STUB_HEAD_MOST + TT_RELOCATE_MAX + TT_STUB_BACK];
    size_t head, len;                /* of code */
    size_t enter;                    /* where in it the function's entry leads */
    size_t taken;                    /* bytes of the function that were moved */
    uint8_t where[TT_RELOCATE_NEED]; /* see tt_relocate, from `head` on */
    uint8_t jump[TT_RELOCATE_NEED];  /* what the entry becomes */
    uint8_t original[TT_RELOCATE_NEED];
};

/* Works the stub out and takes its room in a pad, or in an attached process (load not NULL) that of
 * the same stub of an earlier recording; reads the target, writes nothing. `size`: of the
 * function's code; the entry leads to `enter` in the head. 0, or -ENOSPC, -EOPNOTSUPP, -ENOMEM,
 * another errno with one phrase in *why. */
int tt_stub_plan(const struct tt_target *target, const struct tt_load *load,
                 struct tt_inject_pad *pads, size_t n_pads, uint64_t function, uint64_t size,
                 size_t head, size_t enter, struct tt_stub *out, const char **why);
/* Writes the stub; in an attached process (load not NULL) after the record of what the entry was.
 * The entry itself is not touched. */
int tt_stub_write(const struct tt_target *target, struct tt_load *load, const struct tt_stub *stub);

#endif
