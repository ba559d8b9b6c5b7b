/* SPDX-License-Identifier: Apache-2.0 */
/* See test_heap_fake.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "test_heap_fake.h"

size_t tt_fake_add_range(struct tt_fake *f, uint64_t start, uint64_t size,
                         enum tt_heap_range_kind kind, const char *path)
{
    size_t n = f->image.ranges.len;
    uint8_t *bytes = kind == TT_HEAP_TEXT ? NULL : calloc(1, size);
    f->memory[n] = bytes;
    struct tt_heap_range r = {.start = start,
                              .end = start + size,
                              .bytes = bytes,
                              .path = path,
                              .kind = kind,
                              .write = kind != TT_HEAP_TEXT,
                              .exec = start == FAKE_TEXT};
    assert_int_equal(tt_vec_push(&f->image.ranges, r), 0);
    return n;
}

void tt_fake_start(struct tt_fake *f, uint64_t heap_size)
{
    *f = (struct tt_fake){.top = FAKE_HEAP + 0x10};
    tt_fake_add_range(f, FAKE_TEXT, 0x2000, TT_HEAP_TEXT, "/opt/bin/prog");
    tt_fake_add_range(f, FAKE_CONSTANTS, 0x2000, TT_HEAP_TEXT, "/opt/bin/prog");
    tt_fake_add_range(f, FAKE_DATA, FAKE_DATA_SIZE, TT_HEAP_DATA, "/opt/bin/prog");
    tt_fake_add_range(f, FAKE_HEAP, heap_size, TT_HEAP_ANON, "");
    tt_fake_add_range(f, FAKE_MAPPED, FAKE_MAPPED_SIZE, TT_HEAP_ANON, "");
    tt_fake_add_range(f, FAKE_STACK, FAKE_STACK_SIZE, TT_HEAP_STACK, "[stack]");
    struct tt_heap_thread t = {.tid = 100};
    t.regs.rsp = FAKE_STACK + 0x2000;
    assert_int_equal(tt_vec_push(&f->image.threads, t), 0);
    f->image.pid = 100;
    struct tt_heap_span all = {FAKE_HEAP, FAKE_HEAP + heap_size};
    assert_int_equal(tt_vec_push(&f->blocks.internal, all), 0);
}

uint64_t *tt_fake_word(struct tt_fake *f, uint64_t address)
{
    for (size_t i = 0; i < f->image.ranges.len; i++) {
        const struct tt_heap_range *r = &f->image.ranges.data[i];
        if (address >= r->start && address < r->end)
            return (uint64_t *)(void *)(f->memory[i] + (address - r->start));
    }
    fail();
    return NULL;
}

uint64_t tt_fake_block(struct tt_fake *f, uint64_t usable)
{
    uint64_t address = f->top;
    usable = ((usable + 8 + 15) & ~15ull) - 8;
    assert_int_equal(tt_vec_push(&f->blocks.list, (struct tt_heap_block){address, usable}), 0);
    f->top += usable + 8;
    assert_true(f->top < f->image.ranges.data[3].end);
    return address;
}

void tt_fake_mark(struct tt_fake *f, unsigned threads)
{
    assert_int_equal(tt_heap_index_build(&f->image, &f->blocks, &f->index, NULL), 0);
    assert_int_equal(tt_heap_roots_collect(&f->image, &f->blocks, &f->roots), 0);
    assert_int_equal(tt_heap_edges_find(&f->index, threads, &f->edges), 0);
    assert_int_equal(tt_heap_graph_roots(&f->index, &f->roots, &f->graph), 0);
    assert_int_equal(tt_heap_mark(&f->edges, &f->graph, threads, &f->marks), 0);
}

void tt_fake_fold(struct tt_fake *f)
{
    assert_int_equal(tt_heap_shaper_make(&f->index, &f->blocks, &f->shaper), 0);
    assert_int_equal(tt_heap_lost_find(&f->edges, &f->marks, &f->shaper, 2, &f->lost), 0);
    assert_int_equal(tt_heap_group(&f->index, &f->shaper, &f->lost, 64, NULL, NULL, &f->result), 0);
}

void tt_fake_forget_marks(struct tt_fake *f)
{
    tt_heap_result_free(&f->result);
    tt_heap_lost_free(&f->lost);
    tt_heap_shaper_free(&f->shaper);
    tt_heap_marks_free(&f->marks);
    tt_heap_graph_free(&f->graph);
    tt_heap_edges_free(&f->edges);
    tt_vec_free(&f->roots);
    tt_heap_index_free(&f->index);
}

void tt_fake_end(struct tt_fake *f)
{
    tt_fake_forget_marks(f);
    for (size_t i = 0; i < f->image.ranges.len; i++)
        free(f->memory[i]);
    tt_vec_free(&f->image.ranges);
    tt_vec_free(&f->image.threads);
    tt_vec_free(&f->image.kernel_roots);
    tt_vec_free(&f->blocks.list);
    tt_vec_free(&f->blocks.internal);
}

bool tt_fake_reached(const struct tt_fake *f, uint64_t address)
{
    uint32_t b = tt_heap_find(&f->index, address);
    assert_int_not_equal(b, TT_HEAP_NONE);
    return tt_heap_bit(f->marks.reached, b);
}

static uint64_t state = 1; /* xorshift64 (Marsaglia 2003) */

void tt_fake_seed(uint64_t seed)
{
    state = seed;
}

uint64_t tt_fake_draw(uint64_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (state >> 11) % below;
}

double tt_fake_uniform(void)
{
    return (double)tt_fake_draw(1u << 30) / (1u << 30);
}

struct tt_fake_graph tt_fake_random_graph(struct tt_fake *f, size_t n, size_t edges, size_t roots)
{
    struct tt_fake_graph g = {n, calloc(n, 8), calloc(n * n, 1), calloc(n, 1)};
    for (size_t i = 0; i < n; i++)
        g.address[i] = tt_fake_block(f, 24 + 8 * tt_fake_draw(20));
    for (size_t i = 0; i < edges; i++) {
        size_t from = tt_fake_draw(n), to = tt_fake_draw(n);
        const struct tt_heap_block *a = &f->blocks.list.data[from], *b = &f->blocks.list.data[to];
        uint64_t *at = tt_fake_word(f, a->address + 8 * tt_fake_draw(a->size / 8));
        if (*at)
            continue;
        *at = b->address + tt_fake_draw(b->size);
        g.edge[from * n + to] = true;
    }
    for (size_t i = 0; i < roots; i++) {
        size_t to = tt_fake_draw(n);
        *tt_fake_word(f, FAKE_DATA + 8 * i) = g.address[to];
        g.rooted[to] = true;
    }
    return g;
}

void tt_fake_graph_free(struct tt_fake_graph *g)
{
    free(g->address);
    free(g->edge);
    free(g->rooted);
}

void tt_fake_visit(const struct tt_fake_graph *g, size_t from, bool *seen)
{
    seen[from] = true;
    for (size_t to = 0; to < g->n; to++)
        if (g->edge[from * g->n + to] && !seen[to])
            tt_fake_visit(g, to, seen);
}

uint64_t tt_fake_plant(struct tt_fake *f, enum tt_fake_sort sort)
{
    uint64_t b = tt_fake_block(f, 56);
    uint64_t *w = tt_fake_word(f, b);
    switch (sort) {
    case CALL: /* constant name, counters, text */
        w[0] = FAKE_CONSTANTS + 0x1c0;
        w[1] = tt_fake_draw(100000);
        w[2] = tt_fake_draw(2) ? 0 : 1 + tt_fake_draw(9);
        snprintf((char *)&w[3], 24, "sip:user%u@h", (unsigned)tt_fake_draw(10000));
        break;
    case STRING:
        snprintf((char *)w, 56, "GET /item/%u HTTP/1.%u", (unsigned)tt_fake_draw(1000000),
                 (unsigned)tt_fake_draw(2));
        break;
    case PAIR: /* two callbacks and a clock */
        w[0] = FAKE_TEXT + 0x500;
        w[1] = FAKE_TEXT + 0x620;
        w[2] = 0x3fe0000000000000ull + tt_fake_draw(1u << 30);
        break;
    case NODE: /* numbers only */
        w[0] = tt_fake_draw(50);
        w[1] = tt_fake_draw(50);
        w[2] = tt_fake_draw(70000);
        break;
    default: /* an object with a vtable */
        w[0] = FAKE_DATA + 0x7000;
        w[1] = 1 + tt_fake_draw(3);
        break;
    }
    return b;
}

int tt_fake_name_it(void *arg, const char *path, uint64_t offset, uint64_t address, char *out,
                    size_t size)
{
    (void)arg;
    (void)path;
    (void)offset;
    if (address != FAKE_CONSTANTS + 0x1c0)
        return -ENOENT;
    snprintf(out, size, "call_ops+0x0 (struct ops)");
    return 0;
}

uint32_t tt_fake_site_of(void *arg, uint64_t address, uint64_t *requested)
{
    const struct tt_fake_births *b = arg;
    uint32_t number = tt_heap_find(&b->f->index, address);
    *requested = 0;
    return number < b->tracked.len && b->tracked.data[number] ? b->site.data[number] : 0;
}

void tt_fake_born(struct tt_fake_births *b, uint32_t site, bool tracked)
{
    assert_int_equal(tt_vec_push(&b->site, site), 0);
    assert_int_equal(tt_vec_push(&b->tracked, tracked), 0);
}

void tt_fake_births_free(struct tt_fake_births *b)
{
    tt_vec_free(&b->site);
    tt_vec_free(&b->tracked);
}
