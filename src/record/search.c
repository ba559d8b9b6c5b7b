/* SPDX-License-Identifier: Apache-2.0 */
/* One frozen copy, or a core file, searched for what nothing points to, and the rows of that. The
 * search takes a second per GB, so it has a thread of its own, while the recorder's goes on giving
 * tapes the time; ptrace calls stay with the recorder's thread (ptrace(2) binds a tracee to the
 * thread that traces it). Start: tt_search_start. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "record/internal.h"

static uint32_t site_of(void *arg, uint64_t address, uint64_t *requested)
{
    const struct tt_search *search = arg;
    struct tt_shadow_entry entry;
    if (!tt_shadow_at(&search->shadow, address, &entry))
        return 0;
    if (entry.size && requested)
        *requested = entry.size;
    return entry.site;
}

static void reach(struct tt_search *search, int stage)
{
    const uint64_t one = 1;
    search->stage = stage;
    if (search->event_fd >= 0) {
        ssize_t n = write(search->event_fd, &one, sizeof one);
        (void)n; /* the recorder also looks at each tick */
    }
}

struct own {
    const struct tt_heap_image *heap;
    TT_VEC(struct tt_heap_block) list;
};

/* The shadow knows granules of 32 bytes. A sampled object of an attached glibc stands 16 bytes into
 * its pages, behind the header of a mapped chunk: {0, size | IS_MMAPPED} (agent/region.c). */
static void add_own(void *arg, uint64_t address, const struct tt_shadow_entry *entry)
{
    struct own *own = arg;
    uint64_t header[2] = {1, 0};
    const uint8_t *bytes = tt_heap_bytes(own->heap, address, sizeof header);
    if (bytes)
        memcpy(header, bytes, sizeof header);
    bool behind = header[0] == 0 && (header[1] & 7) == 2 && header[1] > entry->size &&
                  (address + (header[1] & ~7ULL)) % 4096 == 0;
    struct tt_heap_block block = {address + (behind ? sizeof header : 0), entry->size};
    int failed = tt_vec_push(&own->list, block);
    (void)failed; /* it is not searched then */
}

void tt_search_run(struct tt_search *search)
{
    /* sampled objects lie where no allocator knows them */
    struct own own = {.heap = &search->heap};
    uint64_t base = search->tape.head.region_base;
    if (base)
        tt_shadow_each(&search->shadow, base, base + TT_RECORD_REGION_BYTES, add_own, &own);
    const struct tt_heap_options options = {.site_of = search->shadow.chunks ? site_of : NULL,
                                            .arg = search,
                                            .extra = own.list.data,
                                            .n_extra = own.list.len};
    search->code = tt_heap_search(&search->heap, &options, search->place, search->place_arg,
                                  &search->result, &search->err);
    search->ended_ns = tt_clock_now();
    tt_vec_free(&own.list);
    tt_heap_image_free(&search->heap);
    search->heap = (struct tt_heap_image){0};
    tt_shadow_free(&search->shadow);
}

static void *work(void *arg)
{
    struct tt_search *search = arg;
    TT_VEC(struct tt_heap_thread) threads = {0};
    tt_heap_prepare(search->expected);
    reach(search, TT_SEARCH_PREPARED);
    while (sem_wait(&search->go) != 0)
        ;
    if (search->code) {
        tt_heap_prepare(0);
        reach(search, TT_SEARCH_DONE);
        return NULL;
    }
    /* the shadow first: the nearer to the moment of the copy, the more of it is of that moment */
    if (search->tape.fd >= 0)
        search->code = tt_shadow_copy(&search->shadow, &search->tape, search->tick);
    for (size_t i = 0; !search->code && i < search->frozen.threads.len; i++) {
        const struct tt_inject_frozen_thread *t = &search->frozen.threads.data[i];
        search->code = tt_vec_push(&threads, (struct tt_heap_thread){t->tid, t->regs});
    }
    if (search->code)
        tt_error_sys(&search->err, search->code, "cannot search process %d", (int)search->pid);
    else
        search->code = tt_heap_image_late(search->frozen.copy, search->pid, threads.data,
                                          threads.len, &search->heap, &search->err);
    search->read_ns = search->ended_ns = tt_clock_now();
    tt_vec_free(&threads);
    reach(search, TT_SEARCH_COPIED);
    if (!search->code && search->heap.pager) { /* large: read while it is searched */
        tt_search_run(search);
        reach(search, TT_SEARCH_READ);
    } else {
        reach(search, TT_SEARCH_READ);
        if (!search->code)
            tt_search_run(search);
    }
    reach(search, TT_SEARCH_DONE);
    return NULL;
}

int tt_search_start(struct tt_search *search)
{
    search->stage = TT_SEARCH_PREPARING;
    search->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    sem_init(&search->go, 0, 0);
    sigset_t all, before;
    sigfillset(&all); /* signals are the recorder's */
    sigdelset(&all, SIGSEGV);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = -pthread_create(&search->thread, NULL, work, search);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code;
}

void tt_search_go(struct tt_search *search)
{
    search->stage = TT_SEARCH_READING;
    sem_post(&search->go);
}

/* ---- rows ---- */

static uint64_t at_most(uint64_t value, uint64_t most)
{
    return value < most ? value : most;
}

static void put_group(struct tt_session_writer *writer, const struct tt_search *search, int64_t id,
                      const struct tt_heap_group *g)
{
    struct tt_text samples = {0};
    for (size_t i = 0; i < sizeof g->sample / sizeof *g->sample && g->sample[i]; i++)
        tt_text_add(&samples, "%s%llx", i ? " " : "", (unsigned long long)g->sample[i]);
    tt_session_put_lost_group(writer,
                              &(struct tt_session_lost_group){
                                  .process = search->process,
                                  .snapshot = search->id,
                                  .id = id,
                                  .fingerprint = g->fingerprint,
                                  .size_min = g->size_min,
                                  .size_max = g->size_max,
                                  .units = g->units,
                                  .bytes = g->bytes,
                                  .roots = at_most(g->roots, g->units),
                                  .hung_units = g->hung_units,
                                  .hung_bytes = g->hung_bytes,
                                  .unknown_units = at_most(g->unknown_units, g->units),
                                  .unknown_bytes = at_most(g->unknown_bytes, g->bytes),
                                  .shape = g->shape,
                                  .samples = samples.failed || !samples.data ? "" : samples.data,
                              });
    tt_text_free(&samples);
    for (size_t i = 0; i < g->shares.len; i++) {
        const struct tt_heap_share *s = &g->shares.data[i];
        double p = s->probability >= 0 && s->probability <= 1 ? s->probability : 0;
        if (s->site)
            tt_session_put_lost_share(
                writer, &(struct tt_session_lost_share){search->process, search->id, id, s->site,
                                                        s->known_units, s->known_bytes,
                                                        s->old_units, s->old_bytes, p});
    }
}

static void put_holder(struct tt_session_writer *writer, const struct tt_search *search, int64_t id,
                       const struct tt_heap_holder *h)
{
    tt_session_put_holder(writer, &(struct tt_session_holder){
                                      .process = search->process,
                                      .snapshot = search->id,
                                      .id = id,
                                      .site = h->site,
                                      .place = h->where,
                                      .path = h->path,
                                      .units = h->units,
                                      .bytes = h->bytes,
                                  });
    for (size_t i = 0; i < h->held.len; i++)
        tt_session_put_held(
            writer, &(struct tt_session_held){search->process, search->id, id, h->held.data[i].site,
                                              h->held.data[i].units, h->held.data[i].bytes});
}

void tt_search_rows(struct tt_session_writer *writer, const struct tt_search *search,
                    const char *source)
{
    const struct tt_heap_result *r = &search->result;
    uint64_t lost = at_most(r->lost_units, r->blocks);
    tt_session_put_snapshot(writer, &(struct tt_session_snapshot){
                                        .process = search->process,
                                        .id = search->id,
                                        .at_ns = search->began_ns,
                                        .tick = search->tick,
                                        .source = source,
                                        .allocator = r->allocator,
                                        .stop_ns = search->frozen.stop_ns,
                                        .fork_ns = search->frozen.fork_ns,
                                        .scan_ns = search->ended_ns - search->began_ns,
                                        .blocks = r->blocks,
                                        .bytes = r->bytes,
                                        .lost_units = lost,
                                        .lost_bytes = at_most(r->lost_bytes, r->bytes),
                                        .lost_roots = r->lost_roots,
                                        .old_units = at_most(r->old_lost_units, lost),
                                        .unknown_units = at_most(r->unknown_units, lost),
                                        .unread_bytes = r->unread_bytes,
                                        .doubt_bytes = r->doubt_bytes,
                                        .tagged = r->tagged,
                                        .groups_left_out = r->groups_left_out,
                                    });
    for (size_t i = 0; i < r->groups.len; i++)
        put_group(writer, search, (int64_t)i + 1, &r->groups.data[i]);
    for (size_t i = 0; i < r->holders.len; i++)
        put_holder(writer, search, (int64_t)i + 1, &r->holders.data[i]);
}

void tt_search_free(struct tt_search *search)
{
    if (search->event_fd >= 0)
        close(search->event_fd);
    if (search->tape.fd >= 0)
        close(search->tape.fd);
    tt_shadow_free(&search->shadow);
    if (search->heap.free)
        tt_heap_image_free(&search->heap);
    tt_heap_result_free(&search->result);
    free(search);
}
