/* SPDX-License-Identifier: Apache-2.0 */
/* The loop of a recording. Eight times a second it gives every tape the time and takes sampled
 * releases from it; about once a second it reads totals, and writes rows, less often as the
 * recording grows long. Both are spaced so that they cost at most a fiftieth of a processor. It is
 * the same for a command that is our child and nothing but - it gets its signals, and we end as it
 * ended - and for processes that were attached to, which a signal makes us leave.
 * Start: tt_loop. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "record/internal.h"

#define TICK_NS (TT_SECOND / TT_TAPE_TICKS_PER_SECOND)
#define COST_SHARE 50u
#define SOON_MS 1 /* while an agent is starting up */
#define SOON_NS (TT_SECOND / 4)

/* ---- visits ---- */

void tt_loop_say(struct tt_recorder *rec, const char *line)
{
    if (rec->options->say)
        rec->options->say(rec->options->arg, line);
}

static const char *what(const struct tt_recorder *rec)
{
    return rec->child ? "the command goes on" : "the process goes on";
}

/* The session cannot be written any more: said once; the command goes on. */
static void check_writer(struct tt_recorder *rec)
{
    if (!rec->writer || !tt_session_failed(rec->writer, &rec->trouble) || rec->result->trouble)
        return;
    rec->result->trouble = true;
    char line[sizeof rec->trouble.text + 64];
    snprintf(line, sizeof line, "%s; %s unrecorded", rec->trouble.text, what(rec));
    tt_loop_say(rec, line);
    rec->recording = false;
}

static void tick(struct tt_recorder *rec, bool quiet)
{
    uint64_t now = tt_clock_now();
    for (size_t i = 0; i < rec->images.len; i++) {
        struct tt_image *image = rec->images.data[i];
        if (!image->id || !image->alive || image->left)
            continue;
        if (image->tape.head.state != TT_STATE_REFUSED)
            tt_tape_read_ring(&image->tape, rec->origin_ns);
        /* an agent that went quiet follows nothing any more: what its tape says grows stale */
        if (!quiet && tt_tape_state(&image->tape) == TT_STATE_QUIET) {
            tt_image_end(rec, image, "quiet", now);
            continue;
        }
        tt_tape_tick(&image->tape, tt_record_tick_at(rec, now), rec->origin_ns, quiet);
    }
}

/* New tapes, and tapes that became ready. True while an agent is starting up. */
static bool arrivals(struct tt_recorder *rec)
{
    bool starting = false;
    uint64_t now = tt_clock_now();
    tt_image_discover(rec);
    for (size_t i = 0; i < rec->images.len; i++) {
        struct tt_image *image = rec->images.data[i];
        tt_image_settle(rec, image);
        if (image->id && !image->counted) /* operations count from the first moment on */
            tt_count_visit(rec, image, now);
        if (image->id && !image->watches_listed) { /* and so do resources */
            tt_watch_visit(rec, image, now);
            if (image->watches_listed) /* what is open now was open before */
                tt_held_read(rec, image, now, true);
        }
        starting |= !image->id && image->alive && now - image->opened_ns < SOON_NS;
    }
    return starting;
}

static void reap(struct tt_recorder *rec)
{
    int status;
    siginfo_t info = {0};
    /* stops are for the thread that holds it, and any wait of this process would take them */
    if (rec->hold.runs &&
        (waitid(P_PID, (id_t)rec->child, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || !info.si_pid ||
         info.si_code == CLD_TRAPPED || info.si_code == CLD_STOPPED))
        return;
    /* A child that we trace for a moment also reports stops. */
    if (!rec->child_ended && waitpid(rec->child, &status, WNOHANG) == rec->child &&
        !WIFSTOPPED(status)) {
        rec->child_ended = true;
        rec->result->status = status;
    }
}

static void departures(struct tt_recorder *rec)
{
    for (size_t i = 0; i < rec->images.len; i++) {
        struct tt_image *image = rec->images.data[i];
        enum tt_image_state state = image->alive ? tt_image_state(image) : TT_IMAGE_RUNS;
        if (state == TT_IMAGE_ENDED && image->pid == rec->child)
            reap(rec); /* its row holds the status */
        if (state != TT_IMAGE_RUNS)
            tt_image_end(rec, image, state == TT_IMAGE_ENDED ? "ended" : "exec", tt_clock_now());
    }
}

static unsigned alive(const struct tt_recorder *rec)
{
    unsigned n = 0;
    for (size_t i = 0; i < rec->images.len; i++)
        n += rec->images.data[i]->alive;
    return n;
}

static void report_progress(struct tt_recorder *rec, uint64_t now)
{
    struct tt_record_progress p = {.seconds = (double)(now - rec->started_ns) / 1e9};
    if (!rec->options->progress)
        return;
    for (size_t i = 0; i < rec->images.len; i++) {
        const struct tt_image *image = rec->images.data[i];
        p.processes += image->alive && image->id;
        for (size_t k = 0; k < image->tape.sites.len; k++) {
            const struct tt_totals *now_at = &image->tape.sites.data[k].now;
            p.births += now_at->births;
            p.deaths += now_at->deaths;
            p.sites += now_at->births != 0;
            if (!image->alive)
                continue;
            if (now_at->births > now_at->deaths)
                p.live_units += now_at->births - now_at->deaths;
            if (image->tape.sites.data[k].kind == TT_KIND_HEAP &&
                now_at->birth_bytes > now_at->death_bytes)
                p.live_bytes += now_at->birth_bytes - now_at->death_bytes;
        }
        p.dropped +=
            image->tape.head.dropped[TT_DROP_REGIONS] + image->tape.head.dropped[TT_DROP_SAMPLES];
    }
    p.session_bytes = rec->writer ? tt_session_bytes(rec->writer) : 0;
    rec->options->progress(rec->options->arg, &p);
}

static uint64_t write_pause(uint64_t elapsed_ns)
{
    uint64_t seconds = elapsed_ns / TT_SECOND;
    return TT_SECOND * (seconds < 120 ? 1 : seconds < 3600 ? 5 : seconds < 86400 ? 15 : 60);
}

/* Totals, looks, operations, and rows when they are due. */
static void visit(struct tt_recorder *rec)
{
    uint64_t now = tt_clock_now();
    if (now < rec->read_due)
        return;
    uint64_t begin = tt_clock_read(CLOCK_THREAD_CPUTIME_ID), looked = 0;
    for (size_t i = 0; i < rec->images.len; i++) {
        struct tt_image *image = rec->images.data[i];
        if (!image->alive || !image->id)
            continue;
        tt_count_visit(rec, image, now);
        tt_watch_visit(rec, image, now);
        tt_stale_visit(rec, image, now);
        uint64_t before = tt_clock_read(CLOCK_THREAD_CPUTIME_ID), looks = image->looks;
        image->held.spent_ns = 0;
        tt_image_read(rec, image, tt_clock_now(), false);
        if (image->looks != looks) /* a look spaces itself */
            looked += tt_clock_read(CLOCK_THREAD_CPUTIME_ID) - before;
        else /* and so does the reading of /proc */
            looked += image->held.spent_ns;
    }
    if (now >= rec->write_due) {
        tt_rows_write(rec, tt_clock_now(), false);
        check_writer(rec);
        for (size_t i = 0; i < rec->images.len;) { /* those written to their end */
            struct tt_image *image = rec->images.data[i];
            if (image->alive) {
                i++;
                continue;
            }
            tt_image_free(rec, image);
            rec->images.len--;
            for (size_t k = i; k < rec->images.len; k++)
                rec->images.data[k] = rec->images.data[k + 1];
        }
        report_progress(rec, now);
    }
    uint64_t cost = tt_clock_read(CLOCK_THREAD_CPUTIME_ID) - begin - looked;
    uint64_t pause = TT_SECOND > cost * COST_SHARE ? TT_SECOND : cost * COST_SHARE;
    rec->read_due = now + pause;
    if (now >= rec->write_due) {
        rec->write_due = now + write_pause(now - rec->started_ns);
        if (rec->write_due < rec->read_due)
            rec->write_due = rec->read_due;
    }
}

/* ---- ending ---- */

void tt_loop_end(struct tt_recorder *rec, const char *outcome)
{
    tt_snapshot_finish(rec);
    tt_kernel_turn(rec, tt_clock_now());
    tt_attach_leave_all(rec);
    uint64_t now = tt_clock_now();
    for (size_t i = 0; i < rec->images.len; i++) {
        struct tt_image *image = rec->images.data[i];
        if (image->alive && image->id)
            tt_image_read(rec, image, now, true);
    }
    tt_kernel_stop(rec);
    if (rec->writer && !rec->result->processes && rec->child && !rec->options->no_inject) {
        struct rlimit files;
        bool small = getrlimit(RLIMIT_FSIZE, &files) == 0 &&
                     files.rlim_cur < TT_TAPE_FILE_BYTES(4); /* sparse, but its length counts */
        tt_loop_say(
            rec, small
                     ? "nothing was recorded: the file size limit (ulimit -f) is below the length "
                       "of a tape; raise it, best to unlimited"
                     : "nothing was recorded: the agent did not start in the command");
        tt_session_put_dropped(rec->writer, &(struct tt_session_dropped){
                                                0, "commands in which the agent did not start", 1});
    }
    if (rec->writer) {
        bool failed = tt_session_failed(rec->writer, NULL) != 0;
        tt_rows_finish(rec, now, outcome);
        if (rec->trouble.code && !failed && !rec->result->trouble) {
            rec->result->trouble = true;
            tt_loop_say(rec, rec->trouble.text);
        }
        rec->result->trouble |= failed;
    }
    tick(rec, true);
    while (rec->images.len)
        tt_image_free(rec, rec->images.data[--rec->images.len]);
    tt_vec_free(&rec->images);
    for (size_t i = 0; i < rec->patched.len; i++) {
        tt_vec_free(&rec->patched.data[i].operations);
        tt_vec_free(&rec->patched.data[i].watched);
    }
    tt_libraries_free(rec);
    tt_probes_free(rec);
    tt_vec_free(&rec->patched);
    tt_vec_free(&rec->epochs);
    rec->recording = false;
}

pid_t tt_loop_left_over(const struct tt_recorder *rec)
{
    tt_proc_pid_vec pids = {0};
    pid_t found = 0;
    tt_proc_list(0, &pids);
    for (size_t i = 0; i < pids.len && !found; i++) {
        bool zombie = false;
        if (pids.data[i] != getpid() && tt_proc_environ_has(pids.data[i], rec->dir) &&
            tt_proc_parent(pids.data[i], &zombie) >= 0 && !zombie)
            found = pids.data[i];
    }
    tt_vec_free(&pids);
    return found;
}

/* ---- the loop ---- */

/* How many signals there were that end a recording. */
static unsigned take_signals(struct tt_recorder *rec, int fd)
{
    struct signalfd_siginfo info;
    unsigned stop = 0;
    while (read(fd, &info, sizeof info) == sizeof info) {
        int sig = (int)info.ssi_signo;
        if (rec->child_ended)
            stop += sig == SIGINT || sig == SIGTERM || sig == SIGHUP || sig == SIGQUIT;
        else if (info.ssi_code != SI_KERNEL) /* the terminal's reach the whole group */
            kill(rec->child, sig);
    }
    return stop;
}

/* Whether a recording that follows children still has one. */
static bool followed(struct tt_recorder *rec, uint64_t *looked_ns)
{
    if (!rec->child) /* attached: a process may also be between two programs */
        return alive(rec) || tt_attach_waits(rec) || rec->search;
    if (!rec->options->follow)
        return false;
    if (alive(rec))
        return true;
    uint64_t now = tt_clock_now();
    if (now - *looked_ns >= TT_SECOND / 2) {
        *looked_ns = now;
        if (tt_loop_left_over(rec))
            return true;
        tt_image_discover(rec); /* of those that came and went while we were busy elsewhere */
        return alive(rec) != 0;
    }
    return true; /* as a moment ago */
}

static void drain(int fd)
{
    char bytes[4096];
    while (fd >= 0 && read(fd, bytes, sizeof bytes) > 0)
        ;
}

/* What the loop does at each turn while it records. True while an agent is starting up. */
static bool turn(struct tt_recorder *rec)
{
    tt_kernel_turn(rec, tt_clock_now());
    bool starting = arrivals(rec);
    departures(rec);
    if (!rec->child)
        tt_attach_visit(rec, tt_clock_now());
    tick(rec, false);
    visit(rec);
    tt_snapshot_visit(rec, tt_clock_now());
    return starting;
}

void tt_loop(struct tt_recorder *rec, struct pollfd fds[TT_FDS])
{
    const struct tt_record_options *o = rec->options;
    /* the programs for the kernel took a while, in which nothing was recorded */
    const uint64_t from = o->no_inject ? tt_clock_now() : rec->started_ns;
    uint64_t left_ns = 0,
             until = o->duration > 0 ? from + (uint64_t)(o->duration * 1e9) : UINT64_MAX;
    bool starting = false;
    unsigned stop = 0;
    for (;;) {
        fds[TT_FD_SEARCH].fd = tt_snapshot_fd(rec);
        fds[TT_FD_KERNEL].fd = tt_kernel_poll_fd(rec);
        fds[TT_FD_HOLD].fd = rec->hold.runs ? rec->hold.asked : -1;
        poll(fds, TT_FDS, starting ? SOON_MS : -1);
        drain(fds[TT_FD_TIMER].fd);
        drain(fds[TT_FD_TAPES].fd);
        drain(fds[TT_FD_SEARCH].fd);
        if (fds[TT_FD_SIGNALS].revents)
            stop += take_signals(rec, fds[TT_FD_SIGNALS].fd);
        reap(rec);
        if (rec->child_ended) {
            fds[TT_FD_CHILD].fd = -1;
            fds[TT_FD_CHILD].revents = 0;
        }
        if (rec->recording) {
            starting = turn(rec);
            if (!rec->recording)
                tt_loop_end(rec, "the session could not be written");
            else if (!rec->ending && tt_clock_now() >= until)
                rec->ending = "the duration was over";
            else if (!rec->ending && rec->child_ended && stop)
                rec->ending = rec->child ? "stopped by a signal; followed children run on"
                                         : "stopped by a signal";
            /* what was there before is only attributed by what was learned meanwhile: a last look
             * into a copy comes before the end */
            if (rec->recording && rec->ending && (stop > 1 || !tt_snapshot_last(rec)))
                tt_loop_end(rec, rec->ending);
        } else {
            starting = false;
        }
        if (rec->child_ended && (!rec->recording || !followed(rec, &left_ns)))
            return;
    }
}

/* ---- starting ---- */

int tt_loop_open(struct tt_recorder *rec, struct pollfd fds[TT_FDS], struct tt_error *err)
{
    struct itimerspec every = {.it_interval.tv_nsec = (long)TICK_NS, .it_value.tv_nsec = 1000000};
    sigset_t mask = tt_setting_signals();
    for (int i = 0; i < TT_FDS; i++)
        fds[i] = (struct pollfd){.fd = -1, .events = POLLIN};
    fds[TT_FD_TIMER].fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    fds[TT_FD_SIGNALS].fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    fds[TT_FD_TAPES].fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (fds[TT_FD_TIMER].fd < 0 || fds[TT_FD_SIGNALS].fd < 0 ||
        timerfd_settime(fds[TT_FD_TIMER].fd, 0, &every, NULL) < 0)
        return tt_error_sys(err, -errno, "cannot watch what is recorded");
    /* a process that exits touches it; without inotify new tapes are found at the next tick */
    if (fds[TT_FD_TAPES].fd >= 0)
        inotify_add_watch(fds[TT_FD_TAPES].fd, rec->dir, IN_CREATE | IN_MOVED_TO | IN_ATTRIB);
    return 0;
}

void tt_loop_close(struct pollfd fds[TT_FDS])
{
    fds[TT_FD_SEARCH].fd = fds[TT_FD_KERNEL].fd = fds[TT_FD_HOLD].fd =
        -1; /* the search's own, and the kernel's */
    for (int i = 0; i < TT_FDS; i++)
        if (fds[i].fd >= 0)
            close(fds[i].fd);
}

int tt_loop_session(struct tt_recorder *rec, pid_t pid, const char *goes_on, struct tt_error *err)
{
    struct tt_record_result *result = rec->result;
    char *name = tt_text_expand(rec->options->output, pid);
    if (!name)
        return tt_error_set(err, -errno,
                            "cannot name the session after '%s': only %%p, %%h and "
                            "%%%% are known",
                            rec->options->output);
    snprintf(result->output, sizeof result->output, "%s", name);
    free(name);
    rec->writer = tt_session_create(result->output, err);
    if (rec->writer)
        tt_rows_start(rec, pid);
    if (rec->writer && !tt_session_failed(rec->writer, err))
        return 0;
    if (rec->writer) {
        tt_session_finish(rec->writer, false, NULL);
        rec->writer = NULL;
    }
    if (err->code != -ENOSPC && err->code != -EDQUOT && err->code != -EFBIG)
        return err->code;
    result->trouble = true;
    *result->output = '\0';
    char line[sizeof err->text + 64];
    snprintf(line, sizeof line, "%s; %s", err->text, goes_on);
    tt_loop_say(rec, line);
    rec->recording = false;
    return 0;
}
