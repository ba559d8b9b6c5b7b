/* SPDX-License-Identifier: Apache-2.0 */
/* The API functions. Every on_* checks handles, privileges and states as the SDK page of its
 * function says and returns 0, a positive request id, or a LINEERR; api_dispatch calls them from
 * a table. Parameters are numbered as libtapi sends them.
 *
 * Decisions where public documents contradict each other (SYSTEMS.md): a sole owner may
 * deallocate a call that is not idle unless its line was opened with a version below 2.0;
 * lineGetNewCalls gives MONITOR (SDK), not OWNER (the wire specification). */
#include "api.h"
#include "call.h"
#include "handle.h"
#include "tspi.h"

#include <stdlib.h>
#include <string.h>

enum { API_2_0 = 0x00020000 };

static const uint32_t versions[] = {0x00030000, 0x00020002, 0x00020001,
                                    0x00020000, 0x00010004, 0x00010003};

static uint32_t last_request_id;

/* ---- arguments ---- */

/* The variable data as a string; NULL when it is not a terminated one or does not fit. */
static const char *string_arg(const struct api_call *c, size_t max)
{
    if (c->in_var == 0 || c->in_var > max || !memchr(c->in->var, 0, c->in_var))
        return NULL;
    return c->in->var;
}

static struct app *app_arg(const struct api_call *c, int i)
{
    struct app *app = handle_get(HANDLE_APP, c->in->head.param[i]);
    return app && app->client == c->client ? app : NULL;
}

static struct hline *line_arg(const struct api_call *c, int i)
{
    struct hline *hl = handle_get(HANDLE_LINE, c->in->head.param[i]);
    return hl && hl->app->client == c->client ? hl : NULL;
}

static struct hcall *call_arg(const struct api_call *c, int i)
{
    struct hcall *h = handle_get(HANDLE_CALL, c->in->head.param[i]);
    return h && h->hline->app->client == c->client ? h : NULL;
}

static bool known_version(uint32_t version)
{
    for (size_t i = 0; i < sizeof versions / sizeof versions[0]; i++)
        if (versions[i] == version)
            return true;
    return false;
}

/* ---- applications and lines ---- */

/* 0 options; var: module name. Returns 0 HLINEAPP, 1 devices, 2 version. */
static int32_t on_initialize(struct api_call *c)
{
    const char *name = string_arg(c, MODULE_MAX);
    if (!name || !*name)
        return LINEERR_INVALAPPNAME;
    if (c->in->head.param[0] != LINEINITIALIZEEXOPTION_USEEVENT)
        return LINEERR_INVALPARAM;
    struct app *app = calloc(1, sizeof *app);
    if (!app)
        return LINEERR_NOMEM;
    app->handle = handle_new(HANDLE_APP, app);
    if (!app->handle) {
        free(app);
        return LINEERR_NOMEM;
    }
    strcpy(app->module, name);
    app->client = c->client;
    app->next = c->client->apps;
    c->client->apps = app;
    c->out->head.param[0] = app->handle;
    c->out->head.param[1] = config.lines;
    c->out->head.param[2] = versions[0];
    return 0;
}

NOINLINE void app_shutdown(struct app *app)
{
    while (app->hlines)
        hline_close(app->hlines);
    struct app **at = &app->client->apps;
    while (*at != app)
        at = &(*at)->next;
    *at = app->next;
    handle_remove(app->handle);
    free(app);
}

static int32_t on_shutdown(struct api_call *c)
{
    struct app *app = app_arg(c, 0);
    if (!app)
        return LINEERR_INVALAPPHANDLE;
    app_shutdown(app);
    return 0;
}

/* 0 HLINEAPP, 1 device, 2 low, 3 high. Returns 0 version. */
static int32_t on_negotiate(struct api_call *c)
{
    const uint32_t *p = c->in->head.param;
    if (!app_arg(c, 0))
        return LINEERR_INVALAPPHANDLE;
    if (p[1] >= config.lines)
        return LINEERR_BADDEVICEID;
    for (size_t i = 0; i < sizeof versions / sizeof versions[0]; i++) {
        if (versions[i] >= p[2] && versions[i] <= p[3]) {
            c->out->head.param[0] = versions[i];
            return 0;
        }
    }
    return LINEERR_INCOMPATIBLEAPIVERSION;
}

/* 0 HLINEAPP, 1 device, 2 version, 3 callback instance, 4 privileges, 5 media modes. Returns 0
 * HLINE. */
static int32_t on_open(struct api_call *c)
{
    const uint32_t *p = c->in->head.param;
    const uint32_t own = LINECALLPRIVILEGE_OWNER, monitor = LINECALLPRIVILEGE_MONITOR;
    struct app *app = app_arg(c, 0);
    if (!app)
        return LINEERR_INVALAPPHANDLE;
    if (p[1] >= config.lines)
        return LINEERR_BADDEVICEID;
    if (!known_version(p[2]))
        return LINEERR_INCOMPATIBLEAPIVERSION;
    if (p[4] != LINECALLPRIVILEGE_NONE && (p[4] == 0 || (p[4] & ~(own | monitor))))
        return LINEERR_INVALPRIVSELECT;
    if ((p[4] & own) && (p[5] == 0 || (p[5] & ~(uint32_t)LINEMEDIAMODE_ALL)))
        return LINEERR_INVALMEDIAMODE;
    struct hline *hl = calloc(1, sizeof *hl);
    if (!hl)
        return LINEERR_NOMEM;
    hl->handle = handle_new(HANDLE_LINE, hl);
    if (!hl->handle) {
        free(hl);
        return LINEERR_NOMEM;
    }
    hl->app = app;
    hl->line = &lines[p[1]];
    hl->version = p[2];
    hl->callback_instance = p[3];
    hl->privileges = p[4];
    hl->media_modes = p[5];
    hl->next = app->hlines;
    app->hlines = hl;
    hl->line_prev = hl->line->last_opener;
    if (hl->line_prev)
        hl->line_prev->line_next = hl;
    else
        hl->line->first_opener = hl;
    hl->line->last_opener = hl;
    c->out->head.param[0] = hl->handle;
    return 0;
}

NOINLINE void hline_close(struct hline *hl)
{
    while (hl->hcalls)
        hcall_close(hl->hcalls, true);
    if (hl->line_prev)
        hl->line_prev->line_next = hl->line_next;
    else
        hl->line->first_opener = hl->line_next;
    if (hl->line_next)
        hl->line_next->line_prev = hl->line_prev;
    else
        hl->line->last_opener = hl->line_prev;
    struct hline **at = &hl->app->hlines;
    while (*at != hl)
        at = &(*at)->next;
    *at = hl->next;
    handle_remove(hl->handle);
    free(hl);
}

static int32_t on_close(struct api_call *c)
{
    struct hline *hl = line_arg(c, 0);
    if (!hl)
        return LINEERR_INVALLINEHANDLE;
    hline_close(hl);
    return 0;
}

/* 0 media mode, 1 priority; var: module name. The list is one for all media modes. */
static int32_t on_set_app_priority(struct api_call *c)
{
    const char *name = string_arg(c, MODULE_MAX);
    if (!name || !*name)
        return LINEERR_INVALAPPNAME;
    if (c->in->head.param[0] & ~(uint32_t)LINEMEDIAMODE_ALL)
        return LINEERR_INVALMEDIAMODE;
    if (c->in->head.param[1] > 1)
        return LINEERR_INVALPARAM;
    return call_set_priority(name, c->in->head.param[1]);
}

/* ---- asynchronous functions: checked now, done after the reply ---- */

static void report(struct api_call *c, int32_t result)
{
    struct wire_event ev = {
        sizeof ev, c->app->handle, 0, 0, LINE_REPLY, 0, {c->request_id, (uint32_t)result, 0, 0}};
    client_post(c->client, &ev);
}

static int32_t put_off(struct api_call *c, struct hcall *h, void (*later)(struct api_call *))
{
    c->h = h;
    c->app = h->hline->app;
    c->later = later;
    last_request_id = last_request_id % 0x7fffffff + 1;
    c->request_id = last_request_id;
    return (int32_t)c->request_id;
}

static void later_answer(struct api_call *c)
{
    report(c, c->h->call->leg ? tspi_answer(c->h->call->leg) : LINEERR_INVALCALLSTATE);
}

static void later_accept(struct api_call *c)
{
    report(c, c->h->call->leg ? tspi_accept(c->h->call->leg) : LINEERR_INVALCALLSTATE);
}

static void later_drop(struct api_call *c)
{
    if (c->h->call->leg)
        tspi_drop(c->h->call->leg);
    report(c, 0);
}

static void later_make_call(struct api_call *c)
{
    int32_t result = tspi_make_call(c->h->call, c->h->call->called);
    report(c, result);
    if (result != 0)
        hcall_close(c->h, false);
}

static int32_t on_answer(struct api_call *c)
{
    struct hcall *h = call_arg(c, 0);
    if (!h)
        return LINEERR_INVALCALLHANDLE;
    if (h->privilege != LINECALLPRIVILEGE_OWNER)
        return LINEERR_NOTOWNER;
    if (!(h->call->state & (LINECALLSTATE_OFFERING | LINECALLSTATE_ACCEPTED)))
        return LINEERR_INVALCALLSTATE;
    return put_off(c, h, later_answer);
}

static int32_t on_accept(struct api_call *c)
{
    struct hcall *h = call_arg(c, 0);
    if (!h)
        return LINEERR_INVALCALLHANDLE;
    if (h->privilege != LINECALLPRIVILEGE_OWNER)
        return LINEERR_NOTOWNER;
    if (h->call->state != LINECALLSTATE_OFFERING)
        return LINEERR_INVALCALLSTATE;
    return put_off(c, h, later_accept);
}

static int32_t on_drop(struct api_call *c)
{
    struct hcall *h = call_arg(c, 0);
    if (!h)
        return LINEERR_INVALCALLHANDLE;
    if (h->privilege != LINECALLPRIVILEGE_OWNER)
        return LINEERR_NOTOWNER;
    if (h->call->state == LINECALLSTATE_IDLE)
        return LINEERR_INVALCALLSTATE;
    return put_off(c, h, later_drop);
}

/* 0 HLINE; var: a SIP URI. Returns 0 HCALL, good after LINE_REPLY. */
static int32_t on_make_call(struct api_call *c)
{
    struct hline *hl = line_arg(c, 0);
    const char *dest = string_arg(c, ID_MAX);
    if (!hl)
        return LINEERR_INVALLINEHANDLE;
    if (!dest || strncmp(dest, "sip:", 4) != 0)
        return LINEERR_INVALADDRESS;
    struct hcall *h;
    int32_t result = call_outgoing(hl, dest, &h);
    if (result != 0)
        return result;
    c->out->head.param[0] = h->handle;
    return put_off(c, h, later_make_call);
}

/* ---- ownership ---- */

NOINLINE static int32_t on_deallocate_call(struct api_call *c)
{
    struct hcall *h = call_arg(c, 0);
    if (!h)
        return LINEERR_INVALCALLHANDLE;
    if (h->hline->version < API_2_0 && h->privilege == LINECALLPRIVILEGE_OWNER &&
        h->call->owners.live == 1 && h->call->state != LINECALLSTATE_IDLE)
        return LINEERR_INVALCALLSTATE;
    hcall_dispose(h);
    return 0;
}

/* 0 HCALL, 1 exactly one LINECALLPRIVILEGE constant. */
NOINLINE static int32_t on_set_privilege(struct api_call *c)
{
    struct hcall *h = call_arg(c, 0);
    uint32_t wanted = c->in->head.param[1];
    if (!h)
        return LINEERR_INVALCALLHANDLE;
    if (wanted != LINECALLPRIVILEGE_NONE && wanted != LINECALLPRIVILEGE_MONITOR &&
        wanted != LINECALLPRIVILEGE_OWNER)
        return LINEERR_INVALCALLPRIVILEGE;
    if (wanted != LINECALLPRIVILEGE_OWNER && h->privilege == LINECALLPRIVILEGE_OWNER &&
        h->call->owners.live == 1 && h->call->state != LINECALLSTATE_IDLE)
        return LINEERR_INVALCALLSTATE;
    if (wanted == LINECALLPRIVILEGE_NONE) {
        hcall_close(h, false);
        return 0;
    }
    return hcall_set_privilege(h, wanted, h);
}

/* An instance of the named module that opened the line as owner and reads its events: another one
 * before the caller. */
static struct hline *handoff_by_name(const struct hcall *from, const char *name)
{
    struct hline *self = NULL;
    for (struct hline *hl = from->call->line->first_opener; hl; hl = hl->line_next) {
        if (strcmp(hl->app->module, name) != 0 || !(hl->privileges & LINECALLPRIVILEGE_OWNER) ||
            !client_keeps_up(hl->app->client))
            continue;
        if (hl->app != from->hline->app)
            return hl;
        self = hl;
    }
    return self;
}

/* 0 HCALL, 1 media mode; var: module name or nothing. The caller keeps its privilege. */
static int32_t on_handoff(struct api_call *c)
{
    struct hcall *h = call_arg(c, 0);
    uint32_t media = c->in->head.param[1];
    if (!h)
        return LINEERR_INVALCALLHANDLE;
    if (h->privilege != LINECALLPRIVILEGE_OWNER)
        return LINEERR_NOTOWNER;
    struct hline *to;
    if (c->in_var) {
        const char *name = string_arg(c, MODULE_MAX);
        if (!name)
            return LINEERR_INVALPOINTER;
        to = handoff_by_name(h, name);
    } else {
        if (media == 0 || (media & (media - 1)) || (media & ~(uint32_t)LINEMEDIAMODE_ALL))
            return LINEERR_INVALMEDIAMODE;
        to = call_best_opener(h->call->line, media);
    }
    if (!to)
        return LINEERR_TARGETNOTFOUND;
    if (to->app == h->hline->app)
        return LINEERR_TARGETSELF;
    struct hcall *target = hcall_of_app(h->call, to->app);
    if (target) {
        int32_t result = hcall_set_privilege(target, LINECALLPRIVILEGE_OWNER, h);
        if (result != 0)
            return result;
        hcall_post(target, LINE_CALLSTATE, h->call->state, h->call->mode, LINECALLPRIVILEGE_OWNER);
        return 0;
    }
    target = hcall_new(h->call, to, LINECALLPRIVILEGE_OWNER);
    if (!target)
        return LINEERR_NOMEM;
    hcall_announce(target);
    hcall_tell_new(target, h);
    return 0;
}

/* ---- asking ---- */

static int32_t put_list(struct api_call *c, uint32_t total, const uint32_t *handles, uint32_t n)
{
    LINECALLLIST list = {.dwTotalSize = total};
    if (total < sizeof list)
        return LINEERR_STRUCTURETOOSMALL;
    uint32_t size = n * (uint32_t)sizeof *handles;
    list.dwNeededSize = (uint32_t)sizeof list + size;
    list.dwUsedSize = (uint32_t)sizeof list;
    if (list.dwNeededSize <= total) {
        list.dwUsedSize = list.dwNeededSize;
        list.dwCallsNumEntries = n;
        list.dwCallsSize = size;
        list.dwCallsOffset = (uint32_t)sizeof list;
        memcpy(c->out->var + sizeof list, handles, size);
    }
    memcpy(c->out->var, &list, sizeof list);
    *c->out_var = list.dwUsedSize;
    return 0;
}

/* 0 HLINE, 1 address, 2 select, 3 total size. Gives MONITOR handles to calls the application has
 * none for. At most as many as the caller's structure has room for are given out at once: a handle
 * that could not be told could not be deallocated either. */
static int32_t on_get_new_calls(struct api_call *c)
{
    const uint32_t *p = c->in->head.param;
    struct hline *hl = line_arg(c, 0);
    if (!hl)
        return LINEERR_INVALLINEHANDLE;
    if (p[2] != LINECALLSELECT_LINE && p[2] != LINECALLSELECT_ADDRESS)
        return LINEERR_INVALCALLSELECT;
    if (p[2] == LINECALLSELECT_ADDRESS && p[1] != 0)
        return LINEERR_INVALADDRESSID;
    uint32_t total = p[3] < WIRE_VAR_MAX ? p[3] : WIRE_VAR_MAX, n = 0;
    if (total < sizeof(LINECALLLIST))
        return LINEERR_STRUCTURETOOSMALL;
    uint32_t handles[(WIRE_VAR_MAX - sizeof(LINECALLLIST)) / sizeof(uint32_t)];
    uint32_t room = (total - (uint32_t)sizeof(LINECALLLIST)) / (uint32_t)sizeof *handles;
    for (struct call *call = hl->line->calls; call && n < room; call = call->next) {
        if (hcall_of_app(call, hl->app))
            continue;
        struct hcall *h = hcall_new(call, hl, LINECALLPRIVILEGE_MONITOR);
        if (!h)
            break;
        hcall_tell_new(h, NULL);
        handles[n++] = h->handle;
    }
    return put_list(c, total, handles, n);
}

/* This provider has no conferences. 0 HCALL. */
static int32_t on_get_conf_related(struct api_call *c)
{
    return call_arg(c, 0) ? LINEERR_NOCONFERENCE : LINEERR_INVALCALLHANDLE;
}

/* Appends a string to the variable part when it fits; needed counts it in any case. */
static void put_string(struct api_call *c, uint32_t total, const char *s, LINECALLINFO *info,
                       uint32_t *size, uint32_t *offset)
{
    uint32_t n = (uint32_t)strlen(s) + 1;
    info->dwNeededSize += n;
    if (info->dwUsedSize + n > total)
        return;
    memcpy(c->out->var + info->dwUsedSize, s, n);
    *size = n;
    *offset = info->dwUsedSize;
    info->dwUsedSize += n;
}

/* 0 HCALL, 1 total size. */
static int32_t on_get_call_info(struct api_call *c)
{
    struct hcall *h = call_arg(c, 0);
    uint32_t total = c->in->head.param[1] < WIRE_VAR_MAX ? c->in->head.param[1] : WIRE_VAR_MAX;
    if (!h)
        return LINEERR_INVALCALLHANDLE;
    LINECALLINFO info = {.dwTotalSize = total,
                         .dwNeededSize = sizeof info,
                         .dwUsedSize = sizeof info,
                         .hLine = h->hline->handle,
                         .dwLineDeviceID = h->call->line->id,
                         .dwMediaMode = h->call->media,
                         .dwCallID = (uint32_t)h->call->id,
                         .dwCallStates = LINECALLSTATE_IDLE | LINECALLSTATE_OFFERING |
                                         LINECALLSTATE_ACCEPTED | LINECALLSTATE_DIALING |
                                         LINECALLSTATE_RINGBACK | LINECALLSTATE_BUSY |
                                         LINECALLSTATE_PROCEEDING | LINECALLSTATE_CONNECTED |
                                         LINECALLSTATE_DISCONNECTED,
                         .dwOrigin = h->call->origin,
                         .dwReason = LINECALLREASON_DIRECT,
                         .dwNumOwners = h->call->owners.live,
                         .dwNumMonitors = h->call->monitors};
    if (total < sizeof info)
        return LINEERR_STRUCTURETOOSMALL;
    put_string(c, total, h->call->caller, &info, &info.dwCallerIDSize, &info.dwCallerIDOffset);
    put_string(c, total, h->call->called, &info, &info.dwCalledIDSize, &info.dwCalledIDOffset);
    memcpy(c->out->var, &info, sizeof info);
    *c->out_var = info.dwUsedSize;
    return 0;
}

/* 0 HCALL, 1 total size. */
static int32_t on_get_call_status(struct api_call *c)
{
    struct hcall *h = call_arg(c, 0);
    if (!h)
        return LINEERR_INVALCALLHANDLE;
    LINECALLSTATUS status = {.dwTotalSize = c->in->head.param[1],
                             .dwNeededSize = sizeof status,
                             .dwUsedSize = sizeof status,
                             .dwCallState = h->call->state,
                             .dwCallStateMode = h->call->mode,
                             .dwCallPrivilege = h->privilege};
    if (status.dwTotalSize < sizeof status)
        return LINEERR_STRUCTURETOOSMALL;
    if (h->privilege == LINECALLPRIVILEGE_OWNER && h->call->state != LINECALLSTATE_IDLE) {
        status.dwCallFeatures = LINECALLFEATURE_DROP;
        if (h->call->state & (LINECALLSTATE_OFFERING | LINECALLSTATE_ACCEPTED))
            status.dwCallFeatures |= LINECALLFEATURE_ANSWER;
        if (h->call->state == LINECALLSTATE_OFFERING)
            status.dwCallFeatures |= LINECALLFEATURE_ACCEPT;
    }
    memcpy(c->out->var, &status, sizeof status);
    *c->out_var = sizeof status;
    return 0;
}

/* ---- dispatch ---- */

static int32_t (*const functions[TAPI_FUNC_END])(struct api_call *) = {
    [TAPI_INITIALIZE] = on_initialize,
    [TAPI_SHUTDOWN] = on_shutdown,
    [TAPI_NEGOTIATE] = on_negotiate,
    [TAPI_OPEN] = on_open,
    [TAPI_CLOSE] = on_close,
    [TAPI_SET_APP_PRIORITY] = on_set_app_priority,
    [TAPI_MAKE_CALL] = on_make_call,
    [TAPI_ANSWER] = on_answer,
    [TAPI_ACCEPT] = on_accept,
    [TAPI_DROP] = on_drop,
    [TAPI_HANDOFF] = on_handoff,
    [TAPI_DEALLOCATE_CALL] = on_deallocate_call,
    [TAPI_SET_CALL_PRIVILEGE] = on_set_privilege,
    [TAPI_GET_CALL_INFO] = on_get_call_info,
    [TAPI_GET_CALL_STATUS] = on_get_call_status,
    [TAPI_GET_CONF_RELATED] = on_get_conf_related,
    [TAPI_GET_NEW_CALLS] = on_get_new_calls,
};

NOINLINE int32_t api_dispatch(struct api_call *c)
{
    int32_t func = c->in->head.func;
    if (func < 0 || func >= TAPI_FUNC_END || !functions[func])
        return LINEERR_OPERATIONUNAVAIL;
    /* A context without an application handle is as good as none; only these two need none. */
    if (!c->client->apps && func != TAPI_INITIALIZE && func != TAPI_SET_APP_PRIORITY)
        return LINEERR_UNINITIALIZED;
    return functions[func](c);
}

void api_complete(struct api_call *c)
{
    if (c->later)
        c->later(c);
}
