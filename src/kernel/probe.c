/* SPDX-License-Identifier: Apache-2.0 */
/* Probes of the kernel at functions of the program: declared handles, and operations that are
 * counted. A place in a file is probed once in each process, whoever asks for it again; what does
 * not fit into the bound is refused. Start: tt_kernel_declare, tt_kernel_count. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/internal.h"

#define PROBES_MOST 1024u /* each is a descriptor of ours, and stays */
#define HANDLES (TT_KERNEL_DECLARED_END - TT_KERNEL_DECLARED)
_Static_assert((int)TT_KERNEL_FROM_RETURN == (int)TT_FROM_RETURN &&
                   (int)TT_KERNEL_FROM_ARG0 == (int)TT_FROM_ARG0 &&
                   (int)TT_KERNEL_FROM_AT_ARG0 == (int)TT_FROM_AT_ARG0 &&
                   (int)TT_KERNEL_HANDLE == (int)TT_VALID_HANDLE,
               "the kernel side's names of tape.h");

static bool stands(const struct tt_kernel *kernel, const struct tt_kernel_probed *p)
{
    for (size_t i = 0; i < kernel->probes.len; i++) {
        const struct tt_kernel_probed *q = &kernel->probes.data[i];
        if (q->offset == p->offset && q->cookie == p->cookie && q->what == p->what &&
            q->pid == p->pid && strcmp(q->path, p->path) == 0)
            return true;
    }
    return false;
}

static int put(struct tt_kernel *kernel, const char *path, uint64_t offset, pid_t pid,
               uint64_t cookie, enum tt_kernel_probe what)
{
    struct tt_kernel_probed p = {strdup(path), offset, cookie, pid, what};
    int code = p.path ? 0 : -ENOMEM;
    if (!code && stands(kernel, &p)) {
        free(p.path);
        return 0;
    }
    if (!code && kernel->probes.len >= PROBES_MOST)
        code = -ENOSPC;
    if (!code)
        code = tt_kernel_load_probe(&kernel->load, pid, path, offset, cookie, what);
    if (code || tt_vec_push(&kernel->probes, p))
        free(p.path);
    return code;
}

int tt_kernel_declare(struct tt_kernel *kernel, const struct tt_kernel_function *f)
{
    if ((f->what != TT_WATCH_ACQUIRE && f->what != TT_WATCH_RELEASE) ||
        (f->flags & ~(unsigned)TT_WATCH_WIDE) || f->index >= HANDLES)
        return -EOPNOTSUPP;
    bool releases = f->what == TT_WATCH_RELEASE, enter = f->from != TT_FROM_RETURN;
    uint64_t cookie = TT_KERNEL_COOKIE(TT_KERNEL_DECLARED + f->index, releases, f->from, f->valid,
                                       f->width, (f->flags & TT_WATCH_WIDE) != 0);
    int code = enter ? put(kernel, f->path, f->offset, f->pid, cookie, TT_KERNEL_AT_ENTRY) : 0;
    if (!code && (!enter || !releases || f->valid != TT_VALID_ALWAYS))
        code = put(kernel, f->path, f->offset, f->pid, cookie, TT_KERNEL_AT_RETURN);
    return code;
}

int tt_kernel_count(struct tt_kernel *kernel, const char *path, uint64_t offset, pid_t pid,
                    uint32_t index)
{
    return index < TT_KERNEL_OPS ? put(kernel, path, offset, pid, index, TT_KERNEL_AT_OPERATION)
                                 : -ENOSPC;
}

void tt_kernel_counted_at(struct tt_kernel *kernel, pid_t pid, uint32_t index, uint64_t address)
{
    for (uint32_t slot = 0; slot < TT_KERNEL_SLOTS; slot++) {
        struct tt_kernel_image *image = kernel->image[slot];
        if (image && image->pid == pid && index < TT_KERNEL_OPS)
            image->tape.head->ops[index].address = address;
    }
}

void tt_kernel_ops_sync(struct tt_kernel *kernel, struct tt_kernel_image *image)
{
    const uint64_t *counts =
        (const uint64_t *)&kernel->shared->ops[(size_t)image->slot * TT_KERNEL_OPS];
    for (uint32_t i = 0; i < TT_KERNEL_OPS; i++)
        image->tape.head->ops[i].count = __atomic_load_n(&counts[i], __ATOMIC_RELAXED);
}

void tt_kernel_probes_free(struct tt_kernel *kernel)
{
    for (size_t i = 0; i < kernel->probes.len; i++)
        free(kernel->probes.data[i].path);
    tt_vec_free(&kernel->probes);
}
