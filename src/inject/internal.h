/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this room share. Start: inject.h. */
#ifndef TT_INJECT_INTERNAL_H
#define TT_INJECT_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

#include "base/error.h"
#include "base/vec.h"

/* stop.c */
struct tt_stopped_thread {
    pid_t tid;
    int signal; /* to pass on when let go; 0 none */
    bool stopped;
    struct user_regs_struct regs;
};
struct tt_stopped {
    pid_t pid;
    uint64_t since_ns;
    TT_VEC(struct tt_stopped_thread) threads;
};
/* Stops all threads and reads their registers. On failure none is left stopped. */
int tt_inject_stop(pid_t pid, struct tt_stopped *out, struct tt_error *err);
/* Lets all threads go on and frees `stopped`. */
void tt_inject_resume(struct tt_stopped *stopped);

/* relocate.c: pure functions on bytes. */
#define TT_RELOCATE_NEED 5u /* bytes of a jmp rel32 */
#define TT_RELOCATE_MAX 64u /* bytes that moved instructions can grow to */
/* Moves whole instructions that cover at least TT_RELOCATE_NEED bytes of `code` (n bytes, at
 * address `from`) to address `to`. out gets the moved bytes, *out_len their number, *taken how many
 * source bytes they were. 0; -EOPNOTSUPP when an instruction is not known to be movable (why says
 * which); -ERANGE when a displacement no longer reaches. */
int tt_relocate(const uint8_t *code, size_t n, uint64_t from, uint64_t to, uint8_t *out,
                size_t *out_len, size_t *taken, const char **why);
/* Whether a direct branch of the function goes to an address strictly inside (from, from + taken).
 * Walks the instructions; behind one it does not know every byte that looks like such a branch
 * counts, so it may say yes where there is none, never the reverse. */
int tt_relocate_is_target(const uint8_t *code, size_t n, uint64_t from, size_t taken);

#endif
