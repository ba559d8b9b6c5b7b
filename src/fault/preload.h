/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files of the preloaded library. Each interposed function asks first whether it shall
 * fail now, calls the real one, and notes what was acquired. Functions are defined under names of
 * our own with the symbol's name as assembler label, so that libc's headers and their attributes
 * and inline versions do not get into the way. Start: TT_CALL. */
#ifndef TT_FAULT_PRELOAD_H
#define TT_FAULT_PRELOAD_H

#include <stddef.h>
#include <stdint.h>

#include "fault/calls.h"
#include "fault/plan.h"

#define TT_EXPORT __attribute__((visibility("default")))

/* Declares and begins the definition of the libc function `name`. */
#define TT_CALL(type, name, ...)                                                                   \
    TT_EXPORT type tt_call_##name(__VA_ARGS__) __asm__(#name);                                     \
    type tt_call_##name(__VA_ARGS__)
/* The same function under one more name. */
#define TT_ALIAS(name, other) __asm__(".globl " #other "\n.set " #other ", " #name)
/* The real function, as a function of the given type. */
#define TT_REAL(name, type, ...) ((type(*)(__VA_ARGS__))tt_fault_real(TT_FC_##name))

/* A whole function that acquires nothing; `failed` is what it returns when it fails. params and
 * args stand in parentheses, behind them the types of the parameters. The file needs errno.h. */
#define TT_PLAIN(type, name, failed, params, args, ...)                                            \
    TT_CALL(type, name, TT_LIST params)                                                            \
    {                                                                                              \
        int code = TT_ASK(name, NULL);                                                             \
        if (code) {                                                                                \
            errno = code;                                                                          \
            return failed;                                                                         \
        }                                                                                          \
        return TT_REAL(name, type, __VA_ARGS__) args;                                              \
    }
#define TT_LIST(...) __VA_ARGS__

/* Whether this call is to fail: 0, or what with. *site is what tt_fault_acquired wants. */
#define TT_ASK(name, site) tt_fault_ask(TT_FC_##name, __builtin_return_address(0), (site))

/* Values are looked up in a space: closing does not tell a socket from a file. */
enum tt_fault_space {
    TT_SPACE_FREE, /* no unit here */
    TT_SPACE_HEAP,
    TT_SPACE_FD,
    TT_SPACE_STREAM,
    TT_SPACE_DIRECTORY,
    TT_SPACE_MAPPING,
    TT_SPACE_THREAD,
    TT_SPACE_CHILD,
    TT_SPACE_TIMER,
    TT_SPACE_LIBRARY,
};

/* ---- preload.c ---- */

int tt_fault_ask(enum tt_fault_call call, void *caller, uint32_t *site);
void *tt_fault_real(enum tt_fault_call call);
/* While libc works for a call that is itself a row of the table, what it calls is its own affair:
 * neither fails nor is noted. */
void tt_fault_within(void);
void tt_fault_without(void);
/* A socket waits for clients. */
void tt_fault_bound(void);
/* The end of the process: lets the controller look. */
void tt_fault_end(void *caller);

const char *tt_fault_name(enum tt_fault_call call);

/* ---- preload_stack.c ---- */

/* The index of the stack of this call, or 0 when there is no room. caller: the return address in
 * what called the interposed function. */
uint32_t tt_fault_stack_of(enum tt_fault_call call, void *caller);
/* The loader's own calls are left alone: what it does when they fail is to end the process. */
int tt_fault_stack_in_loader(const struct tt_fault_stack *stack);
/* Notes what main holds now, if that may matter. */
void tt_fault_watch_main(void);
/* Once, with an address in libc; in exit; and when addresses may have become another's. */
void tt_fault_stack_begin(uint64_t in_libc_at);
void tt_fault_stack_end(void *caller);
void tt_fault_stack_forget(void);
/* In a forked child, from its handler of pthread_atfork: stacks are counted from here. */
void tt_fault_stack_forked(void);

/* ---- preload_unit.c ---- */

/* site 0: not noted. Keeps errno. */
void tt_fault_acquired(enum tt_fault_kind kind, enum tt_fault_space space, uint64_t value,
                       uint64_t size, uint32_t site);
/* Takes the unit out, *unit gets it; false if there is none. Keeps errno. */
int tt_fault_released(enum tt_fault_space space, uint64_t value, struct tt_fault_unit *unit);
/* Puts back what tt_fault_released took out, perhaps changed. */
void tt_fault_restored(const struct tt_fault_unit *unit, uint64_t value, uint64_t size);
/* One use more or less of a counted unit. */
void tt_fault_used(enum tt_fault_space space, uint64_t value, uint32_t site);
void tt_fault_unused(enum tt_fault_space space, uint64_t value);
/* Takes out all units of the space whose value lies in [first, last]. */
void tt_fault_released_range(enum tt_fault_space space, uint64_t first, uint64_t last);
/* Another program was started in this process: only descriptors may be left. */
void tt_fault_exec(void);

/* Around both of the above and the tables of preload.c. False: this thread is in here already (a
 * signal handler), or the process is not the one meant: nothing is to be noted. Keeps errno. */
int tt_fault_enter(void);
int tt_fault_enter_within(void); /* releases: also between tt_fault_within and _without */
void tt_fault_leave(void);
extern struct tt_fault_plan *tt_fault_plan;   /* of this process */
extern struct tt_fault_plan *tt_fault_shared; /* the first one */
/* A fork is over, in the child: it is followed from here, or left alone. */
void tt_fault_forked(void);

/* ---- preload_fork.c ---- */

void tt_fault_fork_begin(void);
/* A child died of a signal. */
void tt_fault_child_died(int signal);

#endif
