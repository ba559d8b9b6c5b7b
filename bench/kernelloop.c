/* SPDX-License-Identifier: Apache-2.0 */
/* The loop against which recording from the kernel is measured: open+close pairs called at a given
 * depth of real recursion, a system call that nobody records, and those that tell for whom a thread
 * works: recv of a socket, and poll. Prints the ns of each, the
 * minimum over slices after the first, which noise can only raise. `--slow` makes the slices short,
 * for tracers that need a thousand times as long. Start: main. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static unsigned slices = 2000, calls = 200;
static double best_pair = 1e9, best_other = 1e9, best_recv = 1e9, best_poll = 1e9;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void lower(double *best, double value)
{
    if (value < *best)
        *best = value;
}

static __attribute__((noinline)) void measure(void)
{
    int pair[2];
    char byte = 'x';
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) || write(pair[0], &byte, 1) != 1)
        exit(1);
    for (unsigned slice = 0; slice < slices; slice++) {
        double begin = now();
        for (unsigned i = 0; i < calls; i++) {
            int fd = open("/dev/null", O_RDONLY);
            if (fd < 0)
                exit(1);
            close(fd);
        }
        double between = now();
        for (unsigned i = 0; i < calls; i++)
            syscall(SYS_getppid);
        double other = now();
        for (unsigned i = 0; i < calls; i++)
            recv(pair[1], &byte, 1, MSG_PEEK);
        double received = now();
        for (unsigned i = 0; i < calls; i++)
            poll(NULL, 0, 0);
        double end = now();
        if (slice) {
            lower(&best_pair, (between - begin) / calls);
            lower(&best_other, (other - between) / calls);
            lower(&best_recv, (received - other) / calls);
            lower(&best_poll, (end - received) / calls);
        }
    }
}

static __attribute__((noinline)) unsigned deeper(unsigned depth)
{
    volatile char room[64]; /* a frame of some size */
    room[0] = (char)depth;
    if (depth)
        return deeper(depth - 1) + (unsigned)room[0];
    measure();
    return (unsigned)room[0];
}

int main(int argc, char **argv)
{
    unsigned depth = argc > 1 ? (unsigned)atoi(argv[1]) : 10;
    if (argc > 2 && strcmp(argv[2], "--slow") == 0) {
        slices = 20;
        calls = 100;
    }
    unsigned sum = deeper(depth);
    printf("open_close_ns %.1f other_ns %.1f recv_ns %.1f poll_ns %.1f\n", best_pair, best_other,
           best_recv, best_poll);
    return sum == 12345;
}
