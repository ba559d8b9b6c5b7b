/* SPDX-License-Identifier: Apache-2.0 */
/* The few string functions that the core needs, and the memory functions that a compiler may call
 * for a structure copy even in freestanding code. Hidden: they bind nobody else's calls.
 * Start: tt_text_put. */
#include "agent/agent.h"

TT_HIDDEN void *memcpy(void *restrict to, const void *restrict from, size_t n);
TT_HIDDEN void *memmove(void *to, const void *from, size_t n);
TT_HIDDEN void *memset(void *to, int c, size_t n);
TT_HIDDEN int memcmp(const void *a, const void *b, size_t n);

void *memcpy(void *restrict to, const void *restrict from, size_t n)
{
    void *result = to;
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
    return result;
}

void *memmove(void *to, const void *from, size_t n)
{
    if ((uintptr_t)to - (uintptr_t)from >= n)
        return memcpy(to, from, n);
    uint8_t *d = to;
    const uint8_t *s = from;
    while (n-- > 0) {
        d[n] = s[n];
        __asm__ volatile("" : : : "memory"); /* keeps this from becoming a call of itself */
    }
    return to;
}

void *memset(void *to, int c, size_t n)
{
    void *result = to;
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(c) : "memory");
    return result;
}

int memcmp(const void *a, const void *b, size_t n)
{
    const uint8_t *x = a, *y = b;
    for (size_t i = 0; i < n; i++)
        if (x[i] != y[i])
            return x[i] < y[i] ? -1 : 1;
    return 0;
}

char *tt_text_put(char *at, const char *end, const char *text)
{
    while (*text && end - at > 1)
        *at++ = *text++;
    *at = 0;
    return at;
}

char *tt_text_number(char *at, const char *end, uint64_t value)
{
    char digits[20];
    unsigned n = 0;
    do
        digits[n++] = (char)('0' + value % 10);
    while ((value /= 10) != 0);
    while (n > 0 && end - at > 1)
        *at++ = digits[--n];
    *at = 0;
    return at;
}

const char *tt_text_find(const char *at, const char *end, char c)
{
    for (; at < end; at++)
        if (*at == c)
            return at;
    return NULL;
}
