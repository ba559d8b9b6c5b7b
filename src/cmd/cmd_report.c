/* SPDX-License-Identifier: Apache-2.0 */
/* telltale report: judges a session and writes its article, with controls and a fixed build beside
 * it if they are given. Start: run. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cmd/article.h"
#include "cmd/cmd.h"

enum {
    OPT_FORMAT = TT_CMD_LONG_FIRST,
    OPT_JSON,
    OPT_CONTROL,
    OPT_FIXED,
    OPT_HORIZON,
    OPT_SYSROOT,
    OPT_DEBUG_PATH,
    OPT_COLOR,
};

struct settings {
    struct tt_article_options article;
    TT_VEC(const char *) controls, fixed, debug_paths;
    const char *format, *output, *colour;
};

static bool known_format(const char *name)
{
    for (const char *const *f = tt_report_formats(); *f; f++)
        if (strcmp(*f, name) == 0)
            return true;
    return false;
}

static int set_option(const struct tt_cmd *cmd, struct settings *s, int c, const char *value)
{
    int r = 0;
    switch (c) {
    case 'o':
        s->output = value;
        return 0;
    case OPT_FORMAT:
        if (!known_format(value))
            return tt_cmd_misuse(cmd, "--format is text, markdown or json, not '%s'", value);
        s->format = value;
        return 0;
    case OPT_JSON:
        s->format = "json";
        return 0;
    case OPT_CONTROL:
        r = tt_vec_push(&s->controls, value);
        break;
    case OPT_FIXED:
        r = tt_vec_push(&s->fixed, value);
        break;
    case OPT_DEBUG_PATH:
        r = tt_vec_push(&s->debug_paths, value);
        break;
    case OPT_SYSROOT:
        s->article.symbols.sysroot = value;
        return 0;
    case OPT_HORIZON:
        return tt_cmd_take_seconds(cmd, "--horizon", value, &s->article.horizon);
    case OPT_COLOR:
        return tt_cmd_take_colour(cmd, value, &s->colour);
    default:
        return tt_cmd_misuse(cmd, "unknown option");
    }
    return r ? TT_EXIT_TROUBLE : 0;
}

static int show_fetch(void *arg, const char *module, long have, long total)
{
    (void)arg;
    char size[32];
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[Ktelltale: fetching debug information of %s, %s%s", module,
                tt_text_size(size, (double)have), total > 0 && have >= total ? "\n" : "");
    return 0;
}

static int write_report(struct settings *s)
{
    struct tt_error err = {0};
    struct tt_text text = {0};
    int status = TT_EXIT_CLEAN;
    s->article.colour = strcmp(s->output, "-") == 0 && tt_cmd_colour(STDOUT_FILENO, s->colour);
    if (s->colour && strcmp(s->colour, "always") == 0)
        s->article.colour = true;
    struct tt_judged *judged = tt_article_judge(&s->article, &err);
    if (!judged || tt_article_write(judged, s->format, &text, &err) != 0 ||
        tt_article_put(s->output, &text, &err) != 0)
        status = tt_cmd_trouble(&err);
    tt_text_free(&text);
    tt_article_free_judged(judged);
    return status;
}

static int run(const struct tt_cmd *cmd, int argc, char **argv)
{
    static const struct option longs[] = {
        {"output", required_argument, NULL, 'o'},
        {"help", no_argument, NULL, 'h'},
        {"format", required_argument, NULL, OPT_FORMAT},
        {"json", no_argument, NULL, OPT_JSON},
        {"control", required_argument, NULL, OPT_CONTROL},
        {"fixed", required_argument, NULL, OPT_FIXED},
        {"horizon", required_argument, NULL, OPT_HORIZON},
        {"sysroot", required_argument, NULL, OPT_SYSROOT},
        {"debug-path", required_argument, NULL, OPT_DEBUG_PATH},
        {"color", required_argument, NULL, OPT_COLOR},
        {NULL, 0, NULL, 0},
    };
    struct settings s = {.format = "text", .output = "-"};
    s.article.symbols.debuginfod = true;
    s.article.symbols.progress = show_fetch;
    int c, status = 0;
    while (status == 0 && (c = tt_cmd_option(cmd, argc, argv, ":o:h", longs, &status)) != -1) {
        if (c == '?')
            goto out;
        status = set_option(cmd, &s, c, optarg);
    }
    if (status)
        goto out;
    if (argc - optind != 1) {
        status = argc == optind ? tt_cmd_misuse(cmd, "no session given")
                                : tt_cmd_misuse(cmd,
                                                "one session at a time; '%s' is too many "
                                                "(others go behind --control or --fixed)",
                                                argv[optind + 1]);
        goto out;
    }
    s.article.session = argv[optind];
    s.article.controls = s.controls.data;
    s.article.n_controls = s.controls.len;
    s.article.fixed = s.fixed.data;
    s.article.n_fixed = s.fixed.len;
    s.article.symbols.debug_paths = s.debug_paths.data;
    s.article.symbols.n_debug_paths = s.debug_paths.len;
    status = write_report(&s);
out:
    tt_vec_free(&s.controls);
    tt_vec_free(&s.fixed);
    tt_vec_free(&s.debug_paths);
    return status;
}

const struct tt_cmd tt_cmd_report = {
    .name = "report",
    .summary = "judge a session and write its article",
    .usage = "[OPTION...] SESSION",
    .options =
        "      --format FORMAT      text (default), markdown or json\n"
        "      --json               the same as --format json\n"
        "      --control SESSION    a run of the same program under other conditions; repeatable\n"
        "      --fixed SESSION      a run of the repaired build\n"
        "      --horizon TIME       age beyond which a unit counts as retained (the session's)\n"
        "      --sysroot DIR        where the recorded machine's files are\n"
        "      --debug-path DIR     where separate debug files are; repeatable\n"
        "  -o, --output FILE        write there, - is standard output\n"
        "      --color WHEN         auto, always or never\n",
    .examples =
        "  telltale report call.tt\n"
        "  telltale report call.tt --control two-owners.tt --fixed hotfix.tt -o article.txt\n"
        "  telltale report call.tt --json | jq '.findings[].verdict'\n",
    .run = run,
};
