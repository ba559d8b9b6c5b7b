/* SPDX-License-Identifier: Apache-2.0 */
/* Threads: one that nobody joins or detaches keeps its stack after it has ended. */
#include "pairs.h"

#include <errno.h>
#include <pthread.h>
#include <threads.h>

#define RESOURCE "thread"

static void *work(void *arg)
{
    return arg;
}

static int c11_work(void *arg)
{
    fx_use(arg);
    return 0;
}

/* Small stacks: thousands of them stay. */
static PAIRS_OWN_FRAME pthread_t started(int state)
{
    pthread_attr_t how;
    pthread_t thread;
    pthread_attr_init(&how);
    pthread_attr_setstacksize(&how, 128 << 10);
    pthread_attr_setdetachstate(&how, state);
    errno = pthread_create(&thread, &how, work, NULL);
    if (errno)
        pairs_failed("pthread_create");
    pthread_attr_destroy(&how);
    return thread;
}

static PAIRS_OWN_FRAME thrd_t c11_started(void)
{
    thrd_t thread;
    if (thrd_create(&thread, c11_work, NULL) != thrd_success)
        pairs_failed("thrd_create");
    return thread;
}

#define UNIT pthread_t
#define ACQUIRER join
#define NEW_UNIT started(PTHREAD_CREATE_JOINABLE)
#define END_UNIT(v) pthread_join(v, NULL)
#define ALSO "mapping|heap"
#define FLOWS FLOWS_ALL & ~FLOWS_FORK
#include "flows.inc"

#define ACQUIRER detach
#define NEW_UNIT started(PTHREAD_CREATE_JOINABLE)
#define END_UNIT(v) pthread_detach(v)
#define ALSO "mapping|heap"
#define FLOWS FLOWS_BASIC | FLOWS_CALLS | FLOWS_LIFE
#include "flows.inc"
#undef UNIT

#define UNIT thrd_t
#define ACQUIRER thrd
#define NEW_UNIT c11_started()
#define END_UNIT(v) thrd_join(v, NULL)
#define ALSO "mapping|heap"
#define FLOWS FLOWS_DATA
#include "flows.inc"
#undef UNIT

#define UNIT pthread_t
#define ACQUIRER attribute
#define ALSO "mapping|heap"
#define NEW_UNIT started(state)
#define BYTES 1
BAD(detached)
{
    int state = PTHREAD_CREATE_JOINABLE;
    pthread_t v = LOST;
    USE(v);
}
GOOD(detached)
{
    int state = PTHREAD_CREATE_DETACHED;
    pthread_t v = KEPT;
    USE(v);
}
