/* SPDX-License-Identifier: Apache-2.0 */
/* One run of the program: a plan is made for it, it is started with the library preloaded, and
 * looked at when it ends (it waits in exit for that) or, a server, when its load is done. The whole
 * process group is ended with it. Start: tt_fault_run. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "fault/fault.h"
#include "fault/look.h"
#include "proc/command.h"
#include "proc/proc.h"

#define LIBRARY "libtelltale-fault.so"
#define OWNER "recorder" /* locked while we live: what src/record/dir.c knows a dead one's by */
#define SECOND 1000000000ULL
#define SAME 10 /* looks at an idle server */
#define READY_NS 50000000ULL
#define UNSETTLED_SECONDS 5 /* at least, until one that is never idle is looked at */
#define STOP_SECONDS 5      /* for a server to end after SIGTERM */

struct run {
    const struct tt_fault_options *o;
    struct tt_fault_round *round;
    struct tt_fault_world *world;
    struct tt_fault_look look;
    struct tt_fault_children children;
    int owner_fd;
    char dir[64], plan_path[96], library[PATH_MAX + 96];
    struct tt_fault_plan *plan;
    uint64_t size; /* of all plans */
    pid_t pid, load;
    uint64_t deadline;
    int code; /* of looking at children */
    struct tt_error *err;
};

/* ---- the plan ---- */

/* In a directory of its own, under the name by which the heap search knows a tape: what stands in
 * it points to nothing. */
static int make_plan(struct run *run, const char *library, const struct tt_fault_trial *trial,
                     struct tt_error *err)
{
    static const char *const bases[] = {"/dev/shm", "/tmp"};
    int fd = -1;
    /* the program would die of SIGBUS where a page cannot be had; few processes fill theirs */
    uint64_t need = run->o->follow ? 4 * TT_FAULT_STRIDE : TT_FAULT_STRIDE;
    run->size = run->o->follow ? TT_FAULT_PROCESSES * TT_FAULT_STRIDE : TT_FAULT_STRIDE;
    for (size_t i = 0; fd < 0 && i < sizeof bases / sizeof *bases; i++) {
        struct statvfs room;
        snprintf(run->dir, sizeof run->dir, "%s/telltale-fault-XXXXXX", bases[i]);
        if (statvfs(bases[i], &room) < 0 || room.f_bavail * room.f_frsize < need ||
            !mkdtemp(run->dir)) {
            *run->dir = '\0';
            continue;
        }
        snprintf(run->plan_path, sizeof run->plan_path, "%s/" OWNER, run->dir);
        run->owner_fd = open(run->plan_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (run->owner_fd >= 0)
            flock(run->owner_fd, LOCK_EX | LOCK_NB);
        snprintf(run->plan_path, sizeof run->plan_path, "%s/tape.fault", run->dir);
        fd = open(run->plan_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    }
    if (fd < 0 || ftruncate(fd, (off_t)run->size) < 0) {
        int code = errno ? -errno : -ENOSPC;
        if (fd >= 0)
            close(fd);
        return tt_error_sys(err, code, "cannot make a file of %zu MB in /dev/shm or /tmp",
                            (size_t)need >> 20);
    }
    void *at = mmap(NULL, run->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    run->look.plan_fd = fd;
    if (at == MAP_FAILED)
        return tt_error_sys(err, -errno, "cannot map the plan");
    run->plan = at;
    snprintf(run->library, sizeof run->library, "%s", library);
    if (strpbrk(library, " :")) { /* the separators of LD_PRELOAD */
        snprintf(run->library, sizeof run->library, "%s/" LIBRARY, run->dir);
        if (symlink(library, run->library) < 0)
            return tt_error_sys(err, -errno, "cannot link to %s", library);
    }
    struct tt_fault_plan *p = run->plan;
    p->version = TT_FAULT_VERSION;
    p->depth = run->o->depth && run->o->depth < TT_FAULT_DEPTH ? run->o->depth : TT_FAULT_DEPTH;
    p->hold = 1;
    p->controller = (uint32_t)getpid();
    p->follow = run->o->follow;
    p->taken[0] = 1;
    if (trial) {
        p->target = run->world->sites.data[trial->site].hash;
        p->nth = trial->nth;
        p->code = trial->code;
    }
    p->magic = TT_FAULT_MAGIC;
    return 0;
}

static void drop_plan(struct run *run)
{
    static const char *const names[] = {"tape.fault", LIBRARY, OWNER};
    if (run->plan)
        munmap(run->plan, run->size);
    if (run->look.plan_fd >= 0)
        close(run->look.plan_fd);
    for (size_t i = 0; *run->dir && i < sizeof names / sizeof *names; i++) {
        char path[96];
        snprintf(path, sizeof path, "%s/%s", run->dir, names[i]);
        unlink(path);
    }
    if (*run->dir)
        rmdir(run->dir);
    if (run->owner_fd >= 0)
        close(run->owner_fd);
}

/* ---- processes ---- */

static void become(struct run *run, const char *path, int in, int out)
{
    const char *others = getenv("LD_PRELOAD");
    char *preload;
    sigset_t none;
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(in, 0);
    dup2(out, 1);
    if (!run->o->output)
        dup2(out, 2);
    run->plan->pid = (uint32_t)getpid();
    if (asprintf(&preload, "%s%s%s", run->library, others && *others ? ":" : "",
                 others ? others : "") < 0 ||
        setenv("LD_PRELOAD", preload, 1) || setenv(TT_FAULT_ENV, run->plan_path, 1))
        _exit(127);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execv(path, run->o->argv);
    _exit(127);
}

/* Each run reads a file on standard input from its beginning; anything else cannot be read twice.
 */
static int open_input(void)
{
    struct stat st;
    if (fstat(0, &st) == 0 && S_ISREG(st.st_mode)) {
        int fd = open("/proc/self/fd/0", O_RDONLY | O_CLOEXEC);
        if (fd >= 0)
            return fd;
    }
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static int start(struct run *run, const char *path, struct tt_error *err)
{
    int in = open_input(), out = open("/dev/null", O_WRONLY | O_CLOEXEC);
    int to = run->o->output ? 2 : out;
    if (in < 0 || out < 0)
        return tt_error_sys(err, -errno, "cannot open /dev/null");
    run->pid = fork();
    if (run->pid == 0)
        become(run, path, in, to);
    int code = run->pid < 0 ? -errno : 0;
    if (!code)
        setpgid(run->pid, run->pid); /* whoever comes first */
    close(in);
    close(out);
    return code ? tt_error_sys(err, code, "cannot start the program") : 0;
}

/* A shell command in a group of its own, quiet unless the program's output is wanted too. */
static pid_t shell(const struct tt_fault_options *o, const char *command)
{
    pid_t pid = fork();
    if (pid == 0) {
        sigset_t none;
        setpgid(0, 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        int in = open("/dev/null", O_RDWR);
        dup2(in, 0);
        dup2(o->output ? 2 : in, 1);
        if (!o->output)
            dup2(in, 2);
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    if (pid > 0)
        setpgid(pid, pid);
    return pid;
}

static bool gone(pid_t pid)
{
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == pid;
}

/* Ends a child with its group while its number is still its own. The wait status. */
static int end(pid_t pid)
{
    int status = 0;
    kill(-pid, SIGKILL);
    kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return status;
}

static uint32_t state_of(const struct run *run)
{
    return __atomic_load_n(&run->plan->state, __ATOMIC_ACQUIRE);
}

/* Until the plan's state is no longer `state`, or a moment is over. */
static void doze(struct run *run, uint32_t state, long ns)
{
    const struct timespec t = {0, ns};
    syscall(SYS_futex, &run->plan->state, FUTEX_WAIT, state, &t, NULL, 0);
}

/* Or no longer wanted: then the campaign does not look at what came of it. */
static bool late(const struct run *run)
{
    return tt_clock_now() > run->deadline || (run->o->stop && *run->o->stop);
}

static void let_go(struct run *run)
{
    __atomic_store_n(&run->plan->release, 1, __ATOMIC_RELEASE);
    syscall(SYS_futex, &run->plan->release, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* Sees to the children meanwhile. Not 0: out of memory. */
static int attend(struct run *run)
{
    if (!run->code)
        run->code = tt_fault_children_serve(&run->children, run->err);
    return run->code;
}

/* Waits for the program's end, which it is held at. False: it is gone, or it took too long. */
static bool await_end(struct run *run)
{
    while (state_of(run) != TT_FAULT_ENDING) {
        if (attend(run))
            return false;
        if (gone(run->pid))
            return state_of(run) == TT_FAULT_ENDING;
        if (late(run)) {
            run->round->hung = true;
            return false;
        }
        doze(run, state_of(run), 2000000);
    }
    return true;
}

/* ---- a server ---- */

static bool ready(const struct run *run)
{
    return __atomic_load_n(&run->plan->ready, __ATOMIC_ACQUIRE) != 0;
}

/* Until all processes, whenever they wait, have held the same for a span; what timers acquire and
 * release in between does not matter. Those that never wait, or never hold the same, are looked at
 * after twenty times as long, since on a busy machine those that do may be late. */
static void settle(struct run *run, uint64_t span)
{
    uint64_t began = tt_clock_now(), since = 0, seen = 0, now = began;
    uint64_t most = 20 * span > UNSETTLED_SECONDS * SECOND ? 20 * span : UNSETTLED_SECONDS * SECOND;
    uint32_t state = state_of(run);
    for (unsigned same = 0, number = 0; now - began < most && state_of(run) == state &&
                                        !late(run) && !(same >= SAME && now - since > span);) {
        doze(run, state, 5000000);
        if (attend(run))
            return;
        uint64_t held = __atomic_load_n(&run->plan->held, __ATOMIC_ACQUIRE);
        bool busy = state == TT_FAULT_RUNNING && tt_fault_busy(run->pid);
        unsigned n = tt_fault_children_count(&run->children, &busy, &held);
        now = tt_clock_now();
        if (state == TT_FAULT_ENDING && !n)
            break;
        if (busy)
            continue;
        if (!same || held != seen || n != number) {
            seen = held;
            number = n;
            since = now;
            same = 0;
        }
        same++;
    }
}

/* Until it waits for clients, then until its load has ended, then until nothing happens in it. It
 * may end meanwhile by itself, and is then looked at in exit. */
static bool serve(struct run *run)
{
    while (!ready(run)) {
        if (attend(run))
            return false;
        if (state_of(run) == TT_FAULT_ENDING || gone(run->pid))
            return state_of(run) == TT_FAULT_ENDING;
        if (late(run)) {
            run->round->hung = true;
            return false;
        }
        doze(run, TT_FAULT_RUNNING, 2000000);
    }
    if (run->o->follow) /* the first of several workers waits */
        settle(run, READY_NS);
    run->load = shell(run->o, run->o->load);
    bool looked = false;
    while (run->load > 0 && !gone(run->load)) {
        if (attend(run))
            return false;
        if (late(run)) {
            run->round->hung = true;
            return false;
        }
        if (gone(run->pid) || state_of(run) == TT_FAULT_ENDING) {
            looked = state_of(run) == TT_FAULT_ENDING;
            break;
        }
        doze(run, TT_FAULT_RUNNING, 2000000);
    }
    if (looked || gone(run->pid))
        return looked;
    settle(run, (uint64_t)(run->o->settle * 1e9));
    return !gone(run->pid) && !run->code;
}

static void stop_server(struct run *run)
{
    uint64_t until = tt_clock_now() + STOP_SECONDS * SECOND;
    run->plan->hold = 0;
    let_go(run);
    tt_fault_children_let_go(&run->children);
    kill(run->pid, SIGTERM);
    while (!gone(run->pid) && tt_clock_now() < until)
        doze(run, state_of(run), 2000000);
}

/* ---- */

static void note(struct run *run)
{
    const struct tt_fault_plan *p = run->plan;
    struct tt_fault_round *r = run->round;
    r->began = p->images != 0;
    r->fired = p->fired;
    r->child_signal = p->child_signal;
    r->calls += p->calls;
    r->dropped += p->dropped + p->unfollowed;
    r->end_main = p->end_main != 0;
    r->main_saved = p->main_saved != 0;
}

static int by_site(const void *a, const void *b)
{
    const struct tt_fault_called *x = a, *y = b;
    return x->site < y->site ? -1 : x->site > y->site;
}

/* One row for each site, of the rows of all processes. */
static void merge_calls(struct tt_fault_round *round)
{
    size_t n = 0;
    if (!round->called.len)
        return;
    qsort(round->called.data, round->called.len, sizeof *round->called.data, by_site);
    for (size_t i = 0; i < round->called.len; i++) {
        struct tt_fault_called *from = &round->called.data[i], *to = &round->called.data[n];
        if (n && to[-1].site == from->site) {
            to[-1].calls += from->calls;
            to[-1].after += from->after;
        } else {
            *to = *from;
            n++;
        }
    }
    round->called.len = n;
}

static int before(const struct tt_fault_options *o, struct tt_error *err)
{
    int status = 0;
    pid_t pid = o->before ? shell(o, o->before) : 0;
    if (!pid)
        return 0;
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return pid < 0 || status
               ? tt_error_set(err, -EIO, "the command of --before failed: %.300s", o->before)
               : 0;
}

int tt_fault_run(const struct tt_fault_options *o, struct tt_fault_world *world,
                 const struct tt_fault_trial *trial, struct tt_fault_round *round,
                 struct tt_error *err)
{
    struct run run = {.o = o,
                      .round = round,
                      .world = world,
                      .look = {.plan_fd = -1},
                      .owner_fd = -1,
                      .err = err};
    struct tt_proc_command command;
    char library[PATH_MAX];
    *round = (struct tt_fault_round){0};
    int code = tt_proc_command(o->argv[0], &command, err);
    if (!code && !o->library)
        code = tt_proc_own_file("fault", LIBRARY, library, err);
    if (!code)
        code = before(o, err);
    if (!code)
        code = make_plan(&run, o->library ? o->library : library, trial, err);
    if (code)
        goto out;
    uint64_t began = tt_clock_now();
    run.deadline = began + (uint64_t)(o->timeout * 1e9);
    code = start(&run, command.path, err);
    if (code)
        goto out;
    run.children = (struct tt_fault_children){.o = o,
                                              .world = world,
                                              .round = round,
                                              .first = run.plan,
                                              .plan_fd = run.look.plan_fd,
                                              .plan_path = run.plan_path};
    round->ended = o->load ? serve(&run) : await_end(&run);
    if (round->ended && o->follow && !o->load) /* children that end now, too */
        settle(&run, (uint64_t)(o->settle * 1e9));
    note(&run);
    run.look.pid = run.pid;
    run.look.plan = run.plan;
    run.look.search = round->ended && !o->no_search;
    code = run.code ? run.code : tt_fault_look(&run.look, world, round, err);
    if (!code && round->ended)
        code = tt_fault_children_look(&run.children, err);
    round->searched = run.look.search && !round->missed;
    merge_calls(round);
    round->alone = o->load && (gone(run.pid) || state_of(&run) == TT_FAULT_ENDING);
    if (o->load && round->ended && !round->alone)
        stop_server(&run);
    let_go(&run);
    bool ends = round->ended && (!o->load || round->alone);
    while (ends && !gone(run.pid) && !late(&run))
        doze(&run, TT_FAULT_ENDING, 1000000);
    round->served = run.load > 0;
    round->load_status = run.load > 0 ? end(run.load) : 0;
    bool still = !gone(run.pid);
    round->status = end(run.pid);
    tt_fault_children_end(&run.children); /* of the rest, those that left its group */
    if (still && ends)                    /* in exit, after we looked */
        round->hung = true;
    round->seconds = (double)(tt_clock_now() - began) / 1e9;
out:
    drop_plan(&run);
    return code;
}

void tt_fault_round_free(struct tt_fault_round *round)
{
    tt_vec_free(&round->held);
    tt_vec_free(&round->called);
}
