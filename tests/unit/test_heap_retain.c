/* SPDX-License-Identifier: Apache-2.0 */
/* Dominators, against the definition on random graphs, and who holds what. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "test_heap_fake.h"

static void visit_without(const struct tt_fake_graph *g, size_t from, size_t without, bool *seen)
{
    if (from == without || seen[from])
        return;
    seen[from] = true;
    for (size_t to = 0; to < g->n; to++)
        if (g->edge[from * g->n + to])
            visit_without(g, to, without, seen);
}

/* A dominates B if B cannot be reached any more without A. */
static void test_random_dominators(void **unused)
{
    (void)unused;
    for (unsigned seed = 1; seed <= 300; seed++) {
        struct tt_fake f;
        tt_fake_seed(seed * 49979687);
        tt_fake_start(&f, 1 << 20);
        size_t n = 5 + tt_fake_draw(60);
        struct tt_fake_graph g =
            tt_fake_random_graph(&f, n, n / 2 + tt_fake_draw(2 * n), 1 + tt_fake_draw(3));
        tt_fake_mark(&f, 1);
        struct tt_heap_graph d = {.index = &f.index, .tagged = calloc(n / 64 + 1, 8)};
        struct tt_heap_marks marks;
        for (uint32_t i = 0; i < n; i++)
            if (g.rooted[i]) {
                struct tt_heap_object o = {(uint32_t)d.words.len, 1, false};
                struct tt_heap_word w = {i, 0, 0};
                assert_int_equal(tt_vec_push(&d.objects, o), 0);
                assert_int_equal(tt_vec_push(&d.words, w), 0);
            }
        assert_int_equal(tt_heap_mark(&f.edges, &d, 1, &marks), 0);
        assert_int_equal(marks.reached_units, f.marks.reached_units);
        assert_int_equal(tt_heap_dominate(&f.edges, &d), 0);
        bool *dominates = calloc(n * n, 1);
        for (uint32_t v = 1; v < d.n; v++)
            for (uint32_t a = v; a && d.id[v] < n; a = d.idom[a])
                if (d.id[a] < n)
                    dominates[d.id[a] * n + d.id[v]] = true;
        for (size_t a = 0; a < n; a++) {
            bool *seen = calloc(n, 1);
            for (size_t i = 0; i < n; i++)
                if (g.rooted[i])
                    visit_without(&g, i, a, seen);
            for (size_t v = 0; v < n; v++)
                if (tt_heap_bit(f.marks.reached, (uint32_t)v))
                    assert_int_equal(dominates[a * n + v], !seen[v]);
            free(seen);
        }
        free(dominates);
        tt_heap_marks_free(&marks);
        tt_heap_graph_free(&d);
        tt_fake_graph_free(&g);
        tt_fake_end(&f);
    }
}

static void retain(struct tt_fake *f, struct tt_fake_births *b)
{
    struct tt_heap_options options = {
        .site_of = b ? tt_fake_site_of : NULL, .arg = b, .max_holders = 32, .threads = 2};
    if (b)
        b->f = f;
    assert_int_equal(tt_heap_retain(&f->edges, &f->graph, &f->roots, &f->shaper, &options,
                                    tt_fake_name_it, NULL, &f->result),
                     0);
}

static const struct tt_heap_holder *holder(const struct tt_fake *f, const char *where)
{
    for (size_t i = 0; i < f->result.holders.len; i++)
        if (strstr(f->result.holders.data[i].where, where))
            return &f->result.holders.data[i];
    for (size_t i = 0; i < f->result.holders.len; i++)
        print_message("%s: %s\n", f->result.holders.data[i].where, f->result.holders.data[i].path);
    fail_msg("no holder %s", where);
    return NULL;
}

static void test_holders(void **unused)
{
    (void)unused;
    struct tt_fake f;
    struct tt_fake_births b = {0};
    tt_fake_start(&f, 64 << 20);
    /* A global table of calls, each with a name. */
    uint64_t table = tt_fake_block(&f, 8 * 1000);
    tt_fake_born(&b, 1, true);
    *tt_fake_word(&f, FAKE_DATA + 0x2000) = table;
    *tt_fake_word(&f, FAKE_STACK + 0x3400) =
        table + 16; /* a stack does not lessen what a global holds */
    for (uint64_t i = 0; i < 1000; i++) {
        uint64_t call = tt_fake_block(&f, 104), name = tt_fake_block(&f, 40);
        tt_fake_born(&b, 2, true);
        tt_fake_born(&b, 3, true);
        *tt_fake_word(&f, table + 8 * i) = call;
        *tt_fake_word(&f, call + 16) = name;
    }
    /* A doubly linked list with a head that every node points to, held by a stack and a register:
     * neither alone holds it. */
    uint64_t head = tt_fake_block(&f, 56), before = head;
    tt_fake_born(&b, 0, false);
    *tt_fake_word(&f, FAKE_STACK + 0x3000) = head;
    f.image.threads.data[0].regs.rbx = head;
    for (int i = 0; i < 20000; i++) {
        uint64_t node = tt_fake_block(&f, 88);
        tt_fake_born(&b, 4, true);
        *tt_fake_word(&f, before) = node;
        *tt_fake_word(&f, node + 8) = before;
        *tt_fake_word(&f, node + 16) = head;
        before = node;
    }
    /* An array of globals, a mapping, a kernel root, a stack. */
    for (uint64_t i = 0; i < 64; i++) {
        *tt_fake_word(&f, FAKE_DATA + 0x4000 + 8 * i) = tt_fake_block(&f, 504);
        tt_fake_born(&b, 5, true);
        *tt_fake_word(&f, FAKE_MAPPED + 0x800 + 8 * i) = tt_fake_block(&f, 1000);
        tt_fake_born(&b, 6, true);
    }
    uint64_t watched = tt_fake_block(&f, 56), held = tt_fake_block(&f, 40000);
    tt_fake_born(&b, 7, true);
    tt_fake_born(&b, 8, true);
    *tt_fake_word(&f, watched) = held;
    struct tt_heap_kernel_root k = {.value = watched, .what = "epoll data of fd 7"};
    assert_int_equal(tt_vec_push(&f.image.kernel_roots, k), 0);
    *tt_fake_word(&f, FAKE_STACK + 0x3800) = tt_fake_block(&f, 60000);
    tt_fake_born(&b, 9, true);
    tt_fake_mark(&f, 2);
    tt_fake_fold(&f);
    assert_int_equal(f.lost.list.len, 0);
    retain(&f, &b);

    const struct tt_heap_holder *h = holder(&f, "global data of prog+0x6000");
    assert_int_equal(h->units, 2001);
    assert_int_equal(h->root, FAKE_DATA + 0x2000);
    assert_int_equal(h->held.data[0].site, 2);
    assert_int_equal(h->held.data[0].units, 1000);
    assert_int_equal(h->held.len, 3);
    assert_string_equal(h->path, "global data of prog+0x6000 -> block 8008 +0 -> block 104");
    h = holder(&f, "block of 56 bytes");
    assert_int_equal(h->root, head);
    assert_int_equal(h->units, 20001);
    assert_int_equal(h->site, 0);
    assert_int_equal(h->held.data[0].units, 20000);
    assert_non_null(strstr(h->path, " and others -> block 56 +0 -> block 88"));
    h = holder(&f, "global data of prog+0x8000 and 63 words behind it");
    assert_int_equal(h->units, 64);
    h = holder(&f, "mapped memory at 0x7f0000000000+0x800 and 63 words behind it");
    assert_int_equal(h->bytes, 64 * 1000);
    h = holder(&f, "epoll data of fd 7");
    assert_int_equal(h->bytes, 56 + 40008);
    h = holder(&f, "stack of thread 100");
    assert_int_equal(h->bytes, 60008);
    for (size_t i = 1; i < f.result.holders.len; i++)
        assert_true(f.result.holders.data[i].bytes <= f.result.holders.data[i - 1].bytes);
    /* Nothing of the list or the table is said twice. */
    assert_int_equal(f.result.holders.len, 6);
    tt_fake_births_free(&b);
    tt_fake_end(&f);
}

/* A deep list with a skip of pointers to the head and back must not take quadratic time. */
static void test_deep_list(void **unused)
{
    (void)unused;
    struct tt_fake f;
    tt_fake_start(&f, 64 << 20);
    uint64_t next = 0;
    for (int i = 0; i < 400000; i++) {
        uint64_t node = tt_fake_block(&f, 40);
        *tt_fake_word(&f, node) = next;
        if (next)
            *tt_fake_word(&f, next + 8) = node;
        next = node;
    }
    *tt_fake_word(&f, FAKE_DATA) = next;
    tt_fake_mark(&f, 2);
    tt_fake_fold(&f);
    retain(&f, NULL);
    assert_int_equal(f.result.holders.len, 1);
    assert_int_equal(f.result.holders.data[0].units, 400000);
    assert_string_equal(f.result.holders.data[0].path,
                        "global data of prog+0x4000 -> block 40 (400000 in a row)");
    tt_fake_end(&f);
}

/* Neither must one of objects that share another, which every one of them points to. */
static void test_deep_list_that_shares(void **unused)
{
    (void)unused;
    struct tt_fake f;
    tt_fake_start(&f, 64 << 20);
    uint64_t next = 0, shared = tt_fake_block(&f, 24), beside = tt_fake_block(&f, 24);
    for (int i = 0; i < 300000; i++) {
        uint64_t node = tt_fake_block(&f, 40);
        *tt_fake_word(&f, node) = next;
        *tt_fake_word(&f, node + 8) = shared;
        next = node;
    }
    uint64_t first =
        tt_fake_block(&f, 40); /* the list's first points to a leaf that its second has too */
    *tt_fake_word(&f, first) = next;
    *tt_fake_word(&f, first + 8) = beside;
    *tt_fake_word(&f, next + 16) = beside;
    *tt_fake_word(&f, FAKE_DATA) = first;
    tt_fake_mark(&f, 2);
    assert_int_equal(tt_heap_dominate(&f.edges, &f.graph), 0);
    for (uint32_t v = 1; v < f.graph.n; v++) {
        uint32_t id = f.graph.id[v];
        if (id == tt_heap_find(&f.index, shared))
            assert_int_equal(f.graph.id[f.graph.idom[v]], tt_heap_find(&f.index, next));
        if (id == tt_heap_find(&f.index, beside))
            assert_int_equal(f.graph.id[f.graph.idom[v]], tt_heap_find(&f.index, first));
    }
    tt_fake_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_dominators),
        cmocka_unit_test(test_holders),
        cmocka_unit_test(test_deep_list),
        cmocka_unit_test(test_deep_list_that_shares),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
