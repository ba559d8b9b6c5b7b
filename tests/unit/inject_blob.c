/* SPDX-License-Identifier: Apache-2.0 */
/* The smallest blob: it counts the entries of each hooked function in its tape and passes them on.
 * Tests of the injection work with it, so that they say nothing about the agent. The linker puts
 * the hooks and `enter` at fixed offsets from address 0 (meson.build). Start: enter. */
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "agent/blob_wait.h"

#define HIDDEN __attribute__((visibility("hidden")))
#define HOOKS 0x10000u
#define ENTER 0x20000u

static long call(long n, long a, long b, long c, long d, long e, long f)
{
    long r;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(r)
                     : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return r;
}

#define HOOK(s, e) (HOOKS + 32u * (TT_E_COUNT * (s) + (e)))
#define TEN(s, e)                                                                                  \
    HOOK(s, e), HOOK(s, e + 1), HOOK(s, e + 2), HOOK(s, e + 3), HOOK(s, e + 4), HOOK(s, e + 5),    \
        HOOK(s, e + 6), HOOK(s, e + 7), HOOK(s, e + 8), HOOK(s, e + 9)
#define SET(s)                                                                                     \
    {                                                                                              \
        TEN(s, 0), TEN(s, 10), TEN(s, 20), HOOK(s, 30), HOOK(s, 31), HOOK(s, 32), HOOK(s, 33)      \
    }

extern HIDDEN struct tt_blob tt_blob;
HIDDEN struct tt_blob tt_blob = {
    .magic = TT_BLOB_MAGIC,
    .version = TT_BLOB_VERSION,
    .entry = {SET(0), SET(1), SET(2), SET(3)},
    .entry_dlclose = HOOK(4, 0),
    .entry_prctl = HOOK(4, 1),
    .entry_syscall = HOOK(4, 2),
    .enter = ENTER,
    .text_end = ENTER + 0x1000,
};

extern HIDDEN tt_real_fn *reals[TT_BLOB_SETS + 1][TT_E_COUNT];
extern HIDDEN uint64_t *counts;
HIDDEN tt_real_fn *reals[TT_BLOB_SETS + 1][TT_E_COUNT];
HIDDEN uint64_t *counts;
static uint64_t dummy[TT_E_DLCLOSE + 3];

/* Whether the word that the test named changes while the start lasts: somebody else runs. */
static uint64_t moves(uint64_t at)
{
    const volatile uint64_t *word = (const volatile uint64_t *)at;
    uint64_t before = word ? *word : 0;
    for (unsigned i = 0; word && i < 1u << 20; i++)
        __asm__ volatile("pause");
    return word && *word != before;
}

static void run(struct tt_blob_call *c)
{
    c->result = 0;
    c->tape_fd = -1;
    if (c->what == TT_BLOB_DROP)
        return;
    if (c->what == TT_BLOB_PASS) {
        if (counts == dummy && tt_blob.detached_live > 5) /* since the last one, without a start */
            tt_blob.detached_live = 0;
        counts = dummy;
        return;
    }
    char name[] = "tape";
    long fd = call(SYS_memfd_create, (long)name, 1, 0, 0, 0, 0);
    call(SYS_ftruncate, fd, 4096, 0, 0, 0, 0);
    long at = call(SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd < 0 || at < 0) {
        c->result = -12;
        return;
    }
    for (unsigned s = 0; s < TT_BLOB_SETS; s++)
        for (unsigned e = 0; e < TT_E_COUNT; e++)
            reals[s][e] = c->real[s][e];
    reals[TT_BLOB_SETS][0] = c->real_dlclose;
    reals[TT_BLOB_SETS][1] = c->real_prctl;
    reals[TT_BLOB_SETS][2] = c->real_syscall;
    counts = (uint64_t *)at;
    counts[TT_E_DLCLOSE + 3] = moves(c->conf.origin_ns);
    tt_blob.detached_live = c->conf.rate; /* the test says how many objects there will be */
    c->tape_fd = (int32_t)fd;
}

extern HIDDEN void enter(void);
__attribute__((section(".enter"))) void enter(void)
{
    run(&tt_blob.call);
    tt_blob_wait(&tt_blob.call);
}

/* Hook n. r11 is nobody's at a function's entry. */
__asm__(".pushsection .hooks, \"ax\"\n"
        "        .set n, 0\n"
        "        .rept 139\n"
        "        .balign 32\n"
        "        mov counts(%rip), %r11\n"
        "        lock incq n(%r11)\n"
        "        jmp *reals+n(%rip)\n"
        "        .set n, n + 8\n"
        "        .endr\n"
        ".popsection\n");
_Static_assert(TT_E_DLCLOSE + 3 == 139, "as many hooks as entries");
