/* SPDX-License-Identifier: Apache-2.0 */
/* What sampled counts say about all units: inclusion probabilities and Horvitz-Thompson totals
 * (METHODS 2.1). Each followed unit stands for 1/p units, p fixed at its birth from the past only.
 * When adding over sites: weight first, then add. Start: tt_stats_ht_add. */
#ifndef TT_STATS_SAMPLING_H
#define TT_STATS_SAMPLING_H

/* Probability that a unit of `size` bytes is followed under Poisson sampling by bytes with mean gap
 * `mean_gap` bytes: 1 - exp(-size/mean_gap). 1 when mean_gap <= 0 (exact mode). */
double tt_stats_p_bytes(double size, double mean_gap);
/* Probability 2^-thin of adaptive count sampling, thin >= 0. */
double tt_stats_p_thin(unsigned thin);

/* Running Horvitz-Thompson totals: units and bytes with unbiased variance estimates
 * sum z^2 (1-p)/p^2 over followed units. Zero-initialise. */
struct tt_stats_ht {
    double followed;         /* units really followed */
    double units, units_var; /* estimated number of units, its variance (units^2) */
    double bytes, bytes_var; /* estimated bytes, variance (bytes^2) */
};

/* Adds `count` followed units of `size` bytes each, followed with probability p (0 < p <= 1). */
void tt_stats_ht_add(struct tt_stats_ht *total, double count, double size, double p);
/* total += part; the parts must be sampled independently of each other. */
void tt_stats_ht_merge(struct tt_stats_ht *total, const struct tt_stats_ht *part);

/* Change between two snapshots of the same followed population: totals of units born between and
 * still alive, minus totals of units of the first snapshot that died between. Units alive in both
 * cancel, so the variance is the sum of these two only, not that of both snapshots (METHODS 2.1,
 * "difference of two snapshots"). `followed` is the sum of both. */
struct tt_stats_ht tt_stats_ht_difference(const struct tt_stats_ht *born,
                                          const struct tt_stats_ht *died);

/* Mean gap T (bytes) that gives k samples in `seconds` of a leak of `bytes_per_second`
 * (METHODS 2.1: T* = rho t / k). */
double tt_stats_gap_for(double bytes_per_second, double seconds, double k);

#endif
