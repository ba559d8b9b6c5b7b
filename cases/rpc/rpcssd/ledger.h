/* SPDX-License-Identifier: Apache-2.0 */
/* The list of ports that processes may use, and which process has which. The rules are the public
 * ones of the registry key Rpc\Internet: Ports (ranges), PortsInternetAvailable (the list is what
 * Internet endpoints use, or what they do not use) and UseInternetPorts (what an endpoint is that
 * does not say). A grant ends with its process. Start: ledger_configure, ledger_grant. */
#ifndef RPCSSD_LEDGER_H
#define RPCSSD_LEDGER_H

#include "../broker.h"

#include <sys/types.h>

/* Values as in the registry, NULL = missing. All missing: ports are not restricted. Some missing or
 * not readable: the whole configuration is invalid and every grant fails. False when invalid. */
bool ledger_configure(const char *ports, const char *available, const char *use_internet);
/* An enum broker_status; with BROKER_OK *port, 0 when any port may be used. */
uint32_t ledger_grant(pid_t pid, uint32_t class, uint16_t *port);
void ledger_process_ended(pid_t pid);
void ledger_report(struct broker_reply *reply);

#endif
