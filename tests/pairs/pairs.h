/* SPDX-License-Identifier: Apache-2.0 */
/* Pairs after the manner of NIST's Juliet suite: the same few lines twice, once losing a unit and
 * once releasing it, for each way of acquiring (pairs_*.c) crossed with ways in which control and
 * ownership flow (flows.inc). A program holds the pairs of one or two resources; run as `pairs_fd
 * bad` it runs all losing halves at their own places round after round and prints the places as its
 * ground truth, as `pairs_fd good` all releasing halves. Start: flows.inc, then any of pairs_*.c.
 */
#ifndef TT_TESTS_PAIRS_PAIRS_H
#define TT_TESTS_PAIRS_PAIRS_H

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fixture.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One half of a pair; enrolled before main. */
struct pairs_half {
    const char *name; /* of its function: bad_ACQUIRER_FLOW or good_ACQUIRER_FLOW */
    bool bad;
    void (*run)(void);
    struct pairs_half *next;
};
void pairs_enrol(struct pairs_half *half);

/* Never known to the compiler: 1, 0 and the number of the present round. */
extern volatile int pairs_yes, pairs_no;
extern volatile unsigned pairs_round;
/* The highest number that a file descriptor may have. */
extern int pairs_highest;

/* Runs f(arg) in a thread of its own and waits for its end. */
void pairs_in_thread(void *(*f)(void *), void *arg);
/* Calls f(arg) as a library calls back. */
void pairs_call(void (*f)(void *), void *arg);
/* Says what failed and ends the program with status 3: a pair that acquires nothing tests nothing.
 */
__attribute__((noreturn)) void pairs_failed(const char *what);

/* Functions stay what they are written as: frames with their own names. */
#if defined(__GNUC__) && !defined(__clang__)
#define PAIRS_OWN_FRAME __attribute__((noinline, noclone, noipa))
#else
#define PAIRS_OWN_FRAME __attribute__((noinline))
#endif

/* Groups of flows, for FLOWS. */
#define FLOWS_BASIC 1    /* within one function */
#define FLOWS_CALLS 2    /* over several functions */
#define FLOWS_DATA 4     /* through objects in memory */
#define FLOWS_LIFE 8     /* who owns it, and for how long */
#define FLOWS_CONTROL 16 /* threads, jumps */
#define FLOWS_FORK 32    /* a child process releases its copy */
#define FLOWS_ALL 63

#ifdef __cplusplus
}
#endif
#endif
