/* SPDX-License-Identifier: Apache-2.0 */
/* Heap blocks: the allocator's own functions and those of libc that hand a block to their caller.
 */
#include "pairs.h"

#include <errno.h>
#include <malloc.h>
#include <netdb.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <wchar.h>

typedef void *block;
#define RESOURCE "heap"
#define UNIT block
static const char text[] = "a line of text that is longer than any small buffer\n";

static PAIRS_OWN_FRAME char *format(int n)
{
    char *out;
    if (asprintf(&out, "round %d of some", n) < 0)
        pairs_failed("asprintf");
    return out;
}

static PAIRS_OWN_FRAME char *format_va(const char *how, ...)
{
    char *out;
    va_list ap;
    va_start(ap, how);
    if (vasprintf(&out, how, ap) < 0)
        pairs_failed("vasprintf");
    va_end(ap);
    return out;
}

static FILE *lines(void)
{
    static FILE *f;
    static char copy[sizeof text];
    if (!f)
        f = fmemopen(memcpy(copy, text, sizeof text), sizeof text - 1, "r");
    rewind(f);
    return f;
}

static PAIRS_OWN_FRAME char *read_line(void)
{
    char *line = NULL;
    size_t size = 0;
    if (getline(&line, &size, lines()) < 0)
        pairs_failed("getline");
    return line;
}

static PAIRS_OWN_FRAME char *read_word(void)
{
    char *word = NULL;
    size_t size = 0;
    if (getdelim(&word, &size, ' ', lines()) < 0)
        pairs_failed("getdelim");
    return word;
}

static PAIRS_OWN_FRAME void *aligned(size_t n)
{
    void *p;
    errno = posix_memalign(&p, 64, n);
    if (errno)
        pairs_failed("posix_memalign");
    return p;
}

static PAIRS_OWN_FRAME char *memory_stream(void)
{
    char *out;
    size_t size;
    FILE *f = open_memstream(&out, &size);
    fputs(text, f);
    fclose(f);
    return out;
}

static PAIRS_OWN_FRAME struct addrinfo *address(void)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
                             .ai_socktype = SOCK_DGRAM};
    struct addrinfo *list;
    if (getaddrinfo("127.0.0.1", "135", &hints, &list))
        pairs_failed("getaddrinfo");
    return list;
}

#define ACQUIRER malloc
#define NEW_UNIT malloc(40)
#define END_UNIT(v) free(v)
#define BYTES 40
#define FLOWS FLOWS_ALL
#include "flows.inc"

#define ACQUIRER calloc
#define NEW_UNIT calloc(3, 33)
#define END_UNIT(v) free(v)
#define BYTES 99
#define FLOWS FLOWS_CALLS | FLOWS_CONTROL
#include "flows.inc"

#define ACQUIRER realloc
#define NEW_UNIT realloc(NULL, 64)
#define END_UNIT(v) free(v)
#define BYTES 64
#define FLOWS FLOWS_BASIC | FLOWS_DATA
#include "flows.inc"

#define ACQUIRER realloc_grown
#define NEW_UNIT realloc(malloc(24), 4000)
#define END_UNIT(v) free(v)
#define BYTES 4000
#define FLOWS FLOWS_BASIC | FLOWS_LIFE
#include "flows.inc"

#define ACQUIRER realloc_shrunk
#define NEW_UNIT realloc(malloc(4000), 24)
#define END_UNIT(v) free(v)
#define BYTES 24
#define FLOWS FLOWS_DATA
#include "flows.inc"

#define ACQUIRER reallocarray
#define NEW_UNIT reallocarray(NULL, 4, 24)
#define END_UNIT(v) v = reallocarray(v, 0, 1)
#define BYTES 96
#define FLOWS FLOWS_LIFE
#include "flows.inc"

#define ACQUIRER strdup
#define NEW_UNIT strdup(text)
#define END_UNIT(v) free(v)
#define BYTES sizeof text
#define FLOWS FLOWS_CALLS | FLOWS_LIFE
#include "flows.inc"

#define ACQUIRER strndup
#define NEW_UNIT strndup(text, 20)
#define END_UNIT(v) free(v)
#define BYTES 21
#define FLOWS FLOWS_DATA
#include "flows.inc"

#define ACQUIRER wcsdup
#define NEW_UNIT wcsdup(L"wide")
#define END_UNIT(v) free(v)
#define BYTES sizeof L"wide"
#define FLOWS FLOWS_BASIC
#include "flows.inc"

#define ACQUIRER asprintf
#define NEW_UNIT format(pairs_yes)
#define END_UNIT(v) free(v)
#define FLOWS FLOWS_CALLS | FLOWS_CONTROL
#include "flows.inc"

#define ACQUIRER vasprintf
#define NEW_UNIT format_va("%s %d", "round", pairs_yes)
#define END_UNIT(v) free(v)
#define FLOWS FLOWS_DATA
#include "flows.inc"

#define ACQUIRER getline
#define NEW_UNIT read_line()
#define END_UNIT(v) free(v)
#define FLOWS FLOWS_BASIC | FLOWS_LIFE
#include "flows.inc"

#define ACQUIRER getdelim
#define NEW_UNIT read_word()
#define END_UNIT(v) free(v)
#define FLOWS FLOWS_CALLS
#include "flows.inc"

#define ACQUIRER posix_memalign
#define NEW_UNIT aligned(200)
#define END_UNIT(v) free(v)
#define BYTES 200
#define FLOWS FLOWS_CONTROL | FLOWS_DATA
#include "flows.inc"

#define ACQUIRER aligned_alloc
#define NEW_UNIT aligned_alloc(32, 320)
#define END_UNIT(v) free(v)
#define BYTES 320
#define FLOWS FLOWS_LIFE
#include "flows.inc"

#define ACQUIRER memalign
#define NEW_UNIT memalign(128, 33)
#define END_UNIT(v) free(v)
#define BYTES 33
#define FLOWS FLOWS_BASIC
#include "flows.inc"

#define ACQUIRER valloc
#define NEW_UNIT valloc(100)
#define END_UNIT(v) free(v)
#define BYTES 100
#define FLOWS FLOWS_CALLS
#include "flows.inc"

#define ACQUIRER getcwd
#define NEW_UNIT getcwd(NULL, 0)
#define END_UNIT(v) free(v)
#define FLOWS FLOWS_LIFE
#include "flows.inc"

#define ACQUIRER realpath
#define NEW_UNIT realpath("/proc/..", NULL)
#define END_UNIT(v) free(v)
#define FLOWS FLOWS_CALLS
#include "flows.inc"

#define ACQUIRER open_memstream
#define NEW_UNIT memory_stream()
#define END_UNIT(v) free(v)
#define FLOWS FLOWS_DATA
#include "flows.inc"

#define ACQUIRER getaddrinfo
#define NEW_UNIT address()
#define END_UNIT(v) freeaddrinfo((struct addrinfo *)v)
#define FLOWS FLOWS_BASIC
#include "flows.inc"

/* What only blocks can do. */
#define ACQUIRER realloc
#define NEW_UNIT malloc(72)
#define BYTES 72
#define ALSO ""
static volatile size_t too_much = PTRDIFF_MAX - 4096;
BAD(fails) /* the old block is still there, its pointer is not */
{
    block v = LOST;
    USE(v);
    v = realloc(v, too_much);
    free(v);
}
GOOD(fails)
{
    block v = KEPT;
    USE(v);
    block grown = realloc(v, too_much);
    free(grown ? grown : v);
}
BAD(moved) /* the old pointer is kept, the new one dropped; the old one must not be used */
{
    block v = malloc(24);
    USE(v);
#undef NEW_UNIT
#define NEW_UNIT realloc(v, 9000)
    block grown = LOST;
    USE(grown);
}
GOOD(moved)
{
    block v = malloc(24);
    USE(v);
    block grown = KEPT;
    USE(grown);
    free(grown);
}
