/* SPDX-License-Identifier: Apache-2.0 */
/* The kinds of thing that a program acquires and must release, besides heap blocks: one file per
 * kind, each a struct tt_resource, and one table of them. A kind says which functions of the C
 * library acquire and release it (rows that the recorder turns into watches, tape.h), what it is
 * called by people, how many of it the kernel counts, and which limits bind it. Kinds that the user
 * declares (--handle) are made of the same rows at run time. Start: struct tt_resource,
 * tt_resources.
 */
#ifndef TT_RESOURCE_RESOURCE_H
#define TT_RESOURCE_RESOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/vec.h"
#include "tape/tape.h"

/* Functions with one signature: what a call of them means. The meaning of each field is that of the
 * field of the same name in struct tt_tape_watch. */
struct tt_resource_watch {
    const char *functions; /* names, by spaces */
    uint8_t what, space, from, valid, size, flags, width, when;
    uint16_t also;
    uint32_t values[2];
};

#define TT_RESOURCE_LIMITS 4u

struct tt_resource {
    const char *name;       /* of table site.resource, and of --resources */
    const char *one, *many; /* words for people */
    const char *lost;       /* what did not happen to a lost one: "never closed" */
    uint8_t kind, space;    /* enum tt_tape_kind, enum tt_tape_space */
    bool sized;             /* a unit has bytes that matter */
    const struct tt_resource_watch *watches;
    size_t n_watches;
    /* Rows of table limit_value that bind it; the nearest counts. NULL ends them. */
    const char *limits[TT_RESOURCE_LIMITS];
    /* The column of the figures that says how many there are: what tt_resource_count puts. */
    const char *gauge;
    /* Where the object that a value points to holds a file descriptor (an int); -1 nowhere. A
     * stream's or directory's descriptor is opened inside the C library and has no row of its own.
     */
    int descriptor;
};

/* What tells on whose behalf a thread works: rows without a kind. */
extern const struct tt_resource_watch tt_resource_owner_watches[];
extern const size_t tt_resource_owner_count;

/* All kinds, in the order of --resources; n is set. */
const struct tt_resource *const *tt_resources(size_t *n);
/* By name or by kind of a tape; NULL unknown (heap and declared ones are not in the table). */
const struct tt_resource *tt_resource_named(const char *name);
const struct tt_resource *tt_resource_of(uint8_t kind);

/* A set of kinds, bit i: the i-th of tt_resources. "all", "none", or names by commas; a name with
 * '-' before it takes it out of all. 0, or -EINVAL with err. */
int tt_resource_choose(const char *text, uint32_t *set, struct tt_error *err);

/* ---- from /proc ---- */

/* Calls put for each limit that binds a kind and that tt_proc_limits does not know: the range of
 * local ports without the reserved ones, mappings, threads of the machine, pending signals (one for
 * each timer). `name` is static. */
void tt_resource_limits(pid_t pid, void (*put)(void *arg, const char *name, int64_t value),
                        void *arg);

/* What an open file descriptor is, by its link in /proc/PID/fd. */
enum tt_open_what { TT_OPEN_FILE, TT_OPEN_SOCKET, TT_OPEN_PIPE, TT_OPEN_ANON, TT_OPEN_DEVICE };
struct tt_open {
    int fd;
    enum tt_open_what what;
    uint64_t inode;
    char name[32]; /* "file", "socket", "pipe", "eventpoll", "eventfd", "memfd", ... */
};
typedef TT_VEC(struct tt_open) tt_open_vec;
/* All descriptors of a process, ascending. 0 or a negative errno. Free with tt_vec_free. */
int tt_open_list(pid_t pid, tt_open_vec *out);
/* What a link's text says. */
void tt_open_read(const char *link, struct tt_open *out);

/* Sockets of the process's network namespace, as far as its descriptors need them. */
enum { TT_SOCKET_PEER = 64 };
struct tt_socket {
    uint64_t inode;
    uint8_t state; /* of TCP, include/net/tcp_states.h: 1 ESTABLISHED, 8 CLOSE_WAIT, 10 LISTEN */
    bool internet; /* TCP or UDP, either version */
    uint16_t port; /* local */
    char peer[TT_SOCKET_PEER]; /* "127.0.0.1:80", "" none */
    char protocol[6];          /* "tcp", "tcp6", "udp", "udp6", "unix" */
};
typedef TT_VEC(struct tt_socket) tt_socket_vec;
/* Adds the sockets of /proc/PID/net/{tcp,tcp6,udp,udp6}, ascending by inode. 0 or a negative errno.
 */
int tt_socket_list(pid_t pid, tt_socket_vec *out);
/* Parses one of these files. */
int tt_socket_parse(const char *text, const char *protocol, tt_socket_vec *out);
const struct tt_socket *tt_socket_find(const tt_socket_vec *sockets, uint64_t inode);
const char *tt_socket_state(uint8_t state);

/* ---- declared handles ---- */

#define TT_HANDLES_MOST 32u
struct tt_handle_function {
    char function[160]; /* as tt_symbol_find takes it: MODULE!f becomes f@MODULE */
    uint8_t what, from, valid, flags, width;
    bool nothrow;
};
struct tt_handle {
    char name[24];
    double limit; /* 0: none given */
    TT_VEC(struct tt_handle_function) functions;
    char *parts; /* as they were given, of several arguments one after the other */
};
typedef TT_VEC(struct tt_handle) tt_handle_vec;
/* "port=port_acquire:ret,port_release:arg1": the grammar stands in handle.c. Adds to the handle of
 * that name if there is one. 0, or a negative errno with err. */
int tt_handle_parse(const char *text, tt_handle_vec *out, struct tt_error *err);
/* One per line, '#' begins a comment. */
int tt_handle_read(const char *path, tt_handle_vec *out, struct tt_error *err);
void tt_handles_free(tt_handle_vec *handles);

#endif
