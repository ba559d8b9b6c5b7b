/* SPDX-License-Identifier: Apache-2.0 */
/* Libraries loaded by dlopen, each a file of its own: copies of pairs_plugin.so that lose their
 * names at once. (A library that is loaded already only has its count go up, which costs nothing.)
 */
#include "pairs.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

typedef void *library;
#define RESOURCE "library"
#define UNIT library

/* The plugin beside this program. */
static char *plugin;
static size_t plugin_size;
static __attribute__((constructor)) void read_plugin(void)
{
    char path[4096];
    struct stat st;
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 32);
    while (n > 0 && path[n - 1] != '/')
        n--;
    strcpy(path + (n > 0 ? n : 0), "pairs_plugin.so");
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st))
        pairs_failed(path);
    plugin_size = (size_t)st.st_size;
    plugin = mmap(NULL, plugin_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (plugin == MAP_FAILED)
        pairs_failed("mmap");
}

static PAIRS_OWN_FRAME void *loaded(int flags)
{
    static unsigned n;
    char path[64];
    snprintf(path, sizeof path, "/tmp/pairs.%d.%u.so", (int)getpid(), n++);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
    if (fd < 0 || write(fd, plugin, plugin_size) != (ssize_t)plugin_size)
        pairs_failed(path);
    close(fd);
    void *handle = dlopen(path, flags);
    unlink(path);
    if (!handle)
        pairs_failed("dlopen");
    return handle;
}

#define ACQUIRER dlopen
#define NEW_UNIT loaded(RTLD_NOW)
#define END_UNIT(v) dlclose(v)
#define ALSO "heap|mapping"
#define FLOWS FLOWS_BASIC | FLOWS_LIFE
#include "flows.inc"

#define ACQUIRER dlopen_lazy
#define NEW_UNIT loaded(RTLD_LAZY)
#define END_UNIT(v) dlclose(v)
#define ALSO "heap|mapping"
#define FLOWS FLOWS_CONTROL
#include "flows.inc"
