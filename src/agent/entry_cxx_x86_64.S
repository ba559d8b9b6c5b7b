/* SPDX-License-Identifier: Apache-2.0 */
/* The stubs of libtelltale-agent-cxx.so: operator new and delete in all their forms. As in
 * entry_x86_64.S, but through the table that preload_cxx.c fills: for each entry either a hook of
 * the core or, where the next definition is not the allocator's own, straight on to that one
 * (it will call malloc, which is hooked). Start: the macro STUB. */
#include "agent/entry_save.h"
#include "agent/host.h"

        .text

        .macro STUB name number
        .p2align 4
        .globl  \name
        .type   \name, @function
\name:
        .cfi_startproc
        mov     $(\number - TT_E_NEW), %r9d
        mov     tt_cxx_table(%rip), %rax
        test    %rax, %rax
        je      early
        cmpb    $0, tt_cxx_tracked+\number-TT_E_NEW(%rip)
        je      1f
        mov     %rsp, %rcx
        mov     %rbp, %r8
        add     $TT_E_NEW, %r9d
        jmp     *8*\number(%rax)
1:      jmp     *tt_cxx_real+8*(\number-TT_E_NEW)(%rip)
        .cfi_endproc
        .size   \name, . - \name
        .endm

        .p2align 4
        .type   early, @function
early:
        .cfi_startproc
        CALL_KEEPING tt_cxx_resolve rdi rsi rdx r9
        lea     tt_cxx_real(%rip), %rax
        jmp     *(%rax,%r9,8)
        .cfi_endproc
        .size   early, . - early

        STUB    _Znwm TT_E_NEW
        STUB    _Znam TT_E_NEW_ARRAY
        STUB    _ZnwmRKSt9nothrow_t TT_E_NEW_NOTHROW
        STUB    _ZnamRKSt9nothrow_t TT_E_NEW_ARRAY_NOTHROW
        STUB    _ZnwmSt11align_val_t TT_E_NEW_ALIGNED
        STUB    _ZnamSt11align_val_t TT_E_NEW_ARRAY_ALIGNED
        STUB    _ZnwmSt11align_val_tRKSt9nothrow_t TT_E_NEW_ALIGNED_NT
        STUB    _ZnamSt11align_val_tRKSt9nothrow_t TT_E_NEW_ARRAY_ALIGNED_NT
        STUB    _ZdlPv TT_E_DELETE
        STUB    _ZdaPv TT_E_DELETE_ARRAY
        STUB    _ZdlPvm TT_E_DELETE_SIZED
        STUB    _ZdaPvm TT_E_DELETE_ARRAY_SIZED
        STUB    _ZdlPvRKSt9nothrow_t TT_E_DELETE_NOTHROW
        STUB    _ZdaPvRKSt9nothrow_t TT_E_DELETE_ARRAY_NOTHROW
        STUB    _ZdlPvSt11align_val_t TT_E_DELETE_ALIGNED
        STUB    _ZdaPvSt11align_val_t TT_E_DELETE_ARRAY_ALIGNED
        STUB    _ZdlPvmSt11align_val_t TT_E_DELETE_SIZED_ALIGNED
        STUB    _ZdaPvmSt11align_val_t TT_E_DELETE_ARRAY_SIZED_AL
        STUB    _ZdlPvSt11align_val_tRKSt9nothrow_t TT_E_DELETE_ALIGNED_NT
        STUB    _ZdaPvSt11align_val_tRKSt9nothrow_t TT_E_DELETE_ARRAY_AL_NT

        .section .note.GNU-stack, "", @progbits
