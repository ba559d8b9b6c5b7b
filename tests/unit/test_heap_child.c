/* SPDX-License-Identifier: Apache-2.0 */
#include <malloc.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "test_heap_child.h"

/* Waits for the stop that the child makes of itself, reads it, ends it. */
static void finish(pid_t pid, struct tt_heap_image *image)
{
    struct tt_error err = {0};
    struct tt_heap_thread thread = {.tid = pid};
    int status = 0;
    for (;;) {
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSTOPPED(status));
        if (WSTOPSIG(status) == SIGSTOP)
            break;
        assert_int_equal(ptrace(PTRACE_CONT, pid, 0, 0), 0);
    }
    assert_int_equal(ptrace(PTRACE_GETREGS, pid, 0, &thread.regs), 0);
    int rc = tt_heap_image_frozen(pid, pid, &thread, 1, image, &err);
    if (rc)
        print_error("%s\n", err.text);
    assert_int_equal(rc, 0);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static _Noreturn void act(void (*body)(struct tt_child_truth *), struct tt_child_truth *truth)
{
    body(truth);
    raise(SIGSTOP);
    _exit(0);
}

void tt_child_image(void (*body)(struct tt_child_truth *), struct tt_child_truth **truth,
                    struct tt_heap_image *image)
{
    *truth = mmap(NULL, sizeof **truth, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(*truth, MAP_FAILED);
    pid_t pid = fork();
    if (pid == 0) {
        if (ptrace(PTRACE_TRACEME, 0, 0, 0))
            _exit(1);
        act(body, *truth);
    }
    finish(pid, image);
}

void tt_child_image_preloaded(const char *library, struct tt_child_truth **truth,
                              struct tt_heap_image *image)
{
    char number[16];
    int fd = memfd_create("truth", 0);
    assert_int_equal(ftruncate(fd, sizeof **truth), 0);
    *truth = mmap(NULL, sizeof **truth, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(*truth, MAP_FAILED);
    snprintf(number, sizeof number, "%d", fd);
    pid_t pid = fork();
    if (pid == 0) {
        setenv("LD_PRELOAD", library, 1);
        if (ptrace(PTRACE_TRACEME, 0, 0, 0) == 0)
            execl("/proc/self/exe", "test", "child", number, (char *)NULL);
        _exit(1);
    }
    finish(pid, image);
    close(fd);
}

void tt_child_main(int argc, char **argv, void (*body)(struct tt_child_truth *))
{
    if (argc != 3 || strcmp(argv[1], "child") != 0)
        return;
    void *truth = mmap(NULL, sizeof(struct tt_child_truth), PROT_READ | PROT_WRITE, MAP_SHARED,
                       atoi(argv[2]), 0);
    if (truth == MAP_FAILED)
        _exit(1);
    act(body, truth);
}

void tt_child_allocate(struct tt_child_truth *truth)
{
    uint64_t x = 88172645463325252ULL;
    for (uint32_t i = 0; i < TT_CHILD_MOST; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        size_t size = i % 200 == 0 ? 150000 + x % 100000 : 1 + x % (i % 10 ? 200 : 5000);
        void *p = i % 50 ? malloc(size) : memalign((size_t)16 << i / 50 % 9, size);
        if (!p)
            _exit(1);
        truth->entry[i] = (struct tt_child_entry){(uint64_t)(uintptr_t)p, malloc_usable_size(p)};
    }
    for (uint32_t i = 0; i < TT_CHILD_MOST; i++)
        if (i % 5 == 1 || i % 5 == 3) {
            free((void *)(uintptr_t)truth->entry[i].address);
            truth->entry[i].usable = 0;
        }
    truth->n = TT_CHILD_MOST;
}

static const struct tt_heap_block *find(const struct tt_heap_blocks *blocks, uint64_t address)
{
    size_t lo = 0, hi = blocks->list.len;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (blocks->list.data[mid].address < address)
            lo = mid + 1;
        else
            hi = mid;
    }
    const struct tt_heap_block *b = blocks->list.data + lo;
    return lo < blocks->list.len && b->address == address ? b : NULL;
}

static void check_order(const struct tt_heap_blocks *blocks)
{
    for (size_t i = 1; i < blocks->list.len; i++)
        assert_true(blocks->list.data[i].address >=
                    blocks->list.data[i - 1].address + blocks->list.data[i - 1].size);
    for (size_t i = 1; i < blocks->internal.len; i++)
        assert_true(blocks->internal.data[i].start > blocks->internal.data[i - 1].end);
}

void tt_child_compare(const struct tt_child_truth *truth, const struct tt_heap_blocks *blocks,
                      uint32_t skip, uint32_t n_skip)
{
    check_order(blocks);
    assert_int_equal(truth->n, TT_CHILD_MOST);
    for (uint32_t i = 0; i < truth->n; i++) {
        const struct tt_heap_block *b = find(blocks, truth->entry[i].address);
        if (!b && i - skip < n_skip)
            continue;
        assert_int_equal(b != NULL, truth->entry[i].usable != 0);
        if (b)
            assert_int_equal(b->size, truth->entry[i].usable);
    }
}

void tt_child_torture(struct tt_heap_image *image, unsigned rounds)
{
    uint64_t x = 0x9e3779b97f4a7c15ULL;
    for (unsigned round = 0; round < rounds; round++) {
        struct tt_heap_blocks blocks;
        for (unsigned k = 0; k < 1u << round % 10; k++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            const struct tt_heap_range *r = &image->ranges.data[x % image->ranges.len];
            uint64_t size = r->end - r->start, at = (x >> 20) % size & ~7ull;
            if (!r->bytes || !r->write)
                continue;
            const uint64_t values[] = {0,        x,    ~0ull,    r->start + at,
                                       r->start, 0x21, size | 1, x >> 17};
            /* the image's memory is ours, and writable */
            memcpy((uint8_t *)(uintptr_t)r->bytes + at, &values[x >> 60 & 7], 8);
        }
        if (tt_heap_walk(image, &blocks, NULL) == 0) {
            check_order(&blocks);
            tt_heap_blocks_free(&blocks);
        }
    }
}
