/* SPDX-License-Identifier: Apache-2.0 */
/* The objects of the call server and who holds whom:
 *
 *   client (a process, its socket) -> app (HLINEAPP) -> hline (HLINE) -> hcall (HCALL)
 *   line (device) -> call (one physical call) -> hcalls, and the call's owner records
 *   leg (SIP dialog, sip_leg.c) <-> call
 *
 * A call lives as long as one hcall refers to it; a leg lives until its SIP transactions are over.
 * Who owns a call is noted beside the handles, in the owner records (owner.c). The server is one
 * thread around one epoll loop. Start: main.c, then client_request in client.c. */
#ifndef CALL_SERVER_H
#define CALL_SERVER_H

#include "../tapi.h"
#include "../wire.h"
#include "timer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Keeps a function visible in stacks under its own name. */
#if defined(__clang__)
#define NOINLINE __attribute__((noinline))
#else
#define NOINLINE __attribute__((noinline, noclone))
#endif

enum { LINE_COUNT_MAX = 64, MODULE_MAX = 64, ID_MAX = 128 };

/* What the command line decides. */
struct config {
    int sip_port;
    const char *socket_path;
    unsigned t1_ms; /* RFC 3261 T1 */
    unsigned lines; /* line devices; line i answers for SIP user first_user + i */
    unsigned first_user;
    unsigned history;     /* call detail records kept */
    unsigned queue_limit; /* events queued for one client before it gets no new calls */
    unsigned max_legs;    /* SIP dialogs held at once, the lingering ones included */
    bool owners_reuse;    /* --owners-counted simultaneous: dead owner records are used again */
    bool owners_spill;    /* --law L2: the third owner moves the first two out of line */
    double leak_probability;
    uint64_t seed;
};
extern struct config config;

/* For the line printed at exit, for people; only legs (those there are now) is used by the server.
 */
struct counters {
    uint64_t calls, owners, overflow, forgotten, legs, bad_datagrams, events_dropped;
};
extern struct counters counters;

/* A descriptor in the epoll set. */
struct watch {
    int fd;
    void (*ready)(struct watch *w, uint32_t events);
};
int watch_add(struct watch *w, uint32_t events);
int watch_change(struct watch *w, uint32_t events);
void watch_remove(struct watch *w);

struct call;
struct client;
struct hcall;
struct leg;

struct app {
    struct app *next; /* of the client */
    struct client *client;
    struct hline *hlines;
    uint32_t handle;
    char module[MODULE_MAX];
};

struct hline {
    struct hline *next;                  /* of the app */
    struct hline *line_next, *line_prev; /* openers of the line, first opener first */
    struct app *app;
    struct line *line;
    struct hcall *hcalls;
    uint32_t handle, version, privileges, media_modes, callback_instance;
};

struct line {
    uint32_t id;
    struct hline *first_opener, *last_opener;
    struct call *calls;
};

extern struct line lines[LINE_COUNT_MAX];

/* One application's handle to one call. */
struct hcall {
    struct hcall *call_next, *call_prev;
    struct hcall *line_next, *line_prev;
    struct call *call;
    struct hline *hline;
    uint32_t handle, privilege;
    bool closing; /* being taken away: gets no more events */
};

#endif
