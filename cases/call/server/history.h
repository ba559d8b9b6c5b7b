/* SPDX-License-Identifier: Apache-2.0 */
/* The call detail records of the last N calls (config.history), one allocated string each: what
 * an operator asks for with SIGUSR1. Memory rises until N calls were seen and then stays. */
#ifndef CALL_HISTORY_H
#define CALL_HISTORY_H

struct call;

/* Notes a call that has just become idle. */
void history_add(const struct call *call);
/* Prints the records, oldest first, to stderr. */
void history_dump(void);
void history_free_all(void);

#endif
