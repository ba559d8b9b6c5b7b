/* SPDX-License-Identifier: Apache-2.0 */
/* Counting entries of functions inside the target: the entry becomes a jump to a stub that adds to
 * a counter, does the moved first instructions and jumps back. Everything is written while all
 * threads stand still and none stands, or will return from a signal, inside the bytes that change.
 * The stub uses the stack below the return address (free at an entry) and the flags (dead there;
 * System V ABI for x86-64, 3.2.1). Start: tt_inject_count. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/clock.h"
#include "inject/inject.h"
#include "inject/internal.h"
#include "inject/load.h"

#define HEAD_BYTES 16u /* push rax; mov rax, imm64; lock inc qword [rax]; pop rax */
#define BACK_BYTES 5u
#define STUB_ALIGN 16u
#define SCAN_FUNCTION (256u << 10)

struct plan {
    uint8_t stub[HEAD_BYTES + TT_RELOCATE_MAX + BACK_BYTES];
    size_t stub_len, taken;
    uint64_t at; /* address of the stub */
    uint8_t jump[TT_RELOCATE_NEED];
    uint8_t original[TT_RELOCATE_NEED];
};

static int refuse(struct tt_inject_entry *e, int code, const char *why)
{
    e->result = code;
    snprintf(e->why, sizeof e->why, "%s", why);
    return code;
}

static int reaches(uint64_t from, uint64_t to)
{
    int64_t d = (int64_t)(to - from);
    return d > -0x7fff0000LL && d < 0x7fff0000LL;
}

static struct tt_inject_pad *pad_for(struct tt_inject_pad *pads, size_t n, uint64_t function)
{
    for (size_t i = 0; i < n; i++)
        if (pads[i].base &&
            pads[i].size - pads[i].used >= sizeof((struct plan *)0)->stub + STUB_ALIGN &&
            reaches(function, pads[i].base + pads[i].used))
            return &pads[i];
    return NULL;
}

static int32_t distance(uint64_t from_end, uint64_t to)
{
    return (int32_t)(int64_t)(to - from_end);
}

/* Works out stub and jump; reads the target, writes nothing. */
static int make_plan(const struct tt_target *target, struct tt_inject_pad *pads, size_t n_pads,
                     struct tt_inject_entry *e, struct plan *p)
{
    struct tt_inject_pad *pad = pad_for(pads, n_pads, e->function);
    if (!pad)
        return refuse(e, -ENOSPC, "no pad within reach");
    if (e->size < TT_RELOCATE_NEED || e->size > SCAN_FUNCTION)
        return refuse(e, -EOPNOTSUPP, "its size is unknown, too small or too large");
    uint8_t *code = malloc(e->size);
    if (!code)
        return refuse(e, -ENOMEM, "out of memory");
    int r = tt_target_read(target, e->function, code, e->size);
    if (r) {
        refuse(e, r, "its code cannot be read");
        goto out;
    }
    memcpy(p->original, code, sizeof p->original);
    p->at = pad->base + pad->used;
    uint8_t *s = p->stub;
    static const uint8_t head[] = {0x50, 0x48, 0xb8, 0,    0,    0,    0,    0,
                                   0,    0,    0,    0xf0, 0x48, 0xff, 0x00, 0x58};
    _Static_assert(sizeof head == HEAD_BYTES, "stub head");
    memcpy(s, head, sizeof head);
    memcpy(s + 3, &e->counter, 8);
    size_t moved;
    const char *why = "";
    r = tt_relocate(code, e->size, e->function, p->at + HEAD_BYTES, s + HEAD_BYTES, &moved,
                    &p->taken, NULL, &why);
    if (r) {
        refuse(e, r, why);
        goto out;
    }
    if (tt_relocate_is_target(code, e->size, e->function, p->taken)) {
        r = refuse(e, -EOPNOTSUPP, "a branch into the first instructions");
        goto out;
    }
    p->stub_len = HEAD_BYTES + moved + BACK_BYTES;
    uint8_t *back = s + HEAD_BYTES + moved;
    int32_t rel = distance(p->at + p->stub_len, e->function + p->taken);
    back[0] = 0xe9;
    memcpy(back + 1, &rel, 4);
    rel = distance(e->function + TT_RELOCATE_NEED, p->at);
    p->jump[0] = 0xe9;
    memcpy(p->jump + 1, &rel, 4);
    pad->used += (p->stub_len + STUB_ALIGN - 1) & ~(size_t)(STUB_ALIGN - 1);
out:
    free(code);
    return r;
}

/* In an attached process the blob keeps account of what must be put back. */
static int record(const struct tt_target *target, struct tt_load *load,
                  const struct tt_inject_entry *e, const struct plan *p)
{
    struct tt_blob_patch r = {.address = e->function,
                              .length = TT_RELOCATE_NEED,
                              .entry = TT_LOAD_OPERATION,
                              .real = p->at};
    memcpy(r.was, p->original, sizeof p->original);
    memcpy(r.is, p->jump, sizeof p->jump);
    int code = tt_load_use(target, load, p->at + p->stub_len);
    return code ? code : tt_load_record(target, load, &r);
}

static void apply(const struct tt_target *target, struct tt_load *load, const struct tt_stopped *s,
                  struct tt_inject_entry *e, const struct plan *p)
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
    if ((load && record(target, load, e, p)) ||
        tt_target_write(target, p->at, p->stub, p->stub_len) ||
        tt_target_write(target, e->function, p->jump, sizeof p->jump)) {
        refuse(e, -EIO, "its code cannot be written");
        return;
    }
    e->result = 0;
    e->why[0] = '\0';
}

int tt_inject_count(pid_t pid, struct tt_inject_pad *pads, size_t n_pads,
                    struct tt_inject_entry *entries, size_t n_entries, uint64_t *stopped_ns,
                    struct tt_error *err)
{
    struct tt_target target = {.pid = pid, .handles = true};
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", (int)pid);
    struct plan *plans = calloc(n_entries ? n_entries : 1, sizeof *plans);
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
        ready += make_plan(&target, pads, n_pads, &entries[i], &plans[i]) == 0;
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
