/* SPDX-License-Identifier: Apache-2.0 */
/* telltale run: records a command from its start to its end and writes its article. Standard input
 * and output belong to the command; what telltale says goes to standard error.
 * Start: run. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/article.h"
#include "cmd/cmd.h"
#include "cmd/functions.h"
#include "cmd/version.h"
#include "proc/command.h"

enum {
    OPT_MODE = TT_CMD_LONG_FIRST,
    OPT_MEAN,
    OPT_RATE,
    OPT_HORIZON,
    OPT_OPERATION,
    OPT_LABEL,
    OPT_REPORT,
    OPT_JSON,
    OPT_COLOR,
};

struct settings {
    struct tt_record_options record;
    TT_VEC(struct tt_record_label) labels;
    TT_VEC(struct tt_record_operation) operations;
    const char *report; /* NULL: standard error */
    const char *colour;
    bool json, quiet, terminal, drawn;
    struct tt_functions functions;
};

/* Splits KEY=VALUE in place. */
static int split(char *text, const char **key, const char **value)
{
    char *equals = strchr(text, '=');
    if (!equals || equals == text || !equals[1])
        return -EINVAL;
    *equals = '\0';
    *key = text;
    *value = equals + 1;
    return 0;
}

static int parse_mode(const char *text, enum tt_tape_mode *mode)
{
    static const char *const names[] = {
        [TT_MODE_EXACT] = "exact", [TT_MODE_SAMPLED] = "sampled", [TT_MODE_ADAPTIVE] = "adaptive"};
    for (unsigned m = TT_MODE_EXACT; m <= TT_MODE_ADAPTIVE; m++)
        if (strcmp(text, names[m]) == 0) {
            *mode = (enum tt_tape_mode)m;
            return 0;
        }
    return -EINVAL;
}

static int set_option(const struct tt_cmd *cmd, struct settings *s, int c, char *value)
{
    unsigned long long n;
    switch (c) {
    case 'o':
        if (strcmp(value, "-") == 0)
            return tt_cmd_misuse(cmd, "a session is a database and cannot go to standard output; "
                                      "give -o a file name, or --report -");
        s->record.output = value;
        return 0;
    case 'f':
        s->record.follow = true;
        return 0;
    case 'q':
        s->quiet = true;
        return 0;
    case 'd':
        return tt_cmd_take_seconds(cmd, "--duration", value, &s->record.duration);
    case OPT_MODE:
        if (parse_mode(value, &s->record.mode))
            return tt_cmd_misuse(cmd, "--mode is exact, adaptive or sampled, not '%s'", value);
        return 0;
    case OPT_MEAN:
        if (tt_cmd_parse_bytes(value, &n) || n < 64 || n > 1ULL << 40)
            return tt_cmd_misuse(cmd, "--mean needs bytes from 64 up, such as 512K, not '%s'",
                                 value);
        s->record.sample_mean = n;
        return 0;
    case OPT_RATE:
        if (tt_cmd_parse_bytes(value, &n) || n > 1000000)
            return tt_cmd_misuse(cmd, "--rate needs samples a second from 1 to 1000000, not '%s'",
                                 value);
        s->record.rate = (uint32_t)n;
        return 0;
    case OPT_HORIZON:
        return tt_cmd_take_seconds(cmd, "--horizon", value, &s->record.horizon);
    case OPT_OPERATION: {
        struct tt_record_operation operation;
        if (split(value, &operation.name, &operation.function))
            return tt_cmd_misuse(cmd, "--operation needs NAME=FUNCTION, not '%s'", value);
        return tt_vec_push(&s->operations, operation) ? TT_EXIT_TROUBLE : 0;
    }
    case OPT_LABEL: {
        struct tt_record_label label;
        if (split(value, &label.key, &label.value))
            return tt_cmd_misuse(cmd, "--label needs KEY=VALUE, not '%s'", value);
        return tt_vec_push(&s->labels, label) ? TT_EXIT_TROUBLE : 0;
    }
    case OPT_REPORT:
        s->report = value;
        return 0;
    case OPT_JSON:
        s->json = true;
        return 0;
    case OPT_COLOR:
        return tt_cmd_take_colour(cmd, value, &s->colour);
    default:
        return tt_cmd_misuse(cmd, "unknown option");
    }
}

static void show_progress(void *arg, const struct tt_record_progress *p)
{
    struct settings *s = arg;
    if (s->quiet || !s->terminal)
        return;
    char units[32], size[32], time[32], file[32];
    fprintf(stderr, "\r\033[Ktelltale: %s, %s live units (%s), %llu sites, session %s",
            tt_text_duration(time, p->seconds), tt_text_count(units, p->live_units),
            tt_text_size(size, (double)p->live_bytes), (unsigned long long)p->sites,
            tt_text_size(file, (double)p->session_bytes));
    s->drawn = true;
    fflush(stderr);
}

static void end_progress(struct settings *s)
{
    if (s->drawn)
        fputs("\r\033[K", stderr);
    s->drawn = false;
}

static void say(void *arg, const char *line)
{
    struct tt_error err;
    end_progress(arg);
    tt_error_set(&err, -EIO, "%s", line);
    tt_error_report(&err);
}

static int resolve(void *arg, const struct tt_session_module *modules, size_t n,
                   const char *function, struct tt_record_function *out, struct tt_error *err)
{
    return tt_functions_find(&((struct settings *)arg)->functions, modules, n, function, out, err);
}

static size_t entries(void *arg, const struct tt_session_module *modules, size_t n,
                      const uint64_t *frames, size_t n_frames, struct tt_record_function *out,
                      size_t max)
{
    return tt_functions_on_stack(&((struct settings *)arg)->functions, modules, n, frames, n_frames,
                                 out, max);
}

/* The article of what was recorded, to standard error or where --report says. */
static int write_article(const struct settings *s, const char *session)
{
    struct tt_error err = {0};
    const struct tt_article_options options = {
        .session = session,
        .colour = !s->report && tt_cmd_colour(STDERR_FILENO, s->colour),
    };
    struct tt_text text = {0};
    int status = TT_EXIT_CLEAN;
    struct tt_judged *judged = tt_article_judge(&options, &err);
    if (!judged || tt_article_write(judged, s->json ? "json" : "text", &text, &err) != 0)
        status = tt_cmd_trouble(&err);
    else if (s->report && tt_article_put(s->report, &text, &err) != 0)
        status = tt_cmd_trouble(&err);
    else if (!s->report)
        fwrite(text.data, 1, text.len, stderr);
    tt_text_free(&text);
    tt_article_free_judged(judged);
    return status;
}

static int record(const struct tt_cmd *cmd, struct settings *s)
{
    struct tt_error err = {0};
    struct tt_record_result result = {0};
    char *probe = tt_text_expand(s->record.output, 1);
    if (!probe)
        return tt_cmd_misuse(cmd, "-o knows %%p, %%h and %%%%; '%s' has another letter",
                             s->record.output);
    free(probe);
    int r = tt_record_run(&s->record, &result, &err);
    end_progress(s);
    if (r != 0)
        return tt_cmd_trouble(&err);
    if (result.refused) {
        tt_error_set(&err, -ENOTSUP, "could not record inside %u of %u processes: %s",
                     result.refused, result.processes, result.refused_why);
        tt_error_report(&err);
    }
    if (result.went_on) {
        tt_error_set(&err, -ECHILD, "the command went on in a child (pid %d): use -f to follow it",
                     (int)result.went_on);
        tt_error_report(&err);
    }
    int status = result.trouble ? TT_EXIT_TROUBLE : TT_EXIT_CLEAN;
    if (result.output[0] && (!s->quiet || s->report)) {
        if (!s->quiet)
            fprintf(stderr, "telltale: session %s\n", result.output);
        if (write_article(s, result.output) != TT_EXIT_CLEAN)
            status = TT_EXIT_TROUBLE;
    }
    return status ? status : tt_record_exit(result.status);
}

static int run(const struct tt_cmd *cmd, int argc, char **argv)
{
    static const struct option longs[] = {
        {"output", required_argument, NULL, 'o'},
        {"follow", no_argument, NULL, 'f'},
        {"duration", required_argument, NULL, 'd'},
        {"quiet", no_argument, NULL, 'q'},
        {"help", no_argument, NULL, 'h'},
        {"mode", required_argument, NULL, OPT_MODE},
        {"mean", required_argument, NULL, OPT_MEAN},
        {"rate", required_argument, NULL, OPT_RATE},
        {"horizon", required_argument, NULL, OPT_HORIZON},
        {"operation", required_argument, NULL, OPT_OPERATION},
        {"label", required_argument, NULL, OPT_LABEL},
        {"report", required_argument, NULL, OPT_REPORT},
        {"json", no_argument, NULL, OPT_JSON},
        {"color", required_argument, NULL, OPT_COLOR},
        {NULL, 0, NULL, 0},
    };
    struct settings s = {
        .record = {.output = "telltale-%p.tt",
                   .tool_version = TT_VERSION,
                   .progress = show_progress,
                   .say = say,
                   .resolve = resolve,
                   .entries = entries},
        .terminal = isatty(STDERR_FILENO),
    };
    int c, status = 0;
    while (status == 0 && (c = tt_cmd_option(cmd, argc, argv, "+:o:fd:qh", longs, &status)) != -1) {
        if (c == '?')
            goto out;
        status = set_option(cmd, &s, c, optarg);
    }
    if (status)
        goto out;
    if (optind >= argc) {
        status = tt_cmd_misuse(cmd, "no command to run");
        goto out;
    }
    s.record.arg = &s;
    s.record.argv = argv + optind;
    s.record.labels = s.labels.data;
    s.record.n_labels = s.labels.len;
    s.record.operations = s.operations.data;
    s.record.n_operations = s.operations.len;
    status = record(cmd, &s);
out:
    tt_functions_close(&s.functions);
    tt_vec_free(&s.labels);
    tt_vec_free(&s.operations);
    return status;
}

const struct tt_cmd tt_cmd_run = {
    .name = "run",
    .summary = "record a command from its start and write its article",
    .usage = "[-o FILE] [--mode MODE] [-f] [-d TIME] [OPTION...] -- CMD [ARG...]",
    .options =
        "  -o, --output FILE        the session file; %p is the pid, %h the host (telltale-%p.tt)\n"
        "      --mode MODE          exact (every block, the default), adaptive, or sampled\n"
        "      --mean BYTES         sampled: mean distance of samples (512K)\n"
        "      --rate N             adaptive: samples a second for each key (1)\n"
        "  -f, --follow             record forked children too, until the last has ended\n"
        "  -d, --duration TIME      stop recording after 90, 10m, 2h; the command goes on\n"
        "      --horizon TIME       age beyond which a unit counts as retained (600)\n"
        "      --operation NAME=FN  count entries of function FN as operation NAME\n"
        "      --label KEY=VALUE    a covariate of this run, for the law across sessions\n"
        "      --report FILE        write the article there, - is standard output (standard "
        "error)\n"
        "      --json               the article as JSON\n"
        "      --color WHEN         auto, always or never\n"
        "  -q, --quiet              no progress and no article on standard error\n",
    .examples =
        "  telltale run -- ./server --port 8080\n"
        "  telltale run -f -o web.tt -- nginx -g 'daemon off;'\n"
        "  telltale run --mode adaptive --operation call=call_new -o call.tt -- ./tapisrv\n",
    .run = run,
};
