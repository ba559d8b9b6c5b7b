/* SPDX-License-Identifier: Apache-2.0 */
/* Watches: which functions of the target are watched for what they acquire and release. Those of
 * the C library come from the resource table and are placed before the program's main, or at
 * attaching; declared ones as soon as their names are found, and again when libraries came. What
 * cannot be watched stays in the list with the reason. Start: tt_watch_visit. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "record/internal.h"

#define AGAIN_NS (2 * TT_SECOND)
#define TRIES_MOST 40 /* a thread may stand in the way that often */
#define SAY_NS TT_SECOND
#define AT_ONCE 64u

/* ---- the list ---- */

static void refuse(struct tt_watched *w, const char *why)
{
    w->index = -1;
    snprintf(w->source, sizeof w->source, "refused: %.140s", why);
    w->row_written = false;
}

static bool listed(const struct tt_image *image, uint64_t address)
{
    for (size_t i = 0; i < image->watched.len; i++)
        if (image->watched.data[i].address == address)
            return true;
    return false;
}

/* Closing releases descriptors of whatever kind: needed by all that live in that space. */
static bool is_chosen(const struct tt_recorder *rec, const struct tt_resource_watch *row,
                      uint8_t kind)
{
    size_t n;
    const struct tt_resource *const *kinds = tt_resources(&n);
    uint32_t chosen = rec->options->resources;
    bool in_space = false, itself = false;
    for (size_t i = 0; i < n; i++) {
        if (!(chosen & 1u << i))
            continue;
        itself |= kinds[i]->kind == kind;
        in_space |= kinds[i]->space == TT_SPACE_FD || kinds[i]->space == TT_SPACE_PORT ||
                    kinds[i]->space == TT_SPACE_STREAM || kinds[i]->space == TT_SPACE_DIRECTORY;
    }
    if (row->what == TT_WATCH_OWNER || row->what == TT_WATCH_IDLE || row->what == TT_WATCH_FROM)
        return chosen != 0 || rec->options->n_handles != 0;
    bool releases = row->what == TT_WATCH_RELEASE || row->what == TT_WATCH_RANGE ||
                    row->what == TT_WATCH_REPLACE;
    /* which socket a thread works for is known from accept too */
    return itself || (in_space && releases && row->space == TT_SPACE_FD) ||
           (row->what == TT_WATCH_ACCEPT && chosen);
}

static void fill_row(struct tt_tape_watch *row, const struct tt_resource_watch *from, uint8_t kind,
                     uint64_t address)
{
    *row = (struct tt_tape_watch){.address = address,
                                  .what = from->what,
                                  .space = from->space,
                                  .kind = from->what == TT_WATCH_FROM ? TT_KIND_FD : kind,
                                  .from = from->from,
                                  .valid = from->valid,
                                  .size = from->size,
                                  .flags = from->flags,
                                  .width = from->width,
                                  .also = from->also,
                                  .when = from->when,
                                  .values = {from->values[0], from->values[1]}};
}

static void add_library(struct tt_recorder *rec, struct tt_image *image,
                        const struct tt_library *library, const struct tt_session_module *module)
{
    for (size_t i = 0; i < library->functions.len; i++) {
        const struct tt_library_function *f = &library->functions.data[i];
        if (f->offset < module->file_offset ||
            f->offset - module->file_offset >= module->end - module->start ||
            !is_chosen(rec, f->row, f->kind))
            continue;
        uint64_t address = module->start + (f->offset - module->file_offset);
        if (listed(image, address))
            continue;
        struct tt_watched w = {.address = address, .size = f->size, .index = -1, .handle = -1};
        snprintf(w.function, sizeof w.function, "%.*s", (int)strcspn(f->name, " "), f->name);
        snprintf(w.resource, sizeof w.resource, "%s",
                 f->kind ? tt_record_resource(rec, f->kind) : "");
        snprintf(w.source, sizeof w.source, "%s", f->kind ? "kind" : "owner");
        fill_row(&w.row, f->row, f->kind, address);
        if (tt_vec_push(&image->watched, w))
            return;
    }
}

static void list_libraries(struct tt_recorder *rec, struct tt_image *image)
{
    size_t n;
    struct tt_session_module *modules = tt_modules_now(image, &n);
    for (size_t i = 0; modules && i < n; i++) {
        const struct tt_library *library = tt_library_of(rec, image, &modules[i]);
        if (library)
            add_library(rec, image, library, &modules[i]);
    }
    free(modules);
}

static void list_handles(struct tt_recorder *rec, struct tt_image *image)
{
    const struct tt_record_options *o = rec->options;
    for (size_t i = 0; i < o->n_handles; i++)
        for (size_t k = 0; k < o->handles[i].functions.len; k++) {
            const struct tt_handle_function *f = &o->handles[i].functions.data[k];
            struct tt_watched w = {
                .index = -1, .declared = true, .handle = (int64_t)(i << 8 | (k & 0xff))};
            snprintf(w.function, sizeof w.function, "%s", f->function);
            snprintf(w.resource, sizeof w.resource, "%s", o->handles[i].name);
            snprintf(w.source, sizeof w.source, "declared");
            w.row = (struct tt_tape_watch){.what = f->what,
                                           .space = (uint8_t)(TT_SPACE_DECLARED + i),
                                           .kind = (uint8_t)(TT_KIND_DECLARED + i),
                                           .from = f->from,
                                           .valid = f->valid,
                                           .flags = f->flags,
                                           .width = f->width};
            w.throws = !f->nothrow;
            if (tt_vec_push(&image->watched, w))
                return;
        }
}

/* Looks declared functions up; those that are absent are looked for again when modules change. */
static void resolve_handles(struct tt_recorder *rec, struct tt_image *image)
{
    const struct tt_record_options *o = rec->options;
    size_t n;
    if (!o->n_handles || !o->resolve)
        return;
    struct tt_session_module *modules = tt_modules_now(image, &n);
    for (size_t i = 0; modules && i < image->watched.len; i++) {
        struct tt_watched *w = &image->watched.data[i];
        struct tt_record_function found = {0};
        struct tt_error err = {0};
        if (!w->declared || w->address)
            continue;
        if (o->resolve(o->arg, modules, n, w->function, &found, &err) == 0) {
            w->address = w->row.address = found.entry;
            w->size = found.size;
            w->throws = w->throws && found.cplusplus;
            snprintf(w->source, sizeof w->source, "declared");
            w->row_written = false;
        } else if (strncmp(w->source, "refused", 7) != 0) {
            refuse(w, err.text);
        }
    }
    free(modules);
}

static void say_refused(struct tt_recorder *rec, const struct tt_image *image)
{
    for (size_t i = 0; i < image->watched.len; i++) {
        const struct tt_watched *w = &image->watched.data[i];
        int64_t handle = w->handle >> 8;
        if (!w->declared || w->index >= 0 || strncmp(w->source, "refused: ", 9) != 0 ||
            (w->address && w->tries < TRIES_MOST) || handle < 0 || handle >= 64 ||
            (rec->handles_said & 1ULL << handle))
            continue;
        char line[480];
        snprintf(line, sizeof line, "handle %s (%s) is not watched in pid %d: %s", w->resource,
                 w->function, (int)image->pid, w->source + 9);
        rec->handles_said |= 1ULL << handle;
        tt_loop_say(rec, line);
    }
}

/* ---- placing ---- */

/* Another moment may do. */
static bool passes(int code)
{
    return code == -EAGAIN || code == -ETIMEDOUT;
}

static bool waiting(const struct tt_watched *w)
{
    return w->index < 0 && w->address && w->tries < TRIES_MOST;
}

static bool acquires(const struct tt_watched *w)
{
    switch (w->row.what) {
    case TT_WATCH_ACQUIRE:
    case TT_WATCH_REPLACE:
    case TT_WATCH_MAP:
    case TT_WATCH_PASSED:
    case TT_WATCH_BIND:
    case TT_WATCH_THREAD:
    case TT_WATCH_FORK:
    case TT_WATCH_VFORK:
    case TT_WATCH_SPAWN:
    case TT_WATCH_ACCEPT:
        return true;
    default:
        return false;
    }
}

static bool releases(const struct tt_watched *w)
{
    return w->row.what == TT_WATCH_RELEASE || w->row.what == TT_WATCH_UNMAP ||
           w->row.what == TT_WATCH_WAIT;
}

/* Whether what is acquired is seen to be released: of a kind of the C library by the first function
 * that releases it, of a declared handle by all that were declared to (there may be none).
 * `placed`: they are watched; else they could be, as far as is known. */
static bool is_released(const struct tt_image *image, const struct tt_watched *w, bool placed)
{
    uint8_t space = w->row.space == TT_SPACE_PORT ? TT_SPACE_FD : w->row.space;
    for (size_t i = 0; i < image->watched.len; i++) {
        const struct tt_watched *other = &image->watched.data[i];
        if (other->row.space != space || !releases(other))
            continue;
        bool there = placed ? other->index >= 0 : other->index >= 0 || waiting(other);
        if (!w->declared || !there)
            return there;
    }
    return w->declared;
}

/* Rows of what acquires count while what releases is watched, and only then. */
static void settle(struct tt_image *image)
{
    for (size_t i = 0; i < image->watched.len; i++) {
        struct tt_watched *w = &image->watched.data[i];
        if (w->index < 0 || !acquires(w))
            continue;
        bool silent = !is_released(image, w, true);
        uint8_t what = silent ? TT_WATCH_NONE : w->row.what;
        off_t at = (off_t)(TT_TAPE_OFF_WATCHES + (uint64_t)w->index * sizeof w->row +
                           offsetof(struct tt_tape_watch, what));
        if (silent == w->silent || pwrite(image->tape.fd, &what, sizeof what, at) != sizeof what)
            continue;
        w->silent = silent;
        w->row_written = false;
        snprintf(w->source, sizeof w->source, "%s",
                 silent        ? "refused: what releases it cannot be watched"
                 : w->declared ? "declared"
                               : "kind");
    }
}

/* Places all that can be, in one stop of the target. */
static void place(struct tt_image *image)
{
    struct tt_inject_watch *watches = calloc(image->watched.len, sizeof *watches);
    size_t *which = calloc(image->watched.len, sizeof *which), n = 0;
    struct tt_error err = {0};
    for (size_t i = 0; watches && which && i < image->watched.len; i++) {
        struct tt_watched *w = &image->watched.data[i];
        if (!waiting(w) || image->n_watched + n >= TT_TAPE_WATCHES)
            continue;
        if (acquires(w) && !is_released(image, w, false)) {
            if (strncmp(w->source, "refused", 7) != 0)
                refuse(w, "what releases it cannot be watched");
            continue;
        }
        which[n] = i;
        watches[n++] = (struct tt_inject_watch){
            .row = w->row, .size = w->size, .throws = w->throws, .index = -1};
    }
    int code = n ? tt_inject_watch((pid_t)image->pid, image->pads, 2, image->tape.fd, watches, n,
                                   NULL, &err)
                 : 0;
    for (size_t i = 0; i < n; i++) {
        struct tt_watched *w = &image->watched.data[which[i]];
        int result = code ? code : watches[i].result;
        if (result == 0) {
            w->row = watches[i].row;
            w->index = watches[i].index;
            image->n_watched++;
            snprintf(w->source, sizeof w->source, "%s",
                     w->declared    ? "declared"
                     : *w->resource ? "kind"
                                    : "owner");
            w->row_written = false;
        } else if (passes(result) && ++w->tries < TRIES_MOST) {
            refuse(w, result == -EAGAIN ? "a thread stands in its way; trying again"
                                        : "its threads could not be stopped; trying again");
        } else {
            refuse(w, code ? err.text : watches[i].why);
            w->tries = TRIES_MOST;
        }
    }
    settle(image);
    free(watches);
    free(which);
}

void tt_watch_visit(struct tt_recorder *rec, struct tt_image *image, uint64_t now_ns)
{
    const struct tt_record_options *o = rec->options;
    if (!image->id || !image->alive || !image->visible || !image->map_base ||
        image->tape.head.state != TT_STATE_RUNNING || !image->tape.head.watch_entry ||
        image->kernel || (!o->resources && !o->n_handles))
        return;
    bool fresh = !image->watches_listed;
    if (fresh) {
        image->watches_listed = true;
        list_libraries(rec, image);
        list_handles(rec, image);
    }
    tt_probe_list(rec, image);
    if (fresh || (now_ns >= image->watches_at && image->modules_read_ns >= image->watches_at)) {
        image->watches_at = now_ns + AGAIN_NS;
        resolve_handles(rec, image);
    }
    bool due = false;
    for (size_t i = 0; i < image->watched.len && !due; i++)
        due = waiting(&image->watched.data[i]);
    if (due)
        place(image);
    tt_probe_switch(image, true);
    if (now_ns >= image->opened_ns + SAY_NS)
        say_refused(rec, image);
}

/* ---- while it runs ---- */

void tt_watch_read(struct tt_image *image)
{
    static struct tt_tape_watch rows[TT_TAPE_WATCHES];
    if (!image->n_watched ||
        pread(image->tape.fd, rows, sizeof rows, TT_TAPE_OFF_WATCHES) != sizeof rows)
        return;
    for (size_t i = 0; i < image->watched.len; i++) {
        struct tt_watched *w = &image->watched.data[i];
        if (w->index < 0 || (unsigned)w->index >= TT_TAPE_WATCHES)
            continue;
        uint64_t calls = rows[w->index].calls;
        if (calls <= w->calls || calls > 1ULL << 60)
            continue;
        /* a library came: what was declared may be in it */
        if (w->row.space == TT_SPACE_LIBRARY && w->row.what == TT_WATCH_ACQUIRE)
            image->modules_stale = true;
        w->calls = calls;
    }
}

/* ---- forked children ---- */

/* Whether the entry leads into one of the image's pads, as its parent's does. */
static bool leads_into_pad(const struct tt_image *image, uint64_t address)
{
    char path[64];
    uint8_t code[5];
    int32_t distance;
    snprintf(path, sizeof path, "/proc/%d/mem", (int)image->pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : pread(fd, code, sizeof code, (off_t)address);
    if (fd >= 0)
        close(fd);
    if (n != sizeof code || code[0] != 0xe9)
        return false;
    memcpy(&distance, code + 1, 4);
    uint64_t to = address + 5 + (uint64_t)(int64_t)distance;
    for (int i = 0; i < 2; i++)
        if (to >= image->pads[i].base && to - image->pads[i].base < image->pads[i].size)
            return true;
    return false;
}

/* The rows of a child's tape are empty, and its stubs pass on until they are not. */
static bool give_row(const struct tt_image *image, const struct tt_watched *w)
{
    struct tt_tape_watch row = w->row, there;
    off_t at = (off_t)(TT_TAPE_OFF_WATCHES + (uint64_t)w->index * sizeof row);
    if (pread(image->tape.fd, &there, sizeof there, at) == sizeof there &&
        there.address == w->address)
        return true;
    if (!image->visible || !leads_into_pad(image, w->address))
        return false;
    row.calls = 0;
    row.address = 0; /* it counts once the address stands there */
    return pwrite(image->tape.fd, &row, sizeof row, at) == sizeof row &&
           pwrite(image->tape.fd, &w->address, sizeof w->address,
                  at + (off_t)offsetof(struct tt_tape_watch, address)) == sizeof w->address;
}

static void take_over(struct tt_image *image, const struct tt_watched *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct tt_watched w = list[i];
        w.calls = w.wrote = 0;
        w.row_written = false;

        if (w.index >= 0 && !give_row(image, &w))
            w.index = -1;
        image->n_watched += w.index >= 0;
        if (tt_vec_push(&image->watched, w))
            return;
    }
    image->watches_listed = true;
}

void tt_watch_inherit(struct tt_recorder *rec, struct tt_image *image)
{
    for (size_t i = 0; i < rec->images.len; i++) {
        const struct tt_image *from = rec->images.data[i];
        if (from != image && from->watched.len &&
            tt_count_descends(image, from->map_base, from->pads)) {
            take_over(image, from->watched.data, from->watched.len);
            return;
        }
    }
    for (size_t i = 0; i < rec->patched.len; i++) {
        const struct tt_patched *from = &rec->patched.data[i];
        if (from->watched.len && tt_count_descends(image, from->map_base, from->pads)) {
            take_over(image, from->watched.data, from->watched.len);
            return;
        }
    }
}
