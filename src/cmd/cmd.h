/* SPDX-License-Identifier: Apache-2.0 */
/* What a subcommand is: one file and one entry in the table of main.c. The entry carries its own
 * usage text, so that help, man page order and completion come from one place.
 * Start: struct tt_cmd. */
#ifndef TT_CMD_CMD_H
#define TT_CMD_CMD_H

#include <getopt.h>
#include <stdbool.h>

#include "base/error.h"

struct tt_cmd {
    const char *name;
    const char *summary;  /* one line for the list in --help */
    const char *usage;    /* "[-o FILE] -- CMD [ARG...]", after the name */
    const char *options;  /* option lines of --help, each "  -x, --long ARG  text\n" */
    const char *examples; /* lines for EXAMPLES, each "  telltale ...\n" */
    int (*run)(const struct tt_cmd *cmd, int argc, char **argv); /* an enum tt_exit, or a child's */
};

extern const struct tt_cmd tt_cmd_run, tt_cmd_attach, tt_cmd_report, tt_cmd_check, tt_cmd_list,
    tt_cmd_snapshot, tt_cmd_core, tt_cmd_switch, tt_cmd_detach, tt_cmd_inject;

/* The next option like getopt_long, but with our one-line errors: -1 at the end, '?' when --help
 * has been served or after a bad option, with *exit_code set. Every command's options should hold
 * h. */
int tt_cmd_option(const struct tt_cmd *cmd, int argc, char **argv, const char *shorts,
                  const struct option *longs, int *exit_code);

/* Value for options without a short letter: outside the range of characters. */
enum { TT_CMD_LONG_FIRST = 256 };

/* The value of an option that takes a positive time, in seconds: "90", "2.5", "10m", "2h", "1d".
 * 0, or TT_EXIT_USAGE after tt_cmd_misuse. */
int tt_cmd_take_seconds(const struct tt_cmd *cmd, const char *option, const char *text,
                        double *seconds);

/* The value of --color, which must be auto, always or never. 0, or TT_EXIT_USAGE as above. */
int tt_cmd_take_colour(const struct tt_cmd *cmd, const char *text, const char **choice);

/* Parses a positive count of bytes: "4096", "16K", "2M". 0 or -EINVAL. */
int tt_cmd_parse_bytes(const char *text, unsigned long long *bytes);

/* One line on stderr, "telltale NAME: TEXT (see telltale NAME --help)", and TT_EXIT_USAGE. */
__attribute__((format(printf, 2, 3))) int tt_cmd_misuse(const struct tt_cmd *cmd, const char *fmt,
                                                        ...);

/* Reports err and returns TT_EXIT_TROUBLE. */
int tt_cmd_trouble(const struct tt_error *err);

/* Whether to colour what goes to this descriptor: a terminal, and NO_COLOR unset or empty
 * (no-color.org), unless choice is "always" or "never". */
bool tt_cmd_colour(int fd, const char *choice);

void tt_cmd_help(const struct tt_cmd *cmd);

#endif
