/* SPDX-License-Identifier: Apache-2.0 */
/* JSON values as the contract wants them. Inside the report room only. Start: tt_json_number. */
#ifndef TT_REPORT_JSON_H
#define TT_REPORT_JSON_H

#include <jansson.h>

#include "report/report.h"

/* An integer where x is one, null where x is not finite, never -0. */
json_t *tt_json_number(double x);
/* A cleaned string; null for NULL and "". */
json_t *tt_json_text(const char *text);
json_t *tt_json_frame(const struct tt_symbol_frame *frame);
/* Appends root, indented, with a newline, and gives its reference up. 0 or -ENOMEM. */
int tt_json_dump(json_t *root, struct tt_text *out);

#endif
