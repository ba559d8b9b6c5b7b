/* SPDX-License-Identifier: Apache-2.0 */
/* Seccomp filters of a target. Start: tt_filter_check. */
#ifndef TT_INJECT_FILTER_H
#define TT_INJECT_FILTER_H

#include "inject/internal.h"

/* Whether the filters of all stopped threads let the agent make its system calls, or answer them
 * with an error. 0, or -EOPNOTSUPP with err: one ends the process, asks somebody else, or cannot be
 * read. */
int tt_filter_check(const struct tt_target *target, const struct tt_stopped *stopped,
                    struct tt_error *err);

#endif
