/* SPDX-License-Identifier: Apache-2.0 */
/* What the material files share: the sessions' rows, the symbols per set of mappings, and the
 * stacks looked up so far. Start: struct tt_report_material. */
#ifndef TT_REPORT_MATERIAL_INTERNAL_H
#define TT_REPORT_MATERIAL_INTERNAL_H

#include "base/vec.h"
#include "report/material.h"

/* The symbols of one set of mappings. */
struct tt_material_set {
    uint64_t hash;
    struct tt_symbols *symbols;
};

/* A stack that was asked for, with its frames expanded. */
struct tt_material_stack {
    int session;
    int64_t process, id;
    struct tt_symbol_frame *frames;
    size_t n;
    bool cut;
    struct tt_session_stack raw;
};

struct tt_material_source {
    struct tt_report_source from;
    struct tt_report_session session; /* its arrays are the vectors below */
    tt_session_process_vec rows;
    bool core;      /* a core file was looked at */
    size_t *set_of; /* per row of processes: index into sets, or SIZE_MAX */
    TT_VEC(struct tt_report_process) processes;
    TT_VEC(struct tt_report_pair) labels;
    TT_VEC(struct tt_report_drop) dropped;
};

struct tt_report_material {
    struct tt_material_source *sources;
    size_t n;
    struct tt_symbol_options options;
    TT_VEC(struct tt_material_set) sets;
    TT_VEC(struct tt_material_stack) stacks;
    TT_VEC(const char *) repeat;
    TT_VEC(const char *) warnings;
    TT_VEC(const char *) rescued; /* modules whose names came from the session */
    TT_VEC(struct tt_report_site) sites;
    TT_VEC(struct tt_report_lost) lost;
    struct tt_report_session *view; /* copies for the input */
    TT_VEC(char *) owned;           /* strings made here */
    char name[512];
};

struct tt_material_frames {
    struct tt_symbol_frame *data;
    size_t len, cap;
};

/* Appends the frames of one return address, at least one. 0 or -ENOMEM. */
int tt_material_names(struct tt_report_material *material, size_t session, int64_t process,
                      uint64_t address, struct tt_material_frames *list);

/* The stack callback of struct tt_report_input; arg is the material. */
int tt_material_stack_get(void *arg, int session, int64_t process, int64_t id,
                          struct tt_report_stack *out);

/* Fills material->repeat: a run line per session, then the report line. 0 or -ENOMEM. */
int tt_material_repeat(struct tt_report_material *material);

#endif
