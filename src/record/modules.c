/* SPDX-License-Identifier: Apache-2.0 */
/* Which files' code is mapped where, and since when: what turns recorded addresses into names later
 * and elsewhere. The list is read again when the agent says that it changed, and when a new stack
 * has an address that no module holds; code made at run time would ask for that for ever, so
 * fruitless readings are spaced further and further. Start: tt_modules_read. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "record/internal.h"

#define PAUSE_NS (2 * TT_SECOND)
#define PAUSE_MOST_NS (64 * TT_SECOND)
#define MODULES_MAX 16384u

static bool same(const struct tt_module *module, const struct tt_proc_map *map, const char *path)
{
    const struct tt_session_module *row = &module->row;
    return row->until_ns == 0 && row->start == map->start && row->end == map->end &&
           row->file_offset == map->offset && strcmp(row->path, path) == 0;
}

int tt_modules_open(const struct tt_image *image, const struct tt_proc_map *map)
{
    return tt_proc_map_open((pid_t)image->pid, map, tt_proc_map_path(&image->maps, map));
}

static void add(struct tt_image *image, const struct tt_proc_map *map, const char *path,
                uint64_t now_ns)
{
    char build_id[TT_PROC_BUILD_ID] = "";
    struct tt_module module = {.seen = true};
    struct tt_session_module *row = &module.row;
    *row = (struct tt_session_module){
        .start = map->start, .end = map->end, .file_offset = map->offset, .since_ns = now_ns};
    if (*path == '/') {
        int fd = tt_proc_map_open((pid_t)image->pid, map, path);
        struct stat st;
        if (fd >= 0) {
            tt_proc_build_id(fd, build_id);
            if (fstat(fd, &st) == 0) {
                row->file_size = (uint64_t)st.st_size;
                row->mtime = st.st_mtime;
            }
            close(fd);
        }
        const char *name = strrchr(path, '/') + 1;
        if (!*image->libc && strncmp(name, "libc.so", 7) == 0)
            tt_proc_libc_version(path, image->libc, sizeof image->libc);
        if (!*image->libc && strncmp(name, "libc-2.", 7) == 0)
            tt_proc_libc_version(path, image->libc, sizeof image->libc);
    }
    char *path_copy = strdup(path), *id_copy = strdup(build_id);
    row->path = path_copy;
    row->build_id = id_copy;
    if (!path_copy || !id_copy || tt_vec_push(&image->modules, module)) {
        free(path_copy);
        free(id_copy);
    }
}

void tt_modules_read(struct tt_image *image, uint64_t now_ns)
{
    size_t before = image->modules.len;
    image->modules_read_ns = now_ns;
    image->modules_stale = false;
    if (!image->visible || tt_proc_maps_read((pid_t)image->pid, &image->maps))
        return;
    for (size_t i = 0; i < before; i++)
        image->modules.data[i].seen = false;
    bool changed = false;
    for (size_t i = 0; i < image->maps.maps.len; i++) {
        const struct tt_proc_map *map = &image->maps.maps.data[i];
        const char *path = tt_proc_map_path(&image->maps, map);
        if (!map->exec || (*path != '/' && strcmp(path, "[vdso]") != 0))
            continue;
        bool known = false;
        for (size_t k = 0; k < before && !known; k++)
            if (!image->modules.data[k].seen && same(&image->modules.data[k], map, path))
                known = image->modules.data[k].seen = true;
        if (!known && image->modules.len < MODULES_MAX) {
            add(image, map, path, before == 0 ? image->opened_ns : now_ns);
            changed = true;
        }
    }
    for (size_t i = 0; i < before; i++) {
        struct tt_module *module = &image->modules.data[i];
        if (!module->seen && module->row.until_ns == 0) {
            module->row.until_ns = now_ns;
            changed = true;
        }
    }
    image->modules_pause_ns = changed                        ? PAUSE_NS
                              : image->modules_pause_ns == 0 ? PAUSE_NS
                              : image->modules_pause_ns >= PAUSE_MOST_NS
                                  ? PAUSE_MOST_NS
                                  : image->modules_pause_ns * 2;
}

bool tt_modules_hold(const struct tt_image *image, uint64_t pc)
{
    for (size_t i = 0; i < image->modules.len; i++) {
        const struct tt_session_module *row = &image->modules.data[i].row;
        if (row->until_ns == 0 && pc >= row->start && pc <= row->end)
            return true;
    }
    return false;
}

struct tt_session_module *tt_modules_now(const struct tt_image *image, size_t *n)
{
    struct tt_session_module *list = calloc(image->modules.len + 1, sizeof *list);
    *n = 0;
    for (size_t i = 0; list && i < image->modules.len; i++)
        if (image->modules.data[i].row.until_ns == 0)
            list[(*n)++] = image->modules.data[i].row;
    return list;
}

void tt_modules_free(struct tt_image *image)
{
    for (size_t i = 0; i < image->modules.len; i++) {
        free((void *)(uintptr_t)image->modules.data[i].row.path);
        free((void *)(uintptr_t)image->modules.data[i].row.build_id);
    }
    tt_vec_free(&image->modules);
}
