/* SPDX-License-Identifier: Apache-2.0 */
/* Between faults.c and faults_json.c: faults that come to the same are one. Start: struct
 * tt_faults.
 */
#ifndef TT_REPORT_FAULTS_INTERNAL_H
#define TT_REPORT_FAULTS_INTERNAL_H

#include "report/article.h"
#include "report/faults.h"

#define TT_FAULTS_LIST 16

/* A failing stack, with the errors and the calls that did it, in the order tried. */
struct tt_faults_cause {
    uint32_t site;
    unsigned outcome;
    int status;
    size_t n_errors, n_nth, more; /* more: left out of the lists */
    int errors[TT_FAULTS_LIST];
    uint32_t nth[TT_FAULTS_LIST];
};
/* The same loss by the same failing stack: the most units and bytes of any of its faults. */
struct tt_faults_loss {
    struct tt_faults_cause cause;
    uint32_t site, kind, weight;
    uint64_t units, bytes;
};

struct tt_faults {
    const struct tt_report_faults *input;
    const struct tt_fault_result *r;
    struct tt_symbols *symbols;
    uint32_t fixed;                        /* the module that lies at fixed addresses; 0 none */
    TT_VEC(struct tt_faults_loss) losses;  /* failing stacks together, those that count first */
    TT_VEC(struct tt_faults_cause) deaths; /* died or hung */
    size_t outcomes[TT_FAULT_HUNG + 1];    /* trials by outcome */
};

/* The innermost `depth` frames of a stack, inlined ones expanded; *frames is the caller's to free.
 * 0 or -ENOMEM. */
int tt_faults_frames(const struct tt_faults *f, uint32_t site, unsigned depth,
                     struct tt_symbol_frame **frames, size_t *n);
/* "went on", "gave up", "died", "hung", ... */
const char *tt_faults_outcome(unsigned outcome);
int tt_faults_json(const struct tt_faults *f, struct tt_text *out);

#endif
