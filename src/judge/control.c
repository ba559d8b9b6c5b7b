/* SPDX-License-Identifier: Apache-2.0 */
/* What other sessions say about a finding: controls that ran the same operation and lost nothing
 * confirm it and show a way around it; a fixed build is tested against the losses that the judged
 * session's rate (or the law across sessions) predicts for its operations, so that a calmer run
 * cannot look fixed (METHODS 2.7). Start: tt_judge_controls. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "judge/dossier.h"
#include "stats/fixcheck.h"

#define ENOUGH 3.0 /* expected losses for "0 lost" to say something: exp(-3) = 5 % */

/* Where copies have shown the judged losses sooner than the horizon of all sites, another session
 * that has a complete copy is asked by that, too: until when before its end. 0: it is not. */
static double copy_horizon(const struct tt_dossiers *judged, const struct tt_dossier *d,
                           const struct tt_dossiers *other)
{
    if (d->horizon >= judged->horizon)
        return 0;
    for (size_t target = 0; target < other->c->processes.len; target++) {
        const struct tt_case_snapshot *last = tt_case_snapshot_of(other->c, target, INFINITY);
        if (last && tt_judge_scan_complete(last) &&
            tt_dossier_same_program(judged, d->process, other, last->process))
            return fmax(0, tt_dossier_end(other->c, last->process) - last->t) + TT_JUDGE_GRACE_S;
    }
    return 0;
}

void tt_judge_exposure(const struct tt_dossiers *judged, const struct tt_dossier *d,
                       const struct tt_operation_ref *op, const struct tt_dossiers *other,
                       struct tt_exposure *out)
{
    double horizon = copy_horizon(judged, d, other);
    bool by_copy = other != judged && horizon > 0;
    *out = (struct tt_exposure){.horizon = by_copy           ? horizon
                                           : other == judged ? d->horizon
                                                             : other->horizon};
    for (size_t i = 0; i < other->list.len; i++) {
        const struct tt_dossier *same = &other->list.data[i];
        if (same != d && !tt_dossier_same(judged, d, other, same))
            continue;
        out->births += same->births;
        out->lost += by_copy ? same->lost.units : same->retained.units;
        out->lost_variance += by_copy ? same->lost.variance : same->retained.variance;
    }
    double ops = op->kind == TT_OP_NONE ? -1 : tt_judge_operations(judged, op, other, out->horizon);
    out->ops = fmax(ops, 0);
    out->exercised = ops > 0 || (op->kind == TT_OP_NONE && out->births > 0);
}

static double predicted(const struct tt_finding *f, const struct tt_exposure *own,
                        const struct tt_exposure *other)
{
    /* a rate per operation, or per birth at the site where no operation is known */
    if (own->ops > 0)
        return tt_stats_fix_exposure(own->lost, own->ops, other->ops);
    return own->births > 0 && f->births > 0
               ? tt_stats_fix_exposure(own->lost, own->births, other->births)
               : 0;
}

static const char *operation_word(const struct tt_finding *f)
{
    return f->rate.has_operation ? f->rate.operation : "the site";
}

/* "400 calls" of an operation that people named, "400 calls of call_new()" of a function. */
static void write_runs(const struct tt_finding *f, const struct tt_exposure *e, char *buf,
                       size_t size)
{
    char n[32];
    tt_text_count(n, (uint64_t)llround(f->rate.has_operation ? e->ops : e->births));
    if (!f->rate.has_operation)
        snprintf(buf, size, "%s births at the site", n);
    else if (strchr(f->rate.operation, '('))
        snprintf(buf, size, "%s calls of %.80s", n, f->rate.operation);
    else
        snprintf(buf, size, "%s %.80ss", n, f->rate.operation);
}

static int add_control(const struct tt_dossiers *other, const struct tt_exposure *own,
                       const struct tt_exposure *seen, size_t index, struct tt_finding *f)
{
    struct tt_control k = {.session = (int)index,
                           .operations = seen->ops,
                           .births = seen->births,
                           .lost = seen->lost,
                           .expected = predicted(f, own, seen),
                           .exercised = seen->exercised,
                           .clean = seen->exercised && seen->lost <= 0};
    char runs[128], lost[32];
    tt_case_label(other->c, k.label, sizeof k.label);
    write_runs(f, seen, runs, sizeof runs);
    tt_text_count(lost, (uint64_t)llround(seen->lost));
    if (!k.exercised)
        snprintf(k.text, sizeof k.text, "%.60s: did not run %.60s", k.label, operation_word(f));
    else
        snprintf(k.text, sizeof k.text, "%.60s: %s lost in %s", k.label, lost, runs);
    return tt_vec_push(&f->controls, k);
}

/* Controls that are clean under enough exposure confirm the finding, and are a way around it. */
static void conclude_controls(struct tt_finding *f)
{
    size_t used = 0, clean = 0;
    f->workaround[0] = '\0';
    for (size_t i = 0; i < f->controls.len; i++) {
        const struct tt_control *k = &f->controls.data[i];
        if (!k->clean || k->expected < ENOUGH)
            continue;
        clean++;
        if (used < sizeof f->workaround)
            used += (size_t)snprintf(f->workaround + used, sizeof f->workaround - used, "%s%s",
                                     used ? "; " : "", k->text);
    }
    f->confirmed = clean > 0;
}

/* Whether a site leaks in the fixed build that does not leak in the judged one: the leak moved. */
static bool leaks_elsewhere(const struct tt_dossiers *judged, const struct tt_dossiers *fixed)
{
    for (size_t i = 0; i < fixed->list.len; i++) {
        bool known = !fixed->list.data[i].leak;
        for (size_t k = 0; !known && k < judged->list.len; k++)
            known = judged->list.data[k].leak &&
                    tt_dossier_same(judged, &judged->list.data[k], fixed, &fixed->list.data[i]);
        if (!known)
            return true;
    }
    return false;
}

static void check_fix(const struct tt_dossiers *judged, const struct tt_dossier *d,
                      const struct tt_dossiers *fixed, const struct tt_exposure *own,
                      const struct tt_exposure *seen, double due_b, double delta,
                      struct tt_finding *f)
{
    const struct tt_case_process *a = &judged->c->processes.data[d->process], *b = NULL;
    for (size_t i = 0; i < fixed->c->processes.len && !b; i++)
        if (tt_dossier_same_program(judged, d->process, fixed, i))
            b = &fixed->c->processes.data[i];
    f->fix.known = true;
    f->fix.exercised = seen->exercised;
    snprintf(f->fix.build_id, sizeof f->fix.build_id, "%s", b ? b->build_id : "");
    if (!b || !seen->exercised) {
        snprintf(f->fix.text, sizeof f->fix.text, "not exercised: the other session did not run %s",
                 b ? operation_word(f) : "this program");
        return;
    }
    if (a->build_id[0] && strcmp(a->build_id, b->build_id) == 0) {
        snprintf(f->fix.text, sizeof f->fix.text,
                 "no check: the session given as fixed ran the same build (build-id %.40s)",
                 b->build_id);
        return;
    }
    struct tt_stats_fix fix;
    f->fix.exposure = due_b;
    tt_stats_fix_check(own->lost, own->lost, seen->lost, f->fix.exposure, delta, 0.05, &fix);
    f->fix.residual = fix.residual;
    f->fix.fixed = fix.class == TT_STATS_FIX_FIXED;
    char runs[128], lost[32], due[32];
    write_runs(f, seen, runs, sizeof runs);
    tt_text_count(lost, (uint64_t)llround(seen->lost));
    tt_text_count(due, (uint64_t)llround(f->fix.exposure));
    bool moved = f->fix.fixed && leaks_elsewhere(judged, fixed);
    f->fix.fixed = f->fix.fixed && !moved;
    if (moved)
        snprintf(f->fix.text, sizeof f->fix.text,
                 "not fixed: %s lost here in %s, but another site leaks in that build only", lost,
                 runs);
    else if (f->fix.fixed)
        snprintf(f->fix.text, sizeof f->fix.text,
                 "%s lost in %s (residual below %g %% of this rate, 95 %%)", lost, runs,
                 100 * delta);
    else if (fix.class == TT_STATS_FIX_STILL)
        snprintf(f->fix.text, sizeof f->fix.text,
                 "still leaks: %s lost in %s, %s expected at this rate", lost, runs, due);
    else
        snprintf(f->fix.text, sizeof f->fix.text,
                 "%s: %s lost in %s; about %.0f x the exposure of that run is needed",
                 fix.class == TT_STATS_FIX_IMPROVED ? "improved" : "not decided", lost, runs,
                 f->fix.exposure > 0 ? ceil(1 + fix.needed / f->fix.exposure) : 1);
}

/* Losses the judged rate predicts in another session; by the law where the other's label is known.
 */
static double expected_in(const struct tt_dossiers *other, const struct tt_law_model *model,
                          const struct tt_finding *f, const struct tt_exposure *own,
                          const struct tt_exposure *seen)
{
    double x;
    if (model->known && tt_case_covariate(other->c, model->covariate, &x) == 0)
        return tt_stats_law_at(&model->law, x) * seen->ops;
    return predicted(f, own, seen);
}

int tt_judge_controls(const struct tt_dossiers *all, const struct tt_judge_session *sessions,
                      size_t n, const struct tt_dossier *d, const struct tt_operation_ref *op,
                      const struct tt_law_model *model, double fix_delta, struct tt_finding *f)
{
    struct tt_exposure own;
    int rc = 0;
    tt_judge_exposure(&all[0], d, op, &all[0], &own);
    for (size_t i = 1; !rc && i < n; i++) {
        struct tt_exposure seen;
        tt_judge_exposure(&all[0], d, op, &all[i], &seen);
        if (sessions[i].role == TT_JUDGE_CONTROL)
            rc = add_control(&all[i], &own, &seen, i, f);
        else if (sessions[i].role == TT_JUDGE_FIXED)
            check_fix(&all[0], d, &all[i], &own, &seen, expected_in(&all[i], model, f, &own, &seen),
                      fix_delta, f);
    }
    conclude_controls(f);
    return rc;
}
