/* SPDX-License-Identifier: Apache-2.0 */
/* telltale core: searches a core file for blocks that nothing points to.
 * Start: run. */
#include "cmd/recording.h"

static int run(const struct tt_cmd *cmd, int argc, char **argv)
{
    static const struct option longs[] = {
        {"exe", required_argument, NULL, TT_OPT_EXE},
        {"output", required_argument, NULL, 'o'},
        {"quiet", no_argument, NULL, 'q'},
        {"help", no_argument, NULL, 'h'},
        {"report", required_argument, NULL, TT_OPT_REPORT},
        {"json", no_argument, NULL, TT_OPT_JSON},
        {"color", required_argument, NULL, TT_OPT_COLOR},
        {NULL, 0, NULL, 0},
    };
    struct tt_recording r;
    struct tt_record_result result = {0};
    struct tt_error err = {0};
    const char *exe = NULL;
    int c, status = 0;
    tt_recording_start(&r, "telltale-%p.tt");
    while (status == 0 && (c = tt_cmd_option(cmd, argc, argv, ":o:qh", longs, &status)) != -1) {
        if (c == '?')
            goto out;
        if (c == TT_OPT_EXE)
            exe = optarg;
        else
            status = tt_recording_option(cmd, &r, c, optarg);
    }
    if (!status && argc - optind != 1)
        status =
            tt_cmd_misuse(cmd, argc == optind ? "no core file given" : "one core file at a time");
    if (!status)
        status = tt_recording_ready(cmd, &r);
    if (status)
        goto out;
    if (tt_record_core(&r.record, argv[optind], exe, &result, &err) != 0) {
        tt_recording_free(&r);
        return tt_cmd_trouble(&err);
    }
    status = tt_recording_finish(&r, &result);
out:
    tt_recording_free(&r);
    return status;
}

const struct tt_cmd tt_cmd_core = {
    .name = "core",
    .summary = "what a process had lost when it dumped core",
    .usage = "[--exe FILE] [-o FILE] [OPTION...] CORE",
    .options =
        "      --exe FILE           the program that dumped it (as the core says)\n"
        "  -o, --output FILE        the session file; %p is the pid, %h the host (telltale-%p.tt)\n"
        "      --report FILE        write the article there, - is standard output (standard "
        "error)\n"
        "      --json               the article as JSON\n"
        "      --color WHEN         auto, always or never\n"
        "  -q, --quiet              no article on standard error\n",
    .examples = "  telltale core core.4711\n"
                "  gcore -o /tmp/core 4711 && telltale core --exe ./tapisrv /tmp/core.4711\n",
    .run = run,
};
