/* SPDX-License-Identifier: Apache-2.0 */
/* The evidence of one dossier becomes a verdict. Rules stand in one table, asked in order; the
 * first that holds decides. "Leak" needs everything at once: units that outlive the horizon beyond
 * the false-discovery bound, no sign that older ones die, births that go on with the operations, in
 * at least MIN_SLICES separate moments. What remains growing without that is undetermined, and says
 * what would decide it. A program whose work ends with its exit (a compiler, an import) and that
 * keeps its units for longer than the horizon while it makes more is called retained: the verdict
 * says no more than that. Definite loss (unreachable.c) needs no horizon and stands before all
 * that; where a site keeps more than twice of what it is shown to have lost, it is called retained,
 * and both are told. Confidence of a leak is one minus the false-discovery rate at which it would
 * still stand, capped by what a short horizon can carry; that of other verdicts is a rule of thumb.
 * Start: tt_judge_weigh. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "judge/dossier.h"

#define MIN_SLICES 20u
#define MIN_RETAINED 20.0
#define VETO_SHARE 0.2 /* deaths beyond the horizon, of the units that reached it */
#define FEW 20.0       /* live units that need no explanation */
#define OVER 0.6       /* births are over: none in the rest of the active time */
#define NEARLY_ALL 0.95
#define AT_ONCE 0.05
#define REACHED 0.9        /* of a limit */
#define ABANDONED 0.9      /* confidence when the kernel says that the peer has gone */
#define SHORT_PROCESS 0.25 /* of the recording */
#define AT_BOUND                                                                                   \
    0.02               /* variance of the live count over its mean; 1 by chance, 0 in a full cache \
                        */
#define ALL_DIE 0.02   /* share that outlives all observation: a population that comes and goes */
#define CAP_FULL 0.99  /* confidence at the full horizon, without controls */
#define CAP_SHORT 0.95 /* with a shortened one */
#define CAP_LOST 0.99  /* of a definite loss seen in one copy, */
#define CAP_LOST_TWICE 0.999 /* in several */

/* The live count over time, from the first birth on. */
struct shape {
    size_t from, to; /* grid points, to exclusive */
    double peak, peak_at, end, middle, late, late_variance;
    double trough_after_peak;
    double spread; /* time in which the middle eight tenths of the births fell */
};

struct view {
    const struct tt_dossiers *all;
    const struct tt_dossier *d;
    struct shape shape;
    double late_death_share; /* of units that reached the horizon, died since */
};

static struct shape shape_of(const struct tt_dossiers *all, const struct tt_dossier *d)
{
    struct shape s = {0};
    const double *t = all->grid.data;
    size_t n = all->grid.len;
    s.end = d->live;
    while (s.from < n && t[s.from] < d->first)
        s.from++;
    s.to = s.from;
    while (s.to < n && t[s.to] <= d->until)
        s.to++;
    size_t m = s.to - s.from;
    if (!d->grid_births || m == 0)
        return s;
    size_t third = m / 3 ? m / 3 : 1;
    double squares = 0, tenth = INFINITY, rest = d->until;
    for (size_t k = s.from; k < s.to; k++) {
        double live = tt_dossier_live(d, k);
        if (d->grid_births[k] >= 0.1 * d->births)
            tenth = fmin(tenth, t[k]);
        if (d->grid_births[k] >= 0.9 * d->births)
            rest = fmin(rest, t[k]);
        if (live > s.peak) {
            s.peak = s.trough_after_peak = live;
            s.peak_at = t[k];
        }
        s.trough_after_peak = fmin(s.trough_after_peak, live);
        if (k + third >= s.to) {
            s.late += live / (double)third;
            squares += live * live / (double)third;
        } else if (k + 2 * third >= s.to) {
            s.middle += live / (double)third;
        }
    }
    s.spread = fmax(0, rest - tenth);
    s.late_variance = fmax(0, squares - s.late * s.late);
    return s;
}

static double late_deaths(const struct tt_dossiers *all, const struct tt_dossier *d)
{
    double died = 0, live = 0;
    for (unsigned b = 0; b < TT_STATS_BINS; b++)
        if (tt_stats_bin_start(b) >= all->horizon_ticks)
            died += (double)d->death_bins[b];
    for (size_t i = 0; i < d->units.len; i++)
        if (d->units.data[i].age >= all->horizon_ticks)
            live += (double)d->units.data[i].count;
    return died + live > 0 ? died / (died + live) : 0;
}

/* Made all at one time: then ages at death say when the program released, not what timer ran. */
static bool at_once(const struct view *v)
{
    return v->shape.spread < AT_ONCE * (v->d->until - v->d->first);
}

static bool flat(const struct shape *s)
{
    double tolerance = fmax(3, fmax(3 * sqrt(s->middle), 0.1 * s->middle));
    return s->to - s->from >= 6 && fabs(s->late - s->middle) <= tolerance;
}

/* Live count held at a bound: far steadier than a population that comes and goes by chance. */
static bool held_at_bound(const struct view *v)
{
    const struct shape *s = &v->shape;
    return (s->to - s->from) / 3 >= 5 && s->late >= FEW && flat(s) &&
           s->late_variance <= fmax(1, AT_BOUND * s->late) && s->late >= 0.9 * s->peak;
}

/* Cumulative births at time t, linear between grid points. */
static double births_by(const struct view *v, double t)
{
    const double *grid = v->all->grid.data;
    size_t k = 1;
    while (k + 1 < v->shape.to && grid[k] < t)
        k++;
    double from = v->d->grid_births[k - 1], step = grid[k] - grid[k - 1];
    return from + (v->d->grid_births[k] - from) * fmin(1, fmax(0, t - grid[k - 1]) / step);
}

static double variance(double n, double sum, double squares)
{
    return fmax(0, squares / n - sum / n * (sum / n));
}

/* Births are as regular as a clock's, so that a steady live count says nothing. With a delay: what
 * was born within it is what lives, give or take two, whatever regularity there is. */
static bool paced(const struct view *v)
{
    const struct tt_dossier *d = v->d;
    const double *grid = v->all->grid.data;
    size_t third = (v->shape.to - v->shape.from) / 3;
    double n = 0, sum = 0, squares = 0;
    for (size_t k = v->shape.to - third; third && k < v->shape.to; k++) {
        double begin = d->delay.found ? grid[k] - d->delay.tau : grid[k - 1];
        double born = d->grid_births[k] - births_by(v, begin);
        double x = d->delay.found ? born - tt_dossier_live(d, k) : born;
        n++;
        sum += x;
        squares += x * x;
    }
    return n > 3 && variance(n, sum, squares) <
                        (d->delay.found ? 2 + AT_BOUND * v->shape.late : 0.1 * sum / n);
}

/* ---- the rules ---- */

static bool is_leak(const struct view *v, struct tt_finding *f);

static bool is_lost(const struct view *v, struct tt_finding *f)
{
    const struct tt_dossier *d = v->d;
    f->note[0] = '\0';
    if (!d->lost.holds && !d->lost.old_holds)
        return false;
    return !is_leak(v, f) || d->lost.units >= d->retained.units / 2;
}

/* Growing, and nobody looks at the units: no cache, and no table that only fills up. */
static bool is_forgotten(const struct view *v)
{
    return v->d->stale.untouched && !flat(&v->shape) && v->shape.late > v->shape.middle;
}

/* Releases pile up at an age beyond half the horizon: old units do die, just later. */
static bool timer_past_horizon(const struct view *v)
{
    return v->d->delay.found && !at_once(v) && v->d->delay.hi >= v->all->horizon / 2;
}

static bool is_leak(const struct view *v, struct tt_finding *f)
{
    const struct tt_dossier *d = v->d;
    f->note[0] = '\0';
    return d->rejected && !d->retention.veto && d->retention.beyond_seconds >= v->all->horizon &&
           d->retained.slices >= MIN_SLICES && d->retained.followed >= MIN_RETAINED &&
           v->late_death_share < VETO_SHARE && !timer_past_horizon(v) && d->trend.goes_on &&
           d->stack != 0;
}

/* Sockets whose peer has gone and children that have ended, ever more of them (state.c). */
static bool is_abandoned(const struct view *v, struct tt_finding *f)
{
    f->note[0] = '\0';
    return v->d->state.holds;
}

static bool is_released(const struct view *v, struct tt_finding *f)
{
    const struct tt_dossier *d = v->d;
    if (d->live >= 1 || d->delay.found)
        return false;
    if (v->shape.peak >= FEW && d->births < 2 * v->shape.peak && !at_once(v))
        return false; /* nearly all were live at once: a backlog or a load that ended */
    snprintf(f->note, sizeof f->note, "all %.0f units were released", d->births);
    return true;
}

/* What a process keeps to its end costs nothing afterwards: helpers, shells that exec the server.
 */
static bool is_short_process(const struct view *v, struct tt_finding *f)
{
    const struct tt_case *c = v->all->c;
    double longest = 0;
    for (size_t i = 0; i < v->d->members.len; i++) {
        const struct tt_case_process *p =
            &c->processes.data[c->sites.data[v->d->members.data[i].site].process];
        if (!p->ended)
            return false;
        longest = fmax(longest, p->ended_at - p->started);
    }
    if (longest >= v->all->horizon || longest >= SHORT_PROCESS * c->end)
        return false;
    char span[32];
    snprintf(f->note, sizeof f->note, "in processes that lived %s at most",
             tt_text_duration(span, longest));
    return true;
}

/* Units come and go by a timer: hardly any is older. */
static bool by_timer(const struct view *v)
{
    const struct tt_stats_delay *delay = &v->d->delay;
    if (!delay->found || at_once(v))
        return false;
    double older = 0, all = 0, past = delay->hi * TT_STATS_TICKS_PER_SECOND * 1.25 + 8;
    for (size_t i = 0; i < v->d->units.len; i++) {
        all += (double)v->d->units.data[i].count;
        if (v->d->units.data[i].age > past)
            older += (double)v->d->units.data[i].count;
    }
    double idle = v->d->until - v->d->last_birth;
    bool stays = all >= FEW && idle > 1.5 * delay->tau; /* births ended, entries stayed */
    return !stays && older <= fmax(FEW / 4, 0.2 * all);
}

static double timed_plateau(const struct view *v)
{
    double rate = (v->d->births - v->d->live) / fmax(1, v->d->last_birth - v->d->first);
    return tt_stats_delay_plateau(rate, v->d->delay.tau);
}

/* The timer holds so many of them that the limit is reached: what is acquired in the delay's time
 * is all there is. Not a leak: it recovers within the delay once the load ends. */
static bool is_capacity(const struct view *v, struct tt_finding *f)
{
    struct tt_limit_fact limit;
    if (!by_timer(v) || !tt_judge_limit(v->all, v->d, &limit))
        return false;
    double plateau = timed_plateau(v);
    if (fmax(v->shape.peak, plateau) < REACHED * limit.value)
        return false;
    f->capacity = (struct tt_capacity_fact){.known = true,
                                            .limit = limit.value,
                                            .peak = v->shape.peak,
                                            .delay = v->d->delay.tau,
                                            .plateau = plateau};
    snprintf(f->capacity.limit_name, sizeof f->capacity.limit_name, "%s", limit.name);
    char span[32];
    snprintf(
        f->note, sizeof f->note,
        "%.0f of %.0f (%s) in use: each comes back %.3g s after it was acquired, more than %.3g "
        "a second exhaust it; recovers in %s without load",
        v->shape.peak, limit.value, limit.name, v->d->delay.tau,
        limit.value / fmax(v->d->delay.tau, 0.125), tt_text_duration(span, v->d->delay.tau));
    return true;
}

static bool is_delayed(const struct view *v, struct tt_finding *f)
{
    const struct tt_stats_delay *delay = &v->d->delay;
    if (!by_timer(v) || (held_at_bound(v) && !paced(v)))
        return false;
    snprintf(f->note, sizeof f->note,
             delay->binned ? "released after about %.3g s; levels off near %.0f units"
                           : "%.1f s timer; levels off near %.0f units",
             delay->tau, timed_plateau(v));
    return true;
}

static bool is_load_following(const struct view *v, struct tt_finding *f)
{
    if (!v->d->load.known || !v->d->load.following || v->shape.peak < FEW)
        return false;
    snprintf(f->note, sizeof f->note, "follows %s (R2 %.2f), no growth beyond them",
             v->d->load.gauge, v->d->load.r2);
    return true;
}

static bool is_backlog(const struct view *v, struct tt_finding *f)
{
    const struct shape *s = &v->shape;
    if (at_once(v) || s->peak < FEW || s->trough_after_peak > 0.1 * s->peak ||
        v->d->births > 3 * s->peak)
        return false;
    snprintf(f->note, sizeof f->note, "grew to %.0f units at %.0f s, then was worked off", s->peak,
             s->peak_at);
    return true;
}

static bool is_made_once(const struct view *v, struct tt_finding *f)
{
    const struct tt_dossier *d = v->d;
    if (d->live >= FEW || d->births >= 2 * FEW)
        return false;
    double idle = d->until - d->last_birth, span = d->until - d->first;
    if (d->births > 1.5 && idle < 0.25 * span)
        return false;
    snprintf(f->note, sizeof f->note, "%.0f made, the last %.0f s before the end", d->births, idle);
    return true;
}

/* Births stopped early, or slowed down on every clock there is. */
static bool is_filled(const struct view *v)
{
    const struct tt_dossier *d = v->d;
    return d->trend.class == TT_STATS_TREND_SATURATING ||
           (d->trend.class == TT_STATS_TREND_UNDETERMINED && d->live >= FEW &&
            d->trend.reach < OVER && d->trend.reach > 0);
}

/* Half of what is there came after there were nearly as many for the first time. A load that ends
 * leaves a count that does not change, too. */
static bool makes_room(const struct view *v)
{
    const struct shape *s = &v->shape;
    if (!v->d->grid_births || s->to == s->from)
        return true;
    size_t full = s->from;
    while (full + 1 < s->to && tt_dossier_live(v->d, full) < 0.9 * s->late)
        full++;
    return v->d->grid_births[s->to - 1] - v->d->grid_births[full] >= 0.5 * s->late;
}

static bool is_cache(const struct view *v, struct tt_finding *f)
{
    const struct tt_dossier *d = v->d;
    bool replaced = d->deaths >= 0.2 * d->births && makes_room(v);
    if (d->live < FEW || !replaced || is_forgotten(v) ||
        !((held_at_bound(v) && !paced(v)) || (is_filled(v) && flat(&v->shape) && !d->by_series)))
        return false;
    snprintf(f->note, sizeof f->note, "bounded: about %.0f units, old ones make room for new",
             v->shape.late);
    return true;
}

static bool is_warm_up(const struct view *v, struct tt_finding *f)
{
    const struct tt_dossier *d = v->d;
    if (d->live < FEW || !is_filled(v) || is_forgotten(v) || d->deaths > 0.2 * d->births)
        return false;
    if (d->trend.reach < OVER)
        snprintf(f->note, sizeof f->note, "%.0f units, made in the first %.3g s and kept", d->live,
                 d->last_birth - d->first);
    else
        snprintf(f->note, sizeof f->note, "fills up: %.0f units, ever more slowly (exponent %.2f)",
                 d->live, d->trend.full.beta);
    return true;
}

/* Something outlives the horizon and goes on being born, but the evidence is not enough. */
static bool is_suspect(const struct view *v)
{
    const struct tt_dossier *d = v->d;
    return d->retained.followed >= 5 && d->retained.slices >= 5 && !d->retention.veto &&
           d->retention.log_e > log(5) && v->late_death_share < 0.5 &&
           d->trend.class != TT_STATS_TREND_SATURATING;
}

static bool is_steady(const struct view *v, struct tt_finding *f)
{
    const struct tt_dossier *d = v->d;
    if (is_suspect(v))
        return false;
    bool few = d->live < FEW && d->deaths >= NEARLY_ALL * d->births;
    bool passing = d->live <= (1 - NEARLY_ALL) * d->births;
    bool turned_over = d->surviving <= ALL_DIE && d->deaths >= FEW;
    bool shrinks = d->trend.class == TT_STATS_TREND_SATURATING && d->deaths >= 1 &&
                   v->shape.late <= v->shape.middle;
    if (!few && !turned_over && !shrinks && !(d->deaths > 0 && flat(&v->shape)) &&
        !(passing && v->shape.to - v->shape.from < 6))
        return false;
    snprintf(f->note, sizeof f->note, "%.0f live of %.0f made, no growth", d->live, d->births);
    return true;
}

static double seconds_missing(const struct view *v)
{
    const struct tt_dossier *d = v->d;
    double births = fmax(1, d->live), span = fmax(0.125, d->last_birth - d->first);
    double gap = fmax(span / births, v->all->horizon < TT_JUDGE_HORIZON_S ? 0.125 : 0.5);
    /* each counted survivor adds ln(0.98/0.8) = 0.203 to ln E (METHODS 2.3 i) */
    double bound =
        isfinite(v->all->log_threshold) ? v->all->log_threshold : log(10 / v->all->alpha);
    double slices = fmax(MIN_SLICES, ceil(bound / 0.203));
    return d->first + v->all->horizon + slices * gap * 1.1 - d->until;
}

static bool is_undetermined(const struct view *v, struct tt_finding *f)
{
    const struct tt_dossier *d = v->d;
    char span[32], kept[32];
    double missing = seconds_missing(v);
    tt_text_count(kept, (uint64_t)llround(d->live));
    snprintf(f->note, sizeof f->note, "%s units kept so far%s", kept,
             f->owner.outlives ? "; they outlive those for whom they were acquired" : "");
    if (d->stack == 0)
        snprintf(f->would_change_it, sizeof f->would_change_it,
                 "a known call stack: these units were made where none could be read");
    else if (missing > 0)
        snprintf(f->would_change_it, sizeof f->would_change_it,
                 "%s more of recording under the same load (units must outlive %.0f s)",
                 tt_text_duration(span, ceil(missing)), v->all->horizon);
    else if (d->retention.veto || v->late_death_share >= VETO_SHARE)
        snprintf(f->would_change_it, sizeof f->would_change_it,
                 "a longer recording: units older than %.0f s are still being released",
                 v->all->horizon);
    else if (!d->trend.goes_on)
        snprintf(f->would_change_it, sizeof f->would_change_it,
                 "whether births go on with the operations: record under steady load, or name the "
                 "operation (--operation)");
    else
        snprintf(f->would_change_it, sizeof f->would_change_it,
                 "a longer recording: the evidence is not yet beyond the bound for all sites");
    return true;
}

static const struct rule {
    enum tt_verdict verdict;
    bool (*holds)(const struct view *view, struct tt_finding *f);
    double confidence;
} rules[] = {
    {TT_VERDICT_LEAK_LOST, is_lost, 0}, /* confidence from the evidence */
    {TT_VERDICT_LEAK_RETAINED, is_leak, 0},
    {TT_VERDICT_LEAK_RETAINED, is_abandoned, 0},
    {TT_VERDICT_STEADY, is_short_process, 0.95},
    /* what comes and goes by a rule of its own */
    {TT_VERDICT_CAPACITY, is_capacity, 0.9},
    {TT_VERDICT_DELAYED_RELEASE, is_delayed, 0.95},
    {TT_VERDICT_STEADY, is_released, 0.99},
    {TT_VERDICT_LOAD_FOLLOWING, is_load_following, 0.9},
    /* what stays, but stops */
    {TT_VERDICT_STEADY, is_made_once, 0.95},
    {TT_VERDICT_BACKLOG, is_backlog, 0.8},
    {TT_VERDICT_CACHE, is_cache, 0.9},
    {TT_VERDICT_WARM_UP, is_warm_up, 0.9},
    {TT_VERDICT_STEADY, is_steady, 0.9},
    /* the last one always holds */
    {TT_VERDICT_UNDETERMINED, is_undetermined, 0.5},
};

/* ---- what the finding says besides ---- */

static double leak_confidence(const struct view *v, const struct tt_finding *f)
{
    /* the FDR level at which the site would still be rejected */
    double level = v->all->alpha * exp(v->all->log_threshold - v->d->retention.log_e);
    double cap = f->horizon_short ? CAP_SHORT : CAP_FULL;
    double retained = v->d->rejected ? fmin(cap, 1 - fmin(0.5, level)) : 0;
    if (f->verdict == TT_VERDICT_LEAK_RETAINED && v->d->state.holds)
        retained = fmax(retained, ABANDONED);
    if (f->verdict == TT_VERDICT_LEAK_RETAINED)
        return v->d->stale.untouched ? 1 - (1 - retained) / 2 : retained;
    double once = v->d->lost.snapshots > 1 ? CAP_LOST_TWICE : CAP_LOST;
    double lost = v->d->lost.holds ? 1 - v->d->lost.chance : v->d->lost.probability;
    return fmax(retained, fmin(once, lost));
}

static void tell_doubt(const struct view *v, struct tt_finding *f)
{
    const struct tt_dossier *d = v->d;
    if (f->verdict == TT_VERDICT_LEAK_LOST)
        snprintf(f->would_change_it, sizeof f->would_change_it,
                 "a pointer to these units that a scan of memory cannot see: encoded, in a device "
                 "or in another process");
    else if (d->state.holds && !d->rejected)
        snprintf(f->would_change_it, sizeof f->would_change_it,
                 "that they are closed later than %.0f s after their peer has gone: none was seen",
                 v->all->horizon);
    else
        snprintf(f->would_change_it, sizeof f->would_change_it,
                 "a release later than %.0f s after birth: none was seen, units up to %.0f s old "
                 "were watched",
                 fmax(d->retention.beyond_seconds, v->all->horizon), d->until - d->retained.first);
}

int tt_judge_weigh(const struct tt_dossiers *all, struct tt_dossier *d, struct tt_finding *f)
{
    struct view v = {
        .all = all, .d = d, .shape = shape_of(all, d), .late_death_share = late_deaths(all, d)};
    f->process = all->c->processes.data[d->process].id;
    f->site = d->site;
    f->stack = d->stack;
    f->size_min = d->size_min;
    f->size_max = d->size_max;
    f->births = (uint64_t)llround(d->births);
    f->deaths = (uint64_t)llround(d->deaths);
    f->live = (uint64_t)llround(fmax(0, d->live));
    f->horizon = all->horizon;
    f->horizon_short = all->horizon < TT_JUDGE_HORIZON_S;
    snprintf(f->place, sizeof f->place, "%s", all->c->sites.data[d->members.data[0].site].place);
    tt_judge_owner(all, d, f);
    const struct rule *rule = rules;
    while (!rule->holds(&v, f))
        rule++; /* the last one always holds */
    f->verdict = rule->verdict;
    f->confidence = rule->confidence;
    d->leak = tt_verdict_is_leak(f->verdict);
    if (d->leak) {
        f->confidence = leak_confidence(&v, f);
        tell_doubt(&v, f);
    }
    tt_judge_tell_lost(all, d, f);
    bool plotted = v.shape.to > v.shape.from;
    return tt_judge_tell(all, d, f, plotted ? v.shape.middle : NAN, plotted ? v.shape.late : NAN);
}
