/* SPDX-License-Identifier: Apache-2.0 */
/* telltale core: searches a core file for blocks that nothing points to.
 * Start: run. */
#include "cmd/recording.h"

static int words(const struct tt_cmd *cmd, struct tt_recording *r, int n, char **words)
{
    if (n != 1)
        return tt_cmd_misuse(cmd, n ? "one core file at a time" : "no core file given");
    r->core = words[0];
    return 0;
}

static int record(struct tt_recording *r, struct tt_record_result *result, struct tt_error *err)
{
    return tt_record_core(&r->record, r->core, r->exe, result, err);
}

static int run(const struct tt_cmd *cmd, int argc, char **argv)
{
    static const struct option longs[] = {
        {"exe", required_argument, NULL, TT_OPT_EXE},
        TT_RECORDING_FRONT_LONGS,
        {NULL, 0, NULL, 0},
    };
    static const struct tt_recording_kind kind = {
        .letters = ":o:qh", .longs = longs, .words = words, .record = record};
    return tt_recording_run(cmd, argc, argv, &kind);
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
