/* SPDX-License-Identifier: Apache-2.0 */
/* The loader's list of a running process. Start: tt_objects_find. */
#ifndef TT_INJECT_OBJECTS_H
#define TT_INJECT_OBJECTS_H

#include "inject/find.h"

/* Fills objects and entry of *out, and whether the program is static: then its one object has no
 * tables. 0, or as tt_find. */
int tt_objects_find(const struct tt_target *target, struct tt_found *out, bool *is_static,
                    struct tt_error *err);

/* -EOPNOTSUPP with "cannot attach to process PID: what". */
int tt_find_refuse(const struct tt_target *t, const char *what, struct tt_error *err);

#endif
