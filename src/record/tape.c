/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a tape. Its writer is another process that may be broken or hostile, and may cut the file
 * at any time; so everything is read by pread (a mapping could raise SIGBUS), every count is
 * bounded before use, and no address of it is followed.
 *
 * Totals: a site's record plus the tallies that threads keep for it. Births and deaths are 32 bits
 * in places and wrap, so what is read counts modulo 2^32 and only the difference to the last
 * reading is added. Sites are read before tallies: an entry moved in between is missed for once,
 * never counted twice, and a total that seems to fall is left as it was until it has caught up.
 * Counts of operations are never moved: each word only grows, and so does their sum.
 * Start: tt_tape_read_totals. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "record/internal.h"

#define CHUNK 1024u /* site records read at a time: 256 KiB */
#define TRIES 4
#define STUCK_VISITS 16u

static bool read_at(const struct tt_tape *tape, void *to, size_t n, uint64_t at)
{
    char *bytes = to;
    while (n > 0) {
        ssize_t got = pread(tape->fd, bytes, n, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        bytes += got;
        at += (uint64_t)got;
        n -= (size_t)got;
    }
    return true;
}

static void bound(uint32_t *value, uint32_t most)
{
    if (*value > most)
        *value = most;
}

int tt_tape_read_head(struct tt_tape *tape)
{
    struct tt_tape_head *h = &tape->head;
    if (!read_at(tape, h, sizeof *h, TT_TAPE_OFF_HEAD) || h->magic == 0) {
        h->magic = 0;
        return -EAGAIN;
    }
    if (h->magic != TT_TAPE_MAGIC || h->version != TT_TAPE_VERSION || h->granule_shift < 3 ||
        h->granule_shift > 6 || h->mode < TT_MODE_EXACT || h->mode > TT_MODE_ADAPTIVE)
        return -EBADMSG;
    bound(&h->site_count, TT_TAPE_SITES);
    bound(&h->frame_count, TT_TAPE_FRAMES);
    bound(&h->region_count, TT_TAPE_REGIONS);
    bound(&h->thread_count, TT_TAPE_THREADS);
    bound(&h->big_count, TT_TAPE_BIG);
    h->allocator[sizeof h->allocator - 1] = '\0';
    h->reason[sizeof h->reason - 1] = '\0';
    h->exe[sizeof h->exe - 1] = '\0';
    return 0;
}

uint32_t tt_tape_state(const struct tt_tape *tape)
{
    uint32_t state;
    return read_at(tape, &state, sizeof state, offsetof(struct tt_tape_head, state))
               ? state
               : TT_STATE_EMPTY;
}

bool tt_tape_exiting(const struct tt_tape *tape)
{
    uint32_t exiting = 0;
    return read_at(tape, &exiting, sizeof exiting, offsetof(struct tt_tape_head, exiting)) &&
           exiting == 1;
}

void tt_tape_let_go(const struct tt_tape *tape)
{
    const uint32_t go = 1;
    ssize_t n = pwrite(tape->fd, &go, sizeof go, offsetof(struct tt_tape_head, exit_go));
    (void)n; /* it waits for a second at most */
}

void tt_tape_tick(struct tt_tape *tape, uint32_t tick, uint64_t origin_ns, bool quiet)
{
    /* the fields marked R, in their order */
    struct {
        uint32_t now_tick, want_quiet;
        uint64_t heartbeat_ns, tick_origin_ns;
        uint32_t tick_saturated, ring_tail;
    } r = {tick, quiet, tt_clock_now(), origin_ns, tick >= TT_TAPE_TICK_MAX, tape->ring_tail};
    _Static_assert(sizeof r == 32 && offsetof(struct tt_tape_head, ring_tail) ==
                                         offsetof(struct tt_tape_head, now_tick) + 28,
                   "the R fields lie together");
    ssize_t n = pwrite(tape->fd, &r, sizeof r, offsetof(struct tt_tape_head, now_tick));
    (void)n; /* a tape that cannot be written stands still, and its agent goes quiet */
}

/* ---- totals ---- */

static void add_site(struct tt_tape *tape, uint32_t id, const struct tt_tape_site *record)
{
    struct tt_site *site = &tape->sites.data[id];
    struct tt_sum *sum = &tape->sums.data[id];
    uint32_t deaths = (uint32_t)record->early_deaths;
    for (uint32_t bin = 1; bin < TT_TAPE_BINS; bin++)
        deaths += record->deaths[bin];
    *sum =
        (struct tt_sum){(uint32_t)record->births, deaths, record->birth_bytes, record->death_bytes};
    site->size_min = record->size_min;
    site->size_max = record->size_max;
    if (site->ready || (record->hash == 0 && id != 0))
        return;
    site->ready = true;
    site->thin = record->thin < 64 ? record->thin : 63;
    site->flags = record->flags;
    site->kind = record->kind;
    site->frames = record->frames;
    site->depth = record->depth;
    /* site 0 has no stack; elsewhere the frames must lie in the store */
    if (id == 0 || record->depth > TT_TAPE_DEPTH || record->frames > TT_TAPE_FRAMES ||
        record->depth > TT_TAPE_FRAMES - record->frames)
        site->depth = 0;
}

static bool read_sites(struct tt_tape *tape)
{
    static struct tt_tape_site chunk[CHUNK];
    uint32_t n = tape->head.site_count;
    for (uint32_t first = 0; first < n; first += CHUNK) {
        uint32_t count = n - first < CHUNK ? n - first : CHUNK;
        if (!read_at(tape, chunk, count * sizeof *chunk,
                     TT_TAPE_OFF_SITES + (uint64_t)first * sizeof *chunk))
            return false;
        for (uint32_t i = 0; i < count; i++)
            add_site(tape, first + i, &chunk[i]);
    }
    return true;
}

/* The sum of all `moving`, odd ones counted heavily: equal and even sums mean nothing moved. */
static bool read_moving(struct tt_tape *tape, uint64_t *sum, bool *odd)
{
    *sum = 0;
    *odd = false;
    for (uint32_t i = 0; i < tape->head.thread_count; i++) {
        uint32_t moving;
        if (!read_at(tape, &moving, sizeof moving,
                     TT_TAPE_OFF_THREADS + (uint64_t)i * sizeof(struct tt_tape_thread) +
                         offsetof(struct tt_tape_thread, moving)))
            return false;
        *sum += moving;
        *odd |= moving & 1;
    }
    return true;
}

static bool read_tallies(struct tt_tape *tape)
{
    static struct tt_tape_thread slots[16];
    uint32_t n = tape->head.thread_count, batch = sizeof slots / sizeof *slots;
    for (uint32_t first = 0; first < n; first += batch) {
        uint32_t count = n - first < batch ? n - first : batch;
        if (!read_at(tape, slots, count * sizeof *slots,
                     TT_TAPE_OFF_THREADS + (uint64_t)first * sizeof *slots))
            return false;
        for (uint32_t i = 0; i < count; i++) {
            for (uint32_t k = 0; k < TT_TAPE_OPS; k++)
                tape->ops[k] += slots[i].ops[k];
            for (uint32_t k = 0; k < TT_TAPE_TALLIES; k++) {
                const struct tt_tape_tally *t = &slots[i].tally[k];
                if (t->site == 0 || t->site >= tape->sums.len)
                    continue;
                struct tt_sum *sum = &tape->sums.data[t->site];
                sum->births += t->births;
                sum->deaths += t->early_deaths;
                sum->birth_bytes += t->birth_bytes;
                sum->death_bytes += t->death_bytes;
            }
        }
    }
    return true;
}

/* Adds what came since; a fall is a torn reading (or a hostile one) and changes nothing. */
static void advance32(uint64_t *total, uint32_t seen)
{
    uint32_t more = seen - (uint32_t)*total;
    if (more < 1u << 31)
        *total += more;
}
static void advance64(uint64_t *total, uint64_t seen)
{
    if (seen > *total && seen <= 1ULL << 60)
        *total = seen;
}

static int grow(struct tt_tape *tape, size_t n)
{
    if (tt_vec_reserve(&tape->sites, n) || tt_vec_reserve(&tape->sums, n))
        return -ENOMEM;
    if (n > tape->sites.len) {
        memset(tape->sites.data + tape->sites.len, 0,
               (n - tape->sites.len) * sizeof *tape->sites.data);
        tape->sites.len = n;
    }
    tape->sums.len = tape->sites.len;
    return 0;
}

int tt_tape_read_totals(struct tt_tape *tape)
{
    for (int try = 0; try < TRIES; try++) {
        uint64_t before, after;
        bool odd_before, odd_after;
        int code = tt_tape_read_head(tape);
        if (!code)
            code = grow(tape, tape->head.site_count);
        if (code)
            return code;
        memset(tape->sums.data, 0, tape->sums.len * sizeof *tape->sums.data);
        for (uint32_t k = 0; k < TT_TAPE_OPS; k++)
            tape->ops[k] = tape->head.ops[k].count;
        if (!read_moving(tape, &before, &odd_before) || !read_sites(tape) || !read_tallies(tape) ||
            !read_moving(tape, &after, &odd_after))
            return -EIO;
        tape->settled = before == after && !odd_before && !odd_after;
        if (tape->settled)
            break;
    }
    for (size_t i = 0; i < tape->sites.len; i++) {
        struct tt_totals *now = &tape->sites.data[i].now;
        const struct tt_sum *sum = &tape->sums.data[i];
        advance32(&now->births, sum->births);
        advance32(&now->deaths, sum->deaths);
        advance64(&now->birth_bytes, sum->birth_bytes);
        advance64(&now->death_bytes, sum->death_bytes);
    }
    return 0;
}

void tt_tape_read_bins(struct tt_tape *tape, uint32_t id)
{
    struct tt_site *site = &tape->sites.data[id];
    struct tt_tape_site record;
    if (!site->bins && !(site->bins = calloc(TT_TAPE_BINS, sizeof *site->bins)))
        return;
    if (!read_at(tape, &record, sizeof record, TT_TAPE_OFF_SITES + (uint64_t)id * sizeof record))
        return;
    uint64_t later = 0;
    for (uint32_t bin = 1; bin < TT_TAPE_BINS; bin++) {
        uint64_t before = site->bins[bin];
        advance32(&site->bins[bin], record.deaths[bin]);
        site->bins_changed |= site->bins[bin] != before;
        later += site->bins[bin];
    }
    /* early deaths lie partly in tallies: they are what the total has beyond the other bins */
    uint64_t early = site->now.deaths > later ? site->now.deaths - later : 0;
    if (early > site->bins[0]) {
        site->bins[0] = early;
        site->bins_changed = true;
    }
}

size_t tt_tape_read_stack(struct tt_tape *tape, const struct tt_site *site,
                          uint64_t frames[TT_TAPE_DEPTH])
{
    if (!site->depth || !read_at(tape, frames, site->depth * sizeof *frames,
                                 TT_TAPE_OFF_FRAMES + (uint64_t)site->frames * 8))
        return 0;
    return site->depth;
}

/* ---- sampled releases ---- */

static void add_release(struct tt_tape *tape, const struct tt_tape_release *r, uint64_t at_ns)
{
    struct tt_site *site = &tape->sites.data[r->site];
    uint64_t weight = r->weight > 1u << 20 ? 1u << 20 : r->weight;
    uint32_t by = r->by < TT_TAPE_SITES ? r->by : 0;
    uint64_t *at = tt_map_get(&tape->release_at, (uint64_t)r->site << 32 | by);
    if (!at && site->n_releases >= TT_RECORD_RELEASES) {
        tape->lost_paths++;
    } else {
        if (!at) {
            struct tt_release row = {.site = r->site, .by = by};
            if (tt_vec_push(&tape->releases, row) ||
                tt_map_put(&tape->release_at, (uint64_t)r->site << 32 | by, tape->releases.len - 1))
                return;
            site->n_releases++;
            at = tt_map_get(&tape->release_at, (uint64_t)r->site << 32 | by);
        }
        struct tt_release *row = &tape->releases.data[*at];
        row->samples++;
        row->weight += weight;
        row->last_ns = at_ns;
        row->changed = true;
    }
    uint32_t age = r->age & TT_TAPE_TICK_MAX;
    at = tt_map_get(&tape->age_at, (uint64_t)r->site << 32 | age);
    if (!at) {
        struct tt_release_age row = {.site = r->site, .age = age};
        if (site->n_ages >= TT_RECORD_AGES) {
            tape->lost_ages++;
            return;
        }
        if (tt_vec_push(&tape->ages, row) ||
            tt_map_put(&tape->age_at, (uint64_t)r->site << 32 | age, tape->ages.len - 1))
            return;
        site->n_ages++;
        at = tt_map_get(&tape->age_at, (uint64_t)r->site << 32 | age);
    }
    struct tt_release_age *row = &tape->ages.data[*at];
    row->samples++;
    row->weight += weight;
    row->changed = true;
}

void tt_tape_read_ring(struct tt_tape *tape, uint64_t origin_ns)
{
    uint32_t head;
    if (!read_at(tape, &head, sizeof head, offsetof(struct tt_tape_head, ring_head)))
        return;
    if (head - tape->ring_tail > TT_TAPE_RING) { /* never, unless the tape lies */
        tape->lost_releases += head - tape->ring_tail;
        tape->ring_tail = head;
        return;
    }
    while (tape->ring_tail != head) {
        struct tt_tape_release r;
        if (!read_at(tape, &r, sizeof r,
                     TT_TAPE_OFF_RING + (uint64_t)(tape->ring_tail % TT_TAPE_RING) * sizeof r))
            return;
        if (r.ready != tape->ring_tail + 1) {
            /* being written; a thread killed amid leaves it so for ever */
            if (++tape->ring_stuck < STUCK_VISITS)
                return;
            tape->lost_releases++;
        } else if (r.site < TT_TAPE_SITES && r.by < TT_TAPE_SITES) {
            uint32_t most = r.site > r.by ? r.site : r.by;
            if (grow(tape,
                     (size_t)most + 1 > tape->sites.len ? (size_t)most + 1 : tape->sites.len) == 0)
                add_release(tape, &r,
                            origin_ns + (uint64_t)(r.tick & TT_TAPE_TICK_MAX) *
                                            (TT_SECOND / TT_TAPE_TICKS_PER_SECOND));
        } else {
            tape->lost_releases++;
        }
        tape->ring_stuck = 0;
        tape->ring_tail++;
    }
}

void tt_tape_free(struct tt_tape *tape)
{
    for (size_t i = 0; i < tape->sites.len; i++)
        free(tape->sites.data[i].bins);
    tt_vec_free(&tape->sites);
    tt_vec_free(&tape->sums);
    tt_vec_free(&tape->releases);
    tt_vec_free(&tape->ages);
    tt_map_free(&tape->release_at);
    tt_map_free(&tape->age_at);
    if (tape->fd >= 0)
        close(tape->fd);
    tape->fd = -1;
}
