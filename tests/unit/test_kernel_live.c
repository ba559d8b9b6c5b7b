/* SPDX-License-Identifier: Apache-2.0 */
/* src/kernel with the programs in the kernel: a child does what it is told, and its tape says
 * exactly that. Skipped where eBPF is not allowed, which is said. */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <netinet/in.h>
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
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernel/internal.h"
#include "kernel_child.h"

#define TAPES 16

static struct {
    struct tt_kernel *kernel;
    struct {
        pid_t pid;
        int fd;
        bool replaced;
    } tape[TAPES];
    int tapes;
} world;

static void arrived(void *arg, pid_t pid, int tape)
{
    (void)arg;
    assert_true(world.tapes < TAPES);
    world.tape[world.tapes].pid = pid;
    world.tape[world.tapes++].fd = tape;
}

static void replaced(void *arg, pid_t pid)
{
    (void)arg;
    for (int i = 0; i < world.tapes; i++)
        world.tape[i].replaced |= world.tape[i].pid == pid;
}

/* ---- the child ---- */

static int told[2], done[2];

static pid_t start(void)
{
    assert_int_equal(pipe(told) | pipe(done), 0);
    pid_t pid = fork();
    if (pid == 0) {
        char what;
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that failed leaves nobody */
        while (read(told[0], &what, 1) == 1) {
            kernel_child_act(what);
            if (write(done[1], &what, 1) != 1)
                break;
        }
        _exit(0);
    }
    return pid;
}

static void tell(const char *what)
{
    char byte;
    for (; *what; what++) {
        assert_int_equal(write(told[1], what, 1), 1);
        assert_int_equal(read(done[0], &byte, 1), 1);
    }
}

static void finish(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    for (int i = 0; i < 2; i++) {
        close(told[i]);
        close(done[i]);
    }
}

/* ---- what the tape says ---- */

struct sum {
    uint64_t births, deaths, held, sites;
};

static struct sum sum_of(int tape, enum tt_tape_kind kind)
{
    static struct tt_tape_held held[TT_TAPE_HELD];
    struct tt_tape_head head;
    struct sum sum = {0};
    assert_int_equal(pread(world.tape[tape].fd, &head, sizeof head, 0), sizeof head);
    for (uint32_t i = 1; i < head.site_count; i++) {
        struct tt_tape_site site;
        assert_int_equal(pread(world.tape[tape].fd, &site, sizeof site,
                               (off_t)(TT_TAPE_OFF_SITES + i * sizeof site)),
                         sizeof site);
        if (site.kind != kind || !site.births)
            continue;
        sum.sites++;
        sum.births += site.births;
        sum.deaths += site.early_deaths;
        for (unsigned bin = 1; bin < TT_TAPE_BINS; bin++)
            sum.deaths += site.deaths[bin];
    }
    assert_int_equal(pread(world.tape[tape].fd, held, sizeof held, TT_TAPE_OFF_HELD), sizeof held);
    for (uint32_t i = 0; i < TT_TAPE_HELD; i++)
        sum.held += (held[i].state & TT_HELD_MASK) == TT_HELD_LIVE && held[i].kind == kind;
    return sum;
}

/* Whether all units of a space say which descriptor they have, and it is one. */
static bool holds_descriptor(int tape, enum tt_tape_space space)
{
    static struct tt_tape_held held[TT_TAPE_HELD];
    bool all = true, any = false;
    assert_int_equal(pread(world.tape[tape].fd, held, sizeof held, TT_TAPE_OFF_HELD), sizeof held);
    for (uint32_t i = 0; i < TT_TAPE_HELD; i++) {
        if ((held[i].state & TT_HELD_MASK) != TT_HELD_LIVE || held[i].space != space)
            continue;
        bool found = false;
        for (uint32_t k = 0; k < TT_TAPE_HELD && !found; k++)
            found = (held[k].state & TT_HELD_MASK) == TT_HELD_LIVE &&
                    held[k].space == TT_SPACE_FD && held[k].value == (uint64_t)held[i].also;
        all &= found;
        any = true;
    }
    return all && any;
}

static void expect(int tape, enum tt_tape_kind kind, uint64_t births, uint64_t deaths)
{
    struct sum sum = sum_of(tape, kind);
    assert_int_equal(sum.births, births);
    assert_int_equal(sum.deaths, deaths);
    assert_int_equal(sum.held, births - deaths); /* the table and the counts agree */
}

static struct tt_tape_held held_of(int tape, enum tt_tape_space space, uint64_t value)
{
    static struct tt_tape_held held[TT_TAPE_HELD];
    assert_int_equal(pread(world.tape[tape].fd, held, sizeof held, TT_TAPE_OFF_HELD), sizeof held);
    for (uint32_t i = 0; i < TT_TAPE_HELD; i++)
        if ((held[i].state & TT_HELD_MASK) == TT_HELD_LIVE && held[i].space == space &&
            held[i].value == value)
            return held[i];
    return (struct tt_tape_held){0};
}

static struct tt_tape_owner owner_of(int tape, uint64_t fd)
{
    struct tt_tape_owner owner = {0};
    uint32_t id = held_of(tape, TT_SPACE_FD, fd).owner;
    if (id)
        assert_int_equal(pread(world.tape[tape].fd, &owner, sizeof owner,
                               (off_t)(TT_TAPE_OFF_OWNERS + id % TT_TAPE_OWNERS * sizeof owner)),
                         sizeof owner);
    assert_int_equal(owner.id, id);
    return owner;
}

/* ---- tests ---- */

static int set_up(void **state)
{
    const struct tt_kernel_options options = {
        .follow = true, .arrived = arrived, .replaced = replaced};
    struct tt_error err = {0};
    *state = &world;
    world.kernel = tt_kernel_open(&options, &err);
    if (!world.kernel) {
        printf("skipped: %s\n", err.text);
        exit(77);
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    tt_kernel_close(world.kernel);
    for (int i = 0; i < world.tapes; i++)
        close(world.tape[i].fd);
    return 0;
}

static void each_way_is_counted(void **state)
{
    (void)state;
    uint64_t births = 0, deaths = 0, sockets = 0, closed = 0;
    int tape = world.tapes;
    pid_t pid = start();
    assert_int_equal(tt_kernel_add(world.kernel, pid, false, NULL), 0);
    assert_int_equal(world.tapes, tape + 1);
    static const struct {
        const char *what;
        unsigned births, deaths, sockets, closed;
    } steps[] = {
        {"o", 10, 7, 0, 0}, {"oo", 20, 14, 0, 0}, {"m", 5000, 5000, 0, 0}, {"d", 3, 1, 0, 0},
        {"r", 3, 3, 0, 0},  {"p", 2, 1, 2, 1},    {"f", 0, 0, 0, 0},       {"h", 3, 1, 0, 0},
    };
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        tell(steps[i].what);
        births += steps[i].births;
        deaths += steps[i].deaths;
        sockets += steps[i].sockets;
        closed += steps[i].closed;
        tt_kernel_visit(world.kernel, (uint32_t)i, true);
        expect(tape, TT_KIND_FD, births, deaths);
        expect(tape, TT_KIND_SOCKET, sockets, closed);
    }
    tell("t");
    tell("i");
    tell("c");
    tt_kernel_visit(world.kernel, 100, true);
    expect(tape, TT_KIND_TIMER, 2, 1);
    expect(tape, TT_KIND_IPC, 1, 1);
    assert_int_equal(sum_of(tape, TT_KIND_CHILD).births, 2);
    finish(pid);
    tt_kernel_end(world.kernel, pid, 100);
}

/* By recvmsg at once; what no tracepoint tells of is seen in /proc, at the second look that agrees.
 */
static void passed_descriptors_are_found(void **state)
{
    (void)state;
    int tape = world.tapes;
    pid_t pid = start();
    assert_int_equal(tt_kernel_add(world.kernel, pid, false, NULL), 0);
    tell("s");
    tt_kernel_visit(world.kernel, 0, true);
    assert_int_equal(sum_of(tape, TT_KIND_FD).births, 1);
    assert_int_equal(sum_of(tape, TT_KIND_SOCKET).births, 2);
    tell("S");
    for (uint32_t tick = 0; tick < 3; tick++)
        tt_kernel_visit(world.kernel, tick, true);
    struct sum fds = sum_of(tape, TT_KIND_FD), sockets = sum_of(tape, TT_KIND_SOCKET);
    assert_int_equal(fds.births + sockets.births, 6);
    assert_int_equal(fds.held + sockets.held, 6);
    finish(pid);
    tt_kernel_end(world.kernel, pid, 3);
}

/* Children and the next program each get a tape, from their first call on. */
static void images_follow_each_other(void **state)
{
    (void)state;
    int tape = world.tapes;
    pid_t pid = start();
    assert_int_equal(tt_kernel_add(world.kernel, pid, false, NULL), 0);
    tell("c");
    tt_kernel_visit(world.kernel, 1, true);
    assert_int_equal(world.tapes, tape + 3);
    assert_int_equal(write(told[1], "x", 1), 1);
    while (world.tapes < tape + 4) {
        const struct timespec pause = {0, 1000000};
        nanosleep(&pause, NULL);
        tt_kernel_visit(world.kernel, 2, false);
    }
    assert_true(world.tape[tape].replaced);
    assert_int_equal(world.tape[tape + 3].pid, pid);
    finish(pid);
    tt_kernel_end(world.kernel, pid, 3);
}

struct place {
    uint64_t address, offset;
    char path[PATH_MAX];
};

static int in_segment(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct place *p = arg;
    (void)size;
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *h = &info->dlpi_phdr[i];
        uint64_t start = info->dlpi_addr + h->p_vaddr;
        if (h->p_type == PT_LOAD && p->address >= start && p->address < start + h->p_filesz) {
            p->offset = p->address - start + h->p_offset;
            if (*info->dlpi_name)
                snprintf(p->path, sizeof p->path, "%s", info->dlpi_name);
            else
                assert_true(readlink("/proc/self/exe", p->path, sizeof p->path - 1) > 0);
            return 1;
        }
    }
    return 0;
}

static struct place place_of(void (*f)(void))
{
    struct place p = {.address = (uint64_t)(uintptr_t)f};
    assert_int_equal(dl_iterate_phdr(in_segment, &p), 1);
    return p;
}

static void declare(pid_t pid, void (*f)(void), struct tt_kernel_function function)
{
    struct place p = place_of(f);
    function.offset = p.offset;
    function.flags |= TT_WATCH_WIDE;
    function.width = 8;
    assert_int_equal(tt_kernel_declare(world.kernel, pid, p.path, -1, &function, 1), 0);
}
#define DECLARE(name, i, kind, where, ok)                                                          \
    declare(pid, (void (*)(void))(name),                                                           \
            (struct tt_kernel_function){                                                           \
                .space = TT_SPACE_DECLARED + (i), .what = (kind), .from = (where), .valid = (ok)})
#define DECLARE_LIBRARY(name, where, kind, from_, ok, more)                                        \
    declare(pid, (void (*)(void))(name),                                                           \
            (struct tt_kernel_function){.space = (where),                                          \
                                        .what = (kind),                                            \
                                        .from = (from_),                                           \
                                        .valid = (ok),                                             \
                                        .flags = (more),                                           \
                                        .also = (more)&TT_WATCH_ALSO_FD ? FILENO : 0})
#define FILENO 112 /* src/resource/stream.c */

/* By what is returned, an argument, and what an argument points to; calls within calls. */
static void declared_handles_are_probed(void **state)
{
    (void)state;
    int tape = world.tapes;
    pid_t pid = start();
    assert_int_equal(tt_kernel_add(world.kernel, pid, false, NULL), 0);
    DECLARE(kernel_child_take, 0, TT_WATCH_ACQUIRE, TT_FROM_RETURN, TT_VALID_HANDLE);
    DECLARE(kernel_child_give, 0, TT_WATCH_RELEASE, TT_FROM_ARG0, TT_VALID_ALWAYS);
    DECLARE(kernel_child_take_nested, 0, TT_WATCH_ACQUIRE, TT_FROM_RETURN, TT_VALID_HANDLE);
    DECLARE(kernel_child_take_at, 1, TT_WATCH_ACQUIRE, TT_FROM_AT_ARG0 + 1, TT_VALID_ZERO);
    DECLARE(kernel_child_give_at, 1, TT_WATCH_RELEASE, TT_FROM_AT_ARG0, TT_VALID_ALWAYS);
    struct place f = place_of((void (*)(void))kernel_child_give);
    assert_int_equal(tt_kernel_count(world.kernel, f.path, f.offset, pid, 3), 0);
    assert_int_equal(tt_kernel_count(world.kernel, f.path, f.offset, pid, 3), 0); /* once */
    tell("H");
    tt_kernel_visit(world.kernel, 1, true);
    expect(tape, (enum tt_tape_kind)TT_KIND_DECLARED, 6, 2);
    expect(tape, (enum tt_tape_kind)(TT_KIND_DECLARED + 1), 2, 1);
    struct tt_tape_head head;
    assert_int_equal(pread(world.tape[tape].fd, &head, sizeof head, 0), sizeof head);
    assert_int_equal(head.ops[3].count, 2);
    finish(pid);
    tt_kernel_end(world.kernel, pid, 2);
}

/* Threads, streams and libraries: what no system call tells. */
static void the_c_library_is_probed(void **state)
{
    (void)state;
    int tape = world.tapes;
    pid_t pid = start();
    assert_int_equal(tt_kernel_add(world.kernel, pid, false, NULL), 0);
    DECLARE_LIBRARY(fclose, TT_SPACE_STREAM, TT_WATCH_RELEASE, TT_FROM_ARG0, TT_VALID_ALWAYS, 0);
    DECLARE_LIBRARY(fopen, TT_SPACE_STREAM, TT_WATCH_ACQUIRE, TT_FROM_RETURN, TT_VALID_NOT_NULL,
                    TT_WATCH_ALSO_FD);
    DECLARE_LIBRARY(fdopen, TT_SPACE_STREAM, TT_WATCH_ACQUIRE, TT_FROM_RETURN, TT_VALID_NOT_NULL,
                    TT_WATCH_ALSO_FD);
    DECLARE_LIBRARY(tmpfile, TT_SPACE_STREAM, TT_WATCH_ACQUIRE, TT_FROM_RETURN, TT_VALID_NOT_NULL,
                    TT_WATCH_ALSO_FD);
    DECLARE_LIBRARY(pthread_join, TT_SPACE_THREAD, TT_WATCH_RELEASE, TT_FROM_ARG0, TT_VALID_ZERO,
                    0);
    DECLARE_LIBRARY(pthread_detach, TT_SPACE_THREAD, TT_WATCH_RELEASE, TT_FROM_ARG0, TT_VALID_ZERO,
                    0);
    DECLARE_LIBRARY(pthread_create, TT_SPACE_THREAD, TT_WATCH_ACQUIRE, TT_FROM_AT_ARG0,
                    TT_VALID_ZERO, 0);
    DECLARE_LIBRARY(dlclose, TT_SPACE_LIBRARY, TT_WATCH_RELEASE, TT_FROM_ARG0, TT_VALID_ZERO,
                    TT_WATCH_COUNTED);
    DECLARE_LIBRARY(dlopen, TT_SPACE_LIBRARY, TT_WATCH_ACQUIRE, TT_FROM_RETURN, TT_VALID_NOT_NULL,
                    TT_WATCH_COUNTED);
    tt_kernel_watches(world.kernel, pid, TT_SPACE_LIBRARY);
    tell("L");
    tt_kernel_visit(world.kernel, 1, true);
    expect(tape, TT_KIND_STREAM, 3, 1);
    expect(tape, TT_KIND_THREAD, 60, 40);
    expect(tape, TT_KIND_LIBRARY, 3, 1);
#if !defined __SANITIZE_ADDRESS__ /* which maps memory of its own for each thread */
    assert_int_equal(sum_of(tape, TT_KIND_MAPPING).births, 0); /* stacks are the threads' */
#endif
    assert_true(holds_descriptor(tape, TT_SPACE_STREAM));
    finish(pid);
    tt_kernel_end(world.kernel, pid, 2);
}

static void ports_go_with_their_descriptor(void **state)
{
    (void)state;
    int tape = world.tapes;
    pid_t pid = start();
    assert_int_equal(tt_kernel_add(world.kernel, pid, false, NULL), 0);
    tell("b");
    tt_kernel_visit(world.kernel, 1, true);
    expect(tape, TT_KIND_PORT, 2, 1);
    expect(tape, TT_KIND_SOCKET, 4, 1);
    finish(pid);
    tt_kernel_end(world.kernel, pid, 2);
}

static void units_know_for_whom(void **state)
{
    (void)state;
    int tape = world.tapes;
    pid_t pid = start();
    assert_int_equal(tt_kernel_add(world.kernel, pid, false, NULL), 0);
    tell("w");
    tt_kernel_visit(world.kernel, 1, true);
    struct tt_tape_owner client = owner_of(tape, 600), sender = owner_of(tape, 601),
                         peer = owner_of(tape, 602), again = owner_of(tape, 604);
    struct sockaddr_in address;
    assert_int_equal(client.how, TT_OWNER_CONNECTION);
    memcpy(&address, client.address, sizeof address);
    assert_int_equal(address.sin_family, AF_INET);
    assert_int_equal(address.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    assert_int_not_equal(address.sin_port, 0);
    assert_int_equal(client.end, 0);
    assert_int_equal(again.id, client.id);
    assert_int_equal(sender.how, TT_OWNER_SENDER);
    memcpy(&address, sender.address, sizeof address);
    assert_int_equal(address.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    assert_int_equal(peer.peer_pid, pid); /* both ends are the child's */
    assert_int_not_equal(peer.end, 0);
    assert_int_equal(held_of(tape, TT_SPACE_FD, 603).owner, 0);
    assert_int_equal(held_of(tape, TT_SPACE_FD, 605).owner, 0);
    finish(pid);
    tt_kernel_end(world.kernel, pid, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_way_is_counted),
        cmocka_unit_test(passed_descriptors_are_found),
        cmocka_unit_test(images_follow_each_other),
        cmocka_unit_test(declared_handles_are_probed),
        cmocka_unit_test(the_c_library_is_probed),
        cmocka_unit_test(ports_go_with_their_descriptor),
        cmocka_unit_test(units_know_for_whom),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
