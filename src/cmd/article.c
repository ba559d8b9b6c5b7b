/* SPDX-License-Identifier: Apache-2.0 */
/* The seam between session, judge and report, once for all commands. Start: tt_article_judge. */
#include "cmd/article.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd/version.h"
#include "report/material.h"
#include "session/session.h"

struct tt_judged {
    struct tt_article_options options; /* symbols are used until the end */
    TT_VEC(struct tt_session *) sessions;
    TT_VEC(struct tt_report_source) sources;
    TT_VEC(struct tt_judge_session) roles;
    struct tt_report_material *material;
    struct tt_findings findings;
};

static int add(struct tt_judged *j, const char *path, enum tt_report_role role,
               enum tt_judge_role judged_as, struct tt_error *err)
{
    struct tt_session *session = tt_session_open(path, err);
    if (!session)
        return err->code ? err->code : -EIO;
    const struct tt_report_source source = {session, path, role};
    const struct tt_judge_session judge = {session, path, judged_as};
    if (tt_vec_push(&j->sessions, session)) {
        tt_session_close(session);
        return tt_error_set(err, -ENOMEM, "out of memory");
    }
    if (tt_vec_push(&j->sources, source) || tt_vec_push(&j->roles, judge))
        return tt_error_set(err, -ENOMEM, "out of memory");
    return 0;
}

struct tt_judged *tt_article_judge(const struct tt_article_options *options, struct tt_error *err)
{
    struct tt_judged *j = calloc(1, sizeof *j);
    if (!j) {
        tt_error_set(err, -ENOMEM, "out of memory");
        return NULL;
    }
    j->options = *options;
    int r = add(j, options->session, TT_REPORT_JUDGED, TT_JUDGE_JUDGED, err);
    for (size_t i = 0; r == 0 && i < options->n_controls; i++)
        r = add(j, options->controls[i], TT_REPORT_CONTROL, TT_JUDGE_CONTROL, err);
    for (size_t i = 0; r == 0 && i < options->n_fixed; i++)
        r = add(j, options->fixed[i], TT_REPORT_FIXED, TT_JUDGE_FIXED, err);
    if (r == 0) {
        j->material =
            tt_report_material_open(j->sources.data, j->sources.len, &j->options.symbols, err);
        r = j->material ? 0 : -EIO;
    }
    if (r == 0) {
        const struct tt_judge_input input = {
            .sessions = j->roles.data,
            .n_sessions = j->roles.len,
            .horizon_s = options->horizon,
            .name = tt_report_material_name,
            .name_arg = j->material,
        };
        r = tt_judge_sessions(&input, &j->findings, err);
    }
    if (r == 0)
        return j;
    tt_article_free_judged(j);
    return NULL;
}

void tt_article_free_judged(struct tt_judged *judged)
{
    if (!judged)
        return;
    if (judged->material)
        tt_report_material_close(judged->material);
    tt_findings_free(&judged->findings);
    for (size_t i = 0; i < judged->sessions.len; i++)
        tt_session_close(judged->sessions.data[i]);
    tt_vec_free(&judged->sessions);
    tt_vec_free(&judged->sources);
    tt_vec_free(&judged->roles);
    free(judged);
}

const struct tt_findings *tt_article_findings(const struct tt_judged *judged)
{
    return &judged->findings;
}

int tt_article_write(struct tt_judged *judged, const char *format, struct tt_text *out,
                     struct tt_error *err)
{
    struct tt_report_input input;
    int r = tt_report_material_input(judged->material, &judged->findings, TT_VERSION, &input, err);
    if (r != 0)
        return r;
    input.colour = judged->options.colour;
    if ((r = tt_report_write(format, &input, out, err)) != 0)
        return r;
    /* Names go into the session while the binaries are at hand; a file that may not be written
     * keeps its addresses, which is all that was promised. */
    struct tt_error ignored;
    (void)tt_report_material_save(judged->material, 0, &ignored);
    return out->failed ? tt_error_set(err, -ENOMEM, "out of memory") : 0;
}

int tt_article_leaks(struct tt_judged *judged, struct tt_text *out, struct tt_error *err)
{
    struct tt_report_input input;
    int r = tt_report_material_input(judged->material, &judged->findings, TT_VERSION, &input, err);
    if (r != 0)
        return r;
    for (size_t i = 0; i < judged->findings.list.len; i++) {
        const struct tt_finding *f = &judged->findings.list.data[i];
        struct tt_report_stack stack = {0};
        char units[32], size[32];
        if (!tt_verdict_is_leak(f->verdict))
            continue;
        tt_text_add(out, "%s: ", tt_verdict_word(f->verdict));
        double lost = (double)f->lost_units + (f->before.looked ? f->before.units : 0);
        if (f->has_group) {
            char *shape = tt_article_clean(f->group.shape);
            tt_text_add(out, "%s", shape ? shape : "");
            free(shape);
        } else if (input.stack(input.stack_arg, 0, f->process, f->stack, &stack) == 0 && stack.n) {
            const struct tt_symbol_frame *top =
                &stack.frames[tt_report_top_frame(stack.frames, stack.n)];
            const char *file = strrchr(top->file, '/');
            tt_text_add(out, "%s", top->function[0] ? top->function : top->module);
            if (top->file[0])
                tt_text_add(out, " %s:%u", file ? file + 1 : top->file, top->line);
        } else {
            tt_text_add(out, "(stack unknown)");
        }
        tt_text_add(out, ", %s%s lost, %s\n", tt_text_count(units, (uint64_t)lost),
                    lost == 1 ? " unit" : " units", tt_text_size(size, tt_finding_lost_bytes(f)));
    }
    return out->failed ? tt_error_set(err, -ENOMEM, "out of memory") : 0;
}

int tt_article_put(const char *path, const struct tt_text *text, struct tt_error *err)
{
    if (strcmp(path, "-") == 0) {
        if (fwrite(text->data, 1, text->len, stdout) != text->len || fflush(stdout) != 0)
            return tt_error_sys(err, -errno, "cannot write to standard output");
        return 0;
    }
    /* A file is there whole or as it was; /dev/null, a pipe or a link must not be replaced by one.
     */
    struct stat st;
    bool in_place = lstat(path, &st) == 0 && !S_ISREG(st.st_mode);
    struct tt_text temporary = {0};
    if (in_place)
        tt_text_add(&temporary, "%s", path);
    else
        tt_text_add(&temporary, "%s.%d.new", path, (int)getpid());
    if (temporary.failed)
        return tt_error_set(err, -ENOMEM, "out of memory");
    int r = 0;
    FILE *file = fopen(temporary.data, "we");
    if (!file) {
        r = tt_error_sys(err, -errno, "cannot write %s", path);
    } else {
        size_t written = fwrite(text->data, 1, text->len, file);
        int failed = written != text->len ? errno : 0;
        if (fclose(file) != 0 && !failed)
            failed = errno;
        if (!failed && !in_place && rename(temporary.data, path) != 0)
            failed = errno;
        if (failed) {
            r = tt_error_sys(err, -failed, "cannot write %s", path);
            if (!in_place)
                unlink(temporary.data);
        }
    }
    tt_text_free(&temporary);
    return r;
}
