/* SPDX-License-Identifier: Apache-2.0 */
/* What the commands that record share: their options, the progress line, the names of functions for
 * the recorder, and the article at the end. Start: tt_recording_option. */
#ifndef TT_CMD_RECORDING_H
#define TT_CMD_RECORDING_H

#include "cmd/cmd.h"
#include "cmd/functions.h"
#include "cmd/places.h"

/* Long options without a letter; commands add those that they take to their table. */
enum {
    TT_OPT_MODE = TT_CMD_LONG_FIRST,
    TT_OPT_MEAN,
    TT_OPT_RATE,
    TT_OPT_HORIZON,
    TT_OPT_OPERATION,
    TT_OPT_LABEL,
    TT_OPT_REPORT,
    TT_OPT_JSON,
    TT_OPT_COLOR,
    TT_OPT_SNAPSHOTS,
    TT_OPT_SNAPSHOT_EVERY,
    TT_OPT_PAUSE_BUDGET,
    TT_OPT_NO_STALENESS,
    TT_OPT_NO_INJECT,
    TT_OPT_RESOURCES,
    TT_OPT_HANDLE,
    TT_OPT_HANDLES,
    TT_OPT_FORCE,
    TT_OPT_EXE,
};

struct tt_recording {
    struct tt_record_options record;
    TT_VEC(struct tt_record_label) labels;
    TT_VEC(struct tt_record_operation) operations;
    TT_VEC(pid_t) pids;
    tt_handle_vec handles;
    TT_VEC(const char *) noted; /* words of record.noted; not owned */
    const char *core, *exe;     /* of telltale core */
    const char *report;         /* NULL: standard error */
    const char *colour;
    bool json, quiet, terminal, drawn;
    struct tt_functions functions;
    char root[32]; /* of functions.root */
    int root_fd;
    struct tt_places places;
};

/* How the commands that record differ. */
struct tt_recording_kind {
    const char *letters; /* of its short options, for getopt_long */
    const struct option *longs;
    int snapshots; /* unless --snapshots says otherwise */
    /* Takes what stands behind the options (n words). 0, or the exit status after tt_cmd_misuse. */
    int (*words)(const struct tt_cmd *cmd, struct tt_recording *r, int n, char **words);
    int (*record)(struct tt_recording *r, struct tt_record_result *result, struct tt_error *err);
};
/* A whole such command: options, recording, the article. The exit status; of a command that was
 * run, its own. */
int tt_recording_run(const struct tt_cmd *cmd, int argc, char **argv,
                     const struct tt_recording_kind *kind);
/* `words` of a command that takes processes (-p) and nothing else. */
int tt_recording_only_pids(const struct tt_cmd *cmd, struct tt_recording *r, int n, char **words);

/* --mode. 0 or -EINVAL. */
int tt_recording_mode(const char *text, enum tt_tape_mode *mode);
/* A process id. 0, or TT_EXIT_USAGE after tt_cmd_misuse. */
int tt_recording_pid(const struct tt_cmd *cmd, const char *text, pid_t *pid);

/* What all commands that record have in common, */
#define TT_RECORDING_FRONT_LONGS                                                                   \
    {"output", required_argument, NULL, 'o'}, {"quiet", no_argument, NULL, 'q'},                   \
        {"help", no_argument, NULL, 'h'}, {"report", required_argument, NULL, TT_OPT_REPORT},      \
        {"json", no_argument, NULL, TT_OPT_JSON},                                                  \
    {                                                                                              \
        "color", required_argument, NULL, TT_OPT_COLOR                                             \
    }
/* and what run and attach have, with the end of the table. */
#define TT_RECORDING_LONGS                                                                         \
    TT_RECORDING_FRONT_LONGS, {"follow", no_argument, NULL, 'f'},                                  \
        {"duration", required_argument, NULL, 'd'},                                                \
        {"mode", required_argument, NULL, TT_OPT_MODE},                                            \
        {"mean", required_argument, NULL, TT_OPT_MEAN},                                            \
        {"rate", required_argument, NULL, TT_OPT_RATE},                                            \
        {"horizon", required_argument, NULL, TT_OPT_HORIZON},                                      \
        {"operation", required_argument, NULL, TT_OPT_OPERATION},                                  \
        {"label", required_argument, NULL, TT_OPT_LABEL},                                          \
        {"snapshots", required_argument, NULL, TT_OPT_SNAPSHOTS},                                  \
        {"snapshot-every", required_argument, NULL, TT_OPT_SNAPSHOT_EVERY},                        \
        {"pause-budget", required_argument, NULL, TT_OPT_PAUSE_BUDGET},                            \
        {"no-staleness", no_argument, NULL, TT_OPT_NO_STALENESS},                                  \
        {"no-inject", no_argument, NULL, TT_OPT_NO_INJECT},                                        \
        {"resources", required_argument, NULL, TT_OPT_RESOURCES},                                  \
        {"handle", required_argument, NULL, TT_OPT_HANDLE},                                        \
        {"handles", required_argument, NULL, TT_OPT_HANDLES},                                      \
    {                                                                                              \
        NULL, 0, NULL, 0                                                                           \
    }

/* What --help says of them; `snapshots` is the default of that option, in words. */
#define TT_RECORDING_HELP_MODE                                                                     \
    "  -o, --output FILE        the session file; %p is the pid, %h the host (telltale-%p.tt)\n"   \
    "      --mode MODE          exact (every block, the default), adaptive, or sampled\n"          \
    "      --mean BYTES         sampled: mean distance of samples (512K)\n"                        \
    "      --rate N             adaptive: samples a second for each key (1)\n"
#define TT_RECORDING_HELP(snapshots)                                                               \
    "      --horizon TIME       age beyond which a unit counts as retained (600)\n"                \
    "      --operation NAME=FN  count entries of function FN as operation NAME\n"                  \
    "      --resources LIST     what to watch besides heap blocks: fd, socket, port, thread,\n"    \
    "                           mapping, child, timer, ipc, library, stream, directory;\n"         \
    "                           all (the default), none, -NAME for all but that\n"                 \
    "      --handle NAME=F:W,.. a resource of the program's own: functions and where the value\n"  \
    "                           stands (port=port_acquire:ret,port_release:arg1)\n"                \
    "      --handles FILE       the same, one in a line\n"                                         \
    "      --label KEY=VALUE    a covariate of this run, for the law across sessions\n"            \
    "      --snapshots N        auto, off or at most N frozen copies to search (" snapshots ")\n"  \
    "      --snapshot-every T   least time between two of them (60)\n"                             \
    "      --pause-budget MS    a copy may stop a process so long, larger than 1 GB per GB (20)\n" \
    "      --no-staleness       do not look which sampled objects are untouched\n"                 \
    "      --no-inject          put nothing into the process: record from the kernel (eBPF)\n"     \
    "      --report FILE        write the article there, - is standard output (standard error)\n"  \
    "      --json               the article as JSON\n"                                             \
    "      --color WHEN         auto, always or never\n"                                           \
    "  -q, --quiet              no progress and no article on standard error\n"

#endif
