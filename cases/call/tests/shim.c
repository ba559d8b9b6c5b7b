/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded into the server by the tests only: counts the blocks that are still allocated when the
 * process exits, by requested size, and writes "SIZE COUNT" lines to the file $CALL_SHIM_OUT. It
 * sees malloc, calloc, realloc and free, which is all that the server and the libc functions
 * it uses allocate with. Start: note. */
#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLOTS = 1 << 18 };

static struct {
    void *p; /* NULL: empty; TOMB: was used */
    size_t size;
} table[SLOTS];
static char tomb;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void *(*real_malloc)(size_t);
static void *(*real_calloc)(size_t, size_t);
static void *(*real_realloc)(void *, size_t);
static void (*real_free)(void *);

/* dlsym may allocate before we know the real functions: those few blocks come from here. */
static char early[8192];
static size_t early_len;

static int is_early(const void *p)
{
    return (const char *)p >= early && (const char *)p < early + sizeof early;
}

static void *early_alloc(size_t n)
{
    n = (n + 15) & ~(size_t)15;
    if (n > sizeof early - early_len)
        abort();
    early_len += n;
    return early + early_len - n;
}

__attribute__((constructor)) static void find_real(void)
{
    real_malloc = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
    real_calloc = (void *(*)(size_t, size_t))dlsym(RTLD_NEXT, "calloc");
    real_realloc = (void *(*)(void *, size_t))dlsym(RTLD_NEXT, "realloc");
    real_free = (void (*)(void *))dlsym(RTLD_NEXT, "free");
}

static size_t home(const void *p)
{
    return ((uintptr_t)p >> 4) * 0x9e3779b97f4a7c15ULL >> 46;
}

static void *note(void *p, size_t size)
{
    if (!p)
        return p;
    pthread_mutex_lock(&lock);
    size_t i = home(p), tries = 0;
    while (table[i].p && table[i].p != &tomb && tries++ < SLOTS)
        i = (i + 1) % SLOTS;
    if (tries >= SLOTS)
        abort();
    table[i].p = p;
    table[i].size = size;
    pthread_mutex_unlock(&lock);
    return p;
}

static void forget(const void *p)
{
    pthread_mutex_lock(&lock);
    for (size_t i = home(p), tries = 0; table[i].p && tries < SLOTS; i = (i + 1) % SLOTS, tries++) {
        if (table[i].p == p) {
            table[i].p = &tomb;
            break;
        }
    }
    pthread_mutex_unlock(&lock);
}

void *malloc(size_t size)
{
    return real_malloc ? note(real_malloc(size), size) : early_alloc(size);
}

void *calloc(size_t n, size_t size)
{
    return real_calloc ? note(real_calloc(n, size), n * size) : early_alloc(n * size);
}

void *realloc(void *p, size_t size)
{
    if (is_early(p) || !real_realloc)
        abort();
    if (p)
        forget(p);
    return note(real_realloc(p, size), size);
}

void free(void *p)
{
    if (!p || is_early(p))
        return;
    forget(p);
    real_free(p);
}

__attribute__((destructor)) static void report(void)
{
    enum { SIZES = 4096 };
    static unsigned long count[SIZES + 1];
    const char *path = getenv("CALL_SHIM_OUT");
    for (size_t i = 0; i < SLOTS; i++)
        if (table[i].p && table[i].p != &tomb)
            count[table[i].size < SIZES ? table[i].size : SIZES]++;
    FILE *f = path ? fopen(path, "we") : NULL;
    if (!f)
        return;
    for (size_t i = 0; i <= SIZES; i++)
        if (count[i])
            fprintf(f, "%zu %lu\n", i, count[i]);
    fclose(f);
}
