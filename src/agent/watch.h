/* SPDX-License-Identifier: Apache-2.0 */
/* A watched call: what the entry in assembly (watch_x86_64.S) keeps of it on the caller's stack,
 * and how what a row of the tape says (struct tt_tape_watch) is read from it. Also read by the
 * assembler. Start: tt_watch_before in watch.c. */
#ifndef TT_AGENT_WATCH_H
#define TT_AGENT_WATCH_H

#define TT_WATCH_CALL 160 /* sizeof(struct tt_watch_call) */
#define TT_WATCH_STUB 88  /* offsets in it */
#define TT_WATCH_ARG 96
#define TT_WATCH_R10 144
#define TT_WATCH_RAX 152
#define TT_WATCH_TALLY 0
#define TT_WATCH_SITE 8
#define TT_WATCH_SESSION 72
#define TT_WATCH_BEFORE 80
#define TT_THREAD_BUSY 0 /* in struct tt_thread */
#define TT_THREAD_SLOT 8
#define TT_THREAD_ACQUIRED_ROW 16
#define TT_THREAD_ACQUIRED_STATE 24
#define TT_THREAD_ACQUIRED 28
#define TT_THREAD_VFORK 32
#define TT_THREAD_OWNER 36
#define TT_THREAD_EARLY_LEFT 40
#define TT_THREAD_TID 44
#define TT_THREAD_WATCHED 64
#define TT_THREAD_WATCH_MEMO 51200 /* the first of TT_WATCH_MEMOS */
#define TT_MEMO_SLOT 0             /* in struct tt_memo */
#define TT_MEMO_RBP 8
#define TT_MEMO_SITE 16
#define TT_MEMO_GENERATION 20
#define TT_MEMO_TALLY 24
#define TT_MEMO_PAIR 32
#define TT_MEMO_END 40
#define TT_MEMO_NEED 56
#define TT_MEMO_KIND 60
#define TT_AGENT_ALIVE 2816 /* in struct tt_agent */
#define TT_AGENT_BASE 2824
#define TT_AGENT_GENERATION 2832
#define TT_AGENT_FD_END 2840
#define TT_AGENT_RETURNS_LOST 2844
/* In the tape: see tape.h. */
#define TT_TAPE_AT_NOW 640
#define TT_TAPE_AT_HELD 0x1a0000
#define TT_TAPE_AT_FDS 0xfa0000
#define TT_HELD_ROWS_OF_FDS 0x8000
#define TT_HELD_AT_STATE 8
#define TT_HELD_AT_OWNER 12
#define TT_HELD_AT_ENTRY 16
#define TT_HELD_AT_TID 36
#define TT_HELD_AT_SPACE 44
#define TT_HELD_AT_FLAGS 47
#define TT_TALLY_SITE 0
#define TT_TALLY_BIRTHS 4
#define TT_TALLY_EARLY_DEATHS 8
#define TT_TALLY_LAST_SIZE 12
#define TT_TALLY_BIRTH_BYTES 16
#define TT_TALLY_DEATH_BYTES 24
#define TT_SLOT_TALLY 640
#define TT_STUB_INDEX 8
#define TT_STUB_KIND 10
#define TT_TAPE_TALLIES_ 236
#define TT_SOCKET_KIND 2

#ifndef __ASSEMBLER__
#include "agent/held.h"

struct tt_watch_call {
    /* From before to after. */
    union {
        struct tt_mark mark[2];    /* the unit that goes; the descriptor inside it */
        struct tt_tape_held moved; /* a mapping on its way; space 0: none */
        struct {                   /* plain_x86_64.S: the call's site, and where that is counted */
            struct tt_tape_tally *tally;
            uint64_t site;
        };
    };
    uint64_t address; /* of the function, to know the row again */
    uint32_t session, early, before, inside;
    /* The call. */
    const struct tt_watch_stub *stub;
    uint64_t arg[6];
    uint64_t r10, rax; /* afterwards the results, rdx and rax */
};
_Static_assert(sizeof(struct tt_watch_call) == TT_WATCH_CALL &&
                   offsetof(struct tt_watch_call, stub) == TT_WATCH_STUB &&
                   offsetof(struct tt_watch_call, arg) == TT_WATCH_ARG &&
                   offsetof(struct tt_watch_call, r10) == TT_WATCH_R10 &&
                   offsetof(struct tt_watch_call, rax) == TT_WATCH_RAX,
               "watch_x86_64.S knows these offsets");

/* Where stubs lead. */
TT_HIDDEN void tt_watch_entry(void);
TT_HIDDEN void tt_watch_probe(void);
TT_HIDDEN void tt_watch_open(void);
TT_HIDDEN void tt_watch_close(void);
/* The places behind the call of a real function: frames of ours in other calls' stacks. */
extern const char tt_watch_return[], tt_watch_open_return[] TT_HIDDEN;
static inline int tt_watch_ours(uint64_t return_address)
{
    return return_address == (uint64_t)tt_watch_return ||
           return_address == (uint64_t)tt_watch_open_return;
}

/* Called by the entry. `slot`: where the return address lies. before: 0 to go straight on; below 0:
 * vfork; else 1 + the number of words of arguments on the stack that the real function must find.
 */
TT_HIDDEN int64_t tt_watch_before(struct tt_watch_call *call, const uint64_t *slot, uint64_t rbp);
TT_HIDDEN void tt_watch_after(struct tt_watch_call *call, const uint64_t *slot, uint64_t rbp);
/* tt_watch_after for the short way (plain_x86_64.S), which it could not go to its end. */
TT_HIDDEN void tt_watch_plain_after(struct tt_watch_call *call, const uint64_t *slot, uint64_t rbp);
/* At a probe. `slot`: below the stack of the code that it stands in. */
TT_HIDDEN void tt_watch_probed(struct tt_watch_call *call, uint64_t *slot, uint64_t rbp);
/* vfork returned to the parent. */
TT_HIDDEN void tt_watch_vforked(const struct tt_watch_stub *stub, uint64_t child,
                                const uint64_t *slot, uint64_t rbp);

/* ---- watch_act.c: what the rows mean; the thread is entered, or `at` has none ---- */

/* 1: there is something to do after the real function too; 0: not. */
TT_HIDDEN int64_t tt_watch_act_before(struct tt_watch_call *call, const struct tt_tape_watch *row,
                                      struct tt_thread *t, const struct tt_where *at);
TT_HIDDEN void tt_watch_act_after(struct tt_watch_call *call, const struct tt_tape_watch *row,
                                  const struct tt_where *at);
/* Both at once, of a probe. */
TT_HIDDEN void tt_watch_act_now(const struct tt_watch_call *call, const struct tt_tape_watch *row,
                                const struct tt_where *at);
/* Of a descriptor: it is acquired; what belongs to one that was released goes with it; the kind of
 * what the call acquires; the lower half of an argument, 0 where `from` names none. */
TT_HIDDEN void tt_watch_opened(const struct tt_where *at, const struct tt_watch_call *call,
                               const struct tt_tape_watch *row, uint64_t fd, uint32_t kind);
TT_HIDDEN void tt_watch_closed(const struct tt_where *at, uint64_t fd);
TT_HIDDEN uint32_t tt_watch_kind(const struct tt_watch_call *call, const struct tt_tape_watch *row);
TT_HIDDEN uint32_t tt_watch_argument(const struct tt_watch_call *call, uint32_t from);

/* ---- watch.c ---- */

/* start.c: a recording begins (a tape that is new or a forked child's), or goes quiet. */
TT_HIDDEN void tt_watch_begin(void);
TT_HIDDEN void tt_watch_stop(void);

/* The row's value, read from the call; 0: there is none. */
static inline int tt_watch_read(const struct tt_watch_call *c, const struct tt_tape_watch *w,
                                uint32_t from, uint64_t *value)
{
    int wide = (w->flags & TT_WATCH_WIDE) != 0;
    if (from != TT_FROM_RETURN && w->width != 0)
        wide = w->width == 8;
    if (from == TT_FROM_RETURN) {
        *value = c->rax;
    } else if (from >= TT_FROM_ARG0 && from < TT_FROM_ARG0 + 6) {
        *value = c->arg[from - TT_FROM_ARG0];
    } else if (from >= TT_FROM_AT_ARG0 && from < TT_FROM_AT_ARG0 + 6) {
        const void *at = (const void *)c->arg[from - TT_FROM_AT_ARG0];
        if (!at)
            return 0;
        *value = wide ? *(const uint64_t *)at : *(const uint32_t *)at;
    } else {
        return 0;
    }
    if (!wide)
        *value = (uint32_t)*value;
    return 1;
}

static inline int tt_watch_valid(const struct tt_watch_call *c, const struct tt_tape_watch *w)
{
    int64_t r = w->flags & TT_WATCH_WIDE ? (int64_t)c->rax : (int32_t)c->rax;
    switch (w->valid) {
    case TT_VALID_NOT_NEGATIVE:
        return r >= 0;
    case TT_VALID_NOT_NULL:
        return r != 0;
    case TT_VALID_ZERO:
        return (int32_t)c->rax == 0;
    case TT_VALID_NOT_MINUS_ONE:
        return r != -1;
    case TT_VALID_HANDLE:
        return r != 0 && r != -1;
    default:
        return 1;
    }
}

#endif
#endif
