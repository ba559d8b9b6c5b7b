/* SPDX-License-Identifier: Apache-2.0 */
/* telltale detach: takes out of a process what telltale put into it. A telltale that records it is
 * asked to leave; what a killed one left behind is cleaned up here. telltale switch asks the one
 * that records for another mode. Start: run_detach. */
#include <errno.h>
#include <stdio.h>

#include "cmd/recording.h"
#include "inject/attach.h"

struct request {
    pid_t pid;
    enum tt_tape_mode mode;
    bool force, json;
};

static int take(const struct tt_cmd *cmd, int argc, char **argv, const struct option *longs,
                struct request *request, bool *served)
{
    int c, status = 0;
    *served = false;
    while ((c = tt_cmd_option(cmd, argc, argv, ":p:h", longs, &status)) != -1) {
        switch (c) {
        case 'p':
            if (request->pid)
                return tt_cmd_misuse(cmd, "one process at a time");
            if (tt_recording_pid(cmd, optarg, &request->pid))
                return TT_EXIT_USAGE;
            break;
        case TT_OPT_MODE:
            if (tt_recording_mode(optarg, &request->mode))
                return tt_cmd_misuse(cmd, "--mode is exact, adaptive or sampled, not '%s'", optarg);
            break;
        case TT_OPT_FORCE:
            request->force = true;
            break;
        case TT_OPT_JSON:
            request->json = true;
            break;
        default:
            *served = true;
            return status;
        }
    }
    if (optind < argc)
        return tt_cmd_misuse(cmd, "'%s' is no option: a process is given with -p PID",
                             argv[optind]);
    return request->pid ? 0 : tt_cmd_misuse(cmd, "no process given (-p PID)");
}

static void say_detached(const struct request *request, const struct tt_inject_detached *d)
{
    if (request->json) {
        printf("{\"pid\": %d, \"found\": %s, \"restored\": %u, \"kept\": %u, \"live\": %llu, "
               "\"stop_ns\": %llu}\n",
               (int)request->pid, d->found ? "true" : "false", d->restored, d->kept,
               (unsigned long long)d->live, (unsigned long long)d->stop_ns);
        return;
    }
    if (!d->found) {
        printf("process %d has nothing of telltale in it\n", (int)request->pid);
        return;
    }
    printf("detached from process %d: %u places restored, stopped for %.3f ms\n", (int)request->pid,
           d->restored, (double)d->stop_ns / 1e6);
    if (d->kept)
        printf("%u release functions stay hooked: %llu sampled blocks still live\n", d->kept,
               (unsigned long long)d->live);
}

static int run_detach(const struct tt_cmd *cmd, int argc, char **argv)
{
    static const struct option longs[] = {
        {"pid", required_argument, NULL, 'p'},
        {"force", no_argument, NULL, TT_OPT_FORCE},
        {"json", no_argument, NULL, TT_OPT_JSON},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct request request = {0};
    struct tt_inject_detached detached = {0};
    struct tt_error err = {0};
    bool served;
    int status = take(cmd, argc, argv, longs, &request, &served);
    if (status || served)
        return status;
    if (!request.force) {
        int code = tt_record_ask(request.pid, "detach", &err);
        if (code == 0) {
            if (request.json)
                printf("{\"pid\": %d, \"found\": true, \"asked\": true}\n", (int)request.pid);
            else
                printf("the telltale that recorded process %d has left it\n", (int)request.pid);
            return TT_EXIT_CLEAN;
        }
        if (code != -ENOENT)
            return tt_cmd_trouble(&err);
        err = (struct tt_error){0};
    }
    if (tt_record_detach(request.pid, request.force, &detached, &err) != 0)
        return tt_cmd_trouble(&err);
    say_detached(&request, &detached);
    return TT_EXIT_CLEAN;
}

static int run_switch(const struct tt_cmd *cmd, int argc, char **argv)
{
    static const struct option longs[] = {
        {"pid", required_argument, NULL, 'p'},
        {"mode", required_argument, NULL, TT_OPT_MODE},
        {"json", no_argument, NULL, TT_OPT_JSON},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    static const char *const words[] = {"", "mode exact", "mode sampled", "mode adaptive"};
    struct request request = {0};
    struct tt_error err = {0};
    bool served;
    int status = take(cmd, argc, argv, longs, &request, &served);
    if (status || served)
        return status;
    if (!request.mode)
        return tt_cmd_misuse(cmd, "no mode given (--mode exact, adaptive or sampled)");
    if (tt_record_ask(request.pid, words[request.mode], &err) != 0)
        return tt_cmd_trouble(&err);
    if (request.json)
        printf("{\"pid\": %d, \"mode\": \"%s\"}\n", (int)request.pid, words[request.mode] + 5);
    else
        printf("process %d is recorded in %s\n", (int)request.pid, words[request.mode]);
    return TT_EXIT_CLEAN;
}

const struct tt_cmd tt_cmd_detach = {
    .name = "detach",
    .summary = "take out of a process what telltale put into it",
    .usage = "-p PID [--force] [--json]",
    .options = "  -p, --pid PID            the process\n"
               "      --force              also while another telltale records it and does not "
               "answer\n"
               "      --json               the outcome as JSON\n",
    .examples = "  telltale detach -p 4711\n",
    .run = run_detach,
};

const struct tt_cmd tt_cmd_switch = {
    .name = "switch",
    .summary = "change the mode in which an attached process is recorded",
    .usage = "-p PID --mode MODE [--json]",
    .options = "  -p, --pid PID            a process that telltale attach records\n"
               "      --mode MODE          exact, adaptive or sampled\n"
               "      --json               the outcome as JSON\n",
    .examples = "  telltale switch -p 4711 --mode sampled\n",
    .run = run_switch,
};
