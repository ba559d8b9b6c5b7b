/* SPDX-License-Identifier: Apache-2.0 */
/* telltale list: the sites of a session, largest live bytes first. Start: run. */
#include <errno.h>
#include <stdio.h>

#include "cmd/article.h"
#include "cmd/cmd.h"
#include "report/material.h"

enum { OPT_JSON = TT_CMD_LONG_FIRST };

static int list(const char *path, size_t max, const char *format)
{
    struct tt_error err = {0};
    struct tt_text text = {0};
    struct tt_report_material *material = NULL;
    struct tt_report_sites sites = {0};
    int status = TT_EXIT_CLEAN;
    struct tt_session *session = tt_session_open(path, &err);
    if (!session)
        return tt_cmd_trouble(&err);
    const struct tt_report_source source = {session, path, TT_REPORT_JUDGED};
    material = tt_report_material_open(&source, 1, NULL, &err);
    if (!material || tt_report_material_sites(material, max, &sites, &err) != 0 ||
        tt_report_sites(format, &sites, &text, &err) != 0 || tt_article_put("-", &text, &err) != 0)
        status = tt_cmd_trouble(&err);
    tt_text_free(&text);
    if (material)
        tt_report_material_close(material);
    tt_session_close(session);
    return status;
}

static int run(const struct tt_cmd *cmd, int argc, char **argv)
{
    static const struct option longs[] = {
        {"help", no_argument, NULL, 'h'},
        {"lines", required_argument, NULL, 'n'},
        {"json", no_argument, NULL, OPT_JSON},
        {NULL, 0, NULL, 0},
    };
    unsigned long long lines = 40;
    const char *format = "text";
    int c, status = 0;
    while ((c = tt_cmd_option(cmd, argc, argv, ":n:h", longs, &status)) != -1) {
        switch (c) {
        case 'n':
            if (optarg[0] == '0' && !optarg[1])
                lines = ~0ULL >> 1;
            else if (tt_cmd_parse_bytes(optarg, &lines))
                return tt_cmd_misuse(cmd, "--lines needs a number, 0 for all, not '%s'", optarg);
            break;
        case OPT_JSON:
            format = "json";
            break;
        default:
            return status;
        }
    }
    if (argc - optind != 1)
        return tt_cmd_misuse(cmd, argc == optind ? "no session given" : "one session at a time");
    return list(argv[optind], (size_t)lines, format);
}

const struct tt_cmd tt_cmd_list = {
    .name = "list",
    .summary = "list the sites of a session, largest live bytes first",
    .usage = "[OPTION...] SESSION",
    .options = "  -n, --lines N            at most N sites, 0 for all (40)\n"
               "      --json               as JSON\n",
    .examples = "  telltale list server.tt\n"
                "  telltale list -n 0 --json server.tt | jq '.sites | length'\n",
    .run = run,
};
