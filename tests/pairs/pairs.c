/* SPDX-License-Identifier: Apache-2.0 */
/* What the programs of pairs share: the list of halves, the rounds, and main. Start: main. */
#include "pairs.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

volatile int pairs_yes = 1, pairs_no = 0;
volatile unsigned pairs_round;
int pairs_highest;
static struct pairs_half *halves;

void pairs_enrol(struct pairs_half *half)
{
    half->next = halves;
    halves = half;
}

void pairs_failed(const char *what)
{
    fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(errno));
    _exit(3);
}

void pairs_in_thread(void *(*f)(void *), void *arg)
{
    pthread_t thread;
    errno = pthread_create(&thread, NULL, f, arg);
    if (errno)
        pairs_failed("pthread_create");
    pthread_join(thread, NULL);
}

PAIRS_OWN_FRAME void pairs_call(void (*f)(void *), void *arg)
{
    f(arg);
}

FX_OPERATION void serve_request(bool bad, const char *only);
void serve_request(bool bad, const char *only)
{
    for (struct pairs_half *h = halves; h; h = h->next)
        if (h->bad == bad && (!only || !strcmp(h->name, only)))
            h->run();
    fx_use(&bad);
}

static int usage(void)
{
    fprintf(stderr, "usage: %s bad|good [FUNCTION] [--seconds S] [--rate ROUNDS] | list\n",
            program_invocation_short_name);
    return 2;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return usage();
    bool bad = !strcmp(argv[1], "bad");
    if (!strcmp(argv[1], "list")) {
        for (struct pairs_half *h = halves; h; h = h->next)
            puts(h->name);
        return 0;
    }
    if (!bad && strcmp(argv[1], "good"))
        return usage();
    const char *only = argc > 2 && argv[2][0] != '-' ? argv[2] : NULL;
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &files) || files.rlim_max < 16384)
        pairs_failed("needs 16384 open files (ulimit -Hn)");
    pairs_highest = files.rlim_max > 65536 ? 65535 : (int)files.rlim_max - 1;
    int used = only ? 2 : 1;
    argv[used] = argv[0];
    fx_start(argc - used, argv + used, (struct fx_options){.seconds = 13, .rate = 5});
    uint64_t n;
    while (fx_spaced(&n)) {
        pairs_round = (unsigned)n;
        serve_request(bad, only);
    }
    return fx_end(program_invocation_short_name);
}
