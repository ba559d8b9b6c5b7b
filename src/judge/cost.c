/* SPDX-License-Identifier: Apache-2.0 */
/* What a block really costs: allocators round sizes up. Only what their sources or manuals publish
 * is used; for others the cost is unknown. Start: tt_judge_cost. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "judge/dossier.h"

/* glibc malloc/malloc.c request2size: 8 bytes of size field, rounded to 16, at least 32. Blocks
 * that are mapped on their own (from 128 KiB on, a moving threshold) cost up to a page more. */
static double glibc_cost(double size)
{
    double chunk = floor((size + 8 + 15) / 16) * 16;
    return fmax(32, chunk);
}

/* jemalloc(3), table of size classes: 8, then multiples of 16 up to 128, then four per doubling. */
static double jemalloc_cost(double size)
{
    if (size <= 8)
        return 8;
    if (size <= 128)
        return ceil(size / 16) * 16;
    double spacing = exp2(floor(log2(size - 1)) - 2);
    return ceil(size / spacing) * spacing;
}

double tt_judge_cost(const char *allocator, double size)
{
    static const struct {
        const char *part;
        double (*cost)(double size);
    } known[] = {{"glibc", glibc_cost}, {"libc.so.6", glibc_cost}, {"jemalloc", jemalloc_cost}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strstr(allocator, known[i].part))
            return known[i].cost(size);
    return 0;
}
