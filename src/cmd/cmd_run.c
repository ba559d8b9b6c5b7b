/* SPDX-License-Identifier: Apache-2.0 */
/* telltale run: records a command from its start to its end and writes its article. Standard input
 * and output belong to the command; what telltale says goes to standard error.
 * Start: run. */
#include "cmd/recording.h"

static int words(const struct tt_cmd *cmd, struct tt_recording *r, int n, char **words)
{
    r->record.argv = words;
    return n ? 0 : tt_cmd_misuse(cmd, "no command to run");
}

static int record(struct tt_recording *r, struct tt_record_result *result, struct tt_error *err)
{
    return tt_record_run(&r->record, result, err);
}

static int run(const struct tt_cmd *cmd, int argc, char **argv)
{
    static const struct option longs[] = {TT_RECORDING_LONGS};
    static const struct tt_recording_kind kind = {.letters = "+:o:fd:qh",
                                                  .longs = longs,
                                                  .snapshots = TT_SNAPSHOTS_OFF,
                                                  .words = words,
                                                  .record = record};
    return tt_recording_run(cmd, argc, argv, &kind);
}

const struct tt_cmd tt_cmd_run = {
    .name = "run",
    .summary = "record a command from its start and write its article",
    .usage = "[-o FILE] [--mode MODE] [-f] [-d TIME] [OPTION...] -- CMD [ARG...]",
    .options = TT_RECORDING_HELP_MODE
    "  -f, --follow             record forked children too, until the last has ended\n"
    "  -d, --duration TIME      stop recording after 90, 10m, 2h; the command goes "
    "on\n" TT_RECORDING_HELP("off"),
    .examples =
        "  telltale run -- ./server --port 8080\n"
        "  telltale run -f -o web.tt -- nginx -g 'daemon off;'\n"
        "  telltale run --mode adaptive --operation call=call_new -o call.tt -- ./tapisrv\n",
    .run = run,
};
