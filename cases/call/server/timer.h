/* SPDX-License-Identifier: Apache-2.0 */
/* One-shot timers in a binary heap, for the SIP timers. A timer is embedded in its owner, which
 * recovers itself with CONTAINER_OF; the heap's array is the only memory and only grows to the
 * largest number of timers that were ever armed together. Start: timer_set, timer_run. */
#ifndef CALL_TIMER_H
#define CALL_TIMER_H

#include <stddef.h>
#include <stdint.h>

#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

struct timer {
    uint64_t at; /* ms of CLOCK_MONOTONIC */
    size_t slot; /* 1-based place in the heap, 0 when not armed */
    void (*fire)(struct timer *t);
};

uint64_t timer_now(void);

/* (Re)arms t to fire once, in delay ms. 0 or -ENOMEM. */
int timer_set(struct timer *t, uint64_t delay_ms, void (*fire)(struct timer *t));
void timer_cancel(struct timer *t);

/* Fires what is due. A callback may set, cancel or free any timer. */
void timer_run(void);

/* Milliseconds until the next timer, -1 when none is armed: the argument epoll_wait wants. */
int timer_wait(void);
void timer_free_all(void);

#endif
