/* SPDX-License-Identifier: Apache-2.0 */
/* What follows from a finding: the law of its losses, when they run out, what to do meanwhile, how
 * sure it is. Start: tt_section_law. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "report/phrase.h"

/* "2 blocks (80 bytes requested, 96 bytes with the allocator's own) per call, in 58 of 58
 * intervals." */
static void law_rate(struct tt_article *article, const struct tt_finding *f)
{
    const struct tt_rate *rate = &f->rate;
    if (!rate->has_operation || !tt_phrase_known(rate->per_operation))
        return;
    struct tt_text text = {0};
    tt_phrase a, b;
    double step = tt_phrase_step(f);
    tt_text_add(&text, "%s%s", tt_phrase_about(f, true),
                tt_phrase_units(a, f->resource, rate->per_operation * step));
    if (tt_phrase_sized(f->resource) && tt_phrase_known(rate->bytes_per_operation)) {
        tt_text_add(&text, " (%s requested", tt_phrase_size(a, rate->bytes_per_operation * step));
        if (tt_phrase_known(f->unit_cost))
            tt_text_add(&text, ", %s with the allocator's own",
                        tt_phrase_size(a, f->unit_cost * rate->per_operation * step));
        tt_text_add(&text, ")");
    }
    tt_text_add(&text, " per ");
    tt_phrase_operations(&text, f, step);
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
    if (tt_phrase_known(f->rate.per_second))
        tt_article_add(article, TT_BLOCK_PARA, "%s%s per hour at this load%s.",
                       tt_phrase_about(f, true),
                       tt_phrase_units(per_hour, f->resource, f->rate.per_second * 3600),
                       tt_phrase_interval(interval, "95 %", f->rate.per_second_interval.lo * 3600,
                                          f->rate.per_second_interval.hi * 3600));
    if (!f->rate.has_operation && tt_phrase_known(f->rate.per_second))
        tt_article_more(article, "No operation was found that the losses follow (--operation "
                                 "NAME=FUNCTION names one).");
    if (article->blocks.len == before) /* a heading with nothing under it */
        tt_article_add(article, TT_BLOCK_PARA, "No rate could be measured.");
}

void tt_section_forecast(struct tt_article *article, const struct tt_subject *subject)
{
    const struct tt_finding *f = subject->finding;
    const struct tt_forecast *forecast = &f->forecast;
    if (!tt_phrase_known(forecast->per_day))
        return;
    bool sized = tt_phrase_sized(f->resource);
    tt_phrase daily, limit, number, early, late;
    char span[32], lo[32], hi[32];
    tt_article_add(article, TT_BLOCK_HEADING, "FORECAST");
    tt_phrase_size(daily, forecast->per_day);
    if (!sized)
        tt_phrase_units(daily, f->resource, forecast->per_day);
    const struct tt_rate *rate = &f->rate;
    if (rate->has_operation && tt_phrase_known(rate->per_second) &&
        tt_phrase_known(rate->per_operation)) {
        struct tt_text plural = {0};
        tt_phrase_operation(&plural, rate, true);
        tt_article_add(article, TT_BLOCK_PARA, "At %s %s per second: %s%s a day.",
                       tt_phrase_number(number, rate->per_second / rate->per_operation),
                       tt_phrase_text(plural.data), tt_phrase_about(f, false), daily);
        tt_text_free(&plural);
    } else {
        tt_article_add(article, TT_BLOCK_PARA, "At the load of the recording: %s%s a day.",
                       tt_phrase_about(f, false), daily);
    }
    tt_phrase_size(limit, forecast->limit);
    if (!sized || forecast->counts)
        tt_phrase_number(limit, forecast->limit);
    /* a declared one is called "limit of port" */
    const char *named = strncmp(forecast->limit_name, "limit of ", 9) == 0 ? "" : "limit ";
    if (forecast->known && !(forecast->seconds > 0)) {
        tt_article_more(article, "The %s%s = %s is reached.", named, forecast->limit_name, limit);
        return;
    }
    if (!forecast->known || !tt_phrase_known(forecast->seconds)) {
        tt_article_more(article, "No limit is known that this would reach.");
        return;
    }
    tt_article_more(article, "The %s%s = %s is reached in %s", named, forecast->limit_name, limit,
                    tt_text_duration(span, forecast->seconds));
    if (tt_phrase_known(forecast->interval.lo) && tt_phrase_known(forecast->interval.hi)) {
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
    bool restart = f->forecast.known && tt_phrase_known(f->forecast.seconds);
    if (!restart && !*f->workaround)
        return;
    tt_article_add(article, TT_BLOCK_HEADING, "WORKAROUND");
    tt_article_add(article, TT_BLOCK_PARA, "%s", "");
    if (*f->workaround)
        tt_article_more(
            article, "%s%s",
            f->workaround[strcspn(f->workaround, " =")] == '=' ? "No loss was seen with " : "",
            tt_phrase_sentence(sentence, f->workaround));
    if (restart && !(f->forecast.seconds > 0)) {
        tt_article_more(article, "%s: the limit is reached.",
                        *f->workaround ? "Else restart" : "Restart");
    } else if (restart) {
        double first = tt_phrase_known(f->forecast.interval.lo) ? f->forecast.interval.lo
                                                                : f->forecast.seconds;
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
        tt_article_add(article, TT_BLOCK_PARA,
                       clean == exercised ? "Confirmed: the same operations ran without loss under "
                                            "other conditions."
                                          : "Confirmed: the same operations ran without loss where "
                                            "the conditions allow it.");
    else if (!f->controls.len)
        tt_article_add(article, TT_BLOCK_PARA,
                       "Not confirmed: no control run was given (--control OTHER.tt).");
    else if (!exercised)
        tt_article_add(article, TT_BLOCK_PARA,
                       "Not confirmed: no control run exercised the operation.");
    else
        tt_article_add(article, TT_BLOCK_PARA, "Not confirmed: %zu of %zu control runs were clean.",
                       clean, exercised);
    if (exercised && exercised < f->controls.len)
        tt_article_more(article, "%zu more did not run the operation.",
                        f->controls.len - exercised);
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
        if (!strcmp(tt_phrase_text(f->resource), "heap") && !f->unreachable.looked)
            tt_article_more(article, "Whether anything still points to the %s was not looked at.",
                            tt_phrase_word(f->resource, true));
        tt_section_reached(article, subject);
    } else if (f->verdict == TT_VERDICT_LEAK_LOST && f->unreachable.looked) {
        tt_section_reached(article, subject);
    } else if (f->verdict == TT_VERDICT_LEAK_LOST) {
        tt_article_add(article, TT_BLOCK_PARA,
                       "Lost: nothing points to the %s any more (A = %s s).",
                       tt_phrase_word(f->resource, true), tt_phrase_number(horizon, f->horizon));
    } else {
        tt_article_add(article, TT_BLOCK_PARA, "Judged with the horizon A = %s s.",
                       tt_phrase_number(horizon, f->horizon));
        tt_section_reached(article, subject);
    }
    if (f->horizon_short && !(f->verdict == TT_VERDICT_LEAK_LOST && f->unreachable.looked))
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
    bool scanned = false;
    for (size_t i = 0; i < f->evidence.len; i++) {
        const struct tt_evidence *e = &f->evidence.data[i];
        tt_phrase value;
        *value = '\0';
        if (!strstr(e->text, "e-value"))
            tt_phrase_evalue(value, e->log_e);
        tt_article_add(article, TT_BLOCK_BULLET, "%s: %s%s%s%s", tt_phrase_text(e->kind), e->text,
                       *value ? " (" : "", value, *value ? ")" : "");
        scanned |= !strcmp(tt_phrase_text(e->kind), "unreachable");
    }
    if (scanned)
        tt_section_scan(article, subject->input);
    if (*f->would_change_it)
        tt_article_add(article, TT_BLOCK_PARA, "%s: %s",
                       f->verdict == TT_VERDICT_UNDETERMINED ? "What would decide it"
                                                             : "What would change this",
                       f->would_change_it);
}
