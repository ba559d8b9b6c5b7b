/* SPDX-License-Identifier: Apache-2.0 */
/* What a program can tell telltale itself: resources of its own, operations, and for whom it works.
 * Header only; C11 and C++11 with GNU extensions (gcc, clang) on x86-64 Linux, nothing elsewhere.
 *
 *   TELLTALE_HANDLE_ACQUIRE(port, number);   a unit of the resource "port" with this value is held
 * now, TELLTALE_HANDLE_RELEASE(port, number);   and the one with this value is not held any more
 *   TELLTALE_OPERATION(call);                one more operation "call" has begun
 *   TELLTALE_OWNER(fd);                      from now on this thread works for the peer of this
 * socket
 *
 * Names are identifiers. Values are integers or pointers that are equal for the same unit; all 64
 * bits count. Each macro is one instruction that does nothing, of five bytes, until telltale run or
 * telltale attach is there: it finds the places by the notes that they leave in the file (section
 * .note.telltale) and makes them jumps. Until then the value is NOT evaluated, so it must have no
 * side effects. -DTELLTALE_DISABLE leaves nothing at all. */
#ifndef TELLTALE_H
#define TELLTALE_H

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(TELLTALE_DISABLE)

/* A note (ELF, elf(5)): name "telltale", type 1; where the instruction is, where it is to lead, the
 * function that is watched; then role and name. The function does nothing; it is one for all places
 * of a name, and as long as the instructions that a watch moves. */
#define TELLTALE_PROBE_(role, name, value)                                                         \
    do {                                                                                           \
        __label__ telltale_on_, telltale_off_;                                                     \
        extern void telltale_##role##_##name(unsigned long) __asm__("telltale_" #role "_" #name);  \
        __asm__ goto("971: .byte 0x0f, 0x1f, 0x44, 0x00, 0x00\n"                                   \
                     ".pushsection .text.telltale_" #role "_" #name                                \
                     ",\"axG\",@progbits,telltale_" #role "_" #name ",comdat\n"                    \
                     ".weak telltale_" #role "_" #name "\n"                                        \
                     ".hidden telltale_" #role "_" #name "\n"                                      \
                     ".type telltale_" #role "_" #name ", @function\n"                             \
                     "telltale_" #role "_" #name ":\n"                                             \
                     ".byte 0x0f, 0x1f, 0x44, 0x00, 0x00, 0x66, 0x90\n"                            \
                     "ret\n"                                                                       \
                     ".size telltale_" #role "_" #name ", . - telltale_" #role "_" #name "\n"      \
                     ".popsection\n"                                                               \
                     ".pushsection .note.telltale,\"?\",@note\n"                                   \
                     ".balign 4\n"                                                                 \
                     ".4byte 9, 973f-972f, 1\n"                                                    \
                     ".asciz \"telltale\"\n"                                                       \
                     ".balign 4\n"                                                                 \
                     "972: .8byte 971b, %l[telltale_on_], telltale_" #role "_" #name "\n"          \
                     ".asciz \"" #role "\", \"" #name "\"\n"                                       \
                     "973: .balign 4\n"                                                            \
                     ".popsection\n"                                                               \
                     :                                                                             \
                     :                                                                             \
                     :                                                                             \
                     : telltale_on_);                                                              \
        goto telltale_off_;                                                                        \
    telltale_on_:                                                                                  \
        telltale_##role##_##name((unsigned long)(value));                                          \
    telltale_off_:;                                                                                \
    } while (0)

#else
#define TELLTALE_PROBE_(role, name, value) ((void)0)
#endif

#define TELLTALE_HANDLE_ACQUIRE(name, value) TELLTALE_PROBE_(acquire, name, value)
#define TELLTALE_HANDLE_RELEASE(name, value) TELLTALE_PROBE_(release, name, value)
#define TELLTALE_OPERATION(name) TELLTALE_PROBE_(operation, name, 0)
#define TELLTALE_OWNER(fd) TELLTALE_PROBE_(owner, thread, fd)

#endif
