/* SPDX-License-Identifier: Apache-2.0 */
/* Staleness: sampled objects that lie on pages of their own, and that the program neither read nor
 * wrote for several epochs. A cache that is used touches its entries; what is lost or forgotten is
 * never touched again. But rarely used is not unused, so this only supports: it makes a retained
 * leak surer, and it speaks against "cache" and "warm-up" where the site grows. Alone it decides
 * nothing. Start: tt_judge_staleness. */
#include <math.h>
#include <string.h>

#include "judge/dossier.h"
#include "stats/special.h"

#define MIN_OBJECTS 8.0
#define MIN_EPOCHS 2u
#define UNTOUCHED 0.5 /* lower 95 % bound of the share */

void tt_judge_staleness(const struct tt_dossiers *all, struct tt_dossier *d)
{
    const struct tt_case *c = all->c;
    double untouched = 0;
    memset(&d->stale, 0, sizeof d->stale);
    for (size_t i = 0; i < c->stales.len; i++) {
        const struct tt_case_stale *s = &c->stales.data[i];
        for (size_t m = 0; m < d->members.len; m++) {
            const struct tt_case_site *site = &c->sites.data[d->members.data[m].site];
            if (site->process != s->process || site->id != s->site || s->objects <= 0)
                continue;
            untouched += fmin(s->untouched, s->objects);
            d->stale.objects += s->objects;
            d->stale.seconds = fmax(d->stale.seconds, s->seconds);
            if (!d->stale.known || s->epochs < d->stale.epochs)
                d->stale.epochs = s->epochs;
            d->stale.known = true;
        }
    }
    if (!d->stale.known)
        return;
    d->stale.share = untouched / d->stale.objects;
    d->stale.lower = tt_stats_clopper_pearson(untouched, d->stale.objects, 0.95).lo;
    d->stale.untouched = d->stale.objects >= MIN_OBJECTS && d->stale.epochs >= MIN_EPOCHS &&
                         d->stale.lower >= UNTOUCHED;
}
