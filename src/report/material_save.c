/* SPDX-License-Identifier: Apache-2.0 */
/* Names into the session file, so that an article can be written later and elsewhere.
 * Start: tt_report_material_save. */
#include <errno.h>

#include "base/map.h"
#include "report/material_internal.h"

struct names {
    TT_VEC(struct tt_session_symbol_row) rows;
    TT_VEC(struct tt_session_symbol) symbols;
    TT_VEC(size_t) first; /* per row: index into symbols, which moves while it grows */
};

static int add_row(struct names *names, int64_t process, uint64_t address,
                   const struct tt_material_frames *frames)
{
    struct tt_session_symbol_row row = {process, address, NULL, frames->len};
    int rc = tt_vec_push(&names->first, names->symbols.len) || tt_vec_push(&names->rows, row)
                 ? -ENOMEM
                 : 0;
    for (size_t i = 0; i < frames->len && !rc; i++) {
        const struct tt_symbol_frame *f = &frames->data[i];
        struct tt_session_symbol symbol = {f->function, f->module, f->file, f->line, f->inlined};
        rc = tt_vec_push(&names->symbols, symbol);
    }
    return rc;
}

int tt_report_material_save(struct tt_report_material *m, size_t session, struct tt_error *err)
{
    struct names names = {0};
    struct tt_material_frames frames = {0};
    struct tt_map seen = {0};
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
            if (!rc && frames.len && *frames.data[frames.len - 1].function)
                rc = add_row(&names, known->process, address, &frames);
        }
    }
    for (size_t i = 0; i < names.rows.len && !rc; i++)
        names.rows.data[i].frames = names.symbols.data + names.first.data[i];
    if (rc)
        rc = tt_error_set(err, rc, "out of memory naming stacks");
    else if (names.rows.len)
        rc = tt_session_symbols_put(tt_session_path(m->sources[session].from.session),
                                    names.rows.data, names.rows.len, err);
    tt_vec_free(&frames);
    tt_map_free(&seen);
    tt_vec_free(&names.rows);
    tt_vec_free(&names.symbols);
    tt_vec_free(&names.first);
    return rc;
}
