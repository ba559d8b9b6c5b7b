/* SPDX-License-Identifier: Apache-2.0 */
/* Child processes; see child.h. */
#include "load/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

bool interrupted;
int signal_fd = -1;

int64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

bool trouble(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "%s: ", program_invocation_short_name);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    return false;
}

bool child_spawn(struct child *c, char *const argv[], int flags, int death_signal)
{
    int out[2], in[2] = {-1, -1};
    pid_t parent = getpid();
    *c = CHILD_NONE;
    c->echo = flags & ECHO_LINES;
    if (pipe2(out, O_CLOEXEC) < 0 || ((flags & WITH_INPUT) && pipe2(in, O_CLOEXEC) < 0))
        return trouble("pipe: %s", strerror(errno));
    c->pid = fork();
    if (c->pid == 0) {
        int input = flags & WITH_INPUT ? in[0] : open("/dev/null", O_RDONLY | O_CLOEXEC);
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        signal(SIGPIPE, SIG_DFL);
        setpgid(0, 0); /* ^C is for callload, which ends its children in order */
        prctl(PR_SET_PDEATHSIG, death_signal);
        if (getppid() != parent)
            _exit(127);
        dup2(input, STDIN_FILENO);
        dup2(flags & TO_STDERR ? STDERR_FILENO : out[1], STDOUT_FILENO);
        if (flags & SILENT)
            dup2(out[1], STDERR_FILENO);
        execvp(argv[0], argv);
        fprintf(stderr, "%s: cannot run %s: %s\n", program_invocation_short_name, argv[0],
                strerror(errno));
        _exit(127);
    }
    close(out[1]);
    if (flags & WITH_INPUT)
        close(in[0]);
    if (c->pid < 0)
        return trouble("fork: %s", strerror(errno));
    c->out = out[0];
    c->in = in[1];
    c->pidfd = (int)syscall(SYS_pidfd_open, c->pid, 0);
    return c->pidfd >= 0 || trouble("pidfd_open: %s", strerror(errno));
}

void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* The child's next line into c->last: 1, 0 none complete yet, -1 its output has ended. */
static int child_take_line(struct child *c)
{
    char *nl = memchr(c->buf, '\n', c->len);
    if (!nl && c->out >= 0) {
        ssize_t n = read(c->out, c->buf + c->len, sizeof c->buf - 1 - c->len);
        if (n <= 0)
            close_fd(&c->out);
        else
            c->len += (size_t)n;
        nl = memchr(c->buf, '\n', c->len);
        if (!nl && c->len == sizeof c->buf - 1)
            c->len = 0; /* no line of ours is that long */
    }
    if (!nl)
        return c->out < 0 ? -1 : 0;
    size_t n = (size_t)(nl - c->buf);
    memcpy(c->last, c->buf, n);
    c->last[n] = 0;
    c->len -= n + 1;
    memmove(c->buf, nl + 1, c->len);
    return 1;
}

bool child_reap(struct child *c)
{
    if (!c->ended && c->pid > 0 && waitpid(c->pid, &c->status, WNOHANG) == c->pid)
        c->ended = true;
    return c->ended;
}

bool child_wait(const struct child *c, int64_t deadline)
{
    struct pollfd p[3] = {{c->out, POLLIN, 0}, {c->pidfd, POLLIN, 0}, {signal_fd, POLLIN, 0}};
    int64_t left = deadline - now_ms();
    if (!interrupted && left > 0)
        poll(p, 3, left > INT32_MAX ? INT32_MAX : (int)left);
    if (p[2].revents)
        interrupted = true;
    return !interrupted && now_ms() < deadline;
}

bool child_has_output(const struct child *c)
{
    struct pollfd p = {c->out, POLLIN, 0};
    return c->out >= 0 && poll(&p, 1, 0) > 0;
}

void child_take_lines(struct child *c, bool shown)
{
    while (memchr(c->buf, '\n', c->len) || child_has_output(c))
        if (child_take_line(c) > 0 && shown)
            fprintf(stderr, "%s\n", c->last);
}

bool child_await_line(struct child *c, const char *start, int64_t deadline, const char *what)
{
    for (;;) {
        while (memchr(c->buf, '\n', c->len) || child_has_output(c)) {
            if (child_take_line(c) <= 0)
                continue;
            if (strncmp(c->last, start, strlen(start)) == 0)
                return true;
            fprintf(stderr, "%s\n", c->last);
        }
        if (child_reap(c))
            return trouble("%s ended before it was ready", what);
        if (!child_wait(c, deadline))
            return interrupted ? false : trouble("%s: no answer in time", what);
    }
}

bool child_await_end(struct child *c, int64_t deadline, const char *what)
{
    while (!child_reap(c)) {
        if (!child_wait(c, deadline) && !child_reap(c))
            return interrupted ? false : trouble("%s did not end in time", what);
        child_take_lines(c, c->echo);
    }
    child_take_lines(c, c->echo);
    return true;
}

void child_kill(struct child *c)
{
    if (c->pid <= 0 || child_reap(c))
        return;
    int64_t deadline = now_ms() + 5000;
    kill(-c->pid, SIGTERM);
    while (!child_reap(c) && child_wait(c, deadline))
        child_take_lines(c, c->echo);
    if (!child_reap(c)) {
        kill(-c->pid, SIGKILL);
        waitpid(c->pid, &c->status, 0);
        c->ended = true;
    }
}
