/* SPDX-License-Identifier: Apache-2.0 */
/* What a kind of resource runs out of: the nearest of the limits that bind it (src/resource), or
 * the one that was declared with it, and how much of it is used. Start: tt_judge_limit. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "judge/dossier.h"
#include "resource/resource.h"

#define REACHED 0.95 /* of a limit: used up */
#define MAIN 0.5     /* of it by one site */

static double amount(const struct tt_case_process *p, const char *gauge, double live)
{
    for (size_t i = 0; i < p->amounts.len; i++)
        if (strcmp(p->amounts.data[i].resource, gauge) == 0)
            return p->amounts.data[i].counted >= 0 ? p->amounts.data[i].counted
                                                   : fmax(p->amounts.data[i].held, live);
    return live;
}

static bool binds(const char *resource, const struct tt_resource *kind, const char *limit)
{
    char declared[64];
    snprintf(declared, sizeof declared, "limit of %s", resource);
    if (strcmp(limit, declared) == 0)
        return true;
    for (size_t k = 0; kind && k < TT_RESOURCE_LIMITS && kind->limits[k]; k++)
        if (strcmp(kind->limits[k], limit) == 0)
            return true;
    return false;
}

bool tt_judge_limit(const struct tt_dossiers *all, const struct tt_dossier *d,
                    struct tt_limit_fact *out)
{
    const struct tt_case_process *p = &all->c->processes.data[d->process];
    const struct tt_resource *kind = tt_resource_named(d->resource);
    double nearest = INFINITY;
    for (size_t i = 0; i < p->limits.len; i++) {
        const struct tt_case_limit *l = &p->limits.data[i];
        if (l->value <= 0 || !binds(d->resource, kind, l->name))
            continue;
        bool declared = strncmp(l->name, "limit of ", 9) == 0;
        double used = declared || !kind ? d->live : amount(p, kind->gauge, d->live);
        if (l->value - used >= nearest)
            continue;
        nearest = l->value - used;
        *out = (struct tt_limit_fact){.name = l->name, .value = l->value, .used = used};
    }
    return isfinite(nearest);
}

void tt_judge_exhausted(const struct tt_dossiers *all, struct tt_dossier *d)
{
    struct tt_limit_fact limit = {0};
    d->exhausted = INFINITY;
    if (!d->grid_births || !tt_judge_limit(all, d, &limit) || limit.used < REACHED * limit.value ||
        d->live < MAIN * limit.value)
        return;
    double own = limit.value - fmax(0, limit.used - d->live); /* what others leave */
    for (size_t k = 0; k < all->grid.len && !isfinite(d->exhausted); k++)
        if (tt_dossier_live(d, k) >= REACHED * own)
            d->exhausted = all->grid.data[k];
}
