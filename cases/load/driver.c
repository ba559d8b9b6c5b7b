/* SPDX-License-Identifier: Apache-2.0 */
/* The common part of the load drivers. Start: driver_run. */
#include "load/driver.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

struct driver driver;
static struct child hook = CHILD_NONE;

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

void driver_options(int argc, char **argv, const struct option *options, void (*take)(int o))
{
    for (int o; (o = getopt_long(argc, argv, "+", options, NULL)) != -1;) {
        switch (o) {
        case 's':
            driver.settle = driver_number(optarg, 0, 86400);
            break;
        case 't':
            driver.truth = optarg;
            break;
        case 'b':
            driver.before = optarg;
            break;
        case 'a':
            driver.after = optarg;
            break;
        case '?':
            driver_bad_usage();
        default:
            take(o);
        }
    }
    if (optind == argc)
        driver_bad_usage();
    driver.command = argv + optind;
}

void driver_directory(char *path, size_t size)
{
    ssize_t n = readlink("/proc/self/exe", path, size - 1);
    path[n > 0 ? n : 0] = 0;
    char *slash = strrchr(path, '/');
    if (slash)
        *slash = 0;
}

bool driver_hook(const char *command)
{
    if (!command)
        return true;
    char *args[] = {"sh", "-c", (char *)command, NULL};
    if (!child_spawn(&hook, args, TO_STDERR, SIGTERM) ||
        !child_await_end(&hook, INT64_MAX, "the command"))
        return false;
    return (WIFEXITED(hook.status) && WEXITSTATUS(hook.status) == 0) ||
           trouble("\"%s\" failed (status 0x%x)", command, (unsigned)hook.status);
}

FILE *driver_truth(void)
{
    FILE *f = fopen(driver.truth, "we");
    if (!f)
        trouble("%s: %s", driver.truth, strerror(errno));
    return f;
}

bool driver_truth_end(FILE *f)
{
    return fclose(f) == 0 || trouble("%s: %s", driver.truth, strerror(errno));
}

bool driver_begin(const char *name, const char *socket_variable)
{
    snprintf(driver.dir, sizeof driver.dir, "/tmp/%.30s.XXXXXX", name);
    if (!mkdtemp(driver.dir))
        return trouble("%s: %s", driver.dir, strerror(errno));
    snprintf(driver.socket_path, sizeof driver.socket_path, "%s/sock", driver.dir);
    return setenv(socket_variable, driver.socket_path, 1) == 0;
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
    child_kill(&hook);
    clean_up();
    unlink(driver.socket_path);
    rmdir(driver.dir);
    return good;
}

int driver_status(int status)
{
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
