/* SPDX-License-Identifier: Apache-2.0 */
/* What is different for patched entries of a process that runs already. No unwinder but our own
 * finds the blob's frames, so no exception may pass through one: a throwing operator new is served
 * by its nothrow twin, and only when that has nothing left does the real one get the call, by a
 * jump. dlclose is an entry too. Start: tt_hook_attached. */
#include "agent/hook.h"

#define TWIN (TT_E_NEW_NOTHROW - TT_E_NEW)
_Static_assert(TT_E_NEW_ARRAY_NOTHROW - TT_E_NEW_ARRAY == TWIN &&
                   TT_E_NEW_ALIGNED_NT - TT_E_NEW_ALIGNED == TWIN &&
                   TT_E_NEW_ARRAY_ALIGNED_NT - TT_E_NEW_ARRAY_ALIGNED == TWIN,
               "each throwing operator new stands as far before its nothrow twin");

static uint64_t throwing(uint64_t a, uint64_t b, uint64_t c, const uint64_t *slot, uint64_t rbp,
                         uint32_t entry)
{
    uint64_t block = tt_agent.entry[entry + TWIN](a, b, c, slot, rbp, entry + TWIN);
    if (TT_LIKELY(block != 0))
        return block;
    return tt_agent.host.real[entry](a, b, c); /* a jump: it may throw */
}

static uint64_t closing(uint64_t a, uint64_t b, uint64_t c, const uint64_t *slot, uint64_t rbp,
                        uint32_t entry)
{
    (void)rbp;
    uint64_t result = tt_hook_real(entry, a, b, c);
    if (tt_agent_recording()) {
        struct tt_thread *t = tt_thread_get();
        if (tt_hook_enter(t, slot)) {
            tt_row_forget(t);
            tt_hook_leave(t);
        }
    }
    return result;
}

void tt_hook_attached(void)
{
    static const uint32_t kinds[] = {TT_E_NEW, TT_E_NEW_ARRAY, TT_E_NEW_ALIGNED,
                                     TT_E_NEW_ARRAY_ALIGNED};
    for (uint32_t set = 0; set < TT_E_SETS; set++)
        for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
            uint32_t e = set * TT_E_COUNT + kinds[i];
            tt_hook_fn *hook = throwing;
            if (!tt_agent.host.real[e + TWIN])
                hook = tt_hook_straight(e);
            tt_hook_point(e, hook, NULL);
        }
    tt_hook_point(TT_E_DLCLOSE, closing, NULL);
}
