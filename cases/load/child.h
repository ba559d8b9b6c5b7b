/* SPDX-License-Identifier: Apache-2.0 */
/* The child processes of a load driver: started in a process group of their own, watched through
 * pidfds, their output taken line by line, all waiting with deadlines, and ended in order. They die
 * with the driver. Start: child_spawn. */
#ifndef CASES_LOAD_CHILD_H
#define CASES_LOAD_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { LINE_MAX_LEN = 1024 };

/* A child process, the pipe from its stdout and, with WITH_INPUT, the pipe to its stdin. Start
 * with CHILD_NONE. */
struct child {
    pid_t pid;
    int pidfd, out, in;
    bool ended, echo; /* echo: its lines are shown on stderr */
    int status;
    size_t len;
    char buf[LINE_MAX_LEN];
    char last[LINE_MAX_LEN]; /* the last line read */
};

#define CHILD_NONE                                                                                 \
    (struct child)                                                                                 \
    {                                                                                              \
        .pidfd = -1, .out = -1, .in = -1                                                           \
    }

/* Set when signal_fd (a signalfd, or -1) became readable during a wait: no wait waits any more. */
extern bool interrupted;
extern int signal_fd;

int64_t now_ms(void);
void close_fd(int *fd);
/* Says what went wrong on stderr. Always false. */
__attribute__((format(printf, 1, 2))) bool trouble(const char *fmt, ...);

enum { WITH_INPUT = 1, SILENT = 2, TO_STDERR = 4, ECHO_LINES = 8 };

/* Starts a child. WITH_INPUT: its stdin is a pipe, else /dev/null. Its stdout is a pipe, with
 * SILENT its stderr goes there too; with TO_STDERR it has our stderr as stdout instead. ECHO_LINES:
 * what it writes is shown. death_signal is sent to it when we die. */
bool child_spawn(struct child *c, char *const argv[], int flags, int death_signal);

/* True when it has ended; its wait status is then in c->status. */
bool child_reap(struct child *c);
/* Waits for output of a child, its end, the deadline, or a signal for us. False: the deadline has
 * passed or we are to end. */
bool child_wait(const struct child *c, int64_t deadline);
bool child_has_output(const struct child *c);
/* Takes the complete lines there are, without waiting; the last stays in c->last. */
void child_take_lines(struct child *c, bool shown);
/* Waits for a line that starts with `start`, which is then c->last; other lines are shown. */
bool child_await_line(struct child *c, const char *start, int64_t deadline, const char *what);
/* Waits for a child's end and takes the rest of its output; the last line is then c->last. */
bool child_await_end(struct child *c, int64_t deadline, const char *what);
/* Ends it with its group: SIGTERM, and SIGKILL after five seconds. */
void child_kill(struct child *c);

#endif
