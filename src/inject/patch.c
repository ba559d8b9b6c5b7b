/* SPDX-License-Identifier: Apache-2.0 */
/* What will be changed: a function's first five bytes become a jump towards the blob (entry.c), or,
 * where its first instructions cannot be moved, the loader's pointers to it are changed. Each place
 * is recorded in the target before it is touched, so that anybody can undo it; apply.c does both.
 * Start: tt_patch_plan. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inject/entry.h"
#include "inject/patch.h"

void tt_patch_note(struct tt_inject_attached *out, const char *format, ...)
{
    struct tt_inject_note note;
    va_list ap;
    va_start(ap, format);
    vsnprintf(note.text, sizeof note.text, format, ap);
    va_end(ap);
    int full = tt_vec_push(&out->notes, note); /* a note less is no reason to stop */
    (void)full;
}

bool tt_patch_active(const struct tt_load *load)
{
    for (uint32_t i = 0; i < load->head.patch_count; i++)
        if (load->head.patch[i].active)
            return true;
    return false;
}

const struct tt_definition *tt_patch_definition(const struct tt_patch *p,
                                                const struct tt_patch_plan *plan)
{
    return &p->found->definitions.data[plan->definition];
}

struct tt_blob_patch *tt_patch_record(const struct tt_patch *p, const struct tt_patch_plan *plan)
{
    return &p->load->head.patch[plan->record];
}

const char *tt_patch_object(const struct tt_patch *p, const struct tt_definition *d)
{
    const char *path = p->found->objects.data[d->object].path, *slash = strrchr(path, '/');
    return !*path ? "the program" : slash ? slash + 1 : path;
}

bool tt_patch_needs(uint16_t entry)
{
    return tt_find_releases(entry) || entry == TT_E_MALLOC || entry == TT_E_REALLOC;
}

/* ---- plans ---- */

struct tt_blob_patch *tt_patch_old(struct tt_blob *b, uint64_t address)
{
    for (uint32_t i = 0; i < b->patch_count; i++)
        if (b->patch[i].address == address && !b->patch[i].active)
            return &b->patch[i];
    return NULL;
}

/* Adds a plan and its record, which is in force from now on. -ENOSPC when there are too many. */
static int add(struct tt_patch *p, struct tt_patch_plan *plan, const struct tt_blob_patch *record)
{
    struct tt_blob *b = &p->load->head;
    struct tt_blob_patch *r = tt_patch_old(b, record->address);
    if (!r && b->patch_count >= TT_BLOB_PATCHES)
        return -ENOSPC;
    plan->record = r ? (uint32_t)(r - b->patch) : b->patch_count;
    if (tt_vec_push(&p->plans, *plan))
        return -ENOMEM;
    b->patch_count += r == NULL;
    b->patch[plan->record] = *record;
    b->patch[plan->record].active = 1;
    return 0;
}

/* A jump at the entry. 0, or a negative errno with *why and the real function in *real. */
static int plan_entry(struct tt_patch *p, size_t definition_index, uint64_t hook, uint64_t *real,
                      const char **why)
{
    struct tt_patch_plan plan = {.definition = definition_index};
    struct tt_blob_patch record;
    int r = tt_entry_plan(p, tt_patch_definition(p, &plan), hook, &plan, &record, why);
    /* The page becomes the process's own now rather than during the stop. */
    if (r == 0)
        r = tt_target_write(p->target, record.address, record.was, TT_RELOCATE_NEED);
    if (r == 0 && (r = add(p, &plan, &record)) != 0)
        *why = "too many functions to hook";
    if (r == 0)
        *real = record.real;
    return r;
}

struct slots {
    struct tt_patch *patch;
    size_t definition;
    uint64_t hook, real;
    uint32_t count;
    int code;
};

/* The object whose mappings hold an address, or NULL. */
static const struct tt_object *object_at(const struct tt_found *found, uint64_t address)
{
    for (size_t i = 0; i < found->objects.len; i++)
        if (address >= found->objects.data[i].start && address < found->objects.data[i].end)
            return &found->objects.data[i];
    return NULL;
}

static void plan_slot(void *arg, uint64_t slot)
{
    struct slots *s = arg;
    struct tt_patch_plan plan = {.definition = s->definition, .slot = true};
    const struct tt_definition *d = tt_patch_definition(s->patch, &plan);
    struct tt_blob_patch record = {
        .address = slot, .length = 8, .set = d->set, .entry = d->entry, .got = 1};
    uint64_t value;
    if (s->code || tt_target_read(s->patch->target, slot, &value, 8))
        return;
    /* Not yet bound: it points into the object's own procedure linkage table. */
    const struct tt_object *home = object_at(s->patch->found, slot);
    bool unbound = home && value >= home->start && value < home->end && d->set == 0 &&
                   home != &s->patch->found->objects.data[d->object];
    bool bound = d->ifunc ? d->set == 0 && !unbound : value == d->address;
    if (!unbound && !bound)
        return;
    if (bound && !s->real)
        s->real = value;
    record.real = s->real;
    memcpy(record.was, &value, 8);
    memcpy(record.is, &s->hook, 8);
    s->code = add(s->patch, &plan, &record);
    s->count++;
}

/* Takes plans back, from the one at index `first` on. */
static void drop(struct tt_patch *p, size_t first)
{
    for (size_t i = first; i < p->plans.len; i++)
        tt_patch_record(p, &p->plans.data[i])->active = 0;
    p->plans.len = first;
}

static int plan_slots(struct tt_patch *p, size_t definition_index, uint64_t hook, uint64_t *real)
{
    const struct tt_definition *d = &p->found->definitions.data[definition_index];
    struct slots s = {.patch = p, .definition = definition_index, .hook = hook};
    size_t first = p->plans.len;
    if (!d->ifunc)
        s.real = d->address;
    tt_find_slots(p->target, p->found, d->name, plan_slot, &s);
    if (!s.count || s.code || !s.real) {
        drop(p, first);
        return -EOPNOTSUPP;
    }
    *real = s.real;
    return 0;
}

/* A release that stayed hooked at the last detach. */
static const struct tt_blob_patch *kept_record(const struct tt_patch *p,
                                               const struct tt_definition *d)
{
    for (uint32_t i = 0; i < p->load->head.patch_count; i++) {
        const struct tt_blob_patch *r = &p->load->head.patch[i];
        if (r->active && !r->got && r->address == d->address)
            return r;
    }
    return NULL;
}

static uint32_t hook_of(const struct tt_blob *b, const struct tt_definition *d)
{
    const uint32_t others[TT_FIND_OTHERS] = {b->entry_dlclose, b->entry_prctl, b->entry_syscall};
    return d->entry < TT_E_COUNT ? b->entry[d->set][d->entry] : others[d->entry - TT_E_COUNT];
}

/* Plans the definition. 0, or -EOPNOTSUPP after a note. */
static int plan_one(struct tt_patch *p, size_t index, uint64_t *real)
{
    const struct tt_definition *d = &p->found->definitions.data[index];
    uint32_t offset = hook_of(&p->load->head, d);
    const struct tt_blob_patch *before = kept_record(p, d);
    const char *why = "it is chosen by the processor's features";
    if (before) {
        *real = before->real;
        return 0;
    }
    if (!offset) {
        tt_patch_note(p->out, "%s of %s: not known to the agent; not followed", d->name,
                      tt_patch_object(p, d));
        return -EOPNOTSUPP;
    }
    uint64_t hook = p->load->base + offset;
    int r = d->ifunc ? -EOPNOTSUPP : plan_entry(p, index, hook, real, &why);
    if (r == 0)
        return 0;
    r = plan_slots(p, index, hook, real);
    tt_patch_note(p->out, "%s of %s: %s; %s", d->name, tt_patch_object(p, d), why,
                  r ? "not followed" : "followed only where the loader bound it");
    return r;
}

/* All definitions of a set, or none. */
static int plan_set(struct tt_patch *p, uint16_t set, uint64_t *reals, struct tt_error *err)
{
    size_t first = p->plans.len;
    for (size_t i = 0; i < p->found->definitions.len; i++) {
        const struct tt_definition *d = &p->found->definitions.data[i];
        if (d->set != set || plan_one(p, i, &reals[i]) == 0 || !tt_patch_needs(d->entry))
            continue;
        drop(p, first);
        if (set == 0)
            return tt_error_set(err, -EOPNOTSUPP, "cannot attach to process %d: %.150s",
                                (int)p->target->pid,
                                p->out->notes.len ? p->out->notes.data[p->out->notes.len - 1].text
                                                  : "out of memory");
        tt_patch_note(p->out, "the allocator in %s is not followed", tt_patch_object(p, d));
        for (size_t k = 0; k < p->found->definitions.len; k++)
            if (p->found->definitions.data[k].set == set)
                reals[k] = 0;
        return 0;
    }
    return 0;
}

/* An address in the target, as the blob's type for it. */
static tt_real_fn *function_at(uint64_t at)
{
    tt_real_fn *fn;
    memcpy(&fn, &at, sizeof fn);
    return fn;
}

int tt_patch_plan(struct tt_patch *patch, struct tt_blob_call *call, struct tt_error *err)
{
    struct tt_blob *b = &patch->load->head;
    const struct tt_found *found = patch->found;
    uint64_t *reals = calloc(found->definitions.len + 1, sizeof *reals);
    if (!reals)
        return tt_error_set(err, -ENOMEM, "out of memory");
    int code = 0;
    for (uint16_t set = 0; code == 0 && set < found->sets; set++)
        code = plan_set(patch, set, reals, err);
    for (unsigned set = 0; code == 0 && set < found->sets; set++)
        for (unsigned e = 0; e < TT_E_COUNT; e++) {
            uint16_t index = found->index[set][e];
            call->real[set][e] = function_at(index ? reals[index - 1] : 0);
        }
    tt_real_fn **others[TT_FIND_OTHERS] = {&call->real_dlclose, &call->real_prctl,
                                           &call->real_syscall};
    for (unsigned i = 0; code == 0 && i < TT_FIND_OTHERS; i++)
        *others[i] = function_at(found->other[i] ? reals[found->other[i] - 1] : 0);
    free(reals);
    if (code)
        return code;
    code = tt_load_put(patch->target, patch->load, b, TT_LOAD_HEAD);
    return code ? tt_error_sys(err, code, "cannot write to the memory of process %d",
                               (int)patch->target->pid)
                : 0;
}

void tt_patch_free(struct tt_patch *patch)
{
    tt_vec_free(&patch->plans);
}
