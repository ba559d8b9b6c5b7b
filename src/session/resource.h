/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of a session about resources other than heap blocks (schema 3): on whose behalf units are
 * held, clocks that start after a unit's birth, what the kernel counts, what was watched. A session
 * of an older schema has none of these: the readers then give nothing. Start: struct
 * tt_session_owner. */
#ifndef TT_SESSION_RESOURCE_H
#define TT_SESSION_RESOURCE_H

#include "session/writer.h"

/* Where units of a site come from that has no stack. */
struct tt_session_place {
    int64_t process, site;
    const char *place;
};
typedef TT_VEC(struct tt_session_place) tt_session_place_vec;
int tt_session_places(struct tt_session *session, int64_t process, tt_session_place_vec *out,
                      struct tt_error *err);

struct tt_session_owner {
    int64_t process, id;
    const char *how; /* "connection", "sender" */
    int64_t fd;
    const char *address;         /* "127.0.0.1:4711", "" unknown */
    int64_t pid;                 /* of the peer, 0 unknown */
    const char *exe;             /* of that process, "" unknown */
    int64_t uid;                 /* -1 unknown */
    uint64_t began_ns, ended_ns; /* ended_ns 0: has not */
};
typedef TT_VEC(struct tt_session_owner) tt_session_owner_vec;
int tt_session_owners(struct tt_session *session, int64_t process, tt_session_owner_vec *out,
                      struct tt_error *err);

struct tt_session_site_owner {
    int64_t process, site, owner; /* owner 0: nobody known */
    uint64_t units;
};
typedef TT_VEC(struct tt_session_site_owner) tt_session_site_owner_vec;
int tt_session_site_owners(struct tt_session *session, int64_t process,
                           tt_session_site_owner_vec *out, struct tt_error *err);

/* Lifetimes on a second clock of a site's units. */
#define TT_SESSION_OWNER_END "owner end"
#define TT_SESSION_CLOSE_WAIT "CLOSE_WAIT"
#define TT_SESSION_ENDED "ended" /* of a child: it is a zombie since */
struct tt_session_clock_survivor {
    int64_t process, site;
    const char *clock;
    uint32_t tick; /* at which it started */
    uint64_t count;
};
typedef TT_VEC(struct tt_session_clock_survivor) tt_session_clock_survivor_vec;
int tt_session_clock_survivors(struct tt_session *session, int64_t process,
                               tt_session_clock_survivor_vec *out, struct tt_error *err);
struct tt_session_clock_death {
    int64_t process, site;
    const char *clock;
    uint32_t bin;
    uint64_t count;
};
typedef TT_VEC(struct tt_session_clock_death) tt_session_clock_death_vec;
int tt_session_clock_deaths(struct tt_session *session, int64_t process,
                            tt_session_clock_death_vec *out, struct tt_error *err);

/* Units of a site that go when one of another is released. */
struct tt_session_with {
    int64_t process, site, other;
    uint64_t units;
};
typedef TT_VEC(struct tt_session_with) tt_session_with_vec;
int tt_session_withs(struct tt_session *session, int64_t process, tt_session_with_vec *out,
                     struct tt_error *err);

struct tt_session_resource {
    int64_t process, epoch;
    uint64_t at_ns; /* of the epoch; not used by the writer */
    const char *resource;
    uint64_t held;
    int64_t counted; /* -1: the kernel does not tell */
};
typedef TT_VEC(struct tt_session_resource) tt_session_resource_vec;
int tt_session_resources(struct tt_session *session, int64_t process, tt_session_resource_vec *out,
                         struct tt_error *err);

struct tt_session_descriptor {
    int64_t process, fd;
    const char *what;
    int64_t site, owner; /* 0: none */
    uint32_t tick;
    const char *state, *peer;
};
typedef TT_VEC(struct tt_session_descriptor) tt_session_descriptor_vec;
int tt_session_descriptors(struct tt_session *session, int64_t process,
                           tt_session_descriptor_vec *out, struct tt_error *err);

struct tt_session_watch {
    int64_t process, id;
    const char *function, *resource;
    uint64_t address, calls;
    const char *source; /* "kind", "declared", "owner", "refused: ..." */
};
typedef TT_VEC(struct tt_session_watch) tt_session_watch_vec;
int tt_session_watches(struct tt_session *session, int64_t process, tt_session_watch_vec *out,
                       struct tt_error *err);

/* As those of writer.h. */
int tt_session_put_place(struct tt_session_writer *writer, const struct tt_session_place *row);
int tt_session_put_owner(struct tt_session_writer *writer, const struct tt_session_owner *row);
int tt_session_put_site_owner(struct tt_session_writer *writer,
                              const struct tt_session_site_owner *row);
int tt_session_put_clock_survivor(struct tt_session_writer *writer,
                                  const struct tt_session_clock_survivor *row);
int tt_session_put_clock_death(struct tt_session_writer *writer,
                               const struct tt_session_clock_death *row);
int tt_session_put_with(struct tt_session_writer *writer, const struct tt_session_with *row);
int tt_session_put_resource(struct tt_session_writer *writer,
                            const struct tt_session_resource *row);
int tt_session_put_descriptor(struct tt_session_writer *writer,
                              const struct tt_session_descriptor *row);
int tt_session_put_watch(struct tt_session_writer *writer, const struct tt_session_watch *row);
/* Forgets what was said of the last look of a process (owners, site_owner, clock_survivor,
 * site_with, descriptor), before a new look's rows are put. */
int tt_session_clear_held(struct tt_session_writer *writer, int64_t process);

#endif
