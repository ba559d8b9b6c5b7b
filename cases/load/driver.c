/* SPDX-License-Identifier: Apache-2.0 */
/* The common part of the load drivers. Start: driver_run. */
#include "load/driver.h"

#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

void driver_bad_usage(void)
{
    fputs(driver_usage, stderr);
    exit(2);
}

unsigned long driver_number(const char *text, unsigned long min, unsigned long max)
{
    char *rest;
    unsigned long n = strtoul(text, &rest, 10);
    if (rest == text || *rest || *text == '-' || n < min || n > max)
        driver_bad_usage();
    return n;
}

void driver_directory(char *path, size_t size)
{
    ssize_t n = readlink("/proc/self/exe", path, size - 1);
    path[n > 0 ? n : 0] = 0;
    char *slash = strrchr(path, '/');
    if (slash)
        *slash = 0;
}

bool driver_hook(struct child *hook, const char *command)
{
    if (!command)
        return true;
    char *args[] = {"sh", "-c", (char *)command, NULL};
    if (!child_spawn(hook, args, TO_STDERR, SIGTERM) ||
        !child_await_end(hook, INT64_MAX, "the command"))
        return false;
    return (WIFEXITED(hook->status) && WEXITSTATUS(hook->status) == 0) ||
           trouble("\"%s\" failed (status 0x%x)", command, (unsigned)hook->status);
}

bool driver_run(bool (*drive)(void), void (*clean_up)(void), bool *told_to_end)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal_fd = signalfd(-1, &set, SFD_CLOEXEC);
    bool good = signal_fd >= 0 && drive();
    *told_to_end = interrupted;
    interrupted = false; /* cleaning up is bounded by itself */
    close_fd(&signal_fd);
    clean_up();
    return good;
}

int driver_status(int status)
{
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
