/* SPDX-License-Identifier: Apache-2.0 */
/* Inclusion probabilities and Horvitz-Thompson totals. The random weight T + Z - f of tcmalloc is
 * unbiased too, but has the larger variance for Z beyond T (METHODS 2.1); 1/p is used throughout.
 * Start: tt_stats_ht_add. */
#include <math.h>

#include "stats/sampling.h"

double tt_stats_p_bytes(double size, double mean_gap)
{
    if (!(mean_gap > 0))
        return 1;
    return -expm1(-size / mean_gap);
}

double tt_stats_p_thin(unsigned thin)
{
    return ldexp(1, -(int)thin);
}

void tt_stats_ht_add(struct tt_stats_ht *total, double count, double size, double p)
{
    double spread = count * (1 - p) / (p * p);
    total->followed += count;
    total->units += count / p;
    total->units_var += spread;
    total->bytes += count * size / p;
    total->bytes_var += spread * size * size;
}

void tt_stats_ht_merge(struct tt_stats_ht *total, const struct tt_stats_ht *part)
{
    total->followed += part->followed;
    total->units += part->units;
    total->units_var += part->units_var;
    total->bytes += part->bytes;
    total->bytes_var += part->bytes_var;
}

struct tt_stats_ht tt_stats_ht_difference(const struct tt_stats_ht *born,
                                          const struct tt_stats_ht *died)
{
    return (struct tt_stats_ht){
        .followed = born->followed + died->followed,
        .units = born->units - died->units,
        .units_var = born->units_var + died->units_var,
        .bytes = born->bytes - died->bytes,
        .bytes_var = born->bytes_var + died->bytes_var,
    };
}

double tt_stats_gap_for(double bytes_per_second, double seconds, double k)
{
    return bytes_per_second * seconds / k;
}
