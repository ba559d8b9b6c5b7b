/* SPDX-License-Identifier: Apache-2.0 */
/* Functions of a process that is being recorded, for the recorder's callbacks: by name, and around
 * return addresses. Kept apart from src/record, which knows no symbols. Start: tt_functions_find.
 */
#ifndef TT_CMD_FUNCTIONS_H
#define TT_CMD_FUNCTIONS_H

#include "record/record.h"
#include "symbol/symbol.h"

/* Remembers the symbols of the module list asked about last. Zero-initialise. */
struct tt_functions {
    const char *root; /* where the process's files are, if not where ours are; not owned */
    struct tt_symbols *symbols;
    uint64_t modules_hash;
};
void tt_functions_close(struct tt_functions *functions);

/* struct tt_record_options.resolve and .entries, with arg a struct tt_functions. */
int tt_functions_find(struct tt_functions *functions, const struct tt_session_module *modules,
                      size_t n, const char *name, struct tt_record_function *out,
                      struct tt_error *err);
size_t tt_functions_on_stack(struct tt_functions *functions,
                             const struct tt_session_module *modules, size_t n,
                             const uint64_t *frames, size_t n_frames,
                             struct tt_record_function *out, size_t max);

#endif
