/* SPDX-License-Identifier: Apache-2.0 */
/* What the pack (preload library or injected blob) gives the core, and the list of hooked entries.
 * The core knows the real allocator only through struct tt_host, so that the same core tracks
 * glibc, jemalloc, tcmalloc or mimalloc, and needs neither loader nor libc. This file is also read
 * by the assembler: the entry numbers are the indices of both tables. Start: the TT_E_* list. */
#ifndef TT_AGENT_HOST_H
#define TT_AGENT_HOST_H

/* Entries: index into tt_agent.entry[] (where a stub jumps) and tt_host.real[]. */
#define TT_E_MALLOC 0
#define TT_E_FREE 1
#define TT_E_CALLOC 2
#define TT_E_REALLOC 3
#define TT_E_REALLOCARRAY 4
#define TT_E_MEMALIGN 5
#define TT_E_ALIGNED_ALLOC 6
#define TT_E_POSIX_MEMALIGN 7
#define TT_E_VALLOC 8
#define TT_E_PVALLOC 9
#define TT_E_USABLE_SIZE 10
#define TT_E_CFREE 11
#define TT_E_FREE_SIZED 12
#define TT_E_FREE_ALIGNED_SIZED 13
/* operator new and delete of allocators that define them themselves. */
#define TT_E_NEW 14                   /* _Znwm */
#define TT_E_NEW_ARRAY 15             /* _Znam */
#define TT_E_NEW_NOTHROW 16           /* _ZnwmRKSt9nothrow_t */
#define TT_E_NEW_ARRAY_NOTHROW 17     /* _ZnamRKSt9nothrow_t */
#define TT_E_NEW_ALIGNED 18           /* _ZnwmSt11align_val_t */
#define TT_E_NEW_ARRAY_ALIGNED 19     /* _ZnamSt11align_val_t */
#define TT_E_NEW_ALIGNED_NT 20        /* _ZnwmSt11align_val_tRKSt9nothrow_t */
#define TT_E_NEW_ARRAY_ALIGNED_NT 21  /* _ZnamSt11align_val_tRKSt9nothrow_t */
#define TT_E_DELETE 22                /* _ZdlPv */
#define TT_E_DELETE_ARRAY 23          /* _ZdaPv */
#define TT_E_DELETE_SIZED 24          /* _ZdlPvm */
#define TT_E_DELETE_ARRAY_SIZED 25    /* _ZdaPvm */
#define TT_E_DELETE_NOTHROW 26        /* _ZdlPvRKSt9nothrow_t */
#define TT_E_DELETE_ARRAY_NOTHROW 27  /* _ZdaPvRKSt9nothrow_t */
#define TT_E_DELETE_ALIGNED 28        /* _ZdlPvSt11align_val_t */
#define TT_E_DELETE_ARRAY_ALIGNED 29  /* _ZdaPvSt11align_val_t */
#define TT_E_DELETE_SIZED_ALIGNED 30  /* _ZdlPvmSt11align_val_t */
#define TT_E_DELETE_ARRAY_SIZED_AL 31 /* _ZdaPvmSt11align_val_t */
#define TT_E_DELETE_ALIGNED_NT 32     /* _ZdlPvSt11align_val_tRKSt9nothrow_t */
#define TT_E_DELETE_ARRAY_AL_NT 33    /* _ZdaPvSt11align_val_tRKSt9nothrow_t */
#define TT_E_COUNT 34
/* Definitions of several allocators in one process (blob.h): entry e of set s has the number
 * s * TT_E_COUNT + e in the tables; only the blob uses sets beyond 0. */
#define TT_E_SETS 4
#define TT_E_DLCLOSE 136 /* TT_E_SETS * TT_E_COUNT: no allocator's, but patched like them */
#define TT_E_ALL 137

#ifndef __ASSEMBLER__
#include <stdint.h>

/* An entry of the real allocator; unused arguments are ignored by the callee (System V ABI). */
typedef uint64_t tt_real_fn(uint64_t a, uint64_t b, uint64_t c);

struct tt_host {
    tt_real_fn *real[TT_E_ALL];   /* NULL: the allocator has none, and nobody can call it */
    uint32_t granule_shift;       /* 5 glibc (chunks >= 32 bytes apart), 4 others */
    uint32_t size_floor;          /* smallest size to ask for: 0 glibc, 9 others */
    uint64_t near_exe, near_libc; /* addresses in their code; pads for stubs go near them */
    char allocator[64];           /* "glibc" or path of the object; goes to the tape */
    char exe[256];
};

/* What the recorder wants; see TT_TAPE_ENV_CONF. */
struct tt_conf {
    char dir[200];    /* where tapes are made */
    uint32_t mode;    /* enum tt_tape_mode */
    uint16_t follow;  /* record children too */
    uint16_t last_ms; /* an exit may wait so long for a last copy of the memory; 0: not at all */
    uint32_t root;    /* pid that records even with follow=0; 0: this one */
    uint32_t rate;    /* adaptive: samples per second and key */
    uint64_t mean;    /* sampled: bytes between samples */
    uint64_t seed;    /* of the sampler; 0: from the clock */
    uint64_t origin_ns;
};
#endif
#endif
