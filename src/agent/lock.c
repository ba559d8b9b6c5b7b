/* SPDX-License-Identifier: Apache-2.0 */
/* The lock of the rare paths: spins briefly, then sleeps in futex (a waiter with real-time priority
 * must not keep the owner off the processor). The word says whose it is, in one store, so that a
 * thread whose busy frame was left by longjmp can give back what that frame held, and so that
 * nobody gives back what is another's. A thread of the target must never stand still for us: a
 * waiter looks again now and then, and leaves without the lock when it would wait for nothing.
 * Cleared as a whole only when no thread is inside the agent. Start: tt_lock_take. */
#include "agent/agent.h"

#define SPINS 100u
#define LOOK_NS 20000000
#define LOOKS 50u /* at an owner that does not move */

/* What the locks guard is only needed while somebody records. Before there is a recording nobody
 * else is here. */
static int recording(void)
{
    return !tt_agent.alive || !tt_agent.head ||
           (tt_agent_recording() &&
            __atomic_load_n(&tt_agent.head->state, __ATOMIC_RELAXED) == TT_STATE_RUNNING);
}

int tt_lock_take(struct tt_lock *lock, uint32_t id)
{
    const long soon[2] = {0, LOOK_NS}; /* struct timespec */
    uint32_t wait = 0, owner = 0, looks = 0;
    for (unsigned turn = 0;; turn++) {
        uint32_t seen = 0;
        if (__atomic_compare_exchange_n(&lock->word, &seen, id | wait, 0, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED))
            return 1;
        if (turn < SPINS) {
            __builtin_ia32_pause();
            continue;
        }
        if (seen & TT_LOCK_LOST || !recording())
            return 0;
        if ((seen & TT_LOCK_ID) != owner) {
            owner = seen & TT_LOCK_ID;
            looks = 0;
        }
        uint32_t want = looks < LOOKS ? seen | TT_LOCK_WAIT : seen | TT_LOCK_WAIT | TT_LOCK_LOST;
        if (want != seen && !__atomic_compare_exchange_n(&lock->word, &seen, want, 0,
                                                         __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            continue;
        if (want & TT_LOCK_LOST)
            return 0;
        wait = TT_LOCK_WAIT;
        looks += tt_sys(__NR_futex, (long)&lock->word, 128 /* WAIT, private */, want, (long)soon, 0,
                        0) == -TT_ETIMEDOUT;
    }
}

int tt_lock_try(struct tt_lock *lock, uint32_t id)
{
    uint32_t seen = 0;
    return __atomic_compare_exchange_n(&lock->word, &seen, id, 0, __ATOMIC_ACQUIRE,
                                       __ATOMIC_RELAXED);
}

void tt_lock_give(struct tt_lock *lock, uint32_t id)
{
    uint32_t seen = __atomic_load_n(&lock->word, __ATOMIC_RELAXED);
    while ((seen & TT_LOCK_ID) == id) {
        if (!__atomic_compare_exchange_n(&lock->word, &seen, 0, 0, __ATOMIC_RELEASE,
                                         __ATOMIC_RELAXED))
            continue;
        if (seen & TT_LOCK_WAIT)
            tt_sys(__NR_futex, (long)&lock->word, 129 /* WAKE, private */, 1, 0, 0, 0);
        return;
    }
}
