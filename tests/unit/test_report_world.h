/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the report room share: a small world of constructed sessions and findings, and
 * the comparison with golden files (tests/unit/report_golden, rewritten when TT_GOLDEN_UPDATE is
 * set). Start: world_begin. */
#ifndef TT_TESTS_REPORT_WORLD_H
#define TT_TESTS_REPORT_WORLD_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "report/report.h"

#define PUSH(vec, ...) assert_int_equal(tt_vec_push(&(vec), __VA_ARGS__), 0)

struct world {
    struct tt_findings findings;
    struct tt_report_session sessions[3];
    struct tt_report_input input;
};

/* Three sessions: one of callowner with 4 owners, a control, one of the fixed build. */
void world_begin(struct world *w);
void world_end(struct world *w);
/* A finding at stack 1 (owner_record_new) that says nothing but its verdict. */
struct tt_finding *add_finding(struct world *w, enum tt_verdict verdict);
/* The call server's leak as measured: all that a judge can say. */
struct tt_finding *add_call_leak(struct world *w);
void add_not_leak(struct world *w, enum tt_verdict verdict, const char *note, uint64_t live);

/* The golden file's text, "" if there is none; the caller frees it. */
char *read_golden(const char *name);
/* Nothing that is not a number, no control characters, no line too long. */
void expect_decent(const char *text);
void expect_golden(const struct tt_report_input *input, const char *format, const char *name);
/* In all formats: name.txt, name.md, name.json. */
void expect_all(const struct tt_report_input *input, const char *name);

#endif
