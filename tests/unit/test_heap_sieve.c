/* SPDX-License-Identifier: Apache-2.0 */
/* Pointers sifted out of memory as it is read must be the ones that are found by looking at it, and
 * a look at single blocks must see what is there. The memory is the test's own and, copied by fork,
 * a stopped child's, which is read late. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "heap/internal.h"
#include "heap/internal_image.h"

enum { SIZE = 80 << 20, HOLE = 3 << 20, HUGE_BLOCK = 5 << 20 };

static uint64_t state = 0x9e3779b97f4a7c15u; /* xorshift64 (Marsaglia 2003) */
static uint64_t draw(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

/* Pointers to and into blocks and between them, with tags and without, text, numbers. */
static uint64_t some_word(uint64_t memory)
{
    uint64_t inside = memory + draw() % SIZE;
    switch (draw() % 12) {
    case 0:
        return inside;
    case 1:
        return inside & ~7ull;
    case 2:
        return inside | (draw() & 0xffff) << 48;
    case 3:
        return draw();
    case 4:
        memcpy(&inside, "name-of-", 8);
        return inside;
    case 5:
        return memory + SIZE + (draw() & 0xffffff);
    case 6:
        return draw() % 100000;
    default:
        return 0;
    }
}

static void make_blocks(uint64_t memory, struct tt_heap_blocks *blocks)
{
    uint64_t at = memory;
    while (at + HUGE_BLOCK + 4096 < memory + SIZE) {
        uint64_t size = 24 + 16 * (draw() % 40);
        if (draw() % 20000 == 0)
            size = HUGE_BLOCK - 8;
        assert_int_equal(tt_vec_push(&blocks->list, (struct tt_heap_block){at + 16, size}), 0);
        at += size + 8 + (draw() % 8 ? 0 : 512); /* and what belongs to no block */
    }
}

static pid_t stopped_child(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        if (ptrace(PTRACE_TRACEME, 0, 0, 0))
            _exit(1);
        raise(SIGSTOP);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSTOPPED(status));
    return pid;
}

struct graph {
    struct tt_heap_index index;
    struct tt_heap_edges edges;
    struct tt_heap_shaper shaper;
};

static void search(const struct tt_heap_image *image, const struct tt_heap_blocks *blocks,
                   unsigned threads, struct graph *out)
{
    assert_int_equal(tt_heap_index_build(image, blocks, &out->index, NULL), 0);
    assert_int_equal(tt_heap_edges_find(&out->index, threads, &out->edges), 0);
    assert_int_equal(tt_heap_shaper_make(&out->index, blocks, &out->shaper), 0);
}

static void forget(struct graph *g)
{
    tt_heap_shaper_free(&g->shaper);
    tt_heap_edges_free(&g->edges);
    tt_heap_index_free(&g->index);
}

static void compare(const struct graph *a, const struct graph *b)
{
    uint64_t edges = 0, tagging = 0;
    for (uint32_t i = 0; i < a->index.n; i++) {
        uint32_t n, m;
        const uint32_t *t = tt_heap_targets(&a->edges, i, &n);
        const uint32_t *u = tt_heap_targets(&b->edges, i, &m);
        if (n != m || (n && memcmp(t, u, n * sizeof *t) != 0))
            fail_msg("block %u has other pointers", i);
        edges += n;
        tagging += tt_heap_bit(a->edges.tagging, i);
        /* what the sieve notes of tags may point to other memory, which is looked at later */
        if (tt_heap_bit(a->edges.tagging, i) > tt_heap_bit(b->edges.tagging, i) ||
            tt_heap_bit(a->edges.leaf, i) != tt_heap_bit(b->edges.leaf, i))
            fail_msg("block %u has other bits", i);
    }
    assert_true(edges > a->index.n);
    assert_true(tagging > 1000);
    for (uint32_t i = 0; i < a->index.n; i += 1 + i % 7 * 50) { /* close together, and far apart */
        struct tt_heap_shape s, t;
        tt_heap_shape_of(&a->shaper, i, &s);
        tt_heap_shape_of(&b->shaper, i, &t);
        assert_memory_equal(&s, &t, sizeof s);
    }
}

static void sifted_as_looked_at(void **unused)
{
    (void)unused;
    uint8_t *memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(memory, MAP_FAILED);
    uint64_t first = (uint64_t)(uintptr_t)memory;
    for (size_t i = 0; i < SIZE; i += 8)
        if (i / HOLE % 5 != 2) /* some was never touched */
            *(uint64_t *)(void *)(memory + i) = some_word(first);
    struct tt_heap_blocks blocks = {0};
    make_blocks(first, &blocks);
    pid_t pid = stopped_child();
    struct tt_heap_thread thread = {.tid = pid};
    assert_int_equal(ptrace(PTRACE_GETREGS, pid, 0, &thread.regs), 0);
    struct graph known, late;
    struct tt_error err = {0};
    for (unsigned threads = 1; threads <= 3; threads += 2) {
        struct tt_heap_image image, own;
        assert_int_equal(tt_heap_image_late(pid, pid, &thread, 1, &image, &err), 0);
        /* the same ranges, so that shapes agree, but our memory */
        own = image;
        own.pager = NULL;
        own.ranges.data = calloc(image.ranges.len, sizeof *own.ranges.data);
        assert_non_null(own.ranges.data);
        for (size_t i = 0; i < image.ranges.len; i++) {
            own.ranges.data[i] = image.ranges.data[i];
            if (own.ranges.data[i].bytes)
                own.ranges.data[i].bytes =
                    (const uint8_t *)(uintptr_t)own.ranges.data[i].start; /* NOLINT */
        }
        search(&own, &blocks, threads, &known);
        if (image.pager)
            assert_non_null(tt_heap_pager_sieve(image.pager));
        else
            print_message("this kernel does not move pages: all was read at once\n");
        search(&image, &blocks, threads, &late);
        compare(&known, &late);
        forget(&known);
        forget(&late);
        assert_int_equal(tt_heap_pager_unread(image.pager), 0);
        free(own.ranges.data);
        tt_heap_image_free(&image);
        tt_heap_spare_drop();
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    tt_heap_blocks_free(&blocks);
    munmap(memory, SIZE);
}

/* A heap that lies where the sieve did not expect one must not lose its pointers. */
static void covers(void **unused)
{
    (void)unused;
    static uint8_t somewhere[256];
    struct tt_heap_image image = {0};
    struct tt_heap_range r[2] = {
        {.start = 0x100000000, .end = 0x100010000, .bytes = somewhere, .kind = TT_HEAP_DATA},
        {.start = 0x200000000, .end = 0x208000000, .bytes = somewhere, .kind = TT_HEAP_ANON}};
    for (int i = 0; i < 2; i++) {
        r[i].path = "";
        assert_int_equal(tt_vec_push(&image.ranges, r[i]), 0);
    }
    struct tt_heap_sieve *sieve = tt_heap_sieve_make(&image);
    assert_non_null(sieve);
    for (int i = 0; i < 2; i++) {
        struct tt_heap_blocks blocks = {0};
        struct tt_heap_index index;
        assert_int_equal(tt_vec_push(&blocks.list, (struct tt_heap_block){r[i].end - 4096, 100}),
                         0);
        assert_int_equal(tt_heap_index_build(&image, &blocks, &index, NULL), 0);
        assert_int_equal(tt_heap_sieve_covers(sieve, &index), i == 1);
        tt_heap_index_free(&index);
        tt_heap_blocks_free(&blocks);
    }
    tt_heap_sieve_free(sieve);
    tt_vec_free(&image.ranges);
}

/* Pages move from one array to the next; what is asked for is zero all the same. */
static void spare_memory(void **unused)
{
    (void)unused;
    enum { N = 24 << 20 };
    for (unsigned round = 0; round < 8; round++) {
        size_t n = N / 4 * (size_t)(1 + round % 4);
        uint8_t *a = tt_heap_array(n, 1), *b = tt_heap_array(100, 8);
        assert_non_null(a);
        assert_non_null(b);
        for (size_t i = 0; i < n; i += 64)
            assert_int_equal(a[i], 0);
        memset(a, 0xff, n);
        memset(b, 0xff, 800);
        tt_heap_array_free(a);
        tt_heap_array_free(b);
    }
    uint8_t *lent = mmap(NULL, N * 2ul, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_ptr_not_equal(lent, MAP_FAILED);
    size_t until = tt_heap_lend(lent, N * 2ul);
    assert_true(until >= N && until <= N + (4u << 20));
    memset(lent, 1, N * 2ul);
    tt_heap_take_back(lent + (8 << 20), until - (8u << 20));
    for (size_t i = 0; i < 8 << 20; i += 64) /* the rest stays what it was */
        assert_int_equal(lent[i], 1);
    assert_int_equal(munmap(lent, N * 2ul), 0);
    uint8_t *a = tt_heap_array(N, 1);
    for (size_t i = 0; i < N; i += 64)
        assert_int_equal(a[i], 0);
    tt_heap_array_free(a);
    tt_heap_spare_drop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sifted_as_looked_at),
        cmocka_unit_test(covers),
        cmocka_unit_test(spare_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
