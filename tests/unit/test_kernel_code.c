/* SPDX-License-Identifier: Apache-2.0 */
/* Code that comes and goes while a process is recorded from the kernel's side: what leads from
 * frame to frame there, and which known stacks stay known. The process is this one. Start: main's
 * table.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernel/rules.h"

static __attribute__((noinline)) int some_function(int n)
{
    return n * 3 + (int)getpid();
}

/* The page of the test's own code that holds a place, mapped once more at `to` (NULL: anywhere). */
static uint8_t *map_own_code(uint64_t place, void *to)
{
    struct tt_proc_maps maps = {0};
    assert_int_equal(tt_proc_maps_read(getpid(), &maps), 0);
    const struct tt_proc_map *map = tt_proc_map_at(&maps, place);
    assert_non_null(map);
    int fd = tt_proc_map_open(getpid(), map, tt_proc_map_path(&maps, map));
    assert_true(fd >= 0);
    uint64_t page = place & ~4095ULL;
    void *at = mmap(to, 8192, PROT_READ | PROT_EXEC, MAP_PRIVATE | (to ? MAP_FIXED : 0), fd,
                    (off_t)(map->offset + (page - map->start)));
    assert_true(at != MAP_FAILED);
    close(fd);
    tt_proc_maps_free(&maps);
    return at;
}

/* What was mapped there goes; the place is kept, so that nobody else's memory comes there. */
static void close_code(void *at)
{
    assert_ptr_equal(mmap(at, 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), at);
}

static void rules_follow_the_code(void **state)
{
    (void)state;
    uint64_t place = (uint64_t)(uintptr_t)some_function + 1;
    struct tt_kernel_files *files = tt_kernel_files_new();
    uint8_t *at = map_own_code(place, NULL);
    uint64_t start = (uint64_t)(uintptr_t)at, pc = start + (place & 4095);
    struct tt_kernel_unwind *u = tt_kernel_unwind_new(files, getpid());
    assert_non_null(u);
    assert_int_not_equal(tt_kernel_row(u, pc)->kind, ROW_NONE);
    /* a library is closed */
    close_code(at);
    assert_true(tt_kernel_unwind_gone(u, start, start + 8192));
    assert_false(tt_kernel_is_code(u, pc));
    assert_int_equal(tt_kernel_row(u, pc)->kind, ROW_NONE);
    assert_false(tt_kernel_unwind_gone(u, start, start + 8192));
    /* data is mapped there, and becomes code without rules */
    assert_ptr_equal(
        mmap(at, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), at);
    assert_false(tt_kernel_is_code(u, pc));
    assert_int_equal(mprotect(at, 8192, PROT_READ | PROT_EXEC), 0);
    tt_kernel_unwind_code(u, start, start + 8192);
    assert_true(tt_kernel_is_code(u, pc));
    assert_int_equal(tt_kernel_row(u, pc)->kind, ROW_NONE);
    /* and a library again, of which nobody told: the innermost frame asks */
    close_code(at);
    assert_true(tt_kernel_unwind_gone(u, start, start + 8192));
    assert_false(tt_kernel_is_code(u, pc));
    assert_int_equal(tt_kernel_row(u, pc)->kind, ROW_NONE);
    map_own_code(place, at);
    assert_false(tt_kernel_is_code(u, pc));
    assert_true(tt_kernel_becomes_code(u, pc));
    assert_int_not_equal(tt_kernel_row(u, pc)->kind, ROW_NONE);
    munmap(at, 8192);
    tt_kernel_unwind_free(u);
    tt_kernel_files_free(files);
}

/* More intervals than are kept apart: none is forgotten. */
static void many_intervals_are_all_in_doubt(void **state)
{
    (void)state;
    struct tt_kernel_files *files = tt_kernel_files_new();
    uint8_t *at = mmap(NULL, 200 * 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(at != MAP_FAILED);
    struct tt_kernel_unwind *u = tt_kernel_unwind_new(files, getpid());
    assert_non_null(u);
    for (size_t i = 0; i < 200; i++) {
        uint64_t start = (uint64_t)(uintptr_t)(at + i * 8192);
        assert_int_equal(mprotect(at + i * 8192, 4096, PROT_EXEC), 0);
        tt_kernel_unwind_code(u, start, start + 4096);
    }
    for (size_t i = 0; i < 200; i++) {
        assert_true(tt_kernel_is_code(u, (uint64_t)(uintptr_t)(at + i * 8192)));
        assert_false(tt_kernel_is_code(u, (uint64_t)(uintptr_t)(at + i * 8192 + 4096)));
    }
    munmap(at, 200 * 8192);
    tt_kernel_unwind_free(u);
    tt_kernel_files_free(files);
}

/* Stacks that do not lead through what changed stay known: a program that loads a library for each
 * request would fill the ring with the same stacks otherwise. */
static void other_stacks_stay_known(void **state)
{
    (void)state;
    struct tt_kernel *kernel = calloc(1, sizeof *kernel);
    assert_non_null(kernel);
    struct tt_kernel_shared *shared = calloc(1, sizeof *shared);
    assert_non_null(shared);
    kernel->shared = shared;
    const struct tt_kernel_known stacks[] = {
        {.ip = 0x10010, .key = 3 << 8, .n = 1, .word = {0x20010}},
        {.ip = 0x10010, .key = 3 << 8, .n = 2, .word = {0x20010, 0x50010}},
        {.ip = 0x50010, .key = 3 << 8, .n = 1, .word = {0x20010}},
        {.ip = 0x10010, .key = 4 << 8, .n = 2, .word = {0x20010, 0x50010}}, /* another image's */
        {.ip = 0x10010, .key = 3 << 8, .n = 2, .at = {0, 9}, .word = {0x20010, 0x50010}},
    };
    memcpy(shared->known + 100, stacks, sizeof stacks);
    tt_kernel_forget_known(kernel, 3, 0x50000, 0x51000);
    const bool stays[] = {true, false, false, true, true}; /* the last: a distance */
    for (size_t i = 0; i < sizeof stays / sizeof *stays; i++)
        assert_int_equal(shared->known[100 + i].ip != 0, stays[i]);
    tt_kernel_forget_known(kernel, 3, 0, UINT64_MAX);
    for (size_t i = 0; i < sizeof stays / sizeof *stays; i++)
        assert_int_equal(shared->known[100 + i].ip != 0, i == 3);
    free(shared);
    free(kernel);
}

/* A process that ends while its mappings are read has none, not a few. */
static void a_list_of_mappings_is_whole(void **state)
{
    const size_t many = 4000;
    (void)state;
    for (int round = 0; round < 20; round++) {
        int ready[2], go[2], status, code;
        char byte = 0;
        assert_int_equal(pipe(ready) | pipe(go), 0);
        pid_t pid = fork();
        if (pid == 0) {
            for (size_t i = 0; i < many; i++)
                mmap(NULL, 4096, i & 1 ? PROT_READ : PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            (void)!write(ready[1], &byte, 1);
            (void)!read(go[0], &byte, 1);
            _exit(0);
        }
        assert_int_equal(read(ready[0], &byte, 1), 1);
        struct tt_proc_maps maps = {0};
        assert_int_equal(tt_proc_maps_read(pid, &maps), 0);
        size_t whole = maps.maps.len;
        assert_true(whole >= many);
        assert_int_equal(write(go[1], &byte, 1), 1);
        while ((code = tt_proc_maps_read(pid, &maps)) == 0)
            assert_int_equal(maps.maps.len, whole);
        assert_int_equal(code, -ESRCH);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        tt_proc_maps_free(&maps);
        for (int i = 0; i < 2; i++) {
            close(ready[i]);
            close(go[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules_follow_the_code),
        cmocka_unit_test(many_intervals_are_all_in_doubt),
        cmocka_unit_test(other_stacks_stay_known),
        cmocka_unit_test(a_list_of_mappings_is_whole),
    };
    some_function(0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
