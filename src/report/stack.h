/* SPDX-License-Identifier: Apache-2.0 */
/* Which frames of a stack people need: not the allocator's and container's own at the inner end,
 * not the start of the program or thread at the outer. Inside the report room only.
 * Start: tt_stack_trim. */
#ifndef TT_REPORT_STACK_H
#define TT_REPORT_STACK_H

#include "report/article.h"

struct tt_stack_view {
    size_t first, end;   /* the frames to show: [first, end) */
    size_t folded_start; /* outer frames left out */
    const struct tt_symbol_frame
        *through; /* outermost folded allocator frame ("strdup"), or NULL */
};

struct tt_stack_view tt_stack_trim(const struct tt_symbol_frame *frames, size_t n);

/* A function's name for people: template arguments deeper than `max` columns allow become <...>,
 * and what is still longer is cut at the end. "" becomes "module+0xoffset", and the frame that
 * stands for the fork of a child (fault/plan.h) "in a forked child". */
void tt_stack_name(struct tt_text *out, const struct tt_symbol_frame *frame, size_t max);

/* "owner.c:88", else the module's file name when that says more than the name did, else "". */
void tt_stack_place(struct tt_text *out, const struct tt_symbol_frame *frame);

#endif
