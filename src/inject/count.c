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
#include "inject/stub.h"

#define HEAD_BYTES 16u /* push rax; mov rax, imm64; lock inc qword [rax]; pop rax */

static int refuse(struct tt_inject_entry *e, int code, const char *why)
{
    e->result = code;
    snprintf(e->why, sizeof e->why, "%s", why);
    return code;
}

/* Works out stub and jump; reads the target, writes nothing. */
static int make_plan(const struct tt_target *target, const struct tt_load *load,
                     struct tt_inject_pad *pads, size_t n_pads, struct tt_inject_entry *e,
                     struct tt_stub *p)
{
    static const uint8_t head[] = {0x50, 0x48, 0xb8, 0,    0,    0,    0,    0,
                                   0,    0,    0,    0xf0, 0x48, 0xff, 0x00, 0x58};
    _Static_assert(sizeof head == HEAD_BYTES, "stub head");
    const char *why = "";
    int r = tt_stub_plan(target, load, pads, n_pads, e->function, e->size, HEAD_BYTES, p, &why);
    if (r)
        return refuse(e, r, why);
    memcpy(p->code, head, sizeof head);
    memcpy(p->code + 3, &e->counter, 8);
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
                    struct tt_inject_entry *entries, size_t n_entries, uint64_t *stopped_ns,
                    struct tt_error *err)
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
        ready +=
            make_plan(&target, attached ? &load : NULL, pads, n_pads, &entries[i], &plans[i]) == 0;
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
