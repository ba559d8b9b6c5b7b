/* SPDX-License-Identifier: Apache-2.0 */
/* The telltale program: finds the subcommand in the table and runs it. A new subcommand is one new
 * file and one line here. Start: main. */
#include <stdio.h>
#include <string.h>

#include "cmd/cmd.h"
#include "cmd/version.h"
#include "session/session.h"

static const struct tt_cmd *const commands[] = {
    &tt_cmd_run,      &tt_cmd_attach, &tt_cmd_report, &tt_cmd_check,  &tt_cmd_list,
    &tt_cmd_snapshot, &tt_cmd_core,   &tt_cmd_switch, &tt_cmd_detach, &tt_cmd_inject,
};
#define COMMANDS (sizeof commands / sizeof *commands)

static void help(void)
{
    printf("usage: telltale COMMAND [OPTION...]\n\n"
           "Records a running server and writes the article about its leak.\n\n");
    for (size_t i = 0; i < COMMANDS; i++)
        printf("  %-8s %s\n", commands[i]->name, commands[i]->summary);
    printf(
        "\n  telltale COMMAND --help   options and examples of a command\n"
        "  telltale --version        version and build\n"
        "\nEXAMPLES\n"
        "  telltale run -o call.tt -- ./tapisrv      record a server until it ends, print its "
        "article\n"
        "  telltale attach -p 4711 -d 10m            record one that runs, leave it running\n"
        "  telltale report call.tt --format json     the same findings for a program\n"
        "  telltale check call.tt                    exit status 1 if it leaks\n"
        "\nExit status: 0 clean, 1 leak found (check), 2 wrong usage, 3 trouble; `run` gives the\n"
        "command's own status.\n");
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : NULL;
    if (name &&
        (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0)) {
        help();
        return TT_EXIT_CLEAN;
    }
    if (name && (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0)) {
        printf("telltale %s (session schema %d)\n", TT_VERSION, TT_SESSION_SCHEMA);
        return TT_EXIT_CLEAN;
    }
    for (size_t i = 0; name && i < COMMANDS; i++)
        if (strcmp(name, commands[i]->name) == 0)
            return commands[i]->run(commands[i], argc - 1, argv + 1);
    struct tt_error err;
    if (!name)
        tt_error_set(&err, -1, "no command given (see telltale --help)");
    else
        tt_error_set(&err, -1, "unknown %s '%s' (see telltale --help)",
                     name[0] == '-' ? "option" : "command", name);
    tt_error_report(&err);
    return TT_EXIT_USAGE;
}
