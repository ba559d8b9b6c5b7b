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
    TT_OPT_FORCE,
    TT_OPT_EXE,
};

struct tt_recording {
    struct tt_record_options record;
    TT_VEC(struct tt_record_label) labels;
    TT_VEC(struct tt_record_operation) operations;
    TT_VEC(pid_t) pids;
    const char *report; /* NULL: standard error */
    const char *colour;
    bool json, quiet, terminal, drawn;
    struct tt_functions functions;
    struct tt_places places;
};

/* Defaults and callbacks; `output` is the template of the session's name. It must not move. */
void tt_recording_start(struct tt_recording *r, const char *output);
/* Takes an option of the list above, or o, f, d, q, p. 0, or the exit status after tt_cmd_misuse.
 */
int tt_recording_option(const struct tt_cmd *cmd, struct tt_recording *r, int c, char *value);
/* Once all options are taken. 0 or the exit status. */
int tt_recording_ready(const struct tt_cmd *cmd, struct tt_recording *r);
/* Says what the recorder's result has to say, and writes the article. The exit status. */
int tt_recording_finish(struct tt_recording *r, const struct tt_record_result *result);
void tt_recording_free(struct tt_recording *r);

/* --mode. 0 or -EINVAL. */
int tt_recording_mode(const char *text, enum tt_tape_mode *mode);
/* A process id. 0, or TT_EXIT_USAGE after tt_cmd_misuse. */
int tt_recording_pid(const struct tt_cmd *cmd, const char *text, pid_t *pid);

/* What run and attach have in common. */
#define TT_RECORDING_LONGS                                                                         \
    {"output", required_argument, NULL, 'o'}, {"follow", no_argument, NULL, 'f'},                  \
        {"duration", required_argument, NULL, 'd'}, {"quiet", no_argument, NULL, 'q'},             \
        {"help", no_argument, NULL, 'h'}, {"mode", required_argument, NULL, TT_OPT_MODE},          \
        {"mean", required_argument, NULL, TT_OPT_MEAN},                                            \
        {"rate", required_argument, NULL, TT_OPT_RATE},                                            \
        {"horizon", required_argument, NULL, TT_OPT_HORIZON},                                      \
        {"operation", required_argument, NULL, TT_OPT_OPERATION},                                  \
        {"label", required_argument, NULL, TT_OPT_LABEL},                                          \
        {"report", required_argument, NULL, TT_OPT_REPORT},                                        \
        {"json", no_argument, NULL, TT_OPT_JSON},                                                  \
        {"color", required_argument, NULL, TT_OPT_COLOR},                                          \
        {"snapshots", required_argument, NULL, TT_OPT_SNAPSHOTS},                                  \
        {"snapshot-every", required_argument, NULL, TT_OPT_SNAPSHOT_EVERY},                        \
        {"pause-budget", required_argument, NULL, TT_OPT_PAUSE_BUDGET},                            \
        {"no-staleness", no_argument, NULL, TT_OPT_NO_STALENESS},                                  \
    {                                                                                              \
        NULL, 0, NULL, 0                                                                           \
    }

#endif
