/* SPDX-License-Identifier: Apache-2.0 */
/* Readers of the tables of schema 2: frozen copies, staleness, attaching. A session of schema 1 has
 * no such tables; all of these are then empty. Start: tt_session_snapshots. */
#include <errno.h>
#include <string.h>

#include "session/internal.h"
#include "session/snapshot.h"

#define WEIGHT_MAX 1e18
#define SECONDS_MAX 1e10

static bool absent(const struct tt_session *session)
{
    return session->schema < 2;
}

int tt_session_snapshots(struct tt_session *session, int64_t process, tt_session_snapshot_vec *out,
                         struct tt_error *err)
{
    if (absent(session))
        return 0;
    struct tt_session_query q = tt_session_query(
        session,
        "process, id, at_ns, tick, source, allocator, stop_ns, fork_ns, scan_ns, blocks, bytes,"
        "lost_units, lost_bytes, lost_roots, old_units, unknown_units, unread_bytes, doubt_bytes,"
        "tagged, groups_left_out",
        "snapshot", "process", process, NULL, -1, "process, id", err);
    while (tt_session_next(&q)) {
        struct tt_session_snapshot row = {
            .process = tt_session_id(&q, 0),
            .id = tt_session_int(&q, 1, 1, INT64_MAX),
            .at_ns = tt_session_ns(&q, 2),
            .tick = tt_session_number(&q, 3, TT_SESSION_TICK_MAX),
            .source = tt_session_text(&q, 4),
            .allocator = tt_session_text(&q, 5),
            .stop_ns = tt_session_ns(&q, 6),
            .fork_ns = tt_session_ns(&q, 7),
            .scan_ns = tt_session_ns(&q, 8),
            .blocks = tt_session_count(&q, 9),
            .bytes = tt_session_count(&q, 10),
            .lost_units = tt_session_count(&q, 11),
            .lost_bytes = tt_session_count(&q, 12),
            .lost_roots = tt_session_count(&q, 13),
            .old_units = tt_session_count(&q, 14),
            .unknown_units = tt_session_count(&q, 15),
            .unread_bytes = tt_session_count(&q, 16),
            .doubt_bytes = tt_session_count(&q, 17),
            .tagged = tt_session_count(&q, 18),
            .groups_left_out = tt_session_count(&q, 19),
        };
        if (row.lost_units > row.blocks || row.lost_bytes > row.bytes)
            tt_session_damaged(&q, "more lost than there is");
        else if (row.old_units > row.lost_units || row.unknown_units > row.lost_units)
            tt_session_damaged(&q, "more old blocks than lost ones");
        else if (tt_vec_push(out, row))
            tt_session_no_memory(&q);
    }
    return tt_session_done(&q);
}

int tt_session_lost_groups(struct tt_session *session, int64_t process, int64_t snapshot,
                           tt_session_lost_group_vec *out, struct tt_error *err)
{
    if (absent(session))
        return 0;
    struct tt_session_query q = tt_session_query(
        session,
        "process, snapshot, id, fingerprint, size_min, size_max, units, bytes, roots, hung_units,"
        "hung_bytes, unknown_units, unknown_bytes, shape, samples",
        "lost_group", "process", process, "snapshot", snapshot, "process, snapshot, id", err);
    while (tt_session_next(&q)) {
        struct tt_session_lost_group row = {
            .process = tt_session_id(&q, 0),
            .snapshot = tt_session_id(&q, 1),
            .id = tt_session_id(&q, 2),
            .fingerprint = tt_session_word(&q, 3),
            .size_min = tt_session_count(&q, 4),
            .size_max = tt_session_count(&q, 5),
            .units = tt_session_count(&q, 6),
            .bytes = tt_session_count(&q, 7),
            .roots = tt_session_count(&q, 8),
            .hung_units = tt_session_count(&q, 9),
            .hung_bytes = tt_session_count(&q, 10),
            .unknown_units = tt_session_count(&q, 11),
            .unknown_bytes = tt_session_count(&q, 12),
            .shape = tt_session_text(&q, 13),
            .samples = tt_session_text(&q, 14),
        };
        if (row.roots > row.units || row.unknown_units > row.units || row.unknown_bytes > row.bytes)
            tt_session_damaged(&q, "a part is larger than its group");
        else if (tt_vec_push(out, row))
            tt_session_no_memory(&q);
    }
    return tt_session_done(&q);
}

int tt_session_lost_shares(struct tt_session *session, int64_t process, int64_t snapshot,
                           tt_session_lost_share_vec *out, struct tt_error *err)
{
    if (absent(session))
        return 0;
    struct tt_session_query q = tt_session_query(
        session,
        "process, snapshot, grp, site, known_units, known_bytes, old_units, old_bytes, probability",
        "lost_share", "process", process, "snapshot", snapshot, "process, snapshot, grp, site",
        err);
    TT_SESSION_EACH_ROW(q, out,
                        (struct tt_session_lost_share){
                            .process = tt_session_id(&q, 0),
                            .snapshot = tt_session_id(&q, 1),
                            .group = tt_session_id(&q, 2),
                            .site = tt_session_id(&q, 3),
                            .known_units = tt_session_count(&q, 4),
                            .known_bytes = tt_session_count(&q, 5),
                            .old_units = tt_session_count(&q, 6),
                            .old_bytes = tt_session_count(&q, 7),
                            .probability = tt_session_real(&q, 8, 0, 1),
                        });
}

int tt_session_holders(struct tt_session *session, int64_t process, int64_t snapshot,
                       tt_session_holder_vec *out, struct tt_error *err)
{
    if (absent(session))
        return 0;
    struct tt_session_query q = tt_session_query(
        session, "process, snapshot, id, place, path, site, units, bytes", "holder", "process",
        process, "snapshot", snapshot, "process, snapshot, id", err);
    TT_SESSION_EACH_ROW(q, out,
                        (struct tt_session_holder){
                            .process = tt_session_id(&q, 0),
                            .snapshot = tt_session_id(&q, 1),
                            .id = tt_session_id(&q, 2),
                            .place = tt_session_text(&q, 3),
                            .path = tt_session_text(&q, 4),
                            .site = tt_session_id(&q, 5),
                            .units = tt_session_count(&q, 6),
                            .bytes = tt_session_count(&q, 7),
                        });
}

int tt_session_helds(struct tt_session *session, int64_t process, int64_t snapshot,
                     tt_session_held_vec *out, struct tt_error *err)
{
    if (absent(session))
        return 0;
    struct tt_session_query q = tt_session_query(
        session, "process, snapshot, holder, site, units, bytes", "held", "process", process,
        "snapshot", snapshot, "process, snapshot, holder, site", err);
    TT_SESSION_EACH_ROW(q, out,
                        (struct tt_session_held){
                            .process = tt_session_id(&q, 0),
                            .snapshot = tt_session_id(&q, 1),
                            .holder = tt_session_id(&q, 2),
                            .site = tt_session_id(&q, 3),
                            .units = tt_session_count(&q, 4),
                            .bytes = tt_session_count(&q, 5),
                        });
}

int tt_session_stales(struct tt_session *session, int64_t process, tt_session_stale_vec *out,
                      struct tt_error *err)
{
    if (absent(session))
        return 0;
    struct tt_session_query q = tt_session_query(
        session,
        "process, site, epochs, objects, untouched, untouched_bytes, untouched_weight, seconds",
        "stale", "process", process, NULL, -1, "process, site", err);
    while (tt_session_next(&q)) {
        struct tt_session_stale row = {
            .process = tt_session_id(&q, 0),
            .site = tt_session_id(&q, 1),
            .epochs = tt_session_number(&q, 2, UINT32_MAX),
            .objects = tt_session_count(&q, 3),
            .untouched = tt_session_count(&q, 4),
            .untouched_bytes = tt_session_count(&q, 5),
            .untouched_weight = tt_session_real(&q, 6, 0, WEIGHT_MAX),
            .seconds = tt_session_real(&q, 7, 0, SECONDS_MAX),
        };
        if (row.untouched > row.objects)
            tt_session_damaged(&q, "more untouched objects than there are");
        else if (tt_vec_push(out, row))
            tt_session_no_memory(&q);
    }
    return tt_session_done(&q);
}

int tt_session_attach(struct tt_session *session, int64_t process, struct tt_session_attach *out,
                      struct tt_error *err)
{
    if (absent(session) || process < 0)
        return -ENOENT;
    struct tt_session_query q = tt_session_query(
        session,
        "process, at_ns, start_ns, stop_ns, detached_ns, detach_stop_ns, entries, slots, kept,"
        "notes",
        "attach", "process", process, NULL, -1, "process", err);
    bool found = false;
    while (tt_session_next(&q)) {
        found = true;
        *out = (struct tt_session_attach){
            .process = tt_session_id(&q, 0),
            .at_ns = tt_session_ns(&q, 1),
            .start_ns = tt_session_ns(&q, 2),
            .stop_ns = tt_session_ns(&q, 3),
            .detached_ns = tt_session_ns(&q, 4),
            .detach_stop_ns = tt_session_ns(&q, 5),
            .entries = tt_session_number(&q, 6, UINT32_MAX),
            .slots = tt_session_number(&q, 7, UINT32_MAX),
            .kept = tt_session_number(&q, 8, UINT32_MAX),
            .notes = tt_session_text(&q, 9),
        };
    }
    int code = tt_session_done(&q);
    return code ? code : found ? 0 : -ENOENT;
}
