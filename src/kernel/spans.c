/* SPDX-License-Identifier: Apache-2.0 */
/* Mappings of an image as intervals, ascending and apart from each other, as the calls made them.
 * One munmap may take a piece out of a mapping, several, or of the middle of one: the unit then
 * keeps its start, its end, or becomes two (tape.h, TT_WATCH_UNMAP). Bytes are counted as they go,
 * the unit when the last of it goes; each change is also made to the tape's held units.
 * Start: tt_kernel_spans_add. */
#include <string.h>

#include "kernel/internal.h"

#define OWED_TICKS (2 * TT_TAPE_TICKS_PER_SECOND) /* then the call has been lost */

/* The first span that ends behind `address`. */
static size_t first_behind(const tt_kernel_span_vec *spans, uint64_t address)
{
    size_t lo = 0, hi = spans->len;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (spans->data[mid].end <= address)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static bool insert(tt_kernel_span_vec *spans, size_t at, struct tt_kernel_span span)
{
    if (tt_vec_push(spans, span))
        return false;
    memmove(spans->data + at + 1, spans->data + at, (spans->len - 1 - at) * sizeof *spans->data);
    spans->data[at] = span;
    return true;
}

static void drop(tt_kernel_span_vec *spans, size_t at)
{
    spans->len--;
    memmove(spans->data + at, spans->data + at + 1, (spans->len - at) * sizeof *spans->data);
}

static void unhold(struct tt_kernel_image *image, uint64_t start)
{
    struct tt_tape_held *held = tt_kernel_tape_find(&image->tape, TT_SPACE_MAPPING, start);
    if (held)
        tt_kernel_tape_take(held);
}

static void hold(struct tt_kernel_image *image, const struct tt_kernel_span *span)
{
    struct tt_tape_held *held = tt_kernel_tape_put(&image->tape, TT_SPACE_MAPPING, span->start,
                                                   span->site, span->tick, span->end - span->start);
    if (held)
        held->owner = span->owner;
}

static uint32_t bin_of(uint32_t born, uint32_t now)
{
    return tt_tape_bin(now > born ? now - born : 0);
}

/* Takes [start, end) out of whatever lies there. counted: bytes and units die; else they only move.
 */
static void cut(struct tt_kernel_image *image, uint64_t start, uint64_t end, uint32_t tick,
                bool counted)
{
    tt_kernel_span_vec *spans = &image->spans;
    struct tt_kernel_tape *tape = &image->tape;
    for (size_t i = first_behind(spans, start); i < spans->len && spans->data[i].start < end;) {
        struct tt_kernel_span old = spans->data[i];
        uint64_t from = old.start > start ? old.start : start, to = old.end < end ? old.end : end;
        bool head = old.start < from, tail = to < old.end;
        if (counted)
            tt_kernel_tape_death(tape, old.site, head || tail ? 0 : 1, to - from,
                                 bin_of(old.tick, tick));
        unhold(image, old.start);
        if (head) {
            spans->data[i].end = from;
            hold(image, &spans->data[i]);
            i++;
        }
        if (tail) {
            struct tt_kernel_span rest = old;
            rest.start = to;
            if (!head)
                spans->data[i] = rest;
            else if (!insert(spans, i, rest))
                continue;
            else /* one became two */
                tt_kernel_tape_birth(tape, old.site, 1, 0);
            hold(image, &rest);
            i++;
        }
        if (!head && !tail)
            drop(spans, i);
    }
}

static void add(struct tt_kernel_image *image, const struct tt_kernel_span *span)
{
    if (insert(&image->spans, first_behind(&image->spans, span->start), *span))
        hold(image, span);
}

/* ---- calls that are told late ---- */

/* Another thread's munmap can return, and be told, after a mapping that took its place. What lies
 * where the kernel itself chose to put a mapping was unmapped. */
static void owe(struct tt_kernel_image *image, uint64_t start, uint64_t end, uint32_t tick)
{
    const tt_kernel_span_vec *spans = &image->spans;
    for (size_t i = first_behind(spans, start); i < spans->len && spans->data[i].start < end; i++) {
        const struct tt_kernel_span *s = &spans->data[i];
        struct tt_kernel_span late = {.start = s->start > start ? s->start : start,
                                      .end = s->end < end ? s->end : end,
                                      .tick = tick};
        if (tt_vec_push(&image->owed, late))
            return;
    }
}

/* The first part of [*start, end) that is not owed: to *end_of; *start moves behind what is. False:
 * nothing is left. */
static bool not_owed(struct tt_kernel_image *image, uint64_t *start, uint64_t *end_of, uint64_t end,
                     uint32_t tick)
{
    tt_kernel_span_vec *owed = &image->owed;
    *end_of = end;
    for (size_t i = 0; i < owed->len;) {
        struct tt_kernel_span *o = &owed->data[i];
        if (tick - o->tick > OWED_TICKS || o->start >= o->end) {
            drop(owed, i);
            continue;
        }
        if (o->start <= *start && *start < o->end) { /* its beginning has been told now */
            uint64_t to = o->end < end ? o->end : end;
            struct tt_kernel_span before = {.start = o->start, .end = *start, .tick = o->tick};
            o->start = *start = to;
            if (before.start < before.end && tt_vec_push(owed, before))
                return false;
            *end_of = end;
            i = 0;
            continue;
        }
        if (o->start > *start && o->start < *end_of)
            *end_of = o->start;
        i++;
    }
    return *start < *end_of;
}

/* ---- what the calls did ---- */

uint64_t tt_kernel_spans_end(const struct tt_kernel_image *image, uint64_t start)
{
    size_t i = first_behind(&image->spans, start);
    return i < image->spans.len && image->spans.data[i].start == start ? image->spans.data[i].end
                                                                       : start;
}

void tt_kernel_spans_add(struct tt_kernel_image *image, const struct tt_kernel_span *span,
                         bool over)
{
    if (span->start >= span->end)
        return;
    if (!over)
        owe(image, span->start, span->end, span->tick);
    cut(image, span->start, span->end, span->tick, true);
    add(image, span);
    tt_kernel_tape_birth(&image->tape, span->site, 1, span->end - span->start);
}

bool tt_kernel_spans_grow(struct tt_kernel_image *image, uint64_t from, uint64_t to)
{
    size_t i = first_behind(&image->spans, from - 1);
    if (i == image->spans.len || image->spans.data[i].end != from || to < from)
        return false;
    struct tt_kernel_span *span = &image->spans.data[i];
    image->tape.site[span->site].birth_bytes += to - from;
    span->end = to;
    hold(image, span);
    return true;
}

void tt_kernel_spans_cut(struct tt_kernel_image *image, uint64_t start, uint64_t end, uint32_t tick)
{
    uint64_t to;
    for (; start < end && not_owed(image, &start, &to, end, tick); start = to)
        cut(image, start, to, tick, true);
}

void tt_kernel_spans_move(struct tt_kernel_image *image, const uint64_t to[2],
                          const uint64_t from[2], const struct tt_kernel_span *as)
{
    const tt_kernel_span_vec *spans = &image->spans;
    size_t i = first_behind(spans, from[0]);
    struct tt_kernel_span moved = *as;
    moved.start = to[0];
    moved.end = to[1];
    if (to[0] >= to[1])
        return;
    if (i == spans->len || spans->data[i].start > from[0] || from[0] >= from[1]) {
        /* of a mapping that is older: the new one is known from here on */
        tt_kernel_spans_add(image, &moved, true);
        return;
    }
    struct tt_kernel_span old = spans->data[i];
    uint64_t before = from[1] - from[0], after = to[1] - to[0];
    bool whole = old.start == from[0] && old.end <= from[1];
    cut(image, from[0], from[1], as->tick, false);
    cut(image, to[0], to[1], as->tick, true);
    moved.site = old.site;
    moved.tick = old.tick;
    moved.owner = old.owner;
    add(image, &moved);
    if (!whole) /* a piece of a unit became one of its own */
        tt_kernel_tape_birth(&image->tape, old.site, 1, 0);
    if (after > before)
        image->tape.site[old.site].birth_bytes += after - before;
    else
        tt_kernel_tape_death(&image->tape, old.site, 0, before - after, 0);
}
