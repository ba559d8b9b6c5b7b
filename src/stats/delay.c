/* SPDX-License-Identifier: Apache-2.0 */
/* The search for a release timer in ages at death. Works on a sorted copy with running sums, so a
 * window is two binary searches. Start: tt_stats_delay_find. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "stats/delay.h"
#include "stats/special.h"

const struct tt_stats_delay_rule tt_stats_delay_defaults = {
    .min_share = 0.5, .half_width = 0.02, .alpha = 0.01, .min_age = 8, .min_count = 5};

/* Timers that people write; in seconds. */
static const double usual[] = {30, 60, 120, 240, 300, 600, 900, 3600, 7200};
enum { USUAL = sizeof usual / sizeof *usual, MIN_WINDOWS = 40 };

/* Ascending ages at death, and before[i] = deaths younger than age[i]; one entry more than n holds
 * all. `total` counts the deaths of age >= min_age only; the younger ones still serve as
 * neighbours. */
struct ages {
    uint32_t *age;
    uint64_t *before;
    size_t n;
    uint64_t total;
};

static int by_age(const void *a, const void *b)
{
    uint32_t x = ((const struct tt_stats_age *)a)->age, y = ((const struct tt_stats_age *)b)->age;
    return (x > y) - (x < y);
}

static int sort_ages(const struct tt_stats_age *deaths, size_t n, uint32_t min_age,
                     struct ages *out)
{
    struct tt_stats_age *copy = calloc(n + 1, sizeof *copy);
    out->age = calloc(n + 1, sizeof *out->age);
    out->before = calloc(n + 1, sizeof *out->before);
    if (!copy || !out->age || !out->before) {
        free(copy);
        return -ENOMEM;
    }
    if (n) /* deaths may be NULL when there are none */
        memcpy(copy, deaths, n * sizeof *copy);
    qsort(copy, n, sizeof *copy, by_age);
    uint64_t total = 0;
    for (size_t i = 0; i < n; i++) {
        if (copy[i].count == 0)
            continue;
        if (copy[i].age >= min_age)
            out->total += copy[i].count;
        if (out->n == 0 || copy[i].age != out->age[out->n - 1]) {
            out->age[out->n] = copy[i].age;
            out->before[out->n++] = total;
        }
        total += copy[i].count;
    }
    out->before[out->n] = total;
    free(copy);
    return 0;
}

/* First index with age >= `age`. */
static size_t at_least(const struct ages *ages, double age)
{
    size_t lo = 0, hi = ages->n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (ages->age[mid] >= age)
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo;
}

static uint64_t deaths_in(const struct ages *ages, double lo, double hi)
{
    return ages->before[at_least(ages, hi)] - ages->before[at_least(ages, lo)];
}

/* ln p of `inside` against `beside`, a neighbour that is `ratio` times as wide. */
static double excess(uint64_t inside, uint64_t beside, double ratio)
{
    return tt_stats_binomial_log_tail(inside, inside + beside, 1 / (1 + ratio));
}

/* Tests the window centre (1 -+ half_width) of integer ages; fills `out` when it passes and beats
 * out->deaths. */
static void try_window(const struct ages *ages, const struct tt_stats_delay_rule *rule,
                       double centre, double windows, struct tt_stats_delay *out)
{
    double half = fmax(1, centre * rule->half_width);
    double lo = ceil(centre - half), hi = floor(centre + half) + 1, width = hi - lo;
    uint64_t inside = deaths_in(ages, lo, hi);
    if (lo < rule->min_age || inside < rule->min_count ||
        (double)inside < rule->min_share * (double)ages->total || (double)inside <= out->deaths)
        return;
    double left_from = fmax(lo - width, 0), left_width = lo - left_from;
    double left = excess(inside, deaths_in(ages, left_from, lo), left_width / width);
    double right = excess(inside, deaths_in(ages, hi, hi + width), 1);
    double log_p = fmin(0, fmax(left, right) + log(windows));
    if (log_p > log(rule->alpha))
        return;

    size_t first = at_least(ages, lo), last = at_least(ages, hi) - 1;
    double sum = 0;
    for (size_t i = first; i <= last; i++)
        sum += (double)ages->age[i] * (double)(ages->before[i + 1] - ages->before[i]);
    *out = (struct tt_stats_delay){
        .found = true,
        .tau = sum / (double)inside / TT_STATS_TICKS_PER_SECOND,
        .lo = (double)ages->age[first] / TT_STATS_TICKS_PER_SECOND,
        .hi = (double)ages->age[last] / TT_STATS_TICKS_PER_SECOND,
        .share = (double)inside / (double)ages->total,
        .deaths = (double)inside,
        .log_p = log_p,
    };
}

int tt_stats_delay_find(const struct tt_stats_age *deaths, size_t n,
                        const struct tt_stats_delay_rule *rule, struct tt_stats_delay *out)
{
    struct ages ages = {0};
    *out = (struct tt_stats_delay){0};
    int err = sort_ages(deaths, n, rule->min_age, &ages);
    if (err < 0 || ages.total == 0)
        goto out;
    /* Windows that overlap by half cover the observed range; any other is as good as one of them.
     */
    double range = log(ages.age[ages.n - 1] / fmax(1, (double)ages.age[0]));
    double windows = fmax(MIN_WINDOWS, USUAL + 2 * range / (2 * rule->half_width));
    for (int i = 0; i < USUAL; i++)
        try_window(&ages, rule, usual[i] * TT_STATS_TICKS_PER_SECOND, windows, out);
    if (out->found) {
        out->candidate = true;
        for (int i = 0; i < USUAL; i++)
            if (fabs(out->tau - usual[i]) <= usual[i] * rule->half_width)
                out->tau = usual[i];
    } else {
        for (size_t i = 0; i < ages.n; i++)
            try_window(&ages, rule, ages.age[i], windows, out);
    }
out:
    free(ages.age);
    free(ages.before);
    return err;
}

void tt_stats_delay_find_binned(const uint64_t deaths[TT_STATS_BINS],
                                const struct tt_stats_delay_rule *rule, struct tt_stats_delay *out)
{
    uint64_t total = 0;
    uint32_t first = 0;
    *out = (struct tt_stats_delay){.binned = true};
    while (first < TT_STATS_BINS && tt_stats_bin_start(first) < rule->min_age)
        first++;
    for (uint32_t b = first; b < TT_STATS_BINS; b++)
        total += deaths[b];
    for (uint32_t bins = 1; bins <= 2 && !out->found; bins++) {
        for (uint32_t b = first; b + bins <= TT_STATS_BINS; b++) {
            uint64_t inside = deaths[b] + (bins == 2 ? deaths[b + 1] : 0);
            uint64_t left = b > 0 ? deaths[b - 1] : 0;
            uint64_t right = b + bins < TT_STATS_BINS ? deaths[b + bins] : 0;
            if (inside < rule->min_count || (double)inside < rule->min_share * (double)total ||
                (double)inside <= out->deaths)
                continue;
            /* log-uniform ages would fill the neighbours alike, bin for bin */
            double worst =
                fmax(excess(inside, left, 1.0 / bins), excess(inside, right, 1.0 / bins));
            double log_p = fmin(0, worst + log(2.0 * TT_STATS_BINS));
            if (log_p > log(rule->alpha))
                continue;
            double lo = tt_stats_bin_start(b) / TT_STATS_TICKS_PER_SECOND;
            double hi = tt_stats_bin_start(b + bins) / TT_STATS_TICKS_PER_SECOND;
            *out = (struct tt_stats_delay){
                .found = true,
                .tau = sqrt(lo * hi),
                .lo = lo,
                .hi = hi,
                .share = (double)inside / (double)total,
                .deaths = (double)inside,
                .log_p = log_p,
                .binned = true,
            };
            for (int i = USUAL - 1; i >= 0; i--) {
                if (usual[i] >= lo && usual[i] < hi) {
                    out->tau = usual[i];
                    out->candidate = true;
                }
            }
        }
    }
}

double tt_stats_delay_plateau(double births_per_second, double tau_seconds)
{
    return births_per_second * tau_seconds;
}

double tt_stats_delay_prior_beyond(double a_seconds, double lo, double hi)
{
    if (a_seconds <= lo)
        return 1;
    if (a_seconds >= hi)
        return 0;
    return 1 - log(a_seconds / lo) / log(hi / lo);
}

double tt_stats_delay_posterior_leak(double prior_leak, double a_seconds)
{
    double beyond = tt_stats_delay_prior_beyond(a_seconds, 1, 86400);
    return prior_leak / (prior_leak + (1 - prior_leak) * beyond);
}

bool tt_stats_delay_matters(double a_seconds, double seconds_to_exhaustion)
{
    return seconds_to_exhaustion > a_seconds;
}
