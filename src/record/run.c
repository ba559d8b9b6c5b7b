/* SPDX-License-Identifier: Apache-2.0 */
/* Recording a command: it is started with the agent preloaded, gets its signals from us, and we end
 * as it ended. What is done while it runs is loop.c's. Start: tt_record_run. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "proc/command.h"
#include "record/internal.h"

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

int tt_record_run(const struct tt_record_options *options, struct tt_record_result *result,
                  struct tt_error *err)
{
    struct tt_recorder rec = {.options = options,
                              .result = result,
                              .next_image = 1,
                              .dir_fd = -1,
                              .owner_fd = -1,
                              .recording = true};
    struct pollfd fds[TT_FDS];
    struct tt_setting before = {0};
    struct tt_proc_command command;
    struct tt_launch launch = {0};
    char found[PATH_MAX], agent[2 * PATH_MAX];
    bool parent = false;
    *result = (struct tt_record_result){0};
    *err = (struct tt_error){0};
    for (int i = 0; i < TT_FDS; i++)
        fds[i] = (struct pollfd){.fd = -1, .events = POLLIN};

    int code = options->no_inject ? tt_proc_command_find(options->argv[0], command.path, err)
                                  : tt_proc_command(options->argv[0], &command, err);
    if (!code && !options->agent && !options->no_inject)
        code = tt_proc_own_file("agent", "libtelltale-agent.so", found, err);
    if (code)
        return code;
    tt_setting_enter(&before);
    rec.origin_ns = rec.started_ns = tt_clock_now();
    rec.started_wall = tt_clock_wall();
    code = tt_record_dir_make(&rec, err);
    if (!code && !options->no_inject)
        code =
            name_agent(&rec, command.program, options->agent ? options->agent : found, agent, err);
    if (!code)
        code = tt_loop_open(&rec, fds, err);
    if (!code)
        code = tt_launch_fork(&launch, &rec, command.path, options->no_inject ? NULL : agent,
                              &before.mask, before.closed, err);
    if (code)
        goto end;
    parent = true;
    tt_setting_parent(&before);
    rec.child = result->pid = launch.pid;
    code = tt_loop_session(&rec, launch.pid, "the command runs unrecorded", err);
    if (code) {
        tt_launch_cancel(&launch);
        goto end;
    }
    fds[TT_FD_CHILD].fd = (int)syscall(SYS_pidfd_open, launch.pid, 0);
    if (fds[TT_FD_CHILD].fd >= 0)
        fcntl(fds[TT_FD_CHILD].fd, F_SETFD, FD_CLOEXEC);
    int child_fd = fds[TT_FD_CHILD].fd;
    rec.write_due = rec.read_due = rec.started_ns + TT_SECOND / 4;
    if (options->no_inject) {
        tt_kernel_start(&rec);
        tt_kernel_probe(&rec, launch.pid, command.path);
        tt_kernel_begin(&rec, launch.pid, true, err);
        tt_hold_start(&rec.hold, launch.pid);
    }
    code = tt_launch_go(&launch);
    if (code) {
        tt_error_sys(err, code, "cannot run %s", command.path);
        if (rec.writer) {
            tt_session_finish(rec.writer, false, NULL);
            rec.writer = NULL;
            unlink(result->output);
        }
    } else {
        tt_loop(&rec, fds);
        if (rec.recording)
            tt_loop_end(&rec, "the command ended");
        if (!options->follow)
            result->went_on = tt_loop_left_over(&rec);
    }
    if (child_fd >= 0)
        close(child_fd);
    fds[TT_FD_CHILD].fd = -1;
end:
    tt_loop_close(fds);
    tt_record_dir_remove(&rec);
    tt_setting_leave(&before, parent);
    return code;
}
