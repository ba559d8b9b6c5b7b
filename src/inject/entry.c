/* SPDX-License-Identifier: Apache-2.0 */
/* What the first five bytes of a hooked function lead to. In general that is the blob's hook, which
 * comes back through the moved first instructions. In sampled mode nearly every call of malloc and
 * free only passes, and two jumps through memory were most of what that cost: so these (and
 * malloc_usable_size) have a short way in the island itself, which asks first what the blob's own
 * would (tt_sample_malloc in agent/entry_x86_64.S) and falls into the moved instructions. Only when
 * the blob is needed does it jump there, with everything as at the entry; whatever the blob is at
 * by then, it is asked as by an entry that leads straight to it.
 *
 *                  what follows where the question does not let pass
 *     before - 14: jmp *0(%rip), hook
 *     before:      the question             the short way
 *     real:        moved instructions, jmp behind them
 *
 * Start: tt_entry_plan. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/arch_x86_64.h"
#include "agent/host.h"
#include "inject/entry.h"
#include "tape/tape.h"

#define SCAN_FUNCTION (256u << 10)
#define BACK_BYTES 5u
#define FAR_BYTES 14u
#define STUB_ALIGN 32u /* then a short way and its moved instructions share a line of the cache */
#define SHORT_MOST 64u

static uint64_t aligned(uint64_t bytes)
{
    return (bytes + STUB_ALIGN - 1) & ~(uint64_t)(STUB_ALIGN - 1);
}

static void put_jump(uint8_t *at, uint64_t from, uint64_t to)
{
    int32_t rel = (int32_t)(int64_t)(to - (from + BACK_BYTES));
    at[0] = 0xe9;
    memcpy(at + 1, &rel, 4);
}

static void put_far_jump(uint8_t *at, uint64_t to)
{
    static const uint8_t far[] = {0xff, 0x25, 0, 0, 0, 0}; /* jmp *0(%rip) */
    memcpy(at, far, sizeof far);
    memcpy(at + sizeof far, &to, 8);
}

/* ---- short ways ---- */

/* The question of malloc: sub %rdi, %fs:TT_FS_LEFT; js. Before the hook does the same, it is
 * undone: add %rdi, %fs:TT_FS_LEFT. */
static const uint8_t counts_down[] = {0x64, 0x48, 0x29, 0x3c, 0x25, TT_FS_LEFT, 0, 0, 0, 0x78, 0};
static const uint8_t give_back[] = {0x64, 0x48, 0x01, 0x3c, 0x25, TT_FS_LEFT, 0, 0, 0};
/* Of a release, in two steps as in entry_x86_64.S: bt $TT_REGION_CLEAR, %rdi; jnc. Then
 * mov %rdi, %rax; shr $TT_REGION_SHIFT, %rax; cmp $TT_REGION_NUMBER, %eax (28 bits are left in it);
 * jne to the moved instructions. */
static const uint8_t is_elsewhere[] = {0x48, 0x0f, 0xba, 0xe7, TT_REGION_CLEAR, 0x73, 0};
static const uint8_t is_sampled[] = {0x48, 0x89, 0xf8, 0x48, 0xc1, 0xe8, 36,
                                     0x3d, 0x00, 0x06, 0x00, 0x00, 0x75, 0};
_Static_assert(TT_REGION_SHIFT == 36 && TT_REGION_NUMBER == 0x600 &&
                   !(TT_REGION_NUMBER >> (TT_REGION_CLEAR - TT_REGION_SHIFT) & 1),
               "the code above is for these, and no address of the region has the bit");

/* The last byte of the question is the distance to `then`, after which comes the jump to the hook;
 * the last one of `then`, where it is a question too, that to the moved instructions. */
struct way {
    const uint8_t *question, *then;
    size_t question_bytes, then_bytes;
    bool then_asks;
};

/* Whether a short way is made at all, which does not depend on the mode: a stub serves many. */
static bool short_way(const struct tt_definition *d, struct way *w)
{
    *w = (struct way){0};
    if (d->set != 0)
        return false;
    if (d->entry == TT_E_MALLOC)
        *w = (struct way){counts_down, give_back, sizeof counts_down, sizeof give_back, false};
    else if (d->entry == TT_E_FREE || d->entry == TT_E_USABLE_SIZE)
        *w = (struct way){is_elsewhere, is_sampled, sizeof is_elsewhere, sizeof is_sampled, true};
    return w->question != NULL;
}

/* Whether the mode takes it. */
static bool takes_short_way(const struct tt_patch *p, const struct tt_definition *d)
{
    return p->mode == TT_MODE_SAMPLED || (p->mode == TT_MODE_ADAPTIVE && d->entry != TT_E_MALLOC);
}

/* Bytes before the short way. */
static size_t lead_bytes(const struct way *w)
{
    return aligned(w->then_bytes + FAR_BYTES);
}

/* ---- stubs ---- */

/* A function's code and what is made of it. */
struct move {
    uint8_t *code;
    uint8_t stub[SHORT_MOST + TT_RELOCATE_MAX + BACK_BYTES + FAR_BYTES];
    size_t n;      /* bytes of it */
    size_t before; /* of the short way in it, if there is one */
    size_t real;   /* of the moved instructions in it */
    uint64_t hook; /* what a jump from the entry reaches: the hook, or a far jump to it */
};

/* The stub as it would stand at `at`. */
static int build(const struct tt_definition *d, uint64_t at, uint64_t hook, struct move *m,
                 uint8_t *where, const char **why)
{
    struct way w;
    size_t moved, taken;
    memset(m->stub, 0xcc, sizeof m->stub);
    m->hook = hook;
    m->real = 0;
    if (short_way(d, &w)) {
        m->before = lead_bytes(&w);
        m->real = m->before + w.question_bytes;
        size_t far = m->before - FAR_BYTES, then = far - w.then_bytes;
        memcpy(m->stub + then, w.then, w.then_bytes);
        if (w.then_asks)
            m->stub[far - 1] = (uint8_t)(m->real - far);
        put_far_jump(m->stub + far, hook);
        memcpy(m->stub + m->before, w.question, w.question_bytes);
        m->stub[m->real - 1] = (uint8_t)(then - m->real);
    }
    int r = tt_relocate(m->code, d->size, d->address, at + m->real, m->stub + m->real, &moved,
                        &taken, where, why);
    if (r)
        return r;
    m->n = m->real + moved;
    put_jump(m->stub + m->n, at + m->n, d->address + taken);
    m->n += BACK_BYTES;
    if (tt_load_reaches(d->address, hook))
        return 0;
    if (m->real) {
        m->hook = at + m->before - FAR_BYTES;
    } else {
        m->hook = at + m->n;
        put_far_jump(m->stub + m->n, hook);
        m->n += FAR_BYTES;
    }
    return 0;
}

/* The record of a stub that stands at `at`. */
static void fill(const struct tt_patch *p, const struct tt_definition *d, uint64_t at,
                 const struct move *m, struct tt_blob_patch *record)
{
    *record = (struct tt_blob_patch){
        .address = d->address,
        .length = TT_RELOCATE_NEED,
        .set = d->set,
        .entry = d->entry,
        .before = (uint16_t)(m->real ? m->real - m->before : 0),
        .real = at + m->real,
    };
    memcpy(record->was, m->code, TT_RELOCATE_NEED);
    put_jump(record->is, d->address, m->real && takes_short_way(p, d) ? at + m->before : m->hook);
}

/* The stub of an earlier attach serves again if it would be made the same: a thread may be in it.
 */
static bool reuse(const struct tt_patch *p, const struct tt_definition *d, uint64_t hook,
                  struct move *m, uint8_t *where, struct tt_blob_patch *record)
{
    const struct tt_blob_patch *old = tt_patch_old(&p->load->head, d->address);
    uint8_t there[sizeof m->stub];
    const char *why;
    struct way w;
    if (!old || old->got || old->set != d->set || old->entry != d->entry ||
        old->length != TT_RELOCATE_NEED || memcmp(old->was, m->code, TT_RELOCATE_NEED) != 0)
        return false;
    bool shortened = short_way(d, &w);
    uint64_t at = old->real - old->before - (shortened ? lead_bytes(&w) : 0);
    if (shortened != (old->before != 0) || build(d, at, hook, m, where, &why) != 0 ||
        tt_target_read(p->target, at, there, m->n) != 0 || memcmp(there, m->stub, m->n) != 0)
        return false;
    fill(p, d, at, m, record);
    return true;
}

static struct tt_blob_island *island_for(struct tt_load *load, uint64_t function)
{
    static const unsigned islands[] = {TT_ISLAND_NEAR_LIBC, TT_ISLAND_NEAR_EXE};
    for (size_t i = 0; i < sizeof islands / sizeof islands[0]; i++) {
        struct tt_blob_island *is = &load->head.island[islands[i]];
        if (is->base && is->size - is->used >= sizeof((struct move *)0)->stub + STUB_ALIGN &&
            tt_load_reaches(is->base, function))
            return is;
    }
    return NULL;
}

static int make(struct tt_patch *p, const struct tt_definition *d, uint64_t hook, struct move *m,
                uint8_t *where, struct tt_blob_patch *record, const char **why)
{
    struct tt_blob_island *is = island_for(p->load, d->address);
    *why = "there is no room within reach of it";
    if (!is)
        return -ENOSPC;
    is->used = aligned(is->used);
    uint64_t at = is->base + is->used;
    int r = build(d, at, hook, m, where, why);
    if (r)
        return r;
    fill(p, d, at, m, record);
    is->used += aligned(m->n);
    *why = "its memory cannot be written";
    return tt_target_write(p->target, at, m->stub, m->n);
}

int tt_entry_plan(struct tt_patch *patch, const struct tt_definition *d, uint64_t hook,
                  struct tt_patch_plan *plan, struct tt_blob_patch *record, const char **why)
{
    struct move m = {0};
    *why = "its size is unknown, too small or too large";
    if (d->size < TT_RELOCATE_NEED || d->size > SCAN_FUNCTION || !(m.code = malloc(d->size)))
        return -EOPNOTSUPP;
    *why = "its code cannot be read";
    int r = tt_target_read(patch->target, d->address, m.code, d->size);
    if (r == 0 && tt_relocate_is_target(m.code, d->size, d->address, TT_RELOCATE_NEED)) {
        *why = "a branch leads into its first instructions";
        r = -EOPNOTSUPP;
    }
    if (r == 0 && !reuse(patch, d, hook, &m, plan->where, record))
        r = make(patch, d, hook, &m, plan->where, record, why);
    free(m.code);
    return r;
}

/* ---- records ---- */

bool tt_entry_is_ours(const struct tt_blob_patch *r, const uint8_t *now)
{
    uint8_t jump[TT_RELOCATE_NEED];
    if (memcmp(now, r->is, r->length) == 0)
        return true;
    if (!r->before)
        return false;
    put_jump(jump, r->address, r->real - r->before);
    return memcmp(now, jump, sizeof jump) == 0;
}

void tt_entry_lengthen(struct tt_blob_patch *r)
{
    if (r->before)
        put_jump(r->is, r->address, r->real - r->before - FAR_BYTES);
}
