/* SPDX-License-Identifier: Apache-2.0 */
/* What most watched calls are, in as few instructions and cache lines as it can be done: a descriptor
 * is made by a call whose whole stack was seen before (a memo holds, hook.h), or one is closed that
 * was opened just now and to which nothing belongs. A system call leaves little of the caches, so
 * afterwards each line costs, of code as of data. All else goes the common way (tt_watch_entry),
 * which means the same. Here as there, a stub comes with r11 pushed and then at its struct
 * tt_watch_stub, and every register is left as the real function leaves it. The row of a descriptor
 * is its own (struct tt_tape_held), so plain stores do; while a thread's tallies and memos are in
 * use, `busy` leads its signal handlers past them. Start: tt_watch_open. */
#include "agent/arch_x86_64.h"
#include "agent/watch.h"

/* Leads to `common` unless calls of the thread, which t becomes, count now and nothing is under way
 * in it. eax: the session. */
        .macro  THREAD t common
        mov     tt_agent+TT_AGENT_ALIVE(%rip), %rax
        mov     4(%rax), %eax
        mov     %fs:TT_FS_THREAD, %\t
        test    %eax, %eax
        jz      \common
        test    %\t, %\t
        jz      \common
        cmpq    $0, TT_THREAD_BUSY(%\t)
        jne     \common
        .endm

        .text
        .p2align 6
        .globl  tt_watch_open
        .hidden tt_watch_open
        .type   tt_watch_open, @function
tt_watch_open:
        .cfi_startproc
        .cfi_def_cfa_offset 16
        sub     $TT_WATCH_CALL, %rsp
        .cfi_def_cfa_offset TT_WATCH_CALL+16
        mov     %rax, TT_WATCH_RAX(%rsp)
        mov     %rdi, TT_WATCH_ARG(%rsp)
        mov     %rsi, TT_WATCH_ARG+8(%rsp)
        mov     %rdx, TT_WATCH_ARG+16(%rsp)
        mov     %rcx, TT_WATCH_ARG+24(%rsp)
        mov     %r11, TT_WATCH_STUB(%rsp)
        THREAD  rdi 4f
        mov     %eax, TT_WATCH_SESSION(%rsp)
        cmpq    $0, TT_THREAD_VFORK(%rdi) /* and the owner */
        jne     4f
        movzwl  TT_STUB_INDEX(%r11), %eax
        cmpb    $0, TT_THREAD_WATCHED(%rdi,%rax) /* see count_call in watch.c */
        jle     4f
        /* The stack is looked at before the call, while the caches are the caller's still: the place
         * of the memo, as in tt_hook_watch_memo, then tt_hook_holds. */
        movzwl  TT_STUB_KIND(%r11), %ecx
        cmp     $0xff, %ecx /* flags too */
        ja      4f
        lea     TT_WATCH_CALL+8(%rsp), %rsi
        mov     (%rsi), %edx
        lea     (%rdx,%rsi,2), %edx
        add     %ecx, %edx
        imul    $0x9e3779b1, %edx, %edx
        shr     $29, %edx
        shl     $6, %edx
        lea     TT_THREAD_WATCH_MEMO(%rdi,%rdx), %rdx
        mov     %rsi, TT_THREAD_BUSY(%rdi)
        cmp     %rsi, TT_MEMO_SLOT(%rdx)
        jne     3f
        cmp     %ecx, TT_MEMO_KIND(%rdx)
        jne     3f
        mov     tt_agent+TT_AGENT_GENERATION(%rip), %ecx
        cmp     %ecx, TT_MEMO_GENERATION(%rdx)
        jne     3f
        cmpl    $0, TT_MEMO_NEED(%rdx)
        je      1f
        cmp     %rbp, TT_MEMO_RBP(%rdx)
        jne     3f
1:      mov     TT_MEMO_PAIR(%rdx), %rcx
        .p2align 3
2:      mov     (%rcx), %eax
        mov     (%rsi,%rax), %r11
        add     $8, %rcx
        cmp     (%rcx), %r11
        jne     1f
        mov     -4(%rcx), %eax
        mov     (%rsi,%rax), %r11
        add     $8, %rcx
        cmp     (%rcx), %r11
        lea     8(%rcx), %rcx
        je      2b
        sub     $8, %rcx
1:      cmp     %rcx, TT_MEMO_END(%rdx)
        jne     3f
        mov     TT_WATCH_STUB(%rsp), %r11
        mov     TT_MEMO_SITE(%rdx), %eax
        mov     TT_MEMO_TALLY(%rdx), %rcx
        mov     %rax, TT_WATCH_SITE(%rsp)
        mov     %rcx, TT_WATCH_TALLY(%rsp)
        mov     TT_THREAD_ACQUIRED(%rdi), %ecx
        movzwl  TT_STUB_INDEX(%r11), %eax
        mov     %ecx, TT_WATCH_BEFORE(%rsp)
        incb    TT_THREAD_WATCHED(%rdi,%rax)
        movq    $0, TT_THREAD_BUSY(%rdi)
        .macro  ARGUMENTS
        mov     TT_WATCH_RAX(%rsp), %rax
        mov     TT_WATCH_ARG(%rsp), %rdi
        mov     TT_WATCH_ARG+8(%rsp), %rsi
        mov     TT_WATCH_ARG+16(%rsp), %rdx
        mov     TT_WATCH_ARG+24(%rsp), %rcx
        .endm
        ARGUMENTS
        call    6f
        .globl  tt_watch_open_return
        .hidden tt_watch_open_return
tt_watch_open_return:
        test    %eax, %eax
        js      2f
        mov     %rax, TT_WATCH_RAX(%rsp)
        mov     %rdi, TT_WATCH_ARG+8(%rsp)
        mov     %rsi, TT_WATCH_ARG+16(%rsp)
        mov     %rdx, TT_WATCH_ARG+24(%rsp)
        mov     %rcx, TT_WATCH_ARG+32(%rsp)
        mov     %eax, %ecx
        mov     tt_agent+TT_AGENT_ALIVE(%rip), %rax
        mov     4(%rax), %eax
        mov     %fs:TT_FS_THREAD, %rdi
        cmp     %eax, TT_WATCH_SESSION(%rsp)
        jne     7f
        cmpq    $0, TT_THREAD_BUSY(%rdi)
        jne     7f
        cmp     tt_agent+TT_AGENT_FD_END(%rip), %ecx
        jae     7f
        cmp     $TT_HELD_ROWS_OF_FDS, %ecx
        jae     7f
        mov     tt_agent+TT_AGENT_BASE(%rip), %rsi
        mov     TT_WATCH_TALLY(%rsp), %rdx
        cmpl    $0, TT_TAPE_AT_FDS(%rsi,%rcx,4)
        jne     7f
        shl     $6, %rcx
        lea     TT_TAPE_AT_HELD(%rsi,%rcx), %rcx
        /* A row that had a unit before says all that is the same for each. */
        mov     TT_HELD_AT_STATE(%rcx), %eax
        test    %eax, %eax
        jz      7f
        test    $3, %al
        jnz     7f
        mov     %rsp, TT_THREAD_BUSY(%rdi)
        mov     TT_WATCH_SITE(%rsp), %rax
        cmp     %eax, TT_TALLY_SITE(%rdx)
        jne     8f
        cmpl    $1, TT_TALLY_LAST_SIZE(%rdx)
        jne     8f
        shl     $44, %rax
        mov     TT_TAPE_AT_NOW(%rsi), %esi
        and     $0xffffff, %esi
        or      %rsi, %rax
        mov     %rax, TT_HELD_AT_ENTRY(%rcx)
        mov     TT_WATCH_STUB(%rsp), %rax
        movzbl  TT_STUB_KIND(%rax), %eax
        cmp     $TT_SOCKET_KIND, %eax
        je      9f
1:      shl     $8, %eax
        inc     %eax /* TT_SPACE_FD; flags 0 */
        mov     %eax, TT_HELD_AT_SPACE(%rcx)
        mov     TT_THREAD_TID(%rdi), %eax
        movl    $0, TT_HELD_AT_OWNER(%rcx)
        mov     %eax, TT_HELD_AT_TID(%rcx)
        mov     TT_HELD_AT_STATE(%rcx), %eax
        add     $6, %eax /* another stamp, live */
        mov     %eax, TT_HELD_AT_STATE(%rcx)
        mov     %rcx, TT_THREAD_ACQUIRED_ROW(%rdi)
        mov     %eax, TT_THREAD_ACQUIRED_STATE(%rdi)
        incl    TT_THREAD_ACQUIRED(%rdi)
        incl    TT_TALLY_BIRTHS(%rdx)
        incq    TT_TALLY_BIRTH_BYTES(%rdx)
        movq    $0, TT_THREAD_BUSY(%rdi)
        .macro  RESULTS
        mov     TT_WATCH_RAX(%rsp), %rax
        mov     TT_WATCH_ARG+8(%rsp), %rdi
        mov     TT_WATCH_ARG+16(%rsp), %rsi
        mov     TT_WATCH_ARG+24(%rsp), %rdx
        mov     TT_WATCH_ARG+32(%rsp), %rcx
        .endm
        RESULTS
2:      add     $TT_WATCH_CALL+8, %rsp
        .cfi_remember_state
        .cfi_def_cfa_offset 8
        cmpl    $0, tt_agent+TT_AGENT_RETURNS_LOST(%rip)
        jne     10f
        ret
        /* Two returns on end, ours and the real function's before it, are one more than without us;
         * where both are predicted wrongly, a jump is not. */
10:     add     $8, %rsp
        .cfi_def_cfa_offset 0
        jmp     *-8(%rsp)
        .cfi_restore_state
        /* Into the stub, which takes the caller's r11 from the stack. */
6:      .cfi_remember_state
        .cfi_adjust_cfa_offset 8
        push    TT_WATCH_CALL+8(%rsp)
        jmp     *(%r11)
        .cfi_restore_state

        /* The rare parts. */
3:      movq    $0, TT_THREAD_BUSY(%rdi)
        mov     TT_WATCH_STUB(%rsp), %r11
4:      ARGUMENTS
        add     $TT_WATCH_CALL, %rsp
        .cfi_remember_state
        .cfi_def_cfa_offset 16
        jmp     tt_watch_entry
        .cfi_restore_state
9:      mov     TT_WATCH_RAX(%rsp), %eax
        mov     tt_agent+TT_AGENT_BASE(%rip), %rsi
        movl    $0xffffffff, TT_TAPE_AT_FDS(%rsi,%rax,4) /* TT_TAPE_FD_UNMET */
        mov     $TT_SOCKET_KIND, %eax
        jmp     1b
8:      movq    $0, TT_THREAD_BUSY(%rdi)
7:      mov     TT_WATCH_ARG+32(%rsp), %rcx
        mov     TT_WATCH_ARG+24(%rsp), %rdx
        .irp    register, rcx, rdx, r8, r9, r10, r11
        push    %\register
        .cfi_adjust_cfa_offset 8
        .endr
        lea     48(%rsp), %rdi
        lea     48+TT_WATCH_CALL+8(%rsp), %rsi
        mov     %rbp, %rdx
        call    tt_watch_plain_after
        .irp    register, r11, r10, r9, r8, rdx, rcx
        pop     %\register
        .cfi_adjust_cfa_offset -8
        .endr
        RESULTS
        jmp     2b
        .cfi_endproc
        .size   tt_watch_open, . - tt_watch_open

        .p2align 5
        .globl  tt_watch_close
        .hidden tt_watch_close
        .type   tt_watch_close, @function
tt_watch_close:
        .cfi_startproc
        .cfi_def_cfa_offset 16
        .irp    register, rax, rcx, rdx, rsi, rdi
        push    %\register
        .cfi_adjust_cfa_offset 8
        .endr
        THREAD  rsi 4f
        cmpl    $0, TT_THREAD_VFORK(%rsi)
        jne     4f
        movzwl  TT_STUB_INDEX(%r11), %eax
        cmpb    $0, TT_THREAD_WATCHED(%rsi,%rax)
        jle     4f
        cmp     $TT_HELD_ROWS_OF_FDS, %edi
        jae     4f
        mov     tt_agent+TT_AGENT_BASE(%rip), %rdx
        mov     %edi, %edi
        cmpl    $0, TT_TAPE_AT_FDS(%rdx,%rdi,4)
        jne     4f
        shl     $6, %rdi
        lea     TT_TAPE_AT_HELD(%rdx,%rdi), %rdi
        /* Its age, of which only 0 and 1 are counted here; its site's tally, see tt_live_tally. */
        mov     TT_HELD_AT_ENTRY(%rdi), %rcx
        mov     TT_TAPE_AT_NOW(%rdx), %edx
        sub     %ecx, %edx
        cmp     $1, %edx
        ja      4f
        shr     $44, %rcx
        jz      4f
        mov     TT_THREAD_SLOT(%rsi), %rdx
        test    %rdx, %rdx
        jz      4f
        movzbl  %cl, %eax
        imul    $TT_TAPE_TALLIES_, %eax, %eax
        shr     $8, %eax
        shl     $5, %eax
        lea     TT_SLOT_TALLY(%rdx,%rax), %rdx
        mov     %rsp, TT_THREAD_BUSY(%rsi)
        cmp     %ecx, TT_TALLY_SITE(%rdx)
        jne     3f
        cmpl    $0, TT_TALLY_EARLY_DEATHS(%rdx)
        je      3f
        cmpl    $1, TT_THREAD_EARLY_LEFT(%rsi)
        je      3f
        cmpb    $0, TT_HELD_AT_FLAGS(%rdi)
        jne     3f
        mov     TT_HELD_AT_STATE(%rdi), %eax
        lea     2(%rax), %ecx /* another stamp, free */
        test    $3, %cl
        jnz     3f
        /* No locked instruction, which would wait for all stores before it: of two threads that close
         * one descriptor within these few instructions one is wrong, and both count. */
        mov     %ecx, TT_HELD_AT_STATE(%rdi)
        decl    TT_THREAD_EARLY_LEFT(%rsi)
        incl    TT_TALLY_EARLY_DEATHS(%rdx)
        incq    TT_TALLY_DEATH_BYTES(%rdx)
        movzwl  TT_STUB_INDEX(%r11), %eax
        incb    TT_THREAD_WATCHED(%rsi,%rax)
        movq    $0, TT_THREAD_BUSY(%rsi)
        .cfi_remember_state
        .irp    register, rdi, rsi, rdx, rcx, rax
        pop     %\register
        .cfi_adjust_cfa_offset -8
        .endr
        jmp     *(%r11)
        .cfi_restore_state
3:      movq    $0, TT_THREAD_BUSY(%rsi)
4:      .irp    register, rdi, rsi, rdx, rcx, rax
        pop     %\register
        .cfi_adjust_cfa_offset -8
        .endr
        jmp     tt_watch_entry
        .cfi_endproc
        .size   tt_watch_close, . - tt_watch_close

        .section .note.GNU-stack, "", @progbits
