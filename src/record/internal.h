/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the recorder share. One struct tt_recorder per recording; one struct
 * tt_image per tape, that is per memory image of a recorded process (an exec makes a new one).
 *   dir.c     the directory of the tapes            launch.c  starting the command
 *   tape.c    reading a tape, all of it hostile     look.c    the shadow: which units live
 *   modules.c what is mapped where                  count.c   operations
 *   image.c   life of an image                      rows.c    rows of a session
 *   setting.c what is changed in the caller         loop.c    the loop
 *   run.c     recording a command                   attach.c  recording what runs already
 *   kernel.c  recording from the kernel's side  kernel_call.c its probes of the C library
 *   hold.c    a command held at its end
 *   ask.c     requests to a recorder                shadow.c  the shadow as it was at a moment
 *   snapshot.c frozen copies, and when to make one  search.c  one copy searched, and its rows
 *   stale.c   sampled objects not touched           once.c    one snapshot, or a core file
 *   watch.c   which functions are watched           held.c    units held besides heap blocks
 *   library.c where functions of the C library are  reconcile.c what the kernel says of them
 *   probe.c   what the program tells itself
 *   owner.c   on whose behalf                       held_rows.c their rows
 *   rows_site.c of sites                            rows_meta.c what the session says of itself
 *   attach_child.c children of what runs already
 * Headers of their own: tape.h what is read of a tape, search.h snapshots, stale.h staleness.
 * Start: struct tt_recorder, then tt_record_run in run.c. */
#ifndef TT_RECORD_INTERNAL_H
#define TT_RECORD_INTERNAL_H

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/map.h"
#include "base/vec.h"
#include "inject/attach.h"
#include "inject/inject.h"
#include "kernel/kernel.h"
#include "inject/watch.h"
#include "proc/proc.h"
#include "record/held.h"
#include "record/record.h"
#include "record/search.h"
#include "record/stale.h"
#include "record/tape.h"
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
    uint8_t calls_step;            /* of tt_kernel_call_watch; 0 when its modules are new */
    uint64_t calls_places;         /* of tt_kernel_call_again */
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
    bool glibc;
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
    uint32_t calls_said; /* kinds of which it was said that they are not watched; bit 0: all */
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

/* attach_child.c */
/* Adopts tapes of children that could not be made in our directory; every second, with -f. */
void tt_attach_children(struct tt_recorder *rec, uint64_t now_ns);
/* Adds the children of those listed, and theirs. */
void tt_attach_add_children(tt_proc_pid_vec *pids);
/* Takes the agent out of forked children that are not recorded themselves. */
void tt_attach_leave_children(const struct tt_recorder *rec);

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
/* kernel_call.c */
/* Watches the C library's functions for what no system call tells: threads, streams, directories
 * and libraries. In a command before it runs (path: of its program); and in an image whose modules
 * are known, one kind at a time, since each takes the kernel a while in which the ring fills: true
 * when there is more to do. */
void tt_kernel_call_ahead(struct tt_recorder *rec, pid_t pid, const char *path);
bool tt_kernel_call_watch(struct tt_recorder *rec, struct tt_image *image);
/* The list of modules is new: they are looked at again if those with such functions are. */
void tt_kernel_call_again(struct tt_image *image);
/* 0: the function's first bytes in the process are the file's. -EEXIST: it begins with a jump of an
 * agent's, and is not probed; -ESRCH: the process has ended. fd: of the file; -1: path says where
 * it is. */
int tt_kernel_call_changed(pid_t pid, uint64_t address, const char *path, int fd, uint64_t offset,
                           uint64_t size);

/* kernel.c, while it runs */
/* What a refusal of the kernel's probes means. */
const char *tt_kernel_why_not(int code);
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
/* The image of a process that runs; NULL: none. */
struct tt_image *tt_image_of(const struct tt_recorder *rec, pid_t pid);
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
/* Whether a file of that name is a C library, or a part of one. */
bool tt_library_is(const char *path);
/* The functions of a C library, or of a program that has it linked in, from its open file. Kept in
 * rec; NULL: no memory. */
const struct tt_library *tt_library_read(struct tt_recorder *rec, const char *path,
                                         const char *build_id, int fd, bool linked_in);
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
/* Writes what changed since the last time; `final` writes last rows. */
void tt_rows_write(struct tt_recorder *rec, uint64_t now_ns, bool final);
void tt_rows_finish(struct tt_recorder *rec, uint64_t now_ns, const char *outcome);
/* rows_site.c */
/* What changed; `last`: last rows. *summed: sites that have no rows of their own. */
void tt_rows_sites(struct tt_recorder *rec, struct tt_image *image, bool last, uint64_t *summed);
void tt_rows_releases(struct tt_recorder *rec, struct tt_image *image);
void tt_rows_survivors(struct tt_recorder *rec, struct tt_image *image);
/* rows_meta.c */
/* Meta of the session: host, times, mode. */
int tt_rows_meta(struct tt_session_writer *writer, const struct tt_record_options *options,
                 pid_t pid, uint64_t started_ns, uint64_t started_wall);
int tt_rows_start(struct tt_recorder *rec, pid_t pid);

#endif
