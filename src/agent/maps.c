/* SPDX-License-Identifier: Apache-2.0 */
/* The process's mappings, read from /proc/self/maps when an unknown pc or stack turns up. Reading
 * the kernel's list needs no loader lock, which dl_iterate_phdr would take. Two sorted lists in own
 * memory: one is read by whoever likes, without a lock and without waiting, the other is written
 * under row_lock and then takes its place. Who is so slow that the list was written again
 * meanwhile, sees it by its turn and begins anew (a sequence lock: Lameter, "Effective
 * synchronization on Linux/NUMA systems", 2005). Also here: the bounds of a stack, and free places
 * near code. Start: tt_maps_read, tt_maps_find. */
#include "agent/agent.h"

#define MAPS_FIRST 1024u
#define MODULE_PARTS 17u /* mappings of one file, at most so many below its code */
#define TRIES 8u         /* each but the first after two whole readings by others */

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
    m->is = (at[1] == 'r' ? TT_IS_READ : 0) | (at[2] == 'w' ? TT_IS_WRITE : 0) |
            (at[3] == 'x' ? TT_IS_EXEC : 0);
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
    if (end - at >= 6 && __builtin_memcmp(at, "[vdso]", 6) == 0)
        m->is |= TT_IS_VDSO;
    if (end - at >= 7 && __builtin_memcmp(at, "[stack]", 7) == 0)
        m->is |= TT_IS_STACK;
    return 0;
}

/* Where the list stands that is not looked in, or is none. */
static struct tt_maps **next_list(void)
{
    return &tt_agent.maps_of[tt_agent.maps && tt_agent.maps == tt_agent.maps_of[0]];
}

static struct tt_maps *make_list(uint32_t room)
{
    struct tt_maps *list = tt_sys_mmap(NULL, sizeof *list + room * sizeof list->map[0], TT_PROT_RW,
                                       TT_MAP_PRIVATE | TT_MAP_ANONYMOUS, -1);
    if (tt_sys_bad(list))
        return NULL;
    list->turn = 1;
    list->room = room;
    return list;
}

/* The list that nobody looks at, to be written. Whoever began before the last reading may still be
 * in it: the odd turn tells. */
static struct tt_maps *begin_list(void)
{
    struct tt_maps **list = next_list();
    if (!*list && !(*list = make_list(MAPS_FIRST)))
        return NULL;
    __atomic_store_n(&(*list)->turn, (*list)->turn | 1, __ATOMIC_RELAXED);
    __atomic_store_n(&(*list)->count, 0, __ATOMIC_RELEASE);
    return *list;
}

static void end_list(struct tt_maps *list)
{
    __atomic_store_n(&list->turn, list->turn + 1, __ATOMIC_RELEASE);
    __atomic_store_n(&tt_agent.maps, list, __ATOMIC_RELEASE);
}

/* Twice as long; the shorter one stays, somebody may be in it. */
static struct tt_maps *lengthen(const struct tt_maps *old)
{
    struct tt_maps *list = make_list(old->room * 2);
    if (!list)
        return NULL;
    __builtin_memcpy(list->map, old->map, old->count * sizeof list->map[0]);
    list->count = old->count;
    *next_list() = list;
    return list;
}

/* A word of a list that is being written again may be seen by whoever is still in it: then so is
 * the odd turn, which was stored before. */
static void put(struct tt_map *to, const struct tt_map *m)
{
    __atomic_store_n(&to->lo, m->lo, __ATOMIC_RELEASE);
    __atomic_store_n(&to->hi, m->hi, __ATOMIC_RELEASE);
    __atomic_store_n(&to->offset, m->offset, __ATOMIC_RELEASE);
    __atomic_store_n(&to->file, m->file, __ATOMIC_RELEASE);
    __atomic_store_n(&to->is, m->is, __ATOMIC_RELEASE);
}

static struct tt_map get(const struct tt_map *from)
{
    struct tt_map m = {
        __atomic_load_n(&from->lo, __ATOMIC_ACQUIRE),
        __atomic_load_n(&from->hi, __ATOMIC_ACQUIRE),
        __atomic_load_n(&from->offset, __ATOMIC_ACQUIRE),
        __atomic_load_n(&from->file, __ATOMIC_ACQUIRE),
        __atomic_load_n(&from->is, __ATOMIC_ACQUIRE),
    };
    return m;
}

/* Several threads may say how far down the first one's stack reaches; each is right. */
static void put_main_stack(uint64_t lo, uint64_t hi)
{
    __atomic_store_n(&tt_agent.main_stack.lo, lo, __ATOMIC_RELAXED);
    __atomic_store_n(&tt_agent.main_stack.hi, hi, __ATOMIC_RELEASE);
}

static struct tt_range main_stack(void)
{
    struct tt_range r = {0, __atomic_load_n(&tt_agent.main_stack.hi, __ATOMIC_ACQUIRE)};
    if (r.hi)
        r.lo = __atomic_load_n(&tt_agent.main_stack.lo, __ATOMIC_RELAXED);
    return r;
}

int tt_maps_read(char *text)
{
    if (tt_sandboxed)
        return -1;
    struct tt_maps *list = begin_list(), *longer;
    if (!list)
        return -TT_ENOMEM;
    int fd = tt_sys_open("/proc/self/maps", TT_O_CLOEXEC, 0);
    if (fd < 0)
        return fd;
    uint32_t filled = 0;
    for (;;) {
        long n = tt_sys_read(fd, text + filled, TT_TEXT - filled);
        if (n <= 0)
            break;
        const char *line = text, *end = text + filled + n, *stop;
        while ((stop = tt_text_find(line, end, '\n')) != NULL) {
            struct tt_map m;
            if (take_line(line, stop, &m) == 0) {
                if (m.is & TT_IS_STACK)
                    put_main_stack(m.lo, m.hi);
                if (list->count == list->room && (longer = lengthen(list)) != NULL)
                    list = longer;
                if (list->count < list->room) {
                    put(&list->map[list->count], &m);
                    __atomic_store_n(&list->count, list->count + 1, __ATOMIC_RELEASE);
                }
            }
            line = stop + 1;
        }
        filled = (uint32_t)(end - line);
        __builtin_memmove(text, line, filled);
        if (filled == TT_TEXT)
            filled = 0; /* a line longer than any path can make it */
    }
    tt_sys_close(fd);
    end_list(list);
    return 0;
}

void tt_maps_drop(void)
{
    __atomic_store_n(&tt_agent.maps, NULL, __ATOMIC_RELEASE);
}

/* Index of the first mapping that ends above `address`. */
static uint32_t search(const struct tt_maps *list, uint64_t address, uint32_t count)
{
    uint32_t lo = 0, hi = count;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        if (__atomic_load_n(&list->map[mid].hi, __ATOMIC_ACQUIRE) <= address)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* The mapping of `address`; and the header of the module that it is of, if that is wanted: the
 * nearest mapping at or below it of the same file at offset 0. */
static int look(const struct tt_maps *list, uint64_t address, struct tt_map *m, uint64_t *header)
{
    uint32_t count = __atomic_load_n(&list->count, __ATOMIC_ACQUIRE);
    uint32_t at = search(list, address, count);
    if (at == count)
        return 0;
    *m = get(&list->map[at]);
    if (m->lo > address)
        return 0;
    if (!header)
        return 1;
    *header = m->is & TT_IS_VDSO ? m->lo : 0;
    for (uint32_t i = 0; !*header && m->file && i <= MODULE_PARTS && i <= at; i++) {
        struct tt_map part = get(&list->map[at - i]);
        if (part.offset == 0 && part.file == m->file)
            *header = part.lo;
    }
    return 1;
}

int tt_maps_find(uint64_t address, struct tt_map *m, uint64_t *header)
{
    for (unsigned tries = 0; tries < TRIES; tries++) {
        const struct tt_maps *list = __atomic_load_n(&tt_agent.maps, __ATOMIC_ACQUIRE);
        if (!list)
            return 0;
        uint32_t turn = __atomic_load_n(&list->turn, __ATOMIC_ACQUIRE);
        int found = look(list, address, m, header);
        if (turn % 2 == 0 && __atomic_load_n(&list->turn, __ATOMIC_RELAXED) == turn)
            return found;
    }
    return 0;
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
    struct tt_range page = {sp & ~0xfffULL, (sp & ~0xfffULL) + 4096}, first = main_stack();
    /* The main thread's stack grows downwards from what was seen at the start. */
    if (sp < first.hi && sp >= first.lo)
        return first;
    if (sp < first.lo && first.lo - sp < near && pages_readable(t, sp, first.lo)) {
        put_main_stack(page.lo, first.hi);
        return (struct tt_range){page.lo, first.hi};
    }
    /* Other threads' control blocks lie at the upper end of their stacks (glibc allocatestack.c).
     */
    uint64_t tcb = tt_arch_tcb();
    if (sp < tcb && tcb - sp < near && pages_readable(t, sp, tcb))
        return (struct tt_range){page.lo, tcb};
    struct tt_map m;
    if (!tt_lock_take(&tt_agent.row_lock, t->index + 1))
        return page;
    int error = tt_maps_read(t->text);
    tt_lock_give(&tt_agent.row_lock, t->index + 1);
    if (error == 0 && tt_maps_find(sp, &m, NULL) && m.is & TT_IS_READ)
        return (struct tt_range){m.lo, m.hi};
    return page;
}

uint64_t tt_maps_gap(uint64_t near, uint64_t bytes)
{
    const uint64_t reach = 0x78000000, guard = 0x10000;
    uint64_t best = 0, end = 0x20000, distance = reach;
    const struct tt_maps *list = tt_agent.maps;
    for (uint32_t i = 0; list && i < list->count; i++) {
        const struct tt_map *m = &list->map[i];
        if (m->lo >= end + bytes + 2 * guard) {
            uint64_t at = m->lo - guard - bytes; /* upper end of the gap, never just above a heap */
            uint64_t d = at > near ? at - near : near - at;
            if (d < distance && !(m->is & TT_IS_STACK)) {
                best = at & ~0xffffULL;
                distance = d;
            }
        }
        end = m->hi;
    }
    return best;
}
