/* SPDX-License-Identifier: Apache-2.0 */
/* What the macros of include/telltale.h cost where nobody listens: a loop that takes and gives
 * back, with them and without, by turns in one process. Prints nanoseconds of one pass of each, the
 * least of all rounds, and the median of the differences of neighbouring rounds. Usage: toldloop
 * [ROUNDS]. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "telltale.h"

#define PASSES 2000000L
#define ROUNDS_MOST 1000

static unsigned long state;

__attribute__((noinline)) static void plain(unsigned long value)
{
    state = state * 6364136223846793005UL + value;
    state ^= state >> 29;
}

/* The same, and tells of an operation, a handle taken and one given back. */
__attribute__((noinline)) static void telling(unsigned long value)
{
    TELLTALE_OPERATION(pass);
    state = state * 6364136223846793005UL + value;
    TELLTALE_HANDLE_ACQUIRE(number, state);
    state ^= state >> 29;
    TELLTALE_HANDLE_RELEASE(number, state);
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double round_of(void (*pass)(unsigned long value))
{
    double begin = seconds();
    for (long i = 0; i < PASSES; i++)
        pass((unsigned long)i);
    return (seconds() - begin) / PASSES * 1e9;
}

static int by_size(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

int main(int argc, char **argv)
{
    static double difference[ROUNDS_MOST];
    double least[2] = {1e9, 1e9};
    int rounds = argc > 1 ? atoi(argv[1]) : 100;
    rounds = rounds < 1 ? 1 : rounds > ROUNDS_MOST ? ROUNDS_MOST : rounds;
    for (int i = 0; i < rounds; i++) {
        double without = round_of(plain), with = round_of(telling);
        least[0] = without < least[0] ? without : least[0];
        least[1] = with < least[1] ? with : least[1];
        difference[i] = with - without;
    }
    qsort(difference, (size_t)rounds, sizeof *difference, by_size);
    printf("without %.3f ns, with three macros %.3f ns, median difference %.3f ns (%lu)\n",
           least[0], least[1], difference[rounds / 2], state & 1);
    return 0;
}
