/* SPDX-License-Identifier: Apache-2.0 */
/* The life of an image: a tape appears in the directory, its head becomes ready, /proc tells who it
 * is, it is read again and again, and when its process ends or runs another program it is read for
 * the last time - the tape outlives it. Whether /proc/PID is really this image is seen from its
 * mappings, of which one must be the tape. Start: tt_image_discover. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "record/internal.h"

#define LOOK_SHARE 50u /* a look may cost 1/50 of the time between looks */
#define LOOK_FIRST_NS (2 * TT_SECOND)
#define LOOK_NS (5 * TT_SECOND)
#define LOOK_MOST_NS (600 * TT_SECOND)

/* ---- finding tapes ---- */

static bool known(const struct tt_recorder *rec, const char *name)
{
    for (size_t i = 0; i < rec->images.len; i++)
        if (strcmp(rec->images.data[i]->name, name) == 0)
            return true;
    return false;
}

static void describe_early(struct tt_image *image);

/* "tape.PID.NUMBER": the number goes up with each exec. */
struct tape_name {
    unsigned pid, number;
};

struct tt_image *tt_image_new(struct tt_recorder *rec, int fd, int64_t pid, const char *name)
{
    struct stat st;
    struct tt_image *image = NULL;
    if (rec->next_image <= TT_RECORD_IMAGES && fstat(fd, &st) == 0)
        image = calloc(1, sizeof *image);
    /* a list of pointers: images do not move */
    if (!image || tt_vec_push(&rec->images, image)) { /* NOLINT(bugprone-sizeof-expression) */
        rec->images_lost++;
        close(fd);
        free(image);
        return NULL;
    }
    image->tape.fd = fd;
    image->tape.device = st.st_dev;
    image->tape.inode = st.st_ino;
    snprintf(image->name, sizeof image->name, "%s", name);
    image->pid = pid;
    image->heap_held = -1;
    image->mem_fd = -1;
    image->alive = true;
    image->opened_ns = tt_clock_now();
    image->pidfd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
    if (image->pidfd >= 0)
        fcntl(image->pidfd, F_SETFD, FD_CLOEXEC);
    return image;
}

static void adopt(struct tt_recorder *rec, const struct tape_name *tape)
{
    struct stat st;
    char name[64];
    unsigned pid = tape->pid, number = tape->number;
    snprintf(name, sizeof name, "tape.%u.%u", pid, number);
    if (known(rec, name))
        return;
    int fd = openat(rec->dir_fd, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return;
    /* one link: somebody could have linked another file here to have us write to it */
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_nlink != 1) {
        close(fd);
        return;
    }
    struct tt_image *image = tt_image_new(rec, fd, pid, name);
    if (!image) {
        unlinkat(rec->dir_fd, name, 0);
        return;
    }
    describe_early(image);
    /* the same process under another tape: it has called exec, and that image is gone */
    for (size_t i = 0; i + 1 < rec->images.len; i++)
        if (rec->images.data[i]->pid == image->pid)
            tt_image_end(rec, rec->images.data[i], "exec", image->opened_ns);
    tt_image_settle(rec, image);
}

static bool parse_name(const char *text, struct tape_name *name)
{
    char *end;
    if (strncmp(text, "tape.", 5) != 0 || text[5] < '0' || text[5] > '9')
        return false;
    unsigned long pid = strtoul(text + 5, &end, 10);
    if (*end != '.' || end[1] < '0' || end[1] > '9')
        return false;
    unsigned long number = strtoul(end + 1, &end, 10);
    name->pid = (unsigned)pid;
    name->number = (unsigned)number;
    return !*end && pid > 0 && pid <= INT32_MAX && number <= INT32_MAX;
}

static int in_order(const void *a, const void *b)
{
    const struct tape_name *x = a, *y = b;
    return x->pid != y->pid ? (x->pid > y->pid) - (x->pid < y->pid)
                            : (x->number > y->number) - (x->number < y->number);
}

void tt_image_discover(struct tt_recorder *rec)
{
    int fd = openat(rec->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        if (fd >= 0)
            close(fd);
        return;
    }
    TT_VEC(struct tape_name) names = {0};
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        struct tape_name name;
        if (parse_name(entry->d_name, &name) && tt_vec_push(&names, name))
            break;
    }
    closedir(dir);
    if (names.len)
        qsort(names.data, names.len, sizeof *names.data, in_order);
    for (size_t i = 0; i < names.len; i++)
        adopt(rec, &names.data[i]);
    tt_vec_free(&names);
}

/* ---- who it is ---- */

/* Finds the tape among the mappings: where it lies in the target, and that /proc/PID is the one. */
static bool find_mapping(struct tt_image *image)
{
    if (tt_proc_maps_read((pid_t)image->pid, &image->maps))
        return false;
    bool found = false;
    image->tape_mapped = 0;
    for (size_t i = 0; i < image->maps.maps.len; i++) {
        const struct tt_proc_map *map = &image->maps.maps.data[i];
        if (map->inode != image->tape.inode || !map->shared)
            continue;
        image->tape_mapped += map->end - map->start;
        if (map->offset == 0) {
            image->map_base = map->start;
            found = true;
        }
    }
    return found;
}

bool tt_image_settle(struct tt_recorder *rec, struct tt_image *image)
{
    if (image->id)
        return false;
    int code = tt_tape_read_head(&image->tape);
    if (code == -EAGAIN)
        return false;
    if (code == 0 && image->tape.head.state == TT_STATE_EMPTY)
        return false; /* the agent is still setting up */
    image->id = rec->next_image++;
    rec->result->processes++;
    image->tape.ring_tail = 0;
    if (code) { /* not a tape we understand */
        memset(&image->tape.head, 0, sizeof image->tape.head);
        image->tape.head.state = TT_STATE_REFUSED;
        snprintf(image->tape.head.reason, sizeof image->tape.head.reason,
                 "the agent wrote something that this telltale does not understand");
    }
    image->row_changed = true;
    if (image->tape.head.state == TT_STATE_REFUSED && !image->kernel) { /* that was said */
        rec->result->refused++;
        if (!*rec->result->refused_why)
            snprintf(rec->result->refused_why, sizeof rec->result->refused_why, "%s",
                     image->tape.head.reason);
    }
    tt_image_describe(rec, image);
    return true;
}

/* Agent's text is shown to people: no control characters. */
static void copy_plain(char *to, size_t n, const char *from)
{
    size_t i = 0;
    for (; i + 1 < n && from[i]; i++)
        to[i] = (unsigned char)from[i] < ' ' || from[i] == 0x7f ? '?' : from[i];
    to[i] = '\0';
}

static void describe_exe(struct tt_image *image)
{
    char link[64];
    struct stat st;
    snprintf(link, sizeof link, "/proc/%d/exe", (int)image->pid);
    int fd = open(link, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    tt_proc_exe((pid_t)image->pid, image->exe, sizeof image->exe);
    tt_proc_build_id(fd, image->build_id);
    if (fstat(fd, &st) == 0) {
        image->row.exe_size = (uint64_t)st.st_size;
        image->row.exe_mtime = st.st_mtime;
        image->exe_device = st.st_dev;
        image->exe_inode = st.st_ino;
    }
    close(fd);
}

/* Its mappings hold the agent library: the process is one of ours. */
static bool has_agent(const struct tt_image *image)
{
    for (size_t i = 0; i < image->maps.maps.len; i++)
        if (strstr(tt_proc_map_path(&image->maps, &image->maps.maps.data[i]), "/libtelltale-agent"))
            return true;
    return false;
}

/* What a command of a few milliseconds would take along: the libraries it needs are mapped before
 * the agent makes its tape, so this is tried as soon as there is a file. */
static void describe_early(struct tt_image *image)
{
    if (tt_proc_maps_read((pid_t)image->pid, &image->maps) || !has_agent(image))
        return;
    image->visible = image->early = true;
    describe_exe(image);
    tt_proc_cmdline((pid_t)image->pid, image->cmdline, sizeof image->cmdline);
    tt_modules_read(image, tt_clock_now());
}

void tt_image_describe(struct tt_recorder *rec, struct tt_image *image)
{
    const struct tt_tape_head *h = &image->tape.head;
    static const char *const modes[] = {"", "exact", "sampled", "adaptive"};
    (void)rec;
    copy_plain(image->allocator, sizeof image->allocator, h->allocator);
    copy_plain(image->reason, sizeof image->reason, h->reason);
    bool mapped = image->kernel ? tt_proc_maps_read((pid_t)image->pid, &image->maps) == 0
                                : find_mapping(image);
    if (!mapped && image->maps.maps.len && h->state != TT_STATE_REFUSED) {
        /* another process has this pid here, or this one has called exec */
        tt_modules_free(image);
        *image->exe = *image->cmdline = *image->build_id = *image->libc = '\0';
        image->visible = false;
    } else if (mapped && !image->early) {
        image->visible = true;
        describe_exe(image);
        tt_proc_cmdline((pid_t)image->pid, image->cmdline, sizeof image->cmdline);
        tt_modules_read(image, tt_clock_now());
    }
    if (!*image->exe)
        copy_plain(image->exe, sizeof image->exe, h->exe);
    uint64_t now = tt_clock_now();
    struct tt_session_process *row = &image->row;
    row->id = image->id;
    row->pid = image->pid;
    row->parent = h->parent <= INT32_MAX ? h->parent : 0;
    row->exe = image->exe;
    row->build_id = image->build_id;
    row->cmdline = image->cmdline;
    row->libc = image->libc;
    row->started_ns =
        h->start_ns >= rec->origin_ns && h->start_ns <= now ? h->start_ns : image->opened_ns;
    row->state = h->state == TT_STATE_REFUSED ? "refused" : "running";
    row->reason = image->reason;
    row->mode = h->mode <= TT_MODE_ADAPTIVE ? modes[h->mode] : "";
    row->allocator = image->allocator;
    row->granule = h->granule_shift ? 1u << h->granule_shift : 0;
    row->sample_mean = h->sample_mean <= 1ULL << 60 ? h->sample_mean : 0;
    image->look_due = now + LOOK_FIRST_NS;
    image->modules_epoch = h->module_epoch;
    image->pads[0] = (struct tt_inject_pad){h->pad_base, h->pad_size, 0};
    image->pads[1] = (struct tt_inject_pad){h->pad2_base, h->pad2_size, 0};
    tt_count_inherit(rec, image);
    tt_watch_inherit(rec, image);
}

enum tt_image_state tt_image_state(struct tt_image *image)
{
    bool zombie = false;
    struct pollfd p = {.fd = image->pidfd, .events = POLLIN};
    if (image->pidfd >= 0 ? poll(&p, 1, 0) == 1
                          : tt_proc_parent((pid_t)image->pid, &zombie) < 0 || zombie)
        return TT_IMAGE_ENDED;
    if (image->kernel) /* which tells of an exec by itself */
        return TT_IMAGE_RUNS;
    char link[64];
    struct stat st;
    snprintf(link, sizeof link, "/proc/%d/exe", (int)image->pid);
    if (image->attached && image->mem_fd >= 0) {
        uint64_t word;
        if (!image->map_base ||
            pread(image->mem_fd, &word, sizeof word, (off_t)image->map_base) == sizeof word)
            return TT_IMAGE_RUNS;
        /* The memory is gone: by an exec, or the process is on its way out and has none. */
        return stat(link, &st) < 0 && (errno == ENOENT || errno == ESRCH) ? TT_IMAGE_ENDED
                                                                          : TT_IMAGE_REPLACED;
    }
    if (!image->visible || !image->exe_inode)
        return TT_IMAGE_RUNS;
    if (stat(link, &st) < 0) /* on its way out, memory first */
        return errno == ENOENT || errno == ESRCH ? TT_IMAGE_ENDED : TT_IMAGE_RUNS;
    if ((st.st_dev == image->exe_device && st.st_ino == image->exe_inode) || find_mapping(image) ||
        !image->maps.maps.len)
        return TT_IMAGE_RUNS;
    return TT_IMAGE_REPLACED;
}

/* ---- reading ---- */

static bool holds_blocks(void *arg, const struct tt_proc_map *map)
{
    struct tt_image *image = arg;
    if (!map->write || map->shared || map->inode)
        return false;
    uint64_t first = map->start >> 16, last = (map->end - 1) >> 16;
    size_t lo = 0, hi = image->look.pieces.len;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (image->look.pieces.data[mid] < first)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < image->look.pieces.len && image->look.pieces.data[lo] <= last;
}

/* |births - deaths - survivors| over all sites. */
static uint64_t disagreement(const struct tt_image *image)
{
    uint64_t off = 0;
    for (size_t i = 0; i < image->tape.sites.len; i++) {
        struct tt_totals now = image->tape.sites.data[i].now;
        tt_held_overlay(&image->held, (uint32_t)i, &now);
        uint64_t live = now.births - (now.deaths < now.births ? now.deaths : now.births);
        uint64_t seen = i < image->look.sites.len ? image->look.sites.data[i].units : 0;
        off += live > seen ? live - seen : seen - live;
    }
    return off;
}

static bool watched(const struct tt_image *image)
{
    return image->watches_listed || image->kernel;
}

static void look(struct tt_recorder *rec, struct tt_image *image, uint64_t now_ns)
{
    uint64_t begin = tt_clock_read(CLOCK_THREAD_CPUTIME_ID);
    uint32_t tick = tt_record_tick_at(rec, now_ns);
    image->has_look = false;
    tt_held_read(rec, image, now_ns, image->alive && image->visible && watched(image));
    if (tt_look_scan(&image->look, &image->tape, tt_record_tick_at(rec, image->row.started_ns),
                     tick) == 0) {
        tt_held_look(image);
        image->has_look = true;
        image->look_written = false;
        image->units_off = disagreement(image);
        image->look_row =
            (struct tt_session_look){.at_ns = now_ns,
                                     .tick = tick,
                                     .consistent = image->units_off == 0 && !image->look.big_lost,
                                     .final = !image->alive};
        uint64_t held;
        if (image->alive && image->visible &&
            tt_proc_anonymous((pid_t)image->pid, holds_blocks, image, &held) == 0)
            image->heap_held = (int64_t)held;
    }
    uint64_t cost = tt_clock_read(CLOCK_THREAD_CPUTIME_ID) - begin;
    uint64_t pause = image->looks++ < 2 ? TT_SECOND : LOOK_NS;
    if (pause < cost * LOOK_SHARE)
        pause = cost * LOOK_SHARE;
    if (pause > LOOK_MOST_NS)
        pause = LOOK_MOST_NS;
    image->look_due = now_ns + pause;
}

/* A new stack with an address in no module: the list of modules is out of date. */
static void check_addresses(struct tt_image *image)
{
    uint64_t frames[TT_TAPE_DEPTH];
    for (; image->alive && image->checked < image->tape.sites.len; image->checked++) {
        const struct tt_site *site = &image->tape.sites.data[image->checked];
        if (!site->ready)
            return; /* again next time */
        size_t n = image->modules_stale ? 0 : tt_tape_read_stack(&image->tape, site, frames);
        for (size_t i = 0; i < n && !image->modules_stale; i++)
            image->modules_stale = !tt_modules_hold(image, frames[i]);
    }
}

void tt_image_read(struct tt_recorder *rec, struct tt_image *image, uint64_t now_ns, bool looking)
{
    if (!image->id || image->left || image->tape.head.state == TT_STATE_REFUSED)
        return;
    if (tt_tape_read_totals(&image->tape))
        return;
    tt_tape_read_ring(&image->tape, rec->origin_ns);
    tt_count_read(image);
    if (!image->first_read) {
        image->first_read = true;
        for (size_t i = 0; i < image->tape.sites.len; i++) {
            const struct tt_totals *now = &image->tape.sites.data[i].now;
            image->tape.sites.data[i].base_live =
                now->births > now->deaths ? now->births - now->deaths : 0;
        }
    }
    check_addresses(image);
    const struct tt_tape_head *h = &image->tape.head;
    if (h->module_epoch != image->modules_epoch) {
        image->modules_epoch = h->module_epoch;
        image->modules_stale = true;
        image->modules_pause_ns = 0;
    }
    if (image->alive && image->modules_stale &&
        now_ns - image->modules_read_ns >= image->modules_pause_ns)
        tt_modules_read(image, now_ns);
    tt_watch_read(image);
    if (looking || now_ns >= image->look_due)
        look(rec, image, now_ns);
    else
        tt_held_read(rec, image, now_ns, image->alive && image->visible && watched(image));
}

void tt_image_end(struct tt_recorder *rec, struct tt_image *image, const char *state,
                  uint64_t now_ns)
{
    if (!image->alive)
        return;
    if (!image->id && !tt_image_settle(rec, image)) {
        /* ended before its agent was ready: nothing was recorded */
        image->alive = false;
        return;
    }
    if (image->kernel)
        tt_kernel_leave(rec, image);
    tt_image_read(rec, image, now_ns, false); /* what is still in the ring makes room */
    image->alive = false;
    if (image->pid == rec->child && rec->child_ended && strcmp(state, "exec") != 0) {
        int status = rec->result->status;
        image->row.has_exit = true;
        image->row.exit_status = tt_record_status(status);
    }
    if (image->tape.head.state != TT_STATE_REFUSED)
        image->row.state = state;
    image->row.ended_ns = now_ns;
    image->row_changed = true;
    tt_image_read(rec, image, now_ns, true);
}

void tt_image_free(struct tt_recorder *rec, struct tt_image *image)
{
    if (*image->name)
        unlinkat(rec->dir_fd, image->name, 0);
    if (rec->search && rec->search->image == image)
        rec->search->image = NULL;
    if (image->pidfd >= 0)
        close(image->pidfd);
    if (image->attached && image->mem_fd >= 0)
        close(image->mem_fd);
    tt_stale_free(&image->stale);
    tt_tape_free(&image->tape);
    tt_look_free(&image->look);
    tt_held_free(&image->held);
    tt_vec_free(&image->jumps);
    tt_vec_free(&image->jump_to);
    tt_proc_maps_free(&image->maps);
    tt_modules_free(image);
    tt_count_leave(rec, image);
    free(image);
}

struct tt_image *tt_image_of(const struct tt_recorder *rec, pid_t pid)
{
    for (size_t i = 0; i < rec->images.len; i++)
        if (rec->images.data[i]->alive && rec->images.data[i]->pid == pid)
            return rec->images.data[i];
    return NULL;
}
