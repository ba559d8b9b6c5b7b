/* SPDX-License-Identifier: Apache-2.0 */
/* A small deterministic random generator for simulations (forecasts, tests): xoshiro256** of
 * Blackman and Vigna (2018, public domain algorithm), seeded by splitmix64. Not for secrets. Start:
 * tt_stats_rng_seed. */
#ifndef TT_STATS_RNG_H
#define TT_STATS_RNG_H

#include <stdint.h>

struct tt_stats_rng {
    uint64_t s[4];
};

void tt_stats_rng_seed(struct tt_stats_rng *rng, uint64_t seed);
uint64_t tt_stats_rng_next(struct tt_stats_rng *rng);
/* Uniform on the open interval (0,1). */
double tt_stats_rng_uniform(struct tt_stats_rng *rng);
/* Exponential with the given mean: the gap between two events of a Poisson process. */
double tt_stats_rng_exponential(struct tt_stats_rng *rng, double mean);
double tt_stats_rng_normal(struct tt_stats_rng *rng);
/* Gamma with shape > 0 and scale 1 (Marsaglia & Tsang 2000). */
double tt_stats_rng_gamma(struct tt_stats_rng *rng, double shape);
/* Poisson with mean >= 0: by products of uniforms up to mean 30, above by splitting with a gamma
 * variate (Ahrens & Dieter 1974); exact in distribution. */
uint64_t tt_stats_rng_poisson(struct tt_stats_rng *rng, double mean);

#endif
