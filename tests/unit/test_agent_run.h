/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the preloaded agent share: the fixture agent_truth is run under it in some
 * mode, the tape that it left is read, and its sites are those of the places that the fixture
 * printed about itself. The programs lie beside the test's in the build tree. Start: run_fixture.
 */
#ifndef TT_TEST_AGENT_RUN_H
#define TT_TEST_AGENT_RUN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <sys/resource.h>
#include <sys/types.h>

#include "tape/tape.h"

struct total {
    long births, deaths, live;
    double bytes;
    double estimate, variance; /* of the live units by 1/p, sampled mode with `mean` */
};
struct tape {
    const uint8_t *base;
    size_t bytes;
    const struct tt_tape_head *head;
    const struct tt_tape_site *sites;
    const uint64_t *frames;
    struct total *total; /* per site */
    long foreign;
};

/* What the fixture says of itself. */
struct truth {
    char name[40];
    uint64_t function, stack[256];
    long births, deaths, bytes;
    unsigned depth;
};
struct run {
    struct truth truth[16];
    unsigned count;
    pid_t pid;
    int status;
};

/* Setup and teardown of the group: the directory of tapes, emptied for each run. */
int tapes_make(void **state);
int tapes_remove(void **state);
extern char tapes[64];
unsigned count_tapes(void);

/* Runs the fixture: what it is to do, and the agent's configuration. `address_space` is its limit.
 */
void run_fixture(struct run *run, const char *conf, const char *what);
extern rlim_t address_space;
/* What the test does to the head of the tape, as a recorder would, while the fixture waits. */
typedef void meanwhile_fn(struct tt_tape_head *head);
void run_meddling(struct run *run, const char *conf, const char *what, meanwhile_fn *meanwhile);

/* Sums up a tape by sites and checks that each birth is dead or live; with a mean also estimates.
 * tape_of: the one of that run. */
void open_tape(struct tape *t, const char *name, double mean);
void tape_of(const struct run *run, struct tape *tape, double mean);
void close_tape(struct tape *t);
/* Whether a site's stack is that of the truth: the innermost frame inside the function, the others
 * as backtrace() saw them (after a signal frame it names the instruction, the agent the byte
 * behind its first). A cut stack is compared as far as it goes. */
int same_stack(const struct tape *tape, const struct run *run, uint32_t site,
               const struct truth *t);

#endif
