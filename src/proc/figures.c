/* SPDX-License-Identifier: Apache-2.0 */
/* Figures of a process from /proc/PID/status, stat, fd: see proc(5). Start: tt_proc_figures_read.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proc/proc.h"

/* Reads the start of /proc/PID/NAME into buf, NUL-terminated. Bytes, or a negative errno. */
static ssize_t slurp(pid_t pid, const char *name, char *buf, size_t n)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    size_t len = 0;
    ssize_t got = 1;
    while (len < n - 1 && (got = read(fd, buf + len, n - 1 - len)) > 0)
        len += (size_t)got;
    int code = got < 0 ? -errno : 0;
    close(fd);
    buf[len] = '\0';
    return code ? code : (ssize_t)len;
}

static int64_t field(const char *status, const char *name, int64_t scale)
{
    const char *at = strstr(status, name);
    return at ? strtoll(at + strlen(name), NULL, 10) * scale : -1;
}

/* Since Linux 6.2 the size of /proc/PID/fd is the number of descriptors; before it was 0. */
static int64_t count_fds(pid_t pid)
{
    char path[64];
    struct stat st;
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    if (stat(path, &st) == 0 && st.st_size > 0)
        return st.st_size;
    DIR *dir = opendir(path);
    if (!dir)
        return -1;
    int64_t n = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        n += entry->d_name[0] != '.';
    closedir(dir);
    return n;
}

/* The fields of /proc/PID/stat after the command's closing parenthesis (which may itself hold
 * parentheses and spaces). NULL when it cannot be read. */
static const char *stat_fields(pid_t pid, char *buf, size_t n)
{
    if (slurp(pid, "stat", buf, n) <= 0)
        return NULL;
    const char *end = strrchr(buf, ')');
    return end && end[1] == ' ' ? end + 2 : NULL;
}

int tt_proc_figures_read(pid_t pid, struct tt_proc_figures *out)
{
    char buf[8192];
    *out = (struct tt_proc_figures){-1, -1, -1, -1, -1, -1};
    ssize_t n = slurp(pid, "status", buf, sizeof buf);
    if (n <= 0)
        return n < 0 ? (int)n : -ESRCH;
    out->rss_anon = field(buf, "\nRssAnon:", 1024);
    out->rss_file = field(buf, "\nRssFile:", 1024);
    out->vm_size = field(buf, "\nVmSize:", 1024);
    out->threads = field(buf, "\nThreads:", 1);
    out->fds = count_fds(pid);
    const char *fields = stat_fields(pid, buf, sizeof buf);
    unsigned long long user, system;
    /* NOLINTNEXTLINE(cert-err34-c): the kernel writes no number that does not fit */
    if (fields && sscanf(fields, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user,
                         &system) == 2)
        out->cpu_ms = (int64_t)((user + system) * 1000 / (unsigned long long)sysconf(_SC_CLK_TCK));
    return 0;
}

pid_t tt_proc_parent(pid_t pid, bool *zombie)
{
    char buf[1024], state;
    int parent;
    const char *fields = stat_fields(pid, buf, sizeof buf);
    /* NOLINTNEXTLINE(cert-err34-c): as above */
    if (!fields || sscanf(fields, "%c %d", &state, &parent) != 2)
        return -ESRCH;
    if (zombie)
        *zombie = state == 'Z' || state == 'X';
    return parent;
}

void tt_proc_exe(pid_t pid, char *out, size_t n)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/exe", (int)pid);
    ssize_t len = readlink(path, out, n - 1);
    out[len > 0 ? len : 0] = '\0';
}

void tt_proc_cmdline(pid_t pid, char *out, size_t n)
{
    ssize_t len = slurp(pid, "cmdline", out, n);
    if (len < 0)
        len = 0;
    while (len > 0 && out[len - 1] == '\0')
        len--;
    for (ssize_t i = 0; i < len; i++)
        if (out[i] == '\0')
            out[i] = ' ';
    out[len] = '\0';
}

int tt_proc_list(pid_t pid, tt_proc_pid_vec *out)
{
    char path[64];
    snprintf(path, sizeof path, pid ? "/proc/%d/task" : "/proc", (int)pid);
    DIR *dir = opendir(path);
    if (!dir)
        return -errno;
    int code = 0;
    for (struct dirent *entry; !code && (entry = readdir(dir)) != NULL;) {
        char *end;
        long id = strtol(entry->d_name, &end, 10);
        if (!*end && id > 0)
            code = tt_vec_push(out, (pid_t)id);
    }
    closedir(dir);
    return code;
}

bool tt_proc_environ_has(pid_t pid, const char *needle)
{
    size_t cap = 256 << 10;
    char *buf = malloc(cap);
    if (!buf)
        return false;
    ssize_t n = slurp(pid, "environ", buf, cap);
    bool has = n > 0 && memmem(buf, (size_t)n, needle, strlen(needle)) != NULL;
    free(buf);
    return has;
}
