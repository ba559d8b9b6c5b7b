/* SPDX-License-Identifier: Apache-2.0 */
/* Watches over the life of a process: taken out without a trace, refused, placed again at the next
 * recording, with a call under way from one into the next, passed on to a forked child, and left by
 * an exception. Start: main's table. */
#include "test_watch_world.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "test_build.h"

static void taken_out_again(void **state)
{
    (void)state;
    struct world w;
    uint8_t before[FUNCTIONS][16], code[16];
    struct tt_inject_detached out;
    struct tt_error err = {0};
    char path[64];
    start_program(&w, "watch_target", true);
    snprintf(path, sizeof path, "/proc/%d/mem", (int)w.pid);
    int mem = open(path, O_RDONLY | O_CLOEXEC);
    uint64_t at[FUNCTIONS], size;
    assert_true(mem >= 0);
    for (size_t i = 0; i < FUNCTIONS; i++) {
        /* libc's are here as they ever were; attaching has changed some there already. */
        const void *own = dlsym(libc, functions[i].name);
        resolve(&w, functions[i].name, &at[i], &size);
        assert_int_equal(pread(mem, before[i], 16, (off_t)at[i]), 16);
        if (own)
            memcpy(before[i], own, 16);
    }
    place(&w);
    do_and_check(&w, 'f');
    assert_int_equal(tt_inject_detach(w.pid, true, &out, &err), 0);
    for (size_t i = 0; i < FUNCTIONS; i++) {
        assert_int_equal(pread(mem, code, 16, (off_t)at[i]), 16);
        assert_memory_equal(code, before[i], 16);
    }
    close(mem);
    assert_true(say(&w, 'f') && say(&w, 's') && say(&w, 'R'));
    finish(&w);
}

static void refusals(void **state)
{
    (void)state;
    struct world w;
    struct tt_error err = {0};
    start_program(&w, "watch_target", true);
    struct tt_inject_watch watch[4] = {{.index = -1, .throws = true, .row = functions[0].row},
                                       {.index = -1, .throws = true, .row = functions[15].row},
                                       {.index = -1, .row = functions[0].row},
                                       {.index = -1, .row = functions[0].row}};
    resolve(&w, "handle_acquire", &watch[0].row.address, &watch[0].size);
    resolve(&w, "close", &watch[1].row.address, &watch[1].size);
    resolve(&w, "close", &watch[2].row.address, &watch[2].size);
    resolve(&w, "open", &watch[3].row.address, &watch[3].size);
    watch[3].size = 3;
    assert_int_equal(tt_inject_watch(w.pid, w.pads, 2, w.tape_fd, watch, 4, NULL, &err), 0);
    assert_int_equal(watch[0].result, -EOPNOTSUPP); /* needs a frame */
    assert_int_equal(watch[1].result, 0);           /* does not */
    assert_int_equal(watch[2].result, -EALREADY);
    assert_int_equal(watch[3].result, -EOPNOTSUPP);
    do_and_check(&w, '-');
    finish(&w);
}

/* Everything in one process, after other attaches too; more than the pads have room for. */
#define ATTACHES 15
static void attached_again(void **state)
{
    (void)state;
    struct world w;
    struct tt_inject_detached out;
    struct tt_error err = {0};
    start(&w, true);
    assert_true(say(&w, 'f') && say(&w, 't'));
    for (int i = 0; i < ATTACHES; i++) {
        assert_int_equal(tt_inject_detach(w.pid, true, &out, &err), 0);
        assert_true(say(&w, 'f'));
        close_tape(&w);
        assert_true(attach(&w, TT_MODE_SAMPLED));
        place(&w);
    }
    for (const char *what = "fpsmRcC"; *what; what++)
        do_and_check(&w, *what);
    finish(&w);
}

/* Whether a thread of the process waits in accept. */
static bool in_accept(pid_t pid)
{
    char path[300], text[32];
    bool found = false;
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *d = opendir(path);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL && !found;) {
        snprintf(path, sizeof path, "/proc/%d/task/%.20s/syscall", (int)pid, e->d_name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
        text[n > 0 ? n : 0] = '\0';
        found = atoi(text) == SYS_accept;
        if (fd >= 0)
            close(fd);
    }
    closedir(d);
    return found;
}

/* A call that began under one recording, over its end, comes back under the next. */
static void comes_back_into_the_next(void **state)
{
    (void)state;
    struct world w;
    struct tt_inject_detached out;
    struct tt_error err = {0};
    start(&w, true);
    assert_true(say(&w, 'B'));
    while (!in_accept(w.pid))
        usleep(1000);
    assert_int_equal(tt_inject_detach(w.pid, true, &out, &err), 0);
    close_tape(&w);
    assert_true(attach(&w, TT_MODE_EXACT));
    place(&w);
    assert_true(say(&w, 'f'));
    check_fds(&w);
    assert_true(say(&w, 'U'));
    bool now[FDS];
    size_t unknown = 0;
    open_fds(w.pid, now);
    for (int fd = 0; fd < FDS; fd++)
        unknown += now[fd] && !w.before[fd] && !find_held(&w, TT_SPACE_FD, (uint64_t)fd);
    assert_int_equal(unknown, 1); /* nobody knows when it was accepted */
    check_sites(&w);
    finish(&w);
}

/* A forked child has a tape of its own, the same watches, and nothing that it holds yet. */
static void forked_child(void **state)
{
    (void)state;
    struct world w, child = {.tape_fd = -1};
    char library[700], tape[64], path[300];
    build_path(library, sizeof library, "src/agent/libtelltale-agent.so");
    snprintf(tape, sizeof tape, "/tmp/test_watch.XXXXXX");
    assert_non_null(mkdtemp(tape));
    memset(&w, 0, sizeof w);
    spawn_in(&w, "watch_target", library, tape, "mode=exact,follow=1");
    open_tape(&w);
    place(&w);
    do_and_check(&w, 'f');
    assert_true(say(&w, 'F'));
    for (size_t i = 0; i < TT_TAPE_HELD && !child.pid; i++)
        if (held(&w, i) && held(&w, i)->space == TT_SPACE_CHILD)
            child.pid = (pid_t)held(&w, i)->value;
    assert_true(child.pid > 0);
    snprintf(path, sizeof path, "%s/tape.%d.0", tape, (int)child.pid);
    struct stat made = {0}; /* it is there before it has its size */
    while (child.tape_fd < 0 || fstat(child.tape_fd, &made) != 0 ||
           made.st_size < (off_t)TT_TAPE_OFF_FRAMES) {
        if (child.tape_fd < 0)
            child.tape_fd = open(path, O_RDWR | O_CLOEXEC);
        usleep(1000);
    }
    child.tape = mmap(NULL, TT_TAPE_OFF_FRAMES, PROT_READ, MAP_SHARED, child.tape_fd, 0);
    assert_true(child.tape != MAP_FAILED);
    while (head(&child)->magic == 0 || count_held(&child, 0, 0) != 1 ||
           count_sites(&child, TT_KIND_FD, NULL) != 1)
        usleep(1000);
    assert_memory_equal(child.tape + TT_TAPE_OFF_WATCHES, w.tape + TT_TAPE_OFF_WATCHES, 40);
    check_fds(&w);
    check_sites(&w);
    assert_int_equal(kill(child.pid, SIGKILL), 0);
    close_tape(&child);
    unlink(path);
    finish(&w);
    rmdir(tape);
}

/* Through a frame of ours, which the preload library has unwind tables for. */
static void exceptions(void **state)
{
    (void)state;
    struct world w;
    struct tt_error err = {0};
    char path[700];
    build_path(path, sizeof path, "tests/unit/watch_throw");
    if (access(path, X_OK) != 0)
        skip(); /* built without a C++ compiler */
    start_program(&w, "watch_throw", false);
    struct tt_inject_watch watch = {
        .row = DECLARED(ACQUIRE, TT_FROM_RETURN, NOT_NEGATIVE), .index = -1, .throws = true};
    resolve(&w, "_Z11make_handleiRKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE",
            &watch.row.address, &watch.size);
    assert_int_equal(tt_inject_watch(w.pid, w.pads, 2, w.tape_fd, &watch, 1, NULL, &err), 0);
    assert_int_equal(watch.result, 0);
    assert_true(say(&w, 'x'));
    assert_int_equal(count_held(&w, TT_SPACE_DECLARED, 0), 2);
    check_sites(&w);
    finish(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(taken_out_again), cmocka_unit_test(refusals),
        cmocka_unit_test(attached_again),  cmocka_unit_test(comes_back_into_the_next),
        cmocka_unit_test(forked_child),    cmocka_unit_test(exceptions),
    };
    return cmocka_run_group_tests(tests, find_libc, NULL);
}
