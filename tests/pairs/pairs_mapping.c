/* SPDX-License-Identifier: Apache-2.0 */
/* Mappings, whole and in part. */
#include "pairs.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

typedef char *mapping;
#define RESOURCE "mapping"
#define UNIT mapping
#define PAGE ((size_t)4096)

static int file = -1;
static __attribute__((constructor)) void make_file(void)
{
    file = memfd_create("pairs", MFD_CLOEXEC);
    if (file < 0 || ftruncate(file, 16 * (off_t)PAGE))
        pairs_failed("memfd_create");
}

/* Protection and flags vary, as the kernel joins equal neighbours into one line of maps. */
static PAIRS_OWN_FRAME char *map(size_t pages, int flags, int fd)
{
    char *p = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (p == MAP_FAILED)
        pairs_failed("mmap");
    return p;
}

static PAIRS_OWN_FRAME char *grown(void)
{
    char *p = map(1, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    p = mremap(p, PAGE, 64 * PAGE, MREMAP_MAYMOVE);
    if (p == MAP_FAILED)
        pairs_failed("mremap");
    return p;
}

static PAIRS_OWN_FRAME char *without_its_end(void)
{
    char *p = map(6, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    munmap(p + 2 * PAGE, 4 * PAGE);
    return p;
}

static PAIRS_OWN_FRAME char *without_its_middle(void)
{
    char *p = map(5, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    munmap(p + PAGE, 3 * PAGE);
    return p;
}

#define ACQUIRER mmap
#define NEW_UNIT map(4, MAP_PRIVATE | MAP_ANONYMOUS, -1)
#define END_UNIT(v) munmap(v, 4 * PAGE)
#define BYTES 4 * PAGE
#define FLOWS FLOWS_ALL
#include "flows.inc"

#define ACQUIRER mmap_shared
#define NEW_UNIT map(2, MAP_SHARED | MAP_ANONYMOUS, -1)
#define END_UNIT(v) munmap(v, 2 * PAGE)
#define BYTES 2 * PAGE
#define FLOWS FLOWS_BASIC | FLOWS_LIFE
#include "flows.inc"

#define ACQUIRER mmap_file
#define NEW_UNIT map(16, MAP_SHARED, file)
#define END_UNIT(v) munmap(v, 16 * PAGE)
#define BYTES 16 * PAGE
#define FLOWS FLOWS_CALLS | FLOWS_DATA
#include "flows.inc"

#define ACQUIRER mremap
#define NEW_UNIT grown()
#define END_UNIT(v) munmap(v, 64 * PAGE)
#define BYTES 64 * PAGE
#define FLOWS FLOWS_BASIC | FLOWS_CALLS
#include "flows.inc"

#define ACQUIRER munmap_end
#define NEW_UNIT without_its_end()
#define END_UNIT(v) munmap(v, 2 * PAGE)
#define BYTES 2 * PAGE
#define FLOWS FLOWS_BASIC | FLOWS_LIFE
#include "flows.inc"

#define ACQUIRER munmap_middle
#define NEW_UNIT without_its_middle()
#define END_UNIT(v) munmap(v, 5 * PAGE)
#define BYTES 2 * PAGE
#define FLOWS FLOWS_DATA
#include "flows.inc"

#define ACQUIRER munmap
#define NEW_UNIT map(8, MAP_PRIVATE | MAP_ANONYMOUS, -1)
#define BYTES 8 * PAGE
#define ALSO ""
BAD(too_short) /* the length of something else */
{
    char *v = LOST;
    USE(v);
    munmap(v, PAGE);
}
GOOD(too_short)
{
    char *v = KEPT;
    USE(v);
    for (int i = 0; i < 8; i++)
        munmap(v + (size_t)i * PAGE, PAGE);
}
#undef ACQUIRER
#define ACQUIRER mmap
GOOD(fixed_over) /* a mapping over another ends it */
{
    char *v = KEPT;
    USE(v);
    char *over = mmap(v, 8 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    munmap(over, 8 * PAGE);
}
