/* SPDX-License-Identifier: Apache-2.0 */
/* The hinge law across runs: all subsets of at most three bases, fitted from one Gram matrix and
 * ranked by the extended BIC. Start: tt_stats_law_hinge. The ratio inside one session stands in
 * ratio.c. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "stats/law.h"
#include "stats/linear.h"

#define MAX_BASES 44
#define MAX_POINTS 1024
#define RIVAL_DISTANCE 6.0

struct basis {
    enum tt_stats_basis kind;
    double knot;
};

struct problem {
    const struct tt_stats_law_point *point;
    size_t n;
    struct tt_stats_law_options options;
    struct basis basis[MAX_BASES];
    size_t bases, levels;
    double level[MAX_POINTS];    /* distinct x, ascending */
    double variance[MAX_POINTS]; /* of units */
    double gram[MAX_BASES][MAX_BASES], moment[MAX_BASES];
};

/* A fitted subset. */
struct fit {
    size_t k, at[TT_STATS_LAW_TERMS];
    double beta[TT_STATS_LAW_TERMS], rss, ebic;
};

static double basis_at(enum tt_stats_basis kind, double knot, double x)
{
    switch (kind) {
    case TT_STATS_BASIS_ONE:
        return 1;
    case TT_STATS_BASIS_X:
        return x;
    case TT_STATS_BASIS_HINGE:
        break;
    }
    return fmax(0, x - knot);
}

double tt_stats_law_at(const struct tt_stats_law *law, double x)
{
    double sum = 0;
    for (size_t i = 0; i < law->n_terms; i++)
        sum += law->term[i].coefficient * basis_at(law->term[i].basis, law->term[i].knot, x);
    return sum;
}

static double rate_of(const struct problem *p, const struct fit *fit, double x)
{
    double sum = 0;
    for (size_t i = 0; i < fit->k; i++)
        sum += fit->beta[i] * basis_at(p->basis[fit->at[i]].kind, p->basis[fit->at[i]].knot, x);
    return sum;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* 1, x, and the hinges that the observed range can tell from x. */
static void choose_bases(struct problem *p)
{
    for (size_t i = 0; i < p->n; i++)
        p->level[i] = p->point[i].x;
    qsort(p->level, p->n, sizeof *p->level, ascending);
    for (size_t i = 0; i < p->n; i++)
        if (p->levels == 0 || p->level[i] > p->level[p->levels - 1])
            p->level[p->levels++] = p->level[i];

    p->basis[p->bases++] = (struct basis){TT_STATS_BASIS_ONE, 0};
    if (p->levels < 2)
        return;
    p->basis[p->bases++] = (struct basis){TT_STATS_BASIS_X, 0};
    double first = p->level[0], last = p->level[p->levels - 1];
    size_t stride = p->levels > MAX_BASES - 30 ? p->levels / (MAX_BASES - 30) + 1 : 1;
    double knots[MAX_POINTS + 32];
    size_t n = 0;
    for (size_t i = 0; i < p->levels; i += stride)
        knots[n++] = p->level[i];
    if (last - first <= 24)
        for (int k = 0; ceil(first) + k < last; k++)
            knots[n++] = ceil(first) + k;
    qsort(knots, n, sizeof *knots, ascending);
    double before = 0; /* a hinge at 0 is x */
    for (size_t i = 0; i < n && p->bases < MAX_BASES; i++) {
        if (knots[i] <= before || knots[i] >= last)
            continue;
        p->basis[p->bases++] = (struct basis){TT_STATS_BASIS_HINGE, knots[i]};
        before = knots[i];
    }
}

/* Error variance of each point: operations in flight in exact mode, else Poisson about the fit
 * (about the units themselves while there is none), never below one followed unit. */
static void set_variance(struct problem *p, const struct fit *fit)
{
    double mean = 0;
    for (size_t i = 0; i < p->n; i++)
        mean += p->point[i].units / (double)p->n;
    for (size_t i = 0; i < p->n; i++) {
        const struct tt_stats_law_point *point = &p->point[i];
        if (p->options.exact) {
            double slack = p->options.slack_ops * fmax(1, point->units / point->ops);
            p->variance[i] = slack * slack;
        } else {
            double mu = fit ? point->ops * rate_of(p, fit, point->x) : mean;
            p->variance[i] = fmax(mu, 1 / p->options.inclusion) / p->options.inclusion;
        }
    }
    memset(p->gram, 0, sizeof p->gram);
    memset(p->moment, 0, sizeof p->moment);
    for (size_t i = 0; i < p->n; i++) {
        const struct tt_stats_law_point *point = &p->point[i];
        double column[MAX_BASES];
        for (size_t b = 0; b < p->bases; b++)
            column[b] = point->ops * basis_at(p->basis[b].kind, p->basis[b].knot, point->x);
        for (size_t b = 0; b < p->bases; b++) {
            for (size_t c = 0; c < p->bases; c++)
                p->gram[b][c] += column[b] * column[c] / p->variance[i];
            p->moment[b] += column[b] * point->units / p->variance[i];
        }
    }
}

/* Fits the subset fit->at[0..k-1]; false when it is degenerate or wants a coefficient <= 0. */
static bool fit_subset(const struct problem *p, struct fit *fit)
{
    struct tt_stats_normal normal = {.k = fit->k};
    for (size_t i = 0; i < fit->k; i++) {
        for (size_t j = 0; j < fit->k; j++)
            normal.xx[i][j] = p->gram[fit->at[i]][fit->at[j]];
        normal.xy[i] = p->moment[fit->at[i]];
    }
    double beta[TT_STATS_LINEAR_MAX];
    if (tt_stats_normal_solve(&normal, beta, NULL) < 0)
        return false;
    for (size_t i = 0; i < fit->k; i++) {
        if (!(beta[i] > 0))
            return false;
        fit->beta[i] = beta[i];
    }
    fit->rss = 0;
    for (size_t i = 0; i < p->n; i++) {
        double e = p->point[i].units - p->point[i].ops * rate_of(p, fit, p->point[i].x);
        fit->rss += e * e / p->variance[i];
    }
    return true;
}

/* The next subset of at most TT_STATS_LAW_TERMS of `bases` in lexical order: {0}, {0,1}, {0,1,2},
 * {0,1,3}, ... Start with k = 0; false at the end. */
static bool next_subset(struct fit *fit, size_t bases)
{
    size_t last = fit->k ? fit->at[fit->k - 1] : 0;
    if (fit->k < TT_STATS_LAW_TERMS && (fit->k == 0 || last + 1 < bases)) {
        fit->at[fit->k] = fit->k ? last + 1 : 0;
        fit->k++;
        return true;
    }
    while (fit->k > 0) {
        if (++fit->at[fit->k - 1] < bases)
            return true;
        fit->k--;
    }
    return false;
}

static bool better(const struct fit *a, const struct fit *b)
{
    if (fabs(a->ebic - b->ebic) > 1e-9)
        return a->ebic < b->ebic;
    return a->k != b->k ? a->k < b->k : a->rss < b->rss;
}

static bool contains(const struct fit *larger, const struct fit *smaller)
{
    size_t found = 0;
    for (size_t i = 0; i < smaller->k; i++)
        for (size_t j = 0; j < larger->k; j++)
            found += larger->at[j] == smaller->at[i];
    return found == smaller->k;
}

/* Overdispersion that the best fit of any size leaves, >= 1. */
static double overdispersion(const struct problem *p)
{
    double least = INFINITY;
    struct fit fit = {0};
    while (next_subset(&fit, p->bases))
        if (p->n > fit.k && fit_subset(p, &fit))
            least = fmin(least, fit.rss / (double)(p->n - fit.k));
    return p->n > TT_STATS_LAW_TERMS + 1 && isfinite(least) ? fmax(1, least) : 1;
}

/* Best subset; with `kept`, also the `room` best ones in order (*n_kept of them). */
static struct fit search(const struct problem *p, struct fit *kept, size_t room, size_t *n_kept)
{
    double phi = overdispersion(p);
    double price = log((double)p->n) + 2 * log((double)p->bases);
    struct fit fit = {0}, best = {.ebic = INFINITY};
    *n_kept = 0;
    while (next_subset(&fit, p->bases)) {
        if (!fit_subset(p, &fit))
            continue;
        fit.ebic = fit.rss / phi + (double)fit.k * price;
        if (best.k == 0 || better(&fit, &best))
            best = fit;
        if (!kept)
            continue;
        size_t place = *n_kept;
        while (place > 0 && better(&fit, &kept[place - 1]))
            place--;
        if (place == room)
            continue;
        size_t moved = (*n_kept < room ? *n_kept : room - 1) - place;
        memmove(&kept[place + 1], &kept[place], moved * sizeof *kept);
        kept[place] = fit;
        if (*n_kept < room)
            ++*n_kept;
    }
    return best;
}

/* Points predicted within the slack; *log_chance is ln of the probability that Poisson counts of
 * the same means would all be that close (normal approximation). */
static size_t held_points(const struct problem *p, const struct tt_stats_law *law,
                          double *log_chance)
{
    size_t held = 0;
    *log_chance = 0;
    for (size_t i = 0; i < p->n; i++) {
        const struct tt_stats_law_point *point = &p->point[i];
        double f = tt_stats_law_at(law, point->x), mu = point->ops * f;
        double bound = p->options.slack_ops * fmax(1, f);
        held += fabs(point->units - mu) <= bound + 1e-6;
        if (mu > 0)
            *log_chance += log(erf((bound + 0.5) / sqrt(2 * mu)));
    }
    return held;
}

/* Exact mode: rounds all coefficients to the coarsest common fraction that predicts every point. */
static void snap(const struct problem *p, struct tt_stats_law *law)
{
    double log_chance;
    for (int den = 1; den <= 12; den++) {
        struct tt_stats_law tried = *law;
        bool vanished = false;
        for (size_t i = 0; i < tried.n_terms; i++) {
            tried.term[i].coefficient = round(law->term[i].coefficient * den) / den;
            vanished = vanished || tried.term[i].coefficient == 0;
        }
        if (vanished || held_points(p, &tried, &log_chance) < p->n)
            continue;
        if (log_chance < log(0.01)) {
            tried.exact = true;
            *law = tried;
        }
        break;
    }
    law->held = held_points(p, law, &log_chance);
}

static void describe(const struct problem *p, const struct fit *fit, struct tt_stats_law *law)
{
    *law = (struct tt_stats_law){.n_terms = fit->k, .ebic = fit->ebic};
    for (size_t i = 0; i < fit->k; i++) {
        const struct basis *basis = &p->basis[fit->at[i]];
        law->term[i] = (struct tt_stats_law_term){basis->kind, basis->knot, fit->beta[i]};
    }
    if (p->options.exact) {
        snap(p, law);
    } else {
        for (size_t i = 0; i < p->n; i++) {
            double mu = p->point[i].ops * tt_stats_law_at(law, p->point[i].x);
            law->held += fabs(p->point[i].units - mu) <= 3 * sqrt(p->variance[i]);
        }
    }
    double ops = 0, units = 0, total = 0, left = 0;
    for (size_t i = 0; i < p->n; i++) {
        ops += p->point[i].ops;
        units += p->point[i].units;
    }
    for (size_t i = 0; i < p->n; i++) {
        double y = p->point[i].units / p->point[i].ops, w = p->point[i].ops;
        double e = y - tt_stats_law_at(law, p->point[i].x);
        total += w * (y - units / ops) * (y - units / ops);
        left += w * e * e;
    }
    law->r2 = law->exact && left >= total ? 1 : total > 0 ? 1 - left / total : 0;
}

/* First reason why the data cannot settle the law. */
static enum tt_stats_law_why doubt(const struct problem *p, const struct tt_stats_law_fit *out)
{
    double units = 0;
    for (size_t i = 0; i < p->n; i++)
        units += p->point[i].units;
    if (p->levels < 4)
        return TT_STATS_LAW_FEW_LEVELS;
    for (size_t t = 0; t < out->best.n_terms; t++) {
        if (out->best.term[t].basis != TT_STATS_BASIS_HINGE)
            continue;
        size_t below = 0;
        while (below < p->levels && p->level[below] <= out->best.term[t].knot)
            below++;
        if (below < 2 || p->levels - below < 2)
            return TT_STATS_LAW_KNOT_SIDE;
    }
    if (out->n_rivals > 0)
        return TT_STATS_LAW_RIVALS_FIT;
    double followed = p->options.exact ? units : units * p->options.inclusion;
    if (!out->best.exact && followed < 150)
        return TT_STATS_LAW_FEW_UNITS;
    return TT_STATS_LAW_IDENTIFIED;
}

int tt_stats_law_hinge(const struct tt_stats_law_point *points, size_t n,
                       const struct tt_stats_law_options *options, struct tt_stats_law_fit *out)
{
    enum { ROOM = 64 };
    struct fit kept[ROOM];
    size_t n_kept;
    memset(out, 0, sizeof *out);
    if (n < 2 || n > MAX_POINTS)
        return -EINVAL;
    for (size_t i = 0; i < n; i++)
        if (!(points[i].x >= 0) || !(points[i].ops > 0) || !(points[i].units >= 0))
            return -EINVAL;
    struct problem p = {.point = points, .n = n, .options = *options};
    p.options.slack_ops = fmax(1, options->slack_ops);
    if (options->exact || !(options->inclusion > 0))
        p.options.inclusion = 1;
    choose_bases(&p);
    out->levels = p.levels;

    set_variance(&p, NULL);
    if (!options->exact) {
        struct fit first = search(&p, NULL, 0, &n_kept);
        set_variance(&p, first.k ? &first : NULL);
    }
    struct fit best = search(&p, kept, ROOM, &n_kept);
    if (best.k == 0) {
        out->why = TT_STATS_LAW_FEW_UNITS;
        return 0;
    }
    describe(&p, &best, &out->best);
    for (size_t i = 0; i < n_kept && out->n_rivals < TT_STATS_LAW_RIVALS; i++)
        if (kept[i].ebic < best.ebic + RIVAL_DISTANCE && !contains(&kept[i], &best))
            describe(&p, &kept[i], &out->rival[out->n_rivals++]);
    out->why = doubt(&p, out);
    out->identifiable = out->why == TT_STATS_LAW_IDENTIFIED;
    return 0;
}
