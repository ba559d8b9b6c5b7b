/* SPDX-License-Identifier: Apache-2.0 */
/* Attach and detach with a blob that only counts, on targets that notice what is wrong; refusals;
 * and a controller that is killed at any moment. Start: main's table. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "inject/attach.h"
#include "inject/find.h"
#include "inject/inject.h"
#include "inject/internal.h"
#include "inject/load.h"
#include "tape/tape.h"
#include "test_inject_target.h"

#define NEEDS_PTRACE()                                                                             \
    do {                                                                                           \
        if (!tt_target_may_trace())                                                                \
            skip();                                                                                \
    } while (0)

static const struct tt_inject_attach_options options = {.blob = TT_TEST_BLOB};
#define MOVED (TT_E_DLCLOSE + 3) /* inject_blob.c: somebody else ran during the start */

/* The first bytes of what attach changes in our own (hence the forked target's) libc. */
struct code {
    uint8_t bytes[TT_E_COUNT][32];
    uint64_t at[TT_E_COUNT];
    size_t n;
};

static void read_code(pid_t pid, struct code *out)
{
    static const char *const functions[] = {
        "malloc",        "free",   "calloc",  "realloc",      "memalign",          "posix_memalign",
        "aligned_alloc", "valloc", "pvalloc", "reallocarray", "malloc_usable_size"};
    char path[64];
    out->n = sizeof functions / sizeof functions[0];
    snprintf(path, sizeof path, "/proc/%d/mem", (int)pid);
    int mem = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(mem >= 0);
    for (size_t i = 0; i < out->n; i++) {
        out->at[i] = (uint64_t)(uintptr_t)dlsym(RTLD_DEFAULT, functions[i]);
        assert_true(out->at[i] != 0);
        assert_int_equal(pread(mem, out->bytes[i], 32, (off_t)out->at[i]), 32);
    }
    close(mem);
}

static size_t differences(const struct code *a, const struct code *b)
{
    size_t n = 0;
    for (size_t i = 0; i < a->n; i++)
        n += memcmp(a->bytes[i], b->bytes[i], 32) != 0;
    return n;
}

static int attach(pid_t pid, struct tt_inject_attached *out)
{
    struct tt_error err = {0};
    int code = tt_inject_attach(pid, &options, out, &err);
    if (code)
        fprintf(stderr, "%s\n", err.text);
    return code;
}

static int detach(pid_t pid, struct tt_inject_detached *out)
{
    struct tt_error err = {0};
    int code = tt_inject_detach(pid, false, out, &err);
    if (code)
        fprintf(stderr, "%s\n", err.text);
    return code;
}

static uint64_t counted(const struct tt_inject_attached *a, unsigned entry)
{
    uint64_t n = 0;
    assert_int_equal(pread(a->tape_fd, &n, 8, (off_t)(8 * entry)), 8);
    return n;
}

static void entries_are_hooked_and_given_back(void **state)
{
    (void)state;
    NEEDS_PTRACE();
    struct tt_target_report *report;
    struct code before, during, after;
    pid_t pid = tt_target_spawn(TT_WORK_MALLOC, &report);
    read_code(pid, &before);
    struct tt_inject_attached a;
    assert_int_equal(attach(pid, &a), 0);
    assert_int_equal(a.notes.len, 0);
    assert_true(a.tape_fd >= 0 && a.entries >= 10 && !a.reused && a.slots == 0);
    read_code(pid, &during);
    assert_int_equal(differences(&before, &during), before.n);
    tt_target_await(pid, report, 3);
    assert_true(counted(&a, TT_E_MALLOC) > 100);
    assert_true(counted(&a, TT_E_FREE) > 100);
    assert_true(counted(&a, TT_E_REALLOC) > 10);
    assert_true(counted(&a, TT_E_CALLOC) > 10);
    assert_true(counted(&a, TT_E_POSIX_MEMALIGN) > 1);
    struct tt_inject_detached d;
    assert_int_equal(detach(pid, &d), 0);
    assert_true(d.found && d.restored == a.entries && d.kept == 0);
    read_code(pid, &after);
    assert_int_equal(differences(&before, &after), 0);
    uint64_t end = counted(&a, TT_E_MALLOC);
    tt_target_await(pid, report, 3);
    assert_int_equal(counted(&a, TT_E_MALLOC), end);
    close(a.tape_fd);
    tt_inject_attached_free(&a);
    assert_int_equal(detach(pid, &d), 0);
    assert_int_equal(d.restored, 0);
    tt_target_finish(pid, report);
}

static void cycles_leave_no_trace(void **state)
{
    (void)state;
    NEEDS_PTRACE();
#ifdef __SANITIZE_ADDRESS__
    skip(); /* its forks hold the memory map so long that threads, rightly, count as unstoppable */
#endif
    static const struct {
        unsigned work;
        int cycles;
    } runs[] = {
        {TT_WORK_MALLOC | TT_WORK_FLOAT, 100},
        {TT_WORK_MALLOC | TT_WORK_SIGNALS | TT_WORK_CHILDREN, 60},
        {TT_WORK_MALLOC | TT_WORK_WAITS | TT_WORK_SLEEPS, 40},
        {TT_WORK_MALLOC | TT_WORK_CROWD, 6},
    };
    for (size_t k = 0; k < sizeof runs / sizeof runs[0]; k++) {
        struct tt_target_report *report;
        struct code before, after;
        pid_t pid = tt_target_spawn(runs[k].work, &report);
        read_code(pid, &before);
        for (int i = 0; i < runs[k].cycles; i++) {
            struct tt_inject_attached a;
            struct tt_inject_detached d;
            assert_int_equal(attach(pid, &a), 0);
            assert_int_equal(a.reused, i > 0);
            assert_int_equal(a.notes.len, 0);
            if (i % 16 == 0)
                tt_target_await(pid, report, 1);
            assert_int_equal(detach(pid, &d), 0);
            assert_int_equal(d.restored, a.entries);
            close(a.tape_fd);
            tt_inject_attached_free(&a);
        }
        read_code(pid, &after);
        assert_int_equal(differences(&before, &after), 0);
        tt_target_finish(pid, report);
    }
}

/* A thread whose stack holds an address of the agent all the time, and one that never rests. */
struct restless {
    volatile uint64_t ticks, address, placed;
};

static void *ticks(void *arg)
{
    struct restless *r = arg;
    for (;;)
        r->ticks++;
    return NULL;
}

static void keep_address(struct restless *r)
{
    volatile uint64_t word[8];
    pthread_t t;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (pthread_create(&t, NULL, ticks, r) != 0)
        _exit(3);
    for (;;) {
        for (unsigned i = 0; i < 8; i++)
            word[i] = r->address;
        r->placed = word[7];
        usleep(1000);
    }
}

/* Such a word may be the return address of a thread that comes back into the agent in the middle of
 * its next start: then all threads stand still for that. */
static void none_comes_back_into_a_start(void **state)
{
    (void)state;
    NEEDS_PTRACE();
    struct restless *r =
        mmap(NULL, sizeof *r, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(r != MAP_FAILED);
    pid_t pid = fork();
    if (pid == 0)
        keep_address(r);
    struct tt_inject_attach_options o = options;
    for (int i = 0; i < 2; i++) {
        struct tt_inject_attached a;
        struct tt_inject_detached d;
        struct tt_error err = {0};
        if (tt_inject_attach(pid, &o, &a, &err) != 0)
            fail_msg("%s", err.text);
        if (i == 1)
            assert_int_equal(counted(&a, MOVED), 0);
        assert_int_equal(detach(pid, &d), 0);
        o.conf.origin_ns = (uint64_t)&r->ticks;
        r->address = a.blob + 64;
        while (r->placed != r->address)
            sched_yield();
        close(a.tape_fd);
        tt_inject_attached_free(&a);
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    munmap(r, sizeof *r);
}

/* With objects of the sampler left, releases stay hooked over several recordings and still lead to
 * the real functions; without, the next detach takes them out. */
static void releases_stay_for_live_objects(void **state)
{
    (void)state;
    NEEDS_PTRACE();
#ifdef __SANITIZE_ADDRESS__
    skip(); /* its allocator is followed, not glibc's, and that has other releases */
#endif
    struct tt_target_report *report;
    struct code before, after;
    pid_t pid = tt_target_spawn(TT_WORK_MALLOC | TT_WORK_SIGNALS, &report);
    read_code(pid, &before);
    unsigned entries = 0;
    static const uint32_t live[] = {5, 5, 0, 5, 0};
    for (size_t i = 0; i < sizeof live / sizeof live[0]; i++) {
        struct tt_inject_attach_options o = options;
        struct tt_inject_attached a;
        struct tt_inject_detached d;
        struct tt_error err = {0};
        o.conf.rate = live[i];
        int code = tt_inject_attach(pid, &o, &a, &err);
        if (code)
            fail_msg("%s", err.text);
        bool kept_before = i > 0 && live[i - 1] > 0;
        if (i == 0)
            entries = a.entries;
        assert_int_equal(a.entries, kept_before ? entries - 4 : entries);
        tt_target_await(pid, report, 8); /* whole rounds: two threads began theirs before */
        assert_true(counted(&a, TT_E_MALLOC) > 100);
        assert_true(counted(&a, TT_E_FREE) > 100);
        assert_int_equal(detach(pid, &d), 0);
        assert_int_equal(d.live, live[i]);
        assert_int_equal(d.kept, live[i] ? 4 : 0); /* free realloc reallocarray usable_size */
        assert_int_equal(d.kept + d.restored, entries);
        tt_target_await(pid, report, 2);
        close(a.tape_fd);
        tt_inject_attached_free(&a);
    }
    read_code(pid, &after);
    assert_int_equal(differences(&before, &after), 0);
    tt_target_finish(pid, report);
}

/* In sampled mode what only passes does not come by the blob; in exact mode after it everything
 * does, also by the entries of releases that stayed hooked in between. The stubs are made once. */
static void short_ways_serve_the_sampled_mode(void **state)
{
    (void)state;
    NEEDS_PTRACE();
#ifdef __SANITIZE_ADDRESS__
    skip(); /* its allocator is followed, not glibc's */
#endif
    static const uint32_t modes[] = {TT_MODE_SAMPLED, TT_MODE_EXACT,    TT_MODE_SAMPLED,
                                     TT_MODE_EXACT,   TT_MODE_ADAPTIVE, TT_MODE_EXACT};
    static const uint32_t live[] = {0, 0, 5, 0, 5, 0};
    struct tt_target_report *report;
    struct code before, after;
    uint64_t used = 0;
    pid_t pid = tt_target_spawn(TT_WORK_MALLOC | TT_WORK_SIGNALS, &report);
    read_code(pid, &before);
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        struct tt_inject_attach_options o = options;
        struct tt_inject_attached a;
        struct tt_inject_detached d;
        struct tt_target target;
        struct tt_load load;
        struct tt_error err = {0};
        o.conf.mode = modes[i];
        o.conf.rate = live[i];
        if (tt_inject_attach(pid, &o, &a, &err))
            fail_msg("%s", err.text);
        assert_int_equal(tt_target_open(pid, &target, &err), 0);
        assert_int_equal(tt_load_find(&target, "", &load), 0);
        tt_target_close(&target);
        assert_true(i == 0 || load.head.island[TT_ISLAND_NEAR_LIBC].used == used);
        used = load.head.island[TT_ISLAND_NEAR_LIBC].used;
        tt_target_await(pid, report, 8);
        /* Its countdown is never set again: each time it is asked. */
        assert_true(counted(&a, TT_E_MALLOC) > 100);
        if (modes[i] == TT_MODE_EXACT)
            assert_true(counted(&a, TT_E_FREE) > 100);
        else
            assert_int_equal(counted(&a, TT_E_FREE), 0);
        assert_int_equal(detach(pid, &d), 0);
        assert_int_equal(d.kept, live[i] ? 4 : 0);
        tt_target_await(pid, report, 2);
        close(a.tape_fd);
        tt_inject_attached_free(&a);
    }
    read_code(pid, &after);
    assert_int_equal(differences(&before, &after), 0);
    tt_target_finish(pid, report);
}

/* A telltale was killed between recording a jump over an entry that was hooked already and writing
 * it. */
static void what_was_only_recorded_is_forgotten(void **state)
{
    (void)state;
    NEEDS_PTRACE();
    struct tt_target_report *report;
    struct code before, during, after;
    pid_t pid = tt_target_spawn(TT_WORK_MALLOC, &report);
    read_code(pid, &before);
    struct tt_inject_attached a;
    struct tt_inject_detached d;
    struct tt_target target;
    struct tt_load load;
    struct tt_error err = {0};
    assert_int_equal(attach(pid, &a), 0);
    read_code(pid, &during);
    assert_int_equal(tt_target_open(pid, &target, &err), 0);
    assert_int_equal(tt_load_find(&target, "", &load), 0);
    struct tt_blob_patch record = {.address = during.at[0],
                                   .length = TT_RELOCATE_NEED,
                                   .entry = TT_LOAD_OPERATION,
                                   .is = {0xe9, 1, 2, 3, 4}};
    memcpy(record.was, during.bytes[0], TT_RELOCATE_NEED);
    assert_int_equal(tt_load_record(&target, &load, &record), 0);
    tt_target_close(&target);
    assert_int_equal(detach(pid, &d), 0);
    assert_int_equal(d.restored, a.entries);
    read_code(pid, &after);
    assert_int_equal(differences(&before, &after), 0);
    close(a.tape_fd);
    tt_inject_attached_free(&a);
    tt_target_finish(pid, report);
}

/* A counted operation is put back with the rest, and its pad is not written over by the next; the
 * same operation has the same place again. */
static void counted_operations_are_given_back(void **state)
{
    (void)state;
    NEEDS_PTRACE();
    struct tt_target_report *report;
    pid_t pid = tt_target_spawn(TT_WORK_MALLOC | TT_WORK_SIGNALS, &report);
    uint64_t function = (uint64_t)(uintptr_t)tt_target_done, used = 0;
    uint8_t before[16], after[16];
    struct tt_target target;
    struct tt_error err = {0};
    assert_int_equal(tt_target_open(pid, &target, &err), 0);
    assert_int_equal(tt_target_read(&target, function, before, 16), 0);
    for (int i = 0; i < 5; i++) {
        struct tt_inject_attached a;
        struct tt_inject_detached d;
        struct tt_load load;
        assert_int_equal(attach(pid, &a), 0);
        assert_int_equal(tt_proc_maps_read(pid, &target.maps), 0);
        assert_int_equal(tt_load_find(&target, "", &load), 0);
        const struct tt_blob_island *is = &load.head.island[TT_ISLAND_PAD_EXE];
        if (!is->base)
            is = &load.head.island[TT_ISLAND_PAD_LIBC];
        assert_true(is->used >= used);
        if (i > 1)
            assert_true(is->used == used);
        used = is->used;
        struct tt_inject_pad pad = {is->base + is->used, is->size - is->used, 0};
        struct tt_inject_entry e = {
            .function = function,
            .size = (uint64_t)(uintptr_t)tt_target_done_end - function,
            .counter = (uint64_t)(uintptr_t)&report->rounds[7],
            .result = -EAGAIN,
        };
        for (int tries = 0; e.result == -EAGAIN && tries < 1000; tries++)
            assert_int_equal(tt_inject_count(pid, &pad, 1, &e, 1, NULL, &err), 0);
        if (e.result)
            fail_msg("%s", e.why);
        uint64_t count = report->rounds[7];
        tt_target_await(pid, report, 2);
        assert_true(report->rounds[7] > count);
        assert_int_equal(detach(pid, &d), 0);
        assert_int_equal(d.restored, a.entries + 1);
        assert_int_equal(tt_target_read(&target, function, after, 16), 0);
        assert_memory_equal(before, after, 16);
        close(a.tape_fd);
        tt_inject_attached_free(&a);
    }
    tt_target_close(&target);
    tt_target_finish(pid, report);
}

/* The controller is killed at random moments of attaching and detaching. */
static void death_while_attaching_harms_nobody(void **state)
{
    (void)state;
    NEEDS_PTRACE();
    struct tt_target_report *report;
    struct code before, after;
    unsigned seed = 20261121;
    pid_t pid = tt_target_spawn(TT_WORK_MALLOC | TT_WORK_FLOAT | TT_WORK_SLEEPS, &report);
    read_code(pid, &before);
    for (int i = 0; i < 200; i++) {
        pid_t controller = fork();
        if (controller == 0) {
            for (;;) {
                struct tt_inject_attached a;
                struct tt_inject_detached d;
                if (attach(pid, &a) || detach(pid, &d))
                    _exit(1);
                close(a.tape_fd);
                tt_inject_attached_free(&a);
            }
        }
        const struct timespec pause = {0, 1000000 + rand_r(&seed) % 9000000};
        nanosleep(&pause, NULL);
        kill(controller, SIGKILL);
        int status;
        assert_int_equal(waitpid(controller, &status, 0), controller);
        if (!WIFSIGNALED(status))
            fail_msg("controller failed in round %d", i);
        if (i % 32 == 0)
            tt_target_await(pid, report, 1);
    }
    struct tt_inject_detached d;
    assert_int_equal(detach(pid, &d), 0);
    read_code(pid, &after);
    assert_int_equal(differences(&before, &after), 0);
    /* A sleep whose thread was left in the middle of a call for us begins again (remote.c). */
    report->eintr = report->overslept = 0;
    tt_target_finish(pid, report);
}

static void one_telltale_at_a_time(void **state)
{
    (void)state;
    NEEDS_PTRACE();
    struct tt_target_report *report;
    pid_t pid = tt_target_spawn(TT_WORK_MALLOC, &report);
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t other = fork();
    if (other == 0) {
        struct tt_inject_attached a;
        if (attach(pid, &a))
            _exit(1);
        (void)!write(ready[1], "r", 1);
        pause();
        _exit(0);
    }
    char c;
    assert_int_equal(read(ready[0], &c, 1), 1);
    struct tt_inject_attached a;
    struct tt_inject_detached d;
    struct tt_error err = {0};
    assert_int_equal(tt_inject_attach(pid, &options, &a, &err), -EBUSY);
    assert_non_null(strstr(err.text, "another telltale"));
    assert_int_equal(tt_inject_detach(pid, false, &d, &err), -EBUSY);
    kill(other, SIGKILL);
    assert_int_equal(waitpid(other, NULL, 0), other);
    /* What a dead one left is taken over. */
    assert_int_equal(attach(pid, &a), 0);
    assert_true(a.reused);
    assert_int_equal(detach(pid, &d), 0);
    assert_int_equal(d.restored, a.entries);
    close(a.tape_fd);
    tt_inject_attached_free(&a);
    tt_target_finish(pid, report);
}

static void expect_refusal(pid_t pid, int code, const char *words)
{
    struct tt_inject_attached a;
    struct tt_error err = {0};
    assert_int_equal(tt_inject_attach(pid, &options, &a, &err), code);
    if (!strstr(err.text, words))
        fail_msg("'%s' does not say '%s'", err.text, words);
    assert_null(strchr(err.text, '\n'));
}

static void what_cannot_be_attached_is_said(void **state)
{
    (void)state;
    NEEDS_PTRACE();
    expect_refusal(2, -EOPNOTSUPP, "part of the kernel");
    expect_refusal(getpid(), -EINVAL, "no such target");
    expect_refusal(0x3fffff, -ESRCH, "none of that number");

    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    siginfo_t si;
    assert_int_equal(waitid(P_PID, (id_t)pid, &si, WEXITED | WNOWAIT), 0);
    expect_refusal(pid, -ESRCH, "has ended");
    assert_int_equal(waitpid(pid, NULL, 0), pid);

    /* A peer traces it. */
    struct tt_target_report *report;
    pid = tt_target_spawn(TT_WORK_MALLOC, &report);
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t peer = fork();
    if (peer == 0) {
        if (ptrace(PTRACE_SEIZE, pid, 0, 0))
            _exit(1);
        (void)!write(ready[1], "r", 1);
        pause();
        _exit(0);
    }
    char c;
    assert_int_equal(read(ready[0], &c, 1), 1);
    expect_refusal(pid, -EPERM, "traces it");
    kill(peer, SIGKILL);
    assert_int_equal(waitpid(peer, NULL, 0), peer);

    /* A thread's number instead of the process's. */
    tt_proc_pid_vec threads = {0};
    assert_int_equal(tt_proc_list(pid, &threads), 0);
    for (size_t i = 0; i < threads.len; i++)
        if (threads.data[i] != pid)
            expect_refusal(threads.data[i], -ESRCH, "it is a thread of process");
    tt_vec_free(&threads);
    tt_target_finish(pid, report);
}

/* A child that has come as far as its first write to descriptor 100. */
static pid_t run(void (*work)(void))
{
    int ready[2];
    char c;
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(ready[0]);
        dup2(ready[1], 100);
        work();
        _exit(0);
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &c, 1), 1);
    close(ready[0]);
    return pid;
}

static void allocate_for_ever(void)
{
    (void)!write(100, "r", 1);
    for (;;) {
        void *volatile p = malloc(100);
        usleep(200);
        free(p);
    }
}

static void strictly(void)
{
    (void)!write(100, "r", 1);
    syscall(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0);
    for (;;)
        __asm__ volatile("");
}

static void *leaderless(void *arg)
{
    allocate_for_ever();
    return arg;
}

static void without_leader(void)
{
    pthread_t t;
    pthread_create(&t, NULL, leaderless, NULL);
    syscall(SYS_exit, 0);
}

/* Kills the process for what the agent's start needs; mmap is an allocator's. */
static void filtered(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ftruncate, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_memfd_create, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {sizeof filter / sizeof filter[0], filter};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
    allocate_for_ever();
}

static void in_a_namespace(void)
{
    if (unshare(CLONE_NEWPID | CLONE_NEWNS) != 0) {
        (void)!write(100, "r", 1);
        _exit(77);
    }
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        allocate_for_ever();
    }
    waitpid(pid, NULL, 0);
}

static void end(pid_t pid)
{
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* Waits until a line of /proc/PID/status begins with `line`. */
static void await_status(pid_t pid, const char *line)
{
    char path[64], text[256];
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    for (bool seen = false; !seen; usleep(1000)) {
        FILE *f = fopen(path, "re");
        assert_non_null(f);
        while (!seen && fgets(text, sizeof text, f))
            seen = strncmp(text, line, strlen(line)) == 0;
        fclose(f);
    }
}

static void unusual_processes(void **state)
{
    (void)state;
    NEEDS_PTRACE();
    pid_t pid = run(without_leader);
    await_status(pid, "State:\tZ");
    expect_refusal(pid, -EOPNOTSUPP, "its first thread has ended");
    end(pid);

    pid = run(strictly);
    await_status(pid, "Seccomp:\t1");
    expect_refusal(pid, -EOPNOTSUPP, "strict seccomp");
    end(pid);

    struct tt_inject_attached a;
    struct tt_inject_detached d;
    if (geteuid() != 0)
        return;
    pid = run(filtered);
    assert_int_equal(attach(pid, &a), 0);
    assert_int_equal(detach(pid, &d), 0);
    assert_int_equal(d.restored, a.entries);
    assert_int_equal(kill(pid, 0), 0);
    close(a.tape_fd);
    tt_inject_attached_free(&a);
    end(pid);

    pid = run(in_a_namespace);
    tt_proc_pid_vec all = {0};
    pid_t inner = 0;
    bool zombie;
    assert_int_equal(tt_proc_list(0, &all), 0);
    for (size_t i = 0; i < all.len; i++)
        if (tt_proc_parent(all.data[i], &zombie) == pid)
            inner = all.data[i];
    tt_vec_free(&all);
    if (inner) { /* else namespaces are not allowed here */
        assert_int_equal(attach(inner, &a), 0);
        while (counted(&a, TT_E_MALLOC) <= 1)
            usleep(1000);
        struct tt_inject_frozen frozen;
        struct tt_error err = {0};
        assert_int_equal(tt_inject_freeze(inner, &frozen, &err), 0);
        assert_true(frozen.copy_inside != frozen.copy);
        assert_int_equal(tt_inject_thaw(&frozen, &err), 0);
        assert_int_equal(detach(inner, &d), 0);
        assert_int_equal(d.restored, a.entries);
        close(a.tape_fd);
        tt_inject_attached_free(&a);
    }
    end(pid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_are_hooked_and_given_back),
        cmocka_unit_test(cycles_leave_no_trace),
        cmocka_unit_test(none_comes_back_into_a_start),
        cmocka_unit_test(releases_stay_for_live_objects),
        cmocka_unit_test(short_ways_serve_the_sampled_mode),
        cmocka_unit_test(what_was_only_recorded_is_forgotten),
        cmocka_unit_test(counted_operations_are_given_back),
        cmocka_unit_test(death_while_attaching_harms_nobody),
        cmocka_unit_test(one_telltale_at_a_time),
        cmocka_unit_test(what_cannot_be_attached_is_said),
        cmocka_unit_test(unusual_processes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
