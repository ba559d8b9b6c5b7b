/* SPDX-License-Identifier: Apache-2.0 */
/* What a campaign of faults found, for people and for programs: which failing call loses what. Its
 * JSON is "telltale.inject/1", with the words of telltale.findings/1 (docs/inject.md).
 * Start: tt_report_faults. */
#ifndef TT_REPORT_FAULTS_H
#define TT_REPORT_FAULTS_H

#include "base/error.h"
#include "base/text.h"
#include "fault/fault.h"

struct tt_report_faults {
    const struct tt_fault_result *result;
    char *const *argv;
    const char *tool_version;
    size_t max; /* text: losses and deaths written out in full; 0: 40 */
};

/* Appends the report, "text" or "json". 0; -ENOMEM or what symbols cannot do, with err. */
int tt_report_faults(const char *format, const struct tt_report_faults *input, struct tt_text *out,
                     struct tt_error *err);

#endif
