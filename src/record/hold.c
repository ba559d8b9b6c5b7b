/* SPDX-License-Identifier: Apache-2.0 */
/* A command recorded from the kernel's side may end before anybody could look at its mappings, and
 * then its stacks are bare numbers: the agent waits inside for that, and here nobody is inside. So
 * for its first second a thread of ours is the command's tracer, asked to be stopped only when it
 * exits; there it waits until the recorder has read what /proc tells. Signals pass through within a
 * millisecond, and after that second the command is let go for good. If it cannot be traced it runs
 * as it would. Start: tt_hold_start. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "record/internal.h"

#define HOLD_NS TT_SECOND
#define LOOK_NS 1000000
#define ANSWER_MS 2000 /* the recorder may be writing rows */

static void post(int fd)
{
    uint64_t one = 1;
    ssize_t n = write(fd, &one, sizeof one);
    (void)n;
}

static void go_on(pid_t pid, int request, int sig)
{
    ptrace((enum __ptrace_request)request, pid, NULL, (void *)(intptr_t)sig);
}

/* A stop of the command. True: it was let go. */
static bool stopped(struct tt_hold *hold, int status, bool leave)
{
    int event = status >> 8, sig = status & 0x7f;
    if (event == PTRACE_EVENT_EXIT) {
        struct pollfd answer = {.fd = hold->answered, .events = POLLIN};
        post(hold->asked);
        poll(&answer, 1, ANSWER_MS);
        leave = true;
    }
    bool group = event == PTRACE_EVENT_STOP &&
                 (sig == SIGSTOP || sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU);
    if (leave)
        go_on(hold->pid, PTRACE_DETACH, event ? 0 : sig);
    else if (group)
        go_on(hold->pid, PTRACE_LISTEN, 0);
    else
        go_on(hold->pid, PTRACE_CONT, event ? 0 : sig);
    return leave;
}

static void *watch(void *arg)
{
    struct tt_hold *hold = arg;
    const struct timespec pause = {0, LOOK_NS};
    uint64_t until = tt_clock_now() + HOLD_NS;
    bool seized = ptrace(PTRACE_SEIZE, hold->pid, NULL, (void *)PTRACE_O_TRACEEXIT) == 0;
    bool leave = false;
    post(hold->answered); /* ready */
    while (seized) {
        siginfo_t info = {0};
        /* not its end: that is the recorder's to see */
        if (waitid(P_PID, (id_t)hold->pid, &info, WSTOPPED | WNOHANG | __WALL | __WNOTHREAD) < 0)
            break;
        if (info.si_pid) {
            if (stopped(hold, info.si_status, leave))
                break;
            continue;
        }
        if (!leave && tt_clock_now() >= until) {
            if (ptrace(PTRACE_INTERRUPT, hold->pid, NULL, NULL) < 0)
                break; /* it has ended */
            leave = true;
        }
        if (leave && tt_clock_now() >= until + HOLD_NS)
            break; /* it ends with this thread */
        nanosleep(&pause, NULL);
    }
    return NULL;
}

void tt_hold_start(struct tt_hold *hold, pid_t pid)
{
    uint64_t ready;
    hold->pid = pid;
    hold->asked = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    hold->answered = eventfd(0, EFD_CLOEXEC);
    hold->runs = hold->asked >= 0 && hold->answered >= 0 &&
                 pthread_create(&hold->thread, NULL, watch, hold) == 0;
    if (hold->runs && read(hold->answered, &ready, sizeof ready) < 0)
        return; /* without it nothing is held */
}

bool tt_hold_asked(const struct tt_hold *hold)
{
    uint64_t n;
    return hold->runs && read(hold->asked, &n, sizeof n) == sizeof n;
}

void tt_hold_answer(const struct tt_hold *hold)
{
    post(hold->answered);
}

void tt_hold_end(struct tt_hold *hold)
{
    if (hold->runs)
        pthread_join(hold->thread, NULL);
    if (hold->pid) {
        close(hold->asked);
        close(hold->answered);
    }
    *hold = (struct tt_hold){.asked = -1, .answered = -1};
}
