/* SPDX-License-Identifier: Apache-2.0 */
/* Seam of lock.c: a futex lock for rare paths, whose waiters never depend on its owner. Start:
 * tt_lock_take. */
#ifndef TT_AGENT_LOCK_H
#define TT_AGENT_LOCK_H

#include <stdint.h>

struct tt_lock {
    uint32_t word; /* 0 free; else the owner's id with these two: */
};
#define TT_LOCK_WAIT 0x80000000u /* somebody sleeps */
#define TT_LOCK_LOST 0x40000000u /* somebody waited in vain: until it is given, nobody waits */
/* Ids: a thread's is its index + 1, at most the size of the pool. */
#define TT_LOCK_ID 0x3fffffffu
#define TT_LOCK_MAKER TT_LOCK_ID         /* a thread that has no state yet */
#define TT_LOCK_CALLER (TT_LOCK_ID - 1u) /* a call of the blob */

/* 1 taken. 0 not: then do without what the lock guards and count what is dropped by that. So ends
 * the waiting when there is no recording any more, and when one owner has not moved for a second:
 * it left by longjmp, or is a frame below us that a signal handler interrupted. */
__attribute__((visibility("hidden"))) int tt_lock_take(struct tt_lock *lock, uint32_t id);
/* The same without waiting. */
__attribute__((visibility("hidden"))) int tt_lock_try(struct tt_lock *lock, uint32_t id);
/* Gives the lock back if it is this owner's. */
__attribute__((visibility("hidden"))) void tt_lock_give(struct tt_lock *lock, uint32_t id);

#endif
