/* SPDX-License-Identifier: Apache-2.0 */
/* The seam between the core packed as a blob (inside the target) and src/inject (outside). The blob
 * is telltale-agent.blob, an ELF shared object of the core without relocations, TLS and needed
 * libraries: inject maps its PT_LOAD segments at any base, writes their bytes through
 * /proc/PID/mem, and finds the struct tt_blob by the symbol "tt_blob". Everything that a later
 * telltale needs to undo what an earlier one did stands in that struct, written before the act
 * (write-ahead), so that a telltale killed at any moment leaves nothing that cannot be cleaned up.
 * Start: struct tt_blob; inside, tt_blob_run in blob.c. */
#ifndef TT_AGENT_BLOB_H
#define TT_AGENT_BLOB_H

#include "agent/host.h"

#define TT_BLOB_MAGIC 0x31626f6c62745474 /* "tTtblob1" */
#define TT_BLOB_VERSION 3

/* Definitions of one allocator. Set 0 is the one that the program's own calls are bound to; the
 * others (libc's beside a jemalloc, a statically linked one) share the tape but take a slower way.
 */
#define TT_BLOB_SETS TT_E_SETS

#define TT_BLOB_PATCHES 512u
#define TT_BLOB_ISLANDS 8u
#define TT_BLOB_STACK 0xc000u

#define TT_BLOB_AT 0x40000    /* offset of the struct in the image */
#define TT_BLOB_BYTES 0x14ef8 /* of it; blob.c checks */

#ifndef __ASSEMBLER__
#include <stdint.h>

/* A place in the target that inject changed: a function's entry, or (got) a pointer to it. */
struct tt_blob_patch {
    uint64_t address;
    uint8_t was[16], is[16];
    uint32_t length; /* bytes of was and is */
    uint16_t set, entry;
    uint32_t active; /* 1 from before it is written until after it is restored */
    uint16_t got;    /* 1: address is a GOT slot */
    uint16_t before; /* bytes of the short way before `real` (inject/entry.c), 0 none */
    uint64_t real;   /* what the hook calls instead: moved first instructions, or the function */
};

/* Executable memory near the code it serves: moved instructions, jumps to the blob, stubs of
 * counted operations. */
struct tt_blob_island {
    uint64_t base, size, used;
};

enum tt_blob_what {
    TT_BLOB_START =
        1, /* make a tape (the second time: a new one in place of the first) and record */
    TT_BLOB_PASS = 2, /* all entries lead to the real functions; sampled objects stay handled */
    TT_BLOB_DROP = 3, /* after PASS and the last reading: the tape's memory is given back (its
                         addresses stay, zero: a thread still inside comes to no harm) */
};

/* What becomes of a call, tt_blob_call.done. */
enum tt_blob_done {
    TT_BLOB_BUSY = 0,
    TT_BLOB_DONE = 1,   /* the results are there; the thread waits while `hold` is 1 */
    TT_BLOB_CLOSED = 2, /* after hold became 0: the tape's descriptor is closed; it waits again */
    TT_BLOB_LEFT = 3,   /* it waited in vain, closed the descriptor and went on by itself */
};

/* One call of tt_blob_run, made by inject on a thread that it stopped. It runs through without a
 * stop; then the thread waits in a loop (no system call, so that the kernel's note of one that was
 * interrupted stays) to be taken out of it, for a tenth of a second or so. */
struct tt_blob_call {
    uint32_t what;
    uint32_t hold;   /* 1: wait at the end; inject sets 0 once it has opened the descriptor */
    uint32_t done;   /* out: enum tt_blob_done */
    int32_t result;  /* out: 0 or a negative errno */
    int32_t tape_fd; /* out of START: a memfd in the target; inject takes and closes it. -1 none */
    uint32_t sandboxed; /* 1: a seccomp filter is in force: only system calls of allocators later */
    /* NULL: not hooked in that set. A set with any entry has malloc, free and realloc here, hooked
     * or not: sampled objects that change their size go through them. */
    tt_real_fn *real[TT_BLOB_SETS][TT_E_COUNT];
    /* dlclose, patched like the others (tt_blob_patch.set 0, entry TT_E_COUNT): unwind rows of
     * unloaded code must be forgotten. NULL: not hooked. */
    tt_real_fn *real_dlclose;
    /* prctl and syscall, patched like the others (set 0, entry TT_E_COUNT + 1 and + 2): a program
     * that installs a seccomp filter while we are in it may be killed for a system call that it did
     * not foresee; from then on the agent makes none but those of allocators. NULL: not hooked. */
    tt_real_fn *real_prctl, *real_syscall;
    struct tt_host host; /* real[] of it is not read; the rest is. granule_shift 4 and size_floor 9
                            if any set is not glibc */
    struct tt_conf conf;
    uint64_t pad[2], pad_size[2]; /* for operation stubs, mapped RX by inject; 0 none */
    char why[128];                /* out: one phrase when result is not 0 */
};

struct tt_blob {
    uint64_t magic;
    uint32_t version;
    uint32_t patch_count;
    /* Filled at link time: where a patched entry jumps, as an offset from the start of the blob's
     * image (the struct holds no addresses, since nothing relocates it). Never 0. */
    uint32_t entry[TT_BLOB_SETS][TT_E_COUNT];
    uint32_t entry_dlclose; /* the same for dlclose, see tt_blob_call.real_dlclose */
    /* Offset of a plain function, void enter(void), that does what tt_blob.call says and returns.
     * inject enters it as a call would (rsp + 8 a multiple of 16, near the end of tt_blob.stack,
     * signals blocked); it returns to an rt_sigreturn whose frame holds the thread's own registers,
     * so that the thread goes on by itself if inject has died meanwhile. No int3. */
    uint32_t enter;
    uint32_t
        text_end; /* offset: [0, text_end) is what a thread inside the agent has in rip or stack */
    /* The same for prctl and syscall, see tt_blob_call.real_prctl. */
    uint32_t entry_prctl, entry_syscall;
    uint32_t reserved;
    char build[48];      /* build-id of the blob file, written by inject: only the same is reused */
    uint64_t base, size; /* of the blob's mappings, written by inject */
    uint64_t calling;  /* inject: 1 while a thread does `call`; found set, one may still be at it */
    uint32_t attached; /* inject: pid of the telltale that holds it, 0 none */
    uint32_t
        detached_live; /* blob, at PASS: sampled objects still live whose release needs a hook */
    struct tt_blob_island island[TT_BLOB_ISLANDS];
    struct tt_blob_patch patch[TT_BLOB_PATCHES];
    struct tt_blob_call call;
    /* For the call. inject puts the signal frame (up to 16 KiB) at its end and rsp below it. */
    uint8_t stack[TT_BLOB_STACK];
};

#endif
#endif
