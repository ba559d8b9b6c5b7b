/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of attach and detach share: both with a blob that only counts (inject_blob.c),
 * what it counted, and the code of the target's allocator, which must be the same afterwards.
 * Start: attach. */
#ifndef TT_TEST_INJECT_CODE_H
#define TT_TEST_INJECT_CODE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <sys/types.h>

#include "inject/attach.h"
#include "tape/tape.h"

/* The first bytes of what attach changes in our own (hence the forked target's) libc. */
struct code {
    uint8_t bytes[TT_E_COUNT][32];
    uint64_t at[TT_E_COUNT];
    size_t n;
};

/* Reads them; how many functions differ; asserts that none does from what it was. */
void read_code(pid_t pid, struct code *out);
size_t differences(const struct code *a, const struct code *b);
void expect_code(pid_t pid, const struct code *was);

extern const struct tt_inject_attach_options options;
/* As tt_inject_attach and tt_inject_detach, and say why if not; attach_with fails the test then. */
int attach(pid_t pid, struct tt_inject_attached *out);
void attach_with(pid_t pid, const struct tt_inject_attach_options *o,
                 struct tt_inject_attached *out);
int detach(pid_t pid, struct tt_inject_detached *out);
/* How often an entry (TT_E_*) was called. */
uint64_t counted(const struct tt_inject_attached *a, unsigned entry);
/* Closes what attach opened and frees it. */
void let_go(struct tt_inject_attached *a);

#endif
