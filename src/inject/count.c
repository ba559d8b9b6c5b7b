/* SPDX-License-Identifier: Apache-2.0 */
/* Counting entries of functions inside the target: the entry becomes a jump to a stub that adds to
 * a counter, does the moved first instructions and jumps back. Everything is written while all
 * threads stand still and none stands, or will return from a signal, inside the bytes that change.
 * The stub uses the stack below the return address (free at an entry) and the flags (dead there;
 * System V ABI for x86-64, 3.2.1).
 *
 * A locked addition to one counter for all waits for every store before it, and for the line of
 * whoever added last; so a thread adds to a counter of its own without a lock, and only where there
 * is none to the common one with a lock. That is exact: one instruction adds, which no signal
 * handler of the thread can cut in two, and nobody else adds to that word. The stub takes it only
 * from a state of the agent's (its address must lie among them: a thread with a control block of
 * another library's has anything there) whose place says that the thread runs on the stack that
 * this state has for its own (agent/place.c):
 * - threads of clone(2) that share one control block run on different stacks, coroutines and
 *   handlers on stacks of their own: all but one of these take the lock;
 * - a forked child finds the places wiped, also one that shares the tape still: it takes the lock,
 *   until it has a tape and a place of its own. A vfork child adds for its parent, which waits;
 * - the word of an ended thread is the next owner's of that state. It is never set back nor moved
 *   while the tape lasts, so the sum of all words grows with each entry by one, and a reader that
 *   reads them one after another never sees the sum fall;
 * - a new recording begins with a new tape at the same address, after all threads were stopped; one
 *   that stood amid a stub adds to the new tape, with a lock or without, as to the old one.
 * What is left: two threads with one control block of which the second runs on memory that goes on
 * from the first one's stack without a gap, or lies in it; and a handler amid these few
 * instructions that forks, or hands the interrupted code to another thread. Start: tt_inject_count.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/clock.h"
#include "inject/inject.h"
#include "inject/stub.h"
#include "tape/tape.h"

/* For all threads: push rax; mov rax, counter; lock inc qword [rax]; pop rax. */
static const uint8_t locked[] = {0x50, 0x48, 0xb8, 0,    0,    0,    0,    0,
                                 0,    0,    0,    0xf0, 0x48, 0xff, 0x00, 0x58};
#define LOCKED_COUNTER 3u

/* Each thread for itself; the entry leads behind the first jump. */
static const uint8_t own[] = {
    0x48, 0xb8,
    0,    0,
    0,    0,
    0,    0,
    0,    0, /* mov rax, counter */
    0xf0, 0x48,
    0xff, 0x00,
    0xeb, 63, /* lock inc qword [rax]; jmp to the pop */
    0x50, 0x48,
    0xb8, 0,
    0,    0,
    0,    0,
    0,    0,
    0, /* push rax; mov rax, -states */
    0x64, 0x48,
    0x03, 0x04,
    0x25, TT_TAPE_STATE_WORD,
    0,    0,
    0, /* add rax, fs:[WORD] */
    0x48, 0x3d,
    0,    0,
    0,    0,
    0x73, 0xd4, /* cmp rax, bytes; jae to the lock */
    0x64, 0x48,
    0x8b, 0x04,
    0x25, TT_TAPE_STATE_WORD,
    0,    0,
    0, /* mov rax, fs:[WORD] */
    0x48, 0x8b,
    0x40, TT_TAPE_STATE_PLACE, /* mov rax, [rax + PLACE] */
    0x48, 0x3b,
    0x20, 0x72,
    0xc2, /* cmp rsp, [rax]; jb to the lock */
    0x48, 0x3b,
    0x60, 0x08,
    0x73, 0xbc, /* cmp rsp, [rax + 8]; jae to the lock */
    0x48, 0x8b,
    0x40, 0x10, /* mov rax, [rax + 16] */
    0x48, 0xff,
    0x80, 0,
    0,    0,
    0,    0x58, /* inc qword [rax + own]; pop rax */
};
#define OWN_COUNTER 2u
#define OWN_ENTER 16u
#define OWN_STATES 19u
#define OWN_BYTES 38u
#define OWN_OFFSET 75u
_Static_assert(sizeof own == 80 && sizeof own <= TT_STUB_HEAD_MOST, "stub head");

static int refuse(struct tt_inject_entry *e, int code, const char *why)
{
    e->result = code;
    snprintf(e->why, sizeof e->why, "%s", why);
    return code;
}

/* Works out stub and jump; reads the target, writes nothing. */
static int make_plan(const struct tt_target *target, const struct tt_load *load,
                     struct tt_inject_pad *pads, size_t n_pads,
                     const struct tt_inject_states *states, struct tt_inject_entry *e,
                     struct tt_stub *p)
{
    bool each = states && states->base && states->bytes <= INT32_MAX;
    const char *why = "";
    int r = tt_stub_plan(target, load, pads, n_pads, e->function, e->size,
                         each ? sizeof own : sizeof locked, each ? OWN_ENTER : 0, p, &why);
    if (r)
        return refuse(e, r, why);
    if (each) {
        uint64_t minus = -states->base;
        memcpy(p->code, own, sizeof own);
        memcpy(p->code + OWN_COUNTER, &e->counter, 8);
        memcpy(p->code + OWN_STATES, &minus, 8);
        memcpy(p->code + OWN_BYTES, &states->bytes, 4);
        memcpy(p->code + OWN_OFFSET, &e->own, 4);
    } else {
        memcpy(p->code, locked, sizeof locked);
        memcpy(p->code + LOCKED_COUNTER, &e->counter, 8);
    }
    return 0;
}

static void apply(const struct tt_target *target, struct tt_load *load, const struct tt_stopped *s,
                  struct tt_inject_entry *e, const struct tt_stub *p)
{
    uint8_t now[TT_RELOCATE_NEED];
    const struct tt_window inside = {e->function + 1, e->function + p->taken};
    bool hit;
    if (tt_target_read(target, e->function, now, sizeof now) ||
        memcmp(now, p->original, sizeof now) != 0) {
        refuse(e, -EAGAIN, "its code changed meanwhile");
        return;
    }
    if (tt_stacks_look(target, s, &inside, 1, TT_LOOK_RIP | TT_LOOK_FRAMES, &hit)) {
        refuse(e, -EAGAIN, "a thread stands in its first instructions");
        return;
    }
    if (tt_stub_write(target, load, p) ||
        tt_target_write(target, e->function, p->jump, sizeof p->jump)) {
        refuse(e, -EIO, "its code cannot be written");
        return;
    }
    e->result = 0;
    e->why[0] = '\0';
}

int tt_inject_count(pid_t pid, struct tt_inject_pad *pads, size_t n_pads,
                    const struct tt_inject_states *states, struct tt_inject_entry *entries,
                    size_t n_entries, uint64_t *stopped_ns, struct tt_error *err)
{
    struct tt_target target = {.pid = pid, .handles = true};
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", (int)pid);
    struct tt_stub *plans = calloc(n_entries ? n_entries : 1, sizeof *plans);
    if (!plans)
        return tt_error_set(err, -ENOMEM, "out of memory");
    int result = 0;
    struct tt_stopped stopped;
    target.mem = open(path, O_RDWR | O_CLOEXEC);
    if (target.mem < 0) {
        result = tt_error_sys(err, -errno, "cannot open the memory of process %d", (int)pid);
        goto out;
    }
    struct tt_load load;
    bool attached = tt_proc_maps_read(pid, &target.maps) == 0 &&
                    tt_load_find(&target, "", &load) == 0 && load.head.attached;
    /* Everything that can be worked out is worked out before the stop. */
    size_t ready = 0;
    for (size_t i = 0; i < n_entries; i++) {
        entries[i].result = -EINPROGRESS;
        ready += make_plan(&target, attached ? &load : NULL, pads, n_pads, states, &entries[i],
                           &plans[i]) == 0;
    }
    if (ready == 0)
        goto out;
    if ((result = tt_inject_stop(pid, &stopped, err)) != 0)
        goto out;
    for (size_t i = 0; i < n_entries; i++)
        if (entries[i].result == -EINPROGRESS)
            apply(&target, attached ? &load : NULL, &stopped, &entries[i], &plans[i]);
    if (stopped_ns)
        *stopped_ns = tt_clock_now() - stopped.since_ns;
    tt_inject_resume(&stopped);
out:
    tt_target_close(&target);
    free(plans);
    return result;
}
