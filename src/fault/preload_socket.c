/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets. A process that gets descriptors in a message (SCM_RIGHTS, unix(7)) acquires them there.
 * Start: socket. */
#include "fault/preload.h"

#include <errno.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

static int opened(int fd, uint32_t site)
{
    if (fd >= 0)
        tt_fault_acquired(TT_FAULT_SOCKET, TT_SPACE_FD, (uint64_t)fd, 1, site);
    return fd;
}

TT_CALL(int, socket, int family, int type, int protocol)
{
    uint32_t site;
    int code = TT_ASK(socket, &site);
    if (code) {
        errno = code;
        return -1;
    }
    return opened(TT_REAL(socket, int, int, int, int)(family, type, protocol), site);
}

TT_CALL(int, socketpair, int family, int type, int protocol, int fds[2])
{
    uint32_t site;
    int code = TT_ASK(socketpair, &site);
    if (code) {
        errno = code;
        return -1;
    }
    int result = TT_REAL(socketpair, int, int, int, int, int *)(family, type, protocol, fds);
    if (result == 0) {
        opened(fds[0], site);
        opened(fds[1], site);
    }
    return result;
}

TT_CALL(int, accept, int fd, struct sockaddr *from, socklen_t *n)
{
    uint32_t site;
    int code = TT_ASK(accept, &site);
    if (code) {
        errno = code;
        return -1;
    }
    return opened(TT_REAL(accept, int, int, struct sockaddr *, socklen_t *)(fd, from, n), site);
}

TT_CALL(int, accept4, int fd, struct sockaddr *from, socklen_t *n, int flags)
{
    uint32_t site;
    int code = TT_ASK(accept4, &site);
    if (code) {
        errno = code;
        return -1;
    }
    return opened(
        TT_REAL(accept4, int, int, struct sockaddr *, socklen_t *, int)(fd, from, n, flags), site);
}

TT_CALL(int, bind, int fd, const struct sockaddr *at, socklen_t n)
{
    int code = TT_ASK(bind, NULL), type = 0;
    socklen_t room = sizeof type;
    if (code) {
        errno = code;
        return -1;
    }
    int result = TT_REAL(bind, int, int, const struct sockaddr *, socklen_t)(fd, at, n);
    if (result == 0 &&
        TT_REAL(getsockopt, int, int, int, int, void *, socklen_t *)(fd, SOL_SOCKET, SO_TYPE, &type,
                                                                     &room) == 0 &&
        type == SOCK_DGRAM)
        tt_fault_bound();
    return result;
}

TT_CALL(int, listen, int fd, int backlog)
{
    int code = TT_ASK(listen, NULL);
    if (code) {
        errno = code;
        return -1;
    }
    int result = TT_REAL(listen, int, int, int)(fd, backlog);
    if (result == 0)
        tt_fault_bound();
    return result;
}

TT_CALL(ssize_t, recvmsg, int fd, struct msghdr *message, int flags)
{
    uint32_t site;
    int code = TT_ASK(recvmsg, &site);
    if (code) {
        errno = code;
        return -1;
    }
    ssize_t result = TT_REAL(recvmsg, ssize_t, int, struct msghdr *, int)(fd, message, flags);
    if (result < 0)
        return result;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        const unsigned char *data = CMSG_DATA(c);
        size_t count = (c->cmsg_len - (size_t)(data - (unsigned char *)c)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int got;
            __builtin_memcpy(&got, data + i * sizeof got, sizeof got);
            if (got >= 0)
                tt_fault_acquired(TT_FAULT_FD, TT_SPACE_FD, (uint64_t)got, 1, site);
        }
    }
    return result;
}

TT_PLAIN(int, connect, -1, (int fd, const struct sockaddr *to, socklen_t n), (fd, to, n), int,
         const struct sockaddr *, socklen_t)
TT_PLAIN(int, setsockopt, -1, (int fd, int level, int name, const void *value, socklen_t n),
         (fd, level, name, value, n), int, int, int, const void *, socklen_t)
TT_PLAIN(int, getsockopt, -1, (int fd, int level, int name, void *value, socklen_t *n),
         (fd, level, name, value, n), int, int, int, void *, socklen_t *)
TT_PLAIN(int, getsockname, -1, (int fd, struct sockaddr *at, socklen_t *n), (fd, at, n), int,
         struct sockaddr *, socklen_t *)
TT_PLAIN(int, getpeername, -1, (int fd, struct sockaddr *at, socklen_t *n), (fd, at, n), int,
         struct sockaddr *, socklen_t *)
TT_PLAIN(ssize_t, recvfrom, -1,
         (int fd, void *to, size_t n, int flags, struct sockaddr *from, socklen_t *room),
         (fd, to, n, flags, from, room), int, void *, size_t, int, struct sockaddr *, socklen_t *)
TT_PLAIN(ssize_t, sendto, -1,
         (int fd, const void *from, size_t n, int flags, const struct sockaddr *to, socklen_t room),
         (fd, from, n, flags, to, room), int, const void *, size_t, int, const struct sockaddr *,
         socklen_t)
TT_PLAIN(ssize_t, sendmsg, -1, (int fd, const struct msghdr *message, int flags),
         (fd, message, flags), int, const struct msghdr *, int)

TT_CALL(ssize_t, __recvfrom_chk, int fd, void *to, size_t n, size_t room, int flags,
        struct sockaddr *from, socklen_t *from_room)
{
    int code = TT_ASK(recvfrom, NULL);
    if (code) {
        errno = code;
        return -1;
    }
    return TT_REAL(__recvfrom_chk, ssize_t, int, void *, size_t, size_t, int, struct sockaddr *,
                   socklen_t *)(fd, to, n, room, flags, from, from_room);
}

/* What it returns is the error, EAI_ codes as in getaddrinfo(3). */
TT_CALL(int, getaddrinfo, const char *node, const char *service, const struct addrinfo *hints,
        struct addrinfo **out)
{
    int code = TT_ASK(getaddrinfo, NULL);
    if (code)
        return code;
    return TT_REAL(getaddrinfo, int, const char *, const char *, const struct addrinfo *,
                   struct addrinfo **)(node, service, hints, out);
}
