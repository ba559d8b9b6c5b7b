/* SPDX-License-Identifier: Apache-2.0 */
/* The second preload library, for programs whose allocator defines operator new and delete itself
 * (jemalloc, tcmalloc, mimalloc): those never reach malloc. Kept apart from the first library, so
 * that a plain C program does not find operator new in its scope. An entry is tracked only if the
 * next definition lies in the same object as the real malloc; libstdc++'s calls malloc, which is
 * hooked already, and counting both would count twice. Start: tt_cxx_resolve. */
#include <dlfcn.h>
#include <stddef.h>

#include "agent/preload.h"

#define ENTRIES (TT_E_COUNT - TT_E_NEW)
#define HIDDEN __attribute__((visibility("hidden")))

/* Used by the stubs: the core's hooks, which entries go there, and the real ones. */
extern void *const *tt_cxx_table HIDDEN;
extern unsigned char tt_cxx_tracked[ENTRIES] HIDDEN;
extern tt_real_fn *tt_cxx_real[ENTRIES] HIDDEN;
void *const *tt_cxx_table;
unsigned char tt_cxx_tracked[ENTRIES];
tt_real_fn *tt_cxx_real[ENTRIES];

static const char *const names[ENTRIES] = {
    "_Znwm",
    "_Znam",
    "_ZnwmRKSt9nothrow_t",
    "_ZnamRKSt9nothrow_t",
    "_ZnwmSt11align_val_t",
    "_ZnamSt11align_val_t",
    "_ZnwmSt11align_val_tRKSt9nothrow_t",
    "_ZnamSt11align_val_tRKSt9nothrow_t",
    "_ZdlPv",
    "_ZdaPv",
    "_ZdlPvm",
    "_ZdaPvm",
    "_ZdlPvRKSt9nothrow_t",
    "_ZdaPvRKSt9nothrow_t",
    "_ZdlPvSt11align_val_t",
    "_ZdaPvSt11align_val_t",
    "_ZdlPvmSt11align_val_t",
    "_ZdaPvmSt11align_val_t",
    "_ZdlPvSt11align_val_tRKSt9nothrow_t",
    "_ZdaPvSt11align_val_tRKSt9nothrow_t",
};

HIDDEN void tt_cxx_resolve(void);
__attribute__((constructor)) void tt_cxx_resolve(void)
{
    union {
        void *object;
        tt_real_fn *fn;
    } found;
    Dl_info allocator = {0}, info = {0};
    if (tt_cxx_table)
        return;
    dladdr(tt_agent_cxx_malloc(), &allocator);
    for (int i = 0; i < ENTRIES; i++) {
        found.object = dlsym(RTLD_NEXT, names[i]);
        tt_cxx_real[i] = found.fn;
        tt_cxx_tracked[i] = found.object && allocator.dli_fbase &&
                            dladdr(found.object, &info) != 0 &&
                            info.dli_fbase == allocator.dli_fbase;
    }
    tt_agent_cxx_real(tt_cxx_real);
    __atomic_store_n(&tt_cxx_table, tt_agent_cxx_entries(), __ATOMIC_RELEASE);
}
