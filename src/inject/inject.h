/* SPDX-License-Identifier: Apache-2.0 */
/* Changing a running process from outside: stopping all its threads for a fraction of a millisecond
 * (stop.c), moving the first instructions of a function elsewhere (relocate.c), and putting a
 * counter in front of it (count.c). Refuses rather than guesses: a function whose first
 * instructions are not understood, or a thread that stands inside them, is left alone.
 * Start: tt_inject_count. */
#ifndef TT_INJECT_INJECT_H
#define TT_INJECT_INJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

/* Executable memory in the target, within 2 GiB of the code it serves; written through
 * /proc/PID/mem. `used` is kept by the caller between calls. */
struct tt_inject_pad {
    uint64_t base, size, used;
};

/* Where the states of the target's threads lie, as the head of its tape says (tape.h, at
 * TT_TAPE_STATE_WORD). base 0: none. */
struct tt_inject_states {
    uint64_t base;
    uint32_t bytes;
};

/* One function whose entries are to be counted. */
struct tt_inject_entry {
    uint64_t function; /* run-time address of the entry */
    uint64_t size;     /* of its code, from the symbol table; needed to see loops to the entry */
    uint64_t counter;  /* address in the target of a u64 that threads without a place add to */
    uint32_t own;      /* offset in the slot of a thread of the u64 that it alone adds to */
    int result;        /* out: 0 counted; -EAGAIN a thread stood in the way: try again later;
                          -EOPNOTSUPP cannot be moved; -ENOSPC no pad in reach; other errno */
    char why[120];     /* out: one phrase when result is not 0 */
};

/* Stops every thread of pid (its tracer must be allowed: parent under yama scope 1, or root), puts
 * a stub in front of each entry, lets go. *stopped_ns, if not NULL, is how long the target stood.
 * 0 when the target was stopped and looked at (see each entry's result), else a negative errno with
 * err saying cause and remedy and nothing changed. Must not be called for the caller's own
 * process. states NULL: all threads add to `counter`. Signals that arrive meanwhile are passed on;
 * the exit status of pid is not consumed. */
int tt_inject_count(pid_t pid, struct tt_inject_pad *pads, size_t n_pads,
                    const struct tt_inject_states *states, struct tt_inject_entry *entries,
                    size_t n_entries, uint64_t *stopped_ns, struct tt_error *err);

/* A place in the program that does nothing (0f 1f 44 00 00) and can be made a jump. */
struct tt_inject_jump {
    uint64_t at, to;
    bool done; /* out: it is what was asked for */
};

/* Makes places jumps (on), or nothing again, in one stop of all threads. 0 when they were looked at
 * (see each one's done), else a negative errno with err and nothing changed. */
int tt_inject_jumps(pid_t pid, struct tt_inject_jump *jumps, size_t n, bool on,
                    struct tt_error *err);

#endif
