/* SPDX-License-Identifier: Apache-2.0 */
/* Limits of kinds that are no limits on memory, from /proc/sys (proc(5)). Of the range of local
 * ports, that of our own network namespace, those that are reserved are not given out by the kernel
 * (Documentation/networking/ip-sysctl.rst, ip_local_reserved_ports). Start: tt_resource_limits. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "resource/resource.h"

static int64_t number_in(const char *path)
{
    long long value = -1;
    FILE *f = fopen(path, "re");
    /* NOLINTNEXTLINE(cert-err34-c): the kernel writes no number that does not fit */
    if (f && fscanf(f, "%lld", &value) != 1)
        value = -1;
    if (f)
        fclose(f);
    return value;
}

/* How many of lo..hi a list such as "8080,9000-9010" names. */
static int64_t reserved_in(long lo, long hi)
{
    char line[4096] = "";
    int64_t n = 0;
    FILE *f = fopen("/proc/sys/net/ipv4/ip_local_reserved_ports", "re");
    if (f && !fgets(line, sizeof line, f))
        *line = '\0';
    if (f)
        fclose(f);
    for (char *at = line; *at;) {
        char *end;
        long from = strtol(at, &end, 10), to = from;
        if (end == at)
            break;
        if (*end == '-')
            to = strtol(end + 1, &end, 10);
        from = from < lo ? lo : from;
        to = to > hi ? hi : to;
        n += to >= from ? to - from + 1 : 0;
        at = end + strspn(end, ", \n");
    }
    return n;
}

void tt_resource_limits(pid_t pid, void (*put)(void *arg, const char *name, int64_t value),
                        void *arg)
{
    static const struct {
        const char *name, *path;
    } files[] = {{"vm.max_map_count", "/proc/sys/vm/max_map_count"},
                 {"threads-max", "/proc/sys/kernel/threads-max"},
                 {"kernel.shmmni", "/proc/sys/kernel/shmmni"}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        int64_t value = number_in(files[i].path);
        if (value >= 0)
            put(arg, files[i].name, value);
    }
    struct rlimit limit;
    if (prlimit(pid, RLIMIT_SIGPENDING, NULL, &limit) == 0)
        put(arg, "RLIMIT_SIGPENDING",
            limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur > INT64_MAX
                ? -1
                : (int64_t)limit.rlim_cur);
    long lo, hi;
    FILE *f = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");
    /* NOLINTNEXTLINE(cert-err34-c): the kernel writes no number that does not fit */
    if (f && fscanf(f, "%ld %ld", &lo, &hi) == 2 && hi >= lo)
        put(arg, "ip_local_port_range", hi - lo + 1 - reserved_in(lo, hi));
    if (f)
        fclose(f);
}
