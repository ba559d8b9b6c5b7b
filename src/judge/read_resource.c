/* SPDX-License-Identifier: Apache-2.0 */
/* Session rows of schema 3 become part of a case: places without a stack, owners, second clocks,
 * what there is of each kind. Start: tt_judge_read_resource. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "judge/read.h"
#include "session/resource.h"

struct reader {
    struct tt_session *session;
    struct tt_case *c;
    uint64_t origin;
    size_t process; /* index, of the one being read */
    int64_t id;
    const struct tt_map *site_of;
    struct tt_map owner_of; /* id -> index */
    struct tt_error *err;
};

static int no_memory(const struct reader *r)
{
    return tt_error_set(r->err, -ENOMEM, "out of memory while reading a session");
}

static double seconds(const struct reader *r, uint64_t ns)
{
    return ns >= r->origin ? (double)(ns - r->origin) / 1e9 : 0;
}

static struct tt_case_site *site_at(const struct reader *r, int64_t id)
{
    const uint64_t *at = tt_map_get(r->site_of, tt_case_stack_key(r->process, id));
    return at ? &r->c->sites.data[*at] : NULL;
}

static int read_places(struct reader *r)
{
    tt_session_place_vec rows = {0};
    int rc = tt_session_places(r->session, r->id, &rows, r->err);
    for (size_t i = 0; !rc && i < rows.len; i++) {
        struct tt_case_site *s = site_at(r, rows.data[i].site);
        if (s)
            snprintf(s->place, sizeof s->place, "%s", rows.data[i].place);
    }
    tt_vec_free(&rows);
    return rc;
}

static int read_owners(struct reader *r)
{
    tt_session_owner_vec rows = {0};
    tt_session_site_owner_vec shares = {0};
    int rc = tt_session_owners(r->session, r->id, &rows, r->err);
    for (size_t i = 0; !rc && i < rows.len; i++) {
        const struct tt_session_owner *row = &rows.data[i];
        struct tt_case_owner owner = {.process = r->process,
                                      .pid = row->pid,
                                      .began = seconds(r, row->began_ns),
                                      .ended = row->ended_ns ? seconds(r, row->ended_ns) : 0};
        snprintf(owner.address, sizeof owner.address, "%s", row->address);
        snprintf(owner.exe, sizeof owner.exe, "%s", row->exe);
        if (tt_vec_push(&r->c->owners, owner) ||
            tt_map_put(&r->owner_of, (uint64_t)row->id, r->c->owners.len - 1))
            rc = no_memory(r);
    }
    if (!rc)
        rc = tt_session_site_owners(r->session, r->id, &shares, r->err);
    for (size_t i = 0; !rc && i < shares.len; i++) {
        struct tt_case_site *s = site_at(r, shares.data[i].site);
        const uint64_t *at = tt_map_get(&r->owner_of, (uint64_t)shares.data[i].owner);
        struct tt_case_share_of share = {at && shares.data[i].owner ? *at + 1 : 0,
                                         (double)shares.data[i].units};
        if (s && tt_vec_push(&s->owners, share))
            rc = no_memory(r);
    }
    tt_vec_free(&rows);
    tt_vec_free(&shares);
    return rc;
}

static int clock_named(const char *name)
{
    static const char *const names[TT_CASE_CLOCKS] = {[TT_CASE_OWNER_END] = TT_SESSION_OWNER_END,
                                                      [TT_CASE_CLOSE_WAIT] = TT_SESSION_CLOSE_WAIT,
                                                      [TT_CASE_ENDED] = TT_SESSION_ENDED};
    for (int i = 0; i < TT_CASE_CLOCKS; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    return -1; /* of a later telltale */
}

static int read_clocks(struct reader *r)
{
    tt_session_clock_survivor_vec live = {0};
    tt_session_clock_death_vec deaths = {0};
    int rc = tt_session_clock_survivors(r->session, r->id, &live, r->err);
    for (size_t i = 0; !rc && i < live.len; i++) {
        struct tt_case_site *s = site_at(r, live.data[i].site);
        int clock = clock_named(live.data[i].clock);
        struct tt_case_unit unit = {1, live.data[i].tick, live.data[i].count};
        if (s && clock >= 0 && tt_vec_push(&s->clocks[clock].live, unit))
            rc = no_memory(r);
    }
    if (!rc)
        rc = tt_session_clock_deaths(r->session, r->id, &deaths, r->err);
    for (size_t i = 0; !rc && i < deaths.len; i++) {
        struct tt_case_site *s = site_at(r, deaths.data[i].site);
        int clock = clock_named(deaths.data[i].clock);
        if (s && clock >= 0)
            s->clocks[clock].deaths[deaths.data[i].bin] += deaths.data[i].count;
    }
    tt_vec_free(&live);
    tt_vec_free(&deaths);
    return rc;
}

static int read_with(struct reader *r)
{
    tt_session_with_vec rows = {0};
    int rc = tt_session_withs(r->session, r->id, &rows, r->err);
    for (size_t i = 0; !rc && i < rows.len; i++) {
        struct tt_case_site *s = site_at(r, rows.data[i].site);
        struct tt_case_share_of share = {(size_t)rows.data[i].other, (double)rows.data[i].units};
        if (s && tt_vec_push(&s->with, share))
            rc = no_memory(r);
    }
    tt_vec_free(&rows);
    return rc;
}

static int read_amounts(struct reader *r)
{
    struct tt_case_process *p = &r->c->processes.data[r->process];
    tt_session_resource_vec rows = {0};
    int rc = tt_session_resources(r->session, r->id, &rows, r->err);
    for (size_t i = 0; !rc && i < rows.len; i++) {
        struct tt_case_amount amount = {.held = (double)rows.data[i].held,
                                        .counted = (double)rows.data[i].counted};
        snprintf(amount.resource, sizeof amount.resource, "%s", rows.data[i].resource);
        size_t k = 0;
        while (k < p->amounts.len && strcmp(p->amounts.data[k].resource, amount.resource) != 0)
            k++;
        if (k < p->amounts.len)
            p->amounts.data[k] = amount; /* rows come in the order of their epochs */
        else if (tt_vec_push(&p->amounts, amount))
            rc = no_memory(r);
    }
    tt_vec_free(&rows);
    return rc;
}

int tt_judge_read_resource(struct tt_session *session, struct tt_case *out, uint64_t origin,
                           const struct tt_map *site_of, struct tt_error *err)
{
    int rc = 0;
    for (size_t p = 0; !rc && p < out->processes.len; p++) {
        struct reader r = {.session = session,
                           .c = out,
                           .origin = origin,
                           .process = p,
                           .id = out->processes.data[p].id,
                           .site_of = site_of,
                           .err = err};
        rc = read_places(&r);
        if (!rc)
            rc = read_owners(&r);
        if (!rc)
            rc = read_clocks(&r);
        if (!rc)
            rc = read_with(&r);
        if (!rc)
            rc = read_amounts(&r);
        tt_map_free(&r.owner_of);
    }
    return rc;
}
