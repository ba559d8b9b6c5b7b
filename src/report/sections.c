/* SPDX-License-Identifier: Apache-2.0 */
/* What an article says of one finding, section by section, except CAUSE (cause.c) and the plot
 * (plot.c). Each function writes nothing when the finding does not support a sentence.
 * Start: tt_section_title. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "report/phrase.h"

static const char *about(const struct tt_finding *f)
{
    return f->estimate_sd > 0 ? "about " : "";
}

/* The same where it begins a sentence. */
static const char *About(const struct tt_finding *f)
{
    return f->estimate_sd > 0 ? "About " : "";
}

static const char *component(const struct tt_subject *subject)
{
    const char *name = tt_phrase_base(subject->process->exe);
    return *name ? name : "the program";
}

static bool known(double x)
{
    return isfinite(x) && x > 0;
}

/* Mean requested bytes of a lost unit, 0 if unknown or if units have no size. */
static double unit_bytes(const struct tt_finding *f)
{
    if (!tt_phrase_sized(f->resource))
        return 0;
    return f->lost_units && known(f->lost_bytes) ? f->lost_bytes / (double)f->lost_units
           : f->size_min == f->size_max          ? f->size_min
                                                 : 0;
}

/* The least number of operations that lose a whole number of units by an exact law: 1 block per 2
 * calls rather than 0.5 per call. 1 when there is no such law. */
static double step_of(const struct tt_finding *f)
{
    double n = f->rate.per_operation;
    for (double k = 1; f->rate.exact && k <= 24; k++)
        if (n * k > 0.5 && fabs(n * k - round(n * k)) < 1e-6)
            return k;
    return 1;
}

/* "call", "2 calls" */
static void operations(struct tt_text *out, const struct tt_finding *f, double step)
{
    tt_phrase number;
    if (step != 1)
        tt_text_add(out, "%s ", tt_phrase_number(number, step));
    tt_phrase_operation(out, &f->rate, step != 1);
}

/* "80 bytes (2 blocks) per call" or "1 file descriptor per 3 calls" */
static void loss_per_operation(struct tt_text *out, const struct tt_finding *f)
{
    tt_phrase size, units;
    double step = step_of(f);
    tt_phrase_units(units, f->resource, f->rate.per_operation * step);
    if (tt_phrase_sized(f->resource) && known(f->rate.bytes_per_operation))
        tt_text_add(out, "%s (%s)", tt_phrase_size(size, f->rate.bytes_per_operation * step),
                    units);
    else
        tt_text_add(out, "%s", units);
    tt_text_add(out, " per ");
    operations(out, f, step);
}

/* "1.4 MiB per hour": per second, hour or day, whichever gives a number near one or above. */
static bool loss_per_time(struct tt_text *out, const struct tt_finding *f)
{
    static const struct {
        double seconds;
        const char *word;
    } spans[] = {{1, "second"}, {3600, "hour"}, {86400, "day"}};
    double bytes = unit_bytes(f), rate = f->rate.per_second * (bytes > 0 ? bytes : 1);
    if (!known(rate))
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

static void title(struct tt_text *out, const struct tt_subject *subject)
{
    const struct tt_finding *f = subject->finding;
    bool undecided = f->verdict == TT_VERDICT_UNDETERMINED;
    tt_phrase units, size;
    tt_text_add(out, "%s %s %s", component(subject), undecided ? "keeps" : "loses", about(f));
    if (f->rate.has_operation && known(f->rate.per_operation)) {
        loss_per_operation(out, f);
    } else if (!loss_per_time(out, f)) {
        uint64_t n = f->lost_units ? f->lost_units : f->live;
        tt_text_add(out, "%s", tt_phrase_units(units, f->resource, (double)n));
        if (f->lost_units && known(f->lost_bytes) && tt_phrase_sized(f->resource))
            tt_text_add(out, " (%s)", tt_phrase_size(size, f->lost_bytes));
    }
    when(out, subject);
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
        alike += tt_verdict_is_leak(all->list.data[i].verdict) == tt_verdict_is_leak(f->verdict) &&
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
    if (rate->has_operation && known(rate->per_operation)) {
        double step = step_of(f);
        tt_text_add(&text, step == 1 ? "Each " : "Every ");
        operations(&text, f, step);
        tt_text_add(&text, " leave%s %s%s behind", step == 1 ? "s" : "", about(f),
                    tt_phrase_units(number, f->resource, rate->per_operation * step));
        if (!rate->exact)
            tt_text_add(&text, " on average%s",
                        tt_phrase_interval(interval, "95 %", rate->per_operation_interval.lo,
                                           rate->per_operation_interval.hi));
        if (tt_phrase_sized(f->resource) && known(rate->bytes_per_operation)) {
            tt_text_add(&text, ": %s", tt_phrase_size(number, rate->bytes_per_operation * step));
            if (known(f->unit_cost))
                tt_text_add(&text, " (%s with the allocator's own)",
                            tt_phrase_size(number, f->unit_cost * rate->per_operation * step));
        }
        tt_text_add(&text, stays ? "." : ". They are not given back.");
    } else if (known(rate->per_second)) {
        tt_text_add(&text, "%s%s", stays ? "What stays grows by " : "The process loses ", about(f));
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
    if (f->rate.has_operation && known(by_rate) && fabs(by_rate - lost) <= 0.01 * lost) {
        tt_text_add(&text, ", over %s ", tt_phrase_number(number, f->rate.operations));
        tt_phrase_operation(&text, &f->rate, f->rate.operations != 1);
    }
    tt_text_add(&text, ", %s%s", about(f),
                tt_phrase_units(number, f->resource, (double)f->lost_units));
    if (*tt_phrase_sizes(number, f))
        tt_text_add(&text, " of %s", number);
    tt_text_add(&text, " %s",
                f->verdict == TT_VERDICT_UNDETERMINED ? "stayed"
                : f->lost_units == 1                  ? "was lost"
                                                      : "were lost");
    if (tt_phrase_sized(f->resource) && known(f->lost_bytes)) {
        tt_text_add(&text, ": %s requested", tt_phrase_size(number, f->lost_bytes));
        if (known(f->lost_cost))
            tt_text_add(&text, ", %s with the allocator's own",
                        tt_phrase_size(number, f->lost_cost));
    }
    tt_text_add(&text, ".");
    if (known(f->estimate_sd))
        tt_text_add(&text, " These are estimates from samples: standard error %s.",
                    tt_phrase_units(number, f->resource, f->estimate_sd));
    tt_article_add(article, TT_BLOCK_PARA, "%s", text.data);
    tt_text_free(&text);
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
                   word, about(f), tt_phrase_number(births, (double)f->births), about(f),
                   tt_phrase_number(deaths, (double)f->deaths), about(f),
                   tt_phrase_number(live, (double)f->live));
    char span[32];
    if (f->quiet_seconds >= 1)
        tt_article_more(article, "In the last %s none was acquired and the survivors stayed.",
                        tt_text_duration(span, f->quiet_seconds));
    tt_plot_add(article, subject);
}

/* "2 blocks (80 bytes requested, 96 bytes with the allocator's own) per call, in 58 of 58
 * intervals." */
static void law_rate(struct tt_article *article, const struct tt_finding *f)
{
    const struct tt_rate *rate = &f->rate;
    if (!rate->has_operation || !known(rate->per_operation))
        return;
    struct tt_text text = {0};
    tt_phrase a, b;
    double step = step_of(f);
    tt_text_add(&text, "%s%s", About(f),
                tt_phrase_units(a, f->resource, rate->per_operation * step));
    if (tt_phrase_sized(f->resource) && known(rate->bytes_per_operation)) {
        tt_text_add(&text, " (%s requested", tt_phrase_size(a, rate->bytes_per_operation * step));
        if (known(f->unit_cost))
            tt_text_add(&text, ", %s with the allocator's own",
                        tt_phrase_size(a, f->unit_cost * rate->per_operation * step));
        tt_text_add(&text, ")");
    }
    tt_text_add(&text, " per ");
    operations(&text, f, step);
    if (rate->exact && rate->intervals)
        tt_text_add(&text, ", in %s of %s intervals",
                    tt_phrase_number(a, (double)rate->intervals_held),
                    tt_phrase_number(b, (double)rate->intervals));
    tt_text_add(&text, "%s",
                tt_phrase_interval(a, "95 %", rate->per_operation_interval.lo,
                                   rate->per_operation_interval.hi));
    tt_article_add(article, TT_BLOCK_PARA, "%s.", text.data);
    tt_text_free(&text);
    if (rate->operation_source && strcmp(rate->operation_source, "declared") != 0)
        tt_article_more(article,
                        "This operation was found, not declared: its count explains the losses "
                        "best (--operation NAME=FUNCTION names one).");
}

static void law_points(struct tt_article *article, const struct tt_finding *f)
{
    const struct tt_law_text *law = &f->law;
    if (!law->points.len)
        return;
    struct tt_text plural = {0};
    if (f->rate.has_operation)
        tt_phrase_operation(&plural, &f->rate, true);
    tt_article_add(article, TT_BLOCK_LINES, "%-16.60s %12.40s %12s %12s",
                   *law->covariate ? law->covariate : "run",
                   plural.len && plural.len <= 12 ? plural.data : "operations", "lost",
                   "by the law");
    tt_text_free(&plural);
    for (size_t i = 0; i < law->points.len; i++) {
        tt_phrase x, ops, units, predicted;
        tt_article_more(article, "%-16s %12s %12s %12s", tt_phrase_number(x, law->points.data[i].x),
                        tt_phrase_number(ops, law->points.data[i].ops),
                        tt_phrase_number(units, law->points.data[i].units),
                        isfinite(law->points.data[i].predicted)
                            ? tt_phrase_number(predicted, law->points.data[i].predicted)
                            : "");
    }
}

void tt_section_law(struct tt_article *article, const struct tt_subject *subject)
{
    const struct tt_finding *f = subject->finding;
    tt_phrase per_hour, interval, r2;
    char sentence[TT_PHRASE_SENTENCE];
    tt_article_add(article, TT_BLOCK_HEADING, "LAW");
    size_t before = article->blocks.len;
    if (f->law.known && *f->law.text) {
        tt_article_add(article, TT_BLOCK_PARA, "%s", f->law.text);
        if (isfinite(f->law.r2) && f->law.r2 < 1)
            tt_article_more(article, "(R² %s)", tt_phrase_number(r2, f->law.r2));
        law_points(article, f);
        if (*f->law.caveat)
            tt_article_add(article, TT_BLOCK_PARA, "%s",
                           tt_phrase_sentence(sentence, f->law.caveat));
    }
    law_rate(article, f);
    if (known(f->rate.per_second))
        tt_article_add(article, TT_BLOCK_PARA, "%s%s per hour at this load%s.", About(f),
                       tt_phrase_units(per_hour, f->resource, f->rate.per_second * 3600),
                       tt_phrase_interval(interval, "95 %", f->rate.per_second_interval.lo * 3600,
                                          f->rate.per_second_interval.hi * 3600));
    if (article->blocks.len == before) /* a heading with nothing under it */
        tt_article_add(article, TT_BLOCK_PARA, "No rate could be measured.");
}

void tt_section_forecast(struct tt_article *article, const struct tt_subject *subject)
{
    const struct tt_finding *f = subject->finding;
    const struct tt_forecast *forecast = &f->forecast;
    if (!known(forecast->per_day))
        return;
    bool sized = tt_phrase_sized(f->resource);
    tt_phrase daily, limit, number, early, late;
    char span[32], lo[32], hi[32];
    tt_article_add(article, TT_BLOCK_HEADING, "FORECAST");
    tt_phrase_size(daily, forecast->per_day);
    if (!sized)
        tt_phrase_units(daily, f->resource, forecast->per_day);
    const struct tt_rate *rate = &f->rate;
    if (rate->has_operation && known(rate->per_second) && known(rate->per_operation)) {
        struct tt_text plural = {0};
        tt_phrase_operation(&plural, rate, true);
        tt_article_add(article, TT_BLOCK_PARA, "At %s %s per second: %s%s a day.",
                       tt_phrase_number(number, rate->per_second / rate->per_operation),
                       tt_phrase_text(plural.data), about(f), daily);
        tt_text_free(&plural);
    } else {
        tt_article_add(article, TT_BLOCK_PARA, "At the load of the recording: %s%s a day.",
                       about(f), daily);
    }
    if (!forecast->known || !known(forecast->seconds)) {
        tt_article_more(article, "No limit is known that this would reach.");
        return;
    }
    tt_phrase_size(limit, forecast->limit);
    if (!sized)
        tt_phrase_number(limit, forecast->limit);
    tt_article_more(article, "The limit %s = %s is reached in %s", forecast->limit_name, limit,
                    tt_text_duration(span, forecast->seconds));
    if (known(forecast->interval.lo) && known(forecast->interval.hi)) {
        tt_article_more(article, "(90 %%: %s to %s).", tt_text_duration(lo, forecast->interval.lo),
                        tt_text_duration(hi, forecast->interval.hi));
        double end = (double)subject->session->started_wall + subject->session->seconds;
        if (subject->session->started_wall > 0 &&
            *tt_phrase_date(early, (int64_t)(end + forecast->interval.lo)) &&
            *tt_phrase_date(late, (int64_t)(end + forecast->interval.hi)))
            tt_article_more(article, "That is between %s and %s.", early, late);
    } else {
        tt_article_more(article, "(no interval: too few losses).");
    }
}

void tt_section_workaround(struct tt_article *article, const struct tt_subject *subject)
{
    const struct tt_finding *f = subject->finding;
    tt_phrase date;
    char sentence[TT_PHRASE_SENTENCE];
    bool restart = f->forecast.known && known(f->forecast.seconds);
    if (!restart && !*f->workaround)
        return;
    tt_article_add(article, TT_BLOCK_HEADING, "WORKAROUND");
    tt_article_add(article, TT_BLOCK_PARA, "%s", "");
    if (*f->workaround)
        tt_article_more(article, "%s", tt_phrase_sentence(sentence, f->workaround));
    if (restart) {
        double first =
            known(f->forecast.interval.lo) ? f->forecast.interval.lo : f->forecast.seconds;
        double at = (double)subject->session->started_wall + subject->session->seconds + first;
        char span[32];
        if (subject->session->started_wall > 0 && *tt_phrase_date(date, (int64_t)at))
            tt_article_more(article, "%s before %s.", *f->workaround ? "Else restart" : "Restart",
                            date);
        else
            tt_article_more(article, "%s within %s.", *f->workaround ? "Else restart" : "Restart",
                            tt_text_duration(span, first));
    }
}

static void status_controls(struct tt_article *article, const struct tt_finding *f)
{
    size_t clean = 0, exercised = 0;
    for (size_t i = 0; i < f->controls.len; i++) {
        clean += f->controls.data[i].clean;
        exercised += f->controls.data[i].exercised;
    }
    if (f->confirmed)
        tt_article_add(article, TT_BLOCK_PARA, "Confirmed: %zu of %zu control runs were clean.",
                       clean, f->controls.len);
    else if (!f->controls.len)
        tt_article_add(article, TT_BLOCK_PARA,
                       "Not confirmed: no control run was given (--control OTHER.tt).");
    else if (!exercised)
        tt_article_add(article, TT_BLOCK_PARA,
                       "Not confirmed: no control run exercised the operation.");
    else
        tt_article_add(article, TT_BLOCK_PARA, "Not confirmed: %zu of %zu control runs were clean.",
                       clean, f->controls.len);
    for (size_t i = 0; i < f->controls.len; i++)
        if (*f->controls.data[i].text)
            tt_article_add(article, TT_BLOCK_BULLET, "%s", f->controls.data[i].text);
}

void tt_section_status(struct tt_article *article, const struct tt_subject *subject)
{
    const struct tt_finding *f = subject->finding;
    char span[32];
    tt_phrase horizon;
    tt_article_add(article, TT_BLOCK_HEADING, "STATUS");
    if (f->verdict != TT_VERDICT_UNDETERMINED)
        status_controls(article, f);
    if (f->verdict == TT_VERDICT_LEAK_RETAINED) {
        tt_article_add(article, TT_BLOCK_PARA, "Retained: they outlived A = %s s",
                       tt_phrase_number(horizon, f->horizon));
        if (f->quiet_seconds >= 1)
            tt_article_more(article, "and the end of the load by %s.",
                            tt_text_duration(span, f->quiet_seconds));
        else
            tt_article_more(article, "and were not released.");
        if (tt_phrase_sized(f->resource))
            tt_article_more(article, "Whether anything still points to the %s was not looked at.",
                            tt_phrase_word(f->resource, true));
    } else if (f->verdict == TT_VERDICT_LEAK_LOST) {
        tt_article_add(article, TT_BLOCK_PARA,
                       "Lost: nothing points to the %s any more (A = %s s).",
                       tt_phrase_word(f->resource, true), tt_phrase_number(horizon, f->horizon));
    } else {
        tt_article_add(article, TT_BLOCK_PARA, "Judged with the horizon A = %s s.",
                       tt_phrase_number(horizon, f->horizon));
    }
    if (f->horizon_short)
        tt_article_more(article, "The horizon was shortened from 600 s by --horizon.");
    if (f->fix.known) {
        tt_article_add(article, TT_BLOCK_PARA, "%s%s%.12s%s%s",
                       f->fix.fixed ? "Fixed" : "Not shown to be fixed",
                       *f->fix.build_id ? " in build-id " : "", f->fix.build_id,
                       *f->fix.text ? ": " : ".", f->fix.text);
    }
}

void tt_section_evidence(struct tt_article *article, const struct tt_subject *subject)
{
    const struct tt_finding *f = subject->finding;
    if (!f->evidence.len && !*f->would_change_it)
        return;
    tt_article_add(article, TT_BLOCK_HEADING, "EVIDENCE");
    for (size_t i = 0; i < f->evidence.len; i++) {
        const struct tt_evidence *e = &f->evidence.data[i];
        tt_phrase value;
        *value = '\0';
        if (!strstr(e->text, "e-value"))
            tt_phrase_evalue(value, e->log_e);
        tt_article_add(article, TT_BLOCK_BULLET, "%s: %s%s%s%s", tt_phrase_text(e->kind), e->text,
                       *value ? " (" : "", value, *value ? ")" : "");
    }
    if (*f->would_change_it)
        tt_article_add(article, TT_BLOCK_PARA, "%s: %s",
                       f->verdict == TT_VERDICT_UNDETERMINED ? "What would decide it"
                                                             : "What would change this",
                       f->would_change_it);
}
