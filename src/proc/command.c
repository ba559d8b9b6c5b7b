/* SPDX-License-Identifier: Apache-2.0 */
/* Inspection of a command before it is run, following execve(2) and ld.so(8): scripts lead to their
 * interpreter, the ELF header says machine and loader, and a program that gains privileges runs in
 * secure-execution mode, in which the loader ignores our LD_PRELOAD. Start: tt_proc_command. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "proc/command.h"

#define SCRIPT_DEPTH 5 /* the kernel's own limit on interpreters of interpreters */
#define HEADERS_MAX 64

/* execvp's search. EACCES of one directory does not stop it but is remembered. */
static int find(const char *name, char path[PATH_MAX], struct tt_error *err)
{
    struct stat st;
    if (!*name)
        return tt_error_set(err, -ENOENT, "cannot run '': the command is empty");
    if (strchr(name, '/')) {
        if (snprintf(path, PATH_MAX, "%s", name) >= PATH_MAX)
            return tt_error_sys(err, -ENAMETOOLONG, "cannot run %.100s", name);
        return 0;
    }
    const char *list = getenv("PATH");
    char fallback[256];
    if (!list) {
        confstr(_CS_PATH, fallback, sizeof fallback);
        list = fallback;
    }
    bool denied = false;
    for (const char *at = list;; at++) {
        const char *end = strchrnul(at, ':');
        int len = (int)(end - at);
        if (snprintf(path, PATH_MAX, "%.*s%s%s", len, at, len ? "/" : "", name) < PATH_MAX &&
            stat(path, &st) == 0 && S_ISREG(st.st_mode)) {
            if (faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) == 0)
                return 0;
            denied = true;
        }
        at = end;
        if (!*at)
            break;
    }
    if (denied)
        return tt_error_set(err, -EACCES, "cannot run %s: found in PATH, but it is not executable",
                            name);
    return tt_error_set(err, -ENOENT, "cannot run %s: not found in PATH", name);
}

/* Secure-execution mode (ld.so(8)): the ids differ, or the file gives capabilities to a user who
 * is not root. A nosuid mount takes the bits away. */
static int check_privileges(const char *path, int fd, const struct stat *st, struct tt_error *err)
{
    struct statvfs vfs;
    if (fstatvfs(fd, &vfs) == 0 && (vfs.f_flag & ST_NOSUID))
        return 0;
    if ((st->st_mode & S_ISUID) && st->st_uid != getuid()) {
        struct passwd *user = getpwuid(st->st_uid);
        return tt_error_set(err, -ENOTSUP,
                            "cannot record %s: it is setuid %s, so the loader drops the preloaded "
                            "agent: run telltale as that user, or record a copy without the bit",
                            path, user ? user->pw_name : "to another user");
    }
    if ((st->st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && st->st_gid != getgid())
        return tt_error_set(err, -ENOTSUP,
                            "cannot record %s: it is setgid, so the loader drops the preloaded "
                            "agent: record a copy without the bit",
                            path);
    if (getuid() != 0 && fgetxattr(fd, "security.capability", NULL, 0) > 0)
        return tt_error_set(err, -ENOTSUP,
                            "cannot record %s: it has file capabilities, so the loader drops the "
                            "preloaded agent: run telltale as root, or record a copy",
                            path);
    return 0;
}

static int check_elf(const char *path, int fd, struct tt_proc_command *out, struct tt_error *err)
{
    Elf64_Ehdr eh;
    if (pread(fd, &eh, sizeof eh, 0) < (ssize_t)sizeof(Elf32_Ehdr))
        return tt_error_set(err, -ENOEXEC, "cannot run %s: it is not a whole program", path);
    if (eh.e_ident[EI_CLASS] == ELFCLASS32)
        return tt_error_set(err, -ENOTSUP,
                            "cannot record %s: it is a 32-bit program, and this version records "
                            "64-bit ones",
                            path);
    if (eh.e_ident[EI_CLASS] != ELFCLASS64 || eh.e_machine != EM_X86_64)
        return tt_error_set(err, -ENOTSUP, "cannot record %s: it is built for another machine",
                            path);
    if ((eh.e_type != ET_EXEC && eh.e_type != ET_DYN) || eh.e_phentsize != sizeof(Elf64_Phdr))
        return tt_error_set(err, -ENOEXEC, "cannot run %s: it is not a program", path);
    for (unsigned i = 0; i < eh.e_phnum && i < HEADERS_MAX; i++) {
        Elf64_Phdr ph;
        if (pread(fd, &ph, sizeof ph, (off_t)(eh.e_phoff + i * sizeof ph)) != sizeof ph)
            break;
        if (ph.p_type != PT_INTERP)
            continue;
        size_t n = ph.p_filesz < PATH_MAX ? (size_t)ph.p_filesz : PATH_MAX - 1;
        ssize_t got = pread(fd, out->interpreter, n, (off_t)ph.p_offset);
        out->interpreter[got > 0 ? got : 0] = '\0';
    }
    if (!*out->interpreter) {
        const char *base = strrchr(path, '/');
        if (strncmp(base ? base + 1 : path, "ld-", 3) == 0)
            return 0; /* the loader itself: ld.so PROGRAM honours LD_PRELOAD */
        return tt_error_set(err, -ENOTSUP,
                            "cannot record %s: it is statically linked, so a preloaded agent "
                            "cannot enter it: record what it acquires from the kernel "
                            "(--no-inject)",
                            path);
    }
    if (strstr(out->interpreter, "ld-musl"))
        return tt_error_set(err, -ENOTSUP,
                            "cannot record %s: it uses the musl C library, and the preloaded "
                            "agent is made for glibc",
                            path);
    return 0;
}

/* The interpreter of "#!INTERPRETER [ARGUMENT]". */
static int script_interpreter(const char *path, char *head, ssize_t n, char next[PATH_MAX],
                              struct tt_error *err)
{
    head[n] = '\0';
    char *at = head + 2 + strspn(head + 2, " \t");
    at[strcspn(at, " \t\r\n")] = '\0';
    if (!*at || snprintf(next, PATH_MAX, "%s", at) >= PATH_MAX)
        return tt_error_set(err, -ENOEXEC, "cannot run %s: its #! line names no interpreter", path);
    return 0;
}

static int inspect(const char *path, int depth, struct tt_proc_command *out, struct tt_error *err)
{
    struct stat st;
    char head[256 + 1] = "", next[PATH_MAX];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    int code = 0;
    if (fd < 0 && errno == EACCES && faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) == 0)
        return tt_error_set(err, -ENOTSUP,
                            "cannot record %s: it may be executed but not read, so nothing about "
                            "it can be said: run telltale as root",
                            path);
    if (fd < 0)
        return tt_error_sys(err, -errno, "cannot run %s", path);
    if (fstat(fd, &st) < 0)
        code = tt_error_sys(err, -errno, "cannot run %s", path);
    else if (S_ISDIR(st.st_mode))
        code = tt_error_set(err, -EISDIR, "cannot run %s: it is a directory", path);
    else if (!S_ISREG(st.st_mode))
        code = tt_error_set(err, -EACCES, "cannot run %s: it is not a regular file", path);
    else if (faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) < 0)
        code = tt_error_set(err, -EACCES, "cannot run %s: it is not executable", path);
    if (!code) {
        ssize_t n = pread(fd, head, sizeof head - 1, 0);
        if (n >= 4 && memcmp(head, ELFMAG, SELFMAG) == 0) {
            code = check_privileges(path, fd, &st, err);
            snprintf(out->program, sizeof out->program, "%s", path);
            if (!code)
                code = check_elf(path, fd, out, err);
        } else if (n >= 2 && head[0] == '#' && head[1] == '!') {
            code = script_interpreter(path, head, n, next, err);
            if (!code && depth >= SCRIPT_DEPTH)
                code = tt_error_set(err, -ELOOP, "cannot run %s: too many interpreters", path);
            if (!code) {
                code = inspect(next, depth + 1, out, err);
                if (code)
                    tt_error_wrap(err, "%s needs %s: ", path, next);
            }
        } else {
            code = tt_error_set(err, -ENOEXEC,
                                "cannot run %s: it is neither a program nor a script with a #! "
                                "line",
                                path);
        }
    }
    close(fd);
    return code;
}

int tt_proc_command_find(const char *name, char path[PATH_MAX], struct tt_error *err)
{
    int code = find(name, path, err);
    if (!code && faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) < 0)
        code = tt_error_sys(err, -errno, "cannot run %.300s", path);
    return code;
}

int tt_proc_command(const char *name, struct tt_proc_command *out, struct tt_error *err)
{
    *out->path = *out->program = *out->interpreter = '\0';
    int code = find(name, out->path, err);
    return code ? code : inspect(out->path, 0, out, err);
}
