/* SPDX-License-Identifier: Apache-2.0 */
/* The heap of a frozen process or of a core file: which blocks there are, which of them nothing
 * points to any more, what the lost ones look like, and who holds the others. Knows nothing of
 * sessions, sites are plain numbers that a callback gives. Works without symbols.
 *   image_frozen.c, image_core.c   memory, threads and modules of what is looked at
 *   walk.c, glibc*.c, jemalloc.c   the blocks: one file per allocator behind one table
 *   mark.c                         what can be reached from roots
 *   shape.c                        fingerprints of blocks
 *   group.c, attribute.c           lost blocks folded into groups, and given to sites
 *   retain.c                       who holds what can be reached
 *   search.c                       all of it in order
 * Start: tt_heap_search. */
#ifndef TT_HEAP_HEAP_H
#define TT_HEAP_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

#include "base/error.h"
#include "base/vec.h"

struct tt_heap_pager;

/* ---- image: what is looked at ---- */

enum tt_heap_range_kind {
    TT_HEAP_DATA,   /* writable data of a module, its bss included */
    TT_HEAP_TEXT,   /* code and constants of a module: not read, no roots, but pointed into */
    TT_HEAP_STACK,  /* holds some thread's stack pointer, or [stack] */
    TT_HEAP_ANON,   /* other private memory: heaps, arenas, mmapped chunks, TLS, stacks; also what
                       a program made read-only after filling it */
    TT_HEAP_SHARED, /* shared mappings: not copied by a fork; read live, roots only */
    TT_HEAP_OURS,   /* the tape and other memory of the agent: no roots, not the program's */
};
struct tt_heap_range {
    uint64_t start, end;
    const uint8_t *bytes; /* [0, end - start), NULL when not read or not there */
    const char *path; /* of a module's file (its bss too); "[stack]"; "" anonymous; the image's */
    uint64_t file_offset; /* of start; goes on counting in the bss */
    enum tt_heap_range_kind kind;
    bool write, exec;
    bool live; /* not copied by fork (MADV_DONTFORK): read from the process itself a moment later */
};
struct tt_heap_thread {
    pid_t tid;
    struct user_regs_struct regs; /* fs_base is the thread control block */
};
/* A root that lies in no mapping: epoll user data, timer and robust-list pointers, held by the
 * kernel. */
struct tt_heap_kernel_root {
    uint64_t value;
    char what[48]; /* "epoll data of fd 7" */
};
struct tt_heap_image {
    TT_VEC(struct tt_heap_range) ranges; /* ascending, disjoint */
    TT_VEC(struct tt_heap_thread) threads;
    TT_VEC(struct tt_heap_kernel_root) kernel_roots;
    uint64_t read_bytes, unread_bytes; /* unread: mapped writable but could not be read */
    pid_t pid;
    /* Not NULL: parts are read when they are looked at, so the copy is still needed. */
    struct tt_heap_pager *pager;
    void *owned; /* the provider's */
    void (*free)(struct tt_heap_image *image);
};
/* The range that holds address, or NULL; and n bytes at address if they were read, else NULL. */
const struct tt_heap_range *tt_heap_range_at(const struct tt_heap_image *image, uint64_t address);
const uint8_t *tt_heap_bytes(const struct tt_heap_image *image, uint64_t address, uint64_t n);

/* Reads the memory of a stopped copy (tt_inject_frozen) in large pieces, on both cores. `target`:
 * the process itself, for fdinfo and shared mappings. After it the copy is no longer needed. 0 or a
 * negative errno. */
int tt_heap_image_frozen(pid_t copy, pid_t target, const struct tt_heap_thread *threads,
                         size_t n_threads, struct tt_heap_image *out, struct tt_error *err);
/* The same, but large ranges are read when they are looked at, in a handler of SIGSEGV: much less
 * memory and time. If there are such, out->pager is not NULL, and the copy must stay until the
 * image was searched. */
int tt_heap_image_late(pid_t copy, pid_t target, const struct tt_heap_thread *threads,
                       size_t n_threads, struct tt_heap_image *out, struct tt_error *err);
/* Maps a core file (ELF, also compressed pages absent: holes are unread). exe: the program's file,
 * NULL: as NT_FILE/NT_PRPSINFO say; needed for what the core left out. */
int tt_heap_image_core(const char *core, const char *exe, struct tt_heap_image *out,
                       struct tt_error *err);
void tt_heap_image_free(struct tt_heap_image *image);

/* Makes memory ready for the search of a process with that many private bytes, before it is frozen,
 * so that the copy lives shorter; a third as many. The end of the next search gives it back, or
 * 0 bytes do. */
void tt_heap_prepare(uint64_t bytes);

/* ---- blocks ---- */

struct tt_heap_block {
    uint64_t address; /* as malloc returned it */
    uint64_t size;    /* usable bytes */
};
struct tt_heap_span {
    uint64_t start, end;
};
struct tt_heap_blocks {
    TT_VEC(struct tt_heap_block) list; /* in use, ascending */
    char allocator[64]; /* "glibc 2.36", "jemalloc 5.3"; both: "glibc 2.36, jemalloc 5.3" */
    unsigned arenas;
    uint64_t free_bytes; /* held by the allocator, in no block */
    uint64_t
        doubt_bytes; /* heap memory whose layout was not understood: nothing in it is reported */
    /* Extents that the allocator manages: whole heaps and mmapped chunks (blocks lie inside them:
     * what is left is headers, free chunks, tcache) and its own variables in a module's data
     * (main_arena). Ascending, disjoint. No word in them is a root unless a block holds it; memory
     * that counts as doubt_bytes is not among them and is a root. */
    TT_VEC(struct tt_heap_span) internal;
};
/* One allocator's layout. find() looks whether the image has such heaps; walk() appends the blocks.
 */
struct tt_heap_allocator {
    const char *name;
    int (*walk)(const struct tt_heap_image *image, struct tt_heap_blocks *blocks,
                struct tt_error *err); /* 0; -ENOENT: this allocator is not there */
};
extern const struct tt_heap_allocator tt_heap_glibc, tt_heap_jemalloc;
/* Asks every allocator of the table. -ENOENT when none is there: err says what was looked for. */
int tt_heap_walk(const struct tt_heap_image *image, struct tt_heap_blocks *out,
                 struct tt_error *err);
void tt_heap_blocks_free(struct tt_heap_blocks *blocks);

/* ---- search: what is to be told ---- */

struct tt_heap_options {
    /* The site of the live block at that address, 0 if it is not known (born before attach, not
     * sampled). NULL: nothing is known. *requested: bytes asked for, when known. */
    uint32_t (*site_of)(void *arg, uint64_t address, uint64_t *requested);
    void *arg;
    /* Blocks that no allocator of the table knows: sampled objects, which lie in the agent's
     * region. Ascending, sizes as requested. They are blocks like any other (lost, alike, holding),
     * and their memory is no root. May be NULL. */
    const struct tt_heap_block *extra;
    size_t n_extra;
    unsigned threads;               /* of the scan; 0: as many as cores, at most 4 */
    size_t max_groups, max_holders; /* 0: 64, 32 */
};

/* Blocks that a site is known or thought to have made, among the lost ones of a group. */
struct tt_heap_share {
    uint32_t site;
    uint64_t known_units, known_bytes; /* born since attach: the live table says so */
    uint64_t old_units, old_bytes;     /* born before; attributed by fingerprint */
    double probability; /* of the attribution, on the mean of the old units; 1 without any */
};
/* Lost blocks of one fingerprint. */
struct tt_heap_group {
    uint64_t fingerprint;
    uint64_t size_min, size_max; /* usable bytes */
    uint64_t units, bytes;       /* of this fingerprint that cannot be reached */
    uint64_t roots; /* of them: no lost block points to them either (cycles count once) */
    uint64_t hung_units, hung_bytes;       /* other lost blocks that hang on these roots, each
                                              counted at one root only */
    uint64_t unknown_units, unknown_bytes; /* old and not attributable to any site */
    char shape[240];    /* "48 bytes: pointer into tapisrv .rodata+0x1c0; text "sip:alice@"" */
    uint64_t sample[8]; /* addresses of some */
    TT_VEC(struct tt_heap_share) shares;
};
struct tt_heap_held {
    uint32_t site;
    uint64_t units, bytes;
};
/* Who holds blocks that can be reached: the largest by what would become free without it. */
struct tt_heap_holder {
    uint64_t units, bytes; /* dominated by it */
    uint64_t root;         /* address of the root word, or of the dominating block */
    char where[160]; /* "global tapisrv .bss+0x40", "stack of thread 123", "block of 4096 bytes" */
    char path[400];  /* "tapisrv .bss+0x40 -> block 1024 +16 -> block 48" */
    uint32_t site;   /* of the block that holds (or 0) */
    /* the sites whose blocks it holds, most bytes first */
    TT_VEC(struct tt_heap_held) held;
};
struct tt_heap_result {
    char allocator[64];
    uint64_t blocks, bytes, lost_units, lost_bytes, lost_roots;
    uint64_t known_lost_units, old_lost_units, unknown_units; /* of the lost; unknown: no site */
    uint64_t unread_bytes, doubt_bytes,
        tagged;               /* lost blocks that some reachable word would point to if its upper
                                 16 bits were cleared (a stated limit; tags in the low bits make
                                 interior pointers, which count as pointers) */
    uint64_t groups_left_out; /* beyond max_groups */
    uint64_t read_ns, walk_ns, mark_ns, retain_ns;
    TT_VEC(struct tt_heap_group) groups; /* most bytes first */
    TT_VEC(struct tt_heap_holder) holders;
};
/* Names a place in a module's data: symbol, offset, DWARF type where there is debug info. Fills out
 * ("calls+0x10 (struct call *[1024])"), returns 0, or -ENOENT. May be NULL. */
typedef int tt_heap_name_fn(void *arg, const char *path, uint64_t file_offset, uint64_t address,
                            char *out, size_t size);

/* Walk, mark, fold, attribute, holders. 0 or a negative errno. Free with tt_heap_result_free. */
int tt_heap_search(const struct tt_heap_image *image, const struct tt_heap_options *options,
                   tt_heap_name_fn *name, void *name_arg, struct tt_heap_result *out,
                   struct tt_error *err);
void tt_heap_result_free(struct tt_heap_result *result);

#endif
