/* SPDX-License-Identifier: Apache-2.0 */
/* Owners: on whose behalf units were acquired. The tape has a row per peer; who that is, where the
 * program did not ask for the address, is asked of the kernel through a copy of the socket
 * (pidfd_getfd(2)), once per owner and only while its socket is open. Kept are the owners of units
 * that live. Start: tt_held_owners. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "record/internal.h"

#define ASKED_MOST 32u                                /* of one visit */
#define SILENT_TICKS (60u * TT_TAPE_TICKS_PER_SECOND) /* then a sender of datagrams has ended */

static void write_address(const struct sockaddr *a, size_t n, char out[TT_SOCKET_PEER])
{
    char text[INET6_ADDRSTRLEN] = "";
    sa_family_t family = AF_UNSPEC;
    *out = '\0';
    if (n >= sizeof family)
        memcpy(&family, a, sizeof family);
    if (family == AF_INET && n >= sizeof(struct sockaddr_in)) {
        struct sockaddr_in in;
        memcpy(&in, a, sizeof in);
        inet_ntop(AF_INET, &in.sin_addr, text, sizeof text);
        snprintf(out, TT_SOCKET_PEER, "%s:%u", text, ntohs(in.sin_port));
    } else if (family == AF_INET6 && n >= sizeof(struct sockaddr_in6)) {
        struct sockaddr_in6 in;
        memcpy(&in, a, sizeof in);
        inet_ntop(AF_INET6, &in.sin6_addr, text, sizeof text);
        snprintf(out, TT_SOCKET_PEER, "[%s]:%u", text, ntohs(in.sin6_port));
    }
}

static void set_process(struct tt_held_owner *owner, pid_t pid, int64_t uid)
{
    owner->pid = pid;
    owner->uid = uid;
    tt_proc_exe(pid, owner->exe, sizeof owner->exe);
}

/* The peer's process, of sockets within this machine that know it. */
static void ask_socket(const struct tt_image *image, struct tt_held_owner *owner)
{
    owner->asked = true;
    int fd = image->pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, image->pidfd, owner->row.fd, 0);
    if (fd < 0)
        return;
    struct ucred who;
    socklen_t n = sizeof who;
    struct sockaddr_storage peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &n) == 0 && who.pid > 0)
        set_process(owner, who.pid, who.uid);
    n = sizeof peer;
    if (!*owner->address && getpeername(fd, (struct sockaddr *)&peer, &n) == 0)
        write_address((const struct sockaddr *)&peer, n, owner->address);
    close(fd);
}

static bool read_row(const struct tt_image *image, uint32_t id, struct tt_tape_owner *row)
{
    uint64_t at = TT_TAPE_OFF_OWNERS + (uint64_t)(id % TT_TAPE_OWNERS) * sizeof *row;
    return pread(image->tape.fd, row, sizeof *row, (off_t)at) == sizeof *row && row->id == id;
}

static struct tt_held_owner *owner_of(struct tt_held *held, uint32_t id)
{
    const uint64_t *at = tt_map_get(&held->owner_at, id);
    if (at)
        return &held->owners.data[*at];
    struct tt_held_owner fresh = {.row = {.id = id}, .uid = -1};
    if (tt_vec_push(&held->owners, fresh) || tt_map_put(&held->owner_at, id, held->owners.len - 1))
        return NULL;
    return &held->owners.data[held->owners.len - 1];
}

/* Only owners of units that live are kept. */
static void forget(struct tt_held *held)
{
    struct tt_map wanted = {0};
    size_t kept = 0;
    int code = 0;
    for (size_t i = 0; !code && i < held->units.len; i++)
        if (held->units.data[i].owner && !held->units.data[i].ghost)
            code = tt_map_put(&wanted, held->units.data[i].owner, 1);
    for (size_t i = 0; !code && i < held->owners.len; i++)
        if (tt_map_get(&wanted, held->owners.data[i].row.id))
            held->owners.data[kept++] = held->owners.data[i];
    if (!code) {
        held->owners.len = kept;
        tt_map_free(&held->owner_at);
        for (size_t i = 0; i < kept; i++)
            if (tt_map_put(&held->owner_at, held->owners.data[i].row.id, i))
                break;
    }
    tt_map_free(&wanted);
}

/* When it ended: tick + 1, or 0. */
static uint32_t ended(const struct tt_held_owner *owner, uint32_t now)
{
    if (owner->row.end)
        return owner->row.end <= now + 1 ? owner->row.end : now + 1;
    if (owner->gone) /* its row was given away, which only an ended one's is */
        return owner->row.last + 1;
    if (owner->row.how == TT_OWNER_SENDER && now > owner->row.last + SILENT_TICKS)
        return owner->row.last + 1;
    return 0;
}

void tt_held_owners(struct tt_recorder *rec, struct tt_image *image, uint32_t now)
{
    struct tt_held *held = &image->held;
    unsigned asked = 0;
    (void)rec;
    forget(held);
    for (size_t i = 0; i < held->units.len; i++) {
        struct tt_held_unit *u = &held->units.data[i];
        struct tt_held_owner *owner = u->owner && !u->ghost ? owner_of(held, u->owner) : NULL;
        if (!owner)
            continue;
        struct tt_tape_owner row;
        if (!owner->row.end && !owner->gone) {
            if (read_row(image, u->owner, &row))
                owner->row = row;
            else
                owner->gone = true;
            if (!*owner->address && owner->row.address_bytes >= sizeof(sa_family_t) &&
                owner->row.address_bytes <= sizeof row.address) {
                struct sockaddr_storage copy = {0};
                memcpy(&copy, owner->row.address, owner->row.address_bytes);
                write_address((const struct sockaddr *)&copy, owner->row.address_bytes,
                              owner->address);
            }
            if (owner->row.peer_pid && !owner->pid) /* the kernel's side has asked */
                set_process(owner, (pid_t)owner->row.peer_pid, owner->row.peer_uid);
            if (!owner->asked && !owner->row.end && !owner->gone && image->alive &&
                owner->row.how == TT_OWNER_CONNECTION && asked < ASKED_MOST) {
                ask_socket(image, owner);
                asked++;
            }
        }
        u->started[TT_CLOCK_OWNER_END] = ended(owner, now);
    }
}
