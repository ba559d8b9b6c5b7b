/* SPDX-License-Identifier: Apache-2.0 */
/* Text for people: a growing string, numbers with thousands commas, byte sizes and durations in
 * the units an article uses, and the -o file name template. Start: tt_text_add. */
#ifndef TT_BASE_TEXT_H
#define TT_BASE_TEXT_H

#include <stddef.h>
#include <stdint.h>

/* A growing string. Zero-initialise; data is NUL-terminated once anything was added. After a
 * failed growth `failed` is set, later additions do nothing, and the owner checks it once. */
struct tt_text {
    char *data;
    size_t len, cap;
    int failed;
};

__attribute__((format(printf, 2, 3))) void tt_text_add(struct tt_text *text, const char *fmt, ...);
void tt_text_add_bytes(struct tt_text *text, const void *bytes, size_t n);
void tt_text_free(struct tt_text *text);

/* Each writes into buf (at least 32 bytes) and returns it, for use inside printf arguments. */
char *tt_text_count(char buf[32], uint64_t n);        /* 1,234,567 */
char *tt_text_size(char buf[32], double bytes);       /* 40 bytes, 78.1 KiB, 8.1 MiB */
char *tt_text_duration(char buf[32], double seconds); /* 350 ms, 61 s, 12.5 min, 3.2 h, 61 days */

/* Expands %p (pid), %h (host name) and %% in an -o template. A new string the caller frees, or
 * NULL when out of memory or when another % letter occurs (errno EINVAL). */
char *tt_text_expand(const char *pattern, long pid);

#endif
