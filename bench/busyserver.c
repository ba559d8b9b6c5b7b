/* SPDX-License-Identifier: Apache-2.0 */
/* A server at a steady rate, for measuring how a session grows: each millisecond it handles
 * requests that acquire and release blocks of many sizes at many stacks, some kept for a while and
 * a few for ever. Usage: busyserver SECONDS PAIRS_PER_SECOND. Prints the pairs it made. Start:
 * handle. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SHELF 20000u /* blocks that live for some pairs */
#define DEPTH 12

static void *shelf[SHELF];
static uint64_t x = 0x2545f4914f6cdd1du;
static void *volatile kept;

static uint64_t next_random(void)
{
    x ^= x << 13; /* xorshift64 (Marsaglia 2003) */
    x ^= x >> 7;
    x ^= x << 17;
    return x;
}

static __attribute__((noinline)) void pair(uint64_t r)
{
    size_t size = 16 + (size_t)(r >> 20) % 500;
    void **place = &shelf[(r >> 40) % SHELF];
    free(*place);
    *place = malloc(size);
    *(volatile char *)*place = 1;
}

/* Two ways down at each of DEPTH levels: 2^DEPTH stacks, of which the low bits of r choose one. */
static __attribute__((noinline)) void left(uint64_t r, int depth);
static __attribute__((noinline)) void right(uint64_t r, int depth)
{
    if (depth == 0)
        pair(r);
    else if (r >> depth & 1)
        left(r, depth - 1);
    else
        right(r, depth - 1);
    __asm__ volatile("");
}

static __attribute__((noinline)) void left(uint64_t r, int depth)
{
    if (depth == 0)
        pair(r);
    else if (r >> depth & 1)
        right(r, depth - 1);
    else
        left(r, depth - 1);
    __asm__ volatile("");
}

static __attribute__((noinline)) void keep(void)
{
    kept = calloc(1, 40);
}

static void handle(uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        uint64_t r = next_random();
        uint64_t path = r >> 56 ? r & 0x1e : r & 0x1ffe; /* 16 hot stacks, 4096 rare ones */
        left((r & ~(uint64_t)0x1ffe) | path, DEPTH);
    }
    keep();
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? strtod(argv[1], NULL) : 0;
    uint64_t per_second = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
    if (seconds <= 0 || per_second < 1000) {
        fprintf(stderr, "usage: busyserver SECONDS PAIRS_PER_SECOND\n");
        return 2;
    }
    struct timespec due;
    clock_gettime(CLOCK_MONOTONIC, &due);
    uint64_t milliseconds = (uint64_t)(seconds * 1000);
    for (uint64_t ms = 0; ms < milliseconds; ms++) {
        handle(per_second / 1000);
        due.tv_nsec += 1000000;
        if (due.tv_nsec >= 1000000000L) {
            due.tv_nsec -= 1000000000L;
            due.tv_sec++;
        }
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL) == EINTR)
            ;
    }
    printf("%llu\n", (unsigned long long)(milliseconds * (per_second / 1000)));
    return 0;
}
