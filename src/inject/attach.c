/* SPDX-License-Identifier: Apache-2.0 */
/* Attaching and detaching: the order of events. One thread stands still for the memory and for the
 * start of the agent; all threads only for the patches. A failure on the way takes back what was
 * done; death on the way leaves records by which any later telltale cleans up.
 * Start: tt_inject_attach. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "inject/attach.h"
#include "inject/call.h"
#include "inject/filter.h"
#include "inject/patch.h"

#define TRIES 50
#define DRAIN_FIRST_NS 100000L
#define DRAIN_ROUNDS 10
#define TURNS_MOST_NS 500000000ULL
#define START_TRIES 8

/* Until threads have left the agent each must have had a processor. Stopped again sooner, and let
 * go in the same order, the last ones would never get one: so the more there are, the longer. */
static void await_turns(size_t threads, int tries)
{
    uint64_t ns = (2000000ULL + 2000000ULL * threads) << (tries < 3 ? tries : 3);
    ns = ns < TURNS_MOST_NS ? ns : TURNS_MOST_NS;
    const struct timespec pause = {0, (long)ns};
    nanosleep(&pause, NULL);
}

/* ---- who holds it ---- */

static void command(pid_t pid, char *out, size_t n)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
    FILE *f = fopen(path, "re");
    if (!f || !fgets(out, (int)n, f))
        *out = '\0';
    if (f)
        fclose(f);
}

/* Whether the telltale that wrote its pid into the blob still runs. */
static bool held(const struct tt_load *load)
{
    char its[64], ours[64];
    pid_t holder = (pid_t)load->head.attached;
    if (holder <= 0 || holder == getpid())
        return false;
    command(holder, its, sizeof its);
    command(getpid(), ours, sizeof ours);
    return *its && (strcmp(its, ours) == 0 || strncmp(its, "telltale", 8) == 0);
}

static int busy(const struct tt_target *t, const struct tt_load *load, struct tt_error *err)
{
    return tt_error_set(err, -EBUSY,
                        "process %d is being recorded by another telltale (process %u): end that "
                        "first, or use telltale detach --force",
                        (int)t->pid, load->head.attached);
}

static int put_holder(const struct tt_target *t, struct tt_load *load, uint32_t pid)
{
    load->head.attached = pid;
    return tt_load_put(t, load, &load->head.attached, sizeof load->head.attached);
}

static int refused(const struct tt_target *t, const struct tt_blob_call *call, struct tt_error *err)
{
    return tt_error_set(err, call->result < 0 ? call->result : -EIO,
                        "cannot attach to process %d: %.*s", (int)t->pid, (int)sizeof call->why,
                        *call->why ? call->why : "the agent does not start");
}

/* Gives the tape's memory back through its file, which nobody stands still for; needs what
 * proc_pid_map_files(5) says. */
static bool empty_tape(struct tt_target *t)
{
    bool done = false;
    if (tt_proc_maps_read(t->pid, &t->maps) != 0)
        return false;
    for (size_t i = 0; i < t->maps.maps.len && !done; i++) {
        const struct tt_proc_map *m = &t->maps.maps.data[i];
        struct stat st;
        char path[96];
        if (!m->shared ||
            strncmp(tt_proc_map_path(&t->maps, m), TT_CALL_TAPE, strlen(TT_CALL_TAPE)) != 0)
            continue;
        snprintf(path, sizeof path, "/proc/%d/map_files/%lx-%lx", (int)t->pid,
                 (unsigned long)m->start, (unsigned long)m->end);
        int fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd < 0)
            return false;
        done = fstat(fd, &st) == 0 &&
               fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, st.st_size) == 0;
        close(fd);
    }
    return done;
}

/* ---- memory ---- */

static int reread(struct tt_target *t, struct tt_error *err)
{
    int code = tt_proc_maps_read(t->pid, &t->maps);
    return code ? tt_target_explain(t->pid, code, err) : 0;
}

static int bring_blob(struct tt_target *t, const struct tt_found *found,
                      const struct tt_load_file *file, struct tt_load *load, uint64_t *stood_ns,
                      struct tt_error *err)
{
    int code = -EAGAIN;
    bool again = true;
    for (int tries = 0; code && again && tries < 8; tries++) {
        struct tt_stopped one;
        struct tt_remote remote;
        struct tt_error ignored;
        again = false;
        if ((code = reread(t, err)) != 0 || (code = tt_remote_stop(t, &one, err)) != 0)
            break;
        code = tt_remote_begin(&remote, t, &one.threads.data[0], 0, err);
        if (code == 0) {
            code = tt_load_map(&remote, found, file, load, &again, err);
            int ended = tt_remote_end(&remote, code ? &ignored : err);
            code = code ? code : ended;
        }
        tt_inject_resume(&one);
        tt_call_longest(stood_ns, one.since_ns);
    }
    return code ? code : reread(t, err);
}

static void drop_blob(const struct tt_target *t, const struct tt_load *load)
{
    struct tt_stopped one;
    struct tt_remote remote;
    struct tt_error ignored;
    if (tt_remote_stop(t, &one, &ignored) != 0)
        return;
    if (tt_remote_begin(&remote, t, &one.threads.data[0], 0, &ignored) == 0) {
        tt_load_unmap(&remote, load);
        tt_remote_end(&remote, &ignored);
    }
    tt_inject_resume(&one);
}

/* ---- attach ---- */

struct attach {
    struct tt_target target;
    struct tt_found found;
    struct tt_load_file file;
    struct tt_load load;
    struct tt_patch patch;
    struct tt_blob_call *call;
    bool loaded, started;
    bool hooked; /* releases, since the recording before */
};

static void fill_call(struct attach *a, const struct tt_inject_attach_options *options)
{
    struct tt_blob_call *c = a->call;
    const struct tt_blob_island *pads[2] = {&a->load.head.island[TT_ISLAND_PAD_EXE],
                                            &a->load.head.island[TT_ISLAND_PAD_LIBC]};
    c->what = TT_BLOB_START;
    c->tape_fd = -1;
    c->sandboxed = a->target.sandboxed;
    c->conf = options->conf;
    c->host.granule_shift = a->found.glibc_only ? 5 : 4;
    c->host.size_floor = a->found.glibc_only ? 0 : 9;
    c->host.near_exe = a->found.entry;
    c->host.near_libc = a->found.libc_near;
    memcpy(c->host.allocator, a->found.allocator, sizeof c->host.allocator);
    tt_proc_exe(a->target.pid, c->host.exe, sizeof c->host.exe);
    for (unsigned i = 0; i < 2; i++) {
        c->pad[i] = pads[i]->size > pads[i]->used ? pads[i]->base + pads[i]->used : 0;
        c->pad_size[i] = c->pad[i] ? pads[i]->size - pads[i]->used : 0;
    }
}

static int redirect(struct attach *a, struct tt_inject_attached *out, struct tt_error *err)
{
    int code = -EAGAIN;
    for (int tries = 0; code == -EAGAIN && tries < TRIES; tries++) {
        struct tt_stopped stopped;
        if (tries)
            tt_call_breathe(tries);
        if ((code = tt_inject_stop(a->target.pid, &stopped, err)) != 0)
            return code;
        code = tt_filter_check(&a->target, &stopped, err);
        if (code) {
            tt_inject_resume(&stopped);
            return code;
        }
        code = tt_patch_apply(&a->patch, &stopped, tries == TRIES - 1);
        out->stop_ns = tt_clock_now() - stopped.since_ns;
        tt_inject_resume(&stopped);
    }
    if (code == -EAGAIN)
        return tt_error_set(err, code,
                            "cannot attach to process %d: a thread or signal handler is always in "
                            "the first instructions of malloc or free; try again",
                            (int)a->target.pid);
    if (code == -ESTALE)
        return tt_error_set(err, -EBUSY,
                            "cannot attach to process %d: somebody else changed its allocator's "
                            "code meanwhile",
                            (int)a->target.pid);
    return code ? tt_call_failed(&a->target, code, err) : 0;
}

static int prepare(struct attach *a, const struct tt_inject_attach_options *options,
                   struct tt_inject_attached *out, struct tt_error *err)
{
    char path[PATH_MAX];
    const char *blob = options->blob;
    pid_t pid = out->pid;
    if (!blob && tt_proc_own_file("agent", "telltale-agent.blob", path, err) != 0)
        return err ? err->code : -ENOENT;
    int code = tt_load_file(blob ? blob : path, &a->file, err);
    if (code || (code = tt_target_open(pid, &a->target, err)) != 0)
        return code;
    if (tt_load_find(&a->target, a->file.build, &a->load) == 0) {
        if (held(&a->load))
            return busy(&a->target, &a->load, err);
        if (tt_patch_active(&a->load) || a->load.head.attached || a->load.head.calling) {
            /* left by one that died */
            struct tt_inject_detached detached;
            if ((code = tt_inject_detach(pid, true, &detached, err)) != 0)
                return code;
            if ((code = reread(&a->target, err)) != 0)
                return code;
        }
        tt_load_find(&a->target, a->file.build, &a->load);
        bool same = memcmp(a->load.head.build, a->file.build, sizeof a->file.build) == 0;
        if (!same && tt_patch_active(&a->load))
            return tt_error_set(err, -EBUSY,
                                "cannot attach to process %d: objects of a recording by another "
                                "version of telltale are still in use; use that version",
                                (int)pid);
        out->reused = same;
    }
    return tt_find(&a->target, &a->found, err);
}

/* Again, if the thread was not taken out of its waiting loop in time: what it began is ended first.
 */
static int call_start(struct attach *a, struct tt_inject_attached *out, struct tt_error *err)
{
    struct tt_error ignored;
    int code = -EAGAIN;
    for (int tries = 0; code == -EAGAIN && tries < START_TRIES; tries++) {
        if (out->tape_fd >= 0)
            close(out->tape_fd);
        out->tape_fd = -1;
        if (tries && (code = tt_call_order(&a->target, &a->load, TT_BLOB_PASS, &ignored)) != 0)
            continue;
        code = tt_call_alone(&a->target, &a->load, a->call, &out->tape_fd, &out->start_ns, err);
    }
    return code;
}

/* The same on one of the threads that all stand still. -EAGAIN: not now. */
static int call_among(struct attach *a, const struct tt_stopped *stopped,
                      struct tt_inject_attached *out, struct tt_error *err)
{
    const struct tt_stopped_thread *thread = tt_remote_choose(&a->target, stopped);
    int code = tt_call_write(&a->target, &a->load, a->call, err);
    if (code)
        return code;
    code = thread ? tt_call_on(&a->target, &a->load, thread, a->call, &out->tape_fd, err)
                  : tt_error_set(err, -EAGAIN, "no thread of process %d can be used now",
                                 (int)a->target.pid);
    if (!thread)
        tt_call_mark(&a->target, &a->load, 0);
    tt_call_longest(&out->start_ns, stopped->since_ns);
    return code;
}

/* Lets those who are inside the window come out while the others stand still: these hold nothing
 * that is waited for there, and do not take the processors. *inside: some are still there. */
static int drain(const struct tt_target *t, struct tt_stopped *stopped,
                 const struct tt_window *window, bool *inside)
{
    for (int round = 0;; round++) {
        const struct timespec pause = {0, DRAIN_FIRST_NS << round};
        bool hit;
        *inside = tt_stacks_look(t, stopped, window, 1, TT_LOOK_RIP | TT_LOOK_FRAMES, &hit) != 0;
        if (!*inside || round == DRAIN_ROUNDS)
            return 0;
        for (size_t i = 0; i < stopped->threads.len; i++)
            if (tt_stacks_stands(t, stopped, i, window))
                tt_inject_let(stopped, i);
        clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
        int code = tt_inject_stop_again(stopped);
        if (code)
            return code;
    }
}

/* Starts a blob of the same build anew. The state of the agent is replaced, so no thread may be in
 * its code, nor a signal handler return there. With no return address to it on any stack either,
 * none will come, and one thread alone is borrowed. Else, and with releases still hooked, all stand
 * still while it starts: whoever comes back from the allocator finds the new recording whole. */
static int start_again(struct attach *a, struct tt_inject_attached *out, struct tt_error *err)
{
    const struct tt_window image = {a->load.base, a->load.base + a->load.head.text_end};
    const bool hooked = a->hooked;
    int code = reread(&a->target, err);
    if (code)
        return code;
    if (!hooked && tt_stacks_clear(&a->target, &image))
        return call_start(a, out, err);
    code = -EAGAIN;
    for (int tries = 0; code == -EAGAIN && tries < START_TRIES; tries++) {
        struct tt_stopped stopped;
        struct tt_error ignored;
        bool inside, hit;
        if ((code = reread(&a->target, err)) != 0 ||
            (code = tt_inject_stop(a->target.pid, &stopped, err)) != 0)
            return code;
        size_t threads = stopped.threads.len;
        code = drain(&a->target, &stopped, &image, &inside);
        bool alone = code == 0 && !inside && !hooked &&
                     !tt_stacks_look(&a->target, &stopped, &image, 1, TT_LOOK_WORDS, &hit);
        if (code || inside)
            code = tt_error_set(err, -EAGAIN,
                                "cannot attach to process %d: a thread is still inside the "
                                "agent of an earlier recording; try again",
                                (int)a->target.pid);
        else if (!alone)
            code = call_among(a, &stopped, out, err);
        tt_inject_resume(&stopped);
        if (alone)
            return call_start(a, out, err);
        if (code == -EAGAIN && !inside) /* it may have begun */
            tt_call_order(&a->target, &a->load, TT_BLOB_PASS, &ignored);
        if (code == -EAGAIN)
            await_turns(threads, tries);
    }
    return code;
}

static int start(struct attach *a, const struct tt_inject_attach_options *options,
                 struct tt_inject_attached *out, struct tt_error *err)
{
    int code = 0;
    if (!out->reused) {
        code = bring_blob(&a->target, &a->found, &a->file, &a->load, &out->start_ns, err);
        if (code)
            return code;
    }
    a->loaded = true;
    if (!out->reused && (code = tt_load_fill(&a->target, &a->file, &a->load, err)) != 0)
        return code;
    a->hooked = tt_patch_active(&a->load);
    a->patch = (struct tt_patch){.target = &a->target,
                                 .found = &a->found,
                                 .load = &a->load,
                                 .out = out,
                                 .mode = options->conf.mode};
    a->load.head.attached = (uint32_t)getpid();
    if ((code = tt_patch_plan(&a->patch, a->call, err)) != 0)
        return code;
    fill_call(a, options);
    code = out->reused ? start_again(a, out, err) : call_start(a, out, err);
    a->started = code == 0 && a->call->result == 0;
    return code ? code : a->call->result ? refused(&a->target, a->call, err) : 0;
}

int tt_inject_attach(pid_t pid, const struct tt_inject_attach_options *options,
                     struct tt_inject_attached *out, struct tt_error *err)
{
    struct attach *a = calloc(1, sizeof *a);
    struct tt_error ignored;
    *out = (struct tt_inject_attached){.pid = pid, .tape_fd = -1};
    if (!a || !(a->call = calloc(1, sizeof *a->call))) {
        free(a);
        return tt_error_set(err, -ENOMEM, "out of memory");
    }
    a->target.mem = -1;
    int code = prepare(a, options, out, err);
    int awake = code ? -1 : tt_inject_awake();
    if (code == 0)
        code = start(a, options, out, err);
    if (code == 0)
        code = redirect(a, out, err);
    tt_inject_drowse(awake);
    if (code == 0) {
        out->blob = a->load.base;
    } else {
        if (a->started)
            tt_call_order(&a->target, &a->load, TT_BLOB_PASS, &ignored);
        if (a->loaded && !out->reused) {
            drop_blob(&a->target, &a->load);
        } else if (a->loaded) { /* the records of this attempt */
            unsigned n[3];
            tt_patch_restore(&a->target, &a->load, a->load.head.detached_live > 0, &n[0], &n[1],
                             &n[2]);
            put_holder(&a->target, &a->load, 0);
        }
        if (out->tape_fd >= 0)
            close(out->tape_fd);
        out->tape_fd = -1;
        tt_inject_attached_free(out);
    }
    tt_patch_free(&a->patch);
    tt_load_file_free(&a->file);
    tt_find_free(&a->found);
    tt_target_close(&a->target);
    free(a->call);
    free(a);
    return code;
}

void tt_inject_attached_free(struct tt_inject_attached *attached)
{
    tt_vec_free(&attached->notes);
}

/* ---- detach ---- */

static int restore(struct tt_target *t, struct tt_load *load, struct tt_inject_detached *out,
                   struct tt_error *err)
{
    struct tt_stopped stopped;
    unsigned foreign = 0;
    if (!tt_patch_active(load))
        return 0;
    int awake = tt_inject_awake(), code = tt_inject_stop(t->pid, &stopped, err);
    if (code) {
        tt_inject_drowse(awake);
        return code;
    }
    code = tt_patch_restore(t, load, out->live > 0, &out->restored, &out->kept, &foreign);
    out->stop_ns = tt_clock_now() - stopped.since_ns;
    tt_inject_resume(&stopped);
    tt_inject_drowse(awake);
    if (code && !foreign)
        return tt_call_failed(t, code, err);
    if (code)
        return tt_error_set(err, -EIO,
                            "%u places in process %d no longer hold what telltale wrote and were "
                            "left alone; %u were restored",
                            foreign, (int)t->pid, out->restored);
    return 0;
}

int tt_inject_detach(pid_t pid, bool force, struct tt_inject_detached *out, struct tt_error *err)
{
    struct tt_target target;
    struct tt_load load;
    *out = (struct tt_inject_detached){0};
    int code = tt_target_open(pid, &target, err);
    if (code)
        return code;
    out->found = tt_load_find(&target, "", &load) == 0;
    if (out->found && held(&load) && !force) {
        code = busy(&target, &load, err);
    } else if (out->found) {
        code = tt_call_await_left(&target, &load, err);
        /* Of objects that an earlier detach left, those of now are counted, or hooks stay for ever.
         */
        bool within = load.head.attached || load.head.detached_live > 0;
        if (code == 0 && within)
            code = tt_call_order(&target, &load, TT_BLOB_PASS, err);
        if (code == 0)
            code = tt_target_read(&target, load.at, &load.head, TT_LOAD_HEAD);
        out->live = load.head.detached_live;
        if (code == 0)
            code = restore(&target, &load, out, err);
        /* The tape's memory: the recorder keeps its own mapping as long as it likes. */
        if (code == 0 && within && !empty_tape(&target))
            code = tt_call_order(&target, &load, TT_BLOB_DROP, err);
        if (code == 0 && (code = put_holder(&target, &load, 0)) != 0)
            code = tt_call_failed(&target, code, err);
    }
    if (code == 0)
        tt_freeze_reap_left(&target);
    tt_target_close(&target);
    return code;
}
