/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the recorder share. One struct tt_recorder per recording; one struct
 * tt_image per tape, that is per memory image of a recorded process (an exec makes a new one).
 *   dir.c     the directory of the tapes            launch.c  starting the command
 *   tape.c    reading a tape, all of it hostile     look.c    the shadow: which units live
 *   modules.c what is mapped where                  count.c   operations
 *   image.c   life of an image                      rows.c    rows of a session
 *   setting.c what is changed in the caller         loop.c    the loop
 *   run.c     recording a command                   attach.c  recording what runs already
 *   kernel.c  recording from the kernel's side
 *   hold.c    a command held at its end
 *   ask.c     requests to a recorder                shadow.c  the shadow as it was at a moment
 *   snapshot.c frozen copies, and when to make one  search.c  one copy searched, and its rows
 *   stale.c   sampled objects not touched           once.c    one snapshot, or a core file
 *   watch.c   which functions are watched           held.c    units held besides heap blocks
 *   library.c where functions of the C library are  reconcile.c what the kernel says of them
 *   probe.c   what the program tells itself
 *   owner.c   on whose behalf                       held_rows.c their rows
 * Start: struct tt_recorder, then tt_record_run in run.c. */
#ifndef TT_RECORD_INTERNAL_H
#define TT_RECORD_INTERNAL_H

#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/map.h"
#include "base/vec.h"
#include "heap/heap.h"
#include "inject/attach.h"
#include "inject/inject.h"
#include "kernel/kernel.h"
#include "inject/watch.h"
#include "proc/proc.h"
#include "record/held.h"
#include "record/record.h"
#include "session/snapshot.h"
#include "session/writer.h"

#define TT_SECOND 1000000000ULL
#define TT_RECORD_IMAGES 4096u        /* recorded in one session; more are counted */
#define TT_RECORD_SITES 16384u        /* sites of an image written one by one; the rest is summed */
#define TT_RECORD_SURVIVOR_ROWS 4096u /* of one site */
#define TT_RECORD_SURVIVORS (1u << 17) /* rows of one image */
#define TT_RECORD_SAMPLE_ROWS 200000u  /* of the session, then epochs are thinned */
#define TT_RECORD_EPOCHS 480u
#define TT_RECORD_RELEASES 64u              /* release paths of one site */
#define TT_RECORD_REGION_BYTES (1ULL << 36) /* of addresses of sampled objects; agent/region.h */
#define TT_RECORD_AGES 1024u                /* distinct exact ages of one site */

/* ---- a tape ---- */

/* What a site stood at, 64 bits wide. Deaths never exceed births here. */
struct tt_totals {
    uint64_t births, birth_bytes, deaths, death_bytes;
};

struct tt_site {
    struct tt_totals now;   /* as read */
    struct tt_totals wrote; /* in its last row */
    uint64_t *bins;         /* TT_TAPE_BINS, once the site is written; NULL before */
    int64_t wrote_epoch;    /* of that row; 0 none */
    uint32_t size_min, size_max, wrote_min, wrote_max;
    uint32_t frames;
    uint16_t depth;
    uint8_t thin, flags, kind;
    bool ready;  /* the record was seen complete */
    bool chosen; /* gets rows of its own */
    bool stack;  /* its stack row is written */
    bool bins_changed;
    uint64_t base_live; /* live units when the image was first read, to rank growth */
    uint64_t copy_live; /* live units at the last snapshot */
    bool operations;    /* functions on its stack are counted or were refused */
    uint32_t n_releases, n_ages;
};

struct tt_release {
    uint32_t site, by;
    uint64_t samples, weight, last_ns;
    bool changed;
};
struct tt_release_age {
    uint32_t site, age;
    uint64_t samples, weight;
    bool changed;
};

/* Counts read in one visit, before they are believed. */
struct tt_sum {
    uint32_t births, deaths;
    uint64_t birth_bytes, death_bytes;
};

/* The tape's file and what was read of it. Every field comes checked against its bounds. */
struct tt_tape {
    int fd;
    uint64_t device, inode;
    struct tt_tape_head head;
    TT_VEC(struct tt_site) sites;
    TT_VEC(struct tt_sum) sums; /* scratch */
    uint32_t ring_tail;
    unsigned ring_stuck; /* visits that found the next release not published */
    TT_VEC(struct tt_release) releases;
    struct tt_map release_at; /* site << 32 | by -> index */
    TT_VEC(struct tt_release_age) ages;
    struct tt_map age_at; /* site << 32 | age -> index */
    uint64_t lost_releases, lost_ages, lost_paths;
    bool settled; /* the last reading saw no counter move */
};

/* 0 when magic, version and bounds are right; -EAGAIN while the agent is still filling it in;
 * -EBADMSG. Reads head. */
int tt_tape_read_head(struct tt_tape *tape);
/* Adds up site records and thread tallies into sites[].now. 0 or a negative errno. */
int tt_tape_read_totals(struct tt_tape *tape);
/* Takes what is new from the ring of sampled releases. */
void tt_tape_read_ring(struct tt_tape *tape, uint64_t origin_ns);
/* Death bins of one site, widened to 64 bits in site->bins. */
void tt_tape_read_bins(struct tt_tape *tape, uint32_t site);
/* The stack of a site: at most TT_TAPE_DEPTH frames; returns how many. */
size_t tt_tape_read_stack(struct tt_tape *tape, const struct tt_site *site,
                          uint64_t frames[TT_TAPE_DEPTH]);
/* The head's state now; TT_STATE_EMPTY when it cannot be read. */
uint32_t tt_tape_state(const struct tt_tape *tape);
/* Whether the process stands at its exit and waits for tt_tape_let_go; not for long. */
bool tt_tape_exiting(const struct tt_tape *tape);
void tt_tape_let_go(const struct tt_tape *tape);
/* Writes the fields marked R. */
void tt_tape_tick(struct tt_tape *tape, uint32_t tick, uint64_t origin_ns, bool quiet);
void tt_tape_free(struct tt_tape *tape);

/* ---- a look ---- */

struct tt_unit {
    uint64_t size;
    uint32_t tick, count; /* count 0: empty slot */
};
/* Live units of one site by size and tick: an open-addressed table. */
struct tt_unit_set {
    struct tt_unit *slots;
    uint32_t len, cap;
    uint8_t age_level, size_level; /* coarsening, see look.c */
    uint64_t units, bytes;
};
struct tt_look {
    TT_VEC(struct tt_unit_set) sites;
    uint64_t rows, units, big_lost;
    uint32_t row_cap;        /* of one site */
    uint32_t now;            /* tick ages are counted from */
    uint32_t first;          /* no unit is older: the tick at which the image began */
    TT_VEC(uint64_t) pieces; /* 64 KiB pieces of address space that hold blocks, ascending */
    bool failed;
};
/* Scans the live units of a tape. The tape's holes are not touched, so that looking does not make
 * it grow. 0 or a negative errno. Free with tt_look_free. */
int tt_look_scan(struct tt_look *look, struct tt_tape *tape, uint32_t first_tick,
                 uint32_t now_tick);
/* Adds `count` units of one birth to a scanned look. */
void tt_look_add(struct tt_look *look, uint32_t site, uint64_t size, uint32_t tick, uint32_t count);
void tt_look_free(struct tt_look *look);

/* ---- the shadow at a moment ---- */

/* All of it copied, since heap search asks for every block and from several threads. */
struct tt_shadow {
    uint64_t **chunks; /* regions * TT_SHADOW_CHUNKS; NULL: nothing lives there */
    uint32_t n_regions, shift;
    struct tt_map regions; /* address >> TT_TAPE_REGION_SHIFT -> index */
    struct tt_map big;     /* address -> size */
    uint32_t tick;         /* entries born later are not of that moment */
};
struct tt_shadow_entry {
    uint32_t site, tick;
    uint64_t size; /* requested; 0 not known */
};
/* 0 or a negative errno. Free with tt_shadow_free. */
int tt_shadow_copy(struct tt_shadow *shadow, const struct tt_tape *tape, uint32_t tick);
/* What lives at an address: false, nothing that was followed. */
bool tt_shadow_at(const struct tt_shadow *shadow, uint64_t address, struct tt_shadow_entry *out);
/* Calls take for what lives in [start, end), ascending. */
void tt_shadow_each(const struct tt_shadow *shadow, uint64_t start, uint64_t end,
                    void (*take)(void *arg, uint64_t address, const struct tt_shadow_entry *entry),
                    void *arg);
void tt_shadow_free(struct tt_shadow *shadow);

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

/* ---- staleness of an image ---- */

/* A sampled object that has mappings of its own. */
struct tt_stale_object {
    uint64_t address, size;
    uint32_t site, born;       /* with the address: who it is */
    uint32_t lived, untouched; /* epochs in a row up to now */
};
typedef TT_VEC(struct tt_stale_object) tt_stale_object_vec;
#define TT_STALE_EPOCHS_MOST 10u
struct tt_stale {
    tt_stale_object_vec objects; /* ascending */
    uint64_t due_ns, cleared_ns;
    uint32_t cleared_tick, epochs;        /* whole epochs seen */
    double seconds[TT_STALE_EPOCHS_MOST]; /* of the latest, the last one first */
    bool armed, given_up, changed;
    tt_session_stale_vec rows;
};

/* ---- an image ---- */

struct tt_module {
    struct tt_session_module row; /* strings owned here */
    bool seen, written, ended_written;
};

struct tt_operation {
    char name[160], function[160];
    char source[160];
    uint64_t address, size, since_ns;
    uint64_t patched_ns; /* when its entry was, in this process or an ancestor */
    uint8_t code[8];     /* what stands at the entry since it was patched */
    bool declared;
    int slot; /* in the tape's ops, -1: not counted */
    uint64_t count, wrote;
    int64_t wrote_epoch;
    bool row_written;
    int tries;
};

struct tt_image {
    struct tt_tape tape;
    int64_t id; /* in the session; 0 until the tape's head was read */
    int64_t pid;
    /* who it is */
    uint64_t exe_device, exe_inode;
    uint64_t opened_ns, map_base;
    uint64_t tape_mapped; /* address space that the tape takes in the target */
    struct tt_session_process row;
    char exe[PATH_MAX + 32], cmdline[4096], build_id[TT_PROC_BUILD_ID], libc[32], reason[160],
        allocator[72], name[64]; /* name: of the tape's file */
    struct tt_proc_maps maps;
    TT_VEC(struct tt_module) modules;
    uint64_t modules_epoch, modules_read_ns, modules_pause_ns;
    /* its operations */
    TT_VEC(struct tt_operation) operations;
    uint64_t operations_at; /* next time to look for more */
    struct tt_inject_pad pads[2];
    /* its watches, and what is held by them */
    TT_VEC(struct tt_watched) watched;
    size_t n_watched; /* that are in place */
    uint64_t watches_at;
    bool watches_listed;
    TT_VEC(struct tt_inject_jump) jumps; /* of what the program tells itself */
    TT_VEC(uint64_t) jump_to;            /* the function that each leads to */
    uint64_t probes_read_ns;
    struct tt_held held;
    /* its live units */
    struct tt_look look;
    struct tt_session_look look_row;
    uint64_t look_due, looks;
    uint64_t units_off; /* |births - deaths - survivors| over all sites at the last look */
    int64_t heap_held;  /* -1 unknown */
    uint64_t dropped_wrote[TT_DROP_KINDS + 16];
    /* one that ran before it was recorded */
    struct tt_session_attach attach;
    char notes[4096];
    uint64_t attach_due; /* not looked at before, see attach.c */
    struct tt_copies copies;
    bool let_go; /* it stood at its exit and may go on */
    struct tt_stale stale;
    int pidfd;        /* -1 none */
    int mem_fd;       /* of an attached one: its memory as it was at attaching; -1 none */
    uint32_t slots;   /* of the tape's ops given out */
    uint32_t checked; /* sites whose addresses were looked up in the modules */
    uint32_t chosen;  /* sites with rows of their own */
    bool alive;
    bool visible;       /* /proc/PID is this image's */
    bool early;         /* what /proc tells was read before the tape was ready */
    bool modules_stale; /* an address in no module was seen */
    bool declared;      /* the declared operations are in the list */
    bool counted;       /* a first visit for operations was made */
    bool has_look, look_written;
    bool first_read, limits_written, row_changed;
    bool attached, attach_changed; /* it was attached to; its row changed */
    bool kernel;                   /* recorded from the kernel's side: no agent is in it */
    bool kernel_left;              /* and not any more */
    uint64_t handles_probed;       /* bit i: the i-th function of the declared handles */
    bool left;                     /* the agent was taken out, and its tape is empty */
};

/* ---- the recording ---- */

/* Entries that were patched in an image that is gone; its forked children have them too. */
struct tt_patched {
    uint64_t map_base;
    struct tt_inject_pad pads[2];
    TT_VEC(struct tt_operation) operations;
    TT_VEC(struct tt_watched) watched;
};

/* A process that was given with -p. */
struct tt_given {
    pid_t pid;
    enum tt_tape_mode mode;
    bool gone;         /* ended, or let go */
    uint64_t again_ns; /* after an exec: when to try again; 0: not */
    uint64_t until_ns; /* and how long */
};

struct tt_search; /* search.c */

/* hold.c */
struct tt_hold {
    pid_t pid;
    int asked, answered; /* eventfds */
    bool runs;
    pthread_t thread;
};
/* Holds a child of this thread, which has not called exec yet, when it exits within a second. */
void tt_hold_start(struct tt_hold *hold, pid_t pid);
/* Whether it is held now and waits for tt_hold_answer; `asked` is readable then. */
bool tt_hold_asked(const struct tt_hold *hold);
void tt_hold_answer(const struct tt_hold *hold);
/* Waits for the thread; within two seconds. Does nothing if nothing was started. */
void tt_hold_end(struct tt_hold *hold);

/* The functions of one C library that are watched, where its symbol table has them. */
struct tt_library_function {
    const char *name; /* of a row of the resource table, up to the next space */
    const struct tt_resource_watch *row;
    uint8_t kind;
    uint64_t offset, size; /* in the file as mapped */
};
/* A place where the program tells something, in a file. */
struct tt_probe {
    char role[12], name[24];
    uint64_t at, to, function; /* places in the file */
};
struct tt_probed {
    char path[256], build_id[TT_PROC_BUILD_ID];
    TT_VEC(struct tt_probe) probes;
};
struct tt_library {
    char path[256], build_id[TT_PROC_BUILD_ID];
    TT_VEC(struct tt_library_function) functions;
};

struct tt_recorder {
    const struct tt_record_options *options;
    struct tt_record_result *result;
    char dir[PATH_MAX];
    int dir_fd, owner_fd;
    struct tt_session_writer *writer;
    struct tt_error trouble; /* of the writer; said once */
    uint64_t origin_ns, started_ns, started_wall;
    TT_VEC(struct tt_image *) images; /* those alive or not yet written to the end */
    int64_t next_image;
    TT_VEC(struct tt_patched) patched;
    uint64_t images_lost;
    uint64_t operations_said; /* bit i: that the i-th declared operation is not counted */
    int64_t epoch;
    TT_VEC(struct tt_session_epoch) epochs;
    uint64_t sample_rows;
    uint64_t write_due, read_due;
    pid_t child; /* 0: attached */
    bool child_ended;
    bool recording; /* false once -d is over or the session cannot be written */
    const char
        *ending; /* why it is to end as soon as the last snapshots are taken; NULL: not yet */
    /* attached */
    TT_VEC(struct tt_given) given;
    const char *outcome;       /* why the last of them is not recorded any more; NULL: it ended */
    tt_proc_pid_vec looked_at; /* children of theirs that have no tape of their own */
    uint64_t children_due;
    struct tt_kernel *kernel;   /* NULL: not used, or not to be had */
    struct tt_error kernel_why; /* then */
    uint64_t kernel_due;
    struct tt_hold hold;
    struct tt_search *search; /* of the copy that exists now; NULL none */
    bool no_staleness_said;
    TT_VEC(struct tt_library) libraries; /* read so far */
    TT_VEC(struct tt_probed) probed;     /* modules whose notes were read */
    TT_VEC(struct tt_probe) told;        /* one of each name of a resource that programs told */
    uint64_t handles_said;               /* bit i: that the i-th handle is not watched */
};

static inline uint32_t tt_record_tick_at(const struct tt_recorder *rec, uint64_t now_ns)
{
    uint64_t tick = now_ns <= rec->origin_ns
                        ? 0
                        : (now_ns - rec->origin_ns) / (TT_SECOND / TT_TAPE_TICKS_PER_SECOND);
    return tick > TT_TAPE_TICK_MAX ? TT_TAPE_TICK_MAX : (uint32_t)tick;
}

/* A wait status as a session keeps it: 0..255, or -signal. */
static inline int tt_record_status(int status)
{
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

/* dir.c: makes the directory for tapes, and removes those that dead recorders left (clean). */
int tt_record_dir_make(struct tt_recorder *rec, struct tt_error *err);
void tt_record_dir_remove(struct tt_recorder *rec);
void tt_record_dir_clean(void);

/* loop.c */
enum {
    TT_FD_TIMER,
    TT_FD_SIGNALS,
    TT_FD_TAPES,
    TT_FD_CHILD,
    TT_FD_SEARCH,
    TT_FD_KERNEL,
    TT_FD_HOLD,
    TT_FDS
};

/* Timer, signals, directory. 0 or a negative errno. */
int tt_loop_open(struct tt_recorder *rec, struct pollfd fds[TT_FDS], struct tt_error *err);
void tt_loop_close(struct pollfd fds[TT_FDS]);
/* Until the command has ended, or nothing attached is left. */
void tt_loop(struct tt_recorder *rec, struct pollfd fds[TT_FDS]);
/* Reads everything for the last time, detaches, and finishes the session. */
void tt_loop_end(struct tt_recorder *rec, const char *outcome);
void tt_loop_say(struct tt_recorder *rec, const char *line);
/* A process that was started under this recording and still runs; 0 none. */
pid_t tt_loop_left_over(const struct tt_recorder *rec);
/* Creates the session for pid. -ENOSPC and the like: what is recorded goes on unrecorded, and
 * `goes_on` says so; any other error is the caller's. */
int tt_loop_session(struct tt_recorder *rec, pid_t pid, const char *goes_on, struct tt_error *err);

/* attach.c */
/* Attaches to a process in a mode: a new image. 0 or a negative errno with err. */
int tt_attach_to(struct tt_recorder *rec, pid_t pid, enum tt_tape_mode mode, struct tt_error *err);
/* Requests, what called exec, children of other mount namespaces. */
void tt_attach_visit(struct tt_recorder *rec, uint64_t now_ns);
/* Whether a process is about to be attached to again. */
bool tt_attach_waits(const struct tt_recorder *rec);
/* Takes the agent out of an image's process, and says in its row what that cost. The tape is empty
 * afterwards. */
void tt_attach_leave(struct tt_recorder *rec, struct tt_image *image);
/* Leaves all, and children that came to carry the agent. */
void tt_attach_leave_all(struct tt_recorder *rec);

/* kernel.c */
/* Loads what --no-inject needs; when that cannot be, says so once. */
void tt_kernel_start(struct tt_recorder *rec);
/* Records a process, which becomes an image now, or when it calls exec (fresh). 0, or a negative
 * errno with err. */
/* Probes declared handles in the file of a command that this process is about to run. */
void tt_kernel_probe(struct tt_recorder *rec, pid_t pid, const char *path);
int tt_kernel_begin(struct tt_recorder *rec, pid_t pid, bool fresh, struct tt_error *err);
/* Readable when tt_kernel_turn should be called; -1 none. */
int tt_kernel_poll_fd(const struct tt_recorder *rec);
/* Takes what the kernel recorded and brings the tapes up to date. */
void tt_kernel_turn(struct tt_recorder *rec, uint64_t now_ns);
/* The last time for an image. */
void tt_kernel_leave(struct tt_recorder *rec, struct tt_image *image);
/* Ends it, and says in the session what was lost. */
void tt_kernel_stop(struct tt_recorder *rec);

/* ask.c */
/* Puts a mark for a target into the directory, or takes it out. */
void tt_ask_offer(struct tt_recorder *rec, pid_t pid, bool there);
/* The request for a target, if there is one: true, and it is taken. */
bool tt_ask_take(struct tt_recorder *rec, pid_t pid, char out[64]);
void tt_ask_answer(struct tt_recorder *rec, pid_t pid, const char *text);
/* Gives who asked a moment to read the answer before the directory goes. */
void tt_ask_settle(struct tt_recorder *rec);

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

/* stale.c */
void tt_stale_visit(struct tt_recorder *rec, struct tt_image *image, uint64_t now_ns);
void tt_stale_put(struct tt_recorder *rec, struct tt_image *image);
void tt_stale_free(struct tt_stale *stale);
/* A mapping that smaps tells about. */
struct tt_stale_map {
    uint64_t start, end, referenced; /* bytes */
};
typedef TT_VEC(struct tt_stale_map) tt_stale_map_vec;
/* The mappings within [start, end), from text in the format of /proc/PID/smaps. */
int tt_stale_maps(FILE *smaps, uint64_t start, uint64_t end, tt_stale_map_vec *out);
/* An epoch of so many seconds has ended: what lived through it, ascending by address, with
 * `untouched` 1 or 0 for it; `lived` is not looked at. Takes the objects. */
void tt_stale_epoch(struct tt_stale *stale, tt_stale_object_vec *now, double seconds);
/* Rows per site from the counts. weight(arg, object): the blocks that it stands for. */
int tt_stale_sum(struct tt_stale *stale,
                 double (*weight)(void *arg, const struct tt_stale_object *object), void *arg);

/* setting.c */
/* What tt_record_run changes in the caller and puts back. */
struct tt_setting {
    sigset_t mask;
    struct sigaction child;
    struct rlimit files;
    bool closed[3];
    bool files_raised;
};
/* The signals that are forwarded to the command. */
sigset_t tt_setting_signals(void);
/* Blocks them, and keeps the standard descriptors taken. */
void tt_setting_enter(struct tt_setting *before);
/* After the fork, so that the command keeps what the caller had: SIGCHLD and more descriptors. */
void tt_setting_parent(struct tt_setting *before);
/* parent: tt_setting_parent was called. */
void tt_setting_leave(const struct tt_setting *before, bool parent);

/* launch.c */
struct tt_launch {
    pid_t pid;
    int go, status; /* pipes: write a byte to start it; read its errno if exec failed */
};
/* Forks a child that waits. 0 or a negative errno. mask: the signal mask for the command. */
int tt_launch_fork(struct tt_launch *launch, struct tt_recorder *rec, const char *path,
                   const char *agent, const void *mask, const bool closed[3], struct tt_error *err);
/* Lets it run. 0, or the negative errno of its exec. */
int tt_launch_go(struct tt_launch *launch);
/* Ends a child that was not let run. */
void tt_launch_cancel(struct tt_launch *launch);

/* image.c */
/* Looks for tapes that are new in the directory. */
void tt_image_discover(struct tt_recorder *rec);
/* Called each tick: follows the head's becoming ready. Returns true when it has just become. */
bool tt_image_settle(struct tt_recorder *rec, struct tt_image *image);
/* Everything about the process that /proc tells: row, modules, limits. */
void tt_image_describe(struct tt_recorder *rec, struct tt_image *image);
/* Its process has ended or runs another program: last reading and last look. */
void tt_image_end(struct tt_recorder *rec, struct tt_image *image, const char *state,
                  uint64_t now_ns);
/* Whether its process still runs this image; replaced: by exec of what takes no agent. */
enum tt_image_state { TT_IMAGE_RUNS, TT_IMAGE_ENDED, TT_IMAGE_REPLACED };
enum tt_image_state tt_image_state(struct tt_image *image);
void tt_image_free(struct tt_recorder *rec, struct tt_image *image);
/* A new image for a tape; takes the descriptor. NULL, too many: it is closed. */
struct tt_image *tt_image_new(struct tt_recorder *rec, int fd, int64_t pid, const char *name);
/* Totals, ring, and a look if one is due or `look` asks for it. */
void tt_image_read(struct tt_recorder *rec, struct tt_image *image, uint64_t now_ns, bool look);

/* modules.c */
/* Re-reads the mappings; notes what came and went. */
void tt_modules_read(struct tt_image *image, uint64_t now_ns);
/* The file that is mapped there; -1 when it cannot be read. */
int tt_modules_open(const struct tt_image *image, const struct tt_proc_map *map);
bool tt_modules_hold(const struct tt_image *image, uint64_t pc);
/* The modules mapped now, for the callbacks; strings stay the image's. Free with free(). */
struct tt_session_module *tt_modules_now(const struct tt_image *image, size_t *n);
void tt_modules_free(struct tt_image *image);

/* count.c */
/* Looks up and counts what is declared, then what stands on stacks that grow. */
void tt_count_visit(struct tt_recorder *rec, struct tt_image *image, uint64_t now_ns);
/* Takes over the counters that a forked child inherited. */
void tt_count_inherit(struct tt_recorder *rec, struct tt_image *image);
/* Frees the operations, remembering which entries a child of a child may have inherited. */
void tt_count_leave(struct tt_recorder *rec, struct tt_image *image);
void tt_count_read(struct tt_image *image);
/* Adds a declared operation whose function is known, unless it is there. */
void tt_count_add(struct tt_image *image, const char *name, const char *function, uint64_t address,
                  uint64_t size);
/* Whether an image is a forked child of one whose tape and pads lay there. */
bool tt_count_descends(const struct tt_image *image, uint64_t map_base,
                       const struct tt_inject_pad *pads);

/* library.c */
/* Whether a module is a C library, and its functions that are watched: NULL when it is none, or
 * cannot be read. Kept in rec. */
const struct tt_library *tt_library_of(struct tt_recorder *rec, const struct tt_image *image,
                                       const struct tt_session_module *module);
void tt_libraries_free(struct tt_recorder *rec);
/* The place in a file (Elf *) of an address of executable code; false: it is none. */
bool tt_library_offset(void *elf, uint64_t address, uint64_t *offset);

/* probe.c */
/* Lists what the image's modules tell about themselves (include/telltale.h) among its watches and
 * operations. */
void tt_probe_list(struct tt_recorder *rec, struct tt_image *image);
/* Makes the places of those that are watched or counted jumps; before leaving: nothing again. */
void tt_probe_switch(struct tt_image *image, bool on);
void tt_probes_free(struct tt_recorder *rec);

/* watch.c */
/* Watches what the options ask for, as soon as the image is ready for it, and again after dlopen.
 */
void tt_watch_visit(struct tt_recorder *rec, struct tt_image *image, uint64_t now_ns);
/* Takes over the watches that a forked child inherited. */
void tt_watch_inherit(struct tt_recorder *rec, struct tt_image *image);
/* Reads how often watched functions were called. */
void tt_watch_read(struct tt_image *image);

/* held.c */
/* Reads the table of held units; with `reconcile` also what /proc says of them. 0 or a negative
 * errno: then the list of before stands. */
int tt_held_read(struct tt_recorder *rec, struct tt_image *image, uint64_t now_ns, bool reconcile);
/* Adds the ghosts of a site to its deaths. */
void tt_held_overlay(const struct tt_held *held, uint32_t site, struct tt_totals *totals);
/* Adds what is held to a look. */
void tt_held_look(struct tt_image *image);
/* A unit is gone: its clocks end. */
void tt_held_end_clocks(struct tt_held *held, const struct tt_held_unit *unit, uint32_t now);
void tt_held_free(struct tt_held *held);
/* reconcile.c, owner.c */
void tt_held_reconcile(struct tt_recorder *rec, struct tt_image *image, uint32_t now);
void tt_held_owners(struct tt_recorder *rec, struct tt_image *image, uint32_t now);
/* held_rows.c */
void tt_held_put(struct tt_recorder *rec, struct tt_image *image, bool last);
void tt_held_put_look(struct tt_recorder *rec, struct tt_image *image);
/* The name of a kind: of the table, or as it was declared. */
const char *tt_record_resource(const struct tt_recorder *rec, uint8_t kind);

/* rows.c */
int tt_rows_start(struct tt_recorder *rec, pid_t pid);
/* Writes what changed since the last time; `final` writes last rows. */
void tt_rows_write(struct tt_recorder *rec, uint64_t now_ns, bool final);
void tt_rows_finish(struct tt_recorder *rec, uint64_t now_ns, const char *outcome);
/* Meta of the session: host, times, mode. */
int tt_rows_meta(struct tt_session_writer *writer, const struct tt_record_options *options,
                 pid_t pid, uint64_t started_ns, uint64_t started_wall);

#endif
