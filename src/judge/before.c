/* SPDX-License-Identifier: Apache-2.0 */
/* What frozen copies say besides sites: the copies themselves with their limits, what attaching
 * cost, which blocks were lost before it, who holds the units of a site, and lost blocks that no
 * site is known for, one finding per shape. Start: tt_judge_frozen. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "judge/dossier.h"

#define GROUP_UNITS 20.0
#define GROUP_LEVEL 0.005 /* over all groups */
#define LARGE_UNITS 3.0   /* or few blocks that are much of the heap */
#define LARGE_SHARE 0.05
#define LARGE_BYTES 1048576.0
#define HOLDERS 8u

static int by_bytes(const void *a, const void *b)
{
    const struct tt_holding *x = a, *y = b;
    return (x->bytes < y->bytes) - (x->bytes > y->bytes);
}

static const struct tt_case_holder *holder_of(const struct tt_case *c,
                                              const struct tt_case_held *held)
{
    for (size_t i = 0; i < c->holders.len; i++)
        if (c->holders.data[i].snapshot == held->snapshot && c->holders.data[i].id == held->holder)
            return &c->holders.data[i];
    return NULL;
}

static struct tt_holding holding_of(const struct tt_case_holder *h, double units, double bytes)
{
    struct tt_holding out = {.units = units, .bytes = bytes};
    snprintf(out.place, sizeof out.place, "%s", h->place);
    snprintf(out.path, sizeof out.path, "%s", h->path);
    return out;
}

static int add_snapshot(const struct tt_case *c, const struct tt_case_snapshot *s, size_t target,
                        struct tt_findings *out)
{
    size_t at = (size_t)(s - c->snapshots.data);
    struct tt_snapshot_fact fact = {.process = c->processes.data[s->process].id,
                                    .at = s->t,
                                    .core = s->core,
                                    .complete = tt_judge_scan_complete(s),
                                    .blocks = s->blocks,
                                    .bytes = s->bytes,
                                    .lost_units = s->lost_units,
                                    .lost_bytes = s->lost_bytes,
                                    .lost_roots = s->lost_roots,
                                    .unread_bytes = s->unread_bytes,
                                    .doubt_bytes = s->doubt_bytes,
                                    .tagged = s->tagged,
                                    .groups_left_out = s->groups_left_out,
                                    .old_units = s->old_units,
                                    .unknown_units = s->unknown_units};
    snprintf(fact.allocator, sizeof fact.allocator, "%s", s->allocator);
    for (size_t i = 0; i < c->snapshots.len; i++) {
        const struct tt_case_snapshot *other = &c->snapshots.data[i];
        if (c->processes.data[other->process].target != target)
            continue;
        fact.taken++;
        fact.stop = fmax(fact.stop, other->stop);
        fact.fork = fmax(fact.fork, other->fork);
        fact.scan = fmax(fact.scan, other->scan);
    }
    for (size_t i = 0; i < c->groups.len; i++)
        if (c->groups.data[i].snapshot == at)
            fact.unknown_bytes += c->groups.data[i].unknown_bytes;
    fact.old_bytes = fact.unknown_bytes;
    for (size_t i = 0; i < c->shares.len; i++)
        if (c->shares.data[i].snapshot == at)
            fact.old_bytes += c->shares.data[i].old_bytes;
    int rc = 0;
    for (size_t i = 0; !rc && i < c->holders.len; i++)
        if (c->holders.data[i].snapshot == at)
            rc =
                tt_vec_push(&fact.holders, holding_of(&c->holders.data[i], c->holders.data[i].units,
                                                      c->holders.data[i].bytes));
    if (fact.holders.len)
        qsort(fact.holders.data, fact.holders.len, sizeof *fact.holders.data, by_bytes);
    if (fact.holders.len > HOLDERS)
        fact.holders.len = HOLDERS;
    if (!rc)
        rc = tt_vec_push(&out->snapshots, fact);
    if (rc)
        tt_vec_free(&fact.holders);
    return rc;
}

int tt_judge_frozen(const struct tt_dossiers *all, struct tt_findings *out)
{
    const struct tt_case *c = all->c;
    int rc = 0;
    for (size_t target = 0; !rc && target < c->processes.len; target++) {
        const struct tt_case_snapshot *s = tt_case_snapshot_of(c, target, INFINITY);
        if (s)
            rc = add_snapshot(c, s, target, out);
    }
    for (size_t i = 0; !rc && i < c->attaches.len; i++) {
        const struct tt_case_attach *a = &c->attaches.data[i];
        struct tt_attach_fact fact = {.process = c->processes.data[a->process].id,
                                      .at = a->t,
                                      .stop = a->stop,
                                      .detached = a->detached,
                                      .detach_stop = a->detach_stop,
                                      .start = a->start,
                                      .ran = fmax(0, a->t - c->processes.data[a->process].started),
                                      .entries = a->entries,
                                      .slots = a->slots,
                                      .kept = a->kept};
        snprintf(fact.notes, sizeof fact.notes, "%s", a->notes);
        rc = tt_vec_push(&out->attaches, fact);
    }
    return rc;
}

/* Who holds the units of the dossier that can be reached, by the latest snapshots. */
static int add_holders(const struct tt_dossiers *all, const struct tt_dossier *d,
                       struct tt_finding *f)
{
    const struct tt_case *c = all->c;
    int rc = 0;
    for (size_t m = 0; m < d->members.len; m++) {
        const struct tt_case_site *site = &c->sites.data[d->members.data[m].site];
        const struct tt_case_snapshot *s =
            tt_case_snapshot_of(c, c->processes.data[site->process].target, INFINITY);
        for (size_t i = 0; !rc && s && s->process == site->process && i < c->helds.len; i++) {
            const struct tt_case_held *held = &c->helds.data[i];
            const struct tt_case_holder *h = holder_of(c, held);
            if (!h || &c->snapshots.data[held->snapshot] != s || held->site != site->id)
                continue;
            struct tt_holding *same = NULL; /* workers hold alike */
            for (size_t k = 0; k < f->holders.len && !same; k++)
                if (strcmp(f->holders.data[k].place, h->place) == 0 &&
                    strcmp(f->holders.data[k].path, h->path) == 0)
                    same = &f->holders.data[k];
            if (same) {
                same->units += held->units;
                same->bytes += held->bytes;
            } else {
                rc = tt_vec_push(&f->holders, holding_of(h, held->units, held->bytes));
            }
        }
    }
    if (f->holders.len)
        qsort(f->holders.data, f->holders.len, sizeof *f->holders.data, by_bytes);
    if (f->holders.len > HOLDERS)
        f->holders.len = HOLDERS;
    return rc;
}

int tt_judge_before(const struct tt_dossiers *all, const struct tt_dossier *d, struct tt_finding *f)
{
    if (!d->lost.looked)
        return 0;
    f->unreachable.looked = true;
    f->unreachable.at = d->lost.at;
    f->unreachable.units = d->lost.known;
    f->unreachable.of = d->lost.live;
    f->unreachable.holds = d->lost.holds || d->lost.old_holds;
    f->unreachable.doubted = !d->lost.complete;
    f->before.looked = all->c->attaches.len > 0;
    f->before.units = d->lost.old_units;
    f->before.bytes = d->lost.old_bytes;
    f->before.probability = d->lost.probability;
    return add_holders(all, d, f);
}

/* ---- lost blocks without a site ---- */

static int add_group(const struct tt_case *c, const struct tt_case_group *g, double units,
                     double bytes, double chance, struct tt_findings *out)
{
    const struct tt_case_snapshot *s = &c->snapshots.data[g->snapshot];
    bool large = units >= LARGE_UNITS && bytes >= fmax(LARGE_BYTES, LARGE_SHARE * s->bytes);
    bool complete = tt_judge_scan_complete(s);
    bool lost = complete && (large || (units >= GROUP_UNITS && chance <= GROUP_LEVEL));
    struct tt_finding f = {.resource = "heap",
                           .verdict = lost ? TT_VERDICT_LEAK_LOST : TT_VERDICT_UNDETERMINED,
                           .process = c->processes.data[s->process].id,
                           .size_min = (uint32_t)fmin((double)g->size_min, UINT32_MAX),
                           .size_max = (uint32_t)fmin((double)g->size_max, UINT32_MAX),
                           .live = (uint64_t)llround(units),
                           .confidence = lost ? fmin(0.99, 1 - fmin(0.5, chance)) : 0.5,
                           .rate.operation_source = "",
                           .has_group = true,
                           .group = {.fingerprint = g->fingerprint,
                                     .roots = g->roots,
                                     .hung_units = g->hung_units,
                                     .hung_bytes = g->hung_bytes},
                           .unreachable = {true, s->t, units, units, lost, !complete},
                           .before = {true, units, bytes, 0}};
    snprintf(f.group.shape, sizeof f.group.shape, "%s", g->shape);
    snprintf(f.group.samples, sizeof f.group.samples, "%s", g->samples);
    snprintf(f.note, sizeof f.note, "%.200s", g->shape);
    snprintf(
        f.would_change_it, sizeof f.would_change_it,
        "the site that makes such blocks: telltale attach -p %lld, while it makes more of them",
        (long long)c->processes.data[s->process].pid);
    struct tt_evidence e = {.kind = "unreachable", .value = units, .log_e = NAN};
    snprintf(e.text, sizeof e.text,
             "nothing points to %.0f blocks of this shape in the %s (%.0f of them roots)%s", units,
             s->core ? "core file" : "copy of the process", g->roots,
             complete ? "" : "; memory that may hold pointers could not be read");
    e.figure[0].key = "units";
    e.figure[0].value = units;
    e.figure[1].key = "roots";
    e.figure[1].value = g->roots;
    int rc = tt_vec_push(&f.evidence, e);
    if (!rc)
        rc = tt_vec_push(&out->list, f);
    if (rc)
        tt_finding_free(&f);
    return rc;
}

int tt_judge_groups(const struct tt_dossiers *all, struct tt_findings *out)
{
    const struct tt_case *c = all->c;
    int rc = 0;
    for (size_t target = 0; !rc && target < c->processes.len; target++) {
        const struct tt_case_snapshot *s = tt_case_snapshot_of(c, target, INFINITY);
        double n = 0;
        for (size_t i = 0; s && i < c->groups.len; i++)
            n += &c->snapshots.data[c->groups.data[i].snapshot] == s;
        for (size_t i = 0; !rc && s && i < c->groups.len; i++) {
            const struct tt_case_group *g = &c->groups.data[i];
            if (&c->snapshots.data[g->snapshot] != s || g->unknown_units <= 0)
                continue;
            double chance = fmin(1, n * tt_judge_scan_chance(g->unknown_units, s->blocks));
            rc = add_group(c, g, g->unknown_units, g->unknown_bytes, chance, out);
        }
    }
    return rc;
}
