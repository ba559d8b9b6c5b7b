/* SPDX-License-Identifier: Apache-2.0 */
/* What the seeded simulations share: cmocka's includes, lifetimes to draw from, and a share with
 * its sampling error. Every tolerance is stated where it is used; 3 standard errors of the
 * simulated share are allowed where a bound is meant to be met exactly. Start: tolerance. */
#ifndef TT_TESTS_SIM_H
#define TT_TESTS_SIM_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "stats/rng.h"

/* alpha + 3 standard errors of a share over `runs` runs. */
static inline double tolerance(double alpha, int runs)
{
    return alpha + 3 * sqrt(alpha * (1 - alpha) / runs);
}

/* Fails with the numbers unless lo <= value <= hi. */
static inline void within(const char *what, double value, double lo, double hi)
{
    print_message("  %-52s %9.4f in [%g, %g]\n", what, value, lo, hi);
    if (!(value >= lo && value <= hi))
        fail();
}

#endif
