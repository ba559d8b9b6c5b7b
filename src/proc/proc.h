/* SPDX-License-Identifier: Apache-2.0 */
/* A process seen from outside, through /proc: mappings, figures, limits, threads; and files of
 * programs: build-id, libc version. Everything here may vanish while it is looked at, since the
 * process can end at any time: then -ESRCH or -ENOENT comes back and nothing else happens.
 * Start: tt_proc_maps_read, tt_proc_figures_read. */
#ifndef TT_PROC_PROC_H
#define TT_PROC_PROC_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/vec.h"

/* ---- mappings ---- */

struct tt_proc_map {
    uint64_t start, end, offset;
    uint64_t device, inode;
    bool read, write, exec, shared;
    uint32_t path; /* index into tt_proc_maps.text; "" for anonymous memory */
};

/* All mappings, ascending; zero-initialise. A second read reuses the memory. */
struct tt_proc_maps {
    TT_VEC(struct tt_proc_map) maps;
    char *text; /* the file as read, cut into strings */
    size_t text_cap;
};

/* Reads /proc/PID/maps. 0 or a negative errno (then *maps is empty). */
int tt_proc_maps_read(pid_t pid, struct tt_proc_maps *maps);
void tt_proc_maps_free(struct tt_proc_maps *maps);
const char *tt_proc_map_path(const struct tt_proc_maps *maps, const struct tt_proc_map *map);
/* Opens the file that a mapping of the process shows, `path` as its maps name it. A process of a
 * container has another root: there the link in map_files leads to the very file that is mapped, if
 * we may read it. A descriptor, or -1 with errno. */
int tt_proc_map_open(pid_t pid, const struct tt_proc_map *map, const char *path);
/* The mapping that holds address, or NULL. */
const struct tt_proc_map *tt_proc_map_at(const struct tt_proc_maps *maps, uint64_t address);

/* Parses text in the format of /proc/PID/maps, which is cut up; malformed lines are skipped. */
int tt_proc_maps_parse(struct tt_proc_maps *maps, char *text);

/* Resident anonymous bytes (smaps "Anonymous") of the mappings for which wanted() says true.
 * Holds the target's mmap_lock for reading while the kernel walks its page tables: about a
 * millisecond per GB, so not to be called often. 0 or a negative errno. */
int tt_proc_anonymous(pid_t pid, bool (*wanted)(void *arg, const struct tt_proc_map *map),
                      void *arg, uint64_t *bytes);

/* ---- figures ---- */

/* Bytes; -1 where the kernel does not tell. */
struct tt_proc_figures {
    int64_t rss_anon, rss_file, vm_size, threads, fds, cpu_ms;
};
int tt_proc_figures_read(pid_t pid, struct tt_proc_figures *out);

/* The parent's pid, or a negative errno; and whether the process is a zombie. */
pid_t tt_proc_parent(pid_t pid, bool *zombie);

/* /proc/PID/exe, with " (deleted)" if the file is gone; "" when it cannot be read. */
void tt_proc_exe(pid_t pid, char *out, size_t n);
/* The command line, arguments joined by spaces, cut at n - 1 bytes. */
void tt_proc_cmdline(pid_t pid, char *out, size_t n);

typedef TT_VEC(pid_t) tt_proc_pid_vec;
/* Threads of a process (pid > 0), or all processes (pid 0). Appends. 0 or a negative errno. */
int tt_proc_list(pid_t pid, tt_proc_pid_vec *out);

/* Whether the environment the process was started with holds the given bytes. */
bool tt_proc_environ_has(pid_t pid, const char *needle);

/* ---- files of our own ---- */

/* Path of one of telltale's own files: in $TELLTALE_LIB (a directory, or a file in it), beside the
 * executable in ../lib/telltale or ../lib/MULTIARCH/telltale, or in the build tree under src/ROOM.
 * 0 or -ENOENT with err. */
int tt_proc_own_file(const char *room, const char *name, char out[PATH_MAX], struct tt_error *err);

/* ---- limits ---- */

/* What can run out: RLIMIT_NOFILE, RLIMIT_AS, RLIMIT_DATA, RLIMIT_NPROC, cgroup memory.max and
 * pids.max (the tightest on the way up), MemTotal. -1 unlimited. Calls put for each one known. */
void tt_proc_limits(pid_t pid, void (*put)(void *arg, const char *name, int64_t value), void *arg);

/* ---- program files ---- */

#define TT_PROC_BUILD_ID 48 /* room for the hex of 20 bytes */

/* The GNU build-id of an ELF file as lower-case hex, "" if it has none. 0 or a negative errno. */
int tt_proc_build_id(int fd, char out[TT_PROC_BUILD_ID]);

/* "2.36" from glibc's own version line in the library file; "" when it has none. */
void tt_proc_libc_version(const char *path, char *out, size_t n);

#endif
