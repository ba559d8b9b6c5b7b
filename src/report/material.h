/* SPDX-License-Identifier: Apache-2.0 */
/* From sessions to what the report room takes: processes, labels, losses, command lines, and stacks
 * with names. Names are looked up in the files of this machine that match the recording; where
 * there are none, those that the session itself holds are used. Keep the material open until the
 * report is written. Start: tt_report_material_open. */
#ifndef TT_REPORT_MATERIAL_H
#define TT_REPORT_MATERIAL_H

#include "report/report.h"
#include "session/session.h"

struct tt_report_source {
    struct tt_session *session; /* open; borrowed */
    const char *name;           /* for people; borrowed */
    enum tt_report_role role;   /* the first is TT_REPORT_JUDGED */
};

struct tt_report_material;

/* Reads what the report needs of n >= 1 sessions. options may be NULL and is used until close.
 * NULL with err set by the session room, or -ENOMEM. */
struct tt_report_material *tt_report_material_open(const struct tt_report_source *sources, size_t n,
                                                   const struct tt_symbol_options *options,
                                                   struct tt_error *err);
void tt_report_material_close(struct tt_report_material *material);

/* A tt_judge_name_fn; its arg is the material: "function@file:line" or "function" of the innermost
 * inlined frame at a return address, "" unknown. Valid until the next call. */
const char *tt_report_material_name(void *material, size_t session, int64_t process, uint64_t pc);

/* Fills *input for tt_report_write; everything in it is borrowed from material and findings. The
 * caller may set colour, max_articles and tool_version, which is that of this program and not the
 * recorder's. Warnings about symbols are complete only after a report was written once, so stacks
 * of all findings are looked up here. 0 or -ENOMEM. */
int tt_report_material_input(struct tt_report_material *material,
                             const struct tt_findings *findings, const char *tool_version,
                             struct tt_report_input *input, struct tt_error *err);

/* The judged session's sites with live units first, by live bytes, at most max of them. *out is
 * borrowed from material. 0 or what the session room reported. */
int tt_report_material_sites(struct tt_report_material *material, size_t max,
                             struct tt_report_sites *out, struct tt_error *err);

/* Writes the names of all stacks of sources[session] that were looked up so far into its file, so
 * that it can be read where the binaries are not. 0 or a negative errno with err set (read-only,
 * still being recorded); callers may go on without. */
int tt_report_material_save(struct tt_report_material *material, size_t session,
                            struct tt_error *err);

#endif
