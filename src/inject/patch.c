/* SPDX-License-Identifier: Apache-2.0 */
/* The change itself: a function's first five bytes become a jump to the blob, and what stood there
 * is done by a copy in an island; where it cannot be moved, the loader's pointers to the function
 * are changed. Each place is recorded in the target before it is touched, so that anybody can undo
 * it. A thread inside the five bytes is put to the same instruction of the copy.
 * Releases are hooked no later than acquisitions and unhooked no earlier: the other order would
 * show blocks that nobody seems to free. Start: tt_patch_plan. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>

#include "inject/patch.h"

#define SCAN_FUNCTION (256u << 10)
#define BACK_BYTES 5u
#define FAR_BYTES 14u
#define STUB_ALIGN 16u

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

static const struct tt_definition *definition(const struct tt_patch *p,
                                              const struct tt_patch_plan *plan)
{
    return &p->found->definitions.data[plan->definition];
}

/* Without these a recording would show what is not so: a block never seen to go. */
static bool indispensable(uint16_t entry)
{
    return tt_find_releases(entry) || entry == TT_E_MALLOC || entry == TT_E_REALLOC;
}

/* ---- plans ---- */

static struct tt_blob_island *island_for(struct tt_load *load, uint64_t function)
{
    static const unsigned islands[] = {TT_ISLAND_NEAR_LIBC, TT_ISLAND_NEAR_EXE};
    for (size_t i = 0; i < sizeof islands / sizeof islands[0]; i++) {
        struct tt_blob_island *is = &load->head.island[islands[i]];
        if (is->base && is->size - is->used >= TT_RELOCATE_MAX + BACK_BYTES + FAR_BYTES + 32 &&
            tt_load_reaches(is->base, function))
            return is;
    }
    return NULL;
}

static struct tt_blob_patch *new_record(struct tt_patch *p, const struct tt_definition *d,
                                        uint64_t address)
{
    struct tt_blob *b = &p->load->head;
    if (b->patch_count >= TT_BLOB_PATCHES)
        return NULL;
    struct tt_blob_patch *r = &b->patch[b->patch_count++];
    *r = (struct tt_blob_patch){.address = address, .set = d->set, .entry = d->entry, .active = 1};
    return r;
}

static void put_jump(uint8_t *at, uint64_t from, uint64_t to)
{
    int32_t rel = (int32_t)(int64_t)(to - (from + BACK_BYTES));
    at[0] = 0xe9;
    memcpy(at + 1, &rel, 4);
}

/* A jump at the entry. 0 or -EOPNOTSUPP with *why. */
static int plan_entry(struct tt_patch *p, struct tt_patch_plan *plan, uint64_t hook,
                      const char **why)
{
    const struct tt_definition *d = definition(p, plan);
    struct tt_blob_island *is = island_for(p->load, d->address);
    uint8_t stub[TT_RELOCATE_MAX + BACK_BYTES + FAR_BYTES + 16], *code;
    size_t moved, taken;
    *why = "there is no room within reach of it";
    if (!is)
        return -EOPNOTSUPP;
    *why = "its size is unknown, too small or too large";
    if (d->size < TT_RELOCATE_NEED || d->size > SCAN_FUNCTION || !(code = malloc(d->size)))
        return -EOPNOTSUPP;
    uint64_t at = is->base + is->used;
    int code_is_there = tt_target_read(p->target, d->address, code, d->size) == 0;
    int r = code_is_there
                ? tt_relocate(code, d->size, d->address, at, stub, &moved, &taken, plan->where, why)
                : -EIO;
    if (r == 0 && tt_relocate_is_target(code, d->size, d->address, TT_RELOCATE_NEED)) {
        *why = "a branch leads into its first instructions";
        r = -EOPNOTSUPP;
    }
    struct tt_blob_patch *record = r == 0 ? new_record(p, d, d->address) : NULL;
    if (record) {
        size_t n = moved + BACK_BYTES;
        put_jump(stub + moved, at + moved, d->address + taken);
        if (!tt_load_reaches(d->address, hook)) { /* jmp *0(%rip) */
            static const uint8_t far[] = {0xff, 0x25, 0, 0, 0, 0};
            memcpy(stub + n, far, sizeof far);
            memcpy(stub + n + sizeof far, &hook, 8);
            hook = at + n;
            n += FAR_BYTES;
        }
        record->length = TT_RELOCATE_NEED;
        record->real = at;
        memcpy(record->was, code, TT_RELOCATE_NEED);
        put_jump(record->is, d->address, hook);
        is->used += (n + STUB_ALIGN - 1) & ~(uint64_t)(STUB_ALIGN - 1);
        r = tt_target_write(p->target, at, stub, n);
        /* The page becomes the process's own now rather than during the stop. */
        if (r == 0)
            r = tt_target_write(p->target, d->address, record->was, TT_RELOCATE_NEED);
        plan->first = (uint32_t)(record - p->load->head.patch);
        plan->count = 1;
    } else if (r == 0) {
        *why = "too many functions to hook";
        r = -EOPNOTSUPP;
    }
    free(code);
    return r ? -EOPNOTSUPP : 0;
}

struct slots {
    struct tt_patch *patch;
    const struct tt_definition *d;
    uint64_t hook, real;
    uint32_t count;
    bool full;
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
    uint64_t value;
    if (tt_target_read(s->patch->target, slot, &value, 8))
        return;
    /* Not yet bound: it points into the object's own procedure linkage table. */
    const struct tt_object *home = object_at(s->patch->found, slot);
    bool unbound = home && value >= home->start && value < home->end && s->d->set == 0 &&
                   home != &s->patch->found->objects.data[s->d->object];
    bool bound = s->d->ifunc ? s->d->set == 0 && !unbound : value == s->d->address;
    if (!unbound && !bound)
        return;
    if (bound && !s->real)
        s->real = value;
    struct tt_blob_patch *r = new_record(s->patch, s->d, slot);
    s->full |= !r;
    if (!r)
        return;
    r->got = 1;
    r->length = 8;
    memcpy(r->was, &value, 8);
    memcpy(r->is, &s->hook, 8);
    s->count++;
}

static int plan_slots(struct tt_patch *p, struct tt_patch_plan *plan, uint64_t hook)
{
    struct tt_blob *b = &p->load->head;
    struct slots s = {.patch = p, .d = definition(p, plan), .hook = hook};
    plan->first = b->patch_count;
    plan->slots = true;
    if (!s.d->ifunc)
        s.real = s.d->address;
    tt_find_slots(p->target, p->found, s.d->name, plan_slot, &s);
    if (!s.count || s.full || !s.real) {
        b->patch_count = plan->first;
        return -EOPNOTSUPP;
    }
    plan->count = s.count;
    for (uint32_t i = 0; i < s.count; i++)
        b->patch[plan->first + i].real = s.real;
    return 0;
}

static const char *base_name(const struct tt_patch *p, const struct tt_definition *d)
{
    const char *path = p->found->objects.data[d->object].path, *slash = strrchr(path, '/');
    return !*path ? "the program" : slash ? slash + 1 : path;
}

static const struct tt_blob_patch *kept_record(const struct tt_patch *p,
                                               const struct tt_definition *d, uint32_t before)
{
    for (uint32_t i = 0; i < before; i++) {
        const struct tt_blob_patch *r = &p->load->head.patch[i];
        if (r->active && !r->got && r->address == d->address)
            return r;
    }
    return NULL;
}

/* Plans the definition. 0, or -EOPNOTSUPP after a note. */
static int plan_one(struct tt_patch *p, size_t index, uint32_t kept, uint64_t *real)
{
    struct tt_patch_plan plan = {.definition = index};
    const struct tt_definition *d = definition(p, &plan);
    uint32_t offset = p->load->head.entry[d->set][d->entry];
    const struct tt_blob_patch *before = kept_record(p, d, kept);
    const char *why = "it is chosen by the processor's features";
    if (before) {
        *real = before->real;
        return 0;
    }
    if (!offset) {
        tt_patch_note(p->out, "%s of %s: not known to the agent; not followed", d->name,
                      base_name(p, d));
        return -EOPNOTSUPP;
    }
    uint64_t hook = p->load->base + offset;
    int r = d->ifunc ? -EOPNOTSUPP : plan_entry(p, &plan, hook, &why);
    if (r && plan_slots(p, &plan, hook) != 0) {
        tt_patch_note(p->out, "%s of %s: %s; not followed", d->name, base_name(p, d), why);
        return r;
    }
    if (r)
        tt_patch_note(p->out, "%s of %s: %s; followed only where the loader bound it", d->name,
                      base_name(p, d), why);
    *real = p->load->head.patch[plan.first].real;
    return tt_vec_push(&p->plans, plan) ? -ENOMEM : 0;
}

/* All definitions of a set, or none. */
static int plan_set(struct tt_patch *p, uint16_t set, uint32_t kept, uint64_t *reals,
                    struct tt_error *err)
{
    size_t plans = p->plans.len;
    uint32_t records = p->load->head.patch_count;
    for (int releases = 1; releases >= 0; releases--)
        for (size_t i = 0; i < p->found->definitions.len; i++) {
            const struct tt_definition *d = &p->found->definitions.data[i];
            if (d->set != set || tt_find_releases(d->entry) != (releases == 1))
                continue;
            int code = plan_one(p, i, kept, &reals[i]);
            if (code == 0 || !indispensable(d->entry))
                continue;
            p->plans.len = plans;
            p->load->head.patch_count = records;
            if (set == 0)
                return tt_error_set(
                    err, -EOPNOTSUPP, "cannot attach to process %d: %.150s", (int)p->target->pid,
                    p->out->notes.len ? p->out->notes.data[p->out->notes.len - 1].text
                                      : "out of memory");
            tt_patch_note(p->out, "the allocator in %s is not followed", base_name(p, d));
            for (size_t k = 0; k < p->found->definitions.len; k++)
                if (p->found->definitions.data[k].set == set)
                    reals[k] = 0;
            return 0;
        }
    return 0;
}

static int by_order(const void *a, const void *b)
{
    const struct tt_patch_plan *x = a, *y = b;
    return (x->first > y->first) - (x->first < y->first);
}

int tt_patch_plan(struct tt_patch *patch, tt_real_fn *real[TT_BLOB_SETS][TT_E_COUNT],
                  struct tt_error *err)
{
    struct tt_blob *b = &patch->load->head;
    const struct tt_found *found = patch->found;
    uint32_t kept = b->patch_count;
    uint64_t *reals = calloc(found->definitions.len + 1, sizeof *reals);
    int code = reals ? 0 : tt_error_set(err, -ENOMEM, "out of memory");
    for (uint16_t set = 0; code == 0 && set < found->sets; set++)
        code = plan_set(patch, set, kept, reals, err);
    for (unsigned set = 0; code == 0 && set < found->sets; set++)
        for (unsigned e = 0; e < TT_E_COUNT; e++) {
            /* An address in the target, kept as the blob's type for it. */
            uint64_t at = found->index[set][e] ? reals[found->index[set][e] - 1] : 0;
            memcpy(&real[set][e], &at, sizeof at);
        }
    free(reals);
    if (code)
        return code;
    qsort(patch->plans.data, patch->plans.len, sizeof patch->plans.data[0], by_order);
    code = tt_load_put(patch->target, patch->load, b, TT_LOAD_HEAD);
    return code ? tt_error_sys(err, code, "cannot write to the memory of process %d",
                               (int)patch->target->pid)
                : 0;
}

void tt_patch_free(struct tt_patch *patch)
{
    tt_vec_free(&patch->plans);
}

/* ---- the act ---- */

/* Signal frames that will return into the first instructions. */
static int look_for_frames(struct tt_patch *p, const struct tt_stopped *stopped, bool last)
{
    struct tt_window windows[TT_BLOB_PATCHES] = {0};
    bool hit[TT_BLOB_PATCHES];
    size_t n = p->plans.len;
    for (size_t i = 0; i < n; i++) {
        const struct tt_patch_plan *plan = &p->plans.data[i];
        uint64_t at = plan->slots ? 0 : definition(p, plan)->address;
        windows[i] = (struct tt_window){at ? at + 1 : 0, at ? at + TT_RELOCATE_NEED : 0};
    }
    if (!tt_stacks_look(p->target, stopped, windows, n, TT_LOOK_FRAMES, hit))
        return 0;
    for (size_t i = 0; i < n; i++) {
        const struct tt_definition *d = definition(p, &p->plans.data[i]);
        if (!hit[i])
            continue;
        if (!last || indispensable(d->entry))
            return -EAGAIN;
        p->plans.data[i].refused = true;
        tt_patch_note(p->out,
                      "%s of %s: a signal handler returns into its first instructions; "
                      "not followed",
                      d->name, base_name(p, d));
    }
    return 0;
}

/* Threads that stand in a window, put to the same instruction of the copy. */
static int move_threads(struct tt_patch *p, const struct tt_stopped *stopped)
{
    for (size_t k = 0; k < stopped->threads.len; k++) {
        struct user_regs_struct regs = stopped->threads.data[k].regs;
        for (size_t i = 0; i < p->plans.len; i++) {
            const struct tt_patch_plan *plan = &p->plans.data[i];
            const struct tt_blob_patch *r = &p->load->head.patch[plan->first];
            uint64_t in = regs.rip - r->address;
            if (plan->slots || plan->refused || in == 0 || in >= TT_RELOCATE_NEED)
                continue;
            if (plan->where[in] == TT_RELOCATE_NOWHERE)
                return -EAGAIN;
            regs.rip = r->real + plan->where[in];
            if (ptrace(PTRACE_SETREGS, stopped->threads.data[k].tid, 0, &regs) != 0)
                return -EAGAIN;
            break;
        }
    }
    return 0;
}

static int undo(struct tt_patch *p)
{
    for (size_t i = p->plans.len; i > 0; i--) {
        const struct tt_patch_plan *plan = &p->plans.data[i - 1];
        for (uint32_t k = 0; k < plan->count; k++) {
            const struct tt_blob_patch *r = &p->load->head.patch[plan->first + k];
            uint8_t now[16];
            if (tt_target_read(p->target, r->address, now, r->length) == 0 &&
                memcmp(now, r->is, r->length) == 0)
                tt_target_write(p->target, r->address, r->was, r->length);
        }
    }
    return -EIO;
}

int tt_patch_apply(struct tt_patch *patch, const struct tt_stopped *stopped, bool last)
{
    struct tt_blob_patch *records = patch->load->head.patch;
    int code = look_for_frames(patch, stopped, last);
    if (code)
        return code;
    for (size_t i = 0; i < patch->plans.len; i++)
        for (uint32_t k = 0; k < patch->plans.data[i].count; k++) {
            const struct tt_blob_patch *r = &records[patch->plans.data[i].first + k];
            uint8_t now[16];
            if (tt_target_read(patch->target, r->address, now, r->length))
                return -EIO;
            if (memcmp(now, r->was, r->length) != 0)
                return -ESTALE;
        }
    if ((code = move_threads(patch, stopped)) != 0)
        return code;
    for (size_t i = 0; i < patch->plans.len; i++) {
        const struct tt_patch_plan *plan = &patch->plans.data[i];
        for (uint32_t k = 0; k < plan->count && !plan->refused; k++) {
            const struct tt_blob_patch *r = &records[plan->first + k];
            if (tt_target_write(patch->target, r->address, r->is, r->length))
                return undo(patch);
            *(plan->slots ? &patch->out->slots : &patch->out->entries) += 1;
        }
    }
    return 0;
}

/* ---- back ---- */

/* What a program may still call with an object of the sampler. */
static bool handles_objects(uint16_t entry)
{
    return tt_find_releases(entry) || entry == TT_E_REALLOC || entry == TT_E_REALLOCARRAY ||
           entry == TT_E_USABLE_SIZE;
}

int tt_patch_restore(const struct tt_target *target, struct tt_load *load, bool keep_releases,
                     unsigned *restored, unsigned *kept, unsigned *foreign)
{
    struct tt_blob *b = &load->head;
    *restored = *kept = *foreign = 0;
    for (uint32_t i = b->patch_count; i > 0; i--) {
        struct tt_blob_patch *r = &b->patch[i - 1];
        uint8_t now[16];
        if (!r->active || r->length > sizeof r->was)
            continue;
        if (keep_releases && handles_objects(r->entry)) {
            ++*kept;
            continue;
        }
        if (tt_target_read(target, r->address, now, r->length)) {
            r->active = 0; /* the library is gone, and what we wrote with it */
            continue;
        }
        if (memcmp(now, r->is, r->length) == 0) {
            if (tt_target_write(target, r->address, r->was, r->length)) {
                ++*foreign;
                continue;
            }
            ++*restored;
        } else if (memcmp(now, r->was, r->length) != 0) {
            ++*foreign;
            continue;
        }
        r->active = 0;
    }
    tt_load_put(target, load, b->patch, sizeof b->patch[0] * b->patch_count);
    return *foreign ? -EIO : 0;
}
