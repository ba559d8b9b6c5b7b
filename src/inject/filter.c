/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a target's seccomp filters let the agent live: once hooked, it makes the system calls of
 * an allocator on the target's own threads. The filters are read from the stopped threads
 * (ptrace(2), PTRACE_SECCOMP_GET_FILTER) and run over those calls. Start: tt_filter_check. */
#include <errno.h>
#include <linux/filter.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>

#include "agent/filter.h"
#include "inject/filter.h"

#define FILTERS_MOST 64u /* of a thread; the kernel bounds their instructions, not their number */

/* One thread; those that share a filter with one that was looked at are not looked at again.
 * *found: the call that its filters forbid. */
static int look(pid_t tid, struct sock_filter seen[BPF_MAXINSNS], size_t *n_seen,
                struct sock_filter code[BPF_MAXINSNS], const char **found)
{
    for (unsigned long i = 0; i < FILTERS_MOST; i++) {
        long n = ptrace(PTRACE_SECCOMP_GET_FILTER, tid, (void *)i, NULL);
        if (n < 0 && errno == ENOENT)
            return 0;
        if (n < 0 && errno == EINVAL && i == 0)
            return 0; /* none is in force for this thread */
        if (n <= 0 || n > BPF_MAXINSNS ||
            ptrace(PTRACE_SECCOMP_GET_FILTER, tid, (void *)i, code) != n)
            return n < 0 ? -errno : -EIO;
        if ((size_t)n == *n_seen && memcmp(code, seen, (size_t)n * sizeof *code) == 0)
            continue;
        if ((*found = tt_filter_forbids(code, (size_t)n)) != NULL)
            return 0;
        memcpy(seen, code, (size_t)n * sizeof *code);
        *n_seen = (size_t)n;
    }
    return -E2BIG;
}

int tt_filter_check(const struct tt_target *target, const struct tt_stopped *stopped,
                    struct tt_error *err)
{
    if (!target->sandboxed)
        return 0;
    struct sock_filter *code = calloc(2UL * BPF_MAXINSNS, sizeof *code);
    const char *found = NULL;
    size_t n_seen = 0;
    int code_of_thread = code ? 0 : -ENOMEM;
    for (size_t i = 0; !code_of_thread && !found && i < stopped->threads.len; i++)
        code_of_thread =
            look(stopped->threads.data[i].tid, code + BPF_MAXINSNS, &n_seen, code, &found);
    free(code);
    if (found)
        return tt_error_set(err, -EOPNOTSUPP,
                            "cannot attach to process %d: its seccomp filter ends it for %s, which "
                            "an agent within it needs; use telltale snapshot, or --no-inject",
                            (int)target->pid, found);
    if (code_of_thread)
        return tt_error_set(err, -EOPNOTSUPP,
                            "cannot attach to process %d: its seccomp filter cannot be read (%s), "
                            "and may end it; use telltale snapshot, or --no-inject",
                            (int)target->pid, strerror(-code_of_thread));
    return 0;
}
