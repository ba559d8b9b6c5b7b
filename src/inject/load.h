/* SPDX-License-Identifier: Apache-2.0 */
/* The blob: its file, its place in a target, and one that is there already. Start: tt_load_file. */
#ifndef TT_INJECT_LOAD_H
#define TT_INJECT_LOAD_H

#include "agent/blob.h"
#include "inject/find.h"
#include "inject/internal.h"

/* The parts of struct tt_blob that stand before the call; the rest is large and not copied. */
#define TT_LOAD_HEAD offsetof(struct tt_blob, call)

/* telltale-agent.blob, as it will lie in memory. */
struct tt_load_file {
    uint8_t *image;
    size_t size;                 /* whole pages */
    size_t data_start, data_end; /* what must be writable, whole pages */
    size_t at;                   /* of struct tt_blob */
    char build[48];              /* hash of the file */
};
int tt_load_file(const char *path, struct tt_load_file *out, struct tt_error *err);
void tt_load_file_free(struct tt_load_file *file);

/* A blob in a target. */
struct tt_load {
    uint64_t base;       /* of the image */
    uint64_t at;         /* of struct tt_blob */
    struct tt_blob head; /* copy of its first TT_LOAD_HEAD bytes; call and stack are not filled */
};
#define TT_LOAD_OPERATION 0xfff0u /* tt_blob_patch.entry of a counted function */
/* Islands by use. */
enum { TT_ISLAND_NEAR_LIBC, TT_ISLAND_NEAR_EXE, TT_ISLAND_PAD_LIBC, TT_ISLAND_PAD_EXE };

/* Looks for a blob that an earlier telltale left: best one that is in force, then one of this
 * build, then any. 0 and *out, or -ENOENT. */
int tt_load_find(const struct tt_target *target, const char *build, struct tt_load *out);
/* Makes the borrowed thread map memory for blob and islands. On failure nothing stays mapped.
 * *again: the address space changed meanwhile; try again with fresh maps. */
int tt_load_map(struct tt_remote *remote, const struct tt_found *found,
                const struct tt_load_file *file, struct tt_load *out, bool *again,
                struct tt_error *err);
/* Fills the memory; nothing need be stopped. */
int tt_load_fill(const struct tt_target *target, const struct tt_load_file *file,
                 const struct tt_load *load, struct tt_error *err);
/* Takes a fresh blob out again, when nothing was patched yet. */
void tt_load_unmap(struct tt_remote *remote, const struct tt_load *load);
/* Writes a part of the copy back. */
int tt_load_put(const struct tt_target *target, const struct tt_load *load, const void *part,
                size_t n);
/* Sets a record in force for a place that will be changed, ahead of the act; -ENOSPC. */
int tt_load_record(const struct tt_target *target, struct tt_load *load,
                   const struct tt_blob_patch *record);
/* Tells the island that holds it that memory up to `end` is used. */
int tt_load_use(const struct tt_target *target, struct tt_load *load, uint64_t end);
/* Whether `to` can be reached from `from` by a 32-bit displacement. */
bool tt_load_reaches(uint64_t from, uint64_t to);

#endif
