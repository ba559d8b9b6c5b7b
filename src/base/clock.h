/* SPDX-License-Identifier: Apache-2.0 */
/* Clocks. Ages use CLOCK_BOOTTIME, which goes on while the machine is suspended; wall time is only
 * for what people read. Start: tt_clock_now. */
#ifndef TT_BASE_CLOCK_H
#define TT_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t tt_clock_read(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * 1000000000ULL + (uint64_t)ts.tv_nsec;
}

/* Nanoseconds of CLOCK_BOOTTIME. */
static inline uint64_t tt_clock_now(void)
{
    return tt_clock_read(CLOCK_BOOTTIME);
}

/* Nanoseconds since the epoch, UTC. */
static inline uint64_t tt_clock_wall(void)
{
    return tt_clock_read(CLOCK_REALTIME);
}

#endif
