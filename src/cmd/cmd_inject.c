/* SPDX-License-Identifier: Apache-2.0 */
/* telltale inject: runs a command again and again, each time with one call failing at one call
 * stack, and says which failing call loses what. Start: run. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "cmd/article.h"
#include "cmd/cmd.h"
#include "cmd/version.h"
#include "fault/fault.h"
#include "report/faults.h"

enum {
    OPT_LOAD = TT_CMD_LONG_FIRST,
    OPT_BEFORE,
    OPT_BUDGET,
    OPT_TIMEOUT,
    OPT_SETTLE,
    OPT_FAULTS,
    OPT_NTH,
    OPT_CALLS,
    OPT_ERRORS,
    OPT_DEPTH,
    OPT_RESUME,
    OPT_OUTPUT,
    OPT_NO_SEARCH,
    OPT_REPORT,
    OPT_JSON,
};

struct inject {
    struct tt_fault_options fault;
    TT_VEC(uint32_t) nth;
    TT_VEC(const char *) calls;
    TT_VEC(int) errors;
    const char *report;
    bool json, quiet, terminal, drawn;
};

static volatile sig_atomic_t stop;

static void on_signal(int sig)
{
    (void)sig;
    stop = 1;
}

static void end_progress(struct inject *in)
{
    if (in->drawn)
        fputs("\r\033[K", stderr);
    in->drawn = false;
}

static void show_progress(void *arg, size_t done, size_t all, size_t losing, double seconds)
{
    struct inject *in = arg;
    char time[32];
    if (in->quiet || !in->terminal)
        return;
    fprintf(stderr, "\r\033[Ktelltale: %zu of %zu faults, %zu lose something, %s", done, all,
            losing, tt_text_duration(time, seconds));
    in->drawn = true;
    fflush(stderr);
}

static void say(void *arg, const char *line)
{
    struct inject *in = arg;
    struct tt_error err;
    end_progress(in);
    if (in->quiet)
        return;
    tt_error_set(&err, -EIO, "%s", line);
    tt_error_report(&err);
}

/* ---- options ---- */

static int take_nth(const struct tt_cmd *cmd, struct inject *in, const char *word)
{
    char *end;
    errno = 0;
    unsigned long n = strtoul(word, &end, 10);
    if (strcmp(word, "last") == 0)
        n = TT_FAULT_LAST;
    else if (strcmp(word, "every") == 0)
        n = TT_FAULT_EVERY;
    else if (errno || end == word || *end || *word == '-' || !n || n >= TT_FAULT_LAST)
        return tt_cmd_misuse(cmd, "--nth needs numbers from 1, last or every, not '%s'", word);
    return tt_vec_push(&in->nth, (uint32_t)n) ? TT_EXIT_TROUBLE : 0;
}

static int take_call(const struct tt_cmd *cmd, struct inject *in, const char *word)
{
    if (!tt_fault_call_known(word))
        return tt_cmd_misuse(
            cmd,
            "--calls knows memory, files, network, streams, threads, processes and "
            "the names of calls, not '%s'",
            word);
    return tt_vec_push(&in->calls, word) ? TT_EXIT_TROUBLE : 0;
}

static int take_error(const struct tt_cmd *cmd, struct inject *in, const char *word)
{
    if (strcmp(word, "all") == 0) {
        in->fault.all_errors = true;
        return 0;
    }
    int code = tt_fault_error_code(word);
    if (!code)
        return tt_cmd_misuse(cmd, "--errors needs names such as ENOMEM, or short, or all, not '%s'",
                             word);
    return tt_vec_push(&in->errors, code) ? TT_EXIT_TROUBLE : 0;
}

/* Cuts a list at its commas; the words stay in argv. */
static int take_list(const struct tt_cmd *cmd, struct inject *in, char *list,
                     int (*take)(const struct tt_cmd *, struct inject *, const char *))
{
    int status = 0;
    for (char *word; !status && (word = strsep(&list, ",")) != NULL;)
        status = take(cmd, in, word);
    return status;
}

static int take_count(const struct tt_cmd *cmd, const char *option, const char *text,
                      unsigned long long most, unsigned long long *out)
{
    if (tt_cmd_parse_bytes(text, out) || *out > most)
        return tt_cmd_misuse(cmd, "%s needs a number from 1 to %llu, not '%s'", option, most, text);
    return 0;
}

static int take(const struct tt_cmd *cmd, struct inject *in, int c, char *value)
{
    struct tt_fault_options *o = &in->fault;
    unsigned long long n = 0;
    int status = 0;
    switch (c) {
    case 'o':
        o->state = value;
        return 0;
    case 'f':
        o->follow = true;
        return 0;
    case 'q':
        in->quiet = true;
        return 0;
    case OPT_LOAD:
        o->load = value;
        return 0;
    case OPT_BEFORE:
        o->before = value;
        return 0;
    case OPT_BUDGET:
        return tt_cmd_take_seconds(cmd, "--budget", value, &o->budget);
    case OPT_TIMEOUT:
        return tt_cmd_take_seconds(cmd, "--timeout", value, &o->timeout);
    case OPT_SETTLE:
        return tt_cmd_take_seconds(cmd, "--settle", value, &o->settle);
    case OPT_FAULTS:
        status = take_count(cmd, "--faults", value, 1ULL << 32, &n);
        o->most = (size_t)n;
        return status;
    case OPT_DEPTH:
        status = take_count(cmd, "--depth", value, TT_FAULT_DEPTH, &n);
        o->depth = (unsigned)n;
        return status;
    case OPT_NTH:
        return take_list(cmd, in, value, take_nth);
    case OPT_CALLS:
        return take_list(cmd, in, value, take_call);
    case OPT_ERRORS:
        return take_list(cmd, in, value, take_error);
    case OPT_RESUME:
        o->resume = true;
        return 0;
    case OPT_OUTPUT:
        o->output = true;
        return 0;
    case OPT_NO_SEARCH:
        o->no_search = true;
        return 0;
    case OPT_REPORT:
        in->report = value;
        return 0;
    case OPT_JSON:
        in->json = true;
        return 0;
    default:
        return tt_cmd_misuse(cmd, "unknown option");
    }
}

/* ---- */

static int work(struct inject *in)
{
    struct tt_fault_result result;
    struct tt_error err = {0};
    struct tt_text text = {0};
    const struct sigaction on = {.sa_handler = on_signal};
    for (size_t i = 0; i < 4; i++)
        sigaction((const int[]){SIGINT, SIGTERM, SIGHUP, SIGQUIT}[i], &on, NULL);
    int code = tt_fault_campaign(&in->fault, &result, &err);
    end_progress(in);
    if (!code) {
        const struct tt_report_faults report = {
            .result = &result, .argv = in->fault.argv, .tool_version = TT_VERSION};
        code = tt_report_faults(in->json ? "json" : "text", &report, &text, &err);
    }
    if (!code)
        code = tt_article_put(in->report ? in->report : "-", &text, &err);
    int status = code ? tt_cmd_trouble(&err) : result.losing ? TT_EXIT_LEAK : TT_EXIT_CLEAN;
    tt_text_free(&text);
    tt_fault_result_free(&result);
    return status;
}

static int run(const struct tt_cmd *cmd, int argc, char **argv)
{
    static const struct option longs[] = {
        {"help", no_argument, NULL, 'h'},
        {"output", required_argument, NULL, 'o'},
        {"follow", no_argument, NULL, 'f'},
        {"quiet", no_argument, NULL, 'q'},
        {"load", required_argument, NULL, OPT_LOAD},
        {"before", required_argument, NULL, OPT_BEFORE},
        {"budget", required_argument, NULL, OPT_BUDGET},
        {"timeout", required_argument, NULL, OPT_TIMEOUT},
        {"settle", required_argument, NULL, OPT_SETTLE},
        {"faults", required_argument, NULL, OPT_FAULTS},
        {"nth", required_argument, NULL, OPT_NTH},
        {"calls", required_argument, NULL, OPT_CALLS},
        {"errors", required_argument, NULL, OPT_ERRORS},
        {"depth", required_argument, NULL, OPT_DEPTH},
        {"resume", no_argument, NULL, OPT_RESUME},
        {"show-output", no_argument, NULL, OPT_OUTPUT},
        {"no-search", no_argument, NULL, OPT_NO_SEARCH},
        {"report", required_argument, NULL, OPT_REPORT},
        {"json", no_argument, NULL, OPT_JSON},
        {NULL, 0, NULL, 0},
    };
    struct inject in = {.fault = {.timeout = 30, .settle = 0.3}};
    int c, status = 0;
    in.fault.arg = &in;
    in.fault.progress = show_progress;
    in.fault.say = say;
    in.fault.stop = &stop;
    in.terminal = isatty(STDERR_FILENO);
    while (status == 0 && (c = tt_cmd_option(cmd, argc, argv, "+:o:fqh", longs, &status)) != -1) {
        if (c == '?')
            goto out;
        status = take(cmd, &in, c, optarg);
    }
    if (!status && optind >= argc)
        status = tt_cmd_misuse(cmd, "no command to run");
    if (!status && in.fault.resume && !in.fault.state)
        status = tt_cmd_misuse(cmd, "--resume needs the file of the first part, -o FILE");
    if (status)
        goto out;
    in.fault.argv = argv + optind;
    in.fault.nth = in.nth.data;
    in.fault.n_nth = in.nth.len;
    in.fault.calls = in.calls.data;
    in.fault.n_calls = in.calls.len;
    in.fault.errors = in.errors.data;
    in.fault.n_errors = in.errors.len;
    status = work(&in);
out:
    tt_vec_free(&in.nth);
    tt_vec_free(&in.calls);
    tt_vec_free(&in.errors);
    return status;
}

const struct tt_cmd tt_cmd_inject = {
    .name = "inject",
    .summary = "make each call of a command fail once and say what is lost",
    .usage = "[-o FILE] [--budget TIME] [--load CMD] [OPTION...] -- CMD [ARG...]",
    .options =
        "  -o, --output FILE        keep what was tried, so that --resume can go on\n"
        "      --resume             go on with the file of -o\n"
        "  -f, --follow             forked children too: a call fails in one process of each run\n"
        "      --budget TIME        begin no further run after 60, 10m, 2h\n"
        "      --faults N           try at most N faults this time\n"
        "      --load CMD           CMD is a server: run this shell command against it, then end "
        "it\n"
        "      --before CMD         run this shell command before each run\n"
        "      --nth LIST           which calls of a stack fail: 1, 2, ..., last, every (1,2)\n"
        "      --calls LIST         memory, files, network, streams, threads, processes, or names\n"
        "      --errors LIST        ENOMEM, EINTR, short, ..., or all (the usual ones of each "
        "call)\n"
        "      --depth N            only the N innermost frames tell stacks apart (64)\n"
        "      --timeout TIME       a run that takes longer hangs (30)\n"
        "      --settle TIME        a server is looked at when it held the same for so long (0.3)\n"
        "      --no-search          count heap blocks only, do not look which can be reached\n"
        "      --show-output        what the command prints goes to standard error\n"
        "      --report FILE        write the report there, - is standard output (the default)\n"
        "      --json               the report as JSON\n"
        "  -q, --quiet              no progress on standard error\n",
    .examples =
        "  telltale inject -- ./prog --once input.txt\n"
        "  telltale inject --budget 10m -o prog.faults --resume -- ./prog input.txt\n"
        "  telltale inject --load './client 8080' --calls network,memory -- ./server 8080\n",
    .run = run,
};
