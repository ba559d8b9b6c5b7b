/* SPDX-License-Identifier: Apache-2.0 */
/* What a client of an attached server notices: a server child with N threads (one answers, the
 * others allocate a little and sleep), and this process as its client, which asks a thousand times
 * a second and keeps the longest wait for an answer. Each line on stdin ends a window: then the
 * longest wait of the window in ms is printed. First line printed: pid of the server. Start: main.
 */
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ULL + (uint64_t)t.tv_nsec;
}

static void *idle(void *arg)
{
    void *kept[8] = {0};
    for (unsigned i = 0;; i++) {
        const struct timespec pause = {0, 2000000};
        nanosleep(&pause, NULL);
        free(kept[i % 8]);
        kept[i % 8] = malloc(100 + i % 50);
    }
    return arg;
}

static void serve(int s, unsigned threads)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (unsigned i = 1; i < threads; i++) {
        pthread_t t;
        if (pthread_create(&t, NULL, idle, NULL) != 0)
            _exit(3);
    }
    char *text;
    char c;
    while (read(s, &c, 1) == 1) {
        text = malloc(64);
        text[0] = c;
        if (write(s, text, 1) != 1)
            break;
        free(text);
    }
    _exit(0);
}

int main(int argc, char **argv)
{
    unsigned threads = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 5;
    int s[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, s) != 0)
        return 3;
    pid_t pid = fork();
    if (pid == 0)
        serve(s[1], threads);
    printf("%d\n", (int)pid);
    fflush(stdout);
    uint64_t longest = 0;
    for (uint64_t due = now();; due += 1000000) {
        struct pollfd in = {.fd = 0, .events = POLLIN};
        if (poll(&in, 1, 0) == 1) {
            char line[64];
            if (read(0, line, sizeof line) <= 0)
                break;
            printf("%.4f\n", (double)longest * 1e-6);
            fflush(stdout);
            longest = 0;
        }
        uint64_t at = now();
        if (due > at) {
            const struct timespec pause = {0, (long)(due - at)};
            nanosleep(&pause, NULL);
        } else {
            due = at;
        }
        char c = 'p';
        at = now();
        if (write(s[0], &c, 1) != 1 || read(s[0], &c, 1) != 1)
            return 1;
        uint64_t took = now() - at;
        if (took > longest)
            longest = took;
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return 0;
}
