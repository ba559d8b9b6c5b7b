/* SPDX-License-Identifier: Apache-2.0 */
/* A tape written by hand, in the place of an agent: a sparse memory file with the parts that a test
 * or a fuzzer fills. Start: fake_make. */
#ifndef TEST_RECORD_FAKE_H
#define TEST_RECORD_FAKE_H

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "record/internal.h"

static inline void fake_put(int fd, uint64_t at, const void *bytes, size_t n)
{
    if (pwrite(fd, bytes, n, (off_t)at) != (ssize_t)n)
        _exit(99);
}

static inline void fake_head(int fd, const struct tt_tape_head *head)
{
    fake_put(fd, TT_TAPE_OFF_HEAD, head, sizeof *head);
}

/* A ready head with these many sites and threads, no regions. */
static inline struct tt_tape_head fake_start(uint32_t sites, uint32_t threads)
{
    return (struct tt_tape_head){.magic = TT_TAPE_MAGIC,
                                 .version = TT_TAPE_VERSION,
                                 .mode = TT_MODE_EXACT,
                                 .state = TT_STATE_RUNNING,
                                 .pid = 1,
                                 .granule_shift = 5,
                                 .start_ns = 1,
                                 .allocator = "glibc",
                                 .exe = "/bin/fake",
                                 .site_count = sites,
                                 .thread_count = threads};
}

static inline int fake_make(const struct tt_tape_head *head)
{
    int fd = memfd_create("tape", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)TT_TAPE_FILE_BYTES(5)) < 0)
        _exit(99);
    fake_head(fd, head);
    return fd;
}

static inline void fake_site(int fd, uint32_t id, const struct tt_tape_site *site)
{
    fake_put(fd, TT_TAPE_OFF_SITES + (uint64_t)id * sizeof *site, site, sizeof *site);
}

static inline void fake_tally(int fd, uint32_t thread, uint32_t place,
                              const struct tt_tape_tally *tally)
{
    fake_put(fd,
             TT_TAPE_OFF_THREADS + (uint64_t)thread * sizeof(struct tt_tape_thread) +
                 offsetof(struct tt_tape_thread, tally) + place * sizeof *tally,
             tally, sizeof *tally);
}

static inline void fake_moving(int fd, uint32_t thread, uint32_t moving)
{
    fake_put(fd,
             TT_TAPE_OFF_THREADS + (uint64_t)thread * sizeof(struct tt_tape_thread) +
                 offsetof(struct tt_tape_thread, moving),
             &moving, sizeof moving);
}

/* The entry of the granule'th granule of a region. */
static inline void fake_entry(int fd, uint32_t region, uint32_t granule, uint64_t entry)
{
    fake_put(fd, TT_TAPE_OFF_SHADOW + region * TT_TAPE_REGION_BYTES(5) + (uint64_t)granule * 8,
             &entry, sizeof entry);
}

#endif
