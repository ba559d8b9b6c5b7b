/* SPDX-License-Identifier: Apache-2.0 */
/* /proc/PID/maps and smaps. The format is proc(5)'s: start-end perms offset major:minor inode path.
 * Paths hold newlines as \012 and may end in " (deleted)"; both are left as they are.
 * Start: tt_proc_maps_read. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "proc/proc.h"

/* Reads digits of a base and steps over them; 0 digits give false. */
static bool number(char **at, int base, uint64_t *value)
{
    char *end;
    errno = 0;
    if (**at == '-' || **at == '+' || **at == ' ')
        return false;
    *value = strtoull(*at, &end, base);
    if (end == *at || errno)
        return false;
    *at = end;
    return true;
}

static bool parse_line(char *line, struct tt_proc_map *map, char **path)
{
    uint64_t major, minor;
    char *at = line;
    if (!number(&at, 16, &map->start) || *at++ != '-' || !number(&at, 16, &map->end) ||
        *at++ != ' ' || strlen(at) < 5)
        return false;
    map->read = at[0] == 'r';
    map->write = at[1] == 'w';
    map->exec = at[2] == 'x';
    map->shared = at[3] == 's';
    at += 5;
    if (!number(&at, 16, &map->offset) || *at++ != ' ' || !number(&at, 16, &major) ||
        *at++ != ':' || !number(&at, 16, &minor) || *at++ != ' ' || !number(&at, 10, &map->inode))
        return false;
    map->device = makedev((unsigned)major, (unsigned)minor);
    while (*at == ' ')
        at++;
    *path = at;
    return map->start < map->end;
}

int tt_proc_maps_parse(struct tt_proc_maps *maps, char *text)
{
    maps->maps.len = 0;
    for (char *line = text, *next; *line; line = next) {
        next = strchrnul(line, '\n');
        if (*next)
            *next++ = '\0';
        struct tt_proc_map map;
        char *path;
        if (!parse_line(line, &map, &path))
            continue;
        map.path = (uint32_t)(path - text);
        if (tt_vec_push(&maps->maps, map))
            return -ENOMEM;
    }
    return 0;
}

int tt_proc_maps_read(pid_t pid, struct tt_proc_maps *maps)
{
    char name[64];
    maps->maps.len = 0;
    snprintf(name, sizeof name, "/proc/%d/maps", (int)pid);
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    size_t len = 0;
    int code = 0;
    for (;;) {
        if (tt_vec_reserve_((void **)&maps->text, &maps->text_cap, len + 65536, 1)) {
            code = -ENOMEM;
            break;
        }
        ssize_t n = read(fd, maps->text + len, maps->text_cap - len - 1);
        if (n < 0)
            code = -errno;
        if (n <= 0)
            break;
        len += (size_t)n;
    }
    /* The text ends early when the process ends meanwhile; then there is nothing to read at all. */
    char first;
    if (!code && pread(fd, &first, 1, 0) <= 0)
        len = 0;
    close(fd);
    if (!code) {
        maps->text[len] = '\0';
        code = len ? tt_proc_maps_parse(maps, maps->text) : -ESRCH;
    }
    if (code)
        maps->maps.len = 0;
    return code;
}

void tt_proc_maps_free(struct tt_proc_maps *maps)
{
    tt_vec_free(&maps->maps);
    free(maps->text);
    *maps = (struct tt_proc_maps){0};
}

const char *tt_proc_map_path(const struct tt_proc_maps *maps, const struct tt_proc_map *map)
{
    return maps->text + map->path;
}

int tt_proc_map_open(pid_t pid, const struct tt_proc_map *map, const char *path)
{
    char link[96];
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_ino == map->inode)
        return fd;
    if (fd >= 0)
        close(fd);
    snprintf(link, sizeof link, "/proc/%d/map_files/%llx-%llx", (int)pid,
             (unsigned long long)map->start, (unsigned long long)map->end);
    return open(link, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
}

const struct tt_proc_map *tt_proc_map_at(const struct tt_proc_maps *maps, uint64_t address)
{
    size_t lo = 0, hi = maps->maps.len;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (maps->maps.data[mid].end <= address)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < maps->maps.len && maps->maps.data[lo].start <= address ? &maps->maps.data[lo]
                                                                       : NULL;
}

int tt_proc_anonymous(pid_t pid, bool (*wanted)(void *arg, const struct tt_proc_map *map),
                      void *arg, uint64_t *bytes)
{
    char name[64];
    *bytes = 0;
    snprintf(name, sizeof name, "/proc/%d/smaps", (int)pid);
    FILE *f = fopen(name, "re");
    if (!f)
        return -errno;
    char *line = NULL;
    size_t cap = 0;
    bool counts = false;
    while (getline(&line, &cap, f) > 0) {
        struct tt_proc_map map = {0};
        char *path;
        uint64_t kib;
        if (parse_line(line, &map, &path)) {
            counts = wanted(arg, &map);
        } else if (counts && strncmp(line, "Anonymous:", 10) == 0) {
            char *at = line + 10 + strspn(line + 10, " ");
            if (number(&at, 10, &kib))
                *bytes += kib * 1024;
        }
    }
    int code = ferror(f) ? -ESRCH : 0;
    free(line);
    fclose(f);
    return code;
}
