/* SPDX-License-Identifier: Apache-2.0 */
/* telltale attach: records processes that run already, leaves them running, and writes the article.
 * Start: run. */
#include "cmd/recording.h"

static int run(const struct tt_cmd *cmd, int argc, char **argv)
{
    static const struct option longs[] = {{"pid", required_argument, NULL, 'p'},
                                          TT_RECORDING_LONGS};
    struct tt_recording r;
    struct tt_record_result result = {0};
    struct tt_error err = {0};
    int c, status = 0;
    tt_recording_start(&r, "telltale-%p.tt");
    while (status == 0 &&
           (c = tt_cmd_option(cmd, argc, argv, ":p:o:fd:qh", longs, &status)) != -1) {
        if (c == '?')
            goto out;
        status = tt_recording_option(cmd, &r, c, optarg);
    }
    if (!status && optind < argc)
        status =
            tt_cmd_misuse(cmd, "'%s' is no option: a process is given with -p PID", argv[optind]);
    else if (!status && !r.pids.len)
        status = tt_cmd_misuse(cmd, "no process given (-p PID)");
    if (!status)
        status = tt_recording_ready(cmd, &r);
    if (status)
        goto out;
    if (tt_record_attach(&r.record, &result, &err) != 0) {
        tt_recording_free(&r);
        return tt_cmd_trouble(&err);
    }
    status = tt_recording_finish(&r, &result);
out:
    tt_recording_free(&r);
    return status;
}

const struct tt_cmd tt_cmd_attach = {
    .name = "attach",
    .summary = "record processes that run already, without restarting them",
    .usage = "-p PID [-p PID...] [-o FILE] [--mode MODE] [-f] [-d TIME] [OPTION...]",
    .options =
        "  -p, --pid PID            the process; more than one may be given\n"
        "  -o, --output FILE        the session file; %p is the pid, %h the host (telltale-%p.tt)\n"
        "      --mode MODE          exact (every block, the default), adaptive, or sampled\n"
        "      --mean BYTES         sampled: mean distance of samples (512K)\n"
        "      --rate N             adaptive: samples a second for each key (1)\n"
        "  -f, --follow             record forked children too, and go on after an exec\n"
        "  -d, --duration TIME      leave the process after 90, 10m, 2h (until ^C or its end)\n"
        "      --horizon TIME       age beyond which a unit counts as retained (600)\n"
        "      --operation NAME=FN  count entries of function FN as operation NAME\n"
        "      --label KEY=VALUE    a covariate of this run, for the law across sessions\n"
        "      --snapshots N        auto (the default), off or at most N frozen copies to search\n"
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
        "  telltale attach -p 4711 -d 10m\n"
        "  telltale attach -p 4711 -f --mode sampled -o server.tt\n"
        "  telltale attach -p $(pidof tapisrv) --operation call=call_new --json --report -\n",
    .run = run,
};
