/* SPDX-License-Identifier: Apache-2.0 */
/* The loop of a recording. Eight times a second it gives every tape the time and takes sampled
 * releases from it; about once a second it reads totals, and writes rows, less often as the
 * recording grows long. Both are spaced so that they cost at most a fiftieth of a processor.
 * The command is our child and nothing but: it gets its signals, and we end as it ended.
 * Start: tt_record_run. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "proc/command.h"
#include "record/internal.h"

#define TICK_NS (TT_SECOND / TT_TAPE_TICKS_PER_SECOND)
#define COST_SHARE 50u
#define SOON_MS 1 /* while an agent is starting up */
#define SOON_NS (TT_SECOND / 4)

enum { TIMER, SIGNALS, TAPES, CHILD, FDS };

/* ---- visits ---- */

static void say(struct tt_recorder *rec, const char *line)
{
    if (rec->options->say)
        rec->options->say(rec->options->arg, line);
}

/* The session cannot be written any more: said once; the command goes on. */
static void check_writer(struct tt_recorder *rec)
{
    if (!rec->writer || !tt_session_failed(rec->writer, &rec->trouble) || rec->result->trouble)
        return;
    rec->result->trouble = true;
    char line[sizeof rec->trouble.text + 64];
    snprintf(line, sizeof line, "%s; the command goes on unrecorded", rec->trouble.text);
    say(rec, line);
    rec->recording = false;
}

static void tick(struct tt_recorder *rec, bool quiet)
{
    uint64_t now = tt_clock_now();
    for (size_t i = 0; i < rec->images.len; i++) {
        struct tt_image *image = rec->images.data[i];
        if (!image->id || !image->alive)
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
        starting |= !image->id && image->alive && now - image->opened_ns < SOON_NS;
    }
    return starting;
}

static void reap(struct tt_recorder *rec)
{
    int status;
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
            if (now_at->birth_bytes > now_at->death_bytes)
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
        uint64_t before = tt_clock_read(CLOCK_THREAD_CPUTIME_ID), looks = image->looks;
        tt_image_read(rec, image, tt_clock_now(), false);
        if (image->looks != looks) /* a look spaces itself */
            looked += tt_clock_read(CLOCK_THREAD_CPUTIME_ID) - before;
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

static void end_all(struct tt_recorder *rec, const char *outcome)
{
    uint64_t now = tt_clock_now();
    for (size_t i = 0; i < rec->images.len; i++) {
        struct tt_image *image = rec->images.data[i];
        if (image->alive && image->id)
            tt_image_read(rec, image, now, true);
    }
    if (rec->writer && !rec->result->processes) {
        struct rlimit files;
        bool small = getrlimit(RLIMIT_FSIZE, &files) == 0 &&
                     files.rlim_cur < TT_TAPE_FILE_BYTES(4); /* sparse, but its length counts */
        say(rec, small
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
            say(rec, rec->trouble.text);
        }
        rec->result->trouble |= failed;
    }
    tick(rec, true);
    while (rec->images.len)
        tt_image_free(rec, rec->images.data[--rec->images.len]);
    tt_vec_free(&rec->images);
    for (size_t i = 0; i < rec->patched.len; i++)
        tt_vec_free(&rec->patched.data[i].operations);
    tt_vec_free(&rec->patched);
    tt_vec_free(&rec->epochs);
    rec->recording = false;
}

/* A process that was started under this recording and still runs; 0 none. */
static pid_t left_over(const struct tt_recorder *rec)
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

/* True when the recording is to end. */
static bool take_signals(struct tt_recorder *rec, int fd)
{
    struct signalfd_siginfo info;
    bool stop = false;
    while (read(fd, &info, sizeof info) == sizeof info) {
        int sig = (int)info.ssi_signo;
        if (rec->child_ended)
            stop |= sig == SIGINT || sig == SIGTERM || sig == SIGHUP || sig == SIGQUIT;
        else if (info.ssi_code != SI_KERNEL) /* the terminal's reach the whole group */
            kill(rec->child, sig);
    }
    return stop;
}

/* Whether a recording that follows children still has one. */
static bool followed(struct tt_recorder *rec, uint64_t *looked_ns)
{
    if (!rec->options->follow)
        return false;
    if (alive(rec))
        return true;
    uint64_t now = tt_clock_now();
    if (now - *looked_ns >= TT_SECOND / 2) {
        *looked_ns = now;
        return left_over(rec) != 0;
    }
    return true; /* as a moment ago */
}

static void drain(int fd)
{
    char bytes[4096];
    while (fd >= 0 && read(fd, bytes, sizeof bytes) > 0)
        ;
}

static void loop(struct tt_recorder *rec, struct pollfd fds[FDS])
{
    const struct tt_record_options *o = rec->options;
    uint64_t left_ns = 0,
             until = o->duration > 0 ? rec->started_ns + (uint64_t)(o->duration * 1e9) : UINT64_MAX;
    bool starting = false, stop = false;
    for (;;) {
        poll(fds, FDS, starting ? SOON_MS : -1);
        drain(fds[TIMER].fd);
        drain(fds[TAPES].fd);
        if (fds[SIGNALS].revents)
            stop |= take_signals(rec, fds[SIGNALS].fd);
        reap(rec);
        if (rec->child_ended) {
            fds[CHILD].fd = -1;
            fds[CHILD].revents = 0;
        }
        if (rec->recording) {
            starting = arrivals(rec);
            departures(rec);
            tick(rec, false);
            visit(rec);
            if (tt_clock_now() >= until)
                end_all(rec, "the duration was over");
            else if (!rec->recording)
                end_all(rec, "the session could not be written");
        } else {
            starting = false;
        }
        if (rec->child_ended && stop && rec->recording)
            end_all(rec, "stopped by a signal; followed children run on");
        if (rec->child_ended && (!rec->recording || !followed(rec, &left_ns)))
            return;
    }
}

/* ---- starting ---- */

static int open_fds(struct tt_recorder *rec, struct pollfd fds[FDS], struct tt_error *err)
{
    struct itimerspec every = {.it_interval.tv_nsec = (long)TICK_NS, .it_value.tv_nsec = 1000000};
    sigset_t mask = tt_setting_signals();
    fds[TIMER].fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    fds[SIGNALS].fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    fds[TAPES].fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (fds[TIMER].fd < 0 || fds[SIGNALS].fd < 0 ||
        timerfd_settime(fds[TIMER].fd, 0, &every, NULL) < 0)
        return tt_error_sys(err, -errno, "cannot watch the command");
    /* without inotify new tapes are found at the next tick */
    if (fds[TAPES].fd >= 0)
        inotify_add_watch(fds[TAPES].fd, rec->dir, IN_CREATE);
    return 0;
}

/* A name without the separators of LD_PRELOAD: else a link in our directory. */
static int plain_name(struct tt_recorder *rec, const char *path, const char *link, char *out,
                      size_t n, struct tt_error *err)
{
    if (!strpbrk(path, " :")) {
        snprintf(out, n, "%s", path);
        return 0;
    }
    snprintf(out, n, "%.200s/%s", rec->dir, link);
    return symlink(path, out) < 0 ? tt_error_sys(err, -errno, "cannot link to %s", path) : 0;
}

/* What to preload: the agent, and for a program whose allocator has an operator new of its own the
 * library that stands before that. It lies beside the agent. */
static int name_agent(struct tt_recorder *rec, const char *program, const char *agent,
                      char out[2 * PATH_MAX], struct tt_error *err)
{
    static const char suffix[] = "-cxx.so";
    struct tt_proc_allocator allocator;
    char beside[PATH_MAX + sizeof suffix], name[PATH_MAX + sizeof suffix];
    tt_proc_allocator(program, &allocator);
    if (allocator.built_in)
        return tt_error_set(err, -ENOTSUP,
                            "cannot record %s: it has a malloc of its own built in, which nothing "
                            "preloaded can stand before (attaching without preloading is not "
                            "available in this version)",
                            program);
    int code = plain_name(rec, agent, "agent.so", out, PATH_MAX, err);
    if (code || !allocator.defines_new)
        return code;
    size_t stem = strlen(agent) > 3 ? strlen(agent) - 3 : 0;
    snprintf(beside, sizeof beside, "%.*s%s", (int)stem, agent, suffix);
    if (access(beside, R_OK) < 0)
        return 0;
    code = plain_name(rec, beside, "agent-cxx.so", name, sizeof name, err);
    if (!code)
        snprintf(out + strlen(out), (size_t)2 * PATH_MAX - strlen(out), ":%s", name);
    return code;
}

/* Creates the session. A full disk is trouble, but the command runs; anything else is refused. */
static int make_session(struct tt_recorder *rec, pid_t pid, struct tt_error *err)
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
    snprintf(line, sizeof line, "%s; the command runs unrecorded", err->text);
    say(rec, line);
    rec->recording = false;
    return 0;
}

int tt_record_run(const struct tt_record_options *options, struct tt_record_result *result,
                  struct tt_error *err)
{
    struct tt_recorder rec = {.options = options,
                              .result = result,
                              .next_image = 1,
                              .dir_fd = -1,
                              .owner_fd = -1,
                              .recording = true};
    struct pollfd fds[FDS];
    struct tt_setting before = {0};
    struct tt_proc_command command;
    struct tt_launch launch = {0};
    char found[PATH_MAX], agent[2 * PATH_MAX];
    bool parent = false;
    *result = (struct tt_record_result){0};
    *err = (struct tt_error){0};
    for (int i = 0; i < FDS; i++)
        fds[i] = (struct pollfd){.fd = -1, .events = POLLIN};

    int code = tt_proc_command(options->argv[0], &command, err);
    if (!code && !options->agent)
        code = tt_record_agent(found, err);
    if (code)
        return code;
    tt_setting_enter(&before);
    rec.origin_ns = rec.started_ns = tt_clock_now();
    rec.started_wall = tt_clock_wall();
    code = tt_record_dir_make(&rec, err);
    if (!code)
        code =
            name_agent(&rec, command.program, options->agent ? options->agent : found, agent, err);
    if (!code)
        code = open_fds(&rec, fds, err);
    if (!code)
        code = tt_launch_fork(&launch, &rec, command.path, agent, &before.mask, before.closed, err);
    if (code)
        goto end;
    parent = true;
    tt_setting_parent(&before);
    rec.child = result->pid = launch.pid;
    code = make_session(&rec, launch.pid, err);
    if (code) {
        tt_launch_cancel(&launch);
        goto end;
    }
    fds[CHILD].fd = (int)syscall(SYS_pidfd_open, launch.pid, 0);
    if (fds[CHILD].fd >= 0)
        fcntl(fds[CHILD].fd, F_SETFD, FD_CLOEXEC);
    int child_fd = fds[CHILD].fd;
    rec.write_due = rec.read_due = rec.started_ns + TT_SECOND / 4;
    code = tt_launch_go(&launch);
    if (code) {
        tt_error_sys(err, code, "cannot run %s", command.path);
        if (rec.writer) {
            tt_session_finish(rec.writer, false, NULL);
            rec.writer = NULL;
            unlink(result->output);
        }
    } else {
        loop(&rec, fds);
        if (rec.recording)
            end_all(&rec, "the command ended");
        if (!options->follow)
            result->went_on = left_over(&rec);
    }
    if (child_fd >= 0)
        close(child_fd);
    fds[CHILD].fd = -1;
end:
    for (int i = 0; i < FDS; i++)
        if (fds[i].fd >= 0)
            close(fds[i].fd);
    tt_record_dir_remove(&rec);
    tt_setting_leave(&before, parent);
    return code;
}
