/* SPDX-License-Identifier: Apache-2.0 */
/* Starting the command: a forked child waits until the session exists (its name may hold the pid),
 * then becomes the command with our three variables added and everything else as the caller had
 * it: signal mask, descriptors, limits. Also where the agent library is found.
 * Start: tt_launch_fork. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "record/internal.h"

#define LAST_MS 5000 /* that an exit waits for its copy at most; mostly some milliseconds */

static const char *mode_name(enum tt_tape_mode mode)
{
    return mode == TT_MODE_SAMPLED ? "sampled" : mode == TT_MODE_ADAPTIVE ? "adaptive" : "exact";
}

/* In the child. No agent: everything stays as it is. The agent comes first, so that its malloc is
 * the one that is bound. */
static int set_environment(const struct tt_recorder *rec, const char *agent)
{
    const struct tt_record_options *o = rec->options;
    const char *others = getenv("LD_PRELOAD");
    if (!agent)
        return 0;
    char *preload, conf[256];
    if (asprintf(&preload, "%s%s%s", agent, others && *others ? ":" : "", others ? others : "") < 0)
        return -ENOMEM;
    snprintf(conf, sizeof conf, "mode=%s,mean=%llu,rate=%u,follow=%d,root=%d,origin=%llu,last=%d",
             mode_name(o->mode), (unsigned long long)(o->sample_mean ? o->sample_mean : 512 << 10),
             o->rate ? o->rate : 1, o->follow, (int)getpid(), (unsigned long long)rec->origin_ns,
             o->snapshots == TT_SNAPSHOTS_OFF ? 0 : LAST_MS);
    int code = setenv("LD_PRELOAD", preload, 1) || setenv(TT_TAPE_ENV_DIR, rec->dir, 1) ||
                       setenv(TT_TAPE_ENV_CONF, conf, 1)
                   ? -errno
                   : 0;
    free(preload);
    return code;
}

static void child(const struct tt_recorder *rec, const char *path, const char *agent,
                  const sigset_t *mask, const bool closed[3], int go, int status)
{
    char byte;
    if (read(go, &byte, 1) != 1)
        _exit(0); /* not wanted after all */
    int code = set_environment(rec, agent);
    for (int fd = 0; fd < 3; fd++)
        if (closed[fd])
            close(fd);
    sigprocmask(SIG_SETMASK, mask, NULL);
    if (!code) {
        execv(path, rec->options->argv);
        code = -errno;
    }
    ssize_t n = write(status, &code, sizeof code);
    (void)n;
    _exit(127);
}

int tt_launch_fork(struct tt_launch *launch, struct tt_recorder *rec, const char *path,
                   const char *agent, const void *mask, const bool closed[3], struct tt_error *err)
{
    int go[2], status[2];
    if (pipe2(go, O_CLOEXEC) < 0)
        return tt_error_sys(err, -errno, "cannot start the command");
    if (pipe2(status, O_CLOEXEC) < 0) {
        int code = -errno;
        close(go[0]);
        close(go[1]);
        return tt_error_sys(err, code, "cannot start the command");
    }
    launch->pid = fork();
    if (launch->pid == 0) {
        close(go[1]);
        child(rec, path, agent, mask, closed, go[0], status[1]);
    }
    int code = launch->pid < 0 ? -errno : 0;
    close(go[0]);
    close(status[1]);
    launch->go = go[1];
    launch->status = status[0];
    if (code) {
        close(go[1]);
        close(status[0]);
        return tt_error_sys(err, code, "cannot start the command");
    }
    return 0;
}

int tt_launch_go(struct tt_launch *launch)
{
    int code = 0;
    if (write(launch->go, "g", 1) != 1)
        code = -errno;
    close(launch->go);
    if (!code) {
        ssize_t n;
        do
            n = read(launch->status, &code, sizeof code);
        while (n < 0 && errno == EINTR);
        if (n != sizeof code)
            code = 0; /* closed by a successful exec */
    }
    close(launch->status);
    if (code)
        waitpid(launch->pid, NULL, 0);
    return code;
}

void tt_launch_cancel(struct tt_launch *launch)
{
    close(launch->go);
    close(launch->status);
    waitpid(launch->pid, NULL, 0);
}
