/* SPDX-License-Identifier: Apache-2.0 */
/* The library that `telltale inject` preloads: which stack is this call's, and shall it fail now?
 * It does nothing unless the controller's plan stands in the environment, and nothing in children
 * unless the plan says so. Cost does not matter here: one lock guards all tables.
 * Start: tt_fault_ask. */
#include "fault/preload.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

struct tt_fault_plan *tt_fault_plan, *tt_fault_shared;

static int active; /* set by start in the process meant, and inherited by forked children */
static volatile char lock;
static int before; /* errno while the lock is held */
static __thread int inside __attribute__((tls_model("initial-exec")));
static __thread int within __attribute__((tls_model("initial-exec")));
static __thread int resolving __attribute__((tls_model("initial-exec")));

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

const char *tt_fault_name(enum tt_fault_call call)
{
    return names[call];
}

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

int tt_fault_ask(enum tt_fault_call call, void *caller, uint32_t *site)
{
    if (site)
        *site = 0;
    if (!tt_fault_enter())
        return 0;
    struct tt_fault_plan *p = tt_fault_plan, *all = tt_fault_shared;
    int code = 0;
    p->calls++;
    if (all->bound && !all->ready && waits(call))
        all->ready = 1;
    if (!p->fired_seen && __atomic_load_n(&all->fired, __ATOMIC_ACQUIRE)) {
        p->fired_seen = 1;
        p->fired_order = p->order;
    }
    uint32_t index = tt_fault_stack_of(call, caller);
    if (site)
        *site = index;
    if (index) {
        struct tt_fault_stack *s = &p->stack[index];
        s->calls++;
        s->after += p->fired_seen;
        if (s->hash == all->target && !tt_fault_stack_in_loader(s)) {
            uint32_t n = __atomic_add_fetch(&all->target_calls, 1, __ATOMIC_ACQ_REL);
            if (!all->nth || n == all->nth) { /* of all processes only one sees this number */
                if (!p->fired_seen)
                    p->fired_order = p->order;
                p->fired_seen = p->fired_here = 1;
                __atomic_fetch_add(&all->fired, 1, __ATOMIC_ACQ_REL);
                code = all->code;
            }
        }
    }
    tt_fault_leave();
    return code;
}

void tt_fault_bound(void)
{
    if (tt_fault_enter()) {
        tt_fault_shared->bound = 1;
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
    tt_fault_stack_end(caller);
    __atomic_store_n(&p->state, TT_FAULT_ENDING, __ATOMIC_RELEASE);
    tt_fault_leave();
    futex_wake(&p->state);
    const struct timespec look_up = {1, 0};
    while (tt_fault_shared->hold && !__atomic_load_n(&p->release, __ATOMIC_ACQUIRE))
        if (syscall(SYS_futex, &p->release, FUTEX_WAIT, 0, &look_up, NULL, 0) < 0 &&
            errno == ETIMEDOUT && syscall(SYS_kill, tt_fault_shared->controller, 0) < 0 &&
            errno == ESRCH)
            break; /* a forked child does not die with the controller */
}

static void note_status(int status, void *arg)
{
    (void)arg;
    if (meant())
        tt_fault_plan->exit_status = status;
}

void tt_fault_forked(void)
{
    struct tt_fault_plan *p = NULL;
    if (!active)
        return;
    active = 0;
    for (uint32_t i = 1; !p && i < TT_FAULT_PROCESSES; i++) {
        uint32_t free = 0;
        if (__atomic_compare_exchange_n(&tt_fault_shared->taken[i], &free, 1, 0, __ATOMIC_ACQ_REL,
                                        __ATOMIC_RELAXED))
            p = TT_FAULT_PLAN(tt_fault_shared, i);
    }
    if (!p) {
        __atomic_fetch_add(&tt_fault_shared->unfollowed, 1, __ATOMIC_RELAXED);
        return;
    }
    tt_fault_plan = p;
    p->images = 1;
    p->module_count = 1;
    p->fired_seen = __atomic_load_n(&tt_fault_shared->fired, __ATOMIC_ACQUIRE) != 0;
    tt_fault_stack_forked();
    on_exit(note_status, NULL); /* not earlier: it must run before our destructor */
    p->pid = (uint32_t)syscall(SYS_getpid);
    __atomic_store_n(&p->state, TT_FAULT_RUNNING, __ATOMIC_RELEASE);
    active = 1;
}

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv(TT_FAULT_ENV);
    int fd = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    long size = syscall(SYS_lseek, fd, 0L, SEEK_END);
    void *at = (void *)syscall(SYS_mmap, NULL, size, PROT_READ | PROT_WRITE,
                               MAP_SHARED | MAP_NORESERVE, fd, 0L);
    syscall(SYS_close, fd);
    if (at == MAP_FAILED)
        return;
    struct tt_fault_plan *p = at;
    if (p->magic != TT_FAULT_MAGIC || p->version != TT_FAULT_VERSION ||
        p->pid != (uint32_t)getpid()) { /* a child */
        syscall(SYS_munmap, at, size);
        return;
    }
    tt_fault_plan = tt_fault_shared = p;
    tt_fault_stack_begin((uint64_t)__libc_malloc);
    for (int i = 0; i < TT_FAULT_CALL_COUNT; i++)
        look_up((enum tt_fault_call)i);
    if (p->images++)
        tt_fault_exec();
    if (p->follow)
        tt_fault_fork_begin();
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
        tt_fault_stack_forget();
        tt_fault_leave();
    }
    return result;
}

TT_EXPORT __attribute__((noreturn)) void tt_call__exit(int status) __asm__("_exit");
TT_ALIAS(_exit, _Exit);
void tt_call__exit(int status)
{
    note_status(status, NULL);
    tt_fault_end(__builtin_return_address(0));
    for (;;)
        syscall(SYS_exit_group, status);
}
