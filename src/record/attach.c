/* SPDX-License-Identifier: Apache-2.0 */
/* Recording processes that run already. The agent is written into them (src/inject), its tape is a
 * memory file whose descriptor we take; from then on they are images like any other. What is
 * different: they are not our children and their ends are not our status; we leave while they run,
 * and then nothing of us may remain that costs them anything; exec takes the agent away, and with
 * -f it is put in again. Their children are attach_child.c's. Start: tt_record_attach,
 * tt_attach_to. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "record/internal.h"

#define AGAIN_NS (TT_SECOND / 10) /* an exec needs a moment until its libraries are there */
#define AGAIN_MOST_NS (10 * TT_SECOND)
#define PATIENT_TRIES 20

/* ---- coming ---- */

static void note(struct tt_image *image, const char *line)
{
    size_t at = strlen(image->notes);
    if (at + strlen(line) + 2 > sizeof image->notes)
        return;
    snprintf(image->notes + at, sizeof image->notes - at, "%s%s", at ? "\n" : "", line);
    image->attach_changed = true;
}

static int open_memory(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", (int)pid);
    return open(path, O_RDONLY | O_CLOEXEC);
}

int tt_attach_to(struct tt_recorder *rec, pid_t pid, enum tt_tape_mode mode, struct tt_error *err)
{
    const struct tt_record_options *o = rec->options;
    struct tt_inject_attach_options options = {
        .conf = {.mode = mode,
                 .follow = o->follow,
                 .rate = o->rate ? o->rate : 1,
                 .mean = o->sample_mean ? o->sample_mean : 512 << 10,
                 .origin_ns = rec->origin_ns},
        .blob = o->agent,
    };
    if (o->no_inject)
        return tt_kernel_begin(rec, pid, false, err);
    struct tt_inject_attached attached = {.tape_fd = -1};
    snprintf(options.conf.dir, sizeof options.conf.dir, "%.199s", rec->dir);
    int mem = open_memory(pid);
    int code = tt_inject_attach(pid, &options, &attached, err);
    if (code) {
        if (mem >= 0)
            close(mem);
        return code;
    }
    fcntl(attached.tape_fd, F_SETFD, FD_CLOEXEC);
    struct tt_image *image = tt_image_new(rec, attached.tape_fd, pid, "");
    if (!image) {
        if (mem >= 0)
            close(mem);
        tt_inject_attached_free(&attached);
        struct tt_inject_detached detached;
        tt_inject_detach(pid, true, &detached, NULL);
        return tt_error_set(err, -ENOMEM, "too many processes in one recording");
    }
    image->attached = image->attach_changed = true;
    image->mem_fd = mem;
    image->attach = (struct tt_session_attach){
        .at_ns = tt_clock_now(),
        .start_ns = attached.start_ns,
        .stop_ns = attached.stop_ns,
        .entries = attached.entries,
        .slots = attached.slots,
        .notes = image->notes,
    };
    for (size_t i = 0; i < attached.notes.len; i++)
        note(image, attached.notes.data[i].text);
    tt_inject_attached_free(&attached);
    tt_tape_tick(&image->tape, tt_record_tick_at(rec, tt_clock_now()), rec->origin_ns, false);
    tt_image_settle(rec, image);
    image->attach.process = image->id;
    return 0;
}

/* A thread may be in the way for a moment. */
static int attach_patiently(struct tt_recorder *rec, pid_t pid, enum tt_tape_mode mode,
                            struct tt_error *err)
{
    const struct timespec pause = {0, AGAIN_NS};
    int code = tt_attach_to(rec, pid, mode, err);
    for (int tries = 0; code == -EAGAIN && tries < PATIENT_TRIES; tries++) {
        nanosleep(&pause, NULL);
        code = tt_attach_to(rec, pid, mode, err);
    }
    return code;
}

/* ---- going ---- */

/* Before a tape is left, which empties it: all that it says goes into the session. */
static void read_last(struct tt_recorder *rec)
{
    uint64_t now = tt_clock_now();
    for (size_t i = 0; i < rec->images.len; i++)
        if (rec->images.data[i]->alive)
            tt_image_read(rec, rec->images.data[i], now, true);
    tt_rows_write(rec, now, false);
}

void tt_attach_leave(struct tt_recorder *rec, struct tt_image *image)
{
    struct tt_inject_detached detached = {0};
    struct tt_error err = {0};
    if (image->kernel) {
        tt_kernel_leave(rec, image);
        return;
    }
    int code = tt_inject_detach((pid_t)image->pid, true, &detached, &err);
    image->left = code == 0;
    if (code == -ESRCH)
        return;
    if (code) {
        if (!rec->result->left)
            snprintf(rec->result->left_why, sizeof rec->result->left_why, "%.255s", err.text);
        rec->result->left = true;
        note(image, err.text);
        return;
    }
    image->attach.detached_ns = tt_clock_now();
    image->attach.detach_stop_ns = detached.stop_ns;
    image->attach.kept = detached.kept;
    image->attach_changed = true;
    if (detached.kept) {
        char line[160];
        snprintf(line, sizeof line,
                 "%u release functions stay hooked: %llu sampled blocks still live", detached.kept,
                 (unsigned long long)detached.live);
        note(image, line);
    }
}

void tt_attach_leave_all(struct tt_recorder *rec)
{
    if (rec->child)
        return;
    read_last(rec);
    for (size_t i = 0; i < rec->images.len; i++)
        if (rec->images.data[i]->alive && rec->images.data[i]->id)
            tt_attach_leave(rec, rec->images.data[i]);
    if (!rec->options->no_inject)
        tt_attach_leave_children(rec);
    for (size_t i = 0; i < rec->given.len; i++)
        tt_ask_offer(rec, rec->given.data[i].pid, false);
}

int tt_record_detach(pid_t pid, bool force, struct tt_inject_detached *out, struct tt_error *err)
{
    int code = tt_inject_detach(pid, force, out, err);
    tt_record_dir_clean();
    return code;
}

/* ---- meanwhile ---- */

static enum tt_tape_mode mode_of(const char *text)
{
    return strcmp(text, "mode exact") == 0      ? TT_MODE_EXACT
           : strcmp(text, "mode sampled") == 0  ? TT_MODE_SAMPLED
           : strcmp(text, "mode adaptive") == 0 ? TT_MODE_ADAPTIVE
                                                : 0;
}

/* Leaves while the process goes on; returns when it was copied. */
static struct tt_copies leave_at_request(struct tt_recorder *rec, const struct tt_given *given)
{
    struct tt_copies copies = {0};
    struct tt_image *image = tt_image_of(rec, given->pid);
    if (image) {
        copies.tried_ns = image->copies.tried_ns;
        copies.ns_per_byte = image->copies.ns_per_byte;
        read_last(rec);
        tt_attach_leave(rec, image);
        tt_image_end(rec, image, "quiet", tt_clock_now());
    }
    return copies;
}

/* Leaves and comes again in another mode: a new image, since what the tape counts means something
 * else from then on. */
static void change_mode(struct tt_recorder *rec, struct tt_given *given, enum tt_tape_mode mode,
                        struct tt_error *err)
{
    struct tt_copies copies = leave_at_request(rec, given);
    given->mode = mode;
    if (attach_patiently(rec, given->pid, mode, err)) {
        given->gone = true;
        return;
    }
    copies.taken = 0; /* of the new image, whose pause and turn are the old one's */
    tt_image_of(rec, given->pid)->copies = copies;
}

static void answer(struct tt_recorder *rec, struct tt_given *given)
{
    char text[64];
    struct tt_error err = {0};
    if (!tt_ask_take(rec, given->pid, text))
        return;
    enum tt_tape_mode mode = mode_of(text);
    if (given->gone) {
        tt_error_set(&err, -ESRCH, "process %d is not recorded any more", (int)given->pid);
    } else if (strcmp(text, "detach") == 0) {
        leave_at_request(rec, given);
        given->gone = true;
        rec->outcome = "asked to detach";
    } else if (rec->options->no_inject) {
        tt_error_set(&err, -EOPNOTSUPP,
                     "nothing was put into process %d (--no-inject), so it has no mode",
                     (int)given->pid);
    } else if (!mode) {
        tt_error_set(&err, -EINVAL, "not understood: %s", text);
    } else if (mode != given->mode) {
        if (rec->search && rec->search->held && rec->search->pid == given->pid)
            tt_error_set(&err, -EAGAIN, "a snapshot is being taken: try again in a moment");
        else
            change_mode(rec, given, mode, &err);
    }
    tt_ask_answer(rec, given->pid, err.code ? err.text : "done");
    if (given->gone)
        tt_ask_offer(rec, given->pid, false);
}

/* Whether the process still runs. */
static bool runs(pid_t pid)
{
    bool zombie = false;
    return tt_proc_parent(pid, &zombie) >= 0 && !zombie;
}

/* Its image has ended: was it exec? Then, with -f, once more from the start. */
static void come_again(struct tt_recorder *rec, struct tt_given *given, uint64_t now)
{
    struct tt_error err = {0};
    if (given->gone || tt_image_of(rec, given->pid))
        return;
    if (!rec->options->follow || !runs(given->pid)) {
        given->gone = true;
        tt_ask_offer(rec, given->pid, false);
        return;
    }
    if (!given->until_ns)
        given->until_ns = now + AGAIN_MOST_NS;
    if (now < given->again_ns)
        return;
    given->again_ns = now + AGAIN_NS;
    if (tt_attach_to(rec, given->pid, given->mode, &err) == 0) {
        given->until_ns = 0;
    } else if (now > given->until_ns) {
        char line[sizeof err.text + 64];
        snprintf(line, sizeof line, "process %d runs another program now: %s", (int)given->pid,
                 err.text);
        tt_loop_say(rec, line);
        given->gone = true;
        tt_ask_offer(rec, given->pid, false);
    }
}

bool tt_attach_waits(const struct tt_recorder *rec)
{
    for (size_t i = 0; i < rec->given.len; i++)
        if (!rec->given.data[i].gone && rec->given.data[i].until_ns)
            return true;
    return false;
}

void tt_attach_visit(struct tt_recorder *rec, uint64_t now_ns)
{
    for (size_t i = 0; i < rec->given.len; i++) {
        answer(rec, &rec->given.data[i]);
        if (!rec->ending)
            come_again(rec, &rec->given.data[i], now_ns);
    }
    tt_attach_children(rec, now_ns);
}

/* ---- the recording ---- */

/* Attaches to all that can be. 0, or the error of the first when there is none. */
static int attach_all(struct tt_recorder *rec, struct tt_error *err)
{
    const struct tt_record_options *o = rec->options;
    enum tt_tape_mode mode = o->mode ? o->mode : TT_MODE_EXACT;
    struct tt_error first = {0};
    tt_proc_pid_vec pids = {0};
    for (size_t i = 0; i < o->n_pids; i++)
        if (tt_vec_push(&pids, o->pids[i]))
            return tt_error_set(err, -ENOMEM, "out of memory");
    if (o->follow)
        tt_attach_add_children(&pids);
    for (size_t i = 0; i < pids.len; i++) {
        struct tt_given given = {.pid = pids.data[i], .mode = mode};
        struct tt_error why = {0};
        if (attach_patiently(rec, given.pid, mode, &why)) {
            if (!first.code)
                first = why;
            if (pids.len > 1 && (i < o->n_pids || why.code != -ESRCH)) /* children come and go */
                tt_loop_say(rec, why.text);
            continue;
        }
        rec->result->attached++;
        if (tt_vec_push(&rec->given, given) == 0)
            tt_ask_offer(rec, given.pid, true);
    }
    tt_vec_free(&pids);
    if (rec->result->attached)
        return 0;
    *err = first;
    return first.code;
}

int tt_record_attach(const struct tt_record_options *options, struct tt_record_result *result,
                     struct tt_error *err)
{
    struct tt_recorder rec = {.options = options,
                              .result = result,
                              .next_image = 1,
                              .dir_fd = -1,
                              .owner_fd = -1,
                              .child_ended = true, /* there is none */
                              .recording = true};
    struct pollfd fds[TT_FDS];
    struct tt_setting before = {0};
    *result = (struct tt_record_result){0};
    *err = (struct tt_error){0};
    for (int i = 0; i < TT_FDS; i++)
        fds[i] = (struct pollfd){.fd = -1, .events = POLLIN};
    tt_setting_enter(&before);
    tt_setting_parent(&before);
    rec.origin_ns = rec.started_ns = tt_clock_now();
    rec.started_wall = tt_clock_wall();
    result->pid = options->pids[0];
    int code = tt_record_dir_make(&rec, err);
    if (!code)
        code = tt_loop_open(&rec, fds, err);
    if (!code)
        code = tt_loop_session(&rec, options->pids[0], "nothing is recorded", err);
    if (!code && !rec.recording) /* a full disk: nothing to do here without a session */
        code = tt_error_set(err, -ENOSPC, "nothing was attached to");
    if (!code && options->no_inject)
        tt_kernel_start(&rec);
    if (!code) {
        rec.write_due = rec.read_due = rec.started_ns + TT_SECOND / 4;
        code = attach_all(&rec, err);
        if (code) {
            tt_session_finish(rec.writer, false, NULL);
            rec.writer = NULL;
            unlink(result->output);
            *result->output = '\0';
        }
    }
    if (!code) {
        tt_loop(&rec, fds);
        if (rec.recording)
            tt_loop_end(&rec, rec.outcome ? rec.outcome : "the process ended");
    }
    tt_ask_settle(&rec);
    tt_vec_free(&rec.given);
    tt_vec_free(&rec.looked_at);
    tt_loop_close(fds);
    tt_record_dir_remove(&rec);
    tt_setting_leave(&before, true);
    return code;
}
