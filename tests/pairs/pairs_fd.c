/* SPDX-License-Identifier: Apache-2.0 */
/* File descriptors that are no sockets, by every way to get one. */
#include "pairs.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#define RESOURCE "fd"
#define UNIT int

/* The reading end; the other is closed. */
static PAIRS_OWN_FRAME int pipe_end(int flags)
{
    int ends[2];
    if (flags ? pipe2(ends, flags) : pipe(ends))
        pairs_failed("pipe");
    close(ends[1]);
    return ends[0];
}

static PAIRS_OWN_FRAME int temporary(void)
{
    char name[] = "/tmp/pairs.XXXXXX";
    int fd = mkstemp(name);
    if (fd < 0)
        pairs_failed("mkstemp");
    unlink(name);
    return fd;
}

static PAIRS_OWN_FRAME int created(void)
{
    char name[64];
    snprintf(name, sizeof name, "/tmp/pairs.%d.created", (int)getpid());
    int fd = creat(name, 0600);
    if (fd < 0)
        pairs_failed("creat");
    unlink(name);
    return fd;
}

static PAIRS_OWN_FRAME int child_terminates_signal(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    return signalfd(-1, &set, 0);
}

/* A file that comes through a socket, as one process hands it to another. */
static PAIRS_OWN_FRAME int passed(void)
{
    int ends[2], file = open("/dev/null", O_RDONLY), got = -1;
    char byte = 'x';
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data,
                             .msg_iovlen = 1,
                             .msg_control = control.space,
                             .msg_controllen = sizeof control.space};
    control.header = (struct cmsghdr){CMSG_LEN(sizeof file), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(&control.header), &file, sizeof file);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) || sendmsg(ends[0], &message, 0) != 1 ||
        recvmsg(ends[1], &message, 0) != 1)
        pairs_failed("passing a file");
    memcpy(&got, CMSG_DATA(&control.header), sizeof got);
    close(file);
    close(ends[0]);
    close(ends[1]);
    return got;
}

#define ACQUIRER open
#define NEW_UNIT open("/dev/null", O_RDONLY)
#define END_UNIT(v) close(v)
#define FLOWS FLOWS_ALL
#include "flows.inc"

#define ACQUIRER openat
#define NEW_UNIT openat(AT_FDCWD, "/dev/null", O_RDONLY)
#define END_UNIT(v) close(v)
#define FLOWS FLOWS_CALLS | FLOWS_LIFE
#include "flows.inc"

#define ACQUIRER creat
#define NEW_UNIT created()
#define END_UNIT(v) close(v)
#define FLOWS FLOWS_DATA
#include "flows.inc"

#define ACQUIRER dup
#define NEW_UNIT dup(STDIN_FILENO)
#define END_UNIT(v) close(v)
#define FLOWS FLOWS_BASIC | FLOWS_DATA
#include "flows.inc"

#define ACQUIRER fcntl_dupfd
#define NEW_UNIT fcntl(STDIN_FILENO, F_DUPFD, 100)
#define END_UNIT(v) close(v)
#define FLOWS FLOWS_CALLS
#include "flows.inc"

#define ACQUIRER fcntl_dupfd_cloexec
#define NEW_UNIT fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3)
#define END_UNIT(v) close(v)
#define FLOWS FLOWS_LIFE
#include "flows.inc"

#define ACQUIRER pipe
#define NEW_UNIT pipe_end(0)
#define END_UNIT(v) close(v)
#define FLOWS FLOWS_BASIC | FLOWS_CONTROL
#include "flows.inc"

#define ACQUIRER pipe2
#define NEW_UNIT pipe_end(O_CLOEXEC)
#define END_UNIT(v) close(v)
#define FLOWS FLOWS_CALLS
#include "flows.inc"

#define ACQUIRER eventfd
#define NEW_UNIT eventfd(0, EFD_CLOEXEC)
#define END_UNIT(v) close(v)
#define FLOWS FLOWS_DATA
#include "flows.inc"

#define ACQUIRER timerfd_create
#define NEW_UNIT timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC)
#define END_UNIT(v) close(v)
#define FLOWS FLOWS_LIFE
#include "flows.inc"

#define ACQUIRER signalfd
#define NEW_UNIT child_terminates_signal()
#define END_UNIT(v) close(v)
#define FLOWS FLOWS_BASIC
#include "flows.inc"

#define ACQUIRER epoll_create
#define NEW_UNIT epoll_create(1)
#define END_UNIT(v) close(v)
#define FLOWS FLOWS_BASIC
#include "flows.inc"

#define ACQUIRER epoll_create1
#define NEW_UNIT epoll_create1(EPOLL_CLOEXEC)
#define END_UNIT(v) close(v)
#define FLOWS FLOWS_CALLS
#include "flows.inc"

#define ACQUIRER memfd_create
#define NEW_UNIT memfd_create("pairs", MFD_CLOEXEC)
#define END_UNIT(v) close(v)
#define FLOWS FLOWS_LIFE
#include "flows.inc"

#define ACQUIRER pidfd_open
#define NEW_UNIT pidfd_open(getpid(), 0)
#define END_UNIT(v) close(v)
#define FLOWS FLOWS_BASIC
#include "flows.inc"

#define ACQUIRER mkstemp
#define NEW_UNIT temporary()
#define END_UNIT(v) close(v)
#define FLOWS FLOWS_CALLS
#include "flows.inc"

#define ACQUIRER passed
#define NEW_UNIT passed()
#define END_UNIT(v) close(v)
#define FLOWS FLOWS_LIFE | FLOWS_CALLS
#include "flows.inc"

#define ACQUIRER close_range
#define NEW_UNIT open("/dev/null", O_RDONLY)
#define END_UNIT(v) close_range((unsigned)v, (unsigned)v, 0)
#define FLOWS FLOWS_CALLS
#include "flows.inc"

/* Numbers above all others in use, whose file dup2 or dup3 replaces. */
#define ACQUIRER dup2
#define NEW_UNIT dup2(STDIN_FILENO, target)
#define BYTES 1
#define ALSO ""
BAD(new_number)
{
    static int used;
    int target = pairs_highest - 1000 + used++;
    int v = LOST;
    USE(v);
}
GOOD(new_number)
{
    int target = pairs_highest - 1;
    int v = KEPT;
    USE(v);
    close(v);
}
BAD(live_number) /* what was copied is forgotten */
{
    int target = pairs_highest - 2;
#undef NEW_UNIT
#define NEW_UNIT open("/dev/zero", O_RDONLY)
    int v = LOST;
    dup2(v, target);
}
GOOD(live_number) /* each copy closes the one before */
{
    int target = pairs_highest - 3;
    int v = KEPT;
    dup2(v, target);
    close(v);
}
#undef ACQUIRER
#define ACQUIRER dup3
BAD(live_number)
{
    int target = pairs_highest - 4;
    int v = LOST;
    dup3(v, target, O_CLOEXEC);
}
GOOD(live_number)
{
    int target = pairs_highest - 5;
    int v = KEPT;
    dup3(v, target, O_CLOEXEC);
    close(v);
}
#undef ACQUIRER
#define ACQUIRER close
BAD(wrong_number) /* closes what is not open, and what is not its own */
{
    int v = LOST;
    USE(v);
    close(-1);
    close(pairs_highest);
}
GOOD(interrupted_twice) /* the second close of the same number must release nothing */
{
    int v = KEPT;
    close(v);
    close(v);
}
#undef ACQUIRER
#define ACQUIRER fdopen
BAD(handed_to_stream) /* fclose would have closed it */
{
    int v = LOST;
    USE(v);
    FILE *f = fdopen(dup(v), "r");
    fclose(f);
}
GOOD(handed_to_stream)
{
    int v = KEPT;
    FILE *f = fdopen(v, "r");
    fclose(f);
}
#undef ACQUIRER
#undef NEW_UNIT
#define ACQUIRER inotify_init1 /* a user may have some 128 */
#define NEW_UNIT inotify_init1(IN_CLOEXEC)
BAD(sometimes)
{
    int v = LOST;
    if (pairs_round % 2)
        close(v);
}
GOOD(sometimes)
{
    int v = KEPT;
    if (pairs_round % 2)
        USE(v);
    close(v);
}
