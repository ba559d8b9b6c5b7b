/* SPDX-License-Identifier: Apache-2.0 */
/* Does the site only follow the load (METHODS 2.3 v)? Its live units are regressed on gauges of the
 * process: open descriptors and threads. Start: tt_judge_follow. */
#include "judge/clock.h"

#include <math.h>

#include "resource/resource.h"

#define MIN_POINTS 20u
#define GROWTH_SHARE 0.02 /* of births: retained units per birth that would not matter */

static double gauge_at(const struct tt_case_process *p, double t, unsigned which)
{
    double value = 0;
    for (size_t i = 0; i < p->rows.len && p->rows.data[i].t <= t; i++)
        value = which == 0 ? p->rows.data[i].fds : p->rows.data[i].threads;
    return value;
}

/* A gauge that the site's own units are part of explains nothing. */
static bool counts_itself(const char *resource, unsigned which)
{
    const struct tt_resource *kind = tt_resource_named(resource);
    return kind &&
           (which == 0 ? kind->space == TT_SPACE_FD || kind->space == TT_SPACE_PORT ||
                             kind->space == TT_SPACE_STREAM || kind->space == TT_SPACE_DIRECTORY
                       : kind->space == TT_SPACE_THREAD);
}

int tt_judge_follow(const struct tt_dossiers *all, struct tt_dossier *d)
{
    static const char *const names[] = {"open descriptors", "threads"};
    size_t n = all->grid.len, from = 0;
    const struct tt_case_process *p = &all->c->processes.data[d->process];
    while (from < n && all->grid.data[from] < d->first)
        from++;
    size_t m = 0;
    while (from + m < n && all->grid.data[from + m] <= d->until)
        m++;
    if (!d->grid_births || m < MIN_POINTS || !p->rows.len)
        return 0;
    double *units = calloc(2 * m, sizeof *units), *gauge = units ? units + m : NULL;
    if (!units)
        return -ENOMEM;
    for (size_t k = 0; k < m; k++)
        units[k] = tt_dossier_live(d, from + k);
    for (unsigned which = 0; which < 2; which++) {
        if (counts_itself(d->resource, which))
            continue;
        for (size_t k = 0; k < m; k++)
            gauge[k] = gauge_at(p, all->grid.data[from + k], which);
        struct tt_stats_load load;
        if (tt_stats_trend_load(units, gauge, d->grid_births + from, m, 2, 0.95, GROWTH_SHARE,
                                &load) ||
            !load.enough || (d->load.known && load.r2 <= d->load.r2))
            continue;
        d->load.known = true;
        d->load.following = load.following;
        d->load.gauge = names[which];
        d->load.r2 = load.r2;
        d->load.growth = load.growth;
    }
    free(units);
    return 0;
}
