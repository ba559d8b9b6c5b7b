/* SPDX-License-Identifier: Apache-2.0 */
/* The least a preload library can do: counts calls per thread and forwards. bench.py runs it beside
 * the real tools, so that the price of interposing alone can be told from the price of unwinding
 * and bookkeeping. It works for glibc's malloc only, whose entry points it forwards to. Start:
 * malloc. */
#include <stddef.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *block, size_t size);
extern void __libc_free(void *block);

/* Kept where a reader could find it; initial-exec as every preload library may use. */
__thread unsigned long countshim_calls __attribute__((tls_model("initial-exec")));

void *malloc(size_t size)
{
    countshim_calls++;
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    countshim_calls++;
    return __libc_calloc(count, size);
}

void *realloc(void *block, size_t size)
{
    countshim_calls++;
    return __libc_realloc(block, size);
}

void free(void *block)
{
    countshim_calls++;
    __libc_free(block);
}
