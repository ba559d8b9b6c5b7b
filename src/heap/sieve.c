/* SPDX-License-Identifier: Apache-2.0 */
/* Picks out of memory that was just read, and still lies in the cache, the words that may point to
 * a block. Before the blocks are known all that can be asked is whether a word points into memory
 * where there can be some; but few other words do, so what is kept is a small part of the heap, and
 * its contents need not be read again when the blocks are known. A word becomes 32 bits, a number
 * of a slab of 64 MiB and the granule of 8 bytes in it, and 16 bits of where it was.
 * Start: tt_heap_sieve_make, tt_heap_sift. */
#include "heap/internal.h"
#include "heap/internal_image.h"

#include <stdlib.h>

#ifdef __x86_64__
#include <immintrin.h>
#endif

enum {
    GRANULE_BITS = TT_HEAP_SLAB_BITS - 3,
    SLABS_MOST = (1 << (32 - GRANULE_BITS)) - 1, /* the last number is TT_HEAP_TAGGED's */
};

struct tt_heap_sieve {
    uint64_t low, span;                                      /* of all slabs */
    uint64_t near[(size_t)1 << (TT_HEAP_ADDRESS_BITS - 36)]; /* a bit for each GiB */
    uint16_t *slab_of; /* by address >> TT_HEAP_SLAB_BITS: slab + 1, 0 none */
    uint64_t start[SLABS_MOST];
    unsigned n;
};

static int add_slab(struct tt_heap_sieve *s, uint64_t slab)
{
    if (s->slab_of[slab])
        return 0;
    if (s->n == SLABS_MOST)
        return -E2BIG;
    s->start[s->n++] = slab << TT_HEAP_SLAB_BITS;
    s->slab_of[slab] = (uint16_t)s->n;
    s->near[slab >> 10] |= 1ull << (slab >> 4 & 63);
    return 0;
}

struct tt_heap_sieve *tt_heap_sieve_make(const struct tt_heap_image *image)
{
    struct tt_heap_sieve *s = calloc(1, sizeof *s);
    int rc = -ENOMEM;
    if (s)
        s->slab_of = calloc((size_t)1 << (TT_HEAP_ADDRESS_BITS - TT_HEAP_SLAB_BITS), 2);
    for (size_t i = 0; s && s->slab_of && i < image->ranges.len; i++) {
        const struct tt_heap_range *r = &image->ranges.data[i];
        bool may = r->bytes && (r->kind == TT_HEAP_ANON || r->kind == TT_HEAP_STACK);
        rc = r->end >> TT_HEAP_ADDRESS_BITS ? -E2BIG : 0;
        for (uint64_t at = r->start >> TT_HEAP_SLAB_BITS;
             may && !rc && at <= (r->end - 1) >> TT_HEAP_SLAB_BITS; at++)
            rc = add_slab(s, at);
        if (rc && may)
            break;
        rc = 0;
    }
    if (rc || !s->n) {
        tt_heap_sieve_free(s);
        return NULL;
    }
    s->low = s->start[0];
    s->span = s->start[s->n - 1] + (1ull << TT_HEAP_SLAB_BITS) - s->low;
    return s;
}

void tt_heap_sieve_free(struct tt_heap_sieve *sieve)
{
    if (sieve)
        free(sieve->slab_of);
    free(sieve);
}

bool tt_heap_sieve_covers(const struct tt_heap_sieve *s, const struct tt_heap_index *x)
{
    uint64_t slabs = (uint64_t)1 << (TT_HEAP_ADDRESS_BITS - TT_HEAP_SLAB_BITS);
    for (uint64_t slab = 0; slab < slabs; slab++) {
        if (!(x->near[slab >> 10] >> (slab >> 4 & 63) & 1))
            slab |= 15; /* none in this GiB */
        else if (x->slab_of[slab] && !s->slab_of[slab])
            return false;
    }
    return true;
}

uint64_t tt_heap_sieve_word(const struct tt_heap_sieve *s, uint32_t what)
{
    return s->start[what >> GRANULE_BITS] + ((uint64_t)(what & ((1u << GRANULE_BITS) - 1)) << 3);
}

/* ---- sifting ---- */

struct sifting {
    const struct tt_heap_sieve *sieve;
    const uint64_t *words;
    uint32_t *what;
    uint16_t *at;
    unsigned n;
};

static inline __attribute__((always_inline)) void look(struct sifting *f, unsigned i)
{
    const struct tt_heap_sieve *s = f->sieve;
    uint64_t word = f->words[i], plain = word & TT_HEAP_UNTAG;
    if (plain - s->low >= s->span || !(s->near[plain >> 36] >> (plain >> 30 & 63) & 1))
        return;
    uint32_t slab = s->slab_of[plain >> TT_HEAP_SLAB_BITS];
    if (!slab)
        return;
    uint32_t granule = (uint32_t)(plain >> 3) & ((1u << GRANULE_BITS) - 1);
    f->what[f->n] = word == plain ? (slab - 1) << GRANULE_BITS | granule : TT_HEAP_TAGGED;
    f->at[f->n++] = (uint16_t)i;
}

#ifdef __x86_64__
/* Four words at a time are found to be out of the slabs' span, as most are. */
__attribute__((target("avx2"))) static void sift_avx2(struct sifting *f, unsigned n)
{
    const __m256i plain = _mm256_set1_epi64x((long long)TT_HEAP_UNTAG);
    const __m256i low = _mm256_set1_epi64x((long long)f->sieve->low);
    const __m256i span = _mm256_set1_epi64x((long long)f->sieve->span);
    const __m256i below = _mm256_set1_epi64x(-1);
    for (unsigned i = 0; i < n; i += 8) {
        unsigned hits = 0;
        for (unsigned half = 0; half < 2; half++) {
            const void *from = f->words + i + half * 4ul;
            __m256i word = _mm256_and_si256(_mm256_load_si256(from), plain);
            word = _mm256_sub_epi64(word, low);
            word =
                _mm256_and_si256(_mm256_cmpgt_epi64(word, below), _mm256_cmpgt_epi64(span, word));
            hits |= (unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(word)) << half * 4;
        }
        for (; hits; hits &= hits - 1)
            look(f, i + (unsigned)__builtin_ctz(hits));
    }
}
#endif

/* NOLINTNEXTLINE(readability-non-const-parameter): both are written through the struct */
unsigned tt_heap_sift(const struct tt_heap_sieve *sieve, const void *bytes, uint32_t *what,
                      /* NOLINTNEXTLINE(readability-non-const-parameter) */
                      uint16_t *at)
{
    struct sifting f = {sieve, bytes, what, at, 0};
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx2")) {
        sift_avx2(&f, TT_HEAP_STRIP / 8);
        return f.n;
    }
#endif
    for (unsigned i = 0; i < TT_HEAP_STRIP / 8; i++)
        look(&f, i);
    return f.n;
}
