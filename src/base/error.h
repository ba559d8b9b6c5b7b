/* SPDX-License-Identifier: Apache-2.0 */
/* One error idiom for the whole house: a function returns 0 or a negative errno, and whoever can
 * say why fills a tt_error whose message names the cause and the remedy in one line. Nothing in
 * src/ but src/cmd prints errors; it does so through tt_error_report. Start: tt_error_set. */
#ifndef TT_BASE_ERROR_H
#define TT_BASE_ERROR_H

#include <stdarg.h>

enum tt_exit { TT_EXIT_CLEAN = 0, TT_EXIT_LEAK = 1, TT_EXIT_USAGE = 2, TT_EXIT_TROUBLE = 3 };

struct tt_error {
    int code;       /* negative errno, 0 when nothing happened */
    char text[512]; /* one line, no newline, no program name */
};

/* Fills *err (which may be NULL) and returns code, so that callers can write
 * `return tt_error_set(err, -ENOENT, "no such session: %s", path);`. code must be negative. */
__attribute__((format(printf, 3, 4))) int tt_error_set(struct tt_error *err, int code,
                                                       const char *fmt, ...);

/* Like tt_error_set, and appends ": " and strerror(-code). */
__attribute__((format(printf, 3, 4))) int tt_error_sys(struct tt_error *err, int code,
                                                       const char *fmt, ...);

/* Puts a prefix ("reading x.tt: ") before the text that is already there. Returns err->code. */
__attribute__((format(printf, 2, 3))) int tt_error_wrap(struct tt_error *err, const char *fmt, ...);

/* Writes "telltale: TEXT\n" to stderr with a single write, so that lines stay whole. */
void tt_error_report(const struct tt_error *err);

#endif
