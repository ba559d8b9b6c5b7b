/* SPDX-License-Identifier: Apache-2.0 */
/* The plan: the memory that the controller shares with the library it preloads, for one run of the
 * program. The controller writes which call is to fail; the library writes every distinct stack of
 * a call that can fail, and every unit held, with the stack that acquired it. One sparse file, all
 * parts at fixed offsets. Where forked children are followed it holds one plan for each process,
 * TT_FAULT_STRIDE apart: a child writes into its own, since what it inherits is its parent's; the
 * first is that of the process started, and holds what concerns all of them.
 * The controller treats it as hostile: the program may write into it.
 * Both sides include this and <stdint.h>. Start: struct tt_fault_plan. */
#ifndef TT_FAULT_PLAN_H
#define TT_FAULT_PLAN_H

#include <stdint.h>

#define TT_FAULT_ENV "TELLTALE_FAULT" /* the plan's file */
#define TT_FAULT_MAGIC 0x31746c7561667474ULL
#define TT_FAULT_VERSION 2u

/* Bounds; what is beyond is counted in `dropped`. */
#define TT_FAULT_STACKS (1u << 16)
#define TT_FAULT_FRAMES (1u << 21)
#define TT_FAULT_MODULES 512u
#define TT_FAULT_UNITS (1u << 20) /* held at one time */
#define TT_FAULT_DEPTH 64u        /* frames of a stack, innermost first; outer ones are cut */
#define TT_FAULT_PATH 512u
#define TT_FAULT_PROCESSES 64u /* followed at one time */

/* Makes a transfer of one byte, instead of an errno. EAI_ codes are negative. */
#define TT_FAULT_SHORT 0x10000

/* A frame: the return address as an offset in its module, so that it is the same in each run. */
#define TT_FAULT_FRAME(module, offset)                                                             \
    ((uint64_t)(module) << 48 | ((uint64_t)(offset)&0xffffffffffffULL))
#define TT_FAULT_FRAME_MODULE(frame) ((uint32_t)((frame) >> 48))
#define TT_FAULT_FRAME_OFFSET(frame) ((frame)&0xffffffffffffULL)

/* The outermost frame of each stack of a forked child: a module of this name, offset 1. The frames
 * that were there when it was forked are left out, so that a child has the same stacks whoever
 * forked it, at the start or in place of one that died. */
#define TT_FAULT_CHILD_MODULE "[forked child]"

/* What is held. The names of the session's column `resource`. */
enum tt_fault_kind {
    TT_FAULT_HEAP,
    TT_FAULT_FD,
    TT_FAULT_SOCKET,
    TT_FAULT_STREAM,
    TT_FAULT_DIRECTORY,
    TT_FAULT_MAPPING,
    TT_FAULT_THREAD,
    TT_FAULT_CHILD,
    TT_FAULT_TIMER,
    TT_FAULT_LIBRARY,
    TT_FAULT_KINDS
};

enum tt_fault_state {
    TT_FAULT_BEFORE, /* the library is not there (yet) */
    TT_FAULT_RUNNING,
    TT_FAULT_ENDING, /* exit or _exit called: waits for `release` if `hold` says so */
};

struct tt_fault_module {
    char path[TT_FAULT_PATH];
    uint64_t start, end, offset; /* executable part: addresses in the module, place in its file */
};

struct tt_fault_stack {
    uint64_t hash;   /* of the call's name and of the frames' module names and offsets; 0 free */
    uint32_t frames; /* index of the innermost in the frame store */
    uint16_t depth;
    uint16_t call;  /* enum tt_fault_call */
    uint32_t calls; /* in all */
    uint32_t after; /* of them after the fault */
};

/* Open addressing, linear; `key` is the complement of the value, so that this table is nowhere
 * taken for a pointer to what it lists. */
struct tt_fault_unit {
    uint64_t key;
    uint64_t size;
    uint32_t site; /* index of a stack */
    uint8_t kind;
    uint8_t space; /* fds and sockets share one; 0: free */
    uint16_t count;
    uint64_t order; /* of acquisition */
};

struct tt_fault_plan {
    uint64_t magic;
    uint32_t version;
    uint32_t pid;         /* the process meant */
    uint32_t state;       /* enum tt_fault_state; a futex */
    uint32_t release;     /* a futex */
    uint32_t images;      /* programs started in this process: execve */
    uint32_t fired_seen;  /* the first fault was made, here or in another process, */
    uint32_t fired_here;  /* or here */
    uint64_t fired_order; /* `order` then */
    uint64_t calls;       /* that could have failed */
    uint64_t order;       /* units acquired */
    uint64_t held;        /* units in the table */
    uint64_t dropped; /* stacks and units that did not fit, calls from signal handlers in ours */
    uint32_t stack_count, frame_count, module_count;
    int32_t exit_status; /* given to exit or _exit */
    uint32_t end_main;   /* exit was called because main returned */
    uint32_t main_saved; /* what main holds is known up to its end */

    /* Of the first plan, for all processes. */
    uint64_t target;       /* hash of the stack whose call fails; 0 none */
    uint32_t nth;          /* which call of that stack in any process, from 1; 0 every one */
    int32_t code;          /* errno, EAI_ code or TT_FAULT_SHORT */
    uint32_t depth;        /* frames that tell stacks apart, at most TT_FAULT_DEPTH */
    uint32_t hold;         /* wait at the end until released, */
    uint32_t controller;   /* while the process of that number lives */
    uint32_t follow;       /* forked children, too */
    uint32_t target_calls; /* of that stack in all processes */
    uint32_t fired;        /* faults made */
    uint32_t bound;        /* a listening socket or a bound datagram socket is there */
    uint32_t ready;        /* and the program waited for something since */
    uint32_t unfollowed;   /* children that found no plan free */
    uint32_t child_signal; /* a child died of this: SIGSEGV, SIGABRT and their like */
    uint32_t taken[TT_FAULT_PROCESSES]; /* plans: a child takes one, the controller frees it */

    struct tt_fault_module module[TT_FAULT_MODULES];
    struct tt_fault_stack stack[TT_FAULT_STACKS];
    uint64_t frame[TT_FAULT_FRAMES];
    struct tt_fault_unit unit[TT_FAULT_UNITS];
};

/* From one plan to the next: whole pages, so that one can be emptied alone. */
#define TT_FAULT_STRIDE ((sizeof(struct tt_fault_plan) + 4095) & ~(uint64_t)4095)
#define TT_FAULT_PLAN(first, i)                                                                    \
    ((struct tt_fault_plan *)(void *)((char *)(void *)(first) + (i)*TT_FAULT_STRIDE))

#endif
