/* SPDX-License-Identifier: Apache-2.0 */
/* Random gaps in integer arithmetic, since the core uses no floating point. A logarithm is found
 * bit by bit by squaring (Knuth, The Art of Computer Programming, vol. 1, 1.2.2, exercise 25 in
 * spirit), to 40 bits; the error of a probability is below 1e-11. Rare paths. Start:
 * tt_draw_bytes. */
#ifndef TT_AGENT_DRAW_H
#define TT_AGENT_DRAW_H

#include "agent/agent.h"

#define TT_DRAW_BITS 40

/* -log2(u / 2^64) for u >= 1, in units of 2^-40. */
static inline uint64_t tt_draw_log2(uint64_t u)
{
    uint32_t zeros = (uint32_t)__builtin_clzl(u);
    uint64_t x = u << zeros, log = 0; /* x / 2^63 in [1, 2) */
    for (int i = 0; i < TT_DRAW_BITS; i++) {
        __extension__ unsigned __int128 square = (unsigned __int128)x * x;
        uint64_t top = (uint64_t)(square >> 64); /* value * 2^62 */
        uint32_t carry = (uint32_t)(top >> 63);
        x = carry ? top : (uint64_t)(square >> 63);
        log = log << 1 | carry;
    }
    return ((uint64_t)(zeros + 1) << TT_DRAW_BITS) - log;
}

/* floor of an exponential with this mean: the bytes up to the next sampled one. */
static inline uint64_t tt_draw_bytes(uint64_t random, uint64_t mean)
{
    const uint64_t ln2 = 0xb17217f7d1cf79acULL; /* ln 2 * 2^64 */
    __extension__ unsigned __int128 v = (unsigned __int128)tt_draw_log2(random | !random) * ln2;
    v = (v >> 64) * mean;
    return (uint64_t)(v >> TT_DRAW_BITS);
}

/* Geometric: births to let pass before the next taken one, each taken with 2^-thin. */
static inline uint64_t tt_draw_births(uint64_t random, uint32_t thin)
{
    if (thin == 0)
        return 0;
    return tt_draw_log2(random | !random) / tt_draw_log2(0ULL - (1ULL << (64 - thin)));
}

#endif
