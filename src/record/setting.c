/* SPDX-License-Identifier: Apache-2.0 */
/* What a wrapper changes in its own process while a command runs under it, and puts back: blocked
 * signals that are forwarded, SIGCHLD, the limit on descriptors, closed standard descriptors; and
 * ending as the command ended. Start: tt_setting_enter. */
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "record/internal.h"

#define FDS_WANTED 16384u

sigset_t tt_setting_signals(void)
{
    static const int forwarded[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH};
    sigset_t mask;
    sigemptyset(&mask);
    for (size_t i = 0; i < sizeof forwarded / sizeof *forwarded; i++)
        sigaddset(&mask, forwarded[i]);
    return mask;
}

void tt_setting_enter(struct tt_setting *before)
{
    sigset_t mask = tt_setting_signals();
    for (int fd = 0; fd < 3; fd++) {
        before->closed[fd] = fcntl(fd, F_GETFD) < 0;
        if (before->closed[fd]) /* nothing of ours may become the command's input or output */
            before->closed[fd] = open("/dev/null", (fd ? O_WRONLY : O_RDONLY) | O_CLOEXEC) == fd;
    }
    sigaddset(&mask, SIGXFSZ); /* then a write beyond ulimit -f fails instead */
    sigprocmask(SIG_BLOCK, &mask, &before->mask);
}

/* After the fork: the command keeps what the caller had. */
void tt_setting_parent(struct tt_setting *before)
{
    struct sigaction plain = {.sa_handler = SIG_DFL};
    sigaction(SIGCHLD, &plain, &before->child); /* ignored, it would take the status away */
    before->files_raised = getrlimit(RLIMIT_NOFILE, &before->files) == 0;
    struct rlimit more = before->files;
    rlim_t most = more.rlim_max < FDS_WANTED ? more.rlim_max : FDS_WANTED;
    if (before->files_raised && more.rlim_cur < most) {
        more.rlim_cur = most;
        setrlimit(RLIMIT_NOFILE, &more);
    }
}

void tt_setting_leave(const struct tt_setting *before, bool parent)
{
    if (parent) {
        sigaction(SIGCHLD, &before->child, NULL);
        if (before->files_raised)
            setrlimit(RLIMIT_NOFILE, &before->files);
    }
    /* what came too late to be forwarded was meant for the command: it is not to hit us now */
    struct timespec none = {0};
    sigset_t mask = tt_setting_signals();
    sigaddset(&mask, SIGXFSZ);
    while (sigtimedwait(&mask, NULL, &none) > 0)
        ;
    sigprocmask(SIG_SETMASK, &before->mask, NULL);
    for (int fd = 0; fd < 3; fd++)
        if (before->closed[fd])
            close(fd);
}

int tt_record_exit(int status)
{
    if (!WIFSIGNALED(status))
        return WEXITSTATUS(status);
    int sig = WTERMSIG(status);
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    struct sigaction plain = {.sa_handler = SIG_DFL};
    sigaction(sig, &plain, NULL);
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, sig);
    sigprocmask(SIG_UNBLOCK, &mask, NULL);
    raise(sig);
    return 128 + sig; /* one that does not end a process by default */
}
