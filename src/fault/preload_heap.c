/* SPDX-License-Identifier: Apache-2.0 */
/* Memory: the malloc family and mappings. Before the library has begun, and for the loader while
 * names are looked up, the calls pass through. Start: malloc. */
#include "fault/preload.h"

#include <errno.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/types.h>

static void block(void *p, size_t size, uint32_t site)
{
    if (p)
        tt_fault_acquired(TT_FAULT_HEAP, TT_SPACE_HEAP, (uint64_t)p, size, site);
}

TT_CALL(void *, malloc, size_t size)
{
    uint32_t site;
    int code = TT_ASK(malloc, &site);
    if (code) {
        errno = code;
        return NULL;
    }
    void *p = TT_REAL(malloc, void *, size_t)(size);
    block(p, size, site);
    return p;
}

TT_CALL(void *, calloc, size_t n, size_t size)
{
    uint32_t site;
    int code = TT_ASK(calloc, &site);
    if (code) {
        errno = code;
        return NULL;
    }
    void *p = TT_REAL(calloc, void *, size_t, size_t)(n, size);
    block(p, n * size, site);
    return p;
}

/* The unit is taken out before the call, since afterwards another thread may own the old address.
 */
static void moved(int had, const struct tt_fault_unit *old, void *before, void *p, size_t size,
                  uint32_t site)
{
    if (p)
        block(p, size, site);
    else if (had && size)
        tt_fault_restored(old, (uint64_t)before, old->size);
}

TT_CALL(void *, realloc, void *before, size_t size)
{
    uint32_t site;
    struct tt_fault_unit old;
    int code = TT_ASK(realloc, &site);
    if (code) {
        errno = code;
        return NULL;
    }
    int had = before && tt_fault_released(TT_SPACE_HEAP, (uint64_t)before, &old);
    void *p = TT_REAL(realloc, void *, void *, size_t)(before, size);
    moved(had, &old, before, p, size, site);
    return p;
}

TT_CALL(void *, reallocarray, void *before, size_t n, size_t size)
{
    uint32_t site;
    struct tt_fault_unit old;
    size_t bytes;
    int code = TT_ASK(reallocarray, &site);
    if (!code && __builtin_mul_overflow(n, size, &bytes))
        code = ENOMEM;
    if (code) {
        errno = code;
        return NULL;
    }
    int had = before && tt_fault_released(TT_SPACE_HEAP, (uint64_t)before, &old);
    void *p = TT_REAL(realloc, void *, void *, size_t)(before, bytes);
    moved(had, &old, before, p, bytes, site);
    return p;
}

TT_CALL(int, posix_memalign, void **out, size_t alignment, size_t size)
{
    uint32_t site;
    int code = TT_ASK(posix_memalign, &site);
    if (code)
        return code;
    code = TT_REAL(posix_memalign, int, void **, size_t, size_t)(out, alignment, size);
    if (!code)
        block(*out, size, site);
    return code;
}

#define ALIGNED(name, params, size, args, ...)                                                     \
    TT_CALL(void *, name, params)                                                                  \
    {                                                                                              \
        uint32_t site;                                                                             \
        int code = TT_ASK(name, &site);                                                            \
        if (code) {                                                                                \
            errno = code;                                                                          \
            return NULL;                                                                           \
        }                                                                                          \
        void *p = TT_REAL(name, void *, __VA_ARGS__) args;                                         \
        block(p, size, site);                                                                      \
        return p;                                                                                  \
    }
#define TWO size_t alignment, size_t size
ALIGNED(aligned_alloc, TWO, size, (alignment, size), size_t, size_t)
ALIGNED(memalign, TWO, size, (alignment, size), size_t, size_t)
ALIGNED(valloc, size_t size, size, (size), size_t)
ALIGNED(pvalloc, size_t size, size, (size), size_t)

TT_CALL(void, free, void *p)
{
    if (p)
        tt_fault_released(TT_SPACE_HEAP, (uint64_t)p, NULL);
    TT_REAL(free, void, void *)(p);
}
TT_ALIAS(free, cfree);

/* ---- mappings ---- */

static void mapping(void *p, size_t size, uint32_t site)
{
    if (p != MAP_FAILED)
        tt_fault_acquired(TT_FAULT_MAPPING, TT_SPACE_MAPPING, (uint64_t)p, size, site);
}

TT_CALL(void *, mmap, void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    uint32_t site;
    int code = TT_ASK(mmap, &site);
    if (code) {
        errno = code;
        return MAP_FAILED;
    }
    void *p = TT_REAL(mmap, void *, void *, size_t, int, int, int, off_t)(at, size, protection,
                                                                          flags, fd, offset);
    mapping(p, size, site);
    return p;
}
TT_ALIAS(mmap, mmap64);

/* Whole mappings, and the beginnings of some; a piece cut out of the middle or the end leaves the
 * unit as it is. */
TT_CALL(int, munmap, void *at, size_t size)
{
    struct tt_fault_unit old;
    int had = tt_fault_released(TT_SPACE_MAPPING, (uint64_t)at, &old);
    int result = TT_REAL(munmap, int, void *, size_t)(at, size);
    uint64_t cut = (size + 4095) & ~4095ULL;
    if (had && result < 0)
        tt_fault_restored(&old, (uint64_t)at, old.size);
    else if (had && cut < old.size)
        tt_fault_restored(&old, (uint64_t)at + cut, old.size - cut);
    return result;
}

TT_CALL(void *, mremap, void *at, size_t size, size_t to, int flags, ...)
{
    uint32_t site;
    struct tt_fault_unit old;
    va_list ap;
    va_start(ap, flags);
    void *where = flags & MREMAP_FIXED ? va_arg(ap, void *) : NULL;
    va_end(ap);
    int code = TT_ASK(mremap, &site);
    if (code) {
        errno = code;
        return MAP_FAILED;
    }
    int had = tt_fault_released(TT_SPACE_MAPPING, (uint64_t)at, &old);
    void *p = TT_REAL(mremap, void *, void *, size_t, size_t, int, ...)(at, size, to, flags, where);
    if (p == MAP_FAILED) {
        if (had)
            tt_fault_restored(&old, (uint64_t)at, old.size);
    } else {
        mapping(p, to, site);
    }
    return p;
}

TT_CALL(int, mprotect, void *at, size_t size, int protection)
{
    int code = TT_ASK(mprotect, NULL);
    if (code) {
        errno = code;
        return -1;
    }
    return TT_REAL(mprotect, int, void *, size_t, int)(at, size, protection);
}
