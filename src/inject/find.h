/* SPDX-License-Identifier: Apache-2.0 */
/* Where the functions of the allocators stand in a running process. Start: tt_find. */
#ifndef TT_INJECT_FIND_H
#define TT_INJECT_FIND_H

#include <limits.h>

#include "agent/blob.h"
#include "inject/internal.h"

/* An object of the loader's list, in its order: the executable first. */
struct tt_object {
    char path[PATH_MAX]; /* "" the executable */
    uint64_t bias;
    uint64_t start, end; /* of its mappings */
    uint64_t symtab, strtab, strsz, symbols;
    uint64_t rela, relasz, jmprel, pltrelsz;
    bool libc;
};

struct tt_definition {
    uint64_t address, size;
    size_t object; /* index */
    uint16_t set, entry;
    bool ifunc; /* address is the resolver's: only pointers to the function can be changed */
    char name[48];
};

#define TT_FIND_OTHERS 3

struct tt_found {
    TT_VEC(struct tt_object) objects;
    TT_VEC(struct tt_definition) definitions; /* by set; one per address and set */
    unsigned sets;
    char allocator[64];        /* of set 0: "glibc" or the object's path */
    bool glibc_only;           /* no set but libc's */
    uint64_t entry, libc_near; /* addresses in the executable's and in libc's code */
    /* (set, entry) to the index of its definition + 1; aliases point to the one that is patched. */
    uint16_t index[TT_BLOB_SETS][TT_E_COUNT];
    /* The same for what else the agent follows, entries from TT_E_COUNT: dlclose, prctl, syscall.
     */
    uint16_t other[TT_FIND_OTHERS];
};
enum { TT_FIND_DLCLOSE, TT_FIND_PRCTL, TT_FIND_SYSCALL };

/* Walks the loader's list and the symbol tables through the target's memory (its files are read
 * only for symbols that are not loaded). 0, or -EOPNOTSUPP, -EBUSY (telltale run's library is
 * there), -EAGAIN (the loader is at work) with err. */
int tt_find(const struct tt_target *target, struct tt_found *out, struct tt_error *err);
void tt_find_free(struct tt_found *found);

/* Whether an entry releases. */
bool tt_find_releases(uint16_t entry);

/* Calls put for each pointer to `name` that the loader fills in some object (GOT slots). */
void tt_find_slots(const struct tt_target *target, const struct tt_found *found, const char *name,
                   void (*put)(void *arg, uint64_t slot), void *arg);

#endif
