/* SPDX-License-Identifier: Apache-2.0 */
/* Names into the session file, so that an article can be written later and elsewhere. The file can
 * be written only when nobody reads it, so names are copied out of the material first.
 * Start: tt_report_material_names. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "report/material_internal.h"

struct tt_report_names {
    TT_VEC(struct tt_session_symbol_row) rows;
    TT_VEC(struct tt_session_symbol) symbols;
    TT_VEC(size_t) first; /* per row: index into symbols */
    TT_VEC(char *) strings;
};

static const char *copy(struct tt_report_names *names, const char *text, int *rc)
{
    char *made = *text ? strdup(text) : NULL;
    if (*text && (!made || tt_vec_push(&names->strings, made))) {
        free(made);
        made = NULL;
        *rc = -ENOMEM;
    }
    return made ? made : "";
}

static int add_row(struct tt_report_names *names, int64_t process, uint64_t address,
                   const struct tt_material_frames *frames)
{
    struct tt_session_symbol_row row = {process, address, NULL, frames->len};
    int rc = tt_vec_push(&names->first, names->symbols.len) || tt_vec_push(&names->rows, row)
                 ? -ENOMEM
                 : 0;
    for (size_t i = 0; i < frames->len && !rc; i++) {
        const struct tt_symbol_frame *f = &frames->data[i];
        struct tt_session_symbol symbol = {copy(names, f->function, &rc),
                                           copy(names, f->module, &rc), copy(names, f->file, &rc),
                                           f->line, f->inlined};
        if (!rc)
            rc = tt_vec_push(&names->symbols, symbol);
    }
    return rc;
}

struct tt_report_names *tt_report_material_names(struct tt_report_material *m, size_t session)
{
    struct tt_report_names *names = calloc(1, sizeof *names);
    struct tt_material_frames frames = {0};
    struct tt_map seen = {0};
    int rc = names ? 0 : -ENOMEM;
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
                rc = add_row(names, known->process, address, &frames);
        }
    }
    for (size_t i = 0; i < (rc ? 0 : names->rows.len); i++)
        names->rows.data[i].frames = names->symbols.data + names->first.data[i];
    tt_vec_free(&frames);
    tt_map_free(&seen);
    if (rc) {
        tt_report_names_free(names);
        return NULL;
    }
    return names;
}

int tt_report_names_save(const struct tt_report_names *names, const char *path,
                         struct tt_error *err)
{
    if (!names->rows.len)
        return 0;
    return tt_session_symbols_put(path, names->rows.data, names->rows.len, err);
}

void tt_report_names_free(struct tt_report_names *names)
{
    if (!names)
        return;
    for (size_t i = 0; i < names->strings.len; i++)
        free(names->strings.data[i]);
    tt_vec_free(&names->rows);
    tt_vec_free(&names->symbols);
    tt_vec_free(&names->first);
    tt_vec_free(&names->strings);
    free(names);
}

int tt_report_material_save(struct tt_report_material *m, size_t session, struct tt_error *err)
{
    struct tt_report_names *names = tt_report_material_names(m, session);
    if (!names)
        return tt_error_set(err, -ENOMEM, "out of memory naming stacks");
    int rc = tt_report_names_save(names, tt_session_path(m->sources[session].from.session), err);
    tt_report_names_free(names);
    return rc;
}
