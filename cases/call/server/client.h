/* SPDX-License-Identifier: Apache-2.0 */
/* A client context: one attached process. Requests are answered in order on its socket; events for
 * it wait in a queue of chunks that is drained to the same socket, and its end is its rundown.
 * Start: client_listen. */
#ifndef CALL_CLIENT_H
#define CALL_CLIENT_H

#include "server.h"

#include <sys/types.h>

struct event_chunk;

struct client {
    struct client *next, *prev;
    struct watch watch;
    pid_t pid;
    struct app *apps;
    struct event_chunk *first, *last; /* events not yet taken by the socket */
    size_t queued;
    struct wire_packet *reply; /* a reply the socket did not take yet */
    size_t reply_len;
    struct client *dirty_next; /* list of those to flush after this turn of the loop */
    bool dirty, blocked, dead;
};

int client_listen(void);
/* Queues an event. When queue_limit events wait already, a LINE_CALLINFO is dropped and counted:
 * what it says can be asked for. State changes of the calls the client has are always kept (it
 * would never deallocate a call whose IDLE it missed), and as it gets no new calls they are few. */
void client_post(struct client *c, const struct wire_event *ev);
/* False when so many events wait that the client shall get no new call handles. */
bool client_keeps_up(const struct client *c);
/* Flushes all queues that got events and runs down the clients that died. */
void client_flush_all(void);
/* Runs down everybody and closes the listening socket. */
void client_free_all(void);

#endif
