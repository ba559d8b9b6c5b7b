/* SPDX-License-Identifier: Apache-2.0 */
/* The verified cached unwind. A thread keeps the frames of its last capture. A new capture walks
 * inner frames by rows until it meets a cached frame (same slot, same return address, same rbp if
 * an outer step reads it), then compares the outer words inner to outer and stops at the first
 * difference; the walk goes on from there. Sound, since every word the unwinder would read is
 * compared. Inner to outer, since then each address is vouched for by words already compared
 * (freed coroutine stacks). That the whole stack is as before, hook.h sees by itself. Start:
 * tt_stack_capture. */
#include "agent/live.h"

/* The hash over return addresses is a polynomial, so that that of the innermost TT_TAPE_DEPTH
 * frames follows from two prefix hashes (see finish). */
static uint64_t mix(uint64_t ra)
{
    uint64_t x = ra * 0x9e3779b97f4a7c15ULL;
    return x ^ x >> 32;
}

/* Readable stack memory around `address`, which is rsp or was computed from it. */
static struct tt_range *range_of(struct tt_thread *t, uint64_t address)
{
    for (unsigned i = 0; i < TT_RANGES; i++)
        if (address >= t->range[i].lo && address < t->range[i].hi)
            return &t->range[i];
    return NULL;
}

static __attribute__((noinline)) struct tt_range *range_make(struct tt_thread *t, uint64_t address)
{
    struct tt_range r = tt_maps_stack(t, address);
    /* Overlapping knowledge is older: replace it. */
    unsigned at = TT_RANGES - 1;
    for (unsigned i = 0; i < TT_RANGES; i++)
        if (t->range[i].lo < r.hi && r.lo < t->range[i].hi) {
            at = i;
            t->range[i] = (struct tt_range){0, 0};
        }
    for (; at > 0; at--)
        t->range[at] = t->range[at - 1];
    t->range[0] = r;
    tt_place_claim(t, r);
    return &t->range[0];
}

static uint64_t word_at(uint64_t address)
{
    return *(const volatile uint64_t *)address;
}

static int inside(const struct tt_range *r, uint64_t address)
{
    return address >= r->lo && address < r->hi && r->hi - address >= 8;
}

/* Steps outwards from `s`. 1: done, *s is the caller; 0: that was the last frame; -1: lost. */
static int step(struct tt_thread *t, struct tt_step *s, struct tt_range **stack)
{
    struct tt_row row = tt_row_get(t, s->ra + s->after_signal);
    uint64_t cfa;
    s->uses = 0;
    switch (row.kind) {
    case TT_ROW_RSP:
        cfa = s->after_signal ? word_at(s->slot - TT_ARCH_UC_RIP + TT_ARCH_UC_RSP) : s->slot + 8;
        cfa += (uint64_t)(int64_t)row.cfa_off;
        break;
    case TT_ROW_RBP:
        s->uses = 1;
        cfa = s->rbp + (uint64_t)(int64_t)row.cfa_off;
        break;
    case TT_ROW_RBP_DEREF:
        s->uses = 1;
        cfa = s->rbp + (uint64_t)(int64_t)row.cfa_off;
        if (!inside(*stack, cfa))
            return -1;
        cfa = word_at(cfa);
        break;
    case TT_ROW_SIGNAL:
        cfa = s->slot + 8; /* struct ucontext */
        if (s->after_signal || !inside(*stack, cfa + TT_ARCH_UC_RIP))
            return -1;
        s->slot = cfa + TT_ARCH_UC_RIP;
        s->ra = word_at(s->slot);
        s->loaded = cfa + TT_ARCH_UC_RBP;
        s->rbp = word_at(s->loaded);
        s->after_signal = 1;
        return s->ra ? 1 : 0;
    case TT_ROW_END:
        return 0;
    default:
        return -1;
    }
    if (s->after_signal) {
        /* The interrupted code may run on another stack than its handler. */
        *stack = range_of(t, cfa - 8);
        if (!*stack)
            *stack = range_make(t, cfa - 8);
    } else if (cfa - 8 <= s->slot) {
        return -1;
    }
    if (!inside(*stack, cfa - 8))
        return -1;
    uint64_t from = 0;
    if (row.rbp == TT_RBP_AT_CFA)
        from = cfa + (uint64_t)(int64_t)row.rbp_off;
    else if (row.rbp == TT_RBP_AT_RBP) {
        from = s->rbp + (uint64_t)(int64_t)row.rbp_off;
        s->uses = 1;
    }
    if (from) {
        if (!inside(*stack, from))
            return -1;
        s->rbp = word_at(from);
    } else if (row.rbp == TT_RBP_LOST) {
        s->rbp = 0; /* a later step that reads it leaves the stack and ends the walk */
    }
    s->loaded = from;
    s->slot = cfa - 8;
    s->ra = word_at(s->slot);
    s->after_signal = 0;
    return s->ra ? 1 : 0;
}

/* Writes what is to be compared for frame i; those of frame i - 1 are in place. */
static void set_checks(struct tt_thread *t, uint32_t i)
{
    struct tt_info *f = &t->info[i];
    uint32_t n = i > 0 ? f[-1].checks : 0;
    /* The step from an interrupted frame also reads the saved rsp: such a frame is never trusted.
     */
    t->check[n++] = (struct tt_check){f->slot, f->after_signal ? ~f->ra : f->ra};
    if (f->need && f->loaded)
        t->check[n++] = (struct tt_check){f->loaded, f->rbp};
    f->checks = n;
}

/* Puts the walked frames (innermost first in t->step) on top of the `kept` outer ones. */
static void push(struct tt_thread *t, uint32_t kept, uint32_t count)
{
    if (kept + count > TT_CACHE) {
        uint32_t keep = TT_CACHE / 2 < kept ? TT_CACHE / 2 : kept, drop = kept - keep;
        uint32_t gone = t->info[drop - 1].checks;
        __builtin_memmove(t->check, t->check + gone,
                          (t->info[kept - 1].checks - gone) * sizeof t->check[0]);
        __builtin_memmove(t->info, t->info + drop, keep * sizeof t->info[0]);
        for (uint32_t i = 0; i < keep; i++)
            t->info[i].checks -= gone;
        t->root = TT_ROOT_DEEP;
        kept = keep;
    }
    uint32_t i = kept;
    for (; count-- > 0; i++) {
        const struct tt_step *s = &t->step[count];
        struct tt_info *f = &t->info[i];
        f->slot = s->slot;
        f->ra = s->ra;
        f->loaded = s->loaded;
        f->rbp = s->rbp;
        f->after_signal = s->after_signal;
        f->uses = s->uses;
        f->need = s->uses || (i > 0 && f[-1].need && f[-1].loaded == 0);
        f->hash = (i > 0 ? f[-1].hash : 0) * TT_POLY + mix(s->ra);
        set_checks(t, i);
    }
    t->depth = i;
    t->site = 0;
}

/* Frames kept[j] .. kept[from] verified, the next outer one did not: puts them back on the way.
 * Their rbp is read again, since what no step needed was not compared. */
static uint32_t put_back(struct tt_thread *t, int32_t j, int32_t from, uint64_t rbp, uint32_t n)
{
    for (int32_t i = j; i >= from && n < TT_TAPE_DEPTH; i--) {
        struct tt_step *s = &t->step[n++];
        const struct tt_info *f = &t->info[i];
        s->slot = f->slot;
        s->ra = f->ra;
        s->loaded = f->loaded;
        if (i != j && f->loaded)
            rbp = word_at(f->loaded);
        s->rbp = rbp;
        s->after_signal = f->after_signal;
        s->uses = f->uses;
    }
    return n;
}

static uint64_t finish(const struct tt_thread *t)
{
    uint32_t n = t->depth;
    if (n == 0)
        return 0;
    if (n <= TT_TAPE_DEPTH)
        return t->info[n - 1].hash;
    return t->info[n - 1].hash - t->info[n - 1 - TT_TAPE_DEPTH].hash * tt_agent.window;
}

/* Of the frames outside of j, the innermost that does not hold any more; -1 if all do. */
static int32_t verified(const struct tt_thread *t, int32_t j)
{
    int32_t i = j - 1;
    for (; i >= 0; i--)
        for (uint32_t c = t->info[i].checks; c-- > (i > 0 ? t->info[i - 1].checks : 0);)
            if (word_at(t->check[c].slot) != t->check[c].word)
                return i;
    return i;
}

uint64_t tt_stack_capture(struct tt_thread *t, const uint64_t *slot, uint64_t rbp)
{
    int32_t j = (int32_t)t->depth - 1;
    uint32_t n = 0;
    struct tt_step s = {(uint64_t)slot, *slot, 0, rbp, 0, 0, {0}};
    struct tt_range *stack = range_of(t, s.slot);
    if (TT_UNLIKELY(!stack))
        stack = range_make(t, s.slot);
    for (;;) {
        while (j >= 0 && t->info[j].slot < s.slot)
            j--;
        struct tt_info *f = &t->info[j];
        if (j >= 0 && f->slot == s.slot && f->ra == s.ra && !f->after_signal && !s.after_signal &&
            (!f->need || f->rbp == s.rbp)) {
            int32_t i = verified(t, j);
            f->loaded = s.loaded;
            f->rbp = s.rbp;
            set_checks(t, (uint32_t)j);
            if (i < 0 && (t->root != TT_ROOT_DEEP || (uint32_t)j + 1 + n >= TT_TAPE_DEPTH)) {
                push(t, (uint32_t)j + 1, n);
                return finish(t);
            }
            n = put_back(t, j, i + 1, s.rbp, n);
            s = t->step[--n];
            stack = range_of(t, s.slot);
            if (!stack)
                stack = range_make(t, s.slot);
            j = i;
        }
        if (n == TT_TAPE_DEPTH) {
            t->root = TT_ROOT_DEEP;
            break;
        }
        struct tt_step *kept = &t->step[n++];
        *kept = s;
        int more = step(t, &s, &stack);
        kept->uses = s.uses;
        if (more <= 0) {
            t->root = more == 0 ? TT_ROOT_END : TT_ROOT_LOST;
            break;
        }
    }
    push(t, 0, n);
    return finish(t);
}

/* Writes the checked words of the whole cached stack as pairs, and after them the innermost return
 * address once more, as what it is not. Returns the place of that word, NULL if they are too many
 * or too far apart. */
static const uint64_t *pair_up(const struct tt_thread *t, struct tt_memo_pair *pair)
{
    const struct tt_info *f = &t->info[t->depth - 1];
    uint32_t count = f->checks;
    if (count + 2 >= 2 * TT_MEMO_PAIRS) /* the comparing reads a pair more */
        return NULL;
    for (uint32_t i = 0; i <= count; i++) {
        const struct tt_check *c = &t->check[i < count ? count - 1 - i : 0];
        uint64_t distance = i < count ? c->slot - f->slot : 0;
        if (distance >> 32)
            return NULL; /* below the innermost frame, or on another stack */
        pair[i / 2].at = i % 2 ? pair[i / 2].at | distance << 32 : distance;
        pair[i / 2].word[i % 2] = i < count ? c->word : ~f->ra;
    }
    return &pair[count / 2].word[count % 2];
}

/* The whole stack is as it was at the last capture. */
static int unchanged(const struct tt_thread *t, const uint64_t *slot, uint64_t rbp)
{
    if (t->site == 0)
        return 0;
    const struct tt_info *f = &t->info[t->depth - 1];
    if (f->slot != (uint64_t)slot || f->ra != *slot || (f->need && f->rbp != rbp))
        return 0;
    const struct tt_check *c = &t->check[f->checks - 1];
    while (word_at(c->slot) == c->word)
        c--;
    return c == &t->never;
}

uint32_t tt_stack_site(struct tt_thread *t, const uint64_t *slot, uint64_t rbp,
                       struct tt_memo *memo)
{
    int same = unchanged(t, slot, rbp);
    uint64_t hash = same ? finish(t) : tt_stack_capture(t, slot, rbp);
    uint32_t site;
    if (memo->kind != TT_KIND_HEAP) {
        site = tt_site_of(t, hash, 0, memo->kind << 8);
        hash ^= memo->kind;
    } else {
        site = t->site = same ? t->site : tt_site_of(t, hash, 0, 0);
    }
    if (site == 0 || t->depth == 0 || t->slot == NULL)
        return site;
    if (memo->candidate != hash) {
        memo->candidate = hash;
        return site;
    }
    /* Empty while it is filled: a signal handler may leave by longjmp. */
    const struct tt_info *f = &t->info[t->depth - 1];
    struct tt_memo_pair *pair = t->memo_pair[memo - t->memo];
    memo->slot = 0;
    __asm__ volatile("" : : : "memory");
    memo->end = pair_up(t, pair);
    if (!memo->end)
        return site;
    memo->pair = pair;
    memo->rbp = rbp;
    memo->need = f->need;
    memo->site = site;
    memo->tally = tt_live_tally(t, site);
    memo->generation = tt_agent.generation;
    __asm__ volatile("" : : : "memory");
    memo->slot = f->slot;
    return site;
}
