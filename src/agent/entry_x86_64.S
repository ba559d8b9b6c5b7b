/* SPDX-License-Identifier: Apache-2.0 */
/* The stubs. Each adds to the call's up to three arguments (rdi, rsi, rdx) where its return
 * address lies (rcx), the caller's rbp (r8) and the entry's number (r9d), and jumps to the
 * hook of the moment; only assembly can hand over the caller's rbp and rsp untouched. In the preload
 * library (TT_PACK_PRELOAD) the stubs also carry the allocator's names, and an entry that nobody
 * filled yet leads to the pack's start-up. Start: the macro STUB. */
#include "agent/arch_x86_64.h"
#include "agent/entry_save.h"
#include "agent/host.h"

        .text

#ifdef TT_PACK_PRELOAD
        .macro GUARD number
        mov     $\number, %r9d
        cmpq    $0, tt_agent+8*\number(%rip)
        je      early
        .endm
        .macro NAME name
        .globl  \name
        .type   \name, @function
\name:
        .endm
#else
        .macro GUARD number
        mov     $\number, %r9d
        .endm
        .macro NAME name
        .endm
#endif

        .macro STUB name number
        .p2align 4
        .globl  tt_entry_\name
        .hidden tt_entry_\name
        .type   tt_entry_\name, @function
tt_entry_\name:
        NAME    \name
        .cfi_startproc
        GUARD   \number
        mov     %rsp, %rcx
        mov     %rbp, %r8
        jmp     *tt_agent+8*\number(%rip)
        .cfi_endproc
        .size   tt_entry_\name, . - tt_entry_\name
        .endm

/* malloc and free: one jump to the way of the moment (struct tt_hook_ways), which is the short one
 * of sampled mode, or the long one through the hook's table, or the real function. */
        .macro HOT name number
        .p2align 4
        .globl  tt_entry_\name
        .hidden tt_entry_\name
        .type   tt_entry_\name, @function
tt_entry_\name:
        NAME    \name
        .cfi_startproc
        jmp     *tt_hook_way+8*\number(%rip)
        .cfi_endproc
        .size   tt_entry_\name, . - tt_entry_\name

        .p2align 4
        .globl  tt_long_\name
        .hidden tt_long_\name
        .type   tt_long_\name, @function
tt_long_\name:
        .cfi_startproc
        mov     $\number, %r9d
        mov     %rsp, %rcx
        mov     %rbp, %r8
        jmp     *tt_agent+8*\number(%rip)
        .cfi_endproc
        .size   tt_long_\name, . - tt_long_\name
        .endm

        .data
        .p2align 4
        .globl  tt_hook_way
        .hidden tt_hook_way
        .type   tt_hook_way, @object
tt_hook_way:
#ifdef TT_PACK_PRELOAD
        .quad   early_malloc, early_free
#else
        .quad   0, 0 /* no relocations; nothing leads here before the hooks are set */
#endif
        .size   tt_hook_way, . - tt_hook_way
        .text

#ifdef TT_PACK_PRELOAD
/* A call before the pack has started, as early as in the loader: find the real allocator, then go
 * on as if nothing had been. */
        .p2align 4
        .type   early, @function
early_malloc:
        mov     $TT_E_MALLOC, %r9d
        jmp     early
early_free:
        mov     $TT_E_FREE, %r9d
early:
        .cfi_startproc
        CALL_KEEPING tt_preload_resolve rdi rsi rdx r9
        mov     %rsp, %rcx
        mov     %rbp, %r8
        lea     tt_agent(%rip), %rax
        jmp     *(%rax,%r9,8)
        .cfi_endproc
        .size   early, . - early
#endif

        HOT     malloc TT_E_MALLOC
        HOT     free TT_E_FREE
        STUB    calloc TT_E_CALLOC
        STUB    realloc TT_E_REALLOC
        STUB    reallocarray TT_E_REALLOCARRAY
        STUB    memalign TT_E_MEMALIGN
        STUB    aligned_alloc TT_E_ALIGNED_ALLOC
        STUB    posix_memalign TT_E_POSIX_MEMALIGN
        STUB    valloc TT_E_VALLOC
        STUB    pvalloc TT_E_PVALLOC
#ifdef TT_PACK_PRELOAD
#define USABLE tt_preload_usable(%rip)
#else
#define USABLE tt_agent+8*TT_E_ALL+8*TT_E_USABLE_SIZE(%rip)
#endif
/* Some programs (redis) ask for sizes more often than they allocate, and only of a sampled object
 * the answer is ours, so this one goes straight on. */
        .p2align 4
        .globl  tt_entry_malloc_usable_size
        .hidden tt_entry_malloc_usable_size
        .type   tt_entry_malloc_usable_size, @function
tt_entry_malloc_usable_size:
        NAME    malloc_usable_size
        .cfi_startproc
        bt      $TT_REGION_CLEAR, %rdi
        jnc     2f
3:      jmp     *USABLE
2:      mov     %rdi, %rax
        shr     $TT_REGION_SHIFT, %rax
        cmp     $TT_REGION_NUMBER, %rax
        jne     3b
        GUARD   TT_E_USABLE_SIZE
        mov     %rsp, %rcx
        mov     %rbp, %r8
        jmp     *tt_agent+8*TT_E_USABLE_SIZE(%rip)
        .cfi_endproc
        .size   tt_entry_malloc_usable_size, . - tt_entry_malloc_usable_size

#ifdef TT_PACK_PRELOAD
        .p2align 4
        .type   early_usable, @function
early_usable:
        .cfi_startproc
        CALL_KEEPING tt_preload_resolve rdi rsi rdx r9
        jmp     *tt_agent+8*TT_E_ALL+8*TT_E_USABLE_SIZE(%rip)
        .cfi_endproc
        .size   early_usable, . - early_usable

        .data
        .p2align 3
        .globl  tt_preload_usable
        .hidden tt_preload_usable
        .type   tt_preload_usable, @object
tt_preload_usable:
        .quad   early_usable
        .size   tt_preload_usable, . - tt_preload_usable
        .text
#endif
        STUB    cfree TT_E_CFREE
        STUB    free_sized TT_E_FREE_SIZED
        STUB    free_aligned_sized TT_E_FREE_ALIGNED_SIZED

#ifdef TT_PACK_PRELOAD
/* Calls that may install a seccomp filter (sandbox.c). Jumps, since what syscall(2)
 * starts may return on another stack. */
        .macro WATCH name where option
        .p2align 4
        .globl  \name
        .type   \name, @function
\name:
        .cfi_startproc
        cmp     $\option, %edi
        jne     1f
        CALL_KEEPING tt_sandbox_before rdi rsi rdx rcx r8 r9
        xor     %eax, %eax
1:      cmpq    $0, \where(%rip)
        je      2f
        jmp     *\where(%rip)
2:      CALL_KEEPING tt_preload_resolve rdi rsi rdx rcx r8 r9
        xor     %eax, %eax
        jmp     *\where(%rip)
        .cfi_endproc
        .size   \name, . - \name
        .endm
        WATCH   prctl tt_preload_prctl 22
        WATCH   syscall tt_preload_syscall 317
#endif

/* The short ways of sampled mode. malloc: the byte countdown of this thread; free: is the address in
 * the region of sampled objects (region.h)? Both go on to the real allocator by a jump. */
        .p2align 4
        .globl  tt_sample_malloc
        .hidden tt_sample_malloc
        .type   tt_sample_malloc, @function
tt_sample_malloc:
        .cfi_startproc
        sub     %rdi, %fs:TT_FS_LEFT
        js      1f
        jmp     *tt_agent+8*TT_E_ALL+8*TT_E_MALLOC(%rip)
1:      mov     $TT_E_MALLOC, %r9d
        mov     %rsp, %rcx
        mov     %rbp, %r8
        jmp     tt_sample_malloc_slow
        .cfi_endproc
        .size   tt_sample_malloc, . - tt_sample_malloc

        .p2align 4
        .globl  tt_sample_free
        .hidden tt_sample_free
        .type   tt_sample_free, @function
tt_sample_free:
        .cfi_startproc
        mov     %rdi, %rax
        shr     $TT_REGION_SHIFT, %rax
        cmp     $TT_REGION_NUMBER, %rax
        je      1f
        jmp     *tt_agent+8*TT_E_ALL+8*TT_E_FREE(%rip)
1:      mov     $TT_E_FREE, %r9d
        mov     %rsp, %rcx
        mov     %rbp, %r8
        jmp     tt_sample_free_slow
        .cfi_endproc
        .size   tt_sample_free, . - tt_sample_free

#ifdef TT_PACK_PRELOAD
/* Stands for main where a last copy of the memory is wanted. What main leaves below the stack
 * pointer stays as it is: the copy is made with the stack pointer far below it. */
        .p2align 4
        .globl  tt_main
        .hidden tt_main
        .type   tt_main, @function
tt_main:
        .cfi_startproc
        push    %rbp
        .cfi_def_cfa_offset 16
        .cfi_offset rbp, -16
        mov     %rsp, %rbp
        .cfi_def_cfa_register rbp
        call    *tt_preload_main(%rip)
        push    %rax
        sub     $TT_MAIN_FRAMES, %rsp
        call    tt_preload_returned
        mov     -8(%rbp), %eax
        leave
        .cfi_def_cfa rsp, 8
        ret
        .cfi_endproc
        .size   tt_main, . - tt_main
#endif

        .section .note.GNU-stack, "", @progbits
