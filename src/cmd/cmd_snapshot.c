/* SPDX-License-Identifier: Apache-2.0 */
/* telltale snapshot: searches a frozen copy of a process, once, for blocks that nothing points to.
 * Start: run. */
#include "cmd/recording.h"

static int run(const struct tt_cmd *cmd, int argc, char **argv)
{
    static const struct option longs[] = {
        {"pid", required_argument, NULL, 'p'},
        {"pause-budget", required_argument, NULL, TT_OPT_PAUSE_BUDGET},
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
    int c, status = 0;
    tt_recording_start(&r, "telltale-%p.tt");
    while (status == 0 && (c = tt_cmd_option(cmd, argc, argv, ":p:o:qh", longs, &status)) != -1) {
        if (c == '?')
            goto out;
        status = tt_recording_option(cmd, &r, c, optarg);
    }
    if (!status && optind < argc)
        status =
            tt_cmd_misuse(cmd, "'%s' is no option: a process is given with -p PID", argv[optind]);
    else if (!status && r.pids.len != 1)
        status =
            tt_cmd_misuse(cmd, r.pids.len ? "one process at a time" : "no process given (-p PID)");
    if (!status)
        status = tt_recording_ready(cmd, &r);
    if (status)
        goto out;
    if (tt_record_snapshot(&r.record, &result, &err) != 0) {
        tt_recording_free(&r);
        return tt_cmd_trouble(&err);
    }
    status = tt_recording_finish(&r, &result);
out:
    tt_recording_free(&r);
    return status;
}

const struct tt_cmd tt_cmd_snapshot = {
    .name = "snapshot",
    .summary = "what a running process has lost up to now",
    .usage = "-p PID [-o FILE] [OPTION...]",
    .options =
        "  -p, --pid PID            the process; it is stopped for some milliseconds per GB\n"
        "  -o, --output FILE        the session file; %p is the pid, %h the host (telltale-%p.tt)\n"
        "      --pause-budget MS    refuse if it would be stopped longer, beyond 1 GB per GB\n"
        "      --report FILE        write the article there, - is standard output (standard "
        "error)\n"
        "      --json               the article as JSON\n"
        "      --color WHEN         auto, always or never\n"
        "  -q, --quiet              no article on standard error\n",
    .examples = "  telltale snapshot -p 4711\n"
                "  telltale snapshot -p 4711 -o now.tt --json --report -\n",
    .run = run,
};
