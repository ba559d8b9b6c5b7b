/* SPDX-License-Identifier: Apache-2.0 */
/* Recording with nothing inside the process (src/kernel): each memory image has a tape that this
 * process writes itself, and is an image like any other from then on. What is different: there are
 * no heap blocks, nothing is patched or copied, exec is told by the kernel, and the tape must be
 * brought up to date before it is read. Where eBPF is missing or forbidden that is said once, and
 * what /proc tells is still recorded. Start: tt_kernel_start. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "record/internal.h"

#define RECONCILE_NS TT_SECOND

static void probe_image(struct tt_recorder *rec, struct tt_image *image);

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
    probe_image(rec, image);
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

/* ---- declared handles and operations ---- */

struct place {
    const char *path;
    uint64_t offset;
};

/* The place of a function in the files of these modules; false: it is in none. */
static bool place_of(const struct tt_recorder *rec, const struct tt_session_module *modules,
                     size_t n, const char *name, struct tt_record_function *at, struct place *out)
{
    struct tt_error err = {0};
    *at = (struct tt_record_function){0};
    if (rec->options->resolve(rec->options->arg, modules, n, name, at, &err))
        return false;
    for (size_t m = 0; m < n; m++)
        if (at->entry >= modules[m].start && at->entry < modules[m].end) {
            out->path = modules[m].path;
            out->offset = at->entry - modules[m].start + modules[m].file_offset;
            return true;
        }
    return false;
}

const char *tt_kernel_why_not(int code)
{
    return code == -EOPNOTSUPP ? "a probe cannot tell what it does"
           : code == -ENOSPC   ? "too many probes"
           : code == -EINVAL   ? "the kernel puts no probe there (needs Linux 6.6)"
           : code == -EEXIST   ? "its code was changed by another tool (an agent's jump)"
           : code == -ESRCH    ? "the process has ended"
                               : strerror(-code);
}

/* Why a function may not be probed in a process. */
static int refuses(const struct place *place, pid_t pid, const struct tt_record_function *at,
                   bool runs)
{
    return runs ? tt_kernel_call_changed(pid, at->entry, place->path, -1, place->offset, at->size)
                : 0;
}

/* Probes what of the declared handles is found in these modules and is not in `done` yet. Returns
 * what was found. */
static uint64_t probe(struct tt_recorder *rec, const struct tt_session_module *modules, size_t n,
                      pid_t pid, uint64_t done, bool runs)
{
    const struct tt_record_options *o = rec->options;
    uint64_t found = 0, bit = 1;
    for (size_t i = 0; i < o->n_handles; i++)
        for (size_t k = 0; k < o->handles[i].functions.len; k++, bit <<= 1) {
            const struct tt_handle_function *f = &o->handles[i].functions.data[k];
            struct tt_record_function at;
            struct place place;
            struct tt_kernel_function function = {
                .space = (uint8_t)(TT_SPACE_DECLARED + i),
                .what = f->what,
                .from = f->from,
                .valid = f->valid,
                .flags = f->flags,
                .width = f->width,
            };
            if (!bit || (done & bit) || !place_of(rec, modules, n, f->function, &at, &place))
                continue;
            function.offset = place.offset;
            int code = refuses(&place, pid, &at, runs);
            if (!code && tt_kernel_declare(rec->kernel, pid, place.path, -1, &function, 1))
                code = function.result;
            char line[320];
            snprintf(line, sizeof line, "handle %s (%s) is not watched: %s", o->handles[i].name,
                     f->function, tt_kernel_why_not(code));
            if (code && code != -ESRCH)
                tt_loop_say(rec, line);
            found |= bit; /* to be said once */
        }
    return found;
}

/* Counts the declared operations that are found in these modules; of an image, if there is one yet,
 * in its list too, the i-th at i. */
static void count(struct tt_recorder *rec, const struct tt_session_module *modules, size_t n,
                  pid_t pid, struct tt_image *image)
{
    const struct tt_record_options *o = rec->options;
    for (size_t i = 0; i < o->n_operations; i++) {
        struct tt_operation *op = image ? &image->operations.data[i] : NULL;
        struct place f;
        struct tt_record_function at;
        if ((op && op->address) || !place_of(rec, modules, n, o->operations[i].function, &at, &f))
            continue;
        int code = refuses(&f, pid, &at, image != NULL);
        if (!code)
            code = tt_kernel_count(rec->kernel, f.path, f.offset, pid, (uint32_t)i);
        if (!op)
            continue;
        op->row_written = false;
        if (code) {
            snprintf(op->source, sizeof op->source, "refused: %s", tt_kernel_why_not(code));
            continue;
        }
        snprintf(op->source, sizeof op->source, "declared");
        op->address = at.entry;
        op->size = at.size;
        op->slot = (int)i;
        op->since_ns = op->patched_ns = tt_clock_now();
        tt_kernel_counted_at(rec->kernel, (pid_t)image->pid, (uint32_t)i, at.entry);
    }
}

/* The declared operations, none of them found yet. False: there is nothing to count. */
static bool list_operations(const struct tt_recorder *rec, struct tt_image *image)
{
    const struct tt_record_options *o = rec->options;
    for (size_t i = image->operations.len; i < o->n_operations; i++) {
        struct tt_operation op = {.slot = -1, .declared = true};
        snprintf(op.name, sizeof op.name, "%s", o->operations[i].name);
        snprintf(op.function, sizeof op.function, "%s", o->operations[i].function);
        snprintf(op.source, sizeof op.source, "refused: no function of that name was seen");
        if (tt_vec_push(&image->operations, op))
            return false;
    }
    image->declared = true;
    return o->n_operations > 0;
}

/* The executable segments of a program, as if it were mapped somewhere: only offsets matter, but
 * one that says where it lies is taken at its word. */
static size_t segments_of(const char *path, struct tt_session_module *out, size_t most)
{
    Elf64_Ehdr head;
    Elf64_Phdr p;
    struct stat st;
    size_t n = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0 && fstat(fd, &st) == 0 && pread(fd, &head, sizeof head, 0) == sizeof head &&
        memcmp(head.e_ident, ELFMAG, SELFMAG) == 0 && head.e_ident[EI_CLASS] == ELFCLASS64)
        for (unsigned i = 0; i < head.e_phnum && n < most; i++) {
            if (pread(fd, &p, sizeof p, (off_t)(head.e_phoff + i * sizeof p)) != sizeof p)
                break;
            uint64_t base = head.e_type == ET_EXEC ? 0 : 1ULL << 32;
            uint64_t in_page = p.p_offset & 4095, start = base + p.p_vaddr - in_page;
            if (p.p_type == PT_LOAD && (p.p_flags & PF_X))
                out[n++] = (struct tt_session_module){.start = start,
                                                      .end = start + in_page + p.p_filesz,
                                                      .file_offset = p.p_offset - in_page,
                                                      .path = path,
                                                      .build_id = "",
                                                      .file_size = (uint64_t)st.st_size,
                                                      .mtime = st.st_mtime};
        }
    if (fd >= 0)
        close(fd);
    return n;
}

void tt_kernel_probe(struct tt_recorder *rec, pid_t pid, const char *path)
{
    struct tt_session_module modules[4];
    char real[PATH_MAX];
    if (!rec->kernel || !realpath(path, real))
        return;
    tt_kernel_call_ahead(rec, pid, real);
    if (!(rec->options->n_handles || rec->options->n_operations) || !rec->options->resolve)
        return;
    size_t n = segments_of(real, modules, sizeof modules / sizeof *modules);
    if (n) {
        probe(rec, modules, n, pid, 0, false);
        count(rec, modules, n, pid, NULL);
    }
}

static void probe_image(struct tt_recorder *rec, struct tt_image *image)
{
    size_t n;
    bool counts = list_operations(rec, image);
    struct tt_session_module *modules = rec->kernel ? tt_modules_now(image, &n) : NULL;
    tt_kernel_call_again(image);
    if (modules && rec->options->resolve) {
        image->handles_probed |=
            probe(rec, modules, n, (pid_t)image->pid, image->handles_probed, true);
        if (counts)
            count(rec, modules, n, (pid_t)image->pid, image);
    }
    free(modules);
}

/* At once when code came or went: it may be over soon. */
static void read_modules(struct tt_recorder *rec, struct tt_image *image, uint64_t now_ns,
                         bool again)
{
    uint64_t epoch;
    if (pread(image->tape.fd, &epoch, sizeof epoch, offsetof(struct tt_tape_head, module_epoch)) !=
            sizeof epoch ||
        (epoch == image->modules_epoch && !again))
        return;
    image->modules_epoch = epoch;
    tt_modules_read(image, now_ns);
    probe_image(rec, image);
}

/* Records that come meanwhile may bring images, and end them. True: it took a while. */
static bool watch_libraries(struct tt_recorder *rec)
{
    bool took = false;
    for (size_t i = 0; i < rec->images.len; i++) {
        struct tt_image *image = rec->images.data[i];
        while (image->kernel && image->alive && image->id && !image->kernel_left &&
               tt_kernel_call_watch(rec, image)) {
            tt_kernel_consume(rec->kernel);
            took = true;
        }
    }
    return took;
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
            read_modules(rec, image, now_ns, held);
    }
    if (watch_libraries(rec)) /* what is compared with /proc now must not be older */
        tt_kernel_visit(rec->kernel, tt_record_tick_at(rec, tt_clock_now()), false);
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
        "owners not told apart: the kernel's table was full",
    };
    struct tt_kernel_lost lost;
    if (!rec->kernel)
        return;
    tt_kernel_lost(rec->kernel, &lost);
    const uint64_t counts[] = {lost.stacks, lost.events, lost.images, lost.units, lost.owners};
    for (size_t i = 0; rec->writer && i < sizeof names / sizeof *names; i++)
        if (counts[i])
            tt_session_put_dropped(rec->writer,
                                   &(struct tt_session_dropped){0, names[i], counts[i]});
    tt_kernel_close(rec->kernel);
    rec->kernel = NULL;
    tt_hold_end(&rec->hold);
}
