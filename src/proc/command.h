/* SPDX-License-Identifier: Apache-2.0 */
/* A command looked at before it is run: will the loader bring a preloaded library into it? Nobody
 * wants to learn after a day that nothing was recorded, so what cannot work is refused with one
 * line that says why. Start: tt_proc_command. */
#ifndef TT_PROC_COMMAND_H
#define TT_PROC_COMMAND_H

#include <limits.h>
#include <stdbool.h>

#include "base/error.h"

struct tt_proc_command {
    char path[PATH_MAX];        /* what to execute: found through PATH like execvp(3) */
    char program[PATH_MAX];     /* the ELF file that will run: path, or a script's interpreter */
    char interpreter[PATH_MAX]; /* the program's loader */
};

/* Finds and inspects a command. 0; or a negative errno with one line in err: -ENOENT not found,
 * -EACCES not executable, -ENOEXEC not a program, -ENOTSUP cannot be recorded (statically linked,
 * other C library, 32-bit or other machine, setuid and the like for this user). */
int tt_proc_command(const char *name, struct tt_proc_command *out, struct tt_error *err);

/* Only finds it, like execvp(3): for a way of recording that asks nothing of the program. */
int tt_proc_command_find(const char *name, char path[PATH_MAX], struct tt_error *err);

/* Where a program's malloc comes from. */
struct tt_proc_allocator {
    bool built_in;       /* the program itself defines malloc: nothing preloaded comes before it */
    char path[PATH_MAX]; /* the first library but libc that defines it; "": libc's */
    bool defines_new;    /* that library also defines operator new, which then bypasses malloc */
};

/* Walks the libraries that the program and $LD_PRELOAD need. */
void tt_proc_allocator(const char *program, struct tt_proc_allocator *out);

#endif
