/* SPDX-License-Identifier: Apache-2.0 */
/* When does it run out: headroom under the nearest limit over the measured loss per second, with
 * the gamma interval of METHODS 2.6 on the number of independent slices of birth. It speaks of the
 * load as measured; another load stretches it in proportion. Start: tt_judge_forecast. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "judge/dossier.h"
#include "stats/special.h"

#define DAY 86400.0

static double used_of(const struct tt_case_proc_row *row, const char *limit)
{
    if (strstr(limit, "RLIMIT_AS"))
        return row->vm_size;
    if (strstr(limit, "memory") || strstr(limit, "MemTotal") || strstr(limit, "RLIMIT_DATA"))
        return row->rss_anon;
    return -1; /* not a limit on heap memory */
}

void tt_judge_forecast(const struct tt_dossiers *all, const struct tt_dossier *d,
                       struct tt_finding *f)
{
    const struct tt_case_process *p = &all->c->processes.data[d->process];
    double unit = f->unit_cost > 0 ? f->unit_cost : d->retained.bytes / fmax(1, d->retained.units);
    double rate = f->rate.per_second * unit;
    f->forecast.per_day = rate * DAY;
    if (!(rate > 0) || strcmp(d->resource, "heap") != 0 || !p->rows.len)
        return;
    const struct tt_case_proc_row *now = &p->rows.data[p->rows.len - 1];
    double soonest = INFINITY;
    for (size_t i = 0; i < p->limits.len; i++) {
        double used = used_of(now, p->limits.data[i].name), limit = p->limits.data[i].value;
        if (limit <= 0 || used < 0)
            continue;
        double seconds = fmax(0, limit - used) / rate;
        if (seconds >= soonest)
            continue;
        soonest = seconds;
        snprintf(f->forecast.limit_name, sizeof f->forecast.limit_name, "%s",
                 p->limits.data[i].name);
        f->forecast.limit = limit;
    }
    if (!isfinite(soonest))
        return;
    double k = fmax(1, fmin((double)d->retained.slices, d->retained.followed));
    f->forecast.known = true;
    f->forecast.seconds = soonest;
    f->forecast.interval.lo = soonest * k / tt_stats_gamma_quantile(0.95, k);
    f->forecast.interval.hi = soonest * k / tt_stats_gamma_quantile(0.05, k);
}
