/* SPDX-License-Identifier: Apache-2.0 */
/* The error record and its one reporter. Messages are formatted in place and written once.
 * Start: tt_error_set. */
#include "base/error.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void compose(struct tt_error *err, int code, const char *fmt, va_list ap)
{
    err->code = code;
    vsnprintf(err->text, sizeof err->text, fmt, ap);
}

int tt_error_set(struct tt_error *err, int code, const char *fmt, ...)
{
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        compose(err, code, fmt, ap);
        va_end(ap);
    }
    return code;
}

int tt_error_sys(struct tt_error *err, int code, const char *fmt, ...)
{
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        compose(err, code, fmt, ap);
        va_end(ap);
        size_t used = strlen(err->text);
        snprintf(err->text + used, sizeof err->text - used, ": %s", strerror(-code));
    }
    return code;
}

int tt_error_wrap(struct tt_error *err, const char *fmt, ...)
{
    if (!err)
        return 0;
    char old[sizeof err->text];
    memcpy(old, err->text, sizeof old);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    size_t used = strlen(err->text);
    snprintf(err->text + used, sizeof err->text - used, "%s", old);
    return err->code;
}

void tt_error_report(const struct tt_error *err)
{
    char line[sizeof err->text + 16];
    int n = snprintf(line, sizeof line, "telltale: %s\n", err->text);
    if (n > 0)
        (void)!write(STDERR_FILENO, line, (size_t)n);
}
