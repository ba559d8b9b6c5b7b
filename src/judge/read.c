/* SPDX-License-Identifier: Apache-2.0 */
/* Session rows become a case: nanoseconds become seconds since the session's origin, ids of
 * processes become indices. Start: tt_judge_read. */
#include "judge/read.h"

#include <stdio.h>
#include <string.h>

#include "session/session.h"

_Static_assert(TT_SESSION_BINS == TT_STATS_BINS, "the session and the statistics bin ages alike");

struct reader {
    struct tt_session *session;
    struct tt_case *c;
    uint64_t origin;
    struct tt_map process_of; /* session id -> index */
    struct tt_error *err;
};

static double seconds(const struct reader *r, uint64_t ns)
{
    return ns >= r->origin ? (double)(ns - r->origin) / 1e9 : -(double)(r->origin - ns) / 1e9;
}

static int no_memory(const struct reader *r)
{
    return tt_error_set(r->err, -ENOMEM, "out of memory while reading a session");
}

static int read_labels(struct reader *r)
{
    tt_session_label_vec rows = {0};
    int rc = tt_session_labels(r->session, &rows, r->err);
    if (!rc && tt_vec_reserve(&r->c->labels, rows.len))
        rc = no_memory(r);
    for (size_t i = 0; !rc && i < rows.len; i++) {
        snprintf(r->c->labels.data[i].key, sizeof r->c->labels.data[i].key, "%s", rows.data[i].key);
        snprintf(r->c->labels.data[i].value, sizeof r->c->labels.data[i].value, "%s",
                 rows.data[i].value);
        r->c->labels.len++;
    }
    tt_vec_free(&rows);
    return rc;
}

static int read_epochs(struct reader *r)
{
    tt_session_epoch_vec rows = {0};
    int rc = tt_session_epochs(r->session, &rows, r->err);
    for (size_t i = 0; !rc && i < rows.len; i++) {
        double t = seconds(r, rows.data[i].at_ns);
        /* two epochs of one moment (a process that ended between ticks) are one grid point */
        if (r->c->epochs.len && t <= r->c->epochs.data[r->c->epochs.len - 1])
            continue;
        if (tt_vec_push(&r->c->epochs, t))
            rc = no_memory(r);
        r->c->end = t;
    }
    tt_vec_free(&rows);
    return rc;
}

static int read_modules(struct reader *r, int64_t id, struct tt_case_process *p)
{
    tt_session_module_vec rows = {0};
    int rc = tt_session_modules(r->session, id, &rows, r->err);
    for (size_t i = 0; !rc && i < rows.len; i++) {
        struct tt_case_module m = {.start = rows.data[i].start,
                                   .end = rows.data[i].end,
                                   .file_offset = rows.data[i].file_offset};
        snprintf(m.path, sizeof m.path, "%s", rows.data[i].path);
        snprintf(m.build_id, sizeof m.build_id, "%s", rows.data[i].build_id);
        if (tt_vec_push(&p->modules, m))
            rc = no_memory(r);
    }
    tt_vec_free(&rows);
    return rc;
}

static int read_procs(struct reader *r, int64_t id, struct tt_case_process *p)
{
    tt_session_proc_vec rows = {0};
    int rc = tt_session_procs(r->session, id, &rows, r->err);
    for (size_t i = 0; !rc && i < rows.len; i++) {
        const struct tt_session_proc *s = &rows.data[i];
        struct tt_case_proc_row row = {.t = seconds(r, s->at_ns),
                                       .rss_anon = (double)s->rss_anon,
                                       .heap_live = (double)s->heap_live,
                                       .heap_held = (double)s->heap_held,
                                       .fds = (double)s->fds,
                                       .threads = (double)s->threads,
                                       .vm_size = (double)s->vm_size,
                                       .cpu_ms = (double)s->cpu_ms};
        if (tt_vec_push(&p->rows, row))
            rc = no_memory(r);
    }
    tt_vec_free(&rows);
    return rc;
}

static int read_limits(struct reader *r, int64_t id, struct tt_case_process *p)
{
    tt_session_limit_vec rows = {0};
    int rc = tt_session_limits(r->session, id, &rows, r->err);
    if (!rc && tt_vec_reserve(&p->limits, rows.len))
        rc = no_memory(r);
    for (size_t i = 0; !rc && i < rows.len; i++) {
        snprintf(p->limits.data[i].name, sizeof p->limits.data[i].name, "%s", rows.data[i].name);
        p->limits.data[i].value = (double)rows.data[i].value;
        p->limits.len++;
    }
    tt_vec_free(&rows);
    return rc;
}

/* The first image of the program that the last process of the case is an image of. */
static size_t target_of(const struct tt_case *c)
{
    size_t last = c->processes.len - 1;
    const struct tt_case_process *p = &c->processes.data[last];
    for (size_t i = 0; i < last; i++) {
        const struct tt_case_process *q = &c->processes.data[i];
        if (q->pid == p->pid && strcmp(q->exe, p->exe) == 0 &&
            strcmp(q->build_id, p->build_id) == 0)
            return i;
    }
    return last;
}

static int read_processes(struct reader *r)
{
    tt_session_process_vec rows = {0};
    int rc = tt_session_processes(r->session, &rows, r->err);
    for (size_t i = 0; !rc && i < rows.len; i++) {
        const struct tt_session_process *s = &rows.data[i];
        struct tt_session_look look;
        struct tt_case_process p = {.id = s->id,
                                    .pid = s->pid,
                                    .started = seconds(r, s->started_ns),
                                    .ended = s->ended_ns != 0,
                                    .ended_at = s->ended_ns ? seconds(r, s->ended_ns) : 0};
        snprintf(p.exe, sizeof p.exe, "%s", s->exe);
        snprintf(p.build_id, sizeof p.build_id, "%s", s->build_id);
        snprintf(p.allocator, sizeof p.allocator, "%s", s->allocator);
        if (strcmp(s->mode, "sampled") == 0)
            p.sample_mean = (double)s->sample_mean;
        int looked = tt_session_look(r->session, s->id, &look, r->err);
        if (looked && looked != -ENOENT) {
            rc = looked;
            break;
        }
        if (!looked)
            p.look = seconds(r, look.at_ns);
        if (tt_vec_push(&r->c->processes, p) ||
            tt_map_put(&r->process_of, (uint64_t)s->id, r->c->processes.len - 1)) {
            rc = no_memory(r);
            break;
        }
        r->c->processes.data[r->c->processes.len - 1].target = target_of(r->c);
        struct tt_case_process *kept = &r->c->processes.data[r->c->processes.len - 1];
        rc = read_modules(r, s->id, kept);
        if (!rc)
            rc = read_procs(r, s->id, kept);
        if (!rc)
            rc = read_limits(r, s->id, kept);
    }
    tt_vec_free(&rows);
    return rc;
}

static int read_stack(struct reader *r, size_t process, int64_t id)
{
    struct tt_session_stack stack = {0};
    if (!id || tt_case_stack(r->c, process, id))
        return 0;
    int rc = tt_session_stack(r->session, r->c->processes.data[process].id, id, &stack, r->err);
    if (rc == -ENOENT)
        return 0;
    if (!rc && tt_case_add_stack(r->c, process, id, stack.frames, stack.n))
        rc = no_memory(r);
    free(stack.frames);
    return rc;
}

static int read_site(struct reader *r, const struct tt_session_site *row, struct tt_case_site *s)
{
    tt_session_sample_vec samples = {0};
    int rc = tt_session_series(r->session, row->process, row->id, &samples, r->err);
    if (!rc && tt_vec_reserve(&s->rows, samples.len))
        rc = no_memory(r);
    for (size_t i = 0; !rc && i < samples.len; i++) {
        const struct tt_session_sample *p = &samples.data[i];
        s->rows.data[s->rows.len++] = (struct tt_case_row){.t = seconds(r, p->at_ns),
                                                           .births = (double)p->births,
                                                           .birth_bytes = (double)p->birth_bytes,
                                                           .deaths = (double)p->deaths,
                                                           .death_bytes = (double)p->death_bytes};
    }
    tt_vec_free(&samples);
    if (!rc)
        rc = tt_session_deaths(r->session, row->process, row->id, s->deaths, r->err);
    return rc ? rc : read_stack(r, s->process, s->stack);
}

static int read_sites(struct reader *r, struct tt_map *site_of)
{
    tt_session_site_vec rows = {0};
    int rc = tt_session_sites(r->session, -1, &rows, r->err);
    for (size_t i = 0; !rc && i < rows.len; i++) {
        const struct tt_session_site *row = &rows.data[i];
        const uint64_t *process = tt_map_get(&r->process_of, (uint64_t)row->process);
        if (!process || !row->births)
            continue;
        struct tt_case_site s = {.process = *process,
                                 .id = row->id,
                                 .stack = row->stack,
                                 .thin = row->thin,
                                 .size_min = row->size_min,
                                 .size_max = row->size_max};
        snprintf(s.resource, sizeof s.resource, "%s", row->resource);
        if (tt_vec_push(&r->c->sites, s) ||
            tt_map_put(site_of, tt_case_stack_key(s.process, s.id), r->c->sites.len - 1)) {
            rc = no_memory(r);
            break;
        }
        rc = read_site(r, row, &r->c->sites.data[r->c->sites.len - 1]);
    }
    tt_vec_free(&rows);
    return rc;
}

static struct tt_case_site *site_at(struct reader *r, const struct tt_map *site_of, size_t process,
                                    int64_t id)
{
    const uint64_t *at = tt_map_get(site_of, tt_case_stack_key(process, id));
    return at ? &r->c->sites.data[*at] : NULL;
}

/* What the session keeps per process for all sites at once. */
static int read_lives(struct reader *r, const struct tt_map *site_of, size_t process)
{
    int64_t id = r->c->processes.data[process].id;
    tt_session_survivor_vec survivors = {0};
    tt_session_release_vec releases = {0};
    tt_session_release_age_vec ages = {0};
    int rc = tt_session_survivors(r->session, id, -1, &survivors, r->err);
    for (size_t i = 0; !rc && i < survivors.len; i++) {
        const struct tt_session_survivor *row = &survivors.data[i];
        struct tt_case_site *s = site_at(r, site_of, process, row->site);
        uint32_t size = row->size < UINT32_MAX ? (uint32_t)row->size : UINT32_MAX;
        if (s && tt_vec_push(&s->survivors, (struct tt_case_unit){size, row->tick, row->count}))
            rc = no_memory(r);
    }
    if (!rc)
        rc = tt_session_releases(r->session, id, -1, &releases, r->err);
    for (size_t i = 0; !rc && i < releases.len; i++) {
        const struct tt_session_release *row = &releases.data[i];
        struct tt_case_site *s = site_at(r, site_of, process, row->site);
        struct tt_case_release kept = {row->by_stack, row->samples, row->weight};
        if (s && tt_vec_push(&s->releases, kept))
            rc = no_memory(r);
        if (s && !rc)
            rc = read_stack(r, process, row->by_stack);
    }
    if (!rc)
        rc = tt_session_release_ages(r->session, id, -1, &ages, r->err);
    for (size_t i = 0; !rc && i < ages.len; i++) {
        struct tt_case_site *s = site_at(r, site_of, process, ages.data[i].site);
        struct tt_stats_age age = {ages.data[i].age, ages.data[i].samples};
        if (s && tt_vec_push(&s->release_ages, age))
            rc = no_memory(r);
    }
    tt_vec_free(&survivors);
    tt_vec_free(&releases);
    tt_vec_free(&ages);
    return rc;
}

static int read_operations(struct reader *r)
{
    tt_session_operation_vec rows = {0};
    int rc = tt_session_operations(r->session, -1, &rows, r->err);
    for (size_t i = 0; !rc && i < rows.len; i++) {
        const struct tt_session_operation *row = &rows.data[i];
        const uint64_t *process = tt_map_get(&r->process_of, (uint64_t)row->process);
        if (!process || !row->address)
            continue; /* refused: never counted */
        struct tt_case_operation op = {.process = *process,
                                       .id = row->id,
                                       .address = row->address,
                                       .declared = strcmp(row->source, "declared") == 0,
                                       .since = seconds(r, row->since_ns)};
        snprintf(op.name, sizeof op.name, "%s", row->name);
        snprintf(op.function, sizeof op.function, "%s", row->function);
        tt_session_count_vec counts = {0};
        rc = tt_session_operation_series(r->session, row->process, row->id, &counts, r->err);
        if (!rc && tt_vec_reserve(&op.rows, counts.len + 1))
            rc = no_memory(r);
        for (size_t k = 0; !rc && k < counts.len; k++) {
            op.rows.data[op.rows.len].t = seconds(r, counts.data[k].at_ns);
            op.rows.data[op.rows.len++].count = (double)counts.data[k].count;
        }
        tt_vec_free(&counts);
        if (!rc && tt_vec_push(&r->c->operations, op))
            rc = no_memory(r);
        if (rc)
            tt_vec_free(&op.rows);
    }
    tt_vec_free(&rows);
    return rc;
}

int tt_judge_read(struct tt_session *session, const char *name, struct tt_case *out,
                  struct tt_error *err)
{
    const struct tt_session_meta *meta = tt_session_meta(session);
    struct reader r = {.session = session, .c = out, .origin = meta->origin_ns, .err = err};
    struct tt_map site_of = {0};
    *out =
        (struct tt_case){.horizon_s = meta->horizon_s, .exact = strcmp(meta->mode, "exact") == 0};
    snprintf(out->name, sizeof out->name, "%s", name ? name : tt_session_path(session));
    int rc = read_labels(&r);
    if (!rc)
        rc = read_epochs(&r);
    if (!rc)
        rc = read_processes(&r);
    if (!rc)
        rc = read_sites(&r, &site_of);
    for (size_t p = 0; !rc && p < out->processes.len; p++)
        rc = read_lives(&r, &site_of, p);
    if (!rc)
        rc = read_operations(&r);
    if (!rc)
        rc = tt_judge_read_frozen(session, out, r.origin, &r.process_of, err);
    if (!rc)
        rc = tt_judge_read_resource(session, out, r.origin, &site_of, err);
    tt_map_free(&r.process_of);
    tt_map_free(&site_of);
    return rc;
}
