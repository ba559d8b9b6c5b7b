/* SPDX-License-Identifier: Apache-2.0 */
/* A program with a big heap of small blocks, for measuring what telltale's memory is to the
 * program's, and what a snapshot costs: acquires blocks of 16 to 256 bytes (seeded) until the sum
 * of requested bytes is reached, touches each, says "ready REQUESTED_BYTES BLOCKS", and waits until
 * its input ends. For each line of input it forks a child that ends at once, and says how many
 * nanoseconds fork(2) took. With LOSE it drops every LOSE-th block.
 * Usage: heapblocks MEBIBYTES [LOSE] */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct block {
    struct block *next;
};

/* One of eight places, so that a few sites share the heap. */
#define PLACE(n)                                                                                   \
    static __attribute__((noinline)) void *place##n(size_t size)                                   \
    {                                                                                              \
        void *p = malloc(size);                                                                    \
        if (p)                                                                                     \
            memset(p, n, size);                                                                    \
        return p;                                                                                  \
    }
PLACE(0)
PLACE(1)
PLACE(2)
PLACE(3)
PLACE(4)
PLACE(5)
PLACE(6)
PLACE(7)
static void *(*const places[8])(size_t) = {place0, place1, place2, place3,
                                           place4, place5, place6, place7};

static void time_fork(void)
{
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    pid_t pid = fork();
    if (!pid)
        _exit(0);
    clock_gettime(CLOCK_MONOTONIC, &after);
    printf("%lld\n", (long long)(after.tv_sec - before.tv_sec) * 1000000000 +
                         (after.tv_nsec - before.tv_nsec));
    fflush(stdout);
    if (pid > 0)
        waitpid(pid, NULL, 0);
}

int main(int argc, char **argv)
{
    uint64_t lose = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
    uint64_t wanted = argc > 1 ? strtoull(argv[1], NULL, 10) << 20 : 0;
    if (!wanted) {
        fprintf(stderr, "usage: heapblocks MEBIBYTES [LOSE]\n");
        return 2;
    }
    struct block *all = NULL;
    uint64_t got = 0, count = 0, x = 0x9e3779b97f4a7c15u; /* xorshift64 (Marsaglia 2003) */
    while (got < wanted) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        size_t size = 16 + (size_t)(x >> 32) % 241;
        struct block *b = places[x & 7](size);
        if (!b) {
            fprintf(stderr, "heapblocks: out of memory after %llu bytes\n",
                    (unsigned long long)got);
            return 3;
        }
        got += size;
        count++;
        if (lose && count % lose == 0)
            continue;
        b->next = all;
        all = b;
    }
    printf("ready %llu %llu\n", (unsigned long long)got, (unsigned long long)count);
    fflush(stdout);
    char c;
    while (read(STDIN_FILENO, &c, 1) > 0)
        if (c == '\n')
            time_fork();
    return all == NULL;
}
