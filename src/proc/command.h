/* SPDX-License-Identifier: Apache-2.0 */
/* A command looked at before it is run: will the loader bring a preloaded library into it? Nobody
 * wants to learn after a day that nothing was recorded, so what cannot work is refused with one
 * line that says why. Start: tt_proc_command. */
#ifndef TT_PROC_COMMAND_H
#define TT_PROC_COMMAND_H

#include <limits.h>

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

#endif
