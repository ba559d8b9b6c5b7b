/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of a session about frozen copies of a process (schema 2): what nothing points to, who holds
 * the rest, what was not touched, and what attaching cost. A session of schema 1 has none of these:
 * the readers then give empty arrays. Same manners as session.h and writer.h, which see.
 * Start: tt_session_snapshots. */
#ifndef TT_SESSION_SNAPSHOT_H
#define TT_SESSION_SNAPSHOT_H

#include "session/session.h"
#include "session/writer.h"

struct tt_session_snapshot {
    int64_t process, id; /* ids ascend with time, from 1 */
    uint64_t at_ns;
    uint32_t tick;         /* of it, as survivors' ticks */
    const char *source;    /* "copy" or "core" */
    const char *allocator; /* "glibc 2.36" */
    uint64_t stop_ns, fork_ns, scan_ns;
    uint64_t blocks, bytes; /* in use */
    uint64_t lost_units, lost_bytes, lost_roots;
    uint64_t old_units,
        unknown_units; /* of the lost: born before attach; of these without a site */
    uint64_t unread_bytes, doubt_bytes, tagged, groups_left_out;
};
typedef TT_VEC(struct tt_session_snapshot) tt_session_snapshot_vec;
int tt_session_snapshots(struct tt_session *session, int64_t process, tt_session_snapshot_vec *out,
                         struct tt_error *err);

struct tt_session_lost_group {
    int64_t process, snapshot, id;
    uint64_t fingerprint, size_min, size_max;
    uint64_t units, bytes, roots, hung_units, hung_bytes, unknown_units, unknown_bytes;
    const char *shape, *samples;
};
typedef TT_VEC(struct tt_session_lost_group) tt_session_lost_group_vec;
/* snapshot -1: all. */
int tt_session_lost_groups(struct tt_session *session, int64_t process, int64_t snapshot,
                           tt_session_lost_group_vec *out, struct tt_error *err);

struct tt_session_lost_share {
    int64_t process, snapshot, group, site;
    uint64_t known_units, known_bytes, old_units, old_bytes;
    double probability; /* 0..1 */
};
typedef TT_VEC(struct tt_session_lost_share) tt_session_lost_share_vec;
int tt_session_lost_shares(struct tt_session *session, int64_t process, int64_t snapshot,
                           tt_session_lost_share_vec *out, struct tt_error *err);

struct tt_session_holder {
    int64_t process, snapshot, id, site;
    const char *place, *path;
    uint64_t units, bytes;
};
typedef TT_VEC(struct tt_session_holder) tt_session_holder_vec;
int tt_session_holders(struct tt_session *session, int64_t process, int64_t snapshot,
                       tt_session_holder_vec *out, struct tt_error *err);

struct tt_session_held {
    int64_t process, snapshot, holder, site;
    uint64_t units, bytes;
};
typedef TT_VEC(struct tt_session_held) tt_session_held_vec;
int tt_session_helds(struct tt_session *session, int64_t process, int64_t snapshot,
                     tt_session_held_vec *out, struct tt_error *err);

struct tt_session_stale {
    int64_t process, site;
    uint32_t epochs; /* in a row, the latest ones */
    uint64_t objects, untouched, untouched_bytes;
    double untouched_weight; /* blocks that the untouched ones stand for */
    double seconds;          /* that these epochs took together */
};
typedef TT_VEC(struct tt_session_stale) tt_session_stale_vec;
int tt_session_stales(struct tt_session *session, int64_t process, tt_session_stale_vec *out,
                      struct tt_error *err);

/* Of a process that ran before it was recorded. -ENOENT: it was not attached to (err untouched). */
struct tt_session_attach {
    int64_t process;
    uint64_t at_ns, start_ns, stop_ns, detached_ns, detach_stop_ns;
    uint32_t entries, slots, kept;
    const char *notes; /* lines */
};
int tt_session_attach(struct tt_session *session, int64_t process, struct tt_session_attach *out,
                      struct tt_error *err);

int tt_session_put_snapshot(struct tt_session_writer *writer,
                            const struct tt_session_snapshot *row);
int tt_session_put_lost_group(struct tt_session_writer *writer,
                              const struct tt_session_lost_group *row);
int tt_session_put_lost_share(struct tt_session_writer *writer,
                              const struct tt_session_lost_share *row);
int tt_session_put_holder(struct tt_session_writer *writer, const struct tt_session_holder *row);
int tt_session_put_held(struct tt_session_writer *writer, const struct tt_session_held *row);
int tt_session_put_stale(struct tt_session_writer *writer, const struct tt_session_stale *row);
int tt_session_put_attach(struct tt_session_writer *writer, const struct tt_session_attach *row);
/* Forgets the stale rows of a process, before those of a new epoch are put. */
int tt_session_clear_stale(struct tt_session_writer *writer, int64_t process);
/* So that a session stays bounded: of the snapshots of a process with an id below `keep`, all but
 * the first keep only their totals (table snapshot). */
int tt_session_drop_snapshots(struct tt_session_writer *writer, int64_t process, int64_t keep);

#endif
