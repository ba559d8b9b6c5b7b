/* SPDX-License-Identifier: Apache-2.0 */
/* libtapi: the client side of tapi.h. Every function is one request and one reply on the process's
 * connection; events that come in between are kept in a growing ring until lineGetMessage takes
 * them. Start: transact. */
#include "../tapi.h"
#include "../wire.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static int server_fd = -1;
static unsigned apps_open;
static uint32_t sequence;
static struct wire_packet packet; /* the request, then its reply */
static size_t reply_var;

static struct wire_event *events;
static size_t events_first, events_len, events_cap; /* cap is a power of two */

static int keep_event(const struct wire_event *ev)
{
    if (events_len == events_cap) {
        size_t cap = events_cap ? events_cap * 2 : 64;
        struct wire_event *grown = malloc(cap * sizeof *grown);
        if (!grown)
            return -1;
        for (size_t i = 0; i < events_len; i++)
            grown[i] = events[(events_first + i) & (events_cap - 1)];
        free(events);
        events = grown;
        events_first = 0;
        events_cap = cap;
    }
    events[(events_first + events_len++) & (events_cap - 1)] = *ev;
    return 0;
}

static void disconnect(void)
{
    if (server_fd >= 0)
        close(server_fd);
    server_fd = -1;
    apps_open = 0;
}

static int attach(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    const char *path = getenv(TAPISRV_SOCKET_ENV);
    if (server_fd >= 0)
        return 0;
    if (!path)
        path = TAPISRV_SOCKET_DEFAULT;
    if (strlen(path) >= sizeof addr.sun_path)
        return -1;
    strcpy(addr.sun_path, path);
    server_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (server_fd >= 0 && connect(server_fd, (struct sockaddr *)&addr, sizeof addr) < 0)
        disconnect();
    return server_fd < 0 ? -1 : 0;
}

/* Reads one packet: 1 it was an event (kept), 0 it was the reply, -1 the server is gone. */
static int read_packet(struct wire_packet *p, size_t *var)
{
    ssize_t n;
    do
        n = recv(server_fd, p, sizeof *p, 0);
    while (n < 0 && errno == EINTR);
    if (n == (ssize_t)sizeof(struct wire_event)) {
        struct wire_event ev;
        memcpy(&ev, p, sizeof ev);
        return keep_event(&ev) < 0 ? -1 : 1;
    }
    if (n < (ssize_t)sizeof p->head) {
        disconnect();
        return -1;
    }
    *var = (size_t)n - sizeof p->head;
    return 0;
}

/* Sends `packet` with var bytes of variable data and waits for the reply, which is then there. */
static int32_t transact(enum tapi_func func, size_t var)
{
    if (server_fd < 0)
        return LINEERR_UNINITIALIZED;
    uint32_t mine = ++sequence;
    packet.head.func = (int32_t)func;
    packet.head.reserved = mine;
    if (send(server_fd, &packet, sizeof packet.head + var, MSG_NOSIGNAL) < 0) {
        disconnect();
        return LINEERR_OPERATIONFAILED;
    }
    int got;
    do
        got = read_packet(&packet, &reply_var);
    while (got > 0 || (got == 0 && packet.head.reserved != mine));
    return got < 0 ? LINEERR_OPERATIONFAILED : packet.head.func;
}

static int32_t request(enum tapi_func func, uint32_t p0, uint32_t p1, uint32_t p2, uint32_t p3,
                       const char *var)
{
    size_t len = var ? strlen(var) + 1 : 0;
    if (len > sizeof packet.var)
        return LINEERR_INVALPARAM;
    memset(packet.head.param, 0, sizeof packet.head.param);
    packet.head.param[0] = p0;
    packet.head.param[1] = p1;
    packet.head.param[2] = p2;
    packet.head.param[3] = p3;
    if (var)
        memcpy(packet.var, var, len);
    return transact(func, len);
}

/* Copies a structure that came as variable data, at most `total` bytes. */
static void take_var(void *out, uint32_t total)
{
    memcpy(out, packet.var, reply_var < total ? reply_var : total);
}

int32_t lineInitializeEx(HLINEAPP *app, const char *name, uint32_t *num_devices,
                         uint32_t *api_version, uint32_t options)
{
    if (!app || !name)
        return LINEERR_INVALPOINTER;
    if (attach() < 0)
        return LINEERR_OPERATIONFAILED;
    int32_t result = request(TAPI_INITIALIZE, options, 0, 0, 0, name);
    if (result != 0) {
        if (apps_open == 0)
            disconnect();
        return result;
    }
    apps_open++;
    *app = packet.head.param[0];
    if (num_devices)
        *num_devices = packet.head.param[1];
    if (api_version)
        *api_version = packet.head.param[2];
    return 0;
}

int32_t lineShutdown(HLINEAPP app)
{
    int32_t result = request(TAPI_SHUTDOWN, app, 0, 0, 0, NULL);
    if (result == 0 && apps_open && --apps_open == 0) {
        disconnect();
        free(events);
        events = NULL;
        events_first = events_len = events_cap = 0;
    }
    return result;
}

int32_t lineNegotiateAPIVersion(HLINEAPP app, uint32_t device, uint32_t low, uint32_t high,
                                uint32_t *version)
{
    int32_t result = request(TAPI_NEGOTIATE, app, device, low, high, NULL);
    if (result == 0 && version)
        *version = packet.head.param[0];
    return result;
}

int32_t lineOpen(HLINEAPP app, uint32_t device, HLINE *line, uint32_t version,
                 uint32_t callback_instance, uint32_t privileges, uint32_t media_modes)
{
    memset(packet.head.param, 0, sizeof packet.head.param);
    const uint32_t p[] = {app, device, version, callback_instance, privileges, media_modes};
    memcpy(packet.head.param, p, sizeof p);
    int32_t result = transact(TAPI_OPEN, 0);
    if (result == 0 && line)
        *line = packet.head.param[0];
    return result;
}

int32_t lineClose(HLINE line)
{
    return request(TAPI_CLOSE, line, 0, 0, 0, NULL);
}

int32_t lineSetAppPriority(const char *name, uint32_t media_mode, uint32_t priority)
{
    if (!name)
        return LINEERR_INVALPOINTER;
    return attach() < 0 ? LINEERR_OPERATIONFAILED
                        : request(TAPI_SET_APP_PRIORITY, media_mode, priority, 0, 0, name);
}

int32_t lineMakeCall(HLINE line, HCALL *call, const char *dest)
{
    if (!call || !dest)
        return LINEERR_INVALPOINTER;
    int32_t result = request(TAPI_MAKE_CALL, line, 0, 0, 0, dest);
    if (result > 0)
        *call = packet.head.param[0];
    return result;
}

int32_t lineAnswer(HCALL call)
{
    return request(TAPI_ANSWER, call, 0, 0, 0, NULL);
}

int32_t lineAccept(HCALL call)
{
    return request(TAPI_ACCEPT, call, 0, 0, 0, NULL);
}

int32_t lineDrop(HCALL call)
{
    return request(TAPI_DROP, call, 0, 0, 0, NULL);
}

int32_t lineDeallocateCall(HCALL call)
{
    return request(TAPI_DEALLOCATE_CALL, call, 0, 0, 0, NULL);
}

int32_t lineHandoff(HCALL call, const char *name, uint32_t media_mode)
{
    return request(TAPI_HANDOFF, call, media_mode, 0, 0, name);
}

int32_t lineGetNewCalls(HLINE line, uint32_t address, uint32_t select, LINECALLLIST *list)
{
    if (!list)
        return LINEERR_INVALPOINTER;
    uint32_t total = list->dwTotalSize;
    int32_t result = request(TAPI_GET_NEW_CALLS, line, address, select, total, NULL);
    if (result == 0) {
        take_var(list, total);
        list->dwTotalSize = total;
    }
    return result;
}

int32_t lineGetConfRelatedCalls(HCALL call, LINECALLLIST *list)
{
    return list ? request(TAPI_GET_CONF_RELATED, call, list->dwTotalSize, 0, 0, NULL)
                : LINEERR_INVALPOINTER;
}

int32_t lineSetCallPrivilege(HCALL call, uint32_t privilege)
{
    return request(TAPI_SET_CALL_PRIVILEGE, call, privilege, 0, 0, NULL);
}

int32_t lineGetCallInfo(HCALL call, LINECALLINFO *info)
{
    if (!info)
        return LINEERR_INVALPOINTER;
    uint32_t total = info->dwTotalSize;
    int32_t result = request(TAPI_GET_CALL_INFO, call, total, 0, 0, NULL);
    if (result == 0) {
        take_var(info, total);
        info->dwTotalSize = total;
    }
    return result;
}

int32_t lineGetCallStatus(HCALL call, LINECALLSTATUS *status)
{
    if (!status)
        return LINEERR_INVALPOINTER;
    uint32_t total = status->dwTotalSize;
    int32_t result = request(TAPI_GET_CALL_STATUS, call, total, 0, 0, NULL);
    if (result == 0)
        take_var(status, total);
    return result;
}

/* The oldest kept event of an application. */
static int take_event(HLINEAPP app, struct wire_event *out)
{
    for (size_t i = 0; i < events_len; i++) {
        size_t at = (events_first + i) & (events_cap - 1);
        if (events[at].init_context != app)
            continue;
        *out = events[at];
        for (; i > 0; i--) { /* close the gap towards the front */
            size_t before = (events_first + i - 1) & (events_cap - 1);
            events[at] = events[before];
            at = before;
        }
        events_first = (events_first + 1) & (events_cap - 1);
        events_len--;
        return 1;
    }
    return 0;
}

static int64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int32_t lineGetMessage(HLINEAPP app, LINEMESSAGE *message, int timeout_ms)
{
    struct wire_event ev;
    int64_t until = timeout_ms < 0 ? INT64_MAX : now_ms() + timeout_ms;
    while (!take_event(app, &ev)) {
        if (server_fd < 0)
            return LINEERR_INVALAPPHANDLE;
        int64_t left = until == INT64_MAX ? -1 : until - now_ms();
        struct pollfd p = {server_fd, POLLIN, 0};
        int n = poll(&p, 1, left > 0 || until == INT64_MAX ? (int)left : 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return LINEERR_OPERATIONFAILED;
        struct wire_packet stray;
        size_t var;
        if (read_packet(&stray, &var) < 0)
            return LINEERR_OPERATIONFAILED;
    }
    *message = (LINEMESSAGE){ev.device,   ev.msg,      ev.open_context, ev.param[0],
                             ev.param[1], ev.param[2], ev.param[3]};
    return 0;
}

int tapi_event_fd(void)
{
    return server_fd;
}

unsigned tapi_queued(void)
{
    return (unsigned)events_len;
}

int tapi_connected(void)
{
    return server_fd >= 0;
}
