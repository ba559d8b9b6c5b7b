/* SPDX-License-Identifier: Apache-2.0 */
/* Units held other than heap blocks: the table of the tape (struct tt_tape_held). Rows change by
 * compare-and-swap of their state, so a signal handler that interrupts the agent, or a thread that
 * never comes back, hinders nobody, and nobody waits. Births and deaths are counted as those of
 * blocks are (live.h). A thread is NULL when the agent was interrupted or has no state for it.
 * Start: tt_held_acquire. */
#ifndef TT_AGENT_HELD_H
#define TT_AGENT_HELD_H

#include "agent/live.h"

/* Where a call stands: what every capture of its stack needs. */
struct tt_where {
    struct tt_thread *thread; /* entered, or NULL */
    const uint64_t *slot;     /* of the return address */
    uint64_t rbp;
};

/* What is to be acquired. */
struct tt_unit {
    uint64_t value, size;
    uint8_t space, kind;
    uint8_t flags; /* TT_WATCH_COUNTED, TT_WATCH_ONCE */
    int32_t also;
    uint32_t early;  /* tt_held_early_now() before the real function */
    uint32_t before; /* tt_thread.acquired then; ~0: do not ask whether the call did it already */
};

/* A row and the state that it was put to; row NULL: none. */
struct tt_mark {
    struct tt_tape_held *row;
    uint32_t state;
};

/* For a new tape, or a forked child's: nothing is held. */
TT_HIDDEN void tt_held_begin(void);

static inline struct tt_tape_held *tt_held_rows(void)
{
    return (struct tt_tape_held *)(tt_agent.base + TT_TAPE_OFF_HELD);
}

/* The row of a unit that is held, leaving ones too; NULL: none. */
TT_HIDDEN struct tt_tape_held *tt_held_find(uint32_t space, uint64_t value);
/* Follows a new unit. Whatever had its value before has gone unseen, unless flags say otherwise or
 * the call itself acquired it through another watched function. */
TT_HIDDEN void tt_held_acquire(const struct tt_where *at, const struct tt_unit *unit);
/* The same for a value of which nothing can be held. The row; NULL: the table is full. */
TT_HIDDEN struct tt_tape_held *tt_held_birth(const struct tt_where *at, const struct tt_unit *unit);
/* Takes the unit out and counts its death; 0 if it was not held. */
TT_HIDDEN int tt_held_release(const struct tt_where *at, uint32_t space, uint64_t value);
/* The same for a counted value: what was acquired last, as calls nest. */
TT_HIDDEN int tt_held_release_last(const struct tt_where *at, uint32_t space, uint64_t value);
/* The same for a row found before; 0 if somebody else was first. */
TT_HIDDEN int tt_held_take(const struct tt_where *at, struct tt_tape_held *row);

/* Marks a unit whose release is under way; afterwards it is taken out, or stays if that failed. */
TT_HIDDEN struct tt_mark tt_held_mark(uint32_t space, uint64_t value);
TT_HIDDEN void tt_held_leave(const struct tt_where *at, struct tt_mark mark);
TT_HIDDEN void tt_held_stay(struct tt_mark mark);

/* Empties a live row without a death: its unit goes on elsewhere. 0: somebody was first. */
TT_HIDDEN int tt_held_drop(struct tt_tape_held *row);
/* A row without a birth: of a unit that goes on elsewhere. NULL: the table is full. */
TT_HIDDEN struct tt_tape_held *tt_held_put(const struct tt_tape_held *as);

/* Some values are known to others before the call that makes them has returned: a thread detaches
 * itself, a handler reaps the child. The latest releases of what was not held are kept, and an
 * acquisition looks whether its unit went already while the call was under way. */
TT_HIDDEN void tt_held_early(uint32_t space, uint64_t value);
TT_HIDDEN void tt_held_not_early(uint32_t space, uint64_t value);
TT_HIDDEN uint32_t tt_held_early_now(void);

/* Descriptors below this number may be held. */
TT_HIDDEN uint32_t tt_held_fd_end(void);

/* ---- mapping.c: units of TT_SPACE_MAPPING, which are intervals ---- */

TT_HIDDEN void tt_mapping_begin(void);
TT_HIDDEN void tt_mapping_acquire(const struct tt_where *at, uint64_t start, uint64_t size,
                                  uint32_t kind, int fixed);
TT_HIDDEN void tt_mapping_release(const struct tt_where *at, uint64_t start, uint64_t size);
/* Takes the unit that is exactly this out without a death; 0 and *out, or -1: there is none. */
TT_HIDDEN int tt_mapping_move(const struct tt_where *at, uint64_t start, uint64_t size,
                              struct tt_tape_held *out);
/* Puts it back as it is now; a changed size counts. */
TT_HIDDEN void tt_mapping_put(const struct tt_where *at, const struct tt_tape_held *unit,
                              uint64_t start, uint64_t size);

/* ---- owner.c ---- */

TT_HIDDEN void tt_owner_begin(void);
/* Id of whom the thread works for at this moment; 0 nobody, or one that has ended. */
TT_HIDDEN uint32_t tt_owner_now(const struct tt_thread *t);
/* The descriptor is a socket from now on, or anything else. */
TT_HIDDEN void tt_owner_opened(uint64_t fd, int socket);
/* The descriptor is closed; its peer has ended. */
TT_HIDDEN void tt_owner_closed(uint64_t fd);
/* What tt_tape_fd of the tape says; 0 for numbers beyond it. */
TT_HIDDEN uint32_t tt_owner_of(uint64_t fd);
/* The thread works for the peer of a socket; `address` (n bytes, 0: not known) of a new one. */
TT_HIDDEN void tt_owner_work(struct tt_thread *t, uint64_t fd, const void *address, uint32_t n);
/* The thread works for the sender of what came with this address. */
TT_HIDDEN void tt_owner_sender(struct tt_thread *t, uint64_t fd, const void *address, uint32_t n);
TT_HIDDEN void tt_owner_count(uint32_t id);

#endif
