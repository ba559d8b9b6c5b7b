/* SPDX-License-Identifier: Apache-2.0 */
/* Streams, directories, timers, loaded libraries, threads and children. What libc acquires inside
 * them is part of them. A stream or directory made from a descriptor owns it from then on.
 * Start: fopen. */
#include "fault/preload.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Calls the real function with what it does inside hidden. */
#define HIDDEN(result, ...)                                                                        \
    do {                                                                                           \
        tt_fault_within();                                                                         \
        result = (__VA_ARGS__);                                                                    \
        tt_fault_without();                                                                        \
    } while (0)

static FILE *stream(FILE *f, uint32_t site)
{
    if (f)
        tt_fault_acquired(TT_FAULT_STREAM, TT_SPACE_STREAM, (uint64_t)f, 1, site);
    return f;
}

#define STREAM(name, params, args, ...)                                                            \
    TT_CALL(FILE *, name, TT_LIST params)                                                          \
    {                                                                                              \
        uint32_t site;                                                                             \
        FILE *f;                                                                                   \
        int code = TT_ASK(name, &site);                                                            \
        if (code) {                                                                                \
            errno = code;                                                                          \
            return NULL;                                                                           \
        }                                                                                          \
        HIDDEN(f, TT_REAL(name, FILE *, __VA_ARGS__) args);                                        \
        return stream(f, site);                                                                    \
    }
STREAM(fopen, (const char *path, const char *mode), (path, mode), const char *, const char *)
TT_ALIAS(fopen, fopen64);
STREAM(tmpfile, (void), (), void)
TT_ALIAS(tmpfile, tmpfile64);
STREAM(popen, (const char *command, const char *mode), (command, mode), const char *, const char *)

TT_CALL(FILE *, fdopen, int fd, const char *mode)
{
    uint32_t site;
    FILE *f;
    int code = TT_ASK(fdopen, &site);
    if (code) {
        errno = code;
        return NULL;
    }
    HIDDEN(f, TT_REAL(fdopen, FILE *, int, const char *)(fd, mode));
    if (f)
        tt_fault_released(TT_SPACE_FD, (uint64_t)fd, NULL);
    return stream(f, site);
}

/* A stream that cannot be opened anew is closed. */
TT_CALL(FILE *, freopen, const char *path, const char *mode, FILE *old)
{
    uint32_t site;
    FILE *f;
    int code = TT_ASK(freopen, &site);
    if (old)
        tt_fault_released(TT_SPACE_STREAM, (uint64_t)old, NULL);
    if (code) {
        TT_REAL(fclose, int, FILE *)(old);
        errno = code;
        return NULL;
    }
    HIDDEN(f, TT_REAL(freopen, FILE *, const char *, const char *, FILE *)(path, mode, old));
    return stream(f, site);
}
TT_ALIAS(freopen, freopen64);

TT_CALL(int, fclose, FILE *f)
{
    if (f)
        tt_fault_released(TT_SPACE_STREAM, (uint64_t)f, NULL);
    return TT_REAL(fclose, int, FILE *)(f);
}

TT_CALL(int, pclose, FILE *f)
{
    if (f)
        tt_fault_released(TT_SPACE_STREAM, (uint64_t)f, NULL);
    return TT_REAL(pclose, int, FILE *)(f);
}

/* ---- what goes through streams; a failure sets the error indicator, as ferror(3) tells ---- */

static void set_error(FILE *f, int code)
{
    f->_flags |= 0x20; /* _IO_ERR_SEEN of glibc's libio.h */
    errno = code;
}

#define THROUGH(name, real_name, type, failed, params, args, ...)                                  \
    TT_CALL(type, real_name, TT_LIST params)                                                       \
    {                                                                                              \
        int code = TT_ASK(name, NULL);                                                             \
        if (code) {                                                                                \
            if (f)                                                                                 \
                set_error(f, code);                                                                \
            else                                                                                   \
                errno = code;                                                                      \
            return failed;                                                                         \
        }                                                                                          \
        return TT_REAL(real_name, type, __VA_ARGS__) args;                                         \
    }
THROUGH(fread, fread, size_t, 0, (void *to, size_t size, size_t n, FILE *f), (to, size, n, f),
        void *, size_t, size_t, FILE *)
THROUGH(fread, __fread_chk, size_t, 0, (void *to, size_t room, size_t size, size_t n, FILE *f),
        (to, room, size, n, f), void *, size_t, size_t, size_t, FILE *)
THROUGH(fwrite, fwrite, size_t, 0, (const void *from, size_t size, size_t n, FILE *f),
        (from, size, n, f), const void *, size_t, size_t, FILE *)
THROUGH(fgets, fgets, char *, NULL, (char *to, int n, FILE *f), (to, n, f), char *, int, FILE *)
THROUGH(fgets, __fgets_chk, char *, NULL, (char *to, size_t room, int n, FILE *f), (to, room, n, f),
        char *, size_t, int, FILE *)
THROUGH(fflush, fflush, int, EOF, (FILE * f), (f), FILE *)
THROUGH(getdelim, getdelim, ssize_t, -1, (char **line, size_t *n, int end, FILE *f),
        (line, n, end, f), char **, size_t *, int, FILE *)
TT_ALIAS(getdelim, __getdelim);

TT_CALL(ssize_t, getline, char **line, size_t *n, FILE *f)
{
    int code = TT_ASK(getdelim, NULL);
    if (code) {
        set_error(f, code);
        return -1;
    }
    return TT_REAL(getdelim, ssize_t, char **, size_t *, int, FILE *)(line, n, '\n', f);
}

TT_PLAIN(int, fseek, -1, (FILE * f, long at, int from), (f, at, from), FILE *, long, int)

/* ---- directories ---- */

static DIR *directory(DIR *d, uint32_t site)
{
    if (d)
        tt_fault_acquired(TT_FAULT_DIRECTORY, TT_SPACE_DIRECTORY, (uint64_t)d, 1, site);
    return d;
}

TT_CALL(DIR *, opendir, const char *path)
{
    uint32_t site;
    DIR *d;
    int code = TT_ASK(opendir, &site);
    if (code) {
        errno = code;
        return NULL;
    }
    HIDDEN(d, TT_REAL(opendir, DIR *, const char *)(path));
    return directory(d, site);
}

TT_CALL(DIR *, fdopendir, int fd)
{
    uint32_t site;
    DIR *d;
    int code = TT_ASK(fdopendir, &site);
    if (code) {
        errno = code;
        return NULL;
    }
    HIDDEN(d, TT_REAL(fdopendir, DIR *, int)(fd));
    if (d)
        tt_fault_released(TT_SPACE_FD, (uint64_t)fd, NULL);
    return directory(d, site);
}

TT_PLAIN(struct dirent *, readdir, NULL, (DIR * d), (d), DIR *)
TT_ALIAS(readdir, readdir64);

TT_CALL(int, closedir, DIR *d)
{
    if (d)
        tt_fault_released(TT_SPACE_DIRECTORY, (uint64_t)d, NULL);
    return TT_REAL(closedir, int, DIR *)(d);
}

/* ---- libraries and timers ---- */

/* The library's own constructors run inside, and what they acquire is the library's. */
TT_CALL(void *, dlopen, const char *path, int flags)
{
    uint32_t site;
    void *handle;
    if (TT_ASK(dlopen, &site))
        return NULL;
    HIDDEN(handle, TT_REAL(dlopen, void *, const char *, int)(path, flags));
    if (handle)
        tt_fault_used(TT_SPACE_LIBRARY, (uint64_t)handle, site);
    return handle;
}

TT_CALL(int, timer_create, clockid_t clock, struct sigevent *event, timer_t *out)
{
    uint32_t site;
    int code = TT_ASK(timer_create, &site), result;
    if (code) {
        errno = code;
        return -1;
    }
    HIDDEN(result,
           TT_REAL(timer_create, int, clockid_t, struct sigevent *, timer_t *)(clock, event, out));
    if (result == 0)
        tt_fault_acquired(TT_FAULT_TIMER, TT_SPACE_TIMER, (uint64_t)*out, 1, site);
    return result;
}

TT_CALL(int, timer_delete, timer_t timer)
{
    tt_fault_released(TT_SPACE_TIMER, (uint64_t)timer, NULL);
    return TT_REAL(timer_delete, int, timer_t)(timer);
}

/* ---- threads ---- */

/* A thread is held until it is joined or detached. */
TT_CALL(int, pthread_create, pthread_t *out, const pthread_attr_t *attr, void *(*run)(void *),
        void *arg)
{
    uint32_t site;
    int code = TT_ASK(pthread_create, &site), detached = PTHREAD_CREATE_JOINABLE;
    if (code)
        return code;
    HIDDEN(code, TT_REAL(pthread_create, int, pthread_t *, const pthread_attr_t *,
                         void *(*)(void *), void *)(out, attr, run, arg));
    if (attr)
        pthread_attr_getdetachstate(attr, &detached);
    if (code == 0 && detached == PTHREAD_CREATE_JOINABLE)
        tt_fault_acquired(TT_FAULT_THREAD, TT_SPACE_THREAD, (uint64_t)*out, 1, site);
    return code;
}

#define JOIN(name, params, args, ...)                                                              \
    TT_CALL(int, name, TT_LIST params)                                                             \
    {                                                                                              \
        struct tt_fault_unit unit;                                                                 \
        /* before: the next thread may get the same name */                                        \
        int had = tt_fault_released(TT_SPACE_THREAD, (uint64_t)thread, &unit);                     \
        int code = TT_REAL(name, int, __VA_ARGS__) args;                                           \
        if (code && had)                                                                           \
            tt_fault_restored(&unit, (uint64_t)thread, unit.size);                                 \
        return code;                                                                               \
    }
JOIN(pthread_join, (pthread_t thread, void **result), (thread, result), pthread_t, void **)
JOIN(pthread_tryjoin_np, (pthread_t thread, void **result), (thread, result), pthread_t, void **)
JOIN(pthread_timedjoin_np, (pthread_t thread, void **result, const struct timespec *end),
     (thread, result, end), pthread_t, void **, const struct timespec *)
JOIN(pthread_detach, (pthread_t thread), (thread), pthread_t)

/* Functions whose result is the error. */
#define CODE(name, params, args, ...)                                                              \
    TT_CALL(int, name, TT_LIST params)                                                             \
    {                                                                                              \
        int code = TT_ASK(name, NULL);                                                             \
        return code ? code : TT_REAL(name, int, __VA_ARGS__) args;                                 \
    }
CODE(pthread_mutex_init, (pthread_mutex_t * mutex, const pthread_mutexattr_t *attr), (mutex, attr),
     pthread_mutex_t *, const pthread_mutexattr_t *)
CODE(pthread_cond_init, (pthread_cond_t * cond, const pthread_condattr_t *attr), (cond, attr),
     pthread_cond_t *, const pthread_condattr_t *)
CODE(pthread_key_create, (pthread_key_t * key, void (*end)(void *)), (key, end), pthread_key_t *,
     void (*)(void *))
CODE(pthread_attr_init, (pthread_attr_t * attr), (attr), pthread_attr_t *)

/* ---- children: held until they are waited for ---- */

static pid_t child(pid_t pid, uint32_t site)
{
    if (pid > 0)
        tt_fault_acquired(TT_FAULT_CHILD, TT_SPACE_CHILD, (uint64_t)pid, 1, site);
    return pid;
}

TT_CALL(pid_t, fork, void)
{
    uint32_t site;
    int code = TT_ASK(fork, &site);
    if (code) {
        errno = code;
        return -1;
    }
    return child(TT_REAL(fork, pid_t, void)(), site);
}
TT_ALIAS(fork, __fork);

#define SPAWN(name)                                                                                \
    TT_CALL(int, name, pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,    \
            const posix_spawnattr_t *attr, char *const argv[], char *const envp[])                 \
    {                                                                                              \
        uint32_t site;                                                                             \
        pid_t made = 0;                                                                            \
        int code = TT_ASK(name, &site);                                                            \
        if (code)                                                                                  \
            return code;                                                                           \
        HIDDEN(code, TT_REAL(name, int, pid_t *, const char *, const posix_spawn_file_actions_t *, \
                             const posix_spawnattr_t *, char *const *,                             \
                             char *const *)(&made, path, actions, attr, argv, envp));              \
        if (code == 0) {                                                                           \
            if (pid)                                                                               \
                *pid = made;                                                                       \
            child(made, site);                                                                     \
        }                                                                                          \
        return code;                                                                               \
    }
SPAWN(posix_spawn)
SPAWN(posix_spawnp)

static pid_t waited(pid_t pid, const int *status)
{
    if (pid > 0 && !(status && (WIFSTOPPED(*status) || WIFCONTINUED(*status)))) {
        tt_fault_released(TT_SPACE_CHILD, (uint64_t)pid, NULL);
        if (status && WIFSIGNALED(*status))
            tt_fault_child_died(WTERMSIG(*status));
    }
    return pid;
}

TT_CALL(pid_t, waitpid, pid_t pid, int *status, int options)
{
    int code = TT_ASK(waitpid, NULL), own;
    status = status ? status : &own;
    if (code == ECHILD) /* the child is gone then, as when SIGCHLD is ignored (waitpid(2)) */
        waited(TT_REAL(waitpid, pid_t, pid_t, int *, int)(pid, NULL, options), NULL);
    if (code) {
        errno = code;
        return -1;
    }
    return waited(TT_REAL(waitpid, pid_t, pid_t, int *, int)(pid, status, options), status);
}

TT_CALL(pid_t, wait, int *status)
{
    int own;
    status = status ? status : &own;
    return waited(TT_REAL(wait, pid_t, int *)(status), status);
}

TT_CALL(pid_t, wait3, int *status, int options, void *usage)
{
    int own;
    status = status ? status : &own;
    return waited(TT_REAL(wait3, pid_t, int *, int, void *)(status, options, usage), status);
}

TT_CALL(pid_t, wait4, pid_t pid, int *status, int options, void *usage)
{
    int own;
    status = status ? status : &own;
    return waited(TT_REAL(wait4, pid_t, pid_t, int *, int, void *)(pid, status, options, usage),
                  status);
}

TT_CALL(int, waitid, idtype_t type, id_t id, siginfo_t *info, int options)
{
    int result = TT_REAL(waitid, int, idtype_t, id_t, siginfo_t *, int)(type, id, info, options);
    if (result == 0 && info && info->si_pid && !(options & WNOWAIT) &&
        (info->si_code == CLD_EXITED || info->si_code == CLD_KILLED ||
         info->si_code == CLD_DUMPED)) {
        tt_fault_released(TT_SPACE_CHILD, (uint64_t)info->si_pid, NULL);
        if (info->si_code != CLD_EXITED)
            tt_fault_child_died(info->si_status);
    }
    return result;
}
