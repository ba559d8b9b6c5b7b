/* SPDX-License-Identifier: Apache-2.0 */
/* From session files to a judged report, for every command that needs one: opens the judged session
 * and those beside it, judges, and lays the findings out. Start: tt_article_judge. */
#ifndef TT_CMD_ARTICLE_H
#define TT_CMD_ARTICLE_H

#include "judge/judge.h"
#include "report/report.h"

struct tt_article_options {
    const char *session;
    const char *const *controls;
    size_t n_controls;
    const char *const *fixed;
    size_t n_fixed;
    double horizon; /* seconds; 0: the session's own, else the default */
    struct tt_symbol_options symbols;
    bool colour;
};

struct tt_judged;

/* Opens and judges. NULL with err on failure; free with tt_article_free_judged. */
struct tt_judged *tt_article_judge(const struct tt_article_options *options, struct tt_error *err);
void tt_article_free_judged(struct tt_judged *judged);
const struct tt_findings *tt_article_findings(const struct tt_judged *judged);

/* Appends the report in a format of report.h. 0 or a negative errno with err. */
int tt_article_write(struct tt_judged *judged, const char *format, struct tt_text *out,
                     struct tt_error *err);

/* Appends one line for each leak: where its blocks are acquired, how many were lost. 0 or a
 * negative errno with err. */
int tt_article_leaks(struct tt_judged *judged, struct tt_text *out, struct tt_error *err);

/* Writes text to a file ("-": standard output), whole or not at all: a new file beside the old one
 * is renamed over it. 0 or a negative errno with err. */
int tt_article_put(const char *path, const struct tt_text *text, struct tt_error *err);

#endif
