/* SPDX-License-Identifier: Apache-2.0 */
/* The small services of a case that evidence needs everywhere. Start: tt_case_at. */
#include "judge/case.h"

#include <stdio.h>
#include <string.h>

#include "stats/sampling.h"

void tt_case_free(struct tt_case *c)
{
    for (size_t i = 0; i < c->sites.len; i++) {
        struct tt_case_site *s = &c->sites.data[i];
        tt_vec_free(&s->rows);
        tt_vec_free(&s->survivors);
        tt_vec_free(&s->releases);
        tt_vec_free(&s->release_ages);
        for (unsigned k = 0; k < TT_CASE_CLOCKS; k++)
            tt_vec_free(&s->clocks[k].live);
        tt_vec_free(&s->owners);
        tt_vec_free(&s->with);
    }
    for (size_t i = 0; i < c->processes.len; i++) {
        tt_vec_free(&c->processes.data[i].rows);
        tt_vec_free(&c->processes.data[i].limits);
        tt_vec_free(&c->processes.data[i].amounts);
        tt_vec_free(&c->processes.data[i].modules);
    }
    for (size_t i = 0; i < c->operations.len; i++)
        tt_vec_free(&c->operations.data[i].rows);
    for (size_t i = 0; i < c->pcs.len; i++)
        free(c->pcs.data[i]);
    tt_vec_free(&c->snapshots);
    tt_vec_free(&c->groups);
    tt_vec_free(&c->shares);
    tt_vec_free(&c->holders);
    tt_vec_free(&c->helds);
    tt_vec_free(&c->stales);
    tt_vec_free(&c->attaches);
    tt_vec_free(&c->owners);
    tt_vec_free(&c->labels);
    tt_vec_free(&c->processes);
    tt_vec_free(&c->sites);
    tt_vec_free(&c->operations);
    tt_vec_free(&c->epochs);
    tt_vec_free(&c->stacks);
    tt_vec_free(&c->pcs);
    tt_map_free(&c->stack_of);
}

uint64_t tt_case_stack_key(size_t process, int64_t stack)
{
    /* stack ids are below 2^20 (tape.h TT_TAPE_SITES); mixing keeps odd ones apart too */
    return (uint64_t)process << 40 ^ (uint64_t)stack;
}

const struct tt_case_stack *tt_case_stack(const struct tt_case *c, size_t process, int64_t stack)
{
    const uint64_t *at = tt_map_get(&c->stack_of, tt_case_stack_key(process, stack));
    return at ? &c->stacks.data[*at] : NULL;
}

int tt_case_add_stack(struct tt_case *c, size_t process, int64_t id, const uint64_t *pcs, size_t n)
{
    uint64_t *copy = malloc((n ? n : 1) * sizeof *copy);
    if (!copy)
        return -ENOMEM;
    if (n)
        memcpy(copy, pcs, n * sizeof *copy);
    if (tt_vec_push(&c->pcs, copy)) {
        free(copy);
        return -ENOMEM;
    }
    if (tt_vec_push(&c->stacks, (struct tt_case_stack){copy, n}))
        return -ENOMEM;
    return tt_map_put(&c->stack_of, tt_case_stack_key(process, id), c->stacks.len - 1);
}

const struct tt_case_module *tt_case_module(const struct tt_case *c, size_t process, uint64_t pc)
{
    const struct tt_case_process *p = &c->processes.data[process];
    for (size_t i = p->modules.len; i-- > 0;)
        if (pc >= p->modules.data[i].start && pc < p->modules.data[i].end)
            return &p->modules.data[i];
    return NULL;
}

struct tt_case_row tt_case_at(const struct tt_case_site *site, double t)
{
    size_t lo = 0, hi = site->rows.len;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (site->rows.data[mid].t <= t)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo ? site->rows.data[lo - 1] : (struct tt_case_row){.t = t};
}

double tt_case_operation_at(const struct tt_case_operation *op, double t)
{
    size_t lo = 0, hi = op->rows.len;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (op->rows.data[mid].t <= t)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == 0)
        return 0;
    double count = op->rows.data[lo - 1].count;
    if (lo == op->rows.len)
        return count;
    double t0 = op->rows.data[lo - 1].t, t1 = op->rows.data[lo].t;
    return count + (op->rows.data[lo].count - count) * (t - t0) / (t1 - t0);
}

const struct tt_case_snapshot *tt_case_snapshot_of(const struct tt_case *c, size_t target, double t)
{
    const struct tt_case_snapshot *latest = NULL;
    for (size_t i = 0; i < c->snapshots.len; i++) {
        const struct tt_case_snapshot *s = &c->snapshots.data[i];
        if (s->detailed && c->processes.data[s->process].target == target && s->t <= t &&
            (!latest || s->t >= latest->t))
            latest = s;
    }
    return latest;
}

double tt_case_sample_mean(const struct tt_case *c, const struct tt_case_site *site)
{
    return strcmp(site->resource, "heap") == 0 ? c->processes.data[site->process].sample_mean : 0;
}

double tt_case_inclusion(const struct tt_case *c, const struct tt_case_site *site, double size)
{
    return tt_stats_p_thin(site->thin) * tt_stats_p_bytes(size, tt_case_sample_mean(c, site));
}

void tt_case_label(const struct tt_case *c, char *buf, size_t size)
{
    size_t used = 0;
    buf[0] = '\0';
    for (size_t i = 0; i < c->labels.len && used < size; i++)
        used += (size_t)snprintf(buf + used, size - used, "%s%s=%s", i ? " " : "",
                                 c->labels.data[i].key, c->labels.data[i].value);
    if (!c->labels.len)
        snprintf(buf, size, "%s", c->name);
}

int tt_case_covariate(const struct tt_case *c, const char *key, double *value)
{
    for (size_t i = 0; i < c->labels.len; i++) {
        if (strcmp(c->labels.data[i].key, key) != 0)
            continue;
        char *end;
        *value = strtod(c->labels.data[i].value, &end);
        return end != c->labels.data[i].value && !*end ? 0 : -ENOENT;
    }
    return -ENOENT;
}
