/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a call of a blob: the thread says that it is done and waits to be given its registers
 * back. A loop and no system call, since one that is interrupted would wipe out the kernel's note
 * of the one that the stop interrupted (restart_syscall(2)). If nobody comes, telltale is dead, and
 * the thread goes on by itself. Start: tt_blob_wait. */
#ifndef TT_AGENT_BLOB_WAIT_H
#define TT_AGENT_BLOB_WAIT_H

#include "agent/blob.h"
#include "agent/sys.h"

#define TT_BLOB_LOOPS (1u << 22) /* 20 to 200 ms: a pause takes 10 to 140 cycles */

/* Whether `hold` is no longer `value`; it is waited for, but not for ever. */
static inline int tt_blob_awaited(const struct tt_blob_call *c, uint32_t value)
{
    for (uint32_t i = 0; i < TT_BLOB_LOOPS; i++) {
        if (__atomic_load_n(&c->hold, __ATOMIC_ACQUIRE) != value)
            return 1;
        __asm__ volatile("pause");
    }
    return 0;
}

/* What struct tt_blob_call says of hold and done. */
static inline void tt_blob_wait(struct tt_blob_call *c)
{
    if (!c->hold)
        return;
    __atomic_store_n(&c->done, TT_BLOB_DONE, __ATOMIC_SEQ_CST);
    int taken = tt_blob_awaited(c, 1);
    if (!taken)
        __atomic_store_n(&c->done, TT_BLOB_LEFT, __ATOMIC_SEQ_CST);
    if (c->tape_fd >= 0)
        tt_sys_close(c->tape_fd);
    if (!taken)
        return;
    __atomic_store_n(&c->done, TT_BLOB_CLOSED, __ATOMIC_SEQ_CST);
    tt_blob_awaited(c, 0);
}

#endif
