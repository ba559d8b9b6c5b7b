/* SPDX-License-Identifier: Apache-2.0 */
/* The process's mappings, read from /proc/self/maps when an unknown pc or stack turns up. Reading
 * the kernel's list needs no loader lock, which dl_iterate_phdr would take. One sorted list in own
 * memory, guarded by row_lock. Also here: the bounds of a stack, and free places near code.
 * Start: tt_maps_read. */
#include "agent/agent.h"

static uint64_t take_hex(const char **at, const char *end)
{
    uint64_t v = 0;
    for (; *at < end; (*at)++) {
        char c = **at;
        if (c >= '0' && c <= '9')
            v = v << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            v = v << 4 | (uint64_t)(c - 'a' + 10);
        else
            break;
    }
    return v;
}

/* One line "lo-hi rwxp offset major:minor inode name". */
static int take_line(const char *at, const char *end, struct tt_map *m)
{
    m->lo = take_hex(&at, end);
    if (at >= end || *at++ != '-')
        return -1;
    m->hi = take_hex(&at, end);
    if (end - at < 7)
        return -1;
    m->read = at[1] == 'r';
    m->exec = at[3] == 'x';
    at += 6;
    m->offset = take_hex(&at, end);
    at++;
    uint64_t device = take_hex(&at, end);
    at++;
    device = device << 20 | take_hex(&at, end);
    uint64_t inode = 0;
    for (at++; at < end && *at >= '0' && *at <= '9'; at++)
        inode = inode * 10 + (uint64_t)(*at - '0');
    m->file = inode ? device << 40 ^ inode : 0;
    while (at < end && *at == ' ')
        at++;
    m->vdso = end - at >= 6 && __builtin_memcmp(at, "[vdso]", 6) == 0;
    m->stack = end - at >= 7 && __builtin_memcmp(at, "[stack]", 7) == 0;
    return 0;
}

static int make_room(void)
{
    uint32_t room = tt_agent.map_room ? tt_agent.map_room * 2 : 1024;
    struct tt_map *maps =
        tt_sys_mmap(NULL, room * sizeof *maps, TT_PROT_RW, TT_MAP_PRIVATE | TT_MAP_ANONYMOUS, -1);
    if (tt_sys_bad(maps))
        return -TT_ENOMEM;
    if (tt_agent.maps) {
        __builtin_memcpy(maps, tt_agent.maps, tt_agent.map_count * sizeof *maps);
        tt_sys_munmap(tt_agent.maps, tt_agent.map_room * sizeof *maps);
    }
    tt_agent.maps = maps;
    tt_agent.map_room = room;
    return 0;
}

int tt_maps_read(char *text)
{
    if (tt_sandboxed)
        return -1;
    int fd = tt_sys_open("/proc/self/maps", TT_O_CLOEXEC, 0);
    if (fd < 0)
        return fd;
    uint32_t filled = 0;
    tt_agent.map_count = 0;
    for (;;) {
        long n = tt_sys_read(fd, text + filled, TT_TEXT - filled);
        if (n <= 0)
            break;
        const char *line = text, *end = text + filled + n, *stop;
        while ((stop = tt_text_find(line, end, '\n')) != NULL) {
            if (tt_agent.map_count == tt_agent.map_room && make_room() != 0)
                break;
            struct tt_map *m = &tt_agent.maps[tt_agent.map_count];
            if (take_line(line, stop, m) == 0) {
                if (m->stack)
                    tt_agent.main_stack = (struct tt_range){m->lo, m->hi};
                tt_agent.map_count++;
            }
            line = stop + 1;
        }
        filled = (uint32_t)(end - line);
        __builtin_memmove(text, line, filled);
        if (filled == TT_TEXT)
            filled = 0; /* a line longer than any path can make it */
    }
    tt_sys_close(fd);
    tt_agent.maps_valid = 1;
    return 0;
}

const struct tt_map *tt_maps_find(uint64_t address)
{
    uint32_t lo = 0, hi = tt_agent.map_count;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        if (tt_agent.maps[mid].hi <= address)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo < tt_agent.map_count && tt_agent.maps[lo].lo <= address)
        return &tt_agent.maps[lo];
    return NULL;
}

/* Whether each page of [lo, hi) can be read, asked of the kernel with one byte a page: the way to
 * know a thread's stack in a process with thousands of mappings, whose list takes long to read. */
static int pages_readable(struct tt_thread *t, uint64_t lo, uint64_t hi)
{
    struct {
        void *base;
        size_t bytes;
    } *remote = (void *)t->text, local;
    char sink[64];
    uint64_t page = lo & ~0xfffULL;
    if (tt_sandboxed)
        return hi - lo < 4096; /* only what is surely of one stack */
    while (page < hi) {
        unsigned n = 0;
        for (; n < sizeof sink && page < hi; n++, page += 4096) {
            remote[n].base = (void *)page;
            remote[n].bytes = 1;
        }
        local.base = sink;
        local.bytes = n;
        if (tt_sys(__NR_process_vm_readv, (long)tt_sys_getpid(), (long)&local, 1, (long)remote, n,
                   0) != (long)n)
            return 0;
    }
    return 1;
}

struct tt_range tt_maps_stack(struct tt_thread *t, uint64_t sp)
{
    const uint64_t near = 1u << 20;
    /* The main thread's stack grows downwards from what was seen at the start. */
    if (sp < tt_agent.main_stack.hi && sp >= tt_agent.main_stack.lo)
        return tt_agent.main_stack;
    if (sp < tt_agent.main_stack.lo && tt_agent.main_stack.lo - sp < near &&
        pages_readable(t, sp, tt_agent.main_stack.lo)) {
        tt_agent.main_stack.lo = sp & ~0xfffULL;
        return tt_agent.main_stack;
    }
    /* Other threads' control blocks lie at the upper end of their stacks (glibc allocatestack.c).
     */
    uint64_t tcb = tt_arch_tcb();
    if (sp < tcb && tcb - sp < near && pages_readable(t, sp, tcb))
        return (struct tt_range){sp & ~0xfffULL, tcb};
    const struct tt_map *m = NULL;
    if (tt_maps_read(t->text) == 0)
        m = tt_maps_find(sp);
    if (m && m->read)
        return (struct tt_range){m->lo, m->hi};
    return (struct tt_range){sp & ~0xfffULL, (sp & ~0xfffULL) + 4096};
}

uint64_t tt_maps_gap(uint64_t near, uint64_t bytes)
{
    const uint64_t reach = 0x78000000, guard = 0x10000;
    uint64_t best = 0, end = 0x20000, distance = reach;
    for (uint32_t i = 0; i < tt_agent.map_count; i++) {
        const struct tt_map *m = &tt_agent.maps[i];
        if (m->lo >= end + bytes + 2 * guard) {
            uint64_t at = m->lo - guard - bytes; /* upper end of the gap, never just above a heap */
            uint64_t d = at > near ? at - near : near - at;
            if (d < distance && !m->stack) {
                best = at & ~0xffffULL;
                distance = d;
            }
        }
        end = m->hi;
    }
    return best;
}
