/* SPDX-License-Identifier: Apache-2.0 */
/* Raw system calls for the freestanding core: it may use
 * nothing of libc, since as a blob it runs where no loader has bound anything for it. Every call
 * returns the kernel's result, a negative errno on failure. After start-up only rare paths come
 * here; the hot paths of the hooks make no system call. Start: tt_sys. */
#ifndef TT_AGENT_SYS_H
#define TT_AGENT_SYS_H

#include <stddef.h>
#include <stdint.h>
#include <asm/unistd.h>

static inline long tt_sys(long number, long a, long b, long c, long d, long e, long f)
{
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

#define TT_PROT_NONE 0
#define TT_PROT_RW 3
#define TT_PROT_RX 5
#define TT_MAP_SHARED 0x01
#define TT_MAP_PRIVATE 0x02
#define TT_MAP_FIXED 0x10
#define TT_MAP_ANONYMOUS 0x20
#define TT_MAP_NORESERVE 0x4000
#define TT_MAP_FIXED_NOREPLACE 0x100000
#define TT_MADV_DONTNEED 4
#define TT_MADV_REMOVE 9
#define TT_MADV_NOHUGEPAGE 15
#define TT_MADV_DONTDUMP 16
#define TT_MADV_WIPEONFORK 18
#define TT_O_RDWR 02
#define TT_O_CREAT 0100
#define TT_O_EXCL 0200
#define TT_O_CLOEXEC 02000000
#define TT_MFD_CLOEXEC 1
#define TT_MFD_NOEXEC_SEAL 8
#define TT_AT_FDCWD (-100L)
#define TT_CLOCK_BOOTTIME 7
#define TT_STATX_NLINK 4
#define TT_RLIMIT_FSIZE 1
#define TT_RLIMIT_AS 9
#define TT_EACCES 13
#define TT_EEXIST 17
#define TT_ENOMEM 12
#define TT_EINVAL 22
#define TT_EMFILE 24
#define TT_EFBIG 27
#define TT_ETIMEDOUT 110

/* An mmap that failed: the kernel's answers -4095..-1. */
static inline int tt_sys_bad(const void *p)
{
    return (uintptr_t)p > (uintptr_t)-4096;
}
/* Not 0 once the program has installed a seccomp filter (sandbox.c): no system calls but those of
 * allocators, or none at all: then these fail. */
extern uint32_t tt_sandboxed __attribute__((visibility("hidden")));
#define TT_SANDBOX_ALLOCATOR 1u
#define TT_SANDBOX_SILENT 2u

static inline long tt_sys_allocator(long number, long a, long b, long c, long d, long e)
{
    return tt_sandboxed == TT_SANDBOX_SILENT ? -TT_EACCES : tt_sys(number, a, b, c, d, e, 0);
}
static inline void *tt_sys_mmap(void *at, size_t bytes, int prot, int flags, int fd)
{
    return (void *)tt_sys_allocator(__NR_mmap, (long)at, (long)bytes, prot, flags, fd);
}
static inline int tt_sys_munmap(void *at, size_t bytes)
{
    return (int)tt_sys_allocator(__NR_munmap, (long)at, (long)bytes, 0, 0, 0);
}
static inline int tt_sys_mprotect(void *at, size_t bytes, int prot)
{
    return (int)tt_sys_allocator(__NR_mprotect, (long)at, (long)bytes, prot, 0, 0);
}
static inline int tt_sys_madvise(void *at, size_t bytes, int advice)
{
    return (int)tt_sys_allocator(__NR_madvise, (long)at, (long)bytes, advice, 0, 0);
}
/* Private anonymous memory back to zeros, and its pages to the kernel, which does not take those
 * that the program has locked (madvise(2), EINVAL). */
static inline void tt_sys_clear(void *at, size_t bytes)
{
    if (tt_sys_madvise(at, bytes, TT_MADV_DONTNEED) != 0)
        for (size_t i = 0; i < bytes / sizeof(uint64_t); i++)
            ((volatile uint64_t *)at)[i] = 0;
}
static inline int tt_sys_open(const char *path, int flags, int mode)
{
    return (int)tt_sys(__NR_openat, TT_AT_FDCWD, (long)path, flags, mode, 0, 0);
}
static inline long tt_sys_read(int fd, void *to, size_t bytes)
{
    return tt_sys(__NR_read, fd, (long)to, (long)bytes, 0, 0, 0);
}
static inline void tt_sys_close(int fd)
{
    tt_sys(__NR_close, fd, 0, 0, 0, 0, 0);
}
static inline uint32_t tt_sys_getpid(void)
{
    return (uint32_t)tt_sys(__NR_getpid, 0, 0, 0, 0, 0, 0);
}
static inline uint32_t tt_sys_gettid(void)
{
    return (uint32_t)tt_sys(__NR_gettid, 0, 0, 0, 0, 0, 0);
}
static inline uint64_t tt_sys_boottime_ns(void)
{
    long ts[2] = {0, 0};
    tt_sys(__NR_clock_gettime, TT_CLOCK_BOOTTIME, (long)ts, 0, 0, 0, 0);
    return (uint64_t)ts[0] * 1000000000ULL + (uint64_t)ts[1];
}

/* How many threads this process has; 0: not known. A directory has a link from each directory in it
 * and two of its own (struct statx: stx_nlink is the fifth of its 32-bit words). */
static inline uint32_t tt_sys_threads(void)
{
    uint32_t stat[64] = {0};
    tt_sys(__NR_statx, TT_AT_FDCWD, (long)"/proc/self/task", 0, TT_STATX_NLINK, (long)stat, 0);
    return stat[4] > 2 ? stat[4] - 2 : 0;
}

/* The soft limit of a resource of this process, ~0 if none. */
static inline uint64_t tt_sys_limit(int resource)
{
    uint64_t limit[2] = {~0ULL, ~0ULL};
    tt_sys(__NR_prlimit64, 0, resource, 0, (long)limit, 0, 0);
    return limit[0];
}

/* Reads one word of this process without the risk of a fault; 0 or a negative errno. */
/* NOLINTNEXTLINE(readability-non-const-parameter): the kernel writes it */
static inline int tt_sys_peek(uint64_t address, uint64_t *word)
{
    struct {
        void *base;
        size_t bytes;
    } local = {word, 8}, remote = {(void *)address, 8};
    long n =
        tt_sys(__NR_process_vm_readv, (long)tt_sys_getpid(), (long)&local, 1, (long)&remote, 1, 0);
    return n == 8 ? 0 : (n < 0 ? (int)n : -14);
}

/* Reads a word from each of n places; 1 all were read. */
struct tt_sys_piece {
    uint64_t address, bytes;
};
/* NOLINTNEXTLINE(readability-non-const-parameter): the kernel writes it */
static inline int tt_sys_gather(uint64_t *words, const struct tt_sys_piece *from, uint32_t n)
{
    struct tt_sys_piece to = {(uint64_t)words, 8UL * n};
    return tt_sys(__NR_process_vm_readv, (long)tt_sys_getpid(), (long)&to, 1, (long)from, n, 0) ==
           8L * n;
}

/* Writes a word to each of n places, up to the first that would fault; 1 all were written. */
static inline int tt_sys_scatter(const struct tt_sys_piece *to, const uint64_t *words, uint32_t n)
{
    struct tt_sys_piece from = {(uint64_t)words, 8UL * n};
    return tt_sys(__NR_process_vm_writev, (long)tt_sys_getpid(), (long)&from, 1, (long)to, n, 0) ==
           8L * n;
}

#endif
