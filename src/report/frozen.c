/* SPDX-License-Identifier: Apache-2.0 */
/* What frozen copies and attaching add to an article: losses from before, who holds what can be
 * reached, lost blocks that no site is known for, what it cost the target, and an article of its
 * own where nothing but a copy or a core file was looked at. Start: tt_section_overview. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "report/phrase.h"

enum { GROUPS = 8, HOLDERS = 5, NOTES = 8 };

/* "14:02 UTC" is not enough for a session of days: the full date, or "40 s" where none is known. */
static char *moment(tt_phrase buf, const struct tt_report_session *session, double at)
{
    if (session->started_wall > 0 && *tt_phrase_date(buf, session->started_wall + (int64_t)at))
        return buf;
    char span[32];
    snprintf(buf, sizeof(tt_phrase), "%s after the start", tt_text_duration(span, at));
    return buf;
}

/* "2,000 blocks (93.8 KiB)" */
static char *amount(tt_phrase buf, double units, double bytes)
{
    tt_phrase count, size;
    tt_phrase_units(count, "heap", round(units));
    if (tt_phrase_known(bytes))
        snprintf(buf, sizeof(tt_phrase), "%.50s (%.30s)", count, tt_phrase_size(size, bytes));
    else
        snprintf(buf, sizeof(tt_phrase), "%.90s", count);
    return buf;
}

/* "0.081 ms", "13 ms": stops are shorter than durations elsewhere. */
static char *pause_text(tt_phrase buf, double seconds)
{
    tt_phrase number;
    snprintf(buf, sizeof(tt_phrase), "%.60s ms", tt_phrase_number(number, seconds * 1e3));
    return buf;
}

static bool only_samples(const struct tt_report_session *session)
{
    return *tt_phrase_text(session->mode) && strcmp(session->mode, "exact") != 0;
}

/* One look and no recording: telltale snapshot or telltale core. */
static bool one_look(const struct tt_report_session *session)
{
    return session->attached && !*tt_phrase_text(session->mode);
}

void tt_section_before(struct tt_article *article, const struct tt_subject *subject)
{
    const struct tt_findings *all = subject->input->findings;
    const struct tt_finding *f = subject->finding;
    double units = 0, bytes = 0, unknown = 0, unknown_bytes = 0, ran = 0, at = 0;
    for (size_t i = 0; i < all->snapshots.len; i++) {
        units += all->snapshots.data[i].old_units;
        bytes += all->snapshots.data[i].old_bytes;
        unknown += all->snapshots.data[i].unknown_units;
        unknown_bytes += all->snapshots.data[i].unknown_bytes;
    }
    for (size_t i = 0; i < all->attaches.len; i++) {
        ran = fmax(ran, all->attaches.data[i].ran);
        at = i ? fmin(at, all->attaches.data[i].at) : all->attaches.data[i].at;
    }
    if (!subject->session->attached || !f->before.looked)
        return;
    tt_phrase total, own, rest, date, probability;
    char span[32];
    tt_article_add(article, TT_BLOCK_HEADING, "BEFORE ATTACH");
    if (units < 1) {
        tt_article_add(article, TT_BLOCK_PARA,
                       "No block was found that had been lost before attach at %s.",
                       moment(date, subject->session, at));
        return;
    }
    struct tt_text text = {0};
    tt_text_add(&text, "%s were lost before attach at %s", amount(total, units, bytes),
                moment(date, subject->session, at));
    if (ran >= 60)
        tt_text_add(&text, ", in the %s that the process had run", tt_text_duration(span, ran));
    if (f->before.units >= 1)
        tt_text_add(&text, "; of these %s%s by this site (probability %s)",
                    only_samples(subject->session) ? "about " : "",
                    amount(own, f->before.units, f->before.bytes),
                    tt_phrase_number(probability, floor(f->before.probability * 100) / 100));
    else
        tt_text_add(&text, "; none of these looks like the blocks of this site");
    if (unknown >= 1)
        tt_text_add(&text, ", and %s could not be attributed to any site",
                    amount(rest, unknown, unknown_bytes));
    tt_article_add(article, TT_BLOCK_PARA, "%s.", tt_phrase_text(text.data));
    tt_text_free(&text);
    if (f->before.units >= 1)
        tt_article_more(article,
                        "Old blocks are attributed by what they look like, to the site whose "
                        "blocks look so now.");
    if (only_samples(subject->session))
        tt_article_more(article,
                        "In %s mode blocks that were born since and not followed count "
                        "among the old ones, except at sites where some were followed.",
                        subject->session->mode);
}

void tt_section_holders(struct tt_article *article, const struct tt_holding *list, size_t n,
                        const char *lead)
{
    if (!n)
        return;
    tt_article_add(article, TT_BLOCK_PARA, "%s", lead);
    tt_article_add(article, TT_BLOCK_LINES, "%s", "");
    for (size_t i = 0; i < n && i < HOLDERS; i++) {
        tt_phrase what;
        tt_article_more(article, "%s   %s", list[i].place,
                        amount(what, list[i].units, list[i].bytes));
        if (*list[i].path && strcmp(list[i].path, list[i].place) != 0)
            tt_article_more(article, "    %s", list[i].path);
    }
    if (n > HOLDERS)
        tt_article_more(article, "and %zu more", n - HOLDERS);
}

void tt_section_reached(struct tt_article *article, const struct tt_subject *subject)
{
    const struct tt_finding *f = subject->finding;
    tt_phrase lost, live, date;
    if (!f->unreachable.looked)
        return;
    const char *word = tt_phrase_word(f->resource, true);
    moment(date, subject->session, f->unreachable.at);
    tt_phrase_number(lost, f->unreachable.units);
    tt_phrase_number(live, f->unreachable.of);
    if (f->verdict == TT_VERDICT_LEAK_LOST && f->unreachable.units > 0)
        tt_article_add(article, TT_BLOCK_PARA,
                       "Lost: nothing pointed to %s of the %s followed %s that were live in the "
                       "copy of the process at %s.",
                       lost, live, word, date);
    else if (f->verdict == TT_VERDICT_LEAK_LOST)
        tt_article_add(article, TT_BLOCK_PARA,
                       "Lost before attach; all %s followed %s that were live in the copy of the "
                       "process at %s could be reached.",
                       live, word, date);
    else if (f->unreachable.units > 0)
        tt_article_more(article,
                        "Nothing pointed to %s of %s followed %s in the copy of the process at "
                        "%s%s.",
                        lost, live, word, date,
                        f->unreachable.doubted ? ", but that copy could not be read completely"
                        : f->unreachable.holds ? "; the others are held"
                                               : ", which is too few to call them lost");
    else
        tt_article_more(article,
                        "Something still points to them: all %s followed %s that were live in the "
                        "copy of the process at %s could be reached.",
                        live, word, date);
}

bool tt_section_searched(struct tt_article *article, const struct tt_report_input *input)
{
    const struct tt_findings *all = input->findings;
    bool complete = false;
    for (size_t i = 0; i < all->snapshots.len; i++) {
        const struct tt_snapshot_fact *s = &all->snapshots.data[i];
        tt_phrase lost, blocks, date;
        moment(date, &input->sessions[0], s->at);
        tt_phrase_units(blocks, "heap", s->blocks);
        complete |= s->complete;
        if (s->lost_units >= 1)
            tt_article_more(article,
                            "In the copy of the process at %s nothing points to %s of %s in use, "
                            "which is too few to tell.",
                            date, tt_phrase_number(lost, s->lost_units), blocks);
        else
            tt_article_more(article,
                            "In the copy of the process at %s all %s in use could be reached.",
                            date, blocks);
    }
    return complete;
}

void tt_section_scan(struct tt_article *article, const struct tt_report_input *input)
{
    const struct tt_findings *all = input->findings;
    double unread = 0, doubt = 0, tagged = 0, left_out = 0;
    size_t complete = 0;
    for (size_t i = 0; i < all->snapshots.len; i++) {
        unread += all->snapshots.data[i].unread_bytes;
        doubt += all->snapshots.data[i].doubt_bytes;
        tagged += all->snapshots.data[i].tagged;
        left_out += all->snapshots.data[i].groups_left_out;
        complete += all->snapshots.data[i].complete;
    }
    if (!all->snapshots.len)
        return;
    tt_phrase text;
    tt_article_add(article, TT_BLOCK_BULLET,
                   "limits of the scan: it calls at most 1 in 1,000 blocks lost that are not, and "
                   "misses lost ones that a stale word points to");
    if (unread > 0)
        tt_article_more(article, "· %s of memory that may hold pointers could not be read",
                        tt_phrase_size(text, unread));
    if (doubt > 0)
        tt_article_more(article,
                        "· %s of the heap were not understood, nothing in them is reported",
                        tt_phrase_size(text, doubt));
    if (tagged > 0)
        tt_article_more(article,
                        "· %s lost blocks would be pointed to if upper bits of words were tags",
                        tt_phrase_number(text, tagged));
    if (left_out > 0)
        tt_article_more(article, "· %s smaller groups of lost blocks were left out",
                        tt_phrase_number(text, left_out));
    if (complete < all->snapshots.len)
        tt_article_more(article, "· so nothing is called lost on this scan alone");
}

void tt_section_groups(struct tt_article *article, const struct tt_report_input *input)
{
    const struct tt_findings *all = input->findings;
    size_t shown = 0, left = 0;
    for (size_t i = 0; i < all->list.len; i++) {
        const struct tt_finding *f = &all->list.data[i];
        if (!f->has_group)
            continue;
        if (shown++ >= GROUPS) {
            left++;
            continue;
        }
        if (shown == 1)
            tt_article_add(article, TT_BLOCK_HEADING, "LOST WITHOUT A KNOWN SITE");
        tt_phrase what, more, sizes;
        tt_phrase_sizes(sizes, f);
        bool said = f->group.shape[0] >= '0' && f->group.shape[0] <= '9';
        tt_article_add(article, TT_BLOCK_BULLET, "%s%s%s%s: %s",
                       amount(what, f->before.units, f->before.bytes),
                       *sizes && !said ? ", each " : "", said ? "" : sizes,
                       f->verdict == TT_VERDICT_LEAK_LOST ? "" : ", not decided",
                       *f->group.shape ? f->group.shape : "of one shape");
        if (f->group.hung_units >= 1)
            tt_article_more(article, "- %s more hang on them",
                            amount(more, f->group.hung_units, f->group.hung_bytes));
        if (*f->group.samples)
            tt_article_more(article, "- for example at %s", f->group.samples);
    }
    if (left)
        tt_article_add(article, TT_BLOCK_BULLET, "and %zu more shapes", left);
}

void tt_section_cost(struct tt_article *article, const struct tt_report_input *input)
{
    const struct tt_findings *all = input->findings;
    double attach = 0, start = 0, detach = 0, copy = 0, fork = 0;
    size_t copies = 0, notes = 0;
    for (size_t i = 0; i < all->attaches.len; i++) {
        attach = fmax(attach, all->attaches.data[i].stop);
        start = fmax(start, all->attaches.data[i].start);
        detach = fmax(detach, all->attaches.data[i].detach_stop);
    }
    for (size_t i = 0; i < all->snapshots.len; i++) {
        const struct tt_snapshot_fact *s = &all->snapshots.data[i];
        if (s->core)
            continue;
        copies += s->taken;
        fork = s->stop > copy ? s->fork : fork;
        copy = fmax(copy, s->stop);
    }
    if (attach <= 0 && copy <= 0)
        return;
    tt_article_add(article, TT_BLOCK_HEADING, "COST TO THE TARGET");
    struct tt_text text = {0};
    tt_phrase number;
    if (attach > 0)
        tt_text_add(&text, " %s at attach", pause_text(number, attach));
    if (attach > 0 && start > attach)
        tt_text_add(&text, " (one thread %s)", pause_text(number, start));
    if (copy > 0 && copies > 1)
        tt_text_add(&text, "%s %s for the longest of %zu frozen copies", text.len ? "," : "",
                    pause_text(number, copy), copies);
    else if (copy > 0)
        tt_text_add(&text, "%s %s for the frozen copy", text.len ? "," : "",
                    pause_text(number, copy));
    if (copy > 0 && fork > 0)
        tt_text_add(&text, " (%s of it in clone)", pause_text(number, fork));
    if (detach > 0)
        tt_text_add(&text, ", %s at detach", pause_text(number, detach));
    tt_article_add(article, TT_BLOCK_PARA, "The target stood still%s.", tt_phrase_text(text.data));
    tt_text_free(&text);
    for (size_t i = 0; i < all->attaches.len; i++)
        for (const char *line = all->attaches.data[i].notes; *line && notes < NOTES; notes++) {
            size_t n = strcspn(line, "\n");
            if (n)
                tt_article_add(article, TT_BLOCK_BULLET, "%.*s", (int)n, line);
            line += n + (line[n] == '\n');
        }
}

bool tt_overview_wanted(const struct tt_report_input *input)
{
    const struct tt_findings *all = input->findings;
    bool group = false;
    for (size_t i = 0; i < all->list.len; i++) {
        const struct tt_finding *f = &all->list.data[i];
        if (tt_verdict_is_leak(f->verdict) && !f->has_group)
            return false;
        group |= tt_verdict_is_leak(f->verdict);
    }
    return group || (all->snapshots.len && one_look(&input->sessions[0]));
}

/* The leaks among the groups: how much, and the largest. */
static const struct tt_finding *sum_groups(const struct tt_findings *all, double *units,
                                           double *bytes)
{
    const struct tt_finding *largest = NULL;
    *units = *bytes = 0;
    for (size_t i = 0; i < all->list.len; i++) {
        const struct tt_finding *f = &all->list.data[i];
        if (!f->has_group || !tt_verdict_is_leak(f->verdict))
            continue;
        *units += f->before.units;
        *bytes += f->before.bytes;
        if (!largest || f->before.bytes > largest->before.bytes)
            largest = f;
    }
    return largest;
}

static void overview_title(struct tt_article *article, const struct tt_report_input *input,
                           const char *name)
{
    const struct tt_findings *all = input->findings;
    double units, bytes, blocks = 0;
    const struct tt_finding *largest = sum_groups(all, &units, &bytes);
    tt_phrase total, most, percent, sizes;
    for (size_t i = 0; i < all->snapshots.len; i++)
        blocks += all->snapshots.data[i].blocks;
    if (!largest) {
        tt_article_add(article, TT_BLOCK_TITLE, "%s: no definite loss found in %s", name,
                       tt_phrase_units(total, "heap", blocks));
        return;
    }
    amount(most, largest->before.units, largest->before.bytes);
    if (units > largest->before.units)
        tt_article_add(article, TT_BLOCK_TITLE,
                       "%s: definite loss, %s; the largest group is %s of one shape", name,
                       amount(total, units, bytes), most);
    else
        tt_article_add(article, TT_BLOCK_TITLE, "%s: definite loss, %s%s%s", name, most,
                       *tt_phrase_sizes(sizes, largest) ? ", each " : "", sizes);
    if (article->blocks.len)
        article->blocks.data[article->blocks.len - 1].alarm = true;
    tt_article_add(article, TT_BLOCK_SUBTITLE, "%s · heap · confidence %s · no site is known",
                   tt_verdict_word(largest->verdict),
                   tt_phrase_percent(percent, largest->confidence));
}

void tt_section_overview(struct tt_article *article, const struct tt_report_input *input,
                         const struct tt_report_process *process)
{
    const struct tt_findings *all = input->findings;
    const struct tt_report_session *session = &input->sessions[0];
    const char *name = *tt_phrase_base(process->exe) ? tt_phrase_base(process->exe) : "the program";
    overview_title(article, input, name);
    tt_section_applies_to(article, session, process);
    tt_article_add(article, TT_BLOCK_HEADING, "SYMPTOMS");
    for (size_t i = 0; i < all->snapshots.len; i++) {
        const struct tt_snapshot_fact *s = &all->snapshots.data[i];
        tt_phrase lost, in_use, date, roots;
        amount(in_use, s->blocks, s->bytes);
        if (s->lost_units >= 1)
            tt_article_add(article, TT_BLOCK_PARA,
                           "Nothing points to %s of the %s that were in use",
                           amount(lost, s->lost_units, s->lost_bytes), in_use);
        else
            tt_article_add(article, TT_BLOCK_PARA, "All %s that were in use can be reached",
                           in_use);
        tt_article_more(article,
                        s->core ? "in the core file of %s."
                                : "in the copy of the process "
                                  "at %s.",
                        moment(date, session, s->at));
        if (s->lost_roots >= 1 && s->lost_roots < s->lost_units)
            tt_article_more(article, "%s are roots, on which the others hang.",
                            tt_phrase_units(roots, "heap", s->lost_roots));
    }
    if (one_look(session))
        tt_article_more(article, "How fast the heap grows cannot be told from one look.");
    else if (only_samples(session))
        tt_article_more(article,
                        "In %s mode only blocks that are followed have a site: some of these may "
                        "have been lost since recording began.",
                        session->mode);
    else
        tt_article_more(article, "No site was seen to lose more of them while it was recorded.");
    tt_section_groups(article, input);
    bool held = false;
    for (size_t i = 0; i < all->snapshots.len; i++) {
        const struct tt_snapshot_fact *s = &all->snapshots.data[i];
        if (!s->holders.len)
            continue;
        if (!held)
            tt_article_add(article, TT_BLOCK_HEADING, "HELD");
        held = true;
        tt_section_holders(article, s->holders.data, s->holders.len,
                           "Of what can be reached, the most would be free without:");
    }
    tt_article_add(article, TT_BLOCK_HEADING, "EVIDENCE");
    tt_section_scan(article, input);
    if (process->pid > 0)
        tt_article_add(
            article, TT_BLOCK_PARA,
            "What would decide the site: telltale attach -p %ld, while the program makes "
            "and loses more of these blocks.",
            process->pid);
}
