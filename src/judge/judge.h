/* SPDX-License-Identifier: Apache-2.0 */
/* The judge: sessions in, findings out. METHODS.md is its specification: survivors are counted,
 * growth is not fitted, and a site is called a leak only when its units outlive the horizon, go on
 * being born with the operations, and beat the false-discovery bound over all sites. It reads
 * session rows and nothing else; names of functions come from a callback. Start: tt_judge_sessions.
 */
#ifndef TT_JUDGE_JUDGE_H
#define TT_JUDGE_JUDGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "judge/finding.h"

struct tt_session; /* session/session.h */

#define TT_JUDGE_HORIZON_S 600.0 /* A_min of METHODS 2.3 */

enum tt_judge_role {
    TT_JUDGE_JUDGED,  /* the session the findings are about: exactly one, the first */
    TT_JUDGE_CONTROL, /* same program under other conditions (labels), expected clean or a point of
                         the law */
    TT_JUDGE_FIXED,   /* a build that is said to be fixed, under like conditions */
};

struct tt_judge_session {
    struct tt_session *session; /* open for reading; borrowed */
    const char *name;           /* for people: the file's name; borrowed */
    enum tt_judge_role role;
};

/* The name of the function that holds a return address of a process of sessions[session], as
 * "function@file:line" (innermost inlined frame) or "function"; NULL or "" when unknown. The string
 * must live until the next call. */
typedef const char *tt_judge_name_fn(void *arg, size_t session, int64_t process, uint64_t pc);

struct tt_judge_input {
    const struct tt_judge_session *sessions;
    size_t n_sessions;
    double horizon_s;  /* 0: the judged session's meta horizon_s, else TT_JUDGE_HORIZON_S */
    double alpha;      /* false-discovery rate over all sites; 0: 0.05 */
    double fix_delta;  /* residual share of the leak rate that still counts as fixed; 0: 0.01 */
    size_t max_others; /* findings that are not leaks, by live bytes; 0: 200 */
    tt_judge_name_fn *name; /* may be NULL: sites of different sessions are then matched by build-id
                               and offset only, and operations that are other sites have no name */
    void *name_arg;
};

/* Judges the first session, with the others as controls, points of the law and fix checks. Fills
 * *out, which the caller frees with tt_findings_free (also after an error). 0, -EINVAL (no session,
 * or the first is not TT_JUDGE_JUDGED), -ENOMEM, or what the session room reported; err names it.
 */
int tt_judge_sessions(const struct tt_judge_input *input, struct tt_findings *out,
                      struct tt_error *err);

#endif
