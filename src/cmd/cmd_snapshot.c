/* SPDX-License-Identifier: Apache-2.0 */
/* telltale snapshot: searches a frozen copy of a process, once, for blocks that nothing points to.
 * Start: run. */
#include "cmd/recording.h"

static int words(const struct tt_cmd *cmd, struct tt_recording *r, int n, char **words)
{
    if (r->pids.len > 1)
        return tt_cmd_misuse(cmd, "one process at a time");
    return tt_recording_only_pids(cmd, r, n, words);
}

static int record(struct tt_recording *r, struct tt_record_result *result, struct tt_error *err)
{
    return tt_record_snapshot(&r->record, result, err);
}

static int run(const struct tt_cmd *cmd, int argc, char **argv)
{
    static const struct option longs[] = {
        {"pid", required_argument, NULL, 'p'},
        {"pause-budget", required_argument, NULL, TT_OPT_PAUSE_BUDGET},
        TT_RECORDING_FRONT_LONGS,
        {NULL, 0, NULL, 0},
    };
    static const struct tt_recording_kind kind = {
        .letters = ":p:o:qh", .longs = longs, .words = words, .record = record};
    return tt_recording_run(cmd, argc, argv, &kind);
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
