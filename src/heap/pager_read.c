/* SPDX-License-Identifier: Apache-2.0 */
/* Reading for the pager: whole pieces, which are sifted strip by strip while they lie in the cache
 * (sieve.c), and single pages for a look here and there. What was sifted is kept in one store, in
 * the order in which it came. Start: tt_heap_pager_read_piece. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "heap/internal_pager.h"

enum {
    WORDS = TT_HEAP_STRIP / 8, /* of a strip */
    STORE_LENT = 24,           /* the part of the bytes that is kept when blocks are small */
    GLANCE = 16,               /* pages */
};

/* ---- pieces ---- */

static void read_run(struct tt_heap_pager *p, uint64_t from, uint8_t *to, uint64_t n)
{
    while (n) {
        errno = 0;
        uint64_t got = tt_heap_read_process(p->mem, from, to, n);
        from += got;
        to += got;
        n -= got;
        if (!n)
            return;
        uint64_t skip = 4096 - (from & 4095); /* behind a page that cannot be read another may be */
        if (errno != EIO) { /* 0 without an error: the memory is gone, and the process with it */
            atomic_store(&p->broken, true);
            skip = n;
        }
        skip = skip < n ? skip : n;
        memset(to, 0, skip);
        atomic_fetch_add(&p->unread, skip);
        from += skip;
        to += skip;
        n -= skip;
    }
}

/* [from, from + n) of the process. */
static void fill(struct tt_heap_pager *p, uint64_t from, uint8_t *to, uint64_t n)
{
    size_t low = 0, high = p->runs.len;
    while (low < high) { /* the first run that ends behind it */
        size_t mid = low + (high - low) / 2;
        if (p->runs.data[mid].end <= from)
            low = mid + 1;
        else
            high = mid;
    }
    uint64_t at = from, end = from + n;
    for (; low < p->runs.len && p->runs.data[low].start < end; low++) {
        const struct tt_heap_run *r = &p->runs.data[low];
        uint64_t start = r->start > at ? r->start : at, stop = r->end < end ? r->end : end;
        memset(to + (at - from), 0, start - at);
        read_run(p, start, to + (start - from), stop - start);
        at = stop;
    }
    memset(to + (at - from), 0, end - at);
}

/* Keeps what the sieve leaves of a strip. False: no room. */
static bool sift(struct tt_heap_pager *p, const uint8_t *bytes, struct sifted *out)
{
    uint32_t what[WORDS];
    uint16_t at[WORDS];
    unsigned n = tt_heap_sift(p->sieve, bytes, what, at);
    size_t size = (n * (sizeof *what + sizeof *at) + 7) & ~(size_t)7;
    size_t first = atomic_fetch_add(&p->store_used, size);
    if (first + size > p->store_size)
        return false;
    memcpy(p->store + first, what, n * sizeof *what);
    memcpy(p->store + first + n * sizeof *what, at, n * sizeof *at);
    *out = (struct sifted){first, n};
    return true;
}

void tt_heap_pager_read_piece(struct tt_heap_pager *p, size_t i, uint8_t *to)
{
    struct piece *piece = &p->pieces[i];
    bool sifts = p->sieve && !piece->loads;
    if (!sifts) {
        fill(p, piece->from, to, PIECE);
        return;
    }
    for (size_t k = 0; k < STRIPS; k++) {
        uint8_t *strip = to + k * TT_HEAP_STRIP;
        fill(p, piece->from + k * TT_HEAP_STRIP, strip, TT_HEAP_STRIP);
        sifts = sifts && sift(p, strip, &p->sifted[i * STRIPS + k]);
    }
    atomic_store(&piece->sifted, sifts);
}

/* ---- what was sifted ---- */

void tt_heap_pager_sift(struct tt_heap_pager *p, struct tt_heap_sieve *sieve)
{
    p->store_size = p->n * STRIPS * (WORDS * (sizeof(uint32_t) + sizeof(uint16_t)) + 8);
    p->sifted = calloc(p->n * STRIPS + 1, sizeof *p->sifted);
    p->store_size = (p->store_size + PIECE - 1) & ~(PIECE - 1);
    p->store = p->sifted ? tt_heap_map(p->store_size) : NULL;
    tt_heap_lend(p->store, p->n * PIECE / STORE_LENT);
    if (p->store)
        p->sieve = sieve;
    else
        tt_heap_sieve_free(sieve);
}

void tt_heap_pager_sifted_enough(struct tt_heap_pager *p)
{
    tt_heap_pager_stop_helper(p);
    size_t used = (atomic_load(&p->store_used) + PIECE - 1) & ~(PIECE - 1);
    used = used < p->store_size ? used : p->store_size;
    if (!p->sieve)
        return;
    tt_heap_sieve_free(p->sieve);
    p->sieve = NULL;
    tt_heap_spare(p->store, used);
    if (used < p->store_size)
        munmap(p->store + used, p->store_size - used);
    p->store = NULL;
}

const struct tt_heap_sieve *tt_heap_pager_sieve(const struct tt_heap_pager *p)
{
    return p->sieve;
}

/* The piece that holds place, or n. */
static size_t piece_at(const struct tt_heap_pager *p, const uint8_t *place)
{
    size_t i = ((uintptr_t)place - (uintptr_t)p->base) / PIECE;
    return (uintptr_t)place >= (uintptr_t)p->base && i < p->n && p->pieces[i].from ? i : p->n;
}

bool tt_heap_pager_strip(struct tt_heap_pager *p, const uint8_t *place, struct tt_heap_strip *out)
{
    size_t offset = (uintptr_t)place - (uintptr_t)p->base, i = piece_at(p, place);
    const uint8_t *start = place - (offset & (TT_HEAP_STRIP - 1));
    *out = (struct tt_heap_strip){.start = start, .end = start + TT_HEAP_STRIP};
    if (i == p->n || !p->sieve)
        return false;
    if (!p->pieces[i].loads && !atomic_load(&p->pieces[i].sifted))
        tt_heap_pager_load(p, i);
    if (!atomic_load(&p->pieces[i].sifted))
        return false;
    const struct sifted *s = &p->sifted[offset / TT_HEAP_STRIP];
    const uint8_t *words = p->store + s->first;
    out->what = (const uint32_t *)(const void *)words;
    out->at = (const uint16_t *)(const void *)(words + s->n * sizeof *out->what);
    out->n = s->n;
    return true;
}

/* What a thread read last for single looks. */
struct glance {
    uint64_t generation;
    uint64_t start, end; /* in the process */
    unsigned pages;      /* to read next: more, while looks come close to each other */
    uint8_t bytes[GLANCE * 4096];
};

/* A system call costs as much as two pages, so pages that are likely to be looked at come along. */
static void glance_at(struct tt_heap_pager *p, struct glance *g, uint64_t page, uint64_t limit)
{
    bool near = g->generation == p->generation && page >= g->end && page - g->end <= 4096;
    g->pages = near ? g->pages * 2 : g->pages / 2;
    g->pages = g->pages < 1 ? 1 : g->pages > GLANCE ? GLANCE : g->pages;
    g->generation = p->generation;
    g->start = page;
    g->end = page + g->pages * 4096ull;
    g->end = g->end < limit ? g->end : limit;
    read_run(p, g->start, g->bytes, g->end - g->start);
}

bool tt_heap_pager_peek(struct tt_heap_pager *p, const uint8_t *place, void *out, size_t n)
{
    static _Thread_local struct glance last;
    while (n) {
        size_t i = piece_at(p, place);
        if (i == p->n)
            return false;
        uint64_t piece = p->pieces[i].from, address = piece + ((uintptr_t)place & (PIECE - 1));
        if (address < last.start || address >= last.end || last.generation != p->generation)
            glance_at(p, &last, address & ~4095ull, piece + PIECE);
        size_t left = last.end - address, part = left < n ? left : n;
        memcpy(out, last.bytes + (address - last.start), part);
        out = (uint8_t *)out + part;
        place += part;
        n -= part;
    }
    return true;
}
