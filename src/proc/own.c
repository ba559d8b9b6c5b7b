/* SPDX-License-Identifier: Apache-2.0 */
/* Where telltale's own files are (the agent's library and blob, the library that makes calls
 * fail): installed beside the executable, or in the build tree, or where the user says they are. A
 * place that the user names and that does not hold the file is an error: another version from
 * somewhere else must not go into a target. Start: tt_proc_own_file. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proc/proc.h"

static bool found(char out[PATH_MAX], const char *directory, const char *below, const char *name)
{
    char path[2 * PATH_MAX];
    struct stat st;
    int n = snprintf(path, sizeof path, "%s/%s%s", directory, below, name);
    return n > 0 && (size_t)n < sizeof path && access(path, R_OK) == 0 && stat(path, &st) == 0 &&
           S_ISREG(st.st_mode) && realpath(path, out);
}

static void cut_last(char *path)
{
    char *slash = strrchr(path, '/');
    if (slash)
        *slash = '\0';
    else
        snprintf(path, 2, ".");
}

int tt_proc_own_file(const char *room, const char *name, char out[PATH_MAX], struct tt_error *err)
{
    static const char *const installed[] = {"../lib/telltale/", "../lib/x86_64-linux-gnu/telltale/",
                                            "../lib64/telltale/"};
    static const char *const built[] = {"../%s/", "../src/%s/", "../../src/%s/"};
    const char *given = getenv("TELLTALE_LIB");
    char from[PATH_MAX], below[64];
    struct stat st;
    if (given && *given) {
        snprintf(from, sizeof from, "%s", given);
        if (stat(from, &st) == 0 && S_ISREG(st.st_mode))
            cut_last(from);
        snprintf(below, sizeof below, built[0], room);
        if (found(out, from, "", name) || found(out, from, below, name))
            return 0;
        return tt_error_set(err, -ENOENT, "no %s at TELLTALE_LIB=%.300s", name, given);
    }
    ssize_t n = readlink("/proc/self/exe", from, sizeof from - 1);
    from[n > 0 ? n : 0] = '\0';
    cut_last(from);
    for (size_t i = 0; i < sizeof installed / sizeof *installed; i++)
        if (found(out, from, installed[i], name))
            return 0;
    for (size_t i = 0; i < sizeof built / sizeof *built; i++) {
        snprintf(below, sizeof below, built[i], room);
        if (found(out, from, below, name))
            return 0;
    }
    return tt_error_set(
        err, -ENOENT, "cannot find %s near %.300s: set TELLTALE_LIB to its directory", name, from);
}
