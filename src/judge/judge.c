/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the evidence over all dossiers, lets weigh.c decide, and asks the other sessions about what
 * was found. Start: tt_judge_cases; tt_judge_sessions reads the sessions first. */
#include "judge/judge.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "judge/dossier.h"
#include "judge/read.h"
#include "stats/special.h"

#define MAX_OTHERS 200u
#define SERIES_POINTS 64u
#define ALPHA 0.05
#define FIX_DELTA 0.01

static int add_releases(const struct tt_dossiers *all, const struct tt_dossier *d,
                        struct tt_finding *f, bool of_operation)
{
    double total = 0;
    int rc = 0;
    for (size_t i = 0; i < d->members.len; i++) {
        const struct tt_case_site *s = &all->c->sites.data[d->members.data[i].site];
        for (size_t k = 0; k < s->releases.len; k++)
            total += (double)s->releases.data[k].weight;
    }
    for (size_t i = 0; !rc && i < d->members.len; i++) {
        const struct tt_case_site *s = &all->c->sites.data[d->members.data[i].site];
        for (size_t k = 0; !rc && k < s->releases.len; k++) {
            struct tt_release_path path = {
                .process = all->c->processes.data[s->process].id,
                .stack = s->releases.data[k].stack,
                .samples = s->releases.data[k].samples,
                .share = total > 0 ? (double)s->releases.data[k].weight / total : 0,
                .session = (int)all->session};
            if (all->session)
                snprintf(path.from, sizeof path.from, "%s", all->c->name);
            rc = of_operation ? tt_vec_push(&f->operation_releases, path)
                              : tt_vec_push(&f->releases, path);
        }
    }
    return rc;
}

static int by_share(const void *a, const void *b)
{
    const struct tt_release_path *x = a, *y = b;
    if (x->session != y->session)
        return x->session < y->session ? -1 : 1;
    return (x->share < y->share) - (x->share > y->share);
}

static int tell_releases(const struct tt_dossiers *all, size_t n, const struct tt_dossier *d,
                         const struct tt_operation_ref *op, struct tt_finding *f)
{
    int rc = add_releases(&all[0], d, f, false);
    for (size_t s = 1; !rc && s < n; s++)
        for (size_t i = 0; !rc && i < all[s].list.len; i++)
            if (tt_dossier_same(&all[0], d, &all[s], &all[s].list.data[i]))
                rc = add_releases(&all[s], &all[s].list.data[i], f, false);
    long at = rc ? -1 : tt_judge_operation_site(&all[0], d, op);
    if (at >= 0) {
        f->operation_site = all[0].list.data[at].site;
        rc = add_releases(&all[0], &all[0].list.data[at], f, true);
    }
    if (f->releases.len)
        qsort(f->releases.data, f->releases.len, sizeof *f->releases.data, by_share);
    if (f->operation_releases.len)
        qsort(f->operation_releases.data, f->operation_releases.len,
              sizeof *f->operation_releases.data, by_share);
    return rc;
}

static int tell_series(const struct tt_dossiers *all, const struct tt_dossier *d,
                       struct tt_finding *f)
{
    size_t n = all->grid.len;
    int rc = 0;
    for (size_t i = 0; !rc && d->grid_births && n > 1 && i < SERIES_POINTS; i++) {
        size_t k = i * (n - 1) / (SERIES_POINTS - 1);
        if (i && k == (i - 1) * (n - 1) / (SERIES_POINTS - 1))
            continue;
        if (all->grid.data[k] > d->until)
            break;
        rc = tt_vec_push(&f->series, (struct tt_point){all->grid.data[k], tt_dossier_live(d, k)});
    }
    return rc;
}

static char *intern(struct tt_findings *out, const char *text)
{
    for (size_t i = 0; i < out->strings.len; i++)
        if (strcmp(out->strings.data[i], text) == 0)
            return out->strings.data[i];
    char *copy = strdup(text);
    if (copy && tt_vec_push(&out->strings, copy)) {
        free(copy);
        copy = NULL;
    }
    return copy;
}

/* A site that keeps some units and loses others: which birth was lost is not known, so all that can
 * be said is how many were in the time until the copy. */
static void tell_lost_rate(const struct tt_dossier *d, struct tt_rate *rate,
                           struct tt_operation_ref *op)
{
    double span = d->lost.at - d->first;
    *rate = (struct tt_rate){.operation_source = ""};
    *op = (struct tt_operation_ref){0};
    if (!d->lost.holds || span <= 0)
        return;
    struct tt_stats_interval k = tt_stats_garwood(d->lost.known, 0.95);
    double weight = d->lost.units / d->lost.known;
    rate->per_second = d->lost.units / span;
    rate->per_second_interval = (struct tt_interval){k.lo * weight / span, k.hi * weight / span};
}

/* The full account of a leak. */
static int tell_leak(const struct tt_judge_input *input, const struct tt_dossiers *all,
                     const struct tt_dossier *d, struct tt_finding *f)
{
    struct tt_operation_ref op;
    struct tt_law_model model;
    size_t n = input->n_sessions;
    double delta = input->fix_delta > 0 ? input->fix_delta : FIX_DELTA;
    int rc = tt_judge_rate(&all[0], d, &f->rate, &op);
    if (!rc && f->verdict == TT_VERDICT_LEAK_LOST && !d->lost.explains)
        tell_lost_rate(d, &f->rate, &op);
    if (!rc)
        rc = tt_judge_law(all, input->sessions, n, d, &op, f, &model);
    if (!rc)
        rc = tt_judge_controls(all, input->sessions, n, d, &op, &model, delta, f);
    if (!rc)
        rc = tell_releases(all, n, d, &op, f);
    if (rc)
        return rc;
    if (f->confirmed) {
        struct tt_evidence e = {.kind = "control", .value = (double)f->controls.len, .log_e = NAN};
        snprintf(e.text, sizeof e.text, "%s", f->workaround);
        rc = tt_vec_push(&f->evidence, e);
        f->confidence = fmax(f->confidence, fmin(0.999, 1 - (1 - f->confidence) / 20));
    }
    tt_judge_forecast(&all[0], d, f);
    f->severity = f->forecast.per_day;
    return rc;
}

static int by_weight(const void *a, const void *b)
{
    const struct tt_finding *x = a, *y = b;
    bool xl = tt_verdict_is_leak(x->verdict), yl = tt_verdict_is_leak(y->verdict);
    if (xl != yl)
        return xl ? -1 : 1;
    if (x->has_group != y->has_group)
        return x->has_group ? 1 : -1;
    /* What is proven lost and goes on comes before what is only kept. */
    bool xg = x->verdict == TT_VERDICT_LEAK_LOST && x->severity > 0;
    bool yg = y->verdict == TT_VERDICT_LEAK_LOST && y->severity > 0;
    if (xg != yg)
        return xg ? -1 : 1;
    if (xl && x->severity != y->severity)
        return x->severity > y->severity ? -1 : 1;
    if (x->has_group && x->before.bytes != y->before.bytes)
        return x->before.bytes > y->before.bytes ? -1 : 1;
    double lx = (double)x->live * (x->unit_cost > 0 ? x->unit_cost : x->size_max);
    double ly = (double)y->live * (y->unit_cost > 0 ? y->unit_cost : y->size_max);
    if (lx != ly)
        return lx > ly ? -1 : 1;
    return x->site < y->site ? -1 : x->site > y->site;
}

/* Leaks first; of the others the largest, up to the bound. */
static void order(struct tt_findings *out, size_t max_others)
{
    if (out->list.len)
        qsort(out->list.data, out->list.len, sizeof *out->list.data, by_weight);
    size_t others = 0, kept = 0;
    for (size_t i = 0; i < out->list.len; i++) {
        struct tt_finding *f = &out->list.data[i];
        bool leak = tt_verdict_is_leak(f->verdict);
        if (!leak && others >= max_others) {
            tt_finding_free(f);
            out->sites_not_listed++;
            continue;
        }
        others += !leak;
        out->leak |= leak;
        out->list.data[kept] = *f;
        out->list.data[kept].id = (int)kept + 1;
        kept++;
    }
    out->list.len = kept;
}

static int weigh_site(const struct tt_dossiers *all, struct tt_dossier *d, struct tt_finding *f)
{
    int rc = tt_judge_delay(all, d);
    if (!rc)
        rc = tt_judge_trend(all, d);
    if (!rc)
        rc = tt_judge_follow(all, d);
    tt_judge_staleness(all, d);
    if (!rc)
        rc = tt_judge_state(all, d);
    return rc ? rc : tt_judge_weigh(all, d, f);
}

static int judge_site(struct tt_dossiers *all, struct tt_dossier *d, struct tt_findings *out)
{
    struct tt_finding f = {.resource = intern(out, d->resource), .rate.operation_source = ""};
    int rc = f.resource ? weigh_site(all, d, &f) : -ENOMEM;
    if (!rc)
        rc = tt_judge_before(all, d, &f);
    if (!rc)
        rc = tell_series(all, d, &f);
    if (!rc)
        rc = tt_vec_push(&out->list, f);
    if (rc)
        tt_finding_free(&f);
    return rc;
}

/* Which sites leak in a session that is not judged itself. */
static int judge_other(struct tt_dossiers *all)
{
    int rc = 0;
    for (size_t i = 0; !rc && i < all->list.len; i++) {
        struct tt_finding unused = {.resource = "", .rate.operation_source = ""};
        if (all->list.data[i].rejected || all->list.data[i].lost.holds)
            rc = weigh_site(all, &all->list.data[i], &unused);
        tt_finding_free(&unused);
    }
    return rc;
}

struct tt_dossier *tt_dossier_of(struct tt_dossiers *all, const struct tt_finding *f)
{
    for (size_t i = 0; i < all->list.len; i++) {
        struct tt_dossier *d = &all->list.data[i];
        if (d->site == f->site && all->c->processes.data[d->process].id == f->process)
            return d;
    }
    return NULL;
}

int tt_judge_cases(const struct tt_judge_input *input, const struct tt_case *cases,
                   struct tt_findings *out, struct tt_error *err)
{
    *out = (struct tt_findings){0};
    if (!input->n_sessions || input->sessions[0].role != TT_JUDGE_JUDGED)
        return tt_error_set(err, -EINVAL, "the first session must be the one to judge");
    double horizon = input->horizon_s > 0     ? input->horizon_s
                     : cases[0].horizon_s > 0 ? cases[0].horizon_s
                                              : TT_JUDGE_HORIZON_S;
    struct tt_dossiers *all = calloc(input->n_sessions, sizeof *all);
    int rc = all ? 0 : -ENOMEM;
    for (size_t s = 0; !rc && s < input->n_sessions; s++) {
        all[s].session = s;
        all[s].alpha = input->alpha > 0 ? input->alpha : ALPHA;
        all[s].name = input->name;
        all[s].name_arg = input->name_arg;
        rc = tt_dossiers_make(&cases[s], horizon, &all[s]);
        if (!rc)
            rc = tt_judge_survival(&all[s]);
        for (size_t i = 0; !rc && i < all[s].list.len; i++)
            tt_judge_unreachable(&all[s], &all[s].list.data[i]);
    }
    for (size_t i = 0; !rc && i < all[0].list.len; i++)
        if (all[0].list.data[i].births > 0)
            rc = judge_site(&all[0], &all[0].list.data[i], out);
    for (size_t s = 1; !rc && s < input->n_sessions; s++)
        if (input->sessions[s].role == TT_JUDGE_FIXED)
            rc = judge_other(&all[s]);
    out->sites_looked_at = out->list.len;
    if (!rc)
        rc = tt_judge_with(&all[0], out);
    for (size_t i = 0; !rc && i < out->list.len; i++)
        if (tt_verdict_is_leak(out->list.data[i].verdict))
            rc = tell_leak(input, all, tt_dossier_of(&all[0], &out->list.data[i]),
                           &out->list.data[i]);
    if (!rc)
        rc = tt_judge_account(&all[0], out);
    if (!rc)
        rc = tt_judge_frozen(&all[0], out);
    if (!rc)
        rc = tt_judge_groups(&all[0], out);
    if (!rc) {
        out->log_threshold = all[0].log_threshold;
        out->horizon = horizon;
        order(out, input->max_others ? input->max_others : MAX_OTHERS);
    }
    for (size_t s = 0; all && s < input->n_sessions; s++)
        tt_dossiers_free(&all[s]);
    free(all);
    return rc ? tt_error_set(err, rc, "out of memory while judging") : 0;
}

int tt_judge_sessions(const struct tt_judge_input *input, struct tt_findings *out,
                      struct tt_error *err)
{
    *out = (struct tt_findings){0};
    struct tt_case *cases = calloc(input->n_sessions ? input->n_sessions : 1, sizeof *cases);
    if (!cases)
        return tt_error_set(err, -ENOMEM, "out of memory");
    int rc = 0;
    for (size_t s = 0; !rc && s < input->n_sessions; s++)
        rc = tt_judge_read(input->sessions[s].session, input->sessions[s].name, &cases[s], err);
    if (!rc)
        rc = tt_judge_cases(input, cases, out, err);
    for (size_t s = 0; s < input->n_sessions; s++)
        tt_case_free(&cases[s]);
    free(cases);
    return rc;
}
