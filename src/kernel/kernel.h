/* SPDX-License-Identifier: Apache-2.0 */
/* Recording a process from the kernel's side, with nothing inside it: eBPF programs at the
 * tracepoints of system calls (track.bpf.c) see what the process acquires and releases, raw stacks
 * are unwound here (unwind.c), and the result is written into a tape per memory image - the same
 * tape that the agent writes, so that whoever reads it need not know the difference. Descriptors,
 * sockets, mappings, threads, children, timers and System V objects, and what functions give that
 * are probed; not heap blocks, of which the kernel knows nothing. Needs CAP_BPF, CAP_PERFMON and a
 * kernel of 5.17 with BTF. Not thread-safe. Start: tt_kernel_open, tt_kernel_add, tt_kernel_visit.
 */
#ifndef TT_KERNEL_KERNEL_H
#define TT_KERNEL_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

struct tt_kernel;

struct tt_kernel_options {
    bool follow; /* forked children too */
    void *arg;   /* of the callbacks, which come from tt_kernel_add, _consume and _visit */
    /* A memory image began to be recorded; tape: a descriptor of its tape, the callee's. */
    void (*arrived)(void *arg, pid_t pid, int tape);
    /* The process called exec: its tape stands as it was at that moment and changes no more. */
    void (*replaced)(void *arg, pid_t pid);
};

/* Whether this build has the programs. */
bool tt_kernel_built(void);

/* Loads the programs and puts them at their tracepoints; nothing is recorded yet. NULL with err:
 * -EPERM (privileges are missing), -EOPNOTSUPP (kernel too old or without BTF, or built without
 * eBPF), or what the kernel said; each with its remedy. */
struct tt_kernel *tt_kernel_open(const struct tt_kernel_options *options, struct tt_error *err);

/* A function of the C library or of a declared handle: what a call of it does, where it stands in a
 * file. space: of THREAD, LIBRARY, STREAM, DIRECTORY, NAMED_SEMAPHORE or a declared one; what:
 * TT_WATCH_ACQUIRE (in THREAD unless it is started detached) or _RELEASE; also: as in
 * TT_WATCH_ALSO_FD, below 255. result: 0, -EOPNOTSUPP for what a probe cannot tell, or what the
 * kernel said. */
struct tt_kernel_function {
    uint64_t offset;
    uint8_t space, what, from, valid, flags, width;
    uint16_t also;
    int result;
};
/* Watches functions of one file in process pid, whatever it executes from now on. fd: of the file;
 * -1: path says where it is. What is watched already is not watched again. Returns how many of them
 * are not watched. */
size_t tt_kernel_declare(struct tt_kernel *kernel, pid_t pid, const char *path, int fd,
                         struct tt_kernel_function *functions, size_t n);
/* Whether the functions of one file that acquire units of a space are watched in the image of that
 * process, so that what the C library does for them is not told beside it. */
void tt_kernel_watches(struct tt_kernel *kernel, pid_t pid, uint8_t space);

/* Counts the calls of the function at a place in a file as op `index` of the tapes, in process pid.
 * 0, -ENOSPC for an index that is too high, or what the kernel
 * said. And where the function is in a process, for its tape. */
int tt_kernel_count(struct tt_kernel *kernel, const char *path, uint64_t offset, pid_t pid,
                    uint32_t index);
void tt_kernel_counted_at(struct tt_kernel *kernel, pid_t pid, uint32_t index, uint64_t address);

/* From now on process pid is recorded. `fresh`: it is about to exec, and recorded from then on; no
 * image before. Else what it has open is read from /proc. 0 or a negative errno with err. */
int tt_kernel_add(struct tt_kernel *kernel, pid_t pid, bool fresh, struct tt_error *err);

/* Readable when tt_kernel_consume has something to do at once. */
int tt_kernel_fd(const struct tt_kernel *kernel);
/* Takes the records that wait. */
void tt_kernel_consume(struct tt_kernel *kernel);

/* Takes all records, then brings every tape up to date. tick: as tt_tape_tick wrote it.
 * reconcile: also compare descriptors with /proc/PID/fd. */
void tt_kernel_visit(struct tt_kernel *kernel, uint32_t tick, bool reconcile);

/* The process has ended or is left: the last visit for its image, which is then forgotten. */
void tt_kernel_end(struct tt_kernel *kernel, pid_t pid, uint32_t tick);

/* What could not be recorded so far. */
struct tt_kernel_lost {
    uint64_t stacks;  /* units at an unknown stack: the ring was full */
    uint64_t events;  /* acquisitions and releases not seen: the ring was full */
    uint64_t images;  /* memory images not recorded: too many at a time */
    uint64_t units;   /* descriptors not followed: their map was full */
    uint64_t foreign; /* descriptors closed that were not followed */
    uint64_t owners;  /* peers not told apart: all rows in use */
};
void tt_kernel_lost(const struct tt_kernel *kernel, struct tt_kernel_lost *out);

/* Takes the programs away. What the kernel does for that goes on behind the caller's back. */
void tt_kernel_close(struct tt_kernel *kernel);

#endif
