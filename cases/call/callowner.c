/* SPDX-License-Identifier: Apache-2.0 */
/* One application of a call centre: a process that takes part in the calls of one line.
 *   answer   opens the line as OWNER, gets the calls offered and answers them - with
 *            --wait-owners N only when N applications own the call, so that every call is known to
 *            have had N owners
 *   join     opens as MONITOR and OWNER, and makes itself a further owner of every call it sees
 *   monitor  only watches
 * Idle calls are deallocated, at once or after --hold; with --end close, shutdown or kill the idle
 * handles are kept to the end and go in that way. It ends after --calls calls, or when its stdin
 * ends and no call is up; it says "ready" when it serves and one line of JSON at its end, both on
 * stdout. Start: main, take_message. */
#include "tapi.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum role { ROLE_ANSWER, ROLE_JOIN, ROLE_MONITOR };
enum end_mode { END_DEALLOC, END_CLOSE, END_SHUTDOWN, END_KILL };
enum order { ORDER_FIFO, ORDER_LIFO, ORDER_RANDOM };

static const char *const role_names[] = {"answer", "join", "monitor", NULL};
static const char *const end_names[] = {"dealloc", "close", "shutdown", "kill", NULL};
static const char *const order_names[] = {"fifo", "lifo", "random", NULL};

static struct {
    int role, end, order;
    unsigned long line, calls, wait_owners, hold_ms;
    bool no_read;
    const char *name, *make;
} opt = {.name = "callowner"};

/* What it will say at its end. */
static struct {
    uint64_t seen, owned, answered, connected, idle, deallocated, errors;
    uint32_t max_owners;
} count;

struct my_call {
    struct my_call *next; /* of its hash chain */
    HCALL handle;
    bool owner, answered, idle;
    int64_t idle_at;
};

enum { CHAINS = 1024 };
static struct my_call *chains[CHAINS];
static uint64_t live_calls; /* handles of calls that are not idle */

/* Idle handles that wait to be disposed of, oldest first. */
static struct my_call **held;
static size_t held_first, held_len, held_cap;

static HLINEAPP app;
static HLINE line;

static int64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void *need(void *p)
{
    if (p)
        return p;
    fprintf(stderr, "callowner: out of memory\n");
    exit(3);
}

/* Counts a failure and says the first few. */
static bool ok(int32_t result, const char *what)
{
    if (result >= 0)
        return true;
    if (count.errors++ < 5)
        fprintf(stderr, "callowner %d: %s: 0x%08" PRIx32 "\n", (int)getpid(), what,
                (uint32_t)result);
    return false;
}

static struct my_call **find(HCALL handle)
{
    struct my_call **at = &chains[handle % CHAINS];
    while (*at && (*at)->handle != handle)
        at = &(*at)->next;
    return at;
}

static struct my_call *add_call(HCALL handle, uint32_t privilege)
{
    struct my_call **at = find(handle);
    if (*at)
        return *at;
    *at = need(calloc(1, sizeof **at));
    (*at)->handle = handle;
    (*at)->owner = privilege == LINECALLPRIVILEGE_OWNER;
    count.seen++;
    count.owned += (*at)->owner;
    live_calls++;
    return *at;
}

static void dispose(struct my_call *c)
{
    if (ok(lineDeallocateCall(c->handle), "lineDeallocateCall"))
        count.deallocated++;
    *find(c->handle) = c->next;
    free(c);
}

static void hold(struct my_call *c)
{
    if (held_first + held_len == held_cap) {
        if (held_first > held_cap / 2) {
            memmove(held, held + held_first, held_len * sizeof(struct my_call *));
            held_first = 0;
        } else {
            held_cap = held_cap ? held_cap * 2 : 64;
            held = need(realloc(held, held_cap * sizeof(struct my_call *)));
        }
    }
    held[held_first + held_len++] = c;
}

/* Disposes of the held handles when the oldest is due: fifo only what is due, lifo and random all
 * there is, in that order. all: everything now. */
static void dispose_held(bool all)
{
    int64_t due = now_ms() - (int64_t)opt.hold_ms;
    if (!held_len || (!all && held[held_first]->idle_at > due))
        return;
    if (opt.order == ORDER_FIFO) {
        while (held_len && (all || held[held_first]->idle_at <= due)) {
            held_len--;
            dispose(held[held_first++]);
        }
        return;
    }
    while (held_len) {
        size_t at = held_len - 1, pick = opt.order == ORDER_RANDOM ? (size_t)rand() % held_len : at;
        struct my_call *c = held[held_first + pick];
        held[held_first + pick] = held[held_first + at];
        held_len--;
        dispose(c);
    }
}

static uint32_t owners_of(HCALL handle)
{
    LINECALLINFO info = {.dwTotalSize = sizeof info};
    if (!ok(lineGetCallInfo(handle, &info), "lineGetCallInfo"))
        return 0;
    if (info.dwNumOwners > count.max_owners)
        count.max_owners = info.dwNumOwners;
    return info.dwNumOwners;
}

static void answer_when_all_own(struct my_call *c)
{
    if (opt.role != ROLE_ANSWER || c->answered || !c->owner || c->idle)
        return;
    if (opt.wait_owners > 1 && owners_of(c->handle) < opt.wait_owners)
        return;
    c->answered = true;
    int32_t result = lineAnswer(c->handle);
    if (result == LINEERR_INVALCALLSTATE)
        return; /* the caller has hung up: IDLE is on its way */
    if (ok(result, "lineAnswer"))
        count.answered++;
}

static void join(struct my_call *c)
{
    if (opt.role != ROLE_JOIN || c->owner)
        return;
    if (!ok(lineSetCallPrivilege(c->handle, LINECALLPRIVILEGE_OWNER), "lineSetCallPrivilege"))
        return;
    c->owner = true;
    count.owned++;
    if (opt.wait_owners)
        owners_of(c->handle);
}

static void on_state(struct my_call *c, uint32_t state)
{
    if (state == LINECALLSTATE_CONNECTED)
        count.connected++;
    if (state == LINECALLSTATE_OFFERING)
        answer_when_all_own(c);
    if (state != LINECALLSTATE_IDLE || c->idle)
        return;
    c->idle = true;
    c->idle_at = now_ms();
    count.idle++;
    live_calls--;
    if (opt.end != END_DEALLOC)
        return; /* kept to the end */
    if (opt.hold_ms)
        hold(c);
    else
        dispose(c);
}

static void take_message(const LINEMESSAGE *m)
{
    struct my_call *c;
    switch (m->dwMessageID) {
    case LINE_APPNEWCALL:
        join(add_call(m->dwParam2, m->dwParam3));
        break;
    case LINE_CALLSTATE:
        if ((c = *find(m->hDevice)))
            on_state(c, m->dwParam1);
        break;
    case LINE_CALLINFO:
        if ((m->dwParam1 & LINECALLINFOSTATE_NUMOWNERINCR) && (c = *find(m->hDevice)))
            answer_when_all_own(c);
        break;
    case LINE_REPLY:
        if (m->dwParam2 != (uint32_t)LINEERR_INVALCALLSTATE)
            ok((int32_t)m->dwParam2, "LINE_REPLY");
        break;
    default:
        break;
    }
}

/* Calls that were up before this application opened the line are not announced: it asks. All are
 * taken before the first is dealt with: one that is idle is deallocated at once, and would be given
 * out anew. */
static void take_present_calls(void)
{
    union {
        LINECALLLIST list;
        char room[1024];
    } u;
    HCALL *taken = NULL;
    size_t n = 0;
    do {
        memset(&u, 0, sizeof u);
        u.list.dwTotalSize = sizeof u;
        if (!ok(lineGetNewCalls(line, 0, LINECALLSELECT_LINE, &u.list), "lineGetNewCalls"))
            break;
        taken = need(realloc(taken, (n + u.list.dwCallsNumEntries + 1) * sizeof *taken));
        memcpy(taken + n, u.room + u.list.dwCallsOffset, u.list.dwCallsNumEntries * sizeof *taken);
        n += u.list.dwCallsNumEntries;
    } while (u.list.dwCallsNumEntries);
    for (size_t i = 0; i < n; i++) {
        LINECALLSTATUS status = {.dwTotalSize = sizeof status};
        struct my_call *c = add_call(taken[i], LINECALLPRIVILEGE_MONITOR);
        join(c);
        if (ok(lineGetCallStatus(c->handle, &status), "lineGetCallStatus"))
            on_state(c, status.dwCallState);
    }
    free(taken);
}

static bool open_line(void)
{
    static const uint32_t privileges[] = {LINECALLPRIVILEGE_OWNER,
                                          LINECALLPRIVILEGE_MONITOR | LINECALLPRIVILEGE_OWNER,
                                          LINECALLPRIVILEGE_MONITOR};
    uint32_t version;
    if (!ok(lineInitializeEx(&app, opt.name, NULL, NULL, LINEINITIALIZEEXOPTION_USEEVENT),
            "lineInitializeEx"))
        return false;
    if (!ok(lineNegotiateAPIVersion(app, (uint32_t)opt.line, 0x00020000, 0x00020002, &version),
            "lineNegotiateAPIVersion"))
        return false;
    if (opt.role == ROLE_ANSWER)
        ok(lineSetAppPriority(opt.name, LINEMEDIAMODE_INTERACTIVEVOICE, 1), "lineSetAppPriority");
    return ok(lineOpen(app, (uint32_t)opt.line, &line, version, 0, privileges[opt.role],
                       LINEMEDIAMODE_INTERACTIVEVOICE | LINEMEDIAMODE_UNKNOWN),
              "lineOpen");
}

/* Takes all messages that are there. */
static void drain(void)
{
    LINEMESSAGE m;
    while (lineGetMessage(app, &m, 0) == 0)
        take_message(&m);
}

static bool finished(bool input_ended)
{
    if (opt.calls && count.idle >= opt.calls)
        return true;
    if (!input_ended)
        return false;
    /* A reply comes behind all events that were sent before it, so after this one and a drain we
     * know of everything that has happened so far. */
    uint32_t version;
    lineNegotiateAPIVersion(app, (uint32_t)opt.line, 0, UINT32_MAX, &version);
    drain();
    return live_calls == 0;
}

static int wait_time(void)
{
    if (!held_len)
        return -1;
    int64_t left = held[held_first]->idle_at + (int64_t)opt.hold_ms - now_ms();
    return left < 0 ? 0 : (int)left;
}

static void run(void)
{
    bool input_ended = false;
    while (tapi_connected()) {
        if (!opt.no_read || input_ended) {
            drain();
            dispose_held(false);
            if (finished(input_ended))
                break;
        }
        bool reading = !opt.no_read || input_ended;
        struct pollfd p[2] = {{input_ended ? -1 : STDIN_FILENO, POLLIN, 0},
                              {reading ? tapi_event_fd() : -1, POLLIN, 0}};
        if (poll(p, 2, reading && tapi_queued() ? 0 : wait_time()) < 0 && errno != EINTR)
            break;
        char buf[256];
        if (p[0].revents && read(STDIN_FILENO, buf, sizeof buf) <= 0)
            input_ended = true;
    }
    dispose_held(true);
}

static void say(void)
{
    printf("{\"role\": \"%s\", \"pid\": %d, \"seen\": %" PRIu64 ", \"owned\": %" PRIu64
           ", \"answered\": %" PRIu64 ", \"connected\": %" PRIu64 ", \"idle\": %" PRIu64
           ", \"deallocated\": %" PRIu64 ", \"kept\": %" PRIu64 ", \"max_owners\": %u"
           ", \"errors\": %" PRIu64 "}\n",
           role_names[opt.role], (int)getpid(), count.seen, count.owned, count.answered,
           count.connected, count.idle, count.deallocated, count.seen - count.deallocated,
           count.max_owners, count.errors);
    fflush(stdout);
}

static void end(void)
{
    if (opt.end == END_KILL) {
        say();
        raise(SIGKILL);
    }
    if (opt.end != END_SHUTDOWN && tapi_connected())
        ok(lineClose(line), "lineClose");
    if (tapi_connected())
        ok(lineShutdown(app), "lineShutdown");
    say();
    for (size_t i = 0; i < CHAINS; i++) {
        while (chains[i]) {
            struct my_call *c = chains[i];
            chains[i] = c->next;
            free(c);
        }
    }
    free(held);
}

static const char usage[] =
    "usage: callowner --role answer|join|monitor [options]   (server: $TAPISRV_SOCKET)\n"
    "  --name NAME         module name of the application (callowner)\n"
    "  --line N            line device (0)\n"
    "  --calls N           end after N calls; default: at the end of stdin, when no call is up\n"
    "  --wait-owners N     answer: not before N applications own the call\n"
    "  --hold MS           keep idle handles that long before deallocating them\n"
    "  --order ORDER       of held handles: fifo, lifo, random\n"
    "  --end MODE          dealloc (default): deallocate idle handles; close, shutdown, kill: "
    "keep\n"
    "                      them and end by lineClose, lineShutdown, SIGKILL\n"
    "  --no-read           read no events before stdin ends\n"
    "  --make URI          first call this SIP URI (an outgoing call; it is seen like the "
    "others)\n";

static int pick(const char *text, const char *const *names)
{
    for (int i = 0; names[i]; i++)
        if (strcmp(text, names[i]) == 0)
            return i;
    fputs(usage, stderr);
    exit(2);
}

static unsigned long number(const char *text)
{
    char *rest;
    unsigned long n = strtoul(text, &rest, 10);
    if (rest == text || *rest || *text == '-' || n > 1000000000) {
        fputs(usage, stderr);
        exit(2);
    }
    return n;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"role", 1, NULL, 'r'},
                                            {"name", 1, NULL, 'n'},
                                            {"line", 1, NULL, 'l'},
                                            {"calls", 1, NULL, 'c'},
                                            {"wait-owners", 1, NULL, 'w'},
                                            {"hold", 1, NULL, 'h'},
                                            {"order", 1, NULL, 'o'},
                                            {"end", 1, NULL, 'e'},
                                            {"no-read", 0, NULL, 'q'},
                                            {"make", 1, NULL, 'm'},
                                            {NULL, 0, NULL, 0}};
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (o) {
        case 'r':
            opt.role = pick(optarg, role_names);
            break;
        case 'n':
            opt.name = optarg;
            break;
        case 'l':
            opt.line = number(optarg);
            break;
        case 'c':
            opt.calls = number(optarg);
            break;
        case 'w':
            opt.wait_owners = number(optarg);
            break;
        case 'h':
            opt.hold_ms = number(optarg);
            break;
        case 'o':
            opt.order = pick(optarg, order_names);
            break;
        case 'e':
            opt.end = pick(optarg, end_names);
            break;
        case 'q':
            opt.no_read = true;
            break;
        case 'm':
            opt.make = optarg;
            break;
        default:
            fputs(usage, stderr);
            return 2;
        }
    }
    if (optind < argc) {
        fputs(usage, stderr);
        return 2;
    }
    if (!open_line())
        return 3;
    puts("ready");
    fflush(stdout);
    if (opt.role != ROLE_ANSWER && !opt.no_read)
        take_present_calls();
    HCALL made;
    if (opt.make && ok(lineMakeCall(line, &made, opt.make), "lineMakeCall"))
        add_call(made, LINECALLPRIVILEGE_OWNER);
    run();
    bool lost = !tapi_connected();
    end();
    return count.errors || lost ? 1 : 0;
}
