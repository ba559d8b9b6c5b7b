/* SPDX-License-Identifier: Apache-2.0 */
/* The change itself: a function's first five bytes become a jump to the blob, and what stood there
 * is done by a copy in an island; where it cannot be moved, the loader's pointers to the function
 * are changed. Each place is recorded in the target before it is touched, so that anybody can undo
 * it. A thread inside the five bytes is put to the same instruction of the copy.
 * All change while no thread runs, so none acquires through a hook what it releases past one.
 * Start: tt_patch_plan. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>

#include "inject/edit.h"
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

static struct tt_blob_patch *record_of(const struct tt_patch *p, const struct tt_patch_plan *plan)
{
    return &p->load->head.patch[plan->record];
}

/* The record of a place from an earlier attach that is not in force, or NULL. */
static struct tt_blob_patch *old_record(struct tt_blob *b, uint64_t address)
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
    struct tt_blob_patch *r = old_record(b, record->address);
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

static void put_jump(uint8_t *at, uint64_t from, uint64_t to)
{
    int32_t rel = (int32_t)(int64_t)(to - (from + BACK_BYTES));
    at[0] = 0xe9;
    memcpy(at + 1, &rel, 4);
}

/* A function's code and where its first instructions go. */
struct move {
    uint8_t *code;
    uint8_t stub[TT_RELOCATE_MAX + BACK_BYTES + FAR_BYTES];
    size_t n; /* bytes of stub so far: the instructions and the jump back */
};

static int relocate(const struct tt_definition *d, uint64_t at, struct move *m, uint8_t *where,
                    const char **why)
{
    size_t moved, taken;
    int r = tt_relocate(m->code, d->size, d->address, at, m->stub, &moved, &taken, where, why);
    if (r)
        return r;
    put_jump(m->stub + moved, at + moved, d->address + taken);
    m->n = moved + BACK_BYTES;
    return 0;
}

/* The stub of an earlier attach serves again if it would be made the same: a thread may be in it.
 */
static bool reuse(struct tt_patch *p, const struct tt_definition *d, struct move *m,
                  struct tt_patch_plan *plan, struct tt_blob_patch *record)
{
    const struct tt_blob_patch *old = old_record(&p->load->head, d->address);
    uint8_t there[sizeof m->stub];
    const char *why;
    if (!old || old->got || old->set != d->set || old->entry != d->entry ||
        old->length != TT_RELOCATE_NEED || memcmp(old->was, m->code, TT_RELOCATE_NEED) != 0 ||
        relocate(d, old->real, m, plan->where, &why) != 0 ||
        tt_target_read(p->target, old->real, there, m->n) != 0 || memcmp(there, m->stub, m->n) != 0)
        return false;
    *record = *old;
    return true;
}

static int make_stub(struct tt_patch *p, const struct tt_definition *d, uint64_t hook,
                     struct move *m, struct tt_patch_plan *plan, struct tt_blob_patch *record,
                     const char **why)
{
    struct tt_blob_island *is = island_for(p->load, d->address);
    *why = "there is no room within reach of it";
    if (!is)
        return -ENOSPC;
    uint64_t at = is->base + is->used;
    int r = relocate(d, at, m, plan->where, why);
    if (r)
        return r;
    if (!tt_load_reaches(d->address, hook)) { /* jmp *0(%rip) */
        static const uint8_t far[] = {0xff, 0x25, 0, 0, 0, 0};
        memcpy(m->stub + m->n, far, sizeof far);
        memcpy(m->stub + m->n + sizeof far, &hook, 8);
        hook = at + m->n;
        m->n += FAR_BYTES;
    }
    *record = (struct tt_blob_patch){.address = d->address,
                                     .length = TT_RELOCATE_NEED,
                                     .set = d->set,
                                     .entry = d->entry,
                                     .real = at};
    memcpy(record->was, m->code, TT_RELOCATE_NEED);
    put_jump(record->is, d->address, hook);
    is->used += (m->n + STUB_ALIGN - 1) & ~(uint64_t)(STUB_ALIGN - 1);
    *why = "its memory cannot be written";
    return tt_target_write(p->target, at, m->stub, m->n);
}

/* A jump at the entry. 0, or a negative errno with *why and the real function in *real. */
static int plan_entry(struct tt_patch *p, size_t definition_index, uint64_t hook, uint64_t *real,
                      const char **why)
{
    struct tt_patch_plan plan = {.definition = definition_index};
    const struct tt_definition *d = definition(p, &plan);
    struct tt_blob_patch record;
    struct move m = {0};
    *why = "its size is unknown, too small or too large";
    if (d->size < TT_RELOCATE_NEED || d->size > SCAN_FUNCTION || !(m.code = malloc(d->size)))
        return -EOPNOTSUPP;
    *why = "its code cannot be read";
    int r = tt_target_read(p->target, d->address, m.code, d->size);
    if (r == 0 && tt_relocate_is_target(m.code, d->size, d->address, TT_RELOCATE_NEED)) {
        *why = "a branch leads into its first instructions";
        r = -EOPNOTSUPP;
    }
    if (r == 0 && !reuse(p, d, &m, &plan, &record))
        r = make_stub(p, d, hook, &m, &plan, &record, why);
    /* The page becomes the process's own now rather than during the stop. */
    if (r == 0)
        r = tt_target_write(p->target, d->address, record.was, TT_RELOCATE_NEED);
    if (r == 0 && (r = add(p, &plan, &record)) != 0)
        *why = "too many functions to hook";
    if (r == 0)
        *real = record.real;
    free(m.code);
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
    const struct tt_definition *d = definition(s->patch, &plan);
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
        record_of(p, &p->plans.data[i])->active = 0;
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

static const char *base_name(const struct tt_patch *p, const struct tt_definition *d)
{
    const char *path = p->found->objects.data[d->object].path, *slash = strrchr(path, '/');
    return !*path ? "the program" : slash ? slash + 1 : path;
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
                      base_name(p, d));
        return -EOPNOTSUPP;
    }
    uint64_t hook = p->load->base + offset;
    int r = d->ifunc ? -EOPNOTSUPP : plan_entry(p, index, hook, real, &why);
    if (r == 0)
        return 0;
    r = plan_slots(p, index, hook, real);
    tt_patch_note(p->out, "%s of %s: %s; %s", d->name, base_name(p, d), why,
                  r ? "not followed" : "followed only where the loader bound it");
    return r;
}

/* All definitions of a set, or none. */
static int plan_set(struct tt_patch *p, uint16_t set, uint64_t *reals, struct tt_error *err)
{
    size_t first = p->plans.len;
    for (size_t i = 0; i < p->found->definitions.len; i++) {
        const struct tt_definition *d = &p->found->definitions.data[i];
        if (d->set != set || plan_one(p, i, &reals[i]) == 0 || !indispensable(d->entry))
            continue;
        drop(p, first);
        if (set == 0)
            return tt_error_set(err, -EOPNOTSUPP, "cannot attach to process %d: %.150s",
                                (int)p->target->pid,
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

/* ---- the act ---- */

/* Signal frames that will return into the first instructions. */
static int look_for_frames(struct tt_patch *p, const struct tt_stopped *stopped, bool last)
{
    struct tt_window windows[TT_BLOB_PATCHES] = {0};
    bool hit[TT_BLOB_PATCHES];
    size_t n = p->plans.len;
    for (size_t i = 0; i < n; i++) {
        const struct tt_patch_plan *plan = &p->plans.data[i];
        uint64_t at = plan->slot ? 0 : definition(p, plan)->address;
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
        record_of(p, &p->plans.data[i])->active = 0;
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
            const struct tt_blob_patch *r = record_of(p, plan);
            uint64_t in = regs.rip - r->address;
            if (plan->slot || plan->refused || in == 0 || in >= TT_RELOCATE_NEED)
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

int tt_patch_apply(struct tt_patch *patch, const struct tt_stopped *stopped, bool last)
{
    struct tt_edit edit = {0};
    int code = look_for_frames(patch, stopped, last);
    for (size_t i = 0; code == 0 && i < patch->plans.len; i++)
        code = tt_edit_add(&edit, record_of(patch, &patch->plans.data[i])->address, 16);
    if (code == 0)
        code = tt_edit_read(&edit, patch->target);
    for (size_t i = 0; code == 0 && i < patch->plans.len; i++) {
        const struct tt_patch_plan *plan = &patch->plans.data[i];
        const struct tt_blob_patch *r = record_of(patch, plan);
        uint8_t now[16];
        code = tt_edit_get(&edit, r->address, now, r->length);
        if (code == 0 && memcmp(now, r->was, r->length) != 0)
            code = -ESTALE;
        if (code == 0 && !plan->refused) {
            tt_edit_put(&edit, r->address, r->is, r->length);
            *(plan->slot ? &patch->out->slots : &patch->out->entries) += 1;
        }
    }
    if (code == 0)
        code = move_threads(patch, stopped);
    if (code == 0 && (code = tt_edit_write(&edit, patch->target)) != 0) {
        for (size_t i = 0; i < patch->plans.len; i++) {
            const struct tt_blob_patch *r = record_of(patch, &patch->plans.data[i]);
            tt_edit_put(&edit, r->address, r->was, r->length);
        }
        tt_edit_write(&edit, patch->target);
    }
    if (code)
        patch->out->slots = patch->out->entries = 0;
    tt_edit_free(&edit);
    return code;
}

/* ---- back ---- */

/* What a program may still call with an object of the sampler. */
static bool handles_objects(uint16_t entry)
{
    return tt_find_releases(entry) || entry == TT_E_REALLOC || entry == TT_E_REALLOCARRAY ||
           entry == TT_E_USABLE_SIZE;
}

enum { GONE, RESTORED, KEPT, FOREIGN };

static bool stays(const struct tt_blob_patch *r, bool keep_releases)
{
    return keep_releases && handles_objects(r->entry);
}

static int restore_one(struct tt_edit *edit, const struct tt_blob_patch *r)
{
    uint8_t now[16];
    if (r->length > sizeof now || tt_edit_get(edit, r->address, now, r->length))
        return GONE; /* the library was unloaded, and what we wrote with it */
    if (memcmp(now, r->is, r->length) != 0)
        return memcmp(now, r->was, r->length) == 0 ? GONE : FOREIGN;
    tt_edit_put(edit, r->address, r->was, r->length);
    return RESTORED;
}

int tt_patch_restore(const struct tt_target *target, struct tt_load *load, bool keep_releases,
                     unsigned *restored, unsigned *kept, unsigned *foreign)
{
    struct tt_blob *b = &load->head;
    struct tt_edit edit = {0};
    unsigned counts[4] = {0};
    *restored = *kept = *foreign = 0;
    int code = 0;
    for (uint32_t i = 0; code == 0 && i < b->patch_count; i++)
        if (b->patch[i].active)
            code = tt_edit_add(&edit, b->patch[i].address, 16);
    if (code == 0)
        code = tt_edit_read(&edit, target);
    /* Stubs may stand one before the other, and before an allocator's entry: each shows what is
     * below it. */
    for (bool more = true; code == 0 && more;) {
        more = false;
        for (uint32_t i = 0; i < b->patch_count; i++)
            if (b->patch[i].active && !stays(&b->patch[i], keep_releases) &&
                restore_one(&edit, &b->patch[i]) == RESTORED) {
                b->patch[i].active = 0;
                counts[RESTORED]++;
                more = true;
            }
    }
    for (uint32_t i = 0; code == 0 && i < b->patch_count; i++) {
        struct tt_blob_patch *r = &b->patch[i];
        if (!r->active)
            continue;
        int what = stays(r, keep_releases) ? KEPT : restore_one(&edit, r);
        counts[what]++;
        r->active = what == KEPT || what == FOREIGN;
    }
    if (code == 0)
        code = tt_edit_write(&edit, target);
    tt_edit_free(&edit);
    if (code)
        return code;
    *restored = counts[RESTORED];
    *kept = counts[KEPT];
    *foreign = counts[FOREIGN];
    code = tt_load_put(target, load, b->patch, sizeof b->patch[0] * b->patch_count);
    return *foreign ? -EIO : code;
}
