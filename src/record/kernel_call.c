/* SPDX-License-Identifier: Apache-2.0 */
/* What no system call tells: that a thread is joined, a stream, a directory or a library closed.
 * From the kernel's side the C library's functions are probed for it, the same rows of the resource
 * table that the agent watches, in one process at a time. What releases stands before what
 * acquires, and without it nothing is acquired. Only glibc's objects are known from inside; and a
 * program that has neither it nor names has no place for a probe. Start: tt_kernel_call_watch. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "record/internal.h"

#define FUNCTIONS_MOST 128u
#define LOOKED_AT 16u /* bytes of a function's beginning */
#define BREAKPOINT 0xccu

/* A file with functions, in a process. at: where the first byte of the file would be; 0: it is not
 * known yet, and the process has not begun. */
struct place {
    struct tt_recorder *rec;
    pid_t pid;
    const char *path;
    int fd;
    uint64_t at;
};

int tt_kernel_call_changed(pid_t pid, uint64_t address, const char *path, int fd, uint64_t offset,
                           uint64_t size)
{
    uint8_t memory[LOOKED_AT] = {0}, file[LOOKED_AT] = {0};
    char name[32];
    size_t n = size && size < LOOKED_AT ? (size_t)size : LOOKED_AT;
    int own = fd < 0 ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
    if (fd < 0 && own < 0)
        return 0; /* which nobody can probe */
    snprintf(name, sizeof name, "/proc/%d/mem", (int)pid);
    int mem = open(name, O_RDONLY | O_CLOEXEC);
    ssize_t got = mem < 0 ? -1 : pread(mem, memory, n, (off_t)address);
    int code = got == (ssize_t)n                               ? 0
               : got >= 0 || errno == ENOENT || errno == ESRCH ? -ESRCH /* it has no memory */
                                                               : -errno;
    /* a probe that stands already, of a parent's too, is a breakpoint */
    if (!code && (pread(fd < 0 ? own : fd, file, n, (off_t)offset) != (ssize_t)n ||
                  (memory[0] != file[0] && memory[0] != BREAKPOINT) ||
                  memcmp(memory + 1, file + 1, n - 1) != 0))
        code = -EEXIST;
    if (mem >= 0)
        close(mem);
    if (own >= 0)
        close(own);
    return code;
}

/* ---- what is said, once ---- */

static void say(struct tt_recorder *rec, unsigned bit, const char *what, pid_t pid, const char *why)
{
    char line[320];
    if (rec->calls_said & (1u << bit | 1u))
        return;
    rec->calls_said |= 1u << bit;
    snprintf(line, sizeof line, "%s are not watched in pid %d: %s", what, (int)pid, why);
    tt_loop_say(rec, line);
}

/* ---- the functions of a file ---- */

static bool is_chosen(const struct tt_recorder *rec, uint8_t kind)
{
    size_t n;
    const struct tt_resource *const *kinds = tt_resources(&n);
    for (size_t i = 0; i < n; i++)
        if (kinds[i]->kind == kind)
            return rec->options->resources & 1u << i;
    return false;
}

/* What is told so. many: NULL the resource's own word. */
static const struct told {
    uint8_t kind, space;
    const char *many;
} told[] = {{TT_KIND_THREAD, TT_SPACE_THREAD, NULL},
            {TT_KIND_LIBRARY, TT_SPACE_LIBRARY, NULL},
            {TT_KIND_STREAM, TT_SPACE_STREAM, NULL},
            {TT_KIND_DIRECTORY, TT_SPACE_DIRECTORY, NULL},
            {TT_KIND_IPC, TT_SPACE_NAMED_SEMAPHORE, "named semaphores"}};
#define TOLD (sizeof told / sizeof *told)

static bool is_of(const struct tt_library_function *f, const struct told *t, bool acquires)
{
    uint8_t what = f->row->what == TT_WATCH_THREAD ? TT_WATCH_ACQUIRE : f->row->what;
    return f->kind == t->kind && f->row->space == t->space &&
           what == (acquires ? TT_WATCH_ACQUIRE : TT_WATCH_RELEASE);
}

/* Watches the functions of a kind that acquire it or that release it. Returns how many there are,
 * or why one cannot be watched. */
static int watch(const struct place *place, const struct tt_library *library, const struct told *t,
                 bool acquires)
{
    struct tt_kernel_function list[FUNCTIONS_MOST];
    size_t n = 0, bad;
    int code = 0;
    for (size_t i = 0; i < library->functions.len && n < FUNCTIONS_MOST; i++) {
        const struct tt_library_function *f = &library->functions.data[i];
        if (!is_of(f, t, acquires))
            continue;
        if (place->at)
            code = tt_kernel_call_changed(place->pid, place->at + f->offset, place->path, place->fd,
                                          f->offset, f->size);
        if (code)
            return code;
        list[n++] = (struct tt_kernel_function){
            .offset = f->offset,
            .space = f->row->space,
            .what = acquires ? TT_WATCH_ACQUIRE : TT_WATCH_RELEASE,
            .from = f->row->from,
            .valid = f->row->valid,
            .flags = f->row->flags,
            .width = f->row->width,
            .also = f->row->also,
        };
    }
    bad = tt_kernel_declare(place->rec->kernel, place->pid, place->path, place->fd, list, n);
    for (size_t i = 0; bad && i < n; i++)
        if (list[i].result)
            code = list[i].result;
    return code ? code : (int)n;
}

static void watch_kind(const struct place *place, const struct tt_library *library,
                       const struct told *t)
{
    if (!library->glibc || !is_chosen(place->rec, t->kind))
        return;
    int n = watch(place, library, t, false);
    if (n > 0)
        n = watch(place, library, t, true);
    if (n > 0 && place->at)
        tt_kernel_watches(place->rec->kernel, place->pid, t->space);
    else if (n < 0 && n != -ESRCH) /* it has ended: nothing is missed */
        say(place->rec, 1 + (unsigned)(t - told), t->many ? t->many : tt_resource_of(t->kind)->many,
            place->pid, tt_kernel_why_not(n));
}

/* ---- before a command runs ---- */

/* Whether a program brings its own C library; false for what is no program of this machine. */
static bool is_static(int fd)
{
    Elf64_Ehdr head;
    Elf64_Phdr p;
    if (pread(fd, &head, sizeof head, 0) != sizeof head ||
        memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 || head.e_ident[EI_CLASS] != ELFCLASS64)
        return false;
    for (unsigned i = 0; i < head.e_phnum; i++) {
        if (pread(fd, &p, sizeof p, (off_t)(head.e_phoff + i * sizeof p)) != sizeof p ||
            p.p_type == PT_INTERP)
            return false;
    }
    return true;
}

static void watch_file(struct tt_recorder *rec, pid_t pid, const char *path, int fd, bool linked_in)
{
    char build_id[TT_PROC_BUILD_ID] = "";
    tt_proc_build_id(fd, build_id);
    const struct place place = {.rec = rec, .pid = pid, .path = path, .fd = fd};
    const struct tt_library *library = tt_library_read(rec, path, build_id, fd, linked_in);
    for (size_t i = 0; library && i < TOLD; i++)
        watch_kind(&place, library, &told[i]);
}

/* Which C library a program gets is known when it has it; most likely it is ours. If not, the
 * probes stand at a file that it does not map. */
void tt_kernel_call_ahead(struct tt_recorder *rec, pid_t pid, const char *path)
{
    struct tt_proc_maps maps = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool alone = fd >= 0 && is_static(fd);
    if (alone)
        watch_file(rec, pid, path, fd, true);
    if (fd >= 0)
        close(fd);
    if (alone || tt_proc_maps_read(getpid(), &maps))
        return;
    for (size_t i = 0; i < maps.maps.len; i++) {
        const struct tt_proc_map *map = &maps.maps.data[i];
        const char *own = tt_proc_map_path(&maps, map);
        fd = map->exec && tt_library_is(own) ? tt_proc_map_open(getpid(), map, own) : -1;
        if (fd < 0)
            continue;
        watch_file(rec, pid, own, fd, false);
        close(fd);
    }
    tt_proc_maps_free(&maps);
}

/* ---- in an image ---- */

/* What has no C library whose inside is known; asked when its modules are known. */
static void say_none(struct tt_recorder *rec, const struct tt_image *image,
                     const struct tt_session_module *modules, size_t n)
{
    bool other = false, alone = false;
    for (size_t i = 0; i < n; i++) {
        other |= tt_library_is(modules[i].path);
        int fd = strcmp(modules[i].path, image->exe) == 0
                     ? open(modules[i].path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
                     : -1;
        alone |= fd >= 0 && is_static(fd);
        if (fd >= 0)
            close(fd);
    }
    if ((other || alone) && rec->options->resources)
        say(rec, 0, "joins of threads, streams, directories and libraries", (pid_t)image->pid,
            other ? "its C library is not glibc"
                  : "it is a static program without names of glibc's functions");
}

/* What tells the modules with such functions from others: 0 for none. */
static uint64_t places_of(const struct tt_image *image)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < image->modules.len; i++) {
        const struct tt_session_module *m = &image->modules.data[i].row;
        if (m->until_ns == 0 && (tt_library_is(m->path) || strcmp(m->path, image->exe) == 0))
            sum += tt_map_mix(m->start ^ tt_map_hash(m->path, strlen(m->path)));
    }
    return sum;
}

void tt_kernel_call_again(struct tt_image *image)
{
    uint64_t places = places_of(image);
    if (places != image->calls_places)
        image->calls_step = 0;
    image->calls_places = places;
}

bool tt_kernel_call_watch(struct tt_recorder *rec, struct tt_image *image)
{
    bool glibc = false;
    size_t n, step = image->calls_step;
    struct tt_session_module *modules = step < TOLD ? tt_modules_now(image, &n) : NULL;
    if (!modules)
        return false;
    for (size_t i = 0; i < n; i++) {
        const struct tt_library *library = tt_library_of(rec, image, &modules[i]);
        const struct tt_proc_map *map = tt_proc_map_at(&image->maps, modules[i].start);
        int fd = library && library->glibc && map ? tt_modules_open(image, map) : -1;
        const struct place place = {.rec = rec,
                                    .pid = (pid_t)image->pid,
                                    .path = modules[i].path,
                                    .fd = fd,
                                    .at = modules[i].start - modules[i].file_offset};
        glibc |= library && library->glibc;
        if (fd < 0)
            continue;
        watch_kind(&place, library, &told[step]);
        close(fd);
    }
    if (!glibc)
        say_none(rec, image, modules, n);
    free(modules);
    image->calls_step = glibc ? (uint8_t)(step + 1) : TOLD;
    return image->calls_step < TOLD;
}
