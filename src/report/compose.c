/* SPDX-License-Identifier: Apache-2.0 */
/* The order of an article: each leak in full, then what all share - the sites that are not leaks,
 * what was lost in recording, how to repeat it. Without a leak, the doubtful sites in full, or one
 * short article that says what was looked at. Start: tt_article_compose. */
#include <string.h>

#include "report/phrase.h"

enum { ARTICLES = 8, LISTED = 10, DROPS = 12 };

static const struct tt_report_process *process_of(const struct tt_report_session *session,
                                                  int64_t id)
{
    static const struct tt_report_process nobody;
    for (size_t i = 0; i < session->n_processes; i++)
        if (session->processes[i].id == id)
            return &session->processes[i];
    return session->n_processes ? &session->processes[0] : &nobody;
}

static struct tt_subject subject_of(const struct tt_report_input *input,
                                    const struct tt_finding *finding)
{
    return (struct tt_subject){input, finding, &input->sessions[0],
                               process_of(&input->sessions[0], finding->process)};
}

static void add_finding(struct tt_article *article, const struct tt_subject *subject,
                        const struct tt_report_process **last)
{
    tt_section_title(article, subject);
    if (*last != subject->process)
        tt_section_applies_to(article, subject->session, subject->process);
    *last = subject->process;
    tt_section_symptoms(article, subject);
    tt_section_before(article, subject);
    tt_section_cause(article, subject);
    tt_section_law(article, subject);
    if (tt_verdict_is_leak(subject->finding->verdict)) {
        tt_section_forecast(article, subject);
        tt_section_workaround(article, subject);
    }
    tt_section_status(article, subject);
    tt_section_evidence(article, subject);
}

/* One line: place, verdict, note, live units. */
static void add_line(struct tt_article *article, const struct tt_subject *subject)
{
    const struct tt_finding *f = subject->finding;
    struct tt_text text = {0};
    tt_phrase live, sizes;
    tt_cause_place(&text, subject);
    tt_text_add(&text, ": %s", tt_verdict_word(f->verdict));
    if (*f->note)
        tt_text_add(&text, ", %s", f->note);
    bool leak = tt_verdict_is_leak(f->verdict);
    tt_phrase_sizes(sizes, f);
    tt_text_add(&text, " (%s%s%s%s %s)", tt_phrase_about(f, false),
                tt_phrase_units(live, f->resource, (double)(leak ? f->lost_units : f->live)),
                *sizes ? " of " : "", sizes, leak ? "lost" : "live");
    tt_article_add(article, TT_BLOCK_BULLET, "%s", tt_phrase_text(text.data));
    tt_text_free(&text);
}

/* How many sites of the kind stand before a finding: the first ones have articles of their own. */
static size_t before(const struct tt_findings *all, const struct tt_finding *f,
                     bool (*wanted)(enum tt_verdict verdict))
{
    size_t n = 0;
    for (const struct tt_finding *other = all->list.data; other < f; other++)
        n += wanted(other->verdict) && !other->has_group;
    return n;
}

/* The findings of a kind that have no article of their own, bounded. */
static void add_list(struct tt_article *article, const struct tt_report_input *input,
                     const char *heading, const char *lead, bool (*wanted)(enum tt_verdict verdict),
                     size_t skip, uint64_t unlisted)
{
    const struct tt_findings *all = input->findings;
    size_t shown = 0, left = 0;
    /* by verdict, in the order of the words, so that timers and caches are not hidden behind the
     * many that are steady */
    for (size_t k = 0; k < all->list.len * TT_VERDICT_COUNT; k++) {
        const struct tt_finding *f = &all->list.data[k % all->list.len];
        if (f->verdict != k / all->list.len || !wanted(f->verdict) || f->has_group ||
            before(all, f, wanted) < skip)
            continue;
        if (shown == LISTED) {
            left++;
            continue;
        }
        if (!shown++) {
            tt_article_add(article, TT_BLOCK_HEADING, "%s", heading);
            if (lead)
                tt_article_add(article, TT_BLOCK_PARA, "%s", lead);
        }
        struct tt_subject subject = subject_of(input, f);
        add_line(article, &subject);
    }
    tt_phrase count;
    if (shown && left + unlisted)
        tt_article_add(article, TT_BLOCK_BULLET, "and %s more",
                       tt_phrase_number(count, (double)left + (double)unlisted));
}

static bool is_undecided(enum tt_verdict verdict)
{
    return verdict == TT_VERDICT_UNDETERMINED;
}

static bool is_capacity(enum tt_verdict verdict)
{
    return verdict == TT_VERDICT_CAPACITY;
}

static bool is_no_leak(enum tt_verdict verdict)
{
    return !tt_verdict_is_leak(verdict) && !is_undecided(verdict) && !is_capacity(verdict);
}

static void add_healthy(struct tt_article *article, const struct tt_report_input *input)
{
    const struct tt_findings *all = input->findings;
    const struct tt_report_session *session = &input->sessions[0];
    const struct tt_report_process *process = process_of(session, -1);
    const char *name = tt_phrase_base(process->exe);
    double horizon = all->horizon > 0 ? all->horizon : session->horizon;
    bool too_short = horizon > 0 && session->seconds > 0 && session->seconds <= horizon;
    char span[32];
    tt_phrase sites, limit;
    tt_text_duration(span, session->seconds);
    tt_phrase_number(limit, horizon);
    if (!*name)
        name = "the program";
    if (!all->sites_looked_at)
        tt_article_add(article, TT_BLOCK_TITLE,
                       "%s: nothing to judge, no acquisition was seen in %s", name, span);
    else if (too_short)
        tt_article_add(article, TT_BLOCK_TITLE,
                       "%s: no leak found, but %s is too short for the horizon of %s s", name, span,
                       limit);
    else
        tt_article_add(article, TT_BLOCK_TITLE, "%s: no leak found in %s", name, span);
    tt_section_applies_to(article, session, process);
    tt_article_add(article, TT_BLOCK_HEADING, "LOOKED AT");
    tt_article_add(article, TT_BLOCK_PARA, "%s %s in %s mode",
                   tt_phrase_number(sites, (double)all->sites_looked_at),
                   all->sites_looked_at == 1 ? "site" : "sites",
                   *tt_phrase_text(session->mode) ? session->mode : "an unknown");
    if (horizon > 0)
        tt_article_more(article, "with the horizon A = %s s.", limit);
    else
        tt_article_more(article, "with the default horizon.");
    bool searched = tt_section_searched(article, input);
    if (too_short)
        tt_article_more(article,
                        "Nothing was watched for longer than the horizon, so %s: record longer, or "
                        "give a shorter --horizon.",
                        searched ? "what is kept without need cannot be told"
                                 : "nothing can be called a leak");
    else if (session->seconds < 2 * horizon)
        tt_article_more(article, "Only what was acquired in the first %s was watched for as long.",
                        tt_text_duration(span, session->seconds - horizon));
}

static void add_process_heap(struct tt_article *article, const struct tt_findings *all)
{
    if (!*all->process_heap.text)
        return;
    tt_article_add(article, TT_BLOCK_HEADING, "HEAP AS A WHOLE");
    tt_article_add(article, TT_BLOCK_PARA, "%s: %s", tt_verdict_word(all->process_heap.verdict),
                   all->process_heap.text);
}

static void add_lost_data(struct tt_article *article, const struct tt_report_input *input)
{
    const struct tt_report_session *session = &input->sessions[0];
    size_t kinds = 0;
    tt_phrase count;
    tt_article_add(article, TT_BLOCK_HEADING, "LOST DATA");
    if (session->unfinished)
        tt_article_add(article, TT_BLOCK_BULLET,
                       "the recorder was cut short: the session ends at its last sample");
    for (size_t i = 0; i < session->n_dropped; i++) {
        if (!session->dropped[i].count || kinds++ >= DROPS)
            continue;
        tt_article_add(article, TT_BLOCK_BULLET, "%s: %s", tt_phrase_text(session->dropped[i].what),
                       tt_phrase_number(count, (double)session->dropped[i].count));
    }
    if (kinds > DROPS)
        tt_article_add(article, TT_BLOCK_BULLET, "and %zu more kinds", kinds - DROPS);
    if (!kinds && !session->unfinished && !input->n_warnings)
        tt_article_add(article, TT_BLOCK_PARA, "none dropped");
    for (size_t i = 0; i < input->n_warnings && i < DROPS; i++)
        tt_article_add(article, TT_BLOCK_BULLET, "%s", tt_phrase_text(input->warnings[i]));
    if (input->n_warnings > DROPS)
        tt_article_add(article, TT_BLOCK_BULLET, "and %zu more about symbols",
                       input->n_warnings - DROPS);
}

static void add_repeat(struct tt_article *article, const struct tt_report_input *input)
{
    if (!input->n_repeat)
        return;
    tt_article_add(article, TT_BLOCK_HEADING, "REPEAT");
    tt_article_add(article, TT_BLOCK_LINES, "%s", "");
    for (size_t i = 0; i < input->n_repeat; i++)
        tt_article_more(article, "%s", tt_phrase_text(input->repeat[i]));
}

void tt_article_compose(struct tt_article *article, const struct tt_report_input *input)
{
    const struct tt_findings *all = input->findings;
    size_t most = input->max_articles ? input->max_articles : ARTICLES;
    const struct tt_report_process *last = NULL;
    bool overview = tt_overview_wanted(input);
    bool (*in_full)(enum tt_verdict) = all->leak ? tt_verdict_is_leak : is_undecided;
    size_t written = 0;
    for (size_t i = 0; i < all->list.len && written < most; i++) {
        if (overview || all->list.data[i].has_group || !in_full(all->list.data[i].verdict))
            continue;
        struct tt_subject subject = subject_of(input, &all->list.data[i]);
        add_finding(article, &subject, &last);
        written++;
    }
    if (overview)
        tt_section_overview(article, input, process_of(&input->sessions[0], -1));
    else if (!written)
        add_healthy(article, input);
    if (all->leak)
        add_list(article, input, "ALSO LOST", NULL, tt_verdict_is_leak, written, 0);
    add_list(article, input, "NOT DECIDED", NULL, is_undecided, all->leak ? 0 : written, 0);
    add_list(article, input, "CAPACITY LIMITS",
             "These are given back, but so late that a limit is reached at this load:", is_capacity,
             0, 0);
    add_list(article, input, "NOT LEAKS", NULL, is_no_leak, 0, all->sites_not_listed);
    if (!overview)
        tt_section_groups(article, input);
    add_process_heap(article, all);
    tt_section_cost(article, input);
    add_lost_data(article, input);
    add_repeat(article, input);
}
