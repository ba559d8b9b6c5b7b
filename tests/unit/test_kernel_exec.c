/* SPDX-License-Identifier: Apache-2.0 */
/* Probes of a process that calls exec, by its first thread and by another one, which then takes the
 * first one's place. The program is this one, told by its argument. Skipped where eBPF or such
 * probes are not allowed, which is said. Start: exec_keeps_probes. */
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernel/internal.h"

#define CALLS 7u

static int told[2] = {-1, -1}, done[2] = {-1, -1};
static struct {
    struct tt_kernel *kernel;
    uint64_t offset; /* of counted_call in this file */
    char file[PATH_MAX];
    int images, tape, code;
} world;

__attribute__((noinline)) void counted_call(int n);
void counted_call(int n)
{
    __asm__ volatile("" : : "r"(n) : "memory");
}

/* ---- the child ---- */

static void *exec_here(void *arg)
{
    char in[16], out[16];
    snprintf(in, sizeof in, "%d", told[0]);
    snprintf(out, sizeof out, "%d", done[1]);
    execl("/proc/self/exe", "child", in, out, NULL);
    _exit((int)(intptr_t)arg);
}

static int child_after_exec(int in, int out)
{
    char byte = 'e';
    if (write(out, &byte, 1) != 1 || read(in, &byte, 1) != 1)
        return 1;
    for (unsigned i = 0; i < CALLS; i++)
        counted_call((int)i);
    return write(out, &byte, 1) != 1 || read(in, &byte, 1) == 1; /* until it is killed */
}

static void child(bool by_thread)
{
    char byte;
    pthread_t thread;
    prctl(PR_SET_PDEATHSIG,
          SIGKILL); /* a test that failed leaves nobody; nor do the pipes' ends: */
    close(told[1]);
    close(done[0]);
    if (read(told[0], &byte, 1) != 1)
        _exit(1);
    if (!by_thread)
        exec_here((void *)2);
    pthread_create(&thread, NULL, exec_here, (void *)2);
    for (;;)
        pause();
}

/* ---- the recorder ---- */

static void arrived(void *arg, pid_t pid, int tape)
{
    (void)arg;
    if (world.images++)
        close(world.tape);
    world.tape = tape;
    world.code = tt_kernel_count(world.kernel, world.file, world.offset, pid, 0);
}
static void replaced(void *arg, pid_t pid)
{
    (void)arg, (void)pid;
}

static void find_function(void)
{
    struct tt_proc_maps maps = {0};
    assert_true(readlink("/proc/self/exe", world.file, sizeof world.file - 1) > 0);
    assert_int_equal(tt_proc_maps_read(getpid(), &maps), 0);
    const struct tt_proc_map *map = tt_proc_map_at(&maps, (uint64_t)(uintptr_t)counted_call);
    assert_non_null(map);
    world.offset = (uint64_t)(uintptr_t)counted_call - map->start + map->offset;
    tt_proc_maps_free(&maps);
}

static void record(bool by_thread)
{
    char byte = 'g';
    struct tt_error err = {0};
    struct tt_tape_head head;
    assert_int_equal(pipe(told) | pipe(done), 0);
    pid_t pid = fork();
    if (pid == 0)
        child(by_thread);
    assert_int_equal(tt_kernel_add(world.kernel, pid, false, &err), 0);
    if (world.code)
        print_message("no such probes here: %d\n", world.code);
    assert_int_equal(write(told[1], &byte, 1), 1); /* exec */
    assert_int_equal(read(done[0], &byte, 1), 1);
    tt_kernel_visit(world.kernel, 1, true);
    assert_int_equal(world.images, 2);
    if (world.code == 0) {
        assert_int_equal(write(told[1], &byte, 1), 1); /* calls */
        assert_int_equal(read(done[0], &byte, 1), 1);
        tt_kernel_visit(world.kernel, 2, true);
        assert_int_equal(pread(world.tape, &head, sizeof head, 0), sizeof head);
        assert_int_equal(head.ops[0].count, CALLS);
    }
    tt_kernel_end(world.kernel, pid, 3);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    close(world.tape);
    for (int i = 0; i < 2; i++) {
        close(told[i]);
        close(done[i]);
    }
    world.images = 0;
}

static void exec_keeps_probes(void **state)
{
    const struct tt_kernel_options options = {.arrived = arrived, .replaced = replaced};
    struct tt_error err = {0};
    (void)state;
    find_function();
    world.kernel = tt_kernel_open(&options, &err);
    if (!world.kernel) {
        print_message("%s\n", err.text);
        skip();
    }
    record(false);
    record(true);
    tt_kernel_close(world.kernel);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[0], "child") == 0)
        return child_after_exec(atoi(argv[1]), atoi(argv[2]));
    const struct CMUnitTest tests[] = {cmocka_unit_test(exec_keeps_probes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
