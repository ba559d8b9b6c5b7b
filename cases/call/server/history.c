/* SPDX-License-Identifier: Apache-2.0 */
/* A ring of pointers to call detail records; see history.h. */
#include "history.h"
#include "call.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static char **ring;
static size_t ring_next;

void history_add(const struct call *call)
{
    if (!config.history)
        return;
    if (!ring && !(ring = calloc(config.history, sizeof *ring)))
        return;
    char *text = NULL;
    time_t now = time(NULL);
    struct tm tm;
    char stamp[32];
    gmtime_r(&now, &tm);
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%SZ", &tm);
    if (asprintf(&text, "%s call=%llu line=%u from=%s to=%s ms=%llu mode=0x%x", stamp,
                 (unsigned long long)call->id, call->line->id, call->caller, call->called,
                 (unsigned long long)(timer_now() - call->started_ms), call->mode) < 0)
        return;
    free(ring[ring_next]);
    ring[ring_next] = text;
    ring_next = (ring_next + 1) % config.history;
}

void history_dump(void)
{
    for (size_t i = 0; ring && i < config.history; i++) {
        const char *text = ring[(ring_next + i) % config.history];
        if (text)
            fprintf(stderr, "%s\n", text);
    }
}

void history_free_all(void)
{
    for (size_t i = 0; ring && i < config.history; i++)
        free(ring[i]);
    free(ring);
    ring = NULL;
}
