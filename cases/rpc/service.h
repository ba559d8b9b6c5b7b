/* SPDX-License-Identifier: Apache-2.0 */
/* What the two server programs share: ending on SIGTERM and SIGINT, numbers on the command line.
 * Start: service_begin. */
#ifndef RPC_SERVICE_H
#define RPC_SERVICE_H

#include <stdbool.h>

/* Catches the signals that end a server and puts them into its loop. Call after dg_server_open. */
int service_begin(void);
/* A number of an option, or exit 2 with a message of the program. */
unsigned long service_number(const char *program, const char *option, const char *text,
                             unsigned long max);

#endif
