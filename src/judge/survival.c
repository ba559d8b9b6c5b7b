/* SPDX-License-Identifier: Apache-2.0 */
/* Retention: do units outlive the horizon (METHODS 2.3 i), and does the evidence stand among all
 * sites looked at (2.4)? A hypothesis of its own is only a site whose births go on - it made units
 * over a quarter at least of the time in which they can have reached half the horizon - and some of
 * whose units did reach it. Both are known before the first bet, which is on what happens to a unit
 * after half the horizon, so choosing by them leaves the e-values valid; and it keeps the thousands
 * of sites that any program uses once, or for moments, from raising the bound for the others.
 * Start: tt_judge_survival. */
#include "judge/dossier.h"

#include <math.h>
#include <string.h>

#include "stats/evalue.h"

#define MIN_UNITS 20.0 /* births old enough to be tested */
#define MIN_REACHED 5.0
#define MIN_SPAN_SHARE 0.25
#define MIN_FAMILY                                                                                 \
    10.0 /* the bound is never below that of ten sites: a floor for tiny programs                  \
          */
#define SLICES 100u

/* A slice is the time in which units that die together are taken as one: half a second, or with a
 * shortened horizon one tick, as short runs have no more. */
static uint32_t slice_ticks(const struct tt_dossiers *all)
{
    return all->horizon < TT_JUDGE_HORIZON_S ? 1 : tt_stats_octave_defaults.min_slice;
}

static int weigh_lifetimes(const struct tt_dossiers *all, const struct tt_dossier *d,
                           double log_threshold, struct tt_stats_retention *out, double *surviving)
{
    TT_VEC(struct tt_stats_age) live = {0};
    for (size_t i = 0; i < d->units.len; i++) {
        struct tt_stats_age age = {d->units.data[i].age, d->units.data[i].count};
        if (tt_vec_push(&live, age)) {
            tt_vec_free(&live);
            return -ENOMEM;
        }
    }
    struct tt_stats_lifetimes lifetimes = {
        .live = live.data,
        .n_live = live.len,
        .window = (uint32_t)fmax(0, (d->until - d->first) * TT_STATS_TICKS_PER_SECOND)};
    for (unsigned b = 0; b < TT_STATS_BINS; b++)
        lifetimes.deaths[b] = d->death_bins[b];
    struct tt_stats_octave_rule rule = tt_stats_octave_defaults;
    rule.a_min = all->horizon_ticks;
    rule.log_threshold = log_threshold;
    rule.slices = SLICES;
    rule.min_slice = slice_ticks(all);
    tt_stats_survival_octaves(&lifetimes, &rule, out);
    if (surviving) {
        struct tt_stats_life_table table;
        struct tt_stats_cure cure;
        tt_stats_survival_table(&lifetimes, 0.95, &table);
        tt_stats_survival_cure(&table, 5, &cure);
        *surviving = cure.upper_estimate;
    }
    tt_vec_free(&live);
    return 0;
}

static bool births_go_on(const struct tt_dossiers *all, const struct tt_dossier *d)
{
    double old_enough = fmin(d->until - all->horizon / 2, d->exhausted);
    double born = 0, last = 0, span = old_enough - d->first;
    if (span <= 0)
        return false;
    for (size_t i = 0; i < d->members.len; i++) {
        const struct tt_case_site *s = &all->c->sites.data[d->members.data[i].site];
        double previous = 0;
        for (size_t r = 0; r < s->rows.len && s->rows.data[r].t <= old_enough; r++) {
            if (s->rows.data[r].births > previous)
                last = fmax(last, s->rows.data[r].t);
            previous = s->rows.data[r].births;
        }
        born += previous;
    }
    return born >= MIN_UNITS && last - d->first >= MIN_SPAN_SHARE * span;
}

/* Units that reached half the horizon, where the bets begin. */
static double reached(const struct tt_dossier *d)
{
    return d->retention.n ? d->retention.octave[0].survivors + d->retention.octave[0].deaths : 0;
}

void tt_dossier_count_retained(const struct tt_dossiers *all, struct tt_dossier *d)
{
    int64_t last_slice = -1;
    uint32_t slice = slice_ticks(all);
    uint32_t horizon = (uint32_t)fmax(1, ceil(d->horizon * TT_STATS_TICKS_PER_SECOND));
    memset(&d->retained, 0, sizeof d->retained);
    d->retained.first = INFINITY;
    for (size_t i = 0; i < d->units.len; i++) {
        const struct tt_unit *u = &d->units.data[i];
        if (u->age < horizon)
            continue;
        double n = (double)u->count, t = u->tick / TT_STATS_TICKS_PER_SECOND;
        d->retained.followed += n;
        d->retained.units += n * u->weight;
        d->retained.bytes += n * u->weight * u->size;
        d->retained.variance += n * u->weight * (u->weight - 1); /* sum (1-p)/p^2 */
        d->retained.first = fmin(d->retained.first, t);
        d->retained.last = fmax(d->retained.last, t);
        if ((int64_t)(u->tick / slice) > last_slice) {
            last_slice = u->tick / slice;
            d->retained.slices++;
        }
    }
}

/* For sites cleaned up at exit there are two conservative readings: the series (oldest die first),
 * and the survivors with the clean-up counted as deaths. Either alone is valid evidence; the one
 * that holds is taken. */
static int read_lifetimes(const struct tt_dossiers *all, struct tt_dossier *d, double log_threshold)
{
    int rc = tt_dossier_lifetimes(all, d, true);
    if (!rc)
        rc = weigh_lifetimes(all, d, log_threshold, &d->retention, &d->surviving);
    if (rc || !d->cleanup || (!d->retention.veto && d->retention.log_e > 0))
        return rc;
    struct tt_stats_retention plain;
    rc = tt_dossier_lifetimes(all, d, false);
    if (!rc)
        rc = weigh_lifetimes(all, d, log_threshold, &plain, NULL);
    if (!rc && !plain.veto && plain.log_e > d->retention.log_e)
        d->retention = plain;
    else if (!rc)
        rc = tt_dossier_lifetimes(all, d, true);
    return rc;
}

int tt_judge_survival(struct tt_dossiers *all)
{
    size_t n = all->list.len, m = 0;
    double *log_e = malloc((n ? n : 1) * sizeof *log_e);
    bool *rejected = calloc(n ? n : 1, sizeof *rejected);
    size_t *which = malloc((n ? n : 1) * sizeof *which);
    int rc = log_e && rejected && which ? 0 : -ENOMEM;
    for (size_t i = 0; !rc && i < n; i++) {
        struct tt_dossier *d = &all->list.data[i];
        tt_judge_exhausted(all, d);
        rc = read_lifetimes(all, d, log(1 / all->alpha));
        tt_dossier_count_retained(all, d);
        d->eligible = births_go_on(all, d) && reached(d) >= MIN_REACHED;
        if (d->eligible) {
            which[m] = i;
            log_e[m++] = d->retention.log_e;
        }
    }
    if (!rc && m) {
        double family = fmax(1, MIN_FAMILY / (double)m);
        long k = tt_stats_e_bh(log_e, NULL, m, all->alpha / family, rejected, &all->log_threshold);
        if (k < 0)
            rc = (int)k;
        for (size_t i = 0; i < m && !rc; i++) {
            struct tt_dossier *d = &all->list.data[which[i]];
            d->rejected = rejected[i];
            /* beyond_seconds and the verdict speak at the family's bound */
            double bound = k > 0 ? all->log_threshold : log((double)m * family / all->alpha);
            rc = weigh_lifetimes(all, d, bound, &d->retention, NULL);
        }
    }
    free(log_e);
    free(rejected);
    free(which);
    return rc;
}
