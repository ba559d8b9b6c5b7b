/* SPDX-License-Identifier: Apache-2.0 */
/* What the load drivers of the cases have in common besides their children (child.h): the command
 * line, a directory with a socket, commands that people give as hooks, the file of the truth, and a
 * run that ends in order whatever happens. Start: driver_run. */
#ifndef CASES_LOAD_DRIVER_H
#define CASES_LOAD_DRIVER_H

#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "load/child.h"

/* Set by each driver: what it prints to a wrong command line. */
extern const char driver_usage[];

extern struct driver {
    char **command; /* what is put under load */
    unsigned long settle;
    const char *truth, *before, *after;
    char dir[48], socket_path[64];
} driver;

/* The end of each driver's table of options; these are taken by driver_options. */
#define DRIVER_OPTIONS                                                                             \
    {"settle", 1, NULL, 's'}, {"truth", 1, NULL, 't'}, {"before", 1, NULL, 'b'},                   \
        {"after", 1, NULL, 'a'},                                                                   \
    {                                                                                              \
        NULL, 0, NULL, 0                                                                           \
    }

/* Reads the command line up to the command, which must be there; take gets the options that are
 * not everybody's, with optarg set. */
void driver_options(int argc, char **argv, const struct option *options, void (*take)(int o));

/* Prints driver_usage and exits with 2. */
_Noreturn void driver_bad_usage(void);
/* A number from min to max, else driver_bad_usage. */
unsigned long driver_number(const char *text, unsigned long min, unsigned long max);
/* The directory of this program into `path`; "" if it cannot be known. */
void driver_directory(char *path, size_t size);
/* Runs --before or --after by sh, which may take as long as it likes; NULL is nothing. False when
 * it failed, said. */
bool driver_hook(const char *command);
/* The file that --truth names, NULL when it cannot be written, said; and its end. */
FILE *driver_truth(void);
bool driver_truth_end(FILE *f);
/* A temporary directory for a run, with the path of a socket in it, which also goes into the
 * environment. False when there is none, said. */
bool driver_begin(const char *name, const char *socket_variable);
/* Blocks the signals that end us (child_wait sees them), calls drive, then clean_up, and removes
 * the directory, which clean_up leaves with nothing but the socket. True when drive was right;
 * *told_to_end when a signal came. */
bool driver_run(bool (*drive)(void), void (*clean_up)(void), bool *told_to_end);
/* A wait status as a shell tells it. */
int driver_status(int status);

#endif
