/* SPDX-License-Identifier: Apache-2.0 */
/* Puts a known load on the RPC case: starts rpcssd with its list of ports, the servers and n client
 * processes (the command after --), lets each of them open and close clusters and fail in the six
 * ways of the table below, each provoked for real, and says what must have leaked as JSON
 * (--truth). The truth is computed from the failures that the clients' callers saw, one by one;
 * what rpcssd's ledger and a count of the ports that can still be had say is written beside it.
 *
 * Everything runs in a temporary directory with its own socket and free ports. Waiting is poll() on
 * pipes and pidfds with deadlines; only processes started here are ever signalled, and they die
 * with rpcload. Start: main, drive. */
#include "load/driver.h"
#include "../broker.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CLASSES = 6, CLIENTS_MAX = 16, PATIENCE_MS = 120000, SHORT_TIMEOUT_MS = 200 };

/* The failure classes: what a client is told, what its caller must get, and whether the runtime as
 * shipped loses the port. */
static const struct class
{
    const char *name, *what;
    const char *command;
    unsigned error;
    int coefficient;
} classes[CLASSES] = {
    {"F1", "nobody at the port: ICMP port unreachable", "cycle", 1722, 1},
    {"F2", "a server that is silent", "cycle", 1726, 1},
    {"F3", "a live server that rejects", "cycle", 1717, 0},
    {"F4", "a server that forgot: you_crashed on its second callback", "cycle", 1727, 0},
    {"F5", "no memory after the port was granted", "starve", 14, 1},
    {"F6", "another process is on the granted port", "cycle", 1720, 0},
};
enum { F1, F2, F3, F4, F5, F6 };
/* Unexpected answers to a failure that are said, for each client. */
#define STRANGE_SHOWN 3

static struct {
    unsigned long clients, cycles, pause, failures[CLASSES], hang_ms;
    unsigned long first_port, last_port;
    bool unrestricted, until_hang, probe, design_limit;
    const char *bin, *scale, *recycle;
} opt = {.clients = 1,
         .cycles = 20,
         .first_port = 5000,
         .last_port = 5099,
         .hang_ms = 2000,
         .scale = "1"};

static struct child rpcssd = CHILD_NONE, clussvc = CHILD_NONE, forgetful = CHILD_NONE;
static struct client {
    struct child child;
    pid_t pid;
    unsigned long ok, refused, held, failures[CLASSES], strange;
    bool hung;
} clients[CLIENTS_MAX];
static char target[CLASSES][32], build[16];
static int epm_port, server_port, forgetful_port, closed_fd = -1, silent_fd = -1;
static bool somebody_hangs;

/* ---- the servers ---- */

static long word_number(const char *line, const char *key)
{
    const char *at = strstr(line, key);
    return at ? strtol(at + strlen(key), NULL, 10) : 0;
}

static const char *beside(const char *name)
{
    static char path[4352];
    snprintf(path, sizeof path, "%s/%s", opt.bin, name);
    return path;
}

static bool start(struct child *c, char **args, const char *what)
{
    return child_spawn(c, args, 0, SIGKILL) &&
           child_await_line(c, "ready ", now_ms() + PATIENCE_MS, what);
}

static bool start_servers(void)
{
    char program[4352], ports[32];
    snprintf(ports, sizeof ports, "%lu-%lu", opt.first_port, opt.last_port);
    char *broker[] = {
        program, "--epm-port",           "0", "--ports", ports, "--ports-internet-available",
        "Y",     "--use-internet-ports", "Y", NULL};
    char *server[] = {program, NULL};
    char *crashing[] = {program, "--no-register", "--amnesia", NULL};
    if (opt.unrestricted)
        broker[3] = NULL;
    snprintf(program, sizeof program, "%s", beside("rpcssd"));
    if (!start(&rpcssd, broker, "rpcssd"))
        return false;
    epm_port = (int)word_number(rpcssd.last, "epm-port=");
    snprintf(ports, sizeof ports, "%d", epm_port);
    setenv("RPC_EPM_PORT", ports, 1);
    snprintf(program, sizeof program, "%s", beside("clussvc"));
    if (!start(&clussvc, server, "clussvc") || !start(&forgetful, crashing, "clussvc"))
        return false;
    server_port = (int)word_number(clussvc.last, "port=");
    forgetful_port = (int)word_number(forgetful.last, "port=");
    return true;
}

/* A UDP socket of ours on the loopback interface; port 0 takes a free one. */
static int udp_socket(uint16_t port)
{
    struct sockaddr_in here = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&here, sizeof here) < 0)
        close_fd(&fd);
    return fd;
}

static int port_of(int fd)
{
    struct sockaddr_in here = {0};
    socklen_t len = sizeof here;
    getsockname(fd, (struct sockaddr *)&here, &len);
    return ntohs(here.sin_port);
}

/* Where each class of failure is to be had. */
static bool set_targets(void)
{
    closed_fd = udp_socket(0);
    silent_fd = udp_socket(0);
    if (closed_fd < 0 || silent_fd < 0)
        return trouble("cannot bind a UDP socket: %s", strerror(errno));
    /* A socket that is connected elsewhere keeps its port, and the kernel tells everybody else that
     * the port is unreachable. */
    struct sockaddr_in elsewhere = {.sin_family = AF_INET,
                                    .sin_port = htons((uint16_t)port_of(silent_fd)),
                                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (connect(closed_fd, (struct sockaddr *)&elsewhere, sizeof elsewhere) < 0)
        return trouble("connect: %s", strerror(errno));
    int ports[CLASSES] = {port_of(closed_fd), port_of(silent_fd), epm_port,
                          forgetful_port,     server_port,        server_port};
    for (size_t i = 0; i < CLASSES; i++)
        snprintf(target[i], sizeof target[i], "127.0.0.1[%d]", ports[i]);
    return true;
}

/* ---- the clients ---- */

static bool start_clients(void)
{
    for (size_t i = 0; i < opt.clients; i++) {
        struct client *c = &clients[i];
        if (!child_spawn(&c->child, driver.command, WITH_INPUT, SIGTERM) ||
            !child_await_line(&c->child, "ready pid=", now_ms() + PATIENCE_MS, "the client"))
            return false;
        c->pid = (pid_t)word_number(c->child.last, "pid=");
        const char *at = strstr(c->child.last, "build=");
        snprintf(build, sizeof build, "%s", at ? at + strlen("build=") : "?");
    }
    return true;
}

static bool tell(struct client *c, const char *command)
{
    return c->hung || dprintf(c->child.in, "%s\n", command) > 0 ||
           trouble("the client does not read: %s", strerror(errno));
}

/* Waits for a client's answer to one command: it is done, or it found no port left and hangs. */
static bool await(struct client *c)
{
    if (c->hung)
        return true;
    if (!child_await_line(&c->child, "= ", now_ms() + PATIENCE_MS, "the client"))
        return false;
    if (strncmp(c->child.last, "= exhausted", 11) == 0)
        c->hung = somebody_hangs = true;
    return true;
}

/* One command to all clients, then all their answers. */
static bool everybody(const char *command)
{
    for (size_t i = 0; i < opt.clients; i++)
        if (!tell(&clients[i], command))
            return false;
    for (size_t i = 0; i < opt.clients; i++)
        if (!await(&clients[i]))
            return false;
    return true;
}

static bool good_cycles(unsigned long times)
{
    char command[96];
    snprintf(command, sizeof command, "cycle localhost %lu %lu", times, opt.pause);
    if (times == 0 || somebody_hangs)
        return true;
    if (!everybody(command))
        return false;
    for (size_t i = 0; i < opt.clients; i++) {
        struct client *c = &clients[i];
        unsigned long ok = (unsigned long)word_number(c->child.last, " ok=");
        c->ok += c->hung ? 0 : ok;
        c->strange += c->hung || ok == times ? 0 : times - ok;
    }
    return true;
}

/* All ports of the list that nobody has bound, bound by us while `hold` lasts. */
static size_t squat(int *fds)
{
    size_t n = 0;
    for (unsigned long p = opt.first_port; p <= opt.last_port; p++) {
        int fd = udp_socket((uint16_t)p);
        if (fd >= 0)
            fds[n++] = fd;
    }
    return n;
}

static bool fail_once(size_t class)
{
    static int squatting[65536];
    char command[256], expected[32];
    size_t squats = class == F6 ? squat(squatting) : 0;
    bool quick = class == F2;
    /* Only where silence is meant may a call give up soon: elsewhere the machine may be slow. */
    snprintf(command, sizeof command, "timeout %d", SHORT_TIMEOUT_MS);
    bool good = !quick || everybody(command);
    snprintf(command, sizeof command, "%s %s 1", classes[class].command, target[class]);
    good = good && everybody(command);
    for (size_t i = 0; i < opt.clients && good; i++) {
        struct client *c = &clients[i];
        snprintf(expected, sizeof expected, "errors=%u:1", classes[class].error);
        const char *at = strstr(c->child.last, "errors=");
        if (!c->hung && at && strcmp(at, expected) == 0)
            c->failures[class]++;
        else if (!c->hung && c->strange++ < STRANGE_SHOWN)
            fprintf(stderr, "rpcload: client %d, instead of %s: %s\n", (int)c->pid,
                    classes[class].name, c->child.last);
    }
    while (squats > 0)
        close(squatting[--squats]);
    return good && (!quick || somebody_hangs || everybody("timeout 0"));
}

/* The load in rounds: some good cycles, then one failure of every class that is still due. */
static bool run_load(void)
{
    unsigned long rounds = 1;
    for (size_t i = 0; i < CLASSES; i++)
        if (opt.failures[i] > rounds)
            rounds = opt.failures[i];
    for (unsigned long r = 0; (r < rounds || opt.until_hang) && !somebody_hangs; r++) {
        if (!good_cycles(opt.cycles / rounds + (r < opt.cycles % rounds)))
            return false;
        for (size_t k = 0; k < CLASSES && !somebody_hangs; k++) {
            bool due = opt.until_hang ? opt.failures[k] > 0 : r < opt.failures[k];
            if (due && !fail_once(k))
                return false;
        }
        if (opt.until_hang && r > 70000)
            return trouble("nothing hangs after %lu rounds", r);
    }
    return true;
}

/* A client that hangs says nothing more for as long as we look. */
static bool watch_hang(void)
{
    for (size_t i = 0; i < opt.clients; i++) {
        struct client *c = &clients[i];
        if (!c->hung)
            continue;
        int64_t until = now_ms() + (int64_t)opt.hang_ms;
        while (child_wait(&c->child, until))
            if (child_has_output(&c->child)) {
                c->hung = false; /* it was a matter of waiting */
                break;
            }
        fprintf(stderr, "rpcload: client %d %s\n", (int)c->pid,
                c->hung ? "hangs: no port left" : "went on after it had waited for a port");
    }
    return !interrupted;
}

/* How many associations can still be had, all clients together: the list less what is lost. */
static bool probe_ports(void)
{
    if (!opt.probe || somebody_hangs)
        return true;
    if (!everybody("cool") || !everybody("hold localhost 4096"))
        return false;
    for (size_t i = 0; i < opt.clients; i++)
        clients[i].held = (unsigned long)word_number(clients[i].child.last, " ok=");
    return everybody("drop");
}

static bool settle(void)
{
    int64_t until = now_ms() + (int64_t)driver.settle * 1000;
    while (child_wait(&clients[0].child, until))
        child_take_lines(&clients[0].child, true);
    return !interrupted;
}

/* Ends the clients: those that hang need a signal. */
static bool end_clients(void)
{
    bool good = true;
    for (size_t i = 0; i < opt.clients; i++) {
        struct client *c = &clients[i];
        if (c->hung) {
            pid_t pid = c->pid > 0 && getpgid(c->pid) == c->child.pid ? c->pid : c->child.pid;
            kill(pid, SIGTERM);
        }
        close_fd(&c->child.in);
        good = child_await_end(&c->child, now_ms() + PATIENCE_MS, "the client") && good;
    }
    return good;
}

/* ---- what rpcssd says ---- */

static struct broker_reply ledger_seen;

static bool read_ledger(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct broker_request request = {.op = BROKER_LEDGER};
    snprintf(addr.sun_path, sizeof addr.sun_path, "%s", driver.socket_path);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    bool good = fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof addr) == 0 &&
                send(fd, &request, sizeof request, MSG_NOSIGNAL) == (ssize_t)sizeof request &&
                recv(fd, &ledger_seen, sizeof ledger_seen, 0) == (ssize_t)sizeof ledger_seen;
    close_fd(&fd);
    return good || trouble("rpcssd does not show its ledger: %s", strerror(errno));
}

static unsigned granted_to(pid_t pid)
{
    for (uint32_t i = 0; i < ledger_seen.count; i++)
        if (ledger_seen.entry[i].pid == pid)
            return ledger_seen.entry[i].granted;
    return 0;
}

static bool run_hook(const char *command)
{
    char list[CLIENTS_MAX * 12] = "", pid[16];
    if (!command)
        return true;
    for (size_t i = 0; i < opt.clients; i++) {
        snprintf(pid, sizeof pid, "%s%d", i ? " " : "", (int)clients[i].pid);
        strcat(list, pid);
    }
    setenv("RPC_CLIENT_PIDS", list, 1);
    snprintf(pid, sizeof pid, "%d", (int)rpcssd.pid);
    setenv("RPCSSD_PID", pid, 1);
    snprintf(pid, sizeof pid, "%d", (int)clussvc.pid);
    setenv("CLUSSVC_PID", pid, 1);
    return driver_hook(command);
}

/* ---- the truth ---- */

static int coefficient(size_t class)
{
    return opt.unrestricted || strcmp(build, "hotfix") == 0 ? 0 : classes[class].coefficient;
}

static unsigned long lost_by(const struct client *c)
{
    unsigned long lost = 0;
    for (size_t i = 0; i < CLASSES; i++)
        lost += c->failures[i] * (unsigned long)coefficient(i);
    return lost;
}

static bool write_truth(double seconds)
{
    unsigned long lost = 0, held = 0, strange = 0, pool = opt.last_port - opt.first_port + 1;
    for (size_t i = 0; i < opt.clients; i++) {
        lost += lost_by(&clients[i]);
        held += clients[i].held;
        strange += clients[i].strange;
    }
    FILE *f = driver_truth();
    if (!f)
        return false;
    fprintf(f,
            "{\"schema\": \"rpcload/1\", \"build\": \"%s\", \"rpcssd_pid\": %d, "
            "\"clussvc_pid\": %d,\n \"pool\": %lu, \"first_port\": %lu, \"time_scale\": %s, "
            "\"load_seconds\": %.3f,\n \"coefficients\": {",
            build, (int)rpcssd.pid, (int)clussvc.pid, opt.unrestricted ? 0 : pool, opt.first_port,
            opt.scale, seconds);
    for (size_t i = 0; i < CLASSES; i++)
        fprintf(f, "%s\"%s\": %d", i ? ", " : "", classes[i].name, coefficient(i));
    fprintf(f, "},\n \"ports_lost\": %lu, \"exact\": %s, \"hung\": %s,\n", lost,
            strange ? "false" : "true", somebody_hangs ? "true" : "false");
    if (opt.probe && !somebody_hangs && !opt.unrestricted)
        fprintf(f, " \"ports_lost_by_probe\": %ld,\n", (long)pool - (long)held);
    fprintf(f, " \"clients\": [\n");
    for (size_t i = 0; i < opt.clients; i++) {
        const struct client *c = &clients[i];
        fprintf(f, "  {\"pid\": %d, \"cycles\": %lu, \"failures\": {", (int)c->pid, c->ok);
        for (size_t k = 0; k < CLASSES; k++)
            fprintf(f, "%s\"%s\": %lu", k ? ", " : "", classes[k].name, c->failures[k]);
        fprintf(f,
                "}, \"unexpected\": %lu, \"ports_lost\": %lu, \"granted\": %u, \"hung\": %s}%s\n",
                c->strange, lost_by(c), granted_to(c->pid), c->hung ? "true" : "false",
                i + 1 < opt.clients ? "," : "");
    }
    fprintf(f, " ]}\n");
    return driver_truth_end(f);
}

static void summarise(double seconds)
{
    fprintf(stderr, "rpcload: %s build, %lu clients, %.1f s\n", build, opt.clients, seconds);
    for (size_t i = 0; i < CLASSES; i++) {
        unsigned long n = 0;
        for (size_t k = 0; k < opt.clients; k++)
            n += clients[k].failures[i];
        if (n)
            fprintf(stderr, "  %s %5lu x %d port lost  (%s)\n", classes[i].name, n, coefficient(i),
                    classes[i].what);
    }
}

/* ---- the run ---- */

static bool drive(void)
{
    if (!start_servers() || !set_targets() || !start_clients() || !run_hook(driver.before))
        return false;
    int64_t begin = now_ms();
    if (!run_load() || (somebody_hangs && !watch_hang()) || !probe_ports())
        return false;
    double seconds = (double)(now_ms() - begin) / 1000;
    summarise(seconds);
    bool good = run_hook(driver.after) && settle() && read_ledger();
    good = (!driver.truth || write_truth(seconds)) && good;
    return end_clients() && good;
}

/* What the client commands that have ended by themselves ended with. */
static int client_status(void)
{
    for (size_t i = 0; i < opt.clients; i++) {
        const struct child *c = &clients[i].child;
        bool by_us = clients[i].hung && WIFSIGNALED(c->status) && WTERMSIG(c->status) == SIGTERM;
        if (c->ended && c->status && !by_us)
            return driver_status(c->status);
    }
    return 0;
}

static int status; /* of the clients, before the rest of them is ended */

static void clean_up(void)
{
    status = client_status();
    close_fd(&closed_fd);
    close_fd(&silent_fd);
    for (size_t i = 0; i < opt.clients; i++)
        child_kill(&clients[i].child);
    child_kill(&forgetful);
    child_kill(&clussvc);
    child_kill(&rpcssd);
}

const char driver_usage[] =
    "usage: rpcload [options] -- CLIENT-COMMAND [ARG...]\n"
    "  --clients N          client processes (1)\n"
    "  --cycles K           good OpenCluster/CloseCluster of each client (20)\n"
    "  --pause MS           after each of them (0)\n"
    "  --f1 N ... --f6 N    failures of each client by class (0):\n"
    "                       closed port, silent server, reject, you_crashed, no memory, port "
    "taken\n"
    "  --until-hang         rounds of the classes that have a number until no port is left\n"
    "  --hang-ms MS         how long to look at a client that hangs (2000)\n"
    "  --probe              count at the end how many ports can still be had\n"
    "  --ports FIRST-LAST   the list of rpcssd (5000-5099); \"any\" = no list\n"
    "  --design-limit       no port is used twice by a process, not even a cooled one\n"
    "  --time-scale X       all protocol timers, the 240 s of a port included, times X (1)\n"
    "  --recycle MS         the 240 s of a port by itself\n"
    "  --settle SECONDS     keep the clients that long after all is over (0)\n"
    "  --before COMMAND     run by sh before the load, with $RPC_CLIENT_PIDS, $RPCSSD_PID, "
    "$CLUSSVC_PID\n"
    "  --after COMMAND      the same after the load, before --settle\n"
    "  --truth FILE         ground truth as JSON\n"
    "  --bin DIRECTORY      where rpcssd and clussvc are (beside rpcload)\n"
    "The client command must end up in a clusclient and let its standard input and output "
    "through;\n"
    "its exit status is passed on (0 for one that hung and was ended), 3 when the run failed.\n";

static void parse_ports(const char *text)
{
    if (strcmp(text, "any") == 0) {
        opt.unrestricted = true;
        return;
    }
    char *rest;
    opt.first_port = strtoul(text, &rest, 10);
    opt.last_port = *rest == '-' ? driver_number(rest + 1, 1, 65535) : 0;
    if (opt.first_port < 1 || opt.first_port > opt.last_port)
        driver_bad_usage();
}

static const char *positive(const char *text)
{
    char *rest;
    if (!(strtod(text, &rest) > 0) || *rest)
        driver_bad_usage();
    return text;
}

static void take(int o)
{
    switch (o) {
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
        opt.failures[o - '1'] = driver_number(optarg, 0, 100000);
        break;
    case 'n':
        opt.clients = driver_number(optarg, 1, CLIENTS_MAX);
        break;
    case 'c':
        opt.cycles = driver_number(optarg, 0, 10000000);
        break;
    case 'w':
        opt.pause = driver_number(optarg, 0, 3600000);
        break;
    case 'u':
        opt.until_hang = true;
        break;
    case 'h':
        opt.hang_ms = driver_number(optarg, 0, 3600000);
        break;
    case 'p':
        opt.probe = true;
        break;
    case 'P':
        parse_ports(optarg);
        break;
    case 'd':
        opt.design_limit = true;
        break;
    case 'x':
        opt.scale = positive(optarg);
        break;
    case 'r':
        opt.recycle = positive(optarg);
        break;
    case 'B':
        opt.bin = optarg;
        break;
    }
}

static const struct option options[] = {
    {"clients", 1, NULL, 'n'},    {"cycles", 1, NULL, 'c'},       {"pause", 1, NULL, 'w'},
    {"f1", 1, NULL, '1'},         {"f2", 1, NULL, '2'},           {"f3", 1, NULL, '3'},
    {"f4", 1, NULL, '4'},         {"f5", 1, NULL, '5'},           {"f6", 1, NULL, '6'},
    {"until-hang", 0, NULL, 'u'}, {"hang-ms", 1, NULL, 'h'},      {"probe", 0, NULL, 'p'},
    {"ports", 1, NULL, 'P'},      {"design-limit", 0, NULL, 'd'}, {"time-scale", 1, NULL, 'x'},
    {"recycle", 1, NULL, 'r'},    {"bin", 1, NULL, 'B'},          DRIVER_OPTIONS};

int main(int argc, char **argv)
{
    static char own[4096];
    driver_options(argc, argv, options, take);
    if (!opt.bin) {
        driver_directory(own, sizeof own);
        opt.bin = own;
    }
    if (!driver_begin("rpcload", RPCSS_SOCKET_ENV))
        return 3;
    for (size_t i = 0; i < CLIENTS_MAX; i++)
        clients[i].child = CHILD_NONE;
    setenv("RPC_TIME_SCALE", opt.scale, 1);
    if (opt.recycle)
        setenv("RPC_PORT_RECYCLE_MS", opt.recycle, 1);
    if (opt.design_limit)
        setenv("RPC_DESIGN_LIMIT", "1", 1);
    setenv("RPC_COM_TIMEOUT_MS", "30000", 0);
    bool told_to_end, good = driver_run(drive, clean_up, &told_to_end);
    if (told_to_end)
        return 130;
    return good || status ? status : 3;
}
