/* SPDX-License-Identifier: Apache-2.0 */
/* A program that installs a seccomp filter may be killed for a system call that it did not foresee.
 * Its calls of prctl and syscall are looked at before they are made (entry_x86_64.S,
 * blob_x86_64.S): from then on the agent makes no calls but those of an allocator, and none at all
 * where the filter would end the process for one of these. What it then has no memory for is
 * dropped and counted. Start: tt_sandbox_before. */
#include <linux/filter.h>
#include <linux/seccomp.h>

#include "agent/agent.h"
#include "agent/filter.h"

#define PR_SET_SECCOMP 22
#define PAGE 4096u

uint32_t tt_sandboxed;

/* Whether it can be read: a look at each page. */
static int readable(uint64_t at, uint64_t bytes)
{
    uint64_t word;
    for (uint64_t a = at; a < at + bytes - 8; a = (a & ~(uint64_t)(PAGE - 1)) + PAGE)
        if (tt_sys_peek(a, &word) != 0)
            return 0;
    return tt_sys_peek(at + bytes - 8, &word) == 0;
}

/* Only before the first filter: the look at memory is a call that this one may forbid. */
static int bears(const struct sock_fprog *program)
{
    if (!readable((uint64_t)program, sizeof *program) || program->len == 0)
        return 1; /* which the kernel will not take */
    if (!readable((uint64_t)program->filter, program->len * sizeof *program->filter))
        return 1;
    return tt_filter_forbids(program->filter, program->len) == NULL;
}

/* prctl(PR_SET_SECCOMP, a mode, b the program), seccomp(a operation, b flags, c program). */
void tt_sandbox_before(long call, long a, long b, long c)
{
    int strict = call == PR_SET_SECCOMP ? a == SECCOMP_MODE_STRICT : a == SECCOMP_SET_MODE_STRICT;
    int filter = call == PR_SET_SECCOMP ? a == SECCOMP_MODE_FILTER : a == SECCOMP_SET_MODE_FILTER;
    if (strict || (filter && tt_sandboxed))
        tt_sandboxed = TT_SANDBOX_SILENT;
    else if (filter)
        tt_sandboxed = bears((const struct sock_fprog *)(call == PR_SET_SECCOMP ? b : c))
                           ? TT_SANDBOX_ALLOCATOR
                           : TT_SANDBOX_SILENT;
}
