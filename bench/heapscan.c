/* SPDX-License-Identifier: Apache-2.0 */
/* How long the search of a frozen heap takes, without a process: a synthetic heap as a server with
 * a big hash table has it, at addresses in random order, so that every step misses the caches.
 * Each node of a chain holds a name (a leaf); 3 % of the chains are lost, or LOST_PERCENT. Prints
 * the time of each step, the best of the rounds, and checks what was found against what was made.
 * Usage: heapscan [MEBIBYTES [ROUNDS [THREADS [LOST_PERCENT]]]] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "heap/internal.h"

enum { CHAIN = 4 }; /* nodes of a chain, each with a name: 2 * CHAIN blocks */

static uint64_t state = 0x9e3779b97f4a7c15u; /* xorshift64 (Marsaglia 2003) */
static uint64_t draw(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

struct heap {
    struct tt_heap_image image;
    struct tt_heap_blocks blocks;
    uint64_t lost;
};

static void *region(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        perror("heapscan: mmap");
        exit(3);
    }
    madvise(p, size, MADV_HUGEPAGE);
    memset(p, 0, size);
    return p;
}

static void check(int failed)
{
    if (failed) {
        fprintf(stderr, "heapscan: out of memory\n");
        exit(3);
    }
}

/* Blocks of 24 to 216 usable bytes, on average 112 and a header of 16: a GiB holds 8 million. */
static void make(struct heap *heap, size_t size, unsigned lost)
{
    uint8_t *memory = region(size);
    uint64_t at = (uint64_t)(uintptr_t)memory, end = at + size;
    while (at + 256 < end) {
        uint64_t usable = 24 + 16 * (draw() % 13);
        check(tt_vec_push(&heap->blocks.list, (struct tt_heap_block){at + 16, usable}));
        at += usable + 8;
    }
    size_t n = heap->blocks.list.len, chains = n / (2 * CHAIN);
    uint32_t *order = malloc(n * sizeof *order);
    check(!order);
    for (size_t i = 0; i < n; i++)
        order[i] = (uint32_t)i;
    for (size_t i = n - 1; i; i--) {
        size_t j = draw() % (i + 1);
        uint32_t t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
    size_t table_size = (chains * 8 + 4095) & ~(size_t)4095;
    uint64_t *table = region(table_size); /* the program's own mapping: roots */
    for (size_t c = 0; c < chains; c++) {
        uint64_t next = 0;
        for (size_t k = 0; k < CHAIN; k++) {
            struct tt_heap_block *node = &heap->blocks.list.data[order[(c * CHAIN + k) * 2]];
            struct tt_heap_block *name = &heap->blocks.list.data[order[(c * CHAIN + k) * 2 + 1]];
            uint64_t *words = (uint64_t *)(uintptr_t)node->address;
            words[0] = next;
            words[1] = c * 31 + k;
            words[2] = name->address;
            words = (uint64_t *)(uintptr_t)name->address;
            memcpy(words, "name-of-", 8);
            words[1] = c;
            words[2] = k;
            next = node->address;
        }
        if (c % 100 < lost)
            heap->lost += (uint64_t)2 * CHAIN;
        else
            table[c] = next;
    }
    heap->lost += n - chains * 2 * CHAIN;
    free(order);
    struct tt_heap_range ranges[2] = {
        {.start = (uint64_t)(uintptr_t)memory, .end = end, .bytes = memory},
        {.start = (uint64_t)(uintptr_t)table,
         .end = (uint64_t)(uintptr_t)table + table_size,
         .bytes = (const uint8_t *)table},
    };
    int first = ranges[0].start > ranges[1].start;
    for (int i = 0; i < 2; i++) {
        struct tt_heap_range *r = &ranges[i ^ first];
        r->path = "";
        r->kind = TT_HEAP_ANON;
        r->write = true;
        check(tt_vec_push(&heap->image.ranges, *r));
    }
    check(tt_vec_push(&heap->blocks.internal,
                      (struct tt_heap_span){(uint64_t)(uintptr_t)memory, end}));
}

enum { BUILD, ROOTS, EDGES, MARK, FIND, GROUP, RETAIN, STEPS };
static const char *const step_names[STEPS] = {"index", "roots",  "edges", "mark",
                                              "lost",  "groups", "retain"};

/* Wall time, and processor time of all threads, which a busy machine disturbs less. */
struct laps {
    uint64_t wall, cpu;
    uint64_t best_wall[STEPS], best_cpu[STEPS];
};

static void start_lap(struct laps *l)
{
    l->wall = tt_clock_read(CLOCK_MONOTONIC);
    l->cpu = tt_clock_read(CLOCK_PROCESS_CPUTIME_ID);
}

static void lap(struct laps *l, int step)
{
    uint64_t wall = tt_clock_read(CLOCK_MONOTONIC) - l->wall;
    uint64_t cpu = tt_clock_read(CLOCK_PROCESS_CPUTIME_ID) - l->cpu;
    if (!l->best_wall[step] || wall < l->best_wall[step])
        l->best_wall[step] = wall;
    if (!l->best_cpu[step] || cpu < l->best_cpu[step])
        l->best_cpu[step] = cpu;
    start_lap(l);
}

int main(int argc, char **argv)
{
    size_t mebibytes = argc > 1 ? strtoul(argv[1], NULL, 10) : 1024;
    int rounds = argc > 2 ? atoi(argv[2]) : 3;
    unsigned threads = argc > 3 ? (unsigned)atoi(argv[3]) : 0;
    if (!mebibytes || rounds < 1) {
        fprintf(stderr, "usage: heapscan [MEBIBYTES [ROUNDS [THREADS [LOST_PERCENT]]]]\n");
        return 2;
    }
    struct heap heap = {0};
    make(&heap, mebibytes << 20, argc > 4 ? (unsigned)atoi(argv[4]) : 3);
    struct laps laps = {0};
    uint64_t lost = 0;
    size_t holders = 0, groups = 0;
    for (int round = 0; round < rounds; round++) {
        struct tt_heap_index index;
        struct tt_heap_edges edges;
        struct tt_heap_graph graph;
        struct tt_heap_marks marks;
        struct tt_heap_shaper shaper;
        struct tt_heap_lost found;
        struct tt_heap_options options = {.max_holders = 32};
        struct tt_heap_result result = {0};
        tt_heap_root_vec roots = {0};
        start_lap(&laps);
        check(tt_heap_index_build(&heap.image, &heap.blocks, &index, NULL));
        lap(&laps, BUILD);
        check(tt_heap_roots_collect(&heap.image, &heap.blocks, &roots));
        lap(&laps, ROOTS);
        check(tt_heap_edges_find(&index, threads, &edges));
        lap(&laps, EDGES);
        check(tt_heap_graph_roots(&index, &roots, &graph));
        check(tt_heap_mark(&edges, &graph, threads, &marks));
        lap(&laps, MARK);
        check(tt_heap_shaper_make(&index, &heap.blocks, &shaper));
        check(tt_heap_lost_find(&edges, &marks, &shaper, threads, &found));
        lap(&laps, FIND);
        check(tt_heap_group(&index, &shaper, &found, 64, NULL, NULL, &result));
        lap(&laps, GROUP);
        check(tt_heap_retain(&edges, &graph, &roots, &shaper, &options, NULL, NULL, &result));
        lap(&laps, RETAIN);
        groups = result.groups.len;
        holders = result.holders.len;
        tt_heap_result_free(&result);
        tt_heap_lost_free(&found);
        tt_heap_shaper_free(&shaper);
        lost = index.n - marks.reached_units;
        tt_heap_marks_free(&marks);
        tt_heap_graph_free(&graph);
        tt_vec_free(&roots);
        tt_heap_index_free(&index);
    }
    printf("blocks %zu lost %llu expected %llu groups %zu holders %zu\n", heap.blocks.list.len,
           (unsigned long long)lost, (unsigned long long)heap.lost, groups, holders);
    for (int step = 0; step < STEPS; step++)
        printf("%-7s %8.1f ms, processor %8.1f ms\n", step_names[step],
               (double)laps.best_wall[step] / 1e6, (double)laps.best_cpu[step] / 1e6);
    return lost == heap.lost ? 0 : 1;
}
