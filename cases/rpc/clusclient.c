/* SPDX-License-Identifier: Apache-2.0 */
/* clusclient: a program that uses the Cluster API, told what to do line by line on its standard
 * input. Every command ends with one line "= done ..."; an OpenCluster that finds no port left says
 * "= exhausted" once and then keeps trying, as a program does that must reach its cluster: that is
 * the hang of article 814622. Start: main, the table of commands. */
#include "clusapi.h"
#include "dg/assoc.h"
#include "dg/port.h"
#include "dg/timing.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { ERRORS = 16, HELD = 4096, RETRY_MS = 50 };

/* What happened during a command. */
static struct {
    unsigned long ok, failed, refused;
    struct {
        uint32_t number;
        unsigned long times;
    } error[ERRORS];
} tally;
static bool give_up; /* --on-exhaustion fail */
static HCLUSTER held[HELD];
static size_t holding;

static void count_error(uint32_t number)
{
    size_t i = 0;
    tally.failed++;
    while (i < ERRORS - 1 && tally.error[i].times && tally.error[i].number != number)
        i++;
    tally.error[i].number = number;
    tally.error[i].times++;
}

static void say_done(const char *command)
{
    printf("= done %s ok=%lu failed=%lu refused=%lu errors=", command, tally.ok, tally.failed,
           tally.refused);
    for (size_t i = 0; i < ERRORS && tally.error[i].times; i++)
        printf("%s%" PRIu32 ":%lu", i ? "," : "", tally.error[i].number, tally.error[i].times);
    puts("");
}

/* OpenCluster that does not give up for want of ports, unless it was told to. */
static HCLUSTER open_cluster(const char *name)
{
    for (;;) {
        HCLUSTER c = OpenCluster(name);
        if (c)
            return c;
        if (ClusterLastError() != RPC_OUT_OF_RESOURCES) {
            count_error(ClusterLastError());
            return NULL;
        }
        tally.refused++;
        if (give_up)
            return NULL;
        if (tally.refused == 1)
            printf("= exhausted after ok=%lu failed=%lu\n", tally.ok, tally.failed);
        poll(NULL, 0, RETRY_MS); /* nothing tells a process that another one has ended */
    }
}

static void cycle(const char *name, unsigned long times, unsigned long pause_ms)
{
    for (unsigned long i = 0; i < times; i++) {
        HCLUSTER c = open_cluster(name);
        if (!c && give_up && tally.refused)
            return;
        if (c && CloseCluster(c))
            tally.ok++;
        if (pause_ms)
            poll(NULL, 0, (int)pause_ms);
    }
}

/* ---- memory exhaustion ---- */

struct chunk {
    struct chunk *next;
};

/* Takes all memory that malloc would still give, down to its smallest blocks. */
static struct chunk *eat_memory(void)
{
    struct chunk *eaten = NULL;
    for (size_t size = 1 << 20; size >= sizeof *eaten; size /= 2)
        for (struct chunk *c; (c = malloc(size)); eaten = c)
            c->next = eaten;
    return eaten;
}

/* Pages of address space this process has; 0 when that cannot be known. */
static unsigned long pages_mapped(void)
{
    char text[64] = "";
    FILE *f = fopen("/proc/self/statm", "re");
    if (f && !fgets(text, sizeof text, f))
        text[0] = 0;
    if (f)
        fclose(f);
    return strtoul(text, NULL, 10);
}

/* Opens with an address space that is full. */
static void starve(const char *name, unsigned long times, unsigned long unused)
{
    struct rlimit before, full;
    (void)unused;
    if (dg_runtime_start() != RPC_OK || getrlimit(RLIMIT_AS, &before) < 0)
        return;
    for (unsigned long i = 0; i < times; i++) {
        full = before;
        full.rlim_cur = (rlim_t)pages_mapped() * (rlim_t)sysconf(_SC_PAGESIZE);
        setrlimit(RLIMIT_AS, &full);
        struct chunk *eaten = eat_memory();
        HCLUSTER c = OpenCluster(name);
        uint32_t error = c ? 0 : ClusterLastError();
        setrlimit(RLIMIT_AS, &before);
        for (struct chunk *next; eaten; eaten = next) {
            next = eaten->next;
            free(eaten);
        }
        if (!c && error == RPC_OUT_OF_RESOURCES) { /* the ports have gone, not only the memory */
            c = open_cluster(name);
            if (c)
                CloseCluster(c);
            return;
        }
        if (!c)
            count_error(error);
        else if (CloseCluster(c))
            tally.ok++;
    }
}

/* ---- other commands ---- */

/* Opens and keeps open, up to a number or as many as there are ports for. */
static void hold(const char *name, unsigned long times, unsigned long unused)
{
    (void)unused;
    for (unsigned long i = 0; i < times && holding < HELD; i++) {
        HCLUSTER c = OpenCluster(name);
        if (!c && ClusterLastError() == RPC_OUT_OF_RESOURCES) {
            tally.refused++;
            return;
        }
        if (!c) {
            count_error(ClusterLastError());
            continue;
        }
        held[holding++] = c;
        tally.ok++;
    }
}

static void drop(const char *unused, unsigned long times, unsigned long unused2)
{
    (void)unused, (void)times, (void)unused2;
    while (holding > 0)
        tally.ok += CloseCluster(held[--holding]);
}

/* Waits until no port of this process is cooling any more. */
static void cool(const char *unused, unsigned long times, unsigned long unused2)
{
    (void)unused, (void)times, (void)unused2;
    for (int64_t due; (due = port_scan(dg_now())) >= 0;) {
        int64_t left = due - dg_now();
        poll(NULL, 0, left > 0 ? (int)left : 0);
    }
    tally.ok++;
}

static void timeout(const char *ms, unsigned long unused, unsigned long unused2)
{
    (void)unused, (void)unused2;
    dg_set_com_timeout(strtol(ms, NULL, 10));
    tally.ok++;
}

/* Counts the answer of a function: 0 is good. */
static bool good(uint32_t error)
{
    if (error)
        count_error(error);
    else
        tally.ok++;
    return !error;
}

static void use_resources(HCLUSTER c, HCLUSENUM list)
{
    char name[CLUSTER_NAME_SIZE], node[CLUSTER_NAME_SIZE], group[CLUSTER_NAME_SIZE];
    char type[CLUSTER_NAME_SIZE];
    uint32_t kind;
    for (uint32_t i = 0; ClusterEnum(list, i, &kind, name) == 0; i++) {
        if (kind != CLUSTER_ENUM_RESOURCE)
            continue;
        HRESOURCE r = OpenClusterResource(c, name);
        if (!good(r ? 0 : ClusterLastError()))
            continue;
        int32_t state = GetClusterResourceState(r, node, group);
        if (good(state < 0) && good(GetClusterResourceType(r, type)))
            printf("resource \"%s\" type \"%s\" group \"%s\" node \"%s\" state %" PRId32 "\n", name,
                   type, group, node, state);
        good(CloseClusterResource(r) ? 0 : ClusterLastError());
    }
}

/* Shows everything the cluster has. */
static void list(const char *target, unsigned long unused, unsigned long unused2)
{
    char name[CLUSTER_NAME_SIZE];
    (void)unused, (void)unused2;
    HCLUSTER c = open_cluster(target);
    if (!c)
        return;
    if (good(GetClusterInformation(c, name)))
        printf("cluster \"%s\"\n", name);
    HCLUSENUM all = ClusterOpenEnum(c, CLUSTER_ENUM_NODE | CLUSTER_ENUM_RESTYPE |
                                           CLUSTER_ENUM_RESOURCE | CLUSTER_ENUM_GROUP);
    if (good(all ? 0 : ClusterLastError())) {
        printf("objects %" PRIu32 "\n", ClusterGetEnumCount(all));
        use_resources(c, all);
        ClusterCloseEnum(all);
    }
    CloseCluster(c);
}

/* Moves a group and takes a resource offline and online again, while it listens for events. */
static void operate(const char *target, unsigned long unused, unsigned long unused2)
{
    enum { KEY = 7, PENDING = 997 };
    char name[CLUSTER_NAME_SIZE];
    uint32_t key, filter, error;
    (void)unused, (void)unused2;
    HCLUSTER c = open_cluster(target);
    if (!c)
        return;
    HCHANGE port =
        CreateClusterNotifyPort(c, CLUSTER_CHANGE_RESOURCE_STATE | CLUSTER_CHANGE_GROUP_STATE, KEY);
    HRESOURCE r = OpenClusterResource(c, "MSDTC");
    HGROUP g = OpenClusterGroup(c, "MSDTC Group");
    HNODE n = OpenClusterNode(c, "NODE2");
    if (good(port && r && g && n ? 0 : ClusterLastError())) {
        error = OfflineClusterResource(r);
        good(error == PENDING ? 0 : error);
        /* A pending resource says twice that its state has changed, and once that the group's has.
         */
        for (int events = error == PENDING ? 3 : 2; events > 0; events--)
            if (good(GetClusterNotify(port, &key, &filter, name, 10000)) && good(key != KEY))
                printf("event 0x%" PRIx32 " \"%s\"\n", filter, name);
        good(GetClusterResourceState(r, name, name) != 3);
        good(MoveClusterGroup(g, n));
        good(GetClusterGroupState(g, name) < 0);
        printf("group at \"%s\"\n", name);
        good(GetClusterNodeState(n) != 0);
        good(GetClusterNotify(port, &key, &filter, name, 10000));
        good(GetClusterNotify(port, &key, &filter, name, 1) != RPC_WAIT_TIMEOUT);
        error = OnlineClusterResource(r);
        good(error == PENDING ? 0 : error);
    }
    good(n && CloseClusterNode(n) ? 0 : ClusterLastError());
    good(g && CloseClusterGroup(g) ? 0 : ClusterLastError());
    good(r && CloseClusterResource(r) ? 0 : ClusterLastError());
    good(port && CloseClusterNotifyPort(port) ? 0 : ClusterLastError());
    CloseCluster(c);
}

static const struct {
    const char *name;
    void (*run)(const char *target, unsigned long times, unsigned long pause_ms);
    const char *help;
} commands[] = {
    {"cycle", cycle, "cycle NAME [TIMES [PAUSE_MS]]  OpenCluster and CloseCluster"},
    {"starve", starve, "starve NAME [TIMES]            the same with no memory left"},
    {"hold", hold, "hold NAME [TIMES]              OpenCluster, and keep it"},
    {"drop", drop, "drop                           CloseCluster for all that is kept"},
    {"cool", cool, "cool                           wait until no port is cooling"},
    {"timeout", timeout, "timeout MS                     how long to wait for any answer"},
    {"list", list, "list NAME                      what the cluster has"},
    {"operate", operate, "operate NAME                   move a group, switch a resource"},
};

static bool run_line(char *line)
{
    char *rest = NULL, *name = strtok_r(line, " \t\n", &rest);
    char *target = strtok_r(NULL, " \t\n", &rest), *times = strtok_r(NULL, " \t\n", &rest);
    char *pause = strtok_r(NULL, " \t\n", &rest);
    if (!name)
        return true;
    if (strcmp(name, "quit") == 0)
        return false;
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (strcmp(commands[i].name, name) == 0) {
            memset(&tally, 0, sizeof tally);
            commands[i].run(target ? target : "localhost", times ? strtoul(times, NULL, 10) : 1,
                            pause ? strtoul(pause, NULL, 10) : 0);
            say_done(name);
            return true;
        }
    printf("= unknown command \"%s\"; commands end with quit:\n", name);
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        printf("  %s\n", commands[i].help);
    return true;
}

int main(int argc, char **argv)
{
    static char line[512];
    give_up = argc == 3 && strcmp(argv[1], "--on-exhaustion") == 0 && strcmp(argv[2], "fail") == 0;
    if (argc > 1 && !give_up) {
        fputs("usage: clusclient [--on-exhaustion fail]\n"
              "Reads commands; \"help\" lists them.\n",
              stderr);
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
#ifdef RPC_HOTFIX
    printf("ready pid=%d build=hotfix\n", (int)getpid());
#else
    printf("ready pid=%d build=shipped\n", (int)getpid());
#endif
    while (fgets(line, sizeof line, stdin) && run_line(line))
        ;
    return 0;
}
