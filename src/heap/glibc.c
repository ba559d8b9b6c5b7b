/* SPDX-License-Identifier: Apache-2.0 */
/* Walks glibc's chunks: from each piece's first chunk by size to its top or its fence posts. A
 * chunk is in use when its successor says so (PREV_INUSE) and no fast bin or tcache holds it. A
 * chunk that does not fit - a thread was stopped in the act, or the program wrote over it - is
 * stepped over by the next place from which the chunks fit again; what lies between is counted as
 * doubt and not listed. Chunks that were mapped on their own are found by their headers at page
 * starts and checked against glibc's own count. Start: tt_heap_glibc. */
#include "heap/internal_glibc.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent/region.h" /* sampled objects: whoever walks adds them */
#include "proc/proc.h"

enum { SYNC_STEPS = 256, SYNC_MOST = 256 << 20, AHEAD = 1024, USUAL_CHUNK = 64 };
enum { LEND_LEAST = 512 << 20, LENT_PART = 8 };

/* ---- stepping ---- */

struct walker {
    const struct tt_heap_image *image;
    struct tt_heap_view v;
    struct tt_heap_blocks *blocks; /* NULL: only look */
    const uint64_t *free, *free_end;
    TT_VEC(uint64_t) caches; /* chunks of the size of a tcache */
    bool no_memory;
};

static bool reach(struct walker *w, uint64_t address)
{
    return tt_heap_in_view(&w->v, address, CHUNK_HEADER) ||
           (tt_heap_view_at(w->image, address, &w->v) &&
            tt_heap_in_view(&w->v, address, CHUNK_HEADER));
}

static bool is_free(struct walker *w, uint64_t chunk)
{
    while (w->free < w->free_end && *w->free < chunk)
        w->free++;
    return w->free < w->free_end && *w->free == chunk;
}

static void put(struct walker *w, uint64_t chunk, uint64_t size)
{
    struct tt_heap_blocks *b = w->blocks;
    if (is_free(w, chunk)) {
        b->free_bytes += size;
        return;
    }
    if (b->list.len == b->list.cap && tt_vec_reserve(&b->list, b->list.len + 1)) {
        w->no_memory = true;
        return;
    }
    b->list.data[b->list.len++] = (struct tt_heap_block){chunk + CHUNK_HEADER, size - 8};
    if (tt_glibc_tcache_size(size) && tt_vec_push(&w->caches, chunk))
        w->no_memory = true;
}

/* The heart: one step a chunk, one line of memory each. With list false nothing is put. */
static inline __attribute__((always_inline)) enum glibc_end
step(struct walker *w, uint64_t *chunk, uint64_t top, bool main, uint64_t steps, bool list)
{
    uint64_t c = *chunk;
    enum glibc_end how = GLIBC_BROKEN;
    uint64_t head = 0;
    if ((c & 15) || !reach(w, c))
        return how;
    head = tt_heap_load(&w->v, c + 8);
    for (;;) {
        if (c == top) {
            how = GLIBC_TOP;
            break;
        }
        if (steps-- == 0) {
            how = GLIBC_STEPS;
            break;
        }
        uint64_t size = head & ~(uint64_t)CHUNK_FLAGS, next = c + size;
        if ((head & CHUNK_MMAPPED) || (size & 8) || size < CHUNK_HEADER || next < c ||
            (main && (head & CHUNK_NON_MAIN)) || (top && c < top && next > top))
            break;
        if (!tt_heap_in_view(&w->v, next, CHUNK_HEADER) && !reach(w, next))
            break;
        __builtin_prefetch(w->v.bytes + (next - w->v.start) + AHEAD);
        uint64_t next_head = tt_heap_load(&w->v, next + 8);
        if (size == CHUNK_HEADER || (next_head & ~(uint64_t)CHUNK_FLAGS) == 0) {
            uint64_t next_size = next_head & ~(uint64_t)CHUNK_FLAGS;
            if (next_size == 0 || (size == CHUNK_HEADER && next_size == CHUNK_HEADER)) {
                how = GLIBC_FENCE;
                break;
            }
            if (size == CHUNK_HEADER) /* what was left of an old top before its fence posts */
                goto on;
        }
        if (next_head & CHUNK_PREV_INUSE) {
            if (list)
                put(w, c, size);
        } else {
            if (tt_heap_load(&w->v, next) != size)
                break;
            if (list)
                w->blocks->free_bytes += size;
        }
    on:
        c = next;
        head = next_head;
    }
    *chunk = c;
    return how;
}

enum glibc_end tt_glibc_try(const struct tt_heap_image *image, uint64_t chunk, uint64_t top,
                            bool main, uint64_t steps, uint64_t *at)
{
    struct walker w = {.image = image};
    enum glibc_end how = step(&w, &chunk, top, main, steps, false);
    *at = chunk;
    return how;
}

/* The next place behind a broken chunk from which the chunks fit, or the end. */
static uint64_t find_sync(struct glibc_heap *heap, const struct glibc_piece *p, uint64_t chunk)
{
    uint64_t end = p->top ? p->top : p->end, at;
    uint64_t limit = end - chunk > SYNC_MOST ? chunk + SYNC_MOST : end;
    struct tt_heap_view v = {0};
    for (uint64_t q = chunk + 16; q < limit; q += 16) {
        if (!tt_heap_in_view(&v, q, 16) && !tt_heap_view_at(heap->image, q, &v))
            continue;
        if (!tt_heap_in_view(&v, q, 16))
            continue;
        uint64_t head = tt_heap_load(&v, q + 8);
        if (head < CHUNK_MIN || (head & ~(uint64_t)CHUNK_FLAGS) > end - q ||
            !(head & CHUNK_PREV_INUSE))
            continue;
        if (heap->budget < 4096)
            break;
        enum glibc_end how = tt_glibc_try(heap->image, q, p->top, p->main, SYNC_STEPS, &at);
        heap->budget -= at - q < heap->budget ? at - q : heap->budget;
        if (how == GLIBC_TOP || how == GLIBC_STEPS || (how == GLIBC_FENCE && at > q))
            return q;
    }
    return end;
}

static int span(struct tt_heap_blocks *blocks, uint64_t start, uint64_t end)
{
    return start < end ? tt_vec_push(&blocks->internal, (struct tt_heap_span){start, end}) : 0;
}

/* A broken header no longer tells whether the chunk before it is in use. */
static uint64_t drop_before(struct tt_heap_blocks *blocks, uint64_t chunk)
{
    const struct tt_heap_block *last = blocks->list.data + blocks->list.len - 1;
    if (blocks->list.len == 0 || last->address + last->size != chunk + 8)
        return chunk;
    blocks->list.len--;
    return last->address - CHUNK_HEADER;
}

static int walk_piece(struct glibc_heap *heap, struct walker *w, const struct glibc_piece *p)
{
    uint64_t chunk = p->first, from = p->start;
    int rc = 0;
    for (;;) {
        enum glibc_end how = step(w, &chunk, p->top, p->main, UINT64_MAX, true);
        bool foreign = how == GLIBC_FENCE && p->top; /* the program took memory by sbrk itself */
        if ((how != GLIBC_BROKEN && !foreign) || rc)
            break;
        chunk += foreign ? 2 * CHUNK_HEADER : 0;
        uint64_t next = find_sync(heap, p, chunk - (foreign ? CHUNK_HEADER : 0));
        if (!foreign) {
            chunk = drop_before(w->blocks, chunk);
            w->blocks->doubt_bytes += next - chunk;
        }
        rc = span(w->blocks, from, chunk);
        from = chunk = next;
        if (next >= p->end)
            break;
    }
    if (p->top && chunk == p->top)
        w->blocks->free_bytes += p->end - p->top;
    return rc ? rc : span(w->blocks, from, p->end);
}

/* ---- chunks that were mapped on their own ---- */

struct mapped {
    uint64_t chunk, start, end, usable;
};
typedef TT_VEC(struct mapped) mapped_vec;

/* A header {prev_size, size | IS_MMAPPED}. prev_size is what was left out for an alignment; with it
 * and the size it makes whole pages, since 2.43 with another 16 bytes, which are then used too. */
static bool mapped_at(const struct tt_heap_view *v, uint64_t at, struct mapped *out)
{
    uint64_t prev = tt_heap_load(v, at), head = tt_heap_load(v, at + 8);
    uint64_t size = head & ~(uint64_t)CHUNK_FLAGS;
    if ((head & CHUNK_FLAGS) != CHUNK_MMAPPED || size < CHUNK_MIN || (prev & 15) ||
        prev > at - v->start || ((at - prev) & 4095) || size > v->end - at)
        return false;
    uint64_t rest = -(prev + size) & 4095;
    if ((rest && rest != CHUNK_HEADER) || size + rest > v->end - at)
        return false;
    *out = (struct mapped){at, at - prev, at + size + rest, rest ? size - 8 : size - CHUNK_HEADER};
    return true;
}

/* An aligned block leaves the header that its chunk had at first where that was; the second one
 * says so itself. */
static void find_aligned(const struct tt_heap_view *v, struct mapped *m)
{
    uint64_t size = tt_heap_load(v, m->chunk + 8);
    for (uint64_t a = 32; a < m->end - m->start; a *= 2) {
        uint64_t at = ((m->chunk + CHUNK_HEADER + a - 1) & ~(a - 1)) - CHUNK_HEADER;
        if (at == m->chunk || at + CHUNK_MIN > m->end)
            continue;
        if (tt_heap_load(v, at) == at - m->chunk &&
            tt_heap_load(v, at + 8) == size - (at - m->chunk)) {
            m->usable -= at - m->chunk;
            m->chunk = at;
            return;
        }
    }
}

static int find_mapped(const struct glibc_heap *heap, mapped_vec *out)
{
    for (size_t i = 0; i < heap->image->ranges.len; i++) {
        const struct tt_heap_range *r = &heap->image->ranges.data[i];
        if (!r->bytes || !r->write || r->path[0] || tt_region_holds(r->start) ||
            (r->kind != TT_HEAP_ANON && r->kind != TT_HEAP_STACK))
            continue;
        struct tt_heap_view v;
        if (!tt_heap_view_at(heap->image, r->start, &v))
            continue;
        uint64_t at = r->start;
        if (out->len) {
            const struct mapped *last = &out->data[out->len - 1];
            at = last->end > at ? last->end : at;
        }
        while (at < r->end) {
            const struct glibc_piece *p = tt_glibc_piece_at(heap, at);
            struct mapped m = {0};
            bool found = false;
            if (p) {
                at = (p->end + 4095) & ~4095ull;
                continue;
            }
            __builtin_prefetch(v.bytes + (at - v.start) + 16384);
            /* aligned chunks start 16 bytes before their alignment, a power of two */
            found = mapped_at(&v, at, &m) && m.start == at;
            if (found)
                find_aligned(&v, &m);
            for (uint64_t a = 32; !found && a < 4096; a *= 2)
                found = mapped_at(&v, at + a - 16, &m) && m.start == at;
            if (!found && r->end - at > 4096) /* alignments of a page and more */
                found = mapped_at(&v, at + 4096 - 16, &m) && m.start <= at;
            if (!found) {
                at += 4096;
                continue;
            }
            if (tt_vec_push(out, m))
                return -ENOMEM;
            at = m.end;
        }
    }
    return 0;
}

/* glibc knows how many there are and their total. More than it says cannot all be right. */
static void check_mapped(const struct glibc_heap *heap, mapped_vec *found,
                         struct tt_heap_blocks *blocks)
{
    uint64_t total = 0;
    for (size_t i = 0; i < found->len; i++)
        total += found->data[i].end - found->data[i].start;
    if (!heap->par || found->len == (size_t)heap->n_mmaps || total == heap->mmapped_mem)
        return;
    if (found->len < (size_t)heap->n_mmaps) {
        blocks->doubt_bytes += heap->mmapped_mem > total ? heap->mmapped_mem - total : 4096;
        return;
    }
    if (found->len <= (size_t)heap->n_mmaps + 1 + heap->image->threads.len)
        return; /* threads stopped between the mapping and the count */
    blocks->doubt_bytes += total;
    found->len = 0;
}

/* ---- all of it ---- */

static int by_value(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

static void sort_free(struct glibc_heap *heap)
{
    if (heap->free.len)
        qsort(heap->free.data, heap->free.len, sizeof *heap->free.data, by_value);
}

/* Tcaches that no thread's TLS points to (left behind by a fork) show themselves only now. */
static int drop_late(struct glibc_heap *heap, const struct walker *w, struct tt_heap_blocks *blocks,
                     size_t first)
{
    size_t known = heap->free.len;
    for (size_t i = 0; i < w->caches.len; i++)
        if (tt_glibc_tcache(heap, w->caches.data[i]) < 0)
            return -ENOMEM;
    if (heap->free.len == known)
        return 0;
    sort_free(heap);
    size_t kept = first, f = 0;
    for (size_t i = first; i < blocks->list.len; i++) {
        const struct tt_heap_block b = blocks->list.data[i];
        while (f < heap->free.len && heap->free.data[f] + CHUNK_HEADER < b.address)
            f++;
        if (f < heap->free.len && heap->free.data[f] + CHUNK_HEADER == b.address)
            blocks->free_bytes += b.size + 8;
        else
            blocks->list.data[kept++] = b;
    }
    blocks->list.len = kept;
    return 0;
}

/* Room for as many blocks as there probably are, in huge pages: only what is used is touched.
 * Returns how many of them are in memory that is at hand. */
static size_t make_room(const struct glibc_heap *heap, struct tt_heap_blocks *blocks)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < heap->pieces.len; i++)
        bytes += heap->pieces.data[i].end - heap->pieces.data[i].start;
    if (tt_vec_reserve(&blocks->list, blocks->list.len + bytes / USUAL_CHUNK))
        return 0;
    struct tt_heap_block *first = blocks->list.data + blocks->list.len;
    tt_heap_huge(first, (blocks->list.cap - blocks->list.len) * sizeof *first);
    if (bytes < LEND_LEAST)
        return 0;
    return blocks->list.len + tt_heap_lend(first, bytes / LENT_PART) / sizeof *first;
}

static void give_back(struct tt_heap_blocks *blocks, size_t ready)
{
    struct tt_heap_block *data = blocks->list.data;
    if (blocks->list.len < ready)
        tt_heap_take_back(data + blocks->list.len, (ready - blocks->list.len) * sizeof *data);
}

static int walk_heap(struct glibc_heap *heap, struct tt_heap_blocks *blocks)
{
    mapped_vec mapped = {0};
    struct walker w = {.image = heap->image, .blocks = blocks};
    size_t first = blocks->list.len, m = 0;
    int rc = tt_glibc_collect_free(heap);
    if (rc == 0 && (!heap->par || heap->n_mmaps))
        rc = find_mapped(heap, &mapped);
    if (rc)
        goto out;
    check_mapped(heap, &mapped, blocks);
    size_t ready = make_room(heap, blocks), room = blocks->list.cap;
    sort_free(heap);
    w.free = heap->free.data;
    w.free_end = heap->free.data + heap->free.len;
    for (size_t i = 0; i <= heap->pieces.len && rc == 0; i++) {
        const struct glibc_piece *p = &heap->pieces.data[i];
        for (; m < mapped.len && rc == 0 &&
               (i == heap->pieces.len || mapped.data[m].chunk < p->start);
             m++) {
            const struct mapped *c = &mapped.data[m];
            if (is_free(&w, c->chunk))
                blocks->free_bytes += c->end - c->start;
            else
                rc = tt_vec_push(&blocks->list,
                                 (struct tt_heap_block){c->chunk + CHUNK_HEADER, c->usable});
            if (rc == 0)
                rc = span(blocks, c->start, c->end);
        }
        if (i < heap->pieces.len && rc == 0)
            rc = walk_piece(heap, &w, p);
    }
    for (size_t i = 0; i < heap->arenas.len && rc == 0; i++)
        rc = span(blocks, heap->arenas.data[i].state, heap->arenas.data[i].bins + STATE_END);
    if (rc == 0 && w.no_memory)
        rc = -ENOMEM;
    if (room == blocks->list.cap)
        give_back(blocks, ready);
    if (rc == 0)
        rc = drop_late(heap, &w, blocks, first);
    blocks->doubt_bytes += heap->doubt_bytes;
    blocks->arenas += (unsigned)heap->arenas.len;
out:
    tt_vec_free(&w.caches);
    tt_vec_free(&mapped);
    return rc;
}

static void name_version(const struct tt_heap_image *image, uint64_t address, char *out, size_t n)
{
    const struct tt_heap_range *r = tt_heap_range_at(image, address);
    char path[4200], version[32] = "";
    if (r && image->pid > 0) { /* as the process sees it, perhaps in a container */
        snprintf(path, sizeof path, "/proc/%d/root%s", (int)image->pid, r->path);
        tt_proc_libc_version(path, version, sizeof version);
    }
    if (r && !version[0])
        tt_proc_libc_version(r->path, version, sizeof version);
    snprintf(out, n, version[0] ? "glibc %s" : "glibc", version);
}

static int walk(const struct tt_heap_image *image, struct tt_heap_blocks *blocks,
                struct tt_error *err)
{
    uint64_t from = 0;
    bool used = false;
    for (;;) {
        struct glibc_heap heap;
        int rc = tt_glibc_find(image, &from, &heap);
        if (rc == -ENOENT)
            break;
        if (rc == 0) {
            bool in_use = heap.pieces.len || heap.doubt_bytes || (heap.par && heap.n_mmaps);
            if (in_use && !used)
                name_version(image, heap.module, blocks->allocator, sizeof blocks->allocator);
            used |= in_use;
            if (in_use)
                rc = walk_heap(&heap, blocks);
            tt_glibc_free(&heap);
        }
        if (rc)
            return tt_error_set(err, rc, "no memory for the list of heap blocks");
    }
    return used ? 0 : -ENOENT;
}

const struct tt_heap_allocator tt_heap_glibc = {"glibc", walk};
