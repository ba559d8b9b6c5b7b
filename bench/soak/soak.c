/* SPDX-License-Identifier: Apache-2.0 */
/* The controller of the soak (soak.py): attaches to a process and detaches again, many times,
 * through the same functions as `telltale attach`, and looks after each detach whether every
 * executable byte of the program and its libraries is what it was before the first. Prints one JSON
 * object: cycles, failures by cause, stop times. Start: main. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/vec.h"
#include "inject/attach.h"
#include "proc/proc.h"
#include "tape/tape.h"

#define CAUSES 16u

/* Code of the target as it was: all executable mappings of files. */
struct code {
    uint64_t start, bytes;
    uint8_t *was;
};
struct soak {
    pid_t pid;
    int mem;
    TT_VEC(struct code) code;
    TT_VEC(double) attach_ms, start_ms, detach_ms;
    struct {
        char text[256];
        unsigned times;
    } cause[CAUSES];
    unsigned failures, kept, kept_last, recorded;
};

static int keep_code(struct soak *s)
{
    struct tt_proc_maps maps = {0};
    int r = tt_proc_maps_read(s->pid, &maps);
    for (size_t i = 0; r == 0 && i < maps.maps.len; i++) {
        const struct tt_proc_map *m = &maps.maps.data[i];
        if (!m->exec || m->inode == 0)
            continue;
        struct code c = {.start = m->start, .bytes = m->end - m->start};
        c.was = malloc(c.bytes);
        if (!c.was || pread(s->mem, c.was, c.bytes, (off_t)c.start) != (ssize_t)c.bytes ||
            tt_vec_push(&s->code, c))
            r = -EIO;
    }
    tt_proc_maps_free(&maps);
    return r;
}

/* How many places differ from what they were. */
static unsigned changed(const struct soak *s)
{
    unsigned n = 0;
    static uint8_t now[1 << 16];
    for (size_t i = 0; i < s->code.len; i++) {
        const struct code *c = &s->code.data[i];
        for (uint64_t at = 0; at < c->bytes; at += sizeof now) {
            size_t piece = c->bytes - at < sizeof now ? (size_t)(c->bytes - at) : sizeof now;
            n += pread(s->mem, now, piece, (off_t)(c->start + at)) != (ssize_t)piece ||
                 memcmp(now, c->was + at, piece) != 0;
        }
    }
    return n;
}

static void note(struct soak *s, const char *text)
{
    s->failures++;
    for (unsigned i = 0; i < CAUSES; i++) {
        if (s->cause[i].times && strcmp(s->cause[i].text, text) != 0)
            continue;
        snprintf(s->cause[i].text, sizeof s->cause[i].text, "%s", text);
        s->cause[i].times++;
        return;
    }
}

static void rest(double ms)
{
    long ns = (long)(ms * 1e6);
    const struct timespec pause = {ns / 1000000000L, ns % 1000000000L};
    nanosleep(&pause, NULL);
}

static int cycle(struct soak *s, uint32_t mode, double hold_ms, bool look)
{
    struct tt_error err = {0};
    struct tt_inject_attach_options options = {
        .conf = {.mode = mode, .rate = 8, .mean = 65536, .origin_ns = tt_clock_now()}};
    struct tt_inject_attached attached = {0};
    struct tt_inject_detached detached = {0};
    if (tt_inject_attach(s->pid, &options, &attached, &err) != 0) {
        note(s, err.text);
        return -1;
    }
    rest(hold_ms);
    struct tt_tape_head head;
    if (pread(attached.tape_fd, &head, sizeof head, 0) == (ssize_t)sizeof head)
        s->recorded += head.site_count > 1;
    int r = tt_inject_detach(s->pid, true, &detached, &err);
    if (r != 0)
        note(s, err.text);
    if (tt_vec_push(&s->attach_ms, (double)attached.stop_ns * 1e-6) ||
        tt_vec_push(&s->start_ms, (double)attached.start_ns * 1e-6) ||
        tt_vec_push(&s->detach_ms, (double)detached.stop_ns * 1e-6))
        r = -ENOMEM;
    close(attached.tape_fd);
    attached.tape_fd = -1;
    tt_inject_attached_free(&attached);
    s->kept += detached.kept != 0;
    s->kept_last = detached.kept;
    if (r == 0 && look && detached.kept == 0 && changed(s) != 0) {
        note(s, "code differs from what it was before");
        r = -1;
    }
    return r;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_times(const char *name, double *ms, size_t n)
{
    if (!n)
        return;
    qsort(ms, n, sizeof *ms, ascending);
    printf(", \"%s\": {\"median\": %.4f, \"p95\": %.4f, \"max\": %.4f}", name, ms[n / 2],
           ms[n * 95 / 100], ms[n - 1]);
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: soak PID CYCLES exact|sampled|both HOLD_MS BETWEEN_MS\n");
        return 2;
    }
    struct soak s = {.pid = (pid_t)strtol(argv[1], NULL, 10)};
    long cycles = strtol(argv[2], NULL, 10);
    double hold = strtod(argv[4], NULL), between = strtod(argv[5], NULL);
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", (int)s.pid);
    s.mem = open(path, O_RDONLY | O_CLOEXEC);
    if (s.mem < 0 || keep_code(&s) != 0) {
        fprintf(stderr, "soak: cannot read the code of process %d\n", (int)s.pid);
        return 3;
    }
    long done = 0;
    for (; done < cycles && kill(s.pid, 0) == 0 && s.failures < 20; done++) {
        uint32_t mode = strcmp(argv[3], "exact") == 0     ? TT_MODE_EXACT
                        : strcmp(argv[3], "sampled") == 0 ? TT_MODE_SAMPLED
                        : done % 2                        ? TT_MODE_SAMPLED
                                                          : TT_MODE_EXACT;
        cycle(&s, mode, hold, done % 16 == 0 || done + 1 == cycles);
        rest(between);
    }
    printf("{\"cycles\": %ld, \"failures\": %u, \"recorded\": %u, \"kept\": %u, \"changed\": %u",
           done, s.failures, s.recorded, s.kept, s.kept_last ? 0 : changed(&s));
    print_times("attach_ms", s.attach_ms.data, s.attach_ms.len);
    print_times("start_ms", s.start_ms.data, s.start_ms.len);
    print_times("detach_ms", s.detach_ms.data, s.detach_ms.len);
    printf(", \"causes\": {");
    for (unsigned i = 0; i < CAUSES && s.cause[i].times; i++) {
        printf("%s\"", i ? ", " : "");
        for (const char *p = s.cause[i].text; *p; p++)
            if (*p != '"' && *p != '\\' && *p >= ' ')
                putchar(*p);
        printf("\": %u", s.cause[i].times);
    }
    printf("}}\n");
    return s.failures || (!s.kept_last && changed(&s)) ? 1 : 0;
}
