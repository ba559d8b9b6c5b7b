/* SPDX-License-Identifier: Apache-2.0 */
/* The file of a tape and its place in the target. The whole file is mapped PROT_NONE and opened in
 * pieces, so that nothing needs the descriptor later and mlockall in the target locks only what is
 * in use. Where the address space is limited, only the first part of each table is mapped. A second
 * tape takes the place of the first, part by part. Start: tt_tape_make. */
#include "agent/agent.h"

#define SPARE_REGIONS 8u
/* A tape where RLIMIT_AS leaves no room for a whole one, 77 MB and the shadow; in several pieces,
 * hence at a place where nobody else maps by itself. */
#define LIMITED_THREADS 256u
#define LIMITED_SITES 65536u
#define LIMITED_FRAMES (1u << 22)
#define LIMITED_BASE 0x5c0000000000ULL

/* Makes the file and sets its length; a descriptor or a negative errno. */
static int make_file(uint32_t pid, uint64_t bytes)
{
    if (tt_sandboxed)
        return -1;
    char path[256], *end = path + sizeof path;
    if (tt_sys_limit(TT_RLIMIT_FSIZE) < bytes) /* ftruncate would raise SIGXFSZ */
        return -TT_EFBIG;
    for (uint64_t n = 0; n < 1000; n++) {
        char *at = tt_text_put(path, end, tt_agent.conf.dir);
        at = tt_text_put(at, end, "/tape.");
        at = tt_text_number(at, end, pid);
        at = tt_text_put(at, end, ".");
        tt_text_number(at, end, n);
        int fd = tt_sys_open(path, TT_O_RDWR | TT_O_CREAT | TT_O_EXCL | TT_O_CLOEXEC, 0600);
        if (fd == -TT_EEXIST)
            continue;
        if (fd >= 0) {
            long error = tt_sys(__NR_ftruncate, fd, (long)bytes, 0, 0, 0, 0);
            if (error != 0) {
                tt_sys(__NR_unlink, (long)path, 0, 0, 0, 0, 0);
                tt_sys_close(fd);
                return (int)error;
            }
        }
        return fd;
    }
    return -TT_EEXIST;
}

int tt_tape_memory(uint64_t bytes)
{
    if (tt_sys_limit(TT_RLIMIT_FSIZE) < bytes)
        return -TT_EFBIG;
    int fd = (int)tt_sys(__NR_memfd_create, (long)"telltale", TT_MFD_CLOEXEC, 0, 0, 0, 0);
    if (fd == -TT_EACCES) /* vm.memfd_noexec=2 */
        fd = (int)tt_sys(__NR_memfd_create, (long)"telltale", TT_MFD_CLOEXEC | TT_MFD_NOEXEC_SEAL,
                         0, 0, 0, 0);
    if (fd < 0)
        return fd;
    long error = tt_sys(__NR_ftruncate, fd, (long)bytes, 0, 0, 0, 0);
    if (error == 0)
        return fd;
    tt_sys_close(fd);
    return (int)error;
}

void tt_tape_fill(uint32_t pid, uint32_t state, const char *reason)
{
    struct tt_tape_head *h = tt_agent.head;
    h->version = TT_TAPE_VERSION;
    h->mode = tt_agent.conf.mode;
    h->pid = pid;
    h->parent = (uint32_t)tt_sys(__NR_getppid, 0, 0, 0, 0, 0, 0);
    h->granule_shift = tt_agent.granule_shift;
    h->start_ns = tt_sys_boottime_ns();
    h->sample_mean = tt_agent.conf.mode == TT_MODE_SAMPLED    ? tt_agent.conf.mean
                     : tt_agent.conf.mode == TT_MODE_ADAPTIVE ? tt_agent.conf.rate
                                                              : 0;
    tt_text_put(h->allocator, h->allocator + sizeof h->allocator, tt_agent.host.allocator);
    tt_text_put(h->exe, h->exe + sizeof h->exe, tt_agent.host.exe);
    if (reason)
        tt_text_put(h->reason, h->reason + sizeof h->reason, reason);
    h->site_count = 1;
    h->thread_count = 1;
    /* Until the recorder's first visit: else what is born meanwhile would look as old as tick 0. */
    if (tt_agent.conf.origin_ns && h->start_ns > tt_agent.conf.origin_ns) {
        uint64_t tick =
            (h->start_ns - tt_agent.conf.origin_ns) / (1000000000u / TT_TAPE_TICKS_PER_SECOND);
        h->now_tick = tick < TT_TAPE_TICK_MAX ? (uint32_t)tick : TT_TAPE_TICK_MAX;
    }
    tt_agent.clock_checked = ~0ULL;
    tt_agent.stale_since = 0;
    h->state = state;
    __atomic_store_n(&h->magic, TT_TAPE_MAGIC, __ATOMIC_RELEASE);
}

struct part {
    uint64_t offset, bytes;
};
#define PARTS 6u

/* The parts of the tape to map for `regions` of shadow; how many. Where the address space is
 * limited, the first part of each table: what would need the rest is dropped and counted. */
static unsigned parts_of(struct part part[PARTS], uint32_t regions, int limited)
{
    uint64_t shadow = regions * TT_TAPE_REGION_BYTES(tt_agent.granule_shift);
    if (!limited) {
        part[0] = (struct part){0, TT_TAPE_OFF_SHADOW + shadow};
        return 1;
    }
    part[0] = (struct part){0, TT_TAPE_OFF_HASH + TT_TAPE_HASH0 * 8ULL};
    part[1] = (struct part){TT_TAPE_OFF_L1, TT_TAPE_L1 * 8ULL};
    part[2] = (struct part){TT_TAPE_OFF_THREADS, LIMITED_THREADS * sizeof(struct tt_tape_thread)};
    part[3] = (struct part){TT_TAPE_OFF_SITES, LIMITED_SITES * sizeof(struct tt_tape_site)};
    part[4] = (struct part){TT_TAPE_OFF_FRAMES, LIMITED_FRAMES * 8ULL};
    part[5] = (struct part){TT_TAPE_OFF_SHADOW, shadow};
    return PARTS;
}

/* Decides what a limit on address space leaves for the tape: the program must keep half of it, so
 * the shadow need not cover more than that, nor more than the region of sampled objects where only
 * those are followed. */
static int measure(uint64_t limit)
{
    struct part part[PARTS];
    uint32_t regions = TT_TAPE_REGIONS, fit = (uint32_t)(limit >> TT_TAPE_REGION_SHIFT);
    if (limit >> TT_TAPE_REGION_SHIFT < TT_TAPE_REGIONS / 2)
        regions = fit + SPARE_REGIONS;
    tt_agent.limited = 0;
    parts_of(part, regions, 0);
    if (part[0].bytes > limit / 2) {
        regions = fit / (tt_agent.conf.mode == TT_MODE_EXACT ? 2 : 4) + SPARE_REGIONS / 2;
        tt_agent.limited = 1;
    }
    uint64_t bytes = 0;
    for (unsigned i = 0, n = parts_of(part, regions, tt_agent.limited != 0); i < n; i++)
        bytes += part[i].bytes;
    tt_agent.region_limit = regions;
    return bytes > limit / 2 ? -TT_ENOMEM : 0;
}

static uint64_t pages(uint64_t bytes)
{
    return (bytes + 0xfff) & ~0xfffULL;
}

static int map_over(int fd, uint8_t *base, uint64_t from, uint64_t to, int prot)
{
    if (from >= to)
        return 0;
    void *got = (void *)tt_sys(__NR_mmap, (long)(base + from), (long)(to - from), prot,
                               TT_MAP_SHARED | TT_MAP_NORESERVE | TT_MAP_FIXED, fd, (long)from);
    return tt_sys_bad(got) ? (int)(long)got : 0;
}

/* Maps a new tape over the whole one at tt_agent.base. What was open there is open at every moment:
 * a thread may come back from the real allocator into a hook of the recording before. */
static int replace_tape(int fd)
{
    static const uint32_t tables[3] = {TT_TAPE_HASH0, TT_TAPE_HASH1, TT_TAPE_HASH2};
    uint64_t hash = 0, at = 0;
    for (uint32_t i = 0; i < 3 && i < tt_agent.hash_open; i++)
        hash += tables[i] * 8ULL;
    const struct part open[] = {
        {0, TT_TAPE_OFF_HASH + hash},
        {TT_TAPE_OFF_L1, TT_TAPE_L1 * 8ULL},
        {TT_TAPE_OFF_THREADS, pages(tt_agent.threads_open * sizeof(struct tt_tape_thread))},
        {TT_TAPE_OFF_SITES, pages(tt_agent.sites_open * sizeof(struct tt_tape_site))},
        {TT_TAPE_OFF_FRAMES, pages(tt_agent.frames_open * 8ULL)},
    };
    int error = 0;
    for (unsigned i = 0; i < sizeof open / sizeof open[0] && error == 0; i++) {
        error = map_over(fd, tt_agent.base, at, open[i].offset, TT_PROT_NONE);
        at = open[i].offset + open[i].bytes;
        if (error == 0)
            error = map_over(fd, tt_agent.base, open[i].offset, at, TT_PROT_RW);
    }
    if (error == 0)
        error = map_over(fd, tt_agent.base, at, tt_agent.bytes, TT_PROT_NONE);
    if (error == 0)
        tt_sys_madvise(tt_agent.base, tt_agent.bytes, TT_MADV_DONTDUMP);
    return error;
}

/* Maps the tape; `at`: the place of the one before (in a forked child, the parent's), which is
 * replaced part by part. */
static int map_tape(int fd, uint8_t *at)
{
    struct part part[PARTS];
    if (at && at == tt_agent.base && !tt_agent.limited)
        return replace_tape(fd);
    if (!at && measure(tt_sys_limit(TT_RLIMIT_AS)) != 0)
        return -TT_ENOMEM;
    int fixed = at ? TT_MAP_FIXED : tt_agent.limited ? TT_MAP_FIXED_NOREPLACE : 0;
    uint8_t *base = at ? at : tt_agent.limited ? (uint8_t *)LIMITED_BASE : NULL;
    unsigned n = parts_of(part, tt_agent.region_limit, tt_agent.limited != 0);
    for (unsigned i = 0; i < n; i++) {
        uint8_t *wanted = base ? base + part[i].offset : NULL;
        uint8_t *got =
            (uint8_t *)tt_sys(__NR_mmap, (long)wanted, (long)part[i].bytes, TT_PROT_NONE,
                              TT_MAP_SHARED | TT_MAP_NORESERVE | fixed, fd, (long)part[i].offset);
        if (tt_sys_bad(got) || (wanted && got != wanted)) {
            int error = tt_sys_bad(got) ? (int)(long)got : -TT_EEXIST;
            if (!tt_sys_bad(got))
                tt_sys_munmap(got, part[i].bytes);
            while (!at && i-- > 0)
                tt_sys_munmap(base + part[i].offset, part[i].bytes);
            return error;
        }
        base = got - part[i].offset;
        /* A core dump would read the holes, and reading gives them memory. */
        tt_sys_madvise(got, part[i].bytes, TT_MADV_DONTDUMP);
    }
    tt_agent.base = base;
    tt_agent.bytes = part[n - 1].offset + part[n - 1].bytes;
    return 0;
}

/* A tape that only says why there is none. */
static void refuse_tape(int fd, uint32_t pid, const char *reason)
{
    uint8_t *base =
        tt_sys_mmap(NULL, TT_TAPE_OFF_RING, TT_PROT_RW, TT_MAP_SHARED | TT_MAP_NORESERVE, fd);
    if (tt_sys_bad(base))
        return;
    tt_agent.head = (struct tt_tape_head *)base;
    tt_tape_fill(pid, TT_STATE_REFUSED, reason);
    tt_agent.head = NULL;
    tt_sys_munmap(base, TT_TAPE_OFF_RING);
}

static int open_fixed_parts(void)
{
    uint8_t *base = tt_agent.base;
    if (tt_sys_mprotect(base, TT_TAPE_OFF_HASH + TT_TAPE_HASH0 * 8ULL, TT_PROT_RW) ||
        tt_sys_mprotect(base + TT_TAPE_OFF_L1, TT_TAPE_L1 * 8ULL, TT_PROT_RW) ||
        tt_sys_mprotect(base + TT_TAPE_OFF_SITES, 0x10000, TT_PROT_RW) ||
        tt_sys_mprotect(base + TT_TAPE_OFF_FRAMES, TT_FRAME_PIECE * 8UL, TT_PROT_RW))
        return -TT_ENOMEM;
    tt_agent.head = (struct tt_tape_head *)base;
    tt_agent.l1 = (uint64_t *)(base + TT_TAPE_OFF_L1);
    tt_agent.sites = (struct tt_tape_site *)(base + TT_TAPE_OFF_SITES);
    tt_agent.frames = (uint64_t *)(base + TT_TAPE_OFF_FRAMES);
    tt_agent.shadow = base + TT_TAPE_OFF_SHADOW;
    tt_agent.sites[0].size_min = 0xffffffffu;
    tt_agent.hash_open = 1;
    tt_agent.sites_open = 0x10000 / (uint32_t)sizeof(struct tt_tape_site);
    tt_agent.frames_open = TT_FRAME_PIECE;
    tt_agent.threads_open = 0;
    return 0;
}

const char tt_tape_no_room[] =
    "the limit on address space is too small: raise RLIMIT_AS (ulimit -v)";

int tt_tape_use(int fd, uint8_t *at, uint32_t state, const char *reason)
{
    uint32_t pid = tt_sys_getpid();
    int error = map_tape(fd, at);
    if (error == 0)
        error = open_fixed_parts();
    if (error == 0)
        tt_tape_fill(pid, state, reason);
    else if (!at)
        refuse_tape(fd, pid, tt_tape_no_room);
    return error;
}

int tt_tape_make(uint8_t *at, uint32_t state, const char *reason)
{
    uint64_t bytes = TT_TAPE_FILE_BYTES(tt_agent.granule_shift);
    int fd = tt_agent.conf.dir[0] ? make_file(tt_sys_getpid(), bytes) : -1;
    if (fd < 0 && tt_agent.attached && !tt_sandboxed)
        fd = tt_tape_memory(bytes);
    if (fd < 0)
        return fd;
    if (at) /* a forked child's: its entries are patched as its parent's are */
        tt_sys(__NR_pwrite64, fd, (long)(at + TT_TAPE_OFF_WATCHES),
               TT_TAPE_WATCHES * sizeof(struct tt_tape_watch), TT_TAPE_OFF_WATCHES, 0, 0);
    int error = tt_tape_use(fd, at, state, reason);
    tt_sys_close(fd);
    return error;
}
