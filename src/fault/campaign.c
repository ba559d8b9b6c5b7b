/* SPDX-License-Identifier: Apache-2.0 */
/* A campaign: two runs without a fault say which stacks there are and what is usual, then each run
 * makes one call fail. The order depends on the program and its load only, not on time or threads:
 * first one stack for each calling place, then the second stacks of each place, and so on, by the
 * hashes of the stacks; so that a budget that is too small is spread over the whole program.
 * A run that loses something is made again, and only what both lose is a loss.
 * Start: tt_fault_campaign. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "fault/fault.h"
#include "proc/command.h"
#include "proc/proc.h"

#define USUAL_RUNS 2
#define MOST_ERRORS 16

struct campaign {
    const struct tt_fault_options *o;
    struct tt_fault_result *r;
    struct tt_fault_usual usual;
    struct tt_fault_file *file;
    uint64_t began;
};

static void say(const struct campaign *c, const char *line)
{
    if (c->o->say)
        c->o->say(c->o->arg, line);
}

static bool stopped(const struct campaign *c)
{
    return c->o->stop && *c->o->stop;
}

/* ---- without a fault ---- */

static int check_usual(const struct campaign *c, const struct tt_fault_round *round,
                       struct tt_error *err)
{
    const char *name = c->o->argv[0];
    int status = WIFSIGNALED(round->status) ? WTERMSIG(round->status) : WEXITSTATUS(round->status);
    const char *how = WIFSIGNALED(round->status) ? "signal" : "status";
    if (!round->began)
        return tt_error_set(err, -ENOTSUP,
                            "%s ended without loading what is preloaded into it (%s %d)", name, how,
                            status);
    if (round->hung && c->o->load)
        return tt_error_set(err, -ETIMEDOUT,
                            "without any fault, %s and its load are not done within %g s (does the "
                            "load end? else see --timeout%s)",
                            name, c->o->timeout,
                            c->o->follow ? "" : "; forked workers need --follow");
    if (round->hung)
        return tt_error_set(err, -ETIMEDOUT,
                            "without any fault, %s has not ended within %g s: a server needs "
                            "--load, a slow program --timeout",
                            name, c->o->timeout);
    if (round->load_status)
        return tt_error_set(err, -EINVAL,
                            "without any fault, the load fails with status %d: %.300s",
                            WIFEXITED(round->load_status) ? WEXITSTATUS(round->load_status)
                                                          : 128 + WTERMSIG(round->load_status),
                            c->o->load);
    if (c->o->load && !round->served)
        return tt_error_set(err, -EINVAL,
                            "without any fault, %s ended with %s %d before it waited for clients",
                            name, how, status);
    if (!round->ended)
        return tt_error_set(
            err, -ENOTSUP,
            "without any fault, %s ended with %s %d and not by exit: nothing can be "
            "compared",
            name, how, status);
    return 0;
}

static int run_usual(struct campaign *c, struct tt_error *err)
{
    struct tt_fault_result *r = c->r;
    int code = 0;
    for (int i = 0; !code && i < USUAL_RUNS && !stopped(c); i++) {
        struct tt_fault_round round;
        code = tt_fault_run(c->o, &r->world, NULL, &round, err);
        if (!code && stopped(c))
            code = tt_error_set(err, -EINTR, "stopped before anything was tried");
        if (!code)
            code = check_usual(c, &round, err);
        if (!code && tt_fault_usual_add(&c->usual, &round, i == 0))
            code = tt_error_set(err, -ENOMEM, "out of memory");
        if (!code) {
            r->usual_seconds = round.seconds > r->usual_seconds ? round.seconds : r->usual_seconds;
            r->usual_status = round.status;
            r->dropped = round.dropped > r->dropped ? round.dropped : r->dropped;
            r->searched = c->usual.searched;
            if (!round.searched)
                snprintf(r->unsearched, sizeof r->unsearched, "%s",
                         c->o->no_search ? "not asked for" : round.why);
            for (size_t k = 0; i && k < round.called.len; k++)
                r->unsteady += round.called.data[k].site >= r->sites; /* not in the first run */
            if (!i)
                r->sites = r->world.sites.len;
        }
        tt_fault_round_free(&round);
    }
    for (size_t i = 0; !code && i < c->usual.called.len; i++) {
        struct tt_fault_called *called = &c->usual.called.data[i];
        r->world.sites.data[called->site].calls = called->calls;
        r->unsteady += !called->calls;
    }
    return code;
}

/* ---- which faults ---- */

struct order {
    uint32_t site;
    uint32_t rank; /* among the stacks of the same innermost frame */
    uint64_t place, hash;
};

static int by_place(const void *a, const void *b)
{
    const struct order *x = a, *y = b;
    if (x->place != y->place)
        return x->place < y->place ? -1 : 1;
    return x->hash < y->hash ? -1 : x->hash > y->hash;
}

static int by_rank(const void *a, const void *b)
{
    const struct order *x = a, *y = b;
    if (x->rank != y->rank)
        return x->rank < y->rank ? -1 : 1;
    return by_place(a, b);
}

/* The library leaves the loader's own calls alone (tt_fault_stack_in_loader). */
static bool in_loader(const struct tt_fault_world *w, const struct tt_fault_site *s)
{
    const char *path = w->modules.data[s->depth ? TT_FAULT_FRAME_MODULE(s->frames[0]) : 0].path;
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    return strncmp(base, "ld-linux", 8) == 0 || strncmp(base, "ld-2.", 5) == 0;
}

static bool wanted(const struct tt_fault_options *o, const struct tt_fault_site *s)
{
    for (size_t i = 0; i < o->n_calls; i++)
        if (strcmp(o->calls[i], tt_fault_call_name(s->call)) == 0 ||
            strcmp(o->calls[i], tt_fault_group_name(s->call)) == 0)
            return true;
    return !o->n_calls;
}

static int add_errors(struct campaign *c, uint32_t site, uint32_t nth)
{
    const struct tt_fault_options *o = c->o;
    int codes[MOST_ERRORS];
    size_t usual,
        n = tt_fault_errors(c->r->world.sites.data[site].call, codes, MOST_ERRORS, &usual);
    for (size_t i = 0; i < n; i++) {
        bool take = o->all_errors || (!o->n_errors && i < usual);
        for (size_t k = 0; k < o->n_errors; k++)
            take |= o->errors[k] == codes[i];
        if (take && tt_vec_push(&c->r->trials, (struct tt_fault_trial){
                                                   .site = site, .nth = nth, .code = codes[i]}))
            return -ENOMEM;
    }
    return 0;
}

static int plan(struct campaign *c)
{
    static const uint32_t first_two[] = {1, 2};
    const struct tt_fault_options *o = c->o;
    const struct tt_fault_world *w = &c->r->world;
    const uint32_t *nth = o->n_nth ? o->nth : first_two;
    size_t n_nth = o->n_nth ? o->n_nth : sizeof first_two / sizeof *first_two, n = 0;
    struct order *order = calloc(w->sites.len + 1, sizeof *order);
    int code = 0;
    if (!order)
        return -ENOMEM;
    for (size_t i = 0; i < w->sites.len; i++) {
        const struct tt_fault_site *s = &w->sites.data[i];
        if (!s->calls || !wanted(o, s) || in_loader(w, s))
            continue;
        /* the module's number depends on who called first: its name does not */
        const char *path = w->modules.data[s->depth ? TT_FAULT_FRAME_MODULE(s->frames[0]) : 0].path;
        uint64_t place = tt_map_mix(tt_map_hash(path, strlen(path)) + s->call);
        place ^= s->depth ? TT_FAULT_FRAME_OFFSET(s->frames[0]) : 0;
        order[n++] = (struct order){(uint32_t)i, 0, tt_map_mix(place), s->hash};
    }
    qsort(order, n, sizeof *order, by_place);
    for (size_t i = 1; i < n; i++)
        order[i].rank = order[i].place == order[i - 1].place ? order[i - 1].rank + 1 : 0;
    qsort(order, n, sizeof *order, by_rank);
    for (size_t k = 0; k < n_nth; k++)
        for (size_t i = 0; !code && i < n; i++) {
            uint32_t calls = w->sites.data[order[i].site].calls;
            uint32_t which = nth[k] == TT_FAULT_LAST ? calls : nth[k];
            if (which <= calls)
                code = add_errors(c, order[i].site, which);
        }
    free(order);
    c->r->sites = n;
    return code;
}

static bool same_fault(const struct tt_fault_trial *a, const struct tt_fault_trial *b)
{
    return a->site == b->site && a->nth == b->nth && a->code == b->code;
}

/* A trial of an earlier part; one that is no longer wanted is told all the same. */
static int put_old(void *arg, const struct tt_fault_trial *old, const tt_fault_losses *losses)
{
    struct campaign *c = arg;
    struct tt_fault_result *r = c->r;
    size_t at = 0;
    while (at < r->trials.len && !same_fault(&r->trials.data[at], old))
        at++;
    if (at == r->trials.len && tt_vec_push(&r->trials, *old))
        return -ENOMEM;
    r->trials.data[at] = *old;
    r->trials.data[at].resumed = true;
    r->tried_before++;
    for (size_t i = 0; i < losses->len; i++) {
        struct tt_fault_loss loss = losses->data[i];
        loss.trial = at;
        if (tt_vec_push(&r->losses, loss))
            return -ENOMEM;
    }
    return 0;
}

/* ---- with faults ---- */

static int run_once(struct campaign *c, size_t at, struct tt_fault_trial *trial,
                    tt_fault_losses *losses, struct tt_error *err)
{
    struct tt_fault_round round;
    int code = tt_fault_run(c->o, &c->r->world, trial, &round, err);
    if (!code) {
        trial->outcome = tt_fault_outcome(&c->usual, &round, trial->site);
        trial->status = trial->outcome == TT_FAULT_DIED && round.child_signal
                            ? (int)round.child_signal
                            : round.status;
        trial->seconds = round.seconds;
        c->r->dropped = round.dropped > c->r->dropped ? round.dropped : c->r->dropped;
        if (tt_fault_compare(&c->usual, &round, trial->outcome, at, losses))
            code = tt_error_set(err, -ENOMEM, "out of memory");
    }
    tt_fault_round_free(&round);
    return code;
}

static int try_fault(struct campaign *c, size_t at, struct tt_error *err)
{
    struct tt_fault_result *r = c->r;
    struct tt_fault_trial trial = r->trials.data[at];
    size_t first = r->losses.len;
    int code = run_once(c, at, &trial, &r->losses, err);
    if (!code && r->losses.len > first) {
        struct tt_fault_trial same = trial;
        tt_fault_losses again = {0};
        code = run_once(c, at, &same, &again, err);
        tt_fault_confirm(&r->losses, first, &again);
        tt_vec_free(&again);
    }
    if (code || stopped(c)) { /* in the middle of it: it is not tried yet */
        r->losses.len = first;
        return code;
    }
    r->trials.data[at] = trial;
    r->tried++;
    if (c->file)
        code = tt_fault_file_write(c->file, &r->world, &trial, &r->losses, first, err);
    return code;
}

static double elapsed(const struct campaign *c)
{
    return (double)(tt_clock_now() - c->began) / 1e9;
}

static size_t losing(const struct tt_fault_result *r)
{
    size_t n = 0;
    for (size_t i = 0, last = SIZE_MAX; i < r->losses.len; i++)
        if (r->losses.data[i].weight == TT_FAULT_LOST && r->losses.data[i].trial != last) {
            last = r->losses.data[i].trial;
            n++;
        }
    return n;
}

static int run_all(struct campaign *c, struct tt_error *err)
{
    struct tt_fault_result *r = c->r;
    int code = 0;
    for (size_t i = 0; !code && i < r->trials.len; i++) {
        if (r->trials.data[i].outcome != TT_FAULT_UNTRIED)
            continue;
        r->stopped = stopped(c) || (c->o->most && r->tried == c->o->most);
        r->over_budget = c->o->budget > 0 && elapsed(c) > c->o->budget;
        if (r->stopped || r->over_budget)
            break;
        code = try_fault(c, i, err);
        if (c->o->progress)
            c->o->progress(c->o->arg, r->tried + r->tried_before, r->trials.len, losing(r),
                           elapsed(c));
    }
    r->stopped |= stopped(c);
    for (size_t i = 0; i < r->trials.len; i++)
        r->left_over += r->trials.data[i].outcome == TT_FAULT_UNTRIED;
    r->losing = losing(r);
    r->seconds = elapsed(c);
    return code;
}

int tt_fault_campaign(const struct tt_fault_options *o, struct tt_fault_result *r,
                      struct tt_error *err)
{
    struct campaign c = {.o = o, .r = r, .began = tt_clock_now()};
    struct tt_proc_command command;
    struct tt_proc_allocator allocator;
    char build_id[TT_PROC_BUILD_ID] = "";
    *r = (struct tt_fault_result){0};
    int code = tt_proc_command(o->argv[0], &command, err);
    if (code)
        return code;
    if (!realpath(command.program, r->exe))
        snprintf(r->exe, sizeof r->exe, "%s", command.program);
    int fd = open(command.program, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        tt_proc_build_id(fd, build_id);
        close(fd);
    }
    if (o->state) { /* before anything runs: it may be refused */
        c.file = tt_fault_file_open(o, r->exe, build_id, err);
        if (!c.file)
            return err->code;
    }
    tt_proc_allocator(command.program, &allocator);
    if (allocator.built_in)
        say(&c, "the program has a malloc of its own built in: no heap blocks are seen");
    code = run_usual(&c, err);
    if (!code && plan(&c))
        code = tt_error_set(err, -ENOMEM, "out of memory");
    if (!code && c.file)
        code = tt_fault_file_read(c.file, &r->world, put_old, &c, err);
    if (!code)
        code = run_all(&c, err);
    if (c.file)
        tt_fault_file_close(c.file);
    tt_fault_usual_free(&c.usual);
    return code;
}

void tt_fault_result_free(struct tt_fault_result *r)
{
    tt_fault_world_free(&r->world);
    tt_vec_free(&r->trials);
    tt_vec_free(&r->losses);
}
