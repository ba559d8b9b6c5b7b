/* SPDX-License-Identifier: Apache-2.0 */
/* Binary min-heap over struct timer; see timer.h. */
#include "timer.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <time.h>

static struct timer **heap; /* heap[0] unused, so that slot 0 can mean "not armed" */
static size_t heap_len, heap_cap;

uint64_t timer_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000u + (uint64_t)ts.tv_nsec / 1000000u;
}

static void place(struct timer *t, size_t slot)
{
    heap[slot] = t;
    t->slot = slot;
}

static void sift_up(struct timer *t, size_t slot)
{
    for (; slot > 1 && heap[slot / 2]->at > t->at; slot /= 2)
        place(heap[slot / 2], slot);
    place(t, slot);
}

static void sift_down(struct timer *t, size_t slot)
{
    for (size_t child; (child = slot * 2) <= heap_len; slot = child) {
        if (child < heap_len && heap[child + 1]->at < heap[child]->at)
            child++;
        if (heap[child]->at >= t->at)
            break;
        place(heap[child], slot);
    }
    place(t, slot);
}

void timer_cancel(struct timer *t)
{
    size_t slot = t->slot;
    if (slot == 0)
        return;
    t->slot = 0;
    struct timer *last = heap[heap_len--];
    if (last == t)
        return;
    if (slot > 1 && heap[slot / 2]->at > last->at)
        sift_up(last, slot);
    else
        sift_down(last, slot);
}

int timer_set(struct timer *t, uint64_t delay_ms, void (*fire)(struct timer *t))
{
    timer_cancel(t);
    if (heap_len + 2 > heap_cap) {
        size_t cap = heap_cap ? heap_cap * 2 : 64;
        struct timer **grown = realloc(heap, cap * sizeof(struct timer *));
        if (!grown)
            return -ENOMEM;
        heap = grown;
        heap_cap = cap;
    }
    t->at = timer_now() + delay_ms + 1; /* now is rounded down: never too early */
    t->fire = fire;
    heap_len++;
    sift_up(t, heap_len);
    return 0;
}

void timer_run(void)
{
    uint64_t now = timer_now();
    while (heap_len && heap[1]->at <= now) {
        struct timer *t = heap[1];
        timer_cancel(t);
        t->fire(t);
    }
}

int timer_wait(void)
{
    if (!heap_len)
        return -1;
    uint64_t now = timer_now(), at = heap[1]->at;
    if (at <= now)
        return 0;
    return at - now > INT_MAX ? INT_MAX : (int)(at - now);
}

void timer_free_all(void)
{
    free(heap);
    heap = NULL;
    heap_len = heap_cap = 0;
}
