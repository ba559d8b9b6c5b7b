/* SPDX-License-Identifier: Apache-2.0 */
/* A process whose functions are watched, and what its tape says. Start: place. */
#include "test_watch_world.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <inttypes.h>
#include <libelf.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proc/proc.h"
#include "test_build.h"

void *libc;

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

const struct function functions[] = {
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
    {"handle_acquire", DECLARED(ACQUIRE, AT(1), ZERO)},
    {"handle_release", DECLARED(RELEASE, ARG(0), ZERO)},
    {"handle_probe", DECLARED(ACQUIRE, ARG(0), ALWAYS, .flags = TT_WATCH_PROBE | TT_WATCH_ONCE)},
    {"handle_many", DECLARED(ACQUIRE, ARG(0), ALWAYS, .size = ARG(5), .flags = TT_WATCH_WIDE)},
};

/* ---- the process ---- */

int find_libc(void **state)
{
    (void)state;
    libc = dlopen("libc.so.6", RTLD_NOW);
    return libc ? 0 : -1;
}

const struct tt_tape_head *head(const struct world *w)
{
    return (const struct tt_tape_head *)(const void *)w->tape;
}

void open_fds(pid_t pid, bool open[FDS])
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

void resolve(const struct world *w, const char *name, uint64_t *address, uint64_t *size)
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

void place(struct world *w)
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

bool say(const struct world *w, char what)
{
    char answer = 0;
    assert_int_equal(write(w->to, &what, 1), 1);
    assert_int_equal(read(w->from, &answer, 1), 1);
    if (answer != what)
        print_error("'%c' was answered with '%c'\n", what, answer);
    return answer == what;
}

void spawn_in(struct world *w, const char *program, const char *preload, const char *tapes,
              const char *conf)
{
    char path[700];
    int to[2], from[2];
    assert_int_equal(pipe2(to, O_CLOEXEC), 0);
    assert_int_equal(pipe2(from, O_CLOEXEC), 0);
    build_path(path, sizeof path, "tests/unit/%s", program);
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

void open_tape(struct world *w)
{
    w->tape = mmap(NULL, TT_TAPE_OFF_FRAMES, PROT_READ, MAP_SHARED, w->tape_fd, 0);
    assert_true(w->tape != MAP_FAILED);
    keep_alive(w);
    w->pads[0] = (struct tt_inject_pad){head(w)->pad_base, head(w)->pad_size, 0};
    w->pads[1] = (struct tt_inject_pad){head(w)->pad2_base, head(w)->pad2_size, 0};
    open_fds(w->pid, w->before);
}

void close_tape(struct world *w)
{
    munmap((void *)(uintptr_t)w->tape, TT_TAPE_OFF_FRAMES);
    close(w->tape_fd);
}

bool attach(struct world *w, uint32_t mode)
{
    char blob[700];
    struct tt_inject_attached out;
    struct tt_error err = {0};
    build_path(blob, sizeof blob, "src/agent/telltale-agent.blob");
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

void start_program(struct world *w, const char *program, bool attached)
{
    char library[700];
    build_path(library, sizeof library, "src/agent/libtelltale-agent.so");
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

void start(struct world *w, bool attached)
{
    start_program(w, "watch_target", attached);
    place(w);
}

void finish(struct world *w)
{
    int status;
    close(w->to);
    assert_int_equal(waitpid(w->pid, &status, 0), w->pid);
    assert_int_equal(status, 0);
    close(w->from);
    close_tape(w);
}

/* ---- what is held ---- */

const struct tt_tape_held *held(const struct world *w, size_t i)
{
    const struct tt_tape_held *h =
        (const struct tt_tape_held *)(const void *)(w->tape + TT_TAPE_OFF_HELD) + i;
    return (h->state & TT_HELD_MASK) >= TT_HELD_LIVE ? h : NULL;
}

uint64_t dropped(const struct world *w, uint32_t kind)
{
    return head(w)->dropped[kind];
}

size_t count_held(const struct world *w, uint8_t space, uint8_t kind)
{
    size_t n = 0;
    for (size_t i = 0; i < TT_TAPE_HELD; i++) {
        const struct tt_tape_held *h = held(w, i);
        n += h && (!space || h->space == space) && (!kind || h->kind == kind);
    }
    return n;
}

const struct tt_tape_held *find_held(const struct world *w, uint8_t space, uint64_t value)
{
    for (size_t i = 0; i < TT_TAPE_HELD; i++) {
        const struct tt_tape_held *h = held(w, i);
        if (h && h->space == space && h->value == value)
            return h;
    }
    return NULL;
}

int64_t count_sites(const struct world *w, uint8_t kind, int64_t *bytes)
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

void check_fds(const struct world *w)
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

void check_sites(const struct world *w)
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

void do_and_check(const struct world *w, char what)
{
    assert_true(say(w, what));
    check_fds(w);
    check_sites(w);
}
