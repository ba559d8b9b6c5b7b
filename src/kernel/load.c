/* SPDX-License-Identifier: Apache-2.0 */
/* The object that clang made of track.bpf.c, which stands in this program as bytes: into the kernel
 * by libbpf, its memory mapped, its programs put at their tracepoints. A tracepoint that this
 * kernel does not have is left out. Start: tt_kernel_load. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/internal.h"
#include "kernel/track_object.h" /* tt_kernel_object[], made by the build */

#define FIRST_PID_NAMESPACE 0xeffffffcU /* PROC_PID_INIT_INO of include/linux/proc_ns.h */
#define TYPES "/sys/kernel/btf/vmlinux"

/* Which programs stand at the return of which system calls. */
static const struct {
    const char *program, *calls;
} places[] = {
    {"open_fd",
     "open openat openat2 creat open_by_handle_at eventfd eventfd2 timerfd_create epoll_create "
     "epoll_create1 inotify_init inotify_init1 fanotify_init memfd_create pidfd_open pidfd_getfd "
     "userfaultfd perf_event_open io_uring_setup"},
    {"open_socket", "socket"},
    {"open_accepted", "accept accept4"},
    {"open_queue", "mq_open"},
    {"open_pipe", "pipe pipe2"},
    {"open_socketpair", "socketpair"},
    {"open_dup", "dup"},
    {"open_dup2", "dup2 dup3"},
    {"open_fcntl", "fcntl"},
    {"open_signalfd", "signalfd signalfd4"},
    {"open_passed", "recvmsg"},
    {"work_from", "recvfrom"},
    {"idle", "epoll_wait epoll_pwait epoll_pwait2 poll ppoll select pselect6"},
    {"bind_port", "bind"},
    {"connect_port", "connect"},
    {"close_fd", "close"},
    {"close_fds", "close_range"},
    {"map", "mmap"},
    {"unmap", "munmap"},
    {"protect", "mprotect pkey_mprotect"},
    {"remap", "mremap"},
    {"grow", "brk"},
    {"map_segment", "shmat"},
    {"unmap_segment", "shmdt"},
    {"fork_clone", "clone"},
    {"fork_clone3", "clone3"},
    {"fork_plain", "fork vfork"},
    {"reap", "wait4"},
    {"reap_by_id", "waitid"},
    {"make_timer", "timer_create"},
    {"drop_timer", "timer_delete"},
    {"make_shm", "shmget"},
    {"make_sem", "semget"},
    {"make_msg", "msgget"},
    {"drop_shm", "shmctl"},
    {"drop_sem", "semctl"},
    {"drop_msg", "msgctl"},
};

/* ---- what libbpf says ---- */

static char said[256]; /* its last warning; the loader is not used by two threads */

/* Kept instead of printed; its advice on ulimit -l, which it gives for any EPERM, is wrong here. */
static int keep(enum libbpf_print_level level, const char *format, va_list args)
{
    char line[sizeof said];
    if (level != LIBBPF_WARN)
        return 0;
    vsnprintf(line, sizeof line, format, args);
    line[strcspn(line, "\n")] = '\0';
    if (!strstr(line, "ulimit") && strncmp(line, "libbpf: -- ", 11) != 0)
        memcpy(said, line, sizeof said);
    return 0;
}

static int refuse(struct tt_error *err, int code)
{
    struct stat st;
    if (code == -EPERM || code == -EACCES)
        return tt_error_set(
            err, -EPERM,
            "cannot record from the kernel: eBPF needs CAP_BPF and CAP_PERFMON: run "
            "as root%s",
            geteuid() == 0 ? " outside of the container or lockdown that forbids it" : "");
    if (stat(TYPES, &st) < 0)
        return tt_error_set(err, -EOPNOTSUPP,
                            "cannot record from the kernel: it has no type information (" TYPES
                            "): use a kernel built with CONFIG_DEBUG_INFO_BTF");
    return tt_error_sys(err, code, "cannot record from the kernel (needs Linux 5.17): %.160s",
                        strncmp(said, "libbpf: ", 8) == 0 ? said + 8 : said);
}

/* ---- tracepoints ---- */

static int put_at(struct tt_kernel_load *load, struct bpf_program *program, const char *category,
                  const char *name)
{
    struct bpf_link *link = *name ? bpf_program__attach_tracepoint(program, category, name)
                                  : bpf_program__attach(program);
    if (!link)
        return -errno;
    /* NOLINTNEXTLINE(bugprone-sizeof-expression): a list of pointers */
    if (tt_vec_push(&load->links, link)) {
        bpf_link__destroy(link);
        return -ENOMEM;
    }
    return 0;
}

static int put_at_call(struct tt_kernel_load *load, const char *which, const char *calls)
{
    struct bpf_program *program = bpf_object__find_program_by_name(load->object, which);
    for (const char *call = calls; *call;) {
        char name[64];
        size_t n = strcspn(call, " ");
        snprintf(name, sizeof name, "sys_exit_%.*s", (int)n, call);
        int code = program ? put_at(load, program, "syscalls", name) : -ENOENT;
        if (code && code != -ENOENT)
            return code;
        call += n + strspn(call + n, " ");
    }
    return 0;
}

static int put_at_calls(struct tt_kernel_load *load)
{
    int code = 0;
    for (size_t i = 0; !code && i < sizeof places / sizeof *places; i++)
        code = put_at_call(load, places[i].program, places[i].calls);
    /* reading from sockets alone where the kernel tells (since 6.3); loaded only then */
    struct bpf_program *receive = bpf_object__find_program_by_name(load->object, "work_receive");
    if (!code && (!receive || put_at(load, receive, "", "")))
        code = put_at_call(load, "work_read", "read readv");
    return code ? code : load->links.len ? 0 : -ENOENT;
}

/* Closes our descriptors of perf events, which libbpf does not give out; or, the other way round,
 * all that are no objects of the kernel's own. */
static void close_some(bool events)
{
    DIR *dir = opendir("/proc/self/fd");
    for (struct dirent *entry; dir && (entry = readdir(dir)) != NULL;) {
        char text[32] = "";
        ssize_t n = readlinkat(dirfd(dir), entry->d_name, text, sizeof text - 1);
        int fd = (int)strtol(entry->d_name, NULL, 10);
        bool is_event = strcmp(text, "anon_inode:[perf_event]") == 0;
        if (n > 0 && fd != dirfd(dir) &&
            (events ? is_event : strncmp(text, "anon_inode:", 11) != 0))
            close(fd);
    }
    if (dir)
        closedir(dir);
}

/* ---- probes ---- */

/* One place in a file, in one process: a link of the kind uprobe_multi (Linux 6.6), which
 * libbpf 1.1 does not know yet. Not a uprobe of perf's: without a process that one puts its
 * breakpoint into every process that maps the file, and goes on behind it as the file says; one
 * whose function begins with a jump of an agent's instead dies of that. And with a process it sees
 * one thread. */
struct probe_link {
    uint32_t program, target, attach_type, none;
    uint64_t path, offsets, counters, cookies;
    uint32_t n, flags, pid, rest;
};
enum { TRACE_UPROBE_MULTI = 48, AT_RETURN = 1 };
static const char *const probe_names[] = {"handle_enter", "handle_return", "count_call"};

static void make_probes_multi(struct tt_kernel_load *load)
{
    for (size_t i = 0; i < sizeof probe_names / sizeof *probe_names; i++) {
        struct bpf_program *p = bpf_object__find_program_by_name(load->object, probe_names[i]);
        if (p)
            bpf_program__set_expected_attach_type(p, (enum bpf_attach_type)TRACE_UPROBE_MULTI);
    }
}

int tt_kernel_load_probe(struct tt_kernel_load *load, pid_t pid, const char *path,
                         const uint64_t *offsets, const uint64_t *cookies, size_t n,
                         enum tt_kernel_probe what)
{
    struct bpf_program *program = bpf_object__find_program_by_name(load->object, probe_names[what]);
    if (!program || pid <= 0)
        return -EINVAL;
    struct probe_link link = {.program = (uint32_t)bpf_program__fd(program),
                              .attach_type = TRACE_UPROBE_MULTI,
                              .path = (uint64_t)(uintptr_t)path,
                              .offsets = (uint64_t)(uintptr_t)offsets,
                              .cookies = (uint64_t)(uintptr_t)cookies,
                              .n = (uint32_t)n,
                              .flags = what == TT_KERNEL_AT_RETURN ? AT_RETURN : 0,
                              .pid = (uint32_t)pid};
    int fd = (int)syscall(SYS_bpf, BPF_LINK_CREATE, &link, sizeof link);
    return fd < 0 ? -errno : fd;
}

/* The last descriptor of a link is closed by a grandchild, which is nobody's child here. */
void tt_kernel_load_part(const int *links, size_t n)
{
    pid_t child = n ? fork() : 0;
    if (n && child == 0) {
        if (fork() == 0) {
            close_some(false);
            close_range(0, ~0U, 0);
        }
        _exit(0);
    }
    for (size_t i = 0; i < n; i++)
        close(links[i]);
    if (child > 0)
        waitpid(child, NULL, 0);
}

static int put_at_processes(struct tt_kernel_load *load)
{
    static const char *const names[] = {"forked", "executed", "exited"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct bpf_program *program = bpf_object__find_program_by_name(load->object, names[i]);
        int code = program ? put_at(load, program, "", "") : -ENOENT;
        if (code)
            return code;
    }
    return 0;
}

/* ---- loading ---- */

static int map_shared(struct tt_kernel_load *load)
{
    struct bpf_map *map = bpf_object__find_map_by_name(load->object, ".bss");
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (!map || bpf_map__value_size(map) < sizeof *load->shared)
        return -EINVAL;
    load->shared_bytes = (bpf_map__value_size(map) + page - 1) & ~(page - 1);
    void *at =
        mmap(NULL, load->shared_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(map), 0);
    if (at == MAP_FAILED)
        return -errno;
    load->shared = at;
    return 0;
}

int tt_kernel_load(struct tt_kernel_load *load, int (*take)(void *arg, void *data, size_t n),
                   void *arg, struct tt_error *err)
{
    LIBBPF_OPTS(bpf_object_open_opts, options, .object_name = "telltale");
    struct stat st;
    *load = (struct tt_kernel_load){.far = -1, .slots = -1};
    *said = '\0';
    /* the kernel side knows processes by their ids in the first namespace */
    if (stat("/proc/self/ns/pid", &st) == 0 && st.st_ino != FIRST_PID_NAMESPACE)
        return tt_error_set(err, -EOPNOTSUPP,
                            "cannot record from the kernel in a container's pid namespace: run "
                            "telltale on the host, or let the container share its pids");
    libbpf_print_fn_t before = libbpf_set_print(keep);
    load->object = bpf_object__open_mem(tt_kernel_object, sizeof tt_kernel_object, &options);
    if (load->object)
        make_probes_multi(load);
    int code = load->object ? bpf_object__load(load->object) : -errno;
    if (!code)
        code = map_shared(load);
    if (!code) {
        load->far = bpf_object__find_map_fd_by_name(load->object, "far");
        load->slots = bpf_object__find_map_fd_by_name(load->object, "slots");
        load->ring = ring_buffer__new(bpf_object__find_map_fd_by_name(load->object, "ring"), take,
                                      arg, NULL);
        code = load->far < 0 || load->slots < 0 ? -EINVAL : load->ring ? 0 : -errno;
    }
    for (uint32_t slot = 0; !code && slot < TT_KERNEL_SLOTS; slot++)
        code = bpf_map_update_elem(load->slots, NULL, &slot, 0) ? -errno : 0;
    if (!code)
        code = put_at_processes(load);
    if (!code)
        code = put_at_calls(load);
    libbpf_set_print(before);
    if (code) {
        refuse(err, code);
        code = err ? err->code : code;
        tt_kernel_unload(load);
    }
    return code;
}

/* Closing the last descriptor of a program's place waits until no processor is in it, some 25 to 65
 * ms each and seconds for all. A child has them too, closes them, and is nobody's concern. */
static void part(struct tt_kernel_load *load)
{
    if (load->links.len && fork() == 0) {
        close_some(false); /* who waits for the end of our output, or for a lock, shall not wait */
        close_range(0, ~0U, 0);
        _exit(0);
    }
    for (size_t i = 0; i < load->links.len; i++) {
        int fd = bpf_link__fd(load->links.data[i]);
        bpf_link__disconnect(load->links.data[i]); /* which would wait, too */
        bpf_link__destroy(load->links.data[i]);
        close(fd);
    }
    tt_vec_free(&load->links);
    close_some(true);
}

void tt_kernel_unload(struct tt_kernel_load *load)
{
    if (load->shared) {
        memset(load->shared->target, 0, sizeof load->shared->target);
        munmap(load->shared, load->shared_bytes);
    }
    part(load);
    ring_buffer__free(load->ring);
    bpf_object__close(load->object);
    *load = (struct tt_kernel_load){.far = -1, .slots = -1};
}

void tt_kernel_load_consume(struct tt_kernel_load *load)
{
    ring_buffer__consume(load->ring);
}

int tt_kernel_load_fd(const struct tt_kernel_load *load)
{
    return ring_buffer__epoll_fd(load->ring);
}

/* ---- maps ---- */

bool tt_kernel_far_next(const struct tt_kernel_load *load, uint64_t *key, bool first)
{
    uint64_t next;
    if (bpf_map_get_next_key(load->far, first ? NULL : key, &next))
        return false;
    *key = next;
    return true;
}

uint64_t tt_kernel_far_get(const struct tt_kernel_load *load, uint64_t key)
{
    uint64_t entry = 0;
    return bpf_map_lookup_elem(load->far, &key, &entry) ? 0 : entry;
}

void tt_kernel_far_put(const struct tt_kernel_load *load, uint64_t key, uint64_t entry)
{
    if (bpf_map_update_elem(load->far, &key, &entry, BPF_ANY))
        __atomic_fetch_add(&load->shared->lost_far, 1, __ATOMIC_RELAXED);
}

void tt_kernel_far_drop(const struct tt_kernel_load *load, uint64_t key)
{
    bpf_map_delete_elem(load->far, &key);
}

int tt_kernel_slot_take(const struct tt_kernel_load *load)
{
    uint32_t slot;
    return bpf_map_lookup_and_delete_elem(load->slots, NULL, &slot) ? -1 : (int)slot;
}

void tt_kernel_slot_give(const struct tt_kernel_load *load, uint32_t slot)
{
    bpf_map_update_elem(load->slots, NULL, &slot, 0);
}
