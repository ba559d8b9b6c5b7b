/* SPDX-License-Identifier: Apache-2.0 */
/* Probes of the kernel at functions: of the C library and of declared handles, and operations that
 * are counted. A place in a file is probed once in each process, whoever asks for it again; all of
 * one file and process in one go, as far as the kernel takes them, and else one by one. What does
 * not fit into the bound is refused. Start: tt_kernel_declare, tt_kernel_count. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernel/internal.h"

#define LINKS_MOST 1024u /* each is a descriptor of ours, while its process lives */
#define AT_ONCE 64u
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

/* ---- links ---- */

static size_t count_links(const struct tt_kernel *kernel)
{
    size_t n = 0;
    for (size_t i = 0; i < kernel->probes.len; i++) /* those of one link follow each other */
        n += i == 0 || kernel->probes.data[i].link != kernel->probes.data[i - 1].link;
    return n;
}

/* Notes that they stand. False: no memory, and none is noted. */
static bool note(struct tt_kernel *kernel, const struct tt_kernel_probed *list, size_t n, int link)
{
    size_t before = kernel->probes.len;
    for (size_t i = 0; i < n; i++) {
        struct tt_kernel_probed p = list[i];
        p.path = strdup(p.path);
        p.link = link;
        if (p.path && tt_vec_push(&kernel->probes, p) == 0)
            continue;
        free(p.path);
        while (kernel->probes.len > before)
            free(kernel->probes.data[--kernel->probes.len].path);
        return false;
    }
    return true;
}

/* Probes that are alike but for place and cookie, by one link. file: of the path in the list. */
static int put(struct tt_kernel *kernel, const struct tt_kernel_probed *list, size_t n,
               const char *file)
{
    uint64_t offsets[AT_ONCE], cookies[AT_ONCE];
    for (size_t i = 0; i < n; i++) {
        offsets[i] = list[i].offset;
        cookies[i] = list[i].cookie;
    }
    if (count_links(kernel) >= LINKS_MOST)
        return -ENOSPC;
    int link =
        tt_kernel_load_probe(&kernel->load, list->pid, file, offsets, cookies, n, list->what);
    if (link < 0)
        return link;
    if (note(kernel, list, n, link))
        return 0;
    close(link);
    return -ENOMEM;
}

/* ---- functions ---- */

static const struct {
    uint8_t space;
    enum tt_kernel_kind kind;
} spaces[] = {{TT_SPACE_THREAD, TT_KERNEL_JOINED},
              {TT_SPACE_LIBRARY, TT_KERNEL_LIBRARY},
              {TT_SPACE_STREAM, TT_KERNEL_STREAM},
              {TT_SPACE_DIRECTORY, TT_KERNEL_DIRECTORY},
              {TT_SPACE_NAMED_SEMAPHORE, TT_KERNEL_NAMED}};

/* 0: none that calls of functions are told of. */
static uint32_t kind_of(uint8_t space)
{
    for (size_t i = 0; i < sizeof spaces / sizeof *spaces; i++)
        if (spaces[i].space == space)
            return spaces[i].kind;
    uint32_t kind = TT_KERNEL_DECLARED + (uint32_t)space - TT_SPACE_DECLARED;
    return space >= TT_SPACE_DECLARED && kind < TT_KERNEL_DECLARED_END ? kind : 0;
}

static bool can_tell(const struct tt_kernel_function *f)
{
    const unsigned known = TT_WATCH_WIDE | TT_WATCH_COUNTED | TT_WATCH_ALSO_FD;
    return (f->what == TT_WATCH_ACQUIRE || f->what == TT_WATCH_RELEASE) && !(f->flags & ~known) &&
           !(f->flags & TT_WATCH_COUNTED) == !tt_kernel_is_counted(f->space) && f->also < 255 &&
           kind_of(f->space);
}

static uint64_t cookie_of(const struct tt_kernel_function *f)
{
    bool releases = f->what == TT_WATCH_RELEASE;
    bool holds = !releases && (f->flags & TT_WATCH_ALSO_FD);
    return TT_KERNEL_COOKIE(kind_of(f->space), releases, f->from, f->valid, f->width,
                            (f->flags & TT_WATCH_WIDE) != 0, holds ? f->also + 1u : 0u);
}

/* What is told at the entry needs no probe at the return. */
static bool wants(const struct tt_kernel_function *f, enum tt_kernel_probe what)
{
    return what == TT_KERNEL_AT_ENTRY || f->what == TT_WATCH_ACQUIRE ||
           f->valid != TT_VALID_ALWAYS || f->from == TT_FROM_RETURN;
}

/* Probes at entries or returns of up to AT_ONCE functions of which none is refused yet. */
static void put_all(struct tt_kernel *kernel, const struct tt_kernel_probed *like, const char *file,
                    struct tt_kernel_function *functions, size_t n)
{
    struct tt_kernel_probed list[AT_ONCE];
    size_t which[AT_ONCE], m = 0;
    for (size_t i = 0; i < n; i++) {
        list[m] = *like;
        list[m].offset = functions[i].offset;
        list[m].cookie = cookie_of(&functions[i]);
        which[m] = i;
        m += !functions[i].result && wants(&functions[i], like->what) && !stands(kernel, &list[m]);
    }
    int code = m ? put(kernel, list, m, file) : 0;
    for (size_t i = 0; code && i < m; i++)
        functions[which[i]].result = m > 1 ? put(kernel, &list[i], 1, file) : code;
}

size_t tt_kernel_declare(struct tt_kernel *kernel, pid_t pid, const char *path, int fd,
                         struct tt_kernel_function *functions, size_t n)
{
    char file[32];
    struct tt_kernel_probed like = {.path = (char *)(uintptr_t)path, .pid = pid};
    size_t refused = 0;
    snprintf(file, sizeof file, "/proc/self/fd/%d", fd);
    for (size_t i = 0; i < n; i++)
        functions[i].result = can_tell(&functions[i]) ? 0 : -EOPNOTSUPP;
    for (size_t i = 0; i < n; i += AT_ONCE) {
        size_t some = n - i < AT_ONCE ? n - i : AT_ONCE;
        like.what = TT_KERNEL_AT_ENTRY; /* a return counts for a call whose entry was seen */
        put_all(kernel, &like, fd >= 0 ? file : path, functions + i, some);
        like.what = TT_KERNEL_AT_RETURN;
        put_all(kernel, &like, fd >= 0 ? file : path, functions + i, some);
    }
    for (size_t i = 0; i < n; i++)
        refused += functions[i].result != 0;
    return refused;
}

static struct tt_kernel_image *image_of(const struct tt_kernel *kernel, pid_t pid)
{
    for (uint32_t slot = 0; slot < TT_KERNEL_SLOTS; slot++)
        if (kernel->image[slot] && kernel->image[slot]->pid == pid)
            return kernel->image[slot];
    return NULL;
}

void tt_kernel_watches(struct tt_kernel *kernel, pid_t pid, uint8_t space)
{
    struct tt_kernel_image *image = image_of(kernel, pid);
    if (image && space < 32)
        image->watches |= 1u << space;
}

/* ---- operations ---- */

int tt_kernel_count(struct tt_kernel *kernel, const char *path, uint64_t offset, pid_t pid,
                    uint32_t index)
{
    const struct tt_kernel_probed p = {.path = (char *)(uintptr_t)path,
                                       .offset = offset,
                                       .cookie = index,
                                       .pid = pid,
                                       .what = TT_KERNEL_AT_OPERATION};
    if (index >= TT_KERNEL_OPS)
        return -ENOSPC;
    return stands(kernel, &p) ? 0 : put(kernel, &p, 1, path);
}

void tt_kernel_counted_at(struct tt_kernel *kernel, pid_t pid, uint32_t index, uint64_t address)
{
    struct tt_kernel_image *image = image_of(kernel, pid);
    if (image && index < TT_KERNEL_OPS)
        image->tape.head->ops[index].address = address;
}

void tt_kernel_ops_sync(struct tt_kernel *kernel, struct tt_kernel_image *image)
{
    const uint64_t *counts =
        (const uint64_t *)&kernel->shared->ops[(size_t)image->slot * TT_KERNEL_OPS];
    for (uint32_t i = 0; i < TT_KERNEL_OPS; i++)
        image->tape.head->ops[i].count = __atomic_load_n(&counts[i], __ATOMIC_RELAXED);
}

/* ---- end ---- */

void tt_kernel_probes_leave(struct tt_kernel *kernel, pid_t pid)
{
    size_t kept = 0;
    for (size_t i = 0; i < kernel->probes.len; i++) {
        struct tt_kernel_probed *p = &kernel->probes.data[i];
        if (pid && p->pid != pid) {
            kernel->probes.data[kept++] = *p;
            continue;
        }
        bool same = kernel->parting.len && kernel->parting.data[kernel->parting.len - 1] == p->link;
        if (!same && tt_vec_push(&kernel->parting, p->link))
            close(p->link);
        free(p->path);
    }
    kernel->probes.len = kept;
}

void tt_kernel_probes_close(struct tt_kernel *kernel)
{
    for (size_t i = 0; i < kernel->parting.len; i++)
        close(kernel->parting.data[i]);
    kernel->parting.len = 0;
}

void tt_kernel_probes_part(struct tt_kernel *kernel)
{
    tt_kernel_load_part(kernel->parting.data, kernel->parting.len);
    kernel->parting.len = 0;
}

void tt_kernel_probes_free(struct tt_kernel *kernel)
{
    tt_kernel_probes_leave(kernel, 0);
    tt_kernel_probes_part(kernel);
    tt_vec_free(&kernel->probes);
    tt_vec_free(&kernel->parting);
}
