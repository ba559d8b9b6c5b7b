/* SPDX-License-Identifier: Apache-2.0 */
/* The blob, brought into this very process as inject does it: its segments are copied to some base
 * without any relocation, orders go through tt_blob.call on a stack of the blob's own, and what
 * patched entries would do is called by address. What its tape then holds is summed up as a
 * recorder would. Ground truth is what the test itself asked for. The blob lies beside the test's
 * program in the build tree. Start: start_with. */
#ifndef TT_TEST_AGENT_BLOB_HOST_H
#define TT_TEST_AGENT_BLOB_HOST_H

#include <elf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "agent/blob.h"
#include "tape/tape.h"

extern tt_real_fn __libc_malloc, __libc_free, __libc_calloc, __libc_realloc, __libc_memalign;

/* Setup and teardown of each test: a blob that has never run, in `blob` and
 * `image`, with glibc's functions as set 0. */
int fresh(void **state);
int away(void **state);
extern struct tt_blob *blob;
extern uint8_t *image;

/* The file, mapped to read; its first section of a type, or NULL. */
const void *read_blob(size_t *bytes);
const Elf64_Shdr *section(const uint8_t *file, uint32_t type);

/* Gives an order (TT_BLOB_*) and returns its result. start_with maps the new tape as `tape`, too.
 */
int order(uint32_t what);
int start_with(uint32_t mode, uint64_t mean);
void unmap_tape(void);
/* What a thread that never met an agent has in its words. */
void forget_thread(void);

/* A call as it comes from a patched entry; malloc and free of set 0. */
uint64_t call(uint32_t set, uint32_t entry, uint64_t a, uint64_t b, uint64_t c);
uint64_t make(uint64_t size);
void drop(uint64_t block);

struct sum {
    uint64_t births, deaths, live;
};

extern const uint8_t *tape;
const struct tt_tape_head *head(void);
struct sum count(void);
/* Asserts these sums, and that the rest is live. */
void expect(uint64_t births, uint64_t deaths);
int in_region(uint64_t block);

#endif
