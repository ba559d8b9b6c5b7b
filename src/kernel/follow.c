/* SPDX-License-Identifier: Apache-2.0 */
/* What the records mean. Each belongs to the image that has its slot. A fork with following, and
 * every exec, begins an image: the kernel side has given it a slot before its first system call, so
 * nothing is missed. Start: take, tt_kernel_visit. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/internal.h"

/* ---- images ---- */

static void free_image(struct tt_kernel *kernel, struct tt_kernel_image *image)
{
    for (size_t i = 0; i < image->links.len; i++) {
        kernel->local[image->links.data[i].global] = 0;
        tt_vec_push(&kernel->free_sites, image->links.data[i].global);
    }
    tt_kernel_forget_known(kernel, image->slot, 0, UINT64_MAX);
    tt_kernel_owners_clear(kernel, image);
    kernel->image[image->slot] = NULL;
    tt_kernel_tape_free(&image->tape);
    tt_kernel_unwind_free(image->unwind);
    tt_vec_free(&image->links);
    tt_map_free(&image->link_at);
    tt_map_free(&image->doubt);
    tt_map_free(&image->old);
    tt_vec_free(&image->far);
    tt_vec_free(&image->spans);
    tt_vec_free(&image->owed);
    tt_vec_free(&image->children);
    free(image->fds);
    free(image);
}

/* A slot is nobody's any more. */
static void free_slot(struct tt_kernel *kernel, uint32_t slot)
{
    if (kernel->image[slot])
        free_image(kernel, kernel->image[slot]);
    tt_kernel_fds_clear(kernel, slot);
    tt_kernel_slot_give(&kernel->load, slot);
}

/* path: of the program, in case /proc cannot tell any more; NULL: not known. */
static void make_image(struct tt_kernel *kernel, uint32_t slot, pid_t pid, const char *path)
{
    struct tt_kernel_image *image = calloc(1, sizeof *image);
    int fd = -1;
    if (image) {
        image->pid = pid;
        image->slot = slot;
        image->fds = calloc(TT_KERNEL_FDS, sizeof *image->fds);
        image->unwind = tt_kernel_unwind_new(kernel->files, pid);
        kernel->image[slot] = image;
    }
    if (!image || !image->fds || !image->unwind || tt_kernel_tape_make(&image->tape, pid, &fd)) {
        kernel->shared->lost_slots++;
        if (image)
            free_image(kernel, image);
        return;
    }
    if (path && !*image->tape.head->exe)
        snprintf(image->tape.head->exe, sizeof image->tape.head->exe, "%.*s",
                 (int)TT_KERNEL_PATH - 1, path);
    for (unsigned i = 0; i < 2; i++) {
        enum tt_kernel_kind kind = i ? TT_KERNEL_SOCKET : TT_KERNEL_FD;
        uint32_t site = tt_kernel_tape_site(&image->tape, tt_kernel_kind(kind), NULL, 0, true);
        image->unknown[i] = tt_kernel_number(kernel, image, site, kind);
        kernel->shared->slot[slot].unknown[i] = image->unknown[i];
    }
    tt_kernel_fds_reconcile(kernel, image);
    kernel->options.arrived(kernel->options.arg, pid, fd);
}

/* ---- records ---- */

static void opened(struct tt_kernel *kernel, struct tt_kernel_image *image,
                   const struct tt_kernel_event *e)
{
    uint32_t number = 0;
    tt_kernel_site(kernel, image, e, &number);
    if (!number)
        number = image->unknown[e->kind == TT_KERNEL_SOCKET];
    if (!number)
        return;
    struct tt_kernel_count *count = &kernel->shared->count[number];
    __atomic_fetch_add(&count->births, e->n, __ATOMIC_RELAXED);
    for (uint32_t i = 0; i < e->n && i < 2; i++) {
        uint64_t pending = TT_KERNEL_ENTRY(TT_KERNEL_PENDING, e->serial + i, e->tick),
                 entry = TT_KERNEL_ENTRY(number, e->owner, e->tick);
        /* closed meanwhile: the kernel side left the counting to us */
        if (!tt_kernel_fds_name(kernel, e->slot, (uint32_t)e->value[i], pending, entry))
            __atomic_fetch_add(
                &count->deaths[tt_tape_bin((kernel->shared->tick - e->tick) & TT_TAPE_TICK_MAX)], 1,
                __ATOMIC_RELAXED);
    }
}

static void acquired(struct tt_kernel *kernel, struct tt_kernel_image *image,
                     const struct tt_kernel_event *e)
{
    uint32_t number, site = tt_kernel_site(kernel, image, e, &number);
    uint32_t space = tt_kernel_space(e->kind);
    struct tt_kernel_tape *tape = &image->tape;
    if (site == TT_KERNEL_IGNORE)
        return;
    bool ipc = e->kind == TT_KERNEL_SHM || e->kind == TT_KERNEL_SEM || e->kind == TT_KERNEL_MSG;
    struct tt_tape_held *held = tt_kernel_tape_find(tape, space, e->value[0]);
    if (held && (ipc || e->kind == TT_KERNEL_PORT)) /* the same object again */
        return;
    if (held) {
        tt_kernel_died(image, held, e->tick);
        tape->head->dropped[TT_DROP_UNSEEN]++;
    }
    tt_kernel_tape_birth(tape, site, 1, 1);
    held = tt_kernel_tape_put(tape, space, e->value[0], site, e->tick, 1);
    if (held) {
        held->tid = e->tid;
        held->owner = tt_kernel_owner(kernel, image, e->owner);
        if (e->kind == TT_KERNEL_PORT)
            held->also = (int32_t)e->value[1];
    }
    if (e->kind == TT_KERNEL_CHILD)
        tt_vec_push(&image->children, (uint32_t)e->value[0]);
}

static void released(struct tt_kernel_image *image, uint32_t space, uint64_t value, uint32_t tick)
{
    struct tt_tape_held *held = tt_kernel_tape_find(&image->tape, space, value);
    if (!held) { /* threads end that pthread_create tells of, too */
        image->tape.head->dropped[TT_DROP_NOT_HELD] += space != TT_SPACE_THREAD;
        return;
    }
    tt_kernel_died(image, held, tick);
    tt_kernel_tape_take(held);
}

/* Code came to an interval, or went. */
static void code_changed(struct tt_kernel *kernel, struct tt_kernel_image *image, uint64_t start,
                         uint64_t end)
{
    tt_kernel_forget_known(kernel, image->slot, start, end);
    image->tape.head->module_epoch++;
}

static void mapped(struct tt_kernel *kernel, struct tt_kernel_image *image,
                   const struct tt_kernel_event *e)
{
    uint64_t start = e->value[0], end = start + ((e->value[1] + 4095) & ~4095ULL);
    uint32_t number, site;
    switch (e->what) {
    case TT_KERNEL_UNMAP:
        if (!e->value[1]) /* shmdt */
            end = tt_kernel_spans_end(image, start);
        tt_kernel_spans_cut(image, start, end, e->tick);
        if (tt_kernel_unwind_gone(image->unwind, start, end))
            code_changed(kernel, image, start, end);
        return;
    case TT_KERNEL_BRK:
        /* the heap is one mapping, however often it grows */
        if (image->brk && image->brk < start && image->heap &&
            tt_kernel_spans_grow(image, image->brk, start)) {
            image->brk = start;
            return;
        }
        if (image->brk && image->brk < start) {
            site = tt_kernel_site(kernel, image, e, &number);
            image->heap = site != TT_KERNEL_IGNORE;
            const struct tt_kernel_span span = {.start = image->brk,
                                                .end = start,
                                                .site = site,
                                                .tick = e->tick,
                                                .owner = tt_kernel_owner(kernel, image, e->owner)};
            if (image->heap)
                tt_kernel_spans_add(image, &span, true);
        } else if (start < image->brk) {
            tt_kernel_spans_cut(image, start, image->brk, e->tick);
        }
        image->brk = start;
        return;
    case TT_KERNEL_PROTECT:
    case TT_KERNEL_CODE:
        tt_kernel_unwind_code(image->unwind, start, end);
        code_changed(kernel, image, start, end);
        if (e->what == TT_KERNEL_PROTECT)
            return;
        break;
    default:
        if (e->what == TT_KERNEL_MAP && e->value[2] &&
            tt_kernel_unwind_gone(image->unwind, start, end))
            code_changed(kernel, image, start, end);
        break;
    }
    site = tt_kernel_site(kernel, image, e, &number);
    if (site == TT_KERNEL_IGNORE)
        return;
    if (!e->value[1]) /* shmat */
        end = tt_kernel_unwind_end(image->unwind, start);
    const struct tt_kernel_span span = {.start = start,
                                        .end = end,
                                        .site = site,
                                        .tick = e->tick,
                                        .owner = tt_kernel_owner(kernel, image, e->owner)};
    if (e->what == TT_KERNEL_REMAP) {
        const uint64_t to[2] = {start, end};
        const uint64_t from[2] = {e->value[2], e->value[2] + ((e->value[3] + 4095) & ~4095ULL)};
        tt_kernel_spans_move(image, to, from, &span);
    } else {
        tt_kernel_spans_add(image, &span, e->value[2] != 0);
    }
}

static void flush(struct tt_kernel *kernel, struct tt_kernel_image *image);

static void executed(struct tt_kernel *kernel, const struct tt_kernel_exec *exec)
{
    const struct tt_kernel_event *e = &exec->event;
    uint32_t before = (uint32_t)e->value[1] % TT_KERNEL_SLOTS;
    struct tt_kernel_image *old = kernel->image[before];
    if (old) {
        flush(kernel, old);
        tt_kernel_owners_sync(kernel);
        kernel->options.replaced(kernel->options.arg, old->pid);
    }
    free_slot(kernel, before);
    /* A link puts no breakpoints into a program that another than the first thread began, and yet
     * hears those of a new link: the old ones go first, however long that takes. */
    if (e->value[2]) {
        tt_kernel_probes_leave(kernel, (pid_t)e->value[0]);
        tt_kernel_probes_close(kernel);
    }
    make_image(kernel, e->slot, (pid_t)e->value[0], exec->path);
}

static int take(void *arg, void *data, size_t n)
{
    struct tt_kernel *kernel = arg;
    const struct tt_kernel_event *e = data;
    if (n < sizeof *e || e->slot >= TT_KERNEL_SLOTS || !tt_kernel_kind_known(e->kind) ||
        (!e->site && e->ip && n < sizeof(struct tt_kernel_raw) + (size_t)e->pages * 4096))
        return 0;
    if (e->what == TT_KERNEL_FORK) {
        make_image(kernel, e->slot, (pid_t)e->value[0], NULL);
        return 0;
    }
    if (e->what == TT_KERNEL_EXEC) {
        if (n >= sizeof(struct tt_kernel_exec))
            executed(kernel, data);
        return 0;
    }
    struct tt_kernel_image *image = kernel->image[e->slot];
    if (!image) /* of a process that is not recorded yet, or not any more */
        return 0;
    if (e->kind >= TT_KERNEL_CALLS && e->what == TT_KERNEL_ACQUIRE)
        tt_kernel_call_acquired(kernel, image, e);
    else if (e->kind >= TT_KERNEL_CALLS && e->what == TT_KERNEL_RELEASE)
        tt_kernel_call_released(image, e);
    else if (e->what == TT_KERNEL_OPEN)
        opened(kernel, image, e);
    else if (e->what == TT_KERNEL_ACQUIRE)
        acquired(kernel, image, e);
    else if (e->what == TT_KERNEL_RELEASE)
        released(image, tt_kernel_space(e->kind), e->value[0], e->tick);
    else
        mapped(kernel, image, e);
    return 0;
}

/* ---- visits ---- */

/* The counts and the descriptors of the kernel side, into the tape. */
static void flush(struct tt_kernel *kernel, struct tt_kernel_image *image)
{
    for (size_t i = 0; i < image->links.len; i++) {
        struct tt_kernel_link *link = &image->links.data[i];
        const struct tt_kernel_count *now = &kernel->shared->count[link->global];
        uint64_t births = __atomic_load_n(&now->births, __ATOMIC_RELAXED);
        if (births != link->seen.births)
            tt_kernel_tape_birth(&image->tape, link->site, births - link->seen.births, 1);
        link->seen.births = births;
        for (uint32_t bin = 0; bin < TT_KERNEL_BINS; bin++) {
            uint64_t deaths = __atomic_load_n(&now->deaths[bin], __ATOMIC_RELAXED),
                     more = deaths - link->seen.deaths[bin];
            if (more)
                tt_kernel_tape_death(&image->tape, link->site, more, more, bin);
            link->seen.deaths[bin] = deaths;
        }
    }
    tt_kernel_fds_sync(kernel, image);
    tt_kernel_ops_sync(kernel, image);
}

/* A child that nobody has to wait for goes without a call (SIGCHLD ignored); another can be gone
 * before its birth is known. The children of a process that has ended are another's. */
static void check_children(struct tt_kernel *kernel, struct tt_kernel_image *image)
{
    TT_VEC(uint32_t) gone = {0};
    bool zombie = false;
    size_t kept = 0;
    for (size_t i = 0; i < image->children.len; i++) {
        uint32_t pid = image->children.data[i];
        bool held = tt_kernel_tape_find(&image->tape, TT_SPACE_CHILD, pid) != NULL;
        if (held && kill((pid_t)pid, 0) < 0 && errno == ESRCH) {
            tt_vec_push(&gone, pid);
        }
        if (held)
            image->children.data[kept++] = pid;
    }
    image->children.len = kept;
    if (gone.len && tt_proc_parent(image->pid, &zombie) >= 0 && !zombie)
        for (size_t i = 0; i < gone.len; i++)
            released(image, TT_SPACE_CHILD, gone.data[i], kernel->shared->tick);
    tt_vec_free(&gone);
}

void tt_kernel_visit(struct tt_kernel *kernel, uint32_t tick, bool reconcile)
{
    kernel->shared->tick = tick;
    tt_kernel_consume(kernel);
    for (uint32_t slot = 0; slot < TT_KERNEL_SLOTS; slot++) {
        struct tt_kernel_image *image = kernel->image[slot];
        if (!image)
            continue;
        if (reconcile) {
            tt_kernel_fds_reconcile(kernel, image);
            check_children(kernel, image);
        }
        flush(kernel, image);
    }
    if (reconcile)
        tt_kernel_probes_part(kernel);
    tt_kernel_owners_sync(kernel);
}

void tt_kernel_consume(struct tt_kernel *kernel)
{
    tt_kernel_load_consume(&kernel->load);
}

int tt_kernel_fd(const struct tt_kernel *kernel)
{
    return tt_kernel_load_fd(&kernel->load);
}

/* ---- beginning and end ---- */

static bool set_target(struct tt_kernel *kernel, pid_t pid, int slot)
{
    for (uint32_t i = 0; i < TT_KERNEL_PROBES; i++) {
        __u64 *place = &kernel->shared->target[((uint32_t)pid + i) % TT_KERNEL_TARGETS], e = *place;
        if (slot < 0 ? e >> 32 != (uint32_t)pid : e > 1)
            continue;
        __u64 value = slot < 0 ? 1 : (uint64_t)pid << 32 | ((uint32_t)slot + 1);
        if (__atomic_compare_exchange_n(place, &e, value, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST))
            return true;
    }
    return false;
}

bool tt_kernel_built(void)
{
    return true;
}

struct tt_kernel *tt_kernel_open(const struct tt_kernel_options *options, struct tt_error *err)
{
    struct tt_kernel *kernel = calloc(1, sizeof *kernel);
    if (kernel)
        kernel->owners = calloc(TT_KERNEL_OWNERS, sizeof *kernel->owners);
    if (!kernel || !kernel->owners || !(kernel->files = tt_kernel_files_new())) {
        free(kernel ? kernel->owners : NULL);
        free(kernel);
        tt_error_set(err, -ENOMEM, "out of memory");
        return NULL;
    }
    kernel->options = *options;
    kernel->next_site = 1;
    if (tt_kernel_load(&kernel->load, take, kernel, err)) {
        tt_kernel_files_free(kernel->files);
        free(kernel->owners);
        free(kernel);
        return NULL;
    }
    kernel->shared = kernel->load.shared;
    kernel->shared->follow = options->follow;
    return kernel;
}

int tt_kernel_add(struct tt_kernel *kernel, pid_t pid, bool fresh, struct tt_error *err)
{
    int slot = tt_kernel_slot_take(&kernel->load);
    if (slot < 0 || !set_target(kernel, pid, slot)) {
        if (slot >= 0)
            tt_kernel_slot_give(&kernel->load, (uint32_t)slot);
        return tt_error_set(err, -ENOSPC, "cannot record process %d: more than %u at a time",
                            (int)pid, TT_KERNEL_SLOTS);
    }
    kernel->shared->slot[slot].pid = (uint32_t)pid;
    if (!fresh)
        make_image(kernel, (uint32_t)slot, pid, NULL);
    return 0;
}

void tt_kernel_end(struct tt_kernel *kernel, pid_t pid, uint32_t tick)
{
    kernel->shared->tick = tick;
    tt_kernel_consume(kernel);
    for (uint32_t slot = 0; slot < TT_KERNEL_SLOTS; slot++) {
        struct tt_kernel_image *image = kernel->image[slot];
        if (!image || image->pid != pid)
            continue;
        set_target(kernel, pid, -1);
        flush(kernel, image);
        tt_kernel_owners_sync(kernel);
        free_slot(kernel, slot);
    }
    tt_kernel_probes_leave(kernel, pid);
}

void tt_kernel_lost(const struct tt_kernel *kernel, struct tt_kernel_lost *out)
{
    const struct tt_kernel_shared *s = kernel->shared;
    *out = (struct tt_kernel_lost){s->lost_stacks, s->lost_events, s->lost_slots,
                                   s->lost_far,    s->foreign,     s->lost_owners};
}

void tt_kernel_close(struct tt_kernel *kernel)
{
    if (!kernel)
        return;
    for (uint32_t slot = 0; slot < TT_KERNEL_SLOTS; slot++)
        if (kernel->image[slot])
            free_image(kernel, kernel->image[slot]);
    tt_kernel_probes_free(kernel);
    tt_kernel_unload(&kernel->load);
    tt_kernel_files_free(kernel->files);
    tt_vec_free(&kernel->free_sites);
    free(kernel->owners);
    free(kernel);
}
