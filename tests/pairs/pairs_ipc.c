/* SPDX-License-Identifier: Apache-2.0 */
/* System V and POSIX IPC. System V objects outlive the process: their keys begin with its number,
 * so that whoever ran it can remove what it left (tests/e2e/pairs.py does). */
#include "pairs.h"

#include <mqueue.h>
#include <semaphore.h>
#include <stdio.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

typedef sem_t *semaphore;

/* One line of what this program made, for whoever runs it. */
static void will_stay(const char *what, int id)
{
    char line[32];
    if (id < 0)
        pairs_failed(what);
    int n = snprintf(line, sizeof line, "%s %d\n", what, id);
    if (write(STDERR_FILENO, line, (size_t)n) < 0)
        pairs_failed("writing to standard error");
}

static const char *next_name(void)
{
    static char name[64];
    static unsigned n;
    snprintf(name, sizeof name, "/pairs.%d.%u", (int)getpid(), n++);
    return name;
}

static PAIRS_OWN_FRAME int segment(void)
{
    int id = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);
    will_stay("shm", id);
    return id;
}

static PAIRS_OWN_FRAME int semaphores(void)
{
    int id = semget(IPC_PRIVATE, 1, IPC_CREAT | 0600);
    will_stay("sem", id);
    return id;
}

static PAIRS_OWN_FRAME int message_queue(void)
{
    int id = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
    will_stay("msg", id);
    return id;
}

/* Named ones lose their names at once, and live until they are closed. */
static PAIRS_OWN_FRAME sem_t *posix_semaphore(void)
{
    const char *name = next_name();
    sem_t *s = sem_open(name, O_CREAT | O_EXCL, 0600, 1);
    if (s == SEM_FAILED)
        pairs_failed("sem_open");
    sem_unlink(name);
    return s;
}

static PAIRS_OWN_FRAME mqd_t posix_queue(void)
{
    const char *name = next_name();
    struct mq_attr small = {.mq_maxmsg = 1, .mq_msgsize = 8};
    mqd_t q = mq_open(name, O_CREAT | O_EXCL | O_RDWR, 0600, &small);
    if (q < 0)
        pairs_failed("mq_open");
    mq_unlink(name);
    return q;
}

static PAIRS_OWN_FRAME int posix_segment(void)
{
    const char *name = next_name();
    int fd = shm_open(name, O_CREAT | O_EXCL | O_RDWR, 0600);
    if (fd < 0)
        pairs_failed("shm_open");
    shm_unlink(name);
    return fd;
}

#define RESOURCE "ipc"
#define UNIT int
#define ACQUIRER shmget
#define NEW_UNIT segment()
#define END_UNIT(v) shmctl(v, IPC_RMID, NULL)
#define BYTES 4096
#define FLOWS FLOWS_ALL & ~FLOWS_FORK
#include "flows.inc"

#define ACQUIRER semget
#define NEW_UNIT semaphores()
#define END_UNIT(v) semctl(v, 0, IPC_RMID)
#define FLOWS FLOWS_BASIC | FLOWS_CALLS
#include "flows.inc"

#define ACQUIRER msgget
#define NEW_UNIT message_queue()
#define END_UNIT(v) msgctl(v, IPC_RMID, NULL)
#define FLOWS FLOWS_LIFE | FLOWS_DATA
#include "flows.inc"

#undef RESOURCE

#define RESOURCE "fd" /* Linux gives a file of tmpfs */
#define ACQUIRER shm_open
#define NEW_UNIT posix_segment()
#define END_UNIT(v) close(v)
#define FLOWS FLOWS_BASIC
#include "flows.inc"
#undef UNIT
#undef RESOURCE

#define RESOURCE "ipc"
#define UNIT semaphore
#define ACQUIRER sem_open
#define NEW_UNIT posix_semaphore()
#define END_UNIT(v) sem_close(v)
#define ALSO "mapping|heap"
#define FLOWS FLOWS_DATA
#include "flows.inc"
#undef UNIT

/* Few: a user may have some 256 queues. */
#define UNIT mqd_t
#define ACQUIRER mq_open
#define NEW_UNIT posix_queue()
#define ALSO "fd"
#define BYTES 1
BAD(plain)
{
    mqd_t v = LOST;
    USE(v);
}
GOOD(plain)
{
    mqd_t v = KEPT;
    mq_close(v);
}
BAD(sometimes)
{
    mqd_t v = LOST;
    if (pairs_round % 2)
        mq_close(v);
}
GOOD(sometimes)
{
    mqd_t v = KEPT;
    if (pairs_round % 2)
        mq_close(v);
    else
        close(v);
}
