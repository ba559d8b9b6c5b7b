/* SPDX-License-Identifier: Apache-2.0 */
/* What the child of test_kernel_live.c does when it is told to: each letter is one way to acquire
 * and release, with counts that the test knows. Start: kernel_child_act. */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kernel_child.h"

static void send_descriptor(int over, int fd)
{
    char byte = 'x', control[CMSG_SPACE(sizeof fd)] = {0};
    struct iovec iov = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    sendmsg(over, &message, 0);
}

static void receive_descriptor(int over, bool many)
{
    char byte, control[256];
    struct iovec iov = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct mmsghdr one = {.msg_hdr = message};
    if (many)
        recvmmsg(over, &one, 1, 0, NULL);
    else
        recvmsg(over, &message, 0);
}

static __attribute__((noinline)) int opens(const char *path)
{
    return open(path, O_RDONLY);
}

/* ---- handles of the program's own ---- */

static long next_handle = 7;

#define KEEP(value) __asm__ volatile("" : : "r"(value) : "memory")
long kernel_child_take(int fails)
{
    KEEP(fails);
    return fails ? -1 : next_handle++;
}
/* Within another call of itself. */
long kernel_child_take_nested(int depth)
{
    long mine = next_handle++;
    long inner = depth ? kernel_child_take_nested(depth - 1) : 0;
    KEEP(inner);
    return mine;
}
int kernel_child_take_at(int unused, long *out)
{
    *out = unused < 0 ? 0 : next_handle++;
    KEEP(out);
    return unused < 0 ? -1 : 0;
}
void kernel_child_give(long handle)
{
    KEEP(handle);
}
void kernel_child_give_at(const long *handle)
{
    KEEP(handle);
}

static void use_handles(void)
{
    long first = kernel_child_take(0), at = 0, ends;
    long failed = kernel_child_take(1), kept = kernel_child_take(0);
    KEEP(failed);
    KEEP(kept);
    kernel_child_give(first);
    ends = kernel_child_take_nested(3);
    kernel_child_give(ends);
    if (kernel_child_take_at(0, &at) == 0)
        kernel_child_give_at(&at);
    kernel_child_take_at(-1, &at);
    kernel_child_take_at(0, &at);
}

/* ---- what the C library gives ---- */

static sem_t detached;

static void *idle(void *detach)
{
    if (detach) {
        pthread_detach(pthread_self());
        sem_post(&detached);
    }
    return NULL;
}

/* Threads joined, detached by themselves, forgotten, and never anybody's, at once: stacks of one
 * size, so that each is the next one's. */
static void use_threads(void)
{
    pthread_attr_t attr;
    pthread_t t, joined;
    sem_init(&detached, 0, 0);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    for (int i = 0; i < 20; i++) {
        pthread_create(&joined, NULL, idle, NULL);
        pthread_create(&t, NULL, idle, &attr);
        pthread_create(&t, NULL, idle, NULL);
        pthread_create(&t, &attr, idle, NULL);
        pthread_join(joined, NULL);
    }
    for (int i = 0; i < 20; i++) /* nobody else waits for these */
        while (sem_wait(&detached) != 0)
            ;
    pthread_attr_destroy(&attr);
}

static void use_library(void)
{
    FILE *f = fopen("/dev/null", "r"), *other = fopen("/dev/zero", "r"), *own = tmpfile();
    void *a = dlopen("libc.so.6", RTLD_NOW), *b = dlopen("libc.so.6", RTLD_NOW);
    KEEP(other);
    KEEP(own);
    KEEP(a);
    if (f)
        fclose(f);
    if (dlopen("/nonexistent.so", RTLD_NOW) || !dlopen("libm.so.6", RTLD_NOW))
        _exit(1);
    if (b)
        dlclose(b);
    use_threads();
}

/* ---- ports and owners ---- */

static void use_ports(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int closed = socket(AF_INET, SOCK_DGRAM, 0), kept = socket(AF_INET, SOCK_DGRAM, 0),
        failed = socket(AF_INET, SOCK_DGRAM, 0);
    socklen_t n = sizeof a;
    bind(closed, (struct sockaddr *)&a, sizeof a);
    bind(kept, (struct sockaddr *)&a, sizeof a);
    getsockname(kept, (struct sockaddr *)&a, &n);
    bind(failed, (struct sockaddr *)&a, sizeof a);  /* in use */
    connect(kept, (struct sockaddr *)&a, sizeof a); /* it has one already */
    dup2(kept, 600);
    close(closed);
}

/* A descriptor for each peer: of a connection, of a sender, of nobody. Their numbers lie above
 * those that the test itself has open. */
static void serve_peers(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in from;
    socklen_t n = sizeof a, n_from = sizeof from;
    int listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0),
        inbox = socket(AF_INET, SOCK_DGRAM, 0), pair[2];
    char byte = 'x';
    bind(listener, (struct sockaddr *)&a, sizeof a);
    listen(listener, 1);
    getsockname(listener, (struct sockaddr *)&a, &n);
    connect(client, (struct sockaddr *)&a, sizeof a);
    int server = accept(listener, NULL, NULL);
    fcntl(server, F_DUPFD, 600); /* for the client */
    a.sin_port = 0;
    bind(inbox, (struct sockaddr *)&a, sizeof a);
    getsockname(inbox, (struct sockaddr *)&a, &n);
    sendto(inbox, &byte, 1, 0, (struct sockaddr *)&a, sizeof a);
    recvfrom(inbox, &byte, 1, 0, (struct sockaddr *)&from, &n_from);
    fcntl(0, F_DUPFD, 601); /* for the sender */
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    if (write(pair[0], &byte, 1) == 1 && read(pair[1], &byte, 1) == 1)
        fcntl(0, F_DUPFD, 602); /* for whoever holds the other end */
    close(pair[1]);
    fcntl(0, F_DUPFD, 603); /* for nobody: that connection has ended */
    if (write(client, &byte, 1) == 1 && read(server, &byte, 1) == 1)
        fcntl(0, F_DUPFD, 604); /* for the client again */
    struct pollfd none = {.fd = -1};
    poll(&none, 1, 0);
    fcntl(0, F_DUPFD, 605); /* for nobody */
}

void kernel_child_act(char what)
{
    int pair[2], fd;
    timer_t timer;
    struct sigevent none = {.sigev_notify = SIGEV_NONE};
    switch (what) {
    case 'o': /* ten opened, seven closed, at one place */
        for (int i = 0; i < 10; i++) {
            fd = opens("/dev/null");
            if (i < 7)
                close(fd);
        }
        break;
    case 'm': /* thousands, most of which the kernel's side counts alone */
        for (int i = 0; i < 5000; i++) {
            fd = opens("/dev/zero");
            close(fd);
        }
        break;
    case 'h': { /* beyond the table of low descriptors */
        struct rlimit most = {8192, 8192};
        setrlimit(RLIMIT_NOFILE, &most);
        fd = fcntl(opens("/dev/null"), F_DUPFD, 5000);
        fcntl(fd, F_DUPFD, 6000);
        close(fd);
        break;
    }
    case 'd': /* onto a live one, which is closed by it */
        fd = opens("/dev/null");
        dup2(opens("/dev/null"), fd);
        break;
    case 'r': /* a range */
        fd = opens("/dev/null");
        opens("/dev/null");
        opens("/dev/null");
        syscall(SYS_close_range, fd, fd + 2, 0);
        break;
    case 'p':
        if (pipe(pair) == 0)
            close(pair[0]);
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0)
            close(pair[1]);
        break;
    case 's': /* comes in a message */
    case 'S': /* and by a call that is not watched */
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0) {
            send_descriptor(pair[0], 0);
            receive_descriptor(pair[1], what == 'S');
        }
        break;
    case 'f': /* fails: nothing comes and nothing goes */
        close(opens("/nonexistent"));
        close(999);
        break;
    case 't':
        if (timer_create(CLOCK_MONOTONIC, &none, &timer) == 0)
            timer_delete(timer);
        timer_create(CLOCK_MONOTONIC, &none, &timer);
        break;
    case 'c': { /* two children, of which one is waited for */
        pid_t pid = fork();
        if (pid == 0)
            _exit(0);
        waitpid(pid, NULL, 0);
        if (fork() == 0)
            _exit(0);
        break;
    }
    case 'i': {
        int id = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);
        shmctl(id, IPC_RMID, NULL);
        break;
    }
    case 'H':
        use_handles();
        break;
    case 'L':
        use_library();
        break;
    case 'b':
        use_ports();
        break;
    case 'w':
        serve_peers();
        break;
    case 'x':
        execl("/bin/sleep", "sleep", "100", (char *)NULL);
        break;
    default:
        break;
    }
}
