/* SPDX-License-Identifier: Apache-2.0 */
/* Calls and call handles; see call.h. A call ends in one of two functions: call_release, when the
 * last handle goes by lineDeallocateCall, and call_destroy, when it goes any other way.
 *
 * THE DEFECT of article 310626 is in call_release: it removes the call with its inline owner slots
 * and forgets the overflow list. In the hotfix build (TAPISRV_HOTFIX) it walks the list as
 * call_destroy does.
 *
 * Where public documents contradict each other (SYSTEMS.md), this server decides:
 * - no application can be first owner: the call is rejected, never shown (W32 unowned-calls);
 * - lineClose, lineShutdown and the death of a sole owner drop the call (SDK lineClose);
 * - a call that nobody holds a handle to is dropped by the provider (TSPI_lineCloseCall): nobody
 *   else could ever do it. */
#include "call.h"
#include "client.h"
#include "handle.h"
#include "history.h"
#include "tspi.h"

#include <stdlib.h>
#include <string.h>

enum { PRIORITY_MAX = 32 };

static char priority[PRIORITY_MAX][MODULE_MAX]; /* highest first */
static size_t priority_len;
static uint64_t last_call_id;

/* ---- messages ---- */

void hcall_post(struct hcall *h, uint32_t msg, uint32_t p1, uint32_t p2, uint32_t p3)
{
    if (h->closing)
        return;
    struct wire_event ev = {
        sizeof ev,      h->hline->app->handle, 0, h->handle, msg, h->hline->callback_instance,
        {p1, p2, p3, 0}};
    client_post(h->hline->app->client, &ev);
}

/* LINE_CALLINFO goes to the other holders, not after IDLE (W32 line-callinfo). */
static void tell_counts(struct call *call, const struct hcall *except, const struct hcall *target,
                        uint32_t bits)
{
    if (call->state == LINECALLSTATE_IDLE)
        return;
    for (struct hcall *h = call->hcalls; h; h = h->call_next)
        if (h != except && h != target)
            hcall_post(h, LINE_CALLINFO, bits, 0, 0);
}

void hcall_announce(struct hcall *h)
{
    struct wire_event ev = {sizeof ev,
                            h->hline->app->handle,
                            0,
                            h->hline->handle,
                            LINE_APPNEWCALL,
                            h->hline->callback_instance,
                            {0, h->handle, h->privilege, 0}};
    client_post(h->hline->app->client, &ev);
    hcall_post(h, LINE_CALLSTATE, h->call->state, h->call->mode, h->privilege);
}

void hcall_tell_new(const struct hcall *h, const struct hcall *giver)
{
    tell_counts(h->call, h, giver,
                h->privilege == LINECALLPRIVILEGE_OWNER ? LINECALLINFOSTATE_NUMOWNERINCR
                                                        : LINECALLINFOSTATE_NUMMONITORS);
}

void call_set_state(struct call *call, uint32_t state, uint32_t mode)
{
    if (call->state == LINECALLSTATE_IDLE)
        return;
    call->state = state;
    call->mode = mode;
    for (struct hcall *h = call->hcalls; h; h = h->call_next)
        hcall_post(h, LINE_CALLSTATE, state, mode, 0);
    if (state == LINECALLSTATE_IDLE)
        history_add(call);
}

/* ---- life and death of a call ---- */

static struct call *call_new(struct line *line, struct leg *leg, uint32_t state)
{
    struct call *call = calloc(1, sizeof *call);
    if (!call)
        return NULL;
    call->id = ++last_call_id;
    call->line = line;
    call->leg = leg;
    call->state = state;
    call->started_ms = timer_now();
    call->next = line->calls;
    if (line->calls)
        line->calls->prev = call;
    line->calls = call;
    counters.calls++;
    return call;
}

static void call_unlink(struct call *call)
{
    if (call->prev)
        call->prev->next = call->next;
    else
        call->line->calls = call->next;
    if (call->next)
        call->next->prev = call->prev;
    if (call->leg)
        tspi_close_call(call->leg);
}

#ifndef TAPISRV_HOTFIX
/* xorshift64*: for --leak-probability. The article says records "may" not be freed. */
static bool forgets(void)
{
    static uint64_t state;
    if (config.leak_probability >= 1)
        return true;
    if (!state)
        state = config.seed * 2685821657736338717ULL + 1;
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (double)(state * 2685821657736338717ULL >> 11) * 0x1p-53 < config.leak_probability;
}

static void count_forgotten(const struct call *call)
{
    for (const struct owner_record *r = call->owners.overflow; r; r = r->next)
        counters.forgotten++;
}
#endif

/* The end of a call whose last handle went by any way but lineDeallocateCall. */
NOINLINE static void call_destroy(struct call *call)
{
    call_unlink(call);
    owner_list_free(call);
    free(call);
}

/* The end of a call whose last handle went by lineDeallocateCall: the common case, and the short
 * way. The call is idle or has no provider side any more that could report on it. */
NOINLINE static void call_release(struct call *call)
{
    call_unlink(call);
#ifdef TAPISRV_HOTFIX
    owner_list_free(call);
#else
    if (!call->owners.overflow || forgets())
        count_forgotten(call);
    else
        owner_list_free(call);
#endif
    free(call);
}

/* ---- handles ---- */

struct hcall *hcall_of_app(const struct call *call, const struct app *app)
{
    struct hcall *h = call->hcalls;
    while (h && h->hline->app != app)
        h = h->call_next;
    return h;
}

static void hcall_free(struct hcall *h)
{
    if (h->call_prev)
        h->call_prev->call_next = h->call_next;
    else
        h->call->hcalls = h->call_next;
    if (h->call_next)
        h->call_next->call_prev = h->call_prev;
    if (h->line_prev)
        h->line_prev->line_next = h->line_next;
    else
        h->hline->hcalls = h->line_next;
    if (h->line_next)
        h->line_next->line_prev = h->line_prev;
    handle_remove(h->handle);
    free(h);
}

NOINLINE struct hcall *hcall_new(struct call *call, struct hline *hline, uint32_t privilege)
{
    struct hcall *h = calloc(1, sizeof *h);
    if (!h)
        return NULL;
    h->handle = handle_new(HANDLE_CALL, h);
    if (!h->handle) {
        free(h);
        return NULL;
    }
    h->call = call;
    h->hline = hline;
    h->privilege = privilege;
    h->call_next = call->hcalls;
    if (call->hcalls)
        call->hcalls->call_prev = h;
    call->hcalls = h;
    h->line_next = hline->hcalls;
    if (hline->hcalls)
        hline->hcalls->line_prev = h;
    hline->hcalls = h;
    if (privilege == LINECALLPRIVILEGE_MONITOR) {
        call->monitors++;
    } else if (call_add_owner(call, h) < 0) {
        hcall_free(h);
        return NULL;
    }
    return h;
}

/* Takes h off its call and tells the others. True when it was the last one. */
static bool hcall_detach(struct hcall *h)
{
    struct call *call = h->call;
    uint32_t bit = LINECALLINFOSTATE_NUMMONITORS;
    if (h->privilege == LINECALLPRIVILEGE_OWNER) {
        call_remove_owner(call, h);
        bit = LINECALLINFOSTATE_NUMOWNERDECR;
    } else {
        call->monitors--;
    }
    hcall_free(h);
    tell_counts(call, NULL, NULL, bit);
    return !call->hcalls;
}

NOINLINE void hcall_dispose(struct hcall *h)
{
    struct call *call = h->call;
    if (hcall_detach(h))
        call_release(call);
}

NOINLINE void hcall_close(struct hcall *h, bool drop)
{
    struct call *call = h->call;
    h->closing = true;
    if (drop && call->leg && h->privilege == LINECALLPRIVILEGE_OWNER && call->owners.live == 1)
        tspi_drop(call->leg);
    if (hcall_detach(h))
        call_destroy(call);
}

/* A change between monitor and owner alters two counts, told in one message. */
NOINLINE int32_t hcall_set_privilege(struct hcall *h, uint32_t privilege, const struct hcall *cause)
{
    struct call *call = h->call;
    if (h->privilege == privilege)
        return 0;
    if (privilege == LINECALLPRIVILEGE_OWNER) {
        if (call_add_owner(call, h) < 0)
            return LINEERR_NOMEM;
        call->monitors--;
        h->privilege = privilege;
        tell_counts(call, h, cause, LINECALLINFOSTATE_NUMOWNERINCR | LINECALLINFOSTATE_NUMMONITORS);
    } else {
        call_remove_owner(call, h);
        call->monitors++;
        h->privilege = privilege;
        tell_counts(call, h, cause, LINECALLINFOSTATE_NUMOWNERDECR | LINECALLINFOSTATE_NUMMONITORS);
    }
    return 0;
}

/* ---- who gets a call ---- */

int32_t call_set_priority(const char *module, uint32_t place)
{
    size_t at = 0;
    while (at < priority_len && strcmp(priority[at], module) != 0)
        at++;
    if (at < priority_len) {
        memmove(priority[at], priority[at + 1], (priority_len - at - 1) * sizeof priority[0]);
        priority_len--;
    }
    if (place == 0)
        return 0;
    if (priority_len == PRIORITY_MAX)
        return LINEERR_RESOURCEUNAVAIL;
    memmove(priority[1], priority[0], priority_len * sizeof priority[0]);
    memset(priority[0], 0, sizeof priority[0]);
    strncpy(priority[0], module, MODULE_MAX - 1);
    priority_len++;
    return 0;
}

static bool may_own(const struct hline *hl, uint32_t media)
{
    return (hl->privileges & LINECALLPRIVILEGE_OWNER) && (hl->media_modes & media) &&
           client_keeps_up(hl->app->client) && !hl->app->client->dead;
}

struct hline *call_best_opener(const struct line *line, uint32_t media)
{
    for (size_t i = 0; i < priority_len; i++)
        for (struct hline *hl = line->first_opener; hl; hl = hl->line_next)
            if (strcmp(hl->app->module, priority[i]) == 0 && may_own(hl, media))
                return hl;
    struct hline *hl = line->first_opener;
    while (hl && !may_own(hl, media))
        hl = hl->line_next;
    return hl;
}

/* With the UNKNOWN bit the media modes are tried in turn (W32 handoffs-ovr). */
static struct hline *first_owner(const struct line *line, uint32_t *media)
{
    struct hline *hl = call_best_opener(line, *media);
    if (hl || !(*media & LINEMEDIAMODE_UNKNOWN))
        return hl;
    for (uint32_t m = LINEMEDIAMODE_INTERACTIVEVOICE; !hl && m <= LINEMEDIAMODE_DATAMODEM; m <<= 1)
        if ((hl = call_best_opener(line, m)))
            *media = m;
    return hl;
}

NOINLINE enum offer_result call_offer(struct line *line, struct leg *leg, uint32_t media,
                                      const char *caller, const char *called, struct call **out)
{
    struct hline *first = first_owner(line, &media);
    if (!first)
        return OFFER_NO_OWNER;
    struct call *call = call_new(line, leg, LINECALLSTATE_OFFERING);
    if (!call)
        return OFFER_NO_MEMORY;
    call->media = media;
    call->origin = LINECALLORIGIN_EXTERNAL;
    strncpy(call->caller, caller, sizeof call->caller - 1);
    strncpy(call->called, called, sizeof call->called - 1);
    if (!hcall_new(call, first, LINECALLPRIVILEGE_OWNER)) {
        call->leg = NULL;
        call_destroy(call);
        return OFFER_NO_MEMORY;
    }
    for (struct hline *hl = line->first_opener; hl; hl = hl->line_next)
        if ((hl->privileges & LINECALLPRIVILEGE_MONITOR) && !hcall_of_app(call, hl->app) &&
            client_keeps_up(hl->app->client) && !hl->app->client->dead)
            hcall_new(call, hl, LINECALLPRIVILEGE_MONITOR); /* without: no handle, no harm */
    for (struct hcall *h = call->hcalls; h; h = h->call_next)
        hcall_announce(h);
    *out = call;
    return OFFER_OK;
}

int32_t call_outgoing(struct hline *maker, const char *dest, struct hcall **out)
{
    struct call *call = call_new(maker->line, NULL, LINECALLSTATE_DIALING);
    if (!call)
        return LINEERR_NOMEM;
    call->media = LINEMEDIAMODE_INTERACTIVEVOICE;
    call->origin = LINECALLORIGIN_OUTBOUND;
    strncpy(call->called, dest, sizeof call->called - 1);
    *out = hcall_new(call, maker, LINECALLPRIVILEGE_OWNER);
    if (*out)
        return 0;
    call_destroy(call);
    return LINEERR_NOMEM;
}
