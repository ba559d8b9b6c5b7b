/* SPDX-License-Identifier: Apache-2.0 */
/* Children of processes that are attached to. With -f those that were there already are attached to
 * as well; later ones make tapes of their own, but a child in another mount namespace cannot make
 * it in our directory: it is found by the memory file that it maps. Without -f a forked child
 * carries the patched entries, and the agent is taken out of it at the end. Start:
 * tt_attach_children. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "record/internal.h"

#define CHILDREN_NS TT_SECOND
#define CHILDREN_MOST 4096u
#define MEMFD_NAME "memfd:telltale"

static int open_mapped(pid_t pid, const struct tt_proc_map *map)
{
    char path[96];
    snprintf(path, sizeof path, "/proc/%d/map_files/%llx-%llx", (int)pid,
             (unsigned long long)map->start, (unsigned long long)map->end);
    return open(path, O_RDWR | O_CLOEXEC);
}

static bool is_tape(const struct tt_proc_maps *maps, const struct tt_proc_map *map)
{
    return map->shared && map->offset == 0 && strstr(tt_proc_map_path(maps, map), MEMFD_NAME);
}

static bool looked_at(const struct tt_recorder *rec, pid_t pid)
{
    for (size_t i = 0; i < rec->looked_at.len; i++)
        if (rec->looked_at.data[i] == pid)
            return true;
    return false;
}

/* A tape that the process maps and that no image has. */
static void adopt_memory_file(struct tt_recorder *rec, pid_t pid)
{
    struct tt_proc_maps maps = {0};
    int fd = -1;
    if (tt_proc_maps_read(pid, &maps) == 0)
        for (size_t i = 0; i < maps.maps.len && fd < 0; i++) {
            const struct tt_proc_map *map = &maps.maps.data[i];
            bool known = !is_tape(&maps, map);
            for (size_t k = 0; k < rec->images.len && !known; k++)
                known = rec->images.data[k]->tape.inode == map->inode;
            if (!known)
                fd = open_mapped(pid, map);
        }
    tt_proc_maps_free(&maps);
    struct tt_image *image = fd < 0 ? NULL : tt_image_new(rec, fd, pid, "");
    if (image)
        tt_image_settle(rec, image);
}

static void children_of(pid_t pid, tt_proc_pid_vec *out)
{
    char path[96];
    tt_proc_pid_vec tids = {0};
    tt_proc_list(pid, &tids);
    for (size_t i = 0; i < tids.len; i++) {
        snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pid, (int)tids.data[i]);
        FILE *f = fopen(path, "re");
        long child;
        /* NOLINTNEXTLINE(cert-err34-c): the kernel writes no number that does not fit */
        while (f && fscanf(f, "%ld", &child) == 1)
            if (tt_vec_push(out, (pid_t)child))
                break;
        if (f)
            fclose(f);
    }
    tt_vec_free(&tids);
}

static void look_at_children(struct tt_recorder *rec, pid_t pid, unsigned depth)
{
    tt_proc_pid_vec found = {0};
    children_of(pid, &found);
    for (size_t i = 0; i < found.len; i++) {
        pid_t child = found.data[i];
        if (!looked_at(rec, child) && rec->looked_at.len < CHILDREN_MOST &&
            tt_vec_push(&rec->looked_at, child) == 0 && !tt_image_of(rec, child))
            adopt_memory_file(rec, child);
        if (depth < 8)
            look_at_children(rec, child, depth + 1);
    }
    tt_vec_free(&found);
}

void tt_attach_children(struct tt_recorder *rec, uint64_t now_ns)
{
    if (!rec->options->follow || rec->options->no_inject || now_ns < rec->children_due)
        return;
    rec->children_due = now_ns + CHILDREN_NS;
    for (size_t i = 0; i < rec->given.len; i++)
        if (!rec->given.data[i].gone)
            look_at_children(rec, rec->given.data[i].pid, 0);
}

void tt_attach_add_children(tt_proc_pid_vec *pids)
{
    for (size_t at = 0; at < pids->len && pids->len < CHILDREN_MOST; at++) {
        tt_proc_pid_vec found = {0};
        children_of(pids->data[at], &found);
        for (size_t i = 0; i < found.len; i++) {
            bool there = false;
            for (size_t k = 0; k < pids->len && !there; k++)
                there = pids->data[k] == found.data[i];
            if (!there && tt_vec_push(pids, found.data[i]))
                break;
        }
        tt_vec_free(&found);
    }
}

void tt_attach_leave_children(const struct tt_recorder *rec)
{
    tt_proc_pid_vec pids = {0};
    struct tt_proc_maps maps = {0};
    tt_proc_list(0, &pids);
    for (size_t i = 0; i < pids.len; i++) {
        if (pids.data[i] == getpid() || tt_proc_maps_read(pids.data[i], &maps))
            continue;
        bool ours = false;
        for (size_t m = 0; m < maps.maps.len && !ours; m++)
            for (size_t k = 0; maps.maps.data[m].shared && k < rec->images.len && !ours; k++) {
                const struct tt_image *image = rec->images.data[k];
                ours = maps.maps.data[m].inode == image->tape.inode && pids.data[i] != image->pid &&
                       strstr(tt_proc_map_path(&maps, &maps.maps.data[m]), MEMFD_NAME);
            }
        struct tt_inject_detached detached;
        struct tt_error err;
        if (ours)
            tt_inject_detach(pids.data[i], true, &detached, &err);
    }
    tt_proc_maps_free(&maps);
    tt_vec_free(&pids);
}
