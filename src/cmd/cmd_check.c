/* SPDX-License-Identifier: Apache-2.0 */
/* telltale check: a gate for scripts and CI. Exit status 0 when no leak was found, 1 when one was;
 * a line for each. Start: run. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cmd/article.h"
#include "cmd/cmd.h"

enum { OPT_HORIZON = TT_CMD_LONG_FIRST, OPT_MAX_LOSS, OPT_JSON };

static int check(const struct tt_article_options *options, double max_loss, bool json)
{
    struct tt_error err = {0};
    struct tt_text text = {0};
    struct tt_judged *judged = tt_article_judge(options, &err);
    if (!judged || (json ? tt_article_write(judged, "json", &text, &err)
                         : tt_article_leaks(judged, &text, &err)) != 0) {
        tt_text_free(&text);
        tt_article_free_judged(judged);
        return tt_cmd_trouble(&err);
    }
    const struct tt_findings *f = tt_article_findings(judged);
    double lost = 0;
    size_t leaks = 0;
    for (size_t i = 0; i < f->list.len; i++)
        if (tt_verdict_is_leak(f->list.data[i].verdict)) {
            lost += tt_finding_lost_bytes(&f->list.data[i]);
            leaks++;
        }
    bool leaky = leaks > 0 && lost > max_loss;
    int status = leaky ? TT_EXIT_LEAK : TT_EXIT_CLEAN;
    char size[32];
    if (!json && leaks == 0)
        tt_text_add(&text, "no leak found in %llu sites\n", (unsigned long long)f->sites_looked_at);
    else if (!json)
        tt_text_add(&text, "%zu leak%s, %s lost%s\n", leaks, leaks == 1 ? "" : "s",
                    tt_text_size(size, lost), leaky ? "" : ", tolerated by --max-loss");
    if (tt_article_put("-", &text, &err) != 0)
        status = tt_cmd_trouble(&err);
    tt_text_free(&text);
    tt_article_free_judged(judged);
    return status;
}

static int run(const struct tt_cmd *cmd, int argc, char **argv)
{
    static const struct option longs[] = {
        {"help", no_argument, NULL, 'h'},
        {"horizon", required_argument, NULL, OPT_HORIZON},
        {"max-loss", required_argument, NULL, OPT_MAX_LOSS},
        {"json", no_argument, NULL, OPT_JSON},
        {NULL, 0, NULL, 0},
    };
    struct tt_article_options options = {0};
    unsigned long long max_loss = 0;
    bool json = false;
    int c, status = 0;
    while ((c = tt_cmd_option(cmd, argc, argv, ":h", longs, &status)) != -1) {
        switch (c) {
        case OPT_HORIZON:
            if (tt_cmd_take_seconds(cmd, "--horizon", optarg, &options.horizon))
                return TT_EXIT_USAGE;
            break;
        case OPT_MAX_LOSS:
            if (tt_cmd_parse_bytes(optarg, &max_loss))
                return tt_cmd_misuse(cmd, "--max-loss needs bytes such as 4096 or 1M, not '%s'",
                                     optarg);
            break;
        case OPT_JSON:
            json = true;
            break;
        default:
            return status;
        }
    }
    if (argc - optind != 1)
        return tt_cmd_misuse(cmd, argc == optind ? "no session given" : "one session at a time");
    options.session = argv[optind];
    return check(&options, (double)max_loss, json);
}

const struct tt_cmd tt_cmd_check = {
    .name = "check",
    .summary = "exit status 1 if a session shows a leak, 0 if not",
    .usage = "[OPTION...] SESSION",
    .options =
        "      --horizon TIME       age beyond which a unit counts as retained (the session's)\n"
        "      --max-loss BYTES     tolerate leaks that lost no more than this in all\n"
        "      --json               all findings as JSON\n",
    .examples = "  telltale check server.tt\n"
                "  telltale check --max-loss 1M server.tt || telltale report server.tt\n",
    .run = run,
};
