/* SPDX-License-Identifier: Apache-2.0 */
/* Is there a timer in this site's releases (METHODS 2.3 ii)? Exact ages of sampled releases where
 * there are enough, else the half-octave bins. Start: tt_judge_delay. */
#include "judge/dossier.h"

#define MIN_SAMPLES 8u

int tt_judge_delay(const struct tt_dossiers *all, struct tt_dossier *d)
{
    TT_VEC(struct tt_stats_age) ages = {0};
    uint64_t samples = 0;
    int rc = 0;
    for (size_t i = 0; !rc && i < d->members.len; i++) {
        const struct tt_case_site *s = &all->c->sites.data[d->members.data[i].site];
        for (size_t k = 0; !rc && k < s->release_ages.len; k++) {
            rc = tt_vec_push(&ages, s->release_ages.data[k]);
            samples += s->release_ages.data[k].count > 0;
        }
    }
    if (!rc && samples >= MIN_SAMPLES)
        rc = tt_stats_delay_find(ages.data, ages.len, &tt_stats_delay_defaults, &d->delay);
    else if (!rc)
        tt_stats_delay_find_binned(d->death_bins, &tt_stats_delay_defaults, &d->delay);
    tt_vec_free(&ages);
    return rc;
}
