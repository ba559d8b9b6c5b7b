/* SPDX-License-Identifier: Apache-2.0 */
/* The blob's stubs, one a entry of each set, and struct tt_blob with their places. The blob has no
 * relocations: places are distances, which the linker fills in; to have them as offsets from the
 * image's start, the struct lies at a constant one (TT_BLOB_AT, given to the linker). A stub does
 * what those of entry_x86_64.S do. Start: tt_blob. */
#include "agent/arch_x86_64.h"
#include "agent/blob.h"
#include "agent/entry_save.h"
#include "agent/host.h"

        .text
        .p2align 5
        .type   stubs, @function
stubs:
        .cfi_startproc
        .set    number, 0
        .rept   TT_E_ALL
        .p2align 5
        mov     $number, %r9d
        mov     %rsp, %rcx
        mov     %rbp, %r8
        jmp     *tt_agent+8*number(%rip)
        .set    number, number + 1
        .endr
        .cfi_endproc
        .size   stubs, . - stubs

/* As in the preload library (sandbox.c). */
        .macro  WATCH name where option
        .p2align 4
        .type   \name, @function
\name:
        .cfi_startproc
        cmp     $\option, %edi
        jne     1f
        CALL_KEEPING tt_sandbox_before rdi rsi rdx rcx r8 r9
        xor     %eax, %eax
1:      jmp     *\where(%rip)
        .cfi_endproc
        .size   \name, . - \name
        .endm
        WATCH   watch_prctl tt_blob_prctl 22
        WATCH   watch_syscall tt_blob_syscall 317

        .hidden etext
        .section .tt_blob, "aw", @progbits
        .p2align 6
        .globl  tt_blob
        .type   tt_blob, @object
tt_blob:
        .quad   TT_BLOB_MAGIC
        .long   TT_BLOB_VERSION
        .long   0
        .set    number, 0
        .rept   TT_E_ALL
        .if     number == TT_E_MALLOC /* these three have a short way */
        .long   tt_entry_malloc - tt_blob + TT_BLOB_AT
        .elseif number == TT_E_FREE
        .long   tt_entry_free - tt_blob + TT_BLOB_AT
        .elseif number == TT_E_USABLE_SIZE
        .long   tt_entry_malloc_usable_size - tt_blob + TT_BLOB_AT
        .else
        .long   stubs + 32 * number - tt_blob + TT_BLOB_AT
        .endif
        .set    number, number + 1
        .endr
        .long   tt_blob_run - tt_blob + TT_BLOB_AT
        .long   etext - tt_blob + TT_BLOB_AT
        .long   watch_prctl - tt_blob + TT_BLOB_AT
        .long   watch_syscall - tt_blob + TT_BLOB_AT
        .long   0
        .zero   TT_BLOB_BYTES - (. - tt_blob)
        .size   tt_blob, . - tt_blob

        .section .note.GNU-stack, "", @progbits
