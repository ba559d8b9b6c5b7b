/* SPDX-License-Identifier: Apache-2.0 */
/* The sockets of a process's network namespace, from /proc/PID/net (proc(5); the lines of tcp and
 * udp are described in Documentation/networking/proc_net_tcp.rst): addresses are words of the
 * machine's byte order in hex, ports are hex numbers, state and inode follow. Start:
 * tt_socket_list. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "resource/resource.h"

#define FILE_MOST (64u << 20)

/* "0100007F:1F90" or the same with 32 digits. False when it is neither. */
static bool read_address(const char *text, char out[TT_SOCKET_PEER], uint16_t *port)
{
    uint32_t words[4] = {0};
    size_t digits = strspn(text, "0123456789abcdefABCDEF");
    if ((digits != 8 && digits != 32) || text[digits] != ':')
        return false;
    for (size_t i = 0; i < digits / 8; i++) {
        char word[9];
        memcpy(word, text + 8 * i, 8);
        word[8] = '\0';
        words[i] = (uint32_t)strtoul(word, NULL, 16);
    }
    char address[INET6_ADDRSTRLEN] = "";
    inet_ntop(digits == 8 ? AF_INET : AF_INET6, words, address, sizeof address);
    unsigned long number = strtoul(text + digits + 1, NULL, 16);
    *port = (uint16_t)number;
    snprintf(out, TT_SOCKET_PEER, digits == 8 ? "%s:%u" : "[%s]:%u", address, (unsigned)*port);
    return true;
}

static bool read_line(const char *line, const char *protocol, struct tt_socket *out)
{
    char local[64], remote[64], state[8];
    unsigned long long inode;
    uint16_t remote_port = 0;
    /* sl local remote st tx:rx tr:when retrnsmt uid timeout inode */
    /* NOLINTNEXTLINE(cert-err34-c): the kernel writes no number that does not fit */
    if (sscanf(line, "%*s %63s %63s %7s %*s %*s %*s %*s %*s %llu", local, remote, state, &inode) !=
        4)
        return false;
    *out = (struct tt_socket){.inode = inode, .internet = true};
    char own[TT_SOCKET_PEER];
    if (!read_address(local, own, &out->port) || !read_address(remote, out->peer, &remote_port))
        return false;
    if (!remote_port)
        out->peer[0] = '\0';
    out->state = (uint8_t)strtoul(state, NULL, 16);
    snprintf(out->protocol, sizeof out->protocol, "%s", protocol);
    return true;
}

int tt_socket_parse(const char *text, const char *protocol, tt_socket_vec *out)
{
    while (*text) {
        struct tt_socket row;
        const char *end = strchrnul(text, '\n');
        char line[256];
        size_t n = (size_t)(end - text) < sizeof line - 1 ? (size_t)(end - text) : sizeof line - 1;
        memcpy(line, text, n);
        line[n] = '\0';
        /* of no inode: TIME_WAIT, which is no process's */
        if (read_line(line, protocol, &row) && row.inode && tt_vec_push(out, row))
            return -ENOMEM;
        text = *end ? end + 1 : end;
    }
    return 0;
}

static int read_file(pid_t pid, const char *protocol, tt_socket_vec *out)
{
    char path[64], buffer[16384];
    struct tt_text text = {0};
    snprintf(path, sizeof path, "/proc/%d/net/%s", (int)pid, protocol);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t n;
    while ((n = read(fd, buffer, sizeof buffer)) > 0 && text.len < FILE_MOST)
        tt_text_add_bytes(&text, buffer, (size_t)n);
    close(fd);
    int code = text.failed ? -ENOMEM : text.len ? tt_socket_parse(text.data, protocol, out) : 0;
    tt_text_free(&text);
    return code;
}

static int by_inode(const void *a, const void *b)
{
    const struct tt_socket *x = a, *y = b;
    return (x->inode > y->inode) - (x->inode < y->inode);
}

int tt_socket_list(pid_t pid, tt_socket_vec *out)
{
    static const char *const files[] = {"tcp", "tcp6", "udp", "udp6"};
    int code = 0;
    out->len = 0;
    for (size_t i = 0; code != -ENOMEM && i < sizeof files / sizeof *files; i++) {
        int one = read_file(pid, files[i], out);
        code = one == -ENOMEM || i == 0 ? one : code; /* without IPv6 two of them are absent */
    }
    if (out->len)
        qsort(out->data, out->len, sizeof *out->data, by_inode);
    return code;
}

const struct tt_socket *tt_socket_find(const tt_socket_vec *sockets, uint64_t inode)
{
    const struct tt_socket key = {.inode = inode};
    return sockets->len
               ? bsearch(&key, sockets->data, sockets->len, sizeof *sockets->data, by_inode)
               : NULL;
}

const char *tt_socket_state(uint8_t state)
{
    static const char *const names[] = {
        "",      "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2",   "TIME_WAIT",
        "CLOSE", "CLOSE_WAIT",  "LAST_ACK", "LISTEN",   "CLOSING",   "NEW_SYN_RECV"};
    return state < sizeof names / sizeof *names ? names[state] : "";
}
