/* SPDX-License-Identifier: Apache-2.0 */
/* The operation clock: which operation explains the lost units, and how many each loses. Asked are
 * declared operations, functions counted on the site's own stack, and - as in exact mode every site
 * counts the entries of its function for nothing - the births of all other sites. A small exact
 * ratio that holds in every interval beats everything; then what people declared beats what we
 * found, and the handler nearest to the request beats helpers. Start: tt_judge_rate. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "judge/clock.h"

#define MIN_OPS 5.0
#define EDGE_SECONDS                                                                               \
    0.25 /* birth ticks and epochs are this far apart at most: operations in flight */
#define MAX_SLACK 64.0
#define NAMED 64u /* exact site candidates that are looked up by name */

/* The intervals in which lost units and operations are compared. */
struct window {
    const struct tt_dossiers *all;
    const struct tt_dossier *d;
    size_t n; /* points */
    double *t, *ops;
    /* Lost units so far, in two readings: by their birth ticks, and as the least that the live
     * count falls to from then on. The first knows which units are lost, but dates them to a tick;
     * the second is read at the same moment as the operations, but counts units in flight. */
    double *lost[2];
};

struct candidate {
    int rank; /* 0 none */
    struct tt_operation_ref ref;
    struct tt_stats_ratio ratio;
    double ops;
    long frame;
};

static int open_window(const struct tt_dossiers *all, const struct tt_dossier *d, struct window *w)
{
    size_t n = all->grid.len, room = n + 1;
    *w = (struct window){.all = all, .d = d};
    w->t = calloc(4 * room, sizeof *w->t);
    if (!w->t)
        return -ENOMEM;
    w->ops = w->t + room;
    w->lost[0] = w->t + 2 * room;
    w->lost[1] = w->t + 3 * room;
    double to = d->until - d->horizon, least = d->live;
    for (size_t k = 0; k < n; k++)
        if (all->grid.data[k] <= to)
            w->t[w->n++] = all->grid.data[k];
    for (size_t i = 0; i < d->units.len; i++) {
        const struct tt_unit *u = &d->units.data[i];
        for (size_t k = w->n; k-- > 0;) {
            double into = w->t[k] * TT_STATS_TICKS_PER_SECOND - u->tick;
            if (into <= 0)
                break;
            w->lost[0][k] += (double)u->count * u->weight * fmin(into, 1);
        }
    }
    for (size_t k = n; d->grid_births && k-- > 0;) {
        if (all->grid.data[k] <= d->until)
            least = fmin(least, tt_dossier_live(d, k));
        if (k < w->n)
            w->lost[1][k] = least;
    }
    return 0;
}

/* Slack grows only as far as it must: the tighter it is, the fewer losses prove exactness. */
static bool fit(const struct window *w, double since, struct tt_stats_ratio *ratio, double *ops)
{
    size_t first = 0;
    while (first < w->n && w->t[first] < since)
        first++;
    if (first && w->d->retained.first + 1 / TT_STATS_TICKS_PER_SECOND >= since)
        first--; /* nothing was lost before counting began: count from the epoch before */
    if (w->n - first < 2 || w->n < 2)
        return false;
    size_t m = w->n - first - 1;
    *ops = w->ops[w->n - 1] - w->ops[first];
    double peak = 0;
    for (size_t k = first + 1; k < w->n; k++)
        peak = fmax(peak, (w->ops[k] - w->ops[k - 1]) / (w->t[k] - w->t[k - 1]));
    double most = fmin(MAX_SLACK, 1 + peak * EDGE_SECONDS);
    bool known = false;
    /* NOLINTNEXTLINE(clang-analyzer-security.FloatLoopCounter): powers of two are exact */
    for (double slack = 1; slack <= fmax(1, most); slack *= 2)
        for (size_t reading = 0; reading < 2; reading++) {
            struct tt_stats_ratio tried;
            if (tt_stats_law_ratio(w->ops + first, w->lost[reading] + first, m, slack, 0.95,
                                   &tried))
                continue;
            if (tried.exact || !known)
                *ratio = tried;
            known = true;
            if (tried.exact)
                return *ops >= MIN_OPS;
        }
    return known && *ops >= MIN_OPS;
}

static bool better(const struct candidate *a, const struct candidate *b)
{
    if (a->rank != b->rank)
        return a->rank > b->rank;
    if (a->ref.kind == TT_OP_STACK && a->frame != b->frame)
        return a->frame > b->frame;
    return a->ops > b->ops;
}

/* Code of the C++ library that the compiler placed in the program: helpers, never operations. */
static bool is_library(const char *function)
{
    static const char *const prefixes[] = {"std::", "__gnu_cxx::", "operator "};
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++)
        if (strncmp(function, prefixes[i], strlen(prefixes[i])) == 0)
            return true;
    return false;
}

/* The innermost frame of the program itself on a site's stack: not strdup, not operator new. -1
 * when all of it lies in libraries. */
static long own_frame(const struct tt_dossiers *all, const struct tt_dossier *d)
{
    const struct tt_case_stack *stack = tt_case_stack(all->c, d->process, d->stack);
    for (size_t i = 0; stack && i < stack->n; i++) {
        char name[160];
        const struct tt_case_module *m = tt_case_module(all->c, d->process, stack->pc[i]);
        if (m && strcmp(m->path, all->c->processes.data[d->process].exe) == 0 &&
            !is_library(tt_dossier_function(all, d->process, stack->pc[i], name)))
            return (long)i;
    }
    return -1;
}

static bool own_function(const struct tt_dossiers *all, const struct tt_dossier *d, char buf[160])
{
    long i = own_frame(all, d);
    const struct tt_case_stack *stack = tt_case_stack(all->c, d->process, d->stack);
    return i >= 0 && tt_dossier_function(all, d->process, stack->pc[i], buf)[0];
}

/* "allocation at handle (server.c:31)": what such a clock counts is the allocation. That it is
 * every entry of the function can only be known by counting those. */
static void name_site(const struct tt_dossiers *all, const struct tt_dossier *d, char *buf,
                      size_t size)
{
    char place[160] = "";
    const struct tt_case_stack *stack = tt_case_stack(all->c, d->process, d->stack);
    uint64_t pc = stack->pc[own_frame(all, d)];
    const char *full =
        all->name(all->name_arg, all->session, all->c->processes.data[d->process].id, pc);
    const char *at = strrchr(full, '@');
    if (at) {
        const char *base = strrchr(at, '/');
        snprintf(place, sizeof place, " (%.100s)", base ? base + 1 : at + 1);
    }
    char name[160];
    tt_dossier_function(all, d->process, pc, name);
    snprintf(buf, size, "allocation at %.60s%.80s", name, place);
}

static void try_operations(struct window *w, struct candidate *best)
{
    const struct tt_case *c = w->all->c;
    for (size_t i = 0; i < c->operations.len; i++) {
        const struct tt_case_operation *op = &c->operations.data[i];
        long frame = op->declared ? 0 : tt_clock_frame(w->all, w->d, op);
        if (!tt_dossier_in(w->all, w->d, op->process) || frame < 0)
            continue;
        double since = 0;
        memset(w->ops, 0, w->n * sizeof *w->ops);
        /* the same operation in all processes of the dossier */
        for (size_t j = 0; j < c->operations.len; j++) {
            const struct tt_case_operation *same = &c->operations.data[j];
            if (same->declared != op->declared || strcmp(same->name, op->name) != 0 ||
                !tt_dossier_in(w->all, w->d, same->process))
                continue;
            for (size_t k = 0; k < w->n; k++)
                w->ops[k] += tt_case_operation_at(same, w->t[k]);
            since = fmax(since, same->since);
        }
        struct candidate x = {.frame = frame};
        if (!fit(w, since, &x.ratio, &x.ops))
            continue;
        bool whole = x.ratio.exact && x.ratio.denominator == 1;
        if (op->declared)
            x.rank = x.ratio.exact ? 100 : 90;
        else if (frame <= own_frame(w->all, w->d) && whole && x.ratio.numerator == 1)
            x.rank = 20; /* "one per allocation" explains nothing, if there is anything else */
        else
            x.rank = whole ? 70 : x.ratio.exact ? 50 : 30;
        x.ref.kind = op->declared ? TT_OP_DECLARED : TT_OP_STACK;
        snprintf(x.ref.name, sizeof x.ref.name, "%s", op->name[0] ? op->name : op->function);
        if (better(&x, best))
            *best = x;
    }
}

static bool every_unit_seen(const struct tt_dossiers *all, const struct tt_dossier *d)
{
    for (size_t i = 0; i < d->members.len; i++) {
        const struct tt_case_site *s = &all->c->sites.data[d->members.data[i].site];
        if (s->thin || tt_case_sample_mean(all->c, s) > 0)
            return false;
    }
    return true;
}

static int by_value(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    return better(x, y) ? -1 : better(y, x) ? 1 : 0;
}

static bool on_stack(const struct tt_dossiers *all, const struct tt_dossier *d,
                     const char *function)
{
    const struct tt_case_stack *stack = tt_case_stack(all->c, d->process, d->stack);
    for (size_t i = 0; stack && i < stack->n; i++) {
        char name[160];
        if (strcmp(tt_dossier_function(all, d->process, stack->pc[i], name), function) == 0)
            return true;
    }
    return false;
}

/* A site counts the entries of its function only if no other site of that function made more: an
 * allocation on a rare branch does not. Takes the best candidate that does; of several that run as
 * often, one that is on the stack of the lost units. */
static int name_best(const struct window *w, const struct candidate *exact, size_t n,
                     struct candidate *best)
{
    char name[160];
    uint64_t *function = calloc(w->all->list.len, sizeof *function);
    if (!function)
        return -ENOMEM;
    for (size_t i = 0; i < w->all->list.len; i++)
        if (own_function(w->all, &w->all->list.data[i], name))
            function[i] = tt_map_hash(name, strlen(name));
    long chosen = -1;
    for (size_t i = 0; i < n && i < NAMED && better(&exact[i], best); i++) {
        if (chosen >= 0 &&
            (exact[i].rank < exact[chosen].rank || exact[i].ops < 0.98 * exact[chosen].ops))
            break;
        size_t at = exact[i].ref.dossier;
        bool counts = own_function(w->all, &w->all->list.data[at], name);
        for (size_t k = 0; counts && k < w->all->list.len; k++)
            counts = function[k] != function[at] ||
                     w->all->list.data[k].births <= 1.02 * w->all->list.data[at].births;
        if (!counts)
            continue;
        bool around = on_stack(w->all, w->d, name);
        if (chosen < 0 || around)
            chosen = (long)i;
        if (around)
            break;
    }
    if (chosen >= 0) {
        *best = exact[chosen];
        name_site(w->all, &w->all->list.data[best->ref.dossier], best->ref.name,
                  sizeof best->ref.name);
    }
    free(function);
    return 0;
}

static int try_sites(struct window *w, struct candidate *best)
{
    TT_VEC(struct candidate) exact = {0};
    int rc = 0;
    for (size_t i = 0; !rc && i < w->all->list.len; i++) {
        const struct tt_dossier *other = &w->all->list.data[i];
        if (other == w->d || !other->grid_births || !other->stack ||
            !tt_dossier_in(w->all, w->d, other->process) || !every_unit_seen(w->all, other))
            continue;
        struct tt_clock births;
        rc = tt_clock_open(w->all, &births);
        if (rc)
            break;
        tt_clock_add_births(&births, other);
        for (size_t k = 0; k < w->n; k++)
            w->ops[k] = tt_clock_at(&births, w->t[k]);
        tt_clock_close(&births);
        struct candidate x = {.ref = {.kind = TT_OP_SITE, .dossier = i}};
        if (!fit(w, 0, &x.ratio, &x.ops) || !x.ratio.exact)
            continue;
        x.rank = x.ratio.denominator == 1 ? 60 : 40;
        rc = tt_vec_push(&exact, x);
    }
    if (!rc && exact.len) {
        qsort(exact.data, exact.len, sizeof *exact.data, by_value);
        rc = name_best(w, exact.data, exact.len, best);
    }
    tt_vec_free(&exact);
    return rc;
}

static void write_rate(const struct tt_dossier *d, const struct candidate *best,
                       struct tt_rate *rate)
{
    double span = d->retained.last - d->retained.first;
    if (d->retained.units > 0 && span > 0) {
        struct tt_stats_interval k = tt_stats_garwood(d->retained.followed, 0.95);
        double per_followed = d->retained.units / d->retained.followed / span;
        rate->per_second = d->retained.units / span;
        rate->per_second_interval = (struct tt_interval){k.lo * per_followed, k.hi * per_followed};
    }
    if (!best->rank)
        return;
    static const char *const sources[] = {[TT_OP_NONE] = "",
                                          [TT_OP_DECLARED] = "declared",
                                          [TT_OP_STACK] = "stack",
                                          [TT_OP_SITE] = "site"};
    const struct tt_stats_ratio *r = &best->ratio;
    rate->has_operation = true;
    rate->operation_source = sources[best->ref.kind];
    snprintf(rate->operation, sizeof rate->operation, "%.150s%s", best->ref.name,
             best->ref.kind != TT_OP_STACK || strchr(best->ref.name, '(') ? "" : "()");
    rate->operations = best->ops;
    rate->exact = r->exact;
    rate->per_operation = r->exact ? (double)r->numerator / r->denominator : r->ratio;
    rate->per_operation_interval =
        r->exact ? (struct tt_interval){rate->per_operation, rate->per_operation}
                 : (struct tt_interval){r->interval.lo, r->interval.hi};
    if (d->retained.units > 0)
        rate->bytes_per_operation = rate->per_operation * d->retained.bytes / d->retained.units;
    rate->intervals_held = r->held;
    rate->intervals = r->intervals;
}

int tt_judge_rate(const struct tt_dossiers *all, const struct tt_dossier *d, struct tt_rate *rate,
                  struct tt_operation_ref *op)
{
    struct window w;
    struct candidate best = {0};
    int rc = open_window(all, d, &w);
    if (!rc && w.n >= 2) {
        try_operations(&w, &best);
        rc = try_sites(&w, &best);
    }
    *rate = (struct tt_rate){.operation_source = ""};
    *op = best.ref;
    write_rate(d, &best, rate);
    free(w.t);
    return rc;
}

double tt_judge_operations(const struct tt_dossiers *judged, const struct tt_operation_ref *op,
                           const struct tt_dossiers *other, double horizon)
{
    double sum = 0;
    bool known = false;
    const struct tt_case *c = other->c;
    for (size_t i = 0; op->kind != TT_OP_SITE && i < c->operations.len; i++) {
        const struct tt_case_operation *same = &c->operations.data[i];
        if (strcmp(op->name, same->name) != 0 && strcmp(op->name, same->function) != 0)
            continue;
        known = true;
        sum += tt_case_operation_at(same, tt_dossier_end(c, same->process) - horizon);
    }
    for (size_t i = 0; op->kind == TT_OP_SITE && i < other->list.len; i++) {
        const struct tt_dossier *d = &other->list.data[i];
        if (!tt_dossier_same(judged, &judged->list.data[op->dossier], other, d))
            continue;
        known = true;
        for (size_t m = 0; m < d->members.len; m++) {
            const struct tt_case_site *s = &c->sites.data[d->members.data[m].site];
            sum += tt_case_at(s, tt_dossier_end(c, s->process) - horizon).births;
        }
    }
    return known ? sum : -1;
}

long tt_judge_operation_site(const struct tt_dossiers *all, const struct tt_dossier *d,
                             const struct tt_operation_ref *op)
{
    if (op->kind == TT_OP_SITE)
        return (long)op->dossier;
    if (op->kind == TT_OP_NONE)
        return -1;
    struct tt_clock ops = {0}, births = {0};
    long best = -1;
    bool best_named = false;
    double best_size = 0;
    if (tt_clock_open(all, &ops) || tt_clock_open(all, &births))
        goto out;
    const char *function = op->name;
    for (size_t i = 0; i < all->c->operations.len; i++) {
        const struct tt_case_operation *same = &all->c->operations.data[i];
        if (strcmp(same->name, op->name) != 0 || !tt_dossier_in(all, d, same->process))
            continue;
        tt_clock_add_operation(&ops, same);
        function = same->function;
    }
    size_t n = all->grid.len, first = 0;
    while (first < n && all->grid.data[first] < ops.since)
        first++;
    for (size_t i = 0; i < all->list.len && first + 2 < n; i++) {
        const struct tt_dossier *other = &all->list.data[i];
        struct tt_stats_ratio ratio;
        char name[160];
        if (other == d || !other->grid_births || !tt_dossier_in(all, d, other->process))
            continue;
        memset(births.value, 0, n * sizeof *births.value);
        tt_clock_add_births(&births, other);
        if (tt_stats_law_ratio(ops.value + first, births.value + first, n - first - 1, 2, 0.95,
                               &ratio) ||
            !ratio.exact || ratio.numerator != 1 || ratio.denominator != 1 ||
            !own_function(all, other, name))
            continue;
        /* the function's own record, else the largest thing made once per operation */
        bool named = strcmp(name, function) == 0;
        double size = other->birth_bytes / other->births;
        if (best >= 0 && (best_named > named || (best_named == named && size <= best_size)))
            continue;
        best = (long)i;
        best_named = named;
        best_size = size;
    }
out:
    tt_clock_close(&ops);
    tt_clock_close(&births);
    return best;
}
