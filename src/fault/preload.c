/* SPDX-License-Identifier: Apache-2.0 */
/* The library that `telltale inject` preloads: which stack is this call's, and shall it fail now?
 * It does nothing unless the controller's plan stands in the environment, and nothing in children
 * of the process meant. Cost does not matter here, so stacks come from the compiler's unwinder and
 * one lock guards all tables; what matters is that a stack has the same name in each run.
 * Start: tt_fault_ask. */
#include "fault/preload.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <unwind.h>

#define OWN_FRAMES 6 /* of ours at most, at the inner end of a stack */
#define MEMO 16384u

struct tt_fault_plan *tt_fault_plan;

static int active; /* set once by start, in the process meant */
static volatile char lock;
static int before; /* errno while the lock is held */
static __thread int inside __attribute__((tls_model("initial-exec")));
static __thread int within __attribute__((tls_model("initial-exec")));
static __thread int resolving __attribute__((tls_model("initial-exec")));

/* Addresses of a stack, hashed, to its index + 1: so that frames are looked up once. */
static struct {
    uint64_t raw;
    uint32_t index;
} memo[MEMO];
static struct {
    const void *map; /* struct link_map */
    uint64_t hash;   /* of the module's file name */
} known[TT_FAULT_MODULES];

/* ---- entering ---- */

static int meant(void)
{
    struct tt_fault_plan *p = tt_fault_plan;
    return active && !inside && p->state == TT_FAULT_RUNNING &&
           (uint32_t)syscall(SYS_getpid) == p->pid;
}

int tt_fault_enter(void)
{
    return !within && tt_fault_enter_within();
}

int tt_fault_enter_within(void)
{
    int saved = errno;
    if (!meant()) {
        if (active && inside)
            __atomic_fetch_add(&tt_fault_plan->dropped, 1, __ATOMIC_RELAXED);
        errno = saved;
        return 0;
    }
    inside = 1;
    while (__atomic_test_and_set(&lock, __ATOMIC_ACQUIRE))
        sched_yield();
    before = saved;
    return 1;
}

void tt_fault_leave(void)
{
    int saved = before;
    __atomic_clear(&lock, __ATOMIC_RELEASE);
    inside = 0;
    errno = saved;
}

void tt_fault_within(void)
{
    within++;
}

void tt_fault_without(void)
{
    within--;
}

/* ---- real functions ---- */

static const char *const names[TT_FC_ALL] = {
#define X(name, group, usual, others) [TT_FC_##name] = #name,
    TT_FAULT_CALLS(X)
#undef X
        [TT_FC_free] = "free",
    [TT_FC_munmap] = "munmap",
    [TT_FC_close] = "close",
    [TT_FC_close_range] = "close_range",
    [TT_FC_closefrom] = "closefrom",
    [TT_FC_fclose] = "fclose",
    [TT_FC_pclose] = "pclose",
    [TT_FC_closedir] = "closedir",
    [TT_FC_dlclose] = "dlclose",
    [TT_FC_pthread_join] = "pthread_join",
    [TT_FC_pthread_tryjoin_np] = "pthread_tryjoin_np",
    [TT_FC_pthread_timedjoin_np] = "pthread_timedjoin_np",
    [TT_FC_pthread_detach] = "pthread_detach",
    [TT_FC_timer_delete] = "timer_delete",
    [TT_FC_wait] = "wait",
    [TT_FC_wait3] = "wait3",
    [TT_FC_wait4] = "wait4",
    [TT_FC_waitid] = "waitid",
    [TT_FC_exit_] = "_exit",
    [TT_FC___read_chk] = "__read_chk",
    [TT_FC___pread_chk] = "__pread_chk",
    [TT_FC___recv_chk] = "__recv_chk",
    [TT_FC___recvfrom_chk] = "__recvfrom_chk",
    [TT_FC___fread_chk] = "__fread_chk",
    [TT_FC___fgets_chk] = "__fgets_chk",
    [TT_FC___poll_chk] = "__poll_chk",
    [TT_FC_mkostemp] = "mkostemp",
    [TT_FC_mkstemps] = "mkstemps",
    [TT_FC_mkostemps] = "mkostemps",
};
static void *real[TT_FC_ALL];

/* glibc's allocator under the names that nothing interposes: for the loader, while it looks up. */
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void __libc_free(void *);

static void *of_libc(enum tt_fault_call call)
{
    switch (call) {
    case TT_FC_malloc:
        return (void *)__libc_malloc;
    case TT_FC_calloc:
        return (void *)__libc_calloc;
    case TT_FC_realloc:
        return (void *)__libc_realloc;
    case TT_FC_free:
        return (void *)__libc_free;
    default:
        return NULL;
    }
}

/* NULL: this libc has no such function (stat(2) and its like before glibc 2.33). */
static void *look_up(enum tt_fault_call call)
{
    void *found = __atomic_load_n(&real[call], __ATOMIC_RELAXED);
    if (!found && resolving)
        found = of_libc(call);
    if (found)
        return found;
    int saved = errno;
    within++;
    resolving++;
    found = dlsym(RTLD_NEXT, names[call]);
    resolving--;
    within--;
    __atomic_store_n(&real[call], found, __ATOMIC_RELAXED);
    errno = saved;
    return found;
}

void *tt_fault_real(enum tt_fault_call call)
{
    void *found = look_up(call);
    if (!found)
        abort(); /* called though it is not there */
    return found;
}

/* ---- stacks ---- */

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

/* Index of the module, or 0, which stands for code that no module holds. */
static uint32_t module_of(const struct link_map *map)
{
    struct tt_fault_plan *p = tt_fault_plan;
    char path[TT_FAULT_PATH] = "";
    uint32_t index = 1;
    for (uint32_t i = 1; i < p->module_count; i++)
        if (known[i].map == map)
            return i;
    if (*map->l_name)
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
        dl_iterate_phdr(add_segment, (void *[]){(void *)map, m});
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
    for (unsigned i = 0; i < n; i++)
        raw = mix(raw, (uint64_t)pcs[i]);
    if (memo[raw % MEMO].raw == raw && memo[raw % MEMO].index)
        return memo[raw % MEMO].index;
    uint64_t hash = hash_text(names[call]);
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
    if (p->target && !p->fired)
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

/* Return addresses from the caller's on. */
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
    for (; first < w.n && count < most; first++)
        pcs[count++] = w.frame[first].pc;
    return count;
}

/* Calls in which a server waits for its clients. */
static int waits(enum tt_fault_call call)
{
    switch (call) {
    case TT_FC_accept:
    case TT_FC_accept4:
    case TT_FC_poll:
    case TT_FC_select:
    case TT_FC_epoll_wait:
    case TT_FC_recv:
    case TT_FC_recvfrom:
    case TT_FC_recvmsg:
    case TT_FC_read:
        return 1;
    default:
        return 0;
    }
}

/* The loader's own calls are left alone: what it does when they fail is to end the process. */
static int in_loader(const struct tt_fault_plan *p, const struct tt_fault_stack *s)
{
    if (!s->depth)
        return 0;
    const char *base = base_name(p->module[TT_FAULT_FRAME_MODULE(p->frame[s->frames])].path);
    return strncmp(base, "ld-linux", 8) == 0 || strncmp(base, "ld-2.", 5) == 0;
}

int tt_fault_ask(enum tt_fault_call call, void *caller, uint32_t *site)
{
    if (site)
        *site = 0;
    if (!tt_fault_enter())
        return 0;
    struct tt_fault_plan *p = tt_fault_plan;
    void *pcs[TT_FAULT_DEPTH];
    int code = 0;
    p->calls++;
    if (p->bound && !p->ready && waits(call))
        p->ready = 1;
    uint32_t index = intern((uint16_t)call, pcs, capture(caller, pcs, p->depth));
    if (site)
        *site = index;
    if (index) {
        struct tt_fault_stack *s = &p->stack[index];
        s->calls++;
        s->after += p->fired != 0;
        if (s->hash == p->target && (!p->nth || s->calls == p->nth) && !in_loader(p, s)) {
            if (!p->fired++)
                p->fired_order = p->order;
            code = p->code;
        }
    }
    tt_fault_leave();
    return code;
}

void tt_fault_bound(void)
{
    if (tt_fault_enter()) {
        tt_fault_plan->bound = 1;
        tt_fault_leave();
    }
}

/* ---- beginning and end ---- */

static void futex_wake(uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

void tt_fault_end(void *caller)
{
    if (!tt_fault_enter())
        return;
    struct tt_fault_plan *p = tt_fault_plan;
    void *pcs[TT_FAULT_DEPTH];
    unsigned n = capture(caller, pcs, TT_FAULT_DEPTH);
    /* from here up to exit(3) it is libc's and the loader's way, the same for all */
    Dl_info info, libc;
    unsigned first = 0;
    void *exit_at = dlsym(RTLD_NEXT, "exit");
    if (dladdr(exit_at, &libc))
        for (unsigned i = 0; i < n; i++)
            if (dladdr((char *)pcs[i] - 1, &info) && info.dli_saddr == exit_at) {
                first = i + 1;
                break;
            }
    p->end_main =
        first && first < n && dladdr(pcs[first], &info) && info.dli_fbase == libc.dli_fbase;
    uint64_t hash = 1;
    for (unsigned i = first; i < n; i++) {
        struct link_map *map = NULL;
        if (dladdr1(pcs[i], &info, (void **)&map, RTLD_DL_LINKMAP) && map)
            hash = mix(hash, (uint64_t)pcs[i] - map->l_addr);
    }
    p->end_hash = hash;
    __atomic_store_n(&p->state, TT_FAULT_ENDING, __ATOMIC_RELEASE);
    tt_fault_leave();
    futex_wake(&p->state);
    while (p->hold && !__atomic_load_n(&p->release, __ATOMIC_ACQUIRE))
        syscall(SYS_futex, &p->release, FUTEX_WAIT, 0, NULL, NULL, 0);
}

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv(TT_FAULT_ENV);
    int fd = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *at = (void *)syscall(SYS_mmap, NULL, sizeof(struct tt_fault_plan), PROT_READ | PROT_WRITE,
                               MAP_SHARED | MAP_NORESERVE, fd, 0L);
    syscall(SYS_close, fd);
    if (at == MAP_FAILED)
        return;
    struct tt_fault_plan *p = at;
    if (p->magic != TT_FAULT_MAGIC || p->version != TT_FAULT_VERSION ||
        p->pid != (uint32_t)getpid()) { /* a child */
        syscall(SYS_munmap, at, sizeof *p);
        return;
    }
    tt_fault_plan = p;
    void *copy = (void *)syscall(SYS_mmap, NULL, MAIN_BYTES + 4096, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS, -1L, 0L);
    main_frame.copy = copy == MAP_FAILED ? NULL : copy;
    dl_iterate_phdr(find_libc, (void *)__libc_malloc);
    for (int i = 0; i < TT_FAULT_CALL_COUNT; i++)
        look_up((enum tt_fault_call)i);
    p->main_saved = 0;
    if (p->images++)
        tt_fault_exec();
    p->module_count = p->module_count ? p->module_count : 1;
    p->state = TT_FAULT_RUNNING;
    active = 1;
}

__attribute__((destructor)) static void ended(void)
{
    tt_fault_end(__builtin_return_address(0));
}

TT_CALL(int, dlclose, void *handle)
{
    tt_fault_unused(TT_SPACE_LIBRARY, (uint64_t)handle);
    int result = TT_REAL(dlclose, int, void *)(handle);
    if (result == 0 && tt_fault_enter()) { /* its addresses may become another's */
        memset(memo, 0, sizeof memo);
        memset(known, 0, sizeof known);
        tt_fault_leave();
    }
    return result;
}

TT_EXPORT __attribute__((noreturn)) void tt_call__exit(int status) __asm__("_exit");
TT_ALIAS(_exit, _Exit);
void tt_call__exit(int status)
{
    tt_fault_end(__builtin_return_address(0));
    for (;;)
        syscall(SYS_exit_group, status);
}
