/* SPDX-License-Identifier: Apache-2.0 */
/* A process looked over before it is touched: may we, is it of a kind that we understand, and where
 * are the two pieces of code in it that a borrowed thread executes. Nothing here stops it. What
 * forbids the work is said in one line with its remedy. Start: tt_target_open. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "inject/internal.h"

/* ---- /proc/PID/status ---- */

struct status {
    char name[64], state;
    pid_t tgid, tracer;
    long uid;
    int seccomp;
    bool has_memory, handles, shadow_stack;
    uint64_t switches;
};

static int read_status(pid_t pid, pid_t tid, struct status *out)
{
    char path[64], line[512];
    *out = (struct status){0};
    snprintf(path, sizeof path, "/proc/%d/task/%d/status", (int)pid, (int)tid);
    FILE *f = fopen(path, "re");
    if (!f)
        return errno == ENOENT ? -ESRCH : -errno;
    while (fgets(line, sizeof line, f)) {
        char *value = strchr(line, ':');
        if (!value)
            continue;
        *value++ = '\0';
        value += strspn(value, " \t");
        if (strcmp(line, "Name") == 0)
            snprintf(out->name, sizeof out->name, "%.*s", (int)strcspn(value, "\n"), value);
        else if (strcmp(line, "State") == 0)
            out->state = *value;
        else if (strcmp(line, "Tgid") == 0)
            out->tgid = (pid_t)strtol(value, NULL, 10);
        else if (strcmp(line, "TracerPid") == 0)
            out->tracer = (pid_t)strtol(value, NULL, 10);
        else if (strcmp(line, "Uid") == 0)
            out->uid = strtol(value, NULL, 10);
        else if (strcmp(line, "VmSize") == 0)
            out->has_memory = true;
        else if (strcmp(line, "SigCgt") == 0)
            out->handles = strtoull(value, NULL, 16) != 0;
        else if (strcmp(line, "Seccomp") == 0)
            out->seccomp = (int)strtol(value, NULL, 10);
        else if (strcmp(line, "voluntary_ctxt_switches") == 0)
            out->switches = strtoull(value, NULL, 10);
        else if (strcmp(line, "x86_Thread_features") == 0)
            out->shadow_stack = strstr(value, "shstk") != NULL;
    }
    fclose(f);
    return 0;
}

static int yama_scope(void)
{
    int scope = 0;
    FILE *f = fopen("/proc/sys/kernel/yama/ptrace_scope", "re");
    /* NOLINTNEXTLINE(cert-err34-c): the kernel writes no number that does not fit */
    if (f && fscanf(f, "%d", &scope) != 1)
        scope = 0;
    if (f)
        fclose(f);
    return scope;
}

int tt_target_explain(pid_t pid, int code, struct tt_error *err)
{
    struct status s, other;
    struct stat st;
    char path[64];
    if (pid <= 0 || read_status(pid, pid, &s) != 0)
        return tt_error_set(err, -ESRCH,
                            "cannot stop process %d: there is none of that number (here; in a "
                            "container the numbers differ)",
                            (int)pid);
    if (s.tgid != pid)
        return tt_error_set(err, -ESRCH, "cannot stop %d: it is a thread of process %d; name that",
                            (int)pid, (int)s.tgid);
    if (s.state == 'Z' || s.state == 'X') {
        tt_proc_pid_vec threads = {0};
        int listed = tt_proc_list(pid, &threads);
        size_t n = threads.len;
        tt_vec_free(&threads);
        if (listed == 0 && n > 1)
            return tt_error_set(err, -EOPNOTSUPP,
                                "cannot stop process %d: its first thread has ended and only "
                                "others go on; use telltale run",
                                (int)pid);
        return tt_error_set(err, -ESRCH, "cannot stop process %d: it has ended", (int)pid);
    }
    if (!s.has_memory)
        return tt_error_set(err, -EOPNOTSUPP, "cannot stop process %d: it is part of the kernel",
                            (int)pid);
    if (s.tracer > 0 && s.tracer != getpid()) {
        if (read_status(s.tracer, s.tracer, &other) != 0)
            snprintf(other.name, sizeof other.name, "unknown");
        return tt_error_set(err, -EPERM,
                            "cannot stop process %d: %s (process %d) traces it; end that first",
                            (int)pid, other.name, (int)s.tracer);
    }
    if (code != -EPERM && code != -EACCES)
        return tt_error_sys(err, code, "cannot stop process %d", (int)pid);
    if (geteuid() != 0) {
        if (s.uid != (long)geteuid())
            return tt_error_set(err, -EPERM,
                                "cannot stop process %d: it belongs to user %ld; run as root or "
                                "as that user",
                                (int)pid, s.uid);
        snprintf(path, sizeof path, "/proc/%d/maps", (int)pid); /* then root's: proc(5) */
        if (stat(path, &st) == 0 && st.st_uid != geteuid())
            return tt_error_set(err, -EPERM,
                                "cannot stop process %d: it is not dumpable (it changed its "
                                "privileges, or asked for that); run as root",
                                (int)pid);
        if (yama_scope() == 1)
            return tt_error_set(err, -EPERM,
                                "cannot stop process %d: kernel.yama.ptrace_scope=1 allows that "
                                "for own children only; run as root, or set it to 0",
                                (int)pid);
    }
    if (yama_scope() >= 2)
        return tt_error_set(err, -EPERM, "cannot stop process %d: kernel.yama.ptrace_scope=%d; %s",
                            (int)pid, yama_scope(),
                            yama_scope() == 2 ? "run as root with CAP_SYS_PTRACE"
                                              : "it stays so until the machine starts again");
    return tt_error_set(err, -EPERM,
                        "cannot stop process %d: ptrace is not permitted; it needs CAP_SYS_PTRACE "
                        "(in the process's user namespace) and no sandbox that forbids it",
                        (int)pid);
}

/* ---- what it is ---- */

static int check_program(pid_t pid, struct tt_error *err)
{
    char path[64];
    unsigned char head[20];
    snprintf(path, sizeof path, "/proc/%d/exe", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return tt_target_explain(pid, -errno, err);
    ssize_t n = pread(fd, head, sizeof head, 0);
    close(fd);
    if (n == sizeof head && memcmp(head, ELFMAG, SELFMAG) == 0 && head[EI_CLASS] == ELFCLASS32)
        return tt_error_set(err, -EOPNOTSUPP,
                            "cannot attach to process %d: it is a 32-bit program, and this version "
                            "records 64-bit ones",
                            (int)pid);
    if (n != sizeof head || memcmp(head, ELFMAG, SELFMAG) != 0 || head[EI_DATA] != ELFDATA2LSB ||
        (head[18] | head[19] << 8) != EM_X86_64)
        return tt_error_set(err, -EOPNOTSUPP,
                            "cannot attach to process %d: it is built for another machine",
                            (int)pid);
    return 0;
}

/* Such a call waits for the lock of the address space, which a thread of the same process holds: it
 * comes to its end once that one has had a processor, and more so while the others stand still. */
static bool maps_memory(pid_t pid, pid_t tid)
{
    static const uint16_t list[] = {
        SYS_mmap, SYS_munmap,  SYS_mprotect,         SYS_mremap,
        SYS_brk,  SYS_madvise, SYS_process_vm_readv, SYS_process_vm_writev};
    long number = tt_target_syscall(pid, tid, NULL, NULL);
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++)
        if (list[i] == number)
            return true;
    return false;
}

uint64_t tt_target_deep_sleep(pid_t pid, pid_t tid)
{
    struct status s;
    return read_status(pid, tid, &s) == 0 && s.state == 'D' && !maps_memory(pid, tid)
               ? s.switches + 1
               : 0;
}

long tt_target_syscall(pid_t pid, pid_t tid, uint64_t *sp, uint64_t *pc)
{
    char path[64];
    long number = -1;
    unsigned long at[2] = {0};
    snprintf(path, sizeof path, "/proc/%d/task/%d/syscall", (int)pid, (int)tid);
    FILE *f = fopen(path, "re");
    /* NOLINTNEXTLINE(cert-err34-c): the kernel writes no number that does not fit */
    if (f && fscanf(f, "%ld %*x %*x %*x %*x %*x %*x %lx %lx", &number, &at[0], &at[1]) != 3)
        number = -1;
    if (f)
        fclose(f);
    if (sp)
        *sp = at[0];
    if (pc)
        *pc = at[1];
    return number;
}

bool tt_target_rests(long number)
{
    static const uint16_t list[] = {SYS_futex, SYS_nanosleep,     SYS_clock_nanosleep,
                                    SYS_pause, SYS_rt_sigsuspend, SYS_rt_sigtimedwait};
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++)
        if (list[i] == number)
            return true;
    return false;
}

uint64_t tt_target_switches(pid_t pid, pid_t tid)
{
    struct status s;
    return read_status(pid, tid, &s) == 0 ? s.switches : UINT64_MAX;
}

/* A thread in one and the same uninterruptible sleep for a second: the process could not be
 * stopped. Shorter ones happen where many threads on few processors wait for the lock of their
 * address space. 0 none. */
static pid_t sleeping_deeply(pid_t pid)
{
    tt_proc_pid_vec threads = {0};
    pid_t found = 0;
    if (tt_proc_list(pid, &threads) != 0)
        return 0;
    for (size_t i = 0; i < threads.len && !found; i++) {
        const struct timespec pause = {0, 5000000};
        uint64_t first = tt_target_deep_sleep(pid, threads.data[i]);
        int round = 0;
        while (first && round < 200 && tt_target_deep_sleep(pid, threads.data[i]) == first) {
            nanosleep(&pause, NULL);
            round++;
        }
        if (round == 200)
            found = threads.data[i];
    }
    tt_vec_free(&threads);
    return found;
}

static int check_threads(struct tt_target *t, struct tt_error *err)
{
    tt_proc_pid_vec threads = {0};
    struct status s;
    int code = tt_proc_list(t->pid, &threads);
    if (code)
        return tt_target_explain(t->pid, code, err);
    for (size_t i = 0; i < threads.len && !code; i++) {
        if (read_status(t->pid, threads.data[i], &s) != 0)
            continue;
        t->handles |= s.handles;
        t->sandboxed |= s.seccomp == 2;
        if (s.seccomp == 1)
            code = tt_error_set(err, -EOPNOTSUPP,
                                "cannot attach to process %d: thread %d is in strict seccomp mode; "
                                "use telltale run",
                                (int)t->pid, (int)threads.data[i]);
        else if (s.shadow_stack)
            code = tt_error_set(err, -EOPNOTSUPP,
                                "cannot attach to process %d: it runs with shadow stacks; start "
                                "it with GLIBC_TUNABLES=glibc.cpu.x86_shstk=off",
                                (int)t->pid);
    }
    tt_vec_free(&threads);
    return code;
}

/* ---- code to borrow ---- */

#define PIECE 0x10000u

/* Finds a byte sequence in [start, end) of the target; 0 none. */
static uint64_t find_bytes(const struct tt_target *t, uint64_t start, uint64_t end,
                           const uint8_t *what, size_t n)
{
    uint8_t *buffer = malloc(PIECE);
    uint64_t found = 0;
    for (uint64_t at = start; buffer && !found && at < end; at += PIECE - n) {
        size_t want = end - at < PIECE ? (size_t)(end - at) : PIECE;
        ssize_t got = pread(t->mem, buffer, want, (off_t)at);
        const uint8_t *hit = got >= (ssize_t)n ? memmem(buffer, (size_t)got, what, n) : NULL;
        if (hit)
            found = at + (uint64_t)(hit - buffer);
        if (want < PIECE)
            break;
    }
    free(buffer);
    return found;
}

/* Both are in every glibc: getpid and its like end in the one, and sigaction passes the address of
 * the other to the kernel for handlers to return to. */
static int find_code(struct tt_target *t, struct tt_error *err)
{
    static const uint8_t call[] = {0x0f, 0x05, 0xc3};
    static const uint8_t back[] = {0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05};
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < t->maps.maps.len; i++) {
            const struct tt_proc_map *m = &t->maps.maps.data[i];
            const char *path = tt_proc_map_path(&t->maps, m);
            if (!m->exec || m->write || path[0] != '/' || (pass == 0 && !strstr(path, "libc")))
                continue;
            if (!t->syscall_ret)
                t->syscall_ret = find_bytes(t, m->start, m->end, call, sizeof call);
            if (!t->sigreturn)
                t->sigreturn = find_bytes(t, m->start, m->end, back, sizeof back);
            if (t->syscall_ret && t->sigreturn)
                return 0;
        }
    return tt_error_set(err, -EOPNOTSUPP,
                        "cannot attach to process %d: it has no glibc (musl, Go without cgo, or "
                        "another runtime), whose code a borrowed thread needs",
                        (int)t->pid);
}

int tt_target_open(pid_t pid, struct tt_target *out, struct tt_error *err)
{
    char path[64];
    struct status s;
    *out = (struct tt_target){.pid = pid, .mem = -1};
    if (pid <= 0 || pid == getpid())
        return tt_error_set(err, -EINVAL, "cannot attach to process %d: no such target", (int)pid);
    if (read_status(pid, pid, &s) != 0 || s.tgid != pid || s.state == 'Z' || s.state == 'X' ||
        !s.has_memory || s.tracer > 0)
        return tt_target_explain(pid, -EPERM, err);
    int code = check_program(pid, err);
    if (code)
        return code;
    pid_t deep = sleeping_deeply(pid);
    if (deep)
        return tt_error_set(
            err, -ETIMEDOUT,
            "cannot stop process %d: thread %d is in uninterruptible sleep (a disk, "
            "or vfork); try again when it is not",
            (int)pid, (int)deep);
    if ((code = check_threads(out, err)) != 0)
        return code;
    snprintf(path, sizeof path, "/proc/%d/mem", (int)pid);
    out->mem = open(path, O_RDWR | O_CLOEXEC);
    if (out->mem < 0)
        return tt_target_explain(pid, -errno, err);
    if ((code = tt_proc_maps_read(pid, &out->maps)) != 0)
        code = tt_target_explain(pid, code, err);
    else
        code = find_code(out, err);
    if (code)
        tt_target_close(out);
    return code;
}

void tt_target_close(struct tt_target *target)
{
    if (target->mem >= 0)
        close(target->mem);
    target->mem = -1;
    tt_proc_maps_free(&target->maps);
}

int tt_target_read(const struct tt_target *target, uint64_t at, void *to, size_t n)
{
    ssize_t got = pread(target->mem, to, n, (off_t)at);
    return got == (ssize_t)n ? 0 : got < 0 ? -errno : -EIO;
}

void tt_target_read_text(const struct tt_target *target, uint64_t at, char *to, size_t n)
{
    ssize_t got = at ? pread(target->mem, to, n - 1, (off_t)at) : 0;
    to[got > 0 ? got : 0] = '\0';
}

int tt_target_write(const struct tt_target *target, uint64_t at, const void *from, size_t n)
{
    ssize_t put = pwrite(target->mem, from, n, (off_t)at);
    return put == (ssize_t)n ? 0 : put < 0 ? -errno : -EIO;
}
