/* SPDX-License-Identifier: Apache-2.0 */
/* Chunks that are free although the next chunk says they are in use: those in fast bins and in the
 * threads' caches. A tcache is an ordinary chunk that its thread's TLS points to; it is recognised
 * by its entries, each of which leads to a chunk of exactly the bin's size. So also the tcaches of
 * threads that a fork left behind are found. Links are mangled since 2.32 (safe-linking: the link's
 * own address >> 12 is XORed in). Start: tt_glibc_collect_free. */
#include "heap/internal_glibc.h"

#include <errno.h>

enum { TLS_MOST = 1 << 18 };

/* struct tcache_perthread_struct: u16 counts[n], then entries[n]; 64 bins, since 2.42 twelve more
 * for large chunks, and the counts say what still fits in. */
struct tcache_layout {
    unsigned bins;
    bool counts;
};
static const struct tcache_layout layouts[] = {{64, true}, {76, false}};

/* With large tcache bins a chunk mapped on its own can be cached too, once realloc made it small.
 */
static bool chunk_size(const struct glibc_heap *heap, uint64_t chunk, uint64_t *size)
{
    const struct glibc_piece *p = tt_glibc_piece_at(heap, chunk);
    if ((chunk & 15) || !tt_heap_word(heap->image, chunk + 8, size))
        return false;
    bool mapped = *size & CHUNK_MMAPPED;
    *size &= ~(uint64_t)CHUNK_FLAGS;
    if (*size < CHUNK_MIN)
        return false;
    return p ? !mapped && *size <= p->end - chunk : mapped && (chunk & 4095) == 0;
}

/* All links of a process are plain (before 2.32) or all mangled. Either must be asked for: in a
 * large heap what a plain link becomes by unmangling can be the address of some other chunk. */
enum links { LINKS_MANGLED, LINKS_PLAIN, LINKS_KINDS };

/* The entry (address of user memory) that the link at `link` leads to: 0 at the end of the list.
 * False when it does not lead to a chunk. */
static bool follow(const struct glibc_heap *heap, enum links kind, uint64_t link,
                   uint64_t from_user, uint64_t *next)
{
    uint64_t word, size;
    if (!tt_heap_word(heap->image, link, &word))
        return false;
    *next = kind == LINKS_MANGLED ? word ^ link >> 12 : word;
    return *next == 0 || chunk_size(heap, *next - from_user, &size);
}

/* A bin of a tcache. Entries of bins up to 63 have one size, those of large bins a range. */
static bool bin_holds(unsigned bin, uint64_t size)
{
    return bin < 64 ? size == (bin + 2) * 16ull : size > 65 * 16ull;
}

static int read_tcache(struct glibc_heap *heap, uint64_t chunk, enum links kind)
{
    uint64_t size;
    size_t before = heap->free.len;
    if (!chunk_size(heap, chunk, &size) || !tt_glibc_tcache_size(size))
        return 0;
    const struct tcache_layout *l = &layouts[size >= 0x300];
    const uint8_t *bytes = tt_heap_bytes(heap->image, chunk + CHUNK_HEADER, l->bins * 10ull);
    unsigned odd = 0;
    for (unsigned i = 0; bytes && i < l->bins; i++) {
        uint64_t entry;
        uint16_t count;
        memcpy(&entry, bytes + l->bins * 2ull + i * 8ull, 8);
        memcpy(&count, bytes + i * 2ull, 2);
        uint64_t n = 0;
        if (entry && (!chunk_size(heap, entry - 16, &size) || !bin_holds(i, size)))
            goto no;
        while (entry && n++ < UINT16_MAX) {
            uint64_t next;
            if (heap->budget < CHUNK_MIN || (l->counts && n > count + 1u))
                goto no;
            heap->budget -= CHUNK_MIN;
            if (!chunk_size(heap, entry - 16, &size) || !bin_holds(i, size))
                goto no;
            if (tt_vec_push(&heap->free, entry - 16))
                return -ENOMEM;
            if (!follow(heap, kind, entry, 16, &next))
                goto no;
            entry = next;
        }
        if (l->counts && n != count) /* one may be, of a thread stopped in the act */
            if (++odd > 1 || (n > count ? n - count : count - n) > 1)
                goto no;
    }
    if (heap->free.len > before)
        return 1;
no:
    heap->free.len = before;
    return 0;
}

int tt_glibc_tcache(struct glibc_heap *heap, uint64_t chunk)
{
    int rc = 0;
    for (enum links kind = 0; kind < LINKS_KINDS && rc == 0; kind++)
        rc = read_tcache(heap, chunk, kind);
    return rc;
}

/* Static TLS lies below the thread pointer (variant II of the ELF TLS ABI). */
static int thread_caches(struct glibc_heap *heap, uint64_t thread_pointer)
{
    struct tt_heap_view v;
    TT_VEC(uint64_t) seen = {0};
    int rc = 0;
    thread_pointer &= ~7ull;
    if (thread_pointer < 8 || !tt_heap_view_at(heap->image, thread_pointer - 8, &v))
        return 0;
    uint64_t low = thread_pointer - v.start > TLS_MOST ? thread_pointer - TLS_MOST : v.start;
    for (uint64_t at = thread_pointer - 8; at >= low && at <= thread_pointer && rc >= 0; at -= 8) {
        uint64_t word = tt_heap_load(&v, at);
        bool known = (word & 15) || !tt_glibc_piece_at(heap, word);
        for (size_t i = 0; i < seen.len && !known; i++)
            known = seen.data[i] == word;
        if (known)
            continue;
        rc = tt_glibc_tcache(heap, word - CHUNK_HEADER);
        if (rc > 0 && tt_vec_push(&seen, word))
            rc = -ENOMEM;
    }
    tt_vec_free(&seen);
    return rc < 0 ? rc : 0;
}

/* Appends the chunks of the fast bin with this first chunk. 1: to its end; 0: what could be read.
 */
static int fast_bin(struct glibc_heap *heap, uint64_t chunk, uint64_t wanted, enum links kind)
{
    uint64_t next, size, n = 0;
    for (; chunk && n++ < heap->image->read_bytes / CHUNK_MIN; chunk = next) {
        if (!chunk_size(heap, chunk, &size) || size != wanted)
            return 0;
        if (tt_vec_push(&heap->free, chunk))
            return -ENOMEM;
        if (!follow(heap, kind, chunk + 16, 0, &next))
            return 0;
    }
    return 1;
}

static int fast_bins(struct glibc_heap *heap, const struct glibc_arena *arena)
{
    uint64_t first = arena->state + 16;
    int rc = 0;
    if (first + FAST_BINS * 8ull + 16 != arena->bins)
        return 0; /* there are none since 2.43 */
    for (unsigned i = 0; i < FAST_BINS && rc >= 0; i++) {
        uint64_t chunk;
        size_t before = heap->free.len;
        if (!tt_heap_word(heap->image, first + i * 8ull, &chunk) || !chunk)
            continue;
        rc = fast_bin(heap, chunk, (i + 2) * 16ull, LINKS_MANGLED);
        if (rc == 0) {
            size_t mangled = heap->free.len - before;
            heap->free.len = before;
            rc = fast_bin(heap, chunk, (i + 2) * 16ull, LINKS_PLAIN);
            if (rc == 0 && heap->free.len - before < mangled) { /* neither ends: the longer one */
                heap->free.len = before;
                rc = fast_bin(heap, chunk, (i + 2) * 16ull, LINKS_MANGLED);
            }
        }
    }
    return rc < 0 ? rc : 0;
}

int tt_glibc_collect_free(struct glibc_heap *heap)
{
    int rc = 0;
    for (size_t i = 0; i < heap->arenas.len && rc == 0; i++)
        rc = fast_bins(heap, &heap->arenas.data[i]);
    for (size_t i = 0; i < heap->image->threads.len && rc == 0; i++)
        rc = thread_caches(heap, heap->image->threads.data[i].regs.fs_base);
    return rc;
}
