/* SPDX-License-Identifier: Apache-2.0 */
/* Operations: how often functions of the target are entered, the clock against which losses are
 * stated. Declared ones are looked up by name as soon as the image is known; the others are the
 * functions on the stacks of the sites that grow most, found while it runs. The counting itself is
 * a stub in the target (inject/count.c) that adds to this image's tape, for each thread in its own
 * slot, which tt_tape_read_totals adds up. What cannot be counted
 * stays in the list with the reason. Start: tt_count_visit. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "record/internal.h"

#define SITES_LOOKED_AT 8u
#define FUNCTIONS_PER_SITE 16u
#define GROWTH_LEAST 2u
#define FIRST_NS (2 * TT_SECOND)
#define AGAIN_NS (5 * TT_SECOND)
#define TRIES_MOST 40 /* a thread may stand in the way that often */
#define PATCHED_MOST 256u
#define SAY_NS TT_SECOND /* a shell that starts the program has called exec by then */

/* ---- the list ---- */

static void refuse(struct tt_operation *op, const char *why)
{
    op->slot = -1;
    snprintf(op->source, sizeof op->source,
             op->declared ? "refused: %.140s" : "stack, refused: %.140s", why);
    op->row_written = false;
}

static void accept(struct tt_operation *op)
{
    snprintf(op->source, sizeof op->source, op->declared ? "declared" : "stack");
    op->row_written = false;
}

static struct tt_operation *by_address(struct tt_image *image, uint64_t address)
{
    for (size_t i = 0; i < image->operations.len; i++)
        if (image->operations.data[i].address == address)
            return &image->operations.data[i];
    return NULL;
}

static void set_slot(struct tt_image *image, const struct tt_operation *op)
{
    uint64_t at =
        offsetof(struct tt_tape_head, ops) + (uint64_t)op->slot * sizeof(struct tt_tape_op);
    ssize_t n = pwrite(image->tape.fd, &op->address, 8, (off_t)at);
    (void)n;
}

/* ---- patching ---- */

static bool read_code(const struct tt_image *image, uint64_t address, uint8_t code[8])
{
    char path[64];
    ssize_t n = -1;
    memset(code, 0, 8);
    snprintf(path, sizeof path, "/proc/%d/mem", (int)image->pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        n = pread(fd, code, 8, (off_t)address);
        close(fd);
    }
    if (n != 8)
        memset(code, 0, 8);
    return n == 8;
}

/* Another moment may do: a thread stood in the way, or in a sleep that nothing interrupts. */
static bool passes(int code)
{
    return code == -EAGAIN || code == -ETIMEDOUT;
}

/* Puts stubs before all entries that have an address and no slot yet, in one stop of the target. */
static void patch(struct tt_image *image)
{
    struct tt_inject_entry entries[TT_TAPE_OPS] = {0};
    struct tt_operation *ops[TT_TAPE_OPS];
    size_t n = 0;
    for (size_t i = 0; i < image->operations.len && image->slots + n < TT_TAPE_OPS; i++) {
        struct tt_operation *op = &image->operations.data[i];
        if (op->slot >= 0 || !op->address || op->tries >= TRIES_MOST)
            continue;
        ops[n] = op;
        entries[n].function = op->address;
        entries[n].size = op->size;
        entries[n].counter = image->map_base + offsetof(struct tt_tape_head, ops) +
                             (image->slots + n) * sizeof(struct tt_tape_op) +
                             offsetof(struct tt_tape_op, count);
        entries[n].own = (uint32_t)(offsetof(struct tt_tape_thread, ops) + (image->slots + n) * 8);
        n++;
    }
    if (!n)
        return;
    struct tt_error err = {0};
    const struct tt_inject_states states = {image->tape.head.states, image->tape.head.states_bytes};
    int code = tt_inject_count((pid_t)image->pid, image->pads, 2, &states, entries, n, NULL, &err);
    uint64_t now = tt_clock_now();
    uint32_t taken = 0;
    for (size_t i = 0; i < n; i++) {
        int result = code ? code : entries[i].result;
        if (result == 0) {
            ops[i]->slot = (int)(image->slots + i);
            taken = (uint32_t)i + 1;
            accept(ops[i]);
            ops[i]->since_ns = ops[i]->patched_ns = now;
            read_code(image, ops[i]->address, ops[i]->code);
            set_slot(image, ops[i]);
        } else if (passes(result) && ++ops[i]->tries < TRIES_MOST) {
            refuse(ops[i], result == -EAGAIN ? "a thread stands at its entry; trying again"
                                             : "its threads could not be stopped; trying again");
        } else {
            refuse(ops[i], code ? err.text : entries[i].why);
            ops[i]->tries = TRIES_MOST;
        }
    }
    image->slots += taken; /* a slot before it whose stub was refused stays unused */
}

/* Whether anything is waiting to be patched, or tried again. */
static bool waiting(const struct tt_image *image)
{
    for (size_t i = 0; i < image->operations.len; i++) {
        const struct tt_operation *op = &image->operations.data[i];
        if (op->slot < 0 && op->address && op->tries < TRIES_MOST)
            return true;
    }
    return false;
}

/* ---- what to count ---- */

static void add(struct tt_image *image, const char *name, const char *function, uint64_t address,
                uint64_t size, bool declared)
{
    struct tt_operation op = {.address = address, .size = size, .slot = -1, .declared = declared};
    snprintf(op.name, sizeof op.name, "%s", name);
    snprintf(op.function, sizeof op.function, "%s", function);
    accept(&op);
    int failed = tt_vec_push(&image->operations, op);
    (void)failed;
}

void tt_count_add(struct tt_image *image, const char *name, const char *function, uint64_t address,
                  uint64_t size)
{
    if (!by_address(image, address))
        add(image, name, function, address, size, true);
}

/* Looks declared functions up; those that are absent are looked for again when modules change. */
static void resolve_declared(struct tt_recorder *rec, struct tt_image *image)
{
    const struct tt_record_options *o = rec->options;
    if (!image->declared) {
        for (size_t i = 0; i < o->n_operations; i++)
            add(image, o->operations[i].name, o->operations[i].function, 0, 0, true);
        image->declared = true;
    }
    if (!o->n_operations || !o->resolve)
        return;
    size_t n;
    struct tt_session_module *modules = tt_modules_now(image, &n);
    for (size_t i = 0; modules && i < o->n_operations && i < image->operations.len; i++) {
        struct tt_operation *op = &image->operations.data[i];
        struct tt_record_function found = {0};
        struct tt_error err = {0};
        if (op->address)
            continue;
        if (o->resolve(o->arg, modules, n, op->function, &found, &err) == 0) {
            op->address = found.entry;
            op->size = found.size;
            accept(op);
        } else if (strncmp(op->source, "refused", 7) != 0) {
            refuse(op, err.text);
        }
    }
    free(modules);
}

/* A declared operation that is not counted is said once while it can still be mended. */
static void say_refused(struct tt_recorder *rec, const struct tt_image *image)
{
    for (size_t i = 0; i < image->operations.len && i < 64; i++) {
        const struct tt_operation *op = &image->operations.data[i];
        if (!op->declared || op->slot >= 0 || strncmp(op->source, "refused: ", 9) != 0 ||
            (op->address && op->tries < TRIES_MOST) || (rec->operations_said & 1ULL << i))
            continue;
        char line[480];
        snprintf(line, sizeof line, "operation %s (%s) is not counted in pid %d: %s", op->name,
                 op->function, (int)image->pid, op->source + 9);
        rec->operations_said |= 1ULL << i;
        tt_loop_say(rec, line);
    }
}

static uint64_t growth(const struct tt_site *site)
{
    uint64_t live = site->now.births > site->now.deaths ? site->now.births - site->now.deaths : 0;
    return live > site->base_live ? live - site->base_live : 0;
}

/* The functions on the stack of one site. */
static void add_site(struct tt_recorder *rec, struct tt_image *image, struct tt_site *site,
                     const struct tt_session_module *modules, size_t n_modules)
{
    uint64_t frames[TT_TAPE_DEPTH];
    struct tt_record_function found[FUNCTIONS_PER_SITE];
    site->operations = true;
    size_t n = tt_tape_read_stack(&image->tape, site, frames);
    if (!n)
        return;
    n = rec->options->entries(rec->options->arg, modules, n_modules, frames, n, found,
                              FUNCTIONS_PER_SITE);
    for (size_t i = 0; i < n && i < FUNCTIONS_PER_SITE; i++) {
        if (!found[i].entry || by_address(image, found[i].entry) ||
            image->operations.len >= TT_TAPE_OPS)
            continue;
        char name[sizeof found[i].name + 2];
        snprintf(name, sizeof name, "%.*s()", (int)sizeof found[i].name - 1, found[i].name);
        add(image, name, found[i].name, found[i].entry, found[i].size, false);
    }
}

static void find_on_stacks(struct tt_recorder *rec, struct tt_image *image)
{
    uint32_t best[SITES_LOOKED_AT];
    size_t n_best = 0, n_modules;
    for (uint32_t id = 1; id < image->tape.sites.len; id++) {
        const struct tt_site *site = &image->tape.sites.data[id];
        uint64_t grown = growth(site);
        if (grown < GROWTH_LEAST || !site->ready || (site->flags & TT_SITE_RELEASE))
            continue;
        /* insertion into a short list, greatest growth first */
        size_t at = n_best;
        while (at > 0 && growth(&image->tape.sites.data[best[at - 1]]) < grown)
            at--;
        if (at == SITES_LOOKED_AT)
            continue;
        if (n_best < SITES_LOOKED_AT)
            n_best++;
        memmove(&best[at + 1], &best[at], (n_best - 1 - at) * sizeof *best);
        best[at] = id;
    }
    struct tt_session_module *modules = n_best ? tt_modules_now(image, &n_modules) : NULL;
    for (size_t i = 0; modules && i < n_best; i++)
        if (!image->tape.sites.data[best[i]].operations)
            add_site(rec, image, &image->tape.sites.data[best[i]], modules, n_modules);
    free(modules);
}

void tt_count_visit(struct tt_recorder *rec, struct tt_image *image, uint64_t now_ns)
{
    const struct tt_record_options *o = rec->options;
    image->counted = true;
    if (!image->id || !image->alive || !image->visible || !image->map_base ||
        image->tape.head.state != TT_STATE_RUNNING)
        return;
    if (!image->declared || image->modules_read_ns >= image->operations_at)
        resolve_declared(rec, image);
    if (now_ns >= image->operations_at) {
        image->operations_at = now_ns + AGAIN_NS;
        if (now_ns < image->opened_ns + FIRST_NS)
            image->operations_at = image->opened_ns + FIRST_NS;
        else if (o->entries && !o->no_stack_operations)
            find_on_stacks(rec, image);
    }
    if (waiting(image))
        patch(image);
    if (now_ns >= image->opened_ns + SAY_NS)
        say_refused(rec, image);
}

void tt_count_read(struct tt_image *image)
{
    for (size_t i = 0; i < image->operations.len; i++) {
        struct tt_operation *op = &image->operations.data[i];
        if (op->slot < 0)
            continue;
        uint64_t seen = image->tape.ops[op->slot];
        if (seen > op->count && seen <= 1ULL << 60)
            op->count = seen;
    }
}

/* ---- forked children ---- */

/* Its tape lies, and its pads lie, where those of an image lie that was patched. A process that
 * ended before it could be looked at shows where its pads were; they are placed at random. */
bool tt_count_descends(const struct tt_image *image, uint64_t map_base,
                       const struct tt_inject_pad *pads)
{
    return (pads[0].base || pads[1].base) && pads[0].base == image->pads[0].base &&
           pads[1].base == image->pads[1].base && (!image->map_base || map_base == image->map_base);
}

/* Whether a process was forked after its entry was patched: it is asked, or, gone, its dates. */
static bool inherited(const struct tt_image *image, const struct tt_operation *op)
{
    uint8_t code[8];
    if (image->visible && image->map_base && read_code(image, op->address, code))
        return memcmp(code, op->code, 8) == 0;
    return image->row.started_ns >= op->patched_ns || image->tape.ops[op->slot];
}

static void take_over(struct tt_image *image, const struct tt_operation *ops, size_t n,
                      const struct tt_inject_pad *pads)
{
    for (int i = 0; i < 2; i++)
        image->pads[i].used = pads[i].used;
    image->declared = true;
    for (size_t i = 0; i < n; i++) {
        struct tt_operation op = ops[i];
        op.count = op.wrote = 0;
        op.wrote_epoch = 0;
        op.row_written = false;
        if (op.slot >= 0) {
            op.since_ns = image->row.started_ns;
            if ((uint32_t)op.slot >= image->slots)
                image->slots = (uint32_t)op.slot + 1;
            if (!inherited(image, &op))
                op.slot = -1;
        }
        if (tt_vec_push(&image->operations, op))
            return;
        if (op.slot >= 0)
            set_slot(image, &op);
    }
}

void tt_count_inherit(struct tt_recorder *rec, struct tt_image *image)
{
    for (size_t i = 0; i < rec->images.len; i++) {
        const struct tt_image *from = rec->images.data[i];
        if (from != image && from->slots && tt_count_descends(image, from->map_base, from->pads)) {
            take_over(image, from->operations.data, from->operations.len, from->pads);
            return;
        }
    }
    for (size_t i = 0; i < rec->patched.len; i++) {
        const struct tt_patched *from = &rec->patched.data[i];
        if (tt_count_descends(image, from->map_base, from->pads)) {
            take_over(image, from->operations.data, from->operations.len, from->pads);
            return;
        }
    }
}

void tt_count_leave(struct tt_recorder *rec, struct tt_image *image)
{
    if (!image->row.state || strcmp(image->row.state, "exec") != 0)
        say_refused(rec, image);
    if (rec->options->follow && (image->slots || image->n_watched) &&
        rec->patched.len < PATCHED_MOST) {
        struct tt_patched patched = {.map_base = image->map_base,
                                     .pads = {image->pads[0], image->pads[1]}};
        patched.operations.data = image->operations.data;
        patched.operations.len = image->operations.len;
        patched.operations.cap = image->operations.cap;
        patched.watched.data = image->watched.data;
        patched.watched.len = image->watched.len;
        patched.watched.cap = image->watched.cap;
        if (tt_vec_push(&rec->patched, patched) == 0)
            return;
    }
    tt_vec_free(&image->operations);
    tt_vec_free(&image->watched);
}
