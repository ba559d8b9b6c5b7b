/* SPDX-License-Identifier: Apache-2.0 */
/* The entry of watched functions. A stub comes by a jump, with r11 pushed and then at its struct
 * tt_watch_stub, and everything else as the caller left it. tt_watch_before says whether the real
 * function is entered by a jump, as if nothing had been, or called, to come back to tt_watch_after.
 * All integer registers are put back, before and after, also those that a callee may change: gcc
 * knows of its own functions which they do (-fipa-ra). The core uses no vector registers, so those
 * stay as they are. Start: tt_watch_entry. */
#include "agent/arch_x86_64.h"
#include "agent/watch.h"

        .text
        .p2align 4
        .globl  tt_watch_entry
        .hidden tt_watch_entry
        .type   tt_watch_entry, @function
tt_watch_entry:
        .cfi_startproc
        .cfi_def_cfa_offset 16
        push    %rbp
        .cfi_def_cfa_offset 24
        .cfi_offset rbp, -24
        mov     %rsp, %rbp
        .cfi_def_cfa_register rbp
        push    %rax
        push    %r10
        push    %r9
        push    %r8
        push    %rcx
        push    %rdx
        push    %rsi
        push    %rdi
        push    %r11
        sub     $TT_WATCH_STUB+8, %rsp
        lea     -TT_WATCH_CALL(%rbp), %rdi
        lea     16(%rbp), %rsi
        mov     (%rbp), %rdx
        call    tt_watch_before
        mov     %rax, %rcx
        /* Puts the call's registers back, and the stub's r11. */
        .macro  ARGUMENTS
        mov     TT_WATCH_ARG+8-TT_WATCH_CALL(%rbp), %rsi
        mov     TT_WATCH_ARG+16-TT_WATCH_CALL(%rbp), %rdx
        mov     TT_WATCH_ARG+24-TT_WATCH_CALL(%rbp), %rcx
        mov     TT_WATCH_ARG+32-TT_WATCH_CALL(%rbp), %r8
        mov     TT_WATCH_ARG+40-TT_WATCH_CALL(%rbp), %r9
        mov     TT_WATCH_R10-TT_WATCH_CALL(%rbp), %r10
        mov     TT_WATCH_STUB-TT_WATCH_CALL(%rbp), %r11
        mov     TT_WATCH_ARG-TT_WATCH_CALL(%rbp), %rdi
        mov     TT_WATCH_RAX-TT_WATCH_CALL(%rbp), %rax
        .endm
        test    %rcx, %rcx
        jg      1f
        js      4f
        ARGUMENTS
        .cfi_remember_state
        leave
        .cfi_def_cfa rsp, 16
        jmp     *(%r11)
        .cfi_restore_state
4:      ARGUMENTS
        .cfi_remember_state
        leave
        .cfi_def_cfa rsp, 16
        jmp     tt_watch_vfork
        .cfi_restore_state
        /* Arguments on the stack, last one first; an even number. */
1:      dec     %rcx
        jz      3f
2:      push    16(%rbp, %rcx, 8)
        dec     %rcx
        jnz     2b
3:      ARGUMENTS
        call    5f
        .globl  tt_watch_return
        .hidden tt_watch_return
tt_watch_return:
        mov     %rax, TT_WATCH_RAX-TT_WATCH_CALL(%rbp)
        mov     %rdx, TT_WATCH_R10-TT_WATCH_CALL(%rbp)
        lea     -TT_WATCH_CALL(%rbp), %rsp
        push    %rcx
        push    %rsi
        push    %rdi
        push    %r8
        push    %r9
        push    %r10
        push    %r11
        lea     -TT_WATCH_CALL(%rbp), %rdi
        lea     16(%rbp), %rsi
        mov     (%rbp), %rdx
        call    tt_watch_after
        pop     %r11
        pop     %r10
        pop     %r9
        pop     %r8
        pop     %rdi
        pop     %rsi
        pop     %rcx
        mov     TT_WATCH_RAX-TT_WATCH_CALL(%rbp), %rax
        mov     TT_WATCH_R10-TT_WATCH_CALL(%rbp), %rdx
        .cfi_remember_state
        leave
        .cfi_def_cfa rsp, 16
        lea     8(%rsp), %rsp
        .cfi_def_cfa_offset 8
        ret
        .cfi_restore_state
        /* As the stub left it: the caller's r11 on the stack, to be taken from there. */
5:      push    8(%rbp)
        jmp     *(%r11)
        .cfi_endproc
        .size   tt_watch_entry, . - tt_watch_entry

/* A probe's entry. The interrupted code's stack ends above the 128 bytes of its red zone, the flags
 * and r11. Nobody unwinds beyond: no call led here. */
        .p2align 4
        .globl  tt_watch_probe
        .hidden tt_watch_probe
        .type   tt_watch_probe, @function
tt_watch_probe:
        .cfi_startproc
        .cfi_undefined rip
        push    %rbp
        mov     %rsp, %rbp
        push    %rax
        push    %r10
        push    %r9
        push    %r8
        push    %rcx
        push    %rdx
        push    %rsi
        push    %rdi
        push    %r11
        sub     $TT_WATCH_STUB, %rsp
        and     $-16, %rsp
        lea     -TT_WATCH_CALL(%rbp), %rdi
        lea     144(%rbp), %rsi         /* 8 below where it was at the probe */
        mov     (%rbp), %rdx
        cld
        call    tt_watch_probed
        ARGUMENTS
        leave
        jmp     *(%r11)
        .cfi_endproc
        .size   tt_watch_probe, . - tt_watch_probe

/* vfork returns twice on one stack, and what the first return leaves there is the child's to
 * overwrite. So nothing is kept on the stack over the call: the caller's return address is in r9,
 * the rest in r8 and r10, which the kernel and vfork's few instructions leave alone. Meanwhile the
 * word of the thread says that what runs is the child. */
        .p2align 4
        .globl  tt_watch_vfork
        .hidden tt_watch_vfork
        .type   tt_watch_vfork, @function
tt_watch_vfork:
        .cfi_startproc
        .cfi_def_cfa_offset 16
        mov     %r11, %r8
        mov     (%r11), %r11
        add     $2, %r11        /* behind its pop %r11 */
        pop     %r9             /* the caller's r11, which no caller of a library's function keeps */
        pop     %r9
        .cfi_def_cfa_offset 0
        .cfi_register rip, r9
        xor     %r10d, %r10d
        mov     %fs:TT_FS_THREAD, %rax
        test    %rax, %rax
        jz      1f
        mov     TT_THREAD_VFORK(%rax), %r10d
        movl    $1, TT_THREAD_VFORK(%rax)
1:      call    *%r11
        push    %r9
        .cfi_def_cfa_offset 8
        .cfi_offset rip, -8
        test    %eax, %eax
        jz      2f
        mov     %fs:TT_FS_THREAD, %rdx
        test    %rdx, %rdx
        jz      2f
        mov     %r10d, TT_THREAD_VFORK(%rdx)
        /* The parent, on whose stack the child is done. */
        push    %rax
        .cfi_def_cfa_offset 16
        mov     %r8, %rdi
        mov     %rax, %rsi
        lea     8(%rsp), %rdx
        mov     %rbp, %rcx
        call    tt_watch_vforked
        pop     %rax
        .cfi_def_cfa_offset 8
2:      ret
        .cfi_endproc
        .size   tt_watch_vfork, . - tt_watch_vfork

        .section .note.GNU-stack, "", @progbits
