/* SPDX-License-Identifier: Apache-2.0 */
/* What the load drivers of the cases have in common besides their children (child.h): numbers on
 * the command line, commands that people give as hooks, and a run that ends in order whatever
 * happens. Start: driver_run. */
#ifndef CASES_LOAD_DRIVER_H
#define CASES_LOAD_DRIVER_H

#include <stdbool.h>
#include <stddef.h>

#include "load/child.h"

/* Set by each driver: what it prints to a wrong command line. */
extern const char driver_usage[];

/* Prints driver_usage and exits with 2. */
_Noreturn void driver_bad_usage(void);
/* A number from min to max, else driver_bad_usage. */
unsigned long driver_number(const char *text, unsigned long min, unsigned long max);
/* The directory of this program into `path`; "" if it cannot be known. */
void driver_directory(char *path, size_t size);
/* Runs --before or --after by sh, which may take as long as it likes; NULL is nothing. False when
 * it failed, said. `hook` is the child to use, so that a clean-up can end it. */
bool driver_hook(struct child *hook, const char *command);
/* Blocks the signals that end us (child_wait sees them), calls drive, then clean_up. True when
 * drive was right; *told_to_end when a signal came. */
bool driver_run(bool (*drive)(void), void (*clean_up)(void), bool *told_to_end);
/* A wait status as a shell tells it. */
int driver_status(int status);

#endif
