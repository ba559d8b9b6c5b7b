/* SPDX-License-Identifier: Apache-2.0 */
/* One loss, one finding: a port goes with its socket, the descriptor inside of a stream with the
 * stream. Where units that stay are the consequence of others that stay, their finding is dropped
 * and the other one says so. Start: tt_judge_with. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "judge/dossier.h"
#include "resource/resource.h"

#define NEARLY_ALL 0.9
#define EACH_MOST 16.0 /* blocks that the library makes for one unit */

static struct tt_finding *finding_at(struct tt_findings *out, int64_t process, int64_t site)
{
    for (size_t i = 0; i < out->list.len; i++)
        if (out->list.data[i].process == process && out->list.data[i].site == site)
            return &out->list.data[i];
    return NULL;
}

/* Whether the verdict says at least as much as another. */
static bool says_as_much(const struct tt_finding *main, const struct tt_finding *other)
{
    return tt_verdict_is_leak(main->verdict) || !tt_verdict_is_leak(other->verdict);
}

/* The finding that explains most units of a dossier: NULL when none explains nearly all. */
static struct tt_finding *explained_by(const struct tt_dossiers *all, const struct tt_dossier *d,
                                       struct tt_findings *out)
{
    struct tt_finding *best = NULL;
    double most = 0, units = 0;
    for (size_t i = 0; i < d->members.len; i++) {
        const struct tt_case_site *s = &all->c->sites.data[d->members.data[i].site];
        for (size_t k = 0; k < s->with.len; k++) {
            struct tt_finding *f = finding_at(out, all->c->processes.data[s->process].id,
                                              (int64_t)s->with.data[k].which);
            units += f ? s->with.data[k].units : 0;
            if (f && s->with.data[k].units > most) {
                best = f;
                most = s->with.data[k].units;
            }
        }
    }
    return units >= NEARLY_ALL * d->live ? best : NULL;
}

static bool in_c_library(const struct tt_case *c, size_t process, uint64_t pc)
{
    static const char *const prefixes[] = {"libc.so",    "libc-2.", "ld-linux", "ld-2.",
                                           "libpthread", "ld-musl", "libc.musl"};
    const struct tt_case_module *m = tt_case_module(c, process, pc);
    const char *slash = m ? strrchr(m->path, '/') : NULL;
    const char *base = slash ? slash + 1 : m ? m->path : "";
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (strncmp(base, prefixes[i], strlen(prefixes[i])) == 0)
            return true;
    return false;
}

/* Whether a stack is another one with at least one more frame inside, all of them the library's. */
static bool made_inside(const struct tt_dossiers *all, const struct tt_dossier *d,
                        const struct tt_dossier *outer)
{
    const struct tt_case_stack *s = tt_case_stack(all->c, d->process, d->stack),
                               *o = tt_case_stack(all->c, outer->process, outer->stack);
    if (!s || !o || d->process != outer->process || !o->n || s->n <= o->n ||
        memcmp(s->pc + (s->n - o->n), o->pc, o->n * sizeof *o->pc) != 0)
        return false;
    for (size_t i = 0; i < s->n - o->n; i++)
        if (!in_c_library(all->c, d->process, s->pc[i]))
            return false;
    return true;
}

/* So many for each of the other: a whole number, nearly. */
static bool in_step(double units, double others)
{
    double each = units / others, whole = round(each);
    return whole >= 1 && whole <= EACH_MOST && fabs(each - whole) <= 0.1 * whole;
}

/* A finding of another kind than blocks, and its dossier. */
struct outer {
    size_t finding;
    const struct tt_dossier *d;
};
typedef TT_VEC(struct outer) outer_vec;

/* The finding of another kind in whose acquisition the library made these units. */
static struct tt_finding *made_for(struct tt_dossiers *all, const struct tt_dossier *d,
                                   struct tt_findings *out, const outer_vec *outers)
{
    for (size_t i = 0; i < outers->len; i++) {
        const struct tt_dossier *outer = outers->data[i].d;
        if (outer != d && strcmp(outer->resource, d->resource) != 0 &&
            in_step(d->live, outer->live) && made_inside(all, d, outer))
            return &out->list.data[outers->data[i].finding];
    }
    return NULL;
}

static int tell_main(struct tt_finding *main, const struct tt_finding *f)
{
    const struct tt_resource *kind = tt_resource_named(f->resource);
    bool heap = strcmp(f->resource, "heap") == 0, one = f->live == 1;
    char units[32];
    struct tt_evidence e = {.kind = "with", .value = (double)f->live, .log_e = NAN};
    snprintf(e.text, sizeof e.text, "with them stay%s %s %s", one ? "s" : "",
             tt_text_count(units, f->live),
             heap    ? one ? "block" : "blocks"
             : !kind ? f->resource
             : one   ? kind->one
                     : kind->many);
    return tt_vec_push(&main->evidence, e);
}

/* The dossier of each finding, NULL where it has none. */
static const struct tt_dossier **dossiers_of(struct tt_dossiers *all, const struct tt_findings *out)
{
    struct tt_map at = {0};
    const struct tt_dossier **list = calloc(out->list.len ? out->list.len : 1,
                                            sizeof *list); /* NOLINT(bugprone-sizeof-expression) */
    int rc = list ? 0 : -ENOMEM;
    for (size_t i = 0; !rc && i < all->list.len; i++)
        rc = tt_map_put(&at, tt_case_stack_key(all->list.data[i].process, all->list.data[i].site),
                        i);
    for (size_t i = 0; !rc && i < out->list.len; i++) {
        const struct tt_finding *f = &out->list.data[i];
        for (size_t p = 0; p < all->c->processes.len && !list[i]; p++) {
            const uint64_t *d = all->c->processes.data[p].id == f->process
                                    ? tt_map_get(&at, tt_case_stack_key(p, f->site))
                                    : NULL;
            list[i] = d ? &all->list.data[*d] : NULL;
        }
    }
    tt_map_free(&at);
    if (rc) {
        free(list);
        return NULL;
    }
    return list;
}

int tt_judge_with(struct tt_dossiers *all, struct tt_findings *out)
{
    outer_vec outers = {0};
    const struct tt_dossier **dossier = dossiers_of(all, out);
    bool *drop = calloc(out->list.len ? out->list.len : 1, sizeof *drop);
    int rc = dossier && drop ? 0 : -ENOMEM;
    for (size_t i = 0; !rc && i < out->list.len; i++) {
        const struct tt_dossier *d = dossier[i];
        struct outer outer = {i, d};
        if (d && d->live >= 1 && d->stack && strcmp(d->resource, "heap") != 0)
            rc = tt_vec_push(&outers, outer);
    }
    for (size_t i = 0; !rc && i < out->list.len; i++) {
        struct tt_finding *f = &out->list.data[i], *main = NULL;
        const struct tt_dossier *d = dossier[i];
        if (d && d->live >= 1)
            main = explained_by(all, d, out);
        if (!main && d && d->live >= 1)
            main = made_for(all, d, out, &outers);
        if (!main || main == f || drop[main - out->list.data] || !says_as_much(main, f))
            continue;
        rc = tell_main(main, f);
        drop[i] = true;
    }
    size_t kept = 0;
    for (size_t i = 0; drop && i < out->list.len; i++) {
        if (drop[i])
            tt_finding_free(&out->list.data[i]);
        else
            out->list.data[kept++] = out->list.data[i];
    }
    out->list.len = drop ? kept : out->list.len;
    tt_vec_free(&outers);
    free(dossier);
    free(drop);
    return rc;
}
