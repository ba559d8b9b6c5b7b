/* SPDX-License-Identifier: Apache-2.0 */
/* POSIX timers. */
#include "pairs.h"

#include <signal.h>
#include <time.h>

#define RESOURCE "timer"
#define UNIT timer_t

static void ring(union sigval value)
{
    fx_use(value.sival_ptr);
}

static PAIRS_OWN_FRAME timer_t timer(int notify)
{
    struct sigevent event = {.sigev_notify = notify};
    timer_t t;
    if (notify == SIGEV_SIGNAL)
        event.sigev_signo = SIGUSR1;
    else if (notify == SIGEV_THREAD)
        event.sigev_notify_function = ring;
    if (timer_create(CLOCK_MONOTONIC, &event, &t))
        pairs_failed("timer_create");
    return t;
}

/* Armed, and long past when it is deleted or not. */
static PAIRS_OWN_FRAME timer_t armed(void)
{
    timer_t t = timer(SIGEV_NONE);
    struct itimerspec once = {.it_value.tv_nsec = 1};
    timer_settime(t, 0, &once, NULL);
    return t;
}

#define ACQUIRER timer_create
#define NEW_UNIT timer(SIGEV_NONE)
#define END_UNIT(v) timer_delete(v)
#define FLOWS FLOWS_ALL & ~FLOWS_FORK
#include "flows.inc"

#define ACQUIRER timer_signal
#define NEW_UNIT timer(SIGEV_SIGNAL)
#define END_UNIT(v) timer_delete(v)
#define FLOWS FLOWS_CALLS
#include "flows.inc"

#define ACQUIRER timer_thread
#define NEW_UNIT timer(SIGEV_THREAD)
#define END_UNIT(v) timer_delete(v)
#define ALSO "heap"
#define FLOWS FLOWS_LIFE
#include "flows.inc"

#define ACQUIRER timer_armed
#define NEW_UNIT armed()
#define END_UNIT(v) timer_delete(v)
#define FLOWS FLOWS_BASIC
#include "flows.inc"
