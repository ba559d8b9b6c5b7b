/* SPDX-License-Identifier: Apache-2.0 */
/* Session rows of schema 2 become part of a case: frozen copies and what was found in them,
 * untouched objects, attaching. Start: tt_judge_read_frozen. */
#include <stdio.h>
#include <string.h>

#include "judge/read.h"
#include "session/snapshot.h"

struct frozen {
    struct tt_session *session;
    struct tt_case *c;
    uint64_t origin;
    const struct tt_map *process_of;
    struct tt_map snapshot_of; /* process index and snapshot id -> index */
    struct tt_error *err;
};

static double since_origin(const struct frozen *r, uint64_t ns)
{
    return ns >= r->origin ? (double)(ns - r->origin) / 1e9 : -(double)(r->origin - ns) / 1e9;
}

static uint64_t snapshot_key(size_t process, int64_t id)
{
    return tt_map_mix((uint64_t)process) ^ (uint64_t)id;
}

/* The snapshot of a row; it has details, then. NULL: the session has no such snapshot. */
static struct tt_case_snapshot *detailed(const struct frozen *r, int64_t process, int64_t id,
                                         size_t *at)
{
    const uint64_t *p = tt_map_get(r->process_of, (uint64_t)process);
    const uint64_t *s = p ? tt_map_get(&r->snapshot_of, snapshot_key(*p, id)) : NULL;
    if (!s)
        return NULL;
    *at = *s;
    r->c->snapshots.data[*s].detailed = true;
    return &r->c->snapshots.data[*s];
}

static int read_snapshots(struct frozen *r)
{
    tt_session_snapshot_vec rows = {0};
    int rc = tt_session_snapshots(r->session, -1, &rows, r->err);
    for (size_t i = 0; !rc && i < rows.len; i++) {
        const struct tt_session_snapshot *s = &rows.data[i];
        const uint64_t *process = tt_map_get(r->process_of, (uint64_t)s->process);
        if (!process)
            continue;
        struct tt_case_snapshot kept = {.process = *process,
                                        .id = s->id,
                                        .t = since_origin(r, s->at_ns),
                                        .tick = s->tick,
                                        .core = strcmp(s->source, "core") == 0,
                                        .detailed = s->lost_units == 0,
                                        .stop = (double)s->stop_ns / 1e9,
                                        .fork = (double)s->fork_ns / 1e9,
                                        .scan = (double)s->scan_ns / 1e9,
                                        .blocks = (double)s->blocks,
                                        .bytes = (double)s->bytes,
                                        .lost_units = (double)s->lost_units,
                                        .lost_bytes = (double)s->lost_bytes,
                                        .lost_roots = (double)s->lost_roots,
                                        .old_units = (double)s->old_units,
                                        .unknown_units = (double)s->unknown_units,
                                        .unread_bytes = (double)s->unread_bytes,
                                        .doubt_bytes = (double)s->doubt_bytes,
                                        .tagged = (double)s->tagged,
                                        .groups_left_out = (double)s->groups_left_out};
        snprintf(kept.allocator, sizeof kept.allocator, "%s", s->allocator);
        if (tt_vec_push(&r->c->snapshots, kept) ||
            tt_map_put(&r->snapshot_of, snapshot_key(*process, s->id), r->c->snapshots.len - 1))
            rc = -ENOMEM;
    }
    tt_vec_free(&rows);
    return rc;
}

static int read_groups(struct frozen *r)
{
    tt_session_lost_group_vec rows = {0};
    int rc = tt_session_lost_groups(r->session, -1, -1, &rows, r->err);
    for (size_t i = 0, at; !rc && i < rows.len; i++) {
        const struct tt_session_lost_group *g = &rows.data[i];
        if (!detailed(r, g->process, g->snapshot, &at))
            continue;
        struct tt_case_group kept = {.snapshot = at,
                                     .id = g->id,
                                     .fingerprint = g->fingerprint,
                                     .size_min = g->size_min,
                                     .size_max = g->size_max,
                                     .units = (double)g->units,
                                     .bytes = (double)g->bytes,
                                     .roots = (double)g->roots,
                                     .hung_units = (double)g->hung_units,
                                     .hung_bytes = (double)g->hung_bytes,
                                     .unknown_units = (double)g->unknown_units,
                                     .unknown_bytes = (double)g->unknown_bytes};
        snprintf(kept.shape, sizeof kept.shape, "%s", g->shape);
        snprintf(kept.samples, sizeof kept.samples, "%s", g->samples);
        rc = tt_vec_push(&r->c->groups, kept);
    }
    tt_vec_free(&rows);
    return rc;
}

static int read_shares(struct frozen *r)
{
    tt_session_lost_share_vec rows = {0};
    int rc = tt_session_lost_shares(r->session, -1, -1, &rows, r->err);
    for (size_t i = 0, at; !rc && i < rows.len; i++) {
        const struct tt_session_lost_share *s = &rows.data[i];
        if (!detailed(r, s->process, s->snapshot, &at))
            continue;
        struct tt_case_share kept = {at,
                                     s->group,
                                     s->site,
                                     (double)s->known_units,
                                     (double)s->known_bytes,
                                     (double)s->old_units,
                                     (double)s->old_bytes,
                                     s->probability};
        rc = tt_vec_push(&r->c->shares, kept);
    }
    tt_vec_free(&rows);
    return rc;
}

static int read_holders(struct frozen *r)
{
    tt_session_holder_vec rows = {0};
    tt_session_held_vec helds = {0};
    int rc = tt_session_holders(r->session, -1, -1, &rows, r->err);
    for (size_t i = 0, at; !rc && i < rows.len; i++) {
        const struct tt_session_holder *h = &rows.data[i];
        if (!detailed(r, h->process, h->snapshot, &at))
            continue;
        struct tt_case_holder kept = {.snapshot = at,
                                      .id = h->id,
                                      .site = h->site,
                                      .units = (double)h->units,
                                      .bytes = (double)h->bytes};
        snprintf(kept.place, sizeof kept.place, "%s", h->place);
        snprintf(kept.path, sizeof kept.path, "%s", h->path);
        rc = tt_vec_push(&r->c->holders, kept);
    }
    if (!rc)
        rc = tt_session_helds(r->session, -1, -1, &helds, r->err);
    for (size_t i = 0, at; !rc && i < helds.len; i++) {
        const struct tt_session_held *h = &helds.data[i];
        if (!detailed(r, h->process, h->snapshot, &at))
            continue;
        struct tt_case_held kept = {at, h->holder, h->site, (double)h->units, (double)h->bytes};
        rc = tt_vec_push(&r->c->helds, kept);
    }
    tt_vec_free(&rows);
    tt_vec_free(&helds);
    return rc;
}

static int read_stales(struct frozen *r)
{
    tt_session_stale_vec rows = {0};
    int rc = tt_session_stales(r->session, -1, &rows, r->err);
    for (size_t i = 0; !rc && i < rows.len; i++) {
        const struct tt_session_stale *s = &rows.data[i];
        const uint64_t *process = tt_map_get(r->process_of, (uint64_t)s->process);
        struct tt_case_stale kept = {.site = s->site,
                                     .epochs = s->epochs,
                                     .objects = (double)s->objects,
                                     .untouched = (double)s->untouched,
                                     .weight = s->untouched_weight,
                                     .seconds = s->seconds};
        if (!process)
            continue;
        kept.process = *process;
        rc = tt_vec_push(&r->c->stales, kept);
    }
    tt_vec_free(&rows);
    return rc;
}

static int read_attaches(struct frozen *r)
{
    for (size_t i = 0; i < r->c->processes.len; i++) {
        struct tt_session_attach row;
        int rc = tt_session_attach(r->session, r->c->processes.data[i].id, &row, r->err);
        if (rc == -ENOENT)
            continue;
        if (rc)
            return rc;
        struct tt_case_attach kept = {.process = i,
                                      .t = since_origin(r, row.at_ns),
                                      .stop = (double)row.stop_ns / 1e9,
                                      .detached =
                                          row.detached_ns ? since_origin(r, row.detached_ns) : 0,
                                      .detach_stop = (double)row.detach_stop_ns / 1e9,
                                      .start = (double)row.start_ns / 1e9,
                                      .entries = row.entries,
                                      .slots = row.slots,
                                      .kept = row.kept};
        snprintf(kept.notes, sizeof kept.notes, "%s", row.notes);
        if (tt_vec_push(&r->c->attaches, kept))
            return -ENOMEM;
    }
    return 0;
}

int tt_judge_read_frozen(struct tt_session *session, struct tt_case *out, uint64_t origin_ns,
                         const struct tt_map *process_of, struct tt_error *err)
{
    struct frozen r = {
        .session = session, .c = out, .origin = origin_ns, .process_of = process_of, .err = err};
    int rc = read_snapshots(&r);
    if (!rc)
        rc = read_groups(&r);
    if (!rc)
        rc = read_shares(&r);
    if (!rc)
        rc = read_holders(&r);
    if (!rc)
        rc = read_stales(&r);
    if (!rc)
        rc = read_attaches(&r);
    tt_map_free(&r.snapshot_of);
    return rc == -ENOMEM ? tt_error_set(err, rc, "out of memory while reading a session") : rc;
}
