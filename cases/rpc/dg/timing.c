/* SPDX-License-Identifier: Apache-2.0 */
/* Timers; see timing.h. */
#include "timing.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

static struct dg_timing timing;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* A positive number from the environment, else what is given. */
static double setting(const char *name, double otherwise)
{
    const char *text = getenv(name);
    char *end;
    double value = text ? strtod(text, &end) : 0;
    return text && end != text && !*end && value > 0 && value < 1e9 ? value : otherwise;
}

static int64_t scaled(double ms, double scale)
{
    int64_t t = (int64_t)(ms * scale + 0.5);
    return t > 0 ? t : 1;
}

static void read_settings(void)
{
    double scale = setting("RPC_TIME_SCALE", 1);
    double ping = setting("RPC_PING_MS", (double)scaled(1000, scale));
    timing = (struct dg_timing){
        .ping = scaled(ping, 1),
        .ping_max = scaled(ping, 32),
        .com_timeout = (int64_t)setting("RPC_COM_TIMEOUT_MS", (double)scaled(30000, scale)),
        .ack_delay = scaled(2000, scale),
        .cancel = scaled(2000, scale),
        .broadcast = scaled(5000, scale),
        .keep_alive = scaled(20000, scale),
        .rundown = scaled(120000, scale),
        .rundown_scan = scaled(60000, scale),
        .idle = scaled(300000, scale),
        .port_recycle = (int64_t)setting("RPC_PORT_RECYCLE_MS", (double)scaled(240000, scale)),
    };
}

const struct dg_timing *dg_timing(void)
{
    pthread_once(&once, read_settings);
    return &timing;
}

int64_t dg_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}
