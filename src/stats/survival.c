/* SPDX-License-Identifier: Apache-2.0 */
/* Life table and octave survival e-value over the tape's half-octave bins. Deaths need no storage
 * per unit: units at risk at an age are the deaths and live units beyond it. Start:
 * tt_stats_survival_octaves. */
#include <math.h>
#include <string.h>

#include "stats/survival.h"

const struct tt_stats_octave_rule tt_stats_octave_defaults = {
    .eps = 0.2,
    .a_min = 4800,
    .log_threshold = 2.995732273553991,
    .min_decided = 5,
    .slices = 100,
    .min_slice = 4,
};

/* Interval for a survival probability on the log(-log S) scale (Kalbfleisch & Prentice), which
 * stays inside [0,1]. Without deaths so far: the exact bound for 0 of the units at risk. */
static void loglog_interval(struct tt_stats_life_row *row, double z, double level, double at_risk)
{
    if (row->survival >= 1) {
        row->survival_hi = 1;
        row->survival_lo = at_risk > 0 ? tt_stats_clopper_pearson(at_risk, at_risk, level).lo : 0;
        return;
    }
    if (row->survival <= 0) {
        row->survival_lo = 0;
        row->survival_hi = at_risk > 0 ? tt_stats_clopper_pearson(0, at_risk, level).hi : 1;
        return;
    }
    double width = z * sqrt(row->greenwood) / -log(row->survival);
    row->survival_lo = pow(row->survival, exp(width));
    row->survival_hi = pow(row->survival, exp(-width));
}

void tt_stats_survival_table(const struct tt_stats_lifetimes *lifetimes, double level,
                             struct tt_stats_life_table *table)
{
    memset(table, 0, sizeof *table);
    double total = 0;
    for (uint32_t b = 0; b < TT_STATS_BINS; b++) {
        table->row[b].start = tt_stats_bin_start(b);
        table->row[b].deaths = (double)lifetimes->deaths[b];
        total += table->row[b].deaths;
    }
    for (size_t i = 0; i < lifetimes->n_live; i++) {
        double count = (double)lifetimes->live[i].count;
        table->row[tt_stats_bin_of(lifetimes->live[i].age)].censored += count;
        total += count;
    }

    double z = tt_stats_normal_quantile(0.5 + level / 2), survival = 1, greenwood = 0;
    for (size_t b = 0; b < TT_STATS_BINS && total > 0; b++) {
        struct tt_stats_life_row *row = &table->row[b];
        double exposed = total - row->censored / 2;
        row->at_risk = total;
        if (row->deaths > 0) {
            survival *= 1 - row->deaths / exposed;
            greenwood += row->deaths < exposed ? row->deaths / (exposed * (exposed - row->deaths))
                                               : INFINITY;
        }
        row->survival = fmax(survival, 0);
        row->greenwood = greenwood;
        loglog_interval(row, z, level, exposed);
        total -= row->deaths + row->censored;
        table->n = b + 1;
    }
}

double tt_stats_survival_at(const struct tt_stats_life_table *table, double age)
{
    if (!(age >= 0) || table->n == 0 || age > (double)tt_stats_bin_start((uint32_t)table->n))
        return NAN;
    size_t b = 0;
    while (b + 1 < table->n && (double)table->row[b + 1].start <= age)
        b++;
    double before = b ? table->row[b - 1].survival : 1, after = table->row[b].survival;
    double start = (double)table->row[b].start, end = (double)tt_stats_bin_start((uint32_t)b + 1);
    double part = (age - start) / (end - start);
    if (after <= 0)
        return before * (1 - part);
    return before * pow(after / before, part);
}

void tt_stats_survival_cure(const struct tt_stats_life_table *table, double min_at_risk,
                            struct tt_stats_cure *cure)
{
    *cure = (struct tt_stats_cure){.upper_estimate = 1, .interval = {0, 1}};
    for (size_t b = 0; b < table->n && table->row[b].at_risk >= min_at_risk; b++) {
        const struct tt_stats_life_row *row = &table->row[b];
        cure->upper_estimate = row->survival;
        cure->interval = (struct tt_stats_interval){row->survival_lo, row->survival_hi};
        cure->follow_up = row->start;
        cure->at_risk = row->at_risk;
    }
}

/* Live units older than a, and how many of the equal slices of the birth span [0, window - a] their
 * births occupy. Slices are visited through a bit set: at most 4096 of them. */
static double live_beyond(const struct tt_stats_lifetimes *lifetimes,
                          const struct tt_stats_octave_rule *rule, uint32_t a, double *occupied)
{
    enum { MAX_SLICES = 4096 };
    uint64_t seen[MAX_SLICES / 64] = {0};
    double span = (double)(lifetimes->window - a) + 1, width = 0, survivors = 0;
    if (rule->slices)
        width = fmax(fmax(span / rule->slices, rule->min_slice), span / MAX_SLICES);
    *occupied = 0;
    for (size_t i = 0; i < lifetimes->n_live; i++) {
        if (lifetimes->live[i].age <= a || lifetimes->live[i].count == 0)
            continue;
        survivors += (double)lifetimes->live[i].count;
        if (!rule->slices)
            continue;
        size_t slice = (size_t)((double)(lifetimes->live[i].age - a) / width);
        if (slice >= MAX_SLICES)
            slice = MAX_SLICES - 1;
        if (!(seen[slice / 64] >> slice % 64 & 1))
            *occupied += 1;
        seen[slice / 64] |= UINT64_C(1) << slice % 64;
    }
    if (!rule->slices)
        *occupied = survivors;
    return survivors;
}

static void octave_of(const struct tt_stats_lifetimes *lifetimes,
                      const struct tt_stats_octave_rule *rule, uint32_t a,
                      struct tt_stats_octave *octave)
{
    double died_later = 0, occupied;
    octave->a = a;
    for (uint32_t b = 0; b < TT_STATS_BINS; b++) {
        if (tt_stats_bin_start(b) > a)
            died_later += (double)lifetimes->deaths[b];
        else if (tt_stats_bin_start(b + 1) > a / 2 + 1)
            octave->deaths += (double)lifetimes->deaths[b];
    }
    double live = live_beyond(lifetimes, rule, a, &occupied);
    octave->survivors = live + died_later;
    if (rule->slices && octave->survivors > 0) {
        octave->counted_survivors = fmin(octave->survivors, occupied);
        octave->counted_deaths =
            octave->deaths * fmin(1, octave->counted_survivors / octave->survivors);
    } else {
        octave->counted_survivors = octave->survivors;
        octave->counted_deaths = octave->deaths;
    }
    /* one bet per counted unit, against "dies with probability >= eps" (METHODS 2.3 i) */
    double q = rule->eps / 10;
    octave->log_e = octave->counted_survivors * log((1 - q) / (1 - rule->eps)) +
                    octave->counted_deaths * log(q / rule->eps);
}

void tt_stats_survival_octaves(const struct tt_stats_lifetimes *lifetimes,
                               const struct tt_stats_octave_rule *rule,
                               struct tt_stats_retention *out)
{
    double log_e[TT_STATS_OCTAVES];
    memset(out, 0, sizeof *out);
    const struct tt_stats_octave *shown = out->octave;
    for (uint64_t a = rule->a_min; a > 0 && a < lifetimes->window && out->n < TT_STATS_OCTAVES;
         a *= 2) {
        struct tt_stats_octave *octave = &out->octave[out->n];
        octave_of(lifetimes, rule, (uint32_t)a, octave);
        log_e[out->n++] = octave->log_e;
        double seconds = (double)a / TT_STATS_TICKS_PER_SECOND;
        double decided = octave->survivors + octave->deaths;
        if (decided >= rule->min_decided) {
            out->oldest_seconds = seconds;
            out->oldest_death_share = octave->deaths / decided;
            out->veto = octave->deaths >= rule->eps * decided;
        }
        if (octave->log_e >= rule->log_threshold) {
            out->beyond_seconds = seconds;
            shown = octave;
        } else if (out->beyond_seconds == 0 && octave->log_e > shown->log_e) {
            shown = octave;
        }
    }
    if (out->n == 0)
        return;
    out->log_e = tt_stats_log_sum_exp(log_e, out->n) - log((double)out->n);
    out->retained = out->log_e >= rule->log_threshold && !out->veto;
    out->decided = shown->survivors + shown->deaths;
    out->survivors = shown->survivors;
}
