/* SPDX-License-Identifier: Apache-2.0 */
/* What is asked of the kernel besides memory: pointers that only it holds (epoll user data and the
 * values timers deliver, proc(5)), and which pages were ever touched (PAGEMAP_SCAN of Linux 6.7,
 * else the pagemap file). Start: tt_heap_kernel_roots, tt_heap_resident. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "heap/internal_image.h"

/* ---- roots ---- */

__attribute__((format(printf, 3, 4))) static int put(struct tt_heap_image *image, uint64_t value,
                                                     const char *fmt, ...)
{
    struct tt_heap_kernel_root root = {.value = value};
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(root.what, sizeof root.what, fmt, ap);
    va_end(ap);
    return value >= 4096 ? tt_vec_push(&image->kernel_roots, root) : 0;
}

static int epoll_roots(const char *dir, const char *fd, struct tt_heap_image *image)
{
    char path[320], line[256];
    int rc = 0;
    snprintf(path, sizeof path, "%s/%s", dir, fd);
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    while (rc == 0 && fgets(line, sizeof line, f)) {
        int watched;
        unsigned events;
        unsigned long data;
        /* "tfd:        5 events:       19 data: 7f0012345678 ..." */
        /* NOLINTNEXTLINE(cert-err34-c): the kernel writes no number that does not fit */
        if (sscanf(line, "tfd: %d events: %x data: %lx", &watched, &events, &data) == 3)
            rc = put(image, data, "epoll data of fd %d", watched);
    }
    fclose(f);
    return rc;
}

static int timer_roots(pid_t pid, struct tt_heap_image *image)
{
    char path[64], line[256];
    int rc = 0, id = -1;
    snprintf(path, sizeof path, "/proc/%d/timers", (int)pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    while (rc == 0 && fgets(line, sizeof line, f)) {
        int number;
        unsigned long value;
        /* "ID: 1" and then "signal: 60/00007fff86e452a8": number / sigev_value */
        /* NOLINTNEXTLINE(cert-err34-c): as above */
        if (sscanf(line, "ID: %d", &number) == 1)
            id = number;
        /* NOLINTNEXTLINE(cert-err34-c): as above */
        else if (sscanf(line, "signal: %d/%lx", &number, &value) == 2)
            rc = put(image, value, "value of timer %d", id);
    }
    fclose(f);
    return rc;
}

int tt_heap_kernel_roots(pid_t pid, struct tt_heap_image *image)
{
    char dir_name[64], link_name[320], to[64];
    snprintf(dir_name, sizeof dir_name, "/proc/%d/fdinfo", (int)pid);
    int rc = timer_roots(pid, image);
    DIR *dir = opendir(dir_name);
    struct dirent *entry;
    while (rc == 0 && dir && (entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(link_name, sizeof link_name, "/proc/%d/fd/%s", (int)pid, entry->d_name);
        ssize_t n = readlink(link_name, to, sizeof to - 1);
        to[n > 0 ? n : 0] = '\0';
        if (strcmp(to, "anon_inode:[eventpoll]") == 0)
            rc = epoll_roots(dir_name, entry->d_name, image);
    }
    if (dir)
        closedir(dir);
    return rc;
}

/* ---- touched pages ---- */

enum { FILL = 65536 };

static int add(tt_heap_run_vec *runs, size_t first, uint64_t start, uint64_t end)
{
    struct tt_heap_run *last = runs->len > first ? &runs->data[runs->len - 1] : NULL;
    if (last && start <= last->end + FILL) {
        last->end = end;
        return 0;
    }
    return tt_vec_push(runs, (struct tt_heap_run){start, end});
}

/* Linux UAPI, include/uapi/linux/fs.h since 6.7. */
struct page_region {
    uint64_t start, end, categories;
};
struct pm_scan_arg {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define SCAN_IOCTL _IOWR('f', 16, struct pm_scan_arg)
enum { SCAN_PRESENT = 1 << 3, SCAN_SWAPPED = 1 << 4 };

static int scan(int fd, uint64_t start, uint64_t end, tt_heap_run_vec *runs, size_t first)
{
    struct page_region found[256];
    while (start < end) {
        struct pm_scan_arg arg = {.size = sizeof arg,
                                  .start = start,
                                  .end = end,
                                  .vec = (uintptr_t)found,
                                  .vec_len = sizeof found / sizeof *found,
                                  .category_anyof_mask = SCAN_PRESENT | SCAN_SWAPPED,
                                  .return_mask = SCAN_PRESENT | SCAN_SWAPPED};
        int n = ioctl(fd, SCAN_IOCTL, &arg);
        if (n < 0)
            return -errno;
        for (int i = 0; i < n; i++)
            if (add(runs, first, found[i].start, found[i].end))
                return -ENOMEM;
        if (arg.walk_end <= start)
            return -EIO;
        start = arg.walk_end;
    }
    return 0;
}

/* proc(5) pagemap: 8 bytes a page; bit 63 present, bit 62 swapped. */
static int read_pagemap(int fd, uint64_t start, uint64_t end, tt_heap_run_vec *runs, size_t first)
{
    enum { AT_ONCE = 8192 };
    uint64_t *entries = malloc(AT_ONCE * sizeof *entries);
    int rc = entries ? 0 : -ENOMEM;
    while (start < end && rc == 0) {
        uint64_t pages = (end - start) / 4096;
        pages = pages < AT_ONCE ? pages : AT_ONCE;
        ssize_t n = pread(fd, entries, pages * 8, (off_t)(start / 4096 * 8));
        if (n < 8) {
            rc = n < 0 ? -errno : -EIO;
            break;
        }
        for (ssize_t i = 0; i < n / 8 && rc == 0; i++)
            if (entries[i] >> 62)
                rc =
                    add(runs, first, start + (uint64_t)i * 4096, start + (uint64_t)i * 4096 + 4096);
        start += (uint64_t)n / 8 * 4096;
    }
    free(entries);
    return rc;
}

int tt_heap_resident(int fd, uint64_t start, uint64_t end, tt_heap_run_vec *runs)
{
    size_t first = runs->len;
    int rc = scan(fd, start, end, runs, first);
    if (rc && rc != -ENOMEM) {
        runs->len = first;
        rc = read_pagemap(fd, start, end, runs, first);
    }
    if (rc)
        runs->len = first;
    return rc;
}
