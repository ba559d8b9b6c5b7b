/* SPDX-License-Identifier: Apache-2.0 */
/* Watched functions, in a process of their own (watch_target.c) that has the agent preloaded or is
 * attached to: after each thing that it does, the units held in its tape must be exactly the
 * descriptors that /proc shows, births less deaths of the sites must be as many, and so on for
 * threads, children and mappings. Start: everything. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <inttypes.h>
#include <libelf.h>
#include <link.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "inject/attach.h"
#include "inject/watch.h"
#include "proc/proc.h"

#define FDS 1024
#define PAGE 4096u

static char build[512]; /* top of the build tree */
static void *libc;      /* and no sanitizer's functions of the same names */

/* ---- the rows ---- */

#define OF_FD(kind_, what_, from_, valid_, ...)                                                    \
    {                                                                                              \
        .what = TT_WATCH_##what_, .space = TT_SPACE_FD, .kind = TT_KIND_##kind_, .from = from_,    \
        .valid = TT_VALID_##valid_, __VA_ARGS__                                                    \
    }
#define FD(...) OF_FD(FD, __VA_ARGS__)
#define SOCKET(...) OF_FD(SOCKET, __VA_ARGS__)
#define ARG(n) (TT_FROM_ARG0 + (n))
#define AT(n) (TT_FROM_AT_ARG0 + (n))

struct function {
    const char *name;
    struct tt_tape_watch row;
};
static const struct function functions[] = {
    {"open", FD(ACQUIRE, TT_FROM_RETURN, NOT_NEGATIVE)},
    {"openat", FD(ACQUIRE, TT_FROM_RETURN, NOT_NEGATIVE)},
    {"creat", FD(ACQUIRE, TT_FROM_RETURN, NOT_NEGATIVE)},
    {"__open_nocancel", FD(ACQUIRE, TT_FROM_RETURN, NOT_NEGATIVE)},
    {"dup", FD(ACQUIRE, TT_FROM_RETURN, NOT_NEGATIVE, .flags = TT_WATCH_LIKE)},
    {"dup2", FD(REPLACE, TT_FROM_RETURN, NOT_NEGATIVE, .flags = TT_WATCH_LIKE)},
    {"dup3", FD(REPLACE, TT_FROM_RETURN, NOT_NEGATIVE, .flags = TT_WATCH_LIKE)},
    {"fcntl", FD(ACQUIRE, TT_FROM_RETURN, NOT_NEGATIVE, .flags = TT_WATCH_LIKE, .when = ARG(1),
                 .values = {F_DUPFD, F_DUPFD_CLOEXEC})},
    {"pipe", FD(ACQUIRE, AT(0), ZERO, .flags = TT_WATCH_PAIR, .width = 4)},
    {"pipe2", FD(ACQUIRE, AT(0), ZERO, .flags = TT_WATCH_PAIR, .width = 4)},
    {"socketpair", SOCKET(ACQUIRE, AT(3), ZERO, .flags = TT_WATCH_PAIR, .width = 4)},
    {"socket", SOCKET(ACQUIRE, TT_FROM_RETURN, NOT_NEGATIVE)},
    {"accept", SOCKET(ACCEPT, TT_FROM_RETURN, NOT_NEGATIVE)},
    {"accept4", SOCKET(ACCEPT, TT_FROM_RETURN, NOT_NEGATIVE)},
    {"recvmsg", FD(PASSED, TT_FROM_NONE, NOT_NEGATIVE)},
    {"close", FD(RELEASE, ARG(0), ALWAYS)},
    {"__close_nocancel", FD(RELEASE, ARG(0), ALWAYS)},
    {"kept_open", FD(ACQUIRE, TT_FROM_RETURN, NOT_NEGATIVE)},
    {"kept_close", FD(RELEASE, ARG(0), ALWAYS)},
    {"close_range", FD(RANGE, TT_FROM_NONE, ALWAYS, .size = ARG(1))},
    {"closefrom", FD(RANGE, TT_FROM_NONE, ALWAYS)},
    {"bind",
     {.what = TT_WATCH_BIND,
      .space = TT_SPACE_PORT,
      .kind = TT_KIND_PORT,
      .from = AT(1),
      .valid = TT_VALID_ZERO}},
    {"connect",
     {.what = TT_WATCH_BIND,
      .space = TT_SPACE_PORT,
      .kind = TT_KIND_PORT,
      .valid = TT_VALID_ALWAYS}},
    {"read", {.what = TT_WATCH_OWNER}},
    {"recv", {.what = TT_WATCH_OWNER}},
    {"recvfrom", {.what = TT_WATCH_FROM}},
#define STREAM(what_, from_, valid_, also_)                                                        \
    {                                                                                              \
        .what = TT_WATCH_##what_, .space = (also_) ? TT_SPACE_STREAM : TT_SPACE_DIRECTORY,         \
        .kind = (also_) ? TT_KIND_STREAM : TT_KIND_DIRECTORY, .from = from_,                       \
        .valid = TT_VALID_##valid_, .width = 8, .flags = TT_WATCH_WIDE | TT_WATCH_ALSO_FD,         \
        .also = also_                                                                              \
    }
    {"fopen", STREAM(ACQUIRE, TT_FROM_RETURN, NOT_NULL, 112)},
    {"fdopen", STREAM(ACQUIRE, TT_FROM_RETURN, NOT_NULL, 112)},
    {"popen", STREAM(ACQUIRE, TT_FROM_RETURN, NOT_NULL, 112)},
    {"fclose", STREAM(RELEASE, ARG(0), ALWAYS, 112)},
    {"pclose", STREAM(RELEASE, ARG(0), ALWAYS, 112)},
    {"opendir", STREAM(ACQUIRE, TT_FROM_RETURN, NOT_NULL, 0)},
    {"closedir", STREAM(RELEASE, ARG(0), ALWAYS, 0)},
    {"dlopen",
     {.what = TT_WATCH_ACQUIRE,
      .space = TT_SPACE_LIBRARY,
      .kind = TT_KIND_LIBRARY,
      .from = TT_FROM_RETURN,
      .valid = TT_VALID_HANDLE,
      .flags = TT_WATCH_COUNTED | TT_WATCH_WIDE}},
    {"dlclose",
     {.what = TT_WATCH_RELEASE,
      .space = TT_SPACE_LIBRARY,
      .kind = TT_KIND_LIBRARY,
      .from = ARG(0),
      .width = 8,
      .valid = TT_VALID_ZERO,
      .flags = TT_WATCH_COUNTED}},
#define MAPPING(what_, from_)                                                                      \
    {                                                                                              \
        .what = TT_WATCH_##what_, .space = TT_SPACE_MAPPING, .kind = TT_KIND_MAPPING,              \
        .from = from_, .valid = TT_VALID_NOT_MINUS_ONE, .flags = TT_WATCH_WIDE                     \
    }
    {"mmap", MAPPING(MAP, TT_FROM_RETURN)},
    {"munmap", MAPPING(UNMAP, ARG(0))},
    {"mremap", MAPPING(REMAP, TT_FROM_RETURN)},
#define THREAD(what_, from_)                                                                       \
    {                                                                                              \
        .what = TT_WATCH_##what_, .space = TT_SPACE_THREAD, .kind = TT_KIND_THREAD, .from = from_, \
        .valid = TT_VALID_ZERO, .width = 8                                                         \
    }
    {"pthread_create", THREAD(THREAD, AT(0))},
    {"pthread_join", THREAD(RELEASE, ARG(0))},
    {"pthread_detach", THREAD(RELEASE, ARG(0))},
#define CHILD(what_, from_, valid_, ...)                                                           \
    {                                                                                              \
        .what = TT_WATCH_##what_, .space = TT_SPACE_CHILD, .kind = TT_KIND_CHILD, .from = from_,   \
        .valid = TT_VALID_##valid_, .width = 4, __VA_ARGS__                                        \
    }
    {"fork", CHILD(FORK, TT_FROM_RETURN, NOT_NEGATIVE)},
    {"vfork", CHILD(VFORK, TT_FROM_RETURN, NOT_NEGATIVE)},
    {"posix_spawn", CHILD(SPAWN, AT(0), ZERO)},
    {"posix_spawnp", CHILD(SPAWN, AT(0), ZERO)},
    {"wait", CHILD(WAIT, AT(0), ALWAYS)},
    {"waitpid", CHILD(WAIT, AT(1), ALWAYS, .size = ARG(2))},
    {"wait4", CHILD(WAIT, AT(1), ALWAYS, .size = ARG(2))},
    {"waitid", CHILD(WAITID, TT_FROM_NONE, ALWAYS)},
#define DECLARED(what_, from_, valid_, ...)                                                        \
    {                                                                                              \
        .what = TT_WATCH_##what_, .space = TT_SPACE_DECLARED, .kind = TT_KIND_DECLARED,            \
        .from = from_, .valid = TT_VALID_##valid_, .width = 4, __VA_ARGS__                         \
    }
    {"handle_acquire", DECLARED(ACQUIRE, AT(1), ZERO)},
    {"handle_release", DECLARED(RELEASE, ARG(0), ZERO)},
    {"handle_probe", DECLARED(ACQUIRE, ARG(0), ALWAYS, .flags = TT_WATCH_PROBE | TT_WATCH_ONCE)},
    {"handle_many", DECLARED(ACQUIRE, ARG(0), ALWAYS, .size = ARG(5), .flags = TT_WATCH_WIDE)},
};
#define FUNCTIONS (sizeof functions / sizeof functions[0])

/* ---- the process ---- */

struct world {
    pid_t pid;
    int to, from; /* pipes */
    int tape_fd;
    const uint8_t *tape;
    struct tt_inject_pad pads[2];
    bool before[FDS]; /* open before anything was watched */
    bool attached;
    struct tt_inject_watch watch[FUNCTIONS];
};

static const struct tt_tape_head *head(const struct world *w)
{
    return (const struct tt_tape_head *)(const void *)w->tape;
}

static void open_fds(pid_t pid, bool open[FDS])
{
    char path[64];
    memset(open, 0, FDS * sizeof *open);
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *d = opendir(path);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        if (*e->d_name != '.' && atoi(e->d_name) < FDS)
            open[atoi(e->d_name)] = true;
    closedir(d);
}

/* Of the program, by its symbol table. */
static void find_symbol(const char *path, const char *name, GElf_Sym *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    elf_version(EV_CURRENT);
    Elf *elf = elf_begin(fd, ELF_C_READ, NULL);
    memset(out, 0, sizeof *out);
    for (Elf_Scn *scn = NULL; (scn = elf_nextscn(elf, scn)) != NULL;) {
        GElf_Shdr sh;
        if (!gelf_getshdr(scn, &sh) || sh.sh_type != SHT_SYMTAB)
            continue;
        Elf_Data *data = elf_getdata(scn, NULL);
        for (size_t i = 0; i < sh.sh_size / sh.sh_entsize; i++) {
            GElf_Sym s;
            const char *is =
                gelf_getsym(data, (int)i, &s) ? elf_strptr(elf, sh.sh_link, s.st_name) : NULL;
            if (is && s.st_shndx != SHN_UNDEF && strcmp(is, name) == 0)
                *out = s;
        }
    }
    elf_end(elf);
    close(fd);
}

/* A function of libc, which this process has too, or of the program. */
static void resolve(const struct world *w, const char *name, uint64_t *address, uint64_t *size)
{
    struct tt_proc_maps maps = {0};
    Dl_info info = {0};
    const ElfW(Sym) *here = NULL;
    void *own = dlsym(libc, name);
    if (own)
        assert_int_not_equal(dladdr1(own, &info, (void **)&here, RTLD_DL_SYMENT), 0);
    assert_int_equal(tt_proc_maps_read(w->pid, &maps), 0);
    *address = 0;
    for (size_t i = 0; i < maps.maps.len && !*address; i++) {
        const struct tt_proc_map *m = &maps.maps.data[i];
        const char *path = tt_proc_map_path(&maps, m), *base = strrchr(path, '/');
        GElf_Sym s = {0};
        if (m->offset || !base)
            continue;
        if (own && here && strcmp(base, strrchr(info.dli_fname, '/')) == 0) {
            *address = m->start + (uint64_t)((uint8_t *)own - (uint8_t *)info.dli_fbase);
            *size = here->st_size;
        } else if (!own && strstr(base, "watch_t")) {
            find_symbol(path, name, &s);
            *address = s.st_value ? m->start + s.st_value : 0;
            *size = s.st_size;
        }
    }
    tt_proc_maps_free(&maps);
}

static void keep_alive(const struct world *w)
{
    const uint64_t far = ~0ULL >> 1; /* no recorder is about to beat */
    assert_int_equal(pwrite(w->tape_fd, &far, 8, offsetof(struct tt_tape_head, heartbeat_ns)), 8);
}

static void place(struct world *w)
{
    struct tt_error err = {0};
    size_t n = 0;
    for (size_t i = 0; i < FUNCTIONS; i++) {
        struct tt_inject_watch *p = &w->watch[n];
        *p = (struct tt_inject_watch){.row = functions[i].row, .index = -1};
        resolve(w, functions[i].name, &p->row.address, &p->size);
        assert_int_not_equal(p->row.address, 0);
        if (p->row.flags & TT_WATCH_PROBE)
            p->size = 5;
        n++;
    }
    uint64_t stood;
    int code = -1;
    for (int tries = 0; tries < 100 && code != 0; tries++) {
        code = tt_inject_watch(w->pid, w->pads, 2, w->tape_fd, w->watch, n, &stood, &err);
        for (size_t i = 0; code == 0 && i < n; i++)
            if (w->watch[i].result == -EAGAIN)
                code = -EAGAIN;
        if (code)
            usleep(1000);
    }
    assert_int_equal(code, 0);
    for (size_t i = 0; i < n; i++) {
        if (w->watch[i].result != 0 && w->watch[i].result != -EALREADY)
            print_error("%s: %s\n", functions[i].name, w->watch[i].why);
        assert_true(w->watch[i].result == 0 || w->watch[i].result == -EALREADY);
    }
}

static bool say(const struct world *w, char what)
{
    char answer = 0;
    assert_int_equal(write(w->to, &what, 1), 1);
    assert_int_equal(read(w->from, &answer, 1), 1);
    if (answer != what)
        print_error("'%c' was answered with '%c'\n", what, answer);
    return answer == what;
}

/* `tapes`: where the agent makes its tape; NULL: it is not preloaded. */
static void spawn_in(struct world *w, const char *program, const char *preload, const char *tapes,
                     const char *conf)
{
    char path[700];
    int to[2], from[2];
    assert_int_equal(pipe2(to, O_CLOEXEC), 0);
    assert_int_equal(pipe2(from, O_CLOEXEC), 0);
    snprintf(path, sizeof path, "%s/tests/unit/%s", build, program);
    w->pid = fork();
    assert_true(w->pid >= 0);
    if (w->pid == 0) {
        dup2(to[0], 0);
        dup2(from[1], 1);
        if (tapes) {
            setenv("LD_PRELOAD", preload, 1);
            setenv(TT_TAPE_ENV_DIR, tapes, 1);
            setenv(TT_TAPE_ENV_CONF, conf, 1);
        }
        execl(path, path, (char *)NULL);
        _exit(127);
    }
    close(to[0]);
    close(from[1]);
    w->to = to[1];
    w->from = from[0];
    assert_true(say(w, '-'));
    w->tape_fd = -1;
    if (tapes) {
        snprintf(path, sizeof path, "%s/tape.%d.0", tapes, (int)w->pid);
        w->tape_fd = open(path, O_RDWR | O_CLOEXEC);
        assert_true(w->tape_fd >= 0);
        unlink(path);
    }
}

static void open_tape(struct world *w)
{
    w->tape = mmap(NULL, TT_TAPE_OFF_FRAMES, PROT_READ, MAP_SHARED, w->tape_fd, 0);
    assert_true(w->tape != MAP_FAILED);
    keep_alive(w);
    w->pads[0] = (struct tt_inject_pad){head(w)->pad_base, head(w)->pad_size, 0};
    w->pads[1] = (struct tt_inject_pad){head(w)->pad2_base, head(w)->pad2_size, 0};
    open_fds(w->pid, w->before);
}

static void close_tape(struct world *w)
{
    munmap((void *)(uintptr_t)w->tape, TT_TAPE_OFF_FRAMES);
    close(w->tape_fd);
}

/* Returns whether the agent was there already. */
static bool attach(struct world *w, uint32_t mode)
{
    char blob[700];
    struct tt_inject_attached out;
    struct tt_error err = {0};
    snprintf(blob, sizeof blob, "%s/src/agent/telltale-agent.blob", build);
    const struct tt_inject_attach_options options = {.conf = {.mode = mode}, .blob = blob};
    int code = tt_inject_attach(w->pid, &options, &out, &err);
    if (code)
        print_error("%s\n", err.text);
    assert_int_equal(code, 0);
    w->tape_fd = out.tape_fd;
    tt_inject_attached_free(&out);
    open_tape(w);
    return out.reused;
}

static void start_program(struct world *w, const char *program, bool attached)
{
    char library[700];
    snprintf(library, sizeof library, "%s/src/agent/libtelltale-agent.so", build);
    memset(w, 0, sizeof *w);
    w->attached = attached;
    char tapes[] = "/tmp/test_watch.XXXXXX";
    assert_non_null(mkdtemp(tapes));
    spawn_in(w, program, library, attached ? NULL : tapes, "mode=exact,follow=0");
    rmdir(tapes);
    if (attached)
        attach(w, TT_MODE_EXACT);
    else
        open_tape(w);
}

static void start(struct world *w, bool attached)
{
    start_program(w, "watch_target", attached);
    place(w);
}

static void finish(struct world *w)
{
    int status;
    close(w->to);
    assert_int_equal(waitpid(w->pid, &status, 0), w->pid);
    assert_int_equal(status, 0);
    close(w->from);
    close_tape(w);
}

/* ---- what is held ---- */

static const struct tt_tape_held *held(const struct world *w, size_t i)
{
    const struct tt_tape_held *h =
        (const struct tt_tape_held *)(const void *)(w->tape + TT_TAPE_OFF_HELD) + i;
    return (h->state & TT_HELD_MASK) >= TT_HELD_LIVE ? h : NULL;
}

static uint64_t dropped(const struct world *w, uint32_t kind)
{
    return head(w)->dropped[kind];
}

static size_t count_held(const struct world *w, uint8_t space, uint8_t kind)
{
    size_t n = 0;
    for (size_t i = 0; i < TT_TAPE_HELD; i++) {
        const struct tt_tape_held *h = held(w, i);
        n += h && (!space || h->space == space) && (!kind || h->kind == kind);
    }
    return n;
}

static const struct tt_tape_held *find_held(const struct world *w, uint8_t space, uint64_t value)
{
    for (size_t i = 0; i < TT_TAPE_HELD; i++) {
        const struct tt_tape_held *h = held(w, i);
        if (h && h->space == space && h->value == value)
            return h;
    }
    return NULL;
}

/* Births less deaths of all sites of a kind. */
static int64_t count_sites(const struct world *w, uint8_t kind, int64_t *bytes)
{
    const struct tt_tape_site *sites =
        (const struct tt_tape_site *)(const void *)(w->tape + TT_TAPE_OFF_SITES);
    const struct tt_tape_thread *threads =
        (const struct tt_tape_thread *)(const void *)(w->tape + TT_TAPE_OFF_THREADS);
    int64_t live = 0, size = 0;
    for (uint32_t id = 1; id < head(w)->site_count; id++) {
        if (sites[id].kind != kind || sites[id].flags & TT_SITE_RELEASE)
            continue;
        live += (int64_t)(sites[id].births - sites[id].early_deaths);
        size += (int64_t)(sites[id].birth_bytes - sites[id].death_bytes);
        for (uint32_t b = 1; b < TT_TAPE_BINS; b++)
            live -= sites[id].deaths[b];
        assert_true(sites[id].depth > 0);
    }
    for (uint32_t t = 0; t < head(w)->thread_count; t++)
        for (uint32_t i = 0; i < TT_TAPE_TALLIES; i++) {
            const struct tt_tape_tally *y = &threads[t].tally[i];
            if (!y->site || sites[y->site].kind != kind)
                continue;
            live += (int64_t)y->births - y->early_deaths;
            size += (int64_t)(y->birth_bytes - y->death_bytes);
        }
    if (bytes)
        *bytes = size;
    return live;
}

/* The descriptors held are those that are open, no more and no less. */
static void check_fds(const struct world *w)
{
    bool now[FDS], seen[FDS] = {0};
    open_fds(w->pid, now);
    for (size_t i = 0; i < TT_TAPE_HELD; i++) {
        const struct tt_tape_held *h = held(w, i);
        if (!h || h->space != TT_SPACE_FD)
            continue;
        if (h->value >= FDS || seen[h->value] || !now[h->value])
            print_error("%d is held and not open\n", (int)h->value);
        assert_true(h->value < FDS && !seen[h->value] && now[h->value]);
        seen[h->value] = true;
        assert_int_equal(h->state & TT_HELD_MASK, TT_HELD_LIVE);
    }
    for (int fd = 0; fd < FDS; fd++) {
        if (now[fd] && !seen[fd] && !w->before[fd])
            print_error("%d is open and not held\n", fd);
        assert_true(!now[fd] || seen[fd] || w->before[fd]);
    }
}

/* The sites' counts agree with the rows, kind by kind. */
static void check_sites(const struct world *w)
{
    for (uint32_t kind = TT_KIND_FD; kind <= TT_KIND_DECLARED; kind++) {
        int64_t rows = (int64_t)count_held(w, 0, (uint8_t)kind);
        int64_t live = count_sites(w, (uint8_t)kind, NULL);
        if (live != rows)
            print_error("kind %u: %" PRId64 " in sites, %" PRId64 " rows\n", kind, live, rows);
        assert_int_equal(live, rows);
    }
    assert_int_equal(dropped(w, TT_DROP_HELD), 0);
    assert_int_equal(dropped(w, TT_DROP_UNSEEN), 0);
}

static void do_and_check(const struct world *w, char what)
{
    assert_true(say(w, what));
    check_fds(w);
    check_sites(w);
}

/* ---- tests ---- */

static void descriptors(void **state)
{
    struct world w;
    start(&w, *state != NULL);
    for (const char *what = "fdprlfP"; *what; what++)
        do_and_check(&w, *what);
    assert_int_equal(dropped(&w, TT_DROP_NESTED), 0);
    /* A socket's duplicate is a socket. */
    assert_int_equal(find_held(&w, TT_SPACE_FD, 60)->kind, TT_KIND_SOCKET);
    assert_int_equal(find_held(&w, TT_SPACE_FD, 61)->kind, TT_KIND_FD);
    finish(&w);
}

static const struct tt_tape_watch *row_of(const struct world *w, const char *name)
{
    size_t i = 0;
    while (strcmp(functions[i].name, name) != 0)
        i++;
    return (const struct tt_tape_watch *)(const void *)(w->tape + TT_TAPE_OFF_WATCHES) +
           w->watch[i].index;
}

/* What threads count for themselves of a function's calls, at most. */
#define COUNTED_APART 128u

static void many_calls(void **state)
{
    struct world w;
    start(&w, *state != NULL);
    for (unsigned i = 1; i <= 3; i++) {
        do_and_check(&w, 'q');
        assert_int_equal(count_held(&w, TT_SPACE_FD, TT_KIND_FD), i);
        assert_int_equal(count_held(&w, TT_SPACE_FD, TT_KIND_SOCKET), 0);
        assert_in_range(row_of(&w, "open")->calls, 1201 * i - COUNTED_APART, 1201 * i);
        assert_in_range(row_of(&w, "kept_close")->calls, 600 * i - COUNTED_APART, 600 * i);
    }
    do_and_check(&w, 'Q');
    assert_int_equal(count_held(&w, TT_SPACE_FD, TT_KIND_FD), 7);
    /* Close of what is not open, and of what nobody opened: the test's own pipes stay. */
    assert_int_equal(dropped(&w, TT_DROP_NOT_HELD), 7 * 600);
    const uint32_t *peers = (const uint32_t *)(const void *)(w.tape + TT_TAPE_OFF_FDS);
    for (unsigned fd = 0; fd < FDS; fd++)
        assert_int_equal(peers[fd], 0);
    finish(&w);
}

static void streams(void **state)
{
    struct world w;
    start(&w, *state != NULL);
    do_and_check(&w, 's');
    /* One reopened, one piped to; one directory. */
    assert_int_equal(count_held(&w, TT_SPACE_STREAM, 0), 2);
    assert_int_equal(count_held(&w, TT_SPACE_DIRECTORY, 0), 1);
    assert_int_equal(count_held(&w, TT_SPACE_CHILD, 0), 1);
    finish(&w);
}

static void mappings(void **state)
{
    struct world w;
    start(&w, *state != NULL);
    size_t before = count_held(&w, TT_SPACE_MAPPING, 0);
    int64_t bytes_before, bytes;
    count_sites(&w, TT_KIND_MAPPING, &bytes_before);
    do_and_check(&w, 'm');
    assert_int_equal(count_held(&w, TT_SPACE_MAPPING, 0), before + 4);
    count_sites(&w, TT_KIND_MAPPING, &bytes);
    assert_int_equal(bytes - bytes_before, (3 + 2 + 4 + 10) * PAGE);
    size_t found[11] = {0};
    for (size_t i = 0; i < TT_TAPE_HELD; i++) {
        const struct tt_tape_held *h = held(&w, i);
        if (h && h->space == TT_SPACE_MAPPING && h->size <= 10 * PAGE)
            found[h->size / PAGE]++;
    }
    assert_true(found[2] && found[3] && found[4] && found[10]);
    finish(&w);
}

static void threads(void **state)
{
    struct world w;
    start(&w, *state != NULL);
    do_and_check(&w, 't');
    assert_int_equal(count_held(&w, TT_SPACE_THREAD, 0), 1);
    do_and_check(&w, 'R'); /* four at once */
    assert_int_equal(count_held(&w, TT_SPACE_THREAD, 0), 1);
    assert_int_equal(count_held(&w, TT_SPACE_MAPPING, 0), 0); /* stacks are libc's own */
    finish(&w);
}

static void handlers(void **state)
{
    struct world w;
    start(&w, *state != NULL);
    assert_true(say(&w, 'h'));
    check_fds(&w);
    assert_int_equal(dropped(&w, TT_DROP_UNSEEN), 0);
    finish(&w);
}

static void children(void **state)
{
    struct world w;
    start(&w, *state != NULL);
    do_and_check(&w, 'c');
    assert_int_equal(count_held(&w, TT_SPACE_CHILD, 0), 2);
    assert_int_equal(dropped(&w, TT_DROP_NOT_HELD), 0);
    finish(&w);
}

static void owners(void **state)
{
    struct world w;
    start(&w, *state != NULL);
    do_and_check(&w, 'o');
    const struct tt_tape_owner *rows =
        (const struct tt_tape_owner *)(const void *)(w.tape + TT_TAPE_OFF_OWNERS);
    uint32_t id[4];
    for (unsigned i = 0; i < 4; i++)
        id[i] = find_held(&w, TT_SPACE_FD, 200 + i)->owner;
    assert_true(id[0] && id[1] && id[0] != id[1] && !id[2] && id[3]);
    assert_int_equal(rows[id[0]].address_bytes, 16); /* the program asked for it */
    assert_int_equal(rows[id[0]].how, TT_OWNER_CONNECTION);
    assert_int_equal(rows[id[0]].end, 0);
    assert_int_equal(rows[id[0]].births, 2); /* the socket itself, and 200 */
    assert_int_not_equal(rows[id[1]].end, 0);
    assert_int_equal(rows[id[3]].how, TT_OWNER_SENDER);
    /* Listener, two clients, and one socket that datagrams came to. */
    assert_int_equal(count_held(&w, TT_SPACE_PORT, 0), 4);
    finish(&w);
}

static void cancelled_threads(void **state)
{
    struct world w;
    start(&w, *state != NULL);
    do_and_check(&w, 'C');
    assert_int_equal(count_held(&w, TT_SPACE_THREAD, 0), 0);
    finish(&w);
}

static void declared(void **state)
{
    struct world w;
    start(&w, *state != NULL);
    do_and_check(&w, 'D');
    /* 12 and 13, whose release failed; and the one with many arguments. */
    assert_int_equal(count_held(&w, TT_SPACE_DECLARED, 0), 3);
    assert_non_null(find_held(&w, TT_SPACE_DECLARED, 13));
    assert_int_equal(find_held(&w, TT_SPACE_DECLARED, 1)->size, 6);
    assert_true(say(&w, 'T')); /* in another thread: the same values come anew */
    assert_int_equal(count_held(&w, TT_SPACE_DECLARED, 0), 3);
    assert_int_equal(dropped(&w, TT_DROP_UNSEEN), 3);
    finish(&w);
}

static void probes(void **state)
{
    struct world w;
    start(&w, *state != NULL);
    do_and_check(&w, 'b');
    assert_int_equal(count_held(&w, TT_SPACE_DECLARED, 0), 2);
    assert_non_null(find_held(&w, TT_SPACE_DECLARED, 300));
    finish(&w);
}

static void libraries(void **state)
{
    struct world w;
    start(&w, *state != NULL);
    do_and_check(&w, 'L');
    /* One opened three times and closed once, each of the rest a unit of its own. */
    assert_int_equal(count_held(&w, TT_SPACE_LIBRARY, 0), 2);
    finish(&w);
}

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
    snprintf(library, sizeof library, "%s/src/agent/libtelltale-agent.so", build);
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
    while (child.tape_fd < 0) {
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
    snprintf(path, sizeof path, "%s/tests/unit/watch_throw", build);
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

static int find_build(void)
{
    ssize_t n = readlink("/proc/self/exe", build, sizeof build - 1);
    if (n <= 0)
        return -1;
    build[n] = '\0';
    for (int up = 0; up < 3; up++)
        *strrchr(build, '/') = '\0';
    return 0;
}

#define BOTH(test)                                                                                 \
    {"preloaded: " #test, test, NULL, NULL, NULL},                                                 \
    {                                                                                              \
        "attached: " #test, test, NULL, NULL, build                                                \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(descriptors),
        BOTH(many_calls),
        BOTH(streams),
        BOTH(mappings),
        BOTH(threads),
        BOTH(handlers),
        BOTH(children),
        BOTH(owners),
        BOTH(cancelled_threads),
        BOTH(declared),
        BOTH(libraries),
        BOTH(probes),
        cmocka_unit_test(taken_out_again),
        cmocka_unit_test(refusals),
        cmocka_unit_test(attached_again),
        cmocka_unit_test(comes_back_into_the_next),
        cmocka_unit_test(forked_child),
        cmocka_unit_test(exceptions),
    };
    libc = dlopen("libc.so.6", RTLD_NOW);
    if (!libc || find_build() != 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
