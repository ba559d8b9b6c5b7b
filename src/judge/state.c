/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel tells of live units that says more than their age: a TCP socket whose peer has
 * hung up (CLOSE_WAIT: only a close of ours can come next, RFC 9293 3.6), a child that has ended
 * and was not waited for. Such a unit past the horizon is no use to anybody. That alone is no leak:
 * a pool of connections whose server hangs up holds a bounded number of them until it uses them
 * again. It is one when more of them keep coming, at many separate moments, and hardly any goes.
 * Start: tt_judge_state.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "judge/dossier.h"

#define MIN_UNITS 5.0
#define MIN_MOMENTS 5u
#define LEAVE 0.1 /* share that goes after the horizon, of those that reach it */
#define GO_ON 0.5 /* the last one that can have reached the horizon came in the later half */
#define SLICE_TICKS 8u

static const struct {
    const char *name, *words;
} states[TT_CASE_CLOCKS] = {
    [TT_CASE_CLOSE_WAIT] = {"CLOSE_WAIT", "the peer has gone, the descriptor is still open"},
    [TT_CASE_ENDED] = {"zombie", "the child has ended and nobody waits for it"},
};

static int by_tick(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Distinct moments among starts, and when the first and the last were. */
static void moments(const uint32_t *starts, size_t n, struct tt_state_fact *fact)
{
    fact->moments = 0;
    for (size_t i = 0; i < n; i++)
        fact->moments += i == 0 || starts[i] / SLICE_TICKS != starts[i - 1] / SLICE_TICKS;
    fact->first = n ? starts[0] / TT_STATS_TICKS_PER_SECOND : 0;
    fact->last = n ? starts[n - 1] / TT_STATS_TICKS_PER_SECOND : 0;
}

static int weigh(const struct tt_dossiers *all, const struct tt_dossier *d, unsigned clock,
                 struct tt_state_fact *fact)
{
    TT_VEC(uint32_t) starts = {0};
    double now = d->until * TT_STATS_TICKS_PER_SECOND, left = 0;
    int rc = 0;
    for (size_t i = 0; !rc && i < d->members.len; i++) {
        const struct tt_case_site *s = &all->c->sites.data[d->members.data[i].site];
        for (size_t k = 0; !rc && k < s->clocks[clock].live.len; k++) {
            const struct tt_case_unit *u = &s->clocks[clock].live.data[k];
            fact->now += (double)u->count;
            if (now - u->tick < all->horizon_ticks)
                continue;
            fact->units += (double)u->count;
            fact->oldest = fmax(fact->oldest, (now - u->tick) / TT_STATS_TICKS_PER_SECOND);
            rc = tt_vec_push(&starts, u->tick);
        }
        for (unsigned b = 0; b < TT_STATS_BINS; b++)
            if (tt_stats_bin_start(b) >= all->horizon_ticks)
                left += (double)s->clocks[clock].deaths[b];
    }
    if (!rc && starts.len)
        qsort(starts.data, starts.len, sizeof *starts.data, by_tick);
    moments(starts.data, starts.len, fact);
    tt_vec_free(&starts);
    double until = d->until - all->horizon, span = until - d->first;
    fact->holds = fact->units >= MIN_UNITS && fact->moments >= MIN_MOMENTS &&
                  left <= LEAVE * (left + fact->units) && fact->last - d->first >= GO_ON * span &&
                  d->stack != 0;
    return rc;
}

int tt_judge_state(const struct tt_dossiers *all, struct tt_dossier *d)
{
    int rc = 0;
    for (unsigned clock = 0; !rc && clock < TT_CASE_CLOCKS; clock++) {
        struct tt_state_fact fact = {.name = states[clock].name, .words = states[clock].words};
        if (!fact.name)
            continue;
        rc = weigh(all, d, clock, &fact);
        if (fact.now > d->state.now)
            d->state = fact;
    }
    return rc;
}

int tt_judge_tell_state(const struct tt_dossiers *all, const struct tt_dossier *d,
                        struct tt_finding *f)
{
    char units[32], of[32], span[32];
    f->state = d->state;
    if (d->state.now < 1)
        return 0;
    f->state.of = d->live;
    struct tt_evidence e = {.kind = "state", .value = d->state.units, .log_e = NAN};
    if (d->state.units >= 1)
        snprintf(e.text, sizeof e.text, "%s of %s live are in %s for longer than %.0f s (%s): %s",
                 tt_text_count(units, (uint64_t)llround(d->state.units)),
                 tt_text_count(of, (uint64_t)llround(d->live)), d->state.name, all->horizon,
                 tt_text_duration(span, d->state.oldest), d->state.words);
    else
        snprintf(e.text, sizeof e.text, "%s of %s live are in %s: %s",
                 tt_text_count(units, (uint64_t)llround(d->state.now)),
                 tt_text_count(of, (uint64_t)llround(d->live)), d->state.name, d->state.words);
    return tt_vec_push(&f->evidence, e);
}
