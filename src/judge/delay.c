/* SPDX-License-Identifier: Apache-2.0 */
/* Is there a timer in this site's releases (METHODS 2.3 ii)? Exact ages of sampled releases where
 * there are enough, else the half-octave bins. Start: tt_judge_delay. */
#include <math.h>
#include <string.h>

#include "judge/dossier.h"

#define MIN_SAMPLES 8u
#define SHARE_OF_ALL 0.3 /* a timer that few units ever reach does not describe the site */
#define AT_ONE_TIME 0.25
#define CLOSER_LEAST 3.0

/* The first grid point by which so many had happened. */
static size_t point_of(const struct tt_dossiers *all, const double *counts, double number)
{
    size_t k = 1;
    while (k + 1 < all->grid.len && counts[k] < number)
        k++;
    return k;
}

/* A timer gives back at the pace at which was acquired. What all goes at one time, with the client
 * it was for or by a flush, has ages that only say when it was made. Compared are the times in
 * which the middle eight tenths fell, of the releases and of as many births, the former taken at
 * its longest and the latter at its shortest that the grid allows. */
static bool at_one_time(const struct tt_dossiers *all, const struct tt_dossier *d)
{
    const double *t = all->grid.data;
    if (!d->grid_births || all->grid.len < 3)
        return false;
    double n = d->grid_deaths[all->grid.len - 1];
    double releases =
        t[point_of(all, d->grid_deaths, 0.9 * n)] - t[point_of(all, d->grid_deaths, 0.1 * n) - 1];
    double births =
        t[point_of(all, d->grid_births, 0.9 * n) - 1] - t[point_of(all, d->grid_births, 0.1 * n)];
    return releases < AT_ONE_TIME * births;
}

/* Exact ages that are too few to show a timer tell where in the bins it lies, if they agree: within
 * two ticks or as narrowly as a window of theirs would be. */
static void look_closer(const struct tt_stats_age *ages, size_t n, struct tt_stats_delay *delay)
{
    double lo = INFINITY, hi = 0, sum = 0, count = 0;
    for (size_t i = 0; i < n; i++) {
        double age = ages[i].age / TT_STATS_TICKS_PER_SECOND;
        if (age < delay->lo || age >= delay->hi)
            continue;
        lo = fmin(lo, age);
        hi = fmax(hi, age);
        sum += age * (double)ages[i].count;
        count += (double)ages[i].count;
    }
    double tick = 1 / TT_STATS_TICKS_PER_SECOND;
    if (count < CLOSER_LEAST ||
        hi - lo > fmax(2 * tick, 2 * tt_stats_delay_defaults.half_width * sum / count))
        return;
    delay->seen_lo = lo;
    delay->seen_hi = hi;
    if (delay->tau < lo - tick || delay->tau > hi + tick)
        delay->tau = sum / count;
}

int tt_judge_delay(const struct tt_dossiers *all, struct tt_dossier *d)
{
    TT_VEC(struct tt_stats_age) ages = {0};
    uint64_t samples = 0;
    int rc = 0;
    for (size_t i = 0; !rc && i < d->members.len; i++) {
        const struct tt_case_site *s = &all->c->sites.data[d->members.data[i].site];
        for (size_t k = 0; !rc && k < s->release_ages.len; k++) {
            rc = tt_vec_push(&ages, s->release_ages.data[k]);
            samples += s->release_ages.data[k].count;
        }
    }
    if (!rc && samples >= MIN_SAMPLES)
        rc = tt_stats_delay_find(ages.data, ages.len, &tt_stats_delay_defaults, &d->delay);
    /* of kinds that are rare few releases are sampled, but all are in the bins */
    bool rare = strcmp(d->resource, "heap") != 0 && !d->delay.found;
    if (!rc && !d->by_series && (samples < MIN_SAMPLES || rare))
        tt_stats_delay_find_binned(d->death_bins, &tt_stats_delay_defaults, &d->delay);
    if (!rc && d->delay.found && d->delay.binned)
        look_closer(ages.data, ages.len, &d->delay);
    tt_vec_free(&ages);
    double deaths = 0, looked_at = 0;
    for (unsigned b = 0; b < TT_STATS_BINS; b++) {
        deaths += (double)d->death_bins[b];
        if (tt_stats_bin_start(b) >= tt_stats_delay_defaults.min_age)
            looked_at += (double)d->death_bins[b];
    }
    double spike = d->delay.share * looked_at;
    /* What a clean-up at exit releases was made at one time too, as often as not. */
    if (spike < SHARE_OF_ALL * deaths || spike < 2 * d->cleaned || at_one_time(all, d))
        d->delay.found = false;
    return rc;
}
