/* SPDX-License-Identifier: Apache-2.0 */
/* Error paths: a program is run again and again, each time with one call failing at one call stack,
 * and what it holds at its end is compared with runs in which nothing failed.
 *   calls.h, table.c        the calls and the errors that they may return
 *   preload*.c              the library inside the program (telltale-fault.so)
 *   plan.h                  the memory it shares with
 *   round.c                 one run of the program, and what it held at its end
 *   processes.c             its forked children
 *   world.c                 modules and stacks of all runs
 *   compare.c               what a run lost against those without a fault
 *   campaign.c              which faults, in which order, until when
 *   state.c                 the file from which a campaign goes on
 * Losses are differences at the acquiring stack. Of heap blocks only those count as lost to which
 * nothing points any more (src/heap searches a frozen copy at the end of each run).
 * Start: tt_fault_campaign. */
#ifndef TT_FAULT_FAULT_H
#define TT_FAULT_FAULT_H

#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/map.h"
#include "base/vec.h"
#include "fault/plan.h"

/* ---- table.c ---- */

/* Names: "malloc", "memory", "heap". Never NULL. */
const char *tt_fault_call_name(unsigned call);
const char *tt_fault_group_name(unsigned call);
const char *tt_fault_kind_name(unsigned kind);
/* "ENOMEM", "EAI_AGAIN", "short"; and back: 0 if there is no such name. */
const char *tt_fault_error_name(int code);
int tt_fault_error_code(const char *name);
/* The errors of a call, usual ones first: at most max into codes; *usual of them are tried when
 * nothing is said. */
size_t tt_fault_errors(unsigned call, int *codes, size_t max, size_t *usual);
/* Whether the name is a call's or a group's. */
bool tt_fault_call_known(const char *name);

/* ---- world.c ---- */

struct tt_fault_place {
    char *path;
    uint64_t start, end, offset; /* executable part, as in struct tt_fault_module */
};
struct tt_fault_site {
    uint64_t hash;
    unsigned call;
    unsigned depth;
    uint64_t *frames; /* TT_FAULT_FRAME with indices of tt_fault_world.modules */
    uint32_t calls;   /* in a run without a fault: the fewest of these runs; 0: only seen later */
};
/* Modules and stacks by numbers that hold for all runs. Zero-initialise. */
struct tt_fault_world {
    TT_VEC(struct tt_fault_place) modules; /* number 0: code that no module holds */
    TT_VEC(struct tt_fault_site) sites;
    struct tt_map by_hash;
};
/* The number of a module, or of a stack (frames are copied). Negative errno when out of memory. */
int64_t tt_fault_world_module(struct tt_fault_world *world, const char *path, uint64_t start,
                              uint64_t end, uint64_t offset);
int64_t tt_fault_world_site(struct tt_fault_world *world, uint64_t hash, unsigned call,
                            const uint64_t *frames, unsigned depth);
/* The stack of that hash, or -ENOENT. */
int64_t tt_fault_world_find(const struct tt_fault_world *world, uint64_t hash);
/* Takes over the stacks of a plan; *numbers (TT_FAULT_STACKS of them) gets each one's number, -1
 * for a place that holds none or nonsense. 0 or -ENOMEM. */
int tt_fault_world_import(struct tt_fault_world *world, const struct tt_fault_plan *plan,
                          int64_t *numbers);
void tt_fault_world_free(struct tt_fault_world *world);

/* ---- round.c ---- */

enum tt_fault_nth { TT_FAULT_EVERY = 0 }; /* else 1 for the first call of the stack, 2, ... */
#define TT_FAULT_LAST UINT32_MAX

struct tt_fault_options {
    char *const *argv;
    const char *library;      /* path of libtelltale-fault.so; NULL: tt_proc_own_file finds it */
    const char *load;         /* shell command: the program is a server, this is its load */
    const char *before;       /* shell command before each run */
    const char *state;        /* file of the campaign; NULL: none is kept */
    bool resume;              /* it may exist already */
    bool output;              /* what the program prints goes to standard error, not away */
    bool follow;              /* forked children are tried as well */
    bool no_search;           /* do not look which heap blocks can be reached */
    double budget;            /* seconds for all; 0: none */
    double timeout;           /* of one run */
    double settle;            /* a server is looked at when it held the same for so long */
    size_t most;              /* faults tried this time; 0: all */
    unsigned depth;           /* frames that tell stacks apart; 0: all */
    const uint32_t *nth;      /* which calls of a stack fail, each in a run of its own */
    size_t n_nth;             /* 0: the first and the second */
    const char *const *calls; /* names of calls or groups; n 0: all */
    size_t n_calls;
    const int *errors; /* only these; n 0: the usual ones of each call */
    size_t n_errors;
    bool all_errors;
    const volatile sig_atomic_t *stop; /* not 0: end after this run; may be NULL */
    void *arg;
    void (*progress)(void *arg, size_t done, size_t all, size_t losing, double seconds);
    void (*say)(void *arg, const char *line); /* one line for people */
};

struct tt_fault_trial {
    uint32_t site;
    uint32_t nth;
    int code;
    unsigned outcome; /* enum tt_fault_outcome */
    int status;       /* wait status */
    double seconds;
    bool resumed; /* read from the state file */
};

enum tt_fault_outcome {
    TT_FAULT_UNTRIED,
    TT_FAULT_UNREACHED, /* the stack did not come up so often this time */
    TT_FAULT_WENT_ON, /* the program did a good part of what it does without the fault, or ended as
                         it does then */
    TT_FAULT_GAVE_UP, /* it ended otherwise, without */
    TT_FAULT_DIED,    /* of a signal */
    TT_FAULT_HUNG,    /* ended by us */
};

/* Held by one process at its end with one stack and kind. */
struct tt_fault_held {
    uint32_t site;
    uint32_t kind;
    uint64_t units, bytes;
    /* Heap blocks and mappings after a search: those that nothing points to. Others: all. */
    uint64_t lost_units, lost_bytes;
    uint64_t late;    /* of lost_units, acquired after the fault */
    uint32_t process; /* 0 the one started, else a forked child: the first looked at is 1 */
    bool gave_up; /* by a child that the fault was made in, and that ended with a status not 0 */
};
struct tt_fault_called {
    uint32_t site, calls, after;
};
struct tt_fault_round {
    bool began;  /* the library was there */
    bool ended;  /* exit or _exit was called, or (server) the load is done */
    bool served; /* a server's load was begun */
    bool alone;  /* a server that ended without being told to */
    bool hung;
    bool missed;             /* a process could not be searched */
    bool searched;           /* lost_units are known */
    bool end_main;           /* main returned */
    bool main_saved;         /* what main held in the end was known to the search */
    int status, load_status; /* wait statuses */
    uint32_t fired;
    unsigned children;     /* that were looked at */
    uint32_t child_signal; /* not 0: one died of it, SIGSEGV or SIGABRT or another of their like */
    uint64_t calls, dropped;
    double seconds;
    char why[256];                         /* not searched: why */
    TT_VEC(struct tt_fault_held) held;     /* process by process */
    TT_VEC(struct tt_fault_called) called; /* of all processes together, by site */
};

/* Runs the program once. trial NULL: nothing fails. 0: it ran, see *round, which is freed with
 * tt_fault_round_free; negative errno: it could not be started, err says why. */
int tt_fault_run(const struct tt_fault_options *options, struct tt_fault_world *world,
                 const struct tt_fault_trial *trial, struct tt_fault_round *round,
                 struct tt_error *err);
void tt_fault_round_free(struct tt_fault_round *round);

/* ---- compare.c ---- */

/* Whether what is left over counts. */
enum tt_fault_weight {
    TT_FAULT_LOST, /* nobody can give it back any more */
    TT_FAULT_LEFT, /* the program gave up and ended: what main held itself is among it */
    TT_FAULT_KEPT, /* a heap block that something still points to */
};
struct tt_fault_loss {
    size_t trial;  /* index in tt_fault_result.trials */
    uint32_t site; /* where it was acquired */
    uint32_t kind; /* enum tt_fault_kind */
    uint32_t weight;
    uint64_t units, bytes;
};
typedef TT_VEC(struct tt_fault_loss) tt_fault_losses;

/* What runs without a fault hold: for each stack and kind the most of any process of any of them.
 */
struct tt_fault_usual {
    TT_VEC(struct tt_fault_held) held;
    struct tt_map by_key;
    TT_VEC(struct tt_fault_called) called; /* fewest calls of any of them, by site */
    int status;
    uint32_t child_signal;
    bool searched, alone;
};
int tt_fault_usual_add(struct tt_fault_usual *usual, const struct tt_fault_round *round,
                       bool first);
void tt_fault_usual_free(struct tt_fault_usual *usual);
enum tt_fault_outcome tt_fault_outcome(const struct tt_fault_usual *usual,
                                       const struct tt_fault_round *round, uint32_t site);
/* Appends what the run has more than usual. 0 or -ENOMEM. */
int tt_fault_compare(const struct tt_fault_usual *usual, const struct tt_fault_round *round,
                     enum tt_fault_outcome outcome, size_t trial, tt_fault_losses *losses);
/* Keeps of `losses`, from `first` on, what `again` has too, with the fewer units. */
void tt_fault_confirm(tt_fault_losses *losses, size_t first, const tt_fault_losses *again);

/* ---- campaign.c ---- */

struct tt_fault_result {
    struct tt_fault_world world;
    TT_VEC(struct tt_fault_trial) trials; /* in their order, untried ones included */
    tt_fault_losses losses;
    size_t sites; /* stacks of calls that can fail, without a fault */
    size_t tried, tried_before, losing, left_over;
    unsigned unsteady; /* stacks that differ between two runs without a fault */
    uint64_t dropped;  /* of the run that dropped most */
    bool searched;     /* heap blocks: only those that cannot be reached count */
    char unsearched[256];
    bool stopped, over_budget;
    double seconds, usual_seconds; /* in all; of a run without a fault */
    int usual_status;
    char exe[PATH_MAX];
};

/* Runs a campaign. 0; negative errno with err when it could not begin. What a first part found is
 * in *result also when the rest could not be done (stopped, over_budget). Free it always. */
int tt_fault_campaign(const struct tt_fault_options *options, struct tt_fault_result *result,
                      struct tt_error *err);
void tt_fault_result_free(struct tt_fault_result *result);

/* ---- state.c ---- */

struct tt_fault_file;
/* Opens or makes the file; a file of another command, program or setting is refused (-EINVAL).
 * NULL with err. */
struct tt_fault_file *tt_fault_file_open(const struct tt_fault_options *options, const char *exe,
                                         const char *build_id, struct tt_error *err);
/* Adds what stands in the file to the world, and calls `put` for each trial with its losses. */
int tt_fault_file_read(struct tt_fault_file *file, struct tt_fault_world *world,
                       int (*put)(void *arg, const struct tt_fault_trial *trial,
                                  const tt_fault_losses *losses),
                       void *arg, struct tt_error *err);
/* Writes a trial and its losses, from `first` on, at once. 0 or a negative errno with err. */
int tt_fault_file_write(struct tt_fault_file *file, const struct tt_fault_world *world,
                        const struct tt_fault_trial *trial, const tt_fault_losses *losses,
                        size_t first, struct tt_error *err);
void tt_fault_file_close(struct tt_fault_file *file);

#endif
