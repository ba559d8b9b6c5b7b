/* SPDX-License-Identifier: Apache-2.0 */
/* Option parsing shared by the subcommands: getopt_long with one clear line for each mistake and
 * exit status 2, never 1, which gates use for "leak found". Start: tt_cmd_option. */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/cmd.h"

int tt_cmd_misuse(const struct tt_cmd *cmd, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    struct tt_error err;
    tt_error_set(&err, -EINVAL, "%s: %s (see telltale %s --help)", cmd->name, text, cmd->name);
    tt_error_report(&err);
    return TT_EXIT_USAGE;
}

int tt_cmd_trouble(const struct tt_error *err)
{
    tt_error_report(err);
    return TT_EXIT_TROUBLE;
}

void tt_cmd_help(const struct tt_cmd *cmd)
{
    printf("usage: telltale %s %s\n\n%s.\n\n%s  -h, --help               this text\n", cmd->name,
           cmd->usage, cmd->summary, cmd->options);
    printf("\nEXAMPLES\n%s", cmd->examples);
}

int tt_cmd_option(const struct tt_cmd *cmd, int argc, char **argv, const char *shorts,
                  const struct option *longs, int *exit_code)
{
    opterr = 0;
    int before = optind;
    int c = getopt_long(argc, argv, shorts, longs, NULL);
    if (c == 'h') {
        tt_cmd_help(cmd);
        *exit_code = TT_EXIT_CLEAN;
        return '?';
    }
    if (c == '?' || c == ':') {
        const char *shown = argv[before < argc ? before : argc - 1];
        if (c == ':')
            *exit_code = tt_cmd_misuse(cmd, "option '%s' needs a value", shown);
        else if (optopt > 0 && optopt < TT_CMD_LONG_FIRST && strncmp(shown, "--", 2) != 0)
            *exit_code = tt_cmd_misuse(cmd, "unknown option '-%c'", optopt);
        else
            *exit_code = tt_cmd_misuse(cmd, "unknown option '%s'", shown);
        return '?';
    }
    return c;
}

static int parse_seconds(const char *text, double *seconds)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || !isfinite(value) || value <= 0)
        return -EINVAL;
    double unit = 1;
    if (*end) {
        const char *units = "smhd";
        static const double scale[] = {1, 60, 3600, 86400};
        const char *at = strchr(units, *end);
        if (!at || end[1])
            return -EINVAL;
        unit = scale[at - units];
    }
    *seconds = value * unit;
    return 0;
}

int tt_cmd_take_seconds(const struct tt_cmd *cmd, const char *option, const char *text,
                        double *seconds)
{
    if (parse_seconds(text, seconds) == 0)
        return 0;
    return tt_cmd_misuse(cmd, "%s needs a time such as 90, 10m or 2h, not '%s'", option, text);
}

int tt_cmd_take_colour(const struct tt_cmd *cmd, const char *text, const char **choice)
{
    if (strcmp(text, "auto") != 0 && strcmp(text, "always") != 0 && strcmp(text, "never") != 0)
        return tt_cmd_misuse(cmd, "--color is auto, always or never, not '%s'", text);
    *choice = text;
    return 0;
}

int tt_cmd_parse_bytes(const char *text, unsigned long long *bytes)
{
    char *end;
    if (*text < '0' || *text > '9')
        return -EINVAL;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    unsigned shift = 0;
    if (*end) {
        const char *units = "KMG";
        const char *at = strchr(units, *end);
        if (!at || end[1])
            return -EINVAL;
        shift = 10u * (unsigned)(at - units + 1);
    }
    if (errno || !value || value > (~0ULL >> shift))
        return -EINVAL;
    *bytes = value << shift;
    return 0;
}

bool tt_cmd_colour(int fd, const char *choice)
{
    if (choice && strcmp(choice, "always") == 0)
        return true;
    if (choice && strcmp(choice, "never") == 0)
        return false;
    const char *no = getenv("NO_COLOR");
    return isatty(fd) && !(no && *no);
}
