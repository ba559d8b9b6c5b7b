/* SPDX-License-Identifier: Apache-2.0 */
/* A process that does what breaks when it is stopped, hijacked or copied without care, and says in
 * shared memory what went wrong: blocks whose contents changed, floating-point registers that did,
 * system calls that came back with EINTR, children that wait() did not expect.
 * Start: tt_target_spawn. */
#ifndef TT_TEST_INJECT_TARGET_H
#define TT_TEST_INJECT_TARGET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    TT_WORK_MALLOC = 1,    /* two threads: malloc, realloc, calloc, free with contents checked */
    TT_WORK_FLOAT = 2,     /* live vector registers */
    TT_WORK_WAITS = 4,     /* a thread for each kind of call that a stop could end with EINTR */
    TT_WORK_SIGNALS = 8,   /* a timer signal every 200 us; the handler allocates nothing */
    TT_WORK_CHILDREN = 16, /* forks and wait()s; SIGCHLD counted */
    TT_WORK_CROWD = 32,    /* 60 more threads that compute and allocate now and then */
    TT_WORK_SLEEPS = 64,   /* sleeps whose length is checked */
};

struct tt_target_report {
    volatile uint64_t stop;       /* set by the test: end with status 0 */
    volatile uint64_t started;    /* threads that are at work */
    volatile uint64_t rounds[8];  /* by kind of work: how often done */
    volatile uint64_t wrong;      /* contents or registers changed */
    volatile uint64_t eintr;      /* calls that returned EINTR with no handler about */
    volatile uint64_t strangers;  /* wait() returned what was never forked, or SIGCHLD too many */
    volatile uint64_t overslept;  /* a sleep ended too early, or took 30 s (a loaded machine: 5) */
    volatile uint64_t eintr_call; /* index of the call that did */
};

/* What every round of work calls, and the function behind it. */
void tt_target_done(unsigned kind);
void tt_target_done_end(void);

/* Forks the process and waits until all its threads work. *report is shared with it. */
pid_t tt_target_spawn(unsigned work, struct tt_target_report **report);
/* Lets it end, waits, and checks status and report with cmocka's asserts. */
void tt_target_finish(pid_t pid, struct tt_target_report *report);
/* Waits until every kind of work has gone on by n rounds, or fails the test after a minute. */
void tt_target_await(pid_t pid, struct tt_target_report *report, uint64_t n);
/* Whether ptrace is possible at all here (a container may forbid it). */
bool tt_target_may_trace(void);
/* First line of a test that cannot do without. */
#define NEEDS_PTRACE()                                                                             \
    do {                                                                                           \
        if (!tt_target_may_trace())                                                                \
            skip();                                                                                \
    } while (0)

#endif
