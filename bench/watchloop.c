/* SPDX-License-Identifier: Apache-2.0 */
/* What watched functions cost: a child calls them in loops, by turns with the watches in place
 * (attached, as the recorder does it) and without, so that both are measured in one process within
 * the same second. A round is many short slices, of which the least counts: what else the machine
 * does lengthens some, never all. Prints for each loop the least time of a round without and with,
 * and the median of the differences of neighbouring rounds. Two loops call functions of our own
 * that do nothing, so that the watches are seen alone. Usage: watchloop [ROUNDS [BLOB [LOOP]]],
 * LOOP a number from 0. Start: main. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "inject/attach.h"
#include "inject/watch.h"

#define TURNS 500 /* of a slice */
#define SLICES 60 /* of a round */
#define ROUNDS_MOST 100

static int zero, pair[2];

static void open_close(void)
{
    close(open("/dev/null", O_RDONLY));
}

static void dup_close(void)
{
    close(dup(zero));
}

static void read_file(void)
{
    char byte;
    if (read(zero, &byte, 1) != 1)
        abort();
}

static void read_socket(void)
{
    char byte;
    if (recv(pair[0], &byte, 1, MSG_DONTWAIT) >= 0)
        abort();
}

static void map_unmap(void)
{
    munmap(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 4096);
}

/* Descriptors that no kernel gave out. */
__attribute__((noinline)) int fake_open(int fd)
{
    __asm__ volatile("nop; nop; nop; nop; nop" : : : "memory");
    return fd;
}

__attribute__((noinline)) int fake_close(int fd)
{
    __asm__ volatile("nop; nop; nop; nop; nop" : : : "memory");
    return fd;
}

static void empty(void)
{
    fake_close(fake_open(40));
}

/* Below some frames, as in servers. */
__attribute__((noinline)) static void empty_deep(int depth)
{
    if (depth > 0)
        empty_deep(depth - 1);
    else
        empty();
    __asm__ volatile("" : : : "memory");
}

static void empty_at_20(void)
{
    empty_deep(15);
}

static const struct loop {
    const char *name;
    void (*turn)(void);
} loops[] = {{"open+close", open_close},       {"dup+close", dup_close},
             {"read of a file", read_file},    {"recv of a socket", read_socket},
             {"mmap+munmap", map_unmap},       {"nothing+nothing", empty},
             {"15 frames deeper", empty_at_20}};
#define LOOPS (sizeof loops / sizeof loops[0])

#define ROW(what_, space_, kind_, from_, valid_, flags_)                                           \
    {                                                                                              \
        .what = TT_WATCH_##what_, .space = TT_SPACE_##space_, .kind = TT_KIND_##kind_,             \
        .from = from_, .valid = TT_VALID_##valid_, .flags = flags_                                 \
    }
static const struct {
    const char *name;
    struct tt_tape_watch row;
} functions[] = {
    {"open", ROW(ACQUIRE, FD, FD, TT_FROM_RETURN, NOT_NEGATIVE, 0)},
    {"dup", ROW(ACQUIRE, FD, FD, TT_FROM_RETURN, NOT_NEGATIVE, TT_WATCH_LIKE)},
    {"socketpair", ROW(ACQUIRE, FD, SOCKET, TT_FROM_AT_ARG0 + 3, ZERO, TT_WATCH_PAIR)},
    {"close", ROW(RELEASE, FD, FD, TT_FROM_ARG0, ALWAYS, 0)},
    {"read", ROW(OWNER, FD, FD, TT_FROM_ARG0, ALWAYS, 0)},
    {"recv", ROW(OWNER, FD, FD, TT_FROM_ARG0, ALWAYS, 0)},
    {"mmap", ROW(MAP, MAPPING, MAPPING, TT_FROM_RETURN, NOT_MINUS_ONE, TT_WATCH_WIDE)},
    {"fake_open", ROW(ACQUIRE, FD, FD, TT_FROM_RETURN, NOT_NEGATIVE, 0)},
    {"fake_close", ROW(RELEASE, FD, FD, TT_FROM_ARG0, ALWAYS, 0)},
    {"munmap", ROW(UNMAP, MAPPING, MAPPING, TT_FROM_ARG0, ALWAYS, TT_WATCH_WIDE)},
};
#define FUNCTIONS (sizeof functions / sizeof functions[0])

static double now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static double slice(const struct loop *loop)
{
    double begin = now_ns();
    for (int i = 0; i < TURNS; i++)
        loop->turn();
    return (now_ns() - begin) / TURNS;
}

/* The child: for each number on `in` that loop, and its nanoseconds a turn on `out`. */
static void work(int in, int out)
{
    char which;
    zero = open("/dev/zero", O_RDONLY);
    if (zero < 0 || socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) != 0)
        _exit(1);
    while (read(in, &which, 1) == 1) {
        double each = slice(&loops[(int)which]);
        for (int i = 1; i < SLICES; i++) {
            double again = slice(&loops[(int)which]);
            each = again < each ? again : each;
        }
        if (write(out, &each, sizeof each) != (ssize_t)sizeof each)
            _exit(1);
    }
    _exit(0);
}

static double measure(int to, int from, char which)
{
    double each = -1;
    if (write(to, &which, 1) != 1 || read(from, &each, sizeof each) != (ssize_t)sizeof each) {
        fprintf(stderr, "watchloop: the child has gone\n");
        exit(1);
    }
    return each;
}

static void give_up(const struct tt_error *err)
{
    fprintf(stderr, "watchloop: %s\n", err->text);
    exit(1);
}

/* The child is our copy: functions have the same addresses in it. */
static void place(pid_t pid, const char *blob)
{
    const struct tt_inject_attach_options options = {
        .conf = {.mode = TT_MODE_SAMPLED, .mean = 1 << 30}, .blob = blob};
    const uint64_t far = ~0ULL >> 1; /* no recorder is about to beat */
    struct tt_inject_watch watch[FUNCTIONS];
    struct tt_inject_attached out;
    struct tt_tape_head *head = malloc(sizeof *head);
    struct tt_error err = {0};
    if (!head || tt_inject_attach(pid, &options, &out, &err) != 0)
        give_up(&err);
    if (pwrite(out.tape_fd, &far, 8, offsetof(struct tt_tape_head, heartbeat_ns)) != 8 ||
        pread(out.tape_fd, head, sizeof *head, 0) != (ssize_t)sizeof *head)
        exit(1);
    struct tt_inject_pad pads[2] = {{head->pad_base, head->pad_size, 0},
                                    {head->pad2_base, head->pad2_size, 0}};
    for (size_t i = 0; i < FUNCTIONS; i++) {
        Dl_info info;
        const ElfW(Sym) *symbol = NULL;
        void *at = dlsym(RTLD_DEFAULT, functions[i].name);
        if (!at || !dladdr1(at, &info, (void **)&symbol, RTLD_DL_SYMENT) || !symbol)
            exit(1);
        watch[i] =
            (struct tt_inject_watch){.row = functions[i].row, .size = symbol->st_size, .index = -1};
        watch[i].row.address = (uint64_t)at;
        watch[i].row.width = 4;
    }
    uint64_t stood;
    if (tt_inject_watch(pid, pads, 2, out.tape_fd, watch, FUNCTIONS, &stood, &err) != 0)
        give_up(&err);
    for (size_t i = 0; i < FUNCTIONS; i++)
        if (watch[i].result != 0)
            fprintf(stderr, "watchloop: %s: %s\n", functions[i].name, watch[i].why);
    close(out.tape_fd);
    tt_inject_attached_free(&out);
    free(head);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
    static double without[LOOPS][ROUNDS_MOST], with[LOOPS][ROUNDS_MOST], more[ROUNDS_MOST];
    int rounds = argc > 1 ? atoi(argv[1]) : 9, to[2], from[2];
    size_t first = argc > 3 ? (size_t)atoi(argv[3]) % LOOPS : 0,
           last = argc > 3 ? first + 1 : LOOPS;
    struct tt_inject_detached out;
    struct tt_error err = {0};
    if (rounds < 1 || rounds > ROUNDS_MOST || pipe(to) != 0 || pipe(from) != 0)
        return 2;
    pid_t pid = fork();
    if (pid == 0) {
        close(to[1]);
        close(from[0]);
        work(to[0], from[1]);
    }
    close(to[0]);
    close(from[1]);
    for (int r = 0; r < rounds; r++) {
        for (size_t i = first; i < last; i++)
            without[i][r] = measure(to[1], from[0], (char)i);
        place(pid, argc > 2 && *argv[2] ? argv[2] : NULL);
        for (size_t i = first; i < last; i++) {
            measure(to[1], from[0], (char)i); /* stacks and pages for the first time */
            with[i][r] = measure(to[1], from[0], (char)i);
        }
        if (tt_inject_detach(pid, true, &out, &err) != 0)
            give_up(&err);
    }
    for (size_t i = first; i < last; i++) {
        for (int r = 0; r < rounds; r++)
            more[r] = with[i][r] - without[i][r];
        qsort(without[i], (size_t)rounds, sizeof without[i][0], compare);
        qsort(with[i], (size_t)rounds, sizeof with[i][0], compare);
        qsort(more, (size_t)rounds, sizeof more[0], compare);
        printf("%-18s %7.1f ns, watched %7.1f ns: %+6.1f ns (median of %d pairs %+6.1f)\n",
               loops[i].name, without[i][0], with[i][0], with[i][0] - without[i][0], rounds,
               more[rounds / 2]);
    }
    close(to[1]);
    waitpid(pid, NULL, 0);
    return 0;
}
