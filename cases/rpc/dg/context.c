/* SPDX-License-Identifier: Apache-2.0 */
/* Client address spaces and their context handles; see server.h. A space lives while an activity or
 * a context refers to it. */
#include "server.h"

#include <stdlib.h>
#include <string.h>

struct context {
    struct context *next;
    struct rpc_uuid uuid;
    const struct dg_context_type *type;
    void *object;
};

struct dg_cas {
    struct dg_cas *next;
    struct rpc_uuid uuid;
    struct context *contexts;
    int users; /* activities */
    int64_t alive;
};

enum { BUCKETS = 256 };
static struct dg_cas *spaces[BUCKETS];

static struct dg_cas **bucket(const struct rpc_uuid *uuid)
{
    return &spaces[(uuid->low ^ uuid->low >> 8 ^ uuid->low >> 16) % BUCKETS];
}

static struct dg_cas *find(const struct rpc_uuid *uuid)
{
    struct dg_cas *cas = *bucket(uuid);
    while (cas && !rpc_uuid_equal(&cas->uuid, uuid))
        cas = cas->next;
    return cas;
}

static void drop_if_unused(struct dg_cas *cas)
{
    if (cas->users > 0 || cas->contexts)
        return;
    struct dg_cas **at = bucket(&cas->uuid);
    while (*at != cas)
        at = &(*at)->next;
    *at = cas->next;
    free(cas);
}

struct dg_cas *dg_cas_get(const struct rpc_uuid *uuid)
{
    struct dg_cas *cas = find(uuid);
    if (!cas && (cas = calloc(1, sizeof *cas))) {
        cas->uuid = *uuid;
        cas->next = *bucket(uuid);
        *bucket(uuid) = cas;
    }
    if (cas)
        cas->users++;
    return cas;
}

void dg_cas_use(struct dg_cas *cas, int change)
{
    if (!cas)
        return;
    cas->users += change;
    drop_if_unused(cas);
}

void dg_cas_alive(const struct rpc_uuid *uuid, int64_t now)
{
    struct dg_cas *cas = find(uuid);
    if (cas)
        cas->alive = now;
}

static void run_down(struct dg_cas *cas)
{
    struct context *c;
    while ((c = cas->contexts)) {
        cas->contexts = c->next;
        dg_server_counters.contexts--;
        dg_server_counters.rundowns++;
        c->type->rundown(c->object);
        free(c);
    }
}

static void scan(int64_t dead_since)
{
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct dg_cas *cas = spaces[i], *next; cas; cas = next) {
            next = cas->next;
            if (!cas->contexts || cas->alive > dead_since)
                continue;
            run_down(cas);
            drop_if_unused(cas);
        }
}

void dg_cas_scan(int64_t now)
{
    scan(now - dg_timing()->rundown);
}

void dg_cas_forget_all(void)
{
    scan(INT64_MAX);
}

struct rpc_context dg_context_new(struct dg_cas *cas, const struct dg_context_type *type,
                                  void *object)
{
    struct context *c = cas ? malloc(sizeof *c) : NULL;
    if (!c)
        return (struct rpc_context){0};
    if (!cas->contexts)
        cas->alive = dg_now();
    *c = (struct context){cas->contexts, rpc_uuid_new(), type, object};
    cas->contexts = c;
    dg_server_counters.contexts++;
    return (struct rpc_context){c->uuid};
}

static struct context **locate(const struct dg_cas *cas, const struct rpc_context *c,
                               const struct dg_context_type *type)
{
    if (!cas)
        return NULL;
    struct context **at = (struct context **)&cas->contexts;
    while (*at && !rpc_uuid_equal(&(*at)->uuid, &c->uuid))
        at = &(*at)->next;
    return *at && (*at)->type == type ? at : NULL;
}

void *dg_context_find(const struct dg_cas *cas, const struct rpc_context *c,
                      const struct dg_context_type *type)
{
    struct context **at = locate(cas, c, type);
    return at ? (*at)->object : NULL;
}

void *dg_context_close(struct dg_cas *cas, const struct rpc_context *c,
                       const struct dg_context_type *type)
{
    struct context **at = locate(cas, c, type), *found = at ? *at : NULL;
    void *object = found ? found->object : NULL;
    if (found) {
        *at = found->next;
        dg_server_counters.contexts--;
        free(found);
    }
    return object;
}
