/* SPDX-License-Identifier: Apache-2.0 */
/* The loop against which recording from the kernel is measured: open+close pairs called at a given
 * depth of real recursion, and a system call that nobody records. Prints the ns of each, the
 * minimum over slices after the first, which noise can only raise. `--slow` makes the slices short,
 * for tracers that need a thousand times as long. Start: main. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static unsigned slices = 3000, calls = 200;
static double best_pair = 1e9, best_other = 1e9;

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
        double end = now();
        if (slice) {
            lower(&best_pair, (between - begin) / calls);
            lower(&best_other, (end - between) / calls);
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
    printf("open_close_ns %.1f other_ns %.1f\n", best_pair, best_other);
    return sum == 12345;
}
