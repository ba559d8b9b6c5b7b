/* SPDX-License-Identifier: Apache-2.0 */
/* The age bins of the tape: ages in ticks of 1/8 s, counted in half-octave bins. Bin 0 holds ages 0
 * and 1; later bins start at 2, 3, 4, 6, 8, 12, 16, 23, 32, ... = ceil(2^((bin+1)/2)). The mapping
 * is fixed by the agent (tape.h, tt_tape_bin); this header repeats it and needs nothing, so that
 * the statistics stay free of the tape. Start: tt_stats_bin_of. */
#ifndef TT_STATS_BINS_H
#define TT_STATS_BINS_H

#include <stdint.h>

#define TT_STATS_BINS 48u
#define TT_STATS_TICKS_PER_SECOND 8.0

/* `count` units of one age (ticks): live units by their age now, or deaths by their age at death.
 */
struct tt_stats_age {
    uint32_t age;
    uint64_t count;
};

/* Bin of an age in ticks, 0..47. */
static inline uint32_t tt_stats_bin_of(uint32_t age)
{
    if (age < 2)
        return 0;
    uint32_t octave = 31u - (uint32_t)__builtin_clz(age);
    /* integer form of age >= sqrt(2) * 2^octave */
    uint32_t upper = (uint64_t)age * age >= UINT64_C(1) << (2 * octave + 1);
    uint32_t bin = 2 * octave - 1 + upper;
    return bin < TT_STATS_BINS ? bin : TT_STATS_BINS - 1;
}

/* First age (ticks) of a bin. Bin 47 starts at 2^24 ticks, past the tape's 24-bit ages, and takes
 * whatever is older; its end, for bin >= 48, is where bin 48 would start. */
static inline uint32_t tt_stats_bin_start(uint32_t bin)
{
    if (bin == 0)
        return 0;
    if (bin > TT_STATS_BINS)
        bin = TT_STATS_BINS;
    uint32_t octave = (bin + 1) / 2;
    if (bin % 2 == 1)
        return UINT32_C(1) << octave;
    /* smallest integer whose square is >= 2^(2*octave+1): between 1.41 and 1.42 times 2^octave */
    uint64_t square = UINT64_C(1) << (2 * octave + 1);
    uint64_t lo = UINT64_C(1) << octave, hi = lo * 2;
    while (lo < hi) {
        uint64_t mid = (lo + hi) / 2;
        if (mid * mid >= square)
            hi = mid;
        else
            lo = mid + 1;
    }
    return (uint32_t)lo;
}

#endif
