/* SPDX-License-Identifier: Apache-2.0 */
/* Do retained births go on with what the process does, or do they slow down as a table, a pool or a
 * cache fills (METHODS 2.3 iv)? A power law Lambda(n) = a n^beta on the best clock there is:
 * declared operations; else the busiest counted function on the site's own stack, unless its count
 * is the site's own births in other words; else active time and the traffic of the rest of the
 * process. Clocks that nobody declared count only while they reach to the end of the active time:
 * input that a program reads once, at a steady pace, is no leak. Start: tt_judge_trend. */
#include "judge/clock.h"

#include <math.h>

#define GROUPS 40u
#define MIN_GROUPS 4u
#define MIN_DUE 10.0
#define MIN_EVENTS 20.0
#define MIN_OPS 20.0
#define MIN_TRAFFIC 100.0 /* births elsewhere, and half as many as here */
#define LATE 0.1          /* the second opinion leaves out the first tenth of the clock */
#define REACH 0.6
#define MAYBE_STEADY 0.8

struct events {
    double edge[GROUPS + 1], count[GROUPS]; /* seconds; weighted */
    unsigned n;                             /* groups */
    double from, to, total, last;
    double until, young; /* live units born from `to` until the end, younger than the horizon */
};

/* Edges at equal times, or at epochs: counts are known there, and reading them in between would
 * blame the site for what the clock did between two epochs. */
static void place_edges(const struct tt_dossiers *all, struct events *e, bool at_epochs)
{
    const double *grid = all->grid.data;
    size_t first = 0, end;
    while (first < all->grid.len && grid[first] <= e->from)
        first++;
    for (end = first; end < all->grid.len && grid[end] <= e->to; end++)
        ;
    size_t inside = end - first;
    e->edge[0] = e->from;
    if (at_epochs && inside < MIN_GROUPS)
        return; /* n = 0: no opinion */
    if (!at_epochs) {
        e->n = GROUPS;
        for (unsigned g = 1; g <= GROUPS; g++)
            e->edge[g] = e->from + (e->to - e->from) * g / GROUPS;
        return;
    }
    e->n = inside < GROUPS ? (unsigned)inside : GROUPS;
    for (unsigned g = 1; g <= e->n; g++)
        e->edge[g] = grid[first + g * inside / e->n - 1];
}

static void gather(const struct tt_dossiers *all, const struct tt_dossier *d, bool at_epochs,
                   struct events *e)
{
    /* Units past the horizon where the recording is long enough to have some, else all live ones.
     */
    bool aged = d->retained.units >= MIN_EVENTS;
    uint32_t min_age = aged ? all->horizon_ticks : 0;
    *e = (struct events){.from = INFINITY, .until = fmin(d->until, d->exhausted)};
    e->to = fmin(d->until - (aged ? all->horizon : 0), d->exhausted);
    for (size_t i = 0; i < d->units.len; i++)
        if (d->units.data[i].age >= min_age)
            e->from = fmin(e->from, d->units.data[i].tick / TT_STATS_TICKS_PER_SECOND);
    if (d->by_series) { /* born in the interval that ends there */
        double start = 0;
        for (size_t k = 0; k < all->grid.len && all->grid.data[k] < e->from; k++)
            start = all->grid.data[k];
        e->from = fmin(e->from, start);
    }
    if (!(e->to > e->from))
        return;
    place_edges(all, e, at_epochs);
    unsigned g = 0;
    for (size_t i = 0; i < d->units.len; i++) { /* ascending ticks */
        const struct tt_unit *u = &d->units.data[i];
        double t = u->tick / TT_STATS_TICKS_PER_SECOND;
        if (u->age < min_age) {
            e->young += (double)u->count * u->weight;
            continue;
        }
        while (g < e->n && t >= e->edge[g + 1])
            g++;
        e->total += (double)u->count * u->weight;
        e->last = fmax(e->last, t);
        if (g < e->n)
            e->count[g] += (double)u->count * u->weight;
    }
}

struct opinion {
    bool usable;
    double reach; /* share of the clock by which the last kept unit was born */
    enum tt_stats_trend_class class;
    struct tt_stats_trend full, late;
};

/* Are kept units still being born since the last ones that could reach the horizon? A pool that
 * grew for a while and then stopped looks steady until then. */
static bool keeps_up(const struct tt_clock *clock, const struct events *e)
{
    double before = tt_clock_at(clock, e->to) - tt_clock_at(clock, e->from);
    double since = tt_clock_at(clock, e->until) - tt_clock_at(clock, e->to);
    double due = before > 0 ? e->total * since / before : 0;
    return due < MIN_DUE || e->young >= due / 2;
}

static double reach(const struct tt_clock *clock, const struct events *e)
{
    double from = tt_clock_at(clock, e->from), to = tt_clock_at(clock, e->to);
    return to > from ? (tt_clock_at(clock, e->last) - from) / (to - from) : 0;
}

static struct opinion ask(const struct tt_clock *clock, const struct events *e)
{
    struct opinion o = {0};
    if (!e->n)
        return o;
    double edge[GROUPS + 1];
    double zero = tt_clock_at(clock, fmax(e->from, clock->since));
    unsigned first = 0;
    for (unsigned g = 0; g <= e->n; g++) {
        edge[g] = fmax(0, tt_clock_at(clock, e->edge[g]) - zero);
        if (e->edge[g] < clock->since)
            first = g + 1;
    }
    double end = edge[e->n];
    if (!(end > 0) || first + MIN_GROUPS > e->n || first > e->n / 2)
        return o; /* too little of it, or counted too late */
    o.usable = true;
    o.reach = reach(clock, e);
    tt_stats_trend_power_law_grouped(edge + first, e->count + first, e->n - first, 0.95, &o.full);
    unsigned late = first;
    while (late + MIN_GROUPS < e->n && edge[late] < LATE * end)
        late++;
    tt_stats_trend_power_law_grouped(edge + late, e->count + late, e->n - late, 0.95, &o.late);
    o.class = o.full.class;
    bool goes_on = o.late.class == TT_STATS_TREND_STEADY && o.late.events >= MIN_EVENTS;
    if (goes_on && o.class != TT_STATS_TREND_ACCELERATING)
        o.class = TT_STATS_TREND_STEADY;
    if (!keeps_up(clock, e))
        o.class = TT_STATS_TREND_SATURATING;
    return o;
}

/* Few events leave the interval wide: then an exponent that may well be 1 is enough. (Of power laws
 * with exponent 0.7 and 100 events 2 in 100 pass, of those with 0.5 and 20 events 3.) */
static bool goes_on(const struct opinion *o)
{
    return o->usable &&
           (o->class == TT_STATS_TREND_STEADY || o->class == TT_STATS_TREND_ACCELERATING ||
            (o->class == TT_STATS_TREND_UNDETERMINED && o->full.beta >= MAYBE_STEADY &&
             o->full.interval.hi >= 1));
}

static void take(struct tt_dossier *d, const struct opinion *o, const char *clock)
{
    d->trend.class = o->class;
    d->trend.goes_on = goes_on(o);
    d->trend.full = o->full;
    d->trend.late = o->late;
    d->trend.clock = clock;
}

/* A clock that ticks exactly with the site's births says nothing about them. */
static bool repeats_births(const struct tt_dossiers *all, const struct tt_dossier *d,
                           const struct tt_clock *clock)
{
    struct tt_stats_ratio ratio;
    size_t n = all->grid.len;
    return n > 1 && d->grid_births &&
           tt_stats_law_ratio(clock->value, d->grid_births, n - 1, 2, 0.95, &ratio) == 0 &&
           ratio.exact;
}

/* The busiest declared (or own-stack) operation of the dossier's processes. */
static int ask_operations(const struct tt_dossiers *all, const struct tt_dossier *d,
                          const struct events *e, bool declared, struct opinion *best)
{
    double busiest = 0;
    for (size_t i = 0; i < all->c->operations.len; i++) {
        const struct tt_case_operation *op = &all->c->operations.data[i];
        if (op->declared != declared || !tt_dossier_in(all, d, op->process) ||
            (!declared && tt_clock_frame(all, d, op) < 0))
            continue;
        struct tt_clock clock;
        int rc = tt_clock_open(all, &clock);
        if (rc)
            return rc;
        tt_clock_add_operation(&clock, op);
        double count = tt_clock_at(&clock, e->to) - tt_clock_at(&clock, e->from);
        if (count >= MIN_OPS && count > busiest && (declared || !repeats_births(all, d, &clock))) {
            struct opinion o = ask(&clock, e);
            if (o.usable) {
                *best = o;
                busiest = count;
            }
        }
        tt_clock_close(&clock);
    }
    return 0;
}

/* Without operations: the traffic of the rest of the process stands in for them where it has a
 * clear opinion, since a load that decays or rises bends the clock of time. Where the two
 * contradict each other the safe side is not to know. */
static void weigh_clocks(struct tt_dossier *d, const struct opinion *by_time,
                         const struct opinion *by_traffic)
{
    bool traffic_clear = by_traffic->usable && by_traffic->class != TT_STATS_TREND_UNDETERMINED;
    bool time_steady =
        by_time->class == TT_STATS_TREND_STEADY || by_time->class == TT_STATS_TREND_ACCELERATING;
    take(d, traffic_clear ? by_traffic : by_time, traffic_clear ? "traffic" : "time");
    if (traffic_clear && by_traffic->class == TT_STATS_TREND_SATURATING && time_steady)
        d->trend.class = TT_STATS_TREND_UNDETERMINED;
    if (!traffic_clear && by_traffic->usable)
        d->trend.goes_on =
            time_steady || (goes_on(by_traffic) && by_time->class != TT_STATS_TREND_SATURATING);
}

int tt_judge_trend(const struct tt_dossiers *all, struct tt_dossier *d)
{
    struct events e, by_epoch;
    gather(all, d, false, &e);
    gather(all, d, true, &by_epoch);
    d->trend.clock = "time";
    d->trend.class = TT_STATS_TREND_UNDETERMINED;
    d->trend.full.beta = d->trend.late.beta = NAN;
    if (!(e.to > e.from) || !d->grid_births || d->births < MIN_EVENTS)
        return 0;
    struct tt_clock active = {0}, traffic = {0};
    struct opinion declared = {0}, stack = {0}, by_time = {0}, by_traffic = {0};
    int rc = tt_clock_open(all, &active);
    if (!rc)
        rc = tt_clock_open(all, &traffic);
    if (!rc)
        rc = ask_operations(all, d, &by_epoch, true, &declared);
    if (!rc)
        rc = ask_operations(all, d, &by_epoch, false, &stack);
    if (rc)
        goto out;
    tt_clock_active(&active, d);
    tt_clock_traffic(&traffic, d);
    by_time = ask(&active, &e);
    double made = tt_clock_at(&traffic, by_epoch.to) - tt_clock_at(&traffic, by_epoch.from);
    if (made >= fmax(MIN_TRAFFIC, by_epoch.total / 2))
        by_traffic = ask(&traffic, &by_epoch);
    d->trend.reach = reach(&active, &e);

    if (declared.usable) {
        take(d, &declared, "declared");
        d->trend.reach = declared.reach; /* births that end with the operations are not over */
    } else if (d->trend.reach < REACH) {
        take(d, &by_time, "time");
        if (d->trend.goes_on)
            d->trend.class = TT_STATS_TREND_UNDETERMINED;
        d->trend.goes_on = false;
    } else if (stack.usable) {
        take(d, &stack, "stack");
    } else {
        weigh_clocks(d, &by_time, &by_traffic);
    }
    if (e.total < MIN_EVENTS) {
        d->trend.goes_on = false;
        if (d->trend.class != TT_STATS_TREND_SATURATING)
            d->trend.class = TT_STATS_TREND_UNDETERMINED;
    }
out:
    tt_clock_close(&active);
    tt_clock_close(&traffic);
    return rc;
}
