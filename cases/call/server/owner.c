/* SPDX-License-Identifier: Apache-2.0 */
/* Owner records; see owner.h. Which owners count towards the size of the list is not said in the
 * article ("total number of call owners"): by default all who ever owned the call (dead records
 * are not used again); with --owners-counted simultaneous a dead record is used again, so the list
 * is as long as the largest number of owners at one time. --law L2 is the other literal reading
 * (k*n as soon as n > 2): the third owner moves the inline ones out to the list. */
#include "owner.h"
#include "call.h"

#include <errno.h>
#include <stdlib.h>

/* The one place where an overflow record is allocated. */
NOINLINE static struct owner_record *owner_record_new(struct call *call, struct client *client,
                                                      uint32_t handle, uint32_t flags)
{
    struct owner_record *r = malloc(sizeof *r);
    if (!r)
        return NULL;
    *r = (struct owner_record){call->id, client, call->owners.overflow, NULL, handle, flags};
    if (r->next)
        r->next->prev = r;
    call->owners.overflow = r;
    counters.overflow++;
    return r;
}

static struct owner_record *find_record(const struct call *call, uint32_t handle)
{
    struct owner_record *r = call->owners.overflow;
    while (r && r->handle != handle)
        r = r->next;
    return r;
}

static struct owner_slot *find_slot(struct call *call, uint32_t handle)
{
    for (int i = 0; i < OWNER_INLINE; i++)
        if ((call->owners.slot[i].flags & OWNER_USED) && call->owners.slot[i].handle == handle)
            return &call->owners.slot[i];
    return NULL;
}

/* A record to be written over: an empty slot, or with --owners-counted simultaneous a dead one. */
static bool reuse(struct call *call, const struct hcall *h)
{
    struct client *client = h->hline->app->client;
    for (int i = 0; i < OWNER_INLINE && !call->owners.spilled; i++) {
        struct owner_slot *s = &call->owners.slot[i];
        if (!(s->flags & OWNER_USED) || (config.owners_reuse && !(s->flags & OWNER_LIVE))) {
            *s = (struct owner_slot){client, h->handle, OWNER_USED | OWNER_LIVE};
            return true;
        }
    }
    if (!config.owners_reuse)
        return false;
    for (struct owner_record *r = call->owners.overflow; r; r = r->next) {
        if (!(r->flags & OWNER_LIVE)) {
            r->client = client;
            r->handle = h->handle;
            r->flags = OWNER_USED | OWNER_LIVE;
            return true;
        }
    }
    return false;
}

static int spill(struct call *call)
{
    for (int i = 0; i < OWNER_INLINE; i++) {
        struct owner_slot *s = &call->owners.slot[i];
        if ((s->flags & OWNER_USED) && !owner_record_new(call, s->client, s->handle, s->flags))
            return -ENOMEM;
        s->flags = 0;
    }
    call->owners.spilled = true;
    return 0;
}

NOINLINE int call_add_owner(struct call *call, const struct hcall *h)
{
    struct owner_slot *s = find_slot(call, h->handle);
    struct owner_record *r = s ? NULL : find_record(call, h->handle);
    if (s) {
        s->flags |= OWNER_LIVE; /* a handle that was owner before */
    } else if (r) {
        r->flags |= OWNER_LIVE;
    } else if (!reuse(call, h)) {
        if (config.owners_spill && !call->owners.spilled && spill(call) < 0)
            return -ENOMEM;
        if (!owner_record_new(call, h->hline->app->client, h->handle, OWNER_USED | OWNER_LIVE))
            return -ENOMEM;
    }
    call->owners.live++;
    counters.owners++;
    return 0;
}

NOINLINE void call_remove_owner(struct call *call, const struct hcall *h)
{
    struct owner_slot *s = find_slot(call, h->handle);
    struct owner_record *r = s ? NULL : find_record(call, h->handle);
    if (s) {
        s->flags &= ~(uint32_t)OWNER_LIVE;
        s->client = NULL;
    } else if (r) {
        r->flags &= ~(uint32_t)OWNER_LIVE;
        r->client = NULL; /* the client may be gone before the record is */
    }
    call->owners.live--;
}

NOINLINE void owner_list_free(struct call *call)
{
    for (struct owner_record *r = call->owners.overflow, *next; r; r = next) {
        next = r->next;
        free(r);
    }
    call->owners.overflow = NULL;
}
