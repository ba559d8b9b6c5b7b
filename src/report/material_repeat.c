/* SPDX-License-Identifier: Apache-2.0 */
/* REPEAT: the command lines that make the recordings and the report again, quoted for a shell. A
 * session without a command was attached to; one without a mode as well is a single look.
 * Start: tt_material_repeat. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "report/material_internal.h"
#include "report/phrase.h"

/* A word as a POSIX shell needs it. */
static void add_word(struct tt_text *out, const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "-_./=:,+@%";
    tt_text_add(out, out->len ? " " : "");
    if (*word && !word[strspn(word, plain)]) {
        tt_text_add(out, "%s", word);
        return;
    }
    tt_text_add(out, "'");
    for (; *word; word++)
        tt_text_add(out, *word == '\'' ? "'\\''" : "%c", *word);
    tt_text_add(out, "'");
}

static void add_option(struct tt_text *out, const char *option, const char *value)
{
    add_word(out, option);
    add_word(out, value);
}

static int keep_line(struct tt_report_material *m, struct tt_text *line)
{
    if (line->failed || tt_vec_push(&m->owned, line->data)) {
        tt_text_free(line);
        return -ENOMEM;
    }
    return tt_vec_push(&m->repeat, line->data);
}

/* How the mode sampled, where it was not as usual; all processes have the same. */
static void add_sampling(struct tt_text *line, const struct tt_material_source *s)
{
    char number[32];
    const struct tt_session_process *row = s->rows.len ? &s->rows.data[0] : NULL;
    bool sampled = row && !strcmp(row->mode, "sampled");
    if (!row || !row->sample_mean || row->sample_mean == (sampled ? 512u << 10 : 1) ||
        (!sampled && strcmp(row->mode, "adaptive") != 0))
        return;
    snprintf(number, sizeof number, "%llu", (unsigned long long)row->sample_mean);
    add_option(line, sampled ? "--mean" : "--rate", number);
}

/* The operations that were declared; all processes have the same. */
static void add_operations(struct tt_text *line, const struct tt_material_source *s)
{
    tt_session_operation_vec rows = {0};
    if (!s->rows.len ||
        tt_session_operations(s->from.session, s->rows.data[0].id, &rows, NULL) != 0)
        rows.len = 0;
    for (size_t i = 0; i < rows.len; i++) {
        if (!strncmp(rows.data[i].source, "stack", 5) || !*rows.data[i].name)
            continue; /* found by the recorder itself */
        struct tt_text operation = {0};
        tt_text_add(&operation, "%s=%s", rows.data[i].name, rows.data[i].function);
        add_option(line, "--operation", tt_phrase_text(operation.data));
        tt_text_free(&operation);
    }
    tt_vec_free(&rows);
}

/* Options as they were given, of which no row of the session tells. */
static void add_noted(struct tt_text *line, const struct tt_material_source *s)
{
    const char *noted = tt_session_meta_get(s->from.session, "options");
    json_t *words = noted ? json_loads(noted, 0, NULL) : NULL, *word;
    size_t i;
    json_array_foreach(words, i, word) add_word(line, tt_phrase_text(json_string_value(word)));
    json_decref(words);
}

/* The processes that were attached to: each pid once, children that were followed left out. */
static void add_pids(struct tt_text *line, const struct tt_material_source *s)
{
    for (size_t i = 0; i < s->rows.len; i++) {
        char number[32];
        bool seen = false;
        for (size_t k = 0; k < s->rows.len && !seen; k++)
            seen = (k < i && s->rows.data[k].pid == s->rows.data[i].pid) ||
                   s->rows.data[k].pid == s->rows.data[i].parent;
        if (seen || s->rows.data[i].pid <= 0)
            continue;
        snprintf(number, sizeof number, "%lld", (long long)s->rows.data[i].pid);
        add_option(line, "-p", number);
    }
}

/* One look at a process or a core file. */
static int add_look_line(struct tt_report_material *m, const struct tt_material_source *s)
{
    const char *core = tt_session_meta_get(s->from.session, "core");
    struct tt_text line = {0};
    tt_text_add(&line, s->core ? "telltale core" : "telltale snapshot");
    if (s->core)
        add_word(&line, core && *core ? core : "CORE");
    else
        add_pids(&line, s);
    add_option(&line, "-o", tt_phrase_text(s->from.name));
    return keep_line(m, &line);
}

static int add_run_line(struct tt_report_material *m, const struct tt_material_source *s)
{
    const struct tt_session_meta *meta = tt_session_meta(s->from.session);
    json_t *words = json_loads(meta->command, 0, NULL);
    struct tt_text line = {0};
    char number[32];
    size_t i;
    json_t *word;
    if (*meta->command && !json_is_array(words)) {
        json_decref(words);
        return 0;
    }
    if (!words && !*meta->mode)
        return add_look_line(m, s);
    tt_text_add(&line, words ? "telltale run" : "telltale attach");
    if (!words)
        add_pids(&line, s);
    add_option(&line, "-o", tt_phrase_text(s->from.name));
    if (!words && s->session.seconds >= 1) {
        snprintf(number, sizeof number, "%.0f", s->session.seconds);
        add_option(&line, "-d", number);
    }
    if (*meta->mode && strcmp(meta->mode, "exact") != 0)
        add_option(&line, "--mode", meta->mode);
    add_sampling(&line, s);
    if (meta->horizon_s > 0) {
        snprintf(number, sizeof number, "%g", meta->horizon_s);
        add_option(&line, "--horizon", number);
    }
    const char *follow = tt_session_meta_get(s->from.session, "follow");
    if (follow && !strcmp(follow, "1"))
        add_word(&line, "-f");
    const char *no_inject = tt_session_meta_get(s->from.session, "no_inject");
    if (no_inject && !strcmp(no_inject, "1"))
        add_word(&line, "--no-inject");
    add_operations(&line, s);
    for (size_t k = 0; k < s->labels.len; k++) {
        struct tt_text label = {0};
        tt_text_add(&label, "%s=%s", s->labels.data[k].key, s->labels.data[k].value);
        add_option(&line, "--label", tt_phrase_text(label.data));
        tt_text_free(&label);
    }
    add_noted(&line, s);
    if (words)
        add_word(&line, "--");
    json_array_foreach(words, i, word) add_word(&line, tt_phrase_text(json_string_value(word)));
    json_decref(words);
    return keep_line(m, &line);
}

static int add_report_line(struct tt_report_material *m)
{
    struct tt_text line = {0};
    tt_text_add(&line, "telltale report");
    add_word(&line, tt_phrase_text(m->sources[0].from.name));
    for (size_t i = 1; i < m->n; i++)
        add_option(&line, m->sources[i].from.role == TT_REPORT_FIXED ? "--fixed" : "--control",
                   tt_phrase_text(m->sources[i].from.name));
    return keep_line(m, &line);
}

int tt_material_repeat(struct tt_report_material *m)
{
    int rc = 0;
    m->repeat.len = 0;
    for (size_t i = 0; i < m->n && !rc; i++)
        rc = add_run_line(m, &m->sources[i]);
    return rc ? rc : add_report_line(m);
}
