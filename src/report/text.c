/* SPDX-License-Identifier: Apache-2.0 */
/* The article on a terminal: 100 columns, sections indented, colour only if asked.
 * Start: tt_report_write_text. */
#include <string.h>

#include "report/article.h"

enum { COLUMNS = 100 };

static const char *colour_of(const struct tt_block *block)
{
    switch (block->kind) {
    case TT_BLOCK_TITLE:
        return block->alarm ? "\033[1;31m" : "\033[1m";
    case TT_BLOCK_HEADING:
        return "\033[1m";
    default:
        return NULL;
    }
}

/* Words of text, wrapped; later lines begin with `hang` columns. Words longer than a line stay
 * whole: they are names and paths that people copy. */
static void wrap(struct tt_text *out, const char *text, size_t hang)
{
    size_t column = hang;
    bool first = true;
    while (*text) {
        size_t bytes = strcspn(text, " "), width = 0;
        for (size_t i = 0; i < bytes; i++)
            width += ((unsigned char)text[i] & 0xc0) != 0x80 && text[i] != 1 && text[i] != 2;
        if (bytes && !first && column + 1 + width > COLUMNS) {
            tt_text_add(out, "\n%*s", (int)hang, "");
            column = hang;
            first = true;
        }
        if (bytes) {
            if (!first)
                tt_text_add(out, " ");
            for (size_t i = 0; i < bytes; i++)
                if (text[i] != 1 && text[i] != 2)
                    tt_text_add_bytes(out, text + i, 1);
            column += width + !first;
            first = false;
        }
        text += bytes;
        text += strspn(text, " ");
    }
    tt_text_add(out, "\n");
}

static void add_lines(struct tt_text *out, const char *text)
{
    while (*text) {
        size_t bytes = strcspn(text, "\n");
        tt_text_add(out, bytes ? "    %.*s\n" : "\n", (int)bytes, text);
        text += bytes + (text[bytes] == '\n');
    }
}

int tt_report_write_text(const struct tt_report_input *input, struct tt_text *out)
{
    struct tt_article article = {0};
    enum tt_block_kind before = TT_BLOCK_TITLE;
    tt_article_compose(&article, input);
    for (size_t i = 0; i < article.blocks.len; i++) {
        const struct tt_block *block = &article.blocks.data[i];
        const char *text = block->text.data ? block->text.data : "";
        const char *colour = input->colour ? colour_of(block) : NULL;
        if (!*text)
            continue;
        if (i && (block->kind == TT_BLOCK_TITLE || block->kind == TT_BLOCK_HEADING))
            tt_text_add(out, "\n");
        if (block->kind == TT_BLOCK_TITLE && i)
            tt_text_add(out, "\n");
        /* Lines stand apart unless the paragraph before announces them. */
        if (block->kind == TT_BLOCK_LINES && out->len > 1 && before == TT_BLOCK_PARA &&
            out->data[out->len - 2] != ':')
            tt_text_add(out, "\n");
        before = block->kind;
        if (colour)
            tt_text_add(out, "%s", colour);
        switch (block->kind) {
        case TT_BLOCK_PARA:
            tt_text_add(out, "  ");
            wrap(out, text, 2);
            break;
        case TT_BLOCK_BULLET:
            tt_text_add(out, "  - ");
            wrap(out, text, 4);
            break;
        case TT_BLOCK_LINES:
            add_lines(out, text);
            break;
        default:
            wrap(out, text, 0);
        }
        if (colour) { /* before the newline that wrap wrote */
            out->len--;
            tt_text_add(out, "\033[0m\n");
        }
    }
    bool failed = article.failed || out->failed;
    tt_article_free(&article);
    return failed ? -ENOMEM : 0;
}
