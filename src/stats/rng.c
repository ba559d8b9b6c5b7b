/* SPDX-License-Identifier: Apache-2.0 */
/* xoshiro256** and the variates that simulations need. The state is the caller's, so every
 * simulation is repeatable and threads do not share. Start: tt_stats_rng_seed. */
#include <math.h>

#include "stats/rng.h"

static uint64_t rotate_left(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

void tt_stats_rng_seed(struct tt_stats_rng *rng, uint64_t seed)
{
    for (int i = 0; i < 4; i++) { /* splitmix64: never the all-zero state */
        seed += UINT64_C(0x9e3779b97f4a7c15);
        uint64_t z = seed;
        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        rng->s[i] = z ^ (z >> 31);
    }
}

uint64_t tt_stats_rng_next(struct tt_stats_rng *rng)
{
    uint64_t *s = rng->s;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

double tt_stats_rng_uniform(struct tt_stats_rng *rng)
{
    /* 52 bits and a half: the sum is exact, so neither 0 nor 1 can come out */
    return ((double)(tt_stats_rng_next(rng) >> 12) + 0.5) * 0x1p-52;
}

double tt_stats_rng_exponential(struct tt_stats_rng *rng, double mean)
{
    return -mean * log(tt_stats_rng_uniform(rng));
}

double tt_stats_rng_normal(struct tt_stats_rng *rng)
{
    double radius = sqrt(-2 * log(tt_stats_rng_uniform(rng)));
    return radius * cos(2 * M_PI * tt_stats_rng_uniform(rng));
}

double tt_stats_rng_gamma(struct tt_stats_rng *rng, double shape)
{
    double boost = 1;
    if (shape < 1) { /* Gamma(a) = Gamma(a+1) U^(1/a) */
        boost = pow(tt_stats_rng_uniform(rng), 1 / shape);
        shape += 1;
    }
    double d = shape - 1.0 / 3, c = 1 / sqrt(9 * d);
    for (;;) {
        double z = tt_stats_rng_normal(rng), v = 1 + c * z;
        if (v <= 0)
            continue;
        v = v * v * v;
        if (log(tt_stats_rng_uniform(rng)) < z * z / 2 + d - d * v + d * log(v))
            return boost * d * v;
    }
}

uint64_t tt_stats_rng_poisson(struct tt_stats_rng *rng, double mean)
{
    uint64_t before = 0;
    /* The m-th event of a unit-rate process is at Gamma(m). Before the end: m events, and the rest
     * is Poisson again. Past it: the m-1 earlier ones are uniform before it, hence binomial; this
     * is rare for large means, so they are drawn one by one. */
    while (mean > 30) {
        uint64_t m = (uint64_t)(mean * 7 / 8);
        double at = tt_stats_rng_gamma(rng, (double)m);
        if (at <= mean) {
            before += m;
            mean -= at;
            continue;
        }
        for (uint64_t i = 1; i < m; i++)
            before += tt_stats_rng_uniform(rng) * at < mean;
        return before;
    }
    double limit = exp(-mean), product = tt_stats_rng_uniform(rng);
    while (product > limit) {
        before++;
        product *= tt_stats_rng_uniform(rng);
    }
    return before;
}
