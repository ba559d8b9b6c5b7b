/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of the blob in a target. Start: tt_call_alone. */
#ifndef TT_INJECT_CALL_H
#define TT_INJECT_CALL_H

#include "inject/load.h"

#define TT_CALL_TAPE "/memfd:telltale" /* the tape's name in /proc: agent/start.c */

/* Ahead of the stop: the words of the call, and the record that one is being made. 0 or a negative
 * errno with err. */
int tt_call_write(const struct tt_target *target, struct tt_load *load, struct tt_blob_call *call,
                  struct tt_error *err);
/* Makes the call that was written on a stopped thread, which stays stopped; `call` gets the
 * results. A tape that it made: our descriptor in *tape_fd, if that is not NULL. -EAGAIN: not in
 * time. */
int tt_call_on(const struct tt_target *target, struct tt_load *load,
               const struct tt_stopped_thread *thread, struct tt_blob_call *call, int *tape_fd,
               struct tt_error *err);
/* Both, on one thread that is stopped for it (so long at most in *stood_ns, if not NULL); the
 * others go on. */
int tt_call_alone(const struct tt_target *target, struct tt_load *load, struct tt_blob_call *call,
                  int *tape_fd, uint64_t *stood_ns, struct tt_error *err);
/* The same for TT_BLOB_PASS or TT_BLOB_DROP. */
int tt_call_order(const struct tt_target *target, struct tt_load *load, uint32_t what,
                  struct tt_error *err);
/* Waits until what a killed telltale began is ended. 0, or -EAGAIN with err. */
int tt_call_await_left(struct tt_target *target, struct tt_load *load, struct tt_error *err);

/* Records that a call is being made (1) or that none is (0). */
int tt_call_mark(const struct tt_target *target, struct tt_load *load, uint64_t calling);
/* The longer of *stood_ns and the time since. */
void tt_call_longest(uint64_t *stood_ns, uint64_t since);
/* A pause before the next try: longer from time to time, since a thread may wait for its turn on a
 * processor. */
void tt_call_breathe(int tries);
/* Says that the target's memory cannot be used. Returns code. */
int tt_call_failed(const struct tt_target *target, int code, struct tt_error *err);

#endif
