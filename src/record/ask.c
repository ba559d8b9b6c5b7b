/* SPDX-License-Identifier: Apache-2.0 */
/* Requests from one telltale to another that is attached to a process. The directory of tapes is
 * the meeting place: the recorder puts a file "target.PID" there; who wants something puts
 * "ask.PID" beside it, and reads "answer.PID". The directory cannot be listed by others, but
 * names in it can be opened by those who know them. Only the recorder's own user and root are
 * heard. Start: tt_record_ask; tt_ask_take on the other side. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "record/internal.h"

#define WAIT_NS (20 * TT_SECOND)
#define PAUSE_NS 20000000L
#define SETTLE_NS (TT_SECOND / 2)
#define ANSWER_MOST 400

struct name {
    char text[32];
};

static struct name name_of(const char *kind, pid_t pid)
{
    struct name name;
    snprintf(name.text, sizeof name.text, "%s.%d", kind, (int)pid);
    return name;
}

/* Puts a file with text there, whole at once. */
static int put(int dir, const char *name, const char *text)
{
    char first[48];
    snprintf(first, sizeof first, "new.%d.%s", (int)getpid(), name);
    unlinkat(dir, first, 0);
    int fd = openat(dir, first, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0)
        return -errno;
    ssize_t n = write(fd, text, strlen(text));
    int code = n == (ssize_t)strlen(text) ? 0 : -EIO;
    close(fd);
    if (!code && renameat(dir, first, dir, name) < 0)
        code = -errno;
    if (code)
        unlinkat(dir, first, 0);
    return code;
}

/* Reads a small file that this user, root, or the owner of the directory made. */
static bool get(int dir, const char *name, char *out, size_t n)
{
    struct stat st, there;
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return false;
    ssize_t got = -1;
    if (fstat(fd, &st) == 0 && fstat(dir, &there) == 0 && S_ISREG(st.st_mode) &&
        (st.st_uid == 0 || st.st_uid == geteuid() || st.st_uid == there.st_uid))
        got = read(fd, out, n - 1);
    close(fd);
    if (got < 0)
        return false;
    out[got] = '\0';
    return true;
}

/* ---- in the recorder ---- */

void tt_ask_offer(struct tt_recorder *rec, pid_t pid, bool there)
{
    if (there)
        put(rec->dir_fd, name_of("target", pid).text, "");
    else
        unlinkat(rec->dir_fd, name_of("target", pid).text, 0);
}

bool tt_ask_take(struct tt_recorder *rec, pid_t pid, char out[64])
{
    struct name name = name_of("ask", pid);
    bool there = get(rec->dir_fd, name.text, out, 64);
    if (there) /* else one that comes this very moment would be lost */
        unlinkat(rec->dir_fd, name.text, 0);
    return there;
}

void tt_ask_answer(struct tt_recorder *rec, pid_t pid, const char *text)
{
    put(rec->dir_fd, name_of("answer", pid).text, text);
}

void tt_ask_settle(struct tt_recorder *rec)
{
    const struct timespec pause = {0, PAUSE_NS / 4};
    uint64_t until = tt_clock_now() + SETTLE_NS;
    for (size_t i = 0; i < rec->given.len; i++)
        while (faccessat(rec->dir_fd, name_of("answer", rec->given.data[i].pid).text, F_OK, 0) ==
                   0 &&
               tt_clock_now() < until)
            nanosleep(&pause, NULL);
}

/* ---- on the other side ---- */

/* The directory of the recorder that is attached to pid; a dead one's can be locked. -ENOENT. */
static int find(pid_t pid)
{
    const char *bases[] = {"/dev/shm", getenv("TMPDIR"), "/tmp"};
    struct name name = name_of("target", pid);
    for (size_t i = 0; i < sizeof bases / sizeof *bases; i++) {
        DIR *base = bases[i] ? opendir(bases[i]) : NULL;
        if (!base)
            continue;
        int found = -1;
        for (struct dirent *e; found < 0 && (e = readdir(base)) != NULL;) {
            struct stat st;
            if (strncmp(e->d_name, "telltale-", 9) != 0)
                continue;
            found = openat(dirfd(base), e->d_name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            if (found < 0)
                continue;
            bool ours = fstat(found, &st) == 0 && (st.st_uid == geteuid() || geteuid() == 0) &&
                        faccessat(found, name.text, F_OK, 0) == 0;
            int owner = ours ? openat(found, "recorder", O_RDWR | O_NOFOLLOW | O_CLOEXEC) : -1;
            if (owner >= 0 && flock(owner, LOCK_EX | LOCK_NB) == 0)
                ours = false;
            if (owner >= 0)
                close(owner);
            if (!ours) {
                close(found);
                found = -1;
            }
        }
        closedir(base);
        if (found >= 0)
            return found;
    }
    return -ENOENT;
}

int tt_record_ask(pid_t pid, const char *what, struct tt_error *err)
{
    struct name ask = name_of("ask", pid), reply = name_of("answer", pid);
    char text[ANSWER_MOST];
    int dir = find(pid);
    if (dir < 0)
        return tt_error_set(err, dir, "no telltale is attached to process %d", (int)pid);
    unlinkat(dir, reply.text, 0);
    int code = put(dir, ask.text, what);
    if (code) {
        close(dir);
        return tt_error_sys(err, code, "cannot ask the telltale that is attached to process %d",
                            (int)pid);
    }
    const struct timespec pause = {0, PAUSE_NS};
    uint64_t until = tt_clock_now() + WAIT_NS;
    bool there;
    while (!(there = get(dir, reply.text, text, sizeof text)) && tt_clock_now() < until &&
           faccessat(dir, "recorder", F_OK, 0) == 0)
        nanosleep(&pause, NULL);
    unlinkat(dir, reply.text, 0);
    unlinkat(dir, ask.text, 0);
    close(dir);
    if (!there)
        return tt_error_set(err, -ETIMEDOUT,
                            "the telltale that is attached to process %d does not answer",
                            (int)pid);
    return strcmp(text, "done") == 0 ? 0 : tt_error_set(err, -EAGAIN, "%s", text);
}
