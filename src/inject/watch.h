/* SPDX-License-Identifier: Apache-2.0 */
/* Watching functions of a process that has the agent in it, preloaded or attached: the entry
 * becomes a jump to a stub, the stub leads into the agent with the number of the watch, and the
 * tape says what the function acquires or releases (tape.h, struct tt_tape_watch). Like a counted
 * operation a watch stays as long as the process; in an attached process it stands in the blob's
 * records before it is made, so tt_inject_detach, or any later telltale, takes it out again.
 * Start: tt_inject_watch. */
#ifndef TT_INJECT_WATCH_H
#define TT_INJECT_WATCH_H

#include <stdbool.h>

#include "inject/inject.h"
#include "tape/tape.h"

/* One function to be watched. */
struct tt_inject_watch {
    struct tt_tape_watch row; /* what it does; address filled by the caller, real and calls by us */
    uint64_t size;            /* of its code, from the symbol table */
    bool throws;   /* exceptions may pass through it (a C++ function that nobody declared nothrow):
                      in an attached process it is refused if it needs a frame of ours */
    int index;     /* in/out: row of the tape to use, -1: the first that is free; then the row */
    int result;    /* out: 0 watched; -EAGAIN a signal handler returns into its first instructions:
                      try again later; -EOPNOTSUPP cannot be moved, or may throw; -ENOSPC no pad in
                      reach, or no row; -EALREADY a row of the tape has this address; other errno */
    char why[120]; /* out: one phrase when result is not 0 */
};

/* Stops every thread of pid once and puts all watches in place: tape rows, stubs, jumps. To be
 * called again for what dlopen brings. pads as in tt_inject_count, and the same ones (each keeps
 * account of what is used); tape_fd: the tape, open for reading and writing, of a process whose
 * head says RUNNING and whose watch_entry is not 0. *stopped_ns, if not NULL, is how long the
 * target stood. 0 when the target was looked at (see each watch's result), else a negative errno
 * with err saying cause and remedy and nothing changed: -ENOTSUP the tape is not ready for watches.
 */
int tt_inject_watch(pid_t pid, struct tt_inject_pad *pads, size_t n_pads, int tape_fd,
                    struct tt_inject_watch *watches, size_t n_watches, uint64_t *stopped_ns,
                    struct tt_error *err);

/* Whether a row needs a frame of the agent's below the real function, through which no exception
 * may pass in an attached process. */
bool tt_inject_watch_frame(const struct tt_tape_watch *row);

#endif
