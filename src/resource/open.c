/* SPDX-License-Identifier: Apache-2.0 */
/* Which descriptors a process has open, and what they are, by their links in /proc/PID/fd
 * (proc(5)): a path, "socket:[inode]", "pipe:[inode]", "anon_inode:[eventpoll]", "/memfd:name
 * (deleted)". Start: tt_open_list. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "resource/resource.h"

static void set(struct tt_open *out, enum tt_open_what what, const char *name, size_t length)
{
    out->what = what;
    snprintf(out->name, sizeof out->name, "%.*s", (int)(length > 31 ? 31 : length), name);
}

void tt_open_read(const char *link, struct tt_open *out)
{
    const char *bracket = strchr(link, '[');
    out->inode =
        bracket && strncmp(link, "anon_inode:", 11) != 0 ? strtoull(bracket + 1, NULL, 10) : 0;
    if (strncmp(link, "socket:", 7) == 0) {
        set(out, TT_OPEN_SOCKET, "socket", 6);
    } else if (strncmp(link, "pipe:", 5) == 0) {
        set(out, TT_OPEN_PIPE, "pipe", 4);
    } else if (strncmp(link, "anon_inode:", 11) == 0) {
        const char *name = link + 11;
        name += *name == '[';
        set(out, TT_OPEN_ANON, name, strcspn(name, "]-:"));
    } else if (strncmp(link, "/memfd:", 7) == 0) {
        set(out, TT_OPEN_ANON, "memfd", 5);
    } else if (strncmp(link, "/dev/shm/", 9) == 0) {
        set(out, TT_OPEN_FILE, "shared memory", 13);
    } else if (strncmp(link, "/dev/", 5) == 0) {
        set(out, TT_OPEN_DEVICE, "device", 6);
    } else {
        set(out, TT_OPEN_FILE, "file", 4);
    }
}

static int by_number(const void *a, const void *b)
{
    const struct tt_open *x = a, *y = b;
    return (x->fd > y->fd) - (x->fd < y->fd);
}

int tt_open_list(pid_t pid, tt_open_vec *out)
{
    char path[64];
    int code = 0;
    out->len = 0;
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *dir = opendir(path);
    if (!dir)
        return -errno;
    for (struct dirent *entry; !code && (entry = readdir(dir)) != NULL;) {
        char link[256], *end;
        long fd = strtol(entry->d_name, &end, 10);
        if (end == entry->d_name || *end || fd < 0 || fd > INT32_MAX ||
            (fd == dirfd(dir) &&
             pid == getpid())) /* asked about ourselves: this one is no answer */
            continue;
        ssize_t n = readlinkat(dirfd(dir), entry->d_name, link, sizeof link - 1);
        if (n < 0)
            continue; /* closed meanwhile */
        link[n] = '\0';
        struct tt_open row = {.fd = (int)fd};
        tt_open_read(link, &row);
        if (tt_vec_push(out, row))
            code = -ENOMEM;
    }
    closedir(dir);
    if (out->len)
        qsort(out->data, out->len, sizeof *out->data, by_number);
    return code;
}
