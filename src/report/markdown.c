/* SPDX-License-Identifier: Apache-2.0 */
/* The article as CommonMark. Plots, stacks and commands are indented code blocks, which nothing
 * inside them can end; prose is escaped. Start: tt_report_write_markdown. */
#include <ctype.h>
#include <string.h>

#include "report/article.h"

/* Names between the code brackets: backticks around, two of them if the name holds one. */
static const char *add_code(struct tt_text *out, const char *text)
{
    size_t n = strcspn(text, TT_CODE_OFF);
    bool ticks = memchr(text, '`', n) != NULL;
    tt_text_add(out, ticks ? "`` %.*s ``" : "`%.*s`", (int)n, text);
    return text + n + (text[n] != '\0');
}

static void add_prose(struct tt_text *out, const char *text)
{
    if (strchr("#+-", *text) && *text)
        tt_text_add(out, "\\");
    for (const char *p = text; *p;) {
        if (*p == TT_CODE_ON[0]) {
            p = add_code(out, p + 1);
            continue;
        }
        if (*p == TT_CODE_OFF[0]) {
            p++;
            continue;
        }
        bool within_word =
            *p == '_' && p > text && isalnum((unsigned char)p[-1]) && isalnum((unsigned char)p[1]);
        if (strchr("\\`*_[]<>|~", *p) && !within_word)
            tt_text_add(out, "\\");
        tt_text_add_bytes(out, p++, 1);
    }
}

static void add_lines(struct tt_text *out, const char *text)
{
    while (*text) {
        size_t bytes = strcspn(text, "\n");
        tt_text_add(out, bytes ? "    %.*s\n" : "\n", (int)bytes, text);
        text += bytes + (text[bytes] == '\n');
    }
}

int tt_report_write_markdown(const struct tt_report_input *input, struct tt_text *out)
{
    struct tt_article article = {0};
    tt_article_compose(&article, input);
    enum tt_block_kind before = TT_BLOCK_TITLE;
    bool first = true;
    for (size_t i = 0; i < article.blocks.len; i++) {
        const struct tt_block *block = &article.blocks.data[i];
        const char *text = block->text.data ? block->text.data : "";
        if (!*text)
            continue;
        if (!first && !(block->kind == TT_BLOCK_BULLET && before == TT_BLOCK_BULLET))
            tt_text_add(out, "\n");
        /* An indented block right after a list item would belong to the item. */
        if (block->kind == TT_BLOCK_LINES && before == TT_BLOCK_BULLET)
            tt_text_add(out, "<!-- -->\n\n");
        first = false;
        before = block->kind;
        switch (block->kind) {
        case TT_BLOCK_TITLE:
            tt_text_add(out, "# ");
            break;
        case TT_BLOCK_HEADING:
            tt_text_add(out, "## ");
            break;
        case TT_BLOCK_BULLET:
            tt_text_add(out, "- ");
            break;
        case TT_BLOCK_LINES:
            add_lines(out, text);
            continue;
        default:
            break;
        }
        add_prose(out, text);
        tt_text_add(out, "\n");
    }
    bool failed = article.failed || out->failed;
    tt_article_free(&article);
    return failed ? -ENOMEM : 0;
}
