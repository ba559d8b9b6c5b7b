/* SPDX-License-Identifier: Apache-2.0 */
/* Modules and stacks of all runs of a campaign, by numbers that stay. A plan may hold anything,
 * since the program can write into it: indices are checked here, and nowhere else are they taken
 * from a plan. Start: tt_fault_world_import. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fault/calls.h"
#include "fault/fault.h"

int64_t tt_fault_world_module(struct tt_fault_world *world, const char *path, uint64_t start,
                              uint64_t end, uint64_t offset)
{
    if (!world->modules.len &&
        tt_vec_push(&world->modules, (struct tt_fault_place){.path = strdup("")}))
        return -ENOMEM;
    if (!*path)
        return 0;
    for (size_t i = 1; i < world->modules.len; i++)
        if (strcmp(world->modules.data[i].path, path) == 0)
            return (int64_t)i;
    char *copy = strdup(path);
    if (!copy || tt_vec_push(&world->modules, (struct tt_fault_place){copy, start, end, offset})) {
        free(copy);
        return -ENOMEM;
    }
    return (int64_t)world->modules.len - 1;
}

int64_t tt_fault_world_find(const struct tt_fault_world *world, uint64_t hash)
{
    const uint64_t *at = tt_map_get(&world->by_hash, hash);
    return at ? (int64_t)*at : -ENOENT;
}

int64_t tt_fault_world_site(struct tt_fault_world *world, uint64_t hash, unsigned call,
                            const uint64_t *frames, unsigned depth)
{
    int64_t known = tt_fault_world_find(world, hash);
    if (known >= 0)
        return known;
    uint64_t *copy = malloc((depth ? depth : 1) * sizeof *copy);
    if (!copy || tt_map_put(&world->by_hash, hash, world->sites.len) ||
        tt_vec_push(&world->sites, (struct tt_fault_site){hash, call, depth, copy, 0})) {
        free(copy);
        return -ENOMEM;
    }
    memcpy(copy, frames, depth * sizeof *copy);
    return (int64_t)world->sites.len - 1;
}

int tt_fault_world_import(struct tt_fault_world *world, const struct tt_fault_plan *plan,
                          int64_t *numbers)
{
    int64_t modules[TT_FAULT_MODULES] = {0};
    for (uint32_t i = 0; i < TT_FAULT_MODULES; i++) {
        struct tt_fault_module m = plan->module[i];
        m.path[TT_FAULT_PATH - 1] = '\0';
        if (i >= plan->module_count && i)
            break;
        modules[i] = tt_fault_world_module(world, i ? m.path : "", m.start, m.end, m.offset);
        if (modules[i] < 0)
            return -ENOMEM;
    }
    for (uint32_t i = 0; i < TT_FAULT_STACKS; i++) {
        struct tt_fault_stack s = plan->stack[i];
        uint64_t frames[TT_FAULT_DEPTH];
        numbers[i] = -1;
        if (!s.hash || s.call >= TT_FAULT_CALL_COUNT || s.depth > TT_FAULT_DEPTH ||
            s.frames > TT_FAULT_FRAMES - s.depth)
            continue;
        for (unsigned f = 0; f < s.depth; f++) {
            uint64_t frame = plan->frame[s.frames + f];
            uint32_t module = TT_FAULT_FRAME_MODULE(frame);
            frames[f] = TT_FAULT_FRAME(module < TT_FAULT_MODULES ? modules[module] : 0,
                                       TT_FAULT_FRAME_OFFSET(frame));
        }
        numbers[i] = tt_fault_world_site(world, s.hash, s.call, frames, s.depth);
        if (numbers[i] < 0)
            return -ENOMEM;
    }
    return 0;
}

void tt_fault_world_free(struct tt_fault_world *world)
{
    for (size_t i = 0; i < world->modules.len; i++)
        free(world->modules.data[i].path);
    for (size_t i = 0; i < world->sites.len; i++)
        free(world->sites.data[i].frames);
    tt_vec_free(&world->modules);
    tt_vec_free(&world->sites);
    tt_map_free(&world->by_hash);
}
