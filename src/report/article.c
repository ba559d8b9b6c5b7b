/* SPDX-License-Identifier: Apache-2.0 */
/* The list of blocks and the one place where text from the target is made harmless.
 * Start: tt_article_add. */
#include "report/article.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Length of the valid UTF-8 sequence at s (RFC 3629, no surrogates, no overlong forms), or 0. */
static size_t sequence_length(const unsigned char *s)
{
    size_t n = s[0] < 0x80                   ? 1
               : s[0] >= 0xc2 && s[0] < 0xe0 ? 2
               : (s[0] & 0xf0) == 0xe0       ? 3
               : s[0] >= 0xf0 && s[0] < 0xf5 ? 4
                                             : 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return n;
}

static void append_clean(struct tt_text *out, const char *text, bool brackets)
{
    const unsigned char *s = (const unsigned char *)text;
    while (*s) {
        size_t n = sequence_length(s);
        bool control = (*s < 0x20 && !(brackets && (*s == 1 || *s == 2))) || *s == 0x7f ||
                       (n == 2 && s[0] == 0xc2 && s[1] < 0xa0);
        if (!n || control)
            tt_text_add_bytes(out, *s == '\n' || *s == '\t' ? " " : "?", 1);
        else
            tt_text_add_bytes(out, s, n);
        s += n ? n : 1;
    }
}

char *tt_article_clean(const char *text)
{
    struct tt_text out = {0};
    tt_text_add_bytes(&out, "", 0);
    append_clean(&out, text ? text : "", false);
    if (out.failed)
        tt_text_free(&out);
    return out.data;
}

static void append(struct tt_article *article, struct tt_block *block, const char *fmt, va_list ap)
{
    char *text;
    if (vasprintf(&text, fmt, ap) < 0) {
        article->failed = true;
        return;
    }
    append_clean(&block->text, text, block->kind != TT_BLOCK_LINES);
    free(text);
    article->failed |= block->text.failed != 0;
}

void tt_article_add(struct tt_article *article, enum tt_block_kind kind, const char *fmt, ...)
{
    struct tt_block block = {.kind = kind};
    va_list ap;
    va_start(ap, fmt);
    append(article, &block, fmt, ap);
    va_end(ap);
    if (tt_vec_push(&article->blocks, block)) {
        tt_text_free(&block.text);
        article->failed = true;
    }
}

void tt_article_more(struct tt_article *article, const char *fmt, ...)
{
    if (!article->blocks.len)
        return;
    struct tt_block *block = &article->blocks.data[article->blocks.len - 1];
    if (block->text.len)
        tt_text_add_bytes(&block->text, block->kind == TT_BLOCK_LINES ? "\n" : " ", 1);
    va_list ap;
    va_start(ap, fmt);
    append(article, block, fmt, ap);
    va_end(ap);
}

void tt_article_free(struct tt_article *article)
{
    for (size_t i = 0; i < article->blocks.len; i++)
        tt_text_free(&article->blocks.data[i].text);
    tt_vec_free(&article->blocks);
}

size_t tt_article_width(const char *text)
{
    size_t width = 0;
    for (; *text; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80 && *text != 1 && *text != 2;
    return width;
}
