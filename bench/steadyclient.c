/* SPDX-License-Identifier: Apache-2.0 */
/* A client that gives a redis server the same work again and again: 20 connections, each with 16
 * requests at once, all sent before the first answer is read, as redis-benchmark -c 20 -P 16 does
 * at its busiest; SET of 64 bytes and GET by turns, of 10,000 keys. redis-benchmark's own rounds
 * depend on when each side gets to run, and with them the server's processor time for a request.
 * steadyclient SOCKET: for each line "N" of standard input does N rounds and then says "done". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CONNECTIONS 20
#define AT_ONCE 16
#define KEYS 10000u
#define VALUE_BYTES 64

static void fail(const char *what)
{
    perror(what);
    exit(3);
}

static unsigned any_key(void)
{
    static unsigned long s = 88172645463325252UL; /* xorshift64, Marsaglia 2003 */
    s ^= s << 13;
    s ^= s >> 7;
    s ^= s << 17;
    return (unsigned)(s % KEYS);
}

static void ask(int fd, int set)
{
    static const char value[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    _Static_assert(sizeof value == VALUE_BYTES + 1, "the length that the request says");
    char requests[AT_ONCE * 160];
    size_t n = 0;
    for (int i = 0; i < AT_ONCE; i++) {
        const unsigned key = any_key();
        char *at = requests + n;
        n += (size_t)(set ? sprintf(at, "*3\r\n$3\r\nSET\r\n$16\r\nkey:%012u\r\n$%d\r\n%s\r\n", key,
                                    VALUE_BYTES, value)
                          : sprintf(at, "*2\r\n$3\r\nGET\r\n$16\r\nkey:%012u\r\n", key));
    }
    if (write(fd, requests, n) != (ssize_t)n)
        fail("steadyclient: write");
}

/* An answer is one line to SET and to a GET that finds nothing, else two. */
static void listen_to(int fd)
{
    char bytes[65536];
    for (int answers = 0, begins = 1, rest = 0; answers < AT_ONCE;) {
        const ssize_t n = read(fd, bytes, sizeof bytes);
        if (n <= 0)
            fail("steadyclient: read");
        for (ssize_t i = 0; i < n; i++) {
            if (begins)
                rest = bytes[i] == '$';
            else if (bytes[i] == '-' && rest)
                rest = 0; /* $-1: there is none */
            begins = 0;
            if (bytes[i] != '\n')
                continue;
            if (rest) {
                rest = 0;
                continue;
            }
            answers++;
            begins = 1;
        }
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd[CONNECTIONS];
    char line[32];
    if (argc != 2 || strlen(argv[1]) >= sizeof address.sun_path) {
        fprintf(stderr, "usage: steadyclient SOCKET\n");
        return 2;
    }
    memcpy(address.sun_path, argv[1], strlen(argv[1]));
    for (int c = 0; c < CONNECTIONS; c++)
        if ((fd[c] = socket(AF_UNIX, SOCK_STREAM, 0)) < 0 ||
            connect(fd[c], (const struct sockaddr *)&address, sizeof address) != 0)
            fail("steadyclient: connect");
    while (fgets(line, sizeof line, stdin)) {
        for (long round = strtol(line, NULL, 10); round > 0; round--) {
            for (int c = 0; c < CONNECTIONS; c++)
                ask(fd[c], (int)(round & 1));
            for (int c = 0; c < CONNECTIONS; c++)
                listen_to(fd[c]);
        }
        printf("done\n");
        fflush(stdout);
    }
    return 0;
}
