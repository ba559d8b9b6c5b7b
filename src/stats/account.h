/* SPDX-License-Identifier: Apache-2.0 */
/* Fragmentation by accounting: the program's own live bytes stay level while what the allocator
 * holds grows (METHODS 2.3 vi). Resident memory alone never says "leak". Start: tt_stats_account.
 */
#ifndef TT_STATS_ACCOUNT_H
#define TT_STATS_ACCOUNT_H

#include <stdbool.h>
#include <stddef.h>

#include "stats/special.h"

enum tt_stats_account_class {
    TT_STATS_ACCOUNT_UNDETERMINED,
    TT_STATS_ACCOUNT_LEVEL,         /* neither live nor held grows by more than delta */
    TT_STATS_ACCOUNT_GROWTH,        /* live grows */
    TT_STATS_ACCOUNT_FRAGMENTATION, /* live within +-delta, held grows by more than delta */
};

struct tt_stats_account {
    double live_slope, held_slope; /* bytes per unit of the clock (operation, or second) */
    struct tt_stats_interval live_interval, held_interval; /* 90 %: the TOST interval at 5 % */
    enum tt_stats_account_class class;
};

/* Series of equally ordered samples: clock[] (cumulative operations or seconds, non-decreasing),
 * live bytes and bytes held by the allocator. Slopes are total increment over total clock; their
 * variance is the long-run variance of the increments (Bartlett window), never below that of one
 * increment. delta: bytes per unit of the clock that would not matter. 0, or -EINVAL (n < 8, clock
 * stands). */
int tt_stats_account(const double *clock, const double *live, const double *held, size_t n,
                     double delta, struct tt_stats_account *out);

#endif
