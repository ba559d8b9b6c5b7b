/* SPDX-License-Identifier: Apache-2.0 */
/* The sites of a session for `telltale list`: live units and their ages from the survivors of the
 * last look, weighted where only a sample was followed; and the lost blocks of the latest
 * snapshots. Start: tt_report_material_sites. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "report/material_internal.h"
#include "session/resource.h"
#include "session/snapshot.h"

/* Only heap blocks are sampled by bytes; all other units are followed one by one in every mode. */
static bool sampled_by_bytes(const struct tt_session_process *process,
                             const struct tt_session_site *row)
{
    return process && !strcmp(process->mode, "sampled") && !strcmp(row->resource, "heap");
}

/* Units that one followed unit of this size stands for: the inverse of its inclusion probability,
 * 1 - exp(-size / mean gap) in sampled mode, 2^-thin in adaptive mode. */
static double weight_of(const struct tt_session_process *process, const struct tt_session_site *row,
                        double size)
{
    double weight = ldexp(1, (int)row->thin);
    if (sampled_by_bytes(process, row) && process->sample_mean && size > 0)
        weight /= -expm1(-size / (double)process->sample_mean);
    return weight;
}

static const struct tt_session_process *row_of(const struct tt_material_source *s, int64_t process)
{
    for (size_t i = 0; i < s->rows.len; i++)
        if (s->rows.data[i].id == process)
            return &s->rows.data[i];
    return NULL;
}

/* Live units, bytes and ages from the survivors of the last look. */
static int add_survivors(struct tt_session *session, const struct tt_session_process *process,
                         const struct tt_session_site *row, struct tt_report_site *site,
                         struct tt_error *err)
{
    tt_session_survivor_vec survivors = {0};
    struct tt_session_look look;
    int rc = tt_session_look(session, row->process, &look, err);
    if (rc == -ENOENT)
        return 0;
    if (!rc)
        rc = tt_session_survivors(session, row->process, row->id, &survivors, err);
    double units = 0;
    uint32_t per_second = tt_session_meta(session)->ticks_per_second;
    for (size_t i = 0; i < survivors.len && !rc; i++) {
        const struct tt_session_survivor *s = &survivors.data[i];
        double weight = (double)s->count * weight_of(process, row, (double)s->size);
        double age =
            per_second && look.tick >= s->tick ? (look.tick - s->tick) / (double)per_second : NAN;
        units += weight;
        site->live_bytes += weight * (double)s->size;
        site->oldest = fmax(site->oldest, age); /* fmax and fmin ignore a NaN */
        site->youngest = fmin(site->youngest, age);
    }
    site->live = (uint64_t)llround(units);
    tt_vec_free(&survivors);
    return rc;
}

static int by_live_bytes(const void *a, const void *b)
{
    const struct tt_report_site *x = a, *y = b;
    if (x->live_bytes != y->live_bytes)
        return x->live_bytes < y->live_bytes ? 1 : -1;
    if (x->live != y->live)
        return x->live < y->live ? 1 : -1;
    if (x->process != y->process)
        return x->process < y->process ? -1 : 1;
    return x->site < y->site ? -1 : x->site > y->site;
}

static void name_site(struct tt_report_material *m, struct tt_report_site *site, int64_t stack_id)
{
    struct tt_report_stack stack;
    if (tt_material_stack_get(m, 0, site->process, stack_id, &stack) || !stack.n)
        return;
    const struct tt_symbol_frame *top = &stack.frames[tt_report_top_frame(stack.frames, stack.n)];
    site->function = top->function;
    site->module = top->module;
    site->file = top->file;
    site->line = top->line;
    site->offset = top->offset;
}

/* What stands in the session where a site has no stack: "pipe: open before the recording began". */
static void name_place(struct tt_session *session, struct tt_report_site *site)
{
    tt_session_place_vec places = {0};
    if (*site->function || *site->module ||
        tt_session_places(session, site->process, &places, NULL) != 0)
        return;
    for (size_t i = 0; i < places.len; i++)
        if (places.data[i].site == site->site)
            site->place = places.data[i].place;
    tt_vec_free(&places);
}

static int by_lost_bytes(const void *a, const void *b)
{
    const struct tt_report_lost *x = a, *y = b;
    if (x->process != y->process)
        return x->process < y->process ? -1 : 1;
    return (x->bytes < y->bytes) - (x->bytes > y->bytes);
}

/* The groups of the latest snapshot of each process. */
static int read_lost(struct tt_report_material *m, struct tt_error *err)
{
    tt_session_snapshot_vec snapshots = {0};
    tt_session_lost_group_vec groups = {0};
    struct tt_session *session = m->sources[0].from.session;
    int rc = tt_session_snapshots(session, -1, &snapshots, err);
    if (!rc)
        rc = tt_session_lost_groups(session, -1, -1, &groups, err);
    m->lost.len = 0;
    for (size_t i = 0; i < groups.len && !rc; i++) {
        const struct tt_session_lost_group *g = &groups.data[i];
        int64_t latest = 0;
        for (size_t k = 0; k < snapshots.len; k++)
            if (snapshots.data[k].process == g->process && snapshots.data[k].id > latest)
                latest = snapshots.data[k].id;
        struct tt_report_lost lost = {g->process, g->units,         g->bytes,
                                      g->roots,   g->unknown_units, g->shape};
        if (g->snapshot == latest && tt_vec_push(&m->lost, lost))
            rc = tt_error_set(err, -ENOMEM, "out of memory for %zu groups", groups.len);
    }
    if (m->lost.len)
        qsort(m->lost.data, m->lost.len, sizeof *m->lost.data, by_lost_bytes);
    tt_vec_free(&snapshots);
    tt_vec_free(&groups);
    return rc;
}

int tt_report_material_sites(struct tt_report_material *m, size_t max, struct tt_report_sites *out,
                             struct tt_error *err)
{
    struct tt_material_source *s = &m->sources[0];
    tt_session_site_vec rows = {0};
    struct tt_map stacks = {0}; /* index into rows -> by position after sorting */
    int rc = tt_session_sites(s->from.session, -1, &rows, err);
    m->sites.len = 0;
    if (!rc)
        rc = read_lost(m, err);
    for (size_t i = 0; i < rows.len && !rc; i++) {
        const struct tt_session_site *row = &rows.data[i];
        const struct tt_session_process *process = row_of(s, row->process);
        double mean = row->births ? (double)row->birth_bytes / (double)row->births : 0;
        struct tt_report_site site = {
            .process = row->process,
            .site = row->id,
            .resource = row->resource,
            .births = (uint64_t)llround((double)row->births * weight_of(process, row, mean)),
            .oldest = NAN,
            .youngest = NAN,
            .estimated = row->thin || sampled_by_bytes(process, row),
            .function = "",
            .file = "",
            .module = "",
            .size_min = row->size_min <= row->size_max ? row->size_min : 0,
            .size_max = row->size_min <= row->size_max ? row->size_max : 0};
        rc = add_survivors(s->from.session, process, row, &site, err);
        if (!rc && (tt_vec_push(&m->sites, site) ||
                    tt_map_put(&stacks, tt_map_mix((uint64_t)row->process) ^ (uint64_t)row->id,
                               (uint64_t)row->stack)))
            rc = tt_error_set(err, -ENOMEM, "out of memory for %zu sites", rows.len);
    }
    if (!rc) {
        if (m->sites.len)
            qsort(m->sites.data, m->sites.len, sizeof *m->sites.data, by_live_bytes);
        size_t shown = max && m->sites.len > max ? max : m->sites.len;
        for (size_t i = 0; i < shown; i++) {
            struct tt_report_site *site = &m->sites.data[i];
            const uint64_t *stack =
                tt_map_get(&stacks, tt_map_mix((uint64_t)site->process) ^ (uint64_t)site->site);
            if (stack)
                name_site(m, site, (int64_t)*stack);
            name_place(s->from.session, site);
        }
        *out = (struct tt_report_sites){.list = m->sites.data,
                                        .n = shown,
                                        .lost = m->lost.data,
                                        .n_lost = m->lost.len,
                                        .more = m->sites.len - shown,
                                        .seconds = s->session.seconds};
    }
    tt_map_free(&stacks);
    tt_vec_free(&rows);
    return rc;
}
