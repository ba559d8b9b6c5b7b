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

static void set_limit(struct tt_finding *f, const char *name, double limit, double seconds)
{
    snprintf(f->forecast.limit_name, sizeof f->forecast.limit_name, "%s", name);
    f->forecast.limit = limit;
    f->forecast.seconds = seconds;
    f->forecast.known = true;
}

/* Memory: the limit that is reached first at so many bytes a second. */
static void forecast_bytes(const struct tt_case_process *p, double rate, struct tt_finding *f)
{
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
        set_limit(f, p->limits.data[i].name, limit, seconds);
    }
}

static void forecast_units(const struct tt_dossiers *all, const struct tt_dossier *d,
                           struct tt_finding *f)
{
    struct tt_limit_fact limit;
    if (!tt_judge_limit(all, d, &limit))
        return;
    double left = isfinite(d->exhausted) ? 0 : fmax(0, limit.value - limit.used);
    set_limit(f, limit.name, limit.value, left / f->rate.per_second);
    f->forecast.counts = true;
}

void tt_judge_forecast(const struct tt_dossiers *all, const struct tt_dossier *d,
                       struct tt_finding *f)
{
    const struct tt_case_process *p = &all->c->processes.data[d->process];
    bool heap = strcmp(d->resource, "heap") == 0;
    double unit = f->unit_cost > 0 ? f->unit_cost : d->retained.bytes / fmax(1, d->retained.units);
    double rate = f->rate.per_second * unit;
    f->forecast.per_day = rate * DAY;
    if (!(rate > 0))
        return;
    if (heap && p->rows.len)
        forecast_bytes(p, rate, f);
    else if (!heap)
        forecast_units(all, d, f);
    if (!f->forecast.known)
        return;
    double k = fmax(1, fmin((double)d->retained.slices, d->retained.followed));
    f->forecast.interval.lo = f->forecast.seconds * k / tt_stats_gamma_quantile(0.95, k);
    f->forecast.interval.hi = f->forecast.seconds * k / tt_stats_gamma_quantile(0.05, k);
}
