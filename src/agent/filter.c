/* SPDX-License-Identifier: Apache-2.0 */
/* What a seccomp filter would answer to the system calls that the agent makes on the program's
 * threads: those of an allocator. A filter may end the process for one that the program itself
 * never makes, so it is run over them as the kernel would (seccomp(2); linux/filter.h for the
 * machine). Also part of src/inject, which asks before it attaches. Start: tt_filter_forbids. */
#include "agent/filter.h"

#include <asm/unistd.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

#include "agent/region.h"
#include "agent/sys.h"

static const struct {
    char name[12]; /* no pointer: the blob has no relocations */
    uint32_t number;
    uint64_t args[6];
} calls[] = {
    {"mmap",
     __NR_mmap,
     {0, 1u << 20, TT_PROT_RW, TT_MAP_PRIVATE | TT_MAP_ANONYMOUS | TT_MAP_NORESERVE, (uint64_t)-1,
      0}},
    {"mmap",
     __NR_mmap,
     {0, 1u << 16, TT_PROT_RW, TT_MAP_PRIVATE | TT_MAP_ANONYMOUS, (uint64_t)-1, 0}},
    {"mprotect", __NR_mprotect, {TT_REGION_BASE, 1u << 16, TT_PROT_RW}},
    {"munmap", __NR_munmap, {TT_REGION_BASE, 1u << 16}},
    {"madvise", __NR_madvise, {TT_REGION_BASE, 1u << 16, TT_MADV_DONTNEED}},
};

uint32_t tt_filter_run(const struct sock_filter *code, size_t n, const struct seccomp_data *data)
{
    uint32_t a = 0, x = 0, memory[BPF_MEMWORDS] = {0};
    for (size_t pc = 0; pc < n; pc++) {
        const struct sock_filter *i = &code[pc];
        uint32_t other = BPF_SRC(i->code) == BPF_X ? x : i->k, word = 0;
        int jumps = 0;
        switch (BPF_CLASS(i->code)) {
        case BPF_LD:
        case BPF_LDX:
            if (BPF_MODE(i->code) == BPF_ABS && i->k <= sizeof *data - sizeof word)
                __builtin_memcpy(&word, (const char *)data + i->k, sizeof word);
            else if (BPF_MODE(i->code) == BPF_LEN)
                word = sizeof *data;
            else if (BPF_MODE(i->code) == BPF_IMM)
                word = i->k;
            else if (BPF_MODE(i->code) == BPF_MEM && i->k < BPF_MEMWORDS)
                word = memory[i->k];
            else
                return SECCOMP_RET_KILL_PROCESS;
            *(BPF_CLASS(i->code) == BPF_LD ? &a : &x) = word;
            break;
        case BPF_ST:
        case BPF_STX:
            if (i->k >= BPF_MEMWORDS)
                return SECCOMP_RET_KILL_PROCESS;
            memory[i->k] = BPF_CLASS(i->code) == BPF_ST ? a : x;
            break;
        case BPF_ALU:
            switch (BPF_OP(i->code)) {
            case BPF_ADD:
                a += other;
                break;
            case BPF_SUB:
                a -= other;
                break;
            case BPF_MUL:
                a *= other;
                break;
            case BPF_DIV:
                if (!other)
                    return 0; /* bpf(2): ends the program with 0, which kills the thread */
                a /= other;
                break;
            case BPF_AND:
                a &= other;
                break;
            case BPF_OR:
                a |= other;
                break;
            case BPF_XOR:
                a ^= other;
                break;
            case BPF_LSH:
                a = other < 32 ? a << other : 0;
                break;
            case BPF_RSH:
                a = other < 32 ? a >> other : 0;
                break;
            case BPF_NEG:
                a = 0u - a;
                break;
            default:
                return SECCOMP_RET_KILL_PROCESS;
            }
            break;
        case BPF_JMP:
            if (BPF_OP(i->code) == BPF_JA) {
                pc += i->k;
                break;
            }
            jumps = (BPF_OP(i->code) == BPF_JEQ && a == other) ||
                    (BPF_OP(i->code) == BPF_JGT && a > other) ||
                    (BPF_OP(i->code) == BPF_JGE && a >= other) ||
                    (BPF_OP(i->code) == BPF_JSET && (a & other));
            pc += jumps ? i->jt : i->jf;
            break;
        case BPF_RET:
            return BPF_RVAL(i->code) == BPF_A ? a : i->k;
        default: /* BPF_MISC */
            if (BPF_MISCOP(i->code) == BPF_TAX)
                x = a;
            else
                a = x;
        }
    }
    return SECCOMP_RET_KILL_PROCESS;
}

/* Whether a call goes on, with a result or an error. */
static int harmless(uint32_t answer)
{
    uint32_t action = answer & SECCOMP_RET_ACTION_FULL;
    return action == SECCOMP_RET_ALLOW || action == SECCOMP_RET_LOG ||
           action == SECCOMP_RET_ERRNO || action == SECCOMP_RET_TRACE;
}

const char *tt_filter_forbids(const struct sock_filter *code, size_t n)
{
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        struct seccomp_data data = {.nr = (int)calls[i].number, .arch = AUDIT_ARCH_X86_64};
        __builtin_memcpy(data.args, calls[i].args, sizeof data.args);
        if (!harmless(tt_filter_run(code, n, &data)))
            return calls[i].name;
    }
    return NULL;
}
