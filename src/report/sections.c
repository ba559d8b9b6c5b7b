/* SPDX-License-Identifier: Apache-2.0 */
/* What an article says first of a finding: title, what it applies to, symptoms. CAUSE is in
 * cause.c, the rest in outlook.c. Each function writes nothing where the finding does not support a
 * sentence. Start: tt_section_title. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "report/phrase.h"

static const char *component(const struct tt_subject *subject)
{
    const char *name = tt_phrase_base(subject->process->exe);
    return *name ? name : "the program";
}

/* Mean requested bytes of a lost unit, 0 if unknown or if units have no size. */
static double unit_bytes(const struct tt_finding *f)
{
    if (!tt_phrase_sized(f->resource))
        return 0;
    return f->lost_units && tt_phrase_known(f->lost_bytes) ? f->lost_bytes / (double)f->lost_units
           : f->size_min == f->size_max                    ? f->size_min
                                                           : 0;
}

/* "80 bytes (2 blocks) per call" or "1 file descriptor per 3 calls" */
static void loss_per_operation(struct tt_text *out, const struct tt_finding *f)
{
    tt_phrase size, units;
    double step = tt_phrase_step(f);
    tt_phrase_units(units, f->resource, f->rate.per_operation * step);
    if (tt_phrase_sized(f->resource) && tt_phrase_known(f->rate.bytes_per_operation))
        tt_text_add(out, "%s (%s)", tt_phrase_size(size, f->rate.bytes_per_operation * step),
                    units);
    else
        tt_text_add(out, "%s", units);
    tt_text_add(out, " per ");
    tt_phrase_operations(out, f, step);
}

/* "1.4 MiB per hour": per second, hour or day, whichever gives a number near one or above. */
static bool loss_per_time(struct tt_text *out, const struct tt_finding *f)
{
    static const struct {
        double seconds;
        const char *word;
    } spans[] = {{1, "second"}, {3600, "hour"}, {86400, "day"}};
    double bytes = unit_bytes(f), rate = f->rate.per_second * (bytes > 0 ? bytes : 1);
    if (!tt_phrase_known(rate))
        return false;
    double enough = bytes > 0 ? 1024 : 1;
    size_t i = 0;
    while (i < 2 && rate * spans[i].seconds < enough)
        i++;
    tt_phrase text;
    tt_text_add(out, "%s per %s",
                bytes > 0 ? tt_phrase_size(text, rate * spans[i].seconds)
                          : tt_phrase_units(text, f->resource, rate * spans[i].seconds),
                spans[i].word);
    return true;
}

/* The labels of the recording that matter: the law's covariate, else all of at most two. */
static void when(struct tt_text *out, const struct tt_subject *subject)
{
    const struct tt_report_session *s = subject->session;
    const char *covariate = subject->finding->law.known ? subject->finding->law.covariate : "";
    bool first = true;
    for (size_t i = 0; i < s->n_labels; i++) {
        if (*covariate ? strcmp(covariate, s->labels[i].key) != 0 : s->n_labels > 2)
            continue;
        tt_text_add(out, "%s%s=%s", first ? " with " : " and ", s->labels[i].key,
                    s->labels[i].value);
        first = false;
    }
}

/* "40 bytes per call for each owner beyond the second", where the law is that simple. */
static bool loss_by_law(struct tt_text *out, const struct tt_finding *f)
{
    static const char *const ordinal[] = {"none",  "first",   "second", "third", "fourth", "fifth",
                                          "sixth", "seventh", "eighth", "ninth", "tenth"};
    const struct tt_law_term *t = &f->law.terms[0];
    if (!f->law.known || !f->law.identifiable || f->law.n_terms != 1 || !f->rate.has_operation ||
        t->basis == TT_LAW_CONSTANT || t->knot < 0 || t->knot > 10 || t->knot != floor(t->knot))
        return false;
    tt_phrase amount;
    int letters = (int)strlen(f->law.covariate);
    if (letters > 2 && f->law.covariate[letters - 1] == 's' && f->law.covariate[letters - 2] != 's')
        letters--;
    tt_text_add(out, "%s per ",
                f->law.bytes ? tt_phrase_size(amount, t->coefficient)
                             : tt_phrase_units(amount, f->resource, t->coefficient));
    tt_phrase_operations(out, f, 1);
    tt_text_add(out, " for each %.*s", letters, f->law.covariate);
    if (t->basis == TT_LAW_HINGE && t->knot >= 1)
        tt_text_add(out, " beyond the %s", ordinal[(int)t->knot]);
    return true;
}

/* Whether nearly all that stay are in a state that says why. */
static bool in_state(const struct tt_finding *f)
{
    double stay = f->lost_units ? (double)f->lost_units : (double)f->live;
    return f->state.name && f->state.units >= 1 && f->state.units >= 0.9 * stay;
}

static void title(struct tt_text *out, const struct tt_subject *subject)
{
    const struct tt_finding *f = subject->finding;
    bool undecided = f->verdict == TT_VERDICT_UNDETERMINED;
    tt_phrase units, size;
    bool past = f->verdict == TT_VERDICT_LEAK_LOST && !f->lost_units && f->before.units >= 1;
    tt_text_add(out, "%s %s %s", component(subject),
                undecided ? "keeps"
                : past    ? "lost"
                          : "loses",
                tt_phrase_about(f, false));
    if (loss_by_law(out, f)) {
        if (undecided)
            tt_text_add(out, "; not decided");
        return;
    }
    if (past) {
        tt_text_add(out, "%s", tt_phrase_units(units, f->resource, round(f->before.units)));
        if (tt_phrase_known(f->before.bytes))
            tt_text_add(out, " (%s)", tt_phrase_size(size, f->before.bytes));
        tt_text_add(out, " before it was recorded, and none since");
        return;
    }
    if (f->rate.has_operation && tt_phrase_known(f->rate.per_operation)) {
        loss_per_operation(out, f);
    } else if (!loss_per_time(out, f)) {
        uint64_t n = f->lost_units ? f->lost_units : f->live;
        tt_text_add(out, "%s", tt_phrase_units(units, f->resource, (double)n));
        if (f->lost_units && tt_phrase_known(f->lost_bytes) && tt_phrase_sized(f->resource))
            tt_text_add(out, " (%s)", tt_phrase_size(size, f->lost_bytes));
    }
    when(out, subject);
    if (in_state(f))
        tt_text_add(out, " (%s)", f->state.name);
    if (undecided)
        tt_text_add(out, "; not decided");
}

void tt_section_title(struct tt_article *article, const struct tt_subject *subject)
{
    const struct tt_finding *f = subject->finding;
    struct tt_text text = {0};
    title(&text, subject);
    tt_article_add(article, TT_BLOCK_TITLE, "%s", tt_phrase_text(text.data));
    if (article->blocks.len)
        article->blocks.data[article->blocks.len - 1].alarm = tt_verdict_is_leak(f->verdict);
    tt_text_free(&text);
    const struct tt_findings *all = subject->input->findings;
    size_t alike = 0; /* leaks, or the undecided where there is no leak: those with articles */
    for (size_t i = 0; i < all->list.len; i++)
        alike += !all->list.data[i].has_group &&
                 tt_verdict_is_leak(all->list.data[i].verdict) == tt_verdict_is_leak(f->verdict) &&
                 (all->leak || all->list.data[i].verdict == f->verdict);
    tt_phrase percent;
    /* Never certain: a share of 1 would print as 100 %. */
    tt_phrase_percent(percent, fmin(f->confidence, 0.99999));
    if (isnan(f->confidence))
        *percent = '\0';
    tt_article_add(article, TT_BLOCK_SUBTITLE, "finding %d of %zu · %s · %s%s%s", f->id, alike,
                   tt_verdict_word(f->verdict), tt_phrase_text(f->resource),
                   *percent ? " · confidence " : "", percent);
}

/* Between the facts of one line. */
static const char *dot(const struct tt_text *line)
{
    return line->len ? " · " : "";
}

void tt_section_applies_to(struct tt_article *article, const struct tt_report_session *session,
                           const struct tt_report_process *process)
{
    struct tt_text line = {0}, file = {0};
    char size[32];
    tt_phrase date;
    tt_text_add(&file, "%s", tt_phrase_base(process->exe));
    if (*tt_phrase_text(process->build_id))
        tt_text_add(&file, ", build-id %.12s", process->build_id);
    if (*tt_phrase_date(date, process->exe_mtime))
        tt_text_add(&file, ", %s", date);
    if (process->exe_size)
        tt_text_add(&file, ", %s bytes", tt_text_count(size, process->exe_size));
    if (file.len)
        tt_text_add(&line, "%s", file.data);
    if (*tt_phrase_text(session->kernel))
        tt_text_add(&line, "%sLinux %s%s%s", dot(&line), session->kernel,
                    *tt_phrase_text(session->machine) ? " " : "", tt_phrase_text(session->machine));
    if (*tt_phrase_text(process->libc))
        tt_text_add(&line, "%s%s", dot(&line), process->libc);
    if (*tt_phrase_text(process->allocator) &&
        !strstr(tt_phrase_text(process->libc), process->allocator))
        tt_text_add(&line, "%smalloc of %s", dot(&line), process->allocator);
    if (process->pid > 0)
        tt_text_add(&line, "%spid %ld", dot(&line), process->pid);
    tt_article_add(article, TT_BLOCK_HEADING, "APPLIES TO");
    tt_article_add(article, TT_BLOCK_PARA, "%s", line.len ? line.data : "an unknown program");
    tt_text_free(&line);
    tt_text_free(&file);
}

static void symptom_rate(struct tt_article *article, const struct tt_finding *f)
{
    struct tt_text text = {0};
    tt_phrase number, interval;
    const struct tt_rate *rate = &f->rate;
    bool stays = f->verdict == TT_VERDICT_UNDETERMINED;
    if (rate->has_operation && tt_phrase_known(rate->per_operation)) {
        double step = tt_phrase_step(f);
        tt_text_add(&text, step == 1 ? "Each " : "Every ");
        tt_phrase_operations(&text, f, step);
        tt_text_add(&text, " leave%s %s%s behind", step == 1 ? "s" : "", tt_phrase_about(f, false),
                    tt_phrase_units(number, f->resource, rate->per_operation * step));
        if (!rate->exact)
            tt_text_add(&text, " on average%s",
                        tt_phrase_interval(interval, "95 %", rate->per_operation_interval.lo,
                                           rate->per_operation_interval.hi));
        if (tt_phrase_sized(f->resource) && tt_phrase_known(rate->bytes_per_operation)) {
            tt_text_add(&text, ": %s", tt_phrase_size(number, rate->bytes_per_operation * step));
            if (tt_phrase_known(f->unit_cost))
                tt_text_add(&text, " (%s with the allocator's own)",
                            tt_phrase_size(number, f->unit_cost * rate->per_operation * step));
        }
        tt_text_add(&text, stays ? "." : ". They are not given back.");
    } else if (tt_phrase_known(rate->per_second)) {
        tt_text_add(&text, "%s%s", stays ? "What stays grows by " : "The process loses ",
                    tt_phrase_about(f, false));
        if (unit_bytes(f) > 0 && loss_per_time(&text, f))
            tt_text_add(&text, ", ");
        tt_text_add(&text, "%s per hour",
                    tt_phrase_units(number, f->resource, rate->per_second * 3600));
        if (rate->per_second_interval.lo >= 0)
            tt_text_add(&text, "%s",
                        tt_phrase_interval(interval, "95 %", rate->per_second_interval.lo * 3600,
                                           rate->per_second_interval.hi * 3600));
        tt_text_add(&text, ".");
    }
    if (text.len)
        tt_article_add(article, TT_BLOCK_PARA, "%s", text.data);
    tt_text_free(&text);
}

static void symptom_total(struct tt_article *article, const struct tt_subject *subject)
{
    const struct tt_finding *f = subject->finding;
    struct tt_text text = {0};
    tt_phrase number;
    char span[32];
    if (!f->lost_units)
        return;
    tt_text_add(&text, "In %s", tt_text_duration(span, subject->session->seconds));
    /* Operations are counted while units could still reach the horizon; beside a total that spans
     * more, their number would not fit. */
    double by_rate = f->rate.operations * f->rate.per_operation, lost = (double)f->lost_units;
    if (f->rate.has_operation && tt_phrase_known(by_rate) && fabs(by_rate - lost) <= 0.01 * lost) {
        tt_text_add(&text, ", over %s ", tt_phrase_number(number, f->rate.operations));
        tt_phrase_operation(&text, &f->rate, f->rate.operations != 1);
    }
    tt_text_add(&text, ", %s%s", tt_phrase_about(f, false),
                tt_phrase_units(number, f->resource, (double)f->lost_units));
    if (*tt_phrase_sizes(number, f))
        tt_text_add(&text, " of %s", number);
    tt_text_add(&text, " %s",
                f->verdict == TT_VERDICT_UNDETERMINED ? "stayed"
                : f->lost_units == 1                  ? "was lost"
                                                      : "were lost");
    if (tt_phrase_sized(f->resource) && tt_phrase_known(f->lost_bytes)) {
        tt_text_add(&text, ": %s requested", tt_phrase_size(number, f->lost_bytes));
        if (tt_phrase_known(f->lost_cost))
            tt_text_add(&text, ", %s with the allocator's own",
                        tt_phrase_size(number, f->lost_cost));
    }
    tt_text_add(&text, ".");
    if (tt_phrase_known(f->estimate_sd))
        tt_text_add(&text, " These are estimates from samples: standard error %s.",
                    tt_phrase_units(number, f->resource, f->estimate_sd));
    tt_article_add(article, TT_BLOCK_PARA, "%s", text.data);
    tt_text_free(&text);
}

/* "48 of them are in CLOSE_WAIT for longer than 600 s: the peer has gone, ..." */
static void symptom_state(struct tt_article *article, const struct tt_finding *f)
{
    tt_phrase units, horizon;
    if (!f->state.name || f->state.units < 1)
        return;
    tt_article_add(article, TT_BLOCK_PARA, "%s of them %s in %s for longer than %s s: %s.",
                   tt_phrase_number(units, f->state.units), f->state.units < 1.5 ? "is" : "are",
                   f->state.name, tt_phrase_number(horizon, f->horizon), f->state.words);
}

static void symptom_owner(struct tt_article *article, const struct tt_finding *f)
{
    tt_phrase held, of;
    if (!f->owner.known || (!tt_verdict_is_leak(f->verdict) && !f->owner.outlives))
        return;
    tt_article_add(article, TT_BLOCK_PARA, "They were acquired %s.", f->owner.text);
    if (f->owner.outlives)
        tt_article_more(article,
                        "They outlive their owner: %s of %s are still held after the client "
                        "has gone.",
                        tt_phrase_number(held, f->owner.outlived),
                        tt_phrase_number(of, f->owner.outlived + f->owner.released));
}

void tt_section_symptoms(struct tt_article *article, const struct tt_subject *subject)
{
    const struct tt_finding *f = subject->finding;
    const char *word = tt_phrase_word(f->resource, true);
    tt_article_add(article, TT_BLOCK_HEADING, "SYMPTOMS");
    symptom_rate(article, f);
    symptom_total(article, subject);
    tt_phrase births, deaths, live;
    tt_article_add(article, TT_BLOCK_PARA,
                   "All %s of this site: %s%s acquired, %s%s released, %s%s "
                   "live at the end.",
                   word, tt_phrase_about(f, false), tt_phrase_number(births, (double)f->births),
                   tt_phrase_about(f, false), tt_phrase_number(deaths, (double)f->deaths),
                   tt_phrase_about(f, false), tt_phrase_number(live, (double)f->live));
    char span[32];
    if (f->quiet_seconds >= 1)
        tt_article_more(article, "In the last %s none was acquired and the survivors stayed.",
                        tt_text_duration(span, f->quiet_seconds));
    symptom_state(article, f);
    symptom_owner(article, f);
    tt_plot_add(article, subject);
}
