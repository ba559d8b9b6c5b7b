/* SPDX-License-Identifier: Apache-2.0 */
/* Looking at a run's end: between round.c and look.c only. Start: tt_fault_look. */
#ifndef TT_FAULT_LOOK_H
#define TT_FAULT_LOOK_H

#include "fault/fault.h"
#include "heap/heap.h"

struct tt_fault_look {
    pid_t pid;
    const struct tt_fault_plan *plan;
    int plan_fd;
    bool search; /* for heap blocks that nothing points to; the process must still be there */
};

/* Fills round->held and ->called, and round->searched or ->why. 0 or -ENOMEM with err. */
int tt_fault_look(const struct tt_fault_look *look, struct tt_fault_world *world,
                  struct tt_fault_round *round, struct tt_error *err);

/* ---- mapped.c ---- */

struct tt_fault_mapped {
    uint64_t start, end;
    size_t unit; /* the caller's */
    bool pointed;
};
/* Sorts the mappings by address and sets `pointed` of those that something points into. */
void tt_fault_mapped(const struct tt_heap_image *image, struct tt_fault_mapped *list, size_t n);

#endif
