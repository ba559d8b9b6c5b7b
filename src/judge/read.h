/* SPDX-License-Identifier: Apache-2.0 */
/* The only door between the session room and the judge. Start: tt_judge_read. */
#ifndef TT_JUDGE_READ_H
#define TT_JUDGE_READ_H

#include "base/error.h"
#include "judge/case.h"

struct tt_session;

/* Fills *out from an open session; the caller frees it with tt_case_free, also after an error. name
 * (may be NULL) is what people call the session. 0, -ENOMEM, or the session room's error. */
int tt_judge_read(struct tt_session *session, const char *name, struct tt_case *out,
                  struct tt_error *err);

/* read_frozen.c: the rows of frozen copies, staleness and attaching. process_of: the session's ids
 * to indices. Part of tt_judge_read. */
int tt_judge_read_frozen(struct tt_session *session, struct tt_case *out, uint64_t origin_ns,
                         const struct tt_map *process_of, struct tt_error *err);

/* read_resource.c: the rows about resources other than heap blocks. site_of: tt_case_stack_key of a
 * process index and a site id to the site's index. Part of tt_judge_read. */
int tt_judge_read_resource(struct tt_session *session, struct tt_case *out, uint64_t origin_ns,
                           const struct tt_map *site_of, struct tt_error *err);

#endif
