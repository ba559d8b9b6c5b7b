/* SPDX-License-Identifier: Apache-2.0 */
/* x86-64 with glibc's thread control block. Two words of it that glibc reserves and never uses
 * (tcbhead_t.unused_vgetcpu_cache, sysdeps/x86_64/nptl/tls.h) hold what the hooks need per
 * thread: they are zero in a new thread, need no TLS segment and no loader. Layouts of the signal
 * frame are from the kernel's struct rt_sigframe and struct ucontext. Start: tt_arch_thread. */
#ifndef TT_AGENT_ARCH_H
#define TT_AGENT_ARCH_H

#define TT_FS_LEFT 0x38   /* byte countdown of the sampled mode */
#define TT_FS_THREAD 0x40 /* struct tt_thread * */

/* Where sampled objects lie, see region.h: addresses that are TT_REGION_NUMBER when shifted. No
 * heap is near: the kernel maps from 0x7fff'ffff'ffff down, an executable and its brk(2) stand at
 * 0x5555'... or, unless position-independent, far below. Bit TT_REGION_CLEAR is 0 in the region and
 * 1 in nearly every block, so one instruction lets those pass; one that has it 0 is asked further.
 */
#define TT_REGION_SHIFT 36
#define TT_REGION_NUMBER 0x600
#define TT_REGION_CLEAR 44

/* Bytes of the stack that stay as main left them; with the saved result a multiple of 16. */
#define TT_MAIN_FRAMES (32768 - 8)

#ifndef __ASSEMBLER__
#include <stdint.h>

static inline void *tt_arch_thread(void)
{
    void *t;
    __asm__("mov %%fs:0x40,%0" : "=r"(t));
    return t;
}
/* The same after a call: loading it again is cheaper than keeping it over the call. */
static inline void *tt_arch_thread_again(void)
{
    void *t;
    __asm__ volatile("mov %%fs:0x40,%0" : "=r"(t));
    return t;
}
/* Stores the stack pointer. */
/* NOLINTNEXTLINE(readability-non-const-parameter): the instruction writes it */
static inline void tt_arch_mark(uint64_t *at)
{
    __asm__ volatile("mov %%rsp,%0" : "=m"(*at) : : "memory");
}
static inline void tt_arch_set_thread(void *t)
{
    __asm__ volatile("mov %0,%%fs:0x40" : : "r"(t) : "memory");
}
static inline int64_t tt_arch_left(void)
{
    int64_t v;
    __asm__ volatile("mov %%fs:0x38,%0" : "=r"(v));
    return v;
}
static inline void tt_arch_set_left(int64_t v)
{
    __asm__ volatile("mov %0,%%fs:0x38" : : "r"(v) : "memory");
}
/* Address of the thread control block; glibc keeps it in its first word. */
static inline uint64_t tt_arch_tcb(void)
{
    uint64_t v;
    __asm__("mov %%fs:0,%0" : "=r"(v));
    return v;
}

/* __restore_rt: mov $15,%rax; syscall. On it the stack pointer is at struct ucontext. */
#define TT_ARCH_RESTORER 0x050f0000000fc0c7ULL /* its bytes 1..8, after the REX prefix 0x48 */
#define TT_ARCH_UC_RBP 120
#define TT_ARCH_UC_RSP 160
#define TT_ARCH_UC_RIP 168

/* DWARF register numbers (System V ABI, x86-64 supplement, figure 3.36). */
#define TT_ARCH_DW_RBP 6
#define TT_ARCH_DW_RSP 7
#define TT_ARCH_DW_RA 16
#endif
#endif
