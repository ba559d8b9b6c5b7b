/* SPDX-License-Identifier: Apache-2.0 */
/* The table of activities and what is sent to them; see activity.h. Start: dg_activity_set. */
#include "activity.h"

#include <stdlib.h>

enum { BUCKETS = 1024 };
static struct dg_activity *activities[BUCKETS];
struct dg_server dg_server = {.udp_fd = -1};
struct dg_server_counters dg_server_counters;

static struct dg_activity **bucket(const struct rpc_uuid *uuid)
{
    return &activities[(uuid->low ^ uuid->low >> 10 ^ uuid->low >> 20) % BUCKETS];
}

struct dg_activity *dg_activity_find(const struct rpc_uuid *uuid)
{
    struct dg_activity *a = *bucket(uuid);
    while (a && !rpc_uuid_equal(&a->uuid, uuid))
        a = a->next;
    return a;
}

void dg_activity_due(struct dg_activity *a, int64_t due)
{
    if (a->due && !due) {
        *a->at = a->live;
        if (a->live)
            a->live->at = a->at;
    } else if (!a->due && due) {
        a->live = dg_server.live;
        a->at = &dg_server.live;
        if (dg_server.live)
            dg_server.live->at = &a->live;
        dg_server.live = a;
    }
    a->due = due;
}

bool dg_activity_runs(const struct dg_activity *a)
{
    return a->state == ASKING || a->state == EXECUTING;
}

void dg_activity_set(struct dg_activity *a, enum dg_activity_state state)
{
    dg_server.running -= dg_activity_runs(a);
    a->state = state;
    dg_server.running += dg_activity_runs(a);
    dg_activity_due(a, 0);
}

void dg_activity_clear(struct dg_activity *a)
{
    if (a->state == EXECUTING && a->service->forget)
        a->service->forget(&a->call);
    dg_activity_set(a, DONE);
    dg_receive_free(&a->receive);
    free(a->in_data);
    a->in_data = NULL;
    ndr_out_free(&a->call.out);
    a->call = (struct dg_incoming){.activity = a};
}

struct dg_activity *dg_activity_new(const struct rpc_uuid *uuid, uint32_t seq)
{
    struct dg_activity *a = calloc(1, sizeof *a);
    if (!a)
        return NULL;
    a->uuid = *uuid;
    a->state = DONE;
    a->request.seq = seq - 1; /* so that this one is new */
    a->call.activity = a;
    a->next = *bucket(uuid);
    *bucket(uuid) = a;
    dg_server_counters.activities++;
    return a;
}

static void activity_free(struct dg_activity *a)
{
    struct dg_activity **at = bucket(&a->uuid);
    while (*at != a)
        at = &(*at)->next;
    *at = a->next;
    dg_activity_clear(a);
    dg_cas_use(a->cas, -1);
    free(a);
    dg_server_counters.activities--;
}

void dg_activity_forget(int64_t used_before)
{
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct dg_activity *a = activities[i], *next; a; a = next) {
            next = a->next;
            if (used_before == INT64_MAX || (a->used < used_before && !dg_activity_runs(a)))
                activity_free(a);
        }
}

/* ---- sending ---- */

struct dg_path dg_answer_path(const struct sockaddr_in *to)
{
    return (struct dg_path){dg_server.udp_fd, to};
}

/* The header of our packets in answer to a client's. */
static struct dg_header header_for(const struct dg_header *from_client, uint8_t ptype)
{
    struct dg_header h = *from_client;
    h.ptype = ptype;
    h.flags1 &= DG_IDEMPOTENT;
    h.flags2 = 0;
    h.boot = dg_server.boot;
    h.ihint = h.ahint = DG_NO_HINT;
    h.frag = 0;
    h.auth = 0;
    return h;
}

void dg_answer_stateless(const struct dg_header *from_client, const struct sockaddr_in *to,
                         uint8_t ptype, uint32_t status, uint32_t boot_shown)
{
    static uint16_t serial;
    uint8_t body[4];
    struct dg_header h = header_for(from_client, ptype);
    h.flags1 = 0;
    h.boot = boot_shown;
    h.serial = ++serial;
    rpc_put32(body, status);
    if (ptype == DG_REJECT)
        dg_server_counters.rejects++;
    dg_transmit(dg_answer_path(to), &h, body, ptype == DG_REJECT ? 4 : 0);
}

void dg_answer_control(struct dg_activity *a, uint8_t ptype, const void *body, size_t n)
{
    struct dg_header h = header_for(&a->request, ptype);
    h.flags1 = 0;
    h.serial = ++a->answer.head.serial;
    dg_transmit(dg_answer_path(&a->from), &h, body, n);
}

void dg_answer_report(struct dg_activity *a, uint8_t ptype, uint16_t serial)
{
    struct dg_header h = header_for(&a->request, ptype);
    h.serial = a->answer.head.serial;
    dg_receive_report(&a->receive, dg_answer_path(&a->from), &h, ptype, serial);
    a->answer.head.serial = h.serial;
}

void dg_answer(struct dg_activity *a, uint8_t ptype, const uint8_t *body, size_t n)
{
    if (a->request.flags1 & DG_MAYBE ||
        ((a->request.flags1 & DG_BROADCAST) && ptype != DG_RESPONSE)) {
        dg_activity_clear(a);
        return;
    }
    struct dg_header h = header_for(&a->request, ptype);
    if (dg_send_start(&a->answer, &h, body, n) != 0) {
        rpc_put32(a->refusal, NCA_OUT_ARGS_TOO_BIG);
        h.ptype = DG_FAULT;
        dg_send_start(&a->answer, &h, a->refusal, 4);
    }
    dg_activity_set(a, ANSWERED);
    dg_send_more(&a->answer, dg_answer_path(&a->from));
    a->wait = dg_timing()->ping;
    if (a->answer.count > 1)
        dg_activity_due(a, dg_now() + a->wait);
}

void dg_refuse(struct dg_activity *a, uint8_t ptype, uint32_t status)
{
    if (ptype == DG_REJECT)
        dg_server_counters.rejects++;
    else
        dg_server_counters.faults++;
    rpc_put32(a->refusal, status);
    dg_answer(a, ptype, a->refusal, 4);
}
