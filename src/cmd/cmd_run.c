/* SPDX-License-Identifier: Apache-2.0 */
/* telltale run: records a command from its start to its end and writes its article. Standard input
 * and output belong to the command; what telltale says goes to standard error.
 * Start: run. */
#include "cmd/recording.h"

static int run(const struct tt_cmd *cmd, int argc, char **argv)
{
    static const struct option longs[] = {TT_RECORDING_LONGS};
    struct tt_recording r;
    struct tt_record_result result = {0};
    struct tt_error err = {0};
    int c, status = 0;
    tt_recording_start(&r, "telltale-%p.tt");
    r.record.snapshots = TT_SNAPSHOTS_OFF;
    while (status == 0 && (c = tt_cmd_option(cmd, argc, argv, "+:o:fd:qh", longs, &status)) != -1) {
        if (c == '?')
            goto out;
        status = tt_recording_option(cmd, &r, c, optarg);
    }
    if (status)
        goto out;
    if (optind >= argc) {
        status = tt_cmd_misuse(cmd, "no command to run");
        goto out;
    }
    r.record.argv = argv + optind;
    status = tt_recording_ready(cmd, &r);
    if (status)
        goto out;
    if (tt_record_run(&r.record, &result, &err) != 0) {
        tt_recording_free(&r);
        return tt_cmd_trouble(&err);
    }
    status = tt_recording_finish(&r, &result);
    if (!status)
        status = tt_record_exit(result.status);
out:
    tt_recording_free(&r);
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
        "      --snapshots N        auto, off (the default) or at most N frozen copies to search\n"
        "      --snapshot-every T   least time between two of them (60)\n"
        "      --pause-budget MS    a copy may stop a process so long, larger than 1 GB per GB "
        "(20)\n"
        "      --no-staleness       do not look which sampled objects are untouched\n"
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
