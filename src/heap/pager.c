/* SPDX-License-Identifier: Apache-2.0 */
/* The large ranges of a frozen copy, read where and when they are looked at. A search goes through
 * a heap in address order and keeps little of it, so reading it whole would cost as much
 * memory as the target has, and fresh memory costs more than all the rest (in a virtual machine up
 * to 3 s per GB, against 0.2 for reading into memory that is warm). Instead the ranges' place is
 * reserved without access; the first touch of a piece faults, and the handler of SIGSEGV reads it
 * into a slot and moves the slot's pages there (mremap(2) with MREMAP_DONTUNMAP, Linux 5.7). Only
 * some slots exist: the oldest piece gives its pages back. Whoever reads sees a whole piece or a
 * fault, never a half, and what was given back is read again, the same bytes, since the copy never
 * runs. A piece that is wanted again and again stays. Start: tt_heap_pager_make,
 * tt_heap_pager_load.
 */
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

#include "heap/internal_pager.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

enum {
    SLOTS = 16,     /* 32 MB: more would be fresh memory, which costs more than to read again */
    LOADS_MOST = 4, /* then a piece stays */
    STRIDE = 8,     /* pieces; a fault at every STRIDE-th asks for those that follow */
    MOST_PAGERS = 8,
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
    tt_heap_pager_read_piece(p, i, content);
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
void tt_heap_pager_load(struct tt_heap_pager *p, size_t i)
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
    tt_heap_pager_load(p, i);
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

void tt_heap_pager_stop_helper(struct tt_heap_pager *p)
{
    if (!p->has_helper)
        return;
    atomic_store(&p->ending, true);
    sem_post(&p->wanted);
    pthread_join(p->helper, NULL);
    p->has_helper = false;
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
    tt_heap_pager_stop_helper(p);
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
