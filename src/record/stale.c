/* SPDX-License-Identifier: Apache-2.0 */
/* Which sampled objects the program has not touched for long. The kernel notes for each page that
 * it was referenced; writing 1 to clear_refs takes these notes away, and smaps shows later which
 * came back (proc(5)). The agent gives sampled objects mappings of their own while they are few, so
 * that a mapping's note is an object's. Both files hold the target's mmap_lock for some
 * milliseconds per GB, hence epochs of tens of seconds. A processor that keeps a translation cached
 * may touch without a note (MECHANISMS.md 5): only two epochs in a row count. Start:
 * tt_stale_visit. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "record/internal.h"

#define FIRST_NS (2 * TT_SECOND)
#define SHORT_NS (10 * TT_SECOND) /* the first epochs, so that a short recording has some */
#define SHORT_EPOCHS 3u
#define EPOCH_NS (30 * TT_SECOND)
#define COST_SHARE 50u
#define EPOCHS_LEAST 2u

/* ---- the mappings ---- */

int tt_stale_maps(FILE *smaps, uint64_t start, uint64_t end, tt_stale_map_vec *out)
{
    char line[512];
    bool inside = false;
    while (fgets(line, sizeof line, smaps)) {
        unsigned long long from, to, kb;
        /* "Key:   12 kB" or "START-END perms ..."; keys begin with a capital */
        if (line[0] >= 'A' && line[0] <= 'Z') {
            /* NOLINTNEXTLINE(cert-err34-c): the kernel writes no number that does not fit */
            if (inside && sscanf(line, "Referenced: %llu kB", &kb) == 1)
                out->data[out->len - 1].referenced = kb << 10;
            continue;
        }
        /* NOLINTNEXTLINE(cert-err34-c): as above */
        if (sscanf(line, "%llx-%llx ", &from, &to) != 2)
            continue;
        if (from >= end) /* they ascend */
            return 0;
        inside = from >= start && to <= end;
        if (inside && tt_vec_push(out, (struct tt_stale_map){from, to, 0}))
            return -ENOMEM;
    }
    return 0;
}

/* ---- counting epochs ---- */

void tt_stale_epoch(struct tt_stale *stale, tt_stale_object_vec *now, double seconds)
{
    size_t k = 0;
    for (size_t i = 0; i < now->len; i++) {
        struct tt_stale_object *object = &now->data[i];
        while (k < stale->objects.len && stale->objects.data[k].address < object->address)
            k++;
        const struct tt_stale_object *before =
            k < stale->objects.len && stale->objects.data[k].address == object->address &&
                    stale->objects.data[k].born == object->born
                ? &stale->objects.data[k]
                : NULL;
        object->lived = before ? before->lived + 1 : 1;
        object->untouched = object->untouched ? (before ? before->untouched + 1 : 1) : 0;
    }
    tt_vec_free(&stale->objects);
    stale->objects.data = now->data;
    stale->objects.len = now->len;
    stale->objects.cap = now->cap;
    now->data = NULL;
    now->len = now->cap = 0;
    memmove(&stale->seconds[1], &stale->seconds[0],
            (TT_STALE_EPOCHS_MOST - 1) * sizeof *stale->seconds);
    stale->seconds[0] = seconds;
    stale->epochs++;
}

static int by_site(const void *a, const void *b)
{
    const struct tt_stale_object *const *x = a, *const *y = b;
    return ((*x)->site > (*y)->site) - ((*x)->site < (*y)->site);
}

int tt_stale_sum(struct tt_stale *stale,
                 double (*weight)(void *arg, const struct tt_stale_object *object), void *arg)
{
    /* longer proves more, as long as half of the recording's objects can have lived so long */
    uint32_t k = stale->epochs / 2;
    k = k < EPOCHS_LEAST ? EPOCHS_LEAST : k > TT_STALE_EPOCHS_MOST ? TT_STALE_EPOCHS_MOST : k;
    stale->rows.len = 0;
    if (stale->epochs < k || !stale->objects.len)
        return 0;
    double seconds = 0;
    for (uint32_t i = 0; i < k; i++)
        seconds += stale->seconds[i];
    const struct tt_stale_object **old = calloc(stale->objects.len, sizeof *old);
    size_t n = 0;
    int code = old ? 0 : -ENOMEM;
    for (size_t i = 0; !code && i < stale->objects.len; i++)
        if (stale->objects.data[i].lived >= k)
            old[n++] = &stale->objects.data[i];
    if (n)
        qsort(old, n, sizeof *old, by_site);
    for (size_t i = 0; !code && i < n;) {
        struct tt_session_stale row = {.site = old[i]->site, .epochs = k, .seconds = seconds};
        for (; i < n && old[i]->site == row.site; i++) {
            row.objects++;
            if (old[i]->untouched < k)
                continue;
            row.untouched++;
            row.untouched_bytes += old[i]->size;
            row.untouched_weight += weight(arg, old[i]);
        }
        code = tt_vec_push(&stale->rows, row);
    }
    free(old);
    stale->changed = true;
    return code;
}

/* Blocks that a sampled one stands for (METHODS.md 2.1): 1/p of its being taken. */
static double weight(void *arg, const struct tt_stale_object *object)
{
    const struct tt_image *image = arg;
    const struct tt_tape_head *h = &image->tape.head;
    if (h->mode == TT_MODE_ADAPTIVE)
        return object->site < image->tape.sites.len
                   ? ldexp(1, image->tape.sites.data[object->site].thin)
                   : 1;
    double p = h->sample_mean ? -expm1(-(double)object->size / (double)h->sample_mean) : 1;
    return p > 1e-12 ? 1 / p : 1;
}

/* ---- an epoch of a process ---- */

struct found {
    tt_stale_object_vec *list;
    unsigned n; /* in this mapping */
};

static void take(void *arg, uint64_t address, const struct tt_shadow_entry *entry)
{
    struct found *found = arg;
    struct tt_stale_object object = {
        .address = address, .size = entry->size, .site = entry->site, .born = entry->tick};
    if (tt_vec_push(found->list, object) == 0)
        found->n++;
}

/* What lived through the epoch and has a mapping to itself. */
static int gather(struct tt_image *image, tt_stale_object_vec *now)
{
    char path[64];
    tt_stale_map_vec maps = {0};
    struct tt_shadow shadow = {0};
    uint64_t base = image->tape.head.region_base;
    snprintf(path, sizeof path, "/proc/%d/smaps", (int)image->pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return -errno;
    setvbuf(f, NULL, _IOFBF, 1 << 16);
    int code = tt_stale_maps(f, base, base + TT_RECORD_REGION_BYTES, &maps);
    fclose(f);
    /* born in the tick of the clearing: before or after it, who knows */
    if (!code)
        code = tt_shadow_copy(&shadow, &image->tape, image->stale.cleared_tick - 1);
    for (size_t i = 0; !code && i < maps.len; i++) {
        struct found found = {now, 0};
        size_t before = now->len;
        tt_shadow_each(&shadow, maps.data[i].start, maps.data[i].end, take, &found);
        if (found.n == 1)
            now->data[before].untouched = maps.data[i].referenced == 0;
        else
            now->len = before;
    }
    tt_shadow_free(&shadow);
    tt_vec_free(&maps);
    return code;
}

static int clear(const struct tt_image *image)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/clear_refs", (int)image->pid);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int code = write(fd, "1", 1) == 1 ? 0 : -errno;
    close(fd);
    return code;
}

static void give_up(struct tt_recorder *rec, struct tt_image *image, int code)
{
    char line[200];
    image->stale.given_up = true;
    if (code == -ESRCH || code == -ENOENT || rec->no_staleness_said)
        return;
    rec->no_staleness_said = true;
    snprintf(line, sizeof line,
             "which objects are untouched cannot be seen: /proc/%d/clear_refs: %s (needs the "
             "process's user, or root)",
             (int)image->pid, strerror(-code));
    tt_loop_say(rec, line);
}

void tt_stale_visit(struct tt_recorder *rec, struct tt_image *image, uint64_t now_ns)
{
    struct tt_stale *stale = &image->stale;
    const struct tt_tape_head *h = &image->tape.head;
    if (rec->options->no_staleness || stale->given_up || !h->region_base || !image->visible ||
        !image->first_read || h->state != TT_STATE_RUNNING)
        return;
    if (!stale->due_ns)
        stale->due_ns = image->opened_ns + FIRST_NS;
    if (now_ns < stale->due_ns)
        return;
    uint64_t begin = tt_clock_read(CLOCK_THREAD_CPUTIME_ID);
    int code = 0;
    if (stale->armed && stale->cleared_tick) {
        tt_stale_object_vec now = {0};
        code = gather(image, &now);
        if (!code) {
            tt_stale_epoch(stale, &now, (double)(now_ns - stale->cleared_ns) / 1e9);
            code = tt_stale_sum(stale, weight, image);
        }
        tt_vec_free(&now);
    }
    if (!code)
        code = clear(image);
    if (code) {
        give_up(rec, image, code);
        return;
    }
    stale->armed = true;
    stale->cleared_ns = tt_clock_now();
    stale->cleared_tick = tt_record_tick_at(rec, stale->cleared_ns);
    uint64_t cost = (tt_clock_read(CLOCK_THREAD_CPUTIME_ID) - begin) * COST_SHARE;
    uint64_t pause = stale->epochs < SHORT_EPOCHS ? SHORT_NS : EPOCH_NS;
    stale->due_ns = stale->cleared_ns + (cost > pause ? cost : pause);
}

void tt_stale_put(struct tt_recorder *rec, struct tt_image *image)
{
    struct tt_stale *stale = &image->stale;
    if (!stale->changed)
        return;
    tt_session_clear_stale(rec->writer, image->id);
    for (size_t i = 0; i < stale->rows.len; i++) {
        stale->rows.data[i].process = image->id;
        tt_session_put_stale(rec->writer, &stale->rows.data[i]);
    }
    stale->changed = false;
}

void tt_stale_free(struct tt_stale *stale)
{
    tt_vec_free(&stale->objects);
    tt_vec_free(&stale->rows);
}
