/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of watched functions share: a process of its own (watch_target.c, watch_throw.cpp)
 * that has the agent preloaded or is attached to, whose functions are watched and which does one
 * thing at a word of the test's; and what its tape says is held, which must be exactly what /proc
 * shows. Start: start. */
#ifndef TT_TEST_WATCH_WORLD_H
#define TT_TEST_WATCH_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdbool.h>
#include <sys/types.h>

#include "inject/attach.h"
#include "inject/watch.h"

/* A row for a function of the program's own that hands out units. */
#define DECLARED(what_, from_, valid_, ...)                                                        \
    {                                                                                              \
        .what = TT_WATCH_##what_, .space = TT_SPACE_DECLARED, .kind = TT_KIND_DECLARED,            \
        .from = from_, .valid = TT_VALID_##valid_, .width = 4, __VA_ARGS__                         \
    }

struct function {
    const char *name;
    struct tt_tape_watch row;
};
enum { FUNCTIONS = 53, FDS = 1024 };
/* Every function that is watched, and its row. */
extern const struct function functions[FUNCTIONS];
extern void *libc; /* and no sanitizer's functions of the same names */

struct world {
    pid_t pid;
    int to, from; /* pipes */
    int tape_fd;
    const uint8_t *tape;
    struct tt_inject_pad pads[2];
    bool before[FDS]; /* open before anything was watched */
    bool attached;
    struct tt_inject_watch watch[FUNCTIONS];
};

/* Setup of the group. */
int find_libc(void **state);

/* The process with all functions watched, preloaded or attached to; start_program: none yet. finish
 * lets it end and checks that it ended well. */
void start(struct world *w, bool attached);
void start_program(struct world *w, const char *program, bool attached);
void finish(struct world *w);
/* Its parts. `tapes`: where the agent makes its tape; NULL: it is not preloaded. attach returns
 * whether the agent was there already. */
void spawn_in(struct world *w, const char *program, const char *preload, const char *tapes,
              const char *conf);
bool attach(struct world *w, uint32_t mode);
void open_tape(struct world *w);
void close_tape(struct world *w);
/* Watches all functions, whose addresses resolve finds in libc or the program. */
void place(struct world *w);
void resolve(const struct world *w, const char *name, uint64_t *address, uint64_t *size);

/* Has the process do something (watch_target.c says what) and returns whether it went well. */
bool say(const struct world *w, char what);
/* And checks that descriptors and sites agree with it. */
void do_and_check(const struct world *w, char what);
void check_fds(const struct world *w);
void check_sites(const struct world *w);
void open_fds(pid_t pid, bool open[FDS]);

const struct tt_tape_head *head(const struct world *w);
uint64_t dropped(const struct world *w, uint32_t kind);
/* The row of that number if it is live, else NULL; rows of a space and kind (0: any); one by value.
 */
const struct tt_tape_held *held(const struct world *w, size_t i);
size_t count_held(const struct world *w, uint8_t space, uint8_t kind);
const struct tt_tape_held *find_held(const struct world *w, uint8_t space, uint64_t value);
/* Births less deaths of all sites of a kind, and of their bytes unless that is NULL. */
int64_t count_sites(const struct world *w, uint8_t kind, int64_t *bytes);

#endif
