/* SPDX-License-Identifier: Apache-2.0 */
/* CAUSE: where the lost units are acquired, where such units are released when they are, and where
 * the lost ones' operations end. Start: tt_section_cause. */
#include <stdio.h>
#include <string.h>

#include "report/phrase.h"
#include "report/stack.h"

enum {
    FRAMES_MAX = 8,     /* of the acquisition stack */
    PATHS_MAX = 16,     /* release paths looked at */
    RELEASES_MAX = 3,   /* paths */
    RELEASE_FRAMES = 3, /* frames of one path */
    NAME_MAX_WIDTH = 44,
    PLACE_NAME_WIDTH = 60,
};

static bool fetch(const struct tt_subject *subject, int session, int64_t process, int64_t stack,
                  struct tt_report_stack *out)
{
    const struct tt_report_input *input = subject->input;
    *out = (struct tt_report_stack){0};
    return input->stack && !input->stack(input->stack_arg, session, process, stack, out) && out->n;
}

void tt_cause_place(struct tt_text *out, const struct tt_subject *subject)
{
    const struct tt_finding *f = subject->finding;
    struct tt_report_stack stack;
    if (!fetch(subject, 0, f->process, f->stack, &stack)) {
        if (*f->place)
            tt_text_add(out, "%s", f->place);
        else
            tt_text_add(out, "site %lld", (long long)f->site);
        return;
    }
    const struct tt_symbol_frame *top = &stack.frames[tt_report_top_frame(stack.frames, stack.n)];
    struct tt_text place = {0};
    tt_stack_place(&place, top);
    tt_text_add(out, TT_CODE_ON);
    tt_stack_name(out, top, PLACE_NAME_WIDTH);
    tt_text_add(out, TT_CODE_OFF);
    if (place.len)
        tt_text_add(out, " %s", place.data);
    tt_text_free(&place);
}

/* "40 bytes each, through strdup" for the line above the stack; "" when there is nothing to say. */
static void describe_unit(struct tt_text *out, const struct tt_finding *f,
                          const struct tt_stack_view *view)
{
    tt_phrase sizes;
    if (*tt_phrase_sizes(sizes, f))
        tt_text_add(out, " (%s each", sizes);
    if (view->through) {
        tt_text_add(out, "%sthrough " TT_CODE_ON, out->len ? ", " : " (");
        tt_stack_name(out, view->through, PLACE_NAME_WIDTH);
        tt_text_add(out, TT_CODE_OFF);
    }
    if (out->len)
        tt_text_add(out, ")");
}

static void add_stack(struct tt_article *article, const struct tt_report_stack *stack,
                      const struct tt_stack_view *view)
{
    size_t shown = view->end - view->first, width = 0;
    if (shown > FRAMES_MAX)
        shown = FRAMES_MAX - 1;
    struct tt_text names[FRAMES_MAX] = {0};
    for (size_t i = 0; i < shown; i++) {
        tt_stack_name(&names[i], &stack->frames[view->first + i], NAME_MAX_WIDTH);
        size_t w = tt_article_width(tt_phrase_text(names[i].data));
        width = w > width ? w : width;
    }
    tt_article_add(article, TT_BLOCK_LINES, "%s", "");
    for (size_t i = 0; i < shown; i++) {
        const struct tt_symbol_frame *frame = &stack->frames[view->first + i];
        struct tt_text place = {0};
        const char *name = tt_phrase_text(names[i].data);
        tt_stack_place(&place, frame);
        if (frame->inlined)
            tt_text_add(&place, "%s(inlined)", place.len ? " " : "");
        if (place.len)
            tt_article_more(article, "%s%*s   %s", name, (int)(width - tt_article_width(name)), "",
                            place.data);
        else
            tt_article_more(article, "%s", name);
        tt_text_free(&place);
        tt_text_free(&names[i]);
    }
    size_t left = view->end - view->first - shown;
    if (left) {
        struct tt_text outermost = {0};
        tt_stack_name(&outermost, &stack->frames[view->end - 1], NAME_MAX_WIDTH);
        tt_article_more(article, "... %zu more, up to %s", left, tt_phrase_text(outermost.data));
        tt_text_free(&outermost);
    }
    if (stack->cut)
        tt_article_more(article, "(the recorded stack ends here)");
}

/* A release path on one line: inner functions first. */
static bool path_text(struct tt_text *out, const struct tt_subject *subject,
                      const struct tt_release_path *path)
{
    struct tt_report_stack stack;
    if (!fetch(subject, path->session, path->process, path->stack, &stack))
        return false;
    struct tt_stack_view view = tt_stack_trim(stack.frames, stack.n);
    for (size_t i = view.first; i < view.end && i < view.first + RELEASE_FRAMES; i++) {
        struct tt_text place = {0};
        tt_stack_place(&place, &stack.frames[i]);
        tt_text_add(out, "%s", i == view.first ? "" : "  <  ");
        tt_stack_name(out, &stack.frames[i], NAME_MAX_WIDTH);
        if (place.len)
            tt_text_add(out, " %s", place.data);
        tt_text_free(&place);
    }
    return true;
}

/* A line of the article: paths that read alike once trimmed are one. */
struct path_line {
    struct tt_text text;
    const struct tt_release_path *first;
    double share;
    uint64_t samples;
};

static size_t path_lines(const struct tt_subject *subject, const struct tt_release_path *paths,
                         size_t n, struct path_line lines[PATHS_MAX])
{
    size_t used = 0;
    for (size_t i = 0; i < n && used < PATHS_MAX; i++) {
        struct tt_text text = {0};
        if (!path_text(&text, subject, &paths[i]) || !text.len) {
            tt_text_free(&text);
            continue;
        }
        size_t same = 0;
        while (same < used && strcmp(lines[same].text.data, text.data) != 0)
            same++;
        if (same < used) {
            tt_text_free(&text);
            if (paths[i].session == lines[same].first->session) {
                lines[same].samples += paths[i].samples;
                lines[same].share += paths[i].share;
            }
            continue;
        }
        lines[used++] = (struct path_line){text, &paths[i], paths[i].share, paths[i].samples};
    }
    return used;
}

/* The lines under one sentence `lead` for this session, and one more for each other session that
 * shows a path which this one does not. */
static void add_paths(struct tt_article *article, const struct tt_subject *subject,
                      const struct tt_release_path *paths, size_t n, const char *lead)
{
    struct path_line lines[PATHS_MAX];
    size_t used = path_lines(subject, paths, n, lines);
    const char *from = NULL;
    for (size_t i = 0; i < used && i < RELEASES_MAX; i++) {
        const struct path_line *line = &lines[i];
        if (!from || strcmp(from, line->first->from) != 0) {
            from = line->first->from;
            tt_article_add(article, TT_BLOCK_PARA, "%s%s%s:", lead, *from ? ", seen in " : "",
                           from);
            tt_article_add(article, TT_BLOCK_LINES, "%s", "");
        }
        tt_phrase share, samples;
        tt_phrase_percent(share, line->share > 1 && line->share < 1 + 1e-9 ? 1 : line->share);
        tt_article_more(article, "%s", line->text.data);
        if (line->samples)
            tt_article_more(
                article, "    %s%s%s sampled release%s", share, *share ? " of releases, " : "",
                tt_phrase_number(samples, (double)line->samples), line->samples == 1 ? "" : "s");
    }
    if (used > RELEASES_MAX)
        tt_article_more(article, "and %zu more paths", used - RELEASES_MAX);
    for (size_t i = 0; i < used; i++)
        tt_text_free(&lines[i].text);
}

void tt_section_cause(struct tt_article *article, const struct tt_subject *subject)
{
    const struct tt_finding *f = subject->finding;
    const char *word = tt_phrase_word(f->resource, true);
    struct tt_report_stack stack;
    tt_article_add(article, TT_BLOCK_HEADING, "CAUSE");
    if (fetch(subject, 0, f->process, f->stack, &stack)) {
        struct tt_stack_view view = tt_stack_trim(stack.frames, stack.n);
        struct tt_text about = {0};
        describe_unit(&about, f, &view);
        if (f->verdict == TT_VERDICT_LEAK_LOST && !f->lost_units && f->before.units >= 1)
            tt_article_add(article, TT_BLOCK_PARA, "Blocks like the lost ones are acquired here%s:",
                           tt_phrase_text(about.data));
        else
            tt_article_add(article, TT_BLOCK_PARA, "The %s acquired here%s are %s:", word,
                           tt_phrase_text(about.data),
                           f->verdict == TT_VERDICT_UNDETERMINED ? "the ones that stay"
                                                                 : tt_phrase_lost(f->resource));
        tt_text_free(&about);
        add_stack(article, &stack, &view);
    } else {
        if (*f->place)
            tt_article_add(article, TT_BLOCK_PARA, "No call was seen to acquire them (%s).",
                           f->place);
        else
            tt_article_add(article, TT_BLOCK_PARA,
                           "The call stack of the acquisition was not recorded (site %lld).",
                           (long long)f->site);
    }
    if (f->verdict != TT_VERDICT_LEAK_LOST)
        tt_section_holders(article, f->holders.data, f->holders.len, "They are held by:");
    char lead[160];
    snprintf(lead, sizeof lead, "When such %s are released, it is here", word);
    if (!f->deaths)
        tt_article_add(article, TT_BLOCK_PARA, "None of them was released during the recording.");
    add_paths(article, subject, f->releases.data, f->releases.len, lead);
    if (f->operation_releases.len) {
        struct tt_text operation = {0};
        tt_phrase_operation(&operation, &f->rate, false);
        snprintf(lead, sizeof lead, "The record of the %.100s itself is released here",
                 f->rate.has_operation ? tt_phrase_text(operation.data) : "operation");
        tt_text_free(&operation);
        add_paths(article, subject, f->operation_releases.data, f->operation_releases.len, lead);
    }
}
