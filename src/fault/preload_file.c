/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors: what opens, duplicates and closes them, and what reads and writes through them. A
 * descriptor's unit is taken out before the real close, since afterwards another thread may own the
 * number. Start: TT_OPENS. */
#include "fault/preload.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static int opened(int fd, uint32_t site)
{
    if (fd >= 0)
        tt_fault_acquired(TT_FAULT_FD, TT_SPACE_FD, (uint64_t)fd, 1, site);
    return fd;
}

/* A function whose result is a new descriptor. */
#define TT_OPENS(name, params, args, ...)                                                          \
    TT_CALL(int, name, TT_LIST params)                                                             \
    {                                                                                              \
        uint32_t site;                                                                             \
        int code = TT_ASK(name, &site);                                                            \
        if (code) {                                                                                \
            errno = code;                                                                          \
            return -1;                                                                             \
        }                                                                                          \
        return opened(TT_REAL(name, int, __VA_ARGS__) args, site);                                 \
    }

static mode_t mode_of(int flags, va_list ap)
{
    return flags & (O_CREAT | __O_TMPFILE) ? va_arg(ap, mode_t) : 0;
}

TT_CALL(int, open, const char *path, int flags, ...)
{
    uint32_t site;
    va_list ap;
    va_start(ap, flags);
    mode_t mode = mode_of(flags, ap);
    va_end(ap);
    int code = TT_ASK(open, &site);
    if (code) {
        errno = code;
        return -1;
    }
    return opened(TT_REAL(open, int, const char *, int, ...)(path, flags, mode), site);
}
TT_ALIAS(open, open64);
TT_ALIAS(open, __open_2); /* checks nothing but that no mode is needed */
TT_ALIAS(open, __open64_2);

TT_CALL(int, openat, int dir, const char *path, int flags, ...)
{
    uint32_t site;
    va_list ap;
    va_start(ap, flags);
    mode_t mode = mode_of(flags, ap);
    va_end(ap);
    int code = TT_ASK(openat, &site);
    if (code) {
        errno = code;
        return -1;
    }
    return opened(TT_REAL(openat, int, int, const char *, int, ...)(dir, path, flags, mode), site);
}
TT_ALIAS(openat, openat64);
TT_ALIAS(openat, __openat_2);
TT_ALIAS(openat, __openat64_2);

TT_OPENS(creat, (const char *path, mode_t mode), (path, mode), const char *, mode_t)
TT_ALIAS(creat, creat64);
TT_OPENS(mkstemp, (char *name), (name), char *)
TT_ALIAS(mkstemp, mkstemp64);
TT_OPENS(dup, (int fd), (fd), int)
TT_OPENS(eventfd, (unsigned n, int flags), (n, flags), unsigned, int)
TT_OPENS(epoll_create, (int size), (size), int)
TT_OPENS(epoll_create1, (int flags), (flags), int)
TT_OPENS(timerfd_create, (int clock, int flags), (clock, flags), int, int)
TT_OPENS(inotify_init, (void), (), void)
TT_OPENS(inotify_init1, (int flags), (flags), int)
TT_OPENS(memfd_create, (const char *name, unsigned flags), (name, flags), const char *, unsigned)
TT_OPENS(shm_open, (const char *name, int flags, mode_t mode), (name, flags, mode), const char *,
         int, mode_t)

/* The other ways to a temporary file fail as mkstemp does. */
#define TT_TEMPORARY(name, params, args, ...)                                                      \
    TT_CALL(int, name, TT_LIST params)                                                             \
    {                                                                                              \
        uint32_t site;                                                                             \
        int code = TT_ASK(mkstemp, &site);                                                         \
        if (code) {                                                                                \
            errno = code;                                                                          \
            return -1;                                                                             \
        }                                                                                          \
        return opened(TT_REAL(name, int, __VA_ARGS__) args, site);                                 \
    }
TT_TEMPORARY(mkostemp, (char *name, int flags), (name, flags), char *, int)
TT_ALIAS(mkostemp, mkostemp64);
TT_TEMPORARY(mkstemps, (char *name, int suffix), (name, suffix), char *, int)
TT_ALIAS(mkstemps, mkstemps64);
TT_TEMPORARY(mkostemps, (char *name, int suffix, int flags), (name, suffix, flags), char *, int,
             int)
TT_ALIAS(mkostemps, mkostemps64);

TT_CALL(int, signalfd, int fd, const void *mask, int flags)
{
    uint32_t site;
    int code = TT_ASK(signalfd, &site);
    if (code) {
        errno = code;
        return -1;
    }
    int result = TT_REAL(signalfd, int, int, const void *, int)(fd, mask, flags);
    return fd < 0 ? opened(result, site) : result;
}

static int both(int result, const int fds[2], uint32_t site)
{
    if (result == 0) {
        opened(fds[0], site);
        opened(fds[1], site);
    }
    return result;
}

TT_CALL(int, pipe, int fds[2])
{
    uint32_t site;
    int code = TT_ASK(pipe, &site);
    if (code) {
        errno = code;
        return -1;
    }
    return both(TT_REAL(pipe, int, int *)(fds), fds, site);
}

TT_CALL(int, pipe2, int fds[2], int flags)
{
    uint32_t site;
    int code = TT_ASK(pipe2, &site);
    if (code) {
        errno = code;
        return -1;
    }
    return both(TT_REAL(pipe2, int, int *, int)(fds, flags), fds, site);
}

/* The new number is closed by the same call, if it was open. */
static int doubled(int fd, int to, int result, uint32_t site)
{
    if (result < 0 || fd == to)
        return result;
    tt_fault_released(TT_SPACE_FD, (uint64_t)to, NULL);
    return opened(result, site);
}

TT_CALL(int, dup2, int fd, int to)
{
    uint32_t site;
    int code = TT_ASK(dup2, &site);
    if (code) {
        errno = code;
        return -1;
    }
    return doubled(fd, to, TT_REAL(dup2, int, int, int)(fd, to), site);
}

TT_CALL(int, dup3, int fd, int to, int flags)
{
    uint32_t site;
    int code = TT_ASK(dup3, &site);
    if (code) {
        errno = code;
        return -1;
    }
    return doubled(fd, to, TT_REAL(dup3, int, int, int, int)(fd, to, flags), site);
}

/* Fails only where it makes a descriptor. */
TT_CALL(int, fcntl, int fd, int command, ...)
{
    va_list ap;
    va_start(ap, command);
    void *argument = va_arg(ap, void *);
    va_end(ap);
    uint32_t site = 0;
    int makes = command == F_DUPFD || command == F_DUPFD_CLOEXEC;
    int code = makes ? TT_ASK(fcntl, &site) : 0;
    if (code) {
        errno = code;
        return -1;
    }
    int result = TT_REAL(fcntl, int, int, int, ...)(fd, command, argument);
    return makes ? opened(result, site) : result;
}
TT_ALIAS(fcntl, fcntl64);

TT_CALL(int, close, int fd)
{
    if (fd >= 0)
        tt_fault_released(TT_SPACE_FD, (uint64_t)fd, NULL);
    return TT_REAL(close, int, int)(fd);
}

TT_CALL(int, close_range, unsigned first, unsigned last, int flags)
{
    if (!(flags & 4)) /* CLOSE_RANGE_CLOEXEC closes nothing yet */
        tt_fault_released_range(TT_SPACE_FD, first, last);
    return TT_REAL(close_range, int, unsigned, unsigned, int)(first, last, flags);
}

TT_CALL(void, closefrom, int first)
{
    tt_fault_released_range(TT_SPACE_FD, first < 0 ? 0 : (uint64_t)first, INT32_MAX);
    TT_REAL(closefrom, void, int)(first);
}

/* ---- transfers ---- */

/* A transfer that can be made short: by asking for one byte. */
#define TT_TRANSFER(name, real_name, params, args, short_args, n, ...)                             \
    TT_CALL(ssize_t, real_name, TT_LIST params)                                                    \
    {                                                                                              \
        int code = TT_ASK(name, NULL);                                                             \
        if (code == TT_FAULT_SHORT)                                                                \
            return TT_REAL(real_name, ssize_t, __VA_ARGS__)(TT_LIST short_args);                   \
        if (code) {                                                                                \
            errno = code;                                                                          \
            return -1;                                                                             \
        }                                                                                          \
        return TT_REAL(real_name, ssize_t, __VA_ARGS__) args;                                      \
    }
#define ONE(n) ((n) ? 1 : 0)
TT_TRANSFER(read, read, (int fd, void *to, size_t n), (fd, to, n), (fd, to, ONE(n)), n, int, void *,
            size_t)
TT_TRANSFER(read, __read_chk, (int fd, void *to, size_t n, size_t room), (fd, to, n, room),
            (fd, to, ONE(n), room), n, int, void *, size_t, size_t)
TT_TRANSFER(pread, pread, (int fd, void *to, size_t n, off_t at), (fd, to, n, at),
            (fd, to, ONE(n), at), n, int, void *, size_t, off_t)
TT_ALIAS(pread, pread64);
TT_TRANSFER(pread, __pread_chk, (int fd, void *to, size_t n, off_t at, size_t room),
            (fd, to, n, at, room), (fd, to, ONE(n), at, room), n, int, void *, size_t, off_t,
            size_t)
TT_ALIAS(__pread_chk, __pread64_chk);
TT_TRANSFER(write, write, (int fd, const void *from, size_t n), (fd, from, n), (fd, from, ONE(n)),
            n, int, const void *, size_t)
TT_TRANSFER(pwrite, pwrite, (int fd, const void *from, size_t n, off_t at), (fd, from, n, at),
            (fd, from, ONE(n), at), n, int, const void *, size_t, off_t)
TT_ALIAS(pwrite, pwrite64);
TT_TRANSFER(recv, recv, (int fd, void *to, size_t n, int flags), (fd, to, n, flags),
            (fd, to, ONE(n), flags), n, int, void *, size_t, int)
TT_TRANSFER(recv, __recv_chk, (int fd, void *to, size_t n, size_t room, int flags),
            (fd, to, n, room, flags), (fd, to, ONE(n), room, flags), n, int, void *, size_t, size_t,
            int)
TT_TRANSFER(send, send, (int fd, const void *from, size_t n, int flags), (fd, from, n, flags),
            (fd, from, ONE(n), flags), n, int, const void *, size_t, int)

#define VECTOR (int fd, const struct iovec *v, int n), (fd, v, n), int, const struct iovec *, int
#define TT_PLAIN_(...) TT_PLAIN(__VA_ARGS__)
TT_PLAIN_(ssize_t, readv, -1, VECTOR)
TT_PLAIN_(ssize_t, writev, -1, VECTOR)
TT_PLAIN(off_t, lseek, -1, (int fd, off_t at, int from), (fd, at, from), int, off_t, int)
TT_ALIAS(lseek, lseek64);

/* ---- files ---- */

#define STATUS (const char *path, void *out), (path, out), const char *, void *
TT_PLAIN_(int, stat, -1, STATUS)
TT_ALIAS(stat, stat64);
TT_PLAIN_(int, lstat, -1, STATUS)
TT_ALIAS(lstat, lstat64);
TT_PLAIN(int, fstat, -1, (int fd, void *out), (fd, out), int, void *)
TT_ALIAS(fstat, fstat64);
TT_PLAIN(int, fstatat, -1, (int fd, const char *path, void *out, int flags), (fd, path, out, flags),
         int, const char *, void *, int)
TT_ALIAS(fstatat, fstatat64);
TT_PLAIN(int, access, -1, (const char *path, int how), (path, how), const char *, int)
TT_PLAIN(int, ftruncate, -1, (int fd, off_t size), (fd, size), int, off_t)
TT_ALIAS(ftruncate, ftruncate64);
TT_PLAIN(int, fsync, -1, (int fd), (fd), int)
TT_PLAIN(int, fdatasync, -1, (int fd), (fd), int)
TT_PLAIN(int, flock, -1, (int fd, int how), (fd, how), int, int)
TT_PLAIN(int, fchmod, -1, (int fd, mode_t mode), (fd, mode), int, mode_t)
TT_PLAIN(int, rename, -1, (const char *from, const char *to), (from, to), const char *,
         const char *)
TT_PLAIN(int, unlink, -1, (const char *path), (path), const char *)
TT_PLAIN(int, mkdir, -1, (const char *path, mode_t mode), (path, mode), const char *, mode_t)
TT_PLAIN(int, inotify_add_watch, -1, (int fd, const char *path, uint32_t mask), (fd, path, mask),
         int, const char *, uint32_t)
TT_PLAIN(int, timerfd_settime, -1, (int fd, int flags, const void *to, void *old),
         (fd, flags, to, old), int, int, const void *, void *)
TT_PLAIN(int, epoll_ctl, -1, (int fd, int op, int of, struct epoll_event *event),
         (fd, op, of, event), int, int, int, struct epoll_event *)
TT_PLAIN(int, epoll_wait, -1, (int fd, struct epoll_event *events, int n, int ms),
         (fd, events, n, ms), int, struct epoll_event *, int, int)
TT_PLAIN(int, poll, -1, (struct pollfd * fds, nfds_t n, int ms), (fds, n, ms), struct pollfd *,
         nfds_t, int)
TT_PLAIN(int, select, -1, (int n, fd_set *r, fd_set *w, fd_set *x, struct timeval *t),
         (n, r, w, x, t), int, fd_set *, fd_set *, fd_set *, struct timeval *)

TT_CALL(int, __poll_chk, struct pollfd *fds, nfds_t n, int ms, size_t room)
{
    int code = TT_ASK(poll, NULL);
    if (code) {
        errno = code;
        return -1;
    }
    return TT_REAL(__poll_chk, int, struct pollfd *, nfds_t, int, size_t)(fds, n, ms, room);
}

TT_CALL(int, ioctl, int fd, unsigned long request, ...)
{
    va_list ap;
    va_start(ap, request);
    void *argument = va_arg(ap, void *);
    va_end(ap);
    int code = TT_ASK(ioctl, NULL);
    if (code) {
        errno = code;
        return -1;
    }
    return TT_REAL(ioctl, int, int, unsigned long, ...)(fd, request, argument);
}
