/* SPDX-License-Identifier: Apache-2.0 */
/* What a finding says besides its verdict: how much was lost, and one sentence with its figures for
 * each kind of evidence that was there. Start: tt_judge_tell. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "judge/dossier.h"

static void tell_quiet(const struct tt_dossiers *all, const struct tt_dossier *d,
                       struct tt_finding *f)
{
    f->quiet_seconds = fmax(0, d->until - d->last_birth);
    for (size_t i = 0; i < d->members.len; i++) {
        const struct tt_case_site *s = &all->c->sites.data[d->members.data[i].site];
        double then = tt_case_at(s, d->last_birth).deaths;
        if (tt_case_at(s, d->members.data[i].until).deaths > then + 0.05 * d->live)
            f->quiet_seconds = 0; /* survivors did not stay unchanged */
    }
}

/* Units that copies have shown to be lost need not outlive the horizon of all sites: what survives
 * from before the last copy is what it found. */
static void shorten_horizon(const struct tt_dossiers *all, struct tt_dossier *d)
{
    if (!d->lost.explains)
        return;
    d->horizon = fmin(d->horizon, fmax(0, d->until - d->lost.at) + TT_JUDGE_GRACE_S);
    tt_dossier_count_retained(all, d);
}

void tt_judge_tell_lost(const struct tt_dossiers *all, struct tt_dossier *d, struct tt_finding *f)
{
    tell_quiet(all, d, f);
    if (f->verdict == TT_VERDICT_LEAK_LOST)
        shorten_horizon(all, d);
    const char *allocator = all->c->processes.data[d->process].allocator;
    double cost = 0, units = 0;
    for (size_t i = 0; i < d->units.len; i++) {
        const struct tt_unit *u = &d->units.data[i];
        units += (double)u->count * u->weight;
        cost += (double)u->count * u->weight * tt_judge_cost(allocator, u->size);
    }
    bool heap = strcmp(d->resource, "heap") == 0;
    f->unit_cost = heap && units > 0 ? cost / units : 0;
    f->lost_units = (uint64_t)llround(d->retained.units);
    f->lost_bytes = d->retained.bytes;
    f->lost_cost = f->unit_cost * d->retained.units;
    f->estimate_sd = sqrt(d->retained.variance);
    if (f->verdict == TT_VERDICT_LEAK_RETAINED && d->state.holds &&
        d->state.units > d->retained.units) {
        f->lost_units = (uint64_t)llround(d->state.units);
        f->lost_bytes = d->state.units;
    }
    if (f->verdict != TT_VERDICT_LEAK_LOST ||
        (d->lost.explains && d->lost.units <= d->retained.units))
        return; /* else the copy is younger than the last look, or the site keeps others too */
    double mean = d->live > 0 ? d->live_bytes / d->live : d->size_max;
    f->lost_units = (uint64_t)llround(d->lost.units);
    f->lost_bytes = d->lost.units * mean;
    f->lost_cost = f->unit_cost * d->lost.units;
    f->estimate_sd = sqrt(d->lost.variance);
}

static int add_evidence(struct tt_finding *f, struct tt_evidence e)
{
    return tt_vec_push(&f->evidence, e);
}

static void add_figure(struct tt_evidence *e, const char *key, double value)
{
    size_t i = 0;
    while (e->figure[i].key)
        i++;
    e->figure[i].key = key;
    e->figure[i].value = value;
}

static int tell_unreachable(const struct tt_dossier *d, struct tt_finding *f)
{
    struct tt_evidence e = {.kind = "unreachable", .log_e = NAN};
    e.value = d->lost.live > 0 ? d->lost.known / d->lost.live : NAN;
    char lost[32], of[32];
    size_t used = (size_t)snprintf(
        e.text, sizeof e.text, "nothing points to %s of %s followed units in the copy at %.0f s",
        tt_text_count(lost, (uint64_t)d->lost.known), tt_text_count(of, (uint64_t)d->lost.live),
        d->lost.at);
    if (d->lost.known > 0 && d->lost.snapshots > 1)
        used += (size_t)snprintf(e.text + used, sizeof e.text - used, ", found so in %zu copies",
                                 d->lost.snapshots);
    if (d->lost.old_units >= 1)
        used += (size_t)snprintf(e.text + used, sizeof e.text - used,
                                 "; and to %s old blocks of this shape (probability %.2f)",
                                 tt_text_count(lost, (uint64_t)d->lost.old_units),
                                 floor(d->lost.probability * 100) / 100);
    const char *but = d->lost.returned ? "; but such units are released later: their pointers are "
                                         "hidden, not lost"
                      : !d->lost.complete
                          ? "; but not all memory that may hold pointers could be understood"
                      : d->lost.known > 0 && !d->lost.holds ? "; too few, or too young, to count"
                                                            : "";
    snprintf(e.text + used, sizeof e.text - used, "%s", but);
    add_figure(&e, "units", d->lost.known);
    add_figure(&e, "of", d->lost.live);
    add_figure(&e, "sure", d->lost.sure);
    add_figure(&e, "copies", (double)d->lost.snapshots);
    add_figure(&e, "old_units", d->lost.old_units);
    add_figure(&e, "probability", d->lost.old_units >= 1 ? d->lost.probability : NAN);
    add_figure(&e, "chance", d->lost.chance);
    return add_evidence(f, e);
}

static int tell_staleness(const struct tt_dossier *d, struct tt_finding *f)
{
    struct tt_evidence e = {.kind = "staleness", .value = d->stale.share, .log_e = NAN};
    char span[32];
    snprintf(e.text, sizeof e.text,
             "%.0f of %.0f sampled units that lived through the last %u epochs (%s) were neither "
             "read nor written in them",
             d->stale.share * d->stale.objects, d->stale.objects, d->stale.epochs,
             tt_text_duration(span, d->stale.seconds));
    add_figure(&e, "objects", d->stale.objects);
    add_figure(&e, "untouched", round(d->stale.share * d->stale.objects));
    add_figure(&e, "epochs", d->stale.epochs);
    add_figure(&e, "seconds", d->stale.seconds);
    add_figure(&e, "lower", d->stale.lower);
    return add_evidence(f, e);
}

int tt_judge_tell(const struct tt_dossiers *all, const struct tt_dossier *d, struct tt_finding *f,
                  double middle, double late)
{
    bool heap = strcmp(d->resource, "heap") == 0;
    int rc = heap && d->lost.looked ? tell_unreachable(d, f) : 0;
    if (!rc)
        rc = tt_judge_tell_state(all, d, f);
    if (!rc && isfinite(d->exhausted)) {
        struct tt_limit_fact limit;
        struct tt_evidence e = {.kind = "exhausted", .value = d->exhausted, .log_e = NAN};
        tt_judge_limit(all, d, &limit);
        snprintf(e.text, sizeof e.text,
                 "%s = %.0f is used up since %.0f s: %.0f in use, %.0f of them of this site",
                 limit.name, limit.value, d->exhausted, limit.used, d->live);
        rc = add_evidence(f, e);
    }
    if (!rc)
        rc = tt_judge_tell_owner(f);
    if (!rc && d->stale.known)
        rc = tell_staleness(d, f);
    if (!rc && d->retention.n > 0) {
        struct tt_evidence e = {.kind = "survival", .log_e = d->retention.log_e};
        double beyond = d->retention.beyond_seconds;
        double a = beyond > 0 ? beyond : all->horizon;
        e.value = d->retention.decided > 0 ? d->retention.survivors / d->retention.decided : NAN;
        snprintf(e.text, sizeof e.text,
                 "%.0f of %.0f units that reached %.3g s outlived %.3g s (e-value %.1e); counted "
                 "%zu separate moments of birth%s",
                 d->retention.survivors, d->retention.decided, a / 2, a, exp(d->retention.log_e),
                 d->retained.slices, d->by_series ? "; ages from the counts before exit" : "");
        rc = add_evidence(f, e);
    }
    if (!rc && isfinite(d->trend.full.beta)) {
        struct tt_evidence e = {.kind = "trend", .value = d->trend.full.beta, .log_e = NAN};
        snprintf(e.text, sizeof e.text,
                 "births of kept units are %s on the %s clock (exponent %.2f, 95 %% %.2f to %.2f)",
                 tt_stats_trend_word(d->trend.class), d->trend.clock, d->trend.full.beta,
                 d->trend.full.interval.lo, d->trend.full.interval.hi);
        rc = add_evidence(f, e);
    }
    if (!rc && d->delay.found) {
        struct tt_evidence e = {.kind = "release-age", .value = d->delay.tau, .log_e = NAN};
        int used =
            snprintf(e.text, sizeof e.text, "%.0f %% of releases come %.3g to %.3g s after birth",
                     100 * d->delay.share, d->delay.lo, d->delay.hi);
        if (d->delay.seen_hi > 0)
            snprintf(e.text + used, sizeof e.text - (size_t)used,
                     ", those looked at %.2f to %.2f s", d->delay.seen_lo, d->delay.seen_hi);
        rc = add_evidence(f, e);
    }
    if (!rc && d->load.known && d->load.following) {
        struct tt_evidence e = {.kind = "load", .value = d->load.r2, .log_e = NAN};
        snprintf(e.text, sizeof e.text,
                 "live units against %s: R2 %.2f, growth beyond %.3g per birth", d->load.gauge,
                 d->load.r2, d->load.growth);
        rc = add_evidence(f, e);
    }
    if (!rc && isfinite(late)) {
        struct tt_evidence e = {.kind = "growth", .value = late - middle, .log_e = NAN};
        snprintf(e.text, sizeof e.text,
                 "live units: %.0f in the middle third of the recording, %.0f in the last", middle,
                 late);
        rc = add_evidence(f, e);
    }
    return rc;
}
