/* SPDX-License-Identifier: Apache-2.0 */
/* This room where the build found no clang or no libbpf: everything is there, and says so.
 * Start: tt_kernel_open. */
#include <errno.h>
#include <stddef.h>

#include "kernel/kernel.h"

bool tt_kernel_built(void)
{
    return false;
}

struct tt_kernel *tt_kernel_open(const struct tt_kernel_options *options, struct tt_error *err)
{
    (void)options;
    tt_error_set(err, -EOPNOTSUPP,
                 "cannot record from the kernel: this telltale was built without eBPF; install "
                 "clang, llvm and libbpf-dev and build it again");
    return NULL;
}

size_t tt_kernel_declare(struct tt_kernel *kernel, pid_t pid, const char *path, int fd,
                         struct tt_kernel_function *functions, size_t n)
{
    (void)kernel;
    (void)pid;
    (void)path;
    (void)fd;
    for (size_t i = 0; i < n; i++)
        functions[i].result = -EOPNOTSUPP;
    return n;
}

void tt_kernel_watches(struct tt_kernel *kernel, pid_t pid, uint8_t space)
{
    (void)kernel;
    (void)pid;
    (void)space;
}

int tt_kernel_count(struct tt_kernel *kernel, const char *path, uint64_t offset, pid_t pid,
                    uint32_t index)
{
    (void)kernel;
    (void)path;
    (void)offset;
    (void)pid;
    (void)index;
    return -EOPNOTSUPP;
}

void tt_kernel_counted_at(struct tt_kernel *kernel, pid_t pid, uint32_t index, uint64_t address)
{
    (void)kernel;
    (void)pid;
    (void)index;
    (void)address;
}

int tt_kernel_add(struct tt_kernel *kernel, pid_t pid, bool fresh, struct tt_error *err)
{
    (void)kernel;
    (void)pid;
    (void)fresh;
    return tt_error_set(err, -EOPNOTSUPP, "built without eBPF");
}

int tt_kernel_fd(const struct tt_kernel *kernel)
{
    (void)kernel;
    return -1;
}

void tt_kernel_consume(struct tt_kernel *kernel)
{
    (void)kernel;
}

void tt_kernel_visit(struct tt_kernel *kernel, uint32_t tick, bool reconcile)
{
    (void)kernel;
    (void)tick;
    (void)reconcile;
}

void tt_kernel_end(struct tt_kernel *kernel, pid_t pid, uint32_t tick)
{
    (void)kernel;
    (void)pid;
    (void)tick;
}

void tt_kernel_lost(const struct tt_kernel *kernel, struct tt_kernel_lost *out)
{
    (void)kernel;
    *out = (struct tt_kernel_lost){0};
}

void tt_kernel_close(struct tt_kernel *kernel)
{
    (void)kernel;
}
