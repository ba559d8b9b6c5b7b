/* SPDX-License-Identifier: Apache-2.0 */
/* Operations are counted exactly: the stubs, the agent's places and the recorder's sum together, in
 * a program that enters the function in all the ways in which counts could be lost (count_target.c)
 * and is read all the while. Start: main's table. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "inject/inject.h"
#include "record/internal.h"
#include "test_build.h"

struct counted {
    pid_t pid;
    FILE *says;
    int tell;
    char tapes[64];
    struct tt_tape tape;
};

static void begin(struct counted *c, const char *conf)
{
    char agent[500], program[500];
    int in[2], out[2];
    build_path(agent, sizeof agent, "src/agent/libtelltale-agent.so");
    build_path(program, sizeof program, "tests/unit/count_target");
    strcpy(c->tapes,
           access("/dev/shm", W_OK) == 0 ? "/dev/shm/test_count.XXXXXX" : "/tmp/test_count.XXXXXX");
    assert_non_null(mkdtemp(c->tapes));
    assert_int_equal(pipe2(in, O_CLOEXEC) | pipe2(out, O_CLOEXEC), 0);
    c->pid = fork();
    if (c->pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        setenv("LD_PRELOAD", agent, 1);
        setenv(TT_TAPE_ENV_DIR, c->tapes, 1);
        setenv(TT_TAPE_ENV_CONF, conf, 1);
        execl(program, program, (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    c->tell = in[1];
    c->says = fdopen(out[0], "r");
    assert_non_null(c->says);
}

/* What is in the tapes of children and in its own, which go. */
static uint64_t sum_up(const struct counted *c)
{
    uint64_t sum = 0;
    DIR *dir = opendir(c->tapes);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        if (e->d_name[0] != 't')
            continue;
        struct tt_tape tape = {.fd = openat(dirfd(dir), e->d_name, O_RDWR | O_CLOEXEC)};
        assert_true(tape.fd >= 0);
        assert_int_equal(tt_tape_read_totals(&tape), 0);
        sum += tape.ops[0];
        tt_tape_free(&tape);
        unlinkat(dirfd(dir), e->d_name, 0);
    }
    closedir(dir);
    return sum;
}

static void finish(struct counted *c)
{
    int status;
    assert_int_equal(write(c->tell, "\n", 1), 1);
    assert_int_equal(waitpid(c->pid, &status, 0), c->pid);
    assert_int_equal(status, 0);
    fclose(c->says);
    close(c->tell);
    tt_tape_free(&c->tape);
    assert_int_equal(rmdir(c->tapes), 0);
}

static void abandon(struct counted *c)
{
    kill(c->pid, SIGKILL);
    waitpid(c->pid, NULL, 0);
    sum_up(c);
    rmdir(c->tapes);
}

static void open_tape(struct counted *c)
{
    char path[120];
    snprintf(path, sizeof path, "%s/tape.%d.0", c->tapes, (int)c->pid);
    c->tape = (struct tt_tape){.fd = open(path, O_RDWR | O_CLOEXEC)};
    assert_true(c->tape.fd >= 0);
    assert_int_equal(tt_tape_read_head(&c->tape), 0);
    assert_int_equal(c->tape.head.state, TT_STATE_RUNNING);
    assert_true(c->tape.head.states != 0);
}

/* Where the tape lies in the target. */
static uint64_t base_of(const struct counted *c)
{
    struct tt_proc_maps maps = {0};
    struct stat st;
    uint64_t base = 0;
    assert_int_equal(fstat(c->tape.fd, &st), 0);
    assert_int_equal(tt_proc_maps_read(c->pid, &maps), 0);
    for (size_t i = 0; i < maps.maps.len; i++)
        if (maps.maps.data[i].inode == st.st_ino && maps.maps.data[i].offset == 0)
            base = maps.maps.data[i].start;
    tt_proc_maps_free(&maps);
    assert_true(base != 0);
    return base;
}

/* As the recorder does (record/count.c). -EPERM: in a container without ptrace. */
static int place_stub(struct counted *c, uint64_t function, uint64_t size)
{
    const struct tt_tape_head *h = &c->tape.head;
    struct tt_inject_pad pads[2] = {{h->pad_base, h->pad_size, 0}, {h->pad2_base, h->pad2_size, 0}};
    const struct tt_inject_states states = {h->states, h->states_bytes};
    struct tt_inject_entry e = {
        .function = function,
        .size = size,
        .counter =
            base_of(c) + offsetof(struct tt_tape_head, ops) + offsetof(struct tt_tape_op, count),
        .own = offsetof(struct tt_tape_thread, ops),
        .result = -EAGAIN,
    };
    struct tt_error err = {0};
    while (e.result == -EAGAIN) {
        int r = tt_inject_count(c->pid, pads, 2, &states, &e, 1, NULL, &err);
        if (r == -EPERM)
            return r;
        if (r != 0 && r != -EAGAIN && r != -ETIMEDOUT)
            fail_msg("%s", err.text);
    }
    if (e.result)
        fail_msg("%s", e.why);
    return 0;
}

/* Reads until the program has said how often; no reading is below the one before. */
static uint64_t watch_it(struct counted *c)
{
    struct pollfd said = {.fd = fileno(c->says), .events = POLLIN};
    uint64_t last = 0, truth = 0, readings = 0;
    for (uint32_t tick = 1; poll(&said, 1, 0) == 0; tick++) {
        tt_tape_tick(&c->tape, tick, 0, false);
        assert_int_equal(tt_tape_read_totals(&c->tape), 0);
        assert_true(c->tape.ops[0] >= last);
        last = c->tape.ops[0];
        readings++;
    }
    assert_int_equal(fscanf(c->says, "%lu", &truth), 1);
    assert_true(readings > 10);
    return truth;
}

static void count(const char *conf)
{
    struct counted c = {0};
    unsigned long function, size;
    begin(&c, conf);
    assert_int_equal(fscanf(c.says, "%lx %lx", &function, &size), 2);
    open_tape(&c);
    tt_tape_tick(&c.tape, 1, 0, false);
    if (place_stub(&c, function, size) == -EPERM) {
        abandon(&c);
        skip();
    }
    assert_int_equal(write(c.tell, "\n", 1), 1);
    uint64_t truth = watch_it(&c);
    assert_int_equal(tt_tape_read_totals(&c.tape), 0);
    assert_int_equal(sum_up(&c), truth);
    /* And most of them by the short way, else this was a test of the lock. */
    assert_true(c.tape.head.ops[0].count < truth / 2);
    finish(&c);
}

static void all_are_counted_in_exact_mode(void **state)
{
    (void)state;
    count("mode=exact");
}

static void all_are_counted_in_sampled_mode(void **state)
{
    (void)state;
    count("mode=sampled,mean=1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_are_counted_in_exact_mode),
        cmocka_unit_test(all_are_counted_in_sampled_mode),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
