/* SPDX-License-Identifier: Apache-2.0 */
/* Recording with nothing inside the process (src/kernel): each memory image has a tape that this
 * process writes itself, and is an image like any other from then on. What is different: there are
 * no heap blocks, nothing is patched or copied, exec is told by the kernel, and the tape must be
 * brought up to date before it is read. Where eBPF is missing or forbidden that is said once, and
 * what /proc tells is still recorded. Start: tt_kernel_start. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "record/internal.h"

#define RECONCILE_NS TT_SECOND

static struct tt_image *image_of(const struct tt_recorder *rec, pid_t pid)
{
    for (size_t i = 0; i < rec->images.len; i++)
        if (rec->images.data[i]->alive && rec->images.data[i]->kernel &&
            rec->images.data[i]->pid == pid)
            return rec->images.data[i];
    return NULL;
}

static void arrived(void *arg, pid_t pid, int tape)
{
    struct tt_recorder *rec = arg;
    struct tt_image *image = tt_image_new(rec, tape, pid, "");
    if (!image)
        return;
    image->kernel = true;
    tt_tape_tick(&image->tape, tt_record_tick_at(rec, tt_clock_now()), rec->origin_ns, false);
    tt_image_settle(rec, image);
}

static void replaced(void *arg, pid_t pid)
{
    struct tt_recorder *rec = arg;
    struct tt_image *image = image_of(rec, pid);
    if (image) {
        image->kernel_left = true; /* its tape stands */
        tt_image_end(rec, image, "exec", tt_clock_now());
    }
}

/* A tape that says why there is none. */
static void arrive_refused(struct tt_recorder *rec, pid_t pid)
{
    struct tt_tape_head head = {.magic = TT_TAPE_MAGIC,
                                .version = TT_TAPE_VERSION,
                                .mode = TT_MODE_EXACT,
                                .state = TT_STATE_REFUSED,
                                .pid = (uint32_t)pid,
                                .granule_shift = 5};
    snprintf(head.reason, sizeof head.reason, "%.127s", rec->kernel_why.text);
    int fd = memfd_create("telltale-refused", MFD_CLOEXEC);
    if (fd >= 0 && pwrite(fd, &head, sizeof head, 0) != (ssize_t)sizeof head) {
        close(fd);
        fd = -1;
    }
    if (fd >= 0)
        arrived(rec, pid, fd);
}

void tt_kernel_start(struct tt_recorder *rec)
{
    if (rec->options->n_handles)
        tt_loop_say(rec,
                    "declared handles are not watched: that needs the agent inside the process, "
                    "which --no-inject keeps out");
    if (rec->options->n_operations)
        tt_loop_say(rec, "declared operations are not counted: that needs the agent inside the "
                         "process, which --no-inject keeps out");
    const struct tt_kernel_options options = {
        .follow = rec->options->follow, .arg = rec, .arrived = arrived, .replaced = replaced};
    rec->kernel = tt_kernel_open(&options, &rec->kernel_why);
    if (!rec->kernel)
        tt_loop_say(rec, rec->kernel_why.text);
}

int tt_kernel_begin(struct tt_recorder *rec, pid_t pid, bool fresh, struct tt_error *err)
{
    if (kill(pid, 0) < 0 && errno == ESRCH)
        return tt_error_set(err, -ESRCH, "no process %d", (int)pid);
    if (rec->kernel)
        return tt_kernel_add(rec->kernel, pid, fresh, err);
    arrive_refused(rec, pid);
    return 0;
}

int tt_kernel_poll_fd(const struct tt_recorder *rec)
{
    return rec->kernel ? tt_kernel_fd(rec->kernel) : -1;
}

/* At once when code came or went: it may be over soon. */
static void read_modules(struct tt_image *image, uint64_t now_ns, bool again)
{
    uint64_t epoch;
    if (pread(image->tape.fd, &epoch, sizeof epoch, offsetof(struct tt_tape_head, module_epoch)) !=
            sizeof epoch ||
        (epoch == image->modules_epoch && !again))
        return;
    image->modules_epoch = epoch;
    tt_modules_read(image, now_ns);
}

void tt_kernel_turn(struct tt_recorder *rec, uint64_t now_ns)
{
    if (!rec->kernel)
        return;
    bool due = now_ns >= rec->kernel_due;
    if (due)
        rec->kernel_due = now_ns + RECONCILE_NS;
    tt_kernel_visit(rec->kernel, tt_record_tick_at(rec, now_ns), due);
    bool held = tt_hold_asked(&rec->hold);
    for (size_t i = 0; i < rec->images.len; i++) {
        struct tt_image *image = rec->images.data[i];
        if (image->kernel && image->alive && image->id && !image->kernel_left)
            read_modules(image, now_ns, held);
    }
    if (held)
        tt_hold_answer(&rec->hold);
}

void tt_kernel_leave(struct tt_recorder *rec, struct tt_image *image)
{
    if (rec->kernel && !image->kernel_left)
        tt_kernel_end(rec->kernel, (pid_t)image->pid, tt_record_tick_at(rec, tt_clock_now()));
    image->kernel_left = true;
}

void tt_kernel_stop(struct tt_recorder *rec)
{
    static const char *const names[] = {
        "units at an unknown stack: the ring of kernel records was full",
        "acquisitions and releases not seen: the ring of kernel records was full",
        "processes not recorded: too many at a time for the kernel's tables",
        "descriptors not followed: the kernel's table was full",
    };
    struct tt_kernel_lost lost;
    if (!rec->kernel)
        return;
    tt_kernel_lost(rec->kernel, &lost);
    const uint64_t counts[] = {lost.stacks, lost.events, lost.images, lost.units};
    for (size_t i = 0; rec->writer && i < sizeof names / sizeof *names; i++)
        if (counts[i])
            tt_session_put_dropped(rec->writer,
                                   &(struct tt_session_dropped){0, names[i], counts[i]});
    tt_kernel_close(rec->kernel);
    rec->kernel = NULL;
    tt_hold_end(&rec->hold);
}
