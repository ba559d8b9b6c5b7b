/* SPDX-License-Identifier: Apache-2.0 */
/* Forked children in the preloaded library: our tables stand still while a process forks, and the
 * child goes on in a plan of its own, empty, since what it inherits is its parent's. It hangs on
 * pthread_atfork, which daemon(3) and forkpty(3) go through as well; vfork(2), posix_spawn(3) and a
 * raw clone(2) do not, and their children are left alone. Start: tt_fault_fork_begin. */
#include "fault/preload.h"

#include <pthread.h>
#include <signal.h>

static __thread int held __attribute__((tls_model("initial-exec")));

static void prepare(void)
{
    held = tt_fault_enter_within();
}

static void in_parent(void)
{
    if (held)
        tt_fault_leave();
}

/* Not held: forked by a signal handler in the middle of ours. */
static void in_child(void)
{
    if (!held)
        return;
    tt_fault_forked();
    tt_fault_leave();
}

void tt_fault_fork_begin(void)
{
    pthread_atfork(prepare, in_parent, in_child);
}

void tt_fault_child_died(int signal)
{
    switch (signal) {
    case SIGSEGV:
    case SIGABRT:
    case SIGBUS:
    case SIGFPE:
    case SIGILL:
    case SIGSYS:
    case SIGTRAP:
        if (tt_fault_enter()) {
            if (!tt_fault_shared->child_signal)
                tt_fault_shared->child_signal = (uint32_t)signal;
            tt_fault_leave();
        }
        break;
    default: /* what one process ends another with */
        break;
    }
}
