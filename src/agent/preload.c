/* SPDX-License-Identifier: Apache-2.0 */
/* The preload pack: loaded by LD_PRELOAD, it finds the real allocator, starts the core when the
 * recorder asked for it (environment, see tape.h), and does what only a loaded library can:
 * an atfork handler, and hooks on dlclose, mlockall, and on the calls that install a seccomp
 * filter. Allocation calls come before any constructor, so finding the real allocator
 * (tt_preload_resolve) is apart from starting (start, a constructor). Nothing here may print.
 * Start: tt_preload_resolve. */
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>
#include <pthread.h>

#include "agent/hook.h"
#include "agent/preload.h"
#include "agent/region.h"

/* Exported by glibc; declared with the type that the core calls. */
extern tt_real_fn __libc_malloc, __libc_calloc, __libc_realloc, __libc_free, __libc_memalign;
extern char tt_entry_malloc[] TT_HIDDEN;

/* A function found by name, and the same as what the core calls. */
union found {
    void *object;
    tt_real_fn *fn;
    int (*dlclose)(void *);
    int (*mlockall)(int);
    int (*main)(int, char **, char **);
    int (*start_main)(void *, int, char **, void (*)(void), void (*)(void), void (*)(void), void *);
};

static struct tt_host host;
static int resolving;

/* Used by the stubs of prctl, syscall and malloc_usable_size (entry_x86_64.S). */
extern void *tt_preload_prctl TT_HIDDEN, *tt_preload_syscall TT_HIDDEN;
extern tt_real_fn *tt_preload_usable TT_HIDDEN;
void *tt_preload_prctl, *tt_preload_syscall;

static const struct {
    uint32_t entry;
    uint32_t instead; /* entry that does the same when the allocator lacks this one */
    const char *name;
} names[] = {
    /* These four every allocator has: looking them up cannot fail, hence cannot allocate. */
    {TT_E_MALLOC, TT_E_MALLOC, "malloc"},
    {TT_E_FREE, TT_E_FREE, "free"},
    {TT_E_CALLOC, TT_E_CALLOC, "calloc"},
    {TT_E_REALLOC, TT_E_REALLOC, "realloc"},
    {TT_E_MEMALIGN, TT_E_MEMALIGN, "memalign"},
    {TT_E_ALIGNED_ALLOC, TT_E_MEMALIGN, "aligned_alloc"},
    {TT_E_POSIX_MEMALIGN, TT_E_POSIX_MEMALIGN, "posix_memalign"},
    {TT_E_VALLOC, TT_E_VALLOC, "valloc"},
    {TT_E_PVALLOC, TT_E_PVALLOC, "pvalloc"},
    {TT_E_USABLE_SIZE, TT_E_USABLE_SIZE, "malloc_usable_size"},
    {TT_E_REALLOCARRAY, TT_E_REALLOCARRAY, "reallocarray"},
    {TT_E_CFREE, TT_E_FREE, "cfree"},
    {TT_E_FREE_SIZED, TT_E_FREE, "free_sized"},
    {TT_E_FREE_ALIGNED_SIZED, TT_E_FREE, "free_aligned_sized"},
};

/* Called by a stub whose table entry is still empty (entry_x86_64.S). */
TT_HIDDEN void tt_preload_resolve(void);
void tt_preload_resolve(void)
{
    if (tt_agent.entry[TT_E_MALLOC])
        return;
    if (resolving) { /* the loader allocates while it looks names up: serve it from glibc */
        tt_agent.host.real[TT_E_MALLOC] = __libc_malloc;
        tt_agent.host.real[TT_E_CALLOC] = __libc_calloc;
        tt_agent.host.real[TT_E_REALLOC] = __libc_realloc;
        tt_agent.host.real[TT_E_FREE] = __libc_free;
        tt_agent.host.real[TT_E_MEMALIGN] = __libc_memalign;
        tt_hook_pass();
        return;
    }
    resolving = 1;
    tt_preload_prctl = dlsym(RTLD_NEXT, "prctl");
    tt_preload_syscall = dlsym(RTLD_NEXT, "syscall");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        union found f = {dlsym(RTLD_NEXT, names[i].name)};
        host.real[names[i].entry] = f.object ? f.fn : host.real[names[i].instead];
        if (i == 3) { /* from here on a failing look-up may allocate */
            tt_agent.host = host;
            tt_hook_pass();
        }
    }
    tt_agent.host = host;
    tt_preload_usable = host.real[TT_E_USABLE_SIZE];
    tt_hook_pass();
}

/* Why the agent cannot work in this process; NULL if it can. */
static const char *refusal(char *text, size_t room)
{
    Dl_info info;
    const ElfW(Sym) *symbol = NULL;
    void *first = dlsym(RTLD_DEFAULT, "malloc");
    if (first == (void *)tt_entry_malloc)
        return NULL;
    if (!first || dladdr1(first, &info, (void **)&symbol, RTLD_DL_SYMENT) == 0)
        info.dli_fname = "another object";
    /* A program linked at a fixed address that takes malloc's address lends it the address of its
     * own PLT entry (System V ABI for x86-64, 4.4 "Function Addresses"): no definition. */
    else if (symbol && symbol->st_shndx == SHN_UNDEF)
        return NULL;
    char *at = tt_text_put(text, text + room, "malloc of ");
    at = tt_text_put(at, text + room, info.dli_fname);
    tt_text_put(at, text + room, " comes before the agent's: use telltale attach");
    return text;
}

static void child(void)
{
    /* Now, since the child may be about to give up the right to make files. */
    if (geteuid() == 0)
        tt_agent_forked();
}

/* By the object that holds it: tcmalloc and mimalloc define __libc_malloc too. */
static int is_glibc(void *malloc_found, Dl_info *info)
{
    if (dladdr(malloc_found, info) == 0 || !info->dli_fname)
        return 0;
    const char *base = strrchr(info->dli_fname, '/');
    base = base ? base + 1 : info->dli_fname;
    return strncmp(base, "libc.so.", 8) == 0 || strncmp(base, "libc-2.", 7) == 0;
}

__attribute__((constructor)) static void start(int argc, char **argv, char **envp)
{
    (void)argc;
    (void)argv;
    const char *dir = NULL, *text = NULL;
    for (; envp && *envp; envp++) {
        if (strncmp(*envp, TT_TAPE_ENV_DIR "=", sizeof TT_TAPE_ENV_DIR) == 0)
            dir = *envp + sizeof TT_TAPE_ENV_DIR;
        if (strncmp(*envp, TT_TAPE_ENV_CONF "=", sizeof TT_TAPE_ENV_CONF) == 0)
            text = *envp + sizeof TT_TAPE_ENV_CONF;
    }
    int before = errno;
    struct tt_conf conf;
    tt_preload_resolve();
    if (tt_conf_read(&conf, dir, text) != 0 ||
        (!conf.follow && conf.root && conf.root != (uint32_t)getpid()))
        return;
    union found real = {.fn = host.real[TT_E_MALLOC]}, libc = {.fn = __libc_malloc};
    Dl_info info = {0};
    if (is_glibc(real.object, &info)) {
        host.granule_shift = 5;
        tt_text_put(host.allocator, host.allocator + sizeof host.allocator, "glibc");
    } else {
        host.granule_shift = 4;
        host.size_floor = 9;
        if (info.dli_fname)
            tt_text_put(host.allocator, host.allocator + sizeof host.allocator, info.dli_fname);
    }
    ssize_t n = readlink("/proc/self/exe", host.exe, sizeof host.exe - 1);
    host.exe[n > 0 ? n : 0] = 0;
    host.near_exe = getauxval(AT_ENTRY);
    host.near_libc = (uint64_t)libc.object;
    char why[128];
    if (tt_agent_start(&host, &conf, refusal(why, sizeof why)) == 0) {
        pthread_atfork(NULL, NULL, child);
        if (conf.origin_ns) /* a recorder started this */
            tt_agent_await();
    }
    errno = before;
}

/* The stub of main (entry_x86_64.S) calls this when main has returned, with main's frame still
 * whole above: what only its locals held is not lost. */
void tt_preload_returned(void) TT_HIDDEN;
void tt_preload_returned(void)
{
    if (tt_agent.alive)
        tt_agent_exiting();
}

extern int tt_main(int argc, char **argv, char **envp) TT_HIDDEN;
extern void *tt_preload_main TT_HIDDEN;
void *tt_preload_main;

/* Called by the program's _start, after all constructors. */
TT_EXPORT int __libc_start_main(void *program, int argc, char **argv, void (*init)(void),
                                void (*fini)(void), void (*loader_fini)(void), void *stack_end);
int __libc_start_main(void *program, int argc, char **argv, void (*init)(void), void (*fini)(void),
                      void (*loader_fini)(void), void *stack_end)
{
    union found f = {dlsym(RTLD_NEXT, "__libc_start_main")}, stub = {.main = tt_main};
    struct rlimit stack;
    if (tt_agent.alive && tt_agent.conf.last_ms && getrlimit(RLIMIT_STACK, &stack) == 0 &&
        stack.rlim_cur >= 1 << 20) {
        tt_preload_main = program;
        program = stub.object;
    }
    return f.start_main(program, argc, argv, init, fini, loader_fini, stack_end);
}

__attribute__((destructor)) static void ended(void)
{
    if (tt_agent.alive)
        tt_agent_exiting();
    if (tt_agent.alive && tt_agent_recording() && tt_agent.head->state == TT_STATE_RUNNING)
        tt_agent.head->state = TT_STATE_ENDED;
}

/* Rows of unloaded code must not be used for what is loaded in its place. */
TT_EXPORT int dlclose(void *handle);
int dlclose(void *handle)
{
    union found f = {dlsym(RTLD_NEXT, "dlclose")};
    int result = f.dlclose(handle);
    if (tt_agent.alive && tt_agent_recording()) {
        struct tt_thread *t = tt_thread_get();
        if (tt_hook_enter(t, __builtin_frame_address(0))) {
            tt_row_forget(t);
            tt_hook_leave(t);
        }
    }
    return result;
}

/* Locking all memory is not meant to lock ours: most of it is reserved, not used. */
TT_EXPORT int mlockall(int flags);
int mlockall(int flags)
{
    union found f = {dlsym(RTLD_NEXT, "mlockall")};
    int result = f.mlockall(flags), before = errno;
    if (tt_agent.base)
        munlock(tt_agent.base, tt_agent.bytes);
    if (tt_region_bytes())
        munlock((void *)TT_REGION_BASE, tt_region_bytes());
    if (tt_agent.pool)
        munlock(tt_agent.pool, (size_t)tt_agent.pool_limit * TT_THREAD_BYTES);
    errno = before;
    return result;
}

void tt_agent_cxx_real(tt_real_fn *const *real)
{
    tt_preload_resolve();
    for (uint32_t e = TT_E_NEW; e < TT_E_COUNT; e++)
        host.real[e] = tt_agent.host.real[e] = real[e - TT_E_NEW];
    if (!tt_agent.alive) /* not recording (yet): all entries lead to the real ones */
        tt_hook_pass();
}

void *const *tt_agent_cxx_entries(void)
{
    return (void *const *)tt_agent.entry;
}

void *tt_agent_cxx_malloc(void)
{
    tt_preload_resolve();
    union found f = {.fn = host.real[TT_E_MALLOC]};
    return f.object;
}
