/* SPDX-License-Identifier: Apache-2.0 */
/* Which site lost a block that was born before anybody watched. Blocks with known sites are counted
 * by shape, at four levels of detail, apart for lost and for live ones. An old lost block takes the
 * finest level at which a lost block with a site looks like it; there
 *     site s:        (1 - q) * share of s among the lost of this shape * novelty of s
 *     none of them:  q * c * (1 - c'/c)  +  (1 - q) / (2 (N + 1))
 * where q is the prior that the loss stopped before attach or has not come again since; c the
 * chance that a strange site's block has a known shape at this level, c' at the next finer one,
 * both from leaving out one known site at a time; novelty the chance that a block of s shows a
 * finer shape that was not seen before, by Good-Turing (Good 1953), not below DRIFT; N the lost
 * blocks with a site of this shape. What is left for "none" is then shared among sites that have
 * live blocks of the shape but lost none, in the same way. Below one half no site is named.
 * glibc does not split off a rest of 16 bytes, which is no chunk: so a request of one size now has
 * its own usable bytes and now 16 more, at whose end is what was there before. A block is therefore
 * also looked at as if it were 16 bytes smaller; that counts where its content, not its size alone,
 * is like that of blocks with a site. Sampled blocks, which do not come from glibc, show only the
 * smaller size. Start: tt_heap_attribute. */
#include "heap/internal.h"

enum { LOST, LIVE, STATES };
enum { REST = 16 }; /* of a chunk, too small for one of its own (malloc.c, MINSIZE is 32) */
enum { MOST_LIVE = 1000000 }; /* live blocks asked for their site */

/* Chance that a strange site's block has a known shape, before anything was seen; it weighs as much
 * as PRIOR_SITES sites. */
static const double PRIOR_COLLISION[TT_HEAP_LEVELS] = {0.02, 0.05, 0.2, 0.6};
static const double PRIOR_SITES = 2;
/* Prior of a strange site: at least, where sites go on losing such blocks, and where none does. */
static const double STRANGE_LOST = 0.1, STRANGE_LIVE = 0.3;
/* Good-Turing takes what a site makes for stationary. Contents drift: ids grow by a digit, flags
 * come with an hour. So a finer shape not seen since attach has at least this chance. */
static const double DRIFT = 0.05;
/* How much a known site that has blocks of the shape, but lost none since, may have lost before, to
 * what all that lose have lost. */
static const double IDLE_LOST = 0.1;

/* One site's blocks of one shape. */
struct share {
    uint32_t site, next; /* next share of the shape */
    uint64_t count[STATES];
    uint64_t single[STATES]; /* finer shapes of which exactly one was seen */
};
struct shape {
    uint32_t first;
    uint64_t total[STATES];
};
struct table {
    struct tt_map by_key[TT_HEAP_LEVELS];
    TT_VEC(struct shape) shapes;
    TT_VEC(struct share) shares;
    struct tt_map sites; /* site -> blocks counted */
    double collision[TT_HEAP_LEVELS];
    uint64_t lost;  /* lost blocks with a site */
    double strange; /* share of lost sites seen once: what has not been seen at all (Good-Turing) */
};

static int shape_number(struct table *t, unsigned level, uint64_t key, uint32_t *out)
{
    uint64_t *known = tt_map_get(&t->by_key[level], key);
    if (known) {
        *out = (uint32_t)*known;
        return 0;
    }
    *out = (uint32_t)t->shapes.len;
    return tt_vec_push(&t->shapes, (struct shape){.first = TT_HEAP_NONE}) ||
                   tt_map_put(&t->by_key[level], key, *out)
               ? -ENOMEM
               : 0;
}

static int share_number(struct table *t, uint32_t shape, uint32_t site, uint32_t *out)
{
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): the shape was pushed before */
    for (uint32_t i = t->shapes.data[shape].first; i != TT_HEAP_NONE; i = t->shares.data[i].next)
        if (t->shares.data[i].site == site) {
            *out = i;
            return 0;
        }
    *out = (uint32_t)t->shares.len;
    if (tt_vec_push(&t->shares, (struct share){.site = site, .next = t->shapes.data[shape].first}))
        return -ENOMEM;
    t->shapes.data[shape].first = *out;
    return 0;
}

static int count(struct table *t, const struct tt_heap_shape *shape, uint32_t site, int state)
{
    uint32_t coarser = TT_HEAP_NONE;
    for (unsigned level = TT_HEAP_LEVELS; level-- > 0;) {
        uint32_t number, s;
        if (shape_number(t, level, shape->key[level], &number) || share_number(t, number, site, &s))
            return -ENOMEM;
        t->shapes.data[number].total[state]++;
        uint64_t now = ++t->shares.data[s].count[state];
        if (coarser != TT_HEAP_NONE) {
            uint64_t *single = &t->shares.data[coarser].single[state];
            *single += now == 1;
            *single -= now == 2;
        }
        coarser = s;
    }
    uint64_t *seen = tt_map_get(&t->sites, site);
    t->lost += state == LOST;
    if (!seen)
        return tt_map_put(&t->sites, site, 1);
    ++*seen;
    return 0;
}

/* Leaves out each site in turn: how much of it looks like another one's blocks. */
static void settle(struct table *t)
{
    for (unsigned level = 0; level < TT_HEAP_LEVELS; level++) {
        double sum = 0;
        const struct tt_map *map = &t->by_key[level];
        for (size_t i = 0; i < map->cap; i++) {
            if (!map->slots[i].used)
                continue;
            uint32_t first = t->shapes.data[map->slots[i].value].first;
            if (t->shares.data[first].next == TT_HEAP_NONE)
                continue;
            for (uint32_t s = first; s != TT_HEAP_NONE; s = t->shares.data[s].next) {
                const struct share *share = &t->shares.data[s];
                sum += (double)(share->count[LOST] + share->count[LIVE]) /
                       (double)*tt_map_get(&t->sites, share->site);
            }
        }
        t->collision[level] =
            (sum + PRIOR_SITES * PRIOR_COLLISION[level]) / ((double)t->sites.len + PRIOR_SITES);
    }
    uint64_t once = 0;
    for (size_t i = 0; i < t->sites.cap; i++)
        once += t->sites.slots[i].used && t->sites.slots[i].value == 1;
    t->strange = ((double)once + 0.5) / ((double)t->lost + 1);
}

static void table_free(struct table *t)
{
    for (int i = 0; i < TT_HEAP_LEVELS; i++)
        tt_map_free(&t->by_key[i]);
    tt_map_free(&t->sites);
    tt_vec_free(&t->shapes);
    tt_vec_free(&t->shares);
}

struct verdict {
    uint32_t site; /* the likeliest, 0 none */
    double probability, none;
    uint8_t state, level; /* of the blocks it was likened to */
    bool content;         /* they are alike in more than size and small numbers */
};

static struct verdict weigh(const struct table *t, const struct tt_heap_shape *shape, int state,
                            double strange)
{
    struct verdict v = {.none = 1};
    for (unsigned level = 0; level < TT_HEAP_LEVELS; level++) {
        const uint64_t *number = tt_map_get(&t->by_key[level], shape->key[level]);
        if (!number || !t->shapes.data[*number].total[state])
            continue;
        const struct shape *s = &t->shapes.data[*number];
        double total = (double)s->total[state], best = 0, sum = 0, idle = 0;
        for (uint32_t i = s->first; i != TT_HEAP_NONE; i = t->shares.data[i].next) {
            const struct share *share = &t->shares.data[i];
            double n = (double)share->count[state];
            idle += !share->count[LOST];
            double score = (1 - strange) * n / total;
            if (level > 0) {
                double novelty = ((double)share->single[state] + 0.5) / (n + 1);
                score *= novelty > DRIFT ? novelty : DRIFT;
            }
            sum += score;
            if (score > best) {
                best = score;
                v.site = share->site;
            }
        }
        double finer = level > 0 ? t->collision[level - 1] / t->collision[level] : 0;
        double none = strange * t->collision[level] * (finer < 1 ? 1 - finer : 0);
        double thin = 0.5 / (total + 1);
        /* The thin-evidence part belongs to sites that look like these in every respect. */
        none += sum * thin;
        if (state == LOST)
            none += sum * IDLE_LOST * idle;
        sum *= 1 - thin;
        best *= 1 - thin;
        v.probability = best / (sum + none);
        v.none = none / (sum + none);
        v.state = (uint8_t)state;
        v.level = (uint8_t)level;
        v.content = shape->key[level == TT_HEAP_BY_VALUE ? TT_HEAP_BY_KIND : level] !=
                    shape->key[TT_HEAP_BY_SIZE];
        return v;
    }
    return v;
}

static struct verdict judge(const struct table *t, const struct tt_heap_shape *shape,
                            double strange_here)
{
    double strange = t->strange > STRANGE_LOST ? t->strange : STRANGE_LOST;
    if (strange_here > strange)
        strange = strange_here;
    if (strange > 0.95)
        strange = 0.95;
    struct verdict lost = weigh(t, shape, LOST, strange);
    if (lost.probability >= 0.5)
        return lost;
    struct verdict live = weigh(t, shape, LIVE, STRANGE_LIVE);
    live.probability *= lost.none;
    if (live.probability >= 0.5)
        return live;
    return (struct verdict){.none = 1};
}

/* Live blocks of the sizes in question, every stride-th, so that the callback is asked at most
 * MOST_LIVE times. */
static int count_live(struct table *t, const struct tt_heap_index *x,
                      const struct tt_heap_marks *marks, const struct tt_heap_shaper *shaper,
                      const struct tt_map *sizes, const struct tt_heap_options *options)
{
    uint64_t *wanted = calloc(x->n / 64 + 1, sizeof *wanted);
    if (!wanted)
        return -ENOMEM;
    uint64_t n = 0, last = 0;
    bool last_is = false;
    for (uint32_t i = 0; i < x->n; i++) {
        uint64_t size = x->list[i].size;
        if (size != last) {
            last = size;
            last_is = tt_map_get(sizes, size) != NULL;
        }
        if (last_is && tt_heap_bit(marks->reached, i)) {
            tt_heap_set_bit(wanted, i);
            n++;
        }
    }
    uint64_t stride = n / MOST_LIVE + 1, at = 0;
    int rc = 0;
    for (uint32_t i = 0; i < x->n && !rc; i++) {
        if (!tt_heap_bit(wanted, i) || at++ % stride)
            continue;
        uint64_t requested = 0;
        uint32_t site = options->site_of(options->arg, x->list[i].address, &requested);
        if (!site)
            continue;
        struct tt_heap_shape shape;
        tt_heap_shape_of(shaper, i, &shape);
        rc = count(t, &shape, site, LIVE);
    }
    free(wanted);
    return rc;
}

/* ---- shares of groups ---- */

static struct tt_heap_share *share_of(struct tt_heap_group *g, uint32_t site)
{
    for (size_t i = 0; i < g->shares.len; i++)
        if (g->shares.data[i].site == site)
            return &g->shares.data[i];
    if (tt_vec_push(&g->shares, (struct tt_heap_share){.site = site}))
        return NULL;
    return &g->shares.data[g->shares.len - 1];
}

static int by_bytes(const void *a, const void *b)
{
    const struct tt_heap_share *x = a, *y = b;
    uint64_t m = x->known_bytes + x->old_bytes, n = y->known_bytes + y->old_bytes;
    if (m != n)
        return m < n ? 1 : -1;
    return x->site < y->site ? -1 : x->site > y->site;
}

static void finish(struct tt_heap_result *result)
{
    for (size_t i = 0; i < result->groups.len; i++) {
        struct tt_heap_group *g = &result->groups.data[i];
        for (size_t k = 0; k < g->shares.len; k++) {
            struct tt_heap_share *s = &g->shares.data[k]; /* so far a sum */
            s->probability = s->old_units ? s->probability / (double)s->old_units : 1;
        }
        if (g->shares.len)
            qsort(g->shares.data, g->shares.len, sizeof *g->shares.data, by_bytes);
    }
}

struct work {
    const struct tt_heap_index *index;
    const struct tt_heap_shaper *shaper;
    struct tt_heap_lost *lost;
    struct tt_heap_result *result;
    struct table table;
    struct tt_map sizes;   /* of old lost blocks -> how many */
    struct tt_map strange; /* by size key: old blocks that no lost one resembles at all */
    struct tt_map old;     /* by size key: old blocks */
    struct tt_map memo;    /* by finest key -> place in verdicts */
    TT_VEC(struct verdict) verdicts;
};

static int increment(struct tt_map *map, uint64_t key)
{
    uint64_t *n = tt_map_get(map, key);
    if (!n)
        return tt_map_put(map, key, 1);
    ++*n;
    return 0;
}

static int ask_sites(struct work *w, const struct tt_heap_options *options)
{
    for (size_t i = 0; i < w->lost->list.len; i++) {
        const struct tt_heap_block *b = &w->index->list[w->lost->list.data[i]];
        uint64_t requested = 0;
        if (options->site_of)
            w->lost->site[i] = options->site_of(options->arg, b->address, &requested);
        if (w->lost->site[i]) {
            w->result->known_lost_units++;
            if (count(&w->table, &w->lost->shape[i], w->lost->site[i], LOST))
                return -ENOMEM;
        } else {
            w->result->old_lost_units++;
            if (increment(&w->sizes, b->size) ||
                (b->size > REST && increment(&w->sizes, b->size - REST)))
                return -ENOMEM;
        }
    }
    return 0;
}

/* How many of the old blocks of each size look like no lost block with a site. */
static int find_strange(struct work *w)
{
    for (size_t i = 0; i < w->lost->list.len; i++) {
        if (w->lost->site[i])
            continue;
        const uint64_t *key = w->lost->shape[i].key;
        uint64_t *number = tt_map_get(&w->table.by_key[TT_HEAP_BY_MODULE], key[TT_HEAP_BY_MODULE]);
        if (increment(&w->old, key[TT_HEAP_BY_SIZE]) ||
            ((!number || !w->table.shapes.data[*number].total[LOST]) &&
             increment(&w->strange, key[TT_HEAP_BY_SIZE])))
            return -ENOMEM;
    }
    return 0;
}

static int verdict_of(struct work *w, const struct tt_heap_shape *shape, struct verdict *out)
{
    uint64_t *known = tt_map_get(&w->memo, shape->key[TT_HEAP_BY_VALUE]);
    if (known) {
        *out = w->verdicts.data[*known];
        return 0;
    }
    const uint64_t *strange = tt_map_get(&w->strange, shape->key[TT_HEAP_BY_SIZE]);
    const uint64_t *old = tt_map_get(&w->old, shape->key[TT_HEAP_BY_SIZE]);
    *out = judge(&w->table, shape, strange && old ? (double)*strange / (double)*old : 0);
    return tt_map_put(&w->memo, shape->key[TT_HEAP_BY_VALUE], w->verdicts.len) ||
                   tt_vec_push(&w->verdicts, *out)
               ? -ENOMEM
               : 0;
}

/* Whether what a block is like when it is taken for a smaller one says more than what it is like as
 * it is. */
static bool is_better(const struct verdict *smaller, const struct verdict *v)
{
    if (!smaller->site || !smaller->content)
        return false;
    if (!v->site || !v->content)
        return true;
    return smaller->state != v->state ? smaller->state == LOST : smaller->level < v->level;
}

static int verdict_of_old(struct work *w, size_t i, struct verdict *out)
{
    uint32_t block = w->lost->list.data[i];
    uint64_t size = w->index->list[block].size;
    struct verdict smaller;
    struct tt_heap_shape shape;
    if (verdict_of(w, &w->lost->shape[i], out))
        return -ENOMEM;
    if (!w->table.sites.len || size <= REST || size % REST != 8 ||
        (out->site && out->content && out->state == LOST && out->level == TT_HEAP_BY_VALUE))
        return 0;
    tt_heap_shape_as(w->shaper, block, size - REST, &shape);
    if (verdict_of(w, &shape, &smaller))
        return -ENOMEM;
    if (is_better(&smaller, out))
        *out = smaller;
    return 0;
}

static int give_out(struct work *w)
{
    for (size_t i = 0; i < w->lost->list.len; i++) {
        uint64_t size = w->index->list[w->lost->list.data[i]].size;
        struct verdict v = {.site = w->lost->site[i], .probability = 1};
        bool known = v.site;
        if (!known && verdict_of_old(w, i, &v))
            return -ENOMEM;
        w->lost->site[i] = v.site;
        w->lost->chance[i] = (float)v.probability;
        w->result->unknown_units += !v.site;
        if (w->lost->group[i] == TT_HEAP_NONE)
            continue;
        struct tt_heap_group *g = &w->result->groups.data[w->lost->group[i]];
        if (!v.site) {
            g->unknown_units++;
            g->unknown_bytes += size;
            continue;
        }
        struct tt_heap_share *s = share_of(g, v.site);
        if (!s)
            return -ENOMEM;
        if (known) {
            s->known_units++;
            s->known_bytes += size;
        } else {
            s->old_units++;
            s->old_bytes += size;
            s->probability += v.probability;
        }
    }
    finish(w->result);
    return 0;
}

int tt_heap_attribute(const struct tt_heap_index *index, const struct tt_heap_marks *marks,
                      const struct tt_heap_shaper *shaper, struct tt_heap_lost *lost,
                      const struct tt_heap_options *options, struct tt_heap_result *result)
{
    struct work w = {.index = index, .shaper = shaper, .lost = lost, .result = result};
    lost->site = calloc(lost->list.len + 1, sizeof *lost->site);
    lost->chance = calloc(lost->list.len + 1, sizeof *lost->chance);
    int rc = lost->site && lost->chance ? ask_sites(&w, options) : -ENOMEM;
    if (!rc && options->site_of && w.sizes.len)
        rc = count_live(&w.table, index, marks, shaper, &w.sizes, options);
    if (!rc) {
        settle(&w.table);
        rc = find_strange(&w);
    }
    if (!rc)
        rc = give_out(&w);
    table_free(&w.table);
    tt_map_free(&w.sizes);
    tt_map_free(&w.strange);
    tt_map_free(&w.old);
    tt_map_free(&w.memo);
    tt_vec_free(&w.verdicts);
    return rc;
}
