/* SPDX-License-Identifier: Apache-2.0 */
/* What leads from a frame to its caller's, at a place in the code of a process. Start:
 * tt_kernel_row. */
#ifndef TT_KERNEL_RULES_H
#define TT_KERNEL_RULES_H

#include <dwarf.h>
#include <elfutils/libdw.h>

#include "kernel/internal.h"

#define TT_KERNEL_REG_DI 5u
#define TT_KERNEL_REG_BP 6u /* DWARF numbers, System V ABI x86-64, figure 3.36 */
#define TT_KERNEL_REG_SP 7u
#define TT_KERNEL_REG_IP 16u

/* The usual rules need no operations: CFA is a register plus an offset, the return address lies
 * right below it, and rbp is the same or saved at an offset from it. */
enum { ROW_NONE, ROW_PLAIN, ROW_OPS, ROW_END };
enum { BP_SAME, BP_SAVED, BP_OPS, BP_LOST };
struct tt_kernel_row {
    uint64_t pc;
    uint8_t kind, bp, cfa_reg, signal;
    bool stale;     /* the code there has changed: it is looked up anew */
    int8_t wrapper; /* the function there is the C library's own; -1: not asked */
    bool ip_di;     /* the return address is in rdi: vfork, whose stack the child uses too */
    bool ip_ops;    /* the return address by operations, of memory */
    int64_t cfa_off, bp_off;
    Dwarf_Frame *frame; /* owns the operations; NULL for plain rows */
    Dwarf_Op *cfa, *bp_at, *ip_at;
    Dwarf_Op cfa_room[3], bp_room[3], ip_room[3];
    size_t n_cfa, n_bp, n_ip;
};

/* Whether there is code, as far as is known or can be read now. */
bool tt_kernel_is_code(struct tt_kernel_unwind *u, uint64_t pc);
/* The same, and where nothing is known there the mappings are read again. */
bool tt_kernel_becomes_code(struct tt_kernel_unwind *u, uint64_t pc);
/* The rules there; valid until the next call. NULL: no memory. */
const struct tt_kernel_row *tt_kernel_row(struct tt_kernel_unwind *u, uint64_t pc);
bool tt_kernel_in_loader(struct tt_kernel_unwind *u, uint64_t pc);
/* Whether the function there is the C library's, or one that is linked into the program. */
bool tt_kernel_in_libc(struct tt_kernel_unwind *u, uint64_t pc);

#endif
