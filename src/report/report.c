/* SPDX-License-Identifier: Apache-2.0 */
/* The table of formats: an export is one file and one row here. Start: tt_report_write. */
#include "report/report.h"

#include <errno.h>
#include <string.h>

#include "report/article.h"

static const struct {
    const char *name;
    int (*write)(const struct tt_report_input *input, struct tt_text *out);
} formats[] = {
    {"text", tt_report_write_text},
    {"markdown", tt_report_write_markdown},
    {"json", tt_report_write_json},
};

enum { FORMATS = sizeof formats / sizeof *formats };

const char *const *tt_report_formats(void)
{
    static const char *names[FORMATS + 1];
    for (size_t i = 0; i < FORMATS; i++)
        names[i] = formats[i].name;
    return names;
}

int tt_report_write(const char *format, const struct tt_report_input *input, struct tt_text *out,
                    struct tt_error *err)
{
    for (size_t i = 0; i < FORMATS; i++) {
        if (strcmp(format, formats[i].name) != 0)
            continue;
        int rc = formats[i].write(input, out);
        return rc ? tt_error_set(err, rc, "out of memory writing the report") : 0;
    }
    char known[256] = "";
    for (size_t i = 0; i < FORMATS; i++) {
        strncat(known, i ? ", " : "", sizeof known - strlen(known) - 1);
        strncat(known, formats[i].name, sizeof known - strlen(known) - 1);
    }
    return tt_error_set(err, -EINVAL, "unknown format \"%s\": one of %s", format, known);
}
