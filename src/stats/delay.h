/* SPDX-License-Identifier: Apache-2.0 */
/* Delayed release: deaths that pile up at one age tau - a timer, a TTL, a recycling pool (METHODS
 * 2.3 ii). Such a site is no leak: its live count levels off at birth rate x tau, which may still
 * exceed a limit. And what a short look can NOT exclude: a timeout longer than the oldest age seen.
 * Start: tt_stats_delay_find. */
#ifndef TT_STATS_DELAY_H
#define TT_STATS_DELAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stats/bins.h"

struct tt_stats_delay_rule {
    double min_share;   /* share of the deaths that must fall in the window (0.5) */
    double half_width;  /* window tau (1 -+ this), at least 1 tick each side (0.02) */
    double alpha;       /* after Bonferroni over all windows looked at (0.01) */
    uint32_t min_age;   /* ticks; younger deaths are left out of the share (8 = 1 s) */
    uint32_t min_count; /* deaths in the window (5) */
};
extern const struct tt_stats_delay_rule tt_stats_delay_defaults;

struct tt_stats_delay {
    bool found;
    double tau; /* seconds; the declared candidate if one fits, else the mean age in the window */
    double lo, hi;  /* seconds; youngest and oldest death in the window (binned: the bin's ends) */
    double share;   /* of deaths of age >= min_age */
    double deaths;  /* in the window */
    double log_p;   /* ln of the corrected p-value against BOTH neighbouring windows, <= 0 */
    bool candidate; /* tau is one of the usual timers 30 60 120 240 300 600 900 3600 7200 s */
    bool binned;    /* from half-octave bins: tau is known to a factor of 1.41 only, */
    double seen_lo,
        seen_hi; /* but for exact ages that agree, of a few; seconds, 0: there are none */
};

/* Looks for the spike in exact ages at death (any order, ages may repeat). The usual timers are
 * tried first, then every window around an observed age. The windows' count is compared with the
 * two neighbours of the same width by the binomial test, the worse of both: so a falling density is
 * no spike. 0, or -ENOMEM; too few deaths give found = false. */
int tt_stats_delay_find(const struct tt_stats_age *deaths, size_t n,
                        const struct tt_stats_delay_rule *rule, struct tt_stats_delay *out);

/* The same from bins alone, when no exact ages were sampled: one bin, or two adjacent ones (a timer
 * may sit on the edge), that hold >= min_share and stand out against both neighbours. */
void tt_stats_delay_find_binned(const uint64_t deaths[TT_STATS_BINS],
                                const struct tt_stats_delay_rule *rule, struct tt_stats_delay *out);

/* Live units at which a site with a release delay settles: births per second x tau (Little's law).
 */
double tt_stats_delay_plateau(double births_per_second, double tau_seconds);

/* Prior probability that a release timeout exceeds A seconds, log-uniform on [lo, hi] seconds
 * (METHODS: 1 s .. 1 day: 600 s 0.44, 1 h 0.28, 4 h 0.16). Clamped to [0,1]. */
double tt_stats_delay_prior_beyond(double a_seconds, double lo, double hi);

/* P(leak | retained beyond A) = pi0 / (pi0 + (1-pi0) P(tau > A)) with the prior above on 1 s .. 1
 * day; pi0 the prior probability of a leak. Prior-dependent: show it as such. */
double tt_stats_delay_posterior_leak(double prior_leak, double a_seconds);

/* Whether a still longer timeout could matter in practice: false when the limit is reached sooner
 * than A anyway (then the distinction is moot, METHODS 2.3 ii). Seconds. */
bool tt_stats_delay_matters(double a_seconds, double seconds_to_exhaustion);

#endif
