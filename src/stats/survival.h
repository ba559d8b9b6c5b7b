/* SPDX-License-Identifier: Apache-2.0 */
/* Lifetimes of a site's units: the life table from binned deaths and live units, the octave
 * survival e-value that carries the verdict "retained beyond A" (METHODS 2.3 i), and the cure
 * fraction (2.3 iii). Counts are of followed units, NOT weighted by 1/p: inside a site (stack, size
 * class, thin) the weight is constant and cancels, and only real counts carry evidence. Start:
 * tt_stats_survival_octaves. */
#ifndef TT_STATS_SURVIVAL_H
#define TT_STATS_SURVIVAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stats/bins.h"
#include "stats/special.h"

/* What is known of a site. Ages in ticks. A unit is in `deaths` or in `live`, never in both. */
struct tt_stats_lifetimes {
    uint64_t deaths[TT_STATS_BINS];  /* by age at death */
    const struct tt_stats_age *live; /* any order, ages may repeat; borrowed */
    size_t n_live;
    uint32_t window; /* ticks since the first birth that was followed */
};

struct tt_stats_life_row {
    uint32_t start;   /* ticks; the row covers [start, start of the next row) */
    double at_risk;   /* units that reached `start` */
    double deaths;    /* that died in the row */
    double censored;  /* still alive with an age in the row */
    double survival;  /* S at the START of the next row */
    double greenwood; /* sum d/(n(n-d)) up to and with this row, n = at_risk - censored/2 */
    double survival_lo, survival_hi; /* interval for `survival` */
};
struct tt_stats_life_table {
    struct tt_stats_life_row row[TT_STATS_BINS];
    size_t n; /* rows with at_risk > 0 */
};

/* Actuarial life table (censored units count half in their row) with Greenwood's variance on the
 * log(-log) scale at confidence `level`. O(bins + n_live). */
void tt_stats_survival_table(const struct tt_stats_lifetimes *lifetimes, double level,
                             struct tt_stats_life_table *table);

/* S(age) by interpolating ln S linearly inside a row; NaN beyond the last row. Age in ticks. */
double tt_stats_survival_at(const struct tt_stats_life_table *table, double age);

/* Cure fraction = S at the end of follow-up with its interval. Always an UPPER estimate: lifetimes
 * longer than the follow-up look like cures (METHODS 2.3 iii), so print it as "at most". */
struct tt_stats_cure {
    double upper_estimate;
    struct tt_stats_interval interval;
    uint32_t follow_up; /* ticks; oldest age that still had `at_risk` units under observation */
    double at_risk;
};
/* min_at_risk: stop at the last row with at least so many units (>= 1; 5 is sensible). */
void tt_stats_survival_cure(const struct tt_stats_life_table *table, double min_at_risk,
                            struct tt_stats_cure *cure);

#define TT_STATS_OCTAVES 24
struct tt_stats_octave_rule {
    double eps;     /* H0: at least this share dies per doubling of age (0.2) */
    uint32_t a_min; /* A of the first octave, ticks (4800 = 600 s, or the owner-end grace) */
    double
        log_threshold; /* verdict when log E >= this, e.g. log(20), or log(m/(alpha k)) of e-BH */
    uint32_t min_decided; /* units the vetoing octave must hold (5) */
    uint32_t slices;      /* dependence cap: survivors born in one of this many equal slices of the
                             birth span that reached A count once (100); 0 = no cap */
    uint32_t min_slice;   /* but a slice is at least this many ticks (4 = 0.5 s) */
};
extern const struct tt_stats_octave_rule tt_stats_octave_defaults; /* the values above, log 20 */

struct tt_stats_octave {
    uint32_t a;                               /* octave (a/2, a], ticks */
    double survivors;                         /* reached a (live older than a, or died older) */
    double deaths;                            /* died in the octave */
    double counted_survivors, counted_deaths; /* after the dependence cap */
    double log_e;
};
struct tt_stats_retention {
    double log_e;  /* ln of the average of the octaves' e-values; 0 when no octave is open */
    bool veto;     /* the oldest octave with >= min_decided units loses a share >= eps */
    bool retained; /* log_e >= log_threshold and no veto */
    double beyond_seconds; /* A: largest octave whose own e-value passes the threshold; 0 if none */
    double oldest_seconds; /* A of the vetoing octave (the oldest one well observed); 0 if none */
    double oldest_death_share;
    double decided;   /* survivors + deaths of the octave `beyond`, or else of the best one */
    double survivors; /* of the same octave */
    size_t n;
    struct tt_stats_octave octave[TT_STATS_OCTAVES];
};

/* Octave survival e-value (METHODS 2.3 i). For each A = a_min 2^j < window: of the units that
 * reached A/2, who died before A? A survivor multiplies E by (1-eps/10)/(1-eps), a death by 1/10; E
 * is averaged over the open octaves. Deaths are binned: every death in a bin that overlaps (A/2, A]
 * counts as a death of the octave, also when its unit was born less than A ago; both only lower E.
 * Cap: with K slices holding live survivors out of S survivors and D deaths, K survivors and
 * K D/S deaths are counted (deaths carry no birth time). No verdict can exclude a release timeout
 * longer than the oldest age: say "retained beyond A" and see delay.h. */
void tt_stats_survival_octaves(const struct tt_stats_lifetimes *lifetimes,
                               const struct tt_stats_octave_rule *rule,
                               struct tt_stats_retention *out);

#endif
