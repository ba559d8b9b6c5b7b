/* SPDX-License-Identifier: Apache-2.0 */
/* The list of held units against what the kernel says. Neither stands still while the other is
 * read: a disagreement counts when it is seen a second time. Descriptors without a row were open
 * before the recording began, or came by a way that is not watched (a raw system call, another
 * process's SCM_RIGHTS); each kind of them is a place without a stack. Rows without a descriptor,
 * without a child, without a segment are ghosts. Sockets show here that their peer has gone. Start:
 * tt_held_reconcile. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "record/internal.h"

#define TWICE 2u
#define STATE_CLOSE_WAIT 8u /* include/net/tcp_states.h */

/* ---- places ---- */

/* The site id for units of that name; 0 when there are too many places. */
static uint32_t place_of(struct tt_held *held, uint8_t kind, const char *name, bool before)
{
    char text[sizeof held->places.data->name];
    snprintf(text, sizeof text, "%.40s: %s", name,
             before ? "open before the recording began" : "opened by a way that is not watched");
    for (size_t i = 0; i < held->places.len; i++)
        if (held->places.data[i].kind == kind && strcmp(held->places.data[i].name, text) == 0)
            return TT_HELD_PLACE_FIRST + (uint32_t)i;
    struct tt_held_place place = {.kind = kind};
    memcpy(place.name, text, sizeof place.name);
    if (held->places.len >= TT_HELD_PLACES || tt_vec_push(&held->places, place)) {
        held->lost_places++;
        return 0;
    }
    return TT_HELD_PLACE_FIRST + (uint32_t)(held->places.len - 1);
}

static void born_at(struct tt_held *held, struct tt_held_unit *unit)
{
    if (unit->site < TT_HELD_PLACE_FIRST)
        return;
    struct tt_held_place *place = &held->places.data[unit->site - TT_HELD_PLACE_FIRST];
    place->births++;
    place->changed = true;
    unit->known = true;
}

static void died_at(struct tt_held *held, const struct tt_held_unit *unit, uint32_t now)
{
    tt_held_end_clocks(held, unit, now);
    if (unit->site < TT_HELD_PLACE_FIRST || !unit->known)
        return;
    struct tt_held_place *place = &held->places.data[unit->site - TT_HELD_PLACE_FIRST];
    place->deaths++;
    place->bins[tt_tape_bin(now > unit->tick ? now - unit->tick : 0)]++;
    place->changed = true;
}

/* ---- descriptors ---- */

/* Which unit of the list each open descriptor is: index + 1, 0 none. */
struct table {
    uint32_t *unit; /* by place in held->open */
    size_t n;
};

static long open_at(const tt_open_vec *open, uint64_t fd)
{
    size_t lo = 0, hi = open->len;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if ((uint64_t)open->data[mid].fd < fd)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < open->len && (uint64_t)open->data[lo].fd == fd ? (long)lo : -1;
}

/* The state that the kernel tells of a socket starts and stops its clock. */
static void note_socket(struct tt_held *held, struct tt_held_unit *unit, const struct tt_open *open,
                        uint32_t now)
{
    unit->inode = open->inode;
    if (open->what != TT_OPEN_SOCKET)
        return;
    const struct tt_socket *s = tt_socket_find(&held->sockets, open->inode);
    bool waits = s && s->state == STATE_CLOSE_WAIT && strncmp(s->protocol, "tcp", 3) == 0;
    if (waits && !unit->started[TT_CLOCK_CLOSE_WAIT])
        unit->started[TT_CLOCK_CLOSE_WAIT] = now + 1;
    else if (!waits)
        unit->started[TT_CLOCK_CLOSE_WAIT] = 0;
}

static void match_rows(struct tt_held *held, struct table *table, uint32_t now)
{
    for (size_t i = 0; i < held->units.len; i++) {
        struct tt_held_unit *u = &held->units.data[i];
        if (u->foreign || (u->space != TT_SPACE_FD && u->space != TT_SPACE_PORT))
            continue;
        long at = open_at(&held->open, u->value);
        if (at >= 0 && !u->ghost) {
            u->missing = 0;
            if (u->space == TT_SPACE_FD) {
                table->unit[at] = (uint32_t)i + 1;
                note_socket(held, u, &held->open.data[at], now);
            }
        } else if (at < 0 && !u->ghost && ++u->missing >= TWICE) {
            u->ghost = true;
            held->closed_unseen++;
            tt_held_end_clocks(held, u, now);
        }
    }
}

/* Foreign ones that are still open, and those that are not. */
static void match_foreign(struct tt_held *held, struct table *table, uint32_t now)
{
    size_t kept = 0;
    for (size_t i = 0; i < held->units.len; i++) {
        struct tt_held_unit *u = &held->units.data[i];
        long at = u->foreign ? open_at(&held->open, u->value) : -1;
        if (u->foreign && (at < 0 || table->unit[at] || u->inode != held->open.data[at].inode)) {
            died_at(held, u, now);
            continue;
        }
        if (u->foreign) {
            if (!u->known && u->missing++ == 0) { /* seen before, and again */
                born_at(held, u);
                held->opened_unseen += u->known;
            }
            note_socket(held, u, &held->open.data[at], now);
        }
        held->units.data[kept] = *u;
        if (u->foreign)
            table->unit[at] = (uint32_t)kept + 1;
        kept++;
    }
    held->units.len = kept;
}

/* So that reading from a socket that was open before tells for whom the thread works. */
static void introduce(const struct tt_image *image, int fd)
{
    uint32_t word = 0;
    off_t at = (off_t)(TT_TAPE_OFF_FDS + (uint64_t)fd * sizeof word);
    if ((uint32_t)fd >= TT_TAPE_FDS ||
        pread(image->tape.fd, &word, sizeof word, at) != sizeof word || word)
        return;
    word = TT_TAPE_FD_UNMET;
    ssize_t n = pwrite(image->tape.fd, &word, sizeof word, at);
    (void)n; /* then its peer stays unknown */
}

static void add_foreign(const struct tt_image *image, struct tt_held *held,
                        const struct table *table, uint32_t first, uint32_t now)
{
    for (size_t i = 0; i < table->n; i++) {
        const struct tt_open *open = &held->open.data[i];
        if (table->unit[i])
            continue;
        bool before = !held->reconciled;
        uint8_t kind = open->what == TT_OPEN_SOCKET ? TT_KIND_SOCKET : TT_KIND_FD;
        if (kind == TT_KIND_SOCKET && image->n_watched)
            introduce(image, open->fd);
        struct tt_held_unit unit = {.value = (uint64_t)open->fd,
                                    .size = 1,
                                    .count = 1,
                                    .inode = open->inode,
                                    .tick = before ? first : now,
                                    .space = TT_SPACE_FD,
                                    .kind = kind,
                                    .also = -1,
                                    .foreign = true};
        unit.site = place_of(held, kind, open->name, before);
        if (before) {
            born_at(held, &unit);
            held->open_before += unit.known;
        }
        note_socket(held, &unit, open, now);
        if (tt_vec_push(&held->units, unit))
            return;
    }
}

static void reconcile_descriptors(struct tt_recorder *rec, struct tt_image *image, uint32_t now)
{
    struct tt_held *held = &image->held;
    struct table table = {0};
    if (tt_open_list((pid_t)image->pid, &held->open))
        return;
    bool sockets = false;
    for (size_t i = 0; i < held->open.len && !sockets; i++)
        sockets = held->open.data[i].what == TT_OPEN_SOCKET;
    held->sockets.len = 0;
    if (sockets)
        tt_socket_list((pid_t)image->pid, &held->sockets);
    table.n = held->open.len;
    table.unit = calloc(table.n + 1, sizeof *table.unit);
    if (!table.unit)
        return;
    match_rows(held, &table, now);
    match_foreign(held, &table, now);
    add_foreign(image, held, &table, tt_record_tick_at(rec, image->row.started_ns), now);
    held->reconciled = true;
    free(table.unit);
}

/* ---- children ---- */

static void reconcile_child(const struct tt_image *image, struct tt_held *held,
                            struct tt_held_unit *u, uint32_t now)
{
    bool zombie = false;
    pid_t parent = u->value && u->value < INT32_MAX ? tt_proc_parent((pid_t)u->value, &zombie) : -1;
    if (parent == image->pid) {
        u->missing = 0;
        if (zombie && !u->started[TT_CLOCK_ENDED])
            u->started[TT_CLOCK_ENDED] = now + 1;
    } else if (++u->missing >= TWICE) {
        u->ghost = true;
        held->closed_unseen++;
        tt_held_end_clocks(held, u, now);
    }
}

/* ---- System V segments: whose they are ---- */

typedef TT_VEC(uint64_t) segment_vec;

static int by_id(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Ids of the segments that the process made, ascending. False when that cannot be known. */
static bool read_segments(int64_t pid, segment_vec *ids)
{
    char line[256];
    bool good = true;
    FILE *f = fopen("/proc/sysvipc/shm", "re");
    while (f && good && fgets(line, sizeof line, f)) {
        unsigned long long shmid;
        long creator;
        /* key shmid perms size cpid lpid ... */
        /* NOLINTNEXTLINE(cert-err34-c): the kernel writes no number that does not fit */
        if (sscanf(line, "%*s %llu %*s %*s %ld", &shmid, &creator) == 2 && creator == (long)pid)
            good = tt_vec_push(ids, (uint64_t)shmid) == 0;
    }
    if (f)
        fclose(f);
    if (ids->len)
        qsort(ids->data, ids->len, sizeof *ids->data, by_id);
    return f && good;
}

/* Those that another process made or removed are not this one's. The file is read once for all. */
static void reconcile_segments(const struct tt_image *image, struct tt_held *held)
{
    segment_vec ids = {0};
    bool known = false, read = false;
    for (size_t i = 0; i < held->units.len; i++) {
        struct tt_held_unit *u = &held->units.data[i];
        if (u->space != TT_SPACE_SHM || u->ghost)
            continue;
        if (!read)
            known = read_segments(image->pid, &ids);
        read = true;
        if (known && (!ids.len || !bsearch(&u->value, ids.data, ids.len, sizeof *ids.data, by_id)))
            u->ghost = true;
    }
    tt_vec_free(&ids);
}

/* ---- counting ---- */

static struct tt_held_count *count_named(struct tt_held *held, const char *resource)
{
    for (size_t i = 0; i < held->counts.len; i++)
        if (strcmp(held->counts.data[i].resource, resource) == 0)
            return &held->counts.data[i];
    struct tt_held_count fresh = {.counted = -1};
    snprintf(fresh.resource, sizeof fresh.resource, "%s", resource);
    return tt_vec_push(&held->counts, fresh) ? NULL : &held->counts.data[held->counts.len - 1];
}

static void set_counted(struct tt_held *held, const char *resource, int64_t counted)
{
    struct tt_held_count *count = count_named(held, resource);
    if (count) {
        count->counted = counted;
        count->seen = true;
    }
}

static int by_port(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Local ports of its own sockets, each once for TCP and once for UDP. */
static int64_t count_ports(const struct tt_held *held)
{
    TT_VEC(uint32_t) ports = {0};
    int64_t n = 0;
    for (size_t i = 0; i < held->open.len; i++) {
        const struct tt_socket *s = held->open.data[i].what == TT_OPEN_SOCKET
                                        ? tt_socket_find(&held->sockets, held->open.data[i].inode)
                                        : NULL;
        if (s && s->internet && s->port &&
            tt_vec_push(&ports, (uint32_t)s->port | (s->protocol[0] == 'u' ? 1u << 16 : 0)))
            break;
    }
    if (ports.len)
        qsort(ports.data, ports.len, sizeof *ports.data, by_port);
    for (size_t i = 0; i < ports.len; i++)
        n += i == 0 || ports.data[i] != ports.data[i - 1];
    tt_vec_free(&ports);
    return n;
}

static int64_t count_timers(int64_t pid)
{
    char path[64], line[128];
    int64_t n = 0;
    snprintf(path, sizeof path, "/proc/%d/timers", (int)pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return -1;
    while (fgets(line, sizeof line, f))
        n += strncmp(line, "ID:", 3) == 0;
    fclose(f);
    return n;
}

static void count_all(struct tt_recorder *rec, struct tt_image *image)
{
    struct tt_held *held = &image->held;
    for (size_t i = 0; i < held->counts.len; i++)
        held->counts.data[i].held = 0;
    for (size_t i = 0; i < held->units.len; i++) {
        const struct tt_held_unit *u = &held->units.data[i];
        struct tt_held_count *count =
            u->ghost ? NULL : count_named(held, tt_record_resource(rec, u->kind));
        if (count) {
            count->held += u->count;
            count->seen = true;
        }
    }
    struct tt_proc_figures f;
    if (tt_proc_figures_read((pid_t)image->pid, &f) == 0)
        set_counted(held, "thread", f.threads);
    set_counted(held, "fd", (int64_t)held->open.len);
    set_counted(held, "port", count_ports(held));
    set_counted(held, "timer", count_timers(image->pid));
    if (tt_proc_maps_read((pid_t)image->pid, &image->maps) == 0)
        set_counted(held, "mapping", (int64_t)image->maps.maps.len);
}

void tt_held_reconcile(struct tt_recorder *rec, struct tt_image *image, uint32_t now)
{
    struct tt_held *held = &image->held;
    reconcile_descriptors(rec, image, now);
    for (size_t i = 0; i < held->units.len; i++) {
        struct tt_held_unit *u = &held->units.data[i];
        if (u->ghost)
            continue;
        if (u->space == TT_SPACE_CHILD)
            reconcile_child(image, held, u, now);
    }
    reconcile_segments(image, held);
    count_all(rec, image);
}
