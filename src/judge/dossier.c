/* SPDX-License-Identifier: Apache-2.0 */
/* Makes dossiers: groups the sites of a case and brings their counts together. Two things need
 * care. Stacks are compared by module and offset, not by address, so that a plugin that was loaded
 * again elsewhere, or a worker with another layout, is the same site. And what a process releases
 * in its last second is its clean-up at exit, not evidence about units in service: such a site's
 * counts are cut before it. Start: tt_dossiers_make. */
#include "judge/dossier.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define GRID 256u
/* Clean-up: more deaths in the last second than three times what was usual, and a tenth of what was
 * live. */
#define LAST_SECOND 1.0
#define SAME_MOMENT 0.5 /* a look, an end and an epoch this close belong together */
#define UNUSUAL 3.0
#define CLEANUP_SHARE 0.1
/* Traffic is what goes on: sites that make less than a fifth of their units after the first quarter
 * of the recording are start-up, and would bend the clock. */
#define START_UP 0.25
#define GOES_ON 0.2
#define FEW_BIRTHS 10.0 /* sites with fewer get no series */

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static uint64_t place_of(const struct tt_case *c, size_t process, uint64_t pc, struct tt_map *cache)
{
    uint64_t cached_as = tt_map_mix(pc) ^ process;
    uint64_t *hit = tt_map_get(cache, cached_as);
    if (hit)
        return *hit;
    const struct tt_case_module *m = tt_case_module(c, process, pc);
    uint64_t place = pc;
    if (m) {
        const char *what = m->build_id[0] ? m->build_id : m->path;
        place = tt_map_hash(what, strlen(what)) ^ tt_map_mix(pc - m->start + m->file_offset);
    }
    /* a lost cache entry costs time only */
    (void)tt_map_put(cache, cached_as, place);
    return place;
}

static uint64_t group_key(const struct tt_case *c, const struct tt_case_site *s,
                          struct tt_map *places)
{
    const struct tt_case_process *p = &c->processes.data[s->process];
    const char *exe = p->build_id[0] ? p->build_id : p->exe;
    uint64_t key =
        tt_map_hash(s->resource, strlen(s->resource)) ^ tt_map_mix(tt_map_hash(exe, strlen(exe)));
    const struct tt_case_stack *stack = tt_case_stack(c, s->process, s->stack);
    if (!stack || !stack->n)
        return tt_map_mix(key ^ tt_case_stack_key(s->process + 1, s->id));
    for (size_t i = 0; i < stack->n; i++)
        key = tt_map_mix(key ^ place_of(c, s->process, stack->pc[i], places));
    return key;
}

static double weight_of(const struct tt_case *c, const struct tt_case_site *s, double size)
{
    double p = tt_case_inclusion(c, s, size);
    return p > 0 ? 1 / p : 1;
}

double tt_dossier_weight(const struct tt_case *c, const struct tt_case_site *s)
{
    struct tt_case_row last = tt_case_at(s, INFINITY);
    return weight_of(c, s, last.births > 0 ? last.birth_bytes / last.births : s->size_max);
}

double tt_dossier_end(const struct tt_case *c, size_t process)
{
    const struct tt_case_process *p = &c->processes.data[process];
    double end = p->look > 0 ? p->look : c->end;
    if (p->ended && fabs(p->ended_at - end) < SAME_MOMENT)
        end = p->ended_at;
    /* the epoch written right after the end shows the process's last counts */
    for (size_t i = 0; i < c->epochs.len; i++)
        if (c->epochs.data[i] >= end)
            return c->epochs.data[i] <= end + SAME_MOMENT ? c->epochs.data[i] : end;
    return end;
}

/* Decides where the member's counts are taken. */
static void place_cut(const struct tt_case *c, const struct tt_case_site *s, struct tt_member *m)
{
    const struct tt_case_process *p = &c->processes.data[s->process];
    m->until = tt_dossier_end(c, s->process);
    m->cleanup = false;
    if (!p->ended || !s->rows.len)
        return;
    double cut = 0;
    for (size_t i = c->epochs.len; i-- > 0 && cut <= 0;)
        if (c->epochs.data[i] <= p->ended_at - LAST_SECOND)
            cut = c->epochs.data[i];
    double begun = s->rows.data[0].t;
    if (cut <= begun)
        return;
    struct tt_case_row before = tt_case_at(s, cut), after = tt_case_at(s, INFINITY);
    double deaths = after.deaths - before.deaths, live = before.births - before.deaths;
    double usual = before.deaths / (cut - begun) * (m->until - cut);
    m->cleanup = deaths > UNUSUAL * usual + 8 && deaths >= CLEANUP_SHARE * live;
    if (m->cleanup)
        m->until = cut;
}

static int add_member(struct tt_dossiers *all, struct tt_dossier *d, size_t index)
{
    const struct tt_case *c = all->c;
    const struct tt_case_site *s = &c->sites.data[index];
    struct tt_member m = {.site = index};
    place_cut(c, s, &m);
    struct tt_case_row at = tt_case_at(s, m.until);
    double weight = tt_dossier_weight(c, s), live = at.births - at.deaths;
    if (!d->members.len) {
        d->resource = s->resource;
        d->horizon = all->horizon;
        d->size_min = UINT32_MAX;
        d->first = INFINITY;
        d->live = -1;
    }
    if (live * weight > d->live || !d->members.len) {
        d->process = s->process;
        d->site = s->id;
        d->stack = s->stack;
    }
    if (!d->members.len)
        d->live = 0;
    d->size_min = s->size_min < d->size_min ? s->size_min : d->size_min;
    d->size_max = s->size_max > d->size_max ? s->size_max : d->size_max;
    d->cleanup |= m.cleanup;
    if (m.cleanup)
        d->cleaned += tt_case_at(s, INFINITY).deaths - at.deaths;
    d->followed_births += at.births;
    d->births += at.births * weight;
    d->deaths += at.deaths * weight;
    d->live += live * weight;
    d->birth_bytes += at.birth_bytes * weight;
    d->live_bytes += (at.birth_bytes - at.death_bytes) * weight;
    d->until = m.until > d->until ? m.until : d->until;
    double previous = 0;
    for (size_t i = 0; i < s->rows.len && s->rows.data[i].t <= m.until; i++) {
        double born = s->rows.data[i].births;
        if (born > 0 && s->rows.data[i].t < d->first)
            d->first = s->rows.data[i].t;
        if (born > previous && s->rows.data[i].t > d->last_birth)
            d->last_birth = s->rows.data[i].t;
        previous = born;
    }
    return tt_vec_push(&d->members, m);
}

static int fill_grid(const struct tt_dossiers *all, struct tt_dossier *d)
{
    size_t n = all->grid.len;
    if (!n)
        return 0;
    d->grid_births = calloc(2 * n, sizeof *d->grid_births);
    if (!d->grid_births)
        return -ENOMEM;
    d->grid_deaths = d->grid_births + n;
    for (size_t i = 0; i < d->members.len; i++) {
        const struct tt_member *m = &d->members.data[i];
        const struct tt_case_site *s = &all->c->sites.data[m->site];
        double weight = tt_dossier_weight(all->c, s);
        struct tt_case_row row = {0};
        size_t next = 0;
        for (size_t k = 0; k < n; k++) {
            double t = fmin(all->grid.data[k], m->until);
            while (next < s->rows.len && s->rows.data[next].t <= t)
                row = s->rows.data[next++];
            d->grid_births[k] += row.births * weight;
            d->grid_deaths[k] += row.deaths * weight;
        }
    }
    size_t early = 0;
    while (early + 1 < n && all->grid.data[early + 1] <= START_UP * all->grid.data[n - 1])
        early++;
    d->in_traffic =
        d->grid_births[n - 1] - d->grid_births[early] >= GOES_ON * d->grid_births[n - 1];
    for (size_t k = 0; d->in_traffic && k < n; k++)
        all->traffic[k] += d->grid_births[k];
    if (d->followed_births < FEW_BIRTHS) {
        free(d->grid_births);
        d->grid_births = d->grid_deaths = NULL;
    }
    return 0;
}

static int by_tick(const void *a, const void *b)
{
    const struct tt_unit *x = a, *y = b;
    return (x->tick > y->tick) - (x->tick < y->tick);
}

static int list_survivors(const struct tt_case *c, struct tt_dossier *d, const struct tt_member *m)
{
    const struct tt_case_site *s = &c->sites.data[m->site];
    double look = tt_dossier_end(c, s->process) * TT_STATS_TICKS_PER_SECOND;
    for (size_t i = 0; i < s->survivors.len; i++) {
        const struct tt_case_unit *u = &s->survivors.data[i];
        struct tt_unit unit = {.tick = u->tick,
                               .age = look > u->tick ? (uint32_t)(look - u->tick) : 0,
                               .size = u->size,
                               .count = u->count,
                               .weight = weight_of(c, s, u->size)};
        if (tt_vec_push(&d->units, unit))
            return -ENOMEM;
    }
    for (unsigned b = 0; b < TT_STATS_BINS; b++)
        d->death_bins[b] += s->deaths[b];
    return 0;
}

/* Who died is not known by birth; taking the oldest first makes the live ones as young as the
 * counts allow, which can only weaken evidence for retention. Births and deaths are dated at the
 * row that shows them. */
static int list_by_series(const struct tt_case *c, struct tt_dossier *d, const struct tt_member *m)
{
    const struct tt_case_site *s = &c->sites.data[m->site];
    double weight = tt_dossier_weight(c, s);
    size_t head = d->units.len;
    double births = 0, deaths = 0;
    double until = m->until * TT_STATS_TICKS_PER_SECOND;
    for (size_t i = 0; i < s->rows.len && s->rows.data[i].t <= m->until; i++) {
        const struct tt_case_row *row = &s->rows.data[i];
        double now = row->t * TT_STATS_TICKS_PER_SECOND;
        double born = row->births - births, died = row->deaths - deaths;
        births = row->births;
        deaths = row->deaths;
        uint32_t size = births > 0 ? (uint32_t)(row->birth_bytes / births) : s->size_max;
        struct tt_unit unit = {.tick = (uint32_t)fmax(now, 0),
                               .age = (uint32_t)fmax(until - now, 0),
                               .size = size,
                               .count = (uint64_t)fmax(born, 0),
                               .weight = weight};
        if (born > 0 && tt_vec_push(&d->units, unit))
            return -ENOMEM;
        while (died > 0 && head < d->units.len) {
            struct tt_unit *oldest = &d->units.data[head];
            uint64_t n = died < (double)oldest->count ? (uint64_t)died : oldest->count;
            d->death_bins[tt_stats_bin_of(unit.tick - oldest->tick)] += n;
            oldest->count -= n;
            died -= (double)n;
            if (oldest->count)
                break;
            head++;
        }
    }
    size_t kept = 0;
    for (size_t i = 0; i < d->units.len; i++)
        if (d->units.data[i].count)
            d->units.data[kept++] = d->units.data[i];
    d->units.len = kept;
    return 0;
}

int tt_dossier_lifetimes(const struct tt_dossiers *all, struct tt_dossier *d, bool series)
{
    d->units.len = 0;
    memset(d->death_bins, 0, sizeof d->death_bins);
    d->by_series = series && d->cleanup;
    for (size_t i = 0; i < d->members.len; i++) {
        const struct tt_member *m = &d->members.data[i];
        int rc = series && m->cleanup ? list_by_series(all->c, d, m) : list_survivors(all->c, d, m);
        if (rc)
            return rc;
    }
    if (d->units.len)
        qsort(d->units.data, d->units.len, sizeof *d->units.data, by_tick);
    return 0;
}

static int make_grid(const struct tt_case *c, struct tt_dossiers *out)
{
    size_t n = c->epochs.len < GRID ? c->epochs.len : GRID;
    /* counts were zero at the origin */
    if (n && c->epochs.data[0] > 0 && tt_vec_push(&out->grid, 0.0))
        return -ENOMEM;
    for (size_t k = 0; k < n; k++) {
        size_t i = n < 2 ? 0 : k * (c->epochs.len - 1) / (n - 1);
        if (tt_vec_push(&out->grid, c->epochs.data[i]))
            return -ENOMEM;
    }
    out->traffic = calloc(out->grid.len + 1, sizeof *out->traffic);
    return out->traffic ? 0 : -ENOMEM;
}

int tt_dossiers_make(const struct tt_case *c, double horizon, struct tt_dossiers *out)
{
    struct tt_map places = {0}, groups = {0};
    out->c = c;
    out->horizon = horizon;
    out->horizon_ticks = (uint32_t)fmax(1, ceil(horizon * TT_STATS_TICKS_PER_SECOND));
    out->log_threshold = INFINITY;
    int rc = make_grid(c, out);
    for (size_t i = 0; !rc && i < c->sites.len; i++) {
        uint64_t key = group_key(c, &c->sites.data[i], &places);
        uint64_t *known = tt_map_get(&groups, key);
        if (!known) {
            struct tt_dossier fresh = {0};
            rc = tt_vec_push(&out->list, fresh);
            if (!rc)
                rc = tt_map_put(&groups, key, out->list.len - 1);
            if (rc)
                break;
        }
        rc = add_member(out, &out->list.data[known ? *known : out->list.len - 1], i);
    }
    for (size_t i = 0; !rc && i < out->list.len; i++)
        rc = fill_grid(out, &out->list.data[i]);
    tt_map_free(&places);
    tt_map_free(&groups);
    return rc;
}

void tt_dossiers_free(struct tt_dossiers *all)
{
    for (size_t i = 0; i < all->list.len; i++) {
        tt_vec_free(&all->list.data[i].members);
        tt_vec_free(&all->list.data[i].units);
        free(all->list.data[i].grid_births);
    }
    tt_vec_free(&all->list);
    tt_vec_free(&all->grid);
    free(all->traffic);
}

const char *tt_dossier_function(const struct tt_dossiers *all, size_t process, uint64_t pc,
                                char buf[160])
{
    const char *name =
        all->name ? all->name(all->name_arg, all->session, all->c->processes.data[process].id, pc)
                  : NULL;
    snprintf(buf, 160, "%s", name ? name : "");
    char *at = strrchr(buf, '@'); /* "function@file:line"; C++ names hold no '@' */
    if (at)
        *at = '\0';
    return buf;
}

bool tt_dossier_same_program(const struct tt_dossiers *a, size_t process,
                             const struct tt_dossiers *b, size_t other)
{
    const char *x = base_name(a->c->processes.data[process].exe),
               *y = base_name(b->c->processes.data[other].exe);
    size_t n = strlen(x) < strlen(y) ? strlen(x) : strlen(y);
    const char *rest = strlen(x) > n ? x + n : y + n;
    if (strncmp(x, y, n) == 0 && !isalnum((unsigned char)*rest))
        return true;
    return a->c->processes.len == 1 && b->c->processes.len == 1;
}

#define INNERMOST 4u

bool tt_dossier_same(const struct tt_dossiers *a, const struct tt_dossier *x,
                     const struct tt_dossiers *b, const struct tt_dossier *y)
{
    if (strcmp(x->resource, y->resource) != 0)
        return false;
    if (!tt_dossier_same_program(a, x->process, b, y->process))
        return false;
    const struct tt_case_stack *s = tt_case_stack(a->c, x->process, x->stack),
                               *r = tt_case_stack(b->c, y->process, y->stack);
    if (!s || !r || !s->n || !r->n)
        return false;
    size_t n = s->n < INNERMOST ? s->n : INNERMOST;
    if (r->n < n)
        return false;
    for (size_t i = 0; i < n; i++) {
        char f[160], g[160];
        tt_dossier_function(a, x->process, s->pc[i], f);
        tt_dossier_function(b, y->process, r->pc[i], g);
        if (strcmp(f, g) != 0)
            return false;
        if (f[0])
            continue;
        const struct tt_case_module *m = tt_case_module(a->c, x->process, s->pc[i]),
                                    *o = tt_case_module(b->c, y->process, r->pc[i]);
        if (!m || !o || strcmp(m->build_id, o->build_id) != 0 ||
            strcmp(base_name(m->path), base_name(o->path)) != 0 ||
            s->pc[i] - m->start + m->file_offset != r->pc[i] - o->start + o->file_offset)
            return false;
    }
    return true;
}
