/* SPDX-License-Identifier: Apache-2.0 */
/* The calls that can be made to fail, one row each: name, group, the errors that are tried when
 * nothing is said, and the others that its man page allows (section 2 and 3, Linux man-pages 6.03,
 * with ENOMEM and ENOBUFS of the network calls from their pages in section 7). "short" is a
 * transfer of one byte. A new call is a row here and a function in one of the preload_*.c.
 * EINTR and EAGAIN stand in the second list: a program that tries again reaches no error path.
 * Start: TT_FAULT_CALLS. */
#ifndef TT_FAULT_CALLS_H
#define TT_FAULT_CALLS_H

#define TT_FAULT_CALLS(X)                                                                          \
    X(malloc, memory, "ENOMEM", "")                                                                \
    X(calloc, memory, "ENOMEM", "")                                                                \
    X(realloc, memory, "ENOMEM", "")                                                               \
    X(reallocarray, memory, "ENOMEM", "")                                                          \
    X(posix_memalign, memory, "ENOMEM", "")                                                        \
    X(aligned_alloc, memory, "ENOMEM", "")                                                         \
    X(memalign, memory, "ENOMEM", "")                                                              \
    X(valloc, memory, "ENOMEM", "")                                                                \
    X(pvalloc, memory, "ENOMEM", "")                                                               \
    X(mmap, memory, "ENOMEM", "EAGAIN ENFILE EACCES ENODEV")                                       \
    X(mremap, memory, "ENOMEM", "EAGAIN EFAULT")                                                   \
    X(mprotect, memory, "ENOMEM", "EACCES")                                                        \
    X(open, files, "EMFILE", "ENFILE ENOENT EACCES ENOSPC EINTR ENOMEM")                           \
    X(openat, files, "EMFILE", "ENFILE ENOENT EACCES ENOSPC EINTR ENOMEM")                         \
    X(creat, files, "EMFILE", "ENFILE EACCES ENOSPC EINTR ENOMEM")                                 \
    X(mkstemp, files, "EMFILE", "EEXIST EACCES ENOSPC")                                            \
    X(pipe, files, "EMFILE", "ENFILE")                                                             \
    X(pipe2, files, "EMFILE", "ENFILE")                                                            \
    X(dup, files, "EMFILE", "ENOMEM")                                                              \
    X(dup2, files, "EMFILE", "EBUSY EINTR")                                                        \
    X(dup3, files, "EMFILE", "EBUSY EINTR")                                                        \
    X(fcntl, files, "EMFILE", "EACCES EAGAIN ENOLCK EINTR")                                        \
    X(eventfd, files, "EMFILE", "ENFILE ENODEV ENOMEM")                                            \
    X(epoll_create, files, "EMFILE", "ENFILE ENOMEM")                                              \
    X(epoll_create1, files, "EMFILE", "ENFILE ENOMEM")                                             \
    X(epoll_ctl, files, "ENOSPC", "ENOMEM EPERM")                                                  \
    X(epoll_wait, files, "EINTR", "")                                                              \
    X(poll, files, "EINTR", "ENOMEM")                                                              \
    X(select, files, "EINTR", "ENOMEM")                                                            \
    X(timerfd_create, files, "EMFILE", "ENFILE ENODEV ENOMEM")                                     \
    X(timerfd_settime, files, "ECANCELED", "EINVAL")                                               \
    X(signalfd, files, "EMFILE", "ENFILE ENODEV ENOMEM")                                           \
    X(inotify_init, files, "EMFILE", "ENFILE ENOMEM")                                              \
    X(inotify_init1, files, "EMFILE", "ENFILE ENOMEM")                                             \
    X(inotify_add_watch, files, "ENOSPC", "EACCES ENOENT ENOMEM")                                  \
    X(memfd_create, files, "EMFILE", "ENFILE ENOMEM")                                              \
    X(shm_open, files, "EMFILE", "ENFILE EACCES EEXIST ENOENT")                                    \
    X(read, files, "EIO short", "EINTR EAGAIN ECONNRESET EISDIR")                                  \
    X(pread, files, "EIO short", "EINTR EAGAIN")                                                   \
    X(readv, files, "EIO", "EINTR EAGAIN")                                                         \
    X(write, files, "ENOSPC short", "EPIPE EIO EDQUOT EFBIG EINTR EAGAIN")                         \
    X(pwrite, files, "ENOSPC short", "EIO EDQUOT EFBIG EINTR")                                     \
    X(writev, files, "ENOSPC", "EPIPE EIO EDQUOT EINTR EAGAIN")                                    \
    X(lseek, files, "ESPIPE", "EINVAL EOVERFLOW")                                                  \
    X(stat, files, "ENOENT", "EACCES ENOMEM")                                                      \
    X(lstat, files, "ENOENT", "EACCES ENOMEM")                                                     \
    X(fstat, files, "EIO", "ENOMEM EOVERFLOW")                                                     \
    X(fstatat, files, "ENOENT", "EACCES ENOMEM")                                                   \
    X(access, files, "ENOENT", "EACCES EROFS")                                                     \
    X(ftruncate, files, "EIO", "EINTR EFBIG EPERM")                                                \
    X(fsync, files, "EIO", "ENOSPC EDQUOT")                                                        \
    X(fdatasync, files, "EIO", "ENOSPC EDQUOT")                                                    \
    X(flock, files, "ENOLCK", "EINTR EWOULDBLOCK")                                                 \
    X(fchmod, files, "EPERM", "EIO EROFS")                                                         \
    X(rename, files, "EACCES", "ENOSPC EXDEV EROFS ENOENT")                                        \
    X(unlink, files, "EACCES", "ENOENT EBUSY EROFS")                                               \
    X(mkdir, files, "EACCES", "EEXIST ENOSPC EROFS EMLINK")                                        \
    X(ioctl, files, "EINVAL", "ENOTTY EFAULT")                                                     \
    X(socket, network, "EMFILE", "ENFILE EACCES EAFNOSUPPORT ENOBUFS ENOMEM")                      \
    X(socketpair, network, "EMFILE", "ENFILE EOPNOTSUPP")                                          \
    X(accept, network, "EMFILE", "ENFILE ECONNABORTED ENOBUFS ENOMEM EINTR EAGAIN")                \
    X(accept4, network, "EMFILE", "ENFILE ECONNABORTED ENOBUFS ENOMEM EINTR EAGAIN")               \
    X(connect, network, "ECONNREFUSED", "ETIMEDOUT ENETUNREACH EADDRNOTAVAIL EINTR EAGAIN")        \
    X(bind, network, "EADDRINUSE", "EACCES EADDRNOTAVAIL ENOMEM")                                  \
    X(listen, network, "EADDRINUSE", "EOPNOTSUPP")                                                 \
    X(setsockopt, network, "ENOPROTOOPT", "ENOMEM ENOBUFS EDOM")                                   \
    X(getsockopt, network, "ENOPROTOOPT", "EINVAL")                                                \
    X(getsockname, network, "ENOBUFS", "EINVAL")                                                   \
    X(getpeername, network, "ENOTCONN", "ENOBUFS")                                                 \
    X(recv, network, "ECONNRESET short", "ETIMEDOUT ENOMEM EINTR EAGAIN")                          \
    X(recvfrom, network, "ECONNREFUSED", "ENOMEM EINTR EAGAIN")                                    \
    X(recvmsg, network, "ECONNRESET", "ENOMEM EINTR EAGAIN")                                       \
    X(send, network, "EPIPE short", "ECONNRESET ENOBUFS ENOMEM EINTR EAGAIN")                      \
    X(sendto, network, "ENETUNREACH", "ENOBUFS EMSGSIZE ENOMEM EINTR EAGAIN")                      \
    X(sendmsg, network, "EPIPE", "ENETUNREACH ENOBUFS EMSGSIZE ENOMEM EINTR EAGAIN")               \
    X(getaddrinfo, network, "EAI_MEMORY", "EAI_AGAIN EAI_FAIL EAI_NONAME")                         \
    X(fopen, streams, "EMFILE", "ENOMEM ENFILE ENOENT EACCES ENOSPC")                              \
    X(fdopen, streams, "ENOMEM", "EINVAL")                                                         \
    X(freopen, streams, "EMFILE", "ENOENT EACCES")                                                 \
    X(tmpfile, streams, "EMFILE", "ENFILE ENOSPC EACCES EROFS")                                    \
    X(popen, streams, "EMFILE", "ENOMEM EAGAIN")                                                   \
    X(fread, streams, "EIO", "EINTR ENOMEM")                                                       \
    X(fwrite, streams, "ENOSPC", "EPIPE EIO EINTR")                                                \
    X(fgets, streams, "EIO", "EINTR ENOMEM")                                                       \
    X(getdelim, streams, "ENOMEM", "EIO EINTR")                                                    \
    X(fflush, streams, "ENOSPC", "EPIPE EIO EINTR")                                                \
    X(fseek, streams, "ESPIPE", "EIO EINVAL")                                                      \
    X(opendir, streams, "EMFILE", "ENFILE ENOENT EACCES ENOMEM")                                   \
    X(fdopendir, streams, "ENOMEM", "ENOTDIR")                                                     \
    X(readdir, streams, "EIO", "ENOENT")                                                           \
    X(dlopen, threads, "ENOMEM", "")                                                               \
    X(pthread_create, threads, "EAGAIN", "EPERM")                                                  \
    X(pthread_mutex_init, threads, "ENOMEM", "EAGAIN")                                             \
    X(pthread_cond_init, threads, "ENOMEM", "EAGAIN")                                              \
    X(pthread_key_create, threads, "EAGAIN", "ENOMEM")                                             \
    X(pthread_attr_init, threads, "ENOMEM", "")                                                    \
    X(timer_create, threads, "EAGAIN", "ENOMEM")                                                   \
    X(fork, processes, "EAGAIN", "ENOMEM")                                                         \
    X(posix_spawn, processes, "EAGAIN", "ENOMEM")                                                  \
    X(posix_spawnp, processes, "EAGAIN", "ENOMEM")                                                 \
    X(waitpid, processes, "ECHILD", "EINTR")

enum tt_fault_call {
#define X(name, group, usual, others) TT_FC_##name,
    TT_FAULT_CALLS(X)
#undef X
        TT_FAULT_CALL_COUNT,
    /* Looked up like these, never made to fail. */
    TT_FC_free = TT_FAULT_CALL_COUNT,
    TT_FC_munmap,
    TT_FC_close,
    TT_FC_close_range,
    TT_FC_closefrom,
    TT_FC_fclose,
    TT_FC_pclose,
    TT_FC_closedir,
    TT_FC_dlclose,
    TT_FC_pthread_join,
    TT_FC_pthread_tryjoin_np,
    TT_FC_pthread_timedjoin_np,
    TT_FC_pthread_detach,
    TT_FC_timer_delete,
    TT_FC_wait,
    TT_FC_wait3,
    TT_FC_wait4,
    TT_FC_waitid,
    TT_FC_exit_,
    /* The same calls under the names that _FORTIFY_SOURCE gives them, which check first. */
    TT_FC___read_chk,
    TT_FC___pread_chk,
    TT_FC___recv_chk,
    TT_FC___recvfrom_chk,
    TT_FC___fread_chk,
    TT_FC___fgets_chk,
    TT_FC___poll_chk,
    TT_FC_mkostemp,
    TT_FC_mkstemps,
    TT_FC_mkostemps,
    TT_FC_ALL,
};

#endif
