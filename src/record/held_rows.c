/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of what is held besides heap blocks: places, owners, second clocks, descriptors, what the
 * kernel counts, and which functions are watched. Births and deaths of sites with a stack are
 * written with those of blocks (rows.c). Start: tt_held_put. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "record/internal.h"

#define DESCRIPTORS_MOST 65536u
#define OWNERS_MOST 16384u /* rows of site_owner; the rest is summed as owner 0 */

static const char *const clocks[TT_CLOCKS] = {[TT_CLOCK_OWNER_END] = TT_SESSION_OWNER_END,
                                              [TT_CLOCK_CLOSE_WAIT] = TT_SESSION_CLOSE_WAIT,
                                              [TT_CLOCK_ENDED] = TT_SESSION_ENDED};

const char *tt_record_resource(const struct tt_recorder *rec, uint8_t kind)
{
    if (kind == TT_KIND_HEAP)
        return "heap";
    if (kind >= TT_KIND_DECLARED && (size_t)(kind - TT_KIND_DECLARED) < rec->options->n_handles)
        return rec->options->handles[kind - TT_KIND_DECLARED].name;
    if (kind >= TT_KIND_DECLARED + TT_HANDLES_MOST &&
        (size_t)(kind - TT_KIND_DECLARED - TT_HANDLES_MOST) < rec->told.len)
        return rec->told.data[kind - TT_KIND_DECLARED - TT_HANDLES_MOST].name;
    const struct tt_resource *known = tt_resource_of(kind);
    return known ? known->name : "unknown";
}

/* ---- places ---- */

static void put_place(struct tt_recorder *rec, struct tt_image *image, uint32_t index, bool last)
{
    struct tt_held_place *p = &image->held.places.data[index];
    int64_t site = TT_HELD_PLACE_FIRST + (int64_t)index;
    if (!p->births || (!p->changed && !(last && p->wrote_epoch != rec->epoch)))
        return;
    if (!p->wrote_epoch) {
        tt_session_put_site(rec->writer,
                            &(struct tt_session_site){.process = image->id,
                                                      .id = site,
                                                      .resource = tt_record_resource(rec, p->kind),
                                                      .size_min = 1,
                                                      .size_max = 1});
        tt_session_put_place(rec->writer, &(struct tt_session_place){image->id, site, p->name});
    }
    for (uint32_t bin = 0; p->changed && bin < TT_TAPE_BINS; bin++)
        if (p->bins[bin])
            tt_session_put_death(rec->writer, image->id, site, bin, p->bins[bin]);
    tt_session_put_sample(rec->writer, image->id, site,
                          &(struct tt_session_sample){.epoch = rec->epoch,
                                                      .births = p->births,
                                                      .birth_bytes = p->births,
                                                      .deaths = p->deaths,
                                                      .death_bytes = p->deaths});
    rec->sample_rows++;
    p->wrote_epoch = rec->epoch;
    p->changed = false;
}

/* ---- groups of equal rows ---- */

struct group {
    uint64_t site, what, tick, count;
};

static int in_order(const void *a, const void *b)
{
    const struct group *x = a, *y = b;
    if (x->site != y->site)
        return x->site < y->site ? -1 : 1;
    if (x->what != y->what)
        return x->what < y->what ? -1 : 1;
    return (x->tick > y->tick) - (x->tick < y->tick);
}

typedef TT_VEC(struct group) group_vec;

/* Sorts, and adds up rows of one key. */
static void merge(group_vec *groups)
{
    size_t kept = 0;
    if (groups->len)
        qsort(groups->data, groups->len, sizeof *groups->data, in_order);
    for (size_t i = 0; i < groups->len; i++) {
        if (kept && in_order(&groups->data[kept - 1], &groups->data[i]) == 0)
            groups->data[kept - 1].count += groups->data[i].count;
        else
            groups->data[kept++] = groups->data[i];
    }
    groups->len = kept;
}

static void put_survivors_of_places(struct tt_recorder *rec, const struct tt_image *image)
{
    group_vec groups = {0};
    for (size_t i = 0; i < image->held.units.len; i++) {
        const struct tt_held_unit *u = &image->held.units.data[i];
        struct group g = {u->site, 0, u->tick, 1};
        if (u->foreign && u->known && u->site >= TT_HELD_PLACE_FIRST && tt_vec_push(&groups, g))
            break;
    }
    merge(&groups);
    for (size_t i = 0; i < groups.len; i++)
        tt_session_put_survivor(rec->writer, image->id,
                                &(struct tt_session_survivor){(int64_t)groups.data[i].site, 1,
                                                              (uint32_t)groups.data[i].tick,
                                                              groups.data[i].count});
    tt_vec_free(&groups);
}

static void put_clocks(struct tt_recorder *rec, const struct tt_image *image)
{
    group_vec groups = {0};
    const struct tt_held *held = &image->held;
    for (size_t i = 0; i < held->units.len; i++) {
        const struct tt_held_unit *u = &held->units.data[i];
        for (unsigned clock = 0; clock < TT_CLOCKS && !u->ghost; clock++) {
            struct group g = {u->site, clock, u->started[clock] - 1, u->count};
            if (u->started[clock] && tt_vec_push(&groups, g))
                break;
        }
    }
    merge(&groups);
    for (size_t i = 0; i < groups.len; i++)
        tt_session_put_clock_survivor(
            rec->writer, &(struct tt_session_clock_survivor){
                             image->id, (int64_t)groups.data[i].site, clocks[groups.data[i].what],
                             (uint32_t)groups.data[i].tick, groups.data[i].count});
    tt_vec_free(&groups);
    for (size_t i = 0; i < held->clock_bin.cap; i++) {
        const struct tt_map_slot *s = &held->clock_bin.slots[i];
        if (s->used)
            tt_session_put_clock_death(
                rec->writer, &(struct tt_session_clock_death){image->id, (int64_t)(s->key >> 16),
                                                              clocks[s->key >> 8 & 0xff],
                                                              (uint32_t)(s->key & 0xff), s->value});
    }
}

/* ---- owners ---- */

static uint64_t time_of(const struct tt_recorder *rec, uint32_t tick)
{
    return rec->origin_ns + (uint64_t)tick * (TT_SECOND / TT_TAPE_TICKS_PER_SECOND);
}

static void put_owners(struct tt_recorder *rec, const struct tt_image *image)
{
    const struct tt_held *held = &image->held;
    group_vec groups = {0};
    for (size_t i = 0; i < held->units.len; i++) {
        const struct tt_held_unit *u = &held->units.data[i];
        bool known = tt_map_get(&held->owner_at, u->owner) != NULL;
        struct group g = {u->site, known ? u->owner : 0, 0, u->count};
        if (!u->ghost && !u->foreign && tt_vec_push(&groups, g))
            break;
    }
    merge(&groups);
    if (groups.len > OWNERS_MOST) {
        for (size_t i = 0; i < groups.len; i++)
            groups.data[i].what = i < OWNERS_MOST ? groups.data[i].what : 0;
        merge(&groups);
    }
    struct tt_map written = {0};
    for (size_t i = 0; i < groups.len; i++) {
        const struct group *g = &groups.data[i];
        tt_session_put_site_owner(rec->writer,
                                  &(struct tt_session_site_owner){image->id, (int64_t)g->site,
                                                                  (int64_t)g->what, g->count});
        const uint64_t *at = g->what ? tt_map_get(&held->owner_at, g->what) : NULL;
        if (!at || tt_map_get(&written, g->what) || tt_map_put(&written, g->what, 1))
            continue;
        const struct tt_held_owner *o = &held->owners.data[*at];
        uint32_t end = o->row.end ? o->row.end : o->gone ? o->row.last + 1 : 0;
        tt_session_put_owner(rec->writer,
                             &(struct tt_session_owner){
                                 .process = image->id,
                                 .id = o->row.id,
                                 .how = o->row.how == TT_OWNER_SENDER ? "sender" : "connection",
                                 .fd = o->row.fd <= INT32_MAX ? (int64_t)o->row.fd : -1,
                                 .address = o->address,
                                 .pid = o->pid,
                                 .exe = o->exe,
                                 .uid = o->uid,
                                 .began_ns = time_of(rec, o->row.begin & TT_TAPE_TICK_MAX),
                                 .ended_ns = end ? time_of(rec, (end - 1) & TT_TAPE_TICK_MAX) : 0,
                             });
    }
    tt_map_free(&written);
    tt_vec_free(&groups);
}

/* ---- what goes with what ---- */

/* A port goes with its socket; the descriptor inside of a stream or directory with that. */
static void put_withs(struct tt_recorder *rec, const struct tt_image *image)
{
    const struct tt_held *held = &image->held;
    struct tt_map by_fd = {0};
    group_vec groups = {0};
    int code = 0;
    for (size_t i = 0; !code && i < held->units.len; i++) {
        const struct tt_held_unit *u = &held->units.data[i];
        if (u->space == TT_SPACE_FD && !u->ghost)
            code = tt_map_put(&by_fd, u->value, i);
    }
    for (size_t i = 0; !code && i < held->units.len; i++) {
        const struct tt_held_unit *u = &held->units.data[i];
        bool port = u->space == TT_SPACE_PORT;
        bool holds =
            (u->space == TT_SPACE_STREAM || u->space == TT_SPACE_DIRECTORY) && u->also >= 0;
        const uint64_t *at = u->ghost ? NULL
                             : port   ? tt_map_get(&by_fd, u->value)
                             : holds  ? tt_map_get(&by_fd, (uint64_t)u->also)
                                      : NULL;
        if (!at)
            continue;
        uint32_t fd_site = held->units.data[*at].site;
        struct group g =
            port ? (struct group){u->site, fd_site, 0, 1} : (struct group){fd_site, u->site, 0, 1};
        code = tt_vec_push(&groups, g);
    }
    merge(&groups);
    for (size_t i = 0; i < groups.len; i++)
        tt_session_put_with(rec->writer, &(struct tt_session_with){
                                             image->id, (int64_t)groups.data[i].site,
                                             (int64_t)groups.data[i].what, groups.data[i].count});
    tt_map_free(&by_fd);
    tt_vec_free(&groups);
}

static void put_descriptors(struct tt_recorder *rec, const struct tt_image *image)
{
    const struct tt_held *held = &image->held;
    struct tt_map by_fd = {0};
    for (size_t i = 0; i < held->units.len; i++)
        if (held->units.data[i].space == TT_SPACE_FD && !held->units.data[i].ghost &&
            tt_map_put(&by_fd, held->units.data[i].value, i))
            break;
    for (size_t i = 0; i < held->open.len && i < DESCRIPTORS_MOST; i++) {
        const struct tt_open *open = &held->open.data[i];
        const struct tt_socket *s =
            open->what == TT_OPEN_SOCKET ? tt_socket_find(&held->sockets, open->inode) : NULL;
        const uint64_t *at = tt_map_get(&by_fd, (uint64_t)open->fd);
        const struct tt_held_unit *u = at ? &held->units.data[*at] : NULL;
        tt_session_put_descriptor(
            rec->writer, &(struct tt_session_descriptor){
                             .process = image->id,
                             .fd = open->fd,
                             .what = s ? s->protocol : open->name,
                             .site = u ? u->site : 0,
                             .owner = u ? u->owner : 0,
                             .tick = u ? u->tick : 0,
                             .state = s && s->protocol[0] == 't' ? tt_socket_state(s->state) : "",
                             .peer = s ? s->peer : "",
                         });
    }
    tt_map_free(&by_fd);
}

/* ---- all of it ---- */

static void put_watches(struct tt_recorder *rec, struct tt_image *image, bool last)
{
    for (size_t i = 0; i < image->watched.len; i++) {
        struct tt_watched *w = &image->watched.data[i];
        if (w->row_written && !(last && w->calls != w->wrote))
            continue;
        tt_session_put_watch(rec->writer, &(struct tt_session_watch){
                                              image->id, (int64_t)i + 1, w->function, w->resource,
                                              w->index >= 0 ? w->address : 0, w->calls, w->source});
        w->row_written = true;
        w->wrote = w->calls;
    }
}

void tt_held_put(struct tt_recorder *rec, struct tt_image *image, bool last)
{
    struct tt_held *held = &image->held;
    put_watches(rec, image, last);
    if (last) /* there may be very many */
        put_descriptors(rec, image);
    for (uint32_t i = 0; i < held->places.len; i++)
        put_place(rec, image, i, last);
    for (size_t i = 0; i < held->counts.len; i++) {
        struct tt_held_count *count = &held->counts.data[i];
        if (count->seen && image->alive)
            tt_session_put_resource(rec->writer, &(struct tt_session_resource){
                                                     .process = image->id,
                                                     .epoch = rec->epoch,
                                                     .resource = count->resource,
                                                     .held = count->held,
                                                     .counted = count->counted,
                                                 });
        count->seen = false;
    }
}

void tt_held_put_look(struct tt_recorder *rec, struct tt_image *image)
{
    if (!image->held.read)
        return;
    tt_session_clear_held(rec->writer, image->id);
    put_survivors_of_places(rec, image);
    put_clocks(rec, image);
    put_owners(rec, image);
    put_withs(rec, image);
}
