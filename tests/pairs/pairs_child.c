/* SPDX-License-Identifier: Apache-2.0 */
/* Child processes: one that has ended stays as a zombie until its parent waits for it. */
#include "pairs.h"

#include <errno.h>
#include <spawn.h>
#include <sys/resource.h>

#define RESOURCE "child"
#define UNIT pid_t
extern char **environ;

static PAIRS_OWN_FRAME pid_t forked(void)
{
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    if (child < 0)
        pairs_failed("fork");
    return child;
}

static PAIRS_OWN_FRAME pid_t vforked(void)
{
    pid_t child = vfork();
    if (child == 0)
        _exit(0);
    if (child < 0)
        pairs_failed("vfork");
    return child;
}

static PAIRS_OWN_FRAME pid_t spawned(void)
{
    static char name[] = "true";
    char *argv[] = {name, NULL};
    pid_t child;
    errno = posix_spawnp(&child, name, NULL, NULL, argv, environ);
    if (errno)
        pairs_failed("posix_spawnp");
    return child;
}

static PAIRS_OWN_FRAME void wait_as_info(pid_t child)
{
    siginfo_t info;
    waitid(P_PID, (id_t)child, &info, WEXITED);
}

static PAIRS_OWN_FRAME void wait_with_usage(pid_t child)
{
    struct rusage usage;
    wait4(child, NULL, 0, &usage);
}

#define ACQUIRER fork
#define NEW_UNIT forked()
#define END_UNIT(v) waitpid(v, NULL, 0)
#define FLOWS FLOWS_ALL & ~FLOWS_FORK
#include "flows.inc"

#define ACQUIRER fork_waitid
#define NEW_UNIT forked()
#define END_UNIT(v) wait_as_info(v)
#define FLOWS FLOWS_BASIC
#include "flows.inc"

#define ACQUIRER fork_wait4
#define NEW_UNIT forked()
#define END_UNIT(v) wait_with_usage(v)
#define FLOWS FLOWS_LIFE
#include "flows.inc"

#define ACQUIRER vfork
#define NEW_UNIT vforked()
#define END_UNIT(v) waitpid(v, NULL, 0)
#define FLOWS FLOWS_DATA
#include "flows.inc"

#define ACQUIRER spawn
#define NEW_UNIT spawned()
#define END_UNIT(v) waitpid(v, NULL, 0)
#define FLOWS FLOWS_CALLS
#include "flows.inc"

/* Asking whether a child has ended, without taking it. */
#define ACQUIRER waitid
#define NEW_UNIT forked()
#define BYTES 1
#define ALSO ""
BAD(nowait)
{
    pid_t v = LOST;
    siginfo_t info;
    waitid(P_PID, (id_t)v, &info, WEXITED | WNOWAIT);
}
GOOD(nowait)
{
    pid_t v = KEPT;
    siginfo_t info;
    waitid(P_PID, (id_t)v, &info, WEXITED | WNOWAIT);
    waitpid(v, NULL, 0);
}
