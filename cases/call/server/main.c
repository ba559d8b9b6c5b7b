/* SPDX-License-Identifier: Apache-2.0 */
/* tapisrv: the telephony call server of article 310626. Options, the epoll loop, and a clean end on
 * SIGTERM and SIGINT; SIGUSR1 prints the call history. Start: main, serve. */
#include "client.h"
#include "handle.h"
#include "history.h"
#include "tspi.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

struct config config = {
    .sip_port = 5060,
    .socket_path = TAPISRV_SOCKET_DEFAULT,
    .t1_ms = 500,
    .lines = 4,
    .first_user = 1000,
    .history = 256,
    .queue_limit = 4096,
    .max_legs = 65536,
    .leak_probability = 1,
    .seed = 1,
};
struct counters counters;
struct line lines[LINE_COUNT_MAX];

static int epoll_fd = -1;
static bool stopping;

int watch_add(struct watch *w, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = w};
    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, w->fd, &ev) < 0 ? -errno : 0;
}

int watch_change(struct watch *w, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = w};
    return epoll_ctl(epoll_fd, EPOLL_CTL_MOD, w->fd, &ev) < 0 ? -errno : 0;
}

void watch_remove(struct watch *w)
{
    epoll_ctl(epoll_fd, EPOLL_CTL_DEL, w->fd, NULL);
}

static void signal_ready(struct watch *w, uint32_t events)
{
    (void)events;
    struct signalfd_siginfo info;
    while (read(w->fd, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGUSR1)
            history_dump();
        else
            stopping = true;
    }
}

static void serve(void)
{
    struct epoll_event events[64];
    while (!stopping) {
        int n = epoll_wait(epoll_fd, events, 64, timer_wait());
        for (int i = 0; i < n; i++) {
            struct watch *w = events[i].data.ptr;
            w->ready(w, events[i].events);
        }
        timer_run();
        client_flush_all(); /* clients are only freed here, so no event above is stale */
    }
}

static const char usage[] =
    "usage: tapisrv [options]\n"
    "  --sip-port PORT           UDP port on 127.0.0.1; 0 takes a free one (5060, or "
    "$TAPISRV_SIP_PORT)\n"
    "  --socket PATH             socket of the clients (/tmp/tapisrv.sock, or $TAPISRV_SOCKET)\n"
    "  --t1 MS                   SIP timer T1 (500); T2 is 8*T1, the others 64*T1\n"
    "  --lines N                 line devices (4); line i answers for SIP user 1000+i\n"
    "  --history N               call detail records kept (256)\n"
    "  --queue-limit N           events that wait for one client before it gets no new calls "
    "(4096)\n"
    "  --max-calls N             SIP dialogs at once, lingering ones included (65536)\n"
    "  --owners-counted WHICH    ever (default) or simultaneous\n"
    "  --law L1|L2               records beyond two owners (L1, default), or of all once beyond "
    "two\n"
    "  --leak-probability P      share of the last deallocations that forget their records (1)\n"
    "  --seed N                  of the above and of SIP tags (1)\n"
    "  --ready-fd N              where to write the ready line (1)\n"
    "Prints \"ready pid=... sip-port=... socket=...\" when it serves; ends on SIGTERM.\n";

static unsigned long number(const char *text, unsigned long max, const char *what)
{
    char *end;
    errno = 0;
    unsigned long n = strtoul(text, &end, 10);
    if (errno || end == text || *end || *text == '-' || n > max) {
        fprintf(stderr, "tapisrv: %s: \"%s\" is not a number up to %lu\n", what, text, max);
        exit(2);
    }
    return n;
}

static bool choice(const char *text, const char *no, const char *yes, const char *what)
{
    if (strcmp(text, no) != 0 && strcmp(text, yes) != 0) {
        fprintf(stderr, "tapisrv: %s takes %s or %s\n", what, no, yes);
        exit(2);
    }
    return strcmp(text, yes) == 0;
}

static int parse_options(int argc, char **argv)
{
    static const struct option options[] = {
        {"sip-port", 1, NULL, 'p'},  {"socket", 1, NULL, 's'},
        {"t1", 1, NULL, '1'},        {"lines", 1, NULL, 'l'},
        {"history", 1, NULL, 'h'},   {"queue-limit", 1, NULL, 'q'},
        {"max-calls", 1, NULL, 'm'}, {"owners-counted", 1, NULL, 'o'},
        {"law", 1, NULL, 'L'},       {"leak-probability", 1, NULL, 'P'},
        {"seed", 1, NULL, 'S'},      {"ready-fd", 1, NULL, 'r'},
        {"help", 0, NULL, '?'},      {NULL, 0, NULL, 0}};
    int ready_fd = STDOUT_FILENO;
    const char *env = getenv(TAPISRV_SIP_PORT_ENV);
    if (env)
        config.sip_port = (int)number(env, 65535, "$" TAPISRV_SIP_PORT_ENV);
    if ((env = getenv(TAPISRV_SOCKET_ENV)))
        config.socket_path = env;
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (o) {
        case 'p':
            config.sip_port = (int)number(optarg, 65535, "--sip-port");
            break;
        case 's':
            config.socket_path = optarg;
            break;
        case '1':
            config.t1_ms = (unsigned)number(optarg, 60000, "--t1");
            if (!config.t1_ms)
                config.t1_ms = 1;
            break;
        case 'l':
            config.lines = (unsigned)number(optarg, LINE_COUNT_MAX, "--lines");
            break;
        case 'h':
            config.history = (unsigned)number(optarg, 10000000, "--history");
            break;
        case 'q':
            config.queue_limit = (unsigned)number(optarg, 10000000, "--queue-limit");
            break;
        case 'm':
            config.max_legs = (unsigned)number(optarg, 10000000, "--max-calls");
            break;
        case 'o':
            config.owners_reuse = choice(optarg, "ever", "simultaneous", "--owners-counted");
            break;
        case 'L':
            config.owners_spill = choice(optarg, "L1", "L2", "--law");
            break;
        case 'P':
            config.leak_probability = strtod(optarg, NULL);
            break;
        case 'S':
            config.seed = number(optarg, 0xffffffffUL, "--seed");
            break;
        case 'r':
            ready_fd = (int)number(optarg, 65535, "--ready-fd");
            break;
        default:
            fputs(usage, stderr);
            exit(strcmp(argv[optind - 1], "--help") == 0 ? 0 : 2);
        }
    }
    if (optind < argc) {
        fputs(usage, stderr);
        exit(2);
    }
    return ready_fd;
}

static int fail(const char *what, int err)
{
    fprintf(stderr, "tapisrv: %s: %s\n", what, strerror(-err));
    return 3;
}

/* What a load driver needs to know, the build included: it must know what to expect of it. */
static void say_ready(int fd)
{
#ifdef TAPISRV_HOTFIX
    const char *build = "hotfix";
#else
    const char *build = "shipped";
#endif
    dprintf(fd, "ready pid=%d sip-port=%d build=%s law=%s leak-probability=%g socket=%s\n",
            (int)getpid(), config.sip_port, build, config.owners_spill ? "L2" : "L1",
            config.leak_probability, config.socket_path);
}

int main(int argc, char **argv)
{
    int ready_fd = parse_options(argc, argv), status = 0, err;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    for (unsigned i = 0; i < LINE_COUNT_MAX; i++)
        lines[i].id = i;
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct watch signals = {signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC), signal_ready};
    if (epoll_fd < 0 || signals.fd < 0 || watch_add(&signals, EPOLLIN) < 0)
        return fail("epoll and signalfd", -errno);
    if ((err = sip_open()) < 0) {
        status = fail("cannot open the SIP port (--sip-port 0 takes a free one)", err);
    } else if ((err = client_listen()) < 0) {
        status = fail("cannot listen at the client socket (see --socket)", err);
    } else {
        say_ready(ready_fd);
        serve();
    }
    client_free_all();
    sip_close_all();
    history_free_all();
    handle_free_all();
    timer_free_all();
    close(signals.fd);
    close(epoll_fd);
    if (status == 0)
        fprintf(stderr,
                "tapisrv: calls=%llu owners=%llu overflow=%llu forgotten=%llu bad_datagrams=%llu "
                "events_dropped=%llu\n",
                (unsigned long long)counters.calls, (unsigned long long)counters.owners,
                (unsigned long long)counters.overflow, (unsigned long long)counters.forgotten,
                (unsigned long long)counters.bad_datagrams,
                (unsigned long long)counters.events_dropped);
    return status;
}
