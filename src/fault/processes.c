/* SPDX-License-Identifier: Apache-2.0 */
/* The forked children of one run: each has a plan of its own in the run's file, taken by itself
 * when it is forked. One that waits at its end is looked at and let go, so that who waits for it
 * goes on; what is left when the run is over is looked at as it is. A process counts as there while
 * the plan is mapped into it: neither a zombie, nor another program that it became (execve), nor a
 * stranger that got its number is taken for it. Start: tt_fault_children_serve. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "fault/fault.h"
#include "fault/look.h"
#include "proc/proc.h"

#define SWEEP_NS 20000000ULL

static bool taken(const struct tt_fault_children *c, uint32_t i)
{
    return __atomic_load_n(&c->first->taken[i], __ATOMIC_ACQUIRE) != 0;
}

static struct tt_fault_plan *plan_of(const struct tt_fault_children *c, uint32_t i)
{
    return TT_FAULT_PLAN(c->first, i);
}

static uint32_t state_of(const struct tt_fault_children *c, uint32_t i)
{
    return __atomic_load_n(&plan_of(c, i)->state, __ATOMIC_ACQUIRE);
}

/* Whether the process is there with our plan in it. One that took its plan just now is. */
static bool there(const struct tt_fault_children *c, uint32_t i)
{
    struct tt_proc_maps maps = {0};
    bool found = state_of(c, i) == TT_FAULT_BEFORE;
    if (!found && tt_proc_maps_read((pid_t)plan_of(c, i)->pid, &maps) == 0)
        for (size_t k = 0; !found && k < maps.maps.len; k++)
            found = strcmp(tt_proc_map_path(&maps, &maps.maps.data[k]), c->plan_path) == 0;
    tt_proc_maps_free(&maps);
    return found;
}

static int look(struct tt_fault_children *c, uint32_t i, bool dead, struct tt_error *err)
{
    const struct tt_fault_look l = {.pid = (pid_t)plan_of(c, i)->pid,
                                    .plan = plan_of(c, i),
                                    .plan_fd = c->plan_fd,
                                    .plan_at = i * TT_FAULT_STRIDE,
                                    .child = true,
                                    .dead = dead,
                                    .search = !dead && !c->o->no_search};
    c->done[i] = true;
    c->round->children += !dead;
    c->round->calls += l.plan->calls;
    c->round->dropped += l.plan->dropped;
    return tt_fault_look(&l, c->world, c->round, err);
}

static void let_go(const struct tt_fault_children *c, uint32_t i)
{
    struct tt_fault_plan *p = plan_of(c, i);
    __atomic_store_n(&p->release, 1, __ATOMIC_RELEASE);
    syscall(SYS_futex, &p->release, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* Gives back the plan of one that is gone. Where the file system cannot cut holes it stays taken.
 */
static int sweep(struct tt_fault_children *c, uint32_t i, struct tt_error *err)
{
    int code = c->done[i] ? 0 : look(c, i, true, err);
    if (fallocate(c->plan_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                  (off_t)(i * TT_FAULT_STRIDE), (off_t)TT_FAULT_STRIDE) == 0) {
        c->done[i] = false;
        __atomic_store_n(&c->first->taken[i], 0, __ATOMIC_RELEASE);
    }
    return code;
}

int tt_fault_children_serve(struct tt_fault_children *c, struct tt_error *err)
{
    uint64_t now = tt_clock_now();
    bool all = now - c->swept > SWEEP_NS;
    int code = 0;
    if (!c->o->follow)
        return 0;
    for (uint32_t i = 1; !code && i < TT_FAULT_PROCESSES; i++) {
        if (!taken(c, i))
            continue;
        if (all && !there(c, i)) {
            code = sweep(c, i, err);
        } else if (!c->done[i] && state_of(c, i) == TT_FAULT_ENDING) {
            code = look(c, i, false, err);
            let_go(c, i);
        }
    }
    c->swept = all ? now : c->swept;
    return code;
}

int tt_fault_children_look(struct tt_fault_children *c, struct tt_error *err)
{
    int code = 0;
    for (uint32_t i = 1; !code && c->o->follow && i < TT_FAULT_PROCESSES; i++)
        if (taken(c, i) && !c->done[i] && state_of(c, i) != TT_FAULT_BEFORE)
            code = look(c, i, !there(c, i), err);
    return code;
}

bool tt_fault_busy(pid_t pid)
{
    tt_proc_pid_vec threads = {0};
    bool found = tt_proc_list(pid, &threads) != 0;
    for (size_t i = 0; !found && i < threads.len; i++) {
        char path[64], text[128] = "";
        snprintf(path, sizeof path, "/proc/%d/task/%d/stat", (int)pid, (int)threads.data[i]);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
        const char *state = n > 0 ? strrchr(text, ')') : NULL; /* proc(5): (name) state */
        found = state && strncmp(state, ") R", 3) == 0;
        if (fd >= 0)
            close(fd);
    }
    tt_vec_free(&threads);
    return found;
}

unsigned tt_fault_children_count(const struct tt_fault_children *c, bool *busy, uint64_t *held)
{
    unsigned n = 0;
    for (uint32_t i = 1; c->o->follow && i < TT_FAULT_PROCESSES; i++) {
        if (!taken(c, i) || !there(c, i))
            continue;
        n++;
        *held += __atomic_load_n(&plan_of(c, i)->held, __ATOMIC_ACQUIRE);
        *busy |= state_of(c, i) != TT_FAULT_RUNNING || tt_fault_busy((pid_t)plan_of(c, i)->pid);
    }
    return n;
}

void tt_fault_children_let_go(const struct tt_fault_children *c)
{
    for (uint32_t i = 1; c->o->follow && i < TT_FAULT_PROCESSES; i++)
        if (taken(c, i))
            let_go(c, i);
}

void tt_fault_children_end(const struct tt_fault_children *c)
{
    for (uint32_t i = 1; c->first && c->o->follow && i < TT_FAULT_PROCESSES; i++) {
        pid_t pid = taken(c, i) ? (pid_t)plan_of(c, i)->pid : 0;
        if (pid > 0 && there(c, i))
            kill(pid, SIGKILL);
    }
}
