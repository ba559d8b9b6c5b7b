/* SPDX-License-Identifier: Apache-2.0 */
/* Writing a session. The recorder opens a transaction for each write, puts rows (the reader's
 * structs, so that both sides mean the same) and commits; what was committed survives its death.
 * The first failure, a full disk above all, closes the writer for good: later calls return the
 * same error and do nothing, so that the recorder can say it once and let the target go on.
 * Start: tt_session_create. */
#ifndef TT_SESSION_WRITER_H
#define TT_SESSION_WRITER_H

#include "session/session.h"

struct tt_session_writer;

/* Creates the file with all its tables. An older session of that name is replaced; anything else
 * that stands there, or a session that is being recorded now, is left alone (-EEXIST, -EBUSY).
 * NULL with err set; err->code is -ENOSPC, -EDQUOT or -EFBIG when the disk is full. */
struct tt_session_writer *tt_session_create(const char *path, struct tt_error *err);

/* Ends it: with `finished` marks the session complete, folds the write-ahead log into the file and
 * gives back free pages. 0 or the error that closed the writer. The writer is freed. */
int tt_session_finish(struct tt_session_writer *writer, bool finished, struct tt_error *err);

/* 0, or the negative errno that closed the writer; err then says what happened. */
int tt_session_failed(const struct tt_session_writer *writer, struct tt_error *err);

/* Bytes of the file and its log now. */
uint64_t tt_session_bytes(const struct tt_session_writer *writer);

int tt_session_begin(struct tt_session_writer *writer);
int tt_session_commit(struct tt_session_writer *writer);

/* Each returns 0 or the negative errno that closed the writer. All but put_module replace a row of
 * the same key. Strings may be NULL. */
int tt_session_put_meta(struct tt_session_writer *writer, const char *key, const char *value);
__attribute__((format(printf, 3, 4))) int
tt_session_put_metaf(struct tt_session_writer *writer, const char *key, const char *fmt, ...);
int tt_session_put_label(struct tt_session_writer *writer, const char *key, const char *value);
int tt_session_put_process(struct tt_session_writer *writer, const struct tt_session_process *row);
int tt_session_put_module(struct tt_session_writer *writer, const struct tt_session_module *row);
/* Says that the mapping that starts there, put with that since_ns, ended. */
int tt_session_end_module(struct tt_session_writer *writer, const struct tt_session_module *row);
int tt_session_put_stack(struct tt_session_writer *writer, int64_t process, int64_t id, bool cut,
                         const uint64_t *frames, size_t n);
/* The totals of row are not used: they are a sample's. */
int tt_session_put_site(struct tt_session_writer *writer, const struct tt_session_site *row);
int tt_session_put_epoch(struct tt_session_writer *writer, int64_t id, uint64_t at_ns);
/* row->at_ns is not used: row->epoch is. */
int tt_session_put_sample(struct tt_session_writer *writer, int64_t process, int64_t site,
                          const struct tt_session_sample *row);
int tt_session_put_death(struct tt_session_writer *writer, int64_t process, int64_t site,
                         uint32_t bin, uint64_t count);
/* Forgets the survivors of a process, before those of a new look are put. */
int tt_session_clear_survivors(struct tt_session_writer *writer, int64_t process);
int tt_session_put_survivor(struct tt_session_writer *writer, int64_t process,
                            const struct tt_session_survivor *row);
int tt_session_put_look(struct tt_session_writer *writer, int64_t process,
                        const struct tt_session_look *row);
int tt_session_put_release(struct tt_session_writer *writer, int64_t process,
                           const struct tt_session_release *row);
int tt_session_put_release_age(struct tt_session_writer *writer, int64_t process,
                               const struct tt_session_release_age *row);
int tt_session_put_operation(struct tt_session_writer *writer,
                             const struct tt_session_operation *row);
int tt_session_put_count(struct tt_session_writer *writer, int64_t process, int64_t operation,
                         int64_t epoch, uint64_t count);
int tt_session_put_proc(struct tt_session_writer *writer, int64_t process,
                        const struct tt_session_proc *row);
int tt_session_put_limit(struct tt_session_writer *writer, const struct tt_session_limit *row);
int tt_session_put_dropped(struct tt_session_writer *writer, const struct tt_session_dropped *row);

/* Takes n epochs out: what was written at from[i] is moved to to[i], the next epoch that is kept,
 * unless there is a row for that already. Counts are cumulative, so nothing becomes wrong. */
int tt_session_merge_epochs(struct tt_session_writer *writer, const int64_t *from,
                            const int64_t *to, size_t n);
/* Rows of site_sample now. */
uint64_t tt_session_sample_rows(struct tt_session_writer *writer);

#endif
