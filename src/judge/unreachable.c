/* SPDX-License-Identifier: Apache-2.0 */
/* Definite loss: units of a site that nothing points to any more, as frozen copies of the process
 * have shown. A block that cannot be reached is lost whatever its age, so no horizon is waited for;
 * but a scan is not perfect, and four things are asked before it is believed.
 *  - No object in flight: the units are older than TT_JUDGE_GRACE_S at the copy, or what could not
 * be reached grew from copy to copy by just what survives.
 *  - More than chance: a scan may call one reachable block in a thousand lost; the number found
 * must be beyond that, at the level of all sites together.
 *  - What is lost stays: units that were found unreachable and then released were not lost, so a
 *    count that falls, or that is larger than what survives, takes all belief away.
 *  - The scan saw everything: no memory unread, no tagged pointers that would explain the units.
 * A conservative scan misses some lost blocks (stale words in stacks), never many: "0 unreachable"
 * next to survival says that something holds the units. Start: tt_judge_unreachable. */
#include <math.h>
#include <string.h>

#include "judge/dossier.h"

#define SCAN_FALSE 1e-3 /* reachable blocks that a scan calls unreachable, at most */
#define LEVEL 0.005     /* of the chance bound, over all sites */
#define MIN_UNITS 20.0
#define MIN_ALL 3.0 /* units that suffice when they are all there are, in two snapshots */
#define ALL 0.95
#define EXPLAINS 0.9
#define SLACK 0.05 /* of counts that are compared, and SLACK_UNITS */
#define SLACK_UNITS 3.0
#define MIN_SPAN 0.25     /* of the recording, over which units were born */
#define TAGGED_MIN 3.0    /* tagged words that begin to matter, */
#define TAGGED_SHARE 0.01 /* as a share of the lost roots */

double tt_judge_scan_chance(double lost, double blocks)
{
    double n = fmax(blocks, lost), p = n > 0 ? lost / n : 0, q = SCAN_FALSE;
    if (p <= q)
        return 1;
    /* Chernoff's bound on a binomial tail: exp(-n KL(p || q)) */
    double kl = p * log(p / q) + (p < 1 ? (1 - p) * log((1 - p) / (1 - q)) : 0);
    return exp(-n * kl);
}

bool tt_judge_scan_complete(const struct tt_case_snapshot *s)
{
    return s->unread_bytes <= 0 && s->tagged < fmax(TAGGED_MIN, TAGGED_SHARE * s->lost_roots);
}

/* Units of a site of the snapshot's process that it found unreachable. */
static double known_at(const struct tt_case *c, const struct tt_case_snapshot *s, int64_t site,
                       double *bytes)
{
    double known = 0;
    for (size_t i = 0; i < c->shares.len; i++) {
        const struct tt_case_share *share = &c->shares.data[i];
        if (&c->snapshots.data[share->snapshot] != s || share->site != site)
            continue;
        known += share->known_units;
        *bytes += share->known_bytes;
    }
    return known;
}

/* Whether any snapshot has lost units of the site: few sites have, of very many. */
static bool has_share(const struct tt_case *c, const struct tt_case_site *site)
{
    for (size_t i = 0; i < c->shares.len; i++)
        if (c->shares.data[i].site == site->id &&
            c->snapshots.data[c->shares.data[i].snapshot].process == site->process)
            return true;
    return false;
}

/* Units born before the snapshot that were there at the last look; -1 where there was none since.
 */
static double stayed_since(const struct tt_case *c, const struct tt_case_snapshot *s,
                           const struct tt_case_site *site)
{
    if (c->processes.data[site->process].look < s->t)
        return -1;
    double n = 0;
    for (size_t i = 0; i < site->survivors.len; i++)
        if (site->survivors.data[i].tick <= s->tick)
            n += (double)site->survivors.data[i].count;
    return n;
}

/* Upper bound of the units born in the last TT_JUDGE_GRACE_S before the snapshot: counts are known
 * at epochs. */
static double young_at(const struct tt_case_snapshot *s, const struct tt_case_site *site)
{
    size_t i = 0;
    while (i < site->rows.len && site->rows.data[i].t < s->t)
        i++;
    double born = i < site->rows.len   ? site->rows.data[i].births
                  : site->rows.len > 0 ? site->rows.data[site->rows.len - 1].births
                                       : 0;
    return born - tt_case_at(site, s->t - TT_JUDGE_GRACE_S).births;
}

/* Adds what one member's snapshots say; `last` is the latest of its process. */
static void add_member(const struct tt_dossiers *all, struct tt_dossier *d,
                       const struct tt_case_site *site, const struct tt_case_snapshot *last)
{
    const struct tt_case *c = all->c;
    double bytes = 0, weight = tt_dossier_weight(c, site);
    struct tt_case_row row = tt_case_at(site, last->t);
    if (!has_share(c, site)) {
        d->lost.live += fmax(0, row.births - row.deaths);
        return;
    }
    double known = known_at(c, last, site->id, &bytes);
    double sure = fmax(0, known - young_at(last, site)), highest = 0;
    double first = 0, first_stayed = -1; /* of the first copy */
    for (size_t i = 0; i < c->snapshots.len; i++) {
        const struct tt_case_snapshot *s = &c->snapshots.data[i];
        double unused = 0;
        if (s->process != site->process || !s->detailed)
            continue;
        double then = known_at(c, s, site->id, &unused), stayed = stayed_since(c, s, site);
        d->lost.snapshots += then > 0;
        highest = fmax(highest, then);
        if (stayed < 0)
            continue;
        d->lost.returned |= then > stayed * (1 + SLACK) + SLACK_UNITS;
        /* Between two copies as much more could not be reached as survives from between them, and
         * that is all that survives: a coincidence if these were objects in flight. */
        double later = c->processes.data[site->process].look - s->t;
        if (later < TT_JUDGE_GRACE_S)
            continue;
        double grown = stayed - first_stayed;
        if (first_stayed >= 0 && grown >= MIN_UNITS && then >= EXPLAINS * stayed &&
            then - first >= EXPLAINS * grown && then - first <= grown * (1 + SLACK) + SLACK_UNITS)
            sure = fmax(sure, fmin(then, stayed));
        if (first_stayed < 0) {
            first_stayed = stayed;
            first = then;
        }
    }
    d->lost.returned |= highest > known * (1 + SLACK) + SLACK_UNITS;
    d->lost.known += known;
    d->lost.sure += fmin(sure, known);
    d->lost.live += fmax(known, row.births - row.deaths);
    d->lost.units += known * weight;
    d->lost.bytes += bytes * weight;
    d->lost.variance += known * weight * (weight - 1);
}

static bool attached(const struct tt_case *c, size_t target)
{
    for (size_t i = 0; i < c->attaches.len; i++)
        if (c->processes.data[c->attaches.data[i].process].target == target)
            return true;
    return false;
}

/* Old units that are attributed to the site. What earlier images of the same process knew to be
 * lost, and in sampled modes what was not followed, is no loss from before. */
static void add_old(const struct tt_dossiers *all, struct tt_dossier *d,
                    const struct tt_case_snapshot *last)
{
    const struct tt_case *c = all->c;
    double old = 0, bytes = 0, certain = 0, since = 0;
    for (size_t m = 0; m < d->members.len; m++) {
        const struct tt_case_site *site = &c->sites.data[d->members.data[m].site];
        if (c->processes.data[site->process].target != c->processes.data[last->process].target ||
            !has_share(c, site))
            continue;
        double unused = 0;
        const struct tt_case_snapshot *own = NULL;
        for (size_t i = 0; i < c->snapshots.len; i++)
            if (c->snapshots.data[i].process == site->process && c->snapshots.data[i].detailed)
                own = &c->snapshots.data[i];
        double known = own ? known_at(c, own, site->id, &unused) : 0;
        double weight = tt_dossier_weight(c, site);
        since += site->process == last->process ? known * (weight - 1) : known * weight;
        if (site->process != last->process)
            d->lost.units += known * weight;
        for (size_t i = 0; site->process == last->process && i < c->shares.len; i++) {
            const struct tt_case_share *s = &c->shares.data[i];
            if (&c->snapshots.data[s->snapshot] != last || s->site != site->id)
                continue;
            old += s->old_units;
            bytes += s->old_bytes;
            certain += s->old_units * s->probability;
        }
    }
    double kept = fmax(0, old - since);
    if (kept <= 0)
        return;
    double before = d->lost.old_units;
    d->lost.probability = (d->lost.probability * before + certain / old * kept) / (before + kept);
    d->lost.old_units += kept;
    d->lost.old_bytes += bytes * kept / old;
}

static bool went_on(const struct tt_dossiers *all, const struct tt_dossier *d)
{
    double begun = fmax(0, all->c->processes.data[d->process].started);
    return d->last_birth - d->first >= MIN_SPAN * (d->until - begun);
}

static size_t target_of(const struct tt_case *c, const struct tt_dossier *d, size_t member)
{
    return c->processes.data[c->sites.data[d->members.data[member].site].process].target;
}

/* Units of the last look that were no objects in flight at the snapshot. */
static double aged_survivors(const struct tt_case_site *site, const struct tt_case_snapshot *s)
{
    double n = 0;
    for (size_t i = 0; i < site->survivors.len; i++)
        if (site->survivors.data[i].tick + TT_JUDGE_GRACE_S * TT_STATS_TICKS_PER_SECOND <= s->tick)
            n += (double)site->survivors.data[i].count;
    return n;
}

void tt_judge_unreachable(const struct tt_dossiers *all, struct tt_dossier *d)
{
    const struct tt_case *c = all->c;
    double blocks = 0, survivors = 0, sites = fmax(1, (double)all->list.len);
    memset(&d->lost, 0, sizeof d->lost);
    if (strcmp(d->resource, "heap") != 0)
        return;
    d->lost.complete = true;
    for (size_t m = 0; m < d->members.len && c->snapshots.len; m++) {
        size_t target = target_of(c, d, m);
        const struct tt_case_snapshot *last = tt_case_snapshot_of(c, target, INFINITY);
        bool done = !last;
        for (size_t k = 0; k < m && !done; k++)
            done = target_of(c, d, k) == target;
        if (done)
            continue;
        for (size_t k = m; k < d->members.len; k++) {
            const struct tt_case_site *site = &c->sites.data[d->members.data[k].site];
            if (site->process != last->process)
                continue;
            add_member(all, d, site, last);
            survivors += aged_survivors(site, last);
        }
        if (attached(c, target))
            add_old(all, d, last);
        d->lost.looked = true;
        d->lost.at = fmax(d->lost.at, last->t);
        d->lost.complete = d->lost.complete && tt_judge_scan_complete(last);
        blocks += last->blocks;
    }
    d->lost.complete = d->lost.complete && d->lost.looked;
    d->lost.chance = fmin(1, sites * tt_judge_scan_chance(d->lost.sure, d->lost.live));
    bool enough = d->lost.sure >= MIN_UNITS || (d->lost.sure >= MIN_ALL && d->lost.snapshots >= 2 &&
                                                d->lost.known >= ALL * d->lost.live);
    bool believed = d->lost.complete && !d->lost.returned && d->stack != 0;
    d->lost.holds = believed && enough && d->lost.chance <= LEVEL && went_on(all, d);
    d->lost.explains = d->lost.holds && d->lost.known >= EXPLAINS * survivors;
    double old = d->lost.old_units * d->lost.probability;
    d->lost.old_holds =
        believed && old >= MIN_UNITS && sites * tt_judge_scan_chance(old, blocks) <= LEVEL;
}
