/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots: whether one is worth its pause and fits into it (snapshot.c), and the search of the
 * copy in a thread of its own, stage by stage, so that the process is needed for as short as can be
 * (search.c). Start: tt_snapshot_visit. */
#ifndef TT_RECORD_SEARCH_H
#define TT_RECORD_SEARCH_H

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "heap/heap.h"
#include "inject/inject.h"
#include "record/record.h"
#include "record/tape.h"
#include "session/writer.h"

struct tt_image;
struct tt_recorder;

/* ---- snapshots of an image ---- */

/* When the next one is due, and why there were none. */
struct tt_copies {
    uint64_t taken, tried_ns;
    uint64_t no_memory, too_slow, failed; /* not taken because of */
    char failed_why[200];
    uint64_t over;      /* taken, and the pause was longer than the budget */
    double ns_per_byte; /* pause that is expected of the next; 0: none measured yet */
    bool last_done;     /* one was tried when the recording was about to end */
};

/* snapshot.c */
/* Starts copies that are due, ends those that are done. */
void tt_snapshot_visit(struct tt_recorder *rec, uint64_t now_ns);
/* While the recording is about to end: whether some are wanted or under way. */
bool tt_snapshot_last(const struct tt_recorder *rec);
/* Waits for what is under way and writes it. */
void tt_snapshot_finish(struct tt_recorder *rec);
int tt_snapshot_fd(const struct tt_recorder *rec);
/* Whether one is worth its pause; pure, for tests. */
struct tt_snapshot_question {
    uint64_t now_ns, began_ns; /* of the image's recording */
    uint64_t grown;            /* most units that a site grew by since the last one */
    bool ending;
    bool exiting; /* the process stands at its exit */
};
bool tt_snapshot_wanted(const struct tt_record_options *options, const struct tt_copies *copies,
                        const struct tt_snapshot_question *question);
/* 0, or a negative errno with err when a copy of pid would be too large for memory, or its pause
 * for a budget that was given. */
int tt_snapshot_room(const struct tt_record_options *options, pid_t pid, struct tt_error *err);
/* Makes memory ready for the search, so that a copy of pid need not live longer than it takes. Some
 * tenths of a second per GB. */
void tt_snapshot_prepare(pid_t pid);
/* Nanoseconds that a process of these resident bytes may be stopped. */
uint64_t tt_snapshot_budget(const struct tt_record_options *options, uint64_t bytes);
/* Whether the pause of the next snapshot is expected to be within the budget: strictly where one
 * was given; the default one is not missed for the sake of a quarter. If not, counts it, and the
 * next time expects half-way less than now what a usual kernel needs: a long pause may be bad luck.
 */
bool tt_snapshot_fits(const struct tt_record_options *options, struct tt_copies *copies,
                      uint64_t bytes);
/* Takes in how long a pause was. */
void tt_snapshot_paused(const struct tt_record_options *options, struct tt_copies *copies,
                        uint64_t bytes, uint64_t ns);

/* search.c */
/* What a search is of and what came out. */
struct tt_search {
    struct tt_image *image; /* NULL: its image is gone, or there is none */
    int64_t process, id;
    pid_t pid;
    uint32_t tick;
    struct tt_inject_frozen frozen;
    bool held;           /* the frozen copy exists */
    bool at_exit;        /* the process waits at its exit until it was copied */
    struct tt_tape tape; /* a descriptor of its own; fd -1: none */
    struct tt_shadow shadow;
    struct tt_heap_image heap;
    struct tt_heap_result result;
    int (*place)(void *arg, const char *path, uint64_t file_offset, uint64_t address, char *out,
                 size_t size);
    void *place_arg;
    int code;
    struct tt_error err;
    uint64_t began_ns, read_ns, ended_ns;
    pthread_t thread;
    uint64_t bytes;    /* private ones of the process */
    uint64_t expected; /* for so many memory is made ready first */
    sem_t go;
    int event_fd; /* readable when `stage` went on */
    _Atomic int stage;
};
enum {
    TT_SEARCH_PREPARING,
    TT_SEARCH_PREPARED, /* waits for tt_search_go */
    TT_SEARCH_READING,
    TT_SEARCH_COPIED, /* the process itself is needed no more */
    TT_SEARCH_READ,   /* nor is the copy */
    TT_SEARCH_DONE
};
/* Starts a thread that makes memory ready, waits for the frozen copy, reads it and then searches
 * what it read. */
int tt_search_start(struct tt_search *search);
/* The copy is there; or search->code says why there is none, and it ends without. */
void tt_search_go(struct tt_search *search);
/* Searches search->heap in the calling thread. */
void tt_search_run(struct tt_search *search);
/* Rows of what was found; source "copy" or "core". */
void tt_search_rows(struct tt_session_writer *writer, const struct tt_search *search,
                    const char *source);
void tt_search_free(struct tt_search *search);

#endif
