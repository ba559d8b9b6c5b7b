/* SPDX-License-Identifier: Apache-2.0 */
/* On whose behalf the live units of a site were acquired, and whether they outlive that: the
 * owner-end clock of METHODS 2 (conclusion 2). "Outlives its owner" is evidence and no verdict: a
 * pool that recycles after a time outlives its owners as well. Start: tt_judge_owner. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "judge/dossier.h"

#define GRACE_S 5.0
#define NEARLY_ALL 0.95
#define FEW 5.0 /* units on the clock that say something */
#define STANDS_OUT 0.5
#define NO_PID (1ULL << 40) /* added to the index of an owner whose process is not known */

/* What one client has: connections of the same process together. */
struct client {
    const struct tt_case_owner *owner;
    double units;
};
typedef TT_VEC(struct client) client_vec;

/* The address without its port: "10.0.0.1", "[::1]". */
static void host_of(const char *address, char out[64])
{
    const char *colon = strrchr(address, ':');
    snprintf(out, 64, "%.*s", (int)(colon ? colon - address : (long)strlen(address)), address);
}

/* What is common to the owners so far; emptied where they differ. */
static void narrow(struct tt_owner_fact *fact, const struct tt_case_owner *owner, bool first)
{
    char host[64];
    host_of(owner->address, host);
    if (first) {
        snprintf(fact->address, sizeof fact->address, "%s", owner->address);
        snprintf(fact->host, sizeof fact->host, "%s", host);
        snprintf(fact->exe, sizeof fact->exe, "%s", owner->exe);
        fact->pid = owner->pid;
        return;
    }
    if (strcmp(fact->address, owner->address) != 0)
        fact->address[0] = '\0';
    if (strcmp(fact->host, host) != 0)
        fact->host[0] = '\0';
    if (strcmp(fact->exe, owner->exe) != 0)
        fact->exe[0] = '\0';
    if (fact->pid != owner->pid)
        fact->pid = 0;
}

static void add_client(client_vec *clients, struct tt_map *at, const struct tt_case_owner *owner,
                       size_t which, double units)
{
    uint64_t key = owner->pid > 0 ? (uint64_t)owner->pid : NO_PID + which;
    const uint64_t *known = tt_map_get(at, key);
    if (known && clients->data) {
        clients->data[*known].units += units;
        return;
    }
    struct client fresh = {owner, units};
    if (tt_vec_push(clients, fresh) == 0 && tt_map_put(at, key, clients->len - 1) != 0)
        clients->len--;
}

static void find_most(const client_vec *clients, struct tt_owner_fact *fact)
{
    const struct client *most = NULL;
    for (size_t i = 0; i < clients->len; i++)
        if (!most || clients->data[i].units > most->units)
            most = &clients->data[i];
    if (clients->len < 2 || most->units < STANDS_OUT * fact->units)
        return;
    fact->most.units = most->units;
    fact->most.pid = most->owner->pid;
    snprintf(fact->most.exe, sizeof fact->most.exe, "%s", most->owner->exe);
    snprintf(fact->most.address, sizeof fact->most.address, "%s", most->owner->address);
}

static void gather(const struct tt_dossiers *all, const struct tt_dossier *d,
                   struct tt_owner_fact *fact)
{
    struct tt_map seen = {0}, at = {0};
    client_vec clients = {0};
    for (size_t i = 0; i < d->members.len; i++) {
        const struct tt_case_site *s = &all->c->sites.data[d->members.data[i].site];
        for (size_t k = 0; k < s->owners.len; k++) {
            const struct tt_case_share_of *share = &s->owners.data[k];
            if (!share->which || share->which > all->c->owners.len) {
                fact->unknown += share->units;
                continue;
            }
            const struct tt_case_owner *owner = &all->c->owners.data[share->which - 1];
            fact->units += share->units;
            narrow(fact, owner, fact->owners < 1);
            add_client(&clients, &at, owner, share->which, share->units);
            /* an owner that could not be kept apart is counted twice at worst */
            if (!tt_map_get(&seen, share->which) && tt_map_put(&seen, share->which, 1) == 0)
                fact->owners++;
        }
    }
    find_most(&clients, fact);
    tt_vec_free(&clients);
    tt_map_free(&at);
    tt_map_free(&seen);
}

/* Of the units whose owner ended longer ago than the grace: live, and released since. */
static void read_clock(const struct tt_dossiers *all, const struct tt_dossier *d,
                       struct tt_owner_fact *fact)
{
    double now = d->until * TT_STATS_TICKS_PER_SECOND, grace = GRACE_S * TT_STATS_TICKS_PER_SECOND;
    for (size_t i = 0; i < d->members.len; i++) {
        const struct tt_case_site *s = &all->c->sites.data[d->members.data[i].site];
        const struct tt_case_clock *clock = &s->clocks[TT_CASE_OWNER_END];
        for (size_t k = 0; k < clock->live.len; k++)
            if (now - clock->live.data[k].tick >= grace)
                fact->outlived += (double)clock->live.data[k].count;
        for (unsigned b = 0; b < TT_STATS_BINS; b++)
            if (tt_stats_bin_start(b) >= grace)
                fact->released += (double)clock->deaths[b];
    }
}

/* "pid 4121 (clusclient)" */
static const char *write_process(char out[64], int64_t pid, const char *exe)
{
    const char *base = strrchr(exe, '/');
    snprintf(out, 64, "pid %lld (%.40s)", (long long)pid, base ? base + 1 : *exe ? exe : "?");
    return out;
}

static void write_text(struct tt_owner_fact *fact)
{
    char units[32], owners[32], process[64], *out = fact->text;
    size_t room = sizeof fact->text;
    const char *base = strrchr(fact->exe, '/');
    tt_text_count(owners, (uint64_t)llround(fact->owners));
    int used;
    if (fact->owners < 2 && fact->pid)
        used = snprintf(out, room, "only on behalf of %s",
                        write_process(process, fact->pid, fact->exe));
    else if (fact->owners < 2)
        used = snprintf(out, room, "only on behalf of one client%s%s", *fact->address ? ", " : "",
                        fact->address);
    else if (fact->pid)
        used = snprintf(out, room, "only on behalf of %s, in %s connections",
                        write_process(process, fact->pid, fact->exe), owners);
    else if (*fact->exe)
        used = snprintf(out, room, "only on behalf of clients that run %.60s, %s of them",
                        base ? base + 1 : fact->exe, owners);
    else if (*fact->host)
        used = snprintf(out, room, "only on behalf of clients from %s, in %s connections",
                        fact->host, owners);
    else
        used = snprintf(out, room, "on behalf of %s clients", owners);
    if (fact->most.units < 1 || used < 0 || (size_t)used >= room)
        return;
    tt_text_count(units, (uint64_t)llround(fact->most.units));
    if (fact->most.pid)
        snprintf(out + used, room - (size_t)used, "; %s for %s", units,
                 write_process(process, fact->most.pid, fact->most.exe));
    else if (*fact->most.address)
        snprintf(out + used, room - (size_t)used, "; %s for %s", units, fact->most.address);
}

void tt_judge_owner(const struct tt_dossiers *all, const struct tt_dossier *d, struct tt_finding *f)
{
    struct tt_owner_fact *fact = &f->owner;
    gather(all, d, fact);
    fact->known = fact->units >= 1 && fact->units >= NEARLY_ALL * (fact->units + fact->unknown);
    if (!fact->known)
        return;
    read_clock(all, d, fact);
    fact->outlives =
        fact->outlived >= FEW && fact->outlived >= NEARLY_ALL * (fact->outlived + fact->released);
    write_text(fact);
}

int tt_judge_tell_owner(struct tt_finding *f)
{
    const struct tt_owner_fact *fact = &f->owner;
    char held[32], of[32];
    if (!fact->known)
        return 0;
    struct tt_evidence e = {.kind = "owner", .value = fact->units, .log_e = NAN};
    size_t used = (size_t)snprintf(e.text, sizeof e.text, "acquired %s", fact->text);
    if (fact->outlived + fact->released >= 1 && used < sizeof e.text)
        snprintf(e.text + used, sizeof e.text - used,
                 "; %s of the %s whose client went away more than %.0f s before are still held",
                 tt_text_count(held, (uint64_t)llround(fact->outlived)),
                 tt_text_count(of, (uint64_t)llround(fact->outlived + fact->released)), GRACE_S);
    return tt_vec_push(&f->evidence, e);
}
