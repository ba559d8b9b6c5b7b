/* SPDX-License-Identifier: Apache-2.0 */
/* Looking at processes at the end of a run: between round.c, processes.c and look.c only.
 * Start: tt_fault_look. */
#ifndef TT_FAULT_LOOK_H
#define TT_FAULT_LOOK_H

#include "fault/fault.h"
#include "heap/heap.h"

struct tt_fault_look {
    pid_t pid;
    const struct tt_fault_plan *plan; /* of the process */
    int plan_fd;
    uint64_t plan_at; /* in the file */
    bool child;       /* of the process started: not looked at when it goes away meanwhile */
    bool dead;        /* gone already: only its calls are listed */
    bool search;      /* for heap blocks that nothing points to; the process must still be there */
};

/* Adds to round->held and ->called what the process has; sets round->missed and ->why where it
 * could not be searched. 0 or -ENOMEM with err. */
int tt_fault_look(const struct tt_fault_look *look, struct tt_fault_world *world,
                  struct tt_fault_round *round, struct tt_error *err);

/* ---- processes.c ---- */

/* The forked children of one run. */
struct tt_fault_children {
    const struct tt_fault_options *o;
    struct tt_fault_world *world;
    struct tt_fault_round *round;
    struct tt_fault_plan *first; /* plan */
    int plan_fd;
    const char *plan_path;
    uint64_t swept;                /* when those that are gone were last looked for */
    bool done[TT_FAULT_PROCESSES]; /* looked at */
};
/* Looks at those that wait at their end, and lets them go; frees the plans of those that are gone.
 * 0 or -ENOMEM with err. To be called every few milliseconds. */
int tt_fault_children_serve(struct tt_fault_children *c, struct tt_error *err);
/* Looks at all that are left, as they are. 0 or -ENOMEM with err. */
int tt_fault_children_look(struct tt_fault_children *c, struct tt_error *err);
/* Whether a thread of a process is at work, or would be if it got a processor. */
bool tt_fault_busy(pid_t pid);
/* How many there are, whether one of them is at work, and how much they hold. */
unsigned tt_fault_children_count(const struct tt_fault_children *c, bool *busy, uint64_t *held);
/* Lets go all that wait at their end; and ends all that are there. */
void tt_fault_children_let_go(const struct tt_fault_children *c);
void tt_fault_children_end(const struct tt_fault_children *c);

/* ---- mapped.c ---- */

struct tt_fault_mapped {
    uint64_t start, end;
    size_t unit; /* the caller's */
    bool pointed;
};
/* Sorts the mappings by address and sets `pointed` of those that something points into. */
void tt_fault_mapped(const struct tt_heap_image *image, struct tt_fault_mapped *list, size_t n);

#endif
