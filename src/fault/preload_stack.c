/* SPDX-License-Identifier: Apache-2.0 */
/* Stacks in the preloaded library: names that are the same in each run, whatever addresses the
 * loader chose, and what main holds. Cost does not matter here, so they come from the compiler's
 * unwinder. All functions run between tt_fault_enter and tt_fault_leave, or before the first.
 * Start: tt_fault_stack_of. */
#include "fault/preload.h"

#include <dlfcn.h>
#include <link.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <unwind.h>

#define OWN_FRAMES 6 /* of ours at most, at the inner end of a stack */
#define MEMO 16384u

/* Addresses of a stack, hashed, to its index: so that frames are looked up once. */
static struct {
    uint64_t raw;
    uint32_t index;
} memo[MEMO];
static struct {
    const void *map; /* struct link_map */
    uint64_t hash;   /* of the module's file name */
} known[TT_FAULT_MODULES];

static uint64_t mix(uint64_t hash, uint64_t word)
{
    hash ^= word + 0x9e3779b97f4a7c15ULL + (hash << 6) + (hash >> 2);
    hash *= 0xff51afd7ed558ccdULL; /* of MurmurHash3's finaliser */
    return hash ^ hash >> 33;
}

static uint64_t hash_text(const char *text)
{
    uint64_t hash = 0xcbf29ce484222325ULL; /* FNV-1a */
    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * 0x100000001b3ULL;
    return hash;
}

/* The executable part of a module, from its program headers. */
static int add_segment(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    const struct link_map *map = ((void **)arg)[0];
    struct tt_fault_module *m = ((void **)arg)[1];
    if (info->dlpi_addr != map->l_addr || strcmp(info->dlpi_name, map->l_name) != 0)
        return 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
        if (ph->p_type == PT_LOAD && (ph->p_flags & PF_X)) {
            m->start = ph->p_vaddr;
            m->end = ph->p_vaddr + ph->p_memsz;
            m->offset = ph->p_offset;
            return 1;
        }
    }
    return 1;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Index of the module, or 0, which stands for code that no module holds. map NULL: what stands for
 * the fork of a child. */
static uint32_t module_of(const struct link_map *map)
{
    struct tt_fault_plan *p = tt_fault_plan;
    char path[TT_FAULT_PATH] = "";
    uint32_t index = 1;
    for (uint32_t i = 1; i < p->module_count; i++)
        if (known[i].hash && known[i].map == map)
            return i;
    if (!map)
        strcpy(path, TT_FAULT_CHILD_MODULE);
    else if (*map->l_name)
        strncpy(path, map->l_name, sizeof path - 1);
    else if (readlink("/proc/self/exe", path, sizeof path - 1) < 0)
        strcpy(path, "[program]");
    while (index < p->module_count && strcmp(p->module[index].path, path) != 0)
        index++;
    if (index == TT_FAULT_MODULES) {
        p->dropped++;
        return 0;
    }
    struct tt_fault_module *m = &p->module[index];
    if (index == p->module_count) {
        memcpy(m->path, path, sizeof path);
        if (map)
            dl_iterate_phdr(add_segment, (void *[]){(void *)map, m});
        else
            m->end = 1;
        p->module_count++;
    }
    known[index].map = map;
    known[index].hash = hash_text(base_name(path));
    return index;
}

/* The stack of `call` with these return addresses, innermost first: index, or 0 when there is no
 * room. */
static uint32_t intern(uint16_t call, void *const *pcs, unsigned n)
{
    struct tt_fault_plan *p = tt_fault_plan;
    uint64_t raw = call, frames[TT_FAULT_DEPTH];
    int child = p != tt_fault_shared;
    for (unsigned i = 0; i < n; i++)
        raw = mix(raw, (uint64_t)pcs[i]);
    if (memo[raw % MEMO].raw == raw && memo[raw % MEMO].index)
        return memo[raw % MEMO].index;
    uint64_t hash = hash_text(tt_fault_name((enum tt_fault_call)call));
    for (unsigned i = 0; i < n; i++) {
        struct link_map *map = NULL;
        Dl_info info;
        uint32_t module = 0;
        if (dladdr1(pcs[i], &info, (void **)&map, RTLD_DL_LINKMAP) && map)
            module = module_of(map);
        uint64_t offset = module ? (uint64_t)pcs[i] - map->l_addr : 0;
        frames[i] = TT_FAULT_FRAME(module, offset);
        hash = mix(hash, module ? known[module].hash ^ offset : 1);
    }
    if (child && n < TT_FAULT_DEPTH) {
        uint32_t module = module_of(NULL);
        frames[n++] = TT_FAULT_FRAME(module, 1);
        hash = mix(hash, known[module].hash);
    }
    hash = hash ? hash : 1;
    uint32_t at = (uint32_t)(hash % (TT_FAULT_STACKS - 1)) + 1;
    while (p->stack[at].hash && p->stack[at].hash != hash)
        at = at % (TT_FAULT_STACKS - 1) + 1;
    struct tt_fault_stack *s = &p->stack[at];
    if (!s->hash) {
        if (p->stack_count >= TT_FAULT_STACKS / 4 * 3 || p->frame_count + n > TT_FAULT_FRAMES) {
            p->dropped++;
            return 0;
        }
        s->frames = p->frame_count;
        s->depth = (uint16_t)n;
        s->call = call;
        memcpy(p->frame + p->frame_count, frames, n * sizeof *frames);
        p->frame_count += n;
        p->stack_count++;
        s->hash = hash;
    }
    memo[raw % MEMO].raw = raw;
    memo[raw % MEMO].index = at;
    return at;
}

/* Registers that a function keeps for its caller (System V ABI for x86-64, figure 3.36). */
static const int kept[] = {3, 6, 12, 13, 14, 15};
#define KEPT (sizeof kept / sizeof *kept)

struct walk {
    unsigned n, most;
    struct {
        void *pc;
        uint64_t bottom; /* of the frame: the stack pointer behind the call in it */
        uint64_t keeps[KEPT];
    } frame[TT_FAULT_DEPTH + OWN_FRAMES];
};

static _Unwind_Reason_Code step(struct _Unwind_Context *context, void *arg)
{
    struct walk *w = arg;
    if (w->n == w->most || !_Unwind_GetIP(context))
        return _URC_NORMAL_STOP;
    w->frame[w->n].pc = (void *)_Unwind_GetIP(context);
    w->frame[w->n].bottom = _Unwind_GetCFA(context); /* of the frame before this one */
    for (unsigned i = 0; i < KEPT; i++)
        w->frame[w->n].keeps[i] = _Unwind_GetGR(context, kept[i]);
    w->n++;
    return _URC_NO_REASON;
}

/* What main holds in its frame and in registers, as it was at the last event: when main has
 * returned, blocks that only its variables pointed to would look lost. In memory of its own, where
 * the search takes it for roots. */
#define MAIN_BYTES 65536u
static struct {
    uint64_t *copy; /* KEPT registers, then the frame */
    void *start;    /* the outermost return address of the initial thread, in the program */
    unsigned above; /* frames above main */
    uint64_t libc, libc_end;
} main_frame;

static int in_libc(const void *pc)
{
    return (uint64_t)pc >= main_frame.libc && (uint64_t)pc < main_frame.libc_end;
}

/* From the first whole stack that begins in the program and goes on in libc. */
static void learn_main(const struct walk *w)
{
    Dl_info info;
    struct link_map *map = NULL;
    if (!dladdr1(w->frame[w->n - 1].pc, &info, (void **)&map, RTLD_DL_LINKMAP) || !map ||
        *map->l_name)
        return;
    unsigned above = 1;
    while (above < w->n && in_libc(w->frame[w->n - 1 - above].pc))
        above++;
    if (above == 1 || above >= w->n || above > 3)
        return;
    main_frame.start = w->frame[w->n - 1].pc;
    main_frame.above = above;
}

static void save_main(const struct walk *w)
{
    if (!main_frame.copy || w->n == w->most || w->n < 4)
        return;
    if (!main_frame.start)
        learn_main(w);
    if (w->frame[w->n - 1].pc != main_frame.start || w->n <= main_frame.above)
        return;
    unsigned at = w->n - 1 - main_frame.above;
    if (in_libc(w->frame[at].pc)) /* exit(3): main has returned */
        return;
    uint64_t bottom = w->frame[at].bottom, top = w->frame[at + 1].bottom;
    if (top <= bottom || top - bottom > MAIN_BYTES)
        return;
    memcpy(main_frame.copy, w->frame[at].keeps, sizeof w->frame[at].keeps);
    memcpy(main_frame.copy + KEPT, (const void *)bottom, top - bottom);
    memset((char *)(main_frame.copy + KEPT) + (top - bottom), 0, MAIN_BYTES - (top - bottom));
    tt_fault_plan->main_saved = 1;
}

void tt_fault_watch_main(void)
{
    struct tt_fault_plan *p = tt_fault_plan;
    struct walk w = {.most = TT_FAULT_DEPTH + OWN_FRAMES};
    if (tt_fault_shared->target && !p->fired_seen)
        return;
    _Unwind_Backtrace(step, &w);
    save_main(&w);
}

static int find_libc(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
        uint64_t start = info->dlpi_addr + ph->p_vaddr, end = start + ph->p_memsz;
        if (ph->p_type == PT_LOAD && (uint64_t)arg >= start && (uint64_t)arg < end) {
            main_frame.libc = start;
            main_frame.libc_end = end;
            return 1;
        }
    }
    return 0;
}

/* The frames outside of the function that forked this process. While it lives, they are the outer
 * end of stacks of the thread that forked. */
static struct {
    unsigned n;
    struct {
        void *pc;
        uint64_t bottom;
    } frame[TT_FAULT_DEPTH + OWN_FRAMES];
} before_fork;

static int was_before_fork(void *pc, uint64_t bottom)
{
    for (unsigned i = 0; i < before_fork.n; i++)
        if (before_fork.frame[i].bottom == bottom && before_fork.frame[i].pc == pc)
            return 1;
    return 0;
}

static int in_ours(const void *pc)
{
    Dl_info info, ours;
    return dladdr(pc, &info) && dladdr((void *)in_ours, &ours) && info.dli_fbase == ours.dli_fbase;
}

void tt_fault_stack_forked(void)
{
    struct walk w = {.most = TT_FAULT_DEPTH + OWN_FRAMES};
    unsigned first = 0;
    tt_fault_stack_forget();
    _Unwind_Backtrace(step, &w);
    /* out of the handler, fork or what calls it (daemon), and the function that called that */
    while (first < w.n && (in_libc(w.frame[first].pc) || in_ours(w.frame[first].pc)))
        first++;
    before_fork.n = 0;
    for (first++; first < w.n; first++) {
        before_fork.frame[before_fork.n].pc = w.frame[first].pc;
        before_fork.frame[before_fork.n++].bottom = w.frame[first].bottom;
    }
}

/* Return addresses from the caller's on; in a forked child without those of before the fork. */
static unsigned capture(void *caller, void **pcs, unsigned most)
{
    struct walk w = {.most = TT_FAULT_DEPTH + OWN_FRAMES};
    _Unwind_Backtrace(step, &w);
    save_main(&w);
    unsigned first = 0, count = 0;
    while (first < w.n && first < OWN_FRAMES && w.frame[first].pc != caller)
        first++;
    if (first == w.n || w.frame[first].pc != caller) {
        pcs[0] = caller;
        return 1;
    }
    for (; first < w.n && count < most; first++) {
        if (count && was_before_fork(w.frame[first].pc, w.frame[first].bottom))
            break;
        pcs[count++] = w.frame[first].pc;
    }
    return count;
}

uint32_t tt_fault_stack_of(enum tt_fault_call call, void *caller)
{
    void *pcs[TT_FAULT_DEPTH];
    return intern((uint16_t)call, pcs, capture(caller, pcs, tt_fault_shared->depth));
}

int tt_fault_stack_in_loader(const struct tt_fault_stack *s)
{
    const struct tt_fault_plan *p = tt_fault_plan;
    if (!s->depth)
        return 0;
    const char *base = base_name(p->module[TT_FAULT_FRAME_MODULE(p->frame[s->frames])].path);
    return strncmp(base, "ld-linux", 8) == 0 || strncmp(base, "ld-2.", 5) == 0;
}

/* exit(3) was called because main returned: its caller is libc. */
void tt_fault_stack_end(void *caller)
{
    void *pcs[TT_FAULT_DEPTH], *exit_at = dlsym(RTLD_NEXT, "exit");
    unsigned n = capture(caller, pcs, TT_FAULT_DEPTH);
    Dl_info info;
    tt_fault_plan->end_main = 0;
    for (unsigned i = 0; i + 1 < n; i++) /* the call of a function that does not return ends exit */
        if (dladdr((char *)pcs[i] - 1, &info) && info.dli_saddr == exit_at) {
            tt_fault_plan->end_main = (uint32_t)in_libc(pcs[i + 1]);
            return;
        }
}

void tt_fault_stack_begin(uint64_t in_libc_at)
{
    void *copy = (void *)syscall(SYS_mmap, NULL, MAIN_BYTES + 4096, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS, -1L, 0L);
    main_frame.copy = copy == MAP_FAILED ? NULL : copy;
    tt_fault_plan->main_saved = 0;
    tt_fault_plan->module_count = tt_fault_plan->module_count ? tt_fault_plan->module_count : 1;
    dl_iterate_phdr(find_libc, (void *)in_libc_at);
}

void tt_fault_stack_forget(void)
{
    memset(memo, 0, sizeof memo);
    memset(known, 0, sizeof known);
}
