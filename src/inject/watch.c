/* SPDX-License-Identifier: Apache-2.0 */
/* Putting watches in place. Stubs, tape rows and, in an attached process, the records by which any
 * later telltale takes the watches out again are written while the target runs: nothing leads there
 * yet. Then all threads stand still for the jumps alone. Start: tt_inject_watch. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <unistd.h>

#include "base/clock.h"
#include "inject/stub.h"
#include "inject/watch.h"

/* push %r11; lea 7(%rip), %r11; jmp *17(%rip); a byte of padding; struct tt_watch_stub; the agent's
 * entry; and where that comes back to, pop %r11 before the moved instructions. No register but
 * those that the real function changes may change: within one program compilers keep values in any
 * that the callee is seen to leave alone (gcc, -fipa-ra). */
static const uint8_t lead[] = {0x41, 0x53, 0x4c, 0x8d, 0x1d, 7, 0, 0,
                               0,    0xff, 0x25, 17,   0,    0, 0, 0xcc};
static const uint8_t back[] = {0x41, 0x5b};
/* Of a probe: the red zone is skipped and the flags are kept too. lea -128(%rsp), %rsp; pushf; as
 * above; and back: pop %r11; popf; lea 128(%rsp), %rsp. */
static const uint8_t probe_lead[] = {0x48, 0x8d, 0x64, 0x24, 0x80, 0x9c, 0x41, 0x53,
                                     0x4c, 0x8d, 0x1d, 9,    0,    0,    0,    0xff,
                                     0x25, 19,   0,    0,    0,    0xcc, 0xcc, 0xcc};
static const uint8_t probe_back[] = {0x41, 0x5b, 0x9d, 0x48, 0x8d, 0xa4, 0x24, 0x80, 0, 0, 0};
#define ENTRY_BYTES 8u
_Static_assert(sizeof probe_lead + sizeof(struct tt_watch_stub) + ENTRY_BYTES + sizeof probe_back <=
                   TT_STUB_HEAD_MOST,
               "the head of a watch's stub");

/* Where in a stub the way back begins. */
static size_t back_at(const struct tt_tape_watch *row)
{
    return (row->flags & TT_WATCH_PROBE ? sizeof probe_lead : sizeof lead) +
           sizeof(struct tt_watch_stub) + ENTRY_BYTES;
}

static size_t head_bytes(const struct tt_tape_watch *row)
{
    return back_at(row) + (row->flags & TT_WATCH_PROBE ? sizeof probe_back : sizeof back);
}

bool tt_inject_watch_frame(const struct tt_tape_watch *row)
{
    if (row->flags & TT_WATCH_PROBE)
        return false;
    switch (row->what) {
    case TT_WATCH_RELEASE:
        return row->valid != TT_VALID_ALWAYS || (row->flags & TT_WATCH_COUNTED);
    case TT_WATCH_RANGE:
    case TT_WATCH_UNMAP:
    case TT_WATCH_OWNER:
    case TT_WATCH_IDLE:
    case TT_WATCH_VFORK:
        return false;
    case TT_WATCH_FROM:
        return row->from != TT_FROM_NONE;
    default:
        return true;
    }
}

static int refuse(struct tt_inject_watch *w, int code, const char *why)
{
    w->result = code;
    snprintf(w->why, sizeof w->why, "%s", why);
    return code;
}

struct watching {
    struct tt_target target;
    struct tt_load load;
    bool attached;
    int tape;
    uint64_t entry, probe_entry, open_entry, close_entry; /* of the agent */
    struct tt_tape_watch row[TT_TAPE_WATCHES];            /* as they are in the tape */
};

static off_t row_offset(int index)
{
    return (off_t)(TT_TAPE_OFF_WATCHES + (uint64_t)index * sizeof(struct tt_tape_watch));
}

static int put_row(struct watching *s, int index, const struct tt_tape_watch *row)
{
    s->row[index] = *row;
    return pwrite(s->tape, row, sizeof *row, row_offset(index)) == (ssize_t)sizeof *row ? 0 : -EIO;
}

/* Chooses the row of the tape. */
static int choose_row(const struct watching *s, struct tt_inject_watch *w)
{
    int free_row = -1;
    for (int i = 0; i < (int)TT_TAPE_WATCHES; i++) {
        if (s->row[i].address == w->row.address)
            return refuse(w, -EALREADY, "it is watched already");
        if (free_row < 0 && s->row[i].address == 0)
            free_row = i;
    }
    if (w->index < 0)
        w->index = free_row;
    if (w->index < 0 || w->index >= (int)TT_TAPE_WATCHES)
        return refuse(w, -ENOSPC, "too many functions to watch");
    return 0;
}

static void fill_head(const struct watching *s, const struct tt_inject_watch *w,
                      struct tt_stub *stub)
{
    const bool probe = w->row.flags & TT_WATCH_PROBE;
    const size_t n = probe ? sizeof probe_lead : sizeof lead, end = back_at(&w->row);
    const struct tt_watch_stub data = {.real = stub->at + end,
                                       .index = (uint16_t)w->index,
                                       .kind = w->row.kind,
                                       .flags = w->row.flags};
    const uint64_t *entry = probe                           ? &s->probe_entry
                            : tt_watch_plain_open(&w->row)  ? &s->open_entry
                            : tt_watch_plain_close(&w->row) ? &s->close_entry
                                                            : &s->entry;
    memcpy(stub->code, probe ? probe_lead : lead, n);
    memcpy(stub->code + n, &data, sizeof data);
    memcpy(stub->code + n + sizeof data, entry, ENTRY_BYTES);
    memcpy(stub->code + end, probe ? probe_back : back, probe ? sizeof probe_back : sizeof back);
}

/* Where the code of the object lies that an address is in. */
static void own_code(const struct tt_target *target, uint64_t address, uint64_t own[2])
{
    const struct tt_proc_map *m = tt_proc_map_at(&target->maps, address);
    own[0] = own[1] = 0;
    if (m && m->inode) {
        own[0] = m->start;
        own[1] = m->end;
    }
}

/* Everything but the jump. */
static int prepare(struct watching *s, struct tt_inject_pad *pads, size_t n_pads,
                   struct tt_inject_watch *w, struct tt_stub *stub)
{
    const char *why = "";
    if (choose_row(s, w))
        return w->result;
    if (s->attached && w->throws && tt_inject_watch_frame(&w->row))
        return refuse(
            w, -EOPNOTSUPP,
            "an exception may pass through it, which ends a process that was attached to: "
            "say :nothrow if none does");
    int code = tt_stub_plan(&s->target, s->attached ? &s->load : NULL, pads, n_pads, w->row.address,
                            w->size, head_bytes(&w->row), 0, stub, &why);
    if (code)
        return refuse(w, code, why);
    fill_head(s, w, stub);
    w->row.real = stub->at + back_at(&w->row);
    w->row.calls = 0;
    w->row.own[0] = w->row.own[1] = 0;
    if (w->row.space == TT_SPACE_MAPPING)
        own_code(&s->target, w->row.address, w->row.own);
    if ((code = put_row(s, w->index, &w->row)) != 0)
        return refuse(w, code, "the tape cannot be written");
    code = tt_stub_write(&s->target, s->attached ? &s->load : NULL, stub);
    /* The page becomes the process's own now rather than during the stop. */
    if (code == 0)
        code = tt_target_write(&s->target, stub->function, stub->original, sizeof stub->original);
    return code ? refuse(w, code, "its code cannot be written") : 0;
}

/* Takes back what stands in tape and records. */
static void withdraw(struct watching *s, const struct tt_inject_watch *w)
{
    const struct tt_tape_watch empty = {0};
    if (w->index >= 0 && w->result != -EALREADY && s->row[w->index].address == w->row.address)
        put_row(s, w->index, &empty);
    for (uint32_t i = 0; s->attached && i < s->load.head.patch_count; i++) {
        struct tt_blob_patch *r = &s->load.head.patch[i];
        if (r->active && r->address == w->row.address &&
            r->real + back_at(&w->row) == w->row.real) {
            r->active = 0;
            tt_load_put(&s->target, &s->load, r, sizeof *r);
        }
    }
}

/* Threads inside the bytes that change go on at the same instruction of the copy. */
static int move_threads(const struct tt_stopped *stopped, const struct tt_stub *stub)
{
    for (size_t i = 0; i < stopped->threads.len; i++) {
        struct user_regs_struct regs = stopped->threads.data[i].regs;
        uint64_t in = regs.rip - stub->function;
        if (in == 0 || in >= TT_RELOCATE_NEED)
            continue;
        if (stub->where[in] == TT_RELOCATE_NOWHERE)
            return -EAGAIN;
        regs.rip = stub->at + stub->head + stub->where[in];
        if (ptrace(PTRACE_SETREGS, stopped->threads.data[i].tid, 0, &regs) != 0)
            return -EAGAIN;
    }
    return 0;
}

static void redirect(const struct watching *s, const struct tt_stopped *stopped,
                     struct tt_inject_watch *w, const struct tt_stub *stub)
{
    uint8_t now[TT_RELOCATE_NEED];
    if (tt_target_read(&s->target, stub->function, now, sizeof now) ||
        memcmp(now, stub->original, sizeof now) != 0)
        refuse(w, -EAGAIN, "its code changed meanwhile");
    else if (move_threads(stopped, stub))
        refuse(w, -EAGAIN, "a thread stands in its first instructions");
    else if (tt_target_write(&s->target, stub->function, stub->jump, sizeof stub->jump))
        refuse(w, -EIO, "its code cannot be written");
    else
        w->result = 0;
}

/* All jumps, with every thread stopped. */
static int apply(struct watching *s, struct tt_inject_watch *watches, const struct tt_stub *stubs,
                 size_t n, uint64_t *stopped_ns, struct tt_error *err)
{
    struct tt_stopped stopped;
    struct tt_window *windows = calloc(n, sizeof *windows);
    bool *hit = calloc(n, sizeof *hit);
    int code = -ENOMEM;
    if (!windows || !hit) {
        tt_error_set(err, code, "out of memory");
        goto out;
    }
    if ((code = tt_inject_stop(s->target.pid, &stopped, err)) != 0)
        goto out;
    for (size_t i = 0; i < n; i++)
        if (watches[i].result == -EINPROGRESS)
            windows[i] =
                (struct tt_window){stubs[i].function + 1, stubs[i].function + TT_RELOCATE_NEED};
    tt_stacks_look(&s->target, &stopped, windows, n, TT_LOOK_FRAMES, hit);
    for (size_t i = 0; i < n; i++) {
        if (watches[i].result != -EINPROGRESS)
            continue;
        if (hit[i])
            refuse(&watches[i], -EAGAIN, "a signal handler returns into its first instructions");
        else
            redirect(s, &stopped, &watches[i], &stubs[i]);
    }
    if (stopped_ns)
        *stopped_ns = tt_clock_now() - stopped.since_ns;
    tt_inject_resume(&stopped);
out:
    free(windows);
    free(hit);
    return code;
}

static int open_all(struct watching *s, pid_t pid, int tape_fd, struct tt_error *err)
{
    struct tt_tape_head *head = malloc(sizeof *head);
    char path[64];
    int code = 0;
    s->target = (struct tt_target){.pid = pid, .handles = true, .mem = -1};
    s->tape = tape_fd;
    if (!head)
        return tt_error_set(err, -ENOMEM, "out of memory");
    if (pread(tape_fd, head, sizeof *head, TT_TAPE_OFF_HEAD) != (ssize_t)sizeof *head ||
        head->magic != TT_TAPE_MAGIC || head->version != TT_TAPE_VERSION ||
        head->state != TT_STATE_RUNNING || !head->watch_entry ||
        pread(tape_fd, s->row, sizeof s->row, row_offset(0)) != (ssize_t)sizeof s->row) {
        code = tt_error_set(err, -ENOTSUP, "the agent in process %d does not record", (int)pid);
        goto out;
    }
    s->entry = head->watch_entry;
    s->probe_entry = head->probe_entry;
    s->open_entry = head->open_entry;
    s->close_entry = head->close_entry;
    snprintf(path, sizeof path, "/proc/%d/mem", (int)pid);
    s->target.mem = open(path, O_RDWR | O_CLOEXEC);
    if (s->target.mem < 0) {
        code = tt_error_sys(err, -errno, "cannot open the memory of process %d", (int)pid);
        goto out;
    }
    s->attached = tt_proc_maps_read(pid, &s->target.maps) == 0 &&
                  tt_load_find(&s->target, "", &s->load) == 0 && s->load.head.attached;
out:
    free(head);
    return code;
}

int tt_inject_watch(pid_t pid, struct tt_inject_pad *pads, size_t n_pads, int tape_fd,
                    struct tt_inject_watch *watches, size_t n_watches, uint64_t *stopped_ns,
                    struct tt_error *err)
{
    struct watching *s = calloc(1, sizeof *s);
    struct tt_stub *stubs = calloc(n_watches ? n_watches : 1, sizeof *stubs);
    int code = 0;
    size_t ready = 0;
    if (stopped_ns)
        *stopped_ns = 0;
    if (!s || !stubs) {
        code = tt_error_set(err, -ENOMEM, "out of memory");
    } else if ((code = open_all(s, pid, tape_fd, err)) == 0) {
        for (size_t i = 0; i < n_watches; i++) {
            watches[i].result = -EINPROGRESS;
            watches[i].why[0] = '\0';
            ready += prepare(s, pads, n_pads, &watches[i], &stubs[i]) == 0;
        }
        if (ready)
            code = apply(s, watches, stubs, n_watches, stopped_ns, err);
        for (size_t i = 0; i < n_watches; i++)
            if (watches[i].result != 0)
                withdraw(s, &watches[i]);
    }
    if (s)
        tt_target_close(&s->target);
    free(stubs);
    free(s);
    return code;
}
