/* SPDX-License-Identifier: Apache-2.0 */
/* The large ranges of a frozen copy, read where and when they are looked at. A search goes through
 * a heap twice in address order and keeps little of it, so reading it whole would cost as much
 * memory as the target has, and fresh memory costs more than all the rest (in a virtual machine up
 * to 3 s per GB, against 0.2 for reading into memory that is warm). Instead the ranges' place is
 * reserved without access; the first touch of a piece faults, and the handler of SIGSEGV reads it
 * into a slot and moves the slot's pages there (mremap(2) with MREMAP_DONTUNMAP, Linux 5.7). Only
 * some slots exist: the oldest piece gives its pages back. Whoever reads sees a whole piece or a
 * fault, never a half, and what was given back is read again, the same bytes, since the copy never
 * runs. A piece that is wanted again and again stays. Start: tt_heap_pager_make, load. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "heap/internal_image.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

enum {
    SLOTS = 16,      /* 32 MB: more would be fresh memory, which costs more than to read again */
    LOADS_MOST = 4,  /* then a piece stays */
    STRIDE = 8,      /* pieces; a fault at every STRIDE-th asks for those that follow */
    STORE_LENT = 24, /* of the bytes, that are kept when blocks are small */
    MOST_PAGERS = 8,
    WORDS = TT_HEAP_STRIP / 8, /* of a strip */
};
#define PIECE TT_HEAP_PAGE
#define STRIPS (PIECE / TT_HEAP_STRIP) /* of a piece */

enum state { AWAY, MOVING, HERE };
struct piece {
    uint64_t from; /* address in the copy; 0: not of this pager */
    uint32_t slot;
    _Atomic uint8_t loads, state;
    _Atomic bool sifted;
};
/* What the sieve left of a strip: 32 bits for each word from `first` on, then 16. */
struct sifted {
    size_t first;
    uint32_t n;
};
struct tt_heap_pager {
    int mem;                        /* /proc/PID/mem */
    uint8_t *base, *slots, *mapped; /* mapped: slots, and what is left over by alignment */
    size_t n;                       /* pieces, and places for slots */
    struct piece *pieces;
    tt_heap_run_vec runs; /* of touched pages, ascending; what lies between reads as zero */
    atomic_flag lock;     /* of used, most and the ring; never held over a system call */
    size_t used, most;    /* slots */
    uint32_t *ring;       /* of the pieces that are here and may go, oldest first */
    size_t first, len;
    _Atomic uint64_t unread;
    _Atomic bool broken, ending;
    _Atomic size_t trip, ahead;  /* the last fault at a STRIDE-th piece; what is to be read ahead */
    struct tt_heap_sieve *sieve; /* NULL: nothing is sifted */
    struct sifted *sifted;       /* by strip of the pieces */
    uint8_t *store;              /* room for all that could be left; little is touched */
    size_t store_size;
    _Atomic size_t store_used;
    uint64_t generation; /* of all pagers, for peeking */
    sem_t wanted;
    pthread_t helper;
    bool has_helper;
};

static struct tt_heap_pager *_Atomic pagers[MOST_PAGERS];
static pthread_mutex_t installing = PTHREAD_MUTEX_INITIALIZER;
static unsigned installed;
static struct sigaction before;

static void lock(struct tt_heap_pager *p)
{
    while (atomic_flag_test_and_set_explicit(&p->lock, memory_order_acquire))
        sched_yield();
}
static void unlock(struct tt_heap_pager *p)
{
    atomic_flag_clear_explicit(&p->lock, memory_order_release);
}

/* Moves a piece's pages; the place they come from stays mapped, without pages. */
static bool move(uint8_t *from, uint8_t *to)
{
    return mremap(from, PIECE, PIECE, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, to) == to;
}

/* ---- slots ---- */

/* The oldest piece that may go, or n. Its state is MOVING then. The lock is held. */
static size_t victim(struct tt_heap_pager *p)
{
    for (size_t left = p->len; left; left--) {
        size_t i = p->ring[p->first];
        struct piece *piece = &p->pieces[i];
        p->first = p->first + 1 == p->n ? 0 : p->first + 1;
        p->len--;
        if (piece->loads >= LOADS_MOST) {
            p->most++;
            continue;
        }
        uint8_t here = HERE;
        if (atomic_compare_exchange_strong(&piece->state, &here, MOVING))
            return i;
        p->ring[(p->first + p->len++) % p->n] = (uint32_t)i; /* it is just coming */
    }
    return p->n;
}

/* A slot of pages that are nobody's, with any content. */
static size_t take_slot(struct tt_heap_pager *p)
{
    for (;;) {
        lock(p);
        size_t old = p->used < p->most ? p->n : victim(p);
        if (old == p->n && p->used < p->n && (p->used < p->most || !p->len)) {
            size_t slot = p->used++;
            unlock(p);
            return slot;
        }
        unlock(p);
        if (old < p->n) {
            struct piece *piece = &p->pieces[old];
            uint8_t *place = p->base + old * PIECE, *to = p->slots + piece->slot * PIECE;
            if (mprotect(place, PIECE, PROT_NONE) || !move(place, to) ||
                mprotect(to, PIECE, PROT_READ | PROT_WRITE))
                atomic_store(&p->broken, true);
            size_t slot = piece->slot;
            atomic_store(&piece->state, AWAY);
            return slot;
        }
        sched_yield();
    }
}

/* ---- reading ---- */

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

/* Reads piece i, strip by strip, so that each is sifted while it is in the cache. */
static void read_piece(struct tt_heap_pager *p, size_t i, uint8_t *to)
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

/* Somebody else is at it: most of a millisecond. */
static void wait_a_little(void)
{
    const struct timespec little = {0, 30000};
    nanosleep(&little, NULL);
}

/* Takes the piece for reading, if nobody does and it is not here. */
static bool take(struct tt_heap_pager *p, size_t i)
{
    uint8_t away = AWAY;
    return atomic_compare_exchange_strong(&p->pieces[i].state, &away, MOVING);
}

/* Makes a piece that was taken readable. */
static void bring(struct tt_heap_pager *p, size_t i)
{
    struct piece *piece = &p->pieces[i];
    size_t slot = take_slot(p);
    uint8_t *place = p->base + i * PIECE, *content = p->slots + slot * PIECE;
    read_piece(p, i, content);
    if (!move(content, place)) { /* no memory for mappings: what is read now is void */
        atomic_store(&p->broken, true);
        mprotect(place, PIECE, PROT_READ);
    }
    piece->slot = (uint32_t)slot;
    lock(p);
    piece->loads++;
    p->ring[(p->first + p->len++) % p->n] = (uint32_t)i;
    unlock(p);
    atomic_store(&piece->state, HERE);
}

/* Takes one of those behind piece i that were never read. */
static bool take_ahead(struct tt_heap_pager *p, size_t i, size_t *taken)
{
    for (size_t k = i + 1; k < i + STRIDE && k < p->n; k++)
        if (p->pieces[k].from && !p->pieces[k].loads && take(p, k)) {
            *taken = k;
            return true;
        }
    return false;
}

/* Makes the piece readable, unless it is; while another thread does, reads one of those that follow
 * it, once, in the first walk. Called in the handler: system calls and atomics only. */
static void load(struct tt_heap_pager *p, size_t i)
{
    struct piece *piece = &p->pieces[i];
    bool helps = !piece->loads;
    size_t other;
    while (!take(p, i)) {
        if (atomic_load(&piece->state) == HERE)
            return;
        if (helps && take_ahead(p, i, &other))
            bring(p, other);
        else
            wait_a_little();
        helps = false;
    }
    bring(p, i);
}

/* Reads ahead of who goes through pieces in order, the first time: that is the walk of the blocks,
 * by one thread. Later all cores are at work and read for themselves. */
static void *help(void *arg)
{
    struct tt_heap_pager *p = arg;
    for (;;) {
        while (sem_wait(&p->wanted) != 0)
            ;
        if (atomic_load(&p->ending))
            return NULL;
        size_t from = atomic_load(&p->ahead), i;
        while (!atomic_load(&p->ending) && take_ahead(p, from, &i))
            bring(p, i);
    }
}

/* ---- faults ---- */

static bool serve(struct tt_heap_pager *p, uintptr_t address)
{
    size_t i = (address - (uintptr_t)p->base) / PIECE;
    if (address < (uintptr_t)p->base || i >= p->n || !p->pieces[i].from)
        return false;
    load(p, i);
    if (i % STRIDE == 0) {
        if (atomic_exchange(&p->trip, i) + STRIDE == i) {
            atomic_store(&p->ahead, i);
            sem_post(&p->wanted);
        }
    }
    return true;
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    int saved = errno;
    for (unsigned i = 0; i < MOST_PAGERS; i++) {
        struct tt_heap_pager *p = atomic_load(&pagers[i]);
        if (p && serve(p, (uintptr_t)info->si_addr)) {
            errno = saved;
            return;
        }
    }
    if (before.sa_flags & SA_SIGINFO)
        before.sa_sigaction(number, info, context);
    else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN)
        before.sa_handler(number);
    else
        sigaction(SIGSEGV, &before, NULL); /* the fault comes again and is what it is */
    errno = saved;
}

static bool install(struct tt_heap_pager *p)
{
    bool done = false;
    pthread_mutex_lock(&installing);
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    if (installed || sigaction(SIGSEGV, &action, &before) == 0)
        for (unsigned i = 0; i < MOST_PAGERS && !done; i++) {
            struct tt_heap_pager *none = NULL;
            done = atomic_compare_exchange_strong(&pagers[i], &none, p);
        }
    installed += done;
    if (!installed)
        sigaction(SIGSEGV, &before, NULL);
    pthread_mutex_unlock(&installing);
    return done;
}

static void remove_it(struct tt_heap_pager *p)
{
    pthread_mutex_lock(&installing);
    for (unsigned i = 0; i < MOST_PAGERS; i++) {
        struct tt_heap_pager *own = p;
        if (atomic_compare_exchange_strong(&pagers[i], &own, NULL) && --installed == 0)
            sigaction(SIGSEGV, &before, NULL);
    }
    pthread_mutex_unlock(&installing);
}

/* ---- making one ---- */

/* Whether the kernel moves pages as is needed here; tries it with the first two slots. */
static bool can_move(struct tt_heap_pager *p)
{
    uint8_t *a = p->slots, *b = p->slots + PIECE;
    a[0] = 1;
    return move(a, b) && b[0] == 1 && a[0] == 0 && move(b, a) && a[0] == 1;
}

struct tt_heap_pager *tt_heap_pager_make(int mem, uint8_t *base, size_t size)
{
    struct tt_heap_pager *p = calloc(1, sizeof *p);
    sigset_t all, mask;
    if (!p)
        return NULL;
    static _Atomic uint64_t made;
    p->generation = atomic_fetch_add(&made, 1) + 1;
    p->mem = dup(mem);
    p->base = base;
    p->n = size / PIECE;
    p->most = SLOTS;
    atomic_store(&p->trip, (size_t)-STRIDE - 1);
    p->pieces = calloc(p->n + 1, sizeof *p->pieces);
    p->ring = calloc(p->n + 1, sizeof *p->ring);
    p->mapped = mmap(NULL, (p->n + 1) * PIECE, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p->mapped == MAP_FAILED || !p->pieces || !p->ring || p->mem < 0 || p->n < 2 ||
        p->n > UINT32_MAX)
        goto fail;
    p->slots = (uint8_t *)(((uintptr_t)p->mapped + PIECE - 1) & ~(uintptr_t)(PIECE - 1));
    madvise(p->slots, p->n * PIECE, MADV_HUGEPAGE);
    if (p->n >= SLOTS)
        tt_heap_lend(p->slots, SLOTS * PIECE);
    if (!can_move(p) || sem_init(&p->wanted, 0, 0))
        goto fail;
    if (!install(p)) {
        sem_destroy(&p->wanted);
        goto fail;
    }
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &mask);
    p->has_helper = pthread_create(&p->helper, NULL, help, p) == 0;
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    sigemptyset(&all); /* a fault must find its handler */
    sigaddset(&all, SIGSEGV);
    pthread_sigmask(SIG_UNBLOCK, &all, NULL);
    return p;
fail:
    if (p->mapped != MAP_FAILED)
        munmap(p->mapped, (p->n + 1) * PIECE);
    if (p->mem >= 0)
        close(p->mem);
    free(p->pieces);
    free(p->ring);
    free(p);
    return NULL;
}

int tt_heap_pager_add(struct tt_heap_pager *p, uint64_t start, uint64_t end, uint8_t *place,
                      const tt_heap_run_vec *runs)
{
    for (size_t i = 0; i < runs->len; i++)
        if (runs->data[i].end > start && runs->data[i].start < end &&
            tt_vec_push(&p->runs, runs->data[i]))
            return -ENOMEM;
    if (mprotect(place, end - start, PROT_NONE))
        return -errno;
    for (uint64_t at = start; at < end; at += PIECE)
        p->pieces[(size_t)(place - p->base + (ptrdiff_t)(at - start)) / PIECE].from = at;
    return 0;
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

static void stop_helper(struct tt_heap_pager *p)
{
    if (!p->has_helper)
        return;
    atomic_store(&p->ending, true);
    sem_post(&p->wanted);
    pthread_join(p->helper, NULL);
    p->has_helper = false;
}

void tt_heap_pager_sifted_enough(struct tt_heap_pager *p)
{
    stop_helper(p);
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
        load(p, i);
    if (!atomic_load(&p->pieces[i].sifted))
        return false;
    const struct sifted *s = &p->sifted[offset / TT_HEAP_STRIP];
    const uint8_t *words = p->store + s->first;
    out->what = (const uint32_t *)(const void *)words;
    out->at = (const uint16_t *)(const void *)(words + s->n * sizeof *out->what);
    out->n = s->n;
    return true;
}

bool tt_heap_pager_peek(struct tt_heap_pager *p, const uint8_t *place, void *out, size_t n)
{
    static _Thread_local struct {
        uint64_t generation;
        uint64_t page;
        uint8_t bytes[4096];
    } last;
    while (n) {
        size_t i = piece_at(p, place);
        if (i == p->n)
            return false;
        uint64_t address = p->pieces[i].from + ((uintptr_t)place & (PIECE - 1));
        size_t offset = address & 4095, part = 4096 - offset < n ? 4096 - offset : n;
        if (last.page != address - offset || last.generation != p->generation) {
            last.page = address - offset;
            last.generation = p->generation;
            read_run(p, last.page, last.bytes, sizeof last.bytes);
        }
        memcpy(out, last.bytes + offset, part);
        out = (uint8_t *)out + part;
        place += part;
        n -= part;
    }
    return true;
}

uint64_t tt_heap_pager_unread(struct tt_heap_pager *p)
{
    return p ? atomic_load(&p->unread) : 0;
}

bool tt_heap_pager_broken(struct tt_heap_pager *p)
{
    return p && atomic_load(&p->broken);
}

void tt_heap_pager_free(struct tt_heap_pager *p)
{
    if (!p)
        return;
    stop_helper(p);
    remove_it(p);
    sem_destroy(&p->wanted);
    close(p->mem);
    munmap(p->mapped, (p->n + 1) * PIECE);
    if (p->store)
        munmap(p->store, p->store_size);
    tt_heap_sieve_free(p->sieve);
    free(p->sifted);
    free(p->pieces);
    free(p->ring);
    tt_vec_free(&p->runs);
    free(p);
}
