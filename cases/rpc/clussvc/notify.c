/* SPDX-License-Identifier: Apache-2.0 */
/* Event ports: what a client asked to be told about and has not fetched yet. Nothing is queued
 * before the first filter ([MS-CMRP] 3.1.4.1.56); a port that is not read keeps the newest events
 * and counts nothing else, so it is bounded. Start: notify_post. */
#include "cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { QUEUE = 256, FILTERS = 16, NO_MORE_ITEMS = 259 };

struct notify {
    struct notify *next;
    struct {
        uint32_t filter, key;
    } want[FILTERS];
    size_t wants;
    struct event queue[QUEUE];
    size_t first, queued;
    struct dg_incoming *waiting;
};

static struct notify *ports;

struct notify *notify_new(void)
{
    struct notify *n = calloc(1, sizeof *n);
    if (n) {
        n->next = ports;
        ports = n;
    }
    return n;
}

void notify_free(struct notify *n)
{
    struct notify **at = &ports;
    notify_unblock(n);
    while (*at != n)
        at = &(*at)->next;
    *at = n->next;
    free(n);
}

void notify_want(struct notify *n, uint32_t filter, uint32_t key)
{
    if (n->wants == FILTERS)
        n->wants--; /* the last one gives way */
    n->want[n->wants].filter = filter;
    n->want[n->wants++].key = key;
}

int notify_get(struct notify *n, struct dg_incoming *call)
{
    if (n->queued) {
        api_put_event(call, &n->queue[n->first], 0);
        n->first = (n->first + 1) % QUEUE;
        n->queued--;
        return 0;
    }
    notify_unblock(n);
    n->waiting = call;
    call->deferred = n;
    return DG_DEFER;
}

void notify_unblock(struct notify *n)
{
    struct dg_incoming *call = n->waiting;
    if (!call)
        return;
    n->waiting = NULL;
    call->deferred = NULL;
    api_put_event(call, &(struct event){0}, NO_MORE_ITEMS);
    dg_complete(call, 0);
}

void notify_forget(struct notify *n)
{
    n->waiting = NULL;
}

static void post(struct notify *n, const struct event *e)
{
    struct dg_incoming *call = n->waiting;
    if (call) {
        n->waiting = NULL;
        call->deferred = NULL;
        api_put_event(call, e, 0);
        dg_complete(call, 0);
        return;
    }
    if (n->queued == QUEUE) {
        n->first = (n->first + 1) % QUEUE;
        n->queued--;
    }
    n->queue[(n->first + n->queued++) % QUEUE] = *e;
}

void notify_post(uint32_t filter, const char *name)
{
    struct event e = {.filter = filter, .sequence = ++cluster.sequence};
    snprintf(e.name, sizeof e.name, "%s", name);
    for (struct notify *n = ports; n; n = n->next)
        for (size_t i = 0; i < n->wants; i++)
            if (n->want[i].filter & filter) {
                e.key = n->want[i].key;
                post(n, &e);
                break;
            }
}
