/* SPDX-License-Identifier: Apache-2.0 */
/* Puts a known load on the call server: starts the server command, n owner processes (and
 * monitors), SIPp as caller; waits until every call is over and every handle is gone; leaves the
 * server up for --settle seconds; ends it with SIGTERM and exits with the command's status. What
 * must have leaked is computed from the outside - SIPp's statistics and the owners' own accounts,
 * never the server's counters - and written as JSON (--truth).
 *
 * Everything runs in a temporary directory with its own socket and free ports, so several can run
 * in parallel. Waiting is poll() on pipes and pidfds with deadlines; only processes started here
 * are ever signalled, and they die with callload. Start: main, drive. */
#include "load/driver.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { APPS_MAX = 64, ARGS_MAX = 32, RECORD_BYTES = 40 };

static struct {
    unsigned long owners, monitors, deaf, calls, rate, duration, hold;
    const char *end, *order, *callowner, *sipp;
} opt = {.owners = 4,
         .calls = 1000,
         .rate = 100,
         .duration = 200,
         .end = "dealloc",
         .order = "forward",
         .sipp = "sipp"};

static struct child server = CHILD_NONE, sipp = CHILD_NONE;
static struct child apps[APPS_MAX];
static size_t app_count;
static pid_t server_pid; /* tapisrv itself; may be a child of the server command */
static int sip_port;
static char server_build[16], server_law[8];
static double server_probability = 1;
static uint64_t calls_ok, calls_failed;

/* ---- the stages of a run ---- */

static const char *word_after(const char *line, const char *key, char *out, size_t size)
{
    const char *at = strstr(line, key);
    size_t n = 0;
    for (at = at ? at + strlen(key) : ""; *at && !isspace((unsigned char)*at) && n + 1 < size; at++)
        out[n++] = *at;
    out[n] = 0;
    return out;
}

static bool start_server(void)
{
    char word[64];
    if (!child_spawn(&server, driver.command, ECHO_LINES, SIGTERM))
        return false;
    if (!child_await_line(&server, "ready pid=", now_ms() + 60000, "the server"))
        return false;
    server_pid = (pid_t)strtol(word_after(server.last, "pid=", word, sizeof word), NULL, 10);
    sip_port = (int)strtol(word_after(server.last, "sip-port=", word, sizeof word), NULL, 10);
    server_probability =
        strtod(word_after(server.last, "leak-probability=", word, sizeof word), NULL);
    word_after(server.last, "build=", server_build, sizeof server_build);
    word_after(server.last, "law=", server_law, sizeof server_law);
    word_after(server.last, "socket=", word, sizeof word);
    return strcmp(word, driver.socket_path) == 0 ||
           trouble("the server listens at %s: its command must let $TAPISRV_SOCKET through", word);
}

/* How long an owner keeps an idle handle. Disposal order: the first owner waits longest (reverse),
 * shortest (forward), or anyhow (random). */
static unsigned long hold_of(unsigned long place)
{
    enum { STEP = 20 };
    if (strcmp(opt.order, "reverse") == 0)
        return opt.hold + (opt.owners - place) * STEP;
    if (strcmp(opt.order, "random") == 0)
        return opt.hold + (unsigned long)rand() % (opt.owners * STEP + 1);
    return opt.hold + place * STEP;
}

static bool start_app(const char *role, unsigned long place, bool deaf)
{
    char hold[32], wait[32], name[32];
    char *args[ARGS_MAX], path[4096];
    int n = 0;
    struct child *c = &apps[app_count];
    snprintf(path, sizeof path, "%s", opt.callowner);
    snprintf(hold, sizeof hold, "%lu", deaf ? 0 : hold_of(place));
    snprintf(wait, sizeof wait, "%lu", opt.owners);
    snprintf(name, sizeof name, "%s%lu", role, place);
    /* The last owner gives up the last reference, and it does so by --end. */
    bool last = strcmp(role, "monitor") != 0 && place + 1 == opt.owners;
    args[n++] = path;
    args[n++] = "--role";
    args[n++] = (char *)role;
    args[n++] = "--name";
    args[n++] = name;
    args[n++] = "--wait-owners";
    args[n++] = wait;
    args[n++] = "--hold";
    args[n++] = hold;
    args[n++] = "--end";
    args[n++] = last ? (char *)opt.end : "dealloc";
    if (deaf)
        args[n++] = "--no-read";
    args[n] = NULL;
    if (!child_spawn(c, args, WITH_INPUT, SIGKILL))
        return false;
    app_count++;
    return child_await_line(c, "ready", now_ms() + 30000, "callowner");
}

static bool start_apps(void)
{
    for (unsigned long i = 0; i < opt.owners; i++)
        if (!start_app(i == 0 ? "answer" : "join", i, false))
            return false;
    for (unsigned long i = 0; i < opt.monitors + opt.deaf; i++)
        if (!start_app("monitor", i, i >= opt.monitors))
            return false;
    return true;
}

/* The last row of SIPp's statistics: calls so far. */
static void read_statistics(const char *path)
{
    FILE *f = fopen(path, "re");
    char *head = NULL, *row = NULL;
    size_t head_cap = 0, row_cap = 0;
    if (!f || getline(&head, &head_cap, f) < 0)
        goto out;
    while (getline(&row, &row_cap, f) > 0) {
        char *h = head, *r = row, *name, *value;
        while ((name = strsep(&h, ";")) && (value = strsep(&r, ";"))) {
            if (strcmp(name, "SuccessfulCall(C)") == 0)
                calls_ok = strtoull(value, NULL, 10);
            else if (strcmp(name, "FailedCall(C)") == 0)
                calls_failed = strtoull(value, NULL, 10);
            if (h)
                h[-1] = ';'; /* strsep cut here: the head line is read again */
        }
    }
out:
    free(head);
    free(row);
    if (f)
        fclose(f);
}

static bool run_sipp(void)
{
    char target[64], rate[32], calls[32], duration[32], limit[32], stat[64];
    snprintf(target, sizeof target, "127.0.0.1:%d", sip_port);
    snprintf(rate, sizeof rate, "%lu", opt.rate);
    snprintf(calls, sizeof calls, "%lu", opt.calls);
    snprintf(duration, sizeof duration, "%lu", opt.duration);
    snprintf(limit, sizeof limit, "%lu", opt.rate * (opt.duration / 1000 + 4));
    snprintf(stat, sizeof stat, "%s/sipp.csv", driver.dir);
    char *args[] = {(char *)opt.sipp,
                    "-sn",
                    "uac",
                    target,
                    "-i",
                    "127.0.0.1",
                    "-s",
                    "1000",
                    "-r",
                    rate,
                    "-m",
                    calls,
                    "-d",
                    duration,
                    "-l",
                    limit,
                    "-nostdin",
                    "-trace_stat",
                    "-stf",
                    stat,
                    "-fd",
                    "1",
                    NULL};
    int64_t deadline = now_ms() + (int64_t)(opt.calls * 1000 / opt.rate * 3 + opt.duration) + 60000;
    uint64_t shown = 0;
    if (!child_spawn(&sipp, args, SILENT, SIGKILL))
        return false;
    /* Its output is a screen for people; what it says is in the statistics file. */
    for (int64_t tick = now_ms() + 1000; !child_reap(&sipp);) {
        char scrap[4096];
        int64_t until = tick < deadline ? tick : deadline;
        child_wait(&sipp, until);
        if (interrupted)
            return false;
        if (child_has_output(&sipp) && read(sipp.out, scrap, sizeof scrap) <= 0)
            close_fd(&sipp.out);
        if (now_ms() >= deadline)
            return trouble("SIPp did not end in time");
        if (now_ms() < tick)
            continue;
        tick += 1000;
        read_statistics(stat);
        if (calls_ok / 100 != shown / 100)
            fprintf(stderr, "callload: %" PRIu64 " of %lu calls\n", calls_ok, opt.calls);
        shown = calls_ok;
        if (child_reap(&server))
            return trouble("the server ended during the load");
    }
    read_statistics(stat);
    if (WIFEXITED(sipp.status) && WEXITSTATUS(sipp.status) == 127)
        return trouble("SIPp is needed as caller: install the package sip-tester");
    if (calls_ok + calls_failed == 0)
        return trouble("SIPp placed no call (status 0x%x)", (unsigned)sipp.status);
    return true;
}

/* Ends the applications: all but the one that gives up the last references, then that one. */
static bool end_apps(void)
{
    int64_t deadline = now_ms() + 60000;
    size_t last = opt.owners - 1;
    for (size_t i = 0; i < app_count; i++)
        if (i != last)
            close_fd(&apps[i].in);
    for (size_t i = 0; i < app_count; i++)
        if (i != last && !child_await_end(&apps[i], deadline, "callowner"))
            return false;
    close_fd(&apps[last].in);
    return child_await_end(&apps[last], deadline, "callowner");
}

static bool settle(void)
{
    int64_t until = now_ms() + (int64_t)driver.settle * 1000;
    do
        child_take_lines(&server, true);
    while (!child_reap(&server) && child_wait(&server, until));
    return !interrupted && (!server.ended || trouble("the server ended before it was told to"));
}

/* Runs --before or --after, which may take as long as it likes. */
static bool run_hook(const char *command)
{
    char pid[32];
    if (!command)
        return true;
    snprintf(pid, sizeof pid, "%d", (int)server_pid);
    setenv("TAPISRV_PID", pid, 1);
    return driver_hook(command);
}

static bool stop_server(void)
{
    if (server.ended)
        return false;
    /* tapisrv itself, when it is in the command's process group; else the command. */
    pid_t pid = server_pid > 0 && getpgid(server_pid) == server.pid ? server_pid : server.pid;
    kill(pid, SIGTERM);
    return child_await_end(&server, now_ms() + 120000, "the server");
}

/* ---- the truth ---- */

static uint64_t account(const struct child *c, const char *key)
{
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\": ", key);
    const char *at = strstr(c->last, quoted);
    return at ? strtoull(at + strlen(quoted), NULL, 10) : 0;
}

/* True when every owner owned and every application let go of every call that SIPp placed. */
static bool complete(void)
{
    bool kept = strcmp(opt.end, "dealloc") != 0;
    bool all = calls_ok == opt.calls && calls_failed == 0;
    for (size_t i = 0; i < opt.owners; i++) {
        bool last = i + 1 == opt.owners;
        all = all && account(&apps[i], "owned") == calls_ok &&
              account(&apps[i], "deallocated") == (kept && last ? 0 : calls_ok);
    }
    for (size_t i = opt.owners; i < opt.owners + opt.monitors; i++)
        all = all && account(&apps[i], "deallocated") == calls_ok;
    return all;
}

static uint64_t expected_records(void)
{
    if (strcmp(opt.end, "dealloc") != 0 || strcmp(server_build, "hotfix") == 0 || opt.owners <= 2)
        return 0;
    return calls_ok * (strcmp(server_law, "L2") == 0 ? opt.owners : opt.owners - 2);
}

static bool write_truth(double seconds)
{
    uint64_t records = expected_records();
    bool exact = complete() && (records == 0 || server_probability >= 1);
    FILE *f = driver_truth();
    if (!f)
        return false;
    fprintf(f,
            "{\"schema\": \"callload/1\", \"build\": \"%s\", \"law\": \"%s\", \"server_pid\": %d,\n"
            " \"calls\": %" PRIu64 ", \"failed_calls\": %" PRIu64 ", \"owners\": %lu, "
            "\"monitors\": %lu, \"deaf_monitors\": %lu, \"end\": \"%s\", \"order\": \"%s\",\n"
            " \"load_seconds\": %.3f, \"leak_probability\": %g, \"exact\": %s,\n"
            " \"leaked_blocks\": %" PRIu64 ", \"block_bytes\": %d, \"leaked_bytes\": %" PRIu64
            ",\n \"applications\": [\n",
            server_build, server_law, (int)server_pid, calls_ok, calls_failed, opt.owners,
            opt.monitors, opt.deaf, opt.end, opt.order, seconds, server_probability,
            exact ? "true" : "false", (uint64_t)((double)records * server_probability + 0.5),
            RECORD_BYTES, (uint64_t)((double)records * server_probability + 0.5) * RECORD_BYTES);
    for (size_t i = 0; i < app_count; i++)
        fprintf(f, "  %s%s\n", apps[i].last[0] == '{' ? apps[i].last : "null",
                i + 1 < app_count ? "," : "");
    fprintf(f, " ]}\n");
    return driver_truth_end(f);
}

/* ---- the run ---- */

static bool drive(void)
{
    if (!start_server() || !run_hook(driver.before) || !start_apps())
        return false;
    int64_t begin = now_ms();
    if (!run_sipp() || !end_apps())
        return false;
    double seconds = (double)(now_ms() - begin) / 1000;
    fprintf(stderr,
            "callload: %" PRIu64 " calls (%" PRIu64 " failed), %lu owners, %lu monitors, end %s, "
            "%.1f s; %" PRIu64 " owner records expected lost%s\n",
            calls_ok, calls_failed, opt.owners, opt.monitors + opt.deaf, opt.end, seconds,
            expected_records(), complete() ? "" : " (INCOMPLETE: not every call was owned by all)");
    bool good = run_hook(driver.after) && settle() && stop_server();
    return (!driver.truth || write_truth(seconds)) && good && complete();
}

static void clean_up(void)
{
    char path[80];
    for (size_t i = 0; i < app_count; i++)
        child_kill(&apps[i]);
    child_kill(&sipp);
    child_kill(&server);
    snprintf(path, sizeof path, "%s/sipp.csv", driver.dir);
    unlink(path);
}

const char driver_usage[] =
    "usage: callload [options] -- SERVER-COMMAND [ARG...]\n"
    "  --owners N        owner processes (4); the first answers, the last gives up the call last\n"
    "  --monitors M      processes that only watch (0)\n"
    "  --deaf M          monitors that read no events before the end (0)\n"
    "  --calls K         calls SIPp places (1000)\n"
    "  --rate R          calls a second (100)\n"
    "  --duration MS     how long SIPp holds a call (200)\n"
    "  --end MODE        how the last reference goes: dealloc (default), close, shutdown, kill\n"
    "  --order ORDER     in which owners deallocate: forward (default), reverse, random\n"
    "  --hold MS         owners keep idle handles that much longer (0)\n"
    "  --settle SECONDS  keep the server up that long after all is over (0)\n"
    "  --before COMMAND  run by sh before the applications start, with $TAPISRV_PID, and waited "
    "for\n"
    "  --after COMMAND   the same when all handles are gone, before --settle\n"
    "  --truth FILE      ground truth as JSON\n"
    "  --callowner PATH  the client program (beside callload)\n"
    "  --sipp PATH       SIPp (sipp)\n"
    "The server command gets $TAPISRV_SOCKET and $TAPISRV_SIP_PORT and must end up in a tapisrv;\n"
    "its exit status is passed on, 3 when the run itself failed.\n";

static const char *pick(const char *text, const char *const *names)
{
    while (*names && strcmp(*names, text) != 0)
        names++;
    if (!*names)
        driver_bad_usage();
    return *names;
}

static void take(int o)
{
    static const char *const ends[] = {"dealloc", "close", "shutdown", "kill", NULL};
    static const char *const orders[] = {"forward", "reverse", "random", NULL};
    switch (o) {
    case 'n':
        opt.owners = driver_number(optarg, 1, APPS_MAX / 2);
        break;
    case 'm':
        opt.monitors = driver_number(optarg, 0, APPS_MAX / 4);
        break;
    case 'd':
        opt.deaf = driver_number(optarg, 0, APPS_MAX / 4);
        break;
    case 'c':
        opt.calls = driver_number(optarg, 1, 1000000);
        break;
    case 'r':
        opt.rate = driver_number(optarg, 1, 100000);
        break;
    case 'D':
        opt.duration = driver_number(optarg, 0, 3600000);
        break;
    case 'e':
        opt.end = pick(optarg, ends);
        break;
    case 'o':
        opt.order = pick(optarg, orders);
        break;
    case 'w':
        opt.callowner = optarg;
        break;
    case 'h':
        opt.hold = driver_number(optarg, 0, 3600000);
        break;
    case 'S':
        opt.sipp = optarg;
        break;
    }
}

static const struct option options[] = {
    {"owners", 1, NULL, 'n'}, {"monitors", 1, NULL, 'm'},  {"deaf", 1, NULL, 'd'},
    {"calls", 1, NULL, 'c'},  {"rate", 1, NULL, 'r'},      {"duration", 1, NULL, 'D'},
    {"end", 1, NULL, 'e'},    {"order", 1, NULL, 'o'},     {"hold", 1, NULL, 'h'},
    {"sipp", 1, NULL, 'S'},   {"callowner", 1, NULL, 'w'}, DRIVER_OPTIONS};

int main(int argc, char **argv)
{
    static char beside[4096];
    driver_options(argc, argv, options, take);
    if (!opt.callowner) {
        driver_directory(beside, sizeof beside - 16);
        strcat(beside, "/callowner");
        opt.callowner = beside;
    }
    if (!driver_begin("callload", "TAPISRV_SOCKET"))
        return 3;
    setenv("TAPISRV_SIP_PORT", "0", 1);
    if (!getenv("TERM"))
        setenv("TERM", "dumb", 1); /* SIPp refuses to start without */
    bool told_to_end, good = driver_run(drive, clean_up, &told_to_end);
    if (told_to_end)
        return 130;
    if (!good)
        return server.ended && WIFEXITED(server.status) && WEXITSTATUS(server.status)
                   ? WEXITSTATUS(server.status)
                   : 3;
    return driver_status(server.status);
}
