/* SPDX-License-Identifier: Apache-2.0 */
/* Growing strings and the number formats of the articles. Start: tt_text_add. */
#include "base/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int room_for(struct tt_text *text, size_t more)
{
    size_t need = text->len + more + 1;
    if (text->failed)
        return -ENOMEM;
    if (need <= text->cap)
        return 0;
    size_t cap = text->cap ? text->cap : 256;
    while (cap < need)
        cap *= 2;
    char *data = realloc(text->data, cap);
    if (!data) {
        text->failed = 1;
        return -ENOMEM;
    }
    text->data = data;
    text->cap = cap;
    return 0;
}

void tt_text_add_bytes(struct tt_text *text, const void *bytes, size_t n)
{
    if (room_for(text, n))
        return;
    memcpy(text->data + text->len, bytes, n);
    text->len += n;
    text->data[text->len] = '\0';
}

void tt_text_add(struct tt_text *text, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0 || room_for(text, (size_t)n))
        return;
    va_start(ap, fmt);
    vsnprintf(text->data + text->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    text->len += (size_t)n;
}

void tt_text_free(struct tt_text *text)
{
    free(text->data);
    *text = (struct tt_text){0};
}

char *tt_text_count(char buf[32], uint64_t n)
{
    char digits[24];
    int len = snprintf(digits, sizeof digits, "%llu", (unsigned long long)n);
    char *out = buf;
    for (int i = 0; i < len; i++) {
        if (i && (len - i) % 3 == 0)
            *out++ = ',';
        *out++ = digits[i];
    }
    *out = '\0';
    return buf;
}

char *tt_text_size(char buf[32], double bytes)
{
    static const char *const unit[] = {"KiB", "MiB", "GiB", "TiB", "PiB"};
    double size = bytes < 0 ? -bytes : bytes;
    const char *sign = bytes < 0 ? "-" : "";
    if (size < 1024) {
        const char *word = size == 1 ? "byte" : "bytes";
        if (size == (double)(long)size)
            snprintf(buf, 32, "%s%ld %s", sign, (long)size, word);
        else
            snprintf(buf, 32, "%s%.3g %s", sign, size, word);
        return buf;
    }
    size_t u = 0;
    for (size /= 1024; size >= 1024 && u + 1 < sizeof unit / sizeof *unit; u++)
        size /= 1024;
    snprintf(buf, 32, size < 100 ? "%s%.1f %s" : "%s%.0f %s", sign, size, unit[u]);
    return buf;
}

char *tt_text_duration(char buf[32], double s)
{
    if (s < 1)
        snprintf(buf, 32, "%.0f ms", s * 1e3);
    else if (s < 120)
        snprintf(buf, 32, s < 10 ? "%.3g s" : "%.0f s", s);
    else if (s < 7200)
        snprintf(buf, 32, "%.1f min", s / 60);
    else if (s < 172800)
        snprintf(buf, 32, "%.1f h", s / 3600);
    else if (s < 730 * 86400.0)
        snprintf(buf, 32, "%.0f days", s / 86400);
    else
        snprintf(buf, 32, "%.0f years", s / (365.25 * 86400));
    return buf;
}

char *tt_text_expand(const char *pattern, long pid)
{
    struct tt_text out = {0};
    char host[256] = "localhost";
    gethostname(host, sizeof host - 1);
    tt_text_add_bytes(&out, "", 0);
    for (const char *p = pattern; *p; p++) {
        if (*p != '%') {
            tt_text_add_bytes(&out, p, 1);
        } else if (p[1] == 'p') {
            tt_text_add(&out, "%ld", pid);
            p++;
        } else if (p[1] == 'h') {
            tt_text_add(&out, "%s", host);
            p++;
        } else if (p[1] == '%') {
            tt_text_add_bytes(&out, p++, 1);
        } else {
            tt_text_free(&out);
            errno = EINVAL;
            return NULL;
        }
    }
    if (out.failed) {
        tt_text_free(&out);
        errno = ENOMEM;
        return NULL;
    }
    return out.data;
}
