/* SPDX-License-Identifier: Apache-2.0 */
/* Finds glibc's heaps without symbols. A bin is a list head that points to itself while it is
 * empty, so 127 of them in a row have a shape nothing else has: each empty one points 16 bytes
 * before itself, each other one to chunks that point back; the last one is always empty. What
 * stands around the bins confirms it: the ring of arenas closes, top is a chunk. Start:
 * tt_glibc_find. */
#include "heap/internal_glibc.h"

#include <errno.h>

/* From the bins back to the start of the struct: 2.43 on (no fast bins), and before. */
static const uint64_t state_heads[] = {0x18, 0x70};
/* heap_info before 2.35 and since. */
static const uint64_t info_sizes[] = {0x20, 0x30};

enum { ARENAS_MOST = 1 << 16, GAP_MOST = 64 << 20, PAR_SLACK = 1 << 20, BUDGET = 64 };

static bool self_referential(const struct tt_heap_view *v, uint64_t at)
{
    return tt_heap_load(v, at) == at - 16 && tt_heap_load(v, at + 8) == at - 16;
}

/* Whether 127 bins end with the empty one at `last`, which no chunk is large enough for. A thread
 * stopped between two writes leaves at most two of them in disorder. */
static bool are_bins(const struct tt_heap_image *image, const struct tt_heap_view *v, uint64_t last)
{
    unsigned odd = 0;
    for (uint64_t at = last; at >= last - 16ull * (BINS - 1); at -= 16) {
        uint64_t forward = tt_heap_load(v, at), back = tt_heap_load(v, at + 8), word;
        if (forward == at - 16 && back == at - 16)
            continue;
        if ((forward & 15) || (back & 15) || !tt_heap_word(image, forward + 24, &word) ||
            word != at - 16 || !tt_heap_word(image, back + 16, &word) || word != at - 16)
            if (++odd > 2)
                return false;
    }
    return true;
}

static bool read_arena(const struct tt_heap_image *image, uint64_t state, uint64_t head,
                       struct glibc_arena *out, uint64_t *next)
{
    struct tt_heap_view v;
    uint64_t bins = state + head;
    if ((state & 7) || !tt_heap_view_at(image, state, &v) ||
        !tt_heap_in_view(&v, state, head + STATE_END))
        return false;
    *out = (struct glibc_arena){.state = state, .bins = bins};
    *next = tt_heap_load(&v, bins + STATE_NEXT);
    out->top = tt_heap_load(&v, bins + (uint64_t)STATE_TOP);
    out->system_mem = tt_heap_load(&v, bins + STATE_SYSTEM_MEM);
    out->noncontiguous = tt_heap_load(&v, state) >> 32 & 2; /* flags, NONCONTIGUOUS_BIT */
    if (out->top == bins - 16 || out->top == 0) /* initial_top: the unsorted bin stands for it */
        out->top = 0;
    else if ((out->top & 15) || !tt_heap_bytes(image, out->top, 16))
        return false;
    return out->system_mem <= tt_heap_load(&v, bins + STATE_MAX_SYSTEM_MEM) &&
           out->system_mem < 1ull << 47;
}

/* Follows the ring of arenas from the one with these bins. False when it does not close. */
static int read_ring(struct glibc_heap *heap, uint64_t bins, uint64_t head)
{
    uint64_t state = bins - head;
    heap->arenas.len = 0;
    while (heap->arenas.len < ARENAS_MOST) {
        struct glibc_arena arena;
        uint64_t next;
        if (!read_arena(heap->image, state, head, &arena, &next))
            return 0;
        arena.main = heap->arenas.len == 0;
        if (tt_vec_push(&heap->arenas, arena))
            return -ENOMEM;
        state = next;
        if (state == bins - head)
            return 1;
    }
    return 0;
}

/* ---- malloc_par ---- */

/* Offsets from sbrk_base: mmapped_mem -16, max_mmapped_mem -8, tcache bins +8, tcache_max_bytes
 * +16; n_mmaps, n_mmaps_max and max_n_mmaps from -32 on, from -36 on since 2.35. */
static bool read_par(struct glibc_heap *heap, const struct tt_heap_view *v, uint64_t at)
{
    uint64_t base = tt_heap_load(v, at), bins = tt_heap_load(v, at + 8);
    uint64_t tcache_max = tt_heap_load(v, at + 16);
    uint64_t mapped = tt_heap_load(v, at - 16), most = tt_heap_load(v, at - 8);
    if (bins == 0 || bins > 64 || tcache_max == 0 || tcache_max > 8 << 20 || mapped > most ||
        most >> 47 || base >> 47)
        return false;
    const struct glibc_arena *main = &heap->arenas.data[0];
    uint64_t size;
    bool expected = false;
    if (main->top && tt_heap_word(heap->image, main->top + 8, &size))
        expected =
            base - (main->top + (size & ~7ull) - main->system_mem) + PAR_SLACK < 2ull * PAR_SLACK;
    for (uint64_t back = 32; back <= 36; back += 4) {
        int n[3];
        memcpy(n, v->bytes + (at - back - v->start), sizeof n);
        if (n[0] < 0 || n[0] > n[2] || (n[0] == 0) != (mapped == 0) || n[1] < 0 ||
            (n[1] != 65536 && !expected) || (main->top && !base) ||
            (base && !expected && !tt_heap_bytes(heap->image, base, 1)))
            continue;
        if (heap->par && !expected)
            continue;
        heap->par = true;
        heap->n_mmaps = n[0];
        heap->mmapped_mem = mapped;
        heap->sbrk_base = base;
        if (expected || !main->top)
            return true;
    }
    return false;
}

static void find_par(struct glibc_heap *heap, const struct tt_heap_view *v)
{
    for (uint64_t at = v->start + 64; at + 32 <= v->end; at += 8)
        if (read_par(heap, v, at))
            return;
}

/* ---- pieces ---- */

static int add(struct glibc_heap *heap, uint64_t start, uint64_t end, uint64_t first, uint64_t top,
               bool main)
{
    if (heap->pieces.len >= GLIBC_PIECES_MOST)
        return 0;
    return tt_vec_push(&heap->pieces, (struct glibc_piece){start, end, first, top, main});
}

const struct glibc_piece *tt_glibc_piece_at(const struct glibc_heap *heap, uint64_t address)
{
    size_t lo = 0, hi = heap->pieces.len;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (heap->pieces.data[mid].end <= address)
            lo = mid + 1;
        else
            hi = mid;
    }
    const struct glibc_piece *p = heap->pieces.data + lo;
    return lo < heap->pieces.len && p->start <= address ? p : NULL;
}

/* The heap that holds the arena's top, 0 when none does. Heaps are aligned to their largest size:
 * 64 MiB, or four huge pages (glibc.malloc.hugetlb). The smallest that fits is right. *info: the
 * size of a heap's header. */
static uint64_t top_heap(const struct tt_heap_image *image, const struct glibc_arena *arena,
                         uint64_t *info)
{
    for (unsigned bits = 20; bits <= 36; bits++)
        for (unsigned k = 0; k < 2; k++) {
            uint64_t mask = (1ull << bits) - 1, owner, size, at = arena->top & ~mask;
            if ((arena->state & mask) == info_sizes[k] && tt_heap_word(image, at, &owner) &&
                owner == arena->state && tt_heap_word(image, at + 16, &size) &&
                arena->top - at < size && size <= 1ull << bits) {
                *info = info_sizes[k];
                return at;
            }
        }
    return 0;
}

static int thread_arena(struct glibc_heap *heap, const struct glibc_arena *arena)
{
    uint64_t info = 0, top = arena->top, total = 0;
    uint64_t at = top ? top_heap(heap->image, arena, &info) : 0;
    while (at && heap->pieces.len < GLIBC_PIECES_MOST) {
        uint64_t owner, prev, size;
        if (!tt_heap_word(heap->image, at, &owner) || owner != arena->state ||
            !tt_heap_word(heap->image, at + 8, &prev) ||
            !tt_heap_word(heap->image, at + 16, &size) || size < info || (prev & 4095) ||
            total + size > arena->system_mem)
            break;
        uint64_t first = at + info;
        if (first == arena->state)
            first = (arena->bins + STATE_END + 15) & ~15ull;
        if (add(heap, at, at + size, first, top, false))
            return -ENOMEM;
        total += size;
        top = 0;
        at = prev;
    }
    heap->doubt_bytes += arena->system_mem - total;
    return 0;
}

static enum glibc_end trial(struct glibc_heap *heap, uint64_t chunk, uint64_t top, uint64_t *at)
{
    if (heap->budget == 0)
        return GLIBC_BROKEN;
    enum glibc_end how = tt_glibc_try(heap->image, chunk, top, true, UINT64_MAX, at);
    heap->budget -= *at - chunk < heap->budget ? *at - chunk : heap->budget;
    return how;
}

/* The next piece in the memory at `low`, where chunks can start every `step` bytes. Sets *stop to
 * its end, 0 when there is none. */
static int find_next(struct glibc_heap *heap, uint64_t low, uint64_t step, uint64_t *stop)
{
    uint64_t top = heap->arenas.data[0].top, at, size;
    struct tt_heap_view v;
    *stop = 0;
    if (!tt_heap_view_at(heap->image, low, &v))
        return 0;
    uint64_t limit = v.end - low > GAP_MOST && step < 4096 ? low + GAP_MOST : v.end;
    for (uint64_t first = (low + step - 1) & ~(step - 1); limit - first >= 32 && first < limit;
         first += step) {
        if (!(tt_heap_load(&v, first + 8) & CHUNK_PREV_INUSE))
            continue;
        enum glibc_end how = trial(heap, first, top, &at);
        if (how == GLIBC_TOP && tt_heap_word(heap->image, top + 8, &size))
            *stop = top + (size & ~7ull);
        else if (how == GLIBC_FENCE && at > first && step < 4096)
            *stop = at + 32;
        else
            continue;
        return add(heap, first, *stop, first, how == GLIBC_TOP ? top : 0, true);
    }
    return 0;
}

/* After a discontinuity the heap goes on behind what the program took by sbrk itself, or at the
 * start of a mapping. */
static int find_rest(struct glibc_heap *heap, uint64_t low)
{
    uint64_t top = heap->arenas.data[0].top, stop;
    struct tt_heap_view v;
    for (;; low = stop) {
        int rc = low ? find_next(heap, low, 16, &stop) : 0;
        if (rc)
            return rc;
        if (!low || !stop)
            break;
        heap->foreign += heap->pieces.data[heap->pieces.len - 1].start - low;
        if (stop > top && low <= top)
            return 0;
    }
    return tt_heap_view_at(heap->image, top, &v) ? find_next(heap, v.start, 4096, &stop) : 0;
}

/* Pieces that mmap gave when brk could not grow: whole mappings of chunks that end in fence posts.
 */
static int find_mapped_pieces(struct glibc_heap *heap)
{
    size_t known = heap->pieces.len;
    for (size_t i = 0; i < heap->image->ranges.len; i++) {
        const struct tt_heap_range *r = &heap->image->ranges.data[i];
        if (!r->bytes || !r->write || (r->kind != TT_HEAP_ANON && r->kind != TT_HEAP_STACK))
            continue;
        for (uint64_t at = r->start; at < r->end; at += 4096) {
            uint64_t size = 0, stop;
            for (size_t k = 0; k < heap->pieces.len; k++)
                if (at >= heap->pieces.data[k].start && at < heap->pieces.data[k].end)
                    size = heap->pieces.data[k].end - at;
            if (size) {
                at += (size - 1) & ~4095ull;
                continue;
            }
            memcpy(&size, r->bytes + (at - r->start) + 8, 8);
            if ((size & CHUNK_FLAGS) != CHUNK_PREV_INUSE || size < CHUNK_MIN ||
                trial(heap, at, 0, &stop) != GLIBC_FENCE || ((stop + 32) & 4095))
                continue;
            if (add(heap, at, stop + 32, at, 0, true))
                return -ENOMEM;
        }
    }
    return heap->pieces.len > known;
}

static int main_arena(struct glibc_heap *heap)
{
    const struct glibc_arena *arena = &heap->arenas.data[0];
    uint64_t size, at = 0, covered = 0;
    int rc = 0;
    if (!arena->top)
        return 0;
    if (!tt_heap_word(heap->image, arena->top + 8, &size))
        return -ENOENT;
    uint64_t end = arena->top + (size & ~7ull);
    uint64_t first = end - arena->system_mem;
    if (heap->par && heap->sbrk_base)
        first = heap->sbrk_base;
    first = (first + 15) & ~15ull;
    bool whole =
        !arena->noncontiguous && first < arena->top && end - first <= arena->system_mem + 4096;
    uint64_t steps = whole ? 64 : UINT64_MAX; /* glibc.c gets over fence posts within a piece */
    enum glibc_end how = tt_glibc_try(heap->image, first, arena->top, true, steps, &at);
    if (how != GLIBC_BROKEN && whole) {
        rc = add(heap, first, end, first, arena->top, true);
    } else if (how == GLIBC_FENCE) {
        rc = add(heap, first, at + 32, first, 0, true);
        if (rc == 0)
            rc = find_rest(heap, at + 32);
    } else if (how == GLIBC_TOP ||
               (at > first && first < arena->top && end - first <= arena->system_mem + 4096)) {
        rc = add(heap, first, end, first, arena->top, true); /* glibc.c steps over what is broken */
    } else {
        rc = find_rest(heap, 0);
    }
    if (rc == 0 && arena->noncontiguous)
        rc = find_mapped_pieces(heap) < 0 ? -ENOMEM : 0;
    for (size_t i = 0; i < heap->pieces.len; i++)
        covered += heap->pieces.data[i].end - heap->pieces.data[i].start;
    covered += heap->foreign + 4096; /* which glibc counts as its own */
    if (covered < arena->system_mem && !rc)
        heap->doubt_bytes += arena->system_mem - covered;
    return rc;
}

static int by_start(const void *a, const void *b)
{
    const struct glibc_piece *x = a, *y = b;
    return x->start < y->start ? -1 : x->start > y->start;
}

static int find_pieces(struct glibc_heap *heap)
{
    int rc = main_arena(heap);
    for (size_t i = 1; i < heap->arenas.len && rc == 0; i++)
        rc = thread_arena(heap, &heap->arenas.data[i]);
    struct glibc_piece *p = heap->pieces.data;
    if (heap->pieces.len)
        qsort(p, heap->pieces.len, sizeof *p, by_start);
    size_t kept = 0;
    for (size_t i = 0; i < heap->pieces.len; i++) /* what overlaps cannot be right */
        if (kept && p[i].start < p[kept - 1].end)
            heap->doubt_bytes += p[i].end - p[i].start;
        else
            p[kept++] = p[i];
    heap->pieces.len = kept;
    return rc;
}

int tt_glibc_find(const struct tt_heap_image *image, uint64_t *from, struct glibc_heap *out)
{
    *out = (struct glibc_heap){.image = image, .budget = BUDGET * (image->read_bytes + (1 << 20))};
    for (size_t i = tt_heap_range_from(image, *from); i < image->ranges.len; i++) {
        const struct tt_heap_range *r = &image->ranges.data[i];
        struct tt_heap_view v;
        if (r->kind != TT_HEAP_DATA || !r->write || !r->bytes ||
            !tt_heap_view_at(image, r->start, &v))
            continue;
        uint64_t at = r->start > *from ? r->start : *from;
        for (at = (at + 7) & ~7ull; at + 16 <= r->end; at += 8) {
            if (!self_referential(&v, at))
                continue;
            uint64_t bins = at - 16ull * (BINS - 1);
            if (bins - v.start < 0x70 || bins > at || !tt_heap_in_view(&v, bins, STATE_END) ||
                !are_bins(image, &v, at))
                continue;
            for (unsigned h = 0; h < 2; h++) {
                int rc = read_ring(out, bins, state_heads[h]);
                if (rc == 0)
                    continue;
                *from = bins + STATE_END;
                out->module = bins;
                if (rc > 0) {
                    find_par(out, &v);
                    rc = find_pieces(out);
                }
                if (rc)
                    tt_glibc_free(out);
                return rc;
            }
        }
    }
    tt_glibc_free(out);
    return -ENOENT;
}

void tt_glibc_free(struct glibc_heap *heap)
{
    tt_vec_free(&heap->arenas);
    tt_vec_free(&heap->pieces);
    tt_vec_free(&heap->free);
}
