/* SPDX-License-Identifier: Apache-2.0 */
/* The ports of a client process: every association needs one, since the server calls it back. A
 * port is asked from rpcssd, which grants it for the life of the process; in here it is in use,
 * cooling for 240 s after its last use, or free for the next association. These functions are what
 * a tool may watch: an acquired port ends in port_release (the association is done with it) and,
 * 240 s later, in port_recycle. Thread-safe. Start: port_acquire. */
#ifndef RPC_DG_PORT_H
#define RPC_DG_PORT_H

#include <stdint.h>

/* A port for a new association: one that is free in this process, else a grant of rpcssd. 0 when
 * ports are not restricted (any will do), or a negative RPC status (status.h) when none is left or
 * rpcssd cannot be asked. */
int port_acquire(void);
/* The association is done with its port, which now cools. 0 is ignored. */
void port_release(int port);
/* A port has cooled: the next association may have it. */
void port_recycle(int port);

/* Recycles what has cooled by now. When the next one will have (CLOCK_MONOTONIC ms), or -1. */
int64_t port_scan(int64_t now);

#endif
