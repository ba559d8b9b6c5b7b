/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the session room share: sessions with a few rows of each table, written to a
 * directory that lasts as long as the program, and any SQL run on them to make them old or
 * damaged. Start: session_write. */
#ifndef TT_TEST_SESSION_FILE_H
#define TT_TEST_SESSION_FILE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "session/session.h"
#include "session/snapshot.h"
#include "session/writer.h"

/* Setup and teardown of the group: the directory. Of the paths in it the last four are kept. */
int session_make(void **state);
int session_remove(void **state);
char *session_path(const char *name);

/* The process of each session written. */
extern const struct tt_session_process session_process;
/* A session with one process, two sites, four snapshots and n epochs, still open. */
struct tt_session_writer *session_write(const char *path, int n);
/* Path of a finished one. */
char *session_written(const char *name, int n);
/* Opens it or fails the test. */
struct tt_session *session_open(const char *path);
void session_sql(const char *path, const char *text);

#endif
