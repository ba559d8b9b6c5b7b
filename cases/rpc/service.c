/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by rpcssd and clussvc; see service.h. */
#include "service.h"
#include "dg/server.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

static void signal_ready(struct dg_watch *w)
{
    struct signalfd_siginfo info;
    if (read(w->fd, &info, sizeof info) == (ssize_t)sizeof info)
        dg_server_stop();
}

int service_begin(void)
{
    static struct dg_watch watch = {-1, signal_ready};
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    watch.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return watch.fd < 0 ? -errno : dg_server_watch(&watch);
}

unsigned long service_number(const char *program, const char *option, const char *text,
                             unsigned long max)
{
    char *end;
    errno = 0;
    unsigned long n = strtoul(text, &end, 10);
    if (errno || end == text || *end || *text == '-' || n > max) {
        fprintf(stderr, "%s: %s: \"%s\" is not a number up to %lu\n", program, option, text, max);
        exit(2);
    }
    return n;
}
