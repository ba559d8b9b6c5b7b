/* SPDX-License-Identifier: Apache-2.0 */
/* Memory for the large arrays of a search, handed from one step to the next. Pages that the kernel
 * gives for the first time cost more than most of what is done with them - in a virtual machine
 * whose host must find them too, up to 2.6 s per GB, against 0.03 for clearing warm ones - so what
 * a step is done with is not unmapped but moved to where the next one wants it (mremap(2): huge
 * pages move by their entries alone). Start: tt_heap_array. */
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "heap/internal.h"
#include "heap/internal_image.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

enum { HUGE_PAGE = 2 << 20, LEAST = 2 * HUGE_PAGE };
/* A search takes 0.31 bytes for each of a heap of small blocks. */
enum { READY_PART = 16, READY_PARTS = 5, READY_LEAST = 64 << 20 };

struct region {
    uint8_t *start;
    size_t size;
};
typedef TT_VEC(struct region) region_vec;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static region_vec used, spare;

void tt_heap_huge(void *p, size_t size)
{
    uintptr_t from = ((uintptr_t)p + HUGE_PAGE - 1) & ~((uintptr_t)HUGE_PAGE - 1);
    if (p && size >= LEAST)
        madvise((void *)from, ((uintptr_t)p + size - from) & ~((size_t)HUGE_PAGE - 1),
                MADV_HUGEPAGE);
}

void *tt_heap_map(size_t size)
{
    uint8_t *p = mmap(NULL, size + HUGE_PAGE, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    size_t before = -(uintptr_t)p & (HUGE_PAGE - 1);
    if (before)
        munmap(p, before);
    if (before < HUGE_PAGE)
        munmap(p + before + size, HUGE_PAGE - before);
    madvise(p + before, size, MADV_HUGEPAGE);
    return p + before;
}

/* Puts spare pages into the front of memory that nothing was written to yet; says how many. */
static size_t fill(uint8_t *p, size_t size)
{
    size_t done = 0;
    while (done < size && spare.len) {
        struct region *last = &spare.data[spare.len - 1];
        size_t part = last->size < size - done ? last->size : size - done;
        last->size -= part;
        if (mremap(last->start + last->size, part, part, MREMAP_MAYMOVE | MREMAP_FIXED, p + done) ==
            MAP_FAILED) { /* what was there may be gone */
            munmap(last->start + last->size, part);
            /* where this fails too, too many mappings, what was there still is */
            (void)mmap(p + done, part, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
            spare.len -= last->size == 0;
            break;
        }
        done += part;
        spare.len -= last->size == 0;
    }
    return done;
}

void *tt_heap_array(size_t n, size_t width)
{
    size_t size;
    if (__builtin_mul_overflow(n, width, &size) || size > SIZE_MAX / 2)
        return NULL;
    if (size < LEAST)
        return calloc(n ? n : 1, width);
    size = (size + HUGE_PAGE - 1) & ~((size_t)HUGE_PAGE - 1);
    uint8_t *p = tt_heap_map(size);
    pthread_mutex_lock(&lock);
    if (p && tt_vec_push(&used, (struct region){p, size})) {
        munmap(p, size);
        p = NULL;
    }
    size_t old = p ? fill(p, size) : 0;
    pthread_mutex_unlock(&lock);
    if (old)
        memset(p, 0, old);
    return p;
}

/* ---- memory of others ---- */

size_t tt_heap_lend(void *p, size_t size)
{
    uintptr_t from = ((uintptr_t)p + HUGE_PAGE - 1) & ~((uintptr_t)HUGE_PAGE - 1);
    uintptr_t to = ((uintptr_t)p + size) & ~((uintptr_t)HUGE_PAGE - 1);
    if (!p || from >= to)
        return 0;
    pthread_mutex_lock(&lock);
    size_t lent = fill((uint8_t *)from, to - from);
    pthread_mutex_unlock(&lock);
    return lent ? from + lent - (uintptr_t)p : 0;
}

void tt_heap_take_back(void *p, size_t size)
{
    uint8_t *from = (uint8_t *)(((uintptr_t)p + HUGE_PAGE - 1) & ~((uintptr_t)HUGE_PAGE - 1));
    uint8_t *to = (uint8_t *)(((uintptr_t)p + size) & ~((uintptr_t)HUGE_PAGE - 1));
    for (; from < to; from += HUGE_PAGE) { /* it may be several mappings, but each of whole pages */
        uint8_t *place = tt_heap_map(HUGE_PAGE);
        if (!place)
            return;
        if (mremap(from, HUGE_PAGE, HUGE_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
                   place) == MAP_FAILED) {
            munmap(place, HUGE_PAGE);
            return;
        }
        tt_heap_spare(place, HUGE_PAGE);
    }
}

static void *touch(void *arg)
{
    const struct region *r = arg;
    for (size_t i = 0; i < r->size; i += 4096)
        ((volatile uint8_t *)r->start)[i] = 0;
    return NULL;
}

void tt_heap_prepare(uint64_t bytes)
{
    struct region halves[2];
    pthread_t other;
    size_t size = bytes / READY_PART * READY_PARTS / 2 & ~((size_t)HUGE_PAGE - 1);
    if (bytes < READY_LEAST) {
        tt_heap_spare_drop();
        return;
    }
    for (int i = 0; i < 2; i++) {
        halves[i] = (struct region){tt_heap_map(size), size};
        if (!halves[i].start)
            halves[i].size = 0;
    }
    bool started = pthread_create(&other, NULL, touch, &halves[1]) == 0;
    touch(&halves[0]);
    if (started)
        pthread_join(other, NULL);
    else
        touch(&halves[1]);
    for (int i = 0; i < 2; i++)
        if (halves[i].size)
            tt_heap_spare(halves[i].start, size);
}

void tt_heap_spare(void *p, size_t size)
{
    pthread_mutex_lock(&lock);
    if (size && tt_vec_push(&spare, (struct region){p, size}))
        munmap(p, size);
    pthread_mutex_unlock(&lock);
}

void tt_heap_array_free(void *array)
{
    size_t size = 0;
    pthread_mutex_lock(&lock);
    for (size_t i = used.len; array && i-- > 0 && !size;)
        if (used.data[i].start == array) {
            size = used.data[i].size;
            used.data[i] = used.data[--used.len];
        }
    pthread_mutex_unlock(&lock);
    if (size)
        tt_heap_spare(array, size);
    else
        free(array);
}

void tt_heap_spare_drop(void)
{
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < spare.len; i++)
        munmap(spare.data[i].start, spare.data[i].size);
    tt_vec_free(&spare);
    if (!used.len)
        tt_vec_free(&used);
    pthread_mutex_unlock(&lock);
}
