/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers, units and dates as articles print them: thousands commas, three figures, a unit always,
 * and never NaN, an infinity or a negative zero. Inside the report room only.
 * Start: tt_phrase_number. */
#ifndef TT_REPORT_PHRASE_H
#define TT_REPORT_PHRASE_H

#include "report/article.h"

/* Buffers for use inside printf arguments; every function below returns its buffer. */
typedef char tt_phrase[96];

/* 2, 1,234, 0.31, 1.2e-5; "an unknown number" when not finite. */
char *tt_phrase_number(tt_phrase buf, double x);
/* Like tt_text_size, for finite x >= 0; "an unknown size" otherwise. */
char *tt_phrase_size(tt_phrase buf, double bytes);
/* The requested size of a finding's units: "40 bytes", "24 to 120 bytes", "" where units have none.
 */
char *tt_phrase_sizes(tt_phrase buf, const struct tt_finding *finding);
/* "2 blocks", "1 file descriptor": count and the resource's word. */
char *tt_phrase_units(tt_phrase buf, const char *resource, double n);
/* What did not happen to lost ones: "never closed", "not released". */
const char *tt_phrase_lost(const char *resource);
/* The word alone, singular or plural; valid until the next call. */
const char *tt_phrase_word(const char *resource, bool plural);
/* " (95 %: 1.88 to 1.99)", or "" when an end is not finite or both print alike. */
char *tt_phrase_interval(tt_phrase buf, const char *level, double lo, double hi);
/* "99.9 %", never rounded up to 100; "" when not within 0..1. */
char *tt_phrase_percent(tt_phrase buf, double share);
/* "e-value 3e9" from its natural logarithm; "" when not finite. */
char *tt_phrase_evalue(tt_phrase buf, double log_e);
/* "18-Nov-2026 14:02 UTC", the tables' form; "" for 0. */
char *tt_phrase_date(tt_phrase buf, int64_t utc);
/* "2026-11-18T14:02:07Z" (RFC 3339). */
char *tt_phrase_iso(tt_phrase buf, double utc);
/* "call", "calls"; "call of f()", "calls of f()" when the operation is a function. */
void tt_phrase_operation(struct tt_text *out, const struct tt_rate *rate, bool plural);

/* "about " where the finding's numbers are estimates, with a capital first in a sentence; else "".
 */
const char *tt_phrase_about(const struct tt_finding *finding, bool first);
/* Whether a number is there to be said: finite and above 0. */
bool tt_phrase_known(double x);
/* The least number of operations that lose a whole number of units by an exact law: 1 block per 2
 * calls rather than 0.5 per call. 1 when there is no such law. */
double tt_phrase_step(const struct tt_finding *finding);
/* "call", "2 calls" */
void tt_phrase_operations(struct tt_text *out, const struct tt_finding *finding, double step);

/* A judge's phrase as a sentence: capital first, full stop last. */
enum { TT_PHRASE_SENTENCE = 320 };
char *tt_phrase_sentence(char buf[TT_PHRASE_SENTENCE], const char *text);

/* The part of a path after the last '/', never NULL. */
const char *tt_phrase_base(const char *path);
/* Whether units of this resource have a size in bytes. */
bool tt_phrase_sized(const char *resource);
/* s, or "" for NULL. */
const char *tt_phrase_text(const char *s);

#endif
