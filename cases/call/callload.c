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
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { APPS_MAX = 64, ARGS_MAX = 32, LINE_MAX_LEN = 1024, RECORD_BYTES = 40 };

static struct {
    unsigned long owners, monitors, deaf, calls, rate, duration, hold, settle;
    const char *end, *order, *truth, *callowner, *sipp, *before, *after;
    char **server;
} opt = {.owners = 4,
         .calls = 1000,
         .rate = 100,
         .duration = 200,
         .end = "dealloc",
         .order = "forward",
         .sipp = "sipp"};

/* A child process, the pipe from its stdout and (applications only) the pipe to its stdin. */
struct child {
    pid_t pid;
    int pidfd, out, in;
    bool ended;
    int status;
    size_t len;
    char buf[LINE_MAX_LEN];
    char last[LINE_MAX_LEN]; /* the last line read */
};

static struct child server = {.pidfd = -1, .out = -1, .in = -1}, sipp = {.pidfd = -1, .out = -1};
static struct child hook = {.pidfd = -1, .out = -1, .in = -1};
static struct child apps[APPS_MAX];
static size_t app_count;
static int signal_fd = -1;
static bool interrupted;
static char dir[] = "/tmp/callload.XXXXXX";
static pid_t server_pid; /* tapisrv itself; may be a child of the server command */
static int sip_port;
static char server_build[16], server_law[8];
static double server_probability = 1;
static uint64_t calls_ok, calls_failed;

static int64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

__attribute__((format(printf, 1, 2))) static bool trouble(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("callload: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    return false;
}

/* ---- children ---- */

enum { WITH_INPUT = 1, SILENT = 2, TO_STDERR = 4 };

/* Starts a child. WITH_INPUT: its stdin is a pipe, else /dev/null. Its stdout is a pipe, with
 * SILENT its stderr goes there too; with TO_STDERR it has our stderr as stdout instead. */
static bool spawn(struct child *c, char *const argv[], int flags, int death_signal)
{
    int out[2], in[2] = {-1, -1};
    pid_t parent = getpid();
    *c = (struct child){.pidfd = -1, .out = -1, .in = -1};
    if (pipe2(out, O_CLOEXEC) < 0 || ((flags & WITH_INPUT) && pipe2(in, O_CLOEXEC) < 0))
        return trouble("pipe: %s", strerror(errno));
    c->pid = fork();
    if (c->pid == 0) {
        int input = flags & WITH_INPUT ? in[0] : open("/dev/null", O_RDONLY | O_CLOEXEC);
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        setpgid(0, 0); /* ^C is for callload, which ends its children in order */
        prctl(PR_SET_PDEATHSIG, death_signal);
        if (getppid() != parent)
            _exit(127);
        dup2(input, STDIN_FILENO);
        dup2(flags & TO_STDERR ? STDERR_FILENO : out[1], STDOUT_FILENO);
        if (flags & SILENT)
            dup2(out[1], STDERR_FILENO);
        execvp(argv[0], argv);
        fprintf(stderr, "callload: cannot run %s: %s\n", argv[0], strerror(errno));
        _exit(127);
    }
    close(out[1]);
    if (flags & WITH_INPUT)
        close(in[0]);
    if (c->pid < 0)
        return trouble("fork: %s", strerror(errno));
    c->out = out[0];
    c->in = in[1];
    c->pidfd = (int)syscall(SYS_pidfd_open, c->pid, 0);
    return c->pidfd >= 0 || trouble("pidfd_open: %s", strerror(errno));
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* The child's next line into c->last: 1, 0 none complete yet, -1 its output has ended. */
static int take_line(struct child *c)
{
    char *nl = memchr(c->buf, '\n', c->len);
    if (!nl && c->out >= 0) {
        ssize_t n = read(c->out, c->buf + c->len, sizeof c->buf - 1 - c->len);
        if (n <= 0)
            close_fd(&c->out);
        else
            c->len += (size_t)n;
        nl = memchr(c->buf, '\n', c->len);
        if (!nl && c->len == sizeof c->buf - 1)
            c->len = 0; /* no line of ours is that long */
    }
    if (!nl)
        return c->out < 0 ? -1 : 0;
    size_t n = (size_t)(nl - c->buf);
    memcpy(c->last, c->buf, n);
    c->last[n] = 0;
    c->len -= n + 1;
    memmove(c->buf, nl + 1, c->len);
    return 1;
}

static bool reap(struct child *c)
{
    if (!c->ended && c->pid > 0 && waitpid(c->pid, &c->status, WNOHANG) == c->pid)
        c->ended = true;
    return c->ended;
}

/* Waits for output of a child, its end, the deadline, or a signal for us. False: no more waiting.
 */
static bool wait_for(const struct child *c, int64_t deadline)
{
    struct pollfd p[3] = {{c->out, POLLIN, 0}, {c->pidfd, POLLIN, 0}, {signal_fd, POLLIN, 0}};
    int64_t left = deadline - now_ms();
    if (!interrupted && left > 0)
        poll(p, 3, left > INT32_MAX ? INT32_MAX : (int)left);
    if (p[2].revents)
        interrupted = true;
    return !interrupted && now_ms() < deadline;
}

static bool has_output(const struct child *c)
{
    struct pollfd p = {c->out, POLLIN, 0};
    return c->out >= 0 && poll(&p, 1, 0) > 0;
}

/* Takes the complete lines there are, without waiting; shown: to stderr. */
static void take_lines(struct child *c, bool shown)
{
    while (memchr(c->buf, '\n', c->len) || has_output(c))
        if (take_line(c) > 0 && shown)
            fprintf(stderr, "%s\n", c->last);
}

/* Waits for a line that starts with `start`; other lines go to stderr. */
static bool await_line(struct child *c, const char *start, int64_t deadline, const char *what)
{
    for (;;) {
        while (memchr(c->buf, '\n', c->len) || has_output(c)) {
            if (take_line(c) <= 0)
                continue;
            if (strncmp(c->last, start, strlen(start)) == 0)
                return true;
            fprintf(stderr, "%s\n", c->last);
        }
        if (reap(c))
            return trouble("%s ended before it was ready", what);
        if (!wait_for(c, deadline))
            return interrupted ? false : trouble("%s: no answer in time", what);
    }
}

/* Waits for a child's end and takes the rest of its output; the last line stays in c->last. */
static bool await_end(struct child *c, int64_t deadline, const char *what)
{
    while (!reap(c)) {
        if (!wait_for(c, deadline) && !reap(c))
            return interrupted ? false : trouble("%s did not end in time", what);
        take_lines(c, c == &server);
    }
    take_lines(c, c == &server);
    return true;
}

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
    if (!spawn(&server, opt.server, 0, SIGTERM))
        return false;
    if (!await_line(&server, "ready pid=", now_ms() + 60000, "the server"))
        return false;
    server_pid = (pid_t)strtol(word_after(server.last, "pid=", word, sizeof word), NULL, 10);
    sip_port = (int)strtol(word_after(server.last, "sip-port=", word, sizeof word), NULL, 10);
    server_probability =
        strtod(word_after(server.last, "leak-probability=", word, sizeof word), NULL);
    word_after(server.last, "build=", server_build, sizeof server_build);
    word_after(server.last, "law=", server_law, sizeof server_law);
    return true;
}

/* How long an owner keeps an idle handle. Disposal order: the first owner waits longest (reverse),
 * shortest (forward), or anyhow (random). */
static unsigned long hold_of(unsigned long place)
{
    enum { STEP = 20 };
    if (strcmp(opt.order, "reverse") == 0)
        return opt.hold + (opt.owners - place) * STEP;
    if (strcmp(opt.order, "random") == 0)
        return opt.hold + (unsigned long)rand() % (opt.owners * STEP);
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
    if (!spawn(c, args, WITH_INPUT, SIGKILL))
        return false;
    app_count++;
    return await_line(c, "ready", now_ms() + 30000, "callowner");
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
    snprintf(stat, sizeof stat, "%s/sipp.csv", dir);
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
    if (!spawn(&sipp, args, SILENT, SIGKILL))
        return false;
    /* Its output is a screen for people; what it says is in the statistics file. */
    for (int64_t tick = now_ms() + 1000; !reap(&sipp);) {
        char scrap[4096];
        int64_t until = tick < deadline ? tick : deadline;
        wait_for(&sipp, until);
        if (interrupted)
            return false;
        if (has_output(&sipp) && read(sipp.out, scrap, sizeof scrap) <= 0)
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
        if (reap(&server))
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
        if (i != last && !await_end(&apps[i], deadline, "callowner"))
            return false;
    close_fd(&apps[last].in);
    return await_end(&apps[last], deadline, "callowner");
}

static bool settle(void)
{
    int64_t until = now_ms() + (int64_t)opt.settle * 1000;
    do
        take_lines(&server, true);
    while (!reap(&server) && wait_for(&server, until));
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
    char *args[] = {"sh", "-c", (char *)command, NULL};
    if (!spawn(&hook, args, TO_STDERR, SIGTERM) || !await_end(&hook, INT64_MAX, "the command"))
        return false;
    return (WIFEXITED(hook.status) && WEXITSTATUS(hook.status) == 0) ||
           trouble("\"%s\" failed (status 0x%x)", command, (unsigned)hook.status);
}

static bool stop_server(void)
{
    if (server.ended)
        return false;
    /* tapisrv itself, when it is in the command's process group; else the command. */
    pid_t pid = server_pid > 0 && getpgid(server_pid) == server.pid ? server_pid : server.pid;
    kill(pid, SIGTERM);
    return await_end(&server, now_ms() + 120000, "the server");
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
    FILE *f = fopen(opt.truth, "we");
    if (!f)
        return trouble("%s: %s", opt.truth, strerror(errno));
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
    return fclose(f) == 0 || trouble("%s: %s", opt.truth, strerror(errno));
}

/* ---- the run ---- */

static bool drive(void)
{
    if (!start_server() || !run_hook(opt.before) || !start_apps())
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
    bool good = run_hook(opt.after) && settle() && stop_server();
    return (!opt.truth || write_truth(seconds)) && good && complete();
}

static void kill_group(struct child *c)
{
    if (c->pid <= 0 || reap(c))
        return;
    int64_t deadline = now_ms() + 5000;
    kill(-c->pid, SIGTERM);
    while (!reap(c) && wait_for(c, deadline))
        take_lines(c, c == &server);
    if (!reap(c)) {
        kill(-c->pid, SIGKILL);
        waitpid(c->pid, &c->status, 0);
        c->ended = true;
    }
}

static void clean_up(void)
{
    static const char *const files[] = {"sipp.csv", "sock"};
    close_fd(&signal_fd);
    for (size_t i = 0; i < app_count; i++)
        kill_group(&apps[i]);
    kill_group(&sipp);
    kill_group(&hook);
    kill_group(&server);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char path[64];
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        unlink(path);
    }
    rmdir(dir);
}

static const char usage[] =
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

static void bad_usage(void)
{
    fputs(usage, stderr);
    exit(2);
}

static unsigned long number(const char *text, unsigned long min, unsigned long max)
{
    char *rest;
    unsigned long n = strtoul(text, &rest, 10);
    if (rest == text || *rest || *text == '-' || n < min || n > max)
        bad_usage();
    return n;
}

static const char *pick(const char *text, const char *const *names)
{
    while (*names && strcmp(*names, text) != 0)
        names++;
    if (!*names)
        bad_usage();
    return *names;
}

static void parse_options(int argc, char **argv)
{
    static const char *const ends[] = {"dealloc", "close", "shutdown", "kill", NULL};
    static const char *const orders[] = {"forward", "reverse", "random", NULL};
    static const struct option options[] = {
        {"owners", 1, NULL, 'n'}, {"monitors", 1, NULL, 'm'},  {"deaf", 1, NULL, 'd'},
        {"calls", 1, NULL, 'c'},  {"rate", 1, NULL, 'r'},      {"duration", 1, NULL, 'D'},
        {"end", 1, NULL, 'e'},    {"order", 1, NULL, 'o'},     {"settle", 1, NULL, 's'},
        {"truth", 1, NULL, 't'},  {"callowner", 1, NULL, 'w'}, {"sipp", 1, NULL, 'S'},
        {"hold", 1, NULL, 'h'},   {"before", 1, NULL, 'b'},    {"after", 1, NULL, 'a'},
        {NULL, 0, NULL, 0}};
    for (int o; (o = getopt_long(argc, argv, "+", options, NULL)) != -1;) {
        switch (o) {
        case 'n':
            opt.owners = number(optarg, 1, APPS_MAX / 2);
            break;
        case 'm':
            opt.monitors = number(optarg, 0, APPS_MAX / 4);
            break;
        case 'd':
            opt.deaf = number(optarg, 0, APPS_MAX / 4);
            break;
        case 'c':
            opt.calls = number(optarg, 1, 1000000);
            break;
        case 'r':
            opt.rate = number(optarg, 1, 100000);
            break;
        case 'D':
            opt.duration = number(optarg, 0, 3600000);
            break;
        case 'e':
            opt.end = pick(optarg, ends);
            break;
        case 'o':
            opt.order = pick(optarg, orders);
            break;
        case 's':
            opt.settle = number(optarg, 0, 86400);
            break;
        case 't':
            opt.truth = optarg;
            break;
        case 'w':
            opt.callowner = optarg;
            break;
        case 'h':
            opt.hold = number(optarg, 0, 3600000);
            break;
        case 'b':
            opt.before = optarg;
            break;
        case 'a':
            opt.after = optarg;
            break;
        case 'S':
            opt.sipp = optarg;
            break;
        default:
            bad_usage();
        }
    }
    if (optind == argc)
        bad_usage();
    opt.server = argv + optind;
}

int main(int argc, char **argv)
{
    static char beside[4096], socket_path[64];
    parse_options(argc, argv);
    if (!opt.callowner) {
        ssize_t n = readlink("/proc/self/exe", beside, sizeof beside - 16);
        char *slash = n > 0 ? strrchr(beside, '/') : NULL;
        strcpy(slash ? slash + 1 : beside, "callowner");
        opt.callowner = beside;
    }
    if (!mkdtemp(dir)) {
        trouble("%s: %s", dir, strerror(errno));
        return 3;
    }
    snprintf(socket_path, sizeof socket_path, "%s/sock", dir);
    setenv("TAPISRV_SOCKET", socket_path, 1);
    setenv("TAPISRV_SIP_PORT", "0", 1);
    if (!getenv("TERM"))
        setenv("TERM", "dumb", 1); /* SIPp refuses to start without */
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal_fd = signalfd(-1, &set, SFD_CLOEXEC);
    bool good = signal_fd >= 0 && drive(), told_to_end = interrupted;
    interrupted = false; /* cleaning up is bounded by itself */
    clean_up();
    if (told_to_end)
        return 130;
    if (!good)
        return server.ended && WIFEXITED(server.status) && WEXITSTATUS(server.status)
                   ? WEXITSTATUS(server.status)
                   : 3;
    return WIFEXITED(server.status) ? WEXITSTATUS(server.status) : 128 + WTERMSIG(server.status);
}
