/* SPDX-License-Identifier: Apache-2.0 */
/* The shared part of the commands that record. Standard input and output belong to the command that
 * is recorded; what telltale says goes to standard error. Start: tt_recording_run. */
#include "cmd/recording.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd/article.h"
#include "cmd/version.h"

/* Splits KEY=VALUE in place. */
static int split(char *text, const char **key, const char **value)
{
    char *equals = strchr(text, '=');
    if (!equals || equals == text || !equals[1])
        return -EINVAL;
    *equals = '\0';
    *key = text;
    *value = equals + 1;
    return 0;
}

int tt_recording_mode(const char *text, enum tt_tape_mode *mode)
{
    static const char *const names[] = {
        [TT_MODE_EXACT] = "exact", [TT_MODE_SAMPLED] = "sampled", [TT_MODE_ADAPTIVE] = "adaptive"};
    for (unsigned m = TT_MODE_EXACT; m <= TT_MODE_ADAPTIVE; m++)
        if (strcmp(text, names[m]) == 0) {
            *mode = (enum tt_tape_mode)m;
            return 0;
        }
    return -EINVAL;
}

int tt_recording_pid(const struct tt_cmd *cmd, const char *text, pid_t *pid)
{
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno || end == text || *end || value <= 0 || value > INT32_MAX)
        return tt_cmd_misuse(cmd, "-p needs the id of a process, not '%s'", text);
    *pid = (pid_t)value;
    return 0;
}

static int take_snapshots(const struct tt_cmd *cmd, const char *text, int *snapshots)
{
    unsigned long long n;
    if (strcmp(text, "auto") == 0)
        *snapshots = TT_SNAPSHOTS_AUTO;
    else if (strcmp(text, "off") == 0 || strcmp(text, "0") == 0)
        *snapshots = TT_SNAPSHOTS_OFF;
    else if (tt_cmd_parse_bytes(text, &n) == 0 && n <= 10000)
        *snapshots = (int)n;
    else
        return tt_cmd_misuse(cmd, "--snapshots is auto, off or a number, not '%s'", text);
    return 0;
}

/* Notes an option as it was given, for those who want to repeat the recording; value NULL: it has
 * none. 0 or the exit status. */
static int note(struct tt_recording *r, const char *option, const char *value)
{
    return tt_vec_push(&r->noted, option) || (value && tt_vec_push(&r->noted, value))
               ? TT_EXIT_TROUBLE
               : 0;
}

/* What came of reading handles: 0, or the exit status after tt_cmd_misuse. */
static int take_handles(const struct tt_cmd *cmd, const struct tt_recording *r, int code,
                        const struct tt_error *err)
{
    if (code)
        return tt_cmd_misuse(cmd, "%s", err->text);
    return r->handles.len <= TT_HANDLES_MOST
               ? 0
               : tt_cmd_misuse(cmd, "more than %u handles", TT_HANDLES_MOST);
}

/* 0, or the exit status after tt_cmd_misuse. */
static int take(const struct tt_cmd *cmd, struct tt_recording *r, int c, char *value)
{
    unsigned long long n;
    pid_t pid = 0;
    struct tt_error err = {0};
    char *end;
    int status;
    switch (c) {
    case 'o':
        if (strcmp(value, "-") == 0)
            return tt_cmd_misuse(cmd, "a session is a database and cannot go to standard output; "
                                      "give -o a file name, or --report -");
        r->record.output = value;
        return 0;
    case 'f':
        r->record.follow = true;
        return 0;
    case 'q':
        r->quiet = true;
        return 0;
    case 'd':
        return tt_cmd_take_seconds(cmd, "--duration", value, &r->record.duration);
    case TT_OPT_MODE:
        if (tt_recording_mode(value, &r->record.mode))
            return tt_cmd_misuse(cmd, "--mode is exact, adaptive or sampled, not '%s'", value);
        return 0;
    case TT_OPT_MEAN:
        if (tt_cmd_parse_bytes(value, &n) || n < 64 || n > 1ULL << 40)
            return tt_cmd_misuse(cmd, "--mean needs bytes from 64 up, such as 512K, not '%s'",
                                 value);
        r->record.sample_mean = n;
        return 0;
    case TT_OPT_RATE:
        if (tt_cmd_parse_bytes(value, &n) || n > 1000000)
            return tt_cmd_misuse(cmd, "--rate needs samples a second from 1 to 1000000, not '%s'",
                                 value);
        r->record.rate = (uint32_t)n;
        return 0;
    case TT_OPT_HORIZON:
        return tt_cmd_take_seconds(cmd, "--horizon", value, &r->record.horizon);
    case TT_OPT_OPERATION: {
        struct tt_record_operation operation;
        if (split(value, &operation.name, &operation.function))
            return tt_cmd_misuse(cmd, "--operation needs NAME=FUNCTION, not '%s'", value);
        return tt_vec_push(&r->operations, operation) ? TT_EXIT_TROUBLE : 0;
    }
    case TT_OPT_LABEL: {
        struct tt_record_label label;
        if (split(value, &label.key, &label.value))
            return tt_cmd_misuse(cmd, "--label needs KEY=VALUE, not '%s'", value);
        return tt_vec_push(&r->labels, label) ? TT_EXIT_TROUBLE : 0;
    }
    case 'p':
        if (tt_recording_pid(cmd, value, &pid))
            return TT_EXIT_USAGE;
        for (size_t i = 0; i < r->pids.len; i++)
            if (r->pids.data[i] == pid)
                return tt_cmd_misuse(cmd, "-p %d is given twice", (int)pid);
        return tt_vec_push(&r->pids, pid) ? TT_EXIT_TROUBLE : 0;
    case TT_OPT_SNAPSHOTS:
        status = take_snapshots(cmd, value, &r->record.snapshots);
        return status ? status : note(r, "--snapshots", value);
    case TT_OPT_SNAPSHOT_EVERY:
        status = tt_cmd_take_seconds(cmd, "--snapshot-every", value, &r->record.snapshot_every);
        return status ? status : note(r, "--snapshot-every", value);
    case TT_OPT_PAUSE_BUDGET:
        r->record.pause_budget_ms = strtod(value, &end);
        if (end == value || *end || !(r->record.pause_budget_ms > 0) ||
            r->record.pause_budget_ms > 1e6)
            return tt_cmd_misuse(cmd, "--pause-budget needs milliseconds such as 20, not '%s'",
                                 value);
        return note(r, "--pause-budget", value);
    case TT_OPT_NO_INJECT:
        r->record.no_inject = true;
        return 0;
    case TT_OPT_NO_STALENESS:
        r->record.no_staleness = true;
        return note(r, "--no-staleness", NULL);
    case TT_OPT_RESOURCES:
        return tt_resource_choose(value, &r->record.resources, &err)
                   ? tt_cmd_misuse(cmd, "--resources: %s", err.text)
                   : note(r, "--resources", value);
    case TT_OPT_HANDLE:
        return take_handles(cmd, r, tt_handle_parse(value, &r->handles, &err), &err);
    case TT_OPT_HANDLES:
        return take_handles(cmd, r, tt_handle_read(value, &r->handles, &err), &err);
    case TT_OPT_EXE:
        r->exe = value;
        return 0;
    case TT_OPT_REPORT:
        r->report = value;
        return 0;
    case TT_OPT_JSON:
        r->json = true;
        return 0;
    case TT_OPT_COLOR:
        return tt_cmd_take_colour(cmd, value, &r->colour);
    default:
        return tt_cmd_misuse(cmd, "unknown option");
    }
}

static void show_progress(void *arg, const struct tt_record_progress *p)
{
    struct tt_recording *r = arg;
    if (r->quiet || !r->terminal)
        return;
    char units[32], size[32], time[32], file[32];
    fprintf(stderr, "\r\033[Ktelltale: %s, %s live units (%s), %llu sites, session %s",
            tt_text_duration(time, p->seconds), tt_text_count(units, p->live_units),
            tt_text_size(size, (double)p->live_bytes), (unsigned long long)p->sites,
            tt_text_size(file, (double)p->session_bytes));
    r->drawn = true;
    fflush(stderr);
}

static void end_progress(struct tt_recording *r)
{
    if (r->drawn)
        fputs("\r\033[K", stderr);
    r->drawn = false;
}

static void say(void *arg, const char *line)
{
    struct tt_error err;
    end_progress(arg);
    tt_error_set(&err, -EIO, "%s", line);
    tt_error_report(&err);
}

static int resolve(void *arg, const struct tt_session_module *modules, size_t n,
                   const char *function, struct tt_record_function *out, struct tt_error *err)
{
    return tt_functions_find(&((struct tt_recording *)arg)->functions, modules, n, function, out,
                             err);
}

static size_t entries(void *arg, const struct tt_session_module *modules, size_t n,
                      const uint64_t *frames, size_t n_frames, struct tt_record_function *out,
                      size_t max)
{
    return tt_functions_on_stack(&((struct tt_recording *)arg)->functions, modules, n, frames,
                                 n_frames, out, max);
}

static int place(void *arg, const char *path, uint64_t file_offset, uint64_t address, char *out,
                 size_t size)
{
    (void)address;
    return tt_places_name(&((struct tt_recording *)arg)->places, path, file_offset, out, size);
}

/* A process of a container has other files under its paths. Held open, its root can still be read
 * when it has ended. Of several containers that of the first process: the build-ids tell whether a
 * file is the right one. */
static void find_root(struct tt_recording *r)
{
    struct stat ours, its;
    char path[64];
    r->root_fd = -1;
    if (!r->pids.len || stat("/", &ours) != 0)
        return;
    for (size_t i = 0; i < r->pids.len && r->root_fd < 0; i++) {
        snprintf(path, sizeof path, "/proc/%d/root", (int)r->pids.data[i]);
        if (stat(path, &its) == 0 && (its.st_dev != ours.st_dev || its.st_ino != ours.st_ino))
            r->root_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    }
    if (r->root_fd < 0)
        return;
    snprintf(r->root, sizeof r->root, "/proc/self/fd/%d", r->root_fd);
    r->functions.root = r->root;
}

/* The article of what was recorded, to standard error or where --report says. */
static int write_article(const struct tt_recording *r, const char *session)
{
    struct tt_error err = {0};
    const struct tt_article_options options = {
        .session = session,
        .symbols.sysroot = r->functions.root,
        .colour = !r->report && tt_cmd_colour(STDERR_FILENO, r->colour),
    };
    struct tt_text text = {0};
    int status = TT_EXIT_CLEAN;
    struct tt_judged *judged = tt_article_judge(&options, &err);
    if (!judged || tt_article_write(judged, r->json ? "json" : "text", &text, &err) != 0)
        status = tt_cmd_trouble(&err);
    else if (r->report && tt_article_put(r->report, &text, &err) != 0)
        status = tt_cmd_trouble(&err);
    else if (!r->report)
        fwrite(text.data, 1, text.len, stderr);
    tt_text_free(&text);
    tt_article_free_judged(judged);
    return status;
}

int tt_recording_only_pids(const struct tt_cmd *cmd, struct tt_recording *r, int n, char **words)
{
    if (n > 0)
        return tt_cmd_misuse(cmd, "'%s' is no option: a process is given with -p PID", words[0]);
    return r->pids.len ? 0 : tt_cmd_misuse(cmd, "no process given (-p PID)");
}

/* Once all options are taken. 0 or the exit status. */
static int ready(const struct tt_cmd *cmd, struct tt_recording *r)
{
    char *probe = tt_text_expand(r->record.output, 1);
    if (!probe)
        return tt_cmd_misuse(cmd, "-o knows %%p, %%h and %%%%; '%s' has another letter",
                             r->record.output);
    free(probe);
    if (r->record.no_inject) /* a copy is made from inside */
        r->record.snapshots = TT_SNAPSHOTS_OFF;
    r->record.labels = r->labels.data;
    r->record.n_labels = r->labels.len;
    r->record.operations = r->operations.data;
    r->record.n_operations = r->operations.len;
    r->record.pids = r->pids.data;
    r->record.n_pids = r->pids.len;
    r->record.handles = r->handles.data;
    r->record.n_handles = r->handles.len;
    r->record.noted = r->noted.data;
    r->record.n_noted = r->noted.len;
    return 0;
}

/* Says what the recorder's result has to say, and writes the article. The exit status. */
static int finish(struct tt_recording *r, const struct tt_record_result *result)
{
    struct tt_error err = {0};
    end_progress(r);
    if (result->refused) {
        tt_error_set(&err, -ENOTSUP, "could not record inside %u of %u processes: %s",
                     result->refused, result->processes, result->refused_why);
        tt_error_report(&err);
    }
    if (result->went_on) {
        tt_error_set(&err, -ECHILD, "the command went on in a child (pid %d): use -f to follow it",
                     (int)result->went_on);
        tt_error_report(&err);
    }
    if (result->left) {
        tt_error_set(&err, -EBUSY, "could not detach: %s; try telltale detach -p %d",
                     result->left_why, (int)result->pid);
        tt_error_report(&err);
    }
    int status = result->trouble || result->left ? TT_EXIT_TROUBLE : TT_EXIT_CLEAN;
    if (result->output[0] && (!r->quiet || r->report)) {
        if (!r->quiet)
            fprintf(stderr, "telltale: session %s\n", result->output);
        if (write_article(r, result->output) != TT_EXIT_CLEAN)
            status = TT_EXIT_TROUBLE;
    }
    return status ? status : tt_record_exit(result->status);
}

int tt_recording_run(const struct tt_cmd *cmd, int argc, char **argv,
                     const struct tt_recording_kind *kind)
{
    struct tt_recording r = {.record = {.output = "telltale-%p.tt",
                                        .tool_version = TT_VERSION,
                                        .snapshots = kind->snapshots,
                                        .resources = UINT32_MAX,
                                        .arg = &r,
                                        .progress = show_progress,
                                        .say = say,
                                        .resolve = resolve,
                                        .entries = entries,
                                        .place = place},
                             .terminal = isatty(STDERR_FILENO)};
    struct tt_record_result result = {0};
    struct tt_error err = {0};
    bool served = false;
    int c, status = 0;
    while (!status && !served &&
           (c = tt_cmd_option(cmd, argc, argv, kind->letters, kind->longs, &status)) != -1) {
        served = c == '?'; /* --help, or misuse: told already */
        if (!served)
            status = take(cmd, &r, c, optarg);
    }
    if (!status && !served)
        status = kind->words(cmd, &r, argc - optind, argv + optind);
    if (!status && !served)
        status = ready(cmd, &r);
    if (!status && !served)
        find_root(&r);
    bool failed = !status && !served && kind->record(&r, &result, &err) != 0;
    if (!status && !served && !failed)
        status = finish(&r, &result);
    end_progress(&r);
    tt_functions_close(&r.functions);
    if (*r.root)
        close(r.root_fd);
    tt_places_free(&r.places);
    tt_vec_free(&r.labels);
    tt_vec_free(&r.operations);
    tt_vec_free(&r.pids);
    tt_handles_free(&r.handles);
    tt_vec_free(&r.noted);
    return failed ? tt_cmd_trouble(&err) : status;
}
