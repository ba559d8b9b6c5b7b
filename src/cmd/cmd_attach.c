/* SPDX-License-Identifier: Apache-2.0 */
/* telltale attach: records processes that run already, leaves them running, and writes the article.
 * Start: run. */
#include "cmd/recording.h"

static int record(struct tt_recording *r, struct tt_record_result *result, struct tt_error *err)
{
    return tt_record_attach(&r->record, result, err);
}

static int run(const struct tt_cmd *cmd, int argc, char **argv)
{
    static const struct option longs[] = {{"pid", required_argument, NULL, 'p'},
                                          TT_RECORDING_LONGS};
    static const struct tt_recording_kind kind = {.letters = ":p:o:fd:qh",
                                                  .longs = longs,
                                                  .snapshots = TT_SNAPSHOTS_AUTO,
                                                  .words = tt_recording_only_pids,
                                                  .record = record};
    return tt_recording_run(cmd, argc, argv, &kind);
}

const struct tt_cmd tt_cmd_attach = {
    .name = "attach",
    .summary = "record processes that run already, without restarting them",
    .usage = "-p PID [-p PID...] [-o FILE] [--mode MODE] [-f] [-d TIME] [OPTION...]",
    .options = "  -p, --pid PID            the process; more than one may be "
               "given\n" TT_RECORDING_HELP_MODE
               "  -f, --follow             record forked children too, and go on after an exec\n"
               "  -d, --duration TIME      leave the process after 90, 10m, 2h (until ^C or its "
               "end)\n" TT_RECORDING_HELP("auto"),
    .examples =
        "  telltale attach -p 4711 -d 10m\n"
        "  telltale attach -p 4711 -f --mode sampled -o server.tt\n"
        "  telltale attach -p $(pidof tapisrv) --operation call=call_new --json --report -\n",
    .run = run,
};
