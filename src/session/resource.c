/* SPDX-License-Identifier: Apache-2.0 */
/* Readers and writers of the tables of schema 3. Start: tt_session_owners. */
#include <errno.h>

#include "session/internal.h"
#include "session/resource.h"

static bool absent(const struct tt_session *session)
{
    return session->schema < 3;
}

int tt_session_places(struct tt_session *session, int64_t process, tt_session_place_vec *out,
                      struct tt_error *err)
{
    if (absent(session))
        return 0;
    struct tt_session_query q =
        tt_session_query(session, "process, site, place", "site_place", "process", process, NULL,
                         -1, "process, site", err);
    TT_SESSION_EACH_ROW(q, out,
                        (struct tt_session_place){tt_session_id(&q, 0), tt_session_id(&q, 1),
                                                  tt_session_text(&q, 2)});
}

int tt_session_owners(struct tt_session *session, int64_t process, tt_session_owner_vec *out,
                      struct tt_error *err)
{
    if (absent(session))
        return 0;
    struct tt_session_query q = tt_session_query(
        session, "process, id, how, fd, address, pid, exe, uid, began_ns, ended_ns", "owner",
        "process", process, NULL, -1, "process, id", err);
    TT_SESSION_EACH_ROW(q, out,
                        (struct tt_session_owner){
                            .process = tt_session_id(&q, 0),
                            .id = tt_session_int(&q, 1, 1, INT64_MAX),
                            .how = tt_session_text(&q, 2),
                            .fd = tt_session_int(&q, 3, -1, INT32_MAX),
                            .address = tt_session_text(&q, 4),
                            .pid = tt_session_int(&q, 5, 0, INT32_MAX),
                            .exe = tt_session_text(&q, 6),
                            .uid = tt_session_int(&q, 7, -1, UINT32_MAX),
                            .began_ns = tt_session_ns(&q, 8),
                            .ended_ns = tt_session_ns(&q, 9),
                        });
}

int tt_session_site_owners(struct tt_session *session, int64_t process,
                           tt_session_site_owner_vec *out, struct tt_error *err)
{
    if (absent(session))
        return 0;
    struct tt_session_query q =
        tt_session_query(session, "process, site, owner, units", "site_owner", "process", process,
                         NULL, -1, "process, site, owner", err);
    TT_SESSION_EACH_ROW(q, out,
                        (struct tt_session_site_owner){tt_session_id(&q, 0), tt_session_id(&q, 1),
                                                       tt_session_id(&q, 2),
                                                       tt_session_count(&q, 3)});
}

int tt_session_clock_survivors(struct tt_session *session, int64_t process,
                               tt_session_clock_survivor_vec *out, struct tt_error *err)
{
    if (absent(session))
        return 0;
    struct tt_session_query q =
        tt_session_query(session, "process, site, clock, tick, count", "clock_survivor", "process",
                         process, NULL, -1, "process, site, clock, tick", err);
    TT_SESSION_EACH_ROW(q, out,
                        (struct tt_session_clock_survivor){
                            .process = tt_session_id(&q, 0),
                            .site = tt_session_id(&q, 1),
                            .clock = tt_session_text(&q, 2),
                            .tick = tt_session_number(&q, 3, TT_SESSION_TICK_MAX),
                            .count = tt_session_count(&q, 4),
                        });
}

int tt_session_clock_deaths(struct tt_session *session, int64_t process,
                            tt_session_clock_death_vec *out, struct tt_error *err)
{
    if (absent(session))
        return 0;
    struct tt_session_query q =
        tt_session_query(session, "process, site, clock, bin, count", "clock_death", "process",
                         process, NULL, -1, "process, site, clock, bin", err);
    TT_SESSION_EACH_ROW(q, out,
                        (struct tt_session_clock_death){
                            .process = tt_session_id(&q, 0),
                            .site = tt_session_id(&q, 1),
                            .clock = tt_session_text(&q, 2),
                            .bin = tt_session_number(&q, 3, TT_SESSION_BINS - 1),
                            .count = tt_session_count(&q, 4),
                        });
}

int tt_session_withs(struct tt_session *session, int64_t process, tt_session_with_vec *out,
                     struct tt_error *err)
{
    if (absent(session))
        return 0;
    struct tt_session_query q =
        tt_session_query(session, "process, site, other, units", "site_with", "process", process,
                         NULL, -1, "process, site, other", err);
    TT_SESSION_EACH_ROW(q, out,
                        (struct tt_session_with){tt_session_id(&q, 0), tt_session_id(&q, 1),
                                                 tt_session_id(&q, 2), tt_session_count(&q, 3)});
}

int tt_session_resources(struct tt_session *session, int64_t process, tt_session_resource_vec *out,
                         struct tt_error *err)
{
    if (absent(session))
        return 0;
    struct tt_session_query q =
        tt_session_query(session, "process, epoch, at_ns, resource, held, counted",
                         "resource_sample JOIN epoch ON epoch.id = resource_sample.epoch",
                         "process", process, NULL, -1, "process, epoch, resource", err);
    q.table = "resource_sample";
    TT_SESSION_EACH_ROW(q, out,
                        (struct tt_session_resource){
                            .process = tt_session_id(&q, 0),
                            .epoch = tt_session_id(&q, 1),
                            .at_ns = tt_session_ns(&q, 2),
                            .resource = tt_session_text(&q, 3),
                            .held = tt_session_count(&q, 4),
                            .counted = sqlite3_column_type(q.statement, 5) == SQLITE_NULL
                                           ? -1
                                           : tt_session_int(&q, 5, 0, TT_SESSION_COUNT_MAX),
                        });
}

int tt_session_descriptors(struct tt_session *session, int64_t process,
                           tt_session_descriptor_vec *out, struct tt_error *err)
{
    if (absent(session))
        return 0;
    struct tt_session_query q =
        tt_session_query(session, "process, fd, what, site, owner, tick, state, peer", "descriptor",
                         "process", process, NULL, -1, "process, fd", err);
    TT_SESSION_EACH_ROW(q, out,
                        (struct tt_session_descriptor){
                            .process = tt_session_id(&q, 0),
                            .fd = tt_session_int(&q, 1, 0, INT32_MAX),
                            .what = tt_session_text(&q, 2),
                            .site = tt_session_id(&q, 3),
                            .owner = tt_session_id(&q, 4),
                            .tick = tt_session_number(&q, 5, TT_SESSION_TICK_MAX),
                            .state = tt_session_text(&q, 6),
                            .peer = tt_session_text(&q, 7),
                        });
}

int tt_session_watches(struct tt_session *session, int64_t process, tt_session_watch_vec *out,
                       struct tt_error *err)
{
    if (absent(session))
        return 0;
    struct tt_session_query q =
        tt_session_query(session, "process, id, function, resource, address, calls, source",
                         "watch", "process", process, NULL, -1, "process, id", err);
    TT_SESSION_EACH_ROW(q, out,
                        (struct tt_session_watch){
                            .process = tt_session_id(&q, 0),
                            .id = tt_session_id(&q, 1),
                            .function = tt_session_text(&q, 2),
                            .resource = tt_session_text(&q, 3),
                            .address = tt_session_word(&q, 4),
                            .calls = tt_session_count(&q, 5),
                            .source = tt_session_text(&q, 6),
                        });
}

/* ---- writing ---- */

int tt_session_put_place(struct tt_session_writer *writer, const struct tt_session_place *row)
{
    return tt_session_put(writer, TT_PUT_PLACE, "iit", row->process, row->site, row->place);
}

int tt_session_put_owner(struct tt_session_writer *writer, const struct tt_session_owner *row)
{
    return tt_session_put(writer, TT_PUT_OWNER, "iitititiww", row->process, row->id, row->how,
                          row->fd, row->address, row->pid, row->exe, row->uid, row->began_ns,
                          row->ended_ns);
}

int tt_session_put_site_owner(struct tt_session_writer *writer,
                              const struct tt_session_site_owner *row)
{
    return tt_session_put(writer, TT_PUT_SITE_OWNER, "iiiw", row->process, row->site, row->owner,
                          row->units);
}

int tt_session_put_clock_survivor(struct tt_session_writer *writer,
                                  const struct tt_session_clock_survivor *row)
{
    return tt_session_put(writer, TT_PUT_CLOCK_SURVIVOR, "iitiw", row->process, row->site,
                          row->clock, (int64_t)row->tick, row->count);
}

int tt_session_put_clock_death(struct tt_session_writer *writer,
                               const struct tt_session_clock_death *row)
{
    return tt_session_put(writer, TT_PUT_CLOCK_DEATH, "iitiw", row->process, row->site, row->clock,
                          (int64_t)row->bin, row->count);
}

int tt_session_put_with(struct tt_session_writer *writer, const struct tt_session_with *row)
{
    return tt_session_put(writer, TT_PUT_SITE_WITH, "iiiw", row->process, row->site, row->other,
                          row->units);
}

int tt_session_put_resource(struct tt_session_writer *writer, const struct tt_session_resource *row)
{
    return tt_session_put(writer, TT_PUT_RESOURCE, "iitwm", row->process, row->epoch, row->resource,
                          row->held, row->counted);
}

int tt_session_put_descriptor(struct tt_session_writer *writer,
                              const struct tt_session_descriptor *row)
{
    return tt_session_put(writer, TT_PUT_DESCRIPTOR, "iitiiitt", row->process, row->fd, row->what,
                          row->site, row->owner, (int64_t)row->tick, row->state, row->peer);
}

int tt_session_put_watch(struct tt_session_writer *writer, const struct tt_session_watch *row)
{
    return tt_session_put(writer, TT_PUT_WATCH, "iittwwt", row->process, row->id, row->function,
                          row->resource, row->address, row->calls, row->source);
}

int tt_session_clear_held(struct tt_session_writer *writer, int64_t process)
{
    static const enum tt_session_sql what[] = {TT_CLEAR_OWNERS, TT_CLEAR_SITE_OWNERS,
                                               TT_CLEAR_CLOCKS, TT_CLEAR_SITE_WITH,
                                               TT_CLEAR_DESCRIPTORS};
    int code = 0;
    for (size_t i = 0; !code && i < sizeof what / sizeof *what; i++)
        code = tt_session_put(writer, what[i], "i", process);
    return code;
}
