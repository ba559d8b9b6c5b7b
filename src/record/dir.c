/* SPDX-License-Identifier: Apache-2.0 */
/* The directory in which processes make their tapes: /dev/shm, since a tape must not be written
 * back to a disk, else $TMPDIR. Mode 1733 with an unguessable name: a child that changes its user
 * may still make a tape, and nobody can list or replace what others made. Each directory holds a
 * file that its recorder keeps locked; one that can be locked belongs to a dead recorder.
 * Start: tt_record_dir_make. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "record/internal.h"

#define PREFIX "telltale-"
#define OWNER "recorder"

/* Removes a directory of ours with all its files; goes by descriptor, so that a directory swapped
 * for a link meanwhile is not followed. */
static void empty(int base_fd, const char *name, int fd)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    if (!dir) {
        if (copy >= 0)
            close(copy);
        return;
    }
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        if (entry->d_name[0] != '.')
            unlinkat(fd, entry->d_name, 0);
    closedir(dir);
    unlinkat(base_fd, name, AT_REMOVEDIR);
}

static void remove_stale(const char *base)
{
    DIR *dir = opendir(base);
    if (!dir)
        return;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        struct stat st;
        if (strncmp(entry->d_name, PREFIX, sizeof PREFIX - 1) != 0)
            continue;
        int fd = openat(dirfd(dir), entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
            continue;
        if (fstat(fd, &st) == 0 && st.st_uid == geteuid()) {
            int owner = openat(fd, OWNER, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
            if (owner >= 0 && flock(owner, LOCK_EX | LOCK_NB) == 0)
                empty(dirfd(dir), entry->d_name, fd);
            if (owner >= 0)
                close(owner);
        }
        close(fd);
    }
    closedir(dir);
}

void tt_record_dir_clean(void)
{
    const char *bases[] = {"/dev/shm", getenv("TMPDIR"), "/tmp"};
    for (size_t i = 0; i < sizeof bases / sizeof *bases; i++)
        if (bases[i] && bases[i][0] == '/')
            remove_stale(bases[i]);
}

/* A directory with a new name, and the file that says it has an owner, locked. -EAGAIN: another
 * telltale that looks for stale ones saw the file before it was locked, and has taken the directory
 * for one. */
static int make_owned(struct tt_recorder *rec, char tail[12])
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz012345";
    unsigned char random[12];
    struct stat st;
    if (getentropy(random, sizeof random) < 0)
        return -errno;
    for (size_t i = 0; i < sizeof random; i++)
        tail[i] = letters[random[i] & 31];
    if (mkdir(rec->dir, 0700) < 0)
        return errno == EEXIST ? -EAGAIN : -errno;
    rec->dir_fd = open(rec->dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (rec->dir_fd < 0)
        return -errno;
    rec->owner_fd = openat(rec->dir_fd, OWNER, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (rec->owner_fd < 0)
        return -errno;
    /* who removes it holds the lock meanwhile: with the lock in hand, it is gone or it stays */
    if (flock(rec->owner_fd, LOCK_EX | LOCK_NB) < 0)
        return errno == EWOULDBLOCK ? -EAGAIN : -errno;
    if (fstat(rec->owner_fd, &st) < 0)
        return -errno;
    if (st.st_nlink == 0)
        return -EAGAIN;
    return fchmod(rec->dir_fd, 01733) < 0 ? -errno : 0;
}

static int make_in(struct tt_recorder *rec, const char *base)
{
    if (snprintf(rec->dir, sizeof rec->dir, "%s/" PREFIX "XXXXXXXXXXXX", base) >= 150)
        return -ENAMETOOLONG; /* the agent keeps the name in 200 bytes */
    if (strpbrk(rec->dir, ", \n"))
        return -EINVAL;
    int code = -EAGAIN;
    for (int tries = 0; code == -EAGAIN && tries < 16; tries++) {
        code = make_owned(rec, rec->dir + strlen(rec->dir) - 12);
        if (code)
            tt_record_dir_remove(rec);
    }
    return code;
}

int tt_record_dir_make(struct tt_recorder *rec, struct tt_error *err)
{
    const char *bases[] = {"/dev/shm", getenv("TMPDIR"), "/tmp"};
    int code = -ENOENT;
    rec->dir_fd = rec->owner_fd = -1;
    tt_record_dir_clean();
    for (size_t i = 0; i < sizeof bases / sizeof *bases; i++) {
        if (!bases[i] || bases[i][0] != '/')
            continue;
        code = make_in(rec, bases[i]);
        if (!code)
            return 0;
    }
    *rec->dir = '\0';
    return tt_error_sys(err, code, "cannot make a directory for the recording in /dev/shm or /tmp");
}

void tt_record_dir_remove(struct tt_recorder *rec)
{
    if (rec->dir_fd >= 0) {
        empty(AT_FDCWD, rec->dir, rec->dir_fd);
        close(rec->dir_fd);
    }
    if (rec->owner_fd >= 0)
        close(rec->owner_fd);
    rec->dir_fd = rec->owner_fd = -1;
}
