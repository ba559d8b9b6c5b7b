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
    SLOTS = 16,     /* 32 MB: more would be fresh memory, which costs more than to read again */
    LOADS_MOST = 4, /* then a piece stays */
    STRIDE = 8,     /* pieces; a fault at every STRIDE-th asks for those that follow */
    MOST_PAGERS = 8,
};
#define PIECE TT_HEAP_PAGE

enum state { AWAY, MOVING, HERE };
struct piece {
    uint64_t from; /* address in the copy; 0: not of this pager */
    uint32_t slot;
    _Atomic uint8_t loads, state;
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
    _Atomic size_t trip, ahead; /* the last fault at a STRIDE-th piece; what is to be read ahead */
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

static void fill(struct tt_heap_pager *p, uint64_t from, uint8_t *to)
{
    size_t low = 0, high = p->runs.len;
    while (low < high) { /* the first run that ends behind it */
        size_t mid = low + (high - low) / 2;
        if (p->runs.data[mid].end <= from)
            low = mid + 1;
        else
            high = mid;
    }
    uint64_t at = from, end = from + PIECE;
    for (; low < p->runs.len && p->runs.data[low].start < end; low++) {
        const struct tt_heap_run *r = &p->runs.data[low];
        uint64_t start = r->start > at ? r->start : at, stop = r->end < end ? r->end : end;
        memset(to + (at - from), 0, start - at);
        read_run(p, start, to + (start - from), stop - start);
        at = stop;
    }
    memset(to + (at - from), 0, end - at);
}

/* Somebody else is at it: most of a millisecond. */
static void wait_a_little(void)
{
    const struct timespec little = {0, 30000};
    nanosleep(&little, NULL);
}

/* Makes the piece readable, unless it is. Called in the handler: system calls and atomics only. */
static void load(struct tt_heap_pager *p, size_t i)
{
    struct piece *piece = &p->pieces[i];
    for (;;) {
        uint8_t away = AWAY;
        if (atomic_compare_exchange_strong(&piece->state, &away, MOVING))
            break;
        if (away == HERE)
            return;
        wait_a_little();
    }
    size_t slot = take_slot(p);
    uint8_t *place = p->base + i * PIECE, *content = p->slots + slot * PIECE;
    fill(p, piece->from, content);
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
        size_t from = atomic_load(&p->ahead);
        for (size_t i = from + 1; i < from + STRIDE && i < p->n; i++)
            if (p->pieces[i].from && !p->pieces[i].loads &&
                atomic_load(&p->pieces[i].state) == AWAY)
                load(p, i);
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
    if (p->has_helper) {
        atomic_store(&p->ending, true);
        sem_post(&p->wanted);
        pthread_join(p->helper, NULL);
    }
    remove_it(p);
    sem_destroy(&p->wanted);
    close(p->mem);
    munmap(p->mapped, (p->n + 1) * PIECE);
    free(p->pieces);
    free(p->ring);
    tt_vec_free(&p->runs);
    free(p);
}
