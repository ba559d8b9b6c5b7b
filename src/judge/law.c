/* SPDX-License-Identifier: Apache-2.0 */
/* The law: how many units each operation loses, as a function of what (METHODS 2.5). With sessions
 * whose labels differ in a number (--label owners=4) it is fitted across them; with one session it
 * is the constant that rate.c found, and the text says that nothing was varied. Start:
 * tt_judge_law. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "judge/dossier.h"
#include "stats/special.h"

/* Unit in which a law is written: bytes where all units have one size. */
static double unit_of(const struct tt_finding *f, const char **word)
{
    bool one_size = strcmp(f->resource, "heap") == 0 && f->size_min == f->size_max;
    *word = one_size ? "bytes" : "units";
    return one_size ? f->size_max : 1;
}

static const char *operation_of(const struct tt_finding *f)
{
    return f->rate.has_operation ? f->rate.operation : "birth at the site";
}

/* "40 x (owners - 2)"; the domain of a lone hinge goes to *knot. */
static void write_law(const struct tt_stats_law *law, const struct tt_finding *f,
                      const char *covariate, char *buf, size_t size)
{
    const char *word;
    double unit = unit_of(f, &word);
    size_t used = (size_t)snprintf(buf, size, "lost %s = %s", word, law->n_terms ? "" : "0");
    for (size_t i = 0; i < law->n_terms && used < size; i++) {
        const struct tt_stats_law_term *t = &law->term[i];
        double c = t->coefficient * unit;
        const char *plus = i ? " + " : "";
        if (t->basis == TT_STATS_BASIS_ONE)
            used += (size_t)snprintf(buf + used, size - used, "%s%.4g", plus, c);
        else if (t->basis == TT_STATS_BASIS_X)
            used += (size_t)snprintf(buf + used, size - used, "%s%.4g x %s", plus, c, covariate);
        else
            used += (size_t)snprintf(buf + used, size - used, "%s%.4g x (%s - %g)", plus, c,
                                     covariate, t->knot);
    }
    if (used < size)
        used += (size_t)snprintf(buf + used, size - used, " per %.80s", operation_of(f));
    if (law->n_terms == 1 && law->term[0].basis == TT_STATS_BASIS_HINGE && used < size)
        snprintf(buf + used, size - used, ", %.40s > %g", covariate, law->term[0].knot);
}

static void keep_terms(const struct tt_stats_law *law, struct tt_finding *f)
{
    static const enum tt_law_basis basis[] = {[TT_STATS_BASIS_ONE] = TT_LAW_CONSTANT,
                                              [TT_STATS_BASIS_X] = TT_LAW_LINEAR,
                                              [TT_STATS_BASIS_HINGE] = TT_LAW_HINGE};
    const char *word;
    double unit = unit_of(f, &word);
    f->law.bytes = strcmp(word, "bytes") == 0;
    for (size_t i = 0; i < law->n_terms && i < 3; i++)
        f->law.terms[f->law.n_terms++] = (struct tt_law_term){
            basis[law->term[i].basis], law->term[i].knot, law->term[i].coefficient * unit};
}

/* The first numeric label whose value differs between the judged session and the others. */
static bool find_covariate(const struct tt_dossiers *all, const struct tt_judge_session *sessions,
                           size_t n, char *key, size_t size)
{
    const struct tt_case *c = all[0].c;
    for (size_t i = 0; i < c->labels.len; i++) {
        double own, other;
        if (tt_case_covariate(c, c->labels.data[i].key, &own))
            continue;
        for (size_t s = 1; s < n; s++) {
            if (sessions[s].role != TT_JUDGE_CONTROL ||
                tt_case_covariate(all[s].c, c->labels.data[i].key, &other) || own == other)
                continue;
            snprintf(key, size, "%s", c->labels.data[i].key);
            return true;
        }
    }
    return false;
}

static void say_why(const struct tt_stats_law_fit *fit, const struct tt_finding *f,
                    const char *covariate, char *buf, size_t size)
{
    char rival[160];
    buf[0] = '\0';
    switch (fit->why) {
    case TT_STATS_LAW_IDENTIFIED:
        break;
    case TT_STATS_LAW_FEW_LEVELS:
        snprintf(buf, size, "only %zu values of %s were tried; at least 4 tell laws apart",
                 fit->levels, covariate);
        break;
    case TT_STATS_LAW_KNOT_SIDE:
        snprintf(buf, size,
                 "fewer than 2 values of %s lie on one side of the knot; record one more there",
                 covariate);
        break;
    case TT_STATS_LAW_RIVALS_FIT:
        write_law(&fit->rival[0], f, covariate, rival, sizeof rival);
        snprintf(buf, size, "fits as well: %.100s; runs with other values of %.60s would decide",
                 rival, covariate);
        break;
    case TT_STATS_LAW_FEW_UNITS:
        snprintf(buf, size, "fewer than 150 lost units: record longer runs");
        break;
    }
}

/* With one session: the constant. */
static void constant_law(struct tt_finding *f)
{
    if (!f->rate.has_operation || !f->rate.exact)
        return;
    const char *word;
    double unit = unit_of(f, &word);
    f->law.known = true;
    f->law.r2 = 1;
    f->law.identifiable = false;
    snprintf(f->law.text, sizeof f->law.text, "lost %s = %.6g per %s", word,
             f->rate.per_operation * unit, f->rate.operation);
    snprintf(f->law.caveat, sizeof f->law.caveat,
             "what it depends on was not varied: label runs (--label KEY=NUMBER) and give them as "
             "--control");
}

int tt_judge_law(const struct tt_dossiers *all, const struct tt_judge_session *sessions, size_t n,
                 const struct tt_dossier *d, const struct tt_operation_ref *op,
                 struct tt_finding *f, struct tt_law_model *model)
{
    TT_VEC(struct tt_stats_law_point) points = {0};
    int rc = 0;
    *model = (struct tt_law_model){0};
    bool varied = op->kind != TT_OP_NONE &&
                  find_covariate(all, sessions, n, model->covariate, sizeof model->covariate);
    bool exact = true;
    double slack = 1;
    for (size_t i = 0; varied && !rc && i < n; i++) {
        struct tt_stats_law_point p;
        struct tt_exposure e;
        if (sessions[i].role == TT_JUDGE_FIXED ||
            tt_case_covariate(all[i].c, model->covariate, &p.x) || p.x < 0)
            continue;
        tt_judge_exposure(&all[0], d, op, &all[i], &e);
        if (e.ops <= 0)
            continue;
        p.units = e.lost;
        p.ops = e.ops;
        exact = exact && all[i].c->exact;
        slack = fmax(slack, e.ops * 0.005); /* operations at the edge of the exposure */
        rc = tt_vec_push(&points, p);
    }
    struct tt_stats_law_fit fit;
    struct tt_stats_law_options options = {.exact = exact, .slack_ops = slack, .inclusion = 1};
    if (!exact && d->retained.units > 0)
        options.inclusion = d->retained.followed / d->retained.units;
    int bad = rc || points.len < 2 ? -EINVAL
                                   : tt_stats_law_hinge(points.data, points.len, &options, &fit);
    if (rc || bad == -ENOMEM) {
        tt_vec_free(&points);
        return -ENOMEM;
    }
    if (bad) {
        tt_vec_free(&points);
        constant_law(f);
        return 0;
    }
    model->known = true;
    model->law = fit.best;
    f->law.known = true;
    f->law.r2 = fit.best.r2;
    f->law.identifiable = fit.identifiable;
    snprintf(f->law.covariate, sizeof f->law.covariate, "%s", model->covariate);
    write_law(&fit.best, f, model->covariate, f->law.text, sizeof f->law.text);
    keep_terms(&fit.best, f);
    say_why(&fit, f, model->covariate, f->law.caveat, sizeof f->law.caveat);
    rc = tt_vec_reserve(&f->law.points, points.len);
    for (size_t i = 0; !rc && i < points.len; i++) {
        f->law.points.data[i].x = points.data[i].x;
        f->law.points.data[i].units = points.data[i].units;
        f->law.points.data[i].ops = points.data[i].ops;
        f->law.points.data[i].predicted =
            points.data[i].ops * tt_stats_law_at(&fit.best, points.data[i].x);
        f->law.points.len++;
    }
    tt_vec_free(&points);
    return rc;
}
