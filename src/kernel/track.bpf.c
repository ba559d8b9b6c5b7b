// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The programs for the kernel. They stand at the returns of single system calls (never at their
 * entries: those cost every other call as much again), at a few other tracepoints, and at probes.
 *   image.bpf.h       the shared memory; whom a program concerns
 *   owner.bpf.h       on whose behalf a thread works
 *   stack.bpf.h       whose stack it is; records
 *   table.bpf.h       the table of descriptors
 *   descriptor.bpf.h  programs: descriptors, sockets and ports
 *   unit.bpf.h        programs: everything else that a system call acquires
 *   probe.bpf.h       programs: declared handles and operations
 *   process.bpf.h     programs: fork, exec, exit
 * Start: open_fd in descriptor.bpf.h. */
#include "descriptor.bpf.h"
#include "probe.bpf.h"
#include "process.bpf.h"
#include "unit.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";
