/* SPDX-License-Identifier: Apache-2.0 */
/* Names into the session file, so that an article can be written later and elsewhere.
 * Start: tt_report_material_save. */
#include <errno.h>

#include "base/map.h"
#include "report/material_internal.h"

int tt_report_material_save(struct tt_report_material *m, size_t session, struct tt_error *err)
{
    struct tt_material_frames frames = {0};
    struct tt_map seen = {0};
    TT_VEC(struct tt_session_symbol_row) rows = {0};
    TT_VEC(struct tt_session_symbol) symbols = {0};
    TT_VEC(size_t) first = {0};
    int rc = 0;
    for (size_t i = 0; i < m->stacks.len && !rc; i++) {
        const struct tt_material_stack *known = &m->stacks.data[i];
        for (size_t k = 0; (size_t)known->session == session && k < known->raw.n && !rc; k++) {
            uint64_t address = known->raw.frames[k];
            uint64_t key = tt_map_mix((uint64_t)known->process) ^ address;
            if (tt_map_get(&seen, key))
                continue;
            frames.len = 0;
            rc = tt_map_put(&seen, key, 1);
            if (!rc)
                rc = tt_material_names(m, session, known->process, address, &frames);
            if (rc || !frames.len || !*frames.data[frames.len - 1].function)
                continue;
            struct tt_session_symbol_row row = {known->process, address, NULL, frames.len};
            rc = tt_vec_push(&first, symbols.len) || tt_vec_push(&rows, row) ? -ENOMEM : 0;
            for (size_t j = 0; j < frames.len && !rc; j++) {
                const struct tt_symbol_frame *f = &frames.data[j];
                struct tt_session_symbol symbol = {f->function, f->module, f->file, f->line,
                                                   f->inlined};
                rc = tt_vec_push(&symbols, symbol);
            }
        }
    }
    for (size_t i = 0; i < rows.len && !rc; i++)
        rows.data[i].frames = symbols.data + first.data[i];
    if (rc)
        rc = tt_error_set(err, rc, "out of memory naming stacks");
    else if (rows.len)
        rc = tt_session_symbols_put(tt_session_path(m->sources[session].from.session), rows.data,
                                    rows.len, err);
    tt_vec_free(&frames);
    tt_vec_free(&rows);
    tt_vec_free(&symbols);
    tt_vec_free(&first);
    tt_map_free(&seen);
    return rc;
}
