/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the recorder share. One struct tt_recorder per recording; one struct
 * tt_image per tape, that is per memory image of a recorded process (an exec makes a new one).
 *   dir.c     the directory of the tapes            launch.c  starting the command
 *   tape.c    reading a tape, all of it hostile     look.c    the shadow: which units live
 *   modules.c what is mapped where                  count.c   operations
 *   image.c   life of an image                      rows.c    rows of a session
 *   setting.c what is changed in the caller         run.c     the loop
 * Start: struct tt_recorder, then tt_record_run in run.c. */
#ifndef TT_RECORD_INTERNAL_H
#define TT_RECORD_INTERNAL_H

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/map.h"
#include "base/vec.h"
#include "inject/inject.h"
#include "proc/proc.h"
#include "record/record.h"
#include "session/writer.h"

#define TT_SECOND 1000000000ULL
#define TT_RECORD_IMAGES 4096u        /* recorded in one session; more are counted */
#define TT_RECORD_SITES 16384u        /* sites of an image written one by one; the rest is summed */
#define TT_RECORD_SURVIVOR_ROWS 4096u /* of one site */
#define TT_RECORD_SURVIVORS (1u << 17) /* rows of one image */
#define TT_RECORD_SAMPLE_ROWS 200000u  /* of the session, then epochs are thinned */
#define TT_RECORD_EPOCHS 480u
#define TT_RECORD_RELEASES 64u /* release paths of one site */
#define TT_RECORD_AGES 1024u   /* distinct exact ages of one site */

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
    uint8_t thin, flags;
    bool ready;  /* the record was seen complete */
    bool chosen; /* gets rows of its own */
    bool stack;  /* its stack row is written */
    bool bins_changed;
    uint64_t base_live; /* live units when the image was first read, to rank growth */
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
void tt_look_free(struct tt_look *look);

/* ---- an image ---- */

struct tt_module {
    struct tt_session_module row; /* strings owned here */
    bool seen, written, ended_written;
};

struct tt_operation {
    char name[160], function[160];
    char source[96];
    uint64_t address, size, since_ns;
    uint8_t code[8]; /* what stands at the entry since it was patched */
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
    /* its live units */
    struct tt_look look;
    struct tt_session_look look_row;
    uint64_t look_due, looks;
    uint64_t units_off; /* |births - deaths - survivors| over all sites at the last look */
    int64_t heap_held;  /* -1 unknown */
    uint64_t dropped_wrote[TT_DROP_KINDS + 8];
    int pidfd;        /* -1 none */
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
};

/* ---- the recording ---- */

/* Entries that were patched in an image that is gone; its forked children have them too. */
struct tt_patched {
    uint64_t map_base;
    struct tt_inject_pad pads[2];
    TT_VEC(struct tt_operation) operations;
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
    int64_t epoch;
    TT_VEC(struct tt_session_epoch) epochs;
    uint64_t sample_rows;
    uint64_t write_due, read_due;
    pid_t child;
    bool child_ended;
    bool recording; /* false once -d is over or the session cannot be written */
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

/* dir.c: makes the directory for tapes, and removes those that dead recorders left. */
int tt_record_dir_make(struct tt_recorder *rec, struct tt_error *err);
void tt_record_dir_remove(struct tt_recorder *rec);

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
/* Totals, ring, and a look if one is due or `look` asks for it. */
void tt_image_read(struct tt_recorder *rec, struct tt_image *image, uint64_t now_ns, bool look);

/* modules.c */
/* Re-reads the mappings; notes what came and went. */
void tt_modules_read(struct tt_image *image, uint64_t now_ns);
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

/* rows.c */
int tt_rows_start(struct tt_recorder *rec, pid_t pid);
/* Writes what changed since the last time; `final` writes last rows. */
void tt_rows_write(struct tt_recorder *rec, uint64_t now_ns, bool final);
void tt_rows_finish(struct tt_recorder *rec, uint64_t now_ns, const char *outcome);

#endif
