/* SPDX-License-Identifier: Apache-2.0 */
/* For the stubs in assembly: a call that leaves the registers of the call that a stub stands for as
 * they were, with unwind information for each step. On entry rsp is 8 off a multiple of 16, so an
 * even number of registers and a word of padding align the stack as the ABI asks. Start:
 * CALL_KEEPING. */
#ifndef TT_AGENT_ENTRY_SAVE_H
#define TT_AGENT_ENTRY_SAVE_H

/* clang-format off */
        .macro SAVE register
        push    %\register
        .cfi_adjust_cfa_offset 8
        .endm

        .macro RESTORE register
        pop     %\register
        .cfi_adjust_cfa_offset -8
        .endm

        .macro CALL_KEEPING function a b c d e f
        SAVE    \a
        SAVE    \b
        SAVE    \c
        SAVE    \d
        .ifnb   \e
        SAVE    \e
        SAVE    \f
        .endif
        sub     $8, %rsp
        .cfi_adjust_cfa_offset 8
        call    \function
        add     $8, %rsp
        .cfi_adjust_cfa_offset -8
        .ifnb   \e
        RESTORE     \f
        RESTORE     \e
        .endif
        RESTORE     \d
        RESTORE     \c
        RESTORE     \b
        RESTORE     \a
        .endm
/* clang-format on */

#endif
