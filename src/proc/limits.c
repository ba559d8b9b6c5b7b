/* SPDX-License-Identifier: Apache-2.0 */
/* What a process can run out of: its resource limits, its control group's, the machine's memory.
 * Control groups are version 2 (Documentation/admin-guide/cgroup-v2.rst); a limit anywhere on the
 * way to the root binds, so the smallest counts. Start: tt_proc_limits. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "proc/proc.h"

static void resource_limits(pid_t pid, void (*put)(void *, const char *, int64_t), void *arg)
{
    static const struct {
        enum __rlimit_resource resource;
        const char *name;
    } kinds[] = {{RLIMIT_NOFILE, "RLIMIT_NOFILE"},
                 {RLIMIT_AS, "RLIMIT_AS"},
                 {RLIMIT_DATA, "RLIMIT_DATA"},
                 {RLIMIT_NPROC, "RLIMIT_NPROC"}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct rlimit limit;
        if (prlimit(pid, kinds[i].resource, NULL, &limit) == 0)
            put(arg, kinds[i].name,
                limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur > INT64_MAX
                    ? -1
                    : (int64_t)limit.rlim_cur);
    }
}

/* The number in a cgroup file: -1 for "max", -2 when there is none. */
static int64_t cgroup_value(const char *group, const char *file)
{
    char path[4400], line[64] = "";
    snprintf(path, sizeof path, "/sys/fs/cgroup%s/%s", group, file);
    FILE *f = fopen(path, "re");
    if (!f)
        return -2;
    if (!fgets(line, sizeof line, f))
        *line = '\0';
    fclose(f);
    if (strncmp(line, "max", 3) == 0)
        return -1;
    char *end;
    long long value = strtoll(line, &end, 10);
    return end == line || value < 0 ? -2 : value;
}

static void cgroup_limits(pid_t pid, void (*put)(void *, const char *, int64_t), void *arg)
{
    static const char *const files[] = {"memory.max", "pids.max"};
    char path[64], group[4096] = "", line[4096];
    snprintf(path, sizeof path, "/proc/%d/cgroup", (int)pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return;
    while (fgets(line, sizeof line, f))
        if (strncmp(line, "0::/", 4) == 0) {
            line[strcspn(line, "\n")] = '\0';
            snprintf(group, sizeof group, "%s", line + 3);
        }
    fclose(f);
    if (!*group)
        return;
    int64_t tightest[2] = {-2, -2};
    for (;;) {
        for (int i = 0; i < 2; i++) {
            int64_t value = cgroup_value(group, files[i]);
            if (value == -2)
                continue;
            if (tightest[i] < 0 || (value >= 0 && value < tightest[i]))
                tightest[i] = value;
        }
        char *slash = strrchr(group, '/');
        if (!slash || !group[0] || (slash == group && !group[1]))
            break;
        *slash = '\0';
    }
    for (int i = 0; i < 2; i++)
        if (tightest[i] != -2) {
            snprintf(line, sizeof line, "cgroup %s", files[i]);
            put(arg, line, tightest[i]);
        }
}

void tt_proc_limits(pid_t pid, void (*put)(void *arg, const char *name, int64_t value), void *arg)
{
    resource_limits(pid, put, arg);
    cgroup_limits(pid, put, arg);
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    if (pages > 0 && page > 0)
        put(arg, "MemTotal", (int64_t)pages * page);
}
