/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of the blob: a thread that stands still does what tt_blob.call says, on the blob's own
 * stack, and waits in a loop to be taken back. A record of it stands in the target meanwhile, so
 * that what a killed telltale left amid a call can be waited for. Start: tt_call_alone. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "inject/call.h"

#define LEFT_TRIES 500

/* Longer from time to time: a thread may wait for its turn on a processor. */
void tt_call_breathe(int tries)
{
    const struct timespec pause = {0, 2000000L * (tries < 10 ? 1 : 10)};
    nanosleep(&pause, NULL);
}

int tt_call_failed(const struct tt_target *t, int code, struct tt_error *err)
{
    return tt_error_sys(err, code, "cannot use the memory of process %d", (int)t->pid);
}

int tt_call_mark(const struct tt_target *t, struct tt_load *load, uint64_t calling)
{
    load->head.calling = calling;
    return tt_load_put(t, load, &load->head.calling, sizeof load->head.calling);
}

static bool on_blob_stack(const struct tt_load *load, const struct tt_stopped *stopped)
{
    uint64_t stack = load->at + offsetof(struct tt_blob, stack);
    for (size_t i = 0; i < stopped->threads.len; i++)
        if (stopped->threads.data[i].regs.rsp - stack <= TT_BLOB_STACK)
            return true;
    return false;
}

/* The tape's descriptor in the target, when a telltale died before it closed it. */
static void close_left(const struct tt_target *t, const struct tt_load *load,
                       const struct tt_stopped_thread *thread)
{
    struct tt_blob_call *call = malloc(sizeof *call);
    struct tt_remote remote;
    struct tt_error ignored;
    char path[64], link[64] = "";
    int64_t result;
    if (call &&
        tt_target_read(t, load->at + offsetof(struct tt_blob, call), call, sizeof *call) == 0 &&
        call->what == TT_BLOB_START && call->tape_fd >= 0) {
        snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)t->pid, call->tape_fd);
        ssize_t n = readlink(path, link, sizeof link - 1);
        if (n > 0 && strncmp(link, TT_CALL_TAPE, strlen(TT_CALL_TAPE)) == 0 &&
            tt_remote_begin(&remote, t, thread, 0, &ignored) == 0) {
            tt_remote_syscall(&remote, SYS_close, (uint64_t[6]){(uint64_t)call->tape_fd}, &result,
                              NULL, &ignored);
            tt_remote_end(&remote, &ignored);
        }
    }
    free(call);
}

/* A telltale that died in the middle of a call left a thread that finishes it alone: it has the
 * blob's stack until then. */
int tt_call_await_left(struct tt_target *t, struct tt_load *load, struct tt_error *err)
{
    for (int tries = 0; load->head.calling; tries++) {
        struct tt_stopped stopped;
        int code = tt_inject_stop(t->pid, &stopped, err);
        if (code)
            return code;
        const struct tt_stopped_thread *thread =
            on_blob_stack(load, &stopped) ? NULL : tt_remote_choose(t, &stopped);
        if (thread) {
            close_left(t, load, thread);
            code = tt_call_mark(t, load, 0);
        }
        tt_inject_resume(&stopped);
        if (code)
            return tt_call_failed(t, code, err);
        if (!thread && tries >= LEFT_TRIES)
            return tt_error_set(err, -EAGAIN,
                                "process %d is still at what a killed telltale began; try again",
                                (int)t->pid);
        if (!thread)
            tt_call_breathe(tries);
    }
    return 0;
}

void tt_call_longest(uint64_t *stood_ns, uint64_t since)
{
    uint64_t stood = tt_clock_now() - since;
    *stood_ns = stood > *stood_ns ? stood : *stood_ns;
}

/* Ahead of the stop: the words of the call. */
int tt_call_write(const struct tt_target *t, struct tt_load *load, struct tt_blob_call *call,
                  struct tt_error *err)
{
    call->hold = 1;
    call->done = TT_BLOB_BUSY;
    int code = tt_target_write(t, load->at + offsetof(struct tt_blob, call), call, sizeof *call);
    if (code == 0)
        code = tt_call_mark(t, load, 1);
    return code ? tt_call_failed(t, code, err) : 0;
}

int tt_call_on(const struct tt_target *t, struct tt_load *load,
               const struct tt_stopped_thread *thread, struct tt_blob_call *call, int *tape_fd,
               struct tt_error *err)
{
    struct tt_remote remote;
    struct tt_error ignored;
    uint64_t at = load->at + offsetof(struct tt_blob, call);
    uint64_t done = at + offsetof(struct tt_blob_call, done);
    int code = tt_remote_begin(&remote, t, thread,
                               load->at + offsetof(struct tt_blob, stack) + TT_BLOB_STACK, err);
    if (code) {
        tt_call_mark(t, load, 0);
        return code;
    }
    code = tt_remote_call(&remote, load->base + load->head.enter, done, err);
    if (code == 0 && (code = tt_target_read(t, at, call, sizeof *call)) != 0)
        code = tt_call_failed(t, code, err);
    if (code == 0 && call->tape_fd >= 0 && tape_fd) {
        char path[64];
        const uint32_t go = 0;
        snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)t->pid, call->tape_fd);
        *tape_fd = open(path, O_RDWR | O_CLOEXEC);
        if (*tape_fd < 0)
            code = tt_error_sys(err, -errno, "cannot open the tape of process %d", (int)t->pid);
        if (tt_target_write(t, at + offsetof(struct tt_blob_call, hold), &go, sizeof go) == 0) {
            int closed = tt_remote_await(&remote, done, TT_BLOB_CLOSED, code ? &ignored : err);
            code = code ? code : closed;
        }
    }
    int ended = tt_remote_end(&remote, code ? &ignored : err);
    tt_call_mark(t, load, 0);
    return code ? code : ended;
}

/* On one thread; the others go on. */
int tt_call_alone(const struct tt_target *t, struct tt_load *load, struct tt_blob_call *call,
                  int *tape_fd, uint64_t *stood_ns, struct tt_error *err)
{
    struct tt_stopped one;
    int code = tt_call_write(t, load, call, err);
    if (code)
        return code;
    if ((code = tt_remote_stop(t, &one, err)) != 0) {
        tt_call_mark(t, load, 0);
        return code;
    }
    code = tt_call_on(t, load, &one.threads.data[0], call, tape_fd, err);
    tt_inject_resume(&one);
    if (stood_ns)
        tt_call_longest(stood_ns, one.since_ns);
    return code;
}

/* TT_BLOB_PASS or TT_BLOB_DROP. */
int tt_call_order(const struct tt_target *t, struct tt_load *load, uint32_t what,
                  struct tt_error *err)
{
    struct tt_blob_call *call = calloc(1, sizeof *call);
    if (!call)
        return tt_error_set(err, -ENOMEM, "out of memory");
    call->what = what;
    call->tape_fd = -1;
    int code = tt_call_alone(t, load, call, NULL, NULL, err);
    free(call);
    return code;
}
